"""A real OpenSSH server as a station on the loopback, whose behaviour a test chooses by a shell script."""

import getpass
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from inventory.access import Access

OBEY = 'exec sh -c "$SSH_ORIGINAL_COMMAND"'

_INIT = r"""
set -eu
mount --make-rprivate /
mount -t tmpfs tmpfs /run
mkdir -p /run/sshd
/usr/sbin/sshd -f "$1/sshd_config" -E "$1/log"
echo ready
cat >/dev/null
"""


@dataclass(frozen=True)
class Sshd:
    """A server that is up. Stations `a` and `b` are both this server."""

    folder: Path
    port: int

    @property
    def access(self) -> Access:
        """How to reach it."""
        return Access(
            target="lab",
            name="t",
            user=getpass.getuser(),
            port=self.port,
            identity_file=str(self.folder / "client"),
            known_hosts=str(self.folder / "known_hosts"),
            addresses={"a": "127.0.0.1", "b": "127.0.0.1"},
            ca_file=str(self.folder / "ca.pem"),
        )

    def behave(self, script: str = OBEY) -> None:
        """Have every further session run this instead of its command (`$SSH_ORIGINAL_COMMAND`)."""
        (self.folder / "behave").write_text(script + "\n", "utf-8")


def make_key(path: Path) -> str:
    """Make a key pair; return the public half."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
    return path.with_suffix(".pub").read_text("utf-8")


@contextmanager
def running_sshd(folder: Path) -> Iterator[Sshd]:
    """Run a server for the block; it ends with the test run however that ends."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    host = make_key(folder / "host")
    (folder / "authorized").write_text(make_key(folder / "client"), "utf-8")
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {host}", "utf-8")
    config = [
        f"Port {port}",
        "ListenAddress 127.0.0.1",
        f"HostKey {folder}/host",
        f"AuthorizedKeysFile {folder}/authorized",
        "PasswordAuthentication no",
        "KbdInteractiveAuthentication no",
        "PermitRootLogin yes",
        "StrictModes no",
        "UsePAM no",
        "PidFile none",
        "MaxStartups 100",
        f"ForceCommand sh {folder}/behave",
    ]
    (folder / "sshd_config").write_text("\n".join(config) + "\n", "utf-8")
    with subprocess.Popen(
        ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", _INIT, "sh", str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "ready\n", (folder / "log").read_text("utf-8")
            _await_port(port)
            server = Sshd(folder, port)
            server.behave()
            yield server
        finally:
            process.stdin.close()
            process.wait(10)


def _await_port(port: int) -> None:
    for _ in range(100):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError("sshd does not listen")
