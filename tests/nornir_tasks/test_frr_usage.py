"""What an FRR router says of its use: read from its own words, and from a real router over SSH."""

from __future__ import annotations

import os
from collections.abc import Iterator
from ipaddress import IPv4Network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inventory.access import Access
from nornir_tasks.old_line import Usage
from nornir_tasks.platforms.frr.driver import FrrDriver, Reply
from nornir_tasks.platforms.frr.usage import hide_secrets, read_usage, usage_script
from nornir_tasks.redaction import HIDDEN
from tests.nornir_tasks.frr_router import Router, boot_router

OLD = (IPv4Network("10.20.0.0/16"),)
STARTUP = """\
hostname r1
!
ip route 10.20.77.0/24 10.20.250.1
ip route 192.0.2.0/24 blackhole
!
vrf finance
 netns /run/netns/finance
 ip route 10.20.9.0/24 100.64.0.9
exit-vrf
!
interface lan1
 ip address 10.20.8.1/24
exit
!
interface wan1
 ip address 10.20.250.2/30
exit
!
access-list 7 seq 5 permit 10.20.8.0/24
!
"""

STATS = '{"rx":{"bytes":10,"packets":1},"tx":{"bytes":20,"packets":2,"carrier_changes":4}}'
LINKS = f'[{{"ifname":"wan1","flags":["UP","LOWER_UP"],"stats64":{STATS}}}]'
SECRET = "S3CRETpw"
GUARDED = f"""\
hostname r1
!
enable password 8 {SECRET}
!
key chain line
 key 1
  key-string {SECRET}
 exit
exit
!
interface wan1
 ip address 10.20.250.2/30
 ip ospf message-digest-key 1 md5 {SECRET}
exit
!
router bgp 65001
 neighbor 10.20.250.1 password {SECRET}
exit
!
end"""
PARTS = {
    "clock": ("1795350152.5", 0),
    "session": ("fd00::9 47364 fd00::2 22", 0),
    "life": ("boot 7", 0),
    "addresses": ('[{"ifname":"wan1","addr_info":[{"local":"10.20.250.2"}]}]', 0),
    "links": (LINKS, 0),
    "neighbors": (
        '[{"dst":"10.20.250.1","dev":"wan1","lladdr":"02:00:00:00:00:01","used":9,"confirmed":4,"updated":1}]',
        0,
    ),
    "carriers": (
        "/sys/class/net/wan1/carrier_changes:4\n/sys/class/net/lo/carrier_changes:0\n/sys/class/net/wan1/carrier_changes:2",
        0,
    ),
    "sockets": ("## \ntcp   LISTEN 0      128    0.0.0.0:22        0.0.0.0:*", 0),
    "forwarded": ("Ip: Forwarding ForwDatagrams\nIp: 1 158\nIp6OutForwDatagrams \t2", 0),
    "kernel-routes": (
        '# \n[{"dst":"default","gateway":"10.20.250.1","dev":"wan1"},{"dst":"192.0.2.0/24","gateway":"192.0.2.1","dev":"x"}]',
        0,
    ),
    "rules": ("## \n0:\tfrom all lookup local\n32766:\tfrom all lookup main", 0),
    "filters": ("", 0),
    "routing": ("{}\n{}", 0),
    "config": ("hostname r1\n!\nip route 0.0.0.0/0 10.20.250.1\n!\nend", 0),
    "tracked": ("", 1),
    "heard": ('[["wan1","10.20.8.9","10.20.0.80","02:00:00:00:00:07","tcp",1521,3]]', 0),
}


def said(**changed: tuple[str, int]) -> str:
    """What a router says, with some parts other than usual."""
    parts = PARTS | {name.replace("_", "-"): part for name, part in changed.items()}
    return "".join(f"@@ {name}\n{text}\n\n@@ end {status}\n" for name, (text, status) in parts.items())


def test_everything_is_read() -> None:
    """Counters, forwarded packets of both families, neighbours, routes and lines that concern the old network, flows."""
    found = read_usage("r1", said(), OLD)
    assert found.unknown == {}
    assert (found.forwarded, found.flow_source, found.incarnation) == (160, "packets", "boot 7")
    (port,) = found.ports
    assert (port.name, port.up, port.carrier, port.rx_packets, port.tx_bytes, port.carrier_changes) == (
        "wan1",
        True,
        True,
        1,
        20,
        4,
    )
    assert found.carriers == {"wan1": 6}  # of the same name in two VRFs
    assert [(n.address, n.idle_s) for n in found.neighbors] == [("10.20.250.1", 4.0)]
    assert [(r.prefix, r.via) for r in found.routes] == [("0.0.0.0/0", "10.20.250.1")]
    assert [line.line for line in found.lines] == ["ip route 0.0.0.0/0 10.20.250.1"]
    assert [(f.source, f.service) for f in found.flows] == [("10.20.8.9", 1521)]


