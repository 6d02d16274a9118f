"""The certificate of retirement (撤销证明): what an office files when a line is gone, made from the ledger alone.

Everything in it comes from events and from files that events name by digest, never from the inventory or the clock: the
same ledger gives the same certificate, byte for byte. It ends at the last event it draws on, so that a later event
about others changes nothing. What is not whole is refused, with everything that is missing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from inventory.errors import GateRefusedError
from inventory.model import Family, Model, Timers
from migration.archive import Archive, collect_archives
from migration.dossier import Dossier
from migration.events import Event, Kind
from migration.evidence import Evidence, collect_evidence
from migration.outage import RecordLostError, read_record
from migration.proof import Reason, same_failure
from migration.release import Release
from migration.soak import SoakOnRecord, next_stage
from migration.units import Step, UnitRecord, UnitState, fold_units
from migration.waivers import WaiverState, fold_waivers
from nornir_tasks.stations.model import Outcome, Result

FORMAT = "extranet certificate of retirement/2"
_PROVING = {
    Step.CUTOVER: UnitState.CUT_OVER,
    Step.DRAIN: UnitState.DRAINED,
    Step.SHUT: UnitState.SHUT,
    Step.REMOVE: UnitState.REMOVED,
}
"""Steps that end only with measurements, which the certificate must show, and where each ends."""
_WIDEST = Timers(exception_s=90 * 86400)
"""The longest that any policy may let an exception stand. The county's own limit is not in the ledger; its gate held to it."""


class CertificateRefusedError(GateRefusedError):
    """A certificate would not be whole. `missing` says everything that is."""

    def __init__(self, missing: Sequence[str]) -> None:
        self.missing = tuple(missing)
        super().__init__("no certificate: " + "\nno certificate: ".join(missing))


class StageDone(Model):
    """One stage: when it was recorded, by whom, in which event; `devices` hold the configurations after it."""

    state: UnitState
    at: datetime
    actor: str
    seq: int
    change: str
    evidence: str
    devices: dict[str, str]


class Setback(Model):
    """A try that was not kept."""

    at: datetime
    step: str
    result: str
    reason: str


class StationCount(Model):
    """What one station's leg showed in one run: passed of asked, over each family, and of what must stay closed."""

    station: str
    name: str
    services: tuple[str, ...]
    ipv6: tuple[int, int]
    ipv4: tuple[int, int]
    closed: tuple[int, int]


class Proof(Model):
    """A run that decided a stage. `withheld`: measured while the old path was taken away.

    `compared` checks of everybody else were measured before and after, and `differing` of them came out otherwise; None
    where the ledger does not say.
    """

    step: Step
    digest: str
    seq: int
    taken_from: datetime
    taken_to: datetime
    withheld: bool
    passed: int
    asked: int
    stations: tuple[StationCount, ...]
    inventory: str
    plan: str
    configs: dict[str, str]
    compared: int | None = None
    differing: int | None = None

    @property
    def line_closed(self) -> bool:
        """Whether the old line was closed meanwhile: a cutover takes the gateway off it, a drain a route, and it stays up."""
        return self.withheld and self.step in {Step.PROVE, Step.SHUT, Step.REMOVE}


class Run(Model):
    """A line of the annex: one run of evidence. It decided a stage (`step`), or was about `units`, or about whole planes."""

    seq: int
    digest: str
    taken_from: datetime
    results: int
    passed: int
    step: Step | None
    units: tuple[str, ...]
    planes: tuple[str, ...] = ()
    stations: int = 0


class ExceptionOnRecord(Model):
    """An exception that two named roles put on record, whatever became of it."""

    id: str
    gate: str
    why: str
    by: str
    approved_by: str
    until: str
    recorded: datetime
    reasons: tuple[str, ...]
    withdrawn_by: str = ""
    one_login: str = ""
    """The account and host where it was both proposed and confirmed; empty where those are two."""


class FeltOutage(Model):
    """What the windows felt of a step that was kept: `felt` of `targets` ways, the worst for `worst_s`, as their watch saw it.

    `unknown` are ways whose watch cannot be believed; shorter than `resolution_s` nothing can be told apart.
    """

    step: Step
    targets: int
    felt: int
    unknown: int
    worst_s: float | None
    budget_s: float | None
    resolution_s: float | None
    digest: str


