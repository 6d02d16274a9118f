"""Carrying a plan on: nobody is renumbered, nothing is guessed, nothing is given twice or again."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv6Network
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from addressing.decisions import read_decisions
from addressing.divisionnames import likeness, split_name
from addressing.divisions import Divisions, read_divisions
from addressing.hierarchy import (
    ABSORBED,
    ACTIVE,
    QUARANTINED,
    Fate,
    FateError,
    HierarchyPlan,
    continue_plan,
    plan_divisions,
)
from addressing.policy import LaidField, Layout, PlanPolicy
from addressing.succession import QuestionsOpenError, Succession, decisions_template, prove_unmoved, trace
from inventory.errors import ExtranetError, InputProblemsError

DATA = Path(__file__).parent / "data" / "luoyang-2021.tsv.xz"
LUOYANG = read_divisions(DATA)
YICHUAN = read_divisions(DATA, "410329000000")
VILLAGES_2023 = [
    ("410329001203", "410329001009", "瓦东"),
    ("410329001204", "410329001010", "瓦西"),
    ("410329001205", "410329001011", "瓦北"),
    ("410329001208", "410329001012", "古城寨"),
    ("410329001210", "410329001013", "石瑶"),
    ("410329001211", "410329001014", "三龙口"),
]
"""Six villages of one town that became communities (notes, T13)."""


@dataclass(frozen=True)
class Place:
    """One division, as a row of a list."""

    code: str
    name: str
    level: int
    parent: str


def places_of(divisions: Divisions) -> list[Place]:
    """Return divisions as rows."""
    columns = zip(divisions.codes, divisions.names, divisions.levels.tolist(), divisions.parents.tolist(), strict=True)
    return [Place(c, n, lv, divisions.codes[p] if p >= 0 else "") for c, n, lv, p in columns]


def listed(places: Iterable[Place]) -> Divisions:
    """Return rows as divisions."""
    rows = sorted(places, key=lambda p: p.code)
    at = {p.code: i for i, p in enumerate(rows)}
    assert len(at) == len(rows)
    return Divisions(
        [p.code for p in rows],
        [p.name for p in rows],
        np.array([p.level for p in rows], dtype=np.int8),
        np.array([at[p.parent] if p.parent else -1 for p in rows], dtype=np.int32),
    )


def planned(divisions: Divisions, *pools: str, widths: Sequence[int] = (8, 8, 10)) -> HierarchyPlan:
    """Return a plan of divisions under one root, or of a forest of counties, with fields wide enough for every test."""
    networks = tuple(map(IPv6Network, pools or ("3fff:400::/28",)))
    levels = sorted({int(lv) for lv in divisions.levels})
    root = levels.pop(0) if len(divisions.roots) == 1 else 0
    fields, length = [], networks[0].prefixlen
    for level, width in zip(levels, widths[-len(levels) :], strict=True):
        length += width
        fields.append(
            LaidField(level=level, name=f"f{level}", width=width, length=length, order="centre", reserved=(0,))
        )
    policy = PlanPolicy(pools=networks, leaf_at_most=64)
    return plan_divisions(divisions, policy, Layout(pools=networks, fields=tuple(fields), root_level=root))


def update(plan: HierarchyPlan, new: Divisions) -> HierarchyPlan:
    """Carry a plan on without decisions; proven."""
    traced = trace(plan, new)
    assert not traced.questions, [q.what for q in traced.questions]
    return proven(plan, traced)


def proven(plan: HierarchyPlan, traced: Succession) -> HierarchyPlan:
    """Carry a plan on as traced; proven."""
    after = continue_plan(plan, traced.divisions, traced.fate)
    proof = prove_unmoved(plan, after)
    assert proof.ok, proof.failures
    assert proof.renumbered == proof.given_twice == proof.given_again == 0
    assert sorted(c for c, s in zip(after.codes, after.states, strict=True) if s == ACTIVE) == traced.divisions.codes
    return after


def prefixes(plan: HierarchyPlan) -> dict[int, tuple[int, int]]:
    """Return prefixes by identity."""
    return {int(i): plan.prefix(r) for r, i in enumerate(plan.ids.tolist())}


def identity(plan: HierarchyPlan, code: str) -> int:
    """Return who bears a code today."""
    return int(plan.ids[plan.row_of[code]])


def what_of(traced: Succession, code: str) -> str:
    """Return what became of a division, by its old or new code."""
    (found,) = {c.what for c in traced.changes if code in {c.old_code, c.code}}
    return found


def changed(places: Iterable[Place], change: Callable[[Place], Place | None]) -> Divisions:
    """Return the list with each row changed or (None) left out."""
    return listed(p for p in map(change, places) if p is not None)


@pytest.fixture(scope="module")
def yichuan() -> HierarchyPlan:
    """The plan of Yichuan county."""
    return planned(YICHUAN)


# The real changes.


def yichuan_2023() -> Divisions:
    """Yichuan with six villages of one town turned into communities."""
    codes = {old: (new, f"{name}社区居民委员会") for old, new, name in VILLAGES_2023}

    def change(place: Place) -> Place:
        code, name = codes.get(place.code, (place.code, place.name))
        return replace(place, code=code, name=name)

    return changed(places_of(YICHUAN), change)


def test_six_villages_become_communities_and_keep_their_prefixes(yichuan: HierarchyPlan) -> None:
    """T13: six codes change, no prefix does, and nobody has to be asked."""
    traced = trace(yichuan, yichuan_2023())
    after = proven(yichuan, traced)
    assert {k: n for k, n in traced.counts.items() if n} == {"kept": 380, "recoded": 6}
    assert {(c.old_code, c.code) for c in traced.changes} == {(old, new) for old, new, _ in VILLAGES_2023}
    for old, new, _ in VILLAGES_2023:
        assert identity(after, new) == identity(yichuan, old)
        assert after.prefix(after.row_of[new]) == yichuan.prefix(yichuan.row_of[old])


def luoyang_2019() -> Divisions:
    """Luoyang before two counties became districts: 410381 偃师市, 410322 孟津县 and 410306 吉利区, un-done from 2021."""
    moved = {"410307": "410381", "410308": "410322"}
    jili = ("410308002", "410308003", "410308004", "410308005")
    names = {"410381000000": "偃师市", "410322000000": "孟津县"}

    def recode(code: str) -> str:
        head = "410306" if code.startswith(jili) else moved.get(code[:6], code[:6])
        return head + code[6:] if code else code

    def change(place: Place) -> Place:
        code, parent = recode(place.code), recode(place.parent)
        if code.startswith("410306") and place.level == 4:
            parent = "410306000000"
        return replace(place, code=code, parent=parent, name=names.get(code, place.name))

    return changed([*places_of(LUOYANG), Place("410306000000", "吉利区", 3, "410300000000")], change)


def test_luoyang_2019_to_2021_renumbers_nobody() -> None:
    """T13: three county codes go, two come, a quarter of the villages change codes, every village keeps its prefix."""
    before = planned(luoyang_2019())
    traced = trace(before, LUOYANG)
    after = proven(before, traced)
    assert not traced.counts["new"]
    assert not traced.counts["gone"]
    assert traced.counts["recoded"] > 500
    assert what_of(traced, "410381000000") == what_of(traced, "410322000000") == "recoded"
    (merged,) = [c for c in traced.changes if c.what == "merged"]
    assert (merged.old_code, merged.into) == ("410306000000", "410308000000 孟津区")
    assert identity(after, "410308000000") == identity(before, "410322000000")
    village = next(c for c in LUOYANG.codes if c.startswith("410308004") and c != "410308004000")
    assert identity(after, village) == identity(before, "410306" + village[6:])
    jili = int(after.row_of_id[identity(before, "410306000000")])
    assert after.states[jili] == ABSORBED
    assert after.intos[jili] == identity(after, "410308000000")
    assert (after.states == QUARANTINED).sum() == 0


# Laws.


def test_the_same_list_changes_nothing(yichuan: HierarchyPlan) -> None:
    """An update with the same divisions returns the plan itself, version and all."""
    traced = trace(yichuan, YICHUAN)
    assert not traced.changes_anything
    assert traced.counts["kept"] == len(YICHUAN)
    assert continue_plan(yichuan, YICHUAN, traced.fate) is yichuan
    assert [c.id for c in traced.kept()] == yichuan.ids.tolist()


def equal(one: HierarchyPlan, other: HierarchyPlan) -> bool:
    """Tell whether two plans have the same content."""
    columns = ("ids", "levels", "parents", "homes", "slots", "high", "lengths", "states", "intos")
    return (
        one.codes == other.codes
        and one.names == other.names
        and one.version == other.version
        and all(np.array_equal(getattr(one, c), getattr(other, c)) for c in columns)
    )


SYLLABLES = "东西南北中上下大小新张王李赵孙周吴郑冯陈沟河山岭庄寨店集桥湾坡塘"


class Bureau:
    """Changes a list as a statistics bureau does: at random, from a seed; one change a line."""

    def __init__(self, seed: int, places: list[Place]) -> None:
        self.random = random.Random(seed)
        self.places = {p.code: p for p in places}

    def name(self, level: int) -> str:
        return "".join(self.random.choices(SYLLABLES, k=3)) + {3: "县", 4: "镇", 5: "村委会"}[level]

    def free_code(self, parent: Place, level: int) -> str:
        """Return a code under a parent, one that was used and left included."""
        head, size = (parent.code[:6], 3) if level == 4 else (parent.code[:9], 3)
        codes = (f"{head}{n:0{size}}".ljust(12, "0") for n in self.random.sample(range(1, 60), 59))
        return next(c for c in codes if c not in self.places)

    def pick(self, *levels: int) -> Place:
        return self.random.choice(sorted((p for p in self.places.values() if p.level in levels), key=lambda p: p.code))

    def below(self, place: Place) -> list[Place]:
        return [p for p in self.places.values() if p.parent == place.code]

    def add(self) -> None:
        parent = self.pick(3, 4)
        level = parent.level + 1
        code = self.free_code(parent, level)
        self.places[code] = Place(code, self.name(level), level, parent.code)

    def remove(self) -> None:
        place = self.pick(4, 5)
        if sum(p.level == place.level for p in self.places.values()) > 2:
            for gone in [*self.below(place), place]:
                del self.places[gone.code]

    def rename(self) -> None:
        place = self.pick(4, 5)
        self.places[place.code] = replace(place, name=self.name(place.level))

    def recode(self) -> None:
        place = self.pick(4, 5)
        self.put(place, self.places[place.parent])

    def put(self, place: Place, parent: Place) -> None:
        """Give a place a new code under a parent, and its children codes under that."""
        children = self.below(place)
        del self.places[place.code]
        new = replace(place, code=self.free_code(parent, place.level), parent=parent.code)
        self.places[new.code] = new
        for child in children:
            self.put(child, new)

    def move(self) -> None:
        self.put(self.pick(5), self.pick(4))

    def merge(self) -> None:
        one, other = self.pick(4), self.pick(4)
        if one != other:
            for child in self.below(one):
                self.put(child, other)
            del self.places[one.code]

    def swap(self) -> None:
        one, other = self.pick(5), self.pick(5)
        if one != other:
            self.places[one.code] = replace(one, name=other.name)
            self.places[other.code] = replace(other, name=one.name)

    def act(self, number: int) -> None:
        for _ in range(number):
            self.random.choice(
                [self.add, self.add, self.remove, self.rename, self.recode, self.move, self.merge, self.swap]
            )()


def small_county(seed: int) -> list[Place]:
    """Return a county of a few towns and villages, names at random."""
    bureau = Bureau(seed, [Place("410329000000", "伊川县", 3, "")])
    for _ in range(4):
        bureau.add()
    for _ in range(25):
        bureau.add()
    return list(bureau.places.values())


def answer_at_random(folder: Path, traced: Succession, chance: random.Random) -> Path:
    """Answer every question somehow, as a person may, without contradiction."""
    lines = ["old,new,verdict"]
    taken: set[str] = set()
    for question in traced.questions:
        for c in question.candidates:
            verdict = chance.choice(["same", "new", "gone", "merged"])
            if {c.old, c.new} & taken:
                continue
            taken |= {c.old, c.new} if verdict != "gone" else {c.old}
            lines.append(f"{c.old},{c.new},{verdict}")
    path = folder / f"decisions-{chance.random()}.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def settle(folder: Path, plan: HierarchyPlan, new: Divisions, chance: random.Random) -> Succession | None:
    """Trace, answer at random, trace again till nothing is asked; None when answers cannot stand together."""
    text = ""
    traced = trace(plan, new)
    for _ in range(20):
        if not traced.questions:
            return traced
        text += answer_at_random(folder, traced, chance).read_text("utf-8").removeprefix("old,new,verdict\n")
        path = folder / "all.csv"
        path.write_text("old,new,verdict\n" + text, encoding="utf-8")
        try:
            traced = trace(plan, new, read_decisions(path))
        except InputProblemsError:
            return None
    raise AssertionError([q.what for q in traced.questions])


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 1 << 30), steps=st.lists(st.integers(0, 12), min_size=1, max_size=4))
def test_nobody_is_renumbered_whatever_the_bureau_does(
    tmp_path_factory: pytest.TempPathFactory, seed: int, steps: list[int]
) -> None:
    """Through any sequence of lists and answers: prefixes stay, no slot is given twice or again, twice is once."""
    folder, chance = tmp_path_factory.mktemp("run"), random.Random(seed)
    places = small_county(seed)
    plan = planned(listed(places))
    bureau = Bureau(seed, places)
    ever = prefixes(plan)
    for number in steps:
        bureau.act(number)
        new = listed(bureau.places.values())
        traced = settle(folder, plan, new, chance)
        if traced is None:
            break
        after = proven(plan, traced)
        assert {i: p for i, p in prefixes(after).items() if i in ever} == ever
        ever = prefixes(after)
        assert len(set(ever.values())) == len(ever)
        again = trace(after, new)
        assert not again.questions
        assert not again.changes_anything
        assert continue_plan(after, new, again.fate) is after
        assert traced.changes_anything == (after is not plan)
        counts, active = traced.counts, int((plan.states == ACTIVE).sum())
        continued = sum(counts[k] for k in ("kept", "renamed", "recoded", "moved"))
        assert continued + counts["restored"] + counts["new"] == len(new)
        lost = {c.id for c in traced.changes if c.what in {"merged", "split", "gone"}} - {
            int(plan.ids[o]) for o in traced.old_rows.tolist() if o >= 0
        }
        assert continued + len(lost) == active
        plan = after


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1 << 30))
def test_the_order_of_the_new_file_does_not_matter(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    """The same rows in another order: the same succession and the same plan."""
    places = small_county(seed)
    plan = planned(listed(places))
    bureau = Bureau(seed + 1, places)
    bureau.act(6)
    folder, rows = tmp_path_factory.mktemp("order"), list(bureau.places.values())
    found = []
    for turn in range(2):
        random.Random(seed + turn).shuffle(rows)
        path = folder / f"{turn}.tsv"
        path.write_text("code\tname\n" + "".join(f"{p.code}\t{p.name}\n" for p in rows), encoding="utf-8")
        found.append(trace(plan, read_divisions(path)))
    one, other = found
    assert one.questions == other.questions
    assert one.changes == other.changes
    if not one.questions:
        assert equal(proven(plan, one), proven(plan, other))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1 << 30), number=st.integers(1, 30))
def test_recoding_everything_under_its_names_asks_nothing(seed: int, number: int) -> None:
    """When every code changes and names stay (no two alike under a parent), everybody is found again."""
    places = small_county(seed)
    bureau = Bureau(number, places)
    for town in [p for p in places if p.level == 4]:
        bureau.put(town, bureau.places[town.parent])
    names = [(p.parent, split_name(p.name)[0]) for p in places]
    if len(set(names)) < len(names):
        return
    plan = planned(listed(places))
    traced = trace(plan, listed(bureau.places.values()))
    assert not traced.questions
    assert traced.counts["new"] == traced.counts["gone"] == 0


def test_released_slots_are_never_given_again(yichuan: HierarchyPlan) -> None:
    """A village goes, another comes in its town: another slot; the old one stays quarantined for good."""
    less = changed(places_of(YICHUAN), lambda p: None if p.code == "410329001203" else p)
    after = update(yichuan, less)
    gone = int(after.row_of_id[identity(yichuan, "410329001203")])
    assert after.states[gone] == QUARANTINED
    more = listed([*places_of(less), Place("410329001300", "幸福村委会", 5, "410329001000")])
    last = update(after, more)
    fresh = last.row_of["410329001300"]
    assert last.slots[fresh] not in yichuan.slots[yichuan.homes == identity(yichuan, "410329001000")]
    assert last.ids[fresh] == len(yichuan) + 1


# What is certain, and what is asked.


def one_change(yichuan: HierarchyPlan, *replacements: tuple[str, str, str]) -> Succession:
    """Trace a list in which codes have become other codes and names."""
    by_old = {old: (new, name) for old, new, name in replacements}

    def change(place: Place) -> Place:
        code, name = by_old.get(place.code, (place.code, place.name))
        return replace(place, code=code, name=name)

    return trace(yichuan, changed(places_of(YICHUAN), change))


@pytest.mark.parametrize(
    ("code", "name", "what"),
    [
        ("410329001203", "瓦东村委会", "kept"),
        ("410329001203", "瓦东 村", "kept"),
        ("410329001203", "瓦东社区居委会", "renamed"),
        ("410329001203", "瓦东新村村委会", "renamed"),
        ("410329001203", "幸福村委会", "renamed"),
        ("410329001299", "瓦东村民委员会", "recoded"),
        ("410329001299", "瓦东社区", "recoded"),
    ],
)
def test_certain_changes_are_not_asked_about(yichuan: HierarchyPlan, code: str, name: str, what: str) -> None:
    """One village with another spelling, name or code, where nobody else may be meant."""
    traced = one_change(yichuan, ("410329001203", code, name))
    after = proven(yichuan, traced)
    assert traced.counts[what] == (1 if what != "kept" else len(YICHUAN))
    assert identity(after, code) == identity(yichuan, "410329001203")
    assert after.names[after.row_of[code]] == name
    assert traced.changes_anything
    assert after.version == 2


def test_a_code_used_again_for_another_does_not_inherit(yichuan: HierarchyPlan) -> None:
    """瓦东 goes to another code and its own is given to 幸福: the identity follows the name."""
    rows = places_of(YICHUAN)
    rows = [replace(p, code="410329001299") if p.code == "410329001203" else p for p in rows]
    new = listed([*rows, Place("410329001203", "幸福村委会", 5, "410329001000")])
    after = update(yichuan, new)
    assert identity(after, "410329001299") == identity(yichuan, "410329001203")
    assert identity(after, "410329001203") == len(yichuan) + 1


def test_swapped_codes_follow_the_names(yichuan: HierarchyPlan) -> None:
    """Two villages that swapped codes keep their prefixes, though each code is still there with a similar name."""
    traced = one_change(
        yichuan,
        ("410329001203", "410329001204", "瓦东村村民委员会"),
        ("410329001204", "410329001203", "瓦西村村民委员会"),
    )
    after = proven(yichuan, traced)
    assert identity(after, "410329001204") == identity(yichuan, "410329001203")
    assert identity(after, "410329001203") == identity(yichuan, "410329001204")


def test_weak_likeness_is_asked_not_guessed(yichuan: HierarchyPlan) -> None:
    """古城寨 gone and 古城 new in one town may be one village: asked; 幸福 is plainly another: not asked."""
    traced = one_change(yichuan, ("410329001208", "410329001299", "古城村委会"))
    (question,) = traced.questions
    assert [(c.old, c.new) for c in question.candidates] == [("410329001208", "410329001299")]
    with pytest.raises(QuestionsOpenError) as caught:
        _ = traced.fate
    assert caught.value.exit_code == 3
    plain = one_change(yichuan, ("410329001208", "410329001299", "幸福村委会"))
    assert not plain.questions
    assert plain.counts["new"] == plain.counts["gone"] == 1


def test_two_candidates_are_asked_about(yichuan: HierarchyPlan) -> None:
    """东风 may be 东风一村 or 东风二村: both are named, best first."""
    rows = [p for p in places_of(YICHUAN) if p.code != "410329001208"]
    new = [Place(f"41032900129{n}", f"古城寨{word}村村委会", 5, "410329001000") for n, word in ((1, "一"), (2, "二"))]
    (question,) = trace(yichuan, listed([*rows, *new])).questions
    assert {c.new for c in question.candidates} == {"410329001291", "410329001292"}


def test_a_reused_code_with_the_old_name_elsewhere_is_asked_about(yichuan: HierarchyPlan) -> None:
    """The code bears another name and the old name turns up in another town: nobody inherits before it is decided."""
    rows = [replace(p, name="幸福村委会") if p.code == "410329001208" else p for p in places_of(YICHUAN)]
    new = listed([*rows, Place("410329101299", "古城寨村村民委员会", 5, "410329101000")])
    (question,) = trace(yichuan, new).questions
    assert {c.new for c in question.candidates} == {"410329001208", "410329101299"}
    assert question.candidates[0].new == "410329101299"


def test_a_village_moved_to_another_town_keeps_its_prefix(yichuan: HierarchyPlan) -> None:
    """The only one of its name in the county, before and after."""
    rows = [
        replace(p, code="410329101299", parent="410329101000") if p.code == "410329001208" else p
        for p in places_of(YICHUAN)
    ]
    traced = trace(yichuan, listed(rows))
    after = proven(yichuan, traced)
    assert traced.counts["moved"] == 1
    assert identity(after, "410329101299") == identity(yichuan, "410329001208")
    row = after.row_of["410329101299"]
    assert after.parents[row] == identity(after, "410329101000")
    assert after.homes[row] == identity(after, "410329001000")


def test_a_town_merged_into_another_is_absorbed(yichuan: HierarchyPlan) -> None:
    """Its villages, under new codes in the other town, keep their prefixes, and its block stays in use."""
    villages = [p.code for p in places_of(YICHUAN) if p.parent == "410329002000"]

    def change(place: Place) -> Place | None:
        if place.code == "410329002000":
            return None
        if place.code in villages:
            return replace(place, code=f"4103290016{villages.index(place.code):02}", parent="410329001000")
        return place

    traced = trace(yichuan, changed(places_of(YICHUAN), change))
    after = proven(yichuan, traced)
    assert (traced.counts["merged"], traced.counts["recoded"]) == (1, len(villages))
    town = int(after.row_of_id[identity(yichuan, "410329002000")])
    assert (after.states[town], after.intos[town]) == (ABSORBED, identity(after, "410329001000"))
    # The one that took over goes in turn, with all but one village, which goes to a third: that answers for both blocks.
    kept = next(p for p in places_of(traced.divisions) if p.code.startswith("4103290016"))
    last = listed(
        [p for p in places_of(traced.divisions) if not p.code.startswith("410329001")]
        + [replace(kept, code="410329101299", parent="410329101000")]
    )
    final = update(after, last)
    for code in ("410329001000", "410329002000"):
        row = int(final.row_of_id[identity(yichuan, code)])
        assert (final.states[row], final.intos[row]) == (ABSORBED, identity(final, "410329101000"))


def test_a_town_split_in_two_keeps_all_villages(yichuan: HierarchyPlan) -> None:
    """Half of a town's villages in a new town: they keep their prefixes, the new town gets a slot of its own."""
    villages = sorted(p.code for p in places_of(YICHUAN) if p.parent == "410329103000")[::2]

    def change(place: Place) -> Place:
        if place.code in villages:
            return replace(place, code=f"410329113{place.code[-3:]}", parent="410329113000")
        return place

    rows = places_of(changed([*places_of(YICHUAN), Place("410329113000", "新彭镇", 4, "410329000000")], change))
    traced = trace(yichuan, listed(rows))
    after = proven(yichuan, traced)
    assert (traced.counts["new"], traced.counts["gone"], traced.counts["split"]) == (1, 0, 1)
    for code in villages:
        assert identity(after, f"410329113{code[-3:]}") == identity(yichuan, code)


