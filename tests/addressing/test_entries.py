"""A plan as a row of entries: what its routers are numbered from stands in it, once."""

from __future__ import annotations

import csv
from dataclasses import replace
from ipaddress import IPv6Network

import numpy as np
import pytest

from addressing.divisions import Divisions
from addressing.entries import list_entries
from addressing.exports.options import ExportOptions
from addressing.exports.tables import write_csv
from addressing.hierarchy import HierarchyPlan, plan_divisions
from addressing.policy import Infrastructure, LaidField, Layout, PlanPolicy

TOWN = LaidField(level=4, name="town", width=8, length=48, order="centre", reserved=(0,))


def make(*, root: bool = True, srv6: str | None = "5f00:329::/32") -> HierarchyPlan:
    """Return a plan of two towns, below their county or below the pool alone."""
    routers = Infrastructure(management=7, srv6=IPv6Network(srv6) if srv6 else None)
    policy = PlanPolicy(pools=(IPv6Network("3fff:329::/40"),), infrastructure=routers)
    rows = [("410329000000", 3, -1)] * root + [("410329001000", 4, root - 1), ("410329002000", 4, root - 1)]
    divisions = Divisions(
        [r[0] for r in rows],
        [f"n{r[0]}" for r in rows],
        np.array([r[1] for r in rows], dtype=np.int8),
        np.array([r[2] for r in rows], dtype=np.int32),
    )
    layout = Layout(pools=policy.pools, fields=(TOWN,), root_level=3 if root else 0)
    return plan_divisions(divisions, policy, layout)


@pytest.mark.parametrize("root", [True, False])
def test_infrastructure_follows_the_pool(*, root: bool) -> None:
    """After the county's row, or first where the pool has none: /64s with their zones, and the locators."""
    entries = list(list_entries(make(root=root), subnets=True))
    assert [(e.id, str(e.prefix), e.zone, e.parent) for e in entries if e.kind == "infrastructure"] == [
        ("infrastructure/loopbacks", "3fff:329::/64", "infrastructure", "1" if root else ""),
        ("infrastructure/links", "3fff:329:0:1::/64", "infrastructure", "1" if root else ""),
        ("infrastructure/management", "3fff:329:0:7::/64", "management", "1" if root else ""),
        ("infrastructure/srv6", "5f00:329::/32", "infrastructure", ""),
    ]
    assert [e.kind for e in entries][: 1 + root] == (["county", "infrastructure"] if root else ["infrastructure"])
    assert not [e for e in list_entries(make(root=root)) if e.kind == "infrastructure"]


def test_no_locators_without_a_block() -> None:
    """SRv6 is listed only where the policy names a block; numbers beyond the pool are passed over."""
    plan = make(srv6=None)
    assert "infrastructure/srv6" not in {e.id for e in list_entries(plan, subnets=True)}
    far = plan.policy.altered(infrastructure=Infrastructure(links=1 << 24))
    names = [e.name for e in list_entries(replace(plan, policy=far), subnets=True) if e.kind == "infrastructure"]
    assert names == ["loopbacks", "management"]


@pytest.mark.parametrize("root", [True, False])
def test_exports_hold_what_the_entries_hold(*, root: bool) -> None:
    """The table with subnets has the same prefixes; below one town there is no infrastructure."""
    plan = make(root=root)
    rows = list(csv.DictReader(write_csv(plan, ExportOptions(subnets=True)).decode("utf-8-sig").splitlines()))
    assert [(r["kind"], r["prefix"]) for r in rows] == [
        (e.kind, str(e.prefix)) for e in list_entries(plan, subnets=True)
    ]
    below = write_csv(plan, ExportOptions(subnets=True, under="410329001000")).decode()
    assert "infrastructure" not in below
    if root:
        county = write_csv(plan, ExportOptions(subnets=True, under="410329000000")).decode()
        assert "infrastructure/links" in county
        assert "srv6" not in county
