"""Evidence and the old line's routers: a change that is not ours between a measurement and a retirement voids it."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migration.events import Kind
from migration.gates import Stage, Verdict, judge_retirement
from migration.measuring import legacy_under_checks
from migration.proof import ReasonKind, Situation
from migration.units import Change, Link, Step, UnitState, fold, last_changes, legacy_devices_under, outcome_body
from tests.migration.scene import Story, bound_now, build_checks, build_county, measure, situation_of

COUNTY = build_county()
FIN = ("fin@county", "fin@ta", "fin@tb", "fin@va1")
UNIT = "fin@ta"
UNDER = legacy_devices_under(COUNTY, COUNTY.unit_by_id[UNIT])
HELD = {d: f"config of {d}" for d in ("fin-county", "fin-ta", "fin-tb", "soc-county", "soc-ta")}


@cache
def at_drain() -> Situation:
    """A situation in which a town's unit may be drained, its legacy routers read both times."""
    story = Story().go(*FIN, to=UnitState.CUT_OVER).wait_s(4000)
    bound = bound_now(COUNTY, **HELD)
    fresh = measure(COUNTY, story.at, withheld=FIN, bound=bound).model_copy(update={"seq": 50})
    return situation_of(COUNTY, story.wait_s(20), fresh, current=bound)


def drain(scene: Situation) -> Verdict:
    """Ask for the drain."""
    return judge_retirement(UNIT, Stage.DRAIN, scene)


def running(scene: Situation, **configs: str | None) -> Situation:
    """The situation with other configurations running now (None: the router does not answer)."""
    found = {n: c for n, c in {**scene.current.configs, **configs}.items() if c is not None}
    return replace(scene, current=scene.current.model_copy(update={"configs": found}))


def test_unchanged_legacy_routers_allow() -> None:
    """Where the old line's routers run what they ran when it was measured, the drain is allowed."""
    assert UNDER == ("fin-county", "fin-ta")
    assert drain(at_drain()).allowed


@given(device=st.sampled_from(sorted(HELD)))
def test_a_change_on_any_router_of_the_old_line_voids(device: str) -> None:
    """Any other configuration of a legacy router under the unit's old path voids, by name; other lines' routers do not."""
    verdict = drain(running(at_drain(), **{device: "edited by hand"}))
    assert verdict.allowed is (device not in UNDER)
    for reason in verdict.reasons:
        assert reason.kind is ReasonKind.VOID
        assert f"under another configuration of the legacy router {device}" in reason.why


def test_not_known_then_is_not_unchanged() -> None:
    """A run that did not read a legacy router which answers now does not count."""
    scene = at_drain()
    (run,) = scene.evidence
    configs = {d: c for d, c in run.bound.configs.items() if d != "fin-ta"}
    unread = run.model_copy(update={"bound": run.bound.model_copy(update={"configs": configs})})
    verdict = drain(replace(scene, evidence=(unread,)))
    assert not verdict.allowed
    assert "without knowing what the legacy router fin-ta ran" in verdict.reasons[0].why


def test_a_router_that_is_gone_is_left_to_the_soak() -> None:
    """A legacy router that does not answer now voids nothing here."""
    assert drain(running(at_drain(), **{"fin-ta": None})).allowed


HUB, WAS = "fin-county", HELD["fin-county"]


def changed(*acts: tuple[str, str], change: str = "") -> Change:
    """The record of our acts on the hub, one after the other: what it ran before each, and was left with."""
    story = Story()
    for ran, left in acts:
        key = story.begin(Step.DRAIN, "fin@tb", UnitState.SOAKED, UnitState.DRAINED, HUB, ran=ran, change=change)
        body = outcome_body(Step.DRAIN, result="done", state=UnitState.DRAINED, devices={HUB: left})
        story.tell(Kind.OUTCOME, key, body, "fin@tb")
    return last_changes(story.events)[HUB]


@pytest.mark.parametrize(
    ("acts", "now", "allowed"),
    [
        ([(WAS, "a")], "a", True),
        ([(WAS, "a"), ("a", "b")], "b", True),
        ([(WAS, "a")], "by hand", False),  # after ours
        ([("by hand", "a")], "a", False),  # before ours, which left it there
        ([("by hand", "by hand")], "by hand", False),  # a trial that was given back
        ([(WAS, "a"), ("by hand", "b")], "b", False),  # between two of ours
        ([("", "a")], "a", False),  # a record of before says nothing
        ([(WAS, "")], "", False),
    ],
)
def test_only_an_unbroken_chain_of_our_own_changes_voids_nothing(
    acts: list[tuple[str, str]], now: str, *, allowed: bool
) -> None:
    """What our later changes made of a router is no surprise where each began from what was known; anything else is."""
    scene = at_drain()
    (run,) = scene.evidence
    early = run.model_copy(update={"seq": 0})
    scene = replace(running(scene, **{HUB: now}), evidence=(early,), changes={HUB: changed(*acts)})
    assert drain(scene).allowed is allowed


@pytest.mark.parametrize(
    ("ran", "left", "allowed"), [("before", "before", True), ("before", WAS, True), ("before", "other", False)]
)
def test_a_run_inside_a_change_counts_when_that_is_kept_or_given_back(ran: str, left: str, *, allowed: bool) -> None:
    """Measured under a change: what came of it is what was measured, or what was there when it began, and nothing else."""
    scene = at_drain()
    (run,) = scene.evidence
    inside = run.model_copy(update={"seq": 1})  # the intent is the story's first event
    change = changed((ran, left)).model_copy()
    links = tuple(link._replace(began=0) for link in change.links)
    change = change.model_copy(update={"links": links})
    scene = replace(running(scene, **{HUB: left}), evidence=(inside,), changes={HUB: change})
    assert drain(scene).allowed is allowed


def test_the_attempts_of_one_run_are_one_change() -> None:
    """They began together, so what the second ran before is what the first did."""
    apart, together = changed((WAS, "a"), (WAS, "b")), changed((WAS, "a"), (WAS, "b"), change="c1")
    assert not apart.explains(WAS, 0, "b")
    assert together.explains(WAS, 0, "b")


def test_a_change_remembers_what_it_left() -> None:
    """The last change on a device says what it held when it ended; an open one, and what was not touched, say nothing."""
    story = Story()
    key = story.begin(Step.DRAIN, UNIT, UnitState.SOAKED, UnitState.DRAINED, HUB, "fin-ta", ran="before")
    assert {c.links for c in last_changes(story.events).values()} == {()}
    body = outcome_body(Step.DRAIN, result="done", state=UnitState.DRAINED, devices={HUB: "after"})
    story.tell(Kind.OUTCOME, key, body, UNIT)
    found = last_changes(story.events)
    assert found[HUB].links == (Link(change=key, began=1, ended=2, ran="before", left="after"),)
    assert found["fin-ta"].links == ()


def test_whoever_measures_reads_the_old_lines_that_are_left() -> None:
    """The legacy routers under the legs that are measured are read, but those of removed units are not waited for."""
    story = Story().go("fin@tb", to=UnitState.REMOVED)

    class Campaign:
        county = COUNTY

        def records(self) -> Any:
            return fold(story.events, COUNTY)

    campaign: Any = Campaign()
    checks = [c for c in build_checks(COUNTY) if (c.station, c.plane) in {("st-ta", "finance"), ("st-tb", "finance")}]
    assert legacy_under_checks(campaign, checks) == ["fin-county", "fin-ta"]
    assert legacy_under_checks(campaign, [c for c in checks if c.station == "st-tb"]) == []
