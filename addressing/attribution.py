"""Say of an address whose it is: its place, plane and purpose; one by one, in bulk, or all those of a log.

Prefixes nest or are apart, never half over one another, so they flatten into segments that are apart: the innermost
prefix of an address is one binary search away. In bulk what bounds it is memory: a search over 1.3 million segments
waits for the cache, not for the arithmetic.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from itertools import repeat
from socket import AF_INET, AF_INET6, inet_pton
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from addressing.entries import Plan
from addressing.hierarchy import ABSORBED, QUARANTINED, HierarchyPlan
from addressing.model import AddressPlan, Record
from addressing.policy import LEVEL_NAMES, SUBNET_LENGTH, LaidField
from addressing.text import Prefix, format_address, format_prefix, parse_prefix
from inventory.model import County
from inventory.topology import build_topology

State = Literal["active", "absorbed", "quarantined", "reserved", "free", "outside"]
IN_USE: frozenset[State] = frozenset({"active", "absorbed"})
"""States in which an address may be in use."""
Lang = Literal["en", "zh"]

_HALF = 64
_LOW = (1 << _HALF) - 1
_ANYCAST_FROM = 0xFFFF_FFFF_FFFF_FF7F
"""From here to the end of a /64: reserved subnet anycast (RFC 2526), or too near for a /127 (RFC 6164 5)."""
_MAPPED = 0xFFFF << 32
_DEEPEST = 16
"""Levels a path has at most; a damaged plan may have a loop."""
_FEW, _BLOCK = 1 << 12, 1 << 18
"""From so many keys on sorting pays; and how many to sort at once."""
_MEMORY = 1 << 17
"""Addresses of a log whose explanation is kept; then forgotten all at once."""

_PHRASES: dict[Lang, dict[str, str]] = {
    "en": {
        "outside": "outside the plan",
        "pool": "in the pool {pool}, given to nobody",
        "slot": "{field} {slot}: given to nobody",
        "kept": "{field} {slot}: reserved",
        "quarantined": "quarantined: was {name}'s, must not be in use",
        "absorbed": "was {name}'s, now answered for by {into}",
        "gateway": "gateway",
        "gateway-of": "gateway {router}",
        "station": "station {name}",
        "server": "server {name}",
        "host": "host {number}",
        "machine": "a machine of its own address",
        "router-anycast": "all routers of the subnet (subnet-router anycast)",
        "anycast": "reserved anycast identifier",
        "network": "the subnet's own number",
        "loopback": "loopback of {device}",
        "loopbacks": "loopbacks",
        "links": "links",
        "management": "routers' management",
        "srv6": "SRv6 locators",
        "link": "link {circuit}, {end} end",
        "link-of": "link {circuit}, end of {device} {interface}",
        "hairpin": "hairpin of {device}, {end} side",
        "inner": "plane",
        "outer": "shared",
        "infra": "infrastructure, given to nobody",
        "plane": "the plane's own part, given to nobody",
        "site": "subnet {slot} of the site, given to nobody",
        "subnet": "{name} ({zone}), subnet {slot}",
        "no-template": "its own subnet {slot}",
        "not-in-template": "subnet {slot}, not in its site template",
    },
    "zh": {
        "outside": "不在规划内",
        "pool": "在地址池 {pool} 内，未分配",
        "slot": "{field} {slot}：未分配",
        "kept": "{field} {slot}：保留",
        "quarantined": "隔离中：原属 {name}，不得使用",
        "absorbed": "原属 {name}，现由 {into} 负责",
        "gateway": "网关",
        "gateway-of": "网关 {router}",
        "station": "服务站 {name}",
        "server": "服务器 {name}",
        "host": "主机 {number}",
        "machine": "自行生成地址的终端",
        "router-anycast": "子网全部路由器（子网路由器任播）",
        "anycast": "保留的任播标识",
        "network": "子网网络号",
        "loopback": "{device} 的环回地址",
        "loopbacks": "环回地址",
        "links": "互联链路",
        "management": "设备管理",
        "srv6": "SRv6 定位符",
        "link": "线路 {circuit} 的 {end} 端",
        "link-of": "线路 {circuit}，{device} {interface} 端",
        "hairpin": "{device} 的回环连接，{end}侧",
        "inner": "业务平面",
        "outer": "共享",
        "infra": "基础设施，未分配",
        "plane": "平面自留，未分配",
        "site": "站点第 {slot} 个子网，未分配",
        "subnet": "{name}（{zone}），第 {slot} 个子网",
        "no-template": "自用第 {slot} 个子网",
        "not-in-template": "第 {slot} 个子网，不在站点模板内",
    },
}
_FIELD_WORDS = {
    "province": "省",
    "city": "市",
    "county": "县",
    "town": "乡镇",
    "village": "村",
    "site": "站点",
    "plane": "平面",
}


class Step(NamedTuple):
    """One division, plane or subnet on the way down to an address."""

    kind: str
    name: str
    code: str
    prefix: str


class Attribution(NamedTuple):
    """Whose an address is. `path` leads from the widest place to the narrowest; `id` is the innermost entry's.

    `purpose` is the name of a phrase and `details` its words; `prefix` what the address was found in (empty: outside).
    """

    address: str
    state: State
    prefix: str = ""
    id: str = ""
    path: tuple[Step, ...] = ()
    plane: str = ""
    plane_name: str = ""
    purpose: str = "outside"
    details: Mapping[str, str] = {}

    @property
    def planned(self) -> bool:
        """Whether the address may be in use."""
        return self.state in IN_USE

    def say_purpose(self, lang: Lang = "en") -> str:
        """Return what the address is for, in words."""
        words = _PHRASES[lang]
        details = {key: self._word(key, value, lang) for key, value in self.details.items()}
        return words[self.purpose].format_map(details)

    @staticmethod
    def _word(key: str, value: str, lang: Lang) -> str:
        if key == "field":
            return _FIELD_WORDS.get(value, value) if lang == "zh" else value
        return _PHRASES[lang].get(value, value) if key == "end" else value

    def say(self, lang: Lang = "en") -> str:
        """Return all of it on one line: places, plane, purpose."""
        places = "/".join(step.name for step in self.path)
        plane = f"{self.plane} {self.plane_name}".strip()
        return ("，" if lang == "zh" else ", ").join(part for part in (places, plane, self.say_purpose(lang)) if part)

    def as_json(self, lang: Lang = "en") -> dict[str, Any]:
        """Return it for machines; each place also under its kind (`county`, `town`, `village`).

        Of a site template's part, `plane` is the zone and `purpose` the part's name.
        """
        part = self.details if self.purpose == "subnet" else {}
        return {
            "address": self.address,
            "state": self.state,
            "planned": self.planned,
            "prefix": self.prefix,
            "id": self.id,
            "code": next((s.code for s in reversed(self.path) if s.code), ""),
            **{step.kind: step.name for step in self.path},
            "plane": self.plane or part.get("zone", ""),
            "plane_name": self.plane_name,
            "purpose": part.get("name", self.purpose),
            "says": self.say(lang),
            "path": [step._asdict() for step in self.path],
        }


class Segments(NamedTuple):
    """What nested prefixes flatten into: from `starts[i]` up to the next, row `rows[i]` is innermost (-1: none)."""

    starts: NDArray[np.uint64]
    rows: NDArray[np.int32]

    def find(self, keys: NDArray[np.uint64]) -> NDArray[np.int32]:
        """Return the innermost row of every key.

        Keys are searched in sorted order, a block at a time: neighbours then share the cache, which makes up for sorting.
        """
        if keys.size < _FEW or bool((keys[1:] >= keys[:-1]).all()):
            return self.rows[np.searchsorted(self.starts, keys, side="right") - 1]
        found = np.empty(keys.size, dtype=np.int32)
        for start in range(0, keys.size, _BLOCK):
            block = keys[start : start + _BLOCK]
            order = np.argsort(block)
            found[start : start + _BLOCK][order] = self.rows[
                np.searchsorted(self.starts, block[order], side="right") - 1
            ]
        return found


def flatten(starts: NDArray[np.uint64], lengths: NDArray[np.uint8], rows: NDArray[np.int32]) -> Segments:
    """Flatten prefixes of a 64-bit number. Of equal prefixes the one given last counts as innermost."""
    borders = np.unique(np.concatenate((np.zeros(1, np.uint64), starts, _ends(starts, lengths))))
    owners = np.full(borders.size, -1, dtype=np.int32)
    for length in np.unique(lengths).tolist():
        of_length = np.flatnonzero(lengths == length)
        order = of_length[np.argsort(starts[of_length], kind="stable")]
        found = starts[order]
        at = np.searchsorted(found, borders & _mask(length), side="right") - 1
        inside = (at >= 0) & (found[at] == borders & _mask(length))
        owners[inside] = rows[order[at[inside]]]
    changes = np.flatnonzero(np.concatenate((np.ones(1, bool), owners[1:] != owners[:-1])))
    return Segments(borders[changes], owners[changes])


def _mask(length: int) -> np.uint64:
    return np.uint64((_LOW << (_HALF - length)) & _LOW)


def _ends(starts: NDArray[np.uint64], lengths: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Return the numbers after each prefix; none where the prefix ends with the space."""
    hosts = np.array([_LOW >> n for n in range(_HALF + 1)], dtype=np.uint64)
    last = np.bitwise_or(starts, hosts[lengths])
    out: NDArray[np.uint64] = last[last != np.uint64(_LOW)] + np.uint64(1)
    return out


