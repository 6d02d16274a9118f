"""Read a plan as an experienced reviewer would: what is allowed, yet will hurt. Findings, each with a way out.

An `error` must be mended before the plan is used, a `warning` should be, an `advice` is worth a thought. What a plan
must be to be right at all is the checker's, not the lint's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Literal

import numpy as np

from addressing.attribution import Attribution, Attributor, find_addresses, find_tokens, own_lengths, read_token
from addressing.entries import Plan
from addressing.hierarchy import ACTIVE, HierarchyPlan
from addressing.model import AddressPlan
from addressing.policy import LEVEL_NAMES, Subnet
from addressing.ratios import COMFORTABLE, NIBBLE, PAINFUL, hd_ratio
from addressing.special import GLOBAL_UNICAST, SpecialBlock, find_special
from addressing.text import Prefix, format_address, parse_prefix
from inventory.model import County, Model
from inventory.wording import counted

Severity = Literal["error", "warning", "advice"]

_SHOWN = 20
_EXAMPLES = 3
_HALF = 64
_LOW = (1 << _HALF) - 1
_ANYCAST_FROM = 0xFFFF_FFFF_FFFF_FF7F
"""RFC 6164 5.2: identifiers from here to the end of a /64 are not for the ends of links."""
_NAT64 = 0x0064_FF9B << 64
"""Under NAT64's well-known prefix RFC 5952 allows either notation."""
_ULA = parse_prefix("fd00::/8")
_SRV6 = parse_prefix("5f00::/16")
_ULA_SITE = 48
_COUNTY_FIELDS = (("plane", "plane", 4), ("town", "town", 8), ("site", "village", 8))
_USED_TODO = {
    "outside": "plan it, or find who brought it in",
    "reserved": "renumber it: nothing stands on a reserved address",
    "free": "plan it, or renumber it: the next plan may give it to somebody else",
    "quarantined": "renumber it: its division is gone",
}
"""What to do about an address in use, by its state."""


class Finding(Model):
    """One thing found. `rule` names it for good, so that it can be looked up or let pass by name."""

    rule: str
    severity: Severity
    where: str
    what: str
    todo: str

    def __str__(self) -> str:
        return f"{self.severity}: {self.where}: {self.what}; {self.todo} [{self.rule}]"


def lint(
    plan: Plan, *, production: bool, used: Iterable[str | Prefix] = (), county: County | None = None
) -> tuple[Finding, ...]:
    """Return what a reviewer would object to, the worst first.

    `production` refuses blocks that must never be used. `used` are addresses seen at work; a text that is none is left
    to the caller (`find_addresses` finds those of a file). The `county` names more of them.
    """
    order = {"error": 0, "warning": 1, "advice": 2}
    found = [*_find_all(plan, production=production), *_find_used(plan, used, county)]
    return tuple(sorted(found, key=lambda f: order[f.severity]))


def lint_text(lines: Iterable[str], where: str) -> tuple[Finding, ...]:
    """Return the IPv6 addresses in lines of text that are not written by RFC 5952."""
    found: dict[str, tuple[int, str]] = {}
    for number, token, address in find_addresses(lines):
        written = format_address(6, address.value)
        bare = token.rstrip(".:") if not token.endswith("::") else token
        if not bare.startswith(written) and address.value >> 32 != _NAT64:
            found.setdefault(bare, (number, written))
    out = [
        Finding(
            rule="text-rfc5952",
            severity="advice",
            where=f"{where}:{number}",
            what=f"{token} is not written by RFC 5952",
            todo=f"write {written}, so that searching finds it",
        )
        for token, (number, written) in list(found.items())[:_SHOWN]
    ]
    if len(found) > _SHOWN:
        more = f"{len(found) - _SHOWN} more addresses are not written by RFC 5952"
        out.append(Finding(rule="text-rfc5952", severity="advice", where=where, what=more, todo="mend them likewise"))
    return tuple(out)


