"""Laws of finding overlaps: as the naive answer, whatever the order; clusters partition; the vectors T15 to T17."""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from itertools import combinations
from pathlib import Path

import pytest
import typer
from hypothesis import given, settings
from hypothesis import strategies as st
from openpyxl import load_workbook
from typer.testing import CliRunner

from addressing.overlaps import (
    Meetings,
    PairCounts,
    count_pairs,
    department_of,
    find_clusters,
    find_meeting_departments,
    iterate_pairs,
    kind_of,
)
from addressing.prefixtables import Block, Claim, parse_block
from addressing.text import Prefix
from scripts.commands.plan_overlaps import overlaps

APP = typer.Typer()
APP.command()(overlaps)


def claim(department: str, text: str, row: int = 1, **more: str) -> Claim:
    """Return a claim of what a text says."""
    block = parse_block(text)
    span = None if block.prefix else (block.first, block.last)
    return Claim(department, block.prefix or block.cover, f"{department}.csv", row, span=span, **more)  # type: ignore[arg-type]


def claim_block(department: str, block: Block, row: int) -> Claim:
    """Return a claim of a block."""
    span = None if block.prefix else (block.first, block.last)
    return Claim(department, block.prefix or block.cover, f"{department}.csv", row, span=span)


def narrow(version: int, top: int) -> st.SearchStrategy[Block]:
    """Return prefixes and ranges that often meet: they differ in a few bits only, from `top` upwards."""
    prefixes = st.tuples(st.integers(0, 63), st.integers(0, 6)).map(
        lambda t: Block(version, top + (t[0] >> t[1] << t[1]), top + (t[0] >> t[1] << t[1]) + (1 << t[1]) - 1)
    )
    ranges = st.tuples(st.integers(0, 63), st.integers(0, 63)).map(lambda t: Block(version, top + min(t), top + max(t)))
    return prefixes | ranges


BLOCKS = narrow(4, 10 << 24) | narrow(4, 0) | narrow(6, 0x3FFF << 112) | narrow(6, (1 << 64) - 32) | narrow(6, 0)
CLAIMS = st.lists(st.tuples(st.sampled_from("ABCD"), BLOCKS), max_size=24).map(
    lambda rows: [claim_block(d, b, i) for i, (d, b) in enumerate(rows)]
)


def naive(claims: list[Claim]) -> Counter[tuple[str, str, str]]:
    """Count pairs by department and kind, each with each: the definition, written down."""
    nodes = sorted({(c.department, c.block) for c in claims})
    found: Counter[tuple[str, str, str]] = Counter()
    for (one, a), (other, b) in combinations(nodes, 2):
        if one == other or a.version != b.version or a.last < b.first or b.last < a.first:
            continue
        inside = (a.first <= b.first and b.last <= a.last) or (b.first <= a.first and a.last <= b.last)
        found[one, other, "exact" if a == b else "contained" if inside else "partial"] += 1
    return found


def naive_clusters(claims: list[Claim]) -> set[frozenset[Claim]]:
    """Return the components by overlap, as far as two departments meet in them: only the claims that do."""
    groups: list[list[Claim]] = []
    for one in claims:
        joined = [g for g in groups if any(one.block.meets(o.block) for o in g)]
        groups = [g for g in groups if g not in joined] + [[one, *(c for g in joined for c in g)]]
    members = [
        frozenset(c for c in g if any(c.department != o.department and c.block.meets(o.block) for o in g))
        for g in groups
    ]
    return {m for m in members if m}


@given(CLAIMS)
def test_counts_are_the_naive_ones(claims: list[Claim]) -> None:
    """Exact, contained and partial pairs by department are those of comparing each with each."""
    found: Counter[tuple[str, str, str]] = Counter()
    for (one, other), counts in find_clusters(claims).matrix.items():
        assert one < other
        found.update({(one, other, kind): n for kind, n in counts._asdict().items()})
    assert +found == naive(claims)


@given(CLAIMS)
def test_clusters_are_the_naive_ones(claims: list[Claim]) -> None:
    """Clusters are the connected components, each with every claim that meets another department's, and no other."""
    result = find_clusters(claims)
    assert {frozenset(result.members_of(c)) for c in result.clusters} == naive_clusters(claims)


