"""The reader finds everything that is wrong in one pass, and reads what people really hand in."""

from __future__ import annotations

import contextlib
import csv
import os
import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openpyxl import Workbook

from inventory import tables
from inventory.access import AccessFileError, read_access
from inventory.errors import InputProblemsError
from inventory.model import (
    EXTRANET,
    Budgets,
    County,
    Family,
    OutagePolicy,
    Probing,
    SiteClass,
    Soak,
    Timers,
)
from inventory.reader import COLUMNS, find_overlaps, load_county, restrict_to_towns
from inventory.topology import build_topology
from inventory.wording import counted

SAMPLE = Path(__file__).resolve().parents[2] / "inventory" / "yichuan"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a copy of the sample's input files."""
    target = tmp_path / "county"
    target.mkdir()
    for path in SAMPLE.iterdir():
        if path.suffix in {".csv", ".yaml"}:
            shutil.copy(path, target)
    return target


@pytest.fixture(scope="module")
def sample() -> County:
    """Return the sample county."""
    return load_county(SAMPLE)


def edit(folder: Path, name: str, change: Callable[[str], str]) -> None:
    """Change one file of a county."""
    path = folder / name
    before = path.read_text("utf-8")
    after = change(before)
    assert after != before, "the edit found nothing to change"
    path.write_text(after, "utf-8")


def problems(folder: Path) -> list[str]:
    """Return the problems as the lines a person sees."""
    with pytest.raises(InputProblemsError) as caught:
        load_county(folder)
    return [str(p) for p in caught.value.problems]


def test_sample_is_the_real_county(sample: County) -> None:
    """The sample has the real 15 towns and streets, two or three villages each, and 118 windows in six zones."""
    towns = [s for s in sample.sites if s.site_class is SiteClass.TOWN]
    assert [t.name.removesuffix("便民服务中心") for t in towns] == [
        "城关街道", "河滨街道", "鸣皋镇", "水寨镇", "彭婆镇", "白沙镇", "江左镇", "高山镇", "吕店镇", "半坡镇",
        "酒后镇", "白元镇", "鸦岭镇", "葛寨镇", "平等乡",
    ]  # fmt: skip
    assert all(2 <= len(list(sample.children(t.id))) <= 3 for t in towns)
    zones = [s for s in sample.stations if s.kind == "zone"]
    assert (len(zones), sum(z.windows for z in zones)) == (6, 118)


def test_classified_network_stays_outside(sample: County) -> None:
    """A network marked classified is refused: it is in `refused` and nowhere else in the model."""
    assert [r.id for r in sample.refused] == ["sealed-net"]
    rest = sample.altered(refused=()).model_dump_json()
    assert "sealed-net" not in rest
    assert sample.refused[0].name not in rest


def test_overlapping_ranges_are_listed(sample: County) -> None:
    """Two legacy networks that use the same range are named, with the range."""
    assert [(o.first, o.second, o.kind) for o in find_overlaps(sample)] == [("finance-man", "party-edu", "same")]


def test_every_reused_line_is_a_legacy_one(sample: County) -> None:
    """Village extranet circuits take over lines of the networks that already reach villages."""
    reused = {c.site: sample.circuit_by_id[c.reuses] for c in sample.circuits if c.reuses}
    assert {c.network for c in reused.values()} == {"party-edu", "social-security"}
    assert set(reused) == {s.id for s in sample.sites if s.site_class is SiteClass.VILLAGE}
    assert all(c.site == site for site, c in reused.items())


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            "edu-l-chengguan-wadong",
            [
                "a line of chengguan-wabei, found 'edu-l-chengguan-wadong' of chengguan-wadong, on row 16",
                "a line that no other row takes over, found 'edu-l-chengguan-wadong', taken over on row 17",
            ],
        ),
        ("edu-l-chengguan", ["a line of chengguan-wabei, found 'edu-l-chengguan' of chengguan, on row 10"]),
        ("x-chengguan-wabei", ["a legacy line, found 'x-chengguan-wabei' of the extranet, on row 19"]),
    ],
)
def test_a_line_is_taken_over_once_and_at_its_own_site(folder: Path, line: str, expected: list[str]) -> None:
    """What an extranet circuit says it reuses is a legacy line of its site that no other circuit reuses."""
    edit(folder, "circuits.csv", lambda t: t.replace(",,,edu-l-chengguan-wabei\n", f",,,{line}\n"))
    found = problems(folder)
    assert [p.partition("; ")[0] for p in found] == [f"circuits.csv:19 [reuses]: expected {e}" for e in expected]
    assert all(p.partition("; ")[2] for p in found)


