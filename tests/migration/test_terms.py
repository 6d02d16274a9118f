"""Terms: a policy that one person loosened opens nothing, unless two answer for it or it is put back."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from functools import cache
from ipaddress import IPv4Network
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inventory.model import DAYS, OutagePolicy, Policy, Probing, Protocol, Soak, Timers
from migration.events import Kind
from migration.evidence import policy_digest
from migration.gates import Stage, Verdict, judge_cutover, judge_retirement
from migration.ledger import Ledger
from migration.proof import Reason, ReasonKind, Situation
from migration.soak_samples import collect_samples, make_sample, write_sample
from migration.steps import record_verdict
from migration.terms import (
    LOOSER,
    SAMPLED_UNDER,
    Asked,
    Policies,
    find_loosened,
    flatten,
    fold_policies,
    note_policy,
    policy_values,
    read_asked,
    read_services,
)
from migration.units import UnitState
from migration.waivers import Waiver
from tests.migration.scene import StoppedClock, Story, build_county, measure, situation_of
from tests.migration.soak_scene import run_of_samples

COUNTY = build_county()
FIN = ("fin@county", "fin@ta", "fin@tb", "fin@va1")
UNIT = "fin@ta"
ASKED = COUNTY.asked[COUNTY.unit_by_id[UNIT].site, COUNTY.unit_by_id[UNIT].plane]


def policy_with(**changes: Any) -> Policy:
    """The county's policy with values changed, named `section__value`."""
    policy = COUNTY.policy
    for name, value in changes.items():
        section, _, key = name.rpartition("__")
        inner = getattr(policy, section).altered(**{key: value}) if section else None
        policy = policy.altered(**({section: inner} if section else {key: value}))
    return policy


@cache
def at_drain() -> Situation:
    """A situation in which a town's unit may be drained, cut over under the policy of now."""
    story = Story().go(*FIN, to=UnitState.CUT_OVER).wait_s(4000)
    fresh = measure(COUNTY, story.at, withheld=FIN)
    return situation_of(COUNTY, story.wait_s(20), fresh)


def now_under(policy: Policy, scene: Situation | None = None) -> Situation:
    """The same, after somebody edited the policy; everything is as if measured under it."""
    return replace(scene or at_drain(), policy=policy)


def policy_reasons(scene: Situation, stage: Stage = Stage.DRAIN) -> list[Reason]:
    """What stands against a unit's drain by its policy."""
    return [r for r in judge_retirement(UNIT, stage, scene).reasons if r.kind is ReasonKind.POLICY]


# --- what asks less ---


def test_every_value_of_the_policy_is_judged() -> None:
    """Each value that a policy has is in the list of what asks less, and nothing else is."""
    assert set(flatten(policy_values(COUNTY.policy))) == set(LOOSER)
    assert set(LOOSER) >= SAMPLED_UNDER


LESS = {
    "timers.soak_s": 0,
    "timers.hold_s": 0,
    "timers.exception_s": 90 * 86400,
    "timers.evidence_ttl_s": 86400,
    "timers.probe_timeout_s": 30.0,
    "timers.blocked_wait_s": 0.5,
    "timers.converge_s": 900,
    "outage.budget_s": 3600.0,
    "outage.retire_budget_s": 60.0,
    "outage.rate_per_s": 1.0,
    "outage.most_per_s": 10,
    "outage.stations": "moved",
    "probing.echo_count": 3,
    "probing.echo_interval_ms": 5,
    "probing.max_loss": 0.5,
    "probing.max_rtt_ms": 2000.0,
    "probing.min_mtu_bytes": 1280,
    "probing.throughput_share": 0.01,
    "probing.throughput_cap_mbps": 1.0,
    "soak.longest_gap_s": 20 * 86400,
    "soak.hours": "10:00-11:00",
    "soak.days": ["mon"],
    "soak.time_zone": "Europe/Berlin",
    "soak.packets_per_minute": 100_000,
    "soak.bytes_per_minute": 100_000_000,
    "soak.packets_a_gap": 1_000_000,
    "soak.bytes_a_gap": 1_000_000_000,
    "soak.forwarded_per_minute": 1000,
    "soak.line_losses": 3,
    "soak.listen_s": 0.0,
    "soak.must_know": ["counters"],
    "quarantine_days": 0,
    "planes": [],
}


