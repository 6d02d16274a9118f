"""Proof: which cells of the matrix are proven, judged from evidence. Pure: no clock, no file, no network.

What counts as proof for one cell (station, plane, service, family, reach or blocked):

- a result of exactly the check that the matrix asks, that passed, with its path measured where one is asked for, and no
  legacy router in it;
- from a run that began at most `evidence_ttl_s` ago, not in the future, and after everything that had to come first:
  the unit's cutover, and every change to a router under its path;
- bound to the inventory and plan of now, and to the configurations that run now on the routers under its path, and on
  those of the old line as far as they answer;
- and nothing else about that cell, in a run that ended later than this one began, other than a pass. A run whose file
  is lost counts as such: so deleting an inconvenient file never opens a gate.

All times that decide are the controller's (the run's window); a station's own clock must only agree with them.
Everything not proven is a reason, by station and service. No check at all is a reason too. What an exception may
excuse is what a run of now saw go wrong, a wait that is not over, or a policy that was loosened: never that nobody looked
(`EXCUSABLE`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import cached_property, lru_cache
from ipaddress import ip_address
from operator import attrgetter
from typing import TYPE_CHECKING, NamedTuple, cast

from inventory.model import EXTRANET, Circuit, County, Family, Model, Policy, Unit
from inventory.wording import say_span
from migration.archive import Archives
from migration.clock import to_iso
from migration.evidence import Bound, Evidence
from migration.soak_samples import SoakSample, names_to_ask
from migration.steady import Steady, find_steady
from migration.terms import Loosening, Policies, find_loosened, policy_values
from migration.units import Act, Change, UnitRecord, UnitState, devices_under, legacy_devices_under
from nornir_tasks.stations.model import WHOSE_WAY, Check, Outcome, Result

if TYPE_CHECKING:
    from migration.waivers import Waiver

RECORDED_WITHIN_S = 60.0
"""How long after it was taken a sample may come to the ledger."""

_PASSED = Outcome.PASSED
"""By a name of its own: Python 3.11 asks the enumeration's class for a member in Python, a million times over."""

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
    POLICY = "policy"
    """The policy, or the survey of what the windows need, asks less now than when the unit was cut over."""
    NO_WAY_BACK = "no-way-back"
    ARCHIVE = "archive"
    """A legacy router's configuration is not kept, so its line could not be rebuilt."""
    UNMEASURED = "unmeasured"
    VOID = "void"
    """Measured, but too old, before something, under something else, or of another check."""
    PATH = "path"
    """A legacy router on the way or under the vantage, or a path that is not known."""
    LEAK = "leak"
    """What must be blocked is not."""
    IN_USE = "in-use"
    """Somebody was seen on the old line, or what was seen does not show that nobody was."""
    FAILED = "failed"
    UNKNOWN = "unknown"


EXCUSABLE = frozenset({ReasonKind.FAILED, ReasonKind.UNKNOWN, ReasonKind.SOAK, ReasonKind.HOLD, ReasonKind.POLICY})
"""All that a recorded exception may excuse: a service that a station saw fail, a station that a run of now did not reach,
a wait, and a policy that asks less than it did. Everything else is remedied by measuring, repairing or waiting, or must
never be passed over."""


class Reason(Model):
    """One thing that stands against. `station`, `service` and `check` are empty when it is not about a measurement.

    `aspect` names what failed of a measurement (`tcp`, `tls,http`), of a wait what is awaited and since when, of a policy
    which value was loosened from what to what.
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
    family: Family
    expect: str


_Key = tuple[str, str, str, Family, str]
"""A `Cell` as a plain tuple: equal to it, and quicker made."""

_cell = cast("Callable[[Check], _Key]", attrgetter(*Cell._fields))
"""What a check is about."""


@dataclass(slots=True)
class Known:
    """All that is known of what `key` is about. `provider` is the unit whose cutover provides it; `seen` holds runs by place.

    `plain` counts the results against which nothing of their own stands (`Situation.is_plain`).
    """

    key: _Key
    provider: str | None
    checks: list[Check]
    seen: list[tuple[int, Result]]
    plain: int = 0

    @property
    def cell(self) -> Cell:
        """What it is about, by name."""
        return Cell(*self.key)


class Leg(NamedTuple):
    """What is expected of a station's leg. `runs` prove every cell that is not in `closer`, if they count."""

    cells: list[Known]
    runs: set[int]
    closer: list[Known]


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

    def shown_by(self, evidence: Evidence, withheld: frozenset[str]) -> bool:
        """Tell whether a run was measured without these old paths."""
        if withheld.issuperset(self.units):
            return True
        return self.since is not None and evidence.taken_from >= self.since.timestamp()


