"""Traps on real routers: each looks well to a ping or to a careless look, and no gate lets it pass."""

import json
import os
import re
import shlex
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest

from lab.layout import NODE_BIN
from tests.migration.town import FAILED, GOOD, REFUSED, Town, open_town, said_of

TIMERS = {"revert_s": 60, "converge_s": 20, "soak_s": 1, "hold_s": 1}
UNIT = "finance-man@chengguan"
PAY, FINANCE = "chengguan-center/finance/finance-pay/ipv6", "chengguan-center/finance/finance/ipv4"
OPENER = "for i in $(seq 600); do [ -e /run/enough ] && exit; ip link set wan1 up; sleep 0.2; done"
"""What somebody's watchdog on an old router does; it ends by itself, or when told that it is enough."""
pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    """The lab, provisioned, one town's unit cut over and its soak over."""
    with open_town(tmp_path_factory.mktemp("traps") / "county", TIMERS) as made:
        made.run("cutover", UNIT, "--yes", expect=GOOD)
        made.soak(UNIT)
        yield made


def test_a_service_that_leans_on_the_old_line_is_found_by_withholding_it(town: Town) -> None:
    """With the line up every measurement passes; withheld, the service fails by name, the line comes back, the gate holds."""
    town.fault("lean", "finance-pay", "fin-l-chengguan")
    before = town.configs()
    try:
        assert town.ping(PAY)
        town.run("verify", "--unit", UNIT, expect=GOOD)
        found = town.run("prove", UNIT, "--yes", expect=FAILED)
        assert "chengguan-center/finance/finance-pay/ipv6: marker" in found.stdout
        assert (town.configs(), town.armed(), town.state(UNIT)) == (before, [], "cut_over")
        town.run("verify", "--unit", UNIT, expect=GOOD)
        against = said_of(town.ask_gate(UNIT), PAY)
        # Where nothing older is proven, what is lacking is said; else what the trial saw.
        assert (
            "while the old path of finance-man@chengguan was up, which proves nothing" in against
            or "marker: " in against
        )
        town.run("retire", UNIT, "--yes", expect=REFUSED)
    finally:
        town.fault("unlean", "finance-pay")
    town.run("prove", UNIT, "--yes", expect=GOOD)
    town.soak(UNIT)
    town.run("gate", "explain", UNIT, expect=GOOD)


@pytest.mark.heavy
def test_what_leans_on_the_old_line_after_its_drain_holds_it(town: Town) -> None:
    """A drain takes a route away and leaves the line up: what passes then is no proof; withheld once more, it is found."""
    town.run("prove", UNIT, "--yes", expect=GOOD)
    town.soak(UNIT)
    town.run("retire", UNIT, "--until", "drained", "--yes", expect=GOOD)
    line = "ipv6 route 2001:db8:beef::/48 blackhole vrf finance"
    type_in(town, "chengguan-r1", line)  # the proof of before the drain is void
    town.fault("lean", "finance-pay", "fin-l-chengguan")
    before = town.configs()
    try:
        assert town.ping(PAY)
        town.run("verify", "--unit", UNIT, expect=GOOD)
        refused = town.ask_gate(UNIT)
        assert "while the old path of finance-man@chengguan was up, which proves nothing" in said_of(refused, PAY)
        town.run("retire", UNIT, "--until", "shut", "--yes", expect=REFUSED)
        found = town.run("prove", UNIT, "--yes", expect=FAILED)
        assert "chengguan-center/finance/finance-pay/ipv6: marker" in found.stdout
        assert (town.configs(), town.armed(), town.state(UNIT)) == (before, [], "drained")
    finally:
        town.fault("unlean", "finance-pay")
    town.run("prove", UNIT, "--yes", expect=GOOD)
    assert (town.configs(), town.state(UNIT)) == (before, "drained")
    town.soak(UNIT)
    town.run("gate", "explain", UNIT, expect=GOOD)
    type_in(town, "chengguan-r1", f"no {line}")
    town.run("retire", UNIT, "--undo", "--yes", expect=GOOD)
    town.run("prove", UNIT, "--yes", expect=GOOD)
    town.soak(UNIT)


