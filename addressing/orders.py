"""The orders of RFC 3531 in which a field's slots are given out, with rank and unrank.

`left` brings bits in from the left, `right` from the right (plain counting), `centre` from the middle outwards, so
that free bits stay beside both borders of the field. The RFC fixes only which slots each round makes; within a round
this suite counts (bit j of the counter drives the bit that round j+1 brings in), so that slot and index follow from
one another in as many steps as the field has bits.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Literal, get_args

from inventory.errors import ExtranetError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Order = Literal["left", "right", "centre"]
ORDERS: tuple[Order, ...] = get_args(Order)
MAX_WIDTH = 64
"""A field is at most this wide: the subnet half of an address."""


class OrderRangeError(ExtranetError):
    """An index or slot that a field of this width does not have."""

    def __init__(self, what: str, value: int, width: int) -> None:
        super().__init__(f"{what} {value} - expected 0 to {(1 << max(width, 0)) - 1} in a field of {width} bits")


@cache
def bit_order(width: int, order: Order) -> tuple[int, ...]:
    """Return bit positions (0 = leftmost) in the order in which they come into play (RFC 3531, 3.1 to 3.3)."""
    if not 0 <= width <= MAX_WIDTH:
        raise OrderRangeError("width", width, 6)
    if order == "left":
        return tuple(range(width))
    if order == "right":
        return tuple(reversed(range(width)))
    middle, out = width // 2, []
    # The middle; of an even number of bits the one after the centre. Then before, after, before ...
    for step in range(width + 1):
        for position in (middle - step, middle + step):
            if 0 <= position < width and position not in out:
                out.append(position)
    return tuple(out)


def slot_of(index: int, width: int, order: Order) -> int:
    """Return the slot that is given out as number `index` (from 0). The first is always slot 0."""
    if not 0 <= index < 1 << width:
        raise OrderRangeError("index", index, width)
    return sum(((index >> j) & 1) << (width - 1 - position) for j, position in enumerate(bit_order(width, order)))


def index_of(slot: int, width: int, order: Order) -> int:
    """Return as which number (from 0) a slot is given out: the inverse of `slot_of`."""
    if not 0 <= slot < 1 << width:
        raise OrderRangeError("slot", slot, width)
    return sum(((slot >> (width - 1 - position)) & 1) << j for j, position in enumerate(bit_order(width, order)))


def slots_of(indices: NDArray[np.uint64], width: int, order: Order) -> NDArray[np.uint64]:
    """Return `slot_of` of every index; shape as given."""
    import numpy as np

    out = np.zeros_like(indices, dtype=np.uint64)
    one = np.uint64(1)
    for j, position in enumerate(bit_order(width, order)):
        out |= ((indices >> np.uint64(j)) & one) << np.uint64(width - 1 - position)
    return out


def indices_of(slots: NDArray[np.uint64], width: int, order: Order) -> NDArray[np.uint64]:
    """Return `index_of` of every slot; shape as given."""
    import numpy as np

    out = np.zeros_like(slots, dtype=np.uint64)
    one = np.uint64(1)
    for j, position in enumerate(bit_order(width, order)):
        out |= ((slots >> np.uint64(width - 1 - position)) & one) << np.uint64(j)
    return out
