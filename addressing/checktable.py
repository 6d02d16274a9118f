"""The checker's own reading of plans and lists of divisions: by the standard library, sharing nothing with the planner."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import json
import lzma
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice, repeat
from pathlib import Path
from socket import AF_INET6, inet_ntop, inet_pton
from typing import Any, BinaryIO, NamedTuple, Protocol, TextIO

import numpy as np
import zstandard
from numpy.typing import NDArray

from inventory.errors import ExtranetError, InputProblemsError, Problem

HEADER = ("code", "name", "level", "parent", "prefix", "id", "home", "slot", "state", "into")
HIERARCHY_FORMAT = "extranet hierarchy plan/1"
CERTIFICATE_FORMAT = "extranet plan certificate/1"
STATES = {"active": 0, "quarantined": 1, "absorbed": 2}
ACTIVE, QUARANTINED, ABSORBED = STATES.values()
_PIECE = 1 << 22
_CHUNK = 1 << 15
_JSON_CHUNK = 1 << 22
_MOST_DIGITS = 18
_MOST_UNPACKED, _MOST_MEMORY, _LONGEST_LINE = 1 << 28, 1 << 28, 1 << 16
"""A list of divisions has at most so many bytes unpacked, needs so many for it, and has so many characters a line."""
_ZST_PIECE = 1 << 10
"""Bytes unpacked at once: a kilobyte becomes 32 MiB at most, so that a bomb is noticed in time."""
_MOST_ROWS = 4_000_000
_NATIONAL, _SHORTER = 12, frozenset({2, 4, 6, 9})
"""Digits of a national code, and how many are left when its zeros are not written."""
_BREAKING = str.maketrans(dict.fromkeys(',"\n', "?"))
_ROWS_MARK = re.compile(rb'"rows":\s*\[')
_READ_ERRORS = (OSError, EOFError, lzma.LZMAError, gzip.BadGzipFile, UnicodeDecodeError, csv.Error, zstandard.ZstdError)


class CheckInputError(ExtranetError):
    """A file to be checked cannot be read at all, or is no plan."""

    def __init__(self, path: Path, what: str, todo: str) -> None:
        super().__init__(f"{path}: {what}; {todo}")


@dataclass(frozen=True)
class Table:
    """A hierarchy's plan as its file says, in columns of one length; `faults` is what could not be read.

    `codes` and `parents` are numbers that sort as the codes do (parents: -1 none). `texts` gives a row's code to read.
    """

    codes: NDArray[np.int64]
    parents: NDArray[np.int64]
    levels: NDArray[np.int64]
    high: NDArray[np.uint64]
    lengths: NDArray[np.int64]
    ids: NDArray[np.int64]
    homes: NDArray[np.int64]
    slots: NDArray[np.uint64]
    states: NDArray[np.int64]
    intos: NDArray[np.int64]
    texts: Codebook
    faults: list[str]

    def __len__(self) -> int:
        return self.codes.size

    @cached_property
    def _active(self) -> NDArray[np.int64]:
        """Rows of active divisions, in order of code."""
        rows = np.flatnonzero(self.states == ACTIVE)
        return rows[np.argsort(self.codes[rows], kind="stable")]

    def rows_of(self, codes: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the row of each code's active division (-1: none)."""
        rows = self._active
        if not rows.size:
            return np.full(codes.size, -1, dtype=np.int64)
        at = np.minimum(np.searchsorted(self.codes[rows], codes), rows.size - 1)
        return np.where(self.codes[rows[at]] == codes, rows[at], -1)

    @cached_property
    def above(self) -> NDArray[np.int64]:
        """Row of each entry's administrative parent: -1 none, -2 no active division of this plan."""
        found = self.rows_of(self.parents)
        return np.where(self.parents == -1, -1, np.where(found < 0, -2, found))

    def code(self, row: int) -> str:
        """Return a row's code."""
        return self.texts.text(int(self.codes[row]))

    def name(self, row: int) -> str:
        """Return how a person finds a row (1 = header)."""
        return f"row {row + 2} ({self.code(row)})"


