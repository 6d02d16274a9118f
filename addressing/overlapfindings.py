"""One look at departments' prefix lists: who overlaps, what leaks, and the cheapest way out; all problems at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from addressing.leaks import Leaks, Vrf, find_leak_conflicts, read_vrfs, vrfs_of_claims, vrfs_of_policy
from addressing.overlaps import Overlaps, find_clusters
from addressing.prefixtables import Claim, problem, read_prefix_tables
from addressing.resolution import CostModel, Resolutions, read_costs, resolve_clusters, talking_pairs
from inventory.errors import InputProblemsError, Problem
from inventory.reader import load_county
from inventory.wording import counted

_PROBLEMS_SHOWN = 50


@dataclass(frozen=True)
class Findings:
    """All that one run found."""

    files: tuple[Path, ...]
    overlaps: Overlaps
    vrfs: tuple[Vrf, ...]
    leaks: Leaks | None
    resolutions: Resolutions

    @property
    def clean(self) -> bool:
        """Whether nothing meets and nothing was left unchecked."""
        return not self.overlaps.clusters and not (self.leaks and (self.leaks.conflicts or self.leaks.unplaced))


def examine_overlaps(files: Sequence[Path], *, vrfs: Path | None = None, costs: Path | None = None) -> Findings:
    """Read prefix lists and find what meets; `vrfs` is a table or YAML of VRFs or a county's folder, `costs` YAML.

    Raises:
        InputProblemsError: a file cannot be used, or names a department that no prefix list does.
    """
    problems: list[Problem] = []
    claims: tuple[Claim, ...] = ()
    named: tuple[Vrf, ...] | None = None
    model = CostModel()
    # All problems of all files at once, whichever of them it is.
    try:
        claims = read_prefix_tables(files)
    except InputProblemsError as error:
        problems += error.problems
    try:
        named = _vrfs(vrfs) if vrfs else None
    except InputProblemsError as error:
        problems += error.problems
    try:
        model = read_costs(costs) if costs else model
    except InputProblemsError as error:
        problems += error.problems
    _stop(problems)
    _check_names(claims, model, costs)
    known = named if named is not None else vrfs_of_claims(claims)
    leaks = find_leak_conflicts(claims, known) if known else None
    met = find_clusters(claims)
    talk = talking_pairs(claims, model) | (leaks.departments() if leaks else frozenset())
    solved = resolve_clusters(met, model, talk=talk, occupied=(c.block for c in claims))
    return Findings(tuple(dict.fromkeys(files)), met, known, leaks, solved)


def _vrfs(path: Path) -> tuple[Vrf, ...]:
    return vrfs_of_policy(load_county(path).policy) if path.is_dir() else read_vrfs(path)


def _check_names(claims: Sequence[Claim], model: CostModel, costs: Path | None) -> None:
    """Refuse departments that no prefix list names: a misspelt pair that must talk would be kept apart in silence."""
    there = {c.department for c in claims}
    todo = f"write it as the prefix lists do: {', '.join(sorted(there)[:20])}"
    problems = [
        problem(str(costs), None, f"department {name!r} is in no prefix list", todo, column=column)
        for column, names in (("talk", [d for pair in model.talk for d in pair]), ("departments", model.departments))
        for name in dict.fromkeys(names)
        if name not in there
    ]
    missing: dict[str, Claim] = {}
    for claim in claims:
        for name in claim.talks_to:
            if name not in there:
                missing.setdefault(name, claim)
    problems += [
        problem(c.file, c.row, f"department {name!r} is in no prefix list", todo, sheet=c.sheet, column="talks_to")
        for name, c in missing.items()
    ]
    _stop(problems)


def _stop(problems: Sequence[Problem]) -> None:
    """Refuse what has problems: the first are named, the others counted."""
    more = len(problems) - _PROBLEMS_SHOWN
    if more > 0:
        last = problems[_PROBLEMS_SHOWN]
        what, todo = f"{counted(more, 'more problem')} from here on, not listed", "correct these first"
        rest = Problem(file=last.file, sheet=last.sheet, row=last.row, column=None, what=what, todo=todo)
        problems = [*problems[:_PROBLEMS_SHOWN], rest]
    if problems:
        raise InputProblemsError(problems)


__all__ = ["Findings", "examine_overlaps"]
