"""Traps on real routers: each is a county where a ping says that all is well, and the check and the gate that tell otherwise.

One lab of the county's first town, in which finance and party education are cut over, serves all tests of a worker.
"""

import json
import re
import shlex
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from lab import faults
from lab.faults import Alteration, What
from migration.diagnose import diagnose, say_diagnosis
from migration.gates import Verdict, judge_proof
from migration.measuring import measure_now, read_situation
from migration.moves import unit_checks
from nornir_tasks.stations.collect import measure
from nornir_tasks.stations.model import Finding, Missing, Outcome, Result, WayAspect
from tests.migration.town import GOOD, Town, open_town, said_of

PASSED, FAILED, UNKNOWN = Outcome.PASSED, Outcome.FAILED, Outcome.UNKNOWN
CENTER = "chengguan-center"
OLD_NAMES = "10.20.0.53"
FINANCE6, FINANCE4 = f"{CENTER}/finance/finance/ipv6", f"{CENTER}/finance/finance/ipv4"
pytestmark = pytest.mark.lab


class ProbedTown(Town):
    """A county folder whose lab is up, looked at check by check."""

    def see(self, check: str) -> Result:
        """Measure one check."""
        campaign = self.campaign
        asked = campaign.matrix.by_id[check]
        return measure([asked], campaign.county, campaign.access, hops=campaign.matrix.hops)[0]

    def judge(self, check: str) -> tuple[Result, Verdict]:
        """Measure a check with all else of its unit, and ask the gate what that comes to: it decides on a trial by no more."""
        campaign = self.campaign
        asked = campaign.matrix.by_id[check]
        site = campaign.county.station_by_id[asked.station].site
        unit = next(u for u in campaign.county.units if (u.site, u.plane) == (site, asked.plane))
        results, evidence = measure_now(campaign, unit_checks(campaign, [unit]), units=[unit.id])
        tried = evidence.model_copy(update={"withheld": (unit.id,)})
        situation = replace(read_situation(campaign, current=evidence.bound), evidence=(tried,))
        verdict = judge_proof(unit.id, situation, since=datetime.fromtimestamp(evidence.taken_from, UTC))
        return next(r for r in results if r.check.id == check), verdict

    def see_refused(self, check: str) -> Result:
        """Measure a check that fails, and see that the gate refuses its unit by its station, its service and that very reason."""
        result, verdict = self.judge(check)
        assert result.outcome is FAILED
        assert result.why in said_of(verdict, check)
        return result

    def see_fragments(self, check: str) -> None:
        """See that answers come in fragments, though the way is whole again; then let the server forget what it learnt."""
        result = self.see(check)
        assert re.match(r"mtu-back: .* expected in one piece, found in fragments of 13\d\d", result.why), result.why
        assert self.inside("srv-finance", "ip", "route", "flush", "cache").returncode == 0
        self.see_good(check)

    def see_good(self, check: str) -> Result:
        """Measure a check that passes, as soon as it does."""
        for _ in range(20):
            result = self.see(check)
            if result.outcome is PASSED:
                return result
            time.sleep(1)
        raise AssertionError(result.why)


@contextmanager
def trap(town: ProbedTown, alteration: Alteration) -> Iterator[None]:
    """Keep an alteration in force for the block."""
    try:
        yield
    finally:
        assert faults.mend(town.lab, alteration.name) == (alteration,)


def finding(result: Result, aspect: str) -> Finding:
    """Return a result's finding of an aspect."""
    return next(f for f in result.findings if f.aspect == aspect)


@contextmanager
def old_name_server(town: ProbedTown) -> Iterator[None]:
    """Keep a name server in a department's own network for the block: it gives the same answers as the new one."""
    conf, pid = "/etc/extranet/old-names.conf", "/run/old-names.pid"
    words = town.inside("srv-dns", "cat", "/etc/extranet/unbound.conf").stdout
    edits = {"interface: 0.0.0.0": f"interface: {OLD_NAMES}", "interface: ::0\n": "", "/run/unbound.pid": pid}
    for old, new in edits.items():
        assert old in words
        words = words.replace(old, new)
    script = f"printf %s {shlex.quote(words)} >{conf}; ip addr add {OLD_NAMES}/24 dev finance; unbound -c {conf}"
    assert town.inside("srv-finance", "/bin/sh", "-ec", script).returncode == 0
    try:
        yield
    finally:
        town.inside("srv-finance", "/bin/sh", "-c", f"kill $(cat {pid}); ip addr del {OLD_NAMES}/24 dev finance")


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProbedTown]:
    """The lab, provisioned, with two departments cut over in the county and in the town."""
    with open_town(tmp_path_factory.mktemp("probe-traps") / "county", {}) as made:
        made.run("cutover", "finance-man@chengguan", "party-edu@chengguan", "--yes", expect=GOOD)
        yield ProbedTown(made.folder)


