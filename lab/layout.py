"""The lab as a value: which nodes, which cables, which files. Pure; `boot` makes it real."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from ipaddress import IPv6Address, IPv6Network
from typing import Literal

from addressing.model import AddressPlan
from inventory.model import County, PlaneKind, Protocol, Server, Service, Station
from inventory.topology import End, Lan, Topology
from lab import before, services
from lab.kernel import SEARCH_PATH
from lab.keys import Authority

MANAGEMENT = "mgmt0"
SWITCH = "lab-switch"
NODE_BIN = "/run/extranet/bin"
NODE_PATH = f"{NODE_BIN}:{SEARCH_PATH}"
_FIRST_HOST = 0x100
_VRF_TABLE_BASE = 1000
_FIRST_METRIC = 100
_FRR_ATTEMPTS = 4

_QUIET = {
    "net/ipv6/conf/{scope}/accept_dad": "0",
    "net/ipv6/conf/{scope}/dad_transmits": "0",
    "net/ipv6/conf/{scope}/accept_redirects": "0",
    "net/ipv4/conf/{scope}/rp_filter": "0",
    "net/ipv4/conf/{scope}/send_redirects": "0",
    "net/ipv4/conf/{scope}/accept_redirects": "0",
    # One station may have the same address on two legs: answer for a leg on that leg only.
    "net/ipv4/conf/{scope}/arp_ignore": "1",
    "net/ipv4/conf/{scope}/arp_announce": "2",
}
_ROUTER = {
    "net/ipv6/conf/{scope}/forwarding": "1",
    # zebra does not put IPv6 addresses back when an interface comes up again.
    "net/ipv6/conf/{scope}/keep_addr_on_down": "1",
    "net/ipv4/conf/{scope}/forwarding": "1",
}
_TRACED_AS_HARDWARE = {
    # Linux tells one asker `time exceeded` once a second; routers of this class a hundred times.
    "net/ipv6/icmp/ratelimit": "10",
    "net/ipv4/icmp_ratelimit": "10",
}
_STATION = {"net/ipv6/conf/{scope}/accept_ra": "2", "net/ipv6/conf/{scope}/use_tempaddr": "0"}
_SERVER = {"net/ipv6/conf/{scope}/accept_ra": "0"}
_SWITCH = {"net/ipv6/conf/{scope}/disable_ipv6": "1"}

NodeKind = Literal["router", "station", "server", "switch"]


@dataclass(frozen=True, slots=True)
class File:
    """A file of a node: its text, mode and owner."""

    text: str
    mode: int = 0o644
    owner: Literal["root", "frr"] = "root"


@dataclass(slots=True)
class Node:
    """A node to be born. Paths of files are those inside the node; they lie below /etc, /var or /root."""

    name: str
    kind: NodeKind
    site: str = ""
    network: str = ""
    address: IPv6Address | None = None
    planes: tuple[str, ...] = ()
    """VRFs that get a network namespace of their own."""
    hardware: list[str] = field(default_factory=list)
    """`ip -batch` lines run once when the cables are in: VRF devices."""
    network_lines: list[str] = field(default_factory=list)
    """`ip -batch` lines run at every start."""
    daemons: tuple[str, ...] = ()
    start_lines: list[str] = field(default_factory=list)
    """Shell lines of the start, after the network."""
    files: dict[str, File] = field(default_factory=dict)
    sysctls: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Jack:
    """Where a cable ends: an interface of a node, in a namespace inside it (None: the node's own)."""

    node: str
    interface: str
    plane: str | None = None


@dataclass(frozen=True, slots=True)
class Wire:
    """A cable between two nodes. `link` and `circuit` name it for faults; links inside a router have none."""

    a: Jack
    b: Jack
    link: str = ""
    circuit: str = ""


@dataclass(slots=True)
class Bridge:
    """A LAN: the switch's bridge `name` and who is plugged in, as (port of the switch, far end).

    `lines` maps the port of an old line to the unit it serves.
    """

    name: str
    lan: str
    ports: list[tuple[str, Jack]] = field(default_factory=list)
    lines: dict[str, str] = field(default_factory=dict)


class Layout:
    """Everything a lab consists of."""

    def __init__(self, prefix: IPv6Network) -> None:
        self.prefix = prefix
        self.nodes: dict[str, Node] = {}
        self.wires: list[Wire] = []
        self.bridges: list[Bridge] = []

    @property
    def management(self) -> IPv6Network:
        """The /64 of management addresses."""
        return next(self.prefix.subnets(new_prefix=64))

    @property
    def root_address(self) -> IPv6Address:
        """The machine's own address on the management network."""
        return self.management.network_address + 1


def management_mac(index: int) -> str:
    """Return the fixed MAC of the n-th management interface, so that no neighbour has to be asked for."""
    return f"02:00:5e:00:{index >> 8 & 255:02x}:{index & 255:02x}"


def make_layout(
    county: County,
    topology: Topology,
    plan: AddressPlan,
    backend: before.VrfBackend,
    *,
    prefix: IPv6Network,
    authority: Authority,
) -> Layout:
    """Return the lab for a county (or a part of it). The plan is always that of the whole county."""
    layout = Layout(prefix)
    switch = Node(SWITCH, "switch")
    switch.sysctls = _spread(_SWITCH)
    layout.nodes[SWITCH] = switch
    speakers = before.bgp_speakers(county)
    for device in county.devices:
        layout.nodes[device.id] = _router(county, topology, plan, device.id, backend, bgp=device.id in speakers)
    for server in county.servers:
        layout.nodes[server.id] = _server(county, plan, server, authority)
    for station in county.stations:
        node = _station(county, plan, station)
        node.files |= _resolver_files(county, plan, station)
        node.files["/etc/extranet/ca.pem"] = File(authority.certificate)
        layout.nodes[station.id] = node
    for index, node in enumerate(n for n in layout.nodes.values() if n.kind != "switch"):
        node.address = layout.management.network_address + _FIRST_HOST + index
        node.network_lines = [
            f"addr replace {node.address}/64 dev {MANAGEMENT} nodad",
            f"neigh replace {layout.root_address} lladdr {management_mac(0)} dev {MANAGEMENT} nud permanent",
            *node.network_lines,
        ]
    _lay_cables(topology, layout, backend)
    return layout


def _spread(table: dict[str, str]) -> dict[str, str]:
    """Set a value for interfaces that are there and those to come."""
    return {path.format(scope=scope): value for path, value in table.items() for scope in ("all", "default")}


def _resolver_files(county: County, plan: AddressPlan, station: Station) -> dict[str, File]:
    """A station's own resolver configuration: the host's file, and one for each leg of a department.

    A department's leg has no way to the name server's IPv4, so it would wait for nothing there.
    """
    dedicated = [p for p in station.planes if county.plane_by_id[p].kind is PlaneKind.DEDICATED]
    out = {"/etc/resolv.conf": File(_resolver_lines(county, plan, county.services, ipv4=True))}
    for plane in dedicated:
        own = [s for s in county.services if plane in s.from_planes]
        out[leg_resolver_file(plane)] = File(_resolver_lines(county, plan, own, ipv4=False))
    return out


def leg_resolver_file(plane: str) -> str:
    """Return the path of a leg's own resolver configuration (ip-netns(8))."""
    return f"/etc/netns/{plane}/resolv.conf"


def _resolver_lines(county: County, plan: AddressPlan, offered: Iterable[Service], *, ipv4: bool) -> str:
    lines = [f"search {county.policy.dns_domain}"]
    for s in offered:
        server = county.server_by_id.get(s.server)
        if s.protocol is Protocol.DNS and server is not None:
            lines.append(f"nameserver {plan.host6(server.site, server.plane, server.host).ip}")
            address4 = services.server_ipv4(county, plan, server) if ipv4 else None
            lines += [f"nameserver {address4.ip}"] if address4 else []
    return "\n".join([*lines, "options timeout:1 attempts:1"]) + "\n"


def _router(
    county: County, topology: Topology, plan: AddressPlan, name: str, backend: before.VrfBackend, *, bgp: bool
) -> Node:
    device = county.device_by_id[name]
    node = Node(name, "router", site=device.site, network=device.network)
    vrfs = topology.vrfs_of(name)
    node.sysctls = _spread(_QUIET) | _spread(_ROUTER) | _TRACED_AS_HARDWARE
    if backend == "netns":
        node.planes = vrfs
    else:
        for vrf in vrfs:
            table = _VRF_TABLE_BASE + county.plane_by_id[vrf].vlan
            node.hardware += [f"link add {vrf} type vrf table {table}", f"link set {vrf} up"]
    node.daemons = ("zebra", "staticd", "bgpd") if bgp else ("zebra", "staticd")
    node.start_lines = _frr_start(node.daemons, namespaced=backend == "netns" and bool(vrfs))
    node.files = {
        "/etc/frr/frr.conf": File(before.render_before(county, topology, plan, device, backend), 0o640, "frr"),
        "/etc/frr/vtysh.conf": File("", 0o640, "frr"),
    }
    return node


def _frr_start(daemons: tuple[str, ...], *, namespaced: bool) -> list[str]:
    """Shell lines that start FRR and load its saved configuration.

    zebra 8.4 now and then loses a namespace at its start: the identifier's answer is thrown away when the clock's
    second changes in between ("bad sequence number", "Invalid NSID"). Loading then fails, and a new start mends it.
    """
    common = "-d -P 0 -F datacenter --log file:/var/log/frr/frr.log --log-level notifications"
    starts = [f"/usr/lib/frr/{d} {common}{' -n' if namespaced and d == 'zebra' else ''}" for d in daemons]
    return [
        f"frr() {{ {' && '.join(starts)} && vtysh -b; }}",
        f"attempts={_FRR_ATTEMPTS}",
        "until frr >/run/extranet/frr.out 2>&1; do",
        "  attempts=$((attempts - 1))",
        "  [ $attempts -gt 0 ] || fail frr /run/extranet/frr.out",
        "  kill -9 $(cat /run/frr/*.pid 2>/dev/null) 2>/dev/null",
        "  sleep 0.3",
        "  rm -rf /run/frr/*",
        "done",
    ]


def _server(county: County, plan: AddressPlan, server: Server, authority: Authority) -> Node:
    node = Node(server.id, "server", site=server.site)
    node.sysctls = _spread(_QUIET) | _spread(_SERVER)
    leg = server.plane
    host6 = plan.host6(server.site, server.plane, server.host)
    gateway6 = plan.gateway6(server.site, server.plane).ip
    node.network_lines = [
        f"addr replace {host6} dev {leg} nodad",
        f"route replace ::/0 via {gateway6} dev {leg}",
    ]
    host4 = services.server_ipv4(county, plan, server)
    if host4 is not None:
        unit = county.unit_by_lan.get((server.site, server.plane))
        dedicated = county.plane_by_id[server.plane].kind is PlaneKind.DEDICATED
        extranet_gateway = plan.gateway4(server.site, server.plane)
        gateway4 = unit.gateway if dedicated and unit else extranet_gateway.ip if extranet_gateway else None
        node.network_lines.append(f"addr replace {host4} dev {leg}")
        node.network_lines += [f"route replace default via {gateway4} dev {leg}"] if gateway4 else []
    offered = services.services_of(county, server)
    for path, text in services.nginx_files(offered, authority).items():
        node.files[path] = File(text, 0o600 if path.endswith(".key") else 0o644)
    daemons = []
    if "/etc/extranet/nginx.conf" in node.files:
        daemons.append("nginx")
        node.start_lines.append(
            "nginx -c /etc/extranet/nginx.conf >/run/extranet/nginx.out 2>&1 || fail nginx /run/extranet/nginx.out"
        )
    if any(s.protocol is Protocol.DNS for s in offered):
        daemons.append("unbound")
        node.files["/etc/extranet/unbound.conf"] = File(services.unbound_config(county, plan))
        node.start_lines.append(
            "unbound -c /etc/extranet/unbound.conf >/run/extranet/unbound.out 2>&1"
            " || fail unbound /run/extranet/unbound.out"
        )
    node.daemons = tuple(daemons)
    return node


def _station(county: County, plan: AddressPlan, station: Station) -> Node:
    node = Node(station.id, "station", site=station.site)
    node.sysctls = _spread(_QUIET) | _spread(_STATION)
    for index, plane in enumerate(station.planes):
        node.network_lines.append(f"token set ::{station.host:x} dev {plane}")
        for address, gateway in _legs4(county, plan, station, plane):
            node.network_lines += [
                f"addr replace {address} dev {plane}",
                f"route replace default via {gateway} dev {plane} metric {_FIRST_METRIC + index}",
            ]
    return node


def _legs4(county: County, plan: AddressPlan, station: Station, plane: str) -> Iterator[tuple[str, str]]:
    """A leg's IPv4 address and gateway: the department's own, or the extranet's in the public plane."""
    if county.plane_by_id[plane].kind is PlaneKind.DEDICATED:
        unit = county.unit_by_lan.get((station.site, plane))
        if unit is not None:
            yield f"{unit.lan_prefix.network_address + station.host}/{unit.lan_prefix.prefixlen}", str(unit.gateway)
        return
    host4, gateway4 = plan.host4(station.site, plane, station.host), plan.gateway4(station.site, plane)
    if host4 is not None and gateway4 is not None:
        yield str(host4), str(gateway4.ip)


def _lay_cables(topology: Topology, layout: Layout, backend: before.VrfBackend) -> None:
    def jack(end: End) -> Jack:
        if end.vrf and backend == "device":
            layout.nodes[end.device].hardware.append(f"link set {end.interface} master {end.vrf}")
        return Jack(end.device, end.interface, end.vrf if backend == "netns" else None)

    for link in topology.links:
        if link.a.device in layout.nodes and link.b.device in layout.nodes:
            layout.wires.append(Wire(jack(link.a), jack(link.b), link.id, link.circuit))
    layout.wires += [Wire(jack(h.inner), jack(h.outer)) for h in topology.hairpins]
    number = 0
    for index, lan in enumerate(topology.lans):
        bridge = _lan_bridge(f"br{index}", lan, layout, number, jack)
        number += len(bridge.ports)
        layout.bridges.append(bridge)


def _lan_bridge(name: str, lan: Lan, layout: Layout, first: int, jack: Callable[[End], Jack]) -> Bridge:
    legacy = lan.legacy if lan.legacy and lan.legacy.device in layout.nodes else None
    ends = [jack(lan.gateway)]
    ends += [jack(legacy)] if legacy else []
    ends += [Jack(who, lan.plane) for who in (*lan.stations, *lan.servers) if who in layout.nodes]
    bridge = Bridge(name, lan.id, [(f"pt{first + offset}", end) for offset, end in enumerate(ends)])
    if lan.unit and legacy:
        bridge.lines[bridge.ports[1][0]] = lan.unit
    return bridge
