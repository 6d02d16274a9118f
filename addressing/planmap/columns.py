"""A plan's blocks in the order of their addresses, packed for the page: columns of bytes, deflated.

Every block is a 128-bit value with a length; IPv4 is written as its mapped IPv6 (RFC 4291, 2.5.5.2), so that one order
and one search serve both.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from ipaddress import IPv6Network

import numpy as np
from numpy.typing import NDArray

from addressing.entries import Plan, list_entries, list_infrastructure
from addressing.hierarchy import ACTIVE, STATES, HierarchyPlan
from addressing.model import AddressPlan
from addressing.plan import PLANE_BITS, SITE_BITS, TOWN_BITS
from addressing.policy import LEVEL_NAMES, SUBNET_LENGTH
from addressing.text import Prefix, parse_prefix

MAPPED = 0xFFFF << 32
_COMPARED = 48
"""Bytes of a code that are compared with the one before."""


@dataclass(frozen=True)
class Blocks:
    """Blocks in address order, the wider first; columns of one length.

    `depths` how many blocks lie around it; `kinds` an index into `kind_names`, `states` into STATES, `templates` into
    `template_parts` (0: none). `answered` maps a row to the one that is its administrative parent or absorbed it.
    `fields` are (prefix length, width, reserved slots) of the plan's fields.
    """

    high: NDArray[np.uint64]
    low: NDArray[np.uint64]
    lengths: NDArray[np.uint8]
    depths: NDArray[np.uint8]
    kinds: NDArray[np.uint8]
    states: NDArray[np.uint8]
    templates: NDArray[np.uint8]
    names: list[str]
    codes: list[str]
    kind_names: list[str]
    template_parts: list[list[tuple[str, str, int, int]]]
    fields: list[tuple[int, int, tuple[int, ...]]]
    answered: dict[int, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.names)

    def pack(self) -> tuple[list[tuple[str, int]], bytes]:
        """Return (name and bytes of every column, all of them deflated): numbers by byte plane, as differences."""
        shared, rests = _front_coded([_one_line(c) for c in self.codes])
        columns = {
            "high": _planes(self.high),
            "low": _planes(self.low) if self.low.any() else b"",
            "length": self.lengths.tobytes(),
            "depth": self.depths.tobytes(),
            "kind": self.kinds.tobytes(),
            "state": self.states.tobytes(),
            "template": self.templates.tobytes(),
            "name": "\n".join(_one_line(n) for n in self.names).encode("utf-8", "replace"),
            "shared": shared,
            "code": rests,
        }
        return [(k, len(v)) for k, v in columns.items()], zlib.compress(b"".join(columns.values()), 6)


def list_blocks(plan: Plan) -> Blocks:
    """Return a plan's blocks, its pools and the routers' own areas among them."""
    return _county_blocks(plan) if isinstance(plan, AddressPlan) else _division_blocks(plan)


def _county_blocks(plan: AddressPlan) -> Blocks:
    entries = list(list_entries(plan))
    pools = [parse_prefix(p) for p in (plan.pool, plan.ipv4_pool, plan.ipv4_link_pool)]
    infra = next((e.prefix for e in entries if e.kind == "infra"), None)
    areas = [("pool", p) for p in pools]
    if infra is not None and infra.length <= SUBNET_LENGTH - 1:
        # As addressing.plan lays them: the first /64 holds the loopbacks, the second the links.
        areas += [(kind, Prefix(6, infra.value + (n << 64), 64)) for n, kind in enumerate(("loopbacks", "links"))]
    prefixes = [p for _, p in areas] + [e.prefix for e in entries]
    kinds = [kind for kind, _ in areas] + [e.kind for e in entries]
    states = [ACTIVE] * len(areas) + [STATES.index(e.state) for e in entries]
    start = pools[0].length
    steps = ((start + PLANE_BITS, PLANE_BITS), (start + PLANE_BITS + TOWN_BITS, TOWN_BITS))
    fields = [*steps, (start + PLANE_BITS + TOWN_BITS + SITE_BITS, SITE_BITS)]
    values = [p.value | MAPPED if p.version == 4 else p.value for p in prefixes]
    lengths = [p.length + 96 if p.version == 4 else p.length for p in prefixes]
    return _sorted_blocks(
        high=np.array([v >> 64 for v in values], dtype=np.uint64),
        low=np.array([v & ((1 << 64) - 1) for v in values], dtype=np.uint64),
        lengths=np.array(lengths, dtype=np.uint8),
        kinds=kinds,
        states=np.array(states, dtype=np.uint8),
        templates=np.zeros(len(values), dtype=np.uint8),
        # The page has words for infrastructure in both languages.
        names=[""] * len(areas) + ["" if e.kind == "infra" else e.name for e in entries],
        codes=[""] * len(areas) + [e.id for e in entries],
        template_parts=[[]],
        fields=[(length, width, ()) for length, width in fields],
    )


def _division_blocks(plan: HierarchyPlan) -> Blocks:
    layout, policy = plan.layout, plan.policy
    titles = {level: f.name for level, f in layout.by_level.items()}
    level_kinds = [titles.get(n, LEVEL_NAMES.get(n, f"level {n}")) for n in range(int(plan.levels.max(initial=0)) + 1)]
    kinds = [level_kinds[n] for n in plan.levels.tolist()]
    areas = _areas(plan)
    names = sorted(policy.templates)
    parts: list[list[tuple[str, str, int, int]]] = [[]]
    parts += [[(s.name, s.zone, s.slot, s.length) for s in policy.templates[name]] for name in names]
    number = {name: n for n, name in enumerate(names, start=1)}
    classes = policy.classes
    by_kind = {kind: number.get(kind, 0) for kind in set(kinds)}
    templates = [
        number.get(classes[code], 0) if code in classes else by_kind[kind]
        for code, kind in zip(plan.codes, kinds, strict=True)
    ]
    first = np.array([int(p.network_address) >> 64 for _, p in areas], dtype=np.uint64)
    high = np.r_[first, plan.high]
    lengths = np.r_[np.array([p.prefixlen for _, p in areas], dtype=np.uint8), plan.lengths]
    extra, zeros = len(areas), np.zeros(len(areas), dtype=np.uint8)
    elsewhere = np.flatnonzero((plan.parents != plan.homes) & (plan.parents > 0) & (plan.states == ACTIVE))
    answered = {int(r): int(plan.parents[r]) for r in elsewhere}
    answered |= {int(r): int(plan.intos[r]) for r in np.flatnonzero(plan.intos > 0)}
    known = plan.row_of_id
    return _sorted_blocks(
        high=high,
        low=np.zeros(high.size, dtype=np.uint64),
        lengths=lengths,
        kinds=[kind for kind, _ in areas] + kinds,
        states=np.r_[zeros, plan.states.astype(np.uint8)],
        templates=np.r_[zeros, np.array(templates, dtype=np.uint8)],
        names=[""] * extra + plan.names,
        codes=[""] * extra + plan.codes,
        template_parts=parts,
        fields=[(f.length, f.width, f.reserved) for f in layout.fields],
        answered={
            row + extra: int(known[identity]) + extra
            for row, identity in answered.items()
            if identity < known.size and known[identity] >= 0
        },
    )


def _areas(plan: HierarchyPlan) -> list[tuple[str, IPv6Network]]:
    """Return (kind, block) of what no division has a row for: pools, and the routers' areas in the first pool."""
    wholes = {int(h) << 64 for h in plan.high[plan.lengths == plan.layout.pool_length]}
    areas = [("pool", p) for p in plan.layout.pools if int(p.network_address) not in wholes]
    areas += [(kind, net) for kind, _, net in list_infrastructure(plan) if net.prefixlen <= SUBNET_LENGTH]
    return areas


