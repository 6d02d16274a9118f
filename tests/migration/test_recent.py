"""What was measured moments ago stands for now: while it is young, of the very same check, and nothing was touched."""

from __future__ import annotations

import time

import pytest

from migration.ledger.leases import uptime_s
from migration.recent import YOUNG_S, Recent
from tests.migration.scene import T0, build_checks, build_county, fail_check, pass_check

CHECKS = build_checks(build_county())[:3]


def test_what_was_just_measured_is_found() -> None:
    """The newest result of each check, whatever it was; what was not measured is not there."""
    recent = Recent()
    recent.note([fail_check(CHECKS[0], T0), pass_check(CHECKS[1], T0)], uptime_s())
    recent.note([pass_check(CHECKS[0], T0)], uptime_s())
    assert recent.find(CHECKS) == {c.id: pass_check(c, T0) for c in CHECKS[:2]}


def test_it_is_forgotten_before_a_device_is_touched() -> None:
    """Nothing measured before a change says what works behind it."""
    recent = Recent()
    recent.note([pass_check(CHECKS[0], T0)], uptime_s())
    recent.forget()
    assert recent.find(CHECKS) == {}


def test_it_grows_old() -> None:
    """Age counts from where the measurement began, however long it took."""
    recent = Recent()
    recent.note([pass_check(CHECKS[0], T0)], uptime_s() - YOUNG_S - 1)
    assert recent.find(CHECKS) == {}


def test_it_grows_old_while_the_machine_sleeps(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was measured before a sleep says nothing of now, though the monotonic clock stood still meanwhile."""
    real, awake = time.clock_gettime, time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: awake)
    recent = Recent()
    recent.note([pass_check(CHECKS[0], T0)], uptime_s())
    assert recent.find(CHECKS)
    slept_s = {time.CLOCK_BOOTTIME: YOUNG_S + 1}
    monkeypatch.setattr(time, "clock_gettime", lambda which: real(which) + slept_s.get(which, 0.0))
    assert recent.find(CHECKS) == {}


def test_a_check_that_was_edited_is_measured_again() -> None:
    """One id, another address: what was measured is not what is asked."""
    recent = Recent()
    recent.note([pass_check(CHECKS[0], T0)], uptime_s())
    assert recent.find([CHECKS[0].model_copy(update={"address": "3fff::ffff"})]) == {}
