"""`extranet config`: intended configuration, its difference from what runs, and the push that comes back by itself."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from inventory.wording import counted
from scripts.commands._shell import (
    HERE,
    AsJson,
    CountyDir,
    Progress,
    Yes,
    boundary,
    complain,
    console,
    print_json,
    warn_of_account,
)

if TYPE_CHECKING:
    from migration.provision import DiffSize, Preview
    from migration.steps import Ended

app = typer.Typer(no_args_is_help=True)
BAR = 40
"""Marks for the device that differs most."""

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

    from inventory.files import check_writable, write_whole
    from migration.campaign import open_campaign
    from migration.moves import intended_configs
    from migration.provision import choose_devices

    campaign = open_campaign(county)
    folder = out or county / "configs"
    chosen = choose_devices(campaign, devices)
    for device in chosen:
        check_writable(folder / f"{device}.conf", make_folders=True)
    configs = intended_configs(campaign, chosen)
    for device, text in configs.items():
        write_whole(folder / f"{device}.conf", text)
    if as_json:
        print_json({"folder": str(folder), "devices": sorted(configs)})
        return
    console().print(f"[bold]{escape(str(folder))}[/]: {counted(len(configs), 'configuration')}")


@app.command()
@boundary
def diff(
    devices: Devices = None,
    county: CountyDir = HERE,
    *,
    stat: Annotated[bool, typer.Option("--stat", help="Only how many lines change on which device.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show, device by device, what the intended configuration would change, secrets hidden. Exit 0 equal, 1 different.

    Begins with how many devices differ, and by how many lines each.
    """
    from rich.markup import escape

    from migration.campaign import open_campaign
    from migration.provision import choose_devices, preview

    campaign = open_campaign(county)
    progress = Progress(quiet=as_json)
    found = preview(campaign, choose_devices(campaign, devices), on_progress=progress.tick)
    sizes = found.sizes
    if as_json:
        print_json(
            {
                "target": campaign.target,
                "devices": len(found.diffs) + len(found.unknown),
                "different": sorted(sizes),
                "added": sum(s.added for s in sizes.values()),
                "removed": sum(s.removed for s in sizes.values()),
                "lines": {d: s.model_dump() for d, s in sizes.items()},
                **({} if stat else {"diffs": found.diffs}),
                "unknown": found.unknown,
            }
        )
    else:
        total = say_difference(found)
        console().print(f"{campaign.target}: {total}")
        show_sizes(sizes)
        if not stat:
            show_diffs(found.diffs)
        for why in found.unknown.values():
            console().print(f"[red]unknown[/]: {escape(why)}")
        if sizes and not stat:  # the beginning has long scrolled away
            console().print(f"{campaign.target}: {total}")
    if found.unknown:
        raise typer.Exit(4)
    raise typer.Exit(1 if sizes else 0)


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
    if yes:
        warn_of_account(progress)
    if not yes:
        found = preview(campaign, chosen, on_progress=progress.tick)
        changed = {d: text for d, text in found.diffs.items() if text}
        if as_json:
            print_json({"target": campaign.target, "would_change": changed, "unknown": found.unknown, "done": False})
        else:
            show_diffs(changed)
            console().print(
                f"{campaign.target}: would change {counted(len(changed), 'device')}; "
                "nothing was changed - add --yes to push"
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
            out.print(say_ending(domain))
            for why in domain.reasons[:20]:
                out.print(f"    {why}", markup=False)
            if len(domain.reasons) > 20:
                out.print(f"    ... and {len(domain.reasons) - 20} more (--json lists all)")
    raise typer.Exit(report.exit_code)


def say_ending(domain: Ended) -> str:
    """Return in one line how a domain ended."""
    name = f"{domain.name}: "
    if domain.ok:
        return f"[green]confirmed[/] {name}{len(domain.changed)} changed, {len(domain.unchanged)} as they were"
    if domain.ending == "undone" and domain.touched:
        return f"[red]went back[/] {name}{len(domain.changed)} had changed and are as before"
    if domain.ending == "undone":
        return f"[red]not done[/] {name}{domain.word}"
    return f"[red]not known[/] {name}what its devices hold"


def say_difference(found: Preview) -> str:
    """Return in one line how many devices differ, and by how many lines."""
    sizes = found.sizes
    number = len(found.diffs) + len(found.unknown)
    verb = "differs" if len(sizes) == 1 else "differ"
    text = f"{len(sizes)} of {counted(number, 'device')} {verb}"
    if sizes:
        added, removed = (sum(numbers) for numbers in zip(*((s.added, s.removed) for s in sizes.values()), strict=True))
        text += f", {counted(added, 'line')} added, {removed} removed"
    return text + (f"; {len(found.unknown)} not known" if found.unknown else "")


def show_sizes(sizes: Mapping[str, DiffSize]) -> None:
    """Print a line a device with how much it differs, as `git diff --stat` does."""
    if not sizes:
        return
    name_width = max(map(len, sizes))
    most = max(s.added + s.removed for s in sizes.values())
    number_width = len(str(most))
    for device, size in sizes.items():
        # At least one mark for either kind that there is.
        plus, minus = (-(-n * min(most, BAR) // most) for n in (size.added, size.removed))
        numbers = f"{size.added + size.removed:{number_width}}"
        console().print(f" {device:{name_width}} | {numbers} [green]{'+' * plus}[/][red]{'-' * minus}[/]")


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
