"""Gates: what each asks for, and the laws that hold of all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from addressing.plan import make_plan
from inventory.errors import ScopeGuardError, UnknownNameError
from inventory.model import County, Soak
from inventory.reader import load_county
from inventory.topology import build_topology
from migration.evidence import Bound, Evidence
from migration.gates import (
    Stage,
    Verdict,
    judge_back,
    judge_cutover,
    judge_proof,
    judge_provision,
    judge_retirement,
    judge_trial,
)
from migration.matrix import build_matrix
from migration.proof import Leg, ReasonKind, Situation
from migration.soak_samples import names_to_ask
from migration.units import Step, UnitState, fold
from nornir_tasks.drivers import Capabilities
from nornir_tasks.old_line import NameSeen
from nornir_tasks.stations.model import Finding, Outcome, Result, WayAspect
from tests.migration.scene import (
    T0,
    Story,
    bound_now,
    build_checks,
    build_county,
    fail_check,
    measure,
    pass_check,
    situation_of,
)

COUNTY = build_county()
FIN = ("fin@county", "fin@ta", "fin@tb", "fin@va1")
FRR = Capabilities(platform="frr", rollback_timer=True, atomic_replace=True, candidate_check=True)


def text_of(verdict: Verdict) -> str:
    """All reasons as a person reads them."""
    return "\n".join(str(r) for r in verdict.reasons)


def told(*, soaked: bool = True, to: UnitState = UnitState.CUT_OVER) -> Story:
    """All finance units at a state, and the soak over."""
    story = Story().go(*FIN, to=to)
    return story.wait_s(4000) if soaked else story


def at_drain(county: County = COUNTY) -> Situation:
    """A situation in which a town's unit may be drained."""
    story = told()
    fresh = measure(county, story.at, withheld=FIN)
    return situation_of(county, story.wait_s(20), fresh)


def at_shut() -> Situation:
    """A situation in which a town's line may be shut: its village is shut already."""
    story = told()
    story.go("fin@va1", to=UnitState.SHUT).go("fin@ta", to=UnitState.DRAINED)
    fresh = measure(COUNTY, story.at, withheld=("fin@ta",))
    return situation_of(COUNTY, story.wait_s(20), fresh)


def at_last() -> Situation:
    """A situation in which the county's own unit may be drained: all others are shut."""
    story = told()
    story.go(*FIN[1:], to=UnitState.SHUT)
    fresh = measure(COUNTY, story.at, withheld=FIN)
    return situation_of(COUNTY, story.wait_s(20), fresh)


def at_remove() -> Situation:
    """A situation in which a town's unit without villages may be removed."""
    story = told()
    story.go("fin@tb", to=UnitState.SHUT).wait_s(2000)
    fresh = measure(COUNTY, story.at)
    return situation_of(COUNTY, story.wait_s(20), fresh)


def at_cutover() -> Situation:
    """A situation in which a town's unit may be cut over."""
    story = Story().go(*FIN, to=UnitState.PROVISIONED).go("fin@county", to=UnitState.CUT_OVER)
    fresh = measure(COUNTY, story.at)
    return situation_of(COUNTY, story.wait_s(20), fresh)


ALLOWED: dict[str, tuple[Callable[[], Situation], Callable[[Situation], Verdict], frozenset[str]]] = {
    # name: the situation, the gate, the stations whose finance legs must be proven
    "cutover": (at_cutover, lambda s: judge_cutover("fin@ta", s), frozenset({"st-ta"})),
    "drain": (at_drain, lambda s: judge_retirement("fin@ta", Stage.DRAIN, s), frozenset({"st-ta"})),
    "shut": (at_shut, lambda s: judge_retirement("fin@ta", Stage.SHUT, s), frozenset({"st-ta", "st-va1"})),
    "remove": (at_remove, lambda s: judge_retirement("fin@tb", Stage.REMOVE, s), frozenset({"st-tb"})),
    "last": (
        at_last,
        lambda s: judge_retirement("fin@county", Stage.DRAIN, s),
        frozenset({"st-county", "st-ta", "st-tb", "st-va1"}),
    ),
}
SCENES = {name: make() for name, (make, _, _) in ALLOWED.items()}
GATE_NAMES = st.sampled_from(sorted(ALLOWED))


def needed(name: str) -> list[int]:
    """Places, in the one run of a scene, of the results that its gate needs."""
    stations = ALLOWED[name][2]
    results = SCENES[name].evidence[0].results
    return [
        i
        for i, r in enumerate(results)
        if r.check.station in stations
        and r.check.plane == "finance"
        and not (name == "cutover" and r.check.unit is not None)
    ]


def with_results(run: Evidence, results: tuple[Result, ...]) -> Evidence:
    """The same run with other results."""
    return run.model_copy(update={"results": results})


def shifted(run: Evidence, seconds: float) -> Evidence:
    """The same run, measured later (or earlier)."""
    return run.model_copy(
        update={
            "taken_from": run.taken_from + seconds,
            "taken_to": run.taken_to + seconds,
            "results": tuple(r.model_copy(update={"at": r.at + seconds}) for r in run.results),
        }
    )


# --- what each gate lets through ---


@pytest.mark.parametrize("name", sorted(ALLOWED))
def test_proven_is_allowed(name: str) -> None:
    """With fresh, bound and complete evidence, in the right state and order, a gate allows and gives no reason."""
    verdict = ALLOWED[name][1](SCENES[name])
    assert verdict.allowed, text_of(verdict)
    assert verdict.reasons == ()


# --- the laws ---


