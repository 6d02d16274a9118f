"""What is up: the lab's identity, its runtime folder and its state file.

A county folder has one lab. Its id is drawn from the folder's path, so that everything a lab left behind is found
again when the state file is gone.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from ipaddress import IPv6Network
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from inventory.errors import ExtranetError, UnknownNameError
from inventory.model import Model, SiteClass
from inventory.reader import load_county, restrict_to_towns
from inventory.wording import first_towns
from lab.errors import LabBusyError, LabDownError, MachineError, NotInLabError
from lab.kernel import KernelFacts

MARKER = "extranet-lab"
LAB_FOLDER = ".lab"
_ID_LENGTH = 6
_TMPFS = "tmpfs"


class NodeState(Model):
    """A node as it was born. `pid` is its first process; with it, everything in the node ends."""

    name: str
    kind: Literal["router", "station", "server", "switch"]
    pid: int
    born: int
    """Start time in clock ticks (/proc/PID/stat): a pid given again is not taken for this one."""
    address: str | None = None
    planes: tuple[str, ...] = ()
    """VRFs that have a network namespace of their own inside the node."""
    daemons: tuple[str, ...] = ()
    site: str = ""
    network: str = ""


class CableEnd(Model):
    """An interface of a node; `plane` names the namespace inside it."""

    node: str
    plane: str | None
    interface: str


class Cable(Model):
    """A line that can be cut: where its switchable end is. `plane` names the namespace inside the node."""

    link: str
    circuit: str
    node: str
    plane: str | None
    interface: str
    far: CableEnd | None = None
    """The other end, where that is a port of a node as well."""

    @property
    def ends(self) -> tuple[CableEnd, ...]:
        """Both ends, the switchable one first."""
        near = CableEnd(node=self.node, plane=self.plane, interface=self.interface)
        return (near, self.far) if self.far else (near,)


class Timing(Model):
    """How long a phase took."""

    phase: str
    seconds: float


class LabState(Model):
    """A lab that is up, as `state.json` in its runtime folder."""

    format: Literal[1] = 1
    id: str
    name: str
    county_dir: str
    county: str
    towns: int | None
    prefix: IPv6Network
    root_link: str
    facts: KernelFacts
    nodes: tuple[NodeState, ...]
    cables: tuple[Cable, ...]
    timings: tuple[Timing, ...] = ()
    started: float

    def node(self, name: str) -> NodeState:
        """Return a node by name.

        Raises:
            NotInLabError: the county has it, but not this lab.
            UnknownNameError: the county has no such node; names near matches.
        """
        nodes = {n.name: n for n in self.nodes if n.kind != "switch"}
        if name not in nodes:
            raise self.missing("node", name, nodes)
        return nodes[name]

    def missing(self, kind: Literal["node", "link or circuit"], name: str, here: Iterable[str]) -> ExtranetError:
        """Return the error for a name that is not `here`: in the county but not in a small lab, or nowhere."""
        if self.towns is not None:
            with contextlib.suppress(ExtranetError):  # the folder may be gone or changed: then only the lab is known
                county = load_county(Path(self.county_dir))
                nodes = county.device_by_id.keys() | county.station_by_id.keys() | county.server_by_id.keys()
                known = nodes if kind == "node" else county.circuit_by_id.keys()
                if name.partition("/")[0] in known:
                    held = restrict_to_towns(county, self.towns).sites
                    towns = ", ".join(s.name for s in held if s.site_class is SiteClass.TOWN)
                    return NotInLabError(kind, name, f"{first_towns(self.towns)} ({towns})")
        return UnknownNameError(kind, name, here, where="this lab", see="extranet lab status")

    @property
    def switch(self) -> NodeState:
        """The node that holds all LAN bridges."""
        return next(n for n in self.nodes if n.kind == "switch")


def base_dir() -> Path:
    """Return the folder of all labs: EXTRANET_LAB_DIR, else the machine's own choice."""
    named = os.environ.get("EXTRANET_LAB_DIR")
    return Path(named) if named else default_base()


def default_base() -> Path:
    """Return the machine's folder for labs: on a tmpfs where there is one, else in /run."""
    kinds = {}
    for line in Path("/proc/mounts").read_text("utf-8", "replace").splitlines():
        _, target, kind, *_ = line.split()
        kinds[target] = kind
    for place in ("/run", "/dev/shm"):  # noqa: S108 - a root-owned folder inside, of mode 0700
        if kinds.get(place) == _TMPFS:
            return Path(place) / "extranet-lab"
    return Path("/run/extranet-lab")


def lab_id(county_dir: Path) -> str:
    """Return the id of a county folder's lab: hex digits drawn from its real path."""
    return hashlib.sha256(os.fsencode(county_dir.resolve())).hexdigest()[:_ID_LENGTH]


def runtime_dir(identity: str) -> Path:
    """Return the folder that holds everything of one lab."""
    return base_dir() / identity


def id_in_name(name: str) -> str | None:
    """Return the id at the end of a lab's name; None where no lab could have that name."""
    match = re.search(rf"(?:^|-)([0-9a-f]{{{_ID_LENGTH}}})$", name)
    return match[1] if match else None


def read_state(county_dir: Path) -> LabState:
    """Read the state of a county's lab; LabDownError when none is up."""
    path = runtime_dir(lab_id(county_dir)) / "state.json"
    try:
        state = LabState.model_validate_json(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValidationError):
        raise LabDownError(_shown(county_dir)) from None
    except PermissionError:
        raise MachineError(f"{path}: only root may read it", "run this command as root") from None
    if not any(is_alive(node.pid, node.born) for node in state.nodes):
        raise LabDownError(_shown(county_dir))
    return state


def write_state(state: LabState) -> None:
    """Write the state file, whole or not at all."""
    replace_file(runtime_dir(state.id) / "state.json", state.model_dump_json(indent=1))


def replace_file(path: Path, text: str, mode: int = 0o600) -> None:
    """Write a file so that a reader sees the old one or the new one, never a part."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        with os.fdopen(fd, "w", encoding="utf-8") as out:
            out.write(text)
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def born_at(pid: int) -> int:
    """Return a process's start time in clock ticks; 0 when there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
    except OSError:
        return 0
    fields = text.rpartition(")")[2].split()
    return 0 if fields[0] in {"Z", "X"} else int(fields[19])


def is_alive(pid: int, born: int) -> bool:
    """Say whether that very process still runs."""
    return born != 0 and born_at(pid) == born


@contextlib.contextmanager
def lab_lock(identity: str) -> Iterator[Path]:
    """Hold the lab's runtime folder for one command; LabBusyError when another has it. Removed when left empty."""
    folder = runtime_dir(identity)
    while True:
        folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            raise LabBusyError(identity) from None
        if folder.exists() and os.fstat(fd).st_ino == folder.stat().st_ino:
            break
        os.close(fd)
    try:
        yield folder
    finally:
        with contextlib.suppress(OSError):
            folder.rmdir()
        with contextlib.suppress(OSError):
            folder.parent.rmdir()
        os.close(fd)


def empty_folder(folder: Path) -> None:
    """Remove everything inside a runtime folder; the folder itself stays for the lock's holder."""
    for entry in list(folder.iterdir()) if folder.exists() else []:
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)


def _shown(county_dir: Path) -> Path:
    return county_dir.resolve() if county_dir.is_dir() else county_dir
