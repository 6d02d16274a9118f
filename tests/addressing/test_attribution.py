"""Laws of attribution: the innermost prefix always, in bulk as one by one, and a name for every part of a plan."""

from __future__ import annotations

import random
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from addressing.attribution import (
    Attribution,
    Attributor,
    find_addresses,
    find_tokens,
    flatten,
    pack,
    read_token,
)
from addressing.divisions import Divisions
from addressing.hierarchy import Fate, HierarchyPlan, continue_plan, plan_divisions
from addressing.model import AddressPlan
from addressing.plan import make_plan
from addressing.policy import LaidField, Layout, PlanPolicy
from addressing.text import Prefix, format_address, format_prefix, parse_prefix
from inventory.reader import load_county
from inventory.topology import build_topology

COUNTY = load_county(Path(__file__).resolve().parents[2] / "inventory" / "yichuan")
TOPOLOGY = build_topology(COUNTY)
RNG = np.random.default_rng(3531)


def divisions_of(*rows: tuple[str, int, str, str]) -> Divisions:
    """Return divisions from (code, level, parent code, name)."""
    ordered = sorted(rows)
    at = {row[0]: i for i, row in enumerate(ordered)}
    return Divisions(
        [r[0] for r in ordered],
        [r[3] for r in ordered],
        np.array([r[1] for r in ordered], dtype=np.int8),
        np.array([at[r[2]] if r[2] else -1 for r in ordered], dtype=np.int32),
    )


# A city with a county, its towns and villages, and one town directly under the city.
RAGGED = (
    ("410300000000", 2, "", "洛阳市"),
    ("410329000000", 3, "410300000000", "伊川县"),
    ("410329001000", 4, "410329000000", "城关街道"),
    ("410329001001", 5, "410329001000", "东关村"),
    ("410329001002", 5, "410329001000", "西关村"),
    ("410329101000", 4, "410329000000", "鸣皋镇"),
    ("410329101200", 5, "410329101000", "中溪村"),
    ("410390100000", 4, "410300000000", "直管镇"),
    ("410390100200", 5, "410390100000", "直管村"),
)
POLICY = PlanPolicy.model_validate(
    {
        "pools": ["3fff:300::/28"],
        "templates": {
            "village": [
                {"name": "办事大厅", "zone": "public", "slot": 0},
                {"name": "财政", "zone": "dedicated", "slot": 1},
            ],
            "town": [{"name": "镇政府", "zone": "public", "slot": 2}],
        },
        "infrastructure": {"srv6": "5f00:329::/32"},
    }
)
FIELDS = ((3, "county", 4, 32), (4, "town", 8, 40), (5, "village", 16, 56))
LAYOUT = Layout(
    pools=POLICY.pools,
    fields=tuple(
        LaidField(level=level, name=name, width=width, length=length, order="centre", reserved=(0, 1))
        for level, name, width, length in FIELDS
    ),
    root_level=2,
)


@cache
def hierarchy() -> HierarchyPlan:
    """Return the plan of RAGGED."""
    return plan_divisions(divisions_of(*RAGGED), POLICY, LAYOUT)


@cache
def county_plan() -> AddressPlan:
    """Return the sample county's plan."""
    return make_plan(COUNTY, TOPOLOGY)


def at(plan: HierarchyPlan, code: str, subnet: int = 0, host: int = 0) -> Prefix:
    """Return an address inside a division."""
    value, _ = plan.prefix(plan.row_of[code])
    return Prefix(6, value + (subnet << 64) + host, 128)


# Sets of prefixes nest by nature; short ones and long ones near one another make them do so often.
@st.composite
def nested(draw: st.DrawFn) -> list[Prefix]:
    """Return distinct IPv6 prefixes, many inside one another."""
    base = draw(st.integers(0, (1 << 128) - 1))
    flips = draw(st.lists(st.tuples(st.integers(0, 127), st.integers(0, 128)), min_size=1, max_size=30))
    out = {Prefix(6, (base ^ (1 << bit)) >> (128 - length) << (128 - length), length) for bit, length in flips}
    return sorted(out)