@given(name=GATE_NAMES, pick=st.randoms(use_true_random=False))
@settings(max_examples=60)
def test_any_needed_result_missing_refuses(name: str, pick: Random) -> None:
    """From an allowed verdict, removing any single needed result refuses, and names its station and service."""
    scene, judge = SCENES[name], ALLOWED[name][1]
    run = scene.evidence[0]
    place = pick.choice(needed(name))
    less = with_results(run, run.results[:place] + run.results[place + 1 :])
    verdict = judge(replace(scene, evidence=(less,)))
    gone = run.results[place].check
    assert not verdict.allowed
    assert [(r.station, r.service, r.check) for r in verdict.reasons] == [(gone.station, gone.service, gone.id)]
    assert "never measured" in verdict.reasons[0].why


SPOILERS: dict[str, Callable[[Result], Result]] = {
    "failed": lambda r: fail_check(r.check, datetime.fromtimestamp(r.at, T0.tzinfo)),
    "unknown": lambda r: fail_check(r.check, datetime.fromtimestamp(r.at, T0.tzinfo), Outcome.UNKNOWN),
    "aged": lambda r: r.model_copy(update={"at": r.at - 10_000}),
    # Further than "aged" goes back: one on top of the other must not come out right.
    "future": lambda r: r.model_copy(update={"at": r.at + 30_000}),
    "another check": lambda r: r.model_copy(update={"check": r.check.model_copy(update={"port": 80})}),
}


@given(name=GATE_NAMES, spoiler=st.sampled_from(sorted(SPOILERS)), pick=st.randoms(use_true_random=False))
@settings(max_examples=80)
def test_any_needed_result_spoiled_refuses(name: str, spoiler: str, pick: Random) -> None:
    """From an allowed verdict, failing, ageing or falsifying any single needed result refuses with one reason."""
    scene, judge = SCENES[name], ALLOWED[name][1]
    run = scene.evidence[0]
    place = pick.choice(needed(name))
    worse = with_results(run, (*run.results[:place], SPOILERS[spoiler](run.results[place]), *run.results[place + 1 :]))
    verdict = judge(replace(scene, evidence=(worse,)))
    assert not verdict.allowed
    assert len(verdict.reasons) == 1


def now_and_then(change: Callable[[Result], dict[str, object]]) -> Callable[[Result, Random], Result]:
    """Change one result in four."""
    return lambda result, pick: result if pick.random() > 1 / 4 else result.model_copy(update=change(result))


DOUBTS = {
    "hop of the old network": now_and_then(lambda _: {"hops": ("r-ta", "fin-ta:wan1")}),
    "hop by address": now_and_then(lambda _: {"hops": ("10.20.255.1",)}),
    "way back": now_and_then(lambda _: {"return_hops": ("2001:db8::1", "fin-county")}),
    "late": now_and_then(lambda r: {"at": r.at + 900}),
    "other check": now_and_then(lambda r: {"check": r.check.model_copy(update={"port": 1})}),
    "asked more": now_and_then(lambda r: {"check": r.check.model_copy(update={"way": (WayAspect.MTU,)})}),
    "less found": now_and_then(lambda r: {"findings": r.findings[1:]}),
    "said twice": now_and_then(lambda r: {"findings": (*r.findings, *r.findings[:1])}),
    "failed beside": now_and_then(
        lambda r: {"findings": (*r.findings, Finding(aspect="mtu", outcome=Outcome.FAILED, detail="short"))}
    ),
    "unknown": now_and_then(lambda _: {"outcome": Outcome.UNKNOWN, "why": "nobody answered"}),
}
"""What may be wrong, or only odd, with a pass."""


@st.composite
def messes(draw: st.DrawFn) -> tuple[str, tuple[Evidence, ...]]:
    """A gate's name, and some runs around the right time, each with some results passed, failed, or missing."""
    name = draw(GATE_NAMES)
    base = SCENES[name].evidence[0]
    places = needed(name)
    runs = []
    for number in range(draw(st.integers(1, 3))):
        run = shifted(base, draw(st.sampled_from([-700, -100, -15, -5, 0, 3])))
        spoiled = draw(
            st.dictionaries(st.sampled_from(places), st.sampled_from(["gone", *sorted(SPOILERS)]), max_size=2)
        )
        results = tuple(
            SPOILERS[spoiled[i]](r) if spoiled.get(i, "gone") != "gone" else r
            for i, r in enumerate(run.results)
            if spoiled.get(i) != "gone"
        )
        configs = draw(st.sampled_from([base.bound, bound_now(COUNTY, core1="another")]))
        runs.append(with_results(run, results).model_copy(update={"run": f"run {number}", "bound": configs}))
    return name, tuple(runs)


@given(mess=messes(), pick=st.randoms(use_true_random=False))
@settings(max_examples=300)
def test_losing_evidence_never_permits(mess: tuple[str, tuple[Evidence, ...]], pick: Random) -> None:
    """Removing, ageing or failing a passed result, or losing a run, never turns refusal into permission."""
    name, runs = mess
    scene, judge = SCENES[name], ALLOWED[name][1]
    if judge(replace(scene, evidence=runs)).allowed:
        return
    which = pick.randrange(len(runs))
    run = runs[which]
    lost = run.model_copy(update={"results": (), "problem": "the file is missing"})
    passed = [i for i in range(len(run.results)) if run.results[i].outcome is Outcome.PASSED]
    place = pick.choice(passed)
    before, after = run.results[:place], run.results[place + 1 :]
    worse = [lost, with_results(run, before + after)]
    worse += [with_results(run, (*before, spoil(run.results[place]), *after)) for spoil in SPOILERS.values()]
    for less in worse:
        verdict = judge(replace(scene, evidence=(*runs[:which], less, *runs[which + 1 :])))
        assert not verdict.allowed


