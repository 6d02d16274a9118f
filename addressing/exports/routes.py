"""Discard routes for every delegated block, so that what is not in use inside it does not loop (RFC 7084 WPD-5).

The most specific route wins, so that the discard route catches only what nobody uses. Blocks that were given once and never
will be again are discarded as well: nothing may come back to them.
"""

from __future__ import annotations

import re

from addressing.entries import Plan
from addressing.exports.options import ExportOptions, NothingToExportError
from addressing.exports.selection import Item, list_items
from addressing.exports.tables import csv_cell
from addressing.hierarchy import HierarchyPlan

_DELEGATED = {"plane", "town", "site", "infra"}
DISTANCE = 254
"""Administrative distance: any other route to the same prefix is better."""


def _blocks(plan: Plan, options: ExportOptions, name: str) -> list[Item]:
    """Return the delegated blocks: divisions, or a county plan's planes, towns, sites and infrastructure."""
    items = [i for i in list_items(plan, options, name) if i.prefix.version == 6]
    divisions = isinstance(plan, HierarchyPlan)
    items = [i for i in items if (i.level if divisions else i.kind in _DELEGATED)]
    if not items:
        raise NothingToExportError(name, "nothing delegated was asked for", options)
    return items


def _vrf(plan: Plan, item: Item) -> str:
    return "" if isinstance(plan, HierarchyPlan) else item.zone


def write_frr_routes(plan: Plan, options: ExportOptions) -> str:
    """Return FRR static routes, each under whose block it is; a county plane's in its VRF."""
    out = ["! Discard routes: load on each router only those of the blocks that it announces."]
    for item in _blocks(plan, options, "null-routes"):
        about = " ".join(p for p in (item.kind, item.code or item.id, item.name, item.state) if p)
        out.append(re.sub(r"[\x00-\x1f\x7f]+", " ", f"! {about}"))
        vrf = _vrf(plan, item)
        out.append(f"ipv6 route {item.prefix} blackhole {DISTANCE}" + (f" vrf {vrf}" if vrf else ""))
    return "\n".join(out) + "\n"


def write_csv_routes(plan: Plan, options: ExportOptions) -> str:
    """Return the routes as a table: prefix, action, distance, VRF, and whose they are."""
    rows = [
        (str(i.prefix), "discard", str(DISTANCE), _vrf(plan, i), i.kind, i.code or i.id, i.name, i.state)
        for i in _blocks(plan, options, "null-routes-csv")
    ]
    header = "prefix,action,distance,vrf,kind,code,name,state"
    if options.lang == "zh":
        header = "\ufeff前缀,动作,管理距离,VRF,类型,代码,名称,状态"
    return "\n".join([header, *(",".join(map(csv_cell, row)) for row in rows)]) + "\n"
