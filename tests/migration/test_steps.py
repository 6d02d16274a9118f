"""A step is kept whole or goes back whole, and the ledger says which, whatever stops it and wherever."""

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from migration import outage, steps
from migration.closed import Port
from migration.events import Event, Kind, digest_of
from migration.evidence import Bound, inventory_digest
from migration.ledger import LeaseLostError, Ledger, LedgerUnavailableError
from migration.recent import Recent
from migration.steps import Attempt, Ended, carry_out, finish_interrupted
from migration.units import Step, UnitRecord, UnitState, fold, last_changes
from nornir_tasks import changes
from nornir_tasks.changes import Change, Committed
from nornir_tasks.changes import Event as Progress
from nornir_tasks.hosts import DeviceOutcome
from nornir_tasks.stations.model import Check, Result
from tests.migration.scene import StoppedClock, build_checks, build_county, fail_check, pass_check
from tests.migration.watching import Stations

OLD, NEW, EXTRANET = "fin-ta", "r-ta", ("core1", "core2", "r-ta")
UNIT = "fin@ta"
BEFORE, AFTER = "as it was", "with the change"


class KilledError(BaseException):
    """kill -9: nothing of ours runs any more."""


@dataclass
class Router:
    """A router as far as changes go: what it runs, what it boots with, and the change that is armed or was kept."""

    running: str = BEFORE
    saved: str = BEFORE
    armed: str = ""
    before: str = ""
    kept: str = ""
    refuses: bool = False
    deaf: bool = False
    """Does not answer."""
    deaf_after: str = ""
    """Stops answering after this verb."""

    def fire(self) -> None:
        """The timer is over."""
        if self.armed:
            self.running, self.armed = self.before, ""

    def reboot(self) -> None:
        """Come back with what was saved; nothing else is remembered."""
        self.running, self.armed, self.kept, self.deaf = self.saved, "", "", False

    def restart_daemons(self) -> None:
        """Run what was saved; the change that is armed is still remembered."""
        self.running = self.saved


@dataclass
class Wire:
    """The commit wave over such routers; `log` is what they were told, `on` what happens before a verb."""

    routers: dict[str, Router]
    log: list[tuple[str, str]] = field(default_factory=list)
    on: Callable[[str, str], None] = lambda _verb, _device: None

    def _ask(self, verb: str, device: str, act: Callable[[Router], Any]) -> DeviceOutcome[Any]:
        self.on(verb, device)
        router = self.routers[device]
        if router.deaf:
            return DeviceOutcome(device=device, state="failed", error=f"{device}: deaf", kind="DeviceUnreachableError")
        try:
            value = act(router)
        except ValueError as error:
            return DeviceOutcome(device=device, state="failed", error=f"{device}: {error}", kind="NotPendingError")
        self.log.append((verb, device))
        router.deaf = router.deaf_after == verb
        if router.deaf:
            return DeviceOutcome(device=device, state="failed", error=f"{device}: deaf", kind="DeviceUnreachableError")
        return DeviceOutcome(device=device, state="ok", value=value)

    def compare(self, _nornir: object, changes: Sequence[Change]) -> dict[str, DeviceOutcome[str]]:
        """Compare candidates."""

        def look(change: Change) -> DeviceOutcome[str]:
            if self.routers[change.device].refuses:
                return DeviceOutcome(device=change.device, state="failed", error=f"{change.device}: line refused")
            return self._ask("compare", change.device, lambda r: "" if r.running == change.config else "+ x")

        return {c.device: look(c) for c in changes}

    def stage_and_commit(
        self,
        nornir: object,
        changes: Sequence[Change],
        revert_in_s: int,
        change_id: str,
        on_event: object = None,
        *,
        forbid: Callable[[str, str], str] | None = None,
        permit: Callable[[], None] = lambda: None,
    ) -> dict[str, Committed]:
        """Check all, then commit."""
        del revert_in_s
        checked = self.compare(nornir, changes)
        if forbid is not None:
            whys = {d: forbid(d, o.value or "") for d, o in checked.items()}
            checked |= {d: checked[d].model_copy(update={"state": "failed", "error": w}) for d, w in whys.items() if w}
        if not all(o.ok for o in checked.values()):
            return {
                d: Committed(device=d, state="held" if o.ok else "refused", error=o.error) for d, o in checked.items()
            }
        out = {}
        for change in changes:
            if not checked[change.device].value:
                out[change.device] = Committed(device=change.device, state="unchanged")
                continue

            def commit(router: Router, wanted: str = change.config) -> None:
                permit()
                router.before, router.running, router.armed = router.running, wanted, change_id

            done = self._ask("commit", change.device, commit)
            state = "committed" if done.ok else "unknown"
            digest = digest_of(change.config) if done.ok else ""
            out[change.device] = Committed(device=change.device, state=state, error=done.error, digest=digest)  # type: ignore[arg-type]
            if callable(on_event):
                on_event(Progress(phase="commit", device=change.device, ok=done.ok, done=1, of=1))
        return out

    def confirm(
        self, _nornir: object, devices: Iterable[str], change_id: str, *, permit: Callable[[], None] = lambda: None
    ) -> dict[str, DeviceOutcome[None]]:
        """Keep the change."""

        def keep(router: Router) -> None:
            permit()
            if router.kept == change_id:
                return
            if router.armed != change_id:
                raise ValueError("not pending")
            router.armed, router.kept, router.saved = "", change_id, router.running

        return {d: self._ask("confirm", d, keep) for d in devices}

    def roll_back(
        self, _nornir: object, devices: Iterable[str], change_id: str, *, permit: Callable[[], None] = lambda: None
    ) -> dict[str, DeviceOutcome[None]]:
        """Go back."""

        def back(router: Router) -> None:
            permit()
            if router.kept == change_id:
                raise ValueError("was confirmed")
            if router.armed == change_id:
                router.fire()

        return {d: self._ask("roll back", d, back) for d in devices}


