"""Carry out one reversible change: intent first, timers armed on the devices, probes from the stations, then keep or go back.

Provisioning, cutover and retirement are all attempts of this one kind; they differ in what they change and what must
hold afterwards. Several attempts may run together; each is kept or goes back alone.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from migration.campaign import Campaign, Say, silent
from migration.events import Event, Kind
from migration.measuring import OnProgress, answering, keep, no_progress, read_bound, works
from migration.units import Step, UnitState, fold, intent_body, outcome_body
from nornir_tasks import changes as wire
from nornir_tasks.changes import Change, Committed
from nornir_tasks.hosts import build_nornir
from nornir_tasks.stations.collect import measure, measure_until
from nornir_tasks.stations.model import Check, Outcome, Result

if TYPE_CHECKING:
    from nornir.core import Nornir

Ending = Literal["done", "undone", "failed"]
"""`done`: kept. `undone`: the network is as before. `failed`: not known to be; the devices must be asked."""


@dataclass(frozen=True)
class Attempt:
    """One thing to try. `phases` are committed in order and confirmed in reverse.

    `must` are checks that have to pass afterwards; `must_work` checks whose service has to answer by whatever path
    (going back to a legacy line); `watch` checks whose service must go on answering if it did before.
    `units` move from `start` to `end` when it is kept; `withheld` are those whose old path the change takes away.
    """

    name: str
    step: Step
    phases: tuple[tuple[Change, ...], ...]
    must: tuple[Check, ...]
    watch: tuple[Check, ...] = ()
    must_work: tuple[Check, ...] = ()
    units: tuple[str, ...] = ()
    start: UnitState = UnitState.PLANNED
    end: UnitState = UnitState.PROVISIONED
    withheld: tuple[str, ...] = ()

    @property
    def devices(self) -> tuple[str, ...]:
        """Every device it touches."""
        return tuple(dict.fromkeys(c.device for phase in self.phases for c in phase))


@dataclass
class Ended:
    """How an attempt ended, and why."""

    name: str
    ending: Ending
    changed: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    results: list[Result] = field(default_factory=list)
    evidence: str = ""

    @property
    def ok(self) -> bool:
        """Tell whether it was kept."""
        return self.ending == "done"

    def as_json(self) -> dict[str, Any]:
        """Return it for machines."""
        return {
            "name": self.name,
            "ending": self.ending,
            "changed": self.changed,
            "unchanged": self.unchanged,
            "reasons": self.reasons,
            "checks": len(self.results),
            "passed": sum(r.outcome is Outcome.PASSED for r in self.results),
            "evidence": self.evidence,
        }


def new_change_id(campaign: Campaign, step: str) -> str:
    """Return a change id: when, what, and a few random digits; it names the change on devices and in the ledger."""
    return f"{campaign.clock.now():%Y%m%dT%H%M%S}-{step}-{secrets.token_hex(3)}"


def carry_out(
    campaign: Campaign,
    attempts: Sequence[Attempt],
    *,
    change_id: str,
    say: Say = silent,
    on_progress: OnProgress = no_progress,
) -> list[Ended]:
    """Try all attempts together. Whatever is not proven good goes back; an interrupt goes back and is recorded."""
    run = _Run(campaign, attempts, change_id, say, on_progress)
    try:
        return run.go()
    except BaseException as error:
        run.abandon(error)
        raise


class _Run:
    def __init__(
        self, campaign: Campaign, attempts: Sequence[Attempt], change_id: str, say: Say, on_progress: OnProgress
    ) -> None:
        self.campaign, self.attempts, self.change_id = campaign, list(attempts), change_id
        self.say, self.on_progress = say, on_progress
        self.ended = {a.name: Ended(a.name, "failed") for a in attempts}
        self.closed: set[str] = set()
        self.touched: dict[str, set[str]] = {}
        self.timers = campaign.county.policy.timers
        self.nornir: Nornir = build_nornir(
            campaign.county, campaign.access, sorted({d for a in attempts for d in a.devices})
        )

    def key(self, attempt: Attempt) -> str:
        return f"{self.change_id}/{attempt.name}"

    def go(self) -> list[Ended]:
        baseline = self._measure_baseline()
        for attempt in self.attempts:
            # What runs before is kept with the intent: after a crash it tells "went back" from "holds the change".
            before = {} if attempt.step is Step.PROVISION else self._digests(attempt)
            self.campaign.ledger.append(
                Kind.INTENT,
                self.key(attempt),
                intent_body(
                    attempt.step,
                    start=attempt.start,
                    end=attempt.end,
                    devices=attempt.devices,
                    change=self.change_id,
                    units=list(attempt.units),
                    before=before,
                ),
                unit=attempt.units[0] if len(attempt.units) == 1 else None,
            )
        live = self._commit_phases()
        if live:
            self._judge(live, baseline)
        return [self.ended[a.name] for a in self.attempts]

    def _digests(self, attempt: Attempt) -> dict[str, str]:
        return _read_digests(self.nornir, attempt.devices)

    def _measure_baseline(self) -> dict[str, frozenset[str]]:
        """Return, by watched check, which aspects of its service answer now: those must go on doing so."""
        watch = {c.id: c for a in self.attempts for c in a.watch}
        if not watch:
            return {}
        self.say(f"· before: {len(watch)} checks of what works today")
        seen = self._measure(list(watch.values()))
        return {r.check.id: answering(r) for r in seen if answering(r)}

    def _measure(self, checks: list[Check]) -> list[Result]:
        return measure(
            checks,
            self.campaign.county,
            self.campaign.access,
            hops=self.campaign.matrix.hops,
            on_station=self._ticker(checks),
        )

    def _ticker(self, checks: Iterable[Check]) -> Any:
        total = len({c.station for c in checks})
        names: set[str] = set()

        def on_station(station: str, *_: object) -> None:
            names.add(station)
            self.on_progress(len(names), total, f"stations answered, last {station}")

        return on_station

    def _commit_phases(self) -> list[Attempt]:
        """Commit every attempt's phases in order; an attempt with a failing device goes back at once."""
        live = list(self.attempts)
        for number in range(max((len(a.phases) for a in live), default=0)):
            batch = [c for a in live if number < len(a.phases) for c in a.phases[number]]
            if not batch:
                continue
            self.say(
                f"· change {self.change_id}: {len(batch)} devices, timers of {self.timers.revert_s} s armed on them"
            )
            out = self._commit(batch)
            for attempt in list(live):
                mine = [c.device for c in attempt.phases[number]] if number < len(attempt.phases) else []
                if self._take_stock(attempt, {d: out[d] for d in mine if d in out}, mine):
                    continue
                live.remove(attempt)
                self._go_back(attempt, self.ended[attempt.name].reasons[0])
            held = [c for c in batch if c.device in out and out[c.device].state == "held"]
            again = [c for c in held if any(c.device in a.devices for a in live)]
            if again:  # another attempt's device was refused; what is left of the wave goes on without it
                out = self._commit(again)
                for attempt in list(live):
                    mine = [c.device for c in again if c.device in attempt.devices]
                    if not self._take_stock(attempt, {d: out[d] for d in mine if d in out}, mine, last=True):
                        live.remove(attempt)
                        self._go_back(attempt, self.ended[attempt.name].reasons[0])
        return live

    def _commit(self, batch: Sequence[Change]) -> dict[str, Committed]:
        def on_event(event: wire.Event) -> None:
            self.on_progress(event.done, event.of, f"{event.phase}, last {event.device}")

        return wire.stage_and_commit(
            self.nornir, batch, revert_in_s=self.timers.revert_s, change_id=self.change_id, on_event=on_event
        )

    def _take_stock(
        self, attempt: Attempt, out: Mapping[str, Committed], devices: Iterable[str], *, last: bool = False
    ) -> bool:
        """Note what became of an attempt's devices; tell whether the attempt may go on."""
        ended = self.ended[attempt.name]
        for device in devices:
            found = out.get(device)
            if found is None:
                ended.reasons.append(f"{device}: no answer was recorded")
                self.touched.setdefault(attempt.name, set()).add(device)
                continue
            if found.state in {"committed", "failed", "unknown"}:
                self.touched.setdefault(attempt.name, set()).add(device)
            if found.state == "committed":
                ended.changed.append(device)
            elif found.state == "unchanged":
                ended.unchanged.append(device)
            elif found.state != "held" or last:
                ended.reasons.append(found.error or f"{device}: {found.state}")
        return not ended.reasons

    def _judge(self, live: list[Attempt], baseline: Mapping[str, frozenset[str]]) -> None:
        must = {c.id: c for a in live for c in a.must}
        began = self.campaign.clock.now().timestamp()
        self.say(f"· prove: {len(must)} checks from {len({c.station for c in must.values()})} stations")
        results: dict[str, Result] = {}
        if must:
            seen = measure_until(
                list(must.values()),
                self.campaign.county,
                self.campaign.access,
                hops=self.campaign.matrix.hops,
                until_s=self.timers.converge_s,
                on_station=self._ticker(must.values()),
            )
            results = {r.check.id: r for r in seen}
        watch = {c.id: c for a in live for c in a.watch if c.id in baseline and c.id not in must}
        broken = self._still_works(list(watch.values()), baseline)
        broken |= self._still_works([c for a in live for c in a.must_work], {})
        for attempt in live:
            self._decide(attempt, results, broken, began)

    def _still_works(
        self, checks: list[Check], baseline: Mapping[str, frozenset[str]], tries: int = 5
    ) -> dict[str, str]:
        """Return, by check id, why a service no longer answers as before (without a before: as it should); a few tries."""

        def good(check: Check, seen: Mapping[str, Result]) -> bool:
            result = seen.get(check.id)
            if result is None:
                return False
            return baseline[check.id] <= answering(result) if check.id in baseline else works(result)

        left = checks
        why: dict[str, str] = {}
        for _ in range(tries):
            if not left:
                return {}
            seen = {r.check.id: r for r in self._measure(left)}
            left = [c for c in left if not good(c, seen)]
            why = {c.id: (seen[c.id].why or seen[c.id].outcome.value if c.id in seen else "not measured") for c in left}
        return why

    def _decide(self, attempt: Attempt, results: Mapping[str, Result], broken: Mapping[str, str], began: float) -> None:
        ended = self.ended[attempt.name]
        mine = [results[c.id] for c in attempt.must if c.id in results]
        ended.results = mine
        missing = [c.id for c in attempt.must if c.id not in results]
        ended.reasons += [f"{m}: never measured" for m in missing]
        ended.reasons += [f"{r.check.id}: {r.why or r.outcome.value}" for r in mine if r.outcome is not Outcome.PASSED]
        ended.reasons += [
            f"{c.id}: worked before the change, now {broken[c.id]}" for c in attempt.watch if c.id in broken
        ]
        ended.reasons += [f"{c.id}: must answer, now {broken[c.id]}" for c in attempt.must_work if c.id in broken]
        if not attempt.must and not attempt.must_work:
            ended.reasons.append("no check was asked for, so nothing is proven")
        bound = read_bound(self.campaign) if mine else None
        if bound is not None:
            evidence = keep(
                self.campaign, mine, bound=bound, began=began, units=attempt.units, withheld=attempt.withheld
            )
            ended.evidence = evidence.digest
        if ended.reasons:
            self._go_back(attempt, f"{len(ended.reasons)} checks stand against it, first {ended.reasons[0]}")
            return
        if attempt.step is Step.CUTOVER:
            self._record_proof(attempt)
        self._confirm(attempt)

    def _record_proof(self, attempt: Attempt) -> None:
        """Write down that units are proven: everything passed while their old path was withheld."""
        self.campaign.ledger.append(
            Kind.OUTCOME,
            f"{self.key(attempt)}/proven",
            outcome_body(
                Step.PROVE,
                result="done",
                state=UnitState.PROVEN,
                devices={},
                reason="every check passed with the old path withheld",
                units=list(attempt.units),
                evidence=self.ended[attempt.name].evidence,
            ),
        )

    def _confirm(self, attempt: Attempt) -> None:
        """Confirm the newest phase first: should we vanish in between, the old path returns beside the new one."""
        ended = self.ended[attempt.name]
        for phase in reversed(attempt.phases):
            devices = [c.device for c in phase if c.device in ended.changed]
            if not devices:
                continue
            out = wire.confirm(self.nornir, devices, self.change_id)
            bad = [
                out[d].error if d in out else f"{d}: no answer was recorded"
                for d in devices
                if d not in out or not out[d].ok
            ]
            if bad:
                ended.reasons += bad
                self._go_back(attempt, f"not confirmed: {bad[0]}")
                return
        self._close(attempt, "done", "")

    def _go_back(self, attempt: Attempt, reason: str) -> None:
        ended = self.ended[attempt.name]
        self.say(f"! {attempt.name}: going back - {reason}")
        touched = self.touched.get(attempt.name, set())
        bad: list[str] = []
        for phase in reversed(attempt.phases):
            devices = [c.device for c in phase if c.device in touched]
            if devices:
                out = wire.roll_back(self.nornir, devices, self.change_id)
                bad += [
                    out[d].error if d in out else f"{d}: no answer was recorded"
                    for d in devices
                    if d not in out or not out[d].ok
                ]
        ended.reasons += [f"not seen to go back (its own timer will within {self.timers.revert_s} s): {b}" for b in bad]
        self._close(attempt, "failed" if bad else "undone", reason)

    def _close(self, attempt: Attempt, ending: Ending, reason: str) -> None:
        ended = self.ended[attempt.name]
        ended.ending = ending
        self.campaign.ledger.append(
            Kind.OUTCOME,
            self.key(attempt),
            outcome_body(
                attempt.step,
                result=ending,
                state=attempt.end if ending == "done" else attempt.start,
                devices=self._digests(attempt),
                reason=reason,
                units=list(attempt.units),
                evidence=ended.evidence,
            ),
            unit=attempt.units[0] if len(attempt.units) == 1 else None,
        )
        self.closed.add(attempt.name)

    def abandon(self, error: BaseException) -> None:
        """Something stopped us: bring back what is not yet decided, and say so in the ledger if it still takes it."""
        opened = {e.key for e in self.campaign.ledger.events(kind=Kind.INTENT)}
        for attempt in self.attempts:
            if attempt.name not in self.closed and self.key(attempt) in opened:
                self._go_back(attempt, f"interrupted: {type(error).__name__}")


