"""Reading divisions: any table that has one meaning gives it; everything else is listed, whole, with a way out."""

from __future__ import annotations

import contextlib
import gzip
import io
import lzma
import os
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from openpyxl import Workbook

from addressing.divisions import Divisions, UnknownDivisionError, read_divisions, take_subtree
from addressing.packed import MAX_BYTES
from inventory.errors import InputProblemsError

DATA = Path(__file__).parent / "data" / "luoyang-2021.tsv.xz"
LUOYANG = read_divisions(DATA)
TABLE = lzma.decompress(DATA.read_bytes()).decode()
ROWS = [line.split("\t") for line in TABLE.splitlines()[1:]]
YICHUAN = [r for r in ROWS if r[0].startswith("410329")]
HEAD = "code\tlevel\tparent\tname\n"
SMALL = [
    ("410329000000", "3", "", "伊川县"),
    ("410329001000", "4", "410329000000", "城关街道"),
    ("410329001203", "5", "410329001000", "瓦东村村民委员会"),
    ("410329101000", "4", "410329000000", "鸣皋镇"),
]


def same(one: Divisions, other: Divisions) -> bool:
    """Tell whether two are equal in every column."""
    return (
        one.codes == other.codes
        and one.names == other.names
        and one.levels.tolist() == other.levels.tolist()
        and one.parents.tolist() == other.parents.tolist()
    )


def table(rows: Sequence[Sequence[str]], delimiter: str = "\t", head: str = HEAD) -> str:
    """Return rows as text."""
    return head.replace("\t", delimiter) + "".join(delimiter.join(r) + "\n" for r in rows)


def read(folder: Path, content: str | bytes, name: str = "divisions.tsv", root: str | None = None) -> Divisions:
    """Write a file and read it."""
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_divisions(path, root)


def problems(folder: Path, content: str | bytes, name: str = "divisions.tsv") -> list[str]:
    """Return what is listed when a file is refused."""
    with pytest.raises(InputProblemsError) as caught:
        read(folder, content, name)
    return [str(p) for p in caught.value.problems]


def test_luoyang_is_read_as_it_is() -> None:
    """Luoyang has 16 counties, 194 towns and 3,228 villages, each under the parent its row names."""
    assert {lv: int((LUOYANG.levels == lv).sum()) for lv in (2, 3, 4, 5)} == {2: 1, 3: 16, 4: 194, 5: 3228}
    parents = [LUOYANG.codes[p] if p >= 0 else "" for p in LUOYANG.parents.tolist()]
    given_parents = {r[0]: r[2] for r in ROWS}
    assert all(p == given_parents[c] for c, p in zip(LUOYANG.codes, parents, strict=True) if p)
    assert LUOYANG.roots == [0]


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1 << 30), columns=st.permutations(["code", "level", "parent", "name"]))
def test_order_of_rows_and_columns_does_not_matter(
    tmp_path_factory: pytest.TempPathFactory, seed: int, columns: list[str]
) -> None:
    """Whatever the order of rows and columns, the result is the same, sorted by code."""
    rows = list(YICHUAN)
    random.Random(seed).shuffle(rows)
    place = {"code": 0, "level": 1, "parent": 2, "name": 3}
    text = "\t".join(columns) + "\n" + "".join("\t".join(r[place[c]] for c in columns) + "\n" for r in rows)
    found = read(tmp_path_factory.mktemp("order"), text)
    assert same(found, take_subtree(LUOYANG, "410329000000"))
    assert found.codes == sorted(found.codes)


