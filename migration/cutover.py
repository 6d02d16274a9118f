"""Cutover of a unit: its old path is withheld by a timer on the device, every need is proven over the new one, then kept.

The site's extranet router takes the LAN's IPv4 gateway from the legacy router. Both changes carry a rollback timer on
their device; the legacy side moves first and is confirmed last.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from inventory.errors import GateRefusedError
from inventory.model import Unit
from migration.campaign import Campaign, Say, silent
from migration.gates import Verdict, judge_back, judge_cutover
from migration.ledger import campaign_lock
from migration.measuring import OnProgress, measure_and_keep, no_progress, read_situation
from migration.proof import Reason
from migration.provision import cut_over_units, intended_configs
from migration.steps import Attempt, Ended, carry_out, finish_interrupted, new_change_id
from migration.units import Step, UnitState, devices_under, fold
from nornir_tasks.changes import Change
from nornir_tasks.intent import legacy_patch
from nornir_tasks.platforms.frr.legacy import LegacyState, legacy_state_of
from nornir_tasks.stations.model import Check


class RefusedError(GateRefusedError):
    """A gate refused a unit; `verdict` holds every reason, by station."""

    def __init__(self, verdict: Verdict) -> None:
        self.verdict = verdict
        first = f"; first: {verdict.reasons[0]}" if verdict.reasons else ""
        super().__init__(f"{verdict.unit}: {verdict.gate} refused, {len(verdict.reasons)} reasons{first}")


@dataclass(frozen=True)
class UnitReport:
    """What was (or would be) done to one unit."""

    unit: str
    verdict: Verdict
    changes: dict[str, str]
    ended: Ended | None = None
    state: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return the report for machines."""
        return {
            "unit": self.unit,
            "state": self.state,
            "allowed": self.verdict.allowed,
            "gate": self.verdict.gate,
            "reasons": [r.model_dump(mode="json") for r in self.verdict.reasons],
            "changes": self.changes,
            "outcome": self.ended.as_json() if self.ended else None,
        }


def unit_checks(campaign: Campaign, units: Iterable[Unit]) -> tuple[Check, ...]:
    """Return every check of the legs these units serve, both families, isolation included."""
    legs = {(s.id, u.plane) for u in units for s in campaign.county.stations_at(u.site, u.plane)}
    return tuple(c for c in campaign.matrix.checks if (c.station, c.plane) in legs)


def bystander_checks(campaign: Campaign, units: Sequence[Unit]) -> tuple[Check, ...]:
    """Return what must go on working for others: the other planes of the units' towns, and with a county unit its whole plane."""
    county = campaign.county
    towns = {county.town_of(u.site) for u in units}
    planes = {u.plane for u in units if u.site == county.county_site.id}
    mine = {c.id for c in unit_checks(campaign, units)}
    return tuple(
        c
        for c in campaign.matrix.checks
        if c.expect == "reach"
        and c.id not in mine
        and (county.town_of(county.station_by_id[c.station].site) in towns or c.plane in planes)
    )


def gateway_changes(campaign: Campaign, units: Sequence[Unit], *, take: bool) -> tuple[Change, ...]:
    """Return the extranet routers' changes when units' gateways are taken (or given back)."""
    ids = {u.id for u in units}
    without = cut_over_units(campaign) - ids
    devices = sorted({d for u in units for d in devices_under(campaign.county, u)})
    old = intended_configs(campaign, devices, without if take else without | ids)
    new = intended_configs(campaign, devices, without | ids if take else without)
    return tuple(Change(device=d, mode="replace", config=new[d]) for d in devices if new[d] != old[d])


def legacy_changes(
    campaign: Campaign, units: Sequence[Unit], start: LegacyState, end: LegacyState
) -> tuple[Change, ...]:
    """Return the legacy routers' changes between two stages of units' old paths; a shared line waits for the last unit."""
    records = fold(campaign.ledger.events(), campaign.county)
    states = {u: legacy_state_of(r.state.value) for u, r in records.items()} | {u.id: start for u in units}
    lines: dict[str, list[str]] = {}
    for unit in units:
        others = {u: s for u, s in states.items() if u != unit.id}
        for device, block in legacy_patch(campaign.county, campaign.topology, unit, start, end, others=others).items():
            lines.setdefault(device, []).extend(block)
        states[unit.id] = end
    return tuple(Change(device=d, mode="merge", config="\n".join(block) + "\n") for d, block in lines.items())


def show_changes(phases: Iterable[tuple[Change, ...]], what: str) -> dict[str, str]:
    """Return a person's view of changes by device: merged lines as they are, whole configurations by what they mean."""
    return {c.device: c.config if c.mode == "merge" else f"({what})" for phase in phases for c in phase}


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
    """Cut units over: the county's first, then all towns at once, each town's units together.

    Every gate is asked before anything is changed; where one refuses, or the county's units go back, the rest is not tried.
    """
    groups = group_units(campaign, units)
    if not apply:
        return _judge(campaign, units)
    out: list[UnitReport] = []
    first = campaign.county.county_site.id
    with campaign_lock(campaign.folder, "cutover", campaign.clock):
        finish_interrupted(campaign, say=say)
        for wave in ([g for g in groups if g[0].site == first], [g for g in groups if g[0].site != first]):
            if not wave:
                continue
            out += _cut_over(campaign, wave, say, on_progress)
            if not all(r.verdict.allowed and r.ended is not None and r.ended.ok for r in out):
                break
    return out


