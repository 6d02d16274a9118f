"""The `extranet` command: what there is, in the order of the job."""

from __future__ import annotations

import gc
from typing import Annotated

import typer

from scripts.commands import (
    archive,
    certificate,
    config,
    county,
    lab,
    ledger,
    migrate,
    outage,
    plan,
    playbook,
    soak,
    survey,
    verify,
)


def say_version(wanted: bool) -> None:  # noqa: FBT001 - typer calls it
    """Print the version from the package's metadata, which comes from pyproject.toml."""
    if wanted:
        from importlib.metadata import version

        typer.echo(f"extranet {version('extranet')}")
        raise typer.Exit


app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help=(
        "Move departments' own networks onto one extranet, and switch the old ones off safely.\n\n"
        "The job in order: survey check → plan addresses → config render/diff/push → verify → cutover → soak → prove → retire. "
        "Every command takes --county DIR and --json. Exit codes: 0 good, 1 a check failed, 2 bad usage or input, "
        "3 refused by a gate, 4 unknown or interrupted."
    ),
)


@app.callback()
def extranet(
    *,
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=say_version, help="Print the version and leave.")
    ] = False,
) -> None:
    """Stand above all commands; its help is the app's."""


app.command("init")(county.init)
app.add_typer(survey.app, name="survey", help="Read the inventory and list all that is wrong with it.")
app.add_typer(plan.app, name="plan", help="Plan IPv6 (and the extranet's IPv4) addresses.")
app.add_typer(lab.app, name="lab", help="The county on this machine: real routers, stations and services.")
app.add_typer(config.app, name="config", help="Intended configuration: render, diff, push.")
app.command("verify")(verify.verify)
app.command("cutover")(migrate.cutover)
app.command("prove")(migrate.prove)
app.command("soak")(soak.soak)
app.command("retire")(migrate.retire)
app.add_typer(archive.app, name="archive", help="The configurations of legacy routers, kept to rebuild from.")
app.command("certificate")(certificate.certificate)
app.add_typer(migrate.gate_app, name="gate", help="Why a step would be allowed or refused.")
app.command("status")(migrate.status)
app.command("outage")(outage.outage)
app.add_typer(ledger.app, name="ledger", help="The record of what was intended, done, measured and decided.")
app.command("playbook")(playbook.playbook)


_ALLOCATIONS = 500_000
"""Between two looks for garbage: what a command reads stays to its end, and going through it again finds nothing."""


def main() -> None:
    """Run the command line."""
    gc.set_threshold(_ALLOCATIONS, 20, 20)
    app()


if __name__ == "__main__":
    main()