class Codebook:
    """Codes as numbers that sort as their texts do: as they are where all are digits of one width, else by rank."""

    def __init__(self, codes: Sequence[str] = (), width: int = 0) -> None:
        self.width = width
        self._ranked = sorted(set(codes))
        self._ranks = {code: rank for rank, code in enumerate(self._ranked)}

    def text(self, key: int) -> str:
        """Return the code that a number stands for."""
        return f"{key:0{self.width}}" if self.width else self._ranked[key]

    def keys(self, codes: Sequence[str]) -> NDArray[np.int64]:
        """Return the numbers of codes (-1: none of this book's)."""
        if not self.width:
            return np.array([self._ranks.get(code, -1) for code in codes], dtype=np.int64)
        whole = "".join(codes)
        if whole.isascii() and whole.isdigit() and set(map(len, codes)) == {self.width}:
            return np.array(list(map(int, codes)), dtype=np.int64)
        right = ((c.isascii() and c.isdigit() and len(c) == self.width, c) for c in codes)
        return np.array([int(c) if good else -1 for good, c in right], dtype=np.int64)


def read_bytes(path: Path) -> bytes:
    """Read a file; CheckInputError when there is none."""
    try:
        if path.exists() and not path.is_file():
            raise CheckInputError(path, "not a regular file", "name a plan's file")
        return path.read_bytes()
    except FileNotFoundError as error:
        raise CheckInputError(path, "no such file", "name a plan's file") from error
    except OSError as error:
        raise CheckInputError(path, f"cannot be read ({error.strerror})", "look at its permissions") from error


