"""Exceptions to a gate: they excuse what they name, from a closed list, while they stand, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from migration.clock import to_iso
from migration.events import Kind
from migration.evidence import Evidence
from migration.gates import Verdict, judge_cutover, judge_retirement
from migration.proof import EXCUSABLE, Reason, ReasonKind, Situation
from migration.units import Step, UnitState
from migration.waivers import Waiver, WaiverState, choose_reasons, excuse, find_problem, fold_waivers, plain_title
from nornir_tasks.stations.model import Finding, Outcome, Result
from tests.migration.scene import T0, Story, bound_now, build_county, fail_check, measure, situation_of
from tests.migration.soak_scene import Spoil, run_of_samples, see_port

COUNTY = build_county()
TIMERS = COUNTY.policy.timers
FIN = ("fin@county", "fin@ta", "fin@tb", "fin@va1")
UNIT = "fin@ta"


def judge(scene: Situation) -> Verdict:
    """Ask the drain's gate of the unit that these tests are about."""
    return judge_retirement(UNIT, "drain", scene)


def at_drain() -> Situation:
    """A situation in which the unit may be drained."""
    story = Story().go(*FIN, to=UnitState.CUT_OVER).wait_s(4000)
    fresh = measure(COUNTY, story.at, withheld=FIN)
    return situation_of(COUNTY, story.wait_s(20), fresh)


SCENE = at_drain()
RUN = SCENE.evidence[0]
NEEDED = [i for i, r in enumerate(RUN.results) if (r.check.station, r.check.plane) == ("st-ta", "finance")]


def failing(result: Result, aspect: str, outcome: Outcome = Outcome.FAILED) -> Result:
    """The same result, failed in one aspect."""
    why = f"{aspect}: it - expected good, found bad"
    finding = Finding(aspect=aspect, outcome=outcome, detail=why)
    return result.model_copy(update={"outcome": outcome, "why": why, "findings": (finding,)})


SPOILERS: dict[str, Callable[[Result], Result]] = {
    "tcp": lambda r: failing(r, "tcp"),
    "dns": lambda r: failing(r, "dns"),
    "unknown": lambda r: failing(r, "ssh", Outcome.UNKNOWN),
    "old path": lambda r: failing(r, "path"),
    "by a legacy router": lambda r: r.model_copy(update={"hops": ("fin-ta", "fin-county")}),
    "aged": lambda r: r.model_copy(update={"at": r.at - 10_000}),
    "another check": lambda r: r.model_copy(update={"check": r.check.model_copy(update={"port": 80})}),
}


def with_results(run: Evidence, results: tuple[Result, ...]) -> Evidence:
    """The same run with other results."""
    return run.model_copy(update={"results": results})


def shifted(run: Evidence, seconds: float) -> Evidence:
    """The same run, measured later (or earlier)."""
    results = tuple(r.model_copy(update={"at": r.at + seconds}) for r in run.results)
    times = {"taken_from": run.taken_from + seconds, "taken_to": run.taken_to + seconds}
    return run.model_copy(update={**times, "results": results})


def waiver_of(*reasons: Reason, name: str = "ex-1", until_s: float = 86_400, gate: str = "drain") -> Waiver:
    """An exception that names these reasons, as the ledger would hold it."""
    return Waiver(
        id=name,
        unit=UNIT,
        gate=gate,
        reasons=reasons,
        why="the hall is being rebuilt",
        by="财政局局长",
        approved_by="县大数据局局长",
        until=SCENE.now + timedelta(seconds=until_s),
        recorded=SCENE.now,
        confirmed=SCENE.now,
    )


@st.composite
def messes(draw: st.DrawFn) -> tuple[Evidence, ...]:
    """A few runs around now, each with some of the needed results spoiled or gone, none of them in the future."""
    runs = []
    for number in range(draw(st.integers(1, 3))):
        run = shifted(RUN, draw(st.sampled_from([-700, -100, -15, -5, 0])))
        spoiled = draw(st.dictionaries(st.sampled_from(NEEDED), st.sampled_from(["gone", *SPOILERS]), max_size=3))
        results = tuple(
            SPOILERS[spoiled[i]](r) if spoiled.get(i, "gone") != "gone" else r
            for i, r in enumerate(run.results)
            if spoiled.get(i) != "gone"
        )
        bound = draw(st.sampled_from([RUN.bound, RUN.bound, bound_now(COUNTY, core1="another")]))
        lost = draw(st.sampled_from(["", "", "", "the file is missing"]))
        update = {"run": f"run {number}", "bound": bound, "seq": number + 1, "problem": lost}
        runs.append(with_results(run, () if lost else results).model_copy(update=update))
    return tuple(runs)


