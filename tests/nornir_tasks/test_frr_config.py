"""Laws of FRR configurations as values: reading, printing, comparing, merging, and the way between two."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nornir_tasks.platforms.frr.config import (
    FrrConfig,
    canonical,
    differences,
    merged,
    parse,
    patch,
    print_config,
    same,
)
from tests.nornir_tasks.sample import disturbed, law, rendered

ROUTERS = ("core1", "core2", "chengguan-r1", "chengguan-xichang-r1")
seeds = st.integers(0, 10**6)
routers = st.sampled_from(ROUTERS)


@law
@given(routers, seeds, seeds)
def test_patch_leads_from_one_configuration_to_the_other(device: str, one: int, other: int) -> None:
    """apply(patch(a, b), a) == b, and the way back gives a."""
    a, b = disturbed(rendered(device), one), disturbed(rendered(device, cut_over=True), other)
    assert same(merged(a, parse(patch(a, b))), b)
    assert same(merged(b, parse(patch(b, a))), a)


@law
@given(routers, seeds)
def test_nothing_to_do_is_nothing(device: str, seed: int) -> None:
    """Equal configurations have no difference and an empty patch, whatever the order of blocks and lines."""
    a = disturbed(rendered(device), seed)
    shuffled = FrrConfig({path: list(reversed(lines)) for path, lines in reversed(a.blocks.items())})
    assert differences(a, shuffled) == ""
    assert patch(a, shuffled) == ""


@law
@given(routers, seeds, seeds)
def test_difference_is_empty_only_when_equal(device: str, one: int, other: int) -> None:
    """A difference shows exactly the facts that differ, each once."""
    a, b = disturbed(rendered(device), one), disturbed(rendered(device), other)
    rows = differences(a, b).splitlines()
    assert sum(row.startswith("+ ") for row in rows) == len(b.facts() - a.facts())
    assert sum(row.startswith("- ") for row in rows) == len(a.facts() - b.facts())


@law
@given(routers, seeds)
def test_printing_and_reading_are_inverse(device: str, seed: int) -> None:
    """parse(print(a)) says what a says, and printing twice changes nothing."""
    a = disturbed(rendered(device), seed)
    text = print_config(a)
    assert same(parse(text), a)
    assert canonical(text) == text


def test_volatile_lines_do_not_count() -> None:
    """What depends on the software, the daemons' defaults or the hardware is not a difference."""
    text = "Building configuration...\n\nCurrent configuration:\n!\nfrr version 8.4.4\nfrr defaults datacenter\n"
    found = parse(text + "hostname r1\n!\nvrf edu\n netns /run/netns/edu\nexit-vrf\n!\ninterface eth9\nexit\n!\nend\n")
    assert same(found, parse("hostname r1\n"))


def test_filters_come_before_what_uses_them_and_go_after() -> None:
    """A neighbor never runs without the filter it had or will have."""
    bare = parse("router bgp 65001\n neighbor 3fff::1 remote-as 65002\nexit\n")
    full = parse(
        "router bgp 65001\n neighbor 3fff::1 remote-as 65002\n address-family ipv6 unicast\n"
        "  neighbor 3fff::1 prefix-list p in\n exit-address-family\nexit\n"
        "ipv6 prefix-list p seq 5 permit 3fff::/20 le 64\n"
    )
    forth, back = patch(bare, full), patch(full, bare)
    assert forth.index("ipv6 prefix-list p") < forth.index("neighbor 3fff::1 prefix-list")
    assert back.index("no neighbor 3fff::1 prefix-list") < back.index("no ipv6 prefix-list p")


def test_values_are_replaced_in_place() -> None:
    """A new value of a line that a block holds once is entered without removing the old one first."""
    old = parse(
        "ipv6 prefix-list p seq 5 permit 3fff::/20\nrouter bgp 65001\n neighbor 3fff::1 remote-as 65002\nexit\n"
    )
    new = parse(
        "ipv6 prefix-list p seq 5 permit 3fff::/24\nrouter bgp 65001\n neighbor 3fff::1 remote-as 65003\nexit\n"
    )
    assert "no " not in patch(old, new)


def test_addresses_go_before_others_come() -> None:
    """The kernel drops a subnet's secondary addresses with its primary one, so the old one is removed first."""
    old = parse("interface lan1\n ip address 10.20.0.1/24\nexit\n")
    new = parse("interface lan1\n ip address 10.20.0.254/24\nexit\n")
    lines = [x.strip() for x in patch(old, new).splitlines()]
    assert lines.index("no ip address 10.20.0.1/24") < lines.index("ip address 10.20.0.254/24")


def test_static_route_is_made_before_it_is_broken() -> None:
    """A route that changes its next hop has the new one before the old one goes."""
    old, new = parse("ipv6 route 3fff:1::/64 3fff::1\n"), parse("ipv6 route 3fff:1::/64 3fff::2\n")
    assert patch(old, new) == "ipv6 route 3fff:1::/64 3fff::2\nno ipv6 route 3fff:1::/64 3fff::1\n"


def test_whole_neighbor_is_removed_by_one_command() -> None:
    """A neighbor of which nothing stays takes its lines in the address families with it."""
    old = parse(
        "router bgp 65001\n neighbor 3fff::1 remote-as 65002\n neighbor 3fff::1 description x\n"
        " address-family ipv6 unicast\n  neighbor 3fff::1 activate\n exit-address-family\nexit\n"
    )
    new = parse("router bgp 65001\nexit\n")
    assert patch(old, new) == "router bgp 65001\n no neighbor 3fff::1\nexit\n"


@pytest.mark.parametrize(
    ("line", "left"),
    [
        (" no description", []),
        (" no description core1", []),
        (" description core2", ["description core2"]),
        (" no ip address 10.0.0.1/24", ["description core1"]),
        (" no shutdown", ["description core1"]),
        (" shutdown", ["description core1", "shutdown"]),
        (" no ipv6 nd suppress-ra", ["description core1", "no ipv6 nd suppress-ra"]),
    ],
)
def test_merging_one_line(line: str, left: list[str]) -> None:
    """Merging enters a line, replaces the value of its kind, or removes what `no` names."""
    running = parse("interface lan1\n description core1\nexit\n")
    block = ("interface lan1",)
    assert merged(running, parse(f"interface lan1\n{line}\nexit\n")).blocks[block] == left
    assert running.blocks[block] == ["description core1"]
