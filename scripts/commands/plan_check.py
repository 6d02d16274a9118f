"""`extranet plan check`: an independent check and a review of plans, before anything is numbered by them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from scripts.commands._shell import AsJson, Progress, boundary, console, print_json

if TYPE_CHECKING:
    from addressing.checkreport import Check, Report
    from addressing.lint import Finding
    from addressing.text import Prefix


@boundary
def check(
    files: Annotated[list[Path], typer.Argument(help="Plans: a hierarchy's table or JSON, or a county's JSON.")],
    divisions: Annotated[
        Path | None, typer.Option(help="A list of divisions: all of it must have a prefix, and nobody else.")
    ] = None,
    used: Annotated[
        Path | None, typer.Option(help="Addresses seen at work, in any text: those the plan gave to nobody are found.")
    ] = None,
    sign: Annotated[
        Path | None, typer.Option(help="Ed25519 private key: sign each plan, if every check passed.")
    ] = None,
    key: Annotated[Path | None, typer.Option(help="Ed25519 public key: each plan must be signed by it.")] = None,
    *,
    base: Annotated[
        Path | None,
        typer.Option(help="An earlier version of the plan: all it gave must be given still, in the same way."),
    ] = None,
    production: Annotated[
        bool, typer.Option("--production", help="Refuse documentation, deprecated and reserved blocks.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Check plans by a program that shares nothing with the planner, and review them.

    Derives every prefix again, and proves: digest, counts, none over another, all nested, nothing quarantined given
    again, all divisions covered; several plans together give no prefix twice. The review (lint) names what will hurt.
    Exit 0 when every check passed and nothing found is an error, 1 when not, 2 for bad input.
    """
    from addressing.checker import check_across, check_plan_file
    from addressing.signing import verify_report
    from inventory.errors import ExtranetError
    from inventory.keys import read_private_key, read_public_key

    if len({f.resolve() for f in files}) < len(files):
        raise ExtranetError("the same file is named twice: name each plan once")
    if base is not None and len(files) > 1:
        raise ExtranetError("--base: is the earlier version of one plan; check each plan by itself")
    signer = read_private_key(sign) if sign else None
    verifier = read_public_key(key) if key else None
    seen = read_used(used) if used else []
    progress = Progress(quiet=as_json)
    reports: list[Report] = []
    findings: dict[Path, tuple[Finding, ...]] = {}
    for file in files:
        with progress.step(f"checking {file}"):
            report = check_plan_file(file, divisions=divisions, base=base)
            if verifier is not None:
                signed = verify_report(report, verifier, signature_of(file))
                report = replace(report, checks=(*report.checks, signed))
            findings[file] = review(file, report, seen, used, production=production)
            reports.append(report)
    across = [check_across(reports)] if len(reports) > 1 else []
    errors = sum(f.severity == "error" for found in findings.values() for f in found)
    good = all(r.ok for r in reports) and all(c.ok for c in across) and not errors
    if signer is not None and good:
        from addressing.signing import sign_report
        from inventory.files import write_whole

        for file, report in zip(files, reports, strict=True):
            write_whole(signature_of(file), json.dumps(sign_report(report, signer), indent=1) + "\n")
    if as_json:
        print_json(
            {
                "ok": good,
                "plans": [
                    {**r.as_json(), "findings": [f.model_dump(mode="json") for f in found]}
                    for r, found in zip(reports, findings.values(), strict=True)
                ],
                "across": [c._asdict() for c in across],
                "signed": signer is not None and good,
            }
        )
    else:
        for report, found in zip(reports, findings.values(), strict=True):
            show(report, found)
        show_checks(across)
        if signer is not None:
            progress.say("signed" if good else "not signed: something failed")
    if not good:
        raise typer.Exit(1)


def signature_of(file: Path) -> Path:
    """Return where a plan's signature is."""
    from addressing.signing import signature_path

    return signature_path(file)


def read_used(path: Path) -> list[Prefix]:
    """Return the addresses in a text; ExtranetError when there are none, as nothing would be checked."""
    from addressing.attribution import find_addresses
    from inventory.errors import ExtranetError

    try:
        with path.open(encoding="utf-8", errors="replace") as lines:
            found = [address for _, _, address in find_addresses(lines, ipv4=True)]
    except OSError as error:
        raise ExtranetError(f"{path}: cannot be read ({error.strerror}); name a text with addresses in it") from error
    if not found:
        raise ExtranetError(f"{path}: no address in it; expected some text with IPv6 addresses, one or more a line")
    return found


def review(
    file: Path, report: Report, seen: list[Prefix], used: Path | None, *, production: bool
) -> tuple[Finding, ...]:
    """Return what the lint finds; nothing for a plan too damaged to be read, as the checks have said so."""
    from addressing.hierarchyfile import load_plan
    from addressing.lint import lint, lint_text

    try:
        plan = load_plan(file)
        found = lint(plan, production=production, used=seen)
    except Exception:  # what is damaged may break the review anywhere; the checks have named it
        if report.ok:
            raise
        return ()
    if used is not None:
        with used.open(encoding="utf-8", errors="replace") as lines:
            found += lint_text(lines, str(used))
    return found


def show(report: Report, findings: tuple[Finding, ...]) -> None:
    """Print what was found of one plan."""
    from rich.markup import escape

    from inventory.wording import counted

    screen = console()
    verdict = "[green]good[/]" if report.ok else "[red]not good[/]"
    screen.print(f"[bold]{escape(report.file)}[/]: {verdict}; {counted(report.counts.get('rows', 0), 'row')}; "
                 f"digest {report.sha256[:16]}")  # fmt: skip
    show_checks(list(report.checks))
    for line in report.advice:
        screen.print(f"  advice {line}", markup=False)
    for finding in findings:
        screen.print(f"  {finding}", markup=False)


def show_checks(checks: list[Check]) -> None:
    """Print checks, one a line."""
    from rich.markup import escape

    for one in checks:
        mark = "[green]pass[/]" if one.ok else "[red]FAIL[/]"
        console().print(f"  {mark} {one.name:12} {escape(one.detail)}")
