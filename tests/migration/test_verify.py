"""Verify: what waits for a cutover stands apart from what fails, and hides nothing."""

from __future__ import annotations

import pytest

from migration.units import UnitState, fold
from migration.verify import VerifyReport, waits_for
from nornir_tasks.stations.model import Finding, Missing, Outcome, Result
from tests.migration.scene import T0, Story, build_checks, build_county, pass_check

COUNTY = build_county()
UNIT = COUNTY.unit_by_id["fin@ta"]
CHECK = next(c for c in build_checks(COUNTY) if c.expect == "reach" and c.plane == "finance").altered(unit=UNIT.id)
BEFORE, AFTER = (
    fold(Story().go(UNIT.id, to=state).events, COUNTY) for state in (UnitState.PROVISIONED, UnitState.CUT_OVER)
)


def seen(*bad: Finding, hops: tuple[str, ...] = ("fin-ta:lan1", "fin-county:ta"), **more: object) -> Result:
    """Return a result over the unit's old line that failed in these findings; all else of it passed."""
    good = pass_check(CHECK, T0)
    outcome = Outcome.UNKNOWN if bad and all(f.outcome is Outcome.UNKNOWN for f in bad) else Outcome.FAILED
    rest = tuple(f for f in good.findings if f.aspect not in {b.aspect for b in bad})
    return good.altered(outcome=outcome, why="why", findings=(*rest, *bad), hops=hops, **more)


def finding(aspect: str, outcome: Outcome = Outcome.FAILED) -> Finding:
    """Return a finding that did not pass."""
    missing = Missing.TIMED_OUT if outcome is Outcome.UNKNOWN else None
    return Finding(aspect=aspect, outcome=outcome, detail="expected a, found b", missing=missing)


def test_what_only_runs_over_the_old_line_waits() -> None:
    """A need that passes in all but its way, over its own unit's old line, waits for that unit; once cut over it fails."""
    result = seen(finding("path"))
    assert waits_for(result, COUNTY, BEFORE) == UNIT.id
    assert waits_for(result, COUNTY, {}) == UNIT.id
    assert waits_for(result, COUNTY, AFTER) is None


NEW: dict[str, Result] = {
    "the service fails as well": seen(finding("path"), finding("tcp")),
    "only the service fails": seen(finding("tcp")),
    "the way is not known": seen(finding("path", Outcome.UNKNOWN)),
    "the way back is not known": seen(finding("path"), finding("return", Outcome.UNKNOWN)),
    "over another department's line": seen(finding("path"), hops=("soc-ta:lan1", "soc-county:ta")),
    "over its own and another's": seen(finding("path"), hops=("fin-ta:lan1", "soc-county:ta")),
    "no legacy router seen": seen(finding("path"), hops=("r-ta",)),
    "needs no cutover": seen(finding("path"), check=CHECK.altered(unit=None)),
    "must be blocked": seen(finding("path"), check=CHECK.altered(expect="blocked")),
}


@pytest.mark.parametrize("name", NEW)
def test_a_new_failure_never_waits(name: str) -> None:
    """Whatever else stands against a check is a failure of now, before the cutover too."""
    assert waits_for(NEW[name], COUNTY, BEFORE) is None


def test_waiting_is_no_pass() -> None:
    """A run in which something waits is not ok; what fails besides is counted apart, and nothing is counted twice."""
    good, bad, waiting = pass_check(CHECK, T0), seen(finding("tcp")), seen(finding("path"))
    results = tuple(
        r.altered(check=CHECK.altered(id=s, service=s)) for r, s in ((good, "a"), (bad, "b"), (waiting, "c"))
    )
    name = results[2].check.id
    report = VerifyReport("field", "all", results, "0" * 64, 1.0, waiting={name: UNIT.id})
    told = report.as_json()
    assert (told["ok"], told["failed"], told["failing"]) == (False, 2, 1)
    assert told["waiting"] == {"checks": 1, "units": {UNIT.id: 1}}
    assert [r["waits_for"] for r in told["results"]] == [None, None, UNIT.id]
    assert not VerifyReport("field", "all", results[2:], "0" * 64, 1.0, waiting={name: UNIT.id}).ok
