"""Reading which address blocks departments say are theirs: their own tables, or what their routers print.

A table (CSV, TSV, a workbook) has a header in Chinese or English, found below whatever title stands above it. Any other
text is read as a router's: `show ip route` and its kin, or a configuration; then the department is the file's name.
A default route, a router's own host routes, link-local, loopback and multicast blocks are nobody's and left out.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from addressing.text import BITS, AddressTextError, Prefix, format_address, normalise, parse_prefix
from inventory.errors import InputProblemsError, Problem
from inventory.files import NOT_REGULAR, is_irregular
from inventory.tables import MAX_ROWS, SHEET_ROWS, plain
from inventory.wording import counted
from inventory.workbooks import BROKEN, cell_text, open_workbook, say_break

if TYPE_CHECKING:
    from openpyxl import Workbook

HEADER_WITHIN = 20
"""A table's header is looked for in this many rows: offices put titles and remarks above it."""

BOOKS = (".xlsx", ".xlsm")
TABLES = (".csv", ".tsv")


class Block(NamedTuple):
    """Addresses from first to last of one family: a prefix, or a range that is none."""

    version: int
    first: int
    last: int

    @property
    def prefix(self) -> Prefix | None:
        """The prefix that is exactly this block, None for a range that is none."""
        size = self.last - self.first + 1
        if size & (size - 1) or self.first & (size - 1):
            return None
        return Prefix(self.version, self.first, BITS[self.version] - size.bit_length() + 1)

    @property
    def cover(self) -> Prefix:
        """The smallest prefix that holds the block."""
        low = (self.first ^ self.last).bit_length()
        return Prefix(self.version, self.first >> low << low, BITS[self.version] - low)

    @property
    def size(self) -> int:
        """How many addresses it holds."""
        return self.last - self.first + 1

    def meets(self, other: Block) -> bool:
        """Tell whether both hold some address."""
        return self.version == other.version and self.first <= other.last and other.first <= self.last

    def __str__(self) -> str:
        exact = self.prefix
        if exact is not None:
            return str(exact)
        return f"{format_address(self.version, self.first)}-{format_address(self.version, self.last)}"


class Claim(NamedTuple):
    """A block that a department says is its own, and where it says so; `row` is the line that a person sees.

    `prefix` is the block, or the smallest prefix that holds it where the block is a range that is no prefix; `span` is
    then that range's first and last address. `hosts`, `rules` and `services` (of its own, used by other departments)
    say what a change would touch (None: not said); `imports` and `exports` are route targets of its VRF; `talks_to`
    names departments that it must reach.
    """

    department: str
    prefix: Prefix
    file: str
    row: int
    sheet: str | None = None
    span: tuple[int, int] | None = None
    network: str = ""
    vrf: str = ""
    site: str = ""
    note: str = ""
    hosts: int | None = None
    rules: int | None = None
    services: int | None = None
    imports: tuple[str, ...] = ()
    exports: tuple[str, ...] = ()
    talks_to: tuple[str, ...] = ()

    @property
    def block(self) -> Block:
        """The addresses that are claimed."""
        first, last = self.span or (self.prefix.value, self.prefix.last)
        return Block(self.prefix.version, first, last)

    @property
    def where(self) -> str:
        """File, sheet and row, as problems name them."""
        return f"{self.file}{f' sheet {self.sheet}' if self.sheet else ''}:{self.row}"


class Sheet(NamedTuple):
    """One table found in a file: `cells` of each row with the row's number and the named columns' text."""

    file: str
    sheet: str | None
    places: Mapping[str, tuple[int, ...]]
    rows: tuple[tuple[int, Mapping[str, str]], ...]
    alone: bool


def fold_header(text: str) -> str:
    """Return a header as it is compared: `主机数 （台）` and `Import-Targets` as `主机数` and `importtargets`."""
    bare = re.sub(r"\(.*?\)|\[.*?\]", "", normalise(text).lower())
    return re.sub(r"[\s\-/_*:]+", "", bare)


