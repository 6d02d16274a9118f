"""Faults break exactly what they name, are seen in the status, and are undone without a rest."""

import inspect
import re
import shlex
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from inventory.access import read_access
from inventory.errors import UnknownNameError
from lab import faults
from lab.faults import Drop, FaultError, What, render_drops
from lab.status import status
from scripts.commands.lab import fault
from tests.lab_fixture import SmallLab, run_lab

STATION = "chengguan-center"
PORTAL = "10.128.255.80"


def within(seconds: float, holds: Callable[[], bool]) -> bool:
    """Whether something comes true in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if holds():
            return True
        time.sleep(0.2)
    return holds()


def test_drops_spare_management_and_neighbour_discovery() -> None:
    """Rules never match the management interface, and `icmp` leaves the LAN's own ICMPv6 alone."""
    text = render_drops([Drop(node="n", plane=None, what=What.ICMP)])
    rules = [line for line in text.splitlines() if line.strip().endswith("drop")]
    assert rules
    assert all('!= "mgmt0"' in rule for rule in rules)
    assert not any("icmpv6" in rule and ("135" in rule or "136" in rule or "134" in rule) for rule in rules)
    assert render_drops([]).splitlines() == ["table inet extranet_fault {}", "delete table inet extranet_fault"]


@pytest.mark.lab
def test_a_cut_line_goes_dark_at_both_ends_and_comes_back(small_lab: SmallLab) -> None:
    """Cutting a legacy line breaks the department's service; mending it brings it back."""

    def reached() -> bool:
        return "finance" in small_lab.ask(STATION, "finance", "10.20.0.80", 1521)

    assert within(15, reached)
    faults.cut(small_lab.state, "fin-l-chengguan")
    try:
        far = small_lab.run("fin-hub", "cat", "/proc/net/dev")
        assert far.returncode == 0
        carrier = small_lab.run("fin-hub", "cat", "/sys/class/net/chengguan/carrier").stdout.strip()
        assert carrier == "0"
        assert not reached()
        assert [c.cable.link for c in status(small_lab.county_dir).faults.cuts] == ["fin-l-chengguan"]
        assert faults.cut(small_lab.state, "fin-l-chengguan") == ()
    finally:
        faults.restore(small_lab.state, "fin-l-chengguan")
    assert within(15, reached)
    assert status(small_lab.county_dir).faults.cuts == ()


@pytest.mark.lab
def test_a_circuit_is_cut_with_all_its_planes(small_lab: SmallLab) -> None:
    """Cutting an extranet circuit cuts the link of every plane it carries."""
    try:
        cut = faults.cut(small_lab.state, "x-chengguan-core1")
        assert {c.plane for c in cut} == {"public", "finance", "edu", "hrss", "realestate"}
    finally:
        assert len(faults.restore(small_lab.state, "x-chengguan-core1")) == len(cut)


@pytest.mark.lab
def test_a_village_line_is_cut_at_the_line_not_at_the_router(small_lab: SmallLab) -> None:
    """The router's port of a village's old line loses its carrier but stays as configured."""
    try:
        faults.cut(small_lab.state, "edu-l-chengguan-xichang")
        link = small_lab.run("edu-chengguan", "ip", "link", "show", "dev", "xichang").stdout
        assert "NO-CARRIER" in link
        assert ",UP" in link
    finally:
        faults.restore(small_lab.state, "edu-l-chengguan-xichang")


@pytest.mark.lab
def test_dropped_packets_are_those_named(small_lab: SmallLab) -> None:
    """Dropping one TCP port leaves the others, and undrop restores it."""
    assert within(15, lambda: "queue" in small_lab.ask(STATION, "public", PORTAL, 9100))
    faults.drop(small_lab.state, "chengguan-r1", What.TCP, port=9100, plane="public")
    try:
        assert not small_lab.ask(STATION, "public", PORTAL, 9100)
        assert "portal" in small_lab.ask(STATION, "public", PORTAL, 443, "portal.yichuan.example")
        assert [d.port for d in status(small_lab.county_dir).faults.drops] == [9100]
    finally:
        faults.undrop(small_lab.state, "chengguan-r1")
    assert "queue" in small_lab.ask(STATION, "public", PORTAL, 9100)


