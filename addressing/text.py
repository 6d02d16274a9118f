"""Addresses and prefixes as text: RFC 5952 out, and in whatever a spreadsheet made of them.

One formatter for all of the suite. The standard library's writes `::ffff:c000:201` where RFC 5952 (5) recommends
`::ffff:192.0.2.1`, and the C library's writes `::192.0.2.1` for a block deprecated long ago: never mix them in one file.
"""

from __future__ import annotations

import re
import unicodedata
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from inventory.errors import ExtranetError

BITS = {4: 32, 6: 128}
_FAMILY = {4: AF_INET, 6: AF_INET6}
_LOOK_ALIKES = str.maketrans({"。": ".", "∶": ":", "∕": "/", "⁄": "/"})
"""What NFKC leaves as it is (full-width colons, points and slashes it folds)."""
_DIGITS = 9
"""More digits than any prefix length has; Python refuses to read thousands of them."""
_INVISIBLE = dict.fromkeys(map(ord, "\ufeff\u200b\u200e\u200f\u2060"))
_WRAPPING = re.compile(r"^[\s'\"]+|[\s'\"]+$")


class AddressTextError(ExtranetError):
    """A text is no address or prefix: `text` as found, `what` is wrong with it, `todo` about it."""

    def __init__(self, text: str, what: str, todo: str) -> None:
        self.text, self.what, self.todo = text, what, todo
        super().__init__(f"{text!r}: {what}; {todo}")


class Prefix(NamedTuple):
    """A prefix (or address, at full length): IP version 4 or 6, value as a number, length in bits."""

    version: int
    value: int
    length: int

    @property
    def last(self) -> int:
        """The last address it covers, as a number."""
        return self.value | ((1 << (BITS[self.version] - self.length)) - 1)

    def __str__(self) -> str:
        return f"{format_address(self.version, self.value)}/{self.length}"

    def covers(self, other: Prefix) -> bool:
        """Tell whether `other`, of the same version, lies within."""
        return self.version == other.version and self.length <= other.length and self.value <= other.value <= self.last


def format_address(version: int, value: int) -> str:
    """Return an address as text, IPv6 by RFC 5952 (sections 4 and 5)."""
    if version == 6 and value >> 32 == 0 and value > 1:
        return f"::{value >> 16:x}:{value & 0xFFFF:x}" if value >> 16 else f"::{value:x}"
    return inet_ntop(_FAMILY[version], value.to_bytes(BITS[version] // 8, "big"))


def format_prefix(value: int, length: int, version: int = 6) -> str:
    """Return a prefix as text."""
    return f"{format_address(version, value)}/{length}"


def format_prefixes(high: NDArray[np.uint64], lengths: NDArray[np.uint8]) -> list[str]:
    """Return IPv6 prefixes of /64 or shorter as text (RFC 5952), from the upper 64 bits: half a microsecond each."""
    parts = [((high >> np.uint64(shift)) & np.uint64(0xFFFF)).astype(np.uint16).tolist() for shift in (48, 32, 16, 0)]
    out = []
    for a, b, c, d, length in zip(*parts, lengths.tolist(), strict=True):
        # The lower half is zero, so the longest run of zeros is the one at the end.
        if d:
            out.append(f"{a:x}:{b:x}:{c:x}:{d:x}::/{length}")
        elif c:
            out.append(f"{a:x}:{b:x}:{c:x}::/{length}")
        elif b:
            out.append(f"{a:x}:{b:x}::/{length}")
        else:
            out.append(f"{a:x}::/{length}" if a else f"::/{length}")
    return out


def normalise(text: str) -> str:
    """Return what a person meant to type: full-width forms and invisible characters of spreadsheets taken away."""
    folded = unicodedata.normalize("NFKC", text.translate(_INVISIBLE)).translate(_LOOK_ALIKES)
    return _WRAPPING.sub("", folded)


def parse_prefix(text: str, *, host_bits: bool = False) -> Prefix:
    """Read a prefix; an address alone is one of full length.

    Upper case, leading zeros in IPv6 groups, full-width characters and stray spaces are taken. With `host_bits`, bits
    below the prefix are cut off, else they are an error.

    Raises:
        AddressTextError: it is none, or its host bits are set.
    """
    clean = normalise(text)
    address, slash, tail = clean.partition("/")
    address, tail = address.strip(), tail.strip()
    if not address:
        raise AddressTextError(text, "expected a prefix, found nothing", "write one like 2001:db8:1::/48")
    version = 6 if ":" in address else 4
    try:
        value = int.from_bytes(inet_pton(_FAMILY[version], address), "big")
    except (OSError, ValueError):  # ValueError: a null character, or half of a surrogate pair
        raise AddressTextError(text, f"not an IPv{version} address", _advice(version, address)) from None
    bits = BITS[version]
    if not slash:
        return Prefix(version, value, bits)
    length = _length(text, tail, version)
    rest = value & ((1 << (bits - length)) - 1)
    if rest and not host_bits:
        meant = format_prefix(value ^ rest, length, version)
        raise AddressTextError(text, f"host bits are set below /{length}", f"write {meant}, or the length you mean")
    return Prefix(version, value ^ rest, length)


def _length(text: str, tail: str, version: int) -> int:
    bits = BITS[version]
    if tail.isascii() and tail.isdigit() and int(tail[:_DIGITS]) <= bits and len(tail) <= _DIGITS:
        return int(tail)
    if version == 4 and tail.count(".") == 3:
        try:
            mask = int.from_bytes(inet_pton(AF_INET, tail), "big")
        except (OSError, ValueError):
            mask = -1
        inverse = mask ^ 0xFFFFFFFF
        if mask >= 0 and inverse & (inverse + 1) == 0:
            return bits - inverse.bit_length()
    raise AddressTextError(text, f"prefix length {tail!r}", f"expected 0 to {bits}")


def _advice(version: int, address: str) -> str:
    if "%" in address:
        return "take the zone away: '%' and what follows is a machine's own"
    if address.startswith("["):
        return "take the brackets and the port away"
    if version == 4 and any(len(p) > 1 and p.startswith("0") for p in address.split(".")):
        return "write its parts without leading zeros: some programs read them as octal"
    if "E+" in address.upper() or (address.replace(".", "", 1).isdigit() and address.count(".") < 3):
        return "a spreadsheet took it for a number: format the column as text and type it again"
    return "write one like 10.20.0.0/16 or 2001:db8:1::/48"
