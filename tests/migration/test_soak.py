"""The soak: what makes an old line's silence credible, and what breaks it, by name."""

from __future__ import annotations

import stat
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Network
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Literal, cast
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inventory.access import Access
from inventory.model import EXTRANET, Circuit, County, Soak
from migration.campaign import Campaign
from migration.events import digest_of
from migration.evidence import load_content
from migration.gates import judge_retirement
from migration.proof import Situation
from migration.sampling import soaking_units
from migration.soak import SoakStanding, stand_soak
from migration.soak_samples import SoakSample, make_sample, names_to_ask, raw_content, write_sample
from migration.units import Step, UnitState, fold
from nornir_tasks.old_line import FlowSeen, LineSeen, NameSeen, NeighborSeen, RouteSeen, SocketSeen, Usage
from nornir_tasks.platforms.frr.driver import FrrDriver, Reply
from nornir_tasks.stations.model import Check
from tests.migration.scene import Story, build_checks, build_county, situation_of
from tests.migration.soak_scene import Spoil, run_of_samples, sample_at, see_port, unknown

COUNTY = build_county()
COUNTY = COUNTY.altered(policy=COUNTY.policy.altered(soak=Soak(samples=4, longest_gap_s=1500, business_days=0)))
FIN = ("fin@county", "fin@ta", "fin@tb", "fin@va1")
TA = COUNTY.unit_by_id["fin@ta"]
EVERY_S = 1200.0
"""Four samples so far apart cover the hour of soak exactly."""


def cut_over() -> Story:
    """All finance units cut over."""
    return Story().go(*FIN, to=UnitState.CUT_OVER)


def watched(
    samples: list[SoakSample] | None = None,
    *,
    spoil: dict[int, dict[str, Spoil]] | None = None,
    county: County = COUNTY,
) -> Situation:
    """The soak just over, with just enough clean samples, unless others are given or some are spoiled."""
    story = cut_over()
    began = story.at.timestamp()
    moments = [began + n * EVERY_S for n in range(4)]
    found = run_of_samples(county, story.events, moments, spoil) if samples is None else samples
    return situation_of(county, story, soak=found, now=datetime.fromtimestamp(moments[-1], UTC))


def stand(situation: Situation) -> SoakStanding:
    """How the soak of the town's line stands."""
    return stand_soak(TA, situation, "drain")


def said(standing: SoakStanding) -> str:
    """Everything that stands against it, for people."""
    return "\n".join([*map(str, standing.against), *map(str, standing.lacks), standing.broken])


def moved(port: str, packets: int) -> Spoil:
    """Let a port have carried packets."""
    return lambda u: u.model_copy(
        update={"ports": tuple(see_port(p.name, packets=packets, up=p.up) if p.name == port else p for p in u.ports)}
    )


def with_neighbor(port: str, address: str, idle_s: float = 3.0) -> Spoil:
    """Let a router know somebody on a port."""
    seen = NeighborSeen(port=port, address=address, mac="02:00:00:00:00:99", idle_s=idle_s)
    return lambda u: u.model_copy(update={"neighbors": (*u.neighbors, seen)})


def with_port(name: str, packets: int = 0) -> Spoil:
    """Let a router have one more port, which no table names."""
    return lambda u: u.model_copy(update={"ports": (*u.ports, see_port(name, packets=packets))})


def holding(route: RouteSeen) -> Spoil:
    """Make a router hold a route."""
    return lambda u: u.model_copy(update={"routes": (route,)})


def both(*spoils: Spoil) -> Spoil:
    """Do one after the other."""

    def all_of_them(usage: Usage) -> Usage:
        for spoil in spoils:
            usage = spoil(usage)
        return usage

    return all_of_them


# --- what a soak lets through ---


def test_a_silent_line_is_soaked() -> None:
    """Enough clean samples over the whole time, the last one fresh: the soak is over."""
    assert stand(watched()).over, said(stand(watched()))


def test_an_end_that_has_passed_is_not_promised() -> None:
    """A soak's earliest end is told while it lies ahead, by the county's clocks; once past, what is missing is a sample."""
    situation = watched()
    some = replace(situation, soak=situation.soak[:2])
    first, last = (s.recorded for s in some.soak)
    wanted_s = situation.policy.timers.soak_s
    assert last - first < wanted_s
    here = datetime.fromtimestamp(first + wanted_s, ZoneInfo("Asia/Shanghai")).isoformat(" ", "seconds")
    early = stand(replace(some, now=datetime.fromtimestamp(last, UTC)))
    assert f"until {here} at the earliest" in said(early)
    assert here.endswith("+08:00")
    late = said(stand(replace(some, now=datetime.fromtimestamp(first + wanted_s + 1, UTC))))
    assert "at the earliest" not in late
    assert "which the next sample covers: run 'extranet soak fin@ta' by cron" in late