class Scene:
    """A campaign of one small county, its routers and what its stations see; all but the steps themselves is made up."""

    def __init__(
        self, folder: Path, *, units: tuple[str, ...] = (UNIT,), place: Path | str | None = None, **timers: float
    ) -> None:
        self.county = build_county(**timers)
        self.clock = StoppedClock()
        self.wire = Wire({d.id: Router() for d in self.county.devices})
        self.place = place or folder / "ledger.sqlite"
        self.ledger = Ledger.open(self.place, clock=self.clock, target="lab t", folder=folder)
        self.said: list[str] = []
        self.successor: Ledger | None = None
        self.fails: set[str] = set()
        """Checks that fail whenever they are asked."""
        self.fails_under: Callable[[], set[str]] = set
        self.matrix = SimpleNamespace(checks=build_checks(self.county), hops=None)
        self.plan = SimpleNamespace(digest="plan")
        self.folder, self.access, self.nornir, self.target = folder, None, None, "lab t"
        self.stations, self.recent = Stations(), Recent()
        self.up: set[Port] = set()
        """Ports that are up whatever their configuration says."""
        self.asked: set[Port] = set()
        for unit in units:
            self.ledger.append(
                Kind.OUTCOME,
                f"given/{unit}",
                {"step": "provision", "result": "done", "state": "provisioned", "devices": {}, "reason": ""},
                unit=unit,
            )

    def events(self) -> tuple[Event, ...]:
        return self.ledger.events()

    def records(self) -> dict[str, UnitRecord]:
        return fold(self.events(), self.county)

    def measure(self, checks: Iterable[Check], *_: object, **__: object) -> list[Result]:
        self.clock.pass_s(1)
        bad = self.fails | self.fails_under()
        return [(fail_check if c.id in bad else pass_check)(c, self.clock.now()) for c in checks]

    def read_bound(self, _campaign: object, devices: Iterable[str], **_: object) -> Bound:
        answering = [d for d in devices if not self.wire.routers[d].deaf]
        configs = {d: digest_of(self.wire.routers[d].running) for d in answering}
        return Bound(inventory=inventory_digest(self.county), plan="plan", configs=configs)

    def find_open(self, _campaign: object, wanted: Iterable[Port]) -> dict[Port, str]:
        self.asked = set(wanted)
        return {p: f"{p[0]} port {p[1]}: is up" for p in self.asked & self.up}

    def attempt(self, unit: str = UNIT, old: str = OLD, new: str = NEW, **more: Any) -> Attempt:
        """A cutover as it is made: the legacy router lets go, then the extranet's takes over."""
        site, network = unit.partition("@")[2], self.county.unit_by_id[unit].plane
        must = [c for c in self.matrix.checks if c.station == f"st-{site}" and c.plane == network]
        fields: dict[str, Any] = {
            "name": unit,
            "step": Step.CUTOVER,
            "phases": ((change(old, AFTER),), (change(new, AFTER),)),
            "must": tuple(must),
            "watch": tuple(c for c in self.matrix.checks if c.station == f"st-{site}" and c.plane == "public"),
            "units": (unit,),
            "start": UnitState.PROVISIONED,
            "end": UnitState.CUT_OVER,
            "withheld": (unit,),
        }
        return Attempt(**{**fields, **more})

    def go(self, *attempts: Attempt, change_id: str = "c1") -> list[Ended]:
        return carry_out(self, attempts or [self.attempt()], change_id=change_id, say=self.said.append)  # type: ignore[arg-type]

    def finish(self) -> list[steps.Finished]:
        return finish_interrupted(self, say=self.said.append)  # type: ignore[arg-type]

    def running(self, *devices: str) -> list[str]:
        return [self.wire.routers[d].running for d in devices or (OLD, NEW)]

    def outcome(self, key: str = f"c1/{UNIT}") -> dict[str, Any] | None:
        found = [e.body for e in self.ledger.events(kind=Kind.OUTCOME) if e.key == key]
        return found[0] if found else None

    def state(self, unit: str = UNIT) -> UnitState:
        return self.records()[unit].state


