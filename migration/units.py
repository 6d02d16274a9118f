"""Where each unit stands, folded from the ledger: nothing else remembers it.

What the events of a campaign hold in their bodies (more fields may be added; these are read):

    intent    {"step": Step, "from": state, "to": state, "devices": [device ids it will touch], "change": change id,
               "ran": {device of an old line: sha256 of its configuration before}}
    outcome   {"step", "result": "done" | "undone" | "failed", "state": state of the unit now,
               "devices": {device: sha256 of its configuration after}, "reason"}
    evidence  {"digest", "run", "units": [...], "results": n, "passed": n, "file", "taken_from": t0, "taken_to": t1,
               "bound": {"inventory": d, "plan": d, "configs": {device: sha256}}, "withheld": [unit ids]}

An intent and its outcome carry the same key; so a key belongs to one try, and a second try needs a new one (the change
id in it). Whom an event is about: `unit`, or, when that is None, the list `units` in the body (one push provisions
many units). `undone` means that the network is as it was before; `failed` that it may not be: the record then stays
where it was and says so.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from enum import StrEnum
from itertools import groupby
from typing import Any, Literal, NamedTuple

from pydantic import ConfigDict, Field, ValidationError

from inventory.errors import ScopeGuardError, UnknownNameError
from inventory.model import County, Model, Unit
from migration.events import Event, Kind


class UnitState(StrEnum):
    """A unit's life, in order; from `removed` on there is no way back, only `released`: its line was given back."""

    SURVEYED = "surveyed"
    PLANNED = "planned"
    PROVISIONED = "provisioned"
    PROVEN = "proven"
    CUT_OVER = "cut_over"
    SOAKED = "soaked"
    DRAINED = "drained"
    SHUT = "shut"
    REMOVED = "removed"
    RELEASED = "released"

    @property
    def rank(self) -> int:
        """Place in the order, 0 first."""
        return _RANKS[self]

    def reached(self, other: UnitState) -> bool:
        """Tell whether this state is `other` or later."""
        return _RANKS[self] >= _RANKS[other]


_ORDER = tuple(UnitState)
_RANKS = {state: rank for rank, state in enumerate(_ORDER)}


class Step(StrEnum):
    """What an intent is about to do to a unit."""

    PLAN = "plan"
    PROVISION = "provision"
    PROVE = "prove"
    CUTOVER = "cutover"
    SOAK = "soak"
    DRAIN = "drain"
    SHUT = "shut"
    REMOVE = "remove"
    RELEASE = "release"
    BACK = "back"


STEP_ENDS: dict[Step, UnitState] = {
    Step.PLAN: UnitState.PLANNED,
    Step.PROVISION: UnitState.PROVISIONED,
    Step.PROVE: UnitState.PROVEN,
    Step.CUTOVER: UnitState.CUT_OVER,
    Step.SOAK: UnitState.SOAKED,
    Step.DRAIN: UnitState.DRAINED,
    Step.SHUT: UnitState.SHUT,
    Step.REMOVE: UnitState.REMOVED,
    Step.RELEASE: UnitState.RELEASED,
}
"""Where each step ends; `back` ends wherever its intent says."""

_PASSED_THROUGH = frozenset({UnitState.PLANNED, UnitState.PROVEN, UnitState.SOAKED})
"""States that may be passed through in one step: the plan is a file, a cutover proves on its way, a soak is time."""


def may_move(old: UnitState, new: UnitState) -> bool:
    """Tell whether a unit may go from one state to another: one step on, or any way back until `removed`."""
    if new is old:
        return True
    if old.reached(UnitState.REMOVED):
        return new.rank == old.rank + 1
    if new.rank < old.rank:
        return True
    between = _ORDER[old.rank + 1 : new.rank]
    return set(between) <= _PASSED_THROUGH


class _Body(Model):
    model_config = ConfigDict(frozen=True, extra="allow")


class IntentBody(_Body):
    """The fields of an intent that are read."""

    step: Step
    from_state: UnitState = Field(alias="from")
    to_state: UnitState = Field(alias="to")
    devices: tuple[str, ...] = ()
    change: str = ""


