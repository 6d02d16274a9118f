"""`lab up` and `lab down`: the layout made real, phase by phase, and taken away again without a trace."""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import resource
import secrets
import selectors
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import yaml

from addressing.model import AddressPlan
from inventory.access import LAB_FILE, Access
from inventory.model import County, Model
from inventory.reader import restrict_to_towns
from inventory.topology import build_topology
from inventory.wording import counted
from lab import kernel, limits, wiring
from lab.errors import LabBootError, LabUpError, MachineError, NoSuchLabError
from lab.keys import Authority, KeyPair, make_ssh_key
from lab.layout import NODE_PATH, SWITCH, File, Layout, Node, make_layout
from lab.nodes import NODE_UMASK, Newborn, await_birth, bear, write_node_files
from lab.state import (
    LAB_FOLDER,
    Cable,
    CableEnd,
    LabState,
    NodeState,
    Timing,
    id_in_name,
    is_alive,
    lab_id,
    lab_lock,
    read_state,
    replace_file,
    write_state,
)
from lab.sweep import Removed, marked_processes, running_labs, sweep

_STARTING_AT_ONCE = 4
"""Nodes started at a time, for each processor."""
_BEARING_AT_ONCE = 8
_READY_S = 10.0
_SSH_LISTENING = ":0016 "
_TCP_LISTEN = " 0A "


class Progress(Model):
    """How far `up` is: the phase, and how much of it."""

    phase: str
    done: int
    total: int
    waiting_for: str = ""


OnProgress = Callable[[Progress], None]


def up(
    county: County,
    plan: AddressPlan,
    county_dir: Path,
    towns: int | None = None,
    on_progress: OnProgress | None = None,
    *,
    again: bool = False,
) -> LabState:
    """Bring a county's lab up as it is before migration, with its first `towns` towns (all without).

    `plan` is the whole county's. `again` takes a lab that is already up down first. On any error or interruption
    nothing stays. Raises LabUpError, LabBusyError, MachineError or LabBootError.
    """
    kernel.check_machine()
    county_dir = county_dir.resolve()
    identity = lab_id(county_dir)
    tell = on_progress or (lambda _: None)
    with _terminable(), _space_guard(identity), _ordinary_umask(), lab_lock(identity) as folder:
        if not again:
            _refuse_second(county_dir)
        with _undisturbed():
            sweep(identity)
            _remove_access(county_dir)
        boot = _Boot(county, plan, county_dir, towns, tell=tell, folder=folder)
        try:
            return boot.run()
        except BaseException:
            with _undisturbed():
                boot.close()
                _remove_access(county_dir)
                sweep(identity)
            raise
        finally:
            boot.close()


def down(county_dir_or_name: Path | str) -> Removed:
    """Take a lab down, also what a killed `up` left: that of a county's folder (a Path), or by its name or id (a str).

    Raises:
        NoSuchLabError: nothing on this machine goes by that name. A folder without a lab is no error.
    """
    kernel.check_root()
    if isinstance(county_dir_or_name, str):
        removed = _take_down(_find_named(county_dir_or_name))
        if not removed.anything:
            raise NoSuchLabError(county_dir_or_name, running_labs())
        return removed
    return _take_down(lab_id(county_dir_or_name), county_dir_or_name)


def _find_named(name: str) -> str:
    """Return the id of the lab of that name; an earlier lab of the same folder had another one."""
    identity, running = id_in_name(name), running_labs()
    if identity is None or (name not in {identity, *running} and any(n.endswith(f"-{identity}") for n in running)):
        raise NoSuchLabError(name, running)
    return identity


def _take_down(identity: str, folder: Path | None = None) -> Removed:
    with _space_guard(identity), lab_lock(identity) as runtime:
        with contextlib.suppress(OSError, ValueError):
            folder = Path(LabState.model_validate_json((runtime / "state.json").read_bytes()).county_dir)
        if folder is not None:
            _remove_access(folder)
        with _undisturbed():
            return sweep(identity)


