"""Whether the ports of old lines that a step closes are down: by what the routers say of them, not by their configuration."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

from inventory.model import County
from migration.campaign import Campaign
from migration.old_lines import line_of
from migration.units import UnitState
from nornir_tasks.drivers import Driver
from nornir_tasks.hosts import run_on_devices
from nornir_tasks.old_line import UsageRead
from nornir_tasks.platforms.frr.legacy import legacy_facts, legacy_state_of

_PORT = "interface "

Port = tuple[str, str]
"""A device and the name of one of its ports."""


def ports_to_be_down(county: County, units: Iterable[str], states: Mapping[str, UnitState]) -> frozenset[Port]:
    """Return the ports of some units' old lines that have to be down while all units are in these states.

    Also those that were down before, whoever closed them: what is not to carry anybody is asked, not what was changed.
    """
    by_network: dict[str, set[Port]] = defaultdict(set)
    for name in units:
        unit = county.unit_by_id[name]
        by_network[unit.network].update((p.device, p.name) for p in line_of(county, unit).ports)
    out: set[Port] = set()
    for network, ports in by_network.items():
        facts = legacy_facts(county, network, {u: legacy_state_of(s.value) for u, s in states.items()})
        out |= {(d, p) for d, p in ports if facts.get(d, {}).get((_PORT + p, "shutdown"), False)}
    return frozenset(out)


def find_open(campaign: Campaign, wanted: Iterable[Port]) -> dict[Port, str]:
    """Return why ports that were closed are not known to be down; nothing for those that are.

    A router may run the line that closes a port while something else on it, a watchdog or a script, has opened it again.
    """
    ports = sorted(set(wanted))
    if not ports:
        return {}

    def ask(driver: Driver) -> UsageRead:
        return driver.read_usage((), listen_s=0)

    outcomes = run_on_devices(campaign.nornir, ask, sorted({device for device, _ in ports}))
    out: dict[Port, str] = {}
    for device, name in ports:
        said = outcomes[device].value if device in outcomes else None
        seen = said.usage.port(name) if said is not None else None
        if seen is None:
            why = outcomes[device].error if device in outcomes else ""
            out[device, name] = (
                f"{device} port {name}: was closed - whether it is down is not known{f': {why}' if why else ''}"
            )
        elif seen.up:
            out[device, name] = f"{device} port {name}: was closed and is up - something on the router opens it again"
    return out
