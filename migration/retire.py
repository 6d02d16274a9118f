"""Retirement of a unit's old link in stages: drain, shut, hold, remove. Each stage has its gate and, until removal, its way back.

No stage measures its own permission: without fresh evidence in the ledger for everybody who used the link, the gate
refuses and says why, station by station. After each stage the same stations are measured again under the armed timer.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from inventory.model import SiteClass, Unit
from migration.campaign import Campaign, Say, silent
from migration.cutover import UnitReport, bystander_checks, legacy_changes, show_changes, unit_checks
from migration.events import Kind
from migration.gates import Stage, Verdict, judge_back, judge_retirement
from migration.ledger import campaign_lock
from migration.measuring import OnProgress, no_progress, read_situation
from migration.proof import Reason, Situation
from migration.steps import Attempt, Ended, carry_out, finish_interrupted, new_change_id
from migration.units import Step, UnitState, devices_under, fold, outcome_body, units_behind, units_served
from nornir_tasks.platforms.frr.legacy import LegacyState

Until = Literal["drained", "shut", "removed"]


@dataclass(frozen=True)
class _Plan:
    """A stage as data: its gate, its step, and the legacy side before and after."""

    stage: Stage
    step: Step
    end: UnitState
    before: LegacyState
    after: LegacyState


STAGES: dict[UnitState, _Plan] = {
    UnitState.CUT_OVER: _Plan(Stage.DRAIN, Step.DRAIN, UnitState.DRAINED, LegacyState.WITHHELD, LegacyState.DRAINED),
    UnitState.SOAKED: _Plan(Stage.DRAIN, Step.DRAIN, UnitState.DRAINED, LegacyState.WITHHELD, LegacyState.DRAINED),
    UnitState.DRAINED: _Plan(Stage.SHUT, Step.SHUT, UnitState.SHUT, LegacyState.DRAINED, LegacyState.SHUT),
    UnitState.SHUT: _Plan(Stage.REMOVE, Step.REMOVE, UnitState.REMOVED, LegacyState.SHUT, LegacyState.REMOVED),
}
UNDO: dict[UnitState, tuple[UnitState, LegacyState, LegacyState]] = {
    UnitState.DRAINED: (UnitState.SOAKED, LegacyState.DRAINED, LegacyState.WITHHELD),
    UnitState.SHUT: (UnitState.DRAINED, LegacyState.SHUT, LegacyState.DRAINED),
}


def users_of(campaign: Campaign, unit: Unit) -> list[Unit]:
    """Return the units whose people the gates ask about when this link goes: its own, those behind it, those it serves."""
    return list(dict.fromkeys((unit, *units_behind(campaign.county, unit), *units_served(campaign.county, unit))))


def judge(campaign: Campaign, units: Sequence[Unit]) -> tuple[Situation, dict[str, Verdict]]:
    """Ask the gate of each unit's next stage of retirement, all in one situation."""
    devices = {d for unit in units for u in users_of(campaign, unit) for d in devices_under(campaign.county, u)}
    situation = read_situation(campaign, devices)
    out = {}
    for unit in units:
        plan = STAGES.get(situation.record(unit.id).state)
        out[unit.id] = judge_retirement(unit.id, plan.stage if plan else Stage.DRAIN, situation)
    return situation, out


def group_units(campaign: Campaign, units: Sequence[Unit]) -> list[tuple[Unit, ...]]:
    """Order units far end first - villages, towns, the county - and put those of one network together: they share a hub."""
    county = campaign.county
    depth = {SiteClass.VILLAGE: 0, SiteClass.TOWN: 1, SiteClass.COUNTY: 2}
    groups: dict[tuple[int, str], list[Unit]] = {}
    for unit in units:
        groups.setdefault((depth[county.site_by_id[unit.site].site_class], unit.network), []).append(unit)
    return [tuple(groups[key]) for key in sorted(groups)]


