"""The county before migration, as FRR configurations: what each router starts with.

Legacy networks carry the departments over IPv4: a hub at the county, spokes in the towns, static routes. The extranet
carries the public and shared planes over IPv4 between cores and towns; village routers wait without configuration.
Text is in the order in which FRR 8.4 prints it, so that a difference against the running configuration is empty.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import Literal

from addressing.model import AddressPlan
from inventory.model import EXTRANET, Circuit, County, Device, PlaneKind, Role
from inventory.topology import Topology

VrfBackend = Literal["device", "netns"]
NETNS_DIR = "/run/netns"
_ROUTING_ROLES = frozenset({Role.CORE, Role.TOWN})


def render_before(county: County, topology: Topology, plan: AddressPlan, device: Device, backend: VrfBackend) -> str:
    """Return the configuration a router has before migration."""
    if device.network != EXTRANET:
        return _render_legacy(county, device)
    return _render_extranet(county, topology, plan, device, backend)


def bgp_speakers(county: County) -> frozenset[str]:
    """Return the ids of the routers that need a BGP daemon: cores and towns."""
    return frozenset(d.id for d in county.devices if d.network == EXTRANET and d.role in _ROUTING_ROLES)


def _block(head: str, lines: Iterable[str], end: str = "exit") -> list[str]:
    return [head, *(f" {line}" for line in lines), end, "!"]


def _text(hostname: str, body: list[str]) -> str:
    return "\n".join(["frr defaults datacenter", f"hostname {hostname}", "!", *body]) + "\n"


def _render_legacy(county: County, device: Device) -> str:
    interfaces: dict[str, str] = {}
    routes: dict[IPv4Network, IPv4Address] = {}
    own = [c for c in county.circuits if c.network == device.network]
    for c in own:
        if c.device == device.id:
            _add_site_end(c, interfaces, routes)
        elif c.far_device == device.id:
            _add_far_end(c, own, interfaces, routes)
    body = [f"ip route {net} {via}" for net, via in sorted(routes.items(), key=lambda r: (r[0].prefixlen, r[0]))]
    if body:
        body.append("!")
    for name in sorted(interfaces, key=_natural):
        body += _block(f"interface {name}", [f"ip address {interfaces[name]}"])
    return _text(device.id, body)


def _add_site_end(c: Circuit, interfaces: dict[str, str], routes: dict[IPv4Network, IPv4Address]) -> None:
    """The router at the site itself: its LAN, and for a spoke the line up with the default route."""
    if c.lan_port and c.lan_prefix:
        interfaces[c.lan_port] = str(IPv4Interface((c.lan_prefix.network_address + 1, c.lan_prefix.prefixlen)))
    if c.port and c.wan_prefix:
        interfaces[c.port] = str(IPv4Interface((c.wan_prefix.network_address + 2, c.wan_prefix.prefixlen)))
        routes[IPv4Network("0.0.0.0/0")] = c.wan_prefix.network_address + 1


def _add_far_end(
    c: Circuit, own: list[Circuit], interfaces: dict[str, str], routes: dict[IPv4Network, IPv4Address]
) -> None:
    """The router at the other end: a spoke is the gateway of a village's LAN, the hub routes to all behind a spoke."""
    if not c.far_port:
        return
    if c.device is None and c.lan_prefix:
        interfaces[c.far_port] = str(IPv4Interface((c.lan_prefix.network_address + 1, c.lan_prefix.prefixlen)))
    elif c.wan_prefix:
        interfaces[c.far_port] = str(IPv4Interface((c.wan_prefix.network_address + 1, c.wan_prefix.prefixlen)))
        spoke = c.wan_prefix.network_address + 2
        behind = [c, *(v for v in own if v.device is None and v.far_device == c.device)]
        routes.update({v.lan_prefix: spoke for v in behind if v.lan_prefix})


def _render_extranet(county: County, topology: Topology, plan: AddressPlan, device: Device, backend: VrfBackend) -> str:
    live = (
        [p.id for p in county.policy.planes if p.kind is not PlaneKind.DEDICATED]
        if device.role in _ROUTING_ROLES
        else []
    )
    routes = _hairpin_routes(county, plan, device)
    body: list[str] = []
    for vrf in topology.vrfs_of(device.id):
        lines = [f"netns {NETNS_DIR}/{vrf}"] if backend == "netns" else []
        lines += routes.get(vrf, [])
        if lines:  # FRR prints no empty block
            body += _block(f"vrf {vrf}", lines, "exit-vrf")
    for vrf in sorted(live):
        addresses = _addresses4(county, topology, plan, device, vrf)
        for name in sorted(addresses, key=_natural):
            # With VRF devices an interface's VRF is the kernel's business, and FRR does not print it.
            head = f"interface {name} vrf {vrf}" if backend == "netns" else f"interface {name}"
            body += _block(head, [f"ip address {addresses[name]}"])
    for vrf in sorted(live):
        body += _bgp(county, topology, plan, device, vrf)
    return _text(device.id, body)