@pytest.mark.parametrize("name", sorted(LESS))
def test_each_value_that_asks_less_is_named(name: str) -> None:
    """Every single value, changed to ask less, is found, with what it was and what it is."""
    then = policy_values(COUNTY.policy)
    section, _, key = name.rpartition(".")
    now = {**then, section: {**then[section], key: LESS[name]}} if section else {**then, key: LESS[name]}
    assert [one.name for one in find_loosened(then, now)] == [name]


@pytest.mark.parametrize(("name", "more"), [("samples", 3), ("business_days", 1), ("samples_a_day", 5)])
def test_asking_more_needs_nothing_and_taking_it_back_does(name: str, more: int) -> None:
    """A count that grows is nothing; one that shrinks is named."""
    old, new = policy_values(COUNTY.policy), policy_values(policy_with(**{f"soak__{name}": more}))
    expected = [f"soak.{name}"] if more > old["soak"][name] else []
    assert [one.name for one in find_loosened(new, old)] == expected


def test_what_nobody_knows_asks_less() -> None:
    """A value that this version does not know asks less however it changes, and when it is gone; a new one does not."""
    then = policy_values(COUNTY.policy)
    assert find_loosened({**then, "wit": 1}, {**then, "wit": 2})
    assert find_loosened({**then, "wit": 1}, then)
    assert not find_loosened(then, {**then, "wit": 1})
    assert find_loosened(then, {**then, "quarantine_days": "many"})


def test_a_plane_may_come_and_none_may_lose_its_walls() -> None:
    """A plane that is added is nothing; one that is gone or becomes public is named."""
    then = policy_values(COUNTY.policy)
    opened = [{**p, "kind": "public"} if p["kind"] == "dedicated" else p for p in then["planes"]]
    more = [*then["planes"], {**then["planes"][0], "id": "new"}]
    assert not find_loosened(then, {**then, "planes": more})
    assert [one.name for one in find_loosened(then, {**then, "planes": opened})] == ["planes"]


TIMERS = st.builds(
    Timers,
    soak_s=st.sampled_from([0, 1800, 3600, 3900, 7200]),
    hold_s=st.sampled_from([0, 1800, 9000]),
    evidence_ttl_s=st.sampled_from([10, 15, 600, 7200]),
    probe_timeout_s=st.sampled_from([1.0, 3.0, 9.0]),
)
SOAKS = st.builds(
    Soak,
    samples=st.sampled_from([2, 3, 9]),
    longest_gap_s=st.sampled_from([60, 4500, 10 * 86400]),
    business_days=st.sampled_from([0, 1]),
    samples_a_day=st.sampled_from([1, 2]),
    listen_s=st.sampled_from([0.0, 3.0]),
    must_know=st.lists(st.sampled_from(["counters", "neighbors", "flows"]), max_size=3, unique=True).map(tuple),
    days=st.lists(st.sampled_from(DAYS), min_size=1, max_size=7, unique=True).map(tuple),
)
POLICIES = st.builds(
    lambda timers, soak, outage, probing: COUNTY.policy.altered(
        timers=timers, soak=soak, outage=outage, probing=probing
    ),
    TIMERS,
    SOAKS,
    st.builds(OutagePolicy, budget_s=st.sampled_from([0.0, 10.0, 60.0])),
    st.builds(Probing, max_loss=st.sampled_from([0.0, 0.05, 0.5]), throughput_in_proof=st.booleans()),
)


@given(POLICIES, POLICIES, POLICIES)
def test_asking_less_is_an_order(first: Policy, second: Policy, third: Policy) -> None:
    """Nothing asks less than itself; and what asks no less than the second, which asks no less than the first, does not."""
    one, two, three = map(policy_values, (first, second, third))
    assert find_loosened(one, one) == ()
    if not find_loosened(one, two) and not find_loosened(two, three):
        assert not find_loosened(one, three)
    if one != two and not find_loosened(one, two):
        assert find_loosened(two, one)


