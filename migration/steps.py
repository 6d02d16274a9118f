"""Carry out one reversible change: intent first, timers armed on the devices, probes from the stations, then keep or go back.

Provisioning, cutover and retirement are all attempts of this one kind; they differ in what they change and what must
hold afterwards. Several attempts may run together; each is kept or goes back alone. What the ledger says of one:

    intent    before anything is touched
    verdict   what the proof came to; only once it says `allowed` is any device told to keep its change
    outcome   `done`, or `undone` when every device was seen to be as before

An intent without an outcome means that what some device holds is not known: `finish_interrupted` asks the devices.
"""

from __future__ import annotations

import secrets
import signal
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from types import FrameType
from typing import Any, Literal

from inventory.model import EXTRANET, Model, Unit
from inventory.wording import counted, say_span
from migration.campaign import Campaign, Say, silent, undisturbed
from migration.closed import Port, find_open, ports_to_be_down
from migration.events import Event, Kind
from migration.evidence import Bound, EvidenceWriteError, ended_at
from migration.gates import Verdict, judge_proof
from migration.ledger import LeaseLostError, LedgerError
from migration.ledger.leases import uptime_s
from migration.measuring import (
    OnProgress,
    answering,
    bind,
    count_passing,
    count_stations,
    devices_under_checks,
    keep,
    keep_policy,
    legacy_under_checks,
    no_progress,
    read_bound,
    read_situation,
    works,
)
from migration.moves import Phases, close_lines, keep_unknown_gateways, move_units
from migration.outage import BudgetSpentError, OutageRecord, OutageWatch
from migration.proof import Excused, same_failure
from migration.terms import note_needs
from migration.units import Step, UnitState, find_unit, intent_body, open_intents, outcome_body
from nornir_tasks import changes as wire
from nornir_tasks.changes import Change, Committed
from nornir_tasks.hosts import DeviceOutcome
from nornir_tasks.stations.collect import DEADLINE_S, measure, measure_until
from nornir_tasks.stations.model import Check, Outcome, Result

Ending = Literal["done", "undone", "failed"]
"""`done`: kept. `undone`: the network is as before. `failed`: not known to be; the next command asks the devices."""

_CONFIRM_S, _CONFIRM_ONE_S = 4.0, 0.3
"""What confirming may take, and how much more for each device: so much of the timer is never used for proving."""
_SETTLED_S = 5.0
"""How long what nobody should feel is given to turn good: no traffic is meant to move, so no route has to settle."""
_CLOSING = frozenset({Step.DRAIN, Step.SHUT, Step.REMOVE})
_PROVING = frozenset({Step.CUTOVER, Step.PROVE})
"""Steps after which units are called proven."""
_MOST_DIFFERENCES = 200
_TIMER_SLACK_S = 10.0
_WATCH_TRIES, _WATCH_PAUSE_S = 10, 1.0
"""How often others are asked again before what does not answer counts as broken: routes may still settle behind a change."""


