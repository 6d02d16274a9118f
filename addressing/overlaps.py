"""Which departments' address blocks meet, grouped: tens of thousands of blocks, millions of pairs, none of them listed.

Prefixes are laminar, nested or disjoint, so one sweep with a stack of the open blocks finds for each block how many
others hold it, by department. Ranges that are no prefixes may cross one another; the sweep allows for that at a cost
that grows with the crossings. A block that a department names on several rows counts once, with all its rows.

A cluster is a stretch of address space that blocks cover without a gap between them (connected by overlap, within a
department too), as far as two departments meet there. Its members are the claims that meet another department's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby, islice
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from addressing.prefixtables import Block, Claim

PairKind = Literal["exact", "contained", "partial"]
LISTED_PAIRS = 1_000
"""A cluster's pairs are listed up to here unless asked for more: there may be millions."""

_Longs = NDArray[np.int64]


class PairCounts(NamedTuple):
    """How many pairs of blocks of different owners meet, by kind: the same, one within the other, or crossing."""

    exact: int
    contained: int
    partial: int

    @property
    def total(self) -> int:
        """All pairs."""
        return self.exact + self.contained + self.partial


class Pair(NamedTuple):
    """Two claims that meet; the first starts no later, and holds the second where one holds the other."""

    first: Claim
    second: Claim
    kind: PairKind


@dataclass(frozen=True)
class Cluster:
    """Blocks that hang together. `number` counts from 1 in address order, `start` and `stop` bound its members' rows.

    `outermost` runs from the members' first address to their last: mostly a prefix that one of them claims.
    """

    number: int
    outermost: Block
    departments: tuple[str, ...]
    pairs: PairCounts
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True)
class Overlaps:
    """What meets. `members` are all claims that meet another department's, in address order, cluster by cluster.

    `matrix` holds each two departments that meet, by name in order; `claims` and `blocks` say how much was looked at.
    """

    departments: tuple[str, ...]
    claims: int
    blocks: int
    members: tuple[Claim, ...]
    clusters: tuple[Cluster, ...]
    matrix: Mapping[tuple[str, str], PairCounts]

    @cached_property
    def pairs(self) -> PairCounts:
        """All pairs of the matrix."""
        return PairCounts(*(sum(c[k] for c in self.matrix.values()) for k in range(3)))

    def members_of(self, cluster: Cluster) -> tuple[Claim, ...]:
        """Return a cluster's claims in address order, each with its file and row."""
        return self.members[cluster.start : cluster.stop]

    def between(self, one: str, other: str) -> PairCounts:
        """Return how often two departments meet."""
        return self.matrix.get((min(one, other), max(one, other)), PairCounts(0, 0, 0))

    def largest(self, limit: int | None = None) -> tuple[Cluster, ...]:
        """Return the clusters with most pairs first."""
        return tuple(sorted(self.clusters, key=lambda c: (-c.pairs.total, c.number))[:limit])

    def list_pairs(self, cluster: Cluster, limit: int | None = LISTED_PAIRS) -> Iterator[Pair]:
        """Yield a cluster's pairs, at most `limit` (None: all), each block with the first row that names it."""
        return islice(iterate_pairs(self.members_of(cluster), department_of), limit)


def department_of(claim: Claim) -> str:
    """Return whose a claim is."""
    return claim.department


def find_clusters(claims: Iterable[Claim]) -> Overlaps:
    """Find which departments' blocks meet, in clusters; the same for any order of the claims."""
    rows = sorted(claims, key=_order)
    swept = _Sweep(rows, department_of)
    member = swept.degrees[swept.node_of_row] > 0
    members = [row for row, is_member in zip(rows, member.tolist(), strict=True) if is_member]
    runs = swept.run_of_node[swept.node_of_row][member].tolist()
    clusters: list[Cluster] = []
    start = 0
    for run, group in groupby(runs):
        stop = start + sum(1 for _ in group)
        inside = members[start:stop]
        clusters.append(
            Cluster(
                number=len(clusters) + 1,
                outermost=_hull(c.block for c in inside),
                departments=tuple(sorted({c.department for c in inside})),
                pairs=swept.pairs_of_run[run],
                start=start,
                stop=stop,
            )
        )
        start = stop
    return Overlaps(
        departments=swept.owners,
        claims=len(rows),
        blocks=len(swept.starts),
        members=tuple(members),
        clusters=tuple(clusters),
        matrix=swept.matrix,
    )


