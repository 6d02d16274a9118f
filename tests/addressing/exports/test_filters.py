"""Filters: each list lets in exactly the plan's prefixes of its field, and each dialect passes its own parser."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from addressing.exports import EXPORTS, ExportOptions
from addressing.exports.filters import Filters, Rule, collapse, make_filters
from addressing.exports.fortios import _child_values
from addressing.exports.options import TooManyRowsError, UnsuitableExportError
from addressing.exports.selection import list_items
from addressing.hierarchy import HierarchyPlan
from addressing.model import AddressPlan
from addressing.text import Prefix, parse_prefix

Plan = AddressPlan | HierarchyPlan
ZEBRA = Path("/usr/lib/frr/zebra")
STATICD = Path("/usr/lib/frr/staticd")


@pytest.fixture(params=["county_plan", "hierarchy", "grown"])
def plan(request: pytest.FixtureRequest) -> Plan:
    """A plan of either kind."""
    found = request.getfixturevalue(request.param)
    assert isinstance(found, (AddressPlan, HierarchyPlan))
    return found


def lets_in(rules: tuple[Rule, ...], prefix: Prefix) -> bool:
    """Judge a route as a router does: the first rule that matches, else no."""
    for rule in rules:
        if rule.prefix.covers(prefix) and rule.low <= prefix.length <= rule.high:
            return rule.permit
    return False


def by_name(filters: Filters) -> dict[str, tuple[Rule, ...]]:
    """Return the route lists' rules by name."""
    return {entry.name: entry.rules for entry in filters.routes}


def text_of(name: str, plan: Plan, **options: object) -> str:
    """Return a format of one text."""
    content = EXPORTS[name].write(plan, ExportOptions(**options))  # type: ignore[arg-type] # of the test's choosing
    assert isinstance(content, str)
    return content


def test_level_lists_let_in_their_level_only(grown: HierarchyPlan) -> None:
    """A level's list lets in every prefix in use of that level, none of another, and nothing quarantined."""
    lists = by_name(make_filters(grown, ExportOptions(), "frr-filter"))
    for item in list_items(grown, ExportOptions(), "t"):
        for level in (3, 4, 5):
            wanted = item.level == level and item.state != "quarantined"
            assert lets_in(lists[f"EXT-L{level}"], item.prefix) is wanted
    assert not lets_in(lists["EXT-L5"], parse_prefix("3fff:200::/56"))


def test_plane_lists_keep_planes_apart(county_plan: AddressPlan) -> None:
    """A plane's list lets in its own prefixes down to /64 and no other plane's."""
    lists = by_name(make_filters(county_plan, ExportOptions(), "frr-filter"))
    for item in list_items(county_plan, ExportOptions(), "t"):
        if item.kind in {"plane", "town", "site", "lan"}:
            own = {name for name, rules in lists.items() if name.startswith("EXT-P-") and lets_in(rules, item.prefix)}
            assert own == {f"EXT-P-{item.zone.upper()}"}


def test_lists_by_division_let_in_what_is_below_it(hierarchy: HierarchyPlan) -> None:
    """With --level, each division has a list that lets in its own prefix and all inside it, and nothing else."""
    lists = by_name(make_filters(hierarchy, ExportOptions(level="4"), "frr-filter"))
    assert len(lists) == 6
    for item in list_items(hierarchy, ExportOptions(), "t"):
        own = {name for name, rules in lists.items() if lets_in(rules, item.prefix)}
        wanted = item.code if item.level == 4 else item.parent
        assert own == (set() if item.level == 3 else {f"EXT-{wanted}"})


def test_what_was_absorbed_is_filtered_with_its_taker(grown: HierarchyPlan) -> None:
    """The block of an absorbed town is in the list of the town that took it over."""
    lists = by_name(make_filters(grown, ExportOptions(level="4"), "frr-filter"))
    assert "EXT-410302003000" not in lists
    assert len([r for r in lists["EXT-410302002000"] if r.permit]) == 2


