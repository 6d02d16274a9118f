"""The soak: whether an old line has been seen unused for long enough. Pure: no clock, no file, no network.

Samples count while they are clean and without a break: the newest run of samples of which each saw nobody, and between
each two of which no counter moved beyond routing hellos, no port lost its carrier, no router started anew and no sample
is missing. What breaks the run starts the soak again, and is named. A sample that does not know what the policy wants
known is not clean; a sample that is lost, or whose time is not the ledger's, is not clean either.

All times that decide are those at which the ledger took the samples: nobody can age a sample to make a soak longer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import Literal
from zoneinfo import ZoneInfo

from pydantic import Field

from inventory.model import DAYS, Model, Soak, Unit
from inventory.wording import counted, say_span
from migration.old_lines import line_of
from migration.proof import Reason, ReasonKind, Situation, say_wait
from migration.soak_findings import Finding, Lookout
from migration.soak_samples import SoakSample
from migration.units import UnitState

Stage = Literal["drain", "shut", "remove"]
_LEAST_SAMPLES = 2
"""Between two, counters show what moved: with less nothing is known."""

_STAGES: dict[UnitState, Stage] = {UnitState.DRAINED: "shut", UnitState.SHUT: "remove"}


def next_stage(state: UnitState) -> Stage:
    """Return the stage of retirement whose soak matters in a unit's state."""
    return _STAGES.get(state, "drain")


class Lack(Model):
    """What a soak still wants. `wait`: watching on mends it, and an exception may excuse it; else a look is missing.

    `aspect` names the wait, so that an exception to one is not one to another: what is awaited, and since when.
    """

    why: str
    wait: bool
    aspect: str = ""

    def __str__(self) -> str:
        return self.why


class SoakStanding(Model):
    """How far the soak of a unit's old line has come.

    `lacks` are what only time and more samples can mend; `against` what the newest sample saw. `since` is when the
    clean run began, `broken` what ended the one before.
    """

    unit: str
    samples: int
    wanted_samples: int
    watched_s: float
    wanted_s: float
    days: int
    wanted_days: int
    since: float | None = None
    last: float | None = None
    until: float | None = None
    """When it may be over at the earliest, if all stays clean."""
    lacks: tuple[Lack, ...] = ()
    against: tuple[Finding, ...] = Field(default=())
    broken: str = ""

    @property
    def over(self) -> bool:
        """Tell whether nothing is missing."""
        return not self.lacks and not self.against

    @property
    def waits(self) -> bool:
        """Tell whether time and samples are all that is missing."""
        return bool(self.lacks) and not self.against


class SoakOnRecord(Model):
    """How an old line was watched, as the ledger keeps it from the moment its soak was found over (or excused by `excused_by`).

    The clean samples from `begun` to `ended`, without a break, of which `last_sample` names the one before it, and so on.
    `days` are the business days that they covered: `samples_a_day` each inside `hours` of `time_zone`. In each sample the
    sources `known` spoke, and against nobody.
    """

    begun: datetime | None
    ended: datetime | None
    samples: int
    wanted_s: float
    days: int
    wanted_days: int
    samples_a_day: int
    hours: str
    time_zone: str
    known: tuple[str, ...]
    last_sample: str = ""
    excused_by: str = ""


def describe_soak(unit: Unit, situation: Situation, *, excused_by: str = "") -> SoakOnRecord:
    """Return what the ledger is to keep of a soak that ends now."""
    standing, policy = stand_soak(unit, situation), situation.policy.soak
    samples = situation.soak_by_unit.get(unit.id, ())
    moments = [None if at is None else datetime.fromtimestamp(at, UTC) for at in (standing.since, standing.last)]
    return SoakOnRecord(
        begun=moments[0],
        ended=moments[1] if moments[0] is not None else None,
        samples=standing.samples,
        wanted_s=standing.wanted_s,
        days=standing.days,
        wanted_days=standing.wanted_days,
        samples_a_day=policy.samples_a_day,
        hours=policy.hours,
        time_zone=policy.time_zone,
        known=policy.must_know,
        last_sample=samples[-1].digest if samples else "",
        excused_by=excused_by,
    )


def judge_soak(unit: Unit, situation: Situation, stage: Stage) -> Iterator[Reason]:
    """Give every reason why a unit's old line is not known to be unused.

    Of these only the wait can be excused by an exception: never that nobody looked, or what was seen. A soak that began
    anew is another wait, which no exception to the one before excuses.
    """
    standing = stand_soak(unit, situation, stage)
    for finding in standing.against:
        word = " is in use" if finding.kind in {"moved", "consumer"} else ""
        why = f"the old line of {unit.id}{word}: {finding}"
        yield Reason(station="", service="", why=why, kind=ReasonKind.IN_USE)
    restarted = ""
    if standing.broken and standing.since is not None and not standing.against:
        began = say_here(standing.since, situation.policy.soak)
        restarted = f" (it counts from {began}: {standing.broken})"
    for lack in standing.lacks:
        kind = ReasonKind.SOAK if lack.wait else ReasonKind.UNMEASURED
        yield Reason(station="", service="", why=f"{lack}{restarted}", kind=kind, aspect=lack.aspect)