class TableKind(NamedTuple):
    """What a kind of table looks like.

    `headers` are the names a column goes by, folded as `fold_header` does, by our name for it; a row is the header when
    it holds all columns of one of the sets in `needs`.
    """

    headers: Mapping[str, frozenset[str]]
    needs: tuple[frozenset[str], ...]

    @classmethod
    def of(cls, *needs: str, **names: str) -> TableKind:
        """Make one from what it needs and each column's names, separated by spaces; its own name is one of them."""
        headers = {name: frozenset(map(fold_header, {name, *others.split()})) for name, others in names.items()}
        return cls(headers, tuple(frozenset(n.split()) for n in needs))

    def places(self, cells: Sequence[str]) -> dict[str, tuple[int, ...]] | None:
        """Return where each column is if this row is the header, else None."""
        out: dict[str, tuple[int, ...]] = {}
        for index, cell in enumerate(cells):
            key = fold_header(cell)
            for name, known in self.headers.items():
                if key in known:
                    out[name] = (*out.get(name, ()), index)
        return out if any(need <= out.keys() for need in self.needs) else None


CLAIMS = TableKind.of(
    "prefix",
    "start end",
    department="dept tenant owner 部门 部门名称 单位 单位名称 使用部门 使用单位 所属部门 所属单位",
    prefix="prefixes subnet cidr address_block 网段 地址段 ip网段 ip地址段 ip段 地址块 前缀 子网 网络地址 "
    "ipv4网段 ipv6网段 ipv4地址段 ipv6地址段 ipv4前缀 ipv6前缀 ipv4_prefix ipv6_prefix",
    mask="netmask subnet_mask 掩码 子网掩码 网络掩码",
    start="first start_address 起始地址 开始地址 起始ip 开始ip 起始ip地址",
    end="last end_address 终止地址 结束地址 截止地址 终止ip 结束ip 终止ip地址",
    network="网络 网络名称 专网 专网名称",
    vrf="vpn vpn_instance vpn实例 实例 vrf名称",
    site="location 站点 地点 位置 机房",
    note="notes remark remarks comment 备注 说明 用途",
    hosts="host_count 主机数 主机数量 终端数 终端数量",
    rules="rule_count 规则数 规则数量 策略数 策略数量",
    services="service_count 服务数 共享服务数 共享服务数量",
    talks_to="互通部门 互访部门 需互通部门",
    import_targets="imports rt_import import_rt 导入目标 引入目标 导入rt",
    export_targets="exports rt_export export_rt 导出目标 发布目标 导出rt",
)


def read_prefix_tables(paths: Iterable[Path]) -> tuple[Claim, ...]:
    """Read departments' prefix lists; every problem of every file comes at once.

    Raises:
        InputProblemsError: a file is missing, unreadable, without one prefix, or holds rows that cannot be right.
    """
    problems: list[Problem] = []
    claims: list[Claim] = []
    stems: dict[str, Path] = {}
    wanted = list(dict.fromkeys(paths))
    if not wanted:
        raise InputProblemsError([problem("prefix lists", None, "expected a file, found none", "name one or more")])
    for path in wanted:
        before = len(problems)
        found, by_name = _read_file(path, problems)
        if by_name and path.stem in stems:
            what = f"its name says whose it is, and {stems[path.stem]} says the same"
            problems.append(problem(str(path), None, what, "give each department's file the department's name"))
        elif by_name:
            stems[path.stem] = path
        if not found and len(problems) == before:
            what = "not one prefix found"
            todo = "expected a table with a column prefix (网段), a routing table or a configuration"
            problems.append(problem(str(path), None, what, todo))
        claims += found
    if problems:
        raise InputProblemsError(problems)
    return tuple(claims)


def problem(
    file: str, row: int | None, what: str, todo: str, *, sheet: str | None = None, column: str | None = None
) -> Problem:
    """Make a problem of a file."""
    return Problem(file=file, sheet=sheet, row=row, column=column, what=what, todo=todo)


def _read_file(path: Path, problems: list[Problem]) -> tuple[list[Claim], bool]:
    """Return a file's claims, and whether its name was taken for the department."""
    if path.suffix.lower() in BOOKS:
        sheets = read_sheets(path, CLAIMS, problems)
        return _claims_of(sheets, path, problems)
    text = read_text(path, problems)
    if text is None:
        return [], False
    sheet = _table_of(text, path, CLAIMS, problems)
    if sheet is not None:
        return _claims_of([sheet], path, problems)
    if path.suffix.lower() in TABLES:
        what = "no header found with a column prefix (网段)"
        problems.append(problem(str(path), 1, what, "name the columns: department (部门), prefix (网段)"))
        return [], False
    return list(_RouterText(path, problems).read(text)), True


# tables


