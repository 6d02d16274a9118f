"""The expected matrix is every need and prohibition of the inventory, with addresses, and never empty."""

from functools import cache
from pathlib import Path

import pytest

from addressing.plan import make_plan
from inventory.access import Access
from inventory.errors import UnknownNameError
from inventory.model import County, Family, PlaneKind, Protocol
from inventory.reader import load_county, restrict_to_towns
from inventory.topology import build_topology
from migration.matrix import EmptyMatrixError, Matrix, PlanGapError, build_matrix

SAMPLE = Path(__file__).resolve().parents[2] / "inventory" / "yichuan"


@cache
def sample() -> County:
    """The sample county."""
    return load_county(SAMPLE)


@cache
def matrix() -> Matrix:
    """Its matrix."""
    return matrix_of(sample())


def matrix_of(county: County) -> Matrix:
    """Build a county's matrix with a plan of its own."""
    topology = build_topology(county)
    return build_matrix(county, topology, make_plan(county, topology))


def test_every_cell_is_one_check() -> None:
    """Needs and prohibitions are all there, each once, under an id that says what it is."""
    county, found = sample(), matrix()
    assert len(found.checks) == len(county.needs) + len(county.forbidden)
    assert len(found.by_id) == len(found.checks)
    cells = {f"{n.station}/{n.plane}/{n.service}/{n.family.value}" for n in county.needs}
    cells |= {f"{f.station}/{f.plane}/!{f.service}/{f.family.value}" for f in county.forbidden}
    assert set(found.by_id) == cells
    for check in found.checks:
        assert (check.expect == "blocked") == ("/!" in check.id)
        assert check.interface == check.plane


def test_addresses_are_the_plans_and_the_departments() -> None:
    """IPv6 is the plan's everywhere; IPv4 the department's own in its plane, the plan's in the shared one."""
    by_id = matrix().by_id
    plan = make_plan(sample(), build_topology(sample()))
    assert by_id["chengguan-center/finance/finance/ipv6"].address == str(plan.host6("county", "finance", 80).ip)
    assert by_id["chengguan-center/finance/finance/ipv4"].address == "10.20.0.80"
    shared4 = plan.host4("county", "shared", 80)
    assert shared4 is not None
    assert by_id["chengguan-center/public/portal/ipv4"].address == str(shared4.ip)


def test_names_are_asked_where_the_leg_can_ask() -> None:
    """Over the check's family in the public plane, over IPv6 in a department's; a DNS check asks the server it is about."""
    county = sample()
    for check in matrix().checks:
        if check.expect == "blocked":
            assert check.resolver is None
        elif check.protocol == Protocol.DNS.value:
            assert check.resolver == check.address
        else:
            public = county.plane_by_id[check.plane].kind is PlaneKind.PUBLIC
            assert check.resolver is not None
            assert (":" in check.resolver) == (check.family is Family.IPV6 or not public)
            assert check.resolver in check.resolvers
            assert len(check.resolvers) == 2  # the one name server, in both families


def test_a_station_may_be_configured_to_ask_only_name_servers_of_the_inventory() -> None:
    """Whatever check leaves names to the station's configuration says who may stand in it; without one nobody is asked."""
    servers = {c.address for c in matrix().checks if c.protocol == Protocol.DNS.value}
    for check in matrix().checks:
        asks_itself = check.expect == "reach" and check.protocol != Protocol.DNS.value
        assert bool(check.resolvers) == asks_itself
        assert set(check.resolvers) <= servers


def test_the_matrix_does_not_depend_on_row_order() -> None:
    """The same inventory in another order has the same digest; any other service port another."""
    county = sample()
    turned = county.model_copy(
        update={
            name: tuple(reversed(getattr(county, name))) for name in ("stations", "services", "servers", "circuits")
        }
    )
    assert matrix_of(County.model_validate(turned.model_dump())).digest == matrix().digest
    first, *rest = county.services
    changed = county.model_copy(update={"services": (first.model_copy(update={"port": 54}), *rest)})
    assert matrix_of(County.model_validate(changed.model_dump())).digest != matrix().digest


