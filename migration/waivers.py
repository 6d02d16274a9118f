"""Exceptions to a gate, as recorded in the ledger: who excuses which reasons of one unit's gate, why, and until when.

In the code an exception is a waiver, since Python's own exceptions are another thing. Pure: no clock, no file.

    exception  {"id", "gate", "reasons": [Reason, …], "why", "by": title, "approved_by": title, "until": moment, "login"}
    exception  {"confirms": id, "approved_by": title, "login": the account and host that it was typed on}
    exception  {"withdraws": id, "by": title, "why"}

All are about the event's `unit`. The first only proposes: it stands once another actor, under the title that it names,
has confirmed it, so that nobody excuses anything alone on one account. A waiver excuses the reasons it lists and no
other: the same gate, kind, station, service, check and aspect (what failed; of a wait what is awaited, and since when).
What counts for nothing (proposed only, over, withdrawn, badly written) is kept, with its state.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple

from pydantic import ConfigDict, ValidationError

from inventory.errors import ExtranetError
from inventory.model import Model, Timers
from inventory.wording import counted, say_span
from migration.clock import from_iso, to_iso
from migration.events import Event, Kind
from migration.proof import EXCUSABLE, Excused, Reason

COVERED = {"cutover": frozenset({"cutover", "proof"})}
"""Gates that an exception to one covers besides: the trial asks again what the cutover asked."""


class WaiverInvalidError(ExtranetError):
    """An exception that must not be recorded."""


class WaiverState(StrEnum):
    """What an exception is worth now."""

    PROPOSED = "proposed"
    STANDING = "standing"
    EXPIRED = "expired"
    WITHDRAWN = "withdrawn"
    INVALID = "invalid"


class _Signature(NamedTuple):
    kind: str
    station: str
    service: str
    check: str
    aspect: str


class Waiver(Model):
    """One recorded exception. `recorded` is its event's moment; with `problem` set it never counted."""

    id: str
    unit: str
    gate: str
    reasons: tuple[Reason, ...]
    why: str
    by: str
    approved_by: str
    until: datetime
    recorded: datetime
    typed_by: str = ""
    """The actor who proposed it: a title in EXTRANET_ACTOR, or an account."""
    confirmed: datetime | None = None
    confirmed_by: str = ""
    """The actor who confirmed it."""
    login: str = ""
    """The account and host on which it was proposed."""
    confirmed_login: str = ""
    withdrawn: datetime | None = None
    withdrawn_by: str = ""
    withdrawn_why: str = ""
    problem: str = ""

    def state(self, now: datetime) -> WaiverState:
        """Return what it is worth at a moment."""
        if self.problem:
            return WaiverState.INVALID
        if self.withdrawn is not None:
            return WaiverState.WITHDRAWN
        if now >= self.until:
            return WaiverState.EXPIRED
        return WaiverState.PROPOSED if self.confirmed is None else WaiverState.STANDING

    @property
    def one_login(self) -> str:
        """The account and host where both proposed and confirmed it: two titles, and perhaps one person. Empty where not."""
        return self.login if self.confirmed is not None and self.login == self.confirmed_login else ""

    def covers(self, unit: str | None, gate: str) -> bool:
        """Tell whether it is about this gate of this unit."""
        return unit == self.unit and gate in COVERED.get(self.gate, {self.gate})

    def names(self, reason: Reason) -> bool:
        """Tell whether a reason is one of those it lists, and of a kind that may be excused at all."""
        return reason.kind in EXCUSABLE and signature(reason) in {signature(r) for r in self.reasons}

    def body(self) -> dict[str, Any]:
        """Return the body of its ledger event."""
        return {
            "id": self.id,
            "gate": self.gate,
            "reasons": [r.model_dump(mode="json") for r in self.reasons],
            "why": self.why,
            "by": self.by,
            "approved_by": self.approved_by,
            "until": to_iso(self.until),
        }


def signature(reason: Reason) -> _Signature:
    """Return what makes a reason the same as another: everything but its words, which hold times and counts."""
    return _Signature(reason.kind.value, reason.station, reason.service, reason.check, reason.aspect)


