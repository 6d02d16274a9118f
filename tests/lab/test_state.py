"""A lab is found by its county folder, with or without its state file."""

import shutil
import subprocess
from collections.abc import Callable
from ipaddress import IPv6Network
from pathlib import Path

import pytest

from inventory.errors import UnknownNameError
from inventory.reader import load_county, restrict_to_towns
from lab.boot import down
from lab.errors import LabBusyError, LabDownError, MachineError, NotInLabError
from lab.faults import find_cables
from lab.kernel import KernelFacts, check_machine
from lab.nodes import shell_code
from lab.state import Cable, LabState, NodeState, id_in_name, lab_id, lab_lock, read_state, replace_file, runtime_dir
from lab.wiring import draw_prefix
from tests.lab_fixture import copy_county


def test_two_folders_have_two_labs(tmp_path: Path) -> None:
    """The lab's id depends on the county folder's real path, however it is written."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    assert lab_id(tmp_path / "a") != lab_id(tmp_path / "b")
    assert lab_id(tmp_path / "a") == lab_id(tmp_path / "b" / ".." / "a")
    assert id_in_name(f"yichuan-{lab_id(tmp_path / 'a')}") == lab_id(tmp_path / "a")


def test_no_lab_is_said_so(tmp_path: Path) -> None:
    """Without a lab, reading its state names the folder and what to do."""
    with pytest.raises(LabDownError, match=rf"{tmp_path}: no lab is up; start one"):
        read_state(tmp_path)


def test_one_command_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While one command makes or removes a lab, another is refused; afterwards nothing of the lock is left."""
    monkeypatch.setenv("EXTRANET_LAB_DIR", str(tmp_path / "labs"))
    with lab_lock("abcdef"), pytest.raises(LabBusyError), lab_lock("abcdef"):
        pass
    with lab_lock("abcdef"):
        assert runtime_dir("abcdef").exists()
    assert not (tmp_path / "labs").exists()


def test_files_are_replaced_whole(tmp_path: Path) -> None:
    """A replaced file is the old or the new one; no part of it stays beside it."""
    path = tmp_path / "x"
    replace_file(path, "one")
    replace_file(path, "two")
    assert path.read_text() == "two"
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


def test_management_never_overlaps_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A prefix that meets an address or route of the machine is refused, naming both."""
    answers = {"addr": '[{"addr_info":[{"local":"fd00:1:2::5","prefixlen":64}]}]', "route": '[{"dst":"default"}]'}
    monkeypatch.setattr("lab.wiring._run_ip", lambda argv, lines=None: answers[argv[2]])
    with pytest.raises(MachineError, match=r"fd00:1:2::/48 would overlap fd00:1:2::/64"):
        draw_prefix("fd00:1:2::/48")
    assert str(draw_prefix("fd00:1:3::/48")) == "fd00:1:3::/48"
    drawn = {draw_prefix() for _ in range(20)}
    assert len(drawn) == 20
    assert all(n.prefixlen == 48 and n.network_address.packed[0] == 0xFD for n in drawn)


def test_no_free_prefix_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that routes all of fd00::/8 cannot hold a lab until somebody says which /48 is free."""
    answers = {"addr": "[]", "route": '[{"dst":"fd00::/8"}]'}
    monkeypatch.setattr("lab.wiring._run_ip", lambda argv, lines=None: answers[argv[2]])
    with pytest.raises(MachineError, match="overlap fd00::/8"):
        draw_prefix()


def test_only_root_may(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without root, or with programs missing, one line says what to do."""
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(MachineError, match="only root may; run this command as root"):
        check_machine()
    with pytest.raises(MachineError, match="only root may; run this command as root"):
        down("yichuan-000000")
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr("lab.kernel.find_tool", lambda name: None if name == "unbound" else f"/usr/sbin/{name}")
    with pytest.raises(MachineError, match=r"programs are missing \(.*unbound.*\); run scripts/setup"):
        check_machine()


def small_lab(county_dir: Path) -> LabState:
    """Return the state of a lab of the sample's first town, as its file would be."""
    county = restrict_to_towns(load_county(county_dir), 1)
    nodes = [NodeState(name=d.id, kind="router", pid=1, born=1) for d in county.devices]
    cables = [
        Cable(link=f"{c.id}/public", circuit=c.id, node="core1", plane=None, interface="x") for c in county.circuits
    ]
    return LabState(
        id="000000",
        name="yichuan-000000",
        county_dir=str(county_dir),
        county=county.id,
        towns=1,
        prefix=IPv6Network("fd00::/64"),
        root_link="xl000000",
        facts=KernelFacts(release="6.1", vrf_devices=False, overlay=True),
        nodes=tuple(nodes),
        cables=tuple(cables),
        started=0,
    )


def test_what_a_small_lab_leaves_out_is_said_so(tmp_path: Path) -> None:
    """A node or line of the county that a small lab does not hold is told from one that is nowhere."""
    county_dir = copy_county(tmp_path / "county")
    state = small_lab(county_dir)
    for ask, name in ((state.node, "hebin-r1"), (state.node, "hebin-center"), (find_cables_of(state), "x-hebin-core1")):
        with pytest.raises(NotInLabError, match=r"in the county, but not in this lab, which has the first town \(城关"):
            ask(name)
    with pytest.raises(UnknownNameError, match="not in this lab; did you mean chengguan-r1"):
        state.node("chengguan-r9")
    shutil.rmtree(county_dir)
    with pytest.raises(UnknownNameError, match="not in this lab"):
        state.node("hebin-r1")


def find_cables_of(state: LabState) -> Callable[[str], object]:
    """Return what looks for a line in a lab."""
    return lambda name: find_cables(state, name)


@pytest.mark.parametrize(("script", "code"), [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", 137), ("kill -15 $$", 143)])
def test_exit_codes_are_those_of_a_shell(script: str, code: int) -> None:
    """A program's exit code is passed on; one that signal N ended gives 128+N."""
    assert shell_code(subprocess.run(["/bin/sh", "-c", script], check=False).returncode) == code
