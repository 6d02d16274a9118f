"""Laws of the outlook: a border moves only where no address would, forecasts add up, a what-if is what comes true."""

from __future__ import annotations

import json
from dataclasses import replace
from ipaddress import IPv6Network
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from addressing.budget import lay_out
from addressing.divisions import Divisions, read_divisions
from addressing.hierarchy import ABSORBED, QUARANTINED, Fate, HierarchyPlan, continue_plan, plan_divisions
from addressing.orders import ORDERS, Order
from addressing.outlook import (
    Question,
    QuestionError,
    forecast,
    judge_border,
    parse_question,
    what_if,
)
from addressing.policy import LevelField, PlanPolicy, Subnet
from addressing.policyfile import PolicyPoolError, default_policy
from addressing.ratios import hd_ratio
from inventory.errors import ExtranetError, UnknownNameError

LUOYANG = read_divisions(Path(__file__).parent / "data" / "luoyang-2021.tsv.xz")
YICHUAN = read_divisions(Path(__file__).parent / "data" / "luoyang-2021.tsv.xz", "410329000000")
POLICY = default_policy("3fff:410:300::/40")


def planned(divisions: Divisions, policy: PlanPolicy) -> HierarchyPlan:
    """Lay out and plan."""
    return plan_divisions(divisions, policy, lay_out(divisions, policy)[0])


PLAN = planned(YICHUAN, POLICY)


def crowded(order: Order, town: int = 5, village: int = 6, pool: str = "3fff:410:300::/45") -> HierarchyPlan:
    """Return Yichuan in fields that barely hold it, so that borders are blocked here and there."""
    fields = (
        LevelField(level=4, width=town, growth=0.0, order=order),
        LevelField(level=5, width=village, growth=0.0, order=order),
    )
    return planned(YICHUAN, default_policy(pool).altered(fields=fields, ceiling=1.0))


CROWDED = {order: crowded(order) for order in ORDERS}


def spans(plan: HierarchyPlan, level: int) -> list[tuple[int, int]]:
    """Return (first /64, length) of a level's divisions."""
    rows = np.flatnonzero(plan.levels == level)
    return list(zip(plan.high[rows].tolist(), plan.lengths[rows].tolist(), strict=True))


def pool_start(plan: HierarchyPlan) -> int:
    """Return the first /64 of the pool."""
    return int(plan.layout.pools[0].network_address) >> 64


# ------------------------------------------------------------------------------------------------------------- borders


@pytest.mark.parametrize("order", ORDERS)
def test_level_grows_left_where_blocks_can_double(order: Order) -> None:
    """Villages' field takes a bit of the towns' just where all towns' blocks, doubled, stay apart and off the county's."""
    plan = CROWDED[order]
    double = [(high >> (65 - length)) for high, length in spans(plan, 4)]
    length = plan.layout.by_level[4].length
    own = pool_start(plan) >> (65 - length)
    apart = len(set(double)) == len(double) and own not in double
    verdict = judge_border(plan, "village", "left")
    assert verdict.possible == apart
    assert verdict.possible == (verdict.count == 0)
    assert {o: judge_border(CROWDED[o], "village", "left").possible for o in ORDERS} == {
        "left": True,
        "right": False,
        "centre": True,
    }


def test_slot_0_is_always_in_use() -> None:
    """A single town in slot 1 blocks the villages' field: slot 0 beside it is the county's own."""
    codes = ["a", "a.1", "a.1.1"]
    divisions = Divisions(codes, codes, np.array([3, 4, 5], dtype=np.int8), np.array([-1, 0, 1], dtype=np.int32))
    for order, possible in (("right", False), ("left", True), ("centre", True)):
        fields = tuple(LevelField.model_validate({"level": n, "order": order}) for n in (4, 5))
        verdict = judge_border(planned(divisions, POLICY.altered(fields=fields)), "village", "left")
        assert (verdict.possible, [b.code for b in verdict.blockers]) == (possible, [] if possible else ["a.1"])


@pytest.mark.parametrize("order", ORDERS)
def test_level_grows_right_where_halves_are_free(order: Order) -> None:
    """Towns' field takes a bit of the villages' just where no village lies in the upper half of its town."""
    plan = CROWDED[order]
    length = plan.layout.by_level[4].length
    blocking = [high for high, _ in spans(plan, 5) if high >> (63 - length) & 1]
    verdict = judge_border(plan, 4, "right")
    assert verdict.possible == (not blocking)
    assert verdict.count == len(blocking)
    assert all(plan.codes[plan.row_of[b.code]] == b.code for b in verdict.blockers)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(ORDERS), st.integers(0, len(YICHUAN) - 1))
