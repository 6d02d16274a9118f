"""Hosts that no table names, plugged in where an old line still serves them: they keep talking over it.

Where a unit has a legacy router, the host sits on a port of that router which is in no table, in a range of the network
that nobody else has, with a route to it at the hub: what a colleague set up years ago. At the county it sits on the LAN
itself and goes to the towns by the hub, past the extranet. It lives in the process namespace of the lab's switch, so it
ends with the lab.
"""

from __future__ import annotations

import json
import subprocess
import time
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import NamedTuple

from inventory.errors import UnknownNameError
from inventory.model import Circuit, County, Model, Unit
from inventory.reader import load_county, restrict_to_towns
from lab import kernel
from lab.errors import LabError
from lab.nodes import exec_in, namespace_path, processes_of
from lab.state import LabState, NodeState

PORT = "spare1"
_MARK = "extranet-stowaway"
_FOUND_S = 5.0
_HOST_OF_LAN = 231

# Asks what is out of reach of nobody who should ask: a service by its address, and the router at the line's other end.
_TALK = f"""\
import socket, subprocess, sys, time
mark, address, gateway, reach, *targets = sys.argv[1:]
assert mark.startswith({_MARK!r})
def ip(*words):
    return subprocess.run(["ip", *words], capture_output=True).returncode == 0
while not ip("link", "show", "dev", "eth0"):
    time.sleep(0.02)
ip("addr", "add", address, "dev", "eth0"), ip("link", "set", "lo", "up"), ip("link", "set", "eth0", "up")
ip("route", "add", reach, "via", gateway)
while True:
    for target in targets:
        host, port = target.rsplit(":", 1)
        with socket.socket() as sock:
            sock.settimeout(0.3)
            try:
                sock.connect((host, int(port)))
            except OSError:
                pass
    time.sleep(0.2)
"""


class StowawayError(LabError):
    """A stowaway that cannot be put anywhere."""

    def __init__(self, unit: str, what: str, todo: str) -> None:
        super().__init__(f"{unit}: {what}; {todo}")


class Stowaway(Model):
    """A host in force: where it is plugged in and the addresses it uses. `router` holds a port for it, or None: the LAN."""

    unit: str
    address: str
    gateway: str
    router: str | None
    hub: str
    hub_route: str
    """The line that the hub was given for it; empty at the county."""


class _Place(NamedTuple):
    stowaway: Stowaway
    reach: IPv4Network
    targets: tuple[str, ...]


def put_stowaway(state: LabState, unit_id: str) -> Stowaway:
    """Plug an undeclared host in where a unit's old line serves it, and let it talk; returns once it is plugged in."""
    place = _find_place(state, unit_id)
    found = place.stowaway
    length = 24 if found.router is None else 28
    argv = [f"{found.address}/{length}", found.gateway, str(place.reach), *place.targets]
    quoted = " ".join(f"'{word}'" for word in argv)
    start = f"setsid unshare --net python3 -I -c \"$0\" '{_mark(unit_id)}' {quoted} >/dev/null 2>&1 </dev/null &"
    exec_in(state, state.switch.name, ["/bin/sh", "-c", start, _TALK])
    pid = _await_process(state, unit_id)
    if found.router is None:
        _plug_into_lan(state, found.hub, _lan_port_of_hub(state, unit_id), pid)
        return found
    with kernel.network_of(namespace_path(state.node(found.router))):
        _ip("link", "add", PORT, "type", "veth", "peer", "name", "eth0", "netns", str(pid))
        _ip("link", "set", PORT, "up")
    _configure(state, found.router, f"interface {PORT}", f"ip address {found.gateway}/28")
    _configure(state, found.hub, found.hub_route)
    return found


def take_stowaway(state: LabState, found: Stowaway) -> None:
    """Take a stowaway out again, with what was configured for it."""
    if found.router is not None:
        _configure(state, found.hub, f"no {found.hub_route}")
        _configure(state, found.router, f"interface {PORT}", f"no ip address {found.gateway}/28")
    for pid in _processes(state, found.unit):
        subprocess.run([kernel.find_tool("kill") or "kill", "-9", str(pid)], check=False, capture_output=True)
    if found.router is not None:
        with kernel.network_of(namespace_path(state.node(found.router))):
            _ip("link", "del", PORT, must=False)
        exec_in(state, found.router, ["vtysh", "-c", "configure", "-c", f"no interface {PORT}"])


def _find_place(state: LabState, unit_id: str) -> _Place:
    county = load_county(Path(state.county_dir))
    county = restrict_to_towns(county, state.towns) if state.towns is not None else county
    unit = county.unit_by_id.get(unit_id)
    if unit is None:
        raise UnknownNameError("unit", unit_id, county.unit_by_id, where="this lab")
    circuit = county.circuit_by_id[unit.circuit]
    own = [c for c in county.circuits if c.network == unit.network]
    hub = next(c.device for c in own if c.device and not c.far_device)
    if not hub:
        raise StowawayError(unit_id, "its network has no hub", "choose another unit")
    if circuit.device and not circuit.far_device:
        return _place_at_county(county, unit, hub, own)
    router = circuit.device or circuit.far_device or ""
    line = circuit if circuit.device else next(c for c in own if c.device == router and c.far_device)
    return _place_at_router(county, unit, hub, line)


