"""Cutover of a unit: its old path is withheld by a timer on the device, every need is proven over the new one, then kept.

The site's extranet router takes the LAN's IPv4 gateway from the legacy router. Both changes carry a rollback timer on
their device; the legacy side moves first and is confirmed last.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from inventory.model import Role, Unit
from inventory.wording import counted
from migration.archive import take_archive
from migration.campaign import Campaign, Say, silent
from migration.evidence import Bound, Evidence
from migration.gates import Stage, Verdict, judge_back, judge_cutover
from migration.measuring import OnProgress, keep, measure_now, no_progress, read_situation
from migration.moves import (
    Phases,
    bystander_checks,
    everyone_else,
    intended_configs,
    move_units,
    show_phases,
    unit_checks,
)
from migration.proof import Reason, ReasonKind, Situation
from migration.stages_ahead import StageAhead
from migration.steps import Attempt, Ended, carry_out, finish_interrupted, new_change_id, record_verdict
from migration.units import Step, UnitRecord, UnitState, devices_under
from nornir_tasks import changes as wire
from nornir_tasks.changes import Change
from nornir_tasks.stations.model import Check

_TOWNS_AT_ONCE = 3
"""A service is gone from when its old gateway goes until the new one comes, on all routers that are told together."""


@dataclass(frozen=True)
class UnitReport:
    """What was (or would be) done to one unit. `ahead`: of a retirement that was only shown, every stage still to come."""

    unit: str
    verdict: Verdict
    changes: dict[str, str]
    ended: Ended | None = None
    state: str = ""
    ahead: tuple[StageAhead, ...] = ()

    @property
    def nothing_left(self) -> bool:
        """Tell whether nothing was done because it is done already, which a good result must say."""
        going = self.changes or self.ahead or self.verdict.gate in set(Stage)
        return self.verdict.allowed and self.ended is None and not going

    def as_json(self) -> dict[str, Any]:
        """Return the report for machines."""
        return {
            "unit": self.unit,
            "state": self.state,
            "nothing_left": self.nothing_left,
            "allowed": self.verdict.allowed,
            "gate": self.verdict.gate,
            "reasons": [r.model_dump(mode="json") for r in self.verdict.reasons],
            "excused": [r.model_dump(mode="json") for r in self.verdict.excused],
            "changes": self.changes,
            "ahead": [stage.model_dump(mode="json") for stage in self.ahead],
            "outcome": self.ended.as_json() if self.ended else None,
        }


def group_units(campaign: Campaign, units: Sequence[Unit]) -> list[tuple[Unit, ...]]:
    """Put units that share routers together: the county's first, then town by town. A group is kept or goes back as one."""
    county = campaign.county
    groups: dict[str, list[Unit]] = {}
    for unit in units:
        groups.setdefault(county.town_of(unit.site), []).append(unit)
    first = county.county_site.id
    return [tuple(groups[town]) for town in sorted(groups, key=lambda t: (t != first, list(groups).index(t)))]


def cutover(
    campaign: Campaign,
    units: Sequence[Unit],
    *,
    apply: bool,
    say: Say = silent,
    on_progress: OnProgress = no_progress,
) -> list[UnitReport]:
    """Cut units over: the county's first, then a few towns at a time, each town's units together.

    Units that are cut over already are left as they are. Every gate of a wave is asked before anything is changed;
    where one refuses, or units go back, the rest is not tried and has no report.
    """
    if not apply:
        return _judge(campaign, units, measure_provided(campaign, units, say, on_progress), say)
    first = campaign.county.county_site.id
    with campaign.hold("cutover"):
        finish_interrupted(campaign, say=say)
        records = campaign.records()
        out = [_nothing_to_do(records[u.id], "cutover") for u in units if _is_cut_over(records[u.id])]
        groups = group_units(campaign, [u for u in units if not _is_cut_over(records[u.id])])
        for wave in _waves(groups, first):
            reports = _cut_over(campaign, wave, say, on_progress)
            out += reports
            if not all(r.ended is not None and r.ended.ok for r in reports):
                break
        out += _settle_cores(campaign, units, say, on_progress)
    return out


def _waves(groups: Sequence[tuple[Unit, ...]], first: str) -> list[list[tuple[Unit, ...]]]:
    """Part groups into waves, in their order: the county's, then so many towns that no phase takes long on all of them."""
    at_county = [g for g in groups if g[0].site == first]
    towns = [g for g in groups if g[0].site != first]
    waves = [at_county, *(towns[n : n + _TOWNS_AT_ONCE] for n in range(0, len(towns), _TOWNS_AT_ONCE))]
    return [wave for wave in waves if wave]


def cut_over_phases(campaign: Campaign, group: Sequence[Unit]) -> Phases:
    """Return what cuts a group over on its own routers. Cores belong to all towns, and towns go or come back alone."""
    county = campaign.county
    sites = {s for u in group for s in (u.site, county.town_of(u.site))}
    cores = {d.id for d in county.devices if d.role is Role.CORE and d.site not in sites}
    phases = move_units(campaign, group, UnitState.PROVISIONED, UnitState.CUT_OVER)
    return tuple(tuple(c for c in phase if c.device not in cores) for phase in phases)


