"""Check a plan independently: read its file, derive every prefix again from the layout, and sign it off.

Shares no code with the planner (a test holds its imports to that): other parsing, other numbering, other proofs. A plan
of version 1 must be exactly what the layout and the codes give; a later one must give every prefix by its home and
slot, and nothing twice, quarantined blocks included.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import permutations
from pathlib import Path
from socket import AF_INET6, inet_ntop, inet_pton
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from addressing.checkcounty import check_county
from addressing.checkreport import Check, Given, Report, sign_off, verdict
from addressing.checktable import (
    ABSORBED,
    ACTIVE,
    CERTIFICATE_FORMAT,
    HIERARCHY_FORMAT,
    QUARANTINED,
    STATES,
    CheckInputError,
    Listed,
    Table,
    masks,
    pad_codes,
    read_bytes,
    read_csv_table,
    read_division_list,
    read_json_table,
)
from inventory.wording import counted

_LONGEST, _NATIONAL = 64, 12
_LAST = (1 << 64) - 1
_AWAITED = "not checked, as rows cannot be read"
_CHAIN = 64
"""Absorptions one after another that are followed before they are called a loop."""


class _Field(NamedTuple):
    level: int
    name: str
    width: int
    length: int
    order: str
    reserved: tuple[int, ...]


@dataclass(frozen=True)
class _Layout:
    """The layout as the certificate says it: pools as (upper 64 bits), fields by level."""

    pools: tuple[int, ...]
    pool_length: int
    fields: tuple[_Field, ...]
    root_level: int


class _LayoutError(Exception):
    """The layout contradicts itself."""


def check_plan_file(
    path: Path,
    certificate: dict[str, Any] | None = None,
    divisions: Path | None = None,
    *,
    base: Path | None = None,
) -> Report:
    """Check one plan: a hierarchy's table or JSON, or a county's plan. The file need not be in its place yet.

    Without `certificate` the one beside the file is read, whose file name and digest must then agree as well. With
    `divisions`, every division of that list must have a prefix, and nobody else; with `base`, an earlier version, all
    that was given then must be given still.

    Raises:
        CheckInputError: the file, the list or the base cannot be read or is something else.
    """
    try:
        return _check_plan_file(path, certificate, divisions, base)
    except RecursionError as error:
        what = "it or its certificate is nested too deep to be a plan"
        raise CheckInputError(path, what, "restore it from your version control") from error


def _check_plan_file(
    path: Path, certificate: dict[str, Any] | None, divisions: Path | None, base: Path | None
) -> Report:
    content = read_bytes(path)
    listed = read_division_list(divisions) if divisions is not None else None
    if content.lstrip()[:1] == b"{" and HIERARCHY_FORMAT.encode() not in content[:400]:
        if listed is not None:
            raise CheckInputError(path, "is a county's plan, which has no codes", "leave the divisions away")
        if base is not None:
            raise CheckInputError(path, "is a county's plan, which has no base", "leave the base away")
        return check_county(path, content)
    head, table = _read_hierarchy(path, content)
    digest = hashlib.sha256(content).hexdigest()
    del content  # a country's plan is 50 MB
    before = _read_base(base) if base is not None else None
    return _check_hierarchy(path, digest, head, table, certificate=certificate, listed=listed, base=before)


def _read_hierarchy(path: Path, content: bytes) -> tuple[dict[str, Any], Table]:
    """Return a hierarchy's head (empty for a table) and its rows."""
    if content.lstrip()[:1] == b"{":
        return read_json_table(path, content)
    table = read_csv_table(content)
    if table.faults and table.faults[0].startswith("row 1: header"):
        raise CheckInputError(path, f"is no plan ({table.faults[0]})", "name a plan's .csv or .json")
    return {}, table


class _Base(NamedTuple):
    """An earlier version of a plan; version 0 when nothing says which it was."""

    name: str
    table: Table
    digest: str
    version: int
    faults: tuple[str, ...]


def _read_base(path: Path) -> _Base:
    content = read_bytes(path)
    if content.lstrip()[:1] == b"{" and HIERARCHY_FORMAT.encode() not in content[:400]:
        raise CheckInputError(path, "is no hierarchy's plan", "name the version before this one")
    digest = hashlib.sha256(content).hexdigest()
    head, table = _read_hierarchy(path, content)
    if table.faults or not len(table):
        fault = table.faults[0] if table.faults else "it has no rows"
        raise CheckInputError(path, f"cannot be held against ({fault})", "restore it from your version control")
    certificate, _, check = _find_certificate(path, digest)
    faults = () if check.ok or certificate is None else (f"{path.name}: {check.detail}",)
    return _Base(path.name, table, digest, _version_of(certificate or head), faults)


def _version_of(described: dict[str, Any]) -> int:
    found = described.get("version")
    return found if isinstance(found, int) and found > 0 else 0


