"""Laws of the checker: it shares nothing with the planner, passes what is right, and names every kind of damage."""

from __future__ import annotations

import ast
import csv
import gzip
import hashlib
import io
import json
import lzma
import random
from collections.abc import Callable
from functools import cache
from ipaddress import IPv6Network
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zstandard
from hypothesis import example, given, settings
from hypothesis import strategies as st

from addressing.checker import CheckInputError, check_across, check_plan_file, sign_off
from addressing.checkreport import Report
from addressing.checktable import read_division_list
from addressing.divisions import Divisions
from addressing.hierarchy import Fate, HierarchyPlan, continue_plan, plan_divisions
from addressing.hierarchyfile import COLUMNS, certificate_path, write_hierarchy
from addressing.orders import Order
from addressing.plan import make_plan
from addressing.planfile import dump_plan
from addressing.policy import LaidField, Layout, PlanPolicy
from inventory.errors import InputProblemsError
from inventory.reader import load_county
from inventory.topology import build_topology

ROOT = Path(__file__).resolve().parents[2]
COUNTY = load_county(ROOT / "inventory" / "yichuan")
Rows = list[list[str]]
AT = {name: i for i, name in enumerate(COLUMNS)}


def divisions_of(rows: list[tuple[str, int, str, str]]) -> Divisions:
    """Return divisions from (code, level, parent code, name)."""
    ordered = sorted(rows)
    at = {row[0]: i for i, row in enumerate(ordered)}
    return Divisions(
        [r[0] for r in ordered],
        [r[3] for r in ordered],
        np.array([r[1] for r in ordered], dtype=np.int8),
        np.array([at[r[2]] if r[2] else -1 for r in ordered], dtype=np.int32),
    )


def city(counties: int = 3, towns: int = 4, villages: int = 6) -> list[tuple[str, int, str, str]]:
    """Return a city of counties, with one town directly under it."""
    out = [("410300000000", 2, "", "洛阳市"), ("410390100000", 4, "410300000000", "直管镇")]
    for c in range(1, counties + 1):
        county = f"4103{c:02}000000"
        out.append((county, 3, "410300000000", f"第{c}县"))
        for t in range(1, towns + 1):
            town = f"4103{c:02}{t:03}000"
            out.append((town, 4, county, f"第{t}镇"))
            out += [(f"{town[:9]}{v:03}", 5, town, f"第{v}村") for v in range(200, 200 + villages)]
    return out


def layout_of(
    order: Order = "centre", *, pools: tuple[str, ...] = ("3fff:300::/28",), root: int = 2
) -> tuple[PlanPolicy, Layout]:
    """Return a policy and a layout of /32, /40, /56."""
    policy = PlanPolicy.model_validate({"pools": pools})
    widths = ((3, "county", 4), (4, "town", 8), (5, "village", 16))
    fields, length = [], policy.pools[0].prefixlen
    for level, name, width in widths:
        length += width
        fields.append(LaidField(level=level, name=name, width=width, length=length, order=order, reserved=(0, 3)))
    return policy, Layout(pools=policy.pools, fields=tuple(fields), root_level=root)


@cache
def planned(order: Order = "centre") -> HierarchyPlan:
    """Return the plan of the city."""
    return plan_divisions(divisions_of(city()), *layout_of(order))


def unsigned(_: Path, certificate: dict[str, Any]) -> dict[str, Any]:
    """Sign nothing off."""
    return certificate


def written(folder: Path, plan: HierarchyPlan | None = None, *, form: str = "csv") -> Path:
    """Write a plan with its certificate."""
    path = folder / f"plan.{form}"
    write_hierarchy(plan or planned(), path, file_format=form, sign_off=unsigned)
    return path


def updated() -> HierarchyPlan:
    """Return the city's plan after villages are gone, a town was absorbed, and some are new."""
    before = planned()
    gone = {"410301001200", "410301001201", "410302002000"}
    rows = [
        (c, level, "410302001000" if p == "410302002000" else p, name) for c, level, p, name in city() if c not in gone
    ]
    rows += [("410303001900", 5, "410303001000", "新村"), ("410304000000", 3, "410300000000", "新县")]
    after = divisions_of(rows)
    identities = np.array(
        [before.ids[before.row_of[c]] if c in before.row_of else 0 for c in after.codes], dtype=np.int64
    )
    town, into = (int(before.ids[before.row_of[c]]) for c in ("410302002000", "410302001000"))
    return continue_plan(before, after, Fate(identities, {town: into}))


def failed(report: Report) -> set[str]:
    """Return the names of the checks that failed."""
    return {c.name for c in report.checks if not c.ok}


def test_the_checker_imports_nothing_of_the_planner() -> None:
    """The checker's modules import one another, the errors, numpy and the standard library: nothing else of ours."""
    modules = sorted((ROOT / "addressing").glob("check*.py"))
    assert {m.stem for m in modules} >= {"checker", "checktable", "checkreport", "checkcounty"}
    for module in modules:
        for node in ast.walk(ast.parse(module.read_text("utf-8"))):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [a.name for a in node.names] if isinstance(node, ast.Import) else []
            for name in names:
                ours = name.split(".")[0] in {"addressing", "inventory", "scripts", "migration", "nornir_tasks", "lab"}
                let = {"inventory.errors", "inventory.wording"}
                assert not ours or name in let or name.startswith("addressing.check"), (module, name)


@pytest.mark.parametrize("order", ["left", "right", "centre"])
@pytest.mark.parametrize("form", ["csv", "json"])
def test_a_right_plan_passes(tmp_path: Path, order: Order, form: str) -> None:
    """What the planner wrote passes every check, recomputation of the whole plan included."""
    report = check_plan_file(written(tmp_path, planned(order), form=form))
    assert report.ok, report.failures
    assert report.counts == {
        "rows": 89,
        "active": 89,
        "quarantined": 0,
        "absorbed": 0,
        "county": 3,
        "town": 13,
        "village": 72,
    }
    assert {"certificate", "recomputed", "overlap", "nested", "counts"} <= {c.name for c in report.checks}
    assert sign_off(report) == [{"name": c.name, "ok": True, "detail": c.detail} for c in report.checks]