def _find_all(plan: Plan, *, production: bool) -> Iterator[Finding]:
    if isinstance(plan, HierarchyPlan):
        production = production or plan.policy.production
        pools = [parse_prefix(str(p)) for p in plan.layout.pools]
        yield from _find_blocks([("pools", p) for p in pools], production=production)
        yield from _find_ula(pools)
        yield from _find_srv6(plan, pools, production=production)
        yield from _find_fields(plan)
        yield from _find_templates(plan)
        return
    pool = parse_prefix(plan.pool)
    blocks = [("pool", pool), *((n, parse_prefix(getattr(plan, n))) for n in ("ipv4_pool", "ipv4_link_pool"))]
    yield from _find_blocks(blocks, production=production)
    yield from _find_ula([pool])
    yield from _find_identifiers(plan)
    yield from _find_county_fields(plan)
    yield from _find_strange_blocks4(plan, production=production)


def _find_blocks(blocks: list[tuple[str, Prefix]], *, production: bool) -> Iterator[Finding]:
    for where, prefix in blocks:
        met = find_special(prefix)
        for block in met:
            finding = _judge_block(where, prefix, block, production=production)
            if finding is not None:
                yield finding
                break
        else:
            if prefix.version == 6 and not met and not GLOBAL_UNICAST.covers(prefix):
                yield Finding(
                    rule="block-not-global",
                    severity="error" if production else "warning",
                    where=f"{where} {prefix}",
                    what=f"is outside {GLOBAL_UNICAST}, all that is given out of IPv6 (RFC 4291 2.4)",
                    todo="use the block that your province or registry assigned",
                )


def _judge_block(where: str, prefix: Prefix, block: SpecialBlock, *, production: bool) -> Finding | None:
    if block.use in {"ula", "private"}:
        return None
    relation = "lies in" if block.prefix.covers(prefix) else "holds"
    what = f"{relation} {block.prefix}, {block.name} ({block.source})"
    todo = "use the block that your province or registry assigned"
    if block.use == "documentation":
        severity: Severity = "error" if production else "advice"
        todo = "fine for an example; before it is used, " + todo if not production else todo
    else:
        severity = "error" if production else "warning"
    if block.use == "srv6":
        what += ": only SRv6 locators are numbered there"
        todo = "name it as infrastructure.srv6, and a pool of its own for the divisions"
    return Finding(rule=f"block-{block.use}", severity=severity, where=f"{where} {prefix}", what=what, todo=todo)


def _find_strange_blocks4(plan: AddressPlan, *, production: bool) -> Iterator[Finding]:
    """Yield IPv4 that was declared outside the pools and lies where nothing may be numbered."""
    pools = [parse_prefix(plan.ipv4_pool), parse_prefix(plan.ipv4_link_pool)]
    for record in plan.records:
        prefix = parse_prefix(record.prefix)
        if prefix.version == 4 and not any(p.covers(prefix) for p in pools):
            yield from _find_blocks([(record.id, prefix)], production=production)


def _find_ula(pools: list[Prefix]) -> Iterator[Finding]:
    for pool in pools:
        if not _ULA.covers(pool):
            continue
        where = f"pool {pool}"
        yield Finding(
            rule="ula-ipv4",
            severity="warning",
            where=where,
            what="hosts that have IPv4 beside a unique local address use IPv4: RFC 6724 (2.1) ranks fc00::/7 at 3, below "
            "IPv4's 35 and global IPv6's 40, so that IPv6 is there and carries next to nothing",
            todo="use global addresses; or change the policy table of every host, or take IPv4 away",
        )
        if pool.length < _ULA_SITE:
            yield Finding(
                rule="ula-length",
                severity="warning",
                where=where,
                what=f"takes the identifiers of {counted(1 << (_ULA_SITE - pool.length), 'other network')} "
                "(RFC 4193 3.1 gives /48)",
                todo="draw a random /48 for each site, or use global addresses",
            )
        elif (why := _judge_identifier(pool.value >> 80 & ((1 << 40) - 1))) is not None:
            yield Finding(
                rule="ula-random",
                severity="warning",
                where=where,
                what=f"its global identifier was not drawn at random ({why}): two such networks that join one day have "
                "the same addresses (RFC 4193 3.2)",
                todo="draw one as RFC 4193 (3.2.2) tells",
            )


