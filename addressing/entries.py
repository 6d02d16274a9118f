"""Any plan as one row of entries, for whatever reads plans: exports, lint, explanations, the map."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv6Network
from typing import NamedTuple

import numpy as np

from addressing.hierarchy import ACTIVE, STATES, HierarchyPlan
from addressing.model import AddressPlan
from addressing.policy import LEVEL_NAMES, SUBNET_LENGTH
from addressing.text import Prefix, parse_prefix

Plan = AddressPlan | HierarchyPlan


class Entry(NamedTuple):
    """One prefix of a plan. `id` is its identity, `parent` that of the entry it was taken from (empty: the pool).

    `kind` is a division's level (`town`), `subnet`, `infrastructure`, or a county plan's kind (`lan`, `loopback`); `code`
    the division's code, if it has one; `zone` what a subnet or plane is for; `state` active, quarantined or absorbed.
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
    """Yield a plan's entries in its own order; with `subnets`, each active division's site template after it.

    The routers' own /64s and the SRv6 locators are subnets too: they follow the row that is the pool, or come first.
    """
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


def list_infrastructure(plan: HierarchyPlan) -> Iterator[tuple[str, str, IPv6Network]]:
    """Yield (name, zone, block) of what routers are numbered from: /64s of the first pool, and the SRv6 locators."""
    pool, parts = plan.layout.pools[0], plan.policy.infrastructure
    if pool not in plan.policy.pools:
        return
    for name, number in parts.subnets.items():
        if pool.prefixlen < SUBNET_LENGTH and number < 1 << (SUBNET_LENGTH - pool.prefixlen):
            zone = "management" if name == "management" else "infrastructure"
            yield name, zone, IPv6Network((int(pool.network_address) + (number << 64), SUBNET_LENGTH))
    if parts.srv6 is not None:
        yield "srv6", "infrastructure", parts.srv6


def find_pool_row(plan: HierarchyPlan) -> int:
    """Return the row of the active division that is the pool itself; -1 when there is none."""
    root = plan.layout.root_level
    rows = np.flatnonzero((plan.levels == root) & (plan.states == ACTIVE) & bool(root))
    return int(rows[0]) if rows.size else -1


def _infrastructure_entries(plan: HierarchyPlan, parent: str) -> Iterator[Entry]:
    for name, zone, block in list_infrastructure(plan):
        prefix = Prefix(6, int(block.network_address), block.prefixlen)
        above = "" if name == "srv6" else parent
        yield Entry(f"infrastructure/{name}", prefix, "infrastructure", name, "", above, zone, "active")


def _division_entries(plan: HierarchyPlan, *, subnets: bool) -> Iterator[Entry]:
    titles = {level: f.name for level, f in plan.layout.by_level.items()}
    pool_row = find_pool_row(plan)
    if subnets and pool_row < 0:
        yield from _infrastructure_entries(plan, "")
    for row in range(len(plan)):
        value, length = plan.prefix(row)
        level, identity, code = int(plan.levels[row]), str(plan.ids[row]), plan.codes[row]
        kind, state = titles.get(level, LEVEL_NAMES.get(level, f"level {level}")), STATES[plan.states[row]]
        home = int(plan.homes[row])
        yield Entry(
            identity, Prefix(6, value, length), kind, plan.names[row], code, str(home) if home else "", "", state
        )
        if subnets and row == pool_row:
            yield from _infrastructure_entries(plan, identity)
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


__all__ = ["SUBNET_LENGTH", "Entry", "Plan", "find_pool_row", "list_entries", "list_infrastructure"]
