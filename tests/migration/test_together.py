"""Units that go in one wave: none may have been the other's backup, and the extranet loses no line with them."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from inventory.model import EXTRANET, Circuit, County
from migration.evidence import Evidence
from migration.gates import Stage, judge_cutover, judge_proof, judge_retirement, judge_together
from migration.proof import ReasonKind, Situation
from migration.units import Step, UnitState
from tests.migration.scene import Story, build_county, measure, situation_of

COUNTY = build_county()
PAIR = ("fin@ta", "soc@ta")
"""Two departments at one town, each in a plane that the town's station has."""
ALL = ("fin@county", "soc@county", "fin@ta", "fin@tb", "fin@va1", "soc@ta")


def scene_with(story: Story, *runs: Evidence) -> Situation:
    """The situation a little after these runs."""
    return situation_of(COUNTY, story, *runs, now=story.at + timedelta(seconds=60))


def apart() -> Situation:
    """Both of the pair proven without their own old path, while the other's was up: two backups of each other."""
    story = Story().go(*ALL, to=UnitState.CUT_OVER).wait_s(4000)
    first = measure(COUNTY, story.at, withheld=PAIR[:1])
    second = measure(COUNTY, story.at + timedelta(seconds=20), withheld=PAIR[1:])
    return scene_with(story, first, second)


def test_each_others_backup_is_refused_together() -> None:
    """Each may go alone; both in one wave may not, as each was only measured while the other's old path was up."""
    scene = apart()
    for unit in PAIR:
        assert judge_retirement(unit, Stage.DRAIN, scene).allowed
        verdict = judge_together(PAIR, Stage.DRAIN, scene)[unit]
        assert {r.kind for r in verdict.reasons} == {ReasonKind.VOID}
        assert "while the old path of fin@ta was up" in verdict.reasons[0].why
        assert "'extranet prove fin@ta soc@ta'" in verdict.reasons[0].why


def test_a_trial_without_both_lets_both_go() -> None:
    """Withheld together and passed, both may go in one wave, or each alone."""
    scene = apart()
    both = measure(COUNTY, scene.now, withheld=PAIR)
    scene = replace(scene, evidence=(*scene.evidence, both), now=scene.now + timedelta(seconds=20))
    assert all(v.allowed for v in judge_together(PAIR, Stage.DRAIN, scene).values())
    assert all(judge_retirement(u, Stage.DRAIN, scene).allowed for u in PAIR)


def test_a_failure_without_both_stands_against_both() -> None:
    """What fails only when both old paths are away is a reason, however well each did alone."""
    scene = apart()
    both = measure(COUNTY, scene.now, withheld=PAIR)
    lost = [r.model_copy(update={"outcome": "failed", "why": "tcp: refused"}) for r in both.results]
    scene = replace(
        scene,
        evidence=(*scene.evidence, both.model_copy(update={"results": tuple(lost)})),
        now=scene.now + timedelta(seconds=20),
    )
    assert not any(v.allowed for v in judge_together(PAIR, Stage.DRAIN, scene).values())


@pytest.mark.parametrize(("state", "alone"), [(UnitState.DRAINED, False), (UnitState.SHUT, True)])
def test_who_is_shut_already_is_no_backup(state: UnitState, *, alone: bool) -> None:
    """A run after the other was shut was measured without its line; a drain leaves that up, so both are closed together."""
    scene = apart()
    story = Story().go(*ALL, to=UnitState.CUT_OVER).go(PAIR[1], to=state).wait_s(4000)
    run = measure(COUNTY, story.at, withheld=PAIR[:1])
    assert judge_together(PAIR[:1], Stage.DRAIN, scene_with(story, run), wave=PAIR)[PAIR[0]].allowed is alone
    both = measure(COUNTY, story.at, withheld=PAIR)
    assert judge_together(PAIR[:1], Stage.DRAIN, scene_with(story, both), wave=PAIR)[PAIR[0]].allowed
    assert not judge_together(PAIR[:1], Stage.DRAIN, scene, wave=PAIR)[PAIR[0]].allowed


def test_each_others_backup_is_refused_one_after_the_other() -> None:
    """Drained by a command of its own, the other is as gone as in one wave: only a run since then, or without both, counts."""
    story = Story().go(*ALL, to=UnitState.CUT_OVER).wait_s(4000)
    first = measure(COUNTY, story.at, withheld=PAIR[:1])
    second = measure(COUNTY, story.at + timedelta(seconds=20), withheld=PAIR[1:])
    story = story.wait_s(60).go(PAIR[1], to=UnitState.DRAINED)
    verdict = judge_retirement(PAIR[0], Stage.DRAIN, scene_with(story, first, second))
    assert {r.kind for r in verdict.reasons} == {ReasonKind.VOID}
    (why, *_) = judge_retirement(PAIR[0], Stage.DRAIN, scene_with(story, first)).reasons
    assert f"while the old path of {PAIR[1]} was up" in why.why
    since = measure(COUNTY, story.at + timedelta(seconds=5), withheld=PAIR[:1])
    assert judge_retirement(PAIR[0], Stage.DRAIN, scene_with(story, first, second, since)).allowed


