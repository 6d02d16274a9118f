"""Laws of the lint: what must not be in production is refused, what will hurt is found, and a good plan has no errors."""

from __future__ import annotations

import random
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from addressing.divisions import Divisions
from addressing.hierarchy import HierarchyPlan, plan_divisions
from addressing.lint import Finding, lint, lint_text
from addressing.model import AddressPlan
from addressing.plan import make_plan
from addressing.policy import LaidField, Layout, PlanPolicy
from addressing.special import SPECIAL_BLOCKS, find_special
from addressing.text import Prefix, format_address, parse_prefix
from inventory.reader import load_county
from inventory.topology import build_topology

COUNTY = load_county(Path(__file__).resolve().parents[2] / "inventory" / "yichuan")


GLOBAL = "2e00:3200::/24"
"""A block that the lint has nothing against: in 2000::/3, and IANA has given it to nobody."""


@cache
def county_plan() -> AddressPlan:
    """Return the sample county's plan."""
    return make_plan(COUNTY, build_topology(COUNTY))


def hierarchy(
    pool: str = GLOBAL, *, towns: int = 10, widths: tuple[int, int] = (8, 16), **policy: Any
) -> HierarchyPlan:
    """Return the plan of a county with some towns and one village in each."""
    decided = PlanPolicy.model_validate({"pools": [pool], "leaf_at_most": 64, **policy})
    length, fields = decided.pools[0].prefixlen, []
    for level, name, width in ((4, "town", widths[0]), (5, "village", widths[1])):
        length += width
        fields.append(LaidField(level=level, name=name, width=width, length=length, order="centre", reserved=(0,)))
    codes = ["410329000000"]
    for town in range(1, towns + 1):
        codes += [f"410329{town:03}000", f"410329{town:03}200"]
    levels = [3 if c.endswith("000000") else 4 if c.endswith("000") else 5 for c in codes]
    parents = [-1 if lv == 3 else 0 if lv == 4 else row - 1 for row, lv in enumerate(levels)]
    divisions = Divisions(codes, codes, np.array(levels, dtype=np.int8), np.array(parents, dtype=np.int32))
    return plan_divisions(divisions, decided, Layout(pools=decided.pools, fields=tuple(fields), root_level=3))


def rules(
    plan: HierarchyPlan | AddressPlan, *, production: bool = False, used: tuple[str, ...] = ()
) -> dict[str, Finding]:
    """Return findings by rule."""
    return {f.rule: f for f in lint(plan, production=production, used=used)}


def test_a_good_plan_has_nothing_to_say_about() -> None:
    """A nibble-aligned plan of a global block, comfortably filled, has no finding at all, in production either."""
    assert lint(hierarchy(), production=True) == ()


def test_the_sample_is_for_an_example_only() -> None:
    """The sample county has no errors as an example; in production its documentation prefix is refused."""
    assert not [f for f in lint(county_plan(), production=False) if f.severity == "error"]
    found = rules(county_plan(), production=True)
    assert found["block-documentation"].severity == "error"
    assert "RFC 9637" in found["block-documentation"].what


@pytest.mark.parametrize(
    ("pool", "rule"),
    [
        ("3fff:300::/28", "block-documentation"),
        ("2001:db8::/32", "block-documentation"),
        ("fec0::/16", "block-deprecated"),
        ("3ffe::/20", "block-deprecated"),
        ("2002:a00::/24", "block-deprecated"),
        ("fc12:3400::/24", "block-unassigned"),
        ("5f00:300::/24", "block-srv6"),
        ("fe80::/12", "block-special"),
        ("ff00::/12", "block-special"),
        ("::/20", "block-special"),
        ("2000::/12", "block-documentation"),
        ("4000::/16", "block-not-global"),
    ],
)
def test_t19_blocks_refused_in_production(pool: str, rule: str) -> None:
    """T19: documentation, deprecated, unassigned and special blocks are errors in production, and named before."""
    plan = hierarchy(pool)
    assert rules(plan, production=True)[rule].severity == "error"
    assert rules(plan)[rule].severity in {"warning", "advice"}
    assert rules(hierarchy(pool, production=True))[rule].severity == "error"


