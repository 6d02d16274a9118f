"""Who lives on where: the matching of a plan's identities with a new list of divisions, level by level from above.

Certain are, in this order: code and name together; what a person decided; one name under one parent; most children's
names; one name in the wider area; code and parent alone where nobody else may be meant. Two claims of like weight, or
names that are merely similar, become questions; what is below a question waits.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from addressing.decisions import Answer, Decisions
from addressing.divisionnames import fold_name, likeness, place_of, split_name
from addressing.divisions import NATIONAL, Divisions
from addressing.hierarchy import ACTIVE, HierarchyPlan
from addressing.packed import FileProblems
from addressing.policy import LEVEL_NAMES
from inventory.errors import ExtranetError
from inventory.wording import counted

ALIKE, HALF, FEW, MOST_CANDIDATES = 0.6, 0.5, 3, 5
"""Likeness from which two names are worth a question; the share of children that tells; how few children tell little."""
_ASK, _GONE, _OPEN = -3, -2, -1
"""Instead of a row: asked or waiting for an answer; lives on nowhere; not settled yet."""
_OWN_DIGITS = {1: slice(0, 2), 2: slice(2, 4), 3: slice(4, 6), 4: slice(6, 9), 5: slice(9, 12)}


class Candidate(NamedTuple):
    """One way to answer a question: the old division (`code#identity`) lives on in the new one. `why` it may."""

    old: str
    old_name: str
    new: str
    new_name: str
    why: str


@dataclass(frozen=True)
class Question:
    """A match that is not certain. `level` is the division's, `candidates` are best first."""

    level: int
    what: str
    candidates: tuple[Candidate, ...]

    def as_json(self) -> dict[str, Any]:
        """Return the question for machines."""
        return {"level": self.level, "what": self.what, "candidates": [c._asdict() for c in self.candidates]}


class Settled(NamedTuple):
    """What was found: by new row the old row that lives on in it (negative: none); by old row who took it over."""

    heirs: list[int]
    absorbed: dict[int, int]
    taken_over: dict[int, list[int]]
    reasons: dict[int, str]
    questions: list[Question]


