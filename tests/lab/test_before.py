"""The county before migration is a pure function of inventory and plan."""

from ipaddress import IPv4Network

import pytest

from addressing.model import AddressPlan
from addressing.plan import make_plan
from inventory.model import EXTRANET, County, Role
from inventory.reader import load_county, restrict_to_towns
from inventory.topology import Topology, build_topology
from lab.before import bgp_speakers, render_before, router_id
from tests.lab_fixture import SAMPLE

World = tuple[County, Topology, AddressPlan]


@pytest.fixture(scope="module")
def world() -> World:
    """The whole sample county, its topology and plan."""
    county = load_county(SAMPLE)
    topology = build_topology(county)
    return county, topology, make_plan(county, topology)


def render(world: World, device: str) -> str:
    """One router's configuration before migration."""
    county, topology, plan = world
    return render_before(county, topology, plan, county.device_by_id[device], "netns")


def test_a_spoke_has_its_lan_its_line_and_a_default_route(world: World) -> None:
    """A town's legacy router is the LAN's gateway and sends everything else to the hub."""
    county, _, _ = world
    circuit = county.circuit_by_id["fin-l-chengguan"]
    assert circuit.lan_prefix is not None
    assert circuit.wan_prefix is not None
    text = render(world, "fin-chengguan")
    assert f" ip address {circuit.lan_prefix.network_address + 1}/24\n" in text
    assert f" ip address {circuit.wan_prefix.network_address + 2}/30\n" in text
    assert f"ip route 0.0.0.0/0 {circuit.wan_prefix.network_address + 1}\n" in text


def test_a_hub_routes_to_every_unit_of_its_network_but_its_own(world: World) -> None:
    """Every LAN of a legacy network, villages' too, is reached through the spoke that serves it."""
    county, _, _ = world
    for network in county.networks:
        hub = next(c for c in county.circuits if c.network == network.id and c.device and not c.far_device)
        text = render(world, hub.device or "")
        routed = {IPv4Network(line.split()[2]) for line in text.splitlines() if line.startswith("ip route ")}
        assert routed == {u.lan_prefix for u in county.units if u.network == network.id and u.circuit != hub.id}


def test_villages_start_without_addresses(world: World) -> None:
    """A village's extranet router has its VRFs and nothing in them."""
    county, _, _ = world
    villages = [d for d in county.devices if d.role is Role.VILLAGE]
    assert villages
    for device in villages:
        text = render(world, device.id)
        assert "address" not in text
        assert "route" not in text.replace(f"hostname {device.id}", "")


def test_no_ipv6_and_no_department_on_the_extranet_before(world: World) -> None:
    """Before migration the extranet carries the public and shared planes over IPv4 only."""
    county, _, _ = world
    for device in county.devices:
        text = render(world, device.id)
        assert "ipv6" not in text
        if device.network == EXTRANET:
            live = {line.split()[-1] for line in text.splitlines() if line.startswith("interface ")}
            assert live <= {"public", "shared"}


def test_bgp_neighbours_agree_with_each_other(world: World) -> None:
    """Every session is configured at both ends, with the other's AS number."""
    county, topology, plan = world
    asn = {d.id: d.asn for d in county.devices}
    for link in topology.links:
        speakers = bgp_speakers(county)
        if link.plane != "public" or link.a.device not in speakers or link.b.device not in speakers:
            continue
        a4, b4 = plan.link4(link.circuit)
        assert f"neighbor {b4} remote-as {asn[link.b.device]}" in render(world, link.a.device)
        assert f"neighbor {a4} remote-as {asn[link.a.device]}" in render(world, link.b.device)


def test_router_identifiers_are_unique(world: World) -> None:
    """No two BGP speakers share an identifier."""
    county, topology, plan = world
    found = [router_id(plan, topology, county.device_by_id[d]) for d in bgp_speakers(county)]
    assert len(found) == len(set(found))


def test_a_part_of_the_county_keeps_its_addresses(world: World) -> None:
    """A lab of one town configures its routers with the very addresses of the whole county's plan."""
    county, _, plan = world
    part = restrict_to_towns(county, 1)
    text = render_before(part, build_topology(part), plan, part.device_by_id["chengguan-r1"], "netns")
    whole = render(world, "chengguan-r1")
    assert [line for line in text.splitlines() if "ip address" in line] == [
        line for line in whole.splitlines() if "ip address" in line
    ]


def test_vrf_devices_need_no_namespace_lines(world: World) -> None:
    """With VRF devices the text is what FRR prints then: no namespaces, no empty VRFs, no VRF after an interface."""
    county, topology, plan = world
    text = render_before(county, topology, plan, county.device_by_id["core1"], "device")
    assert "vrf public\n" in text
    assert "netns" not in text
    assert "vrf edu" not in text
    assert "interface lan.100\n" in text
