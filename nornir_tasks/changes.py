"""The commit wave: the same for provisioning, cutover and retirement.

Every candidate is checked on its device before the first one is applied anywhere; then each device arms its own timer
and applies. What the probes say afterwards is the caller's business: `confirm` or `roll_back`, or do nothing and the
devices go back by themselves.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from threading import Lock
from typing import Literal, TypeVar

from nornir.core import Nornir

from inventory.errors import ExtranetError
from inventory.model import Model
from inventory.wording import counted
from nornir_tasks.drivers import DeviceBusyError, Driver, Pending
from nornir_tasks.hosts import DeviceOutcome, run_on_devices
from nornir_tasks.redaction import redact

Mode = Literal["replace", "merge"]
Phase = Literal["check", "commit", "confirm", "roll back", "read", "ask"]
T = TypeVar("T")


class Change(Model):
    """What one device shall hold: its whole configuration (`replace`) or lines to enter (`merge`)."""

    device: str
    mode: Mode
    config: str


class RunningConfig(Model):
    """A device's running configuration and the sha256 of its text."""

    text: str
    digest: str


class Event(Model):
    """Progress of one device in one phase, for whoever shows it."""

    phase: Phase
    device: str
    ok: bool
    detail: str = ""
    done: int
    of: int
    seconds: float = 0.0


OnEvent = Callable[[Event], None]
Permit = Callable[[], None]
"""Asked on each device's turn, right before it is told: raises when this process may act no more."""
Forbid = Callable[[str, str], str]
"""Says of a device and its difference why that must not be (empty: it may)."""


class Committed(Model):
    """What became of one change.

    - `unchanged`: the device already said so; nothing was pushed and no timer armed;
    - `committed`: applied and verified, the timer runs on the device;
    - `refused`: its check failed or it could not be asked (`error`), nothing was changed anywhere;
    - `held`: its own check was good, but another device's was not, so nothing was changed;
    - `failed`: applying went wrong (`error` says whether the device went back);
    - `unknown`: the session broke or the device was not asked: ask it what is `pending`.
    """

    device: str
    state: Literal["unchanged", "committed", "refused", "held", "failed", "unknown"]
    diff: str = ""
    """What it changes, secrets hidden."""
    error: str = ""
    kind: str = ""
    seconds: float = 0.0
    digest: str = ""
    """Of what ran right after it was committed, as `read_configs` gives it; empty when nothing was committed now."""

    @property
    def ok(self) -> bool:
        """Tell whether the device now holds what was wanted."""
        return self.state in {"unchanged", "committed"}


class _Staged(Model):
    """A checked candidate: what it changes, and whether it is already there from an interrupted run."""

    diff: str = ""
    armed: bool = False


_UNSURE = frozenset({"DeviceUnreachableError", "NotRun"})


class DoubleChangeError(ExtranetError):
    """Two changes for one device in one wave."""

    def __init__(self, device: str) -> None:
        self.device = device
        super().__init__(f"{device}: two changes in one wave; merge them into one")


class ForbiddenChangeError(ExtranetError):
    """A change would take away what must stay."""

    def __init__(self, device: str, why: str) -> None:
        self.device = device
        super().__init__(f"{device}: {why}")


def compare(nr: Nornir, changes: Sequence[Change], on_event: OnEvent | None = None) -> dict[str, DeviceOutcome[str]]:
    """Return what each change would change, by device, secrets hidden; changes nothing. An empty one: nothing to do."""
    by_device = _by_device(changes)
    return _run(nr, "check", lambda d: redact(_stage(d, by_device)), by_device, on_event)


def stage_and_commit(
    nr: Nornir,
    changes: Sequence[Change],
    revert_in_s: int,
    change_id: str,
    on_event: OnEvent | None = None,
    *,
    forbid: Forbid | None = None,
    permit: Permit | None = None,
) -> dict[str, Committed]:
    """Check every candidate, then commit those that change anything, each with its timer armed on the device.

    `forbid` is asked of every difference; where it forbids one, nothing is changed anywhere.

    Run again after a crash with the same `change_id`, a device that already holds its change counts as committed.
    """
    by_device = _by_device(changes)

    def stage(driver: Driver) -> _Staged:
        diff, found = _stage(driver, by_device), driver.pending()
        if found is not None and (found.id != change_id or diff):
            raise DeviceBusyError(
                driver.device,
                f"change {found.id} is armed, {found.seconds_left} s left",
                "confirm it, roll it back, or wait until the device goes back",
            )
        forbidden = forbid(driver.device, diff) if forbid is not None and diff else ""
        if forbidden:
            raise ForbiddenChangeError(driver.device, forbidden)
        return _Staged(diff=redact(diff), armed=found is not None)

    staged = _run(nr, "check", stage, by_device, on_event)
    if not all(o.ok for o in staged.values()):
        return {d: _not_applied(o) for d, o in staged.items()}
    plans = {d: o.value or _Staged() for d, o in staged.items()}
    # The longest first: a core takes as long as ten villages, and nobody should wait for it alone at the end.
    busy = sorted((d for d, plan in plans.items() if plan.diff), key=lambda d: -len(plans[d].diff))

    def commit(driver: Driver) -> str:
        if permit is not None:
            permit()
        return _digest(driver.commit_config(revert_in_s=revert_in_s, change_id=change_id))

    applied = _run(nr, "commit", commit, busy, on_event)
    out: dict[str, Committed] = {}
    for device, plan in plans.items():
        took = staged[device].seconds
        if device not in applied:
            kept: Literal["committed", "unchanged"] = "committed" if plan.armed else "unchanged"
            out[device] = Committed(device=device, state=kept, seconds=took)
            continue
        outcome = applied[device]
        state: Literal["committed", "failed", "unknown"] = "committed" if outcome.ok else "failed"
        if not outcome.ok and (outcome.kind in _UNSURE or outcome.state == "unknown"):
            state = "unknown"
        out[device] = Committed(
            device=device,
            state=state,
            diff=plan.diff,
            error=outcome.error,
            kind=outcome.kind,
            seconds=took + outcome.seconds,
            digest=outcome.value or "",
        )
    return out


