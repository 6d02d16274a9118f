"""Tables: every prefix once, readable by the tools they are for, and no cell that a spreadsheet would execute or bend."""

from __future__ import annotations

import csv
import io
import json
import zipfile

import numpy as np
import openpyxl
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from addressing.exports import EXPORTS, ExportOptions
from addressing.exports.options import NothingToExportError, NotInPlanError, TooManyRowsError
from addressing.exports.tables import HEADERS, csv_cell, guard_column
from addressing.exports.workbook import SHEET_ROWS, Sheet, pack_workbook
from addressing.hierarchy import HierarchyPlan
from addressing.model import AddressPlan
from addressing.text import format_prefix

Plan = AddressPlan | HierarchyPlan


def read_csv(content: object) -> list[dict[str, str]]:
    """Return a CSV file as rows."""
    assert isinstance(content, bytes)
    return list(csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline="")))


def expected(plan: Plan) -> list[str]:
    """Return the plan's prefixes, by another way than the exports'."""
    if isinstance(plan, AddressPlan):
        return [r.prefix for r in plan.records]
    return [format_prefix(*plan.prefix(row)) for row in range(len(plan))]


@pytest.fixture(params=["county_plan", "hierarchy", "grown"])
def plan(request: pytest.FixtureRequest) -> Plan:
    """A plan of either kind."""
    found = request.getfixturevalue(request.param)
    assert isinstance(found, (AddressPlan, HierarchyPlan))
    return found


def test_csv_json_yaml_and_workbook_say_the_same(plan: Plan) -> None:
    """The four tables hold the same rows, each of the plan's prefixes once."""
    rows = read_csv(EXPORTS["csv"].write(plan, ExportOptions()))
    assert [r["prefix"] for r in rows] == expected(plan)
    assert list(rows[0]) == list(HEADERS)
    from_json = json.loads(EXPORTS["json"].write(plan, ExportOptions()))  # type: ignore[arg-type] # bytes
    assert from_json["entries"] == rows
    assert yaml.safe_load(EXPORTS["yaml"].write(plan, ExportOptions())) == from_json  # type: ignore[arg-type] # bytes
    book = openpyxl.load_workbook(io.BytesIO(EXPORTS["xlsx"].write(plan, ExportOptions())))  # type: ignore[arg-type]
    cells = [
        {h: c.value or "" for h, c in zip(HEADERS, row, strict=True)}
        for sheet in book.worksheets[1:]
        for row in sheet.iter_rows(min_row=2)
    ]
    assert sorted(cells, key=lambda r: str(r["id"])) == sorted(rows, key=lambda r: r["id"])


def test_chinese_csv_opens_in_excel(hierarchy: HierarchyPlan) -> None:
    """Chinese CSV begins with a byte order mark, and has Chinese headers, kinds and states."""
    content = EXPORTS["csv"].write(hierarchy, ExportOptions(lang="zh"))
    assert isinstance(content, bytes)
    assert content.startswith("\ufeff代码,名称,级别".encode())
    rows = read_csv(content)
    assert {r["类型"] for r in rows} == {"县", "乡镇", "村"}
    assert {r["状态"] for r in rows} == {"在用"}


def test_states_and_who_took_over(grown: HierarchyPlan) -> None:
    """What is gone is quarantined; what was absorbed names the code that took it over; the moved keep their prefix."""
    rows = {r["code"]: r for r in read_csv(EXPORTS["csv"].write(grown, ExportOptions()))}
    assert rows["410301001004"]["state"] == "quarantined"
    assert (rows["410302003000"]["state"], rows["410302003000"]["into"]) == ("absorbed", "410302002000")
    assert rows["410302003001"]["parent"] == "410302002000"


