"""Cables: bridges and veths made straight between namespaces by one `ip -batch`, then brought up in place."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from ipaddress import IPv6Network, ip_interface, ip_network
from secrets import token_bytes

from lab import kernel
from lab.errors import LabBootError, MachineError
from lab.layout import MANAGEMENT, SWITCH, Jack, Layout, management_mac
from lab.nodes import NETNS_DIR

_ULA_BYTE = 0xFD
_DRAWS = 16
_ROOT_PORT = "rootport"
_MANAGEMENT_BRIDGE = "mgmt"


def root_link(identity: str) -> str:
    """Return the name of the lab's only interface in the machine's own namespace."""
    return f"xl{identity}"


def draw_prefix(wanted: str | None = None) -> IPv6Network:
    """Draw a random ULA /48 (RFC 4193 3.2) that meets no address or route of the machine; refuse when there is none."""
    taken = _machine_networks()
    for _ in range(1 if wanted else _DRAWS):
        network = IPv6Network(wanted) if wanted else IPv6Network((bytes([_ULA_BYTE]) + token_bytes(5) + bytes(10), 48))
        clash = next((t for t in taken if t.overlaps(network)), None)
        if clash is None:
            return network
    raise MachineError(
        f"the lab's management network {network} would overlap {clash}, which this machine uses",
        "take that route away, or set EXTRANET_LAB_PREFIX to a free /48 of your own",
    )


def _machine_networks() -> list[IPv6Network]:
    addresses = json.loads(_run_ip(["-6", "-json", "addr", "show"]) or "[]")
    routes = json.loads(_run_ip(["-6", "-json", "route", "show", "table", "all"]) or "[]")
    found = [
        ip_interface(f"{a['local']}/{a['prefixlen']}").network for link in addresses for a in link.get("addr_info", [])
    ]
    found += [ip_network(r["dst"], strict=False) for r in routes if r.get("dst", "default") != "default"]
    return [n for n in found if isinstance(n, IPv6Network) and n.prefixlen > 0 and not n.is_multicast]


def _run_ip(argv: list[str], lines: list[str] | None = None) -> str:
    done = subprocess.run(
        [kernel.find_tool("ip") or "ip", *argv],
        input="\n".join(lines) + "\n" if lines is not None else None,
        stdin=subprocess.DEVNULL if lines is None else None,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise LabBootError("ip", (done.stderr.strip() or f"exit {done.returncode}").splitlines()[0])
    return done.stdout


def remove_root_links(identity: str) -> list[str]:
    """Remove the lab's interface from the machine's own namespace; return what was removed."""
    name = root_link(identity)
    if name not in kernel.link_names():
        return []
    try:
        _run_ip(["link", "del", name])
    except LabBootError:
        if name in kernel.link_names():  # else it went by itself, with the namespace at its other end
            raise
    return [name]


def lay_cables(layout: Layout, pids: Mapping[str, int], identity: str) -> None:
    """Make every bridge and veth, and the machine's own leg on the management network."""

    def place(end: Jack) -> str:
        pid = pids[end.node]
        return f"/proc/{pid}/root{NETNS_DIR}/{end.plane}" if end.plane else f"/proc/{pid}/ns/net"

    def bridge(name: str) -> str:
        return f"link add {name} type bridge stp_state 0 forward_delay 0 mcast_snooping 0"

    lines = [bridge(_MANAGEMENT_BRIDGE)]
    for index, node in enumerate(n for n in layout.nodes.values() if n.kind != "switch"):
        lines.append(
            f"link add mp{index} master {_MANAGEMENT_BRIDGE} type veth peer name {MANAGEMENT}"
            f" address {management_mac(index + 1)} netns /proc/{pids[node.name]}/ns/net"
        )
    lines += [
        f"link add {w.a.interface} netns {place(w.a)} type veth peer name {w.b.interface} netns {place(w.b)}"
        for w in layout.wires
    ]
    for lan in layout.bridges:
        lines.append(bridge(lan.name))
        lines += [
            f"link add {port} master {lan.name} type veth peer name {end.interface} netns {place(end)}"
            for port, end in lan.ports
        ]
    switch = f"/proc/{pids[SWITCH]}/ns/net"
    with kernel.network_of(switch):
        _run_ip(["-batch", "-"], lines)
    name = root_link(identity)
    _run_ip(
        ["-batch", "-"],
        [f"link add {name} address {management_mac(0)} type veth peer name {_ROOT_PORT} netns {switch}"],
    )
    with kernel.network_of(switch):
        _run_ip(["link", "set", _ROOT_PORT, "master", _MANAGEMENT_BRIDGE])
        kernel.set_links(kernel.link_names(), up=True)
    neighbors = [
        f"neigh replace {node.address} lladdr {management_mac(index + 1)} dev {name} nud permanent"
        for index, node in enumerate(n for n in layout.nodes.values() if n.kind != "switch")
    ]
    _run_ip(
        ["-batch", "-"],
        [f"link set {name} up", f"addr add {layout.root_address}/64 dev {name} nodad", *neighbors],
    )


def bring_up(layout: Layout, pids: Mapping[str, int]) -> None:
    """Make VRF devices where they are used, and bring every node's interfaces up."""
    for node in layout.nodes.values():
        if node.kind == "switch":
            continue
        for plane in (None, *node.planes):
            path = f"/proc/{pids[node.name]}/root{NETNS_DIR}/{plane}" if plane else f"/proc/{pids[node.name]}/ns/net"
            with kernel.network_of(path):
                if plane is None and node.hardware:
                    _run_ip(["-batch", "-"], node.hardware)
                kernel.set_links(kernel.link_names(), up=True)
