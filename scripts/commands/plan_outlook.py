"""`extranet plan forecast` and `plan border`: how long a plan lasts, and where it can still give way."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from scripts.commands._shell import AsJson, boundary, console, print_json

PlanFile = Annotated[
    Path, typer.Option("--plan", help="The plan: csv or json of 'extranet plan addresses --divisions'.")
]
EXIT_FAILED = 1


@boundary
def forecast(plan: PlanFile, *, as_json: AsJson = False) -> None:
    """Say by level how full a plan is, who is fullest, and how much growth is left. Exit 1 where it is not enough."""
    from addressing.hierarchyfile import read_hierarchy
    from addressing.outlook import forecast as look_ahead

    found = look_ahead(read_hierarchy(plan))
    if as_json:
        print_json(found.as_json())
    else:
        for line in found.lines():
            console().print(line, markup=False)
    if any(level.short for level in found.levels):
        raise typer.Exit(EXIT_FAILED)


@boundary
def border(
    where: Annotated[str, typer.Argument(help="A level (town) or a division's code.")],
    plan: PlanFile,
    *,
    as_json: AsJson = False,
) -> None:
    """Say whether a field's or a division's border can move by one bit, and which slots are in its way.

    To the left: a division's own block doubles (of a level: every block above it). To the right: twice as many children
    fit, each with half as much. Nobody is renumbered. Exit 1 when it can move to neither side.
    """
    from addressing.hierarchyfile import read_hierarchy
    from addressing.outlook import judge_border

    found = read_hierarchy(plan)
    subject = int(where) if len(where) == 1 and where.isdigit() else where
    verdicts = [judge_border(found, subject, "left"), judge_border(found, subject, "right")]
    if as_json:
        print_json([v.as_json() for v in verdicts])
    else:
        for verdict in verdicts:
            console().print(str(verdict), markup=False)
    if not any(v.possible for v in verdicts):
        raise typer.Exit(EXIT_FAILED)