@dataclass(frozen=True)
class Attempt:
    """One thing to try. `phases` are committed in order and confirmed in reverse.

    `must` are checks that have to pass afterwards; `must_work` checks whose service has to answer by whatever path
    (going back to a legacy line); `watch` checks whose service must go on answering if it did before.
    `units` move from `start` to `end` when it is kept; `withheld` are those whose old path the change takes away.
    A trial is never kept: it takes the old path away to prove that nobody needs it, and gives it back.
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
    trial: bool = False
    excused: tuple[Excused, ...] = ()
    """What the gate let pass by an exception: those checks are measured, and may fail in just that way."""

    @property
    def proven_state(self) -> UnitState:
        """Where its units stand once it is done: a trial alone calls a unit proven, and moves it nowhere else."""
        if not self.trial:
            return self.end
        return UnitState.PROVEN if self.start is UnitState.PROVISIONED else self.start

    @property
    def moves_nobody(self) -> bool:
        """Whether all it closes should be carrying nobody any more."""
        return self.step in _CLOSING or (self.trial and self.start.reached(UnitState.CUT_OVER))

    @property
    def devices(self) -> tuple[str, ...]:
        """Every device it touches."""
        return tuple(dict.fromkeys(c.device for phase in self.phases for c in phase))

    def accepts(self, result: Result | None) -> bool:
        """Tell whether a check that must pass did, or failed in a way that is excused."""
        return result is not None and (result.outcome is Outcome.PASSED or same_failure(result, self.excused))


class Difference(Model):
    """A check of somebody else that came out otherwise than before: what it was and what it is."""

    check: str
    before: str
    after: str


class Questions(Model):
    """The three questions of a proof (Batfish's): was it not already so, does it hold now, is all else as it was?

    `newly` checks passed only without the old path, `already` had passed beside it, `withheld_on` names the routers that
    took it away: none means that it was gone before. `compared` checks of everybody else were measured before and after;
    `differences` names those that differ, for better or worse.
    """

    already: int
    newly: int
    withheld_on: tuple[str, ...]
    holds: int
    asked: int
    compared: int
    differences: tuple[Difference, ...] = ()

    def __str__(self) -> str:
        gone = f"taken away on {', '.join(self.withheld_on)}" if self.withheld_on else "was gone before"
        return (
            f"old path {gone}; {self.holds} of {counted(self.asked, 'check')} hold without it "
            f"({self.already} held before, {self.newly} only now); of {self.compared} of everybody else "
            f"{len(self.differences) or 'none'} came out otherwise"
        )


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
    tried: bool = True
    touched: bool = False
    """Whether any device held the change for a time, or may have."""
    trial: bool = False
    questions: Questions | None = None
    outage: OutageRecord | None = None
    """What was felt of it at the windows; None when it was not watched."""

    @property
    def ok(self) -> bool:
        """Tell whether it was kept."""
        return self.ending == "done"

    @property
    def word(self) -> str:
        """How it ended, in a person's words: what was never applied did not go back."""
        if self.ending == "undone" and not self.touched:
            return "nothing was changed" if self.tried else "not tried"
        done = "proven, and given back" if self.trial else "kept"
        undone = "not proven, and given back" if self.trial else "went back"
        return {"done": done, "undone": undone, "failed": "outcome not known"}[self.ending]

    def as_json(self) -> dict[str, Any]:
        """Return it for machines."""
        return {
            "name": self.name,
            "ending": self.ending,
            "tried": self.tried,
            "touched": self.touched,
            "changed": self.changed,
            "unchanged": self.unchanged,
            "reasons": self.reasons,
            "checks": len(self.results),
            "passed": sum(r.outcome is Outcome.PASSED for r in self.results),
            "evidence": self.evidence,
            "questions": self.questions.model_dump(mode="json") if self.questions else None,
            "outage": self.outage.as_json() if self.outage else None,
        }


def new_change_id(campaign: Campaign, step: str) -> str:
    """Return a change id: when, what, and a few random digits; it names the change on devices and in the ledger."""
    return f"{campaign.clock.now():%Y%m%dT%H%M%S}-{step}-{secrets.token_hex(3)}"


def record_verdict(campaign: Campaign, verdict: Verdict) -> None:
    """Write a gate's word down, with the digests of all that it was given under, and the policy's values besides.

    What allows a cutover says as well what the unit's stations have to reach and not to reach: its terms (`terms`).
    """
    keep_policy(campaign)
    asked: dict[str, Any] = {}
    if verdict.gate == "cutover" and verdict.allowed and verdict.unit is not None:
        unit = find_unit(campaign.county, verdict.unit)
        asked = note_needs(campaign.county, unit)
    since = campaign.clock.now().timestamp() - campaign.county.policy.timers.evidence_ttl_s
    runs = [e.body for e in campaign.events() if e.kind is Kind.EVIDENCE and ended_at(e.body) >= since]
    campaign.ledger.append(
        Kind.VERDICT,
        f"{new_change_id(campaign, 'gate')}/{verdict.unit or verdict.gate}",
        {
            "gate": verdict.gate,
            "allowed": verdict.allowed,
            "reasons": len(verdict.reasons),
            "first": [str(r) for r in verdict.reasons[:20]],
            "excused": [str(r) for r in verdict.excused],
            "under": {
                **campaign.digests,
                "evidence": [str(body.get("digest", "")) for body in runs],
            },
            **asked,
        },
        unit=verdict.unit,
    )


def carry_out(
    campaign: Campaign,
    attempts: Sequence[Attempt],
    *,
    change_id: str,
    say: Say = silent,
    on_progress: OnProgress = no_progress,
) -> list[Ended]:
    """Try all attempts together. Whatever is not proven good goes back; an interrupt goes back and is recorded."""
    run = _Run(campaign, attempts, change_id, undisturbed(say), undisturbed(on_progress))
    with _polite_kills(), run.outage:
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
        self.ended = {a.name: Ended(a.name, "failed", trial=a.trial) for a in attempts}
        self.before: dict[str, Result] = {}
        """What was measured before anything was changed, by check."""
        self.opened: set[str] = set()
        self.closed: set[str] = set()
        self.touched: dict[str, set[str]] = {a.name: set() for a in attempts}
        """Devices that may hold the change; added before they are told, so that an interrupt forgets none."""
        self.timers = campaign.county.policy.timers
        self.armed_at: float | None = None
        self.ran: dict[str, str] = {}
        """What the old lines' routers ran before anything was changed, by digest."""
        self.given: dict[str, str] = {}
        """What each changed device was seen to run right after it was told, by digest."""
        self.holding: dict[str, str] = {}
        """What each changed device runs under its timer."""
        self.closes: dict[str, frozenset[Port]] = {}
        """The ports of old lines that each attempt needs down."""
        self.opened_again: dict[Port, str] = {}
        """Why ports of those are not known to be down."""
        self.kept: list[Attempt] = []
        """Attempts whose devices are told to keep the change."""
        self.confirmed: set[str] = set()
        """Attempts whose devices were all seen to have kept it."""
        self.outage = OutageWatch(campaign, say)
        self.abandoned = False

    def key(self, attempt: Attempt) -> str:
        return f"{self.change_id}/{attempt.name}"

    def go(self) -> list[Ended]:
        baseline = self._measure_baseline()
        county = self.campaign.county
        touched = {d for a in self.attempts for d in a.devices}
        self.ran = _read_digests(self.campaign, [d for d in touched if county.device_by_id[d].network != EXTRANET])
        for attempt in self.attempts:
            self._open(attempt)
        live = self._commit_phases(baseline)
        if live:
            self._judge(live, baseline)
        return [self.ended[a.name] for a in self.attempts]

    def _open(self, attempt: Attempt) -> None:
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
                phases=[[c.device for c in phase] for phase in attempt.phases],
                revert_s=self.timers.revert_s,
                trial=attempt.trial,
                ran={d: self.ran[d] for d in attempt.devices if d in self.ran},
            ),
            unit=_only(attempt.units),
        )
        self.opened.add(attempt.name)

    # --- measuring ---

    def _measure_baseline(self) -> dict[str, frozenset[str]]:
        """Return, by watched check, which aspects of its service answer now: those must go on doing so."""
        watch = {c.id: c for a in self.attempts for c in a.watch}
        watch |= {c.id: c for a in self.attempts if a.step in _PROVING for c in a.must}
        if not watch:
            return {}
        known = self.campaign.recent.find(list(watch.values()))
        left = [c for c in watch.values() if c.id not in known]
        as_before = "as just measured" if not left else f"{len(known)} of them just measured" if known else ""
        what = f"· before: {counted(len(watch), 'check')} of what works today"
        self.say(f"{what}, {as_before}" if as_before else what)
        self.before = known | {r.check.id: r for r in self._measure(left)}
        return {name: answering(r) for name, r in self.before.items() if answering(r)}

    def _measure(self, checks: list[Check], until_s: float | None = None, names: Sequence[str] = ()) -> list[Result]:
        began = uptime_s()
        results = self._ask_stations(checks, until_s, names)
        self.campaign.recent.note(results, began)
        return results

    def _ask_stations(self, checks: list[Check], until_s: float | None, names: Sequence[str]) -> list[Result]:
        """Measure once, or with `until_s` repeat what has not passed; never longer than the timers allow.

        Raises:
            BudgetSpentError: meanwhile the outage of one of the attempts in `names` is over its budget.
        """
        left_s = self._left_s()
        county, access, hops = self.campaign.county, self.campaign.access, self.campaign.matrix.hops
        if left_s <= 0 or not checks:
            return []
        if until_s is None:
            deadline_s = min(DEADLINE_S, left_s)
            on_station = self.outage.guard(names, count_stations(checks, self.on_progress))
            return measure(checks, county, access, hops=hops, deadline_s=deadline_s, on_station=on_station)
        until_s = min(until_s, left_s)
        on_station = self.outage.guard(names, count_passing(checks, self.on_progress, until_s=until_s))
        return measure_until(
            checks, county, access, hops=hops, until_s=until_s, deadline_s=until_s, on_station=on_station
        )

    def _left_s(self) -> float:
        """Return how long proving may still take before the first device may go back by itself."""
        if self.armed_at is None:
            return float("inf")
        reserve_s = _CONFIRM_S + _CONFIRM_ONE_S * sum(map(len, self.touched.values()))
        return self.timers.revert_s - reserve_s - (time.monotonic() - self.armed_at)

    # --- changing ---

    def _commit_phases(self, baseline: Mapping[str, frozenset[str]]) -> list[Attempt]:
        """Commit every attempt's phases in order; an attempt with a failing device goes back at once."""
        live = self._check_later_phases()
        live = self._drop(live, self.outage.begin(live, baseline) if live else {})
        for number in range(max((len(a.phases) for a in live), default=0)):
            if number:
                live = self._drop_spent(live)
            batch = [c for a in live if number < len(a.phases) for c in a.phases[number]]
            out = self._commit(live, batch)
            live = self._take_stock(live, out, batch)
            held = [c for c in batch if c.device in out and out[c.device].state == "held"]
            again = [c for c in held if any(c.device in a.devices for a in live)]
            if again:  # another attempt's device was refused; what is left of the wave goes on without it
                live = self._take_stock(live, self._commit(live, again), again, last=True)
        return live

    def _check_later_phases(self) -> list[Attempt]:
        """Have later phases' candidates checked before the first phase takes anything away; return what may go on."""
        later = [c for a in self.attempts for phase in a.phases[1:] for c in phase]
        if not later:
            return list(self.attempts)
        out = wire.compare(self.campaign.nornir, later)
        live = []
        for attempt in self.attempts:
            mine = [c.device for phase in attempt.phases[1:] for c in phase]
            bad = [_why_not(out, d) for d in mine if d not in out or not out[d].ok]
            self.ended[attempt.name].reasons += bad
            if not bad:
                live.append(attempt)
        self._go_back([a for a in self.attempts if a not in live])
        return live

    def _commit(self, live: Sequence[Attempt], batch: Sequence[Change]) -> dict[str, Committed]:
        if not batch:
            return {}

        def on_event(event: wire.Event) -> None:
            self.on_progress(event.done, event.of, f"{event.phase}, last {event.device}")

        devices = {c.device for c in batch}
        for attempt in live:
            self.touched[attempt.name] |= devices & set(attempt.devices)
        self.campaign.ledger.assure_lease(ask=True)
        self.campaign.recent.forget()
        began, revert_s = time.monotonic(), self.timers.revert_s
        provisioned = any(a.step is Step.PROVISION for a in live)
        out = wire.stage_and_commit(
            self.campaign.nornir,
            batch,
            revert_in_s=revert_s,
            change_id=self.change_id,
            on_event=on_event,
            forbid=keep_unknown_gateways(self.campaign) if provisioned else None,
            permit=self.campaign.ledger.assure_lease,
        )
        self.given |= {d: found.digest for d, found in out.items() if found.state == "committed" and found.digest}
        armed = sorted(d for d, found in out.items() if found.state == "committed")
        if armed:
            self.armed_at = self.armed_at or began
            names = ", ".join(armed[:6]) + (f" and {len(armed) - 6} more" if len(armed) > 6 else "")
            where = counted(len(armed), "device")
            self.say(f"  rollback timers of {revert_s} s armed on {where}: {names} ({self.change_id})")
        return out

    def _take_stock(
        self, live: list[Attempt], out: Mapping[str, Committed], batch: Sequence[Change], *, last: bool = False
    ) -> list[Attempt]:
        """Note what became of each device; attempts that cannot go on go back. Return the others."""
        bad = []
        for attempt in live:
            ended = self.ended[attempt.name]
            for device in (c.device for c in batch if c.device in attempt.devices):
                found = out.get(device)
                state = found.state if found else "unknown"
                if state in {"unchanged", "refused", "held"}:
                    self.touched[attempt.name].discard(device)
                if state == "committed":
                    ended.changed.append(device)
                elif state == "unchanged":
                    ended.unchanged.append(device)
                elif state != "held" or last:
                    ended.reasons.append((found.error if found else "") or f"{device}: {state}")
            if ended.reasons:
                bad.append(attempt)
        self._go_back(bad)
        return [a for a in live if a not in bad]

    def _drop(self, live: Sequence[Attempt], against: Mapping[str, Sequence[str]]) -> list[Attempt]:
        """Take back the attempts that something stands against; return the others."""
        bad = [a for a in live if against.get(a.name)]
        for attempt in bad:
            self.ended[attempt.name].reasons += against[attempt.name]
        self._go_back(bad)
        return [a for a in live if a not in bad]

    def _drop_spent(self, live: Sequence[Attempt]) -> list[Attempt]:
        """Take back the attempts whose outage is over its budget already."""
        return self._drop(live, {a.name: self.outage.spent(a.name) for a in live})

    # --- deciding ---

    def _prove(self, live: list[Attempt]) -> tuple[list[Attempt], dict[str, Result], dict[str, Result]]:
        """Measure what has to pass; attempts whose outage runs over its budget meanwhile go back at once.

        The first round asks for everybody else as well: where the new way is there at once, as it mostly is, nothing need
        be asked a second time. Return who goes on, what was seen of it and, of that one round, of everybody else.
        """
        while live := self._drop_spent(live):
            must = {c.id: c for a in live for c in a.must}
            others = {c.id: c for a in live for c in a.watch if c.id not in must} if must else {}
            names = [a.name for a in live]
            if must:
                stations = {c.station for c in must.values()}
                converge_s = float(self.timers.converge_s)
                if all(a.moves_nobody for a in live):
                    converge_s = min(converge_s, _SETTLED_S)
                longest_s = max(0.0, min(converge_s, self._left_s()))
                what = f"{counted(len(must), 'check')} from {counted(len(stations), 'station')}"
                beside = f", beside {len(others)} of everybody else" if others else ""
                self.say(f"· prove: {what}{beside}, repeated until they pass, at most {say_span(longest_s)}")
            try:
                seen = {r.check.id: r for r in self._measure([*must.values(), *others.values()], names=names)}
                if all(a.accepts(seen.get(c.id)) for a in live for c in a.must):
                    return live, {n: seen[n] for n in must}, {n: seen[n] for n in others if n in seen}
                found = self._measure(list(must.values()), converge_s, names)
            except BudgetSpentError:
                continue
            return live, {r.check.id: r for r in found}, {}
        return [], {}, {}

    def _judge(self, live: list[Attempt], baseline: Mapping[str, frozenset[str]]) -> None:
        withheld_at = self.campaign.clock.now()
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="bound") as pool:
            asked = self._devices_under(live) if any(a.must for a in live) else set()
            reading = pool.submit(read_bound, self.campaign, asked)
            live, results, others = self._prove(live)
            before = reading.result()
        if not live:
            return
        must = {c.id: c for a in live for c in a.must}
        passed = {r.check.id for r in results.values() if r.outcome is Outcome.PASSED}
        # What has failed already goes back without asking the bystanders as well.
        sound = [a for a in live if all(a.accepts(results.get(c.id)) for c in a.must)]
        watch = {c.id: c for a in sound for c in a.watch if c.id not in must}
        broken, differences = self._compare(list(watch.values()), baseline, others)
        broken |= self._find_broken([c for a in sound for c in a.must_work], {})
        bound = read_bound(self.campaign, self._devices_under(live))
        self.holding = {d: bound.configs[d] for a in live for d in self.ended[a.name].changed if d in bound.configs}
        self.closes = self._find_closed(live)
        self.opened_again = find_open(self.campaign, {port for ports in self.closes.values() for port in ports})
        if results:
            # What was changed while stations measured ran neither this nor that: it is not known.
            same = {d: c for d, c in bound.configs.items() if before.configs.get(d) == c}
            evidence = bind(
                self.campaign,
                list(results.values()),
                bound=bound.model_copy(update={"configs": same}),
                began=withheld_at.timestamp(),
                units={u for a in live for u in a.units},
                withheld={u for a in live for u in a.withheld if self._was_withheld(a, broken)},
            )
            keep(self.campaign, evidence)
            for attempt in live:
                self.ended[attempt.name].evidence = evidence.digest
        for attempt in live:
            ended = self.ended[attempt.name]
            ended.results = [results[c.id] for c in attempt.must if c.id in results]
            if attempt.step in _PROVING:
                ended.questions = self._answer(attempt, passed, len(watch), differences)
            ended.reasons += self._reasons_against(attempt, results, broken)
        self._ask_gate(live, bound, withheld_at)
        for name, why in self.outage.judge(a.name for a in live).items():
            self.ended[name].reasons += why
        self._check_time(live)
        with _undivided():
            for attempt in live:
                self.ended[attempt.name].outage = self.outage.record(attempt.name, decided=True)
                self._record_decision(attempt)
            self.kept = [a for a in live if not a.trial and not self.ended[a.name].reasons]
            done = self._confirm(self.kept)
        proven = [a for a in live if a.trial and not self.ended[a.name].reasons]
        self._end_trials(proven, baseline)
        self._go_back([a for a in live if a not in done and a not in proven])

    def _devices_under(self, live: Sequence[Attempt]) -> set[str]:
        """Return every router whose configuration a proof of some attempts is bound to."""
        must = [c for a in live for c in a.must]
        return {
            *devices_under_checks(self.campaign.county, must),
            *(d for a in live for d in a.devices),
            *legacy_under_checks(self.campaign, must),
        }

    def _find_closed(self, live: Sequence[Attempt]) -> dict[str, frozenset[Port]]:
        """Return the ports that each attempt needs down: of the old lines that it withholds, with all others as they are."""
        states = {u: r.state for u, r in self.campaign.records().items()} | {u: a.end for a in live for u in a.units}
        return {a.name: ports_to_be_down(self.campaign.county, a.withheld, states) for a in live}

    def _holds_what_it_was_given(self, device: str) -> bool:
        """Tell whether a changed device answers, and still runs what it ran right after it was told."""
        return device in self.holding and self.holding[device] == self.given.get(device, self.holding[device])

    def _was_withheld(self, attempt: Attempt, broken: Mapping[str, str]) -> bool:
        """Tell whether a run shows what it is like without an attempt's old paths: closed to the end, and nobody missed them."""
        closed = all(self._holds_what_it_was_given(d) for d in self.ended[attempt.name].changed)
        closed = closed and self.opened_again.keys().isdisjoint(self.closes[attempt.name])
        return closed and self._left_s() > 0 and not any(c.id in broken for c in (*attempt.watch, *attempt.must_work))

    def _compare(
        self, checks: list[Check], baseline: Mapping[str, frozenset[str]], seen: dict[str, Result]
    ) -> tuple[dict[str, str], tuple[Difference, ...]]:
        """Return what of everybody else no longer answers as before, by check, and all that came out otherwise.

        `seen` is a measurement of it made together with the proof; without one it is made now.
        """
        if not checks:
            return {}, ()
        seen = seen or {r.check.id: r for r in self._measure(checks)}
        broken = self._find_broken([c for c in checks if c.id in baseline], baseline, seen)
        differences = [
            Difference(check=c.id, before=self.before[c.id].outcome.value, after=found)
            for c in checks
            if c.id in self.before
            and (found := _outcome_of(seen, broken, self.before[c.id])) != self.before[c.id].outcome.value
        ]
        return broken, tuple(differences)

    def _answer(
        self, attempt: Attempt, passed: set[str], compared: int, differences: tuple[Difference, ...]
    ) -> Questions:
        """Answer the three questions about one attempt."""
        holds = [c.id for c in attempt.must if c.id in passed]
        already = sum(name in self.before and self.before[name].outcome is Outcome.PASSED for name in holds)
        return Questions(
            already=already,
            newly=len(holds) - already,
            withheld_on=tuple(self.ended[attempt.name].changed),
            holds=len(holds),
            asked=len(attempt.must),
            compared=compared,
            differences=differences[:_MOST_DIFFERENCES],
        )

    def _end_trials(self, attempts: Sequence[Attempt], baseline: Mapping[str, frozenset[str]]) -> None:
        """Give the old path back after a proof that went well, and see that everything is as it was before."""
        self.outage.mark_back(a.name for a in attempts)
        back = {a.name: self._bring_attempt_back(a) for a in attempts}
        self.outage.await_recovery(a.name for a in attempts)
        for attempt in attempts:
            ended = self.ended[attempt.name]
            left = [f"not seen to go back: {why}" for why in back[attempt.name].unseen]
            left += [f"{d}: holds the change; run the same command again" for d in back[attempt.name].holding]
            ended.reasons += left
            if left:
                ended.ending, ended.touched = "failed", True
        self.armed_at = None  # no timer runs any more
        for attempt in [a for a in attempts if not self.ended[a.name].reasons]:
            digests = _read_digests(self.campaign, self.touched[attempt.name])
            closed = attempt.start.reached(UnitState.CUT_OVER)
            how = "the old line closed" if closed else "the gateway off the old path"
            self._close(attempt, "done", digests, f"every check passed with {how}")
            broken = self._find_broken([c for c in attempt.must if c.id in baseline], baseline)
            self.ended[attempt.name].reasons += [
                f"{name}: worked before the old path was withheld, and does not since it was given back: {why}"
                for name, why in broken.items()
            ]

    def _find_broken(
        self,
        checks: list[Check],
        baseline: Mapping[str, frozenset[str]],
        first: Mapping[str, Result] | None = None,
    ) -> dict[str, str]:
        """Return, by check id, why a service no longer answers as before (without a before: as it should); a few tries.

        `first` is the first try, when it has been made already.
        """

        def good(check: Check, seen: Mapping[str, Result]) -> bool:
            result = seen.get(check.id)
            if result is None:
                return False
            return baseline[check.id] <= answering(result) if check.id in baseline else works(result)

        left = checks
        why = {c.id: "not measured" for c in checks}
        for number in range(_WATCH_TRIES):
            if not left or self._left_s() <= 0:
                break
            if number:
                time.sleep(_WATCH_PAUSE_S)
            seen = {r.check.id: r for r in self._measure(left)} if number or first is None else dict(first)
            left = [c for c in left if not good(c, seen)]
            why = {c.id: (seen[c.id].why or seen[c.id].outcome.value if c.id in seen else "not measured") for c in left}
        return why

    def _reasons_against(
        self, attempt: Attempt, results: Mapping[str, Result], broken: Mapping[str, str]
    ) -> Iterator[str]:
        """Give what the measurements say against keeping an attempt."""
        for check in attempt.must:
            result = results.get(check.id)
            if result is None:
                yield f"{check.id}: never measured"
            elif not attempt.accepts(result):
                yield f"{check.id}: {result.why or result.outcome.value}"
        yield from (f"{c.id}: worked before the change, now {broken[c.id]}" for c in attempt.watch if c.id in broken)
        yield from (f"{c.id}: must answer, now {broken[c.id]}" for c in attempt.must_work if c.id in broken)
        told: set[str] = set()
        for device in self.ended[attempt.name].changed:
            if self._holds_what_it_was_given(device):
                continue
            told.add(device)
            if device not in self.holding:
                yield f"{device}: does not answer, so what it holds is not known"
            else:
                yield f"{device}: runs other than what it was given - somebody changed it, or it was started anew"
        open_ports = sorted(self.closes[attempt.name] & self.opened_again.keys())
        yield from (self.opened_again[device, port] for device, port in open_ports if device not in told)
        # Going back only opens what was closed: where nothing works any more there is nothing left to prove.
        if not attempt.must and not attempt.must_work and attempt.step is not Step.BACK:
            yield "no check was asked for, so nothing is proven"

    def _ask_gate(self, live: Sequence[Attempt], bound: Bound, since: datetime) -> None:
        """Let the gate decide on cutovers whose measurements look good: it reads what was recorded, as it would later."""
        asked = [a for a in live if a.step in _PROVING and not self.ended[a.name].reasons]
        if not asked:
            return
        situation = read_situation(self.campaign, current=bound)
        for attempt in asked:
            for unit in attempt.units:
                verdict = judge_proof(unit, situation, since=since, together=attempt.withheld)
                self.ended[attempt.name].reasons += map(str, verdict.reasons)

    def _check_time(self, live: Sequence[Attempt]) -> None:
        """Confirm nothing that may go back by itself meanwhile: half a change would stay."""
        if self.armed_at is None or self._left_s() > 0:
            return
        used_s, revert_s = time.monotonic() - self.armed_at, self.timers.revert_s
        for attempt in live:
            if self.touched[attempt.name]:
                self.ended[attempt.name].reasons.insert(
                    0,
                    f"proving took {used_s:.0f} s of the {revert_s} s after which the devices go back by themselves: "
                    "too late to confirm; raise timers.revert_s in policy.yaml",
                )

    def _record_decision(self, attempt: Attempt) -> None:
        """Write down what the proof came to, before any device is told: after a crash it says what was meant."""
        ended = self.ended[attempt.name]
        changed = {d: self.holding[d] for d in ended.changed if d in self.holding}
        self.campaign.ledger.append(
            Kind.VERDICT,
            f"{self.key(attempt)}/verdict",
            {
                "gate": "proof",
                "allowed": not ended.reasons,
                "reasons": len(ended.reasons),
                "first": ended.reasons[:20],
                "units": list(attempt.units),
                "devices": changed,
                "evidence": ended.evidence,
                "trial": attempt.trial,
                "questions": ended.questions.model_dump(mode="json") if ended.questions else None,
                **({"outage": ended.outage.summary()} if ended.outage else {}),
            },
            unit=_only(attempt.units),
        )
        if attempt.step is Step.CUTOVER and not ended.reasons:
            self.campaign.ledger.append(
                Kind.OUTCOME,
                f"{self.key(attempt)}/proven",
                outcome_body(
                    Step.PROVE,
                    result="done",
                    state=UnitState.PROVEN,
                    devices={},
                    reason="every check passed with the gateway off the old path",
                    units=list(attempt.units),
                    evidence=ended.evidence,
                ),
            )

    def _confirm(self, attempts: Sequence[Attempt]) -> list[Attempt]:
        """Confirm the newest phase first: should we vanish in between, the old path returns beside the new one.

        Return the attempts whose devices all keep their change, closed as done.
        """
        kept = list(attempts)
        for number in reversed(range(max((len(a.phases) for a in kept), default=0))):
            mine = {
                a.name: [
                    c.device
                    for phase in a.phases[number : number + 1]
                    for c in phase
                    if c.device in self.ended[a.name].changed
                ]
                for a in kept
            }
            out = _confirm_patiently(self.campaign, [d for devices in mine.values() for d in devices], self.change_id)
            for attempt in list(kept):
                bad = [_why_not(out, d) for d in mine[attempt.name] if d not in out or not out[d].ok]
                self.ended[attempt.name].reasons += [f"not confirmed: {why}" for why in bad]
                if bad:
                    kept.remove(attempt)
        # A router whose daemons restarted meanwhile confirms as well, but runs what it had saved before the change.
        digests = _read_digests(self.campaign, [d for a in kept for d in self.ended[a.name].changed])
        for attempt in list(kept):
            changed = self.ended[attempt.name].changed
            bad = [
                f"{d}: confirmed, but runs other than what was proven"
                for d in changed
                if digests.get(d) != self.holding[d]
            ]
            self.ended[attempt.name].reasons += bad
            if bad:
                kept.remove(attempt)
        self.confirmed = {a.name for a in kept}
        for attempt in kept:
            self._close(attempt, "done", {d: digests[d] for d in self.ended[attempt.name].changed}, "")
        return kept

    # --- going back ---

    def _go_back(self, attempts: Sequence[Attempt]) -> None:
        """Bring attempts back and record it; one that is not seen to be back stays open in the ledger."""
        for attempt in attempts:
            ended = self.ended[attempt.name]
            reason = ended.reasons[0] if ended.reasons else "not kept"
            more = f" (and {len(ended.reasons) - 1} more)" if len(ended.reasons) > 1 else ""
            ended.touched = bool(self.touched[attempt.name])
            word = "going back" if ended.touched else "nothing was changed"
            self.say(f"! {attempt.name}: {word} - {reason}{more}")
        touched = [a.name for a in attempts if self.touched[a.name]]
        self.outage.mark_back(touched)
        backs = [self._bring_attempt_back(attempt) for attempt in attempts]
        if touched and not self.abandoned:
            self.outage.await_recovery(touched)
        for attempt, back in zip(attempts, backs, strict=True):
            ended = self.ended[attempt.name]
            ended.reasons += [f"not seen to go back: {why}" for why in back.unseen]
            ended.reasons += [f"{d}: holds the change; run the same command again" for d in back.holding]
            ended.ending = "failed" if back.unseen or back.holding else "undone"
            if not back.unseen:
                digests = _read_digests(self.campaign, self.touched[attempt.name])
                self._close(attempt, ended.ending, digests, ended.reasons[0])

    def _bring_attempt_back(self, attempt: Attempt) -> _Back:
        phases = [[c.device for c in p if c.device in self.touched[attempt.name]] for p in attempt.phases]
        changed = self.holding if attempt in self.kept else {}
        return _bring_back(self.campaign, self.change_id, phases, attempt.units, attempt.start, attempt.end, changed)

    def _close(self, attempt: Attempt, ending: Ending, digests: Mapping[str, str], reason: str) -> None:
        ended = self.ended[attempt.name]
        ended.ending, ended.touched = ending, bool(self.touched[attempt.name])
        if ended.touched or ending == "done":
            ended.outage = self._record_outage(attempt.name)
        self.campaign.ledger.append(
            Kind.OUTCOME,
            self.key(attempt),
            outcome_body(
                attempt.step,
                result=ending,
                state=attempt.proven_state if ending == "done" else attempt.start,
                devices=digests,
                reason=reason,
                units=list(attempt.units),
                evidence=ended.evidence,
                **({"outage": ended.outage.summary()} if ended.outage else {}),
            ),
            unit=_only(attempt.units),
        )
        self.closed.add(attempt.name)

    def _record_outage(self, name: str) -> OutageRecord | None:
        """Keep what was felt to the end; where the disk is full, the way back and its record matter more."""
        try:
            return self.outage.record(name, decided=False)
        except EvidenceWriteError as error:
            self.say(f"! {name}: what was felt of it is not kept - {error}")
            return None

    def abandon(self, error: BaseException) -> None:
        """Something stopped us: bring back what is not yet decided, and say so in the ledger if it still takes it.

        Who lost the county's lease touches no device any more, not even to bring it back: its timer does.
        """
        self.abandoned = True
        for name in self.confirmed - self.closed:
            self.say(f"! {name}: kept, but not recorded; the next command asks the devices and does it")
        left = [a for a in self.attempts if a.name in self.opened - self.closed - self.confirmed]
        if isinstance(error, LeaseLostError):
            for attempt in left:
                self.say(f"! {attempt.name}: left to the devices' own timers - {error.what}")
            return
        for attempt in left:
            self.ended[attempt.name].reasons.insert(0, _say_interrupt(error))
        for attempt in left:
            try:
                self._go_back([attempt])
            except LedgerError as unrecorded:
                self.say(f"! {attempt.name}: not recorded; the next command asks the devices - {unrecorded}")


