"""The agent against real services, routers and filters: it says what is wrong, and says unknown when it cannot know."""

import ast
import base64
import hashlib
import json
import sys
import time
from collections.abc import Iterator
from ipaddress import IPv6Address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from nornir_tasks.stations import agent
from nornir_tasks.stations.collect import read_results
from nornir_tasks.stations.model import Check, Finding, Outcome, Result
from tests.nornir_tasks.stations.rig import BOOK, CLOSED6, DNS4, DNS6, WEB4, WEB6, Rig, county, make_check
from tests.nornir_tasks.stations.services import name_answer

lab = pytest.mark.lab
PASSED, FAILED, UNKNOWN = Outcome.PASSED, Outcome.FAILED, Outcome.UNKNOWN


@pytest.fixture(scope="module")
def services(rig: Rig) -> Iterator[Rig]:
    """The rig with everything that the tests below ask for, good and bad."""
    own = rig.authority
    good = own.issue("good", "finance.example")
    stranger = type(own)(own.folder).issue("stranger", "finance.example")
    names: dict[str, Any] = {
        "finance.example AAAA": [WEB6],
        "finance.example A": [WEB4],
        "moved.example AAAA": ["2001:db8:2::99"],
        "two.example AAAA": [WEB6, "2001:db8:2::99"],
        "alias.example AAAA": f"alias finance.example {WEB6}",
        "long.example AAAA": f"long {WEB6}",
        "silent.example AAAA": "silent",
        "garbage.example AAAA": "garbage",
        "refused.example AAAA": "refused",
        "six.example A": [WEB4],
        "ns.example AAAA": [DNS6],
    }
    with rig.serving(
        {"kind": "web", "address": "::", "port": 443, "body": "finance\n", **good},
        {"kind": "web", "address": "0.0.0.0", "port": 443, "body": "finance\n", **good},
        {"kind": "web", "address": "::", "port": 4431, "body": "finance\n", **own.issue("other", "other.example")},
        {"kind": "web", "address": "::", "port": 4432, "body": "x", **own.issue("old", "finance.example", (-9, -2))},
        {"kind": "web", "address": "::", "port": 4433, "body": "finance\n", **stranger},
        {"kind": "web", "address": "::", "port": 4434, "body": "finance-pay\n", **good},
        {"kind": "web", "address": "::", "port": 4435, "body": "finance\n", "status": 502, **good},
        {"kind": "plain", "address": "::", "port": 1521, "text": "finance ready\n"},
        {"kind": "plain", "address": "::", "port": 1522, "text": "edu ready\n"},
        {"kind": "plain", "address": "::", "port": 1523, "text": ""},
        {"kind": "names", "address": DNS6, "answers": names},
        {"kind": "names", "address": DNS4, "answers": names},
    ):
        yield rig


def one(rig: Rig, check: Check, **changes: Any) -> Result:
    """Measure one check."""
    (result,) = rig.measure(check, **changes)
    return result


def finding(result: Result, aspect: str) -> Finding:
    """Return what was found of one aspect."""
    return next(f for f in result.findings if f.aspect == aspect)


@lab
@pytest.mark.parametrize("family", ["ipv6", "ipv4"])
def test_a_good_service_passes_in_every_aspect(services: Rig, family: str) -> None:
    """Name, port, certificate, page, marker and path are each seen, with the routers by name."""
    result = one(services, make_check(family=family))
    assert (result.outcome, result.why) == (PASSED, "")
    assert [f.aspect for f in result.findings] == ["dns", "tcp", "tls", "http", "marker", "path"]
    assert result.hops == ("town-r1:lan.110", "core1:town.110")
    assert result.raw["cert"]["names"] == ["finance.example"]
    assert result.raw["cert"]["not_after"].endswith("GMT")
    assert result.raw["status"] == 200
    assert abs(result.at - time.time()) < 30


@lab
@pytest.mark.parametrize(
    ("port", "aspect", "found"),
    [
        (4431, "tls", "for other.example"),
        (4432, "tls", "certificate has expired"),
        (4433, "tls", "sha256"),
        (4434, "marker", "found 'finance-pay'"),
        (4435, "http", "expected 200, found 502"),
        (444, "tcp", "expected an open port, found refused"),
    ],
)
def test_what_is_wrong_is_said(services: Rig, port: int, aspect: str, found: str) -> None:
    """Another's certificate, an expired one, a stranger's, another back end, an error page, a closed port: each by name."""
    result = one(services, make_check(port=port))
    assert result.outcome is FAILED
    assert result.why.startswith(f"{aspect}: ")
    assert found in result.why
    assert " - expected " in result.why
    assert finding(result, "path").outcome is PASSED


