"""Laws of the bit budget: the best widths are found, policies are obeyed, what is refused says what would do."""

from __future__ import annotations

import json
from ipaddress import IPv6Network
from itertools import product
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from addressing.budget import Budget, BudgetRefusedError, describe_budget, describe_rest, lay_out
from addressing.divisions import Divisions, read_divisions
from addressing.fanouts import measure
from addressing.hierarchy import plan_divisions
from addressing.policy import Infrastructure, Layout, LevelField, PlanPolicy, Subnet
from addressing.ratios import hd_ratio
from addressing.widths import Demand, grow
from inventory.errors import ExtranetError

LUOYANG = Path(__file__).parent / "data" / "luoyang-2021.tsv.xz"
CHINA, HENAN, CITY, COUNTY = (31, 21, 36, 52, 168), (18, 16, 33, 74), (16, 19, 41), (15, 41)


def tree(fan_outs: tuple[int, ...], bottom: int = 5) -> Divisions:
    """Return a root with the children of one level each, as many as given under the first of the level above."""
    top = bottom - len(fan_outs)
    levels, parents, codes = [top], [-1], ["0"]
    parent = 0
    for depth, number in enumerate(fan_outs, 1):
        first = len(levels)
        levels += [top + depth] * number
        parents += [parent] * number
        codes += [f"{codes[parent]}.{n:04}" for n in range(number)]
        parent = first
    order = sorted(range(len(codes)), key=codes.__getitem__)
    place = {old: new for new, old in enumerate(order)}
    return Divisions(
        codes=[codes[i] for i in order],
        names=[f"name {codes[i]}" for i in order],
        levels=np.array([levels[i] for i in order], dtype=np.int8),
        parents=np.array([place[parents[i]] if parents[i] >= 0 else -1 for i in order], dtype=np.int32),
    )


def policy(pool: str, **changes: object) -> PlanPolicy:
    """Return a policy of one pool."""
    return PlanPolicy.model_validate({"pools": (IPv6Network(pool),), **changes})


def widths(layout: Layout) -> tuple[int, ...]:
    """Return a layout's widths, highest level first."""
    return tuple(f.width for f in layout.fields)


def refused(divisions: Divisions, wanted: PlanPolicy) -> BudgetRefusedError:
    """Return the refusal."""
    with pytest.raises(BudgetRefusedError) as caught:
        lay_out(divisions, wanted)
    return caught.value


@pytest.mark.parametrize(
    ("fan_outs", "bits"),
    [(CHINA, (8, 8, 8, 8, 12)), (HENAN, (8, 8, 8, 8)), (CITY, (8, 8, 8)), (COUNTY, (8, 8))],
    ids=["China", "Henan", "Luoyang", "Yichuan"],
)
def test_real_hierarchies(fan_outs: tuple[int, ...], bits: tuple[int, ...]) -> None:
    """Real fan-outs take 44, 32, 24 and 16 bits where every border is to fall between two digits, at a /56 each."""
    today = tuple(LevelField(level=n, growth=0.0) for n in range(1, 6))
    layout, budget = lay_out(tree(fan_outs), policy(f"2000::/{56 - sum(bits)}", fields=today))
    assert widths(layout) == bits
    assert sum(bits) == {5: 44, 4: 32, 3: 24, 2: 16}[len(bits)]
    assert budget.leaf_length == 56
    assert {r.word for r in budget.rows} == {"comfortable"}
    assert all(r.nibble for r in budget.rows)


def test_china_needs_more_than_a_32() -> None:
    """From /32 the whole country does not fit at a /56 each; what is said would do does, and a bit less does not."""
    error = refused(tree(CHINA), policy("3fff:1000::/32"))
    longest = max(a.pool_length for a in error.budget.alternatives if a.kind == "pool")
    assert lay_out(tree(CHINA), policy(f"2000::/{longest}"))[1].leaf_length == 56
    refused(tree(CHINA), policy(f"2000::/{longest + 1}"))
    assert f"a pool of /{longest} " in str(error)


