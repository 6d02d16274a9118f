"""Addresses for the way from IPv4 to IPv6.

Embedding (RFC 6052), prefix translation (RFC 6296), unique local prefixes (RFC 4193), and which address a host prefers
(RFC 6724). Numbers in, numbers out: nothing here knows the time or a device.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from addressing.text import AddressTextError, Prefix, format_address, parse_prefix

EMBEDDING_LENGTHS = (32, 40, 48, 56, 64, 96)
"""Prefix lengths of RFC 6052 (2.2)."""
WELL_KNOWN = parse_prefix("64:ff9b::/96")
"""The well-known prefix of RFC 6052 (2.1)."""
NTP_UNIX_S = 2_208_988_800
"""Seconds from NTP's epoch (1900) to Unix's (1970)."""
_NOT_GLOBAL = tuple(
    parse_prefix(text)
    for text in ("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
                 "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24",
                 "203.0.113.0/24", "224.0.0.0/3")
)  # fmt: skip
_WORD = 0xFFFF


class TransitionError(AddressTextError):
    """An address or prefix that the standard does not allow here."""


def _check_embedding(prefix: Prefix) -> None:
    if prefix.version != 6 or prefix.length not in EMBEDDING_LENGTHS:
        lengths = ", ".join(f"/{n}" for n in EMBEDDING_LENGTHS)
        raise TransitionError(
            str(prefix), "cannot hold IPv4 addresses", f"expected an IPv6 prefix of {lengths} (RFC 6052)"
        )
    if prefix.length == 96 and prefix.value >> 56 & 0xFF:
        raise TransitionError(str(prefix), "bits 64 to 71 are set", "expected zeros there (RFC 6052 2.2)")


def embed_ipv4(prefix: Prefix, address: int) -> int:
    """Return the IPv6 address that stands for an IPv4 address under a prefix (RFC 6052 2.2); bits 64 to 71 stay zero.

    Raises:
        TransitionError: the prefix is of another length, or well-known and the address not global (RFC 6052 3.1).
    """
    _check_embedding(prefix)
    if prefix == WELL_KNOWN and any(p.value <= address <= p.last for p in _NOT_GLOBAL):
        text = format_address(4, address)
        raise TransitionError(text, f"not global, so not under {WELL_KNOWN}", "use a prefix of your own (RFC 6052 3.1)")
    if prefix.length == 96:
        return prefix.value | address
    before = 64 - prefix.length
    upper, lower = address >> (32 - before), address & ((1 << (32 - before)) - 1)
    return prefix.value | upper << 64 | lower << (56 - (32 - before))


def extract_ipv4(prefix: Prefix, address: int) -> int:
    """Return the IPv4 address that an IPv6 address under a prefix stands for (RFC 6052 2.3).

    Raises:
        TransitionError: the prefix is of another length, or the address does not lie under it.
    """
    _check_embedding(prefix)
    if not prefix.value <= address <= prefix.last:
        raise TransitionError(format_address(6, address), f"not under {prefix}", "use the prefix it was made with")
    if prefix.length == 96:
        return address & 0xFFFF_FFFF
    before = 64 - prefix.length
    upper = address >> 64 & ((1 << before) - 1)
    return upper << (32 - before) | address >> (56 - (32 - before)) & ((1 << (32 - before)) - 1)


def _add(a: int, b: int) -> int:
    """Add two 16-bit words in one's complement (RFC 1071)."""
    total = a + b
    return (total & _WORD) + (total >> 16)


def sum_words(value: int) -> int:
    """Return the one's complement sum of an address's eight words, 0xffff as 0: what checksum neutrality keeps."""
    total = 0
    for shift in range(0, 128, 16):
        total = _add(total, value >> shift & _WORD)
    return 0 if total == _WORD else total


@dataclass(frozen=True)
class PrefixTranslation:
    """A pair of prefixes of NPTv6 (RFC 6296), up to /64 each; of two lengths, the longer counts for both.

    Up to /48, the subnet's word is adjusted, beyond, the first word of the interface identifier that is not 0xffff.
    Subnet 0xffff becomes what subnet 0 becomes, so it does not come back: do not number it.
    """

    internal: Prefix
    external: Prefix

    def __post_init__(self) -> None:
        for prefix in (self.internal, self.external):
            if prefix.version != 6 or not 0 < prefix.length <= 64:
                raise TransitionError(
                    str(prefix), "not translated by NPTv6", "expected an IPv6 prefix up to /64 (RFC 6296)"
                )

    @property
    def length(self) -> int:
        """The prefix length that is translated: the longer of the two."""
        return max(self.internal.length, self.external.length)

    @property
    def adjustment(self) -> int:
        """The word added on the way out; on the way in, its complement is."""
        return _add(sum_words(self.internal.value), _WORD ^ sum_words(self.external.value))

    def to_external(self, address: int) -> int:
        """Return an internal address as the outside sees it.

        Raises:
            TransitionError: it is not of the internal prefix, or has no word to adjust.
        """
        return self._translate(address, self.internal, self.external, self.adjustment)

    def to_internal(self, address: int) -> int:
        """Return an external address as the inside sees it; errors as `to_external`."""
        return self._translate(address, self.external, self.internal, _WORD ^ self.adjustment)

    def _translate(self, address: int, source: Prefix, target: Prefix, adjustment: int) -> int:
        rest = 128 - self.length
        if address >> rest != source.value >> rest:
            raise TransitionError(format_address(6, address), f"not within {source}", "translate addresses of it only")
        shift = self._adjusted_word(address)
        replaced = (target.value >> rest) << rest | address & ((1 << rest) - 1)
        word = _add(replaced >> shift & _WORD, adjustment)
        word = 0 if word == _WORD else word
        return replaced & ~(_WORD << shift) | word << shift

    def _adjusted_word(self, address: int) -> int:
        """Return the shift of the word to adjust (RFC 6296 3.4 and 3.5)."""
        if self.length <= 48:
            return 64
        for shift in (48, 32, 16, 0):
            if address >> shift & _WORD != _WORD:
                return shift
        text = format_address(6, address)
        raise TransitionError(text, "every word of its identifier is ffff", "such packets are dropped (RFC 6296 3.5)")