# --- what both a run and the command after a crash do ---


@dataclass(frozen=True)
class _Back:
    """What came of bringing devices back: errors of those not seen to be, and those that keep the change for good."""

    unseen: tuple[str, ...]
    holding: tuple[str, ...]


def _bring_back(  # noqa: PLR0917 - one act, whose parts have no order of their own
    campaign: Campaign,
    change_id: str,
    phases: Sequence[Sequence[str]],
    units: Sequence[str],
    start: UnitState,
    end: UnitState,
    changed: Mapping[str, str],
    *,
    fired: bool = False,
) -> _Back:
    """Bring devices back, the last phase first; where one was confirmed already, make the change that undoes it.

    `changed` holds what each device runs with the change in force. With `fired` all timers are over: a device that
    cannot be asked has gone back by itself.
    """
    unseen: list[str] = []
    holding: list[str] = []
    campaign.recent.forget()
    for devices in reversed(phases):
        if devices:
            campaign.ledger.assure_lease(ask=True)
        permit = campaign.ledger.assure_lease
        out = wire.roll_back(campaign.nornir, devices, change_id, permit=permit) if devices else {}
        digests = _read_digests(campaign, [d for d in devices if d in changed and d in out and out[d].ok])
        for device in devices:
            if device in out and out[device].kind == "NotPendingError":
                holding.append(device)
            elif device not in out or not out[device].ok:
                unseen += [] if fired else [_why_not(out, device)]
            elif device in changed and device not in digests:
                unseen.append(f"{device}: does not answer")
            elif device in changed and digests[device] == changed[device]:
                holding.append(device)  # kept, and has been switched off and on since
    if holding and not unseen:
        undo = _undo(campaign, [campaign.county.unit_by_id[u] for u in units], start, end)
        undone = {c.device for phase in undo for c in phase}
        for number, phase in enumerate(undo):
            unseen += _push_now(campaign, [c for c in phase if c.device in holding], f"{change_id}-undo{number}")
        holding = [d for d in holding if d not in undone]
    return _Back(tuple(unseen), tuple(sorted(holding)))


