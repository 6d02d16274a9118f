"""Laws of leak conflicts: they follow the import and export graph exactly, one hop unless transit, and name the target."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from addressing.leaks import (
    Hop,
    LeakConflict,
    Leaks,
    Vrf,
    describe,
    find_leak_conflicts,
    read_vrfs,
    vrfs_of_claims,
    vrfs_of_policy,
)
from addressing.prefixtables import Claim
from addressing.text import Prefix, parse_prefix
from inventory.errors import InputProblemsError
from inventory.reader import load_county

POLICY = load_county(Path(__file__).resolve().parents[2] / "inventory" / "yichuan").policy


def claim(vrf: str, prefix: str, row: int = 1, department: str = "") -> Claim:
    """Return a claim in a VRF."""
    return Claim(department or f"of-{vrf}", parse_prefix(prefix), f"{vrf}.csv", row, vrf=vrf)


def vrf(name: str, imports: str = "", exports: str = "", *, transit: bool = False) -> Vrf:
    """Return a VRF with its targets, separated by spaces."""
    return Vrf(name=name, imports=tuple(imports.split()), exports=tuple(exports.split()), transit=transit)


def places(found: Leaks) -> list[tuple[str, str, str]]:
    """Return where which two VRFs meet."""
    return [(c.place, c.first.vrf, c.second.vrf) for c in found.conflicts]


NAMES = "abcde"
TARGETS = st.lists(st.sampled_from("12345"), max_size=3).map(" ".join)
VRFS = st.tuples(*(st.builds(vrf, st.just(n), TARGETS, TARGETS, transit=st.booleans()) for n in NAMES))
CLAIMS = st.lists(
    st.tuples(st.sampled_from(NAMES), st.integers(0, 15), st.integers(0, 4)).map(
        lambda t: Claim("d", Prefix(4, (10 << 24) + (t[1] >> t[2] << t[2]), 32 - t[2]), "x.csv", 1, vrf=t[0])
    ),
    max_size=12,
)


def reaches(vrfs: tuple[Vrf, ...], source: Vrf, place: Vrf) -> bool:
    """Tell whether a VRF's prefixes are seen at another, walking every way there is: the definition, written down."""
    frontier, seen = [source], {source.name}
    while frontier:
        at = frontier.pop()
        if at is not source and not at.transit:
            continue
        for taker in vrfs:
            if taker.name not in seen and set(at.exports) & set(taker.imports):
                seen.add(taker.name)
                frontier.append(taker)
    return place.name in seen


@given(CLAIMS, VRFS)
def test_conflicts_are_the_naive_ones(claims: list[Claim], vrfs: tuple[Vrf, ...]) -> None:
    """Two VRFs conflict at a place exactly when both are seen there and some prefixes of theirs meet; counts agree."""
    expected = {}
    for place in vrfs:
        for one, other in combinations(vrfs, 2):
            blocks = {v.name: {c.block for c in claims if c.vrf == v.name} for v in (one, other)}
            meeting = sum(a.meets(b) for a in blocks[one.name] for b in blocks[other.name])
            if meeting and reaches(vrfs, one, place) and reaches(vrfs, other, place):
                expected[place.name, one.name, other.name] = meeting
    found = find_leak_conflicts(claims, vrfs)
    assert {(c.place, c.first.vrf, c.second.vrf): c.pairs.total for c in found.conflicts} == expected


@given(CLAIMS, VRFS)
def test_every_way_can_be_walked(claims: list[Claim], vrfs: tuple[Vrf, ...]) -> None:
    """Each hop of a conflict is by a target that the one exports and the next imports; VRFs between are transit."""
    by_name = {v.name: v for v in vrfs}
    for conflict in find_leak_conflicts(claims, vrfs).conflicts:
        for source in (conflict.first, conflict.second):
            at = by_name[source.vrf]
            for number, hop in enumerate(source.hops):
                assert hop.target in at.exports
                assert hop.target in by_name[hop.vrf].imports
                assert number == 0 or at.transit
                at = by_name[hop.vrf]
            assert at.name == conflict.place
        assert {conflict.example.first.vrf, conflict.example.second.vrf} == {conflict.first.vrf, conflict.second.vrf}


@given(CLAIMS, VRFS, st.randoms())
def test_order_does_not_matter(claims: list[Claim], vrfs: tuple[Vrf, ...], dice: object) -> None:
    """Shuffled claims and VRFs give the same conflicts."""
    rows, tables = claims.copy(), list(vrfs)
    dice.shuffle(rows)  # type: ignore[attr-defined]
    dice.shuffle(tables)  # type: ignore[attr-defined]
    assert find_leak_conflicts(rows, tables).conflicts == find_leak_conflicts(claims, vrfs).conflicts


TWO = [claim("a", "10.0.0.0/8", 3), claim("b", "10.1.0.0/16", 7)]


def test_no_leak_no_conflict() -> None:
    """The same prefix in two VRFs that leak nothing to each other is no conflict."""
    assert find_leak_conflicts(TWO, [vrf("a", "1", "2"), vrf("b", "3", "4")]).conflicts == ()


def test_a_leak_is_named_with_its_target() -> None:
    """A leaks into B by the target that both name, and meets B's own there, not the other way round."""
    [conflict] = find_leak_conflicts(TWO, [vrf("a", exports="65000:1"), vrf("b", "65000:1 65000:9")]).conflicts
    assert (conflict.place, conflict.first.hops, conflict.second.hops) == ("b", (Hop("65000:1", "b"),), ())
    assert describe(conflict)["example"]["first"] == {"department": "of-a", "block": "10.0.0.0/8", "at": "a.csv:3"}
    assert conflict.pairs.contained == 1