def test_two_circuits_of_one_site_do_not_share_a_line(folder: Path) -> None:
    """A second extranet circuit of a site that reuses the line of the first is one problem, on its own row."""
    edit(folder, "circuits.csv", lambda t: _reuse_on(t, "x-chengguan-core1", "fin-l-chengguan"))
    load_county(folder)
    edit(folder, "circuits.csv", lambda t: _reuse_on(t, "x-chengguan-core2", "fin-l-chengguan"))
    (line,) = problems(folder)
    assert line.startswith(
        "circuits.csv:8 [reuses]: expected a line that no other row takes over, found 'fin-l-chengguan', taken over on row 7; "
    )


def _reuse_on(text: str, circuit: str, line: str) -> str:
    """Fill in the last cell of a circuit's row."""
    return re.sub(rf"(?m)^({circuit},.*,)$", rf"\g<1>{line}", text)


def test_twenty_mistakes_give_twenty_lines(folder: Path) -> None:
    """A county with twenty mistakes lists all twenty, each with file, row, column and what to do."""
    edit(folder, "sites.csv", lambda t: t.replace("410329101000", "4.10329E+11", 1))
    edit(
        folder, "sites.csv", lambda t: t.replace("河滨街道便民服务中心,town,county", "河滨街道便民服务中心,city,county")
    )
    edit(folder, "sites.csv", lambda t: t.replace("便民服务站,village,banpo,", "便民服务站,village,banpoo,", 1))
    edit(folder, "sites.csv", lambda t: t.replace(",yes,\n", ",maybe,\n", 1))
    edit(folder, "sites.csv", lambda t: t.replace("10.128.0.128/26", "10.128.0.130/26"))
    edit(folder, "stations.csv", lambda t: t.replace("zone,30,11", "zone,thirty,11"))
    edit(folder, "stations.csv", lambda t: t.replace("county,zone,16,14", "county,zone,16,400"))
    edit(folder, "stations.csv", lambda t: t.replace("public;police", "public;polic"))
    edit(
        folder,
        "networks.csv",
        lambda t: t.replace(
            "real-estate,不动产登记专网,伊川县自然资源局,realestate,no",
            "real-estate,不动产登记专网,伊川县自然资源局,realestate,",
        ),
    )
    edit(folder, "devices.csv", lambda t: t.replace(",town,extranet,frr,4200041101", ",town,extranet,frr,"))
    edit(folder, "devices.csv", lambda t: t.replace("hebin,town,extranet", "hebin,tower,extranet"))
    edit(folder, "circuits.csv", lambda t: t.replace("2027-12-31", "soon", 1))
    edit(folder, "circuits.csv", lambda t: t.replace("100.64.1.0/31", "100.64.1.1/31"))
    edit(folder, "circuits.csv", lambda t: t.replace("10.20.8.0/24", "10.99.8.0/24", 1))
    edit(folder, "circuits.csv", lambda t: t.replace("中国移动,20,1200", "中国移动,fast,1200", 1))
    edit(folder, "servers.csv", lambda t: t.replace("shared,53", "shared,80"))
    edit(folder, "services.csv", lambda t: t.replace("tax,税务征管前置,srv-tax", "tax,税务征管前置,srv-taxx"))
    edit(folder, "services.csv", lambda t: t.replace("tcp,7001", "tcp,70010"))
    edit(folder, "services.csv", lambda t: t.replace("https,8443,selfservice;center", "https,8443,selfservise;center"))
    edit(folder, "policy.yaml", lambda t: t.replace("share: 0.7", "share: 70"))
    lines = problems(folder)
    assert len(lines) == 20, "\n".join(lines)
    assert all(("; " in line and ".csv:" in line) or line.startswith("policy.yaml") for line in lines)
    assert any("did you mean srv-tax?" in line for line in lines)
    assert any("mangled by Excel" in line for line in lines)


