"""`extranet cutover`, `retire`, `gate explain` and `status`: units on their way."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, NoReturn, cast

import typer

from inventory.wording import counted
from scripts.commands._shell import (
    HERE,
    AsJson,
    CountyDir,
    Progress,
    Yes,
    boundary,
    console,
    print_json,
    show_standing,
    warn_of_account,
)
from scripts.commands.outage import show_record

if TYPE_CHECKING:
    from inventory.model import Unit
    from migration.campaign import Campaign
    from migration.cutover import UnitReport
    from migration.gates import Verdict
    from migration.proof import Reason
    from migration.retire import Until
    from migration.stages_ahead import StageAhead
    from migration.status import StatusReport
    from migration.waivers import Waiver

Units = Annotated[list[str], typer.Argument(help="Units, each `network@site` (ids or Chinese names).")]
gate_app = typer.Typer(no_args_is_help=True)
EXIT_GOOD, EXIT_FAILED, EXIT_REFUSED, EXIT_UNKNOWN = 0, 1, 3, 4
STATES = (
    "surveyed",
    "planned",
    "provisioned",
    "proven",
    "cut_over",
    "soaked",
    "drained",
    "shut",
    "removed",
    "released",
)
SHOWN = 4
"""Stations and services that a cause names before it only counts them."""
COMMAND = re.compile(r"'(extranet [^']+)'")
DAY, DAY_AND_TIME = re.compile(r"\d{4}-\d{2}-\d{2}"), re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:")
CUTOVER = re.compile(r"extranet cutover (\S+) --yes")
LEG = re.compile(r" \(from [^()]*, IPv[46](, must be blocked)?\)$")
"""From which leg a check was asked: the same cause stands against several."""
MOMENT = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(Z|[+-]\d\d:\d\d)")
"""Runs of one command are seconds apart: that makes no other cause."""
MARKS = dict(zip(STATES, "·○◔◑◕●▼■✓¥", strict=True))


@boundary
def cutover(
    units: Units,
    county: CountyDir = HERE,
    *,
    back: Annotated[
        bool, typer.Option("--back", help="Take a cutover back: the old path carries the unit again.")
    ] = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Move units onto the extranet: withhold the old path by a timer on the device, prove every need, keep or go back.

    The unit at the county centre goes first in each network. Exit 0 kept, 1 went back, 3 refused, 4 not known.
    """
    from migration import cutover as stage
    from migration.campaign import open_campaign

    campaign = open_campaign(county)
    wanted = campaign.find_units(units)
    progress = Progress(quiet=as_json)
    if yes:
        warn_of_account(progress)
    if back:
        reports = [
            stage.give_back(campaign, unit, apply=yes, say=progress.say, on_progress=progress.tick) for unit in wanted
        ]
    else:
        reports = stage.cutover(campaign, wanted, apply=yes, say=progress.say, on_progress=progress.tick)
    finish(campaign, reports, [u.id for u in wanted], applied=yes, as_json=as_json)


