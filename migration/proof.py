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
Everything not proven is a reason, by station and service. No check at all is a reason too. What an exception may
excuse is what a run of now saw go wrong, or a wait that is not over: never that nobody looked (`EXCUSABLE`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from functools import cached_property
from ipaddress import ip_address
from typing import TYPE_CHECKING, NamedTuple

from inventory.model import EXTRANET, Circuit, County, Family, Model, Policy, Unit
from inventory.wording import say_span
from migration.evidence import Bound, Evidence
from migration.units import Change, UnitRecord, UnitState, devices_under
from nornir_tasks.stations.model import Check, Outcome, Result

if TYPE_CHECKING:
    from migration.waivers import Waiver

CLOCK_SKEW_S = 5.0
"""How far a station's clock may be from the controller's, and evidence from now, before it is refused."""


class ReasonKind(StrEnum):
    """What kind of thing stands against."""

    RULE = "rule"
    """Whatever has no kind of its own."""
    SCOPE = "scope"
    """Outside the inventory, or a device that is never touched in this way."""
    PLAN = "plan"
    CAPABILITY = "capability"
    RECORD = "record"
    """The ledger says what cannot be, or a run's file is lost."""
    UNFINISHED = "unfinished"
    STATE = "state"
    ORDER = "order"
    DEPENDENT = "dependent"
    """Another unit still hangs on this link."""
    LINE = "line"
    """The extranet itself runs over this line."""
    SOAK = "soak"
    HOLD = "hold"
    CLOCK = "clock"
    EMPTY = "empty"
    """Nothing is expected, or nothing was named."""
    SILENT = "silent"
    """What runs now on the devices is not known."""
    NO_WAY_BACK = "no-way-back"
    UNMEASURED = "unmeasured"
    VOID = "void"
    """Measured, but too old, before something, under something else, or of another check."""
    PATH = "path"
    """A legacy router on the way, or a path that is not known."""
    LEAK = "leak"
    """What must be blocked is not."""
    FAILED = "failed"
    UNKNOWN = "unknown"


EXCUSABLE = frozenset({ReasonKind.FAILED, ReasonKind.UNKNOWN, ReasonKind.SOAK, ReasonKind.HOLD})
"""All that a recorded exception may excuse: a service that a station saw fail, a station that a run of now did not reach,
and a wait. Everything else is remedied by measuring, repairing or waiting, or must never be passed over."""


class Reason(Model):
    """One thing that stands against. `station`, `service` and `check` are empty when it is not about a measurement.

    `aspect` names what failed of a measurement (`tcp`, `tls,http`).
    """

    station: str
    service: str
    why: str
    check: str = ""
    kind: ReasonKind = ReasonKind.RULE
    aspect: str = ""

    def __str__(self) -> str:
        where = " → ".join(part for part in (self.station, self.service) if part)
        return f"{where}: {self.why}" if where else self.why


class Excused(Reason):
    """A reason that a recorded exception excuses; `exception` is that one's id."""

    exception: str

    def __str__(self) -> str:
        return f"{super().__str__()} [exception {self.exception}]"


class Cell(NamedTuple):
    """What one check is about."""

    station: str
    plane: str
    service: str
    family: str
    expect: str


class Flaw(NamedTuple):
    """Why something is no proof."""

    kind: ReasonKind
    why: str
    aspect: str = ""


@dataclass(frozen=True)
class Away:
    """How a run shows that units' old paths carried nothing: withheld while it lasted, or taken away before it began."""

    units: tuple[str, ...]
    since: datetime | None = None
    """When the old paths were taken away for good (None: they are still there, so only withholding shows anything)."""
    trial: frozenset[str] = frozenset()
    """All units that have to be withheld together, for the advice: each may have been another's backup."""

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
    `waivers` are the exceptions on record, over ones too.
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
    waivers: tuple[Waiver, ...] = ()

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
    def lost_flaws(self) -> tuple[tuple[Evidence, Flaw], ...]:
        """Runs whose file is missing or changed, each with what that says."""
        return tuple((e, Flaw(ReasonKind.RECORD, f"a run is lost: {e.problem}")) for e in self.evidence if e.problem)

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

    @cached_property
    def known_hops(self) -> dict[tuple[str, str], bool]:
        """What was found out about hops so far: by network and hop, whether it is a legacy router."""
        return {}

    @cached_property
    def extranet_over(self) -> dict[str, tuple[str, ...]]:
        """Extranet circuits by the legacy line whose cable they take over."""
        out: dict[str, tuple[str, ...]] = {}
        for circuit in self.county.circuits:
            if circuit.network == EXTRANET and circuit.reuses:
                out[circuit.reuses] = (*out.get(circuit.reuses, ()), circuit.id)
        return out

    @cached_property
    def extranet_ends(self) -> dict[tuple[str, str], str]:
        """Extranet circuits by the ports on which they end."""
        return {end: c.id for c in self.county.circuits if c.network == EXTRANET for end in line_ends(c)}

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
    away: tuple[Away, ...] = (),
) -> Iterator[Reason]:
    """Give a reason for each cell of a unit's legs that is not proven, and one when there is no cell at all.

    With `away`, only runs count that were measured without all of these units' old paths.
    """
    cells = situation.needed_cells.get((unit.site, unit.plane), [])
    if not any(cell.expect == "reach" for cell, _ in cells):
        yield _about_all(
            ReasonKind.EMPTY, f"nothing is expected of {unit.id}: without a single check nothing is proven"
        )
        return
    devices = devices_under(situation.county, unit)
    floor, floor_why = _floor(unit, devices, situation, after_cutover=after_cutover, since=since)
    if floor is None:
        yield _about_all(ReasonKind.STATE, floor_why)
        return
    unbound = [d for d in devices if d not in situation.current.configs]
    if unbound:
        names = ", ".join(unbound)
        yield _about_all(ReasonKind.SILENT, f"what runs now on {names} is not known: the devices must answer first")
    demand = _Demand(unit, devices, floor, floor_why, away, situation)
    for cell, provider in cells:
        if not (provided_only and provider is not None):
            yield from demand.judge(cell)


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
    away: tuple[Away, ...]
    situation: Situation
    voids: dict[tuple[int, bool], str] = field(default_factory=dict)

    def judge(self, cell: Cell) -> Iterator[Reason]:
        """Give a reason for each check of a cell that is not proven."""
        asked = self.situation.checks_by_cell.get(cell)
        if not asked:
            yield self._reason(cell, Flaw(ReasonKind.UNMEASURED, "not in the matrix, so never measured"), "")
            return
        for check in asked:
            for flaw in self._judge_check(cell, check):
                yield self._reason(cell, flaw, check.id)

    def _reason(self, cell: Cell, flaw: Flaw, check: str) -> Reason:
        blocked = ", must be blocked" if cell.expect == "blocked" else ""
        family = "IPv6" if cell.family == Family.IPV6 else "IPv4"
        return Reason(
            station=cell.station,
            service=cell.service,
            why=f"{flaw.why} (from {cell.plane}, {family}{blocked})",
            check=check,
            kind=flaw.kind,
            aspect=flaw.aspect,
        )

    def _judge_check(self, cell: Cell, check: Check) -> Iterable[Flaw]:
        """Give what stands against a check; nothing when it is proven."""
        passes: list[Evidence] = []
        refused: list[tuple[Evidence, Flaw]] = []
        # A lost run is against everybody, whatever units it names: it may have measured more than those.
        against = list(self.situation.lost_flaws)
        failed: list[tuple[Evidence, Result]] = []
        for evidence, result in self.situation.seen.get(cell, ()):
            if result.outcome is not Outcome.PASSED:
                failed.append((evidence, result))
                continue
            flaw = self._judge_pass(evidence, result, check)
            if flaw is None:
                passes.append(evidence)
            else:
                refused.append((evidence, flaw))
        against += [(e, self._judge_failure(e, r)) for e, r in failed]
        if passes:
            newest, last = max(e.taken_from for e in passes), max(e.seq for e in passes)
            # By the ledger's order too: a clock that was set back must not make a later failure look older.
            against = [(e, flaw) for e, flaw in against if e.taken_to >= newest or e.seq > last]
            if not against:
                return ()
        worst = max(against, key=_by_end, default=None)
        if not passes and refused:
            stale = max(refused, key=_by_begin)
            if worst is None or stale[0].taken_from >= worst[0].taken_to:
                return (stale[1],)
        if worst is None:
            return (Flaw(ReasonKind.UNMEASURED, "never measured"),)
        if worst[1].kind not in EXCUSABLE:
            return (worst[1],)
        # What an exception may excuse must not hide what it does not name. Age is no excuse here, else time would open.
        whole = [pair for pair in against if pair[0].problem or not self._void(pair[0], ageing=False)]
        whole += [
            (e, Flaw(ReasonKind.PATH, why))
            for e, r in self._passed(cell)
            if not e.problem and not self._void(e, ageing=False) and (why := self._judge_path(r, check))
        ]
        apart = {(flaw.kind, flaw.aspect): flaw for _, flaw in sorted(whole, key=_by_end)}
        return tuple({**apart, (worst[1].kind, worst[1].aspect): worst[1]}.values())

    def _passed(self, cell: Cell) -> Iterator[tuple[Evidence, Result]]:
        return ((e, r) for e, r in self.situation.seen.get(cell, ()) if r.outcome is Outcome.PASSED)

    def _judge_pass(self, evidence: Evidence, result: Result, check: Check) -> Flaw | None:
        """Return why a pass does not count; None when it does."""
        if evidence.problem:
            return Flaw(ReasonKind.RECORD, f"evidence is lost: {evidence.problem}")
        why = self._void(evidence)
        if why:
            return Flaw(ReasonKind.VOID, why)
        if not evidence.taken_from - CLOCK_SKEW_S <= result.at <= evidence.taken_to + CLOCK_SKEW_S:
            off_s = abs(result.at - evidence.taken_to)
            return Flaw(
                ReasonKind.CLOCK, f"the station's clock is off by about {off_s:.0f} s: set it right and measure again"
            )
        if not _asks_the_same(result.check, check):
            at = say_moment(evidence.taken_from)
            return Flaw(ReasonKind.VOID, f"measured {at}, but another check than the matrix asks now")
        why = self._judge_path(result, check)
        return Flaw(ReasonKind.PATH, why) if why else None

    def _judge_failure(self, evidence: Evidence, result: Result) -> Flaw:
        """Return what a failed or unknown result says, and whether a run of now says it."""
        aspect = failing(result)
        if evidence.problem or self._void(evidence):
            kind = ReasonKind.VOID
        elif result.outcome is not Outcome.FAILED:
            kind = ReasonKind.UNKNOWN
        elif result.check.expect == "blocked":
            kind = ReasonKind.LEAK
        else:
            kind = ReasonKind.PATH if "path" in aspect.split(",") else ReasonKind.FAILED
        return Flaw(kind, _say_failure(result), aspect)

    def _void(self, evidence: Evidence, *, ageing: bool = True) -> str:
        """Return why nothing of a run counts for this unit; empty when it does."""
        key = (id(evidence), ageing)
        if key not in self.voids:
            self.voids[key] = self._judge_time(evidence, ageing=ageing) or self._judge_bound(evidence)
        return self.voids[key]

    def _judge_time(self, evidence: Evidence, *, ageing: bool) -> str:
        now_s, ttl_s = self.situation.now_s, self.situation.policy.timers.evidence_ttl_s
        at = say_moment(evidence.taken_from)
        if evidence.taken_to > now_s + CLOCK_SKEW_S or evidence.taken_from > evidence.taken_to:
            return f"measured {say_moment(evidence.taken_to)}, in the future: set the clock right and measure again"
        if ageing and now_s - evidence.taken_from > ttl_s:
            return f"measured {at}, older than {say_span(ttl_s)}"
        if evidence.taken_from < self.floor_s:
            return f"measured {at}, before {self.floor_why}"
        for away in self.away:
            if not away.shown_by(evidence):
                names, trial = ", ".join(away.units), " ".join(sorted(away.trial or away.units))
                return f"measured {at} while the old path of {names} was up, which proves nothing: 'extranet prove {trial}'"
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
        known, key = self.situation.known_hops, (self.unit.network, hop)
        if key not in known:
            known[key] = self._find_legacy(hop)
        return known[key]

    def _find_legacy(self, hop: str) -> bool:
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