def say_here(at: datetime | float, policy: Soak) -> str:
    """Write a moment by the county's own clocks, with how far they are from UTC."""
    return _write_in(at.timestamp() if isinstance(at, datetime) else at, policy.time_zone)


@lru_cache(maxsize=4096)  # a province's reasons name the same few moments over and over
def _write_in(at: float, time_zone: str) -> str:
    return datetime.fromtimestamp(at, ZoneInfo(time_zone)).isoformat(" ", "seconds")


def stand_soak(unit: Unit, situation: Situation, stage: Stage = "drain") -> SoakStanding:
    """Return how far the soak has come that a stage of retirement asks for.

    A drain asks for the whole soak since the cutover. A shut asks for the same of all that the line carried, and for a
    sample since the drain. A removal asks that nobody was seen since the ports went down: two samples at least.
    """
    return _Watch(Lookout(line_of(situation.county, unit), situation), stage).stand()


@dataclass
class _Watch:
    """One unit's samples, looked through once."""

    lookout: Lookout
    stage: Stage
    run: list[SoakSample] = field(default_factory=list)
    against: tuple[Finding, ...] = ()
    broken: str = ""

    def __post_init__(self) -> None:
        self.unit: Unit = self.lookout.unit
        self.policy: Soak = self.lookout.policy
        self.situation: Situation = self.lookout.situation
        # Worked out here and not when first asked: each unit of a province asks, once.
        self.begins = self._find_begin()
        self.samples = self._find_samples()

    def _find_begin(self) -> float | None:
        """Return when the stage's watch may begin; None: not yet."""
        entered = self.situation.record(self.unit.id).entered
        if self.stage == "remove":
            shut = entered.get(UnitState.SHUT)
            return shut.timestamp() if shut else None
        if self.stage == "shut":
            return self.lookout.quiet_since
        cut = entered.get(UnitState.CUT_OVER)
        return cut.timestamp() if cut else None

    def _find_samples(self) -> list[SoakSample]:
        """Return the unit's samples since then, in the ledger's order."""
        begins = self.begins
        if begins is None:
            return []
        return [s for s in self.situation.soak_by_unit.get(self.unit.id, ()) if s.recorded >= begins]

    def stand(self) -> SoakStanding:
        self.look()
        since = self.run[0].recorded if self.run else None
        last = self.samples[-1].recorded if self.samples else None
        watched = self.run[-1].recorded - self.run[0].recorded if self.run else 0.0
        short = self.stage == "remove"
        wanted_s = 0.0 if short else float(self.situation.policy.timers.soak_s)
        covered = 0 if short else self.covered_days()
        wanted_days = 0 if short else self.policy.business_days
        wanted = _LEAST_SAMPLES if short else self.policy.samples
        standing = SoakStanding(
            unit=self.unit.id,
            samples=len(self.run),
            wanted_samples=wanted,
            watched_s=max(0.0, watched),
            wanted_s=wanted_s,
            days=covered,
            wanted_days=wanted_days,
            since=since,
            last=last,
            until=since + wanted_s if since is not None else self.situation.now_s + wanted_s,
            against=self.against,
            broken=self.broken,
        )
        lacks = tuple(self.lacks(standing))
        return standing.model_copy(update={"lacks": lacks}) if lacks else standing

    def lacks(self, now: SoakStanding) -> Iterator[Lack]:
        """Say what time and more samples have to mend."""
        todo = f"run 'extranet soak {self.unit.id}' by cron"

        def lack(what: str, *, waits_for: str = "") -> Lack:
            why = f"the soak of {self.unit.id} is not over - {what}"
            return Lack(why=why, wait=bool(waits_for), aspect=say_wait(waits_for, now.since) if waits_for else "")

        if self.begins is None:
            states = {u.id: self.situation.record(u.id).state for u in self.lookout.line.carried}
            waiting = [u for u, state in states.items() if not state.reached(UnitState.CUT_OVER)]
            yield lack(f"its line still carries {', '.join(waiting) or self.unit.id}")
            return
        if not self.samples:
            yield lack(f"nobody has looked at its old line since {say_here(self.begins, self.policy)}: {todo}")
            return
        last = now.last or 0.0
        if self.situation.now_s - last > self.policy.longest_gap_s:
            limit = say_span(self.policy.longest_gap_s)
            yield lack(f"expected a sample within {limit}, the last is of {say_here(last, self.policy)}: {todo}")
        unasked = self.find_unasked()
        if unasked:
            name, family = unasked[0]
            what = f"expected {counted(len(unasked), 'name')} asked besides in the last sample, the first {name} ({family})"
            yield lack(f"{what}: {todo}")
        if now.samples < now.wanted_samples:
            what = (
                f"expected {counted(now.wanted_samples, 'clean sample')} without a break, found {now.samples}: {todo}"
            )
            yield lack(what, waits_for="samples" if now.samples >= _LEAST_SAMPLES else "")
        if now.watched_s < now.wanted_s:
            span, left = say_span(now.wanted_s), say_span(now.wanted_s - now.watched_s)
            end = now.until or 0.0
            ahead = f"until {say_here(end, self.policy)} at the earliest"
            when = ahead if end > self.situation.now_s else f"which the next sample covers: {todo}"
            yield lack(f"expected {span} watched, {left} left, {when}", waits_for="time")
        if now.days < now.wanted_days:
            policy = self.policy
            hours = f"{policy.samples_a_day} in {policy.hours} {policy.time_zone} each"
            what = f"expected samples on {counted(now.wanted_days, 'business day')} ({hours}), found {now.days}"
            yield lack(what, waits_for="business days")
        drained = self.situation.record(self.unit.id).entered.get(UnitState.DRAINED) if self.stage == "shut" else None
        if drained is not None and not any(s.taken_from >= drained.timestamp() for s in self.run):
            yield lack(f"expected a sample since it was drained ({say_here(drained, self.policy)}), found none: {todo}")

    def find_unasked(self) -> list[tuple[str, str]]:
        """Return the names of this plane's services, by family, that the newest sample did not ask for though it must."""
        wanted = self.situation.names_to_ask.get(self.unit.plane)
        if not wanted or "names" not in self.policy.must_know:
            return []
        asked = {(n.name, n.family) for n in self.samples[-1].names if n.plane == self.unit.plane}
        return [name for name in wanted if name not in asked]

    def covered_days(self) -> int:
        """Count the business days with enough samples inside the hours."""
        if not self.run:
            return 0
        moments, known = tuple([s.recorded for s in self.run]), self.situation.days_covered
        if moments not in known:
            known[moments] = self.count_days(moments)
        return known[moments]

    def count_days(self, moments: Iterable[float]) -> int:
        """Count the business days on which enough of these moments lie inside the hours."""
        (opens, closes), zone = self.policy.opening, self.policy.zone
        seen: Counter[str] = Counter()
        for moment in moments:
            at = datetime.fromtimestamp(moment, UTC).astimezone(zone)
            if DAYS[at.weekday()] in self.policy.days and opens <= at.time() < closes:
                seen[at.date().isoformat()] += 1
        return sum(n >= self.policy.samples_a_day for n in seen.values())

    def look(self) -> None:
        """Find the newest clean run, what the newest sample saw, and what broke the run before."""
        samples, place = self.samples, 0
        while place < len(samples):
            before, sample = samples[place - 1] if place else None, samples[place]
            place += 1
            if self.take(before, sample):
                same = self.lookout.count_same(sample, samples[place:])
                self.run += samples[place : place + same]
                place += same

    def take(self, before: SoakSample | None, sample: SoakSample) -> bool:
        """Look at one sample and what happened since the one before it; tell whether it goes on with a clean run."""
        found = list(self.lookout.see_sample(sample))
        between = list(self.lookout.see_since(before, sample)) if before is not None else []
        gap = self.gap(before, sample)
        self.against = tuple(self.dated(f) for f in dict.fromkeys([*found, *between]))
        if self.against or gap:
            self.broken = str(self.against[0]) if self.against else gap
        if found:
            self.run = []
        elif between or gap:
            self.run = [sample]
        else:
            self.run.append(sample)
        return not (found or between or gap)

    def gap(self, before: SoakSample | None, sample: SoakSample) -> str:
        """Say that too long passed between two samples; empty when not."""
        if before is None or sample.recorded - before.recorded <= self.policy.longest_gap_s:
            return ""
        limit = say_span(self.policy.longest_gap_s)
        found = say_span(sample.recorded - before.recorded)
        return f"nobody looked for {found} before {say_here(sample.recorded, self.policy)} - expected at most {limit}"

    def dated(self, finding: Finding) -> Finding:
        """Add when somebody was first seen there."""
        if not finding.who:
            return finding
        since = self.situation.first_seen.get((finding.device, finding.who))
        return finding if since is None else finding.model_copy(update={"since": since})
