"""What a change is felt as at the windows: watched from the stations, held against a budget, kept as a record.

Around every attempt that moves units, the services that worked before are tried ten times a second from the stations'
own legs. What a service was gone for counts when it is decided whether to keep the change: over budget it goes back by
itself, and so it does when a station's watch is not known - its session was lost, or it did not come to its rate - for
nothing measured is not nothing felt. Going back is watched, too.

A record is a file, `evidence/<digest>.watch.json.gz`: the digest is the sha256 over the canonical JSON inside, which
holds every single probe. The ledger's verdict and outcome of the attempt name the digest, so the chain covers it.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import time
import zlib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

from inventory.model import Family, Model, OutagePolicy
from inventory.wording import counted
from migration.events import Event, Kind, digest_of
from migration.evidence import EVIDENCE_DIR, write_content
from migration.moves import bystander_checks
from migration.units import Step
from nornir_tasks.stations.collect import OnStation
from nornir_tasks.stations.model import Check, Result
from nornir_tasks.stations.outage import Outage
from nornir_tasks.stations.watch import TIMEOUT_S, Target, Watching, choose_rate, choose_targets

if TYPE_CHECKING:
    from migration.campaign import Campaign, Say

FORMAT = 1
CHANGE, DECIDE, BACK, END = "change", "decide", "back", "end"
"""Marks: before the first device is told, when it is decided, when going back begins, and when that is over.

Attempts go back alone, so the last two may come several times and carry a number.
"""

LEAST_RATE = 0.5
"""A watch that came to less than this share of its rate is not known."""
MOST_BLIND_S = 2.0
"""How long an outage may stand in no gap at most; a watch blind for longer is not known."""
_RECOVERY_S = 30.0
_SPENT_EVERY_S = 1.0
_SPARE_S = 120.0
"""How long a watch may outlast the rollback timers."""


class TargetOutage(Model):
    """What was felt of one target. Without `worked` nothing answered before the change, so nothing could be gone.

    `back_s` is the part that belongs to going back. `unknown` says why the watch cannot be believed; what it saw is a
    lower bound then. `probes` failed or not, in the change's window; the rates are those asked for and come to.
    """

    station: str
    plane: str
    services: tuple[str, ...]
    family: Family
    worked: bool = True
    seconds: float = 0.0
    longest_s: float = 0.0
    gaps: int = 0
    back_s: float = 0.0
    open: bool = False
    resolution_s: float = 0.0
    probes: int = 0
    failed: int = 0
    asked_per_s: float = 0.0
    rate_per_s: float = 0.0
    unknown: str = ""

    @property
    def name(self) -> str:
        """`station/plane/service/family`, as its check is called."""
        return f"{self.station}/{self.plane}/{self.services[0]}/{self.family.value}"

    def why_not(self, budget_s: float) -> str:
        """Say what stands against keeping the change; empty when nothing does."""
        also = f" ({', '.join(self.services[1:])} on the same server)" if self.services[1:] else ""
        if self.unknown:
            return f"{self.name}: outage unknown: {self.unknown}{also}"
        if self.seconds > max(budget_s, self.resolution_s):
            longest = f", {self.longest_s:.1f} s at a stretch" if self.gaps > 1 else ""
            still = ", not over yet" if self.open else ""
            most = f"expected {budget_s:g} s at most, found {self.seconds:.1f} s"
            return f"{self.name}: outage - {most}{longest}{still}{also}"
        if self.open:
            return f"{self.name}: outage - expected over, found it gone for {self.seconds:.1f} s and still so{also}"
        return ""


class OutageRecord(Model):
    """What was felt of one attempt, worst first. `budget_s` is None where an outage is only measured: on a way back."""

    attempt: str
    budget_s: float | None
    rate_per_s: float
    targets: tuple[TargetOutage, ...]
    decided: bool = False
    digest: str = ""

    @property
    def known(self) -> tuple[TargetOutage, ...]:
        """Targets that worked before, and whose watch can be believed."""
        return tuple(t for t in self.targets if t.worked and not t.unknown)

    @property
    def file(self) -> str:
        """Where it is kept, relative to the county's folder."""
        return f"{EVIDENCE_DIR}/{self.digest}.watch.json.gz" if self.digest else ""

    def summary(self) -> dict[str, Any]:
        """Return what the ledger holds of it."""
        known = self.known
        return {
            "digest": self.digest,
            "file": self.file,
            "budget_s": self.budget_s,
            "rate_per_s": self.rate_per_s,
            "targets": len(self.targets),
            "felt": sum(t.seconds > 0 for t in known),
            "unknown": sum(bool(t.unknown) for t in self.targets),
            "did_not_work_before": [t.name for t in self.targets if not t.worked and not t.unknown][:20],
            "worst_s": max((t.seconds for t in known), default=None),
            "back_s": max((t.back_s for t in known), default=None),
            "resolution_s": max((t.resolution_s for t in known), default=None),
            "worst": [{"target": t.name, "seconds": t.seconds, "back_s": t.back_s} for t in known[:10]],
        }

    def as_json(self) -> dict[str, Any]:
        """Return it for machines."""
        return {**self.summary(), "by_target": [t.model_dump(mode="json") for t in self.targets]}


