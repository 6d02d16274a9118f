"""Which part of a plan an export is about: everything, what lies under one division, one level."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from addressing.entries import Entry, Plan, find_pool_row, list_entries, list_infrastructure
from addressing.exports.options import ExportOptions, NothingToExportError, NotInPlanError
from addressing.hierarchy import STATES, HierarchyPlan
from addressing.model import AddressPlan
from addressing.policy import LEVEL_NAMES
from addressing.text import Prefix

COUNTY_LEVELS = {"town": 4, "site": 5}
"""Kinds of a county plan's records that have a level of the national division codes."""
_NEAR = 3


class Item(NamedTuple):
    """One prefix of an export: an entry, its level (0: none) and what people call its parent (a code or identity).

    `above` is the identity of its parent today, `home` of the entry its prefix was taken from; `into` the code of what
    absorbed it.
    """

    id: str
    prefix: Prefix
    kind: str
    name: str
    code: str
    above: str
    parent: str
    home: str
    zone: str
    state: str
    level: int
    into: str


def level_titles(plan: HierarchyPlan) -> dict[int, str]:
    """Return the names of a hierarchy's levels, highest first, the pool's own among them."""
    titles = {level: field.name for level, field in plan.layout.by_level.items()}
    root = plan.layout.root_level
    return dict(sorted(titles.items() | ({(root, LEVEL_NAMES.get(root, f"level {root}"))} if root else set())))


def list_items(plan: Plan, options: ExportOptions, name: str) -> list[Item]:
    """Return what was asked for, in the plan's order; NothingToExportError when that is nothing."""
    if isinstance(plan, AddressPlan):
        items = _county_items(plan, options)
    else:
        items = list(_division_items(plan, options, choose_rows(plan, options, name)))
    if not items:
        raise NothingToExportError(name, "nothing of the plan was asked for", options)
    return items


def choose_rows(plan: HierarchyPlan, options: ExportOptions, name: str) -> NDArray[np.int64]:
    """Return the rows under `options.under` (itself included) of `options.level`, ascending.

    Administrative parents of today decide, not homes.
    """
    chosen = np.ones(len(plan), dtype=bool)
    if options.under:
        chosen = _descendants(plan, _find_row(plan, options.under))
    if options.level:
        chosen &= plan.levels == read_level(plan, options.level)
    rows = np.flatnonzero(chosen)
    if not rows.size:
        raise NothingToExportError(name, "nothing of the plan was asked for", options)
    return rows


def read_level(plan: HierarchyPlan, text: str) -> int:
    """Return a level by its number or name."""
    titles = level_titles(plan)
    for level, title in titles.items():
        if text in {str(level), title}:
            return level
    known = ", ".join(f"{level} {title}" for level, title in titles.items())
    raise NotInPlanError("--level", text, (), f"it has {known}")


def find_division(plan: HierarchyPlan, text: str) -> int:
    """Return the row of an active division by its code or name; NotInPlanError names near ones."""
    return _find_row(plan, text)


def _find_row(plan: HierarchyPlan, text: str) -> int:
    if text in plan.row_of:
        return plan.row_of[text]
    named = [row for row, name in enumerate(plan.names) if name == text and plan.states[row] == 0]
    if len(named) == 1:
        return named[0]
    if named:
        raise NotInPlanError("--under", text, [plan.codes[row] for row in named[:_NEAR]], "")
    near: list[str] = []
    for shared in (6, 4, 2):
        near = near or [code for code in plan.row_of if len(text) > shared and code.startswith(text[:shared])][:_NEAR]
    near += [name for name in plan.names if text in name][: _NEAR - len(near)]
    raise NotInPlanError("--under", text, near, "give a division's code or name; list them with --format csv")


def _descendants(plan: HierarchyPlan, root: int) -> NDArray[np.bool_]:
    chosen = np.zeros(len(plan), dtype=bool)
    chosen[root] = True
    # A parent's level is always higher, so one pass from the top reaches everything.
    for level in np.unique(plan.levels[plan.levels > plan.levels[root]]):
        rows = np.flatnonzero(plan.levels == level)
        above = plan.row_of_id[plan.parents[rows]]
        chosen[rows] |= (plan.parents[rows] > 0) & (above >= 0) & chosen[above]
    return chosen


