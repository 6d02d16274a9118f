"""Filters from a plan's fields: prefix lists for routes, access lists for packets, in the dialects of routers.

A field is what makes filters short: every prefix of one level is `POOL ge LENGTH le LENGTH`, every prefix of one plane is
one prefix. Without `--level` there is one list a level (and a plane, in a county's plan); with it, one list for each
division of that level. What is quarantined is denied first. IPv6 only: departments' IPv4 has no fields.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from addressing.entries import Plan
from addressing.exports.options import ExportOptions, NothingToExportError, TooManyRowsError
from addressing.exports.selection import Item, list_items
from addressing.hierarchy import HierarchyPlan
from addressing.policy import SUBNET_LENGTH
from addressing.text import Prefix, format_address, parse_prefix

PREFIX = "EXT"
_STEP = 10
_INDEXES = {
    "frr-filter": 4_294_967_295,
    "cisco-filter": 4_294_967_294,
    "huawei-filter": 4_294_967_295,
    "h3c-filter": 65_535,
}
"""Highest sequence number of a prefix list's entry."""
_RULES = {"huawei-filter": 4_294_967_294, "h3c-filter": 65_534}
"""Highest number of an access list's rule."""


class Rule(NamedTuple):
    """One line: prefixes within `prefix` of lengths `low` to `high`."""

    permit: bool
    prefix: Prefix
    low: int
    high: int


@dataclass(frozen=True)
class FilterList:
    """A list by name, with what it is for; the end of each list denies."""

    name: str
    about: str
    rules: tuple[Rule, ...]


@dataclass(frozen=True)
class Filters:
    """Lists for routes and lists for packets; of the latter, only prefixes count."""

    routes: tuple[FilterList, ...]
    packets: tuple[FilterList, ...]
    quarantined: tuple[Prefix, ...]


def make_filters(plan: Plan, options: ExportOptions, name: str) -> Filters:
    """Return the plan's lists, before any dialect."""
    items = [i for i in list_items(plan, options, name) if i.prefix.version == 6]
    gone = collapse([i.prefix for i in items if i.state == "quarantined"])
    live = [i for i in items if i.state != "quarantined"]
    if not live:
        raise NothingToExportError(name, "no IPv6 prefix in use was asked for", options)
    denied = [Rule(permit=False, prefix=p, low=p.length, high=128) for p in gone]
    if options.level:
        found = _by_item(live, denied)
        return Filters(found, found, tuple(gone))
    if isinstance(plan, HierarchyPlan):
        return _by_level(plan, options, live, denied, tuple(gone))
    return _by_plane(plan.pool, live, denied, tuple(gone))


def collapse(prefixes: Sequence[Prefix]) -> list[Prefix]:
    """Return prefixes sorted, without those that another one covers."""
    out: list[Prefix] = []
    for prefix in sorted(set(prefixes), key=lambda p: (p.value, p.length)):
        if not out or not out[-1].covers(prefix):
            out.append(prefix)
    return out


def _by_item(live: Sequence[Item], denied: Sequence[Rule]) -> tuple[FilterList, ...]:
    lists: dict[str, list[Item]] = {}
    for item in live:
        lists.setdefault(_item_name(item), []).append(item)
    return tuple(
        FilterList(name, _about(found[0]), (*_within(denied, [i.prefix for i in found]), *map(_all_of, found)))
        for name, found in lists.items()
    )


def _all_of(item: Item) -> Rule:
    return Rule(permit=True, prefix=item.prefix, low=item.prefix.length, high=max(item.prefix.length, SUBNET_LENGTH))


def _within(denied: Sequence[Rule], prefixes: Sequence[Prefix]) -> list[Rule]:
    return [rule for rule in denied if any(p.covers(rule.prefix) for p in prefixes)]


def _by_level(
    plan: HierarchyPlan, options: ExportOptions, live: Sequence[Item], denied: Sequence[Rule], gone: tuple[Prefix, ...]
) -> Filters:
    tops = [parse_prefix(str(p)) for p in plan.layout.pools]
    if options.under:
        tops = collapse([i.prefix for i in live])
        denied = _within(denied, tops)
    routes = []
    for field in plan.layout.fields:
        if not any(i.level == field.level for i in live):
            continue
        spans = [Rule(True, p, field.length, field.length) for p in tops if p.length <= field.length]
        if spans:
            about = f"routes of level {field.level} {field.name}, /{field.length}"
            routes.append(FilterList(f"{PREFIX}-L{field.level}", about, (*denied, *spans)))
    whole = tuple(Rule(True, p, p.length, max(p.length, SUBNET_LENGTH)) for p in tops)
    packets = [FilterList(f"{PREFIX}-ALL", "the whole plan", (*denied, *whole))]
    zones: dict[str, list[Prefix]] = {}
    for item in live:
        if item.zone:
            zones.setdefault(item.zone, []).append(item.prefix)
    for zone, prefixes in sorted(zones.items()):
        rules = tuple(Rule(True, p, p.length, max(p.length, SUBNET_LENGTH)) for p in collapse(prefixes))
        packets.append(FilterList(f"{PREFIX}-Z-{zone.upper()}", f"subnets of zone {zone}", rules))
    return Filters((*routes, *packets), tuple(packets), gone)