@pytest.mark.parametrize("options", [{}, {"level": "town"}])
def test_frr_reads_its_configuration(plan: Plan, tmp_path: Path, options: dict[str, str]) -> None:
    """FRR's own parsers (vtysh, and the daemon of each command) take the filters and the discard routes."""
    if not shutil.which("vtysh") or not ZEBRA.exists() or not STATICD.exists():
        pytest.skip("FRR is not installed here: apt-get install frr")
    for name, daemon in (("frr-filter", ZEBRA), ("null-routes", STATICD)):
        file = tmp_path / f"{name}.conf"
        file.write_text(text_of(name, plan, **options), "utf-8")
        for command in (["vtysh", "--dryrun", "-f", file], [daemon, "-C", "-f", file]):
            done = subprocess.run(
                [str(word) for word in command], capture_output=True, text=True, check=False, timeout=60
            )
            said = done.stdout + done.stderr
            assert done.returncode == 0, said
            # A daemon goes on after a line it does not know, and says so.
            assert not re.search(r"Unknown command|No such command|error|% ", said, re.IGNORECASE), said


def test_frr_parser_would_object(tmp_path: Path) -> None:
    """The parser that the test above trusts does refuse a wrong line."""
    if not shutil.which("vtysh"):
        pytest.skip("FRR is not installed here: apt-get install frr")
    file = tmp_path / "wrong.conf"
    file.write_text("ipv6 prefix-list EXT-L3 seq 10 allow 3fff:100::/36\n")
    assert subprocess.run(["vtysh", "--dryrun", "-f", file], capture_output=True, check=False, timeout=60).returncode


@pytest.mark.parametrize("options", [{}, {"level": "town"}, {"subnets": True}])
def test_nftables_takes_the_sets(plan: Plan, tmp_path: Path, options: dict[str, object]) -> None:
    """`nft -c` takes the sets: no interval overlaps another."""
    if not shutil.which("nft"):
        pytest.skip("nftables is not installed here: apt-get install nftables")
    file = tmp_path / "sets.nft"
    file.write_text(text_of("nftables", plan, **options), "utf-8")
    done = subprocess.run(["nft", "-c", "-f", file], capture_output=True, text=True, check=False, timeout=60)
    if "Operation not permitted" in done.stderr:
        pytest.skip("nft -c needs CAP_NET_ADMIN here")
    assert done.returncode == 0, done.stderr