def test_secrets_are_gone_before_anything_is_read_or_kept() -> None:
    """A line with a password is found by its address, without the password; what is kept of the router's words is the same."""
    text = said(config=(GUARDED, 0))
    kept, found = hide_secrets(text), read_usage("r1", text, OLD)
    assert SECRET not in kept + found.model_dump_json()
    assert found.unknown == {}
    assert [(line.block, line.line, line.names) for line in found.lines] == [
        ("interface wan1", "ip address 10.20.250.2/30", ("10.20.250.2/30",)),
        ("router bgp 65001", f"neighbor 10.20.250.1 password {HIDDEN}", ("10.20.250.1",)),
    ]
    assert read_usage("r1", kept, OLD) == found
    assert len(kept.splitlines()) == len(text.splitlines())


def test_the_driver_keeps_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither in what it concludes nor in the words that are kept; everything else is kept word for word."""
    driver = FrrDriver("r1", Access(target="lab", name="fake", known_hosts="none", addresses={}))
    text = said(config=(GUARDED, 0))
    monkeypatch.setattr(driver, "_exec", lambda *_: Reply(text, "", 0))
    found = driver.read_usage(OLD, listen_s=0)
    assert SECRET not in found.model_dump_json()
    assert found.raw == text.replace(SECRET, HIDDEN)


@pytest.mark.parametrize("cut", [1, 40, 80])
def test_an_answer_that_failed_quotes_no_secret(cut: int) -> None:
    """What a failed or cut part says last becomes a reason that everybody reads."""
    failed = said(config=(f"hostname r1\npassword {SECRET}", 1), routing=(f'{{"a":1}}\nline 2: password {SECRET}', 1))
    found = read_usage("r1", failed, OLD)
    assert {"config", "routes"} <= found.unknown.keys()
    assert SECRET not in hide_secrets(failed) + found.model_dump_json()
    assert SECRET not in hide_secrets(said(config=(GUARDED, 0))[:-cut])


def test_names_that_look_like_secrets_leave_tables_whole() -> None:
    """Tables are JSON and hold no configuration: a port called like a secret is still counted."""
    text = said(links=(LINKS.replace("wan1", "my key x"), 0))
    assert hide_secrets(text) == text
    assert [p.name for p in read_usage("r1", text, OLD).ports] == ["my key x"]


@pytest.mark.parametrize(
    ("part", "source"),
    [
        ("links", "counters"),
        ("life", "counters"),
        ("carriers", "counters"),
        ("forwarded", "counters"),
        ("neighbors", "neighbors"),
        ("sockets", "neighbors"),
        ("kernel-routes", "routes"),
        ("rules", "routes"),
        ("routing", "routes"),
        ("filters", "config"),
        ("config", "config"),
        ("heard", "flows"),
    ],
)
def test_a_part_that_failed_is_unknown(part: str, source: str) -> None:
    """Whatever failed there is unknown by name and with its last words; the rest is told all the same."""
    found = read_usage("r1", said(**{part: ("permission denied", 1)}), OLD)
    assert list(found.unknown) == [source]
    assert "permission denied" in found.unknown[source]  # type: ignore[index]


HAND_MADE = """\
# \n[{"dst":"10.20.8.0/24","gateway":"10.20.250.2","dev":"wan1","table":"77"},
 {"dst":"default","dev":"wan1","table":"78"}, {"dst":"192.0.2.0/24","dev":"wan1","table":"78"},
 {"type":"local","dst":"10.20.8.1","dev":"lan1","table":"local","protocol":"kernel"},
 {"type":"broadcast","dst":"10.20.8.255","dev":"lan1","table":"local","protocol":"kernel"},
 {"dst":"10.20.8.0/24","dev":"lan1","protocol":"kernel"},{"type":"blackhole","dst":"10.20.9.0/24"}]