def test_hellos_are_no_use() -> None:
    """What routing hellos carry within the policy's allowance leaves a line silent."""
    hellos = {n: {"fin-ta": moved("wan1", 100 * n), "fin-county": moved("ta", 100 * n)} for n in range(4)}
    assert stand(watched(spoil=hellos)).over


@pytest.mark.parametrize("end", list(UnitState))
def test_a_line_is_sampled_from_its_cutover_until_it_is_gone(end: UnitState) -> None:
    """Cut over and not yet removed is watched; removed, or given back after that, it is not any more."""
    records = fold(Story().go("fin@ta", to=end).events, COUNTY)
    campaign = cast("Campaign", SimpleNamespace(county=COUNTY, records=lambda: records))
    state = records["fin@ta"].state
    watched_now = state in {UnitState.CUT_OVER, UnitState.SOAKED, UnitState.DRAINED, UnitState.SHUT}
    assert [u.id for u in soaking_units(campaign)] == (["fin@ta"] if watched_now else [])


# --- the law ---


def dropped(sample: SoakSample) -> list[SoakSample]:
    """Nothing in its place."""
    return []


def aged(by_s: float) -> Callable[[SoakSample], list[SoakSample]]:
    """The same sample, taken earlier than the ledger took it."""
    return lambda s: [s.model_copy(update={"taken_from": s.taken_from - by_s, "taken_to": s.taken_to - by_s})]


def lost(sample: SoakSample) -> list[SoakSample]:
    """The sample's file gone."""
    return [sample.model_copy(update={"usages": (), "names": (), "problem": "its file is missing"})]


LOSSES = {"dropped": dropped, "aged": aged(700), "aged a little": aged(40), "lost": lost}


@given(number=st.integers(0, 3), how=st.sampled_from(["dropped", "aged", "lost"]))
def test_each_needed_sample_is_needed(number: int, how: str) -> None:
    """Of a soak that is just over, removing, ageing or losing any single sample refuses the drain."""
    good = list(watched().soak)
    less = [*good[:number], *LOSSES[how](good[number]), *good[number + 1 :]]
    found = stand(watched(less))
    assert not found.over
    assert any(
        "soak of fin@ta" in r.why or "old line of fin@ta" in r.why
        for r in judge_retirement("fin@ta", "drain", watched(less)).reasons
    )


SPOILS: dict[str, dict[str, Spoil]] = {
    "moved": {"fin-ta": moved("wan1", 900_000)},
    "forwarded": {"fin-ta": lambda u: u.model_copy(update={"forwarded": 7})},
    "neighbor": {"fin-ta": with_neighbor("lan1", "10.20.1.77")},
    "reset": {"fin-ta": lambda u: u.model_copy(update={"incarnation": "second"})},
    "unknown": {"fin-county": unknown("counters")},
    "flapped": {
        "fin-ta": lambda u: u.model_copy(
            update={"ports": tuple(p.model_copy(update={"carrier_changes": 8}) for p in u.ports)}
        )
    },
}


@st.composite
def histories(draw: st.DrawFn) -> list[SoakSample]:
    """Samples at odd times since the cutover, some of them spoiled, some apart too long, some few."""
    story = cut_over()
    at, moments = story.at.timestamp(), []
    for gap in draw(st.lists(st.sampled_from([60.0, 900.0, 1200.0, 1499.0, 1700.0]), min_size=3, max_size=6)):
        moments.append(at)
        at += gap
    bad = draw(st.dictionaries(st.integers(0, len(moments) - 1), st.sampled_from(sorted(SPOILS)), max_size=2))
    return run_of_samples(COUNTY, story.events, moments, {n: SPOILS[name] for n, name in bad.items()})


@given(
    samples=histories(), wait_s=st.sampled_from([0.0, 100.0, 1450.0, 2000.0]), pick=st.randoms(use_true_random=False)
)
@settings(max_examples=200, deadline=None)
def test_losing_a_sample_never_permits(samples: list[SoakSample], wait_s: float, pick: Random) -> None:
    """From any refusal, removing, ageing or losing any sample that is not the newest never permits, and no clean one does."""
    now = datetime.fromtimestamp(samples[-1].recorded + wait_s, UTC)
    before = replace(watched(samples), now=now)
    if stand(before).over:
        return
    place = pick.randrange(len(samples))
    newest_speaks_against = place == len(samples) - 1 and bool(stand(before).against)
    for name, change in LOSSES.items():
        if newest_speaks_against and name == "dropped":
            continue  # only the ledger's chain and head keep the newest from being cut off
        less = [*samples[:place], *change(samples[place]), *samples[place + 1 :]]
        assert not stand(replace(watched(less), now=now)).over, name


