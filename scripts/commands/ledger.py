"""`extranet ledger`: the record."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from inventory.wording import counted
from scripts.commands._shell import HERE, AsJson, CountyDir, Progress, boundary, console, print_json, show_standing

if TYPE_CHECKING:
    from collections.abc import Collection

    from migration.events import Head
    from migration.ledger.checkpoints import Checkpoint

app = typer.Typer(no_args_is_help=True)


@app.callback()
def group() -> None:
    """The record of what was intended, done, measured and decided."""


@app.command("verify")
@boundary
def verify_ledger(
    county: CountyDir = HERE,
    public_key: Annotated[
        list[Path] | None,
        typer.Option(
            help="Ed25519 public key: each checkpoint must be signed by it, and there must be one. May be repeated."
        ),
    ] = None,
    known: Annotated[
        list[str] | None,
        typer.Option(
            help="Kept elsewhere: SEQ:HASH of a head, or a checkpoint's file. May be repeated.", metavar="KNOWN"
        ),
    ] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Recompute the chain: find any event altered, removed, reordered or forged, and whether changes are still forbidden.

    Compares it with every checkpoint as well; who must have signed them stands in county.yaml (checkpoint_keys) or is
    named here. Exit 0 whole, 1 broken.
    """
    from inventory.errors import CheckFailedError
    from inventory.keys import read_public_key
    from migration.campaign import open_ledger
    from migration.ledger.checkpoints import Checkpoint, verify_checkpoints
    from migration.ledger.pinned import read_pin
    from migration.standing import find_standing_in

    pin = read_pin(county)
    keys = [read_public_key(path) for path in public_key or []] or list(pin.keys)
    kept = [_read_known(text) for text in known or []]
    progress = Progress(quiet=as_json)
    with open_ledger(county, compared=False) as ledger:
        survey, witnesses = verify_checkpoints(
            ledger,
            county,
            keys,
            known=[k for k in kept if isinstance(k, Checkpoint)],
            heads=[k for k in kept if not isinstance(k, Checkpoint)],
            copies=pin.copies,
            on_progress=lambda done, of: progress.tick(done, of, "events"),
        )
        breaks, head = survey.breaks, survey.last
        if not breaks and not head.seq:
            raise CheckFailedError(f"{ledger.where}: no event yet - there is nothing to verify")
    checkpoints = len({w.checkpoint.signature for w in witnesses})
    standing = find_standing_in(county)
    if as_json:
        body = {
            "whole": not breaks,
            "events": head.seq,
            "head": head.hash,
            "checkpoints": checkpoints,
            "signatures_checked": bool(keys),
            "breaks": [b.model_dump(mode="json") for b in breaks],
            **standing.as_json(),
        }
        print_json(body)
    else:
        for found in breaks:
            console().print(f"[red]broken[/] at {found.where} ({found.kind}): {found.what}")
        if not breaks:
            signed = f", {counted(checkpoints, 'checkpoint')}" if checkpoints else ""
            signed += (
                ""
                if keys or not checkpoints
                else " whose signatures were not checked (--public-key, or checkpoint_keys in county.yaml)"
            )
            console().print(f"[green]whole[/]: {counted(head.seq, 'event')}, head {head.seq}:{head.hash}{signed}")
        show_standing(standing)
    raise typer.Exit(1 if breaks else 0)


def _read_known(text: str) -> Head | Checkpoint:
    """Read what somebody kept: a head as SEQ:HASH, or a checkpoint's file."""
    from migration.events import Head
    from migration.ledger.checkpoints import read_checkpoint

    seq, _, digest = text.partition(":")
    if re.fullmatch(r"[0-9]{1,18}:[0-9A-Fa-f]{64}", text):
        return Head(seq=int(seq), hash=digest.lower())
    return read_checkpoint(Path(text))