def change(device: str, text: str) -> Change:
    """A change that says what a router shall run."""
    return Change(device=device, mode="replace", config=text)


def undo_moves(_campaign: object, units: Sequence[Any], start: UnitState, end: UnitState) -> tuple[Any, ...]:
    """What takes units back: the extranet's router first."""
    if (start, end) != (UnitState.CUT_OVER, UnitState.PROVISIONED):
        return ()
    devices = {UNIT: (NEW, OLD), "fin@tb": ("r-tb", "fin-tb")}
    return tuple((change(devices[u.id][n], BEFORE),) for n in (0, 1) for u in units)


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    """A scene on which the steps work."""
    made = Scene(tmp_path)
    with stage(made, monkeypatch):
        yield made


class stage:  # noqa: N801 - reads as a verb
    """Put a scene under the steps."""

    def __init__(self, scene: Scene, monkeypatch: pytest.MonkeyPatch | None = None) -> None:
        self.scene, self.patch = scene, monkeypatch or pytest.MonkeyPatch()

    def __enter__(self) -> Scene:
        scene = self.scene
        for name in ("compare", "stage_and_commit", "confirm", "roll_back"):
            self.patch.setattr(changes, name, getattr(scene.wire, name))
        self.patch.setattr(steps, "measure", scene.measure)
        self.patch.setattr(steps, "_WATCH_PAUSE_S", 0.0)
        self.patch.setattr(steps, "measure_until", scene.measure)
        self.patch.setattr(steps, "read_bound", scene.read_bound)
        self.patch.setattr(steps, "find_open", scene.find_open)
        self.patch.setattr(steps, "move_units", undo_moves)
        self.held = scene.ledger.hold("a test", place="x")
        self.lease = self.held.__enter__()
        self.patch.setattr(outage, "Watching", scene.stations.watch)
        self.patch.setattr(outage, "_RECOVERY_S", 0.0)
        return scene

    def __exit__(self, *_: object) -> None:
        self.patch.undo()
        self.held.__exit__(None, None, None)
        self.scene.ledger.close()


def test_what_is_proven_is_kept_and_recorded_in_order(scene: Scene) -> None:
    """Intent, evidence, verdict, proof and outcome follow one another; the old path is confirmed last."""
    assert scene.go()[0].ok
    assert scene.running() == [AFTER, AFTER]
    kinds = [(e.kind.value, e.body.get("step")) for e in scene.events()[1:]]
    assert kinds == [
        ("intent", "cutover"),
        ("evidence", None),
        ("verdict", None),
        ("outcome", "prove"),
        ("outcome", "cutover"),
    ]
    confirmed = [d for verb, d in scene.wire.log if verb == "confirm"]
    assert confirmed == [NEW, OLD]
    assert scene.state() is UnitState.CUT_OVER


@pytest.mark.parametrize("plane", ["finance", "public"])
def test_one_failed_check_brings_everything_back(scene: Scene, plane: str) -> None:
    """A need that fails afterwards, or a bystander that worked before, undoes the step; nothing is confirmed."""
    victim = next(c for c in scene.matrix.checks if c.station == "st-ta" and c.plane == plane and c.expect == "reach")
    scene.fails_under = lambda: {victim.id} if scene.wire.routers[OLD].armed else set()
    ended = scene.go()[0]
    assert ended.ending == "undone"
    assert victim.id in ended.reasons[0]
    assert ended.word == "went back"
    assert any("going back" in line for line in scene.said)
    assert scene.running() == [BEFORE, BEFORE]
    assert not [d for verb, d in scene.wire.log if verb == "confirm"]
    assert scene.state() is UnitState.PROVISIONED
    assert "cutover undone" in scene.records()[UNIT].failure


def test_a_bystander_broken_before_stands_in_nobodys_way(scene: Scene) -> None:
    """What did not work before the change need not work after it."""
    scene.fails = {c.id for c in scene.matrix.checks if c.plane == "public"}
    assert scene.go()[0].ok


