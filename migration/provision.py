"""Provisioning: the intended configuration of the extranet's routers, pushed so that it comes back by itself."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from inventory.errors import ExtranetError, UnknownNameError
from inventory.model import EXTRANET, Role
from migration.campaign import Campaign, Say, silent
from migration.ledger import campaign_lock
from migration.measuring import OnProgress, no_progress
from migration.steps import Attempt, Ended, carry_out, finish_interrupted, new_change_id
from migration.units import Step, UnitState, fold
from nornir_tasks import changes as wire
from nornir_tasks.changes import Change
from nornir_tasks.hosts import build_nornir
from nornir_tasks.intent import render_all

CORES = "cores"
"""The domain of the core routers; every other domain is a town with its villages."""


@dataclass(frozen=True)
class Preview:
    """What a push would change: differences by device, and devices that could not be asked with the reason."""

    diffs: dict[str, str]
    unknown: dict[str, str]


@dataclass(frozen=True)
class PushReport:
    """How each domain ended. A domain is what is kept or goes back together."""

    target: str
    change_id: str
    domains: tuple[Ended, ...]

    @property
    def exit_code(self) -> int:
        """0 all kept, 1 something went back, 4 something is not known; a push of nothing is 1."""
        if any(d.ending == "failed" for d in self.domains):
            return 4
        return 0 if self.domains and all(d.ok for d in self.domains) else 1

    def as_json(self) -> dict[str, Any]:
        """Return the report for machines."""
        return {
            "target": self.target,
            "change": self.change_id,
            "exit_code": self.exit_code,
            "domains": [d.as_json() for d in self.domains],
        }


def choose_devices(campaign: Campaign, names: Iterable[str] | None) -> list[str]:
    """Return extranet routers for device ids, site ids or names; all of them when none is named."""
    county = campaign.county
    routers = [d for d in county.devices if d.network == EXTRANET]
    if not names:
        return sorted(d.id for d in routers)
    out: list[str] = []
    for name in names:
        wanted = name.strip()
        site = next((s.id for s in county.sites if s.name == wanted), wanted)
        found = [d.id for d in routers if wanted in {d.id, d.name} or d.site == site]
        if not found:
            if wanted in county.device_by_id:
                raise ExtranetError(
                    f"device {wanted!r}: a legacy router is never replaced whole; see 'extranet cutover'"
                )
            raise UnknownNameError("device or site", name, [*(d.id for d in routers), *county.site_by_id])
        out += found
    return list(dict.fromkeys(out))


def cut_over_units(campaign: Campaign) -> frozenset[str]:
    """Return the units whose LAN gateway the extranet holds, by the ledger."""
    if not (campaign.folder / "ledger.sqlite").exists():
        return frozenset()
    records = fold(campaign.ledger.events(), campaign.county)
    return frozenset(u for u, r in records.items() if r.state.reached(UnitState.CUT_OVER))


def intended_configs(
    campaign: Campaign, devices: Sequence[str], cut_over: frozenset[str] | None = None
) -> dict[str, str]:
    """Return whole intended configurations by device; `cut_over` defaults to what the ledger says."""
    try:
        backend = campaign.access.vrf_backend
        units = cut_over_units(campaign) if cut_over is None else cut_over
    except ExtranetError:
        backend, units = "device", frozenset() if cut_over is None else cut_over  # rendering alone needs no network
    return render_all(campaign.county, campaign.topology, campaign.plan, units, backend, devices)


def preview(campaign: Campaign, devices: Sequence[str], *, on_progress: OnProgress = no_progress) -> Preview:
    """Ask every device what the intended configuration would change."""
    configs = intended_configs(campaign, devices)
    nornir = build_nornir(campaign.county, campaign.access, list(devices))

    def on_event(event: wire.Event) -> None:
        on_progress(event.done, event.of, f"devices, last {event.device}")

    out = wire.compare(
        nornir, [Change(device=d, mode="replace", config=t) for d, t in configs.items()], on_event=on_event
    )
    diffs = {d: r.value or "" for d, r in out.items() if r.ok}
    unknown = {d: (out[d].error if d in out else f"{d}: no answer was recorded") for d in configs if d not in diffs}
    return Preview(diffs=diffs, unknown=unknown)


def provision(
    campaign: Campaign, devices: Sequence[str], *, say: Say = silent, on_progress: OnProgress = no_progress
) -> PushReport:
    """Push, prove from the stations and confirm: cores first, then all towns together, each kept or going back alone."""
    with campaign_lock(campaign.folder, "config push", campaign.clock):
        finish_interrupted(campaign, say=say)
        configs = intended_configs(campaign, devices)
        change_id = new_change_id(campaign, "push")
        domains = group_by_domain(campaign, devices)
        ended: list[Ended] = []
        for wave in ([CORES], [d for d in domains if d != CORES]):
            attempts = [_attempt(campaign, d, domains[d], configs, everywhere=d == CORES) for d in wave if d in domains]
            if not attempts:
                continue
            if ended and not all(e.ok for e in ended):
                say("! the cores went back, so no town is tried")
                ended += [Ended(a.name, "undone", reasons=["not tried: the cores went back"]) for a in attempts]
                continue
            ended += carry_out(campaign, attempts, change_id=change_id, say=say, on_progress=on_progress)
        return PushReport(target=campaign.target, change_id=change_id, domains=tuple(ended))


def group_by_domain(campaign: Campaign, devices: Sequence[str]) -> dict[str, list[str]]:
    """Return devices by what is kept or goes back together: the cores, or a town with its villages."""
    out: dict[str, list[str]] = {}
    for device in devices:
        found = campaign.county.device_by_id[device]
        domain = CORES if found.role is Role.CORE else campaign.county.town_of(found.site)
        out.setdefault(domain, []).append(device)
    return out


def _attempt(
    campaign: Campaign, domain: str, devices: Sequence[str], configs: dict[str, str], *, everywhere: bool
) -> Attempt:
    """Make a domain's attempt: its stations must reach all that provisioning provides; what worked must go on.

    The cores carry everybody, so with them every station is watched.
    """
    county = campaign.county
    records = fold(campaign.ledger.events(), county)
    sites = {county.device_by_id[d].site for d in devices}
    stations = {s.id for s in county.stations if s.site in sites}
    town = {s.id for s in county.sites if county.town_of(s.id) == domain}
    watched = {s.id for s in county.stations if everywhere or s.site in town}
    units = tuple(
        u.id for u in county.units if u.site in sites and not records[u.id].state.reached(UnitState.PROVISIONED)
    )
    return Attempt(
        name=domain,
        step=Step.PROVISION,
        phases=(tuple(Change(device=d, mode="replace", config=configs[d]) for d in devices),),
        must=tuple(c for c in campaign.matrix.provisioned().checks if c.station in stations),
        watch=tuple(c for c in campaign.matrix.checks if c.station in watched and c.expect == "reach"),
        units=units,
        start=UnitState.PLANNED,
        end=UnitState.PROVISIONED,
    )