@pytest.mark.parametrize("form", ["csv", "json"])
def test_a_carried_on_plan_passes(tmp_path: Path, form: str) -> None:
    """A later version passes: by home and slot, with quarantined and absorbed entries."""
    report = check_plan_file(written(tmp_path, updated(), form=form))
    assert report.ok, report.failures
    assert report.version == 2
    assert (report.counts["quarantined"], report.counts["absorbed"]) == (2, 1)
    assert "recomputed" not in {c.name for c in report.checks}


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(["left", "right", "centre"]),
    st.integers(1, 12),
    st.integers(0, 9),
    st.integers(0, 9),
    st.booleans(),
)
def test_any_plan_passes(order: Order, counties: int, towns: int, villages: int, forest: bool) -> None:  # noqa: FBT001
    """Whatever the shape, order and number of pools, planner and checker come to the same prefixes."""
    import tempfile

    rows = city(counties, towns, villages)
    pools: tuple[str, ...] = ("3fff:300::/28",)
    if forest:
        rows = [(c, lv, "" if p == "410300000000" else p, n) for c, lv, p, n in rows if lv > 2 and c != "410390100000"]
        pools = ("3fff:300::/28", "3fff:500::/28")
    plan = plan_divisions(divisions_of(rows), *layout_of(order, pools=pools, root=0 if forest else 2))
    with tempfile.TemporaryDirectory() as folder:
        report = check_plan_file(written(Path(folder), plan))
    assert report.ok, report.failures


def test_a_second_pool_takes_what_the_first_cannot(tmp_path: Path) -> None:
    """Slots that go on in the next pool are derived and recomputed as well."""
    rows = [(f"41{n:02}00000000", 3, "", f"第{n}县") for n in range(10, 35)]
    policy, layout = layout_of(pools=("3fff:300::/28", "3fff:500::/28"), root=0)
    plan = plan_divisions(divisions_of(rows), policy, layout)
    assert int(plan.slots.max()) >> 4 == 1
    report = check_plan_file(written(tmp_path, plan))
    assert report.ok, report.failures


def edit(path: Path, change: Callable[[Rows], object], *, reseal: bool = True) -> Path:
    """Change a plan's rows; `reseal` makes the certificate speak of the damaged file, so that only the rows tell."""
    rows = [line.split(",") for line in path.read_text("utf-8").splitlines()]
    header, body = rows[0], rows[1:]
    change(body)
    path.write_text("".join(",".join(row) + "\n" for row in [header, *body]), "utf-8")
    if reseal:
        seal(path)
    return path