def _undo(campaign: Campaign, units: Sequence[Unit], start: UnitState, end: UnitState) -> Phases:
    """Return the changes that undo a step. Units whose lines were closed may have stood in several states: each keeps its own."""
    if start.reached(UnitState.CUT_OVER) and end is UnitState.SHUT:
        return close_lines(campaign, units, reopen=True)
    return move_units(campaign, units, end, start)


def _push_now(campaign: Campaign, changes: Sequence[Change], change_id: str) -> list[str]:
    """Commit and confirm at once: only for what restores what was there before. Return what went wrong."""
    if not changes:
        return []
    revert_s, permit = campaign.county.policy.timers.revert_s, campaign.ledger.assure_lease
    campaign.ledger.assure_lease(ask=True)
    campaign.recent.forget()
    out = wire.stage_and_commit(campaign.nornir, changes, revert_in_s=revert_s, change_id=change_id, permit=permit)
    bad = [found.error or f"{d}: {found.state}" for d, found in out.items() if not found.ok]
    if bad:
        return bad
    done = _confirm_patiently(campaign, [d for d, found in out.items() if found.state == "committed"], change_id)
    return [_why_not(done, d) for d, found in done.items() if not found.ok]


def _confirm_patiently(campaign: Campaign, devices: Sequence[str], change_id: str) -> dict[str, DeviceOutcome[None]]:
    """Confirm; a session that broke is tried once more, for the word may not have arrived."""
    if not devices:
        return {}
    permit = campaign.ledger.assure_lease
    campaign.ledger.assure_lease(ask=True)
    out = wire.confirm(campaign.nornir, devices, change_id, permit=permit)
    again = [d for d in devices if d not in out or out[d].kind in {"DeviceUnreachableError", "NotRun"}]
    return out | wire.confirm(campaign.nornir, again, change_id, permit=permit) if again else out