def confirm(
    nr: Nornir,
    devices: Iterable[str],
    change_id: str,
    on_event: OnEvent | None = None,
    *,
    permit: Permit | None = None,
) -> dict[str, DeviceOutcome[None]]:
    """Keep a change for good on each device; safe to repeat. A device that went back fails with NotPendingError."""

    def keep(driver: Driver) -> None:
        if permit is not None:
            permit()
        driver.confirm_commit(change_id)

    return _run(nr, "confirm", keep, devices, on_event)


def roll_back(
    nr: Nornir,
    devices: Iterable[str],
    change_id: str,
    on_event: OnEvent | None = None,
    *,
    permit: Permit | None = None,
) -> dict[str, DeviceOutcome[None]]:
    """Go back now on each device; safe to repeat, also on one that has gone back by itself."""

    def go_back(driver: Driver) -> None:
        if permit is not None:
            permit()
        driver.rollback(change_id)

    return _run(nr, "roll back", go_back, devices, on_event)


def read_configs(
    nr: Nornir, devices: Iterable[str] | None = None, on_event: OnEvent | None = None
) -> dict[str, DeviceOutcome[RunningConfig]]:
    """Return running configurations with their digests, by device."""

    def read(driver: Driver) -> RunningConfig:
        text = driver.get_config()
        return RunningConfig(text=text, digest=_digest(text))

    return _run(nr, "read", read, devices, on_event)


def _digest(config: str) -> str:
    return hashlib.sha256(config.encode()).hexdigest()


def pending(
    nr: Nornir, devices: Iterable[str] | None = None, on_event: OnEvent | None = None
) -> dict[str, DeviceOutcome[Pending | None]]:
    """Ask each device for its unconfirmed change."""
    return _run(nr, "ask", lambda d: d.pending(), devices, on_event)


def _stage(driver: Driver, by_device: dict[str, Change]) -> str:
    change = by_device[driver.device]
    if change.mode == "replace":
        driver.load_replace_candidate(change.config)
    else:
        driver.load_merge_candidate(change.config)
    return driver.compare_config()


def _by_device(changes: Sequence[Change]) -> dict[str, Change]:
    out: dict[str, Change] = {}
    for change in changes:
        if change.device in out:
            raise DoubleChangeError(change.device)
        out[change.device] = change
    return out


def _not_applied(outcome: DeviceOutcome[_Staged]) -> Committed:
    state: Literal["held", "refused", "unknown"] = "held"
    if not outcome.ok:
        state = "unknown" if outcome.state == "unknown" else "refused"
    return Committed(
        device=outcome.device,
        state=state,
        diff=outcome.value.diff if outcome.value else "",
        error=outcome.error,
        kind=outcome.kind,
        seconds=outcome.seconds,
    )


def _run(
    nr: Nornir,
    phase: Phase,
    work: Callable[[Driver], T],
    devices: Iterable[str] | None,
    on_event: OnEvent | None,
) -> dict[str, DeviceOutcome[T]]:
    """Run one phase on devices and tell of each as it ends."""
    wanted = list(nr.inventory.hosts) if devices is None else list(dict.fromkeys(devices))
    counting, done = Lock(), 0

    def tell(outcome: DeviceOutcome[T]) -> None:
        nonlocal done
        with counting:
            done += 1
            if on_event is not None:
                on_event(_event(phase, outcome, done, len(wanted)))

    return run_on_devices(nr, work, wanted, on_done=tell)


def _event(phase: Phase, outcome: DeviceOutcome[T], done: int, of: int) -> Event:
    detail = outcome.error
    if phase == "check" and outcome.ok:
        diff = outcome.value.diff if isinstance(outcome.value, _Staged) else str(outcome.value or "")
        changed = sum(line[:2] in {"+ ", "- "} for line in diff.splitlines())
        detail = counted(changed, "line") if changed else "unchanged"
    return Event(
        phase=phase, device=outcome.device, ok=outcome.ok, detail=detail, done=done, of=of, seconds=outcome.seconds
    )
