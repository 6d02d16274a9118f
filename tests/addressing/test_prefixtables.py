"""Laws of reading prefix lists: what people write is understood or named with its place; nothing is guessed in silence."""

from __future__ import annotations

import contextlib
import io
from datetime import UTC, datetime
from pathlib import Path
from zipfile import ZipFile

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openpyxl import Workbook

from addressing.prefixtables import Block, Claim, parse_block, read_prefix_tables
from addressing.text import AddressTextError
from inventory.errors import InputProblemsError, Problem


def read(tmp_path: Path, content: str | bytes, name: str = "财政局.csv") -> tuple[Claim, ...]:
    """Read one file of that content."""
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_prefix_tables([path])


def problems(tmp_path: Path, content: str | bytes, name: str = "财政局.csv") -> tuple[Problem, ...]:
    """Return what is wrong with a file of that content."""
    with pytest.raises(InputProblemsError) as caught:
        read(tmp_path, content, name)
    return caught.value.problems


def blocks(claims: tuple[Claim, ...]) -> list[str]:
    """Return the claims' blocks as text."""
    return [str(c.block) for c in claims]


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("10.0.0.0/8", "10.0.0.0/8"),
        (" 10.1.0.0 / 16 ", "10.1.0.0/16"),
        ("１０．１．０．０／１６", "10.1.0.0/16"),
        ("10。1。0。0/16", "10.1.0.0/16"),
        ("'10.1.0.0/16", "10.1.0.0/16"),
        ("10.1.0.0/255.255.0.0", "10.1.0.0/16"),
        ("10.1.0.0 255.255.0.0", "10.1.0.0/16"),
        ("10.1.2.3", "10.1.2.3/32"),
        ("10.1.0.0-10.1.3.255", "10.1.0.0/22"),
        ("10.1.0.0 ～ 10.1.3.255", "10.1.0.0/22"),
        ("10.1.0.1—10.1.0.254", "10.1.0.1-10.1.0.254"),
        ("10.1.0.10至10.1.0.20", "10.1.0.10-10.1.0.20"),
        ("10.1.0.10-20", "10.1.0.10-10.1.0.20"),
        ("10.1.0.0/24-10.1.3.0/24", "10.1.0.0/22"),
        ("2001:0DB8:00:0001::/64", "2001:db8:0:1::/64"),
        ("2001:db8::1-2001:db8::2", "2001:db8::1-2001:db8::2"),
    ],
)
def test_what_people_write_is_understood(text: str, meant: str) -> None:
    """T16 among them: full-width, padded, masked and ranged texts are the block that is meant."""
    assert str(parse_block(text)) == meant


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("10.1.2.3/16", "10.1.0.0/16"),
        ("2001:db8::1/64", "2001:db8::/64"),
        ("10.1.0.0", "10.1.0.0/24"),
        ("2001:db8::", "2001:db8::/64"),
        ("10.1.*.*", "10.1.0.0/16"),
        ("10.1.2.x", "10.1.2.0/24"),
        ("1.01E+11", "a spreadsheet took it for a number"),
        ("10.16", "a spreadsheet took it for a number"),
        ("2024-10-16 00:00:00", "a spreadsheet took it for a date"),
        ("10月16日", "a spreadsheet took it for a date"),
        ("16-Oct", "a spreadsheet took it for a date"),
        ("010.001.000.000/16", "leading zeros"),
        ("10.1.0.255-10.1.0.0", "write 10.1.0.0/24"),
        ("10.1.0.0-", "a first and a last"),
        ("10.1.0.0-2001:db8::1", "the other IPv6"),
        ("0.0.0.0/0", "belongs to nobody"),
        ("::/0", "belongs to nobody"),
        ("10.1.0.0/33", "expected 0 to 32"),
        ("10.1.0.0/255.0.255.0", "expected 0 to 32"),
        ("财政局", "not an IPv4 address"),
        ("", "found nothing"),
    ],
)
def test_what_cannot_be_is_said_with_what_is_meant(text: str, says: str) -> None:
    """A text that is no block is refused, with the block meant or the cause where it shows."""
    with pytest.raises(AddressTextError) as caught:
        parse_block(text)
    assert says in str(caught.value)


