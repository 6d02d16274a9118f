"""What one device is asked at once: never more than its budget, and everything is asked in the end."""

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inventory.access import Access
from inventory.model import Budgets
from migration.diagnose import look_in_turns
from nornir_tasks.drivers import RouterProbe, RouterSight
from nornir_tasks.stations import agent, collect
from nornir_tasks.stations.hops import HopBook
from nornir_tasks.stations.model import Missing
from nornir_tasks.stations.sessions import hold_session
from tests.nornir_tasks.stations.rig import county, make_check


class Crowd:
    """Counts who is inside at once: whoever enters stays until as many are inside as may be, or nobody else comes."""

    def __init__(self) -> None:
        self.lock, self.inside, self.most, self.entered = threading.Lock(), 0, 0, 0
        self.company = threading.Event()

    def enter(self, *_: Any) -> str:
        """Come in, wait for company for a moment, and go."""
        with self.lock:
            self.inside += 1
            self.entered += 1
            self.most = max(self.most, self.inside)
        self.company.wait(0.01)
        with self.lock:
            self.inside -= 1
        return "text"


@settings(deadline=None, max_examples=25)
@given(parallel=st.integers(1, 6), number=st.integers(1, 30))
def test_a_station_has_no_more_probes_open_than_its_budget(parallel: int, number: int) -> None:
    """However many checks there are, so many are under way at once at most, and all are done."""
    crowd = Crowd()
    run = agent.Run({"checks": [], "parallel": parallel})
    run.work = {("work", n): crowd.enter for n in range(number)}
    run.run()
    assert crowd.most <= parallel
    assert (len(run.done), crowd.entered) == (number, number)


@given(per_s=st.integers(1, 500), arrivals=st.lists(st.floats(0, 0.5), min_size=1, max_size=40))
def test_a_station_begins_no_more_probes_a_second_than_its_budget(per_s: int, arrivals: list[float]) -> None:
    """Two probes never begin closer together than their rate says, whenever they come; nobody waits who need not."""
    clock = SimpleNamespace(now=100.0)
    began: list[float] = []
    with pytest.MonkeyPatch.context() as patch:
        sleep = lambda seconds: setattr(clock, "now", clock.now + seconds)  # noqa: E731 - a clock of two lines
        patch.setattr(agent, "time", SimpleNamespace(monotonic=lambda: clock.now, sleep=sleep))
        pace = agent.Pace(per_s)
        for after in arrivals:
            clock.now += after
            came = clock.now
            pace.wait()
            free = began[-1] + 1 / per_s if began else came
            assert clock.now == pytest.approx(max(came, free))
            began.append(clock.now)


def test_a_request_holds_the_countys_budgets() -> None:
    """What policy.yaml says of one device reaches the agent, at the station's side and at the server's."""
    tight = Budgets(station_probes=3, probes_per_s=7, ways_per_s=20)
    small = county().altered(policy=county().policy.altered(budgets=tight))
    access = Access(target="lab", name="t", known_hosts="-", addresses={})
    for checks in ([make_check()], []):
        body = collect.request_body(checks, access, small, 9, ways=[])
        assert (body["parallel"], body["probes_per_s"], body["pace_ms"]) == (3, 7, 50.0)


@pytest.mark.parametrize("most", [1, 2])
def test_one_station_has_no_more_sessions_than_its_budget(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever measures from it at the same time waits; other stations are not held up by it."""
    crowds = {"a": Crowd(), "b": Crowd()}
    names = {"2001:db8::a": "a", "2001:db8::b": "b"}

    def talk(command: Sequence[str], *_: Any) -> str:
        address = next(a for a in names if any(a in word for word in command))
        return crowds[names[address]].enter()

    monkeypatch.setattr(collect, "_talk", talk)
    small = county().altered(policy=county().policy.altered(budgets=Budgets(station_sessions=most)))
    access = Access(target="lab", name="t", known_hosts="-", addresses={n: a for a, n in names.items()})
    checks = [make_check(station=name) for name in crowds]
    with ThreadPoolExecutor(8) as pool:
        runs = [pool.submit(collect.measure, checks, small, access, hops=HopBook(planes={})) for _ in range(8)]
    assert all(len(run.result()) == 2 for run in runs)
    assert [c.entered for c in crowds.values()] == [8, 8]
    assert max(c.most for c in crowds.values()) <= most


def test_a_station_that_stays_busy_is_not_measured_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting for a session ends with the deadline: unknown, timed out."""
    monkeypatch.setattr(collect, "GRACE_S", 0)
    access = Access(target="lab", name="t", known_hosts="-", addresses={"s": "2001:db8::a"})
    with hold_session("s 2001:db8::a", 1, 0):
        (result,) = collect.measure([make_check()], county(), access, hops=HopBook(planes={}), deadline_s=0.1)
    assert (result.missing, "expected fewer than 1 open" in result.why) == (Missing.TIMED_OUT, True)


@given(number=st.integers(0, 40), most=st.integers(1, 9))
def test_a_router_looks_at_no_more_than_its_budget_at_once(number: int, most: int) -> None:
    """Every probe is looked at once, in order, in turns of at most so many."""
    probes = [RouterProbe(vrf="finance", source="10.0.0.1", address=f"10.0.1.{n}") for n in range(number)]
    turns: list[int] = []

    def look(turn: Sequence[RouterProbe]) -> list[RouterSight]:
        turns.append(len(turn))
        return [RouterSight(probe=p, sent=1, answered=1) for p in turn]

    driver: Any = SimpleNamespace(look=look)
    assert [s.probe for s in look_in_turns(driver, probes, most)] == probes
    assert all(1 <= n <= most for n in turns)