def test_yichuan_from_a_40() -> None:
    """T12: from a /40, Yichuan's towns get 8 bits and a /48 each, its villages 8 bits and a /56."""
    divisions = read_divisions(LUOYANG, "410329000000")
    layout, budget = lay_out(divisions, policy("3fff:410:300::/40"))
    assert widths(layout) == (8, 8)
    assert [f.length for f in layout.fields] == [48, 56]
    assert layout.root_level == 3
    town, village = budget.rows[1:]
    assert (town.count, town.children, town.grown) == (15, 15, 18)
    assert (village.count, village.children, village.parent) == (370, 41, "410329111000 鸦岭镇")


def test_just_fit_is_refused() -> None:
    """T12: 15 towns in 4 bits just fit with the county's own slot: refused, saying which width would do."""
    divisions = read_divisions(LUOYANG, "410329000000")
    narrow = (LevelField(level=4, width=4, growth=0.0),)
    error = refused(divisions, policy("3fff:410:300::/40", fields=narrow))
    assert (
        "town field of 4 bits: 15 towns under 410329000000 伊川县 (1 reserved slot) just fit: HD 100 %, ceiling 85 %"
        in str(error)
    )
    assert "town width: 8" in str(error)
    assert error.exit_code == 2
    assert [r.word for r in error.budget.rows] == ["comfortable", "refused", "tight"]
    assert "\n" not in str(error)


def test_too_many_is_refused() -> None:
    """More divisions than slots are refused as such."""
    error = refused(tree((40,)), policy("3fff:1::/32", fields=(LevelField(level=5, width=4),)))
    assert "40 villages" in str(error)
    assert "do not fit into 16 slots" in str(error)


@pytest.mark.parametrize("pool", ["3fff:410:300::/45", "3fff:410:300::/46", "3fff:410:300::/49", "3fff:410:300::/52"])
def test_what_would_do_does(pool: str) -> None:
    """Every relaxation that a refusal names gives, when it is made, just the layout it promised."""
    divisions, wanted = tree(COUNTY), policy(pool)
    error = refused(divisions, wanted)
    named = [a for a in error.budget.alternatives if a.works and a.kind != "known"]
    assert {a.kind for a in named} >= {"pool"}
    for found in named:
        number = found.en.partition(":")[2].split()[0] if ":" in found.en else ""
        if found.kind == "pool":
            other = policy(f"2000::/{found.pool_length}")
        elif found.kind == "growth":
            fields = tuple(LevelField(level=n, growth=float(number)) for n in (4, 5))
            other = wanted.altered(fields=fields)
        else:
            other = wanted.altered(**{"leaf_at_most" if found.kind == "leaf" else "ceiling": json.loads(number)})
        layout, budget = lay_out(divisions, other)
        assert widths(layout) == found.widths
        assert budget.leaf_length == found.leaf_length
        assert budget.worst_hd == pytest.approx(found.worst_hd)


def test_ceiling_is_never_advised_past_what_anybody_managed() -> None:
    """A ceiling above 87 %, the most anybody managed (RFC 3194), is not offered as a way out."""
    error = refused(tree((60,)), policy("3fff:1::/50", fields=(LevelField(level=5, growth=0.0),)))
    assert not [a for a in error.budget.alternatives if a.kind == "ceiling" and float(a.en.split()[1]) > 0.87]


def test_fewest_outliers_are_counted() -> None:
    """A field that is wide for one parent's sake says so."""
    levels, parents, codes = [3], [-1], ["a"]
    for town in range(20):
        codes.append(f"a.{town:02}")
        levels.append(4)
        parents.append(0)
        at = len(codes) - 1
        for village in range(200 if town == 7 else 5):
            codes.append(f"a.{town:02}.{village:03}")
            levels.append(5)
            parents.append(at)
    divisions = Divisions(codes, codes, np.array(levels, dtype=np.int8), np.array(parents, dtype=np.int32))
    _, budget = lay_out(divisions, policy("3fff:410:300::/40"))
    row = budget.rows[-1]
    assert (row.parents, row.crowded, row.parent) == (20, 1, "a.07 a.07")
    assert "all but 1 of 20 parents" in row.reason


