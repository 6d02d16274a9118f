"""Status: where everything stands, and coverage of central villages against the dates."""

from __future__ import annotations

from datetime import UTC, date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inventory.model import County, CoverageTarget
from migration.events import Kind
from migration.status import OpenIntent, measure_coverage, report
from migration.units import Step, UnitState, fold, intent_body, outcome_body
from tests.migration.scene import T0, Story, build_checks, build_county, fail_check, measure, pass_check

COUNTY = build_county()
TODAY = date(2027, 9, 1)


def test_every_unit_has_a_line() -> None:
    """Every unit of the inventory is listed with network, site, state, since when, and who leads and answers."""
    story = Story().go("fin@ta", to=UnitState.CUT_OVER)
    found = report(COUNTY, fold(story.events, COUNTY), plan_exists=True, evidence=(), today=TODAY)
    assert [u.unit for u in found.units] == list(COUNTY.unit_by_id)
    line = next(u for u in found.units if u.unit == "fin@ta")
    assert line.model_dump(mode="json") == {
        "unit": "fin@ta",
        "network": "fin",
        "network_name": "fin",
        "site": "ta",
        "site_name": "TA",
        "town": "ta",
        "state": "cut_over",
        "since": story.at.astimezone(UTC).isoformat().replace("+00:00", "Z"),
        "lead": "the office",
        "responsible": "head of fin",
        "open": "",
        "note": "",
    }
    assert found.refused == 1
    assert "hidden" not in found.model_dump_json()


def test_a_plan_makes_units_planned() -> None:
    """Units that nothing happened to are surveyed without a plan, and planned with one; others are as recorded."""
    records = fold(Story().go("fin@ta", to=UnitState.PROVISIONED).events, COUNTY)
    for plan_exists, state in ((False, UnitState.SURVEYED), (True, UnitState.PLANNED)):
        found = report(COUNTY, records, plan_exists=plan_exists, evidence=(), today=TODAY)
        assert found.states == {state: 5, UnitState.PROVISIONED: 1}


def test_what_holds_a_unit_up_is_said() -> None:
    """An interrupted step and the reason of a failed one stand in the unit's line."""
    story = Story().go("fin@ta", "fin@tb", to=UnitState.PROVISIONED)
    story.begin(Step.CUTOVER, "fin@ta", UnitState.PROVISIONED, UnitState.CUT_OVER)
    story.end(Step.CUTOVER, "k", "fin@tb", UnitState.PROVISIONED, result="undone", reason="portal: refused")
    found = report(COUNTY, fold(story.events, COUNTY), plan_exists=True, evidence=(), today=TODAY)
    lines = {u.unit: u for u in found.units}
    assert lines["fin@ta"].open == "cutover"
    assert "interrupted" in lines["fin@ta"].note
    assert lines["fin@tb"].note == "cutover undone: portal: refused"


def test_open_intent_without_a_unit_is_said() -> None:
    """A push that was killed when every unit was provisioned already is told: what, when, on which devices, what to do."""
    story = Story().go("fin@ta", to=UnitState.PROVISIONED)
    change = "20270901T080000-push-a1b2c3"
    body = intent_body(
        Step.PROVISION,
        start=UnitState.PLANNED,
        end=UnitState.PROVISIONED,
        devices=("core2", "core1"),
        change=change,
        units=[],
    )
    begun = story.tell(Kind.INTENT, f"{change}/cores", body)

    def told() -> tuple[OpenIntent, ...]:
        records = fold(story.events, COUNTY)
        return report(COUNTY, records, plan_exists=True, evidence=(), today=TODAY, events=story.events).interrupted

    (one,) = told()
    assert (one.what, one.about, one.at) == ("config push", "cores", begun.moment)
    assert (one.devices, one.units) == (("core1", "core2"), ())
    assert "run the same command again" in one.todo
    story.tell(
        Kind.OUTCOME, begun.key, outcome_body(Step.PROVISION, result="undone", state=UnitState.PLANNED, devices={})
    )
    assert told() == ()


def test_towns_by_networks_count_their_villages() -> None:
    """A town's cell holds its villages' units too, and reads as the least of them; the county stands first."""
    story = Story().go("fin@ta", to=UnitState.SHUT).go("fin@va1", to=UnitState.PROVISIONED)
    found = report(COUNTY, fold(story.events, COUNTY), plan_exists=True, evidence=(), today=TODAY)
    assert [t.town for t in found.towns] == ["county", "ta", "tb"]
    cell = next(c for c in found.towns[1].cells if c.network == "fin")
    assert (cell.units, cell.reached) == (2, UnitState.PROVISIONED)
    assert cell.states == {UnitState.PROVISIONED: 1, UnitState.SHUT: 1}
    assert [c.network for c in found.towns[2].cells] == ["fin"]
    assert sum(c.units for t in found.towns for c in t.cells) == len(COUNTY.units)


# --- coverage ---