def seal(path: Path, **changes: Any) -> None:
    """Make the certificate speak of the file as it is, with changes."""
    file = certificate_path(path)
    certificate = json.loads(file.read_text("utf-8"))
    certificate["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    file.write_text(json.dumps(certificate | changes), "utf-8")


def swap(rows: Rows, one: int, other: int, *columns: str) -> None:
    """Swap cells between two rows."""
    for column in columns:
        i = AT[column]
        rows[one][i], rows[other][i] = rows[other][i], rows[one][i]


def row_of(rows: Rows, code: str) -> int:
    """Return the row of a code."""
    return next(i for i, row in enumerate(rows) if row[0] == code)


def put(code: str, /, **cells: str) -> Callable[[Rows], None]:
    """Return a change of one row's cells."""

    def change(rows: Rows) -> None:
        for column, text in cells.items():
            rows[row_of(rows, code)][AT[column]] = text

    return change


V1, V2 = "410301001200", "410301001201"
DAMAGE: dict[str, tuple[Callable[[Rows], object], set[str], str]] = {
    "two prefixes swapped": (
        lambda rows: swap(rows, row_of(rows, V1), row_of(rows, V2), "prefix"),
        {"derived"},
        V1,
    ),
    "two slots and prefixes swapped": (
        lambda rows: swap(rows, row_of(rows, V1), row_of(rows, V2), "prefix", "slot"),
        {"recomputed"},
        "sibling 1",
    ),
    "a prefix of elsewhere": (put(V1, prefix="3fff:400::/56"), {"derived", "nested"}, "is in no pool"),
    "a prefix given twice": (
        lambda rows: rows[row_of(rows, V1)].__setitem__(AT["prefix"], rows[row_of(rows, V2)][AT["prefix"]]),
        {"derived", "overlap"},
        "overlaps",
    ),
    "a row missing": (lambda rows: rows.pop(row_of(rows, V1)), {"recomputed", "counts"}, "certificate says"),
    "a row twice": (
        lambda rows: rows.insert(row_of(rows, V1), list(rows[row_of(rows, V1)])),
        {"identities", "codes", "order", "slots", "overlap", "counts", "recomputed"},
        "is there twice",
    ),
    "an identity changed": (put(V1, id="999"), {"recomputed"}, "identity 999"),
    "identity 0": (put(V1, id="0"), {"identities", "recomputed"}, "identity 0"),
    "a home of another town": (
        put(V1, home="12"),
        {"derived", "nested", "overlap", "recomputed"},
        "is not in its home's",
    ),
    "a home that is nowhere": (put(V1, home="777"), {"homes", "recomputed", "overlap"}, "777 is no identity"),
    "its own home": (put(V1, home="4"), {"homes"}, "is not above it"),
    "a reserved slot": (put(V1, slot="3"), {"slots", "derived", "recomputed"}, "is reserved"),
    "a slot wider than its field": (put(V1, slot="65537"), {"slots", "derived", "recomputed"}, "has 16 bits"),
    "a slot as large as can be": (put(V1, slot="999999999999999999"), {"slots"}, "has 16 bits"),
    "a level changed": (put(V1, level="4"), {"lengths", "counts", "parents"}, "expected /40"),
    "a level that is not there": (put(V1, level="7"), {"lengths", "counts"}, "level 7 is not in the layout"),
    "a parent that is not there": (
        put(V1, parent="410399999000"),
        {"parents", "recomputed"},
        "410399999000 is not active",
    ),
    "a parent that is below": (put("410301001000", parent=V1), {"parents", "recomputed"}, "not above level"),
    "another parent": (put(V1, parent="410301002000"), {"recomputed"}, "is not its parent 410301002000"),
    "a code twice": (put(V1, code=V2), {"codes"}, "is active in row"),
    "rows out of order": (lambda rows: rows.reverse(), {"order", "recomputed"}, "not sorted"),
    "quarantined in a first plan": (
        put(V1, state="quarantined"),
        {"recomputed", "counts"},
        "nothing quarantined",
    ),
    "absorbed by nobody": (put(V1, state="absorbed"), {"absorbed", "recomputed", "counts"}, "no active division"),
    "absorbed by itself": (
        put(V1, state="absorbed", into="4"),
        {"absorbed", "recomputed", "counts"},
        "no active division",
    ),
    "active and absorbed": (put(V1, into="7"), {"absorbed"}, "active, and absorbed by 7"),
    "in use in a quarantined home": (
        put("410301001000", state="quarantined"),
        {"homes", "parents", "recomputed", "counts"},
        "which is quarantined",
    ),
    "upper case": (put(V1, prefix="3FFF:304:8000::/56"), {"text", "rows"}, "is not canonical"),
    "host bits": (put(V1, prefix="3fff:300:0:1::/56"), {"text", "rows"}, "has host bits set"),
    "a lower half": (put(V1, prefix="3fff:300::1/128"), {"text", "rows"}, "over /64"),
    "zeros written out": (put(V1, prefix="3fff:300:0:0::/56"), {"text", "rows"}, "is not canonical"),
    "a length with a zero": (put(V1, prefix="3fff:300::/056"), {"text", "rows"}, "is not canonical"),
    "no length": (put(V1, prefix="3fff:300::"), {"text", "rows"}, "has no length"),
    "no prefix": (put(V1, prefix="nothing"), {"text", "rows"}, "is no IPv6 prefix"),
    "an empty prefix": (put(V1, prefix=""), {"text", "rows"}, "is no IPv6 prefix"),
    "an IPv4 prefix": (put(V1, prefix="10.0.0.0/8"), {"text", "rows"}, "is no IPv6 prefix"),
    "a cell missing": (lambda rows: rows[5].pop(), {"text", "rows"}, "9 cells - expected 10"),
    "a cell too many": (lambda rows: rows[5].append("x"), {"text", "rows"}, "11 cells - expected 10"),
    "a cell moved to the next row": (
        lambda rows: rows[6].append(rows[5].pop()),
        {"text", "rows"},
        "row 7: 9 cells",
    ),
    "letters for a number": (put(V1, slot="0x8"), {"text", "rows"}, "slot '0x8' is no number"),
    "a negative number": (put(V1, home="-4"), {"text", "rows"}, "home '-4' is no number"),
    "a number with zeros before": (put(V1, slot="08"), {"text", "rows"}, "slot '08' is no number"),
    "an empty number": (put(V1, id=""), {"text", "rows"}, "id '' is no number"),
    "full-width digits": (put(V1, level="５"), {"text", "rows"}, "is no number"),
    "a number too long": (put(V1, slot="9" * 30), {"text", "rows"}, "is no number"),
    "a state unknown": (put(V1, state="reserved"), {"text", "rows"}, "state 'reserved'"),
    "a code empty": (put(V1, code=""), {"text", "rows"}, "code is empty"),
    "all rows gone": (lambda rows: rows.clear(), {"rows"}, "no rows"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_every_damage_is_named(tmp_path: Path, kind: str) -> None:
    """With the digest made to fit, each kind of damage still fails the checks it breaks, and is named with its place."""
    change, broken, words = DAMAGE[kind]
    report = check_plan_file(edit(written(tmp_path), change))
    assert broken <= failed(report), report.failures
    assert words in "\n".join(report.failures), report.failures
    assert not report.ok


@pytest.mark.parametrize("kind", DAMAGE)
def test_no_damage_gets_past_the_digest(tmp_path: Path, kind: str) -> None:
    """Unless somebody makes the digest fit, the certificate alone gives any damage away."""
    change, _, _ = DAMAGE[kind]
    assert "certificate" in failed(check_plan_file(edit(written(tmp_path), change, reseal=False)))


@settings(max_examples=60, deadline=None)
@example(4576314)
@example(1630)
@given(st.integers(0, 10**9))
def test_no_flipped_bit_gets_past(seed: int) -> None:
    """One bit flipped anywhere is found; outside names also when the digest was made to fit, by the list of divisions."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path, listed = written(Path(folder)), list_file(Path(folder), city())
        content = bytearray(path.read_bytes())
        rng = random.Random(seed)
        at = rng.randrange(len(content))
        content[at] ^= 1 << rng.randrange(8)
        line = bytes(content[: at + 1]).rpartition(b"\n")[2]
        in_name = line.count(b",") == 1 and content[at] not in b",\n\r"
        path.write_bytes(content)

        def found() -> bool:
            try:
                return not check_plan_file(path, divisions=listed).ok
            except CheckInputError:
                return True

        assert found()
        seal(path)
        assert found() or in_name


@settings(max_examples=30, deadline=None)
@given(st.floats(0, 0.999))
def test_no_truncation_gets_past(share: float) -> None:
    """Cut short anywhere, a plan fails, table or JSON; even when the digest was made to fit."""
    import tempfile

    for form in ("csv", "json"):
        with tempfile.TemporaryDirectory() as folder:
            path = written(Path(folder), form=form)
            content = path.read_bytes()
            path.write_bytes(content[: int(len(content) * share)])
            seal(path)
            try:
                ok = check_plan_file(path).ok
            except CheckInputError:
                ok = False
            assert not ok


def test_a_line_cut_short_is_named(tmp_path: Path) -> None:
    """A last line without its end is said to be cut short, even if its cells happen to be whole."""
    path = written(tmp_path)
    path.write_bytes(path.read_bytes().removesuffix(b"\n"))
    seal(path)
    report = check_plan_file(path)
    assert "row 90: the last line is cut short" in report.failures[0]


QUARANTINE: dict[str, tuple[Callable[[Rows], object], str]] = {
    "slot given again": (
        lambda rows: rows[row_of(rows, "410303001900")].__setitem__(
            slice(AT["prefix"], AT["slot"] + 1),
            [
                rows[row_of(rows, V1)][AT["prefix"]],
                "90",
                rows[row_of(rows, V1)][AT["home"]],
                rows[row_of(rows, V1)][AT["slot"]],
            ],
        ),
        "quarantined, and given again",
    ),
    "into an unknown identity": (put("410302002000", into="900"), "absorbed by 900"),
    "absorbed without a name": (put("410302002000", into="0"), "absorbed by 0"),
    "absorbed made quarantined while others live in it": (
        put("410302002000", state="quarantined", into="0"),
        "which is quarantined",
    ),
    "a parent that never was": (put(V1, parent="419999999999"), "never was in this plan"),
}


@pytest.mark.parametrize("kind", QUARANTINE)
def test_quarantine_is_guarded(tmp_path: Path, kind: str) -> None:
    """What was given is not given again; what was absorbed is answered for."""
    change, words = QUARANTINE[kind]
    report = check_plan_file(edit(written(tmp_path, updated()), change))
    assert words in "\n".join(report.failures), report.failures


CERTIFICATES: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "another digest": (lambda c: c.update(sha256="0" * 64), "certificate: sha256 0000"),
    "another file": (lambda c: c.update(file="other.csv"), "speaks of 'other.csv'"),
    "another format": (lambda c: c.update(format="something/9"), "format 'something/9'"),
    "no version": (lambda c: c.pop("version"), "version None"),
    "a later version": (lambda c: c.update(version=0), "version 0"),
    "no layout": (lambda c: c.pop("layout"), "layout: there is none"),
    "no counts": (lambda c: c.pop("counts"), "counts: the certificate has none"),
    "other counts": (lambda c: c["counts"].update(village=71), "village: the certificate says 71, the plan has 72"),
    "unknown counts": (lambda c: c["counts"].update(hamlet=3), "hamlet: the certificate says 3"),
    "another pool": (lambda c: c["layout"].update(pools=["3fff:400::/28"]), "is in no pool"),
    "a pool of other length": (lambda c: c["layout"].update(pools=["3fff:300::/29"]), "expected /33"),
    "a pool with host bits": (lambda c: c["layout"].update(pools=["3fff:310::/24"]), "host bits"),
    "a pool that is none": (lambda c: c["layout"].update(pools=["nothing"]), "layout: cannot be read"),
    "no pool": (lambda c: c["layout"].update(pools=[]), "0 lengths"),
    "overlapping pools": (lambda c: c["layout"].update(pools=["3fff:300::/28", "3fff:300::/28"]), "pools overlap"),
    "a pool not of the policy": (lambda c: c["policy"].update(pools=["3fff:500::/28"]), "the policy has 3fff:500::/28"),
    "leaves too long": (lambda c: c["policy"].update(leaf_at_most=48), "longer than the policy's /48"),
    "another order": (lambda c: c["layout"]["fields"][2].update(order="left"), "in the order left"),
    "an unknown order": (lambda c: c["layout"]["fields"][2].update(order="random"), "order 'random'"),
    "another width": (lambda c: c["layout"]["fields"][2].update(width=15), "expected /55"),
    "slot 0 not kept": (lambda c: c["layout"]["fields"][2].update(reserved=[1]), "expected 0 and others"),
    "other slots reserved": (lambda c: c["layout"]["fields"][2].update(reserved=[0, 256]), "is reserved"),
    "levels out of order": (lambda c: c["layout"]["fields"][2].update(level=3), "comes after level"),
}


@pytest.mark.parametrize("kind", CERTIFICATES)
def test_a_wrong_certificate_is_named(tmp_path: Path, kind: str) -> None:
    """A certificate that is another's, contradicts itself or speaks of another layout fails, and how is said."""
    change, words = CERTIFICATES[kind]
    path = written(tmp_path)
    certificate = json.loads(certificate_path(path).read_text("utf-8"))
    change(certificate)
    certificate_path(path).write_text(json.dumps(certificate), "utf-8")
    report = check_plan_file(path)
    assert words in "\n".join(report.failures), report.failures


@pytest.mark.parametrize("text", ["", "{", "[]", "nothing", '{"format": 1}', "[" * 100_000])
def test_a_damaged_certificate_is_named(tmp_path: Path, text: str) -> None:
    """A certificate that is no certificate fails the plan; so does none at all."""
    path = written(tmp_path)
    certificate_path(path).write_text(text, "utf-8")
    assert "certificate" in failed(check_plan_file(path))
    certificate_path(path).unlink()
    report = check_plan_file(path)
    assert "certificate: there is none" in report.failures[0]
    assert "layout" in failed(report)


def test_a_certificate_a_crash_kept_from_its_place(tmp_path: Path) -> None:
    """Killed between two renames, the next certificate beside the plan is the one that counts."""
    path = written(tmp_path)
    certificate_path(path).rename(path.with_name(f".{path.name}.certificate.next.json"))
    assert check_plan_file(path).ok
    certificate_path(path).write_text('{"format": "extranet plan certificate/1", "sha256": "0"}', "utf-8")
    assert check_plan_file(path).ok


def test_a_file_not_yet_in_place(tmp_path: Path) -> None:
    """With the certificate given, a temporary file is checked before it is renamed; its name does not matter."""
    path = written(tmp_path)
    certificate = json.loads(certificate_path(path).read_text("utf-8"))
    staged = tmp_path / ".plan.csv.next.csv"
    staged.write_bytes(path.read_bytes())
    assert check_plan_file(staged, certificate).ok
    staged.write_bytes(path.read_bytes() + b"x")
    assert not check_plan_file(staged, certificate).ok


def test_what_is_no_plan_is_refused(tmp_path: Path) -> None:
    """A missing file, a folder, another table and another JSON are bad input, each with what to do."""
    for name, content in (("a.csv", b"code,name\n1,2\n"), ("b.json", b'{"a": 1}'), ("c.json", b"{"), ("d.csv", b"")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(CheckInputError, match=name):
            check_plan_file(tmp_path / name)
    with pytest.raises(CheckInputError, match="no such file"):
        check_plan_file(tmp_path / "none.csv")
    with pytest.raises(CheckInputError, match="not a regular file"):
        check_plan_file(tmp_path)


def test_names_with_commas_and_quotes(tmp_path: Path) -> None:
    """A plan whose names need quotes is read as well as any other, also when codes are not all digits."""
    rows = [(c, lv, p, f'"{n}", 区') for c, lv, p, n in city()]
    rows = [(f"x-{c}", lv, f"x-{p}" if p else "", n) for c, lv, p, n in rows]
    plan = plan_divisions(divisions_of(rows), *layout_of())
    path = written(tmp_path, plan)
    assert check_plan_file(path).ok, check_plan_file(path).failures
    text = path.read_text("utf-8")
    path.write_text(text.replace('"""', '""', 1), "utf-8")
    seal(path)
    assert not check_plan_file(path).ok


def test_json_laid_out_otherwise(tmp_path: Path) -> None:
    """JSON re-indented by another tool holds the same rows; its head must still agree with the certificate."""
    path = written(tmp_path, form="json")
    data = json.loads(path.read_text("utf-8"))
    for indent in (None, 2):
        path.write_text(json.dumps(data, indent=indent), "utf-8")
        seal(path)
        assert check_plan_file(path).ok, check_plan_file(path).failures
    data["version"] = 4
    path.write_text(json.dumps(data), "utf-8")
    seal(path)
    assert "head" in failed(check_plan_file(path))


def list_file(folder: Path, rows: list[tuple[str, int, str, str]], name: str = "list.tsv") -> Path:
    """Write a list of divisions, packed as its name says."""
    mark = "," if ".csv" in name else "\t"
    text = mark.join(("code", "level", "parent", "name")) + "\n"
    text += "".join(mark.join((c, str(lv), p, n)) + "\n" for c, lv, p, n in rows)
    data = text.encode("gb18030" if "gbk" in name else "utf-8-sig")
    pack: dict[str, Callable[[bytes], bytes]] = {
        ".xz": lzma.compress,
        ".gz": gzip.compress,
        ".zst": zstandard.ZstdCompressor().compress,
    }
    path = folder / name
    path.write_bytes(pack.get(path.suffix, bytes)(data))
    return path


@pytest.mark.parametrize(
    "name", ["list.tsv", "list.csv", "list.tsv.xz", "list.csv.gz", "list.tsv.zst", "gbk.csv", "gbk.csv.xz"]
)
def test_coverage_of_lists_in_every_form(tmp_path: Path, name: str) -> None:
    """Every division of the list has a prefix and nobody else, whatever the list is packed in."""
    report = check_plan_file(written(tmp_path), divisions=list_file(tmp_path, city(), name))
    assert report.ok, report.failures
    assert "89 divisions, all of the list" in next(c.detail for c in report.checks if c.name == "coverage")


COVERAGE: dict[str, tuple[Callable[[list[tuple[str, int, str, str]]], object], str]] = {
    "one more in the list": (lambda rows: rows.append(("410301001999", 5, "410301001000", "x")), "has no prefix"),
    "one less in the list": (lambda rows: rows.pop(), "is not in the list"),
    "listed twice": (lambda rows: rows.append(rows[-1]), "is listed 2 times"),
    "another level": (lambda rows: rows.append((*rows.pop()[:1], 4, "410303004000", "x")), "the list says 4"),
    "another parent": (lambda rows: rows.append((*rows.pop()[:2], "410303003000", "x")), "the list says 410303003000"),
    "a parent lost": (lambda rows: rows.append((*rows.pop()[:2], "", "x")), "the list says none"),
    "a whole county missing from the plan": (
        lambda rows: rows.extend([("410309000000", 3, "410300000000", "y"), ("410309001000", 4, "410309000000", "z")]),
        "410309001000",
    ),
}


@pytest.mark.parametrize("kind", COVERAGE)
def test_what_is_not_covered_is_named(tmp_path: Path, kind: str) -> None:
    """What the list has and the plan has not, and the other way round, is named."""
    change, words = COVERAGE[kind]
    rows = city()
    change(rows)
    report = check_plan_file(written(tmp_path), divisions=list_file(tmp_path, rows))
    assert failed(report) == {"coverage"}
    assert words in report.failures[0]


def test_a_part_of_a_larger_list(tmp_path: Path) -> None:
    """A plan of one county is held against what the national list has below that county, all of it."""
    county = [(c, lv, "" if c == "410302000000" else p, n) for c, lv, p, n in city() if c.startswith("410302")]
    policy, layout = layout_of(root=0)
    layout = layout.altered(fields=(*(f.altered(length=f.length - 4) for f in layout.fields[1:]),), root_level=3)
    plan = plan_divisions(divisions_of(county), policy, layout)
    path = written(tmp_path, plan)
    report = check_plan_file(path, divisions=list_file(tmp_path, city()))
    assert report.ok, report.failures
    assert "410302000000 and below" in next(c.detail for c in report.checks if c.name == "coverage")
    more = [*city(), ("410302001999", 5, "410302001000", "x")]
    report = check_plan_file(path, divisions=list_file(tmp_path, more))
    assert "410302001999" in report.failures[0]


def test_a_plan_of_one_root_of_many(tmp_path: Path) -> None:
    """A plan made of one province of a list of all is about that root and below, with parents or by codes alone."""
    path = written(tmp_path)
    more = [*city(), ("410400000000", 2, "", "y"), ("410401000000", 3, "410400000000", "z")]
    for rows in (more, city()):
        listed = list_file(tmp_path, rows)
        report = check_plan_file(path, divisions=listed)
        assert report.ok, report.failures
        listed.write_text("code\n" + "".join(f"{r[0]}\n" for r in rows), "utf-8")
        assert check_plan_file(path, divisions=listed).ok
    for parent in ("410301001000", ""):
        rows = [*more, ("410301001999", 5, parent, "x")]
        listed = tmp_path / "more.csv"
        text = "code,parent\n" if parent else "code,x\n"
        listed.write_text(text + "".join(f"{r[0]},{r[2] if parent else 'x'}\n" for r in rows), "utf-8")
        assert "410301001999" in check_plan_file(path, divisions=listed).failures[0]


@pytest.mark.parametrize("mark", [";", "，", "|", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "gb18030"])
def test_lists_as_offices_save_them(tmp_path: Path, mark: str, encoding: str) -> None:
    """UTF-16, other separators, and codes whose last zeros are not written mean the same list."""

    def short(code: str) -> str:
        return next(code[:n] for n in (4, 6, 9, 12) if not code[n:].strip("0")) if code else ""

    listed = tmp_path / "list.csv"
    rows = [
        mark.join(("代码", "级别", "上级代码")),
        *(mark.join((short(c), str(n), short(p))) for c, n, p, _ in city()),
    ]
    listed.write_bytes(("\r\n".join(rows) + "\r\n").encode(encoding))
    report = check_plan_file(written(tmp_path), divisions=listed)
    assert report.ok, report.failures


@pytest.mark.parametrize("form", ["xz", "gz", "zst", "csv"])
def test_a_list_too_large_is_refused(tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unpacked size and lines are bounded; streams one after another are read as one."""
    pack: dict[str, Callable[[bytes], bytes]] = {
        "xz": lzma.compress,
        "gz": gzip.compress,
        "zst": zstandard.ZstdCompressor().compress,
    }
    packed = pack.get(form, bytes)
    plan, listed = written(tmp_path), tmp_path / f"bomb.{form}"
    listed.write_bytes(packed(b"code\n" + b"4" * 70_000))
    with pytest.raises(CheckInputError, match="line 2 is longer than 64 KiB"):
        check_plan_file(plan, divisions=listed)
    listed.write_bytes(packed(b"code\n" + b"410300000000\n" * 400_000))
    monkeypatch.setattr("addressing.checktable._MOST_UNPACKED", 4 << 20)
    with pytest.raises(CheckInputError, match="more than 4 MiB"):
        check_plan_file(plan, divisions=listed)
    monkeypatch.undo()
    text = "code\n" + "".join(f"{row[0]}\n" for row in city())
    if form != "csv":
        listed.write_bytes(packed(text[:300].encode()) + packed(text[300:].encode()))
        assert check_plan_file(plan, divisions=listed).ok


@pytest.mark.parametrize("form", ["xz", "gz", "zst"])
@pytest.mark.parametrize("share", [0.3, 0.9, 0.999])
def test_a_packed_list_cut_short_is_refused(tmp_path: Path, form: str, share: float) -> None:
    """A list that ends before its end mark is not taken for a shorter one."""
    pieces = zstandard.ZstdCompressor(write_content_size=False).compressobj()
    rows = ["code\n", *(f"{n:012}\n" for n in random.Random(1).sample(range(10**12), 20_000))]
    data = b"".join(pieces.compress(row.encode()) + pieces.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK) for row in rows)
    whole = "".join(rows).encode()
    packed = {"xz": lzma.compress(whole), "gz": gzip.compress(whole), "zst": data + pieces.flush()}[form]
    listed = tmp_path / f"list.{form}"
    listed.write_bytes(packed)
    assert len(read_division_list(listed).codes) == 20_000
    listed.write_bytes(packed[: int(len(packed) * share)])
    with pytest.raises(CheckInputError, match="cannot be read"):
        read_division_list(listed)


def carried(folder: Path) -> tuple[Path, Path]:
    """Write the city's plan, and what it was carried on to."""
    (folder / "old").mkdir()
    old = written(folder / "old")
    new = folder / "plan.csv"
    digest = hashlib.sha256(old.read_bytes()).hexdigest()
    write_hierarchy(updated(), new, base=digest, sign_off=unsigned)
    return old, new


def test_a_plan_is_held_against_its_base(tmp_path: Path) -> None:
    """A right plan carries its base on; without it, that this was not looked at is said."""
    old, new = carried(tmp_path)
    report = check_plan_file(new, base=old)
    assert report.ok, report.failures
    assert "carried on" in {c.name for c in report.checks}
    assert report.advice == ()
    assert "not held against its base" in check_plan_file(new).advice[0]
    assert check_plan_file(old).advice == ()
    seal(new, base="0" * 64)
    assert "its base is 0000" in check_plan_file(new, base=old).failures[0]
    assert "does not come after" in check_plan_file(old, base=old).failures[0]
    with pytest.raises(CheckInputError, match="no base"):
        check_plan_file(county_file(tmp_path), base=old)


LIVING, FRESH = ("410301001202", "410301001203"), "410303001900"
LOST: dict[str, tuple[Callable[[Rows], object], str]] = {
    "two villages swapped": (
        lambda rows: swap(rows, row_of(rows, LIVING[0]), row_of(rows, LIVING[1]), "prefix", "slot"),
        f"({LIVING[0]}): slot",
    ),
    "an identity lost": (lambda rows: rows.pop(row_of(rows, LIVING[0])), "is lost"),
    "a quarantined slot given again": (
        lambda rows: swap(rows, row_of(rows, V1), row_of(rows, LIVING[0]), "prefix", "slot"),
        "left quarantined",
    ),
    "another level": (put(LIVING[0], level="4"), "level 4 - was 5"),
    "another home": (put(LIVING[0], home="1"), "home 1 - was"),
}


@pytest.mark.parametrize("kind", LOST)
def test_what_a_base_gave_is_given_still(tmp_path: Path, kind: str) -> None:
    """Whatever of the base is not as it was fails, also when the digest was made to fit."""
    change, words = LOST[kind]
    third = tmp_path / "third"
    third.mkdir()
    old, new = carried(tmp_path)
    if kind == "a quarantined slot given again":  # only the second version has something quarantined
        old, new = new, third / "plan.csv"
        certificate = json.loads(certificate_path(old).read_text("utf-8"))
        new.write_bytes(old.read_bytes())
        certificate |= {"version": 3, "base": certificate["sha256"]}
        certificate_path(new).write_text(json.dumps(certificate), "utf-8")
        assert check_plan_file(new, base=old).ok
    report = check_plan_file(edit(new, change), base=old)
    detail = next(c.detail for c in report.checks if c.name == "carried on" and not c.ok)
    assert words in detail, detail


def test_codes_that_went_to_another_identity_are_told(tmp_path: Path) -> None:
    """Swapped codes of two living divisions are what no plan can judge: they are named for a person to look at."""
    old, new = carried(tmp_path)

    def change(rows: Rows) -> None:
        one, other = (row_of(rows, code) for code in LIVING)
        swap(rows, one, other, "code")
        rows[one], rows[other] = rows[other], rows[one]

    assert "2 codes went to another identity" in check_plan_file(edit(new, change), base=old).advice[0]


def field(**cells: Any) -> Callable[[dict[str, Any]], object]:
    """Return a change of the villages' field."""
    return lambda c: c["layout"]["fields"][2].update(cells)


def laid(key: str, value: Any) -> Callable[[dict[str, Any]], object]:
    """Return a change of the layout."""
    return lambda c: c["layout"].update({key: value})


IMPOSSIBLE: dict[str, list[Any]] = {
    "width": [1000, -1, 1e999, True, "8", None, []],
    "length": [200, -1, 1e30],
    "level": [10**30, -1],
    "reserved": [[0, -1], [0, 1e30], [0, 10**30], 5, [[]], None],
}
BROKEN: dict[str, list[Any]] = {
    "pools": [[], 5, ["::/-1"], ["::/x"], [[]], None],
    "root_level": [1e999, -1, 10**30],
    "fields": [5, [5], {}, None],
}
LAYOUTS = {f"{key} {value!r}": field(**{key: value}) for key, values in IMPOSSIBLE.items() for value in values}
LAYOUTS |= {f"{key} {value!r}": laid(key, value) for key, values in BROKEN.items() for value in values}


@pytest.mark.parametrize("kind", LAYOUTS)
def test_layouts_that_cannot_be_are_named(tmp_path: Path, kind: str) -> None:
    """A layout of impossible numbers is a failed check, never an accident."""
    path = written(tmp_path)
    certificate = json.loads(certificate_path(path).read_text("utf-8"))
    LAYOUTS[kind](certificate)
    certificate_path(path).write_text(json.dumps(certificate), "utf-8")
    assert not check_plan_file(path).ok


def test_bad_lists_are_bad_input(tmp_path: Path) -> None:
    """A list that cannot be read is bad input, named with its row where it has one."""
    plan = written(tmp_path)
    cases = {
        "none.tsv": (None, "cannot be read"),
        "empty.tsv": (b"", "no column 'code'"),
        "head.tsv": (b"code\tname\n", "lists no divisions"),
        "other.csv": (b"a,b\n1,2\n", "no column 'code'"),
        "broken.xz": (b"no xz", "cannot be read"),
        "broken.gz": (b"no gz", "cannot be read"),
        "broken.zst": (b"no zst", "cannot be read"),
        "book.xlsx": (b"PK", "save the sheet as CSV"),
        "bytes.csv": (b"code,name\n1,\xff\xff\xff\n", "neither UTF-8 nor GB 18030"),
    }
    for name, (content, words) in cases.items():
        path = tmp_path / name
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(CheckInputError, match=words):
            check_plan_file(plan, divisions=path)
    gaps = tmp_path / "gaps.csv"
    gaps.write_text("code,level\n410300000000,2\n,3\n\n4103\n", "utf-8")
    with pytest.raises(InputProblemsError) as found:
        check_plan_file(plan, divisions=gaps)
    assert [p.row for p in found.value.problems] == [3, 5]


def test_excel_and_full_width_codes_in_a_list(tmp_path: Path) -> None:
    """Codes as spreadsheets leave them mean the same division."""
    rows = city()
    wide = "".join(chr(ord(ch) + 0xFEE0) for ch in rows[0][0])
    texts = [wide, f"{rows[1][0]}.0", *(f" {row[0]}" for row in rows[2:])]
    rows = [(text, *row[1:]) for text, row in zip(texts, rows, strict=True)]
    report = check_plan_file(written(tmp_path), divisions=list_file(tmp_path, rows))
    assert report.ok, report.failures


def test_plans_together(tmp_path: Path) -> None:
    """No prefix is given twice across plans; a county may divide what the city's plan gave to it, but nothing else."""
    whole = planned()
    rows = [r for r in city(towns=0) if r[1] < 4]
    outer = plan_divisions(divisions_of(rows), *layout_of())
    value, length = outer.prefix(outer.row_of["410302000000"])
    inner_rows = [(c, lv, "" if c == "410302000000" else p, n) for c, lv, p, n in city() if c.startswith("410302")]
    policy = PlanPolicy.model_validate({"pools": [str(IPv6Network((value, length)))]})
    _, fields = layout_of()
    layout = Layout(pools=policy.pools, fields=fields.fields[1:], root_level=3)
    inner = plan_divisions(divisions_of(inner_rows), policy, layout)
    reports = []
    for name, plan in (("outer", outer), ("inner", inner), ("whole", whole)):
        folder = tmp_path / name
        folder.mkdir()
        reports.append(check_plan_file(written(folder, plan)))
    assert all(r.ok for r in reports)
    assert check_across(reports[:2]).ok
    assert check_across(reports[1::-1]).ok
    twice = check_across([reports[0], reports[2]])
    assert not twice.ok
    assert "3fff:302::/32 (410301000000) lies in 3fff:302::/32 (410301000000)" in twice.detail
    assert not check_across([reports[1], reports[2]]).ok


def county_file(folder: Path, change: Callable[[dict[str, Any]], object] | None = None) -> Path:
    """Write the sample county's plan, changed."""
    data = json.loads(dump_plan(make_plan(COUNTY, build_topology(COUNTY))))
    if change:
        change(data)
    path = folder / "addresses.json"
    path.write_text(json.dumps(data, ensure_ascii=False), "utf-8")
    return path


def record(data: dict[str, Any], kind: str, number: int = 0) -> dict[str, Any]:
    """Return a record of a kind."""
    found: list[dict[str, Any]] = [r for r in data["records"] if r["kind"] == kind]
    return found[number]


def test_the_county_plan_passes(tmp_path: Path) -> None:
    """The sample county's plan passes, and is counted by kind."""
    report = check_plan_file(county_file(tmp_path))
    assert report.ok, report.failures
    assert report.kind == "county"
    assert report.counts["plane"] == len(COUNTY.policy.planes)
    assert check_across([report, report]).ok is False


COUNTY_DAMAGE: dict[str, tuple[Callable[[dict[str, Any]], object], set[str]]] = {
    "two LANs swapped": (
        lambda d: record(d, "lan", 0).update(prefix=record(d, "lan", 1)["prefix"]),
        {"nested", "derived", "overlap"},
    ),
    "a site moved": (lambda d: record(d, "site").update(slot=200), {"derived"}),
    "a slot given twice": (
        lambda d: record(d, "loopback", 0).update(slot=record(d, "loopback", 1)["slot"]),
        {"slots", "derived"},
    ),
    "a loopback twice": (
        lambda d: record(d, "loopback", 0).update({k: record(d, "loopback", 1)[k] for k in ("slot", "prefix")}),
        {"slots", "overlap"},
    ),
    "a link of /126": (lambda d: record(d, "link").update(prefix="3fff:329:0:1::8/126"), {"lengths"}),
    "a record twice": (lambda d: d["records"].insert(0, dict(d["records"][0])), {"identities"}),
    "records out of order": (lambda d: d["records"].reverse(), {"identities"}),
    "a parent that is not there": (lambda d: record(d, "lan").update(parent="site:nowhere@public"), {"nested"}),
    "a plane under a town": (lambda d: record(d, "plane").update(parent=record(d, "town")["id"]), {"nested"}),
    "a pool of elsewhere": (lambda d: d.update(pool="3fff:500::/36"), {"nested"}),
    "a quarantined site in use": (lambda d: record(d, "site").update(state="quarantined"), {"nested"}),
    "upper case": (lambda d: record(d, "lan").update(prefix=record(d, "lan")["prefix"].upper()), {"text"}),
    "IPv4 for a LAN": (lambda d: record(d, "lan").update(prefix="10.0.0.0/24"), {"text"}),
    "host bits in IPv4": (lambda d: record(d, "lan4").update(prefix="10.128.0.5/27"), {"text"}),
    "IPv4 twice": (lambda d: record(d, "lan4", 0).update(prefix=record(d, "lan4", 1)["prefix"]), {"overlap"}),
    "an unknown kind": (lambda d: record(d, "lan").update(kind="wlan"), {"text"}),
    "an unknown state": (lambda d: record(d, "lan").update(state="lost"), {"text"}),
    "a slot that is no number": (lambda d: record(d, "town").update(slot="x"), {"text"}),
    "a slot where none is": (lambda d: record(d, "lan").update(slot=1), {"derived"}),
    "a kind that is a list": (lambda d: record(d, "lan").update(kind=[]), {"text"}),
    "a state that is a list": (lambda d: record(d, "lan").update(state=[]), {"text"}),
    "a field more": (lambda d: record(d, "lan").update(colour="red"), {"text"}),
    "no record at all": (lambda d: d["records"].clear(), {"rows"}),
    "a record that is none": (lambda d: d["records"].append("x"), {"text"}),
    "a field of the head": (lambda d: d.update(owner="x"), {"text"}),
}


@pytest.mark.parametrize("kind", COUNTY_DAMAGE)
def test_damage_to_the_county_plan_is_found(tmp_path: Path, kind: str) -> None:
    """Every kind of damage to a county's plan fails the checks it breaks."""
    change, broken = COUNTY_DAMAGE[kind]
    report = check_plan_file(county_file(tmp_path, change))
    assert broken <= failed(report), report.failures


def test_a_county_plan_has_no_divisions_file(tmp_path: Path) -> None:
    """A county's plan has no codes to be held against a list; that is said, not passed over."""
    with pytest.raises(CheckInputError, match="no codes"):
        check_plan_file(county_file(tmp_path), divisions=list_file(tmp_path, city()))


def test_the_table_may_be_written_by_another_csv_writer(tmp_path: Path) -> None:
    """Every cell in quotes is the same plan."""
    path = written(tmp_path)
    rows = list(csv.reader(io.StringIO(path.read_text("utf-8"))))
    out = io.StringIO()
    csv.writer(out, lineterminator="\n", quoting=csv.QUOTE_ALL).writerows(rows[1:])
    path.write_text(",".join(rows[0]) + "\n" + out.getvalue(), "utf-8")
    seal(path)
    report = check_plan_file(path)
    assert report.ok, report.failures
