"""What the plays do: the suite's own jobs, as values in and one outcome by router, station or unit out.

Nothing here knows Ansible. Each job calls the same front door as the command of its name, so it passes the same gates.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, ValidationError

from inventory.errors import ExtranetError, UnknownNameError
from inventory.model import Model
from inventory.wording import counted
from migration.campaign import Campaign, Say, open_campaign, silent
from migration.measuring import OnProgress, no_progress

if TYPE_CHECKING:
    from migration.cutover import UnitReport
    from migration.ledger import Ledger
    from migration.steps import Ended

GOOD, FAILED, BAD_INPUT, REFUSED, UNKNOWN = 0, 1, 2, 3, 4
"""The suite's exit codes; of several, the highest counts."""

_ENDED = {"done": GOOD, "undone": FAILED, "failed": UNKNOWN}
_ENOUGH = 6
_HOW_TO_NAME = {
    "devices": "name routers or sites, or run the play on the group extranet",
    "stations": "name stations, or run the play on the group stations",
    "units": "name the units: -e units=NETWORK@SITE,...",
}


class JobError(ExtranetError):
    """A job was asked for in a way it does not know."""

    def __init__(self, job: str, what: str, todo: str) -> None:
        super().__init__(f"{job}: {what}; {todo}")


class Outcome(Model):
    """What became of one router, station or unit. `diff`: what was or would be changed, for people."""

    name: str
    exit_code: int
    changed: bool = False
    summary: str = ""
    reasons: tuple[str, ...] = ()
    diff: str = ""

    @property
    def ok(self) -> bool:
        """Tell whether it is as it should be."""
        return self.exit_code == GOOD


class JobReport(Model):
    """One outcome for everything asked, in that order."""

    job: str
    target: str
    check: bool
    summary: str
    outcomes: tuple[Outcome, ...]

    @property
    def exit_code(self) -> int:
        """The worst outcome's; a job that did nothing has failed."""
        return max((o.exit_code for o in self.outcomes), default=FAILED)


class Onlooker(Campaign):
    """A campaign opened for `--check`: its ledger cannot be written, not even made."""

    @cached_property
    def ledger(self) -> Ledger:
        """The county's ledger, for reading only."""
        return self.ledger_for_reading()


def _split(value: object) -> object:
    """Take a list, or names in one text with commas between (also Chinese ones), as plays give them."""
    if isinstance(value, str):
        value = value.replace("，", ",").replace("、", ",").split(",")
    if not isinstance(value, Iterable) or isinstance(value, Mapping):
        return value
    return tuple(text for item in value if (text := str(item).strip()))


Names = Annotated[tuple[str, ...], BeforeValidator(_split), Field(min_length=1)]


class Job(Model):
    """A job with its arguments; unknown or empty ones are refused, because leaving a name out must not mean all."""

    name: ClassVar[str]

    def run(self, campaign: Campaign, *, check: bool, say: Say, on_progress: OnProgress) -> JobReport:
        """Do it; with `check`, only find out what would be done."""
        raise NotImplementedError


class Push(Job):
    """Push the intended configuration to extranet routers (ids, names or sites)."""

    name = "push"
    devices: Names

    def run(self, campaign: Campaign, *, check: bool, say: Say, on_progress: OnProgress) -> JobReport:
        """Push, prove and confirm domain by domain; with `check`, compare."""
        from migration.provision import choose_devices, group_by_domain, preview, provision

        devices = choose_devices(campaign, self.devices)
        found: dict[str, Outcome] = {}
        if check:
            seen = preview(campaign, devices, on_progress=on_progress)
            for name, diff in seen.diffs.items():
                word = "would change" if diff else "as intended"
                found[name] = Outcome(name=name, exit_code=GOOD, changed=bool(diff), summary=word, diff=diff)
            for name, why in seen.unknown.items():
                found[name] = Outcome(name=name, exit_code=UNKNOWN, summary="could not be asked", reasons=(why,))
            if not seen.verdict.allowed:
                why_not = tuple(map(str, seen.verdict.reasons))
                refused = {"exit_code": REFUSED, "summary": "the gate would refuse the push", "reasons": why_not}
                found |= {name: o.altered(**refused) for name, o in found.items() if o.ok}
        else:
            report = provision(campaign, devices, say=say, on_progress=on_progress)
            domains = group_by_domain(campaign, devices)
            for ended in report.domains:
                found |= {name: _router_outcome(name, ended) for name in domains[ended.name]}
        return _report(self, campaign, devices, found, check=check)


