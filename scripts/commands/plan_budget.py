"""`extranet plan budget`: how many bits each level gets, why, and what a change would do."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from scripts.commands._shell import HERE, AsJson, CountyDir, boundary, console, print_json

if TYPE_CHECKING:
    from addressing.budget import Budget
    from addressing.divisions import Divisions
    from addressing.policy import PlanPolicy


@boundary
def budget(
    county: CountyDir = HERE,
    *,
    divisions: Annotated[
        Path | None,
        typer.Option(help="Divisions: a table of code, name, level, parent (default: the county's own sites)."),
    ] = None,
    root: Annotated[str | None, typer.Option(help="With --divisions: only what lies under this code or name.")] = None,
    pool: Annotated[str | None, typer.Option(help="The IPv6 block to divide.")] = None,
    policy: Annotated[Path | None, typer.Option(help="The planner's decisions, which name the pools too.")] = None,
    what_if: Annotated[
        list[str] | None,
        typer.Option(help="CODE+N (N more under a division), growth*F, pool=PREFIX, add-pool=PREFIX; any number."),
    ] = None,
    lang: Annotated[str, typer.Option(help="en or zh.")] = "en",
    as_json: AsJson = False,
) -> None:
    """Show how many bits each level of a hierarchy needs and gets, how full it is, and why.

    Solved from the divisions as they are, growth, and the HD ratio of RFC 3194. Where no layout is good enough it is
    refused (exit 2), with what would do: another pool, a wider field, less growth. Nothing is written.
    """
    from addressing.budget import BudgetRefusedError, lay_out
    from addressing.outlook import parse_question
    from addressing.outlook import what_if as ask
    from inventory.errors import ExtranetError

    if lang not in {"en", "zh"}:
        raise ExtranetError(f"--lang {lang}: expected en or zh")
    language: Literal["en", "zh"] = "zh" if lang == "zh" else "en"
    questions = [parse_question(text) for text in what_if or ()]
    found, decided = read_input(county, divisions, root=root, pool=pool, policy=policy)
    try:
        _, solved = lay_out(found, decided)
    except BudgetRefusedError as error:
        if not as_json:
            show_budget(error.budget, language)
            raise
        body: dict[str, Any] = {"error": type(error).__name__, "message": str(error), "exit_code": error.exit_code}
        print_json({**body, "budget": error.budget.as_json()})
        raise typer.Exit(error.exit_code) from None
    answers = [ask(found, decided, question) for question in questions]
    if as_json:
        print_json({"budget": solved.as_json(), "what_if": [answer.as_json() for answer in answers]})
        return
    show_budget(solved, language)
    for answer in answers:
        console().print(answer.sentence, markup=False)


def read_input(
    county: Path, divisions: Path | None, *, root: str | None, pool: str | None, policy: Path | None
) -> tuple[Divisions, PlanPolicy]:
    """Return the divisions and the policy that the options name; without any, the county's own."""
    from addressing.divisions import read_divisions
    from addressing.fanouts import list_sites
    from addressing.policyfile import default_policy, read_plan_policy, replace_pool
    from inventory.errors import ExtranetError

    # A policy's mistakes are found before a long list of divisions is read.
    decided = read_plan_policy(policy) if policy else None
    if pool is not None:
        decided = replace_pool(decided, pool) if decided else default_policy(pool)
    if divisions is not None:
        if decided is None:
            raise ExtranetError("--pool: expected the block to divide, like --pool 3fff:329::/36; or --policy FILE")
        return read_divisions(divisions, root), decided
    if root is not None:
        raise ExtranetError(f"--root {root}: expected together with --divisions FILE")
    from inventory.reader import load_county

    found = load_county(county)
    return list_sites(found), decided or default_policy(str(found.policy.pool))


def show_budget(solved: Budget, lang: Literal["en", "zh"]) -> None:
    """Print a budget: the table, then what else was looked at."""
    from addressing.budget import describe_budget, describe_rest
    from scripts.commands.plan_divisions import print_rows

    print_rows(describe_budget(solved, lang))
    for line in describe_rest(solved, lang):
        console().print(f"  {line}", markup=False)