class RunFacts(NamedTuple):
    """What stands against a run, whoever asks: empty where nothing does. `otherwise` are devices that ran something else."""

    lost: str
    old: str
    future: str
    under: str
    otherwise: frozenset[str]


@dataclass(frozen=True)
class Situation:
    """Everything the gates decide from.

    `checks` is the expected matrix. `evidence` holds every run since at least `evidence_ttl_s` ago, lost ones included.
    `records` and `changes` are `units.fold` and `units.last_changes` of the ledger's events. `current` holds the
    digests of now: a device that could not be asked is simply not in `current.configs`, and refuses what depends on it.
    `resuming` is the key of the open intent that is being taken up again, which then does not stand against itself.
    `waivers` are the exceptions on record, over ones too.
    `soak` holds the samples of old lines, lost ones included, in the ledger's order; `acts` our own changes, `own_acts`.
    `policies` are those on record, with the one that each unit was cut over under (`fold_policies`).
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
    soak: tuple[SoakSample, ...] = ()
    acts: tuple[Act, ...] = ()
    archives: Archives = field(default_factory=dict)
    """What is archived of units' legacy routers, for the stages that take a line away."""
    policies: Policies = field(default_factory=Policies)

    @cached_property
    def now_s(self) -> float:
        """Now as Unix time."""
        return self.now.timestamp()

    @cached_property
    def loosened_since(self) -> Mapping[str, tuple[Loosening, ...]]:
        """What each policy on record asked that the one of now does not, by its digest."""
        now = policy_values(self.policy)
        return {digest: find_loosened(then, now) for digest, then in self.policies.values.items()}

    @cached_property
    def sampled_less(self) -> dict[tuple[str, str], str]:
        """What was found out so far about policies that samples were taken under, by theirs and the unit's terms."""
        return {}

    @cached_property
    def cells(self) -> dict[_Key, Known]:
        """Everything that is expected, by inventory and matrix, each with the checks that ask for it and what was seen."""
        cells: dict[_Key, Known] = {}
        for station, plane, service, family, unit in self.county.needs:
            key = (station, plane, service, family, "reach")
            cells[key] = Known(key, unit, [], [])
        for station, plane, service, family in self.county.forbidden:
            key = (station, plane, service, family, "blocked")
            cells[key] = Known(key, None, [], [])
        asked: dict[str, Known] = {}
        for check in self.checks:
            key = _cell(check)
            found = cells.get(key)
            if found is None:
                found = cells[key] = Known(key, check.unit, [], [])
            found.checks.append(check)
            asked[check.id] = found
        for number, evidence in enumerate(self.evidence):
            earliest, latest = evidence.taken_from - CLOCK_SKEW_S, evidence.taken_to + CLOCK_SKEW_S
            for result in evidence.results:
                check = result.check
                found = asked.get(check.id)
                # vars: what pydantic's == compares, without its ceremony, a million times over.
                same = found is not None and vars(check) == vars(found.checks[-1])
                if not same:
                    found = cells.get(_cell(check))
                if found is not None:
                    found.seen.append((number, result))
                    if same and earliest <= result.at <= latest and self.is_plain(result):
                        found.plain += 1
        return cells

    def is_plain(self, result: Result) -> bool:
        """Tell whether a result is a pass that counts wherever its check is asked and its run and its time count.

        What is not plain may count as well: whoever judges a leg then looks closer.
        """
        return (
            result.outcome is _PASSED
            and not result.raw.get("clock_skew_s")
            and not _judge_aspects(result, result.check)
            and (
                result.check.expect == "blocked"
                or (self.plain_paths[result.hops] and self.plain_paths[result.return_hops])
            )
        )

    def is_legacy_name(self, hop: str) -> bool:
        """Tell whether a hop names a legacy router; an interface may follow."""
        names = self.legacy_names
        return hop in names or any(mark in ": /" and hop[:end] in names for end, mark in enumerate(hop))

    @cached_property
    def plain_paths(self) -> _PlainPaths:
        """Which paths are made of names alone, and of no legacy router's."""
        return _PlainPaths(self)

    @cached_property
    def sites(self) -> dict[str, str]:
        """The site of each station."""
        return {s.id: s.site for s in self.county.stations}

    @cached_property
    def legs(self) -> dict[tuple[str, str], Leg]:
        """What is expected, by (site, plane) of the station's leg."""
        sites = self.sites
        out: dict[tuple[str, str], Leg] = {}
        for known in self.cells.values():
            station, plane, *_ = known.key
            site = sites.get(station)
            if site is None:
                continue
            leg = out.get((site, plane))
            if leg is None:
                leg = out[site, plane] = Leg([], set(), [])
            leg.cells.append(known)
            if known.plain == len(known.seen) == len(known.checks) == 1:
                leg.runs.add(known.seen[0][0])
            else:
                leg.closer.append(known)
        return out

    @cached_property
    def reaching(self) -> frozenset[tuple[str, str]]:
        """The legs from which anything at all must be reached."""
        return frozenset(name for name, leg in self.legs.items() if any(k.key[-1] == "reach" for k in leg.cells))

    @cached_property
    def judged(self) -> dict[tuple[object, ...], tuple[Reason, ...]]:
        """What was found out about legs so far: a leg's reasons follow from which runs count for it, and nothing else."""
        return {}

    @cached_property
    def lately_gone(self) -> tuple[tuple[str, datetime], ...]:
        """Units whose old path went so lately that some run that counts may have been measured over it, with when it went.

        A drain takes the route away, and the line with it only a shut does: what leaned on the line did until then.
        """
        oldest = self.now - timedelta(seconds=self.policy.timers.evidence_ttl_s + CLOCK_SKEW_S)
        out = []
        for unit, record in self.records.items():
            gone = next((s for s in (UnitState.SHUT, UnitState.DRAINED) if record.state.reached(s)), None)
            at = record.entered.get(gone) if gone is not None else None
            if at is not None and at > oldest:
                out.append((unit, at))
        return tuple(out)

    @cached_property
    def lost_flaws(self) -> tuple[tuple[Evidence, Flaw], ...]:
        """Runs whose file is missing or changed, each with what that says."""
        return tuple((e, Flaw(ReasonKind.RECORD, f"a run is lost: {e.problem}")) for e in self.evidence if e.problem)

    @cached_property
    def legacy_names(self) -> frozenset[str]:
        """Ids and names of legacy routers, as they may stand in a path."""
        return frozenset(n for d in self.county.devices if d.network != EXTRANET for n in (d.id, d.name))

    @cached_property
    def known_paths(self) -> dict[str, dict[tuple[str, ...], str]]:
        """What was found out about paths so far: by network, the first legacy router on each."""
        return defaultdict(dict)

    @cached_property
    def withheld(self) -> tuple[frozenset[str], ...]:
        """The units whose old path each run withheld."""
        return tuple(frozenset(e.withheld) for e in self.evidence)

    @cached_property
    def runs(self) -> tuple[RunFacts, ...]:
        """What stands against each run, whoever asks."""
        return tuple(map(self._find_facts, self.evidence))

    def _find_facts(self, run: Evidence) -> RunFacts:
        ttl_s, at = self.policy.timers.evidence_ttl_s, say_moment(run.taken_from)
        future = run.taken_to > self.now_s + CLOCK_SKEW_S or run.taken_from > run.taken_to
        bound, now = run.bound, self.current
        digests = {
            "policy": (bound.policy, now.policy),
            "inventory": (bound.inventory, now.inventory),
            "address plan": (bound.plan, now.plan),
            "topology": (bound.topology, now.topology),
        }
        other = next((name for name, (then, today) in digests.items() if then != today), "")
        return RunFacts(
            lost=f"evidence is lost: {run.problem}" if run.problem else "",
            old=f"measured {at}, older than {say_span(ttl_s)}" if self.now_s - run.taken_from > ttl_s else "",
            future=f"measured {say_moment(run.taken_to)}, in the future: set the clock right and measure again"
            if future
            else "",
            under=f"under another {other} than the one of now" if other else "",
            otherwise=frozenset(d for d, config in now.configs.items() if bound.configs.get(d) != config),
        )

    @cached_property
    def extranet_ends(self) -> dict[tuple[str, str], str]:
        """Extranet circuits by the ports on which they end."""
        return {end: c.id for c in self.county.circuits if c.network == EXTRANET for end in line_ends(c)}

    @cached_property
    def acts_by_device(self) -> dict[str, list[Act]]:
        """Our own changes, oldest first, by device."""
        out: dict[str, list[Act]] = defaultdict(list)
        for act in self.acts:
            for device in act.devices:
                out[device].append(act)
        return out

    @cached_property
    def soak_by_unit(self) -> dict[str, list[SoakSample]]:
        """The samples of each unit's old line, in the ledger's order."""
        out: dict[str, list[SoakSample]] = defaultdict(list)
        for sample in sorted(self.soak, key=lambda s: s.seq):
            for unit in sample.units:
                out[unit].append(sample)
        return out

    @cached_property
    def days_covered(self) -> dict[tuple[float, ...], int]:
        """What was found out so far about the business days that samples taken at some moments cover."""
        return {}

    @cached_property
    def steady(self) -> Steady:
        """From which samples on routers only said the same."""
        samples = sorted(self.soak, key=lambda s: s.seq)
        return find_steady(samples, self.policy.soak, [not say_untimely(s, self.now_s) for s in samples])

    @cached_property
    def soak_digests(self) -> frozenset[str]:
        """The digests of all samples there are."""
        return frozenset(s.digest for s in self.soak)

    @cached_property
    def first_seen(self) -> dict[tuple[str, str], float]:
        """When somebody was first seen by a router, by router and address: in the first sample that names him."""
        out: dict[tuple[str, str], float] = {}
        for sample in self.soak:
            for usage in sample.usages:
                for neighbor in usage.neighbors:
                    out.setdefault((usage.device, neighbor.address), sample.recorded)
                for flow in usage.flows:
                    out.setdefault((usage.device, flow.source), sample.recorded)
                    out.setdefault((usage.device, flow.destination), sample.recorded)
        return out

    @cached_property
    def addresses_of_names(self) -> dict[tuple[str, str], set[str]]:
        """Where services are now, by name and family."""
        out: dict[tuple[str, str], set[str]] = defaultdict(set)
        for check in self.checks:
            out[check.dns_name, check.family.value].add(check.address)
        return out

    @cached_property
    def names_to_ask(self) -> dict[str, dict[tuple[str, str], Check]]:
        """By which checks a sample of an old line asks for names, by plane, name and family."""
        return names_to_ask(self.county, self.checks)

    @cached_property
    def empty_since(self) -> dict[str, float | None]:
        """When the last unit of each old network was cut over; None while one is not."""
        return {network: self.find_quiet(units) for network, units in self.county.units_by_network.items()}

    def find_quiet(self, units: Iterable[Unit]) -> float | None:
        """Return when the last of some units was cut over (Unix time); None while one is not."""
        moments = []
        for unit in units:
            record = self.record(unit.id)
            entered = record.entered.get(UnitState.CUT_OVER)
            if entered is None or not record.state.reached(UnitState.CUT_OVER):
                return None
            moments.append(entered.timestamp())
        return max(moments)

    def record(self, unit: str) -> UnitRecord:
        """Return a unit's record; one that nothing was recorded about is as surveyed."""
        return self.records.get(unit) or UnitRecord(unit=unit)


