"""Verify: every station against every service it needs, and against those it must not reach."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from inventory.wording import counted
from migration.campaign import Campaign, Say, silent
from migration.diagnose import diagnose, say_diagnosis
from migration.measuring import OnProgress, choose_stations, keep, measure_now, no_progress
from nornir_tasks.stations.model import Missing, Outcome, Result


@dataclass(frozen=True)
class VerifyReport:
    """What one run saw. Never fewer results than checks asked; `ok` only when every one passed."""

    target: str
    scope: str
    results: tuple[Result, ...]
    digest: str
    seconds: float

    @property
    def ok(self) -> bool:
        """Tell whether everything passed; an empty run did not."""
        return bool(self.results) and all(r.outcome is Outcome.PASSED for r in self.results)

    @property
    def missing(self) -> dict[str, int]:
        """How many results are unknown, by the name of why."""
        found = Counter(r.missing.value for r in self.results if r.missing)
        return {m.value: found[m.value] for m in Missing}

    def by_station(self) -> dict[str, list[Result]]:
        """Return results by station, in the matrix's order."""
        out: dict[str, list[Result]] = defaultdict(list)
        for result in self.results:
            out[result.check.station].append(result)
        return dict(out)

    def as_json(self) -> dict[str, Any]:
        """Return the report for machines."""
        counts: dict[str, Any] = {o.value: sum(r.outcome is o for r in self.results) for o in Outcome}
        return {
            "target": self.target,
            "scope": self.scope,
            "ok": self.ok,
            "checks": len(self.results),
            **counts,
            "missing": self.missing,
            "evidence": self.digest,
            "seconds": round(self.seconds, 2),
            "results": [
                {
                    "id": r.check.id,
                    "station": r.check.station,
                    "plane": r.check.plane,
                    "service": r.check.service,
                    "family": r.check.family.value,
                    "expect": r.check.expect,
                    "unit": r.check.unit,
                    "outcome": r.outcome.value,
                    "missing": r.missing.value if r.missing else None,
                    "why": r.why,
                    "hops": list(r.hops),
                    "return_hops": list(r.return_hops),
                    "ms": r.ms,
                    "its_router": say_diagnosis(r),
                }
                for r in self.results
            ],
        }


def verify(
    campaign: Campaign,
    *,
    stations: Iterable[str] | None = None,
    units: Iterable[str] | None = None,
    say: Say = silent,
    on_progress: OnProgress = no_progress,
    ask_routers: bool = False,
    throughput: bool = False,
) -> VerifyReport:
    """Measure the matrix (or the part named) and record it as evidence.

    `ask_routers` says where failures lie; `throughput` measures as well whether lines carry their floor.
    """
    # Names first: a mistyped one is said without a plan or a way to any device.
    chosen_units = campaign.find_units(units) if units else []
    chosen_stations = choose_stations(campaign, stations) if stations else []
    matrix = campaign.matrix
    if chosen_units:
        matrix = matrix.for_units(chosen_units)
    if chosen_stations:
        matrix = matrix.for_stations(chosen_stations)
    if throughput:
        matrix = matrix.with_throughput(campaign.county)
    checks = matrix.checks
    say(
        f"· verify {campaign.target} ({campaign.scope}): {counted(len(checks), 'check')} "
        f"from {counted(len({c.station for c in checks}), 'station')}"
    )
    before = campaign.clock.now()
    results, evidence = measure_now(
        campaign, checks, on_progress=on_progress, look_closer=diagnose if ask_routers else None
    )
    keep(campaign, evidence)
    seconds = (campaign.clock.now() - before).total_seconds()
    return VerifyReport(
        target=campaign.target, scope=campaign.scope, results=tuple(results), digest=evidence.digest, seconds=seconds
    )
