"""The one error tree. `str()` of each is one line a person can act on: where; what; what to do.

ExtranetError                exit 2   bad usage or input
├── InputProblemsError       exit 2   every problem of the files at once
├── UnknownNameError         exit 2   no such unit, station, device ...; near matches named
├── AccessMissingError       exit 2   no lab is up and no real network is described
├── CheckFailedError         exit 1   a check ran and failed
├── GateRefusedError         exit 3   a gate said no; reasons by station
├── ScopeGuardError          exit 3   classified: never, by nobody
├── InterruptedRunError      exit 4   unknown outcome: ask again, the ledger knows where it stopped
└── nornir_tasks.drivers.DeviceError  exit 4   something about one device
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import ClassVar

from inventory.model import Model

_SUGGESTED, _SPELLINGS, _FEW = 3, 16, 12
"""How many near matches to name, how many spellings to look through for them, and how many names a message lists whole."""
_LISTED_BY = {
    "unit": "'extranet status --json' lists them",
    "station": "the table stations lists them",
    "device": "the table devices lists them",
    "extranet router": "the table devices lists them",
    "service": "the table services lists them",
    "circuit": "the table circuits lists them",
}
"""Where a person finds every name, by kind."""


class Problem(Model):
    """One thing wrong in an input file. `row` is the line a person sees in an editor or a sheet (1 = header)."""

    file: str
    row: int | None
    column: str | None
    what: str
    todo: str
    sheet: str | None = None

    def __str__(self) -> str:
        where = self.file + (f" sheet {self.sheet}" if self.sheet else "")
        where += f":{self.row}" if self.row is not None else ""
        where += f" [{self.column}]" if self.column else ""
        return f"{where}: {self.what}; {self.todo}"


class ExtranetError(Exception):
    """Base of all errors meant for people."""

    exit_code: ClassVar[int] = 2


class InputProblemsError(ExtranetError):
    """Every problem of a county's files, found in one pass."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(p) for p in self.problems))


class UnknownNameError(ExtranetError):
    """A name that is not there.

    Where one thing goes by several names, `known` maps each name to the thing: a thing is suggested once, and counted
    once. `where` is what does not hold it, `see` the command that lists what there is where that does not follow from
    `kind`. Without a near match a few are named all; with `listed` the message always does.
    """

    def __init__(
        self,
        kind: str,
        name: str,
        known: Iterable[str] | Mapping[str, str],
        *,
        where: str = "the inventory",
        see: str = "",
        listed: bool = False,
    ) -> None:
        self.kind, self.name = kind, name
        things = known if isinstance(known, Mapping) else {n: n for n in known}
        closest: dict[str, str] = {}
        for spelling in get_close_matches(name, sorted(things), n=_SPELLINGS, cutoff=0.5):
            closest.setdefault(things[spelling], spelling)
        self.near = list(closest.values())[:_SUGGESTED]
        if listed:
            hint = f"did you mean {', '.join(self.near)}?" if self.near else "choose one of them"
            super().__init__(f"{kind}: expected one of {', '.join(things)}, found {name!r}; {hint}")
            return
        there = list(dict.fromkeys(things.values()))
        lists = f"see '{see}'" if see else _LISTED_BY.get(kind, "")
        if self.near:
            hint = f"did you mean {', '.join(self.near)}?"
        elif len(there) <= _FEW:
            hint = f"expected one of {', '.join(there)}" if there else "there is none"
        else:
            hint = "; ".join(filter(None, (f"there are {len(there)}", lists)))
        super().__init__(f"{kind} {name!r}: not in {where}; {hint}")


class CheckFailedError(ExtranetError):
    """A check ran and failed."""

    exit_code = 1


class GateRefusedError(ExtranetError):
    """A gate said no."""

    exit_code = 3


class ScopeGuardError(ExtranetError):
    """A classified network: refused at the door."""

    exit_code = 3


class InterruptedRunError(ExtranetError):
    """The outcome is not known."""

    exit_code = 4