def _settle_cores(
    campaign: Campaign, units: Sequence[Unit], say: Say, on_progress: OnProgress
) -> tuple[UnitReport, ...]:
    """Give the cores what follows from all of a network being cut over: nothing leads to its hub any more.

    Asks the cores themselves, so that a run that was interrupted before this is finished by the next. The units stay cut
    over whatever becomes of it; what did not become of it is a report of its own.
    """
    county, records = campaign.county, campaign.records()
    left = {u.network for u in county.units if not _is_cut_over(records[u.id])}
    moved = [u for u in units if u.network not in left]
    if not moved:
        return ()
    configs = intended_configs(campaign, [d.id for d in county.devices if d.role is Role.CORE])
    changes = [Change(device=d, mode="replace", config=text) for d, text in configs.items()]
    found = wire.compare(campaign.nornir, changes)
    deaf = [found[c.device].error or f"{c.device}: does not answer" for c in changes if not found[c.device].ok]
    if deaf:
        todo = f"then give the cores the rest: 'extranet config push {' '.join(configs)}'"
        say(f"! the units stay cut over, but {deaf[0]}; {todo}")
        return (_of_cores(Ended("cores", "failed", reasons=deaf, tried=False)),)
    changed = [c for c in changes if found[c.device].value]
    if not changed:
        return ()
    must = unit_checks(campaign, moved)
    planes, proven = {u.plane for u in moved}, {c.id for c in must}
    attempt = Attempt(
        name="cores",
        step=Step.PROVISION,
        phases=(tuple(changed),),
        must=must,
        watch=tuple(
            c for c in campaign.matrix.checks if c.plane in planes and c.expect == "reach" and c.id not in proven
        ),
    )
    names = [c.device for c in changed]
    say(f"· {', '.join(names)}: what led to a hub that nobody needs any more goes")
    ended = carry_out(campaign, [attempt], change_id=new_change_id(campaign, "cores"), say=say, on_progress=on_progress)
    if ended[0].ok:
        return ()
    say(f"! the units stay cut over; try the cores again with 'extranet config push {' '.join(names)}'")
    return (_of_cores(ended[0]),)


def _of_cores(ended: Ended) -> UnitReport:
    verdict = Verdict(gate="provision", unit="cores", allowed=True)
    return UnitReport(unit="cores", verdict=verdict, changes={}, ended=ended, state="as before")


def _is_cut_over(record: UnitRecord) -> bool:
    return record.state.reached(UnitState.CUT_OVER) and not record.open and not record.problems


def _nothing_to_do(record: UnitRecord, gate: str) -> UnitReport:
    verdict = Verdict(gate=gate, unit=record.unit, allowed=True)
    return UnitReport(unit=record.unit, verdict=verdict, changes={}, state=record.state.value)


def measure_provided(
    campaign: Campaign, units: Sequence[Unit], say: Say, on_progress: OnProgress, *, beside: Sequence[Check] = ()
) -> tuple[Evidence, ...]:
    """Measure what provisioning gave to units that are ready; the gate takes it like any other evidence.

    `beside` is what will be asked for next, and is measured along.
    """
    records = campaign.records()
    ready = [u for u in units if records[u.id].state in {UnitState.PROVISIONED, UnitState.PROVEN}]
    provided = [c for c in unit_checks(campaign, ready) if c.unit is None]
    if not provided:
        return ()
    say(f"· {counted(len(ready), 'unit')}: {counted(len(provided), 'check')} of what is already provided")
    names = [u.id for u in ready]
    return (measure_now(campaign, provided, units=names, beside=beside, on_progress=on_progress)[1],)


def _judge(campaign: Campaign, units: Sequence[Unit], fresh: tuple[Evidence, ...], say: Say) -> list[UnitReport]:
    """Ask the gate of each unit; `fresh` is evidence that is not in the ledger: it counts as if it were recorded now."""
    situation = read_situation(campaign, {d for u in units for d in devices_under(campaign.county, u)}, say=say)
    if fresh:
        last = max((e.seq for e in campaign.events()), default=0)
        numbered = (e.model_copy(update={"seq": last + place}) for place, e in enumerate(fresh, 1))
        situation = replace(situation, evidence=(*situation.evidence, *numbered))
    out = []
    for unit in units:
        record = situation.record(unit.id)
        if _is_cut_over(record):
            out.append(_nothing_to_do(record, "cutover"))
            continue
        phases = cut_over_phases(campaign, [unit])
        out.append(
            UnitReport(
                unit=unit.id,
                verdict=judge_cutover(unit.id, situation),
                changes=show_phases(campaign, phases),
                state=record.state.value,
            )
        )
    return out


