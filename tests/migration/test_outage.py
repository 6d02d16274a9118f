"""What is felt at the windows decides: over budget or not known goes back, and the ledger says what it was."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from migration import steps
from migration.events import Kind
from migration.outage import RecordLostError, collect_felt, read_record, sum_by_station
from migration.units import Step, UnitState
from nornir_tasks.stations.model import Check, Result
from nornir_tasks.stations.watch import choose_rate, choose_targets
from tests.migration.scene import fail_check
from tests.migration.test_steps import AFTER, BEFORE, NEW, OLD, UNIT, Scene, stage

LEDGERS, PORTAL = "st-ta/finance/ledgers/ipv4", "st-ta/public/portal/ipv6"


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    """A scene on which the steps work, with stations that watch."""
    made = Scene(tmp_path)
    with stage(made, monkeypatch):
        yield made


def bodies(scene: Scene, kind: Kind) -> list[dict[str, Any]]:
    """Return what the ledger says of outages."""
    return [e.body["outage"] for e in scene.ledger.events(kind=kind) if "outage" in e.body]


def test_within_budget_is_kept_and_its_seconds_are_told(scene: Scene) -> None:
    """A service that was gone for less than the budget: kept, with seconds by station and service, in a file by digest."""
    scene.stations.gone_s = {LEDGERS: 4.0}
    ended = scene.go()[0]
    assert ended.ok
    assert ended.outage is not None
    worst = ended.outage.targets[0]
    assert (worst.name, worst.worked, worst.open) == (LEDGERS, True, False)
    assert 4.0 <= worst.seconds <= 4.3
    assert [t.seconds for t in ended.outage.targets[1:]] == [0.0] * (len(ended.outage.targets) - 1)
    verdict, outcome = bodies(scene, Kind.VERDICT)[0], bodies(scene, Kind.OUTCOME)[-1]
    assert outcome["worst"][0] == {"target": LEDGERS, "seconds": worst.seconds, "back_s": 0.0}
    for told in (verdict, outcome):
        assert read_record(scene.folder, told["digest"]).targets[0].seconds == worst.seconds
    assert ended.as_json()["outage"]["by_target"][0]["seconds"] == worst.seconds
    assert not scene.stations.begun[-1].open


def test_over_budget_goes_back_by_itself(scene: Scene) -> None:
    """Every check passes, but a service was gone too long: undone, with station, service and seconds as the reason."""
    scene.stations.gone_s, scene.stations.back_gone_s = {LEDGERS: 9.8}, 1.0
    scene.county = scene.county.altered(
        policy=scene.county.policy.altered(outage=scene.county.policy.outage.altered(budget_s=5.0))
    )
    ended = scene.go()[0]
    assert (ended.ending, ended.word) == ("undone", "went back")
    assert ended.reasons[0].startswith(f"{LEDGERS}: outage")
    assert "expected 5 s at most, found " in ended.reasons[0]
    assert scene.running() == [BEFORE, BEFORE]
    assert not [d for verb, d in scene.wire.log if verb == "confirm"]
    assert ended.outage is not None
    assert 9.8 <= ended.outage.targets[0].seconds <= 10.1
    assert 1.0 <= ended.outage.targets[0].back_s <= 1.3
    assert bodies(scene, Kind.OUTCOME)[-1]["worst"][0]["back_s"] == ended.outage.targets[0].back_s
    assert not scene.stations.begun[-1].open


def test_what_did_not_work_before_has_no_outage_and_is_named(scene: Scene) -> None:
    """A target that never answered before the change cannot be gone; the ledger says which."""
    scene.stations.never_worked = {PORTAL}
    ended = scene.go()[0]
    assert ended.ok
    assert bodies(scene, Kind.OUTCOME)[-1]["did_not_work_before"] == [PORTAL]
    assert ended.outage is not None
    assert next(t for t in ended.outage.targets if t.name == PORTAL).seconds == 0.0


def test_a_lost_session_is_unknown_and_goes_back(scene: Scene) -> None:
    """Nothing measured is not nothing felt: what was lost on the way is unknown, never zero."""
    scene.stations.lost = {"st-ta": "the watch was lost: the session ended early"}
    ended = scene.go()[0]
    assert ended.ending == "undone"
    assert "outage unknown: the watch was lost" in ended.reasons[0]
    assert scene.running() == [BEFORE, BEFORE]
    assert bodies(scene, Kind.OUTCOME)[-1]["unknown"] > 0


def test_who_cannot_be_watched_is_not_touched(scene: Scene) -> None:
    """A station whose watch does not begin: refused before any device is told."""
    scene.stations.deaf = {"st-ta": "login - expected accepted, found refused"}
    ended = scene.go()[0]
    assert ended.word == "nothing was changed"
    assert "st-ta: cannot be watched: login" in ended.reasons[0]
    assert "commit" not in {verb for verb, _ in scene.wire.log}


def test_a_watch_that_did_not_reach_its_rate_is_unknown(scene: Scene) -> None:
    """Half the probes asked for, or fewer: unknown, whatever those saw."""
    scene.stations.rate_share = 0.3
    ended = scene.go()[0]
    assert ended.ending == "undone"
    assert "expected 10 probes a second, found 3" in ended.reasons[0]


@pytest.mark.parametrize("gone_s", [0.0, 1.0])
def test_nothing_may_be_felt_of_a_retirement(scene: Scene, gone_s: float) -> None:
    """A stage of retirement has no budget beyond what the watch can tell apart."""
    scene.stations.gone_s = {LEDGERS: gone_s}
    ended = scene.go(scene.attempt(step=Step.DRAIN, start=UnitState.PROVISIONED))[0]
    assert ended.ok == (gone_s == 0.0)
    if gone_s:
        assert "expected 0 s at most, found 1" in ended.reasons[0]


def test_a_way_back_is_measured_and_never_held_up(scene: Scene) -> None:
    """Going back must be open whatever is felt of it, or known."""
    scene.stations.gone_s, scene.stations.lost = {LEDGERS: 9.0}, {"st-va1": "gone"}
    back = scene.attempt(step=Step.BACK, must=(), must_work=scene.attempt().must)
    ended = scene.go(back)[0]
    assert ended.ok
    assert ended.outage is not None
    assert ended.outage.budget_s is None
    assert ended.outage.known[0].seconds >= 9.0


def test_provisioning_is_not_watched(scene: Scene) -> None:
    """It gives what is not there yet."""
    ended = scene.go(scene.attempt(step=Step.PROVISION))[0]
    assert (ended.ok, ended.outage, scene.stations.begun) == (True, None, [])


def test_a_spent_budget_does_not_wait_for_the_next_phase(scene: Scene) -> None:
    """Over budget while devices are still being told: the next is not told any more, and what was told goes back."""
    scene.stations.gone_s = {LEDGERS: 100.0}

    def pass_time(verb: str, device: str) -> None:
        if verb == "commit" and device == OLD:
            scene.stations.begun[-1].now_s += 30.0

    scene.wire.on = pass_time
    ended = scene.go()[0]
    assert ended.ending == "undone"
    assert ", not over yet" in ended.reasons[0]
    assert ("commit", NEW) not in scene.wire.log
    assert scene.running() == [BEFORE, BEFORE]


@pytest.mark.parametrize("slow", [False, True])
def test_a_spent_budget_does_not_wait_for_the_proof(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, *, slow: bool
) -> None:
    """Over budget in the first round, or while checks are repeated: that one goes back at once, the others are proven."""
    scene.ledger.append(
        Kind.OUTCOME,
        "given/fin@tb",
        {"step": "provision", "result": "done", "state": "provisioned", "devices": {}, "reason": ""},
        unit="fin@tb",
    )
    scene.stations.gone_s = {LEDGERS: 100.0}
    rounds: list[int] = []

    def measured(checks: Iterable[Check], *_: object, on_station: Any, **__: object) -> list[Result]:
        asked = list(checks)
        rounds.append(len(asked))
        scene.stations.begun[-1].now_s += 15.0
        on_station("st-ta", [])
        return scene.measure(asked)

    def measure_once(checks: Iterable[Check], *_: object, on_station: Any, **__: object) -> list[Result]:
        if not scene.stations.begun or (slow and rounds):
            return scene.measure(checks)
        return [fail_check(c, scene.clock.now()) for c in checks] if slow else measured(checks, on_station=on_station)

    monkeypatch.setattr(steps, "measure", measure_once)
    monkeypatch.setattr(steps, "measure_until", measured)
    one, two = scene.go(scene.attempt(), scene.attempt("fin@tb", "fin-tb", "r-tb"))
    assert one.ending == "undone"
    assert one.reasons[0].startswith(LEDGERS)
    assert two.ok
    assert scene.running("fin-tb", "r-tb") == [AFTER, AFTER]
    assert slow or rounds[1] < rounds[0]


def test_records_are_read_as_they_were_written_or_not_at_all(scene: Scene) -> None:
    """A changed or missing file is lost, by name; the sums by station leave it out and say so."""
    scene.stations.gone_s = {LEDGERS: 3.0}
    scene.go()
    felt = collect_felt(scene.folder, scene.events())
    assert [(f.step, f.result, f.units) for f in felt] == [(Step.CUTOVER, "done", (UNIT,))]
    first = sum_by_station(felt)[0]
    assert (first.station, first.service, first.felt) == ("st-ta", "finance/ledgers/ipv4", 1)
    assert 3.0 <= first.seconds <= 3.3
    assert felt[0].record is not None
    path = scene.folder / felt[0].record.file
    path.write_bytes(path.read_bytes()[:-9])
    assert "cannot be read" in collect_felt(scene.folder, scene.events())[0].lost
    path.unlink()
    with pytest.raises(RecordLostError, match="is missing"):
        read_record(scene.folder, felt[0].record.digest)
    with pytest.raises(RecordLostError, match="not a digest"):
        read_record(scene.folder, "../ledger")


def test_a_record_nested_without_end_is_lost_by_name(tmp_path: Path) -> None:
    """A file of brackets alone is lost, by name, under its own digest as under another."""
    text = b"[" * 200_000
    (tmp_path / "evidence").mkdir()
    for digest, why in ((hashlib.sha256(text).hexdigest(), "cannot be read"), ("0" * 64, "was changed")):
        (tmp_path / "evidence" / f"{digest}.watch.json.gz").write_bytes(gzip.compress(text))
        with pytest.raises(RecordLostError, match=f"{digest}.watch.json.gz {why}"):
            read_record(tmp_path, digest)


def test_one_way_is_watched_once_and_no_more_often_than_may_be(scene: Scene) -> None:
    """One target a leg, server and family; those near a fifth as often; all together stay under the limit."""
    moved = [c for c in scene.matrix.checks if c.plane == "finance"]
    near = [c for c in scene.matrix.checks if c.plane == "public"]
    targets = choose_targets(moved, near + moved)
    assert len({t.id for t in targets}) == len(targets)
    ways = {(c.station, c.interface, c.address, c.family) for c in (*moved, *near) if c.expect == "reach"}
    assert {(t.station, t.interface, t.address, t.family) for t in targets} == ways
    assert {t.every for t in targets if t.plane == "finance"} == {1}
    assert {t.every for t in targets if t.plane == "public"} == {5}
    assert choose_rate(targets, 10, 5000) == 10
    assert sum(choose_rate(targets, 10, 20) / t.every for t in targets) == pytest.approx(20)