def count_pairs(claims: Iterable[Claim], owner: Callable[[Claim], str]) -> Mapping[tuple[str, str], PairCounts]:
    """Count the pairs that meet by any owner, not only the department; owners in order, only those that meet."""
    return _Sweep(sorted(claims, key=_order), owner).matrix


def iterate_pairs(claims: Iterable[Claim], owner: Callable[[Claim], str]) -> Iterator[Pair]:
    """Yield the pairs that meet, in address order; a block that an owner names twice comes with its first row."""
    open_claims: list[tuple[Claim, Block, str]] = []
    seen: set[tuple[Block, str]] = set()
    for claim in sorted(claims, key=_order):
        block, whose = claim.block, owner(claim)
        if (block, whose) in seen:
            continue
        seen.add((block, whose))
        open_claims = [o for o in open_claims if o[1].version == block.version and o[1].last >= block.first]
        for other, held, its in open_claims:
            if its != whose:
                yield Pair(other, claim, kind_of(held, block))
        open_claims.append((claim, block, whose))


class Meetings:
    """Answers which of many claims' owners meet first: made once, then a pair of owners costs a search in sorted arrays."""

    def __init__(self, claims: Iterable[Claim], owner: Callable[[Claim], str]) -> None:
        self.rows = sorted(claims, key=_order)
        self.starts, self.ends = _rank(self.rows)
        places: dict[str, list[int]] = {}
        for place, row in enumerate(self.rows):
            places.setdefault(owner(row), []).append(place)
        self.places = {name: np.array(found, np.int64) for name, found in places.items()}

    def first(self, one: str, other: str) -> Pair | None:
        """Return the first claim of `other` that meets one of `one`, with the first that it meets; None without."""
        ours, theirs = (self.places.get(name, np.empty(0, np.int64)) for name in (one, other))
        if not len(ours) or not len(theirs):
            return None
        # Of ours that start before a claim of theirs ends, does any end after it starts?
        begun = np.searchsorted(self.starts[ours], self.ends[theirs], "right")
        reach = np.concatenate([[-1], np.maximum.accumulate(self.ends[ours])])
        hits = np.flatnonzero(reach[begun] >= self.starts[theirs])
        if not len(hits):
            return None
        their = int(theirs[hits[0]])
        our = int(ours[np.flatnonzero(self.ends[ours] >= self.starts[their])[0]])
        first, second = sorted((our, their))
        pair = self.rows[first], self.rows[second]
        return Pair(*pair, kind_of(pair[0].block, pair[1].block))


def find_meeting_departments(claims: Iterable[Claim]) -> dict[str, frozenset[str]]:
    """Return for each department which others it meets in these claims; those that meet none have an empty set."""
    rows = sorted(claims, key=_order)
    names = sorted({r.department for r in rows})
    bit = {name: 1 << place for place, name in enumerate(names)}
    met = dict.fromkeys(names, 0)
    stack: list[tuple[Block, int]] = []  # open blocks, the widest first, each with all owners of those up to it
    for block, group in groupby(rows, key=_block_of):
        mine = {r.department for r in group}
        while stack and not stack[-1][0].meets(block):
            stack.pop()
        own = sum(bit[name] for name in mine)
        for name in mine:
            met[name] |= own | (stack[-1][1] if stack else 0)
        # A block goes below the open ones that end before it, whose owners then count it in.
        at = len(stack)
        while at and stack[at - 1][0].last < block.last:
            at -= 1
        below = stack[at - 1][1] if at else 0
        stack[at:] = [(block, below | own), *((b, owners | own) for b, owners in stack[at:])]
    found = {name: {other for other in names if owners & bit[other] and other != name} for name, owners in met.items()}
    for name, others in list(found.items()):
        for other in others:
            found[other].add(name)
    return {name: frozenset(others) for name, others in found.items()}


