"""Units that go in one wave: none may have been the other's backup, and the extranet loses no line with them."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from inventory.model import EXTRANET, Circuit, County
from migration.gates import Stage, judge_cutover, judge_proof, judge_retirement, judge_together
from migration.proof import ReasonKind, Situation
from migration.units import Step, UnitState
from tests.migration.scene import Story, build_county, measure, situation_of

COUNTY = build_county()
PAIR = ("fin@ta", "soc@ta")
"""Two departments at one town, each in a plane that the town's station has."""


def both_cut_over(between_s: float = 0) -> Story:
    """Both hubs and the first of the pair cut over, then, later, the other."""
    story = Story().go("fin@county", "soc@county", "fin@tb", "fin@va1", PAIR[0], to=UnitState.CUT_OVER)
    story.wait_s(between_s)
    return story.go(PAIR[1], to=UnitState.CUT_OVER)


def test_units_proven_after_both_were_cut_over_may_go_together() -> None:
    """Evidence from when both old paths were out of use holds for both in one wave."""
    story = both_cut_over().wait_s(4000)
    scene = situation_of(COUNTY, story, measure(COUNTY, story.at), now=story.at + timedelta(seconds=20))
    assert all(v.allowed for v in judge_together(PAIR, Stage.DRAIN, scene).values())


def backups() -> Situation:
    """A unit measured while the other of the pair still had its old path: alone it may go, with the other it may not."""
    story = Story().go("fin@county", "soc@county", "fin@tb", "fin@va1", PAIR[0], to=UnitState.CUT_OVER).wait_s(4000)
    first = measure(COUNTY, story.at, units=[PAIR[0]])
    story.wait_s(20).go(PAIR[1], to=UnitState.CUT_OVER)
    quick = build_county(soak_s=0)
    bound = measure(quick, story.at).bound
    return situation_of(quick, story, first.model_copy(update={"bound": bound}), now=story.at + timedelta(seconds=20))


def test_each_others_backup_is_refused_together() -> None:
    """What passed while another's old path was up is no proof once both go: it may have been the backup."""
    scene = backups()
    assert judge_retirement(PAIR[0], Stage.DRAIN, scene).allowed
    verdict = judge_together(PAIR, Stage.DRAIN, scene)[PAIR[0]]
    assert not verdict.allowed
    assert {r.kind for r in verdict.reasons} == {ReasonKind.VOID}
    assert "while the old path of soc@ta was up, which goes in the same wave" in verdict.reasons[0].why
    again = measure(scene.county, scene.now)
    later = replace(scene, evidence=(*scene.evidence, again), now=scene.now + timedelta(seconds=20))
    assert judge_together(PAIR, Stage.DRAIN, later)[PAIR[0]].allowed


def test_a_run_that_withheld_the_other_counts() -> None:
    """A run in which the other's old path was withheld is as good as one after its cutover."""
    scene = backups()
    withheld = scene.evidence[0].model_copy(update={"withheld": (PAIR[1],)})
    assert judge_together(PAIR, Stage.DRAIN, replace(scene, evidence=(withheld,)))[PAIR[0]].allowed


def test_those_who_go_besides_count_as_well() -> None:
    """Units of the same command in another stage or network are part of the wave."""
    verdict = judge_together([PAIR[0]], Stage.DRAIN, backups(), wave=[PAIR[1]])[PAIR[0]]
    assert not verdict.allowed


def test_a_wave_of_one_is_a_unit_alone() -> None:
    """Judging a single unit together with itself changes nothing."""
    scene = backups()
    assert judge_together([PAIR[0]], Stage.DRAIN, scene)[PAIR[0]] == judge_retirement(PAIR[0], Stage.DRAIN, scene)


def test_going_back_and_over_again_voids_what_was_between() -> None:
    """A unit that got its old path back may have been a backup meanwhile: only what came after its last cutover counts."""
    story = both_cut_over().wait_s(4000)
    run = measure(COUNTY, story.at)
    key = story.wait_s(20).begin(Step.BACK, PAIR[1], UnitState.CUT_OVER, UnitState.PROVISIONED)
    story.end(Step.BACK, key, PAIR[1], UnitState.PROVISIONED)
    scene = situation_of(COUNTY, story, run, now=story.at + timedelta(seconds=20))
    assert judge_retirement(PAIR[0], Stage.DRAIN, scene).allowed
    assert not judge_together(PAIR, Stage.DRAIN, scene)[PAIR[0]].allowed


def test_a_trial_of_several_needs_all_withheld() -> None:
    """When units are tried together, only runs that withheld all of them prove any of them."""
    story = Story().go("fin@county", "soc@county", to=UnitState.CUT_OVER).go(*PAIR, to=UnitState.PROVISIONED)
    since = story.at
    for withheld, allowed in ((PAIR, True), (PAIR[:1], False), (PAIR[1:], False)):
        run = measure(COUNTY, since + timedelta(seconds=5), withheld=withheld)
        scene = situation_of(COUNTY, story, run, now=since + timedelta(seconds=30))
        assert judge_proof(PAIR[0], scene, since=since, together=PAIR).allowed is allowed


def test_a_village_leans_on_no_town_that_goes_with_it() -> None:
    """A village measured while its town's old line still carried it is not drained in one wave with the town."""
    story = Story().go("fin@county", "fin@va1", to=UnitState.CUT_OVER).wait_s(4000)
    run = measure(COUNTY, story.at)
    story.wait_s(20).go("fin@ta", to=UnitState.CUT_OVER)
    quick = build_county(soak_s=0)
    run = run.model_copy(update={"bound": measure(quick, story.at).bound})
    scene = situation_of(quick, story, run, now=story.at + timedelta(seconds=20))
    assert judge_retirement("fin@va1", Stage.DRAIN, scene).allowed
    verdict = judge_together(["fin@va1", "fin@ta"], Stage.DRAIN, scene)["fin@va1"]
    assert "while the old path of fin@ta was up" in verdict.reasons[0].why


# --- lines that the extranet itself runs over ---


def with_uplink(**changes: object) -> County:
    """The county with an extranet line of the town of the pair."""
    values: dict[str, object] = {
        "id": "x-ta",
        "network": EXTRANET,
        "site": "ta",
        "device": "r-ta",
        "port": "wan1",
        "far_device": "core1",
        "far_port": "ta",
        **changes,
    }
    return COUNTY.altered(circuits=(*COUNTY.circuits, Circuit(**values)))  # type: ignore[arg-type]


@pytest.mark.parametrize("stage", ["shut", "remove"])
def test_a_port_on_which_the_extranet_ends_is_not_shut(stage: str) -> None:
    """A stage that takes a port down is refused while an extranet line ends on that port."""
    line = COUNTY.circuit_by_id["fin-ta"]
    county = with_uplink(far_device=line.far_device or line.device, far_port=line.far_port or line.port)
    county = with_uplink(device=line.device, port=line.port)
    story = Story().go("fin@county", "fin@ta", to=UnitState.CUT_OVER).wait_s(4000)
    scene = situation_of(county, story, measure(county, story.at), now=story.at + timedelta(seconds=20))
    reasons = judge_retirement("fin@ta", stage, scene).reasons
    assert any(r.kind is ReasonKind.LINE and "x-ta of the extranet ends on fin-ta wan1" in r.why for r in reasons)
    assert ReasonKind.LINE not in {r.kind for r in judge_retirement("fin@ta", "drain", scene).reasons}
    assert ReasonKind.LINE not in {r.kind for r in judge_cutover("fin@ta", scene).reasons}
