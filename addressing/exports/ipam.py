"""A plan for the databases of addresses: NetBox and Nautobot bulk import, as folders of CSV files in order of import.

Column names are those of the import forms: NetBox 4.2 and later (`ipam/forms/bulk_import.py`; scopes are left out, as they
want numeric ids there), Nautobot 2.x natural keys (`namespace__name`). Nautobot sets no VRF by import: that column would be
ignored while the import reports success (nautobot #9101), so there is none.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from addressing.entries import Plan
from addressing.exports.options import ExportOptions
from addressing.exports.selection import Item, list_items
from addressing.exports.tables import csv_cell
from addressing.hierarchy import HierarchyPlan

_DESCRIPTION = 200
"""Longest description either takes."""
_NETBOX_STATES = {"active": "active", "quarantined": "deprecated", "absorbed": "active"}
_NAUTOBOT_STATES = {"active": "Active", "quarantined": "Deprecated", "absorbed": "Active"}
_POINT_TO_POINT = {"link", "hairpin", "link4"}


def write_netbox(plan: Plan, options: ExportOptions) -> dict[str, str]:
    """Return NetBox's import files, numbered in the order in which to import them."""
    items = _unique(list_items(plan, options, "netbox"))
    tenants = _tenants(items, options)
    used = {tenants[i.id]: i.zone for i in items if tenants[i.id]}
    holders = _holders(plan, items)
    files: dict[str, str] = {}
    if used:
        slugs = [(name, _slug(zone, f"tenant-{n}")) for n, (name, zone) in enumerate(sorted(used.items()), 1)]
        files["0-tenants.csv"] = _table(("name", "slug"), slugs)
    files["1-rirs.csv"] = _table(
        ("name", "slug", "is_private", "description"),
        [(options.rir, _slug(options.rir, "rir"), "true", "assigns the pools of the plan")],
    )
    files["2-aggregates.csv"] = _table(
        ("prefix", "rir", "tenant", "description"),
        [(pool, options.rir, options.tenant, "pool of the plan") for pool in _pools(plan)],
    )
    files["3-roles.csv"] = _table(
        ("name", "slug", "description"),
        [(kind, _slug(kind, f"role-{n}"), f"{kind} of the address plan") for n, kind in enumerate(_kinds(items), 1)],
    )
    zones = {i.zone: tenants[i.id] for i in items if _vrf(plan, i)}
    if zones:
        files["4-vrfs.csv"] = _table(
            ("name", "tenant", "enforce_unique", "description"),
            [(zone, tenant, "true", f"plane {zone}") for zone, tenant in sorted(zones.items())],
        )
    files["5-prefixes.csv"] = _table(
        ("prefix", "status", "vrf", "tenant", "role", "is_pool", "description"),
        [
            (
                str(i.prefix),
                "container" if i.id in holders and i.state == "active" else _NETBOX_STATES[i.state],
                _vrf(plan, i),
                tenants[i.id],
                i.kind,
                "true" if i.kind in _POINT_TO_POINT else "false",
                _describe(i),
            )
            for i in items
        ],
    )
    return files


def write_nautobot(plan: Plan, options: ExportOptions) -> dict[str, str]:
    """Return Nautobot's import files, numbered in the order in which to import them."""
    items = _unique(list_items(plan, options, "nautobot"))
    tenants = _tenants(items, options)
    holders = _holders(plan, items)
    with_tenant = any(tenants.values())
    header: tuple[str, ...] = ("prefix", "namespace__name", "type", "status__name", "role__name", "description")
    given = {str(i.prefix) for i in items}
    rows: list[tuple[str, ...]] = [
        (pool, options.namespace, "container", "Active", "pool", "pool of the plan", options.tenant)
        for pool in _pools(plan)
        if pool not in given
    ]
    for i in items:
        kind = "container" if i.id in holders else "network"
        state = _NAUTOBOT_STATES[i.state]
        rows.append((str(i.prefix), options.namespace, kind, state, i.kind, _describe(i), tenants[i.id]))
    if with_tenant:
        # Nautobot reads an empty natural key as an object without a name; its word for none is NoObject.
        header = (*header, "tenant__name")
        rows = [(*row[:-1], row[-1] or "NoObject") for row in rows]
    else:
        rows = [row[:-1] for row in rows]
    return {
        "1-roles.csv": _table(("name", "content_types"), [(kind, "ipam.prefix") for kind in ["pool", *_kinds(items)]]),
        "2-prefixes.csv": _table(header, rows),
    }


def _unique(items: Iterable[Item]) -> list[Item]:
    """Return each prefix once a zone, widest first: the databases refuse a second one, and want parents first."""
    out: dict[tuple[object, str], Item] = {}
    for item in sorted(items, key=lambda i: (-i.prefix.version, i.prefix.length, i.prefix.value)):
        out.setdefault((item.prefix, item.zone), item)
    return list(out.values())


def _holders(plan: Plan, items: Iterable[Item]) -> set[str]:
    """Return the identities that others take their prefixes from."""
    if isinstance(plan, HierarchyPlan):
        inner = {str(home) for home in set(plan.homes.tolist())}
        return inner | {i.home for i in items if i.kind == "subnet"}
    return {r.parent for r in plan.records}


def _pools(plan: Plan) -> list[str]:
    if isinstance(plan, HierarchyPlan):
        return [str(p) for p in plan.layout.pools]
    return list(dict.fromkeys((plan.pool, plan.ipv4_pool, plan.ipv4_link_pool)))


def _vrf(plan: Plan, item: Item) -> str:
    """Return a county plane's name, which is its VRF; a hierarchy's zones are purposes, not VRFs."""
    return "" if isinstance(plan, HierarchyPlan) else item.zone


def _tenants(items: Iterable[Item], options: ExportOptions) -> dict[str, str]:
    county = options.county
    of_plane = {p.id: p.tenant for p in county.policy.planes} if county else {}
    return {i.id: of_plane.get(i.zone, options.tenant) for i in items}


def _kinds(items: Iterable[Item]) -> list[str]:
    return list(dict.fromkeys(i.kind for i in items))


def _slug(text: str, otherwise: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or otherwise


def _describe(item: Item) -> str:
    # The kind goes first: no description can begin like a formula, and none needs an apostrophe the import would keep.
    parts = [item.kind, item.code, item.name, f"({item.state}{' into ' + item.into if item.into else ''})"]
    if item.state == "active":
        parts.pop()
    return " ".join(p for p in parts if p)[:_DESCRIPTION]


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [",".join(header), *(",".join(csv_cell(cell) for cell in row) for row in rows)]
    return "\n".join(lines) + "\n"