def test_a_small_labs_matrix_is_a_part_of_the_whole() -> None:
    """A part of the county asks the very same checks, with the whole county's plan."""
    small = restrict_to_towns(sample(), 1)
    plan = make_plan(sample(), build_topology(sample()))
    part = build_matrix(small, build_topology(small), plan)
    assert 0 < len(part.checks) < len(matrix().checks)
    assert all(matrix().by_id[c.id] == c for c in part.checks)


def test_a_units_checks_are_all_of_its_legs() -> None:
    """Both families, shared services and isolation of every station's leg on the unit's LAN, and of no other."""
    found = matrix().for_units(["party-edu@chengguan-xichang"])
    assert {(c.station, c.plane) for c in found.checks} == {("chengguan-xichang-station", "edu")}
    assert {c.family for c in found.checks} == {Family.IPV6, Family.IPV4}
    assert {c.expect for c in found.checks} == {"reach", "blocked"}
    assert "party-edu@chengguan-xichang" in {c.unit for c in found.checks}
    assert matrix().for_units([sample().unit_by_id["party-edu@chengguan-xichang"]]) == found


def test_every_unit_has_checks() -> None:
    """No unit of the sample could be retired without a measurement."""
    for unit in sample().units:
        assert matrix().for_units([unit.id]).checks


def test_what_provisioning_provides_waits_for_no_unit() -> None:
    """It holds every prohibition and every need without a unit, and the rest is what units provide."""
    found = matrix().provisioned()
    assert all(c.unit is None for c in found.checks)
    assert len(found.checks) + sum(n.unit is not None for n in sample().needs) == len(matrix().checks)


def test_unknown_names_are_refused_with_near_ones() -> None:
    """A misspelt unit or station is no empty selection."""
    with pytest.raises(UnknownNameError, match="party-edu@chengguan"):
        matrix().for_units(["party-edu@chengguang"])
    with pytest.raises(UnknownNameError, match="chengguan-center"):
        matrix().for_stations(["chengguan-centre"])


def test_an_empty_matrix_is_refused() -> None:
    """No service needed by anybody, no station named, a unit that nobody's leg is on: each is an error."""
    county = sample()
    nobody = county.model_copy(update={"services": ()})
    with pytest.raises(EmptyMatrixError):
        matrix_of(County.model_validate(nobody.model_dump()))
    with pytest.raises(EmptyMatrixError):
        matrix().for_stations([])
    with pytest.raises(EmptyMatrixError):
        matrix().for_units([])
    lonely = Matrix(
        checks=matrix().checks, hops=matrix().hops, stations=matrix().stations, unit_legs={"a@b": ("nobody/finance",)}
    )
    with pytest.raises(EmptyMatrixError, match="a@b"):
        lonely.for_units(["a@b"])


def test_a_gap_in_the_plan_is_named() -> None:
    """A plan that is older than the inventory gives no half matrix."""
    topology = build_topology(sample())
    plan = make_plan(sample(), topology)
    for gone in ("lan:county@finance", "link:x-chengguan-core1@edu", "lan4:county@shared"):
        old = plan.model_copy(update={"records": tuple(r for r in plan.records if r.id != gone)})
        with pytest.raises(PlanGapError, match=gone):
            build_matrix(sample(), topology, old)


def test_an_access_file_of_another_county_is_refused() -> None:
    """A file that knows none of the stations is not for this county."""
    topology = build_topology(sample())
    access = Access(target="lab", name="other", known_hosts="k", addresses={"x": "::1"})
    with pytest.raises(EmptyMatrixError, match="lab other"):
        build_matrix(sample(), topology, make_plan(sample(), topology), access)


def test_a_blocked_service_beside_an_open_one_is_tried_by_its_port_alone() -> None:
    """Where a leg reaches a server for one service, that the server answers says nothing about another."""
    county = sample()
    opened = tuple(
        s.model_copy(update={"from_planes": (*s.from_planes, "public")}) if s.id == "hrss" else s
        for s in county.services
    )
    found = matrix_of(County.model_validate(county.model_copy(update={"services": opened}).model_dump())).by_id
    assert found["chengguan-center/public/!hrss-pay/ipv6"].trace is False
    assert found["chengguan-center/public/!finance/ipv6"].trace is True