class Verify(Job):
    """Measure stations (ids or names) against what they need and what they must not reach."""

    name = "verify"
    stations: Names

    def run(self, campaign: Campaign, *, check: bool, say: Say, on_progress: OnProgress) -> JobReport:
        """Measure and record the evidence; with `check`, measure only."""
        from migration.measuring import choose_stations
        from migration.verify import verify
        from nornir_tasks.stations.collect import measure
        from nornir_tasks.stations.model import Outcome as Seen
        from nornir_tasks.stations.model import Result

        stations = choose_stations(campaign, self.stations)
        by_station: dict[str, list[Result]] = {}
        if check:
            checks = campaign.matrix.for_stations(stations).checks
            for result in measure(checks, campaign.county, campaign.access, hops=campaign.matrix.hops):
                by_station.setdefault(result.check.station, []).append(result)
        else:
            by_station = verify(campaign, stations=stations, say=say, on_progress=on_progress).by_station()
        found: dict[str, Outcome] = {}
        for name, results in by_station.items():
            bad = [r for r in results if r.outcome is not Seen.PASSED]
            found[name] = Outcome(
                name=name,
                exit_code=FAILED if bad else GOOD,
                summary=f"{len(results) - len(bad)} of {counted(len(results), 'check')} passed",
                reasons=tuple(f"{r.check.id}: {r.why or r.outcome.value}" for r in bad),
            )
        return _report(self, campaign, stations, found, check=check)


class Cutover(Job):
    """Cut units over, or with `back` take that back."""

    name = "cutover"
    units: Names
    back: bool = False

    def run(self, campaign: Campaign, *, check: bool, say: Say, on_progress: OnProgress) -> JobReport:
        """Try, prove, keep or go back, unit by unit; with `check`, ask the gate."""
        from migration.cutover import cutover, give_back

        units = campaign.find_units(self.units)
        if self.back:
            done = [give_back(campaign, u, apply=not check, say=say, on_progress=on_progress) for u in units]
        else:
            done = cutover(campaign, units, apply=not check, say=say, on_progress=on_progress)
        return _unit_report(self, campaign, [u.id for u in units], done, check=check)


class Prove(Job):
    """Prove that nobody needs units' old paths: withheld together, measured, given back."""

    name = "prove"
    units: Names

    def run(self, campaign: Campaign, *, check: bool, say: Say, on_progress: OnProgress) -> JobReport:
        """Withhold, measure, give back; with `check`, ask the gate."""
        from migration.prove import prove

        units = campaign.find_units(self.units)
        done = prove(campaign, units, apply=not check, say=say, on_progress=on_progress)
        return _unit_report(self, campaign, [u.id for u in units], done, check=check)


class Retire(Job):
    """Retire units' old links as far as `until`, or with `undo` take the last stage back."""

    name = "retire"
    units: Names
    until: Literal["drained", "shut", "removed"] = "removed"
    undo: bool = False
    wait: bool = False

    def run(self, campaign: Campaign, *, check: bool, say: Say, on_progress: OnProgress) -> JobReport:
        """Drain, shut, hold and remove, each behind its gate; with `check`, ask the next stage's gate."""
        from migration.retire import retire, undo

        units = campaign.find_units(self.units)
        if self.undo:
            done = undo(campaign, units, apply=not check, say=say, on_progress=on_progress)
        else:
            done = retire(
                campaign, units, apply=not check, until=self.until, wait=self.wait, say=say, on_progress=on_progress
            )
        return _unit_report(self, campaign, [u.id for u in units], done, check=check)


JOBS: dict[str, type[Job]] = {job.name: job for job in (Push, Verify, Cutover, Prove, Retire)}


def make_job(name: str, arguments: Mapping[str, object]) -> Job:
    """Make a job from what a play gives; JobError or UnknownNameError says what is wrong with it."""
    if name not in JOBS:
        raise UnknownNameError("job", name, list(JOBS), listed=True)
    try:
        return JOBS[name].model_validate(dict(arguments))
    except ValidationError as error:
        first = min(error.errors(), key=lambda e: e["type"] != "extra_forbidden")  # a misspelt name explains the rest
        where = str(first["loc"][0])
        if first["type"] in {"missing", "too_short"}:
            raise JobError(name, f"{where}: expected at least one, found none", _HOW_TO_NAME[where]) from error
        if first["type"] == "extra_forbidden":
            raise JobError(name, f"{where}: unknown", f"it takes {', '.join(JOBS[name].model_fields)}") from error
        raise JobError(name, f"{where}: {first['msg'].lower()}, found {first['input']!r}", "correct it") from error