@given(
    mess=messes(), doubts=st.sets(st.sampled_from(sorted(DOUBTS)), max_size=2), pick=st.randoms(use_true_random=False)
)
@settings(max_examples=300)
def test_a_plain_pass_says_what_a_closer_look_says(
    mess: tuple[str, tuple[Evidence, ...]], doubts: set[str], pick: Random
) -> None:
    """Whatever the evidence, each gate's verdict is that of looking at every result closely, for each unit."""
    name, runs = mess
    for doubt in sorted(doubts):
        runs = tuple(with_results(run, tuple(DOUBTS[doubt](r, pick) for r in run.results)) for run in runs)
    scene = replace(SCENES[name], evidence=runs)
    close = replace(scene)
    close.__dict__["legs"] = {
        place: Leg(cells=leg.cells, runs=set(), closer=leg.cells) for place, leg in replace(scene).legs.items()
    }
    assert ALLOWED[name][1](scene) == ALLOWED[name][1](close)
    for unit in FIN:
        assert judge_cutover(unit, scene) == judge_cutover(unit, close)


@given(mess=messes(), pick=st.randoms(use_true_random=False))
@settings(max_examples=100)
def test_order_is_nothing(mess: tuple[str, tuple[Evidence, ...]], pick: Random) -> None:
    """A verdict, with all its reasons, does not depend on the order of runs, results or the matrix."""
    name, runs = mess
    scene, judge = SCENES[name], ALLOWED[name][1]
    expected = judge(replace(scene, evidence=runs))
    mixed = []
    for run in runs:
        results = list(run.results)
        pick.shuffle(results)
        mixed.append(with_results(run, tuple(results)))
    pick.shuffle(mixed)
    checks = list(scene.checks)
    pick.shuffle(checks)
    assert judge(replace(scene, evidence=tuple(mixed), checks=tuple(checks))) == expected


@given(mess=messes(), pick=st.randoms(use_true_random=False))
@settings(max_examples=100)
def test_what_is_not_asked_changes_nothing(mess: tuple[str, tuple[Evidence, ...]], pick: Random) -> None:
    """Evidence about other stations and planes, passed or failed, at any time, changes nothing in a verdict."""
    name, runs = mess
    scene, judge = SCENES[name], ALLOWED[name][1]
    stations = ALLOWED[name][2]
    others = [c for c in build_checks(COUNTY) if c.station not in stations or c.plane != "finance"]
    at = scene.now + timedelta(seconds=pick.choice([-5000, -30, -12, 0, 500]))
    results = [pick.choice([pass_check, fail_check])(c, at) for c in pick.sample(others, min(5, len(others)))]
    strange = pass_check(others[0].model_copy(update={"station": "nowhere", "id": "x"}), at)
    noise = measure(COUNTY, at, results=[*results, strange])
    place = pick.randrange(len(runs) + 1)
    more = (*runs[:place], noise, *runs[place:])
    assert judge(replace(scene, evidence=more)) == judge(replace(scene, evidence=runs))


@given(name=GATE_NAMES, later_s=st.floats(0, 100_000))
@settings(max_examples=60)
def test_time_alone_takes_permission_away(name: str, later_s: float) -> None:
    """An allowed verdict stays allowed until the evidence is older than its time, and then is refused for good."""
    scene, judge = SCENES[name], ALLOWED[name][1]
    now = scene.now + timedelta(seconds=later_s)
    fresh = now.timestamp() - scene.evidence[0].taken_from <= COUNTY.policy.timers.evidence_ttl_s
    verdict = judge(replace(scene, now=now))
    assert verdict.allowed is fresh
    if not fresh:
        assert all("older than 10 min" in r.why for r in verdict.reasons)


# --- refusals, one by one ---


def test_no_matrix_no_permission() -> None:
    """An empty matrix proves nothing: everything that the inventory asks for is a reason."""
    verdict = judge_retirement("fin@ta", "drain", replace(at_drain(), checks=()))
    assert not verdict.allowed
    assert "never measured" in text_of(verdict)


def test_nothing_expected_no_permission() -> None:
    """A unit of which the inventory asks nothing cannot be retired: without a check nothing is proven."""
    empty = COUNTY.altered(services=())
    story = told()
    scene = replace(situation_of(empty, story), checks=())
    for verdict in (judge_retirement("fin@ta", "drain", scene), judge_cutover("fin@ta", scene)):
        assert "nothing is expected of fin@ta" in text_of(verdict)


def test_evidence_from_before_the_cutover_is_void() -> None:
    """What passed while the old path was up says nothing about life without it."""
    story = Story().go(*FIN, to=UnitState.PROVISIONED)
    early = measure(COUNTY, story.at)
    story.wait_s(20).go(*FIN, to=UnitState.CUT_OVER)
    quick = build_county(soak_s=0)
    early = early.model_copy(update={"bound": bound_now(quick)})
    verdict = judge_retirement("fin@ta", "drain", situation_of(quick, story, early))
    assert not verdict.allowed
    assert "before the cutover of fin@ta" in text_of(verdict)


def test_a_later_change_under_the_path_voids_evidence() -> None:
    """A change to a router under the path after the run voids it, even when the configuration came back the same."""
    story = told()
    fresh = measure(COUNTY, story.at, withheld=FIN)
    story.wait_s(20)
    key = story.begin(Step.CUTOVER, "soc@county", UnitState.PROVISIONED, UnitState.CUT_OVER, "core1")
    story.end(Step.CUTOVER, key, "soc@county", UnitState.PROVISIONED, result="undone")
    verdict = judge_retirement("fin@ta", "drain", situation_of(COUNTY, story, fresh))
    assert "before the last change on core1" in text_of(verdict)
    again = measure(COUNTY, story.at, withheld=FIN)
    assert judge_retirement("fin@ta", "drain", situation_of(COUNTY, story.wait_s(11), again)).allowed