def _judge(campaign: Campaign, units: Sequence[Unit]) -> list[UnitReport]:
    situation = read_situation(campaign, {d for u in units for d in devices_under(campaign.county, u)})
    out = []
    for unit in units:
        phases = (
            legacy_changes(campaign, [unit], LegacyState.NORMAL, LegacyState.WITHHELD),
            gateway_changes(campaign, [unit], take=True),
        )
        out.append(
            UnitReport(
                unit=unit.id,
                verdict=judge_cutover(unit.id, situation),
                changes=show_changes(phases, "takes the LAN's IPv4 gateway"),
                state=situation.record(unit.id).state.value,
            )
        )
    return out


def _cut_over(
    campaign: Campaign, wave: Sequence[tuple[Unit, ...]], say: Say, on_progress: OnProgress
) -> list[UnitReport]:
    units = [u for group in wave for u in group]
    records = fold(campaign.ledger.events(), campaign.county)
    ready = [u for u in units if records[u.id].state in {UnitState.PROVISIONED, UnitState.PROVEN}]
    if ready:
        # Fresh proof of what provisioning gave; the gate reads it from the ledger like any other evidence.
        provided = [c for c in unit_checks(campaign, ready) if c.unit is None]
        say(f"· {len(ready)} units: {len(provided)} checks of what is already provided")
        devices = {d for u in ready for d in devices_under(campaign.county, u)}
        measure_and_keep(campaign, provided, units=[u.id for u in ready], devices=devices, on_progress=on_progress)
    reports = {r.unit: r for r in _judge(campaign, units)}
    if not all(r.verdict.allowed for r in reports.values()):
        return list(reports.values())
    attempts = [
        Attempt(
            name=group[0].id if len(group) == 1 else campaign.county.town_of(group[0].site),
            step=Step.CUTOVER,
            phases=(
                legacy_changes(campaign, group, LegacyState.NORMAL, LegacyState.WITHHELD),
                gateway_changes(campaign, group, take=True),
            ),
            must=unit_checks(campaign, group),
            watch=bystander_checks(campaign, group),
            units=tuple(u.id for u in group),
            start=records[group[0].id].state,
            end=UnitState.CUT_OVER,
            withheld=tuple(u.id for u in group),
        )
        for group in wave
    ]
    ended = carry_out(
        campaign, attempts, change_id=new_change_id(campaign, "cutover"), say=say, on_progress=on_progress
    )
    for attempt, end in zip(attempts, ended, strict=True):
        for unit in attempt.units:
            state = UnitState.CUT_OVER if end.ok else records[unit].state
            reports[unit] = replace(reports[unit], ended=end, state=state.value)
    return list(reports.values())


def give_back(
    campaign: Campaign, unit: Unit, *, apply: bool, say: Say = silent, on_progress: OnProgress = no_progress
) -> UnitReport:
    """Take a cutover back: the legacy router holds the LAN's gateway again."""
    if not apply:
        return _judge_back(campaign, unit)
    with campaign_lock(campaign.folder, "cutover --back", campaign.clock):
        finish_interrupted(campaign, say=say)
        report = _judge_back(campaign, unit)
        if not report.verdict.allowed:
            return report
        attempt = Attempt(
            name=unit.id,
            step=Step.BACK,
            phases=_back_phases(campaign, unit),
            must=(),
            must_work=tuple(c for c in unit_checks(campaign, [unit]) if c.unit == unit.id),
            watch=bystander_checks(campaign, [unit]),
            units=(unit.id,),
            start=UnitState(report.state),
            end=UnitState.PROVISIONED,
        )
        ended = carry_out(
            campaign, [attempt], change_id=new_change_id(campaign, "back"), say=say, on_progress=on_progress
        )[0]
        return replace(report, ended=ended, state=UnitState.PROVISIONED.value if ended.ok else report.state)


def _back_phases(campaign: Campaign, unit: Unit) -> tuple[tuple[Change, ...], ...]:
    return (
        gateway_changes(campaign, [unit], take=False),
        legacy_changes(campaign, [unit], LegacyState.WITHHELD, LegacyState.NORMAL),
    )


def _judge_back(campaign: Campaign, unit: Unit) -> UnitReport:
    situation = read_situation(campaign, ())
    verdict = judge_back(unit.id, situation)
    state = situation.record(unit.id).state
    if verdict.allowed and state not in {UnitState.CUT_OVER, UnitState.SOAKED}:
        why = f"a cutover goes back from cut_over or soaked, found {state}; see 'extranet retire --undo'"
        verdict = Verdict(gate="back", unit=unit.id, allowed=False, reasons=(Reason(station="", service="", why=why),))
    changes = show_changes(_back_phases(campaign, unit), "gives the LAN's IPv4 gateway back")
    return UnitReport(unit=unit.id, verdict=verdict, changes=changes, state=state.value)
