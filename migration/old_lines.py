"""Where a unit's old line runs, and what is normal on it: pure consequences of the inventory.

After the cutover a unit's stations and servers keep their addresses, on a LAN whose gateway the extranet holds now; so an
address of the old network says nothing. What counts is the old line itself:

- a town's: its legacy router's LAN port (shut since the cutover), the line, and the hub's port at the line's other end;
  the line carries the villages behind it too, so its counters speak only once they are all cut over;
- a village's: the port of the town's legacy router that was its gateway (shut since the cutover);
- the county's: the hub itself. It keeps an interconnect address on the county's LAN, where it hears everybody's
  broadcasts: what it sends and forwards counts, not what it receives.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from ipaddress import IPv4Address, IPv4Network
from typing import NamedTuple

from inventory.model import EXTRANET, County, Unit
from migration.units import county_unit, devices_under, units_behind
from nornir_tasks.platforms.frr.legacy import Fact, legacy_facts


class LinePort(NamedTuple):
    """A port of an old line. `lan`: towards the unit's own LAN, else towards the line's other end."""

    device: str
    name: str
    lan: bool


@dataclass(frozen=True)
class OldLine:
    """A unit's old line. `router` is the legacy router at its site (None: a village without one)."""

    county: County
    unit: Unit
    ports: tuple[LinePort, ...]
    router: str | None

    @cached_property
    def carried(self) -> tuple[Unit, ...]:
        """The units whose traffic it carries, its own first."""
        return (self.unit, *units_behind(self.county, self.unit))

    @cached_property
    def hub(self) -> str | None:
        """The legacy router that routes to it."""
        hub = county_unit(self.county, self.unit.network)
        return self.county.circuit_by_id[hub.circuit].device if hub is not None else None

    @property
    def at_county(self) -> bool:
        """Tell whether it is the hub's own LAN."""
        return self.unit.site == self.county.county_site.id

    @cached_property
    def legacy(self) -> tuple[str, ...]:
        """Legacy routers that must say who uses it."""
        names = {*[p.device for p in self.ports], self.router, self.hub}
        return tuple(sorted(filter(None, names)))

    @cached_property
    def extranet(self) -> tuple[str, ...]:
        """Extranet routers that must say whether they still route to it."""
        return devices_under(self.county, self.unit)

    @cached_property
    def new_way(self) -> tuple[tuple[str, str, tuple[str, ...]], ...]:
        """The extranet circuits that carry the unit now: the circuit, a router on it, and that router's ports for the plane."""
        routers, vlan = set(self.extranet), self.county.plane_by_id[self.unit.plane].vlan
        return tuple(
            (circuit.id, device, (port, f"{port}.{vlan}"))
            for circuit in self.county.circuits
            if circuit.network == EXTRANET and circuit.device in routers and circuit.far_device in routers
            for device, port in ((circuit.device, circuit.port), (circuit.far_device, circuit.far_port))
            if device and port
        )

    @cached_property
    def devices(self) -> tuple[str, ...]:
        """Every router that must be asked."""
        return tuple(sorted({*self.legacy, *self.extranet}))

    @cached_property
    def wans(self) -> tuple[IPv4Network, ...]:
        """The line's own addresses."""
        circuits = [self.county.circuit_by_id[u.circuit] for u in self.carried]
        circuits = circuits if self.at_county else circuits[:1]
        return tuple(c.wan_prefix for c in circuits if c.wan_prefix is not None)

    @cached_property
    def interconnect(self) -> IPv4Address | None:
        """The address that the network's hub keeps on the county's LAN."""
        hub = county_unit(self.county, self.unit.network)
        return hub.interconnect if hub is not None else None

    @cached_property
    def lans(self) -> tuple[IPv4Network, ...]:
        """The LANs whose traffic it carries."""
        return tuple(u.lan_prefix for u in self.carried)

    @cached_property
    def declared_ports(self) -> frozenset[str]:
        """Ports that its router has by the inventory."""
        names: set[str | None] = set()
        for c in self.county.circuits:
            if c.device == self.router:
                names |= {c.port, c.lan_port}
            if c.far_device == self.router:
                names.add(c.far_port)
        return frozenset(n for n in names if n)

    @cached_property
    def declared_lines(self) -> dict[str, frozenset[Fact]]:
        """Configuration lines that its network's routers have by the inventory, by device: (block, line)."""
        facts = legacy_facts(self.county, self.unit.network, {})
        return {device: frozenset(lines) for device, lines in facts.items()}

    def is_line_end(self, address: str) -> bool:
        """Tell whether an address is one of the line's own two."""
        return any(is_inside(address, wan) for wan in self.wans)

    def is_end(self, address: str) -> bool:
        """Tell whether an address belongs to a router on the line: one of its two ends, or a gateway on the county's LAN."""
        if self.is_line_end(address):
            return True
        return self.at_county and address in {str(self.unit.gateway), str(self.unit.interconnect)}

    def inside(self, address: str) -> bool:
        """Tell whether an address is in the unit's LAN."""
        return is_inside(address, self.unit.lan_prefix)

    def identify(self, address: str) -> str:
        """Say who has an address in the unit's network by the inventory; empty when nobody has."""
        found = parse_ipv4(address)
        if found is None:
            return ""
        for unit in self.county.units_by_network[self.unit.network]:
            if found not in unit.lan_prefix:
                continue
            host = int(found) - int(unit.lan_prefix.network_address)
            for station in self.county.stations_at(unit.site, unit.plane):
                if station.host == host:
                    return f"station {station.id}"
            for server in self.county.servers:
                if (server.site, server.plane, server.host) == (unit.site, unit.plane, host):
                    return f"server {server.id}"
            if address == str(unit.gateway):
                return f"the gateway of {unit.site}"
        return ""


