"""Whom a station may ask for names."""

from collections.abc import Callable
from io import StringIO
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nornir_tasks.stations import agent
from nornir_tasks.stations.model import Missing, Outcome
from nornir_tasks.stations.resolvers import judge_resolvers, say_unasked
from tests.nornir_tasks.stations.rig import county, make_check

NAMED = ("2001:db8:2::35", "10.128.255.53")
NO_PIN = {"file": "/etc/hosts", "addresses": []}
USUAL = {"file": "/etc/nsswitch.conf", "names": []}
OTHERS = ("10.20.0.53", "127.0.0.1", "2001:db8:2::36", "fe80::1%finance", "ns.example", "")


@given(st.lists(st.sampled_from(NAMED + OTHERS), max_size=5))
def test_only_resolvers_that_the_inventory_names_pass(names: list[str]) -> None:
    """A configuration passes when it names somebody, and nobody else than the inventory; the stranger is named."""
    found = judge_resolvers(
        make_check(resolvers=NAMED),
        {"file": "/etc/resolv.conf", "names": names, "hosts": NO_PIN, "lookups": USUAL},
        county(),
    )
    assert (found.outcome is Outcome.PASSED) == (bool(names) and set(names) <= set(NAMED))
    assert all(n in found.detail for n in names if n not in NAMED)


def test_another_spelling_is_the_same_resolver() -> None:
    """Addresses are compared, not their text."""
    told = {"file": "/etc/resolv.conf", "names": ["2001:0DB8:0002:0::35"], "hosts": NO_PIN, "lookups": USUAL}
    assert judge_resolvers(make_check(resolvers=NAMED), told, county()).outcome is Outcome.PASSED


@pytest.mark.parametrize("told", [None, {}, {"names": "2001:db8:2::35"}, {"names": [1]}, []])
def test_a_station_that_does_not_tell_is_unknown(told: Any) -> None:
    """What the station asks is not taken for granted."""
    found = judge_resolvers(make_check(resolvers=NAMED), told, county())
    assert (found.outcome, found.missing) == (Outcome.UNKNOWN, Missing.NEVER_RUN)


@given(st.lists(st.sampled_from(("{right}", "10.20.8.80", "2001:db8:9::9", "::1", "no address")), max_size=3))
def test_a_name_in_the_stations_own_table_must_stand_there_as_planned(pinned: list[str]) -> None:
    """A table of hosts counts before any name server: it may name the planned address, or leave the name out."""
    check = make_check(resolvers=NAMED)
    there = [p.format(right=check.address.upper()) for p in pinned]
    told: dict[str, Any] = {"file": "/etc/resolv.conf", "names": [NAMED[0]], "lookups": USUAL}
    told["hosts"] = {"file": "/etc/hosts", "addresses": there}
    found = judge_resolvers(check, told, county())
    family = 6 if ":" in check.address else 4
    own = {p for p in pinned if p in {"{right}", "no address"} or (6 if ":" in p else 4) == family}
    assert (found.outcome is Outcome.PASSED) == (not pinned or own == {"{right}"})
    assert found.outcome is not Outcome.FAILED or found.detail.startswith("/etc/hosts of")


@pytest.mark.parametrize("hosts", [None, {}, {"addresses": "10.0.0.1"}, {"addresses": [1]}])
def test_a_table_of_hosts_that_is_not_told_is_no_pass(hosts: Any) -> None:
    """What the station's own table says is not taken for granted."""
    told = {"file": "/etc/resolv.conf", "names": [NAMED[0]], "hosts": hosts, "lookups": USUAL}
    found = judge_resolvers(make_check(resolvers=NAMED), told, county())
    assert (found.outcome, found.missing) == (Outcome.UNKNOWN, Missing.NEVER_RUN)