def test_division_doubles_where_nobody_is(order: Order, at: int) -> None:
    """A division's block doubles just where nobody else, nor its parent's own, lies in the half that it takes."""
    plan = CROWDED[order]
    code = YICHUAN.codes[at]
    row = plan.row_of[code]
    verdict = judge_border(plan, code, "left")
    if int(plan.levels[row]) == 3:
        assert not verdict.possible
        assert "would have to become" in verdict.reason
        return
    size = 1 << (64 - int(plan.lengths[row]))
    beside = int(plan.high[row]) ^ size
    inside = (plan.high >= np.uint64(beside)) & (plan.high <= np.uint64(beside + size - 1))
    inside &= plan.lengths >= plan.lengths[row]
    above = plan.row_of_id[int(plan.homes[row])]
    taken = bool(inside.any()) or beside == int(plan.high[above])
    assert verdict.possible == (not taken)
    assert len(verdict.blockers) == (1 if taken else 0)


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(ORDERS), st.sampled_from([c for c in YICHUAN.codes if c.endswith("000")]))
def test_division_makes_room_where_halves_are_free(order: Order, code: str) -> None:
    """A division takes a bit from below its children just where none of their children lies in an upper half."""
    plan = CROWDED[order]
    row = plan.row_of[code]
    verdict = judge_border(plan, code, "right")
    if int(plan.levels[row]) == 4:
        assert not verdict.possible
        assert "longer than leaf_at_most /56" in verdict.reason
    else:
        assert verdict.count == judge_border(plan, 4, "right").count


def test_blockers_are_named() -> None:
    """Who stands in the way is named by code, name, prefix and slot."""
    plan = CROWDED["right"]
    first = min((r for r in range(len(plan)) if plan.levels[r] == 4), key=lambda r: int(plan.slots[r]))
    assert int(plan.slots[first]) == 1
    verdict = judge_border(plan, plan.codes[first], "left")
    assert not verdict.possible
    assert "slot 0 beside it is the division's above, its own" in str(verdict)
    second = next(r for r in range(len(plan)) if plan.levels[r] == 4 and plan.slots[r] == 2)
    third = next(r for r in range(len(plan)) if plan.levels[r] == 4 and plan.slots[r] == 3)
    verdict = judge_border(plan, plan.codes[second], "left")
    assert [(b.code, b.slot, b.state) for b in verdict.blockers] == [(plan.codes[third], 3, "active")]
    assert plan.names[third] in str(verdict)
    assert json.loads(json.dumps(verdict.as_json()))["count"] == 1


def test_quarantined_slots_block() -> None:
    """What is gone but quarantined blocks a border as what is in use does."""
    plan = CROWDED["right"]
    third = next(r for r in range(len(plan)) if plan.levels[r] == 4 and plan.slots[r] == 3)
    second = next(r for r in range(len(plan)) if plan.levels[r] == 4 and plan.slots[r] == 2)
    states = plan.states.copy()
    states[third] = QUARANTINED
    verdict = judge_border(replace(plan, states=states), plan.codes[second], "left")
    assert [b.state for b in verdict.blockers] == ["quarantined"]


def test_reserved_slots_block() -> None:
    """A slot that the policy keeps back blocks a border, and is called reserved."""
    fields = (LevelField(level=4, width=8), LevelField(level=5, width=8, reserved=(0, 255)))
    plan = planned(YICHUAN, POLICY.altered(fields=fields))
    verdict = judge_border(plan, "town", "right")
    assert [(b.slot, b.state) for b in verdict.blockers] == [(255, "reserved")]
    beside = planned(YICHUAN, POLICY.altered(fields=(LevelField(level=4, width=8, reserved=(0, 9)), fields[1])))
    verdict = judge_border(beside, "410329001000", "left")
    assert int(beside.slots[beside.row_of["410329001000"]]) == 8
    assert "slot 9 beside it is reserved by the policy" in verdict.reason


def test_leaf_border() -> None:
    """The lowest field takes a bit of the sites only as far as the policy and their templates allow."""
    roomy = default_policy("3fff:410::/36")
    assert judge_border(planned(YICHUAN, roomy), "village", "right").possible
    part = Subnet(name="service window", zone="public", slot=3000)
    verdict = judge_border(planned(YICHUAN, roomy.altered(templates={"village": (part,)})), "village", "right")
    assert [b.name for b in verdict.blockers] == ["village: service window"]
    assert not judge_border(PLAN, "village", "right").possible


def test_top_border_is_the_pools() -> None:
    """The highest field grows left only with a larger pool, which is named."""
    assert "3fff:410:200::/39: ask for it" in judge_border(PLAN, "town", "left").reason
    assert "3fff:410:200::/39" in judge_border(PLAN, "410329000000", "left").reason