def _check_hierarchy(
    path: Path,
    digest: str,
    head: dict[str, Any],
    table: Table,
    *,
    certificate: dict[str, Any] | None,
    listed: Listed | None,
    base: _Base | None,
) -> Report:
    checks: list[Check] = []
    certificate_digest = ""
    if certificate is None:
        certificate, certificate_digest, check = _find_certificate(path, digest)
    else:
        check = _check_certificate(certificate, digest, None)
    checks.append(check)
    described = certificate or head
    version = _version_of(described)
    checks.append(verdict("text", table.faults, f"{counted(len(table), 'row')}, every prefix canonical (RFC 5952)"))
    layout, check = _read_layout(described)
    checks.append(check)
    if head and certificate:
        differing = [k for k in ("version", "layout", "policy") if head.get(k) != certificate.get(k)]
        checks.append(
            verdict("head", (f"{k} differs from the certificate" for k in differing), "as in the certificate")
        )
    advice: tuple[str, ...] = ()
    if base is None and version > 1:
        advice = (f"version {version} was not held against its base: name version {version - 1} with --base",)
    elif base is not None and len(table):
        advice = tuple(_find_moved_codes(table, base))
    report = Report(str(path), "hierarchy", digest, version, {}, tuple(checks), certificate_digest, advice)
    if table.faults or not len(table):
        fault = _AWAITED if table.faults else "the plan has no rows"
        return replace(report, checks=(*checks, Check("rows", ok=False, detail=fault)))
    names = {f.level: f.name for f in layout.fields} if layout else {}
    counts = _count(table, names)
    checks += _check_rows(table)
    if layout is not None:
        checks += _Derivation(table, layout, version).checks()
        if certificate:
            checks.append(_check_counts(counts, certificate.get("counts")))
    if base is not None:
        said = certificate.get("base") if certificate else None
        checks.append(verdict("carried on", _find_lost(table, version, said, base), f"all of {base.name} is as it was"))
    if listed is not None:
        checks.append(_check_coverage(table, listed, whole=layout is not None and layout.root_level > 0))
    pool_length = layout.pool_length if layout else int(table.lengths.min())
    given = Given(table.high, table.lengths.astype(np.uint8), table.code, pool_length)
    return replace(report, counts=counts, checks=tuple(checks), given=given)


def _find_certificate(path: Path, digest: str) -> tuple[dict[str, Any] | None, str, Check]:
    """Return the certificate beside a plan: the one in place, or the next one if a crash kept it from its place."""
    check = Check("certificate", ok=False, detail="there is none beside the plan: it can be checked only in part")
    places = (
        path.with_name(f"{path.name}.certificate.json"),
        path.with_name(f".{path.name}.certificate.next.json"),
    )
    best: tuple[dict[str, Any] | None, str] = (None, "")
    for place in places:
        if not place.exists():
            continue
        content = read_bytes(place)
        try:
            found = json.loads(content)
        except (ValueError, RecursionError) as error:
            check = Check("certificate", ok=False, detail=f"{place.name} is damaged ({error})")
            continue
        if not isinstance(found, dict):
            check = Check("certificate", ok=False, detail=f"{place.name} is no certificate")
            continue
        checked = _check_certificate(found, digest, path.name)
        if best[0] is None or checked.ok:
            best, check = (found, hashlib.sha256(content).hexdigest()), checked
        if check.ok:
            break
    return *best, check


def _check_certificate(certificate: dict[str, Any], digest: str, file: str | None) -> Check:
    faults = []
    if certificate.get("format") != CERTIFICATE_FORMAT:
        faults.append(f"format {certificate.get('format')!r} - expected {CERTIFICATE_FORMAT!r}")
    if certificate.get("sha256") != digest and (file is not None or "sha256" in certificate):
        faults.append(f"sha256 {str(certificate.get('sha256'))[:16]} - the plan's is {digest[:16]}")
    if file is not None and certificate.get("file") != file:
        faults.append(f"speaks of {certificate.get('file')!r}, not of {file!r}")
    found = certificate.get("version")
    if not isinstance(found, int) or found < 1:
        faults.append(f"version {found!r} - expected a number from 1")
    return verdict("certificate", faults, f"speaks of this very file, sha256 {digest[:16]}")


