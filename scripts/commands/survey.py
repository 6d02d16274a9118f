"""`extranet survey`: is the inventory right."""

from __future__ import annotations

import typer

from inventory.wording import counted
from scripts.commands._shell import HERE, AsJson, CountyDir, boundary, console, print_json

app = typer.Typer(no_args_is_help=True)


@app.callback()
def group() -> None:
    """Read the inventory and list all that is wrong with it."""


@app.command()
@boundary
def check(county: CountyDir = HERE, *, as_json: AsJson = False) -> None:
    """Read every file of the county; list all problems at once, what is refused, and which ranges meet.

    Exit 0 when the inventory can be used, 2 with the full list of problems when it cannot.
    """
    from rich.markup import escape

    from inventory.reader import find_overlaps, load_county
    from migration.quarantine import find_conflicts
    from scripts.commands.plan_quarantine import conflicts_as_json, read_quarantine

    found = load_county(county)
    overlaps = find_overlaps(found)
    quarantine = find_conflicts(found, None, read_quarantine(county, found))
    windows = sum(s.windows for s in found.stations)
    zone_windows = sum(s.windows for s in found.stations if s.kind == "zone")
    if as_json:
        print_json(
            {
                "county": found.id,
                "sites": len(found.sites),
                "stations": len(found.stations),
                "windows": windows,
                "zone_windows": zone_windows,
                "networks": [n.id for n in found.networks],
                "units": [u.id for u in found.units],
                "needs": len(found.needs),
                "forbidden": len(found.forbidden),
                "refused": [{"network": r.id, "row": r.row, "why": "marked classified"} for r in found.refused],
                "overlaps": [o.model_dump(mode="json") for o in overlaps],
                "quarantine": conflicts_as_json(quarantine),
                "problems": [],
            }
        )
        return
    out = console()
    villages = sum(s.site_class == "village" for s in found.sites)
    towns = sum(s.site_class == "town" for s in found.sites)
    out.print(
        f"[bold]{escape(found.name)}[/] ({escape(found.name_en)}): "
        f"{counted(towns, 'town or street', 'towns and streets')}, {counted(villages, 'village')}, "
        f"{counted(len(found.stations), 'station')}, {counted(windows, 'window')}, "
        f"{zone_windows} of them in the county centre's service zones"
    )
    out.print(f"{counted(len(found.networks), 'legacy network')}, {counted(len(found.units), 'unit')} to migrate:")
    for network in found.networks:
        units = [u for u in found.units if u.network == network.id]
        rent = sum(found.circuit_by_id[u.circuit].monthly_rent_yuan for u in units)
        ranges = ", ".join(map(str, network.prefixes))
        out.print(
            f"  {network.id:16} {escape(network.name)}  "
            f"{counted(len(units), 'site')}, {ranges}, ¥{rent:,} a month - {escape(network.responsible)}"
        )
    for overlap in overlaps:
        out.print(
            f"[yellow]overlap[/]: {overlap.first} and {overlap.second} both use {overlap.prefixes[0]}"
            + ("" if overlap.kind == "same" else f" / {overlap.prefixes[1]}")
            + " - kept apart, each in its own plane"
        )
    for conflict in quarantine:
        out.print(f"[yellow]quarantine[/]: {escape(str(conflict))}")
    for refused in found.refused:
        out.print(
            f"[red]refused[/]: networks row {refused.row} ({escape(refused.name)}) "
            "is marked classified - it stays outside, always"
        )
    out.print(
        f"[green]good[/]: {counted(len(found.needs), 'need')} must work, "
        f"{counted(len(found.forbidden), 'way')} must stay closed; no problems"
    )
