"""The birth of a node, and the way into it.

A child of the launcher takes new namespaces, mounts what is the node's own, and becomes the node's first process: a
small shell that waits for orders on a pipe. While the launcher has not said `keep`, its death closes the pipe and
ends the node; so a killed `lab up` leaves no processes.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pwd
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO, NoReturn

from lab import kernel
from lab.errors import LabBootError, miss_plane
from lab.layout import NODE_BIN, NODE_PATH, File, Node
from lab.state import MARKER, LabState, NodeState, born_at, is_alive

INIT = "/etc/extranet/init"
START = "/etc/extranet/start"
SHELL = "/bin/sh"
NETNS_DIR = "/run/netns"
NODE_UMASK = 0o022
_OWN_FOLDERS = ("etc", "var", "root")
_ORDERS_FD, _REPORT_FD = 3, 4
_FIRST_OTHER_FD, _LAST_FD = 5, 65536
_ABOVE_TARGETS_FD = 16

_INIT_TEXT = f"""\
# First process of a lab node: with it, everything in the node ends.
# Orders come on fd {_ORDERS_FD}, reports go to fd {_REPORT_FD}.
read -r order <&{_ORDERS_FD} || exit 1
if ( . {START} ) {_ORDERS_FD}<&- {_REPORT_FD}>&-; then
  echo ok >&{_REPORT_FD}
else
  {{ printf 'fail '; cat /run/extranet/failed; }} >&{_REPORT_FD}