@given(then=POLICIES, now=POLICIES)
@settings(max_examples=80, deadline=None)
def test_no_edit_of_the_policy_opens_a_gate(then: Policy, now: Policy) -> None:
    """Whatever the policy becomes: a drain that was refused under the unit's terms is not allowed under it."""
    scene, note, later = at_drain(), note_policy(then), note_policy(now)
    terms = {u: t.model_copy(update={"digest": note["digest"]}) for u, t in scene.policies.terms.items()}
    kept = {n["digest"]: n["policy"] for n in (note, later)}
    scene = replace(scene, policies=Policies({**scene.policies.values, **kept}, terms))
    if not judge_retirement(UNIT, Stage.DRAIN, replace(scene, policy=then)).allowed:
        assert not judge_retirement(UNIT, Stage.DRAIN, replace(scene, policy=now)).allowed


# --- what the gate says ---


def test_the_unchanged_policy_allows() -> None:
    """Under the policy it was cut over under, a unit that is proven and soaked may be drained."""
    assert judge_retirement(UNIT, Stage.DRAIN, at_drain()).allowed


def test_a_soak_cut_short_by_an_edit_is_refused_with_both_values() -> None:
    """Nobody makes a soak shorter with an editor: the reason says what it was, what it is, and what to do."""
    (reason,) = policy_reasons(now_under(policy_with(timers__soak_s=0)))
    assert "policy timers.soak_s was 3600 when the cutover of fin@ta was allowed" in reason.why
    assert "is 0 now" in reason.why
    assert reason.aspect == "timers.soak_s 3600 → 0"


def test_putting_it_back_or_asking_more_lifts_it() -> None:
    """The reason is gone with the edit; a policy that asks more is none."""
    assert policy_reasons(at_drain()) == []
    assert policy_reasons(now_under(policy_with(timers__soak_s=3900, soak__packets_per_minute=1))) == []


def waived(scene: Situation, *reasons: Reason) -> Situation:
    """The situation with these reasons excused on record by two."""
    waiver = Waiver(
        id="ex-1",
        unit=UNIT,
        gate="drain",
        reasons=reasons,
        why="the line is cut by roadworks",
        by="head of finance",
        approved_by="head of the county",
        until=scene.now + timedelta(days=1),
        recorded=scene.now,
        confirmed=scene.now,
    )
    return replace(scene, waivers=(waiver,))


def test_two_may_answer_for_just_that_loosening() -> None:
    """A recorded exception lifts the very edit it names, printed with the verdict; a further edit stands anew."""
    scene = now_under(policy_with(timers__soak_s=1800))
    reasons = policy_reasons(scene)
    verdict = judge_retirement(UNIT, Stage.DRAIN, waived(scene, *reasons))
    assert verdict.allowed
    assert [(r.kind, r.exception) for r in verdict.excused] == [(ReasonKind.POLICY, "ex-1")]
    further = now_under(policy_with(timers__soak_s=0))
    assert [r.aspect for r in policy_reasons(waived(further, *reasons))] == ["timers.soak_s 3600 → 0"]


# --- what the windows need ---


@pytest.mark.parametrize("asked", ASKED, ids=" ".join)
def test_what_was_needed_at_the_cutover_cannot_be_dropped_by_one_edit(asked: Asked) -> None:
    """A need or a ban that the survey no longer has stands against every stage, by station and service, until two answer."""
    scene = at_drain()
    station, plane, service, family, expect = asked
    cells = {k: v for k, v in scene.cells.items() if k != asked}
    smaller = replace_cells(replace(scene), cells)
    reasons = policy_reasons(smaller)
    assert [(r.station, r.service, r.aspect) for r in reasons] == [
        (station, service, f"{plane}/{family}/{expect} dropped")
    ]
    verdict = judge_retirement(UNIT, Stage.DRAIN, smaller)
    assert not verdict.allowed
    answered = judge_retirement(UNIT, Stage.DRAIN, replace_cells(waived(scene, *reasons), cells))
    assert [r.exception for r in answered.excused] == ["ex-1"]


ELSEWHERE = {"port": 8080, "protocol": Protocol.TCP, "dns_name": "other.gov.example", "server": "other"}