@boundary
def prove(
    units: Units,
    county: CountyDir = HERE,
    *,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Prove that nobody needs units' old paths: withhold them by a timer on the device, measure, and give them back.

    Before cutover this is a cutover that is never kept; after it the old lines are closed at both ends, as retirement
    will close them. Units named together are withheld together. Retirement asks for this proof, fresh.
    Exit 0 proven, 1 not proven (and given back), 3 refused, 4 not known.
    """
    from migration import prove as stage
    from migration.campaign import open_campaign

    campaign = open_campaign(county)
    wanted = campaign.find_units(units)
    progress = Progress(quiet=as_json)
    if yes:
        warn_of_account(progress)
    reports = stage.prove(campaign, wanted, apply=yes, say=progress.say, on_progress=progress.tick)
    finish(campaign, reports, [u.id for u in wanted], applied=yes, as_json=as_json)


@boundary
def retire(
    units: Units,
    county: CountyDir = HERE,
    until: Annotated[str, typer.Option(help="How far: drained, shut or removed.")] = "removed",
    *,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait for the soak and the hold when only they are missing.")
    ] = False,
    undo: Annotated[bool, typer.Option("--undo", help="Take the last stage back, until removed.")] = False,
    release: Annotated[
        bool,
        typer.Option("--release", help="Record that the lines of removed units were given back. Touches no device."),
    ] = False,
    reference: Annotated[str, typer.Option(help="With --release: the number of the notice to the provider.")] = "",
    rent_free_from: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="With --release: the first day without rent.")
    ] = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Retire units' old links in stages: drain, shut, hold, remove, release. With --undo back again, until removed.

    The routers' configurations are archived first; once removed, 'extranet archive rebuild' is the only way back.
    Refused with exit 3 and the reasons, station by station, without fresh evidence for everybody who used the old link:
    run `extranet prove` first, which measures without it. Exit 0 done, 1 went back, 3 refused, 4 not known.
    """
    from inventory.errors import ExtranetError
    from migration import retire as stage
    from migration.campaign import open_campaign

    if until not in {"drained", "shut", "removed"}:
        raise ExtranetError(f"--until: expected drained, shut or removed, found {until!r}; choose one of them")
    alone = [n for n, v in (("--reference", reference), ("--rent-free-from", rent_free_from)) if v and not release]
    if alone or (release and (undo or wait)):
        raise ExtranetError(f"{alone[0] if alone else '--release'}: expected with --release, without --undo and --wait")
    campaign = open_campaign(county)
    wanted = campaign.find_units(units)
    progress = Progress(quiet=as_json)
    if yes:
        warn_of_account(progress)
    if release:
        day = rent_free_from.date() if rent_free_from else None
        release_lines(campaign, wanted, reference, day, apply=yes, as_json=as_json)
    if undo:
        reports = stage.undo(campaign, wanted, apply=yes, say=progress.say, on_progress=progress.tick)
    else:
        reports = stage.retire(
            campaign,
            wanted,
            apply=yes,
            until=cast("Until", until),
            wait=wait,
            say=progress.say,
            on_progress=progress.tick,
        )
    finish(campaign, reports, [u.id for u in wanted], applied=yes, as_json=as_json)


def release_lines(
    campaign: Campaign, units: list[Unit], reference: str, rent_free_from: date | None, *, apply: bool, as_json: bool
) -> NoReturn:
    """Record that lines were given back, print what that saves, and leave."""
    from rich.markup import escape

    from migration import release as stage
    from migration.standing import find_standing

    known = stage.read_reference(reference) if reference else ""
    reports = stage.release(campaign, units, reference=known, rent_free_from=rent_free_from, apply=apply)
    allowed = all(r.verdict.allowed for r in reports)
    standing = find_standing(campaign)
    saved = sum(r.release.saved_yuan for r in reports if r.verdict.allowed)
    if as_json:
        body = {"target": campaign.target_or_none(), "done": apply and allowed, "saved_yuan_a_month": saved}
        print_json({**body, "units": [r.as_json() for r in reports], **standing.as_json()})
    else:
        for report in reports:
            if not report.verdict.allowed:
                show_verdict(report.verdict)
                continue
            console().print(f"[green]✓ {report.unit}[/]: {escape(str(report.release))}")
            if report.release.early:
                console().print("    [yellow]before the contract ends[/]: see what the provider may ask for that")
        if allowed:
            todo = "" if apply else "; nothing was recorded - add --yes to do it"
            console().print(f"¥{saved:,} a month saved{todo}")
        else:
            console().print("nothing was recorded")
        show_standing(standing)
    raise typer.Exit(EXIT_GOOD if allowed else EXIT_REFUSED)


def finish(campaign: Campaign, reports: list[UnitReport], wanted: list[str], *, applied: bool, as_json: bool) -> None:
    """Print what happened to each unit and leave with the exit code of the worst."""
    from migration.standing import find_standing

    target, standing = campaign.target, find_standing(campaign)
    left = [unit for unit in wanted if unit not in {r.unit for r in reports}]
    if as_json:
        body = {"target": target, "done": applied, "units": [r.as_json() for r in reports], "not_tried": left}
        print_json(body | standing.as_json())
    else:
        for report in reports:
            show_unit(report, applied=applied)
        for ended in {id(r.ended): r.ended for r in reports}.values():  # units that went together share one
            if ended is not None and ended.outage is not None:
                show_record(ended.outage, ended.name if len(reports) > 1 else "", failed=not ended.ok)
        if left:
            console().print(f"not tried: {', '.join(left)}")
        if not applied:
            going = all(r.verdict.allowed for r in reports) and not all(r.nothing_left for r in reports)
            todo = " - add --yes to do it" if going else ""
            console().print(f"{target}: nothing was changed{todo}")
        show_standing(standing)
    raise typer.Exit(max((_code(r) for r in reports), default=EXIT_FAILED))


def _code(report: UnitReport) -> int:
    if not report.verdict.allowed:
        return EXIT_REFUSED
    if report.ended is None:
        return EXIT_GOOD
    return {"done": EXIT_GOOD, "undone": EXIT_FAILED, "failed": EXIT_UNKNOWN}[report.ended.ending]


def show_unit(report: UnitReport, *, applied: bool) -> None:
    """Print one unit's report."""
    from rich.markup import escape

    out = console()
    if report.ended is not None and not report.ended.ok:
        out.print(f"[red]✗ {report.unit}[/]: {report.ended.word}; {report.unit} is {report.state}")
        for why in report.ended.reasons[:12]:
            out.print(f"    {escape(why)}")
    if not report.verdict.allowed:
        show_verdict(report.verdict)
        out.print(f"  {report.unit} stays {report.state}")
    elif report.ended is None or report.ended.ok:
        show_excused(report.verdict)
        word = _say_allowed(report) if report.nothing_left or not applied else report.state
        if report.ended is not None and report.ended.trial:
            word = f"proven with its old path withheld, and given back; {report.unit} is {report.state}"
        out.print(f"[green]✓ {report.unit}[/]: {word}")
    if report.ahead:
        show_stages(report.ahead)
    elif not applied:
        show_changes(report.changes)


def show_stages(ahead: Sequence[StageAhead]) -> None:
    """Print the stages that are still to come: what each asks and changes, what leads back, and where nothing does."""
    from rich.markup import escape

    out = console()
    for number, stage in enumerate(ahead, 1):
        name = f"gate {stage.gate}" if stage.gate else "no gate, only time"
        out.print(f"    {number}. [bold]{stage.stage}[/] ({name}): {escape(stage.asks)}", soft_wrap=True)
        show_changes(stage.changes, indent=7)
        colour = "default" if stage.reversible else "bold red"
        out.print(f"       [{colour}]way back: {escape(stage.way_back)}[/]", soft_wrap=True)


def show_changes(changes: Mapping[str, str], *, indent: int = 4) -> None:
    """Print what would be changed, router by router."""
    from rich.markup import escape

    for device, lines in changes.items():
        console().print(f"{'':{indent}}{device}:")
        for line in lines.rstrip().splitlines():
            console().print(f"{'':{indent + 2}}{escape(line)}", highlight=False)


def _say_allowed(report: UnitReport) -> str:
    """Say what an allowed step would do; a stage without a change on any router is no stage without work."""
    from migration.gates import Stage

    if report.ahead:
        return f"{report.verdict.gate} is allowed; it is {report.state}, and ahead lie:"
    if report.changes:
        return "allowed"
    if report.verdict.gate in {s.value for s in Stage}:
        return f"allowed; no router changes in this stage ({report.verdict.gate}): it is proven by the stations and recorded"
    return f"nothing left to do: it is {report.state} already"


def show_verdict(verdict: Verdict, *, limit: int = 12, every: bool = False) -> None:
    """Print a verdict with its reasons by station: the first of each of the first stations, or every one."""
    from rich.markup import escape

    out = console()
    show_excused(verdict)
    if verdict.allowed:
        out.print(f"[green]allowed[/] {verdict.gate} {verdict.unit or ''}")
        return
    out.print(f"[red]refused[/] {verdict.gate} {verdict.unit or ''}: {counted(len(verdict.reasons), 'reason')}")
    general = [r for r in verdict.reasons if not r.station]
    by_station: dict[str, list[str]] = {}
    for reason in verdict.reasons:
        if reason.station:
            by_station.setdefault(reason.station, []).append(f"{reason.service}: {reason.why}")
    for reason in general[:limit]:
        out.print(f"    {escape(reason.why)}{escape(say_excusable(reason)) if every else ''}")
    if len(general) > limit:
        out.print(f"    ... and {len(general) - limit} more")
    if every:
        for reason in (r for station in by_station for r in verdict.reasons if r.station == station):
            out.print(f"    {reason.station}: {escape(f'{reason.service}: {reason.why}{say_excusable(reason)}')}")
        return
    for station, lines in list(by_station.items())[:limit]:
        out.print(f"    {station}: {escape(lines[0])}" + (f" (+{len(lines) - 1} more)" if len(lines) > 1 else ""))
    if len(by_station) > limit:
        out.print(f"    ... and {counted(len(by_station) - limit, 'more station')} ('extranet gate explain' lists all)")


def say_excusable(reason: Reason) -> str:
    """Return the mark of a reason that an exception may excuse, with its kind; empty for every other."""
    from migration.proof import EXCUSABLE

    return f" [an exception may excuse it: --kind {reason.kind}]" if reason.kind in EXCUSABLE else ""


def show_causes(verdict: Verdict) -> None:
    """Print a refusal with one line a cause: what it is, how many checks it stands against, and the first stations."""
    from rich.markup import escape

    out = console()
    show_excused(verdict)
    out.print(f"[red]refused[/] {verdict.gate} {verdict.unit or ''}: {counted(len(verdict.reasons), 'reason')}")
    causes: dict[tuple[str, str], list[Reason]] = {}
    for reason in verdict.reasons:
        why = MOMENT.sub("", LEG.sub("", reason.why)) if reason.station else reason.why
        causes.setdefault((reason.kind, why), []).append(reason)
    for reasons in causes.values():
        why, may = LEG.sub("", reasons[0].why), say_excusable(reasons[0])
        stations = list(dict.fromkeys(r.station for r in reasons if r.station))
        if not stations:
            out.print(f"    {escape(why + may)}", soft_wrap=True)
            continue
        services = dict.fromkeys(r.service for r in reasons)
        first = ", ".join(stations[:SHOWN]) + (f" and {len(stations) - SHOWN} more" if len(stations) > SHOWN else "")
        needs = ", ".join(list(services)[:SHOWN]) + (
            f" and {len(services) - SHOWN} more" if len(services) > SHOWN else ""
        )
        number = f"{counted(len(reasons), 'check')} from {counted(len(stations), 'station')}"
        out.print(f"    {escape(why)} - {number}: {escape(first)} ({escape(needs)}){escape(may)}", soft_wrap=True)
    if len(causes) < len(verdict.reasons):
        out.print("    (--all lists every reason by station)", style="dim")


def suggest_next(verdict: Verdict) -> list[str]:
    """Return the commands that would bring a unit on: those that the reasons themselves name, else what shows more.

    Cutovers that the others wait for are one command.
    """
    if verdict.allowed:
        step = "cutover" if verdict.gate == "cutover" else "retire"
        return [f"extranet {step} {verdict.unit} (only shows it; --yes does it)"]
    # What a station, a server or a router said may be quoted in these: whatever that is, it is no advice of ours.
    quoting = {"failed", "unknown", "path", "leak", "in-use"}
    ours = [r.why for r in verdict.reasons if r.kind not in quoting and not (r.check and r.aspect)]
    named = list(dict.fromkeys(c for why in ours for c in COMMAND.findall(why)))
    if not named and any(r.station for r in verdict.reasons):
        named = [f"extranet verify --unit {verdict.unit} --diagnose"]
    first = {c: found[1] for c in named if (found := CUTOVER.fullmatch(c))}
    together = f"extranet cutover {' '.join(first.values())} --yes"
    return list(dict.fromkeys(together if c in first else c for c in named))


def suggest_proof(verdict: Verdict, proof: Verdict) -> list[str]:
    """Return the same for a unit whose drain waits for a proof: first what keeps `prove` itself from running."""
    first, then = suggest_next(proof), suggest_next(verdict)
    wider = any(c.startswith(f"extranet prove {verdict.unit} ") for c in first)
    return list(dict.fromkeys([*first, *(c for c in then if not wider or c != f"extranet prove {verdict.unit}")]))


def waits_for_proof(verdict: Verdict) -> bool:
    """Tell whether measurements are missing for a unit's drain, which only `prove` takes."""
    return verdict.gate == "drain" and any(r.station for r in verdict.reasons)


def show_excused(verdict: Verdict) -> None:
    """Print everything that an exception excuses, however much it is: nobody may overlook it."""
    from rich.markup import escape

    for reason in verdict.excused:
        console().print(f"[yellow]excused[/] {escape(str(reason))}")


@gate_app.callback()
def gate_group() -> None:
    """Why a step would be allowed or refused."""


@gate_app.command()
@boundary
def explain(
    unit: Annotated[str, typer.Argument(help="The unit, `network@site`.")],
    county: CountyDir = HERE,
    *,
    every: Annotated[
        bool, typer.Option("--all", help="List every reason by station, not one line a cause with the first stations.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Say whether a unit's next step would be allowed now, why not, and what to run next. Exit 0 allowed, 3 refused.

    A line a cause: how many checks it stands against, the first stations, and its kind where an exception may excuse it
    (`gate except --kind`); JSON always has every reason by station. What would keep `prove` from running is named as well.
    JSON names the step as `next`; a unit that is removed has none left on the network, so that is null and the exit 0.
    """
    from migration.campaign import open_campaign
    from migration.gates import Verdict
    from migration.overrides import judge_coming_proof, judge_next, waivers_on_record

    campaign = open_campaign(county)
    found = campaign.find_unit(unit)
    verdict = judge_next(campaign, found)
    waivers = [w for w in waivers_on_record(campaign) if w.unit == found.id]
    now = campaign.clock.now()
    if as_json:
        shown = verdict or Verdict(gate="retire", unit=found.id, allowed=True)
        print_json(
            {
                **shown.model_dump(mode="json"),
                "next": verdict.gate if verdict else None,
                "exceptions": [{**w.model_dump(mode="json"), "state": w.state(now).value} for w in waivers],
            }
        )
    elif verdict is None:
        state = campaign.records()[found.id].state.value
        todo = "; 'extranet retire --release' records that its line was given back" if state == "removed" else ""
        console().print(f"{found.id} is {state}: there is no next step{todo}")
    elif every or verdict.allowed:
        show_verdict(verdict, limit=1000, every=True)
    else:
        show_causes(verdict)
    if not as_json:
        show_waivers(waivers, now)
        commands = suggest_next(verdict) if verdict is not None else []
        proof = judge_coming_proof(campaign, found) if verdict is not None and waits_for_proof(verdict) else None
        if verdict is not None and proof is not None and not proof.allowed:
            for reason in proof.reasons:
                console().print(f"before 'extranet prove': {reason}", markup=False, soft_wrap=True)
            commands = suggest_proof(verdict, proof)
        for command in commands:
            console().print(f"next: {command}", markup=False, soft_wrap=True)
    raise typer.Exit(EXIT_GOOD if verdict is None or verdict.allowed else EXIT_REFUSED)


def show_waivers(waivers: Iterable[Waiver], now: datetime) -> None:
    """Print exceptions: who, until when, why, and what each names."""
    from rich.markup import escape

    from migration.waivers import WaiverState, say_waiver

    for waiver in waivers:
        colour = "yellow" if waiver.state(now) is WaiverState.STANDING else "dim"
        for line in say_waiver(waiver, now):
            console().print(f"[{colour}]{escape(line)}[/]")


@gate_app.command("except")
@boundary
def except_(
    unit: Annotated[str, typer.Argument(help="The unit, `network@site`.")],
    county: CountyDir = HERE,
    *,
    station: Annotated[list[str] | None, typer.Option(help="Excuse what stands about these stations.")] = None,
    service: Annotated[list[str] | None, typer.Option(help="Only about these services.")] = None,
    check: Annotated[
        list[str] | None, typer.Option(help="Only about these checks, as `gate explain --json` names them.")
    ] = None,
    kind: Annotated[
        list[str] | None, typer.Option(help="Only reasons of these kinds: failed, unknown, soak, hold or policy.")
    ] = None,
    why: Annotated[str, typer.Option(help="The reason, for whoever reads the record in a year.")] = "",
    by: Annotated[str, typer.Option(help="The title of who asks for it.")] = "",
    approved_by: Annotated[str, typer.Option(help="The title of who approves it; somebody else.")] = "",
    until: Annotated[
        str | None,
        typer.Option(
            metavar="DAY|MOMENT",
            help="The last day on which it holds (2027-09-30), or when it ends (2027-09-30T18:00:00), at most exception_s of "
            "policy.yaml ahead (30 d).",
        ),
    ] = None,
    confirm: Annotated[
        str | None,
        typer.Option(help="Approve this one instead: as another actor than proposed it, with --approved-by."),
    ] = None,
    withdraw: Annotated[str | None, typer.Option(help="Take this exception back instead.")] = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Propose an exception to a unit's next gate, confirm one, or take one back: two titles, two actors, a reason, an expiry.

    It stands once another actor (EXTRANET_ACTOR, else the login) confirms it: --confirm ID --approved-by TITLE; where both
    typed on one login, every report says so. It excuses only reasons that stand now and that you name, of five kinds:
    a service seen to fail, a station that is silent, two waits, a policy or survey that asks less (`gate explain` marks them).
    Exit 0 recorded (or shown), 2 when what was typed makes no exception (nothing that stands was named, a title, the reason
    or the end is missing, the same actor confirms) or no such unit or exception is there, 3 when something was named that
    nothing excuses.
    """
    from rich.markup import escape

    from inventory.errors import ExtranetError
    from migration.campaign import open_campaign
    from migration.overrides import confirm_waiver, draft_waiver, record_waiver, withdraw_waiver

    campaign = open_campaign(county)
    found = campaign.find_unit(unit)
    todo = "" if yes else "nothing was recorded - add --yes to record it"
    if withdraw is not None or confirm is not None:
        if withdraw is not None:
            waiver = withdraw_waiver(campaign, found, withdraw, by=by, why=why, apply=yes)
        else:
            waiver = confirm_waiver(campaign, found, confirm or "", approved_by=approved_by, apply=yes)
        if as_json:
            print_json({"recorded": yes, "unit": found.id, "exception": waiver.model_dump(mode="json")})
        else:
            show_waivers([waiver], campaign.clock.now())
            console().print(todo or f"{waiver.id} {'is withdrawn' if withdraw is not None else 'stands'}")
        return
    if until is None:
        raise ExtranetError("--until: an exception needs its end - expected a day such as 2027-09-30, found none")
    draft = draft_waiver(
        campaign,
        found,
        stations=station or (),
        services=service or (),
        checks=check or (),
        kinds=kind or (),
        why=why,
        by=by,
        approved_by=approved_by,
        until=last_moment(until),
    )
    recorded = yes and not draft.never
    if recorded:
        record_waiver(campaign, draft)
    if as_json:
        print_json(draft.as_json(recorded=recorded))
    elif draft.never:
        for reason in draft.never:
            console().print(f"[red]never excused[/] ({reason.kind}) {escape(str(reason))}")
        console().print("nothing was recorded: name only what may be excused")
    else:
        show_waivers([draft.waiver], campaign.clock.now())
        console().print(f"{counted(len(draft.left), 'other reason')} would still stand against {draft.verdict.gate}")
        who = f"'extranet gate except {found.id} --confirm {draft.waiver.id} --approved-by {approved_by} --yes'"
        console().print(
            todo or f"{draft.waiver.id} is proposed; another actor (EXTRANET_ACTOR, else the login) confirms it: {who}",
            markup=False,
            soft_wrap=True,
        )
    raise typer.Exit(EXIT_REFUSED if draft.never else EXIT_GOOD)


def last_moment(until: str) -> datetime:
    """Return the moment an exception ends, here: a day alone means to its end."""
    from inventory.errors import ExtranetError

    text = unicodedata.normalize("NFKC", until).strip()
    try:
        if DAY.fullmatch(text):
            return (datetime.fromisoformat(text) + timedelta(days=1)).astimezone(UTC)
        if DAY_AND_TIME.match(text):
            return datetime.fromisoformat(text).astimezone(UTC)
    except (OverflowError, ValueError):  # no such date, or one at the ends of the calendar
        pass
    raise ExtranetError(
        "--until: an exception needs its end - expected a day such as 2027-09-30, or a moment such as "
        f"2027-09-30T18:00:00, found {until!r}"
    )


@boundary
def status(
    county: CountyDir = HERE,
    as_of: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Judge the dates as of this day.")
    ] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Show where every unit stands, by town and network, and the coverage of villages against the dates."""
    from addressing.planfile import plan_path
    from migration.campaign import open_campaign
    from migration.evidence import collect_evidence
    from migration.ledger import has_ledger
    from migration.status import report
    from migration.units import fold
    from migration.waivers import fold_waivers

    campaign = open_campaign(county)
    events = campaign.ledger_for_reading().events() if has_ledger(campaign.folder) else ()
    found = report(
        campaign.county,
        fold(events, campaign.county),
        plan_exists=plan_path(campaign.folder).exists(),
        evidence=collect_evidence(campaign.folder, events),
        today=as_of.date() if as_of else datetime.now().astimezone().date(),
        events=events,
        waivers=fold_waivers(events, campaign.county.policy.timers),
        now=campaign.clock.now(),
    )
    if as_json:
        print_json(
            {"target": campaign.target_or_none(), "scope": campaign.scope_or_none(), **found.model_dump(mode="json")}
        )
        return
    show_status(
        found, campaign.target_or_none() or "no lab and no access.yaml", campaign.scope_or_none() or "the whole county"
    )


def show_status(found: StatusReport, target: str, scope: str) -> None:
    """Print the table of towns by networks, and the dates."""
    from rich.markup import escape
    from rich.table import Table

    out = console()
    out.print(f"[bold]{escape(found.name)}[/] as of {found.today} - {target}, {scope}")
    networks = list(dict.fromkeys(c.network for t in found.towns for c in t.cells))
    table = Table("town", *networks, box=None, pad_edge=False, header_style="bold")
    for town in found.towns:
        cells = {c.network: c for c in town.cells}
        row = []
        for network in networks:
            cell = cells.get(network)
            if cell is None:
                row.append("")
                continue
            marks = "".join(MARKS[s.value] * n for s, n in cell.states.items())
            row.append(f"{marks} {cell.reached.value}")
        table.add_row(escape(town.name.removesuffix("便民服务中心")), *row)
    out.print(table)
    out.print("  ".join(f"{mark} {state}" for state, mark in MARKS.items()), style="dim")
    out.print("units: " + ", ".join(f"{n} {state.value}" for state, n in found.states.items()))
    cover = found.coverage
    bar = round(cover.share * 30)
    out.print(
        f"central villages covered: {cover.covered}/{cover.total} {'█' * bar}{'░' * (30 - bar)} {cover.share:.0%}"
    )
    for target_ in cover.targets:
        if target_.met:
            word = "[green]met[/]"
        elif target_.late:
            word = f"[red]late by {counted(-target_.days_left, 'day')}[/], {counted(target_.lacking, 'village')} short"
        else:
            word = f"{counted(target_.days_left, 'day')} left, {counted(target_.lacking, 'village')} to go"
        out.print(f"  {target_.share:.0%} by {target_.by}: {word}")
        if target_.late:
            who = list(target_.waiting_for.items())
            out.print(
                "    waiting for: "
                + "、".join(f"{escape(title)}({n})" for title, n in who[:8])
                + (" …" if len(who) > 8 else "")
            )
    show_concerns(found)


def show_concerns(found: StatusReport) -> None:
    """Print what holds things up, and what was let pass: changes begun and not ended, exceptions, notes of units."""
    from rich.markup import escape

    from migration.proof import say_moment

    out = console()
    for one in found.interrupted:
        out.print(
            f"[yellow]{escape(one.what)}[/] was interrupted (or still runs): {escape(one.about)}, "
            f"begun {say_moment(one.at)}, on {counted(len(one.devices), 'device')}: "
            f"{', '.join(map(escape, one.devices))}"
        )
    if found.interrupted:
        out.print(f"  {found.interrupted[0].todo}")
    for excepted in found.exceptions:
        colour = "yellow" if excepted.state == "standing" else "dim"
        for line in excepted.lines:
            out.print(f"[{colour}]{escape(line)}[/]")
    told = {u for one in found.interrupted for u in one.units}
    for unit in found.units:
        if unit.note and unit.unit not in told:
            out.print(f"[yellow]{unit.unit}[/]: {escape(unit.note)}")
