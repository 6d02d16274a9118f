"""Faults on demand: lines cut, routers stopped, packets of one kind dropped, SSH sessions killed.

Faults in force stand in `faults.json` in the lab's runtime folder, so that `status` shows them and `restore` undoes
exactly what was done.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shlex
import signal
import subprocess
from collections.abc import Iterable, Iterator
from enum import StrEnum
from pathlib import Path

from pydantic import Field

from inventory.errors import UnknownNameError
from inventory.model import County, Model, Protocol
from lab import kernel
from lab.errors import LabBootError, LabError
from lab.layout import MANAGEMENT
from lab.nodes import NETNS_DIR, START, exec_in, namespace_path
from lab.state import Cable, LabState, NodeState, replace_file, runtime_dir

_TABLE = "inet extranet_fault"
_EARLY = -300
_NGINX = "/etc/extranet/nginx.conf"
_BACK_END = """\
import socketserver, sys
class Answer(socketserver.BaseRequestHandler):
    def handle(self):
        self.request.sendall(sys.argv[3].encode())
socketserver.ThreadingTCPServer.allow_reuse_address = True
socketserver.ThreadingTCPServer((sys.argv[1], int(sys.argv[2])), Answer).serve_forever()
"""
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
    TOO_BIG = "icmp-too-big"


_MATCHES = {
    What.ICMP: (
        "meta l4proto icmp",
        "icmpv6 type { 1, 2, 3, 4, 128, 129 }",  # errors and echo
    ),
    What.TCP: ("meta l4proto tcp",),
    What.UDP: ("meta l4proto udp",),
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


class Faults(Model):
    """All faults in force."""

    cuts: tuple[Cut, ...] = ()
    drops: tuple[Drop, ...] = ()
    stopped: tuple[str, ...] = ()
    leans: tuple[Lean, ...] = ()


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
        raise UnknownNameError(f"plane of {name}", plane, node.planes, listed=True)
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


def processes_of(node: NodeState) -> list[int]:
    """Return the pids of everything in a node's process namespace."""
    try:
        wanted = os.stat(f"/proc/{node.pid}/ns/pid").st_ino  # noqa: PTH116 - /proc links, thousands
    except OSError:
        return []
    found = []
    for entry in os.listdir("/proc"):  # noqa: PTH208 - names only
        if entry.isdigit():
            with contextlib.suppress(OSError):
                if os.stat(f"/proc/{entry}/ns/pid").st_ino == wanted:  # noqa: PTH116 - as above
                    found.append(int(entry))
    return found


def _run(argv: list[str], text: str | None = None) -> None:
    program = kernel.find_tool(argv[0]) or argv[0]
    done = subprocess.run([program, *argv[1:]], input=text, capture_output=True, text=True, check=False)
    harmless = "Nothing to flush" in done.stdout + done.stderr
    if done.returncode != 0 and not harmless:
        raise FaultError(
            argv[0], (done.stderr.strip() or f"exit {done.returncode}").splitlines()[0], "see 'extranet lab status'"
        )
