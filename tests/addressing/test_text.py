"""Laws of addresses as text: RFC 5952 out, whatever a spreadsheet made of them in, and back again unchanged."""

from __future__ import annotations

import time
from ipaddress import IPv4Address, IPv6Address

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from addressing.text import (
    AddressTextError,
    Prefix,
    format_address,
    format_prefix,
    format_prefixes,
    normalise,
    parse_prefix,
)

# Sparse values as well as uniform ones: runs of zeros are what the rules are about.
GROUPS = st.lists(st.sampled_from([0, 0, 0, 1, 0xDB8, 0xFFFF, 0xA0]), min_size=8, max_size=8)
VALUES = st.one_of(
    st.integers(0, (1 << 128) - 1),
    st.integers(0, (1 << 33) - 1),
    GROUPS.map(lambda groups: sum(g << (112 - 16 * i) for i, g in enumerate(groups))),
)
PREFIXES = st.builds(lambda value, length: Prefix(6, value >> (128 - length) << (128 - length), length),
                     VALUES, st.integers(0, 128))  # fmt: skip
PREFIXES4 = st.builds(lambda value, length: Prefix(4, value >> (32 - length) << (32 - length), length),
                      st.integers(0, (1 << 32) - 1), st.integers(0, 32))  # fmt: skip


@pytest.mark.parametrize(
    ("found", "written"),
    [
        ("2001:0db8::0001", "2001:db8::1"),
        ("2001:db8:0:0:0:0:2:1", "2001:db8::2:1"),
        ("2001:db8::0:1", "2001:db8::1"),
        ("2001:db8::1:1:1:1:1", "2001:db8:0:1:1:1:1:1"),
        ("2001:0:0:1:0:0:0:1", "2001:0:0:1::1"),
        ("2001:db8:0:0:1:0:0:1", "2001:db8::1:0:0:1"),
        ("2001:DB8::AAAA", "2001:db8::aaaa"),
        ("0:0:0:0:0:ffff:c000:201", "::ffff:192.0.2.1"),
        ("::192.0.2.1", "::c000:201"),
        ("::1:0", "::1:0"),
        ("::ffff:0:0", "::ffff:0.0.0.0"),
        ("0:0:0:0:0:0:0:0", "::"),
        ("::0001", "::1"),
    ],
)
def test_rfc5952(found: str, written: str) -> None:
    """T4: addresses are written by RFC 5952, sections 4 and 5; the deprecated ::/96 is not given dots."""
    prefix = parse_prefix(found)
    assert format_address(6, prefix.value) == written
    assert prefix.length == 128


def test_well_known_nat64_prefix_takes_either_form() -> None:
    """T4: under 64:ff9b::/96 the dotted form is only recommended; what is written reads back as the same address."""
    assert format_address(6, parse_prefix("64:ff9b::192.0.2.33").value) in {
        "64:ff9b::192.0.2.33",
        "64:ff9b::c000:221",
    }


@given(VALUES)
def test_agrees_with_the_standard_library(value: int) -> None:
    """Where RFC 5952 leaves no choice, the text is the standard library's; it differs only for IPv4 embedded."""
    if value >> 32 != 0xFFFF:
        assert format_address(6, value) == str(IPv6Address(value))
    else:
        assert format_address(6, value) == f"::ffff:{IPv4Address(value & 0xFFFFFFFF)}"


@given(st.one_of(PREFIXES, PREFIXES4))
def test_parse_undoes_format(prefix: Prefix) -> None:
    """parse(format(x)) == x, for both versions and every length."""
    assert parse_prefix(format_prefix(prefix.value, prefix.length, prefix.version)) == prefix
    assert parse_prefix(str(prefix)) == prefix


@given(st.lists(st.tuples(st.one_of(VALUES, st.integers(0, 1 << 80)), st.integers(0, 64)), max_size=20))
def test_bulk_equals_single(rows: list[tuple[int, int]]) -> None:
    """format_prefixes writes what format_prefix writes."""
    values = [value >> (128 - length) << (128 - length) for value, length in rows]
    lengths = [length for _, length in rows]
    high = np.array([v >> 64 for v in values], dtype=np.uint64)
    assert format_prefixes(high, np.array(lengths, dtype=np.uint8)) == [
        format_prefix(v, length) for v, length in zip(values, lengths, strict=True)
    ]


