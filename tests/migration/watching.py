"""A watch that sees what a test says: for tests of steps, which have no station to log in to."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any, Self

from nornir_tasks.stations.outage import Outage, Sample, measure_outage
from nornir_tasks.stations.watch import Target


@dataclass
class Stations:
    """What all stations of a test see: targets (`station/plane/service/family`) with an outage, a problem, or nothing."""

    gone_s: dict[str, float] = field(default_factory=dict)
    """How long a target is gone from the change on."""
    never_worked: set[str] = field(default_factory=set)
    deaf: dict[str, str] = field(default_factory=dict)
    """Why a station cannot be watched."""
    lost: dict[str, str] = field(default_factory=dict)
    """Why a station's session was lost after the change had begun."""
    back_gone_s: float = 0.0
    """How long the way back takes everything away."""
    rate_share: float = 1.0
    begun: list[Any] = field(default_factory=list)

    def watch(self, targets: Any, access: Any, *, rate_per_s: float, deadline_s: float) -> ScriptedWatching:
        """Stand in for `Watching`."""
        del access, deadline_s
        self.begun.append(ScriptedWatching(self, tuple(targets), rate_per_s))
        return self.begun[-1]  # type: ignore[no-any-return]


class ScriptedWatching:
    """As `nornir_tasks.stations.watch.Watching`; each mark comes ten seconds after the one before."""

    def __init__(self, stations: Stations, targets: tuple[Target, ...], rate_per_s: float) -> None:
        self.stations, self.targets, self.rate_per_s = stations, targets, rate_per_s
        self.sessions = {t.station: None for t in targets}
        self.marks: dict[str, float] = {}
        self.now_s, self.open = 0.0, False
        self.lock = threading.Lock()

    def __enter__(self) -> Self:
        self.open = True
        return self

    def __exit__(self, *_: object) -> None:
        self.open = False

    def mark(self, name: str) -> None:
        """Let ten seconds pass, then mark."""
        self.now_s += 10.0
        self.marks[name] = self.now_s

    def problem(self, target: Target) -> str:
        """Return what is wrong with a station."""
        begun = "change" in self.marks and self.now_s > self.marks["change"]
        return self.stations.deaf.get(target.station, "") or (
            self.stations.lost.get(target.station, "") if begun else ""
        )

    def outage(self, target: Target, since: str, until: str | None = None) -> Outage | None:
        """Return what a window held."""
        if since not in self.marks or self.stations.deaf.get(target.station):
            return None
        return measure_outage(self._samples(target), self.marks[since], self._until(until))

    def window_s(self, _target: Target, since: str, until: str | None = None) -> float:
        """Return how long a window lasted."""
        return self._until(until) - self.marks[since]

    def failures(self, target: Target) -> int:
        """Return how many probes failed."""
        return sum(s.answered_s is None for s in self._samples(target))

    def answers_now(self, _target: Target) -> bool:
        """Everything answers again at once."""
        return True

    def wait(self, _timeout_s: float) -> None:
        """Nothing new comes."""

    def raw(self, targets: Any) -> dict[str, Any]:
        """Return something of each target."""
        return {"targets": [t.id for t in targets]}

    def _until(self, until: str | None) -> float:
        return self.marks.get(until, self.now_s) if until else self.now_s

    def _samples(self, target: Target) -> list[Sample]:
        period = target.every / self.rate_per_s / self.stations.rate_share
        times = [n * period for n in range(int(self.now_s / period) + 1)]
        return [Sample(t, None if self._is_gone(target, t) else t + 0.001) for t in times]

    def _is_gone(self, target: Target, at: float) -> bool:
        if target.id in self.stations.never_worked:
            return True
        for mark, lasts_s in (
            ("change", self.stations.gone_s.get(target.id, 0.0)),
            ("back0", self.stations.back_gone_s),
        ):
            began = self.marks.get(mark)
            if began is not None and began < at <= began + lasts_s:
                return True
        return False