def read_sheets(path: Path, kind: TableKind, problems: list[Problem]) -> list[Sheet]:
    """Read every table of a kind in a CSV, TSV or workbook; a problem is noted when there is none."""
    if path.suffix.lower() in BOOKS:
        return _sheets_of_book(path, kind, problems)
    text = read_text(path, problems)
    if text is None:
        return []
    before = len(problems)
    sheet = _table_of(text, path, kind, problems)
    if sheet is None:
        if len(problems) == before:
            problems.append(problem(str(path), 1, "no header found", f"the columns are: {', '.join(kind.headers)}"))
        return []
    return [sheet]


def read_text(path: Path, problems: list[Problem]) -> str | None:
    """Return a file's text (UTF-8, UTF-16 with its mark, GBK); None with a problem noted when it cannot be read."""
    try:
        if is_irregular(path):
            problems.append(problem(str(path), None, NOT_REGULAR, "name a file"))
            return None
        raw = path.read_bytes()
    except FileNotFoundError:
        problems.append(problem(str(path), None, "no such file", "correct the name"))
        return None
    except OSError as error:
        problems.append(problem(str(path), None, f"cannot be read ({error.strerror})", "check it"))
        return None
    wide = raw[:2] in {b"\xff\xfe", b"\xfe\xff"}
    for encoding in ("utf-16",) if wide else ("utf-8-sig", "gb18030"):
        try:
            text = raw.decode(encoding)
        except UnicodeDecodeError:
            continue
        if "\x00" not in text:
            return text
    what, todo = "expected UTF-8 or GBK text, found other bytes", "save it as UTF-8, or a workbook as .xlsx"
    problems.append(problem(str(path), None, what, todo))
    return None


def _table_of(text: str, path: Path, kind: TableKind, problems: list[Problem]) -> Sheet | None:
    """Return the table that a text is, None when no header is found in its first rows."""
    for delimiter in _delimiters(path, text):
        places: dict[str, tuple[int, ...]] | None = None
        rows: list[tuple[int, Mapping[str, str]]] = []
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
        try:
            for seen, cells in enumerate(_filled(reader)):
                if places is None:
                    if seen >= HEADER_WITHIN:
                        break
                    places = kind.places(cells)
                    continue
                rows.append((reader.line_num, _named(cells, places)))
                if len(rows) > MAX_ROWS:
                    problems.append(problem(str(path), reader.line_num, *_too_long()))
                    break
        except csv.Error as error:
            if places is None:
                continue
            what = f"not a table ({error})"
            problems.append(problem(str(path), reader.line_num, what, "check quotes and commas"))
        if places is not None:
            return Sheet(str(path), None, places, tuple(rows), alone=True)
    return None


def _too_long() -> tuple[str, str]:
    return f"more than {counted(MAX_ROWS, 'row')}", "no county is that large: remove what does not belong there"


def _delimiters(path: Path, text: str) -> Iterator[str]:
    order = "\t,;" if path.suffix.lower() == ".tsv" else ",\t;"
    head = "\n".join(text.splitlines()[:HEADER_WITHIN])
    present = [d for d in order if d in head]
    # A table of one column holds no delimiter; only a file that calls itself a table is taken for one.
    yield from present or ([","] if path.suffix.lower() in TABLES else [])


def _filled(reader: Iterable[list[str]]) -> Iterator[list[str]]:
    for cells in reader:
        if any(cells) and not cells[0].lstrip("\ufeff ").startswith("#") and any(c.strip() for c in cells):
            yield cells


def _named(cells: Sequence[str], places: Mapping[str, tuple[int, ...]]) -> dict[str, str]:
    """Return the cells by column; columns of one name (IPv4 and IPv6 prefixes) are joined, a line each."""
    out = {"": "".join(cells)}
    for name, indices in places.items():
        texts = [cells[i] for i in indices if i < len(cells)]
        out[name] = texts[0] if len(texts) == 1 else "\n".join(t for t in texts if t.strip())
    return out