def _division_items(plan: HierarchyPlan, options: ExportOptions, rows: NDArray[np.int64]) -> Iterator[Item]:
    titles = level_titles(plan)
    classes, templates = plan.policy.classes, plan.policy.templates
    at = plan.row_of_id
    pool_row = find_pool_row(plan)
    if options.subnets and pool_row < 0 and not options.under and not options.level:
        yield from _infrastructure_items(plan, options, "", "")
    for row in rows.tolist():
        level, code, state = int(plan.levels[row]), plan.codes[row], STATES[plan.states[row]]
        above, home, into = int(plan.parents[row]), int(plan.homes[row]), int(plan.intos[row])
        kind = titles.get(level, LEVEL_NAMES.get(level, f"level {level}"))
        item = Item(
            id=str(plan.ids[row]),
            prefix=Prefix(6, *plan.prefix(row)),
            kind=kind,
            name=plan.names[row],
            code=code,
            above=str(above) if above else "",
            parent=plan.codes[at[above]] if above else "",
            home=str(home) if home else "",
            zone="",
            state=state,
            level=level,
            into=plan.codes[at[into]] if into else "",
        )
        yield item
        if options.subnets and row == pool_row:
            yield from _infrastructure_items(plan, options, item.id, code)
        if options.subnets and state == "active":
            for part in templates.get(classes.get(code, kind), ()):
                yield item._replace(
                    id=f"{item.id}/{part.name}",
                    prefix=Prefix(6, item.prefix.value | part.slot << (128 - part.length), part.length),
                    kind="subnet",
                    name=part.name,
                    above=item.id,
                    parent=code,
                    home=item.id,
                    zone=part.zone,
                    level=0,
                )


def _infrastructure_items(plan: HierarchyPlan, options: ExportOptions, identity: str, code: str) -> Iterator[Item]:
    """Yield what routers are numbered from; the locators lie outside of the pool, under nobody and in no level."""
    for name, zone, block in list_infrastructure(plan):
        if name == "srv6" and (options.under or options.level):
            continue
        above, parent = ("", "") if name == "srv6" else (identity, code)
        yield Item(
            id=f"infrastructure/{name}",
            prefix=Prefix(6, int(block.network_address), block.prefixlen),
            kind="infrastructure",
            name=name,
            code="",
            above=above,
            parent=parent,
            home=above,
            zone=zone,
            state="active",
            level=0,
            into="",
        )


def _county_items(plan: AddressPlan, options: ExportOptions) -> list[Item]:
    entries = list(list_entries(plan))
    chosen = {e.id for e in entries}
    if options.under:
        chosen = _under_entries(entries, options.under)
    if options.level:
        kinds = _kinds_of(entries, options.level)
        chosen &= {e.id for e in entries if e.kind in kinds}
    return [
        Item(
            id=e.id,
            prefix=e.prefix,
            kind=e.kind,
            name=e.name,
            code=e.code,
            above=e.parent,
            parent=e.parent,
            home=e.parent,
            zone=e.zone,
            state=e.state,
            level=COUNTY_LEVELS.get(e.kind, 0),
            into="",
        )
        for e in entries
        if e.id in chosen
    ]


def _own_name(entry: Entry) -> str:
    """Return the plane, town, site, device or circuit that an identity is about: `town:TOWN@PLANE` is TOWN."""
    return entry.id.partition(":")[2].partition("@")[0]


def _under_entries(entries: list[Entry], text: str) -> set[str]:
    chosen = {e.id for e in entries if text in {e.id, e.zone, _own_name(e)}}
    if not chosen:
        near = sorted({_own_name(e) for e in entries if _own_name(e).startswith(text[:3])})[:_NEAR]
        raise NotInPlanError("--under", text, near, "give a plane, a town, a site or an identity of the plan")
    below: dict[str, list[str]] = {}
    for entry in entries:
        below.setdefault(entry.parent, []).append(entry.id)
    open_ = list(chosen)
    while open_:
        fresh = [child for child in below.get(open_.pop(), ()) if child not in chosen]
        chosen.update(fresh)
        open_ += fresh
    return chosen


def _kinds_of(entries: list[Entry], text: str) -> set[str]:
    kinds = {e.kind for e in entries}
    wanted = {kind for kind in kinds if text in {kind, str(COUNTY_LEVELS.get(kind, ""))}}
    if not wanted:
        raise NotInPlanError("--level", text, (), f"a county's plan has {', '.join(sorted(kinds))}")
    return wanted