@pytest.mark.heavy
def test_a_port_that_is_opened_behind_our_back_withholds_nothing(town: Town) -> None:
    """A script on the old router opens the closed port again: configured closed, and up. Nothing is proven."""
    town.run("prove", UNIT, "--yes", expect=GOOD)
    town.run("lab", "exec", "fin-chengguan", "--", "sh", "-c", f"({OPENER}) >/dev/null 2>&1 &", expect=GOOD)
    before, state = town.configs(), town.state(UNIT)
    try:
        assert town.ping(PAY)
        found = town.run("prove", UNIT, "--yes", expect=FAILED).stdout
        assert "fin-chengguan port wan1: was closed and is up - something on the router opens it again" in found
        assert (town.configs(), town.armed(), town.state(UNIT)) == (before, [], state)
        last = [e for e in town.campaign.events() if e.kind == "evidence"][-1]
        assert UNIT not in last.body["withheld"]
    finally:
        town.run("lab", "exec", "fin-chengguan", "--", "touch", "/run/enough", expect=GOOD)
    town.run("prove", UNIT, "--yes", expect=GOOD)
    town.soak(UNIT)


def test_a_station_that_still_asks_the_old_name_server_holds_its_unit(town: Town) -> None:
    """Its configuration names a server of the old network: refused by name; put right and measured again, all is well."""
    town.run("prove", UNIT, "--yes", expect=GOOD)
    town.soak(UNIT)
    town.run("gate", "explain", UNIT, expect=GOOD)
    town.fault("resolver", "chengguan-center", "finance", "10.20.0.53")
    try:
        town.run("verify", "--unit", UNIT, expect=FAILED)
        refused = town.run("gate", "explain", UNIT, expect=REFUSED).stdout
        assert "found 10.20.0.53 (an address of the old network finance-man)" in " ".join(refused.split())
        town.run("retire", UNIT, "--yes", expect=REFUSED)
    finally:
        town.fault("mend", "resolver chengguan-center finance")
    town.run("prove", UNIT, "--yes", expect=GOOD)
    town.soak(UNIT)
    town.run("gate", "explain", UNIT, expect=GOOD)


@pytest.mark.heavy
def test_a_line_that_carries_a_fraction_of_its_bandwidth_is_not_relied_on(town: Town) -> None:
    """A line narrowed to a five-hundredth: probes pass, and nothing is withheld for a proof until it is mended."""
    before = town.configs()
    town.fault("slow", "x-chengguan-core1", "2000")
    try:
        assert town.ping(PAY)
        town.run("verify", "--unit", UNIT, expect=GOOD)
        refused = town.run("prove", UNIT, "--yes", expect=REFUSED)
        said = " ".join(refused.stdout.split())
        assert "and 1 line to carry its floor" in refused.stdout + refused.stderr
        assert re.search(r"throughput: 10000 kbit/s to \S+ - expected carried, found \d+ kbit/s arrive", said), said
        assert "nothing was withheld" in said
        assert (town.configs(), town.armed()) == (before, [])
        verdict = town.ask_gate(UNIT)
        assert any("kbit/s arrive" in r.why for r in verdict.reasons), verdict
    finally:
        town.fault("mend", "slow x-chengguan-core1")
    town.run("prove", UNIT, "--yes", expect=GOOD)
    town.soak(UNIT)
    town.run("gate", "explain", UNIT, expect=GOOD)


def test_a_stranger_on_the_old_line_is_named(town: Town) -> None:
    """A host that no table names talks over the line: refused with its address and port; gone, the line soaks anew."""
    town.soak(UNIT)
    town.run("prove", UNIT, "--yes", expect=GOOD)
    town.run("gate", "explain", UNIT, expect=GOOD)
    town.fault("stowaway", UNIT)
    try:
        seen = json.loads(town.run("soak", UNIT, "--json", expect=FAILED).stdout)["units"][0]
        named = {(f["who"], f["port"], f["known"]) for f in seen["against"] if f["kind"] == "consumer"}
        assert ("10.20.255.245", "spare1", "") in named
        assert town.ping(FINANCE)
        town.run("verify", "--unit", UNIT, expect=GOOD)
        refused = "\n".join(map(str, town.ask_gate(UNIT).reasons))
        assert "fin-chengguan port spare1: undeclared host 10.20.255.245, MAC" in refused
        assert "found 'ip route 10.20.255.240/28 10.20.250.2'" in refused
        assert "packets forwarded, found" in refused
        town.run("retire", UNIT, "--yes", expect=REFUSED)
    finally:
        town.fault("unstow", UNIT)
    town.soak(UNIT)
    town.run("gate", "explain", UNIT, expect=GOOD)


