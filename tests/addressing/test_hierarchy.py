"""Next slot, please: vector T20, fifty thousand requests one after another, each of them the same little work."""

from __future__ import annotations

from typing import Any

import pytest

from addressing import hierarchy
from addressing.hierarchy import FieldFullError, SlotBook
from addressing.orders import ORDERS, Order, slot_of
from addressing.policy import LaidField

REQUESTS = 50_000
RESERVED = (0, 1, 255, 32_768)


def make_field(width: int, order: Order = "centre", reserved: tuple[int, ...] = RESERVED) -> LaidField:
    """Return a field of villages."""
    return LaidField(level=5, name="village", width=width, length=56, order=order, reserved=reserved)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Every index that is turned into a slot."""
    made: list[int] = []

    def counting(index: int, *rest: Any) -> int:
        made.append(index)
        return slot_of(index, *rest)

    monkeypatch.setattr(hierarchy, "slot_of", counting)
    return made


@pytest.mark.parametrize("order", ORDERS)
def test_fifty_thousand_requests(calls: list[int], order: Order) -> None:
    """All are different, none is reserved, and no request looks at more than the reserved slots and its own (T20)."""
    book = SlotBook(make_field(16, order))
    given, most = set(), 0
    for number in range(REQUESTS):
        before = len(calls)
        given.add(book.give(7))
        most = max(most, len(calls) - before)
        assert len(given) == number + 1
    assert not given & set(RESERVED)
    assert max(given) < 1 << 16
    assert most <= 1 + len(RESERVED)
    assert len(calls) <= REQUESTS + len(RESERVED)


@pytest.mark.parametrize("order", ORDERS)
def test_a_book_resumed_goes_on_where_it_stopped(calls: list[int], order: Order) -> None:
    """A book made from what was taken gives what the first one would have given next, without searching for it."""
    whole, half = SlotBook(make_field(16, order)), SlotBook(make_field(16, order))
    expected = [whole.give(7) for _ in range(REQUESTS)]
    taken = {half.give(7) for _ in range(REQUESTS // 2)}
    calls.clear()
    resumed = SlotBook(make_field(16, order), {7: taken})
    assert [resumed.give(7) for _ in range(REQUESTS // 2)] == expected[REQUESTS // 2 :]
    assert len(calls) <= REQUESTS // 2 + len(RESERVED)


def test_full() -> None:
    """When every slot is given there is an error that names the parent; others' slots are their own."""
    book = SlotBook(make_field(8, reserved=(0, 3)))
    assert {book.give(1) for _ in range(254)} == set(range(256)) - {0, 3}
    for _ in range(2):
        with pytest.raises(FieldFullError, match="under 鸣皋镇: 255 wanted, 254 slots in 8 bits"):
            book.give(1, "鸣皋镇")
    assert book.give(2) not in {0, 3}


def test_full_in_several_pools() -> None:
    """The top field goes on in the next pool, with the same slots reserved in each."""
    book = SlotBook(make_field(4, reserved=(0,)), pools=2)
    assert {book.give(0) for _ in range(30)} == set(range(32)) - {0, 16}
    with pytest.raises(FieldFullError, match="the pool"):
        book.give(0)
