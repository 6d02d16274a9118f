"""Signed checkpoints: somebody puts their name to the head of the chain, so that the whole of it cannot be rewritten unseen.

A checkpoint is kept three times: in the folder `checkpoints/` beside the record, as an event after the one it speaks of,
and wherever people take a copy to; `copies` is a folder that one is put into as it is signed. What is signed is its
canonical JSON without the signature.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
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
from migration.ledger.place import CHECKPOINT_DIR
from migration.ledger.record import Ledger, OnProgress, Survey

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


def sign_head(
    ledger: Ledger,
    key: Ed25519PrivateKey,
    folder: Path,
    clock: Clock,
    *,
    keys: Sequence[Ed25519PublicKey] = (),
    copies: Path | None = None,
) -> tuple[Checkpoint, Path]:
    """Check the whole record, sign its head, and keep the checkpoint in the folder, among the copies and as an event.

    Raises:
        LedgerBrokenError: the record is not whole, or not what an earlier checkpoint says; nothing is signed.
        CheckFailedError: there is no event to sign, or by `keys` somebody else signs here.
    """
    mine = fingerprint(key.public_key())
    if keys and mine not in map(fingerprint, keys):
        named = ", ".join(map(fingerprint, keys))
        raise CheckFailedError(f"checkpoint_keys in county.yaml: expected a key of {named}, found {mine}")
    survey, witnesses = verify_checkpoints(ledger, folder, copies=copies)
    breaks = [*survey.breaks, *(_check_signatures(witnesses, keys) if witnesses and keys else ())]
    if breaks:
        raise LedgerBrokenError(ledger.where, breaks)
    if not survey.last.seq:
        raise CheckFailedError(f"{ledger.where}: no event yet - there is nothing to sign")
    bare = Checkpoint(
        seq=survey.last.seq,
        hash=survey.last.hash,
        count=survey.last.seq,
        at=to_iso(clock.now()),
        target=ledger.target,
        key=mine,
    )
    signed = bare.altered(signature=sign_message(bare.message, key))
    path = folder / CHECKPOINT_DIR / f"{signed.name}.json"
    # The files first: a checkpoint that is only in the chain would be missed there by the next verification.
    for place in (path, *([copies / path.name] if copies else ())):
        write_whole(place, canonical_json(signed.model_dump(mode="json")) + "\n")
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
    copies: Path | None = None,
    on_progress: OnProgress | None = None,
) -> tuple[Survey, list[Witness]]:
    """Check the whole record, and every checkpoint in the folders, in the chain and kept elsewhere against it.

    With `keys`, each must be signed by one of them, and there must be one; `known` ones must be here as well.
    """
    there, damaged = _read_folder(folder / CHECKPOINT_DIR, CHECKPOINT_DIR)
    copied, unread_copies = _read_copies(copies)
    witnesses = [(w.checkpoint.head, w.source) for w in (*there, *copied)]
    witnesses += [(c.head, "a checkpoint kept elsewhere") for c in known]
    witnesses += [(h, "the head kept elsewhere") for h in heads]
    survey = ledger.survey(known=witnesses, on_progress=on_progress)
    in_chain, unread = _read_events(survey.checkpoints)
    missing = [
        *(_name_missing(in_chain, there, f"{CHECKPOINT_DIR}/") if _is_kept_here(ledger) else ()),
        *(_name_missing(in_chain, copied, str(copies)) if copies else ()),
        *_name_unknown(known, (*there, *in_chain)),
    ]
    breaks = [*survey.breaks, *damaged, *unread_copies, *unread, *missing]
    elsewhere = [Witness(checkpoint=c, source="a checkpoint kept elsewhere") for c in known]
    everyone = [*there, *copied, *in_chain, *elsewhere]
    # Those of the chain are compared with the chain once it is known where they point.
    breaks += ledger.compare([(w.checkpoint.head, w.source) for w in in_chain])
    if keys:
        breaks += _check_signatures(everyone, keys)
    found = {(b.seq, b.kind, b.what): b for b in breaks}
    ordered = tuple(sorted(found.values(), key=lambda b: b.seq))
    return replace(survey, breaks=ordered), everyone


def check_folders(
    ledger: Ledger, folder: Path, keys: Sequence[Ed25519PublicKey], *, copies: Path | None = None
) -> list[Break]:
    """Compare a record with the checkpoints kept beside it and among the copies, without reading all of it.

    Where several machines share a record and this one has no file, those in the chain are taken.
    """
    there, damaged = _read_folder(folder / CHECKPOINT_DIR, CHECKPOINT_DIR)
    copied, unread = _read_copies(copies)
    found = [*there, *copied]
    if not found and not _is_kept_here(ledger):
        found, strange = _read_events(ledger.find_checkpoints())
        unread = [*unread, *strange]
    breaks = [*damaged, *unread, *ledger.compare([(w.checkpoint.head, w.source) for w in found])]
    return [*breaks, *(_check_signatures(found, keys) if keys else ())]


def _is_kept_here(ledger: Ledger) -> bool:
    """Tell whether each checkpoint must have its file here; of a server's record only the machine that signed has it."""
    return ledger.head_file is not None and ledger.head_file.required


def _read_copies(copies: Path | None) -> tuple[list[Witness], list[Break]]:
    if copies is None:
        return [], []
    if not copies.is_dir():
        what = f"no folder {copies}, where copies are to be kept (checkpoint_copies): mount it"
        return [], [Break(seq=0, kind="checkpoint", what=what)]
    return _read_folder(copies, str(copies))


def _read_folder(folder: Path, name: str) -> tuple[list[Witness], list[Break]]:
    found, damaged = [], []
    for path in sorted(folder.glob("*.json")):
        try:
            found.append(Witness(checkpoint=read_checkpoint(path), source=f"{name}/{path.name}"))
        except CheckpointFileError:
            damaged.append(Break(seq=0, kind="checkpoint", what=f"{name}/{path.name} is damaged"))
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


def _name_missing(in_chain: Sequence[Witness], there: Sequence[Witness], where: str) -> list[Break]:
    """Name those of the chain that a folder lacks. One that is only in a folder is none: a crash came before its event."""
    files = {w.checkpoint.signature for w in there}
    return [
        Break(seq=w.checkpoint.seq, kind="checkpoint", what=f"{w.source} is missing in {where}")
        for w in in_chain
        if w.checkpoint.signature not in files
    ]


def _name_unknown(known: Sequence[Checkpoint], here: Sequence[Witness]) -> list[Break]:
    found = {w.checkpoint.signature for w in here}
    return [
        Break(seq=c.seq, kind="checkpoint", what=f"the checkpoint of {c.at} kept elsewhere is missing here")
        for c in known
        if c.signature not in found
    ]


def _check_signatures(everyone: Sequence[Witness], signers: Sequence[Ed25519PublicKey]) -> list[Break]:
    keys = {fingerprint(k): k for k in signers}
    if not everyone:
        what = "there is none, so nobody has signed anything - put the copy back that was taken elsewhere"
        return [Break(seq=0, kind="checkpoint", what=what)]
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
