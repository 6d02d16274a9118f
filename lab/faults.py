"""Faults on demand: lines cut, narrowed or slowed, routers stopped, packets of one kind dropped, SSH sessions killed.

Strangers are plugged in and lines made to flap.

And what ordinary mistakes leave behind: a route over the old line, a leak between VRFs, a wrong back end, a wrong
certificate, an old address in the name server.

Faults in force stand in `faults.json` in the lab's runtime folder, so that `status` shows them and `restore` undoes
exactly what was done.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shlex
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator
from enum import StrEnum
from ipaddress import ip_address
from pathlib import Path

from pydantic import Field

from inventory.errors import UnknownNameError
from inventory.model import County, Model, Protocol
from lab import kernel
from lab.errors import LabBootError, LabError, miss_plane
from lab.layout import MANAGEMENT, leg_resolver_file
from lab.nodes import NETNS_DIR, START, exec_in, namespace_path, processes_of
from lab.state import Cable, CableEnd, LabState, NodeState, replace_file, runtime_dir
from lab.stowaways import Stowaway, put_stowaway, take_stowaway

_TABLE = "inet extranet_fault"
_EARLY = -300
_NGINX = "/etc/extranet/nginx.conf"
_BACK_END = """\
import socketserver, sys
class Answer(socketserver.BaseRequestHandler):
    def handle(self):
        self.request.settimeout(30)
        self.request.sendall(sys.argv[3].encode())
        while self.request.recv(4096):  # who asks hangs up first, so that nothing of it stays on this router
            pass