def _refuse_second(county_dir: Path) -> None:
    from lab.errors import LabDownError

    with contextlib.suppress(LabDownError):
        state = read_state(county_dir)
        if (county_dir / LAB_FILE).exists() and all(is_alive(n.pid, n.born) for n in state.nodes):
            raise LabUpError(state.name)


def _remove_access(county_dir: Path) -> None:
    """Remove the county folder's `.lab`, the access file first: whoever reads it then knows that no lab is up."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        (county_dir / LAB_FILE).unlink()
    shutil.rmtree(county_dir / LAB_FOLDER, ignore_errors=True)


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Let a polite kill end `up` as Ctrl-C does, so that it cleans up."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Hold interruptions back until cleaning up is done."""
    numbers = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _ordinary_umask() -> Iterator[None]:
    """Let daemons that are not root read their nodes' files, whatever the operator's own umask keeps from others."""
    before = os.umask(NODE_UMASK)
    try:
        yield
    finally:
        os.umask(before)


@contextlib.contextmanager
def _space_guard(identity: str) -> Iterator[None]:
    """Turn a full or unusable disk into one line that says which folder and what to do."""
    try:
        yield
    except OSError as error:
        from lab.state import runtime_dir

        place = Path(error.filename) if error.filename else runtime_dir(identity)
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise MachineError(
                f"no space left for {place}", "free some, or set EXTRANET_LAB_DIR to a folder with room (about 100 MiB)"
            ) from error
        raise MachineError(
            f"{place}: {error.strerror or error}", "make it usable, or set EXTRANET_LAB_DIR to another folder"
        ) from error