class _PlainPaths(dict[tuple[str, ...], bool]):
    """Whether paths are plain: what was found out so far, and found out when asked."""

    def __init__(self, situation: Situation) -> None:
        super().__init__()
        self.situation = situation

    def __missing__(self, hops: tuple[str, ...]) -> bool:
        strange = any(self.situation.is_legacy_name(hop) or _may_be_address(hop) for hop in hops)
        self[hops] = not strange
        return self[hops]


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
    leg = situation.legs.get((unit.site, unit.plane))
    if leg is None or (unit.site, unit.plane) not in situation.reaching:
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
    key = (unit.id, provided_only, demand.runs)
    if key not in situation.judged:
        asked = sorted(demand.look_closer(leg), key=_by_cell)
        situation.judged[key] = tuple(
            reason
            for known in asked
            if not (provided_only and known.provider is not None)
            for reason in demand.judge(known)
        )
    yield from situation.judged[key]


def _floor(
    unit: Unit, devices: Iterable[str], situation: Situation, *, after_cutover: bool, since: datetime | None
) -> tuple[float | None, str]:
    """Return the time before which nothing counts, with what happened then; None when it cannot have come yet."""
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
    if not marks:
        return float("-inf"), ""
    at, what = max(marks, key=_moment_of)
    return at.timestamp(), what


