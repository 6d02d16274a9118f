"""Read a county's folder into a `County`, or list everything that is wrong with it in one pass.

Files: `county.yaml`, `policy.yaml`, and the tables sites, stations, networks, devices, circuits, servers and
services (CSV, or sheets of survey.xlsx). A network marked classified is refused at the door: nothing that belongs
to it enters the model, and a row elsewhere that refers to it is a problem.
"""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import Field, ValidationError, field_validator

from inventory import tables
from inventory.checks import check_addresses, check_planes, check_policy, check_tables
from inventory.columns import COLUMNS
from inventory.errors import InputProblemsError
from inventory.files import NOT_REGULAR, is_irregular
from inventory.findings import Findings
from inventory.keys import parse_public_key
from inventory.ledgerurl import check_ledger_url
from inventory.model import (
    Circuit,
    County,
    Device,
    LegacyNetwork,
    Model,
    Policy,
    RefusedNetwork,
    Server,
    Service,
    Site,
    SiteClass,
    Station,
)
from inventory.tables import Row
from inventory.yamlfile import YamlProblemError, parse_yaml

__all__ = ["COLUMNS", "Header", "Overlap", "find_overlaps", "load_county", "restrict_to_towns"]

_M = TypeVar("_M", bound=Model)


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

    ledger_url: str | None = Field(
        default=None,
        description="the PostgreSQL database that holds the ledger, without a password; without it, a file in this folder",
        examples=["postgresql://extranet@db.example/yichuan"],
    )

    checkpoint_keys: tuple[str, ...] = Field(
        default=(),
        description="who signs the ledger's checkpoints: with it, a ledger without one, or other than they say, is refused",
        examples=[["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINrDZ8oLB3BMMrJpSbLMSuVKMYSzZdEkzXqKTMxdKj1b"]],
    )
    checkpoint_copies: str | None = Field(
        default=None,
        min_length=1,
        description="a second folder for checkpoints, on another machine's disk: shows when this whole folder was put back",
        examples=["/mnt/office/yichuan-checkpoints"],
    )

    @field_validator("checkpoint_keys")
    @classmethod
    def _take_keys(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for line in value:
            try:
                parse_public_key(line)
            except ValueError as error:
                todo = "write the line that 'extranet ledger checkpoint' prints"
                raise tables.CellError(str(error), todo) from None
        return value

    @field_validator("ledger_url")
    @classmethod
    def _take_url(cls, value: str | None) -> str | None:
        if value is None:
            return None
        try:
            return check_ledger_url(value)
        except ValueError as error:
            raise tables.CellError(str(error), "write postgresql://USER@HOST/DATABASE") from None

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
    if county is None:
        raise InputProblemsError(reader.found.in_order())
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


class _Reader:
    """One pass over a folder. Each `_read_*` notes problems and returns what it could make."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.found = Findings()
        self.refused: tuple[RefusedNetwork, ...] = ()

    def read(self) -> County | None:
        if not self.folder.is_dir():
            todo = "name a county's folder with --county DIR, or make one with 'extranet init DIR'"
            self.found.note(str(self.folder), None, None, "no such folder", todo)
            return None
        try:
            here = (self.folder / "county.yaml").exists()
        except PermissionError:
            todo = "let whoever runs this enter the folder and read its files"
            self.found.note(str(self.folder), None, None, "this user may not look into this folder", todo)
            return None
        if not here:
            self.found.note(
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
        check_tables(self.found, rows, frozenset(r.id for r in self.refused))
        if policy is not None:
            check_policy(self.found, policy)
            check_planes(self.found, rows, policy)
            check_addresses(self.found, rows, policy)
        self.found.tell_strays()
        if header is None or policy is None or self.found.problems:
            return None
        return self._build(header, policy, rows)

    # reading

    def _read_yaml(self, name: str, model: type[_M]) -> _M | None:
        path = self.folder / name
        if is_irregular(path):
            self.found.note(name, None, None, NOT_REGULAR, f"put a file {name} there")
            return None
        try:
            data = parse_yaml(path.read_text("utf-8-sig"))
        except FileNotFoundError:
            self.found.note(
                name, None, None, "expected this file, found none", f"make {name}; the sample county has one to copy"
            )
            return None
        except OSError as error:
            self.found.note(name, None, None, f"cannot be read ({error.strerror})", "check it")
            return None
        except UnicodeDecodeError as error:
            self.found.note(name, None, None, f"cannot be read ({error})", "save it as UTF-8 text")
            return None
        except YamlProblemError as error:
            self.found.note(name, error.row, None, f"not YAML ({error.what})", "correct it")
            return None
        if not isinstance(data, dict):
            self.found.note(
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
                    self.found.note(name, None, where, cause.what, cause.todo)
                    continue
                found = "" if e["type"] in {"missing", "value_error"} else f", found {e['input']!r}"
                self.found.note(name, None, where, f"{e['msg'].lower()}{found}", "correct the value")
            return self._salvage(data, model, {str(e["loc"][0]) for e in error.errors() if e["loc"]})

    def _salvage(self, data: dict[str, Any], model: type[_M], bad: set[str]) -> _M | None:
        """Read without the bad optional fields, so that the tables can still be checked against the rest."""
        if any(field not in model.model_fields or model.model_fields[field].is_required() for field in bad):
            return None
        return model.model_validate({k: v for k, v in data.items() if k not in bad})

    def _read_rows(self, name: str) -> list[Row]:
        source = tables.load_table(self.folder, name, self.found.problems)
        if source is None:
            return []
        self.found.sources[name] = source
        self.found.unreadable.discard(name)
        rows = tables.parse_table(source, COLUMNS[name], self.found.problems)
        if not rows and source.rows:
            self.found.unreadable.add(name)
        first = COLUMNS[name][0].name
        seen: dict[str, int] = {}
        for row in rows:
            key = row.values[first]
            if key is None:
                continue
            if key in seen:
                self.found.at(
                    name, row, first, f"{key!r} is already on row {seen[key]}", "give each its own identifier"
                )
                self.found.doubled[name].append(row.number)
            seen.setdefault(key, row.number)
        return rows

    def _turn_away(self, rows: list[Row]) -> tuple[list[Row], tuple[RefusedNetwork, ...]]:
        """Apply the scope guard: classified networks leave the inventory here and are never seen again."""
        refused = tuple(
            RefusedNetwork(id=r.values["id"], name=r.values["name"] or "", row=r.number)
            for r in rows
            if r.values["classified"] and r.values["id"]  # what could not be read was said already
        )
        kept = [r for r in rows if not r.values["classified"]]
        for row in kept:
            for column in ("plane", "prefixes", "lead", "responsible"):
                if not row.values[column]:
                    self.found.at("networks", row, column, "expected a value, found an empty cell", "fill it in")
        return kept, refused

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


def _circuit_values(values: dict[str, Any]) -> dict[str, Any]:
    values["provider"] = values["provider"] or ""
    return values
