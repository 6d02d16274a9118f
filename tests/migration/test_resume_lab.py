"""Kills, power loss and full disks at every point between two events of the ledger, on real routers: nothing twice or forgotten.

Each journey is broken before and after every single event that it records; then the same command is run again. A journey
ends where it was to end, each router holds all of it or nothing, and the ledger has one outcome for each intent.
"""

import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest

from inventory.model import EXTRANET
from migration.events import Event, Kind
from migration.old_lines import line_of
from migration.steps import new_change_id
from migration.units import Step
from nornir_tasks import changes as wire
from nornir_tasks.changes import Change
from tests.lab_fixture import skip_without_machine
from tests.migration.town import GOOD, REFUSED, UNKNOWN, Town, open_town

TIMERS = {"revert_s": 60, "converge_s": 20, "soak_s": 1, "hold_s": 1}
UNIT = "party-edu@chengguan-wabei"
LINE = "real-estate@chengguan"
"""A unit with a line of its own: its ports are shut and its lines removed at both ends."""
ROUTER, DRIFT = "chengguan-wabei-r1", "ipv6 route 2001:db8:dead::/48 blackhole"
KILLED, SETTLED_S = -9, 180
STATES = ("provisioned", "cut_over", "soaked", "drained", "shut", "removed", "released")
pytestmark = [pytest.mark.lab, pytest.mark.heavy, pytest.mark.timeout(1800)]


@dataclass(frozen=True)
class Journey:
    """A command that takes a unit (or a router, that is `drifted` or `intended`) from one state to another."""

    start: str
    command: tuple[str, ...]
    end: str
    what: str = UNIT

    @property
    def final(self) -> bool:
        """Whether no command leads back."""
        return self.end in {"removed", "released"}


_RELEASE = ("retire", LINE, "--release", "--reference", "12", "--rent-free-from", "2027-01-01", "--yes")
JOURNEYS = {
    "push": Journey("drifted", ("config", "push", ROUTER, "--yes"), "intended", ROUTER),
    "cutover": Journey("provisioned", ("cutover", UNIT, "--yes"), "cut_over"),
    "back": Journey("cut_over", ("cutover", UNIT, "--back", "--yes"), "provisioned"),
    "prove": Journey("cut_over", ("prove", UNIT, "--yes"), "cut_over"),
    "drain": Journey("soaked", ("retire", UNIT, "--until", "drained", "--yes"), "drained"),
    "undo": Journey("drained", ("retire", UNIT, "--undo", "--yes"), "soaked"),
    "shut": Journey("drained", ("retire", LINE, "--until", "shut", "--yes"), "shut", LINE),
    "open": Journey("shut", ("retire", LINE, "--undo", "--yes"), "drained", LINE),
    "remove": Journey("shut", ("retire", LINE, "--yes"), "removed", LINE),
    "release": Journey("removed", _RELEASE, "released", LINE),
}


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A small disk of its own."""
    skip_without_machine()
    place = tmp_path_factory.mktemp("disk")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", place], check=True)
    yield place
    subprocess.run(["umount", "-l", place], check=True)


@pytest.fixture(scope="module")
def town(disk: Path) -> Iterator[Town]:
    """The lab, provisioned, its county units cut over, the county's folder on the small disk."""
    with open_town(disk / "county", TIMERS) as made:
        yield made


def find_state(town: Town, what: str) -> str:
    """Return where a unit or the router stands."""
    if what != ROUTER:
        return town.state(what)
    return "intended" if town.run("config", "diff", ROUTER).returncode == GOOD else "drifted"


def take_to(town: Town, what: str, wanted: str) -> None:
    """Bring a unit or the router to a state, forwards or backwards, with nothing broken."""
    if what == ROUTER:
        if find_state(town, what) != wanted:
            typed = DRIFT if wanted == "drifted" else f"no {DRIFT}"
            town.run("lab", "exec", ROUTER, "--", "vtysh", "-c", "configure terminal", "-c", typed, expect=GOOD)
        return
    for _ in STATES:
        now = town.state(what)
        if now == wanted:
            return
        if STATES.index(now) < STATES.index(wanted):
            _go_on(town, what, now)
        elif now in {"shut", "drained"}:
            town.run("retire", what, "--undo", "--yes", expect=GOOD)
        else:
            town.run("cutover", what, "--back", "--yes", expect=GOOD)
    assert town.state(what) == wanted