def _refused_anyway(campaign: Campaign, units: Sequence[Unit]) -> bool:
    """Tell whether the gate refuses whatever is measured: asked of the ledger alone."""
    situation = read_situation(campaign, current=Bound(inventory="", plan="", configs={}))
    standing = {ReasonKind.ORDER, ReasonKind.STATE, ReasonKind.UNFINISHED, ReasonKind.RECORD, ReasonKind.SCOPE}
    return any(r.kind in standing for u in units for r in judge_cutover(u.id, situation).reasons)


def _cut_over(
    campaign: Campaign, wave: Sequence[tuple[Unit, ...]], say: Say, on_progress: OnProgress
) -> list[UnitReport]:
    """Cut one wave over; when a gate refuses, only what it refused is reported."""
    units = [u for group in wave for u in group]
    # Where nothing but a measurement is missing, one of everything serves the gate and as what worked before.
    beside = () if _refused_anyway(campaign, units) else campaign.matrix.checks
    for evidence in measure_provided(campaign, units, say, on_progress, beside=beside):
        keep(campaign, evidence)
    reports = {r.unit: r for r in _judge(campaign, units, (), say)}
    for report in reports.values():
        record_verdict(campaign, report.verdict)
    refused = [r for r in reports.values() if not r.verdict.allowed]
    if refused:
        return refused
    # The lines as they are before anything of ours; what cannot be read fails in the attempt itself, with its reason.
    take_archive(campaign, units, say=say)
    attempts = [
        Attempt(
            name=group[0].id if len(group) == 1 else campaign.county.town_of(group[0].site),
            step=Step.CUTOVER,
            phases=cut_over_phases(campaign, group),
            must=unit_checks(campaign, group),
            watch=everyone_else(campaign, group),
            units=tuple(u.id for u in group),
            start=UnitState.PROVISIONED,
            end=UnitState.CUT_OVER,
            withheld=tuple(u.id for u in group),
            excused=tuple(r for u in group for r in reports[u.id].verdict.excused),
        )
        for group in wave
    ]
    ended = carry_out(
        campaign, attempts, change_id=new_change_id(campaign, "cutover"), say=say, on_progress=on_progress
    )
    records = campaign.records()
    return [
        replace(reports[unit], ended=end, state=records[unit].state.value)
        for attempt, end in zip(attempts, ended, strict=True)
        for unit in attempt.units
    ]


def give_back(
    campaign: Campaign, unit: Unit, *, apply: bool, say: Say = silent, on_progress: OnProgress = no_progress
) -> UnitReport:
    """Take a cutover back: the legacy router holds the LAN's gateway again. Nothing is done where it never was taken."""
    if not apply:
        return _judge_back(campaign, unit)
    with campaign.hold("cutover --back"):
        finish_interrupted(campaign, say=say)
        report = _judge_back(campaign, unit)
        record_verdict(campaign, report.verdict)
        if not report.verdict.allowed or not report.changes:
            return report
        start = UnitState(report.state)
        attempt = Attempt(
            name=unit.id,
            step=Step.BACK,
            phases=move_units(campaign, [unit], start, UnitState.PROVISIONED),
            must=(),
            must_work=tuple(c for c in unit_checks(campaign, [unit]) if c.unit == unit.id),
            watch=bystander_checks(campaign, [unit]),
            units=(unit.id,),
            start=start,
            end=UnitState.PROVISIONED,
        )
        ended = carry_out(
            campaign, [attempt], change_id=new_change_id(campaign, "back"), say=say, on_progress=on_progress
        )[0]
        return replace(report, ended=ended, state=campaign.records()[unit.id].state.value)


def _judge_back(campaign: Campaign, unit: Unit) -> UnitReport:
    situation = read_situation(campaign)
    verdict = judge_way_back(unit, situation)
    state = situation.record(unit.id).state
    if verdict.allowed and state.reached(UnitState.DRAINED):
        verdict = refuse(
            verdict, f"a cutover goes back from cut_over or soaked, found {state}: 'extranet retire --undo'"
        )
    phases: Phases = ()
    if verdict.allowed and state.reached(UnitState.CUT_OVER):
        phases = move_units(campaign, [unit], state, UnitState.PROVISIONED)
    return UnitReport(unit=unit.id, verdict=verdict, changes=show_phases(campaign, phases), state=state.value)


def judge_way_back(unit: Unit, situation: Situation) -> Verdict:
    """Ask the gate whether a unit may go back a step; never while what a device holds is not known."""
    verdict = judge_back(unit.id, situation)
    for event in situation.record(unit.id).open:
        verdict = refuse(verdict, f"a change is unfinished ({event.key}): its devices must answer first")
    return verdict


def refuse(verdict: Verdict, why: str) -> Verdict:
    """Return a verdict with one more reason against it."""
    reasons = (*verdict.reasons, Reason(station="", service="", why=why))
    return verdict.model_copy(update={"allowed": False, "reasons": reasons})