# finance\n[{"dst":"10.20.8.0/24","gateway":"100.64.0.9","dev":"wan1","table":"9"}]
"""


def test_routes_of_every_table_are_read() -> None:
    """A route in a table that somebody made is read with its number; what the kernel keeps in `local` is not."""
    found = read_usage("r1", said(kernel_routes=(HAND_MADE.replace(",\n ", ","), 0)), OLD)
    assert found.unknown == {}
    assert [(r.table, r.number, r.prefix, r.via or r.port, r.attached) for r in found.routes] == [
        ("", "77", "10.20.8.0/24", "10.20.250.2", False),
        ("", "78", "0.0.0.0/0", "wan1", False),
        ("", "78", "192.0.2.0/24", "wan1", False),  # by the port alone: whose line that is, the reader knows
        ("", "", "10.20.8.0/24", "lan1", True),
        ("", "", "10.20.9.0/24", "", False),
        ("finance", "9", "10.20.8.0/24", "100.64.0.9", False),
    ]


def test_rules_that_name_the_old_network_are_read() -> None:
    """Rules that choose a table, and those of the packet filter by whatever tool: those that name it, each once."""
    rules = "## \n0:\tfrom all lookup local\n9:\tfrom 10.20.8.0/24 lookup 77\n## finance\n8:\tfrom all to 10.20.0.80 lookup 9"
    filters = (
        "## \ntable ip nat {\n\t\ttcp dport 1521 dnat to 10.20.0.80:1521\n\t\tip saddr { 192.0.2.1-192.0.2.9 } drop\n}\n"
        "## \n# Generated by iptables-save\n-A FORWARD -s 10.20.8.1-10.20.8.9 -j ACCEPT\n-A FORWARD -s 110.20.8.1 -j ACCEPT\n"
        "## \n-A FORWARD -s 10.20.8.1-10.20.8.9 -j ACCEPT"
    )
    found = read_usage("r1", said(rules=(rules, 0), filters=(filters, 0)), OLD)
    assert [(one.source, one.block, one.line, one.names) for one in found.lines if one.source != "config"] == [
        ("rule", "", "ip rule from 10.20.8.0/24 lookup 77", ("10.20.8.0/24",)),
        ("rule", "vrf finance", "ip rule from all to 10.20.0.80 lookup 9", ("10.20.0.80",)),
        ("filter", "", "tcp dport 1521 dnat to 10.20.0.80:1521", ("10.20.0.80",)),
        ("filter", "", "-A FORWARD -s 10.20.8.1-10.20.8.9 -j ACCEPT", ("10.20.8.1", "10.20.8.9")),
    ]


def test_conversations_of_the_router_itself_are_read() -> None:
    """Those with or from an old address, also when they just ended; no listener, no stranger, and not our own session."""
    text = """\