def _why_not(out: Mapping[str, DeviceOutcome[Any]], device: str) -> str:
    return (out[device].error if device in out else "") or f"{device}: no answer was recorded"


def _read_digests(campaign: Campaign, devices: Iterable[str]) -> dict[str, str]:
    wanted = list(devices)
    return read_bound(campaign, wanted).configs if wanted else {}


def _outcome_of(seen: Mapping[str, Result], broken: Mapping[str, str], before: Result) -> str:
    """Say how a check came out after a few tries: `broken` names what never answered as before."""
    name = before.check.id
    if name in broken:
        found = seen[name].outcome.value if name in seen else Outcome.UNKNOWN.value
        return found if found != before.outcome.value else f"{found}: {broken[name]}"
    if before.outcome is Outcome.PASSED:
        return before.outcome.value  # it came to be as before within a few tries
    return seen[name].outcome.value if name in seen else Outcome.UNKNOWN.value


def _only(units: Sequence[str]) -> str | None:
    return units[0] if len(units) == 1 else None


@dataclass(frozen=True)
class Finished:
    """An interrupted attempt that was taken up: how it ended, or why that is still not known (`open`)."""

    key: str
    step: Step
    units: tuple[str, ...]
    ending: Ending
    reason: str
    open: bool = False


def finish_interrupted(campaign: Campaign, *, say: Say = silent) -> list[Finished]:
    """Take up what an earlier run left open: ask the devices, and write the outcomes that they tell.

    Runs before every command that changes the network, under the campaign's lock. Where the proof had passed and every
    device keeps its change, or still can, the step is done; else all of it goes back. While a device that may hold the
    change cannot be asked, the intent stays open and the gates hold what it touches.
    """
    events = campaign.ledger.events()
    verdicts = {e.key: e.body for e in events if e.kind is Kind.VERDICT}
    out = []
    for event in open_intents(events):
        say(f"! {event.key}: was interrupted - asking {counted(len(event.body['devices']), 'device')}")
        found = _finish(campaign, event, verdicts.get(f"{event.key}/verdict", {}))
        say(f"  {'still open' if found.open else found.ending} - {found.reason}")
        out.append(found)
    return out