@lab
def test_a_certificate_of_another_name_still_tells_its_date(services: Rig) -> None:
    """Who looks at a wrong or expired certificate sees whose it is and until when."""
    assert finding(one(services, make_check(port=4432)), "tls").detail.count("until ") == 1


@lab
@pytest.mark.parametrize(
    ("port", "outcome", "found"),
    [(1521, PASSED, ""), (1522, FAILED, "found 'edu ready'"), (1523, FAILED, "found silence for 1 s")],
)
def test_a_plain_service_says_its_marker_first(services: Rig, port: int, outcome: Outcome, found: str) -> None:
    """The right words pass; another back end's words and silence fail."""
    result = one(services, make_check(protocol="tcp", port=port))
    assert result.outcome is outcome
    assert found in result.why


@lab
@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("moved", "found 2001:db8:2::99"),
        ("two", "found 2001:db8:2::50, 2001:db8:2::99"),
        ("silent", "found no answer in 1 s"),
        ("garbage", "found a broken packet"),
        ("refused", "found REFUSED from"),
        ("none", "found NXDOMAIN from"),
    ],
)
def test_a_name_must_give_exactly_the_address(services: Rig, name: str, found: str) -> None:
    """Another address, one too many, silence, nonsense and refusals fail the check, though the service itself works."""
    result = one(services, make_check(protocol="tcp", port=1521, dns_name=f"{name}.example"))
    assert result.outcome is FAILED
    assert result.why.startswith(f"dns: AAAA of {name}.example - expected {WEB6}, ")
    assert found in result.why
    assert finding(result, "tcp").outcome is PASSED


@lab
@pytest.mark.parametrize("name", ["alias", "long"])
def test_aliases_and_long_answers_are_followed(services: Rig, name: str) -> None:
    """A CNAME in the answer counts; an answer cut short is asked for again over TCP."""
    assert one(services, make_check(protocol="tcp", port=1521, dns_name=f"{name}.example")).why == ""


@lab
def test_a_name_server_is_a_service_too(services: Rig) -> None:
    """A check of a DNS service asks that server itself."""
    check = make_check("dns", protocol="dns", port=53, address=DNS6, dns_name="ns.example", marker="")
    result = one(services, check)
    assert (result.outcome, [f.aspect for f in result.findings]) == (PASSED, ["dns", "path"])


@lab
def test_without_a_resolver_the_address_is_enough(services: Rig) -> None:
    """A leg that has no resolver is not failed for it."""
    result = one(services, make_check(resolver=None))
    assert (result.outcome, result.findings[0].aspect) == (PASSED, "tcp")


def words_of(result: Result) -> dict[str, Any]:
    """Return the station's own document that a result was read from, proving its digest."""
    (digest,) = result.raw["output"]
    assert hashlib.sha256(result.said[digest].encode()).hexdigest() == digest
    document: dict[str, Any] = json.loads(result.said[digest].split(" ", 2)[2])
    return document


@lab
def test_what_a_check_saw_goes_home_as_it_came(services: Rig) -> None:
    """The resolver's packet, the certificate itself, the page from its status line on, each echo: to be judged anew."""
    result = one(services, make_check(way=("icmp", "mtu")))
    document = words_of(result)
    (row,) = document["checks"]
    seen = row["seen"]
    packet = base64.b64decode(seen["dns"][DNS6])
    number = int.from_bytes(packet[:2], "big")
    assert agent.read_dns(packet, number, "finance.example", 28).addresses == [WEB6]
    shown = {d: base64.b64decode(c) for d, c in document["certificates"].items()}
    assert all(hashlib.sha256(der).hexdigest() == d for d, der in shown.items())
    own = x509.load_der_x509_certificate(shown[seen["tls"]["chain"][0]])
    assert own.subject.rfc4514_string() == "CN=finance.example"
    assert seen["http"].startswith("HTTP/1.1 200 ")
    assert seen["http"].endswith("finance\n")
    assert [size for size, _ in seen["echo"]["sent"]] == [104] * 5 + [1500]
    assert row["trace"]["hops"] == list(result.raw["hops"])