class Reading(Protocol):
    """What an attributor asks of one kind of plan."""

    def explain(self, row: int, address: Prefix) -> Attribution:
        """Explain an IPv6 address whose innermost row is known (-1: none)."""

    def explain4(self, address: Prefix) -> Attribution:
        """Explain an IPv4 address."""


class Attributor:
    """Finds the innermost entry of addresses; rows are the plan's own (of a county's plan: its records').

    With the `county`, stations, servers and routers are named.
    """

    def __init__(self, plan: Plan, county: County | None = None) -> None:
        self.reading: Reading
        if isinstance(plan, HierarchyPlan):
            self.reading = _HierarchyReading(plan)
            values, rows = plan.high, np.arange(len(plan), dtype=np.int32)
            self._short = flatten(values, plan.lengths, rows)
            self._long: _LongSegments | None = None
        else:
            reading = _CountyReading(plan, county)
            self.reading = reading
            self._short, self._long = _flatten_prefixes(reading.prefixes)
        self._memory: dict[str, Attribution | None] = {}

    def attribute_many(self, high: NDArray[np.uint64], low: NDArray[np.uint64] | None = None) -> NDArray[np.int32]:
        """Return the innermost row of every IPv6 address, from its upper and lower 64 bits (-1: none)."""
        rows = self._short.find(high)
        if self._long is not None and low is not None:
            self._long.refine(rows, high, low)
        return rows

    def attribute_texts(self, texts: Iterable[str]) -> NDArray[np.int32]:
        """Return the innermost row of IPv6 addresses as text, in whatever notation.

        Raises:
            OSError: one is no IPv6 address.
        """
        return self.attribute_many(*pack(texts))

    def explain(self, address: Prefix) -> Attribution:
        """Explain one address; IPv4 inside `::ffff:0:0/96` is explained as IPv4."""
        value = address.value
        if address.version == 6 and value >> 32 == 0xFFFF:
            return self.reading.explain4(Prefix(4, value & 0xFFFF_FFFF, 32))
        if address.version == 4:
            return self.reading.explain4(address)
        high, low = np.array([value >> _HALF], np.uint64), np.array([value & _LOW], np.uint64)
        return self.reading.explain(int(self.attribute_many(high, low)[0]), Prefix(6, value, 128))

    def recall(self, token: str) -> Attribution | None:
        """Explain what looks like an address in a log, None where it is none; the same text is looked up once."""
        memory = self._memory
        if token not in memory:
            if len(memory) >= _MEMORY:
                memory.clear()
            address = read_token(token)
            memory[token] = None if address is None else self.explain(address)
        return memory[token]


