"""Reading the planner's tables: CSV files or one workbook, with every problem kept, not just the first.

A table is `NAME.csv` in the county's folder or the sheet NAME of `survey.xlsx`. Headers may be in English or
Chinese. Full-width digits and letters, BOMs and GBK files are understood; Excel's damage is named, not guessed at.
"""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime
from ipaddress import IPv4Network, ip_address
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import ConfigDict, Field

from inventory.errors import Problem
from inventory.files import NOT_REGULAR, is_irregular
from inventory.model import Model
from inventory.wording import counted

T = TypeVar("T")
WORKBOOK = "survey.xlsx"
MAX_ROWS = 200_000
"""Rows that hold something, in a table of either kind."""
SHEET_ROWS = 1_048_576
"""Rows of a sheet that Excel can make; blank ones count, so that a forged sheet cannot keep the reader busy."""


class CellError(ValueError):
    """A cell that cannot be read: what is wrong and what to do."""

    def __init__(self, what: str, todo: str) -> None:
        self.what, self.todo = what, todo
        super().__init__(what)


class CellReader(Generic[T]):
    """Reads a cell; `accepts` says in words what it takes, with its bounds and unit. Made by `accepting`."""

    def __init__(self, accepts: str, read: Callable[[str], T]) -> None:
        self.accepts, self.read = accepts, read

    def __call__(self, text: str) -> T:
        return self.read(text)


def accepting(accepts: str) -> Callable[[Callable[[str], T]], CellReader[T]]:
    """Make a function that reads a cell say what it accepts."""
    return lambda read: CellReader(accepts, read)


class Column(Model):
    """A column: its English name, the Chinese header that means the same, and how a cell is read.

    `about` says what the column means and `example` is a cell that can be read; docs/reference.md is made from these.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    name: str
    chinese: str
    parse: CellReader[Any]
    about: str = Field(min_length=1)
    example: str = Field(min_length=1)
    required: bool = True


class Row(Model):
    """One row's parsed values and the line a person sees it on. `bad` names the columns that could not be read (None)."""

    number: int
    values: dict[str, Any]
    bad: frozenset[str] = frozenset()


class TableSource(Model):
    """Raw cells of one table and where they came from."""

    file: str
    sheet: str | None
    header: tuple[str, ...]
    header_row: int
    rows: tuple[tuple[int, tuple[str, ...]], ...]


def plain(text: str) -> str:
    """Fold full-width forms and strip: for identifiers, numbers, addresses and dates."""
    return unicodedata.normalize("NFKC", text).strip()


@accepting("an identifier: a-z, 0-9 and '-', at most 40 characters")
def read_ident(text: str) -> str:
    """Read an identifier: lower-case ASCII letters, digits and hyphens."""
    value = plain(text).lower()
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,39}", value):
        raise CellError(f"expected an identifier of a-z, 0-9 and '-', found {text!r}", "use a short ASCII identifier")
    return value


@accepting("2 to 10 letters and digits, a letter first")
def read_port(text: str) -> str:
    """Read an interface's base name, short enough to take `.VLAN` within Linux's 15 characters."""
    value = plain(text).lower()
    if not re.fullmatch(r"[a-z][a-z0-9]{1,9}", value):
        raise CellError(
            f"expected a port name of 2 to 10 letters and digits, found {text!r}", "shorten it, for example 'wan1'"
        )
    return value


@accepting("text on one line, any script")
def read_name(text: str) -> str:
    """Read a name as people write it: any script, one line, no control characters."""
    value = text.strip()
    if any(unicodedata.category(ch) == "Cc" for ch in value):
        raise CellError(f"expected a name on one line, found control characters in {value!r}", "remove them")
    return value


def read_int(low: int, high: int, unit: str = "") -> CellReader[int]:
    """Make a reader of whole numbers within bounds; Excel's `12.0` is understood, `1.2E+11` is not."""

    @accepting(f"a whole number of {unit}, {low} to {high}" if unit else f"a whole number, {low} to {high}")
    def read(text: str) -> int:
        value = re.sub(r"\.0+$", "", plain(text))
        if not re.fullmatch(r"-?\d{1,12}", value):
            raise CellError(f"expected a whole number, found {text!r}", "type the number without unit or formula")
        if not low <= int(value) <= high:
            raise CellError(f"expected {low} to {high}, found {int(value)}", "correct the number")
        return int(value)

    return read