@given(PREFIXES, st.randoms())
def test_people_type_it_otherwise(prefix: Prefix, random: object) -> None:
    """T16: zero-padded, upper case, full width and padded with spaces, a prefix is still the same one."""
    groups = [f"{(prefix.value >> shift) & 0xFFFF:04X}" for shift in range(112, -1, -16)]
    text = f"{':'.join(groups)}/{prefix.length}"
    wide = "".join(chr(ord(ch) + 0xFEE0) for ch in text)
    for typed in (text, wide, f"  {text}\t", f"\ufeff{text}\u200b", f"\u3000{wide}\xa0", f"'{text}", f'"{text}"'):
        assert parse_prefix(typed) == prefix


def test_t16_rows_of_a_workbook() -> None:
    """T16: host bits are named with the prefix meant; an import of a /23 over a /24 is seen as covering it."""
    assert str(parse_prefix("２００１：０ＤＢ８：００：：／４８")) == "2001:db8::/48"
    assert str(parse_prefix("2001:0DB8:00:0:0:0:0:0 / 48")) == "2001:db8::/48"
    assert str(parse_prefix("10。128。0。0／16")) == "10.128.0.0/16"
    assert str(parse_prefix("10｡128｡0｡0/255.255.0.0")) == "10.128.0.0/16"
    with pytest.raises(AddressTextError, match=r"host bits are set below /48; write 2001:db8:1::/48"):
        parse_prefix("2001:db8:1::5/48")
    assert str(parse_prefix("2001:db8:1::5/48", host_bits=True)) == "2001:db8:1::/48"
    wider, there = parse_prefix("10.0.0.0/23"), parse_prefix("10.0.0.0/24")
    assert wider.covers(there)
    assert not there.covers(wider)


def test_t17_versions_do_not_mix() -> None:
    """T17: an IPv4 address is not in ::/0, and an address in a /24 does not cover it."""
    assert not parse_prefix("::/0").covers(parse_prefix("1.2.3.4"))
    assert not parse_prefix("0.0.0.0/0").covers(parse_prefix("::1"))
    assert not parse_prefix("10.0.0.1").covers(parse_prefix("10.0.0.0/24"))
    assert parse_prefix("10.0.0.0/24").covers(parse_prefix("10.0.0.1"))


def test_t18_a_far_address_in_a_wide_prefix_costs_nothing() -> None:
    """T18: a specific address far inside a /64 is read, placed and written in well under a millisecond."""
    prefix = parse_prefix("2001:db8::/64")
    start = time.perf_counter()
    for _ in range(100):
        address = parse_prefix("2001:db8::8000:0:0:1")
        assert prefix.covers(address)
        assert format_address(6, address.value) == "2001:db8::8000:0:0:1"
    assert (time.perf_counter() - start) / 100 < 0.001


@given(st.one_of(PREFIXES, PREFIXES4), st.one_of(PREFIXES, PREFIXES4))
def test_covers_is_an_order(one: Prefix, other: Prefix) -> None:
    """Covering both ways means being the same; a prefix covers itself, its first and its last address."""
    assert one.covers(one)
    assert one.covers(Prefix(one.version, one.last, 128 if one.version == 6 else 32))
    assert (one.covers(other) and other.covers(one)) == (one == other)


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("", "found nothing"),
        (" / 48", "found nothing"),
        ("2001:db8:::1", "not an IPv6 address"),
        ("1.2.3", "write one like"),
        ("2001:db8::/129", "expected 0 to 128"),
        ("10.0.0.0/33", "expected 0 to 32"),
        ("10.0.0.0/255.0.255.0", "expected 0 to 32"),
        ("10.010.0.0/16", "leading zeros"),
        ("4.10329E+11", "spreadsheet"),
        ("41032900", "spreadsheet"),
        ("fe80::1%eth0", "zone"),
        ("[2001:db8::1]:443", "brackets"),
        ("2001:db8::/", "expected 0 to 128"),
        ("2001:db8::/-1", "expected 0 to 128"),
        ("2001:db8::/" + "9" * 5000, "expected 0 to 128"),
        ("2001:db8\x00::1", "not an IPv6 address"),
        ("2001:db8::\ud800", "not an IPv6 address"),
        ("例::1", "not an IPv6 address"),
    ],
)
def test_refusals_say_what_to_do(text: str, advice: str) -> None:
    """What is no prefix is refused in one line that says what to type."""
    with pytest.raises(AddressTextError) as refused:
        parse_prefix(text)
    assert advice in str(refused.value)
    assert "\n" not in str(refused.value)


@given(st.text(max_size=60))
def test_nothing_else_is_raised(text: str) -> None:
    """Whatever the text, it is a prefix or an AddressTextError; and normalising twice changes nothing."""
    try:
        prefix = parse_prefix(text)
    except AddressTextError:
        pass
    else:
        assert parse_prefix(str(prefix)) == prefix
    assert normalise(normalise(text)) == normalise(text)