def test_a_town_with_new_code_and_name_is_known_by_its_villages(yichuan: HierarchyPlan) -> None:
    """Most of its children have the same names: it is the same town."""
    rows = [
        replace(p, code=p.code.replace("410329103", "410329117"), parent=p.parent.replace("410329103", "410329117"))
        for p in places_of(YICHUAN)
    ]
    rows = [replace(p, name="伊滨街道") if p.code == "410329117000" else p for p in rows]
    after = update(yichuan, listed(rows))
    assert identity(after, "410329117000") == identity(yichuan, "410329103000")
    assert (after.states == ACTIVE).all()


def test_what_is_below_a_question_waits(yichuan: HierarchyPlan) -> None:
    """A town of which nobody knows who it is: one question, not one for each village."""
    numbers = iter(range(100))

    def change(place: Place) -> Place:
        if not place.code.startswith("410329103"):
            return place
        name = f"鼓{next(numbers)}角村" if place.level == 5 else "彭婆新镇"
        code, parent = (x.replace("410329103", "410329117") for x in (place.code, place.parent))
        return replace(place, code=code, parent=parent, name=name)

    traced = trace(yichuan, changed(places_of(YICHUAN), change))
    assert [q.level for q in traced.questions] == [4]


def test_what_comes_back_under_code_and_name_gets_its_identity_back(yichuan: HierarchyPlan) -> None:
    """Gone and back: the same prefix; under the same code but a similar name: asked; under another name: new."""
    gone = update(yichuan, changed(places_of(YICHUAN), lambda p: None if p.code == "410329001208" else p))
    traced = trace(gone, YICHUAN)
    assert {k: n for k, n in traced.counts.items() if n} == {"kept": 385, "restored": 1}
    back = proven(gone, traced)
    assert prefixes(back) == prefixes(yichuan)
    assert (back.states == ACTIVE).all()
    similar = [replace(p, name="古城村委会") if p.code == "410329001208" else p for p in places_of(YICHUAN)]
    (question,) = trace(gone, listed(similar)).questions
    assert question.candidates[0].old == f"410329001208#{identity(yichuan, '410329001208')}"
    other = [replace(p, name="幸福村委会") if p.code == "410329001208" else p for p in places_of(YICHUAN)]
    fresh = update(gone, listed(other))
    assert identity(fresh, "410329001208") == len(yichuan) + 1
    elsewhere = [replace(p, code="410329001298") if p.code == "410329001208" else p for p in places_of(YICHUAN)]
    assert len(trace(gone, listed(elsewhere)).questions) == 1