@app.command()
@boundary
def checkpoint(
    key: Annotated[Path, typer.Option(help="Ed25519 private key, PEM or OpenSSH, without a passphrase.")],
    county: CountyDir = HERE,
    *,
    as_json: AsJson = False,
) -> None:
    """Sign the head of the chain, so that the whole of it cannot be rewritten unnoticed: take a copy of the file elsewhere."""
    from inventory.keys import public_line, read_private_key
    from migration.campaign import open_campaign
    from migration.clock import SystemClock
    from migration.ledger.checkpoints import sign_head
    from migration.ledger.pinned import read_pin

    private = read_private_key(key)
    campaign = open_campaign(county)
    pin = read_pin(county)
    with campaign.ledger_for_signing() as ledger:
        signed, path = sign_head(ledger, private, county, SystemClock(), keys=pin.keys, copies=pin.copies)
    if as_json:
        body = {"file": str(path), "checkpoint": signed.model_dump(mode="json"), "pinned": bool(pin.keys)}
        print_json({**body, "public_key": public_line(private.public_key())})
        return
    console().print(
        f"signed: {counted(signed.count, 'event')}, head {signed.count}:{signed.hash}, by {signed.key}", markup=False
    )
    console().print(f"  {path}", markup=False)
    if not pin.keys:
        line = f'checkpoint_keys: ["{public_line(private.public_key())}"]'
        console().print(f"  so that nobody goes on without it, in county.yaml: {line}", markup=False, soft_wrap=True)


@app.command("export")
@boundary
def export_command(
    out: Annotated[Path, typer.Option(help="The file to write (JSON Lines).")],
    county: CountyDir = HERE,
    *,
    as_json: AsJson = False,
) -> None:
    """Write the whole record to a file that scripts/verify_ledger.py verifies elsewhere, with Python alone."""
    from inventory.files import check_writable
    from migration.campaign import open_ledger
    from migration.ledger.export import export_ledger

    check_writable(out)
    progress = Progress(quiet=as_json)
    with open_ledger(county, compared=False) as ledger:
        head, checkpoints = export_ledger(
            ledger, out, county, on_progress=lambda done, of: progress.tick(done, of, "events")
        )
    if as_json:
        print_json({"file": str(out), "events": head.seq, "head": head.hash, "checkpoints": checkpoints})
        return
    what = f"{counted(head.seq, 'event')}, {counted(checkpoints, 'checkpoint')}, head {head.hash}"
    console().print(f"{out}: {what}", markup=False)


@app.command()
@boundary
def upgrade(county: CountyDir = HERE, *, as_json: AsJson = False) -> None:
    """Take a ledger that an older version made to today's form, after a backup; no event changes."""
    from migration.ledger import find_ledger
    from migration.ledger.leases import campaign_lock
    from migration.ledger.revisions import upgrade_ledger

    with campaign_lock(county, "ledger upgrade"):
        done = upgrade_ledger(find_ledger(county), county)
    if as_json:
        print_json(done.model_dump(mode="json"))
    elif done.was == done.to:
        console().print(f"nothing to do: revision {done.to}, {counted(done.head.seq, 'event')}")
    else:
        console().print(
            f"upgraded from revision {done.was} to {done.to}: {counted(done.head.seq, 'event')}, all as before"
        )
        console().print(f"  backup: {done.backup}", markup=False)


@app.command()
@boundary
def show(
    county: CountyDir = HERE,
    unit: Annotated[str | None, typer.Option(help="Only this unit's events.")] = None,
    last: Annotated[int, typer.Option(min=1, help="How many, newest last.")] = 30,
    *,
    as_json: AsJson = False,
) -> None:
    """List the newest events. Exit 2 where the unit named is neither on record nor in the inventory."""
    from migration.campaign import open_ledger

    known = open_ledger(county).events(all_targets=True)
    unit = _choose_unit(county, unit, {e.unit for e in known if e.unit}) if unit is not None else None
    events = [e for e in known if unit is None or e.unit == unit][-last:]
    if as_json:
        print_json([e.model_dump(mode="json") for e in events])
        return
    if not events:
        of = f" of {unit}" if unit else ""
        console().print(f"no event{of}", markup=False)
    for event in events:
        body = event.body
        what = body.get("state") or body.get("step") or body.get("gate") or ""
        note = body.get("reason") or body.get("result") or ""
        if "allowed" in body:
            note = "allowed" if body["allowed"] else f"refused, {counted(int(body.get('reasons', 0)), 'reason')}"
        who = event.unit or ", ".join(map(str, body.get("units", [])[:2]))
        console().print(f"{event.seq:5} {event.at[:19]}Z {event.kind:8} {who:28} {what} {note}".rstrip(), markup=False)


def _choose_unit(folder: Path, name: str, on_record: Collection[str]) -> str:
    """Return the unit a person named: one on record, or else of the inventory, where that can be read."""
    from inventory.errors import InputProblemsError, UnknownNameError
    from migration.campaign import open_campaign

    if name in on_record:
        return name
    try:
        campaign = open_campaign(folder)
    except InputProblemsError:
        raise UnknownNameError("unit", name, sorted(on_record), where="the record") from None
    return replace(campaign, county=campaign.whole).find_unit(name).id