@given(CLAIMS, st.randoms())
def test_order_of_input_does_not_matter(claims: list[Claim], dice: random.Random) -> None:
    """The result is the same whichever way the claims are shuffled."""
    shuffled = claims.copy()
    dice.shuffle(shuffled)
    assert find_clusters(shuffled) == find_clusters(claims)


@given(CLAIMS)
def test_clusters_partition_the_members(claims: list[Claim]) -> None:
    """Every member is in exactly one cluster, within its outermost block; two clusters' blocks never meet."""
    result = find_clusters(claims)
    assert [c.start for c in result.clusters] + [len(result.members)] == [0] + [c.stop for c in result.clusters]
    assert [c.number for c in result.clusters] == list(range(1, len(result.clusters) + 1))
    for cluster in result.clusters:
        inside = result.members_of(cluster)
        assert len(inside) == len(cluster)
        assert cluster.departments == tuple(sorted({c.department for c in inside}))
        assert len(cluster.departments) > 1
        assert cluster.outermost.first == min(c.block.first for c in inside)
        assert cluster.outermost.last == max(c.block.last for c in inside)
        assert {c.block.version for c in inside} == {cluster.outermost.version}
    assert not any(a.outermost.meets(b.outermost) for a, b in combinations(result.clusters, 2))


@given(CLAIMS)
def test_sums_agree(claims: list[Claim]) -> None:
    """The matrix, the clusters and the listed pairs add up to the same counts."""
    result = find_clusters(claims)
    by_cluster = [sum(c.pairs[k] for c in result.clusters) for k in range(3)]
    assert tuple(by_cluster) == tuple(result.pairs)
    for cluster in result.clusters:
        listed = list(result.list_pairs(cluster, None))
        kinds = Counter(p.kind for p in listed)
        assert PairCounts(kinds["exact"], kinds["contained"], kinds["partial"]) == cluster.pairs
        for pair in listed:
            assert pair.first.department != pair.second.department
            assert pair.first.block.first <= pair.second.block.first
            assert pair.kind == kind_of(pair.first.block, pair.second.block)


@given(CLAIMS)
def test_any_owner_can_be_asked_for(claims: list[Claim]) -> None:
    """By another owner, counts are those of departments of that name."""
    renamed = [c._replace(department=str(c.row % 3)) for c in claims]
    assert count_pairs(claims, lambda c: str(c.row % 3)) == find_clusters(renamed).matrix


@given(CLAIMS)
def test_first_meeting_is_one_if_there_is_any(claims: list[Claim]) -> None:
    """A pair of two departments is found exactly when one is there, and it does meet."""
    meetings = Meetings(claims, department_of)
    meeting = {(a, b) for a, b, _ in naive(claims)}
    for one, other in combinations("ABCD", 2):
        for met in (meetings.first(one, other), meetings.first(other, one)):
            assert (met is None) == ((one, other) not in meeting)
            if met is not None:
                assert {met.first.department, met.second.department} == {one, other}
                assert met.kind == kind_of(met.first.block, met.second.block)
                assert met.first.block.meets(met.second.block)
                assert met.first.block.first <= met.second.block.first


@given(CLAIMS)
def test_meeting_departments_are_those_of_the_matrix(claims: list[Claim]) -> None:
    """Who meets whom is what the counts say, for ranges that cross as well."""
    found = find_meeting_departments(claims)
    assert {(a, b) for a in found for b in found[a] if a < b} == {(a, b) for a, b, _ in naive(claims)}
    assert all(a in found[b] for a in found for b in found[a])


T15 = [
    claim("A", "10.0.0.0/8", 1),
    claim("B", "10.1.0.0/16", 1),
    claim("B", "10.1.2.0/24", 2),
    claim("C", "10.1.2.128/25", 1),
    claim("C", "192.168.0.0/24", 2),
    claim("A", "192.168.0.0/24", 2),
]