def _finish(campaign: Campaign, event: Event, verdict: Mapping[str, Any]) -> Finished:
    body, known = event.body, campaign.county.device_by_id
    change_id = str(body["change"])
    phases = [[d for d in phase if d in known] for phase in body["phases"]]
    units = [u for u in body.get("units", []) if u in campaign.county.unit_by_id]
    start, end = UnitState(body["from"]), UnitState(body["to"])
    kept = {d: str(digest) for d, digest in verdict.get("devices", {}).items() if d in known}
    meant = bool(verdict.get("allowed")) and not body.get("trial")  # a trial is never kept

    def finished(ending: Ending, reason: str, *, still_open: bool = False) -> Finished:
        if not still_open:
            record = campaign.records().get(units[0]) if units else None
            campaign.ledger.append(
                Kind.OUTCOME,
                event.key,
                outcome_body(
                    Step(body["step"]),
                    result=ending,
                    state=end if ending == "done" else record.state if record else start,
                    devices=_read_digests(campaign, [d for p in phases for d in p]),
                    reason=reason,
                    units=list(body.get("units", [])),
                    evidence=str(verdict.get("evidence", "")),
                ),
                unit=event.unit,
            )
        return Finished(event.key, Step(body["step"]), tuple(units), ending, reason, still_open)

    if meant:
        bad, deaf = _confirm_rest(campaign, kept, change_id)
        if deaf:
            return finished("failed", f"what it holds is not known yet: {deaf[0]}", still_open=True)
        if not bad:
            return finished("done", "interrupted after the proof had passed; every device keeps the change")
    # Without a verdict to keep it, no device was ever told to: once the timers are over, all have gone back.
    age_s = (campaign.clock.now() - event.moment).total_seconds()
    fired = not meant and age_s > float(body.get("revert_s", 0)) + _TIMER_SLACK_S
    back = _bring_back(campaign, change_id, phases, units, start, end, kept if meant else {}, fired=fired)
    if back.unseen:
        return finished("failed", f"not seen to go back: {back.unseen[0]}", still_open=True)
    if back.holding:
        what = f"{', '.join(back.holding)} hold the change, others went back: run the same command again"
        return finished("failed", f"interrupted; {what}")
    return finished("undone", "interrupted; everything went back")


