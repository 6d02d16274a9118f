"""Read a county's folder into a `County`, or list everything that is wrong with it in one pass.

Files: `county.yaml`, `policy.yaml`, and the tables sites, stations, networks, devices, circuits, servers and
services (CSV, or sheets of survey.xlsx). A network marked classified is refused at the door: nothing that belongs
to it enters the model, and a row elsewhere that refers to it is a problem.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from ipaddress import IPv4Network
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import Field, ValidationError, field_validator

from inventory import tables
from inventory.errors import InputProblemsError, Problem
from inventory.files import NOT_REGULAR, is_irregular
from inventory.model import (
    EXTRANET,
    PLATFORM_NAMES,
    STATION_KINDS,
    Circuit,
    County,
    Device,
    Family,
    LegacyNetwork,
    Model,
    PlaneKind,
    Policy,
    Protocol,
    RefusedNetwork,
    Role,
    Server,
    Service,
    Site,
    SiteClass,
    Station,
)
from inventory.tables import Column, Row
from inventory.wording import counted
from inventory.yamlfile import YamlProblemError, parse_yaml

C = Column
FEW = 3
"""Up to here each circuit outside its network's prefixes is a line of its own."""
LISTED = 10
KINDS = {"site": "sites", "device": "devices", "circuit": "circuits", "server": "servers", "network": "networks"}
"""Kinds of names that rows refer to, each with the table that holds them."""
PLANE = "plane (policy.yaml)"

_M = TypeVar("_M", bound=Model)