def retire(
    campaign: Campaign,
    units: Sequence[Unit],
    *,
    apply: bool,
    until: Until = "removed",
    wait: bool = False,
    say: Say = silent,
    on_progress: OnProgress = no_progress,
) -> list[UnitReport]:
    """Take units' retirement on, stage by stage, as far as `until` and the gates allow: villages, towns, the county.

    Units of one network on one level go together, and back together. Stops at the first refusal. With `wait`, the soak
    and the hold are waited for when they are all that is missing.
    """
    if not apply:
        return _preview(campaign, units)
    out: list[UnitReport] = []
    with campaign_lock(campaign.folder, "retire", campaign.clock):
        finish_interrupted(campaign, say=say)
        for group in group_units(campaign, units):
            out += _Retirement(campaign, group, UnitState(until), say, on_progress, wait=wait).go()
            if not all(r.verdict.allowed and (r.ended is None or r.ended.ok) for r in out):
                break
    return out


def _preview(campaign: Campaign, units: Sequence[Unit]) -> list[UnitReport]:
    situation, verdicts = judge(campaign, units)
    out = []
    for unit in units:
        state = situation.record(unit.id).state
        plan = STAGES.get(state)
        changes = legacy_changes(campaign, [unit], plan.before, plan.after) if plan else ()
        out.append(
            UnitReport(unit=unit.id, verdict=verdicts[unit.id], changes=show_changes([changes], ""), state=state.value)
        )
    return out


class _Retirement:
    """One group on its way: those of its units that stand in the same state take the next stage together."""

    def __init__(
        self,
        campaign: Campaign,
        group: Sequence[Unit],
        until: UnitState,
        say: Say,
        on_progress: OnProgress,
        *,
        wait: bool,
    ) -> None:
        self.campaign, self.group, self.until, self.wait = campaign, group, until, wait
        self.say, self.on_progress = say, on_progress
        self.changes: dict[str, str] = {}
        self.ended: dict[str, Ended] = {}

    def go(self) -> list[UnitReport]:
        while True:
            left = self._left()
            if not left:
                return self._reports({})
            situation, verdicts = judge(self.campaign, left)
            if self.wait and self._wait_out(situation, verdicts):
                continue
            for unit, verdict in verdicts.items():
                self._record_verdict(unit, verdict)
            if not all(v.allowed for v in verdicts.values()):
                return self._reports(verdicts)
            lowest = min((situation.record(u.id).state for u in left), key=lambda s: s.rank)
            if not self._take_stage([u for u in left if situation.record(u.id).state is lowest], lowest):
                return self._reports({})

    def _left(self) -> list[Unit]:
        records = fold(self.campaign.ledger.events(), self.campaign.county)
        return [u for u in self.group if not records[u.id].state.reached(self.until)]

    def _reports(self, verdicts: Mapping[str, Verdict]) -> list[UnitReport]:
        records = fold(self.campaign.ledger.events(), self.campaign.county)
        return [
            UnitReport(
                unit=u.id,
                verdict=verdicts.get(u.id, Verdict(gate="retire", unit=u.id, allowed=True)),
                changes=self.changes,
                ended=self.ended.get(u.id),
                state=records[u.id].state.value,
            )
            for u in self.group
        ]

    def _record_verdict(self, unit: str, verdict: Verdict) -> None:
        self.campaign.ledger.append(
            Kind.VERDICT,
            f"{new_change_id(self.campaign, 'gate')}/{unit}",
            {
                "gate": verdict.gate,
                "allowed": verdict.allowed,
                "reasons": len(verdict.reasons),
                "first": [str(r) for r in verdict.reasons[:20]],
            },
            unit=unit,
        )

    def _wait_out(self, situation: Situation, verdicts: Mapping[str, Verdict]) -> bool:
        """Sleep until soaks and holds are over when they are all that is missing; tell whether it slept."""
        left, word = 0.0, ""
        for unit, verdict in verdicts.items():
            if verdict.allowed:
                continue
            record = situation.record(unit)
            if any(r.check for r in verdict.reasons):
                return False
            timers = situation.policy.timers
            stage = STAGES[record.state].stage if record.state in STAGES else None
            since, wanted_s, word = {
                Stage.DRAIN: (record.entered.get(UnitState.CUT_OVER), timers.soak_s, "soak"),
                Stage.REMOVE: (record.entered.get(UnitState.SHUT), timers.hold_s, "hold"),
            }.get(stage, (None, 0, ""))
            rest = wanted_s - (situation.now - since).total_seconds() if since else 0.0
            if rest <= 0:
                return False
            left = max(left, rest)
        if left <= 0:
            return False
        self.say(f"· waiting {left:.0f} s for the {word} to be over")
        time.sleep(left + 0.1)
        return True

    def _take_stage(self, units: Sequence[Unit], state: UnitState) -> bool:
        """Carry one stage out for units in one state; tell whether it was kept."""
        plan = STAGES[state]
        start = state
        if state is UnitState.CUT_OVER:
            for unit in units:
                _record_soak(self.campaign, unit)
            start = UnitState.SOAKED
        changes = legacy_changes(self.campaign, units, plan.before, plan.after)
        self.changes |= {c.device: c.config for c in changes}
        users = list(dict.fromkeys(x for u in units for x in users_of(self.campaign, u)))
        self.say(f"· {plan.stage.value}: {', '.join(u.id for u in units)}")
        attempt = Attempt(
            name=units[0].id if len(units) == 1 else f"{units[0].network}/{plan.stage.value}",
            step=plan.step,
            phases=(changes,),
            must=unit_checks(self.campaign, users),
            watch=bystander_checks(self.campaign, units),
            units=tuple(u.id for u in units),
            start=start,
            end=plan.end,
            withheld=tuple(u.id for u in units),
        )
        ended = carry_out(
            self.campaign,
            [attempt],
            change_id=new_change_id(self.campaign, plan.stage.value),
            say=self.say,
            on_progress=self.on_progress,
        )[0]
        self.ended |= {u.id: ended for u in units}
        return ended.ok