def some_waivers(reasons: tuple[Reason, ...], pick: Random) -> tuple[Waiver, ...]:
    """Up to two exceptions, each naming some of the reasons, whatever their kind: a forger's, too."""
    return tuple(
        waiver_of(*pick.sample(reasons, pick.randint(0, len(reasons))), name=f"ex-{n}")
        for n in range(pick.randint(0, 2))
    )


# --- laws ---


@given(runs=messes(), pick=st.randoms(use_true_random=False))
@settings(max_examples=200)
def test_an_exception_excuses_no_more_than_it_names(runs: tuple[Evidence, ...], pick: Random) -> None:
    """Exceptions part the same reasons in two: excused is just what they name and may be excused, the rest stands."""
    scene = replace(SCENE, evidence=runs)
    before = judge(scene)
    waivers = some_waivers(before.reasons, pick)
    after = judge(replace(scene, waivers=waivers))
    named = {r for w in waivers for r in w.reasons if r.kind in EXCUSABLE}
    assert {Reason(**{n: getattr(r, n) for n in Reason.model_fields}) for r in after.excused} == named
    assert set(after.reasons) == set(before.reasons) - named
    assert after.allowed is (not after.reasons)


@given(runs=messes(), pick=st.randoms(use_true_random=False))
@settings(max_examples=100)
def test_two_exceptions_do_not_multiply(runs: tuple[Evidence, ...], pick: Random) -> None:
    """What several exceptions excuse together is what each excuses alone, and no more."""
    scene = replace(SCENE, evidence=runs)
    waivers = some_waivers(judge(scene).reasons, pick)
    together = judge(replace(scene, waivers=waivers)).excused
    alone = [r for w in waivers for r in judge(replace(scene, waivers=(w,))).excused]
    assert {(r.kind, r.check, r.aspect, r.why) for r in together} == {(r.kind, r.check, r.aspect, r.why) for r in alone}


@given(runs=messes(), pick=st.randoms(use_true_random=False))
@settings(max_examples=200)
def test_losing_proof_never_permits_under_exceptions(runs: tuple[Evidence, ...], pick: Random) -> None:
    """With exceptions on record, too, removing or ageing a pass that counts never turns refusal into permission."""
    scene = replace(SCENE, evidence=runs)
    scene = replace(scene, waivers=some_waivers(judge(scene).reasons, pick))
    if judge(scene).allowed:
        return
    which = pick.randrange(len(runs))
    run = runs[which]
    good = [i for i, r in enumerate(run.results) if r.outcome is Outcome.PASSED and "fin-ta" not in r.hops]
    if not good:
        return
    place = pick.choice(good)
    before, after = run.results[:place], run.results[place + 1 :]
    aged = run.results[place].model_copy(update={"at": run.results[place].at - 10_000})
    worse = [before + after, (*before, aged, *after), (*before, SPOILERS["old path"](run.results[place]), *after)]
    for results in worse:
        less = (*runs[:which], with_results(run, results), *runs[which + 1 :])
        assert not judge(replace(scene, evidence=less)).allowed
    lost = run.model_copy(update={"results": (), "problem": "the file is missing"})
    assert not judge(replace(scene, evidence=(*runs[:which], lost, *runs[which + 1 :]))).allowed
    old = (*runs[:which], shifted(run, -5000), *runs[which + 1 :])
    if not any(r.outcome is not Outcome.PASSED or "fin-ta" in r.hops for r in run.results):
        assert not judge(replace(scene, evidence=old)).allowed


@given(runs=messes(), pick=st.randoms(use_true_random=False), later_s=st.floats(0, 200_000))
@settings(max_examples=200)
def test_the_clock_opens_nothing(runs: tuple[Evidence, ...], pick: Random, later_s: float) -> None:
    """Time alone never turns a refusal over evidence into permission, exceptions or not."""
    scene = replace(SCENE, evidence=runs)
    scene = replace(scene, waivers=some_waivers(judge(scene).reasons, pick))
    if not judge(scene).allowed:
        assert not judge(replace(scene, now=scene.now + timedelta(seconds=later_s))).allowed