def _moment_of(mark: tuple[datetime, str]) -> datetime:
    return mark[0]


@dataclass
class _Demand:
    """What must be true of a result for one unit's leg."""

    unit: Unit
    devices: tuple[str, ...]
    floor_s: float
    floor_why: str
    away: tuple[Away, ...]
    situation: Situation

    @cached_property
    def legacy(self) -> tuple[str, ...]:
        """The legacy routers under the unit's old path, of those whose configuration of now is known."""
        known = self.situation.current.configs
        return tuple(d for d in legacy_devices_under(self.situation.county, self.unit) if d in known)

    @cached_property
    def runs(self) -> tuple[tuple[Flaw | None, bool], ...]:
        """For each run: why nothing of it counts for this unit (None: it does), and whether only its age is against it."""
        return tuple(map(self._judge_run, range(len(self.situation.evidence))))

    def look_closer(self, leg: Leg) -> Iterable[Known]:
        """Return the cells of a leg that its plain passes do not prove: all of them, unless their runs count."""
        if self.situation.lost_flaws or any(self.runs[number][0] is not None for number in leg.runs):
            return leg.cells
        return leg.closer

    def judge(self, known: Known) -> Iterable[Reason]:
        """Return a reason for each check of a cell that is not proven."""
        if not known.checks:
            lacking = Flaw(ReasonKind.UNMEASURED, "not in the matrix, so never measured")
            return (self._reason(known.cell, lacking, ""),)
        return [
            self._reason(known.cell, flaw, check.id)
            for check in known.checks
            for flaw in self._judge_check(known, check)
        ]

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

    def _judge_check(self, known: Known, check: Check) -> Iterable[Flaw]:
        """Return what stands against a check; nothing when it is proven."""
        passes: list[Evidence] = []
        refused: list[tuple[Evidence, Flaw]] = []
        failed: list[tuple[int, Result]] = []
        for number, result in known.seen:
            if result.outcome is not Outcome.PASSED:
                failed.append((number, result))
                continue
            flaw = self._judge_pass(number, result, check)
            if flaw is None:
                passes.append(self.situation.evidence[number])
            else:
                refused.append((self.situation.evidence[number], flaw))
        # A lost run is against everybody, whatever units it names: it may have measured more than those.
        lost = self.situation.lost_flaws
        if passes and not failed and not lost:
            return ()
        against = [*lost, *((self.situation.evidence[n], self._judge_failure(n, r)) for n, r in failed)]
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
        return self._apart(known, check, against, worst[1])

    def _apart(
        self, known: Known, check: Check, against: Iterable[tuple[Evidence, Flaw]], worst: Flaw
    ) -> Iterable[Flaw]:
        """Return, beside what an exception may excuse, all else that stands: it must hide nothing that it does not name.

        Age alone takes nothing away here, else time would open what was refused.
        """
        places = {id(e): n for n, e in enumerate(self.situation.evidence)}
        whole = [(e, f) for e, f in against if e.problem or self._binds(places[id(e)])]
        whole += [
            (self.situation.evidence[n], Flaw(ReasonKind.PATH, why))
            for n, r in known.seen
            if r.outcome is Outcome.PASSED and self._binds(n) and (why := self._judge_path(r, check))
        ]
        apart = {(flaw.kind, flaw.aspect): flaw for _, flaw in sorted(whole, key=_by_end)}
        return tuple({**apart, (worst.kind, worst.aspect): worst}.values())

    def _binds(self, number: int) -> bool:
        """Tell whether a run counts, or would if it were younger."""
        flaw, only_old = self.runs[number]
        return flaw is None or only_old

    def _judge_pass(self, number: int, result: Result, check: Check) -> Flaw | None:
        """Return why a pass does not count; None when it does."""
        void = self.runs[number][0]
        if void is not None:
            return void
        evidence = self.situation.evidence[number]
        skew = _say_skew(result, evidence)
        if skew:
            return Flaw(ReasonKind.CLOCK, skew)
        if vars(result.check) != vars(check) and not _asks_the_same(result.check, check):
            at = say_moment(evidence.taken_from)
            return Flaw(ReasonKind.VOID, f"measured {at}, but another check than the matrix asks now")
        why = self._judge_path(result, check)
        return Flaw(ReasonKind.PATH, why) if why else None

    def _judge_failure(self, number: int, result: Result) -> Flaw:
        """Return what a failed or unknown result says, and whether a run of now says it."""
        aspect = failing(result)
        if self.runs[number][0] is not None:
            kind = ReasonKind.VOID
        elif result.outcome is not Outcome.FAILED:
            kind = ReasonKind.UNKNOWN
        elif result.check.expect == "blocked":
            kind = ReasonKind.LEAK
        else:
            kind = ReasonKind.FAILED if WHOSE_WAY.isdisjoint(aspect.split(",")) else ReasonKind.PATH
        return Flaw(kind, _say_failure(result), aspect)

    def _judge_run(self, number: int) -> tuple[Flaw | None, bool]:
        facts, evidence = self.situation.runs[number], self.situation.evidence[number]
        if facts.lost:
            return Flaw(ReasonKind.RECORD, facts.lost), False
        other = facts.future or self._judge_time(evidence, self.situation.withheld[number])
        other = other or self._judge_bound(evidence, facts)
        why = facts.old or other
        return (Flaw(ReasonKind.VOID, why) if why else None), bool(facts.old) and not other

    def _judge_time(self, evidence: Evidence, withheld: frozenset[str]) -> str:
        if evidence.taken_from < self.floor_s:
            mark = f"{self.floor_why} ({say_moment(self.floor_s)})"
            return f"measured {say_moment(evidence.taken_from)}, before {mark}"
        for away in self.away:
            if not away.shown_by(evidence, withheld):
                names, at = ", ".join(away.units), say_moment(evidence.taken_from)
                # With every line of them closed there is nothing left to withhold.
                trial = " ".join(sorted(away.trial))
                todo = f"prove {trial}" if trial else f"verify --unit {self.unit.id}"
                return f"measured {at} while the old path of {names} was up, which proves nothing: 'extranet {todo}'"
        return ""

    def _judge_bound(self, evidence: Evidence, facts: RunFacts) -> str:
        under = facts.under
        if not under and facts.otherwise:
            found = (self._judge_config(evidence, d) for d in self.devices if d in facts.otherwise)
            legacy = (self._judge_legacy(evidence, d) for d in self.legacy if d in facts.otherwise)
            under = next(filter(None, (*found, *legacy)), "")
        return f"measured {say_moment(evidence.taken_from)} {under}" if under else ""

    def _judge_config(self, evidence: Evidence, device: str) -> str:
        """Say that a router under the new path runs another configuration than it did in a run."""
        if device not in evidence.bound.configs:
            return f"without knowing what {device} ran"
        return f"under another configuration of {device} than the one of now"

    def _judge_legacy(self, evidence: Evidence, device: str) -> str:
        """Say that somebody else changed a legacy router since a run; what our own changes alone made of it is no surprise.

        A router of an old line that does not answer now is no evidence either way: the soak wants to hear from it.
        """
        runs = self.situation.current.configs[device]
        ran, change = evidence.bound.configs.get(device), self.situation.changes.get(device)
        if ran is None:
            return f"without knowing what the legacy router {device} ran"
        if change is not None and change.explains(ran, evidence.seq, runs):
            return ""
        return f"under another configuration of the legacy router {device} than the one of now"

    def _judge_path(self, result: Result, check: Check) -> str:
        if check.expect == "blocked":
            return _judge_aspects(result, check)
        for aspect, hops in (("path", result.hops), ("return", result.return_hops)):
            if hops and (hop := self._find_legacy(hops)):
                return f"{aspect}: no legacy router on the way - expected none, found {hop}"
        return _judge_aspects(result, check)

    def _find_legacy(self, hops: tuple[str, ...]) -> str:
        """Return the first legacy router of a path; empty when there is none."""
        known = self.situation.known_paths[self.unit.network]
        if hops not in known:
            known[hops] = next(filter(self._is_legacy, hops), "")
        return known[hops]

    def _is_legacy(self, hop: str) -> bool:
        """Tell whether a hop is a legacy router: by name (an interface may follow), or address on its lines."""
        if self.situation.is_legacy_name(hop):
            return True
        if not _may_be_address(hop):
            return False  # a name: parsing it would only say so, slowly
        try:
            address = ip_address(hop.partition("%")[0])
        except ValueError:
            return False
        return any(
            (c.wan_prefix is not None and address in c.wan_prefix)
            for c in self.situation.county.circuits
            if c.network == self.unit.network
        )


