"""Cutover of a unit: its old path is withheld by a timer on the device, every need is proven over the new one, then kept.

The site's extranet router takes the LAN's IPv4 gateway from the legacy router. Both changes carry a rollback timer on
their device; the legacy side moves first and is confirmed last.
"""

from __future__ import annotations

from collections.abc import Sequence
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


def unit_checks(campaign: Campaign, unit: Unit) -> tuple[Check, ...]:
    """Return every check of the legs a unit served, both families, isolation included."""
    stations = {s.id for s in campaign.county.stations_at(unit.site, unit.plane)}
    return tuple(c for c in campaign.matrix.checks if c.station in stations and c.plane == unit.plane)


def bystander_checks(campaign: Campaign, unit: Unit) -> tuple[Check, ...]:
    """Return what must go on working for others: the plane's users elsewhere and the other planes of the unit's town."""
    county = campaign.county
    town = {s.id for s in county.sites if county.town_of(s.id) == county.town_of(unit.site)}
    mine = {c.id for c in unit_checks(campaign, unit)}
    at_county = unit.site == county.county_site.id
    out = []
    for check in campaign.matrix.checks:
        site = county.station_by_id[check.station].site
        near = site in town or (at_county and check.plane == unit.plane)
        if near and check.expect == "reach" and check.id not in mine:
            out.append(check)
    return tuple(out)


def gateway_changes(campaign: Campaign, unit: Unit, *, take: bool) -> tuple[Change, ...]:
    """Return the extranet routers' changes when a unit's gateway is taken (or given back)."""
    now = cut_over_units(campaign)
    after = now | {unit.id} if take else now - {unit.id}
    devices = devices_under(campaign.county, unit)
    old = intended_configs(campaign, devices, now - {unit.id} if take else now | {unit.id})
    new = intended_configs(campaign, devices, after)
    return tuple(Change(device=d, mode="replace", config=new[d]) for d in devices if new[d] != old[d])


def legacy_changes(campaign: Campaign, unit: Unit, start: LegacyState, end: LegacyState) -> tuple[Change, ...]:
    """Return the legacy routers' changes between two stages of a unit's old path; a shared line waits for the last unit."""
    records = fold(campaign.ledger.events(), campaign.county)
    others = {u: legacy_state_of(r.state.value) for u, r in records.items() if u != unit.id}
    patch = legacy_patch(campaign.county, campaign.topology, unit, start, end, others=others)
    return tuple(Change(device=d, mode="merge", config="\n".join(lines) + "\n") for d, lines in patch.items() if lines)


def cutover(
    campaign: Campaign,
    units: Sequence[Unit],
    *,
    apply: bool,
    say: Say = silent,
    on_progress: OnProgress = no_progress,
) -> list[UnitReport]:
    """Cut units over one after another; stop at the first that is refused or goes back."""
    if not apply:
        return [_preview(campaign, unit) for unit in units]
    out: list[UnitReport] = []
    with campaign_lock(campaign.folder, "cutover", campaign.clock):
        finish_interrupted(campaign, say=say)
        for unit in units:
            out.append(_cut_over(campaign, unit, say, on_progress))
            if out[-1].ended is None or not out[-1].ended.ok:
                break
    return out


def _preview(campaign: Campaign, unit: Unit) -> UnitReport:
    situation = read_situation(campaign, devices_under(campaign.county, unit))
    phases = (legacy_changes(campaign, unit, LegacyState.NORMAL, LegacyState.WITHHELD), gateway_changes(campaign, unit, take=True))
    return UnitReport(
        unit=unit.id,
        verdict=judge_cutover(unit.id, situation),
        changes={c.device: c.config if c.mode == "merge" else "(takes the LAN's IPv4 gateway)" for p in phases for c in p},
        state=situation.record(unit.id).state.value,
    )


def _cut_over(campaign: Campaign, unit: Unit, say: Say, on_progress: OnProgress) -> UnitReport:
    record = fold(campaign.ledger.events(), campaign.county)[unit.id]
    if record.state.reached(UnitState.PROVISIONED) and not record.state.reached(UnitState.CUT_OVER):
        # Fresh proof of what provisioning gave; the gate reads it from the ledger like any other evidence.
        provided = [c for c in unit_checks(campaign, unit) if c.unit is None]
        say(f"· {unit.id}: {len(provided)} checks of what is already provided")
        devices = devices_under(campaign.county, unit)
        measure_and_keep(campaign, provided, units=[unit.id], devices=devices, on_progress=on_progress)
    situation = read_situation(campaign, devices_under(campaign.county, unit))
    verdict = judge_cutover(unit.id, situation)
    phases = (legacy_changes(campaign, unit, LegacyState.NORMAL, LegacyState.WITHHELD), gateway_changes(campaign, unit, take=True))
    changes = {c.device: c.config if c.mode == "merge" else "(takes the LAN's IPv4 gateway)" for p in phases for c in p}
    if not verdict.allowed:
        return UnitReport(unit=unit.id, verdict=verdict, changes=changes, state=record.state.value)
    attempt = Attempt(
        name=unit.id,
        step=Step.CUTOVER,
        phases=phases,
        must=unit_checks(campaign, unit),
        watch=bystander_checks(campaign, unit),
        units=(unit.id,),
        start=record.state,
        end=UnitState.CUT_OVER,
        withheld=(unit.id,),
    )
    ended = carry_out(
        campaign, [attempt], change_id=new_change_id(campaign, "cutover"), say=say, on_progress=on_progress
    )[0]
    state = UnitState.CUT_OVER if ended.ok else record.state
    return UnitReport(unit=unit.id, verdict=verdict, changes=changes, ended=ended, state=state.value)


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
        record = fold(campaign.ledger.events(), campaign.county)[unit.id]
        attempt = Attempt(
            name=unit.id,
            step=Step.BACK,
            phases=(gateway_changes(campaign, unit, take=False), legacy_changes(campaign, unit, LegacyState.WITHHELD, LegacyState.NORMAL)),
            must=(),
            must_work=tuple(c for c in unit_checks(campaign, unit) if c.unit == unit.id),
            watch=bystander_checks(campaign, unit),
            units=(unit.id,),
            start=record.state,
            end=UnitState.PROVISIONED,
        )
        ended = carry_out(campaign, [attempt], change_id=new_change_id(campaign, "back"), say=say, on_progress=on_progress)[0]
        state = UnitState.PROVISIONED if ended.ok else record.state
        return replace(report, ended=ended, state=state.value)


def _judge_back(campaign: Campaign, unit: Unit) -> UnitReport:
    situation = read_situation(campaign, ())
    verdict = judge_back(unit.id, situation)
    state = situation.record(unit.id).state
    if verdict.allowed and state not in {UnitState.CUT_OVER, UnitState.SOAKED}:
        why = f"a cutover goes back from cut_over or soaked, found {state}; see 'extranet retire --undo'"
        verdict = Verdict(gate="back", unit=unit.id, allowed=False, reasons=(Reason(station="", service="", why=why),))
    phases = (gateway_changes(campaign, unit, take=False), legacy_changes(campaign, unit, LegacyState.WITHHELD, LegacyState.NORMAL))
    changes = {c.device: c.config if c.mode == "merge" else "(gives the LAN's IPv4 gateway back)" for p in phases for c in p}
    return UnitReport(unit=unit.id, verdict=verdict, changes=changes, state=state.value)