class OutcomeBody(_Body):
    """The fields of an outcome that are read."""

    step: Step
    result: Literal["done", "undone", "failed"]
    state: UnitState
    devices: dict[str, str] = Field(default={})
    reason: str = ""


class UnitRecord(Model):
    """Where a unit stands. `since` is when it came to `state` (None: never moved); `entered` when to each state last.

    `evidence` is the digest of the newest evidence about it; `open` its intents without outcome, oldest first: after a
    crash the same command asks the devices and writes the outcome. `failure` is the reason of the last step when that
    one did not succeed; `problems` what the ledger says that cannot be, which holds every gate until a `back` succeeds.
    """

    unit: str
    state: UnitState = UnitState.SURVEYED
    since: datetime | None = None
    entered: dict[UnitState, datetime] = Field(default={})
    evidence: str | None = None
    open: tuple[Event, ...] = ()
    failure: str = ""
    problems: tuple[str, ...] = ()

    @property
    def intent(self) -> Event | None:
        """The oldest open intent."""
        return self.open[0] if self.open else None


class Link(NamedTuple):
    """What a change of ours made of a device: the digests of what it `ran` before and of what it was `left` with.

    Empty where that is not known. `began` and `ended` are the numbers of intent and outcome, `change` names the run.
    """

    change: str
    began: int
    ended: int
    ran: str
    left: str


class Change(Model):
    """The last change that touched a device: `at` is when it was intended, so anything measured before is older.

    `links` are all that ended, oldest first.
    """

    device: str
    at: datetime
    key: str
    unit: str | None
    finished: bool
    links: tuple[Link, ...] = ()

    def explains(self, before: str | None, since: int, now: str) -> bool:
        """Tell whether our own changes alone took the device from what it ran at event `since` to what it runs now.

        A change that somebody else made before one of ours, between two or after the last breaks the chain. Of a change
        under way at that event it must have kept what was measured, or given back what was there when it began.
        """
        holds = before
        for link in _by_run(self.links):
            if link.ended <= since:
                continue
            own = link.left in {holds, link.ran} if link.began < since else link.ran == holds
            if not own or not link.left:
                return False
            holds = link.left
        return holds == now


class Act(Model):
    """A change of ours to some devices, from its intent to its outcome (None: not ended)."""

    devices: frozenset[str]
    began: float
    ended: float | None

    def during(self, start: float, end: float) -> bool:
        """Tell whether it was under way at any time between two moments (Unix times)."""
        return self.began <= end and (self.ended is None or self.ended >= start)


def intent_body(
    step: Step, *, start: UnitState, end: UnitState, devices: Iterable[str], change: str, **more: Any
) -> dict[str, Any]:
    """Make the body of an intent."""
    return {
        "step": step.value,
        "from": start.value,
        "to": end.value,
        "devices": sorted(devices),
        "change": change,
        **more,
    }


def outcome_body(
    step: Step,
    *,
    result: Literal["done", "undone", "failed"],
    state: UnitState,
    devices: Mapping[str, str],
    reason: str = "",
    **more: Any,
) -> dict[str, Any]:
    """Make the body of an outcome; `devices` maps each device to the digest of its configuration after the step."""
    return {
        "step": step.value,
        "result": result,
        "state": state.value,
        "devices": dict(devices),
        "reason": reason,
        **more,
    }


def find_unit(county: County, name: str) -> Unit:
    """Return the unit `network@site`.

    Raises:
        ScopeGuardError: its network is marked classified.
        UnknownNameError: there is no such unit.
    """
    network = name.partition("@")[0]
    if any(network in {r.id, r.name} for r in county.refused):
        raise ScopeGuardError(f"{name}: belongs to a network marked classified; it is outside this tool, always")
    if name not in county.unit_by_id:
        raise UnknownNameError("unit", name, county.unit_by_id)
    return county.unit_by_id[name]


