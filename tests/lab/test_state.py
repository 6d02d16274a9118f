"""A lab is found by its county folder, with or without its state file."""

from pathlib import Path

import pytest

from lab.errors import LabBusyError, LabDownError, MachineError
from lab.kernel import check_machine
from lab.state import find_id, lab_id, lab_lock, read_state, replace_file, runtime_dir
from lab.wiring import draw_prefix


def test_two_folders_have_two_labs(tmp_path: Path) -> None:
    """The lab's id depends on the county folder's real path, however it is written."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    assert lab_id(tmp_path / "a") != lab_id(tmp_path / "b")
    assert lab_id(tmp_path / "a") == lab_id(tmp_path / "b" / ".." / "a")
    assert find_id(f"yichuan-{lab_id(tmp_path / 'a')}") == find_id(tmp_path / "a")


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
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr("lab.kernel.find_tool", lambda name: None if name == "unbound" else f"/usr/sbin/{name}")
    with pytest.raises(MachineError, match=r"programs are missing \(.*unbound.*\); run scripts/setup"):
        check_machine()