def test_the_gate_decides_on_the_proof(scene: Scene) -> None:
    """A cutover whose own checks pass is still not kept when the gate finds a cell of the matrix unproven."""
    partial = scene.attempt(must=tuple(c for c in scene.attempt().must if c.family == "ipv6"))
    ended = scene.go(partial)[0]
    assert ended.ending == "undone"
    assert "never measured" in ended.reasons[0]
    assert scene.running() == [BEFORE, BEFORE]


def test_a_trial_proves_and_gives_everything_back(scene: Scene) -> None:
    """A proven trial confirms nothing: every router runs what it ran before, and the unit is called proven."""
    ended = scene.go(scene.attempt(step=Step.PROVE, trial=True))[0]
    assert (ended.ok, ended.word) == (True, "proven, and given back")
    assert scene.running() == [BEFORE, BEFORE]
    assert not [d for verb, d in scene.wire.log if verb == "confirm"]
    assert scene.state() is UnitState.PROVEN
    run = [e for e in scene.events() if e.kind is Kind.EVIDENCE][-1]
    assert run.body["withheld"] == [UNIT]
    again = scene.go(scene.attempt(), change_id="c2")[0]
    assert (again.ok, scene.state()) == (True, UnitState.CUT_OVER)


def test_a_trial_that_fails_gives_everything_back(scene: Scene) -> None:
    """What works only beside the old path is found by a trial, and is there again afterwards."""
    victim = scene.attempt().must[0]
    scene.fails_under = lambda: {victim.id} if scene.wire.routers[OLD].armed else set()
    ended = scene.go(scene.attempt(step=Step.PROVE, trial=True))[0]
    assert (ended.ending, ended.word) == ("undone", "not proven, and given back")
    assert victim.id in ended.reasons[0]
    assert scene.running() == [BEFORE, BEFORE]
    assert scene.state() is UnitState.PROVISIONED


def withheld_by(scene: Scene) -> list[object]:
    """Return, for each run on record, whose old path it claims to have been measured without."""
    return [e.body["withheld"] for e in scene.events() if e.kind is Kind.EVIDENCE]


@pytest.mark.parametrize("trial", [False, True])
def test_a_router_that_was_opened_again_meanwhile_proves_nothing(scene: Scene, *, trial: bool) -> None:
    """A colleague's hand, or a restart, while stations measure: nothing is kept, and no run says the path was withheld."""

    def open_again() -> set[str]:
        if scene.wire.routers[OLD].armed:
            scene.wire.routers[OLD].running = BEFORE
        return set()

    scene.fails_under = open_again
    ended = scene.go(scene.attempt(step=Step.PROVE, trial=True) if trial else scene.attempt())[0]
    assert ended.ending == "undone"
    assert f"{OLD}: runs other than what it was given" in ended.reasons[0]
    assert withheld_by(scene) == [[]]
    assert scene.state() is UnitState.PROVISIONED


@pytest.mark.parametrize("end", [UnitState.CUT_OVER, UnitState.SHUT])
def test_a_port_that_is_up_withholds_nothing_whoever_closed_it(scene: Scene, end: UnitState) -> None:
    """Its router runs the closing lines already, typed by hand, and something opens the port all the same."""
    scene.up = {(OLD, "lan1")}
    for device in (OLD, NEW):
        scene.wire.routers[device].running = AFTER
    attempt = scene.attempt(step=Step.PROVE, trial=True, end=end)
    ended = scene.go(attempt)[0]
    assert (ended.changed, ended.unchanged) == ([], [OLD, NEW])
    assert ended.ending == "undone"
    assert ended.reasons[0] == f"{min(scene.up)[0]} port {min(scene.up)[1]}: is up"
    assert withheld_by(scene) == [[]]
    scene.up = set()
    assert scene.go(attempt, change_id="c2")[0].ok
    assert withheld_by(scene) == [[], [UNIT]]


def test_a_cutover_is_kept_only_with_the_old_port_down(scene: Scene) -> None:
    """Two gateways on one LAN are no cutover."""
    scene.up = {(OLD, "lan1")}
    assert scene.go()[0].ending == "undone"
    assert scene.asked == scene.up
    assert scene.running() == [BEFORE, BEFORE]


def test_a_router_that_is_changed_while_stations_measure_proves_nothing(scene: Scene) -> None:
    """A colleague changes a core after the probes passed: the evidence names no configuration of it, and the gate refuses."""
    measured = scene.measure

    def measure_and_change(*asked: Any, **more: Any) -> list[Result]:
        results = measured(*asked, **more)
        if scene.wire.routers[OLD].armed:
            time.sleep(0.2)  # what ran when they began is read by now
            scene.wire.routers["core1"].running = "by hand"
        return results

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(steps, "measure", measure_and_change)
        ended = scene.go()[0]
    assert ended.ending == "undone"
    assert any("without knowing what core1 ran" in why for why in ended.reasons)