def _confirm_rest(campaign: Campaign, kept: Mapping[str, str], change_id: str) -> tuple[list[str], list[str]]:
    """Confirm what was meant to be kept; return what has gone back, and who cannot be asked."""
    out = _confirm_patiently(campaign, list(kept), change_id)
    answered = [d for d in kept if d in out and (out[d].ok or out[d].kind == "NotPendingError")]
    deaf = [_why_not(out, d) for d in kept if d not in answered]
    # What it runs decides: switched off and on since, it may know of no confirm, or have confirmed what it had before.
    digests = _read_digests(campaign, answered)
    deaf += [f"{d}: does not answer" for d in answered if d not in digests]
    return [d for d in digests if digests[d] != kept[d]], deaf


# --- interrupts ---


@contextmanager
def _handling(*numbers: signal.Signals, by: Any) -> Iterator[None]:
    """Have signals handled differently for a while; only the main thread may, elsewhere nothing changes."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, by) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)


def _interrupt_by(number: int) -> KeyboardInterrupt:
    """Return the interrupt that a signal stands for; Python's own for Ctrl-C names nothing."""
    return KeyboardInterrupt() if number == signal.SIGINT else KeyboardInterrupt(signal.Signals(number).name)


def _say_interrupt(error: BaseException) -> str:
    """Say what stopped a run: a signal in a person's words, anything else as the error has it."""
    if isinstance(error, KeyboardInterrupt):
        return f"interrupted by {str(error) or 'Ctrl-C'}"
    return f"interrupted: {str(error) or type(error).__name__}"


@contextmanager
def _polite_kills() -> Iterator[None]:
    """Let a polite kill and a closed terminal end us as Ctrl-C does, so that devices are brought back at once."""

    def interrupt(number: int, _frame: FrameType | None) -> None:
        raise _interrupt_by(number)

    with _handling(signal.SIGTERM, signal.SIGHUP, by=interrupt):
        yield


@contextmanager
def _undivided() -> Iterator[None]:
    """Let interrupts wait until this is through: deciding, confirming and their record are one piece, and short."""
    came: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        came.append(number)

    with _handling(signal.SIGINT, signal.SIGTERM, signal.SIGHUP, by=note):
        yield
    if came:
        raise _interrupt_by(came[0])