@pytest.mark.parametrize("name", [*ELSEWHERE, "host", "range"])
def test_a_service_that_is_asked_otherwise_than_at_the_cutover_needs_two(name: str) -> None:
    """Another port, protocol, name, server or address by one edit of the survey: named by its service, until two answer."""
    scene = at_drain()
    named = [s for s in COUNTY.services if s.id in {a[2] for a in ASKED}]
    by_plane = {s.plane: s for s in named}
    served = by_plane["finance" if name == "range" else named[0].plane]
    server = COUNTY.server_by_id[served.server]
    if name == "range":
        there = COUNTY.unit_by_lan[server.site, server.plane].circuit
        lines = (c.altered(lan_prefix=IPv4Network("10.99.0.0/24")) if c.id == there else c for c in COUNTY.circuits)
        county = COUNTY.altered(circuits=tuple(lines))
    elif name == "host":
        moved = server.altered(host=server.host + 1)
        county = COUNTY.altered(servers=tuple(moved if s == server else s for s in COUNTY.servers))
    else:
        changed = served.altered(**{name: ELSEWHERE[name]})
        services = tuple(changed if s == served else s for s in COUNTY.services)
        county = COUNTY.altered(services=services, servers=(*COUNTY.servers, server.altered(id="other", host=99)))
    edited = replace(scene, county=county)
    reasons = policy_reasons(edited)
    found = [r for r in reasons if r.service == served.id and not r.station]
    assert len(found) == 1
    assert f"{served.protocol} {served.port}" in found[0].why
    assert not judge_retirement(UNIT, Stage.DRAIN, edited).allowed
    assert not policy_reasons(waived(edited, *reasons))


def test_a_need_that_left_with_its_station_is_dropped() -> None:
    """Of a station that the survey now has at another site nothing is asked for here, though it is asked for there."""
    scene = at_drain()
    moved = COUNTY.asked[COUNTY.unit_by_id["fin@tb"].site, "finance"][0]
    terms = {u: t.altered(asked=(*(t.asked or ()), moved)) if u == UNIT else t for u, t in scene.policies.terms.items()}
    reasons = policy_reasons(replace(scene, policies=replace(scene.policies, terms=terms)))
    assert moved in scene.cells
    assert [(r.station, r.service) for r in reasons] == [(moved[0], moved[2])]


def test_a_service_without_its_words_refuses() -> None:
    """Where a cutover does not say of one of its services what was asked, nobody can tell whether it is the same."""
    scene = at_drain()
    served = ASKED[0][2]
    terms = {
        u: t.altered(services={n: w for n, w in (t.services or {}).items() if n != served})
        for u, t in scene.policies.terms.items()
    }
    found = policy_reasons(replace(scene, policies=replace(scene.policies, terms=terms)))
    assert any("what the windows of" in r.why for r in found)


def replace_cells(scene: Situation, cells: Any) -> Situation:
    """The same situation with other cells expected."""
    scene.__dict__["cells"] = cells
    return scene


@pytest.mark.parametrize("lost", ["asked", "services"])
def test_needs_that_are_not_on_record_refuse(lost: str) -> None:
    """Where a cutover does not say what was needed then, nobody can tell what was dropped."""
    scene = at_drain()
    terms = {u: t.altered(**{lost: None}) for u, t in scene.policies.terms.items()}
    found = policy_reasons(replace(scene, policies=replace(scene.policies, terms=terms)))
    assert any("what the windows of" in r.why for r in found)


@given(st.one_of(st.none(), st.integers(), st.lists(st.lists(st.text(), max_size=6)), st.just([[1, 2, 3, 4, 5]])))
def test_what_was_asked_is_read_as_it_was_written_or_not_at_all(told: Any) -> None:
    """Only rows of five texts are what was asked."""
    whole = isinstance(told, list) and all(len(row) == 5 and all(isinstance(t, str) for t in row) for row in told)
    assert read_asked(told) == (tuple(map(tuple, told)) if whole else None)


@given(st.one_of(st.none(), st.text(), st.dictionaries(st.text(), st.one_of(st.text(), st.integers()))))
def test_what_was_asked_of_services_is_read_as_it_was_written_or_not_at_all(told: Any) -> None:
    """Only texts by text are what was asked."""
    whole = isinstance(told, dict) and all(isinstance(text, str) for text in told.values())
    assert read_services(told) == (told if whole else None)


def test_terms_that_are_not_on_record_refuse() -> None:
    """A unit that is cut over, and nobody knows under what: refused, also where only the digest is known."""
    scene = at_drain()
    assert "not on record" in policy_reasons(replace(scene, policies=Policies()))[0].why
    only_digest = Policies(values={}, terms=scene.policies.terms)
    assert "expected" in policy_reasons(replace(scene, policies=only_digest))[0].why


