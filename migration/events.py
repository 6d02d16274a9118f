"""What the ledger holds, as values: events, their canonical JSON and the chain of hashes.

An event's hash is the sha256 over the canonical JSON of all its other fields, `prev` among them, where `prev` is the
hash of the event before; `token` is among them only where there is one. Canonical JSON: keys sorted, no spaces, UTF-8,
no NaN and no infinity. So an event can be checked with nothing but this page and `sha256sum`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any

from inventory.model import Model
from migration.clock import from_iso

GENESIS = "0" * 64
"""`prev` of the first event."""


class Kind(StrEnum):
    """What an event is. An `intent` comes before its act, the `outcome` with the same key after it.

    A `checkpoint` holds a signature over the head before it.
    """

    INTENT = "intent"
    OUTCOME = "outcome"
    EVIDENCE = "evidence"
    SOAK = "soak"
    VERDICT = "verdict"
    NOTE = "note"
    EXCEPTION = "exception"
    """A recorded exception to a gate, or its withdrawal (`migration.waivers`)."""
    CHECKPOINT = "checkpoint"


class Event(Model):
    """One entry of the ledger. `at` is ISO 8601 in UTC with microseconds; `target` is `lab NAME` or `field`.

    `token` is that of the lease it was appended under, None for what changes no network.
    """

    seq: int
    at: str
    actor: str
    target: str
    kind: Kind
    key: str
    unit: str | None
    body: dict[str, Any]
    prev: str
    hash: str
    token: int | None = None

    @property
    def moment(self) -> datetime:
        """`at` as an aware UTC time."""
        return from_iso(self.at)


class Entry(Model):
    """What somebody wants to add: an event without what the ledger itself gives it."""

    kind: Kind
    key: str
    body: dict[str, Any]
    unit: str | None = None
    actor: str | None = None


class Head(Model):
    """The end of the chain: what a report prints and a second pair of eyes keeps."""

    seq: int
    hash: str


class Break(Model):
    """One place where the record is not whole: `seq` is the first event concerned (0: the file), `what` says how.

    `kind`: `altered` (content does not match its hash), `removed` (a gap), `reordered` (a whole event in another's
    place), `forged` (hashes recomputed over other content), `truncated` (the tail is gone), `head` (nothing
    to compare with), `unguarded` (what forbids changes in the database is missing or was changed), `checkpoint` (a
    signed checkpoint is missing, or not signed by who should have), `leases` (leases were removed or inserted).
    """

    seq: int
    kind: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.kind}: {self.what}"

    @property
    def where(self) -> str:
        """What it is about: an event, or the whole file."""
        return f"event {self.seq}" if self.seq else "the file"


def canonical_json(value: Any) -> str:
    """Write a value as canonical JSON; ValueError or TypeError when it is not plain JSON."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest_of(value: Any) -> str:
    """Return the sha256 (hex) over a value's canonical JSON."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def hash_event(fields: Mapping[str, Any]) -> str:
    """Return the hash of an event given as its other fields (a `hash` among them is left out)."""
    return digest_of({n: v for n, v in fields.items() if n != "hash" and not (n == "token" and v is None)})
