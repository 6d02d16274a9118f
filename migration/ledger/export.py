"""Write a record out, to be verified elsewhere with scripts/verify_ledger.py and nothing of ours.

JSON Lines: `{"format": ...}`, then each event as canonical JSON with its hash, then `{"checkpoint": {...}}` for each
checkpoint of the folder, and at the end `{"head": {"seq": ..., "hash": ...}}`. A file without its last line is not whole.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from tempfile import NamedTemporaryFile

from inventory.errors import CheckFailedError
from inventory.files import WriteError
from migration.events import Head, canonical_json
from migration.ledger.chain import Row, write_row
from migration.ledger.checkpoints import Witness, verify_checkpoints
from migration.ledger.errors import LedgerBrokenError
from migration.ledger.pinned import read_pin
from migration.ledger.place import CHECKPOINT_DIR
from migration.ledger.record import Ledger, OnProgress

FORMAT = "extranet ledger export/1"


def export_ledger(ledger: Ledger, out: Path, folder: Path, on_progress: OnProgress | None = None) -> tuple[Head, int]:
    """Write a whole record and its checkpoints; return the head and how many checkpoints. It appears whole or not at all.

    Raises:
        LedgerBrokenError: the record is not whole; nothing is written.
        CheckFailedError: there is nothing to write.
    """
    pin = read_pin(folder)
    survey, witnesses = verify_checkpoints(ledger, folder, pin.keys, copies=pin.copies)
    if survey.breaks:
        raise LedgerBrokenError(ledger.where, survey.breaks)
    if not survey.last.seq:
        raise CheckFailedError(f"{ledger.where}: no event yet - there is nothing to export")
    files = [w for w in witnesses if w.source.startswith(f"{CHECKPOINT_DIR}/")]
    try:
        with NamedTemporaryFile("w", encoding="utf-8", dir=out.parent, prefix=f".{out.name}.", delete=False) as stream:
            ready = Path(stream.name)
            try:
                head = _write(ledger, stream.write, files, on_progress)
                stream.flush()
                os.fsync(stream.fileno())
                ready.chmod(0o644)
                ready.replace(out)
            except BaseException:
                ready.unlink(missing_ok=True)
                raise
    except OSError as error:
        raise WriteError(out, error) from error
    return head, len(files)


def _write(ledger: Ledger, put: Callable[[str], object], files: list[Witness], on_progress: OnProgress | None) -> Head:
    def put_row(row: Row) -> None:
        text = write_row(row)
        # `hash` in its place among the sorted keys: after `body`, before `key`, where the body cannot be mistaken for it.
        cut = text.index(f',"body":{row.body},"key":') + len(f',"body":{row.body},')
        put(f'{text[:cut]}"hash":"{row.hash}",{text[cut:]}\n')

    put(canonical_json({"format": FORMAT}) + "\n")
    survey = ledger.survey(on_row=put_row, on_progress=on_progress)
    if survey.breaks:
        raise LedgerBrokenError(ledger.where, survey.breaks)
    for witness in files:
        put(canonical_json({"checkpoint": witness.checkpoint.model_dump(mode="json")}) + "\n")
    put(canonical_json({"head": survey.last.model_dump(mode="json")}) + "\n")
    return survey.last
