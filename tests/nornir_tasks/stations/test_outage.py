"""The arithmetic of outages: what probes saw is never less than what was."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from nornir_tasks.stations.outage import LEAST_FAILED, Sample, add_up, clip, find_gaps, measure_outage

END = 60.0
moments = st.floats(0, END, allow_nan=False)


@st.composite
def probes(draw: st.DrawFn, *, least: int = 0) -> list[Sample]:
    """Any probes: good and failed ones, at any moments, in any order."""
    sent = draw(st.lists(moments, min_size=least, max_size=60, unique=True))
    took = st.none() | st.floats(0.001, 0.9)
    return [Sample(s, None if t is None else s + t) for s in sent for t in [draw(took)]]


@st.composite
def truths(draw: st.DrawFn) -> list[tuple[float, float]]:
    """True outages, apart from one another, in order."""
    edges = sorted(draw(st.lists(moments, max_size=8, unique=True)))
    return list(zip(edges[::2], edges[1::2], strict=False))


def watch(truth: list[tuple[float, float]], sent: list[float], took_s: float, lost: set[int]) -> list[Sample]:
    """Probe a service with these outages: a probe is good when the service was there all the while, and nothing was lost."""

    def good(at: float) -> bool:
        return not any(at <= ended and at + took_s >= began for began, ended in truth)

    return [Sample(s, s + took_s if good(s) and n not in lost else None) for n, s in enumerate(sent)]


@given(
    truth=truths(),
    sent=st.lists(moments, min_size=1, max_size=300),
    took_s=st.floats(0.001, 0.5),
    lost=st.sets(st.integers(0, 300)),
)
def test_no_outage_longer_than_the_resolution_hides(
    truth: list[tuple[float, float]], sent: list[float], took_s: float, lost: set[int]
) -> None:
    """However probes fell and whatever got lost: each true outage lies in one gap whole, or is shorter than the resolution."""
    found = measure_outage(watch(truth, sent, took_s, lost), min(sent), END)
    for began, ended in truth:
        inside = max(began, min(sent)), ended
        if inside[0] >= inside[1]:
            continue
        whole = any(g.from_s <= inside[0] and inside[1] <= g.to_s for g in found.gaps)
        assert whole or inside[1] - inside[0] <= found.resolution_s


@given(truth=truths(), period_s=st.sampled_from([0.1, 0.5, 1.0]))
def test_a_steady_watch_reports_no_less_and_little_more(truth: list[tuple[float, float]], period_s: float) -> None:
    """The reported total holds every outage of three periods or more, and overstates each gap by two periods at most."""
    sent = [n * period_s for n in range(int(END / period_s) + 1)]
    found = measure_outage(watch(truth, sent, 0.01, set()), 0.0, END)
    true_s = sum(e - b for b, e in truth)
    assert found.total_s >= sum(e - b for b, e in truth if e - b >= 3 * period_s) - 1e-6
    assert found.total_s <= true_s + len(truth) * (2 * period_s + 0.03) + 1e-6


@given(samples=probes(), data=st.data())
def test_one_more_failure_never_shortens_an_outage(samples: list[Sample], data: st.DataObject) -> None:
    """When a good probe turns into a failed one, neither the total nor the longest gap gets smaller."""
    good = [n for n, s in enumerate(samples) if s.answered_s is not None]
    if not good:
        return
    turned = data.draw(st.sampled_from(good))
    worse = [s._replace(answered_s=None) if n == turned else s for n, s in enumerate(samples)]
    before, after = (measure_outage(some, 0.0, END) for some in (samples, worse))
    assert after.total_s >= before.total_s - 1e-9
    assert after.longest_s >= before.longest_s - 1e-9


@given(samples=probes(), data=st.data())
def test_the_order_of_arrival_does_not_matter(samples: list[Sample], data: st.DataObject) -> None:
    """Probes that end late arrive late: the gaps are the same in whatever order they come."""
    shuffled = data.draw(st.permutations(samples))
    assert find_gaps(shuffled, END) == find_gaps(samples, END)


@given(samples=probes(), cuts=st.lists(moments, min_size=1, max_size=4))
def test_windows_add_up(samples: list[Sample], cuts: list[float]) -> None:
    """The gaps of one window after another make up those of the whole: nothing is lost or counted twice at a mark."""
    gaps = find_gaps(samples, END)
    edges = [0.0, *sorted(cuts), END]
    parts = sum(add_up(clip(gaps, a, b)) for a, b in pairwise(edges))
    assert abs(parts - add_up(clip(gaps, 0.0, END))) < 1e-6


@given(samples=probes())
def test_gaps_stand_apart_and_hold_failures(samples: list[Sample]) -> None:
    """Gaps are in order; each holds two failed probes or more, and no good one whole; only the last may be open."""
    gaps = find_gaps(samples, END)
    assert all(g.failed >= LEAST_FAILED for g in gaps)
    assert sum(g.failed for g in gaps) <= sum(s.answered_s is None for s in samples)
    good = [s for s in samples if s.answered_s is not None]
    assert not any(g.from_s < s.sent_s and s.answered_s < g.to_s for g in gaps for s in good if s.answered_s)
    assert not any(g.open for g in gaps[:-1])
    assert [g.from_s for g in gaps] == sorted(g.from_s for g in gaps)


def test_a_probe_sent_later_and_answered_sooner_ends_a_gap() -> None:
    """The first answer counts, whichever probe it is to: one that was sent before it may take its time."""
    failed = [Sample(n / 10, None) for n in range(1, 10)]
    gaps = find_gaps([Sample(0.0, 0.01), *failed, Sample(1.0, 1.8), Sample(1.1, 1.2)], 2.0)
    assert [(g.from_s, g.to_s) for g in gaps] == [(0.0, 1.2)]


def test_a_lost_packet_is_no_outage_and_is_counted() -> None:
    """One failed probe among good ones: no gap, a coarser resolution; two in a row: a gap from good to good."""
    good = [Sample(n / 10, n / 10 + 0.01) for n in range(20)]
    one = [s._replace(answered_s=None) if n == 9 else s for n, s in enumerate(good)]
    two = [s._replace(answered_s=None) if n in {9, 10} else s for n, s in enumerate(good)]
    found = measure_outage(one, 0.5, 1.9)
    assert (found.total_s, found.failed, round(found.resolution_s, 2)) == (0.0, 1, 0.21)
    found = measure_outage(two, 0.5, 1.9)
    assert [(round(g.from_s, 2), round(g.to_s, 2), g.failed, g.open) for g in found.gaps] == [(0.8, 1.11, 2, False)]


def test_what_never_answered_did_not_work() -> None:
    """Without a good probe up to the window's beginning nothing is said to have worked; without any probe, nothing is known."""
    assert not measure_outage([Sample(0.1, None), Sample(0.2, None), Sample(1.0, 1.1)], 0.5, 2.0).worked
    nothing = measure_outage([], 0.5, 2.0)
    assert (nothing.worked, nothing.probes, nothing.resolution_s) == (False, 0, 1.5)