def county_unit(county: County, network: str) -> Unit | None:
    """Return the unit of a network at the county site, where its hub stands, or None."""
    return county.unit_by_id.get(f"{network}@{county.county_site.id}")


def units_behind(county: County, unit: Unit) -> tuple[Unit, ...]:
    """Return the units whose traffic uses this unit's link as well.

    For a town: village units whose line ends at its legacy router. For the county: every other unit of the network.
    """
    if unit.site == county.county_site.id:
        users = county.units_by_network[unit.network]
    else:
        users = county.units_by_far_device.get(county.circuit_by_id[unit.circuit].device or "", ())
    if not users:
        return ()
    own = unit.id
    return tuple(u for u in users if u.id != own)


def legacy_devices_under(county: County, unit: Unit) -> tuple[str, ...]:
    """Return the legacy routers a unit's old path uses: at its site, where its line ends, and from there to the hub."""
    circuit = county.circuit_by_id[unit.circuit]
    found = {d for d in (circuit.device, circuit.far_device) if d}
    found |= {far for device in tuple(found) for far in county.uplinks.get((unit.network, device), ())}
    return tuple(sorted(found))


def units_served(county: County, unit: Unit) -> tuple[Unit, ...]:
    """Return the other units of its network whose stations need a service whose server stands on this unit's LAN."""
    sites = county.sites_served.get((unit.site, unit.plane), frozenset())
    if not sites:
        return ()
    return tuple(u for u in county.units_by_network[unit.network] if u.site in sites and u.id != unit.id)


def devices_under(county: County, unit: Unit) -> tuple[str, ...]:
    """Return the extranet routers a unit's new path uses: those of its site and town, and all cores."""
    return county.extranet_under[unit.site]


def fold(events: Iterable[Event], county: County) -> dict[str, UnitRecord]:
    """Return every unit's record after these events (one target's, in order); units out of the inventory have none."""
    return fold_units(events, county.unit_by_id)


def fold_units(events: Iterable[Event], units: Iterable[str]) -> dict[str, UnitRecord]:
    """Return the records of these units after these events; what the inventory says of them is not asked."""
    records = {unit: UnitRecord(unit=unit) for unit in units}
    for event in events:
        about = _units_of(event)
        if event.kind is Kind.EVIDENCE and not about:
            about = tuple(records)  # a run about everything
        for name in about:
            if name in records:
                records[name] = _after(records[name], event)
    return records


def soaking_since(records: Mapping[str, UnitRecord]) -> float:
    """Return when the first unit that is not yet removed was cut over (Unix time): samples from before tell nothing."""
    moments = (
        record.entered[UnitState.CUT_OVER].timestamp()
        for record in records.values()
        if UnitState.CUT_OVER in record.entered and not record.state.reached(UnitState.REMOVED)
    )
    return min(moments, default=float("inf"))


def last_changes(events: Iterable[Event]) -> dict[str, Change]:
    """Return, by device, the last change that was intended on it, finished or not."""
    out: dict[str, Change] = {}
    begun: dict[str, Event] = {}
    links: dict[str, list[Link]] = defaultdict(list)
    for event in events:
        if event.kind is Kind.INTENT:
            begun[event.key] = event
            touched, finished = _names(event.body.get("devices")), False
        elif event.kind is Kind.OUTCOME:
            touched, finished = _names(event.body.get("devices")), True
        else:
            continue
        intent = begun.get(event.key, event)
        for device in touched:
            out[device] = Change(device=device, at=intent.moment, key=event.key, unit=event.unit, finished=finished)
            if finished:
                links[device].append(_link(device, intent, event))
        if finished:
            # Devices that were named in the intent and are not in the outcome were not touched after all.
            for device, change in list(out.items()):
                if change.key == event.key:
                    out[device] = change.model_copy(update={"finished": True})
    return {device: change.model_copy(update={"links": tuple(links[device])}) for device, change in out.items()}


