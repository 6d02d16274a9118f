"""What a cutover that is only shown says of its gate, from evidence that is not in the ledger yet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import pytest

from migration import cutover as stage
from migration.campaign import Campaign
from migration.cutover import UnitReport
from migration.events import Event, Kind
from migration.evidence import Evidence
from migration.units import UnitRecord, UnitState, fold
from tests.migration.scene import Story, build_checks, build_county, fail_check, measure, situation_of

COUNTY = build_county()
UNIT = COUNTY.unit_by_id["fin@county"]


@dataclass
class Scene:
    """A campaign whose ledger is a story."""

    story: Story

    county = COUNTY

    def events(self) -> tuple[Event, ...]:
        return tuple(self.story.events)

    def records(self) -> dict[str, UnitRecord]:
        return fold(self.story.events, COUNTY)


def preview(story: Story, recorded: Evidence, fresh: Evidence, monkeypatch: pytest.MonkeyPatch) -> UnitReport:
    """Show a cutover with one run on record and one measured just now."""
    told = story.tell(Kind.EVIDENCE, "evidence/1", recorded.body())
    situation = situation_of(COUNTY, story, recorded.model_copy(update={"seq": told.seq}))
    monkeypatch.setattr(stage, "read_situation", lambda *_, **__: situation)
    monkeypatch.setattr(stage, "measure_provided", lambda *_, **__: (fresh,))
    monkeypatch.setattr(stage, "cut_over_phases", lambda *_: ())
    monkeypatch.setattr(stage, "show_phases", lambda *_: {})
    campaign: Any = Scene(story)
    (report,) = stage.cutover(cast("Campaign", campaign), [UNIT], apply=False)
    return report


@pytest.mark.parametrize("broken", [False, True])
def test_what_is_measured_for_a_preview_is_newer_than_what_is_on_record(
    monkeypatch: pytest.MonkeyPatch, *, broken: bool
) -> None:
    """A failure on record that a measurement of now does not see again refuses no more; one that it sees does."""
    story = Story().go(UNIT.id, to=UnitState.PROVISIONED)
    bad = [fail_check(c, story.at) for c in build_checks(COUNTY)]
    recorded = measure(COUNTY, story.at, results=bad)
    story.wait_s(600)
    fresh = measure(COUNTY, story.at, results=[fail_check(r.check, story.at) for r in bad] if broken else None)
    story.wait_s(60)
    report = preview(story, recorded, fresh, monkeypatch)
    assert report.verdict.allowed is not broken, report.verdict.reasons


def test_a_failure_that_ends_later_by_its_clock_still_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run on record that ended after the measurement of now began is no older failure, whatever its number."""
    story = Story().go(UNIT.id, to=UnitState.PROVISIONED)
    fresh = measure(COUNTY, story.at)
    story.wait_s(5)
    recorded = measure(COUNTY, story.at, results=[fail_check(c, story.at) for c in build_checks(COUNTY)])
    story.wait_s(60)
    assert not preview(story, recorded, fresh, monkeypatch).verdict.allowed