def test_one_hop_unless_transit() -> None:
    """What C imported from A goes on to B only where C is transit; the way is then told hop by hop."""

    def chain(*, transit: bool) -> list[LeakConflict]:
        vrfs = [vrf("a", exports="1"), vrf("c", "1", "2", transit=transit), vrf("b", "2")]
        return list(find_leak_conflicts(TWO, vrfs).conflicts)

    assert chain(transit=False) == []
    [conflict] = chain(transit=True)
    assert conflict.place == "b"
    assert conflict.first.hops == (Hop("1", "c"), Hop("2", "b"))


def test_two_that_meet_in_a_third() -> None:
    """A and B that both leak into shared services meet there: the way back would be anybody's guess."""
    found = find_leak_conflicts(TWO, [vrf("a", "9", "1"), vrf("b", "9", "2"), vrf("shared", "1 2", "9")])
    assert places(found) == [("shared", "a", "b")]
    assert found.departments() == {("of-a", "of-b")}


def test_one_departments_two_vrfs_conflict() -> None:
    """Within one department overlaps are its own affair, but a leak between its VRFs is a conflict."""
    claims = [c._replace(department="same") for c in TWO]
    found = find_leak_conflicts(claims, [vrf("a", exports="1"), vrf("b", "1")])
    assert len(found.conflicts) == 1
    assert found.departments() == frozenset()


def test_where_a_claim_lies() -> None:
    """A claim without a VRF lies in its department's only one; without such it is not looked at, and said so."""
    bare = [c._replace(vrf="") for c in TWO]
    vrfs = [vrf("a", exports="1").altered(department="of-a"), vrf("b", "1").altered(department="of-b")]
    assert len(find_leak_conflicts(bare, vrfs).conflicts) == 1
    two_vrfs = [*vrfs, vrf("b2").altered(department="of-b")]
    assert find_leak_conflicts(bare, two_vrfs).unplaced == (bare[1],)
    with pytest.raises(InputProblemsError, match=r"VRF 'b' is not among the VRFs"):
        find_leak_conflicts(TWO, vrfs[:1])


def test_planes_are_hub_and_spoke() -> None:
    """Of a county's planes each meets the others only in the shared one; dedicated planes never see each other."""
    vrfs = vrfs_of_policy(POLICY)
    found = find_leak_conflicts([claim("finance", "10.0.0.0/8"), claim("tax", "10.1.0.0/16")], vrfs)
    assert places(found) == [("shared", "finance", "tax")]
    found = find_leak_conflicts([claim("finance", "10.0.0.0/8"), claim("shared", "10.1.0.0/16")], vrfs)
    assert places(found) == [("finance", "finance", "shared"), ("shared", "finance", "shared")]


def test_targets_of_the_lists_themselves() -> None:
    """Targets in the prefix lists make the VRFs; lists without any make none."""
    assert vrfs_of_claims(TWO) == ()
    claims = [TWO[0]._replace(exports=("1",)), TWO[1]._replace(imports=("1",)), claim("c", "10.1.0.0/24")]
    vrfs = vrfs_of_claims(claims)
    assert [(v.name, v.imports, v.exports, v.department) for v in vrfs] == [
        ("a", (), ("1",), "of-a"),
        ("b", ("1",), (), "of-b"),
        ("c", (), (), "of-c"),
    ]
    assert places(find_leak_conflicts(claims, vrfs)) == [("b", "a", "b")]


def test_vrfs_are_read_alike_from_yaml_and_tables(tmp_path: Path) -> None:
    """YAML and a table in Chinese say the same."""
    (tmp_path / "v.yaml").write_text(
        "vrfs:\n- {name: finance, department: 财政局, imports: ['65000:1', '65000:2'], exports: ['65000:3']}\n"
        "- {name: hub, imports: ['65000:3'], transit: true}\n",
        "utf-8",
    )
    (tmp_path / "v.csv").write_text(
        "VRF名称,部门,导入目标,导出目标,transit\nfinance,财政局,65000:1;65000:2,65000:3,\nhub,,65000:3,,是\n", "gb18030"
    )
    assert read_vrfs(tmp_path / "v.yaml") == read_vrfs(tmp_path / "v.csv")
    assert read_vrfs(tmp_path / "v.csv")[1].transit


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("v.yaml", "vrfs: [{name: a, imports: ['1']}, {name: a}]", "'a' twice"),
        ("v.yaml", "vrfs: [{name: a}]", "no VRF imports"),
        ("v.yaml", "vrfs: []", "at least 1"),
        ("v.yaml", "vrfs: [{name: a, import: x}]", "vrfs.0.import"),
        ("v.yaml", "vrfs: [", "v.yaml:"),
        ("v.csv", "a,b\n1,2\n", "no header"),
        ("v.csv", "vrf,import\n,1\n", "expected a VRF's name"),
        ("v.csv", "vrf,import,transit\na,1,maybe\n", "expected yes or no"),
        ("gone.yaml", None, "no such file"),
        ("gone.csv", None, "no such file"),
    ],
)
def test_bad_vrf_files_are_problems(tmp_path: Path, name: str, text: str | None, says: str) -> None:
    """Each kind of bad file is one line that names it."""
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(InputProblemsError) as caught:
        read_vrfs(tmp_path / name)
    assert says in str(caught.value)
    assert name in str(caught.value)
