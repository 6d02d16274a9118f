"""A plan as a workbook: one sheet a level or kind, every cell text, header frozen, filters on.

The file is made by hand, not by a spreadsheet library: the same plan gives the same bytes (libraries stamp the time into
it), and a country's 663,128 rows take seconds. Cells are inline strings in text format, so that nothing becomes a number,
a date or a formula; what looks like a formula is marked as quoted text as well, for when someone saves the sheet as CSV.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

from addressing.entries import Plan
from addressing.exports.options import ExportOptions, TooManyRowsError
from addressing.exports.tables import FORMULA_STARTS, HEADERS, describe_plan, make_columns

SHEET_ROWS = 1_048_576
"""Rows of a sheet that Excel can hold, the header among them."""
_PACKED_ROWS = 5_000
_WIDTHS = {"name": 28, "prefix": 26, "parent": 16, "code": 16, "id": 22}
_EPOCH = (1980, 1, 1, 0, 0, 0)
_UNFIT = re.compile(r"[\x00-\x08\x0b-\x1f\ufffe\uffff]|_(?=x[0-9A-Fa-f]{4}_)")
_XML = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'
_MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_RELATIONS = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_PACKAGE = "http://schemas.openxmlformats.org/package/2006"
_OVERVIEW = {"en": ("overview", ("sheet", "rows"), "plan"), "zh": ("概览", ("工作表", "行数"), "规划")}


class Sheet(NamedTuple):
    """One sheet: its title, its header, its rows by column."""

    title: str
    header: tuple[str, ...]
    columns: list[list[str]]


def write_xlsx(plan: Plan, options: ExportOptions) -> bytes:
    """Return the workbook: an overview, then a sheet for each kind in the order that kinds first appear by length."""
    columns = make_columns(plan, options, "xlsx")
    header = tuple(HEADERS.values() if options.lang == "zh" else HEADERS)
    numbers: dict[str, list[int]] = {}
    for number, kind in enumerate(columns.kind):
        numbers.setdefault(kind, []).append(number)
    for kind, rows in numbers.items():
        if len(rows) + 1 > SHEET_ROWS:
            raise TooManyRowsError("xlsx", f"sheet {kind}", len(rows), SHEET_ROWS - 1)

    def length(kind: str) -> tuple[int, str]:
        return int(columns.prefix[numbers[kind][0]].rpartition("/")[2]), kind

    order = sorted(numbers, key=length)
    titles = _titles(order, taken=_OVERVIEW[options.lang][0])
    counts = [(titles[kind], str(len(numbers[kind]))) for kind in order]
    sheets = [_overview(plan, options, counts)]
    for kind in order:
        rows = numbers[kind]
        sheets.append(Sheet(titles[kind], header, [[c[r] for r in rows] for c in columns.all()]))
    return pack_workbook(sheets)


def _overview(plan: Plan, options: ExportOptions, counts: list[tuple[str, str]]) -> Sheet:
    title, header, about = _OVERVIEW[options.lang]
    facts = [(f"{about}: {key}", _say(value)) for key, value in describe_plan(plan).items()]
    rows = counts + facts
    return Sheet(title, header, [list(column) for column in zip(*rows, strict=True)])


def _say(value: object) -> str:
    if isinstance(value, list):
        return "; ".join(_say(v) for v in value)
    if isinstance(value, dict):
        return f"{value['name']} +{value['width']} = /{value['length']}"
    return str(value)


def _titles(kinds: Sequence[str], taken: str) -> dict[str, str]:
    """Return a sheet's title for each kind: what Excel allows (31 characters, none of the seven it forbids), no two alike."""
    out: dict[str, str] = {}
    used = {taken.casefold()}
    for kind in kinds:
        plain = re.sub(r"[\[\]:*?/\\\x00-\x1f']", " ", kind).strip()[:26] or "sheet"
        title, number = plain, 2
        while title.casefold() in used:
            title, number = f"{plain} {number}", number + 1
        used.add(title.casefold())
        out[kind] = title
    return out


