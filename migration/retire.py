"""Retirement of a unit's old link in stages: drain, shut, hold, remove. Each stage has its gate and, until removal, its way back.

No stage measures its own permission: without fresh evidence in the ledger for everybody who used the link, the gate
refuses and says why, station by station. After each stage the same stations are measured again under the armed timer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from inventory.model import SiteClass, Unit
from migration.archive import collect_archives, judge_archives, take_archive
from migration.campaign import Campaign, Say, silent
from migration.cutover import UnitReport, judge_way_back, refuse
from migration.events import Event, Kind
from migration.gates import Stage, Verdict, judge_together, users_of
from migration.ledger.leases import LeaseState
from migration.measuring import OnProgress, no_progress, read_situation
from migration.moves import bystander_checks, everyone_else, move_units, show_phases, unit_checks
from migration.proof import Excused, ReasonKind, Situation
from migration.sampling import take_sample, watch_out
from migration.soak import describe_soak, next_stage, stand_soak
from migration.stages_ahead import StageAhead, list_stages
from migration.steps import Attempt, Ended, carry_out, finish_interrupted, new_change_id, record_verdict
from migration.units import Step, UnitRecord, UnitState, devices_under, legacy_devices_under, outcome_body

Until = Literal["drained", "shut", "removed"]


@dataclass(frozen=True)
class _Plan:
    """A stage as data: its gate, its step and where it ends."""

    stage: Stage
    step: Step
    end: UnitState


STAGES: dict[UnitState, _Plan] = {
    UnitState.CUT_OVER: _Plan(Stage.DRAIN, Step.DRAIN, UnitState.DRAINED),
    UnitState.SOAKED: _Plan(Stage.DRAIN, Step.DRAIN, UnitState.DRAINED),
    UnitState.DRAINED: _Plan(Stage.SHUT, Step.SHUT, UnitState.SHUT),
    UnitState.SHUT: _Plan(Stage.REMOVE, Step.REMOVE, UnitState.REMOVED),
}
UNDO: dict[UnitState, UnitState] = {UnitState.DRAINED: UnitState.SOAKED, UnitState.SHUT: UnitState.DRAINED}
_UNDO = "retire --undo"
"""What its lease is called."""


def judge(
    campaign: Campaign, units: Sequence[Unit], *, wave: Sequence[Unit] = (), say: Say = silent
) -> tuple[Situation, dict[str, Verdict]]:
    """Ask the gate of each unit's next stage of retirement, all in one situation, as units that go together.

    `wave` names the units that the same command retires besides, now or after these.
    """
    county, records = campaign.county, campaign.records()
    stages = {u.id: STAGES[s].stage if (s := records[u.id].state) in STAGES else Stage.DRAIN for u in units}
    users = {u.id: u for unit in units for u in users_of(county, unit, stages[unit.id])}.values()
    devices = {d for u in users for d in devices_under(county, u)}
    # Of those who are removed nothing of the old line is left to be asked.
    left = [u for u in users if not records[u.id].state.reached(UnitState.REMOVED)]
    devices.update(d for u in left for d in legacy_devices_under(county, u))
    situation = read_situation(campaign, devices, say=say)
    # Who is not cut over does not go, whatever was asked: its own gate says so.
    going = [u.id for u in (*units, *wave) if records[u.id].state in STAGES]
    verdicts: dict[str, Verdict] = {}
    for stage in dict.fromkeys(stages.values()):
        here = [u.id for u in units if stages[u.id] is stage]
        verdicts |= judge_together(here, stage, situation, wave=going)
    return situation, {u.id: verdicts[u.id] for u in units}


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

    Units of one network on one level go together, and back together. Stops at the first refusal; what was not tried
    has no report. With `wait`, the soak and the hold are waited for when they are all that is missing.
    """
    if not apply:
        return _preview(campaign, units, UnitState(until), say)
    out: list[UnitReport] = []
    with campaign.hold("retire"):
        finish_interrupted(campaign, say=say)
        for group in group_units(campaign, units):
            reports = _Retirement(campaign, group, UnitState(until), say, on_progress, wave=units, wait=wait).go()
            out += reports
            if len(reports) < len(group) or not all(
                r.verdict.allowed and (r.ended is None or r.ended.ok) for r in reports
            ):
                break
    return out


