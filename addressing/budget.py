"""The bit budget: how many bits each level of a hierarchy gets, found from the divisions as they are, and why."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import ceil

import numpy as np

from addressing.budgettable import (
    Alternative,
    Budget,
    Kind,
    Remark,
    Row,
    Why,
    Word,
    describe_budget,
    describe_rest,
    level_zh,
    say_percent,
)
from addressing.divisions import Divisions
from addressing.fanouts import POOL, FanOut, Shape, measure
from addressing.ownareas import find_clashes, list_areas, name_level
from addressing.policy import SUBNET_LENGTH, LaidField, Layout, PlanPolicy
from addressing.ratios import NIBBLE, PAINFUL, PRACTICAL_MOST, on_nibble
from addressing.widths import Demand, allowed_widths, grow, search_widths
from inventory.errors import ExtranetError
from inventory.wording import counted


class BudgetRefusedError(ExtranetError):
    """No layout obeys the policy. `budget` shows the least widths that would do, and what each relaxation would give."""

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        todo = "; ".join(a.text("en") for a in budget.alternatives if a.works and a.kind != "known")
        problems = "; ".join(p.text("en") for p in budget.problems)
        super().__init__(f"{', '.join(budget.pools)}: {problems}" + (f" - what would do: {todo}" if todo else ""))


@dataclass(frozen=True)
class _Case:
    """A shape under a policy, made ready for the search."""

    shape: Shape
    policy: PlanPolicy
    demands: tuple[Demand, ...]
    pool_limit: int
    binding: dict[int, str]
    """By index of a demand (-1: the pool), whose own area keeps its prefixes so short."""

    @property
    def pool_length(self) -> int:
        return self.policy.pools[0].prefixlen

    def longest_pool(self) -> int | None:
        """Return the longest pool prefix under which everything fits; None where none does."""
        longest, total = self.pool_limit, 0
        for demand in self.demands:
            widths = allowed_widths(demand, self.policy)
            if not widths:
                return None
            total += widths[0]
            longest = min(longest, demand.limit - total)
        return longest if longest >= 1 else None

    def solve(self, pool_length: int | None = None) -> tuple[int, ...] | None:
        length = self.pool_length if pool_length is None else pool_length
        return search_widths(self.demands, self.policy, length) if length <= self.pool_limit else None

    def works(self) -> bool:
        longest = self.longest_pool()
        return longest is not None and self.pool_length <= longest


def _prepare(shape: Shape, policy: PlanPolicy) -> _Case:
    """Say what each field must hold, and how long its prefixes may be."""
    known = {f.level: f for f in shape.fan_outs}
    top = min(known, default=9)
    for wanted in policy.fields:
        # A level that has no divisions yet keeps the bits the policy gives it, if it lies below one that has.
        if wanted.level > max(top, shape.root_level) and wanted.level not in known and wanted.width != "auto":
            known[wanted.level] = FanOut(wanted.level, 0, 0, "", np.zeros(1, dtype=np.int64))
    levels = sorted(known)
    limits = dict.fromkeys(levels, SUBNET_LENGTH)
    binding: dict[int, str] = {}
    pool_limit = policy.leaf_at_most
    if levels:
        limits[levels[-1]] = policy.leaf_at_most
    for own in list_areas(shape, policy):
        below = [n for n in levels if n > own.level]
        home = own.level or shape.root_level
        reach = max(below[0], shape.deepest.get(home, 0)) if below else own.level
        limit = SUBNET_LENGTH - own.bits
        if reach == POOL:
            if limit < pool_limit:
                pool_limit, binding[-1] = limit, own.what
        elif limit < limits[reach]:
            limits[reach] = limit
            binding[levels.index(reach)] = own.what
    demands = []
    for at, level in enumerate(levels):
        pools = len(policy.pools) if at == 0 else 1
        demands.append(Demand(known[level], policy.field(level), pools, limits[level]))
    return _Case(shape, policy, tuple(demands), pool_limit, binding)


def lay_out(divisions: Divisions, policy: PlanPolicy) -> tuple[Layout, Budget]:
    """Choose the width of every level, and say why.

    Raises:
        BudgetRefusedError: no layout obeys the policy; it says what would.
    """
    return lay_out_shape(measure(divisions, policy), policy)


def lay_out_shape(shape: Shape, policy: PlanPolicy) -> tuple[Layout, Budget]:
    """Do what `lay_out` does, for divisions already measured.

    Raises:
        BudgetRefusedError: no layout obeys the policy; it says what would.
    """
    case = _prepare(shape, policy)
    problems = tuple(find_clashes(shape, policy))
    widths = case.solve()
    if widths is None or problems:
        problems += tuple(_problems(case))
        least = tuple(_least_widths(case))
        others = list(_relaxations(case))
        tried = {a.pool_length for a in others if a.kind == "pool"}
        others += [a for a in _neighbours(case) if a.pool_length not in tried]
        budget = _make_budget(case, least, problems=problems, alternatives=tuple(others))
        raise BudgetRefusedError(budget)
    layout = _make_layout(case, widths)
    return layout, _make_budget(case, widths, alternatives=tuple(_neighbours(case)))


def _lay_widths(case: _Case, widths: Iterable[int]) -> Iterator[tuple[Demand, int, int]]:
    """Yield each field with its width, and with the length that its prefixes then have."""
    length = case.pool_length
    for demand, width in zip(case.demands, widths, strict=True):
        length += width
        yield demand, width, length


def _make_layout(case: _Case, widths: Sequence[int]) -> Layout:
    fields = []
    for demand, width, length in _lay_widths(case, widths):
        wanted = demand.field
        fields.append(
            LaidField(
                level=wanted.level,
                name=wanted.title,
                width=width,
                length=length,
                order=wanted.order,
                reserved=wanted.reserved,
            )
        )
    return Layout(pools=case.policy.pools, fields=tuple(fields), root_level=case.shape.root_level)


def _least_widths(case: _Case) -> Iterator[int]:
    """Yield the widths a refused layout is shown with: those given, else the least within the ceiling."""
    for demand in case.demands:
        given = demand.field.width
        yield demand.least(demand.grown, case.policy.ceiling) if given == "auto" else given


def _make_budget(
    case: _Case,
    widths: Sequence[int],
    *,
    problems: tuple[Remark, ...] = (),
    alternatives: tuple[Alternative, ...] = (),
) -> Budget:
    policy, shape = case.policy, case.shape
    rows = [_root_row(case)] if shape.root_level else []
    for demand, width, length in _lay_widths(case, widths):
        rows.append(_make_row(case, demand, width, length, forced=bool(problems)))
    return Budget(
        pools=tuple(map(str, policy.pools)),
        pool_length=case.pool_length,
        leaf_at_most=policy.leaf_at_most,
        comfortable=policy.comfortable,
        ceiling=policy.ceiling,
        rows=tuple(rows),
        alternatives=alternatives,
        notes=() if problems else tuple(_notes(case, tuple(widths))),
        problems=problems,
    )


def _root_row(case: _Case) -> Row:
    level = case.shape.root_level
    name = name_level(case.policy, case.shape, level)
    length = case.pool_length
    return Row(level, name, 1, 1, "", 0.0, 1, 0, 0, 0, 0, length, 0.0, "comfortable", "pool", parents=1)


def _make_row(case: _Case, demand: Demand, width: int, length: int, *, forced: bool) -> Row:
    policy, wanted, fan_out = case.policy, demand.field, demand.fan_out
    hd = demand.hd(width)
    fits = length <= demand.limit and demand.holds(width, demand.grown, policy.ceiling)
    comfortable = demand.least(demand.grown, policy.comfortable)
    shorter = max(0, width - 1)
    most = _most_children(demand, shorter, policy.ceiling)
    return Row(
        level=wanted.level,
        name=wanted.title,
        count=fan_out.count,
        children=fan_out.most,
        parent=fan_out.most_parent,
        growth=wanted.growth,
        grown=demand.grown,
        reserved=len(wanted.reserved) * demand.pools,
        exact=demand.least(fan_out.most),
        comfortable=comfortable,
        width=width,
        length=length,
        hd=hd,
        word=judge_ratio(hd, policy) if fits else "refused",
        why=_why(demand, width, length, comfortable, forced=forced),
        parents=fan_out.parents,
        crowded=fan_out.more_than(most),
    )


def _most_children(demand: Demand, width: int, ratio: float) -> int:
    """Return the most children, before growth, that a field of this width holds within an HD ratio; -1: not even none."""
    low, high = -1, demand.fan_out.most
    while low < high:
        middle = (low + high + 1) // 2
        if demand.holds(width, grow(middle, demand.field.growth), ratio):
            low = middle
        else:
            high = middle - 1
    return low


def judge_ratio(hd: float, policy: PlanPolicy) -> Word:
    """Say in a word how an HD ratio feels (RFC 3194, 3) under a policy."""
    if hd > policy.ceiling:
        return "refused"
    if hd <= policy.comfortable:
        return "comfortable"
    return "tight" if hd <= PAINFUL else "painful"


def _why(demand: Demand, width: int, length: int, comfortable: int, *, forced: bool) -> Why:
    if demand.field.width != "auto":
        return "given" if demand.fan_out.count else "empty"
    if forced:
        return "least"
    if width < comfortable:
        return "ceiling"
    return "comfortable" if width == comfortable or not on_nibble(length) else "nibble"


def _problems(case: _Case) -> Iterator[Remark]:
    """Yield why no layout obeys the policy."""
    policy = case.policy
    for demand in case.demands:
        width = demand.field.width
        if width != "auto" and not demand.holds(width, demand.grown, policy.ceiling):
            yield _too_narrow(demand, width, policy)
    longest = case.longest_pool()
    if longest is not None and longest >= case.pool_length:
        return
    for at, (demand, _, length) in enumerate(_lay_widths(case, _least_widths(case))):
        if length > demand.limit:
            name = demand.field.title
            total, have = length - case.pool_length, demand.limit - case.pool_length
            kept = case.binding.get(at)
            en = f"{name} prefixes would be /{length}, expected /{demand.limit} at most"
            zh = f"{level_zh(name)}前缀将为 /{length}, 最长只许 /{demand.limit}"
            en += (
                f" (own areas must hold {kept})"
                if kept
                else f" (leaf_at_most): {total} bits needed, the pool leaves {have}"
            )
            zh += f"(自用区须容纳 {kept})" if kept else f"(leaf_at_most): 需 {total} 位, 地址池只剩 {have} 位"
            yield Remark(en, zh)
            return
    if case.pool_length > case.pool_limit:
        kept = case.binding.get(-1, "leaf_at_most")
        yield Remark(
            f"pool /{case.pool_length} is too small, /{case.pool_limit} at most ({kept})",
            f"地址池 /{case.pool_length} 太小, 最长 /{case.pool_limit}({kept})",
        )


def _too_narrow(demand: Demand, width: int, policy: PlanPolicy) -> Remark:
    name, most, used = demand.field.title, demand.fan_out.most, demand.used(demand.grown)
    growth = f"{demand.grown} with growth, " if demand.grown != most else ""
    growth_zh = f"计入增长 {demand.grown}, " if demand.grown != most else ""
    kept = demand.used(0)
    who = f" under {demand.fan_out.most_parent}" if demand.fan_out.most_parent else " under the pool"
    who_zh = f"{demand.fan_out.most_parent or '地址池'}下 "
    size = demand.size(width)
    if used > size:
        state, state_zh = f"do not fit into {size} slots", f"放不进 {size} 个槽位"
    elif max(demand.field.reserved) >= 1 << width:
        state = f"do not fit: reserved slot {max(demand.field.reserved)} lies beyond"
        state_zh = f"放不下: 保留槽位 {max(demand.field.reserved)} 超出范围"
    else:
        hd = say_percent(demand.hd(width))
        state, state_zh = (
            f"just fit: HD {hd}, ceiling {say_percent(policy.ceiling)}",
            f"勉强放下: HD {hd}, 上限 {say_percent(policy.ceiling)}",
        )
    given, plural = counted(width, "bit"), counted(most, name)
    return Remark(
        f"{name} field of {given}: {plural}{who} ({growth}{counted(kept, 'reserved slot')}) {state}",
        f"{level_zh(name)}字段 {width} 位: {who_zh}{most} 个({growth_zh}保留槽位 {kept} 个){state_zh}",
    )


def _relaxations(case: _Case) -> Iterator[Alternative]:
    """Yield what each relaxation alone would give, of those that would do."""
    policy = case.policy
    narrow = [d for d in case.demands if d.field.width != "auto" and not allowed_widths(d, policy)]
    if narrow:
        yield from _wider(case, narrow)
    if case.works():
        return
    longest = case.longest_pool()
    if longest is not None and longest < case.pool_length:
        en, zh = f"a pool of /{longest}", f"/{longest} 的地址池"
        yield _tried(case, "pool", en, zh, longest)
        round_length = longest - longest % NIBBLE
        if round_length != longest and round_length > 0:
            yield _tried(case, "pool", f"a pool of /{round_length}", f"/{round_length} 的地址池", round_length)
    for leaf in range(policy.leaf_at_most + 1, SUBNET_LENGTH + 1):
        other = _prepare(case.shape, policy.altered(leaf_at_most=leaf))
        if other.works():
            yield _tried(other, "leaf", f"leaf_at_most: {leaf}", f"leaf_at_most: {leaf}")
            break
    growth = _least_change(_growths(case), lambda g: _slower(case, g / 100))
    if growth is not None:
        other = _slower(case, growth / 100)
        yield _tried(other, "growth", f"growth: {growth / 100:g} at most", f"growth: 不超过 {growth / 100:g}")
    ceilings = range(int(policy.ceiling * 100) + 1, round(PRACTICAL_MOST * 100) + 1)
    ceiling = _least_change(ceilings, lambda c: _prepare(case.shape, policy.altered(ceiling=c / 100)))
    if ceiling is not None:
        other = _prepare(case.shape, policy.altered(ceiling=ceiling / 100))
        yield _tried(
            other, "ceiling", f"ceiling: {ceiling / 100:g} (not advised)", f"ceiling: {ceiling / 100:g}(不建议)"
        )


def _wider(case: _Case, narrow: Sequence[Demand]) -> Iterator[Alternative]:
    """Yield the fields that are too narrow made as wide as they need be, within this pool or a larger one."""
    policy = case.policy
    levels = {d.field.level for d in narrow}
    fields = tuple(f.altered(width="auto") if f.level in levels else f for f in policy.fields)
    other = _prepare(case.shape, policy.altered(fields=fields))
    longest = other.longest_pool()
    if longest is None:
        return
    length = min(case.pool_length, longest)
    widths = other.solve(length)
    if widths is None:
        return
    by_level = {d.field.level: w for d, w in zip(other.demands, widths, strict=True)}
    pool = f" in a pool of /{length}" if length < case.pool_length else ""
    pool_zh = f", 地址池 /{length}" if pool else ""
    text = " and ".join(f"{d.field.title} width: {by_level[d.field.level]}" for d in narrow)
    zh = "、".join(f"{level_zh(d.field.title)} width: {by_level[d.field.level]}" for d in narrow)
    yield _tried(other, "width", text + pool, zh + pool_zh, length)


def _growths(case: _Case) -> range:
    """Return the growths to try, in per cent, the nearest to the policy's first."""
    most = max((d.field.growth for d in case.demands), default=0.0)
    return range(ceil(most * 100) - 1, -1, -1)


