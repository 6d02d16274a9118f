"""What it takes to build a removed line anew, in one folder: configurations, addresses, the line's data, the order of work.

After `removed` this is the only way back. Nothing here touches a device: a person orders the line and enters the lines.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from inventory.errors import GateRefusedError
from inventory.files import check_writable, write_whole
from inventory.model import Model, Unit
from migration.archive import Archive, collect_archives, read_config
from migration.campaign import Campaign
from migration.dossier import Dossier
from migration.units import UnitRecord, UnitState, devices_under
from nornir_tasks.intent import legacy_patch
from nornir_tasks.platforms.frr.legacy import LegacyState, legacy_state_of


class NothingArchivedError(GateRefusedError):
    """There is nothing to rebuild a line from. `why` says what is missing."""

    def __init__(self, unit: str, why: str) -> None:
        self.unit, self.why = unit, why
        super().__init__(f"{unit}: cannot be rebuilt from the archive: {why}")


class Rebuild(Model):
    """What was written where. `configs` maps each file to the digest of its content."""

    unit: str
    folder: str
    configs: dict[str, str]
    lines: tuple[str, ...]


def choose_archives(unit: str, archives: Sequence[Archive]) -> tuple[Archive, ...]:
    """Return the first whole archive and the last one: the line as it was, and what was left right before removal."""
    whole = [a for a in archives if a.whole and a.dossier is not None]
    if not whole:
        lost = [why for a in archives for why in (*a.lost.values(), a.problem) if why]
        raise NothingArchivedError(unit, lost[0] if lost else "nothing was archived")
    return (whole[0],) if len(whole) == 1 else (whole[0], whole[-1])


def write_rebuild(campaign: Campaign, unit: Unit, out: Path) -> Rebuild:
    """Write everything that is needed to build a unit's line anew into a folder that only its owner may read.

    Raises:
        NothingArchivedError: there is no whole archive.
    """
    events = campaign.events()
    chosen = choose_archives(unit.id, collect_archives(campaign.folder, events).get(unit.id, ()))
    records = campaign.records()
    dossier = chosen[-1].dossier
    assert dossier is not None  # noqa: S101 - choose_archives gives no other
    check_writable(out / "README.md", make_folders=True)
    out.mkdir(mode=0o700, parents=True, exist_ok=True)
    configs: dict[str, str] = {}
    for archive in chosen:
        for device, digest in archive.configs.items():
            name = f"{device}.{archive.state}.cfg"
            write_whole(out / name, read_config(campaign.folder, digest), mode=0o600)
            configs[name] = digest
    lines = _lines_to_enter(campaign, unit, records)
    for device, text in lines.items():
        write_whole(out / f"{device}.enter.txt", text)
    write_whole(out / "line.json", dossier.model_dump_json(indent=1) + "\n")
    write_whole(
        out / "README.md",
        _say_order(campaign, unit, dossier=dossier, chosen=chosen, lines=lines, record=records[unit.id]),
    )
    return Rebuild(
        unit=unit.id, folder=str(out), configs=configs, lines=tuple(f"{device}.enter.txt" for device in lines)
    )


def _lines_to_enter(campaign: Campaign, unit: Unit, records: Mapping[str, UnitRecord]) -> dict[str, str]:
    """Return what to enter on routers that still run, beside other units' lines, to have the old path as it was."""
    states = {u: legacy_state_of(r.state.value) for u, r in records.items()}
    others = {u: s for u, s in states.items() if u != unit.id}
    patch = legacy_patch(campaign.county, campaign.topology, unit, states[unit.id], LegacyState.NORMAL, others=others)
    return {device: "\n".join(lines) + "\n" for device, lines in patch.items()}


