"""Reverse DNS from a plan: ip6.arpa zones with delegations in BIND's syntax (RFC 3596 2.5; choices of RFC 8501).

A zone ends at a nibble. A prefix that does not, has as many zones as it has next nibbles: a /47 two, a /30 four. Where a
division's zones are cut at the same nibble as those of the one above it, they replace them, and are delegated from further
up. No PTR is made for what hosts choose themselves; routers' loopbacks of a county's plan have theirs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from addressing.entries import Plan
from addressing.exports.options import ExportOptions, NothingToExportError, TooManyRowsError, UnsuitableExportError
from addressing.exports.selection import Item, list_items, read_level
from addressing.hierarchy import HierarchyPlan
from addressing.text import Prefix, parse_prefix

ARPA = "ip6.arpa"
FILES = 4096
"""Most zone files of one export: more is a mistake, and no server's configuration."""
_NAME = re.compile(
    r"(?=.{1,253}\.?$)([A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\.)*[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\.?$"
)


def list_zones(prefix: Prefix) -> list[str]:
    """Return the zones of an IPv6 prefix, without the last dot, in the order of their addresses."""
    nibbles = -(-prefix.length // 4)
    first = prefix.value >> (128 - 4 * nibbles) if nibbles else 0
    count = 1 << (4 * nibbles - prefix.length)
    return [zone_name(first + step, nibbles) for step in range(count)]


def zone_name(value: int, nibbles: int) -> str:
    """Return the name of the zone whose first `nibbles` nibbles are the number `value`."""
    digits = f"{value:0{nibbles}x}" if nibbles else ""
    return ".".join([*reversed(digits), ARPA])


def write_zones(plan: Plan, options: ExportOptions) -> dict[str, str]:
    """Return a zone file for everything above the delegated level (default: the lowest), and named.conf's part for them.

    Raises:
        UnsuitableExportError: a server's or mailbox's name is none.
        TooManyRowsError: more files than any server's configuration holds.
    """
    _check_names(options)
    holders, delegated = _split(plan, options)
    owners: dict[str, Item | None] = {}
    for pool in _tops(plan, options):
        owners.update(dict.fromkeys(list_zones(pool)))
    for holder in sorted(holders, key=lambda i: i.prefix.length):
        owners.update(dict.fromkeys(list_zones(holder.prefix), holder))
    # A leaf whose zones are cut where its parent's are takes them over: the parent has no file of its own there.
    leaves: dict[str, Item | None] = {zone: item for item in delegated for zone in list_zones(item.prefix)}
    zones = [zone for zone in owners if zone not in leaves]
    if not zones:
        raise NothingToExportError("reverse-dns", "nothing delegates below it", options)
    if len(zones) > FILES:
        raise TooManyRowsError("reverse-dns", "the folder of zone files", len(zones), FILES, noun="file")
    records: dict[str, list[str]] = {zone: [] for zone in zones}
    for zone, item in [*((z, owners[z]) for z in zones), *leaves.items()]:
        above = _enclosing(zone, records)
        if above is not None and (item is not None or zone in leaves):
            records[above] += _delegation(zone, above, item, options)
    for address, name in _pointers(plan, options):
        at = f"{zone_name(address, 32)}"
        above = _enclosing(at, records)
        if above is not None:
            records[above].append(f"{at.removesuffix('.' + above)}\tPTR\t{name}")
    serial = options.serial or (plan.version if isinstance(plan, HierarchyPlan) else 1)
    files = {f"{zone}.zone": _zone(zone, owners[zone], records[zone], serial, options) for zone in zones}
    files["named.conf.part"] = "".join(f'zone "{zone}" {{ type primary; file "{zone}.zone"; }};\n' for zone in zones)
    return files


def _split(plan: Plan, options: ExportOptions) -> tuple[list[Item], list[Item]]:
    """Return what gets zone files, and what is delegated: one level, and all that lies above it."""
    everything = ExportOptions(under=options.under)
    items = [
        i for i in list_items(plan, everything, "reverse-dns") if i.prefix.version == 6 and i.state != "quarantined"
    ]
    if isinstance(plan, HierarchyPlan):
        lowest = max((i.level for i in items), default=0)
        level = read_level(plan, options.level) if options.level else lowest
        return [i for i in items if i.level < level], [i for i in items if i.level == level]
    order = ["plane", "town", "site"]
    kind = {"4": "town", "5": "site"}.get(options.level, options.level or "site")
    if kind not in order:
        raise UnsuitableExportError(
            "reverse-dns", f"--level {options.level} is not delegated", f"give {', '.join(order)}"
        )
    above = {*order[: order.index(kind)], "infra"}
    return [i for i in items if i.kind in above], [i for i in items if i.kind == kind]


def _tops(plan: Plan, options: ExportOptions) -> list[Prefix]:
    """Return the pools, or with `--under` nothing but what was asked for."""
    if options.under:
        return []
    pools: Iterable[object] = plan.layout.pools if isinstance(plan, HierarchyPlan) else [plan.pool]
    return [parse_prefix(str(pool)) for pool in pools]


def _enclosing(zone: str, known: Iterable[str]) -> str | None:
    """Return the nearest zone that a name lies in, itself apart."""
    _, _, rest = zone.partition(".")
    while rest and rest != ARPA:
        if rest in known:
            return rest
        _, _, rest = rest.partition(".")
    return None


def _delegation(zone: str, above: str, item: Item | None, options: ExportOptions) -> list[str]:
    label = zone.removesuffix("." + above)
    # Who answers for what was absorbed is the one that took it over.
    fields = (
        {"code": _label(item.into or item.code or item.id), "id": _label(item.id)}
        if item
        else {"code": "pool", "id": "pool"}
    )
    servers = [name.format(**fields) for name in options.delegate_to] or list(options.nameservers)
    about = f"; {item.kind} {item.code or item.id} {item.name} {item.prefix}" if item else ""
    return [_line(about)] * bool(about) + [f"{label}\tNS\t{_dotted(name)}" for name in servers]


def _line(text: str) -> str:
    return re.sub(r"[\x00-\x1f\x7f]+", " ", text)


def _label(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "x"


def _dotted(name: str) -> str:
    return name if name.endswith(".") else f"{name}."


def _zone(zone: str, item: Item | None, records: Sequence[str], serial: int, options: ExportOptions) -> str:
    about = f"{item.kind} {item.code or item.id} {item.name} {item.prefix}" if item else "pool"
    mailbox = options.hostmaster.replace("@", ".", 1)
    out = [
        _line(f"; {about}"),
        f"$ORIGIN {zone}.",
        f"$TTL {options.ttl_s}",
        f"@\tSOA\t{_dotted(options.nameservers[0])} {_dotted(mailbox)} {serial} 7200 3600 1209600 3600",
        *(f"@\tNS\t{_dotted(name)}" for name in options.nameservers),
        *records,
    ]
    return "\n".join(out) + "\n"


def _pointers(plan: Plan, options: ExportOptions) -> list[tuple[int, str]]:
    """Return routers' loopbacks of a county's plan, with their names."""
    if isinstance(plan, HierarchyPlan):
        return []
    domain = options.domain.strip(".")
    return [
        (parse_prefix(r.prefix).value, f"{_label(r.id.removeprefix('loopback:'))}.{domain}.")
        for r in plan.records
        if r.kind == "loopback" and r.state == "active"
    ]


def _check_names(options: ExportOptions) -> None:
    if not options.nameservers:
        raise UnsuitableExportError("reverse-dns", "no name server given", "name at least one with --nameserver")
    for pattern in options.delegate_to:
        try:
            filled = pattern.format(code="410329000000", id="1")
        except (KeyError, IndexError, ValueError):
            filled = ""
        if not _NAME.match(filled):
            raise UnsuitableExportError(
                "reverse-dns", f"--delegate-to {pattern!r} makes no name", "write ns.{code}.example"
            )
    for name in (*options.nameservers, options.hostmaster.replace("@", ".", 1), options.domain):
        if not _NAME.match(name):
            raise UnsuitableExportError("reverse-dns", f"{name!r} is no domain name", "write one like ns1.example")
    if not 0 <= options.serial < 1 << 32:
        raise UnsuitableExportError(
            "reverse-dns", f"serial {options.serial}", "give 1 to 4294967295, above the last one"
        )
