"""How long a service was gone, from probes at a steady rate. Pure: samples in, gaps out.

A **gap** is a run of two or more failed probes. It lasts from when the last good probe before it was sent to when the
first good one after it had its answer: never less than the truth. One failed probe alone may be a lost packet; it is
counted, and no gap. So an outage shorter than the **resolution** may stand in no gap, and none that is longer can hide:
the resolution is the longest stretch from one good probe to another (or to the window's end) that was not called a gap,
whatever kept probes from being sent or answered in between.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import NamedTuple

LEAST_FAILED = 2
"""How many failed probes in a row make a gap."""


class Sample(NamedTuple):
    """One probe: when it was sent, on the station's clock, and when its answer came (None: it failed)."""

    sent_s: float
    answered_s: float | None


class Gap(NamedTuple):
    """A stretch without the service. `failed` probes stand in it; an `open` one had not ended when the watch did."""

    from_s: float
    to_s: float
    failed: int
    open: bool

    @property
    def lasted_s(self) -> float:
        """Its length."""
        return self.to_s - self.from_s


class Outage(NamedTuple):
    """What one window held. `worked` tells whether anything was good up to its beginning: else nothing could go away."""

    worked: bool
    gaps: tuple[Gap, ...]
    total_s: float
    longest_s: float
    resolution_s: float
    probes: int
    """Sent in the window."""
    failed: int
    open: bool


class _Stretch(NamedTuple):
    from_s: float
    to_s: float
    failed: int
    open: bool

    @property
    def is_gap(self) -> bool:
        return self.failed >= LEAST_FAILED


def find_gaps(samples: Iterable[Sample], until_s: float) -> tuple[Gap, ...]:
    """Return the gaps among samples in any order; `until_s` is when the watch ended, or is judged."""
    return tuple(Gap(*s) for s in _stretches(_in_order(samples), until_s) if s.is_gap)


def clip(gaps: Iterable[Gap], since_s: float, until_s: float) -> tuple[Gap, ...]:
    """Return what of gaps lies in a window."""
    inside = (Gap(max(g.from_s, since_s), min(g.to_s, until_s), g.failed, g.open) for g in gaps)
    return tuple(g for g in inside if g.to_s > g.from_s)


def add_up(gaps: Iterable[Gap]) -> float:
    """Return how long gaps lasted together; where two meet at a good probe that took its time, that time counts once."""
    total_s, reached_s = 0.0, float("-inf")
    for gap in sorted(gaps):
        total_s += max(0.0, gap.to_s - max(gap.from_s, reached_s))
        reached_s = max(reached_s, gap.to_s)
    return total_s


def measure_outage(samples: Iterable[Sample], since_s: float, until_s: float) -> Outage:
    """Return what the window from `since_s` to `until_s` held; samples from before it tell what worked."""
    ordered = [s for s in _in_order(samples) if s.sent_s <= until_s]
    stretches = list(_stretches(ordered, until_s))
    gaps = clip((Gap(*s) for s in stretches if s.is_gap), since_s, until_s)
    hidden = [min(s.to_s, until_s) - max(s.from_s, since_s) for s in stretches if not s.is_gap]
    inside = [s for s in ordered if s.sent_s >= since_s]
    return Outage(
        worked=any(s.answered_s is not None for s in ordered if s.sent_s <= since_s),
        gaps=gaps,
        total_s=add_up(gaps),
        longest_s=max((g.lasted_s for g in gaps), default=0.0),
        resolution_s=max((h for h in hidden if h > 0), default=0.0) if ordered else until_s - since_s,
        probes=len(inside),
        failed=sum(s.answered_s is None for s in inside),
        open=bool(gaps) and gaps[-1].open,
    )


def _in_order(samples: Iterable[Sample]) -> list[Sample]:
    return sorted(samples, key=lambda s: (s.sent_s, s.answered_s is None, s.answered_s or 0.0))


def _stretches(ordered: Sequence[Sample], until_s: float) -> Iterable[_Stretch]:
    """Cut the watch at its good probes: from each one's sending to the first answer after it, the last to the end."""
    if not ordered:
        return
    # A probe that was sent later may be answered sooner, and ends an outage as well.
    answers = [float("inf") if s.answered_s is None else s.answered_s for s in ordered]
    first_answers = list(accumulate(reversed(answers), min))[::-1]
    from_s, failed = ordered[0].sent_s, 0
    for (sent_s, answered_s), first_s in zip(ordered, first_answers, strict=True):
        if answered_s is None:
            failed += 1
            continue
        yield _Stretch(from_s, first_s, failed, open=False)
        from_s, failed = sent_s, 0
    yield _Stretch(from_s, max(until_s, ordered[-1].sent_s), failed, open=True)
