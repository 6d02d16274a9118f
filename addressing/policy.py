"""What a planner decides about a hierarchy of divisions, and the layout that follows: the types.

An address is a row of fields below the pool: one field a level of the divisions, widest first, then whatever a leaf
holds inside. Slot 0 of every field belongs to the division above itself (its own offices, or children that skip a
level), so ragged trees need no exception.

    pool /P ─ level a (w bits) ─ level b (w bits) ─ ... ─ leaf /L ─ the site template: subnets, /64 each at last
"""

from __future__ import annotations

from functools import cached_property
from ipaddress import IPv6Network
from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from addressing.orders import Order
from inventory.model import Model

LEVEL_NAMES = {1: "province", 2: "city", 3: "county", 4: "town", 5: "village"}
"""Levels of the national statistics' division codes, and the names their fields get."""

SUBNET_LENGTH = 64
_LAST = (1 << SUBNET_LENGTH) - 1
"""No block has a /64 of a higher number."""

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Zone = Literal["public", "dedicated", "internet", "shared", "management"]


class LevelField(Model):
    """One field of the plan: how the divisions of one level are numbered under their parent."""

    level: int = Field(ge=1, le=9, description="level of the divisions it numbers, 1 province to 5 village")
    name: str = Field("", description="name of the field; the level's usual name if empty")
    width: int | Literal["auto"] = Field("auto", description="bits, or auto: solved from fan-out, growth and HD ratio")
    order: Order = Field("centre", description="order of RFC 3531 in which slots are given out")
    reserved: tuple[int, ...] = Field((0,), description="slots never given to a division; 0 is the parent's own")
    growth: float = Field(
        0.15, ge=0.0, le=100.0, description="share of more divisions to expect: 0.15 is 15 in a hundred more"
    )

    @property
    def title(self) -> str:
        """Return the field's name."""
        return self.name or LEVEL_NAMES.get(self.level, f"level {self.level}")

    @model_validator(mode="after")
    def _zero_is_kept(self) -> Self:
        if 0 not in self.reserved:
            raise ValueError(f"{self.title}: slot 0 must stay reserved, it is the division's own above it; add 0")
        return self


class Subnet(Model):
    """One named part of a site: `slot` counts parts of this `length` from the site's first address."""

    name: str = Field(description="what it is for, in the department's words")
    zone: Zone = Field(description="public, dedicated, internet, shared or management")
    slot: int = Field(ge=0, description="which part of that length, from 0")
    length: int = Field(SUBNET_LENGTH, ge=1, le=SUBNET_LENGTH, description="prefix length of the part")

    @model_validator(mode="after")
    def _exists(self) -> Self:
        if self.slot >= 1 << self.length:
            raise ValueError(f"slot {self.slot} does not exist: there are 2**{self.length} parts of /{self.length}")
        return self


class Infrastructure(Model):
    """Where routers are numbered: parts of the pool's own slot 0, apart from every user."""

    loopbacks: int = Field(
        0, ge=0, le=_LAST, description="which /64 of the pool's own area holds the loopbacks, /128 each"
    )
    links: int = Field(1, ge=0, le=_LAST, description="which /64 holds the links, /127 each (RFC 6164)")
    management: int = Field(2, ge=0, le=_LAST, description="which /64 holds the routers' management")
    srv6: IPv6Network | None = Field(None, description="SRv6 locators' block, apart from user space (RFC 9602)")

    @property
    def subnets(self) -> dict[str, int]:
        """Return which /64 of the pool's own area is for what."""
        return {"loopbacks": self.loopbacks, "links": self.links, "management": self.management}


