"""Whom a station may ask for names."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nornir_tasks.stations import agent
from nornir_tasks.stations.model import Missing, Outcome
from nornir_tasks.stations.resolvers import judge_resolvers
from tests.nornir_tasks.stations.rig import county, make_check

NAMED = ("2001:db8:2::35", "10.128.255.53")
NO_PIN = {"file": "/etc/hosts", "addresses": []}
OTHERS = ("10.20.0.53", "127.0.0.1", "2001:db8:2::36", "fe80::1%finance", "ns.example", "")


@given(st.lists(st.sampled_from(NAMED + OTHERS), max_size=5))
def test_only_resolvers_that_the_inventory_names_pass(names: list[str]) -> None:
    """A configuration passes when it names somebody, and nobody else than the inventory; the stranger is named."""
    found = judge_resolvers(
        make_check(resolvers=NAMED), {"file": "/etc/resolv.conf", "names": names, "hosts": NO_PIN}, county()
    )
    assert (found.outcome is Outcome.PASSED) == (bool(names) and set(names) <= set(NAMED))
    assert all(n in found.detail for n in names if n not in NAMED)


def test_another_spelling_is_the_same_resolver() -> None:
    """Addresses are compared, not their text."""
    told = {"file": "/etc/resolv.conf", "names": ["2001:0DB8:0002:0::35"], "hosts": NO_PIN}
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
    told = {"file": "/etc/resolv.conf", "names": [NAMED[0]], "hosts": {"file": "/etc/hosts", "addresses": there}}
    found = judge_resolvers(check, told, county())
    family = 6 if ":" in check.address else 4
    own = {p for p in pinned if p in {"{right}", "no address"} or (6 if ":" in p else 4) == family}
    assert (found.outcome is Outcome.PASSED) == (not pinned or own == {"{right}"})
    assert found.outcome is not Outcome.FAILED or found.detail.startswith("/etc/hosts of")


@pytest.mark.parametrize("hosts", [None, {}, {"addresses": "10.0.0.1"}, {"addresses": [1]}])
def test_a_table_of_hosts_that_is_not_told_is_no_pass(hosts: Any) -> None:
    """What the station's own table says is not taken for granted."""
    told = {"file": "/etc/resolv.conf", "names": [NAMED[0]], "hosts": hosts}
    found = judge_resolvers(make_check(resolvers=NAMED), told, county())
    assert (found.outcome, found.missing) == (Outcome.UNKNOWN, Missing.NEVER_RUN)


@pytest.mark.parametrize("read", [agent.read_resolvers, agent.read_hosts])
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


def test_a_check_that_leaves_it_to_the_station_asks_for_its_resolvers() -> None:
    """Without a passed finding about them nothing passes; a check of a name server asks that server."""
    assert make_check(resolvers=NAMED).asks[:2] == ("resolver", "dns")
    assert "resolver" not in make_check().asks
    assert "resolver" not in make_check(protocol="dns", resolvers=NAMED).asks
