"""What is wrong with a county's files, gathered in one pass: said where a person mends it, causes before what follows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from difflib import get_close_matches

from inventory import tables
from inventory.columns import COLUMNS
from inventory.errors import Problem
from inventory.model import Model
from inventory.tables import Row
from inventory.wording import counted

PLANE = "plane (policy.yaml)"
KINDS = {"site": "sites", "device": "devices", "circuit": "circuits", "server": "servers", "network": "networks"}
"""Kinds of names that rows refer to, each with the table that holds them."""
LISTED = 10


class _Stray(Model):
    """A cell that names what is not there."""

    table: str
    row: Row
    column: str
    hint: str


def _read_ids(name: str, source: tables.TableSource) -> set[str]:
    first = COLUMNS[name][0]
    for index, raw in enumerate(source.header):
        if tables.plain(raw).lower() in {first.name, first.chinese}:
            return {tables.plain(cells[index]).lower() for _, cells in source.rows if index < len(cells)}
    return set()


class Findings:
    """The problems of one county's files, with what of its tables could be read."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self.sources: dict[str, tables.TableSource] = {}
        self._ids: dict[str, tuple[tables.TableSource, set[str]]] = {}
        self.unreadable: set[str] = set(COLUMNS)
        self.doubled: dict[str, list[int]] = defaultdict(list)
        """By table, the rows whose identifier is another row's."""
        self.strays: dict[tuple[str, str], list[_Stray]] = defaultdict(list)
        """By kind and name, the cells that name what is not there."""
        self.echoes: set[Problem] = set()
        """Problems that most likely follow from another one of the same file."""

    def in_order(self) -> list[Problem]:
        """Return the problems, each once: by file, row and column, causes first."""
        return sorted(set(self.problems), key=self._place_of)

    def _place_of(self, problem: Problem) -> tuple[str, str, bool, int, str, str]:
        p = problem
        return p.file, p.sheet or "", p in self.echoes, p.row or 0, p.column or "", p.what

    def ids(self, name: str) -> set[str]:
        """Ids of a table, those of rows with problems included: one mistake must not echo through other tables."""
        source = self.sources.get(name)
        if source is None:
            return set()
        if name not in self._ids or self._ids[name][0] is not source:
            self._ids[name] = source, _read_ids(name, source)
        return self._ids[name][1]

    def note(self, file: str, row: int | None, column: str | None, what: str, todo: str) -> None:
        """Note a problem of a file."""
        self.problems.append(Problem(file=file, row=row, column=column, what=what, todo=todo))

    def at(self, table: str, row: Row, column: str | None, what: str, todo: str) -> None:
        """Note a problem of a row's cell, unless that could not even be read."""
        if column in row.bad:
            return  # said already, when the cell was read
        source = self.sources[table]
        self.problems.append(
            Problem(file=source.file, sheet=source.sheet, row=row.number, column=column, what=what, todo=todo)
        )

    def refer(self, table: str, row: Row, column: str, known: Iterable[str], kind: str) -> bool:
        """Tell whether a cell names only what is there; what is not is kept for `tell_strays`."""
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

    def tell_strays(self) -> None:
        """Say what is named and not there: one cell at its place, several as one mistake, where the name is missing."""
        for (kind, name), strays in self.strays.items():
            holder = self._holder_of(kind)
            if holder is None or len(strays) == 1:
                for stray in strays:
                    what = f"expected a known {kind}, found {name!r}"
                    self.at(stray.table, stray.row, stray.column, what, stray.hint)
                continue
            numbers: dict[str, list[str]] = defaultdict(list)
            for stray in strays:
                numbers[stray.table].append(str(stray.row.number))
            total = sum(len(set(found)) for found in numbers.values())
            verb, noun = "names" if total == 1 else "name", kind.partition(" ")[0]
            places = "; ".join(f"{table} {list_rows(found)}" for table, found in numbers.items())
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


def list_rows(numbers: Iterable[str]) -> str:
    """Write row numbers, each once: `row 4`, `rows 4, 5`, with many only how many more."""
    found = list(dict.fromkeys(numbers))
    more = f" and {counted(len(found) - LISTED, 'more row')}" if len(found) > LISTED else ""
    return f"{'row' if len(found) == 1 else 'rows'} {', '.join(found[:LISTED])}{more}"
