"""A plan in the formats of the tools that read it: one registry, each family a module of its own.

`EXPORTS` is light to import (for --help); a format's module, and numpy with it, is imported when it is written.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, cast

from addressing.exports.options import Content, ExportOptions

if TYPE_CHECKING:
    from collections.abc import Callable

    from addressing.entries import Plan


@dataclass(frozen=True)
class Export:
    """One format. `extension` is of the file; empty: several files, a folder. `writer` is `module:function`."""

    name: str
    extension: str
    about: str
    chinese: str
    writer: str
    kinds: tuple[str, ...] = ("county", "hierarchy")
    """Kinds of plan it makes sense for."""

    def write(self, plan: Plan, options: ExportOptions) -> Content:
        """Return the export: text, bytes, or texts by file name.

        Raises:
            ExtranetError: it makes no sense for this plan, names what is not there, or would be empty or too large.
        """
        module, _, function = self.writer.partition(":")
        found = getattr(import_module(f"addressing.exports.{module}"), function)
        return cast("Callable[[Plan, ExportOptions], Content]", found)(plan, options)


_ALL = (
    Export("csv", "csv", "table, one prefix a row", "表格，一行一个前缀", "tables:write_csv"),
    Export("xlsx", "xlsx", "workbook, a sheet a level, all text", "工作簿，每级一个工作表，全部为文本", "workbook:write_xlsx"),
    Export("json", "json", "JSON, one prefix a line", "JSON，一行一个前缀", "tables:write_json"),
    Export("yaml", "yaml", "YAML, one prefix a line", "YAML，一行一个前缀", "tables:write_yaml"),
    Export("netbox", "", "NetBox 4.x bulk import: RIR, aggregates, roles, VRFs, prefixes",
           "NetBox 4.x 批量导入：RIR、聚合、角色、VRF、前缀", "ipam:write_netbox"),
    Export("nautobot", "", "Nautobot 2.x bulk import: roles, prefixes", "Nautobot 2.x 批量导入：角色、前缀",
           "ipam:write_nautobot"),
    Export("frr-filter", "conf", "prefix lists and access lists, FRR", "前缀列表与访问列表，FRR", "filters:write_frr"),
    Export("cisco-filter", "cfg", "prefix lists and ACLs, Cisco IOS XE", "前缀列表与 ACL，Cisco IOS XE", "filters:write_cisco"),
    Export("juniper-filter", "set", "route filters and firewall filters, Junos", "路由过滤与防火墙过滤，Junos",
           "filters:write_juniper"),
    Export("huawei-filter", "cfg", "prefix lists and ACLs, Huawei VRP", "前缀列表与 ACL，华为 VRP", "filters:write_huawei"),
    Export("h3c-filter", "cfg", "prefix lists and ACLs, H3C Comware 7", "前缀列表与 ACL，新华三 Comware 7", "filters:write_h3c"),
    Export("nftables", "nft", "sets of prefixes, nftables", "前缀集合，nftables", "filters:write_nftables"),
    Export("fortios", "conf", "FortiOS address6-template and addresses", "FortiOS IPv6 地址模板与地址", "fortios:write_fortios"),
    Export("reverse-dns", "", "ip6.arpa zones with delegations, BIND", "ip6.arpa 反向区与授权，BIND", "reverse:write_zones"),
    Export("null-routes", "conf", "discard routes for every delegated block (RFC 7084 WPD-5), FRR",
           "每个下放地址块的黑洞路由（RFC 7084 WPD-5），FRR", "routes:write_frr_routes"),
    Export("null-routes-csv", "csv", "discard routes for every delegated block, table",
           "每个下放地址块的黑洞路由，表格", "routes:write_csv_routes"),
    Export("kea", "json", "DHCPv6 prefix delegation, Kea pd-pools", "DHCPv6 前缀下放，Kea pd-pools", "delegation:write_kea"),
    Export("dhcpd", "conf", "DHCPv6 prefix delegation, ISC dhcpd prefix6", "DHCPv6 前缀下放，ISC dhcpd prefix6",
           "delegation:write_dhcpd"),
    Export("dual-stack", "csv", "old IPv4 LAN and new IPv6 LAN of every site, with its phase",
           "各站点旧 IPv4 网段与新 IPv6 网段对照及阶段", "dualstack:write_dual_stack", ("county",)),
)  # fmt: skip

EXPORTS: dict[str, Export] = {export.name: export for export in _ALL}

__all__ = ["EXPORTS", "Content", "Export", "ExportOptions"]
