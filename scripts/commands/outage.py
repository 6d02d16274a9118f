"""`extranet outage`, and what other commands show of it: how long services were gone from stations during changes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from inventory.wording import counted
from scripts.commands._shell import HERE, AsJson, CountyDir, Of, boundary, console, print_json, show_standing

if TYPE_CHECKING:
    from migration.outage import Felt, OutageRecord, StationOutage, TargetOutage

BAR = 24
"""Characters of the longest bar."""
SHOWN = 12


@boundary
def outage(
    county: CountyDir = HERE,
    unit: Annotated[str | None, typer.Option(help="Only changes of this unit.")] = None,
    of: Of = None,
    *,
    every: Annotated[
        bool, typer.Option("--all", help="Retirements and ways back as well, not cutovers alone.")
    ] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the summary as a Markdown table.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show how long services were gone from each station while units were cut over, as the stations measured it.

    From the ledger and the records it names. Exit 0 shown, 1 nothing was watched yet or a record is lost.
    """
    from inventory.errors import CheckFailedError
    from migration.campaign import open_campaign, open_record
    from migration.ledger import has_ledger
    from migration.outage import collect_felt, sum_by_station
    from migration.standing import find_standing
    from migration.units import Step

    campaign = open_record(county, of) if has_ledger(county) else open_campaign(county)
    wanted = campaign.find_unit(unit).id if unit else None
    events = campaign.ledger_for_reading().events() if has_ledger(campaign.folder) else ()
    felt = collect_felt(campaign.folder, events, steps=() if every else (Step.CUTOVER,))
    felt = tuple(f for f in felt if wanted is None or wanted in f.units)
    if not felt:
        raise CheckFailedError(
            f"{campaign.folder}: no change was watched yet - expected a cutover of {campaign.reads or 'the field'} in the "
            "ledger, found none; 'extranet cutover' watches by itself, and --of NAME shows another lab's record"
        )
    stations = sum_by_station(felt)
    standing = find_standing(campaign)
    if as_json:
        print_json(
            {
                "target": campaign.reads or campaign.target_or_none(),
                "changes": [f.model_dump(mode="json", exclude={"record"}) | _summary(f) for f in felt],
                "stations": [s.model_dump(mode="json") for s in stations],
                **standing.as_json(),
            }
        )
    elif markdown:
        console().print(render_markdown(felt, stations), markup=False, soft_wrap=True)
    else:
        show_changes(felt)
        show_stations(stations)
    if not as_json:
        show_standing(standing)
    raise typer.Exit(1 if any(f.lost for f in felt) else 0)


def _summary(felt: Felt) -> dict[str, object]:
    return {"outage": felt.record.summary() if felt.record else None}


def show_record(record: OutageRecord, about: str = "", *, failed: bool = False) -> None:
    """Print what was felt of one change: the worst first, then what was not known, or never worked.

    What is watched are ports; of a change that `failed` it is said that its services need not have gone on answering.
    """
    from rich.markup import escape

    out = console()
    felt = [t for t in record.known if t.seconds or t.back_s]
    budget = f"budget {record.budget_s:g} s" if record.budget_s is not None else ""
    known = record.known
    about = f" of {about}" if about else ""
    ways = f"{counted(len(known), 'way')} that worked before"
    if not felt and known:
        finest = max(t.resolution_s for t in known)
        budget = f" ({budget})" if budget else ""
        out.print(f"    outage{about}: on {ways} no port was gone for longer than {finest:.1f} s{budget}")
    elif felt:
        budget = f", {budget}" if budget else ""
        out.print(f"    outage{about}: felt on {len(felt)} of {ways}{budget}, the longest first")
        longest = max(t.seconds + t.back_s for t in felt)
        for target in felt[:SHOWN]:
            out.print(f"      {escape(_say_target(target, longest))}")
        if len(felt) > SHOWN:
            out.print(f"      ... and {len(felt) - SHOWN} more ('extranet outage' and --json have all)")
    if failed and known:
        out.print("      only ports are watched: what failed behind them is named above")
    for target in [t for t in record.targets if t.unknown][:SHOWN]:
        out.print(f"      [yellow]{escape(target.name)}[/]: unknown: {escape(target.unknown)}")
    dead = [t.name for t in record.targets if not t.worked and not t.unknown]
    if dead:
        more = f" and {len(dead) - 6} more" if len(dead) > 6 else ""
        word = f"{counted(len(dead), 'way')} did not work before, and nothing is said of {'it' if len(dead) == 1 else 'them'}"
        out.print(f"      [yellow]{word}[/]: {escape(', '.join(dead[:6]))}{more}")