def _go_on(town: Town, unit: str, now: str) -> None:
    following = {"cut_over": "drained", "soaked": "drained", "drained": "shut", "shut": "removed"}
    if now not in following:
        town.run("cutover", unit, "--yes", expect=GOOD)
        return
    stage = ("retire", unit, "--until", following[now], "--wait", "--yes")
    if town.run(*stage).returncode == REFUSED:  # the proof is of another configuration, or there was none yet
        town.soak(unit)
        measure_anew(town, unit, now)
        town.run(*stage, expect=GOOD)


def measure_anew(town: Town, unit: str, now: str) -> None:
    """Prove a unit without its old line: it is closed for that while it is still up."""
    command = ("verify", "--unit", unit) if now == "shut" else ("prove", unit, "--yes")
    town.run(*command, expect=GOOD)


def take_to_start(town: Town, journey: Journey) -> None:
    """Bring a journey's unit to its start, so that its command is allowed."""
    take_to(town, journey.what, journey.start)
    if journey.end in {"drained", "shut"} and journey.command[-2:] != ("--undo", "--yes"):
        town.soak(journey.what)  # a line that was opened again soaks anew
    if journey.start == "drained" and journey.end == "shut":
        measure_anew(town, journey.what, journey.start)  # a drain on a full disk may have kept none of its evidence


@contextmanager
def kept(town: Town, place: Path) -> Iterator[Callable[[], None]]:
    """Give what puts the county's folder and all routers back as they are now; at the end it is done once more."""
    configs = town.configs()
    shutil.copytree(town.folder, place, ignore=shutil.ignore_patterns(".lab"))

    def put_back() -> None:
        now = town.configs()
        changed = [Change(device=d, mode="replace", config=text) for d, text in configs.items() if now[d] != text]
        change_id = new_change_id(town.campaign, "put-back")
        told = wire.stage_and_commit(town.campaign.nornir, changed, TIMERS["revert_s"], change_id)
        assert all(found.ok for found in told.values()), told
        assert all(found.ok for found in wire.confirm(town.campaign.nornir, told, change_id).values())
        for path in town.folder.iterdir():
            if path.name != ".lab":
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        shutil.copytree(place, town.folder, dirs_exist_ok=True)
        town.campaign.nornir.close_connections()
        del town.__dict__["campaign"]  # what it has read of the ledger is no more

    try:
        yield put_back
    finally:
        put_back()
        shutil.rmtree(place)


@contextmanager
def travelled_again(town: Town, journey: Journey, place: Path) -> Iterator[Callable[[], None]]:
    """Give what brings the journey's unit to its start once more, though no command may lead back from its end."""
    if not journey.final:
        yield lambda: take_to_start(town, journey)
        return
    take_to(town, journey.what, "shut")
    town.soak(journey.what)
    with kept(town, place / "shut"):
        take_to_start(town, journey)
        with kept(town, place / "start") as put_back:
            yield put_back


def find_done(events: tuple[Event, ...], what: str) -> Counter[str]:
    """Return how many times each step of a unit was done."""
    outcomes = (e for e in events if e.kind is Kind.OUTCOME and e.body.get("result") == "done")
    return Counter(e.body["step"] for e in outcomes if what in (e.unit, *e.body.get("units", ())))


def assert_whole(town: Town) -> None:
    """Nothing is armed or open, every intent has exactly one outcome, and the chain is whole."""
    assert town.armed() == []
    events = town.campaign.events()
    with town.campaign.ledger_for_reading() as ledger:
        assert ledger.verify() == []
    intents = {e.key for e in events if e.kind is Kind.INTENT}
    outcomes = Counter(e.key for e in events if e.kind is Kind.OUTCOME if e.key in intents)
    assert {key: outcomes[key] for key in intents} == dict.fromkeys(intents, 1)