def test_a_change_elsewhere_voids_nothing() -> None:
    """A change to a router that is not under a unit's path leaves its evidence alone."""
    story = told()
    fresh = measure(COUNTY, story.at, withheld=FIN)
    key = story.wait_s(20).begin(Step.BACK, "fin@tb", UnitState.CUT_OVER, UnitState.PROVISIONED, "r-tb")
    story.end(Step.BACK, key, "fin@tb", UnitState.PROVISIONED)
    now = bound_now(COUNTY, **{"r-tb": "changed"})
    assert judge_retirement("fin@ta", "drain", situation_of(COUNTY, story, fresh, current=now)).allowed


@pytest.mark.parametrize(
    ("current", "expected"),
    [
        (bound_now(COUNTY, core2="drifted"), "under another configuration of core2"),
        (bound_now(COUNTY).model_copy(update={"plan": "new"}), "under another address plan"),
        (bound_now(COUNTY).model_copy(update={"inventory": "new"}), "under another inventory"),
        (bound_now(COUNTY).model_copy(update={"topology": "new"}), "under another topology"),
        (bound_now(COUNTY).model_copy(update={"policy": "new"}), "under another policy"),
        (bound_now(COUNTY).model_copy(update={"configs": {}}), "what runs now on core1, core2, r-ta is not known"),
    ],
)
def test_evidence_is_bound(current: Bound, expected: str) -> None:
    """Evidence counts only under the inventory, the plan and the running configurations it was measured under."""
    verdict = judge_retirement("fin@ta", "drain", replace(at_drain(), current=current))
    assert not verdict.allowed
    assert expected in text_of(verdict)


def test_unknown_configurations_of_then_are_no_proof() -> None:
    """A run that did not record what a router under the path ran proves nothing."""
    scene = at_drain()
    run = scene.evidence[0]
    configs = {k: v for k, v in run.bound.configs.items() if k != "r-ta"}
    blind = run.model_copy(update={"bound": run.bound.model_copy(update={"configs": configs})})
    assert "without knowing what r-ta ran" in text_of(
        judge_retirement("fin@ta", "drain", replace(scene, evidence=(blind,)))
    )


@pytest.mark.parametrize("hop", ["fin-county", "router fin-ta", "fin-county:wan1", "10.20.255.1"])
def test_a_legacy_hop_is_no_proof(hop: str) -> None:
    """A pass whose path held a legacy router, by name or address, does not count."""
    scene = at_drain()
    run = scene.evidence[0]
    place = next(i for i in needed("drain") if run.results[i].check.expect == "reach")
    through = run.results[place].model_copy(update={"hops": ("r-ta", hop)})
    bad = with_results(run, (*run.results[:place], through, *run.results[place + 1 :]))
    verdict = judge_retirement("fin@ta", "drain", replace(scene, evidence=(bad,)))
    assert [r.why.split(" (")[0] for r in verdict.reasons] == [
        f"path: no legacy router on the way - expected none, found {hop}"
    ]


@given(st.data())
def test_whatever_a_check_asks_must_stand_in_its_pass(data: st.DataObject) -> None:
    """Law: take any aspect that the matrix asks out of a pass, or let it not have passed, and the gate refuses by its name."""
    scene = at_drain()
    run = scene.evidence[0]
    place = data.draw(st.sampled_from(needed("drain")))
    result = run.results[place]
    aspect = data.draw(st.sampled_from(result.check.asks))
    outcome = data.draw(st.sampled_from([None, Outcome.UNKNOWN, Outcome.FAILED]))
    rest = tuple(f for f in result.findings if f.aspect != aspect)
    less = () if outcome is None else (Finding(aspect=aspect, outcome=outcome, detail="no answer"),)
    blind = result.model_copy(update={"findings": (*rest, *less)})
    bad = with_results(run, (*run.results[:place], blind, *run.results[place + 1 :]))
    verdict = judge_retirement("fin@ta", "drain", replace(scene, evidence=(bad,)))
    assert not verdict.allowed
    assert [r.why.split(":")[0] for r in verdict.reasons] == [aspect]


def test_a_legacy_hop_on_the_way_back_is_no_proof() -> None:
    """A pass whose answers came back over a legacy router does not count."""
    scene = at_drain()
    run = scene.evidence[0]
    place = next(i for i in needed("drain") if run.results[i].check.expect == "reach")
    back = run.results[place].model_copy(update={"return_hops": ("core1", "fin-county:lan1")})
    bad = with_results(run, (*run.results[:place], back, *run.results[place + 1 :]))
    (reason,) = judge_retirement("fin@ta", "drain", replace(scene, evidence=(bad,))).reasons
    assert reason.why.startswith("return: no legacy router on the way - expected none, found fin-county:lan1")


@given(st.sets(st.sampled_from(list(WayAspect))), st.sets(st.sampled_from(list(WayAspect))))
def test_a_check_that_asked_less_of_the_way_is_another_check(asked: set[WayAspect], wanted: set[WayAspect]) -> None:
    """Law: a measured check counts for the matrix's exactly when it asked all that this asks of the way."""
    check = next(c for c in build_checks(COUNTY) if c.expect == "reach")
    one, other = (check.altered(way=tuple(sorted(w))) for w in (asked, wanted))
    assert one.covers(other) == (wanted <= asked)


def test_the_last_word_counts() -> None:
    """A failure after a pass refuses with its reason; a pass after the failure allows again."""
    scene = at_drain()
    run = scene.evidence[0]
    check = run.results[needed("drain")[0]].check
    failed = measure(COUNTY, scene.now, results=[fail_check(check, scene.now)])
    mended = measure(COUNTY, scene.now + timedelta(seconds=60), withheld=FIN)
    later = replace(scene, now=scene.now + timedelta(seconds=90))
    refused = judge_retirement("fin@ta", "drain", replace(later, evidence=(run, failed)))
    assert [r.why.split(" (")[0] for r in refused.reasons] == [
        "tcp: connection to port 443 - expected open, found refused"
    ]
    assert judge_retirement("fin@ta", "drain", replace(later, evidence=(run, failed, mended))).allowed


