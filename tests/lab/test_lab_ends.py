"""A lab leaves nothing behind, however it ends, and disturbs no other."""

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from inventory.access import read_access
from lab.kernel import link_names
from lab.state import id_in_name, lab_id, read_state, runtime_dir
from lab.sweep import marked_processes
from lab.wiring import root_link
from tests.lab_fixture import COMMAND, ROOT, copy_county, run_lab

pytestmark = pytest.mark.lab


def traces(county_dir: Path) -> list[str]:
    """Everything of one lab that can be seen on the machine."""
    identity = lab_id(county_dir)
    found = [f"process {name}" for name in marked_processes(identity).values()]
    found += [f"link {name}" for name in link_names() if name == root_link(identity)]
    found += [f"file {runtime_dir(identity)}"] if runtime_dir(identity).exists() else []
    found += [f"file {county_dir / '.lab'}"] if (county_dir / ".lab").exists() else []
    found += [f"mount {m}" for m in Path("/proc/mounts").read_text().splitlines() if identity in m]
    return found


@contextlib.contextmanager
def start_up(county_dir: Path, *, towns: int = 1) -> Iterator[subprocess.Popen[bytes]]:
    """Start `lab up` without waiting for it; it has ended when the body has."""
    process = subprocess.Popen(
        # A shell's background jobs, and what they start, ignore Ctrl-C.
        ["env", "--default-signal=INT", *COMMAND, "up", "--towns", str(towns), "--county", str(county_dir)],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def await_processes(county_dir: Path, at_least: int) -> None:
    """Wait until so many nodes live."""
    deadline = time.monotonic() + 90
    while len(marked_processes(lab_id(county_dir))) < at_least:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_down_leaves_nothing(county_copy: Path) -> None:
    """After `down` there is no process, link, mount or file of the lab; a second `down` has nothing to do."""
    files = sorted(county_copy.rglob("*"))
    done = run_lab(county_copy, "up", "--towns", "1", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["nodes"] > 20
    assert traces(county_copy)
    assert run_lab(county_copy, "down").returncode == 0
    assert traces(county_copy) == []
    assert sorted(county_copy.rglob("*")) == files
    again = run_lab(county_copy, "down")
    assert again.returncode == 0
    assert "nothing left to do" in again.stdout
    (county_copy / "county.yaml").unlink()
    assert run_lab(county_copy, "down").returncode == 2


@pytest.mark.parametrize("nodes", [1, 12, 30])
def test_a_killed_up_is_cleaned(county_copy: Path, nodes: int) -> None:
    """When `up` is killed with -9, at whatever moment, its nodes end by themselves, and `down` finds the rest."""
    with start_up(county_copy) as process:
        await_processes(county_copy, nodes)
        process.kill()
    deadline = time.monotonic() + 60
    while marked_processes(lab_id(county_copy)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not marked_processes(lab_id(county_copy))
    assert run_lab(county_copy, "down").returncode == 0
    assert traces(county_copy) == []


def test_up_after_a_killed_up(county_copy: Path) -> None:
    """The next `up` clears what a killed one left and goes on as if nothing had been."""
    with start_up(county_copy) as process:
        await_processes(county_copy, 10)
        process.kill()
    done = run_lab(county_copy, "up", "--towns", "1")
    assert done.returncode == 0, done.stderr
    assert run_lab(county_copy, "status").returncode == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_up_cleans_itself(county_copy: Path, number: signal.Signals) -> None:
    """Ctrl-C or a polite kill in the middle: `up` says so, exits 4, and nothing is left without any `down`."""
    with start_up(county_copy, towns=3) as process:  # large enough not to be through before the signal comes
        await_processes(county_copy, 8)
        process.send_signal(number)
        assert process.wait(30) == 4
    assert traces(county_copy) == []


def test_lost_state_is_no_loss(county_copy: Path) -> None:
    """With the state file gone, `down` still finds everything by its marks."""
    assert run_lab(county_copy, "up", "--towns", "1").returncode == 0
    (runtime_dir(lab_id(county_copy)) / "state.json").unlink()
    assert run_lab(county_copy, "status").returncode == 2
    assert run_lab(county_copy, "down").returncode == 0
    assert traces(county_copy) == []


def test_a_lab_without_its_county_is_taken_down_by_name(county_copy: Path) -> None:
    """When the county folder was removed, the lab's name is enough."""
    assert run_lab(county_copy, "up", "--towns", "1").returncode == 0
    name = read_state(county_copy).name
    identity = id_in_name(name)
    assert identity is not None
    assert run_lab(county_copy, "down", "--name", name).returncode == 0
    assert marked_processes(identity) == {}
    assert traces(county_copy) == []


def test_two_labs_do_not_clash(county_copy: Path, tmp_path: Path) -> None:
    """Two counties' labs stand side by side, and taking one down leaves the other whole."""
    other = copy_county(tmp_path / "other")
    try:
        for county_dir in (county_copy, other):
            done = run_lab(county_dir, "up", "--towns", "1")
            assert done.returncode == 0, done.stderr
        one, two = read_state(county_copy), read_state(other)
        assert not one.prefix.overlaps(two.prefix)
        assert run_lab(county_copy, "down").returncode == 0
        assert run_lab(other, "status").returncode == 0
        access = read_access(other)
        strict = ["-o", f"UserKnownHostsFile={access.known_hosts}", "-o", "BatchMode=yes"]
        login = ["ssh", "-i", access.identity_file or "", *strict, f"root@{access.addresses['core1']}", "hostname"]
        assert subprocess.run(login, capture_output=True, text=True, check=False).stdout == "core1\n"
    finally:
        run_lab(other, "down")
    assert traces(other) == []


def test_a_full_disk_is_said_so(county_copy: Path) -> None:
    """Without space for the lab's files, `up` names the folder, exits 2 and leaves nothing."""
    script = (
        "mount -t tmpfs -o size=64k tmpfs /mnt && "
        f"EXTRANET_LAB_DIR=/mnt/labs exec {' '.join(map(repr, COMMAND))} up --towns 1 --county {county_copy}"
    )
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 2, done.stderr
    assert "no space left" in done.stderr
    assert len([line for line in done.stderr.splitlines() if "no space" in line]) == 1
    assert traces(county_copy) == []


def test_an_operators_umask_is_not_the_routers(county_copy: Path) -> None:
    """A shell that keeps new files from others makes a lab as whole as any, also when a stopped node is started."""
    before = os.umask(0o077)
    try:
        done = run_lab(county_copy, "up", "--towns", "1")
        assert done.returncode == 0, done.stderr
        for verb in ("stop", "start"):
            done = run_lab(county_copy, "fault", verb, "chengguan-r1")
            assert done.returncode == 0, done.stderr
        assert run_lab(county_copy, "status").returncode == 0
    finally:
        os.umask(before)


def test_clashing_addresses_are_refused(county_copy: Path) -> None:
    """A management prefix that the machine already routes is refused before anything is made."""
    done = run_lab(county_copy, "up", "--towns", "1", env={"EXTRANET_LAB_PREFIX": "fe80::/48"})
    assert done.returncode == 2
    assert "would overlap" in done.stderr
    assert traces(county_copy) == []


@pytest.mark.heavy
def test_the_whole_county_fits(county_copy: Path) -> None:
    """The whole sample county comes up, in 6 GiB; how fast is what scripts/bench measures."""
    done = run_lab(county_copy, "up", "--json")
    assert done.returncode == 0, done.stderr
    seen = json.loads(run_lab(county_copy, "status", "--json").stdout)
    assert len(seen["nodes"]) > 150
    assert seen["memory_bytes"] < 6 * 2**30