socketserver.ThreadingTCPServer.allow_reuse_address = True
socketserver.ThreadingTCPServer((sys.argv[1], int(sys.argv[2])), Answer).serve_forever()
"""
_MTU_BYTES = 1500
_POWER_OFF = f"""\
kill -9 -1
for f in /run/* /run/.[!.]*; do
  case $f in
    {NETNS_DIR}|/run/sshd|/run/lock) ;;
    /run/extranet) find $f -mindepth 1 -maxdepth 1 ! -name bin -exec rm -rf {{}} + ;;
    /run/frr) rm -rf /run/frr/* ;;
    *) rm -rf "$f" ;;
  esac
done
rm -rf /run/lock/* /tmp/*
"""


class What(StrEnum):
    """Kinds of packets that can be dropped. `icmp` spares neighbour discovery: the LAN itself keeps working."""

    ICMP = "icmp"
    TCP = "tcp"
    UDP = "udp"
    IPV6 = "ipv6"
    TOO_BIG = "icmp-too-big"


_MATCHES = {
    What.ICMP: (
        "meta l4proto icmp",
        "icmpv6 type { 1, 2, 3, 4, 128, 129 }",  # errors and echo
    ),
    What.TCP: ("meta l4proto tcp",),
    What.UDP: ("meta l4proto udp",),
    What.IPV6: ("meta nfproto ipv6 meta l4proto != ipv6-icmp", "icmpv6 type { 1, 2, 3, 4, 128, 129 }"),
    What.TOO_BIG: ("icmpv6 type packet-too-big", "icmp type destination-unreachable icmp code frag-needed"),
}


class Cut(Model):
    """A cable that is cut. `was_up` says whether to bring its interface up again."""

    cable: Cable
    was_up: bool


class Drop(Model):
    """A rule in force in one namespace of a node."""

    node: str
    plane: str | None
    what: What
    port: int | None = Field(default=None, ge=1, le=65535)


class Lean(Model):
    """A plain TCP service whose front end at `server` fetches its answers from `router`, over an old line, at `address`."""

    service: str
    server: str
    router: str
    address: str
    port: int


class Order(Model):
    """A program to run in a node, in the VRF `plane` where one is named."""

    node: str
    plane: str | None = None
    argv: tuple[str, ...]
    text: str | None = None


class Alteration(Model):
    """Something altered, under a name of its own, with the orders that undo it."""

    name: str
    words: str
    undo: tuple[Order, ...]


class Faults(Model):
    """All faults in force."""

    cuts: tuple[Cut, ...] = ()
    drops: tuple[Drop, ...] = ()
    stopped: tuple[str, ...] = ()
    leans: tuple[Lean, ...] = ()
    alterations: tuple[Alteration, ...] = ()
    stowaways: tuple[Stowaway, ...] = ()


class FaultError(LabError):
    """A fault that cannot be made or undone."""

    def __init__(self, name: str, what: str, todo: str) -> None:
        super().__init__(f"{name}: {what}; {todo}")


def read_faults(state: LabState) -> Faults:
    """Return the faults in force."""
    try:
        return Faults.model_validate_json((runtime_dir(state.id) / "faults.json").read_bytes())
    except FileNotFoundError:
        return Faults()


@contextlib.contextmanager
def _changing(state: LabState) -> Iterator[list[Faults]]:
    """Read, change and write the faults while no other command does; the body replaces the list's one element."""
    folder = runtime_dir(state.id)
    fd = os.open(folder / "faults.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        box = [read_faults(state)]
        try:
            yield box
        finally:
            replace_file(folder / "faults.json", box[0].model_dump_json(indent=1))
    finally:
        os.close(fd)


def find_cables(state: LabState, name: str) -> tuple[Cable, ...]:
    """Return the cables of a link or a circuit; raises NotInLabError or UnknownNameError."""
    found = tuple(c for c in state.cables if name in (c.link, c.circuit))
    if not found:
        known = {n for c in state.cables for n in (c.link, c.circuit)}
        raise state.missing("link or circuit", name, known)
    return found


def cut(state: LabState, name: str) -> tuple[Cable, ...]:
    """Cut a link or every link of a circuit: both ends lose their carrier. Return the cables cut now."""
    cables = find_cables(state, name)
    with _changing(state) as box:
        already = {c.cable.link for c in box[0].cuts}
        fresh = tuple(c for c in cables if c.link not in already)
        for cable in fresh:
            was_up = bool(_switch_cable(state, cable, up=False))
            box[0] = box[0].model_copy(update={"cuts": (*box[0].cuts, Cut(cable=cable, was_up=was_up))})
    return fresh


def restore(state: LabState, name: str) -> tuple[Cable, ...]:
    """Mend a link or circuit that was cut. Return the cables mended now."""
    wanted = {c.link for c in find_cables(state, name)}
    mended = []
    with _changing(state) as box:
        for one in box[0].cuts:
            if one.cable.link not in wanted:
                continue
            if one.was_up and one.cable.node not in box[0].stopped:
                _switch_cable(state, one.cable, up=True)
            mended.append(one.cable)
            rest = tuple(c for c in box[0].cuts if c.cable.link != one.cable.link)
            box[0] = box[0].model_copy(update={"cuts": rest})
    return tuple(mended)


def flap(state: LabState, name: str, *, times: int = 3, dark_s: float = 0.2) -> tuple[Cable, ...]:
    """Let a link (or every link of a circuit) lose and find its carrier some times; it is up at the end."""
    cables = find_cables(state, name)
    with _changing(state) as box:
        for one in box[0].cuts:
            if one.cable in cables:
                raise FaultError(name, "is cut", f"mend it first with 'extranet lab fault restore {name}'")
        for _ in range(times):
            switched = [cable for cable in cables if _switch_cable(state, cable, up=False)]
            time.sleep(dark_s)
            for cable in switched:
                _switch_cable(state, cable, up=True)
            time.sleep(dark_s)
    return cables


def stow(state: LabState, unit: str) -> Stowaway:
    """Plug an undeclared host in where a unit's old line serves it; it keeps talking over it."""
    with _changing(state) as box:
        if any(s.unit == unit for s in box[0].stowaways):
            raise FaultError(unit, "has a stowaway already", f"take it out with 'extranet lab fault unstow {unit}'")
        found = put_stowaway(state, unit)
        box[0] = box[0].model_copy(update={"stowaways": (*box[0].stowaways, found)})
    return found


def unstow(state: LabState, unit: str) -> bool:
    """Take a unit's stowaway out again; tell whether there was one."""
    with _changing(state) as box:
        gone = [s for s in box[0].stowaways if s.unit == unit]
        for one in gone:
            take_stowaway(state, one)
        box[0] = box[0].model_copy(update={"stowaways": tuple(s for s in box[0].stowaways if s.unit != unit)})
    return bool(gone)


def _switch_cable(state: LabState, cable: Cable, *, up: bool) -> list[str]:
    node = next(n for n in state.nodes if n.name == cable.node)
    with kernel.network_of(namespace_path(node, cable.plane)):
        return kernel.set_links([cable.interface], up=up)


def _namespaces(node: NodeState) -> Iterable[str | None]:
    return (None, *node.planes)


def stop(state: LabState, name: str) -> None:
    """Power a node off: every process ends, its ports go dark, what was not saved is lost."""
    node = state.node(name)
    with _changing(state) as box:
        if name in box[0].stopped:
            raise FaultError(name, "already stopped", f"start it with 'extranet lab fault start {name}'")
        exec_in(state, name, ["/bin/sh", "-c", _POWER_OFF])
        for plane in _namespaces(node):
            with kernel.network_of(namespace_path(node, plane)):
                _run(["nft", "flush", "ruleset"])
                _run(["ip", "addr", "flush", "scope", "global"])
                kernel.set_links([link for link in kernel.link_names() if link != "lo"], up=False)
                for family in ("-4", "-6"):
                    _run(["ip", family, "route", "flush", "table", "main"])
        drops = tuple(d for d in box[0].drops if d.node != name)
        box[0] = box[0].model_copy(update={"stopped": (*box[0].stopped, name), "drops": drops})


def start(state: LabState, name: str) -> None:
    """Power a stopped node on: it starts from what it has saved."""
    node = state.node(name)
    with _changing(state) as box:
        if name not in box[0].stopped:
            raise FaultError(name, "is not stopped", "see 'extranet lab status'")
        dark = {(c.cable.plane, c.cable.interface) for c in box[0].cuts if c.cable.node == name}
        for plane in _namespaces(node):
            with kernel.network_of(namespace_path(node, plane)):
                kernel.set_links([link for link in kernel.link_names() if (plane, link) not in dark], up=True)
        done = exec_in(state, name, ["/bin/sh", "-c", f"( . {START} ) >/dev/null 2>&1 </dev/null"])
        if done.returncode != 0:
            why = exec_in(state, name, ["cat", "/run/extranet/failed"]).stdout.strip()
            raise LabBootError(
                name, why or "did not start", "its ports are up; mend its saved configuration and start it again"
            )
        box[0] = box[0].model_copy(update={"stopped": tuple(n for n in box[0].stopped if n != name)})


def drop(
    state: LabState, name: str, what: What, *, port: int | None = None, plane: str | None = None
) -> tuple[Drop, ...]:
    """Drop packets of one kind that a node receives, forwards or sends; management is spared.

    Without `plane`, a router that keeps VRFs in namespaces drops them in all of its planes.
    """
    node = state.node(name)
    if port is not None and what not in {What.TCP, What.UDP}:
        raise FaultError(name, f"--port goes with tcp or udp, found {what}", "leave the port out")
    if plane is not None and plane not in node.planes and not (node.kind == "router" and state.facts.vrf_devices):
        raise miss_plane(name, plane, node.planes)
    planes: tuple[str | None, ...] = (plane,) if plane else node.planes or (None,)
    made = tuple(Drop(node=name, plane=p, what=what, port=port) for p in planes)
    with _changing(state) as box:
        drops = (*box[0].drops, *(d for d in made if d not in box[0].drops))
        _apply_drops(state, node, drops)
        box[0] = box[0].model_copy(update={"drops": drops})
    return made


def undrop(state: LabState, name: str, what: What | None = None, *, plane: str | None = None) -> tuple[Drop, ...]:
    """Take drops of a node away: all, or only those of a kind or plane. Return those taken away."""
    node = state.node(name)
    with _changing(state) as box:
        gone = tuple(
            d
            for d in box[0].drops
            if d.node == name and (what is None or d.what is what) and (plane is None or d.plane == plane)
        )
        drops = tuple(d for d in box[0].drops if d not in gone)
        _apply_drops(state, node, drops)
        box[0] = box[0].model_copy(update={"drops": drops})
    return gone


def render_drops(drops: Iterable[Drop], *, device: str | None = None) -> str:
    """Return the nftables script that puts exactly these drops of one namespace in force.

    `device` is the VRF device of the plane where planes are not namespaces of their own.
    """
    rules: dict[str, list[str]] = {"prerouting": [], "output": []}
    for one in drops:
        for match in _MATCHES[one.what]:
            for ends in [f"th dport {one.port}", f"th sport {one.port}"] if one.port else [""]:
                for hook, key in (("prerouting", "iifname"), ("output", "oifname")):
                    where = f'{key} "{device}"' if device else f'{key} != "{MANAGEMENT}"'
                    rules[hook].append(" ".join(f"{where} {match} {ends} counter drop".split()))
    lines = [f"table {_TABLE} {{}}", f"delete table {_TABLE}"]
    if any(rules.values()):
        lines.append(f"table {_TABLE} {{")
        for hook, found in rules.items():
            lines += [
                f" chain {hook} {{",
                f"  type filter hook {hook} priority {_EARLY};",
                *(f"  {r}" for r in found),
                " }",
            ]
        lines.append("}")
    return "\n".join(lines) + "\n"


def _apply_drops(state: LabState, node: NodeState, drops: tuple[Drop, ...]) -> None:
    own = [d for d in drops if d.node == node.name]
    for plane in _namespaces(node):
        here = [d for d in own if d.plane == plane]
        script = render_drops(here)
        if state.facts.vrf_devices and plane is None:
            by_device = {d.plane for d in own if d.plane}
            parts = [render_drops([d for d in own if d.plane == p], device=p) for p in sorted(by_device)]
            script = script if not parts else _joined([script, *parts])
        with kernel.network_of(namespace_path(node, plane)):
            _run(["nft", "-f", "-"], script)


def _joined(scripts: list[str]) -> str:
    """Join scripts for one table: it is cleared once, by the first."""
    head, *rest = scripts
    return head + "".join("\n".join(s.splitlines()[2:]) + "\n" for s in rest)


def lean(state: LabState, county: County, service: str, circuit: str) -> Lean:
    """Make a TCP service lean on a town's old line: its answers come from behind it, so that only its loss shows that.

    The way there is the hub's address on the server's LAN, so the county's unit must have been cut over.
    """
    found, line = county.service_by_id.get(service), county.circuit_by_id.get(circuit)
    if found is None:
        raise UnknownNameError("service", service, county.service_by_id)
    if line is None:
        raise UnknownNameError("circuit", circuit, county.circuit_by_id)
    server = county.server_by_id[found.server]
    unit = county.unit_by_lan.get((server.site, server.plane))
    if found.protocol is not Protocol.TCP or unit is None or unit.network != line.network or not line.wan_prefix:
        todo = "name a TCP service of a department, and a town's line of the same department"
        raise FaultError(service, f"cannot lean on {circuit}", todo)
    one = Lean(
        service=service,
        server=server.id,
        router=line.device or "",
        address=str(line.wan_prefix.network_address + 2),
        port=found.port,
    )
    with _changing(state) as box:
        if any(x.service == service for x in box[0].leans):
            raise FaultError(service, "leans already", f"stand it up again with 'extranet lab fault unlean {service}'")
        # A session of its own, so that it outlives this command; it ends with its node.
        back_end = ["python3", "-c", _BACK_END, one.address, str(one.port), f"{service} ready\n"]
        quoted = " ".join(shlex.quote(word) for word in back_end)
        _in_node(state, one.router, f"setsid {quoted} >/dev/null 2>&1 </dev/null &")
        _in_node(state, one.server, f"ip route replace {one.address}/32 via {unit.interconnect}")
        edit = f's/return "{service} ready[^;]*;/proxy_pass {one.address}:{one.port};/'
        _in_node(
            state,
            one.server,
            f"cp {_NGINX} {_NGINX}.upright && sed -i {shlex.quote(edit)} {_NGINX} && nginx -c {_NGINX} -s reload",
        )
        box[0] = box[0].model_copy(update={"leans": (*box[0].leans, one)})
    return one


def unlean(state: LabState, service: str) -> Lean:
    """Have a service answer by itself again."""
    with _changing(state) as box:
        one = next((x for x in box[0].leans if x.service == service), None)
        if one is None:
            raise FaultError(service, "leans on nothing", "see 'extranet lab status'")
        _in_node(state, one.server, f"mv {_NGINX}.upright {_NGINX} && nginx -c {_NGINX} -s reload")
        _in_node(state, one.server, f"ip route del {one.address}/32 || true")
        _in_node(state, one.router, f"pkill -f '[ ]{one.address} {one.port} ' || true")
        box[0] = box[0].model_copy(update={"leans": tuple(x for x in box[0].leans if x != one)})
    return one


def _in_node(state: LabState, node: str, script: str) -> None:
    done = exec_in(state, node, ["/bin/sh", "-c", script], timeout_s=20)
    if done.returncode != 0:
        why = (done.stderr.strip() or f"exit {done.returncode}").splitlines()[-1]
        raise FaultError(node, why, "see 'extranet lab status'")


def narrow(state: LabState, name: str, mtu_bytes: int, *, silently: bool = False) -> Alteration:
    """Let a link or circuit carry packets of at most so many bytes.

    Its routers say so to whoever sends larger ones; with `silently` only the far end is narrow and nobody says a word:
    larger packets towards it vanish.
    """
    cables = find_cables(state, name)
    ends = [e for c in cables for e in (c.ends[-1:] if silently else c.ends)]
    return _alter(
        state,
        f"mtu {name}",
        f"{name} carries {mtu_bytes} bytes{', silently' if silently else ''}",
        [_ip(e, "link", "set", e.interface, "mtu", str(mtu_bytes)) for e in ends],
        [_ip(e, "link", "set", e.interface, "mtu", str(_MTU_BYTES)) for e in ends],
    )


def slow(state: LabState, name: str, kbps: int) -> Alteration:
    """Let a link or circuit carry only so many kbit/s, each way."""
    ends = [e for c in find_cables(state, name) for e in c.ends]
    shape = ("root", "tbf", "rate", f"{kbps}kbit", "burst", "8kb", "latency", "200ms")

    def tc(end: CableEnd, *words: str) -> Order:
        return Order(node=end.node, plane=end.plane, argv=("tc", "qdisc", *words))

    return _alter(
        state,
        f"slow {name}",
        f"{name} carries {kbps} kbit/s",
        [tc(e, "replace", "dev", e.interface, *shape) for e in ends],
        [tc(e, "del", "dev", e.interface, "root") for e in ends],
    )


def detour(state: LabState, name: str, network: str, via: str, *, plane: str | None = None) -> Alteration:
    """Route a network by another neighbour in one node, as a forgotten static route does: `via` is that neighbour."""
    family = "-6" if ":" in via else "-4"

    def route(verb: str) -> Order:
        return Order(node=name, plane=plane, argv=("ip", family, "route", verb, network, "via", via, "metric", "1"))

    state.node(name)
    words = f"{name} reaches {network} by {via}"
    return _alter(state, f"detour {name} {network}", words, [route("add")], [route("del")])


def leak(state: LabState, name: str, one: str, other: str) -> Alteration:
    """Leak the routes of two VRFs of a router into each other, as a wrong import does."""
    node = state.node(name)
    for plane in (one, other):
        if plane not in node.planes:
            raise miss_plane(name, plane, node.planes)
    undo = [Order(node=name, plane=one, argv=("ip", "link", "del", "leak-a"))]
    words = f"{name} leaks between {one} and {other}"
    return _alter(state, f"leak {name} {one} {other}", words, _leak_orders(state, name, one, other), undo)


def _leak_orders(state: LabState, name: str, one: str, other: str) -> Iterator[Order]:
    """Join two VRFs by a cable, then give each the other's routes; what is there is asked when its turn comes."""
    spaces = [f"{NETNS_DIR}/{plane}" for plane in (one, other)]
    cable = ("type", "veth", "peer", "name", "leak-b", "netns", spaces[1])
    yield Order(node=name, argv=("ip", "link", "add", "leak-a", "netns", spaces[0], *cable))
    ports = {one: "leak-a", other: "leak-b"}
    for plane, port in ports.items():
        yield Order(node=name, plane=plane, argv=("ip", "link", "set", port, "up"))
    routes = {plane: _routes(state, name, plane) for plane in ports}
    for plane, far in ((one, other), (other, one)):
        next_hop = _link_local(state, name, far, ports[far])
        for family, network in routes[far]:
            if (family, network) not in routes[plane]:
                via = ("via", next_hop) if family == "-6" else ("via", "inet6", next_hop)
                argv = ("ip", family, "route", "add", network, *via, "dev", ports[plane])
                yield Order(node=name, plane=plane, argv=argv)


def _routes(state: LabState, name: str, plane: str) -> list[tuple[str, str]]:
    """Return what a VRF routes, as (family option, network), without defaults and link-local networks."""
    out = []
    for family in ("-6", "-4"):
        found = json.loads(
            _carry_out(state, Order(node=name, plane=plane, argv=("ip", "-json", family, "route"))) or "[]"
        )
        out += [(family, r["dst"]) for r in found if r["dst"] != "default" and not r["dst"].startswith("fe80")]
    return out


def _link_local(state: LabState, name: str, plane: str, port: str) -> str:
    """Return the link-local address of a port, waiting until it has one."""
    for _ in range(50):
        argv = ("ip", "-json", "-6", "addr", "show", "dev", port, "scope", "link")
        found = json.loads(_carry_out(state, Order(node=name, plane=plane, argv=argv)) or "[]")
        for address in (a["local"] for link in found for a in link.get("addr_info", ())):
            return str(address)
        time.sleep(0.1)
    raise FaultError(name, f"port {port} in {plane} got no link-local address", "see 'extranet lab status'")


def answer_wrongly(state: LabState, server: str, service: str, marker: str) -> Alteration:
    """Let a service's port be answered by another back end, which says `marker`."""
    pattern = (
        f's/return 200 "{service}\\\\n"/return 200 "{marker}\\\\n"/; s/return "{service} ready/return "{marker} ready/'
    )
    return _alter(
        state,
        f"backend {server} {service}",
        f"{server}: {service} is answered by {marker}",
        _rewritten(server, "nginx.conf", pattern, _RELOAD_NGINX),
        _restored(server, "nginx.conf", _RELOAD_NGINX),
    )


def show_certificate(state: LabState, server: str, service: str, other_server: str, other: str) -> Alteration:
    """Let a service show the certificate of another one, which the same authority has issued."""
    pair = {}
    for kind in ("pem", "key"):
        pair[kind] = _carry_out(state, Order(node=other_server, argv=("cat", f"/etc/extranet/tls/{other}.{kind}")))
    here = f"/etc/extranet/tls/{service}"
    make, undo = [], []
    for kind, text in pair.items():
        put = f"test -e {here}.{kind}.good || cp -p {here}.{kind} {here}.{kind}.good; cat >{here}.{kind}"
        make.append(Order(node=server, argv=("/bin/sh", "-c", put), text=text))
        undo.append(Order(node=server, argv=("mv", f"{here}.{kind}.good", f"{here}.{kind}")))
    words = f"{server}: {service} shows the certificate of {other}"
    return _alter(state, f"certificate {server} {service}", words, [*make, _reload(server)], [*undo, _reload(server)])


def answer_old(state: LabState, server: str, dns_name: str, address: str) -> Alteration:
    """Let the name server answer with another address for a name: one that was never brought up to date."""
    address = _read_address(server, address)
    kind = "AAAA" if ":" in address else "A"
    known = _carry_out(state, Order(node=server, argv=("cat", "/etc/extranet/unbound.conf")))
    names = re.findall(rf'local-data: "(\S+)\. \d+ IN {kind} ', known)
    if dns_name not in names:
        like = f" (names are whole there, such as {names[0]})" if names else ""
        raise UnknownNameError(
            f"{kind} record", dns_name, names, where=f"{server}{like}", see="the help of this command"
        )
    head = f'local-data: "{dns_name}.'
    pattern = f's/^{re.escape(head)} \\([0-9]*\\) IN {kind} .*/{head} \\1 IN {kind} {address}"/'
    return _alter(
        state,
        f"name {server} {dns_name} {kind}",
        f"{server} says that {dns_name} is at {address}",
        _rewritten(server, "unbound.conf", pattern, _RELOAD_UNBOUND),
        _restored(server, "unbound.conf", _RELOAD_UNBOUND),
    )


