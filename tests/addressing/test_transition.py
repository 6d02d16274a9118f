"""Transition: the RFCs' own vectors, and the laws they state, over every value where there are few enough."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from addressing.text import Prefix, format_address, parse_prefix
from addressing.transition import (
    EMBEDDING_LENGTHS,
    POLICY_TABLE,
    WELL_KNOWN,
    PolicyRow,
    PrefixTranslation,
    TransitionError,
    collision_chance,
    embed_ipv4,
    extract_ipv4,
    find_policy,
    find_scope,
    make_eui64,
    make_ntp64,
    make_unique_local,
    sort_destinations,
    sum_words,
)

RFC6052 = [
    ("2001:db8::/32", "2001:db8:c000:221::"),
    ("2001:db8:100::/40", "2001:db8:1c0:2:21::"),
    ("2001:db8:122::/48", "2001:db8:122:c000:2:2100::"),
    ("2001:db8:122:300::/56", "2001:db8:122:3c0:0:221::"),
    ("2001:db8:122:344::/64", "2001:db8:122:344:c0:2:2100::"),
    ("2001:db8:122:344::/96", "2001:db8:122:344::192.0.2.33"),
]


def address(text: str) -> int:
    """Return an address as a number."""
    return parse_prefix(text).value


@pytest.mark.parametrize(("prefix", "wanted"), RFC6052)
def test_t8_embedding(prefix: str, wanted: str) -> None:
    """T8: RFC 6052 2.4, all six prefix lengths, out and back."""
    found = embed_ipv4(parse_prefix(prefix), address("192.0.2.33"))
    assert found == address(wanted)
    assert extract_ipv4(parse_prefix(prefix), found) == address("192.0.2.33")


@given(st.sampled_from(EMBEDDING_LENGTHS), st.integers(0, 2**64 - 1), st.integers(0, 2**32 - 1))
def test_embedding_comes_back_and_keeps_the_octet(length: int, high: int, ipv4: int) -> None:
    """Under any prefix any IPv4 address comes back, lies under the prefix, and leaves bits 64 to 71 zero (2.2)."""
    prefix = Prefix(6, (high << 64) >> (128 - length) << (128 - length), length)
    found = embed_ipv4(prefix, ipv4)
    assert extract_ipv4(prefix, found) == ipv4
    assert prefix.value <= found <= prefix.last
    assert found >> 56 & 0xFF == 0


@pytest.mark.parametrize("length", [0, 33, 72, 128])
def test_other_lengths_hold_no_ipv4(length: int) -> None:
    """Only the six lengths of RFC 6052 hold an IPv4 address."""
    with pytest.raises(TransitionError, match="/32, /40, /48, /56, /64, /96"):
        embed_ipv4(Prefix(6, 0, length), 1)


def test_well_known_prefix_is_for_global_addresses() -> None:
    """Private addresses do not go under 64:ff9b::/96 (RFC 6052 3.1); global ones do, in mixed notation's place."""
    assert embed_ipv4(WELL_KNOWN, address("8.8.8.8")) == address("64:ff9b::808:808")
    for private in ("10.0.0.1", "192.168.1.1", "172.31.255.255", "100.64.0.1", "192.0.2.33", "224.0.0.1"):
        with pytest.raises(TransitionError, match="not global"):
            embed_ipv4(WELL_KNOWN, address(private))
    with pytest.raises(TransitionError, match="not under"):
        extract_ipv4(WELL_KNOWN, address("2001:db8::1"))


PAIR = PrefixTranslation(parse_prefix("fd01:203:405::/48"), parse_prefix("2001:db8:1::/48"))


def test_t6_example_of_rfc6296() -> None:
    """T6: RFC 6296 3.6, the adjustment and the address, out and back."""
    assert PAIR.adjustment == 0xD54F
    inside, outside = address("fd01:203:405:1::1234"), address("2001:db8:1:d550::1234")
    assert PAIR.to_external(inside) == outside
    assert PAIR.to_internal(outside) == inside