fi
exec {_REPORT_FD}>&-
# The launcher's death before it said so ends this node.
read -r order <&{_ORDERS_FD} || exit 1
exec {_ORDERS_FD}<&-
# A first process must collect orphans; dash does while it waits for a child.
while :; do sleep 2147483647; done
"""

_START_HEAD = """\
# Start everything of this node; read by its first process, and again when a stopped node is started.
fail() { echo "$1: $(tail -n 3 "$2" 2>/dev/null | tr -s '[:space:]' ' ')" >/run/extranet/failed; exit 1; }
: >/run/extranet/failed
ip -batch /etc/extranet/network >/run/extranet/ip.out 2>&1 || fail network /run/extranet/ip.out
"""

# A leg forgets a gateway that moved to another router within seconds, as an office switch's clients do.
_FORGET_FAST = """\
for d in /proc/sys/net/ipv4/neigh/*; do
  echo 4000 >$d/base_reachable_time_ms; echo 1 >$d/delay_first_probe_time; echo 300 >$d/retrans_time_ms
done
"""

_START_SSHD = "/usr/sbin/sshd -f /etc/ssh/lab_sshd_config -E /var/log/sshd.log || fail sshd /var/log/sshd.log\n"


class Newborn:
    """A node that is alive but waits for orders."""

    def __init__(self, name: str, child: int, orders: int, report: int) -> None:
        self.name, self.child, self.orders, self.report = name, child, orders, report
        self.pid = 0
        self.born = 0
        self._buffer = b""

    def order(self, word: str) -> None:
        """Send one order."""
        try:
            os.write(self.orders, word.encode() + b"\n")
        except BrokenPipeError:
            raise LabBootError(self.name, "the node ended by itself") from None

    def next_report(self) -> str:
        """Return the node's next report line, waiting for it; LabBootError when it says it failed, or ended."""
        while b"\n" not in self._buffer:
            chunk = os.read(self.report, 4096)
            if not chunk:
                raise LabBootError(
                    self.name, f"the node ended while starting ({self._buffer.decode(errors='replace').strip()})"
                )
            self._buffer += chunk
        line, _, self._buffer = self._buffer.partition(b"\n")
        text = line.decode("utf-8", "replace")
        if text.startswith("fail "):
            raise LabBootError(self.name, text.removeprefix("fail ").strip() or "failed to start")
        return text

    def close(self) -> None:
        """Close the pipes: without a `keep` before, this ends the node."""
        for fd in (self.orders, self.report):
            with contextlib.suppress(OSError):
                os.close(fd)


def write_node_files(node: Node, home: Path) -> None:
    """Write everything the node finds below /etc, /var and /root into its folder on the machine."""
    frr = pwd.getpwnam("frr") if node.kind == "router" else None
    files = dict(node.files)
    files[INIT] = File(_INIT_TEXT)
    files[START] = File(_start_text(node))
    files["/etc/extranet/network"] = File("\n".join(node.network_lines) + "\n")
    for folder in _OWN_FOLDERS:
        for path in (home / folder, home / f".{folder}"):
            path.mkdir(parents=True, exist_ok=True)
    (home / "root").chmod(0o700)
    made: set[Path] = set()
    for name, mode in (("var/lib/extranet", 0o755), ("var/log", 0o755), ("var/tmp", 0o1777), ("var/tmp/frr", 0o700)):
        path = home / name
        path.mkdir(parents=True, exist_ok=True)
        path.chmod(mode)
    if frr is not None:
        for name in ("etc/frr", "var/log/frr", "var/tmp/frr"):
            path = home / name
            path.mkdir(parents=True, exist_ok=True)
            os.chown(path, frr.pw_uid, frr.pw_gid)
    else:
        (home / "var/log/nginx").mkdir(parents=True, exist_ok=True)
    for inside, file in files.items():
        path = home / inside.lstrip("/")
        if path.parent not in made:
            path.parent.mkdir(parents=True, exist_ok=True)
            made.add(path.parent)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, file.mode), "wb") as out:
            if file.owner == "frr" and frr is not None:
                os.fchown(out.fileno(), frr.pw_uid, frr.pw_gid)
            out.write(file.text.encode())


def _start_text(node: Node) -> str:
    if node.kind == "switch":
        return "true\n"
    text = _START_HEAD
    if node.kind in {"station", "server"}:
        text += _FORGET_FAST
    text += _START_SSHD
    return text + "".join(f"{line}\n" for line in node.start_lines)


def bear(node: Node, home: Path, lab_name: str) -> Newborn:
    """Give birth to a node; its files must be written. Returns at once; the pid comes with its first report."""
    orders_read, orders_write = os.pipe()
    report_read, report_write = os.pipe()
    launcher = os.getpid()
    child = os.fork()
    if child == 0:
        _become_node(node, home, f"{MARKER}:{lab_name}:{node.name}", (orders_read, report_write), launcher)
    os.close(orders_read)
    os.close(report_write)
    return Newborn(node.name, child, orders_write, report_read)


def await_birth(newborn: Newborn) -> None:
    """Wait until a node lives; fills in its pid and birth time."""
    os.waitpid(newborn.child, 0)
    for _ in range(2):  # its pid from the child, and that it lives from itself, in either order
        word, _, pid = newborn.next_report().partition(" ")
        newborn.pid = int(pid) if word == "pid" else newborn.pid
    newborn.born = born_at(newborn.pid)


def _become_node(node: Node, home: Path, marker: str, pipes: tuple[int, int], launcher: int) -> NoReturn:
    """Child of the launcher: make the namespaces, fork their first process, report its pid."""
    report = pipes[1]
    try:
        kernel.die_with_parent(launcher)
        kernel.unshare(kernel.CLONE_NEWNS | kernel.CLONE_NEWUTS | kernel.CLONE_NEWIPC | kernel.CLONE_NEWPID)
        _mount_own(home)
        for plane in node.planes:
            _new_network(node.sysctls)
            place = f"{NETNS_DIR}/{plane}"
            Path(place).touch()
            kernel.mount("/proc/self/ns/net", place, "", kernel.MS_BIND)
        _new_network(node.sysctls)
        kernel.mount("sysfs", "/sys", "sysfs", kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC)
        socket.sethostname(node.name)
        first = os.fork()
        if first:
            os.write(report, f"pid {first}\n".encode())
            os._exit(0)
        _become_first(marker, pipes)
    except BaseException as error:  # noqa: BLE001 - the boundary of this process: the report tells, nothing unwinds
        os.write(report, f"fail {error}\n".encode())
    os._exit(1)


def _become_first(marker: str, pipes: tuple[int, int]) -> NoReturn:
    """First process of the node's process namespace: mount its /proc, take the pipes, become the shell."""
    kernel.mount("proc", "/proc", "proc", kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC)
    os.setsid()
    os.chdir("/")
    null = os.open("/dev/null", os.O_RDWR)
    high_orders, high_report = (fcntl.fcntl(fd, fcntl.F_DUPFD, _ABOVE_TARGETS_FD) for fd in pipes)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    os.dup2(high_orders, _ORDERS_FD)
    os.dup2(high_report, _REPORT_FD)
    os.closerange(_FIRST_OTHER_FD, _LAST_FD)
    os.write(_REPORT_FD, b"born\n")
    os.execve(SHELL, [SHELL, INIT, marker], _environment())  # noqa: S606 - the node's own first process


def _environment() -> dict[str, str]:
    return {"PATH": NODE_PATH, "HOME": "/root", "LANG": "C.UTF-8", "TERM": os.environ.get("TERM", "dumb")}


def _mount_own(home: Path) -> None:
    """Everything the node may write: layers over /etc, /var and /root; its own /run and /tmp."""
    kernel.mount("none", "/", "", kernel.MS_REC | kernel.MS_PRIVATE)
    for folder in _OWN_FOLDERS:
        layers = f"lowerdir=/{folder},upperdir={home / folder},workdir={home / f'.{folder}'}"
        try:
            kernel.mount("overlay", f"/{folder}", "overlay", 0, f"{layers},volatile")
        except OSError:
            kernel.mount("overlay", f"/{folder}", "overlay", 0, layers)
    kernel.mount("tmpfs", "/tmp", "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "mode=1777")  # noqa: S108 - a mount point
    kernel.mount("tmpfs", "/run", "tmpfs", kernel.MS_NOSUID, "mode=0755")
    for name, mode in (("netns", 0o755), ("frr", 0o755), ("sshd", 0o755), ("lock", 0o1777), ("extranet", 0o755)):
        path = Path("/run", name)
        path.mkdir()
        path.chmod(mode)
    with contextlib.suppress(KeyError):
        frr = pwd.getpwnam("frr")
        os.chown("/run/frr", frr.pw_uid, frr.pw_gid)
    Path(NODE_BIN).mkdir()
    # The machine's python3 may be of any version; this one is right, and its own libraries are found from its path.
    Path(NODE_BIN, "python3").symlink_to(os.path.realpath(sys.executable))


def _new_network(sysctls: dict[str, str]) -> None:
    kernel.unshare(kernel.CLONE_NEWNET)
    for name, value in sysctls.items():
        with contextlib.suppress(FileNotFoundError):  # a kernel without it does not need it
            fd = os.open(f"/proc/sys/{name}", os.O_WRONLY)
            try:
                os.write(fd, value.encode() + b"\n")
            finally:
                os.close(fd)
    kernel.set_links(["lo"], up=True)


def namespace_path(node: NodeState, plane: str | None = None) -> str:
    """Return the path of a node's network namespace, or of the one that backs `plane` inside it."""
    return f"/proc/{node.pid}/root{NETNS_DIR}/{plane}" if plane else f"/proc/{node.pid}/ns/net"


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


def shell_code(returncode: int) -> int:
    """Return the exit code a shell would give: 128+N for a program that signal N ended."""
    return returncode if returncode >= 0 else 128 - returncode


def exec_in(
    state: LabState,
    node: str,
    argv: Sequence[str],
    *,
    plane: str | None = None,
    input_text: str | None = None,
    capture: bool = True,
    timeout_s: float | None = None,
    stdin: IO[str] | int | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a program inside a node, with `plane` in that VRF, and return its completed process.

    With `capture` false the program has this process's own input and output.
    """
    where = state.node(node) if node != state.switch.name else state.switch
    if not is_alive(where.pid, where.born):
        raise LabBootError(node, "the node is not running", "run 'extranet lab status', then 'extranet lab up --again'")
    prefix = ["nsenter", f"--target={where.pid}", "--mount", "--uts", "--ipc", "--pid"]
    command = list(argv)
    if plane is None:
        prefix.append("--net")
    elif plane in where.planes:
        prefix.append(f"--net={namespace_path(where, plane)}")
    elif where.kind == "router" and state.facts.vrf_devices:
        prefix.append("--net")
        command = ["ip", "vrf", "exec", plane, *command]
    else:
        raise miss_plane(node, plane, where.planes)
    prefix[0] = kernel.find_tool("nsenter") or "nsenter"
    pipe = subprocess.PIPE if capture else None
    given = (
        {"input": input_text}
        if input_text is not None
        else {"stdin": stdin if stdin is not None or not capture else subprocess.DEVNULL}
    )
    return subprocess.run(
        [*prefix, "--", *command],
        env=_environment(),
        umask=NODE_UMASK,
        stdout=pipe,
        stderr=pipe,
        text=True,
        timeout=timeout_s,
        check=False,
        **given,
    )
