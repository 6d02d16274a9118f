"""Exceptions to a gate, on record: what may be excused now, recording it, and taking it back.

Nothing here decides: `waivers` says what an exception is worth, the gates apply it.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from inventory.errors import ExtranetError, UnknownNameError
from inventory.model import Unit
from inventory.wording import counted
from migration.campaign import Campaign, Say, silent
from migration.events import Kind
from migration.evidence import Bound
from migration.gates import Verdict, judge_cutover, judge_trial
from migration.ledger import current_actor, current_login
from migration.measuring import read_situation
from migration.proof import EXCUSABLE, Reason, ReasonKind
from migration.retire import judge
from migration.units import UnitState, devices_under
from migration.waivers import (
    Waiver,
    WaiverInvalidError,
    WaiverState,
    choose_reasons,
    find_objection,
    find_problem,
    fold_waivers,
)

KINDS = tuple(
    kind.value
    for kind in (ReasonKind.FAILED, ReasonKind.UNKNOWN, ReasonKind.SOAK, ReasonKind.HOLD, ReasonKind.POLICY)
    if kind in EXCUSABLE
)
"""The kinds of reasons that an exception may excuse, as they are listed to people."""


class NothingMatchesError(ExtranetError):
    """An exception was asked for that no standing reason matches."""


@dataclass(frozen=True)
class Draft:
    """An exception as it would be recorded. `never` are the reasons that were asked for and that nothing excuses."""

    waiver: Waiver
    verdict: Verdict
    never: tuple[Reason, ...]

    @property
    def left(self) -> tuple[Reason, ...]:
        """The reasons that would still stand."""
        return tuple(r for r in self.verdict.reasons if r not in self.waiver.reasons)

    def as_json(self, *, recorded: bool) -> dict[str, Any]:
        """Return it for machines."""
        return {
            "recorded": recorded,
            "unit": self.waiver.unit,
            "exception": self.waiver.model_dump(mode="json"),
            "never": [r.model_dump(mode="json") for r in self.never],
            "left": [r.model_dump(mode="json") for r in self.left],
        }


def judge_next(campaign: Campaign, unit: Unit, *, say: Say = silent) -> Verdict | None:
    """Ask the gate of a unit's next step; None where there is none left."""
    record = campaign.records()[unit.id]
    if record.state.reached(UnitState.REMOVED) and not record.open and not record.problems:
        return None
    if record.state.reached(UnitState.CUT_OVER):
        return judge(campaign, [unit], say=say)[1][unit.id]
    return judge_cutover(unit.id, read_situation(campaign, devices_under(campaign.county, unit), say=say))


def judge_coming_proof(campaign: Campaign, unit: Unit) -> Verdict:
    """Ask the gate of `prove` for a unit that is cut over, by the ledger alone: no device is asked."""
    situation = read_situation(campaign, current=Bound(inventory="", plan="", configs={}))
    return judge_trial(unit.id, situation)


def waivers_on_record(campaign: Campaign) -> tuple[Waiver, ...]:
    """Return every exception of the target, over ones too."""
    return fold_waivers(campaign.events(), campaign.county.policy.timers)


