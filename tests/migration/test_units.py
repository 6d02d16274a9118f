"""Units: their states in order, and what the ledger's events make of them."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inventory.errors import ScopeGuardError, UnknownNameError
from migration.events import Kind
from migration.units import (
    STEP_ENDS,
    Step,
    UnitState,
    county_unit,
    devices_under,
    find_unit,
    fold,
    fold_units,
    last_changes,
    legacy_devices_under,
    may_move,
    outcome_body,
    soaking_since,
    units_behind,
    units_served,
)
from tests.migration.scene import T0, Story, build_county, measure

COUNTY = build_county()
STATES = st.sampled_from(list(UnitState))


def test_states_are_in_order() -> None:
    """The states come in the order of a unit's life, and every state but the first ends a step."""
    assert [s.value for s in UnitState] == [
        "surveyed",
        "planned",
        "provisioned",
        "proven",
        "cut_over",
        "soaked",
        "drained",
        "shut",
        "removed",
        "released",
    ]
    assert [STEP_ENDS[s] for s in Step if s in STEP_ENDS] == list(UnitState)[1:]
    assert all(b.reached(a) and not a.reached(b) for a, b in pairwise(UnitState))


@given(old=STATES, new=STATES)
def test_only_one_act_at_a_time(old: UnitState, new: UnitState) -> None:
    """Never more than one act lies in a move forward; every way back is open until removed."""
    acts = {UnitState.PROVISIONED, UnitState.CUT_OVER, UnitState.DRAINED, UnitState.SHUT, UnitState.REMOVED}
    acts |= {UnitState.RELEASED}
    between = [s for s in UnitState if old.rank < s.rank < new.rank and s in acts]
    if old.reached(UnitState.REMOVED):
        assert may_move(old, new) is (new in {old, UnitState.RELEASED})
    elif new.rank <= old.rank:
        assert may_move(old, new)
    else:
        assert may_move(old, new) is (not between)


def test_a_unit_nothing_happened_to_is_surveyed() -> None:
    """Without events every unit of the inventory has a record, as surveyed, and no others have."""
    records = fold([], COUNTY)
    assert set(records) == set(COUNTY.unit_by_id)
    assert {r.state for r in records.values()} == {UnitState.SURVEYED}
    assert all(r.since is None and r.intent is None for r in records.values())


def test_outcomes_move_units() -> None:
    """A done outcome moves its unit and only it, at the outcome's time."""
    story = Story().go("fin@ta", to=UnitState.SHUT)
    records = fold(story.events, COUNTY)
    assert records["fin@ta"].state is UnitState.SHUT
    assert records["fin@ta"].since == story.at
    assert set(records["fin@ta"].entered) == {
        UnitState.PROVISIONED,
        UnitState.CUT_OVER,
        UnitState.DRAINED,
        UnitState.SHUT,
    }
    assert records["fin@tb"].state is UnitState.SURVEYED


def test_one_event_may_be_about_many_units() -> None:
    """An event without a unit is about those its body lists; those not in the inventory any more are passed over."""
    story = Story()
    body = outcome_body(Step.PROVISION, result="done", state=UnitState.PROVISIONED, devices={})
    story.tell(Kind.OUTCOME, "push", {**body, "units": ["fin@ta", "fin@tb", "fin@gone"]})
    records = fold(story.events, COUNTY)
    assert {u for u, r in records.items() if r.state is UnitState.PROVISIONED} == {"fin@ta", "fin@tb"}


def test_an_intent_without_outcome_is_open() -> None:
    """An intent is open until an outcome with its key, whatever that says; meanwhile the state stays."""
    story = Story().go("fin@ta", to=UnitState.PROVISIONED)
    key = story.begin(Step.CUTOVER, "fin@ta", UnitState.PROVISIONED, UnitState.CUT_OVER, "r-ta")
    record = fold(story.events, COUNTY)["fin@ta"]
    assert record.intent is not None
    assert record.intent.key == key
    assert record.state is UnitState.PROVISIONED
    story.end(Step.CUTOVER, key, "fin@ta", UnitState.PROVISIONED, result="undone", reason="portal: refused")
    record = fold(story.events, COUNTY)["fin@ta"]
    assert record.intent is None
    assert record.state is UnitState.PROVISIONED
    assert record.failure == "cutover undone: portal: refused"


