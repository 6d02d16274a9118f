"""One real FRR router with an SSH server in namespaces of its own, for the contract tests.

Everything runs in one PID namespace whose first process ends when its standard input closes, so that nothing
survives the test run however it ends.
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv6Address, IPv6Network, ip_network
from pathlib import Path

from inventory.access import Access

_INIT = r"""
set -eu
dir=$1 name=$2 address=$3 mount_size=$4
hostname "$name"
mount --make-rprivate /
mount -t tmpfs -o size=${mount_size} tmpfs /run
mkdir -p /run/frr /run/netns /run/sshd /run/extranet
# A tmpfs that a test can fill without hurting the router itself.
mount -t tmpfs -o size=512k,mode=0700 tmpfs /run/extranet
chown frr:frr /run/frr
mkdir -p "$dir/etc"
mount --bind "$dir/etc" /etc/frr
mkdir -p "$dir/log"; chown frr:frr "$dir/log"
mount --bind "$dir/log" /var/log/frr
mount -t tmpfs tmpfs /root
mkdir -m 0700 /root/.ssh
cp "$dir/client.pub" /root/.ssh/authorized_keys
ip link set lo up
sysctl -q -w net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 net.ipv6.conf.all.keep_addr_on_down=1 \
  net.ipv6.conf.default.keep_addr_on_down=1
for vrf in edu finance hrss public realestate; do
  ip netns add $vrf
  ip -n $vrf link set lo up
  ip link add wan1.$vrf type veth peer name lan.$vrf
  ip link set wan1.$vrf netns $vrf
  ip link set lan.$vrf netns $vrf
  ip -n $vrf link set wan1.$vrf up
  ip -n $vrf link set lan.$vrf up
  ip netns exec $vrf sysctl -q -w net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
done
ip link add lan1 type veth peer name wan1
ip link set lan1 up; ip link set wan1 up
# The management leg arrives from outside; wait for it.
while ! ip link show mgmt >/dev/null 2>&1; do sleep 0.02; done
ip addr add "$address/64" dev mgmt nodad
ip link set mgmt up
/usr/lib/frr/zebra -d -F datacenter -n -A 127.0.0.1
/usr/lib/frr/staticd -d -F datacenter -A 127.0.0.1
/usr/lib/frr/bgpd -d -F datacenter -A 127.0.0.1
vtysh -b >/dev/null
/usr/sbin/sshd -f "$dir/sshd_config"
touch "$dir/ready"
"""


@dataclass
class Router:
    """A running router under test."""

    name: str
    folder: Path
    address: str
    link: str
    access: Access
    process: subprocess.Popen[bytes] = field(repr=False)
    init_pid: int = 0

    def run(self, command: str, *, check: bool = True) -> str:
        """Run a shell command inside the router, past any driver."""
        done = subprocess.run(
            ["nsenter", "-t", str(self.init_pid), "-a", "sh", "-c", command],
            capture_output=True,
            text=True,
            check=False,
        )
        if check and done.returncode:
            raise AssertionError(f"{command!r} gave {done.returncode}: {done.stdout}{done.stderr}")
        return done.stdout

    def running(self) -> str:
        """Return the running configuration as the router prints it."""
        return self.run("vtysh -c 'show running-config no-header'")


@contextmanager
def boot_router(folder: Path, *, name: str = "r1", startup: str = "", port: int = 22) -> Iterator[Router]:
    """Start a router, wait until it answers on SSH, and tear all of it down afterwards."""
    folder.chmod(0o755)
    for parent in folder.parents[:3]:
        parent.chmod(parent.stat().st_mode | 0o011)
    etc = folder / "etc"
    etc.mkdir(exist_ok=True)
    shutil.chown(etc, "frr", "frr")
    config = etc / "frr.conf"
    if not config.exists():
        config.write_text(startup or f"hostname {name}\n")
        shutil.chown(config, "frr", "frr")
    (etc / "vtysh.conf").write_text("")
    for key in ("host", "client"):
        if not (folder / key).exists():
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / key)], check=True)
    prefix = free_prefix()
    here, there = str(prefix[1]), str(prefix[2])
    (folder / "sshd_config").write_text(
        f"Port {port}\nListenAddress [{there}]:{port}\nHostKey {folder}/host\n"
        "AuthorizedKeysFile /root/.ssh/authorized_keys\n"
        "PermitRootLogin prohibit-password\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nUsePAM no\n"
        f"PidFile none\nStrictModes no\nMaxStartups 50\n"
    )
    (folder / "ready").unlink(missing_ok=True)
    host_key = (folder / "host.pub").read_text().split()[:2]
    (folder / "known_hosts").write_text(f"{there} {' '.join(host_key)}\n")
    link = f"xt{secrets.token_hex(4)}"
    script = folder / "init.sh"
    script.write_text(_INIT)
    spaces = ["--net", "--mount", "--uts", "--ipc", "--pid", "--fork", "--kill-child", "--mount-proc"]
    run = 'sh "$0" "$@" </dev/null >"$1/init.log" 2>&1; cat >/dev/null'
    process = subprocess.Popen(
        ["unshare", *spaces, "sh", "-c", run, str(script), str(folder), name, there, "32m"],
        stdin=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        router = Router(
            name=name,
            folder=folder,
            address=there,
            link=link,
            process=process,
            access=Access(
                target="lab",
                name="rig",
                port=port,
                identity_file=str(folder / "client"),
                known_hosts=str(folder / "known_hosts"),
                addresses={name: there},
                vrf_backend="netns",
            ),
        )
        router.init_pid = _child_of(process.pid)
        ip = ["ip", "link", "add", link, "type", "veth", "peer", "name", "mgmt", "netns", str(router.init_pid)]
        subprocess.run(ip, check=True)
        subprocess.run(["ip", "addr", "add", f"{here}/64", "dev", link, "nodad"], check=True)
        subprocess.run(["ip", "link", "set", link, "up"], check=True)
        _wait_for((folder / "ready").exists, process, folder)
        _wait_for(lambda: _answers(there, port), process, folder)
        yield router
    finally:
        subprocess.run(["ip", "link", "del", link], check=False, capture_output=True)
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def free_prefix() -> IPv6Network:
    """Draw a random ULA /64 that meets no route of this machine."""
    routes = subprocess.run(
        ["ip", "-6", "route", "show", "table", "all"], capture_output=True, text=True, check=True
    ).stdout
    taken = []
    for line in routes.splitlines():
        word = next((w for w in line.split() if ":" in w), None)
        if word:
            taken.append(ip_network(word, strict=False))
    while True:
        raw = bytes([0xFD]) + os.urandom(7) + bytes(8)
        net = IPv6Network((IPv6Address(raw), 64))
        if not any(net.overlaps(t) for t in taken if t.prefixlen):
            return net


def _child_of(pid: int) -> int:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        if text:
            return int(text[0])
        time.sleep(0.01)
    raise AssertionError("the router's first process did not start")


def _answers(address: str, port: int) -> bool:
    try:
        with socket.create_connection((address, port), timeout=1):
            return True
    except OSError:
        return False


def _wait_for(condition: Callable[[], bool], process: subprocess.Popen[bytes], folder: Path) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if condition():
            return
        if process.poll() is not None:
            break
        time.sleep(0.02)
    raise AssertionError("the router did not start: " + (folder / "init.log").read_text())