@given(nested(), st.data())
def test_innermost_of_any_nested_prefixes(prefixes: list[Prefix], data: st.DataObject) -> None:
    """The row found is that of the longest prefix that covers the address, for every address and length."""
    plan = county_plan().altered(
        records=tuple(
            county_plan().records[0].altered(id=f"plane:x{i}", kind="plane", prefix=str(p))
            for i, p in enumerate(prefixes)
        )
    )
    attributor = Attributor(plan)
    edges = [v & ((1 << 128) - 1) for p in prefixes for v in (p.value, p.last, p.last + 1, p.value - 1)]
    values = [*edges, *data.draw(st.lists(st.integers(0, (1 << 128) - 1), max_size=5))]
    rows = attributor.attribute_many(
        np.array([v >> 64 for v in values], dtype=np.uint64), np.array([v & ((1 << 64) - 1) for v in values], np.uint64)
    )
    for value, row in zip(values, rows.tolist(), strict=True):
        covering = [p for p in prefixes if p.covers(Prefix(6, value, 128))]
        expected = max(covering, key=lambda p: p.length, default=None)
        assert (prefixes[row] if row >= 0 else None) == expected


@given(st.integers(0, 1 << 40))
def test_sorted_blocks_find_what_plain_search_finds(seed: int) -> None:
    """Searching in sorted blocks changes nothing but the time it takes."""
    rng = np.random.default_rng(seed)
    starts = np.unique(rng.integers(0, 1 << 20, 500).astype(np.uint64)) << np.uint64(8)
    segments = flatten(starts, np.full(starts.size, 56, np.uint8), np.arange(starts.size, dtype=np.int32))
    keys = rng.integers(0, 1 << 28, 5000).astype(np.uint64)
    plain = segments.rows[np.searchsorted(segments.starts, keys, side="right") - 1]
    assert (segments.find(keys) == plain).all()
    assert (
        segments.find(np.sort(keys)) == segments.rows[np.searchsorted(segments.starts, np.sort(keys), side="right") - 1]
    ).all()


def test_a_division_by_every_address_it_has() -> None:
    """First, last and any address of a division's prefix lead to it or to what lies inside it."""
    plan = hierarchy()
    attributor = Attributor(plan)
    for row in range(len(plan)):
        value, length = plan.prefix(row)
        prefix = Prefix(6, value, length)
        for address in (prefix.value, prefix.last, prefix.value + random.Random(row).getrandbits(128 - length)):
            found = attributor.explain(Prefix(6, address, 128))
            names = [step.name for step in found.path]
            assert plan.names[row] in names or found.purpose in {"loopbacks", "links", "management"}


def test_names_of_a_village() -> None:
    """A village's address names city, county, town, village and the subnet's purpose, in both languages."""
    plan = hierarchy()
    found = Attributor(plan).explain(at(plan, "410329101200", 1, 0x55))
    assert found.planned
    assert [(s.kind, s.name) for s in found.path] == [
        ("city", "洛阳市"),
        ("county", "伊川县"),
        ("town", "鸣皋镇"),
        ("village", "中溪村"),
    ]
    assert found.say() == "洛阳市/伊川县/鸣皋镇/中溪村, 财政 (dedicated), subnet 1"
    assert found.say("zh") == "洛阳市/伊川县/鸣皋镇/中溪村，财政（dedicated），第 1 个子网"
    body = found.as_json()
    assert body["village"] == "中溪村"
    assert body["code"] == "410329101200"
    assert body["prefix"] == format_prefix(*plan.prefix(plan.row_of["410329101200"]))


def explain(plan: HierarchyPlan, address: Prefix) -> tuple[str, str]:
    """Return state and purpose."""
    found = Attributor(plan).explain(address)
    return found.state, found.purpose


def test_what_is_not_given_is_said_so() -> None:
    """Free and reserved slots, subnets no template names, and addresses outside are told apart."""
    plan = hierarchy()
    county, _ = plan.prefix(plan.row_of["410329000000"])
    assert explain(plan, at(plan, "410329101200", 7)) == ("free", "not-in-template")
    assert explain(plan, at(plan, "410329101000", 2)) == ("active", "subnet")
    assert explain(plan, Prefix(6, county | 0x7F << 88, 128)) == ("free", "slot")
    assert explain(plan, Prefix(6, county | 1 << 88, 128)) == ("reserved", "kept")
    assert explain(plan, parse_prefix("3fff:400::1")) == ("outside", "outside")
    assert explain(plan, parse_prefix("10.0.0.1")) == ("outside", "outside")
    assert explain(plan, parse_prefix("5f00:329::1")) == ("active", "srv6")
    said = Attributor(plan).explain(Prefix(6, county | 0x7F << 88, 128))
    assert said.say() == "洛阳市/伊川县, town 127: given to nobody"
    assert said.say("zh") == "洛阳市/伊川县，乡镇 127：未分配"


def test_the_pools_own_area_holds_the_infrastructure() -> None:
    """Loopbacks, links and management are known by their /64 of the pool's own area."""
    plan = hierarchy()
    root = at(plan, "410300000000")
    for number, purpose in enumerate(("loopbacks", "links", "management")):
        assert explain(plan, Prefix(6, root.value + (number << 64) + 9, 128)) == ("active", purpose)


