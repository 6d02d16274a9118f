"""Signed checkpoints: somebody puts their name to the head of the chain, so that the whole of it cannot be rewritten unseen.

A checkpoint is kept three times: in the folder `checkpoints/` beside the record, as an event after the one it speaks of,
and wherever people take a copy to. What is signed is its canonical JSON without the signature.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from pydantic import ValidationError

from inventory.errors import CheckFailedError, ExtranetError
from inventory.files import write_whole
from inventory.keys import fingerprint, is_signed, sign_message
from inventory.model import Model
from migration.clock import Clock, to_iso
from migration.events import Break, Event, Head, Kind, canonical_json
from migration.ledger.errors import LedgerBrokenError
from migration.ledger.record import Ledger, OnProgress, Survey

CHECKPOINT_DIR = "checkpoints"
FORMAT: Literal["extranet ledger checkpoint/1"] = "extranet ledger checkpoint/1"


class Checkpoint(Model):
    """The head of a chain at one time, signed. `key` is the fingerprint of who signed."""

    format: Literal["extranet ledger checkpoint/1"] = FORMAT
    seq: int
    hash: str
    count: int
    at: str
    target: str
    key: str
    signature: str = ""

    @property
    def head(self) -> Head:
        """The head it speaks of."""
        return Head(seq=self.seq, hash=self.hash)

    @property
    def message(self) -> bytes:
        """What is signed."""
        return canonical_json(self.model_dump(mode="json", exclude={"signature"})).encode()

    @property
    def name(self) -> str:
        """The name of its file, and the key of its event: one for each head and signer."""
        return f"{self.seq:09}-{self.hash[:12]}-{self.key.removeprefix('SHA256:')[:8].translate(_PLAIN)}"


_PLAIN = str.maketrans("/+", "__")


class CheckpointFileError(ExtranetError):
    """A file is no checkpoint."""

    def __init__(self, path: Path, what: str) -> None:
        super().__init__(f"{path}: {what}; name a checkpoint that 'extranet ledger checkpoint' wrote")


class Witness(Model):
    """A checkpoint, and where it was found."""

    checkpoint: Checkpoint
    source: str


def sign_head(ledger: Ledger, key: Ed25519PrivateKey, folder: Path, clock: Clock) -> tuple[Checkpoint, Path]:
    """Check the whole record, sign its head, and keep the checkpoint in the folder and as an event.

    Raises:
        LedgerBrokenError: the record is not whole; nothing is signed.
        CheckFailedError: there is no event to sign.
    """
    survey = ledger.survey()
    if survey.breaks:
        raise LedgerBrokenError(ledger.where, survey.breaks)
    if not survey.last.seq:
        raise CheckFailedError(f"{ledger.where}: no event yet - there is nothing to sign")
    bare = Checkpoint(
        seq=survey.last.seq,
        hash=survey.last.hash,
        count=survey.last.seq,
        at=to_iso(clock.now()),
        target=ledger.target,
        key=fingerprint(key.public_key()),
    )
    signed = bare.altered(signature=sign_message(bare.message, key))
    path = folder / CHECKPOINT_DIR / f"{signed.name}.json"
    # The file first: a checkpoint that is only in the chain would be missed there by the next verification.
    write_whole(path, canonical_json(signed.model_dump(mode="json")) + "\n")
    ledger.append(Kind.CHECKPOINT, signed.name, {"checkpoint": signed.model_dump(mode="json")})
    return signed, path


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint's file."""
    try:
        return Checkpoint.model_validate_json(path.read_bytes())
    except OSError as error:
        raise CheckpointFileError(path, f"cannot be read ({error.strerror})") from error
    except ValidationError as error:
        raise CheckpointFileError(path, f"is no checkpoint ({error.error_count()} fields do not fit)") from error