@given(number=st.integers(0, 3), name=st.sampled_from(sorted(SPOILS)))
def test_each_spoiled_sample_refuses(number: int, name: str) -> None:
    """Whatever one sample saw of use, restart or silence that proves nothing, the soak is not over, and says why."""
    changed = stand(watched(spoil={number: SPOILS[name]}))
    if number == 0 and name in {"neighbor", "flapped", "moved", "forwarded"}:
        return  # what was before the first sample is before the soak
    assert not changed.over
    assert changed.broken


# --- refusals, one by one ---


def last(spoil: dict[str, Spoil]) -> str:
    """What is said when the newest sample holds this."""
    return said(stand(watched(spoil={3: spoil})))


def test_counters_beyond_hellos_are_told_with_their_times() -> None:
    """A counter that moved says by how much, what was allowed, and between which samples."""
    text = last({"fin-ta": moved("wan1", 5000)})
    assert "fin-ta port wan1: expected at most 1200 packets" in text
    assert "found 10000 packets and 1000000 bytes between 2027-09-01 08:40:1" in text


def test_an_undeclared_host_is_named() -> None:
    """A host that no table names is told by address, MAC, port and since when; one of the inventory by its name."""
    stranger = {"fin-ta": both(with_port("spare1"), with_neighbor("spare1", "10.20.9.9"))}
    found = stand(watched(spoil={2: stranger, 3: stranger}))
    (one,) = [f for f in found.against if f.kind == "consumer"]
    assert (one.who, one.mac, one.device, one.port, one.known) == (
        "10.20.9.9",
        "02:00:00:00:00:99",
        "fin-ta",
        "spare1",
        "",
    )
    assert one.since == watched().soak[2].recorded
    assert "undeclared host 10.20.9.9" in str(one)
    known = last({"fin-ta": with_neighbor("lan1", "10.20.1.10")})
    assert "station st-ta 10.20.1.10" in known


def test_a_neighbor_of_long_ago_is_not_a_user() -> None:
    """Whom a router has not heard since the sample before does not use the line."""
    assert stand(watched(spoil={3: {"fin-ta": with_neighbor("lan1", "10.20.1.77", idle_s=9000)}})).over


def test_a_conversation_is_named() -> None:
    """Packets heard on the line name who speaks to whom; the line's own two ends are nobody."""

    def flow(source: str, destination: str) -> Spoil:
        heard = FlowSeen(
            port="wan1", source=source, destination=destination, mac="", protocol="tcp", service=1521, packets=3
        )
        return lambda u: u.model_copy(update={"flows": (heard,)})

    assert "undeclared host 10.20.9.9 talks to 10.20.0.80 (tcp/1521)" in last(
        {"fin-ta": flow("10.20.9.9", "10.20.0.80")}
    )
    assert stand(watched(spoil={3: {"fin-ta": flow("10.20.255.1", "10.20.255.2")}})).over


def talking(local: str, local_port: int, peer: str, peer_port: int, protocol: Literal["tcp", "udp"] = "tcp") -> Spoil:
    """Make a router hold a conversation of its own."""
    seen = SocketSeen(protocol=protocol, local=local, local_port=local_port, peer=peer, peer_port=peer_port)
    return lambda u: u.model_copy(update={"sockets": (seen,)})


def test_whom_an_old_router_itself_talks_with_is_named() -> None:
    """A proxy on an old router forwards nothing: it is named by address and port, from the line's two ends as well."""
    text = last({"fin-ta": talking("10.20.255.2", 3128, "10.20.0.9", 51515)})
    assert "fin-ta: undeclared host 10.20.0.9 talks to this router itself, 10.20.255.2 (tcp/3128)" in text
    text = last({"fin-ta": talking("10.20.255.2", 51515, "10.20.255.1", 3128)})
    assert "fin-ta: the line's own end 10.20.255.1 is spoken to by this router itself, 10.20.255.2 (tcp/3128)" in text
    text = last({"fin-county": talking("10.20.0.254", 51515, "10.20.1.10", 22)})
    assert "fin-county: station st-ta 10.20.1.10 is spoken to by this router itself" in text


@pytest.mark.parametrize(
    ("port", "protocol", "peer", "normal"),
    [
        (179, "tcp", "10.20.255.1", True),
        (3784, "udp", "10.20.255.1", True),
        (646, "tcp", "10.20.255.1", True),
        (520, "udp", "10.20.255.1", True),
        (179, "udp", "10.20.255.1", False),
        (179, "tcp", "10.20.0.9", False),
        (22, "tcp", "10.20.255.1", False),
    ],
)
def test_what_routing_keeps_up_between_two_ends_is_normal(
    port: int,
    protocol: Literal["tcp", "udp"],
    peer: str,
    normal: bool,  # noqa: FBT001 - pytest gives it
) -> None:
    """Routing protocols between the ends of a line are nobody's use; with anybody else the port excuses nothing."""
    found = stand(watched(spoil={3: {"fin-ta": talking("10.20.255.2", 51515, peer, port, protocol)}}))
    assert found.over == normal