def test_one_restored_under_a_home_that_is_gone_keeps_that_block_in_use(yichuan: HierarchyPlan) -> None:
    """A town and its villages go; one village comes back under another town: the old block is absorbed, not free."""
    town = "410329002"
    gone = update(yichuan, changed(places_of(YICHUAN), lambda p: None if p.code.startswith(town) else p))
    village = next(p for p in places_of(YICHUAN) if p.parent == f"{town}000")
    rows = [p for p in places_of(YICHUAN) if not p.code.startswith(town)]
    after = update(gone, listed([*rows, replace(village, parent="410329001000")]))
    home = int(after.row_of_id[identity(yichuan, f"{town}000")])
    assert identity(after, village.code) == identity(yichuan, village.code)
    assert (after.states[home], after.intos[home]) == (ABSORBED, identity(after, "410329001000"))


def test_children_that_skip_a_level_and_come_back_keep_their_prefixes() -> None:
    """A district goes and its towns lie directly under the city, as in Dongguan; then they get a district again."""
    before = planned(LUOYANG)

    def under(head: str, county: str) -> Callable[[Place], Place | None]:
        def change(place: Place) -> Place | None:
            if place.code == "410302000000":
                return None
            if not place.code.startswith("410302"):
                return place
            parent = county if place.level == 4 else head + place.parent[6:]
            return replace(place, code=head + place.code[6:], parent=parent)

        return change

    flat = changed(places_of(LUOYANG), under("410300", "410300000000"))
    traced = trace(before, flat)
    after = proven(before, traced)
    assert traced.counts["new"] == traced.counts["gone"] == 0
    district = int(after.row_of_id[identity(before, "410302000000")])
    assert (after.states[district], after.intos[district]) == (ABSORBED, identity(after, "410300000000"))
    district_row = Place("410312000000", "河洛区", 3, "410300000000")
    again = changed([*places_of(LUOYANG), district_row], under("410312", "410312000000"))
    traced = trace(after, again)
    last = proven(after, traced)
    assert (traced.counts["new"], traced.counts["gone"]) == (1, 0)
    for place in places_of(LUOYANG):
        if place.code.startswith("410302") and place.level > 3:
            assert identity(last, "410312" + place.code[6:]) == identity(before, place.code)


