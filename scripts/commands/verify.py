"""`extranet verify`: every station against every service."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from inventory.wording import counted
from scripts.commands._shell import (
    HERE,
    AsJson,
    CountyDir,
    Progress,
    boundary,
    complain,
    console,
    print_json,
    show_standing,
)

if TYPE_CHECKING:
    from migration.verify import VerifyReport

CELLS = {"passed": "[green]■[/]", "failed": "[red]✗[/]", "unknown": "[yellow]?[/]", "waiting": "[yellow]□[/]"}
"""One check in a station's line: told apart by shape as well, for where there are no colours."""


@boundary
def verify(
    county: CountyDir = HERE,
    station: Annotated[
        list[str] | None, typer.Option(help="Only these stations (ids or names); with --unit, what both are about.")
    ] = None,
    unit: Annotated[list[str] | None, typer.Option(help="Only what these units' users need.")] = None,
    junit: Annotated[Path | None, typer.Option(help="Write JUnit XML here.")] = None,
    *,
    ask_routers: Annotated[
        bool, typer.Option("--diagnose", help="Ask the stations' routers about what failed: where it lies.")
    ] = False,
    throughput: Annotated[
        bool, typer.Option("--throughput", help="Measure as well whether each line carries its floor.")
    ] = False,
    show_all: Annotated[
        bool, typer.Option("--all", help="List every failed check, not the first few a station.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Measure every station against every service it needs and against those it must not reach.

    The expected matrix comes from the inventory; whatever was not measured is failed. The results are recorded in
    the ledger as evidence. What still runs over the old line of a unit that is not cut over is listed apart (`waiting` in
    JSON), so that a new failure is seen; it is no pass all the same. In a station's line ■ passed, ✗ failed, ? was not
    measured, □ waits. Exit 0 all passed, 1 any failed or waiting.
    """
    from inventory.files import check_writable
    from migration.campaign import open_campaign
    from migration.standing import find_standing
    from migration.verify import verify as run_verify

    if junit is not None:
        check_writable(junit)
    campaign = open_campaign(county)
    progress = Progress(quiet=as_json)
    report = run_verify(
        campaign,
        stations=station,
        units=unit,
        say=progress.say,
        on_progress=progress.tick,
        ask_routers=ask_routers,
        throughput=throughput,
    )
    standing = find_standing(campaign)
    if as_json:
        print_json(report.as_json() | standing.as_json())
    else:
        show_report(report, show_all=show_all)
        show_standing(standing)
    if junit is not None:
        from migration.evidence import result_digest
        from nornir_tasks.stations.junit import JunitWriteError, write_junit

        digests = {r.check.id: result_digest(r) for r in report.results}
        try:
            write_junit(
                report.results, junit, evidence=report.digest, digests=digests, exceptions=tuple(standing.lines())
            )
        except JunitWriteError as error:  # the report above is whole, so JSON stays one document
            complain(str(error))
            raise typer.Exit(error.exit_code) from None
    raise typer.Exit(0 if report.ok else 1)


def show_report(report: VerifyReport, *, show_all: bool = False) -> None:
    """Print a line a station, why the first few checks of each failed, and apart from them what waits for a cutover."""
    from rich.markup import escape

    from migration.diagnose import say_diagnosis

    out = console()
    limit = 10_000 if show_all else 3
    for name, results in report.by_station().items():
        bad = [r for r in results if r.outcome != "passed" and r.check.id not in report.waiting]
        passed = sum(r.outcome == "passed" for r in results)
        strip = "".join(CELLS["waiting" if r.check.id in report.waiting else r.outcome.value] for r in results[:80])
        mark = "[red]✗[/]" if bad else "[green]✓[/]" if passed == len(results) else "[yellow]·[/]"
        out.print(f"{mark} {name:26} {passed:3}/{len(results):<3} {strip}")
        for result in bad[:limit]:
            out.print(f"    {escape(result.check.id)}: {escape(result.why)}", style="red")
            if said := say_diagnosis(result):
                out.print(f"        {escape(said)}", style="yellow")
        if len(bad) > limit:
            out.print(f"    ... and {len(bad) - limit} more")
    show_waiting(report)
    counts = Counter(r.outcome.value for r in report.results)
    named = ", ".join(f"{number} {name}" for name, number in report.missing.items() if number)
    missing = f" ({named})" if named else ""
    waiting = len(report.waiting)
    apart = f" ({waiting} only waiting for a cutover, {counts['failed'] - waiting} not)" if waiting else ""
    out.print(
        f"{report.target}: {counted(len(report.results), 'check')} from {counted(len(report.by_station()), 'station')} "
        f"in {report.seconds:.1f} s: "
        f"{counts['passed']} passed, {counts['failed']} failed{apart}, {counts['unknown']} not measured{missing}; "
        f"evidence {report.digest[:16]}"
    )


def show_waiting(report: VerifyReport) -> None:
    """Print what failed only because its unit is not cut over yet: how many checks of which units."""
    from rich.markup import escape

    units = Counter(report.waiting.values())
    if not units:
        return
    listed = ", ".join(f"{unit} ({number})" for unit, number in units.items())
    what = f"{counted(len(report.waiting), 'check')} of {counted(len(units), 'unit')}"
    console().print(
        f"[yellow]□ wait for their cutover[/]: {what}, still over the old lines: {escape(listed)}", soft_wrap=True
    )