def pack(texts: Iterable[str]) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Return the upper and lower 64 bits of IPv6 addresses as text; OSError when one is none."""
    packed = np.frombuffer(b"".join(map(inet_pton, repeat(AF_INET6), texts)), dtype=">u8").reshape(-1, 2)
    return packed[:, 0].astype(np.uint64), packed[:, 1].astype(np.uint64)


_STARTS = r"(?:(?<![\w:.])|(?<=[g-zG-Z_]:)|(?<=[g-zG-Z_]\w:)|(?<=[g-zG-Z_]\w\w:))"
"""Where an address may start: after what is no part of one, or a word and a colon (`src:2001:db8::1`)."""
# What comes first only saves time: most characters of a log begin no address.
_TOKEN6 = r"(?=[0-9A-Fa-f]{0,4}+:)" + _STARTS + r"(?:[0-9A-Fa-f]{0,4}+:){2,8}+[0-9A-Fa-f.:]*+(?!\w)"
_TOKEN4 = r"(?=[0-9]{1,3}+\.)(?<![\w:.])(?:[0-9]{1,3}+\.){3}[0-9]{1,3}+(?!\w|\.[0-9])"
_TOKENS6 = re.compile(_TOKEN6, re.ASCII)
_TOKENS = re.compile(f"{_TOKEN6}|{_TOKEN4}", re.ASCII)
_COLONS = 7


def find_tokens(text: str, *, ipv4: bool = False) -> list[str]:
    """Return what looks like an address in a line of text; `read_token` tells which is one."""
    # Times and hardware addresses have colons too, but neither two together nor seven.
    found = (_TOKENS if ipv4 else _TOKENS6).findall(text)
    return [t for t in found if ":" not in t or (t.strip(":") and ("::" in t or t.count(":") >= _COLONS))]


def read_token(token: str) -> Prefix | None:
    """Read an address as logs write it: with a colon or full stop after it, or a port (`.53`) as tcpdump does."""
    if ":" not in token:
        return _pton(4, token)
    clean = token.rstrip(".")
    found = _pton(6, clean)
    if found is None and clean.endswith(":"):
        found = _pton(6, clean[:-1])
    if found is None and "." in clean:
        found = _pton(6, clean.rstrip(":").rpartition(".")[0])
    return found


def _pton(version: int, text: str) -> Prefix | None:
    try:
        packed = inet_pton(AF_INET6 if version == 6 else AF_INET, text)
    except (OSError, ValueError):
        return None
    return Prefix(version, int.from_bytes(packed, "big"), len(packed) * 8)


def find_addresses(lines: Iterable[str], *, ipv4: bool = False) -> Iterator[tuple[int, str, Prefix]]:
    """Yield line number, text and address of all addresses in lines of text."""
    for number, line in enumerate(lines, 1):
        for token in find_tokens(line, ipv4=ipv4):
            address = read_token(token)
            if address is not None:
                yield number, token, address


class _LongSegments(NamedTuple):
    """Segments inside /64s: sorted by upper half, then by where they start in the lower half."""

    high: NDArray[np.uint64]
    low: NDArray[np.uint64]
    rows: NDArray[np.int32]

    def refine(self, rows: NDArray[np.int32], high: NDArray[np.uint64], low: NDArray[np.uint64]) -> None:
        """Put the innermost rows in place of what was found by the upper half alone."""
        first, after = (np.searchsorted(self.high, high, side=side) for side in ("left", "right"))
        inside = np.flatnonzero(after > first)
        if not inside.size:
            return
        at, end, wanted = first[inside], after[inside], low[inside]
        # A binary search of every address in its own /64's segments, all of them a step at a time.
        while (open_ := end - at > 1).any():
            middle = (at + end) // 2
            right = open_ & (self.low[middle] <= wanted)
            at, end = np.where(right, middle, at), np.where(open_ & ~right, middle, end)
        found = self.rows[at]
        rows[inside] = np.where(found >= 0, found, rows[inside])


def _flatten_prefixes(prefixes: list[tuple[int, Prefix]]) -> tuple[Segments, _LongSegments | None]:
    """Flatten (row, IPv6 prefix) pairs of any length; of equal prefixes the one given last is innermost."""
    short = [(row, p) for row, p in prefixes if p.length <= SUBNET_LENGTH]
    starts = np.array([p.value >> _HALF for _, p in short], dtype=np.uint64)
    lengths = np.array([p.length for _, p in short], dtype=np.uint8)
    segments = flatten(starts, lengths, np.array([row for row, _ in short], dtype=np.int32))
    inside: dict[int, list[tuple[int, Prefix]]] = {}
    for row, prefix in prefixes:
        if prefix.length > SUBNET_LENGTH:
            inside.setdefault(prefix.value >> _HALF, []).append((row, prefix))
    if not inside:
        return segments, None
    highs, lows, rows = [], [], []
    for high in sorted(inside):
        found = flatten(
            np.array([p.value & _LOW for _, p in inside[high]], dtype=np.uint64),
            np.array([p.length - _HALF for _, p in inside[high]], dtype=np.uint8),
            np.array([row for row, _ in inside[high]], dtype=np.int32),
        )
        highs.append(np.full(found.starts.size, high, dtype=np.uint64))
        lows.append(found.starts)
        rows.append(found.rows)
    return segments, _LongSegments(np.concatenate(highs), np.concatenate(lows), np.concatenate(rows))


def own_lengths(plan: HierarchyPlan) -> tuple[NDArray[np.uint8], int]:
    """Return how long a prefix each row keeps for itself (uint8), and the pool: slot 0 of the field below.

    Slot 0 of a deeper field where children skip levels, for they are numbered inside; all of a leaf.
    """
    layout = plan.layout
    by_length = sorted([(layout.root_level, layout.pool_length), *((f.level, f.length) for f in layout.fields)])
    following = np.zeros(128, dtype=np.uint8)
    for level, length in by_length:
        following[level] = next((n for below, n in by_length if below > level), length)
    own = following[plan.levels]
    pool_own = layout.fields[0].length if layout.fields else layout.pool_length
    top = plan.homes == 0
    pool_own = max(pool_own, int(plan.lengths[top].max(initial=0)))
    if not top.all():
        np.maximum.at(own, plan.row_of_id[plan.homes[~top]], plan.lengths[~top])
    return own, pool_own


class _HierarchyReading:
    """Reads a hierarchy's plan: divisions by administrative parent, site templates, infrastructure."""

    def __init__(self, plan: HierarchyPlan) -> None:
        self.plan = plan
        layout = plan.layout
        self.kinds = {**LEVEL_NAMES, **{f.level: f.name for f in layout.fields}}
        self.pools = [parse_prefix(str(p)) for p in layout.pools]
        self.own, self.pool_own = own_lengths(plan)
        srv6 = plan.policy.infrastructure.srv6
        self.srv6 = parse_prefix(str(srv6)) if srv6 else None
        self._paths: dict[int, tuple[Step, ...]] = {}

    def explain4(self, address: Prefix) -> Attribution:
        return Attribution(format_address(4, address.value), "outside")

    def explain(self, row: int, address: Prefix) -> Attribution:
        text = format_address(6, address.value)
        if self.srv6 is not None and self.srv6.covers(address):
            return Attribution(text, "active", str(self.srv6), purpose="srv6")
        if row < 0:
            pool = next((p for p in self.pools if p.covers(address)), None)
            return Attribution(text, "outside") if pool is None else self._explain_pool(text, address, pool)
        return self._explain_row(text, address, row)

    def _explain_row(self, text: str, address: Prefix, row: int) -> Attribution:
        plan, state = self.plan, int(self.plan.states[row])
        value, length = plan.prefix(row)
        prefix, identity, name = format_prefix(value, length), str(plan.ids[row]), plan.names[row]
        if state == QUARANTINED:
            path, details = self._path(row), {"name": name}
            return Attribution(text, "quarantined", prefix, identity, path, purpose="quarantined", details=details)
        home = Prefix(6, value, length)
        found = self._explain_area(address, home, int(self.own[row]), int(plan.levels[row]), plan.codes[row])
        place = self._living(row) if state == ABSORBED else row
        path = self._path(place)
        if found.state == "active" and state == ABSORBED:
            details = {"name": name, "into": plan.names[place]}
            return Attribution(text, "absorbed", prefix, identity, path, purpose="absorbed", details=details)
        return found._replace(address=text, prefix=prefix, id=identity, path=path)

    def _explain_pool(self, text: str, address: Prefix, pool: Prefix) -> Attribution:
        found = self._explain_area(address, pool, self.pool_own, 0, "")
        if found.state == "active" and found.purpose == "no-template":
            found = Attribution("", "free", purpose="pool", details={"pool": str(pool)})
        return found._replace(address=text, prefix=str(pool))

    def _explain_area(self, address: Prefix, home: Prefix, own: int, level: int, code: str) -> Attribution:
        """Say what part of a prefix an address is in: a slot given to nobody, or the owner's own area of length `own`."""
        number = (address.value - home.value) >> _HALF
        if home.length == self.plan.layout.pool_length and (known := self._infrastructure.get((home.value, number))):
            return Attribution("", "active", purpose=known)
        policy = self.plan.policy
        template = policy.templates.get(policy.classes.get(code, self.kinds.get(level, "")), ()) if level else ()
        for part in template:
            if (address.value - home.value) >> (128 - part.length) == part.slot:
                details = {"name": part.name, "zone": part.zone, "slot": str(number)}
                return Attribution("", "active", purpose="subnet", details=details)
        for field in self.plan.layout.fields:
            slot = (address.value >> (128 - field.length)) & ((1 << field.width) - 1)
            if home.length < field.length <= own and slot:
                return self._explain_slot(field, slot)
        details = {"slot": str(number)}
        if template:
            return Attribution("", "free", purpose="not-in-template", details=details)
        return Attribution("", "active", purpose="no-template", details=details)

    @staticmethod
    def _explain_slot(field: LaidField, slot: int) -> Attribution:
        details = {"field": field.name, "slot": str(slot)}
        if slot in field.reserved:
            return Attribution("", "reserved", purpose="kept", details=details)
        return Attribution("", "free", purpose="slot", details=details)

    @cached_property
    def _infrastructure(self) -> dict[tuple[int, int], str]:
        first = self.pools[0].value
        return {(first, number): name for name, number in self.plan.policy.infrastructure.subnets.items()}

    def _living(self, row: int) -> int:
        """Return the row that answers for an absorbed one today."""
        plan, seen = self.plan, {row}
        while int(plan.states[row]) == ABSORBED:
            into = int(plan.intos[row])
            following = int(plan.row_of_id[into]) if 0 < into < plan.row_of_id.size else -1
            if following < 0 or following in seen:
                return row
            seen.add(following)
            row = following
        return row

    def _path(self, row: int, above: int = 0) -> tuple[Step, ...]:
        """Return the places from the top to a row, as they are administered today."""
        known = self._paths.get(row)
        if known is not None:
            return known
        plan = self.plan
        level, parent = int(plan.levels[row]), int(plan.parents[row])
        step = Step(
            self.kinds.get(level, f"level {level}"), plan.names[row], plan.codes[row], format_prefix(*plan.prefix(row))
        )
        upper = int(plan.row_of_id[parent]) if 0 < parent < plan.row_of_id.size else -1
        path = (*self._path(upper, above + 1), step) if upper >= 0 and above < _DEEPEST else (step,)
        if len(self._paths) >= _MEMORY:
            self._paths.clear()
        self._paths[row] = path
        return path