class HeldPrefix(Model):
    """A prefix that nobody else gets until a day."""

    prefix: IPv4Network
    until: date


class UnitCertificate(Model):
    """All that is certified of one unit."""

    dossier: Dossier
    state: UnitState
    stages: tuple[StageDone, ...]
    setbacks: tuple[Setback, ...]
    proofs: tuple[Proof, ...]
    exceptions: tuple[ExceptionOnRecord, ...]
    soak: SoakOnRecord | None
    outages: tuple[FeltOutage, ...]
    release: Release | None
    archives: tuple[Archive, ...]
    quarantine: tuple[HeldPrefix, ...]
    runs: tuple[Run, ...]


class Certificate(Model):
    """The document as data. `seq` and `hash` are the last event it draws on; `rehearsal`: it was done in a lab."""

    format: str = FORMAT
    number: str
    county: str
    target: str
    rehearsal: bool
    seq: int
    hash: str
    units: tuple[UnitCertificate, ...]


def make_certificate(folder: Path, events: Sequence[Event], units: Sequence[str]) -> Certificate:
    """Make the certificate of units from one target's events and the files beside the ledger that they name.

    Raises:
        CertificateRefusedError: something is missing, of any of the units; says everything.
    """
    records = fold_units(events, units)
    archives = collect_archives(folder, events)
    missing: list[str] = []
    made = []
    last: list[Event] = []
    for unit in units:
        maker = _Maker(folder, events, unit, records[unit], archives.get(unit, ()))
        found = maker.make()
        missing += [f"{unit}: {why}" for why in maker.missing]
        last += maker.drawn
        if found is not None:
            made.append(found)
    if not units:
        missing.append("no unit is named")
    if missing:
        raise CertificateRefusedError(missing)
    end = max(last, key=lambda e: e.seq)
    county = made[0].dossier.county_name
    return Certificate(
        number=f"{end.at[:10].replace('-', '')}-{end.seq}-{end.hash[:8]}",
        county=county,
        target=end.target,
        rehearsal=end.target != "field",
        seq=end.seq,
        hash=end.hash,
        units=tuple(made),
    )


