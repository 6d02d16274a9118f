"""What is still ahead of a retirement: every stage, in order, and which of them cannot be taken back."""

from __future__ import annotations

import pytest

from migration.retire import STAGES, UNDO
from migration.stages_ahead import list_stages
from migration.units import UnitState
from tests.migration.scene import build_county

POLICY = build_county().policy
ENDS = (UnitState.DRAINED, UnitState.SHUT, UnitState.REMOVED)


@pytest.mark.parametrize("until", ENDS)
@pytest.mark.parametrize("state", [s for s in UnitState if s.reached(UnitState.CUT_OVER)])
def test_it_is_the_way_that_retirement_takes(state: UnitState, until: UnitState) -> None:
    """The stages with a gate are those that retiring walks through, one after the other, as far as was asked; no more."""
    walked, now = [], state
    while not now.reached(until):
        walked.append((STAGES[now].stage.value, STAGES[now].end))
        now = STAGES[now].end
    shown = list(list_stages("u@s", state, until, POLICY))
    assert [(s.gate, s.state) for s in shown if s.gate] == walked
    assert bool(shown) == (not state.reached(until))


def test_only_what_can_be_undone_has_a_way_back() -> None:
    """A stage is shown with a way back exactly where `--undo` takes its end back."""
    shown = list(list_stages("u@s", UnitState.CUT_OVER, UnitState.REMOVED, POLICY))
    assert [s.stage for s in shown] == ["drain", "shut", "hold", "remove"]
    for stage in shown:
        assert stage.reversible == (stage.state in UNDO) == ("--undo" in stage.way_back)
    assert "30 min" in shown[2].asks
