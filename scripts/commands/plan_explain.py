"""`extranet plan explain`: whose an address is; by hand, or for a whole log as it streams by."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from enum import StrEnum
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from scripts.commands._shell import HERE, AsJson, CountyDir, boundary, console, print_json

if TYPE_CHECKING:
    from addressing.attribution import Attribution, Attributor, Lang
    from addressing.text import Prefix

_PIECE = 1 << 20
_KEPT = 1 << 17
"""Addresses of which what is said is kept; then forgotten all at once."""
_WITH_PORT = re.compile(r"\[([^\[\]]+)\]:[0-9]+|([0-9]+(?:\.[0-9]+){3}):[0-9]+", re.ASCII)
"""An address with a port, as programs write it: IPv6 in brackets, or IPv4."""
_LONGEST_LINE = 1 << 20
"""Longer lines are passed on without being read."""


class Language(StrEnum):
    """Languages of what is said."""

    EN = "en"
    ZH = "zh"


@boundary
def explain(
    addresses: Annotated[list[str] | None, typer.Argument(help="Addresses, IPv6 or IPv4.")] = None,
    county: CountyDir = HERE,
    plan: Annotated[
        Path | None, typer.Option(help="A plan of either kind (default: the county's plan/addresses.json).")
    ] = None,
    field: Annotated[str, typer.Option(help="With --stdin: the name of what is added.")] = "plan",
    lang: Annotated[Language, typer.Option(help="Language of what is said.")] = Language.EN,
    *,
    stdin: Annotated[
        bool,
        typer.Option("--stdin", help="Copy a log from standard input, saying of each line whose its addresses are."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Say whose addresses are: county, town, village, plane and purpose.

    With --stdin each line is copied as it comes, and ` plan="..."` added for each address in it (plan_2 and so on for
    more); lines without addresses are left as they are. With --json each line becomes a line of JSON: an object gets the
    field, other text an object around it.
    Exit 0 when all addresses are in use by the plan, 1 when one is not, 2 when one is no address.
    """
    from inventory.errors import ExtranetError

    asked = addresses or []
    if stdin == bool(asked):
        raise ExtranetError("expected addresses, or --stdin for a log, and not both")
    if not field.isidentifier():
        raise ExtranetError(f"--field {field!r}: expected a name of letters, digits and _")
    if stdin:
        stream(make_attributor(plan, county), field, lang.value, as_json=as_json)
        return
    parsed = read_addresses(asked)
    attributor = make_attributor(plan, county)
    found = [attributor.explain(address) for address in parsed]
    if as_json:
        print_json([one.as_json(lang.value) for one in found])
    else:
        show(found, lang.value)
    if not all(one.planned for one in found):
        raise typer.Exit(1)


def read_addresses(asked: list[str]) -> list[Prefix]:
    """Return addresses typed by hand; every one that is none is named at once.

    Raises:
        InputProblemsError: some are no addresses.
    """
    from addressing.text import BITS, AddressTextError, parse_prefix
    from inventory.errors import InputProblemsError, Problem

    out: list[Prefix] = []
    problems: list[Problem] = []
    for text in asked:
        try:
            bare = _WITH_PORT.fullmatch(text.strip())
            clean = ((bare[1] or bare[2]) if bare else text).partition("%")[0].strip("[]")
            if clean and not {":", ".", "：", "．", "。"} & set(clean):
                raise AddressTextError(
                    text, "neither an IPv6 nor an IPv4 address", "write one like 2001:db8::1 or 192.0.2.1"
                )
            address = parse_prefix(clean)
            if address.length < BITS[address.version]:
                raise AddressTextError(text, "expected an address, found a prefix", "leave its length away")
            out.append(address)
        except AddressTextError as error:
            problems.append(Problem(file=repr(text), row=None, column=None, what=error.what, todo=error.todo))
    if problems:
        raise InputProblemsError(problems)
    return out


def make_attributor(plan: Path | None, county: Path) -> Attributor:
    """Return the attributor of a plan; the county's own plan also names stations, servers and routers."""
    from addressing.attribution import Attributor
    from addressing.hierarchyfile import load_plan
    from addressing.model import AddressPlan
    from addressing.planfile import plan_path
    from inventory.reader import load_county

    found = load_plan(plan or plan_path(county))
    if isinstance(found, AddressPlan) and (plan is None or (county / "county.yaml").exists()):
        owner = load_county(county)
        if owner.id == found.county:
            return Attributor(found, owner)
    return Attributor(found)


def show(found: list[Attribution], lang: Lang) -> None:
    """Print explanations, one a line."""
    from rich.markup import escape

    for one in found:
        colour = "green" if one.planned else "red"
        within = f" [dim]{one.prefix}[/]" if one.prefix else ""
        console().print(f"{one.address:24} [{colour}]{one.state}[/] {escape(one.say(lang))}{within}")