def test_t19_srv6_only_for_locators() -> None:
    """T19: 5f00::/16 is right for SRv6 locators; locators over the pool, or from a refused block, are not."""
    assert lint(hierarchy(infrastructure={"srv6": "5f00:329::/32"}), production=True) == ()
    assert lint(hierarchy(infrastructure={"srv6": "2e00:4200::/32"}), production=True) == ()
    assert rules(hierarchy(infrastructure={"srv6": "2e00:3201::/32"}))["srv6-in-pool"].severity == "error"
    refused = rules(hierarchy(infrastructure={"srv6": "2001:db8::/32"}), production=True)
    assert refused["block-documentation"].severity == "error"


def test_ula_and_ipv4() -> None:
    """Unique local addresses beside IPv4 are explained by RFC 6724's ranks, and a block wider than a /48 is named."""
    found = rules(hierarchy("fd00::/24"))
    assert "ranks fc00::/7 at 3, below IPv4's 35 and global IPv6's 40" in found["ula-ipv4"].what
    assert "16777216 other networks" in found["ula-length"].what
    assert "ula-ipv4" not in rules(hierarchy())


@pytest.mark.parametrize(
    ("pool", "why"),
    [
        ("fd00:0:1::/48", "digits are 0"),
        ("fd12:3456:789a::/48", "counts up"),
        ("fdaa:aaaa:bbbb::/48", "times in a row"),
        ("fd12:1212:1212::/48", "different digits"),
        ("fd12:9ab1:29ab::/48", "halves"),
        ("fdca:fe92:7b35::/48", "cafe"),
        ("fd75:d166:c3f0::/48", ""),
    ],
)
def test_ula_identifiers_drawn_at_random(pool: str, why: str) -> None:
    """T5's identifier passes for random; those that people make up do not."""
    found = rules(hierarchy(pool, widths=(8, 8)))
    assert ("ula-random" in found) == bool(why)
    assert not why or why in found["ula-random"].what


def test_hardly_any_random_identifier_is_doubted() -> None:
    """Of ten thousand identifiers drawn at random fewer than one in a hundred is taken for made up."""
    from addressing.lint import _judge_identifier

    rng = random.Random(4193)
    assert sum(_judge_identifier(rng.getrandbits(40)) is not None for _ in range(10_000)) < 100


def link(prefix: str, kind: str = "link") -> AddressPlan:
    """Return the sample's plan with its first link (or another kind) numbered otherwise."""
    plan = county_plan()
    first = next(r for r in plan.records if r.kind == kind)
    return plan.altered(records=tuple(r.altered(prefix=prefix) if r == first else r for r in plan.records))


@pytest.mark.parametrize(
    ("prefix", "rule"),
    [
        ("3fff:329:0:1::/127", "identifier-zero"),
        ("3fff:329:0:1::2/127", ""),
        ("3fff:329:0:1:ffff:ffff:ffff:ff7c/127", ""),
        ("3fff:329:0:1:ffff:ffff:ffff:ff7e/127", "identifier-anycast"),
        ("3fff:329:0:1:ffff:ffff:ffff:fffe/127", "identifier-anycast"),
    ],
)
def test_t10_identifiers_of_links(prefix: str, rule: str) -> None:
    """T10: no end of a link has the identifier 0 or one of RFC 2526's; the last pair allowed is just below."""
    found = {r for r in rules(link(prefix)) if r.startswith("identifier")}
    assert found == ({rule} if rule else set())


def test_t10_holds_on_the_sample() -> None:
    """T10: every link and hairpin of the sample is an even pair, away from reserved identifiers."""
    pairs = [parse_prefix(r.prefix) for r in county_plan().records if r.kind in {"link", "hairpin"}]
    assert len(pairs) > 50
    assert all(p.length == 127 and p.value % 2 == 0 for p in pairs)
    assert not {r for r in rules(county_plan()) if r.startswith("identifier")}


