"""Divisions as a planner receives them: codes, names, levels and parents, in columns."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray


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