@given(
    st.sampled_from([4, 6]).flatmap(
        lambda v: st.tuples(st.just(v), *[st.integers(1, (1 << (32 if v == 4 else 128)) - 1)] * 2)
    )
)
def test_blocks_are_read_as_written(ends: tuple[int, int, int]) -> None:
    """Every range written out is read back as itself, and lies within its cover."""
    version, *numbers = ends
    block = Block(version, min(numbers), max(numbers))
    assert parse_block(str(block)) == block
    assert block.cover.value <= block.first <= block.last <= block.cover.last
    assert (block.prefix is not None) == (block.cover.value == block.first and block.cover.last == block.last)


def test_table_in_chinese(tmp_path: Path) -> None:
    """A header in Chinese is found below a title; several blocks in a cell are several claims; hosts are told once."""
    text = (
        "各部门网段统计表,,,,\n序号,部门名称,IP 网段,主机数（台）,备注\n"
        '1,财政局,10.1.0.0/16、10.2.0.0/16,40,办公\n2,人社局,"10.3.0.0/16\n10.4.0.0/16",,\n合计,,,40,\n,,,,\n制表人：某,,,,\n'
    )
    claims = read(tmp_path, text)
    assert blocks(claims) == ["10.1.0.0/16", "10.2.0.0/16", "10.3.0.0/16", "10.4.0.0/16"]
    assert [c.hosts for c in claims] == [40, None, None, None]
    assert (claims[0].department, claims[0].note, claims[0].row, claims[2].row) == ("财政局", "办公", 3, 5)
    [found] = problems(tmp_path, f"{text}3,教育局,,12,\n")
    assert (found.row, found.column) == (9, "prefix")  # a department with its prefix forgotten is no remark


def test_table_in_english_with_all_columns(tmp_path: Path) -> None:
    """Every column of the brief is read; columns that are not known are let be."""
    text = (
        "department\tprefix\tnetwork\tvrf\tsite\tnote\thosts\timport_targets\texport_targets\tTalks To\tphone\n"
        "tax\t3fff:1::/48\ttaxnet\tTAX\thall\tx\t12\t65000:1; 65000:2\t65000:3\tedu、hrss\t1\n"
    )
    [claim] = read(tmp_path, text, "lists.tsv")
    assert claim._asdict() == {
        "department": "tax",
        "prefix": claim.prefix,
        "file": str(tmp_path / "lists.tsv"),
        "row": 2,
        "sheet": None,
        "span": None,
        "network": "taxnet",
        "vrf": "TAX",
        "site": "hall",
        "note": "x",
        "hosts": 12,
        "rules": None,
        "services": None,
        "imports": ("65000:1", "65000:2"),
        "exports": ("65000:3",),
        "talks_to": ("edu", "hrss"),
    }
    assert str(claim.prefix) == "3fff:1::/48"