class PlanPolicy(Model):
    """Everything a planner decides. Fields are given by level, highest first."""

    pools: tuple[IPv6Network, ...] = Field(min_length=1, description="blocks to divide, all of one length, in order")
    fields: tuple[LevelField, ...] = Field((), description="one a level; levels left out are planned automatically")
    leaf_at_most: int = Field(
        56, ge=1, le=64, description="longest prefix a division may get (RFC 6177: more than a /64)"
    )
    comfortable: Share = Field(0.80, description="HD ratio (RFC 3194) up to which a field is comfortable")
    ceiling: Share = Field(0.85, description="HD ratio above which a field is refused")
    templates: dict[str, tuple[Subnet, ...]] = Field(
        default_factory=dict, description="what a site holds, by level name or access class"
    )
    classes: dict[str, str] = Field(
        default_factory=dict, description="access class (a template's name) by division code"
    )
    infrastructure: Infrastructure = Field(default_factory=Infrastructure)
    production: bool = Field(
        default=False, description="a plan to be used: documentation and deprecated blocks refused"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        lengths = sorted({p.prefixlen for p in self.pools})
        if len(lengths) > 1:
            raise ValueError(f"pools: expected one length, found /{', /'.join(map(str, lengths))}; split the larger")
        ordered = sorted(self.pools)
        if any(a.overlaps(b) for a, b in pairwise(ordered)):
            raise ValueError("pools: one lies in another; name each block once")
        levels = [f.level for f in self.fields]
        if levels != sorted(set(levels)):
            raise ValueError("fields: expected each level once, highest first (1 before 2)")
        if self.comfortable > self.ceiling:
            raise ValueError(f"comfortable {self.comfortable} is above ceiling {self.ceiling}; lower it")
        if lengths[0] > self.leaf_at_most:
            raise ValueError(f"pool /{lengths[0]} is longer than leaf_at_most /{self.leaf_at_most}; raise one")
        return self

    def field(self, level: int) -> LevelField:
        """Return a level's field, the default one where the policy names none."""
        return next((f for f in self.fields if f.level == level), LevelField(level=level))


class LaidField(Model):
    """A field with its place: divisions of `level` have prefixes of `length`, the last `width` bits their slot."""

    level: int = Field(ge=1, le=9)
    name: str
    width: int = Field(ge=0, le=SUBNET_LENGTH)
    length: int = Field(ge=1, le=SUBNET_LENGTH)
    order: Order
    reserved: tuple[int, ...]

    @model_validator(mode="after")
    def _slots_exist(self) -> Self:
        if any(not 0 <= slot < 1 << self.width for slot in self.reserved):
            raise ValueError(f"{self.name}: expected reserved slots of {self.width} bits")
        return self

    @property
    def shift(self) -> int:
        """Bits between the field's right border and bit 64."""
        return SUBNET_LENGTH - self.length


class Layout(Model):
    """The solved layout: pools and fields, highest level first. `root_level` is the level that is the pool itself (0: none)."""

    pools: tuple[IPv6Network, ...] = Field(min_length=1)
    fields: tuple[LaidField, ...]
    root_level: int = Field(0, ge=0, le=9)

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        length, level = self.pools[0].prefixlen, 0
        if not 1 <= length <= SUBNET_LENGTH or any(p.prefixlen != length for p in self.pools):
            raise ValueError(f"pools: expected one length of /1 to /{SUBNET_LENGTH}")
        for field in self.fields:
            if field.level <= level:
                raise ValueError(f"fields: level {field.level} stands below level {level}")
            if field.length != length + field.width:
                raise ValueError(f"fields: {field.width} bits after /{length} do not end at /{field.length}")
            length, level = field.length, field.level
        return self

    @cached_property
    def by_level(self) -> dict[int, LaidField]:
        """Fields by level."""
        return {f.level: f for f in self.fields}

    @property
    def pool_length(self) -> int:
        """Prefix length of every pool."""
        return self.pools[0].prefixlen

    def length(self, level: int) -> int:
        """Return the prefix length of a level's divisions; KeyError when the layout has no such level."""
        return self.pool_length if level == self.root_level else self.by_level[level].length

    def fits(self, policy: PlanPolicy) -> bool:
        """Tell whether this layout is what a policy would still lay: the same pools first, the same orders and widths."""
        same = self.pools == policy.pools[: len(self.pools)]
        for laid in self.fields:
            wanted = policy.field(laid.level)
            same &= laid.order == wanted.order and wanted.width in {"auto", laid.width}
        return same