def test_before_the_cutover_a_policy_may_change() -> None:
    """A unit that is not cut over has no terms yet: its gate speaks of no policy."""
    story = Story().go(*FIN, to=UnitState.PROVISIONED).go("fin@county", to=UnitState.CUT_OVER)
    scene = situation_of(COUNTY, story.wait_s(20), measure(COUNTY, story.at))
    verdict = judge_cutover(UNIT, replace(scene, policies=Policies(), policy=policy_with(outage__budget_s=60.0)))
    assert ReasonKind.POLICY not in {r.kind for r in verdict.reasons}


def given_back(policy: Policy | None = None) -> Situation:
    """A town's unit that was cut over under the county's policy and given back, now under another."""
    story = Story().go(*FIN, to=UnitState.PROVISIONED).go("fin@county", to=UnitState.CUT_OVER)
    fresh = measure(COUNTY, story.at)
    scene = situation_of(COUNTY, story.wait_s(20), fresh)
    before = at_drain().policies
    policies = Policies(before.values, before.terms, {UNIT: before.terms[UNIT]})
    return replace(scene, policies=policies, policy=policy or scene.policy)


def test_cutting_over_anew_does_not_forget_what_was_asked() -> None:
    """Given back and cut over again under less, a unit would have new terms: its gate wants two to answer for them first."""
    assert judge_cutover(UNIT, given_back()).allowed
    looser = given_back(policy_with(timers__soak_s=0))
    (reason,) = judge_cutover(UNIT, looser).reasons
    assert (reason.kind, reason.aspect) == (ReasonKind.POLICY, "timers.soak_s 3600 → 0")
    answered = waived(looser, reason)
    answered = replace(answered, waivers=(answered.waivers[0].altered(gate="cutover"),))
    assert [r.exception for r in judge_cutover(UNIT, answered).excused] == ["ex-1"]


@pytest.mark.parametrize("asked", ASKED[:2], ids=" ".join)
def test_cutting_over_anew_drops_no_need(asked: Asked) -> None:
    """What the windows needed at the first cutover is asked for at the second, by station and service."""
    scene = given_back()
    smaller = replace_cells(replace(scene), {k: v for k, v in scene.cells.items() if k != asked})
    reasons = [r for r in judge_cutover(UNIT, smaller).reasons if r.kind is ReasonKind.POLICY]
    assert [(r.station, r.service) for r in reasons] == [(asked[0], asked[2])]


# --- what the ledger keeps ---


def test_only_a_cutover_that_was_kept_is_held_against_the_next() -> None:
    """A try that went back leaves no terms behind; one that was kept does, whoever was cut over with it."""
    story = Story()
    for name, result in (("a", "undone"), ("b", "done")):
        story.tell(Kind.VERDICT, f"v{name}", verdict_body(COUNTY.policy), UNIT)
        story.tell(Kind.OUTCOME, name, {"step": "cutover", "result": result, "units": [UNIT, "fin@tb"]})
        assert (UNIT in fold_policies(story.events).kept) is (result == "done")
    story.tell(Kind.VERDICT, "vc", verdict_body(policy_with(timers__soak_s=0)), UNIT)
    found = fold_policies(story.events)
    assert set(found.kept) == {UNIT}  # of the other no terms are on record
    assert found.kept[UNIT].digest == policy_digest(COUNTY.policy) != found.terms[UNIT].digest


def verdict_body(policy: Policy, *, gate: str = "cutover", allowed: bool = True) -> dict[str, Any]:
    """The body of a verdict given under a policy."""
    return {"gate": gate, "allowed": allowed, "under": {"policy": policy_digest(policy)}}