def _judge_identifier(identifier: int) -> str | None:
    """Say why forty bits look made up, None where they may be random: each test fails fewer than one in 200 random ones."""
    digits = f"{identifier:010x}"
    runs = max(len(run) for run in _split_runs(digits))
    steps = {(int(b, 16) - int(a, 16)) % 16 for a, b in pairwise(digits)}
    if digits.count("0") >= 5:
        return f"{digits.count('0')} of 10 digits are 0"
    if runs >= 4:
        return f"one digit {runs} times in a row"
    if len(set(digits)) <= 4:
        return f"only {len(set(digits))} different digits"
    if len(steps) == 1:
        return "it counts up or down"
    if digits[:5] == digits[5:]:
        return "its halves are the same"
    words = [
        word for word in ("cafe", "beef", "dead", "babe", "face", "c0de", "f00d", "1234", "abcd") if word in digits
    ]
    return f"it spells {words[0]!r}" if words else None


def _split_runs(text: str) -> Iterator[str]:
    start = 0
    for at in range(1, len(text) + 1):
        if at == len(text) or text[at] != text[start]:
            yield text[start:at]
            start = at


def _find_srv6(plan: HierarchyPlan, pools: list[Prefix], *, production: bool) -> Iterator[Finding]:
    if plan.policy.infrastructure.srv6 is None:
        return
    locators = parse_prefix(str(plan.policy.infrastructure.srv6))
    for pool in pools:
        if pool.covers(locators) or locators.covers(pool):
            yield Finding(
                rule="srv6-in-pool",
                severity="error",
                where=f"infrastructure.srv6 {locators}",
                what=f"lies over pool {pool}: filters at the border cannot tell locators from users (RFC 9602 4)",
                todo=f"take a block of {_SRV6}, or another one of yours",
            )
    if not _SRV6.covers(locators):
        yield from _find_blocks([("infrastructure.srv6", locators)], production=production)


def _find_fields(plan: HierarchyPlan) -> Iterator[Finding]:
    policy, layout = plan.policy, plan.layout
    for number, field in enumerate(layout.fields):
        where = f"{field.name} field /{field.length}"
        if field.length > _HALF:
            yield Finding(
                rule="leaf-length",
                severity="error",
                where=where,
                what="is longer than /64: no host can configure itself there (RFC 4291 2.5.1)",
                todo="take a larger pool, or narrower fields",
            )
        elif field is layout.fields[-1] and field.length == _HALF:
            yield Finding(
                rule="leaf-length",
                severity="warning",
                where=where,
                what="leaves one subnet to a site, and none to grow (RFC 6177 2)",
                todo="give /60 or /56 to a site",
            )
        if field.length % NIBBLE:
            zones = 1 << (-field.length % NIBBLE)
            yield Finding(
                rule="nibble",
                severity="advice",
                where=where,
                what=f"ends inside a digit: each delegation takes {zones} ip6.arpa zones, and cannot be read off an address",
                todo=f"/{field.length + -field.length % NIBBLE} or /{field.length - field.length % NIBBLE} would not",
            )
        rows = np.flatnonzero(plan.levels == field.level)
        if not rows.size:
            continue
        homes, counts = np.unique(plan.homes[rows], return_counts=True)
        worst = int(counts.argmax())
        pools = len(layout.pools) if number == 0 and not homes[worst] else 1
        home = int(homes[worst])
        who = f"{plan.codes[plan.row_of_id[home]]} {plan.names[plan.row_of_id[home]]}" if home else "the pool"
        used, size = int(counts[worst]) + pools * len(field.reserved), pools << field.width
        yield from _judge_ratio(
            where, who, used=used, size=size, comfortable=policy.comfortable, ceiling=policy.ceiling
        )


