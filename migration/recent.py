"""What was measured moments ago, and nothing was changed since: one measurement may serve two purposes.

What a gate was shown before a change is also what worked before it, and what was measured after one stage of a
retirement is what worked before the next. Nothing of it outlives the process; whoever is about to touch a device
forgets first.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from migration.ledger.leases import uptime_s
from nornir_tasks.stations.model import Check, Result

YOUNG_S = 60.0
"""How old a result may be to stand for now, counted from where its measurement began."""


class Recent:
    """Results by check, each with when its measurement began."""

    def __init__(self) -> None:
        self._results: dict[str, tuple[float, Result]] = {}

    def note(self, results: Iterable[Result], began: float) -> None:
        """Remember results; `began` is `uptime_s()` at the begin of their measurement: sleep counts as age."""
        self._results |= {r.check.id: (began, r) for r in results}

    def forget(self) -> None:
        """Forget everything: somebody is about to touch a device."""
        self._results.clear()

    def find(self, checks: Sequence[Check]) -> dict[str, Result]:
        """Return the results that still stand, by check id; one of another check of that id does not."""
        oldest = uptime_s() - YOUNG_S
        held = {c.id: self._results[c.id] for c in checks if c.id in self._results}
        wanted = {c.id: c for c in checks}
        return {name: r for name, (began, r) in held.items() if began >= oldest and r.check == wanted[name]}