# ------------------------------------------------------------------------------------------------------------ the search


def brute_force(demands: list[Demand], wanted: PlanPolicy) -> tuple[int, ...] | None:
    """Return the best widths by looking at all of them: the aims of addressing.widths, written out again."""
    best = None
    start = wanted.pools[0].prefixlen
    for tried in product(range(1, wanted.leaf_at_most - start + 1), repeat=len(demands)):
        lengths = [start + sum(tried[: n + 1]) for n in range(len(tried))]
        if any(length > d.limit for length, d in zip(lengths, demands, strict=True)):
            continue
        ratios = []
        for demand, width in zip(demands, tried, strict=True):
            size = demand.pools * 2**width
            used = demand.grown + len(demand.field.reserved) * demand.pools
            fits = used <= size and max(demand.field.reserved) < 2**width and hd_ratio(used, size) <= wanted.ceiling
            if not fits or demand.field.width not in {"auto", width}:
                break
            ratios.append(hd_ratio(used, size))
        else:
            aims = (
                sum(r > 0.85 for r in ratios),
                sum(n % 4 != 0 for n in lengths),
                sum(r > wanted.comfortable for r in ratios),
                sorted((max(0.0, r - wanted.comfortable) for r in ratios), reverse=True),
                lengths[-1],
                sorted(ratios, reverse=True),
                [-w for w in tried],
            )
            if best is None or aims < best[0]:
                best = (aims, tried)
    return best[1] if best else None


WIDTHS: st.SearchStrategy[int | Literal["auto"]] = st.sampled_from(["auto", "auto", 6])


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 60), min_size=1, max_size=3),
    st.integers(40, 52),
    st.sampled_from([0.8, 0.85, 0.9, 1.0]),
    st.data(),
)
def test_best_of_all(fan_outs: list[int], pool: int, ceiling: float, data: st.DataObject) -> None:
    """The search finds the best of all widths, or that there is none; widths that a policy gives are kept."""
    growth = data.draw(st.sampled_from([0.0, 0.2, 1.0]))
    reserved = data.draw(st.sampled_from([(0,), (0, 1, 5)]))
    divisions = tree(tuple(fan_outs))
    levels = range(6 - len(fan_outs), 6)
    given_widths: list[int | Literal["auto"]] = [data.draw(WIDTHS) for _ in levels]
    fields = tuple(
        LevelField(level=n, width=w, growth=growth, reserved=reserved)
        for n, w in zip(levels, given_widths, strict=True)
    )
    wanted = policy(f"2000::/{pool}", fields=fields, ceiling=ceiling, leaf_at_most=56)
    shape = measure(divisions, wanted)
    limits = [62] * (len(fan_outs) - 1) + [56]  # three /64 of the routers' own come to 2 bits
    demands = [Demand(f, wanted.field(f.level), 1, limit) for f, limit in zip(shape.fan_outs, limits, strict=True)]
    best = brute_force(demands, wanted)
    if best is None:
        refused(divisions, wanted)
    else:
        layout, budget = lay_out(divisions, wanted)
        assert widths(layout) == best
        assert all(g in {"auto", w} for g, w in zip(given_widths, best, strict=True))
        assert budget.worst_hd <= ceiling


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 200), min_size=1, max_size=4), st.integers(16, 44))
def test_what_is_laid_out_can_be_planned(fan_outs: list[int], pool: int) -> None:
    """A layout holds every division, with growth; prefixes nest and none is longer than allowed."""
    divisions, wanted = tree(tuple(fan_outs)), policy(f"2000::/{pool}")
    try:
        layout, _ = lay_out(divisions, wanted)
    except BudgetRefusedError:
        return
    plan = plan_divisions(divisions, wanted, layout)
    assert int(plan.lengths.max()) <= 56
    assert len(set(zip(plan.high.tolist(), plan.lengths.tolist(), strict=True))) == len(divisions)
    for field, most in zip(layout.fields, fan_outs, strict=True):
        assert grow(most, 0.2) + 1 <= 1 << field.width