def _sheets_of_book(path: Path, kind: TableKind, problems: list[Problem]) -> list[Sheet]:
    if is_irregular(path):
        problems.append(problem(str(path), None, NOT_REGULAR, "name a workbook"))
        return []
    before = len(problems)
    try:
        data = path.read_bytes()
        with open_workbook(data) as book:
            out = list(_read_book(book, path, kind, problems))
        if any(_has_gap(s) for s in out):
            out = _fill_merged(data, out)
    except FileNotFoundError:
        problems.append(problem(str(path), None, "no such file", "correct the name"))
        return []
    except BROKEN as error:
        problems.append(problem(str(path), None, f"not a readable workbook ({say_break(error)})", "save it as .xlsx"))
        return []
    if not out and len(problems) == before:
        names = ", ".join(kind.headers)
        problems.append(problem(str(path), None, "no sheet has a header that is known", f"the columns are: {names}"))
    return [s._replace(alone=len(out) == 1) for s in out]


def _read_book(book: Workbook, path: Path, kind: TableKind, problems: list[Problem]) -> Iterator[Sheet]:
    for name in book.sheetnames:
        sheet = book[name]
        if not hasattr(sheet, "iter_rows"):
            continue  # a chart
        try:
            found = _sheet_rows(sheet, str(path), name, kind, problems)
        except BROKEN as error:
            what = f"not a readable sheet ({say_break(error)})"
            problems.append(problem(str(path), None, what, "save the workbook as .xlsx again", sheet=name))
            continue
        if found is not None:
            yield found


def _sheet_rows(sheet: Any, file: str, name: str, kind: TableKind, problems: list[Problem]) -> Sheet | None:
    places: dict[str, tuple[int, ...]] | None = None
    rows: list[tuple[int, Mapping[str, str]]] = []
    seen = 0
    for number, values in enumerate(sheet.iter_rows(values_only=True), start=1):
        cells = [cell_text(v) for v in values]
        if not any(c.strip() for c in cells):
            if number > SHEET_ROWS:
                break
            continue
        if places is None:
            seen += 1
            places = kind.places(cells)
            if places is None and seen >= HEADER_WITHIN:
                return None
            continue
        rows.append((number, _named(cells, places)))
        if len(rows) > MAX_ROWS:
            problems.append(problem(file, number, *_too_long(), sheet=name))
            break
    return None if places is None else Sheet(file, name, places, tuple(rows), alone=True)


def _has_gap(sheet: Sheet) -> bool:
    return "department" in sheet.places and any(not cells["department"].strip() for _, cells in sheet.rows)


_NOT_SHARED = frozenset({"prefix", "hosts", "rules", "services"})
"""Columns whose merged cell is not each row's: a block stands once, and a count is that of all its rows together."""


def _fill_merged(data: bytes, sheets: list[Sheet]) -> list[Sheet]:
    """Give each row of a merged cell its text: offices merge the department's cells down its rows.

    A workbook read row by row does not tell which cells are merged, so it is read again, whole.
    """
    with open_workbook(data, whole=True) as book:
        return [_fill_sheet(sheet, book[sheet.sheet or ""]) for sheet in sheets]


def _fill_sheet(sheet: Sheet, page: Any) -> Sheet:
    texts: dict[tuple[int, str], str] = {}
    last = sheet.rows[-1][0] if sheet.rows else 0
    for merged in page.merged_cells.ranges:
        for name, indices in sheet.places.items():
            if name not in _NOT_SHARED and any(merged.min_col <= i + 1 <= merged.max_col for i in indices):
                text = cell_text(page.cell(merged.min_row, merged.min_col).value)
                texts.update({(row, name): text for row in range(merged.min_row + 1, min(merged.max_row, last) + 1)})
    rows = [
        (number, {name: text or texts.get((number, name), "") for name, text in cells.items()})
        for number, cells in sheet.rows
    ]
    return sheet._replace(rows=tuple(rows))


def _claims_of(sheets: Sequence[Sheet], path: Path, problems: list[Problem]) -> tuple[list[Claim], bool]:
    out: list[Claim] = []
    by_name = False
    for sheet in sheets:
        department = ""
        if "department" not in sheet.places:
            by_name |= sheet.alone
            department = path.stem if sheet.alone else plain(sheet.sheet or "")
        for number, cells in sheet.rows:
            out += _claims_of_row(sheet, number, cells, department, problems)
    return out, by_name


