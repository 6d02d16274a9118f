"""The way itself: loss, size there and back, the way back, and the session that measures. On real namespaces."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nornir_tasks.stations.collect import conclude
from nornir_tasks.stations.hops import Hop, HopBook, judge_session
from nornir_tasks.stations.model import Check, Finding, Missing, Outcome, Result, WayAspect
from nornir_tasks.stations.wayback import Sights, judge_way_back, way_back_of, ways_by_server
from tests.nornir_tasks.stations.rig import BOOK, WEB4, WEB6, Rig, county, make_check

lab = pytest.mark.lab
PASSED, FAILED, UNKNOWN = Outcome.PASSED, Outcome.FAILED, Outcome.UNKNOWN
STATION6, STATION4 = "2001:db8:1::11", "10.20.8.11"
SIZES = (WayAspect.ICMP, WayAspect.MTU, WayAspect.MTU_BACK)


def way_check(family: str = "ipv6", **changes: Any) -> Check:
    """Return a check of the web server's way only."""
    values = {"protocol": "tcp", "port": 9, "marker": "", "resolver": None, "trace": False, "way": SIZES}
    return make_check(**{"family": family, **values, **changes})


def finding(result: Result, aspect: str) -> Finding:
    """Return a result's finding of an aspect."""
    return next(f for f in result.findings if f.aspect == aspect)


@contextmanager
def mtu(rig: Rig, node: str, port: str, size: int) -> Iterator[None]:
    """Narrow one end of a cable for the block."""
    rig.run(node, "ip", "link", "set", port, "mtu", str(size))
    try:
        yield
    finally:
        rig.run(node, "ip", "link", "set", port, "mtu", "1500")
        for end in ("station", "server"):  # what they were told of the size would outlive it
            for family in ("-4", "-6"):
                rig.run(end, "ip", family, "route", "flush", "cache")


@lab
@pytest.mark.parametrize("family", ["ipv6", "ipv4"])
def test_a_good_way_passes_in_every_aspect(rig: Rig, family: str) -> None:
    """Five of five echoes, full size in one piece there and back; measured times are small and are kept."""
    (result,) = rig.measure(way_check(family))
    assert [finding(result, a.value).outcome for a in SIZES] == [PASSED] * 3
    assert (result.raw["echo"]["sent"], result.raw["echo"]["answered"], result.raw["bytes"]) == (5, 5, 1500)
    assert result.outcome is FAILED  # the port is closed; the way is not


@lab
@pytest.mark.parametrize("family", ["ipv6", "ipv4"])
def test_a_black_hole_is_named_with_the_largest_that_passed(rig: Rig, family: str) -> None:
    """The far end of a cable is narrow and nobody says a word: `mtu` fails by that name, echoes pass."""
    with mtu(rig, "far", "trunk", 1400):
        (result,) = rig.measure(way_check(family))
    assert finding(result, "icmp").outcome is PASSED
    assert finding(result, "mtu").outcome is FAILED
    assert re.search(r"found a black hole: .* the largest that passed 140[0-4] bytes", finding(result, "mtu").detail)


@lab
def test_a_black_hole_on_the_way_back_only_is_told_apart(rig: Rig) -> None:
    """Packets of full size get there, only their answers vanish: `mtu` passes and `mtu-back` fails."""
    with rig.filtered("far", "forward", "ip6 saddr 2001:db8:2::/64 meta length > 1400 drop"):
        (result,) = rig.measure(way_check())
    assert finding(result, "mtu").outcome is PASSED, finding(result, "mtu").detail
    assert "the answers to them vanish" in finding(result, "mtu").detail
    assert finding(result, "mtu-back").outcome is FAILED
    assert "found a black hole" in finding(result, "mtu-back").detail


@lab
@pytest.mark.parametrize("family", ["ipv6", "ipv4"])
def test_a_narrow_line_is_named_with_who_says_so(rig: Rig, family: str) -> None:
    """A router that says that a packet is too big is in the reason, with the size it takes."""
    with mtu(rig, "near", "trunk", 1400), mtu(rig, "far", "trunk", 1400):
        (result,) = rig.measure(way_check(family))
    assert finding(result, "mtu").outcome is FAILED
    assert re.search(r"found at most 1400 \(so says (2001:db8:1::1|10\.20\.8\.1)\)", finding(result, "mtu").detail)


@lab
def test_a_leg_that_sends_no_full_packets_is_named(rig: Rig) -> None:
    """Nothing but the station's own leg is at fault."""
    with mtu(rig, "station", "finance", 1400):
        (result,) = rig.measure(way_check())
    assert re.search(r"found that leg finance sends (at most 1400|less) bytes", finding(result, "mtu").detail)


