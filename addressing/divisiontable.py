"""Tables of divisions, read in two ways.

Files as the statistics bureau would make them are read by columns, without a Python object a cell; whatever that finds
odd is read again cell by cell, mended where it has one meaning only, else listed with its row.
"""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from addressing.divisions import NATIONAL, Divisions
from addressing.packed import FileProblems, refuse
from inventory.wording import counted
from inventory.workbooks import BROKEN, cell_text, open_workbook, say_break

MAX_ROWS = 5_000_000
_NATURAL = {1: 2, 2: 4, 3: 6, 4: 9, 5: 12}
_GB2260 = {1: 6, 2: 6, 3: 6, 4: 9, 5: 12}
_TAILS = (10, 8, 6, 3)
"""Zeros at the end of a national code of level 1, 2, 3 and 4."""

_HEADERS = {
    "code": ("code", "代码", "编码", "区划代码", "区划编码", "行政区划代码", "统计用区划代码", "12位代码"),
    "name": ("name", "名称", "区划名称", "行政区划名称", "单位名称"),
    "level": ("level", "级别", "层级", "级", "行政级别"),
    "parent": (
        "parent",
        "parent_code",
        "parentcode",
        "上级",
        "上级代码",
        "上级编码",
        "上级区划代码",
        "父级",
        "父级代码",
    ),
}
_COLUMN_OF = {alias: column for column, aliases in _HEADERS.items() for alias in aliases}
_LEVEL_WORDS = {
    word: level
    for level, words in enumerate(
        (
            ("province", "省", "省级"),
            ("city", "市", "地级", "市级"),
            ("county", "县", "县级", "区县"),
            ("town", "乡", "镇", "乡级", "乡镇", "镇级"),
            ("village", "村", "村级"),
        ),
        start=1,
    )
    for word in words
}
_DELIMITERS = "\t,;|，"
_MISLEADING = "\u061c\u2028-\u202e\u2066-\u2069\U000e0000-\U000e007f"
"""What changes how a text around it reads, without being seen: turns of direction, separators of lines, tags."""
_HIDDEN = re.compile(f"[{_MISLEADING}]")
_ODD = re.compile(f"[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u3000\ufeff\ufffd{_MISLEADING}]")
"""What a name that needs no mending never holds."""
_NO_PARENT = re.compile(r"0*|-|无")


# The quick way: a clean table of national codes, by columns.


def _match_header(cells: Sequence[str]) -> dict[str, int]:
    """Return places of the columns that are there, by name; the first of two that mean the same."""
    place: dict[str, int] = {}
    for index, cell in enumerate(cells):
        text = unicodedata.normalize("NFKC", cell).strip().strip("'\"").lower()
        column = _COLUMN_OF.get(text)
        if column:
            place.setdefault(column, index)
    return place


def _find_delimiter(line: str) -> str:
    return max(_DELIMITERS, key=lambda d: (len(_match_header(line.split(d))), line.count(d)))