@pytest.mark.parametrize("delimiter", ["\t", ",", ";", "|", "，"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030", "gbk", "utf-16"])
@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
def test_forms_of_text_mean_the_same(tmp_path: Path, delimiter: str, encoding: str, ends: str) -> None:
    """Delimiters, encodings, marks and line ends are found out."""
    text = table(SMALL, delimiter, "代码\t级别\t上级代码\t名称\n").replace("\n", ends)
    assert same(read(tmp_path, text.encode(encoding)), read(tmp_path, table(SMALL), "plain.tsv"))


@pytest.mark.parametrize(
    ("head", "place"),
    [
        ("code\tname\n", (0, 3)),
        ("编码\t名称\n", (0, 3)),
        ("区划代码\t名称\t层级\n", (0, 3, 1)),
        ("名称\t统计用区划代码\t上级\n", (3, 0, 2)),
        ("CODE\tName\tLEVEL\tParent\n", (0, 3, 1, 2)),
    ],
)
def test_levels_and_parents_follow_from_national_codes(tmp_path: Path, head: str, place: tuple[int, ...]) -> None:
    """Levels and parents that are not given are derived; a town directly under a city is."""
    rows = [*SMALL, ("411900000000", "2", "", "东莞市"), ("411900001000", "4", "411900000000", "东城街道")]
    rows = [(c, lv, "410300000000" if c == "410329000000" else p, n) for c, lv, p, n in rows]
    rows.append(("410300000000", "2", "", "洛阳市"))
    found = read(tmp_path, table([tuple(r[i] for i in place) for r in rows], head=head))
    assert same(found, read(tmp_path, table(rows), "whole.tsv"))
    assert found.codes[int(found.parents[found.row_of["411900001000"]])] == "411900000000"


def test_derived_columns_equal_the_given_ones_for_a_whole_city(tmp_path: Path) -> None:
    """Of all Luoyang's divisions, what is derived from the codes is what the file gives."""
    text = "code\tname\n" + "".join(f"{r[0]}\t{r[3]}\n" for r in ROWS)
    assert same(read(tmp_path, text), LUOYANG)


def test_the_careful_way_finds_what_the_quick_one_does(tmp_path: Path) -> None:
    """A harmless oddity (a quoted cell, blank lines, a comment) changes nothing."""
    text = TABLE.replace("\t洛阳市\n", '\t"洛阳市"\n\n \n# a comment\n', 1)
    assert '"洛阳市"' in text
    assert same(read(tmp_path, text), LUOYANG)


@pytest.mark.parametrize(
    "cell",
    [
        "４１０３２９００１２０３",
        " 410329001203 ",
        "'410329001203",
        "410329001203.0",
        "4.10329001203E+11",
        '="410329001203"',
    ],
)
def test_cells_with_one_meaning_are_mended(tmp_path: Path, cell: str) -> None:
    """Full-width digits, blanks, apostrophes and numbers that kept all digits are understood."""
    rows = [*SMALL[:2], (cell, *SMALL[2][1:]), SMALL[3]]
    assert same(read(tmp_path, table(rows)), read(tmp_path, table(SMALL), "plain.tsv"))


def test_rounded_codes_are_refused(tmp_path: Path) -> None:
    """4.10329E+11 could be any village of a town: it is named, never guessed."""
    found = problems(tmp_path, table([*SMALL[:2], ("4.10329E+11", *SMALL[2][1:])]))
    assert len(found) == 1
    assert found[0].startswith("divisions.tsv:4 [code]: '4.10329E+11': Excel rounded the code to 6 digits")


def test_level_words_and_titles_above_the_header_are_understood(tmp_path: Path) -> None:
    """A title line, levels in words and a parent of zeros do no harm."""
    words = {"3": "县级", "4": "乡镇", "5": "village"}
    rows = [(c, words[lv], p or "000000000000", n) for c, lv, p, n in SMALL]
    text = "2021年统计用区划代码\t\t\t\n" + table(rows)
    assert same(read(tmp_path, text), read(tmp_path, table(SMALL), "plain.tsv"))


def test_a_table_without_header_is_told_by_what_it_holds(tmp_path: Path) -> None:
    """Codes differ in every row, parents do not; levels are one digit; names hold letters."""
    assert same(read(tmp_path, table(SMALL, head="")), read(tmp_path, table(SMALL), "plain.tsv"))


@pytest.mark.parametrize("cut", [6, 9])
def test_short_codes_of_one_length_are_padded(tmp_path: Path, cut: int) -> None:
    """Codes of 6 or 9 digits throughout become national ones."""
    rows = [r for r in SMALL if r[0].endswith("0" * (12 - cut))]
    short = [(c[:cut], lv, p[:cut], n) for c, lv, p, n in rows]
    assert same(read(tmp_path, table(short)), read(tmp_path, table(rows), "plain.tsv"))


def test_codes_of_each_levels_own_length_are_padded(tmp_path: Path) -> None:
    """A county of 6, towns of 9 and villages of 12 digits are consistent."""
    own = {"3": 6, "4": 9, "5": 12}
    rows = [(c[: own[lv]], n) for c, lv, _, n in SMALL]
    assert same(read(tmp_path, table(rows, head="code\tname\n")), read(tmp_path, table(SMALL), "plain.tsv"))


def test_a_mix_of_lengths_is_refused(tmp_path: Path) -> None:
    """A 9-digit code among those of 12 may have lost three digits: refused, each row named."""
    rows = [*SMALL, ("410329102", "5", "410329101000", "水寨村"), ("410329", "4", "410329000000", "某镇")]
    found = problems(tmp_path, table(rows))
    assert [f.split(":")[1].split(" ")[0] for f in found if "digits, most others have 12" in f] == ["6", "7"]


def test_every_problem_is_listed_at_once(tmp_path: Path) -> None:
    """One pass finds them all, each with its row, column and a way out."""
    rows = [
        *SMALL,
        ("410329101000", "4", "410329000000", "又一个鸣皋镇"),
        ("410329102000", "4", "410329000009", "水寨镇"),
        ("410329103000", "3", "410329000000", "彭婆镇"),
        ("410329104000", "4", "410329000000", "  "),
        ("41032910500x", "4", "410329000000", "江左镇"),
        ("410329106000", "九", "410329000000", "高山镇"),
        ("410329107000", "4", "410329107201", "吕店镇"),
        ("410329107201", "5", "410329107000", "吕店村"),
        ("410329108000", "4", "", "半坡镇"),
        ("410329109000", "4", "4.1E+11", "酒后镇"),
        ("410329110000", "4", "410329000000", "白元\ufffd镇"),
    ]
    found = problems(tmp_path, table(rows))
    expected = [
        ("6 [code]", "410329101000 is on row 5 as well; keep one"),
        ("7 [parent]", "its parent 410329000009 is not in the file; add the parent's row"),
        ("8 [level]", "level 3 under 410329000000 伊川县 of level 3 (row 2) - expected more than 3"),
        ("9 [name]", "expected a name, found an empty cell"),
        ("10 [code]", "expected a division code of 12 digits, found '41032910500x'"),
        ("11 [level]", "expected a level of 1 (province) to 9, found '九'"),
        ("12 [parent]", "its parents lead back to itself: 410329107000 -> 410329107201 -> 410329107000"),
        ("14 [parent]", "410329108000 has no parent"),
        ("15 [parent]", "'4.1E+11': Excel rounded the code to 2 digits"),
        ("16 [name]", "expected a name, found '白元\ufffd镇'"),
    ]
    assert len(found) == len(expected), found
    for line, (where, what) in zip(found, expected, strict=True):
        assert line.startswith(f"divisions.tsv:{where}: {what}"), line
        assert "; " in line


def test_many_problems_are_counted_not_printed(tmp_path: Path) -> None:
    """Of each kind twenty are listed and the rest counted."""
    rows = [SMALL[0], *((f"410329{n:03}000", "4", "410330000000", f"镇{n}") for n in range(1, 500))]
    found = problems(tmp_path, table(rows))
    assert len(found) == 21
    assert found[-1] == "divisions.tsv: orphans: 479 more of 499 are not listed; correct these first"


def test_broken_utf8_names_its_row_and_is_not_taken_for_gbk(tmp_path: Path) -> None:
    """One broken line in a UTF-8 file is that line's fault."""
    lines = TABLE.encode().split(b"\n")
    lines[7] = lines[7][:-1]
    lines[40] = lines[40][:-2] + b"\xff\xfe"
    found = problems(tmp_path, b"\n".join(lines))
    assert [f.split(" ")[0] for f in found] == ["divisions.tsv:8:", "divisions.tsv:41:"]
    assert "save the file as UTF-8" in found[0]


@pytest.mark.parametrize("content", [b"", b"\n \n", b"\xef\xbb\xbf", HEAD.encode(), b"# nothing\n", b"code\tname"])
def test_an_empty_file_is_an_error(tmp_path: Path, content: bytes) -> None:
    """Nothing is never an empty plan."""
    assert "expected" in problems(tmp_path, content)[0]


def test_what_is_no_table_is_refused(tmp_path: Path) -> None:
    """A missing column, an unclosed quote, too many cells, bytes and a program are named."""
    assert "expected a column 'code'" in problems(tmp_path, "name,size\n伊川县,1\n")[0]
    quote = table(SMALL).replace("瓦东", '"瓦东')
    assert problems(tmp_path, quote)[0].startswith("divisions.tsv:4")
    assert (
        "expected 4 cells, found 5" in problems(tmp_path, table([*SMALL, ("410329102000", "4", "", "水寨", "镇")]))[0]
    )
    assert "zero bytes" in problems(tmp_path, b"\x7fELF\x02\x01\x00\x00")[0]
    assert ".xls" in problems(tmp_path, b"\xd0\xcf\x11\xe0rest", "divisions.xls")[0]


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    """A folder, a pipe that never ends and a name without a file."""
    os.mkfifo(tmp_path / "pipe.tsv")
    for path, said in (
        (tmp_path, "not a regular file"),
        (tmp_path / "pipe.tsv", "not a regular"),
        (tmp_path / "no", "none"),
    ):
        with pytest.raises(InputProblemsError, match=said):
            read_divisions(path)


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    ".xz": lzma.compress,
    ".gz": gzip.compress,
    ".zst": zstandard.ZstdCompressor().compress,
}


@pytest.mark.parametrize("end", PACKERS)
def test_packed_files_are_read(tmp_path: Path, end: str) -> None:
    """Packed once, in two parts, or under a name that does not say so."""
    pack, half = PACKERS[end], len(TABLE) // 2
    for content, name in (
        (pack(TABLE.encode()), f"a.tsv{end}"),
        (pack(TABLE[:half].encode()) + pack(TABLE[half:].encode()), f"b.tsv{end}"),
        (pack(TABLE.encode()), "c.tsv"),
    ):
        assert same(read(tmp_path, content, name), LUOYANG)


@pytest.mark.parametrize("end", PACKERS)
def test_damaged_archives_are_refused(tmp_path: Path, end: str) -> None:
    """Cut short anywhere, damaged, or something else by that name."""
    whole = PACKERS[end](TABLE.encode())
    for size in (8, 20, len(whole) // 2, len(whole) - 1):
        assert "damaged or cut short" in problems(tmp_path, whole[:size], f"a.tsv{end}")[0]
    spoilt = bytearray(whole)
    spoilt[len(whole) // 2] ^= 0xFF
    with pytest.raises(InputProblemsError):
        read(tmp_path, bytes(spoilt), f"a.tsv{end}")
    assert f"expected {end} data, found something else" in problems(tmp_path, TABLE, f"a.tsv{end}")[0]


@pytest.mark.parametrize("end", PACKERS)
def test_bombs_are_bounded(tmp_path: Path, end: str) -> None:
    """A file that unpacks to more than any list is refused before memory is."""
    plain = bytes(MAX_BYTES + 1)
    content = lzma.compress(plain, preset=0) if end == ".xz" else PACKERS[end](plain)
    assert len(content) < MAX_BYTES >> 6
    assert "unpacks to more than 256 MiB" in problems(tmp_path, content, f"bomb.tsv{end}")[0]


def workbook(rows: list[tuple[object, ...]]) -> bytes:
    """Return a workbook whose second sheet holds the rows."""
    book = Workbook()
    book.active.append(["notes"])  # type: ignore[union-attr]
    sheet = book.create_sheet("区划")
    for row in rows:
        sheet.append(row)
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()


def test_workbooks_are_read_with_numbers_as_excel_keeps_them(tmp_path: Path) -> None:
    """Codes as numbers, a title above, the sheet with the header found."""
    rows: list[tuple[object, ...]] = [("区划表",), ("名称", "代码", "级别", "上级代码")]
    rows += [(n, int(c), float(lv), int(p) if p else None) for c, lv, p, n in SMALL]
    assert same(read(tmp_path, workbook(rows), "d.xlsx"), read(tmp_path, table(SMALL), "plain.tsv"))
    found = problems(tmp_path, workbook([*rows, ("又一", 410329101000, 4, 410329000000)]), "d.xlsx")
    assert found[0].startswith("d.xlsx sheet 区划:7 [code]: 410329101000 is on row 6 as well")


def test_damaged_workbooks_are_refused(tmp_path: Path) -> None:
    """Cut short, a zip that is no workbook, or one with a part that is damaged, locked, of another kind or missing."""
    whole = workbook([("code", "name"), ("410329000000", "伊川县")])
    assert "not a readable workbook" in problems(tmp_path, whole[:-30], "d.xlsx")[0]
    assert "workbook" in problems(tmp_path, b"PK\x03\x04rest", "d.xlsx")[0]
    with ZipFile(io.BytesIO(whole)) as archive:
        parts = archive.infolist()
    for part in parts:
        for place, value in ((30 + len(part.filename), b"\xff" * 8), (6, b"\x01"), (4, b"\xff")):
            damaged = bytearray(whole)
            damaged[part.header_offset + place : part.header_offset + place + len(value)] = value
            with contextlib.suppress(InputProblemsError):
                read(tmp_path, bytes(damaged), "d.xlsx")
    locked = bytearray(whole)
    at = whole.rindex(b"PK\x01\x02")
    locked[at + 8] |= 1
    assert "not a readable workbook" in problems(tmp_path, bytes(locked), "d.xlsx")[0]


def test_a_workbook_that_unpacks_to_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a workbook says that it unpacks to is looked at before it is."""
    monkeypatch.setattr("inventory.workbooks.MOST_UNPACKED", 1 << 10)
    assert "unpacks to 0 MiB" in problems(tmp_path, workbook([("code", "name")]), "d.xlsx")[0]


def test_an_empty_workbook_is_refused(tmp_path: Path) -> None:
    """Sheets without a cell, or with empty ones only, hold no divisions."""
    out = io.BytesIO()
    Workbook().save(out)
    assert "found an empty workbook" in problems(tmp_path, out.getvalue(), "d.xlsx")[0]


@pytest.mark.parametrize("text", [",", "\ufeff,\n", " ;; \n;;\n", "#a,b\n"])
def test_a_table_of_nothing_but_separators_is_refused(tmp_path: Path, text: str) -> None:
    """Rows without a cell that says something are no table."""
    assert problems(tmp_path, text) == ["divisions.tsv: expected a table of divisions, found no row; export it again"]


def test_a_long_remark_above_the_table_is_passed_over(tmp_path: Path) -> None:
    """However many lines of remarks come first, the delimiter is told by the table itself."""
    remarks = "".join(f"# line {n}, of, many\n" for n in range(80))
    assert same(read(tmp_path, remarks + table(SMALL)), read(tmp_path, table(SMALL), "plain.tsv"))


def test_a_number_of_thousands_of_digits_is_no_code(tmp_path: Path) -> None:
    """Python refuses to read such a number; whoever reads the list says in which row it stands."""
    for text in ("9" * 5000, "1e" + "9" * 5000, "4." + "1" * 5000 + "e11"):
        rows = [list(SMALL[0]), [text, *SMALL[1][1:]]]
        assert problems(tmp_path, table(rows))[0].startswith("divisions.tsv:3 [code]")


def test_root_takes_a_subtree_by_code_or_name() -> None:
    """The root and all below it, and nothing else; short codes and names that one division only has will do."""
    by_code = read_divisions(DATA, "410329000000")
    assert same(by_code, read_divisions(DATA, "410329"))
    assert same(by_code, read_divisions(DATA, "伊川县"))
    assert by_code.codes == sorted(r[0] for r in YICHUAN)
    assert by_code.roots == [0]
    town = read_divisions(DATA, "410329001")
    assert len(town) == 15
    assert town.parents.tolist() == [-1] + [0] * 14


@pytest.mark.parametrize(
    ("root", "said"),
    [
        ("410329000001", "did you mean 410329000000 伊川县"),
        ("410392000000", "did you mean"),
        ("伊穿县", "did you mean 410329000000 伊川县?"),
        ("城关镇", "divisions of luoyang-2021.tsv.xz go by this name; name one by code: 410308100000"),
        ("zzz", "give a code or a name as the file has it"),
    ],
)
def test_an_unknown_root_names_near_ones(root: str, said: str) -> None:
    """What is not there is refused with what may be meant."""
    with pytest.raises(UnknownDivisionError) as caught:
        read_divisions(DATA, root)
    assert said in str(caught.value)


def test_a_part_of_a_file_has_its_top_rows_as_roots(tmp_path: Path) -> None:
    """Rows of the highest level may name a parent outside the file; lower ones may not."""
    found = read(tmp_path, table([r for r in SMALL if r[1] != "3"]))
    assert [found.codes[r] for r in found.roots] == ["410329001000", "410329101000"]
    assert "its parent 410329001000 is not in the file" in problems(tmp_path, table([SMALL[0], *SMALL[2:]]))[0]


cells = st.text(st.sampled_from('0123456789市县"\t,\n\r; 　#E+.\x00'), max_size=16)


@settings(max_examples=150, deadline=None)
@given(rows=st.lists(st.lists(cells, max_size=5), max_size=8), head=st.sampled_from([HEAD, "code,name\n", ""]))
def test_rubbish_is_refused_in_words_or_is_sound(
    tmp_path_factory: pytest.TempPathFactory, rows: list[list[str]], head: str
) -> None:
    """Whatever the file holds: either problems in words, or divisions of which every law holds."""
    text = head + "".join("\t".join(r) + "\n" for r in rows)
    try:
        found = read(tmp_path_factory.mktemp("rubbish"), text)
    except InputProblemsError as error:
        found = None
        said = error.problems
    if found is None:
        assert said
        assert all(p.todo for p in said)
        return
    assert len(found) > 0
    assert found.codes == sorted(set(found.codes))
    assert all(found.names)
    inside = np.flatnonzero(found.parents >= 0)
    assert (found.levels[found.parents[inside]] < found.levels[inside]).all()


@pytest.mark.parametrize("odd", [*"\u202a\u202e\u2066\u2069\u2028\u2029\U000e0001\U000e0041\U000e007f"])
@pytest.mark.parametrize("place", [0, 2, 9])
def test_hidden_characters_are_refused(tmp_path: Path, odd: str, place: int) -> None:
    """What turns a text round, breaks its line or is not seen at all is listed with its row and code point."""
    rows = [list(r) for r in SMALL]
    rows[3][3] = rows[3][3][:place] + odd + rows[3][3][place:]
    (found,) = problems(tmp_path, table(rows))
    assert f"U+{ord(odd):04X}" in found
    assert found.startswith("divisions.tsv:5 [name]")
    assert odd not in found