@given(later_s=st.floats(0, 5000))
def test_only_a_wait_ends_by_itself(later_s: float) -> None:
    """A soak that is not over refuses until it is, and then opens: that is all that time opens."""
    story = Story().go(*FIN, to=UnitState.CUT_OVER)
    cut = story.at
    scene = situation_of(COUNTY, story, now=cut + timedelta(seconds=later_s))
    fresh = measure(COUNTY, scene.now - timedelta(seconds=10), withheld=FIN)
    kinds = {r.kind for r in judge(replace(scene, evidence=(fresh,))).reasons}
    began = {e.unit: e.moment for e in story.events if e.kind is Kind.OUTCOME}[UNIT]
    first_sample = max(e.moment for e in story.events if e.kind is Kind.OUTCOME)
    if (scene.now - began).total_seconds() < TIMERS.soak_s:
        assert ReasonKind.SOAK in kinds
    if (scene.now - first_sample).total_seconds() >= TIMERS.soak_s:
        assert ReasonKind.SOAK not in kinds


def test_removing_any_needed_result_refuses_every_time() -> None:
    """From just enough evidence, each single needed result is missed: all of them are tried."""
    for place in NEEDED:
        less = with_results(RUN, RUN.results[:place] + RUN.results[place + 1 :])
        verdict = judge(replace(SCENE, evidence=(less,)))
        assert [r.kind for r in verdict.reasons] == [ReasonKind.UNMEASURED]


# --- what may be excused at all ---


@pytest.mark.parametrize("kind", [k for k in ReasonKind if k not in EXCUSABLE])
def test_the_list_is_closed(kind: ReasonKind) -> None:
    """Scope, record, unfinished changes, silent devices, an empty matrix, no way back and the like: never."""
    reason = Reason(station="", service="", why="x", kind=kind)
    waiver = waiver_of(reason)
    assert "nothing excuses" in find_problem(waiver, TIMERS)
    assert not waiver.names(reason)


def test_never_what_must_not_be_excused() -> None:
    """Nothing expected, devices that do not answer, a broken record and an open change stand against every exception."""
    open_story = Story().go(*FIN, to=UnitState.CUT_OVER).wait_s(4000)
    open_story.begin(Step.DRAIN, UNIT, UnitState.CUT_OVER, UnitState.DRAINED, "fin-county")
    broken = Story().go(*FIN, to=UnitState.CUT_OVER).wait_s(4000)
    broken.end(Step.SHUT, broken.begin(Step.SHUT, UNIT, UnitState.CUT_OVER, UnitState.REMOVED), UNIT, UnitState.REMOVED)
    silent = bound_now(COUNTY).model_copy(update={"configs": {}})
    empty = COUNTY.altered(services=())
    scenes = {
        ReasonKind.UNFINISHED: situation_of(COUNTY, open_story, measure(COUNTY, open_story.at)),
        ReasonKind.RECORD: situation_of(COUNTY, broken, measure(COUNTY, broken.at)),
        ReasonKind.SILENT: replace(SCENE, current=silent),
        ReasonKind.EMPTY: replace(SCENE, county=empty, checks=()),
    }
    for kind, scene in scenes.items():
        reasons = judge(scene).reasons
        assert kind in {r.kind for r in reasons}
        verdict = judge(replace(scene, waivers=(waiver_of(*reasons, until_s=900_000),)))
        assert kind in {r.kind for r in verdict.reasons}


def failed_at(place: int, aspect: str = "tcp") -> Situation:
    """The situation, with one needed result failed."""
    results = (*RUN.results[:place], failing(RUN.results[place], aspect), *RUN.results[place + 1 :])
    return replace(SCENE, evidence=(with_results(RUN, results),))


def test_one_failure_excused_opens_until_it_expires() -> None:
    """An exception opens for what it names while it stands, is printed with the verdict, and counts for nothing after."""
    scene = failed_at(NEEDED[0])
    reasons = judge(scene).reasons
    waiver = waiver_of(*reasons, until_s=60)
    opened = judge(replace(scene, waivers=(waiver,)))
    assert opened.allowed
    assert [(r.exception, r.check) for r in opened.excused] == [("ex-1", reasons[0].check)]
    after = replace(scene, waivers=(waiver,), now=scene.now + timedelta(seconds=60))
    assert not judge(after).allowed
    assert waiver.state(after.now) is WaiverState.EXPIRED