def kind_of(one: Block, other: Block) -> PairKind:
    """Return how two blocks that meet do so."""
    if one == other:
        return "exact"
    inside = one.first <= other.first and other.last <= one.last
    return "contained" if inside or (other.first <= one.first and one.last <= other.last) else "partial"


def _block_of(claim: Claim) -> Block:
    return claim.block


def _order(claim: Claim) -> tuple[Any, ...]:
    version, first, last = claim.block
    return version, first, -last, claim.department, claim.file, claim.sheet or "", claim.row, claim.vrf, claim.site


def _hull(blocks: Iterable[Block]) -> Block:
    found = list(blocks)
    return Block(found[0].version, min(b.first for b in found), max(b.last for b in found))


class _Matrices(NamedTuple):
    """Pairs by owner and owner; what stands on the diagonal is of one owner, and no pair."""

    exact: _Longs
    contained: _Longs
    partial: _Longs


class _Sweep:
    """Counts the pairs among rows in address order. A node is a block of one owner, however many rows name it.

    Addresses of both families become ranks in one order first: int64 is then enough for 128 bits, and no IPv4 block
    can meet an IPv6 one.
    """

    def __init__(self, rows: Sequence[Claim], owner: Callable[[Claim], str]) -> None:
        names = [owner(r) for r in rows]
        self.owners = tuple(sorted(set(names)))
        number = {name: i for i, name in enumerate(self.owners)}
        starts, ends = _rank(rows)
        whose = np.fromiter((number[n] for n in names), np.int64, len(rows))
        order = np.lexsort((whose, -ends, starts))
        columns = np.stack([starts[order], ends[order], whose[order]]) if len(rows) else np.zeros((3, 0), np.int64)
        fresh = np.ones(columns.shape[1], dtype=bool)
        fresh[1:] = (columns[:, 1:] != columns[:, :-1]).any(axis=0)
        self.starts, self.ends, self.whose = columns[:, fresh]
        self.node_of_row: _Longs = np.empty(len(rows), np.int64)
        self.node_of_row[order] = np.cumsum(fresh) - 1
        reach = np.maximum.accumulate(self.ends) if len(self.ends) else self.ends
        gap = np.ones(len(self.starts), dtype=bool)
        gap[1:] = self.starts[1:] > reach[:-1]
        self.run_of_node: _Longs = np.cumsum(gap) - 1
        self.degrees = self._count_degrees()
        self.pairs_of_run: dict[int, PairCounts] = {}
        self.matrix = self._count_pairs()

    def _count_degrees(self) -> _Longs:
        """Return for each node how many of other owners it meets: what starts before its end, less what ends before it."""
        wide = np.int64(self.ends.max() + 1) if len(self.ends) else np.int64(1)
        base = self.whose * wide
        own = _count_meeting(base + self.starts, base + self.ends)
        return _count_meeting(self.starts, self.ends) - own

    def _count_pairs(self) -> dict[tuple[str, str], PairCounts]:
        size = len(self.owners)
        found = _Matrices(*(np.zeros((size, size), np.int64) for _ in range(3)))
        below = np.zeros((64, size), np.int64)
        for run, nodes in self._shared_runs():
            self.pairs_of_run[run], below = self._sweep_run(nodes, found, below)
        met = found.exact + found.contained + found.contained.T + found.partial + found.partial.T
        out = {}
        for one, other in np.argwhere(np.triu(met, 1)).tolist():
            out[self.owners[one], self.owners[other]] = PairCounts(
                exact=int(found.exact[one, other]),
                contained=int(found.contained[one, other] + found.contained[other, one]),
                partial=int(found.partial[one, other] + found.partial[other, one]),
            )
        return out

    def _shared_runs(self) -> Iterator[tuple[int, slice]]:
        """Yield the runs that hold nodes of two owners or more."""
        if not len(self.starts):
            return
        edges = np.append(np.flatnonzero(np.diff(self.run_of_node, prepend=-1)), len(self.starts))
        low = np.minimum.reduceat(self.whose, edges[:-1])
        high = np.maximum.reduceat(self.whose, edges[:-1])
        for run in np.flatnonzero(low != high).tolist():
            yield run, slice(int(edges[run]), int(edges[run + 1]))

    def _sweep_run(self, nodes: slice, found: _Matrices, below: _Longs) -> tuple[PairCounts, _Longs]:
        """Add one run's pairs to the matrices (rows: the inner node's owner) and return their counts.

        `stack` holds the last addresses of the open blocks, the widest first; row k of `below` says how many nodes of
        each owner the first k of them are, and `totals` how many in all. `below` is returned as it may have grown.
        """
        starts, ends, whose = (a[nodes].tolist() for a in (self.starts, self.ends, self.whose))
        exact = contained = partial = 0
        stack: list[int] = []
        totals = [0]
        stop = 0
        while stop < len(starts):
            here = stop
            start, end = starts[here], ends[here]
            while stop < len(starts) and ends[stop] == end and starts[stop] == start:
                stop += 1
            mine = whose[here:stop]
            while stack and stack[-1] < start:
                stack.pop()
                totals.pop()
            top = at = len(stack)
            while at and stack[at - 1] < end:
                at -= 1
            if top + 2 > len(below):
                below = np.concatenate([below, np.zeros_like(below)])
            if at:
                holding = below[at]
                for node in mine:
                    found.contained[node] += holding
                    contained += totals[at] - int(holding[node])
            if at < top:
                crossing = below[top] - below[at]
                for node in mine:
                    found.partial[node] += crossing
                    partial += totals[top] - totals[at] - int(crossing[node])
            if len(mine) > 1:
                found.exact[np.array(mine)[:, None], mine] += 1
                exact += len(mine) * (len(mine) - 1) // 2
            # The block goes below those that end before it, and counts for every one of them.
            below[at + 1 : top + 2] = below[at : top + 1].copy()
            below[at + 1 : top + 2, mine] += 1
            stack.insert(at, end)
            totals[at:] = [totals[at], *(t + len(mine) for t in totals[at:])]
        return PairCounts(exact, contained, partial), below