def read_columns(data: bytes) -> Divisions | None:
    """Read a table without oddities, whole columns at once; None where anything is odd, so that somebody looks closer."""
    end = data.find(b"\n")
    header = data[:end].decode() if end > 0 else ""
    delimiter = _find_delimiter(header) if header else ""
    cells = header.split(delimiter) if delimiter.isascii() and delimiter else []
    place = _match_header(cells)
    if not {"code", "name"} <= place.keys() or b'"' in data:
        return None
    if not data.endswith(b"\n") or data.endswith(b"\n\n"):
        data = data.rstrip(b"\n") + b"\n"
    raw = np.frombuffer(data, dtype=np.uint8)[end + 1 :]
    marks = np.flatnonzero((raw == ord(delimiter)) | (raw == ord("\n")))
    width = len(cells)
    kinds = raw[marks]
    if marks.size < width or marks.size % width:
        return None
    ends = marks.reshape(-1, width)
    if not (kinds.reshape(-1, width) == np.array([ord(delimiter)] * (width - 1) + [ord("\n")], np.uint8)).all():
        return None
    starts = np.r_[0, marks[:-1] + 1].reshape(-1, width)
    columns = {name: (starts[:, at], ends[:, at]) for name, at in place.items()}
    codes = _numbers(raw, *columns["code"], NATIONAL)
    names = _texts(raw, *columns["name"])
    if codes is None or names is None or ends.shape[0] > MAX_ROWS:
        return None
    levels = _numbers(raw, *columns["level"], 1) if "level" in place else derive_levels(codes)
    order = None if (codes[1:] > codes[:-1]).all() else np.argsort(codes, kind="stable")
    ranked = codes if order is None else codes[order]
    parents = _numbers(raw, *columns["parent"], NATIONAL) if "parent" in place else _derive_parents(codes, ranked)
    if levels is None or parents is None:
        return None
    if order is not None:
        levels, parents, names = levels[order], parents[order], [names[i] for i in order.tolist()]
    rows = _link(ranked, levels, parents)
    if rows is None:
        return None
    at = columns["code"][0] if order is None else columns["code"][0][order]
    return Divisions(_code_texts(raw, at), names, levels.astype(np.int8), rows)


def _code_texts(raw: NDArray[np.uint8], starts: NDArray[np.int64]) -> list[str]:
    lines = np.full((starts.size, NATIONAL + 1), ord("\n"), dtype=np.uint8)
    for place in range(NATIONAL):
        lines[:, place] = raw[starts + place]
    return lines.tobytes().decode()[:-1].split("\n")


def _numbers(
    raw: NDArray[np.uint8], starts: NDArray[np.int64], ends: NDArray[np.int64], width: int
) -> NDArray[np.int64] | None:
    """Return a column's numbers, each of `width` digits or an empty cell (-1); None when any other cell is there."""
    lengths = ends - starts
    full = lengths == width
    if not (full | (lengths == 0)).all():
        return None
    out = np.full(starts.size, -1, dtype=np.int64)
    at = starts[full]
    numbers = np.zeros(at.size, dtype=np.int64)
    for place in range(width):
        digits = raw[at + place] - np.uint8(ord("0"))
        if (digits > 9).any():
            return None
        numbers = numbers * 10 + digits
    out[full] = numbers
    return out


def _texts(raw: NDArray[np.uint8], starts: NDArray[np.int64], ends: NDArray[np.int64]) -> list[str] | None:
    """Return a column's names; None when one is empty or needs mending."""
    if (ends == starts).any():
        return None
    border = np.zeros(raw.size + 1, dtype=np.int8)
    border[starts] += 1
    border[ends + 1] -= 1
    inside = raw[np.cumsum(border, dtype=np.int8, out=border)[:-1].view(bool)]
    # Each cell brought the mark that ends it along: make that a line's end.
    inside[np.cumsum(ends - starts + 1) - 1] = ord("\n")
    text = bytes(inside).decode()
    if _ODD.search(text) or text.startswith(" ") or " \n" in text or "\n " in text:
        return None
    return text[:-1].split("\n")