def test_a_hub_that_talks_about_other_lines_is_nobody_of_this_one() -> None:
    """What the hub holds with another town does not concern this line, nor do the router's own addresses to each other."""
    other = COUNTY.unit_by_id["fin@tb"].lan_prefix.network_address + 9
    assert stand(watched(spoil={3: {"fin-county": talking("10.20.0.254", 22, str(other), 999)}})).over
    assert not stand_soak(
        COUNTY.unit_by_id["fin@tb"],
        watched(spoil={3: {"fin-county": talking("10.20.0.254", 22, str(other), 999)}}),
        "drain",
    ).over


def test_hellos_are_bounded_however_long_the_gap() -> None:
    """A long gap between samples lets no more through than the most for any: packets and bytes alike."""
    quick = Soak(samples=4, longest_gap_s=1500, business_days=0)
    for policy in (quick.altered(packets_a_gap=100), quick.altered(bytes_a_gap=10_000)):
        county = COUNTY.altered(policy=COUNTY.policy.altered(soak=policy))
        for packets, over in ((50, True), (51, False)):  # each way
            found = stand(watched(spoil={3: {"fin-ta": moved("wan1", packets)}}, county=county))
            assert found.over == over
    assert "expected at most 100 packets and 10000 bytes of hellos" in said(
        stand(
            watched(
                spoil={3: {"fin-ta": moved("wan1", 51)}},
                county=COUNTY.altered(
                    policy=COUNTY.policy.altered(soak=quick.altered(packets_a_gap=100, bytes_a_gap=10_000))
                ),
            )
        )
    )


def test_the_hubs_count_speaks_once_nobody_is_left() -> None:
    """What the hub forwards is use of some line once all of the network are cut over; before, it may be another's."""
    forwarding: dict[int, dict[str, Spoil]] = {3: {"fin-county": lambda u: u.model_copy(update={"forwarded": 7})}}
    assert "fin-county: expected at most 0 packets forwarded, found 7" in said(stand(watched(spoil=forwarding)))
    story = Story().go("fin@county", "fin@ta", "fin@va1", to=UnitState.CUT_OVER)
    moments = [story.at.timestamp() + n * EVERY_S for n in range(4)]
    samples = run_of_samples(COUNTY, story.events, moments, forwarding)
    situation = situation_of(COUNTY, story, soak=samples, now=datetime.fromtimestamp(moments[-1], UTC))
    assert stand(situation).over


def test_routes_and_lines_that_nobody_declared_are_named() -> None:
    """A route over the line to another network, an access list with its LAN, a route to the hub in the extranet: each named."""
    route = RouteSeen(table="", prefix="10.20.77.0/24", via="10.20.255.2", port="ta", source="kernel")
    text = last({"fin-county": lambda u: u.model_copy(update={"routes": (route,)})})
    assert "fin-county: still leads to the old line - expected no such route, found 10.20.77.0/24" in text
    line = LineSeen(block="", line="access-list 7 permit 10.20.1.0/24", names=("10.20.1.0/24",))
    assert "found 'access-list 7 permit 10.20.1.0/24'" in last(
        {"fin-county": lambda u: u.model_copy(update={"lines": (line,)})}
    )
    back = RouteSeen(table="finance", prefix="10.20.1.0/24", via="10.20.0.254", port="lan", source="routing")
    assert "core1: still leads to the old line" in last({"core1": lambda u: u.model_copy(update={"routes": (back,)})})
    other = back.model_copy(update={"table": "social"})
    assert stand(watched(spoil={3: {"core1": lambda u: u.model_copy(update={"routes": (other,)})}})).over


def test_a_sample_of_before_gives_no_secret_away() -> None:
    """A line that was kept with its password is still named, without it, by the soak and by the gate's reasons."""
    line = LineSeen(block="router bgp 1", line="neighbor 10.20.255.2 password S3CRETpw", names=("10.20.255.2",))
    situation = watched(spoil={3: {"fin-county": lambda u: u.model_copy(update={"lines": (line,)})}})
    reasons = "\n".join(map(str, judge_retirement(TA.id, "drain", situation).reasons))
    for text in (said(stand(situation)), reasons):
        assert "found 'neighbor 10.20.255.2 password <hidden>' (in router bgp 1)" in text
        assert "S3CRETpw" not in text


