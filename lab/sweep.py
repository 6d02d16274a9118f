"""What a lab left on the machine, found without its state file, and its removal.

Nodes are found by the marker in their first process's arguments, the interface by its name, files by their folder.
Nothing else is ever touched.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
from pathlib import Path

from inventory.model import Model
from lab import kernel, limits, wiring
from lab.errors import LabBootError
from lab.nodes import INIT, SHELL
from lab.state import MARKER, born_at, empty_folder, is_alive, runtime_dir

_PATIENCE_S = 20.0
_LOOK_EVERY_S = 0.02


class Removed(Model):
    """What a sweep took away."""

    nodes: int = 0
    links: tuple[str, ...] = ()
    files: int = 0

    @property
    def anything(self) -> bool:
        """Whether there was something."""
        return bool(self.nodes or self.links or self.files)


def marked_processes(identity: str | None = None) -> dict[int, str]:
    """Return the first processes of a lab's nodes (of all labs without an id): pid to `lab name:node`."""
    wanted = re.compile(rf"{MARKER}:(?P<rest>[^:]*-{identity or '[0-9a-f]{6}'}:.*)")
    found = {}
    for entry in os.listdir("/proc"):  # noqa: PTH208 - names only, thousands of them
        if not entry.isdigit():
            continue
        try:
            argv = Path("/proc", entry, "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if len(argv) >= 3 and argv[0] == SHELL.encode() and argv[1] == INIT.encode():
            match = wanted.fullmatch(argv[2].decode("utf-8", "replace"))
            if match:
                found[int(entry)] = match["rest"]
    return found


def running_labs() -> tuple[str, ...]:
    """Return the names of all labs of which a node lives on this machine."""
    return tuple(sorted({rest.partition(":")[0] for rest in marked_processes().values()}))


def sweep(identity: str) -> Removed:
    """Remove everything of one lab but the county folder's own `.lab`. The lab's lock must be held."""
    processes = marked_processes(identity)
    born = {pid: born_at(pid) for pid in processes}
    for pid in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    links = tuple(wiring.remove_root_links(identity)) if _may_touch_links() else ()
    deadline = time.monotonic() + _PATIENCE_S
    while any(is_alive(pid, born[pid]) for pid in processes):
        if time.monotonic() > deadline:
            left = next(pid for pid in processes if is_alive(pid, born[pid]))
            raise LabBootError(processes[left], f"process {left} did not end", "run 'extranet lab down' again")
        time.sleep(_LOOK_EVERY_S)
    folder = runtime_dir(identity)
    files = sum(1 for _ in folder.iterdir()) if folder.exists() else 0
    empty_folder(folder)
    limits.release(identity)
    return Removed(nodes=len(processes), links=links, files=files)


def _may_touch_links() -> bool:
    return kernel.find_tool("ip") is not None