@lab
def test_silence_is_a_loss_and_no_size(rig: Rig) -> None:
    """Echoes filtered: `icmp` fails, and of the size nothing is known."""
    with rig.filtered("near", "forward", "icmpv6 type echo-request drop"):
        (result,) = rig.measure(way_check())
    assert finding(result, "icmp").outcome is FAILED
    assert "expected an answer, found none" in finding(result, "icmp").detail
    assert [finding(result, a).outcome for a in ("mtu", "mtu-back")] == [UNKNOWN] * 2
    assert finding(result, "mtu").missing is Missing.TIMED_OUT


@lab
def test_a_lossy_way_fails_with_its_share(rig: Rig) -> None:
    """Every second echo lost: a longer burst follows, and the share lost is in the reason."""
    with rig.filtered("near", "forward", "icmpv6 type echo-request numgen inc mod 2 0 drop"):
        (result,) = rig.measure(way_check(way=(WayAspect.ICMP,)))
    assert finding(result, "icmp").outcome is FAILED
    assert re.search(r"expected at most 5% lost, found (4|5)\d% \(1\d of 25 answered\)", finding(result, "icmp").detail)


@lab
@pytest.mark.parametrize(("source", "address"), [(WEB6, STATION6), (WEB4, STATION4)])
def test_the_server_sees_every_hop_of_the_way_back(rig: Rig, source: str, address: str) -> None:
    """From the service's own address to the station's leg: hops, the end, and full size."""
    family = "ipv6" if ":" in address else "ipv4"
    way = {"id": "w", "family": family, "address": address, "source": source, "way": ["return", "mtu-back"], "ends": []}
    row = rig.look_back(way)["w"]
    assert row["trace"]["source"] == source
    assert len(row["trace"]["hops"]) == 2
    assert None not in row["trace"]["hops"]
    assert row["trace"]["reached"]
    assert [f["outcome"] for f in row["findings"]] == ["passed"]


@lab
def test_a_way_back_is_whole_at_its_last_router(rig: Rig) -> None:
    """A station that answers nothing by itself: its own router has been seen, which is enough; without it it is not."""
    way = {"id": "w", "family": "ipv6", "address": STATION6, "source": WEB6, "way": ["return"]}
    with rig.filtered("station", "input", "icmpv6 type echo-request drop"):
        ended = rig.look_back({**way, "ends": ["2001:db8:12::"]})["w"]["trace"]
        open_ended = rig.look_back({**way, "ends": []})["w"]["trace"]
    assert ended["hops"] == open_ended["hops"] == ["2001:db8:2::1", "2001:db8:12::"]
    assert not open_ended["reached"]


@lab
def test_the_session_itself_is_looked_at(rig: Rig) -> None:
    """A session to a department's own address must be seen to run over the extranet; one whose way nobody tells is unknown."""
    check = way_check(way=(WayAspect.VANTAGE,))
    (old,) = rig.measure(check, session=f"10.20.0.80 50000 {STATION4} 22")
    assert finding(old, "vantage").outcome is PASSED  # its way back to us was seen to run over the extranet
    (apart,) = rig.measure(check, session="2001:db8:5::99 50000 2001:db8:5::11 22")
    assert finding(apart, "vantage").outcome is UNKNOWN  # nobody on that leg answers, and it may be an old network's
    (unsaid,) = rig.measure(check)
    assert finding(unsaid, "vantage").outcome is UNKNOWN


LEGACY = HopBook(planes={"finance": {"10.20.250.1": Hop(name="fin-hub:chengguan", kind="legacy")}})


@pytest.mark.parametrize(
    ("local", "trace", "outcome"),
    [
        ("fd00::11", {"hops": [], "reached": True}, PASSED),
        ("fd00::11", {"hops": ["fd00::9", None]}, PASSED),
        ("fd00::11", {"hops": ["10.20.250.1"]}, FAILED),
        ("fd00::11", {"hops": ["10.20.250.1"], "problem": "not run to its end"}, FAILED),
        ("10.20.8.11", {"hops": [], "reached": True}, FAILED),
        ("10.20.8.11", {"hops": ["192.0.2.1", None]}, FAILED),
        ("", {"reached": True}, UNKNOWN),
        ("fd00::11", {}, UNKNOWN),
        ("fd00::11", {"hops": [None, None], "reached": False}, UNKNOWN),
        ("fd00::11", {"hops": ["fd00::9"], "problem": "not run by the deadline of 40 s"}, UNKNOWN),
    ],
)
def test_a_session_over_the_old_network_is_refused(local: str, trace: dict[str, Any], outcome: Outcome) -> None:
    """A legacy router on it, or a department's address without the extranet being seen, makes it worthless."""
    session = {"local": local, "peer": "fd00::1", "interface": "x", "trace": trace}
    assert judge_session("s", session, LEGACY, county()).outcome is outcome


