"""`extranet plan export`: the plan in the formats of the tools that read it."""

from __future__ import annotations

import sys
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from addressing.exports import EXPORTS
from inventory.wording import counted
from scripts.commands._shell import HERE, AsJson, CountyDir, boundary, console, print_json

if TYPE_CHECKING:
    from addressing.exports import Content, Export
    from inventory.model import County

_DATE = ["%Y-%m-%d"]
_STDOUT = "-"


class Lang(StrEnum):
    """Languages of headers and of words."""

    EN = "en"
    ZH = "zh"


@boundary
def export(
    plan: Annotated[
        Path | None,
        typer.Argument(help="The plan's file (default: plan/addresses.json in the county).", show_default=False),
    ] = None,
    county: CountyDir = HERE,
    *,
    file_format: Annotated[
        str, typer.Option("--format", "-f", help=f"One of {', '.join(EXPORTS)}; --formats says what each is.")
    ] = "csv",
    out: Annotated[
        Path | None,
        typer.Option(help="Where to write; a folder for formats of several files (default: standard output)."),
    ] = None,
    lang: Annotated[Lang, typer.Option(help="Headers and words in English or Chinese.")] = Lang.EN,
    under: Annotated[
        str,
        typer.Option(
            help="Only what lies under this division (code or name), plane, town or site.", show_default=False
        ),
    ] = "",
    level: Annotated[
        str,
        typer.Option(
            help="Only this level (4 or town); for zones and delegation: what is delegated.", show_default=False
        ),
    ] = "",
    nameserver: Annotated[
        list[str] | None, typer.Option(help="reverse-dns: an authoritative server; give it again for more.")
    ] = None,
    delegate_to: Annotated[
        list[str] | None, typer.Option(help="reverse-dns: a delegated zone's server, such as ns.{code}.example.")
    ] = None,
    hostmaster: Annotated[str, typer.Option(help="reverse-dns: mailbox of the SOA (default: of the domain).")] = "",
    serial: Annotated[int, typer.Option(help="reverse-dns: serial of the SOA (default: the plan's version).")] = 0,
    domain: Annotated[str, typer.Option(help="reverse-dns: domain of routers' names (default: the county's).")] = "",
    rir: Annotated[str, typer.Option(help="netbox: who assigned the pools.")] = "Government extranet",
    namespace: Annotated[str, typer.Option(help="nautobot: namespace of the prefixes.")] = "Global",
    tenant: Annotated[str, typer.Option(help="netbox, nautobot: tenant of what has no other.")] = "",
    dual_stack_from: Annotated[
        datetime | None, typer.Option(formats=_DATE, help="dual-stack: day from which both run.", show_default=False)
    ] = None,
    single_stack_from: Annotated[
        datetime | None,
        typer.Option(formats=_DATE, help="dual-stack: day from which only IPv6 runs.", show_default=False),
    ] = None,
    subnets: Annotated[bool, typer.Option("--subnets", help="With each division's subnets, by its template.")] = False,
    formats: Annotated[bool, typer.Option("--formats", help="Say what formats there are.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write the plan for another tool: tables, address databases, filters, zones, routes, delegation.

    A file or folder appears whole or not at all. Nothing to export is an error, not an empty file.
    """
    from addressing.exports import ExportOptions
    from addressing.guard import refuse_plan
    from addressing.hierarchyfile import load_plan
    from addressing.model import AddressPlan
    from addressing.planfile import plan_path, read_plan
    from inventory.errors import ExtranetError, UnknownNameError
    from inventory.files import check_writable

    if formats:
        _list_formats(as_json=as_json)
        return
    if file_format not in EXPORTS:
        raise UnknownNameError(
            "format", file_format, EXPORTS, where="the formats", see="extranet plan export --formats"
        )
    chosen = EXPORTS[file_format]
    to_file = out is not None and str(out) != _STDOUT
    if not to_file and (as_json or not chosen.extension or chosen.name == "xlsx"):
        kind = "a folder" if not chosen.extension else "a file"
        what = "--json reports what was written" if as_json else f"--format {chosen.name} makes {kind}"
        raise ExtranetError(f"{what}; name it with --out")
    if out is not None and to_file:
        refuse_plan(out, [plan or plan_path(county), county])
        if chosen.extension:
            check_writable(out, make_folders=True)
    found = load_plan(plan) if plan else read_plan(plan_path(county))
    place = _load_inventory(county) if isinstance(found, AddressPlan) else None
    home = (domain or (place.policy.dns_domain if place else "example")).rstrip(".")
    options = ExportOptions(
        lang="zh" if lang is Lang.ZH else "en",
        under=under,
        level=level,
        subnets=subnets,
        county=place,
        rir=rir,
        namespace=namespace,
        tenant=tenant,
        nameservers=tuple(nameserver or (f"ns1.{home}.", f"ns2.{home}.")),
        delegate_to=tuple(delegate_to or ()),
        hostmaster=hostmaster or f"hostmaster.{home}.",
        serial=serial,
        domain=home,
        dual_stack_from=dual_stack_from.date().isoformat() if dual_stack_from else "",
        single_stack_from=single_stack_from.date().isoformat() if single_stack_from else "",
    )
    content = chosen.write(found, options)
    if out is None or not to_file:
        _print_content(content)
        return
    _write(chosen, content, out, as_json=as_json)


def _load_inventory(county: Path) -> County | None:
    """Return the county whose folder this is, if it is one: tenants, domain and old IPv4 LANs come from it."""
    from inventory.reader import load_county

    return load_county(county) if (county / "county.yaml").exists() else None


def _list_formats(*, as_json: bool) -> None:
    if as_json:
        rows = [
            {"name": e.name, "extension": e.extension, "about": e.about, "chinese": e.chinese, "plans": e.kinds}
            for e in EXPORTS.values()
        ]
        print_json(rows)
        return
    width = max(map(len, EXPORTS))
    for one in EXPORTS.values():
        only = "" if len(one.kinds) > 1 else f" ({one.kinds[0]}'s plan only)"
        sys.stdout.write(f"{one.name:{width}}  {one.about}{only} · {one.chinese}\n")


def _print_content(content: Content) -> None:
    if isinstance(content, str):
        sys.stdout.write(content)
    elif isinstance(content, bytes):
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()


def _write(chosen: Export, content: Content, out: Path, *, as_json: bool) -> None:
    from rich.markup import escape

    from addressing.exports.output import write_export

    write_export(out, content, chosen.name)
    if isinstance(content, dict):
        size, files = sum(len(text.encode()) for text in content.values()), len(content)
    else:
        size, files = len(content.encode() if isinstance(content, str) else content), 1
    if as_json:
        print_json({"out": str(out), "format": chosen.name, "files": files, "bytes": size})
        return
    console().print(f"[bold]{escape(str(out))}[/]: {chosen.about}; {counted(files, 'file')}, {counted(size, 'byte')}")