VRP_LIST = re.compile(
    r"ip ipv6-prefix [A-Z0-9-]+ index \d+ (permit|deny) [0-9a-f:]+ \d+( greater-equal \d+)?( less-equal \d+)?"
)
COMWARE_LIST = re.compile(VRP_LIST.pattern.replace("ip ipv6-prefix", "ipv6 prefix-list"))
RULE = re.compile(r" rule \d+ ((permit|deny) source [0-9a-f:]+/\d+|deny)")
GRAMMARS = {
    "huawei-filter": [VRP_LIST, re.compile(r"acl ipv6 name [A-Z][A-Z0-9-]* basic"), RULE, re.compile(r"#.*")],
    "h3c-filter": [COMWARE_LIST, re.compile(r"acl ipv6 basic name [A-Z][A-Z0-9-]*"), RULE, re.compile(r"#.*")],
    "cisco-filter": [
        re.compile(r"ipv6 prefix-list [A-Z0-9-]+ seq \d+ (permit|deny) [0-9a-f:]+/\d+( ge \d+)?( le \d+)?"),
        re.compile(r"ipv6 access-list [A-Z0-9-]+"),
        re.compile(r" sequence \d+ (permit ipv6 [0-9a-f:]+/\d+ any|deny ipv6 ([0-9a-f:]+/\d+|any) any)"),
        re.compile(r"!.*"),
    ],
    "juniper-filter": [
        re.compile(r"set policy-options policy-statement [A-Z0-9-]+ term [a-z]+ from route-filter [0-9a-f:]+/\d+ "
                   r"prefix-length-range /\d+-/\d+"),
        re.compile(r"set policy-options policy-statement [A-Z0-9-]+ term [a-z]+ then (accept|reject)"),
        re.compile(r"set policy-options prefix-list [A-Z0-9-]+ [0-9a-f:]+/\d+"),
        re.compile(r"set firewall family inet6 filter [A-Z0-9-]+ term [a-z]+ from source-prefix-list [A-Z0-9-]+"),
        re.compile(r"set firewall family inet6 filter [A-Z0-9-]+ term [a-z]+ then (accept|discard)"),
        re.compile(r"#.*"),
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", GRAMMARS)
@pytest.mark.parametrize("options", [{}, {"level": "town"}])
def test_dialects_keep_to_their_grammar(plan: Plan, name: str, options: dict[str, str]) -> None:
    """Every line is one of the forms in the vendor's command reference, and every list ends by denying the rest."""
    lines = text_of(name, plan, **options).splitlines()
    odd = [line for line in lines if not any(form.fullmatch(line) for form in GRAMMARS[name])]
    assert odd == []
    assert len([ln for ln in lines if "deny" in ln or "reject" in ln or "discard" in ln]) >= 1


def test_dialects_say_the_same_prefixes(plan: Plan) -> None:
    """Every dialect names the same lists with the same prefixes."""
    found: dict[str, set[tuple[str, str]]] = {}
    for name in ("frr-filter", "cisco-filter"):
        found[name] = set(re.findall(r"prefix-list (\S+) seq \d+ (?:permit|deny) (\S+)", text_of(name, plan)))
    for name in ("huawei-filter", "h3c-filter"):
        pairs = re.findall(
            r"(?:ipv6-prefix|prefix-list) (\S+) index \d+ (?:permit|deny) (\S+) (\d+)", text_of(name, plan)
        )
        found[name] = {(a, f"{b}/{c}") for a, b, c in pairs}
    found["juniper-filter"] = set(
        re.findall(r"policy-statement (\S+) term \S+ from route-filter (\S+)", text_of("juniper-filter", plan))
    )
    assert len({frozenset(pairs) for pairs in found.values()}) == 1
    assert all(found.values())


def test_more_entries_than_a_device_numbers_are_refused() -> None:
    """H3C numbers entries up to 65,535: a longer list is refused in one line, not cut short."""
    from addressing.exports.filters import FilterList, _write_comware

    rules = tuple(
        Rule(permit=True, prefix=Prefix(6, (0x3FFF << 112) + (n << 72), 56), low=56, high=64) for n in range(7000)
    )
    lists = Filters((FilterList("EXT-X", "x", rules),), (), ())
    with pytest.raises(TooManyRowsError, match="list EXT-X would hold 7000 entries, the most is 6553"):
        _write_comware(lists, "h3c-filter", "ipv6 prefix-list", "acl ipv6 basic name {name}")


def test_collapse_covers_the_same_with_no_overlap() -> None:
    """What another covers goes; what is left covers all there was, without overlap."""
    prefixes = [
        parse_prefix(p) for p in ("3fff:1::/48", "3fff:1:0:100::/56", "3fff::/48", "3fff:1::/48", "3fff:2::/56")
    ]
    left = collapse(prefixes)
    assert [str(p) for p in left] == ["3fff::/48", "3fff:1::/48", "3fff:2::/56"]
    assert all(any(k.covers(p) for k in left) for p in prefixes)


def parse_fortios(text: str) -> dict[str, Any]:
    """Read FortiOS configuration into nested dicts; AssertionError where its nesting is wrong."""
    root: dict[str, Any] = {}
    stack: list[tuple[str, dict[str, Any]]] = [("", root)]
    for line in text.splitlines():
        word, _, rest = line.strip().partition(" ")
        top = stack[-1][1]
        if word in {"config", "edit"}:
            fresh: dict[str, Any] = {}
            assert rest.strip('"') not in top
            top[rest.strip('"')] = fresh
            stack.append((word, fresh))
        elif word == "set":
            key, _, value = rest.partition(" ")
            top[key] = value.strip('"')
        else:
            assert word == {"config": "end", "edit": "next"}[stack.pop()[0]]
    assert len(stack) == 1
    return root


def test_fortios_template_rebuilds_every_prefix(county_plan: AddressPlan, hierarchy: HierarchyPlan) -> None:
    """Put together from the template, planes and towns are the plan's own prefixes: named bits, in their places."""
    for plan, options in ((county_plan, {}), (hierarchy, {"under": "410301000000"})):
        found = parse_fortios(text_of("fortios", plan, **options))
        ((_, template),) = found["firewall address6-template"].items()
        segments = list(template["subnet-segment"].values())
        top = parse_prefix(template["ip6"])
        assert int(template["subnet-segment-count"]) == len(segments) <= 6
        assert all(1 <= int(s["bits"]) <= 16 for s in segments)
        assert top.length + sum(int(s["bits"]) for s in segments) == 64
        first = segments[0]
        rebuilt = {
            name: Prefix(
                6,
                top.value | int(v["value"], 2) << (128 - top.length - int(first["bits"])),
                top.length + int(first["bits"]),
            )
            for name, v in first["values"].items()
        }
        kind = "plane" if isinstance(plan, AddressPlan) else "town"
        items = list_items(plan, ExportOptions(**options), "t")  # type: ignore[arg-type] # texts
        planned = {i.zone if kind == "plane" else i.name: i.prefix for i in items if i.kind == kind}
        assert rebuilt == planned
        addresses = found["firewall address6"]
        assert {a["ip6"] for a in addresses.values()} >= {str(p) for p in planned.values()}


def test_fortios_refuses_fields_too_wide(hierarchy: HierarchyPlan) -> None:
    """A field of more than 16 bits is refused in one line."""
    from dataclasses import replace

    wide = hierarchy.layout.fields[0].altered(width=17, length=53)
    layout = hierarchy.layout.altered(fields=(wide,))
    with pytest.raises(UnsuitableExportError, match="field county has 17 bits, a segment at most 16"):
        EXPORTS["fortios"].write(replace(hierarchy, layout=layout), ExportOptions())


def test_same_names_are_told_apart_by_code(hierarchy: HierarchyPlan) -> None:
    """Two children of one name are two values of the template, each with its code."""
    from dataclasses import replace

    names = ["同名" if code in {"410301001000", "410301002000"} else name
             for code, name in zip(hierarchy.codes, hierarchy.names, strict=True)]  # fmt: skip
    values = _child_values(
        replace(hierarchy, names=names), int(hierarchy.ids[hierarchy.row_of["410301000000"]]), 4, 255
    )
    assert {"410301001000 同名", "410301002000 同名", "第1县3镇"} == set(values)


def test_discard_routes_cover_every_delegated_block(plan: Plan) -> None:
    """Every delegated block has one discard route (RFC 7084 WPD-5), quarantined ones too; both forms agree."""
    text = text_of("null-routes", plan)
    routes = re.findall(r"^ipv6 route (\S+) blackhole 254(?: vrf (\S+))?$", text, re.MULTILINE)
    table = [line.split(",") for line in text_of("null-routes-csv", plan).splitlines()[1:]]
    assert [(r[0], r[3]) for r in table] == routes
    if isinstance(plan, HierarchyPlan):
        assert len(routes) == len(plan)
    else:
        kinds = {"infra", "plane", "town", "site"}
        assert sorted(p for p, _ in routes) == sorted(r.prefix for r in plan.records if r.kind in kinds)
        assert all(vrf == next(r.id for r in plan.records if r.prefix == p).partition("@")[2] or not vrf or p.endswith("/40")
                   for p, vrf in routes)  # fmt: skip


def test_names_that_no_device_takes_are_replaced(hierarchy: HierarchyPlan) -> None:
    """A code that is no ASCII word gives a list named by identity, and a newline in a name stays inside its comment."""
    from dataclasses import replace

    row = hierarchy.row_of["410301000000"]
    codes, names = list(hierarchy.codes), list(hierarchy.names)
    codes[row], names[row] = "县 1", "a\nipv6 route ::/0 blackhole"
    text = text_of("frr-filter", replace(hierarchy, codes=codes, names=names), level="3")
    assert f"ipv6 prefix-list EXT-ID-{hierarchy.ids[row]} seq 10" in text
    assert all(line.startswith(("!", "ipv6 prefix-list ", "ipv6 access-list ")) for line in text.splitlines())