def test_terms_are_those_of_the_last_cutover_that_was_allowed() -> None:
    """Refused cutovers, other gates and other units' verdicts leave a unit's terms; a second cutover gives new ones."""
    first, second = COUNTY.policy, policy_with(timers__soak_s=0)
    story = Story()
    for policy in (first, second):
        story.tell(Kind.NOTE, f"policy/{policy_digest(policy)}", note_policy(policy))
    story.tell(Kind.VERDICT, "a", verdict_body(first), UNIT)
    story.tell(Kind.VERDICT, "b", verdict_body(second, allowed=False), UNIT)
    story.tell(Kind.VERDICT, "c", verdict_body(second, gate="drain"), UNIT)
    story.tell(Kind.VERDICT, "d", verdict_body(second), "fin@tb")
    found = fold_policies(story.events)
    assert found.terms[UNIT].digest == policy_digest(first)
    assert found.values[policy_digest(first)] == policy_values(first)
    story.tell(Kind.VERDICT, "e", verdict_body(second), UNIT)
    assert fold_policies(story.events).terms[UNIT].digest == policy_digest(second)


def test_a_gates_word_keeps_the_policys_values_once(tmp_path: Path) -> None:
    """Whatever a gate is asked under is kept in the ledger with its values, once, and makes the terms of who is cut over."""
    clock = StoppedClock()
    with Ledger.open(tmp_path / "ledger.sqlite", clock=clock, target="lab t") as ledger:
        campaign: Any = SimpleNamespace(
            clock=clock,
            county=COUNTY,
            ledger=ledger,
            target="lab t",
            events=ledger.events,
            digests={"policy": policy_digest(COUNTY.policy)},
        )
        for gate in ("cutover", "drain"):
            record_verdict(campaign, Verdict(gate=gate, unit=UNIT, allowed=True))
        events = ledger.events()
    assert [e.kind for e in events] == [Kind.NOTE, Kind.VERDICT, Kind.VERDICT]
    found = fold_policies(events)
    assert found.values[found.terms[UNIT].digest] == policy_values(COUNTY.policy)
    assert found.terms[UNIT].asked == tuple(ASKED)
    assert "asked" not in events[-1].body


def test_values_of_another_digest_are_no_policy() -> None:
    """A note whose values are not those of its digest keeps nothing."""
    story = Story()
    story.tell(Kind.NOTE, "policy/x", {**note_policy(COUNTY.policy), "digest": "0" * 64})
    assert fold_policies(story.events).values == {}


# --- samples ---


@pytest.mark.parametrize("listen_s", [0.0, 3.0])
def test_samples_taken_with_less_than_both_ask_do_not_count(listen_s: float) -> None:
    """Samples taken while nobody listened are no soak, though the policy was put back before the gate was asked."""
    story = Story().go(*FIN, to=UnitState.CUT_OVER).wait_s(4000)
    deaf = COUNTY.altered(policy=policy_with(soak__listen_s=listen_s))
    begin = story.at.timestamp()
    samples = run_of_samples(deaf, story.events, [begin - 3990, begin])
    scene = situation_of(
        COUNTY, story.wait_s(20), measure(COUNTY, story.at - timedelta(seconds=20), withheld=FIN), soak=samples
    )
    note = note_policy(deaf.policy)
    scene = replace(
        scene, policies=replace(scene.policies, values={**scene.policies.values, note["digest"]: note["policy"]})
    )
    reasons = judge_retirement(UNIT, Stage.DRAIN, scene).reasons
    said = [r.why for r in reasons if "soak.listen_s 0.0 - expected 3.0" in r.why]
    assert bool(said) is (listen_s == 0), [str(r) for r in reasons]


def test_a_sample_of_a_policy_nobody_knows_does_not_count() -> None:
    """A sample that does not say under which policy it was taken is no witness."""
    scene = at_drain()
    unsaid = tuple(s.model_copy(update={"policy": ""}) for s in scene.soak)
    reasons = judge_retirement(UNIT, Stage.DRAIN, replace(scene, soak=unsaid)).reasons
    assert any("the policy it was taken under is not on record" in r.why for r in reasons)


def test_a_sample_keeps_its_policy_in_file_and_event(tmp_path: Path) -> None:
    """What a sample was taken under is covered by its digest, and in the ledger's event."""
    made = make_sample(
        units=[UNIT], usages=(), names=(), taken_from=1.0, taken_to=2.0, before={}, target="lab t", policy="p" * 64
    )
    write_sample(tmp_path, made, {})
    story = Story()
    story.tell(Kind.SOAK, f"soak/{made.digest}", made.body())
    (found,) = collect_samples(tmp_path, story.events)
    assert (found.policy, found.problem, story.events[0].body["policy"]) == ("p" * 64, "", "p" * 64)