def _sorted_blocks(
    *,
    high: NDArray[np.uint64],
    low: NDArray[np.uint64],
    lengths: NDArray[np.uint8],
    kinds: list[str],
    states: NDArray[np.uint8],
    templates: NDArray[np.uint8],
    names: list[str],
    codes: list[str],
    template_parts: list[list[tuple[str, str, int, int]]],
    fields: list[tuple[int, int, tuple[int, ...]]],
    answered: dict[int, int] | None = None,
) -> Blocks:
    order = np.lexsort((lengths, low, high))
    rows = order.tolist()
    kind_names = sorted(set(kinds))
    number = {kind: n for n, kind in enumerate(kind_names)}
    kind_column = np.array([number[kinds[r]] for r in rows], dtype=np.uint8)
    place = np.empty(order.size, dtype=np.int64)
    place[order] = np.arange(order.size)
    high, low, lengths = high[order], low[order], lengths[order]
    return Blocks(
        high=high,
        low=low,
        lengths=lengths,
        depths=_depths(high, low, lengths, kind_column),
        kinds=kind_column,
        states=states[order],
        templates=templates[order],
        names=[names[r] for r in rows],
        codes=[codes[r] for r in rows],
        kind_names=kind_names,
        template_parts=template_parts,
        fields=fields,
        answered={int(place[a]): int(place[b]) for a, b in sorted((answered or {}).items())},
    )


