"""A hierarchy's plan as a file: a table of every identity there ever was, and the certificate beside it.

The table is all that is needed to go on: identities, homes and slots are in it. The certificate holds the policy and
the layout, and what an independent checker found. Both appear whole or not at all; the table goes first, so that a
certificate never speaks of a table that is not there.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
from collections.abc import Callable, Iterator, Sequence
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from addressing.hierarchy import ABSORBED, ACTIVE, QUARANTINED, STATES, HierarchyPlan, prefixes_of
from addressing.model import AddressPlan
from addressing.planfile import PlanFileError, read_plan
from addressing.policy import LaidField, Layout, PlanPolicy
from addressing.text import AddressTextError, format_prefixes, parse_prefix
from inventory.errors import InputProblemsError, Problem
from inventory.files import WriteError, write_whole
from inventory.wording import counted

COLUMNS = ("code", "name", "level", "parent", "prefix", "id", "home", "slot", "state", "into")
CERTIFICATE_FORMAT = "extranet plan certificate/1"
JSON_FORMAT = "extranet hierarchy plan/1"
_SHOWN_PROBLEMS = 50
_CHUNK = 20_000
_DIGITS = 19
"""So many digits may be more than an int64 holds."""
_STATE_NUMBERS = {state: number for number, state in enumerate(STATES)}
_Rows = Iterator[list[str]]
_QUOTED = re.compile('[,"\r\n]')
_RESTORE = "restore both from your version control"


def certificate_path(path: Path) -> Path:
    """Return where a plan's certificate is."""
    return path.with_name(f"{path.name}.certificate.json")


def dump_rows(plan: HierarchyPlan) -> Iterator[tuple[object, ...]]:
    """Yield the table's rows, in the plan's order: by code, then identity."""
    rows = plan.row_of_id
    for first in range(0, len(plan), _CHUNK):
        part = slice(first, first + _CHUNK)
        parents = plan.parents[part]
        codes = [plan.codes[row] if row >= 0 else "" for row in np.where(parents > 0, rows[parents], -1).tolist()]
        yield from zip(
            plan.codes[part],
            plan.names[part],
            plan.levels[part].tolist(),
            codes,
            format_prefixes(plan.high[part], plan.lengths[part]),
            plan.ids[part].tolist(),
            plan.homes[part].tolist(),
            plan.slots[part].tolist(),
            [STATES[state] for state in plan.states[part].tolist()],
            plan.intos[part].tolist(),
            strict=True,
        )


def dump_csv(plan: HierarchyPlan) -> bytes:
    """Return the table as CSV, UTF-8."""
    head = ",".join(COLUMNS) + "\n"
    rows = dump_rows(plan)
    if _needs_quotes(plan.names) or _needs_quotes(plan.codes):
        out = io.StringIO()
        csv.writer(out, lineterminator="\n").writerows(rows)
        return (head + out.getvalue()).encode()
    # Nothing to quote: twice as fast as the csv module, and the same bytes.
    parts = [head.encode()]
    while chunk := list(islice(rows, _CHUNK)):
        lines = [
            f"{code},{name},{level},{parent},{prefix},{ident},{home},{slot},{state},{into}\n"
            for code, name, level, parent, prefix, ident, home, slot, state, into in chunk
        ]
        parts.append("".join(lines).encode())
    return b"".join(parts)


def _needs_quotes(texts: list[str]) -> bool:
    return any(_QUOTED.search("\0".join(texts[first : first + _CHUNK])) for first in range(0, len(texts), _CHUNK))


def dump_json(plan: HierarchyPlan) -> bytes:
    """Return the plan as JSON, one row a line."""
    head = {
        "format": JSON_FORMAT,
        "version": plan.version,
        "policy": plan.policy.model_dump(mode="json"),
        "layout": plan.layout.model_dump(mode="json"),
        "columns": list(COLUMNS),
    }
    fields = "".join(f" {json.dumps(k)}: {json.dumps(v, ensure_ascii=False)},\n" for k, v in head.items())
    rows = ",\n".join("  " + json.dumps(row, ensure_ascii=False) for row in dump_rows(plan))
    return f'{{\n{fields} "rows": [\n{rows}\n ]\n}}\n'.encode()


