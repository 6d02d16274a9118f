"""The intended configuration of an extranet router: a pure function of inventory, wiring, plan and the units cut over.

Shape: one VRF a plane. Cores and towns speak eBGP in every VRF, one session a family, over the links' own addresses;
villages are stubs with static defaults. No VRF holds a default route on cores and towns, so planes are kept apart by
the absence of routes; what a neighbor may say is filtered to exactly the prefixes of that plane on that side.
Shared services are reached over the cores' hairpins. Text comes out in FRR 8.4's own order, so that a difference
against the running configuration shows changes and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Literal

from addressing.model import AddressPlan
from inventory.errors import UnknownNameError
from inventory.model import EXTRANET, County, Device, PlaneKind, Protocol, Role
from inventory.topology import End, Lan, Link, Topology, site_router
from nornir_tasks.platforms.frr.config import FrrConfig, print_config

VrfBackend = Literal["device", "netns"]

RA_INTERVAL_S = 10
KEEPALIVE_S, HOLD_S, CONNECT_RETRY_S = 3, 9, 2
MAX_PREFIXES_OF_TOWN, MAX_PREFIXES_OF_CORE = 500, 4000
"""A neighbor that says more has lost its filters: its session is closed for a minute instead of filling the tables."""
NEAR_CORE_WEIGHT = 200
"""Towns prefer the core that holds the county's LANs, so that the path is the same each time and can be proved."""
_NETNS_DIR = "/run/netns"

_Network = IPv4Network | IPv6Network
_Via = IPv4Address | IPv6Address | str


def render_device(  # noqa: PLR0917 - the seam of all platforms
    county: County,
    topology: Topology,
    plan: AddressPlan,
    device_id: str,
    cut_over: frozenset[str],
    vrf_backend: VrfBackend,
) -> str:
    """Render the whole intended configuration of an extranet router. `cut_over` holds ids of units (`network@site`)."""
    device = county.device_by_id.get(device_id)
    if device is None or device.network != EXTRANET:
        raise UnknownNameError("extranet router", device_id, (d.id for d in county.devices if d.network == EXTRANET))
    return print_config(_Renderer(county, topology, plan, device, cut_over, vrf_backend).render())


