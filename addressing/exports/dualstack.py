"""Old IPv4 and new IPv6 of every site side by side, with the phase each is in: the table people migrate by.

A phase follows from the plan and the county alone: a legacy IPv4 LAN without an IPv6 LAN is legacy only, one with both is
dual stack, IPv6 without IPv4 single stack. Dates stand in it where they are given: the legacy line's contract, and the
county's own targets.
"""

from __future__ import annotations

from addressing.entries import Plan
from addressing.exports.options import ExportOptions, NothingToExportError, UnsuitableExportError
from addressing.exports.selection import list_items
from addressing.exports.tables import csv_cell
from addressing.hierarchy import HierarchyPlan
from addressing.model import AddressPlan
from inventory.model import County

HEADERS = {
    "site": "站点",
    "name": "名称",
    "class": "层级",
    "plane": "平面",
    "department": "部门",
    "legacy_network": "原专网",
    "legacy_ipv4": "原 IPv4 网段",
    "legacy_gateway": "原 IPv4 网关",
    "extranet_ipv4": "外网 IPv4 网段",
    "ipv6": "IPv6 网段",
    "ipv6_gateway": "IPv6 网关",
    "phase": "阶段",
    "line_contract_until": "原线路合同到期",
    "dual_stack_from": "双栈开始",
    "single_stack_from": "单栈开始",
}
PHASES = {"legacy only": "仅原网", "dual stack": "双栈", "single stack": "单栈"}
_CLASSES = {"county": "县", "town": "乡镇", "village": "村"}


def write_dual_stack(plan: Plan, options: ExportOptions) -> str:
    """Return the table, one row a LAN: a site in a plane, by site and plane."""
    if isinstance(plan, HierarchyPlan):
        raise UnsuitableExportError(
            "dual-stack",
            "a hierarchy's plan knows of no IPv4 and no sites",
            "give a county's plan (plan/addresses.json)",
        )
    if options.county is None:
        raise UnsuitableExportError("dual-stack", "needs the county's inventory", "give its folder with --county")
    if options.county.id != plan.county:
        raise UnsuitableExportError(
            "dual-stack",
            f"the plan is of {plan.county}, the inventory of {options.county.id}",
            "give the right --county",
        )
    rows = _rows(plan, options.county, options)
    if not rows:
        raise NothingToExportError("dual-stack", "no site has a LAN", options)
    mark, header = ("\ufeff", HEADERS.values()) if options.lang == "zh" else ("", list(HEADERS))
    return mark + "\n".join([",".join(header), *(",".join(map(csv_cell, row)) for row in rows)]) + "\n"


def _rows(plan: AddressPlan, county: County, options: ExportOptions) -> list[list[str]]:
    lans = {i.id.partition(":")[2] for i in list_items(plan, ExportOptions(), "dual-stack") if i.kind == "lan"}
    wanted = None
    if options.under:
        under = list_items(plan, ExportOptions(under=options.under), "dual-stack")
        wanted = {i.id.partition(":")[2] for i in under if i.kind in {"lan", "lan4", "site"}}
    pairs = {(u.site, u.plane) for u in county.units} | {tuple(lan.split("@", 1)) for lan in lans}
    places = {s.id: n for n, s in enumerate(county.sites)}
    planes = {p.id: n for n, p in enumerate(county.policy.planes)}
    out = []
    for site_id, plane_id in sorted(pairs, key=lambda pair: (places.get(pair[0], 0), planes.get(pair[1], 0))):
        if site_id in places and plane_id in planes and (wanted is None or f"{site_id}@{plane_id}" in wanted):
            out.append(_row(plan, county, options, site_id, plane_id))
    return out


def _row(plan: AddressPlan, county: County, options: ExportOptions, site_id: str, plane_id: str) -> list[str]:
    site, plane = county.site_by_id[site_id], county.plane_by_id[plane_id]
    unit = county.unit_by_lan.get((site_id, plane_id))
    record = plan.by_id.get(f"lan:{site_id}@{plane_id}")
    has6 = record is not None and record.state == "active"
    own4 = plan.lan4(site_id, plane_id)
    if not has6:
        phase = "legacy only"
    elif unit or own4:
        phase = "dual stack"
    else:
        phase = "single stack"
    until = county.circuit_by_id[unit.circuit].contract_end if unit else None
    values = [
        site_id,
        site.name,
        site.site_class.value,
        plane_id,
        plane.tenant,
        unit.network if unit else "",
        str(unit.lan_prefix) if unit else "",
        str(unit.gateway) if unit else "",
        str(own4 or ""),
        str(plan.lan6(site_id, plane_id)) if has6 else "",
        str(plan.gateway6(site_id, plane_id).ip) if has6 else "",
        phase,
        str(until or ""),
        options.dual_stack_from,
        options.single_stack_from,
    ]
    if options.lang == "zh":
        names = {**PHASES, **_CLASSES}
        for at in (2, 11):
            values[at] = names.get(values[at], values[at])
    return values