@pytest.mark.parametrize("result", ["undone", "failed"])
def test_what_did_not_succeed_moves_nothing(result: str) -> None:
    """An outcome that is not done leaves the unit where it was, even if it names another state."""
    story = Story().go("fin@ta", to=UnitState.PROVISIONED)
    story.end(Step.CUTOVER, "k", "fin@ta", UnitState.CUT_OVER, result=result)
    record = fold(story.events, COUNTY)["fin@ta"]
    assert record.state is UnitState.PROVISIONED
    assert record.failure


def test_a_jump_is_a_problem_and_a_way_back_heals_it() -> None:
    """A record that skips an act is not believed, says so, and is whole again after going back."""
    story = Story().go("fin@ta", to=UnitState.PROVISIONED)
    story.end(Step.SHUT, "k", "fin@ta", UnitState.SHUT)
    record = fold(story.events, COUNTY)["fin@ta"]
    assert record.state is UnitState.PROVISIONED
    assert record.problems == (f"event {len(story.events)}: shut took it from provisioned to shut",)
    story.end(Step.BACK, "b", "fin@ta", UnitState.PROVISIONED)
    assert fold(story.events, COUNTY)["fin@ta"].problems == ()


@pytest.mark.parametrize("body", [{}, {"step": "cutover", "result": "great", "state": "cut_over"}, {"step": "x"}])
def test_an_outcome_that_says_nothing_known_is_a_problem(body: dict[str, object]) -> None:
    """An outcome that lacks a field, or says an unknown thing, holds the unit with the event and field named."""
    story = Story()
    story.tell(Kind.OUTCOME, "k", body, "fin@ta")
    (problem,) = fold(story.events, COUNTY)["fin@ta"].problems
    assert problem.startswith("event 1: outcome field")


def test_back_and_forth_begins_time_anew() -> None:
    """Going back forgets the states ahead, so a soak or hold begun before does not count after coming again."""
    story = Story().go("fin@ta", to=UnitState.SHUT)
    first = fold(story.events, COUNTY)["fin@ta"].entered
    story.wait_s(1000).end(Step.BACK, "b", "fin@ta", UnitState.DRAINED)
    record = fold(story.events, COUNTY)["fin@ta"]
    assert record.state is UnitState.DRAINED
    assert UnitState.SHUT not in record.entered
    assert record.entered[UnitState.CUT_OVER] == first[UnitState.CUT_OVER]
    story.wait_s(1000).end(Step.SHUT, "s", "fin@ta", UnitState.SHUT)
    again = fold(story.events, COUNTY)["fin@ta"].entered[UnitState.SHUT]
    assert (again - first[UnitState.SHUT]).total_seconds() > 2000


@pytest.mark.parametrize("said", [UnitState.CUT_OVER, UnitState.SOAKED])
def test_a_proof_leaves_a_soaked_unit_soaked(said: UnitState) -> None:
    """A proof of units of which some are soaked speaks for all: who was soaked stays so, with its record whole."""
    story = Story().go("fin@ta", to=UnitState.CUT_OVER)
    story.end(Step.SOAK, "s", "fin@ta", UnitState.SOAKED)
    before = fold(story.events, COUNTY)["fin@ta"]
    story.end(Step.PROVE, "p", "fin@ta", said)
    assert fold(story.events, COUNTY)["fin@ta"] == before
    story.end(Step.PROVE, "q", "fin@ta", UnitState.PROVEN)
    assert fold(story.events, COUNTY)["fin@ta"].problems


def test_nothing_comes_out_of_removed() -> None:
    """A removed unit never goes back, whatever is recorded afterwards, nor does one whose line was given back."""
    for end in (UnitState.REMOVED, UnitState.RELEASED):
        story = Story().go("fin@tb", to=end)
        assert not fold(story.events, COUNTY)["fin@tb"].problems
        story.end(Step.BACK, "b", "fin@tb", UnitState.SHUT)
        record = fold(story.events, COUNTY)["fin@tb"]
        assert record.state is end
        assert record.problems


def test_a_ledger_from_before_is_read_as_ever() -> None:
    """A ledger that knows of no release and no archive folds to the same records, whole in themselves."""
    story = Story().go("fin@ta", to=UnitState.REMOVED)
    assert not any("dossier" in e.body or "release" in e.body for e in story.events)
    assert fold(story.events, COUNTY)["fin@ta"].state is UnitState.REMOVED
    assert fold(story.events, COUNTY)["fin@ta"] == fold_units(story.events, ["fin@ta"])["fin@ta"]