class _Renderer:
    def __init__(  # noqa: PLR0917 - one call, beside it
        self,
        county: County,
        topology: Topology,
        plan: AddressPlan,
        device: Device,
        cut_over: frozenset[str],
        vrf_backend: VrfBackend,
    ) -> None:
        self.county, self.topology, self.plan, self.device = county, topology, plan, device
        self.cut_over, self.backend = cut_over, vrf_backend
        self.public = county.plane_of_kind(PlaneKind.PUBLIC).id
        self.shared = county.plane_of_kind(PlaneKind.SHARED).id
        self.config = FrrConfig()
        self.links = [x for x in topology.links_of(device.id) if x[0].network == EXTRANET and x[1].vrf]
        self.links.sort(key=lambda x: (x[1].vrf or "", x[0].circuit))

    def render(self) -> FrrConfig:
        self.config.add((), f"hostname {self.device.id}")
        for vrf in self.topology.vrfs_of(self.device.id):
            self.config.add((f"vrf {vrf}",), *([f"netns {_NETNS_DIR}/{vrf}"] if self.backend == "netns" else []))
            self._add_interfaces(vrf)
            self._add_static_routes(vrf)
            if self.device.asn is not None and self.device.role is not Role.VILLAGE:
                self._add_bgp(vrf)
        return self.config

    def _add_interfaces(self, vrf: str) -> None:
        if vrf == self.public:
            # With real VRFs there is one `lo` only; the VRF's own device takes its place.
            holder = "lo" if self.backend == "netns" else vrf
            self._interface(
                End(device=self.device.id, interface=holder, vrf=vrf), "router-identity", [], [self._own_loopback()]
            )
        for link, own, far in self._links_in(vrf):
            own4, own6 = self._address4(link, own), self._address6(link, own)
            four = [f"{own4}/31"] if own4 and self._has_ipv4(vrf) else []
            self._interface(own, f"{far.device} {link.circuit}", four, [f"{own6}/127"])
        for hairpin in self.topology.hairpins:
            if hairpin.device != self.device.id:
                continue
            six, four_ends = (
                self.plan.hairpin6(hairpin.device, hairpin.plane),
                self.plan.hairpin4(hairpin.device, hairpin.plane),
            )
            for index, end in enumerate((hairpin.inner, hairpin.outer)):
                if end.vrf == vrf:
                    text = f"hairpin {hairpin.plane} {self.shared}"
                    self._interface(end, text, [f"{four_ends[index]}/31"] if four_ends else [], [f"{six[index]}/127"])
        for lan in self.topology.lans_of(self.device.id):
            if lan.plane == vrf:
                self._add_lan(lan)

    def _interface(self, end: End, description: str, four: list[str], six: list[str], *more: str) -> None:
        lines = [
            f"description {description}",
            *(f"ip address {a}" for a in four),
            *(f"ipv6 address {a}" for a in six),
            *more,
        ]
        # With VRF devices the kernel says which VRF an interface is in, and FRR 8.4 prints it without.
        where = f" vrf {end.vrf}" if self.backend == "netns" else ""
        self.config.add((f"interface {end.interface}{where}",), *lines)

    def _add_lan(self, lan: Lan) -> None:
        four = [str(a) for a in [self.plan.gateway4(lan.site, lan.plane)] if a]
        unit = self.county.unit_by_id.get(lan.unit or "")
        if unit and unit.id in self.cut_over:
            four.append(f"{unit.gateway}/{unit.lan_prefix.prefixlen}")
        domain, resolver = self.county.policy.dns_domain, self._resolver(lan.plane)
        more = [f"ipv6 nd dnssl {domain}"] if resolver and domain else []
        more.append(f"ipv6 nd ra-interval {RA_INTERVAL_S}")
        more += [f"ipv6 nd rdnss {resolver}"] if resolver else []
        more.append("no ipv6 nd suppress-ra")
        self._interface(lan.gateway, f"lan {lan.id}", four, [str(self.plan.gateway6(lan.site, lan.plane))], *more)

    def _resolver(self, plane: str) -> IPv6Address | None:
        for service in sorted(self.county.services, key=lambda s: s.id):
            if service.protocol is Protocol.DNS and (plane in service.from_planes or plane == service.plane):
                server = self.county.server_by_id[service.server]
                return self.plan.host6(server.site, server.plane, server.host).ip
        return None

    def _add_static_routes(self, vrf: str) -> None:
        routes = set(self._static_routes(vrf))
        # FRR prints IPv4 before IPv6, then by length, then by address.
        ordered = sorted(routes, key=lambda r: (r[0].version, r[0].prefixlen, int(r[0].network_address), str(r[1])))
        words = {4: "ip", 6: "ipv6"}
        self.config.add((f"vrf {vrf}",), *(f"{words[net.version]} route {net} {via}" for net, via in ordered))

    def _static_routes(self, vrf: str) -> Iterator[tuple[_Network, _Via]]:
        for link, _, far in self._links_in(vrf):
            far4, far6 = self._address4(link, far), self._address6(link, far)
            if self.device.role is Role.VILLAGE:
                yield IPv6Network("::/0"), far6
                if far4 and self._has_ipv4(vrf):
                    yield IPv4Network("0.0.0.0/0"), far4
            elif self.county.device_by_id[far.device].role is Role.VILLAGE:
                yield from self._routes_down(vrf, far, far4, far6)
        if self.device.role is Role.CORE:
            yield from self._hairpin_routes(vrf)
            yield from self._interconnect_routes(vrf)

    def _routes_down(
        self, vrf: str, village: End, far4: IPv4Address | None, far6: IPv6Address
    ) -> Iterator[tuple[_Network, _Via]]:
        if vrf == self.public:
            yield IPv6Network(self.plan.loopback(village.device)), far6
        for lan in self.topology.lans_of(village.device):
            if lan.plane != vrf:
                continue
            yield self.plan.lan6(lan.site, vrf), far6
            own4 = self.plan.lan4(lan.site, vrf)
            if own4 and far4:
                yield own4, far4
            if lan.unit in self.cut_over and far4:
                yield self.county.unit_by_id[lan.unit].lan_prefix, far4

    def _hairpin_routes(self, vrf: str) -> Iterator[tuple[_Network, _Via]]:
        for hairpin in self.topology.hairpins:
            if hairpin.device != self.device.id:
                continue
            inner6, outer6 = self.plan.hairpin6(hairpin.device, hairpin.plane)
            ends4 = self.plan.hairpin4(hairpin.device, hairpin.plane)
            if vrf == hairpin.plane:
                for lan in self._shared_lans():
                    yield self.plan.lan6(lan.site, self.shared), outer6
                    lan4 = self.plan.lan4(lan.site, self.shared)
                    if lan4 and ends4:
                        yield lan4, ends4[1]
            elif vrf == self.shared:
                yield self.plan.plane_prefix(hairpin.plane), inner6
                if ends4:
                    for net in self._public4():
                        yield net, ends4[0]
        if vrf == self.shared:
            # The pool that leads back to the public plane holds this LAN too: without the route proper, packets would
            # go round the hairpin until they die. Worse than any routing protocol's, and never told to anybody.
            for lan in self._shared_lans():
                lan4 = self.plan.lan4(lan.site, self.shared)
                if lan4 and any(lan4.subnet_of(net) for net in self._public4()):
                    yield lan4, "blackhole 250"

    def _interconnect_routes(self, vrf: str) -> Iterator[tuple[_Network, IPv4Address]]:
        """Sites not cut over yet stay reachable through their network's hub, which keeps the LAN's last address.

        With the last one the routes go: nothing may be left that leads to a hub about to be switched off.
        """
        for lan in self.topology.lans_of(self.device.id):
            unit = self.county.unit_by_id.get(lan.unit or "")
            if lan.plane != vrf or unit is None or unit.id not in self.cut_over:
                continue
            if any(u.network == unit.network and u.id not in self.cut_over for u in self.county.units):
                for net in self.county.network_by_id[unit.network].prefixes:
                    yield net, unit.interconnect

    def _add_bgp(self, vrf: str) -> None:
        block = f"router bgp {self.device.asn} vrf {vrf}"
        self.config.add(
            (block,), f"bgp router-id {router_id(self.plan, self.topology, self.device)}", "no bgp default ipv4-unicast"
        )
        peers = [(link, far, self.county.device_by_id[far.device]) for link, _, far in self._links_in(vrf)]
        peers = [p for p in peers if p[2].asn is not None and p[2].role is not Role.VILLAGE]
        fours = {
            a: (link, peer) for link, far, peer in peers if (a := self._address4(link, far)) and self._has_ipv4(vrf)
        }
        sixes = {self._address6(link, far): (link, peer) for link, far, peer in peers}
        for address, (link, peer) in [*sorted(fours.items()), *sorted(sixes.items())]:
            self.config.add(
                (block,),
                f"neighbor {address} remote-as {peer.asn}",
                f"neighbor {address} description {peer.id} {link.circuit}",
                f"neighbor {address} timers {KEEPALIVE_S} {HOLD_S}",
                f"neighbor {address} timers connect {CONNECT_RETRY_S}",
            )
        for family, found in ((4, sorted(fours.items())), (6, sorted(sixes.items()))):
            if family == 4 and not self._has_ipv4(vrf):
                continue
            path = (block, f"address-family ipv{family} unicast")
            # Told to BGP, a static of ours beats the neighbor's better route: the shared VRF tells its LANs only.
            self.config.add(path, "redistribute connected", *(["redistribute static"] if vrf != self.shared else []))
            for address, (_, peer) in found:
                self._add_neighbor(path, vrf, family, str(address), peer)

    def _add_neighbor(self, path: tuple[str, str], vrf: str, family: int, address: str, peer: Device) -> None:
        limit = MAX_PREFIXES_OF_TOWN if peer.role is Role.TOWN else MAX_PREFIXES_OF_CORE
        heavy = self.device.role is Role.TOWN and peer.id == site_router(self.county, self.county.county_site.id).id
        accepts, says = self._filters(vrf, family, peer)
        self.config.add(
            path,
            f"neighbor {address} activate",
            *([f"neighbor {address} next-hop-self"] if peer.asn == self.device.asn else []),
            f"neighbor {address} maximum-prefix {limit} restart 1",
            *([f"neighbor {address} weight {NEAR_CORE_WEIGHT}"] if heavy else []),
            f"neighbor {address} prefix-list {accepts} in",
            f"neighbor {address} prefix-list {says} out",
        )

    def _filters(self, vrf: str, family: int, peer: Device) -> tuple[str, str]:
        """Return names of the lists of what a peer may say and what we say to it, making them."""
        whole = self._list(f"{vrf}-plane", family, self._allowed(vrf, family))
        if peer.role is Role.TOWN:
            return self._list(f"{vrf}-{peer.site}", family, self._town_block(vrf, family, peer.site)), whole
        if self.device.role is Role.TOWN:
            return whole, self._list(
                f"{vrf}-{self.device.site}", family, self._town_block(vrf, family, self.device.site)
            )
        return whole, whole

    def _list(self, name: str, family: int, entries: Iterable[tuple[_Network, int]]) -> str:
        full = f"{name}-v{family}"
        word = "ip" if family == 4 else "ipv6"
        ordered = sorted(set(entries), key=lambda e: (int(e[0].network_address), e[0].prefixlen, e[1]))
        rules = [f"permit {net}" + (f" le {longest}" if longest > net.prefixlen else "") for net, longest in ordered]
        # A list without entries would not exist, and FRR reads a missing list as one that refuses: say it.
        rules = rules or ["deny any"]
        self.config.add((), *(f"{word} prefix-list {full} seq {5 * n} {rule}" for n, rule in enumerate(rules, 1)))
        return full

    def _allowed(self, vrf: str, family: int) -> Iterator[tuple[_Network, int]]:
        """Everything that may be said in a plane: its own aggregate and, in the others, the shared services' LAN."""
        if family == 4:
            yield from self._allowed4(vrf)
            return
        yield self.plan.plane_prefix(vrf), 64
        if vrf == self.public:
            yield self._loopbacks(), 128
        if vrf != self.shared:
            for lan in self._shared_lans():
                yield self.plan.lan6(lan.site, self.shared), 64

    def _allowed4(self, vrf: str) -> Iterator[tuple[IPv4Network, int]]:
        if vrf in {self.public, self.shared}:
            for lan in self._shared_lans():
                net = self.plan.lan4(lan.site, self.shared)
                if net:
                    yield net, net.prefixlen
        if vrf == self.public:
            for net in self._public4():
                yield net, 30
        for network in self.county.networks:
            if network.plane == vrf:
                for prefix in network.prefixes:
                    yield prefix, 30

    def _town_block(self, vrf: str, family: int, town: str) -> Iterator[tuple[_Network, int]]:
        """What a town may say in a plane: its own block, whether or not a unit there is cut over yet."""
        sites = [town, *(s.id for s in self.county.children(town))]
        if family == 6:
            if f"town:{town}@{vrf}" in self.plan.by_id:
                yield self.plan.prefix6(f"town:{town}@{vrf}"), 64
            if vrf == self.public:
                for device in self.county.devices:
                    if device.network == EXTRANET and device.site in sites:
                        yield IPv6Network(self.plan.loopback(device.id)), 128
            return
        for site in sites:
            net = self.plan.lan4(site, vrf)
            if net:
                yield net, net.prefixlen
            unit = self.county.unit_by_lan.get((site, vrf))
            if unit:
                yield unit.lan_prefix, unit.lan_prefix.prefixlen

    def _public4(self) -> list[IPv4Network]:
        """IPv4 of the public plane: the pool, and LANs that were there before it and lie outside."""
        pool = self.county.policy.ipv4_pool
        lans = [
            n for lan in self.topology.lans if lan.plane == self.public and (n := self.plan.lan4(lan.site, self.public))
        ]
        return [pool, *sorted(n for n in lans if not n.subnet_of(pool))]

    def _shared_lans(self) -> list[Lan]:
        return [lan for lan in self.topology.lans if lan.plane == self.shared]

    def _has_ipv4(self, vrf: str) -> bool:
        return vrf in (self.public, self.shared) or any(n.plane == vrf for n in self.county.networks)

    def _own_loopback(self) -> str:
        return f"{self.plan.loopback(self.device.id)}/128"

    def _loopbacks(self) -> IPv6Network:
        return IPv6Network(self.plan.loopback(self.device.id)).supernet(new_prefix=64)

    def _links_in(self, vrf: str) -> list[tuple[Link, End, End]]:
        return [x for x in self.links if x[1].vrf == vrf]

    def _address6(self, link: Link, end: End) -> IPv6Address:
        a, b = self.plan.link6(link.circuit, link.plane or "")
        return a if end == link.a else b

    def _address4(self, link: Link, end: End) -> IPv4Address | None:
        if f"link4:{link.circuit}" not in self.plan.by_id:
            return None
        a, b = self.plan.link4(link.circuit)
        return a if end == link.a else b


def router_id(plan: AddressPlan, topology: Topology, device: Device) -> IPv4Address:
    """Return a router's BGP identifier: the lowest IPv4 address of its links, which nobody else has (RFC 6286)."""
    own = []
    for link, mine, _ in topology.links_of(device.id):
        if link.network == EXTRANET and f"link4:{link.circuit}" in plan.by_id:
            a, b = plan.link4(link.circuit)
            own.append(a if mine == link.a else b)
    return min(own, default=IPv4Address(int(plan.loopback(device.id)) & 0xFFFFFFFF))