def _slower(case: _Case, growth: float) -> _Case:
    """Return the case with no field growing by more than that."""
    fields = tuple(d.field.altered(growth=min(growth, d.field.growth)) for d in case.demands)
    return _prepare(case.shape, case.policy.altered(fields=fields))


def _least_change(values: range, change: Callable[[int], _Case]) -> int | None:
    """Return the first of the values, each a greater change than the one before, under which everything fits."""
    low, high = 0, len(values)
    while low < high:
        middle = (low + high) // 2
        if change(values[middle]).works():
            high = middle
        else:
            low = middle + 1
    return values[low] if low < len(values) else None


def _tried(case: _Case, kind: Kind, en: str, zh: str, length: int | None = None) -> Alternative:
    """Return an alternative with what it would give."""
    start = case.pool_length if length is None else length
    widths = case.solve(start)
    if widths is None:
        return Alternative(kind, f"{en}: refused", f"{zh}: 不可行", works=False, pool_length=start)
    hds = [d.hd(w) for d, w in zip(case.demands, widths, strict=True)]
    leaf, worst = start + sum(widths), max(hds, default=0.0)
    shown = "+".join(map(str, widths))
    return Alternative(
        kind,
        f"{en} ({shown} bits, leaf /{leaf}, HD {say_percent(worst)} at most)",
        f"{zh}({shown} 位, 末级 /{leaf}, HD 最高 {say_percent(worst)})",
        works=True,
        pool_length=start,
        widths=widths,
        leaf_length=leaf,
        worst_hd=worst,
    )