def _by_plane(pool: str, live: Sequence[Item], denied: Sequence[Rule], gone: tuple[Prefix, ...]) -> Filters:
    top = parse_prefix(pool)
    planes = []
    for item in live:
        if item.kind == "plane":
            own = _within(denied, [item.prefix])
            planes.append(FilterList(f"{PREFIX}-P-{item.zone.upper()}", f"plane {item.zone}", (*own, _all_of(item))))
    lengths: dict[str, set[int]] = {}
    for item in live:
        lengths.setdefault(item.kind, set()).add(item.prefix.length)
    routes = [
        FilterList(f"{PREFIX}-{kind.upper()}", f"routes of kind {kind}, /{n}", (*denied, Rule(True, top, n, n)))
        for kind, found in lengths.items()
        if kind in {"town", "site", "lan", "loopback"}
        for n in sorted(found)
    ]
    return Filters((*planes, *routes), tuple(planes), gone)


def _item_name(item: Item) -> str:
    """Return a list's name: ASCII, at most 63 characters (one division, or one town or site in all its planes)."""
    code = item.into or item.code
    text = code or item.id.partition("@")[0].partition(":")[2] or item.id
    plain = re.sub(r"[^A-Za-z0-9-]+", "-", text).strip("-")
    if code and plain != code:
        plain = f"ID-{item.id}"
    mark = "P-" if item.kind == "plane" else ""
    return f"{PREFIX}-{mark}{plain.upper()}"[:63]


def _about(item: Item) -> str:
    return " ".join(p for p in (item.kind, item.code, item.name) if p)


def _comment(text: str) -> str:
    """Return a comment's text on one line."""
    return re.sub(r"[\x00-\x1f\x7f]+", " ", text)


def _numbers(name: str, entry: FilterList, limits: dict[str, int], rules: int) -> Iterator[int]:
    most = limits.get(name, 1 << 31) // _STEP
    if rules > most:
        raise TooManyRowsError(name, f"list {entry.name}", rules, most, noun="entry")
    return iter(range(_STEP, (rules + 1) * _STEP, _STEP))


def _word(rule: Rule) -> str:
    return "permit" if rule.permit else "deny"


def _span(rule: Rule, low: str, high: str) -> str:
    """Return the lengths' part; none for just the prefix's own, and no lower end where it is the prefix's own."""
    out = f" {low} {rule.low}" if rule.low > rule.prefix.length else ""
    return out + (f" {high} {rule.high}" if rule.high > rule.prefix.length else "")


def _prefix_lists(lists: Filters, name: str) -> Iterator[str]:
    """Yield the prefix lists as FRR and Cisco IOS XE write them alike."""
    yield "! ipv6 prefix lists: what routes may be"
    for entry in lists.routes:
        yield f"! {_comment(entry.about)}"
        numbers = _numbers(name, entry, _INDEXES, len(entry.rules))
        for number, rule in zip(numbers, entry.rules, strict=True):
            yield f"ipv6 prefix-list {entry.name} seq {number} {_word(rule)} {rule.prefix}{_span(rule, 'ge', 'le')}"


def write_frr(plan: Plan, options: ExportOptions) -> str:
    """Return FRR's configuration: ipv6 prefix-list and ipv6 access-list."""
    lists = make_filters(plan, options, "frr-filter")
    out = [*_prefix_lists(lists, "frr-filter")]
    out.append("! ipv6 access lists: what packets' sources may be")
    for entry in lists.packets:
        out.append(f"! {_comment(entry.about)}")
        last = 0
        for number, rule in zip(_numbers("frr-filter", entry, _INDEXES, len(entry.rules)), entry.rules, strict=True):
            out.append(f"ipv6 access-list {entry.name} seq {number} {_word(rule)} {rule.prefix}")
            last = number
        out.append(f"ipv6 access-list {entry.name} seq {last + _STEP} deny any")
    return "\n".join(out) + "\n"