def test_a_sample_is_kept_without_secrets_and_for_its_owner_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both files may hold configurations: no password is in them, nobody else reads them, and their digests bear them out."""
    config = "hostname fin-ta\nrouter bgp 1\n neighbor 10.20.255.1 password S3CRETpw\nend"
    words = f"@@ clock\n1.0\n@@ end 0\n@@ config\n{config}\n@@ end 0\n"
    driver = FrrDriver("fin-ta", Access(target="lab", name="fake", known_hosts="none", addresses={}))
    monkeypatch.setattr(driver, "_exec", lambda *_: Reply(words, "", 0))
    read = driver.read_usage([IPv4Network("10.20.0.0/16")], listen_s=0)
    raw = {"fin-ta": read.raw}
    digest = digest_of(raw_content(raw))
    sample = make_sample(units=FIN, usages=[read.usage], names=(), taken_from=1.0, taken_to=2.0, before={}, raw=digest)
    write_sample(tmp_path, sample, raw)
    for file, named in ((sample.file, sample.digest), (sample.raw_file, sample.raw)):
        content, why = load_content(tmp_path / file, named)
        assert why == ""
        assert "neighbor 10.20.255.1 password <hidden>" in str(content)
        assert "S3CRETpw" not in str(content)
        assert stat.S_IMODE((tmp_path / file).stat().st_mode) == 0o600


def test_what_somebody_did_by_hand_is_named() -> None:
    """A route in a table of somebody's own, by gateway or port, a rule or a filter that names the LAN: each named."""
    to_line = RouteSeen(table="", number="77", prefix="10.20.1.0/24", via="10.20.255.2", port="ta", source="kernel")
    text = last({"fin-county": holding(to_line)})
    assert "expected no such route, found 10.20.1.0/24 via 10.20.255.2 in table 77 (kernel)" in text
    assert "found 10.20.1.0/24 via 192.0.2.1 in table 77" in last(
        {"fin-county": holding(to_line.altered(via="192.0.2.1", port="mgmt"))}
    )
    assert "found 0.0.0.0/0 via wan1 in table 78" in last(
        {"fin-ta": holding(to_line.altered(number="78", prefix="0.0.0.0/0", via="", port="wan1"))}
    )
    elsewhere = to_line.altered(prefix="0.0.0.0/0", via="192.0.2.1", port="mgmt")
    nowhere = to_line.altered(via="", port="")  # a black hole for the old LAN
    for harmless in (elsewhere, nowhere):
        assert stand(watched(spoil={3: {"fin-county": holding(harmless)}})).over
    lines = (
        LineSeen(block="", line="ip rule from 10.20.1.0/24 lookup 77", names=("10.20.1.0/24",), source="rule"),
        LineSeen(block="", line="ip saddr 10.20.1.9 accept", names=("10.20.1.9",), source="filter"),
    )
    text = last({"fin-county": lambda u: u.model_copy(update={"lines": lines, "routes": (to_line,)})})
    assert (
        "its routing rules still name the old network - expected no such line, found 'ip rule from 10.20.1.0/24" in text
    )
    assert "its packet filter still names the old network - expected no such line, found 'ip saddr 10.20.1.9" in text
    assert "in table 77" in text


def test_a_route_out_of_a_lines_port_is_named() -> None:
    """Somebody beyond the line, reached without a gateway: named, unless the inventory has it there, or it is attached."""
    route = RouteSeen(table="", prefix="172.30.5.0/24", via="", port="wan1", source="kernel")
    assert "expected no such route, found 172.30.5.0/24 via wan1 (kernel)" in last({"fin-ta": holding(route)})
    for harmless in (route.altered(attached=True), route.altered(prefix="0.0.0.0/0"), route.altered(port="mgmt")):
        assert stand(watched(spoil={3: {"fin-ta": holding(harmless)}})).over


def test_a_drained_lan_led_on_by_port_is_named() -> None:
    """After a drain the hub leads nobody to the LAN: neither by gateway nor by a port alone; a black hole leads nowhere."""
    story = cut_over().go("fin@ta", to=UnitState.DRAINED)
    moments = [story.at.timestamp() + n * EVERY_S for n in range(4)]
    for port, named in (("ta", True), ("", False)):
        route = RouteSeen(table="", prefix="10.20.1.0/24", via="", port=port, source="kernel")
        held = {"fin-county": holding(route)}
        samples = run_of_samples(COUNTY, story.events, moments, {3: held})
        situation = situation_of(COUNTY, story, soak=samples, now=datetime.fromtimestamp(moments[-1], UTC))
        assert ("found 10.20.1.0/24 via ta" in said(stand_soak(TA, situation, "shut"))) == named