def back_check(**changes: Any) -> Check:
    """Return a check that asks for the way back."""
    values = {"way": (WayAspect.RETURN, WayAspect.MTU_BACK), "server": "srv-finance", "source": STATION6}
    return make_check(**{"station": "chengguan-center", **values, **changes})


def seen(check: Check, row: dict[str, Any] | None) -> Sights:
    """Return what a vantage saw of a check's way."""
    way = way_back_of(check)
    return Sights(rows={way: row} if way is not None and row is not None else {})


GOOD_ROW = {
    "trace": {"hops": ["2001:db8:12::1"], "reached": True},
    "findings": [{"aspect": "mtu-back", "outcome": "passed", "detail": "", "ms": 1}],
    "raw": {"bytes": 1500},
}


def test_a_way_back_is_judged_like_the_way_there() -> None:
    """Named hops pass; unknown ones fail; another address than the station spoke from is no measurement of its way."""
    check = back_check()
    good = judge_way_back(check, STATION6, seen(check, GOOD_ROW), BOOK, county())
    assert [f.outcome for f in good.findings] == [PASSED, PASSED]
    assert good.hops == ("core1:town.110",)
    strange = {**GOOD_ROW, "trace": {"hops": ["2001:db8:99::1"], "reached": True}}
    bad = judge_way_back(check, STATION6, seen(check, strange), BOOK, county())
    assert bad.findings[0].outcome is FAILED
    other = judge_way_back(check, "2001:db8:1::77", seen(check, GOOD_ROW), BOOK, county())
    assert {f.outcome for f in other.findings} == {UNKNOWN}
    assert "the address that the station speaks from (2001:db8:1::77)" in other.findings[0].detail


@pytest.mark.parametrize(
    ("changes", "row", "missing"),
    [
        ({"server": ""}, None, Missing.SKIPPED),
        ({"source": ""}, None, Missing.SKIPPED),
        ({}, None, Missing.NEVER_RUN),
        ({}, {"problem": "the way cannot be read"}, Missing.UNPARSABLE),
    ],
)
def test_a_way_back_that_nobody_saw_is_unknown_by_name(
    changes: dict[str, Any], row: dict[str, Any] | None, missing: Missing
) -> None:
    """No vantage, nothing said, or not understood: each aspect is unknown, and says why."""
    check = back_check(**changes)
    found = judge_way_back(check, STATION6, seen(check, row), BOOK, county())
    assert [(f.outcome, f.missing) for f in found.findings] == [(UNKNOWN, missing)] * 2


def test_a_way_back_is_measured_once_however_many_checks_use_it() -> None:
    """Services of one server share it; another leg, or another family, has its own."""
    checks = [back_check(), back_check(service="finance-pay"), back_check(plane="edu")]
    found = ways_by_server(checks)
    assert {len(ways) for ways in found.values()} == {2}
    assert ways_by_server([back_check(expect="blocked"), make_check()]) == {}


@given(st.sets(st.sampled_from(list(WayAspect)), min_size=1), st.data())
def test_no_result_passes_without_all_that_was_asked(way: set[WayAspect], data: st.DataObject) -> None:
    """Law: whatever subset of findings comes back, only all of them, all passed, make a pass; each gap has a name."""
    check = make_check(way=tuple(sorted(way)))
    told = data.draw(st.sets(st.sampled_from(check.asks)))
    outcomes = {a: data.draw(st.sampled_from(list(Outcome))) for a in sorted(told)}
    findings = tuple(Finding(aspect=a, outcome=o, detail="x") for a, o in outcomes.items())
    result = conclude(Result(check=check, outcome=UNKNOWN, why="", findings=findings, at=0.0))
    whole = told == set(check.asks) and set(outcomes.values()) == {PASSED}
    assert (result.outcome is PASSED) == whole == (not result.unproven and result.outcome is not FAILED)
    assert (result.missing is None) == (result.outcome is not UNKNOWN)


def test_a_host_that_allows_no_echo_is_unknown() -> None:
    """Neither ping sockets nor raw ones: unknown, with what to set."""
    from nornir_tasks.stations import agent

    echo = agent.Echo("lo", 2, "127.0.0.1", "", {"count": 3, "interval_ms": 5, "max_loss": 0, "mtu_bytes": 1500})
    echo.problem, echo.wants_burst = agent.NO_ECHO, True
    assert echo.judge_burst()["outcome"] == "unknown"
    assert "ping_group_range" in echo.judge_burst()["detail"]
