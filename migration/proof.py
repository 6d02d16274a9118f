"""Proof: which cells of the matrix are proven, judged from evidence. Pure: no clock, no file, no network.

What counts as proof for one cell (station, plane, service, family, reach or blocked):

- a result of exactly the check that the matrix asks, that passed, with its path measured where one is asked for, and no
  legacy router in it;
- from a run that began at most `evidence_ttl_s` ago, not in the future, and after everything that had to come first:
  the unit's cutover, and every change to a router under its path;
- bound to the inventory and plan of now, and to the configurations that run now on the routers under its path;
- and nothing else about that cell, in a run that ended later than this one began, other than a pass. A run whose file
  is lost counts as such: so deleting an inconvenient file never opens a gate.

All times that decide are the controller's (the run's window); a station's own clock must only agree with them.
Everything not proven is a reason, by station and service. No check at all is a reason too.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from ipaddress import ip_address
from typing import NamedTuple

from inventory.model import EXTRANET, County, Family, Model, Policy, Unit
from inventory.wording import say_span
from migration.evidence import Bound, Evidence
from migration.units import Change, UnitRecord, UnitState, devices_under
from nornir_tasks.stations.model import Check, Outcome, Result

CLOCK_SKEW_S = 5.0
"""How far a station's clock may be from the controller's, and evidence from now, before it is refused."""


class Reason(Model):
    """One thing that stands against. `station`, `service` and `check` are empty when it is not about a measurement."""

    station: str
    service: str
    why: str
    check: str = ""

    def __str__(self) -> str:
        where = " → ".join(part for part in (self.station, self.service) if part)
        return f"{where}: {self.why}" if where else self.why


class Cell(NamedTuple):
    """What one check is about."""

    station: str
    plane: str
    service: str
    family: str
    expect: str


@dataclass(frozen=True)
class Away:
    """How a run shows that units' old paths carried nothing: withheld while it lasted, or taken away before it began."""

    units: tuple[str, ...]
    since: datetime | None = None
    """When the old paths were taken away for good (None: they are still there, so only withholding shows anything)."""

    def shown_by(self, evidence: Evidence) -> bool:
        """Tell whether a run was measured without these old paths."""
        if set(self.units) <= set(evidence.withheld):
            return True
        return self.since is not None and evidence.taken_from >= self.since.timestamp()


@dataclass(frozen=True)
class Situation:
    """Everything the gates decide from.

    `checks` is the expected matrix. `evidence` holds every run since at least `evidence_ttl_s` ago, lost ones included.
    `records` and `changes` are `units.fold` and `units.last_changes` of the ledger's events. `current` holds the
    digests of now: a device that could not be asked is simply not in `current.configs`, and refuses what depends on it.
    `resuming` is the key of the open intent that is being taken up again, which then does not stand against itself.
    """

    county: County
    checks: tuple[Check, ...]
    evidence: tuple[Evidence, ...]
    records: Mapping[str, UnitRecord]
    changes: Mapping[str, Change]
    current: Bound
    now: datetime
    policy: Policy
    resuming: str | None = None

    @cached_property
    def now_s(self) -> float:
        """Now as Unix time."""
        return self.now.timestamp()

    @cached_property
    def checks_by_cell(self) -> dict[Cell, list[Check]]:
        """The matrix by what its checks are about."""
        out: dict[Cell, list[Check]] = defaultdict(list)
        for check in self.checks:
            out[cell_of(check)].append(check)
        return out

    @cached_property
    def seen(self) -> dict[Cell, list[tuple[Evidence, Result]]]:
        """Every result by what it is about."""
        out: dict[Cell, list[tuple[Evidence, Result]]] = defaultdict(list)
        for evidence in self.evidence:
            for result in evidence.results:
                out[cell_of(result.check)].append((evidence, result))
        return out

    @cached_property
    def lost(self) -> tuple[Evidence, ...]:
        """Runs whose file is missing or changed."""
        return tuple(e for e in self.evidence if e.problem)

    @cached_property
    def needed_cells(self) -> dict[tuple[str, str], list[tuple[Cell, str | None]]]:
        """Cells of inventory and matrix by (site, plane) of the station's leg, each with the unit that provides it."""
        cells: dict[Cell, str | None] = {}
        for need in self.county.needs:
            cells[Cell(need.station, need.plane, need.service, need.family.value, "reach")] = need.unit
        for ban in self.county.forbidden:
            cells[Cell(ban.station, ban.plane, ban.service, ban.family.value, "blocked")] = None
        for check in self.checks:
            cells.setdefault(cell_of(check), check.unit)
        out: dict[tuple[str, str], list[tuple[Cell, str | None]]] = defaultdict(list)
        for cell, unit in sorted(cells.items()):
            station = self.county.station_by_id.get(cell.station)
            if station is not None:
                out[station.site, cell.plane].append((cell, unit))
        return out

    @cached_property
    def legacy_names(self) -> frozenset[str]:
        """Ids and names of legacy routers, as they may stand in a path."""
        return frozenset(n for d in self.county.devices if d.network != EXTRANET for n in (d.id, d.name))

    def record(self, unit: str) -> UnitRecord:
        """Return a unit's record; one that nothing was recorded about is as surveyed."""
        return self.records.get(unit) or UnitRecord(unit=unit)