def test_free_slots_of_children_that_skip_a_level() -> None:
    """Under a city with towns of its own, a town slot given to nobody is free, not the city's own subnet."""
    plan = hierarchy()
    town, length = plan.prefix(plan.row_of["410390100000"])
    assert length == 40
    found = Attributor(plan).explain(Prefix(6, town ^ (0x55 << 88), 128))
    assert (found.state, found.details["field"]) == ("free", "town")


def updated() -> HierarchyPlan:
    """Return the plan after a village is gone and a town was absorbed by another, its village living on."""
    before = hierarchy()
    after = divisions_of(
        *(
            (c, level, "410329001000" if parent == "410329101000" else parent, name)
            for c, level, parent, name in RAGGED
            if c not in {"410329001002", "410329101000"}
        )
    )
    identities = np.array([before.ids[before.row_of[c]] for c in after.codes], dtype=np.int64)
    town, into = (int(before.ids[before.row_of[c]]) for c in ("410329101000", "410329001000"))
    return continue_plan(before, after, Fate(identities, {town: into}))


def test_quarantined_and_absorbed() -> None:
    """What is gone is quarantined; what was absorbed is answered for by who absorbed it, and its villages moved with it."""
    before, after = hierarchy(), updated()
    attributor = Attributor(after)
    gone = attributor.explain(at(before, "410329001002", 0, 1))
    assert (gone.state, gone.planned) == ("quarantined", False)
    assert "西关村" in gone.say()
    absorbed = attributor.explain(at(before, "410329101000", 0, 1))
    assert absorbed.state == "free"  # its own part has a template, which this subnet is not in
    absorbed = attributor.explain(at(before, "410329101000", 2, 1))
    assert (absorbed.state, absorbed.path[-1].name) == ("absorbed", "城关街道")
    assert absorbed.say() == "洛阳市/伊川县/城关街道, was 鸣皋镇's, now answered for by 城关街道"
    moved = attributor.explain(at(before, "410329101200", 0, 1))
    assert [s.name for s in moved.path] == ["洛阳市", "伊川县", "城关街道", "中溪村"]


def test_a_loop_of_parents_or_absorptions_ends() -> None:
    """A damaged plan cannot keep an explanation busy."""
    plan = updated()
    row = int(np.flatnonzero(plan.states == 2)[0])
    intos = plan.intos.copy()
    intos[row] = plan.ids[row]
    looped = replace(plan, intos=intos, parents=plan.ids.copy())
    value, _ = plan.prefix(row)
    assert Attributor(looped).explain(Prefix(6, value + (2 << 64), 128)).state == "absorbed"


def county_says(address: object, *, known: bool = True, lang: str = "en") -> Attribution:
    """Explain an address of the sample county."""
    return Attributor(county_plan(), COUNTY if known else None).explain(parse_prefix(str(address)))


def test_every_station_and_server_is_named() -> None:
    """Each station's and server's address, IPv6 and IPv4, is explained by its own name, its place and its plane."""
    plan, attributor = county_plan(), Attributor(county_plan(), COUNTY)
    legs = [(s.name, s.site, p, s.host, "station") for s in COUNTY.stations for p in s.planes]
    legs += [(s.name, s.site, s.plane, s.host, "server") for s in COUNTY.servers]
    assert len(legs) > 20
    for name, site, plane, host, kind in legs:
        for interface in (plan.host6(site, plane, host), plan.host4(site, plane, host)):
            if interface is None:
                continue
            found = attributor.explain(parse_prefix(str(interface.ip)))
            assert (found.purpose, found.details["name"], found.plane) == (kind, name, plane)
            assert found.path[0].name == COUNTY.name
            if COUNTY.site_by_id[site].site_class != "county":
                assert found.path[-1].name == COUNTY.site_by_id[site].name


def test_every_router_is_named() -> None:
    """Gateways, loopbacks, both ends of links and both sides of hairpins are told by device."""
    plan, attributor = county_plan(), Attributor(county_plan(), COUNTY)
    for lan in TOPOLOGY.lans:
        found = attributor.explain(parse_prefix(str(plan.gateway6(lan.site, lan.plane).ip)))
        assert found.details == {"router": lan.gateway.device}
    for link in TOPOLOGY.links:
        if link.plane is None:
            continue
        for address, end in zip(plan.link6(link.circuit, link.plane), (link.a, link.b), strict=True):
            found = attributor.explain(parse_prefix(str(address)))
            assert (found.details["device"], found.details["interface"]) == (end.device, end.interface)
            assert found.plane == link.plane
    for hairpin in TOPOLOGY.hairpins:
        for address, side in zip(plan.hairpin6(hairpin.device, hairpin.plane), ("inner", "outer"), strict=True):
            found = attributor.explain(parse_prefix(str(address)))
            assert (found.purpose, found.details["end"]) == ("hairpin", side)
    device = next(d for d in COUNTY.devices if d.network == "extranet")
    assert county_says(plan.loopback(device.id)).details == {"device": device.id}
    circuit = next(c for c in COUNTY.circuits if c.network == "extranet")
    assert county_says(plan.link4(circuit.id)[0]).details["device"] == circuit.device