class _Boot:
    """One `lab up`, from nothing to a state file."""

    def __init__(
        self, county: County, plan: AddressPlan, county_dir: Path, towns: int | None, *, tell: OnProgress, folder: Path
    ) -> None:
        self.county = county if towns is None else restrict_to_towns(county, towns)
        self.plan, self.county_dir, self.towns, self.tell, self.folder = plan, county_dir, towns, tell, folder
        self.identity = lab_id(county_dir)
        # New with each `up`: the ledger must not take this lab for the one before it in this folder.
        self.name = f"{county.id}-{secrets.token_hex(3)}-{self.identity}"
        self.newborns: dict[str, Newborn] = {}
        self.timings: list[Timing] = []
        self.started = time.time()

    def run(self) -> LabState:
        """Do every phase in order."""
        with self._phase("machine"):
            facts = kernel.probe_kernel()
            limits.claim(self.identity)
            _raise_open_files()
            prefix = wiring.draw_prefix(os.environ.get("EXTRANET_LAB_PREFIX"))
        with self._phase("plan of the lab"):
            authority = Authority(self.name)
            topology = build_topology(self.county)
            layout = make_layout(
                self.county, topology, self.plan, facts.vrf_backend, prefix=prefix, authority=authority
            )
        with self._phase("keys and files"):
            client = make_ssh_key(f"{self.name} operator")
            known_hosts = self._write_files(layout, client)
        with self._phase("nodes"):
            self._bear_nodes(layout)
        pids = {name: newborn.pid for name, newborn in self.newborns.items()}
        with self._phase("links"):
            wiring.lay_cables(layout, pids, self.identity)
            wiring.bring_up(layout, pids)
        with self._phase("daemons"):
            self._start_nodes()
        with self._phase("readiness"):
            _await_sshd(layout, pids)
        state = self._state(layout, facts, client)
        for newborn in self.newborns.values():
            newborn.order("keep")
        write_state(state)
        self._write_access(layout, state, client, known_hosts, authority)
        return state

    def close(self) -> None:
        """Let go of the nodes: those not told to stay end."""
        for newborn in self.newborns.values():
            newborn.close()
        self.newborns.clear()

    @contextlib.contextmanager
    def _phase(self, name: str) -> Iterator[None]:
        begin = time.monotonic()
        self.tell(Progress(phase=name, done=0, total=1))
        yield
        self.timings.append(Timing(phase=name, seconds=round(time.monotonic() - begin, 3)))
        self.tell(Progress(phase=name, done=1, total=1))

    def _write_files(self, layout: Layout, client: KeyPair) -> str:
        shared = _shared_files(layout)
        known = []
        for node in layout.nodes.values():
            if node.kind != "switch":
                node.files |= shared
                node.files["/etc/hostname"] = File(f"{node.name}\n")
            if node.kind != "switch":
                host = make_ssh_key(f"root@{node.name}")
                known.append(f"{node.address} {' '.join(host.public.split()[:2])}")
                node.files["/etc/ssh/lab_host_ed25519"] = File(host.private, 0o600)
                node.files["/etc/ssh/lab_authorized_keys"] = File(f"{client.public}\n", 0o600)
                node.files["/etc/ssh/lab_sshd_config"] = File(_sshd_config(node))
            write_node_files(node, self.folder / "nodes" / node.name)
        return "\n".join(known) + "\n"

    def _bear_nodes(self, layout: Layout) -> None:
        gc.collect()
        gc.freeze()  # children touch as few pages as can be
        try:
            waiting: list[Newborn] = []
            for done, node in enumerate(layout.nodes.values()):
                newborn = bear(node, self.folder / "nodes" / node.name, self.name)
                self.newborns[node.name] = newborn
                waiting.append(newborn)
                if len(waiting) >= _BEARING_AT_ONCE:
                    await_birth(waiting.pop(0))
                    self.tell(Progress(phase="nodes", done=done - len(waiting), total=len(layout.nodes)))
            for newborn in waiting:
                await_birth(newborn)
        finally:
            gc.unfreeze()

    def _start_nodes(self) -> None:
        """Say `go` to a few nodes at a time; the next goes when one reports."""
        at_once = _STARTING_AT_ONCE * (os.cpu_count() or 1)
        queue = list(self.newborns.values())
        total, done = len(queue), 0
        with selectors.DefaultSelector() as selector:
            while queue or selector.get_map():
                while queue and len(selector.get_map()) < at_once:
                    newborn = queue.pop(0)
                    newborn.order("go")
                    selector.register(newborn.report, selectors.EVENT_READ, newborn)
                for key, _ in selector.select():
                    newborn = key.data
                    selector.unregister(newborn.report)
                    newborn.next_report()
                    done += 1
                    left = next((k.data.name for k in selector.get_map().values()), "")
                    self.tell(Progress(phase="daemons", done=done, total=total, waiting_for=left))

    def _state(self, layout: Layout, facts: kernel.KernelFacts, client: KeyPair) -> LabState:
        del client
        nodes = tuple(
            NodeState(
                name=node.name,
                kind=node.kind,
                pid=self.newborns[node.name].pid,
                born=self.newborns[node.name].born,
                address=str(node.address) if node.address else None,
                planes=node.planes,
                daemons=node.daemons,
                site=node.site,
                network=node.network,
            )
            for node in layout.nodes.values()
        )
        return LabState(
            id=self.identity,
            name=self.name,
            county_dir=str(self.county_dir),
            county=self.county.id,
            towns=self.towns,
            prefix=layout.prefix,
            root_link=wiring.root_link(self.identity),
            facts=facts,
            nodes=nodes,
            cables=_cables(layout, self.county),
            timings=tuple(self.timings),
            started=self.started,
        )

    def _write_access(
        self, layout: Layout, state: LabState, client: KeyPair, known_hosts: str, authority: Authority
    ) -> None:
        """Write the county folder's `.lab`; the access file last, for it says that the lab is ready."""
        folder = self.county_dir / LAB_FOLDER
        folder.mkdir(mode=0o700, exist_ok=True)
        replace_file(folder / "id_ed25519", client.private)
        replace_file(folder / "id_ed25519.pub", f"{client.public}\n", 0o644)
        replace_file(folder / "known_hosts", known_hosts, 0o644)
        replace_file(folder / "ca.pem", authority.certificate, 0o644)
        access = Access(
            target="lab",
            name=self.name,
            user="root",
            port=22,
            identity_file="id_ed25519",
            known_hosts="known_hosts",
            addresses={n.name: str(n.address) for n in layout.nodes.values() if n.kind != "switch"},
            vrf_backend=state.facts.vrf_backend,
            ca_file="/etc/extranet/ca.pem",
            towns=self.towns,
        )
        text = yaml.safe_dump(access.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
        replace_file(self.county_dir / LAB_FILE, text)


def _shared_files(layout: Layout) -> dict[str, File]:
    """Files that are the same in every node."""
    hosts = ["127.0.0.1 localhost", "::1 localhost"]
    hosts += [f"{node.address} {node.name}" for node in layout.nodes.values() if node.kind != "switch"]
    accounts = []
    for line in Path("/etc/passwd").read_text("utf-8", "replace").splitlines():
        fields = line.split(":")
        if fields[0] == "root":
            fields[5:7] = ["/root", "/bin/bash" if Path("/bin/bash").exists() else "/bin/sh"]
        accounts.append(":".join(fields))
    return {
        "/etc/hosts": File("\n".join(hosts) + "\n"),
        "/etc/passwd": File("\n".join(accounts) + "\n"),
        "/etc/shadow": File("root:*:19000:0:99999:7:::\n", 0o600),
        # The operator's own shell set-up has no business in a router.
        "/root/.bashrc": File(""),
        "/root/.profile": File(f"PATH={NODE_PATH}\n"),
        "/root/.bash_profile": File(f"PATH={NODE_PATH}\n"),
    }


def _sshd_config(node: Node) -> str:
    lines = [
        "Port 22",
        f"ListenAddress {node.address}",
        "HostKey /etc/ssh/lab_host_ed25519",
        "PidFile /run/sshd.pid",
        "AuthorizedKeysFile /etc/ssh/lab_authorized_keys",
        "PermitRootLogin prohibit-password",
        "AllowUsers root",
        "PasswordAuthentication no",
        "KbdInteractiveAuthentication no",
        "AuthenticationMethods publickey",
        "UsePAM no",
        "UseDNS no",
        "PrintMotd no",
        "PrintLastLog no",
        "X11Forwarding no",
        "MaxStartups 200:30:400",
        "MaxSessions 100",
        "LoginGraceTime 30",
        f"SetEnv PATH={NODE_PATH} LANG=C.UTF-8",
        "KexAlgorithms curve25519-sha256,curve25519-sha256@libssh.org,ecdh-sha2-nistp256",
        "Subsystem sftp internal-sftp",
    ]
    return "\n".join(lines) + "\n"


def _cables(layout: Layout, county: County) -> tuple[Cable, ...]:
    """Lines that can be cut, with the end that is switched: a village's old line is switched on the LAN's side."""
    cables = [
        Cable(
            link=w.link,
            circuit=w.circuit,
            node=w.a.node,
            plane=w.a.plane,
            interface=w.a.interface,
            far=CableEnd(node=w.b.node, plane=w.b.plane, interface=w.b.interface),
        )
        for w in layout.wires
        if w.link
    ]
    for bridge in layout.bridges:
        for port, unit_id in bridge.lines.items():
            circuit = county.circuit_by_id[county.unit_by_id[unit_id].circuit]
            if circuit.device is None:
                cables.append(Cable(link=circuit.id, circuit=circuit.id, node=SWITCH, plane=None, interface=port))
    return tuple(cables)


def _await_sshd(layout: Layout, pids: Mapping[str, int]) -> None:
    """Wait until every sshd listens. Asked of the kernel: a login at each would cost a key exchange."""
    waiting = {node.name: pids[node.name] for node in layout.nodes.values() if node.kind != "switch"}
    deadline = time.monotonic() + _READY_S
    while waiting:
        for name, pid in list(waiting.items()):
            table = Path(f"/proc/{pid}/net/tcp6").read_text("ascii")
            if any(_SSH_LISTENING in line and _TCP_LISTEN in line for line in table.splitlines()[1:]):
                del waiting[name]
        if waiting and time.monotonic() > deadline:
            name = next(iter(waiting))
            raise LabBootError(
                name, f"sshd does not listen after {_READY_S:.0f} s ({counted(len(waiting), 'such node')})"
            )
        if waiting:
            time.sleep(0.05)


def _raise_open_files() -> None:
    """Two pipes a node: lift the soft limit of open files to the hard one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


__all__: list[Any] = ["OnProgress", "Progress", "Removed", "down", "marked_processes", "up"]
