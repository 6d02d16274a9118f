"""A cutover whose record goes away under it: the connection, the server, or the power, at every point between two events."""

from __future__ import annotations

import contextlib
import copy
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

import migration.ledger.record
from migration.events import Event, Kind
from migration.ledger import HEAD_FILE, Ledger, LedgerError
from migration.units import UnitState
from tests.migration.postgres_cluster import Cluster
from tests.migration.test_steps import AFTER, BEFORE, NEW, OLD, UNIT, Router, Scene, stage

WAL_HEADER_BYTES, FRAME_BYTES = 32, 24 + 4096


class Moments:
    """Counts what happens in a run - before and after each append, before each word to a device - and strikes at one."""

    def __init__(self, scene: Scene, at: int, strike: Callable[[], None]) -> None:
        self.seen, self.at, self.strike = 0, at, strike
        append = scene.ledger.append

        def counted(*args: Any, **more: Any) -> Event:
            self.pass_one()
            found = append(*args, **more)
            self.pass_one()
            return found

        scene.ledger.append = counted  # type: ignore[method-assign]
        scene.wire.on = self.pass_one

    def pass_one(self, *_: object) -> None:
        """Let one moment pass."""
        self.seen += 1
        if self.seen == self.at:
            self.strike()


@contextlib.contextmanager
def taken_up(scene: Scene) -> Iterator[Scene]:
    """Take a scene up as the next command would: with a ledger of its own, and the county's lease."""
    with Ledger.open(scene.place, clock=scene.clock, target="lab t", folder=scene.folder) as again:
        before, scene.ledger = scene.ledger, again
        scene.wire.on = lambda *_: None
        with again.hold("the same command again", place="x"):
            yield scene
        scene.ledger = before


def finish_and_look(scene: Scene, moment: object) -> None:
    """The same command again: all of the change holds or nothing, recorded once, and then it is done."""
    assert scene.ledger.verify() == [], moment
    touched = [d for verb, d in scene.wire.log if verb == "commit"]
    assert len(touched) == len(set(touched)), moment  # nothing was pushed twice
    intents = [e for e in scene.events() if e.kind is Kind.INTENT]
    assert intents or not touched, moment  # nor without having been written down before
    scene.finish()
    whole = scene.running() == [AFTER, AFTER]
    assert whole or scene.running() == [BEFORE, BEFORE], moment
    assert (scene.state() is UnitState.CUT_OVER) == whole, moment
    assert not scene.records()[UNIT].open, moment
    if not whole:
        assert scene.go(change_id="c2")[0].ok, moment
    assert scene.state() is UnitState.CUT_OVER
    assert not any(r.armed for r in scene.wire.routers.values()), moment
    keys = [(e.kind, e.key) for e in scene.events()]
    assert len(keys) == len(set(keys)), moment
    assert scene.ledger.verify() == [], moment


def count_moments(scene: Scene) -> int:
    """Run a cutover undisturbed, and return in how many moments something can happen to it."""
    with stage(scene):
        moments = Moments(scene, 0, lambda: None)
        assert scene.go()[0].ok
        return moments.seen


def test_a_connection_that_breaks_anywhere_is_not_noticed(cluster: Cluster, tmp_path: Path) -> None:
    """Each connection ended by the server's administrator, at every moment of a cutover: it goes on, nothing is done twice."""

    def break_all() -> None:
        ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'extranet ledger'"
        cluster.execute("public", ended)

    moments = count_moments(Scene(tmp_path, place=cluster.url(cluster.new_schema())))
    assert moments >= 16
    for moment in range(1, moments + 1):
        folder = tmp_path / str(moment)
        folder.mkdir()
        with stage(Scene(folder, place=cluster.url(cluster.new_schema()))) as scene:
            struck = Moments(scene, moment, break_all)
            assert scene.go()[0].ok, moment
            assert struck.seen == moments
            assert scene.running() == [AFTER, AFTER]
            assert sorted(d for verb, d in scene.wire.log if verb == "commit") == sorted([OLD, NEW])
            assert [e.kind for e in scene.events()].count(Kind.INTENT) == 1
            assert scene.ledger.verify() == []