def test_identifiers_with_a_meaning() -> None:
    """The subnet-router anycast address and RFC 2526's identifiers are reserved; any other identifier is a machine's."""
    lan = next(lan for lan in TOPOLOGY.lans if lan.stations)
    prefix = parse_prefix(str(county_plan().lan6(lan.site, lan.plane)))
    expected = {
        0: ("reserved", "router-anycast"),
        1: ("active", "gateway-of"),
        0xF00D: ("active", "host"),
        0x0211_22FF_FE33_4455: ("active", "machine"),
        0xFFFF_FFFF_FFFF_FF7F: ("active", "machine"),
        0xFFFF_FFFF_FFFF_FF80: ("reserved", "anycast"),
        0xFFFF_FFFF_FFFF_FFFF: ("reserved", "anycast"),
    }
    for identifier, meant in expected.items():
        found = county_says(format_address(6, prefix.value + identifier))
        assert (found.state, found.purpose) == meant


def test_holes_of_the_county_plan() -> None:
    """A plane, town, site or /64 given to nobody is free and said so; so is IPv4 of the pools."""
    plan = county_plan()
    pool = parse_prefix(plan.pool)
    lan = next(lan for lan in TOPOLOGY.lans if lan.stations)
    site = parse_prefix(plan.by_id[f"site:{lan.site}@{lan.plane}"].prefix)
    plane = parse_prefix(plan.by_id[f"plane:{lan.plane}"].prefix)
    assert county_says(format_address(6, pool.last)).say() == "plane 15: given to nobody"
    assert county_says(format_address(6, plane.last)).details == {"field": "town", "slot": "255"}
    assert county_says(format_address(6, site.last)).purpose == "site"
    assert county_says(format_address(6, pool.value + (7 << 64))).state == "free"
    assert county_says(format_address(6, pool.value + 0xFFFF)).state == "reserved"
    assert county_says("100.64.255.255").state == "free"
    assert county_says("2001:db8::1").state == "outside"
    assert county_says("192.0.2.1").state == "outside"


def test_the_plan_alone_still_tells_place_and_plane() -> None:
    """Without the inventory the plan's own names are used; gateways and ends are told without devices."""
    plan = county_plan()
    lan = next(lan for lan in TOPOLOGY.lans if COUNTY.site_by_id[lan.site].site_class == "village")
    found = county_says(plan.gateway6(lan.site, lan.plane).ip, known=False)
    village = COUNTY.site_by_id[lan.site]
    town = COUNTY.site_by_id[village.parent or ""]
    assert [s.name for s in found.path[1:]] == [town.name, village.name]
    assert (found.purpose, found.plane) == ("gateway", lan.plane)
    link = next(link for link in TOPOLOGY.links if link.plane)
    assert county_says(plan.link6(link.circuit, link.plane or "")[1], known=False).details["end"] == "b"


def test_quarantined_record() -> None:
    """An address of a quarantined record is said to be quarantined, and whose it was."""
    plan = county_plan()
    lan = next(r for r in plan.records if r.kind == "lan")
    altered = plan.altered(records=tuple(r.altered(state="quarantined") if r == lan else r for r in plan.records))
    found = Attributor(altered, COUNTY).explain(Prefix(6, parse_prefix(lan.prefix).value + 2, 128))
    assert (found.state, found.planned) == ("quarantined", False)
    assert lan.name in found.say()


def test_t17_versions_do_not_mix() -> None:
    """T17: IPv4 is looked up among IPv4 only; IPv4 mapped into IPv6 is the IPv4 address it means."""
    plan = county_plan()
    lan4 = next(r for r in plan.records if r.kind == "lan4")
    first = parse_prefix(lan4.prefix).value + 1
    text = format_address(4, first)
    assert county_says(text).id == lan4.id
    assert county_says(f"::ffff:{text}").id == lan4.id
    assert county_says(f"::{text}").state == "outside"
    assert county_says("1.2.3.4").state == "outside"