def draft_waiver(
    campaign: Campaign,
    unit: Unit,
    *,
    stations: Sequence[str] = (),
    services: Sequence[str] = (),
    checks: Sequence[str] = (),
    kinds: Sequence[str] = (),
    why: str,
    by: str,
    approved_by: str,
    until: datetime,
    say: Say = silent,
) -> Draft:
    """Put an exception together from the reasons that stand now; nothing is recorded.

    Raises:
        UnknownNameError: there is no such kind of reason; names those that may be excused.
        NothingMatchesError: no reason was named, or none of those named stands.
        WaiverInvalidError: a title or the reason is missing, both titles are one, or the expiry is not within policy.
    """
    for kind in kinds:
        if kind not in set(ReasonKind):
            raise UnknownNameError("--kind", kind, KINDS, listed=True)
    now = campaign.clock.now()
    empty = Waiver(
        id="x", unit=unit.id, gate="", reasons=(), why=why, by=by, approved_by=approved_by, until=until, recorded=now
    )
    _refuse(empty.model_copy(update={"reasons": (_ANY,)}), campaign)  # what was typed, before any device is asked
    verdict = judge_next(campaign, unit, say=say)
    if verdict is None or verdict.allowed:
        raise NothingMatchesError(f"{unit.id}: nothing stands against its next step, so there is nothing to excuse")
    asked = choose_reasons(verdict.reasons, stations=stations, services=services, checks=checks, kinds=kinds)
    if not asked:
        raise NothingMatchesError(
            f"{unit.id}: none of the {counted(len(verdict.reasons), 'reason')} against {verdict.gate} is what was named; "
            f"'extranet gate explain {unit.id}' lists them: name --station, --service, --check or --kind"
        )
    taken = tuple(r for r in asked if r.kind in EXCUSABLE)
    never = tuple(r for r in asked if r.kind not in EXCUSABLE)
    waiver = empty.model_copy(
        update={"id": f"ex-{now:%Y%m%d}-{secrets.token_hex(3)}", "gate": verdict.gate, "reasons": taken}
    )
    return Draft(waiver=waiver, verdict=verdict, never=never)


def record_waiver(campaign: Campaign, draft: Draft) -> Waiver:
    """Record an exception as proposed: it counts for nothing until another actor confirms it.

    Raises:
        WaiverInvalidError: it must not count.
    """
    _refuse(draft.waiver, campaign)
    waiver = draft.waiver
    body = {**waiver.body(), "login": current_login()}
    campaign.ledger.append(Kind.EXCEPTION, waiver.id, body, unit=waiver.unit)
    return waiver


def confirm_waiver(campaign: Campaign, unit: Unit, name: str, *, approved_by: str, apply: bool) -> Waiver:
    """Have an exception stand that somebody else proposed, under the title that it was put to.

    Raises:
        UnknownNameError: the unit has no exception of that name.
        WaiverInvalidError: the same actor proposed it, another title was named, or it is over or withdrawn.
    """
    here = {w.id: w for w in waivers_on_record(campaign) if w.unit == unit.id}
    if name not in here:
        raise UnknownNameError("exception", name, here, where=f"the record of {unit.id}")
    problem = find_objection(here[name], unit.id, approved_by, current_actor())
    if not problem and here[name].state(campaign.clock.now()) is WaiverState.EXPIRED:
        problem = "it is over"
    if problem:
        raise WaiverInvalidError(f"exception {name} for {unit.id}: {problem}")
    if apply:
        body = {"confirms": name, "approved_by": approved_by, "login": current_login()}
        campaign.ledger.append(Kind.EXCEPTION, f"{name}/confirmed/{current_actor()}", body, unit=unit.id)
        return next(w for w in waivers_on_record(campaign) if w.id == name)
    return here[name]


def withdraw_waiver(campaign: Campaign, unit: Unit, name: str, *, by: str, why: str, apply: bool) -> Waiver:
    """Take an exception back; it stays on record, withdrawn.

    Raises:
        UnknownNameError: the unit has no exception of that name.
        WaiverInvalidError: nobody is named, or no reason.
    """
    here = {w.id: w for w in waivers_on_record(campaign) if w.unit == unit.id}
    if name not in here:
        raise UnknownNameError("exception", name, here, where=f"the record of {unit.id}")
    if not by.strip() or not why.strip():
        raise WaiverInvalidError(
            f"exception {name}: expected --by TITLE and --why TEXT with --withdraw, found one empty"
        )
    if apply and here[name].withdrawn is None:
        body = {"withdraws": name, "by": by, "why": why}
        campaign.ledger.append(Kind.EXCEPTION, f"{name}/withdrawn", body, unit=unit.id)
        return next(w for w in waivers_on_record(campaign) if w.id == name)
    return here[name]


_ANY = Reason(station="", service="", why="", kind=next(iter(EXCUSABLE)))


def _refuse(waiver: Waiver, campaign: Campaign) -> None:
    problem = find_problem(waiver, campaign.county.policy.timers)
    if problem:
        raise WaiverInvalidError(f"exception for {waiver.unit}: {problem}")