def test_without_a_trap_every_aspect_is_measured_and_passes(town: ProbedTown) -> None:
    """What the matrix asks stands in the result: service, both ways, loss, size both ways, the session; the gate allows."""
    for check in (FINANCE6, FINANCE4):
        result = town.see_good(check)
        assert result.unproven == ()
        assert {"path", "return", "icmp", "mtu", "mtu-back", "vantage", "marker"} <= {f.aspect for f in result.findings}
        assert result.hops == ("chengguan-r1:lan.110", "core1:chengguan.110")
        assert result.return_hops == ("core1:lan.110", "chengguan-r1:wan1.110")
        hosts = [json.loads(words.split(" ", 2)[2])["host"] for words in result.said.values()]
        assert (hosts, list(result.said)) == ([CENTER, "srv-finance"], result.raw["output"])
    assert town.judge(FINANCE6)[1].allowed


def test_an_answer_that_comes_back_over_the_old_line_is_seen(town: ProbedTown) -> None:
    """The way there is the extranet's and all works, but the server still answers over the hub and the old line."""
    town.see_good(FINANCE4)
    mac = town.inside(CENTER, "cat", "/sys/class/net/finance/address").stdout.strip()
    # The old router's port is plugged in again, and takes nobody's gateway address away.
    town.inside("fin-chengguan", "ip", "link", "set", "lan1", "arp", "off", "up")
    town.inside("fin-chengguan", "ip", "neigh", "replace", "10.20.8.11", "lladdr", mac, "dev", "lan1")
    try:
        with trap(town, faults.detour(town.lab, "srv-finance", "10.20.8.0/24", "10.20.0.254")):
            assert town.ping(FINANCE4)
            result = town.see_refused(FINANCE4)
    finally:
        town.inside("fin-chengguan", "ip", "link", "set", "lan1", "down", "arp", "on")
    assert [finding(result, a).outcome for a in ("tcp", "tls", "marker", "path", "icmp")] == [PASSED] * 5
    assert result.why.startswith("return: hop 1 - expected no legacy router, found fin-hub:lan1"), result.why
    assert result.return_hops[0] == "fin-hub:lan1"
    town.see_good(FINANCE4)


def test_a_filter_that_ping_does_not_see(town: ProbedTown) -> None:
    """TCP to the service's port is filtered on the way; ping is fine."""
    check = f"{CENTER}/finance/finance-pay/ipv6"
    faults.drop(town.lab, "chengguan-r1", What.TCP, port=1521, plane="finance")
    try:
        assert town.ping(check)
        result = town.see_refused(check)
    finally:
        faults.undrop(town.lab, "chengguan-r1")
    assert re.match(r"tcp: .*:1521 - expected an open port, found no answer in 3 s", result.why), result.why
    assert finding(result, "icmp").outcome is PASSED


def test_a_black_hole_for_large_packets_is_named_with_what_still_passes(town: ProbedTown) -> None:
    """Large packets vanish in silence; ping, connection and certificate are fine."""
    with trap(town, faults.narrow(town.lab, "x-chengguan-core1/finance", 1400, silently=True)):
        assert town.ping(FINANCE6)
        result = town.see_refused(FINANCE6)
    # The server goes on cutting its answers to what it learnt for ten minutes: there is nothing to see but that.
    town.see_fragments(FINANCE4)
    # A Linux cable lets four bytes more through than its size: room for a VLAN tag.
    assert re.match(r"mtu: .* found a black hole: .* the largest that passed 140\d bytes", result.why), result.why
    assert finding(result, "tcp").outcome is PASSED
    assert finding(result, "icmp").outcome is PASSED


def test_a_narrow_line_is_named_with_who_says_so(town: ProbedTown) -> None:
    """Where routers do say that a packet is too big, the size and the router are in the reason, there and back."""
    with trap(town, faults.narrow(town.lab, "x-chengguan-core1/finance", 1400)):
        result = town.see(FINANCE6)
    assert re.match(r"mtu: .* found at most 1400 \(so says 3fff:.*\)", result.why), result.why
    assert re.search(r"found at most 1400 \(so says 3fff:.*\)", finding(result, "mtu-back").detail)


