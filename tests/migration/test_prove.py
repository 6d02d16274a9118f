"""Proof without the old path: each unit stays in the state it was in, and what is said to be withheld is."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest

from migration import prove as stage
from migration.campaign import Campaign
from migration.clock import to_iso
from migration.cutover import UnitReport
from migration.events import Event, Kind
from migration.evidence import Evidence
from migration.proof import ReasonKind
from migration.steps import Attempt, Ended
from migration.units import Step, UnitRecord, UnitState, fold
from nornir_tasks.stations.model import Check, Result
from tests.migration.scene import (
    T0,
    StoppedClock,
    Story,
    build_checks,
    build_county,
    fail_check,
    measure,
    pass_check,
    situation_of,
)

COUNTY = build_county()
FIN = ("fin@county", "fin@ta", "fin@tb", "fin@va1")


@dataclass
class Scene:
    """A campaign whose ledger is a story; changes are only noted, and come out well."""

    story: Story
    tried: list[Attempt] = field(default_factory=list)
    failing: dict[str, int] = field(default_factory=dict)
    """By check, how often it fails when it is measured before the trial."""

    county = COUNTY
    matrix = SimpleNamespace(checks=build_checks(COUNTY))

    def hold(self, _act: str) -> nullcontext[None]:
        return nullcontext()

    def records(self) -> dict[str, UnitRecord]:
        return fold(self.story.events, COUNTY)

    def events(self) -> tuple[Event, ...]:
        return tuple(self.story.events)

    @property
    def clock(self) -> StoppedClock:
        return StoppedClock(self.story.at)

    def carry_out(self, _campaign: object, attempts: Sequence[Attempt], **_: object) -> list[Ended]:
        self.tried += attempts
        for attempt in attempts:
            for unit in attempt.units:
                key = self.story.begin(Step.PROVE, unit, attempt.start, attempt.end)
                self.story.end(Step.PROVE, key, unit, attempt.proven_state)
        return [Ended(a.name, "done", trial=True) for a in attempts]

    def measure_now(self, _campaign: object, checks: Sequence[Check], **_: object) -> tuple[list[Result], Evidence]:
        results = []
        for check in checks:
            left = self.failing.get(check.id, 0)
            self.failing[check.id] = left - 1
            results.append((fail_check if left > 0 else pass_check)(check, T0))
        return results, measure(COUNTY, T0, results=results)

    def prove(self, *units: str) -> list[UnitReport]:
        campaign = cast("Campaign", self)
        return stage.prove(campaign, [COUNTY.unit_by_id[u] for u in units], apply=True)


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Scene:
    """All finance units cut over, and the devices beneath made up."""
    made = Scene(Story().go(*FIN, to=UnitState.CUT_OVER))

    def situation(*_: object, **__: object) -> Any:
        return situation_of(COUNTY, made.story)

    monkeypatch.setattr(stage, "finish_interrupted", lambda *_, **__: [])
    monkeypatch.setattr(stage, "measure_provided", lambda *_: [])
    monkeypatch.setattr(stage, "measure_now", made.measure_now)
    monkeypatch.setattr(stage, "keep", lambda *_: None)
    monkeypatch.setattr(stage, "read_situation", situation)
    monkeypatch.setattr(stage, "record_verdict", lambda *_: None)
    monkeypatch.setattr(stage, "new_change_id", lambda *_: "c1")
    monkeypatch.setattr(stage, "close_lines", lambda *_: ())
    monkeypatch.setattr(stage, "show_phases", lambda *_: {})
    monkeypatch.setattr(stage, "carry_out", made.carry_out)
    return made


@pytest.mark.parametrize("ahead", [("fin@va1",), ("fin@tb",), ("fin@va1", "fin@tb")])
@pytest.mark.parametrize("state", [UnitState.SOAKED, UnitState.DRAINED])
def test_a_proof_moves_nobody(scene: Scene, ahead: tuple[str, ...], state: UnitState) -> None:
    """Units proven after their cutover, in whatever state, stay there, are withheld as one, and their record is whole."""
    for unit in ahead:
        scene.story.end(Step.SOAK, f"soak/{unit}", unit, UnitState.SOAKED)
        if state is UnitState.DRAINED:
            scene.story.go(unit, to=state)
    before = {u: (r.state, r.entered) for u, r in scene.records().items()}
    reports = scene.prove("fin@va1", "fin@tb")
    assert all(r.verdict.allowed for r in reports)
    assert {r.unit: r.state for r in reports} == {u: before[u][0].value for u in ("fin@va1", "fin@tb")}
    assert {u: (r.state, r.entered) for u, r in scene.records().items()} == before
    assert not any(r.problems for r in scene.records().values())
    assert [a.withheld for a in scene.tried] == [("fin@va1", "fin@tb")]


def test_a_soaked_unit_is_tried_from_where_it_stands(scene: Scene) -> None:
    """The intent of a soaked unit's proof says soaked, and everybody its line serves is asked as after a cutover."""
    asked = scene.prove("fin@county") and scene.tried.pop()
    assert asked
    scene.story.end(Step.SOAK, "soak", "fin@county", UnitState.SOAKED)
    scene.prove("fin@county")
    (attempt,) = scene.tried
    assert attempt.start is UnitState.SOAKED
    assert attempt.must == asked.must