def test_another_failure_is_another_thing() -> None:
    """A service that fails in another way, another check, another gate or another unit is not excused."""
    first = NEEDED[0]
    waiver = waiver_of(*judge(failed_at(first)).reasons)
    assert judge(replace(failed_at(first), waivers=(waiver,))).allowed
    assert not judge(replace(failed_at(first, "marker"), waivers=(waiver,))).allowed
    assert not judge(replace(failed_at(NEEDED[1]), waivers=(waiver,))).allowed
    assert not judge(replace(failed_at(first), waivers=(waiver.model_copy(update={"gate": "shut"}),))).allowed
    assert not judge(replace(failed_at(first), waivers=(waiver.model_copy(update={"unit": "fin@tb"}),))).allowed


def test_a_failure_excused_hides_no_worse_one() -> None:
    """What failed otherwise in an earlier run of now still stands: an exception for the newest does not cover it."""
    check = RUN.results[NEEDED[0]]
    waiver = waiver_of(*judge(failed_at(NEEDED[0])).reasons)
    newest = failed_at(NEEDED[0]).evidence[0]
    for worse in ("dns", "old path", "by a legacy router"):
        earlier = with_results(shifted(RUN, -20), (shifted_result(SPOILERS[worse](check), -20),))
        scene = replace(SCENE, evidence=(earlier, newest), waivers=(waiver,))
        verdict = judge(scene)
        assert not verdict.allowed, worse
        assert len(verdict.excused) == 1


def shifted_result(result: Result, seconds: float) -> Result:
    """The same result at another time."""
    return result.model_copy(update={"at": result.at + seconds})


def test_a_leak_is_never_excused() -> None:
    """A station that reaches a department it must not reach stands, whatever is on record."""
    place = next(i for i in NEEDED if RUN.results[i].check.expect == "blocked")
    scene = failed_at(place)
    reasons = judge(scene).reasons
    assert [r.kind for r in reasons] == [ReasonKind.LEAK]
    assert not judge(replace(scene, waivers=(waiver_of(*reasons),))).allowed


def test_an_exception_to_the_cutover_holds_for_its_trial() -> None:
    """The trial asks again what the cutover asked: one exception covers both, and no other gate."""
    waiver = waiver_of(gate="cutover")
    assert waiver.covers(UNIT, "cutover")
    assert waiver.covers(UNIT, "proof")
    assert not waiver.covers(UNIT, "drain")
    assert not waiver.covers(None, "provision")
    assert not waiver_of(gate="drain").covers(UNIT, "proof")
    assert judge_cutover(UNIT, replace(SCENE, waivers=(waiver,))).excused == ()


# --- a wait ---


def watched_s(*moments: int, used_from: int | None = None, **soak: int) -> Situation:
    """The situation after samples so many seconds from the cutover on; the line carried something before a certain one."""
    policy = COUNTY.policy.altered(soak=COUNTY.policy.soak.altered(**soak))
    county = COUNTY.altered(policy=policy)
    story = Story().go(*FIN, to=UnitState.CUT_OVER)
    cut = story.at
    used: Spoil = lambda u: u.model_copy(  # noqa: E731 - one of many such
        update={"ports": tuple(see_port(p.name, up=p.up, packets=90_000 * (p.name == "wan1")) for p in u.ports)}
    )
    spoil = {n: {"fin-ta": used} for n, at in enumerate(moments) if used_from is not None and at >= used_from}
    samples = run_of_samples(county, story.events, [cut.timestamp() + at for at in moments], spoil)
    now = cut + timedelta(seconds=moments[-1])
    fresh = measure(county, now - timedelta(seconds=20), withheld=FIN)
    return situation_of(county, story, fresh, soak=samples, now=now)


def waits(verdict: Verdict) -> set[str]:
    """What a verdict still waits for."""
    assert {r.kind for r in verdict.reasons} <= {ReasonKind.SOAK}
    return {r.aspect.partition(" since ")[0] for r in verdict.reasons}


def test_a_soak_excused_stays_excused_while_it_lasts() -> None:
    """An exception to what is missing of a soak holds as that soak goes on, and for all that it named."""
    early = judge(watched_s(0, 600, 1200))
    assert waits(early) == {"cut_over", "time"}
    waiver = waiver_of(*early.reasons)
    for moments in ((0, 600, 1200), (0, 600, 1200, 1800), (0, 600, 1200, 1800, 3000)):
        assert judge(replace(watched_s(*moments), waivers=(waiver,))).allowed, moments