# The root, levels and pools.


def test_the_root_may_change_its_code_but_not_be_another(yichuan: HierarchyPlan) -> None:
    """The pool's own division: re-coded with its children it lives on; another county's list is asked about."""

    def recode(code: str) -> str:
        return code.replace("410329", "410309", 1) if code else ""

    rows = [replace(p, code=recode(p.code), parent=recode(p.parent)) for p in places_of(YICHUAN)]
    rows = [replace(p, name="伊川区") if p.level == 3 else p for p in rows]
    traced = trace(yichuan, listed(rows))
    after = proven(yichuan, traced)
    assert traced.counts["recoded"] == len(YICHUAN)
    assert len(after) == len(yichuan)
    other = read_divisions(DATA, "410323000000")
    (question,) = trace(yichuan, other).questions
    assert "the root is another" in question.what


def test_lists_that_do_not_fit_the_plan_are_refused_in_words(yichuan: HierarchyPlan) -> None:
    """The whole city for a county's plan; a county without its root."""
    with pytest.raises(
        ExtranetError, match=r"level 2 \(city, 1 division\) has no field in the plan; name the plan's own"
    ):
        trace(yichuan, LUOYANG)
    towns = listed(replace(p, parent="" if p.level == 4 else p.parent) for p in places_of(YICHUAN) if p.level > 3)
    with pytest.raises(ExtranetError, match="15 roots - expected one of level 3"):
        trace(yichuan, towns)