class Tracer:
    """Works down from the highest level; `went` and `heirs` are what is settled, old row to new row and back."""

    def __init__(self, before: HierarchyPlan, new: Divisions, decisions: Decisions | None) -> None:
        self.before, self.new = before, new
        self.went = np.where(before.states == ACTIVE, _OPEN, _GONE).tolist()
        self.heirs = [_OPEN] * len(new)
        """By new row: the old row that lives on in it; _GONE for what is new, _OPEN while that is not settled."""
        self.reasons: dict[int, str] = {}
        self.others: dict[int, list[int]] = {}
        """By old row: new rows, beside the one it lives on in, under which its children are to be looked for."""
        self.merged: dict[int, int] = {}
        self.questions: list[Question] = []
        self.asked_new: set[int] = set()
        _check_levels(before, new)
        self.old_levels, self.new_levels = before.levels.tolist(), new.levels.tolist()
        parents = np.where(before.parents > 0, before.row_of_id[before.parents], -1) if len(before) else before.parents
        self.old_parents: list[int] = parents.tolist()
        self.new_parents: list[int] = new.parents.tolist()
        self.old_below = _Below(np.where(before.states == ACTIVE, parents, -2))
        self.new_below = _Below(new.parents.astype(np.int64))
        self._dormant: dict[str, list[int]] = defaultdict(list)
        for row in np.flatnonzero(before.states != ACTIVE).tolist():
            self._dormant[before.codes[row]].append(row)
        self._take_decisions(decisions)

    def run(self) -> Settled:
        """Settle what is certain, ask about the rest."""
        self._settle_same()
        if self.before.layout.root_level:
            self._settle_root()
        active = self.before.states == ACTIVE
        for level in np.unique(np.r_[self.before.levels[active], self.new.levels]).tolist():
            self._settle_level(level)
        taken_over = self._taken_over()
        absorbed = self._absorbed(taken_over)
        return Settled(self.heirs, absorbed, taken_over, self.reasons, self.questions)

    # What is settled at once.

    def _join(self, old: int, row: int, why: str = "") -> None:
        self.went[old], self.heirs[row] = row, old
        if why:
            self.reasons[row] = why

    def _settle_same(self) -> None:
        """Same code, same name, same level: nothing happened."""
        before, new, went, heirs = self.before, self.new, self.went, self.heirs
        rows = map(before.row_of.get, new.codes)
        old_names, old_levels, new_levels = before.names, self.old_levels, self.new_levels
        for row, (old, name) in enumerate(zip(rows, new.names, strict=True)):
            if old is None or went[old] != _OPEN or heirs[row] != _OPEN or old_levels[old] != new_levels[row]:
                continue
            if old_names[old] == name or split_name(old_names[old]) == split_name(name):
                went[old], heirs[row] = row, old

    def _settle_root(self) -> None:
        """The root is the pool itself: whatever its code and name, it lives on; but another county is not it."""
        before, new = self.before, self.new
        old = next(r for r in np.flatnonzero(before.levels == before.layout.root_level).tolist() if self._is_active(r))
        row = new.roots[0]
        if self.heirs[row] == old:
            return
        if self.went[old] != _OPEN or self.heirs[row] != _OPEN:
            where = f"{new.codes[row]} {new.names[row]}"
            raise ExtranetError(f"{where}: is the root, so the plan's pool; decide 'same', or plan it anew from a pool")
        shared, mine, theirs = self._shared_children(old, row)
        by_name = place_of(before.names[old]) == place_of(new.names[row])
        if (by_name and (shared or not mine or not theirs)) or shared >= max(2, HALF * max(mine, theirs)):
            self._join(old, row, "the root of both")
        else:
            self._ask(old, [(row, "it is the root, so the plan's pool")], "the root is another")

    def _is_active(self, old: int) -> bool:
        return bool(self.before.states[old] == ACTIVE)

    # Decisions.

    def _take_decisions(self, decisions: Decisions | None) -> None:
        if decisions is None:
            return
        problems = FileProblems(decisions.file)
        for answer in decisions.answers:
            self._take(answer, problems)
        if problems.kept:
            raise problems.error()

    def _take(self, answer: Answer, problems: FileProblems) -> None:
        row = self.new.row_of.get(answer.new, -1) if answer.new else -1
        if answer.new and row < 0 and answer.verdict != "gone":
            what = f"{answer.new} is not in the new list of divisions"
            problems.add("codes", answer.row, "new", what, "correct it, or remove the line")
            return
        old, todo = self._find_old(answer)
        if todo:
            problems.add("codes", answer.row, "old", f"{answer.old}: {todo}", "correct it, or remove the line")
            return
        if old is None:
            return
        if answer.verdict == "same":
            self._take_same(answer, old, row, problems)
        elif answer.verdict == "new" or (old >= 0 and not self._is_active(old)):
            # Of one that was gone before, 'gone' and 'merged' say as much: it is still gone, and the other is new.
            if self.heirs[row] >= 0:
                self._note_contradiction(answer, problems)
            self.heirs[row] = _GONE
            self.reasons[row] = "decided"
        elif self.went[old] >= 0 or self.merged.get(old, row) != row:
            self._note_contradiction(answer, problems)
        else:
            self.went[old] = _GONE
            if answer.verdict == "merged":
                self.merged[old] = row

    def _take_same(self, answer: Answer, old: int, row: int, problems: FileProblems) -> None:
        if self.old_levels[old] != self.new_levels[row]:
            lengths = [self.before.layout.length(lv) for lv in (self.old_levels[old], self.new_levels[row])]
            what = f"a /{lengths[0]} ({title_of(self.old_levels[old])}) cannot become a /{lengths[1]}"
            problems.add("levels", answer.row, "verdict", what, "decide 'new' or 'merged'")
        elif self.heirs[row] != _OPEN or self.went[old] >= 0 or old in self.merged:
            self._note_contradiction(answer, problems)
        else:
            self._join(old, row, "decided")

    def _note_contradiction(self, answer: Answer, problems: FileProblems) -> None:
        what = f"{answer.old or '-'} {answer.new or '-'} {answer.verdict!r} contradicts a line above"
        problems.add("contradictions", answer.row, None, what, "keep one of the two")

    def _find_old(self, answer: Answer) -> tuple[int | None, str]:
        """Return (old row, what is wrong); no row and nothing wrong: the answer was applied by an earlier update."""
        code, _, identity = answer.old.partition("#")
        if not code:
            return -1, ""
        if identity:
            number = int(identity)
            rows = self.before.row_of_id
            row = int(rows[number]) if number < rows.size else -1
            if row < 0:
                return None, "the plan has no such identity"
            if not self._is_active(row):
                return (None, "") if self._is_applied(answer) else (row, "")
            if self.before.codes[row] == code:
                return row, ""
            if self.before.codes[row] == answer.new:
                return None, ""
            return None, f"that identity's code is {self.before.codes[row]} today"
        active = self.before.row_of.get(code)
        if active is not None:
            if answer.verdict == "new" and answer.new == code:
                return None, f"write which one was meant: {code}#{self.before.ids[active]}"
            return active, ""
        dormant = self._dormant.get(code, [])
        if self._is_applied(answer) and (dormant or answer.verdict != "gone"):
            return None, ""
        if len(dormant) == 1 or (dormant and answer.verdict != "same"):
            return dormant[0], ""
        if dormant:
            return None, "several bore it: " + " ".join(f"{code}#{self.before.ids[r]}" for r in dormant)
        return None, "no division of the plan has this code"

    def _is_applied(self, answer: Answer) -> bool:
        """Tell whether an answer about one that is gone was applied by an earlier update."""
        bearer, row = self.before.row_of.get(answer.new), self.new.row_of.get(answer.new)
        if row is None:
            return bearer is not None or answer.verdict == "gone"
        return bearer is not None and split_name(self.before.names[bearer]) == split_name(self.new.names[row])

    # One level.

    def _settle_level(self, level: int) -> None:
        rows = np.flatnonzero(self.new.levels == level).tolist()
        news = [r for r in rows if self.heirs[r] == _OPEN and not self._waits(r)]
        active = np.flatnonzero((self.before.levels == level) & (self.before.states == ACTIVE)).tolist()
        olds = [r for r in active if self.went[r] == _OPEN]
        for old in olds:
            if self._parent_waits(old):
                self.went[old] = _ASK
        group = _Groups()
        for old in olds:
            group.join(self._looked_for_under(old))
        pairs = _Pairs(
            {o: group.of(self._looked_for_under(o)) for o in olds if self.went[o] == _OPEN},
            {n: group.of([self.new_parents[n]]) for n in news},
        )
        if pairs.news:
            self._restore(pairs)
        if pairs.olds and pairs.news:
            for key in (fold_name, split_name, place_of):
                self._match_names(pairs, key)
            self._match_children(pairs)
            self._match_moved(pairs)
            self._match_codes(pairs)
        self._ask_about(pairs)
        self._ask_about_returned(pairs)
        for old in pairs.olds:
            if self.went[old] == _OPEN:
                self.went[old] = _GONE
        for row in pairs.news:
            if self.heirs[row] == _OPEN and row not in self.asked_new:
                self.heirs[row] = _GONE
        self._find_successors(active, rows)

    def _looked_for_under(self, old: int) -> list[int]:
        """Return the new rows whose children an old division may be; -1 for the roots."""
        parent = self.old_parents[old]
        return [-1] if parent < 0 else self._successors(parent)

    def _successors(self, old: int) -> list[int]:
        own = self.went[old] if self.went[old] >= 0 else self.merged.get(old, -1)
        return ([own] if own >= 0 else []) + self.others.get(old, [])

    def _parent_waits(self, old: int) -> bool:
        parent = self.old_parents[old]
        return parent >= 0 and self.went[parent] == _ASK

    def _waits(self, row: int) -> bool:
        """Tell whether a question about a division above is open: what is below is then not asked about."""
        parent = self.new_parents[row]
        if parent >= 0 and parent in self.asked_new:
            self.asked_new.add(row)
            return True
        return False

    def _own_digits(self, code: str, level: int) -> str:
        return code[_OWN_DIGITS[level]] if len(code) == NATIONAL and level in _OWN_DIGITS else code[-3:]

    def _restore(self, pairs: _Pairs) -> None:
        """What comes back under its own code and name gets its identity back, unless somebody else may be it."""
        before, new = self.before, self.new
        rivals = {(pairs.olds[o], split_name(before.names[o])) for o in pairs.open_olds(self.went)}
        for row in pairs.open_news(self.heirs):
            name = split_name(new.names[row])
            level = self.new_levels[row]
            back = [
                d
                for d in self._dormant.get(new.codes[row], ())
                if self.went[d] == _GONE and self.old_levels[d] == level and split_name(before.names[d]) == name
            ]
            if len(back) == 1 and (pairs.news[row], name) not in rivals:
                self._join(back[0], row, "back under its own code and name")

    def _match_names(self, pairs: _Pairs, key: Callable[[str], object]) -> None:
        """Join those whose names, so seen, are alone of their kind on both sides; among several, code or tail decides."""
        by_name: dict[object, tuple[list[int], list[int]]] = defaultdict(lambda: ([], []))
        for old in pairs.open_olds(self.went):
            if pairs.olds[old] is not None:
                by_name[pairs.olds[old], key(self.before.names[old])][0].append(old)
        for row in pairs.open_news(self.heirs):
            by_name[pairs.news[row], key(self.new.names[row])][1].append(row)
        for olds, news in by_name.values():
            if len(olds) == len(news) == 1:
                if not self._contradicts(olds[0], news[0]):
                    self._join(olds[0], news[0], "same name under the same parent")
            elif olds and news:
                self._match_digits(olds, news)

    def _match_digits(self, olds: Sequence[int], news: Sequence[int]) -> None:
        """Of several with one name, join those that kept their code, or their own digits of it."""
        level = self.old_levels[olds[0]]
        for digits in (str, lambda code: self._own_digits(code, level)):
            mine = Counter(digits(self.before.codes[o]) for o in olds if self.went[o] == _OPEN)
            theirs = {digits(self.new.codes[n]): n for n in news if self.heirs[n] == _OPEN}
            counts = Counter(digits(self.new.codes[n]) for n in news if self.heirs[n] == _OPEN)
            for old in olds:
                own = digits(self.before.codes[old])
                if (
                    self.went[old] == _OPEN
                    and mine[own] == counts[own] == 1
                    and not self._contradicts(old, theirs[own])
                ):
                    self._join(old, theirs[own], "same name and digits under the same parent")

    def _shared_children(self, old: int, row: int) -> tuple[int, int, int]:
        """Return (how many children's places are in both, how many the old, how many the new one has)."""
        mine, theirs = self._old_places(old), self._new_places(row)
        return len(mine & theirs), len(mine), len(theirs)

    def _old_places(self, old: int) -> set[str]:
        return {place_of(self.before.names[c]) for c in self.old_below[old]}

    def _new_places(self, row: int) -> set[str]:
        return {place_of(self.new.names[c]) for c in self.new_below[row]}

    def _contradicts(self, old: int, row: int) -> bool:
        """Tell whether the children say that these two cannot be one: many on both sides, none in common."""
        if not self.old_below[old] or not self.new_below[row]:
            return False
        shared, mine, theirs = self._shared_children(old, row)
        return not shared and min(mine, theirs) >= FEW

    def _match_children(self, pairs: _Pairs) -> None:
        """Join those most of whose children have the same names, wherever they are."""
        olds = [o for o in pairs.open_olds(self.went) if self.old_below[o]]
        shared = self._count_shared(olds, [n for n in pairs.open_news(self.heirs) if self.new_below[n]])
        by_new: dict[int, Counter[int]] = defaultdict(Counter)
        for old, counts in shared.items():
            for row, number in counts.items():
                by_new[row][old] = number
        for old, counts in shared.items():
            (row, number), *others = counts.most_common(2)
            mine, theirs = len(self._old_places(old)), len(self._new_places(row))
            rivals = [n for _, n in others] + [n for o, n in by_new[row].items() if o != old]
            if 2 * max(rivals, default=0) > number:
                continue
            one_name = place_of(self.before.names[old]) == place_of(self.new.names[row])
            enough = HALF * (min(mine, theirs) if one_name else max(mine, theirs))
            if number >= max(1 if one_name else 2, enough):
                self._join(old, row, f"{number} of {mine} children have the same names")

    def _count_shared(self, olds: Iterable[int], news: Iterable[int]) -> dict[int, Counter[int]]:
        where: dict[str, list[int]] = defaultdict(list)
        for row in news:
            for place in self._new_places(row):
                where[place].append(row)
        out: dict[int, Counter[int]] = {}
        for old in olds:
            counts = Counter(row for place in sorted(self._old_places(old)) for row in where.get(place, ()))
            if counts:
                out[old] = counts
        return out

    # Those that moved to another parent: one name, alone of its kind in the parent's parent, before and after.

    def _wide_of_old(self, old: int) -> list[int]:
        parent = self.old_parents[old]
        above = self.old_parents[parent] if parent >= 0 else -1
        return [-1] if above < 0 else self._successors(above)

    def wide_of_new(self, row: int) -> int:
        """Return the new row of a new row's parent's parent; -1 for none."""
        parent = self.new_parents[row]
        return self.new_parents[parent] if parent >= 0 else -1

    def _namesakes(self, pairs: _Pairs) -> dict[int, list[int]]:
        """Return by open old row the open new rows of the same place in the same wider area."""
        where: dict[tuple[int, str], list[int]] = defaultdict(list)
        for row in pairs.open_news(self.heirs):
            where[self.wide_of_new(row), place_of(self.new.names[row])].append(row)
        out = {}
        for old in pairs.open_olds(self.went):
            place = place_of(self.before.names[old])
            found = [row for wide in dict.fromkeys(self._wide_of_old(old)) for row in where.get((wide, place), ())]
            if found:
                out[old] = found
        return out

    def _match_moved(self, pairs: _Pairs) -> None:
        namesakes = self._namesakes(pairs)
        wanted = Counter(row for rows in namesakes.values() for row in rows)
        counts = _WideCounts(self)
        for old, rows in namesakes.items():
            row = rows[0]
            if (
                len(rows) > 1
                or wanted[row] > 1
                or split_name(self.before.names[old]) != split_name(self.new.names[row])
            ):
                continue
            if pairs.olds[old] is not None and pairs.olds[old] == pairs.news[row]:
                continue  # siblings that names did not settle: their children contradict
            partner = self.new.row_of.get(self.before.codes[old])
            reused = partner is not None and self.heirs[partner] == _OPEN
            if not reused and counts.alone(old, row) and not self._contradicts(old, row):
                self._join(old, row, "the only one of this name in the area, now under another parent")

    def _match_codes(self, pairs: _Pairs) -> None:
        """Settle those that kept code and parent but bear another name, where nobody else may be meant."""
        begun: dict[tuple[int, str], list[int]] = defaultdict(list)
        for row in pairs.open_news(self.heirs):
            begun[self.wide_of_new(row), place_of(self.new.names[row])[:2]].append(row)
        for old in pairs.open_olds(self.went):
            row = self.new.row_of.get(self.before.codes[old], -1)
            if row not in pairs.news or self.heirs[row] != _OPEN:
                continue
            same_parent = pairs.olds[old] is not None and pairs.news[row] == pairs.olds[old]
            if not same_parent and place_of(self.before.names[old]) != place_of(self.new.names[row]):
                continue
            own = likeness(self.before.names[old], self.new.names[row])
            shared, mine, theirs = self._shared_children(old, row)
            if min(mine, theirs) >= FEW and shared < HALF * min(mine, theirs):
                continue
            if any(self._rivals(pairs, old, row, own)):
                continue
            if own < HALF and self._begins_elsewhere(old, row, begun):
                continue
            self._join(old, row, "" if own >= HALF else "same code and parent; the name is another altogether")

    def _begins_elsewhere(self, old: int, row: int, begun: Mapping[tuple[int, str], list[int]]) -> bool:
        """Tell whether someone new in the area bears a name that begins like the old one: who took the code may be new."""
        start = place_of(self.before.names[old])[:2]
        near = (other for wide in self._wide_of_old(old) for other in begun.get((wide, start), ()))
        return any(other != row and self.heirs[other] == _OPEN for other in near)

    def _rivals(self, pairs: _Pairs, old: int, row: int, own: float) -> Iterator[int]:
        """Yield who else may be what bears a code: at least as like by name, and like enough."""
        namesakes = self._namesakes_cache(pairs)
        yield from (n for n in namesakes.get(old, ()) if n != row and self.heirs[n] == _OPEN)
        yield from (o for o, rows in namesakes.items() if o != old and row in rows and self.went[o] == _OPEN)
        least = max(own, ALIKE)
        for other in pairs.siblings_new(row):
            if other != row and self.heirs[other] == _OPEN and self._alike(old, other) >= least:
                yield other
        for other in pairs.siblings_old(old):
            if other != old and self.went[other] == _OPEN and self._alike(other, row) >= least:
                yield other

    def _namesakes_cache(self, pairs: _Pairs) -> dict[int, list[int]]:
        if pairs.namesakes is None:
            pairs.namesakes = self._namesakes(pairs)
        return pairs.namesakes

    def _alike(self, old: int, row: int) -> float:
        one, other = place_of(self.before.names[old]), place_of(self.new.names[row])
        common = sum((Counter(one) & Counter(other)).values())
        if 2 * common < ALIKE * (len(one) + len(other)) and common < min(len(one), len(other)):
            return 0.0  # cannot reach it: spare the slow comparison
        return likeness(self.before.names[old], self.new.names[row])

    # Questions.

    def _ask(self, old: int, candidates: Sequence[tuple[int, str]], what: str) -> None:
        before, new = self.before, self.new
        code, name = before.codes[old], before.names[old]
        told = f"{code}#{before.ids[old]}" if any(new.codes[n] == code for n, _ in candidates) else code
        ways = tuple(Candidate(told, name, new.codes[n], new.names[n], why) for n, why in candidates[:MOST_CANDIDATES])
        level = self.old_levels[old]
        self.questions.append(Question(level, f"{title_of(level)} {code} {name}: {what}", ways))
        self.went[old] = _ASK
        self.asked_new.update(n for n, _ in candidates)

    def _ask_about(self, pairs: _Pairs) -> None:
        namesakes = self._namesakes(pairs)
        below = self._count_shared(
            [o for o in pairs.open_olds(self.went) if self.old_below[o]],
            [n for n in pairs.open_news(self.heirs) if self.new_below[n]],
        )
        for old in pairs.open_olds(self.went):
            found: dict[int, tuple[float, str]] = {}
            partner = self.new.row_of.get(self.before.codes[old], -1)
            if partner in pairs.news and self.heirs[partner] == _OPEN:
                found[partner] = (HALF, "it has the code, under another name")
            for row in pairs.siblings_new_of_old(old):
                alike = self._alike(old, row) if self.heirs[row] == _OPEN else 0.0
                if alike >= ALIKE:
                    found[row] = max(found.get(row, (0.0, "")), (alike, f"names are {alike:.0%} alike"))
            for row in namesakes.get(old, ()):
                found[row] = max(found.get(row, (0.0, "")), (1.0, "the same name in the same area"))
            for row, number in below.get(old, Counter()).items():
                mine, theirs = len(self._old_places(old)), len(self._new_places(row))
                if 2 * number >= HALF * max(mine, theirs):
                    found[row] = (1.0 + number / mine, f"{number} of its {mine} children's names are there")
            if found:
                ranked = sorted(found.items(), key=lambda item: (-item[1][0], self.new.codes[item[0]]))
                what = "who is it now" if len(ranked) > 1 else "is it this one"
                self._ask(old, [(row, why) for row, (_, why) in ranked], what)

    def _ask_about_returned(self, pairs: _Pairs) -> None:
        """Ask about new divisions that may be one that was gone: same code, or same name where it was."""
        if not self._dormant:
            return
        before, new = self.before, self.new
        by_place: dict[tuple[int, str], list[int]] = defaultdict(list)
        for rows in self._dormant.values():
            for d in rows:
                by_place[int(before.homes[d]), place_of(before.names[d])].append(d)
        for row in pairs.open_news(self.heirs):
            if row in self.asked_new:
                continue
            parent = self.heirs[self.new_parents[row]] if self.new_parents[row] >= 0 else _GONE
            home = int(before.ids[parent]) if parent >= 0 else 0
            like = [
                d for d in self._dormant.get(new.codes[row], ()) if likeness(before.names[d], new.names[row]) >= HALF
            ]
            like += by_place.get((home, place_of(new.names[row])), [])
            back = [
                d for d in dict.fromkeys(like) if self.went[d] == _GONE and self.old_levels[d] == self.new_levels[row]
            ]
            if not back:
                continue
            ways = tuple(
                Candidate(
                    f"{before.codes[d]}#{before.ids[d]}", before.names[d], new.codes[row], new.names[row], "it was gone"
                )
                for d in sorted(back, key=lambda d: -int(before.ids[d]))[:MOST_CANDIDATES]
            )
            level = self.new_levels[row]
            what = f"{title_of(level)} {new.codes[row]} {new.names[row]}: did one that was gone come back"
            self.questions.append(Question(level, what, ways))
            self.asked_new.add(row)

    # Where the children of what is settled are to be looked for.

    def _find_successors(self, active: Sequence[int], rows: Sequence[int]) -> None:
        gone = [o for o in active if self.went[o] == _GONE and o not in self.merged and self.old_below[o]]
        fresh = [n for n in rows if self.heirs[n] == _GONE and self.new_below[n]]
        if not gone and not fresh:
            return
        wides = {old: set(self._looked_for_under(old)) for old in gone}
        holders = {*rows, *(q for wide in wides.values() for q in wide if q >= 0)}
        where = self._open_children_by_place(sorted(holders)) if gone else {}
        for old, wide in wides.items():
            takers: Counter[int] = Counter()
            children = self.old_below[old]
            for child in children:
                if self.went[child] >= 0:
                    takers[self.new_parents[self.went[child]]] += 1
                    continue
                namesakes = where.get(place_of(self.before.names[child]), ())
                found = {q for q in namesakes if q in wide or self.new_parents[q] in wide}
                takers.update(found if len(found) == 1 else ())
            self.others[old] = [
                q for q, n in sorted(takers.items()) if q in holders and (n >= 2 or 2 * n >= len(children))
            ]
        self._find_split(fresh)

    def _open_children_by_place(self, rows: Sequence[int]) -> dict[str, list[int]]:
        where: dict[str, list[int]] = defaultdict(list)
        for row in rows:
            for child in self.new_below[row]:
                if self.heirs[child] == _OPEN:
                    where[place_of(self.new.names[child])].append(row)
        return where

    def _find_split(self, fresh: Sequence[int]) -> None:
        """A new division most of whose children were one old division's was split from it: look for more there."""
        if not fresh:
            return
        areas = {self.new_parents[n] for n in fresh}
        lost: dict[tuple[int, str], list[int]] = defaultdict(list)
        for area in sorted(areas):
            heir = self.heirs[area] if area >= 0 else _GONE
            for holder in [heir, *self.old_below[heir]] if heir >= 0 else []:
                for child in self.old_below[holder]:
                    if self.went[child] == _OPEN:
                        lost[area, place_of(self.before.names[child])].append(holder)
        for row in fresh:
            origins: Counter[int] = Counter()
            children = self.new_below[row]
            for child in children:
                old = self.heirs[child]
                holders = lost.get((self.new_parents[row], place_of(self.new.names[child])), [])
                if old >= 0 and self.old_parents[old] >= 0:
                    origins[self.old_parents[old]] += 1
                elif len(holders) == 1:
                    origins[holders[0]] += 1
            for origin, number in origins.most_common(1):
                if number >= max(2, HALF * len(children)) and self.went[origin] >= 0:
                    self.others.setdefault(origin, []).append(row)
                    self.reasons.setdefault(row, f"split from {self.before.codes[origin]} {self.before.names[origin]}")

    # What follows for those that are gone.

    def _taken_over(self) -> dict[int, list[int]]:
        """Return by old row: who has the children of what is gone, or what was split off from what lives on."""
        out = {old: [row] for old, row in self.merged.items()}
        went = np.array(self.went, dtype=np.int64)
        for old in np.flatnonzero((went == _GONE) & (self.before.states == ACTIVE)).tolist():
            if old in self.merged:
                continue
            takers = Counter(self.new_parents[self.went[c]] for c in self.old_below[old] if self.went[c] >= 0)
            takers.pop(-1, None)
            if takers:
                out[old] = sorted(takers, key=lambda q: (-takers[q], self.new.codes[q]))
        for old, rows in self.others.items():
            split = [q for q in rows if self.new_levels[q] == self.old_levels[old]]
            if self.went[old] >= 0 and split:
                out[old] = split
        return out

    def _absorbed(self, taken_over: dict[int, list[int]]) -> dict[int, int]:
        """Return who answers for a gone identity's block, by identity: who has most of its children, or was decided."""
        first = int(self.before.ids.max(initial=0)) + 1
        fresh = (row for row, heir in enumerate(self.heirs) if heir < 0)
        born = {row: first + number for number, row in enumerate(fresh)}  # as `continue_plan` will number them
        out: dict[int, int] = {}
        for old, takers in taken_over.items():
            if self.went[old] == _GONE:
                heir = self.heirs[takers[0]]
                out[int(self.before.ids[old])] = int(self.before.ids[heir]) if heir >= 0 else born[takers[0]]
        return out