@lab
def test_what_was_kept_is_read_to_the_same_result(services: Rig) -> None:
    """Whoever has the words and the plan comes to the very same findings: of good checks and of bad."""
    checks = [make_check(), make_check(id="old", port=4432), make_check(id="shut", port=444)]
    results = services.measure(*checks)
    (said,) = results[0].said.values()
    window = (results[0].at - 60, results[0].at + 60)
    nonce = results[0].raw["session"]
    again = read_results(checks, said, nonce=nonce, hops=BOOK, county=county(), window=window)
    assert [(r.outcome, r.why, r.findings, r.raw) for r in again] == [
        (r.outcome, r.why, r.findings, r.raw) for r in results
    ]


@lab
def test_what_is_kept_of_a_talkative_service_is_bounded(services: Rig) -> None:
    """A page of a megabyte and a certificate seen by many checks cost what a small page and one check cost."""
    good = services.authority.issue("talk", "finance.example")
    with services.serving({"kind": "web", "address": "::", "port": 4440, "body": "finance " * 130_000, **good}):
        checks = [make_check(id=f"c{n}", port=4440, trace=False) for n in range(12)]
        results = services.measure(*checks)
    document = words_of(results[0])
    assert {len(row["seen"]["http"]) for row in document["checks"]} == {agent.MOST_WEB_BYTES}
    assert len(document["certificates"]) <= 2
    assert len(json.dumps(document)) < 4000 * len(checks)


@lab
@pytest.mark.parametrize(("port", "names"), [(4431, "CN=other.example"), (4433, "CN=finance.example")])
def test_a_refused_certificate_is_kept_as_well(services: Rig, port: int, names: str) -> None:
    """The certificate that was not accepted is what an auditor wants to see."""
    document = words_of(one(services, make_check(port=port)))
    own = document["certificates"][document["checks"][0]["seen"]["tls"]["chain"][0]]
    assert x509.load_der_x509_certificate(base64.b64decode(own)).subject.rfc4514_string() == names


OWN, HOSTS, STUB = "/etc/netns/finance/resolv.conf", "/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"
NOBODY = "2001:db8:2::99"


@lab
@pytest.mark.parametrize(
    ("files", "answered", "why"),
    [
        ({HOSTS: f"search example\nnameserver {DNS6}\n"}, DNS6, ""),
        ({OWN: f"nameserver {DNS6}\n", HOSTS: "nameserver 203.0.113.1\n"}, DNS6, ""),
        ({OWN: f"nameserver {NOBODY}\nnameserver {DNS6}\n"}, DNS6, ""),
        ({HOSTS: "nameserver 127.0.0.53\n", STUB: f"nameserver {DNS6}\n"}, DNS6, ""),
        ({HOSTS: f"nameserver {DNS4}\n"}, DNS4, f"found {DNS4} (an address of the old network finance-man)"),
        ({HOSTS: f"nameserver {DNS6}\nnameserver {DNS4}\n"}, DNS6, f"found {DNS4} (an address of the old network"),
        ({HOSTS: f"nameserver {DNS6}\n" + "nameserver 203.0.113.1\n" * 9}, DNS6, "found 203.0.113.1"),
        ({HOSTS: "nameserver 127.0.0.53\n"}, "", "found 127.0.0.53"),
        ({HOSTS: "search example\n"}, "", "found no nameserver in it"),
        ({}, "", "found no nameserver in it"),
    ],
)
def test_a_leg_asks_whom_its_station_is_configured_to_ask(
    services: Rig, files: dict[str, str], answered: str, why: str
) -> None:
    """The leg's own file before the host's, one resolver after the other; one that the inventory does not name fails."""
    check = make_check(protocol="tcp", port=1521, resolver=DNS6, resolvers=(DNS6, NOBODY))
    (result,) = services.measure(check, files=files)
    told = result.raw["resolvers"]
    assert told["answered"] == answered, result
    assert finding(result, "dns").outcome is (PASSED if answered else FAILED)
    assert result.outcome is (FAILED if why else PASSED), result.why
    assert why in result.why
    assert result.why.startswith("resolver: ") == bool(why)
    assert told["file"] == (OWN if OWN in files else STUB if STUB in files else HOSTS)
    assert list(told["silent"]) == (
        [NOBODY] if NOBODY in files.get(OWN, "") else ["127.0.0.53"] if "127" in why else []
    )