def test_vector_t15() -> None:
    """T15: six pairs in two clusters, B within B not among them; each pair named with file and row."""
    result = find_clusters(T15)
    assert result.pairs == PairCounts(exact=1, contained=5, partial=0)
    assert [str(c.outermost) for c in result.clusters] == ["10.0.0.0/8", "192.168.0.0/24"]
    pairs = [p for c in result.clusters for p in result.list_pairs(c)]
    assert sorted(
        (f"{p.first.department} {p.first.block}", f"{p.second.department} {p.second.block}") for p in pairs
    ) == [
        ("A 10.0.0.0/8", "B 10.1.0.0/16"),
        ("A 10.0.0.0/8", "B 10.1.2.0/24"),
        ("A 10.0.0.0/8", "C 10.1.2.128/25"),
        ("A 192.168.0.0/24", "C 192.168.0.0/24"),
        ("B 10.1.0.0/16", "C 10.1.2.128/25"),
        ("B 10.1.2.0/24", "C 10.1.2.128/25"),
    ]
    assert result.matrix == {
        ("A", "B"): PairCounts(0, 2, 0),
        ("A", "C"): PairCounts(1, 1, 0),
        ("B", "C"): PairCounts(0, 2, 0),
    }
    assert result.between("C", "A").total == 2
    assert [m.where for m in result.members_of(result.clusters[1])] == ["A.csv:2", "C.csv:2"]
    assert [p.kind for p in pairs].count("exact") == 1


def test_vector_t16_import_over_a_longer_prefix() -> None:
    """T16: 10.0.0.0/23 over an existing 10.0.0.0/24 is an overlap, though the texts differ."""
    result = find_clusters([claim("new", "10.0.0.0/23"), claim("old", "10.0.0.0/24")])
    assert result.pairs == PairCounts(0, 1, 0)
    assert str(result.clusters[0].outermost) == "10.0.0.0/23"


def test_vector_t17_families_never_meet() -> None:
    """T17: an IPv4 address lies within no IPv6 block, not even ::/0; a host does not cover its prefix."""
    everything = Claim("A", Prefix(6, 0, 0), "A.csv", 1)
    assert find_clusters([everything, claim("B", "1.2.3.4")]).clusters == ()
    assert find_clusters([everything, claim("B", "::102:304")]).pairs == PairCounts(0, 1, 0)
    low = find_clusters([claim("A", "0.0.0.1"), claim("B", "::1")])
    assert (low.clusters, low.pairs.total) == ((), 0)
    host = find_clusters([claim("A", "10.0.0.1"), claim("B", "10.0.0.0/24")])
    [pair] = host.list_pairs(host.clusters[0])
    assert (str(pair.first.block), str(pair.second.block)) == ("10.0.0.0/24", "10.0.0.1/32")


def test_rows_that_say_the_same_count_once() -> None:
    """A block that five routers of one department list is one conflict, and all rows are named."""
    rows = [claim("A", "10.0.0.0/24", n) for n in range(1, 6)]
    result = find_clusters([*rows, claim("B", "10.0.0.0/25")])
    assert result.pairs.total == 1
    assert [m.where for m in result.members] == ["A.csv:1", "A.csv:2", "A.csv:3", "A.csv:4", "A.csv:5", "B.csv:1"]


def test_nothing_meets_nothing() -> None:
    """Without claims, or with one department's, there is no cluster and no pair."""
    for claims in ([], [c for c in T15 if c.department == "B"]):
        result = find_clusters(claims)
        assert (result.clusters, result.members, result.pairs.total) == ((), (), 0)


def random_claims(number: int, departments: int) -> list[Claim]:
    """Return private IPv4 prefixes as departments chose them: the same few ranges again and again."""
    dice = random.Random(20)
    pools = (
        (10 << 24, 24, (16, 20, 22, 24, 24, 26)),
        (0xAC100000, 20, (20, 22, 24, 24)),
        (0xC0A80000, 16, (22, 24, 25)),
    )
    out = []
    for row in range(number):
        base, bits, lengths = pools[min(dice.randrange(4), 2)]
        length = dice.choice(lengths)
        value = (base | dice.getrandbits(bits)) >> (32 - length) << (32 - length)
        out.append(Claim(f"D{row % departments:02}", Prefix(4, value, length), "all.csv", row))
    return out


