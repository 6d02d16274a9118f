"""Looking ahead: where borders can move, how long each level lasts, and what a change of plans would do.

Nothing here changes a plan. Whatever was ever given counts as taken: active, absorbed and quarantined slots alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from math import floor, log
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from addressing.budget import Budget, BudgetRefusedError, lay_out, lay_out_shape
from addressing.budgettable import say_percent
from addressing.divisions import Divisions
from addressing.fanouts import Shape, label, measure
from addressing.hierarchy import ABSORBED, ACTIVE, QUARANTINED, STATES, HierarchyPlan, plan_divisions
from addressing.ownareas import span_part
from addressing.policy import LEVEL_NAMES, SUBNET_LENGTH, LaidField, Layout, PlanPolicy
from addressing.policyfile import replace_pool
from addressing.ratios import hd_ratio, most_within
from addressing.text import format_prefix
from addressing.widths import grow
from inventory.errors import ExtranetError, UnknownNameError
from inventory.wording import counted

Side = Literal["left", "right"]
_SHOWN = 20
"""So many blockers are named; all are counted."""
_FULLEST = 5
_FAMILY_DIGITS = 6
"""A code that is not there is most likely a neighbour's: near matches are looked for under the same six digits."""


# ------------------------------------------------------------------------------------------------------------- borders


@dataclass(frozen=True)
class Blocker:
    """A division (or a part of a site, or a reserved slot) that stands where a border would go."""

    code: str
    name: str
    prefix: str
    slot: int
    state: str

    def __str__(self) -> str:
        who = f"{self.code} {self.name}".strip()
        return f"{who} ({self.prefix}, slot {self.slot}, {self.state})"


@dataclass(frozen=True)
class BorderVerdict:
    """Whether a border can move by one bit without moving anybody. `count` blockers, the first of them named."""

    subject: str
    side: Side
    possible: bool
    reason: str
    count: int = 0
    blockers: tuple[Blocker, ...] = ()

    def __str__(self) -> str:
        verdict = "yes" if self.possible else "no"
        who = "".join(f"; {b}" for b in self.blockers)
        more = f"; and {self.count - len(self.blockers)} more" if self.count > len(self.blockers) else ""
        return f"{self.subject}, one bit to the {self.side}: {verdict} - {self.reason}{who}{more}"

    def as_json(self) -> dict[str, Any]:
        """Return it for machines."""
        return {
            "subject": self.subject,
            "side": self.side,
            "possible": self.possible,
            "reason": self.reason,
            "count": self.count,
            "blockers": [b.__dict__ for b in self.blockers],
        }


def judge_border(plan: HierarchyPlan, code_or_level: str | int, side: Side) -> BorderVerdict:
    """Judge whether a border can move by one bit, nobody being renumbered (RFC 3531, 3).

    Of a level: its field takes a bit from the field above (left: every parent's block doubles) or from what lies below
    (right: every block of the level halves, twice as many fit). Of a division: its own block doubles (left), or the field
    of its children takes a bit from what lies below it, under this division alone (right).

    Raises:
        UnknownNameError: no such level or active division.
    """
    if isinstance(code_or_level, int):
        return _judge_level(plan, code_or_level, side)
    by_title = {f.name: f.level for f in plan.layout.fields}
    by_title |= {LEVEL_NAMES[n]: n for n in plan.layout.by_level if n in LEVEL_NAMES and LEVEL_NAMES[n] not in by_title}
    if code_or_level in by_title:
        return _judge_level(plan, by_title[code_or_level], side)
    row = _find_row(plan, code_or_level, list(by_title))
    return _double_block(plan, row) if side == "left" else _widen_below(plan, row)


def _find_row(plan: HierarchyPlan, code: str, levels: list[str]) -> int:
    for row in (r for r, c in enumerate(plan.codes) if c == code):
        if plan.states[row] == ACTIVE:
            return row
    near = [c for c in plan.codes if c[:_FAMILY_DIGITS] == code[:_FAMILY_DIGITS]]
    known = get_close_matches(code, near[:1000], 3) + levels
    raise UnknownNameError("division or level", code, known, where="the plan", see="extranet plan check")