def say_untimely(sample: SoakSample, now_s: float) -> str:
    """Say why a sample's times are no witness; empty when they are."""
    if sample.taken_from > sample.taken_to or sample.taken_to > now_s + CLOCK_SKEW_S:
        return "it is of the future: set the clock right"
    if not -CLOCK_SKEW_S <= sample.recorded - sample.taken_to <= RECORDED_WITHIN_S:
        return f"the ledger took it at {say_moment(sample.recorded)}, which is not its time"
    return ""


def _by_end(pair: tuple[Evidence, Flaw]) -> tuple[float, bool, str]:
    """Order by when a run ended; at equal times what nothing excuses comes last, so that it is what is said."""
    return pair[0].taken_to, pair[1].kind not in EXCUSABLE, pair[1].why


def _by_begin(pair: tuple[Evidence, Flaw]) -> tuple[float, str]:
    return pair[0].taken_from, pair[1].why


def _about_all(kind: ReasonKind, why: str) -> Reason:
    return Reason(station="", service="", why=why, kind=kind)


def _may_be_address(hop: str) -> bool:
    """Tell whether a hop may be more than a name: each address begins with a digit or holds two colons."""
    return hop[:1].isdigit() or hop.count(":") >= _COLONS_OF_AN_ADDRESS


_COLONS_OF_AN_ADDRESS = 2


