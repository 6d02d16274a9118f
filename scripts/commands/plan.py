"""`extranet plan`: the address plan."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from inventory.wording import counted
from scripts.commands import (
    plan_budget,
    plan_check,
    plan_divisions,
    plan_explain,
    plan_export,
    plan_map,
    plan_outlook,
    plan_overlaps,
    plan_quarantine,
)
from scripts.commands._shell import HERE, AsJson, CountyDir, boundary, console, print_json

app = typer.Typer(no_args_is_help=True)


@app.callback()
def group() -> None:
    """Plan IPv6 (and the extranet's IPv4) addresses."""


@app.command()
@boundary
def addresses(
    county: CountyDir = HERE,
    *,
    out: Annotated[
        Path | None, typer.Option(help="Where to write (default: plan/addresses.json in the county).")
    ] = None,
    divisions: Annotated[
        Path | None,
        typer.Option(
            help="Plan these divisions instead of a county: a table of code, name, level, parent (.xz, .gz, .zst too)."
        ),
    ] = None,
    root: Annotated[str | None, typer.Option(help="With --divisions: only what lies under this code or name.")] = None,
    pool: Annotated[str | None, typer.Option(help="With --divisions: the IPv6 block to divide.")] = None,
    policy: Annotated[
        Path | None,
        typer.Option(
            help="With --divisions: the planner's decisions; 'extranet plan policy' prints a file to start from."
        ),
    ] = None,
    file_format: Annotated[
        str,
        typer.Option(
            "--format", help="With --divisions: csv or json for a plan that can be carried on, or an export's name."
        ),
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Give every plane, town, village, LAN, link and router its addresses, from the pool in policy.yaml.

    What an earlier plan gave stays: a village added later moves nobody. Writes JSON, and a CSV beside it.

    With --divisions, plan a whole hierarchy (county, city, province, country): widths solved from real fan-outs, slots in
    the orders of RFC 3531, checked by a program that shares no code with the planner, with a certificate beside the plan.
    'extranet plan update' carries it on.
    """
    if divisions is not None:
        plan_divisions.plan_hierarchy(
            divisions, root=root, pool=pool, policy=policy, out=out, file_format=file_format, as_json=as_json
        )
        return
    alone = [
        name
        for name, value in (("--root", root), ("--pool", pool), ("--policy", policy), ("--format", file_format))
        if value
    ]
    if alone:
        from inventory.errors import ExtranetError

        raise ExtranetError(
            f"{', '.join(alone)}: expected together with --divisions FILE; a county's pool is in policy.yaml"
        )
    plan_county(county, out, as_json=as_json)


def plan_county(county: Path, out: Path | None, *, as_json: bool) -> None:
    """Plan a county from its inventory, keeping what was planned before."""
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
    with plan_divisions.holding(path):
        before = read_plan(path) if path.exists() else None
        held = plan_quarantine.read_quarantine(county, found)
        made = make_plan(found, build_topology(found), before, [q.prefix for q in held])
        plan_quarantine.refuse_quarantined(found, made, held)
        write_plan(made, path)
        write_whole(table, dump_csv(made))
    old = {r.id: r for r in before.records} if before else {}
    new = [r for r in made.records if r.id not in old]
    gone = [r for r in made.records if r.state == "quarantined"]
    moved = [r.id for r in made.records if r.id in old and old[r.id].prefix != r.prefix]
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


@app.command("policy")
@boundary
def print_policy() -> None:
    """Print a planner's policy with comments, to start a file from: addressing/example-policy.yaml (see docs/planner.md).

    The file is for 'extranet plan addresses --divisions TABLE --policy FILE'; only `pools` must stay in it.
    """
    from addressing.policyfile import EXAMPLE

    typer.echo(EXAMPLE.read_bytes(), nl=False)


app.command()(plan_divisions.update)
app.command()(plan_check.check)
app.command()(plan_budget.budget)
app.command()(plan_outlook.forecast)
app.command()(plan_outlook.border)
app.command()(plan_explain.explain)
app.command("map")(plan_map.map_)
app.command()(plan_overlaps.overlaps)
app.command()(plan_export.export)
app.command()(plan_quarantine.quarantine)
