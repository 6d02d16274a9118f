"""The playbooks on real routers: the same jobs behind the same gates, with one result for each host or unit."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab.state import read_state
from migration.campaign import open_campaign
from migration.measuring import read_bound
from tests.lab_fixture import ROOT, copy_county, run_lab, skip_without_machine

BIN = Path(sys.executable).parent
pytestmark = pytest.mark.lab


@pytest.fixture
def county_dir(tmp_path: Path) -> Iterator[Path]:
    """A county with a lab of its first town, as before migration, and an address plan."""
    skip_without_machine()
    folder = copy_county(tmp_path / "county")
    try:
        planned = subprocess.run(
            [BIN / "extranet", "plan", "addresses", "--county", folder], capture_output=True, text=True, check=False
        )
        assert planned.returncode == 0, planned.stderr
        done = run_lab(folder, "up", "--towns", "1", "--json")
        assert done.returncode == 0, done.stderr
        yield folder
    finally:
        run_lab(folder, "down")


class Desk:
    """Where somebody runs playbooks on a county."""

    def __init__(self, county_dir: Path) -> None:
        self.county_dir = county_dir
        self.scratch = county_dir.parent / "tmp"
        self.scratch.mkdir()
        self.env = {
            **os.environ,
            "TMPDIR": str(self.scratch),
            "ANSIBLE_HOME": str(county_dir.parent / "ansible"),
            "ANSIBLE_NOCOLOR": "1",
        }

    def extranet(self, *arguments: str) -> tuple[int, dict[str, Any]]:
        """Run a playbook by ansible-runner; return exit code and report."""
        done = subprocess.run(
            [BIN / "extranet", "playbook", *arguments, "--county", self.county_dir, "--json"],
            env=self.env,
            capture_output=True,
            text=True,
            check=False,
        )
        assert list(self.scratch.iterdir()) == []
        return done.returncode, json.loads(done.stdout)

    def ansible(self, *arguments: str) -> tuple[int, str]:
        """Run a playbook by plain Ansible; return exit code and output."""
        done = subprocess.run(
            [BIN / "ansible-playbook", "-i", self.county_dir / "county.yaml", *arguments],
            cwd=ROOT / "playbooks",
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout

    def interrupt(self, when: str, *arguments: str) -> tuple[int, str]:
        """Run a playbook and press Ctrl-C when its output says `when`; return exit code and output."""
        running = subprocess.Popen(
            [BIN / "extranet", "playbook", *arguments, "--county", self.county_dir],
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        assert running.stdout is not None
        said = ""
        for line in running.stdout:
            said += line
            if when in line:
                running.send_signal(signal.SIGINT)
                break
        rest, _ = running.communicate(timeout=90)
        assert list(self.scratch.iterdir()) == []
        return running.returncode, said + rest

    def snapshot(self) -> tuple[dict[str, str], dict[str, str]]:
        """Return digests of the county's files, and of what the routers run."""
        files = {
            str(path.relative_to(self.county_dir)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(self.county_dir.rglob("*"))
            # SQLite's scratch files come and go with readers; ledger.head says what the ledger holds.
            if path.is_file() and ".lab" not in path.parts and not path.name.startswith("ledger.sqlite-")
        }
        campaign = open_campaign(self.county_dir)
        routers = [d.id for d in campaign.county.devices]
        configs = dict(read_bound(campaign, routers).configs)
        assert set(configs) == set(routers)
        return files, configs


def outcomes(report: dict[str, Any]) -> dict[str, tuple[int, bool]]:
    """Return exit code and changed by name."""
    return {o["name"]: (o["exit_code"], o["changed"]) for o in report["outcomes"]}


def differences(one: tuple[dict[str, str], ...], other: tuple[dict[str, str], ...]) -> list[str]:
    """Name the files and routers in which two snapshots differ."""
    return [name for a, b in zip(one, other, strict=True) for name in sorted(a | b) if a.get(name) != b.get(name)]


def test_the_way_of_a_unit_by_playbook(county_dir: Path) -> None:
    """Provision, verify, cut over and retire go as far as their gates allow, and `--check` changes nothing anywhere."""
    desk = Desk(county_dir)
    routers = {"core1", "core2", "chengguan-r1", "chengguan-xichang-r1", "chengguan-wadong-r1", "chengguan-wabei-r1"}
    first, later = "finance-man@county", "finance-man@chengguan"

    # Before anything: asking changes nothing, not even makes a ledger; a gate refuses a cutover.
    before = desk.snapshot()
    code, output = desk.ansible("provision.yml", "--check", "--diff", "--limit", "core1,chengguan-r1")
    assert code == 0, output
    assert "changed: [core1]" in output
    assert "changed: [chengguan-r1]" in output
    assert "[core2]" not in output
    assert "+ router bgp" in output
    code, report = desk.extranet("cutover", "--check", "-e", f"units={first}")
    assert (code, outcomes(report)) == (3, {first: (3, False)})
    assert differences(desk.snapshot(), before) == []

    # Provision: each router its own outcome.
    code, report = desk.extranet("provision")
    assert code == 0, report
    assert outcomes(report) == dict.fromkeys(routers, (0, True))

    # Verify: the county's stations that hang on nothing old pass, the others fail one by one with reasons.
    code, output = desk.ansible("verify.yml")
    assert code == 1, output
    assert "ok: [z-general]" in output
    assert "fatal: [chengguan-center]: FAILED!" in output
    assert "expected no legacy router" in output

    # Out of order: refused, with the reason.
    code, report = desk.extranet("cutover", "-e", f"units={later}")
    assert (code, outcomes(report)) == (3, {later: (3, False)})
    assert report["outcomes"][0]["reasons"] == [
        f"{first} cuts over first - expected cut_over, found provisioned: cut it over first, 'extranet cutover {first} --yes'"
    ]

    # Interrupted before any router is touched: nothing is left, and the same command does it.
    code, output = desk.interrupt("· before:", "cutover", "-e", f"units={first}")
    assert code == 4, output
    assert "interrupted" in output
    code, report = desk.extranet("cutover", "-e", f"units={first}")
    assert (code, outcomes(report)) == (0, {first: (0, True)}), report

    # Retirement too early: refused; asking on what is cut over changes nothing.
    before = desk.snapshot()
    code, output = desk.ansible("retire.yml", "--check", "-e", f"units={first}")
    assert code == 3, output
    assert "the soak of finance-man@county is not over" in output
    code, report = desk.extranet("provision", "--check")
    assert (code, outcomes(report)) == (0, dict.fromkeys(routers, (0, False)))
    code, report = desk.extranet("verify", "--check", "--limit", "z-tax")
    assert (code, outcomes(report)) == (0, {"z-tax": (0, False)})
    assert differences(desk.snapshot(), before) == []
    code, report = desk.extranet("retire", "-e", f"units={first},{later}")
    assert code == 3
    assert sorted(outcomes(report).values()) == [(1, False), (3, False)]  # the other one was not tried
    assert read_state(county_dir).name in report["summary"]