def _say_skew(result: Result, evidence: Evidence) -> str:
    """Say that a result is not of its run's time, or that its station's clock is not; empty when both are."""
    told_s = result.raw.get("clock_skew_s")
    if isinstance(told_s, int | float) and abs(told_s) > CLOCK_SKEW_S:
        return f"the station's clock is off by about {abs(told_s):.0f} s: set it right and measure again"
    if evidence.taken_from - CLOCK_SKEW_S <= result.at <= evidence.taken_to + CLOCK_SKEW_S:
        return ""
    off_s = abs(result.at - evidence.taken_to)
    return f"the station's clock is off by about {off_s:.0f} s: set it right and measure again"


def _judge_aspects(result: Result, check: Check) -> str:
    """Return what a pass lacks: each aspect that the check asks must stand in it as passed, and nothing else beside."""
    passed = {f.aspect for f in result.findings if f.outcome is _PASSED}
    if len(passed) < len(result.findings):  # a pass that holds a failure is not a pass
        for finding in result.findings:
            if finding.outcome is not _PASSED:
                return f"{finding.aspect}: {finding.detail or finding.outcome}"
    if passed.issuperset(check.asks):
        return ""
    lacking = next(a for a in check.asks if a not in passed)
    return f"{lacking}: not measured - expected a passed finding, found none"


def _asks_the_same(one: Check, other: Check) -> bool:
    """Tell whether a measured check asks all that the matrix asks; it may have asked more of the way besides."""
    return one.covers(other)


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
    return Cell(*_cell(check))


def _by_cell(known: Known) -> _Key:
    return known.key


def say_wait(what: str, since: datetime | float | None) -> str:
    """Name a wait by what is awaited and the very moment it began: one that begins anew is another."""
    if since is None:
        return f"{what}, not begun"
    at = since if isinstance(since, datetime) else datetime.fromtimestamp(since, UTC)
    return f"{what} since {to_iso(at)}"


@lru_cache(maxsize=4096)  # reasons of one county name the same few moments over and over
def say_moment(moment: datetime | float) -> str:
    """Write a moment (Unix time or datetime) for people, in UTC."""
    try:
        at = moment if isinstance(moment, datetime) else datetime.fromtimestamp(moment, UTC)
    except (OverflowError, ValueError):
        return "at an impossible time"
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S}Z"