def test_an_old_address_in_the_name_server_is_seen(town: ProbedTown) -> None:
    """The service answers at its right address, but its name leads elsewhere."""
    old = faults.answer_old(town.lab, "srv-dns", "finance.yichuan.example", "10.20.0.8")
    with trap(town, old):
        assert town.ping(FINANCE4)
        result = town.see_refused(FINANCE4)
    assert result.why.startswith("dns: A of finance.yichuan.example - expected 10.20.0.80, found 10.20.0.8"), result.why
    assert finding(result, "marker").outcome is PASSED


def test_a_station_that_still_asks_the_old_name_server_is_seen(town: ProbedTown) -> None:
    """The old network's name server still answers, and rightly; but it goes with the old network."""
    right = town.see_good(FINANCE4)
    assert right.raw["resolvers"]["file"] == "/etc/netns/finance/resolv.conf"
    with old_name_server(town), trap(town, faults.ask_elsewhere(town.lab, CENTER, "finance", OLD_NAMES)):
        assert town.ping(FINANCE4)
        result = town.see_refused(FINANCE4)
        other = town.see(f"{CENTER}/public/portal/ipv4")
    assert finding(result, "dns").outcome is PASSED, finding(result, "dns").detail
    assert finding(result, "marker").outcome is PASSED
    assert result.why.startswith(f"resolver: /etc/netns/finance/resolv.conf of {CENTER}, for leg finance"), result.why
    assert result.why.endswith(f"found {OLD_NAMES} (an address of the old network finance-man)"), result.why
    assert result.raw["resolvers"]["answered"] == OLD_NAMES
    assert other.outcome is PASSED, other.why


def test_a_station_whose_first_resolver_is_gone_is_seen(town: ProbedTown) -> None:
    """It asks the old network's dead name server first: nothing is resolved, though the right one would answer."""
    with trap(town, faults.ask_elsewhere(town.lab, CENTER, "finance", OLD_NAMES)):
        assert town.ping(FINANCE6)
        result = town.see_refused(FINANCE6)
    assert finding(result, "dns").outcome is FAILED
    assert list(result.raw["resolvers"]["silent"]) == [OLD_NAMES]


def test_a_name_in_the_stations_own_table_of_hosts_is_seen(town: ProbedTown) -> None:
    """Every name server is right, and nobody asks it: a line in the station's own table of hosts still leads to the old one."""
    with trap(town, faults.pin_name(town.lab, CENTER, "finance.yichuan.example", "10.20.0.8")):
        assert town.ping(FINANCE6)
        results = [town.see_refused(FINANCE6), town.see_refused(FINANCE4)]
    for result in results:
        assert finding(result, "dns").outcome is PASSED
        words = f"resolver: /etc/hosts of {CENTER} - expected finance.yichuan.example not in it, or at {result.check.address}"
        assert result.why.startswith(words), result.why
        assert result.why.endswith("found 10.20.0.8 (an address of the old network finance-man)"), result.why


def test_a_wrong_back_end_behind_the_right_port_is_seen(town: ProbedTown) -> None:
    """The port is open, the certificate right, the page there: another application answers."""
    with trap(town, faults.answer_wrongly(town.lab, "srv-finance", "finance", "payroll")):
        assert town.ping(FINANCE6)
        result = town.see_refused(FINANCE6)
    assert result.why == "marker: page - expected 'finance', found 'payroll'"
    assert [finding(result, a).outcome for a in ("tcp", "tls", "http", "icmp")] == [PASSED] * 4


def test_a_certificate_of_another_name_is_seen(town: ProbedTown) -> None:
    """A certificate of the right authority, in date, for another service."""
    with trap(town, faults.show_certificate(town.lab, "srv-finance", "finance", "srv-edu", "edu")):
        assert town.ping(FINANCE6)
        result = town.see_refused(FINANCE6)
    assert re.match(r"tls: certificate of finance\.yichuan\.example - expected valid, found .*edu\.", result.why), (
        result.why
    )
    assert finding(result, "tcp").outcome is PASSED