def test_what_the_inventory_gives_is_normal() -> None:
    """The LAN's own route at the hub, the spoke's default route and the line's addresses are nobody's use."""
    own = RouteSeen(table="", prefix="10.20.1.0/24", via="10.20.255.2", port="ta", source="kernel")
    line = LineSeen(block="", line="ip route 10.20.1.0/24 10.20.255.2", names=("10.20.1.0/24", "10.20.255.2"))
    usual = {"fin-county": lambda u: u.model_copy(update={"routes": (own,), "lines": (line,)})}
    assert stand(watched(spoil={3: usual})).over


def test_a_name_that_leads_into_the_old_network_is_named() -> None:
    """A resolver that still gives an address of the old network other than where the service is now is named."""
    story = cut_over()
    good = run_of_samples(COUNTY, story.events, [story.at.timestamp() + n * EVERY_S for n in range(4)])

    def named(*addresses: str) -> Situation:
        seen = NameSeen(
            name="ledgers.small.example",
            family="ipv4",
            resolver="10.128.255.53",
            station="st-ta",
            plane="finance",
            addresses=addresses,
        )
        return watched([*good[:3], good[3].model_copy(update={"names": (seen,)})])

    assert stand(named("10.20.0.80")).over
    assert "found 10.20.0.81 of the old network" in said(stand(named("10.20.0.80", "10.20.0.81")))
    assert stand(named("10.99.0.81")).over  # not of the old network: the probes judge it


def with_resolvers(county: County) -> tuple[Check, ...]:
    """The matrix where every leg asks a name server."""
    return tuple(c.model_copy(update={"resolver": "10.20.0.53"}) for c in build_checks(county))


def test_names_are_asked_of_who_needs_them() -> None:
    """Of each name of a plane's own services one station is asked, at the county where it needs it; no other plane's."""
    (ledgers,) = [s for s in COUNTY.services if s.id == "ledgers"]
    rural = ledgers.altered(id="rural", dns_name="rural", needed_by=("village",))
    county = COUNTY.altered(services=(*COUNTY.services, rural))
    asked = {(c.station, c.service) for c in names_to_ask(county, with_resolvers(county))["finance"].values()}
    assert asked == {("st-county", "ledgers"), ("st-va1", "rural")}
    assert names_to_ask(county, build_checks(county)) == {}  # nobody has a name server


def test_a_name_that_was_not_asked_is_missed() -> None:
    """Where names must be known, the newest sample has asked for every one; an older need not have known of it yet."""
    good = watched().soak
    seen = tuple(
        NameSeen(name=name, family=family, resolver="10.20.0.53", station="st-county", plane="finance", addresses=())
        for name, family in names_to_ask(COUNTY, with_resolvers(COUNTY))["finance"]
    )
    lax = COUNTY.policy.altered(soak=COUNTY.policy.soak.altered(must_know=("counters",)))
    for names, policy, over in ((seen, COUNTY.policy, True), (seen[1:], COUNTY.policy, False), ((), lax, True)):
        found = watched([*good[:3], good[3].model_copy(update={"names": names})])
        standing = stand(replace(found, checks=with_resolvers(COUNTY), policy=policy))
        told = "expected 1 name asked besides in the last sample, the first ledgers.small.example (" in said(standing)
        assert told is (not over)


@pytest.mark.parametrize("source", ["counters", "neighbors", "routes", "config"])
def test_what_is_not_known_is_not_clean(source: str) -> None:
    """A router that does not tell its counters, neighbours, routes or configuration is told by name, and blocks."""
    assert "fin-county:" in (text := last({"fin-county": unknown(source)}))  # type: ignore[arg-type]
    assert f"{source} - expected known, found unknown: permission denied" in text


def test_flows_may_be_unknown_where_counters_are_known() -> None:
    """By default packets need not be heard; but with neither counters nor packets known, nothing is."""
    assert stand(watched(spoil={3: {"fin-ta": unknown("flows")}})).over
    lax = COUNTY.altered(policy=COUNTY.policy.altered(soak=COUNTY.policy.soak.altered(must_know=())))
    blind = watched(spoil={3: {"fin-ta": unknown("flows", "counters")}}, county=lax)
    assert "counters - expected known" in said(stand(blind))


def test_a_dead_line_proves_nothing() -> None:
    """A line without a carrier is silent whoever needs it; a port that should be shut and is up is told."""
    dead = {
        "fin-ta": lambda u: u.model_copy(
            update={"ports": tuple(see_port(p.name, up=False) if p.name == "wan1" else p for p in u.ports)}
        )
    }
    assert "a dead line's silence proves nothing" in last(dead)
    up = {"fin-ta": lambda u: u.model_copy(update={"ports": tuple(see_port(p.name) for p in u.ports)})}
    assert "fin-ta port lan1 - expected shut, found up again" in last(up)


