"""`extranet plan overlaps`: whose address blocks meet, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal

import typer

from scripts.commands._shell import AsJson, boundary, console, print_json

Language = Literal["en", "zh"]


@boundary
def overlaps(
    files: Annotated[
        list[Path],
        typer.Argument(
            help="Departments' prefix lists: CSV, TSV or XLSX with a column prefix (网段), or routing tables and "
            "configurations, each named after its department.",
            show_default=False,
        ),
    ],
    *,
    vrfs: Annotated[
        Path | None,
        typer.Option(help="VRFs with import and export targets: YAML, CSV, XLSX, or a county's folder (its planes)."),
    ] = None,
    costs: Annotated[Path | None, typer.Option(help="Costs of each treatment and who must talk to whom: YAML.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Write a report: .xlsx or .csv, in Chinese unless --lang en.")
    ] = None,
    lang: Annotated[Language | None, typer.Option(help="Language of what is printed and of the report.")] = None,
    top: Annotated[int, typer.Option(min=0, help="How many clusters to show, those with most pairs first.")] = 10,
    as_json: AsJson = False,
) -> None:
    """Find which departments' address blocks meet, in clusters, and the cheapest way out of each.

    Exit 0 when none meet, 1 when some do (or a leak was not checked), 2 when a file cannot be used.
    """
    from rich.markup import escape

    from addressing.overlapfindings import examine_overlaps
    from addressing.overlapreport import as_values, make_report, show_overlaps
    from inventory.files import write_whole

    if out is not None:
        _check_out(out, [*files, *(p for p in (vrfs, costs) if p)])
    found = examine_overlaps(files, vrfs=vrfs, costs=costs)
    if out is not None:
        write_whole(out, make_report(found, out.suffix.lower(), lang or "zh"))
    if as_json:
        print_json(as_values(found, lang or "en"))
    else:
        for part in show_overlaps(found, lang or "en", top):
            console().print(part)
        if out is not None:
            console().print(f"[green]{'已写入' if lang == 'zh' else 'written'}[/]: {escape(str(out))}")
    if not found.clean:
        raise typer.Exit(1)


def _check_out(out: Path, read: Iterable[Path]) -> None:
    from addressing.guard import refuse_plan
    from inventory.errors import ExtranetError
    from inventory.files import check_writable

    if out.suffix.lower() not in {".xlsx", ".csv"}:
        raise ExtranetError(f"--out {out}: expected a name ending in .xlsx or .csv; choose one")
    refuse_plan(out, read)
    check_writable(out, make_folders=True)
