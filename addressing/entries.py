"""Any plan as one row of entries, for whatever reads plans: exports, lint, explanations, the map."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from addressing.hierarchy import STATES, HierarchyPlan
from addressing.model import AddressPlan
from addressing.policy import LEVEL_NAMES, SUBNET_LENGTH
from addressing.text import Prefix, parse_prefix

Plan = AddressPlan | HierarchyPlan


class Entry(NamedTuple):
    """One prefix of a plan. `id` is its identity, `parent` that of the entry it was taken from (empty: the pool).

    `kind` is a division's level (`town`), `subnet`, or a county plan's kind (`lan`, `loopback`); `code` the division's
    code, if it has one; `zone` what a subnet or plane is for; `state` active, quarantined or absorbed.
    """

    id: str
    prefix: Prefix
    kind: str
    name: str
    code: str
    parent: str
    zone: str
    state: str


def list_entries(plan: Plan, *, subnets: bool = False) -> Iterator[Entry]:
    """Yield a plan's entries in its own order; with `subnets`, each active division's site template after it."""
    if isinstance(plan, AddressPlan):
        yield from _county_entries(plan)
    else:
        yield from _division_entries(plan, subnets=subnets)


def _county_entries(plan: AddressPlan) -> Iterator[Entry]:
    for record in plan.records:
        _, _, tail = record.id.partition(":")
        zone = tail.partition("@")[2] or (tail if record.kind == "plane" else "")
        parent = "" if record.parent == "pool" else record.parent
        yield Entry(record.id, parse_prefix(record.prefix), record.kind, record.name, "", parent, zone, record.state)


def _division_entries(plan: HierarchyPlan, *, subnets: bool) -> Iterator[Entry]:
    titles = {level: f.name for level, f in plan.layout.by_level.items()}
    for row in range(len(plan)):
        value, length = plan.prefix(row)
        level, identity, code = int(plan.levels[row]), str(plan.ids[row]), plan.codes[row]
        kind, state = titles.get(level, LEVEL_NAMES.get(level, f"level {level}")), STATES[plan.states[row]]
        home = int(plan.homes[row])
        yield Entry(
            identity, Prefix(6, value, length), kind, plan.names[row], code, str(home) if home else "", "", state
        )
        if subnets and state == "active":
            template = plan.policy.templates.get(plan.policy.classes.get(code, kind), ())
            for part in template:
                # A site's own area starts where its prefix does: slot 0 of every field below belongs to it.
                start = value | part.slot << (128 - part.length)
                yield Entry(
                    f"{identity}/{part.name}",
                    Prefix(6, start, part.length),
                    "subnet",
                    part.name,
                    code,
                    identity,
                    part.zone,
                    state,
                )


__all__ = ["SUBNET_LENGTH", "Entry", "Plan", "list_entries"]