def test_what_fails_already_is_named_before_anything_is_withheld(scene: Scene) -> None:
    """A check that fails with the old path up refuses the units whose users need it, by name; nothing is tried then."""
    bad = next(c for c in scene.matrix.checks if (c.station, c.plane) == ("st-tb", "finance"))
    scene.failing = {bad.id: 2}
    (refused,) = scene.prove("fin@tb")
    assert scene.tried == []
    assert [(r.station, r.check, r.kind) for r in refused.verdict.reasons] == [("st-tb", bad.id, ReasonKind.FAILED)]
    assert "fails already with the old path up, so nothing was withheld" in refused.verdict.reasons[0].why


@pytest.mark.parametrize(
    ("gate", "state", "counts"),
    [
        ("drain", UnitState.CUT_OVER, True),
        ("shut", UnitState.CUT_OVER, False),
        ("cutover", UnitState.CUT_OVER, False),
        ("drain", UnitState.DRAINED, False),
        ("shut", UnitState.DRAINED, True),
    ],
)
def test_what_an_exception_names_may_fail_in_the_proof_too(
    scene: Scene, gate: str, state: UnitState, *, counts: bool
) -> None:
    """A hall that is being rebuilt keeps nobody else from being proven: its own failure is excused, and nothing beside it.

    Only an exception to the unit's next stage counts: that is what the proof is for.
    """
    scene.story.go("fin@tb", to=state)
    bad, other = [c for c in scene.matrix.checks if (c.station, c.plane) == ("st-tb", "finance")][:2]
    scene.failing = {bad.id: 9}
    (refused,) = scene.prove("fin@tb")
    (reason,) = refused.verdict.reasons
    body: dict[str, Any] = {"id": "ex-1", "gate": gate, "reasons": [reason.model_dump(mode="json")], "why": "rebuilt"}
    body |= {"by": "A", "approved_by": "B", "until": to_iso(scene.story.at + timedelta(days=3))}
    scene.story.tell(Kind.EXCEPTION, "ex-1", body, "fin@tb")
    agreed: dict[str, object] = {"confirms": "ex-1", "approved_by": "B"}
    scene.story.tell(Kind.EXCEPTION, "ex-1/confirmed", agreed, "fin@tb", actor="another")
    (report,) = scene.prove("fin@tb")
    assert report.verdict.allowed is counts
    if not counts:
        return
    assert [(r.check, r.exception) for r in report.verdict.excused] == [(bad.id, "ex-1")]
    (attempt,) = scene.tried
    assert attempt.accepts(fail_check(bad, T0))
    assert not attempt.accepts(fail_check(other, T0))
    scene.failing = {bad.id: 9, other.id: 9}
    (refused,) = scene.prove("fin@tb")
    assert [r.check for r in refused.verdict.reasons] == [other.id]


def test_one_lost_packet_refuses_no_proof(scene: Scene) -> None:
    """What fails once and passes when asked again at once stands against nothing."""
    bad = next(c for c in scene.matrix.checks if (c.station, c.plane) == ("st-tb", "finance"))
    scene.failing = {bad.id: 1}
    (report,) = scene.prove("fin@tb")
    assert report.verdict.allowed
    assert len(scene.tried) == 1


def test_a_towns_proof_asks_its_villages_whatever_their_state(scene: Scene) -> None:
    """A town's line carried its villages: they are measured without it too, and so is one whose own line is shut."""
    scene.story.go("fin@va1", to=UnitState.SHUT)
    scene.prove("fin@ta")
    (attempt,) = scene.tried
    assert attempt.withheld == ("fin@ta",)
    assert {c.station for c in attempt.must} == {"st-ta", "st-va1"}


def test_a_town_is_tried_with_its_villages_or_not_at_all(scene: Scene) -> None:
    """A town named without the village that holds its line up is refused, and nothing is tried; named with it, both go."""
    (refused,) = scene.prove("fin@ta")
    assert "'extranet prove fin@ta fin@va1'" in str(refused.verdict.reasons[0])
    assert scene.tried == []
    assert all(r.verdict.allowed for r in scene.prove("fin@ta", "fin@va1"))
    assert [a.withheld for a in scene.tried] == [("fin@ta", "fin@va1")]