def test_shared_as_number_is_listed(folder: Path) -> None:
    """Two routers with one AS number are a problem of the second, which names the first."""
    edit(folder, "devices.csv", lambda t: t.replace("4200041102", "4200041101"))
    (line,) = problems(folder)
    assert line.startswith("devices.csv:16 [asn]: AS number 4200041101 is already chengguan-r1's, on row 8; ")


@pytest.mark.parametrize("code", ['"41032900"', '"4.10329E+11"', '"41032900000x"'])
def test_county_code_has_12_digits_too(folder: Path, code: str) -> None:
    """county.yaml's division code is read as those of sites.csv are, and the rest is still checked."""
    edit(folder, "county.yaml", lambda t: t.replace('"410329000000"', code).replace("410329000000", code))
    edit(folder, "servers.csv", lambda t: t.replace("finance,80", "finance,800"))
    lines = problems(folder)
    assert len(lines) == 2
    assert lines[0].startswith("county.yaml [division_code]: ")
    assert "12" in lines[0]


def test_doubled_identifier_is_said_once_and_its_echo_once(folder: Path) -> None:
    """Rows that name what a mistake has taken away are one line, after the mistake, which says where it may be."""
    edit(folder, "sites.csv", lambda t: t.replace("\nhebin,", "\nchengguan,"))
    cause, echo = problems(folder)
    assert cause.startswith("sites.csv:7 [id]: 'chengguan' is already on row 3; ")
    assert echo.startswith(
        "sites.csv [id]: 15 rows name 'hebin', which is no site: sites rows 8, 9, 10; stations row 14; "
    )
    assert "row 7" in echo.partition("; perhaps ")[2]


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        *(
            (f"timers.{k}", "9" * 20, "less than or equal to")
            for k in ("soak_s", "hold_s", "evidence_ttl_s", "converge_s")
        ),
        ("soak.longest_gap_s", "9" * 20, "less than or equal to 2678400"),
        ("timers.soak_s", str(366 * 86400 + 1), "less than or equal to 31622400"),
        ("timers.evidence_ttl_s", str(7 * 86400 + 1), "less than or equal to 604800"),
        ("timers.converge_s", "true", "input should be a number, found True"),
        ("soak.longest_gap_s", "yes", "input should be a number"),
    ],
)
def test_a_figure_beyond_its_limit_or_no_figure_is_one_line(folder: Path, key: str, value: str, expected: str) -> None:
    """A span of time that no gate could reckon with, or a yes for a number, is one line that names its key."""
    edit(folder, "policy.yaml", lambda t: re.sub(rf"(?m)^( +{key.partition('.')[2]}:) *\d+", rf"\1 {value}", t))
    (line,) = problems(folder)
    assert line.startswith(f"policy.yaml [{key}]: ")
    assert expected in line
    assert "correct the value" in line


def test_no_decided_figure_is_without_a_limit() -> None:
    """Every number of the policy has an upper limit, so that none makes a gate's arithmetic overflow."""
    parts = (Timers, OutagePolicy, Probing, Budgets, Soak)
    figures = {(p, n): f for p in parts for n, f in p.model_fields.items() if f.annotation in {int, float}}
    assert len(figures) > 20
    assert [n for (_, n), f in figures.items() if not any(hasattr(m, "le") for m in f.metadata)] == []


