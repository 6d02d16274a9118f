"""Laws of the intended configuration of extranet routers."""

from __future__ import annotations

from ipaddress import IPv6Network, ip_address, ip_network
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inventory.errors import UnknownNameError
from inventory.model import EXTRANET, County, PlaneKind, Role
from inventory.topology import build_topology
from nornir_tasks.intent import PLATFORMS, PlatformUnknownError, platform_of, render_all, render_changed
from nornir_tasks.platforms.frr.config import FrrConfig, canonical, parse
from nornir_tasks.platforms.frr.render import render_device, router_id
from tests.nornir_tasks.sample import law, sample

COUNTY, TOPOLOGY, PLAN = sample()
ROUTERS = sorted(d.id for d in COUNTY.devices if d.network == EXTRANET)
UNITS = sorted(u.id for u in COUNTY.units)
some_units = st.sets(st.sampled_from(UNITS)).map(frozenset)
routers = st.sampled_from(ROUTERS)


def shuffled(county: County, seed: int) -> County:
    """Return the same county with the rows of every table in another order."""
    random = Random(seed)
    update = {}
    for name in ("sites", "stations", "networks", "devices", "circuits", "servers", "services"):
        rows = list(getattr(county, name))
        random.shuffle(rows)
        update[name] = tuple(rows)
    # Which router leads a site with two of them is told by their order: keep that of the cores.
    cores = [d for d in county.devices if d.role is Role.CORE]
    rows = [d for d in update["devices"] if d.role is not Role.CORE]
    return county.model_copy(update={**update, "devices": (*cores, *rows)})


@law
@given(routers, some_units, st.integers(0, 1000))
def test_rendering_depends_on_content_only(device: str, units: frozenset[str], seed: int) -> None:
    """The same county in another row order gives the same text, every time."""
    other = County.model_validate(shuffled(COUNTY, seed).model_dump())
    text = render_device(COUNTY, TOPOLOGY, PLAN, device, units, "netns")
    assert render_device(other, build_topology(other), PLAN, device, units, "netns") == text
    assert canonical(text) == text


def prefixes(config: FrrConfig, vrf: str) -> list[str]:
    """Return every address and prefix that a router's configuration names inside one VRF, filters in use included."""
    lists = {
        line.split()[3]
        for path, lines in config.blocks.items()
        if path and path[0].endswith(f" vrf {vrf}")
        for line in lines
        if " prefix-list " in line
    }
    lines = [x for path, rows in config.blocks.items() if path and path[0].split()[-2:] == ["vrf", vrf] for x in rows]
    lines += [x for x in config.blocks[()] if x.split()[1:2] == ["prefix-list"] and x.split()[2] in lists]
    lines = [x for x in lines if not x.startswith("ipv6 nd ")]
    return [word for line in lines for word in line.split() if ":" in word]


@law
@given(routers, some_units)
def test_no_vrf_names_another_planes_prefix(device: str, units: frozenset[str]) -> None:
    """What a router says in one plane's VRF lies in that plane, the shared services or the routers' own links."""
    config = parse(render_device(COUNTY, TOPOLOGY, PLAN, device, units, "netns"))
    shared = COUNTY.plane_of_kind(PlaneKind.SHARED).id
    infrastructure = PLAN.prefix6("infra")
    for vrf in TOPOLOGY.vrfs_of(device):
        if vrf == shared:
            continue  # it leads back to every plane by design
        allowed = [PLAN.plane_prefix(vrf), PLAN.lan6(COUNTY.county_site.id, shared), infrastructure]
        for word in prefixes(config, vrf):
            if word == "::/0":
                assert COUNTY.device_by_id[device].role is Role.VILLAGE
                continue
            net = ip_network(word, strict=False)
            assert isinstance(net, IPv6Network)
            assert any(net.subnet_of(a) for a in allowed), (device, vrf, word)


@law
@given(routers, some_units)
def test_departments_ipv4_stays_in_its_plane(device: str, units: frozenset[str]) -> None:
    """A department's gateway is on its own plane's LAN, and only where its unit is cut over."""
    config = parse(render_device(COUNTY, TOPOLOGY, PLAN, device, units, "netns"))
    for unit in COUNTY.units:
        lan = TOPOLOGY.lan_by_id[f"{unit.site}/{unit.plane}"]
        block = (f"interface {lan.gateway.interface} vrf {unit.plane}",)
        held = f"ip address {unit.gateway}/{unit.lan_prefix.prefixlen}" in config.blocks.get(block, [])
        assert held == (lan.gateway.device == device and unit.id in units)


