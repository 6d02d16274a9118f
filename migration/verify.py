"""Verify: every station against every service it needs, and against those it must not reach."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from inventory.errors import ExtranetError
from inventory.model import EXTRANET, County
from inventory.wording import counted
from migration.campaign import Campaign, Say, silent
from migration.diagnose import diagnose, say_diagnosis
from migration.measuring import OnProgress, choose_stations, keep, measure_now, no_progress
from migration.units import UnitRecord, UnitState
from nornir_tasks.stations.model import Missing, Outcome, Result, WayAspect


class NothingInCommonError(ExtranetError):
    """A station and a unit were named together, and no check is about both."""

    def __init__(self, stations: str, units: str) -> None:
        self.stations, self.units = stations, units
        super().__init__(
            f"--station {stations}: no check of it is about {units} - expected a station on a LAN of the units named; "
            "name them apart, or another station"
        )


@dataclass(frozen=True)
class VerifyReport:
    """What one run saw. Never fewer results than checks asked; `ok` only when every one passed.

    `waiting` gives, by check, the unit for whose cutover it waits: it failed only by still running over that one's old
    line. It is no pass, and `ok` does not know of it; but a failure that is new stands apart from it.
    """

    target: str
    scope: str
    results: tuple[Result, ...]
    digest: str
    seconds: float
    waiting: Mapping[str, str] = field(default_factory=dict)

    @property
    def failing(self) -> tuple[Result, ...]:
        """What did not pass and waits for nobody's cutover."""
        return tuple(r for r in self.results if r.outcome is not Outcome.PASSED and r.check.id not in self.waiting)

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
            "waiting": {"checks": len(self.waiting), "units": dict(Counter(self.waiting.values()))},
            "failing": len(self.failing),
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
                    "waits_for": self.waiting.get(r.check.id),
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


def waits_for(result: Result, county: County, records: Mapping[str, UnitRecord]) -> str | None:
    """Return the unit for whose cutover a failed result waits; None where anything else stands against it.

    Everything but the way must have passed, and the way may hold no legacy router but those of the unit's own network.
    """
    unit = county.unit_by_id.get(result.check.unit or "")
    record = records.get(unit.id) if unit is not None else None
    if unit is None or result.outcome is not Outcome.FAILED or result.check.expect != "reach":
        return None
    if record is not None and record.state.reached(UnitState.CUT_OVER):
        return None
    ways = {"path", WayAspect.RETURN}
    if any(
        f.outcome is Outcome.UNKNOWN or f.aspect not in ways for f in result.findings if f.outcome is not Outcome.PASSED
    ):
        return None
    passed = [hop.partition(":")[0].partition(" ")[0] for hop in (*result.hops, *result.return_hops)]
    devices = [d for name in passed if (d := county.device_by_id.get(name)) is not None]
    legacy = {d.network for d in devices if d.network != EXTRANET}
    return unit.id if legacy == {unit.network} else None


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
    if chosen_units and (apart := [s for s in chosen_stations if all(c.station != s for c in matrix.checks)]):
        names = ", ".join(u.id for u in chosen_units)
        raise NothingInCommonError(", ".join(apart), names)
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
    records = campaign.records()
    return VerifyReport(
        target=campaign.target,
        scope=campaign.scope,
        results=tuple(results),
        digest=evidence.digest,
        seconds=seconds,
        waiting={r.check.id: unit for r in results if (unit := waits_for(r, campaign.county, records)) is not None},
    )
