"""`extranet soak`: who still uses the old lines."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from inventory.wording import counted, say_span
from scripts.commands._shell import HERE, AsJson, CountyDir, Progress, boundary, console, print_json, show_standing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from inventory.model import Unit
    from migration.campaign import Campaign
    from migration.soak import SoakStanding
    from migration.soak_samples import SoakSample

Units = Annotated[
    list[str] | None,
    typer.Argument(help="Units, each `network@site`; all whose old line is still there when left out."),
]
EXIT_GOOD, EXIT_IN_USE, EXIT_UNKNOWN = 0, 1, 4


@boundary
def soak(
    units: Units = None,
    county: CountyDir = HERE,
    *,
    watch: Annotated[
        float | None, typer.Option(min=1, help="Go on: a sample every so many seconds, until every soak is over.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Take a sample of the old lines: who still speaks over them, and what is missing for each soak.

    Changes nothing; run it by cron. What is seen is recorded in the ledger. Exit 0 nobody is seen (the soak may still
    take time: see `over`), 1 somebody or something still uses a line, 4 not known.
    """
    from migration.campaign import open_campaign
    from migration.sampling import take_sample

    campaign = open_campaign(county)
    wanted = _choose(campaign, units or [])
    progress = Progress(quiet=as_json)
    while True:
        sample = take_sample(campaign, wanted, say=progress.say, on_progress=progress.tick)
        found = _standings(campaign, wanted)
        _show(campaign, found, sample, as_json=as_json)
        if watch is None or all(s.over for _, s in found):
            break
        _pause(watch, progress)
    raise typer.Exit(max(_code(s) for _, s in found))


def _choose(campaign: Campaign, names: Sequence[str]) -> list[Unit]:
    """Return the units named, or all whose old line is watched; an error where there is nothing to watch."""
    from inventory.access import AccessMissingError
    from inventory.errors import ExtranetError
    from migration.sampling import soaking_units

    wanted = campaign.find_units(names)
    try:
        target = campaign.target
    except AccessMissingError as error:
        raise ExtranetError(f"{error}{_say_labs(campaign)}") from None
    soaking = soaking_units(campaign)
    if not names:
        if not soaking:
            raise ExtranetError(
                f"no unit is cut over on {target}: there is no soak to watch; run 'extranet cutover' first"
            )
        return soaking
    for unit in wanted:
        if unit not in soaking:
            state = campaign.records()[unit.id].state
            raise ExtranetError(
                f"{unit.id}: expected cut over and not removed, found {state}: there is no soak to watch"
            )
    return wanted


def _say_labs(campaign: Campaign) -> str:
    """Say which labs are on record, none of which is up: what was soaking in them can be read, and not be watched."""
    from migration.ledger import has_ledger

    if not has_ledger(campaign.folder):
        return ""
    targets = {e.target for e in campaign.ledger_for_reading().events(all_targets=True)}
    labs = sorted(t for t in targets if t.startswith("lab "))
    if not labs:
        return ""
    names = ", ".join(labs)
    todo = f"'extranet outage --of {labs[-1].removeprefix('lab ')}' reads what it left"
    return f"; on record, but down: {names}: its old lines are gone with it, {todo}"


def _standings(campaign: Campaign, units: Sequence[Unit]) -> list[tuple[str, SoakStanding]]:
    from migration.measuring import read_situation
    from migration.soak import next_stage, stand_soak

    situation = read_situation(campaign)
    records = campaign.records()
    return [(records[u.id].state.value, stand_soak(u, situation, next_stage(records[u.id].state))) for u in units]


def _show(campaign: Campaign, found: Sequence[tuple[str, SoakStanding]], sample: SoakSample, *, as_json: bool) -> None:
    from migration.standing import find_standing

    standing = find_standing(campaign)
    if as_json:
        rows = [{"state": state, "over": s.over, **s.model_dump(mode="json")} for state, s in found]
        body = {"target": campaign.target, "sample": sample.digest, "seq": sample.seq, "units": rows}
        print_json(body | standing.as_json())
        return
    from rich.markup import escape

    out = console()
    for state, s in found:
        mark = "[green]✓[/]" if s.over else "[red]✗[/]" if s.against else "·"
        days = f", {s.days}/{s.wanted_days} business days" if s.wanted_days else ""
        watched = f", {say_span(s.watched_s)} of {say_span(s.wanted_s)} watched" if s.wanted_s else ""
        word = "over" if s.over else "not clean" if s.against else "goes on"
        out.print(f"{mark} {s.unit} ({state}): {word}, {s.samples}/{s.wanted_samples} samples{watched}{days}")
        for finding in s.against:
            out.print(f"    {escape(str(finding))}", style="red")
        if not s.against:
            for lack in s.lacks:
                out.print(f"    {escape(lack.why.partition(' - ')[2])}")
            if s.broken and not s.over:
                out.print(f"    began anew: {escape(s.broken)}")
    over, against = sum(s.over for _, s in found), sum(bool(s.against) for _, s in found)
    out.print(
        f"{campaign.target}: {counted(len(found), 'old line')}, {over} soaked, {against} not clean; sample {sample.digest[:16]}"
    )
    show_standing(standing)


def _pause(seconds: float, progress: Progress) -> None:
    ends = time.monotonic() + seconds
    while (left := ends - time.monotonic()) > 0:
        progress.tick(round(seconds - left), round(seconds), "seconds until the next sample")
        time.sleep(min(1.0, left))


def _code(standing: SoakStanding) -> int:
    if not standing.against:
        return EXIT_GOOD
    return EXIT_UNKNOWN if all(f.kind in {"unknown", "lost"} for f in standing.against) else EXIT_IN_USE