def judge_legs(
    unit: Unit,
    situation: Situation,
    *,
    provided_only: bool = False,
    after_cutover: bool = False,
    since: datetime | None = None,
    away: Away | None = None,
) -> Iterator[Reason]:
    """Give a reason for each cell of a unit's legs that is not proven, and one when there is no cell at all.

    With `away`, only runs count that were measured without these units' old paths.
    """
    cells = situation.needed_cells.get((unit.site, unit.plane), [])
    if not any(cell.expect == "reach" for cell, _ in cells):
        yield Reason(
            station="", service="", why=f"nothing is expected of {unit.id}: without a single check nothing is proven"
        )
        return
    devices = devices_under(situation.county, unit)
    floor, floor_why = _floor(unit, devices, situation, after_cutover=after_cutover, since=since)
    if floor is None:
        yield Reason(station="", service="", why=floor_why)
        return
    unbound = [d for d in devices if d not in situation.current.configs]
    if unbound:
        names = ", ".join(unbound)
        yield Reason(
            station="", service="", why=f"what runs now on {names} is not known: the devices must answer first"
        )
    demand = _Demand(unit, devices, floor, floor_why, away, situation)
    for cell, provider in cells:
        found = None if provided_only and provider is not None else demand.judge(cell)
        if found is not None:
            yield found


def _floor(
    unit: Unit, devices: Iterable[str], situation: Situation, *, after_cutover: bool, since: datetime | None
) -> tuple[float | None, str]:
    """Return the time before which nothing counts, with what happened then; None when it cannot have come yet."""
    floor, why = float("-inf"), ""
    marks: list[tuple[datetime, str]] = []
    if after_cutover:
        cut = situation.record(unit.id).entered.get(UnitState.CUT_OVER)
        if cut is None:
            return (
                None,
                f"{unit.id} is not cut over: its old path still carries it, so nothing measured proves the new one",
            )
        marks.append((cut, f"the cutover of {unit.id}"))
    if since is not None:
        marks.append((since, "the old path was withheld"))
    for name in devices:
        change = situation.changes.get(name)
        if change is not None and change.key != situation.resuming:
            marks.append((change.at, f"the last change on {name}"))
    for at, what in marks:
        if at.timestamp() > floor:
            floor, why = at.timestamp(), f"{what} ({say_moment(at)})"
    return floor, why