def excuse(
    unit: str | None, gate: str, reasons: Iterable[Reason], waivers: Iterable[Waiver], now: datetime
) -> tuple[tuple[Reason, ...], tuple[Excused, ...]]:
    """Part the reasons against a unit's gate into those that stand and those that an exception excuses now."""
    worth = [w for w in waivers if w.covers(unit, gate) and w.state(now) is WaiverState.STANDING]
    stand: list[Reason] = []
    excused: list[Excused] = []
    for reason in dict.fromkeys(reasons):
        waiver = next((w for w in worth if w.names(reason)), None)
        if waiver is None:
            stand.append(reason)
        else:
            excused.append(Excused(**dict(reason), exception=waiver.id))
    return tuple(stand), tuple(excused)


def plain_title(title: str) -> str:
    """Return a title as it is compared: its letters and digits alone, full-width forms made narrow, case ignored.

    Spaces, marks, signs and whatever cannot be seen make nobody another.
    """
    before, now = "", title
    while now != before:  # what is left after a space is gone may join to another letter
        folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", now).casefold())
        before, now = now, "".join(c for c in folded if unicodedata.category(c)[0] in "LN" and c not in _BLANK)
    return now


_BLANK = frozenset("\u115f\u1160\u17b4\u17b5\u3164\uffa0")
"""Letters by their category that show nothing."""


def find_problem(waiver: Waiver, timers: Timers) -> str:
    """Return why an exception must not count; empty when it may."""
    if not waiver.why.strip():
        return "no reason is given - expected --why, in words an auditor understands"
    if not plain_title(waiver.by) or not plain_title(waiver.approved_by):
        return "two titles are needed - expected --by and --approved-by, found one empty"
    if plain_title(waiver.by) == plain_title(waiver.approved_by):
        return (
            f"two different titles are needed - expected somebody else to approve, found {waiver.approved_by!r} twice"
        )
    if waiver.until <= waiver.recorded:
        return f"it would be over before it begins - expected an expiry after {to_iso(waiver.recorded)}"
    if (waiver.until - waiver.recorded).total_seconds() > timers.exception_s:
        return f"it would stand too long - expected at most {say_span(timers.exception_s)} (timers.exception_s)"
    if not waiver.reasons:
        return "it names no reason - expected those that stand and that it is to excuse"
    never = [r for r in waiver.reasons if r.kind not in EXCUSABLE]
    if never:
        return f"{counted(len(never), 'reason')} that nothing excuses, the first: {never[0]} ({never[0].kind})"
    return ""


def find_objection(waiver: Waiver, unit: str | None, title: str, actor: str) -> str:
    """Return why an actor under a title cannot confirm an exception; empty when it is confirmed by that."""
    if waiver.problem or waiver.unit != unit:
        return waiver.problem or f"it is about {waiver.unit}"
    if waiver.withdrawn is not None or waiver.confirmed is not None:
        return (
            "it is withdrawn" if waiver.withdrawn is not None else f"it is confirmed already, by {waiver.confirmed_by}"
        )
    if plain_title(title) != plain_title(waiver.approved_by):
        return f"it was put to another - expected --approved-by {waiver.approved_by!r}, found {title!r}"
    if plain_title(actor) == plain_title(waiver.typed_by):
        return f"who proposes does not confirm - expected another account (or EXTRANET_ACTOR), found {waiver.typed_by!r} twice"
    return ""


class _Recorded(Model):
    """The fields of a recorded exception that are read."""

    model_config = ConfigDict(frozen=True, extra="allow")

    id: str
    gate: str
    reasons: tuple[Reason, ...]
    why: str
    by: str
    approved_by: str
    until: datetime