def test_many_blocks_are_a_second_of_work() -> None:
    """14,000 prefixes of 14 departments are clustered in about a second of work, and no pair of them is listed."""
    claims = random_claims(14_000, 14)
    start = time.process_time()
    result = find_clusters(claims)
    spent = time.process_time() - start
    listed = sum(1 for c in result.clusters for _ in result.list_pairs(c, None))
    assert result.pairs.total == listed > 50_000
    assert spent < 3  # a fifth of a second on an idle machine


def test_listing_stops_at_its_cap() -> None:
    """A cluster of a million pairs is counted, and only as many are listed as are asked for."""
    claims = [Claim(d, Prefix(4, 10 << 24, 8), "x", 1) for d in "A"]
    claims += [Claim(f"D{n % 5}", Prefix(4, (10 << 24) + n, 32), "x", n) for n in range(50_000)]
    claims += [Claim(f"E{n}", Prefix(4, 10 << 24, 9), "x", n) for n in range(30)]
    result = find_clusters(claims)
    [cluster] = result.clusters
    assert cluster.pairs.total == 50_000 * 31 + 30 * 29 // 2 + 30
    assert sum(1 for _ in result.list_pairs(cluster, 7)) == 7


@settings(max_examples=20)
@given(st.lists(st.tuples(st.integers(0, 400), st.integers(0, 60)), min_size=80, max_size=120))
def test_deep_crossings_are_counted(rows: list[tuple[int, int]]) -> None:
    """Many ranges that cross one another at once are counted as the naive way does."""
    claims = [claim_block("ABC"[i % 3], Block(4, a, a + 200 + w), i) for i, (a, w) in enumerate(rows)]
    assert find_clusters(claims).pairs.total == sum(naive(claims).values())
    assert sum(1 for _ in iterate_pairs(claims, department_of)) == sum(naive(claims).values())


# the command


def run(*arguments: str) -> tuple[int, str]:
    """Run the command; return its exit code and all it printed."""
    result = CliRunner().invoke(APP, list(arguments), catch_exceptions=False)
    return result.exit_code, result.output


@pytest.fixture
def lists(tmp_path: Path) -> Path:
    """Return a folder with T15 as a department's table in Chinese, and a table that meets nothing."""
    rows = "\n".join(f"{c.department},{c.block}" for c in T15)
    (tmp_path / "all.csv").write_text(f"部门,网段\n{rows}\n", "utf-8")
    (tmp_path / "apart.csv").write_text("department,prefix\nA,10.1.0.0/16\nB,10.2.0.0/16\n", "utf-8")
    return tmp_path


def test_command_says_what_meets(lists: Path) -> None:
    """Overlaps end in exit code 1, with counts, outermost prefixes and file and row; none in 0."""
    code, text = run(str(lists / "all.csv"))
    assert code == 1
    assert "6 pairs (1 exact, 5 contained, 0 partial) in 2 clusters" in text
    assert "all.csv:5" in text
    assert run(str(lists / "apart.csv"))[0] == 0


def test_command_speaks_to_machines(lists: Path) -> None:
    """--json holds the matrix and every cluster's members, with a resolution each."""
    code, text = run(str(lists / "all.csv"), "--json")
    found = json.loads(text)
    assert code == 1
    assert found["pairs"] == {"exact": 1, "contained": 5, "partial": 0, "total": 6}
    assert sum(cell["total"] for cell in found["matrix"]) == 6
    assert [m["row"] for m in found["clusters"][0]["members"]] == [2, 3, 4, 5]
    assert all(choice["explanation"] for c in found["clusters"] for choice in c["resolution"]["choices"])


def test_command_speaks_chinese(lists: Path) -> None:
    """--lang zh prints Chinese."""
    assert "完全相同1，包含5" in run(str(lists / "all.csv"), "--lang", "zh")[1]