@settings(max_examples=40)
@given(st.lists(st.integers(0, (1 << 128) - 1), max_size=50))
def test_texts_in_bulk(values: list[int]) -> None:
    """Addresses packed from text are the addresses, whatever their notation."""
    high, low = pack([format_address(6, v) for v in values])
    assert [(int(h) << 64) | int(x) for h, x in zip(high, low, strict=True)] == values
    padded, _ = pack([":".join(f"{v >> s & 0xFFFF:04X}" for s in range(112, -1, -16)) for v in values])
    assert (padded == high).all()


def test_bulk_equals_single_on_the_county_plan() -> None:
    """Rows found in bulk are those of the explanations, also inside /64s."""
    plan, attributor = county_plan(), Attributor(county_plan(), COUNTY)
    picks = [parse_prefix(r.prefix) for r in plan.records]
    values = [p.value + int(RNG.integers(0, 1 << 62)) % (1 << (128 - p.length)) for p in picks if p.version == 6]
    rows = attributor.attribute_texts([format_address(6, v) for v in values])
    assert [attributor.explain(Prefix(6, v, 128)).id for v in values] == [
        plan.records[r].id if r >= 0 else "" for r in rows.tolist()
    ]
    with pytest.raises(OSError, match=r".+"):
        attributor.attribute_texts(["nothing"])


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("GET / from 2001:db8::1 ok", ["2001:db8::1"]),
        ("[2001:db8::1]:443 -> [2001:db8:0:0::2]:5000", ["2001:db8::1", "2001:db8::2"]),
        ("src=2001:db8::1,dst=2001:db8::2;", ["2001:db8::1", "2001:db8::2"]),
        ("src:2001:db8::1 ip:2001:db8::2 address:2001:db8::3", ["2001:db8::1", "2001:db8::2", "2001:db8::3"]),
        ("from 2001:db8::1: connection refused", ["2001:db8::1"]),
        ("done with 2001:db8::1.", ["2001:db8::1"]),
        ("IP6 2001:db8::1.443 > 2001:db8::2.53: tcp", ["2001:db8::1", "2001:db8::2"]),
        ("client 2001:db8::1#53 fe80::1%eth0", ["2001:db8::1", "fe80::1"]),
        ("route 2001:db8::/32 via ::1", ["2001:db8::", "::1"]),
        ("来自2001:DB8::A的请求", ["2001:db8::a"]),
        ("::ffff:192.0.2.1 spoke", ["::ffff:192.0.2.1"]),
        ("1:2:3:4:5:6:7:8", ["1:2:3:4:5:6:7:8"]),
        ("2027-11-22 12:34:56.789 up 00:11:22:33:44:55", []),
        ("std::string Foo::Bar() a::b::c 1:2:3:4:5:6:7:8:9 12345::1 ::g", []),
        ("2001:db8::1x x2001:db8::1 2001:db8::1_2", []),
        (":::: ::: : 1:2", []),
    ],
)
def test_addresses_in_a_log(line: str, found: list[str]) -> None:
    """Addresses are found as logs write them; times, hardware addresses and program text are not taken for them."""
    assert [format_address(6, a.value) for _, _, a in find_addresses([line])] == found


@given(st.text(alphabet="0123456789abcdefg:.[]% ", max_size=80))
def test_any_line_can_be_read(line: str) -> None:
    """Any line is read without complaint, and every address found is written in it."""
    for token in find_tokens(line, ipv4=True):
        assert token in line
        read_token(token)


def test_a_hostile_line_costs_no_more_than_its_length() -> None:
    """A megabyte of anything is searched in well under a second: no expression backtracks."""
    import time

    for piece in ("a", ":", "0:", "::", "1.", "g:", "ab-", "0", "1::2 "):
        line = piece * ((1 << 20) // len(piece))
        start = time.process_time()
        find_tokens(line, ipv4=True)
        assert time.process_time() - start < 2


def test_the_same_token_is_explained_once() -> None:
    """A log's repeated address gives the very same explanation; what is no address gives none."""
    attributor = Attributor(county_plan(), COUNTY)
    text = str(county_plan().loopback(next(d.id for d in COUNTY.devices if d.network == "extranet")))
    assert attributor.recall(text) is attributor.recall(text)
    assert attributor.recall("::1::2") is None


def test_a_part_of_a_site_as_json() -> None:
    """For machines, a site template's part is its zone and its name."""
    found = Attributor(hierarchy()).explain(at(hierarchy(), "410329101200", 1, 1)).as_json()
    assert (found["plane"], found["purpose"]) == ("dedicated", "财政")
    assert found["says"].endswith("财政 (dedicated), subnet 1")
