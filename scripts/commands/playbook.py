"""`extranet playbook`: the same jobs through Ansible."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from scripts.commands._shell import HERE, AsJson, CountyDir, boundary, console, print_json

if TYPE_CHECKING:
    from playbooks.runner import PlaybookRun

Extra = Annotated[
    list[str] | None,
    typer.Option("--extra", "-e", help="KEY=VALUE for the play, for example units=finance-man@county."),
]
Limit = Annotated[str | None, typer.Option("--limit", "-l", help="Only these hosts or groups, as in Ansible.")]


@boundary
def playbook(
    name: Annotated[str, typer.Argument(help="provision, verify, cutover, prove or retire.")],
    county: CountyDir = HERE,
    extra: Extra = None,
    limit: Limit = None,
    *,
    check: Annotated[bool, typer.Option("--check", help="Change nothing; show verdicts and differences.")] = False,
    as_json: AsJson = False,
) -> None:
    """Run a playbook by ansible-runner from the county's own inventory, with the same gates as the commands.

    As in Ansible, without --check it is done. Exit 0 good, 1 a check failed or something went back, 2 bad input or
    nothing was done, 3 refused by a gate, 4 not known.
    """
    from inventory.errors import ExtranetError
    from playbooks.runner import run_playbook

    variables = {}
    for item in extra or []:
        key, sign, value = item.partition("=")
        if not sign or not key.isidentifier() or not value.strip():
            raise ExtranetError(f"-e {item}: expected KEY=VALUE; write for example -e units=finance-man@county")
        variables[key] = value.strip()
    run = run_playbook(name, county, variables=variables, limit=limit, check=check, quiet=as_json)
    if as_json:
        print_json(run.model_dump(mode="json"))
    else:
        show_run(run)
    raise typer.Exit(run.exit_code)


def show_run(run: PlaybookRun) -> None:
    """Print what matters of a run under Ansible's own output."""
    from rich.markup import escape

    out = console()
    for why in run.errors:
        out.print(f"[red]✗[/] {escape(why)}")
    for outcome in run.outcomes:
        if not outcome.ok:
            first = f" - {outcome.reasons[0]}" if outcome.reasons else ""
            out.print(f"[red]✗ {outcome.name}[/]: {escape(outcome.summary + first)}")
    mark = "[green]✓[/]" if run.exit_code == 0 else "[red]✗[/]"
    how = run.status if run.summary in run.errors else run.summary or run.status
    out.print(f"{mark} {run.playbook}{' --check' if run.check else ''}: {escape(how)}")