class _Below:
    """Children by row, without a list for each: rows sorted by their parents."""

    def __init__(self, parents: NDArray[np.int64]) -> None:
        self.order = np.argsort(parents, kind="stable")
        grouped = parents[self.order]
        size = parents.size
        self.starts = np.searchsorted(grouped, np.arange(size))
        self.ends = np.searchsorted(grouped, np.arange(size), side="right")

    def __getitem__(self, row: int) -> list[int]:
        rows: list[int] = self.order[self.starts[row] : self.ends[row]].tolist()
        return rows


class _Groups:
    """Joins new parents into groups: what was merged or split is one group, within which names are looked for."""

    def __init__(self) -> None:
        self.above: dict[int, int] = {}

    def _top(self, row: int) -> int:
        while self.above.get(row, row) != row:
            row = self.above[row]
        return row

    def join(self, rows: Sequence[int]) -> None:
        for row in rows[1:]:
            one, other = self._top(rows[0]), self._top(row)
            self.above[max(one, other)] = min(one, other)

    def of(self, rows: Sequence[int]) -> int | None:
        return self._top(rows[0]) if rows else None


@dataclass
class _Pairs:
    """One level's old and new divisions that are not settled, each with its group (None: parent gone without trace)."""

    olds: dict[int, int | None]
    news: dict[int, int | None]
    namesakes: dict[int, list[int]] | None = None

    def open_olds(self, went: Sequence[int]) -> list[int]:
        return [o for o in self.olds if went[o] == _OPEN]

    def open_news(self, heirs: Sequence[int]) -> list[int]:
        return [n for n in self.news if heirs[n] == _OPEN]

    @cached_property
    def _old_groups(self) -> dict[int | None, list[int]]:
        return _by_value(self.olds)

    @cached_property
    def _new_groups(self) -> dict[int | None, list[int]]:
        return _by_value(self.news)

    def siblings_old(self, old: int) -> list[int]:
        return self._old_groups.get(self.olds[old], [])

    def siblings_new(self, row: int) -> list[int]:
        return self._new_groups.get(self.news[row], [])

    def siblings_new_of_old(self, old: int) -> list[int]:
        group = self.olds[old]
        return [] if group is None else self._new_groups.get(group, [])