def ask_elsewhere(state: LabState, station: str, plane: str, address: str) -> Alteration:
    """Let a station's leg be configured to ask another name server: one that nobody brought up to date."""
    address = _read_address(station, address)
    legs = _carry_out(state, Order(node=station, argv=("ls", "/sys/class/net"))).split()
    if plane not in legs:
        raise UnknownNameError(
            f"leg of {station}", plane, [leg for leg in legs if leg not in {"lo", MANAGEMENT}], listed=True
        )
    path = leg_resolver_file(plane)
    text = f"nameserver {address}\noptions timeout:1 attempts:1\n"
    make = f"test ! -e {path} || cp -p {path} {path}.good; mkdir -p {path.rpartition('/')[0]} && cat >{path}"
    undo = f"mv {path}.good {path} 2>/dev/null || rm -f {path}"
    return _alter(
        state,
        f"resolver {station} {plane}",
        f"{station} asks {address} for names from leg {plane}",
        [Order(node=station, argv=("/bin/sh", "-c", make), text=text)],
        [Order(node=station, argv=("/bin/sh", "-c", undo))],
    )


def pin_name(state: LabState, station: str, dns_name: str, address: str) -> Alteration:
    """Let a station's own table of hosts say where a name is, as somebody once did to make it work."""
    line = f"{_read_address(station, address)} {dns_name}"
    undo = f"grep -vxF {shlex.quote(line)} /etc/hosts >/tmp/hosts; cat /tmp/hosts >/etc/hosts && rm /tmp/hosts"
    return _alter(
        state,
        f"hosts {station} {dns_name}",
        f"{station} takes {dns_name} to be at {address}, and asks nobody",
        [Order(node=station, argv=("/bin/sh", "-c", "cat >>/etc/hosts"), text=f"{line}\n")],
        [Order(node=station, argv=("/bin/sh", "-c", undo))],
    )


