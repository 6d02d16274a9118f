"""Divisions as a planner receives them: codes, names, levels and parents, in columns, and the door to their files."""

from __future__ import annotations

import unicodedata
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from inventory.errors import ExtranetError, UnknownNameError

COUNTY = 3
NATIONAL = 12
"""Digits of a national code: 2 province, 2 city, 2 county, 3 town, 3 village; a shorter one stands left of zeros."""


@dataclass(frozen=True)
class Divisions:
    """A forest of divisions, in columns of one length `n`, sorted by code; every parent is in it or it is a root.

    `parents` holds row numbers (-1: a root), int32; `levels` int8, smaller is higher. A child's level is greater than
    its parent's, not always by one: towns may lie directly under a city.
    """

    codes: list[str]
    names: list[str]
    levels: NDArray[np.int8]
    parents: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.codes)

    @cached_property
    def row_of(self) -> dict[str, int]:
        """Rows by code."""
        return {code: row for row, code in enumerate(self.codes)}

    @cached_property
    def roots(self) -> list[int]:
        """Rows without a parent."""
        return [int(r) for r in np.flatnonzero(self.parents < 0)]

    def fan_out(self) -> dict[int, int]:
        """Return by level the most children of that level that any one parent has (roots: how many there are)."""
        out: dict[int, int] = {}
        for level in sorted({int(x) for x in np.unique(self.levels)}):
            rows = np.flatnonzero(self.levels == level)
            parents = self.parents[rows]
            _, counts = np.unique(parents, return_counts=True)
            out[level] = int(counts.max())
        return out


class UnknownDivisionError(UnknownNameError):
    """No division of that code or name, or several of that name."""

    def __init__(self, name: str, file: str, near: Sequence[str], *, several: int = 0) -> None:
        self.kind, self.name, self.near = "division", name, list(near)
        if several:
            what, todo = f"{several} divisions of {file} go by this name", f"name one by code: {', '.join(near)}"
            todo += " ..." if several > len(near) else ""
        else:
            what = f"not in {file}"
            todo = f"did you mean {', '.join(near)}?" if near else "give a code or a name as the file has it"
        ExtranetError.__init__(self, f"division {name!r}: {what}; {todo}")


def read_divisions(path: Path, root: str | None = None) -> Divisions:
    """Read a file of divisions; with `root` (a code, or a name if only one has it) only that division and all below it.

    Raises:
        InputProblemsError: every problem of the file, each with its row.
        UnknownDivisionError: no such root, or several.
    """
    from addressing.divisiontable import book_rows, read_columns, read_rows, text_rows
    from addressing.packed import ZIP, as_utf8, load_bytes

    data = load_bytes(path)
    if data.startswith(ZIP):
        divisions = read_rows(path.name, *book_rows(path.name, data))
    else:
        data = as_utf8(path.name, data)
        divisions = read_columns(data) or read_rows(path.name, *text_rows(path.name, data.decode()))
    return divisions if root is None else take_subtree(divisions, root, path.name)


def take_subtree(divisions: Divisions, root: str, file: str = "the divisions") -> Divisions:
    """Return a division, given by code or by a name that only it has, and all below it; it becomes the only root."""
    top = _find_root(divisions, root, file)
    inside = np.zeros(len(divisions), dtype=bool)
    inside[top] = True
    for level in np.unique(divisions.levels[divisions.levels > divisions.levels[top]]):
        rows = np.flatnonzero(divisions.levels == level)
        rows = rows[divisions.parents[rows] >= 0]
        inside[rows] = inside[divisions.parents[rows]]
    kept = np.flatnonzero(inside)
    number = np.full(len(divisions) + 1, -1, dtype=np.int32)
    number[kept] = np.arange(kept.size, dtype=np.int32)
    parents = number[divisions.parents[kept]]
    parents[number[top]] = -1
    chosen = kept.tolist()
    return Divisions(
        codes=[divisions.codes[r] for r in chosen],
        names=[divisions.names[r] for r in chosen],
        levels=divisions.levels[kept],
        parents=parents,
    )


def _find_root(divisions: Divisions, root: str, file: str) -> int:
    wanted = unicodedata.normalize("NFKC", root).strip()
    codes = divisions.codes
    if wanted.isdigit():
        width = len(codes[0])
        code = wanted.ljust(width, "0") if width == NATIONAL and len(wanted) in {2, 4, 6, 9} else wanted
        row = bisect_left(codes, code)
        if row < len(codes) and codes[row] == code:
            return row
        # A mistyped code differs in a digit or two: look among its neighbours and those of the same county or level.
        about = {c for c in codes[max(0, row - 3) : row + 3] if c[:2] == code[:2]}
        about |= set(codes[bisect_left(codes, code[:6]) : bisect_left(codes, code[:6] + ":")])
        about |= {codes[r] for r in np.flatnonzero(divisions.levels <= COUNTY)}
        differ = {c: sum(a != b for a, b in zip(c, code, strict=False)) for c in about if len(c) == len(code)}
        near = sorted((c for c in differ if differ[c] <= 2), key=lambda c: (differ[c], c))[:3]
        raise UnknownDivisionError(root, file, [f"{c} {divisions.names[divisions.row_of[c]]}" for c in near])
    rows = [row for row, name in enumerate(divisions.names) if name == wanted]
    if len(rows) == 1:
        return rows[0]
    if rows:
        raise UnknownDivisionError(root, file, [codes[r] for r in rows[:5]], several=len(rows))
    letters = set(wanted)
    alike = {n: r for r, n in enumerate(divisions.names) if 2 * len(letters.intersection(n)) >= len(letters)}
    near = get_close_matches(wanted, alike, 3, 0.5)
    raise UnknownDivisionError(root, file, [f"{codes[alike[n]]} {n}" for n in near])