def _by_value(groups: dict[int, int | None]) -> dict[int | None, list[int]]:
    out: dict[int | None, list[int]] = defaultdict(list)
    for row, group in groups.items():
        out[group].append(row)
    return out


class _WideCounts:
    """How many divisions of a level bear a name in an area, before and after; counted once an area."""

    def __init__(self, tracer: Tracer) -> None:
        self.tracer = tracer
        self.old: dict[int, Counter[str]] = {}
        self.new: dict[int, Counter[str]] = {}

    def alone(self, old: int, row: int) -> bool:
        """Tell whether nobody else in the area bears this name, neither before nor after."""
        t = self.tracer
        parent = t.old_parents[old]
        above = t.old_parents[parent] if parent >= 0 else -1
        wide = t.wide_of_new(row)
        place = place_of(t.before.names[old])
        if above not in self.old:
            self.old[above] = self._count(t.old_below, above, t.before.names, t.old_parents, t.before.states == ACTIVE)
        if wide not in self.new:
            self.new[wide] = self._count(t.new_below, wide, t.new.names, t.new_parents, None)
        return self.old[above][place] == self.new[wide][place] == 1

    @staticmethod
    def _count(
        below: _Below, area: int, names: Sequence[str], parents: Sequence[int], wanted: NDArray[np.bool_] | None
    ) -> Counter[str]:
        if area >= 0:
            return Counter(place_of(names[c]) for child in below[area] for c in below[child])
        # No parent's parent: the roots' children.
        rows = range(len(names)) if wanted is None else np.flatnonzero(wanted).tolist()
        return Counter(place_of(names[r]) for r in rows if parents[r] < 0 or parents[parents[r]] < 0)


def _check_levels(before: HierarchyPlan, new: Divisions) -> None:
    known = {*before.layout.by_level, before.layout.root_level} - {0}
    for level in np.unique(new.levels).tolist():
        if level not in known:
            rows = np.flatnonzero(new.levels == level)
            which = f"{new.codes[rows[0]]} {new.names[rows[0]]}"
            raise ExtranetError(
                f"{which}: level {level} ({title_of(level)}, {counted(len(rows), 'division')}) has no field in the plan; "
                "name the plan's own root with --root, or plan anew in another pool"
            )
    root = before.layout.root_level
    if root and (len(new.roots) != 1 or int(new.levels[new.roots[0]]) != root or (new.levels == root).sum() != 1):
        rows = np.flatnonzero((before.levels == root) & (before.states == ACTIVE))
        which = f"{before.codes[rows[0]]} {before.names[rows[0]]}" if rows.size else "its root"
        raise ExtranetError(
            f"the plan is of {which} and all below it; the new list has {counted(len(new.roots), 'root')} - expected "
            f"one of level {root}: name it with --root"
        )


def title_of(level: int) -> str:
    """Return what a level's divisions are called."""
    return LEVEL_NAMES.get(level, f"level {level}")