COLUMNS: dict[str, tuple[Column, ...]] = {
    "sites": (
        C(
            name="id",
            chinese="编号",
            parse=tables.read_ident,
            about="the site's identifier, which never changes",
            example="chengguan",
        ),
        C(
            name="name",
            chinese="名称",
            parse=tables.read_name,
            about="what people call it",
            example="城关街道便民服务中心",
        ),
        C(
            name="class",
            chinese="级别",
            parse=tables.read_choice(*(c.value for c in SiteClass)),
            about="its level; exactly one site is the county",
            example="town",
        ),
        C(
            name="parent",
            chinese="上级",
            parse=tables.read_ident,
            required=False,
            about="the site above: a town's is the county, a village's its town; empty for the county",
            example="county",
        ),
        C(
            name="division_code",
            chinese="区划代码",
            parse=tables.read_code,
            about="its code in the statistics bureau's list",
            example="410329001000",
        ),
        C(
            name="responsible",
            chinese="责任人",
            parse=tables.read_name,
            about="who answers for it: a post, not a person's name",
            example="城关街道办事处信息化负责人",
        ),
        C(
            name="central",
            chinese="中心村",
            parse=tables.read_yes,
            required=False,
            about="whether the village is a central one, which the coverage dates count",
            example="yes",
        ),
        C(
            name="public_ipv4",
            chinese="公用区IPv4",
            parse=tables.read_lan4,
            required=False,
            about="IPv4 of the public plane's LAN where the extranet already reaches; empty: the plan gives one",
            example="10.128.0.64/26",
        ),
    ),
    "stations": (
        C(
            name="id",
            chinese="编号",
            parse=tables.read_ident,
            about="the station's identifier",
            example="chengguan-center",
        ),
        C(
            name="name",
            chinese="名称",
            parse=tables.read_name,
            about="what people call it",
            example="城关街道便民服务中心",
        ),
        C(name="site", chinese="站点", parse=tables.read_ident, about="the site it stands at", example="chengguan"),
        C(
            name="kind",
            chinese="类型",
            parse=tables.read_choice(*STATION_KINDS),
            about="what it is; services name kinds in needed_by",
            example="center",
        ),
        C(name="windows", chinese="窗口数", parse=tables.read_int(0, 10_000), about="service windows", example="12"),
        C(
            name="host",
            chinese="主机号",
            parse=tables.read_int(2, 250),
            about="its interface identifier in every LAN it joins, free at its site",
            example="11",
        ),
        C(
            name="planes",
            chinese="业务区",
            parse=tables.read_idents,
            about="the planes it has a leg in (policy.yaml)",
            example="public;finance",
        ),
    ),
    "networks": (
        C(
            name="id",
            chinese="编号",
            parse=tables.read_ident,
            about="the legacy network's identifier; a unit is network@site",
            example="finance-man",
        ),
        C(name="name", chinese="名称", parse=tables.read_name, about="what people call it", example="财政城域网"),
        C(
            name="tenant",
            chinese="部门",
            parse=tables.read_name,
            about="the department whose it is",
            example="伊川县财政局",
        ),
        C(
            name="plane",
            chinese="业务区",
            parse=tables.read_ident,
            required=False,
            about="the dedicated plane it moves to, its own alone; empty only for a classified network",
            example="finance",
        ),
        C(
            name="classified",
            chinese="涉密",
            parse=tables.read_required_yes,
            about="whether it is marked classified: such a network is refused and stays outside",
            example="no",
        ),
        C(
            name="prefixes",
            chinese="地址段",
            parse=tables.read_prefixes4,
            required=False,
            about="its address ranges; empty only for a classified network",
            example="10.20.0.0/16",
        ),
        C(
            name="lead",
            chinese="牵头单位",
            parse=tables.read_name,
            required=False,
            about="who leads its migration; empty only for a classified network",
            example="伊川县政务服务和大数据管理局局长",
        ),
        C(
            name="responsible",
            chinese="责任人",
            parse=tables.read_name,
            required=False,
            about="who answers for it in the department; empty only for a classified network",
            example="伊川县财政局信息中心主任",
        ),
    ),
    "devices": (
        C(
            name="id",
            chinese="编号",
            parse=tables.read_ident,
            about="the router's identifier and host name",
            example="chengguan-r1",
        ),
        C(name="name", chinese="名称", parse=tables.read_name, about="what people call it", example="城关街道路由器"),
        C(name="site", chinese="站点", parse=tables.read_ident, about="the site it stands at", example="chengguan"),
        C(
            name="role",
            chinese="角色",
            parse=tables.read_choice(*(r.value for r in Role)),
            about="what it is for; legacy for a router of a legacy network, the others for the extranet's",
            example="town",
        ),
        C(
            name="network",
            chinese="网络",
            parse=tables.read_ident,
            about="extranet, or the legacy network whose it is",
            example="extranet",
        ),
        C(
            name="platform",
            chinese="平台",
            parse=tables.read_choice(*PLATFORM_NAMES),
            about="what it runs",
            example="frr",
        ),
        C(
            name="asn",
            chinese="自治域号",
            parse=tables.read_int(1, 4_294_967_294),
            required=False,
            about="its BGP AS number: cores and towns have one, unique in the county",
            example="4200041101",
        ),
        C(
            name="management",
            chinese="管理地址",
            parse=tables.read_address,
            required=False,
            about="where to log in on the real network; access.yaml may say it instead",
            example="2001:db8::11",
        ),
    ),
    "circuits": (
        C(
            name="circuit",
            chinese="线路编号",
            parse=tables.read_ident,
            about="the line's identifier",
            example="fin-l-chengguan",
        ),
        C(
            name="network",
            chinese="网络",
            parse=tables.read_ident,
            about="extranet, or the legacy network whose line it is",
            example="finance-man",
        ),
        C(
            name="site",
            chinese="站点",
            parse=tables.read_ident,
            about="the site it serves, at its far end",
            example="chengguan",
        ),
        C(
            name="device",
            chinese="设备",
            parse=tables.read_ident,
            required=False,
            about="the router at that site; empty for a village's legacy line without one",
            example="fin-chengguan",
        ),
        C(
            name="port",
            chinese="端口",
            parse=tables.read_port,
            required=False,
            about="its port towards the line: extranet lines and a town's legacy lines",
            example="wan1",
        ),
        C(
            name="lan_port",
            chinese="局域网端口",
            parse=tables.read_port,
            required=False,
            about="the legacy router's port towards the site's LAN; legacy lines with a device",
            example="lan1",
        ),
        C(
            name="far_device",
            chinese="对端设备",
            parse=tables.read_ident,
            required=False,
            about="the router at the other end; empty for a hub's own LAN at the county",
            example="fin-hub",
        ),
        C(
            name="far_port",
            chinese="对端端口",
            parse=tables.read_port,
            required=False,
            about="the port there; wanted with far_device",
            example="chengguan",
        ),
        C(
            name="provider",
            chinese="运营商",
            parse=tables.read_name,
            required=False,
            about="who provides the line",
            example="中国移动",
        ),
        C(
            name="bandwidth_mbps",
            chinese="带宽兆",
            parse=tables.read_int(1, 1_000_000, "Mbit/s"),
            about="its bandwidth",
            example="20",
        ),
        C(
            name="monthly_rent_yuan",
            chinese="月租元",
            parse=tables.read_int(0, 100_000_000, "yuan"),
            about="its rent a month",
            example="1200",
        ),
        C(
            name="contract_end",
            chinese="合同到期",
            parse=tables.read_date,
            required=False,
            about="when its contract ends",
            example="2027-12-31",
        ),
        C(
            name="lan_prefix",
            chinese="局域网段",
            parse=tables.read_lan4,
            required=False,
            about="the legacy network's LAN at the site; every legacy line has one",
            example="10.20.1.0/24",
        ),
        C(
            name="wan_prefix",
            chinese="互联网段",
            parse=tables.read_link4,
            required=False,
            about="addresses of the line itself: a town's legacy line, or an extranet link where they are fixed",
            example="10.20.250.0/30",
        ),
        C(
            name="reuses",
            chinese="利旧线路",
            parse=tables.read_ident,
            required=False,
            about="for an extranet line, the legacy line whose cable it takes over",
            example="edu-l-chengguan-xichang",
        ),
    ),
    "servers": (
        C(name="id", chinese="编号", parse=tables.read_ident, about="the server's identifier", example="srv-finance"),
        C(name="name", chinese="名称", parse=tables.read_name, about="what people call it", example="财政业务服务器"),
        C(name="site", chinese="站点", parse=tables.read_ident, about="the site it stands at", example="county"),
        C(
            name="plane",
            chinese="业务区",
            parse=tables.read_ident,
            about="the plane it is in (policy.yaml)",
            example="finance",
        ),
        C(
            name="host",
            chinese="主机号",
            parse=tables.read_int(2, 250),
            about="its interface identifier in its LAN, free there",
            example="80",
        ),
    ),
    "services": (
        C(name="id", chinese="编号", parse=tables.read_ident, about="the service's identifier", example="portal"),
        C(name="name", chinese="名称", parse=tables.read_name, about="what people call it", example="省政务服务网"),
        C(
            name="server",
            chinese="服务器",
            parse=tables.read_ident,
            about="the server that gives it",
            example="srv-shared",
        ),
        C(
            name="dns_name",
            chinese="域名",
            parse=tables.read_ident,
            about="its name under dns_domain (policy.yaml)",
            example="portal",
        ),
        C(
            name="protocol",
            chinese="协议",
            parse=tables.read_choice(*(p.value for p in Protocol)),
            about="what it speaks, and so how it is probed; exactly the resolver speaks dns",
            example="https",
        ),
        C(
            name="port",
            chinese="端口",
            parse=tables.read_int(1, 65535),
            about="its TCP port (UDP for dns)",
            example="443",
        ),
        C(
            name="needed_by",
            chinese="使用方",
            parse=tables.read_idents,
            about="who needs it: site classes, station kinds or station ids",
            example="county;town;village",
        ),
        C(
            name="from_planes",
            chinese="来源业务区",
            parse=tables.read_idents,
            about="the planes it is reached from; from every other one it must stay closed",
            example="public;finance",
        ),
        C(
            name="families",
            chinese="协议族",
            parse=tables.read_idents,
            about="the address families it must work over: ipv6, ipv4 or both",
            example="ipv6;ipv4",
        ),
    ),
}