def derive_levels(codes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return levels (1 province to 5 village) of national codes, by the zeros they end in."""
    levels = np.full(codes.size, 5, dtype=np.int64)
    for level, zeros in reversed(list(enumerate(_TAILS, start=1))):
        levels[codes % 10**zeros == 0] = level
    return levels


def _derive_parents(codes: NDArray[np.int64], ranked: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the nearest code above each that is there, by cutting digits off (-1: none). `ranked` are all, in order."""
    parents = np.full(codes.size, -1, dtype=np.int64)
    for zeros in _TAILS:  # the farthest first, so that the nearest stays
        above = codes - codes % 10**zeros
        at = np.minimum(np.searchsorted(ranked, above), ranked.size - 1)
        found = (ranked[at] == above) & (above != codes)
        parents[found] = above[found]
    return parents


def _link(codes: NDArray[np.int64], levels: NDArray[np.int64], parents: NDArray[np.int64]) -> NDArray[np.int32] | None:
    """Return parents' rows (-1: a root) of ascending codes; None when a code, level or parent is wrong or missing."""
    if (codes < 0).any() or (codes[1:] <= codes[:-1]).any() or (levels < 1).any():
        return None
    at = np.minimum(np.searchsorted(codes, parents), codes.size - 1)
    found = codes[at] == parents
    tops = levels == levels.min()
    if not (found | tops).all() or (levels[at] >= levels)[found].any():
        return None
    return np.where(found, at, -1).astype(np.int32)


# The careful way: cell by cell, mending what has one meaning, listing everything else.


class _Raw(NamedTuple):
    """One row's cells as they stand. `level` and `parent` are None where the table has no such column."""

    row: int
    code: str
    name: str
    level: str | None
    parent: str | None


def text_rows(file: str, text: str) -> tuple[str | None, list[tuple[int, list[str]]]]:
    """Return (no sheet, rows with their line numbers) of a table of text."""
    lines = list(islice((line for line in text.split("\n") if line.strip() and not line.startswith("#")), 50))
    known = [line for line in lines if {"code", "name"} <= _match_header(line.split(_find_delimiter(line))).keys()]
    delimiter = _find_delimiter((known or lines or [""])[0])
    rows: list[tuple[int, list[str]]] = []
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    row = 1
    try:
        for cells in reader:
            if any(c.strip() for c in cells) and not cells[0].startswith("#"):
                rows.append((row, cells))
            if reader.line_num > row and any("\n" in c for c in cells):
                what = f"a quoted cell runs on to row {reader.line_num}"
                raise refuse(file, what, "close its quote, or remove the line break", row)
            if len(rows) > MAX_ROWS:
                raise refuse(file, f"more than {counted(MAX_ROWS, 'row')}", "no list of divisions is that long", row)
            row = reader.line_num + 1
    except csv.Error as error:
        raise refuse(file, f"not a table ({error})", "correct the quotes in this row", row) from error
    if not rows:
        raise refuse(file, "expected a table of divisions, found no row", "export it again")
    return None, rows


def book_rows(file: str, data: bytes) -> tuple[str | None, list[tuple[int, list[str]]]]:
    """Return (sheet, rows) of a workbook's first sheet that has a header, else of its first that holds anything."""
    sheets: dict[str, list[tuple[int, list[str]]]] = {}
    try:
        with open_workbook(data) as book:
            for sheet in book.worksheets:
                rows = sheets[sheet.title] = []
                for number, cells in enumerate(sheet.iter_rows(values_only=True), start=1):
                    texts = [cell_text(c).strip() for c in cells]
                    if any(texts):
                        rows.append((number, texts))
                    if number > MAX_ROWS:
                        raise refuse(file, f"more than {counted(MAX_ROWS, 'row')}", "no list is that long", number)
                if _header_row(rows) is not None:
                    break
    except BROKEN as error:
        raise refuse(file, f"not a readable workbook ({say_break(error)})", "save it as .xlsx again") from error
    filled = {title: rows for title, rows in sheets.items() if rows}
    if not filled:
        raise refuse(file, "expected a table of divisions, found an empty workbook", "export it again")
    best = next((t for t, rows in filled.items() if _header_row(rows) is not None), next(iter(filled)))
    return best, filled[best]


def _header_row(rows: Sequence[tuple[int, list[str]]]) -> int | None:
    """Return the place of the header among the first rows (a title may stand above it); None when there is none."""
    return next((i for i, (_, cells) in enumerate(rows[:10]) if {"code", "name"} <= _match_header(cells).keys()), None)


def _guess_columns(rows: Sequence[tuple[int, list[str]]]) -> dict[str, int]:
    """Tell columns of a table without a header by what they hold; what cannot be told is left out."""
    sample = [cells for _, cells in rows[:2000]]
    width = max(map(len, sample))
    columns = [
        [unicodedata.normalize("NFKC", c[i]).strip() if i < len(c) else "" for c in sample] for i in range(width)
    ]
    numbers = [i for i, col in enumerate(columns) if any(col) and all(re.fullmatch(r"(\d{6,})?", c) for c in col)]
    levels = [i for i, col in enumerate(columns) if all(re.fullmatch(r"[1-9]", c) for c in col)]
    names = [i for i, col in enumerate(columns) if all(re.search(r"[^\W\d_]", c) for c in col)]
    codes = [i for i in numbers if all(columns[i]) and len(set(columns[i])) == len(columns[i])]
    parents = [i for i in numbers if i not in codes]
    told = {"code": codes, "name": names, "level": levels, "parent": parents}
    return {column: places[0] for column, places in told.items() if len(places) == 1}


def read_rows(file: str, sheet: str | None, rows: list[tuple[int, list[str]]]) -> Divisions:
    """Read rows (each with the number a person sees it under), whatever order their columns are in; list all problems."""
    problems = FileProblems(file, sheet)
    head = _header_row(rows)
    place = _match_header(rows[head][1]) if head is not None else _guess_columns(rows)
    body = rows[head + 1 :] if head is not None else rows
    for column in ("code", "name"):
        if column not in place:
            what = f"expected a column {column!r} ({' or '.join(_HEADERS[column][1:3])}), found none"
            problems.add("header", rows[0][0], column, what, "put a header row above: code, name, level, parent")
    if problems.kept:
        raise problems.error()
    if not body:
        raise refuse(file, "expected divisions below the header, found none", "export it again")
    width = len(rows[head][1]) if head is not None else max(place.values()) + 1
    raws: list[_Raw] = []
    for number, cells in body:
        if any(c.strip() for c in cells[width:]) and head is not None:
            what = f"expected {counted(width, 'cell')}, found {len(cells)}"
            problems.add("cells", number, None, what, "quote cells that hold the separator")
        texts = {c: cells[i] if i < len(cells) else "" for c, i in place.items()}
        raws.append(_Raw(number, texts["code"], texts["name"], texts.get("level"), texts.get("parent")))
    return _parse(raws, problems)


def _parse(raws: list[_Raw], problems: FileProblems) -> Divisions:
    codes = _parse_codes([(r.row, r.code) for r in raws], "code", problems)
    codes = _pad(codes, raws, problems)
    names = [_parse_name(raw, problems) for raw in raws]
    national = all(len(c) == NATIONAL for c in codes if c)
    levels = _parse_levels(raws, codes, problems, national=national)
    seen: dict[str, int] = {}
    for place, code in enumerate(codes):
        first = seen.setdefault(code, place) if code else place
        if first != place:
            what = f"{code} is on row {raws[first].row} as well"
            problems.add("duplicate codes", raws[place].row, "code", what, "keep one of the two")
    parents = _parse_parents(raws, codes, seen, problems, national=national)
    _check_tree(raws, codes, seen, problems, names=names, levels=levels, parents=parents)
    if problems.kept:
        raise problems.error()
    order = sorted(range(len(codes)), key=codes.__getitem__)
    row_of = {codes[place]: row for row, place in enumerate(order)}
    return Divisions(
        codes=[codes[i] for i in order],
        names=[names[i] for i in order],
        levels=np.array([levels[i] for i in order], dtype=np.int8),
        parents=np.array([row_of.get(parents[i] or "", -1) for i in order], dtype=np.int32),
    )


def _parse_codes(cells: Iterable[tuple[int, str]], column: str, problems: FileProblems) -> list[str]:
    """Return codes as digits; empty where a cell cannot be read, which is then noted."""
    out = []
    for row, cell in cells:
        text = unicodedata.normalize("NFKC", cell).strip()
        quoted = re.fullmatch(r'="?(\d+)"?', text)
        text = quoted.group(1) if quoted else text.strip("'’‘`").strip()
        text = re.sub(r"\.0*$", "", text)
        number = re.fullmatch(r"(\d)(?:\.(\d+))?[eE]\+?(\d{1,3})", text)
        if number and len(number[2] or "") == int(number[3]):  # every digit is there
            text = number[1] + (number[2] or "")
        elif number:
            what = f"{cell.strip()!r}: Excel rounded the code to {counted(1 + len(number[2] or ''), 'digit')}"
            todo = "format the column as text and export again: which division it was cannot be told"
            problems.add(f"{column}s mangled by Excel", row, column, what, todo)
            out.append("")
            continue
        if text and (not re.fullmatch(r"[0-9]{2,18}", text)):
            what, todo = (
                f"expected a division code of 12 digits, found {cell.strip()!r}",
                "take it from the bureau's list",
            )
            problems.add(f"unreadable {column}s", row, column, what, todo)
            text = ""
        elif not text and column == "code":
            problems.add("empty codes", row, column, "expected a code, found an empty cell", "fill it in")
        out.append(text)
    return out


def _pad(codes: list[str], raws: Sequence[_Raw], problems: FileProblems) -> list[str]:
    """Bring codes of 6 or 9 digits to 12. Lengths may differ by level only: a mix may hide cut digits, and is refused."""
    lengths = Counter(len(c) for c in codes if c)
    if set(lengths) <= {NATIONAL} or (len(lengths) == 1 and not set(lengths) & set(_NATURAL.values())):
        return codes
    padded = [c.ljust(NATIONAL, "0") if len(c) <= NATIONAL else c for c in codes]
    if len(lengths) == 1:
        return padded
    levels = derive_levels(np.array([int(c or 0) for c in padded], dtype=np.int64)).tolist()
    scheme = max(
        (_NATURAL, _GB2260), key=lambda s: sum(s[lv] == len(c) for c, lv in zip(codes, levels, strict=True) if c)
    )
    if all(scheme[lv] == len(c) for c, lv in zip(codes, levels, strict=True) if c):
        return padded
    usual = lengths.most_common(1)[0][0]
    for raw, code in zip(raws, codes, strict=True):
        if code and len(code) != usual:
            what = f"{code} has {counted(len(code), 'digit')}, most others have {usual}"
            problems.add("codes of mixed lengths", raw.row, "code", what, "write every code with all its 12 digits")
    return padded


def _parse_name(raw: _Raw, problems: FileProblems) -> str:
    name = re.sub("[\u200b-\u200f\ufeff]", "", raw.name).strip()
    hidden = dict.fromkeys(_HIDDEN.findall(raw.name))
    if hidden:
        points = ", ".join(f"U+{ord(ch):04X} ({unicodedata.name(ch, 'no character')})" for ch in hidden)
        problems.add("hidden characters", raw.row, "name", f"{name!r} holds {points}", "type the name again")
    elif not name:
        problems.add("empty names", raw.row, "name", "expected a name, found an empty cell", "fill it in")
    elif "\ufffd" in name or any(unicodedata.category(ch) == "Cc" for ch in name):
        problems.add("broken names", raw.row, "name", f"expected a name, found {name!r}", "type it as it should be")
    return name


def _parse_levels(raws: Sequence[_Raw], codes: Sequence[str], problems: FileProblems, *, national: bool) -> list[int]:
    """Return levels, 0 where there is none to be had; derived from national codes where the table has no such column."""
    if raws[0].level is None:
        if not national:
            what = "no column 'level', and the codes are not national ones of 12 digits"
            problems.add("levels", None, "level", what, "add the column")
            return [0] * len(raws)
        numbers = np.array([int(c or 0) for c in codes], dtype=np.int64)
        return [int(lv) if c else 0 for c, lv in zip(codes, derive_levels(numbers), strict=True)]
    out = []
    for raw in raws:
        text = re.sub(r"\.0+$", "", unicodedata.normalize("NFKC", raw.level or "").strip().strip("'").lower())
        level = int(text) if re.fullmatch(r"[1-9]", text) else _LEVEL_WORDS.get(text, 0)
        if not level:
            what = f"expected a level of 1 (province) to 9, found {raw.level!r}"
            problems.add("unreadable levels", raw.row, "level", what, "correct it")
        out.append(level)
    return out


def _parse_parents(
    raws: Sequence[_Raw], codes: Sequence[str], seen: dict[str, int], problems: FileProblems, *, national: bool
) -> list[str | None]:
    """Return parents' codes: empty for none given, None for one that could not be read."""
    if raws[0].parent is None:
        if not national:
            what = "no column 'parent', and the codes are not national ones of 12 digits"
            problems.add("parents", None, "parent", what, "add the column")
            return [None] * len(raws)
        return [_cut_code(code, seen) for code in codes]
    cells = [
        (
            raw.row,
            "" if _NO_PARENT.fullmatch(unicodedata.normalize("NFKC", raw.parent or "").strip()) else raw.parent or "",
        )
        for raw in raws
    ]
    parents = _parse_codes(cells, "parent", problems)
    if national:
        parents = [p.ljust(NATIONAL, "0") if 0 < len(p) < NATIONAL else p for p in parents]
    return [p or (None if cell else "") for p, (_, cell) in zip(parents, cells, strict=True)]


def _cut_code(code: str, seen: dict[str, int]) -> str:
    for zeros in reversed(_TAILS):
        above = code[: NATIONAL - zeros].ljust(NATIONAL, "0") if code else ""
        if above != code and above in seen:
            return above
    return ""


def _check_tree(
    raws: Sequence[_Raw],
    codes: Sequence[str],
    seen: dict[str, int],
    problems: FileProblems,
    *,
    names: Sequence[str],
    levels: Sequence[int],
    parents: Sequence[str | None],
) -> None:
    """Note orphans, cycles and children that are not below their parents."""
    circular = _note_cycles(raws, codes, parents, seen, problems)
    top = min((lv for lv in levels if lv), default=0)
    for place, parent in enumerate(parents):
        level, row = levels[place], raws[place].row
        if parent is None or not level or place in circular:
            continue
        above = seen.get(parent) if parent else None
        if above is None and level > top:
            what = f"{codes[place] or 'it'} has no parent" if not parent else f"its parent {parent} is not in the file"
            problems.add("orphans", row, "parent", what, "add the parent's row, or correct the parent")
        elif above is not None and levels[above] >= level:
            what = (
                f"level {level} under {parent} {names[above]} of level {levels[above]} (row {raws[above].row}) - "
                f"expected more than {levels[above]}"
            )
            problems.add("wrong levels", row, "level", what, "correct the level or the parent")


def _note_cycles(
    raws: Sequence[_Raw],
    codes: Sequence[str],
    parents: Sequence[str | None],
    seen: dict[str, int],
    problems: FileProblems,
) -> set[int]:
    """Note each ring of parents once; return the rows in one."""
    visited: dict[int, int] = {}
    rings: set[int] = set()
    for start in range(len(codes)):
        path, place = [], start
        while place not in visited:
            visited[place] = start
            path.append(place)
            above = seen.get(parents[place] or "")
            if above is None:
                break
            place = above
        if place in path and seen.get(parents[path[-1]] or "") == place:
            ring = path[path.index(place) :]
            rings.update(ring)
            shown = " -> ".join([codes[i] for i in ring[:6]] + (["..."] if len(ring) > 6 else []) + [codes[ring[0]]])
            what = f"its parents lead back to itself: {shown}"
            problems.add("cycles", raws[ring[0]].row, "parent", what, "correct one of these parents")
    return rings
