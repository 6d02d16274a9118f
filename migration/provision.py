"""Provisioning: the intended configuration of the extranet's routers, pushed so that it comes back by itself."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from inventory.errors import ExtranetError, GateRefusedError
from inventory.model import EXTRANET, County, Model, Role
from migration.campaign import Campaign, Say, plain_name, silent
from migration.evidence import Bound, inventory_digest
from migration.gates import Verdict, judge_provision
from migration.measuring import OnProgress, no_progress, read_situation
from migration.moves import intended_configs
from migration.steps import Attempt, Ended, carry_out, finish_interrupted, new_change_id, record_verdict
from migration.units import Step, UnitState
from nornir_tasks import changes as wire
from nornir_tasks.changes import Change
from nornir_tasks.intent import platform_of

CORES = "cores"
"""The domain of the core routers; every other domain is a town with its villages."""


class PushRefusedError(GateRefusedError):
    """The gate refused a push; `verdict` holds every reason."""

    def __init__(self, verdict: Verdict) -> None:
        self.verdict = verdict
        super().__init__("push refused: " + "; ".join(str(r) for r in verdict.reasons))


class DiffSize(Model):
    """How many lines a difference adds and removes."""

    added: int
    removed: int


def measure_diff(text: str) -> DiffSize:
    """Count the lines that a difference adds (`+ `) and removes (`- `); others are headers."""
    lines = text.splitlines()
    return DiffSize(
        added=sum(line.startswith("+ ") for line in lines), removed=sum(line.startswith("- ") for line in lines)
    )


@dataclass(frozen=True)
class Preview:
    """What a push would change: differences by device, devices that could not be asked, and whether the gate lets it."""

    diffs: dict[str, str]
    unknown: dict[str, str]
    verdict: Verdict

    @property
    def sizes(self) -> dict[str, DiffSize]:
        """How much each device differs; those that do not are left out."""
        return {device: measure_diff(text) for device, text in self.diffs.items() if text}


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
    routers = [d for d in campaign.county.devices if d.network == EXTRANET]
    if not names:
        return sorted(d.id for d in routers)
    legacy = {plain_name(n) for d in campaign.county.devices if d.network != EXTRANET for n in (d.id, d.name)}
    here, whole = _router_names(campaign.county), _router_names(campaign.whole)
    out: list[str] = []
    for name in names:
        if plain_name(name) in legacy:
            raise ExtranetError(f"device {name!r}: a legacy router is never replaced whole; see 'extranet cutover'")
        meant = campaign.find_name("device or site", name, here, whole)
        out += [d.id for d in routers if meant in {d.id, d.site}]
    return list(dict.fromkeys(out))


def _router_names(county: County) -> dict[str, str]:
    """Return every way to name extranet routers: by their own id or name, or by their site's."""
    routers = [d for d in county.devices if d.network == EXTRANET]
    sites = [county.site_by_id[d.site] for d in routers]
    return {n: s.id for s in sites for n in (s.id, s.name)} | {n: d.id for d in routers for n in (d.id, d.name)}


def judge(campaign: Campaign, devices: Sequence[str]) -> Verdict:
    """Ask the gate whether these devices may be pushed to."""
    # What runs now is no matter here: a push replaces it whole.
    now = Bound(inventory=inventory_digest(campaign.county), plan=campaign.plan.digest, configs={})
    capabilities = {d: platform_of(campaign.county, d).capabilities for d in devices}
    situation = read_situation(campaign, current=now)
    return judge_provision(devices, situation, capabilities=capabilities, plan_digest=campaign.plan.digest)


def preview(campaign: Campaign, devices: Sequence[str], *, on_progress: OnProgress = no_progress) -> Preview:
    """Ask every device what the intended configuration would change, and the gate whether it might be pushed."""
    configs = intended_configs(campaign, devices)

    def on_event(event: wire.Event) -> None:
        on_progress(event.done, event.of, f"devices, last {event.device}")

    wanted = [Change(device=d, mode="replace", config=t) for d, t in configs.items()]
    out = wire.compare(campaign.nornir, wanted, on_event=on_event)
    diffs = {d: r.value or "" for d, r in out.items() if r.ok}
    unknown = {d: (out[d].error if d in out else f"{d}: no answer was recorded") for d in configs if d not in diffs}
    return Preview(diffs=diffs, unknown=unknown, verdict=judge(campaign, devices))


def provision(
    campaign: Campaign, devices: Sequence[str], *, say: Say = silent, on_progress: OnProgress = no_progress
) -> PushReport:
    """Push, prove from the stations and confirm: cores first, then all towns together, each kept or going back alone.

    Raises:
        PushRefusedError: the gate says no; nothing was changed.
    """
    with campaign.hold("config push"):
        finish_interrupted(campaign, say=say)
        verdict = judge(campaign, devices)
        if not verdict.allowed:
            record_verdict(campaign, verdict)
            raise PushRefusedError(verdict)
        configs = intended_configs(campaign, devices)
        change_id = new_change_id(campaign, "push")
        domains = group_by_domain(campaign, devices)
        ended: list[Ended] = []
        for wave in ([CORES], [d for d in domains if d != CORES]):
            attempts = [_attempt(campaign, d, domains[d], configs, everywhere=d == CORES) for d in wave if d in domains]
            if not attempts:
                continue
            if ended and not all(e.ok for e in ended):
                say("! the cores were not kept, so no town is tried")
                ended += [Ended(a.name, "undone", reasons=["the cores were not kept"], tried=False) for a in attempts]
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
    county, records = campaign.county, campaign.records()
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
