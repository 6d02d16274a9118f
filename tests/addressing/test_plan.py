"""Laws of the address plan: no two allocations overlap, all nest, nothing moves, order does not matter."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_network
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from addressing.model import AddressPlan
from addressing.plan import PlanMismatchError, PoolTooSmallError, make_plan
from addressing.planfile import PlanFileError, dump_plan, read_plan, write_plan
from inventory.model import County, Site, SiteClass, Station
from inventory.reader import load_county
from inventory.topology import build_topology

SAMPLE = load_county(Path(__file__).resolve().parents[2] / "inventory" / "yichuan")


def planned(county: County, previous: AddressPlan | None = None) -> AddressPlan:
    """Plan a county."""
    return make_plan(county, build_topology(county), previous)


PLAN = planned(SAMPLE)
LEAVES = ("lan", "loopback", "link", "hairpin", "lan4", "link4")


def with_village(county: County, town: str, name: str, code: str) -> County:
    """Return the county with one more village, its router and its circuit."""
    model = next(d for d in county.devices if d.role == "village")
    circuit = next(c for c in county.circuits if c.device == model.id)
    station = next(s for s in county.stations if s.site == model.site)
    site = Site(
        id=name,
        name=name,
        site_class=SiteClass.VILLAGE,
        parent=town,
        division_code=code,
        responsible="村支书",
        central=True,
    )
    return county.altered(
        sites=(*county.sites, site),
        devices=(*county.devices, model.altered(id=f"{name}-r1", site=name)),
        circuits=(
            *county.circuits,
            circuit.altered(
                id=f"x-{name}", site=name, device=f"{name}-r1", far_device=f"{town}-r1", far_port=name[:10], reuses=None
            ),
        ),
        stations=(*county.stations, Station(**{**station.model_dump(), "id": f"{name}-station", "site": name})),
    )


def test_leaves_do_not_overlap_and_children_nest() -> None:
    """No two leaf prefixes meet, and each IPv6 record lies within its parent."""
    leaves = [ip_network(r.prefix) for r in PLAN.records if r.kind in LEAVES]
    for version in (IPv4Network, IPv6Network):
        nets = sorted((n for n in leaves if isinstance(n, version)), key=lambda n: int(n.network_address))
        assert all(not a.overlaps(b) for a, b in pairwise(nets))
    for record in PLAN.records:
        parent = PLAN.by_id.get(record.parent)
        parent_net = ip_network(parent.prefix if parent else {"pool": PLAN.pool}.get(record.parent, PLAN.ipv4_pool))
        net = ip_network(record.prefix)
        if isinstance(net, IPv6Network) and isinstance(parent_net, IPv6Network):
            assert net.subnet_of(parent_net), record


def test_links_avoid_reserved_identifiers() -> None:
    """No /127 touches the all-zero identifier or RFC 2526's anycast range (RFC 6164 section 6)."""
    for record in PLAN.records:
        if record.kind in {"link", "hairpin"}:
            low = int(ip_network(record.prefix).network_address) & (2**64 - 1)
            assert 2 <= low < 0xFFFF_FFFF_FFFF_FF7E


@settings(max_examples=15, deadline=None)
@given(st.randoms(use_true_random=False))
def test_plan_does_not_depend_on_row_order(random: object) -> None:
    """Shuffled tables give the same plan, byte for byte."""
    shuffled = {}
    for field in ("sites", "stations", "devices", "circuits", "networks", "servers", "services"):
        rows = list(getattr(SAMPLE, field))
        random.shuffle(rows)  # type: ignore[attr-defined]
        shuffled[field] = tuple(rows)
    assert dump_plan(planned(SAMPLE.altered(**shuffled))) == dump_plan(PLAN)


def test_second_run_changes_nothing() -> None:
    """Planning again from its own result is the identity."""
    assert planned(SAMPLE, PLAN) == PLAN


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.sampled_from([s.id for s in SAMPLE.sites if s.site_class is SiteClass.TOWN]), min_size=1, max_size=5)
)
def test_village_added_later_moves_nobody(towns: list[str]) -> None:
    """However villages arrive, and wherever their codes sort, every earlier assignment stays as it was."""
    county, plan = SAMPLE, PLAN
    for number, town in enumerate(towns):
        code = f"4103290{number}0001"
        county = with_village(county, town, f"new{number}", code)
        after = planned(county, plan)
        assert all(after.by_id[r.id] == r for r in plan.records)
        assert f"lan:new{number}@public" in after.by_id
        plan = after


def test_released_prefixes_are_not_given_again() -> None:
    """What is gone is quarantined; a newcomer takes a fresh slot; the same identity coming back gets its own."""
    gone = "minggao-zhongxi"
    smaller = SAMPLE.altered(
        sites=tuple(s for s in SAMPLE.sites if s.id != gone),
        stations=tuple(s for s in SAMPLE.stations if s.site != gone),
        devices=tuple(d for d in SAMPLE.devices if d.site != gone),
        circuits=tuple(c for c in SAMPLE.circuits if c.site != gone),
    )
    without = planned(smaller, PLAN)
    assert without.by_id[f"lan:{gone}@edu"].state == "quarantined"
    other = planned(with_village(smaller, "minggao", "newcomer", "410329101299"), without)
    old = {r.prefix for r in PLAN.records if f":{gone}@" in r.id}
    assert not old & {r.prefix for r in other.records if r.state == "active" and ":newcomer@" in r.id}
    back = planned(SAMPLE, without)
    assert back.by_id[f"lan:{gone}@edu"] == PLAN.by_id[f"lan:{gone}@edu"]


def test_one_slot_a_town_in_all_planes() -> None:
    """A filter on the town field alone means the town: its slot is the same in every plane."""
    slots: dict[str, set[int | None]] = {}
    for record in PLAN.records:
        if record.kind in {"town", "site"}:
            slots.setdefault(record.id.split("@")[0], set()).add(record.slot)
    assert all(len(found) == 1 for found in slots.values())


def test_another_pool_does_not_move_addresses() -> None:
    """Changing the pool under an existing plan is refused, not obeyed."""
    policy = SAMPLE.policy.altered(pool=IPv6Network("2001:db8:1000::/36"))
    with pytest.raises(PlanMismatchError, match="do not move"):
        planned(SAMPLE.altered(policy=policy), PLAN)


def test_ipv4_pool_that_is_too_small_is_named() -> None:
    """Running out names the field and who got nothing."""
    policy = SAMPLE.policy.altered(ipv4_link_pool=IPv4Network("100.64.0.0/28"))
    county = SAMPLE.altered(
        policy=policy,
        circuits=tuple(c.altered(wan_prefix=None) if c.network == "extranet" else c for c in SAMPLE.circuits),
    )
    with pytest.raises(PoolTooSmallError, match="ipv4_link_pool"):
        planned(county)


def test_plan_file_round_trip(tmp_path: Path) -> None:
    """What is written reads back equal; what is damaged is named."""
    path = tmp_path / "plan" / "addresses.json"
    write_plan(PLAN, path)
    assert read_plan(path) == PLAN
    path.write_text(path.read_text("utf-8")[:-40], "utf-8")
    with pytest.raises(PlanFileError, match="not a plan"):
        read_plan(path)
    with pytest.raises(PlanFileError, match="no address plan yet"):
        read_plan(tmp_path / "none.json")