def _judge_ratio(
    where: str, who: str, *, used: int, size: int, comfortable: float, ceiling: float
) -> Iterator[Finding]:
    ratio = hd_ratio(used, size)
    if ratio <= comfortable:
        return
    high = ratio > ceiling
    yield Finding(
        rule="hd-ceiling" if high else "hd-comfortable",
        severity="warning" if high else "advice",
        where=where,
        what=f"under {who} {used} of {size} slots are taken: HD ratio {ratio:.2f}, above the "
        f"{'ceiling' if high else 'comfortable'} {ceiling if high else comfortable:.2f} (RFC 3194)",
        todo="see 'extranet plan budget' for a wider field" if high else "no more growth than is planned for",
    )


def _find_templates(plan: HierarchyPlan) -> Iterator[Finding]:
    policy = plan.policy
    own, pool_own = own_lengths(plan)
    kinds = {**LEVEL_NAMES, **{f.level: f.name for f in plan.layout.fields}}
    narrowest: dict[str, tuple[int, str]] = {}
    for level in sorted({*plan.layout.by_level, plan.layout.root_level} - {0}):
        rows = np.flatnonzero((plan.levels == level) & (plan.states == ACTIVE))
        if rows.size:
            row = int(rows[own[rows].argmax()])
            _keep_narrowest(narrowest, kinds.get(level, f"level {level}"), int(own[row]), plan.codes[row])
    for code, name in policy.classes.items():
        found = plan.row_of.get(code)
        if name not in policy.templates:
            yield Finding(
                rule="template-unknown",
                severity="error",
                where=f"classes {code}",
                what=f"has the access class {name!r}, and there is no such template",
                todo="write the template, or name another",
            )
        elif found is not None:
            _keep_narrowest(narrowest, name, int(own[found]), code)
    for name, parts in sorted(policy.templates.items()):
        if name not in narrowest:
            yield Finding(
                rule="template-unused",
                severity="advice",
                where=f"template {name}",
                what="is neither the name of a level nor an access class of any division",
                todo=f"name it after a level ({', '.join(sorted(set(kinds.values())))}) or in classes",
            )
        else:
            yield from _find_parts(name, parts, *narrowest[name])
    yield from _find_infrastructure(plan, pool_own)


def _keep_narrowest(narrowest: dict[str, tuple[int, str]], name: str, length: int, code: str) -> None:
    if length > narrowest.get(name, (-1, ""))[0]:
        narrowest[name] = (length, code)


def _find_parts(name: str, parts: tuple[Subnet, ...], own: int, code: str) -> Iterator[Finding]:
    area = 1 << max(_HALF - own, 0)
    spans = sorted((p.slot << (_HALF - p.length), (p.slot + 1) << (_HALF - p.length), p.name) for p in parts)
    for _, end, part in spans:
        if end > area:
            yield Finding(
                rule="template-area",
                severity="error",
                where=f"template {name}, part {part}",
                what=f"ends at subnet {end - 1}, and {code} keeps {counted(area, 'subnet')} (/{own}) for itself: it would lie "
                "in what others get",
                todo="give it a lower slot, or the divisions a shorter prefix",
            )
    for (_, end, one), (start, _, other) in pairwise(spans):
        if start < end:
            yield Finding(
                rule="template-overlap",
                severity="error",
                where=f"template {name}",
                what=f"parts {one} and {other} lie over one another",
                todo="give one of them another slot",
            )


def _find_infrastructure(plan: HierarchyPlan, pool_own: int) -> Iterator[Finding]:
    subnets = plan.policy.infrastructure.subnets
    area = 1 << max(_HALF - pool_own, 0)
    for name, number in subnets.items():
        if number >= area:
            yield Finding(
                rule="infrastructure-area",
                severity="error",
                where=f"infrastructure.{name}",
                what=f"is subnet {number}, and the pool keeps {counted(area, 'subnet')} (/{pool_own}) for itself",
                todo="give it a lower number",
            )
    for number, count in Counter(subnets.values()).items():
        if count > 1:
            names = " and ".join(name for name, n in subnets.items() if n == number)
            yield Finding(
                rule="infrastructure-overlap",
                severity="error",
                where="infrastructure",
                what=f"{names} are the same subnet {number}",
                todo="give each a number of its own",
            )