def _record_soak(campaign: Campaign, unit: Unit) -> None:
    """Record that the soak is over; the drain's gate has just found it so."""
    campaign.ledger.append(
        Kind.OUTCOME,
        f"{new_change_id(campaign, 'soak')}/{unit.id}",
        outcome_body(Step.SOAK, result="done", state=UnitState.SOAKED, devices={}, reason="soak over, evidence fresh"),
        unit=unit.id,
    )


def undo(
    campaign: Campaign, unit: Unit, *, apply: bool, say: Say = silent, on_progress: OnProgress = no_progress
) -> UnitReport:
    """Take the last stage of a retirement back: open the ports again, or put the routes back."""
    if not apply:
        return _judge_undo(campaign, unit)
    with campaign_lock(campaign.folder, "retire --undo", campaign.clock):
        finish_interrupted(campaign, say=say)
        report = _judge_undo(campaign, unit)
        if not report.verdict.allowed:
            return report
        state = UnitState(report.state)
        target, before, after = UNDO[state]
        attempt = Attempt(
            name=unit.id,
            step=Step.BACK,
            phases=(legacy_changes(campaign, [unit], before, after),),
            must=unit_checks(campaign, [unit]),
            watch=bystander_checks(campaign, [unit]),
            units=(unit.id,),
            start=state,
            end=target,
        )
        ended = carry_out(
            campaign, [attempt], change_id=new_change_id(campaign, "undo"), say=say, on_progress=on_progress
        )[0]
        return UnitReport(
            unit=unit.id,
            verdict=report.verdict,
            changes=report.changes,
            ended=ended,
            state=target.value if ended.ok else state.value,
        )


def _judge_undo(campaign: Campaign, unit: Unit) -> UnitReport:
    situation = read_situation(campaign, ())
    state = situation.record(unit.id).state
    verdict = judge_back(unit.id, situation)
    if verdict.allowed and state not in UNDO:
        why = f"only drained and shut can be undone, found {state}"
        verdict = Verdict(gate="back", unit=unit.id, allowed=False, reasons=(Reason(station="", service="", why=why),))
    changes = {c.device: c.config for c in legacy_changes(campaign, [unit], *UNDO[state][1:])} if state in UNDO else {}
    return UnitReport(unit=unit.id, verdict=verdict, changes=changes, state=state.value)