@pytest.mark.parametrize(
    ("name", "old", "new", "expected"),
    [
        ("policy.yaml", "id: finance", "id: finanz", "policy.yaml [planes]: "),
        ("devices.csv", "\nfin-hub,", "\nfin-hubb,", "devices.csv [id]: "),
    ],
)
def test_missing_name_is_one_line_where_it_is_missing(
    folder: Path, name: str, old: str, new: str, expected: str
) -> None:
    """However many rows name what is not there, it is one line in the file that should hold it, with a near match."""
    edit(folder, name, lambda t: t.replace(old, new))
    echoes = [line for line in problems(folder) if "which is no" in line]
    assert len(echoes) == 1
    assert echoes[0].startswith(expected)
    assert "did you mean fin" in echoes[0]


def test_row_that_refers_to_a_classified_network_is_a_problem(folder: Path) -> None:
    """No circuit or device of a classified network enters, not even by its row elsewhere."""
    edit(folder, "circuits.csv", lambda t: t.replace("fin-l-county,finance-man", "fin-l-county,sealed-net"))
    assert any("marked classified" in line for line in problems(folder))


def test_empty_classified_cell_is_not_a_no(folder: Path) -> None:
    """The scope guard never takes silence for 'not classified'."""
    edit(
        folder,
        "networks.csv",
        lambda t: t.replace("sealed-net,某涉密专网,某单位,,yes", "sealed-net,某涉密专网,某单位,,"),
    )
    assert any("classified" in line and "empty cell" in line for line in problems(folder))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "gb18030"])
def test_encodings_people_save_in(folder: Path, sample: County, encoding: str) -> None:
    """A table saved with a BOM or as GBK reads the same."""
    path = folder / "sites.csv"
    path.write_bytes(path.read_text("utf-8").encode(encoding))
    assert load_county(folder) == sample


def test_full_width_input(folder: Path, sample: County) -> None:
    """Full-width digits, letters and separators read as the plain ones."""
    edit(folder, "stations.csv", lambda t: t.replace("zone,30,11,public;edu", "zone,３０,１１,public；edu"))
    assert load_county(folder) == sample


def test_workbook_with_chinese_headers_reads_the_same(folder: Path, sample: County) -> None:
    """The planner's workbook, headers in Chinese, gives the same county as the CSV files."""
    import csv

    book = Workbook()
    book.remove(book.worksheets[0])
    for name, columns in COLUMNS.items():
        path = folder / f"{name}.csv"
        with path.open(encoding="utf-8", newline="") as stream:
            rows = list(csv.reader(stream))
        chinese = {c.name: c.chinese for c in columns}
        sheet = book.create_sheet(name)
        sheet.append([chinese[h] for h in rows[0]])
        for row in rows[1:]:
            sheet.append(row)
        path.unlink()
    book.save(folder / "survey.xlsx")
    assert load_county(folder) == sample


def test_table_in_two_places_is_refused(folder: Path) -> None:
    """A table that stands both as CSV and as a sheet is a problem, not a guess."""
    book = Workbook()
    book.worksheets[0].title = "sites"
    book.worksheets[0].append(["id"])
    book.save(folder / "survey.xlsx")
    assert any("one source of table 'sites'" in line for line in problems(folder))


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("sites.csv", b"\xff\xfe\x00\x00\x81", "expected UTF-8 or GBK"),
        ("sites.csv", b"", "empty file"),
        ("sites.csv", b'id,name\n"open', "not a CSV table"),
        ("policy.yaml", b"pool: [", "not YAML"),
        ("policy.yaml", b"- 1", "expected `key: value` lines"),
    ],
)
def test_damaged_files_give_lines_not_tracebacks(folder: Path, name: str, content: bytes, expected: str) -> None:
    """Whatever is in a file, the answer is a list of problems."""
    (folder / name).write_bytes(content)
    assert any(expected in line for line in problems(folder))


