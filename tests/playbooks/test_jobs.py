"""Jobs: what a play asks for is understood exactly or refused, and nothing reported is never good."""

from __future__ import annotations

from pathlib import Path

import pytest

from inventory.errors import ExtranetError, UnknownNameError
from migration.cutover import UnitReport
from migration.gates import Verdict
from migration.proof import Reason
from migration.steps import Ended
from playbooks.jobs import (
    Cutover,
    JobReport,
    Outcome,
    Push,
    Retire,
    Verify,
    _router_outcome,
    _unit_outcome,
    make_job,
    run_job,
)
from tests.lab_fixture import copy_county


@pytest.mark.parametrize(
    ("job", "arguments", "said"),
    [
        ("push", {}, "expected at least one, found none"),
        ("push", {"devices": []}, "expected at least one, found none"),
        ("push", {"devices": " , "}, "expected at least one, found none"),
        ("push", {"device": ["core1"]}, "it takes devices"),
        ("verify", {"devices": ["core1"]}, "devices: unknown; it takes stations"),
        ("cutover", {"units": ""}, "-e units="),
        ("cutover", {"units": "a@b", "until": "shut"}, "until: unknown"),
        ("retire", {"units": "a@b", "until": "gone"}, "found 'gone'"),
        ("retire", {"units": "a@b", "wait": "perhaps"}, "found 'perhaps'"),
        ("retire", {"units": 7}, "units:"),
    ],
)
def test_what_is_not_understood_is_refused(job: str, arguments: dict[str, object], said: str) -> None:
    """Unknown, missing, empty and misspelt arguments are bad input: leaving a name out never means everything."""
    with pytest.raises(ExtranetError) as caught:
        make_job(job, arguments)
    assert said in str(caught.value)
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)


def test_unknown_job_names_near_matches() -> None:
    """A misspelt job is named with what may have been meant."""
    with pytest.raises(UnknownNameError, match="verify"):
        make_job("verfy", {})


def test_names_come_as_lists_or_text() -> None:
    """A list, commas, Chinese commas and blanks all give the same names."""
    assert Push(devices=("a", "b")) == make_job("push", {"devices": " a ,b,"})
    assert make_job("verify", {"stations": ["a", " b"]}) == Verify(stations=("a", "b"))
    assert make_job("cutover", {"units": "a@x，b@x、c@x", "back": "yes"}) == Cutover(
        units=("a@x", "b@x", "c@x"), back=True
    )
    assert make_job("retire", {"units": "a@x", "wait": "false"}) == Retire(units=("a@x",))


def test_a_job_that_did_nothing_has_failed() -> None:
    """An empty report is not good, and of several outcomes the worst counts."""

    def report(*codes: int) -> JobReport:
        outcomes = tuple(Outcome(name=str(c), exit_code=c) for c in codes)
        return JobReport(job="push", target="lab x", check=False, summary="", outcomes=outcomes)

    assert report().exit_code == 1
    assert report(0, 0).exit_code == 0
    assert report(0, 3, 1).exit_code == 3
    assert report(3, 4).exit_code == 4


@pytest.mark.parametrize(("ending", "code"), [("done", 0), ("undone", 1), ("failed", 4)])
def test_a_router_shares_the_end_of_its_domain(ending: str, code: int) -> None:
    """What goes back together is reported together; a router's own reasons come first."""
    reasons = [] if ending == "done" else [*(f"check {n}" for n in range(9)), "core2: refused a line"]
    ended = Ended("cores", ending, changed=["core1"], reasons=reasons)  # type: ignore[arg-type]  # a parameter, so any text
    changed, same = _router_outcome("core1", ended), _router_outcome("core2", ended)
    assert (changed.exit_code, same.exit_code) == (code, code)
    assert changed.changed is (ending == "done")
    assert same.changed is False
    if reasons:
        assert same.reasons[0] == "core2: refused a line"
        assert same.reasons[-1] == "... and 4 more against cores"


def test_a_refusal_keeps_every_reason() -> None:
    """A refused unit is 3, with each reason by station; a stage done before the refusal still counts as changed."""
    reasons = tuple(Reason(station="s", service=str(n), why="never measured") for n in range(40))
    verdict = Verdict(gate="shut", unit="n@s", allowed=False, reasons=reasons)
    drained = Ended("n@s", "done", changed=["r1"])
    found = _unit_outcome(UnitReport("n@s", verdict, {"r1": "no ip route\n"}, drained, "drained"), check=False)
    assert (found.exit_code, found.changed, len(found.reasons)) == (3, True, 40)
    assert found.reasons[0] == "s → 0: never measured"
    assert "stays drained" in found.summary


@pytest.mark.parametrize(
    ("job", "arguments", "code"),
    [
        ("cutover", {"units": "finance-mann@county"}, 2),
        ("retire", {"units": "sealed-net@county"}, 3),  # classified: refused at the door
        ("push", {"devices": "core9"}, 2),
        ("push", {"devices": "fin-hub"}, 2),  # a legacy router
        ("verify", {"stations": "z-tax"}, 2),  # no way to any station
    ],
)
def test_check_leaves_the_county_alone(tmp_path: Path, job: str, arguments: dict[str, object], code: int) -> None:
    """What cannot be done is said with the suite's exit code, and with `check` no file comes to be."""
    folder = copy_county(tmp_path / "county")
    before = sorted(folder.rglob("*"))
    with pytest.raises(ExtranetError) as caught:
        run_job(make_job(job, arguments), folder, check=True)
    assert caught.value.exit_code == code
    assert sorted(folder.rglob("*")) == before