class Header(Model):
    """`county.yaml`."""

    id: str = Field(
        pattern=r"^[a-z0-9][a-z0-9-]{0,29}$",
        description="the county's identifier; its lab is named after it",
        examples=["yichuan"],
    )
    name: str = Field(description="what people call the county", examples=["伊川县"])
    name_en: str = Field(description="its name in Latin letters", examples=["Yichuan"])
    division_code: str = Field(
        description="its 12-digit code in the statistics bureau's list, in quotes", examples=["410329000000"]
    )

    @field_validator("division_code")
    @classmethod
    def _take_code(cls, value: str) -> str:
        return tables.read_code(value)


class Overlap(Model):
    """Two legacy networks whose ranges meet. Expected in the field: planes keep them apart."""

    first: str
    second: str
    prefixes: tuple[str, str]
    kind: Literal["same", "contains", "within"]


def load_county(folder: Path) -> County:
    """Read a county; raise InputProblemsError with every problem when there is any."""
    reader = _Reader(folder)
    county = reader.read()
    if reader.problems or county is None:
        raise InputProblemsError(sorted(set(reader.problems), key=reader.place_of))
    return county


def find_overlaps(county: County) -> list[Overlap]:
    """List each pair of prefixes of different legacy networks that meet."""
    rows = sorted(
        ((p, n.id) for n in county.networks for p in n.prefixes),
        key=lambda r: (int(r[0].network_address), r[0].prefixlen, r[1]),
    )
    out: list[Overlap] = []
    open_rows: list[tuple[IPv4Network, str]] = []
    for prefix, network in rows:
        open_rows = [(p, n) for p, n in open_rows if p.overlaps(prefix)]
        for other, owner in open_rows:
            if owner != network:
                kind: Literal["same", "contains"] = "same" if other == prefix else "contains"
                out.append(Overlap(first=owner, second=network, prefixes=(str(other), str(prefix)), kind=kind))
        open_rows.append((prefix, network))
    return out


def restrict_to_towns(county: County, towns: int) -> County:
    """Keep the county site and its first `towns` towns with their villages: for small labs. Addresses do not change."""
    kept = [s.id for s in county.sites if s.site_class is SiteClass.TOWN][:towns]
    sites = {s.id for s in county.sites if s.site_class is SiteClass.COUNTY or s.id in kept or s.parent in kept}
    circuits = tuple(c for c in county.circuits if c.site in sites)
    return county.altered(
        sites=tuple(s for s in county.sites if s.id in sites),
        stations=tuple(s for s in county.stations if s.site in sites),
        devices=tuple(d for d in county.devices if d.site in sites),
        circuits=circuits,
        servers=tuple(s for s in county.servers if s.site in sites),
    )


class _Stray(Model):
    """A cell that names what is not there."""

    table: str
    row: Row
    column: str
    hint: str


