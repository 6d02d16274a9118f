"""What a lab is right now: asked of the kernel, not remembered."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Literal

from inventory.model import Model
from lab.faults import Faults, read_faults
from lab.kernel import KernelFacts
from lab.state import NodeState, Timing, is_alive, read_state

_KIB = 1024


class NodeStatus(Model):
    """One node: `up`, `stopped` (by a fault), `ailing` (daemons are missing) or `dead`."""

    name: str
    kind: str
    site: str
    network: str
    state: Literal["up", "stopped", "ailing", "dead"]
    address: str | None
    daemons: tuple[str, ...]
    missing: tuple[str, ...]
    memory_bytes: int


class LabStatus(Model):
    """The whole lab."""

    name: str
    county: str
    county_dir: str
    towns: int | None
    management: str
    vrf_backend: str
    kernel: KernelFacts
    nodes: tuple[NodeStatus, ...]
    faults: Faults
    memory_bytes: int
    timings: tuple[Timing, ...]

    @property
    def healthy(self) -> bool:
        """Whether every node is up with all its daemons."""
        return all(n.state == "up" for n in self.nodes)


def status(county_dir: Path) -> LabStatus:
    """Look at a county's lab; LabDownError when none is up."""
    state = read_state(county_dir)
    faults = read_faults(state)
    running = _processes()
    nodes = [
        _look_at(node, running, stopped=node.name in faults.stopped) for node in state.nodes if node.kind != "switch"
    ]
    return LabStatus(
        name=state.name,
        county=state.county,
        county_dir=state.county_dir,
        towns=state.towns,
        management=str(state.prefix),
        vrf_backend=state.facts.vrf_backend,
        kernel=state.facts,
        nodes=tuple(nodes),
        faults=faults,
        memory_bytes=sum(n.memory_bytes for n in nodes),
        timings=state.timings,
    )


def _processes() -> dict[int, list[tuple[int, str]]]:
    """All processes of the machine by process namespace (inode): (pid, name)."""
    out: dict[int, list[tuple[int, str]]] = {}
    for entry in os.listdir("/proc"):  # noqa: PTH208 - names only
        if entry.isdigit():
            with contextlib.suppress(OSError):
                space = os.stat(f"/proc/{entry}/ns/pid").st_ino  # noqa: PTH116 - /proc links, thousands
                name = Path(f"/proc/{entry}/comm").read_text("utf-8", "replace").strip()
                out.setdefault(space, []).append((int(entry), name))
    return out


def _look_at(node: NodeState, running: dict[int, list[tuple[int, str]]], *, stopped: bool) -> NodeStatus:
    found: list[tuple[int, str]] = []
    alive = is_alive(node.pid, node.born)
    with contextlib.suppress(OSError):  # it may end meanwhile
        found = running.get(os.stat(f"/proc/{node.pid}/ns/pid").st_ino, []) if alive else []  # noqa: PTH116 - as above
    names = {name for _, name in found}
    wanted = (*node.daemons, *(("sshd",) if node.kind != "switch" else ()))
    missing = tuple(d for d in wanted if d not in names)
    state: Literal["up", "stopped", "ailing", "dead"] = "up"
    if not alive:
        state = "dead"
    elif stopped:
        state = "stopped"
    elif missing:
        state = "ailing"
    return NodeStatus(
        name=node.name,
        kind=node.kind,
        site=node.site,
        network=node.network,
        state=state,
        address=node.address,
        daemons=tuple(d for d in wanted if d in names),
        missing=missing if state == "ailing" else (),
        memory_bytes=sum(_own_memory(pid) for pid, _ in found),
    )


def _own_memory(pid: int) -> int:
    """A process's share of memory: pages it shares are counted in parts (PSS)."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text("ascii").splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * _KIB
    return 0