class Watched(Protocol):
    """What is watched of an attempt: what it moves must be reached, what is near must not feel it."""

    @property
    def name(self) -> str: ...
    @property
    def step(self) -> Step: ...
    @property
    def units(self) -> tuple[str, ...]: ...
    @property
    def must(self) -> tuple[Check, ...]: ...
    @property
    def must_work(self) -> tuple[Check, ...]: ...
    @property
    def watch(self) -> tuple[Check, ...]: ...


class BudgetSpentError(Exception):
    """An outage is over its budget while it is still being measured: no use to wait. Ends inside `steps`."""


def budget_of(step: Step, policy: OutagePolicy) -> float | None:
    """Return how long a service may be gone in a step; None where that is only measured."""
    if step in {Step.CUTOVER, Step.PROVE}:
        return policy.budget_s
    return policy.retire_budget_s if step in {Step.DRAIN, Step.SHUT, Step.REMOVE} else None


@dataclass
class _Mine:
    """What is watched of one attempt."""

    budget_s: float | None
    targets: tuple[Target, ...]


class OutageWatch:
    """The watch around one run of attempts; a context, which ends it. Nothing is watched before `begin`.

    Provisioning is not watched: it gives what is not there yet.
    """

    def __init__(self, campaign: Campaign, say: Say) -> None:
        self.campaign, self.say = campaign, say
        self.policy: OutagePolicy = campaign.county.policy.outage
        self.watching: Watching | None = None
        self.mine: dict[str, _Mine] = {}
        self.back_marks: dict[str, str] = {}
        """By attempt, the mark at which its going back began."""
        self._looked_at = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        watching, self.watching = self.watching, None
        if watching is not None:
            watching.__exit__(kind, error, trace)

    def begin(self, attempts: Sequence[Watched], worked: Collection[str]) -> dict[str, list[str]]:
        """Start watching; return, by attempt, why its stations cannot be watched: nothing may be touched then.

        `worked` are ids of near checks that answered just now; the others have nothing to lose.
        """
        for attempt in attempts:
            if attempt.step is Step.PROVISION:
                continue
            near = [c for c in self._near(attempt) if c.id in worked]
            targets = choose_targets((*attempt.must, *attempt.must_work), near)
            if targets:
                self.mine[attempt.name] = _Mine(budget_of(attempt.step, self.policy), targets)
        targets = _join(m.targets for m in self.mine.values())
        if not targets:
            return {}
        rate_per_s = choose_rate(targets, self.policy.rate_per_s, self.policy.most_per_s)
        deadline_s = self.campaign.county.policy.timers.revert_s + _SPARE_S
        self.watching = Watching(targets, self.campaign.access, rate_per_s=rate_per_s, deadline_s=deadline_s)
        ways, stations = counted(len(targets), "way"), counted(len(self.watching.sessions), "station")
        lower = f" ({self.policy.rate_per_s:g} asked: too many targets)" if rate_per_s < self.policy.rate_per_s else ""
        self.say(f"· watch: {ways} from {stations}, {rate_per_s:.3g} times a second{lower}")
        self.watching.__enter__()
        self.watching.mark(CHANGE)
        return {
            name: [why for t in self.mine[name].targets if (why := self._unwatched(t))][:20]
            for name, mine in self.mine.items()
            if mine.budget_s is not None
        }

    def _near(self, attempt: Watched) -> list[Check]:
        """Return what is near and must not feel it; what is far is measured before and after, and not watched."""
        if self.policy.stations != "near":
            return []
        units = [self.campaign.county.unit_by_id[u] for u in attempt.units]
        near = {c.id for c in bystander_checks(self.campaign, units)} if units else set()
        return [c for c in attempt.watch if c.id in near]

    def _unwatched(self, target: Target) -> str:
        why = self.watching.problem(target) if self.watching else ""
        return f"{target.station}: cannot be watched: {why}" if why else ""

    # --- what it says ---

    def spent(self, attempt: str) -> list[str]:
        """Return what is over budget or lost by now, so that going back need not wait."""
        mine, watching = self.mine.get(attempt), self.watching
        if mine is None or mine.budget_s is None or watching is None:
            return []
        out = []
        for target in mine.targets:
            # Only what failed often enough may be over; most targets need no arithmetic.
            enough = watching.failures(target) * target.every / watching.rate_per_s >= mine.budget_s * 0.5
            if watching.problem(target) or (enough and watching.failures(target) > 1):
                found = self._look(target)
                if found.unknown or found.seconds > max(mine.budget_s, found.resolution_s):
                    out.append(found)
        return [why for t in _worst_first(out) if (why := t.why_not(mine.budget_s))]

    def guard(self, attempts: Iterable[str], on_station: OnStation) -> OnStation:
        """Return a listener to measurements that ends them by BudgetSpentError once an attempt's budget is spent."""
        names = [n for n in attempts if n in self.mine]

        def guarded(station: str, results: Sequence[Result]) -> None:
            on_station(station, results)
            if time.monotonic() - self._looked_at >= _SPENT_EVERY_S:
                self._looked_at = time.monotonic()
                if any(self.spent(name) for name in names):
                    raise BudgetSpentError

        return guarded if names else on_station

    def judge(self, attempts: Iterable[str]) -> dict[str, list[str]]:
        """Return, by attempt, what was felt that stands against keeping it."""
        if self.watching is None:
            return {}
        self.watching.mark(DECIDE)
        out = {}
        for name in attempts:
            mine = self.mine.get(name)
            if mine is not None and mine.budget_s is not None:
                found = _worst_first(self._look(t, until=DECIDE) for t in mine.targets)
                out[name] = [why for t in found if (why := t.why_not(mine.budget_s))]
        return out

    # --- going back ---

    def mark_back(self, attempts: Iterable[str]) -> None:
        """Note that going back begins for some attempts."""
        new = [name for name in attempts if name in self.mine and name not in self.back_marks]
        if self.watching is not None and new:
            mark = f"{BACK}{len(self.back_marks)}"
            self.back_marks |= dict.fromkeys(new, mark)
            self.watching.mark(mark)

    def await_recovery(self, attempts: Iterable[str]) -> None:
        """Wait until what worked before answers again, so that the way back is measured to its end."""
        watching = self.watching
        if watching is None:
            return
        targets = _join(self.mine[n].targets for n in attempts if n in self.mine)
        targets = tuple(t for t in targets if not watching.problem(t) and self._look(t).worked)
        if not targets:
            return
        ends = time.monotonic() + _RECOVERY_S
        time.sleep(min(TIMEOUT_S + 3 / watching.rate_per_s, _RECOVERY_S))
        while time.monotonic() < ends and not all(watching.answers_now(t) or watching.problem(t) for t in targets):
            watching.wait(0.5)
        watching.mark(f"{END}{len(self.back_marks)}")

    # --- the record ---

    def record(self, attempt: str, *, decided: bool) -> OutageRecord | None:
        """Keep what was felt of an attempt so far as a file; None when it was not watched."""
        mine, watching = self.mine.get(attempt), self.watching
        if mine is None or watching is None:
            return None
        draft = OutageRecord(
            attempt=attempt,
            budget_s=mine.budget_s,
            rate_per_s=round(watching.rate_per_s, 3),
            targets=_worst_first(self._look(t, back=self.back_marks.get(attempt)) for t in mine.targets),
            decided=decided,
        )
        content = {
            "format": FORMAT,
            "felt": draft.model_dump(mode="json", exclude={"digest"}),
            "raw": watching.raw(mine.targets),
        }
        found = draft.model_copy(update={"digest": digest_of(content)})
        write_content(self.campaign.folder / found.file, content)
        return found

    def _look(self, target: Target, *, until: str | None = None, back: str | None = None) -> TargetOutage:
        """Say what was felt of a target until a mark, or until now; what came after the mark `back` stands apart."""
        watching = self.watching
        assert watching is not None  # noqa: S101 - only asked while it watches
        bare = TargetOutage(station=target.station, plane=target.plane, services=target.services, family=target.family)
        change_until = back or until
        felt = watching.outage(target, CHANGE, change_until)
        if felt is None:
            return bare.altered(worked=False, unknown=watching.problem(target) or "the watch had not begun")
        felt_back = watching.outage(target, back) if back else None
        asked = watching.rate_per_s / target.every
        window_s = watching.window_s(target, CHANGE, change_until)
        came_to = felt.probes / max(window_s - TIMEOUT_S, 1 / asked)
        return bare.altered(
            worked=felt.worked,
            seconds=round(felt.total_s, 3) if felt.worked else 0.0,
            longest_s=round(felt.longest_s, 3) if felt.worked else 0.0,
            gaps=len(felt.gaps) if felt.worked else 0,
            back_s=round(felt_back.total_s, 3) if felt_back and felt.worked else 0.0,
            open=felt.worked and (felt_back or felt).open,
            resolution_s=round(felt.resolution_s, 3),
            probes=felt.probes,
            failed=felt.failed,
            asked_per_s=round(asked, 3),
            rate_per_s=round(came_to, 2),
            unknown=watching.problem(target) or _disbelieve(felt, window_s, asked, came_to),
        )