def _preview(campaign: Campaign, units: Sequence[Unit], until: UnitState, say: Say) -> list[UnitReport]:
    records = campaign.records()
    asked = [u for u in units if not records[u.id].state.reached(until)]
    verdicts = judge(campaign, asked, say=say)[1] if asked else {}
    out = []
    for unit in units:
        state = records[unit.id].state
        ahead = _look_ahead(campaign, unit, state, until)
        changes = next((s.changes for s in ahead if s.gate), {}) if state in STAGES else {}
        verdict = verdicts.get(unit.id) or Verdict(gate="retire", unit=unit.id, allowed=True)
        out.append(UnitReport(unit=unit.id, verdict=verdict, changes=changes, state=state.value, ahead=ahead))
    return out


def _look_ahead(campaign: Campaign, unit: Unit, state: UnitState, until: UnitState) -> tuple[StageAhead, ...]:
    """Return every stage up to `until` with what it changes on which router, as others' units stand now."""
    out = []
    start = state if state.reached(UnitState.CUT_OVER) else UnitState.CUT_OVER
    for stage in list_stages(unit.id, start, until, campaign.county.policy):
        changes = {}
        if stage.gate is not None:
            changes = show_phases(campaign, move_units(campaign, [unit], start, stage.state))
            start = stage.state
        out.append(stage.altered(changes=changes))
    return tuple(out)


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
        wave: Sequence[Unit],
        wait: bool,
    ) -> None:
        self.campaign, self.group, self.until, self.wave, self.wait = campaign, group, until, wave, wait
        self.say, self.on_progress = say, on_progress
        self.changes: dict[str, dict[str, str]] = {u.id: {} for u in group}
        self.ended: dict[str, Ended] = {}
        self.excused: dict[str, tuple[Excused, ...]] = {}

    def go(self) -> list[UnitReport]:
        while True:
            least = self._least_advanced()
            if not least:
                return self._reports({})
            self._look_first(least)
            situation, verdicts = judge(self.campaign, least, wave=self.wave, say=self.say)
            if self.wait and self._wait_out(situation, verdicts):
                continue
            for verdict in verdicts.values():
                record_verdict(self.campaign, verdict)
                self.excused[verdict.unit or ""] = (*self.excused.get(verdict.unit or "", ()), *verdict.excused)
            if not all(v.allowed for v in verdicts.values()):
                return self._reports(verdicts)
            unkept = self._archive(least, verdicts)
            if unkept:
                return self._reports(unkept)
            excused = {u: v.excused for u, v in verdicts.items()}
            if not self._take_stage(least, situation, excused):
                return self._reports({})

    def _look_first(self, units: Sequence[Unit]) -> None:
        """Take the sample that a crash or a way back left out: what the next stage counts from."""
        records, events = self.campaign.records(), self.campaign.events()
        late = [u for u in units if u.id in self.unlooked(records, events)]
        if late:
            take_sample(self.campaign, late, say=self.say)

    @staticmethod
    def unlooked(records: Mapping[str, UnitRecord], events: Sequence[Event]) -> set[str]:
        """Return the units drained or shut of which no sample was taken since."""
        last = {u: e.moment for e in events if e.kind is Kind.SOAK for u in e.body.get("units", ())}
        stages = {UnitState.DRAINED, UnitState.SHUT}
        return {
            unit
            for unit, record in records.items()
            if record.state in stages and record.since is not None and (unit not in last or last[unit] < record.since)
        }

    def _least_advanced(self) -> list[Unit]:
        """Return the units that have the longest way to go, all in one state; none when all have arrived."""
        records = self.campaign.records()
        left = [u for u in self.group if not records[u.id].state.reached(self.until)]
        least = min((records[u.id].state for u in left), key=lambda s: s.rank, default=None)
        return [u for u in left if records[u.id].state is least]

    def _reports(self, verdicts: Mapping[str, Verdict]) -> list[UnitReport]:
        """Report those who arrived, moved or were refused; the others were not tried."""
        records = self.campaign.records()
        out = []
        for unit in self.group:
            excused = tuple(dict.fromkeys(self.excused.get(unit.id, ())))
            verdict = verdicts.get(unit.id) or Verdict(gate="retire", unit=unit.id, allowed=True, excused=excused)
            ended, state = self.ended.get(unit.id), records[unit.id].state
            if verdict.allowed and ended is None and not state.reached(self.until):
                continue
            changes = self.changes[unit.id]
            out.append(UnitReport(unit=unit.id, verdict=verdict, changes=changes, ended=ended, state=state.value))
        return out

    def _wait_out(self, situation: Situation, verdicts: Mapping[str, Verdict]) -> bool:
        """Watch the old lines until soaks and holds are over, when they are all that is missing; tell whether it did."""
        refused = [u for u in self.group if u.id in verdicts and not verdicts[u.id].allowed]
        for unit in refused:
            standing = stand_soak(unit, situation, next_stage(situation.record(unit.id).state))
            waiting = tuple(f"the {word} of {unit.id} is not over" for word in ("soak", "hold"))
            if standing.against or not all(r.why.startswith(waiting) for r in verdicts[unit.id].reasons):
                return False
        if refused:
            watch_out(self.campaign, refused, situation, say=self.say, on_progress=self.on_progress)
        return bool(refused)

    def _archive(self, units: Sequence[Unit], verdicts: Mapping[str, Verdict]) -> dict[str, Verdict]:
        """Keep what the units' legacy routers hold before their line is taken away; return what that refuses.

        Anew before the first stage and before the last, from which only the archive leads back. Before the first, an
        archive from before the cutover will do: a router at the line's far end may be off by then.
        """
        state = self.campaign.records()[units[0].id].state
        if state is UnitState.DRAINED:
            return {}
        unread = take_archive(self.campaign, units, say=self.say)
        if state is not UnitState.SHUT:
            archives = collect_archives(self.campaign.folder, self.campaign.events())
            unread = {u.id: why for u in units if (why := judge_archives(self.campaign.county, u, archives))}
        out = {}
        for unit, against in unread.items():
            out[unit] = verdicts[unit]
            for each in against:
                out[unit] = refuse(out[unit], each)
            record_verdict(self.campaign, out[unit])
        return out

    def _take_stage(
        self, units: Sequence[Unit], situation: Situation, excused: Mapping[str, tuple[Excused, ...]]
    ) -> bool:
        """Carry one stage out for units in one state; tell whether it was kept."""
        state = situation.record(units[0].id).state
        plan = STAGES[state]
        start = state
        if state is UnitState.CUT_OVER:
            for unit in units:
                _record_soak(self.campaign, unit, situation, excused[unit.id])
            start = UnitState.SOAKED
        phases = move_units(self.campaign, units, start, plan.end)
        for unit in units:
            self.changes[unit.id] |= show_phases(self.campaign, move_units(self.campaign, [unit], start, plan.end))
        users = list(dict.fromkeys(x for u in units for x in users_of(self.campaign.county, u, plan.stage)))
        self.say(f"· {plan.stage.value}: {', '.join(u.id for u in units)}")
        attempt = Attempt(
            name=units[0].id if len(units) == 1 else f"{units[0].network}/{plan.stage.value}",
            step=plan.step,
            phases=phases,
            must=unit_checks(self.campaign, users),
            watch=everyone_else(self.campaign, users),
            units=tuple(u.id for u in units),
            start=start,
            end=plan.end,
            # A drain takes away a route: the line is up, and what leans on it still works.
            withheld=() if plan.stage is Stage.DRAIN else tuple(u.id for u in units),
            excused=tuple(r for u in units for r in excused[u.id]),
        )
        ended = carry_out(
            self.campaign,
            [attempt],
            change_id=new_change_id(self.campaign, plan.stage.value),
            say=self.say,
            on_progress=self.on_progress,
        )[0]
        self.ended |= {u.id: ended for u in units}
        if ended.ok and plan.end is not UnitState.REMOVED:
            take_sample(self.campaign, units, say=self.say)  # what the next stage begins to count from
        return ended.ok