@pytest.mark.parametrize("clean", [(2400, 3000), (2400, 3000, 3600, 4200)])
def test_no_old_exception_excuses_a_soak_that_began_anew(clean: tuple[int, ...]) -> None:
    """A consumer found after the exception was given starts another soak: an exception to the first opens nothing of it."""
    waiver = waiver_of(*judge(watched_s(0, 600, 1200)).reasons)
    anew = replace(watched_s(0, 600, 1200, 1800, *clean, used_from=1800), waivers=(waiver,))
    verdict = judge(anew)
    assert waits(verdict) == {"time"}
    assert "it counts from" in verdict.reasons[0].why
    again = waiver_of(*verdict.reasons, name="ex-2")
    assert judge(replace(anew, waivers=(waiver, again))).allowed


def test_one_lack_of_a_soak_is_not_another() -> None:
    """Who excused the time did not excuse the samples or the business days that are missing besides."""
    scene = watched_s(0, 600, 1200, samples=5, business_days=3)
    reasons = judge(scene).reasons
    assert waits(judge(scene)) == {"cut_over", "samples", "time", "business days"}
    for reason in reasons:
        left = judge(replace(scene, waivers=(waiver_of(reason),))).reasons
        assert set(left) == set(reasons) - {reason}


def test_no_old_exception_excuses_a_hold_that_began_anew() -> None:
    """A line opened again and shut again is held anew, whatever was excused of the hold before."""
    story = Story().go("fin@ta", to=UnitState.SHUT)

    def hold() -> Reason:
        scene = situation_of(COUNTY, story)
        return next(r for r in judge_retirement(UNIT, "remove", scene).reasons if r.kind is ReasonKind.HOLD)

    first = waiver_of(hold(), gate="remove")
    story.wait_s(60)
    assert first.names(hold())
    story.end(Step.BACK, "b", UNIT, UnitState.DRAINED)
    story.end(Step.SHUT, "s", UNIT, UnitState.SHUT)
    assert not first.names(hold())


def test_an_exception_that_does_not_say_which_wait_excuses_none() -> None:
    """Recorded before waits were told apart, or by a forger's hand: it names no soak that there is."""
    scene = watched_s(0, 600, 1200)
    blank = tuple(r.model_copy(update={"aspect": ""}) for r in judge(scene).reasons)
    assert judge(replace(scene, waivers=(waiver_of(*blank),))).excused == ()


# --- the record ---


def recorded(story: Story, **changes: object) -> str:
    """Record an exception, as the command does; return its key."""
    reason = Reason(station="st-ta", service="ledgers", why="x", check="c", kind=ReasonKind.FAILED, aspect="tcp")
    body = {
        "id": f"ex-{len(story.events)}",
        "gate": "drain",
        "reasons": [reason.model_dump(mode="json")],
        "why": "the hall is being rebuilt",
        "by": "财政局局长",
        "approved_by": "县大数据局局长",
        "until": to_iso(story.at + timedelta(days=3)),
        **changes,
    }
    story.tell(Kind.EXCEPTION, str(body["id"]), body, UNIT)
    return str(body["id"])


def confirm(story: Story, name: str, *, title: str = "县大数据局局长", actor: str = "second", unit: str = UNIT) -> None:
    """Confirm an exception, as the command does."""
    body: dict[str, object] = {"confirms": name, "approved_by": title}
    story.tell(Kind.EXCEPTION, f"{name}/confirmed/{len(story.events)}", body, unit, actor=actor)


def test_a_recorded_exception_stands_and_is_withdrawn() -> None:
    """It stands from its confirmation on, and stays on record when it was taken back."""
    story = Story()
    name = recorded(story)
    (waiver,) = fold_waivers(story.events, TIMERS)
    assert waiver.state(story.at) is WaiverState.PROPOSED
    confirm(story, name)
    (waiver,) = fold_waivers(story.events, TIMERS)
    assert waiver.state(story.at) is WaiverState.STANDING
    assert (waiver.typed_by, waiver.confirmed_by) == ("the engineer", "second")
    story.tell(Kind.EXCEPTION, f"{name}/withdrawn", {"withdraws": name, "by": "局长", "why": "mended"}, UNIT)
    (waiver,) = fold_waivers(story.events, TIMERS)
    assert waiver.state(story.at) is WaiverState.WITHDRAWN
    assert waiver.withdrawn_by == "局长"


