"""What a router says about who still uses an old line: counters, neighbours, routes, configuration, packets.

Values only. Whatever a device could not tell is in `unknown` with the reason: silence is never a clean answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from ipaddress import IPv4Address, IPv4Network, ip_address
from typing import Literal

from pydantic import Field

from inventory.model import Model, Source

DEVICE_SOURCES: tuple[Source, ...] = ("counters", "neighbors", "routes", "config", "flows")
"""What a router is asked; names are asked of the resolvers, from a station."""


class PortSeen(Model):
    """A port's state and its counters since the device started. `management`: our own session came in by it."""

    name: str
    up: bool
    """Administratively."""
    carrier: bool
    rx_packets: int
    rx_bytes: int
    tx_packets: int
    tx_bytes: int
    carrier_changes: int
    addresses: tuple[str, ...] = ()
    management: bool = False


class NeighborSeen(Model):
    """Somebody the device knows on a port (ARP or ND), and how long ago it last heard or used it."""

    port: str
    address: str
    mac: str
    idle_s: float


class RouteSeen(Model):
    """A route that names the old network: its destination or its next hop."""

    table: str
    """The VRF; empty for the main one."""
    prefix: str
    via: str
    port: str
    source: Literal["kernel", "routing"]
    number: str = ""
    """Which of the kernel's tables, by number or name; empty for the main one."""
    attached: bool = False
    """It follows from an address of the device itself."""


class LineSeen(Model):
    """A line that names the old network, with the block it stands in (empty: none).

    It is of the configuration, a rule by which the kernel chooses a table, or one of the packet filter.
    """

    block: str
    line: str
    names: tuple[str, ...]
    source: Literal["config", "rule", "filter"] = "config"


class FlowSeen(Model):
    """Packets of one conversation, as heard on a port. `service` is the TCP or UDP port asked, if any."""

    port: str
    source: str
    destination: str
    mac: str
    protocol: str
    service: int | None
    packets: int


class SocketSeen(Model):
    """A TCP or UDP conversation of the device itself, also one that just ended (TIME-WAIT)."""

    protocol: Literal["tcp", "udp"]
    local: str
    local_port: int
    peer: str
    peer_port: int


class Usage(Model):
    """What one device said at one moment. `at` is its own clock; `incarnation` differs after it started anew."""

    device: str
    at: float
    incarnation: str = ""
    ports: tuple[PortSeen, ...] = ()
    forwarded: int | None = None
    """Packets it forwarded for others since it started, both families; a hello is never forwarded."""
    carriers: dict[str, int] = Field(default={})
    """How often each of its ports, in any VRF, lost or found its carrier since it started."""
    neighbors: tuple[NeighborSeen, ...] = ()
    sockets: tuple[SocketSeen, ...] = ()
    """Conversations of its own with the old network, other than our sessions and those that routing holds on a line."""
    routes: tuple[RouteSeen, ...] = ()
    lines: tuple[LineSeen, ...] = ()
    flows: tuple[FlowSeen, ...] = ()
    flow_source: str = ""
    """By which means packets were heard: `packets`, `conntrack`, both; empty: none."""
    unknown: dict[Source, str] = Field(default={})

    def port(self, name: str) -> PortSeen | None:
        """Return a port by name."""
        return self._by_name.get(name)

    @cached_property
    def _by_name(self) -> dict[str, PortSeen]:
        return {p.name: p for p in reversed(self.ports)}


class UsageRead(Model):
    """A device's answer, and the whole of what it said, for the record; secrets of its configuration are hidden in both."""

    usage: Usage
    raw: str


class NameSeen(Model):
    """What a county's resolver gives for a service's name, asked from a station's leg."""

    name: str
    family: str
    resolver: str
    station: str
    plane: str
    addresses: tuple[str, ...] = ()
    unknown: str = ""


def nothing_known(device: str, why: str, *, at: float, sources: Iterable[Source] = DEVICE_SOURCES) -> Usage:
    """Return the answer of a device that gave none."""
    unknown: Mapping[Source, str] = dict.fromkeys(sources, why)
    return Usage(device=device, at=at, unknown=dict(unknown))


def names_any(text: str, prefixes: Iterable[IPv4Network]) -> tuple[str, ...]:
    """Return the words of a line that are addresses or prefixes inside (or equal to) any of `prefixes`."""
    wanted = tuple(prefixes)
    out = []
    for word in text.replace(",", " ").split():
        net = _network_of(word)
        if net is not None and any(net.subnet_of(p) for p in wanted):
            out.append(word)
    return tuple(out)


def _network_of(word: str) -> IPv4Network | None:
    if "." not in word:
        return None
    try:
        return IPv4Network(word, strict=False)
    except ValueError:
        return None


def is_unicast(address: str) -> bool:
    """Tell whether an address stands for one host beyond its link: neither group, broadcast nor link-local."""
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if found.is_multicast or found.is_link_local or found.is_unspecified or found.is_loopback:
        return False
    return not (isinstance(found, IPv4Address) and found == IPv4Address("255.255.255.255"))