def _claims_of_row(
    sheet: Sheet, number: int, cells: Mapping[str, str], department: str, problems: list[Problem]
) -> Iterator[Claim]:
    def note(column: str, what: str, todo: str) -> None:
        problems.append(problem(sheet.file, number, what, todo, sheet=sheet.sheet, column=column))

    texts = list(_block_texts(cells))
    if not texts:
        filled = [c for name, c in cells.items() if name and c.strip()]
        if len(filled) > 1 or (filled and len(sheet.places) == 1):
            note("prefix", "expected a prefix, found an empty cell", "fill it in, or remove the row")
        return  # a remark or a total below the table
    owner = department or plain(cells.get("department", ""))
    if not owner:
        note("department", "expected a department, found an empty cell", "fill it in")
    numbers: dict[str, int | None] = {}
    for name in ("hosts", "rules", "services"):
        text = re.sub(r"\.0+$", "", plain(cells.get(name, "")))
        if text and not (text.isascii() and text.isdigit() and len(text) < 12):
            note(name, f"expected a whole number, found {text!r}", "type the number without unit or formula")
            text = ""
        numbers[name] = int(text) if text else None
    for text in texts:
        try:
            block = parse_block(text)
        except AddressTextError as error:
            note("prefix", f"{error.text!r}: {error.what}", error.todo)
            continue
        if not owner:
            continue
        exact = block.prefix
        yield Claim(
            department=owner,
            prefix=exact or block.cover,
            file=sheet.file,
            row=number,
            sheet=sheet.sheet,
            span=None if exact else (block.first, block.last),
            network=cells.get("network", "").strip(),
            vrf=plain(cells.get("vrf", "")),
            site=cells.get("site", "").strip(),
            note=cells.get("note", "").strip(),
            hosts=numbers["hosts"],
            rules=numbers["rules"],
            services=numbers["services"],
            imports=split_words(cells.get("import_targets", "")),
            exports=split_words(cells.get("export_targets", "")),
            talks_to=split_words(cells.get("talks_to", "")),
        )
        numbers = dict.fromkeys(numbers)  # a row's hosts are said once, however many blocks it names


def split_words(text: str) -> tuple[str, ...]:
    """Split a list cell on `;`, `,`, `、`, line ends and spaces."""
    return tuple(dict.fromkeys(w for w in re.split(r"[;,、\s]+", plain(text)) if w)) if text else ()


def _block_texts(cells: Mapping[str, str]) -> Iterator[str]:
    mask = cells.get("mask", "").strip()
    for part in re.split(r"[;；,，、\n\r]+", cells.get("prefix", "")):
        text = part.strip()
        if text:
            yield f"{text}/{normalise(mask).lstrip('/')}" if mask and "/" not in normalise(text) else text
    start, end = cells.get("start", "").strip(), cells.get("end", "").strip()
    if start or end:
        yield f"{start}-{end}"


_DASH = re.compile(r"\s*(?:[-~‐‑‒–—―−〜]+|至|到)\s*")
_PART_DATE = re.compile(r"\d{4}[-/]\d{1,2}[-/]\d{1,2}|\d{1,2}月\d{1,2}日|\d{1,2}-[A-Za-z]{3}|[A-Za-z]{3}-\d{1,2}")
_FLOAT = re.compile(r"\d+(?:\.\d*)?(?:[eE][+-]?\d+)?")
_WILD = re.compile(r"(\d{1,3}(?:\.\d{1,3}){0,2})((?:\.[*xX])+)")


def parse_block(text: str, *, host_bits: bool = False) -> Block:
    """Read a block as people write one: a prefix, an address with a dotted mask, a range (`10.1.0.0-10.1.3.255`).

    A lone address is that host; one that ends in zeros is a network whose length is missing, and an error.

    Raises:
        AddressTextError: it is none, its host bits are set, or it is a default route.
    """
    clean = normalise(text)
    ends = _DASH.split(clean)
    if len(ends) == 2 and not _PART_DATE.match(clean):
        return _parse_range(text, *ends)
    words = clean.split()
    if len(words) == 2 and "/" not in clean:
        clean = "/".join(words)  # an address and its mask, as routers print them
    _advise(text, clean)
    prefix = parse_prefix(clean, host_bits=host_bits)
    if not prefix.length:
        raise AddressTextError(text, "a default route belongs to nobody", "write the blocks that are in use")
    low = 8 if prefix.version == 4 else 64
    if "/" not in clean and not prefix.value & ((1 << low) - 1):
        example = f"{format_address(prefix.version, prefix.value)}/{24 if prefix.version == 4 else 64}"
        raise AddressTextError(text, "a network without its length", f"add it, for example {example}")
    return Block(prefix.version, prefix.value, prefix.last)


