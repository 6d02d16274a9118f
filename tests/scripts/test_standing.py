"""Every report ends with the exceptions that stand: unit, gate, who, who approved, until when and why."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from typer.testing import CliRunner

from inventory.reader import load_county
from migration.campaign import open_campaign
from migration.clock import SystemClock, to_iso
from migration.events import Kind
from migration.ledger import Ledger
from migration.proof import Reason, ReasonKind
from migration.standing import find_standing, find_standing_in
from migration.units import Step, UnitState, outcome_body
from scripts.main import app
from tests.lab_fixture import copy_county

UNIT = "finance-man@chengguan"
UNTIL = datetime.now(UTC) + timedelta(days=3)
runner = CliRunner()


def call(*arguments: str) -> tuple[int, str, str]:
    """Run a command; return exit code, standard output and standard error."""
    result = runner.invoke(app, list(arguments))
    return result.exit_code, result.stdout, result.stderr


def record(ledger: Ledger, name: str, *, until: datetime = UNTIL, approved_by: str = "县大数据局局长") -> None:
    """Record an exception."""
    body = {
        "id": name,
        "gate": "drain",
        "reasons": [Reason(station="", service="", why="soaking", kind=ReasonKind.SOAK).model_dump(mode="json")],
        "why": "the hall [is] being\nrebuilt",
        "by": "财政局局长",
        "approved_by": approved_by,
        "until": to_iso(until),
    }
    ledger.append(Kind.EXCEPTION, f"exception/{name}", body, unit=UNIT)
    agreed = {"confirms": name, "approved_by": approved_by}
    ledger.append(Kind.EXCEPTION, f"exception/{name}/confirmed", agreed, unit=UNIT, actor="another")


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A planned county whose devices nobody can reach; one unit was cut over, and what was watched of it is lost."""
    folder = copy_county(tmp_path / "county")
    assert call("plan", "addresses", "--county", str(folder))[0] == 0
    (folder / "known_hosts").write_text("", "utf-8")
    addresses = {s.id: "127.0.0.1" for s in load_county(folder).stations}
    access = {"target": "field", "name": "x", "port": 9, "known_hosts": "known_hosts", "addresses": addresses}
    (folder / "access.yaml").write_text(json.dumps(access), "utf-8")
    with Ledger.open(folder / "ledger.sqlite", SystemClock(), "field") as ledger:
        for step, state in ((Step.PROVISION, UnitState.PROVISIONED), (Step.CUTOVER, UnitState.CUT_OVER)):
            body = outcome_body(step, result="done", state=state, devices={})
            body["outage"] = {"digest": "0" * 64}
            ledger.append(Kind.OUTCOME, f"{step}/1", body, unit=UNIT)
    return folder


@pytest.fixture
def county(bare: Path) -> Path:
    """The same with exceptions on record: one stands; the others are withdrawn, invalid, or of another target."""
    with Ledger.open(bare / "ledger.sqlite", SystemClock(), "field") as ledger:
        record(ledger, "ex-stands")
        record(ledger, "ex-withdrawn")
        ledger.append(
            Kind.EXCEPTION, "exception/withdrawn", {"withdraws": "ex-withdrawn", "by": "a", "why": "b"}, unit=UNIT
        )
        record(ledger, "ex-invalid", approved_by="财政局局长")
    with Ledger.open(bare / "ledger.sqlite", SystemClock(), "lab x") as ledger:
        record(ledger, "ex-elsewhere")
    return bare


LINE = (
    f"exception ex-stands to drain of {UNIT}: by 财政局局长, approved by 县大数据局局长, until {to_iso(UNTIL)[:16]}Z: "
    "the hall [is] being rebuilt"
)
REPORTS = {
    "verify": ["verify", "--station", "z-tax"],
    "soak": ["soak", UNIT],
    "outage": ["outage"],
    "prove": ["prove", UNIT],
    "cutover": ["cutover", UNIT],
    "retire": ["retire", UNIT],
    "ledger verify": ["ledger", "verify"],
    "plan quarantine": ["plan", "quarantine"],
}


@pytest.mark.parametrize("name", REPORTS)
def test_a_report_ends_with_what_stands(county: Path, name: str) -> None:
    """The last line is the exception that stands, whole and on one line; none that counts for nothing is beside it."""
    _, out, err = call(*REPORTS[name], "--county", str(county))
    assert out.splitlines()[-1:] == [LINE], out + err
    assert "ex-withdrawn" not in out + err
    assert "ex-invalid" not in out + err
    assert "ex-elsewhere" not in out + err


@pytest.mark.parametrize("name", REPORTS)
def test_a_report_for_machines_lists_what_stands(county: Path, name: str) -> None:
    """The document has the exceptions as `status --json` has them."""
    (told,) = json.loads(call(*REPORTS[name], "--county", str(county), "--json")[1])["exceptions"]
    every = json.loads(call("status", "--county", str(county), "--json")[1])["exceptions"]
    assert told == next(e for e in every if e["id"] == "ex-stands")


@pytest.mark.parametrize("name", ["verify", "retire", "ledger verify", "plan quarantine"])
def test_where_none_stands_nothing_is_printed(bare: Path, name: str) -> None:
    """Without an exception a report has no word of any, and the list is empty."""
    assert "exception" not in call(*REPORTS[name], "--county", str(bare))[1]
    assert json.loads(call(*REPORTS[name], "--county", str(bare), "--json")[1])["exceptions"] == []


def test_junit_names_what_stands(county: Path, tmp_path: Path) -> None:
    """Every suite has the exceptions as a property, before its cases; without one there is none."""
    report = tmp_path / "report.xml"
    call("verify", "--station", "z-tax", "--junit", str(report), "--county", str(county))
    suites = list(ET.parse(report).getroot())
    assert suites
    for suite in suites:
        assert [(p.get("name"), p.get("value")) for p in suite[0]] == [("exceptions", LINE)]


def test_a_ledger_that_cannot_be_read_breaks_no_report(bare: Path) -> None:
    """What stands is then not known, and said so: neither an error nor a silence."""
    (bare / "ledger.sqlite").write_bytes(b"no database")
    for found in (find_standing(open_campaign(bare)), find_standing_in(bare)):
        assert found.exceptions == ()
        assert found.unread
        assert list(found.lines()) == [f"exceptions are not known: {found.unread}"]
        assert found.as_json() == {"exceptions": [], "exceptions_unread": found.unread}


def test_a_ledger_alone_is_verified_without_tables(bare: Path, county: Path) -> None:
    """`ledger verify` needs no inventory: what it cannot tell without one it says, and the exit code stays."""
    (county / "policy.yaml").unlink()
    code, out, _ = call("ledger", "verify", "--county", str(county))
    assert code == 0
    assert out.splitlines()[0].startswith("whole: ")
    assert out.splitlines()[1].startswith("exceptions are not known: ")