def test_no_such_division() -> None:
    """A code or level that is not there is an error with near matches."""
    with pytest.raises(UnknownNameError, match="did you mean"):
        judge_border(PLAN, "410329001999", "left")
    with pytest.raises(UnknownNameError, match="level '2'"):
        judge_border(PLAN, 2, "left")


# ------------------------------------------------------------------------------------------------------------ forecast


@pytest.mark.parametrize("plan", [PLAN, *CROWDED.values(), planned(LUOYANG, default_policy("3fff::/28"))])
def test_slots_add_up(plan: HierarchyPlan) -> None:
    """At each level active, quarantined, absorbed, reserved and free slots are all the slots under all its parents."""
    found = forecast(plan)
    assert len(found.lines()) == len(plan.layout.fields)
    for level in found.levels:
        parts = (level.active, level.quarantined, level.absorbed, level.reserved, level.free)
        assert sum(parts) == level.slots == level.parents << level.width
        assert level.active == int((plan.levels == level.level).sum())


def test_fullest_come_first() -> None:
    """The fullest parents are named, fullest first, with what is left until the ceiling and until no slot is left."""
    village, growth = forecast(PLAN).levels[1], POLICY.field(5).growth
    assert [(p.code, p.active) for p in village.fullest[:2]] == [("410329111000", 41), ("410329101000", 39)]
    for parent in village.fullest:
        assert parent.used == parent.active + 1
        assert hd_ratio(parent.used + parent.to_ceiling, parent.size) <= 0.85
        assert hd_ratio(parent.used + parent.to_ceiling + 1, parent.size) > 0.85
        assert parent.used + parent.to_full == parent.size
        assert parent.active * (1 + growth) ** parent.times <= parent.active + parent.to_ceiling
        assert parent.active * (1 + growth) ** (parent.times + 1) > parent.active + parent.to_ceiling


def test_short_parents_are_counted() -> None:
    """Parents that cannot grow as the policy expects below the ceiling are counted one by one."""
    policy = default_policy("3fff:410:300::/44")
    plan = planned(YICHUAN, policy)
    assert [level.short for level in forecast(plan).levels] == [0, 0]
    faster = replace(plan, policy=policy.altered(fields=(LevelField(level=4), LevelField(level=5, growth=1.0))))
    counts = np.bincount(plan.homes[plan.levels == 5])
    ceiling = max(n for n in range(1, 129) if hd_ratio(n, 128) <= 0.85)
    assert forecast(faster).levels[1].short == sum(2 * int(n) + 1 > ceiling for n in counts)
    assert forecast(faster).levels[1].short > 0


def test_gone_divisions_still_count() -> None:
    """Quarantined and absorbed divisions keep their slots: they are counted apart, and not free."""
    states = PLAN.states.copy()
    villages = np.flatnonzero(PLAN.levels == 5)
    states[villages[:3]], states[villages[3]] = QUARANTINED, ABSORBED
    before, after = forecast(PLAN).levels[1], forecast(replace(PLAN, states=states)).levels[1]
    assert (after.active, after.quarantined, after.absorbed) == (before.active - 4, 3, 1)
    assert after.free == before.free
    assert "3 quarantined, 1 absorbed" in forecast(replace(PLAN, states=states)).lines()[1]


# ------------------------------------------------------------------------------------------------------------- what if


def with_town(divisions: Divisions, code: str) -> Divisions:
    """Return the divisions with one more town of the first root."""
    at = sorted([*divisions.codes, code]).index(code)
    codes = [*divisions.codes[:at], code, *divisions.codes[at:]]
    names = [*divisions.names[:at], "新镇", *divisions.names[at:]]
    parents = np.where(divisions.parents >= at, divisions.parents + 1, divisions.parents)
    return Divisions(codes, names, np.insert(divisions.levels, at, 4), np.insert(parents, at, 0).astype(np.int32))


def test_a_new_town_moves_nobody() -> None:
    """T12: a 16th town moves nothing, which the what-if says and the plan carried on proves."""
    answer = what_if(YICHUAN, POLICY, Question(parent="410329000000", more=1))
    assert (answer.carried, answer.within, answer.moved) == (True, True, 0)
    after = with_town(YICHUAN, "410329113000")
    identities = np.array([PLAN.ids[PLAN.row_of[c]] if c in PLAN.row_of else 0 for c in after.codes], dtype=np.int64)
    carried_on = continue_plan(PLAN, after, Fate(identities, {}))
    for code in YICHUAN.codes:
        assert carried_on.prefix(carried_on.row_of[code]) == PLAN.prefix(PLAN.row_of[code])
    assert carried_on.prefix(carried_on.row_of["410329113000"]) not in {PLAN.prefix(r) for r in range(len(PLAN))}


