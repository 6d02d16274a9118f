"""Check stored events one after the other: each against its hash, and against the one before. Holds no more than it must.

An event is hashed from the text it is stored as, without reading it into a model: its body is stored as the canonical
JSON that was hashed, so any other text, even one that means the same, is found altered.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from json.encoder import encode_basestring  # what json.dumps itself writes text with
from json.scanner import make_scanner
from typing import Any, NamedTuple, cast

from pydantic import ValidationError

from migration.events import GENESIS, Break, Event, Head, Kind

_KINDS = frozenset(k.value for k in Kind)
_scan = make_scanner(cast("Any", json.JSONDecoder()))  # raw_decode without its wrapper
_NAMED_SWAPS = 200
"""So many altered events are looked through for swapped ones: each is compared with each."""
_LISTED_BREAKS = 1_000


class Row(NamedTuple):
    """An event as it is stored."""

    seq: int
    at: str
    actor: str
    target: str
    kind: str
    key: str
    unit: str | None
    body: str
    prev: str
    hash: str
    token: int | None


COLUMNS = Row._fields
_make_row = cast("Callable[[Sequence[object]], Row]", partial(tuple.__new__, Row))
"""Row._make, without asking how many fields there are: the query says it. A million rows are a second."""


def write_row(row: Row) -> str:
    """Return the canonical JSON of all a row's fields but its hash."""
    seq, at, actor, target, kind, key, unit, body, prev, _, token = row
    with_token = "" if token is None else f'"token":{token},'
    with_unit = "null" if unit is None else encode_basestring(unit)
    return (
        f'{{"actor":{encode_basestring(actor)},"at":{encode_basestring(at)},"body":{body},'
        f'"key":{encode_basestring(key)},"kind":{encode_basestring(kind)},"prev":{encode_basestring(prev)},'
        f'"seq":{seq},"target":{encode_basestring(target)},{with_token}"unit":{with_unit}}}'
    )


def hash_row(row: Row) -> str:
    """Return the hash that fits a row; empty where a field holds what no event ever held."""
    try:
        return hashlib.sha256(write_row(row).encode()).hexdigest()
    except (TypeError, ValueError):
        return ""


def is_whole(row: Row) -> bool:
    """Tell whether a row is an event, and the one that was hashed."""
    if hash_row(row) != row.hash or row.kind not in _KINDS or type(row.seq) is not int:
        return False
    try:
        body, end = _scan(row.body, 0)
    except (ValueError, RecursionError, StopIteration):  # the last: there is no value at all
        return False
    return type(body) is dict and end == len(row.body)


def make_event(row: Row) -> Event:
    """Return a row as an event."""
    seq, at, actor, target, kind, key, unit, body, prev, digest, token = row
    return Event(
        seq=seq,
        at=at,
        actor=actor,
        target=target,
        kind=Kind(kind),
        key=key,
        unit=unit,
        body=json.loads(body),
        prev=prev,
        hash=digest,
        token=token,
    )


def read_event(row: Row) -> Event | None:
    """Return a row as an event, or None when its fields are not what was ever written."""
    try:
        return make_event(row)
    except (ValueError, TypeError, ValidationError):
        return None


class Chain:
    """Takes rows in order and remembers the last one and what was wrong; after an event that was checked before.

    `token` is the highest that any event carried so far, 0 while none did.
    """

    def __init__(self, after: Head | None = None, token: int = 0) -> None:
        self.last, self.token = after or Head(seq=0, hash=GENESIS), token
        self._breaks: list[Break] = []
        self._altered: list[Row] = []
        self._more = 0
        self._expected, self._previous = self.last.seq + 1, self.last.hash

    def take(self, rows: Iterable[Sequence[object]]) -> Iterator[Row]:
        """Check rows, and hand on each that is whole in itself."""
        expected, previous, altered_at, row = self._expected, self._previous, -1, None
        for row in map(_make_row, rows):  # what a database holds is looked at, not believed
            seq = row.seq
            whole = is_whole(row)
            if seq != expected:
                self._note_gap(expected, seq)
            if not whole:
                self._note_altered(row)
                altered_at = seq
            elif seq == expected and row.prev != previous and altered_at != seq - 1:
                what = f"event {seq} continues from another hash than event {seq - 1} has: one of the two was rewritten"
                self._note(Break(seq=max(seq - 1, 1), kind="forged", what=what))
            if row.token is not None:
                self._check_token(row)
            expected, previous = seq + 1, row.hash
            if whole:
                yield row
        self._expected, self._previous = expected, previous
        if row is not None:
            self.last = Head(seq=row.seq, hash=str(row.hash))

    def breaks(self) -> list[Break]:
        """Return what is wrong, in the order it was met, altered events last."""
        found = self._breaks + _name_altered(self._altered)
        if self._more:
            what = f"and {self._more} more that are not listed"
            found.append(Break(seq=self.last.seq, kind="altered", what=what))
        return found

    def _note(self, found: Break) -> None:
        if len(self._breaks) < _LISTED_BREAKS:
            self._breaks.append(found)
        else:
            self._more += 1

    def _note_gap(self, expected: int, seq: int) -> None:
        if seq < expected:
            self._note(Break(seq=seq, kind="forged", what=f"there is a second event {seq}"))
            return
        gap = f"event {expected}" if seq == expected + 1 else f"events {expected} to {seq - 1}"
        self._note(Break(seq=expected, kind="removed", what=f"{gap} missing"))

    def _note_altered(self, row: Row) -> None:
        if len(self._altered) < _LISTED_BREAKS:
            self._altered.append(row)
        else:
            self._more += 1

    def _check_token(self, row: Row) -> None:
        if type(row.token) is int and row.token < self.token:
            what = f"appended under lease {row.token} after lease {self.token} had been granted"
            self._note(Break(seq=row.seq, kind="forged", what=what))
        elif type(row.token) is int:
            self.token = row.token


def _name_altered(altered: Sequence[Row]) -> list[Break]:
    """Tell swapped events (whole, but in another's place) from changed ones."""
    places = [row.seq for row in altered]
    out: list[Break] = []
    for row in altered:
        home = None
        if len(places) <= _NAMED_SWAPS:
            home = next((p for p in places if p != row.seq and hash_row(row._replace(seq=p)) == row.hash), None)
        if home is not None:
            out.append(Break(seq=row.seq, kind="reordered", what=f"holds what was event {home}"))
        else:
            out.append(Break(seq=row.seq, kind="altered", what="its content does not match its hash"))
    return out


def compare_head(hashes: Mapping[int, str], last: Head, known: Head, source: str) -> list[Break]:
    """Compare a head kept elsewhere with the hash that the event of its number has now."""
    if known.seq > last.seq or known.seq not in hashes:
        return [
            Break(
                seq=last.seq + 1 if last.seq < known.seq else known.seq,
                kind="truncated",
                what=f"the tail is gone - expected event {known.seq} ({source}), found {last.seq or 'none'} as the last",
            )
        ]
    if hashes[known.seq] != known.hash:
        what = f"its hash is not the one {source} holds: the tail was rewritten"
        return [Break(seq=known.seq, kind="forged", what=what)]
    return []
