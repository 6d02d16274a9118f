"""Retirement of a unit's old link in stages: drain, shut, hold, remove. Each stage has its gate and, until removal, its way back.

No stage measures its own permission: without fresh evidence in the ledger for everybody who used the link, the gate
refuses and says why, station by station. After each stage the same stations are measured again under the armed timer.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from inventory.model import Unit
from migration.campaign import Campaign, Say, silent
from migration.cutover import UnitReport, bystander_checks, legacy_changes, unit_checks
from migration.events import Kind
from migration.gates import Stage, Verdict, judge_back, judge_retirement
from migration.ledger import campaign_lock
from migration.measuring import OnProgress, no_progress, read_situation
from migration.proof import Reason, Situation
from migration.steps import Attempt, Ended, carry_out, finish_interrupted, new_change_id
from migration.units import Step, UnitRecord, UnitState, devices_under, outcome_body, units_behind, units_served
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
    return list(
        dict.fromkeys((unit, *units_behind(campaign.county, unit), *units_served(campaign.county, unit)))
    )


def judge(campaign: Campaign, unit: Unit, stage: Stage | None = None) -> tuple[Situation, UnitRecord, Verdict]:
    """Ask the gate of a unit's next stage of retirement (or of the one named)."""
    devices = {d for u in users_of(campaign, unit) for d in devices_under(campaign.county, u)}
    situation = read_situation(campaign, sorted(devices))
    record = situation.record(unit.id)
    plan = STAGES.get(record.state)
    wanted = stage or (plan.stage if plan else Stage.DRAIN)
    return situation, record, judge_retirement(unit.id, wanted, situation)


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
    """Take each unit's retirement on, stage by stage, as far as `until` and the gates allow.

    Stops at the first refusal. With `wait`, the soak and the hold are waited for when they are all that is missing.
    """
    if not apply:
        return [_preview(campaign, unit) for unit in units]
    out: list[UnitReport] = []
    with campaign_lock(campaign.folder, "retire", campaign.clock):
        finish_interrupted(campaign, say=say)
        for unit in units:
            out.append(_retire(campaign, unit, UnitState(until), say, on_progress, wait=wait))
            last = out[-1]
            if not last.verdict.allowed or (last.ended is not None and not last.ended.ok):
                break
    return out


def _preview(campaign: Campaign, unit: Unit) -> UnitReport:
    _, record, verdict = judge(campaign, unit)
    plan = STAGES.get(record.state)
    changes = legacy_changes(campaign, unit, plan.before, plan.after) if plan else ()
    return UnitReport(
        unit=unit.id, verdict=verdict, changes={c.device: c.config for c in changes}, state=record.state.value
    )


def _retire(
    campaign: Campaign, unit: Unit, until: UnitState, say: Say, on_progress: OnProgress, *, wait: bool
) -> UnitReport:
    ended: Ended | None = None
    changes: dict[str, str] = {}
    while True:
        situation, record, verdict = judge(campaign, unit)
        plan = STAGES.get(record.state)
        if record.state.reached(until) and record.state is not UnitState.REMOVED or record.state is UnitState.REMOVED:
            done = Verdict(gate="retire", unit=unit.id, allowed=True)
            return UnitReport(unit=unit.id, verdict=done, changes=changes, ended=ended, state=record.state.value)
        if wait and plan and _wait_out(campaign, situation, record, plan, verdict, say):
            continue
        campaign.ledger.append(
            Kind.VERDICT,
            f"{new_change_id(campaign, 'gate')}/{unit.id}",
            {
                "gate": verdict.gate,
                "allowed": verdict.allowed,
                "reasons": len(verdict.reasons),
                "first": [str(r) for r in verdict.reasons[:20]],
            },
            unit=unit.id,
        )
        if not verdict.allowed or plan is None:
            return UnitReport(unit=unit.id, verdict=verdict, changes=changes, ended=ended, state=record.state.value)
        if record.state is UnitState.CUT_OVER:
            _record_soak(campaign, unit)
        say(f"· {unit.id}: {plan.stage.value}")
        ended, lines = _carry_out_stage(campaign, unit, plan, say, on_progress)
        changes |= lines
        if not ended.ok:
            return UnitReport(unit=unit.id, verdict=verdict, changes=changes, ended=ended, state=record.state.value)


def _wait_out(
    campaign: Campaign, situation: Situation, record: UnitRecord, plan: _Plan, verdict: Verdict, say: Say
) -> bool:
    """Sleep until a soak or hold is over when the gate is only waiting for that; tell whether it slept."""
    timers = campaign.county.policy.timers
    since, wanted = (
        (record.entered.get(UnitState.SHUT), timers.hold_s)
        if plan.stage is Stage.REMOVE
        else (record.entered.get(UnitState.CUT_OVER), timers.soak_s if plan.stage is Stage.DRAIN else 0)
    )
    if since is None or verdict.allowed or any(r.check for r in verdict.reasons):
        return False
    left = wanted - (situation.now - since).total_seconds()
    if left <= 0:
        return False
    say(f"· {record.unit}: waiting {left:.0f} s for the {'hold' if plan.stage is Stage.REMOVE else 'soak'} to be over")
    time.sleep(left + 0.1)
    return True


def _record_soak(campaign: Campaign, unit: Unit) -> None:
    """Record that the soak is over; the drain's gate has just found it so."""
    campaign.ledger.append(
        Kind.OUTCOME,
        f"{new_change_id(campaign, 'soak')}/{unit.id}",
        outcome_body(Step.SOAK, result="done", state=UnitState.SOAKED, devices={}, reason="soak over, evidence fresh"),
        unit=unit.id,
    )


def _carry_out_stage(
    campaign: Campaign, unit: Unit, plan: _Plan, say: Say, on_progress: OnProgress
) -> tuple[Ended, dict[str, str]]:
    changes = legacy_changes(campaign, unit, plan.before, plan.after)
    attempt = Attempt(
        name=unit.id,
        step=plan.step,
        phases=(changes,),
        must=tuple(c for u in users_of(campaign, unit) for c in unit_checks(campaign, u)),
        watch=bystander_checks(campaign, unit),
        units=(unit.id,),
        start=UnitState.SOAKED if plan.stage is Stage.DRAIN else _start_of(plan),
        end=plan.end,
        withheld=(unit.id,),
    )
    ended = carry_out(
        campaign, [attempt], change_id=new_change_id(campaign, plan.stage.value), say=say, on_progress=on_progress
    )[0]
    return ended, {c.device: c.config for c in changes}


def _start_of(plan: _Plan) -> UnitState:
    return UnitState.DRAINED if plan.stage is Stage.SHUT else UnitState.SHUT


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
            phases=(legacy_changes(campaign, unit, before, after),),
            must=unit_checks(campaign, unit),
            watch=bystander_checks(campaign, unit),
            units=(unit.id,),
            start=state,
            end=target,
        )
        ended = carry_out(campaign, [attempt], change_id=new_change_id(campaign, "undo"), say=say, on_progress=on_progress)[0]
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
    changes = {c.device: c.config for c in legacy_changes(campaign, unit, *UNDO[state][1:])} if state in UNDO else {}
    return UnitReport(unit=unit.id, verdict=verdict, changes=changes, state=state.value)