def test_an_intent_says_what_the_old_lines_routers_ran(scene: Scene) -> None:
    """So that a change by somebody else before ours is told from ours; extranet routers' are known from the plan."""
    scene.wire.routers[OLD].running = "by hand"
    scene.go()
    (intent,) = [e for e in scene.events() if e.kind is Kind.INTENT]
    assert intent.body["ran"] == {OLD: digest_of("by hand")}
    (link,) = last_changes(scene.events())[OLD].links
    assert (link.ran, link.left) == (digest_of("by hand"), digest_of(AFTER))


def test_a_trial_that_others_missed_shows_nothing_without_the_path(scene: Scene) -> None:
    """Its own checks passed, but somebody else's broke: the run is kept, and proves nothing about going without."""
    other = scene.attempt().watch[0]
    scene.fails_under = lambda: {other.id} if scene.wire.routers[OLD].armed else set()
    ended = scene.go(scene.attempt(step=Step.PROVE, trial=True))[0]
    assert ended.ending == "undone"
    assert other.id in ended.reasons[0]
    assert withheld_by(scene) == [[]]


def test_a_trial_whose_way_back_breaks_something_says_so(scene: Scene) -> None:
    """After the old path was given back everything must work as before; what does not is named, though it was proven."""
    victim = scene.attempt().must[0]
    scene.fails_under = lambda: {victim.id} if any(verb == "roll back" for verb, _ in scene.wire.log) else set()
    ended = scene.go(scene.attempt(step=Step.PROVE, trial=True))[0]
    assert "does not since it was given back" in ended.reasons[0]


def test_the_three_questions_are_answered_and_recorded(scene: Scene) -> None:
    """A proof records what held before, what holds only now, and every check of others that came out otherwise."""
    mine, other = scene.attempt().must[0], scene.attempt().watch[0]
    scene.fails_under = lambda: set() if scene.wire.routers[NEW].armed else {mine.id, other.id}
    ended = scene.go()[0]
    assert ended.ok
    found = ended.questions
    assert found is not None
    assert (found.newly, found.already, found.holds) == (1, found.asked - 1, found.asked)
    assert found.withheld_on == (OLD, NEW)
    assert [(d.check, d.before, d.after) for d in found.differences] == [(other.id, "failed", "passed")]
    verdict = next(e for e in scene.events() if e.kind is Kind.VERDICT and e.body.get("gate") == "proof")
    assert verdict.body["questions"] == found.model_dump(mode="json")


def test_nothing_asked_proves_nothing(scene: Scene) -> None:
    """A step without a check is not kept - except a way back, which must be open when nothing works any more."""
    assert scene.go(scene.attempt(step=Step.DRAIN, must=(), watch=()))[0].ending == "undone"
    scene.fails = {c.id for c in scene.matrix.checks}
    assert scene.go(scene.attempt(step=Step.BACK, must=()), change_id="c2")[0].ok


def test_a_refused_line_of_the_second_phase_leaves_the_first_untouched(scene: Scene) -> None:
    """Every candidate is checked before the old path is taken away."""
    scene.wire.routers[NEW].refuses = True
    ended = scene.go()[0]
    assert ended.ending == "undone"
    assert "line refused" in ended.reasons[0]
    assert "commit" not in {verb for verb, _ in scene.wire.log}
    assert ended.word == "nothing was changed"
    assert any("nothing was changed" in line for line in scene.said)
    assert not any("going back" in line for line in scene.said)


@pytest.mark.parametrize("trouble", ["refuses", "deaf"])
def test_what_was_never_applied_does_not_go_back(scene: Scene, trouble: str) -> None:
    """A device that refuses its line or is switched off leaves all as it was, and the words are not those of a way back."""
    setattr(scene.wire.routers[OLD], trouble, True)
    ended = scene.go()[0]
    assert (ended.ending, ended.word, ended.touched) == ("undone", "nothing was changed", False)
    assert not any("going back" in line for line in scene.said)


def test_one_bad_town_does_not_hold_the_others(tmp_path: Path) -> None:
    """Attempts of one wave are kept or go back alone, also when a refused device has held the whole batch."""
    with stage(Scene(tmp_path, units=(UNIT, "fin@tb"))) as scene:
        scene.wire.routers["fin-tb"].refuses = True
        one, two = scene.attempt(), scene.attempt("fin@tb", "fin-tb", "r-tb")
        first, second = scene.go(one, two)
        assert first.ok
        assert second.ending == "undone"
        assert scene.running() == [AFTER, AFTER]
        assert scene.running("fin-tb", "r-tb") == [BEFORE, BEFORE]