def line_of(county: County, unit: Unit) -> OldLine:
    """Return a unit's old line."""
    circuit = county.circuit_by_id[unit.circuit]
    ports: list[LinePort] = []
    if circuit.device:
        if circuit.lan_port:
            ports.append(LinePort(circuit.device, circuit.lan_port, lan=True))
        if circuit.port and circuit.far_device:
            ports.append(LinePort(circuit.device, circuit.port, lan=False))
        if circuit.far_device and circuit.far_port:
            ports.append(LinePort(circuit.far_device, circuit.far_port, lan=False))
    elif circuit.far_device and circuit.far_port:
        ports.append(LinePort(circuit.far_device, circuit.far_port, lan=True))
    return OldLine(county=county, unit=unit, ports=tuple(ports), router=circuit.device or None)


def wanted_names(county: County, lines: Iterable[OldLine]) -> dict[str, tuple[IPv4Network, ...]]:
    """Return, by router, the prefixes whose routes and configuration lines are worth keeping.

    A legacy router is asked about all of its network. An extranet router names the LANs by right: it holds them now; of
    interest is what leads to the line: the line's own addresses, and the hub's on the county's LAN.
    """
    out: dict[str, set[IPv4Network]] = {}
    for line in lines:
        network = county.network_by_id[line.unit.network]
        own = {c.wan_prefix for c in county.circuits if c.network == network.id and c.wan_prefix is not None}
        all_of_it = {*network.prefixes, *own, *(u.lan_prefix for u in county.units if u.network == network.id)}
        for device in line.legacy:
            out.setdefault(device, set()).update(all_of_it)
        for device in line.extranet:
            names = out.setdefault(device, set())
            names.update(own)
            if line.interconnect is not None:
                names.add(IPv4Network(line.interconnect))
    return {device: tuple(sorted(names)) for device, names in out.items()}


def is_inside(address: str, net: IPv4Network) -> bool:
    """Tell whether a text is an IPv4 address inside a prefix."""
    found = parse_ipv4(address)
    return found is not None and found in net


def parse_ipv4(address: str) -> IPv4Address | None:
    """Return a text's IPv4 address; None when it is none."""
    try:
        return IPv4Address(address)
    except ValueError:
        return None