@pytest.mark.parametrize(
    "how",
    [
        {"actor": "the engineer"},
        {"actor": "Ｔhe  Engineer\u200b"},
        {"title": "财政局局长"},
        {"title": ""},
        {"unit": "fin@tb"},
    ],
)
def test_nobody_excuses_anything_alone(how: dict[str, str]) -> None:
    """One account for both titles, another title than it was put to, or another unit: it stays a proposal, worth nothing."""
    story = Story()
    confirm(story, recorded(story), **how)
    (waiver,) = fold_waivers(story.events, TIMERS)
    assert waiver.state(story.at) is WaiverState.PROPOSED
    reason = waiver.reasons[0]
    assert excuse(UNIT, "drain", [reason], [waiver], story.at) == ((reason,), ())
    confirm(story, waiver.id)
    (waiver,) = fold_waivers(story.events, TIMERS)
    assert excuse(UNIT, "drain", [reason], [waiver], story.at)[0] == ()


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"approved_by": "财政局局长"}, "two different titles"),
        ({"by": "ＣＩＯ of  Yichuan", "approved_by": "cio of yichuan\u200b "}, "two different titles"),
        ({"by": " "}, "two titles are needed"),
        ({"why": ""}, "no reason is given"),
        ({"until": to_iso(T0 + timedelta(days=31))}, "would stand too long"),
        ({"until": to_iso(T0)}, "over before it begins"),
        ({"until": "soon"}, "cannot be read"),
        ({"reasons": []}, "names no reason"),
        ({"reasons": [{"station": "", "service": "", "why": "x", "kind": "scope"}]}, "nothing excuses"),
        ({"reasons": [{"station": "", "service": "", "why": "x"}]}, "nothing excuses"),
        ({"reasons": [{"station": "", "service": "", "why": "x", "kind": "everything"}]}, "cannot be read"),
        ({"reasons": "all"}, "cannot be read"),
    ],
)
def test_a_badly_written_exception_counts_for_nothing(changes: dict[str, object], why: str) -> None:
    """Whoever writes past the command gains nothing: the record is judged again whenever it is read."""
    story = Story()
    recorded(story, **changes)
    (waiver,) = fold_waivers(story.events, TIMERS)
    assert waiver.state(story.at) is WaiverState.INVALID
    assert why in waiver.problem


@given(title=st.text(min_size=1))
def test_titles_are_one_however_they_are_typed(title: str) -> None:
    """Case, spaces and full-width forms make no second person; comparing is stable."""
    assert plain_title(f" {title}\u3000") == plain_title(title)
    assert plain_title(plain_title(title)) == plain_title(title)
    unseen = "\ufe0f\u034f\u115f\u3164\u2800\U000e0100\x00\x07\ue000.-"
    assert plain_title(unseen.join(title) + unseen) == plain_title(title)


def test_a_second_event_of_a_name_changes_nothing() -> None:
    """An exception is what its first event says: nobody widens it later under the same name."""
    story = Story()
    name = recorded(story)
    first = fold_waivers(story.events, TIMERS)
    recorded(story, id=name, gate="remove", why="more")
    assert fold_waivers(story.events, TIMERS) == first


def test_no_selector_chooses_nothing() -> None:
    """An exception is never blank: without a word of what it is for, it would name nothing."""
    reasons = judge(failed_at(NEEDED[0])).reasons
    assert choose_reasons(reasons) == ()
    assert choose_reasons(reasons, stations=["st-ta"]) == reasons
    assert choose_reasons(reasons, stations=["st-ta"], kinds=["unknown"]) == ()
    assert choose_reasons(reasons, checks=[reasons[0].check], services=[reasons[0].service]) == reasons


def test_a_failure_of_long_ago_is_not_excused() -> None:
    """An exception speaks of what a run of now saw: an old failure asks for a new measurement."""
    scene = failed_at(NEEDED[0])
    waiver = waiver_of(*judge(scene).reasons, until_s=900_000)
    old = replace(scene, waivers=(waiver,), now=scene.now + timedelta(seconds=TIMERS.evidence_ttl_s))
    assert not judge(old).allowed
    check = RUN.results[NEEDED[0]].check
    before = datetime.fromtimestamp(RUN.taken_from - 3000, T0.tzinfo)
    earlier = replace(SCENE, evidence=(measure(COUNTY, before, results=[fail_check(check, before)]),))
    assert ReasonKind.VOID in {r.kind for r in judge(earlier).reasons}
