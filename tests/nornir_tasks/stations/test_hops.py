"""Paths are judged by whose routers are on them, though old and new gateways and two networks share addresses."""

from functools import cache
from typing import Any

import pytest

from addressing.model import AddressPlan
from addressing.plan import make_plan
from inventory.model import County, Family
from inventory.topology import Topology, build_topology
from nornir_tasks.stations.hops import HopBook, PathVerdict, judge_path, name_hops
from nornir_tasks.stations.model import Check, Outcome, WayAspect
from nornir_tasks.stations.wayback import Sights, WayBack, judge_way_back, last_router, request_of, way_back_of
from tests.nornir_tasks.stations.rig import county, make_check

PASSED, FAILED, UNKNOWN = Outcome.PASSED, Outcome.FAILED, Outcome.UNKNOWN


@cache
def sample() -> tuple[County, Topology, AddressPlan, HopBook]:
    """The sample county, its wiring, plan and names."""
    topology = build_topology(county())
    plan = make_plan(county(), topology)
    return county(), topology, plan, name_hops(topology, plan, county())


def judge(check: Check, *hops: str | None, **changes: Any) -> PathVerdict:
    """Judge a path over these addresses that arrived."""
    trace: dict[str, Any] = {"hops": list(hops), "reached": True, "turned_away": None, "problem": "", **changes}
    return judge_path(check, trace, sample()[3], county())


def ipv4(plane: str, service: str) -> Check:
    """Return an IPv4 check from a leg."""
    return make_check(service, family="ipv4", plane=plane, interface=plane)


def ipv6(plane: str, service: str) -> Check:
    """Return an IPv6 check from a leg."""
    return make_check(service, plane=plane, interface=plane)


LINK4 = str(sample()[2].link4("x-chengguan-core1")[1])
VILLAGE4 = str(sample()[2].link4("x-chengguan-xichang")[1])


def test_every_address_of_every_router_has_a_name() -> None:
    """Each end of each link, each gateway, hairpin and loopback of the extranet is named in its plane."""
    _, topology, plan, book = sample()
    for link in topology.links:
        if link.plane is None:
            continue
        ends = (link.a, link.b)
        for pair in (plan.link6(link.circuit, link.plane), plan.link4(link.circuit)):
            for end, address in zip(ends, pair, strict=True):
                found = book.find(link.plane, str(address))
                assert found is not None
                assert found.name == f"{end.device}:{end.interface}"
    for lan in topology.lans:
        found = book.find(lan.plane, str(plan.gateway6(lan.site, lan.plane).ip))
        assert found is not None
        assert found.name.startswith(f"{lan.gateway.device}:")
    assert book.find("finance", str(plan.loopback("core1"))) is not None


def test_two_networks_with_the_same_ranges_are_told_apart_by_plane() -> None:
    """Finance's and party education's lines have equal addresses; each plane has its own routers behind them."""
    book = sample()[3]
    assert {plane: getattr(book.find(plane, "10.20.250.1"), "name", None) for plane in ("finance", "edu", "hrss")} == {
        "finance": "fin-hub:chengguan",
        "edu": "edu-hub:chengguan",
        "hrss": None,
    }


def test_a_legacy_path_fails_and_is_named() -> None:
    """Gateway, then the line to the hub: the gateway is the old router too, and says so."""
    found = judge(ipv4("finance", "finance"), "10.20.8.1", "10.20.250.1")
    assert found.finding.outcome is FAILED
    assert found.finding.detail == "hop 2 - expected no legacy router, found fin-hub:chengguan (10.20.250.1)"
    assert found.hops == ("fin-chengguan:lan1", "fin-hub:chengguan")


def test_a_village_behind_the_towns_legacy_router_fails_alike() -> None:
    """A village's old gateway is a port of the town's legacy router."""
    found = judge(ipv4("edu", "edu"), "10.20.9.1", "10.20.250.1")
    assert (found.finding.outcome, found.hops) == (FAILED, ("edu-chengguan:xichang", "edu-hub:chengguan"))


def test_after_cutover_the_same_gateway_is_the_extranets() -> None:
    """The gateway's address followed by an extranet link is the new router."""
    found = judge(ipv4("finance", "finance"), "10.20.8.1", LINK4)
    assert found.finding.outcome is PASSED
    assert found.hops == ("chengguan-r1:lan.110", "core1:chengguan.110")


def test_a_villages_new_path_passes() -> None:
    """Village router, town router, core."""
    found = judge(ipv4("edu", "edu"), "10.20.9.1", VILLAGE4, LINK4)
    assert found.finding.outcome is PASSED
    assert found.hops[0] == "chengguan-xichang-r1:lan.120"


def test_the_gateway_alone_proves_nothing() -> None:
    """A path that ends after an address which either router may hold might be the old one."""
    found = judge(ipv4("finance", "finance"), "10.20.8.1")
    assert found.finding.outcome is FAILED
    assert found.hops == ("fin-chengguan:lan1",)


def test_the_hubs_interconnect_is_legacy() -> None:
    """After the county's cutover the hub stays as `.254`; a path through it is still the old one."""
    found = judge(ipv4("finance", "finance"), "10.20.8.1", LINK4, "10.20.0.254")
    assert found.finding.outcome is FAILED
    assert "fin-hub:lan1 (10.20.0.254)" in found.finding.detail
    assert found.hops[0] == "fin-chengguan:lan1"