@accepting("12 digits")
def read_code(text: str) -> str:
    """Read a 12-digit division code; names Excel's scientific notation for what it is."""
    value = re.sub(r"\.0+$", "", plain(text))
    if re.search(r"[eE][+-]?\d", value):
        raise CellError(f"the code was mangled by Excel: {text!r}", "format the column as text and type all 12 digits")
    if not re.fullmatch(r"\d{12}", value):
        raise CellError(
            f"expected a 12-digit division code, found {text!r}", "take it from the statistics bureau's list"
        )
    return value


@accepting("yes or no, also 是 or 否; empty is no")
def read_yes(text: str) -> bool:
    """Read yes or no, also 是/否; empty is no."""
    value = plain(text).lower()
    if value in {"yes", "y", "true", "1", "是"}:
        return True
    if value in {"no", "n", "false", "0", "否", ""}:
        return False
    raise CellError(f"expected yes or no (是/否), found {text!r}", "write yes or no")


@accepting("yes or no, also 是 or 否; never empty")
def read_required_yes(text: str) -> bool:
    """Read yes or no where silence is not an answer: the scope guard must never read an empty cell as 'no'."""
    if not plain(text):
        raise CellError("expected yes or no (是/否), found an empty cell", "say whether the network is classified")
    return read_yes(text)


@accepting("an IPv4 prefix")
def read_prefix4(text: str) -> IPv4Network:
    """Read an IPv4 prefix; host bits set is an error, not a rounding."""
    value = plain(text)
    try:
        if "/" not in value:
            raise CellError(f"expected a prefix such as 10.20.3.0/24, found {text!r}", "add the prefix length")
        return IPv4Network(value)
    except CellError:
        raise
    except ValueError as error:
        todo = "write the network's own address" if "host bits" in str(error) else "correct the prefix"
        raise CellError(f"expected an IPv4 prefix, found {text!r} ({error})", todo) from error


@accepting("an IPv4 prefix of /16 to /28")
def read_lan4(text: str) -> IPv4Network:
    """Read the IPv4 prefix of a LAN: /16 to /28."""
    net = read_prefix4(text)
    if not 16 <= net.prefixlen <= 28:
        raise CellError(f"expected a LAN of /16 to /28, found /{net.prefixlen}", "correct the length")
    return net


@accepting("an IPv4 prefix: /30 for a legacy line, /31 for an extranet one")
def read_link4(text: str) -> IPv4Network:
    """Read the IPv4 prefix of a link: a legacy WAN's /30 or an extranet link's /31."""
    net = read_prefix4(text)
    if net.prefixlen not in {30, 31}:
        raise CellError(f"expected a /30 (legacy) or /31 (extranet), found /{net.prefixlen}", "correct the length")
    return net


@accepting("IPv4 prefixes")
def read_prefixes4(text: str) -> tuple[IPv4Network, ...]:
    """Read IPv4 prefixes separated by `;`."""
    return tuple(read_prefix4(part) for part in split_list(text))


@accepting("an IPv4 or IPv6 address")
def read_address(text: str) -> Any:
    """Read an IPv4 or IPv6 address."""
    try:
        return ip_address(plain(text))
    except ValueError as error:
        raise CellError(f"expected an IP address, found {text!r}", "correct the address") from error


@accepting("a date: 2027-10-31, 2027/10/31 or 2027年10月31日")
def read_date(text: str) -> date:
    """Read a date: 2027-10-31, 2027/10/31 or 2027年10月31日."""
    value = re.sub(r"[/年月.]", "-", plain(text)).rstrip("日").split(" ")[0]
    try:
        year, month, day = map(int, value.split("-"))
        return date(year, month, day)
    except ValueError as error:
        raise CellError(f"expected a date such as 2027-10-31, found {text!r}", "correct the date") from error


