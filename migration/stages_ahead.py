"""The stages of a retirement that are still ahead of a unit, in words: what each gate asks, and what leads back from it."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import Field

from inventory.model import Model, Policy
from inventory.wording import say_span
from migration.units import UnitState


class StageAhead(Model):
    """A stage that is still ahead. `gate` names what decides it (`hold` has none of its own: time alone).

    `changes` are its lines by router. Without `reversible` no command leads back from its end, `state`.
    """

    stage: str
    gate: str | None
    state: UnitState
    asks: str
    way_back: str
    reversible: bool = True
    changes: dict[str, str] = Field(default={})


def list_stages(unit: str, state: UnitState, until: UnitState, policy: Policy) -> Iterator[StageAhead]:
    """Yield what lies between a unit's state and `until`, in order; nothing when it has come so far."""
    undo = f"'extranet retire {unit} --undo'"
    hold_s = policy.timers.hold_s
    drain = StageAhead(
        stage="drain",
        gate="drain",
        state=UnitState.DRAINED,
        asks=f"the soak of {say_span(policy.timers.soak_s)} is over; everybody on the line freshly proven without it; archived",
        way_back=f"{undo}: the hub routes to the site again",
    )
    shut = StageAhead(
        stage="shut",
        gate="shut",
        state=UnitState.SHUT,
        asks="fresh proof with its line closed; everybody behind it shut; the line seen silent since; archived",
        way_back=f"{undo}: the line's ports are opened again",
    )
    hold = StageAhead(
        stage="hold",
        gate=None,
        state=UnitState.SHUT,
        asks=f"the line stays shut for {say_span(hold_s)}",
        way_back=f"{undo}: the line's ports are opened again",
    )
    remove = StageAhead(
        stage="remove",
        gate="remove",
        state=UnitState.REMOVED,
        asks=f"the hold of {say_span(hold_s)} is over; fresh proof; everybody behind it removed; archived again",
        way_back=f"NONE, removed is for good: only building the line anew, 'extranet archive rebuild {unit} --out DIR'",
        reversible=False,
    )
    for each in (drain, shut, hold, remove):
        end = UnitState.REMOVED if each is hold else each.state  # one holds only in order to remove
        if until.reached(end) and not state.reached(end):
            yield each
