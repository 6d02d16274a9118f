"""How full a field may be: the HD ratio of RFC 3194, and the thresholds that RFC 4692 derives from it.

    HD = log(objects allocated) / log(objects that could be)

Up to 80 % a hierarchy is comfortable, from 85 % on painful, and 87 % is about the most that anybody managed
(RFC 3194, 3). Of that memo's own examples, log(1E8) / log(9.5E+9) is 0.8018, not the 0.8696 it prints.
"""

from __future__ import annotations

import math
from math import floor, log2

from inventory.errors import ExtranetError

COMFORTABLE = 0.80
PAINFUL = 0.85
PRACTICAL_MOST = 0.87
NIBBLE = 4
"""Bits in a digit of an address, and in a label of ip6.arpa."""
_WIDEST = 128


class RatioRangeError(ExtranetError):
    """A ratio was asked of numbers that have none."""

    def __init__(self, what: str, found: float, expected: str) -> None:
        super().__init__(f"{what} - expected {expected}, found {found}")


def hd_ratio(used: int, size: int) -> float:
    """Return the HD ratio (RFC 3194) of `used` out of `size` objects; more than 1.0 where they do not fit.

    One object or none has no logarithm to speak of: it counts as 0.0, except that a size of one is full with one.
    """
    if used < 0 or size < 1:
        raise RatioRangeError("HD ratio", min(used, size), "0 or more objects of 1 or more")
    if size == 1:
        return float(used)
    return log2(used) / log2(size) if used > 1 else 0.0


def bits_for(used: int, ratio: float = 1.0) -> int:
    """Return the fewest bits in which `used` objects stay within an HD ratio; 1.0 asks that they just fit."""
    if not 0.0 < ratio <= 1.0:
        raise RatioRangeError("HD ratio", ratio, "more than 0, at most 1")
    for bits in range((max(used, 1) - 1).bit_length(), _WIDEST + 1):
        if used <= 1 or hd_ratio(used, 1 << bits) <= ratio:
            return bits
    raise RatioRangeError("HD ratio", ratio, f"one at which {used} objects fit into {_WIDEST} bits")


def threshold(bits: int, ratio: float) -> int:
    """Return how many objects of 2^bits are in use when the HD ratio is reached, rounded as RFC 4692 (Table 1) does."""
    return floor(math.pow(2.0, bits * ratio) + 0.5)


def most_within(size: int, ratio: float) -> int:
    """Return the most objects of `size` that stay within an HD ratio; at least one."""
    most = max(1, min(size, floor(math.pow(size, ratio))))
    while most < size and hd_ratio(most + 1, size) <= ratio:
        most += 1
    while most > 1 and hd_ratio(most, size) > ratio:
        most -= 1
    return most


def length_for(sites: int, ratio: float, *, site_length: int = 48) -> int:
    """Return the prefix length of the block that holds `sites` sites within an HD ratio (RFC 4692, 6)."""
    return site_length - bits_for(sites, ratio)


def on_nibble(length: int) -> bool:
    """Tell whether a prefix length falls between two digits, so that one ip6.arpa zone answers for it (RFC 6177)."""
    return length % NIBBLE == 0
