"""Whom a station may ask for names."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nornir_tasks.stations.model import Missing, Outcome
from nornir_tasks.stations.resolvers import judge_resolvers
from tests.nornir_tasks.stations.rig import county, make_check

NAMED = ("2001:db8:2::35", "10.128.255.53")
OTHERS = ("10.20.0.53", "127.0.0.1", "2001:db8:2::36", "fe80::1%finance", "ns.example", "")


@given(st.lists(st.sampled_from(NAMED + OTHERS), max_size=5))
def test_only_resolvers_that_the_inventory_names_pass(names: list[str]) -> None:
    """A configuration passes when it names somebody, and nobody else than the inventory; the stranger is named."""
    found = judge_resolvers(make_check(resolvers=NAMED), {"file": "/etc/resolv.conf", "names": names}, county())
    assert (found.outcome is Outcome.PASSED) == (bool(names) and set(names) <= set(NAMED))
    assert all(n in found.detail for n in names if n not in NAMED)


def test_another_spelling_is_the_same_resolver() -> None:
    """Addresses are compared, not their text."""
    told = {"file": "/etc/resolv.conf", "names": ["2001:0DB8:0002:0::35"]}
    assert judge_resolvers(make_check(resolvers=NAMED), told, county()).outcome is Outcome.PASSED


@pytest.mark.parametrize("told", [None, {}, {"names": "2001:db8:2::35"}, {"names": [1]}, []])
def test_a_station_that_does_not_tell_is_unknown(told: Any) -> None:
    """What the station asks is not taken for granted."""
    found = judge_resolvers(make_check(resolvers=NAMED), told, county())
    assert (found.outcome, found.missing) == (Outcome.UNKNOWN, Missing.NEVER_RUN)


def test_a_check_that_leaves_it_to_the_station_asks_for_its_resolvers() -> None:
    """Without a passed finding about them nothing passes; a check of a name server asks that server."""
    assert make_check(resolvers=NAMED).asks[:2] == ("resolver", "dns")
    assert "resolver" not in make_check().asks
    assert "resolver" not in make_check(protocol="dns", resolvers=NAMED).asks