@pytest.mark.parametrize("read", [agent.read_resolvers, agent.read_hosts, agent.read_lookups])
@pytest.mark.parametrize(
    ("error", "names"),
    [(FileNotFoundError, True), (NotADirectoryError, True), (PermissionError, False), (OSError, False)],
)
def test_a_file_that_cannot_be_read_is_not_an_empty_one(
    read: Callable[[str], dict[str, Any]],
    error: type[OSError],
    names: bool,  # noqa: FBT001 - pytest gives it
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where there is no file nothing is in it; where it cannot be read nobody knows what is."""

    def refuse(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(agent, "open", refuse, raising=False)
    assert (read("finance")["names"] is not None) == names


@pytest.mark.parametrize(
    ("line", "asks"),
    [
        ("dns", True),
        ("files dns", True),
        ("dns [!UNAVAIL=return] files", True),
        ("files mdns4_minimal [NOTFOUND=return] dns", True),
        ("files mdns4_minimal[NOTFOUND=return]dns", True),
        ("mymachines resolve [!UNAVAIL=return] files myhostname dns", True),
        ("files [SUCCESS=return] dns", True),
        ("files [NOTFOUND=return NOTFOUND=continue] dns", True),
        ("files [!NOTFOUND=continue] Resolve", True),
        ("", False),
        ("files", False),
        ("files myhostname", False),
        ("files [NOTFOUND=return]", False),
        ("files [NOTFOUND=return] dns", False),
        ("files[notfound=return]dns", False),
        ("files [!UNAVAIL=return] dns", False),
        ("nis [UNAVAIL=return] dns", False),
        ("mdns4_minimal [UNAVAIL=return] dns", False),
        ("files [NOTFOUND = return] dns", False),
        ("files [NOTFOUND=return dns", False),
        ("nodns dnsmasq", False),
    ],
)
def test_programs_must_come_to_ask_a_name_server(line: str, asks: bool) -> None:  # noqa: FBT001 - pytest gives it
    """Where names are looked up must lead to a name server, past every action before it; else one line says why not."""
    lookups = {"file": "/etc/nsswitch.conf", "names": ["files dns", line]}
    told = {"file": "/etc/resolv.conf", "names": [NAMED[0]], "hosts": NO_PIN, "lookups": lookups}
    found = judge_resolvers(make_check(resolvers=NAMED), told, county())
    assert (found.outcome is Outcome.PASSED) == asks
    assert asks or found.detail.startswith("/etc/nsswitch.conf of")
    assert asks or f"found 'hosts: {line}', " in found.detail


def test_a_name_that_mdns_answers_for_stops_there() -> None:
    """Of a name in .local the multicast source says that there is none: nobody else is asked."""
    assert not say_unasked("mdns4_minimal [NOTFOUND=return] dns", "ledgers.county.example")
    assert say_unasked("mdns4_minimal [NOTFOUND=return] dns", "ledgers.county.local")


@given(
    before=st.lists(
        st.tuples(st.sampled_from(["files", "nis", "mdns_minimal", "db"]), st.sampled_from(["", "[SUCCESS=return]"]))
    ),
    end=st.sampled_from(["dns", "resolve", ""]),
    stop=st.sampled_from(["", "files [NOTFOUND=return]", "db [!SUCCESS=return]"]),
)
def test_only_what_stops_or_lacks_a_server_fails(before: list[tuple[str, str]], end: str, stop: str) -> None:
    """Whatever else stands before it, a server is asked exactly when one is there and nothing stops the search."""
    line = " ".join([*(f"{source} {action}" for source, action in before), stop, end])
    assert (say_unasked(line, "ledgers.example") == "") == (bool(end) and not stop)


@pytest.mark.parametrize("lookups", [None, {}, {"names": None, "file": "/etc/nsswitch.conf"}, {"names": [1]}])
def test_where_names_are_looked_up_and_nobody_tells_is_unknown(lookups: Any) -> None:
    """A file that cannot be read is not libc's own way."""
    told = {"file": "/etc/resolv.conf", "names": [NAMED[0]], "hosts": NO_PIN, "lookups": lookups}
    found = judge_resolvers(make_check(resolvers=NAMED), told, county())
    assert (found.outcome, found.missing) == (Outcome.UNKNOWN, Missing.NEVER_RUN)


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("passwd: files\n hosts:files dns # as usual\n", ["files dns"]),
        ("#hosts: files\nhostsnot: files\nnetworks: files\n", []),
        ("hosts: files\nhosts\tdns\nhosts:\n", ["files", "dns", ""]),
    ],
)
def test_the_lines_about_hosts_are_read(text: str, lines: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """As libc reads them: comments aside, with and without the colon; a leg's own file before the host's."""
    asked: list[str] = []

    def give(path: str, **_: object) -> StringIO:
        asked.append(path)
        return StringIO(text)

    monkeypatch.setattr(agent, "open", give, raising=False)
    assert agent.read_lookups("finance") == {"file": "/etc/netns/finance/nsswitch.conf", "names": lines}
    assert asked == ["/etc/netns/finance/nsswitch.conf"]


def test_a_check_that_leaves_it_to_the_station_asks_for_its_resolvers() -> None:
    """Without a passed finding about them nothing passes; a check of a name server asks that server."""
    assert make_check(resolvers=NAMED).asks[:2] == ("resolver", "dns")
    assert "resolver" not in make_check().asks
    assert "resolver" not in make_check(protocol="dns", resolvers=NAMED).asks
