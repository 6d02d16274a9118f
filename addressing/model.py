"""The address plan as a value: one record an assignment, found by its stable identity.

Layout (plane first, so that one prefix a plane serves every filter; then location, so that routes aggregate).
Each field is whole nibbles below the pool of length P (16 nibble-aligned bits to P+28 at most):

    pool /P ─ plane slot (4 bits) /P+4 ─ town slot (8) /P+12 ─ site slot (8) /P+20 ─ LANs, /64 each
    plane slot 0 is infrastructure: one /64 of loopbacks (/128, RFC 9099 2.1), one of links (/127, RFC 6164).
"""

from __future__ import annotations

import hashlib
import json
from functools import cached_property
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from typing import Literal

from inventory.model import Model

Kind = Literal["pool", "infra", "plane", "town", "site", "lan", "loopback", "link", "hairpin", "lan4", "link4"]
State = Literal["active", "quarantined"]


class Record(Model):
    """One assignment. `id` is its identity for life, `slot` its place in the parent (None: fixed by the layout).

    Identities: `plane:PLANE`, `town:TOWN@PLANE`, `site:SITE@PLANE`, `lan:SITE@PLANE`, `loopback:DEVICE`,
    `link:CIRCUIT@PLANE` (/127), `hairpin:DEVICE@PLANE` (/127), and for IPv4 `lan4:SITE@PLANE`, `link4:CIRCUIT` (/31,
    the same in every VRF of the circuit) and `hairpin4:DEVICE@PLANE` (/31, kind link4).
    """

    id: str
    kind: Kind
    name: str
    parent: str
    prefix: str
    slot: int | None = None
    state: State = "active"


class AddressPlan(Model):
    """The county's addresses. Look things up with the methods; never compute an address elsewhere."""

    format: Literal[1] = 1
    county: str
    pool: str
    ipv4_pool: str
    ipv4_link_pool: str
    records: tuple[Record, ...]

    @cached_property
    def by_id(self) -> dict[str, Record]:
        """Records by identity."""
        return {r.id: r for r in self.records}

    @cached_property
    def digest(self) -> str:
        """sha256 over the canonical JSON of the plan."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()

    def prefix6(self, record_id: str) -> IPv6Network:
        """Return an IPv6 record's prefix; KeyError when the plan lacks it."""
        return IPv6Network(self.by_id[record_id].prefix)

    def prefix4(self, record_id: str) -> IPv4Network:
        """Return an IPv4 record's prefix; KeyError when the plan lacks it."""
        return IPv4Network(self.by_id[record_id].prefix)

    def plane_prefix(self, plane: str) -> IPv6Network:
        """Return the aggregate of a plane: what filters and hairpin routes use."""
        return self.prefix6(f"plane:{plane}")

    def lan6(self, site: str, plane: str) -> IPv6Network:
        """Return the /64 of a plane's LAN at a site."""
        return self.prefix6(f"lan:{site}@{plane}")

    def host6(self, site: str, plane: str, host: int) -> IPv6Interface:
        """Return the address of a station or server (its `host` as interface identifier) with the LAN's length."""
        lan = self.lan6(site, plane)
        return IPv6Interface((lan.network_address + host, lan.prefixlen))

    def gateway6(self, site: str, plane: str) -> IPv6Interface:
        """Return the extranet gateway's address on a LAN: interface identifier ::1."""
        return self.host6(site, plane, 1)

    def lan4(self, site: str, plane: str) -> IPv4Network | None:
        """Return the extranet's own IPv4 LAN (public and shared planes), None where the plane has none."""
        return self.prefix4(f"lan4:{site}@{plane}") if f"lan4:{site}@{plane}" in self.by_id else None

    def host4(self, site: str, plane: str, host: int) -> IPv4Interface | None:
        """Return the extranet IPv4 of a station or server in the public or shared plane, or None."""
        lan = self.lan4(site, plane)
        return IPv4Interface((lan.network_address + host, lan.prefixlen)) if lan else None

    def gateway4(self, site: str, plane: str) -> IPv4Interface | None:
        """Return the extranet's IPv4 gateway of a public or shared LAN: first host."""
        return self.host4(site, plane, 1)

    def loopback(self, device: str) -> IPv6Address:
        """Return a router's loopback /128."""
        return self.prefix6(f"loopback:{device}").network_address

    def link6(self, circuit: str, plane: str) -> tuple[IPv6Address, IPv6Address]:
        """Return the /127's two addresses: (a end, b end)."""
        net = self.prefix6(f"link:{circuit}@{plane}")
        return net[0], net[1]

    def link4(self, circuit: str) -> tuple[IPv4Address, IPv4Address]:
        """Return the /31's two addresses (a end, b end), the same in every VRF of the circuit."""
        net = self.prefix4(f"link4:{circuit}")
        return net[0], net[1]

    def hairpin6(self, device: str, plane: str) -> tuple[IPv6Address, IPv6Address]:
        """Return (inner, outer) addresses of a core's hairpin."""
        net = self.prefix6(f"hairpin:{device}@{plane}")
        return net[0], net[1]

    def hairpin4(self, device: str, plane: str) -> tuple[IPv4Address, IPv4Address] | None:
        """Return (inner, outer) IPv4 addresses of the public plane's hairpin; None for other planes."""
        if f"hairpin4:{device}@{plane}" not in self.by_id:
            return None
        net = self.prefix4(f"hairpin4:{device}@{plane}")
        return net[0], net[1]