def _parse_range(text: str, start: str, end: str) -> Block:
    if not start or not end:
        raise AddressTextError(text, "expected a first and a last address", "write both, as 10.1.0.0-10.1.3.255")
    first = parse_prefix(start)
    if end.isascii() and end.isdigit() and first.version == 4:
        end = f"{start.partition('/')[0].rpartition('.')[0]}.{end}"  # 10.1.0.10-20
    last = parse_prefix(end)
    if first.version != last.version:
        raise AddressTextError(text, "one end is IPv4, the other IPv6", "correct one of them")
    if first.value > last.last:
        meant = Block(first.version, last.value, first.last)
        raise AddressTextError(text, "its last address lies before its first", f"write {meant}, or correct an end")
    return Block(first.version, first.value, last.last)


def _advise(text: str, clean: str) -> None:
    """Say what is meant where a spreadsheet or a habit shows through; the parser would only say that it is none."""
    if _PART_DATE.match(clean):
        raise AddressTextError(
            text, "a spreadsheet took it for a date", "format the column as text and type the prefix again"
        )
    if _FLOAT.fullmatch(clean):
        todo = "format the column as text and type the prefix again"
        raise AddressTextError(text, "a spreadsheet took it for a number", todo)
    wild = _WILD.fullmatch(clean)
    if wild:
        count = wild[1].count(".") + 1
        if count + len(wild[2]) // 2 == 4:
            meant = ".".join((wild[1].split(".") + ["0"] * 4)[:4])
            raise AddressTextError(text, "not a prefix", f"write {meant}/{8 * count}")


# routing tables and configurations

_ADDRESS = re.compile(r"^(?:\d{1,3}(?:\.\d{1,3}){3}|[0-9A-Fa-f:.]*::?[0-9A-Fa-f:.]*)$")
_TARGET = re.compile(r"^(?:\d{1,3}(?:\.\d{1,3}){3}|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*)/\d{1,3}$")
_CODE = re.compile(r"^(?:[A-Za-z*>%+&!?][A-Za-z0-9*>%+&!?]{0,2}|unreachable|blackhole|prohibit)$")
_INTERFACE = re.compile(r"^ip(?:v6)? address\s+(\S+)(?:\s+(\S+))?", re.IGNORECASE)
_INET = re.compile(r"^inet6? (\S+/\d+)\b")
_STATIC = re.compile(
    r"^ip(?:v6)? route(?:-static)?\s+(?:add\s+)?(?:(?:vrf|vpn-instance)\s+(\S+)\s+)?(\S+)(?:\s+(\S+))?", re.IGNORECASE
)
_ORIGIN = re.compile(r"^network\s+(\S+)(?:\s+(?:mask\s+)?(\S+))?\s*(.*)$", re.IGNORECASE)
_SUBNETTED = re.compile(r"^(\S+/\d+) is subnetted", re.IGNORECASE)
_RECORD = re.compile(r"^Destination\s*:\s*(\S+)(?:\s+PrefixLength\s*:\s*(\d+))?", re.IGNORECASE)
_TABLE_OF = re.compile(r"^(?:Routing Tables?|VRF)\s*:?\s*(\S+?):?$", re.IGNORECASE)
_BINDING = re.compile(r"^(?:ip |ipv6 )?(?:vrf forwarding|binding vpn-instance|vrf member)\s+(\S+)", re.IGNORECASE)
_ON_VRF = re.compile(r"^interface\s+\S+\s+vrf\s+(\S+)", re.IGNORECASE)
_VRF_BLOCK = re.compile(r"^vrf\s+(\S+)$", re.IGNORECASE)
_NO_ROUTE = ("via", "is", "to")
_MAIN = ("public", "_public_", "default", "global", "main", "inet.0", "inet6.0")
_OWN = ("inloop", "loopback0 127.")
NOBODYS = tuple(
    parse_prefix(p) for p in ("127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3", "::1/128", "fe80::/10", "ff00::/8")
)
"""Loopback, link-local, multicast and reserved blocks: on every router, and in conflict with nothing."""