def test_a_line_by_which_we_manage_cannot_be_judged() -> None:
    """Our own sessions on the line move its counters: that is told, not taken for silence or for use."""
    ours = {
        "fin-ta": lambda u: u.model_copy(
            update={"ports": tuple(p.model_copy(update={"management": p.name == "wan1"}) for p in u.ports)}
        )
    }
    assert "found our own sessions on it" in last(ours)


def test_a_trial_of_ours_is_not_flapping() -> None:
    """The carrier changes that our own closing and opening of the line make are not held against it; more are."""
    story = cut_over()
    began = story.at.timestamp()
    moments = [began + n * EVERY_S for n in range(4)]
    key = story.wait_s(3 * EVERY_S - 60).begin(
        Step.PROVE, "fin@ta", UnitState.CUT_OVER, UnitState.SHUT, "fin-ta", "fin-county"
    )
    story.end(Step.PROVE, key, "fin@ta", UnitState.CUT_OVER, result="undone")

    def changed(times: int) -> Situation:
        spoil: Spoil = lambda u: u.model_copy(  # noqa: E731 - one of many such
            update={"ports": tuple(p.model_copy(update={"carrier_changes": 2 + times}) for p in u.ports)}
        )
        samples = run_of_samples(COUNTY, story.events, moments, {3: {"fin-ta": spoil}})
        return situation_of(COUNTY, story, soak=samples, now=datetime.fromtimestamp(moments[-1], UTC))

    assert stand(changed(4)).over
    assert "flapping" in said(stand(changed(9)))


@pytest.mark.parametrize(
    ("device", "changes", "named"),
    [
        ("r-ta", {"wan1.103": 6}, True),
        ("r-ta", {"wan1": 6}, True),
        ("core1", {"ta.103": 6}, True),
        ("r-ta", {"wan1.103": 4}, False),  # lost twice between two samples
        ("r-ta", {"wan1.104": 6, "lan.103": 6}, False),  # another plane's, and no line
        ("core2", {"tb.103": 6}, False),  # another town's
    ],
)
def test_an_extranet_line_that_flaps_begins_the_soak_anew(device: str, changes: dict[str, int], *, named: bool) -> None:
    """What a unit has now must be as steady as what it had: a line under it that was lost three times is named."""
    lines = [
        Circuit(id="x-ta", network=EXTRANET, site="ta", device="r-ta", port="wan1", far_device="core1", far_port="ta"),
        Circuit(id="x-tb", network=EXTRANET, site="tb", device="r-tb", port="wan1", far_device="core2", far_port="tb"),
    ]
    county, story = COUNTY.altered(circuits=(*COUNTY.circuits, *lines)), cut_over()
    moments = [story.at.timestamp() + n * EVERY_S for n in range(4)]
    held: Spoil = lambda u: u.model_copy(update={"carriers": dict.fromkeys(changes, 1)})  # noqa: E731 - one of two such
    spoil: Spoil = lambda u: u.model_copy(update={"carriers": {p: 1 + n for p, n in changes.items()}})  # noqa: E731
    samples = run_of_samples(county, story.events, moments, {n: {device: spoil if n == 3 else held} for n in range(4)})
    situation = situation_of(county, story, soak=samples, now=datetime.fromtimestamp(moments[-1], UTC))
    text = said(stand_soak(county.unit_by_id[TA.id], situation))
    assert (
        "x-ta of the extranet" in text and "flapping - expected at most 4 carrier changes, found 6" in text
    ) is named


@pytest.mark.parametrize(
    ("then", "now", "changes", "named"),
    [
        ("a 1", "a 2", (1, 7), True),  # routing alone was started anew: the kernel counts on
        ("a 1", "b 2", (9, 6), False),  # a machine that was started anew has made its ports and brought them up
        ("a 1", "b 2", (9, 7), True),
        ("a 1", "a 1", (9, 7), True),  # the port was made anew
        ("a 1", "a 1", (None, 7), True),
        ("a 1", "a 1", (None, 6), False),
    ],
)
def test_a_restart_hides_no_flapping(then: str, now: str, changes: tuple[int | None, int], *, named: bool) -> None:
    """Whatever was started anew between two samples, what the port counted since is judged."""
    line = Circuit(
        id="x-ta", network=EXTRANET, site="ta", device="r-ta", port="wan1", far_device="core1", far_port="ta"
    )
    county, story = COUNTY.altered(circuits=(*COUNTY.circuits, line)), cut_over()
    moments = [story.at.timestamp() + n * EVERY_S for n in range(4)]

    def seen(life: str, count: int | None) -> Spoil:
        carriers = {} if count is None else {"wan1": count}
        return lambda u: u.model_copy(update={"incarnation": life, "carriers": carriers})

    spoil = {n: {"r-ta": seen(now, changes[1]) if n == 3 else seen(then, changes[0])} for n in range(4)}
    samples = run_of_samples(county, story.events, moments, spoil)
    situation = situation_of(county, story, soak=samples, now=datetime.fromtimestamp(moments[-1], UTC))
    assert ("flapping" in said(stand_soak(county.unit_by_id[TA.id], situation))) is named