def test_a_neighbour_on_the_same_lan_needs_no_router() -> None:
    """No hop is no legacy hop."""
    found = judge(ipv4("finance", "finance"))
    assert (found.finding.outcome, found.finding.detail, found.hops) == (PASSED, "no router between", ())


def test_shared_services_are_reached_through_the_hairpin() -> None:
    """The hops of the leg's plane and of the shared plane are both the way."""
    _, _, plan, _ = sample()
    hops = [str(plan.gateway6("chengguan", "hrss").ip), str(plan.link6("x-chengguan-core1", "hrss")[1])]
    hops.append(str(plan.hairpin6("core1", "hrss")[1]))
    found = judge(ipv6("hrss", "elicence"), *hops)
    assert found.finding.outcome is PASSED
    assert found.hops == ("chengguan-r1:lan.130", "core1:chengguan.130", "core1:hs-hrss")


def test_a_hop_in_another_plane_is_a_leak() -> None:
    """A way that works through another department's VRF fails, and says through which."""
    plan = sample()[2]
    stray = str(plan.link6("x-chengguan-core1", "edu")[1])
    found = judge(ipv6("finance", "finance"), str(plan.gateway6("chengguan", "finance").ip), stray)
    assert found.finding.outcome is FAILED
    assert f"{stray}, which is core1:chengguan.120 in edu" in found.finding.detail


@pytest.mark.parametrize(
    ("hops", "changes", "outcome", "words"),
    [
        (("203.0.113.9",), {}, FAILED, "203.0.113.9, which nobody planned"),
        (("10.20.8.1", None, LINK4), {}, UNKNOWN, "hop 2 - expected an answer, found silence"),
        (("10.20.8.1", LINK4), {"reached": False}, UNKNOWN, "found no answer after core1:chengguan.110"),
        ((), {"reached": False}, UNKNOWN, "found no answer at all"),
        (("10.20.8.1", LINK4), {"reached": False, "turned_away": LINK4}, FAILED, "turned away by core1:chengguan.110"),
        ((), {"reached": False, "problem": "no route"}, UNKNOWN, "found no route"),
        (("10.20.8.1", "10.20.250.1"), {"reached": False}, FAILED, "no legacy router"),
    ],
)
def test_what_was_not_seen_does_not_pass(
    hops: tuple[str | None, ...], changes: dict[str, Any], outcome: Outcome, words: str
) -> None:
    """Strangers fail; silence, a missing end and no way are unknown; a legacy hop fails however the path ends."""
    found = judge(ipv4("finance", "finance"), *hops, **changes)
    assert found.finding.outcome is outcome
    assert words in found.finding.detail


def test_no_trace_is_unknown() -> None:
    """A path that was asked for and is not there was not measured."""
    assert judge_path(ipv4("finance", "finance"), {}, sample()[3], county()).finding.outcome is UNKNOWN


def test_an_address_claimed_twice_counts_as_legacy() -> None:
    """Where an extranet link has the address of a legacy line, the path fails: a false alarm, never a false proof."""
    _, topology, plan, _ = sample()
    wan = county().circuit_by_id["fin-l-chengguan"].wan_prefix
    assert wan is not None
    records = tuple(
        r.model_copy(update={"prefix": f"{wan.network_address}/31"}) if r.id == "link4:x-chengguan-core1" else r
        for r in plan.records
    )
    book = name_hops(topology, plan.model_copy(update={"records": records}), county())
    found = book.find("finance", str(wan.network_address + 1))
    assert found is not None
    assert found.kind == "legacy"


def test_families_of_the_public_plane_have_their_gateways() -> None:
    """The public plane's own IPv4 gateway is the extranet's, without doubt."""
    gateway = sample()[2].gateway4("chengguan", "public")
    assert gateway is not None
    found = judge(make_check("portal", plane="public", family=Family.IPV4.value), str(gateway.ip), LINK4)
    assert (found.finding.outcome, found.hops[0]) == (PASSED, "chengguan-r1:lan.100")


def test_a_way_back_over_an_old_line_ends_at_its_router() -> None:
    """With the old router seen the verdict is known, so it ends the way as the new one does; the hub does not."""
    book = sample()[3]
    way = WayBack("srv-finance", "10.20.0.80", "10.20.8.11", "chengguan-center", "finance")
    (asked,) = request_of({way: ["return"]}, book, county())
    named = {hop.name.partition(":")[0] for a in asked["ends"] if (hop := book.find("finance", a)) is not None}
    assert named == {"chengguan-r1", "fin-chengguan"}
    check = make_check(
        "finance",
        family="ipv4",
        plane="finance",
        address=way.source,
        source=way.address,
        server=way.server,
        station=way.station,
        way=(WayAspect.RETURN,),
    )
    assert way_back_of(check) == way
    for old in sorted(set(asked["ends"]) - set(last_router(way.station, way.plane, book, county()))):
        row = {"trace": {"hops": ["10.20.0.1", old], "reached": False, "turned_away": None, "problem": ""}}
        found = judge_way_back(check, way.address, Sights(rows={way: row}), book, county())
        assert [f.outcome for f in found.findings] == [FAILED]