def test_never_measured_is_not_covered() -> None:
    """Without evidence no village is covered, and every need is missing as never measured."""
    found = measure_coverage(COUNTY, (), TODAY)
    assert (found.covered, found.total, found.share, found.measured) == (0, 2, 0.0, None)
    assert all("never measured" in m for v in found.villages for m in v.missing)


def test_a_village_is_covered_when_all_that_provisioning_provides_passed() -> None:
    """All needs that provisioning provides passed: covered; what only a cutover provides is not asked for."""
    checks = [c for c in build_checks(COUNTY) if c.unit is None]
    run = measure(COUNTY, T0, results=[pass_check(c, T0) for c in checks])
    found = measure_coverage(COUNTY, (run,), TODAY)
    assert [v.covered for v in found.villages] == [True, True]
    assert found.share == 1.0
    assert found.measured == run.taken_to


def test_one_need_that_failed_last_uncovers_a_village() -> None:
    """The last measurement of each need counts, whichever run it came in, and its reason is given."""
    check = next(c for c in build_checks(COUNTY) if c.station == "st-vb1")
    good, bad = measure(COUNTY, T0), measure(COUNTY, T0 + timedelta(hours=1), results=[fail_check(check, T0)])
    mended = measure(COUNTY, T0 + timedelta(hours=2), results=[pass_check(check, T0)])
    for runs, covered in (
        ((good, bad), [True, False]),
        ((bad, good), [True, False]),
        ((good, bad, mended), [True, True]),
    ):
        found = measure_coverage(COUNTY, runs, TODAY)
        assert [v.covered for v in found.villages] == covered
    (missing,) = measure_coverage(COUNTY, (good, bad), TODAY).villages[1].missing
    assert "tcp: connection to port 443 - expected open, found refused" in missing


def test_a_lost_run_uncovers() -> None:
    """When the last run's file is lost, nobody knows, so nothing it was about is covered."""
    lost = measure(COUNTY, T0 + timedelta(hours=1)).model_copy(
        update={"results": (), "problem": "evidence/x is missing"}
    )
    found = measure_coverage(COUNTY, (measure(COUNTY, T0), lost), TODAY)
    assert found.covered == 0
    assert all("evidence/x is missing" in v.missing[0] for v in found.villages)


def test_a_village_without_station_is_not_covered() -> None:
    """A central village that has no station counts in the total and is not covered."""
    bare = COUNTY.altered(stations=tuple(s for s in COUNTY.stations if s.id != "st-vb1"))
    found = measure_coverage(bare, (measure(bare, T0),), TODAY)
    assert [(v.site, v.covered, v.missing) for v in found.villages][1] == ("vb1", False, ("no station",))


@pytest.mark.parametrize(
    ("today", "half", "whole"),
    [
        (date(2027, 9, 1), (29, True, False), (60, False, False)),
        (date(2027, 9, 30), (0, True, False), (31, False, False)),
        (date(2027, 10, 31), (-31, True, False), (0, False, False)),
        (date(2027, 11, 1), (-32, True, False), (-1, False, True)),
    ],
)
def test_dates_are_late_the_day_after(today: date, half: tuple[int, bool, bool], whole: tuple[int, bool, bool]) -> None:
    """A target is late from the day after its date, unless met; days left count down through zero."""
    run = measure(COUNTY, T0, results=[pass_check(c, T0) for c in build_checks(COUNTY) if c.station == "st-va1"])
    first, second = measure_coverage(COUNTY, (run,), today).targets
    assert (first.days_left, first.met, first.late) == half
    assert (second.days_left, second.met, second.late) == whole
    assert (first.lacking, second.lacking) == (0, 1)
    assert first.waiting_for == {}
    assert second.waiting_for == {"head of vb1": 1}


def with_share(share: float, villages: int) -> County:
    """The county with one target, and so many central villages without a station."""
    village = COUNTY.site_by_id["vb1"]
    more = tuple(village.altered(id=f"v{n}", name=f"V{n}") for n in range(villages))
    sites = tuple(s for s in COUNTY.sites if s.id not in {"va1", "vb1"}) + more
    target = CoverageTarget(share=share, by=TODAY)
    return COUNTY.altered(
        sites=sites,
        stations=tuple(s for s in COUNTY.stations if s.site in {"county", "ta", "tb"}),
        circuits=tuple(c for c in COUNTY.circuits if c.site != "va1"),
        policy=COUNTY.policy.altered(coverage=(target,)),
    )


@given(percent=st.integers(1, 100), villages=st.integers(1, 120))
def test_shares_are_rounded_up_exactly(percent: int, villages: int) -> None:
    """A share of villages is rounded up, by whole numbers: 70 % of 10 is 7, and of 11 it is 8."""
    (target,) = measure_coverage(with_share(percent / 100, villages), (), TODAY).targets
    assert target.needed == -(-percent * villages // 100)


def test_no_central_village_is_no_target_met() -> None:
    """Where there are no central villages nothing is met."""
    (target,) = measure_coverage(with_share(0.7, 0), (), TODAY).targets
    assert not target.met