@pytest.mark.parametrize("name", ["stations.csv", "county.yaml", "policy.yaml", "survey.xlsx"])
@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_what_is_not_a_file_is_listed(folder: Path, name: str, kind: str) -> None:
    """A pipe, device or folder in a file's place is a problem like any other; the rest is still read."""
    edit(folder, "servers.csv", lambda t: t.replace("finance,80", "finance,800"))
    (folder / name).unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(folder / name)
    elif kind == "device":
        (folder / name).symlink_to("/dev/zero")
    else:
        (folder / name).mkdir()
    lines = problems(folder)
    assert len(lines) == 2, "\n".join(lines)
    assert [line.split(":")[0] for line in lines if "not a regular file" in line] == [name]
    assert any("found 800" in line for line in lines)


def test_access_file_that_is_not_a_file(folder: Path) -> None:
    """A pipe in place of access.yaml is one line, not a command that hangs."""
    os.mkfifo(folder / "access.yaml")
    with pytest.raises(AccessFileError, match="not a regular file"):
        read_access(folder)


def test_damaged_workbook_is_one_problem(folder: Path) -> None:
    """Tables that may well be in a workbook nobody can read are not said to be missing."""
    for name in COLUMNS:
        (folder / f"{name}.csv").unlink()
    (folder / "survey.xlsx").write_bytes(b"no workbook")
    lines = problems(folder)
    assert len(lines) == 1
    assert "not a readable workbook" in lines[0]


