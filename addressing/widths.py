"""The search for the widths of a hierarchy's fields: exact, and the same for the same input.

Among all widths that obey the policy the best are, one aim after the other, those with

1. the fewest painful fields (HD ratio above 85 %: only where the policy raises its ceiling);
2. the most borders between two digits of the address (one ip6.arpa zone each, readable by people);
3. the fewest fields above the comfortable HD ratio;
4. the least pain where it is worst: bits to spare go first to the field furthest above comfortable;
5. the shortest leaf prefix: once nothing hurts, bits to spare stay in the leaf, where they serve every site at once and
   from where a border can still be moved (RFC 3531), which it could not be out of a field already numbered;
6. the fullest field as roomy as can be, then the wider field higher up, where renumbering would hurt most.

Reserved slots count as used, for nobody else can have them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, log2
from typing import NamedTuple

from addressing.fanouts import FanOut
from addressing.policy import SUBNET_LENGTH, LevelField, PlanPolicy
from addressing.ratios import PAINFUL, bits_for, hd_ratio, on_nibble


@dataclass(frozen=True)
class Demand:
    """What one field must hold, in how many pools it goes on, and how long its prefixes may be."""

    fan_out: FanOut
    field: LevelField
    pools: int
    limit: int

    @property
    def grown(self) -> int:
        """Children of the fullest parent, with growth."""
        return grow(self.fan_out.most, self.field.growth)

    def used(self, children: int) -> int:
        """Return slots used by so many children: reserved ones count."""
        return children + len(self.field.reserved) * self.pools

    def size(self, width: int) -> int:
        """Return slots in a field of this width."""
        return self.pools << width

    def hd(self, width: int) -> float:
        """Return the HD ratio of the fullest parent, grown, in a field of this width."""
        return hd_ratio(self.used(self.grown), self.size(width))

    def holds(self, width: int, children: int, ratio: float = 1.0) -> bool:
        """Tell whether so many children fit into a field of this width and stay within an HD ratio."""
        if max(self.field.reserved) >= 1 << width:
            return False
        used, size = self.used(children), self.size(width)
        return used <= size and hd_ratio(used, size) <= ratio

    def least(self, children: int, ratio: float = 1.0) -> int:
        """Return the fewest bits that hold so many children within an HD ratio."""
        start = max(0, bits_for(self.used(children)) - ceil(log2(self.pools)))
        return next((w for w in range(start, SUBNET_LENGTH) if self.holds(w, children, ratio)), SUBNET_LENGTH)


def grow(children: int, growth: float) -> int:
    """Return a number of children with a share of growth, rounded up; exact in decimals (35 and 10 % make 39)."""
    return ceil(children * (1 + Fraction(str(growth))))


def allowed_widths(demand: Demand, policy: PlanPolicy) -> Sequence[int]:
    """Return the widths a field may have, ascending."""
    least = demand.least(demand.grown, policy.ceiling)
    if demand.field.width == "auto":
        return range(least, SUBNET_LENGTH + 1)
    return (demand.field.width,) if demand.field.width >= least else ()


class _Score(NamedTuple):
    """What a layout is worth, by the aims of this module's docstring; less is better."""

    painful: int
    uneven: int
    uncomfortable: int
    excess: tuple[float, ...]
    ratios: tuple[float, ...]
    narrow: tuple[int, ...]

    def and_field(self, hd: float, length: int, width: int, comfortable: float) -> _Score:
        """Return the score with one more field."""
        return _Score(
            self.painful + (hd > PAINFUL),
            self.uneven + (not on_nibble(length)),
            self.uncomfortable + (hd > comfortable),
            tuple(sorted((*self.excess, max(0.0, hd - comfortable)), reverse=True)),
            tuple(sorted((*self.ratios, hd), reverse=True)),
            (*self.narrow, -width),
        )


def search_widths(demands: Sequence[Demand], policy: PlanPolicy, pool_length: int) -> tuple[int, ...] | None:
    """Return the best widths, highest level first; None where no choice obeys the policy.

    Exact: a score only grows worse by the same field in the same way, so the best way to a length is part of the best.
    """
    best = {pool_length: _Score(0, 0, 0, (), (), ())}
    for demand in demands:
        ratios = {w: demand.hd(w) for w in allowed_widths(demand, policy)}
        reached: dict[int, _Score] = {}
        for start, score in best.items():
            for width, hd in ratios.items():
                length = start + width
                if length > demand.limit:
                    break
                found = score.and_field(hd, length, width, policy.comfortable)
                if length not in reached or found < reached[length]:
                    reached[length] = found
        best = reached
    if not best:
        return None
    length = min(best, key=lambda n: (best[n][:4], n, best[n][4:]))
    return tuple(-n for n in best[length].narrow)