def split_list(text: str) -> tuple[str, ...]:
    """Split a list cell on `;`, `；`, `,`, `、`."""
    return tuple(part.strip() for part in re.split(r"[;；,，、]", text) if part.strip())


@accepting("identifiers")
def read_idents(text: str) -> tuple[str, ...]:
    """Read identifiers separated by `;`."""
    return tuple(read_ident(part) for part in split_list(text))


def read_choice(*allowed: str) -> CellReader[str]:
    """Make a reader for one of a few words."""

    @accepting(f"one of {', '.join(allowed)}")
    def read(text: str) -> str:
        value = plain(text).lower()
        if value not in allowed:
            raise CellError(f"expected one of {', '.join(allowed)}, found {text!r}", "choose one of them")
        return value

    return read


class TableError(Exception):
    """A table that cannot be read at all; `problem` says why."""

    def __init__(self, file: str, what: str, todo: str, *, sheet: str | None = None, row: int | None = None) -> None:
        self.problem = Problem(file=file, sheet=sheet, row=row, column=None, what=what, todo=todo)
        super().__init__(str(self.problem))


def load_table(folder: Path, name: str, problems: list[Problem]) -> TableSource | None:
    """Read a table's raw cells from `NAME.csv` or the workbook; None (with a problem noted) when there is neither."""
    path, book = folder / f"{name}.csv", folder / WORKBOOK
    sheet: TableSource | None = None
    try:
        sheet = _load_sheet(book, name) if book.exists() else None
    except TableError as error:
        if error.problem not in problems:
            problems.append(error.problem)
        if not path.exists():
            return None  # it may well be in the workbook
    try:
        if sheet is None:
            return _load_csv(path, name)
        if path.exists():
            what = f"expected one source of table {name!r}, found also sheet {name!r} in {WORKBOOK}"
            raise TableError(path.name, what, "keep one of the two")
    except TableError as error:
        problems.append(error.problem)
        return None
    return sheet


def _load_csv(path: Path, name: str) -> TableSource:
    if is_irregular(path):
        raise TableError(path.name, NOT_REGULAR, "put the table there as a CSV file")
    try:
        text = _decode(path.read_bytes())
    except FileNotFoundError as error:
        todo = f"make {path.name}, or a sheet {name!r} in {WORKBOOK}"
        raise TableError(path.name, "expected this table, found no file", todo) from error
    except OSError as error:
        raise TableError(path.name, f"cannot be read ({error.strerror})", "check it") from error
    if text is None:
        raise TableError(path.name, "expected UTF-8 or GBK text, found other bytes", "save it as UTF-8")
    rows: list[tuple[int, tuple[str, ...]]] = []
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        for cells in reader:
            if any(c.strip() for c in cells) and not cells[0].lstrip().startswith("#"):
                rows.append((reader.line_num, tuple(cells)))
            if len(rows) > MAX_ROWS:
                raise TableError(path.name, *_too_long(), row=reader.line_num)
    except csv.Error as error:
        what = f"not a CSV table ({error})"
        raise TableError(path.name, what, "check quotes and commas", row=reader.line_num) from error
    if not rows:
        raise TableError(path.name, "expected a header row, found an empty file", "add it")
    number, header = rows[0]
    return TableSource(file=path.name, sheet=None, header=header, header_row=number, rows=tuple(rows[1:]))


def _too_long() -> tuple[str, str]:
    return f"more than {counted(MAX_ROWS, 'row')}", "no county is that large: remove what does not belong there"


def _decode(raw: bytes) -> str | None:
    for encoding in ("utf-8-sig", "gb18030"):
        try:
            text = raw.decode(encoding)
        except UnicodeDecodeError:
            continue
        if "\x00" not in text:
            return text
    return None