def make_eui64(mac: str) -> int:
    """Return the modified EUI-64 of a MAC address (RFC 4291 appendix A)."""
    digits = mac.replace(":", "").replace("-", "").replace(".", "")
    if len(digits) != 12 or any(c not in "0123456789abcdefABCDEF" for c in digits):
        raise TransitionError(mac, "not a MAC address", "write one like 00:00:5e:00:53:01")
    value = int(digits, 16)
    return (value >> 24 ^ 0x02_0000) << 40 | 0xFFFE << 24 | value & 0xFF_FFFF


def make_ntp64(unix_s: float) -> int:
    """Return a time (seconds since 1970) in NTP's 64-bit form: seconds since 1900, then their fraction."""
    whole = math.floor(unix_s)
    return (whole + NTP_UNIX_S & 0xFFFF_FFFF) << 32 | int((unix_s - whole) * (1 << 32))


def make_unique_local(ntp64: int, eui64: int) -> Prefix:
    """Return a unique local /48, its Global ID the low 40 bits of SHA-1 over time and EUI-64 (RFC 4193 3.2.2)."""
    digest = hashlib.sha1(ntp64.to_bytes(8, "big") + eui64.to_bytes(8, "big"), usedforsecurity=False).digest()
    return Prefix(6, (0xFD << 40 | int.from_bytes(digest[-5:], "big")) << 80, 48)


def collision_chance(prefixes: int) -> float:
    """Return the chance that two of so many unique local prefixes are the same (RFC 4193 3.2.3)."""
    return -math.expm1(-(prefixes**2) / 2**41)


class PolicyRow(NamedTuple):
    """A row of RFC 6724's policy table."""

    prefix: Prefix
    precedence: int
    label: int


def _mapped(address: Prefix) -> int:
    """Return an address as IPv6: IPv4 as ::ffff:0:0/96."""
    return address.value if address.version == 6 else 0xFFFF << 32 | address.value


POLICY_TABLE = tuple(
    PolicyRow(Prefix(6, value, length), precedence, label)
    for value, length, precedence, label in (
        (1, 128, 50, 0),
        (0, 0, 40, 1),
        (0xFFFF << 32, 96, 35, 4),
        (0x2002 << 112, 16, 30, 2),
        (0x2001 << 112, 32, 5, 5),
        (0xFC << 120, 7, 3, 13),
        (0, 96, 1, 3),
        (0xFEC << 116, 10, 1, 11),
        (0x3FFE << 112, 16, 1, 12),
    )
)
"""The default policy table (RFC 6724 2.1): unique local addresses come after IPv4."""


def find_policy(address: Prefix, table: Sequence[PolicyRow] = POLICY_TABLE) -> PolicyRow:
    """Return the row of the longest prefix that an address (a prefix of full length) lies in."""
    value = _mapped(address)
    return max((r for r in table if r.prefix.value <= value <= r.prefix.last), key=lambda r: r.prefix.length)


def find_scope(address: Prefix) -> int:
    """Return an address's scope (RFC 6724 3.1 and 3.2): 2 link-local, 5 site-local, 14 global; multicast says its own."""
    if address.version == 4:
        return 2 if address.value >> 24 == 127 or address.value >> 16 == 0xA9FE else 14
    value = address.value
    if value >> 120 == 0xFF:
        return value >> 112 & 0xF
    if value >> 118 == 0xFE80 >> 6 or value == 1:
        return 2
    return 5 if value >> 118 == 0xFEC0 >> 6 else 14


def sort_destinations(
    pairs: Iterable[tuple[Prefix, Prefix | None]], table: Sequence[PolicyRow] = POLICY_TABLE
) -> list[Prefix]:
    """Return destinations in the order a host tries them (RFC 6724 6), given the source it would use for each (or None).

    Rules 3, 4 and 7 (deprecated, home and tunnelled addresses) want to know more than addresses, and do not apply.
    """

    def rank(pair: tuple[Prefix, Prefix | None]) -> tuple[int, ...]:
        destination, source = pair
        if source is None:
            return (1,)
        to, by = find_policy(destination, table), find_policy(source, table)
        scope = find_scope(destination)
        common = 0
        if destination.version == source.version:
            bits = 32 if destination.version == 4 else 64
            spare = 32 if destination.version == 4 else 128
            common = min(bits, spare - (destination.value ^ source.value).bit_length())
        return (
            0,
            int(scope != find_scope(source)),
            int(to.label != by.label),
            -to.precedence,
            scope,
            # Lengths in common are compared within one family only.
            destination.version,
            -common,
        )

    return [destination for destination, _ in sorted(pairs, key=rank)]