def _read_address(node: str, text: str) -> str:
    try:
        return str(ip_address(text))
    except ValueError:
        raise FaultError(node, f"expected an address, found {text!r}", "write one, such as 10.20.0.53") from None


_RELOAD_NGINX = "nginx -c /etc/extranet/nginx.conf -s reload"
_RELOAD_UNBOUND = "kill -HUP $(cat /run/unbound.pid)"


def _reload(server: str) -> Order:
    return Order(node=server, argv=("/bin/sh", "-c", _RELOAD_NGINX))


def _rewritten(server: str, file: str, pattern: str, reload: str) -> list[Order]:
    """Rewrite a configuration by a sed pattern, which must change something, and have it read again."""
    path = f"/etc/extranet/{file}"
    script = (
        f"test -e {path}.good || cp -p {path} {path}.good; cp {path} {path}.was; sed -i {shlex.quote(pattern)} {path}"
    )
    script += (
        f"; if cmp -s {path} {path}.was; then echo nothing to change there >&2; exit 1; fi; rm {path}.was; {reload}"
    )
    return [Order(node=server, argv=("/bin/sh", "-c", script))]


def _restored(server: str, file: str, reload: str) -> list[Order]:
    path = f"/etc/extranet/{file}"
    return [Order(node=server, argv=("/bin/sh", "-c", f"mv {path}.good {path} && {reload}"))]


