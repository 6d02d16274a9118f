"""Laws of the HD ratio (RFC 3194) and its thresholds (RFC 4692)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from addressing.ratios import RatioRangeError, bits_for, hd_ratio, length_for, most_within, on_nibble, threshold

# RFC 4692, Table 1, the column of HD ratio 0.8: prefix length, then /48 sites at which it is reached.
TABLE_1 = {
    48: 1, 47: 2, 46: 3, 45: 5, 44: 9, 43: 16, 42: 28, 41: 49, 40: 84, 39: 147, 38: 256, 37: 446, 36: 776, 35: 1351,
    34: 2353, 33: 4096, 32: 7132, 31: 12417, 30: 21619, 29: 37641, 28: 65536, 27: 114105, 26: 198668, 25: 345901,
    24: 602249, 23: 1048576, 22: 1825677, 21: 3178688, 20: 5534417, 19: 9635980, 18: 16777216, 17: 29210830,
    16: 50859008, 15: 88550677, 14: 154175683, 13: 268435456, 12: 467373275, 11: 813744135, 10: 1416810831,
    9: 2466810934, 8: 4294967296, 7: 7477972398, 6: 13019906166, 5: 22668973294,
}  # fmt: skip
RATIOS = st.floats(0.4, 1.0)


@pytest.mark.parametrize(
    ("used", "size", "ratio"),
    [(10**7, 10**8, 0.875), (10**7, 10**9, 0.7778), (10**8, 10**10, 0.8), (15000, 65536, 0.867)],
)
def test_rfc_3194(used: int, size: int, ratio: float) -> None:
    """T7: the examples of RFC 3194 that are right come out to four digits."""
    assert round(hd_ratio(used, size), 4) == pytest.approx(ratio, abs=0.00005)


def test_rfc_3194_misprint() -> None:
    """T7: the memo's log(1E8) / log(9.5E+9) is 0.8018; the 0.8696 it prints belongs to 10^9.2."""
    assert round(hd_ratio(10**8, 9_500_000_000), 4) == 0.8018
    assert round(hd_ratio(10**8, round(10**9.2)), 4) == 0.8696


def test_table_is_whole() -> None:
    """T7: all 44 rows are here."""
    assert list(TABLE_1) == list(range(48, 4, -1))


@pytest.mark.parametrize("length", TABLE_1)
def test_rfc_4692_table(length: int) -> None:
    """T7: each threshold of RFC 4692, Table 1, is exact."""
    assert threshold(48 - length, 0.8) == TABLE_1[length]


@pytest.mark.parametrize(("ratio", "length"), [(1.0, 25), (0.94, 23), (0.8, 19)])
def test_eight_million(ratio: float, length: int) -> None:
    """T7: 8 million customers with a /48 each need a /25 filled up, a /23 at 0.94, a /19 at 0.8."""
    assert length_for(8_000_000, ratio) == length


def test_eight_million_at_four_fifths() -> None:
    """T7: at 80 % of all sites in use, 8 million customers need a /24."""
    assert length_for(8_000_000 * 10 // 8, 1.0) == 24


@pytest.mark.parametrize(
    ("fan_outs", "exact", "at_094", "at_08"),
    [
        ((31, 21, 36, 52, 168), 30, 32, (7, 6, 7, 8, 10)),
        ((18, 16, 33, 74), 22, 23, (6, 5, 7, 8)),
        ((16, 19, 41), 15, 16, (5, 6, 7)),
        ((15, 41), 10, 11, (5, 7)),
    ],
    ids=["China", "Henan", "Luoyang", "Yichuan"],
)
def test_real_hierarchies(fan_outs: tuple[int, ...], exact: int, at_094: int, at_08: tuple[int, ...]) -> None:
    """The bits of real hierarchies, from the most children a parent has at each level: just fitting, at 0.94, at 0.8."""
    assert sum(bits_for(n) for n in fan_outs) == exact
    assert sum(bits_for(n, 0.94) for n in fan_outs) == at_094
    assert tuple(bits_for(n, 0.8) for n in fan_outs) == at_08


def test_just_fit() -> None:
    """15 towns in 4 bits are at 97.7 %, far above painful."""
    assert round(hd_ratio(15, 16), 3) == 0.977


@given(st.integers(0, 1 << 40), RATIOS)
def test_fewest_bits(used: int, ratio: float) -> None:
    """Bits found stay within the ratio, and one bit less would not."""
    bits = bits_for(used, ratio)
    assert used <= 1 << bits
    assert used <= 1 or hd_ratio(used, 1 << bits) <= ratio
    if bits:
        assert used > 1 << (bits - 1) or hd_ratio(used, 1 << (bits - 1)) > ratio


@given(st.integers(2, 1 << 40), RATIOS)
def test_most_within(size: int, ratio: float) -> None:
    """The most objects within a ratio are within it, and one more would not be."""
    most = most_within(size, ratio)
    assert 1 <= most <= size
    assert most == 1 or hd_ratio(most, size) <= ratio
    assert most == size or hd_ratio(most + 1, size) > ratio


@given(st.integers(2, 1 << 50), st.data())
def test_grows_with_use(size: int, data: st.DataObject) -> None:
    """The ratio grows with use: 0 for one object, 1 for a full block."""
    used = data.draw(st.integers(1, size - 1))
    assert hd_ratio(used, size) <= hd_ratio(used + 1, size)
    assert hd_ratio(1, size) == 0.0
    assert hd_ratio(size, size) == 1.0


def test_no_ratio() -> None:
    """Numbers that have no ratio are refused."""
    with pytest.raises(RatioRangeError):
        hd_ratio(1, 0)
    with pytest.raises(RatioRangeError):
        bits_for(5, 0.0)
    with pytest.raises(RatioRangeError):
        bits_for(5, 1.1)


def test_nibbles() -> None:
    """A border between two digits of the address is a multiple of four."""
    assert [n for n in range(40, 57) if on_nibble(n)] == [40, 44, 48, 52, 56]