def pack_workbook(sheets: Sequence[Sheet]) -> bytes:
    """Return an xlsx file of these sheets, all cells text; the same bytes for the same sheets."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=3) as archive:
        for name, text in _frame(sheets):
            _add(archive, name, [text])
        for number, sheet in enumerate(sheets, 1):
            _add(archive, f"xl/worksheets/sheet{number}.xml", _sheet_xml(sheet))
    return out.getvalue()


def _add(archive: zipfile.ZipFile, name: str, parts: Iterable[str]) -> None:
    info = zipfile.ZipInfo(name, _EPOCH)
    info.compress_type = zipfile.ZIP_DEFLATED
    with archive.open(info, "w", force_zip64=True) as stream:
        for part in parts:
            stream.write(part.encode())


def _frame(sheets: Sequence[Sheet]) -> Iterator[tuple[str, str]]:
    numbers = range(1, len(sheets) + 1)
    kind = "application/vnd.openxmlformats-officedocument.spreadsheetml"
    parts = "".join(
        f'<Override PartName="/xl/worksheets/sheet{n}.xml" ContentType="{kind}.worksheet+xml"/>' for n in numbers
    )
    yield (
        "[Content_Types].xml",
        (
            f'{_XML}<Types xmlns="{_PACKAGE}/content-types">'
            '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
            '<Default Extension="xml" ContentType="application/xml"/>'
            f'<Override PartName="/xl/workbook.xml" ContentType="{kind}.sheet.main+xml"/>'
            f'<Override PartName="/xl/styles.xml" ContentType="{kind}.styles+xml"/>{parts}</Types>'
        ),
    )
    yield (
        "_rels/.rels",
        (
            f'{_XML}<Relationships xmlns="{_PACKAGE}/relationships">'
            f'<Relationship Id="rId1" Type="{_RELATIONS}/officeDocument" Target="xl/workbook.xml"/></Relationships>'
        ),
    )
    listed = "".join(
        f'<sheet name="{escape_xml(s.title)}" sheetId="{n}" r:id="rId{n}"/>' for n, s in enumerate(sheets, 1)
    )
    filters = "".join(
        f'<definedName name="_xlnm._FilterDatabase" localSheetId="{n - 1}" hidden="1">'
        f"'{escape_xml(s.title)}'!$A$1:${_letter(len(s.header))}${len(s.columns[0]) + 1}</definedName>"
        for n, s in enumerate(sheets, 1)
    )
    yield (
        "xl/workbook.xml",
        (
            f'{_XML}<workbook xmlns="{_MAIN}" xmlns:r="{_RELATIONS}"><sheets>{listed}</sheets>'
            f"<definedNames>{filters}</definedNames></workbook>"
        ),
    )
    related = "".join(
        f'<Relationship Id="rId{n}" Type="{_RELATIONS}/worksheet" Target="worksheets/sheet{n}.xml"/>' for n in numbers
    )
    yield (
        "xl/_rels/workbook.xml.rels",
        (
            f'{_XML}<Relationships xmlns="{_PACKAGE}/relationships">{related}'
            f'<Relationship Id="rId{len(sheets) + 1}" Type="{_RELATIONS}/styles" Target="styles.xml"/></Relationships>'
        ),
    )
    # Styles: 1 text, 2 text that looks like a formula, 3 header. Format 49 is Excel's own for text.
    yield (
        "xl/styles.xml",
        (
            f'{_XML}<styleSheet xmlns="{_MAIN}">'
            '<fonts count="2"><font><sz val="11"/><name val="Calibri"/></font>'
            '<font><b/><sz val="11"/><name val="Calibri"/></font></fonts>'
            '<fills count="3"><fill><patternFill patternType="none"/></fill><fill><patternFill patternType="gray125"/></fill>'
            '<fill><patternFill patternType="solid"><fgColor rgb="FFDDEBF7"/></patternFill></fill></fills>'
            '<borders count="1"><border><left/><right/><top/><bottom/><diagonal/></border></borders>'
            '<cellStyleXfs count="1"><xf numFmtId="0" fontId="0" fillId="0" borderId="0"/></cellStyleXfs>'
            '<cellXfs count="4"><xf numFmtId="0" fontId="0" fillId="0" borderId="0" xfId="0"/>'
            '<xf numFmtId="49" fontId="0" fillId="0" borderId="0" xfId="0" applyNumberFormat="1"/>'
            '<xf numFmtId="49" fontId="0" fillId="0" borderId="0" xfId="0" applyNumberFormat="1" quotePrefix="1"/>'
            '<xf numFmtId="49" fontId="1" fillId="2" borderId="0" xfId="0" applyNumberFormat="1" applyFont="1" applyFill="1"/>'
            '</cellXfs><cellStyles count="1"><cellStyle name="Normal" xfId="0" builtinId="0"/></cellStyles></styleSheet>'
        ),
    )


def _letter(number: int) -> str:
    return chr(ord("A") + number - 1)


def _sheet_xml(sheet: Sheet) -> Iterator[str]:
    last = f"{_letter(len(sheet.header))}{len(sheet.columns[0]) + 1}"
    names = [*HEADERS] if len(sheet.header) == len(HEADERS) else ["parent", "name"]
    widths = "".join(
        f'<col min="{n}" max="{n}" width="{_WIDTHS.get(name, 12)}" style="1" customWidth="1"/>'
        for n, name in enumerate(names, 1)
    )
    yield (
        f'{_XML}<worksheet xmlns="{_MAIN}"><dimension ref="A1:{last}"/>'
        '<sheetViews><sheetView workbookViewId="0"><pane ySplit="1" topLeftCell="A2" activePane="bottomLeft" '
        f'state="frozen"/></sheetView></sheetViews><cols>{widths}</cols><sheetData><row>'
    )
    yield "".join(f'<c s="3" t="inlineStr"><is><t>{escape_xml(text)}</t></is></c>' for text in sheet.header) + "</row>"
    rows = zip(*(_cells(column) for column in sheet.columns), strict=True)
    while packed := list(islice(rows, _PACKED_ROWS)):
        yield "".join([f"<row>{''.join(row)}</row>" for row in packed])
    yield f'</sheetData><autoFilter ref="A1:{last}"/></worksheet>'


def _cells(texts: list[str]) -> Iterator[str]:
    """Yield a column's cells; texts that come again and again are made once."""
    known: dict[str, str] = {}
    few = len(set(texts[:1000])) < 100
    for text in texts:
        cell = known.get(text)
        if cell is None:
            cell = _cell(text)
            if few:
                known[text] = cell
        yield cell


def _cell(text: str) -> str:
    if not text:
        return '<c s="1"/>'
    style = 2 if text[0] in FORMULA_STARTS else 1
    keep = ' xml:space="preserve"' if text != text.strip() else ""
    return f'<c s="{style}" t="inlineStr"><is><t{keep}>{escape_xml(text)}</t></is></c>'


def escape_xml(text: str) -> str:
    """Return text for XML; characters that XML cannot hold as Excel writes them, `_x0001_`."""
    if _UNFIT.search(text):
        text = _UNFIT.sub(lambda unfit: f"_x{ord(unfit[0]):04X}_", text)
    if "&" in text or "<" in text or ">" in text or '"' in text:
        text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")
    return text