def test_masks_and_ends_in_columns(tmp_path: Path) -> None:
    """A mask may have its own column, and so may a range's ends."""
    assert blocks(read(tmp_path, "网络地址,子网掩码\n10.1.0.0,255.255.0.0\n10.2.0.0,24\n")) == [
        "10.1.0.0/16",
        "10.2.0.0/24",
    ]
    assert blocks(read(tmp_path, "起始地址,结束地址\n10.1.0.1,10.1.0.9\n")) == ["10.1.0.1-10.1.0.9"]
    both = read(tmp_path, "IPv4网段,IPv6网段\n10.1.0.0/16,3fff:1::/48\n10.2.0.0/16,\n")
    assert blocks(both) == ["10.1.0.0/16", "3fff:1::/48", "10.2.0.0/16"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030", "utf-16"])
def test_encodings_of_offices(tmp_path: Path, encoding: str) -> None:
    """UTF-8 with and without its mark, GBK and Excel's UTF-16 are read alike; no department column: the file's name."""
    [claim] = read(tmp_path, "网段\t备注\n10.1.0.0/16\t办公\n".encode(encoding), "财政局.txt")
    assert (claim.department, claim.note) == ("财政局", "办公")


def test_all_problems_come_at_once(tmp_path: Path) -> None:
    """Every bad row of every file is listed with its row and column, and no claim is returned."""
    (tmp_path / "a.csv").write_text(
        "部门,网段,主机数\n甲,10.0.0.1/8,\n,10.0.0.0/8,\n乙,,9\n丙,10.0.0.0/8,多\n丁,十,x\n", "utf-8"
    )
    (tmp_path / "b.csv").write_text("名称,数量\n甲,1\n", "utf-8")
    (tmp_path / "c.bin").write_bytes(b"\x00\x01\xff")
    with pytest.raises(InputProblemsError) as caught:
        read_prefix_tables([tmp_path / n for n in ("a.csv", "b.csv", "c.bin", "gone.csv", ".")])
    found = [(Path(p.file).name, p.row, p.column) for p in caught.value.problems]
    assert found == [
        ("a.csv", 2, "prefix"),
        ("a.csv", 3, "department"),
        ("a.csv", 4, "prefix"),
        ("a.csv", 5, "hosts"),
        ("a.csv", 6, "hosts"),
        ("a.csv", 6, "prefix"),
        ("b.csv", 1, None),
        ("c.bin", None, None),
        ("gone.csv", None, None),
        (tmp_path.name, None, None),
    ]
    assert "10.0.0.0/8" in caught.value.problems[0].todo


@pytest.mark.parametrize("text", ["", "hello\n", "部门,网段\n", "interface eth0\n no ip address\n"])
@pytest.mark.parametrize("name", ["x.csv", "x.txt"])
def test_a_file_without_a_prefix_is_a_problem(tmp_path: Path, text: str, name: str) -> None:
    """A file that holds not one prefix is never taken for a department without conflicts."""
    assert problems(tmp_path, text, name)


def test_no_file_is_a_problem() -> None:
    """An empty run is a problem."""
    with pytest.raises(InputProblemsError):
        read_prefix_tables([])


def test_same_names_do_not_merge_departments(tmp_path: Path) -> None:
    """Two files of one name, each a department by its name, are refused: their overlaps would go unseen."""
    paths = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        paths.append(tmp_path / folder / "routes.txt")
        paths[-1].write_text("10.0.0.0/8 via 192.0.2.1 dev eth0\n")
    with pytest.raises(InputProblemsError, match="department's name"):
        read_prefix_tables(paths)
    assert len(read_prefix_tables([paths[0], paths[0]])) == 1


def book(path: Path, **sheets: list[list[object]]) -> Path:
    """Write a workbook."""
    workbook = Workbook()
    workbook.remove(workbook.worksheets[0])
    for name, rows in sheets.items():
        sheet = workbook.create_sheet(name)
        for row in rows:
            sheet.append(row)
    workbook.save(path)
    return path


def test_workbook(tmp_path: Path) -> None:
    """Each sheet with a header is read, others are let be; without a department column a sheet is a department."""
    path = book(
        tmp_path / "all.xlsx",
        说明=[["各部门填写"]],
        财政局=[["网段", "主机数"], ["10.1.0.0/16", 3.0]],
        人社局=[["标题"], [], ["网段"], ["１０.２.0.0/16"]],
    )
    claims = read_prefix_tables([path])
    assert [(c.department, c.sheet, c.row, c.hosts, str(c.prefix)) for c in claims] == [
        ("财政局", "财政局", 2, 3, "10.1.0.0/16"),
        ("人社局", "人社局", 4, None, "10.2.0.0/16"),
    ]


def test_merged_departments_hold_for_their_rows(tmp_path: Path) -> None:
    """A department merged down several rows is the department of each; a gap that is not merged is a problem."""
    path = book(
        tmp_path / "m.xlsx",
        s=[["部门", "网段"], ["甲", "10.1.0.0/16"], [None, "10.2.0.0/16"], [None, "10.3.0.0/16"]],
    )
    from openpyxl import load_workbook

    workbook = load_workbook(path)
    workbook["s"].merge_cells("A2:A3")
    workbook.save(path)
    with pytest.raises(InputProblemsError) as caught:
        read_prefix_tables([path])
    assert [(p.row, p.sheet, p.column) for p in caught.value.problems] == [(4, "s", "department")]
    workbook["s"].delete_rows(4)
    workbook.save(path)
    assert [(c.department, c.row) for c in read_prefix_tables([path])] == [("甲", 2), ("甲", 3)]


def test_a_merged_count_is_that_of_all_its_rows(tmp_path: Path) -> None:
    """A number of hosts merged down several rows is said once, with the first of them."""
    rows: list[list[object]] = [["部门", "网段", "主机数"], ["甲", "10.1.0.0/16", 300], [None, "10.2.0.0/16", None]]
    path = book(tmp_path / "m.xlsx", s=rows, t=[["部门", "网段"]])
    from openpyxl import load_workbook

    workbook = load_workbook(path)
    workbook["s"].merge_cells("A2:A3")
    workbook["s"].merge_cells("C2:C3")
    workbook.save(path)
    assert [(c.department, c.hosts) for c in read_prefix_tables([path])] == [("甲", 300), ("甲", None)]


def test_workbook_mangled_by_excel(tmp_path: Path) -> None:
    """Numbers and dates that were prefixes once are named for what they are, with sheet and row."""
    path = book(
        tmp_path / "x.xlsx",
        表=[["部门", "网段"], ["甲", 10.16], ["乙", datetime(2024, 10, 16, tzinfo=UTC).replace(tzinfo=None)]],
    )
    with pytest.raises(InputProblemsError) as caught:
        read_prefix_tables([path])
    number, date = caught.value.problems
    assert (number.sheet, number.row, date.sheet, date.row) == ("表", 2, "表", 3)
    assert "took it for a number" in number.what
    assert "took it for a date" in date.what


@pytest.mark.parametrize("content", [b"PK\x03\x04 not a zip", b"", "部门,网段\n".encode()])
def test_damaged_workbooks_are_problems(tmp_path: Path, content: bytes) -> None:
    """What calls itself a workbook and is none is one problem, not a crash."""
    [found] = problems(tmp_path, content, "bad.xlsx")
    assert "not a readable workbook" in found.what


def test_a_damaged_part_of_a_workbook_is_a_problem(tmp_path: Path) -> None:
    """A sheet whose packed bytes are spoilt is named; what says nothing of itself is named by its kind."""
    whole = book(tmp_path / "w.xlsx", s=[["部门", "网段"], ["甲", "10.1.0.0/16"]]).read_bytes()
    with ZipFile(io.BytesIO(whole)) as archive:
        parts = archive.infolist()
    for part in parts:
        damaged = bytearray(whole)
        start = part.header_offset + 30 + len(part.filename)
        damaged[start : start + 8] = b"\xff" * 8
        with contextlib.suppress(InputProblemsError):
            read(tmp_path, bytes(damaged), "bad.xlsx")
        if part.filename.endswith("sheet1.xml"):
            [found] = problems(tmp_path, bytes(damaged), "bad.xlsx")
            assert "not a readable" in found.what
            assert "()" not in found.what


IOS = """\
rtr#show ip route
Codes: L - local, C - connected, S - static, R - RIP, M - mobile, B - BGP
       D - EIGRP, EX - EIGRP external, O - OSPF, IA - OSPF inter area
Gateway of last resort is 192.0.2.1 to network 0.0.0.0

S*    0.0.0.0/0 [1/0] via 192.0.2.1
      10.0.0.0/8 is variably subnetted, 4 subnets, 3 masks
C        10.1.1.0/24 is directly connected, Vlan10
L        10.1.1.1/32 is directly connected, Vlan10
O E2     10.3.0.0/16 [110/20] via 10.1.1.2, 1w2d, Vlan10
                     [110/20] via 10.1.1.3, 1w2d, Vlan10
      172.16.0.0/24 is subnetted, 2 subnets
O IA     172.16.5.0 [110/2] via 10.1.1.2, 00:00:12, Vlan10
C        172.16.6.0 is directly connected, Vlan11
S     192.168.7.0/24
           [1/0] via 10.1.1.9
Routing Table: FINANCE
B        10.9.0.0/16 [200/0] via 10.1.1.2
C   3FFF:1::/64 [0/0]
L   FF00::/8 [0/0]
"""

FRR = """\
Codes: K - kernel route, C - connected, S - static
VRF finance:
K>* 0.0.0.0/0 [0/100] via 192.0.2.1, eth0, 00:00:10
C>* 10.5.0.0/24 is directly connected, eth1, 00:05:11
O>* 10.6.0.0/16 [110/20] via 10.5.0.2, eth1, weight 1, 00:01:02
  *                      via 10.5.0.3, eth1, weight 1, 00:01:02
B   10.7.0.0/16 [20/0] via 10.5.0.9
C * fe80::/64 is directly connected, eth1, 00:05:11
S>* 3fff:2::/48 [1/0] via fe80::1, eth1
"""

VRP = """\
<AR1>display ip routing-table
Route Flags: R - relay, D - download to fib
------------------------------------------------------------------------------
Routing Tables: Public
         Destinations : 5        Routes : 6
Destination/Mask    Proto   Pre  Cost      Flags NextHop         Interface
        0.0.0.0/0   Static  60   0          RD   10.8.0.2        GigabitEthernet0/0/0
       10.8.0.0/24  Direct  0    0           D   10.8.0.1        GigabitEthernet0/0/0
       10.8.0.1/32  Direct  0    0           D   127.0.0.1       InLoopBack0
      127.0.0.0/8   Direct  0    0           D   127.0.0.1       InLoopBack0
255.255.255.255/32  Direct  0    0           D   127.0.0.1       InLoopBack0
      10.10.0.0/16  OSPF    10   2           D   10.8.0.2        GigabitEthernet0/0/0
                    OSPF    10   2           D   10.8.0.3        GigabitEthernet0/0/1
 Destination  : 3FFF:3::                          PrefixLength : 48
"""

LINUX = """\
default via 192.0.2.1 dev eth0 proto dhcp metric 100
10.11.0.0/24 dev eth0 proto kernel scope link src 10.11.0.5
10.12.0.9 via 10.11.0.1 dev eth0
blackhole 10.13.0.0/16
broadcast 10.11.0.255 dev eth0 table local
local 10.11.0.5 dev eth0 table local
    inet 10.14.0.5/24 brd 10.14.0.255 scope global eth1
    inet6 fe80::1/64 scope link
"""

CONFIG = """\
! a Cisco or Comware or VRP or FRR configuration, a bit of each
hostname rtr
interface Vlanif10
 ip binding vpn-instance finance
 ip address 10.20.1.1 255.255.255.0
 ip address 10.20.2.1 24 sub
 ipv6 address 3FFF:4::1/64
#
interface Loopback0
 ip address 10.20.255.1/32
 ipv6 address fe80::1 link-local
 ip address dhcp-alloc
!
interface eth9 vrf tax
 ip address 10.21.0.1/24
exit
!
vrf edu
 ip route 10.22.0.0/16 10.20.1.9
exit-vrf
ip route 10.23.0.0 255.255.0.0 10.20.1.9
ip route vrf hrss 10.24.0.0 255.255.0.0 10.20.1.9
ip route-static 10.25.0.0 16 10.20.1.9
ip route-static vpn-instance hrss 10.26.0.0 255.255.0.0 10.20.1.9
ipv6 route-static 3fff:5:: 48 fe80::1
ip route 0.0.0.0 0.0.0.0 192.0.2.1
router ospf 1
 network 10.0.0.0 0.255.255.255 area 0
router bgp 65000
 network 10.27.0.0 mask 255.255.0.0
 network 10.28.0.0/16
ip prefix-list x seq 5 permit 10.99.0.0/16
"""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(
            IOS,
            [
                ("", "10.1.1.0/24"),
                ("", "10.3.0.0/16"),
                ("", "172.16.5.0/24"),
                ("", "172.16.6.0/24"),
                ("", "192.168.7.0/24"),
                ("FINANCE", "10.9.0.0/16"),
                ("FINANCE", "3fff:1::/64"),
            ],
            id="ios",
        ),
        pytest.param(
            FRR,
            [("finance", p) for p in ("10.5.0.0/24", "10.6.0.0/16", "10.7.0.0/16", "3fff:2::/48")],
            id="frr",
        ),
        pytest.param(VRP, [("", "10.8.0.0/24"), ("", "10.10.0.0/16"), ("", "3fff:3::/48")], id="vrp"),
        pytest.param(
            LINUX, [("", "10.11.0.0/24"), ("", "10.12.0.9/32"), ("", "10.13.0.0/16"), ("", "10.14.0.0/24")], id="linux"
        ),
        pytest.param(
            CONFIG,
            [
                ("finance", "10.20.1.0/24"),
                ("finance", "10.20.2.0/24"),
                ("finance", "3fff:4::/64"),
                ("", "10.20.255.1/32"),
                ("tax", "10.21.0.0/24"),
                ("edu", "10.22.0.0/16"),
                ("", "10.23.0.0/16"),
                ("hrss", "10.24.0.0/16"),
                ("", "10.25.0.0/16"),
                ("hrss", "10.26.0.0/16"),
                ("", "3fff:5::/48"),
                ("", "10.27.0.0/16"),
                ("", "10.28.0.0/16"),
            ],
            id="config",
        ),
    ],
)
def test_routers_texts(tmp_path: Path, text: str, expected: list[tuple[str, str]]) -> None:
    """Each vendor's table gives exactly its blocks with their VRFs, under the file's name; noise gives none."""
    claims = read(tmp_path, text, "财政局.txt")
    assert [(c.vrf, str(c.prefix)) for c in claims] == expected
    assert {c.department for c in claims} == {"财政局"}
    lines = text.splitlines()
    assert all(
        str(c.prefix).split("/", maxsplit=1)[0].rsplit(".", 1)[0].upper() in lines[c.row - 1].upper() for c in claims
    )


def test_routers_mistakes_are_problems(tmp_path: Path) -> None:
    """A line that should hold a prefix and does not is listed with its line; host bits of a route are, too."""
    text = "interface a\n ip address 10.1.1.300 255.255.255.0\nip route 10.1.1.1 255.255.0.0 192.0.2.1\nC  10.1.999.0/24 is\n"
    found = problems(tmp_path, text, "r.cfg")
    assert [p.row for p in found] == [2, 3, 4]
    assert "10.1.0.0/16" in found[1].todo


@given(
    st.text(max_size=300)
    | st.lists(
        st.sampled_from(["ip route", "10.0.0.0", "/", "255.0.0.0", " ", "\n", "::", "C", "vrf x", ",", "网段"]),
        max_size=40,
    ).map("".join)
)
def test_no_text_breaks_the_reader(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    """Whatever a file holds, there are claims or problems, never anything else."""
    folder = tmp_path_factory.mktemp("any", numbered=True)
    for name in ("x.csv", "x.txt"):
        claims: tuple[Claim, ...] = ()
        found: tuple[Problem, ...] = ()
        try:
            claims = read(folder, text.encode("utf-8", "ignore"), name)
        except InputProblemsError as error:
            found = error.problems
        assert bool(claims) != bool(found)
