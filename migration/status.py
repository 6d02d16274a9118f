"""Where the campaign stands, as data: units, towns by networks, and coverage against the dates.

A central village is covered when it has a station, and every need of its stations that provisioning alone provides
passed the last time it was measured. What was never measured, and what was measured last in a run whose file is lost,
is not covered. Evidence does not expire here, as nothing is switched off by it: `measured` says of when it is.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, time

from inventory.model import County, Model, Need, Site, SiteClass, Station
from migration.events import Event
from migration.evidence import Evidence
from migration.proof import Cell, cell_of, say_moment
from migration.units import Step, UnitRecord, UnitState, open_intents
from migration.waivers import Waiver, WaiverState, say_waiver
from nornir_tasks.stations.model import Outcome


class UnitStatus(Model):
    """One unit: where it stands, since when, and who answers for it. `note` says what holds it up, if known."""

    unit: str
    network: str
    network_name: str
    site: str
    site_name: str
    town: str
    state: UnitState
    since: datetime | None
    lead: str
    responsible: str
    open: str = ""
    note: str = ""


class TownCell(Model):
    """A network in a town (its villages included): units by state, and the state that all of them have reached."""

    network: str
    units: int
    reached: UnitState
    states: dict[UnitState, int]


class TownStatus(Model):
    """One row of the table of towns by networks, the county's own first."""

    town: str
    name: str
    responsible: str
    cells: tuple[TownCell, ...]


class VillageCoverage(Model):
    """A central village. `passed` of `needed` cells passed last time; `missing` names what did not, and why."""

    site: str
    name: str
    town: str
    town_name: str
    responsible: str
    needed: int
    passed: int
    covered: bool
    missing: tuple[str, ...] = ()


class TargetStatus(Model):
    """One date of the policy. `days_left` is negative when it has passed; `late` when it has and the share is not met.

    `lacking` is how many more villages it takes; `waiting_for` the titles answering for villages not covered yet.
    """

    share: float
    by: date
    needed: int
    covered: int
    lacking: int
    days_left: int
    met: bool
    late: bool
    waiting_for: dict[str, int]


class Coverage(Model):
    """Central villages covered, against the dates. `measured` is the Unix time of the newest run (None: never)."""

    villages: tuple[VillageCoverage, ...]
    covered: int
    total: int
    measured: float | None
    targets: tuple[TargetStatus, ...]

    @property
    def share(self) -> float:
        """Covered share of central villages, 0 to 1; 0 where there are none."""
        return self.covered / self.total if self.total else 0.0


class OpenIntent(Model):
    """A change that was begun and whose end nobody recorded: it was interrupted, unless it still runs.

    `what` is the command, `about` what it was to change together: a unit, a town, the cores.
    """

    key: str
    what: str
    about: str
    step: str
    at: datetime
    actor: str
    devices: tuple[str, ...]
    units: tuple[str, ...]
    todo: str = "run the same command again: it asks the devices and finishes it, or takes it back"


class ExceptionStatus(Model):
    """A recorded exception to a gate, over ones too. `lines` say it for people."""

    id: str
    unit: str
    gate: str
    state: WaiverState
    by: str
    approved_by: str
    why: str
    until: datetime
    reasons: int
    one_login: str = ""
    """The account and host where it was both proposed and confirmed; empty where those are two."""
    lines: tuple[str, ...]


class StatusReport(Model):
    """The campaign at a glance."""

    county: str
    name: str
    today: date
    plan_exists: bool
    interrupted: tuple[OpenIntent, ...] = ()
    exceptions: tuple[ExceptionStatus, ...] = ()
    units: tuple[UnitStatus, ...]
    towns: tuple[TownStatus, ...]
    states: dict[UnitState, int]
    coverage: Coverage
    refused: int