@lab
def test_filtered_tcp_fails_though_the_path_is_fine(services: Rig) -> None:
    """Packets of one kind dropped on the way: every router and the server answer, the service does not."""
    with services.filtered("far", "forward", "tcp dport 443 drop"):
        result = one(services, make_check())
    assert result.why == f"tcp: [{WEB6}]:443 - expected an open port, found no answer in 1 s"
    assert finding(result, "path").outcome is PASSED


@lab
def test_a_path_ends_by_tcp_where_udp_is_dropped(services: Rig) -> None:
    """A server that drops UDP does not leave its path unknown: a connection with one hop more than known proves it."""
    with services.filtered("server", "input", "udp dport 33434-33600 drop"):
        result = one(services, make_check())
        blind = one(services, make_check(port=444))
    assert finding(result, "path").outcome is PASSED
    assert result.hops == ("town-r1:lan.110", "core1:town.110")
    assert finding(blind, "path").outcome is UNKNOWN


@lab
def test_a_silent_router_leaves_the_path_unknown(services: Rig) -> None:
    """A hop that never answers might be anybody: the check does not pass."""
    with services.filtered("far", "output", "icmpv6 type time-exceeded drop"):
        result = one(services, make_check())
    assert result.outcome is UNKNOWN
    assert result.why == "path: hop 2 - expected an answer, found silence"
    assert result.hops == ("town-r1:lan.110", "*")


@lab
def test_a_router_that_answers_slowly_is_asked_again(services: Rig) -> None:
    """Routers limit their answers (RFC 4443 2.4): eleven paths at once are still all seen."""
    checks = [
        make_check(id=str(n), protocol="tcp", port=1521, resolver=None, address=f"2001:db8:2::{n}")
        for n in (35, 50, 61, 62, 63, 64, 65, 66, 67, 68, 69)
    ]
    services.run("near", "sysctl", "-qw", "net.ipv6.icmp.ratelimit=1000")
    try:
        results = services.measure(*checks)
    finally:
        services.run("near", "sysctl", "-qw", "net.ipv6.icmp.ratelimit=0")
    assert [r.why for r in results] == [""] * len(checks)


@lab
def test_what_no_route_leads_to_is_blocked(services: Rig) -> None:
    """A router that turns the leg away proves it lives and the service is out of reach; nothing else need be asked."""
    result = one(services, make_check(expect="blocked", address=CLOSED6))
    assert result.outcome is PASSED
    assert "no route" in result.findings[0].detail
    assert result.ms < 900
    assert result.raw["turned_away"] == "2001:db8:1::1"


@lab
def test_silence_is_blocked_only_on_a_leg_that_works(services: Rig) -> None:
    """Dropped packets are blocked where the leg reaches something else in the same run, unknown where it does not."""
    check = make_check(id="b", expect="blocked", port=4431)
    dropped = services.filtered("near", "forward", f"ip6 daddr {WEB6} tcp dport 4431 drop")
    with dropped, services.filtered("server", "input", "udp dport 33434-33600 drop"):
        assert services.measure(make_check(), check)[1].outcome is PASSED
    with services.filtered("near", "input", "drop"), services.filtered("far", "forward", "drop"):
        alone = one(services, check)
    assert alone.outcome is UNKNOWN
    assert "expected blocked on a working leg, found leg finance dead" in alone.why


@lab
@pytest.mark.parametrize(
    ("changes", "who"),
    [
        ({}, "certificate of finance.example"),
        ({"port": 1522, "protocol": "tcp"}, "says 'edu ready'"),
        ({"port": 53, "protocol": "dns", "address": DNS6}, "a name server that answers"),
    ],
)
def test_what_must_be_blocked_and_answers_fails(services: Rig, changes: dict[str, Any], who: str) -> None:
    """The one that answered is named."""
    result = one(services, make_check(expect="blocked", **changes))
    assert result.outcome is FAILED
    assert "expected blocked, found" in result.why
    assert who in result.why


@lab
def test_a_closed_port_is_no_isolation(services: Rig) -> None:
    """A service that is down on a server within reach is not blocked: the server itself answers."""
    result = one(services, make_check(expect="blocked", port=444))
    assert result.outcome is FAILED
    assert result.why == f"path: {WEB6} itself - expected out of reach, found it answers UDP"
    assert one(services, make_check(expect="blocked", port=444, trace=False)).outcome is UNKNOWN


