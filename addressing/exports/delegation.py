"""DHCPv6 prefix delegation from a plan: each division's server hands every child exactly its own block.

A dynamic pool would give any block to whoever asks first, and the plan would be a plan no more. So every pool holds one
prefix and is kept for one class: a client whose nearest relay named the interface (option 18, RFC 8415 21.18) after its
division's code, or a county plan's `SITE@PLANE`. FRR has no DHCPv6 server.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import NamedTuple

from addressing.entries import Plan
from addressing.exports.options import ExportOptions, NothingToExportError, TooManyRowsError, UnsuitableExportError
from addressing.exports.selection import Item, list_items, read_level
from addressing.hierarchy import HierarchyPlan
from addressing.policy import SUBNET_LENGTH
from addressing.text import Prefix, format_address

DELEGATIONS = 100_000
"""Most delegations of one export: a country's are not one server's."""


class Delegation(NamedTuple):
    """What one server does: `number` its subnet's, `link` the first /64 of its own area, children by class."""

    number: int
    name: str
    link: Prefix
    children: tuple[tuple[str, Item], ...]


def list_delegations(plan: Plan, options: ExportOptions, name: str) -> list[Delegation]:
    """Return each parent with the children delegated to: of `--level`, or of the lowest level (a county's sites)."""
    everything = [i for i in list_items(plan, ExportOptions(), name) if i.prefix.version == 6]
    by_id = {i.id: i for i in everything}
    chosen = list_items(plan, ExportOptions(under=options.under), name)
    if isinstance(plan, HierarchyPlan):
        level = read_level(plan, options.level) if options.level else max(i.level for i in chosen)
        children = [i for i in chosen if i.level == level and i.state == "active"]
    else:
        if options.level and options.level not in {"site", "5"}:
            raise UnsuitableExportError(name, f"--level {options.level} is not delegated to", "leave it out: sites are")
        # A town's own site holds the server's link.
        children = [i for i in chosen if i.kind == "site" and i.state == "active" and not _is_own(i)]
    longest = [i for i in children if i.prefix.length > SUBNET_LENGTH]
    if longest:
        raise UnsuitableExportError(
            name, f"{longest[0].prefix} is longer than a /64", "delegate a higher level: --level"
        )
    if len(children) > DELEGATIONS:
        raise TooManyRowsError(name, "one server", len(children), DELEGATIONS, noun="delegation")
    grouped: dict[str, list[Item]] = {}
    for item in children:
        # Who numbered it delegates it: the block lies within that one's, whoever governs the division today.
        if item.home in by_id:
            grouped.setdefault(item.home, []).append(item)
    if not grouped:
        raise NothingToExportError(name, "nothing delegated was asked for", options)
    out = []
    for count, (home, found) in enumerate(grouped.items(), 1):
        parent = by_id[home]
        link = Prefix(6, parent.prefix.value, SUBNET_LENGTH)
        number = int(home) if isinstance(plan, HierarchyPlan) else count
        about = " ".join(p for p in (parent.kind, parent.code or parent.id, parent.name) if p)
        out.append(Delegation(number, about, link, tuple((_class(i), i) for i in found)))
    return out


def _is_own(item: Item) -> bool:
    """Tell whether a county plan's site is the town's own, in slot 0."""
    return item.id.partition(":")[2] == item.home.partition(":")[2]


def _class(item: Item) -> str:
    """Return a client class's name: what the relay's interface is called."""
    return re.sub(r"[^A-Za-z0-9@._-]+", "-", item.code or item.id.partition(":")[2] or item.id)


def _classes(found: Sequence[Delegation]) -> list[str]:
    return list(dict.fromkeys(name for server in found for name, _ in server.children))


def write_kea(plan: Plan, options: ExportOptions) -> str:
    """Return Kea's Dhcp6: client classes by the relay's interface, a subnet with its pd-pools for each parent."""
    found = list_delegations(plan, options, "kea")
    subnets = [
        {
            "id": server.number,
            "subnet": str(server.link),
            "user-context": {"comment": server.name},
            "pd-pools": [
                {
                    "prefix": format_address(6, item.prefix.value),
                    "prefix-len": item.prefix.length,
                    "delegated-len": item.prefix.length,
                    "client-class": name,
                    "user-context": {"comment": item.name},
                }
                for name, item in server.children
            ],
        }
        for server in found
    ]
    classes = [{"name": name, "test": f"relay6[-1].option[18].hex == '{name}'"} for name in _classes(found)]
    body = {"Dhcp6": {"client-classes": classes, "subnet6": subnets}}
    return json.dumps(body, ensure_ascii=False, indent=1) + "\n"


def write_dhcpd(plan: Plan, options: ExportOptions) -> str:
    """Return ISC dhcpd's configuration: classes by the relay's interface, a subnet6 with pools for each parent."""
    found = list_delegations(plan, options, "dhcpd")
    out = [
        f'class "{name}" {{ match if v6relay(1, option dhcp6.interface-id) = "{name}"; }}' for name in _classes(found)
    ]
    for server in found:
        out += [re.sub(r"[\x00-\x1f\x7f]+", " ", f"# {server.name}"), f"subnet6 {server.link} {{"]
        for name, item in server.children:
            at = format_address(6, item.prefix.value)
            out.append(f'    pool6 {{ allow members of "{name}"; prefix6 {at} {at} /{item.prefix.length}; }}')
        out.append("}")
    return "\n".join(out) + "\n"
