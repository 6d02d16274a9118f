"""What county.yaml says about checkpoints: who signs them, and where copies are kept. Then no record passes without one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from inventory.keys import parse_public_key
from migration.ledger.checkpoints import check_folders
from migration.ledger.errors import LedgerBrokenError, LedgerFormatError
from migration.ledger.place import read_settings
from migration.ledger.record import Ledger


@dataclass(frozen=True)
class Pin:
    """Who signs a county's checkpoints, and the second folder they are kept in. Without keys nothing is pinned."""

    keys: tuple[Ed25519PublicKey, ...] = ()
    copies: Path | None = None


def read_pin(folder: Path) -> Pin:
    """Read `checkpoint_keys` and `checkpoint_copies` of a county; LedgerFormatError where they cannot be understood."""
    path = folder / "county.yaml"
    settings = read_settings(path)
    copies = settings.get("checkpoint_copies")
    if copies is not None and not (isinstance(copies, str) and copies.strip()):
        raise LedgerFormatError(f"{path} [checkpoint_copies]", "expected a folder, found none", "correct it")
    return Pin(keys=_read_keys(path, settings), copies=folder / copies if copies else None)


def _read_keys(path: Path, settings: Mapping[str, Any]) -> tuple[Ed25519PublicKey, ...]:
    lines = settings.get("checkpoint_keys")
    try:
        if not isinstance(lines, list | None) or not all(isinstance(line, str) for line in lines or ()):
            raise ValueError("expected a list of public keys, found something else")
        return tuple(parse_public_key(line) for line in lines or ())
    except ValueError as error:
        raise LedgerFormatError(f"{path} [checkpoint_keys]", str(error), "correct it") from None


def refuse_unsigned(ledger: Ledger, folder: Path) -> None:
    """Compare a record that was just opened with the checkpoints at hand, where the county names who signs them.

    Asks only for the events that they speak of, so it is done each time; `ledger verify` reads everything.

    Raises:
        LedgerBrokenError: shorter than a checkpoint or another than it says, none at all, or signed by somebody else.
    """
    pin = read_pin(folder)
    if pin.keys or pin.copies is not None:
        breaks = check_folders(ledger, folder, pin.keys, copies=pin.copies)
        if breaks:
            raise LedgerBrokenError(ledger.where, breaks)