def test_loopbacks_and_lans() -> None:
    """A loopback is not the subnet-router anycast address; a LAN is a /64."""
    assert "identifier-zero" in rules(link("3fff:329::/128", "loopback"))
    assert "lan-length" in rules(link("3fff:329:1000::/65", "lan"))


@pytest.mark.parametrize(("towns", "rule"), [(8, ""), (9, "hd-comfortable"), (10, "hd-ceiling"), (15, "hd-ceiling")])
def test_ratios_by_level(towns: int, rule: str) -> None:
    """A field is named when its fullest parent is above the comfortable HD ratio, or above the ceiling (RFC 3194)."""
    found = {r for r in rules(hierarchy(towns=towns, widths=(4, 16))) if r.startswith("hd-")}
    assert found == ({rule} if rule else set())


def test_ratio_names_the_fullest_parent() -> None:
    """The ratio counts reserved slots as taken, and says whose field it is."""
    found = rules(hierarchy(towns=15, widths=(4, 16)))["hd-ceiling"]
    assert "under 410329000000 410329000000 16 of 16 slots are taken: HD ratio 1.00" in found.what


def test_leaves() -> None:
    """A site of one subnet is warned of; a leaf longer than /64 is an error."""
    assert rules(hierarchy("2e00:3200::/40", widths=(8, 16)))["leaf-length"].severity == "warning"
    plan = hierarchy()
    # No layout may hold one; the rule is there for what got round that.
    longer = plan.layout.fields[-1].model_copy(update={"length": 68})
    layout = Layout.model_construct(**{**dict(plan.layout), "fields": (plan.layout.fields[0], longer)})
    from dataclasses import replace

    assert rules(replace(plan, layout=layout))["leaf-length"].severity == "error"


def test_delegations_inside_a_digit() -> None:
    """A prefix that ends inside a hexadecimal digit is advised against, with the zones it takes."""
    found = rules(hierarchy(widths=(7, 17)))
    assert found["nibble"].severity == "advice"
    assert "/31" in found["nibble"].where
    assert "2 ip6.arpa zones" in found["nibble"].what


def part(name: str, slot: int, length: int = 64) -> dict[str, Any]:
    """Return a part of a template."""
    return {"name": name, "zone": "public", "slot": slot, "length": length}


@pytest.mark.parametrize(
    ("policy", "rule"),
    [
        ({"templates": {"village": [part("a", 0), part("b", 65535)]}}, ""),
        ({"templates": {"village": [part("a", 65536)]}}, "template-area"),
        ({"templates": {"town": [part("a", 65535)]}}, ""),
        ({"templates": {"town": [part("a", 65536)]}}, "template-area"),
        ({"templates": {"village": [part("a", 0, 60), part("b", 15)]}}, "template-overlap"),
        ({"templates": {"village": [part("a", 0, 60), part("b", 16)]}}, ""),
        ({"templates": {"hamlet": [part("a", 0)]}}, "template-unused"),
        ({"templates": {"F": [part("a", 70000)]}, "classes": {"410329001200": "F"}}, "template-area"),
        ({"classes": {"410329001200": "F"}}, "template-unknown"),
        ({"infrastructure": {"loopbacks": 1, "links": 1}}, "infrastructure-overlap"),
        ({"infrastructure": {"management": 1 << 33}}, "infrastructure-area"),
    ],
)
def test_templates_and_infrastructure(policy: dict[str, Any], rule: str) -> None:
    """Site templates lie in the area their sites keep, apart from one another, and are used; so does infrastructure."""
    found = {r for r in rules(hierarchy(**policy)) if r.startswith(("template", "infrastructure"))}
    assert found == ({rule} if rule else set())