def _depths(
    high: NDArray[np.uint64], low: NDArray[np.uint64], lengths: NDArray[np.uint8], kinds: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    """Return how many blocks lie around each. Two of one kind that share a prefix lie beside each other."""
    firsts, lasts = high.tolist(), (high | _ones(64 - np.minimum(lengths, 64).astype(np.uint64))).tolist()
    if (lengths > SUBNET_LENGTH).any():
        ends = (low | _ones(128 - np.maximum(lengths, 64).astype(np.uint64))).tolist()
        firsts = [h << 64 | lo for h, lo in zip(firsts, low.tolist(), strict=True)]
        lasts = [h << 64 | lo for h, lo in zip(lasts, ends, strict=True)]
    out = bytearray(lengths.size)
    around: list[tuple[int, int, int]] = []
    for row, block in enumerate(zip(lasts, firsts, kinds.tolist(), strict=True)):
        while around and block[1] > around[-1][0]:
            around.pop()
        if around and around[-1] == block:
            around.pop()
        out[row] = len(around)
        around.append(block)
    return np.frombuffer(bytes(out), dtype=np.uint8)


def _ones(bits: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return numbers whose lowest `bits` (0 to 64) bits are set."""
    return np.where(bits > 0, ~np.uint64(0) >> (np.uint64(64) - np.maximum(bits, 1)), np.uint64(0))


def _planes(values: NDArray[np.uint64]) -> bytes:
    """Return eight planes, the highest byte's first, each as differences modulo 256: neighbours differ little."""
    planes = values.astype(">u8").view(np.uint8).reshape(-1, 8).T
    return np.diff(planes, axis=1, prepend=np.uint8(0)).tobytes()


def _front_coded(texts: Sequence[str]) -> tuple[bytes, bytes]:
    """Return (how many bytes each shares with the one before, a byte each; the rest of each, a line each)."""
    lines = [text.encode("utf-8", "replace") for text in texts]
    heads = np.array([line[:_COMPARED] for line in lines], dtype=f"S{_COMPARED}").view(np.uint8).reshape(-1, _COMPARED)
    differs = np.ones((len(lines), _COMPARED + 1), dtype=bool)
    differs[1:, :_COMPARED] = heads[1:] != heads[:-1]
    sizes = np.minimum([len(line) for line in lines], _COMPARED)
    shared = np.minimum(differs.argmax(axis=1), sizes)
    shared[1:] = np.minimum(shared[1:], sizes[:-1])
    shared[:1] = 0
    rests = [line[same:] for line, same in zip(lines, shared.tolist(), strict=True)]
    return shared.astype(np.uint8).tobytes(), b"\n".join(rests)


def _one_line(text: str) -> str:
    return text if text.isprintable() else "".join(c if c.isprintable() else " " for c in text)