def report(
    county: County,
    records: Mapping[str, UnitRecord],
    *,
    plan_exists: bool,
    evidence: Iterable[Evidence],
    today: date,
    events: Iterable[Event] = (),
    waivers: Iterable[Waiver] = (),
    now: datetime | None = None,
) -> StatusReport:
    """Put together where everything stands. `evidence` is every run there is (one target's), in any order.

    `events` are those the records were folded from: what is open may concern devices and no unit. `waivers` are shown
    as they are worth `now` (without it, at the end of today in UTC).
    """
    at = now or datetime.combine(today, time.max, UTC)
    units = tuple(_unit_status(county, u.id, records, plan_exists=plan_exists) for u in county.units)
    return StatusReport(
        county=county.id,
        name=county.name,
        today=today,
        plan_exists=plan_exists,
        interrupted=tuple(map(_open_intent, open_intents(events))),
        exceptions=tuple(describe_exception(w, at) for w in waivers),
        units=units,
        towns=_towns(county, units),
        states=_count(units),
        coverage=measure_coverage(county, evidence, today),
        refused=len(county.refused),
    )


def measure_coverage(county: County, evidence: Iterable[Evidence], today: date) -> Coverage:
    """Count the central villages that are covered, from the last measurement of each cell."""
    runs = tuple(evidence)
    last = _last_seen(runs)
    lost = tuple(e for e in runs if e.problem)
    central = [s for s in county.sites if s.site_class is SiteClass.VILLAGE and s.central]
    villages = tuple(_village(county, site, last, lost) for site in central)
    covered = sum(v.covered for v in villages)
    return Coverage(
        villages=villages,
        covered=covered,
        total=len(villages),
        measured=max((e.taken_to for e in runs if not e.problem), default=None),
        targets=tuple(
            _target(t.share, t.by, villages, today) for t in sorted(county.policy.coverage, key=lambda t: t.by)
        ),
    )


def _unit_status(county: County, unit_id: str, records: Mapping[str, UnitRecord], *, plan_exists: bool) -> UnitStatus:
    unit = county.unit_by_id[unit_id]
    record = records.get(unit_id) or UnitRecord(unit=unit_id)
    network, site = county.network_by_id[unit.network], county.site_by_id[unit.site]
    state = record.state
    if state is UnitState.SURVEYED and plan_exists:  # the plan is a file, which no event need repeat
        state = UnitState.PLANNED
    note = record.problems[-1] if record.problems else record.failure
    step = str(record.intent.body.get("step", Step.CUTOVER)) if record.intent else ""
    return UnitStatus(
        unit=unit.id,
        network=unit.network,
        network_name=network.name,
        site=unit.site,
        site_name=site.name,
        town=county.town_of(unit.site),
        state=state,
        since=record.since,
        lead=network.lead,
        responsible=network.responsible,
        open=step,
        note=f"{step} was interrupted: run the same command again" if record.intent else note,
    )


_COMMANDS = {
    "push": "config push",
    "cores": "cutover",
    "cutover": "cutover",
    "back": "cutover --back",
    "drain": "retire",
    "shut": "retire",
    "remove": "retire",
    "undo": "retire --undo",
}
"""The command behind the word that its change ids carry."""


def _open_intent(event: Event) -> OpenIntent:
    body = event.body
    step, change = str(body.get("step", "")), str(body.get("change", ""))
    word = next(iter(change.split("-")[1:2]), "")
    return OpenIntent(
        key=event.key,
        what=_COMMANDS.get(word, step),
        about=event.key.removeprefix(f"{change}/") if change else event.unit or "",
        step=step,
        at=event.moment,
        actor=event.actor,
        devices=tuple(map(str, body.get("devices") or ())),
        units=(event.unit,) if event.unit else tuple(map(str, body.get("units") or ())),
    )


def describe_exception(waiver: Waiver, now: datetime) -> ExceptionStatus:
    """Return an exception as it is worth at a moment."""
    return ExceptionStatus(
        id=waiver.id,
        unit=waiver.unit,
        gate=waiver.gate,
        state=waiver.state(now),
        by=waiver.by,
        approved_by=waiver.approved_by,
        why=waiver.why,
        until=waiver.until,
        reasons=len(waiver.reasons),
        one_login=waiver.one_login,
        lines=tuple(say_waiver(waiver, now)),
    )