@pytest.mark.parametrize("limit", ["MAX_ROWS", "SHEET_ROWS"])
def test_sheets_have_the_row_limit_of_files(folder: Path, monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    """A sheet with more rows than a table may have is refused as a CSV file is."""
    monkeypatch.setattr(tables, limit, 30)
    book = Workbook()
    book.remove(book.worksheets[0])
    sheet = book.create_sheet("stations")
    rows = (folder / "stations.csv").read_text("utf-8").splitlines()
    for row in rows:
        sheet.append(row.split(","))
    (folder / "stations.csv").unlink()
    book.save(folder / "survey.xlsx")
    line = next(line for line in problems(folder) if "sheet stations" in line)
    assert len(rows) > 31
    assert line.startswith(f"survey.xlsx sheet stations:31: more than {counted(tables.MAX_ROWS, 'row')}; ")


@pytest.mark.parametrize(
    ("new", "expected"),
    [("10.20.0.1/16", "has host bits set"), ("10.21.0.0/16", "31 prefixes in circuits lie outside 10.21.0.0/16")],
)
def test_one_wrong_range_is_one_problem(folder: Path, new: str, expected: str) -> None:
    """A mistake in a network's ranges is said there, not once more on each of its circuits."""
    edit(folder, "networks.csv", lambda t: t.replace("finance,no,10.20.0.0/16", f"finance,no,{new}"))
    lines = problems(folder)
    assert len(lines) == 1
    assert lines[0].startswith("networks.csv:2 [prefixes]: ")
    assert expected in lines[0]


def test_not_a_county(tmp_path: Path) -> None:
    """A folder without county.yaml gives one line, not seven missing tables."""
    for folder in (tmp_path, tmp_path / "nowhere"):
        lines = problems(folder)
        assert len(lines) == 1
        assert lines[0].startswith(f"{folder}: ")
        assert "--county DIR" in lines[0]
        assert "extranet init" in lines[0]


def test_needs_of_department_ipv4_belong_to_units(sample: County) -> None:
    """IPv4 in a department's plane comes with the unit's cutover; all else with provisioning."""
    for need in sample.needs:
        dedicated = sample.plane_by_id[need.plane].kind == "dedicated"
        assert (need.unit is not None) == (dedicated and need.family is Family.IPV4)
    assert {n.unit for n in sample.needs if n.unit} == set(sample.unit_by_id)


def test_restricting_keeps_whole_towns(sample: County) -> None:
    """A small lab's county holds the county site and whole towns, and nothing that points outside."""
    small = restrict_to_towns(sample, 3)
    sites = {s.id for s in small.sites}
    assert sum(s.site_class is SiteClass.TOWN for s in small.sites) == 3
    assert all(c.site in sites for c in small.circuits)
    assert {d for c in small.circuits for d in (c.device, c.far_device) if d} <= {d.id for d in small.devices}
    assert len(small.needs) < len(sample.needs)


def test_topology_does_not_depend_on_row_order(sample: County) -> None:
    """Wiring is a function of content: reversing every table gives the same links and LANs, as sets."""
    turned = sample.altered(
        circuits=sample.circuits[::-1],
        stations=sample.stations[::-1],
        sites=sample.sites[::-1],
        networks=sample.networks[::-1],
    )
    one, two = build_topology(sample), build_topology(turned)
    assert one.links == two.links
    assert one.hairpins == two.hairpins
    assert [(x.id, x.gateway, x.legacy, set(x.stations)) for x in one.lans] == [
        (x.id, x.gateway, x.legacy, set(x.stations)) for x in two.lans
    ]


def test_interface_names_fit_linux(sample: County) -> None:
    """Every interface name has 2 to 15 characters and is unique on its device."""
    topology = build_topology(sample)
    ends = [e for link in topology.links for e in (link.a, link.b)] + [lan.gateway for lan in topology.lans]
    ends += [e for h in topology.hairpins for e in (h.inner, h.outer)]
    assert all(2 <= len(e.interface) <= 15 for e in ends)
    names = [(e.device, e.interface) for e in ends]
    assert len(names) == len(set(names))
    assert all(link.network != EXTRANET or link.plane for link in topology.links)


def test_site_without_a_station_is_a_problem(folder: Path) -> None:
    """A village nobody measures from is not silently left out of the matrix."""
    edit(folder, "stations.csv", lambda t: "".join(x for x in t.splitlines(True) if "minggao-zhongxi-station" not in x))
    assert any("expected a station at minggao-zhongxi" in line for line in problems(folder))


def test_platform_nobody_taught_is_named(folder: Path) -> None:
    """An unknown platform is found by the survey, with its row."""
    edit(folder, "devices.csv", lambda t: t.replace("extranet,frr,4200041000", "extranet,cisco,4200041000"))
    assert problems(folder) == ["devices.csv:2 [platform]: expected one of frr, found 'cisco'; choose one of them"]


def test_unreadable_table_is_not_held_against_others(folder: Path) -> None:
    """A mistyped header gives problems in its own file only."""
    edit(folder, "stations.csv", lambda t: t.replace("windows", "windowz", 1))
    assert {line.split(":")[0] for line in problems(folder)} == {"stations.csv"}
    for name in ("sites", "services"):
        edit(folder, f"{name}.csv", lambda t: t.replace("id,", "idd,", 1))
    assert all("column" in line for line in problems(folder))
    for name in ("sites", "services"):
        edit(folder, f"{name}.csv", lambda t: t.replace("idd,", "id,", 1))
    (folder / "sites.csv").unlink()
    assert {line.split(":")[0].split(" ")[0] for line in problems(folder)} == {"sites.csv", "stations.csv"}


@pytest.mark.parametrize(
    ("name", "old", "new", "expected"),
    [
        ("policy.yaml", "2027-09-30", "2027-09-31", "a value that cannot be"),
        (
            "policy.yaml",
            "dns_domain: yichuan.example",
            "dns_domain: yichuan.example\ndns_domain: other.example",
            "given twice",
        ),
        ("policy.yaml", "dns_domain: yichuan.example", 'dns_domain: "x; } evil {"', "dns_domain"),
        ("county.yaml", "id: yichuan", 'id: "yi:chuan"', "county.yaml [id]"),
        ("stations.csv", ",center,", ",centre,", "expected one of zone"),
    ],
)
def test_values_that_would_do_harm_later_are_found_now(
    folder: Path, name: str, old: str, new: str, expected: str
) -> None:
    """Impossible dates, keys given twice, text that would reach a configuration, mistyped kinds: all named by the survey."""
    edit(folder, name, lambda t: t.replace(old, new))
    assert any(expected in line for line in problems(folder))


def test_second_line_of_a_network_at_a_site_is_a_problem(folder: Path) -> None:
    """A second line would hide the first one from every gate."""
    row = "fin-l-two,finance-man,chengguan,fin-chengguan,wan9,lan9,fin-hub,chengguan9,x,20,1,,10.20.77.0/24,10.20.251.0/30,\n"
    edit(folder, "circuits.csv", lambda t: t + row)
    assert any("has a line at chengguan already" in line for line in problems(folder))


def test_classified_network_without_a_readable_name_is_still_refused(folder: Path) -> None:
    """A bad identifier or an empty name in a classified row is a problem like any other."""
    edit(folder, "networks.csv", lambda t: t.replace("sealed-net,某涉密专网", "封 存,"))
    found = problems(folder)
    assert [line.partition(":")[0] for line in found] == ["networks.csv", "networks.csv"]
    assert "expected an identifier" in found[0]
    assert "found an empty cell" in found[1]


def test_a_bad_identifier_does_not_hide_other_rows(folder: Path) -> None:
    """Near matches are looked for among the names that could be read."""
    edit(folder, "networks.csv", lambda t: t.replace("real-estate", "real estate"))
    found = problems(folder)
    assert any("expected an identifier" in line for line in found)
    assert any("'real-estate', which is no network" in line for line in found)


def test_the_header_has_its_own_row(folder: Path) -> None:
    """Where comments come first, a mistyped header is looked for where it is."""
    edit(folder, "servers.csv", lambda t: "# one\n# two\n" + t.replace("host", "hoast", 1))
    assert {line.partition(" ")[0] for line in problems(folder)} == {"servers.csv:3", "servers.csv:3:"}


def test_a_folder_that_is_closed_is_said_so(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that this user may not enter is one line, not an unexpected error."""

    def refuse(_: Path) -> bool:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "exists", refuse)
    [line] = problems(folder)
    assert "may not look into this folder" in line


TABLES = {name: list(csv.reader((SAMPLE / f"{name}.csv").read_text("utf-8-sig").splitlines())) for name in COLUMNS}
JUNK = ("", "坏 id!", "yes", "-1", "1.2E+11", "10.0.0.0/33", "x" * 50, "extranet", "core1", "public;;shared", "ipv5")
CELLS = st.tuples(
    st.sampled_from(sorted(TABLES)), st.floats(0, 1, exclude_max=True), st.integers(0, 30), st.sampled_from(JUNK)
)


@settings(max_examples=25, deadline=None)
@given(st.lists(CELLS, min_size=1, max_size=8))
def test_whatever_stands_in_the_cells_the_answer_is_a_county_or_problems(
    damage: list[tuple[str, float, int, str]],
) -> None:
    """No content of any cells, headers among them, makes the reader fail in another way."""
    with tempfile.TemporaryDirectory() as folder:
        for name in ("county.yaml", "policy.yaml"):
            shutil.copy(SAMPLE / name, folder)
        found = {name: [list(row) for row in rows] for name, rows in TABLES.items()}
        for name, place, column, text in damage:
            row = found[name][int(place * len(found[name]))]
            row[column % len(row)] = text
        for name, rows in found.items():
            with Path(folder, f"{name}.csv").open("w", encoding="utf-8", newline="") as out:
                csv.writer(out).writerows(rows)
        with contextlib.suppress(InputProblemsError):
            assert load_county(Path(folder)).sites
