"""What the pool and every division keep at the start of their blocks: routers' own /64s, and site templates.

The area is slot 0 of the field below: slot 0 of a deeper one where children skip levels, for their towns then share the
slots above; and the whole leaf where there is nothing below.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from addressing.budgettable import Remark
from addressing.fanouts import POOL, Shape
from addressing.policy import LEVEL_NAMES, SUBNET_LENGTH, PlanPolicy, Subnet


class OwnArea(NamedTuple):
    """What one level (0: the pool) keeps for itself: bits of /64s, and what reaches furthest."""

    level: int
    bits: int
    what: str


def span_part(part: Subnet) -> tuple[int, int]:
    """Return first and last /64 of a part of a site, counted from the site's start."""
    size = 1 << (SUBNET_LENGTH - part.length)
    return part.slot * size, (part.slot + 1) * size - 1


def name_level(policy: PlanPolicy, shape: Shape, level: int) -> str:
    """Return the name under which a level's template is kept: its field's, and the usual one for the root."""
    return LEVEL_NAMES.get(level, f"level {level}") if level == shape.root_level else policy.field(level).title


def list_areas(shape: Shape, policy: PlanPolicy) -> Iterator[OwnArea]:
    """Yield what the pool and each level keep. A root's site lies in the pool's own area."""
    routers = policy.infrastructure.subnets
    ends = {POOL: max((number, f"infrastructure.{name}") for name, number in routers.items())}
    levels = [n for n in (shape.root_level, *(f.level for f in shape.fan_outs)) if n != POOL]
    for level in levels:
        at = POOL if level == shape.root_level else level
        for name in _templates(shape, policy, level):
            for part in policy.templates[name]:
                reach = (span_part(part)[1], f"template {name!r}, part {part.name!r}")
                ends[at] = max(ends.get(at, (-1, "")), reach)
    for level, (last, what) in ends.items():
        yield OwnArea(level, last.bit_length(), what)


def _templates(shape: Shape, policy: PlanPolicy, level: int) -> list[str]:
    """Return the templates in use in a level; a single root with an access class has only that one's."""
    names = set(shape.classes.get(level, ()))
    if not names or level != shape.root_level:
        names.add(name_level(policy, shape, level))
    return sorted(names & policy.templates.keys())


def find_clashes(shape: Shape, policy: PlanPolicy) -> Iterator[Remark]:
    """Yield where a root's site template lies on the routers' own /64s: both start where the pool does."""
    for name in _templates(shape, policy, shape.root_level) if shape.root_level else ():
        for part in policy.templates[name]:
            first, last = span_part(part)
            for kind, at in policy.infrastructure.subnets.items():
                if first <= at <= last:
                    yield Remark(
                        f"template {name!r}, part {part.name!r} lies on infrastructure.{kind}, /64 number {at} of the "
                        "pool's own area; give one of them another number",
                        f"模板 {name!r} 的 {part.name!r} 与 infrastructure.{kind}(池自用区第 {at} 个 /64)重叠; "
                        "请改其中一个的编号",
                    )