@pytest.mark.parametrize("name", JOURNEYS)
def test_killed_between_any_two_events_it_is_finished_by_the_same_command(
    town: Town, name: str, tmp_path: Path
) -> None:
    """Kill -9 before and after every event of a journey: the same command again ends it, done once."""
    journey = JOURNEYS[name]
    with travelled_again(town, journey, tmp_path) as again:
        struck = 0
        again()
        for number in count(1):
            for when in ("before", "after"):
                start, begun = town.configs(), town.campaign.events()
                moment = f"{when} migration.ledger:Ledger.append {number}"
                done = town.break_at("SIGKILL", moment, *journey.command, expect=None)
                if done.returncode == GOOD:
                    assert struck >= 4, "the journey records too little to have been broken"
                    return
                assert done.returncode == KILLED, done.stderr
                struck += 1
                town.run(*journey.command, expect=GOOD)
                assert find_state(town, journey.what) == journey.end, moment
                assert_whole(town)
                if journey.start != journey.end:  # a proof may be made twice
                    since = town.campaign.events()[len(begun) :]
                    assert set(find_done(since, journey.what).values()) <= {1}, moment
                again()
                assert town.configs() == start, moment


def routers_of(town: Town, unit: str) -> list[str]:
    """Return the routers that a unit's steps change: those of its old line, and the extranet's at its site."""
    found, county = town.campaign.find_unit(unit), town.campaign.county
    own = [d.id for d in county.devices if d.site == found.site and d.network == EXTRANET]
    return sorted({*own, *line_of(county, found).legacy})


def run_until_good(town: Town, *command: str) -> None:
    """Run a command until it is done: routers that have just started have to find one another first."""
    ends = time.monotonic() + SETTLED_S
    while (done := town.run(*command)).returncode != GOOD:
        assert time.monotonic() < ends, (done.stdout, done.stderr)


@pytest.mark.parametrize("name", ["cutover", "drain"])
def test_power_that_goes_between_any_two_events_is_survived(town: Town, name: str) -> None:
    """The operator's machine and all routers of a line without power at any event: the same command ends it, done once."""
    journey = JOURNEYS[name]
    routers = routers_of(town, journey.what)
    assert len(routers) >= 2
    off = [town.fault_command("stop", router) for router in routers]
    power_cut = " && ".join([*off, "kill -KILL $PPID"])
    take_to_start(town, journey)
    for number in count(1):
        for when in ("before", "after"):
            start, begun = town.configs(), town.campaign.events()
            moment = f"{when} migration.ledger:Ledger.append {number}"
            done = town.break_at(power_cut, moment, *journey.command, expect=None)
            if done.returncode == GOOD:
                assert number > 4, "the journey records too little to have been broken"
                return
            assert done.returncode == KILLED, done.stderr
            for router in routers:
                town.fault("start", router)
            run_until_good(town, *journey.command)
            assert find_state(town, journey.what) == journey.end, moment
            assert_whole(town)
            done_since = find_done(town.campaign.events()[len(begun) :], journey.what)
            done_since.pop(Step.PROVE, None)  # what was proven and went back with the power is proven anew
            assert set(done_since.values()) <= {1}, moment
            take_to_start(town, journey)
            assert town.configs() == start, moment


@pytest.mark.parametrize("name", ["push", "cutover", "prove", "drain", "remove"])
def test_a_disk_that_fills_before_any_event_loses_nothing(town: Town, name: str, tmp_path: Path) -> None:
    """With the disk full from before any one event on, devices go back or hold all of it; with room, the command ends it.

    Late events may still fit into what the ledger's file has: then the journey ends as if nothing were, and is on record.
    """
    journey = JOURNEYS[name]
    ballast, stopped = town.folder / ".ballast", 0
    with travelled_again(town, journey, tmp_path) as again:
        again()
        for number in count(1):
            start = town.configs()
            fill = f"dd if=/dev/zero of={ballast} bs=64k 2>/dev/null; true"
            moment = f"before migration.ledger:Ledger.append {number}"
            done = town.break_at(fill, moment, *journey.command, expect=None)
            full = ballast.exists()
            ballast.unlink(missing_ok=True)
            if not full:
                assert number > 4, "the journey records too little to have been broken"
                assert stopped, "no disk was full enough to stop anything"
                return
            assert done.returncode in {UNKNOWN, GOOD}, (moment, done.stdout, done.stderr)
            assert "Traceback" not in done.stderr
            if done.returncode == UNKNOWN:
                stopped += 1
                town.run(*journey.command, expect=GOOD)
            assert find_state(town, journey.what) == journey.end, moment
            assert_whole(town)
            again()
            assert town.configs() == start, moment