@pytest.mark.lab
def test_a_stopped_router_starts_from_what_it_saved(small_lab: SmallLab) -> None:
    """What was not written is gone after a stop; what was written is back, and traffic flows again."""
    router = "fin-chengguan"
    for line in ("ip route 203.0.113.0/24 blackhole", "do write", "ip route 198.51.100.0/24 blackhole"):
        small_lab.run(router, "vtysh", "-c", "configure", "-c", line)
    try:
        faults.stop(small_lab.state, router)
        assert not small_lab.ask(STATION, "finance", "10.20.0.80", 1521)
        assert {n.name for n in status(small_lab.county_dir).nodes if n.state == "stopped"} == {router}
        with pytest.raises(FaultError):
            faults.stop(small_lab.state, router)
    finally:
        faults.start(small_lab.state, router)
    running = small_lab.run(router, "vtysh", "-c", "show running-config").stdout
    assert "203.0.113.0/24" in running
    assert "198.51.100.0/24" not in running
    small_lab.run(router, "vtysh", "-c", "configure", "-c", "no ip route 203.0.113.0/24 blackhole", "-c", "do write")
    assert within(15, lambda: "finance" in small_lab.ask(STATION, "finance", "10.20.0.80", 1521))
    assert status(small_lab.county_dir).healthy


@pytest.mark.lab
def test_killed_sessions_end_and_new_ones_work(small_lab: SmallLab) -> None:
    """kill-ssh ends the sessions of one node at once; the listener stays."""
    access = read_access(small_lab.county_dir)
    ssh = [
        "ssh",
        "-i",
        access.identity_file or "",
        "-o",
        f"UserKnownHostsFile={access.known_hosts}",
        "-o",
        "BatchMode=yes",
        "-o",
        "StrictHostKeyChecking=yes",
        f"root@{access.addresses[STATION]}",
    ]
    with subprocess.Popen([*ssh, "echo ready; sleep 60"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as session:
        assert session.stdout is not None
        assert session.stdout.readline() == b"ready\n"
        assert faults.kill_ssh(small_lab.state, STATION) == 1
        assert session.wait(10) != 0
    assert subprocess.run([*ssh, "true"], check=False, capture_output=True).returncode == 0


@pytest.mark.lab
def test_unknown_names_are_named_with_near_ones(small_lab: SmallLab) -> None:
    """A misspelt line, node or plane is refused with what was probably meant."""
    with pytest.raises(UnknownNameError, match="fin-l-chengguan"):
        faults.cut(small_lab.state, "fin-l-chenguan")
    with pytest.raises(UnknownNameError, match="chengguan-r1"):
        faults.stop(small_lab.state, "chengguan-r2")
    with pytest.raises(UnknownNameError, match="plane of core1"):
        faults.drop(small_lab.state, "core1", What.TCP, plane="publik")
    done = run_lab(small_lab.county_dir, "fault", "drop", "core1", "--what", "icpm")
    assert done.returncode == 2
    assert "icmp" in done.stderr


def test_a_fault_needs_a_lab(tmp_path: Path) -> None:
    """Without a lab, a fault is refused with one line."""
    done = run_lab(tmp_path, "fault", "cut", "x")
    assert done.returncode == 2
    assert "no lab is up" in done.stderr


def list_examples() -> list[list[str]]:
    """The examples that the help of the faults gives, in the order of the commands."""
    texts = [inspect.getdoc(command.callback) or "" for command in fault.registered_commands]
    return [shlex.split(found) for text in texts for found in re.findall(r"Example: extranet lab (fault .*)", text)]


@pytest.mark.lab
def test_every_example_works_as_it_stands(small_lab: SmallLab) -> None:
    """What the help shows does what it says when typed in a lab of the sample county, and all of it can be undone."""
    examples = list_examples()
    assert len(examples) >= 20
    try:
        for example in examples:
            done = run_lab(small_lab.county_dir, *example)
            assert done.returncode == 0, f"{example}: {done.stderr}"
    finally:
        run_lab(small_lab.county_dir, "fault", "mend")
    assert status(small_lab.county_dir).healthy


@pytest.mark.lab
def test_what_cannot_be_broken_so_is_said_plainly(small_lab: SmallLab) -> None:
    """A station has no planes to choose, a name is whole, and a fault that is not in force is not mended: exit 2, and why."""
    for arguments, why in (
        (("drop", STATION, "--what", "tcp", "--plane", "finance"), "keeps no planes apart"),
        (("name", "srv-dns", "finance", "10.20.8.99"), "names are whole there, such as"),
        (("mend", "mtu x"), "no such fault is in force"),
        (("resolver", STATION, "nowhere", "10.20.0.53"), "finance"),
        (("resolver", STATION, "finance", "dns"), "expected an address, found 'dns'"),
        (("hosts", STATION, "finance.yichuan.example", "10.20.0"), "expected an address"),
        (("name", "srv-dns", "finance.yichuan.example", "elsewhere"), "expected an address"),
    ):
        done = run_lab(small_lab.county_dir, "fault", *arguments)
        assert (done.returncode, why in done.stderr) == (2, True), done.stderr
