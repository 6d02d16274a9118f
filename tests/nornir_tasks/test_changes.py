"""Laws of the commit wave, with devices that fail on purpose."""

from __future__ import annotations

import hashlib
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Network
from typing import ClassVar

import pytest

from inventory.access import Access
from inventory.errors import UnknownNameError
from nornir_tasks import changes as wave
from nornir_tasks.changes import Change, DoubleChangeError
from nornir_tasks.drivers import (
    Capabilities,
    CommitFailedError,
    CommitRejectedError,
    DeviceUnreachableError,
    NotPendingError,
    Pending,
    RouterProbe,
    RouterSight,
)
from nornir_tasks.hosts import build_nornir, closing, run_on_devices
from nornir_tasks.intent import PLATFORMS, Platform
from nornir_tasks.old_line import UsageRead
from nornir_tasks.redaction import HIDDEN
from tests.nornir_tasks.sample import sample

COUNTY = sample()[0]
ACCESS = Access(target="lab", name="fake", known_hosts="none", addresses={})
THREE = ["core1", "core2", "chengguan-r1"]


@dataclass
class FakeRouter:
    """What a device holds, outside any session, and what is wrong with it."""

    running: str = "old"
    before: str = ""
    armed: str = ""
    faults: set[str] = field(default_factory=set)
    calls: list[str] = field(default_factory=list)


class FakeDriver:
    """A driver over a FakeRouter; `faults` names the verbs that go wrong and how."""

    capabilities = Capabilities(platform="fake", rollback_timer=True, atomic_replace=True, candidate_check=True)
    routers: ClassVar[dict[str, FakeRouter]] = {}
    open_sessions: ClassVar[set[int]] = set()

    def __init__(self, device: str, access: Access) -> None:
        self.device, self.access, self.candidate = device, access, ""
        self.router = self.routers.setdefault(device, FakeRouter())

    def open(self) -> None:
        if "unreachable" in self.router.faults:
            raise DeviceUnreachableError(self.device, "cannot be reached", "look")
        self.open_sessions.add(id(self))

    def close(self) -> None:
        self.open_sessions.discard(id(self))

    def get_config(self) -> str:
        return self.router.running

    def look(self, probes: Sequence[RouterProbe]) -> list[RouterSight]:
        return [RouterSight(probe=p, sent=3, answered=3, reached=True) for p in probes]

    def read_usage(self, names: Sequence[IPv4Network], *, listen_s: float) -> UsageRead:
        raise NotImplementedError

    def load_replace_candidate(self, config: str) -> None:
        self.router.calls.append("load")
        if "rejects" in self.router.faults:
            raise CommitRejectedError(self.device, "bad line", "unknown command")
        if "rejects password" in self.router.faults:
            raise CommitRejectedError(self.device, "neighbor 10.0.0.1 password S3CRETpw", "password S3CRETpw: refused")
        if "crashes" in self.router.faults:
            sys.exit("secret-canary")
        self.candidate = config

    def load_merge_candidate(self, config: str) -> None:
        self.load_replace_candidate(f"{self.router.running}+{config}")

    def compare_config(self) -> str:
        return "" if self.candidate == self.router.running else f"+ {self.candidate}\n"

    def commit_config(self, *, revert_in_s: int, change_id: str) -> str:
        self.router.calls.append("commit")
        if "dies" in self.router.faults:
            raise DeviceUnreachableError(self.device, "the session broke", "ask")
        if "fails" in self.router.faults:
            raise CommitFailedError(self.device, "did not take", "the device went back")
        self.router.before, self.router.running, self.router.armed = self.router.running, self.candidate, change_id
        return self.candidate

    def confirm_commit(self, change_id: str) -> None:
        if self.router.armed != change_id:
            raise NotPendingError(self.device, "gone back", "again")
        self.router.armed = ""

    def rollback(self, change_id: str) -> None:
        if self.router.armed == change_id:
            self.router.running, self.router.armed = self.router.before, ""

    def pending(self) -> Pending | None:
        return Pending(id=self.router.armed, seconds_left=9) if self.router.armed else None


