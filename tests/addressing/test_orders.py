"""Laws of the orders in which slots are given out (RFC 3531): the RFC's rows, permutations, rank and unrank."""

from __future__ import annotations

import hashlib
import random
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from addressing.orders import (
    MAX_WIDTH,
    ORDERS,
    Order,
    OrderRangeError,
    bit_order,
    index_of,
    indices_of,
    slot_of,
    slots_of,
)
from addressing.text import format_prefix, parse_prefix

# RFC 3531, the tables of 3.1, 3.2 and 3.3, as printed.
RFC_ROWS: dict[Order, str] = {
    "left": "00000000 10000000 01000000 11000000 00100000 10100000 01100000 11100000 00010000",
    "right": "00000000 00000001 00000010 00000011 00000100 00000101 00000110 00000111 00001000",
    "centre": "00000000 00001000 00010000 00011000 00000100 00001100 00010100 00011100 00100000",
}
# Bits by the rule of 3.3: the middle one, with an even number the one after the centre; then before, after, ...
CENTRE_BITS = {
    1: (0,),
    2: (1, 0),
    3: (1, 0, 2),
    4: (2, 1, 3, 0),
    5: (2, 1, 3, 0, 4),
    6: (3, 2, 4, 1, 5, 0),
    7: (3, 2, 4, 1, 5, 0, 6),
    8: (4, 3, 5, 2, 6, 1, 7, 0),
    16: (8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15, 0),
}
# sha256 of the sequence in decimal, joined by spaces: within a round the counter decides.
DIGESTS: dict[tuple[int, Order], str] = {
    (8, "centre"): "17a16f2dbb9edb962ac495c713b739c63c857df036eec67a56392e0935fd1f17",
    (8, "left"): "281d02e7ea81964909a8e09e3b3d1affd86c24d55f8e9d53f8b9fb2e99ea983a",
    (12, "centre"): "74533597220d5e900908e937e72e7d55f8686dab7de7ec93821c2ab83aeae684",
    (12, "left"): "b2aa450988c370cd9a60b56d7c6ec0e1fda441844d29fb080decda2c4157bf8f",
    (16, "centre"): "cf6dd14e14ea1145175c64dcd2f8076fb12fa9f8093dbc2f56339a28aab7aca1",
    (16, "left"): "2f7aacd6edd27b865538b3de6b4de1a717fc271398b1da8ad192668b294db79d",
}
WIDTHS = st.integers(0, 40)


def sequence(width: int, order: Order) -> list[int]:
    """Return all slots in the order given."""
    return [slot_of(n, width, order) for n in range(1 << width)]


@pytest.mark.parametrize(
    ("order", "index", "row"), [(o, n, row) for o, rows in RFC_ROWS.items() for n, row in enumerate(rows.split())]
)
def test_rfc_rows(order: Order, index: int, row: str) -> None:
    """T1: each of the 27 rows that RFC 3531 prints comes out as printed."""
    assert f"{slot_of(index, 8, order):08b}" == row


def test_rfc_worked_example() -> None:
    """T1: the example of RFC 3531, section 4: C2C3 is 3ffe:b40:c00::/42."""
    providers = [slot_of(n, 8, "left") for n in range(1, 5)]
    customers = [slot_of(n, 10, "centre") for n in range(1, 4)]
    assert [f"{n:08b}" for n in providers] == ["10000000", "01000000", "11000000", "00100000"]
    assert [f"{n:010b}" for n in customers] == ["0000010000", "0000100000", "0000110000"]
    pool = parse_prefix("3ffe:b00::/24").value
    assert format_prefix(pool | providers[1] << 96 | customers[2] << 86, 42) == "3ffe:b40:c00::/42"


@pytest.mark.parametrize("width", sorted(CENTRE_BITS))
def test_centre_bits(width: int) -> None:
    """The centre takes the middle bit first, of an even number the one after the centre, then before and after."""
    assert bit_order(width, "centre") == CENTRE_BITS[width]