def _link(device: str, intent: Event, outcome: Event) -> Link:
    ran, left = intent.body.get("ran"), outcome.body.get("devices")
    return Link(
        change=str(intent.body.get("change", intent.key)),
        began=intent.seq,
        ended=outcome.seq,
        ran=str(ran.get(device, "")) if isinstance(ran, dict) else "",
        left=str(left[device]) if isinstance(left, dict) else "",
    )


def _by_run(links: Iterable[Link]) -> Iterator[Link]:
    """Join what one run made of a device in several attempts: they began together."""
    for _, group in groupby(links, key=lambda link: link.change):
        first, *others = group
        yield first._replace(ended=others[-1].ended, left=others[-1].left) if others else first


def own_acts(events: Iterable[Event]) -> tuple[Act, ...]:
    """Return every change of ours, oldest first."""
    out: dict[str, Act] = {}
    for event in events:
        if event.kind is Kind.INTENT:
            devices = frozenset(_names(event.body.get("devices")))
            out[event.key] = Act(devices=devices, began=event.moment.timestamp(), ended=None)
        elif event.kind is Kind.OUTCOME and event.key in out:
            out[event.key] = out[event.key].model_copy(update={"ended": event.moment.timestamp()})
    return tuple(out.values())


def open_intents(events: Iterable[Event]) -> tuple[Event, ...]:
    """Return the intents without outcome, oldest first: what was begun and is not known to have ended."""
    told = tuple(events)
    closed = {e.key for e in told if e.kind is Kind.OUTCOME}
    return tuple(e for e in told if e.kind is Kind.INTENT and e.key not in closed)


def _names(value: Any) -> tuple[str, ...]:
    return tuple(str(v) for v in value) if isinstance(value, list | tuple | dict) else ()


def _units_of(event: Event) -> tuple[str, ...]:
    return (event.unit,) if event.unit is not None else _names(event.body.get("units"))


def _after(record: UnitRecord, event: Event) -> UnitRecord:
    if event.kind is Kind.INTENT:
        return record.model_copy(update={"open": (*record.open, event)})
    if event.kind is Kind.EVIDENCE:
        return record.model_copy(update={"evidence": str(event.body.get("digest", ""))})
    if event.kind is not Kind.OUTCOME:
        return record
    closed = record.model_copy(update={"open": tuple(e for e in record.open if e.key != event.key)})
    try:
        body = OutcomeBody.model_validate(event.body)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(p) for p in first["loc"])
        return _with_problem(closed, f"event {event.seq}: outcome field {field!r}: {first['msg']}")
    if body.result != "done":
        why = body.reason or f"{body.step} was {body.result}"
        return closed.model_copy(update={"failure": f"{body.step} {body.result}: {why}"})
    if body.step is Step.BACK:
        if record.state.reached(UnitState.REMOVED) or body.state.rank > record.state.rank:
            return _with_problem(closed, f"event {event.seq}: went back from {record.state} to {body.state}")
        return _moved(closed, body.state, event).model_copy(update={"problems": (), "failure": ""})
    if body.step is Step.PROVE and record.state.reached(UnitState.CUT_OVER) and body.state.reached(UnitState.CUT_OVER):
        # Some are tried together in several states, and one outcome speaks for all: a proof takes nobody back or on.
        return closed.model_copy(update={"failure": ""})
    if not may_move(record.state, body.state) or body.state.rank < record.state.rank:
        return _with_problem(closed, f"event {event.seq}: {body.step} took it from {record.state} to {body.state}")
    return _moved(closed, body.state, event).model_copy(update={"failure": ""})


def _with_problem(record: UnitRecord, problem: str) -> UnitRecord:
    return record.model_copy(update={"problems": (*record.problems, problem)})


def _moved(record: UnitRecord, state: UnitState, event: Event) -> UnitRecord:
    """Enter a state. States that lie ahead are forgotten: coming to them again is a new entry."""
    if state is record.state and record.since is not None:
        return record
    entered = {s: at for s, at in record.entered.items() if s.rank < state.rank} | {state: event.moment}
    return record.model_copy(update={"state": state, "since": event.moment, "entered": entered})