def test_spare_bits_stay_in_the_leaf() -> None:
    """Once nothing hurts, a larger pool gives every village a larger site, not emptier fields."""
    for pool, leaf in ((40, 56), (36, 52), (32, 48)):
        layout, budget = lay_out(tree(COUNTY), policy(f"2000::/{pool}"))
        assert widths(layout) == (8, 8)
        assert budget.leaf_length == leaf
        assert budget.spare == 56 - leaf


def test_scarce_bits_go_where_it_hurts_most() -> None:
    """With one bit to spare and no digit border to win, the fuller field gets it."""
    fields = tuple(LevelField(level=n, growth=0.0) for n in (4, 5))
    wanted = policy("2000::/43", fields=fields, leaf_at_most=53, comfortable=0.7, ceiling=0.85)
    layout, _ = lay_out(tree((15, 15)), wanted)
    assert widths(layout) == (5, 5)
    layout, budget = lay_out(tree((15, 24)), wanted.altered(leaf_at_most=54))
    assert widths(layout) == (5, 6)
    assert budget.rows[-1].hd < 0.8


def test_bits_to_spare_ease_what_hurts() -> None:
    """As long as a field is above comfortable, bits to spare go to it, not to the leaf."""
    wanted = policy("2000::/48", fields=(LevelField(level=5, growth=0.0),), comfortable=0.5, leaf_at_most=55)
    assert widths(lay_out(tree((15,)), wanted)[0]) == (7,)
    assert widths(lay_out(tree((15,)), wanted.altered(comfortable=0.6))[0]) == (7,)
    assert widths(lay_out(tree((15,)), wanted.altered(comfortable=0.7))[0]) == (6,)


# --------------------------------------------------------------------------------------------- growth, reserved, pools


@pytest.mark.parametrize(
    ("children", "growth", "grown"), [(15, 0.2, 18), (41, 0.2, 50), (35, 0.1, 39), (50, 0.1, 55), (0, 3.0, 0)]
)
def test_growth_is_exact(children: int, growth: float, grown: int) -> None:
    """Growth is counted in decimals and rounded up: 50 and a tenth make 55, not 56 as in binary fractions."""
    assert grow(children, growth) == grown


def test_reserved_slots_count() -> None:
    """Reserved slots count as used, and must lie within the field."""
    fields = (LevelField(level=5, growth=0.0, reserved=(0, *range(200, 256))),)
    layout, budget = lay_out(tree((8,)), policy("2000::/40", fields=fields))
    assert widths(layout) == (8,)
    assert budget.rows[-1].reserved == 57
    narrow = (LevelField(level=5, width=4, growth=0.0, reserved=(0, 200)),)
    assert "reserved slot 200 lies beyond" in str(refused(tree((3,)), policy("2000::/40", fields=narrow)))


def test_several_pools_share_the_top_field() -> None:
    """The top field goes on in the next pool: two of them hold twice as many."""
    fields = (LevelField(level=5, width=6, growth=0.0),)
    one = policy("2000::/48", fields=fields)
    refused(tree((40,)), one)
    two = one.altered(pools=(IPv6Network("2000::/48"), IPv6Network("2000:1::/48")))
    layout, budget = lay_out(tree((40,)), two)
    assert layout.pools == two.pools
    assert budget.rows[-1].hd == pytest.approx(hd_ratio(42, 128))


def test_forest_is_numbered_under_the_pool() -> None:
    """Several roots are numbered under the pool by the field of their level; one root is the pool itself."""
    whole = read_divisions(LUOYANG)
    assert lay_out(whole, policy("3fff::/28"))[0].root_level == 2
    forest = Divisions(
        codes=whole.codes[1:],
        names=whole.names[1:],
        levels=whole.levels[1:],
        parents=np.where(whole.parents[1:] > 0, whole.parents[1:] - 1, -1).astype(np.int32),
    )
    layout, budget = lay_out(forest, policy("3fff::/28"))
    assert layout.root_level == 0
    assert [f.level for f in layout.fields] == [3, 4, 5]
    assert (budget.rows[0].children, budget.rows[0].parent) == (16, "")