def test_a_level_change_never_inherits(yichuan: HierarchyPlan) -> None:
    """A village that becomes a town cannot keep a village's prefix: it is new, the old one is gone."""
    rows = [replace(p, level=4, parent="410329000000") if p.code == "410329001208" else p for p in places_of(YICHUAN)]
    traced = trace(yichuan, listed(rows))
    after = proven(yichuan, traced)
    assert identity(after, "410329001208") == len(yichuan) + 1
    assert traced.counts["gone"] == traced.counts["new"] == 1
    fate = Fate(np.arange(1, len(YICHUAN) + 1, dtype=np.int64), {})
    with pytest.raises(FateError, match="410329001208 古城寨村村民委员会: its level is another"):
        continue_plan(yichuan, listed(rows), fate)


@pytest.mark.parametrize("forest", [True, False])
def test_several_pools_go_on_one_after_the_other(*, forest: bool) -> None:
    """With two small pools and more towns than one holds, with and without a root: all differ, updates move nobody."""
    towns = [Place(f"410329{n:03}000", f"{SYLLABLES[n]}{SYLLABLES[-n]}镇", 4, "410329000000") for n in range(1, 6)]
    rows = [Place("410329000000", "伊川县", 3, ""), *towns]
    if forest:
        rows = [replace(p, parent="") for p in towns]
    rows += [Place(f"410329{n:03}201", f"{SYLLABLES[n]}村", 5, f"410329{n:03}000") for n in range(1, 6)]
    plan = planned(listed(rows), "3fff:400::/36", "3fff:500::/36", widths=(2, 8))
    assert len(set(prefixes(plan).values())) == len(plan)
    assert prove_unmoved(plan, plan).ok
    less = update(plan, listed(p for p in rows if not p.code.startswith("410329005")))
    more = [p for p in rows if not p.code.startswith("410329005")]
    more.append(Place("410329009000", "鼓楼镇", 4, "" if forest else "410329000000"))
    last = update(less, listed(more))
    assert int(last.high[last.row_of["410329009000"]]) >> 32 == 0x3FFF0500