def _load_sheet(book: Path, name: str) -> TableSource | None:
    """Return a sheet's cells; None when the workbook has no such sheet."""
    from openpyxl import load_workbook
    from openpyxl.utils.exceptions import InvalidFileException

    from inventory.workbooks import BROKEN

    if is_irregular(book):
        raise TableError(book.name, NOT_REGULAR, "put the workbook there")
    try:
        workbook = load_workbook(book, read_only=True, data_only=True)
    except (InvalidFileException, *BROKEN) as error:
        raise TableError(book.name, f"not a readable workbook ({error})", "save it as .xlsx") from error
    rows: list[tuple[int, tuple[str, ...]]] = []
    try:
        if name not in workbook.sheetnames:
            return None
        for number, cells in enumerate(workbook[name].iter_rows(values_only=True), start=1):
            if any(v is not None and str(v).strip() for v in cells):
                rows.append((number, tuple(_cell_text(v) for v in cells)))
            if len(rows) > MAX_ROWS or number > SHEET_ROWS:
                raise TableError(book.name, *_too_long(), sheet=name, row=number)
    except BROKEN as error:  # openpyxl reads sheets lazily and meets damaged ones only here
        what = f"not a readable sheet ({error})"
        raise TableError(book.name, what, "save the workbook as .xlsx again", sheet=name) from error
    finally:
        workbook.close()
    if not rows:
        raise TableError(book.name, "expected a header row, found an empty sheet", "add it", sheet=name)
    number, header = rows[0]
    return TableSource(file=book.name, sheet=name, header=header, header_row=number, rows=tuple(rows[1:]))


def _cell_text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.date().isoformat()
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return str(value)


def parse_table(source: TableSource, columns: Iterable[Column], problems: list[Problem]) -> list[Row]:
    """Parse every cell of a table, noting each problem; a cell that cannot be read is None and named in `Row.bad`."""
    wanted = list(columns)
    place = _match_header(source, wanted, problems)
    if place is None:
        return []
    out: list[Row] = []
    for number, cells in source.rows:
        values: dict[str, Any] = {}
        bad: set[str] = set()
        for column in wanted:
            index = place.get(column.name)
            text = cells[index] if index is not None and index < len(cells) else ""
            if not text.strip() and column.parse is not read_required_yes:
                if column.required:
                    bad.add(column.name)
                    problems.append(_at(source, number, column, "expected a value, found an empty cell", "fill it in"))
                values[column.name] = None
                continue
            try:
                values[column.name] = column.parse(text)
            except CellError as error:
                values[column.name] = None
                bad.add(column.name)
                problems.append(_at(source, number, column, error.what, error.todo))
        extra = [c for c in cells[len(source.header) :] if c.strip()]
        if extra:
            problems.append(
                Problem(
                    file=source.file,
                    sheet=source.sheet,
                    row=number,
                    column=None,
                    what=f"expected {counted(len(source.header), 'cell')}, found {len(cells)}",
                    todo="quote cells that hold a comma",
                )
            )
        out.append(Row(number=number, values=values, bad=frozenset(bad)))
    return out


def _at(source: TableSource, number: int, column: Column, what: str, todo: str) -> Problem:
    return Problem(file=source.file, sheet=source.sheet, row=number, column=column.name, what=what, todo=todo)


def _match_header(source: TableSource, wanted: list[Column], problems: list[Problem]) -> Mapping[str, int] | None:
    names = {c.name: c.name for c in wanted} | {c.chinese: c.name for c in wanted}
    place: dict[str, int] = {}
    bad = False
    for index, raw in enumerate(source.header):
        key = plain(raw).lower()
        if not key:
            continue
        name = names.get(key) or names.get(plain(raw))
        if name is None or name in place:
            bad = True
            what = f"column {raw.strip()!r} twice" if name else f"unknown column {raw.strip()!r}"
            known = ", ".join(c.name for c in wanted)
            problems.append(
                Problem(
                    file=source.file,
                    sheet=source.sheet,
                    row=source.header_row,
                    column=None,
                    what=what,
                    todo=f"the columns are: {known}",
                )
            )
        else:
            place[name] = index
    for column in wanted:
        if column.required and column.name not in place:
            bad = True
            problems.append(
                Problem(
                    file=source.file,
                    sheet=source.sheet,
                    row=source.header_row,
                    column=column.name,
                    what=f"expected a column {column.name!r} ({column.chinese}), found none",
                    todo="add the column",
                )
            )
    return None if bad else place
