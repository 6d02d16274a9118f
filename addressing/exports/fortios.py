"""A plan for FortiOS: an IPv6 address template, which is a layout of named fields, and address objects.

Syntax by the CLI reference of FortiOS 6.2 to 8.0, `config firewall address6-template`: 1 to 6 segments of 1 to 16 bits,
with named values; values in binary, `0b0101`, as the vendor's own FortiManager example writes them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from addressing.entries import Plan
from addressing.exports.options import ExportOptions, UnsuitableExportError
from addressing.exports.selection import Item, find_division, list_items, read_level
from addressing.hierarchy import ACTIVE, HierarchyPlan
from addressing.model import AddressPlan
from addressing.policy import SUBNET_LENGTH
from addressing.text import Prefix, parse_prefix
from inventory.wording import counted

SEGMENTS, SEGMENT_BITS, NAME_LENGTH = 6, 16, 63
_SITE_LAN = "subnet"


class Segment(NamedTuple):
    """One field of the template: its name, its width, its values by name."""

    name: str
    bits: int
    values: dict[str, int]


def write_fortios(plan: Plan, options: ExportOptions) -> str:
    """Return the template below the pool or the division `--under`, and an address of every plane or division.

    Values are named where one number means one thing everywhere in the template: planes, a county plan's towns, the
    children of the template's own division. A village's number means another village in every town, so it has no name.
    """
    if isinstance(plan, AddressPlan):
        name, prefix, segments = "extranet", parse_prefix(plan.pool), _county_segments(plan)
        kinds = {"plane", "town"} if not options.level else None
        chosen = list_items(plan, options, "fortios")
        items = [i for i in chosen if i.prefix.version == 6 and (kinds is None or i.kind in kinds)]
    else:
        name, prefix, segments, items = _division_template(plan, options)
    if len(segments) > SEGMENTS:
        raise UnsuitableExportError(
            "fortios",
            f"{counted(len(segments), 'field')}, a template has at most {SEGMENTS}",
            "name a lower division with --under",
        )
    for segment in segments:
        if segment.bits > SEGMENT_BITS:
            raise UnsuitableExportError(
                "fortios",
                f"field {segment.name} has {segment.bits} bits, a segment at most {SEGMENT_BITS}",
                "name a lower division with --under",
            )
    live = [i for i in items if i.state != "quarantined"]
    return _template(name, prefix, segments) + _addresses(live)


def _county_segments(plan: AddressPlan) -> list[Segment]:
    """Return the county plan's fields: plane, town and site, each as wide as the records' lengths say, and the subnet."""
    fields: list[Segment] = []
    length = parse_prefix(plan.pool).length
    for kind in ("plane", "town", "site"):
        records = [r for r in plan.records if r.kind == kind]
        if not records:
            raise UnsuitableExportError(
                "fortios", f"the plan has no {kind}", "plan again with 'extranet plan addresses'"
            )
        below = parse_prefix(records[0].prefix).length
        # Plane and town have one number for one thing everywhere; a site's is its own in every town.
        values = {
            r.id.partition(":")[2].partition("@")[0]: r.slot or 0
            for r in records
            if kind != "site" and r.state == "active"
        }
        fields.append(Segment(kind, below - length, values))
        length = below
    return [*fields, *_rest(length, len(fields))]


def _rest(length: int, used: int) -> list[Segment]:
    """Return segments for what is left up to /64; none where a template has no room for them: hosts' part then."""
    bits = SUBNET_LENGTH - length
    if not bits:
        return []
    number = -(-bits // SEGMENT_BITS)
    widths = [bits // number + (n < bits % number) for n in range(number)]
    names = [_SITE_LAN] if number == 1 else [f"{_SITE_LAN}-{n}" for n in range(1, number + 1)]
    return (
        [Segment(name, width, {}) for name, width in zip(names, widths, strict=True)]
        if used + number <= SEGMENTS
        else []
    )


def _division_template(plan: HierarchyPlan, options: ExportOptions) -> tuple[str, Prefix, list[Segment], list[Item]]:
    layout = plan.layout
    if options.under:
        row = find_division(plan, options.under)
        name, top, level, above = (
            plan.codes[row],
            Prefix(6, *plan.prefix(row)),
            int(plan.levels[row]),
            int(plan.ids[row]),
        )
    elif len(layout.pools) > 1:
        raise UnsuitableExportError(
            "fortios", "the plan has several pools, a template one prefix", "name a division with --under"
        )
    else:
        name, top, level, above = "extranet", parse_prefix(str(layout.pools[0])), layout.root_level, 0
        roots = np.flatnonzero((plan.levels == level) & (plan.states == ACTIVE))
        above = int(plan.ids[roots[0]]) if level and roots.size else 0
    fields = [f for f in layout.fields if f.length > top.length and f.level > level]
    segments: list[Segment] = []
    length = top.length
    for number, field in enumerate(fields):
        values = _child_values(plan, above, field.level, (1 << field.width) - 1) if not number else {}
        segments.append(Segment(field.name, field.length - length, values))
        length = field.length
    segments += _rest(length, len(segments))
    if not segments:
        raise UnsuitableExportError("fortios", f"{name} has no field below it", "name a higher division with --under")
    wanted = options.level or (str(fields[0].level) if fields else "")
    if wanted:
        read_level(plan, wanted)
    chosen = ExportOptions(under=options.under, level=wanted)
    return name, top, segments, list_items(plan, chosen, "fortios") if wanted else []


def _child_values(plan: HierarchyPlan, above: int, level: int, mask: int) -> dict[str, int]:
    """Return the slots of the children numbered under `above`, by name (with the code where a name comes twice)."""
    rows = np.flatnonzero((plan.homes == above) & (plan.levels == level) & (plan.states == ACTIVE)).tolist()
    names = [plan.names[r] for r in rows]
    twice = {n for n in names if names.count(n) > 1}
    return {
        (f"{plan.codes[r]} {name}" if name in twice or not name else name): int(plan.slots[r]) & mask
        for r, name in zip(rows, names, strict=True)
    }


def _quoted(text: str) -> str:
    """Return a FortiOS name in quotes: its own limit in characters, without what quotes cannot hold."""
    plain = re.sub(r"[\x00-\x1f\x7f\"\\<>()#']", " ", text).strip()[:NAME_LENGTH]
    return f'"{plain}"'


def _template(name: str, prefix: Prefix, segments: Iterable[Segment]) -> str:
    segments = list(segments)
    out = ["config firewall address6-template", f"    edit {_quoted('plan-' + name)}", f"        set ip6 {prefix}"]
    out += [f"        set subnet-segment-count {len(segments)}", "        config subnet-segment"]
    for number, segment in enumerate(segments, 1):
        out += [f"            edit {number}", f"                set name {_quoted(segment.name)}"]
        out.append(f"                set bits {segment.bits}")
        # Not exclusive: slot 0 is the division's own, and has no name here.
        out.append("                set exclusive disable")
        if segment.values:
            out.append("                config values")
            for value, slot in sorted(segment.values.items(), key=lambda pair: pair[1]):
                out += [
                    f"                    edit {_quoted(value)}",
                    f'                        set value "0b{slot:0{segment.bits}b}"',
                ]
                out.append("                    next")
            out.append("                end")
        out.append("            next")
    return "\n".join([*out, "        end", "    next", "end"]) + "\n"


def _addresses(items: Iterable[Item]) -> str:
    out = ["config firewall address6"]
    used: set[str] = set()
    for item in items:
        name = item.code or item.id
        if name in used:
            name = f"{name} {item.id}"
        used.add(name)
        about = " ".join(p for p in (item.kind, item.name) if p)
        out += [
            f"    edit {_quoted(name)}",
            f"        set ip6 {item.prefix}",
            f"        set comment {_quoted(about)}",
            "    next",
        ]
    return "\n".join([*out, "end"]) + "\n" if used else ""


__all__ = ["NAME_LENGTH", "SEGMENTS", "SEGMENT_BITS", "Segment", "write_fortios"]
