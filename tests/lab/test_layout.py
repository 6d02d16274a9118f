"""The lab's layout joins exactly what the topology joins."""

from ipaddress import IPv6Network

import pytest

from addressing.plan import make_plan
from inventory.model import County
from inventory.reader import load_county
from inventory.topology import build_topology
from lab.before import VrfBackend
from lab.keys import Authority
from lab.layout import MANAGEMENT, Layout, make_layout
from tests.lab_fixture import SAMPLE

PREFIX = IPv6Network("fdab:cdef:12::/48")


@pytest.fixture(scope="module")
def county() -> County:
    """The whole sample county."""
    return load_county(SAMPLE)


def layout_of(county: County, backend: VrfBackend) -> Layout:
    """Its lab, with VRFs kept in one way or the other."""
    topology = build_topology(county)
    return make_layout(
        county, topology, make_plan(county, topology), backend, prefix=PREFIX, authority=Authority("test")
    )


@pytest.mark.parametrize("backend", ["netns", "device"])
def test_no_interface_is_made_twice(county: County, backend: VrfBackend) -> None:
    """In every namespace, interface names are unique and fit the kernel's 15 characters."""
    layout = layout_of(county, backend)
    ends = [e for w in layout.wires for e in (w.a, w.b)] + [e for b in layout.bridges for _, e in b.ports]
    ends_and_management = [(e.node, e.plane, e.interface) for e in ends]
    ends_and_management += [(name, None, MANAGEMENT) for name in layout.nodes]
    assert len(ends_and_management) == len(set(ends_and_management))
    assert all(2 <= len(name) <= 15 for _, _, name in ends_and_management)


def test_every_device_station_and_server_is_a_node(county: County) -> None:
    """Nothing of the inventory is left out, and management addresses are unique and inside the lab's own prefix."""
    layout = layout_of(county, "netns")
    expected = {x.id for group in (county.devices, county.stations, county.servers) for x in group}
    nodes = [n for n in layout.nodes.values() if n.kind != "switch"]
    assert {n.name for n in nodes} == expected
    addresses = [n.address for n in nodes]
    assert len(set(addresses)) == len(nodes)
    assert all(a is not None and a in PREFIX for a in addresses)


def test_vrf_devices_enslave_every_interface(county: County) -> None:
    """With VRF devices, each interface of an extranet router that has a VRF is put into it before it comes up."""
    layout = layout_of(county, "device")
    lines = layout.nodes["core1"].hardware
    assert any(line.startswith("link add public type vrf table ") for line in lines)
    topology = build_topology(county)
    for _, own, _ in topology.links_of("core1"):
        assert f"link set {own.interface} master {own.vrf}" in lines


def test_a_station_has_one_default_route_a_leg(county: County) -> None:
    """Default routes of different legs differ in metric, so that all can stand."""
    layout = layout_of(county, "netns")
    for station in county.stations:
        lines = [x for x in layout.nodes[station.id].network_lines if x.startswith("route replace default")]
        metrics = [x.split()[-1] for x in lines]
        assert len(metrics) == len(set(metrics))
