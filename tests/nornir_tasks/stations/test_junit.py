"""A JUnit report that a CI cannot take for greener than the run was."""

import os
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nornir_tasks.stations import junit
from nornir_tasks.stations.junit import JunitWriteError, write_junit
from nornir_tasks.stations.model import Check, Finding, Outcome, Result
from tests.nornir_tasks.stations.rig import make_check

WHY = {Outcome.PASSED: "", Outcome.FAILED: "tcp: x - expected open, found refused", Outcome.UNKNOWN: "ssh: gone"}


def make(outcome: Outcome, check: Check, *, hops: tuple[str, ...] = ()) -> Result:
    """Return a result."""
    finding = Finding(aspect="tcp", outcome=outcome, detail="detail", ms=3.0)
    return Result(
        check=check, outcome=outcome, why=WHY[outcome], findings=(finding,), hops=hops, at=1_800_000_000.0, ms=3.0
    )


def test_a_suite_is_a_station_and_a_case_a_check(tmp_path: Path) -> None:
    """Every result is there: failures and errors with why, and the evidence as properties."""
    results = [
        make(Outcome.PASSED, make_check(station="s"), hops=("r1:lan.110", "core1:s.110")),
        make(Outcome.FAILED, make_check("edu", station="t")),
        make(Outcome.UNKNOWN, make_check("tax", station="s", expect="blocked")),
    ]
    write_junit(results, tmp_path / "report.xml")
    root = ET.parse(tmp_path / "report.xml").getroot()
    assert (root.get("tests"), root.get("failures"), root.get("errors")) == ("3", "1", "1")
    assert [s.get("name") for s in root] == ["s", "t"]
    cases = {c.get("name"): c for c in root.iter("testcase")}
    assert set(cases) == {"finance-finance-ipv6", "finance-edu-ipv6", "finance-!tax-ipv6"}
    properties = {p.get("name"): p.get("value") for p in cases["finance-finance-ipv6"].iter("property")}
    assert properties["path"] == "r1:lan.110 → core1:s.110"
    assert properties["at"] == "2027-01-15T08:00:00"
    assert properties["check"] == "s/finance/finance/ipv6"
    failure = cases["finance-edu-ipv6"].find("failure")
    assert failure is not None
    assert failure.get("message") == WHY[Outcome.FAILED]
    error = cases["finance-!tax-ipv6"].find("error")
    assert error is not None
    assert error.get("message") == WHY[Outcome.UNKNOWN]


def test_an_empty_run_is_an_error(tmp_path: Path) -> None:
    """A report without cases would be green."""
    write_junit([], tmp_path / "report.xml")
    root = ET.parse(tmp_path / "report.xml").getroot()
    assert (root.get("tests"), root.get("errors")) == ("1", "1")
    assert root.find(".//error") is not None


@given(st.text(st.characters(), max_size=30))
def test_any_text_a_service_says_gives_readable_xml(text: str) -> None:
    """Control characters and lone surrogates do not break the report."""
    finding = Finding(aspect="marker", outcome=Outcome.FAILED, detail=text)
    result = Result(check=make_check(), outcome=Outcome.FAILED, why=text, findings=(finding,), at=float("nan"))
    root = ET.fromstring(ET.tostring(junit._report([result]), encoding="utf-8"))
    assert root.get("failures") == "1"


def test_an_older_report_stays_when_writing_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk leaves the older report whole and nothing beside it, and says what to do."""
    report = tmp_path / "report.xml"
    write_junit([make(Outcome.PASSED, make_check())], report)
    before = report.read_bytes()

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(JunitWriteError, match="No space left"):
        write_junit([], report)
    assert report.read_bytes() == before
    assert list(tmp_path.iterdir()) == [report]
    with pytest.raises(JunitWriteError, match="nowhere"):
        write_junit([], tmp_path / "nowhere" / "report.xml")
