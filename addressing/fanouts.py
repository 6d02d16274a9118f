"""How divisions spread over their parents: what a bit budget must know of them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from addressing.divisions import Divisions
from addressing.policy import PlanPolicy
from inventory.errors import ExtranetError
from inventory.model import County, SiteClass

POOL = 0
"""Stands for the pool where a level is expected."""


@dataclass(frozen=True)
class FanOut:
    """How the divisions of one level spread over their parents. `spread[k]` int64: how many parents have k of them."""

    level: int
    count: int
    most: int
    most_parent: str
    spread: NDArray[np.int64]

    @property
    def parents(self) -> int:
        """How many parents have any."""
        return int(self.spread[1:].sum())

    def more_than(self, children: int) -> int:
        """Return how many parents have more children than that."""
        return int(self.spread[children + 1 :].sum())

    def added(self, before: int, more: int, parent: str) -> FanOut:
        """Return the fan-out after a parent that has `before` children gets `more`."""
        after = before + more
        spread = np.zeros(max(self.spread.size, after + 1), dtype=np.int64)
        spread[: self.spread.size] = self.spread
        spread[before] -= 1
        spread[after] += 1
        most, who = (after, parent) if after > self.most else (self.most, self.most_parent)
        return replace(self, count=self.count + more, most=most, most_parent=who, spread=spread)


@dataclass(frozen=True)
class Shape:
    """What the budget must know of divisions: fan-outs, highest level first, and what their own areas must hold.

    A single root is the pool itself (`root_level`, else 0). `deepest` says of a level (0: the pool) how deep its
    children go, as children that skip levels share the areas of slot 0 with the division's own subnets. `classes` are
    the access classes found in a level.
    """

    fan_outs: tuple[FanOut, ...]
    root_level: int
    root: str
    deepest: dict[int, int]
    classes: dict[int, frozenset[str]]


def measure(divisions: Divisions, policy: PlanPolicy) -> Shape:
    """Measure divisions: fan-outs by level, the root, how deep children go.

    Raises:
        ExtranetError: there are none.
    """
    if not len(divisions):
        raise ExtranetError("divisions: expected at least one, found none; is --root a code of the file?")
    roots = divisions.roots
    root_level = int(divisions.levels[roots[0]]) if len(roots) == 1 else POOL
    fan_outs = []
    deepest: dict[int, int] = {}
    for level in np.unique(divisions.levels).tolist():
        rows = np.flatnonzero(divisions.levels == level)
        parents = divisions.parents[rows]
        if level == root_level:
            continue
        counts = np.bincount(parents + 1, minlength=len(divisions) + 1)
        worst = int(counts.argmax())
        above = divisions.levels[np.maximum(parents, 0)]
        for upper in np.unique(np.where(parents < 0, POOL, above)).tolist():
            deepest[upper] = level  # levels ascend, so the last stays
        who = label(divisions, worst - 1) if worst else ""
        fan_outs.append(FanOut(level, rows.size, int(counts[worst]), who, np.bincount(counts).astype(np.int64)))
    classes: dict[int, set[str]] = {}
    if policy.classes:
        for code, name in policy.classes.items():
            row = divisions.row_of.get(code)
            if row is not None:
                classes.setdefault(int(divisions.levels[row]), set()).add(name)
    root = label(divisions, roots[0]) if root_level else ""
    frozen = {level: frozenset(names) for level, names in classes.items()}
    return Shape(tuple(fan_outs), root_level, root, deepest, frozen)


def label(divisions: Divisions, row: int) -> str:
    """Return how people call a division: code and name."""
    return f"{divisions.codes[row]} {divisions.names[row]}".strip()


def list_sites(county: County) -> Divisions:
    """Return a county's sites as divisions, as far as they are surveyed: one each, by division code."""
    level = {SiteClass.COUNTY: 3, SiteClass.TOWN: 4, SiteClass.VILLAGE: 5}
    sites = sorted(county.sites, key=lambda s: (s.division_code, s.id))
    rows = {s.id: row for row, s in enumerate(sites)}
    twice = {code for code, n in Counter(s.division_code for s in sites).items() if n > 1}
    return Divisions(
        codes=[f"{s.division_code}/{s.id}" if s.division_code in twice else s.division_code for s in sites],
        names=[s.name for s in sites],
        levels=np.array([level[s.site_class] for s in sites], dtype=np.int8),
        parents=np.array([rows[s.parent] if s.parent else -1 for s in sites], dtype=np.int32),
    )
