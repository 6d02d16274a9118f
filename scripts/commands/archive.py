"""`extranet archive`: the configurations of legacy routers, kept before their lines are taken away."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from inventory.wording import counted
from scripts.commands._shell import HERE, AsJson, CountyDir, Of, Progress, Yes, boundary, console, print_json

app = typer.Typer(no_args_is_help=True)
OneUnit = Annotated[str, typer.Argument(help="The unit, `network@site`.")]


@app.callback()
def group() -> None:
    """The configurations of legacy routers, kept to rebuild from."""


@app.command("list")
@boundary
def list_(county: CountyDir = HERE, of: Of = None, *, as_json: AsJson = False) -> None:
    """List what is archived of which unit, and whether each file is still what it was. Exit 0 whole, 1 something is lost."""
    from rich.markup import escape

    from migration.archive import collect_archives
    from migration.campaign import open_ledger, open_record

    open_ledger(county).close()  # says so when there is none
    campaign = open_record(county, of)
    found = collect_archives(county, campaign.events())
    lost = any(not a.whole for archives in found.values() for a in archives)
    if as_json:
        rows = [a.model_dump(mode="json", exclude={"dossier"}) for archives in found.values() for a in archives]
        print_json({"target": campaign.reads, "whole": not lost, "archives": rows})
    else:
        out = console()
        for unit, archives in found.items():
            for a in archives:
                out.print(
                    f"  {escape(unit):34} {a.state:12} {a.at:%Y-%m-%d %H:%M}Z  {', '.join(map(escape, a.configs))}"
                )
                for why in (*a.lost.values(), *([a.problem] if a.problem else [])):
                    out.print(f"    [red]lost[/]: {escape(why)}")
        out.print(
            f"{escape(campaign.reads)}: {counted(len(found), 'unit')} archived"
            + (", [red]not all of it whole[/]" if lost else "")
        )
    raise typer.Exit(1 if lost else 0)


@app.command()
@boundary
def show(
    unit: OneUnit,
    county: CountyDir = HERE,
    device: Annotated[str | None, typer.Option(help="Only this router.")] = None,
    of: Of = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Print a unit's archived configurations, the newest of each router, with whatever may be a secret hidden."""
    from inventory.errors import UnknownNameError
    from migration.archive import collect_archives, read_config
    from migration.campaign import open_record
    from migration.rebuild import choose_archives
    from nornir_tasks.redaction import redact

    campaign = open_record(county, of)
    found = campaign.find_unit(unit)
    newest = choose_archives(found.id, collect_archives(county, campaign.events()).get(found.id, ()))[-1]
    if device is not None and device not in newest.configs:
        raise UnknownNameError("device", device, newest.configs, where=f"the archive of {found.id}", listed=True)
    wanted = {d: sha for d, sha in newest.configs.items() if device in {None, d}}
    texts = {d: redact(read_config(county, sha)) for d, sha in wanted.items()}
    if as_json:
        rows = {d: {"sha256": wanted[d], "config": text} for d, text in texts.items()}
        print_json({"unit": found.id, "at": newest.at, "state": newest.state, "routers": rows})
        return
    for name, text in texts.items():
        console().print(f"[bold]{name}[/] as of {newest.at:%Y-%m-%d %H:%M}Z ({newest.state}), sha256 {wanted[name]}")
        for line in text.splitlines():
            console().print(f"  {line}", markup=False)


@app.command()
@boundary
def take(
    units: Annotated[list[str], typer.Argument(help="Units, each `network@site`.")],
    county: CountyDir = HERE,
    *,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Read units' legacy routers now and keep what they run: where an archive is missing or lost. Changes no router.

    Cutover and retirement do it by themselves. Exit 0 kept, 1 some router could not be read.
    """
    from migration.archive import take_archive
    from migration.campaign import open_campaign
    from migration.units import legacy_devices_under

    campaign = open_campaign(county)
    wanted = campaign.find_units(units)
    devices = sorted({d for u in wanted for d in legacy_devices_under(campaign.county, u)})
    if not yes:
        if as_json:
            print_json({"target": campaign.target, "done": False, "routers": devices})
        else:
            console().print(f"{campaign.target}: would read {', '.join(devices)} - add --yes to do it")
        return
    progress = Progress(quiet=as_json)
    with campaign.hold("archive take"):
        missing = take_archive(campaign, wanted, say=progress.say)
    if as_json:
        print_json({"target": campaign.target, "done": True, "routers": devices, "missing": missing})
    else:
        for reasons in missing.values():
            for why in reasons:
                console().print(f"[red]✗[/] {why}", highlight=False)
        console().print(f"{counted(len(wanted) - len(missing), 'unit')} archived")
    raise typer.Exit(1 if missing else 0)


@app.command()
@boundary
def rebuild(
    unit: OneUnit,
    out: Annotated[Path, typer.Option(help="Folder to write; only you will be able to read it.")],
    county: CountyDir = HERE,
    of: Of = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Write what it takes to build a removed line anew: configurations, addresses, the line's data, the order of work.

    After `removed` there is no other way back. Exit 0 written, 3 when nothing whole is archived.
    """
    from rich.markup import escape

    from migration.campaign import open_record
    from migration.rebuild import write_rebuild

    campaign = open_record(county, of)
    made = write_rebuild(campaign, campaign.find_unit(unit), out)
    if as_json:
        print_json(made.model_dump(mode="json"))
        return
    console().print(
        f"[bold]{escape(made.folder)}[/]: README.md, {counted(len(made.configs), 'configuration')} "
        "(whole: they may hold passwords), line.json"
    )