def test_what_was_done_past_the_configuration_is_named(town: Town) -> None:
    """A table and a rule of somebody's own on the hub, and a conversation of the old routers themselves: each named."""
    town.soak(UNIT)
    done = "ip route {0} 10.20.8.0/24 via 10.20.250.2 table 77; ip rule {0} from 10.20.8.0/24 table 77"
    begin = "import socket as s, struct, time; c = "
    answer = begin + "s.create_server(('10.20.250.1', 3129)).accept(); time.sleep(90)"
    ask = (
        begin
        + "s.create_connection(('10.20.250.1', 3129)); c.setsockopt(1, 13, struct.pack('ii', 1, 0)); time.sleep(90)"
    )
    ends = (("fin-hub", answer), ("fin-chengguan", ask))

    def sh(node: str, command: str) -> None:
        done = town.inside(node, "sh", "-c", command)
        assert done.returncode == 0, done.stderr

    sh("fin-hub", done.format("add"))
    for node, program in ends:
        sh(node, f"python3 -c {shlex.quote(program)} >/dev/null 2>&1 & echo $! >/tmp/talk; sleep 0.5")
    try:
        seen = json.loads(town.run("soak", UNIT, "--json", expect=FAILED).stdout)["units"][0]
        against = "\n".join(f["why"] for f in seen["against"])
        assert (
            "fin-hub: still leads to the old line - expected no such route, found 10.20.8.0/24 via 10.20.250.2 in"
            in against
        )
        assert "fin-hub: its routing rules still name the old network" in against
        assert "10.20.250.2 talks to this router itself, 10.20.250.1 (tcp/3129)" in against
        assert "10.20.250.1 is spoken to by this router itself, 10.20.250.2 (tcp/3129)" in against
    finally:
        for node, _ in reversed(ends):  # the side that asks resets what it held, so that nothing of it stays
            sh(node, "kill $(cat /tmp/talk)")
        sh("fin-hub", done.format("del"))
    town.soak(UNIT)


@pytest.mark.heavy
def test_a_stranger_at_the_county_is_named_on_each_line_it_talks_over(town: Town) -> None:
    """A host on the county's LAN that goes by the old hub is named on the line it reaches the town by."""
    town.soak(UNIT)
    town.fault("stowaway", "finance-man@county")
    try:
        seen = json.loads(town.run("soak", UNIT, "finance-man@county", "--json", expect=FAILED).stdout)["units"]
        for unit, port in zip(seen, ("chengguan", "lan1"), strict=True):
            assert ("10.20.0.231", "fin-hub", port) in {(f["who"], f["device"], f["port"]) for f in unit["against"]}
    finally:
        town.fault("unstow", "finance-man@county")


def test_a_flapping_line_is_named(town: Town) -> None:
    """A line that lost its carrier between two samples is refused by name, though all is well when looked at."""
    town.soak(UNIT)
    town.fault("flap", "fin-l-chengguan")
    seen = json.loads(town.run("soak", UNIT, "--json", expect=FAILED).stdout)["units"][0]
    assert {(f["kind"], f["device"], f["port"]) for f in seen["against"]} == {
        ("flapping", "fin-chengguan", "wan1"),
        ("flapping", "fin-hub", "chengguan"),
    }
    assert town.ping(FINANCE)
    assert any("fin-chengguan port wan1: flapping" in r.why for r in town.ask_gate(UNIT).reasons)


def test_a_flapping_line_of_the_extranet_is_named(town: Town) -> None:
    """The line that carries the unit now loses its carrier again and again: a ping is well, and the soak begins anew."""
    town.soak(UNIT)
    town.fault("flap", "x-chengguan-core1")
    assert town.ping(FINANCE)
    seen = json.loads(town.run("soak", UNIT, "--json", expect=FAILED).stdout)["units"][0]
    named = [f["why"] for f in seen["against"] if f["kind"] == "flapping"]
    assert len(named) == 1
    assert "x-chengguan-core1 of the extranet" in named[0]
    assert "flapping - expected at most 4 carrier changes, found 6" in named[0]
    assert "x-chengguan-core1 of the extranet" in "\n".join(map(str, town.ask_gate(UNIT).reasons))
    town.soak(UNIT)