@dataclass
class _RouterText:
    """Reads a router's text line by line; what earlier lines said holds in `vrf` and `subnetted`."""

    path: Path
    problems: list[Problem]
    vrf: str = ""
    subnetted: Prefix | None = None
    seen: set[tuple[str, Block]] = field(default_factory=set)

    def read(self, text: str) -> Iterator[Claim]:
        for number, raw in enumerate(text.splitlines(), start=1):
            line = raw.strip()
            if not line:
                continue
            self._follow(raw, line)
            found = self._read_line(line)
            if found is None:
                continue
            written, vrf, host_bits = found
            try:
                prefix = parse_prefix(written, host_bits=host_bits)
            except AddressTextError as error:
                what = f"{error.text!r}: {error.what}"
                self.problems.append(problem(str(self.path), number, what, error.todo))
                continue
            block = Block(prefix.version, prefix.value, prefix.last)
            if not prefix.length or any(n.covers(prefix) for n in NOBODYS) or (vrf, block) in self.seen:
                continue
            self.seen.add((vrf, block))
            yield Claim(plain(self.path.stem), prefix, str(self.path), number, vrf=vrf)

    def _follow(self, raw: str, line: str) -> None:
        """Keep track of the VRF that the lines below belong to."""
        top = raw[:1] not in {" ", "\t"}
        if top and (line[0] in "!#" or line.lower().startswith(("interface ", "exit-vrf"))):
            self.vrf = ""
        match = _ON_VRF.match(line) or _BINDING.match(line) or _TABLE_OF.match(line)
        if match is None and top:
            match = _VRF_BLOCK.match(line)
        if match:
            self.vrf = "" if match[1].lower() in _MAIN else match[1]
            self.subnetted = None

    def _read_line(self, line: str) -> tuple[str, str, bool] | None:
        """Return the prefix that a line holds, its VRF, and whether host bits are an interface's own; None without."""
        if match := _INTERFACE.match(line):
            return self._with_mask(match[1], match[2], self.vrf, host_bits=True)
        if match := _INET.match(line):
            return match[1], self.vrf, True
        if match := _STATIC.match(line):
            return self._with_mask(match[2], match[3], match[1] or self.vrf, host_bits=False)
        if match := _ORIGIN.match(line):
            # Within OSPF and RIP `network` says where to speak the protocol, not what is one's own.
            if "area" in line.split() or not (match[2] or "/" in match[1]):
                return None
            return self._with_mask(match[1], match[2], self.vrf, host_bits=False)
        if match := _RECORD.match(line):
            return self._with_mask(match[1], match[2], self.vrf, host_bits=False)
        return self._read_route(line)

    @staticmethod
    def _with_mask(address: str, mask: str | None, vrf: str, *, host_bits: bool) -> tuple[str, str, bool] | None:
        if "/" in address:
            return (address, vrf, host_bits) if _ADDRESS.match(address.partition("/")[0]) else None
        if not _ADDRESS.match(address) or mask is None or not mask[0].isdigit():
            return None  # `ip address dhcp`, `network 10.0.0.0`: no block is told
        return f"{address}/{mask}", vrf, host_bits

    def _read_route(self, line: str) -> tuple[str, str, bool] | None:
        if match := _SUBNETTED.match(line):
            try:
                self.subnetted = parse_prefix(match[1], host_bits=True)
            except AddressTextError:
                self.subnetted = None
            return None
        words = line.split()
        at = next((i for i, w in enumerate(words[:5]) if not _CODE.match(w)), None)
        if at is None:
            return None
        codes, target, rest = words[:at], words[at], " ".join(words[at + 1 :])
        if "L" in codes or any(w in _NO_ROUTE for w in codes) or any(o in rest.lower() for o in _OWN):
            return None  # a router's own address is part of the connected prefix beside it
        if "variably subnetted" in rest:
            self.subnetted = None
            return None
        if _TARGET.match(target):
            return None if self._is_time(target) else (target, self.vrf, False)
        if not _ADDRESS.match(target) or ":" in target:
            return None
        if rest.startswith(("via ", "dev ", "proto ")) and not codes:
            return f"{target}/32", self.vrf, False
        if codes and self.subnetted and (rest.startswith("[") or "directly connected" in rest):
            return f"{target}/{self.subnetted.length}", self.vrf, False
        return None

    @staticmethod
    def _is_time(target: str) -> bool:
        return ":" in target and "::" not in target and target.count(":") < 7


__all__ = [
    "Block",
    "Claim",
    "Sheet",
    "TableKind",
    "fold_header",
    "parse_block",
    "problem",
    "read_prefix_tables",
    "read_sheets",
    "read_text",
    "split_words",
]