def _by_end(pair: tuple[Evidence, Flaw]) -> tuple[float, bool, str]:
    """Order by when a run ended; at equal times what nothing excuses comes last, so that it is what is said."""
    return pair[0].taken_to, pair[1].kind not in EXCUSABLE, pair[1].why


def _by_begin(pair: tuple[Evidence, Flaw]) -> tuple[float, str]:
    return pair[0].taken_from, pair[1].why


def _about_all(kind: ReasonKind, why: str) -> Reason:
    return Reason(station="", service="", why=why, kind=kind)


def _asks_the_same(one: Check, other: Check) -> bool:
    """Tell whether a measured check asks all that the matrix asks; it may have traced the path besides."""
    if other.trace and not one.trace:
        return False
    return one.model_copy(update={"trace": other.trace}) == other


def _say_failure(result: Result) -> str:
    why = result.why or "no reason given"
    return why if result.outcome is Outcome.FAILED else f"unknown: {why}"


def line_ends(circuit: Circuit) -> frozenset[tuple[str, str]]:
    """Return the ports, each with its device, on which a line ends."""
    ends = ((circuit.device, circuit.port), (circuit.far_device, circuit.far_port))
    return frozenset((device, port) for device, port in ends if device and port)


def same_failure(result: Result, excused: Iterable[Reason]) -> bool:
    """Tell whether what a result saw fail is just what an excused reason names."""
    kind = ReasonKind.FAILED if result.outcome is Outcome.FAILED else ReasonKind.UNKNOWN
    return any(r.check == result.check.id and r.kind is kind and r.aspect == failing(result) for r in excused)


def failing(result: Result) -> str:
    """Name the aspects of a result that did not pass."""
    bad = dict.fromkeys(f.aspect for f in result.findings if f.outcome is not Outcome.PASSED)
    return ",".join(bad) or result.why.partition(":")[0]


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