def test_broken_ipv6_is_not_hidden_by_ipv4(town: ProbedTown) -> None:
    """A person's browser falls back to IPv4 and sees nothing; each family is a check of its own."""
    faults.drop(town.lab, "srv-finance", What.IPV6)
    try:
        assert town.ping(FINANCE4)
        broken, working = town.see_refused(FINANCE6), town.see(FINANCE4)
    finally:
        faults.undrop(town.lab, "srv-finance")
    assert broken.why.startswith("tcp: [3fff:"), broken.why
    assert working.outcome is PASSED


def test_a_station_whose_gateway_is_still_the_old_router_is_seen(town: ProbedTown) -> None:
    """The service answers well, from the old network: the first routers on the way there and back are named."""
    check = f"{CENTER}/hrss/hrss/ipv4"
    assert town.ping(check)
    result = town.see_refused(check)
    assert result.hops[0] == "hrs-chengguan:lan1"
    assert re.match(r"path: hop 2 - expected no legacy router, found hrs-hub:chengguan", result.why), result.why
    assert finding(result, "marker").outcome is PASSED


def test_a_leak_between_departments_is_seen(town: ProbedTown) -> None:
    """Routes of one department's VRF leak into another's: what must be closed is open."""
    check = "z-general/edu/!finance/ipv6"
    town.see_good(check)
    with trap(town, faults.leak(town.lab, "core1", "edu", "finance")):
        assert town.ping(check)
        result = town.see_refused(check)
    assert re.match(r"tcp: .* - expected blocked, found open \(certificate of finance\.", result.why), result.why


def test_without_a_vantage_at_the_servers_side_nothing_passes(town: ProbedTown) -> None:
    """No address for the server, or a server that does not answer: unknown, by name; the rest is measured all the same."""
    campaign = town.campaign
    asked = campaign.matrix.by_id[FINANCE6]
    town.see_good(FINANCE6)
    addresses = dict(campaign.access.addresses)
    nobody = f"{addresses['srv-finance'].rpartition(':')[0]}:ffff"
    for other, missing, words in (
        ({}, Missing.SKIPPED, "expected its address in the access file, found none"),
        ({"srv-finance": nobody}, Missing.UNREACHABLE, "expected reachable, found"),
    ):
        rest = {name: a for name, a in addresses.items() if name != "srv-finance"}
        access = campaign.access.model_copy(update={"addresses": {**rest, **other}})
        result = measure([asked], campaign.county, access, hops=campaign.matrix.hops)[0]
        assert (result.outcome, result.missing) == (UNKNOWN, missing), result.why
        assert words in finding(result, "return").detail
        assert finding(result, "marker").outcome is PASSED


def test_a_stations_router_says_where_a_failure_lies(town: ProbedTown) -> None:
    """A filter on the service: the router itself gets there. The line narrowed to nothing: it does not either."""
    check = f"{CENTER}/finance/finance-pay/ipv6"
    for what, port, words in (
        (What.TCP, 1521, r"chengguan-r1 itself reaches \S+ in finance \(3 of 3 answered\)"),
        (What.IPV6, None, r"chengguan-r1 itself cannot reach \S+ in finance either"),
    ):
        faults.drop(town.lab, "core1", what, port=port, plane="finance")
        try:
            (result,) = diagnose(town.campaign, [town.see(check)])
            assert '"ways": [{"id": "0"' in result.said[result.raw["output"][-1]]
        finally:
            faults.undrop(town.lab, "core1")
        assert result.outcome is FAILED
        assert re.match(words, say_diagnosis(result)), say_diagnosis(result)


def test_a_line_slower_than_its_floor_is_seen(town: ProbedTown) -> None:
    """One check a line sends at the floor: it passes on a good line, and fails with what arrives on a slow one."""
    campaign = town.campaign
    checks = campaign.matrix.for_stations([CENTER]).with_throughput(campaign.county).checks
    asked = [c for c in checks if WayAspect.THROUGHPUT in c.way]
    assert len(asked) == 1

    def carried() -> Finding:
        (result,) = measure(asked, campaign.county, campaign.access, hops=campaign.matrix.hops)
        return finding(result, "throughput")

    assert carried().outcome is PASSED
    with trap(town, faults.slow(town.lab, "x-chengguan-core1", 2000)):
        slow = carried()
    assert slow.outcome is FAILED
    assert re.search(r"10000 kbit/s to \S+ - expected carried, found [123]\d{3} kbit/s arrive", slow.detail), (
        slow.detail
    )
