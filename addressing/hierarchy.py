"""Plan a hierarchy of divisions: slots bound to identities of our own, prefixes following from slots.

An identity is a number given once, in order of codes at first, then in order of arrival. It keeps its home (the
identity under which it was numbered), its slot there and so its prefix for life, whatever becomes of its code, name or
administrative parent. What is gone is quarantined, never given again. What is absorbed by another division while
others still live under it is `absorbed`: its block stays in use, answered for by the one that took it over.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from addressing.divisions import Divisions
from addressing.orders import index_of, slot_of, slots_of
from addressing.policy import LaidField, Layout, PlanPolicy
from inventory.errors import ExtranetError

STATES = ("active", "quarantined", "absorbed")
ACTIVE, QUARANTINED, ABSORBED = range(3)


class FieldFullError(ExtranetError):
    """No slot is left under a parent."""

    def __init__(self, field: LaidField, parent: str, wanted: int) -> None:
        self.field, self.parent = field, parent
        room = (1 << field.width) - len(field.reserved)
        super().__init__(
            f"{field.name} field under {parent}: {wanted} wanted, {room} slots in {field.width} bits (quarantined ones "
            "included); 'extranet plan budget' says what pool or width would do"
        )


class FateError(ExtranetError):
    """An identity cannot live on as it was decided."""

    def __init__(self, code: str, name: str, what: str) -> None:
        super().__init__(f"{code} {name}: {what}; decide 'new' for it")


@dataclass(frozen=True)
class HierarchyPlan:
    """A plan, in columns of one length `n`, sorted by code, then identity.

    `ids` int64, unique, from 1; `homes` the identity under which the slot was given (0: the pool); `slots` uint64;
    `parents` the administrative parent's identity today (0: none), int64; `high` the upper 64 bits of the prefix, uint64;
    `lengths` uint8; `states` int8, an index into STATES; `intos` identity that absorbed it (0: none).
    """

    policy: PlanPolicy
    layout: Layout
    version: int
    ids: NDArray[np.int64]
    codes: list[str]
    names: list[str]
    levels: NDArray[np.int8]
    parents: NDArray[np.int64]
    homes: NDArray[np.int64]
    slots: NDArray[np.uint64]
    high: NDArray[np.uint64]
    lengths: NDArray[np.uint8]
    states: NDArray[np.int8]
    intos: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.codes)

    @cached_property
    def row_of_id(self) -> NDArray[np.int64]:
        """Row by identity (index 0 unused; -1: no such identity)."""
        out = np.full(int(self.ids.max(initial=0)) + 1, -1, dtype=np.int64)
        out[self.ids] = np.arange(len(self.ids))
        return out

    @cached_property
    def row_of(self) -> dict[str, int]:
        """Rows of active divisions by code."""
        active = np.flatnonzero(self.states == ACTIVE)
        return {self.codes[r]: int(r) for r in active}

    def prefix(self, row: int) -> tuple[int, int]:
        """Return a row's prefix as (128-bit value, length)."""
        return int(self.high[row]) << 64, int(self.lengths[row])


def usable_slots(field: LaidField, count: int) -> NDArray[np.uint64]:
    """Return the first `count` slots in the field's order that are not reserved (fewer where the field has fewer)."""
    most = min(1 << field.width, count + len(field.reserved))
    slots = slots_of(np.arange(most, dtype=np.uint64), field.width, field.order)
    return slots[~np.isin(slots, np.array(field.reserved, dtype=np.uint64))][:count]


