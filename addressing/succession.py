"""What became of a plan's identities in a new list of divisions: who lives on where, who is new, who is gone.

Codes are not identities: one division in seven changes its code within a few years, and codes are used again. So a
division is recognised by code and name together, else by its name under the parent that lives on, else by its
children's names; exact names come before similar ones. What that does not settle is asked, never guessed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from addressing.decisions import Decisions, read_decisions
from addressing.divisionnames import split_name
from addressing.divisions import Divisions
from addressing.heirs import Candidate, Question, Tracer
from addressing.hierarchy import ACTIVE, Fate, HierarchyPlan
from addressing.unmoved import Proof, prove_unmoved
from inventory.errors import GateRefusedError
from inventory.wording import counted

What = Literal["kept", "renamed", "recoded", "moved", "restored", "merged", "split", "new", "gone"]
WHATS: dict[What, str] = {
    "kept": "沿用",
    "renamed": "更名",
    "recoded": "改码",
    "moved": "改隶",
    "restored": "恢复",
    "merged": "并入",
    "split": "拆分",
    "new": "新设",
    "gone": "撤销",
}
"""What can become of a division, and the Chinese word."""


class QuestionsOpenError(GateRefusedError):
    """Some matches are not certain: nothing may be made of this succession yet."""

    def __init__(self, questions: Sequence[Question]) -> None:
        self.questions = tuple(questions)
        super().__init__(
            f"{counted(len(questions), 'match', 'matches')} to decide; decide them in a file for --decisions"
        )


class Change(NamedTuple):
    """What became of one division. Before or after is empty where it was not or is no more; `into`: who took it over."""

    what: What
    id: int
    level: int
    old_code: str
    old_name: str
    code: str
    name: str
    into: str
    why: str

    def text(self, language: str = "en") -> str:
        """Say it in one line, in English or (zh) Chinese."""
        before = f"{self.old_code} {self.old_name}".strip()
        after = f"{self.code} {self.name}".strip()
        if self.what in {"merged", "split"}:
            after = self.into
        word = WHATS[self.what] if language == "zh" else self.what
        shown = before if before and before == after else " -> ".join(part for part in (before, after) if part)
        return f"{word} {shown}" + (f" ({self.why})" if self.why and language == "en" else "")


@dataclass(frozen=True)
class Succession:
    """What became of every identity. `old_rows` says of each new row which row of the plan lives on in it (-1: new)."""

    before: HierarchyPlan
    divisions: Divisions
    old_rows: NDArray[np.int64]
    absorbed: dict[int, int]
    questions: tuple[Question, ...]
    reasons: dict[int, str] = field(repr=False)
    taken_over: dict[int, list[int]] = field(repr=False)

    @cached_property
    def fate(self) -> Fate:
        """Return what `continue_plan` needs; QuestionsOpenError while a question is open."""
        if self.questions:
            raise QuestionsOpenError(self.questions)
        found = self.old_rows >= 0
        identities = np.where(found, self.before.ids[np.where(found, self.old_rows, 0)], 0)
        return Fate(identities=identities.astype(np.int64), absorbed=self.absorbed)

    @cached_property
    def _kinds(self) -> tuple[NDArray[np.int64], list[What]]:
        """Return (new rows that are not simply kept, what each is)."""
        before, new = self.before, self.divisions
        rows: list[int] = []
        kinds: list[What] = []
        parents = before.row_of_id[before.parents].tolist() if len(before) else []
        old_rows, new_parents, states = self.old_rows.tolist(), new.parents.tolist(), before.states.tolist()
        lives_on = {old for old in old_rows if old >= 0}
        for row, old in enumerate(old_rows):
            if old < 0:
                kind: What = "new"
            elif states[old] != ACTIVE:
                kind = "restored"
            else:
                parent, above = parents[old], new_parents[row]
                if (parent < 0) != (above < 0) or (parent in lives_on and old_rows[above] != parent):
                    kind = "moved"
                elif before.codes[old] != new.codes[row]:
                    kind = "recoded"
                elif before.names[old] == new.names[row] or split_name(before.names[old]) == split_name(new.names[row]):
                    continue
                else:
                    kind = "renamed"
            rows.append(row)
            kinds.append(kind)
        return np.array(rows, dtype=np.int64), kinds

    @cached_property
    def changes(self) -> tuple[Change, ...]:
        """Every change, by kind in the order of WHATS, then by code; what was kept is left out."""
        before, new = self.before, self.divisions
        out: list[Change] = []
        for row, kind in zip(self._kinds[0].tolist(), self._kinds[1], strict=True):
            old = int(self.old_rows[row])
            out.append(
                Change(
                    kind,
                    int(before.ids[old]) if old >= 0 else 0,
                    int(new.levels[row]),
                    before.codes[old] if old >= 0 else "",
                    before.names[old] if old >= 0 else "",
                    new.codes[row],
                    new.names[row],
                    "",
                    self.reasons.get(row, ""),
                )
            )
        lives_on = set(self.old_rows.tolist())
        for old in np.flatnonzero(before.states == ACTIVE).tolist():
            takers = self.taken_over.get(old, [])
            if old in lives_on and not takers:
                continue
            if old in lives_on or len(takers) > 1:
                gone: What = "split"
            else:
                gone = "merged" if takers else "gone"
            into = ", ".join(f"{new.codes[t]} {new.names[t]}" for t in takers)
            identity, level = int(before.ids[old]), int(before.levels[old])
            out.append(Change(gone, identity, level, before.codes[old], before.names[old], "", "", into, ""))
        order = {what: place for place, what in enumerate(WHATS)}
        return tuple(sorted(out, key=lambda c: (order[c.what], c.code or c.old_code, c.id)))

    def kept(self) -> Iterator[Change]:
        """Yield what was kept, with code and name before and after."""
        changed = set(self._kinds[0].tolist())
        before, new = self.before, self.divisions
        for row, old in enumerate(self.old_rows.tolist()):
            if row not in changed:
                names = (before.codes[old], before.names[old], new.codes[row], new.names[row])
                yield Change("kept", int(before.ids[old]), int(new.levels[row]), *names, "", "")

    @cached_property
    def counts(self) -> dict[str, int]:
        """How many divisions each thing became of; a division that lives on and was split counts as both."""
        found = Counter(c.what for c in self.changes)
        kept = len(self.divisions) - self._kinds[0].size
        return {what: kept if what == "kept" else found[what] for what in WHATS}

    @property
    def changes_anything(self) -> bool:
        """Tell whether the plan's next version differs from it in anything."""
        names, rows = self.before.names, enumerate(self.old_rows.tolist())
        return bool(self.changes) or any(names[old] != self.divisions.names[row] for row, old in rows)

    def lines(self, language: str = "en") -> list[str]:
        """Say every change in a line."""
        return [c.text(language) for c in self.changes]

    def as_json(self) -> dict[str, Any]:
        """Return counts and changes for machines."""
        return {"counts": self.counts, "changes": [c._asdict() for c in self.changes]}