class _Maker:
    """Gathers one unit's part. `missing` is what stands against it, `drawn` the events it draws on."""

    def __init__(
        self, folder: Path, events: Sequence[Event], unit: str, record: UnitRecord, archives: Sequence[Archive]
    ) -> None:
        self.folder, self.unit, self.record = folder, unit, record
        self.events = [e for e in events if _is_about(e, unit)]
        self.archives = tuple(archives)
        self.missing: list[str] = []
        self.drawn: list[Event] = []

    def make(self) -> UnitCertificate | None:
        self._judge_record()
        dossier = self._find_dossier()
        done = self._find_outcomes()
        exceptions = tuple(self._find_exceptions())
        if self.missing or dossier is None:
            return None
        wanted = {step: done[end] for step, end in _PROVING.items()}
        proofs = [p for step, outcome in wanted.items() if (p := self._prove(step, outcome, dossier)) is not None]
        trial = self._find_trial({_evidence_of(outcome) for outcome in wanted.values()})
        if trial is not None and (found := self._prove(Step.PROVE, trial, dossier)) is not None:
            proofs = sorted([*proofs, found], key=lambda p: p.seq)
        removed = done[UnitState.REMOVED].moment
        until = (removed + timedelta(days=dossier.quarantine_days)).date()
        made = UnitCertificate(
            dossier=dossier,
            state=self.record.state,
            stages=tuple(_stage(state, event) for state, event in done.items()),
            setbacks=tuple(self._find_setbacks()),
            proofs=tuple(proofs),
            exceptions=exceptions,
            soak=self._find_soak(done),
            outages=tuple(self._find_outages(done, trial)),
            release=self._find_release(done),
            archives=self.archives,
            quarantine=tuple(HeldPrefix(prefix=p, until=until) for p in dossier.prefixes),
            runs=tuple(self._list_runs(proofs)),
        )
        return None if self.missing else made

    def _judge_record(self) -> None:
        if not self.record.state.reached(UnitState.REMOVED):
            self.missing.append(f"expected removed or later, found {self.record.state}")
        self.missing += [f"a change is unfinished ({event.key})" for event in self.record.open]
        self.missing += [f"the record holds what cannot be: {p}" for p in self.record.problems]

    def _find_dossier(self) -> Dossier | None:
        whole = [a for a in self.archives if a.whole and a.dossier is not None]
        for archive in self.archives:
            self.missing += [f"{device}: {why}" for device, why in archive.lost.items()]
            self.missing += [archive.problem] if archive.problem else []
        if not whole:
            self.missing.append("no configuration of its legacy routers is archived")
            return None
        if not any(a.state is UnitState.SHUT for a in whole):
            self.missing.append("nothing was archived right before its removal")
        named = {e.seq: e for e in self.events}
        self.drawn += [named[a.seq] for a in self.archives if a.seq in named]
        return whole[-1].dossier

    def _find_outcomes(self) -> dict[UnitState, Event]:
        """Return by state the outcome that took the unit on to it last, in the order of its life; what went back is gone."""
        out: dict[UnitState, Event] = {}
        for event in self.events:
            if event.kind is not Kind.OUTCOME or event.body.get("result") != "done":
                continue
            state = UnitState(event.body["state"])
            if state in out and (state is next(reversed(out)) or event.body.get("step") == Step.BACK):
                out = {s: e for s, e in out.items() if s.rank <= state.rank}  # where it had come to before, it still is
            else:
                out = {s: e for s, e in out.items() if s.rank < state.rank} | {state: event}
        if self.record.state.reached(UnitState.REMOVED):
            wanted = (UnitState.CUT_OVER, UnitState.SOAKED, UnitState.DRAINED, UnitState.SHUT, UnitState.REMOVED)
            self.missing += [f"the ledger does not say when it was {s}" for s in wanted if s not in out]
        self.drawn += out.values()
        return out

    def _prove(self, step: Step, outcome: Event, dossier: Dossier) -> Proof | None:
        """Return the measurements under which a step was kept."""
        digest = _evidence_of(outcome)
        event = next((e for e in self.events if e.kind is Kind.EVIDENCE and e.body.get("digest") == digest), None)
        if event is None:
            self.missing.append(f"the {step} names no evidence that is in the ledger")
            return None
        self.drawn.append(event)
        evidence = collect_evidence(self.folder, [event])[0]
        if evidence.problem:
            self.missing.append(f"the evidence of the {step} is lost: {evidence.problem}")
            return None
        results = [
            r for r in evidence.results if r.check.station in dossier.stations and r.check.plane == dossier.plane
        ]
        excused = self._find_excused(step, outcome)
        bad = [r for r in results if r.outcome is not Outcome.PASSED and not _is_excused(r, excused)]
        if not any(r.check.expect == "reach" for r in results):
            self.missing.append(f"the evidence of the {step} holds no measurement of its stations")
        if bad:
            self.missing.append(
                f"in the evidence of the {step} {len(bad)} of {len(results)} checks did not pass, "
                "and no exception that stood then names them"
            )
        if step is Step.CUTOVER and self.unit not in evidence.withheld:
            self.missing.append("its cutover was not measured with the old path withheld")
        made = _proof(step, evidence, event.seq, results, dossier, withheld=self.unit in evidence.withheld)
        return made.altered(**self._find_comparison(digest))

    def _find_comparison(self, digest: str) -> dict[str, int]:
        """Return how many checks of everybody else a proof compared, and how many differed."""
        for event in self.events:
            asked = event.body.get("questions")
            if event.kind is Kind.VERDICT and event.body.get("evidence") == digest and isinstance(asked, Mapping):
                return {"compared": int(asked["compared"]), "differing": len(asked.get("differences") or ())}
        return {}

    def _find_excused(self, step: Step, outcome: Event) -> tuple[Reason, ...]:
        """Return what valid exceptions to a step's gate excused when it was let begin."""
        begun = next((e for e in self.events if e.kind is Kind.INTENT and e.key == outcome.key), outcome)
        gate = step.value
        if step is Step.PROVE:
            moved = fold_units([e for e in self.events if e.seq < begun.seq], [self.unit])[self.unit]
            gate = next_stage(moved.state) if moved.state.reached(UnitState.CUT_OVER) else "cutover"
        waivers = fold_waivers((e for e in self.events if e.seq < begun.seq), _WIDEST)
        standing = (w for w in waivers if w.state(begun.moment) is WaiverState.STANDING)
        return tuple(r for w in standing if w.covers(self.unit, gate) for r in w.reasons)

    def _find_trial(self, known: Collection[str]) -> Event | None:
        """Return the last trial of its own, after which the old path was given back; None where its evidence is known."""
        tried = [e for e in self.events if e.kind is Kind.OUTCOME and e.body.get("step") == Step.PROVE]
        kept = [e for e in tried if e.body.get("result") == "done"]
        return kept[-1] if kept and _evidence_of(kept[-1]) not in {"", *known} else None

    def _find_exceptions(self) -> Iterator[ExceptionOnRecord]:
        mine = [e for e in self.events if e.kind is Kind.EXCEPTION]
        ended = {str(e.body["withdraws"]): str(e.body.get("by", "")) for e in mine if "withdraws" in e.body}
        agreed = {w.id: w for w in fold_waivers(mine, _WIDEST) if w.confirmed}
        self.drawn += mine
        for event in mine:
            body = event.body
            if "withdraws" in body or "confirms" in body:
                continue
            reasons = body.get("reasons", [])
            known = str(body.get("id", event.key))
            yield ExceptionOnRecord(
                id=known,
                gate=str(body.get("gate", "")),
                why=str(body.get("why", "")),
                by=str(body.get("by", event.actor)),
                approved_by=str(body.get("approved_by", "")) if known in agreed else "—",
                until=str(body.get("until", "")),
                recorded=event.moment,
                reasons=tuple(map(_say_reason, reasons if isinstance(reasons, list) else [reasons])),
                withdrawn_by=ended.get(known, ""),
                one_login=agreed[known].one_login if known in agreed else "",
            )

    def _find_setbacks(self) -> Iterator[Setback]:
        for event in self.events:
            body = event.body
            if event.kind is not Kind.OUTCOME or (body.get("result") == "done" and body.get("step") != Step.BACK):
                continue
            words = {name: str(body.get(name, "")) for name in ("step", "result", "reason")}
            yield Setback(at=event.moment, **words)

    def _find_soak(self, done: Mapping[UnitState, Event]) -> SoakOnRecord | None:
        """Return how the old line was watched; None where the ledger is of before that was written down."""
        told = done[UnitState.SOAKED].body.get("soak")
        if told is None:
            return None
        try:
            return SoakOnRecord.model_validate(told)
        except ValidationError:
            self.missing.append(f"event {done[UnitState.SOAKED].seq} does not say how its old line was watched")
            return None

    def _find_outages(self, done: Mapping[UnitState, Event], trial: Event | None) -> Iterator[FeltOutage]:
        kept = [done[state] for state in _PROVING.values()] + ([trial] if trial is not None else [])
        for event in sorted(kept, key=lambda e: e.seq):
            told = event.body.get("outage")
            if not isinstance(told, Mapping):
                continue
            names = [name for name in FeltOutage.model_fields if name != "step"]
            try:
                felt = FeltOutage.model_validate({"step": event.body["step"], **{name: told[name] for name in names}})
            except (KeyError, ValidationError):
                self.missing.append(f"event {event.seq} does not say what was felt at the windows")
                continue
            try:
                read_record(self.folder, felt.digest)
            except RecordLostError as error:
                self.missing.append(f"the outage record of the {felt.step} is lost: {error.why}")
                continue
            yield felt

    def _find_release(self, done: Mapping[UnitState, Event]) -> Release | None:
        event = done.get(UnitState.RELEASED)
        if event is None:
            return None
        try:
            return Release.model_validate(event.body.get("release"))
        except ValidationError:
            self.missing.append(f"event {event.seq} does not say how its line was given back")
            return None

    def _list_runs(self, proofs: Sequence[Proof]) -> Iterator[Run]:
        """Give the runs of the annex: those that decided, those about the unit, and of everybody's the last before each stage."""
        decided = {p.seq: p.step for p in proofs}
        intents = [e.seq for e in self.events if e.kind is Kind.INTENT]
        runs = [e for e in self.events if e.kind is Kind.EVIDENCE]
        before = {max((r.seq for r in runs if not r.body.get("units") and r.seq < i), default=0) for i in intents}
        for event in runs:
            units = tuple(map(str, event.body.get("units") or ()))
            if event.seq not in decided and not units and event.seq not in before:
                continue
            body = event.body
            checks = () if units else [r.check for r in collect_evidence(self.folder, [event])[0].results]
            yield Run(
                seq=event.seq,
                digest=str(body["digest"]),
                taken_from=_moment(float(body["taken_from"])),
                results=int(body["results"]),
                passed=int(body["passed"]),
                step=decided.get(event.seq),
                units=units,
                planes=tuple(sorted({c.plane for c in checks})),
                stations=len({c.station for c in checks}),
            )
            self.drawn.append(event)