@pytest.fixture
def routers(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, FakeRouter]]:
    """Make every device of the sample a fake one."""
    fakes: dict[str, FakeRouter] = {d.id: FakeRouter() for d in COUNTY.devices}
    monkeypatch.setattr(FakeDriver, "routers", fakes)
    frr = PLATFORMS["frr"]
    fake = Platform(frr.render, frr.render_legacy_patch, FakeDriver, FakeDriver.capabilities, frr.compare)
    monkeypatch.setitem(PLATFORMS, "frr", fake)
    yield fakes
    assert FakeDriver.open_sessions == set()


def whole(config: str, devices: list[str] = THREE) -> list[Change]:
    """Return one whole configuration for several devices."""
    return [Change(device=d, mode="replace", config=config) for d in devices]


def test_a_wave_commits_confirms_and_leaves_no_session(routers: dict[str, FakeRouter]) -> None:
    """All devices: checked, committed, confirmed; progress tells of each; sessions are closed at the end."""
    events: list[wave.Event] = []
    with closing(build_nornir(COUNTY, ACCESS, THREE)) as nr:
        out = wave.stage_and_commit(nr, whole("new"), 60, "c-1", events.append)
        assert {o.state for o in out.values()} == {"committed"}
        assert {d: o.value for d, o in wave.pending(nr).items()} == {
            d: Pending(id="c-1", seconds_left=9) for d in THREE
        }
        assert all(o.ok for o in wave.confirm(nr, THREE, "c-1").values())
        assert {o.value.text for o in wave.read_configs(nr).values() if o.value} == {"new"}
    assert [(e.phase, e.done, e.of) for e in events] == [
        *[("check", n, 3) for n in (1, 2, 3)],
        *[("commit", n, 3) for n in (1, 2, 3)],
    ]


@pytest.mark.parametrize(
    ("fault", "kind"), [("rejects", "CommitRejectedError"), ("unreachable", "DeviceUnreachableError")]
)
def test_one_bad_candidate_stops_the_wave_before_it_begins(
    routers: dict[str, FakeRouter], fault: str, kind: str
) -> None:
    """Every candidate is checked before the first is applied: nothing changes anywhere, and the others say why not."""
    routers["core2"].faults.add(fault)
    with closing(build_nornir(COUNTY, ACCESS, THREE)) as nr:
        out = wave.stage_and_commit(nr, whole("new"), 60, "c-1")
    assert out["core2"].state == "refused"
    assert out["core2"].kind == kind
    assert out["core1"].state == out["chengguan-r1"].state == "held"
    assert all(r.running == "old" and "commit" not in r.calls for r in routers.values())


@pytest.mark.parametrize(("fault", "state"), [("fails", "failed"), ("dies", "unknown")])
def test_a_failing_commit_is_reported_and_the_rest_can_go_back(
    routers: dict[str, FakeRouter], fault: str, state: str
) -> None:
    """A failed commit does not hide the others; a device that failed before is still asked to go back."""
    routers["core2"].faults.add(fault)
    with closing(build_nornir(COUNTY, ACCESS, THREE)) as nr:
        out = wave.stage_and_commit(nr, whole("new"), 60, "c-1")
        assert out["core2"].state == state
        assert out["core1"].state == "committed"
        back = wave.roll_back(nr, THREE, "c-1")
    assert all(o.ok for o in back.values())
    assert {r.running for r in routers.values()} == {"old"}


def test_differences_and_refusals_hold_no_secret(routers: dict[str, FakeRouter]) -> None:
    """What is shown or recorded of a change has its secrets hidden; what the device is given, and its digest, have not."""
    line = "neighbor 10.0.0.1 password"
    wanted, sent = whole(f"{line} S3CRETpw", ["core1"]), f"{line} S3CRETpw"
    with closing(build_nornir(COUNTY, ACCESS)) as nr:
        assert wave.compare(nr, wanted)["core1"].value == f"+ {line} {HIDDEN}\n"
        done = wave.stage_and_commit(nr, wanted, 60, "c1", forbid=lambda _, diff: "" if sent in diff else "not told")
        read = wave.read_configs(nr, ["core1"])["core1"].value
        routers["core1"].faults.add("rejects password")
        refused = wave.compare(nr, wanted)["core1"]
    assert (done["core1"].state, done["core1"].diff) == ("committed", f"+ {line} {HIDDEN}\n")
    assert routers["core1"].running == sent
    assert read is not None
    assert done["core1"].digest == read.digest == hashlib.sha256(sent.encode()).hexdigest()
    assert "S3CRETpw" not in refused.error
    assert f"line refused: '{line} {HIDDEN}'" in refused.error


