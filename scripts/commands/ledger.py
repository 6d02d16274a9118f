"""`extranet ledger`: the record."""

from __future__ import annotations

from typing import Annotated

import typer

from inventory.wording import counted
from scripts.commands._shell import HERE, AsJson, CountyDir, boundary, console, print_json

app = typer.Typer(no_args_is_help=True)


@app.callback()
def group() -> None:
    """The record of what was intended, done, measured and decided."""


@app.command("verify")
@boundary
def verify_ledger(county: CountyDir = HERE, *, as_json: AsJson = False) -> None:
    """Recompute the chain: find any event altered, removed, reordered or forged, and whether changes are still forbidden.

    Exit 0 whole, 1 broken.
    """
    from inventory.errors import CheckFailedError
    from migration.campaign import open_ledger

    ledger = open_ledger(county)
    breaks = ledger.verify()
    head = ledger.head()
    if not breaks and not head.seq:
        raise CheckFailedError(f"{ledger.where}: no event yet - there is nothing to verify")
    if as_json:
        body = {
            "whole": not breaks,
            "events": head.seq,
            "head": head.hash,
            "breaks": [b.model_dump(mode="json") for b in breaks],
        }
        print_json(body)
    else:
        for found in breaks:
            console().print(f"[red]broken[/] at {found.where} ({found.kind}): {found.what}")
        if not breaks:
            console().print(f"[green]whole[/]: {counted(head.seq, 'event')}, head {head.hash[:16]}")
    raise typer.Exit(1 if breaks else 0)


@app.command()
@boundary
def show(
    county: CountyDir = HERE,
    unit: Annotated[str | None, typer.Option(help="Only this unit's events.")] = None,
    last: Annotated[int, typer.Option(min=1, help="How many, newest last.")] = 30,
    *,
    as_json: AsJson = False,
) -> None:
    """List the newest events."""
    from migration.campaign import open_ledger

    events = [e for e in open_ledger(county).events(all_targets=True) if unit is None or e.unit == unit][-last:]
    if as_json:
        print_json([e.model_dump(mode="json") for e in events])
        return
    if not events:
        of = f" of {unit}" if unit else ""
        console().print(f"no event{of}; 'extranet status' lists the units", markup=False)
    for event in events:
        body = event.body
        what = body.get("state") or body.get("step") or body.get("gate") or ""
        note = body.get("reason") or body.get("result") or ""
        if "allowed" in body:
            note = "allowed" if body["allowed"] else f"refused, {counted(int(body.get('reasons', 0)), 'reason')}"
        who = event.unit or ", ".join(map(str, body.get("units", [])[:2]))
        console().print(f"{event.seq:5} {event.at[:19]}Z {event.kind:8} {who:28} {what} {note}".rstrip(), markup=False)