def stream(attributor: Attributor, field: str, lang: Lang, *, as_json: bool) -> None:
    """Copy standard input to standard output, enriched, as fast as it comes; who stops reading ends it quietly."""
    enrich = Enricher(attributor, field, lang, as_json=as_json).enrich
    out = sys.stdout.buffer
    try:
        for lines in read_lines(sys.stdin.buffer):
            out.write(b"".join(map(enrich, lines)))
            out.flush()
    except KeyboardInterrupt:
        raise typer.Exit(4) from None
    except BrokenPipeError:
        # Nobody reads any more, as after `| head`: no error, and no complaint when Python closes its streams.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def read_lines(source: BinaryIO) -> Iterator[list[bytes]]:
    """Yield the lines that are there, with their ends, as soon as they are; of a line too long only pieces, unmarked.

    A piece that is no whole line is longer than _LONGEST_LINE, or has no end: nothing is to be added to it.
    """
    rest, passing = b"", False
    read = getattr(source, "read1", source.read)
    while piece := read(_PIECE):
        whole, mark, tail = (rest + piece).rpartition(b"\n")
        lines = [line + b"\n" for line in whole.split(b"\n")] if mark else []
        if passing and lines:
            yield [_Raw(lines.pop(0))]
            passing = False
        yield lines
        rest = tail
        if passing or len(rest) > _LONGEST_LINE:
            yield [_Raw(rest)]
            rest, passing = b"", True
    if rest:
        yield [rest]


class _Raw(bytes):
    """Part of a line: passed on as it is."""

    __slots__ = ()


class Enricher:
    """Adds to a line of a log what the addresses in it are."""

    def __init__(self, attributor: Attributor, field: str, lang: Lang, *, as_json: bool) -> None:
        from addressing.attribution import find_tokens

        self.attributor, self.field, self.lang, self.as_json = attributor, field, lang, as_json
        self.find = find_tokens
        self._said: dict[str, str] = {}

    def enrich(self, line: bytes) -> bytes:
        """Return a line with what is added before its end; bytes that are no text pass as they are."""
        if isinstance(line, _Raw) or len(line) > _LONGEST_LINE:
            return line
        text = line.decode("latin-1")  # every byte is a character, and none is refused
        tokens = self.find(text, ipv4=True)
        if self.as_json:
            return self._wrap(line, tokens)
        said = dict.fromkeys(filter(None, map(self._say, tokens)))
        if not said:
            return line
        body = line.rstrip(b"\r\n")
        added = "".join(
            f" {self.field}_{n}={one}" if n > 1 else f" {self.field}={one}" for n, one in enumerate(said, 1)
        )
        return body + added.encode() + line[len(body) :]

    def _recall(self, token: str) -> Attribution | None:
        one = self.attributor.recall(token)
        # Four numbers may be a version; IPv4 that is not of the plan is passed over.
        return one if one is not None and (":" in token or one.state != "outside") else None

    def _say(self, token: str) -> str:
        """Return what is said of a token, in quotes; empty when it is no address."""
        if token not in self._said:
            if len(self._said) >= _KEPT:
                self._said.clear()
            one = self._recall(token)
            words = f"{one.address} {one.state}: {one.say(self.lang)}" if one is not None else ""
            escaped = words.replace("\\", "\\\\").replace('"', '\\"')
            self._said[token] = f'"{escaped}"' if words else ""
        return self._said[token]

    def _names(self) -> Iterator[str]:
        """Yield the field's name, and what it is called where an object has that one already."""
        yield self.field
        yield from (f"{self.field}_{n}" for n in count(2))

    def _wrap(self, line: bytes, tokens: list[str]) -> bytes:
        body = line.rstrip(b"\r\n")
        found = {one.address: one for one in map(self._recall, tokens) if one is not None}
        added = json.dumps([one.as_json(self.lang) for one in found.values()], ensure_ascii=False)
        try:
            whole = json.loads(body.decode())
        except (ValueError, RecursionError):
            whole = None
        if isinstance(whole, dict):
            name = next(n for n in self._names() if n not in whole)
            # The object itself is copied as it is; only the field comes before its last brace.
            start = body.rstrip()[:-1].rstrip()
            comma = "" if start.endswith(b"{") else ", "
            return start + f'{comma}"{name}": {added}}}\n'.encode()
        text = body.decode("utf-8", "backslashreplace")
        return f'{{"line": {json.dumps(text, ensure_ascii=False)}, "{self.field}": {added}}}\n'.encode()