@pytest.mark.heavy
def test_a_router_that_started_anew_begins_the_soak_anew(town: Town) -> None:
    """A reboot takes the counters with it: it is named, and what was watched before does not count."""
    town.soak(UNIT)
    town.fault("stop", "fin-chengguan")
    silent = json.loads(town.run("soak", UNIT, "--json", expect=FAILED).stdout)["units"][0]
    assert "fin-chengguan" in silent["against"][0]["why"]
    town.fault("start", "fin-chengguan")
    town.run("soak", UNIT)
    town.soak(UNIT)


def test_a_change_by_hand_voids_the_proof(town: Town) -> None:
    """Proven, then somebody types one line on a router under the path: the proof was of another configuration."""
    town.soak(UNIT)
    town.run("prove", UNIT, "--yes", expect=GOOD)
    town.run("gate", "explain", UNIT, expect=GOOD)
    line = "ipv6 route 2001:db8:dead::/48 blackhole vrf finance"
    type_in(town, "chengguan-r1", line)
    try:
        assert town.ping(FINANCE)
        against = said_of(town.ask_gate(UNIT), FINANCE)
        assert "under another configuration of chengguan-r1 than the one of now" in against
    finally:
        type_in(town, "chengguan-r1", f"no {line}")
    town.run("gate", "explain", UNIT, expect=GOOD)


def test_a_change_by_hand_on_the_old_line_voids_the_proof(town: Town) -> None:
    """A legacy router edited after the measurement voids it, by name; taken back, it counts again."""
    town.soak(UNIT)
    town.run("prove", UNIT, "--yes", expect=GOOD)
    town.run("gate", "explain", UNIT, expect=GOOD)
    type_in(town, "fin-chengguan", "ip route 198.51.100.0/24 blackhole")
    refused = town.run("gate", "explain", UNIT, expect=REFUSED).stdout
    assert "under another configuration of the legacy router fin-chengguan than the one of now" in refused
    type_in(town, "fin-chengguan", "no ip route 198.51.100.0/24 blackhole")
    town.run("gate", "explain", UNIT, expect=GOOD)


def test_a_policy_that_asks_less_than_at_the_cutover_is_refused(town: Town) -> None:
    """One person makes the soak shorter in policy.yaml: refused with both values, until it is put back."""
    policy = town.folder / "policy.yaml"
    text = policy.read_text("utf-8")
    policy.write_text(re.sub(r"(?m)^(\s+soak_s:) 1\b", r"\1 0", text), "utf-8")
    try:
        refused = json.loads(town.run("gate", "explain", UNIT, "--json", expect=REFUSED).stdout)
        (reason,) = [r for r in refused["reasons"] if r["kind"] == "policy"]
        assert f"policy timers.soak_s was 1 when the cutover of {UNIT} was allowed" in reason["why"]
        assert reason["aspect"] == "timers.soak_s 1 → 0"
        titles = (
            "--by",
            "财政局局长",
            "--approved-by",
            "县大数据局局长",
            "--until",
            f"{datetime.now().astimezone() + timedelta(days=3):%Y-%m-%d}",
        )
        shown = town.run(
            "gate", "except", UNIT, "--kind", "policy", "--why", "roadworks", *titles, "--json", expect=GOOD
        )
        assert [r["aspect"] for r in json.loads(shown.stdout)["exception"]["reasons"]] == [reason["aspect"]]
    finally:
        policy.write_text(text, "utf-8")
    again = json.loads(town.run("gate", "explain", UNIT, "--json").stdout)
    assert "policy" not in {r["kind"] for r in again["reasons"]}