def test_bad_input_is_exit_2_with_every_problem(lists: Path) -> None:
    """Problems of all files come at once, with file and row; nothing is written."""
    (lists / "bad.csv").write_text("部门,网段\nA,10.0.0.1/24\n,10.0.0.0/24\nA,十\n", "utf-8")
    (lists / "empty.txt").write_text("nothing here\n", "utf-8")
    out = lists / "report.xlsx"
    code, text = run(*(str(lists / n) for n in ("bad.csv", "empty.txt", "gone.csv")), "--out", str(out))
    assert code == 2
    for part in (
        "bad.csv:2",
        "10.0.0.0/24, or",
        "bad.csv:3",
        "bad.csv:4",
        "empty.txt",
        "gone.csv",
        "nothing was written",
    ):
        assert part in text
    assert not out.exists()


@pytest.mark.parametrize("name", ["report.pdf", "all.csv"])
def test_out_is_checked_first(lists: Path, name: str) -> None:
    """A report of another kind, or over a file to be read, is refused and nothing touched."""
    before = (lists / "all.csv").read_bytes()
    refused = 3 if name == "all.csv" else 2  # what is read is not written over
    assert run(str(lists / "all.csv"), "--out", str(lists / name))[0] == refused
    assert (lists / "all.csv").read_bytes() == before


def test_report_for_the_office(lists: Path) -> None:
    """The workbook has its sheets in Chinese, the matrix, and each member's file and row; the CSV opens in Excel."""
    book_file, table = lists / "report.xlsx", lists / "report.csv"
    run(str(lists / "all.csv"), "--out", str(book_file))
    run(str(lists / "all.csv"), "--out", str(table))
    book = load_workbook(book_file)
    assert book.sheetnames == ["概况", "部门矩阵", "重叠组", "明细", "处置方案"]
    assert [[c.value for c in row][:4] for row in book["部门矩阵"].iter_rows()] == [
        [None, "A", "B", "C"],
        ["A", None, 2, 2],
        ["B", 2, None, 2],
        ["C", 2, 2, None],
    ]
    assert book["明细"]["C2"].value == "10.0.0.0/8"
    assert book["明细"].max_row == 7
    assert table.read_bytes().startswith("\ufeff组号,部门,网段".encode())


def test_report_is_no_formula(lists: Path) -> None:
    """A department's text that a spreadsheet would run is kept as text."""
    (lists / "sly.csv").write_text("部门,网段,备注\n=1+1,10.1.0.0/16,=cmd()\n", "utf-8")
    out = lists / "report.csv"
    run(str(lists / "all.csv"), str(lists / "sly.csv"), "--out", str(out))
    assert ",'=1+1," in out.read_text("utf-8-sig")


def test_leaks_and_talk_are_heard(lists: Path) -> None:
    """With VRFs, a leak conflict is said with its target; who must talk is changed, not kept apart."""
    vrfs = lists / "vrfs.yaml"
    vrfs.write_text(
        "vrfs:\n- {name: a, department: A, exports: ['65000:1'], imports: ['65000:2']}\n"
        "- {name: b, department: B, exports: ['65000:2']}\n- {name: c, department: C}\n"
    )
    costs = lists / "costs.yaml"
    costs.write_text("talk: [[A, C]]\n")
    code, text = run(str(lists / "all.csv"), "--vrfs", str(vrfs), "--costs", str(costs))
    assert code == 1
    assert "leak conflict in VRF a" in text
    assert "65000:2" in text
    assert "it must reach A" in text
    costs.write_text("talk: [[A, D]]\n")
    code, text = run(str(lists / "all.csv"), "--costs", str(costs))
    assert code == 2
    assert "'D' is in no prefix list" in text


def test_planes_of_a_county_are_vrfs(tmp_path: Path) -> None:
    """--vrfs takes a county's folder: what is in no plane is said not to be checked, and that is not good."""
    county = Path(__file__).resolve().parents[2] / "inventory" / "yichuan"
    table = tmp_path / "p.csv"
    table.write_text("部门,网段,VRF\n甲,10.1.0.0/16,finance\n乙,10.1.2.0/24,tax\n丙,10.7.0.0/16,\n", "utf-8")
    code, text = run(str(table), "--vrfs", str(county))
    assert code == 1
    assert "leak conflict in VRF shared" in text
    assert "not checked for leaks: 1 row of 丙" in text