@dataclass(frozen=True)
class _Demand:
    """What must be true of a result for one unit's leg."""

    unit: Unit
    devices: tuple[str, ...]
    floor_s: float
    floor_why: str
    away: Away | None
    situation: Situation

    def judge(self, cell: Cell) -> Reason | None:
        asked = self.situation.checks_by_cell.get(cell, [])
        if not asked:
            return self._reason(cell, "not in the matrix, so never measured", "")
        for check in asked:
            why = self._judge_check(cell, check)
            if why:
                return self._reason(cell, why, check.id)
        return None

    def _reason(self, cell: Cell, why: str, check: str) -> Reason:
        blocked = ", must be blocked" if cell.expect == "blocked" else ""
        family = "IPv6" if cell.family == Family.IPV6 else "IPv4"
        return Reason(
            station=cell.station, service=cell.service, why=f"{why} (from {cell.plane}, {family}{blocked})", check=check
        )

    def _judge_check(self, cell: Cell, check: Check) -> str:
        seen = self.situation.seen.get(cell, ())
        passes: list[Evidence] = []
        against: list[tuple[Evidence, str]] = [
            # Against everybody, whatever units it names: a run may have measured more than those.
            (lost, f"a run is lost: {lost.problem}")
            for lost in self.situation.lost
        ]
        refused: list[tuple[float, str]] = []
        for evidence, result in seen:
            if result.outcome is not Outcome.PASSED:
                against.append((evidence, _say_failure(result)))
                continue
            why = self._judge_pass(evidence, result, check)
            if why:
                refused.append((evidence.taken_from, why))
            else:
                passes.append(evidence)
        if not passes:
            newest_refused = max(refused, default=None)
            newest_against = max(((e.taken_to, why) for e, why in against), default=None)
            if newest_refused and (newest_against is None or newest_refused[0] >= newest_against[0]):
                return newest_refused[1]
            return newest_against[1] if newest_against else "never measured"
        newest, last = max(e.taken_from for e in passes), max(e.seq for e in passes)
        # By the ledger's order too: a clock that was set back must not make a later failure look older.
        later = [(e.taken_to, why) for e, why in against if e.taken_to >= newest or e.seq > last]
        return max(later)[1] if later else ""

    def _judge_pass(self, evidence: Evidence, result: Result, check: Check) -> str:
        """Return why a pass does not count; empty when it does."""
        if evidence.problem:
            return f"evidence is lost: {evidence.problem}"
        why = self._judge_time(evidence, result) or self._judge_bound(evidence)
        if why:
            return why
        if not _asks_the_same(result.check, check):
            return f"measured {say_moment(evidence.taken_from)}, but another check than the matrix asks now"
        return self._judge_path(result, check)

    def _judge_time(self, evidence: Evidence, result: Result) -> str:
        now_s, ttl_s = self.situation.now_s, self.situation.policy.timers.evidence_ttl_s
        at = say_moment(evidence.taken_from)
        if evidence.taken_to > now_s + CLOCK_SKEW_S or evidence.taken_from > evidence.taken_to:
            return f"measured {say_moment(evidence.taken_to)}, in the future: set the clock right and measure again"
        if not evidence.taken_from - CLOCK_SKEW_S <= result.at <= evidence.taken_to + CLOCK_SKEW_S:
            off_s = result.at - evidence.taken_to
            return f"the station's clock is off by about {abs(off_s):.0f} s: set it right and measure again"
        if now_s - evidence.taken_from > ttl_s:
            return f"measured {at}, older than {say_span(ttl_s)}"
        if evidence.taken_from < self.floor_s:
            return f"measured {at}, before {self.floor_why}"
        if self.away is not None and not self.away.shown_by(evidence):
            names = ", ".join(self.away.units)
            return f"measured {at} while the old path of {names} was up, which proves nothing: 'extranet prove {names}'"
        return ""

    def _judge_bound(self, evidence: Evidence) -> str:
        current, at = self.situation.current, say_moment(evidence.taken_from)
        if evidence.bound.policy != current.policy:
            return f"measured {at} under another policy than the one of now"
        if evidence.bound.inventory != current.inventory:
            return f"measured {at} under another inventory than the one of now"
        if evidence.bound.plan != current.plan:
            return f"measured {at} under another address plan than the one of now"
        if evidence.bound.topology != current.topology:
            return f"measured {at} under another topology than the one of now"
        for device in self.devices:
            bound = evidence.bound.configs.get(device)
            if bound is None:
                return f"measured {at} without knowing what {device} ran"
            if bound != current.configs.get(device):
                return f"measured {at} under another configuration of {device} than the one of now"
        return ""

    def _judge_path(self, result: Result, check: Check) -> str:
        if check.expect == "blocked":
            return ""
        for hop in result.hops:
            if self._is_legacy(hop):
                return f"path: no legacy router on the way - expected none, found {hop}"
        if check.trace and not any(f.aspect == "path" and f.outcome is Outcome.PASSED for f in result.findings):
            return "path: not measured - expected every hop known, found no path"
        bad = next((f for f in result.findings if f.outcome is not Outcome.PASSED), None)
        # A pass that holds a failure is not a pass.
        return f"{bad.aspect}: {bad.detail or bad.outcome}" if bad else ""

    def _is_legacy(self, hop: str) -> bool:
        """Tell whether a hop is a legacy router: by name (an interface may follow), or address on its lines."""
        if any(
            hop == name or hop.startswith((f"{name}:", f"{name} ", f"{name}/")) for name in self.situation.legacy_names
        ):
            return True
        try:
            address = ip_address(hop.partition("%")[0])
        except ValueError:
            return False
        return any(
            (c.wan_prefix is not None and address in c.wan_prefix)
            for c in self.situation.county.circuits
            if c.network == self.unit.network
        )


def _asks_the_same(one: Check, other: Check) -> bool:
    """Tell whether a measured check asks all that the matrix asks; it may have traced the path besides."""
    if other.trace and not one.trace:
        return False
    return one.model_copy(update={"trace": other.trace}) == other


def _say_failure(result: Result) -> str:
    why = result.why or "no reason given"
    return why if result.outcome is Outcome.FAILED else f"unknown: {why}"


def cell_of(check: Check) -> Cell:
    """Return what a check is about."""
    return Cell(check.station, check.plane, check.service, check.family.value, check.expect)


def say_moment(moment: datetime | float) -> str:
    """Write a moment (Unix time or datetime) for people, in UTC."""
    try:
        at = moment if isinstance(moment, datetime) else datetime.fromtimestamp(moment, UTC)
    except (OverflowError, ValueError):
        return "at an impossible time"
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S}Z"
