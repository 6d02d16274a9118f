"""`extranet plan`: the address plan."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from inventory.wording import counted
from scripts.commands._shell import HERE, AsJson, CountyDir, boundary, console, print_json

app = typer.Typer(no_args_is_help=True)


@app.callback()
def group() -> None:
    """Plan IPv6 (and the extranet's IPv4) addresses."""


@app.command()
@boundary
def addresses(
    county: CountyDir = HERE,
    out: Annotated[
        Path | None, typer.Option(help="Where to write (default: plan/addresses.json in the county).")
    ] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Give every plane, town, village, LAN, link and router its addresses, from the pool in policy.yaml.

    What an earlier plan gave stays: a village added later moves nobody. Writes JSON, and a CSV beside it.
    """
    from rich.markup import escape

    from addressing.plan import make_plan
    from addressing.planfile import dump_csv, plan_path, read_plan, write_plan
    from inventory.errors import ExtranetError
    from inventory.files import check_writable, write_whole
    from inventory.reader import load_county
    from inventory.topology import build_topology

    path = out or plan_path(county)
    table = path.with_suffix(".csv")
    if path.suffix != ".json":
        raise ExtranetError(f"--out {path}: expected a name ending in .json (a table .csv is written beside it)")
    found = load_county(county)
    for file in (path, table):
        check_writable(file, make_folders=True)
    if table.exists() and not table.read_text("utf-8", "replace").startswith("id,kind,name,parent,prefix,slot,state"):
        raise ExtranetError(f"{table}: is there and is not a plan's table; choose another name for --out")
    before = read_plan(path) if path.exists() else None
    made = make_plan(found, build_topology(found), before)
    old = {r.id: r for r in before.records} if before else {}
    new = [r for r in made.records if r.id not in old]
    gone = [r for r in made.records if r.state == "quarantined"]
    moved = [r.id for r in made.records if r.id in old and old[r.id].prefix != r.prefix]
    write_plan(made, path)
    write_whole(table, dump_csv(made))
    counts = {
        "records": len(made.records),
        "new": len(new),
        "kept": len(made.records) - len(new) - len(gone),
        "quarantined": len(gone),
        "moved": len(moved),
    }
    if as_json:
        print_json({"file": str(path), "digest": made.digest, "pool": made.pool, **counts})
        return
    screen = console()
    screen.print(
        f"[bold]{escape(str(path))}[/]: {counted(len(made.records), 'assignment')} from {made.pool}; digest {made.digest[:16]}"
    )
    for plane in found.policy.planes:
        sites = sum(1 for r in made.records if r.kind == "lan" and r.id.endswith(f"@{plane.id}"))
        screen.print(
            f"  {made.by_id[f'plane:{plane.id}'].prefix:24} {plane.id:11} {counted(sites, 'site'):>8}  {escape(plane.name)}"
        )
    screen.print(
        f"  {counts['new']} new, {counts['kept']} kept, {counts['moved']} moved, {counts['quarantined']} quarantined"
    )
