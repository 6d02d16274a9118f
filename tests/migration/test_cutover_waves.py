"""In which waves units are cut over."""

from hypothesis import given
from hypothesis import strategies as st

from migration.cutover import _TOWNS_AT_ONCE, _waves
from tests.migration.scene import build_county

COUNTY = build_county()
UNITS = {u.id: (u,) for u in COUNTY.units}


@given(st.lists(st.sampled_from(sorted(UNITS)), unique=True))
def test_the_county_goes_first_and_few_towns_at_a_time(names: list[str]) -> None:
    """Every group goes once, the county's before all others, towns in their order and never more than a few together."""
    groups = [UNITS[n] for n in names]
    first = COUNTY.county_site.id
    waves = _waves(groups, first)
    assert sorted(g[0].id for w in waves for g in w) == sorted(names)
    assert all(waves)
    assert all(len({g[0].site == first for g in w}) == 1 for w in waves)
    towns = [w for w in waves if w[0][0].site != first]
    assert waves[len(waves) - len(towns) :] == towns
    assert [g[0].id for w in towns for g in w] == [n for n in names if UNITS[n][0].site != first]
    assert all(len(w) <= _TOWNS_AT_ONCE for w in towns)