def test_t6_all_subnets_come_back_and_keep_the_checksum() -> None:
    """T6: all 65,536 subnets keep the checksum; all but 0xffff come back, and 0xffff becomes what 0 becomes."""
    base = address("fd01:203:405::1234")
    seen: dict[int, int] = {}
    for subnet in range(1 << 16):
        inside = base | subnet << 64
        outside = PAIR.to_external(inside)
        assert sum_words(outside) == sum_words(inside)
        assert outside >> 80 == PAIR.external.value >> 80
        assert outside & (1 << 64) - 1 == inside & (1 << 64) - 1
        back = PAIR.to_internal(outside)
        assert back == (base if subnet == 0xFFFF else inside)
        seen.setdefault(outside, subnet)
    assert len(seen) == (1 << 16) - 1


@given(
    st.integers(49, 64),
    st.integers(0, 2**61 - 1),
    st.integers(0, 2**61 - 1),
    st.integers(0, 2**64 - 1),
    st.integers(1, 64),
)
def test_longer_prefixes_adjust_the_identifier(length: int, a: int, b: int, rest: int, other: int) -> None:
    """From /49 on, subnets stay and the first word of the identifier that is not 0xffff is adjusted (3.5)."""
    internal = Prefix(6, (a << 67) >> (128 - length) << (128 - length), length)
    external = Prefix(6, (b << 67) >> (128 - other) << (128 - other), other)
    pair = PrefixTranslation(internal, external)
    inside = internal.value | rest
    words = [rest >> shift & 0xFFFF for shift in (48, 32, 16, 0)]
    if set(words) == {0xFFFF}:
        with pytest.raises(TransitionError, match="dropped"):
            pair.to_external(inside)
        return
    outside = pair.to_external(inside)
    assert sum_words(outside) == sum_words(inside)
    at = next(n for n, word in enumerate(words) if word != 0xFFFF)
    moved = [outside >> shift & 0xFFFF for shift in (48, 32, 16, 0)]
    assert [w for n, w in enumerate(moved) if n != at] == [w for n, w in enumerate(words) if n != at]
    assert moved[at] != 0xFFFF
    assert pair.to_internal(outside) == inside


def test_translation_refuses_what_is_not_its_own() -> None:
    """An address of another prefix, or a prefix longer than /64, is refused."""
    with pytest.raises(TransitionError, match="not within fd01:203:405::/48"):
        PAIR.to_external(address("fd02::1"))
    with pytest.raises(TransitionError, match="up to /64"):
        PrefixTranslation(parse_prefix("fd00::/72"), parse_prefix("2001:db8::/48"))


def test_t5_unique_local_vector() -> None:
    """T5: RFC 4193 3.2.2 from a given time and MAC address gives fd75:d166:c3f0::/48."""
    ntp64, eui64 = 0xEC1F2A3B00000000, make_eui64("00:00:5e:00:53:01")
    assert eui64 == 0x02005EFFFE005301
    digest = hashlib.sha1(ntp64.to_bytes(8, "big") + eui64.to_bytes(8, "big"), usedforsecurity=False).hexdigest()
    assert digest == "eda8f5cc810e0e8cca5c10f644018275d166c3f0"
    assert str(make_unique_local(ntp64, eui64)) == "fd75:d166:c3f0::/48"


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_unique_local_is_locally_assigned(ntp64: int, eui64: int) -> None:
    """Any time and identifier give a /48 in fd00::/8: the L bit is set (RFC 4193 3.1)."""
    prefix = make_unique_local(ntp64, eui64)
    assert prefix.length == 48
    assert prefix.value >> 120 == 0xFD
    assert prefix.value & (1 << 80) - 1 == 0


def test_t5_collision_table() -> None:
    """T5: the chances of RFC 4193's table, which truncates, within 1 %."""
    table = {2: 1.81e-12, 10: 4.54e-11, 100: 4.54e-09, 1000: 4.54e-07, 10000: 4.54e-05}
    for prefixes, chance in table.items():
        assert collision_chance(prefixes) == pytest.approx(chance, rel=0.01)


def test_ntp_time_counts_from_1900() -> None:
    """Unix time 0 is NTP second 2,208,988,800; half a second is half of 2**32."""
    assert make_ntp64(0) == 2_208_988_800 << 32
    assert make_ntp64(0.5) & 0xFFFF_FFFF == 1 << 31


@pytest.mark.parametrize("mac", ["", "00:00:5e:00:53", "zz:00:5e:00:53:01", "00005e0053011"])
def test_no_mac_is_refused(mac: str) -> None:
    """What is no MAC address is refused with one that is."""
    with pytest.raises(TransitionError, match="write one like"):
        make_eui64(mac)


