"""Overlaps that come about when VRFs leak routes to one another, by route targets (RFC 4364, 4.3.1).

The model: VRF A leaks into B when A exports a target that B imports. What is leaked are A's own prefixes. A VRF that
imports does not pass on what it imported, unless it is marked `transit` (hairpins and re-exports do so on some
platforms). Two VRFs conflict at a place, a VRF, where prefixes of both are seen and meet: B's own and those leaked into
it, or those of A and B leaked into a third, where the way back is then anybody's guess. A more specific prefix inside
another VRF's is a conflict as well: the longest match takes the traffic away.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import Field, ValidationError

from addressing.overlaps import Meetings, Pair, PairCounts, count_pairs
from addressing.prefixtables import BOOKS, TABLES, Claim, Sheet, TableKind, problem, read_sheets, read_text, split_words
from inventory.errors import InputProblemsError, Problem
from inventory.model import Model, PlaneKind, Policy
from inventory.tables import CellError, plain, read_yes
from inventory.wording import counted
from inventory.yamlfile import YamlProblemError, parse_yaml


class Vrf(Model):
    """A VRF: whose it is, the targets it imports and exports, and whether it passes on what it imported."""

    name: str = Field(min_length=1, description="the VRF's name", examples=["finance"])
    department: str = Field("", description="whose it is, as the prefix lists name it", examples=["财政局"])
    imports: tuple[str, ...] = Field((), description="route targets that it imports", examples=[["65000:1"]])
    exports: tuple[str, ...] = Field((), description="route targets that it exports", examples=[["65000:110"]])
    transit: bool = Field(default=False, description="whether it exports what it imported as well", examples=[False])


class VrfFile(Model):
    """The VRFs of a network as YAML."""

    vrfs: tuple[Vrf, ...] = Field(min_length=1, description="one entry a VRF")


class Hop(NamedTuple):
    """One leak: by which target into which VRF."""

    target: str
    vrf: str


class Source(NamedTuple):
    """A VRF whose prefixes are seen somewhere, and how they came there; no hops: they are the place's own."""

    vrf: str
    hops: tuple[Hop, ...]


@dataclass(frozen=True)
class LeakConflict:
    """Prefixes of two VRFs meet at `place`. `pairs` says how many, `example` is the first, with file and row of both."""

    place: str
    first: Source
    second: Source
    pairs: PairCounts
    example: Pair


@dataclass(frozen=True)
class Leaks:
    """What leaks do to the claims: conflicts by place, and the claims that lie in no VRF and so were not looked at.

    `departments_of` names the departments whose claims each VRF holds.
    """

    conflicts: tuple[LeakConflict, ...]
    placed: int
    unplaced: tuple[Claim, ...]
    departments_of: Mapping[str, frozenset[str]]

    def departments(self) -> frozenset[tuple[str, str]]:
        """Return the pairs of departments, names in order, whose VRFs some leak brings into conflict."""
        vrfs = {(c.first.vrf, c.second.vrf) for c in self.conflicts}
        return frozenset(
            (min(d, e), max(d, e))
            for one, other in vrfs
            for d in self.departments_of[one]
            for e in self.departments_of[other]
            if d != e
        )


VRFS = TableKind.of(
    "name",
    name="vrf vrf_name vpn_instance 名称 vrf名称 vpn实例 实例",
    department="dept tenant 部门 单位",
    imports="import import_targets rt_import import_rt 导入目标 引入目标 导入rt",
    exports="export export_targets rt_export export_rt 导出目标 发布目标 导出rt",
    transit="转发 再发布",
)


def read_vrfs(path: Path) -> tuple[Vrf, ...]:
    """Read VRFs from YAML (`vrfs:`) or a table; every problem comes at once.

    Raises:
        InputProblemsError: the file is missing or unreadable, names a VRF twice, or leaks nothing for want of targets.
    """
    problems: list[Problem] = []
    if path.suffix.lower() in {*BOOKS, *TABLES}:
        vrfs = [v for sheet in read_sheets(path, VRFS, problems) for v in _vrfs_of(sheet, problems)]
    else:
        vrfs = _read_yaml(path, problems)
    seen: set[str] = set()
    for vrf in vrfs:
        if vrf.name in seen:
            problems.append(problem(str(path), None, f"VRF {vrf.name!r} twice", "name each VRF once"))
        seen.add(vrf.name)
    if not problems and not vrfs:
        problems.append(problem(str(path), None, "not one VRF found", "name them with their targets"))
    if not problems and not any(v.imports for v in vrfs):
        what = "no VRF imports a target"
        problems.append(problem(str(path), None, what, "name what each imports and exports, or leave the file out"))
    if problems:
        raise InputProblemsError(problems)
    return tuple(vrfs)