def verify_checkpoints(
    ledger: Ledger,
    folder: Path,
    keys: Sequence[Ed25519PublicKey] = (),
    *,
    known: Sequence[Checkpoint] = (),
    heads: Sequence[Head] = (),
    on_progress: OnProgress | None = None,
) -> tuple[Survey, list[Witness]]:
    """Check the whole record, and every checkpoint in the folder, in the chain and kept elsewhere against it.

    With `keys`, each must be signed by one of them, and there must be one; `known` ones must be here as well.
    """
    there, damaged = _read_folder(folder)
    witnesses = [(w.checkpoint.head, w.source) for w in there]
    witnesses += [(c.head, "a checkpoint kept elsewhere") for c in known]
    witnesses += [(h, "the head kept elsewhere") for h in heads]
    survey = ledger.survey(known=witnesses, on_progress=on_progress)
    in_chain, unread = _read_events(survey.checkpoints)
    # Several machines share a server's record; only the one that signed has the file.
    kept_here = ledger.head_file is not None and ledger.head_file.required
    missing = _compare_places(there, in_chain, known, kept_here=kept_here)
    breaks = [*survey.breaks, *damaged, *unread, *missing]
    everyone = [*there, *in_chain, *(Witness(checkpoint=c, source="a checkpoint kept elsewhere") for c in known)]
    # Those of the chain are compared with the chain once it is known where they point.
    breaks += ledger.compare([(w.checkpoint.head, w.source) for w in in_chain])
    if keys:
        breaks += _check_signatures(everyone, {fingerprint(k): k for k in keys})
    found = {(b.seq, b.kind, b.what): b for b in breaks}
    ordered = tuple(sorted(found.values(), key=lambda b: b.seq))
    return Survey(ordered, survey.last, survey.checkpoints), everyone


def _read_folder(folder: Path) -> tuple[list[Witness], list[Break]]:
    found, damaged = [], []
    for path in sorted((folder / CHECKPOINT_DIR).glob("*.json")):
        try:
            found.append(Witness(checkpoint=read_checkpoint(path), source=f"{CHECKPOINT_DIR}/{path.name}"))
        except CheckpointFileError:
            damaged.append(Break(seq=0, kind="checkpoint", what=f"{CHECKPOINT_DIR}/{path.name} is damaged"))
    return found, damaged


def _read_events(events: Iterable[Event]) -> tuple[list[Witness], list[Break]]:
    found, unread = [], []
    for event in events:
        body: Mapping[str, Any] = event.body
        try:
            checkpoint = Checkpoint.model_validate(body.get("checkpoint"))
        except ValidationError:
            unread.append(Break(seq=event.seq, kind="checkpoint", what="holds what is no checkpoint"))
            continue
        if checkpoint.seq >= event.seq:
            unread.append(Break(seq=event.seq, kind="checkpoint", what="speaks of events that came after it"))
            continue
        found.append(Witness(checkpoint=checkpoint, source=f"the checkpoint in event {event.seq}"))
    return found, unread


def _compare_places(
    there: Sequence[Witness], in_chain: Sequence[Witness], known: Sequence[Checkpoint], *, kept_here: bool
) -> list[Break]:
    """Name checkpoints that are missing. One that is only in the folder is not: a crash came before its event."""
    files = {w.checkpoint.signature for w in there}
    events = {w.checkpoint.signature for w in in_chain}
    lost = [
        (w.checkpoint.seq, f"{w.source} is missing in {CHECKPOINT_DIR}/")
        for w in in_chain
        if kept_here and w.checkpoint.signature not in files
    ]
    lost += [
        (c.seq, f"the checkpoint of {c.at} kept elsewhere is missing here")
        for c in known
        if c.signature not in files | events
    ]
    return [Break(seq=seq, kind="checkpoint", what=what) for seq, what in lost]


def _check_signatures(everyone: Sequence[Witness], keys: Mapping[str, Ed25519PublicKey]) -> list[Break]:
    if not everyone:
        return [Break(seq=0, kind="checkpoint", what="there is none, so nobody has signed anything")]
    out = []
    for one in everyone:
        checkpoint = one.checkpoint
        if checkpoint.key not in keys:
            what = f"{one.source}: signed by {checkpoint.key}, not by {', '.join(keys)}"
        elif not is_signed(checkpoint.message, checkpoint.signature, keys[checkpoint.key]):
            what = f"{one.source}: the signature is not that of {checkpoint.key}"
        else:
            continue
        out.append(Break(seq=checkpoint.seq, kind="checkpoint", what=what))
    return out
