"""A way back is relative - one stage each time - and still it is not taken twice when it was cut off."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from migration.events import Kind
from migration.ledger import Ledger
from migration.retire import took_back
from migration.units import Step, UnitState, outcome_body
from tests.migration.scene import StoppedClock

UNIT = "fin@ta"


@pytest.mark.parametrize(
    ("command", "step", "killed", "found"),
    [
        ("retire --undo", Step.BACK, True, {UNIT}),
        ("retire --undo", Step.BACK, False, set()),  # it ended by itself, and said so
        ("retire --undo", Step.SHUT, True, set()),
        ("cutover --back", Step.BACK, True, set()),
    ],
)
def test_what_a_killed_command_has_taken_back_is_known(
    tmp_path: Path, command: str, step: Step, *, killed: bool, found: set[str]
) -> None:
    """Only the units of an undo that was recorded and then killed before it gave the county back."""
    with Ledger.open(tmp_path / "ledger.sqlite", StoppedClock(), "lab t", folder=tmp_path) as ledger:
        holding = ledger.hold(command)
        lease = holding.__enter__()
        body = outcome_body(step, result="done", state=UnitState.DRAINED, devices={})
        ledger.append(Kind.OUTCOME, "c/1", body, unit=UNIT)
        lease.let_go()
        if not killed:
            holding.__exit__(None, None, None)
        campaign: Any = SimpleNamespace(events=ledger.events)
        assert took_back(campaign, ledger.lease_state()) == found
        if killed:
            holding.__exit__(None, None, None)


def test_where_nobody_ever_held_the_county_nothing_was_taken_back(tmp_path: Path) -> None:
    """A ledger without a lease."""
    with Ledger.open(tmp_path / "ledger.sqlite", StoppedClock(), "lab t", folder=tmp_path) as ledger:
        campaign: Any = SimpleNamespace(events=ledger.events)
        assert took_back(campaign, ledger.lease_state()) == set()