def test_overlapping_runs_that_disagree_refuse() -> None:
    """Of two runs at the same time, of which one failed, nobody knows which is right: refused."""
    scene = at_drain()
    run = scene.evidence[0]
    check = run.results[needed("drain")[0]].check
    began = datetime.fromtimestamp(run.taken_from - 5, T0.tzinfo)
    failed = measure(COUNTY, began, results=[fail_check(check, began)])
    assert not judge_retirement("fin@ta", "drain", replace(scene, evidence=(run, failed))).allowed


def test_a_lost_run_outweighs_older_passes_of_everybody() -> None:
    """Deleting the file of a later run voids what came before for all: it may have measured more than the units it names."""
    scene = at_drain()
    at = scene.now
    later = replace(scene, now=at + timedelta(seconds=30))
    for units in ((), ("fin@ta",), ("fin@tb",)):
        lost = measure(COUNTY, at, results=[], units=units).model_copy(update={"problem": "evidence/x is missing"})
        verdict = judge_retirement("fin@ta", "drain", replace(later, evidence=(*scene.evidence, lost)))
        assert not verdict.allowed, units
        assert "a run is lost: evidence/x is missing" in text_of(verdict)


def test_failure_under_a_clock_set_back_still_counts() -> None:
    """What the ledger holds later counts as later: a clock set back does not make a failure look old."""
    scene = at_drain()
    run = scene.evidence[0].model_copy(update={"seq": 5})
    check = run.results[needed("drain")[0]].check
    began = scene.now - timedelta(minutes=30)
    failed = measure(COUNTY, began, results=[fail_check(check, began)])
    assert judge_retirement("fin@ta", "drain", replace(scene, evidence=(run, failed))).allowed
    after = failed.model_copy(update={"seq": 9})
    assert not judge_retirement("fin@ta", "drain", replace(scene, evidence=(run, after))).allowed


def test_evidence_from_the_future_is_refused() -> None:
    """A run that ended later than now is no proof: a clock is wrong."""
    scene = at_drain()
    ahead = shifted(scene.evidence[0], 300)
    assert "in the future" in text_of(judge_retirement("fin@ta", "drain", replace(scene, evidence=(ahead,))))


def test_a_station_with_a_wrong_clock_is_told_so() -> None:
    """A station whose clock disagrees with the controller's proves nothing, and the reason says what to set right."""
    scene = at_drain()
    run = scene.evidence[0]
    off = with_results(run, tuple(r.model_copy(update={"at": r.at + 90}) for r in run.results))
    assert "the station's clock is off by about 85 s" in text_of(
        judge_retirement("fin@ta", "drain", replace(scene, evidence=(off,)))
    )


def test_a_clock_that_its_session_found_wrong_counts_for_nothing() -> None:
    """In a run that lasts long enough a wrong clock's times may lie inside; the session itself has compared the clocks."""
    scene = at_drain()
    run = scene.evidence[0]

    def told(skew_s: float) -> str:
        results = tuple(r.model_copy(update={"raw": {**r.raw, "clock_skew_s": skew_s}}) for r in run.results)
        return text_of(judge_retirement("fin@ta", "drain", replace(scene, evidence=(with_results(run, results),))))

    assert told(3.0) == told(0.0) == ""
    assert "the station's clock is off by about 20 s" in told(-20.0)


def test_isolation_is_part_of_proof() -> None:
    """A unit is not retired while a station's leg reaches a department it must not reach."""
    scene = at_drain()
    run = scene.evidence[0]
    place = next(i for i in needed("drain") if run.results[i].check.expect == "blocked")
    open_door = fail_check(run.results[place].check, scene.now)
    bad = with_results(run, (*run.results[:place], open_door, *run.results[place + 1 :]))
    verdict = judge_retirement("fin@ta", "drain", replace(scene, evidence=(bad,)))
    assert "must be blocked" in text_of(verdict)


# --- state, order and time ---


def test_soak_and_hold_must_be_over() -> None:
    """A link is drained only after the soak, and removed only after the hold, counted from the last entry."""
    story = told(soaked=False)
    fresh = measure(COUNTY, story.at)
    early = judge_retirement("fin@ta", "drain", situation_of(COUNTY, story.wait_s(15), fresh))
    assert "the soak of fin@ta is not over - expected 1 h" in text_of(early)
    story = told().go("fin@tb", to=UnitState.SHUT)
    fresh = measure(COUNTY, story.at)
    held = judge_retirement("fin@tb", "remove", situation_of(COUNTY, story.wait_s(15), fresh))
    assert "the hold of fin@tb is not over - expected 30 min" in text_of(held)


def test_a_soak_begun_in_the_future_is_refused() -> None:
    """With the clock set back behind the cutover, no soak is over."""
    scene = at_drain()
    verdict = judge_retirement("fin@ta", "drain", replace(scene, now=T0))
    assert "in the future" in text_of(verdict)


@pytest.mark.parametrize(
    ("stage", "state"),
    [
        ("drain", UnitState.PROVISIONED),
        ("drain", UnitState.DRAINED),
        ("shut", UnitState.CUT_OVER),
        ("remove", UnitState.DRAINED),
        ("remove", UnitState.REMOVED),
    ],
)
def test_stages_come_in_order(stage: str, state: UnitState) -> None:
    """A stage begins only from the state before it."""
    story = Story().go("fin@county", to=UnitState.CUT_OVER).go("fin@tb", to=state).wait_s(5000)
    fresh = measure(COUNTY, story.at)
    verdict = judge_retirement("fin@tb", stage, situation_of(COUNTY, story.wait_s(20), fresh))
    assert f"fin@tb cannot {stage} now" in text_of(verdict)