def make_certificate(
    plan: HierarchyPlan, content: bytes, *, file: str, base: str = "", origin: str = ""
) -> dict[str, Any]:
    """Return a certificate without its checks.

    `base` is the digest of the plan that this one continues, `origin` that of the first of the line (empty: this one).
    """
    digest = hashlib.sha256(content).hexdigest()
    levels = {level: f.name for level, f in plan.layout.by_level.items()}
    counts: dict[str, int] = {"rows": len(plan)}
    for number, state in enumerate(STATES):
        counts[state] = int((plan.states == number).sum())
    for level, name in levels.items():
        counts[name] = int(((plan.levels == level) & (plan.states == ACTIVE)).sum())
    return {
        "format": CERTIFICATE_FORMAT,
        "file": file,
        "sha256": digest,
        "version": plan.version,
        "base": base,
        "origin": origin or digest,
        "policy": plan.policy.model_dump(mode="json"),
        "layout": plan.layout.model_dump(mode="json"),
        "counts": counts,
        "checks": [],
    }


def dump_certificate(certificate: dict[str, Any]) -> bytes:
    """Return a certificate as JSON text."""
    return (json.dumps(certificate, ensure_ascii=False, indent=1) + "\n").encode()


def _pending_path(path: Path) -> Path:
    return path.with_name(f".{path.name}.certificate.next.json")


def _settle_certificate(path: Path) -> None:
    """Put a certificate in place whose writer was killed between the plan and it: the next writer needs the room."""
    pending = _pending_path(path)
    if path.exists() and pending.exists():
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        if _digest_said(pending) == digest != _digest_said(certificate_path(path)):
            pending.replace(certificate_path(path))


