"""Whether the ports that a step closed are down: by what the routers say of them, not by what they are configured to."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

from migration.campaign import Campaign
from nornir_tasks.changes import Change
from nornir_tasks.drivers import Driver
from nornir_tasks.hosts import run_on_devices
from nornir_tasks.old_line import UsageRead

_PORT = "interface "


def closed_ports(changes: Iterable[Change]) -> dict[str, frozenset[str]]:
    """Return the ports that merged lines close, by device."""
    out: dict[str, set[str]] = defaultdict(set)
    for change in changes:
        port = ""
        for line in change.config.splitlines() if change.mode == "merge" else ():
            if line.startswith(_PORT):
                port = line.removeprefix(_PORT).strip()
            elif not line.startswith(" "):
                port = ""
            elif port and line.strip() == "shutdown":
                out[change.device].add(port)
    return {device: frozenset(ports) for device, ports in out.items()}


def find_open(campaign: Campaign, wanted: Mapping[str, frozenset[str]]) -> dict[str, list[str]]:
    """Return, by device, why ports that were closed are not known to be down; nothing for those that are.

    A router may run the line that closes a port while something else on it, a watchdog or a script, has opened it again.
    """
    if not wanted:
        return {}

    def ask(driver: Driver) -> UsageRead:
        return driver.read_usage((), listen_s=0)

    outcomes = run_on_devices(campaign.nornir, ask, sorted(wanted))
    out: dict[str, list[str]] = {}
    for device, ports in wanted.items():
        said = outcomes[device].value if device in outcomes else None
        for name in sorted(ports):
            seen = said.usage.port(name) if said is not None else None
            if seen is None:
                why = outcomes[device].error if device in outcomes else ""
                out.setdefault(device, []).append(
                    f"{device} port {name}: was closed - whether it is down is not known{f': {why}' if why else ''}"
                )
            elif seen.up:
                out.setdefault(device, []).append(
                    f"{device} port {name}: was closed and is up - something on the router opens it again"
                )
    return out