def test_the_county_cuts_over_first() -> None:
    """No unit cuts over before its network's unit at the county, which is where its servers are."""
    story = Story().go(*FIN, to=UnitState.PROVISIONED)
    fresh = measure(COUNTY, story.at)
    scene = situation_of(COUNTY, story.wait_s(20), fresh)
    assert "fin@county cuts over first" in text_of(judge_cutover("fin@ta", scene))
    assert judge_cutover("fin@county", scene).allowed


def test_the_county_retires_last() -> None:
    """The county's unit is not even drained while another unit of the network is not shut."""
    story = told().go("fin@ta", "fin@va1", to=UnitState.SHUT)
    fresh = measure(COUNTY, story.at)
    verdict = judge_retirement("fin@county", "drain", situation_of(COUNTY, story.wait_s(20), fresh))
    assert "fin@tb still hangs on this link - expected shut or later, found cut_over" in text_of(verdict)
    assert "fin@ta still" not in text_of(verdict)


def test_a_town_is_not_shut_over_its_villages() -> None:
    """A town's line is not shut while a village behind the same legacy router is not, nor removed before it is."""
    story = told().go("fin@ta", to=UnitState.DRAINED)
    fresh = measure(COUNTY, story.at)
    verdict = judge_retirement("fin@ta", "shut", situation_of(COUNTY, story.wait_s(20), fresh))
    assert "fin@va1 still hangs on this link - expected shut or later, found cut_over" in text_of(verdict)
    story = told().go("fin@va1", "fin@ta", to=UnitState.SHUT).wait_s(2000)
    fresh = measure(COUNTY, story.at)
    verdict = judge_retirement("fin@ta", "remove", situation_of(COUNTY, story.wait_s(20), fresh))
    assert "expected removed or later, found shut" in text_of(verdict)


def test_a_village_not_cut_over_holds_the_town() -> None:
    """Whoever still uses a town's line is a reason by its own name, not only by its state."""
    story = Story().go("fin@county", "fin@ta", to=UnitState.CUT_OVER).wait_s(4000)
    story.go("fin@ta", to=UnitState.DRAINED)
    fresh = measure(COUNTY, story.at)
    verdict = judge_retirement("fin@ta", "shut", situation_of(COUNTY, story.wait_s(20), fresh))
    assert "fin@va1 is not cut over" in text_of(verdict)


@pytest.mark.parametrize(
    ("step", "start", "command"),
    [
        (Step.CUTOVER, UnitState.PROVISIONED, "cutover fin@ta"),
        (Step.PROVE, UnitState.CUT_OVER, "prove fin@ta"),
        (Step.DRAIN, UnitState.SOAKED, "retire fin@ta --until drained"),
        (Step.BACK, UnitState.DRAINED, "retire fin@ta --undo"),
        (Step.BACK, UnitState.CUT_OVER, "cutover fin@ta --back"),
    ],
)
def test_what_was_interrupted_is_said_with_the_command_that_ends_it(step: Step, start: UnitState, command: str) -> None:
    """The gate names what to type again, before anything else that it would have done."""
    story = Story().go(*FIN, to=UnitState.CUT_OVER).wait_s(4000)
    story.begin(step, "fin@ta", start, UnitState.DRAINED, "r-ta")
    verdict = judge_retirement("fin@ta", "drain", situation_of(COUNTY, story, measure(COUNTY, story.at)))
    assert f"'extranet {command} --yes'" in verdict.reasons[0].why


def test_an_unfinished_change_holds_the_gate_but_not_itself() -> None:
    """An open intent refuses every other act on the unit; the command that takes it up again is not held by it."""
    story = told()
    key = story.begin(Step.DRAIN, "fin@ta", UnitState.CUT_OVER, UnitState.DRAINED, "fin-county")
    fresh = measure(COUNTY, story.at, withheld=FIN)
    scene = situation_of(COUNTY, story.wait_s(20), fresh)
    verdict = judge_retirement("fin@ta", "drain", scene)
    assert f"a change of fin@ta is unfinished ({key})" in text_of(verdict)
    assert judge_retirement("fin@ta", "drain", replace(scene, resuming=key)).allowed


def test_a_record_that_cannot_be_holds_the_gate() -> None:
    """A unit whose record jumps is refused until it was taken back."""
    story = Story()
    story.end(Step.SHUT, story.begin(Step.SHUT, "fin@ta", UnitState.SURVEYED, UnitState.SHUT), "fin@ta", UnitState.SHUT)
    verdict = judge_cutover("fin@ta", situation_of(COUNTY, story))
    assert "shut took it from surveyed to shut" in text_of(verdict)


# --- proof, provision and back ---


def test_a_trial_is_proven_only_with_the_old_path_withheld() -> None:
    """A cutover is kept when everything passed in a run with the unit's old path withheld, and not otherwise."""
    story = Story().go(*FIN, to=UnitState.PROVISIONED).go("fin@county", to=UnitState.CUT_OVER)
    key = story.begin(Step.CUTOVER, "fin@ta", UnitState.PROVISIONED, UnitState.CUT_OVER, "r-ta", "fin-ta")
    since = story.at
    now = since + timedelta(seconds=30)
    for withheld, allowed in ((("fin@ta",), True), ((), False), (("fin@tb",), False)):
        run = measure(COUNTY, since + timedelta(seconds=5), withheld=withheld)
        scene = situation_of(COUNTY, story, run, now=now, resuming=key)
        verdict = judge_proof("fin@ta", scene, since=since)
        assert verdict.allowed is allowed
        if not allowed:
            assert "while the old path of fin@ta was up, which proves nothing" in text_of(verdict)
    early = measure(COUNTY, since - timedelta(seconds=5), withheld=("fin@ta",))
    scene = situation_of(COUNTY, story, early, now=now, resuming=key)
    assert "before the old path was withheld" in text_of(judge_proof("fin@ta", scene, since=since))