def _neighbours(case: _Case) -> Iterator[Alternative]:
    """Yield what a pool a digit larger or smaller would give, and the smallest that would do."""
    lengths = {case.pool_length - NIBBLE, case.pool_length + NIBBLE}
    longest = case.longest_pool()
    for length in sorted(n for n in lengths if 1 <= n <= SUBNET_LENGTH):
        size, size_zh = ("larger", "大") if length < case.pool_length else ("smaller", "小")
        en, zh = f"a pool a digit {size}, /{length}", f"{size_zh}一位十六进制的地址池 /{length}"
        yield _tried(case, "known", en, zh, length)
    if longest is not None and longest > case.pool_length + NIBBLE:
        yield _tried(
            case, "known", f"the smallest pool that would do, /{longest}", f"最小可用地址池 /{longest}", longest
        )


def _notes(case: _Case, widths: tuple[int, ...]) -> Iterator[Remark]:
    """Yield what else a planner should know of the layout."""
    leaf_length = case.pool_length + sum(widths)
    spare = case.policy.leaf_at_most - leaf_length
    if spare > 0:
        yield Remark(
            f"{counted(spare, 'bit')} to spare stay in the leaf: /{leaf_length} instead of /{case.policy.leaf_at_most}",
            f"余下 {spare} 位留在末级: /{leaf_length}, 而非 /{case.policy.leaf_at_most}",
        )
    for at, what in sorted(case.binding.items()):
        if at < 0:
            continue
        demand = case.demands[at]
        free = case.policy.leaf_at_most if demand is case.demands[-1] else SUBNET_LENGTH
        freed = [replace(d, limit=free) if d is demand else d for d in case.demands]
        if search_widths(freed, case.policy, case.pool_length) != widths:
            yield Remark(
                f"{demand.field.title} prefixes are kept to /{demand.limit} or shorter by {what}",
                f"因 {what}, {level_zh(demand.field.title)}前缀不得长于 /{demand.limit}",
            )


__all__ = [
    "Budget",
    "BudgetRefusedError",
    "describe_budget",
    "describe_rest",
    "judge_ratio",
    "lay_out",
    "lay_out_shape",
]