@pytest.mark.heavy
@pytest.mark.timeout(1800)
def test_a_server_that_vanishes_anywhere_is_said_and_taken_up(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server gone at any moment: exit code 4 in one line, or done; the same command again ends it whole."""
    moments = count_moments(Scene(tmp_path, place=cluster.url(cluster.new_schema())))
    monkeypatch.setattr(migration.ledger.record, "PATIENCE_S", 0.2)
    said: list[LedgerError] = []
    for moment in range(1, moments + 1):
        folder = tmp_path / str(moment)
        folder.mkdir()
        with stage(Scene(folder, place=cluster.url(cluster.new_schema()))) as scene:
            append = scene.ledger.append
            Moments(scene, moment, lambda: cluster.stop(at_once=True))
            try:
                scene.go()
            except LedgerError as error:
                said.append(error)
            finally:
                if cluster.process is None:
                    cluster.start()
            scene.ledger.append = append  # type: ignore[method-assign]
            with taken_up(scene):
                finish_and_look(scene, moment)
    assert {e.exit_code for e in said} == {4}
    assert not any("\n" in str(e) for e in said)
    assert len(said) >= moments - 2  # only the last moments come after all that is asked of the server


@dataclass(frozen=True)
class Outage:
    """A moment at which the power may go: what the disk held, and what the routers did, which have power of their own."""

    files: dict[str, bytes]
    routers: dict[str, Router]
    told: list[tuple[str, str]]
    at: datetime


def look(scene: Scene) -> Outage:
    """Note what is on the disk and on the routers now."""
    names = ("ledger.sqlite", "ledger.sqlite-wal", HEAD_FILE)
    files = {n: (scene.folder / n).read_bytes() for n in names}
    return Outage(files, copy.deepcopy(scene.wire.routers), list(scene.wire.log), scene.clock.moment)


def power_losses(before: Outage, after: Outage) -> Iterator[dict[str, bytes]]:
    """Give what may be on the disk when the power goes inside an append: each part of what was not synced yet, or torn.

    A frame may be there in part, as zeros or as another than it was written; the head is written last, and may lag behind.
    """
    old, new = before.files["ledger.sqlite-wal"], after.files["ledger.sqlite-wal"]
    assert len(new) > len(old), "the log began anew: the test no longer knows what was not synced"
    assert new.startswith(old)
    lengths = {*range(len(old), len(new) + 1, FRAME_BYTES), *range(len(old) + 2_000, len(new), FRAME_BYTES)}
    for length in sorted(lengths):
        yield before.files | {"ledger.sqlite-wal": new[:length]}
    missing = len(new) - len(old)
    yield before.files | {"ledger.sqlite-wal": old + b"\0" * missing}
    yield before.files | {"ledger.sqlite-wal": new[: -FRAME_BYTES // 2] + b"\xff" * (FRAME_BYTES // 2)}
    # Frames reach the disk in any order: the last is there, the one before is not.
    yield before.files | {"ledger.sqlite-wal": old + b"\0" * (missing - FRAME_BYTES) + new[-FRAME_BYTES:]}


@pytest.mark.heavy
@pytest.mark.timeout(1800)
def test_power_that_goes_anywhere_leaves_each_event_whole_or_not_there(tmp_path: Path) -> None:
    """Whatever part of an append the disk kept, the event is there or is not, the chain is whole, and the run goes on."""
    first = tmp_path / "first"
    first.mkdir()
    outages: list[tuple[Outage, Outage]] = []
    with stage(Scene(first)) as scene:
        append = scene.ledger.append

        def noted(*args: Any, **more: Any) -> Event:
            before = look(scene)
            found = append(*args, **more)
            outages.append((before, look(scene)))
            return found

        scene.ledger.append = noted  # type: ignore[method-assign]
        assert scene.go()[0].ok
    assert len(outages) >= 5
    walked = 0
    for number, (before, after) in enumerate(outages):
        count = {number + 1: 0, number + 2: 0}
        losses = [*power_losses(before, after), after.files]
        for files in losses:
            walked += 1
            folder = tmp_path / str(walked)
            folder.mkdir()
            for name, data in files.items():
                (folder / name).write_bytes(data)
            resumed = Scene(folder)
            resumed.wire.routers, resumed.wire.log = copy.deepcopy(before.routers), list(before.told)
            resumed.clock.moment = before.at
            with stage(resumed):
                there = len(resumed.events())
                assert there in count, (number, walked)
                count[there] += 1
                if files is after.files:
                    assert there == number + 2  # what an append has returned stays
                finish_and_look(resumed, (number, walked))
            shutil.rmtree(folder)
        assert min(count.values()) >= 1, number  # both happened: the cuts do cut