def test_a_line_is_retired_only_after_a_trial_without_it() -> None:
    """While the old link is up a pass proves nothing, drained or not; once it is shut, any later run counts."""
    story = told()
    beside = measure(COUNTY, story.at)
    verdict = judge_retirement("fin@ta", "drain", situation_of(COUNTY, story.wait_s(20), beside))
    assert not verdict.allowed
    assert all("while the old path of fin@ta was up, which proves nothing" in r.why for r in verdict.reasons)
    story.go("fin@ta", "fin@va1", to=UnitState.DRAINED).go("fin@va1", to=UnitState.SHUT)
    verdict = judge_retirement("fin@ta", "shut", situation_of(COUNTY, story, beside))
    assert "while the old path of fin@ta was up" in text_of(verdict)
    drained = measure(COUNTY, story.at)  # a drain takes a route away: what leans on the line works on
    verdict = judge_retirement("fin@ta", "shut", situation_of(COUNTY, story.wait_s(20), drained))
    assert {r.station for r in verdict.reasons} == {"st-ta", "st-va1"}
    assert all(
        "while the old path of fin@ta was up, which proves nothing: 'extranet prove fin@ta'" in r.why
        for r in verdict.reasons
    )
    alone = measure(COUNTY, story.at, withheld=("fin@ta",))
    assert judge_retirement("fin@ta", "shut", situation_of(COUNTY, story.wait_s(20), drained, alone)).allowed
    story.go("fin@ta", to=UnitState.SHUT).go("fin@va1", to=UnitState.REMOVED).wait_s(2000)
    after = measure(COUNTY, story.at)
    assert judge_retirement("fin@ta", "remove", situation_of(COUNTY, story.wait_s(20), after)).allowed


def test_who_is_shut_needs_no_trial_any_more() -> None:
    """A village that is shut waits with its town in one wave for a run without the town's line; advice names the town alone."""
    story = told()
    story.go("fin@va1", to=UnitState.SHUT).wait_s(2000)
    beside, alone = measure(COUNTY, story.at), measure(COUNTY, story.at, withheld=("fin@ta",))
    scene = situation_of(COUNTY, story.wait_s(20), beside)
    assert judge_retirement("fin@va1", "remove", scene).allowed  # by itself its own closed line is all that counts
    verdict = judge_retirement("fin@va1", "remove", scene, together=["fin@ta"])
    assert not verdict.allowed
    assert all(r.why.partition("nothing: ")[2].startswith("'extranet prove fin@ta'") for r in verdict.reasons)
    scene = situation_of(COUNTY, story, beside, alone)
    assert judge_retirement("fin@va1", "remove", scene, together=["fin@ta"]).allowed


def test_a_trial_takes_nobody_elses_line_away() -> None:
    """A unit's old line is withheld after its cutover only when all whom it carries or serves are cut over, too."""
    scene = situation_of(COUNTY, told())
    assert all(judge_trial(u, scene, together=FIN).allowed for u in FIN)
    partly = Story().go(*FIN[:2], to=UnitState.CUT_OVER)
    assert "fin@tb is still carried by it" in text_of(judge_trial("fin@county", situation_of(COUNTY, partly)))
    assert judge_trial("fin@ta", situation_of(COUNTY, partly.go("fin@va1", to=UnitState.SHUT))).allowed
    gone = told().go("fin@tb", to=UnitState.DRAINED)
    assert judge_trial("fin@tb", situation_of(COUNTY, gone)).allowed  # its line is up, and may be closed for a while
    assert "cannot prove now" in text_of(
        judge_trial("fin@tb", situation_of(COUNTY, gone.go("fin@tb", to=UnitState.SHUT)))
    )


@pytest.mark.parametrize(
    ("state", "named", "words"),
    [
        (UnitState.PROVISIONED, (), "expected cut_over, found provisioned: cut it over first"),
        (UnitState.PROVISIONED, ("fin@va1",), "expected cut_over, found provisioned: cut it over first"),
        (UnitState.CUT_OVER, (), "name them all, 'extranet prove fin@ta fin@va1'"),
        (UnitState.CUT_OVER, ("fin@tb",), "name them all, 'extranet prove fin@ta fin@tb fin@va1'"),
        (UnitState.CUT_OVER, ("fin@va1",), ""),
        (UnitState.DRAINED, (), "name them all, 'extranet prove fin@ta fin@va1'"),
        (UnitState.DRAINED, ("fin@va1",), ""),
        (UnitState.SHUT, (), ""),
    ],
)
def test_a_line_that_stays_up_is_not_called_withheld(state: UnitState, named: tuple[str, ...], words: str) -> None:
    """A town is tried only with all that hold its line up; each left out is named, with what to do; others need nobody."""
    story = Story().go("fin@county", "fin@ta", "fin@tb", to=UnitState.CUT_OVER).go("fin@va1", to=state)
    verdict = judge_trial("fin@ta", situation_of(COUNTY, story), together=named)
    assert verdict.allowed is (words == "")
    assert all(r.kind is ReasonKind.DEPENDENT and r.why.startswith("fin@va1 hangs behind") for r in verdict.reasons)
    assert words in text_of(verdict)
    assert judge_trial("fin@tb", situation_of(COUNTY, story)).allowed
    if state is not UnitState.PROVISIONED:
        assert judge_trial("fin@county", situation_of(COUNTY, story)).allowed


def test_cutover_does_not_wait_for_what_only_cutover_provides() -> None:
    """Before a cutover its own IPv4 cannot pass over the new path, so only what provisioning provides is asked for."""
    scene = SCENES["cutover"]
    run = scene.evidence[0]
    results = tuple(fail_check(r.check, scene.now) if r.check.unit == "fin@ta" else r for r in run.results)
    assert judge_cutover("fin@ta", replace(scene, evidence=(with_results(run, results),))).allowed