def _is_about(event: Event, unit: str) -> bool:
    """Tell whether an event is about a unit; a run of evidence that names none is about everybody."""
    if event.unit is not None:
        return event.unit == unit
    units = event.body.get("units")
    if isinstance(units, list) and units:
        return unit in units
    return event.kind is Kind.EVIDENCE


def _evidence_of(outcome: Event) -> str:
    """Return the digest of the evidence that an outcome names; empty when it names none."""
    return str(outcome.body.get("evidence", ""))


def _is_excused(result: Result, excused: Iterable[Reason]) -> bool:
    """Tell whether a result failed at the station, and in just the way, that an excused reason names."""
    check = result.check
    return same_failure(result, (r for r in excused if (r.station, r.service) == (check.station, check.service)))


def _stage(state: UnitState, event: Event) -> StageDone:
    devices = event.body.get("devices")
    return StageDone(
        state=state,
        at=event.moment,
        actor=event.actor,
        seq=event.seq,
        change=event.key,
        evidence=str(event.body.get("evidence", "")),
        devices={str(d): str(sha) for d, sha in devices.items()} if isinstance(devices, dict) else {},
    )


def _proof(
    step: Step, evidence: Evidence, seq: int, results: Sequence[Result], dossier: Dossier, *, withheld: bool
) -> Proof:
    by_station: dict[str, list[Result]] = defaultdict(list)
    for result in results:
        by_station[result.check.station].append(result)
    return Proof(
        step=step,
        digest=evidence.digest,
        seq=seq,
        taken_from=_moment(evidence.taken_from),
        taken_to=_moment(evidence.taken_to),
        withheld=withheld,
        passed=sum(r.outcome is Outcome.PASSED for r in results),
        asked=len(results),
        stations=tuple(_count(s, dossier.stations[s], by_station.get(s, [])) for s in sorted(dossier.stations)),
        inventory=evidence.bound.inventory,
        plan=evidence.bound.plan,
        configs={d: sha for d, sha in evidence.bound.configs.items() if d in dossier.routers},
    )


def _moment(taken_s: float) -> datetime:
    return datetime.fromtimestamp(taken_s, UTC)


def _count(station: str, name: str, results: Sequence[Result]) -> StationCount:
    def share(chosen: Iterable[Result]) -> tuple[int, int]:
        found = list(chosen)
        return sum(r.outcome is Outcome.PASSED for r in found), len(found)

    reach = [r for r in results if r.check.expect == "reach"]
    return StationCount(
        station=station,
        name=name,
        services=tuple(sorted({r.check.service for r in reach})),
        ipv6=share(r for r in reach if r.check.family is Family.IPV6),
        ipv4=share(r for r in reach if r.check.family is Family.IPV4),
        closed=share(r for r in results if r.check.expect == "blocked"),
    )


def _say_reason(reason: Any) -> str:
    if not isinstance(reason, Mapping):
        return str(reason)
    where = " → ".join(str(reason[k]) for k in ("station", "service") if reason.get(k))
    return f"{where}: {reason.get('why', '')}" if where else str(reason.get("why", ""))
