"""`pytest --extranet-county DIR`: one test a check, one session a station, and nothing unmeasured is green."""

import gzip
import json
import os
import shutil
import subprocess
import sys
import threading
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from xml.etree import ElementTree as ET

import pytest

from addressing.plan import make_plan
from addressing.planfile import plan_path, write_plan
from inventory.access import Access, read_access
from inventory.reader import load_county, restrict_to_towns
from inventory.topology import build_topology
from migration.clock import SystemClock, to_iso
from migration.events import Kind, digest_of
from migration.ledger import Ledger
from migration.matrix import Matrix, build_matrix
from migration.proof import Reason, ReasonKind
from migration.station_tests import Measuring, SessionsByTestinfra, StationNotMeasuredError
from nornir_tasks.stations.collect import StationUnmeasuredError, measure, measure_until
from nornir_tasks.stations.model import Outcome, Result
from tests.lab_fixture import SmallLab, copy_county

ROOT = Path(__file__).resolve().parents[2]
WITHOUT_OPTION = """
import sys, pytest, migration.station_tests
heavy = {"testinfra", "nornir", "pydantic", "sqlalchemy", "inventory", "nornir_tasks", "yaml"}
print(sorted(heavy & set(sys.modules)))
"""


def run_pytest(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run pytest as a county's CI does, in a folder without our settings."""
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments],
        cwd=cwd,
        env={**{k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )


def ready_plan(county_dir: Path) -> None:
    """Write the county's address plan when there is none."""
    county = load_county(county_dir)
    if not plan_path(county_dir).exists():
        write_plan(make_plan(county, build_topology(county)), plan_path(county_dir))


@pytest.fixture
def unreachable(tmp_path: Path) -> Path:
    """A county whose stations nobody can reach."""
    folder = copy_county(tmp_path / "county")
    ready_plan(folder)
    (folder / "known_hosts").write_text("", "utf-8")
    addresses = {s.id: "127.0.0.1" for s in load_county(folder).stations}
    access = {"target": "field", "name": "x", "port": 9, "known_hosts": "known_hosts", "addresses": addresses}
    (folder / "access.yaml").write_text(json.dumps(access), "utf-8")
    return folder


def test_without_the_option_it_costs_nothing() -> None:
    """Everybody's pytest loads the plugin: it imports none of what it needs."""
    found = subprocess.run([sys.executable, "-c", WITHOUT_OPTION], cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"


def test_the_report_names_the_exceptions_that_stand(unreachable: Path, tmp_path: Path) -> None:
    """Where a JUnit report is written its suite has what stands as a property, as `verify --junit` has it."""
    report = tmp_path / "report.xml"
    body = {
        "id": "ex-stands",
        "gate": "drain",
        "reasons": [Reason(station="", service="", why="soaking", kind=ReasonKind.SOAK).model_dump(mode="json")],
        "why": "the hall is being rebuilt",
        "by": "head of finance",
        "approved_by": "head of office",
        "until": to_iso(datetime.now(UTC) + timedelta(days=3)),
    }
    with Ledger.open(unreachable / "ledger.sqlite", SystemClock(), "field") as ledger:
        ledger.append(Kind.EXCEPTION, "exception/1", body, unit="finance-man@chengguan")
        agreed = {"confirms": "ex-stands", "approved_by": "head of office"}
        ledger.append(Kind.EXCEPTION, "exception/1/confirmed", agreed, unit="finance-man@chengguan", actor="another")
    run_pytest(
        "--extranet-county", str(unreachable), "--extranet-stations", "z-tax", "--junitxml", str(report), cwd=tmp_path
    )
    told = ET.parse(report).getroot().findall("./testsuite/properties/property[@name='exceptions']")
    assert [str(p.get("value")).partition(",")[0] for p in told] == [
        "exception ex-stands to drain of finance-man@chengguan: by head of finance"
    ]


def test_unreachable_stations_are_red(unreachable: Path, tmp_path: Path) -> None:
    """Every check of a station that cannot be reached fails, and says that it is unknown."""
    report = tmp_path / "report.xml"
    done = run_pytest(
        "--extranet-county", str(unreachable), "--extranet-stations", "z-tax", "--junitxml", str(report), cwd=tmp_path
    )
    assert done.returncode == 1, done.stdout
    assert "unknown: ssh: the station - expected reachable, found " in done.stdout
    cases = list(ET.parse(report).getroot().iter("testcase"))
    assert {c.get("classname") for c in cases} == {"z-tax"}
    assert all(c.find("failure") is not None for c in cases)
    assert "public-portal-ipv6" in {c.get("name") for c in cases}
    assert {"extranet_check", "outcome", "at", "path"} <= {str(p.get("name")) for p in cases[0].iter("property")}


def test_a_tests_own_name_selects_it(unreachable: Path, tmp_path: Path) -> None:
    """What a report names can be asked for again by that name."""
    done = run_pytest(
        "--extranet-county",
        str(unreachable),
        "--extranet-stations",
        "z-tax,z-enterprise",
        "--collect-only",
        "-q",
        "z-tax::public-portal-ipv6",
        "z-enterprise",
        cwd=tmp_path,
    )
    names = [line for line in done.stdout.splitlines() if "::" in line]
    assert "z-tax::public-portal-ipv6" in names
    assert Counter(n.split("::")[0] for n in names)["z-tax"] == 1
    assert Counter(n.split("::")[0] for n in names)["z-enterprise"] > 10


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--extranet-stations", "z-tax", "-k", "no_such_check"], 5, "deselected"),
        (["--extranet-stations", "z-taks"], 4, "did you mean z-tax"),
        (["--extranet-stations", ""], 4, "--extranet-stations names no station"),
        (["--extranet-units", "finance-man@chenguan"], 4, "did you mean finance-man@chengguan"),
        (["--extranet-units", ""], 4, "--extranet-units names no unit"),
        (["--extranet-units", " ,"], 4, "--extranet-units names no unit"),
        (["--extranet-units", "finance-man@chengguan", "--extranet-stations", "z-tax"], 4, "not one check"),
        (["--extranet-stations", "z-tax", "z-tax::no-such-test"], 5, "no tests ran"),
    ],
)
def test_a_run_that_measures_nothing_fails(
    unreachable: Path, tmp_path: Path, arguments: list[str], code: int, words: str
) -> None:
    """Nothing selected, a misspelt station or unit, none of them: never exit 0."""
    done = run_pytest("--extranet-county", str(unreachable), *arguments, cwd=tmp_path)
    assert done.returncode == code, done.stdout + done.stderr
    assert words in done.stdout + done.stderr


