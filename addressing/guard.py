"""Nothing that is made from a plan is written over a plan, a certificate, or what it is made from."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable
from pathlib import Path

from inventory.errors import GateRefusedError

_HEADER = ["code", "name", "level", "parent", "prefix", "id", "home", "slot", "state", "into"]
_COUNTY_FILES = frozenset(
    {
        *("county.yaml", "policy.yaml", "access.yaml"),
        *(f"{t}.csv" for t in ("sites", "stations", "networks", "devices", "circuits", "servers", "services")),
    }
)
_HEAD, _TAIL = 1 << 20, 1 << 16
"""How much of a file's begin and end is looked at, in bytes."""
_FORMAT = re.compile(rb'"format"\s*:\s*"extranet (hierarchy plan|plan certificate)/')
_COUNTY = (re.compile(rb'"records"\s*:'), re.compile(rb'"pool"\s*:'))


def refuse_plan(path: Path, inputs: Iterable[Path | None] = ()) -> None:
    """See that `path` may be written over: it is no plan, no certificate, and none of the inputs (or in one's folder).

    Raises:
        GateRefusedError: it is one; nothing was written.
    """
    what = ""
    for read in inputs:
        if read is not None and _is_same(path, read):
            what = "is read by this very command"
    what = what or _name_content(path)
    if what:
        raise GateRefusedError(f"{path}: {what}, and would be lost; choose another name")


def _is_same(path: Path, read: Path) -> bool:
    try:
        # Of a county's folder its tables and settings are read, not what else lies there.
        inside = read.is_dir() and path.name in _COUNTY_FILES and path.resolve().parent == read.resolve()
        return path.exists() and (path.samefile(read) if read.exists() and not read.is_dir() else inside)
    except OSError:
        return False


def _name_content(path: Path) -> str:
    """Say what a file is, if it must not be lost; empty when it may be."""
    try:
        if not path.is_file():
            return ""
        if path.name.endswith(".certificate.json"):
            return "is a plan's certificate"
        with path.open("rb") as file:
            head = file.read(_HEAD)
            file.seek(max(path.stat().st_size - _TAIL, 0))
            ends = head + b"\n" + file.read(_TAIL)
    except OSError as error:
        return f"cannot be read ({error.strerror}), so it may be a plan"
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text[:1] == b"{":
        found = _FORMAT.search(ends)
        if found:
            return "is a plan's certificate" if b"certificate" in found[1] else "is a plan"
        return "is a county's plan" if all(key.search(ends) for key in _COUNTY) else ""
    first = text[:4096].splitlines()[:1]
    cells = next(csv.reader([first[0].decode("utf-8", "replace")]), []) if first else []
    return "is a plan" if [cell.strip() for cell in cells] == _HEADER else ""
