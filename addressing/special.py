"""Blocks that are not for ordinary use: documentation, deprecated, reserved for something else.

From IANA's special-purpose address registries (RFC 6890) and the RFCs named; deprecated blocks are in no registry any
more, yet still in old plans and books.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from addressing.text import Prefix, parse_prefix

Use = Literal["documentation", "deprecated", "unassigned", "ula", "srv6", "special", "private"]


class SpecialBlock(NamedTuple):
    """A block, what sets it apart, and where that is written."""

    prefix: Prefix
    use: Use
    name: str
    source: str


def _blocks(*rows: tuple[str, Use, str, str]) -> tuple[SpecialBlock, ...]:
    return tuple(SpecialBlock(parse_prefix(prefix), use, name, source) for prefix, use, name, source in rows)


SPECIAL_BLOCKS = _blocks(
    ("3fff::/20", "documentation", "documentation", "RFC 9637"),
    ("2001:db8::/32", "documentation", "documentation", "RFC 3849"),
    ("192.0.2.0/24", "documentation", "documentation", "RFC 5737"),
    ("198.51.100.0/24", "documentation", "documentation", "RFC 5737"),
    ("203.0.113.0/24", "documentation", "documentation", "RFC 5737"),
    ("fec0::/10", "deprecated", "site-local addresses", "RFC 3879"),
    ("3ffe::/16", "deprecated", "the 6bone's test addresses", "RFC 3701"),
    ("::/96", "deprecated", "IPv4-compatible addresses", "RFC 4291 2.5.5.1"),
    ("200::/7", "deprecated", "NSAP addresses", "RFC 4048"),
    ("2001:10::/28", "deprecated", "the first ORCHIDs", "RFC 4843"),
    ("2002::/16", "deprecated", "6to4", "RFC 7526"),
    ("2001::/32", "deprecated", "Teredo", "RFC 4380"),
    ("fc00::/8", "unassigned", "the half of the unique local addresses that nobody assigns", "RFC 4193 3.1"),
    ("fd00::/8", "ula", "unique local addresses", "RFC 4193"),
    ("5f00::/16", "srv6", "SRv6 locators", "RFC 9602"),
    ("::/128", "special", "the unspecified address", "RFC 4291"),
    ("::1/128", "special", "the loopback address", "RFC 4291"),
    ("::ffff:0:0/96", "special", "IPv4-mapped addresses", "RFC 4291 2.5.5.2"),
    ("64:ff9b::/96", "special", "NAT64's well-known prefix", "RFC 6052"),
    ("64:ff9b:1::/48", "special", "local IPv4/IPv6 translation", "RFC 8215"),
    ("100::/64", "special", "discard only", "RFC 6666"),
    ("100:0:0:1::/64", "special", "the dummy prefix", "RFC 9780"),
    ("2001::/23", "special", "protocol assignments", "RFC 2928"),
    ("2620:4f:8000::/48", "special", "AS112 service", "RFC 7534"),
    ("fe80::/10", "special", "link-local addresses", "RFC 4291"),
    ("ff00::/8", "special", "multicast", "RFC 4291"),
    ("0.0.0.0/8", "special", "this network", "RFC 791"),
    ("127.0.0.0/8", "special", "loopback", "RFC 1122"),
    ("169.254.0.0/16", "special", "link-local addresses", "RFC 3927"),
    ("192.0.0.0/24", "special", "protocol assignments", "RFC 6890"),
    ("192.88.99.0/24", "deprecated", "the 6to4 relay", "RFC 7526"),
    ("198.18.0.0/15", "special", "benchmarking", "RFC 2544"),
    ("224.0.0.0/4", "special", "multicast", "RFC 5771"),
    ("240.0.0.0/4", "special", "reserved", "RFC 1112"),
    ("10.0.0.0/8", "private", "private addresses", "RFC 1918"),
    ("172.16.0.0/12", "private", "private addresses", "RFC 1918"),
    ("192.168.0.0/16", "private", "private addresses", "RFC 1918"),
    ("100.64.0.0/10", "private", "shared addresses of providers", "RFC 6598"),
)
GLOBAL_UNICAST = parse_prefix("2000::/3")
"""All that IANA gives out of IPv6 (RFC 4291 2.4)."""


def find_special(prefix: Prefix) -> list[SpecialBlock]:
    """Return the blocks that a prefix meets: it lies in one, or holds one. The innermost first."""
    met = [b for b in SPECIAL_BLOCKS if b.prefix.covers(prefix) or prefix.covers(b.prefix)]
    return sorted(met, key=lambda b: -b.prefix.length)