def test_used_but_not_planned() -> None:
    """Addresses in use that the plan gives to nobody are found, those of one hole together, with their state."""
    plan = county_plan()
    gone = next(r for r in plan.records if r.kind == "lan")
    plan = plan.altered(records=tuple(r.altered(state="quarantined") if r == gone else r for r in plan.records))
    good = next(r for r in plan.records if r.kind == "lan" and r.state == "active")
    hole = parse_prefix(plan.pool).last
    used = (
        format_address(6, parse_prefix(good.prefix).value + 2),
        format_address(6, parse_prefix(gone.prefix).value + 2),
        *(format_address(6, hole - i) for i in range(5)),
        "2e00:3200::1",
        "no address",
    )
    found = rules(plan, used=used)
    assert found["quarantined-used"].severity == "error"
    used_findings = [f for f in lint(plan, production=False, used=used) if f.rule == "unplanned-used"]
    assert [(f.severity, f.what.split(" used")[0][-16:]) for f in used_findings] == [
        ("error", "d and 2 more are"),
        ("warning", "2e00:3200::1 is"),
    ]


def test_used_in_a_hierarchy() -> None:
    """The same in a hierarchy's plan, where all of a /64 is one case; prefixes read elsewhere are taken as they are."""
    plan = hierarchy()
    value, _ = plan.prefix(plan.row_of["410329001200"])
    hole, _ = plan.prefix(0)
    used = [Prefix(6, value + 5, 128), *(Prefix(6, hole + (0x7F << 96) + i, 128) for i in range(1000))]
    found = lint(plan, production=False, used=used)
    assert len(found) == 1
    assert "and 997 more are used" in found[0].what
    assert "town 127: given to nobody" in found[0].what


@pytest.mark.parametrize(
    ("line", "todo"),
    [
        ("next hop 2001:DB8::1 up", "write 2001:db8::1,"),
        ("2001:db8:0:0::1", "write 2001:db8::1,"),
        ("2001:0db8::1/64", "write 2001:db8::1,"),
        ("::ffff:c000:201", "write ::ffff:192.0.2.1,"),
        ("2001:db8::1 2001:db8::2/64 [2001:db8::3]:80 2001:db8::4: 64:ff9b::192.0.2.1 2001:db8::", ""),
    ],
)
def test_text_by_rfc5952(line: str, todo: str) -> None:
    """Addresses in files that are not written by RFC 5952 are findings with line and correct text; right ones are none."""
    found = lint_text(["", line], "hosts.txt")
    assert [f.where for f in found] == (["hosts.txt:2"] if todo else [])
    assert not todo or todo in found[0].todo


def test_many_texts_are_counted() -> None:
    """A file full of them gives twenty findings and a number, each spelling once."""
    lines = [f"2001:DB8::{n:x}" for n in range(1, 101)] * 2
    found = lint_text(lines, "log")
    assert len(found) == 21
    assert found[-1].what.startswith("80 more")


@given(st.sampled_from(SPECIAL_BLOCKS), st.integers(0, (1 << 128) - 1))
def test_every_special_block_is_met(block: Any, bits: int) -> None:
    """Any part of a special block meets it, and the innermost comes first."""
    width = 128 if block.prefix.version == 6 else 32
    host = bits % (1 << (width - block.prefix.length))
    met = find_special(Prefix(block.prefix.version, block.prefix.value + host, width))
    assert block in met
    lengths = [b.prefix.length for b in met]
    assert lengths == sorted(lengths, reverse=True)


def test_findings_read_well() -> None:
    """Findings are one line: how bad, where, what, what to do, and the rule's name; the worst first."""
    found = lint(
        hierarchy("3fff:300::/28", towns=15, widths=(4, 16), templates={"town": [part("a", 1 << 40)]}), production=True
    )
    severities = [f.severity for f in found]
    assert severities == sorted(severities, key=("error", "warning", "advice").index)
    for finding in found:
        assert str(finding).startswith(f"{finding.severity}: {finding.where}: ")
        assert str(finding).endswith(f"[{finding.rule}]")
        assert "\n" not in str(finding)