def test_workbook_cells_are_text_with_frozen_header_and_filter(hierarchy: HierarchyPlan) -> None:
    """Codes stay 12 digits: every cell is a string in text format; the header is frozen and filters cover all rows."""
    content = EXPORTS["xlsx"].write(hierarchy, ExportOptions(lang="zh"))
    assert isinstance(content, bytes)
    book = openpyxl.load_workbook(io.BytesIO(content))
    assert book.sheetnames == ["概览", "县", "乡镇", "村"]
    for sheet in book.worksheets:
        assert sheet.freeze_panes == "A2"
        assert sheet.auto_filter.ref == sheet.dimensions
        for row in sheet.iter_rows(min_row=2):
            assert all(c.value is None or c.data_type == "s" for c in row)
            assert {c.number_format for c in row} == {"@"}
    assert book["县"]["A2"].value == "410301000000"


def test_same_plan_same_bytes(plan: Plan) -> None:
    """An export holds no time and no chance: the same plan gives the same bytes, the workbook's too."""
    for name in ("csv", "xlsx", "json", "yaml"):
        assert EXPORTS[name].write(plan, ExportOptions()) == EXPORTS[name].write(plan, ExportOptions())


@given(st.lists(st.text(st.characters(codec="utf-8"), max_size=12), min_size=1, max_size=6))
@settings(deadline=None)
def test_no_csv_cell_is_a_formula_and_all_come_back(texts: list[str]) -> None:
    """Read back, a cell is its text, with an apostrophe exactly where the text would begin a formula."""
    line = ",".join(csv_cell(t) for t in texts)
    (row,) = list(csv.reader(io.StringIO(line + "\r\n", newline=""))) or [[""]]
    assert row == [f"'{t}" if t[:1] and t[0] in "=+-@\t\r＝＋－＠" else t for t in texts] or texts == [""]


@given(
    st.lists(
        st.sampled_from(["白沙镇", "=1+1", "a,b", 'say "no"', "x\ny", "-x", "", "＝2", "plain", "\rx"]), max_size=5
    )
)
def test_column_shortcut_changes_nothing(texts: list[str]) -> None:
    """Looking through a whole column at once gives what looking at each cell gives."""
    assert guard_column(texts) == [csv_cell(t) for t in texts]


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20))
@settings(max_examples=60, deadline=None)
def test_workbook_keeps_any_text(text: str) -> None:
    """Whatever a name holds, the workbook opens and no cell is a formula; printable text comes back as it was."""
    content = pack_workbook([Sheet("s", ("h",), [[text]])])
    cell = openpyxl.load_workbook(io.BytesIO(content))["s"]["A2"]
    assert cell.data_type != "f"
    if text.isprintable() and "_x" not in text:
        assert cell.value == text
    if text[0] in "=+-@":
        assert cell.quotePrefix


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=20))
@settings(max_examples=60, deadline=None)
def test_yaml_keeps_any_name(text: str) -> None:
    """A name with any character is the same in JSON and in YAML."""
    from addressing.exports.tables import _plain_yaml

    assert yaml.safe_load(_plain_yaml(json.dumps([text], ensure_ascii=False))) == [text]