def _digest_said(certificate: Path) -> str:
    try:
        return str(json.loads(certificate.read_bytes())["sha256"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return ""


def find_certificate(path: Path, content: bytes) -> Path | None:
    """Return the certificate that speaks of a plan's content; None where there is none at all.

    Raises:
        PlanFileError: there is one, of other content.
    """
    digest = hashlib.sha256(content).hexdigest()
    places = [place for place in (certificate_path(path), _pending_path(path)) if place.exists()]
    for place in places:
        if _digest_said(place) == digest:
            return place
    if places:
        raise PlanFileError(path, "is not what its certificate speaks of: it was changed by hand", _RESTORE)
    return None


def write_hierarchy(
    plan: HierarchyPlan,
    path: Path,
    *,
    file_format: str = "csv",
    base: str = "",
    origin: str = "",
    sign_off: Callable[[Path, dict[str, Any]], dict[str, Any]],
) -> dict[str, Any]:
    """Write a plan (a table, or JSON) and its certificate; return the certificate.

    `sign_off` checks the file not yet in place, and returns the certificate with what it found; when it raises, nothing
    was written. Killed at any moment, the old plan is there whole, or the new one.
    """
    content = dump_json(plan) if file_format == "json" else dump_csv(plan)
    certificate = make_certificate(plan, content, file=path.name, base=base, origin=origin)
    pending, final = _pending_path(path), certificate_path(path)
    _settle_certificate(path)
    staged = path.with_name(f".{path.name}.next{path.suffix}")
    try:
        write_whole(staged, content)
        del content  # the checker reads the file itself
        certificate = sign_off(staged, certificate)
        write_whole(pending, dump_certificate(certificate))
        try:
            staged.replace(path)
            pending.replace(final)
        except OSError as error:
            raise WriteError(path, error) from error
    finally:
        staged.unlink(missing_ok=True)
    return certificate


def read_hierarchy(path: Path) -> HierarchyPlan:
    """Read a plan from its table (with the certificate beside it, if there is one) or from its JSON.

    Raises:
        PlanFileError: it is missing or no plan.
        InputProblemsError: its rows are damaged; every problem at once.
    """
    content = _read(path)
    certificate = find_certificate(path, content)
    if content.lstrip()[:1] == b"{":
        return _from_json(path, content)
    rows = _csv_rows(path, content)
    if certificate is not None:
        return _from_rows(path, rows, *_read_certificate(certificate)[1:])
    listed: list[list[str]] = list(rows)
    policy, layout = _guess(path, listed)
    return _from_rows(path, iter(listed), policy, layout, 1)


def load_plan(path: Path) -> AddressPlan | HierarchyPlan:
    """Read a plan of either kind: a county's addresses.json, or a hierarchy's table or JSON."""
    head = _read(path)[:400]
    if head.lstrip()[:1] == b"{" and JSON_FORMAT.encode() not in head:
        return read_plan(path)
    return read_hierarchy(path)


def _read(path: Path) -> bytes:
    try:
        if path.exists() and not path.is_file():
            raise PlanFileError(path, "not a regular file", "name a plan's file")
        return path.read_bytes()
    except FileNotFoundError as error:
        raise PlanFileError(path, "no such plan", "make one with 'extranet plan addresses'") from error
    except OSError as error:
        raise PlanFileError(path, f"cannot be read ({error.strerror})", "look at its permissions") from error


def _from_json(path: Path, content: bytes) -> HierarchyPlan:
    try:
        data = json.loads(content)
        if data["format"] != JSON_FORMAT or data["columns"] != list(COLUMNS):
            raise PlanFileError(path, "not a hierarchy's plan", f'expected "format": "{JSON_FORMAT}"')
        policy = PlanPolicy.model_validate(data["policy"])
        layout = Layout.model_validate(data["layout"])
        rows = iter([[str(cell) for cell in row] for row in data["rows"]])
        version = int(data["version"])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise PlanFileError(
            path, f"not a plan ({type(error).__name__})", "restore it from your version control"
        ) from error
    return _from_rows(path, rows, policy, layout, version)


def _csv_rows(path: Path, content: bytes) -> _Rows:
    try:
        content.decode("utf-8")
    except UnicodeDecodeError as error:
        row = content.count(b"\n", 0, error.start) + 1
        raise PlanFileError(path, f"row {row} is not UTF-8", "restore it from your version control") from error
    lines = io.BytesIO(content.removeprefix(b"\xef\xbb\xbf"))
    head = lines.readline().decode().strip()
    if head != ",".join(COLUMNS):
        raise PlanFileError(path, f"header {head[:60]!r}", f"expected {','.join(COLUMNS)}")
    if b'"' not in content:
        return (line.decode().rstrip("\r\n").split(",") for line in lines if line.strip())
    return _quoted_rows(path, lines)


def _quoted_rows(path: Path, lines: io.BytesIO) -> _Rows:
    try:
        yield from (row for row in csv.reader(io.TextIOWrapper(lines, "utf-8", newline="")) if row)
    except csv.Error as error:
        raise PlanFileError(path, f"its rows are damaged ({error})", _RESTORE) from error


def _read_certificate(certificate: Path) -> tuple[str, PlanPolicy, Layout, int]:
    try:
        data = json.loads(certificate.read_bytes())
        policy, layout = PlanPolicy.model_validate(data["policy"]), Layout.model_validate(data["layout"])
        return str(data["sha256"]), policy, layout, int(data["version"])
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise PlanFileError(certificate, f"not a certificate ({type(error).__name__})", _RESTORE) from error


def _guess(path: Path, rows: list[list[str]]) -> tuple[PlanPolicy, Layout]:
    """Find the layout from the table alone: lengths by level, the pool from a root, centre bits first."""
    if not rows:
        raise PlanFileError(path, "no rows", "a plan has at least one")
    todo = "put the certificate back beside the plan"
    by_level: dict[int, int] = {}
    root = ""
    try:
        for row in rows:
            length = int(row[4].rpartition("/")[2])
            if by_level.setdefault(int(row[2]), length) != length:
                raise PlanFileError(path, f"{row[0]}: two lengths in level {row[2]}", todo)
            if not row[3] and row[6] == "0" and row[7] == "0":
                root = row[4]
    except (ValueError, IndexError) as error:
        raise PlanFileError(path, "its rows are damaged", todo) from error
    if not root:
        raise PlanFileError(path, "no certificate beside it, and no root row that would tell the pool", todo)
    levels = sorted(by_level)
    try:
        pool = parse_prefix(root)
        policy = PlanPolicy.model_validate({"pools": [str(pool)]})
    except (AddressTextError, ValidationError) as error:
        raise PlanFileError(path, f"the root's prefix {root!r} is no pool", todo) from error
    try:
        fields = [_lay(policy, above, level, by_level) for above, level in pairwise(levels)]
        return policy, Layout(pools=policy.pools, fields=tuple(fields), root_level=levels[0])
    except ValidationError as error:
        raise PlanFileError(path, "its prefixes follow no layout", todo) from error


def _lay(policy: PlanPolicy, above: int, level: int, lengths: dict[int, int]) -> LaidField:
    wanted = policy.field(level)
    width, length = lengths[level] - lengths[above], lengths[level]
    order, reserved = wanted.order, wanted.reserved
    return LaidField(level=level, name=wanted.title, width=width, length=length, order=order, reserved=reserved)


def _from_rows(path: Path, rows: _Rows, policy: PlanPolicy, layout: Layout, version: int) -> HierarchyPlan:
    """Build the plan's columns; what the table says of prefixes must be what slots and homes say."""
    problems = _Problems(path)
    table = _Table()
    width = len(COLUMNS)
    for first in range(0, 1 << 62, _CHUNK):
        chunk = list(islice(rows, _CHUNK))
        if not chunk:
            break
        for number, row in enumerate(chunk, first + 2):
            if len(row) != width:
                problems.add(number, None, f"{counted(len(row), 'cell')} - expected {width}")
        problems.stop()
        table.take(chunk, first + 2, problems)
        problems.stop()
    if not table.codes:
        raise PlanFileError(path, "no rows", "a plan has at least one")
    levels, ids = table.column("level", np.int8), table.column("id", np.int64)
    homes = table.column("home", np.int64)
    slots, intos = table.column("slot", np.uint64), table.column("into", np.int64)
    states = table.column("state", np.int8)
    _check_identities(problems, ids, homes, levels, layout)
    _check_states(problems, table.codes, ids, states, intos)
    problems.stop()
    # Where a code was used twice in its life, the division that bears it today is meant.
    by_code: dict[str, int] = {"": 0}
    for active in (False, True):
        chosen = np.flatnonzero((states == ACTIVE) == active).tolist()
        by_code.update((table.codes[row], ident) for row, ident in zip(chosen, ids[chosen].tolist(), strict=True))
    parents = np.array([by_code.get(parent, -1) for parent in table.parents], dtype=np.int64)
    for at in np.flatnonzero(parents < 0).tolist():
        problems.add(at + 2, "parent", f"{table.parents[at]!r} is no row of this plan")
    problems.stop()
    high, lengths = prefixes_of(layout, ids, levels, homes, slots)
    for first in range(0, len(high), _CHUNK):
        part = slice(first, first + _CHUNK)
        pairs = zip(table.prefixes[part], format_prefixes(high[part], lengths[part]), strict=True)
        for number, (found, meant) in enumerate(pairs, first + 2):
            if found != meant:
                problems.add(number, "prefix", f"{found} - expected {meant} by its home and slot")
    problems.stop()
    return HierarchyPlan(
        policy=policy,
        layout=layout,
        version=version,
        ids=ids,
        codes=table.codes,
        names=table.names,
        levels=levels,
        parents=parents,
        homes=homes,
        slots=slots,
        high=high,
        lengths=lengths,
        states=states,
        intos=intos,
    )


def _check_states(
    problems: _Problems,
    codes: list[str],
    ids: NDArray[np.int64],
    states: NDArray[np.int8],
    intos: NDArray[np.int64],
) -> None:
    for at in np.flatnonzero((intos != 0) & ~np.isin(intos, ids[states == ACTIVE])).tolist():
        problems.add(at + 2, "into", f"{intos[at]} is no active identity of this plan")
    for at in np.flatnonzero((states == ABSORBED) != (intos != 0)).tolist():
        problems.add(at + 2, "into", f"{intos[at]} - expected an identity where the state is absorbed, else 0")
    for at in (row for row, code in enumerate(codes) if not code):
        problems.add(at + 2, "code", "is empty")


class _Table:
    """The table's columns, taken up a chunk of rows at a time: a Python object a cell would be a gigabyte."""

    def __init__(self) -> None:
        self.codes: list[str] = []
        self.names: list[str] = []
        self.parents: list[str] = []
        self.prefixes: list[str] = []
        self.numbers: dict[str, list[NDArray[np.int64]]] = {}
        self._known: dict[str, str] = {}

    def take(self, rows: list[list[str]], first: int, problems: _Problems) -> None:
        """Take rows up; `first` is the number of the first of them in the file."""
        columns: dict[str, tuple[str, ...]] = dict(zip(COLUMNS, zip(*rows, strict=True), strict=True))
        self.codes += columns["code"]
        self.names += columns["name"]
        self.prefixes += columns["prefix"]
        self.parents += map(self._known.setdefault, columns["parent"], columns["parent"])
        for name in ("level", "id", "home", "slot", "into"):
            self._keep(name, problems.numbers(columns[name], name, first))
        states = [_STATE_NUMBERS.get(state, -1) for state in columns["state"]]
        for place, state in enumerate(states):
            if state < 0:
                found = columns["state"][place]
                problems.add(first + place, "state", f"{found!r} - expected one of {', '.join(STATES)}")
        self._keep("state", np.array(states, dtype=np.int64))

    def _keep(self, name: str, values: NDArray[np.int64]) -> None:
        self.numbers.setdefault(name, []).append(values)

    def column(self, name: str, kind: type[np.generic]) -> NDArray[Any]:
        """Return a column of numbers."""
        return np.concatenate(self.numbers[name]).astype(kind)


def _check_identities(
    problems: _Problems,
    ids: NDArray[np.int64],
    homes: NDArray[np.int64],
    levels: NDArray[np.int8],
    layout: Layout,
) -> None:
    unique, counts = np.unique(ids, return_counts=True)
    known = np.array(sorted({*layout.by_level, layout.root_level} - {0}))
    # Every identity there ever was is in the table, numbered from 1: a row that is missing shows.
    for at in np.flatnonzero((ids < 1) | (ids > ids.size)).tolist():
        problems.add(at + 2, "id", f"{ids[at]} - expected 1 to {ids.size}, one for every row")
    for at in np.flatnonzero(np.isin(ids, unique[counts > 1])).tolist():
        problems.add(at + 2, "id", f"{ids[at]} is there more than once")
    for at in np.flatnonzero(~np.isin(levels, known)).tolist():
        problems.add(at + 2, "level", f"{levels[at]} - the layout has {', '.join(map(str, known))}")
    for at in np.flatnonzero((homes > 0) & (homes == ids)).tolist():
        problems.add(at + 2, "home", "is its own home")
    for at in np.flatnonzero(~np.isin(homes, np.r_[unique, 0])).tolist():
        problems.add(at + 2, "home", f"{homes[at]} is no identity of this plan")


class _Problems:
    """Collects what is wrong with a plan's table."""

    def __init__(self, path: Path) -> None:
        self.file = str(path)
        self.found: list[Problem] = []

    def add(self, row: int, column: str | None, what: str) -> None:
        todo = "restore the plan from your version control"
        self.found.append(Problem(file=self.file, row=row, column=column, what=what, todo=todo))

    def numbers(self, cells: Sequence[str], column: str, first: int) -> NDArray[np.int64]:
        try:
            return np.fromiter(map(int, cells), dtype=np.int64, count=len(cells))
        except (ValueError, OverflowError):
            for number, cell in enumerate(cells, first):
                if not (cell.isascii() and cell.isdigit() and len(cell) < 19):
                    self.add(number, column, f"{cell!r} - expected a number")
            if not self.found:
                self.add(first, column, "holds a number that is none")
            return np.zeros(len(cells), dtype=np.int64)

    def stop(self) -> None:
        """Raise what was found so far."""
        if self.found:
            more = len(self.found) - _SHOWN_PROBLEMS
            shown = self.found[:_SHOWN_PROBLEMS]
            if more > 0:
                last = Problem(file=self.file, row=None, column=None, what=f"{more} more problems", todo="see above")
                shown = [*shown, last]
            raise InputProblemsError(shown)


__all__ = [
    "ABSORBED",
    "COLUMNS",
    "QUARANTINED",
    "certificate_path",
    "dump_certificate",
    "dump_csv",
    "dump_json",
    "dump_rows",
    "load_plan",
    "make_certificate",
    "read_hierarchy",
]