def _judge_level(plan: HierarchyPlan, level: int, side: Side) -> BorderVerdict:
    fields = list(plan.layout.fields)
    places = [n for n, f in enumerate(fields) if f.level == level]
    if not places:
        known = [str(f.level) for f in fields]
        raise UnknownNameError("level", str(level), known, where="the plan", see="extranet plan budget")
    at = places[0]
    field = fields[at]
    subject = f"{field.name} field"
    if side == "right":
        return _take_from_below(plan, field, fields[at + 1 : at + 2], None, subject)
    if at == 0:
        return _larger_pool(plan, subject)
    upper = fields[at - 1]
    gain = f"{counted(field.width, 'bit')} become {field.width + 1}; every {upper.name}'s block doubles"
    if upper.width == 0:
        return BorderVerdict(subject, "left", possible=False, reason=f"the {upper.name} field has no bit to give")
    rows = np.flatnonzero(plan.levels == upper.level)
    pair = plan.slots[rows] >> np.uint64(1)
    odd = (plan.slots[rows] & np.uint64(1)).astype(bool)
    # Slot 0 is always in use: the parent's own, and what skips a level under it. Other reserved slots are kept likewise.
    kept = np.array([r ^ 1 for r in upper.reserved], dtype=np.uint64)
    mask = np.uint64((1 << upper.width) - 1)
    beside_kept = np.isin(plan.slots[rows] & mask, kept)
    order = np.lexsort((pair, plan.homes[rows]))
    same = np.zeros(rows.size, dtype=bool)
    if rows.size > 1:
        home, two = plan.homes[rows][order], pair[order]
        both = (home[1:] == home[:-1]) & (two[1:] == two[:-1])
        same[order[1:]] |= both
        same[order[:-1]] |= both
    found = rows[(same & odd) | beside_kept]
    if found.size:
        reason = f"{counted(found.size, upper.name)} stand in the other half of a pair of slots"
        return BorderVerdict(
            subject, "left", possible=False, reason=reason, count=found.size, blockers=_name(plan, found)
        )
    return BorderVerdict(subject, "left", possible=True, reason=f"{gain}; nobody is renumbered")


def _double_block(plan: HierarchyPlan, row: int) -> BorderVerdict:
    """Judge whether a division's block can take in its buddy, the other half of the block one bit larger."""
    subject = _subject(plan, row)
    level = int(plan.levels[row])
    if level == plan.layout.root_level:
        return _larger_pool(plan, subject)
    field = plan.layout.by_level[level]
    if field.width == 0:
        return BorderVerdict(subject, "left", possible=False, reason=f"the {field.name} field has no bit to give")
    slot = int(plan.slots[row])
    buddy = slot ^ 1
    value, length = plan.prefix(row)
    side_bit = 1 << (128 - length)
    beside = format_prefix(value ^ side_bit, length)
    taken = np.flatnonzero((plan.homes == plan.homes[row]) & (plan.levels == level) & (plan.slots == np.uint64(buddy)))
    if taken.size:
        reason = f"slot {buddy} beside it is taken"
        return BorderVerdict(subject, "left", possible=False, reason=reason, count=1, blockers=_name(plan, taken))
    within = buddy & ((1 << field.width) - 1)
    if within in field.reserved:
        whose = "the division's above, its own" if within == 0 else "reserved by the policy"
        kept = Blocker("", "", beside, within, "reserved")
        reason = f"slot {within} beside it is {whose}"
        return BorderVerdict(subject, "left", possible=False, reason=reason, count=1, blockers=(kept,))
    larger = format_prefix(value & ~side_bit, length - 1)
    reason = f"{format_prefix(value, length)} becomes {larger}: slot {buddy} ({beside}) is free; nobody is renumbered"
    return BorderVerdict(subject, "left", possible=True, reason=reason)


def _widen_below(plan: HierarchyPlan, row: int) -> BorderVerdict:
    """Judge whether twice as many children fit into a division, each half as large."""
    subject = _subject(plan, row)
    fields = [f for f in plan.layout.fields if f.level > int(plan.levels[row])]
    if not fields:
        return BorderVerdict(subject, "right", possible=False, reason="there is no level below it")
    return _take_from_below(plan, fields[0], fields[1:2], row, subject)