def mend(state: LabState, name: str | None = None) -> tuple[Alteration, ...]:
    """Undo alterations: all, or those whose name begins so. Return those undone.

    Raises:
        FaultError: a name is given, and nothing in force goes by it.
    """
    with _changing(state) as box:
        gone = [a for a in box[0].alterations if name is None or a.name == name or a.name.startswith(f"{name} ")]
        if name is not None and not gone:
            there = ", ".join(f"'{a.name}'" for a in box[0].alterations) or "none"
            raise FaultError(name, f"no such fault is in force, found {there}", "see 'extranet lab status'")
        for one in reversed(gone):
            for order in one.undo:
                if order.node not in box[0].stopped:
                    _carry_out(state, order)
            rest = tuple(a for a in box[0].alterations if a != one)
            box[0] = box[0].model_copy(update={"alterations": rest})
    return tuple(gone)


def _alter(state: LabState, name: str, words: str, make: Iterable[Order], undo: Iterable[Order]) -> Alteration:
    """Carry out an alteration and keep how to undo it; what failed half-way is undone at once."""
    alteration = Alteration(name=name, words=words, undo=tuple(undo))
    with _changing(state) as box:
        if any(a.name == name for a in box[0].alterations):
            raise FaultError(name, "is in force already", f"undo it with: extranet lab fault mend {shlex.quote(name)}")
        try:
            for order in make:
                _carry_out(state, order)
        except BaseException:
            for order in alteration.undo:
                with contextlib.suppress(FaultError, LabBootError):
                    _carry_out(state, order)
            raise
        box[0] = box[0].model_copy(update={"alterations": (*box[0].alterations, alteration)})
    return alteration