def _read_layout(described: dict[str, Any]) -> tuple[_Layout | None, Check]:
    try:
        layout = _parse_layout(described.get("layout"))
        faults = list(_find_layout_faults(layout, described.get("policy")))
    except (_LayoutError, OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        said = str(error)[:120]
        detail = said if isinstance(error, _LayoutError) else f"cannot be read ({type(error).__name__}: {said})"
        return None, Check("layout", ok=False, detail=detail)
    shape = ", ".join(f"{f.name} {f.width} bits /{f.length}" for f in layout.fields)
    return layout, verdict("layout", faults, f"{len(layout.pools)} x /{layout.pool_length}: {shape}")


def _parse_layout(data: Any) -> _Layout:
    if not isinstance(data, dict):
        raise _LayoutError("there is none: prefixes cannot be derived")
    pools, lengths = [], set()
    for text in data["pools"]:
        address, _, length = str(text).partition("/")
        value = int.from_bytes(inet_pton(AF_INET6, address), "big")
        if not 0 <= int(length) <= _LONGEST or value & ((1 << (128 - int(length))) - 1):
            raise _LayoutError(f"pool {text}: host bits set, or longer than /64")
        pools.append(value >> 64)
        lengths.add(int(length))
    if len(lengths) != 1:
        raise _LayoutError(f"pools of {len(lengths)} lengths - expected one")
    fields = tuple(
        _Field(
            _whole(f, "level", _LONGEST),
            str(f["name"])[:40],
            _whole(f, "width", _LONGEST),
            _whole(f, "length", _LONGEST),
            str(f["order"])[:40],
            tuple(_whole({"reserved": slot}, "reserved", _LAST) for slot in f["reserved"]),
        )
        for f in data["fields"]
    )
    return _Layout(tuple(pools), lengths.pop(), fields, _whole(data, "root_level", _LONGEST))


def _whole(data: Any, key: str, most: int) -> int:
    """Return a whole number of a layout; _LayoutError when it is none, or none that numbers of 64 bits can be of."""
    value = data[key]
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
        raise _LayoutError(f"{key} {str(value)[:40]} - expected a whole number of 0 to {most}")
    return value


def _find_layout_faults(layout: _Layout, policy: Any) -> Iterator[str]:
    if not 0 <= layout.pool_length <= _LONGEST:
        yield f"pool /{layout.pool_length}"
    span = 1 << (_LONGEST - layout.pool_length)
    if any(b - a < span for a, b in zip(sorted(layout.pools), sorted(layout.pools)[1:], strict=False)):
        yield "pools overlap"
    length, level = layout.pool_length, layout.root_level
    for field in layout.fields:
        length += field.width
        if field.length != length or field.width < 0 or length > _LONGEST:
            yield f"{field.name}: /{field.length} - expected /{length}, by the widths above it"
        if field.level <= level:
            yield f"{field.name}: level {field.level} comes after level {level}"
        if field.order not in {"left", "right", "centre"}:
            yield f"{field.name}: order {field.order!r}"
        if 0 not in field.reserved or not all(0 <= slot < 1 << field.width for slot in field.reserved):
            yield f"{field.name}: reserved slots {list(field.reserved)} - expected 0 and others of {field.width} bits"
        length, level = field.length, field.level
    if isinstance(policy, dict):
        leaf = policy.get("leaf_at_most", _LONGEST)
        if length > leaf:
            yield f"leaves are /{length}, longer than the policy's /{leaf}"
        wanted = [str(pool) for pool in policy.get("pools", ())]
        have = [_say(high, layout.pool_length) for high in layout.pools]
        if have != wanted[: len(have)]:
            yield f"pools {', '.join(have)} - the policy has {', '.join(wanted)}"


def _say(high: int, length: int) -> str:
    return f"{inet_ntop(AF_INET6, (int(high) << 64).to_bytes(16, 'big'))}/{length}"


def _count(table: Table, names: dict[int, str]) -> dict[str, int]:
    counts = {"rows": len(table)}
    for state, number in STATES.items():
        counts[state] = int((table.states == number).sum())
    for level, name in names.items():
        counts[name] = int(((table.levels == level) & (table.states == ACTIVE)).sum())
    return counts


def _check_counts(counts: dict[str, int], said: Any) -> Check:
    if not isinstance(said, dict):
        return Check("counts", ok=False, detail="the certificate has none")
    faults = [
        f"{key}: the certificate says {said.get(key)}, the plan has {counts.get(key)}"
        for key in sorted({*said, *counts})
        if said.get(key) != counts.get(key)
    ]
    return verdict("counts", faults, ", ".join(f"{value} {key}" for key, value in counts.items()))


def _twice(keys: NDArray[Any]) -> NDArray[np.int64]:
    """Return rows whose key another row before it has as well."""
    order = np.argsort(keys, kind="stable")
    same = keys[order][1:] == keys[order][:-1]
    return np.sort(order[1:][same])


def _check_rows(table: Table) -> Iterator[Check]:
    """Check what needs no layout: identities, codes, order, parents, who absorbed whom."""
    faults = [f"{table.name(r)}: identity {table.ids[r]} is there twice" for r in _twice(table.ids).tolist()]
    faults += [f"{table.name(r)}: identity {table.ids[r]}" for r in np.flatnonzero(table.ids < 1).tolist()]
    yield verdict("identities", faults, f"{counted(len(table), 'identity', 'identities')}, each once")
    active = np.flatnonzero(table.states == ACTIVE)
    yield verdict("codes", _find_shared_codes(table, active), f"{active.size} active codes, each once")
    after, same = table.codes[1:] > table.codes[:-1], table.codes[1:] == table.codes[:-1]
    unsorted = not (after | (same & (table.ids[1:] > table.ids[:-1]))).all()
    yield verdict("order", ["rows are not sorted by code, then identity"] * unsorted, "sorted by code, then identity")
    yield verdict("parents", _find_parent_faults(table), "every administrative parent exists, a level above")
    yield verdict("absorbed", _find_absorbed_faults(table), "what was absorbed is answered for by an active division")


def _find_shared_codes(table: Table, active: NDArray[Any]) -> Iterator[str]:
    for row in active[_twice(table.codes[active])].tolist():
        first = int(active[table.codes[active] == table.codes[row]][0])
        yield f"{table.name(row)}: its code is active in row {first + 2} too"


def _find_parent_faults(table: Table) -> Iterator[str]:
    active, above = table.states == ACTIVE, table.above
    for row in np.flatnonzero(active & (above == -2)).tolist():
        yield f"{table.name(row)}: parent {_parent(table, row)} is not active in this plan"
    for row in np.flatnonzero(active & (above >= 0) & (table.levels[above] >= table.levels)).tolist():
        yield (
            f"{table.name(row)}: parent {_parent(table, row)} is of level {table.levels[above[row]]}, "
            f"not above level {table.levels[row]}"
        )
    lost = np.flatnonzero(~active & (above == -2))
    for row in lost[~np.isin(table.parents[lost], table.codes)].tolist() if lost.size else ():
        yield f"{table.name(row)}: parent {_parent(table, row)} never was in this plan"


def _parent(table: Table, row: int) -> str:
    key = int(table.parents[row])
    return table.texts.text(key) if key >= 0 else "none"


def _find_absorbed_faults(table: Table) -> Iterator[str]:
    rows = np.flatnonzero((table.states == ABSORBED) | ((table.states == ACTIVE) & (table.intos != 0)))
    if not rows.size:
        return
    at = {int(i): n for n, i in enumerate(table.ids.tolist())}
    for row in rows.tolist():
        if table.states[row] == ACTIVE:
            yield f"{table.name(row)}: active, and absorbed by {table.intos[row]}"
            continue
        now = row
        for _ in range(_CHAIN):
            now = at.get(int(table.intos[now]), -1)
            if now < 0 or table.states[now] != ABSORBED:
                break
        if now < 0 or table.states[now] != ACTIVE:
            yield f"{table.name(row)}: absorbed by {table.intos[row]}, which leads to no active division"


class _Derivation:
    """Derives every prefix again from the layout, and compares."""

    def __init__(self, table: Table, layout: _Layout, version: int) -> None:
        self.table, self.layout, self.version = table, layout, version
        order = np.argsort(table.ids, kind="stable")
        at = np.minimum(np.searchsorted(table.ids[order], table.homes), len(table) - 1)
        found = table.ids[order][at] == table.homes
        # Row of each entry's home: -1 the pool, -2 nowhere.
        self.home = np.where(table.homes == 0, -1, np.where(found, order[at], -2))
        self.is_root = (table.levels == layout.root_level) & (layout.root_level > 0)

    def checks(self) -> Iterator[Check]:
        """Yield every check; what a check could not be made of is a fault of the one before."""
        table = self.table
        size = counted(len(table), "prefix")
        yield verdict("lengths", self._length_faults(), "one length a level, as the layout has it")
        yield verdict("homes", self._home_faults(), "every home exists, is above, and is not quarantined")
        yield verdict("slots", self._slot_faults(), "every slot fits its field, is not reserved, and is given once")
        yield verdict("derived", self._derivation_faults(), f"{size} follow from home and slot")
        if self.version == 1:
            yield verdict("recomputed", self._recomputation_faults(), f"{size} are those of RFC 3531 by code")
        yield verdict("nested", self._nesting_faults(), f"{size} in their homes, and in the pool")
        yield verdict("overlap", self._overlap_faults(), f"{size}, none over another but its own home's")

    def _name(self, rows: NDArray[Any], say: Callable[[int], str]) -> Iterator[str]:
        return (f"{self.table.name(row)}: {say(row)}" for row in rows.tolist())

    def _prefix(self, row: int) -> str:
        return _say(int(self.table.high[row]), int(self.table.lengths[row]))

    def _length_faults(self) -> Iterator[str]:
        table, layout = self.table, self.layout
        expected = {f.level: f.length for f in layout.fields}
        if layout.root_level:
            expected[layout.root_level] = layout.pool_length
        wanted = np.full(len(table), -1)
        for level, length in expected.items():
            wanted[table.levels == level] = length
        yield from self._name(np.flatnonzero(wanted < 0), lambda r: f"level {table.levels[r]} is not in the layout")
        wrong = np.flatnonzero((wanted >= 0) & (wanted != table.lengths))
        yield from self._name(
            wrong, lambda r: f"{self._prefix(r)} - expected /{wanted[r]} of a level {table.levels[r]}"
        )

    def _home_faults(self) -> Iterator[str]:
        table, home = self.table, self.home
        yield from self._name(
            np.flatnonzero(home == -2), lambda r: f"home {table.homes[r]} is no identity of this plan"
        )
        held = home >= 0
        above = np.where(held, table.levels[home], -1)
        yield from self._name(
            np.flatnonzero(held & (above >= table.levels)), lambda r: f"home {table.homes[r]} is not above it"
        )
        lost = held & (table.states[home] == QUARANTINED) & (table.states != QUARANTINED)
        yield from self._name(
            np.flatnonzero(lost),
            lambda r: f"{self._prefix(r)} is in use in its home {table.homes[r]}, which is quarantined",
        )

    def _slot_faults(self) -> Iterator[str]:
        table, layout = self.table, self.layout
        yield from self._name(
            np.flatnonzero(self.is_root & ((table.slots != 0) | (table.homes != 0))),
            lambda r: f"the root has home {table.homes[r]}, slot {table.slots[r]} - expected 0 and 0",
        )
        for number, field in enumerate(layout.fields):
            rows = np.flatnonzero(table.levels == field.level)
            for held, pools in ((self.home[rows] >= 0, 1), (self.home[rows] == -1, 1 if number else len(layout.pools))):
                room = min(pools << field.width, (1 << _LONGEST) - 1)
                high = rows[held & (table.slots[rows] >= np.uint64(room))]
                yield from self._name(high, partial(self._say_beyond, field))
            within = table.slots[rows] & np.uint64((1 << field.width) - 1)
            kept = rows[np.isin(within, np.array(field.reserved, dtype=np.uint64))]
            yield from self._name(kept, partial(self._say_reserved, field))
        yield from self._slots_given_twice()

    def _say_beyond(self, field: _Field, row: int) -> str:
        return f"slot {self.table.slots[row]} - {field.name} has {field.width} bits"

    def _say_reserved(self, field: _Field, row: int) -> str:
        return f"slot {self.table.slots[row]} of {field.name} is reserved"

    def _slots_given_twice(self) -> Iterator[str]:
        table = self.table
        order = np.lexsort((table.slots, table.levels, table.homes))
        same = np.ones(max(len(table) - 1, 0), dtype=bool)
        for column in (table.slots, table.levels, table.homes):
            same &= column[order][1:] == column[order][:-1]
        for one, other in zip(order[:-1][same].tolist(), order[1:][same].tolist(), strict=True):
            kept = [r for r in (one, other) if table.states[r] != ACTIVE]
            what = "quarantined, and given again to" if kept else "also that of"
            first, second = (one, other) if one in kept or not kept else (other, one)
            yield f"{table.name(first)}: slot {table.slots[first]} under {table.homes[first]} is {what} {table.name(second)}"

    def _derivation_faults(self) -> Iterator[str]:
        table, layout = self.table, self.layout
        derived = np.zeros(len(table), dtype=np.uint64)
        derived[self.is_root] = np.uint64(layout.pools[0])
        pools = np.array(layout.pools, dtype=np.uint64)
        for field in layout.fields:
            rows = np.flatnonzero(table.levels == field.level)
            whole = table.slots[rows]
            number = whole >> np.uint64(field.width) if field.width < _LONGEST else np.zeros_like(whole)
            home = self.home[rows]
            start = np.where(home >= 0, table.high[home], pools[np.minimum(number, np.uint64(pools.size - 1))])
            slot = whole & np.uint64((1 << field.width) - 1)
            shift = _LONGEST - field.length
            derived[rows] = start + (slot << np.uint64(shift) if shift < _LONGEST else np.uint64(0))
        wrong = np.flatnonzero((derived != table.high) & (self.home != -2))
        yield from self._name(
            wrong,
            lambda r: (
                f"{self._prefix(r)} - its home {table.homes[r]} and slot {table.slots[r]} give "
                f"{_say(int(derived[r]), int(table.lengths[r]))}"
            ),
        )

    def _recomputation_faults(self) -> Iterator[str]:
        """A first plan has nothing of its own: identities by code, slots in the order of RFC 3531 among siblings."""
        table = self.table
        if (table.states != ACTIVE).any():
            yield "a first plan has nothing quarantined or absorbed"
        stray = np.flatnonzero(table.ids != np.arange(1, len(table) + 1))
        yield from self._name(stray, lambda r: f"identity {table.ids[r]} - expected {r + 1}, counting by code")
        yield from self._name(
            np.flatnonzero((table.above != self.home) & ~self.is_root),
            lambda r: f"home {table.homes[r]} is not its parent {_parent(table, r)}",
        )
        for number, field in enumerate(self.layout.fields):
            rows = np.flatnonzero(table.levels == field.level)
            if not rows.size:
                continue
            grouped = np.argsort(table.homes[rows], kind="stable")
            ordered = table.homes[rows][grouped]
            # Number within a group: how far from the first of the same home.
            starts = np.maximum.accumulate(np.where(np.diff(ordered, prepend=-1) != 0, np.arange(rows.size), 0))
            ranks = np.empty(rows.size, dtype=np.int64)
            ranks[grouped] = np.arange(rows.size) - starts
            sequence = _list_slots(field, int(ranks.max()) + 1)
            pool = ranks // max(sequence.size, 1) if number == 0 else np.zeros_like(ranks)
            if sequence.size == 0 or (number and int(ranks.max()) >= sequence.size):
                yield f"{field.name}: {int(ranks.max()) + 1} siblings, {sequence.size} slots"
                continue
            expected = sequence[ranks % sequence.size] + (pool.astype(np.uint64) << np.uint64(field.width))
            wrong = np.flatnonzero(expected != table.slots[rows])
            for i in wrong.tolist():
                row = int(rows[i])
                yield (
                    f"{table.name(row)}: slot {table.slots[row]} - sibling {ranks[i] + 1} in the order "
                    f"{field.order} gets {expected[i]}"
                )

    def _nesting_faults(self) -> Iterator[str]:
        table, home = self.table, self.home
        held = np.flatnonzero(home >= 0)
        over = home[held]
        cut = table.high[held] & masks(table.lengths[over])
        out = held[(cut != table.high[over]) | (table.lengths[over] > table.lengths[held])]
        yield from self._name(out, lambda r: f"{self._prefix(r)} is not in its home's {self._prefix(int(home[r]))}")
        pool_mask = masks(np.array([self.layout.pool_length]))
        pools = np.array(self.layout.pools, dtype=np.uint64)
        stray = ~np.isin(table.high & pool_mask, pools) | (table.lengths < self.layout.pool_length)
        yield from self._name(np.flatnonzero(stray), lambda r: f"{self._prefix(r)} is in no pool")

    def _overlap_faults(self) -> Iterator[str]:
        """Sweep each level in order of addresses; then see that what encloses a prefix at all is its home."""
        table = self.table
        last = table.high | ~masks(table.lengths)
        for level in (self.layout.root_level, *(f.level for f in self.layout.fields)):
            rows = np.flatnonzero(table.levels == level)
            rows = rows[np.argsort(table.high[rows], kind="stable")]
            reach = np.maximum.accumulate(last[rows])
            for at in np.flatnonzero(reach[:-1] >= table.high[rows][1:]).tolist():
                one, other = (int(r) for r in rows[at : at + 2])
                gone = any(table.states[r] != ACTIVE for r in (one, other))
                again = " (one of them not active: given again)" if gone else ""
                yield f"{table.name(other)}: {self._prefix(other)} overlaps {self._prefix(one)} of {table.name(one)}{again}"
        enclosing = enclosers(table.high, table.lengths)
        wrong = (enclosing >= 0) & (enclosing != self.home)
        root = np.flatnonzero(self.is_root)
        if root.size:  # what came later without a parent lies in the pool, so in the root's prefix too
            wrong &= ~((self.home == -1) & np.isin(enclosing, root))
        yield from self._name(
            np.flatnonzero(wrong),
            lambda r: (
                f"{self._prefix(r)} lies in {self._prefix(int(enclosing[r]))} of "
                f"{table.name(int(enclosing[r]))}, not its home"
            ),
        )


def enclosers(high: NDArray[np.uint64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return for each prefix the row of the longest shorter one that covers it (-1: none)."""
    out = np.full(high.size, -1, dtype=np.int64)
    kinds = np.flatnonzero(np.bincount(lengths)).tolist()
    for at, length in enumerate(kinds):
        rows = np.flatnonzero(lengths == length)
        out[rows] = _covering(high[rows], high, lengths, kinds[:at])
    return out


def _covering(
    wanted: NDArray[np.uint64], high: NDArray[np.uint64], lengths: NDArray[np.int64], among: Sequence[int]
) -> NDArray[np.int64]:
    """Return for each number the row of the longest prefix of the lengths `among` that covers it (-1: none)."""
    out = np.full(wanted.size, -1, dtype=np.int64)
    for length in among:
        rows = np.flatnonzero(lengths == length)
        rows = rows[np.argsort(high[rows], kind="stable")]
        cut = wanted & masks(np.array([length]))
        at = np.minimum(np.searchsorted(high[rows], cut), max(rows.size - 1, 0))
        hit = high[rows][at] == cut
        out[hit] = rows[at[hit]]
    return out


def _list_slots(field: _Field, count: int) -> NDArray[np.uint64]:
    """Return a field's first `count` slots that are not reserved, made round by round as RFC 3531 tells.

    Each round brings in one more bit, and makes all combinations with it that are not there yet.
    """
    slots = np.zeros(1, dtype=np.uint64)
    for bit in _list_rounds(field.width, field.order):
        if slots.size >= count + len(field.reserved):
            break
        slots = np.concatenate((slots, slots | np.uint64(1 << bit)))
    return slots[~np.isin(slots, np.array(field.reserved, dtype=np.uint64))][:count]


def _list_rounds(width: int, order: str) -> list[int]:
    """Return the bits (0 = rightmost) in the order in which rounds bring them in (RFC 3531, 3.1 to 3.3)."""
    if order == "left":
        return list(range(width - 1, -1, -1))
    if order == "right":
        return list(range(width))
    # Counted from the left: the middle bit (of an even number the one after the centre), one before, one after, ...
    before, after = list(range(width // 2 - 1, -1, -1)), list(range(width // 2, width))
    rounds: list[int] = []
    while before or after:
        rounds += [after.pop(0)] if after else []
        rounds += [before.pop(0)] if before else []
    return [width - 1 - bit for bit in rounds]


def _find_lost(table: Table, version: int, said: Any, base: _Base) -> Iterator[str]:
    """Find what an earlier version gave and this one does not give in the same way."""
    yield from base.faults
    old = base.table
    if base.version and version <= base.version:
        yield f"version {version} does not come after version {base.version} of {base.name}"
    if base.version and version == base.version + 1 and said != base.digest:
        yield f"its base is {str(said)[:16] or 'not named'} - {base.name} is {base.digest[:16]}"
    order = np.argsort(table.ids, kind="stable")
    at = order[np.minimum(np.searchsorted(table.ids[order], old.ids), len(table) - 1)]
    there = table.ids[at] == old.ids
    for row in np.flatnonzero(~there).tolist():
        yield f"{old.name(row)} of {base.name}: identity {old.ids[row]} is lost"
    for what in ("levels", "homes", "slots"):
        was, now = getattr(old, what), getattr(table, what)
        for row in np.flatnonzero(there & (was != now[at])).tolist():
            yield f"{table.name(int(at[row]))}: {what[:-1]} {now[at[row]]} - was {was[row]} in {base.name}"
    for row in np.flatnonzero(there & ((old.high != table.high[at]) | (old.lengths != table.lengths[at]))).tolist():
        has, had = ((int(t.high[r]), int(t.lengths[r])) for t, r in ((table, at[row]), (old, row)))
        yield f"{table.name(int(at[row]))}: {_say(*has)} - was {_say(*had)} in {base.name}"
    kept = np.flatnonzero(old.states == QUARANTINED).tolist()
    given = {(int(old.homes[r]), int(old.levels[r]), int(old.slots[r])): r for r in kept}
    given_blocks = {(int(old.high[r]), int(old.lengths[r])): r for r in kept}
    for row in np.flatnonzero(table.states == ACTIVE).tolist() if kept else ():
        before = given.get((int(table.homes[row]), int(table.levels[row]), int(table.slots[row])))
        if before is None:
            before = given_blocks.get((int(table.high[row]), int(table.lengths[row])))
        if before is not None and old.ids[before] != table.ids[row]:
            yield f"{table.name(row)}: has what {old.name(before)} of {base.name} left quarantined"


def _find_moved_codes(table: Table, base: _Base) -> Iterator[str]:
    """Say which codes are another identity's than before: right if divisions were renumbered, which no plan tells."""
    old = base.table
    rows = np.flatnonzero(old.states == ACTIVE)
    now = table.rows_of(table.texts.keys([old.code(row) for row in rows.tolist()]))
    moved = np.flatnonzero((now >= 0) & (table.ids[now] != old.ids[rows]))
    if moved.size:
        first = table.name(int(now[moved[0]]))
        yield (
            f"{counted(int(moved.size), 'code')} went to another identity than in {base.name}, first {first}: "
            "hold them against the decisions"
        )


def _check_coverage(table: Table, listed: Listed, *, whole: bool) -> Check:
    """Hold the plan's active divisions against a list: all of it, or all below the plan's roots if they are deeper.

    `whole` says that the plan's root is its pool: then nothing beside that root is the plan's, whatever the list has.
    """
    if table.texts.width == _NATIONAL:
        parents = pad_codes(listed.parents) if listed.parents is not None else None
        listed = listed._replace(codes=pad_codes(listed.codes), parents=parents)
    keys = table.texts.keys(listed.codes)
    rows = np.where(keys >= 0, table.rows_of(keys), -1)
    scope, where = _find_scope(table, listed, whole=whole)
    inside = np.ones(keys.size, dtype=bool)
    if scope is not None:
        inside = np.array([code in scope for code in listed.codes]) | (rows >= 0)
    if inside.all():
        where = "the list"
    counts = np.bincount(rows[inside & (rows >= 0)], minlength=len(table))
    active = table.states == ACTIVE

    def find_faults() -> Iterator[str]:
        for at in np.flatnonzero(inside & (rows < 0)).tolist():
            yield f"{listed.codes[at]} (row {at + 2} of the list) has no prefix"
        yield from (f"{table.name(r)}: is listed {counts[r]} times" for r in np.flatnonzero(counts > 1).tolist())
        yield from (f"{table.name(r)}: is not in the list" for r in np.flatnonzero(active & (counts == 0)).tolist())
        known = np.flatnonzero(inside & (rows >= 0))
        here = rows[known]
        if listed.levels is not None:
            levels = _read_levels(listed.levels)[known]
            for i in np.flatnonzero((levels != table.levels[here]) & (levels >= 0)).tolist():
                yield f"{table.name(here[i])}: level {table.levels[here[i]]} - the list says {listed.levels[known[i]]}"
        if listed.parents is not None:
            parents = table.texts.keys(listed.parents)[known]
            for i in np.flatnonzero((parents != table.parents[here]) & (table.parents[here] >= 0)).tolist():
                said = listed.parents[known[i]] or "none"
                yield f"{table.name(here[i])}: parent {_parent(table, here[i])} - the list says {said}"

    return verdict("coverage", find_faults(), f"{int(active.sum())} divisions, all of {where} and nobody else")


def _read_levels(cells: list[str]) -> NDArray[np.int64]:
    """Return levels as numbers: -1 where none is given, -2 where it is no number (which no plan has)."""
    known = {cell: int(cell) if cell.isascii() and cell.isdigit() else -2 if cell else -1 for cell in set(cells)}
    return np.array([known[cell] for cell in cells], dtype=np.int64)


def _find_scope(table: Table, listed: Listed, *, whole: bool) -> tuple[set[str] | None, str]:
    """Return which codes of the list the plan is about (None: all), and how that is called."""
    roots = {table.code(r) for r in np.flatnonzero((table.states == ACTIVE) & (table.parents == -1)).tolist()}
    known = set(listed.codes)
    called = f"{', '.join(sorted(roots)[:3])} and below"
    if listed.parents is None:
        if not whole or not roots or table.texts.width != _NATIONAL:
            return None, "the list"
        # National codes say themselves what is below what: they begin alike.
        heads = tuple(_significant(code) for code in roots)
        return {code for code in known if code.startswith(heads)}, called
    parents = {p for p in set(listed.parents) if p in known}
    tops = {c for c, p in zip(listed.codes, listed.parents, strict=True) if p not in parents}
    if not roots or (roots & tops and not whole) or not roots <= known:
        return None, "the list"
    scope, before = set(roots), 0
    while len(scope) > before:
        before = len(scope)
        scope.update(c for c, p in zip(listed.codes, listed.parents, strict=True) if p in scope)
    return scope, called


def _significant(code: str) -> str:
    """Return a national code without the zeros that stand for levels below it."""
    return next(code[:n] for n in (2, 4, 6, 9, _NATIONAL) if not code[n:].strip("0"))


def check_across(reports: Sequence[Report]) -> Check:
    """See that no prefix is given twice across plans; a plan may divide what another gave to it."""
    faults: list[str] = []
    for one, other in permutations(reports, 2):
        if one.given is not None and other.given is not None:
            faults += _find_shared(one.file, one.given, other.file, other.given)
    total = sum(r.given.high.size for r in reports if r.given is not None)
    return verdict("across", faults, f"{total} prefixes of {len(reports)} plans, none given twice")


def _find_shared(outer_file: str, outer: Given, inner_file: str, inner: Given) -> Iterator[str]:
    """Yield prefixes of `inner` that lie in one of `outer` which is not the whole pool that `inner` divides."""
    lengths = outer.lengths.astype(np.int64)
    among = [n for n in np.flatnonzero(np.bincount(lengths)).tolist() if n > inner.pool_length]
    found = _covering(inner.high, outer.high, lengths, among)
    short = (found >= 0) & (lengths[found] <= inner.lengths)
    for row in np.flatnonzero(short).tolist():
        over = int(found[row])
        same = outer.high[over] == inner.high[row] and outer.lengths[over] == inner.lengths[row]
        if same and (outer_file > inner_file or outer.lengths[over] == outer.pool_length):
            continue  # said once, the other way round; or it is the very block that the other plan divides
        yield (
            f"{inner_file}: {_say(int(inner.high[row]), int(inner.lengths[row]))} ({inner.name(row)}) lies in "
            f"{_say(int(outer.high[over]), int(outer.lengths[over]))} ({outer.name(over)}) of {outer_file}"
        )


__all__ = [
    "Check",
    "CheckInputError",
    "Report",
    "check_across",
    "check_plan_file",
    "sign_off",
]