def fold_waivers(events: Iterable[Event], timers: Timers) -> tuple[Waiver, ...]:
    """Return every exception on record, oldest first, as far as `events` (one target's, in order) tell."""
    out: dict[str, Waiver] = {}
    for event in events:
        if event.kind is not Kind.EXCEPTION:
            continue
        ends, confirms = event.body.get("withdraws"), event.body.get("confirms")
        if confirms is not None:
            waiver = out.get(str(confirms))
            if waiver and not find_objection(waiver, event.unit, str(event.body.get("approved_by", "")), event.actor):
                login = str(event.body.get("login", ""))
                agreed = {"confirmed": event.moment, "confirmed_by": event.actor, "confirmed_login": login}
                out[waiver.id] = waiver.model_copy(update=agreed)
        elif ends is None:
            waiver = _read(event, timers)
            if waiver.id not in out:
                out[waiver.id] = waiver
        elif str(ends) in out and out[str(ends)].withdrawn is None:
            more = {"withdrawn": event.moment, "withdrawn_by": str(event.body.get("by", ""))}
            more["withdrawn_why"] = str(event.body.get("why", ""))
            out[str(ends)] = out[str(ends)].model_copy(update=more)
    return tuple(out.values())


def _read(event: Event, timers: Timers) -> Waiver:
    try:
        body = _Recorded.model_validate(event.body)
        until = from_iso(str(event.body["until"]))
    except (ValidationError, ValueError) as error:
        why = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        return Waiver(
            id=str(event.body.get("id", event.key)),
            unit=event.unit or "",
            gate=str(event.body.get("gate", "")),
            reasons=(),
            why=str(event.body.get("why", "")),
            by=str(event.body.get("by", "")),
            approved_by=str(event.body.get("approved_by", "")),
            until=event.moment,
            recorded=event.moment,
            typed_by=event.actor,
            problem=f"event {event.seq} cannot be read: {why}",
        )
    waiver = Waiver(
        id=body.id,
        unit=event.unit or "",
        gate=body.gate,
        reasons=body.reasons,
        why=body.why,
        by=body.by,
        approved_by=body.approved_by,
        until=until,
        recorded=event.moment,
        typed_by=event.actor,
        login=str(event.body.get("login", "")),
    )
    return waiver.model_copy(update={"problem": find_problem(waiver, timers)})


def choose_reasons(
    reasons: Iterable[Reason],
    *,
    stations: Iterable[str] = (),
    services: Iterable[str] = (),
    checks: Iterable[str] = (),
    kinds: Iterable[str] = (),
) -> tuple[Reason, ...]:
    """Return the reasons that match each selector given; none given matches nothing: an exception is never blank."""
    selectors = {"station": set(stations), "service": set(services), "check": set(checks), "kind": set(kinds)}
    asked = {name: wanted for name, wanted in selectors.items() if wanted}
    if not asked:
        return ()
    return tuple(r for r in reasons if all(str(getattr(r, name)) in wanted for name, wanted in asked.items()))


def say_waiver(waiver: Waiver, now: datetime) -> Iterator[str]:
    """Say an exception for people: a line of who, what and until when, a line of why, a line a reason."""
    state = waiver.state(now)
    end = {
        WaiverState.PROPOSED: "not yet confirmed, so it counts for nothing",
        WaiverState.STANDING: f"until {to_iso(waiver.until)[:16]}Z",
        WaiverState.EXPIRED: f"expired {to_iso(waiver.until)[:16]}Z",
        WaiverState.WITHDRAWN: f"withdrawn by {waiver.withdrawn_by}: {waiver.withdrawn_why}",
        WaiverState.INVALID: f"counts for nothing: {waiver.problem}",
    }[state]
    approved = "approved by" if waiver.confirmed else "to be approved by"
    yield f"exception {waiver.id} to {waiver.gate} of {waiver.unit}: by {waiver.by}, {approved} {waiver.approved_by}, {end}"
    if waiver.typed_by:
        confirmed = f", confirmed by {waiver.confirmed_by}" if waiver.confirmed else ""
        yield f"  recorded by {waiver.typed_by}{confirmed}"
    if waiver.one_login:
        yield f"  both on one account, {waiver.one_login}: two titles, and perhaps one person"
    yield f"  why: {waiver.why}"
    for reason in waiver.reasons:
        yield f"  {'excuses' if state is WaiverState.STANDING else 'names'} {reason}"