def draw_bar(seconds: float, longest: float) -> str:
    """Draw seconds beside the longest."""
    return "█" * max(1, round(BAR * seconds / longest)) if seconds and longest else ""


def _say_target(target: TargetOutage, longest: float) -> str:
    also = f" (+{len(target.services) - 1} more there)" if len(target.services) > 1 else ""
    back = f" + {target.back_s:.1f} s on the way back" if target.back_s else ""
    bar = draw_bar(target.seconds, longest) + "░" * (round(BAR * target.back_s / longest) if longest else 0)
    parts = f" in {target.gaps} pieces" if target.gaps > 1 else ""
    return f"{target.seconds:6.1f} s {bar:{BAR}} {target.name}{also}{parts}{back}"


def show_changes(felt: Sequence[Felt]) -> None:
    """Print one line a change."""
    from rich.markup import escape

    for one in felt:
        who = ", ".join(one.units[:3]) + (f" and {len(one.units) - 3} more" if len(one.units) > 3 else "")
        if one.record is None:
            console().print(
                f"{one.at[:10]} {one.at[11:19]}Z {one.step} {escape(who)}: [red]record lost[/]: {escape(one.lost)}"
            )
            continue
        known = one.record.known
        worst = max((t.seconds for t in known), default=0.0)
        unknown = sum(bool(t.unknown) for t in one.record.targets)
        dead = sum(not t.worked and not t.unknown for t in one.record.targets)
        note = f", [yellow]{unknown} unknown[/]" if unknown else ""
        note += f", [yellow]{dead} did not work before[/]" if dead else ""
        back = max((t.back_s for t in known), default=0.0)
        note += f", {back:.1f} s more on the way back" if back else ""
        finest = max((t.resolution_s for t in known), default=0.0)
        gone = f"worst {worst:.1f} s" if worst else f"no port gone for longer than {finest:.1f} s"
        said = gone if known else "nothing known"
        console().print(f"{one.at[:10]} {one.at[11:19]}Z {one.step} {escape(who)}: {one.result}, {said}{note}")


def show_stations(stations: Sequence[StationOutage]) -> None:
    """Print the stations, worst first."""
    from rich.table import Table

    longest = max((s.seconds for s in stations), default=0.0)
    table = Table("station", "seconds", "", "worst", "ways", box=None, pad_edge=False, header_style="bold")
    for one in stations:
        unknown = f", {one.unknown} unknown" if one.unknown else ""
        table.add_row(
            one.station,
            f"{one.seconds:.1f}",
            draw_bar(one.seconds, longest),
            one.service if one.seconds else "",
            f"{one.felt} of {one.targets} felt it{unknown}",
        )
    console().print(table)


def render_markdown(felt: Sequence[Felt], stations: Sequence[StationOutage]) -> str:
    """Write the summary for docs/benchmarks.md: the county in a line, then every station."""
    known = [t for f in felt if f.record for t in f.record.known]
    seconds = sorted(s.seconds for s in stations)
    middle = seconds[len(seconds) // 2] if seconds else 0.0
    finest = max((t.resolution_s for t in known if t.asked_per_s == max(k.asked_per_s for k in known)), default=0.0)
    rates = sorted({f.record.rate_per_s for f in felt if f.record})
    rate = f"{rates[0]:g} to {rates[-1]:g}" if len(rates) > 1 else f"{rates[0]:g}" if rates else "no"
    units = counted(len({u for f in felt for u in f.units}), "unit")
    unknown = sum(s.unknown for s in stations)
    where = f"{counted(len(stations), 'station')}, {counted(len({t.name for t in known}), 'way')}"
    told = (
        f"{units}, {where} watched {rate} times a second: the worst station's worst "
        f"service was gone for {max(seconds, default=0.0):.1f} s, the median station's for {middle:.1f} s; "
        f"{unknown} not known; no outage longer than {finest:.1f} s can have gone unseen on a moved leg."
    )
    lines = [
        told,
        "",
        "| station | seconds | longest at a stretch | worst service | ways that felt it |",
        "| --- | --- | --- | --- | --- |",
    ]
    for one in stations:
        worst = f"`{one.service}`" if one.seconds else ""
        lines.append(
            f"| {one.station} | {one.seconds:.1f} | {one.longest_s:.1f} | {worst} | {one.felt} of {one.targets} |"
        )
    return "\n".join(lines)