def _disbelieve(felt: Outage, window_s: float, asked: float, came_to: float) -> str:
    """Say why a watch is no measurement; empty when it is one."""
    if window_s > 2 * TIMEOUT_S + 2 / asked and came_to < LEAST_RATE * asked:
        return f"the watch - expected {asked:.3g} probes a second, found {came_to:.2g}"
    blind_s = max(MOST_BLIND_S, 4 / asked)
    if felt.worked and felt.resolution_s > blind_s:
        return (
            f"the watch - expected a probe at least every {blind_s:g} s, found none known for {felt.resolution_s:.1f} s"
        )
    return ""


def _join(many: Iterable[Iterable[Target]]) -> tuple[Target, ...]:
    """Return targets once each: as often tried as whoever moves them asks."""
    out: dict[str, Target] = {}
    for targets in many:
        for target in targets:
            known = out.get(target.id)
            if known is None or target.every < known.every:
                out[target.id] = target
    return tuple(out.values())


def _worst_first(targets: Iterable[TargetOutage]) -> tuple[TargetOutage, ...]:
    return tuple(sorted(targets, key=lambda t: (not t.unknown, -t.seconds, -t.back_s, t.name)))


# --- reading records again ---


class RecordLostError(Exception):
    """A record's file is missing, changed or not readable; `why` is one line."""

    def __init__(self, why: str) -> None:
        self.why = why
        super().__init__(why)