def test_a_root_alone() -> None:
    """A division with nothing below it is the pool, and there is no field."""
    layout, budget = lay_out(tree(()), policy("3fff:1::/48"))
    assert layout.fields == ()
    assert [r.why for r in budget.rows] == ["pool"]


def test_nothing_to_lay_out() -> None:
    """No divisions at all are an error, not an empty layout."""
    none = Divisions([], [], np.array([], dtype=np.int8), np.array([], dtype=np.int32))
    with pytest.raises(ExtranetError, match="expected at least one, found none"):
        lay_out(none, policy("3fff:1::/48"))


def test_levels_without_divisions() -> None:
    """A level below, given bits by the policy before it has any division, keeps them; one above the root does not count."""
    fields = (LevelField(level=2, width=8), LevelField(level=4, width=8), LevelField(level=5, width=8))
    layout, budget = lay_out(tree((15,), bottom=4), policy("3fff:1::/40", fields=fields))
    assert [(f.level, f.width) for f in layout.fields] == [(4, 8), (5, 8)]
    assert budget.rows[-1].reason == "no divisions yet; 8 bits kept as the policy gives"


# ------------------------------------------------------------------------------------------------- templates, own areas


def part(slot: int, length: int = 64, name: str = "part") -> Subnet:
    """Return a part of a site."""
    return Subnet(name=name, zone="public", slot=slot, length=length)


def test_template_must_fit_the_leaf() -> None:
    """A village's template that needs a /54 makes villages' prefixes /54 or shorter, or is refused."""
    large = {"village": (part(3, 56),)}
    layout, budget = lay_out(tree(COUNTY), policy("2000::/40", templates=large))
    assert layout.fields[-1].length <= 54
    assert any("template 'village', part 'part'" in n.en for n in budget.notes)
    error = refused(tree(COUNTY), policy("2000::/44", templates=large))
    assert "village prefixes would be /56, expected /54 at most (own areas must hold template 'village'" in str(error)


def test_class_template_must_fit_too() -> None:
    """An access class given to one village counts for the level."""
    divisions = tree(COUNTY)
    village = divisions.codes[int(np.flatnonzero(divisions.levels == 5)[0])]
    large = {"F": (part(3, 56),)}
    assert lay_out(divisions, policy("2000::/40", templates=large))[0].fields[-1].length == 56
    layout, _ = lay_out(divisions, policy("2000::/40", templates=large, classes={village: "F"}))
    assert layout.fields[-1].length <= 54


def test_town_template_must_fit_slot_0() -> None:
    """A town's own site lies in slot 0 of its villages' field: no longer than that."""
    error = refused(tree(COUNTY), policy("2000::/44", templates={"town": (part(3, 56),)}))
    assert "own areas must hold template 'town'" in str(error)


def test_skipped_levels_share_the_own_area() -> None:
    """Where towns lie directly under a city, the city's own site must fit beside them: slot 0 of the towns' field."""
    codes = ["a", "a.1", "a.1.1", "a.2"]
    regular = Divisions(codes, codes, np.array([2, 3, 4, 3], dtype=np.int8), np.array([-1, 0, 1, 0], dtype=np.int32))
    ragged = Divisions(codes, codes, np.array([2, 3, 4, 4], dtype=np.int8), np.array([-1, 0, 1, 0], dtype=np.int32))
    # A /51 of its own fits the /44 and longer of slot 0 of the counties, not the towns' /52 and longer.
    wanted = policy("2000::/40", templates={"city": (part(1, 52),)}, leaf_at_most=52)
    fixed = (LevelField(level=3, width=4, growth=0.0), LevelField(level=4, width=8, growth=0.0))
    wanted = wanted.altered(fields=fixed)
    assert lay_out(regular, wanted)[0].fields[0].length == 44
    assert "own areas must hold template 'city'" in str(refused(ragged, wanted))