def _find_identifiers(plan: AddressPlan) -> Iterator[Finding]:
    """Yield identifiers that routers must not have: RFC 6164 5.1 and 5.2 on links, RFC 4291 2.6.1 on loopbacks."""
    for record in plan.records:
        if record.kind not in {"link", "hairpin", "loopback", "lan"}:
            continue
        prefix = parse_prefix(record.prefix)
        if record.kind == "lan":
            if prefix.length != _HALF:
                yield Finding(
                    rule="lan-length",
                    severity="error",
                    where=record.id,
                    what=f"{prefix} is no /64: hosts cannot configure themselves (RFC 4291 2.5.1)",
                    todo="give it the first /64 of its site",
                )
            continue
        ends = {prefix.value & _LOW, prefix.last & _LOW}
        if 0 in ends:
            yield Finding(
                rule="identifier-zero",
                severity="error",
                where=record.id,
                what=f"{prefix} has the identifier 0, which is every router's of that /64 (subnet-router anycast)",
                todo="start at the second pair of the /64 (RFC 6164 5.1)",
            )
        if any(end >= _ANYCAST_FROM for end in ends):
            yield Finding(
                rule="identifier-anycast",
                severity="error",
                where=record.id,
                what=f"{prefix} has an identifier of ffff:ffff:ffff:ff7f and above, reserved for anycast (RFC 2526)",
                todo="stay below (RFC 6164 5.2)",
            )


def _find_county_fields(plan: AddressPlan) -> Iterator[Finding]:
    for kind, name, width in _COUNTY_FIELDS:
        children = Counter(r.parent for r in plan.records if r.kind == kind)
        if children:
            parent, count = children.most_common(1)[0]
            spare = 0 if kind == "town" else 1  # slot 0 of planes is the infrastructure's, of sites the town's own
            used = count + spare if kind == "plane" else count
            who = plan.by_id[parent].name if parent in plan.by_id else parent
            where, size = f"{name} field", 1 << width
            yield from _judge_ratio(where, who, used=used, size=size, comfortable=COMFORTABLE, ceiling=PAINFUL)


def _find_used(plan: Plan, used: Iterable[str | Prefix], county: County | None) -> Iterator[Finding]:
    """Yield addresses that are used and should not be, those of one hole together."""
    attributor: Attributor | None = None
    groups: dict[tuple[str, str, str], list[str]] = {}
    hierarchy = isinstance(plan, HierarchyPlan)
    known: dict[int, Attribution] = {}
    for item in used:
        address = item if isinstance(item, Prefix) else _read_used(item)
        if address is None:
            continue
        attributor = attributor or Attributor(plan, county)
        # In a hierarchy's plan the lower half tells nothing: all of a /64 is explained at once.
        key = address.value >> _HALF if hierarchy and address.version == 6 else -1
        found = known.get(key) if key >= 0 else None
        if found is None:
            found = attributor.explain(address)
            if key >= 0:
                known[key] = found
        if not found.planned:
            group = groups.setdefault((found.state, found.id or found.prefix, found.say()), [])
            text = format_address(address.version, address.value)
            if text not in group[-1:]:
                group.append(text)
    for (state, where, what), addresses in groups.items():
        shown = ", ".join(addresses[:_EXAMPLES])
        more = f" and {len(addresses) - _EXAMPLES} more" if len(addresses) > _EXAMPLES else ""
        yield Finding(
            rule="quarantined-used" if state == "quarantined" else "unplanned-used",
            severity="warning" if state in {"outside", "reserved"} else "error",
            where=where or "outside",
            what=f"{shown}{more} {'is' if len(addresses) == 1 else 'are'} used: {what}",
            todo=_USED_TODO[state],
        )


def _read_used(text: str) -> Prefix | None:
    found = find_tokens(text, ipv4=True)
    return read_token(found[0]) if found else None


__all__ = ["Finding", "Severity", "lint", "lint_text"]