def _ip(end: CableEnd, *words: str) -> Order:
    return Order(node=end.node, plane=end.plane, argv=("ip", *words))


def _carry_out(state: LabState, order: Order) -> str:
    """Run an order and return what it printed; FaultError when it failed."""
    if order.node == state.switch.name:  # the switch has no files of its own: only its network is entered
        with kernel.network_of(namespace_path(state.switch)):
            _run(list(order.argv), order.text)
            return ""
    done = exec_in(state, order.node, order.argv, plane=order.plane, input_text=order.text, timeout_s=30)
    if done.returncode != 0:
        why = (done.stderr.strip() or done.stdout.strip() or f"exit {done.returncode}").splitlines()[-1]
        raise FaultError(order.node, f"{order.argv[0]}: {why}", "see 'extranet lab status'")
    return done.stdout


def kill_ssh(state: LabState, name: str) -> int:
    """Kill a node's SSH sessions as a lost line would end them; what they started goes on. Return how many."""
    node = state.node(name)
    killed = 0
    for pid in processes_of(node):
        with contextlib.suppress(OSError):
            title = Path(f"/proc/{pid}/cmdline").read_bytes().decode("utf-8", "replace")
            if title.startswith("sshd: ") and "[listener]" not in title:
                os.kill(pid, signal.SIGKILL)
                killed += 1
    return killed


def _run(argv: list[str], text: str | None = None) -> None:
    program = kernel.find_tool(argv[0]) or argv[0]
    done = subprocess.run([program, *argv[1:]], input=text, capture_output=True, text=True, check=False)
    harmless = "Nothing to flush" in done.stdout + done.stderr
    if done.returncode != 0 and not harmless:
        raise FaultError(
            argv[0], (done.stderr.strip() or f"exit {done.returncode}").splitlines()[0], "see 'extranet lab status'"
        )
