"""What routers must hold when units move from one state to another: pure consequences of inventory, plan and ledger.

A unit's old path is the legacy side of its state; its new path is the LAN's gateway on the extranet, held from
`cut_over` on. Onwards the legacy side moves first, backwards last: should everything stop in between, two gateways
stand beside each other for a while, never none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from inventory.access import AccessMissingError
from inventory.model import Unit
from migration.campaign import Campaign
from migration.units import UnitState, devices_under
from nornir_tasks.changes import Change
from nornir_tasks.intent import VrfBackend, legacy_patch, platform_of, render_all
from nornir_tasks.platforms.frr.legacy import legacy_state_of
from nornir_tasks.stations.model import Check

Phases = tuple[tuple[Change, ...], ...]
"""Changes in the order in which they are made: a phase's changes go together."""


def cut_over_units(campaign: Campaign) -> frozenset[str]:
    """Return the units whose LAN gateway the extranet holds, by the ledger."""
    return frozenset(u for u, r in campaign.records().items() if r.state.reached(UnitState.CUT_OVER))


def intended_configs(
    campaign: Campaign, devices: Sequence[str], cut_over: frozenset[str] | None = None
) -> dict[str, str]:
    """Return whole intended configurations by device; `cut_over` defaults to what the ledger says."""
    backend: VrfBackend
    try:
        backend = campaign.access.vrf_backend
    except AccessMissingError:
        backend = "device"  # rendering alone needs no network
    units = cut_over_units(campaign) if cut_over is None else cut_over
    return render_all(campaign.county, campaign.topology, campaign.plan, units, backend, devices)


def move_units(campaign: Campaign, units: Sequence[Unit], start: UnitState, end: UnitState) -> Phases:
    """Return the changes that take units, all of them in `start`, to `end`; phases without a change are left out."""
    phases = [_legacy_changes(campaign, units, dict.fromkeys((u.id for u in units), start), end)]
    held, holds = (s.reached(UnitState.CUT_OVER) for s in (start, end))
    if held != holds:
        phases.append(_gateway_changes(campaign, units, take=holds))
    if end.rank < start.rank:
        phases.reverse()
    return tuple(phase for phase in phases if phase)


def close_lines(campaign: Campaign, units: Sequence[Unit], *, reopen: bool = False) -> Phases:
    """Return the changes that close the old lines of units that are cut over, each from its own state; or that `reopen` them.

    Whoever is drained already stays drained: its line alone is closed and opened.
    """
    own = {u.id: campaign.records()[u.id].state for u in units}
    shut = dict.fromkeys(own, UnitState.SHUT)
    changes = _legacy_changes(campaign, units, *((shut, own) if reopen else (own, shut)))
    return (changes,) if changes else ()


def _gateway_changes(campaign: Campaign, units: Sequence[Unit], *, take: bool) -> tuple[Change, ...]:
    """Return the extranet routers' changes when units' gateways are taken (or given back)."""
    ids = {u.id for u in units}
    without = cut_over_units(campaign) - ids
    devices = sorted({d for u in units for d in devices_under(campaign.county, u)})
    old = intended_configs(campaign, devices, without if take else without | ids)
    new = intended_configs(campaign, devices, without | ids if take else without)
    return tuple(Change(device=d, mode="replace", config=new[d]) for d in devices if new[d] != old[d])


def _legacy_changes(
    campaign: Campaign, units: Sequence[Unit], start: Mapping[str, UnitState], end: UnitState | Mapping[str, UnitState]
) -> tuple[Change, ...]:
    """Return the legacy routers' changes between two stages of units' old paths; a shared line waits for the last unit."""
    before = {u: legacy_state_of(s.value) for u, s in start.items()}
    states = {u: legacy_state_of(r.state.value) for u, r in campaign.records().items()} | before
    lines: dict[str, list[str]] = {}
    for unit in units:
        others = {u: s for u, s in states.items() if u != unit.id}
        after = legacy_state_of((end if isinstance(end, UnitState) else end[unit.id]).value)
        patch = legacy_patch(campaign.county, campaign.topology, unit, before[unit.id], after, others=others)
        for device, block in patch.items():
            lines.setdefault(device, []).extend(block)
        states[unit.id] = after
    return tuple(Change(device=d, mode="merge", config="\n".join(block) + "\n") for d, block in lines.items())


def show_phases(campaign: Campaign, phases: Phases) -> dict[str, str]:
    """Return a person's view of changes by device: merged lines as they are, whole configurations as differences.

    Differences are from what is intended now, by the ledger; no device is asked.
    """
    changes = [c for phase in phases for c in phase]
    now = intended_configs(campaign, [c.device for c in changes if c.mode == "replace"])
    return {
        c.device: c.config
        if c.mode == "merge"
        else platform_of(campaign.county, c.device).compare(now[c.device], c.config)
        for c in changes
    }


def keep_unknown_gateways(campaign: Campaign) -> Callable[[str, str], str]:
    """Return what forbids provisioning to withdraw a LAN's gateway that this ledger never gave to the router.

    Such a ledger is not the one under which the unit was cut over: a copy from before, or another's.
    """
    held = cut_over_units(campaign)
    gateways: dict[tuple[str, str], list[str]] = {}
    for unit in campaign.county.units:
        if unit.id not in held:
            for device in devices_under(campaign.county, unit):
                gateways.setdefault((device, str(unit.gateway)), []).append(unit.id)

    def forbid(device: str, diff: str) -> str:
        for line in diff.splitlines():
            for word in line.split() if line.startswith("-") else ():
                units = gateways.get((device, word.partition("/")[0]))
                if units:
                    return (
                        f"holds {word}, the gateway of {' or '.join(units)}, by this ledger never cut over - expected the ledger "
                        "under which it was; restore it, or take the gateway back with 'extranet cutover --back'"
                    )
        return ""

    return forbid


def unit_checks(campaign: Campaign, units: Iterable[Unit]) -> tuple[Check, ...]:
    """Return every check of the legs these units serve, both families, isolation included."""
    legs = {(s.id, u.plane) for u in units for s in campaign.county.stations_at(u.site, u.plane)}
    return tuple(c for c in campaign.matrix.checks if (c.station, c.plane) in legs)


def everyone_else(campaign: Campaign, units: Iterable[Unit]) -> tuple[Check, ...]:
    """Return every check of the matrix that is not of these units' legs: what a change must leave as it is."""
    mine = {c.id for c in unit_checks(campaign, units)}
    return tuple(c for c in campaign.matrix.checks if c.id not in mine)


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
