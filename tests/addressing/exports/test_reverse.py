"""Reverse DNS: zones cut at nibbles, each delegated exactly once, and every file one that BIND loads."""

from __future__ import annotations

import re
import shutil
import subprocess
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from addressing.divisions import Divisions
from addressing.exports import EXPORTS, ExportOptions
from addressing.exports.options import NothingToExportError, TooManyRowsError, UnsuitableExportError
from addressing.exports.reverse import list_zones
from addressing.hierarchy import HierarchyPlan, plan_divisions
from addressing.model import AddressPlan
from addressing.policy import LaidField, Layout, PlanPolicy
from addressing.text import Prefix, parse_prefix

Plan = AddressPlan | HierarchyPlan


@pytest.fixture(params=["county_plan", "hierarchy", "grown"])
def plan(request: pytest.FixtureRequest) -> Plan:
    """A plan of either kind."""
    found = request.getfixturevalue(request.param)
    assert isinstance(found, (AddressPlan, HierarchyPlan))
    return found


def write(plan: Plan, **options: object) -> dict[str, str]:
    """Return the folder, named.conf's part apart."""
    found = EXPORTS["reverse-dns"].write(plan, ExportOptions(**options))  # type: ignore[arg-type] # of the test's choosing
    assert isinstance(found, dict)
    assert found["named.conf.part"].count("zone ") == len(found) - 1
    return {k.removesuffix(".zone"): v for k, v in found.items() if k.endswith(".zone")}


def delegations(zones: dict[str, str]) -> list[str]:
    """Return the full names delegated, one for each name and file."""
    out: list[str] = []
    for zone, text in zones.items():
        labels = dict.fromkeys(line.split("\t")[0] for line in text.splitlines() if "\tNS\t" in line)
        out += [f"{label}.{zone}" for label in labels if label != "@"]
    return out


def prefix_of(zone: str) -> Prefix:
    """Return the prefix that a zone is about, by reading its name."""
    nibbles = zone.removesuffix(".ip6.arpa").split(".")[::-1]
    return Prefix(6, int("".join(nibbles), 16) << (128 - 4 * len(nibbles)), 4 * len(nibbles))


@pytest.mark.parametrize(
    ("prefix", "zones"),
    [
        ("3fff:4:10::/44", ["1.0.0.4.0.0.0.f.f.f.3.ip6.arpa"]),
        ("3fff:410:329:100::/56", ["1.0.9.2.3.0.0.1.4.0.f.f.f.3.ip6.arpa"]),
        ("3fff:410:328::/47", ["8.2.3.0.0.1.4.0.f.f.f.3.ip6.arpa", "9.2.3.0.0.1.4.0.f.f.f.3.ip6.arpa"]),
        ("3fff:100::/30", [f"{n}.0.1.0.f.f.f.3.ip6.arpa" for n in range(4)]),
    ],
)
def test_t9_zones_of_a_prefix(prefix: str, zones: list[str]) -> None:
    """T9: a prefix on a nibble has one zone, a /47 two, a /30 four."""
    assert list_zones(parse_prefix(prefix)) == zones


@given(st.integers(0, 2**128 - 1), st.integers(1, 128))
def test_zones_cover_a_prefix_exactly(value: int, length: int) -> None:
    """A prefix's zones are its parts at the next nibble: side by side, from its first address to its last."""
    prefix = Prefix(6, value >> (128 - length) << (128 - length), length)
    parts = [prefix_of(zone) for zone in list_zones(prefix)]
    assert parts[0].value == prefix.value
    assert parts[-1].last == prefix.last
    assert all(a.last + 1 == b.value for a, b in pairwise(parts))


