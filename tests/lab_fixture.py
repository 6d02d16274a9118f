"""Small labs for tests: a copy of the sample county, its first town, taken down again whatever happens.

`small_lab` is shared by the session (of one worker): a test that changes it puts back what it changed.
`county_copy` and `run_lab` are for tests that need a lab of their own.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from lab.errors import MachineError
from lab.kernel import check_machine
from lab.nodes import exec_in
from lab.state import LabState, read_state

ROOT = Path(__file__).resolve().parent.parent
SAMPLE = ROOT / "inventory" / "yichuan"
COMMAND = [sys.executable, "-c", "from scripts.commands.lab import app; app()"]

# What a station asks: TCP bound to one leg, TLS with the lab's CA where a name is given, the first bytes of the answer.
_ASK = """
import socket, ssl, sys
leg, address, port, name = sys.argv[1:5]
family = socket.AF_INET6 if ":" in address else socket.AF_INET
s = socket.socket(family, socket.SOCK_STREAM)
s.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, leg.encode())
s.settimeout(2)
s.connect((address, int(port)))
if name:
    s = ssl.create_default_context(cafile="/etc/extranet/ca.pem").wrap_socket(s, server_hostname=name)
    s.sendall(f"GET / HTTP/1.1\\r\\nHost: {name}\\r\\nConnection: close\\r\\n\\r\\n".encode())
print(s.recv(4096).decode())
"""


@dataclass(frozen=True)
class SmallLab:
    """A lab that is up: its county folder and its state."""

    county_dir: Path
    state: LabState

    def run(self, node: str, *argv: str, plane: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run a command inside a node."""
        return exec_in(self.state, node, argv, plane=plane, timeout_s=30)

    def ask(self, station: str, leg: str, address: str, port: int, tls_name: str = "") -> str:
        """Connect from a station's leg; return what the service said, or an empty text when it was not reached."""
        done = self.run(station, "python3", "-c", _ASK, leg, address, str(port), tls_name)
        return done.stdout if done.returncode == 0 else ""


def copy_county(to: Path) -> Path:
    """Copy the sample county without anything a run leaves in it."""
    shutil.copytree(SAMPLE, to, ignore=shutil.ignore_patterns(".lab", "*.db", "*.sqlite*", "evidence", "plan"))
    return to


def run_lab(county_dir: Path, *arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run `extranet lab …` for a county folder."""
    return subprocess.run(
        [*COMMAND, *arguments],
        cwd=ROOT,
        env={**os.environ, "EXTRANET_COUNTY": str(county_dir), **(env or {})},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def skip_without_machine() -> None:
    """Skip where no lab can be: not root, or programs missing. What was not run counts nowhere as passed."""
    try:
        check_machine()
    except MachineError as error:
        pytest.skip(str(error))


@pytest.fixture
def county_copy(tmp_path: Path) -> Iterator[Path]:
    """A county folder of the test's own, whose lab is taken down at the end."""
    skip_without_machine()
    county_dir = copy_county(tmp_path / "county")
    try:
        yield county_dir
    finally:
        run_lab(county_dir, "down")


@pytest.fixture(scope="session")
def small_lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallLab]:
    """A lab of the sample county's first town, as it is before migration."""
    skip_without_machine()
    county_dir = copy_county(tmp_path_factory.mktemp("small") / "county")
    try:
        done = run_lab(county_dir, "up", "--towns", "1", "--json")
        assert done.returncode == 0, done.stderr
        yield SmallLab(county_dir, read_state(county_dir))
    finally:
        run_lab(county_dir, "down")