def test_a_timer_about_to_fire_is_not_confirmed(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """When proving has used the timer up everything goes back, and the reason names the setting to change."""
    now = time.monotonic
    shift = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now() + shift[0])
    revert_s = scene.county.policy.timers.revert_s

    def pass_time(verb: str, device: str) -> None:
        if verb == "commit" and device == NEW:
            shift[0] = revert_s - 1.0

    scene.wire.on = pass_time
    ended = scene.go()[0]
    assert ended.ending == "undone"
    assert "revert_s" in ended.reasons[0]
    assert scene.running() == [BEFORE, BEFORE]


def test_a_change_kept_on_one_side_only_is_taken_back(scene: Scene) -> None:
    """When the old side has gone back before its confirm, the new side, confirmed already, is changed back."""

    def reboot(verb: str, device: str) -> None:
        if verb == "confirm" and device == OLD:
            scene.wire.routers[OLD].reboot()

    scene.wire.on = reboot
    ended = scene.go()[0]
    assert ended.ending == "undone"
    assert "not confirmed" in ended.reasons[0]
    assert scene.running() == [BEFORE, BEFORE]
    assert scene.state() is not UnitState.CUT_OVER


def test_a_confirm_that_saved_something_else_is_seen(scene: Scene) -> None:
    """A router whose daemons restarted under the timer confirms the old configuration: that is no success."""

    def restart(verb: str, device: str) -> None:
        if verb == "confirm" and device == OLD:
            scene.wire.routers[OLD].restart_daemons()

    scene.wire.on = restart
    ended = scene.go()[0]
    assert ended.ending == "undone"
    assert "other than what was proven" in ended.reasons[0]
    assert scene.running() == [BEFORE, BEFORE]


def test_a_lost_answer_to_confirm_is_asked_again(scene: Scene) -> None:
    """A session that breaks on confirm is tried once more before anything goes back."""
    lost: list[str] = []

    def lose(verb: str, device: str) -> None:
        router = scene.wire.routers[device]
        if verb == "confirm" and device == OLD and not lost:
            lost.append(device)
            router.deaf = True
        elif lost:
            scene.wire.routers[OLD].deaf = False

    scene.wire.on = lose
    assert scene.go()[0].ok


def test_an_interrupt_while_committing_forgets_no_device(scene: Scene) -> None:
    """Ctrl-C in the middle of a commit brings back what was told already, and the record is closed."""

    def interrupt(verb: str, device: str) -> None:
        if verb == "commit" and device == NEW:
            raise KeyboardInterrupt

    scene.wire.on = interrupt
    with pytest.raises(KeyboardInterrupt):
        scene.go()
    assert scene.running() == [BEFORE, BEFORE]
    assert ("roll back", OLD) in scene.wire.log
    outcome = scene.outcome()
    assert outcome
    assert outcome["result"] == "undone"


@pytest.mark.parametrize(
    ("number", "words"), [(signal.SIGINT, "Ctrl-C"), (signal.SIGTERM, "SIGTERM"), (signal.SIGHUP, "SIGHUP")]
)
def test_the_record_names_what_interrupted_it(scene: Scene, number: signal.Signals, words: str) -> None:
    """The outcome of an interrupted change says in words which signal it was."""

    def interrupt(verb: str, device: str) -> None:
        if verb == "commit" and device == NEW:
            os.kill(os.getpid(), number)

    scene.wire.on = interrupt
    with pytest.raises(KeyboardInterrupt):
        scene.go()
    outcome = scene.outcome()
    assert outcome
    assert outcome["reason"].startswith(f"interrupted by {words}")


@pytest.mark.parametrize("error", [BrokenPipeError(), OSError(5, "Input/output error"), ValueError("closed file")])
def test_a_lost_terminal_holds_nothing_up(scene: Scene, error: Exception) -> None:
    """Where nobody hears what is said any more, an interrupted change still goes back, and is recorded."""

    def unheard(_text: str) -> None:
        raise error

    def interrupt(verb: str, device: str) -> None:
        if verb == "commit" and device == NEW:
            raise KeyboardInterrupt

    scene.wire.on = interrupt
    with pytest.raises(KeyboardInterrupt):
        carry_out(scene, [scene.attempt()], change_id="c1", say=unheard)  # type: ignore[arg-type]
    assert scene.running() == [BEFORE, BEFORE]
    outcome = scene.outcome()
    assert outcome
    assert outcome["result"] == "undone"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupt_while_confirming_waits(scene: Scene, number: signal.Signals) -> None:
    """Confirming and its record are one piece: an interrupt ends the command after them, with the change kept."""

    def interrupt(verb: str, device: str) -> None:
        if verb == "confirm" and device == NEW:
            os.kill(os.getpid(), number)

    scene.wire.on = interrupt
    with pytest.raises(KeyboardInterrupt):
        scene.go()
    assert scene.running() == [AFTER, AFTER]
    assert scene.state() is UnitState.CUT_OVER