def _take_from_below(
    plan: HierarchyPlan, field: LaidField, below: Sequence[LaidField], row: int | None, subject: str
) -> BorderVerdict:
    """Judge whether a field can take the first bit of the one below, or of the leaf; under one division, or everywhere."""
    where = "" if row is None else f" under {plan.codes[row]}"
    gain = f"{counted(field.width, 'bit')} become {field.width + 1}{where}; every {field.name}'s block halves"
    if not below:
        return _take_from_leaf(plan, field, subject, gain)
    lower = below[0]
    if lower.width == 0:
        return BorderVerdict(subject, "right", possible=False, reason=f"the {lower.name} field has no bit to give")
    half = 1 << (lower.width - 1)
    upper_half = (plan.levels == lower.level) & ((plan.slots & np.uint64((1 << lower.width) - 1)) >= np.uint64(half))
    if row is not None:
        value, length = plan.prefix(row)
        low = value >> 64
        high = low + (1 << (SUBNET_LENGTH - length)) - 1
        upper_half &= (plan.high >= np.uint64(low)) & (plan.high <= np.uint64(high))
    found = np.flatnonzero(upper_half)
    kept = tuple(Blocker("", "", f"every {field.name}", r, "reserved") for r in lower.reserved if r >= half)
    if found.size or kept:
        reason = (
            f"{counted(int(found.size) + len(kept), f'{lower.name} slot')} in the upper half of the {lower.name} field"
        )
        shown = (_name(plan, found) + kept)[:_SHOWN]
        return BorderVerdict(
            subject, "right", possible=False, reason=reason, count=int(found.size) + len(kept), blockers=shown
        )
    return BorderVerdict(subject, "right", possible=True, reason=f"{gain}; nobody is renumbered")


def _take_from_leaf(plan: HierarchyPlan, field: LaidField, subject: str, gain: str) -> BorderVerdict:
    length = field.length + 1
    if length > plan.policy.leaf_at_most:
        reason = f"{field.name} prefixes would be /{length}, longer than leaf_at_most /{plan.policy.leaf_at_most}"
        return BorderVerdict(subject, "right", possible=False, reason=reason)
    end = 1 << (SUBNET_LENGTH - length)
    names = {field.name, *plan.policy.classes.values()} & plan.policy.templates.keys()
    parts = [(n, p) for n in sorted(names) for p in plan.policy.templates[n] if span_part(p)[1] >= end]
    if parts:
        shown = tuple(Blocker("", f"{n}: {p.name}", f"every {field.name}", p.slot, "template") for n, p in parts)
        reason = f"{counted(len(parts), 'part')} of site templates in the upper half"
        return BorderVerdict(subject, "right", possible=False, reason=reason, count=len(parts), blockers=shown[:_SHOWN])
    return BorderVerdict(subject, "right", possible=True, reason=f"{gain} (to /{length}); nobody is renumbered")


def _larger_pool(plan: HierarchyPlan, subject: str) -> BorderVerdict:
    pool = plan.layout.pools[0]
    wanted = pool.supernet() if pool.prefixlen else pool
    inside = [p for p in plan.layout.pools[1:] if p.overlaps(wanted)]
    if inside:
        reason = f"{wanted} already holds the pool {inside[0]} as well"
    else:
        reason = f"the pool itself would have to become {wanted}: ask for it; nobody would be renumbered"
    return BorderVerdict(subject, "left", possible=False, reason=reason)


def _subject(plan: HierarchyPlan, row: int) -> str:
    return f"{plan.codes[row]} {plan.names[row]}".strip()


def _name(plan: HierarchyPlan, rows: NDArray[np.int64]) -> tuple[Blocker, ...]:
    """Name the first of some rows."""
    return tuple(
        Blocker(
            plan.codes[r], plan.names[r], format_prefix(*plan.prefix(r)), int(plan.slots[r]), STATES[plan.states[r]]
        )
        for r in rows[:_SHOWN].tolist()
    )


# ------------------------------------------------------------------------------------------------------------ forecast


@dataclass(frozen=True)
class ParentOutlook:
    """How one parent's field stands. `used` slots count reserved and quarantined ones.

    `to_ceiling` more children fit until the policy's HD ceiling (negative: it is over), `to_full` until no slot is left.
    `growth` is the share of its active children that this is; `times` how often it can grow by what the policy expects.
    """

    code: str
    name: str
    active: int
    used: int
    size: int
    hd: float
    to_ceiling: int
    to_full: int
    growth: float
    times: int