def check_zone(zone: str, text: str, folder: Path) -> None:
    """Let BIND's own checker read a zone."""
    file = folder / "zone"
    file.write_text(text, "utf-8")
    done = subprocess.run(["named-checkzone", zone, file], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ignoring" not in done.stdout, done.stdout


needs_bind = pytest.mark.skipif(
    not shutil.which("named-checkzone"), reason="no named-checkzone: apt-get install bind9-utils"
)


@needs_bind
@pytest.mark.parametrize(
    "options", [{}, {"level": "town"}, {"delegate_to": ("ns.{code}.gov.example", "ns2.{id}.gov.example.")}]
)
def test_bind_loads_every_zone(plan: Plan, tmp_path: Path, options: dict[str, object]) -> None:
    """named-checkzone takes every file, and named-checkconf the list of them."""
    for zone, text in write(plan, **options).items():
        check_zone(zone, text, tmp_path)
    part = tmp_path / "named.conf.part"
    found = EXPORTS["reverse-dns"].write(plan, ExportOptions(**options))  # type: ignore[arg-type] # of the test's choosing
    assert isinstance(found, dict)
    part.write_text(found["named.conf.part"], "utf-8")
    if shutil.which("named-checkconf"):
        assert subprocess.run(["named-checkconf", part], capture_output=True, check=False, timeout=60).returncode == 0


@needs_bind
def test_bind_would_object(tmp_path: Path) -> None:
    """The checker that the test above trusts does refuse a zone without name servers."""
    file = tmp_path / "zone"
    file.write_text("$TTL 60\n@ SOA ns.example. h.example. 1 2 3 4 5\n")
    done = subprocess.run(["named-checkzone", "0.f.f.f.3.ip6.arpa", file], capture_output=True, check=False, timeout=60)
    assert done.returncode


def check_delegated_once(plan: HierarchyPlan, zones: dict[str, str]) -> None:
    """Every zone of every division in use is delegated once, from the nearest zone above it, unless it is a top."""
    named = delegations(zones)
    assert len(named) == len(set(named))
    active = [r for r in range(len(plan)) if plan.states[r] != 1]
    wanted = {zone for row in active for zone in list_zones(Prefix(6, *plan.prefix(row)))}
    tops = {zone for pool in plan.layout.pools for zone in list_zones(parse_prefix(str(pool)))}
    # A division whose zones are its pool's own is delegated by whoever gave the pool.
    assert set(named) == wanted - tops
    for name in named:
        above = [zone for zone in zones if name.endswith("." + zone)]
        owner = max(above, key=len)
        labels = {line.split("\t")[0] for line in zones[owner].splitlines() if "\tNS\t" in line}
        assert name.removesuffix("." + owner) in labels


def test_every_division_is_delegated_once(hierarchy: HierarchyPlan, grown: HierarchyPlan) -> None:
    """Each division in use is delegated from the zone above it, once; what is quarantined is not."""
    for plan in (hierarchy, grown):
        check_delegated_once(plan, write(plan))
    gone = next(r for r in range(len(grown)) if grown.states[r] == 1)
    assert not set(list_zones(Prefix(6, *grown.prefix(gone)))) & set(delegations(write(grown)))


@given(
    st.integers(20, 36),
    st.lists(st.integers(1, 6), min_size=1, max_size=3),
    st.lists(st.integers(1, 3), min_size=3, max_size=3),
)
@settings(max_examples=60, deadline=None)
def test_delegation_holds_for_any_widths(length: int, widths: list[int], fans: list[int]) -> None:
    """Whatever the fields' widths, on nibbles or not, every division is delegated exactly once."""
    plan = uneven(length, widths, fans)
    try:
        zones = write(plan)
    except NothingToExportError:
        # Everything is cut where the pool is: there is nobody to delegate.
        tops = {z for pool in plan.layout.pools for z in list_zones(parse_prefix(str(pool)))}
        assert len(widths) == 1
        assert {z for r in range(len(plan)) for z in list_zones(Prefix(6, *plan.prefix(r)))} == tops
        return
    check_delegated_once(plan, zones)


def uneven(length: int, widths: list[int], fans: list[int]) -> HierarchyPlan:
    """Plan a tree of the given fan-outs (as far as the widths hold them) under a pool of a length."""
    policy = PlanPolicy(pools=(f"3fff::/{length}",), leaf_at_most=64)  # type: ignore[arg-type] # pydantic reads text
    fields, at = [], length
    for number, width in enumerate(widths):
        at += width
        fields.append(
            LaidField(level=number + 1, name=f"f{number}", width=width, length=at, order="centre", reserved=(0,))
        )
    codes, levels, parents = [], [], []
    above = [(-1, "")]
    for number, width in enumerate(widths):
        fresh = []
        for row, code in above:
            for child in range(min(fans[number], (1 << width) - 1)):
                codes.append(f"{code}{child + 1}")
                levels.append(number + 1)
                parents.append(row)
                fresh.append((len(codes) - 1, codes[-1]))
        above = fresh
    order = sorted(range(len(codes)), key=lambda i: codes[i])
    place = {old: new for new, old in enumerate(order)} | {-1: -1}
    divisions = Divisions(
        [codes[i] for i in order],
        [f"n{codes[i]}" for i in order],
        np.array([levels[i] for i in order], dtype=np.int8),
        np.array([place[parents[i]] for i in order], dtype=np.int32),
    )
    return plan_divisions(divisions, policy, Layout(pools=policy.pools, fields=tuple(fields)))


def test_routers_have_their_names(county_plan: AddressPlan) -> None:
    """Every router's loopback has one PTR under the domain given, in the zone that holds its address."""
    zones = write(county_plan, domain="yichuan.example")
    found = {
        f"{m[1]}.{zone}": m[2]
        for zone, text in zones.items()
        for m in re.finditer(r"^(\S+)\tPTR\t(\S+)$", text, re.MULTILINE)
    }
    assert {str(prefix_of(name)): target for name, target in found.items()} == {
        r.prefix: f"{r.id.removeprefix('loopback:')}.yichuan.example."
        for r in county_plan.records
        if r.kind == "loopback"
    }


def test_serial_follows_the_plan(hierarchy: HierarchyPlan, grown: HierarchyPlan) -> None:
    """The serial is the plan's version, so that an updated plan's zones are taken; or what is given."""

    def serial(zones: dict[str, str]) -> set[str]:
        return {re.findall(r"SOA\t\S+ \S+ (\d+) ", text)[0] for text in zones.values()}

    assert serial(write(hierarchy)) == {"1"}
    assert serial(write(grown)) == {"2"}
    assert serial(write(grown, serial=2027010100)) == {"2027010100"}


def test_delegates_are_named_after_divisions(grown: HierarchyPlan) -> None:
    """A pattern names each division's own server; an absorbed one's is that of the division that took it over."""
    text = "".join(write(grown, delegate_to=("ns.{code}.example",)).values())
    assert "\tNS\tns.410301001001.example." in text
    assert "\tNS\tns.410302003000.example." not in text


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"nameservers": ()}, "no name server given"),
        ({"nameservers": ("ns 1.example",)}, "'ns 1.example' is no domain name"),
        ({"hostmaster": 'x"y@example'}, "is no domain name"),
        ({"delegate_to": ("ns.{town}.example",)}, "makes no name"),
        ({"serial": 1 << 32}, "above the last one"),
    ],
)
def test_bad_names_are_refused(hierarchy: HierarchyPlan, options: dict[str, object], said: str) -> None:
    """A name that is no domain name, a pattern that fills nothing, a serial too large: one line each, no zone."""
    with pytest.raises(UnsuitableExportError, match=re.escape(said)):
        write(hierarchy, **options)


def test_too_many_files_are_refused(hierarchy: HierarchyPlan, monkeypatch: pytest.MonkeyPatch) -> None:
    """More zone files than a server's configuration holds are refused; narrowed, they are written."""
    monkeypatch.setattr("addressing.exports.reverse.FILES", 5)
    with pytest.raises(TooManyRowsError, match="narrow it with --under CODE or --level"):
        write(hierarchy)
    assert len(write(hierarchy, under="410301000000")) == 4


def test_under_a_leaf_nothing_is_delegated(hierarchy: HierarchyPlan) -> None:
    """A village delegates nothing: an error, not an empty folder."""
    with pytest.raises(NothingToExportError, match="nothing delegates below it"):
        write(hierarchy, under="410301001001")