def test_a_full_disk_after_confirming_takes_nothing_back(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kept change that cannot be recorded stays; the next command asks the devices and records it."""
    append = scene.ledger.append

    def full(kind: Kind, key: str, body: Any, **more: Any) -> Event:
        if kind is Kind.OUTCOME and body["step"] == "cutover":
            raise LedgerUnavailableError("here", "the disk is full", "free space")
        return append(kind, key, body, **more)

    monkeypatch.setattr(scene.ledger, "append", full)
    with pytest.raises(LedgerUnavailableError):
        scene.go()
    assert scene.running() == [AFTER, AFTER]
    monkeypatch.setattr(scene.ledger, "append", append)
    assert [f.ending for f in scene.finish()] == ["done"]
    assert scene.state() is UnitState.CUT_OVER


def test_a_full_disk_before_anything_touches_nothing(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a recorded intent no device is asked to change."""

    def full(*_: Any, **__: Any) -> Event:
        raise LedgerUnavailableError("here", "the disk is full", "free space")

    monkeypatch.setattr(scene.ledger, "append", full)
    with pytest.raises(LedgerUnavailableError):
        scene.go()
    assert scene.wire.log == []


def test_a_device_not_seen_to_go_back_leaves_the_step_open(scene: Scene) -> None:
    """Its outcome is not known (exit 4) until the device answers, or its timer must be over."""
    scene.wire.routers[OLD].deaf_after = "commit"
    ended = scene.go()[0]
    assert ended.ending == "failed"
    assert scene.outcome() is None
    assert [f.open for f in scene.finish()] == [True]
    assert scene.records()[UNIT].open
    scene.wire.routers[OLD].fire()
    scene.clock.pass_s(scene.county.policy.timers.revert_s + 60)
    assert [(f.ending, f.open) for f in scene.finish()] == [("undone", False)]  # nobody ever told it to keep the change
    assert scene.finish() == []


def test_a_device_that_may_have_been_told_to_keep_it_stays_open(scene: Scene) -> None:
    """Once a confirm may have arrived no timer tells the end: the device itself must."""

    def cut_off(verb: str, device: str) -> None:
        if verb == "confirm" and device == OLD:
            scene.wire.routers[OLD].deaf = True

    scene.wire.on = cut_off
    assert scene.go()[0].ending == "failed"
    scene.wire.on = lambda *_: None
    scene.clock.pass_s(10_000)
    assert [f.open for f in scene.finish()] == [True]
    scene.wire.routers[OLD].fire()
    scene.wire.routers[OLD].deaf = False
    assert [(f.ending, f.open) for f in scene.finish()] == [("undone", False)]
    assert scene.running() == [BEFORE, BEFORE]


def test_what_has_no_way_back_is_said_to_be_half(scene: Scene) -> None:
    """A push of which one router was confirmed and one was not is neither: failed, naming who holds it."""

    def reboot(verb: str, device: str) -> None:
        if verb == "confirm" and device == "core2":
            scene.wire.routers["core2"].reboot()

    scene.wire.on = reboot
    phases = ((change("core1", AFTER), change("core2", AFTER)),)
    attempt = scene.attempt(step=Step.PROVISION, phases=phases, start=UnitState.PLANNED, end=UnitState.PROVISIONED)
    ended = scene.go(attempt)[0]
    assert ended.ending == "failed"
    assert any("core1: holds the change" in r for r in ended.reasons)
    outcome = scene.outcome()
    assert outcome
    assert outcome["result"] == "failed"


class Reaper:
    """Kills at the n-th thing that happens."""

    def __init__(self, after: int) -> None:
        self.left = after

    def __call__(self, *_: object) -> None:
        self.left -= 1
        if self.left < 0:
            raise KilledError


@dataclass(frozen=True)
class Fate:
    """What happens around a kill: after how many acts, and to which routers before the next command comes, when."""

    after: int
    fired: frozenset[str]
    rebooted: frozenset[str]
    restarted: frozenset[str]
    deaf: frozenset[str]
    late: bool

    def befall(self, scene: Scene) -> None:
        """Let it happen."""
        routers = scene.wire.routers
        for name in self.restarted:
            routers[name].restart_daemons()
        for name in self.rebooted:
            routers[name].reboot()
        for name in routers if self.late else self.fired:
            routers[name].fire()
        for name in self.deaf:
            routers[name].deaf = True
        scene.clock.pass_s(100_000 if self.late else 1)


NOBODY: frozenset[str] = frozenset()
JUST_OLD = frozenset({OLD})
BETWEEN_CONFIRMS, ACTS = 14, 17
some_routers = st.frozensets(st.sampled_from([OLD, NEW]))
fates = st.builds(Fate, st.integers(0, ACTS), some_routers, some_routers, some_routers, some_routers, st.booleans())


@settings(max_examples=60)
@given(fate=fates)
@example(Fate(BETWEEN_CONFIRMS, NOBODY, NOBODY, NOBODY, NOBODY, late=False))
@example(Fate(BETWEEN_CONFIRMS, JUST_OLD, NOBODY, NOBODY, NOBODY, late=False))
@example(Fate(BETWEEN_CONFIRMS, NOBODY, NOBODY, JUST_OLD, NOBODY, late=False))
@example(Fate(BETWEEN_CONFIRMS, NOBODY, NOBODY, NOBODY, JUST_OLD, late=True))
@example(Fate(BETWEEN_CONFIRMS, JUST_OLD, frozenset({NEW}), NOBODY, NOBODY, late=False))
@example(Fate(BETWEEN_CONFIRMS + 1, NOBODY, frozenset({OLD, NEW}), NOBODY, NOBODY, late=False))
def test_killed_anywhere_it_ends_whole(tmp_path_factory: pytest.TempPathFactory, fate: Fate) -> None:
    """Killed at any moment, whatever the timers did and whoever rebooted: then all of the change holds, or nothing.

    The ledger says which, and the same command run again finishes the step.
    """
    with stage(Scene(tmp_path_factory.mktemp("killed"))) as scene:
        reaper, append = Reaper(fate.after), scene.ledger.append
        scene.wire.on = reaper

        def dying_append(*args: Any, **more: Any) -> Event:
            reaper()
            found = append(*args, **more)
            reaper()
            return found

        scene.ledger.append = dying_append  # type: ignore[method-assign]
        run = steps._Run(scene, [scene.attempt()], "c1", scene.said.append, lambda *_: None)  # type: ignore[arg-type]
        with contextlib.suppress(KilledError):
            run.go()
        scene.ledger.append = append  # type: ignore[method-assign]
        scene.wire.on = lambda *_: None
        fate.befall(scene)
        scene.finish()
        if scene.state() is UnitState.CUT_OVER:
            assert scene.running() == [AFTER, AFTER]
        for router in scene.wire.routers.values():
            router.deaf = False
        scene.finish()
        assert scene.running() in ([BEFORE, BEFORE], [AFTER, AFTER])
        whole = scene.running() == [AFTER, AFTER]
        assert (scene.state() is UnitState.CUT_OVER) == whole
        assert not scene.records()[UNIT].open
        assert not any(r.armed for r in scene.wire.routers.values())
        if not whole:
            assert scene.go(change_id="c2")[0].ok
        assert scene.state() is UnitState.CUT_OVER
        assert not scene.records()[UNIT].problems


# --- the county taken over meanwhile ---


def test_who_lost_the_county_touches_no_device_any_more(scene: Scene) -> None:
    """Taken over between two devices, a run tells none of them anything, not even to go back; the next command ends it."""
    with contextlib.ExitStack() as stack:

        def take_over(verb: str, _device: str) -> None:
            if verb == "commit" and scene.successor is None:
                other = stack.enter_context(Ledger.open(scene.ledger.where, clock=scene.clock, target="lab t"))
                stack.enter_context(other.hold("another", place="x"))
                scene.successor = other

        scene.wire.on = take_over
        with pytest.raises(LeaseLostError, match="taken over while this command stood still: 'another'"):
            scene.go()
        assert [what for what in scene.wire.log if what[0] != "compare"] == [("commit", OLD)]
        assert any("left to the devices' own timers" in line for line in scene.said)
        own, scene.ledger = scene.ledger, scene.successor or scene.ledger
        assert [f.ending for f in scene.finish()] == ["undone"]
        assert scene.running() == [BEFORE, BEFORE]
        scene.ledger = own


def test_without_the_county_no_device_is_touched(scene: Scene) -> None:
    """A run that never held the county tells no device anything."""
    scene.ledger._lease = None
    with pytest.raises(LeaseLostError, match="does not hold the county"):
        scene.go()
    assert all(verb == "compare" for verb, _ in scene.wire.log)
