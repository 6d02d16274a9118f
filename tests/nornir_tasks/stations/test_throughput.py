"""Which lines are measured at once: all that fit, and never so much that probes take a line from those who use it."""

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from inventory.model import EXTRANET
from nornir_tasks.stations.throughput import share_out
from tests.nornir_tasks.stations.rig import county, make_check

STATIONS = [s for s in county().stations if s.site != county().county_site.id]
BANDWIDTHS = st.sampled_from([0, 20, 100, 1000])


@settings(deadline=None)
@given(st.data())
def test_probes_take_no_more_than_half_of_any_line(data: st.DataObject) -> None:
    """Each check is in just one round; those of a round take half of each line they cross at most, or one has it alone."""
    chosen = data.draw(st.lists(st.sampled_from(STATIONS), max_size=30))
    checks = [
        make_check(id=str(n), station=s.id, floor_kbps=data.draw(st.integers(1, 60_000))) for n, s in enumerate(chosen)
    ]
    crossed = {t for s in chosen for t in (s.site, county().town_of(s.site))}
    mbps = {site: data.draw(BANDWIDTHS, site) for site in sorted(crossed)}
    lines = tuple(
        c.altered(bandwidth_mbps=mbps.get(c.site, 0)) if c.network == EXTRANET else c for c in county().circuits
    )
    rounds = share_out(checks, county().altered(circuits=lines))
    assert Counter(c.id for r in rounds for c in r) == Counter(c.id for c in checks)
    for together in rounds:
        assert together
        taken, users = Counter[str](), Counter[str]()
        for check in together:
            site = county().station_by_id[check.station].site
            for line in {site, county().town_of(site)}:
                taken[line] += check.floor_kbps
                users[line] += 1
        assert all(taken[x] <= mbps[x] * 500 for x in taken if users[x] > 1)


def test_what_fits_is_measured_at_once() -> None:
    """Legs of one village, and villages of one town, are measured together where their lines are wide enough."""
    checks = [make_check(id=f"{s.id}{n}", station=s.id, floor_kbps=10_000) for s in STATIONS[:4] for n in range(3)]
    assert len(share_out(checks, county())) == 1
