"""Prefix delegation and the dual-stack table: each child its own block, each site its own row."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import subprocess
from ipaddress import IPv6Network
from pathlib import Path

import pytest

from addressing.exports import EXPORTS, ExportOptions
from addressing.exports.dualstack import HEADERS
from addressing.exports.options import NothingToExportError, UnsuitableExportError
from addressing.hierarchy import HierarchyPlan
from addressing.model import AddressPlan
from addressing.text import format_prefix
from inventory.model import County

Plan = AddressPlan | HierarchyPlan
CLASS = re.compile(r'class "([^"]+)" \{ match if v6relay\(1, option dhcp6\.interface-id\) = "([^"]+)"; \}')
POOL = re.compile(r'    pool6 \{ allow members of "([^"]+)"; prefix6 (\S+) (\S+) /(\d+); \}')
SUBNET = re.compile(r"subnet6 (\S+) \{")


@pytest.fixture(params=["county_plan", "hierarchy", "grown"])
def plan(request: pytest.FixtureRequest) -> Plan:
    """A plan of either kind."""
    found = request.getfixturevalue(request.param)
    assert isinstance(found, (AddressPlan, HierarchyPlan))
    return found


def kea_pools(plan: Plan, **options: str) -> list[tuple[str, str]]:
    """Return (class, prefix) of every pool, having checked what Kea checks."""
    text = EXPORTS["kea"].write(plan, ExportOptions(**options))  # type: ignore[arg-type] # texts
    assert isinstance(text, str)
    body = json.loads(text)["Dhcp6"]
    classes = [c["name"] for c in body["client-classes"]]
    assert len(set(classes)) == len(classes)
    assert all(c["test"] == f"relay6[-1].option[18].hex == '{c['name']}'" for c in body["client-classes"])
    ids = [s["id"] for s in body["subnet6"]]
    assert len(set(ids)) == len(ids)
    assert all(0 < i < 2**32 - 1 for i in ids)
    out = []
    for subnet in body["subnet6"]:
        link = IPv6Network(subnet["subnet"])
        for pool in subnet["pd-pools"]:
            net = IPv6Network(f"{pool['prefix']}/{pool['prefix-len']}")
            assert pool["delegated-len"] >= pool["prefix-len"]
            assert not net.overlaps(link)
            assert pool["client-class"] in classes
            out.append((pool["client-class"], str(net)))
    return out


def expected(plan: Plan) -> set[tuple[str, str]]:
    """Return the children delegated to, found by another way."""
    if isinstance(plan, AddressPlan):
        sites = [r for r in plan.records if r.kind == "site" and r.slot]
        return {(r.id.removeprefix("site:"), r.prefix) for r in sites}
    rows = [r for r in range(len(plan)) if plan.levels[r] == 5 and plan.states[r] == 0]
    return {(plan.codes[r], format_prefix(*plan.prefix(r))) for r in rows}


def test_kea_hands_each_child_its_own_block(plan: Plan) -> None:
    """Every village (a county plan's site) in use is delegated exactly the prefix the plan gave it, and only to itself."""
    pools = kea_pools(plan)
    assert len(set(pools)) == len(pools)
    assert set(pools) == expected(plan)


def test_dhcpd_says_what_kea_says(plan: Plan) -> None:
    """ISC dhcpd's configuration parses line by line, and has the same pools as Kea's."""
    text = EXPORTS["dhcpd"].write(plan, ExportOptions())
    assert isinstance(text, str)
    classes, pools, depth = set(), [], 0
    for line in text.splitlines():
        if found := CLASS.fullmatch(line):
            assert found[1] == found[2]
            classes.add(found[1])
        elif SUBNET.fullmatch(line):
            assert depth == 0
            depth = 1
        elif line == "}":
            assert depth == 1
            depth = 0
        elif found := POOL.fullmatch(line):
            assert depth == 1
            assert found[1] in classes
            assert found[2] == found[3]
            pools.append((found[1], f"{found[2]}/{found[4]}"))
        else:
            assert line.startswith("# ")
    assert depth == 0
    assert pools == kea_pools(plan)


def test_servers_of_dhcp_take_it(plan: Plan, tmp_path: Path) -> None:
    """Kea's and ISC's own checks take the files, where those servers are installed."""
    kea, dhcpd = shutil.which("kea-dhcp6"), shutil.which("dhcpd")
    if not (kea or dhcpd):
        pytest.skip("neither kea-dhcp6 nor dhcpd is installed here; the two tests above parse the files")
    for name, command in (("kea", [kea, "-t"]), ("dhcpd", [dhcpd, "-6", "-t", "-cf"])):
        if command[0]:
            file = tmp_path / name
            file.write_text(str(EXPORTS[name].write(plan, ExportOptions())), "utf-8")
            words = [str(word) for word in (*command, file)]
            assert subprocess.run(words, capture_output=True, check=False, timeout=60).returncode == 0


def test_delegation_of_a_higher_level(hierarchy: HierarchyPlan) -> None:
    """With --level, that level is delegated to; --under leaves one division's children."""
    assert len(kea_pools(hierarchy, level="town")) == 6
    assert len(kea_pools(hierarchy, under="410301001000")) == 4
    with pytest.raises(NothingToExportError):
        kea_pools(hierarchy, level="county")


def test_a_county_delegates_to_sites_only(county_plan: AddressPlan) -> None:
    """In a county's plan towns are no DHCP clients: another level than sites is refused in one line."""
    with pytest.raises(UnsuitableExportError, match="leave it out: sites are"):
        EXPORTS["kea"].write(county_plan, ExportOptions(level="town"))


def dual_rows(plan: AddressPlan, county: County, **options: object) -> list[dict[str, str]]:
    """Return the dual-stack table as rows."""
    text = EXPORTS["dual-stack"].write(plan, ExportOptions(county=county, **options))  # type: ignore[arg-type] # of the test
    assert isinstance(text, str)
    return list(csv.DictReader(io.StringIO(text.removeprefix("\ufeff"), newline="")))


def test_every_unit_and_lan_has_its_row(county_plan: AddressPlan, county: County) -> None:
    """Every legacy LAN and every planned LAN is in one row, with the addresses that the plan and the county give it."""
    rows = dual_rows(county_plan, county)
    at = {(r["site"], r["plane"]): r for r in rows}
    assert len(at) == len(rows)
    assert {(u.site, u.plane) for u in county.units} <= set(at)
    assert {f"lan:{s}@{p}" for s, p in at} >= {r.id for r in county_plan.records if r.kind == "lan"}
    for unit in county.units:
        row = at[unit.site, unit.plane]
        assert (row["legacy_network"], row["legacy_ipv4"]) == (unit.network, str(unit.lan_prefix))
        assert row["ipv6"] == str(county_plan.lan6(unit.site, unit.plane))
        assert row["line_contract_until"] == str(county.circuit_by_id[unit.circuit].contract_end or "")


def test_phases_follow_from_what_there_is(county_plan: AddressPlan, county: County) -> None:
    """Old IPv4 without IPv6 is legacy only, with it dual stack; IPv6 alone single stack."""
    unit = county.units[0]
    lan = f"lan:{unit.site}@{unit.plane}"
    without = county_plan.altered(records=tuple(r for r in county_plan.records if r.id != lan))
    phase = {(r["site"], r["plane"]): r["phase"] for r in dual_rows(without, county)}
    assert phase[unit.site, unit.plane] == "legacy only"
    assert {v for k, v in phase.items() if k != (unit.site, unit.plane)} <= {"dual stack", "single stack"}
    for row in dual_rows(county_plan, county):
        assert (row["phase"] == "dual stack") is bool(row["ipv6"] and (row["legacy_ipv4"] or row["extranet_ipv4"]))


def test_dates_are_those_given(county_plan: AddressPlan, county: County) -> None:
    """Dates of phases stand in the table where they are given, and nothing where not."""
    assert {r["dual_stack_from"] for r in dual_rows(county_plan, county)} == {""}
    rows = dual_rows(county_plan, county, dual_stack_from="2027-09-30", single_stack_from="2030-12-31")
    assert {(r["dual_stack_from"], r["single_stack_from"]) for r in rows} == {("2027-09-30", "2030-12-31")}


def test_dual_stack_in_chinese_and_under(county_plan: AddressPlan, county: County) -> None:
    """Chinese headers and words; --under keeps one plane or one town."""
    rows = dual_rows(county_plan, county, lang="zh", under="finance")
    assert list(rows[0]) == list(HEADERS.values())
    assert {r["平面"] for r in rows} == {"finance"}
    assert {r["阶段"] for r in rows} <= {"仅原网", "双栈", "单栈"}


@pytest.mark.parametrize("case", ["hierarchy", "no county", "other county"])
def test_dual_stack_says_what_it_lacks(
    hierarchy: HierarchyPlan, county_plan: AddressPlan, county: County, case: str
) -> None:
    """A hierarchy, a plan without its inventory, or with another's, is refused in one line."""
    plan: Plan = hierarchy if case == "hierarchy" else county_plan
    given = {"hierarchy": None, "no county": None, "other county": county.altered(id="elsewhere")}[case]
    said = {
        "hierarchy": "knows of no IPv4",
        "no county": "needs the county's inventory",
        "other county": "is of yichuan",
    }
    with pytest.raises(UnsuitableExportError, match=said[case]):
        EXPORTS["dual-stack"].write(plan, ExportOptions(county=given))