class _CountyReading:
    """Reads a county's plan: plane, town, site, LAN and what stands in it; loopbacks, links and hairpins."""

    def __init__(self, plan: AddressPlan, county: County | None) -> None:
        self.plan, self.county = plan, county
        self.records = plan.records
        parsed = [(row, parse_prefix(r.prefix)) for row, r in enumerate(plan.records)]
        # Where a site's prefix is its LAN's /64, the LAN is the innermost.
        parsed.sort(key=lambda item: _DEPTH.get(plan.records[item[0]].kind, 9))
        self.prefixes = [(row, p) for row, p in parsed if p.version == 6]
        self.by_length4: dict[int, dict[int, int]] = {}
        for row, p in parsed:
            if p.version == 4:
                self.by_length4.setdefault(p.length, {})[p.value] = row
        self.pool = parse_prefix(plan.pool)
        self.pools4 = [parse_prefix(plan.ipv4_pool), parse_prefix(plan.ipv4_link_pool)]
        self.planes = {r.id.partition(":")[2]: r.name for r in plan.records if r.kind == "plane"}
        self._name_hosts()

    def _name_hosts(self) -> None:
        self.hosts: dict[tuple[str, str, int], tuple[str, str]] = {}
        self.gateways: dict[tuple[str, str], str] = {}
        self.ends: dict[tuple[str, str], tuple[tuple[str, str], tuple[str, str]]] = {}
        if self.county is None:
            return
        for station in self.county.stations:
            self.hosts.update({(station.site, p, station.host): ("station", station.name) for p in station.planes})
        for server in self.county.servers:
            self.hosts[server.site, server.plane, server.host] = ("server", server.name)
        topology = build_topology(self.county)
        for lan in topology.lans:
            self.gateways[lan.site, lan.plane] = lan.gateway.device
        for link in topology.links:
            ends = (link.a.device, link.a.interface), (link.b.device, link.b.interface)
            self.ends[link.circuit, link.plane or ""] = ends

    def explain4(self, address: Prefix) -> Attribution:
        text = format_address(4, address.value)
        for length in sorted(self.by_length4, reverse=True):
            start = address.value >> (32 - length) << (32 - length)
            row = self.by_length4[length].get(start)
            if row is not None:
                return self._explain_record(text, self.records[row], address.value - start)
        pool = next((p for p in self.pools4 if p.covers(address)), None)
        if pool is None:
            return Attribution(text, "outside")
        return Attribution(text, "free", str(pool), purpose="pool", details={"pool": str(pool)})

    def explain(self, row: int, address: Prefix) -> Attribution:
        text = format_address(6, address.value)
        if row >= 0:
            record = self.records[row]
            prefix = parse_prefix(record.prefix)
            return self._explain_record(text, record, address.value - prefix.value)
        if not self.pool.covers(address):
            return Attribution(text, "outside")
        slot = (address.value >> (128 - self.pool.length - 4)) & 0xF
        details = {"field": "plane", "slot": str(slot)}
        return Attribution(text, "free", str(self.pool), purpose="slot", details=details)

    def _explain_record(self, text: str, record: Record, offset: int) -> Attribution:
        _, _, tail = record.id.partition(":")
        owner, _, plane = tail.partition("@")
        plane = tail if record.kind == "plane" else plane
        state, purpose, details = self._tell(record, owner, plane, offset)
        path = self._path(record, owner)
        if record.state == "quarantined":
            state, purpose, details = "quarantined", "quarantined", {"name": record.name}
        return Attribution(
            text, state, record.prefix, record.id, path, plane, self.planes.get(plane, ""), purpose, details
        )

    def _tell(self, record: Record, owner: str, plane: str, offset: int) -> tuple[State, str, dict[str, str]]:
        kind = record.kind
        if kind in {"lan", "lan4"}:
            return self._tell_host(record, owner, plane, offset)
        if kind == "loopback":
            return "active", "loopback", {"device": owner}
        if kind == "hairpin" or record.id.startswith("hairpin4:"):
            return "active", "hairpin", {"device": owner, "end": ("inner", "outer")[offset]}
        if kind in {"link", "link4"}:
            return "active", *self._tell_end(owner, plane, offset)
        length = parse_prefix(record.prefix).length
        if kind in {"plane", "town"}:
            field, width = ("town", 8) if kind == "plane" else ("site", 8)
            slot = offset >> (128 - length - width)
            return "free", "slot", {"field": field, "slot": str(slot)}
        if kind == "site":
            return "free", "site", {"slot": str(offset >> _HALF)}
        if kind == "infra":
            known = {0: "loopbacks", 1: "links"}.get(offset >> _HALF)
            return ("reserved", known, {}) if known else ("free", "infra", {})
        return "free", "plane", {}

    def _tell_host(self, record: Record, site: str, plane: str, offset: int) -> tuple[State, str, dict[str, str]]:
        last = _LOW if record.kind == "lan" else (1 << (32 - parse_prefix(record.prefix).length)) - 1
        if offset == 0:
            return "reserved", "router-anycast" if record.kind == "lan" else "network", {}
        if offset == 1:
            router = self.gateways.get((site, plane))
            return ("active", "gateway-of", {"router": router}) if router else ("active", "gateway", {})
        if record.kind == "lan" and offset >= _ANYCAST_FROM + 1:
            return "reserved", "anycast", {}
        if record.kind == "lan4" and offset == last:
            return "reserved", "network", {}
        known = self.hosts.get((site, plane, offset))
        if known:
            return "active", known[0], {"name": known[1]}
        if offset < 1 << 16:
            return "active", "host", {"number": str(offset)}
        return "active", "machine", {}

    def _tell_end(self, circuit: str, plane: str, offset: int) -> tuple[str, dict[str, str]]:
        ends = self.ends.get((circuit, plane)) or next(
            (e for (c, _), e in self.ends.items() if c == circuit and not plane), None
        )
        if ends is None:
            return "link", {"circuit": circuit, "end": "ab"[offset]}
        device, interface = ends[offset]
        return "link-of", {"circuit": circuit, "device": device, "interface": interface}

    def _path(self, record: Record, owner: str) -> tuple[Step, ...]:
        """Return the places: county, town, village. The inventory knows them best, else the plan's own chain."""
        if self.county is not None:
            return self._places(self.county, owner)
        steps, at = list[Step](), self.plan.by_id.get(record.id)
        while at is not None:
            if at.kind in {"town", "site"}:
                kind = "town" if at.kind == "town" else "village"
                if not (steps and steps[-1].name == at.name):
                    steps.append(Step(kind, at.name, "", at.prefix))
                else:
                    steps[-1] = Step(kind, at.name, "", at.prefix)
            at = self.plan.by_id.get(at.parent)
        return (Step("county", self.plan.county, "", self.plan.pool), *reversed(steps))

    def _places(self, county: County, owner: str) -> tuple[Step, ...]:
        top = Step("county", county.name, county.division_code, self.plan.pool)
        device, circuit = county.device_by_id.get(owner), county.circuit_by_id.get(owner)
        at = device.site if device else circuit.site if circuit else owner
        steps: list[Step] = []
        site = county.site_by_id.get(at)
        while site is not None and site.site_class != "county" and len(steps) < len(LEVEL_NAMES):
            steps.append(Step(site.site_class.value, site.name, site.division_code, ""))
            site = county.site_by_id.get(site.parent or "")
        return (top, *reversed(steps))


_DEPTH = {"pool": 0, "infra": 1, "plane": 1, "town": 2, "site": 3, "lan": 4}