@pytest.mark.parametrize(("width", "order"), list(product(range(1, 17), ORDERS)))
def test_permutation(width: int, order: Order) -> None:
    """T2: every order gives each slot of a field once, of odd widths too (public code repeats bit 0 there)."""
    slots = slots_of(np.arange(1 << width, dtype=np.uint64), width, order)
    assert np.array_equal(np.sort(slots), np.arange(1 << width, dtype=np.uint64))
    assert slots[0] == 0


@pytest.mark.parametrize(("width", "order"), list(product(range(1, 17), ORDERS)))
def test_rounds(width: int, order: Order) -> None:
    """T2: after k rounds just the combinations of the order's first k bits were given."""
    bits = bit_order(width, order)
    slots = slots_of(np.arange(1 << width, dtype=np.uint64), width, order)
    combined = np.zeros(1, dtype=np.uint64)
    for done, position in enumerate(bits):
        assert np.array_equal(np.sort(slots[: 1 << done]), np.sort(combined))
        combined = np.r_[combined, combined | np.uint64(1 << (width - 1 - position))]
    assert np.array_equal(np.sort(slots), np.sort(combined))


@pytest.mark.parametrize(("width", "order"), sorted(DIGESTS))
def test_digests(width: int, order: Order) -> None:
    """T3: the whole sequence is pinned: a plan made today comes out the same in ten years."""
    text = " ".join(map(str, sequence(width, order)))
    assert hashlib.sha256(text.encode()).hexdigest() == DIGESTS[width, order]


@pytest.mark.parametrize("order", ORDERS)
def test_rank_of_many(order: Order) -> None:
    """T3: unrank(rank(x)) is x for 10^5 random slots of fields of up to 40 bits."""
    pick = random.Random(3531)
    for width in range(1, 41):
        slots = np.array([pick.randrange(1 << width) for _ in range(2500)], dtype=np.uint64)
        assert np.array_equal(slots_of(indices_of(slots, width, order), width, order), slots)


@given(WIDTHS, st.sampled_from(ORDERS), st.data())
def test_rank_inverts(width: int, order: Order, data: st.DataObject) -> None:
    """Rank and unrank undo one another, either way round."""
    number = data.draw(st.integers(0, (1 << width) - 1))
    assert index_of(slot_of(number, width, order), width, order) == number
    assert slot_of(index_of(number, width, order), width, order) == number


@given(st.integers(1, MAX_WIDTH), st.sampled_from(ORDERS), st.data())
def test_arrays_equal_scalars(width: int, order: Order, data: st.DataObject) -> None:
    """Whole arrays come out as their numbers one by one, up to the widest field."""
    numbers = data.draw(st.lists(st.integers(0, (1 << width) - 1), max_size=20))
    array = np.array(numbers, dtype=np.uint64)
    assert slots_of(array, width, order).tolist() == [slot_of(n, width, order) for n in numbers]
    assert indices_of(array, width, order).tolist() == [index_of(n, width, order) for n in numbers]


@given(st.integers(2, 20), st.data())
def test_free_bits_beside_borders(width: int, data: st.DataObject) -> None:
    """As long as few slots are given, the centre leaves the bits beside both borders free: a border may move."""
    given_slots = data.draw(st.integers(1, 1 << (width // 2)))
    used = 0
    for n in range(given_slots):
        used |= slot_of(n, width, "centre")
    rounds = (given_slots - 1).bit_length()
    free_left, free_right = width - used.bit_length(), (used & -used).bit_length() - 1 if used else width
    assert free_left + free_right == 2 * width if not used else free_left + free_right == width - rounds
    assert abs(free_left - free_right) <= 1 if used else True


def test_out_of_range() -> None:
    """An index, slot or width that a field does not have is an error that names the range."""
    with pytest.raises(OrderRangeError, match="index 16 - expected 0 to 15 in a field of 4 bits"):
        slot_of(16, 4, "centre")
    with pytest.raises(OrderRangeError, match="slot -1"):
        index_of(-1, 4, "left")
    with pytest.raises(OrderRangeError, match="width 65"):
        bit_order(65, "right")