def write_cisco(plan: Plan, options: ExportOptions) -> str:
    """Return Cisco IOS XE's configuration: ipv6 prefix-list and ipv6 access-list."""
    lists = make_filters(plan, options, "cisco-filter")
    out = [*_prefix_lists(lists, "cisco-filter")]
    for entry in lists.packets:
        out += [f"! {_comment(entry.about)}", f"ipv6 access-list {entry.name}"]
        for number, rule in enumerate(entry.rules, 1):
            out.append(f" sequence {number * _STEP} {_word(rule)} ipv6 {rule.prefix} any")
        out += [f" sequence {(len(entry.rules) + 1) * _STEP} deny ipv6 any any", "!"]
    return "\n".join(out) + "\n"


def write_juniper(plan: Plan, options: ExportOptions) -> str:
    """Return Junos `set` commands: a policy statement a list for routes, a filter with its prefix list for packets."""
    lists = make_filters(plan, options, "juniper-filter")
    out = []
    for entry in lists.routes:
        out.append(f"# {_comment(entry.about)}")
        at = f"set policy-options policy-statement {entry.name}"
        for permit, term in ((False, "quarantined"), (True, "planned")):
            rules = [r for r in entry.rules if r.permit is permit]
            out += [
                f"{at} term {term} from route-filter {r.prefix} prefix-length-range /{r.low}-/{r.high}" for r in rules
            ]
            if rules:
                out.append(f"{at} term {term} then {'accept' if permit else 'reject'}")
        out.append(f"{at} term rest then reject")
    for entry in lists.packets:
        out.append(f"# {_comment(entry.about)}")
        for permit, term in ((False, "quarantined"), (True, "planned")):
            name = entry.name + ("" if permit else "-GONE")
            rules = [r for r in entry.rules if r.permit is permit]
            out += [f"set policy-options prefix-list {name} {r.prefix}" for r in rules]
            if rules:
                at = f"set firewall family inet6 filter {entry.name} term {term}"
                out += [f"{at} from source-prefix-list {name}", f"{at} then {'accept' if permit else 'discard'}"]
        out.append(f"set firewall family inet6 filter {entry.name} term rest then discard")
    return "\n".join(out) + "\n"


def _write_comware(lists: Filters, name: str, prefix_list: str, acl: str) -> str:
    """Return what Huawei's and H3C's dialects share; `prefix_list` and `acl` are how a list of each begins."""
    out = []
    for entry in lists.routes:
        out.append(f"# {_comment(entry.about)}")
        numbers = _numbers(name, entry, _INDEXES, len(entry.rules))
        for number, rule in zip(numbers, entry.rules, strict=True):
            at = f"{format_address(6, rule.prefix.value)} {rule.prefix.length}"
            span = _span(rule, "greater-equal", "less-equal")
            out.append(f"{prefix_list} {entry.name} index {number} {_word(rule)} {at}{span}")
    for entry in lists.packets:
        out += [f"# {_comment(entry.about)}", acl.format(name=entry.name)]
        numbers = _numbers(name, entry, _RULES, len(entry.rules) + 1)
        out += [f" rule {n} {_word(r)} source {r.prefix}" for n, r in zip(numbers, entry.rules, strict=False)]
        out += [f" rule {(len(entry.rules) + 1) * _STEP} deny", "#"]
    return "\n".join(out) + "\n"


def write_huawei(plan: Plan, options: ExportOptions) -> str:
    """Return Huawei VRP's configuration: ip ipv6-prefix and basic ACL6."""
    lists = make_filters(plan, options, "huawei-filter")
    return _write_comware(lists, "huawei-filter", "ip ipv6-prefix", "acl ipv6 name {name} basic")


def write_h3c(plan: Plan, options: ExportOptions) -> str:
    """Return H3C Comware 7's configuration: ipv6 prefix-list and basic IPv6 ACL."""
    lists = make_filters(plan, options, "h3c-filter")
    return _write_comware(lists, "h3c-filter", "ipv6 prefix-list", "acl ipv6 basic name {name}")


def write_nftables(plan: Plan, options: ExportOptions) -> str:
    """Return a table of named sets; it holds no chain, so that loading it changes no traffic."""
    lists = make_filters(plan, options, "nftables")
    sets = [
        (entry.name.lower().replace("-", "_"), entry.about, collapse([r.prefix for r in entry.rules if r.permit]))
        for entry in lists.packets
    ]
    if lists.quarantined:
        sets.append((f"{PREFIX.lower()}_quarantined", "given once, never again", list(lists.quarantined)))
    out = ["table ip6 extranet_plan {"]
    for name, about, prefixes in sets:
        out += [f"\t# {_comment(about)}", f"\tset {name} {{", "\t\ttype ipv6_addr", "\t\tflags interval"]
        out += ["\t\telements = {", ",\n".join(f"\t\t\t{p}" for p in prefixes), "\t\t}", "\t}"]
    return "\n".join([*out, "}"]) + "\n"