def pairs(*texts: tuple[str, str | None]) -> list[tuple[Prefix, Prefix | None]]:
    """Return destinations with the source a host would use for each."""
    return [(parse_prefix(d), parse_prefix(s) if s else None) for d, s in texts]


def ordered(*texts: tuple[str, str | None], table: tuple[PolicyRow, ...] = POLICY_TABLE) -> list[str]:
    """Return the destinations in the order a host tries them."""
    return [format_address(p.version, p.value) for p in sort_destinations(pairs(*texts), table)]


def test_t11_unique_local_comes_after_ipv4() -> None:
    """T11: with a source of each, a host takes the global IPv6, then IPv4, then the unique local address."""
    found = ordered(("fd00::1", "fd00::2"), ("192.0.2.1", "192.0.2.2"), ("2001:db8::1", "2001:db8::2"))
    assert found == ["2001:db8::1", "192.0.2.1", "fd00::1"]


def test_policy_table_can_be_changed() -> None:
    """With a row of its own, a site's unique local prefix comes first: what the trap's way out is."""
    own = PolicyRow(parse_prefix("fd00::/48"), 45, 14)
    found = ordered(
        ("fd00::1", "fd00::2"), ("192.0.2.1", "192.0.2.2"), ("2001:db8::1", "2001:db8::2"), table=(*POLICY_TABLE, own)
    )
    assert found == ["fd00::1", "2001:db8::1", "192.0.2.1"]


@pytest.mark.parametrize(
    ("given_pairs", "wanted"),
    [
        # RFC 6724 10.2: prefer matching scope
        ([("2001:db8:1::1", "2001:db8:1::2"), ("198.51.100.121", "169.254.13.78")], "2001:db8:1::1"),
        ([("2001:db8:1::1", "fe80::1"), ("198.51.100.121", "198.51.100.117")], "198.51.100.121"),
        # prefer higher precedence
        ([("2001:db8:1::1", "2001:db8:1::2"), ("10.1.2.3", "10.1.2.4")], "2001:db8:1::1"),
        # prefer smaller scope
        ([("2001:db8:1::1", "2001:db8:1::2"), ("fe80::1", "fe80::2")], "fe80::1"),
        # prefer longest matching prefix
        ([("2001:db8:3ffe::1", "2001:db8:3f44::2"), ("2001:db8:1::1", "2001:db8:1::2")], "2001:db8:1::1"),
        # prefer matching label
        ([("2002:c633:6401::1", "2002:c633:6401::2"), ("2001:db8:1::1", "2002:c633:6401::2")], "2002:c633:6401::1"),
        # avoid unusable destinations
        ([("2001:db8:1::1", None), ("192.0.2.1", "192.0.2.2")], "192.0.2.1"),
    ],
)
def test_examples_of_rfc6724(given_pairs: list[tuple[str, str | None]], wanted: str) -> None:
    """RFC 6724 10.2: the rules' own examples, whichever comes first in the list."""
    assert ordered(*given_pairs)[0] == wanted
    assert ordered(*reversed(given_pairs))[0] == wanted


@given(st.lists(st.sampled_from(["fd00::1", "192.0.2.1", "2001:db8::1", "fe80::1", "2002::1"]), unique=True))
def test_order_does_not_depend_on_the_list(texts: list[str]) -> None:
    """Sorting is a permutation, and of distinct kinds of address the same whatever the order given."""
    given_pairs = [(t, t[:-1] + "2") for t in texts]
    found = ordered(*given_pairs)
    assert sorted(found) == sorted(texts)
    assert found == ordered(*reversed(given_pairs))


@pytest.mark.parametrize(
    ("text", "precedence", "scope"),
    [("::1", 50, 2), ("10.0.0.1", 35, 14), ("127.0.0.1", 35, 2), ("169.254.1.1", 35, 2), ("2001::1", 5, 14),
     ("fc00::1", 3, 14), ("fec0::1", 1, 5), ("3ffe::1", 1, 14), ("ff02::1", 40, 2), ("::2", 1, 14)],
)  # fmt: skip
def test_policy_and_scope(text: str, precedence: int, scope: int) -> None:
    """RFC 6724 2.1 and 3.1: each kind of address has the precedence and scope of the tables."""
    assert find_policy(parse_prefix(text)).precedence == precedence
    assert find_scope(parse_prefix(text)) == scope