def test_a_hub_is_needed_until_its_last_site_is_cut_over() -> None:
    """The routes through a hub's interconnect stand from the county's cutover to the last site's."""
    first, *others = [u for u in COUNTY.units if u.network == "finance-man"]
    assert first.site == COUNTY.county_site.id
    route = f" ip route 10.20.0.0/16 {first.interconnect}\n"
    everything = frozenset(u.id for u in COUNTY.units if u.network == "finance-man")

    def core(units: frozenset[str]) -> str:
        text = render_device(COUNTY, TOPOLOGY, PLAN, "core1", units, "netns")
        return text[text.index("vrf finance") :].partition("exit-vrf")[0]

    assert route not in core(frozenset())
    assert route in core(frozenset({first.id}))
    assert route in core(everything - {others[-1].id})
    assert route not in core(everything)


def test_cutover_touches_few_routers() -> None:
    """A village's cutover changes its own router and its town's, a town's its own, and no filter anywhere."""
    county = frozenset(u.id for u in COUNTY.units if u.site == COUNTY.county_site.id)
    village = next(
        u for u in COUNTY.units if COUNTY.site_by_id[u.site].parent == "chengguan" and u.network == "party-edu"
    )
    changed = render_changed(COUNTY, TOPOLOGY, PLAN, county, county | {village.id}, "netns")
    assert sorted(changed) == sorted(["chengguan-r1", f"{village.site}-r1"])
    before = render_all(COUNTY, TOPOLOGY, PLAN, county, "netns", changed)
    for device, text in changed.items():
        filters = [[x for x in t.splitlines() if "prefix-list" in x] for t in (text, before[device])]
        assert filters[0] == filters[1]


def test_router_identifiers_and_loopbacks_are_unique() -> None:
    """No two routers share a BGP identifier or a loopback."""
    devices = [COUNTY.device_by_id[d] for d in ROUTERS]
    assert len({router_id(PLAN, TOPOLOGY, d) for d in devices}) == len(ROUTERS)
    texts = render_all(COUNTY, TOPOLOGY, PLAN, frozenset(), "netns")
    loopbacks = [x for t in texts.values() for x in t.splitlines() if x.endswith("/128") and "ipv6 address" in x]
    assert len(set(loopbacks)) == len(ROUTERS)


def test_both_ends_of_every_session_agree() -> None:
    """Each neighbor's address and AS number are those of the router at the other end, in the same VRF."""
    texts = {d: parse(t) for d, t in render_all(COUNTY, TOPOLOGY, PLAN, frozenset(), "netns").items()}
    holder: dict[tuple[str, str], str] = {}
    for device, config in texts.items():
        for path, lines in config.blocks.items():
            if path and path[0].startswith("interface "):
                for line in lines:
                    if line.startswith(("ip address ", "ipv6 address ")):
                        address = str(ip_address(line.split()[-1].split("/")[0]))
                        holder.setdefault((path[0].split()[-1], address), device)
    sessions = 0
    for device, config in texts.items():
        for path, lines in config.blocks.items():
            if len(path) == 1 and path[0].startswith("router bgp "):
                vrf = path[0].split()[-1]
                for line in lines:
                    words = line.split()
                    if words[2:3] == ["remote-as"]:
                        far = holder[vrf, words[1]]
                        assert COUNTY.device_by_id[far].asn == int(words[3])
                        back = [
                            x
                            for p, rows in texts[far].blocks.items()
                            if p[:1] and p[0].endswith(f"vrf {vrf}")
                            for x in rows
                        ]
                        assert any(x.endswith(f"remote-as {COUNTY.device_by_id[device].asn}") for x in back)
                        sessions += 1
    assert sessions > 100


@pytest.mark.parametrize("backend", ["netns", "device"])
def test_backends_differ_in_hardware_only(backend: str) -> None:
    """With real VRFs no namespace is named, and the router's identity sits on the VRF's own device."""
    text = render_device(COUNTY, TOPOLOGY, PLAN, "core1", frozenset(), backend)  # type: ignore[arg-type]
    assert ("netns /run/netns/" in text) == (backend == "netns")
    assert ("interface lo vrf public" in text) == (backend == "netns")
    assert ("\ninterface public\n" in text) == (backend == "device")
    assert (" vrf public\n" in text.replace("router bgp 4200041000 vrf public", "")) == (backend == "netns")


def test_unknown_devices_are_named() -> None:
    """A device not in the inventory, not of the extranet, or of a platform nobody taught is an error of its own."""
    with pytest.raises(UnknownNameError, match="core1"):
        render_all(COUNTY, TOPOLOGY, PLAN, frozenset(), "netns", ["core11"])
    with pytest.raises(UnknownNameError):
        render_device(COUNTY, TOPOLOGY, PLAN, "fin-hub", frozenset(), "netns")
    rows = COUNTY.model_dump()
    odd = County.model_validate({**rows, "devices": [{**d, "platform": "abacus"} for d in rows["devices"]]})
    with pytest.raises(PlatformUnknownError, match="abacus"):
        platform_of(odd, "core1")
    assert set(PLATFORMS) >= {"frr"}
