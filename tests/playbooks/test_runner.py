"""Running a playbook: the suite's exit codes, nothing done is never success, and nothing is left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from inventory.errors import ExtranetError, InputProblemsError, UnknownNameError
from playbooks.jobs import Outcome
from playbooks.runner import _private_folder, _Seen, run_playbook
from tests.lab_fixture import ROOT, copy_county

BIN = Path(sys.executable).parent


@pytest.fixture
def county_dir(tmp_path: Path) -> Path:
    """A county's folder without lab and plan."""
    return copy_county(tmp_path / "county")


def make_plan(county_dir: Path) -> None:
    """Make the county's address plan."""
    subprocess.run([BIN / "extranet", "plan", "addresses", "--county", county_dir], capture_output=True, check=True)


def run_extranet(county_dir: Path, *arguments: str, **env: str) -> tuple[int, dict[str, Any]]:
    """Run `extranet playbook … --json` with a temporary folder of its own; return exit code and report."""
    scratch = county_dir.parent / "tmp"
    scratch.mkdir(exist_ok=True)
    done = subprocess.run(
        [BIN / "extranet", "playbook", *arguments, "--county", county_dir, "--json"],
        env={**os.environ, "TMPDIR": str(scratch), **env},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert list(scratch.iterdir()) == []  # no folder of ansible-runner stays
    return done.returncode, json.loads(done.stdout)


def run_ansible(county_dir: Path, *arguments: str) -> tuple[int, str]:
    """Run ansible-playbook as a person in the playbooks' folder does; return exit code and output."""
    done = subprocess.run(
        [BIN / "ansible-playbook", "-i", county_dir / "county.yaml", *arguments],
        cwd=ROOT / "playbooks",
        env={**os.environ, "ANSIBLE_HOME": str(county_dir.parent / "ansible"), "ANSIBLE_NOCOLOR": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=False,
    )
    return done.returncode, done.stdout


def test_bad_requests_start_nothing(county_dir: Path) -> None:
    """Unknown playbooks, bad county files and limits that would be taken for none are refused before Ansible starts."""
    with pytest.raises(UnknownNameError, match="provision"):
        run_playbook("provison", county_dir)
    for name, limit in (("verify", ""), ("verify", " , "), ("cutover", "core1"), ("retire", "localhost")):
        with pytest.raises(ExtranetError, match="--limit"):
            run_playbook(name, county_dir, limit=limit)
    (county_dir / "sites.csv").write_text("id,name\n", "utf-8")
    with pytest.raises(InputProblemsError):
        run_playbook("verify", county_dir)


def test_no_host_matched_is_not_success(county_dir: Path) -> None:
    """A limit that leaves a play without hosts ends with 2 and says so."""
    code, report = run_extranet(county_dir, "verify", "--limit", "core1")
    assert (code, report["exit_code"], report["outcomes"]) == (2, 2, [])
    assert "no host matched" in report["errors"][0]
    code, report = run_extranet(county_dir, "provision", "--limit", "nosuch")
    assert code == 2
    assert "no hosts to target" in " ".join(report["errors"])


def test_operators_settings_do_not_change_the_play(county_dir: Path) -> None:
    """ANSIBLE_ variables of the operator, tags among them, do not reach the play: its job runs, and says what is missing."""
    make_plan(county_dir)
    code, report = run_extranet(county_dir, "verify", ANSIBLE_RUN_TAGS="nosuch", ANSIBLE_INVENTORY_ENABLED="ini")
    assert code == 2
    assert "extranet lab up" in report["errors"][0]


def test_unknown_unit_is_named_with_near_matches(county_dir: Path) -> None:
    """A unit that is not there is bad input, in one line."""
    code, report = run_extranet(county_dir, "cutover", "-e", "units=finance-mann@county")
    assert code == 2
    assert "did you mean finance-man@county" in report["errors"][0]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("provision.yml", "--limit", ""), "names no host"),
        (("provision.yml", "--limit", "@EMPTY"), "names no host"),
        (("cutover.yml", "-e", "units=finance-man@county", "--limit", "core1"), "no host matched"),
        (("verify.yml", "--tags", "nosuch"), "no task was chosen"),
        (("retire.yml",), "-e units="),
        (("cutover.yml", "-e", "units=sealed-net@county"), "marked classified"),
    ],
)
def test_plain_ansible_fails_closed(county_dir: Path, arguments: tuple[str, ...], said: str) -> None:
    """Also without us around it: what Ansible would take for success, or for all hosts, is an error that says why."""
    empty = county_dir.parent / "empty"
    empty.touch()
    code, output = run_ansible(county_dir, *(a.replace("@EMPTY", f"@{empty}") for a in arguments))
    assert code == (3 if "sealed" in " ".join(arguments) else 2), output
    assert said in output


def test_unreadable_inventory_is_the_end(county_dir: Path) -> None:
    """An inventory that cannot be read is never an empty one."""
    (county_dir / "policy.yaml").unlink()
    code, output = run_ansible(county_dir, "verify.yml")
    assert code != 0
    assert "policy.yaml" in output
    assert "PLAY RECAP" not in output