class _Lines:
    """The cells of a table: bytes without quotes, and where each cell of each row ends (rows x columns, int32 or 64)."""

    def __init__(self, content: bytes | memoryview, faults: list[str]) -> None:
        self.bytes = np.frombuffer(content, dtype=np.uint8)
        self.faults = faults
        lines, marks = self._find(b"\n"), self._find(b",\n")
        columns = len(HEADER)
        self.ends = marks[: marks.size // columns * columns].reshape(-1, columns)
        if lines.size * columns != marks.size or (self.ends[:, -1] != lines).any():
            cells = np.diff(np.searchsorted(marks, lines), prepend=-1)
            for row in np.flatnonzero(cells != columns).tolist():
                self.faults.append(f"row {row + 2}: {cells[row]} cells - expected {columns}")
            self.ends = np.zeros((0, columns), dtype=np.int64)

    def _find(self, wanted: bytes) -> NDArray[np.signedinteger[Any]]:
        """Return the places of some bytes, a piece at a time: masks of a whole file would be as large as it, each."""
        kind = np.int32 if self.bytes.size < 1 << 31 else np.int64
        found = [np.zeros(0, dtype=kind)]
        for first in range(0, self.bytes.size, _PIECE):
            piece = self.bytes[first : first + _PIECE]
            hit = piece == wanted[0]
            for other in wanted[1:]:
                hit |= piece == other
            found.append((np.flatnonzero(hit) + first).astype(kind))
        return np.concatenate(found)

    def starts(self, column: int) -> NDArray[np.int64]:
        if column:
            return self.ends[:, column - 1] + 1
        first = np.roll(self.ends[:, -1], 1) + 1
        first[:1] = 0
        return first

    def widths(self, column: int) -> NDArray[np.int64]:
        return self.ends[:, column] - self.starts(column)

    def cells(self, column: int, rows: slice = slice(None)) -> list[str]:
        """Return a column's cells as text."""
        starts, widths = self.starts(column)[rows], self.widths(column)[rows] + 1
        offsets = np.cumsum(widths) - widths
        picked = self.bytes[np.arange(int(widths.sum())) + np.repeat(starts - offsets, widths)].copy()
        picked[offsets + widths - 1] = ord("\n")
        text: str = picked.tobytes().decode("utf-8", "replace")
        return text.split("\n")[:-1]

    def numbers(self, column: int, *, empty: bool = False) -> NDArray[np.int64]:
        """Return a column's whole numbers, digit by digit; -1 for an empty cell where that is allowed."""
        ends, widths = self.ends[:, column], self.widths(column)
        value, bad = np.zeros(ends.size, dtype=np.int64), widths > _MOST_DIGITS
        for place in range(min(int(widths.max(initial=0)), _MOST_DIGITS)):
            rows = np.flatnonzero(widths > place)
            digits = self.bytes[ends[rows] - 1 - place].astype(np.int64) - ord("0")
            bad[rows] |= (digits < 0) | (digits > 9)
            value[rows] += digits * 10**place
        # A number has one form: no zeros before it.
        bad |= (widths > 1) & (value < 10 ** np.maximum(widths - 1, 0)) & (HEADER[column] not in {"code", "parent"})
        nothing = widths == 0
        for row in np.flatnonzero(bad | (nothing & (not empty))).tolist():
            cell = self.cells(column, slice(row, row + 1))[0]
            self.faults.append(f"row {row + 2}: {HEADER[column]} {cell[:40]!r} is no number")
        value[nothing] = -1
        return value

    def codes(self) -> tuple[NDArray[np.int64], NDArray[np.int64], Codebook]:
        """Return codes, parents' codes, and the book that tells what they mean."""
        code, parent = HEADER.index("code"), HEADER.index("parent")
        widths = self.widths(code)
        width = int(widths.max(initial=0))
        above = self.widths(parent)
        for row in np.flatnonzero(widths == 0).tolist():
            self.faults.append(f"row {row + 2}: code is empty")
        if 0 < width < _MOST_DIGITS and (widths == width).all() and ((above == 0) | (above == width)).all():
            trial = _Trial(self)
            codes, parents = trial.numbers(code), trial.numbers(parent, empty=True)
            if not trial.faults:
                return codes, parents, Codebook(width=width)
        texts, upper = self.cells(code), self.cells(parent)
        book = Codebook([*texts, *filter(None, upper)])
        return book.keys(texts), book.keys(upper), book

    def states(self) -> NDArray[np.int64]:
        column = HEADER.index("state")
        starts, widths = self.starts(column), self.widths(column)
        out = np.full(starts.size, -1, dtype=np.int64)
        for text, number in STATES.items():
            rows = np.flatnonzero(widths == len(text))
            found = self.bytes[starts[rows][:, None] + np.arange(len(text))]
            out[rows[(found == np.frombuffer(text.encode(), dtype=np.uint8)).all(axis=1)]] = number
        for row in np.flatnonzero(out < 0).tolist():
            self.faults.append(f"row {row + 2}: state {self.cells(column, slice(row, row + 1))[0][:40]!r}")
        return out

    def prefixes(self) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
        """Return upper 64 bits and lengths; the text of each must be what a prefix is written as."""
        high, lengths = [np.zeros(0, np.uint64)], [np.zeros(0, np.int64)]
        for first in range(0, len(self.ends), _CHUNK):
            texts = self.cells(HEADER.index("prefix"), slice(first, first + _CHUNK))
            packed, found = self._parse_prefixes(texts, first)
            halves = np.frombuffer(packed, dtype=">u8").reshape(-1, 2)
            upper, length = halves[:, 0].astype(np.uint64), np.clip(found, 0, 64)
            bad = (halves[:, 1] != 0) | (upper & ~masks(length) != 0) | (found != length)
            for row in np.flatnonzero(bad).tolist():
                self.faults.append(f"row {first + row + 2}: prefix {texts[row]!r} has host bits set, or is over /64")
            high.append(upper)
            lengths.append(length)
        return np.concatenate(high), np.concatenate(lengths)

    def _parse_prefixes(self, texts: Sequence[str], first: int) -> tuple[bytes, NDArray[np.int64]]:
        whole = "/".join(texts)
        parts = whole.split("/")
        addresses, tails = parts[0::2], parts[1::2]
        try:
            packed = b"".join(map(inet_pton, repeat(AF_INET6), addresses))
            known = {tail: int(tail) for tail in set(tails)}
            right = len(addresses) == len(texts) and all(str(n) == tail for tail, n in known.items())
            if right and whole == whole.lower() and list(map(len, addresses)) == _canonical_widths(packed):
                return packed, np.array(list(map(known.__getitem__, tails)), dtype=np.int64)
        except (OSError, ValueError):
            pass
        for at, text in enumerate(texts):
            fault = find_prefix_fault(text) or ("is over /64" if int(text.rpartition("/")[2]) > 64 else "")
            if fault:
                self.faults.append(f"row {first + at + 2}: prefix {text[:60]!r} {fault}")
        self.faults += [] if self.faults else [f"row {first + 2} or later: a prefix cannot be read"]
        return bytes(16 * len(texts)), np.zeros(len(texts), dtype=np.int64)


def _canonical_widths(packed: bytes) -> list[int]:
    """Return how many characters each address has by RFC 5952, if its lower half is zero (else -1).

    Then the longest run of zeros is the one at the end, and no other way to write the address is as short: any zero
    written out, or another run left out instead, costs more characters.
    """
    groups = np.frombuffer(packed, dtype=">u2").reshape(-1, 8).astype(np.int64)
    digits = 1 + (groups > 0xF) + (groups > 0xFF) + (groups > 0xFFF)
    width, written = np.full(len(groups), len("::")), np.zeros(len(groups), dtype=bool)
    for group in (3, 2, 1, 0):
        # A group is written with a colon after it, if it or one after it is not zero; the last colon is of the `::`.
        now = written | (groups[:, group] > 0)
        width += np.where(now, digits[:, group] + written, 0)
        written = now
    widths: list[int] = np.where(groups[:, 4:].any(axis=1), -1, width).tolist()
    return widths


class _Trial(_Lines):
    """The same lines, whose faults do not count: to see whether codes are numbers."""

    def __init__(self, lines: _Lines) -> None:  # pylint: disable=super-init-not-called
        self.bytes, self.ends, self.faults = lines.bytes, lines.ends, []


def _make_table(content: bytes | memoryview, faults: list[str]) -> Table:
    """Read a table's rows, without its header: cells without quotes, each line ended."""
    lines = _Lines(content, faults)
    high, lengths = lines.prefixes()
    codes, parents, book = lines.codes()
    levels, ids, homes, slots, intos = (
        lines.numbers(HEADER.index(name)) for name in ("level", "id", "home", "slot", "into")
    )
    states = lines.states()
    return Table(
        codes, parents, levels, high, lengths, ids, homes, slots.astype(np.uint64), states, intos, book, faults
    )


def masks(lengths: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Return the network mask of the upper 64 bits for each length of 0 to 64."""
    table = np.array([((1 << n) - 1) << (64 - n) for n in range(65)], dtype=np.uint64)
    out: NDArray[np.uint64] = table[lengths]
    return out


def find_prefix_fault(text: str) -> str:
    """Say what is wrong with a prefix's text; empty when nothing is."""
    address, slash, length = text.partition("/")
    try:
        value = int.from_bytes(inet_pton(AF_INET6, address), "big")
    except (OSError, ValueError):
        return "is no IPv6 prefix"
    if not slash or not (length.isascii() and length.isdigit() and len(length) <= 3 and int(length) <= 128):
        return "has no length of 0 to 128"
    if value & ((1 << (128 - int(length))) - 1):
        return "has host bits set"
    return "" if text == f"{inet_ntop(AF_INET6, value.to_bytes(16, 'big'))}/{int(length)}" else "is not canonical"


def read_csv_table(content: bytes) -> Table:
    """Read a plan's table; whatever is wrong with its rows is in the table's faults."""
    faults: list[str] = []
    begin = len(codecs.BOM_UTF8) if content.startswith(codecs.BOM_UTF8) else 0
    end = content.find(b"\n", begin)
    end = len(content) if end < 0 else end
    header = content[begin:end]
    if header.decode("utf-8", "replace") != ",".join(HEADER):
        found = header[:60].decode("utf-8", "replace")
        return _make_table(b"", [f"row 1: header {found!r} - expected {','.join(HEADER)}"])
    whole = memoryview(content)[end + 1 :]
    if whole and content.endswith(b"\n") and b'"' not in content and _is_utf8(whole):
        return _make_table(whole, faults)
    body = bytes(whole)
    try:
        body.decode()
    except UnicodeDecodeError as error:
        faults.append(f"row {body.count(10, 0, error.start) + 2} is not UTF-8")
    if body and not body.endswith(b"\n"):
        faults.append(f"row {body.count(10) + 2}: the last line is cut short")
        body += b"\n"
    if b'"' in body and not faults:
        body = _take_quotes_away(body, faults)
    return _make_table(body, faults)


def _is_utf8(content: memoryview) -> bool:
    """Tell whether bytes are UTF-8, without holding them as text."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        for first in range(0, len(content), _PIECE):
            decoder.decode(content[first : first + _PIECE])
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def _take_quotes_away(body: bytes, faults: list[str]) -> bytes:
    """Return the rows without names, which are all that may need quotes."""
    out, count = [], 0
    try:
        for row in csv.reader(io.StringIO(body.decode(), newline=""), strict=True):
            count += 1
            out.append(_join_cells(row))
    except csv.Error as error:
        faults.append(f"row {count + 2} or later cannot be read ({error})")
        return b""
    return "".join(out).encode()


def _join_cells(row: Sequence[object]) -> str:
    """Return one row as a line without its name; a cell that would break the line is shown broken instead."""
    cells = [str(cell).translate(_BREAKING) for cell in row]
    if len(cells) == len(HEADER):
        cells[1] = ""
    return ",".join(cells) + "\n"


def read_json_table(path: Path, content: bytes) -> tuple[dict[str, Any], Table]:
    """Read a hierarchy's plan in JSON: its head without rows, and the rows. CheckInputError when it is no JSON."""
    out: list[bytes] = []
    try:
        mark = _ROWS_MARK.search(content)
        head = json.loads(content[: mark.end()] + b"]}") if mark else json.loads(content)
        if mark:
            out += ["".join(map(_join_cells, rows)).encode() for rows in _json_rows(content, mark.end())]
    except (ValueError, TypeError, RecursionError) as error:
        raise CheckInputError(
            path, f"is damaged ({type(error).__name__}: {error})", "restore it from your version control"
        ) from error
    if not isinstance(head, dict):
        raise CheckInputError(path, "is no plan", f'expected "format": "{HIERARCHY_FORMAT}"')
    differing = head.get("columns") != list(HEADER)
    faults = [f"columns {head.get('columns')!r} - expected {', '.join(HEADER)}"] if differing else []
    return head, _make_table(b"".join(out), faults)


def _json_rows(content: bytes, start: int) -> Iterator[list[list[Any]]]:
    """Yield rows a chunk at a time: one row a line, as the planner writes them; else all at once."""
    end = content.rfind(b"]")
    if end < start or content[end + 1 :].strip() != b"}":
        raise ValueError("no end: it was cut short, or has something after its rows")
    position = start
    while position < end:
        # A chunk ends where a row's line does; a file may be laid out otherwise, then it is read at once.
        stop = content.find(b"],\n", position + _JSON_CHUNK, end) + 1 or end
        chunk = content[position:stop].strip().rstrip(b",")
        try:
            yield json.loads(b"[" + chunk + b"]")
        except ValueError:
            if position != start or stop == end:
                raise
            yield json.loads(b"[" + content[start:end] + b"]")
            return
        position = stop + (content[stop : stop + 1] == b",")


class Listed(NamedTuple):
    """A list of divisions: codes, parents' codes and levels (0: not said), in the file's order."""

    codes: list[str]
    parents: list[str] | None
    levels: list[str] | None


def read_division_list(path: Path) -> Listed:
    """Read a list of divisions: a table with a header, plain or packed, in UTF-8, GB 18030 or UTF-16 with a mark.

    Cells are parted by tabs, commas (of either width), semicolons or bars; packed is .xz, .gz or .zst.

    Raises:
        CheckInputError: it cannot be read, or has no column `code`.
        InputProblemsError: rows without a code.
    """
    encodings = ["utf-8-sig", "gb18030"]
    while encodings:
        encoding = encodings.pop(0)
        try:
            if encoding == "utf-8-sig" and _has_utf16_mark(path):
                encoding, encodings = "utf-16", []
            with _open(path) as stream, io.TextIOWrapper(stream, encoding, newline="") as text:
                return _read_list(path, text)
        except UnicodeDecodeError:
            continue
        except _READ_ERRORS as error:
            raise CheckInputError(path, f"cannot be read ({error})", "restore it, or unpack it by hand") from error
    raise CheckInputError(path, "is neither UTF-8 nor GB 18030 (nor UTF-16 with a mark)", "save it as CSV in UTF-8")


def _has_utf16_mark(path: Path) -> bool:
    """Tell UTF-16 by its mark; what is too large is refused here, before rows of it are held."""
    with _open(path) as stream:
        mark = stream.read(2)
        while stream.read(_PIECE):
            pass
    return mark in {codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE}


class _Source(Protocol):
    """What is read and closed: a file, or what unpacks one and closes it with itself."""

    def read(self, size: int, /) -> bytes: ...
    def close(self) -> None: ...


class _Bounded(io.RawIOBase):
    """A stream that comes in pieces, and ends in an error when it is larger than any list of divisions."""

    def __init__(self, path: Path, source: _Source, pieces: Iterator[bytes]) -> None:
        self._path, self._source, self._pieces = path, source, pieces
        self._rest, self._size = b"", 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        self._rest = self._rest or next(self._pieces, b"")
        taken, self._rest = self._rest[: len(buffer)], self._rest[len(buffer) :]
        buffer[: len(taken)] = taken
        self._size += len(taken)
        if self._size > _MOST_UNPACKED:
            raise CheckInputError(
                self._path, f"unpacks to more than {_MOST_UNPACKED >> 20} MiB", "no list of divisions is that large"
            )
        return len(taken)

    def close(self) -> None:
        self._source.close()
        super().close()


def _unpack_xz(source: _Source) -> Iterator[bytes]:
    """Unpack piece by piece, with a bound on memory too, which the standard library's file lacks."""
    data = source.read(_LONGEST_LINE)
    while data:
        decoder = lzma.LZMADecompressor(memlimit=_MOST_MEMORY)
        while not decoder.eof:
            if decoder.needs_input and not data:
                data = source.read(_LONGEST_LINE)
                if not data:
                    raise EOFError("it ends before its end mark")
            piece = decoder.decompress(data, _LONGEST_LINE)
            data = b""
            if piece:
                yield piece
        data = decoder.unused_data.lstrip(b"\0")
        while not data and (more := source.read(_LONGEST_LINE)):
            data = more.lstrip(b"\0")


def _unpack_zst(source: _Source) -> Iterator[bytes]:
    """Unpack piece by piece; the library's own file takes one that was cut short for a whole one."""
    data = source.read(_ZST_PIECE)
    while data:
        frame = zstandard.ZstdDecompressor(max_window_size=_MOST_MEMORY >> 1).decompressobj()
        while not frame.eof:
            if not data:
                raise EOFError("it ends before its end mark")
            piece = frame.decompress(data)
            yield from (piece[at : at + _LONGEST_LINE] for at in range(0, len(piece), _LONGEST_LINE))
            data = frame.unused_data or source.read(_ZST_PIECE)


def _read_pieces(source: _Source) -> Iterator[bytes]:
    return iter(lambda: source.read(_LONGEST_LINE), b"")


def _open(path: Path) -> BinaryIO:
    if path.exists() and not path.is_file():
        raise CheckInputError(path, "not a regular file", "name a list of divisions")
    if path.suffix == ".xlsx":
        raise CheckInputError(path, "a workbook is not read by the checker", "save the sheet as CSV in UTF-8")
    source: _Source = gzip.GzipFile(path) if path.suffix == ".gz" else path.open("rb")
    unpack = {".xz": _unpack_xz, ".zst": _unpack_zst}.get(path.suffix, _read_pieces)
    return io.BufferedReader(_Bounded(path, source, unpack(source)))


def _read_lines(path: Path, text: TextIO) -> Iterator[str]:
    """Yield lines; CheckInputError when one is longer than any list's."""
    number = 1
    while line := text.readline(_LONGEST_LINE + 1):
        if len(line) > _LONGEST_LINE:
            what = f"line {number} is longer than {_LONGEST_LINE >> 10} KiB"
            raise CheckInputError(path, what, "no list of divisions has such lines; name another file")
        yield line
        number += 1


_CODE_HEADERS = {"code", "代码", "区划代码", "统计用区划代码", "行政区划代码", "division_code"}
_PARENT_HEADERS = {"parent", "上级", "上级代码", "parent_code", "上级区划代码"}
_LEVEL_HEADERS = {"level", "级别", "层级", "级次"}


_DELIMITERS = "\t,;|，"


def _split_header(first: str) -> tuple[list[str], str]:
    """Return the names of a header's columns and what parts them: what makes the code a column of its own."""
    split = {
        mark: [plain(cell).lower() for cell in next(csv.reader([first], delimiter=mark), [])] for mark in _DELIMITERS
    }
    known = [mark for mark, names in split.items() if not _CODE_HEADERS.isdisjoint(names)]
    best = max(known, key=lambda mark: len(split[mark]), default=",")
    return split[best], best


def pad_codes(codes: Sequence[str]) -> list[str]:
    """Return national codes in full: those of 2, 4, 6 or 9 digits have zeros after them that were not written."""
    return [c.ljust(_NATIONAL, "0") if len(c) in _SHORTER and c.isascii() and c.isdigit() else c for c in codes]


def _read_list(path: Path, text: TextIO) -> Listed:
    lines = _read_lines(path, text)
    first = next(lines, "")
    header, delimiter = _split_header(first)
    code_at, parent_at, level_at = (
        next((i for i, cell in enumerate(header) if cell in names), -1)
        for names in (_CODE_HEADERS, _PARENT_HEADERS, _LEVEL_HEADERS)
    )
    if code_at < 0:
        raise CheckInputError(path, f"row 1 has no column 'code': {first.strip()[:60]!r}", "name the columns in row 1")
    codes, parents, levels = list[str](), list[str](), list[str]()
    tidy = _Tidy()
    problems: list[Problem] = []
    reader, number = csv.reader(lines, delimiter=delimiter), 2
    needed = max(code_at, parent_at, level_at)
    while rows := list(islice(reader, _CHUNK)):
        good = [row for row in rows if len(row) > needed and row[code_at].strip()]
        if len(good) < len(rows):
            todo = "complete the row, or delete it"
            problems += [
                Problem(file=str(path), row=number + i, column="code", what="no code", todo=todo)
                for i, row in enumerate(rows)
                if any(row) and (len(row) <= needed or not row[code_at].strip())
            ]
        number += len(rows)
        if number > _MOST_ROWS:
            raise CheckInputError(path, f"has more than {_MOST_ROWS} rows", "no list of divisions has so many")
        found = [row[code_at] for row in good]
        digits = "".join(found)
        codes += found if digits.isascii() and digits.isdigit() else map(plain, found)
        if parent_at >= 0:
            parents += [tidy[row[parent_at]] for row in good]
        if level_at >= 0:
            levels += [tidy[row[level_at]] for row in good]
    if problems:
        raise InputProblemsError(problems)
    if not codes:
        raise CheckInputError(path, "lists no divisions", "name another file")
    return Listed(codes, parents if parent_at >= 0 else None, levels if level_at >= 0 else None)


class _Tidy(dict[str, str]):
    """Cells made plain, each text once: cells that say the same then share their memory."""

    def __missing__(self, cell: str) -> str:
        self[cell] = plain(cell)
        return self[cell]


def plain(cell: str) -> str:
    """Return a cell without full-width forms, spaces and what Excel adds to whole numbers."""
    return re.sub(r"\.0+$", "", unicodedata.normalize("NFKC", cell).replace("\ufeff", "").strip().strip("'"))