def decisions_template(traced: Succession) -> str:
    """Return a decisions file in YAML, to be completed: one line a candidate, each without its verdict."""
    lines = [
        "# Write a verdict on each line: same (it lives on there), new (it does not: the new code is another division),",
        "# gone (it lives on nowhere), merged (the new one took it over). Of several lines for one division one is enough.",
        "decisions:",
    ]
    for question in traced.questions:
        lines.append(f"# {question.what}")
        lines += [
            f'- {{old: "{c.old}", new: "{c.new}", verdict: }}  # {c.old_name} -> {c.new_name}: {c.why}'
            for c in question.candidates
        ]
    return "\n".join(lines) + "\n"


def trace(before: HierarchyPlan, new: Divisions, decisions: Decisions | None = None) -> Succession:
    """Decide for every division of a new list which of the plan's identities lives on in it.

    The same whatever order the new list's file was in. Questions are of divisions whose parents are settled; those
    below wait, so a second round may ask about them.

    Raises:
        ExtranetError: the list has levels the plan has no field for, or not the plan's root alone.
        InputProblemsError: a decision names what is not there, or contradicts another.
    """
    found = Tracer(before, new, decisions).run()
    return Succession(
        before=before,
        divisions=new,
        old_rows=np.array([max(old, -1) for old in found.heirs], dtype=np.int64),
        absorbed=found.absorbed,
        questions=tuple(found.questions),
        reasons=found.reasons,
        taken_over=found.taken_over,
    )


__all__ = [
    "WHATS",
    "Candidate",
    "Change",
    "Decisions",
    "Proof",
    "Question",
    "QuestionsOpenError",
    "Succession",
    "decisions_template",
    "prove_unmoved",
    "read_decisions",
    "trace",
]