def event(kind: str, action: str = "extranet", **result: Any) -> dict[str, Any]:
    """An event as ansible-runner hands it over."""
    return {"event": kind, "event_data": {"task_action": action, "host": "localhost", "res": result}}


GOOD_RESULT = {"rc": 0, "msg": "fine", "outcomes": {"a": Outcome(name="a", exit_code=0).model_dump()}}
BAD_RESULT = {"rc": 3, "msg": "no", "outcomes": {"a": Outcome(name="a", exit_code=3).model_dump()}}


@pytest.mark.parametrize(
    ("events", "rc", "code"),
    [
        ([("runner_on_start", {}), ("runner_on_ok", GOOD_RESULT), ("playbook_on_stats", {})], 0, 0),
        ([("runner_on_start", {}), ("runner_on_ok", BAD_RESULT), ("playbook_on_stats", {})], 0, 3),  # the worse counts
        ([("runner_on_start", {}), ("runner_on_ok", GOOD_RESULT), ("playbook_on_stats", {})], 4, 4),
        ([("runner_on_start", {}), ("runner_on_ok", GOOD_RESULT)], 250, 4),  # Ansible broke down afterwards
        ([("runner_on_start", {})], -9, 4),  # killed in the middle
        ([("playbook_on_stats", {})], 0, 2),  # nothing was done
        ([], 0, 2),
        ([], 1, 2),
        ([("runner_on_start", {}), ("runner_on_failed", {"msg": "no such variable"}), ("playbook_on_stats", {})], 2, 2),
    ],
)
def test_a_run_is_good_only_when_all_of_it_is(events: list[tuple[str, dict[str, Any]]], rc: int, code: int) -> None:
    """Success needs a job that ran, outcomes that are good, the play's end, and a process that ended with 0."""
    seen = _Seen()
    for kind, result in events:
        seen.take(event(kind, **result))
    assert seen.finish("verify", status="x", rc=rc, check=False).exit_code == code


def test_private_folder_goes_also_when_its_owner_is_killed(tmp_path: Path) -> None:
    """The runner's folder is wiped at the end, and when the owner is killed with no chance to do so."""
    with _private_folder() as private:
        (private / "env").mkdir()
        assert private.stat().st_mode & 0o777 == 0o700
    assert not private.exists()
    program = (
        "import os, signal\nfrom playbooks.runner import _private_folder\n"
        "with _private_folder() as p:\n"
        "    (p / 'env').mkdir(); print(p, flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        capture_output=True,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    assert done.stdout.decode().startswith(str(tmp_path))
    wait_until(lambda: not list(tmp_path.iterdir()))


CHILD = """
import sys, time
from playbooks.lifeline import interruptible
with interruptible():
    try:
        print("ready", flush=True)
        time.sleep(60)
    except KeyboardInterrupt:
        time.sleep(1)  # the way back takes time, and what comes meanwhile does not disturb it
        open(sys.argv[1], "w").write("went back")
"""


def test_a_job_ends_with_its_parent_and_goes_back(tmp_path: Path) -> None:
    """When the process above is killed, a job in a session of its own is interrupted once, however many threads that had."""
    mark = tmp_path / "mark"
    parent = (
        "import os, signal, subprocess, sys, threading, time\n"
        "for _ in range(3):\n"
        "    threading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n"
        "child = subprocess.Popen([sys.executable, '-c', sys.argv[1], sys.argv[2]],\n"
        "                         stdout=subprocess.PIPE, start_new_session=True)\n"
        "child.stdout.readline()\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", parent, CHILD, str(mark)], cwd=ROOT, check=False)
    assert done.returncode == -signal.SIGKILL
    wait_until(mark.exists)
    wait_until(lambda: mark.read_text() == "went back")


def wait_until(holds: Any, seconds: float = 15) -> None:
    """Wait until something holds; fail when it does not within the time."""
    ends = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < ends
        time.sleep(0.05)


WORKER = """
import multiprocessing, os, signal, sys, time
from pathlib import Path
from playbooks.lifeline import interruptible
def work():
    while os.getppid() == multiprocessing.parent_process().pid:
        time.sleep(0.01)
    try:
        with interruptible():
            Path(sys.argv[1]).write_text("began")
    except KeyboardInterrupt:
        Path(sys.argv[1]).write_text("not begun")
multiprocessing.get_context("fork").Process(target=work).start()
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_job_whose_parent_died_before_is_not_begun(tmp_path: Path) -> None:
    """Who is orphaned before it could ask to be told of that is interrupted all the same."""
    mark = tmp_path / "mark"
    done = subprocess.run([sys.executable, "-c", WORKER, str(mark)], cwd=ROOT, check=False)
    assert done.returncode == -signal.SIGKILL
    wait_until(lambda: mark.exists() and mark.read_text())
    assert mark.read_text() == "not begun"
