"""Import files: the columns the databases know, parents before children, each prefix once, nothing named that is not given."""

from __future__ import annotations

import csv
import io

import pytest

from addressing.exports import EXPORTS, ExportOptions
from addressing.hierarchy import HierarchyPlan
from addressing.model import AddressPlan
from addressing.text import parse_prefix
from inventory.model import County

NETBOX = {
    "prefix", "vrf", "tenant", "vlan_group", "vlan_site", "vlan", "status", "role", "scope_type", "scope_id", "is_pool",
    "mark_utilized", "description", "owner", "comments", "tags",
}  # fmt: skip
"""Fields of NetBox's PrefixImportForm (ipam/forms/bulk_import.py, 4.2 and later)."""
NETBOX_STATES = {"container", "active", "reserved", "deprecated"}
NAUTOBOT_TYPES = {"container", "network", "pool"}


def tables(
    name: str, plan: AddressPlan | HierarchyPlan, county: County | None = None
) -> dict[str, list[dict[str, str]]]:
    """Return the import files as rows, having checked that they sort in order of import."""
    found = EXPORTS[name].write(plan, ExportOptions(county=county, tenant="" if county else "大数据局"))
    assert isinstance(found, dict)
    assert list(found) == sorted(found)
    return {file: list(csv.DictReader(io.StringIO(text, newline=""))) for file, text in found.items()}


def test_netbox_rows_refer_to_what_is_imported_before(county_plan: AddressPlan, county: County) -> None:
    """Every tenant, RIR, role and VRF that a prefix names is in a file imported before it; prefixes are unique in a VRF."""
    found = tables("netbox", county_plan, county)
    rows = found["5-prefixes.csv"]
    assert set(rows[0]) <= NETBOX
    assert {r["status"] for r in rows} <= NETBOX_STATES
    for column, file in (("tenant", "0-tenants.csv"), ("role", "3-roles.csv"), ("vrf", "4-vrfs.csv")):
        assert {r[column] for r in rows} - {""} <= {r["name"] for r in found[file]}
    assert {r["rir"] for r in found["2-aggregates.csv"]} == {r["name"] for r in found["1-rirs.csv"]}
    for file, known in found.items():
        if "slug" in known[0]:
            assert len({r["slug"] for r in known}) == len(known), file
            assert all(r["slug"].isascii() for r in known)
    keys = [(r["prefix"], r["vrf"]) for r in rows]
    assert len(set(keys)) == len(keys)
    assert {r["prefix"] for r in rows} == {r.prefix for r in county_plan.records}
    assert all(len(r["description"]) <= 200 and r["description"][0] not in "=+-@'" for r in rows)


def test_netbox_tells_holders_from_leaves(grown: HierarchyPlan) -> None:
    """What others lie in is a container, a leaf active, what is quarantined deprecated."""
    status = {r["description"].split()[1]: r["status"] for r in tables("netbox", grown)["5-prefixes.csv"]}
    assert status["410301000000"] == "container"
    assert status["410301001001"] == "active"
    assert status["410301001004"] == "deprecated"


def test_nautobot_networks_lie_in_containers(county_plan: AddressPlan, grown: HierarchyPlan) -> None:
    """Nautobot's types hold: what has anything inside is a container, and every row's keys are natural keys it knows."""
    for plan in (county_plan, grown):
        found = tables("nautobot", plan)
        rows = found["2-prefixes.csv"]
        assert set(rows[0]) == {
            "prefix", "namespace__name", "type", "status__name", "role__name", "tenant__name", "description",
        }  # fmt: skip
        assert {r["type"] for r in rows} <= NAUTOBOT_TYPES
        assert {r["role__name"] for r in rows} <= {r["name"] for r in found["1-roles.csv"]}
        parsed = sorted((parse_prefix(r["prefix"]), r["type"]) for r in rows)
        assert len({p for p, _ in parsed}) == len(parsed)
        for prefix, kind in parsed:
            if kind == "network":
                assert not any(prefix != other and prefix.covers(other) for other, _ in parsed)


def test_nautobot_says_no_object_where_there_is_no_tenant(county_plan: AddressPlan, county: County) -> None:
    """Where some rows have a tenant, the others say NoObject: an empty key would be looked up and fail the import."""
    rows = tables("nautobot", county_plan, county)["2-prefixes.csv"]
    tenants = {r["tenant__name"] for r in rows}
    assert "NoObject" in tenants
    assert "" not in tenants
    without = EXPORTS["nautobot"].write(county_plan, ExportOptions())
    assert isinstance(without, dict)
    assert "tenant__name" not in without["2-prefixes.csv"]


def test_every_format_has_both_descriptions_and_answers(
    county_plan: AddressPlan, hierarchy: HierarchyPlan, county: County
) -> None:
    """Every registered format has a line in English and Chinese, and writes every kind of plan it says it does."""
    for name, export in EXPORTS.items():
        assert name == export.name
        assert export.about.isascii()
        assert not export.chinese.isascii()
        assert "\n" not in export.about + export.chinese
        for kind, plan in (("county", county_plan), ("hierarchy", hierarchy)):
            if kind in export.kinds:
                content = export.write(plan, ExportOptions(county=county if kind == "county" else None))
                assert content
                assert isinstance(content, dict) is (export.extension == "")


@pytest.mark.parametrize("name", ["netbox", "nautobot"])
def test_subnets_make_their_site_a_container(hierarchy: HierarchyPlan, name: str) -> None:
    """With subnets, a village holds them: it is a container, they are not."""
    found = EXPORTS[name].write(hierarchy, ExportOptions(subnets=True))
    assert isinstance(found, dict)
    rows = list(csv.DictReader(io.StringIO(list(found.values())[-1])))
    kind = {r["description"].split()[0]: (r.get("type") or r["status"]) for r in rows}
    assert kind["village"] == "container"
    assert kind["subnet"] in {"network", "active"}
