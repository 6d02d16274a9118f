"""The system calls and kernel facts the lab stands on; no policy here.

Python 3.11 has no `os.unshare` or `os.setns`, so they come from libc.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import shutil
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from inventory.model import Model
from lab.errors import MachineError

CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_NOEXEC = 0x8
MS_BIND = 0x1000
MS_REC = 0x4000
MS_PRIVATE = 0x40000
_PR_SET_PDEATHSIG = 1
_SIGKILL = 9
_SIOCGIFFLAGS = 0x8913
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 0x1

TOOLS = {
    "ip": "iproute2",
    "nft": "nftables",
    "nsenter": "util-linux",
    "vtysh": "frr",
    "sshd": "openssh-server",
    "nginx": "nginx-light and libnginx-mod-stream",
    "unbound": "unbound",
}
SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/usr/lib/frr"
STREAM_MODULE = Path("/usr/lib/nginx/modules/ngx_stream_module.so")
DAEMON_DIR = Path("/usr/lib/frr")

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def unshare(flags: int) -> None:
    """Leave the named namespaces for new ones (unshare(2))."""
    _check(_libc.unshare(flags), "unshare")


def setns(fd: int, kind: int) -> None:
    """Enter the namespace behind `fd` (setns(2))."""
    _check(_libc.setns(fd, kind), "setns")


def mount(source: str, target: str, kind: str, flags: int = 0, options: str = "") -> None:
    """Mount a file system (mount(2))."""
    result = _libc.mount(source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), options.encode())
    _check(result, f"mount {kind or source} on {target}")


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent dies; for the time before it carries the lab's marker."""
    _check(_libc.prctl(_PR_SET_PDEATHSIG, _SIGKILL, 0, 0, 0), "prctl")
    if parent and os.getppid() != parent:
        os._exit(1)


@contextlib.contextmanager
def network_of(path: str) -> Iterator[None]:
    """Run the body inside the network namespace at `path`; this thread only."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        there = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            setns(there, CLONE_NEWNET)
        finally:
            os.close(there)
        try:
            yield
        finally:
            setns(home, CLONE_NEWNET)
    finally:
        os.close(home)


def link_names() -> list[str]:
    """Names of the interfaces in this network namespace."""
    return [name for _, name in socket.if_nameindex()]


def set_links(names: list[str], *, up: bool) -> list[str]:
    """Bring interfaces of this network namespace up or down; return those that were the other way before."""
    changed = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        for name in names:
            request = struct.pack("16sh14x", name.encode(), 0)
            flags = struct.unpack("16sh14x", fcntl.ioctl(control, _SIOCGIFFLAGS, request))[1]
            wanted = flags | _IFF_UP if up else flags & ~_IFF_UP
            if wanted != flags:
                fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sh14x", name.encode(), wanted))
                changed.append(name)
    return changed


class KernelFacts(Model):
    """What the kernel has, and so what the lab uses. `vrf_backend` is `device` or `netns`."""

    release: str
    vrf_devices: bool
    overlay: bool

    @property
    def vrf_backend(self) -> Literal["device", "netns"]:
        """How routers keep their VRFs here."""
        return "device" if self.vrf_devices else "netns"


def find_tool(name: str) -> str | None:
    """Return the path of a program of the machine, looking where daemons live too."""
    return shutil.which(name, path=SEARCH_PATH)


def check_root() -> None:
    """Refuse with one line who is not root."""
    if os.geteuid() != 0:
        raise MachineError("the lab makes namespaces and links, which only root may", "run this command as root")


def check_machine() -> None:
    """Refuse with one line when this machine lacks what every lab needs."""
    check_root()
    missing = {package for tool, package in TOOLS.items() if find_tool(tool) is None}
    missing |= {"frr"} if not all((DAEMON_DIR / d).exists() for d in ("zebra", "staticd", "bgpd")) else set()
    missing |= {"libnginx-mod-stream"} if not STREAM_MODULE.exists() else set()
    if missing:
        raise MachineError(
            f"programs are missing ({', '.join(sorted(missing))})", "run scripts/setup, or install them with apt-get"
        )


def probe_kernel() -> KernelFacts:
    """Ask the kernel what it has, by trying it inside namespaces that end with the question."""
    release = os.uname().release
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read_end)
        answer = b"-"
        try:
            unshare(CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWUTS | CLONE_NEWIPC)
            quiet = ">/dev/null 2>&1"
            vrf = os.system(f"ip link add vrfprobe type vrf table 10 {quiet}") == 0  # noqa: S605 - fixed text
            answer = b"v" if vrf else b"n"
        finally:
            os.write(write_end, answer)
            os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as answers:
        answer = answers.read()
    os.waitpid(child, 0)
    if answer not in {b"v", b"n"}:
        raise MachineError(
            f"kernel {release} refused new namespaces",
            "use a kernel with network, mount, host name and process namespaces",
        )
    has = {line.split()[-1] for line in Path("/proc/filesystems").read_text("ascii").splitlines()}
    overlay = "overlay" in has or os.system("modprobe -q overlay >/dev/null 2>&1") == 0  # noqa: S605 - fixed text
    if not overlay:
        raise MachineError(
            f"kernel {release} has no overlay file system", "use a kernel with overlayfs (Debian's has it)"
        )
    return KernelFacts(release=release, vrf_devices=answer == b"v", overlay=overlay)