def test_a_station_whose_clock_is_wrong_proves_nothing(town: Town) -> None:
    """What a station says an hour from now is not of now, though all of it passes."""
    town.soak(UNIT)
    line, state = "ipv6 route 2001:db8:dead::/48 blackhole vrf finance", town.state(UNIT)
    type_in(town, "chengguan-r1", line)  # what was proven before, by a right clock, would count on
    hold_clock(town, "chengguan-center", ahead_s=3600)
    try:
        assert town.ping(FINANCE)
        # Its own passes do not count, so the proof is not kept for one; the line is back.
        seen = town.run("prove", UNIT, "--yes", expect=FAILED).stdout
        assert "the station's clock is off by about" in seen
        assert town.state(UNIT) == state
        assert "the station's clock is off by about" in said_of(town.ask_gate(UNIT), FINANCE)
    finally:
        hold_clock(town, "chengguan-center", ahead_s=0)
        type_in(town, "chengguan-r1", f"no {line}")
    town.run("prove", UNIT, "--yes", expect=GOOD)


@pytest.mark.heavy
def test_two_units_that_may_be_each_others_backup_go_only_proven_together(town: Town) -> None:
    """Each proven while the other's line was up proves nothing of both gone; withheld together, they may go."""
    other = "real-estate@chengguan"
    town.run("cutover", other, "--yes", expect=GOOD)
    town.soak(UNIT, other)
    town.run("prove", UNIT, "--yes", expect=GOOD)
    town.run("prove", other, "--yes", expect=GOOD)
    assert town.ping(FINANCE)
    refused = town.run("retire", UNIT, other, "--until", "drained", "--yes", "--json", expect=REFUSED).stdout
    told = {u["unit"]: u["reasons"] for u in json.loads(refused)["units"]}
    against = {(r["station"], r["service"]): r["why"] for r in told[UNIT]}
    expected = f"while the old path of {other} was up, which proves nothing"
    assert expected in against["chengguan-center", "finance"]
    town.run("prove", UNIT, other, "--yes", expect=GOOD)
    town.run("retire", UNIT, other, expect=GOOD)


@pytest.mark.heavy
def test_one_village_that_was_not_measured_holds_the_town(town: Town) -> None:
    """Of all that hang on a town's line one village does not answer: it is named, and nothing is proven or retired."""
    units = [f"party-edu@{site}" for site in ("chengguan", "chengguan-xichang", "chengguan-wadong", "chengguan-wabei")]
    town.run("cutover", *units, "--yes", expect=GOOD)
    town.soak(*units)
    town.fault("stop", "chengguan-wabei-station")
    try:
        assert town.ping("chengguan-center/edu/edu/ipv4")  # whoever pings from the town sees nothing of it
        seen = town.run("prove", *units, "--yes", expect=REFUSED).stdout
        assert (
            "chengguan-wabei-station: edu: fails already" in seen
            or "chengguan-wabei-station: dns: fails already" in seen
        )
        silent = "chengguan-wabei-station/edu/edu/ipv4"
        assert "unknown: " in said_of(town.ask_gate(units[-1]), silent)
        town.run("retire", *units, "--yes", expect=REFUSED)
    finally:
        town.fault("start", "chengguan-wabei-station")


def type_in(town: Town, router: str, line: str) -> None:
    """Type a line on a router by hand."""
    town.run("lab", "exec", router, "--", "vtysh", "-c", "configure terminal", "-c", line, expect=GOOD)


def hold_clock(town: Town, station: str, *, ahead_s: int) -> None:
    """Let a station's python tell the time so many seconds ahead: namespaces share the machine's own clock."""
    place, real = f"{NODE_BIN}/python3", os.path.realpath(sys.executable)
    ahead = f"import sys,time; o=time.time; time.time=lambda: o()+{ahead_s}"
    given = "exec(compile(sys.stdin.read(),'-','exec'))"
    script = (
        f"#!/bin/sh\nahead={shlex.quote(ahead)}\n"  # programs come on standard input, or as the word after -c
        f'[ "$3" = -c ] && exec {real} -I -S -c "$ahead\n$4"\n'
        f'exec {real} -I -S -c "$ahead; {given}"\n'
    )
    put = f"rm -f {place} && printf %s {shlex.quote(script)} >{place} && chmod 755 {place}"
    back = f"ln -sf {real} {place}"
    town.run("lab", "exec", station, "--", "sh", "-c", put if ahead_s else back, expect=GOOD)
