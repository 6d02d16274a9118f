"""Proof that carrying a plan on moved nobody: recomputed from homes and slots alone, not from what the planner did."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from addressing.hierarchy import ABSORBED, ACTIVE, QUARANTINED, HierarchyPlan
from addressing.text import format_prefix
from inventory.wording import counted

_LISTED = 20


@dataclass(frozen=True)
class Proof:
    """What was found, the first failures of each kind in words."""

    identities: int
    renumbered: int
    given_twice: int
    given_again: int
    failures: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Tell whether nothing was found, of a plan that holds anything."""
        return self.identities > 0 and not self.failures

    def __str__(self) -> str:
        """Say it in one line."""
        found = f"{counted(self.identities, 'identity', 'identities')} before, {self.renumbered} renumbered"
        found += f", {counted(self.given_twice, 'prefix', 'prefixes')} given twice"
        return f"{found}, {counted(self.given_again, 'released slot')} given again"


def prove_unmoved(before: HierarchyPlan, after: HierarchyPlan) -> Proof:
    """Check that every identity kept its prefix, that none was given twice, and none that was released given again."""
    failures: list[str] = []

    def note(found: NDArray[np.int64], plan: HierarchyPlan, what: str) -> int:
        shown = found[:_LISTED].tolist()
        failures.extend(f"{plan.codes[row]} {plan.names[row]} (identity {plan.ids[row]}): {what}" for row in shown)
        if found.size > _LISTED:
            failures.append(f"{found.size - _LISTED} more: {what}")
        return int(found.size)

    known = before.ids < after.row_of_id.size
    rows = np.where(known, after.row_of_id[np.where(known, before.ids, 0)], -1)
    note(np.flatnonzero(rows < 0), before, "is in the plan no more")
    old = np.flatnonzero(rows >= 0)
    now = rows[old]
    high, lengths = recompute_prefixes(after)
    same = (before.high[old] == high[now]) & (before.lengths[old] == lengths[now])
    same &= (before.homes[old] == after.homes[now]) & (before.slots[old] == after.slots[now])
    renumbered = note(old[~same], before, "was renumbered")
    wrong = np.flatnonzero((after.high != high) | (after.lengths != lengths))
    note(wrong, after, "its prefix does not follow from its home and slot")

    newcomers = np.flatnonzero(~np.isin(after.ids, before.ids))
    again = newcomers[_had_before(before, after, newcomers)]
    given_again = note(again, after, "was given a slot that another identity has had")
    note(newcomers[after.ids[newcomers] <= before.ids.max(initial=0)], after, "bears a number that was passed already")
    order = np.lexsort((after.lengths, after.high))
    there = (after.high[order], after.lengths[order])
    twin = (there[0][1:] == there[0][:-1]) & (there[1][1:] == there[1][:-1])
    twice = order[1:][twin]
    given_twice = note(twice, after, f"{_example(after, twice)} was given twice")
    bad = _state_rows(after)
    for what, found in bad.items():
        note(found, after, what)
    return Proof(len(before), renumbered, given_twice, given_again, tuple(failures))


def _example(plan: HierarchyPlan, rows: NDArray[np.int64]) -> str:
    return format_prefix(*plan.prefix(int(rows[0]))) if rows.size else ""


def _had_before(before: HierarchyPlan, after: HierarchyPlan, newcomers: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Tell of each newcomer whether some identity before had its slot under the same home."""
    size = len(before)
    level = np.r_[before.levels, after.levels[newcomers]]
    home = np.r_[before.homes, after.homes[newcomers]]
    slot = np.r_[before.slots, after.slots[newcomers]]
    late = np.r_[np.zeros(size, dtype=bool), np.ones(newcomers.size, dtype=bool)]
    order = np.lexsort((late, slot, home, level))
    same = np.ones(max(order.size - 1, 0), dtype=bool)
    for column in (level, home, slot):
        same &= column[order][1:] == column[order][:-1]
    out = np.zeros(newcomers.size, dtype=bool)
    again = order[1:][same & late[order][1:]]
    out[again - size] = True
    return out


def recompute_prefixes(plan: HierarchyPlan) -> tuple[NDArray[np.uint64], NDArray[np.uint8]]:
    """Return (upper 64 bits, length) of every row by walking up its homes, one step at a time for all rows at once."""
    layout = plan.layout
    deepest = max([*layout.by_level, layout.root_level], default=0) + 1
    shifts, masks = np.zeros(deepest, dtype=np.uint64), np.zeros(deepest, dtype=np.uint64)
    sizes = np.full(deepest, layout.pool_length, dtype=np.uint8)
    for laid in layout.fields:
        shifts[laid.level], masks[laid.level], sizes[laid.level] = laid.shift, (1 << laid.width) - 1, laid.length
    pools = np.array([int(p.network_address) >> 64 for p in layout.pools], dtype=np.uint64)
    top = layout.fields[0] if layout.fields else None
    high = np.full(len(plan), pools[0], dtype=np.uint64)
    rows, at = np.arange(len(plan)), np.arange(len(plan))
    for _ in range(deepest + 1):
        level, slot = plan.levels[at], plan.slots[at]
        if top is not None:
            first = level == top.level
            number = np.minimum(slot[first] >> np.uint64(top.width), pools.size - 1).astype(np.int64)
            high[rows[first]] |= pools[number]
            high[rows[first]] ^= pools[0] & ~pools[number]
        high[rows] |= (slot & masks[level]) << shifts[level]
        homes = plan.homes[at]
        rows, at = rows[homes > 0], plan.row_of_id[homes[homes > 0]]
    return high, sizes[plan.levels]


def _state_rows(plan: HierarchyPlan) -> dict[str, NDArray[np.int64]]:
    """Return rows by what is wrong with their states."""
    active = plan.states == ACTIVE
    row_of = plan.row_of_id

    def state_of(ids: NDArray[np.int64]) -> NDArray[np.int8]:
        known = (ids > 0) & (ids < row_of.size)
        rows = np.where(known, row_of[np.where(known, ids, 0)], -1)
        return np.where(rows >= 0, plan.states[rows], -1).astype(np.int8)

    homes, parents, intos = state_of(plan.homes), state_of(plan.parents), state_of(plan.intos)
    codes = sorted((plan.codes[r], r) for r in np.flatnonzero(active).tolist())
    twins = [r for (a, _), (b, r) in pairwise(codes) if a == b]
    return {
        "bears a code that another active division bears": np.array(twins, dtype=np.int64),
        "its parent is active no more": np.flatnonzero(active & (plan.parents > 0) & (parents != ACTIVE)),
        "lives in the block of one that is quarantined": np.flatnonzero(
            (plan.states != QUARANTINED) & (plan.homes > 0) & (homes != ACTIVE) & (homes != ABSORBED)
        ),
        "is absorbed by none that is active": np.flatnonzero((plan.states == ABSORBED) & (intos != ACTIVE)),
    }