def _hairpin_routes(county: County, plan: AddressPlan, device: Device) -> dict[str, list[str]]:
    """Static routes of a core between the public plane and the shared services, by VRF."""
    public = county.plane_of_kind(PlaneKind.PUBLIC).id
    shared = county.plane_of_kind(PlaneKind.SHARED).id
    ends = plan.hairpin4(device.id, public)
    lan = plan.lan4(county.county_site.id, shared)
    if device.role is not Role.CORE or ends is None or lan is None:
        return {}
    inner, outer = ends
    return {public: [f"ip route {lan} {outer}"], shared: [f"ip route {plan.ipv4_pool} {inner}"]}


def _addresses4(county: County, topology: Topology, plan: AddressPlan, device: Device, vrf: str) -> dict[str, str]:
    """IPv4 addresses by interface in one VRF."""
    out: dict[str, str] = {}
    speakers = bgp_speakers(county)
    for link, own, far in topology.links_of(device.id):
        if own.vrf == vrf and far.device in speakers and f"link4:{link.circuit}" in plan.by_id:
            a, b = plan.link4(link.circuit)
            out[own.interface] = f"{a if link.a.device == device.id else b}/31"
    for lan in topology.lans_of(device.id):
        gateway = plan.gateway4(lan.site, lan.plane) if lan.plane == vrf else None
        if gateway is not None:
            out[lan.gateway.interface] = str(gateway)
    for hairpin in topology.hairpins:
        ends = plan.hairpin4(hairpin.device, hairpin.plane)
        if hairpin.device != device.id or ends is None:
            continue
        for end, address in zip((hairpin.inner, hairpin.outer), ends, strict=True):
            if end.vrf == vrf:
                out[end.interface] = f"{address}/31"
    return out


def _bgp(county: County, topology: Topology, plan: AddressPlan, device: Device, vrf: str) -> list[str]:
    speakers = bgp_speakers(county)
    neighbors: list[tuple[IPv4Address, Device]] = []
    for link, own, far in topology.links_of(device.id):
        if own.vrf == vrf and far.device in speakers and f"link4:{link.circuit}" in plan.by_id:
            a, b = plan.link4(link.circuit)
            neighbors.append((b if link.a.device == device.id else a, county.device_by_id[far.device]))
    neighbors.sort(key=lambda n: n[0])
    lines = [f"bgp router-id {router_id(plan, topology, device)}", "no bgp default ipv4-unicast"]
    for address, far_device in neighbors:
        lines += [
            f"neighbor {address} remote-as {far_device.asn}",
            f"neighbor {address} description {far_device.id}",
            f"neighbor {address} timers connect 2",
        ]
    lines += ["!", "address-family ipv4 unicast", " redistribute connected", " redistribute static"]
    for address, far_device in neighbors:
        lines.append(f" neighbor {address} activate")
        if far_device.asn == device.asn:
            lines.append(f" neighbor {address} next-hop-self")
    lines.append("exit-address-family")
    return _block(f"router bgp {device.asn} vrf {vrf}", lines)


def router_id(plan: AddressPlan, topology: Topology, device: Device) -> IPv4Address:
    """Return a router's BGP identifier: the lowest of its extranet link addresses (RFC 6286: unique within the AS)."""
    own = []
    for link, _, _ in topology.links_of(device.id):
        if link.network == EXTRANET and f"link4:{link.circuit}" in plan.by_id:
            a, b = plan.link4(link.circuit)
            own.append(a if link.a.device == device.id else b)
    return min(own, default=IPv4Address("192.0.2.1"))


def _natural(name: str) -> tuple[tuple[int, str], ...]:
    """Sort key in FRR's order: numbers inside names compare as numbers."""
    parts: list[tuple[int, str]] = []
    word, number = "", ""
    for char in [*name, ""]:
        if char.isdigit():
            if word:
                parts.append((-1, word))
                word = ""
            number += char
        else:
            if number:
                parts.append((int(number), ""))
                number = ""
            word += char
    if word:
        parts.append((-1, word))
    return tuple(parts)