def _read_digests(nornir: Nornir, devices: Iterable[str]) -> dict[str, str]:
    found = wire.read_configs(nornir, list(devices))
    return {name: out.value.digest for name, out in found.items() if out.ok and out.value is not None}


def finish_interrupted(campaign: Campaign, *, say: Say = silent) -> list[Event]:
    """Take up what an earlier run left open: ask the devices, bring unconfirmed changes back, write the outcomes.

    Runs before every command that changes the network, under the campaign's lock. A change that was fully confirmed
    before the crash is found again by the command itself, whose second run changes nothing and records it.
    """
    events = campaign.ledger.events()
    closed = {e.key for e in events if e.kind is Kind.OUTCOME}
    open_intents = [e for e in events if e.kind is Kind.INTENT and e.key not in closed]
    for event in open_intents:
        devices = [d for d in event.body.get("devices", []) if d in campaign.county.device_by_id]
        change_id = str(event.body.get("change", ""))
        say(f"! {event.key}: was interrupted - asking {len(devices)} devices")
        nornir = build_nornir(campaign.county, campaign.access, devices)
        out = wire.roll_back(nornir, devices, change_id)
        bad = [out[d].error if d in out else f"{d}: no answer" for d in devices if d not in out or not out[d].ok]
        digests = _read_digests(nornir, devices)
        before = dict(event.body.get("before") or {})
        holding = sorted(d for d, digest in before.items() if d in digests and digests[d] != digest)
        records = fold(events, campaign.county)
        units = [event.unit] if event.unit else list(event.body.get("units", []))
        state = records[units[0]].state if units and units[0] in records else UnitState(event.body["from"])
        campaign.ledger.append(
            Kind.OUTCOME,
            event.key,
            outcome_body(
                Step(event.body["step"]),
                result="failed" if bad or holding else "undone",
                state=state,
                devices=digests,
                reason="interrupted; unconfirmed changes went back"
                + (f"; not seen: {bad[0]}" if bad else "")
                + (
                    f"; {', '.join(holding)} holds the change: run the same command again to finish it"
                    if holding
                    else ""
                ),
                units=units,
            ),
            unit=event.unit,
        )
    return open_intents