def read_record(folder: Path, digest: str) -> OutageRecord:
    """Return a record by the digest that the ledger names.

    Raises:
        RecordLostError: it is not exactly what it was.
    """
    name = f"{EVIDENCE_DIR}/{digest}.watch.json.gz"
    if not re.fullmatch(r"[0-9a-f]{64}", digest):  # it becomes a file name
        raise RecordLostError(f"{digest!r} is not a digest")
    try:
        text = gzip.decompress((folder / name).read_bytes())
        found = hashlib.sha256(text).hexdigest()  # it is written as canonical JSON
        if found != digest:
            raise RecordLostError(f"{name} was changed - expected digest {digest[:12]}, found {found[:12]}")
        return OutageRecord.model_validate({**json.loads(text)["felt"], "digest": digest})
    except FileNotFoundError:
        raise RecordLostError(f"{name} is missing") from None
    except (OSError, EOFError, ValueError, KeyError, TypeError, RecursionError, zlib.error) as error:
        raise RecordLostError(f"{name} cannot be read ({type(error).__name__})") from error


class Felt(Model):
    """One attempt of the ledger with what was felt of it; `lost` says why its record is not there any more."""

    key: str
    at: str
    step: Step
    result: str
    units: tuple[str, ...]
    record: OutageRecord | None = None
    lost: str = ""