def test_no_line_that_is_gone_is_watched() -> None:
    """Samples count from the first cutover of a line that is still there: not of one removed, or given back since."""
    story = Story().go("fin@tb", to=UnitState.RELEASED).go("fin@va1", to=UnitState.REMOVED)
    assert soaking_since(fold(story.events, COUNTY)) == float("inf")
    story.wait_s(1000).go("fin@ta", to=UnitState.CUT_OVER)
    assert soaking_since(fold(story.events, COUNTY)) == story.at.timestamp()


def test_legacy_routers_are_found_up_to_the_hub() -> None:
    """A unit's legacy routers are its own, the one its line ends at, and from there to the hub; nobody else's."""
    expected = {
        "fin@county": ("fin-county",),
        "fin@ta": ("fin-county", "fin-ta"),
        "fin@va1": ("fin-county", "fin-ta"),
        "soc@ta": ("soc-county", "soc-ta"),
    }
    assert {u: legacy_devices_under(COUNTY, COUNTY.unit_by_id[u]) for u in expected} == expected


def test_the_last_evidence_is_known() -> None:
    """A record holds the digest of the newest evidence about its unit; a run about everything is about each."""
    story = Story()
    one, every = measure(COUNTY, T0, units=("fin@ta",)), measure(COUNTY, T0)
    story.tell(Kind.EVIDENCE, "a", every.body())
    story.tell(Kind.EVIDENCE, "b", one.body())
    records = fold(story.events, COUNTY)
    assert records["fin@ta"].evidence == one.digest
    assert records["fin@tb"].evidence == every.digest


def test_changes_count_from_their_intent() -> None:
    """A device's last change counts from its intent, and is unfinished until the outcome."""
    story = Story()
    key = story.begin(Step.CUTOVER, "fin@ta", UnitState.PROVISIONED, UnitState.CUT_OVER, "r-ta", "fin-ta")
    begun = story.at
    assert not last_changes(story.events)["r-ta"].finished
    story.wait_s(50)
    body = outcome_body(Step.CUTOVER, result="done", state=UnitState.CUT_OVER, devices={"r-ta": "d"})
    story.tell(Kind.OUTCOME, key, body, "fin@ta")
    changes = last_changes(story.events)
    assert set(changes) == {"r-ta", "fin-ta"}
    for change in changes.values():
        assert change.finished
        assert change.at == begun


def test_who_hangs_on_whose_link() -> None:
    """A town's link carries its villages whose lines end there; the county's carries its whole network."""
    units = COUNTY.unit_by_id
    assert [u.id for u in units_behind(COUNTY, units["fin@ta"])] == ["fin@va1"]
    assert [u.id for u in units_behind(COUNTY, units["soc@ta"])] == []
    assert [u.id for u in units_behind(COUNTY, units["fin@va1"])] == []
    assert {u.id for u in units_behind(COUNTY, units["fin@county"])} == {"fin@ta", "fin@tb", "fin@va1"}
    assert county_unit(COUNTY, "soc") == units["soc@county"]
    assert {u.id for u in units_served(COUNTY, units["fin@county"])} == {"fin@ta", "fin@tb", "fin@va1"}
    assert units_served(COUNTY, units["fin@ta"]) == ()


def test_what_lies_under_a_units_path() -> None:
    """A unit's new path uses the routers of its site, its town and the cores, and no legacy router."""
    assert devices_under(COUNTY, COUNTY.unit_by_id["fin@va1"]) == ("core1", "core2", "r-ta", "r-va1")
    assert devices_under(COUNTY, COUNTY.unit_by_id["fin@county"]) == ("core1", "core2")


def test_units_are_found_or_refused() -> None:
    """A unit is found by its id; a classified network's is refused, an unknown one named with near matches."""
    assert find_unit(COUNTY, "fin@ta").plane == "finance"
    for name in ("hidden@ta", "机密网@ta"):
        with pytest.raises(ScopeGuardError):
            find_unit(COUNTY, name)
    with pytest.raises(UnknownNameError, match="fin@tb"):
        find_unit(COUNTY, "fin@tc")
