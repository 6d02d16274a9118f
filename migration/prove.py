"""Proof of units with their old path withheld: closed by a timer on the device, measured, and given back whatever comes of it.

Before cutover the trial is the cutover itself, never kept. After it the old line is closed at both ends, as retirement
will close it, so a station that is reached only because the old link is still up fails here and nowhere else. Units that
are named together are withheld together: two that carry each other's load are found out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from inventory.model import Family, Unit
from inventory.wording import counted
from migration.campaign import Campaign, Say, silent
from migration.cutover import UnitReport, cut_over_phases, group_units, measure_provided
from migration.gates import Stage, Verdict, judge_trial, users_of
from migration.matrix import ask_throughput
from migration.measuring import OnProgress, keep, measure_now, no_progress, read_situation
from migration.moves import Phases, close_lines, everyone_else, show_phases, unit_checks
from migration.proof import Excused, Reason, ReasonKind, failing
from migration.soak import next_stage
from migration.steps import Attempt, Ended, carry_out, finish_interrupted, new_change_id, record_verdict
from migration.units import Step, UnitState, devices_under
from migration.waivers import excuse, fold_waivers
from nornir_tasks.stations.model import Outcome, Result


def prove(
    campaign: Campaign,
    units: Sequence[Unit],
    *,
    apply: bool,
    say: Say = silent,
    on_progress: OnProgress = no_progress,
) -> list[UnitReport]:
    """Withhold units' old paths together, prove every need without them, and give them back.

    Every gate is asked before anything is changed; where one refuses, nothing is withheld. Of units that are cut over, what
    fails while the old path is still there is found first, named, and refuses as well: it would fail without it.
    """
    if not apply:
        return _judge(campaign, units, say)
    with campaign.hold("prove"):
        finish_interrupted(campaign, say=say)
        for evidence in measure_provided(campaign, units, say, on_progress):
            keep(campaign, evidence)
        reports = {r.unit: r for r in _judge(campaign, units, say)}
        if all(r.verdict.allowed for r in reports.values()):
            reports = _refuse_failing(campaign, units, reports, say, on_progress)
        for report in reports.values():
            record_verdict(campaign, report.verdict)
        refused = [r for r in reports.values() if not r.verdict.allowed]
        if refused:
            return refused
        attempts = _plan(campaign, units, {u: r.verdict.excused for u, r in reports.items()})
        names = ", ".join(u.id for u in units)
        say(f"· the old {'paths' if len(units) > 1 else 'path'} of {names}: withheld for the proof, then given back")
        change_id = new_change_id(campaign, "prove")
        ended = carry_out(campaign, attempts, change_id=change_id, say=say, on_progress=on_progress)
        for end in ended:
            if end.questions is not None:
                say(f"  {end.name}: {end.questions}")
        return _reports(campaign, reports, attempts, ended)


def _refuse_failing(
    campaign: Campaign,
    units: Sequence[Unit],
    reports: dict[str, UnitReport],
    say: Say,
    on_progress: OnProgress,
) -> dict[str, UnitReport]:
    """Measure what is to hold without the old paths before they are withheld; refuse the units of which something fails.

    The line of each site they are at has to carry its floor besides. What failed is asked once more: one lost packet refuses
    nothing; nor does what an exception to the unit's next stage names, which may fail in just that way without the old path
    too. What passes serves the proof as what worked before, and is on record.
    """
    county, records = campaign.county, campaign.records()
    after = [u for u in units if records[u.id].state.reached(UnitState.CUT_OVER)]
    mine = {u.id: unit_checks(campaign, users_of(county, u, Stage.SHUT)) for u in after}
    wanted = ask_throughput({c.id: c for checks in mine.values() for c in checks}.values(), county)
    if not wanted:
        return reports
    floors = sum(c.floor_kbps > 0 for c in wanted)
    carry = f", and {counted(floors, 'line')} to carry {'its' if floors == 1 else 'their'} floor" if floors else ""
    say(
        f"· {counted(len(wanted), 'check')} that have to hold{carry}, "
        f"first with the old {'paths' if len(after) > 1 else 'path'} up"
    )
    first, evidence = measure_now(campaign, wanted, units=mine, beside=campaign.matrix.checks, on_progress=on_progress)
    keep(campaign, evidence)
    again = [r.check for r in first if r.outcome is not Outcome.PASSED]
    if not again:
        return reports
    results, evidence = measure_now(campaign, again, units=mine, on_progress=on_progress)
    keep(campaign, evidence)
    failed = {r.check.id: r for r in results if r.outcome is not Outcome.PASSED}
    if not failed:
        return reports
    waivers = fold_waivers(campaign.events(), county.policy.timers)
    out = dict(reports)
    for unit, checks in mine.items():
        found = (_say_failing(failed[c.id]) for c in checks if c.id in failed)
        against, excused = excuse(unit, next_stage(records[unit].state), found, waivers, campaign.clock.now())
        verdict = reports[unit].verdict
        judged = verdict.model_copy(
            update={
                "allowed": verdict.allowed and not against,
                "reasons": (*verdict.reasons, *against),
                "excused": (*verdict.excused, *excused),
            }
        )
        out[unit] = replace(reports[unit], verdict=judged)
    return out


def _say_failing(result: Result) -> Reason:
    check = result.check
    family = "IPv6" if check.family is Family.IPV6 else "IPv4"
    blocked = ", must be blocked" if check.expect == "blocked" else ""
    return Reason(
        station=check.station,
        service=check.service,
        why=f"fails already with the old path up, so nothing was withheld: {result.why} (from {check.plane}, {family}{blocked})",
        check=check.id,
        kind=ReasonKind.FAILED if result.outcome is Outcome.FAILED else ReasonKind.UNKNOWN,
        aspect=failing(result),
    )


def _reports(
    campaign: Campaign, judged: dict[str, UnitReport], attempts: Sequence[Attempt], ended: Sequence[Ended]
) -> list[UnitReport]:
    records = campaign.records()
    found = {
        unit: replace(judged[unit], ended=end, state=records[unit].state.value)
        for attempt, end in zip(attempts, ended, strict=True)
        for unit in attempt.units
    }
    return [found[unit] for unit in judged]


def _judge(campaign: Campaign, units: Sequence[Unit], say: Say) -> list[UnitReport]:
    county = campaign.county
    situation = read_situation(campaign, {d for u in units for d in devices_under(county, u)}, say=say)
    out = []
    for unit in units:
        verdict: Verdict = judge_trial(unit.id, situation, together=(u.id for u in units))
        phases = _phases(campaign, [unit], situation.record(unit.id).state)
        changes = show_phases(campaign, phases) if verdict.allowed else {}
        out.append(UnitReport(unit.id, verdict, changes, state=situation.record(unit.id).state.value))
    return out


def _phases(campaign: Campaign, units: Sequence[Unit], state: UnitState) -> Phases:
    if state.reached(UnitState.CUT_OVER):
        return close_lines(campaign, units)
    return cut_over_phases(campaign, units)


def _plan(campaign: Campaign, units: Sequence[Unit], excused: Mapping[str, tuple[Excused, ...]]) -> list[Attempt]:
    """Make one attempt of all old lines that are to be closed, and one for each town that is to be tried on the extranet."""
    records = campaign.records()
    after = [u for u in units if records[u.id].state.reached(UnitState.CUT_OVER)]
    before = [u for u in units if u not in after]
    attempts = [
        _attempt(campaign, group, UnitState.PROVISIONED, UnitState.CUT_OVER, excused)
        for group in group_units(campaign, before)
    ]
    if after:  # one attempt, whatever their states: they share routers, and each stays in its own
        start = min((records[u.id].state for u in after), key=lambda s: s.rank)
        attempts.append(_attempt(campaign, after, start, UnitState.SHUT, excused))
    return attempts


def _attempt(
    campaign: Campaign,
    group: Sequence[Unit],
    start: UnitState,
    end: UnitState,
    excused: Mapping[str, tuple[Excused, ...]],
) -> Attempt:
    county = campaign.county
    users = group
    if start.reached(UnitState.CUT_OVER):
        # A town's line carried its villages too, whatever has become of theirs.
        users = list(dict.fromkeys(user for unit in group for user in users_of(county, unit, Stage.SHUT)))
    ids = tuple(u.id for u in group)
    return Attempt(
        name=ids[0] if len(ids) == 1 else f"{counted(len(ids), 'unit')} with {ids[0]}".replace(" ", "-"),
        step=Step.PROVE,
        phases=_phases(campaign, group, start),
        must=unit_checks(campaign, users),
        watch=everyone_else(campaign, users),
        units=ids,
        start=start,
        end=end,
        withheld=ids,
        trial=True,
        excused=tuple(reason for unit in ids for reason in excused[unit]),
    )