@dataclass(frozen=True)
class LevelOutlook:
    """How one level stands: slots by what became of them, under all parents that there are, and the fullest of these.

    `short` parents cannot grow as the policy expects without going over the ceiling.
    """

    level: int
    name: str
    width: int
    parents: int
    slots: int
    active: int
    quarantined: int
    absorbed: int
    reserved: int
    free: int
    short: int
    fullest: tuple[ParentOutlook, ...]

    def as_json(self) -> dict[str, Any]:
        """Return it for machines."""
        return {**self.__dict__, "fullest": [{**p.__dict__, "hd": round(p.hd, 4)} for p in self.fullest]}


@dataclass(frozen=True)
class Forecast:
    """How a plan stands, level by level, highest first."""

    levels: tuple[LevelOutlook, ...]

    def as_json(self) -> list[dict[str, Any]]:
        """Return it for machines."""
        return [level.as_json() for level in self.levels]

    def lines(self) -> list[str]:
        """Return it for people, a line a level."""
        out = []
        for level in self.levels:
            worst = level.fullest[0] if level.fullest else None
            who = f"{worst.code} {worst.name}".strip() or "the pool" if worst else ""
            tail = (
                f"; fullest {who}: {worst.used} of {worst.size} (HD {say_percent(worst.hd)}), "
                f"{worst.to_ceiling} more until the ceiling (growth of {say_percent(worst.growth)})"
                if worst
                else ""
            )
            gone = f", {level.quarantined} quarantined" if level.quarantined else ""
            gone += f", {level.absorbed} absorbed" if level.absorbed else ""
            out.append(
                f"{level.name}: {level.active} in use{gone}, {level.reserved} reserved, {level.free} free slots under "
                f"{counted(level.parents, 'parent')}; {level.short} cannot grow as expected{tail}"
            )
        return out


def forecast(plan: HierarchyPlan) -> Forecast:
    """Return how full each level is, and how many more divisions fit where it is fullest."""
    return Forecast(tuple(_forecast_level(plan, field) for field in plan.layout.fields))


def _forecast_level(plan: HierarchyPlan, field: LaidField) -> LevelOutlook:
    layout = plan.layout
    top = field is layout.fields[0]
    pools = len(layout.pools) if top else 1
    size, kept = pools << field.width, pools * len(field.reserved)
    rows = np.flatnonzero(plan.levels == field.level)
    homes = plan.homes[rows]
    length = int(plan.ids.max(initial=0)) + 1
    states = {s: np.bincount(homes[plan.states[rows] == s], minlength=length) for s in range(len(STATES))}
    given = sum(states.values(), np.zeros(length, dtype=np.int64))
    parents = _possible_parents(plan, field, homes)
    used = given[parents] + kept
    active = states[ACTIVE][parents]
    ceiling = most_within(size, plan.policy.ceiling)
    expected = np.array([grow(int(n), plan.policy.field(field.level).growth) - int(n) for n in np.unique(active)])
    more = expected[np.searchsorted(np.unique(active), active)] if active.size else active
    fullest = np.argsort(-used, kind="stable")[:_FULLEST]
    return LevelOutlook(
        level=field.level,
        name=field.name,
        width=field.width,
        parents=parents.size,
        slots=size * parents.size,
        active=int((plan.states[rows] == ACTIVE).sum()),
        quarantined=int((plan.states[rows] == QUARANTINED).sum()),
        absorbed=int((plan.states[rows] == ABSORBED).sum()),
        reserved=kept * parents.size,
        free=int((size - used).sum()),
        short=int((used + more > ceiling).sum()),
        fullest=tuple(
            _parent_outlook(plan, field, int(parents[i]), active=int(active[i]), used=int(used[i]), size=size)
            for i in fullest.tolist()
        ),
    )


