"""`extranet config`: intended configuration, its difference from what runs, and the push that comes back by itself."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from scripts.commands._shell import HERE, AsJson, CountyDir, Progress, Yes, boundary, complain, console, print_json

app = typer.Typer(no_args_is_help=True)
MARKS = {"done": "[green]confirmed[/]", "undone": "[red]went back[/]", "failed": "[red]not known[/]"}

Devices = Annotated[list[str] | None, typer.Argument(help="Devices or sites to take (default: every extranet router).")]


@app.callback()
def group() -> None:
    """Intended configuration: render, diff, push."""


@app.command()
@boundary
def render(
    devices: Devices = None,
    county: CountyDir = HERE,
    out: Annotated[Path | None, typer.Option(help="Folder to write (default: configs/ in the county).")] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Write the whole intended configuration of each extranet router, one file a device."""
    from rich.markup import escape

    from inventory.files import write_whole
    from migration.campaign import open_campaign
    from migration.moves import intended_configs
    from migration.provision import choose_devices

    campaign = open_campaign(county)
    configs = intended_configs(campaign, choose_devices(campaign, devices))
    folder = out or county / "configs"
    for device, text in configs.items():
        write_whole(folder / f"{device}.conf", text)
    if as_json:
        print_json({"folder": str(folder), "devices": sorted(configs)})
        return
    console().print(f"[bold]{escape(str(folder))}[/]: {len(configs)} configurations")


@app.command()
@boundary
def diff(devices: Devices = None, county: CountyDir = HERE, *, as_json: AsJson = False) -> None:
    """Show, device by device, exactly what the intended configuration would change. Exit 0 equal, 1 different."""
    from rich.markup import escape

    from migration.campaign import open_campaign
    from migration.provision import choose_devices, preview

    campaign = open_campaign(county)
    progress = Progress(quiet=as_json)
    found = preview(campaign, choose_devices(campaign, devices), on_progress=progress.tick)
    changed = {d: text for d, text in found.diffs.items() if text}
    if as_json:
        print_json(
            {"target": campaign.target, "diffs": found.diffs, "unknown": found.unknown, "different": sorted(changed)}
        )
    else:
        show_diffs(found.diffs)
        for why in found.unknown.values():
            console().print(f"[red]unknown[/]: {escape(why)}")
        console().print(f"{campaign.target}: {len(changed)} of {len(found.diffs) + len(found.unknown)} devices differ")
    if found.unknown:
        raise typer.Exit(4)
    raise typer.Exit(1 if changed else 0)


@app.command()
@boundary
def push(devices: Devices = None, county: CountyDir = HERE, *, yes: Yes = False, as_json: AsJson = False) -> None:
    """Push the intended configuration: checked on the device, rollback timer armed there, probed from the stations, confirmed.

    Cores first, then town by town; a town whose stations do not reach what they should goes back alone.
    Exit 0 all confirmed, 1 something went back, 3 refused by the gate, 4 a device's outcome is not known.
    """
    from migration.campaign import open_campaign
    from migration.provision import choose_devices, preview, provision

    campaign = open_campaign(county)
    chosen = choose_devices(campaign, devices)
    progress = Progress(quiet=as_json)
    if not yes:
        found = preview(campaign, chosen, on_progress=progress.tick)
        changed = {d: text for d, text in found.diffs.items() if text}
        if as_json:
            print_json({"target": campaign.target, "would_change": changed, "unknown": found.unknown, "done": False})
        else:
            show_diffs(changed)
            console().print(
                f"{campaign.target}: would change {len(changed)} devices; nothing was changed - add --yes to push"
            )
        for reason in found.verdict.reasons:
            complain(f"push would be refused: {reason}")
        if found.unknown:
            raise typer.Exit(4)
        raise typer.Exit(0 if found.verdict.allowed else 3)
    report = provision(campaign, chosen, say=progress.say, on_progress=progress.tick)
    if as_json:
        print_json(report.as_json())
    else:
        out = console()
        for domain in report.domains:
            mark = MARKS[domain.ending]
            out.print(f"{mark} {domain.name}: {len(domain.changed)} changed, {len(domain.unchanged)} as they were")
            for why in domain.reasons[:20]:
                out.print(f"    {why}", markup=False)
            if len(domain.reasons) > 20:
                out.print(f"    ... and {len(domain.reasons) - 20} more (--json lists all)")
    raise typer.Exit(report.exit_code)


def show_diffs(diffs: dict[str, str]) -> None:
    """Print differences, green and red on a terminal."""
    out = console()
    for device, text in diffs.items():
        if not text:
            continue
        out.print(f"[bold]{device}[/]")
        for line in text.splitlines():
            style = "green" if line.startswith("+") else "red" if line.startswith("-") else None
            out.print(f"  {line}", style=style, markup=False)