def test_with_every_line_closed_only_measuring_is_left() -> None:
    """Where nothing can be withheld any more, the advice is to measure, not to prove."""
    story = Story().go(*ALL, to=UnitState.CUT_OVER).go(PAIR[0], to=UnitState.SHUT).wait_s(4000)
    early = measure(COUNTY, story.at)
    story = story.wait_s(60).go(PAIR[1], to=UnitState.SHUT)
    reasons = judge_retirement(PAIR[0], Stage.REMOVE, scene_with(story, early)).reasons
    assert any(f"which proves nothing: 'extranet verify --unit {PAIR[0]}'" in r.why for r in reasons)
    assert not any("extranet prove" in r.why for r in reasons)


@pytest.mark.parametrize("gap_s", [1, 3000])
def test_a_drained_line_is_a_backup_until_it_is_shut(gap_s: float) -> None:
    """Measured while the other was drained, a unit may have leaned on its line, which a shut has closed since."""
    story = Story().go(*ALL, to=UnitState.CUT_OVER).wait_s(4000).go(PAIR[1], to=UnitState.DRAINED).wait_s(gap_s)
    leaning = measure(COUNTY, story.at, withheld=PAIR[:1])
    story = story.wait_s(40).go(PAIR[1], to=UnitState.SHUT).wait_s(20)
    verdict = judge_retirement(PAIR[0], Stage.DRAIN, scene_with(story, leaning))
    assert {r.kind for r in verdict.reasons} == {ReasonKind.VOID}
    assert f"while the old path of {PAIR[1]} was up" in verdict.reasons[0].why
    since = measure(COUNTY, story.at + timedelta(seconds=5), withheld=PAIR[:1])
    assert judge_retirement(PAIR[0], Stage.DRAIN, scene_with(story, leaning, since)).allowed


def test_going_back_makes_it_a_backup_again() -> None:
    """A unit that got its old path back may have carried the other meanwhile: the run before says nothing now."""
    story = Story().go(*ALL, to=UnitState.CUT_OVER).go(PAIR[1], to=UnitState.DRAINED).wait_s(4000)
    run = measure(COUNTY, story.at, withheld=PAIR[:1])
    key = story.wait_s(20).begin(Step.BACK, PAIR[1], UnitState.DRAINED, UnitState.SOAKED)
    story.end(Step.BACK, key, PAIR[1], UnitState.SOAKED)
    scene = scene_with(story, run)
    assert judge_retirement(PAIR[0], Stage.DRAIN, scene).allowed
    assert not judge_together(PAIR, Stage.DRAIN, scene)[PAIR[0]].allowed


def test_a_wave_of_one_is_a_unit_alone() -> None:
    """Judging a single unit together with itself changes nothing."""
    scene = apart()
    assert judge_together(PAIR[:1], Stage.DRAIN, scene)[PAIR[0]] == judge_retirement(PAIR[0], Stage.DRAIN, scene)


def test_a_trial_of_several_needs_all_withheld() -> None:
    """When units are tried together, only runs that withheld all of them prove any of them."""
    story = Story().go("fin@county", "soc@county", to=UnitState.CUT_OVER).go(*PAIR, to=UnitState.PROVISIONED)
    since = story.at
    for withheld, allowed in ((PAIR, True), (PAIR[:1], False), (PAIR[1:], False)):
        run = measure(COUNTY, since + timedelta(seconds=5), withheld=withheld)
        scene = situation_of(COUNTY, story, run, now=since + timedelta(seconds=30))
        assert judge_proof(PAIR[0], scene, since=since, together=PAIR).allowed is allowed


def test_a_village_leans_on_no_town_that_goes_with_it() -> None:
    """A village measured while its town's old line was up is not drained in one wave with the town."""
    story = Story().go(*ALL, to=UnitState.CUT_OVER).wait_s(4000)
    scene = scene_with(story, measure(COUNTY, story.at, withheld=["fin@va1"]))
    assert judge_retirement("fin@va1", Stage.DRAIN, scene).allowed
    verdict = judge_together(["fin@va1", "fin@ta"], Stage.DRAIN, scene)["fin@va1"]
    assert "while the old path of fin@ta was up" in verdict.reasons[0].why


# --- lines that the extranet itself runs over ---


def with_uplink(**ends: str) -> County:
    """The county with an extranet line of the town of the pair that ends there."""
    line = Circuit(id="x-ta", network=EXTRANET, site="ta", **ends)  # type: ignore[arg-type]
    return COUNTY.altered(circuits=(*COUNTY.circuits, line))


@pytest.mark.parametrize("stage", ["shut", "remove"])
@pytest.mark.parametrize("end", ["near", "far"])
def test_a_port_on_which_the_extranet_ends_is_not_shut(stage: str, end: str) -> None:
    """A stage that takes a port down is refused while an extranet line ends on that port, at either end."""
    own, legacy = {"device": "core1", "port": "ta"}, {"far_device": "fin-ta", "far_port": "wan1"}
    if end == "near":
        own, legacy = {"device": "fin-ta", "port": "wan1"}, {"far_device": "core1", "far_port": "ta"}
    county = with_uplink(**own, **legacy)
    story = Story().go(*ALL, to=UnitState.CUT_OVER).wait_s(4000)
    scene = situation_of(county, story, measure(county, story.at, withheld=ALL))
    reasons = judge_retirement("fin@ta", stage, scene).reasons
    assert any(r.kind is ReasonKind.LINE and "x-ta of the extranet ends on fin-ta wan1" in r.why for r in reasons)
    assert ReasonKind.LINE not in {r.kind for r in judge_retirement("fin@ta", "drain", scene).reasons}
    assert ReasonKind.LINE not in {r.kind for r in judge_cutover("fin@ta", scene).reasons}
