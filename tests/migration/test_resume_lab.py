"""Power loss and full disks at every point between two events of the ledger, on real routers: nothing twice, nothing forgotten.

Each journey is broken before and after every single event that it records; then the same command is run again. A journey
ends where it was to end, each router holds all of it or nothing, and the ledger has one outcome for each intent.
"""

import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest

from migration.events import Kind
from tests.lab_fixture import skip_without_machine
from tests.migration.town import GOOD, UNKNOWN, Town, open_town

TIMERS = {"revert_s": 60, "converge_s": 20, "soak_s": 1, "hold_s": 1}
UNIT = "party-edu@chengguan-wabei"
KILLED = -9
pytestmark = [pytest.mark.lab, pytest.mark.heavy, pytest.mark.timeout(1800)]


@dataclass(frozen=True)
class Journey:
    """A command that takes the unit from one state to another, and the one that takes it back."""

    start: str
    command: tuple[str, ...]
    end: str
    back: tuple[str, ...]


JOURNEYS = {
    "cutover": Journey("provisioned", ("cutover", UNIT, "--yes"), "cut_over", ("cutover", UNIT, "--back", "--yes")),
    "back": Journey("cut_over", ("cutover", UNIT, "--back", "--yes"), "provisioned", ("cutover", UNIT, "--yes")),
    "prove": Journey("cut_over", ("prove", UNIT, "--yes"), "cut_over", ()),
    "drain": Journey(
        "soaked", ("retire", UNIT, "--until", "drained", "--yes"), "drained", ("retire", UNIT, "--undo", "--yes")
    ),
    "undo": Journey(
        "drained", ("retire", UNIT, "--undo", "--yes"), "soaked", ("retire", UNIT, "--until", "drained", "--yes")
    ),
    "shut": Journey(
        "drained", ("retire", UNIT, "--until", "shut", "--yes"), "shut", ("retire", UNIT, "--undo", "--yes")
    ),
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


def take_to(town: Town, state: str) -> None:
    """Bring the unit to a state, forwards or backwards, with nothing broken."""
    way = {
        ("provisioned", "cut_over"): ("cutover", UNIT, "--yes"),
        ("cut_over", "provisioned"): ("cutover", UNIT, "--back", "--yes"),
        ("soaked", "provisioned"): ("cutover", UNIT, "--back", "--yes"),
        ("drained", "soaked"): ("retire", UNIT, "--undo", "--yes"),
        ("shut", "drained"): ("retire", UNIT, "--undo", "--yes"),
        ("cut_over", "drained"): ("retire", UNIT, "--until", "drained", "--yes"),
        ("soaked", "drained"): ("retire", UNIT, "--until", "drained", "--yes"),
        ("drained", "shut"): ("retire", UNIT, "--until", "shut", "--yes"),
    }
    route = {
        "provisioned": ("shut", "drained", "soaked", "provisioned"),
        "cut_over": ("shut", "drained", "soaked", "provisioned", "cut_over"),
        "soaked": ("provisioned", "cut_over", "drained", "soaked"),
        "drained": ("provisioned", "cut_over", "drained"),
    }[state]
    for wanted in route:
        now = town.state(UNIT)
        if now == state:
            return
        if (now, wanted) in way:
            if wanted == "drained" and now in {"cut_over", "soaked"}:
                town.soak(UNIT)
                town.run("prove", UNIT, "--yes", expect=GOOD)
            town.run(*way[now, wanted], expect=GOOD)
    assert town.state(UNIT) == state


def assert_whole(town: Town) -> None:
    """Nothing is armed or open, every intent has exactly one outcome, and the chain is whole."""
    assert town.armed() == []
    events = town.campaign.events()
    intents = {e.key for e in events if e.kind is Kind.INTENT}
    outcomes = Counter(e.key for e in events if e.kind is Kind.OUTCOME if e.key in intents)
    assert {key: outcomes[key] for key in intents} == dict.fromkeys(intents, 1)
    town.run("ledger", "verify", expect=GOOD)


@pytest.mark.parametrize("name", JOURNEYS)
def test_killed_between_any_two_events_it_is_finished_by_the_same_command(town: Town, name: str) -> None:
    """Kill -9 before and after every event of a journey: the same command again ends it, done once."""
    journey = JOURNEYS[name]
    struck = 0
    for number in count(1):
        for when in ("before", "after"):
            take_to(town, journey.start)
            start = town.configs()
            moment = f"{when} migration.ledger:Ledger.append {number}"
            done = town.break_at("SIGKILL", moment, *journey.command, expect=None)
            if done.returncode == GOOD:
                assert struck >= 4, "the journey records too little to have been broken"
                return
            assert done.returncode == KILLED, done.stderr
            struck += 1
            town.run(*journey.command, expect=GOOD)
            assert town.state(UNIT) == journey.end, moment
            assert_whole(town)
            if journey.back:
                town.run(*journey.back, expect=GOOD)
            assert town.configs() == start, moment


@pytest.mark.parametrize("name", ["cutover", "prove", "drain"])
def test_a_disk_that_fills_before_any_event_loses_nothing(town: Town, name: str) -> None:
    """With the disk full from before any one event on, devices go back or hold all of it; with room, the command ends it."""
    journey = JOURNEYS[name]
    ballast = town.folder / ".ballast"
    for number in count(1):
        take_to(town, journey.start)
        start = town.configs()
        fill = f"dd if=/dev/zero of={ballast} bs=64k 2>/dev/null; true"
        moment = f"before migration.ledger:Ledger.append {number}"
        done = town.break_at(fill, moment, *journey.command, expect=None)
        full = ballast.exists()
        ballast.unlink(missing_ok=True)
        if not full:
            assert number > 4, "the journey records too little to have been broken"
            return
        assert done.returncode == UNKNOWN, (moment, done.stdout, done.stderr)
        assert "Traceback" not in done.stderr
        town.run(*journey.command, expect=GOOD)
        assert town.state(UNIT) == journey.end, moment
        assert_whole(town)
        if journey.back:
            town.run(*journey.back, expect=GOOD)
        assert town.configs() == start, moment