def _count_meeting(starts: _Longs, ends: _Longs) -> _Longs:
    """Return for each interval how many meet it, itself among them."""
    begun = np.searchsorted(np.sort(starts), ends, "right")
    return np.asarray(begun - np.searchsorted(np.sort(ends), starts, "left"), np.int64)


def _rank(rows: Sequence[Claim]) -> tuple[_Longs, _Longs]:
    """Return each row's first and last address as ranks among all of them, IPv4 before IPv6."""
    blocks = [r.block for r in rows]
    numbers = [b.first for b in blocks] + [b.last for b in blocks]
    half = (1 << 64) - 1
    high = np.fromiter((n >> 64 for n in numbers), np.uint64, len(numbers))
    low = np.fromiter((n & half for n in numbers), np.uint64, len(numbers))
    version = np.tile(np.fromiter((b.version for b in blocks), np.uint64, len(blocks)), 2)
    order = np.lexsort((low, high, version))
    fresh = np.zeros(len(numbers), dtype=bool)
    for column in (version[order], high[order], low[order]):
        fresh[1:] |= column[1:] != column[:-1]
    ranks = np.empty(len(numbers), np.int64)
    ranks[order] = np.cumsum(fresh)
    return ranks[: len(rows)], ranks[len(rows) :]


__all__ = [
    "LISTED_PAIRS",
    "Cluster",
    "Meetings",
    "Overlaps",
    "Pair",
    "PairCounts",
    "PairKind",
    "count_pairs",
    "department_of",
    "find_clusters",
    "find_meeting_departments",
    "iterate_pairs",
    "kind_of",
]