def test_villages_that_still_use_the_line_speak_in_its_counters() -> None:
    """While a village behind a town is not cut over the line's counters are its; the town's own port is judged all the same."""
    story = Story().go("fin@county", "fin@ta", to=UnitState.CUT_OVER)
    began = story.at.timestamp()
    busy = {n: {"fin-ta": both(moved("wan1", 90_000 * n), lambda u: u)} for n in range(4)}
    samples = run_of_samples(COUNTY, story.events, [began + n * EVERY_S for n in range(4)], busy)
    now = datetime.fromtimestamp(began + 3 * EVERY_S, UTC)
    assert stand(situation_of(COUNTY, story, soak=samples, now=now)).over
    own = run_of_samples(
        COUNTY, story.events, [began + n * EVERY_S for n in range(4)], {3: {"fin-ta": moved("lan1", 9000)}}
    )
    assert "fin-ta port lan1" in said(stand(situation_of(COUNTY, story, soak=own, now=now)))


def test_business_hours_must_be_covered() -> None:
    """Samples by night alone are not enough: so many a day, on so many business days, in the county's own time."""
    story = cut_over()
    began = story.at.timestamp()  # Wednesday 16:00 in the county
    policy = COUNTY.policy.soak.altered(business_days=2, samples_a_day=2, longest_gap_s=90_000)
    strict = COUNTY.altered(policy=COUNTY.policy.altered(soak=policy))

    def covered(hours: list[float]) -> SoakStanding:
        samples = run_of_samples(strict, story.events, [began + 3600 * h for h in hours])
        now = datetime.fromtimestamp(samples[-1].recorded, UTC)
        return stand_soak(TA, situation_of(strict, story, soak=samples, now=now), "drain")

    nights = covered([1, 2, 25, 26, 49, 50])
    assert "expected samples on 2 business days (2 in 09:00-17:00 Asia/Shanghai each), found 0" in said(nights)
    assert covered([18, 22, 42, 46]).over
    assert not covered([18, 22, 42]).over  # Thursday twice, Friday once
    assert covered([66, 70, 90, 94]).days == 0  # Saturday and Sunday


def test_a_sample_of_another_unit_does_not_count() -> None:
    """Only samples that name the unit count for it."""
    story = cut_over()
    moments = [story.at.timestamp() + n * EVERY_S for n in range(4)]
    others = [sample_at(COUNTY, story.events, at, seq=n + 1, units=["fin@tb"]) for n, at in enumerate(moments)]
    assert "nobody has looked at its old line" in said(stand(watched(others)))


@pytest.mark.parametrize(("stage", "state"), [("shut", UnitState.DRAINED), ("remove", UnitState.SHUT)])
def test_later_stages_want_to_have_looked_since_the_last(stage: str, state: UnitState) -> None:
    """Shutting wants a sample since the drain, removing two since the ports went down, and none that saw anybody."""
    story = cut_over()
    began = story.at.timestamp()
    moments = [began + n * EVERY_S for n in range(4)]
    story.wait_s(3 * EVERY_S + 1).go("fin@va1", "fin@tb", "fin@ta", to=state)
    before = run_of_samples(COUNTY, story.events, moments)
    after = [story.at.timestamp() + n for n in (1, 2)]
    good = run_of_samples(COUNTY, story.events, [*moments, *after])

    def reasons(samples: list[SoakSample]) -> str:
        now = datetime.fromtimestamp(after[-1], UTC) + timedelta(seconds=1)
        scene = situation_of(COUNTY, story, soak=samples, now=now)
        return "\n".join(
            r.why for r in judge_retirement("fin@ta", stage, scene).reasons if "old line" in r.why or "soak" in r.why
        )

    assert "sample" in reasons(before) or "nobody has looked" in reasons(before)
    assert not reasons(good)
    spoiled = {4: {"fin-ta": moved("wan1", 9000)}} if stage == "shut" else {5: {"fin-ta": moved("wan1", 9000)}}
    assert "fin-ta port wan1" in reasons(
        run_of_samples(COUNTY, story.events, [*moments, *after][: max(spoiled) + 1], spoiled)
    )