def test_nothing_to_change_is_neither_pushed_nor_armed(routers: dict[str, FakeRouter]) -> None:
    """A device that already holds what is wanted is unchanged, without a timer."""
    routers["core1"].running = "new"
    with closing(build_nornir(COUNTY, ACCESS, THREE)) as nr:
        out = wave.stage_and_commit(nr, whole("new"), 60, "c-1")
    assert out["core1"].state == "unchanged"
    assert out["core1"].ok
    assert "commit" not in routers["core1"].calls
    assert routers["core1"].armed == ""


def test_an_interrupted_wave_is_taken_up_where_it_stopped(routers: dict[str, FakeRouter]) -> None:
    """Run again with its id, a wave counts devices that hold their change as committed and commits the rest."""
    with closing(build_nornir(COUNTY, ACCESS, THREE)) as nr:
        wave.stage_and_commit(nr, whole("new", ["core1"]), 60, "c-1")
        out = wave.stage_and_commit(nr, whole("new"), 60, "c-1")
        assert {o.state for o in out.values()} == {"committed"}
        assert all(o.ok for o in wave.confirm(nr, THREE, "c-1").values())


def test_another_change_holds_the_whole_wave(routers: dict[str, FakeRouter]) -> None:
    """A device with somebody else's unconfirmed change is found before anything is applied."""
    with closing(build_nornir(COUNTY, ACCESS, THREE)) as nr:
        wave.stage_and_commit(nr, whole("other", ["core1"]), 60, "c-1")
        out = wave.stage_and_commit(nr, whole("new"), 60, "c-2")
    assert out["core1"].kind == "DeviceBusyError"
    assert routers["core2"].running == "old"


def test_every_device_asked_has_an_outcome(routers: dict[str, FakeRouter]) -> None:
    """Whatever happens inside, even an exit, each device ends with an outcome that holds no foreign text."""
    routers["core2"].faults.add("crashes")
    with closing(build_nornir(COUNTY, ACCESS, THREE)) as nr:
        out = wave.compare(nr, whole("new"))
    assert set(out) == set(THREE)
    assert out["core2"].kind == "SystemExit"
    assert "secret-canary" not in repr(out)
    assert out["core1"].ok


def test_an_interrupt_starts_nothing_more(routers: dict[str, FakeRouter], monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C while a wave runs: devices not yet begun are left alone."""
    started: list[str] = []

    def work(driver: FakeDriver) -> None:
        started.append(driver.device)
        time.sleep(0.3)
        if len(started) == 1:
            raise KeyboardInterrupt

    devices = sorted(routers)[:20]
    with closing(build_nornir(COUNTY, ACCESS, devices, workers=1)) as nr, pytest.raises(KeyboardInterrupt):
        run_on_devices(nr, work, devices)  # type: ignore[arg-type]
    assert len(started) < 4


def test_one_device_is_never_asked_twice_at_once(routers: dict[str, FakeRouter]) -> None:
    """Two waves over the same hosts take turns on each device."""
    busy, most = [0], [0]

    def work(driver: object) -> None:
        busy[0] += 1
        most[0] = max(most[0], busy[0])
        time.sleep(0.05)
        busy[0] -= 1

    with closing(build_nornir(COUNTY, ACCESS, ["core1"])) as nr:
        threads = [threading.Thread(target=run_on_devices, args=(nr, work)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert most == [1]


def test_strangers_are_refused(routers: dict[str, FakeRouter]) -> None:
    """A device out of the inventory, and two changes for one device, are errors before any session."""
    with pytest.raises(UnknownNameError, match="core1"):
        build_nornir(COUNTY, ACCESS, ["core11"])
    with closing(build_nornir(COUNTY, ACCESS, THREE)) as nr:
        with pytest.raises(UnknownNameError):
            wave.pending(nr, ["hebin-r1"])
        with pytest.raises(DoubleChangeError):
            wave.compare(nr, whole("a") + whole("b"))