def _towns(county: County, units: tuple[UnitStatus, ...]) -> tuple[TownStatus, ...]:
    out = []
    tops = [s for s in county.sites if s.site_class is not SiteClass.VILLAGE]
    for site in sorted(tops, key=lambda s: s.site_class is not SiteClass.COUNTY):
        cells = []
        for network in county.networks:
            here = tuple(u for u in units if u.town == site.id and u.network == network.id)
            if here:
                least = min((u.state for u in here), key=lambda s: s.rank)
                cells.append(TownCell(network=network.id, units=len(here), reached=least, states=_count(here)))
        out.append(TownStatus(town=site.id, name=site.name, responsible=site.responsible, cells=tuple(cells)))
    return tuple(out)


def _count(units: Iterable[UnitStatus]) -> dict[UnitState, int]:
    counts = dict.fromkeys(UnitState, 0)
    for unit in units:
        counts[unit.state] += 1
    return {state: n for state, n in counts.items() if n}


def _last_seen(runs: Iterable[Evidence]) -> dict[Cell, tuple[float, str]]:
    """Return for each cell when it was measured last and why it did not pass then (empty: it passed)."""
    out: dict[Cell, tuple[float, str]] = {}
    for run in runs:
        for result in run.results:
            why = "" if result.outcome is Outcome.PASSED else result.why or result.outcome.value
            cell, seen = cell_of(result.check), (run.taken_to, why)
            out[cell] = max(out.get(cell, seen), seen)  # at equal times a failure outweighs a pass
    return out


def _village(
    county: County, site: Site, last: Mapping[Cell, tuple[float, str]], lost: tuple[Evidence, ...]
) -> VillageCoverage:
    stations = {s.id: s for s in county.stations_at(site.id)}
    needs = [n for n in county.needs if n.station in stations and n.unit is None]
    missing = []
    for need in needs:
        why = _missing(county, need, stations[need.station], last, lost)
        if why:
            missing.append(f"{need.service} from {need.plane} over {need.family}: {why}")
    town = county.site_by_id[county.town_of(site.id)]
    if not stations:
        missing.append("no station")
    elif not needs:
        missing.append("nothing is expected of its station")
    return VillageCoverage(
        site=site.id,
        name=site.name,
        town=town.id,
        town_name=town.name,
        responsible=site.responsible or town.responsible,
        needed=len(needs),
        passed=len(needs) - sum(1 for m in missing if needs),
        covered=bool(needs) and not missing,
        missing=tuple(missing),
    )


def _missing(
    county: County,
    need: Need,
    station: Station,
    last: Mapping[Cell, tuple[float, str]],
    lost: tuple[Evidence, ...],
) -> str:
    seen = last.get(Cell(need.station, need.plane, need.service, need.family, "reach"))
    if seen is None:
        return "never measured"
    at, why = seen
    unit = county.unit_by_lan.get((station.site, need.plane))
    for run in lost:
        if run.taken_to >= at and (not run.units or (unit is not None and unit.id in run.units)):
            return f"a later run is lost: {run.problem}"
    return f"{why} ({say_moment(at)})" if why else ""


def _target(share: float, by: date, villages: tuple[VillageCoverage, ...], today: date) -> TargetStatus:
    covered = sum(v.covered for v in villages)
    # Rounded first: 0.7 * 10 is 7.000000000000001 in binary, and would ask for an eighth village.
    needed = math.ceil(round(share * len(villages), 9))
    met = bool(villages) and covered >= needed
    waiting: dict[str, int] = {}
    for village in villages:
        if not village.covered:
            waiting[village.responsible] = waiting.get(village.responsible, 0) + 1
    return TargetStatus(
        share=share,
        by=by,
        needed=needed,
        covered=covered,
        lacking=max(needed - covered, 0),
        days_left=(by - today).days,
        met=met,
        late=not met and today > by,
        waiting_for={} if met else dict(sorted(waiting.items())),
    )