def _record_soak(campaign: Campaign, unit: Unit, situation: Situation, excused: Sequence[Excused]) -> None:
    """Record that the soak is over, or excused, and what it saw; the drain's gate has just found it so."""
    by = next((r.exception for r in excused if r.kind is ReasonKind.SOAK), "")
    reason = f"soak excused by exception {by}, evidence fresh" if by else "soak over, evidence fresh"
    campaign.ledger.append(
        Kind.OUTCOME,
        f"{new_change_id(campaign, 'soak')}/{unit.id}",
        outcome_body(
            Step.SOAK,
            result="done",
            state=UnitState.SOAKED,
            devices={},
            reason=reason,
            soak=describe_soak(unit, situation, excused_by=by).model_dump(mode="json"),
        ),
        unit=unit.id,
    )


def undo(
    campaign: Campaign,
    units: Sequence[Unit],
    *,
    apply: bool,
    say: Say = silent,
    on_progress: OnProgress = no_progress,
) -> list[UnitReport]:
    """Take the last stage of units' retirement back, one after another: open the ports again, or put the routes back.

    Only what worked before must go on: the way back has to be open when the new path is broken, too.
    """
    if not apply:
        return [_judge_undo(campaign, unit) for unit in units]
    last = campaign.ledger.lease_state()
    with campaign.hold(_UNDO):
        interrupted = finish_interrupted(campaign, say=say)
        back = took_back(campaign, last)
        back |= {u for found in interrupted if found.step is Step.BACK and found.ending == "done" for u in found.units}
        out = []
        for unit in units:
            if unit.id in back:
                # Once more would take back one more, which nobody asked for.
                state, verdict = campaign.records()[unit.id].state, Verdict(gate="back", unit=unit.id, allowed=True)
                say(
                    f"  {unit.id}: the command that was cut off has taken it back; the same once more takes back one more"
                )
                out.append(UnitReport(unit=unit.id, verdict=verdict, changes={}, state=state.value))
            else:
                out.append(_undo(campaign, unit, say=say, on_progress=on_progress))
        return out