# Decisions.


def decide(folder: Path, *lines: str) -> Path:
    """Write decisions in YAML."""
    path = folder / "decisions.yaml"
    path.write_text("\n".join(f"- {{{line}}}" for line in lines) + "\n", encoding="utf-8")
    return path


WEAK = ("410329001208", "410329001299", "古城村委会")


@pytest.mark.parametrize(
    ("verdict", "counts", "state"),
    [
        ("same", {"recoded": 1}, ACTIVE),
        ("new", {"new": 1, "gone": 1}, QUARANTINED),
        ("gone", {"new": 1, "gone": 1}, QUARANTINED),
        ("merged", {"new": 1, "merged": 1}, ABSORBED),
    ],
)
def test_decisions_settle_a_question(
    tmp_path: Path, yichuan: HierarchyPlan, verdict: str, counts: dict[str, int], state: int
) -> None:
    """Each verdict does what it says; applied again to the plan that came of it, the file changes nothing."""
    new = one_change(yichuan, WEAK).divisions
    decisions = read_decisions(decide(tmp_path, f"old: 410329001208, new: 410329001299, verdict: {verdict}"))
    traced = trace(yichuan, new, decisions)
    assert {k: n for k, n in traced.counts.items() if n and k != "kept"} == counts
    after = proven(yichuan, traced)
    row = int(after.row_of_id[identity(yichuan, "410329001208")])
    assert after.states[row] == state
    if state == ABSORBED:
        assert after.intos[row] == identity(after, "410329001299")
    again = trace(after, new, decisions)
    assert not again.questions
    assert not again.changes_anything