def _place_at_county(county: County, unit: Unit, hub: str, own: list[Circuit]) -> _Place:
    spokes = [c.wan_prefix.network_address + 2 for c in own if c.wan_prefix is not None]
    if not spokes:
        raise StowawayError(unit.id, "its network has no lines", "choose another unit")
    found = Stowaway(
        unit=unit.id,
        address=str(unit.lan_prefix.network_address + _HOST_OF_LAN),
        gateway=str(unit.interconnect),
        router=None,
        hub=hub,
        hub_route="",
    )
    return _Place(found, county.network_by_id[unit.network].prefixes[0], (f"{spokes[0]}:23",))


def _place_at_router(county: County, unit: Unit, hub: str, line: Circuit) -> _Place:
    own = [c for c in county.circuits if c.network == unit.network]
    taken = [p for c in own for p in (c.lan_prefix, c.wan_prefix) if p is not None]
    whole = county.network_by_id[unit.network].prefixes[0]
    free = next(
        (n for n in reversed(list(whole.subnets(new_prefix=28))) if not any(n.overlaps(t) for t in taken)), None
    )
    if free is None or line.wan_prefix is None:
        raise StowawayError(unit.id, "its network has no range left for a stranger", "choose another unit")
    ends: tuple[IPv4Address, IPv4Address] = (line.wan_prefix.network_address + 1, line.wan_prefix.network_address + 2)
    at_hub = next(c.lan_prefix for c in own if c.device == hub and c.lan_prefix is not None)
    servers = [s for s in county.servers if s.plane == unit.plane and s.site == county.county_site.id]
    ports = {s.server: s.port for s in county.services}
    asked = [f"{at_hub.network_address + s.host}:{ports.get(s.id, 80)}" for s in servers]
    found = Stowaway(
        unit=unit.id,
        address=str(free.network_address + 5),
        gateway=str(free.network_address + 1),
        router=line.device,
        hub=hub,
        hub_route=f"ip route {free} {ends[1]}",
    )
    return _Place(found, whole, (*asked, f"{ends[0]}:23"))


def _lan_port_of_hub(state: LabState, unit_id: str) -> str:
    county = load_county(Path(state.county_dir))
    return county.circuit_by_id[county.unit_by_id[unit_id].circuit].lan_port or ""


def _plug_into_lan(state: LabState, hub: str, port: str, pid: int) -> None:
    """Plug a process's namespace into the LAN that a hub's port is in."""
    with kernel.network_of(namespace_path(state.node(hub))):
        index = json.loads(_ip("-j", "link", "show", "dev", port))[0]["link_index"]
    with kernel.network_of(namespace_path(state.switch)):
        bridge = next(row["master"] for row in json.loads(_ip("-j", "link")) if row["ifindex"] == index)
        _ip("link", "add", f"sw{pid}", "type", "veth", "peer", "name", "eth0", "netns", str(pid))
        _ip("link", "set", f"sw{pid}", "master", bridge, "up")


def _await_process(state: LabState, unit_id: str) -> int:
    """Return the pid of a stowaway once it has its own network; its program is in place by then."""
    ends = time.monotonic() + _FOUND_S
    own = _network_of(state.switch)
    while time.monotonic() < ends:
        for pid in _processes(state, unit_id):
            if _inode(pid) not in (own, 0):
                return pid
        time.sleep(0.02)
    raise StowawayError(unit_id, "the stowaway did not start", "is python3 in the lab's nodes?")


def _processes(state: LabState, unit_id: str) -> list[int]:
    found = []
    for pid in processes_of(state.switch):
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if words[:1] == [b"python3"] and _mark(unit_id).encode() in words:
            found.append(pid)
    return found


def _mark(unit_id: str) -> str:
    return f"{_MARK}:{unit_id}"


def _network_of(node: NodeState) -> int:
    return _inode(node.pid)


def _inode(pid: int) -> int:
    try:
        return Path(f"/proc/{pid}/ns/net").stat().st_ino
    except OSError:
        return 0


def _configure(state: LabState, router: str, *lines: str) -> None:
    words = [word for line in lines for word in ("-c", line)]
    done = exec_in(state, router, ["vtysh", "-c", "configure", *words])
    if done.returncode != 0:
        why = (done.stdout + done.stderr).strip().splitlines()[-1:]
        raise StowawayError(router, f"does not take {lines[-1]!r}: {' '.join(why)}", "see 'extranet lab status'")


def _ip(*words: str, must: bool = True) -> str:
    done = subprocess.run([kernel.find_tool("ip") or "ip", *words], capture_output=True, text=True, check=False)
    if done.returncode and must:
        raise StowawayError("ip", f"{' '.join(words)}: {done.stderr.strip()}", "see 'extranet lab status'")
    return done.stdout