def plan_divisions(divisions: Divisions, policy: PlanPolicy, layout: Layout) -> HierarchyPlan:
    """Number every division under its parent, siblings by code. The same whatever the input's order was.

    Raises:
        FieldFullError: a parent has more children than its field has slots.
    """
    n = len(divisions)
    ids = np.arange(1, n + 1, dtype=np.int64)
    parents = np.where(divisions.parents >= 0, divisions.parents.astype(np.int64) + 1, 0)
    slots = np.zeros(n, dtype=np.uint64)
    for field in layout.fields:
        rows = np.flatnonzero(divisions.levels == field.level)
        if not rows.size:
            continue
        ranks = _rank_among_siblings(parents[rows])
        spare = usable_slots(field, int(ranks.max()) + 1)
        pools = len(layout.pools) if field is layout.fields[0] else 1
        if int(ranks.max()) >= spare.size * pools:
            worst = rows[int(ranks.argmax())]
            parent = int(divisions.parents[worst])
            where = f"{divisions.codes[parent]} {divisions.names[parent]}" if parent >= 0 else "the pool"
            raise FieldFullError(field, where, int(ranks.max()) + 1)
        slots[rows] = spare[ranks % spare.size] + (ranks // spare.size).astype(np.uint64) * np.uint64(1 << field.width)
    plan_rows = (ids, divisions.levels, parents, slots)
    high, lengths = prefixes_of(layout, *plan_rows)
    return HierarchyPlan(
        policy=policy,
        layout=layout,
        version=1,
        ids=ids,
        codes=divisions.codes,
        names=divisions.names,
        levels=divisions.levels,
        parents=parents,
        homes=parents,
        slots=slots,
        high=high,
        lengths=lengths,
        states=np.zeros(n, dtype=np.int8),
        intos=np.zeros(n, dtype=np.int64),
    )


def _rank_among_siblings(parents: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return each entry's number (from 0) among those of the same parent, in the order given."""
    order = np.argsort(parents, kind="stable")
    grouped = parents[order]
    starts = np.flatnonzero(np.r_[True, grouped[1:] != grouped[:-1]])
    counts = np.diff(np.r_[starts, grouped.size])
    ranks = np.empty(parents.size, dtype=np.int64)
    ranks[order] = np.arange(parents.size) - np.repeat(starts, counts)
    return ranks


def prefixes_of(
    layout: Layout,
    ids: NDArray[np.int64],
    levels: NDArray[np.int8],
    homes: NDArray[np.int64],
    slots: NDArray[np.uint64],
) -> tuple[NDArray[np.uint64], NDArray[np.uint8]]:
    """Return (upper 64 bits, length) of every row, from slots and homes, level by level from the pool down.

    In the top field, a slot's bits above the field's width number the pool.
    """
    high = np.zeros(ids.size, dtype=np.uint64)
    lengths = np.zeros(ids.size, dtype=np.uint8)
    row_of = np.zeros(int(ids.max(initial=0)) + 1, dtype=np.int64)
    row_of[ids] = np.arange(ids.size)
    pools = np.array([int(p.network_address) >> 64 for p in layout.pools], dtype=np.uint64)
    roots = np.flatnonzero(levels == layout.root_level) if layout.root_level else np.array([], dtype=np.int64)
    high[roots], lengths[roots] = pools[0], layout.pool_length
    for field in layout.fields:
        rows = np.flatnonzero(levels == field.level)
        number = np.minimum(slots[rows] >> np.uint64(field.width), pools.size - 1)
        # The top field goes on from pool to pool even under a root, which is all of them.
        in_pool = homes[rows] == 0 if field is not layout.fields[0] else np.ones(rows.size, dtype=bool)
        base = np.where(in_pool, pools[number], high[row_of[homes[rows]]])
        within = slots[rows] & np.uint64((1 << field.width) - 1)
        high[rows] = base | (within << np.uint64(field.shift))
        lengths[rows] = field.length
    return high, lengths


class SlotBook:
    """Hands out slots of one field, parent by parent: the next in order that was never given, in constant time.

    With several `pools`, the top field's slots go on in the next pool; the bits above the field's width number it.
    """

    def __init__(self, field: LaidField, taken: dict[int, set[int]] | None = None, *, pools: int = 1) -> None:
        self.field = field
        self.room = pools << field.width
        self.mask = (1 << field.width) - 1
        self.reserved = frozenset(field.reserved)
        self.taken = taken or {}
        self.next = {home: max(map(self._index, slots), default=-1) + 1 for home, slots in self.taken.items()}

    def _index(self, slot: int) -> int:
        within = index_of(slot & self.mask, self.field.width, self.field.order)
        return (slot & ~self.mask) + within

    def give(self, home: int, name: str = "") -> int:
        """Return the next free slot under `home`, and count it as given; FieldFullError when there is none."""
        field, taken = self.field, self.taken.setdefault(home, set())
        index = self.next.get(home, 0)
        while index < self.room:
            within = slot_of(index & self.mask, field.width, field.order)
            slot = (index & ~self.mask) + within
            index += 1
            if within not in self.reserved and slot not in taken:
                taken.add(slot)
                self.next[home] = index
                return slot
        raise FieldFullError(field, name or (str(home) if home else "the pool"), len(taken) + 1)


def take_slots(plan: HierarchyPlan, level: int, claims: SlotClaims | None = None) -> SlotBook:
    """Return the slot book of a level, with all the plan ever gave (quarantined and absorbed included), and others claim."""
    taken: dict[int, set[int]] = {}
    rows = np.flatnonzero(plan.levels == level)
    for home, slot in zip(plan.homes[rows].tolist(), plan.slots[rows].tolist(), strict=True):
        taken.setdefault(home, set()).add(slot)
    for claimed, home, slot in claims or ():
        if claimed == level:
            taken.setdefault(home, set()).add(slot)
    layout = plan.layout
    pools = len(layout.pools) if layout.fields[0].level == level else 1
    return SlotBook(layout.by_level[level], taken, pools=pools)


@dataclass(frozen=True)
class Fate:
    """What an update decided of identities: by row of the new divisions, and of the plan before.

    `identities` int64 by new row: the identity that lives on in it (0: new). `absorbed` says of an identity that is gone
    which one took it over (identity by identity).
    """

    identities: NDArray[np.int64]
    absorbed: dict[int, int]


SlotClaims = dict[tuple[int, int, int], str]
"""Slots that others gave who carried the same plan on: by level, home and slot, the division (code and name)."""


def continue_plan(
    before: HierarchyPlan, divisions: Divisions, fate: Fate, claims: SlotClaims | None = None
) -> HierarchyPlan:
    """Carry a plan on to new divisions: no identity moves, new ones take slots never given, gone ones are kept back.

    A gone identity in whose block others still live is absorbed, not quarantined, whether `fate` says so or not. When
    nothing changes at all, the plan itself is returned, with its version. Slots that others gave (`claims`) are given to
    the same divisions, and to no other.

    Raises:
        FieldFullError: a parent has no slot left for a new child.
        FateError: the fate would move an identity or give it to two.
    """
    n, old = len(divisions), len(before)
    fresh = fate.identities == 0
    _check_fate(before, divisions, fate)
    ids = fate.identities.copy()
    first = int(before.ids.max(initial=0)) + 1
    ids[fresh] = np.arange(first, first + int(fresh.sum()))
    parents = np.where(divisions.parents >= 0, ids[divisions.parents], 0)
    homes, slots = parents.copy(), np.zeros(n, dtype=np.uint64)
    known = np.flatnonzero(~fresh)
    source = before.row_of_id[ids[known]]
    homes[known], slots[known] = before.homes[source], before.slots[source]
    books: dict[int, SlotBook] = {}
    given = {(level, home, division): slot for (level, home, slot), division in (claims or {}).items()}
    for row in np.flatnonzero(fresh).tolist():
        level = int(divisions.levels[row])
        if level == before.layout.root_level:
            continue
        if level not in books:
            books[level] = take_slots(before, level, claims)
        slot = given.get((level, int(homes[row]), f"{divisions.codes[row]} {divisions.names[row]}"))
        if slot is not None:
            slots[row] = slot
            continue
        parent = int(divisions.parents[row])
        where = f"{divisions.codes[parent]} {divisions.names[parent]}" if parent >= 0 else "the pool"
        slots[row] = books[level].give(int(homes[row]), where)
    gone = np.ones(old, dtype=bool)
    gone[source] = False
    rest = np.flatnonzero(gone)
    everything = {
        "ids": np.r_[ids, before.ids[rest]],
        "levels": np.r_[divisions.levels, before.levels[rest]],
        "parents": np.r_[parents, before.parents[rest]],
        "homes": np.r_[homes, before.homes[rest]],
        "slots": np.r_[slots, before.slots[rest]],
    }
    everything["states"], everything["intos"] = _settle_states(before, fate, n, **everything)
    codes = [*divisions.codes, *(before.codes[r] for r in rest)]
    names = [*divisions.names, *(before.names[r] for r in rest)]
    order = sort_rows(codes, everything["ids"])
    columns = {k: v[order] for k, v in everything.items()}
    codes, names = [codes[i] for i in order], [names[i] for i in order]
    if codes == before.codes and names == before.names and _same_columns(before, columns):
        return before
    high, lengths = prefixes_of(before.layout, columns["ids"], columns["levels"], columns["homes"], columns["slots"])
    return HierarchyPlan(
        policy=before.policy,
        layout=before.layout,
        version=before.version + 1,
        codes=codes,
        names=names,
        high=high,
        lengths=lengths,
        **columns,
    )


def _check_fate(before: HierarchyPlan, divisions: Divisions, fate: Fate) -> None:
    known = np.flatnonzero(fate.identities > 0)
    ids = fate.identities[known]
    rows = np.where(ids < before.row_of_id.size, before.row_of_id[np.minimum(ids, before.row_of_id.size - 1)], -1)
    unique, counts = np.unique(ids, return_counts=True)
    wrong = {
        "the plan has no such identity": known[rows < 0],
        "another division has this identity as well": known[np.isin(ids, unique[counts > 1])],
        "its level is another, so its prefix would be": known[before.levels[rows] != divisions.levels[known]],
        # A second root would have the first one's prefix, the pool.
        "is the root, so the plan's pool and no new division": np.flatnonzero(
            (fate.identities == 0) & (divisions.levels == before.layout.root_level)
        ),
    }
    for what, found in wrong.items():
        if found.size:
            row = int(found[0])
            raise FateError(divisions.codes[row], divisions.names[row], what)


def _settle_states(
    before: HierarchyPlan,
    fate: Fate,
    active: int,
    *,
    ids: NDArray[np.int64],
    levels: NDArray[np.int8],
    parents: NDArray[np.int64],
    homes: NDArray[np.int64],
    slots: NDArray[np.uint64],
) -> tuple[NDArray[np.int8], NDArray[np.int64]]:
    """Return states and who absorbed whom; the first `active` rows live, all others are gone.

    Absorbed is what others live under, or what somebody who lives took over, now or earlier, at first or second hand.
    """
    del levels, slots
    taken = dict(zip(before.ids.tolist(), before.intos.tolist(), strict=True)) | fate.absorbed
    alive = set(ids[:active].tolist())
    lives_in: dict[int, int] = {}
    home_of = dict(zip(ids[active:].tolist(), homes[active:].tolist(), strict=True))
    states = np.r_[np.zeros(active, dtype=np.int8), np.full(ids.size - active, QUARANTINED, dtype=np.int8)]
    intos = np.zeros(ids.size, dtype=np.int64)
    if not home_of:
        return states, intos

    def holder(identity: int) -> int:
        seen: set[int] = set()
        while identity and identity not in alive and identity not in seen:
            seen.add(identity)
            identity = taken.get(identity, 0)
        return identity if identity in alive else 0

    # Whoever's home is gone keeps that home's block in use, and the homes above it.
    orphaned = np.flatnonzero(np.isin(homes[:active], ids[active:]))
    pending = [(int(homes[r]), int(parents[r] or ids[r])) for r in sorted(orphaned.tolist(), key=lambda r: int(ids[r]))]
    pending += [(home_of[i], holder(i)) for i in sorted(home_of) if holder(i)]
    for lowest, by in pending:
        home = lowest
        while home in home_of and home not in lives_in:
            lives_in[home] = by
            home = home_of[home]
    for row, identity in enumerate(ids[active:].tolist(), start=active):
        into = holder(identity) or lives_in.get(identity, 0)
        if into:
            states[row], intos[row] = ABSORBED, into
    return states, intos


def _same_columns(before: HierarchyPlan, columns: dict[str, NDArray[Any]]) -> bool:
    return all(np.array_equal(getattr(before, name), column) for name, column in columns.items())


def sort_rows(codes: Sequence[str], ids: NDArray[np.int64]) -> list[int]:
    """Return the order of rows by code, then identity."""
    keys = list(zip(codes, ids.tolist(), strict=True))
    return sorted(range(len(keys)), key=keys.__getitem__)