##
tcp   LISTEN    0      5      10.20.250.2:3128      0.0.0.0:*
udp   UNCONN    0      0      10.20.250.2%wan1:520      0.0.0.0:*
udp   ESTAB     0      0      10.20.250.2:40001  10.20.0.53:53
tcp   TIME-WAIT 0      0      10.20.250.2:3128   10.20.0.9:51515
tcp   ESTAB     0      0      [::ffff:10.20.250.2]:22   [::ffff:10.20.0.7]:40404
tcp   ESTAB     0      0      10.20.250.2:22     10.20.0.8:47364
tcp   TIME-WAIT 0      0      10.20.250.2:22     10.20.0.8:47111
tcp   ESTAB     0      0      192.0.2.1:22       192.0.2.9:999
tcp   ESTAB     0      0      [fe80::1]%mgmt:22  [fe80::2]:999
## finance
tcp   SYN-SENT  0      1      100.64.0.1:40000   10.20.0.80:1521
"""
    found = read_usage("r1", said(sockets=(text, 0), session=("10.20.0.8 47364 10.20.250.2 22", 0)), OLD)
    assert found.unknown == {}
    assert {(s.protocol, s.local, s.local_port, s.peer, s.peer_port) for s in found.sockets} == {
        ("udp", "10.20.250.2", 40001, "10.20.0.53", 53),
        ("tcp", "10.20.250.2", 3128, "10.20.0.9", 51515),
        ("tcp", "10.20.250.2", 22, "10.20.0.7", 40404),
        ("tcp", "100.64.0.1", 40000, "10.20.0.80", 1521),
    }


@given(
    st.lists(
        st.tuples(st.sampled_from(["10.20.8.0/24", "10.20.0.80", "192.0.2.7", "10.2.0.0/16"]), st.sampled_from("sd")),
        max_size=4,
    )
)
def test_whatever_a_filter_rule_names_beside_it_it_is_found(words: list[tuple[str, str]]) -> None:
    """A rule is kept exactly when one of its addresses is of the old network."""
    rule = "-A FORWARD " + " ".join(f"-{letter} {word}" for word, letter in words) + " -j ACCEPT"
    found = read_usage("r1", said(filters=(rule, 0)), OLD)
    assert [one.line for one in found.lines if one.source == "filter"] == (
        [rule] if any(word.startswith("10.20.") for word, _ in words) else []
    )


def test_tracked_connections_count_where_there_are_any() -> None:
    """A kernel that tracks connections is a source beside the packets, or instead of them."""
    line = (
        "ipv4 2 tcp 6 431 ESTABLISHED src=10.20.8.9 dst=10.20.0.80 sport=4000 dport=1521 src=10.20.0.80 dst=10.20.8.9"
    )
    found = read_usage("r1", said(tracked=(line, 0), heard=("no python3", 1)), OLD)
    assert (found.flow_source, found.unknown) == ("conntrack", {})
    assert [(f.source, f.destination, f.service) for f in found.flows] == [("10.20.8.9", "10.20.0.80", 1521)]


@given(st.integers(0, len(said()) - len("\n@@ end 0\n")))
def test_an_answer_cut_short_is_never_more_than_the_whole(length: int) -> None:
    """Cut anywhere, what is missing is unknown: nothing is taken for silence, and nothing breaks."""
    whole, part = read_usage("r1", said(), OLD), read_usage("r1", said()[:length], OLD)
    assert part.unknown
    for source, fields in (
        ("counters", ("ports", "forwarded", "incarnation")),
        ("neighbors", ("neighbors", "sockets")),
        ("routes", ("routes",)),
        ("config", ("lines",)),
        ("flows", ("flows",)),
    ):
        assert source in part.unknown or all(getattr(part, f) == getattr(whole, f) for f in fields)


@pytest.fixture(scope="module")
def router(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Router]:
    """A router with a line, a LAN, and things that nobody declared."""
    if os.geteuid() != 0 or not Path("/usr/lib/frr/zebra").exists():
        pytest.skip("needs root and the package frr")
    with boot_router(tmp_path_factory.mktemp("usage"), startup=STARTUP) as made:
        yield made


def ask(router: Router) -> Usage:
    """Ask it over SSH."""
    driver = FrrDriver(router.name, router.access)
    driver.open()
    try:
        found = driver.read_usage(OLD, listen_s=0.2)
    finally:
        driver.close()
    assert found.raw.count("@@ end") == usage_script().count("\npart ")
    return found.usage


@pytest.mark.lab
def test_a_real_router_tells_all(router: Router) -> None:
    """Every source but connection tracking is known; names of the old network are found, in VRFs too, others are not."""
    router.run("ip route add 10.20.66.0/24 via 10.20.250.1 table 77; ip rule add from 10.20.66.0/24 lookup 77")
    router.run(
        "ip -n finance route add 10.20.67.0/24 dev lo table 77; ip -n finance rule add to 10.20.67.0/24 lookup 77"
    )
    if router.run("command -v nft", check=False):
        router.run("nft 'add table ip t; add chain ip t c; add rule ip t c ip saddr 10.20.66.0/24 counter accept'")
    found = ask(router)
    assert found.unknown == {}
    assert {p.name: p.management for p in found.ports if p.name in {"mgmt", "lan1"}} == {"mgmt": True, "lan1": False}
    assert {(line.source, line.block, line.line) for line in found.lines if line.source != "config"} >= {
        ("rule", "", "ip rule from 10.20.66.0/24 lookup 77"),
        ("rule", "vrf finance", "ip rule from all to 10.20.67.0/24 lookup 77"),
    }
    if router.run("command -v nft", check=False):
        assert "ip saddr 10.20.66.0/24 counter accept" in [one.line for one in found.lines if one.source == "filter"]
    assert {("", "77", "10.20.66.0/24"), ("finance", "77", "10.20.67.0/24")} <= {
        (r.table, r.number, r.prefix) for r in found.routes
    }
    assert {line.line for line in found.lines if line.source == "config"} == {
        "ip route 10.20.77.0/24 10.20.250.1",
        "ip route 10.20.9.0/24 100.64.0.9",
        "ip address 10.20.8.1/24",
        "ip address 10.20.250.2/30",
        "access-list 7 seq 5 permit 10.20.8.0/24",
    }
    assert {("kernel", "10.20.77.0/24", "10.20.250.1"), ("routing", "10.20.77.0/24", "10.20.250.1")} <= {
        (r.source, r.prefix, r.via) for r in found.routes
    }


@pytest.mark.lab
def test_a_real_router_counts_and_starts_anew(router: Router) -> None:
    """Packets move the counters, a lost carrier is counted, and a new start of FRR is another incarnation."""
    before = ask(router)
    router.run(
        "ip link set wan1 down; ip link set wan1 up; ip neigh replace 10.20.8.9 lladdr 02:00:00:00:00:09 dev lan1"
    )
    router.run("python3 -c \"import socket; socket.socket(2, 2).sendto(b'x', ('10.20.8.9', 9))\"")
    after = ask(router)
    old, new = before.port("lan1"), after.port("lan1")
    assert old is not None
    assert new is not None
    assert new.tx_packets > old.tx_packets
    assert new.carrier_changes > old.carrier_changes  # the other end of the same cable
    assert ("10.20.8.9", "lan1") in {(n.address, n.port) for n in after.neighbors}
    assert after.incarnation == before.incarnation