def test_the_template_is_refused_as_it_is_and_settles_once_answered(tmp_path: Path, yichuan: HierarchyPlan) -> None:
    """One line a candidate; without verdicts each is listed; one answer for a division is enough."""
    rows = [p for p in places_of(YICHUAN) if p.code != "410329001208"]
    extra = [Place(f"41032900129{n}", f"古城寨{word}村村委会", 5, "410329001000") for n, word in ((1, "一"), (2, "二"))]
    new = listed([*rows, *extra])
    template = decisions_template(trace(yichuan, new))
    path = tmp_path / "template.yaml"
    path.write_text(template, encoding="utf-8")
    with pytest.raises(InputProblemsError) as caught:
        read_decisions(path)
    assert len(caught.value.problems) == 2
    assert "expected same, new, gone, merged, found none" in str(caught.value.problems[0])
    path.write_text(template.replace('"410329001292", verdict:', '"410329001292", verdict: same'), encoding="utf-8")
    traced = trace(yichuan, new, read_decisions(path))
    assert not traced.questions
    assert identity(proven(yichuan, traced), "410329001292") == identity(yichuan, "410329001208")


def test_decisions_overrule_what_seemed_certain(tmp_path: Path, yichuan: HierarchyPlan) -> None:
    """A code kept by an altogether new village: the person says so, naming the identity; the old one is gone."""
    number = identity(yichuan, "410329001208")
    line = f'old: "410329001208#{number}", new: 410329001208, verdict: new'
    decisions = read_decisions(decide(tmp_path, line))
    after = proven(yichuan, trace(yichuan, YICHUAN, decisions))
    assert identity(after, "410329001208") == len(yichuan) + 1
    assert not trace(after, YICHUAN, decisions).changes_anything