def test_provision_asks_for_plan_and_timer() -> None:
    """A push is refused without a plan, with another plan, without a rollback timer, or onto a legacy router."""
    scene = situation_of(COUNTY, Story())
    able = {d.id: FRR for d in COUNTY.devices}
    assert judge_provision(["core1", "r-ta"], scene, capabilities=able, plan_digest="plan").allowed
    none = FRR.model_copy(update={"rollback_timer": False})
    for devices, capabilities, plan, expected in (
        ([], able, "plan", "no device to provision"),
        (["core1"], able, None, "there is no address plan"),
        (["core1"], able, "old", "another address plan"),
        (["core1"], {}, "plan", "core1: what it can do is not known"),
        (["core1"], {"core1": none}, "plan", "no rollback timer"),
        (["fin-ta"], able, "plan", "a legacy router is never replaced whole"),
        (["elsewhere"], able, "plan", "elsewhere: not in the inventory"),
    ):
        verdict = judge_provision(devices, scene, capabilities=capabilities, plan_digest=plan)
        assert expected in text_of(verdict)
    accepted = frozenset({"core1"})
    assert judge_provision(
        ["core1"], scene, capabilities={"core1": none}, plan_digest="plan", accepted=accepted
    ).allowed


def test_provision_waits_for_an_unfinished_change() -> None:
    """A device under an unfinished change is not given another one."""
    story = Story()
    key = story.begin(Step.PROVISION, "fin@ta", UnitState.PLANNED, UnitState.PROVISIONED, "r-ta")
    scene = situation_of(COUNTY, story)
    able = {d.id: FRR for d in COUNTY.devices}
    verdict = judge_provision(["r-ta"], scene, capabilities=able, plan_digest="plan")
    assert f"a change is unfinished ({key})" in text_of(verdict)
    assert judge_provision(["r-ta"], replace(scene, resuming=key), capabilities=able, plan_digest="plan").allowed


def test_back_needs_an_old_path() -> None:
    """Nothing comes back from removed; a village not over its town's shut line; the county not under cut-over towns."""
    gone = Story().go("fin@tb", to=UnitState.REMOVED)
    assert "removed has no way back" in text_of(judge_back("fin@tb", situation_of(COUNTY, gone)))
    under = told().go("fin@va1", "fin@ta", to=UnitState.SHUT)
    assert "fin@ta carries its old path" in text_of(judge_back("fin@va1", situation_of(COUNTY, under)))
    assert judge_back("fin@ta", situation_of(COUNTY, under)).allowed
    assert "fin@ta must go back first" in text_of(judge_back("fin@county", situation_of(COUNTY, told())))
    assert "nothing to go back from" in text_of(judge_back("fin@ta", situation_of(COUNTY, Story())))


def test_names_are_checked_before_any_gate() -> None:
    """A classified or unknown unit is an error, never a verdict; the refusal alone names the classified one."""
    scene = at_drain()
    with pytest.raises(ScopeGuardError, match="hidden@ta"):
        judge_retirement("hidden@ta", "drain", scene)
    with pytest.raises(UnknownNameError, match="did you mean fin@ta"):
        judge_cutover("fin@taa", scene)


# --- a whole county ---


def test_the_sample_county_can_be_taken_to_the_end() -> None:
    """In the right order, with everything measured, every unit of the sample county may be cut over and retired."""
    county = load_county(Path(__file__).resolve().parents[2] / "inventory" / "yichuan")
    few = Soak(samples=2, longest_gap_s=30 * 86400, business_days=0)
    county = county.altered(policy=county.policy.altered(soak=few))
    topology = build_topology(county)
    checks = build_matrix(county, topology, make_plan(county, topology, None)).checks
    hubs = [u.id for u in county.units if u.site == county.county_site.id]
    villages = [u.id for u in county.units if county.circuit_by_id[u.circuit].device is None]
    towns = [u.id for u in county.units if u.id not in {*hubs, *villages}]
    assert hubs
    assert towns
    assert villages

    names = tuple(
        NameSeen(name=name, family=family, resolver=check.resolver or "", station=check.station, plane=plane)
        for plane, asked in names_to_ask(county, checks).items()
        for (name, family), check in asked.items()
    )

    def scene(story: Story) -> Situation:
        began = story.at
        results = [pass_check(c, began + timedelta(seconds=5)) for c in checks]
        withheld = [u.id for u in county.units]
        run = measure(county, began, results=results, bound=bound_now(county), withheld=withheld)
        found = situation_of(county, story.wait_s(20), run)
        soak = tuple(s.model_copy(update={"names": names}) for s in found.soak)
        return replace(found, checks=checks, soak=soak)

    def all_allowed(verdicts: list[Verdict]) -> None:
        for verdict in verdicts:
            assert verdict.allowed, f"{verdict.unit} {verdict.gate}: {text_of(verdict)[:500]}"

    story = Story().go(*hubs, *towns, *villages, to=UnitState.PROVISIONED)
    all_allowed([judge_cutover(u, scene(story)) for u in hubs[:1]])
    story.go(*hubs, to=UnitState.CUT_OVER)
    now = scene(story)
    all_allowed([judge_cutover(u, now) for u in (*towns, *villages)])
    story.go(*towns, *villages, to=UnitState.CUT_OVER).wait_s(county.policy.timers.soak_s)
    for group in (villages, towns, hubs):
        now = scene(story)
        all_allowed([judge_retirement(u, "drain", now) for u in group])
        now = scene(story.go(*group, to=UnitState.DRAINED))
        all_allowed([judge_retirement(u, "shut", now) for u in group])
        story.go(*group, to=UnitState.SHUT)
    for group in (villages, towns, hubs):
        now = scene(story.wait_s(county.policy.timers.hold_s))
        all_allowed([judge_retirement(u, "remove", now) for u in group])
        story.go(*group, to=UnitState.REMOVED)
    assert {r.state for r in fold(story.events, county).values()} == {UnitState.REMOVED}