def collect_felt(folder: Path, events: Iterable[Event], *, steps: Collection[Step] = ()) -> tuple[Felt, ...]:
    """Return every watched attempt of the ledger that ended, oldest first; only of some steps when given."""
    out = []
    for event in events:
        told = event.body.get("outage") if event.kind is Kind.OUTCOME else None
        if not isinstance(told, dict) or (steps and Step(event.body["step"]) not in steps):
            continue
        units = (event.unit,) if event.unit else tuple(event.body.get("units", ()))
        base = Felt(key=event.key, at=event.at, step=Step(event.body["step"]), result=event.body["result"], units=units)
        try:
            out.append(base.altered(record=read_record(folder, str(told.get("digest", "")))))
        except RecordLostError as error:
            out.append(base.altered(lost=error.why))
    return tuple(out)


class StationOutage(Model):
    """One station over several attempts: the worst target, and all seconds of that target together."""

    station: str
    seconds: float
    longest_s: float
    back_s: float
    service: str
    targets: int
    felt: int
    unknown: int


def sum_by_station(felt: Iterable[Felt]) -> tuple[StationOutage, ...]:
    """Return stations, worst first: a target's seconds add up over attempts, and a station has its worst target's."""
    by_target: dict[str, list[TargetOutage]] = {}
    for one in felt:
        for target in one.record.targets if one.record else ():
            by_target.setdefault(target.name, []).append(target)
    by_station: dict[str, list[tuple[float, list[TargetOutage]]]] = {}
    for seen in by_target.values():
        by_station.setdefault(seen[0].station, []).append((sum(t.seconds for t in seen), seen))
    out = []
    for station, targets in by_station.items():
        seconds, worst = max(targets, key=lambda pair: pair[0])
        out.append(
            StationOutage(
                station=station,
                seconds=round(seconds, 3),
                longest_s=max(t.longest_s for t in worst),
                back_s=round(sum(t.back_s for t in worst), 3),
                service=worst[0].name.partition("/")[2],
                targets=len(targets),
                felt=sum(total > 0 for total, _ in targets),
                unknown=sum(any(t.unknown for t in seen) for _, seen in targets),
            )
        )
    return tuple(sorted(out, key=lambda s: (-s.seconds, s.station)))