def test_under_and_level_choose(hierarchy: HierarchyPlan, grown: HierarchyPlan, county_plan: AddressPlan) -> None:
    """--under keeps a division and all governed by it today, by code or name; --level one level; both work together."""

    def codes(plan: Plan, **options: str) -> list[str]:
        found = read_csv(EXPORTS["csv"].write(plan, ExportOptions(**options)))  # type: ignore[arg-type] # texts
        return [r["code"] or r["id"] for r in found]

    assert len(codes(hierarchy, under="410301000000")) == 1 + 3 + 12
    assert codes(hierarchy, under="第1县") == codes(hierarchy, under="410301000000")
    assert codes(hierarchy, under="410301000000", level="town") == [f"41030100{t}000" for t in (1, 2, 3)]
    assert codes(hierarchy, level="3") == ["410301000000", "410302000000"]
    assert len(codes(grown, under="410302002000", level="5")) == 8  # its own four, and four of the absorbed town
    planes = codes(county_plan, under="finance", level="town")
    assert planes
    assert all(p.startswith("town:") and p.endswith("@finance") for p in planes)
    assert {p.partition(":")[0] for p in codes(county_plan, under="baisha", level="4")} == {"town"}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"under": "410301009000"}, "did you mean 410301000000"),
        ({"under": "1镇"}, "did you mean 第1县1镇"),
        ({"level": "hamlet"}, "it has 3 county, 4 town, 5 village"),
    ],
)
def test_unknown_names_are_errors_with_near_ones(hierarchy: HierarchyPlan, options: dict[str, str], said: str) -> None:
    """A division or level that is not in the plan is refused in one line that names near ones."""
    with pytest.raises(NotInPlanError) as caught:
        EXPORTS["csv"].write(hierarchy, ExportOptions(**options))  # type: ignore[arg-type] # texts
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_nothing_is_an_error(hierarchy: HierarchyPlan) -> None:
    """A choice that leaves nothing is an error, never an empty table."""
    with pytest.raises(NothingToExportError, match=r"change --under 410301001001 or --level 3"):
        EXPORTS["csv"].write(hierarchy, ExportOptions(under="410301001001", level="3"))


def test_subnets_come_with_their_division(hierarchy: HierarchyPlan) -> None:
    """With subnets, each village's template follows it, inside its prefix, with its zone."""
    rows = read_csv(EXPORTS["csv"].write(hierarchy, ExportOptions(subnets=True, under="410301001001")))
    assert [(r["kind"], r["name"], r["zone"], r["parent"]) for r in rows[1:]] == [
        ("subnet", "windows", "public", "410301001001"),
        ("subnet", "finance", "dedicated", "410301001001"),
    ]
    assert rows[1]["prefix"] == rows[0]["prefix"].replace("/56", "/64")


def test_more_rows_than_excel_holds_are_refused(hierarchy: HierarchyPlan) -> None:
    """A sheet of more than 1,048,576 rows is refused in one line, before anything is made."""
    n = SHEET_ROWS
    row = hierarchy.row_of["410301001001"]
    large = HierarchyPlan(
        policy=hierarchy.policy,
        layout=hierarchy.layout,
        version=1,
        ids=np.arange(1, n + 1, dtype=np.int64),
        codes=["x"] * n,
        names=["x"] * n,
        levels=np.full(n, 5, dtype=np.int8),
        parents=np.zeros(n, dtype=np.int64),
        homes=np.zeros(n, dtype=np.int64),
        slots=np.zeros(n, dtype=np.uint64),
        high=np.full(n, hierarchy.high[row], dtype=np.uint64),
        lengths=np.full(n, 56, dtype=np.uint8),
        states=np.zeros(n, dtype=np.int8),
        intos=np.zeros(n, dtype=np.int64),
    )
    with pytest.raises(TooManyRowsError, match=r"sheet village would hold 1048576 rows, the most is 1048575; narrow"):
        EXPORTS["xlsx"].write(large, ExportOptions())


def test_workbook_titles_are_allowed_and_apart() -> None:
    """Field names that Excel forbids as titles, or that clash, still make a workbook that opens."""
    from addressing.exports.workbook import _titles

    titles = _titles(["a/b", "a:b", "overview", "x" * 40, "[]"], taken="overview")
    assert len({t.casefold() for t in titles.values()} | {"overview"}) == 6
    assert all(0 < len(t) <= 31 and not set(t) & set("[]:*?/\\") for t in titles.values())


def test_workbook_is_a_zip_without_time(hierarchy: HierarchyPlan) -> None:
    """Every part of the workbook bears the same fixed date."""
    content = EXPORTS["xlsx"].write(hierarchy, ExportOptions())
    assert isinstance(content, bytes)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.testzip() is None
        assert {i.date_time for i in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