def run_job(
    job: Job, county: Path, *, check: bool = False, say: Say = silent, on_progress: OnProgress = no_progress
) -> JobReport:
    """Open the county and run a job in it; with `check`, nothing is changed, on devices or in the county's folder."""
    campaign = open_campaign(county)
    if check:
        campaign = Onlooker(**{f.name: getattr(campaign, f.name) for f in fields(campaign)})
    try:
        return job.run(campaign, check=check, say=say, on_progress=on_progress)
    finally:
        if "ledger" in vars(campaign):  # a play's process ends without tidying up, and would leave its log beside it
            campaign.ledger.close()


def _report(
    job: Job, campaign: Campaign, asked: Sequence[str], found: Mapping[str, Outcome], *, check: bool
) -> JobReport:
    """Gather one outcome for everything asked; what has none is not known."""
    missing = "no outcome was recorded"
    outcomes = tuple(found.get(n) or Outcome(name=n, exit_code=UNKNOWN, summary=missing) for n in asked)
    good, changed = sum(o.ok for o in outcomes), sum(o.changed for o in outcomes)
    word = "would change" if check else "changed"
    summary = f"{campaign.target}: {good} of {len(outcomes)} ok, {changed} {word}"
    return JobReport(job=job.name, target=campaign.target, check=check, summary=summary, outcomes=outcomes)


def _router_outcome(name: str, ended: Ended) -> Outcome:
    """Say what became of one router of a domain; its own reasons come first."""
    if ended.ok:
        changed = name in ended.changed
        word = "pushed and confirmed" if changed else "as intended"
        return Outcome(name=name, exit_code=GOOD, changed=changed, summary=word)
    own = [r for r in ended.reasons if r.startswith(f"{name}:")]
    reasons = own + [r for r in ended.reasons if r not in own]
    more = (f"... and {len(reasons) - _ENOUGH} more against {ended.name}",) if len(reasons) > _ENOUGH else ()
    return Outcome(
        name=name,
        exit_code=_ENDED[ended.ending],
        summary=f"{ended.name}: {ended.word}",
        reasons=(*reasons[:_ENOUGH], *more),
    )


def _unit_report(
    job: Job, campaign: Campaign, asked: Sequence[str], done: Sequence[UnitReport], *, check: bool
) -> JobReport:
    """Turn units' reports into outcomes; units after the one that stopped the run were not tried."""
    found = {r.unit: _unit_outcome(r, check=check) for r in done}
    stopped = next((f"{o.name} stopped the run" for o in found.values() if not o.ok), "the run stopped before")
    for name in asked:
        if name not in found:
            found[name] = Outcome(name=name, exit_code=FAILED, summary=f"not tried: {stopped}")
    return _report(job, campaign, asked, found, check=check)


def _unit_outcome(report: UnitReport, *, check: bool) -> Outcome:
    """Say what became of one unit."""
    changes = {d: text.strip() for d, text in report.changes.items()}
    diff = "\n".join(
        f"{device}:\n" + "\n".join(f"  {line}" for line in t.splitlines()) for device, t in changes.items()
    )
    verdict, ended = report.verdict, report.ended
    changed = bool(ended and ended.ok and ended.changed)
    if not verdict.allowed:
        return Outcome(
            name=report.unit,
            exit_code=REFUSED,
            changed=changed,
            summary=f"refused by the gate {verdict.gate}, {counted(len(verdict.reasons), 'reason')}; stays {report.state}",
            reasons=tuple(map(str, verdict.reasons)),
            diff=diff,
        )
    if ended is not None and not ended.ok:
        return Outcome(
            name=report.unit,
            exit_code=_ENDED[ended.ending],
            summary=f"{ended.word}; {report.unit} is {report.state}",
            reasons=tuple(ended.reasons),
        )
    if check:
        summary = f"allowed by the gate {verdict.gate}; now {report.state}"
        return Outcome(name=report.unit, exit_code=GOOD, changed=bool(changes), summary=summary, diff=diff)
    if ended is None and changes:  # there was something to do, and nobody says it was done
        return Outcome(name=report.unit, exit_code=FAILED, summary=f"not tried, now {report.state}")
    return Outcome(name=report.unit, exit_code=GOOD, changed=changed, summary=f"now {report.state}", diff=diff)


def as_data(report: JobReport) -> dict[str, Any]:
    """Return a report as plain data for a play: what `extranet_outcome` reads."""
    return {
        "rc": report.exit_code,
        "msg": report.summary,
        "job": report.job,
        "target": report.target,
        "names": [o.name for o in report.outcomes],
        "outcomes": {o.name: o.model_dump(mode="json") for o in report.outcomes},
    }