def took_back(campaign: Campaign, last: LeaseState | None) -> set[str]:
    """Return the units that the last command took back before it was cut off; none where it was another, or ended by itself."""
    if last is None or last.released_at is not None or last.holder.get("command") != _UNDO:
        return set()
    done = [
        e for e in campaign.events() if e.token == last.token and e.kind is Kind.OUTCOME and e.body["result"] == "done"
    ]
    return {u for e in done if e.body["step"] == Step.BACK for u in (e.unit, *e.body.get("units", ())) if u is not None}


def _undo(campaign: Campaign, unit: Unit, *, say: Say, on_progress: OnProgress) -> UnitReport:
    report = _judge_undo(campaign, unit)
    record_verdict(campaign, report.verdict)
    if not report.verdict.allowed:
        return report
    state = UnitState(report.state)
    attempt = Attempt(
        name=unit.id,
        step=Step.BACK,
        phases=move_units(campaign, [unit], state, UNDO[state]),
        must=(),
        watch=tuple(c for c in unit_checks(campaign, [unit]) if c.expect == "reach")
        + bystander_checks(campaign, [unit]),
        units=(unit.id,),
        start=state,
        end=UNDO[state],
    )
    change_id = new_change_id(campaign, "undo")
    ended = carry_out(campaign, [attempt], change_id=change_id, say=say, on_progress=on_progress)[0]
    now = campaign.records()[unit.id].state.value
    return UnitReport(unit=unit.id, verdict=report.verdict, changes=report.changes, ended=ended, state=now)


def _judge_undo(campaign: Campaign, unit: Unit) -> UnitReport:
    situation = read_situation(campaign)
    state = situation.record(unit.id).state
    verdict = judge_way_back(unit, situation)
    if verdict.allowed and state not in UNDO:
        verdict = refuse(verdict, f"only drained and shut (held or not) can be undone, found {state}")
    changes = show_phases(campaign, move_units(campaign, [unit], state, UNDO[state])) if state in UNDO else {}
    return UnitReport(unit=unit.id, verdict=verdict, changes=changes, state=state.value)