def _read_yaml(path: Path, problems: list[Problem]) -> list[Vrf]:
    text = read_text(path, problems)
    if text is None:
        return []
    try:
        return list(VrfFile.model_validate(parse_yaml(text)).vrfs)
    except YamlProblemError as error:
        problems.append(problem(str(path), error.row, error.what, "correct the YAML"))
    except ValidationError as error:
        problems += problems_of(str(path), error)
    return []


def problems_of(file: str, error: ValidationError) -> list[Problem]:
    """Return what a YAML file says against its model, one problem a place."""
    return [
        problem(file, None, str(e["msg"]), "correct it", column=".".join(map(str, e["loc"])) or None)
        for e in error.errors()
    ]


def _vrfs_of(sheet: Sheet, problems: list[Problem]) -> Iterable[Vrf]:
    for number, cells in sheet.rows:
        name = plain(cells.get("name", ""))
        if not name:
            what = "expected a VRF's name, found an empty cell"
            problems.append(problem(sheet.file, number, what, "fill it in", sheet=sheet.sheet, column="name"))
            continue
        try:
            transit = read_yes(cells.get("transit", ""))
        except CellError as error:
            problems.append(problem(sheet.file, number, error.what, error.todo, sheet=sheet.sheet, column="transit"))
            continue
        yield Vrf(
            name=name,
            department=plain(cells.get("department", "")),
            imports=split_words(cells.get("imports", "")),
            exports=split_words(cells.get("exports", "")),
            transit=transit,
        )


def vrfs_of_policy(policy: Policy) -> tuple[Vrf, ...]:
    """Make VRFs of a county's planes: each reaches the shared plane and is reached from it, and none another.

    Targets are the planes' own identifiers.
    """
    shared = next(p.id for p in policy.planes if p.kind is PlaneKind.SHARED)
    others = tuple(p.id for p in policy.planes if p.id != shared)
    return tuple(
        Vrf(name=p.id, department=p.tenant, imports=others if p.id == shared else (shared,), exports=(p.id,))
        for p in policy.planes
    )


def vrfs_of_claims(claims: Iterable[Claim]) -> tuple[Vrf, ...]:
    """Make VRFs of what the prefix lists themselves name, rows of one VRF taken together.

    Rows that name no VRF are in one that goes by the department's name. Empty when no row names a target.
    """
    imports: dict[str, list[str]] = {}
    exports: dict[str, list[str]] = {}
    owners: dict[str, set[str]] = {}
    for claim in claims:
        name = claim.vrf or claim.department
        owners.setdefault(name, set()).add(claim.department)
        imports.setdefault(name, []).extend(claim.imports)
        exports.setdefault(name, []).extend(claim.exports)
    if not any(imports.values()) and not any(exports.values()):
        return ()
    return tuple(
        Vrf(
            name=name,
            department=next(iter(whose)) if len(whose) == 1 else "",
            imports=tuple(sorted(set(imports[name]))),
            exports=tuple(sorted(set(exports[name]))),
        )
        for name, whose in sorted(owners.items())
    )


def find_leak_conflicts(claims: Iterable[Claim], vrfs: Sequence[Vrf]) -> Leaks:
    """Find where leaked prefixes meet others, over the whole graph of targets.

    A claim lies in the VRF it names, else in its department's only one or the one that goes by the department's name;
    where there is none it is `unplaced`.

    Raises:
        InputProblemsError: a claim names a VRF that is not there.
    """
    placed, unplaced = _place(claims, vrfs)
    owners: dict[str, set[str]] = {}
    for claim in placed:
        owners.setdefault(claim.vrf, set()).add(claim.department)
    matrix = count_pairs(placed, _vrf_of)
    meetings = Meetings(placed, _vrf_of)
    seen_at = _visible(vrfs)
    examples: dict[tuple[str, str], Pair] = {}
    conflicts: list[LeakConflict] = []
    for place in sorted(seen_at):
        sources = seen_at[place]
        for (one, other), pairs in sorted(matrix.items()):
            if one not in sources or other not in sources:
                continue
            key = (one, other)
            if key not in examples:
                met = meetings.first(one, other)
                if met is None:
                    continue
                examples[key] = met
            conflicts.append(
                LeakConflict(place, Source(one, sources[one]), Source(other, sources[other]), pairs, examples[key])
            )
    return Leaks(tuple(conflicts), len(placed), tuple(unplaced), {name: frozenset(o) for name, o in owners.items()})