def _possible_parents(plan: HierarchyPlan, field: LaidField, homes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return identities that have a field of this level, or could: those of the level above, and whoever has children."""
    layout = plan.layout
    at = layout.fields.index(field)
    upper = layout.fields[at - 1].level if at else layout.root_level
    if not upper:
        return np.array([0], dtype=np.int64)
    above = plan.ids[(plan.levels == upper) & (plan.states != QUARANTINED)]
    return np.union1d(above, homes)


def _parent_outlook(
    plan: HierarchyPlan, field: LaidField, parent: int, *, active: int, used: int, size: int
) -> ParentOutlook:
    row = int(plan.row_of_id[parent]) if parent else -1
    code, name = (plan.codes[row], plan.names[row]) if row >= 0 else ("", "")
    to_ceiling = most_within(size, plan.policy.ceiling) - used
    growth = to_ceiling / active if active else 0.0
    expected = plan.policy.field(field.level).growth
    times = floor(log(1 + growth) / log(1 + expected) + 1e-9) if expected > 0 and growth > 0 else 0
    return ParentOutlook(code, name, active, used, size, hd_ratio(used, size), to_ceiling, size - used, growth, times)


# ------------------------------------------------------------------------------------------------------------- what if


@dataclass(frozen=True)
class Question:
    """What would change: more children under a division, growth times a factor, another pool, or one more pool."""

    parent: str = ""
    more: int = 0
    growth_times: float = 1.0
    pool: str = ""
    another_pool: str = ""

    def __str__(self) -> str:
        parts = [f"{self.more} more under {self.parent}"] if self.more else []
        parts += [f"growth {self.growth_times:g} times as high"] if self.growth_times != 1.0 else []
        parts += [f"pool {self.pool}"] if self.pool else []
        parts += [f"one more pool, {self.another_pool}"] if self.another_pool else []
        return ", ".join(parts)


class QuestionError(ExtranetError):
    """A what-if that cannot be understood."""

    def __init__(self, text: str) -> None:
        super().__init__(
            f"--what-if {text}: expected CODE+N (N more under a division), growth*F, pool=PREFIX or add-pool=PREFIX"
        )


def parse_question(text: str) -> Question:
    """Read a what-if as people type it: `410329000000+1`, `growth*2`, `pool=3fff::/36`, `add-pool=3fff::/36`."""
    key, sign, value = text.partition("=")
    if sign and value and key.strip() in {"pool", "add-pool"}:
        return Question(pool=value.strip()) if key.strip() == "pool" else Question(another_pool=value.strip())
    try:
        if text.startswith("growth*"):
            times = float(text.removeprefix("growth*"))
            if 0 <= times <= 1000:
                return Question(growth_times=times)
        code, plus, number = text.rpartition("+")
        if plus and code.strip() and int(number) > 0:
            return Question(parent=code.strip(), more=int(number))
    except ValueError:
        pass
    raise QuestionError(text)


@dataclass(frozen=True)
class WhatIf:
    """What a change would do: `carried` by the layout as it is (then nobody moves), and what a fresh layout would be.

    `moved` of `divisions` would be renumbered to take the fresh layout. `after` is the fresh budget, or the refused one.
    """

    question: str
    carried: bool
    within: bool
    moved: int
    divisions: int
    before: Budget
    after: Budget
    refusal: str

    @property
    def sentence(self) -> str:
        """Say it."""
        widths = "+".join(str(r.width) for r in self.after.rows if r.why != "pool")
        if self.refusal:
            fresh = f"a fresh layout: refused, {self.refusal}"
        elif not self.moved:
            fresh = "a fresh layout would be the same"
        else:
            fresh = f"a fresh layout ({widths} bits) would move {self.moved} of {self.divisions}"
        if self.carried:
            pain = "" if self.within else ", though above the ceiling"
            return f"{self.question}: 0 move, the layout as it is carries it{pain}; {fresh}"
        return f"{self.question}: the layout as it is does not carry it; {fresh}"

    def as_json(self) -> dict[str, Any]:
        """Return it for machines."""
        return {
            "question": self.question,
            "carried": self.carried,
            "within_ceiling": self.within,
            "moved_now": 0 if self.carried else self.moved,
            "moved_by_fresh_layout": self.moved,
            "divisions": self.divisions,
            "refusal": self.refusal,
            "sentence": self.sentence,
            "after": self.after.as_json(),
        }


def what_if(divisions: Divisions, policy: PlanPolicy, question: Question, *, layout: Layout | None = None) -> WhatIf:
    """Solve again with one thing changed and compare: who would move, by the layout as it is and by a fresh one.

    `layout` is the one in use; without it, the one that the policy gives today.

    Raises:
        BudgetRefusedError: even as things are, no layout obeys the policy.
        UnknownNameError: no such division.
        ExtranetError: a pool that is none, or a division with nothing below.
    """
    shape = measure(divisions, policy)
    solved, before = lay_out(divisions, policy)
    current = layout or solved
    changed_shape = _with_children(divisions, shape, question) if question.more else shape
    changed_policy = _with_policy(policy, shape, question)
    kept = current
    if question.another_pool:
        kept = current.altered(pools=(*current.pools, changed_policy.pools[-1]))
    same_pools = kept.pools == changed_policy.pools
    carried, within = _carries(kept, changed_shape, changed_policy) if same_pools else (False, False)
    moved, refusal = 0, ""
    try:
        fresh, after = lay_out_shape(changed_shape, changed_policy)
    except BudgetRefusedError as error:
        after, refusal = error.budget, "; ".join(p.en for p in error.budget.problems)
    else:
        moved = _count_moved(divisions, policy, current, fresh)
    return WhatIf(str(question), carried, within, moved, len(divisions), before, after, refusal)


def _with_policy(policy: PlanPolicy, shape: Shape, question: Question) -> PlanPolicy:
    if question.growth_times != 1.0:
        levels = sorted({f.level for f in policy.fields} | {f.level for f in shape.fan_outs})
        fields = tuple(policy.field(n) for n in levels)
        most = 100.0
        policy = policy.altered(
            fields=tuple(f.altered(growth=min(most, round(f.growth * question.growth_times, 9))) for f in fields)
        )
    if question.pool:
        policy = replace_pool(policy, question.pool)
    if question.another_pool:
        added = replace_pool(policy, question.another_pool).pools[0]
        first = policy.pools[0]
        if added.prefixlen != first.prefixlen or any(added.overlaps(p) for p in policy.pools):
            raise ExtranetError(
                f"add-pool={added}: expected a block of /{first.prefixlen} that overlaps none of "
                f"{', '.join(map(str, policy.pools))}; take the next one beside them"
            )
        policy = policy.altered(pools=(*policy.pools, added))
    return policy


def _with_children(divisions: Divisions, shape: Shape, question: Question) -> Shape:
    """Return the shape with more children under one division, of the level its children have (or the next)."""
    row = divisions.row_of.get(question.parent)
    if row is None:
        near = [c for c in divisions.codes if c[:_FAMILY_DIGITS] == question.parent[:_FAMILY_DIGITS]][:1000]
        raise UnknownNameError("division", question.parent, near, where="the divisions", see="--divisions FILE")
    children = np.flatnonzero(divisions.parents == row)
    own = int(divisions.levels[row])
    lower = [f.level for f in shape.fan_outs if f.level > own]
    if children.size:
        level = int(divisions.levels[children].min())
    elif lower:
        level = min(lower)
    else:
        raise ExtranetError(f"{label(divisions, row)}: no level lies below it; name a division higher up")
    count = int((divisions.levels[children] == level).sum())
    fan_outs = tuple(
        f.added(count, question.more, label(divisions, row)) if f.level == level else f for f in shape.fan_outs
    )
    return replace(shape, fan_outs=fan_outs)


def _carries(layout: Layout, shape: Shape, policy: PlanPolicy) -> tuple[bool, bool]:
    """Tell whether a layout has the slots for a shape as it is, and whether its growth stays within the ceiling."""
    carried = within = True
    for found in shape.fan_outs:
        laid = layout.by_level.get(found.level)
        if laid is None:
            return False, False
        pools = len(layout.pools) if laid is layout.fields[0] else 1
        size, kept = pools << laid.width, pools * len(laid.reserved)
        grown = kept + grow(found.most, policy.field(found.level).growth)
        carried &= kept + found.most <= size
        within &= grown <= size and hd_ratio(grown, size) <= policy.ceiling
    return carried, within


def _count_moved(divisions: Divisions, policy: PlanPolicy, before: Layout, after: Layout) -> int:
    """Return how many divisions have another prefix under another layout."""
    if before == after:
        return 0
    one, other = plan_divisions(divisions, policy, before), plan_divisions(divisions, policy, after)
    return int(((one.high != other.high) | (one.lengths != other.lengths)).sum())


__all__ = [
    "BorderVerdict",
    "Forecast",
    "Question",
    "WhatIf",
    "forecast",
    "judge_border",
    "parse_question",
    "what_if",
]
