"""A county of one town on a lab, driven by its commands as an operator would: for tests of the stages on real routers."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from lab.nodes import exec_in
from lab.state import LabState, read_state
from migration.campaign import Campaign, open_campaign
from migration.gates import Verdict
from nornir_tasks.changes import pending, read_configs
from tests.lab_fixture import ROOT, copy_county, run_lab, skip_without_machine

GOOD, FAILED, BAD_INPUT, REFUSED, UNKNOWN = range(5)
HUBS = tuple(f"{network}@county" for network in ("finance-man", "party-edu", "social-security", "real-estate"))

QUICK_SOAK = {"samples": 2, "longest_gap_s": 600, "business_days": 0, "listen_s": 1}


@dataclass(frozen=True)
class Town:
    """A county folder whose lab is up."""

    folder: Path

    @cached_property
    def campaign(self) -> Campaign:
        """The same county, for looking on."""
        return open_campaign(self.folder)

    def close(self) -> None:
        """Close the record that looking on has opened."""
        if "campaign" in vars(self) and "_reader" in vars(self.campaign):
            self.campaign._reader.close()

    @cached_property
    def lab(self) -> LabState:
        """The lab."""
        return read_state(self.folder)

    def inside(self, node: str, *argv: str) -> subprocess.CompletedProcess[str]:
        """Run a command in a node."""
        return exec_in(self.lab, node, argv, timeout_s=30)

    def ping(self, check: str) -> bool:
        """Say what a ping from the check's leg to its service says."""
        asked = self.campaign.matrix.by_id[check]
        done = self.inside(asked.station, "fping", "-c", "3", "-t", "1000", "-q", "-I", asked.interface, asked.address)
        return done.returncode == 0

    def ask_gate(self, unit: str) -> Verdict:
        """Return what `gate explain --json` says of a unit's next step."""
        done = self.run("gate", "explain", unit, "--json")
        told = json.loads(done.stdout)
        verdict = Verdict.model_validate({name: told[name] for name in Verdict.model_fields})
        assert done.returncode == (GOOD if verdict.allowed else REFUSED)
        return verdict

    def run(self, *arguments: str, expect: int | None = None) -> subprocess.CompletedProcess[str]:
        """Run `extranet`, and hold it to its exit code."""
        return self._call(["-P", "-m", "scripts.main", *arguments], expect)

    def break_at(self, what: str, moment: str, *arguments: str, expect: int | None) -> subprocess.CompletedProcess[str]:
        """Run `extranet` with something happening at a moment: `before|after FUNCTION CALL`."""
        when, where, call = moment.split()
        return self._call(
            ["-m", "tests.migration.breakpoints", what, when, where, call, "--", *arguments], expect=expect
        )

    def _call(self, command: list[str], expect: int | None) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, *command],
            cwd=ROOT,
            env={**os.environ, "EXTRANET_COUNTY": str(self.folder)},
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        if expect is not None:
            assert done.returncode == expect, f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def settle(self, unit: str) -> None:
        """Wait until a unit may be cut over: routers that an earlier test rebooted have found one another again."""
        ends = time.monotonic() + 120
        while self.run("cutover", unit).returncode != GOOD:
            assert time.monotonic() < ends

    def soak(self, *units: str) -> None:
        """Watch old lines until their soak is over: what an earlier test did on them may begin it anew.

        Of a conversation with a router itself the kernel tells for a minute after it ended.
        """
        ends = time.monotonic() + 120
        while True:
            told = json.loads(self.run("soak", *units, "--json").stdout)
            if all(unit["over"] for unit in told["units"]):
                return
            assert time.monotonic() < ends, f"not soaked: {told}"

    def fault(self, *arguments: str) -> None:
        """Make or mend a fault."""
        self.run("lab", "fault", *arguments, expect=GOOD)

    def fault_command(self, *arguments: str) -> str:
        """Return the shell command of a fault, to happen inside another command."""
        return f"{sys.executable} -P -m scripts.main lab fault {' '.join(arguments)}"

    def state(self, unit: str) -> str:
        """Return where a unit stands; says when a step of it is open."""
        record = self.campaign.records()[unit]
        return f"{record.state} (open)" if record.open else record.state.value

    def configs(self) -> dict[str, str]:
        """Return what every router runs."""
        return {d: out.value.text for d, out in read_configs(self.campaign.nornir).items() if out.value}

    def armed(self) -> list[str]:
        """Return the routers with an unconfirmed change."""
        return sorted(d for d, out in pending(self.campaign.nornir).items() if out.value)

    def intents(self) -> int:
        """Return how many steps were begun."""
        return sum(e.kind == "intent" for e in self.campaign.events())


def said_of(verdict: Verdict, check: str) -> str:
    """Return why a gate refuses by a check, named by its station and service; empty where it has nothing against it."""
    station, _, service, _ = check.split("/")
    mine = [r for r in verdict.reasons if r.check == check]
    assert all((r.station, r.service) == (station, service.removeprefix("!")) for r in mine), mine
    assert not (mine and verdict.allowed)
    return "\n".join(r.why for r in mine)


@contextmanager
def open_town(folder: Path, timers: Mapping[str, int], *, towns: int = 1, ledger_url: str = "") -> Iterator[Town]:
    """Build a lab of the first towns, provisioned, its county units cut over; it is gone afterwards, whatever happens."""
    skip_without_machine()
    copy_county(folder)
    if ledger_url:
        with (folder / "county.yaml").open("a", encoding="utf-8") as stream:
            stream.write(f"ledger_url: {ledger_url}\n")
    policy = folder / "policy.yaml"
    text = policy.read_text("utf-8")
    for name, seconds in {**QUICK_SOAK, **timers}.items():
        text = re.sub(rf"(?m)^(\s+{name}:) \d+", rf"\1 {seconds}", text)
    policy.write_text(text, "utf-8")
    made = Town(folder)
    try:
        made.run("plan", "addresses", expect=GOOD)
        made.run("lab", "up", "--towns", str(towns), expect=GOOD)
        made.run("config", "push", "--yes", expect=GOOD)
        made.run("cutover", *HUBS, "--yes", expect=GOOD)
        yield made
    finally:
        made.close()
        run_lab(folder, "down")