def _vrf_of(claim: Claim) -> str:
    return claim.vrf


def _place(claims: Iterable[Claim], vrfs: Sequence[Vrf]) -> tuple[list[Claim], list[Claim]]:
    """Return the claims with the VRF that each lies in filled in, and those that lie in none."""
    names = {v.name for v in vrfs}
    only: dict[str, list[str]] = {}
    for vrf in vrfs:
        if vrf.department:
            only.setdefault(vrf.department, []).append(vrf.name)
    placed: list[Claim] = []
    unplaced: list[Claim] = []
    unknown: dict[tuple[str, str | None, str], list[int]] = {}
    for claim in claims:
        if claim.vrf and claim.vrf not in names:
            unknown.setdefault((claim.file, claim.sheet, claim.vrf), []).append(claim.row)
        elif claim.vrf:
            placed.append(claim)
        elif len(only.get(claim.department, ())) == 1:
            placed.append(claim._replace(vrf=only[claim.department][0]))
        elif claim.department in names:
            placed.append(claim._replace(vrf=claim.department))
        else:
            unplaced.append(claim)
    if unknown:
        raise InputProblemsError(
            [
                problem(
                    file,
                    min(rows),
                    f"VRF {vrf!r} is not among the VRFs" + (f" ({counted(len(rows), 'row')})" if len(rows) > 1 else ""),
                    f"the VRFs are: {', '.join(sorted(names))}",
                    sheet=sheet,
                    column="vrf",
                )
                for (file, sheet, vrf), rows in unknown.items()
            ]
        )
    return placed, unplaced


def _visible(vrfs: Sequence[Vrf]) -> dict[str, dict[str, tuple[Hop, ...]]]:
    """Return for each VRF whose prefixes it sees and by which way they came, the shortest, of equals the first by name."""
    importers: dict[str, list[Vrf]] = {}
    for vrf in sorted(vrfs, key=_name):
        for target in sorted(set(vrf.imports)):
            importers.setdefault(target, []).append(vrf)
    by_name: Mapping[str, Vrf] = {v.name: v for v in vrfs}
    seen: dict[str, dict[str, tuple[Hop, ...]]] = {name: {name: ()} for name in by_name}
    for source in sorted(vrfs, key=_name):
        waiting: deque[tuple[Vrf, tuple[Hop, ...]]] = deque([(source, ())])
        while waiting:
            vrf, hops = waiting.popleft()
            if hops and not vrf.transit:
                continue
            for target in sorted(set(vrf.exports)):
                for taker in importers.get(target, ()):
                    if source.name not in seen[taker.name]:
                        way = (*hops, Hop(target, taker.name))
                        seen[taker.name][source.name] = way
                        waiting.append((taker, way))
    return seen


def _name(vrf: Vrf) -> str:
    return vrf.name


def describe(conflict: LeakConflict) -> dict[str, Any]:
    """Return a conflict as plain values for JSON."""
    pair = conflict.example
    return {
        "place": conflict.place,
        "first": {"vrf": conflict.first.vrf, "targets": [h._asdict() for h in conflict.first.hops]},
        "second": {"vrf": conflict.second.vrf, "targets": [h._asdict() for h in conflict.second.hops]},
        "pairs": conflict.pairs._asdict(),
        "example": {
            "kind": pair.kind,
            "first": {"department": pair.first.department, "block": str(pair.first.block), "at": pair.first.where},
            "second": {"department": pair.second.department, "block": str(pair.second.block), "at": pair.second.where},
        },
    }


__all__ = [
    "Hop",
    "LeakConflict",
    "Leaks",
    "Source",
    "Vrf",
    "VrfFile",
    "describe",
    "find_leak_conflicts",
    "problems_of",
    "read_vrfs",
    "vrfs_of_claims",
    "vrfs_of_policy",
]