def test_wrong_decisions_are_listed_at_once(tmp_path: Path, yichuan: HierarchyPlan) -> None:
    """Unknown codes, contradictions, other levels and unclear lines: each with its row."""
    path = decide(
        tmp_path,
        "old: 410329001208, new: 410329001204, verdict: same",
        "old: 410329001208, new: 410329001205, verdict: same",
        "old: 410329009999, new: 410329009998, verdict: same",
        "old: 410329009999, verdict: gone",
        "old: 410329101000, new: 410329001203, verdict: same",
        "old: 410329001203, new: 410329001203, verdict: new",
    )
    with pytest.raises(InputProblemsError) as caught:
        trace(yichuan, YICHUAN, read_decisions(path))
    found = {p.row: str(p) for p in caught.value.problems}
    assert sorted(row for row in found if row) == [2, 3, 4, 5, 6]
    assert "contradicts a line above" in found[2]
    assert "410329009998 is not in the new list" in found[3]
    assert "no division of the plan has this code" in found[4]
    assert "(town) cannot become a /" in found[5]
    assert "write which one was meant: 410329001203#" in found[6]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "empty file"),
        ("old,new,verdict\n", "found none"),
        ("old,new,verdict\n1,2,maybe\n", "expected same, new, gone, merged, found 'maybe'"),
        ("- {old: x1, new: 410329001203, verdict: same}\n", "expected a division code for verdict 'same', found 'x1'"),
        ("- {old: 410329001203, verdict: merged}\n", "found ''"),
        ("- {alt: 410329001203}\n", "found 'alt'"),
        ("- [1, 2\n", "not YAML"),
        ("just words\n", "expected a list of decisions"),
        ("- " * 3000 + "\n", "decisions"),
    ],
)
def test_files_that_are_no_decisions_are_refused(tmp_path: Path, text: str, said: str) -> None:
    """In words, with the way to write them."""
    path = tmp_path / "d.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputProblemsError, match=r"d\.yaml") as caught:
        read_decisions(path)
    assert said in str(caught.value)


def test_decisions_in_csv_and_chinese_are_read(tmp_path: Path) -> None:
    """A table from a spreadsheet says the same as YAML."""
    path = tmp_path / "d.csv"
    path.write_bytes("原代码,新代码,判定\n410329001208,410329001299,并入\n".encode("gb18030"))
    yaml = read_decisions(decide(tmp_path, "old: 410329001208, new: 410329001299, verdict: merged"))
    (one,), (other,) = read_decisions(path).answers, yaml.answers
    assert (one.old, one.new, one.verdict) == (other.old, other.new, other.verdict)


# The proof fails when it should; the report says what happened.


def test_the_proof_notices_every_breach(yichuan: HierarchyPlan) -> None:
    """A moved slot, a prefix given twice, a slot given again, a lost identity, a quarantined home: each is named."""
    assert prove_unmoved(yichuan, yichuan).ok

    def broken(**columns: object) -> list[str]:
        return list(prove_unmoved(yichuan, replace(yichuan, **columns)).failures)  # type: ignore[arg-type]

    slots = yichuan.slots.copy()
    slots[2] = slots[3]
    assert any("was renumbered" in f for f in broken(slots=slots))
    high = yichuan.high.copy()
    high[2] = high[3]
    assert any("was given twice" in f for f in broken(high=high))
    states = yichuan.states.copy()
    states[yichuan.row_of["410329001000"]] = QUARANTINED
    found = broken(states=states)
    assert any("lives in the block of one that is quarantined" in f for f in found)
    assert any("its parent is active no more" in f for f in found)
    ids = yichuan.ids.copy()
    ids[5] = 9999
    found = broken(ids=ids)
    assert any("is in the plan no more" in f for f in found)
    assert any("was given a slot that another identity has had" in f for f in found)


def test_the_report_says_what_happened(yichuan: HierarchyPlan) -> None:
    """Lines for people in both languages and the same as JSON."""
    traced = trace(yichuan, yichuan_2023())
    assert "recoded 410329001203 瓦东村村民委员会 -> 410329001009 瓦东社区居民委员会" in traced.lines()[0]
    assert traced.lines("zh")[0] == "改码 410329001203 瓦东村村民委员会 -> 410329001009 瓦东社区居民委员会"
    told = traced.as_json()
    assert told["counts"] == traced.counts
    assert len(told["changes"]) == 6
    assert told["changes"][0]["old_code"] == "410329001203"


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        ("瓦东村村民委员会", "瓦东社区居委会", True),
        ("城关镇", "城关街道办事处", True),
        ("偃师市", "偃师区", True),
        ("瀍河回族区", "瀍河区", True),
        ("红旗村委会", "红旗社区", True),
        ("瓦东村", "瓦西村", False),
        ("市辖区", "县", False),
    ],
)
def test_names_of_one_place_are_alike(one: str, other: str, *, alike: bool) -> None:
    """What says only of which kind a place is does not count."""
    assert (likeness(one, other) == 1.0) is alike