class _Reader:
    """One pass over a folder. Each `_read_*` notes problems and returns what it could make."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.problems: list[Problem] = []
        self.sources: dict[str, tables.TableSource] = {}
        self.unreadable: set[str] = set(COLUMNS)
        self.refused: tuple[RefusedNetwork, ...] = ()
        self.doubled: dict[str, list[int]] = defaultdict(list)
        """By table, the rows whose identifier is another row's."""
        self.strays: dict[tuple[str, str], list[_Stray]] = defaultdict(list)
        """By kind and name, the cells that name what is not there."""
        self.echoes: set[Problem] = set()
        """Problems that most likely follow from another one of the same file."""

    def place_of(self, problem: Problem) -> tuple[str, str, bool, int, str, str]:
        """Return a problem's place in the list: by file, row and column, causes first."""
        p = problem
        return p.file, p.sheet or "", p in self.echoes, p.row or 0, p.column or "", p.what

    def read(self) -> County | None:
        if not self.folder.is_dir():
            todo = "name a county's folder with --county DIR, or make one with 'extranet init DIR'"
            self._note(str(self.folder), None, None, "no such folder", todo)
            return None
        if not (self.folder / "county.yaml").exists():
            self._note(
                str(self.folder.resolve()),
                None,
                None,
                "not a county's folder - expected county.yaml there, found none",
                "name one with --county DIR, or make one with 'extranet init DIR'",
            )
            return None
        header = self._read_yaml("county.yaml", Header)
        policy = self._read_yaml("policy.yaml", Policy)
        rows = {name: self._read_rows(name) for name in COLUMNS}
        rows["networks"], self.refused = self._turn_away(rows["networks"])
        self._check_rows(rows)
        if policy is not None:
            self._check_policy(policy)
            self._check_planes(rows, policy)
            self._check_addresses(rows, policy)
        self._tell_strays()
        if header is None or policy is None or self.problems:
            return None
        return self._build(header, policy, rows)

    # reading

    def _read_yaml(self, name: str, model: type[_M]) -> _M | None:
        path = self.folder / name
        if is_irregular(path):
            self._note(name, None, None, NOT_REGULAR, f"put a file {name} there")
            return None
        try:
            data = parse_yaml(path.read_text("utf-8-sig"))
        except FileNotFoundError:
            self._note(
                name, None, None, "expected this file, found none", f"make {name}; the sample county has one to copy"
            )
            return None
        except (OSError, UnicodeDecodeError) as error:
            self._note(name, None, None, f"cannot be read ({error})", "save it as UTF-8 text")
            return None
        except YamlProblemError as error:
            self._note(name, error.row, None, f"not YAML ({error.what})", "correct it")
            return None
        if not isinstance(data, dict):
            self._note(
                name, None, None, "expected `key: value` lines, found something else", "see the sample county's file"
            )
            return None
        try:
            return model.model_validate(data)
        except ValidationError as error:
            for e in error.errors():
                where = ".".join(str(part) for part in e["loc"])
                cause = e.get("ctx", {}).get("error")
                if isinstance(cause, tables.CellError):
                    self._note(name, None, where, cause.what, cause.todo)
                    continue
                found = "" if e["type"] in {"missing", "value_error"} else f", found {e['input']!r}"
                self._note(name, None, where, f"{e['msg'].lower()}{found}", "correct the value")
            return self._salvage(data, model, {str(e["loc"][0]) for e in error.errors() if e["loc"]})

    def _salvage(self, data: dict[str, Any], model: type[_M], bad: set[str]) -> _M | None:
        """Read without the bad optional fields, so that the tables can still be checked against the rest."""
        if any(field not in model.model_fields or model.model_fields[field].is_required() for field in bad):
            return None
        return model.model_validate({k: v for k, v in data.items() if k not in bad})

    def _read_rows(self, name: str) -> list[Row]:
        source = tables.load_table(self.folder, name, self.problems)
        if source is None:
            return []
        self.sources[name] = source
        self.unreadable.discard(name)
        rows = tables.parse_table(source, COLUMNS[name], self.problems)
        if not rows and source.rows:
            self.unreadable.add(name)
        first = COLUMNS[name][0].name
        seen: dict[str, int] = {}
        for row in rows:
            key = row.values[first]
            if key is None:
                continue
            if key in seen:
                self._at(name, row, first, f"{key!r} is already on row {seen[key]}", "give each its own identifier")
                self.doubled[name].append(row.number)
            seen.setdefault(key, row.number)
        return rows

    def _ids(self, name: str) -> set[str]:
        """Ids of a table, those of rows with problems included: one mistake must not echo through other tables."""
        source = self.sources.get(name)
        if source is None:
            return set()
        first = COLUMNS[name][0]
        for index, raw in enumerate(source.header):
            if tables.plain(raw).lower() in {first.name, first.chinese}:
                return {tables.plain(cells[index]).lower() for _, cells in source.rows if index < len(cells)}
        return set()

    def _turn_away(self, rows: list[Row]) -> tuple[list[Row], tuple[RefusedNetwork, ...]]:
        """Apply the scope guard: classified networks leave the inventory here and are never seen again."""
        refused = tuple(
            RefusedNetwork(id=r.values["id"], name=r.values["name"], row=r.number)
            for r in rows
            if r.values["classified"]
        )
        kept = [r for r in rows if not r.values["classified"]]
        for row in kept:
            for column in ("plane", "prefixes", "lead", "responsible"):
                if not row.values[column]:
                    self._at("networks", row, column, "expected a value, found an empty cell", "fill it in")
        return kept, refused

    # checking

    def _note(self, file: str, row: int | None, column: str | None, what: str, todo: str) -> None:
        self.problems.append(Problem(file=file, row=row, column=column, what=what, todo=todo))

    def _at(self, table: str, row: Row, column: str | None, what: str, todo: str) -> None:
        if column in row.bad:
            return  # said already, when the cell was read
        source = self.sources[table]
        self.problems.append(
            Problem(file=source.file, sheet=source.sheet, row=row.number, column=column, what=what, todo=todo)
        )

    def _refer(self, table: str, row: Row, column: str, known: Iterable[str], kind: str) -> bool:
        if KINDS.get(kind) in self.unreadable:
            return True  # what is wrong there is said there; guessing here would damage a correct table
        value = row.values[column]
        if value is None:
            return True
        pool = set(known)
        good = True
        for one in value if isinstance(value, tuple) else (value,):
            if one not in pool:
                good = False
                near = get_close_matches(one, sorted(pool), n=2, cutoff=0.6)
                hint = f"did you mean {' or '.join(near)}?" if near else f"add the {kind} or correct the name"
                self.strays[kind, one].append(_Stray(table=table, row=row, column=column, hint=hint))
        return good

    def _tell_strays(self) -> None:
        """Say what is named and not there: one cell at its place, several as one mistake, where the name is missing."""
        for (kind, name), strays in self.strays.items():
            holder = self._holder_of(kind)
            if holder is None or len(strays) == 1:
                for stray in strays:
                    what = f"expected a known {kind}, found {name!r}"
                    self._at(stray.table, stray.row, stray.column, what, stray.hint)
                continue
            numbers: dict[str, list[str]] = defaultdict(list)
            for stray in strays:
                numbers[stray.table].append(str(stray.row.number))
            total = sum(len(set(found)) for found in numbers.values())
            verb, noun = "names" if total == 1 else "name", kind.partition(" ")[0]
            places = "; ".join(f"{table} {_list_rows(found)}" for table, found in numbers.items())
            file, sheet, column = holder
            problem = Problem(
                file=file,
                sheet=sheet,
                row=None,
                column=column,
                what=f"{counted(total, 'row')} {verb} {name!r}, which is no {noun}: {places}",
                todo=self._mend_strays(kind, noun, strays[0]),
            )
            self.problems.append(problem)
            self.echoes.add(problem)

    def _holder_of(self, kind: str) -> tuple[str, str | None, str] | None:
        """Return the file, sheet and column that hold the names of a kind; None where no table does."""
        if kind == PLANE:
            return "policy.yaml", None, "planes"
        source = self.sources.get(KINDS.get(kind, ""))
        return (source.file, source.sheet, COLUMNS[KINDS[kind]][0].name) if source else None

    def _mend_strays(self, kind: str, noun: str, stray: _Stray) -> str:
        doubled = self.doubled.get(KINDS.get(kind, ""))
        if doubled:
            return f"perhaps it belongs on row {' or '.join(map(str, doubled))}, whose identifier is another's"
        near = f"{stray.hint} " if stray.hint.startswith("did you mean") else ""
        return f"{near}add the {noun}, or correct those rows"

    def _check_rows(self, rows: dict[str, list[Row]]) -> None:
        self._check_sites(rows["sites"])
        sites, networks, devices = self._ids("sites"), {r.values["id"] for r in rows["networks"]}, self._ids("devices")
        networks |= {i for i in self._ids("networks") if i not in {r.id for r in self.refused}}
        for row in rows["stations"]:
            self._refer("stations", row, "site", sites, "site")
        self._check_as_numbers(rows["devices"])
        for row in rows["devices"]:
            self._refer("devices", row, "site", sites, "site")
            self._check_owner("devices", row, networks)
            self._check_device(row)
        for row in rows["circuits"]:
            self._refer("circuits", row, "site", sites, "site")
            self._refer("circuits", row, "device", devices, "device")
            self._refer("circuits", row, "far_device", devices, "device")
            self._refer("circuits", row, "reuses", self._ids("circuits"), "circuit")
            self._check_owner("circuits", row, networks)
            self._check_circuit(row)
        self._check_units(rows["circuits"])
        for row in rows["servers"]:
            self._refer("servers", row, "site", sites, "site")
        self._check_services(rows)
        self._check_hosts(rows)
        self._check_ports(rows["circuits"])
        self._check_reach(rows)

    def _check_owner(self, table: str, row: Row, networks: set[str]) -> None:
        owner = row.values["network"]
        if owner in {r.id for r in self.refused}:
            self._at(
                table,
                row,
                "network",
                "belongs to a network marked classified, which is refused",
                "remove this row from the survey",
            )
        elif owner != EXTRANET and owner is not None:
            self._refer(table, row, "network", networks | {EXTRANET}, "network")

    def _check_sites(self, rows: list[Row]) -> None:
        known = self._ids("sites")
        by_id = {r.values["id"]: r for r in rows}
        counties = [r for r in rows if r.values["class"] == SiteClass.COUNTY]
        if len(counties) != 1 and not any("class" in r.bad for r in rows) and "sites" in self.sources:
            self._note(
                self.sources["sites"].file,
                None,
                "class",
                f"expected one site of class county, found {len(counties)}",
                "mark exactly one",
            )
        codes = Counter(r.values["division_code"] for r in rows)
        expected_parent = {SiteClass.TOWN.value: SiteClass.COUNTY.value, SiteClass.VILLAGE.value: SiteClass.TOWN.value}
        for row in rows:
            v = row.values
            if v["division_code"] and codes[v["division_code"]] > 1:
                self._at(
                    "sites",
                    row,
                    "division_code",
                    f"{v['division_code']} is used by {codes[v['division_code']]} sites",
                    "correct it",
                )
            if v["class"] == SiteClass.COUNTY:
                if v["parent"]:
                    self._at("sites", row, "parent", f"expected none for the county, found {v['parent']!r}", "clear it")
                continue
            if v["class"] is None:
                continue
            if not v["parent"]:
                self._at("sites", row, "parent", "expected the site above, found an empty cell", "fill it in")
            elif self._refer("sites", row, "parent", known, "site") and v["parent"] in by_id:
                above, want = by_id[v["parent"]].values["class"], expected_parent[v["class"]]
                if above is not None and above != want:
                    self._at(
                        "sites",
                        row,
                        "parent",
                        f"expected a {want} above a {v['class']}, found {v['parent']!r} ({above})",
                        "correct it",
                    )

    def _check_device(self, row: Row) -> None:
        v = row.values
        if row.bad & {"role", "network"}:
            return
        if (v["role"] == Role.LEGACY) == (v["network"] == EXTRANET):
            self._at(
                "devices",
                row,
                "role",
                f"role {v['role']!r} and network {v['network']!r} contradict each other",
                "legacy routers belong to a legacy network, others to the extranet",
            )
        if v["role"] in {Role.CORE, Role.TOWN} and v["asn"] is None:
            self._at(
                "devices",
                row,
                "asn",
                f"expected an AS number for a {v['role']} router, found none",
                "give it one, unique in the county",
            )

    def _check_as_numbers(self, rows: list[Row]) -> None:
        """One AS number a router: two that share one would refuse each other's routes."""
        first: dict[int, Row] = {}
        for row in rows:
            asn = row.values["asn"]
            if asn in first:
                what = f"AS number {asn} is already {first[asn].values['id']}'s, on row {first[asn].number}"
                self._at("devices", row, "asn", what, "give it one of its own, unique in the county")
            if asn is not None:
                first.setdefault(asn, row)

    def _check_circuit(self, row: Row) -> None:
        v = row.values
        if row.bad & {"network", "device", "far_device"}:
            return
        if v["network"] == EXTRANET:
            need = {"device", "port", "far_device", "far_port"}
            never = {"lan_port", "lan_prefix"}
        elif v["device"] and v["far_device"]:
            need, never = {"port", "lan_port", "far_port", "lan_prefix", "wan_prefix"}, {"reuses"}
        elif v["device"]:
            need, never = {"lan_port", "lan_prefix"}, {"port", "far_port", "wan_prefix", "reuses"}
        else:
            need, never = {"far_device", "far_port", "lan_prefix"}, {"port", "lan_port", "wan_prefix", "reuses"}
        for column in sorted(need):
            if not v[column]:
                self._at(
                    "circuits",
                    row,
                    column,
                    f"expected a value for this kind of circuit ({v['network']}), found an empty cell",
                    "fill it in",
                )
        for column in sorted(never):
            if v[column]:
                self._at(
                    "circuits",
                    row,
                    column,
                    f"expected nothing for this kind of circuit ({v['network']}), found {str(v[column])!r}",
                    "clear it",
                )
        want = 31 if v["network"] == EXTRANET else 30
        if v["wan_prefix"] and v["wan_prefix"].prefixlen != want:
            self._at(
                "circuits", row, "wan_prefix", f"expected a /{want}, found {v['wan_prefix']}", "correct the length"
            )

    def _check_units(self, rows: list[Row]) -> None:
        """One line a network and site: a second one would hide the first from every gate."""
        first: dict[tuple[str, str], Row] = {}
        for row in rows:
            key = (row.values["network"], row.values["site"])
            if None in key or key[0] == EXTRANET or not row.values["lan_prefix"]:
                continue
            if key in first:
                what = f"{key[0]} has a line at {key[1]} already, on row {first[key].number}"
                self._at("circuits", row, "site", what, "declare the second line's people as a site of their own")
            first.setdefault(key, row)

    def _check_services(self, rows: dict[str, list[Row]]) -> None:
        kinds = (
            {r.values["kind"] for r in rows["stations"] if r.values["kind"]}
            | self._ids("stations")
            | {c.value for c in SiteClass}
        )
        names = Counter(r.values["dns_name"] for r in rows["services"])
        servers = self._ids("servers")
        for row in rows["services"]:
            self._refer("services", row, "server", servers, "server")
            if "stations" not in self.unreadable:
                self._refer("services", row, "needed_by", kinds, "site class, station kind or station")
            self._refer("services", row, "families", {f.value for f in Family}, "address family")
            if row.values["dns_name"] and names[row.values["dns_name"]] > 1:
                self._at(
                    "services",
                    row,
                    "dns_name",
                    f"{row.values['dns_name']!r} is used by {names[row.values['dns_name']]} services",
                    "give each its own",
                )
        if "services" in self.sources and not any(r.values["protocol"] == Protocol.DNS for r in rows["services"]):
            self._note(
                self.sources["services"].file,
                None,
                "protocol",
                "expected one service of protocol dns, found none",
                "add the resolver",
            )

    def _check_hosts(self, rows: dict[str, list[Row]]) -> None:
        taken: dict[tuple[str, str, int], str] = {}
        everybody = [("stations", r, p) for r in rows["stations"] for p in r.values["planes"] or ()]
        everybody += [("servers", r, r.values["plane"]) for r in rows["servers"]]
        for table, row, plane in everybody:
            if None in (row.values["site"], plane, row.values["host"]):
                continue
            key = (row.values["site"], plane, row.values["host"])
            if key in taken and taken[key] != row.values["id"]:
                self._at(
                    table,
                    row,
                    "host",
                    f"host {key[2]} in {key[0]}/{plane} is already {taken[key]}'s",
                    "choose another number",
                )
            taken.setdefault(key, row.values["id"])

    def _check_ports(self, rows: list[Row]) -> None:
        taken: dict[tuple[str, str], Row] = {}
        for row in rows:
            v = row.values
            for device, port, column in (
                (v["device"], v["port"], "port"),
                (v["device"], v["lan_port"], "lan_port"),
                (v["far_device"], v["far_port"], "far_port"),
            ):
                if not device or not port:
                    continue
                if (device, port) in taken:
                    first = taken[device, port]
                    self._at(
                        "circuits",
                        row,
                        column,
                        f"port {port!r} of {device} is already used on row {first.number}",
                        "choose another port",
                    )
                taken.setdefault((device, port), row)

    def _check_reach(self, rows: dict[str, list[Row]]) -> None:
        """Each site needs an extranet router, and each non-core extranet router a circuit upwards."""
        routers = {r.values["site"] for r in rows["devices"] if r.values["network"] == EXTRANET}
        known = {r.values["id"] for r in rows["devices"]}
        up = {r.values["device"] for r in rows["circuits"] if r.values["network"] == EXTRANET}
        if not self.sources.keys() >= {"sites", "devices", "circuits"} or known != self._ids("devices"):
            return
        for row in rows["sites"]:
            if row.values["id"] and row.values["id"] not in routers:
                self._at(
                    "sites",
                    row,
                    "id",
                    f"expected an extranet router at {row.values['id']}, found none in devices",
                    "add one to devices",
                )
        served = {r.values["site"] for r in rows["stations"]}
        for row in rows["sites"] if "stations" not in self.unreadable else ():
            if row.values["id"] and row.values["id"] not in served:
                what = f"expected a station at {row.values['id']}, found none: nothing would ever be measured there"
                self._at("sites", row, "id", what, "add one to stations")
        if {r.values["circuit"] for r in rows["circuits"]} != self._ids("circuits"):
            return
        for row in rows["devices"]:
            if row.values["role"] in {Role.TOWN, Role.VILLAGE} and row.values["id"] not in up:
                self._at(
                    "devices",
                    row,
                    "id",
                    f"expected an extranet circuit from {row.values['id']} upwards, found none",
                    "add it to circuits",
                )

    def _check_policy(self, policy: Policy) -> None:
        name = "policy.yaml"
        if policy.pool.prefixlen % 4 or not 16 <= policy.pool.prefixlen <= 44:
            self._note(
                name, None, "pool", f"expected a nibble-aligned /16 to /44, found {policy.pool}", "ask for such a block"
            )
        for kind in (PlaneKind.PUBLIC, PlaneKind.SHARED):
            count = sum(p.kind is kind for p in policy.planes)
            if count != 1:
                self._note(
                    name, None, "planes", f"expected one plane of kind {kind}, found {count}", "correct the kinds"
                )
        for field in ("id", "vlan", "slot"):
            counts = Counter(getattr(p, field) for p in policy.planes)
            for value, count in counts.items():
                if count > 1:
                    self._note(name, None, "planes", f"{field} {value} is used by {count} planes", "give each its own")
        if not policy.shared_ipv4.subnet_of(policy.ipv4_pool):
            self._note(
                name,
                None,
                "shared_ipv4",
                f"expected a part of {policy.ipv4_pool}, found {policy.shared_ipv4}",
                "correct it",
            )
        if policy.ipv4_link_pool.overlaps(policy.ipv4_pool):
            self._note(
                name, None, "ipv4_link_pool", f"overlaps ipv4_pool {policy.ipv4_pool}", "choose a separate range"
            )
        for before, after in pairwise(policy.coverage):
            if after.by <= before.by or after.share < before.share:
                self._note(
                    name,
                    None,
                    "coverage",
                    f"{after.by} ({after.share:.0%}) does not follow {before.by} ({before.share:.0%})",
                    "sort them",
                )

    def _check_planes(self, rows: dict[str, list[Row]], policy: Policy) -> None:
        planes = {p.id: p for p in policy.planes}
        for table, column in (
            ("stations", "planes"),
            ("networks", "plane"),
            ("servers", "plane"),
            ("services", "from_planes"),
        ):
            for row in rows[table]:
                self._refer(table, row, column, planes, PLANE)
        used: dict[str, str] = {}
        for row in rows["networks"]:
            plane = planes.get(row.values["plane"] or "")
            if plane is None:
                continue
            if plane.kind is not PlaneKind.DEDICATED:
                self._at(
                    "networks",
                    row,
                    "plane",
                    f"expected a dedicated plane, found {plane.id!r} ({plane.kind})",
                    "departments get planes of their own",
                )
            if plane.id in used:
                self._at(
                    "networks",
                    row,
                    "plane",
                    f"plane {plane.id!r} is already {used[plane.id]}'s",
                    "give each network its own plane",
                )
            used.setdefault(plane.id, row.values["id"])

    def _check_addresses(self, rows: dict[str, list[Row]], policy: Policy) -> None:
        self._check_ranges(rows)
        taken: dict[str, list[tuple[IPv4Network, Row]]] = {}
        for row in rows["circuits"]:
            v = row.values
            for column in ("lan_prefix", "wan_prefix"):
                net: IPv4Network | None = v[column]
                if net is None:
                    continue
                if v["network"] == EXTRANET and not net.subnet_of(policy.ipv4_link_pool):
                    self._at(
                        "circuits",
                        row,
                        column,
                        f"expected a part of ipv4_link_pool {policy.ipv4_link_pool}, found {net}",
                        "correct it",
                    )
                for other, first in taken.setdefault(v["network"], []):
                    if other.overlaps(net):
                        self._at(
                            "circuits",
                            row,
                            column,
                            f"{net} meets {other} on row {first.number} of the same network",
                            "correct one of them",
                        )
                taken[v["network"]].append((net, row))
        self._check_public_lans(rows["sites"], policy)

    def _check_ranges(self, rows: dict[str, list[Row]]) -> None:
        """Each legacy circuit lies in its network's prefixes; many outside are one mistake, said where it was made."""
        for network in rows["networks"]:
            prefixes = network.values["prefixes"]
            if not prefixes:
                continue  # said already, and nothing can be held against it
            outside: list[tuple[Row, str, IPv4Network]] = [
                (row, column, row.values[column])
                for row in rows["circuits"]
                for column in ("lan_prefix", "wan_prefix")
                if row.values["network"] == network.values["id"]
                and row.values[column] is not None
                and not any(row.values[column].subnet_of(p) for p in prefixes)
            ]
            if len(outside) > FEW:
                what = (
                    f"{counted(len(outside), 'prefix', 'prefixes')} in circuits lie outside "
                    f"{', '.join(map(str, prefixes))}, first {outside[0][2]} "
                    f"(circuits {_list_rows(str(row.number) for row, _, _ in outside)})"
                )
                self._at("networks", network, "prefixes", what, "correct or add a range here, or correct those rows")
                continue
            for row, column, net in outside:
                what = f"expected a part of {network.values['id']}'s prefixes, found {net}"
                self._at("circuits", row, column, what, "correct it, or add the range to networks")

    def _check_public_lans(self, rows: list[Row], policy: Policy) -> None:
        lans: list[tuple[IPv4Network, int]] = []
        for row in rows:
            net = row.values["public_ipv4"]
            if net is None:
                continue
            if not net.subnet_of(policy.ipv4_pool) or net.overlaps(policy.shared_ipv4):
                self._at(
                    "sites",
                    row,
                    "public_ipv4",
                    f"expected a part of ipv4_pool {policy.ipv4_pool} outside shared_ipv4, found {net}",
                    "correct it",
                )
            for other, number in lans:
                if other.overlaps(net):
                    self._at("sites", row, "public_ipv4", f"{net} meets {other} on row {number}", "correct one of them")
            lans.append((net, row.number))

    # building

    def _build(self, header: Header, policy: Policy, rows: dict[str, list[Row]]) -> County:
        plane_of = {r.values["id"]: r.values["plane"] for r in rows["servers"]}

        def make(table: str, build: Callable[[dict[str, Any], int], _M]) -> tuple[_M, ...]:
            return tuple(build(dict(r.values), r.number) for r in rows[table])

        def rename(values: dict[str, Any], old: str, new: str) -> dict[str, Any]:
            values[new] = values.pop(old)
            return values

        def keep(values: dict[str, Any]) -> dict[str, Any]:
            return {k: v for k, v in values.items() if v is not None}

        def network(values: dict[str, Any], number: int) -> LegacyNetwork:
            del values["classified"]
            return LegacyNetwork(**values, row=number)

        def service(values: dict[str, Any], _: int) -> Service:
            values["dns_name"] = f"{values['dns_name']}.{policy.dns_domain}"
            return Service(**values, plane=plane_of[values["server"]])

        return County(
            id=header.id,
            name=header.name,
            name_en=header.name_en,
            division_code=header.division_code,
            policy=policy,
            sites=make(
                "sites",
                lambda v, _: Site(**{"parent": None, **keep(rename(v, "class", "site_class"))}),
            ),
            stations=make("stations", lambda v, _: Station(**v)),
            networks=make("networks", network),
            devices=make("devices", lambda v, _: Device(**v)),
            circuits=make("circuits", lambda v, _: Circuit(**_circuit_values(rename(v, "circuit", "id")))),
            servers=make("servers", lambda v, _: Server(**v)),
            services=make("services", service),
            refused=self.refused,
        )


def _list_rows(numbers: Iterable[str]) -> str:
    """Write row numbers, each once: `row 4`, `rows 4, 5`, with many only how many more."""
    found = list(dict.fromkeys(numbers))
    more = f" and {counted(len(found) - LISTED, 'more row')}" if len(found) > LISTED else ""
    return f"{'row' if len(found) == 1 else 'rows'} {', '.join(found[:LISTED])}{more}"


def _circuit_values(values: dict[str, Any]) -> dict[str, Any]:
    values["provider"] = values["provider"] or ""
    return values
