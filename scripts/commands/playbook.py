"""`extranet playbook`: the same jobs through Ansible."""

from __future__ import annotations

from typing import Annotated

import typer

from scripts.commands._shell import HERE, AsJson, CountyDir, boundary, console, print_json


@boundary
def playbook(
    name: Annotated[str, typer.Argument(help="provision, verify, cutover or retire.")],
    county: CountyDir = HERE,
    extra: Annotated[
        list[str] | None, typer.Option("--extra", "-e", help="KEY=VALUE for the play, for example units=a@b.")
    ] = None,
    limit: Annotated[str | None, typer.Option(help="Only these hosts or groups, as in Ansible.")] = None,
    *,
    check: Annotated[bool, typer.Option("--check", help="Change nothing; show verdicts and differences.")] = False,
    as_json: AsJson = False,
) -> None:
    """Run a playbook by ansible-runner from the county's own inventory, with the same gates as the commands."""
    from inventory.errors import ExtranetError
    from playbooks.runner import run_playbook

    variables = {}
    for item in extra or []:
        key, sign, value = item.partition("=")
        if not sign or not key.isidentifier():
            raise ExtranetError(f"-e {item}: expected KEY=VALUE; write for example -e units=finance-man@county")
        variables[key] = value
    run = run_playbook(name, county, variables=variables, limit=limit, check=check, quiet=as_json)
    if as_json:
        print_json({**run.model_dump(mode="json"), "exit_code": run.exit_code})
    else:
        for host, why in run.failures.items():
            console().print(f"[red]{host}[/]: {why}", markup=True)
        console().print(f"{name}: {run.status}")
    raise typer.Exit(run.exit_code)