def test_root_template_on_routers_is_refused() -> None:
    """A county's own site and the routers' own /64s both start where the pool does: they must not meet."""
    on_links = policy("2000::/40", templates={"county": (part(1),)})
    error = refused(tree(COUNTY), on_links)
    assert "template 'county', part 'part' lies on infrastructure.links, /64 number 1" in str(error)
    assert "what would do" not in str(error)
    lay_out(tree(COUNTY), on_links.altered(infrastructure=Infrastructure(loopbacks=8, links=9, management=10)))


def test_infrastructure_must_fit_the_pools_own_area() -> None:
    """Routers' /64s beyond slot 0 of the first field are refused: they would be somebody's."""
    far = Infrastructure(management=1 << 20)
    error = refused(tree(COUNTY), policy("2000::/40", infrastructure=far, fields=(LevelField(level=4, width=8),)))
    assert "own areas must hold infrastructure.management" in str(error)


# ------------------------------------------------------------------------------------------------------------- in words


def test_table_in_two_languages() -> None:
    """The table has one row a level below its head in either language, each with its reason, and is the same by number."""
    _, budget = lay_out(tree(CITY), policy("3fff::/32"))
    english, chinese = describe_budget(budget, "en"), describe_budget(budget, "zh")
    assert len(english) == len(chinese) == 1 + 4
    assert {len(row) for row in english + chinese} == {11}
    assert [r[0] for r in english[1:]] == ["city", "county", "town", "village"]
    assert [r[0] for r in chinese[1:]] == ["市", "县", "乡镇", "村"]
    assert [r[5:8] for r in english[1:]] == [r[5:8] for r in chinese[1:]]
    assert all(r[-1] for r in english + chinese)
    assert len(describe_rest(budget, "en")) == len(describe_rest(budget, "zh"))


def test_reasons() -> None:
    """Each kind of choice is explained by what decided it."""

    def reasons(budget: Budget) -> list[str]:
        return [r.reason.partition("; ")[2].partition(";")[0] for r in budget.rows[1:]]

    _, eased = lay_out(tree(COUNTY), policy("2000::/40"))
    assert reasons(eased) == ["it gets 8, which end between two digits", "it gets 8"]
    _, scarce = lay_out(tree(COUNTY), policy("2000::/44"))
    assert reasons(scarce) == ["5 are what the pool leaves", "7 are what the pool leaves"]
    assert [r.word for r in scarce.rows[1:]] == ["tight", "tight"]
    _, fixed = lay_out(tree(COUNTY), policy("2000::/40", fields=(LevelField(level=4, width=6),)))
    assert reasons(fixed)[0] == "the policy gives 6"
    assert (
        refused(tree(COUNTY), policy("2000::/46")).budget.rows[1].reason.endswith("5 are the least under the ceiling")
    )


def test_painful_where_the_ceiling_allows() -> None:
    """A ceiling above 85 % lets painful fields through, and they are called so."""
    wanted = policy("2000::/52", fields=(LevelField(level=5, width=4, growth=0.0),), ceiling=0.95)
    _, budget = lay_out(tree((11,)), wanted)
    assert [r.word for r in budget.rows[1:]] == ["painful"]


def test_neighbours_are_looked_at() -> None:
    """A pool a digit larger and one a digit smaller are always shown, with what they would give."""
    _, budget = lay_out(tree(COUNTY), policy("2000::/40"))
    found = {a.pool_length: (a.works, a.widths, a.leaf_length) for a in budget.alternatives}
    assert found == {36: (True, (8, 8), 52), 44: (True, (5, 7), 56)}
    for length, (_, bits, leaf) in found.items():
        layout, other = lay_out(tree(COUNTY), policy(f"2000::/{length}"))
        assert (widths(layout), other.leaf_length) == (bits, leaf)


def test_json_is_whole() -> None:
    """A budget for machines can be written as JSON, refused or not, with a row a level."""
    _, budget = lay_out(tree(CITY), policy("3fff::/32"))
    plain = json.loads(json.dumps(budget.as_json()))
    assert [row["width"] for row in plain["levels"]] == [0, 8, 8, 8]
    assert not plain["refused"]
    broken = json.loads(json.dumps(refused(tree(CITY), policy("3fff::/48")).budget.as_json()))
    assert broken["refused"]
    assert broken["problems"]