def test_too_many_are_told() -> None:
    """More than there are slots: the layout in use does not carry them, a fresh one moves everybody but the root."""
    answer = what_if(YICHUAN, POLICY, Question(parent="410329111000", more=500))
    assert not answer.carried
    assert answer.moved == len(YICHUAN) - 1
    assert "would move 385 of 386" in answer.sentence
    hopeless = what_if(YICHUAN, POLICY, Question(parent="410329000000", more=400))
    assert not hopeless.carried
    assert "refused, village prefixes would be /58" in hopeless.sentence


def test_growth_above_the_ceiling_is_told() -> None:
    """More growth moves nobody by itself; where it would go above the ceiling that is said."""
    calm, wild = (what_if(YICHUAN, POLICY, Question(growth_times=n)) for n in (2.0, 40.0))
    assert (calm.carried, calm.within, calm.refusal) == (True, True, "")
    assert (wild.carried, wild.within) == (True, False)
    assert wild.refusal
    assert "though above the ceiling" in wild.sentence


def test_another_pool_moves_everybody() -> None:
    """Another pool renumbers; the same pool does not; one more pool beside it does not either."""
    moved = what_if(YICHUAN, POLICY, parse_question("pool=3fff:500::/40"))
    assert (moved.carried, moved.moved) == (False, len(YICHUAN))
    same = what_if(YICHUAN, POLICY, parse_question("pool=3fff:410:300::/40"))
    assert (same.carried, same.moved) == (True, 0)
    more = what_if(YICHUAN, POLICY, parse_question("add-pool=3fff:410:400::/40"))
    assert (more.carried, more.moved) == (True, 0)


def test_moved_is_what_planning_afresh_moves() -> None:
    """The number moved is that of prefixes that differ between the plan in use and one made under the new pool."""
    answer = what_if(YICHUAN, POLICY, parse_question("pool=3fff:410:300::/44"))
    other = planned(YICHUAN, default_policy("3fff:410:300::/44"))
    different = sum(PLAN.prefix(r) != other.prefix(r) for r in range(len(PLAN)))
    assert answer.moved == different
    assert json.loads(json.dumps(answer.as_json()))["moved_now"] == different


def test_a_layout_in_use_is_judged_itself() -> None:
    """With the layout of a plan in use, that one is asked whether it carries the change, not the best one of today."""
    used = CROWDED["centre"].layout
    crowded_policy = default_policy("3fff:410:300::/45").altered(
        fields=(LevelField(level=4, growth=0.0), LevelField(level=5, growth=0.0)), ceiling=1.0
    )
    answer = what_if(YICHUAN, crowded_policy, Question(parent="410329000000", more=20), layout=used)
    assert not answer.carried


@pytest.mark.parametrize(
    ("text", "question"),
    [
        ("410329000000+1", Question(parent="410329000000", more=1)),
        ("growth*2", Question(growth_times=2.0)),
        ("growth*0.5", Question(growth_times=0.5)),
        ("pool=3fff::/36", Question(pool="3fff::/36")),
        ("add-pool=3fff::/36", Question(another_pool="3fff::/36")),
    ],
)
def test_questions_are_read(text: str, question: Question) -> None:
    """What people type becomes a question that says the same."""
    assert parse_question(text) == question
    assert str(question)


@pytest.mark.parametrize(
    "text", ["", "more", "410329000000+", "+3", "x+0", "growth*", "growth*-1", "growth*nan", "pool=", "a+1.5"]
)
def test_nonsense_is_refused(text: str) -> None:
    """What is no question is an error that says how to ask."""
    with pytest.raises(QuestionError, match=r"expected CODE\+N"):
        parse_question(text)


def test_impossible_questions() -> None:
    """Unknown divisions, leaves, and pools that overlap or differ in length are errors with a way out."""
    with pytest.raises(UnknownNameError):
        what_if(YICHUAN, POLICY, Question(parent="410329999000", more=1))
    with pytest.raises(ExtranetError, match="no level lies below it"):
        what_if(YICHUAN, POLICY, Question(parent="410329101201", more=1))
    for pool in ("3fff:410:300::/40", "3fff:410:400::/44"):
        with pytest.raises(ExtranetError, match="expected a block of /40"):
            what_if(YICHUAN, POLICY, Question(another_pool=pool))
    with pytest.raises(PolicyPoolError):
        what_if(YICHUAN, POLICY, Question(pool="10.0.0.0/8"))


def test_networks_are_what_they_say() -> None:
    """A larger block that a border move names holds the division's old block."""
    verdict = judge_border(PLAN, "410329001000", "left")
    assert verdict.possible
    old, new = (IPv6Network(w) for w in verdict.reason.partition(":" + " slot")[0].split(" becomes "))
    assert old.subnet_of(new)
    assert new.prefixlen == old.prefixlen - 1