def test_only_the_units_that_were_named_are_measured(unreachable: Path, tmp_path: Path) -> None:
    """Only legs on the LANs of the units named are asked, Chinese names too; the report names every unit left out."""
    junit = tmp_path / "out.xml"
    named = "财政城域网@chengguan,real-estate@chengguan"
    county = ["--extranet-county", str(unreachable), "--extranet-units", named]
    done = run_pytest(*county, "-q", "--junitxml", str(junit), cwd=tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    suite = ET.parse(junit).getroot()
    checks = [p.get("value", "") for p in suite.iter("property") if p.get("name") == "extranet_check"]
    assert {tuple(c.split("/")[:2]) for c in checks} == {
        ("chengguan-center", "finance"),
        ("chengguan-center", "realestate"),
    }
    (left,) = [p.get("value", "").split() for p in suite.iter("property") if p.get("name") == "units_left_out"]
    units = {u.id for u in load_county(unreachable).units}
    assert set(left) == units - {"finance-man@chengguan", "real-estate@chengguan"}


def test_other_tests_do_not_cover_for_the_stations(unreachable: Path, tmp_path: Path) -> None:
    """Green tests beside a county of which nothing was measured do not make a green run."""
    (tmp_path / "test_own.py").write_text("def test_fine() -> None:\n    assert True\n", "utf-8")
    county = ["--extranet-county", str(unreachable), "--extranet-stations", "z-tax"]
    done = run_pytest(*county, "test_own.py", "-k", "test_fine", cwd=tmp_path)
    assert "1 passed" in done.stdout
    assert done.returncode == 5


def test_bad_input_is_one_clear_line(unreachable: Path, tmp_path: Path) -> None:
    """No folder, no plan, no access file, stations without a county: what to do, and exit 4."""
    assert "add --extranet-county" in run_pytest("--extranet-stations", "a", cwd=tmp_path).stderr
    assert "no such folder" in run_pytest("--extranet-county", str(tmp_path / "none"), cwd=tmp_path).stderr
    (unreachable / "access.yaml").unlink()
    assert "no way to reach devices" in run_pytest("--extranet-county", str(unreachable), cwd=tmp_path).stderr
    shutil.copy(ROOT / "inventory" / "yichuan" / "sites.csv", unreachable)
    shutil.rmtree(unreachable / "plan")
    done = run_pytest("--extranet-county", str(unreachable), cwd=tmp_path)
    assert done.returncode == 4


def test_a_station_is_never_asked_by_several_workers(unreachable: Path, tmp_path: Path) -> None:
    """Ways of sharing tests out that split a station are refused in one line; an empty parallel run is red, too."""
    county = ["--extranet-county", str(unreachable), "--extranet-stations", "z-tax"]
    for share in ("worksteal", "each"):
        done = run_pytest(*county, "-n", "2", "--dist", share, cwd=tmp_path)
        assert done.returncode == 4
        assert f"--dist {share}: would ask a station from several workers" in done.stdout + done.stderr
    done = run_pytest(*county, "-n", "2", "-k", "no_such_check", cwd=tmp_path)
    assert done.returncode == 5, done.stdout + done.stderr


def properties_of(case: ET.Element) -> dict[str, str]:
    """A test's properties."""
    return {str(p.get("name")): str(p.get("value")) for p in case.iter("property")}


@pytest.mark.parametrize("way", ["--extranet-evidence", "ledger"])
def test_every_test_names_its_evidence(unreachable: Path, tmp_path: Path, way: str) -> None:
    """What was measured is kept, also when it is red, by whatever worker: each test names its run and its own result."""
    report, kept = tmp_path / "report.xml", tmp_path / "kept"
    arguments = ["--extranet-evidence", str(kept)]
    if way == "ledger":
        Ledger.open(unreachable / "ledger.sqlite", target="field").close()
        arguments, kept = [], unreachable
    stations = ["--extranet-stations", "z-tax,z-enterprise"]
    county = ["--extranet-county", str(unreachable), *stations]
    done = run_pytest(*county, *arguments, "-n", "2", "--junitxml", str(report), cwd=tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    cases = {c.get("classname"): properties_of(c) for c in ET.parse(report).getroot().iter("testcase")}
    files = {p.name.partition(".")[0] for p in (kept / "evidence").iterdir()}
    assert {p["evidence"] for p in cases.values()} == files
    assert len(files) == 2  # a run a station
    for case in ET.parse(report).getroot().iter("testcase"):
        found = properties_of(case)
        body = json.loads(gzip.decompress((kept / "evidence" / f"{found['evidence']}.json.gz").read_bytes()))
        assert found["result"] in {digest_of(r) for r in body["results"] if r["check"]["id"] == found["extranet_check"]}
    if way == "ledger":
        with Ledger.open(unreachable / "ledger.sqlite", target="field", readonly=True) as ledger:
            assert {e.body["digest"] for e in ledger.events(kind=Kind.EVIDENCE)} == files


def test_evidence_that_cannot_be_kept_is_red(unreachable: Path, tmp_path: Path) -> None:
    """Where evidence was asked for and there is no place for it, no test passes, and it is said why."""
    (tmp_path / "kept").write_text("a file, no folder", "utf-8")
    county = ["--extranet-county", str(unreachable), "--extranet-stations", "z-tax"]
    done = run_pytest(*county, "--extranet-evidence", str(tmp_path / "kept"), cwd=tmp_path)
    assert done.returncode == 1
    assert "evidence not written" in done.stdout
    assert "its first test says why" in done.stdout


# --- many stations at once ---


class Slow:
    """A campaign in which stations come when told to: nobody is asked anything."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.told: list[str] = []
        self.go_on = {name: threading.Event() for name in ("a", "b")}
        self.clock = SimpleNamespace(now=lambda: datetime.fromtimestamp(1000 + len(self.told), UTC))
        self.county, self.access = None, None
        monkeypatch.setattr("nornir_tasks.stations.collect.measure", self.measure)
        monkeypatch.setattr("migration.measuring.read_bound", lambda *_, **__: tuple(self.told))
        monkeypatch.setattr("migration.measuring.devices_under_checks", lambda *_: ["core1"])
        monkeypatch.setattr("migration.measuring.legacy_under_checks", lambda *_: [])

    def measure(self, _checks: object, *_: object, on_station: Any, **__: object) -> None:
        for name, event in self.go_on.items():
            assert event.wait(30)
            self.told.append(name)
            on_station(name, [name])
        raise ZeroDivisionError

    def begin(self) -> Any:
        checks: Any = [SimpleNamespace(station=name) for name in ("a", "b", "c")]
        return Measuring(cast("Any", self), checks, cast("Any", None), kept=True)


def test_each_station_is_waited_for_alone_and_bound_to_what_ran_then(monkeypatch: pytest.MonkeyPatch) -> None:
    """Results come as stations are through, each with its own end; the routers were read at the beginning, not when told."""
    slow = Slow(monkeypatch)
    measuring = slow.begin()
    assert measuring.bound is not None
    assert measuring.bound.result() == ()
    slow.go_on["a"].set()
    assert measuring.wait_for("a") == (["a"], 1001.0)
    assert slow.told == ["a"]
    slow.go_on["b"].set()
    assert measuring.wait_for("b") == (["b"], 1002.0)
    for _ in range(2):  # whoever is never heard of keeps nobody waiting, and passes nothing
        with pytest.raises(StationNotMeasuredError) as caught:
            measuring.wait_for("c")
        assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert measuring.began == 1000.0


def test_nobody_is_asked_after_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that was stopped opens no more sessions."""
    measuring = Slow(monkeypatch).begin()
    measuring.end()
    with pytest.raises(StationUnmeasuredError, match="the run ended"):
        measuring.sessions("a", "127.0.0.1", "x", 1.0)


def test_a_session_that_stays_open_is_ended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A station that takes the login and never answers is unknown when its time is over, and holds nothing up."""
    stuck = tmp_path / "ssh"
    stuck.write_text("#!/bin/sh\nexec sleep 60\n", "utf-8")
    stuck.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    access = Access.model_validate(
        {"target": "field", "name": "x", "known_hosts": "k", "addresses": {"a": "127.0.0.1"}}
    )
    with pytest.raises(StationUnmeasuredError, match="expected over in 1 s"):
        SessionsByTestinfra(access)("a", "127.0.0.1", "x", 1.0)


# --- in the lab, before migration ---


def small_matrix(lab: SmallLab) -> Matrix:
    """Return the matrix of what the lab holds."""
    whole = load_county(lab.county_dir)
    ready_plan(lab.county_dir)
    part = restrict_to_towns(whole, 1)
    return build_matrix(
        part, build_topology(part), make_plan(whole, build_topology(whole)), read_access(lab.county_dir)
    )


@pytest.mark.lab
def test_before_migration_the_right_things_are_red(small_lab: SmallLab) -> None:
    """Public IPv4 of county and towns works; departments work only over their old routers; IPv6 and villages do not."""
    matrix = small_matrix(small_lab)
    # Other tests cut and mend lines of this lab: its routers find one another again first.
    settled = [matrix.by_id["chengguan-center/public/portal/ipv4"]]
    county, access = load_county(small_lab.county_dir), read_access(small_lab.county_dir)
    measure_until(settled, county, access, hops=matrix.hops, until_s=40)
    results = measure(
        matrix.checks, load_county(small_lab.county_dir), read_access(small_lab.county_dir), hops=matrix.hops
    )
    by_id: dict[str, Result] = {r.check.id: r for r in results}
    assert len(results) == len(matrix.checks)
    town = by_id["chengguan-center/public/portal/ipv4"]
    assert (town.outcome, town.why) == (Outcome.PASSED, "")
    assert town.hops[0] == "chengguan-r1:lan.100"
    assert town.hops[-1].startswith("core")
    old = by_id["chengguan-center/finance/finance/ipv4"]
    assert old.hops == ("fin-chengguan:lan1", "fin-hub:chengguan")
    aspects = {f.aspect: f for f in old.findings}
    assert aspects["marker"].outcome is Outcome.PASSED
    assert "expected no legacy router, found fin-hub:chengguan" in aspects["path"].detail
    assert "no IPv6 address" in by_id["chengguan-center/finance/finance/ipv6"].why
    assert by_id["chengguan-xichang-station/public/portal/ipv4"].outcome is Outcome.FAILED
    blocked = by_id["chengguan-center/finance/!edu/ipv6"]
    assert (blocked.outcome, "leg finance dead" in blocked.why) == (Outcome.UNKNOWN, True)
    assert not any(r.outcome is Outcome.PASSED for r in results if r.check.family == "ipv6")
    assert not any(r.outcome is Outcome.PASSED for r in results if r.check.unit and r.hops)


@pytest.mark.lab
def test_ci_measures_a_lab_in_parallel(small_lab: SmallLab, tmp_path: Path) -> None:
    """With xdist each station stays in one worker; results are those of a plain measurement."""
    small_matrix(small_lab)
    report = tmp_path / "report.xml"
    done = run_pytest(
        "--extranet-county",
        str(small_lab.county_dir),
        "-n",
        "2",
        "--junitxml",
        str(report),
        "-q",
        "--extranet-stations",
        "chengguan-center,z-tax",
        cwd=tmp_path,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    cases = list(ET.parse(report).getroot().iter("testcase"))
    green = {f"{c.get('classname')}::{c.get('name')}" for c in cases if c.find("failure") is None}
    assert "chengguan-center::public-portal-ipv4" in green
    assert "z-tax::public-intake-ipv4" in green
    assert not any("ipv6" in name for name in green)
    measured = Counter(p.get("value") for c in cases for p in c.iter("property") if p.get("name") == "extranet_check")
    assert len(measured) == len(cases) == sum(measured.values())