@lab
@pytest.mark.parametrize(
    ("leg", "found"),
    [("bare", "leg bare has no IPv6 address"), ("mute", "no answer in 4 s"), ("gone", "no such leg")],
)
def test_a_dead_leg_proves_nothing(services: Rig, leg: str, found: str) -> None:
    """From a leg without address, without a router or that is not there, services fail and isolation is unknown."""
    reach, blocked = services.measure(
        make_check(interface=leg), make_check(id="b", expect="blocked", interface=leg), probe_timeout_s=4.0
    )
    assert reach.outcome is FAILED
    assert found in finding(reach, "tcp").detail
    assert blocked.outcome is UNKNOWN
    assert f"leg {leg} dead" in blocked.why


@lab
def test_a_broken_check_costs_only_itself(services: Rig) -> None:
    """A check that cannot be run is unknown; those beside it pass."""
    bad = make_check(id="bad", address="not-an-address")
    broken, good = services.measure(bad, make_check())
    assert (broken.outcome, good.outcome) == (UNKNOWN, PASSED)
    assert "cannot be read" in broken.why


@lab
def test_an_unreadable_ca_bundle_is_unknown_not_failed(services: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the station cannot judge certificates, nobody knows whether they are good."""
    monkeypatch.setattr(type(services.authority), "ca", Path("/nowhere/ca.pem"))
    result = one(services, make_check())
    assert result.outcome is UNKNOWN
    assert result.why.startswith("tls: CA bundle on the station - expected readable")


@lab
def test_what_is_not_done_by_the_deadline_is_unknown_by_name(services: Rig) -> None:
    """Hundreds of dead services do not hold the answer: at the deadline each that is left is named."""
    checks = [make_check(id=f"d{n}", port=2000 + n, trace=False, resolver=None) for n in range(200)]
    with services.filtered("server", "input", "tcp dport 2000-2999 drop"):
        began = time.monotonic()
        results = services.measure(*checks, deadline_s=2.5)
    assert time.monotonic() - began < 5
    assert [r.check.id for r in results] == [c.id for c in checks]
    late = [r for r in results if r.outcome is UNKNOWN]
    assert len(late) > 50
    assert {r.why for r in late} == {"tcp: not run by the deadline of 2.5 s"}
    assert all(r.outcome is not PASSED for r in results)


# --- without a network ---


def test_the_agent_runs_on_old_stations() -> None:
    """It is Python 3.9's grammar and imports nothing but the standard library."""
    tree = ast.parse(Path(agent.__file__).read_text("utf-8"), feature_version=(3, 9))
    modules = {
        name.split(".")[0]
        for node in ast.walk(tree)
        for name in (
            [a.name for a in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert modules <= sys.stdlib_module_names
    assert not any(isinstance(node, ast.Match) for node in ast.walk(tree))


@given(st.binary(max_size=200))
def test_no_packet_breaks_the_reader(packet: bytes) -> None:
    """Whatever a resolver sends is an answer or a ValueError."""
    for data in (packet, packet[:2] + b"\x81\x80" + packet):
        try:
            agent.read_dns(data, 1, "a.example", 28)
        except ValueError:
            continue


@given(st.lists(st.integers(0, 2**64 - 1), max_size=5, unique=True), st.integers(0, 65535))
def test_a_question_and_its_answer_round_trip(hosts: list[int], number: int) -> None:
    """What a name server packs is what is read, each address once."""
    addresses = [str(IPv6Address("2001:db8::") + host) for host in hosts]
    answers: dict[str, Any] = {"a.example AAAA": addresses}
    packet = name_answer(agent.dns_query("a.example", 28, number), answers, cut=True)
    assert agent.read_dns(packet, number, "A.example.", 28).addresses == sorted(set(addresses))


@pytest.mark.parametrize(
    ("text", "marker", "there"),
    [
        ("finance ready", "finance", True),
        ("finance-pay", "finance", False),
        ("<b>tax</b>", "tax", True),
        ("taxi", "tax", False),
        ('{"service":"intake"}', "intake", True),
        ("This is intake.", "intake", True),
        ("backend:intake", "intake", True),
        ('<a href="https://intake.yichuan.gov.example/">apply</a>', "intake", False),
        ('<a href="/intake">apply</a>', "intake", False),
        ('<a href="intake/">apply</a>', "intake", False),
        ("There is no site portal.small.example on this host", "portal", False),
        ("write to office@portal or portal@office", "portal", False),
    ],
)
def test_a_marker_is_a_word_of_its_own(text: str, marker: str, *, there: bool) -> None:
    """A longer name that holds the marker is another back end."""
    assert agent.has_marker(text.encode(), marker) is there