def _say_order(
    campaign: Campaign,
    unit: Unit,
    *,
    dossier: Dossier,
    chosen: Sequence[Archive],
    lines: Mapping[str, str],
    record: UnitRecord,
) -> str:
    circuit = f"{dossier.circuit}: {dossier.provider or 'no provider in circuits.csv'}, {dossier.bandwidth_mbps} Mbit/s"
    holders = [d for d in devices_under(campaign.county, unit) if campaign.county.device_by_id[d].site == unit.site]
    far = dossier.far_device
    order = _order_of_work(dossier, lines, record, holders)
    return "\n".join(
        [
            f"# Rebuild {unit.id}",
            "",
            f"{dossier.network_name} at {dossier.site_name} ({dossier.tenant}); answers for it: {dossier.responsible}.",
            f"It stands at `{record.state}`" + (f" since {record.since:%Y-%m-%d}." if record.since else "."),
            "",
            "## The line",
            "",
            "| what | value |",
            "| --- | --- |",
            f"| circuit | {circuit} |",
            f"| rent | ¥{dossier.monthly_rent_yuan:,} a month, contract until {dossier.contract_end or 'not known'} |",
            f"| router at the site | {dossier.device or 'none: the line carries the LAN itself'} |",
            f"| ports there | WAN {dossier.port or '-'}, LAN {dossier.lan_port or '-'} |",
            f"| far end | {f'{far}, port {dossier.far_port}' if far else 'none: this is the hub'} |",
            f"| LAN | {dossier.lan_prefix}, gateway {dossier.gateway} |",
            f"| WAN | {dossier.wan_prefix or '-'} |",
            "",
            "## The configurations",
            "",
            "Whole, as they ran; they may hold passwords, so only their owner may read them. Do not load one whole onto a",
            "router that other lines still use: enter the lines of `*.enter.txt` instead.",
            "",
            "| taken | when the unit was | router | sha256 |",
            "| --- | --- | --- | --- |",
            *(
                f"| {a.at:%Y-%m-%d %H:%M}Z | {a.state} | {d} | `{sha}` |"
                for a in chosen
                for d, sha in a.configs.items()
            ),
            "",
            "## The order of work",
            "",
            *(f"{n}. {step}" for n, step in enumerate(order, 1)),
            "",
        ]
    )


def _order_of_work(dossier: Dossier, lines: Mapping[str, str], record: UnitRecord, holders: Sequence[str]) -> list[str]:
    order = []
    if not record.state.reached(UnitState.REMOVED):
        order.append(
            "The unit is not removed yet: `extranet retire --undo` takes its stages back; this folder is a spare."
        )
    if dossier.taken_over_by:
        order.append(f"Its cable carries {dossier.taken_over_by} of the extranet now: order another line, as above.")
    elif dossier.far_device and record.state is UnitState.RELEASED:
        order.append(f"Its line was given back: order one like it from {dossier.provider or 'a provider'}.")
    elif dossier.far_device:
        order.append(f"See that the line of {dossier.provider or 'the provider'} is still connected at both ends.")
    # Far end last: the site's people change paths only when all behind is ready.
    mine = [d for d in lines if d == dossier.device]
    ends = [d for d in lines if d not in mine] + mine
    off = f"off the extranet's router ({holders[0]})" if holders else "off the extranet's router"
    order += [
        f"See that the LAN is unplugged from the legacy router's port: the extranet holds its gateway {dossier.gateway} now.",
        *(f"On {d}: enter {d}.enter.txt; see that it now runs as in its archived configuration." for d in ends),
        f"Ping {dossier.gateway} from the hub's side; the LAN stays unplugged until the next step.",
        f"In one maintenance window: take the LAN's gateway {dossier.gateway} {off}, then plug the LAN in.",
        "Two gateways at once serve nobody: keep that order.",
        "Measure every window of the site at the old path before anybody leaves.",
        "Leave its rows in the survey as they are: so its addresses stay its own, and out of everybody else's reach.",
        f"The ledger keeps {dossier.unit} as {record.state}: under this name it is not moved a second time.",
    ]
    return order
