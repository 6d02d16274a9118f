"""Counts and lengths of time are said one way everywhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inventory.wording import counted, say_span

ROOT = Path(__file__).resolve().parents[2]
SECONDS = {"d": 86400, "h": 3600, "min": 60, "s": 1}


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "0 s"),
        (10, "10 s"),
        (3.6, "4 s"),
        (86399.7, "1 d"),
        (180, "3 min"),
        (86400, "1 d"),
        (36 * 3600, "36 h"),
        (604800, "7 d"),
        (600000, "6 d 23 h"),
        (3725, "1 h 2 min"),
        (-5, "-5 s"),
    ],
)
def test_spans_are_said_in_plain_units(seconds: float, said: str) -> None:
    """A length of time reads as people write it, never as `1 day, 0:00:00`."""
    assert say_span(seconds) == said


@given(st.integers(min_value=0, max_value=10**8))
def test_spans_are_right_to_their_smaller_unit(seconds: int) -> None:
    """What is said differs from what is meant by less than the last unit named."""
    parts = [(int(n), SECONDS[unit]) for n, unit in re.findall(r"(\d+) (d|h|min|s)\b", say_span(seconds))]
    assert abs(sum(n * size for n, size in parts) - seconds) < parts[-1][1]
    assert len(parts) <= 2


@pytest.mark.parametrize(
    ("number", "noun", "said"),
    [(0, "reason", "0 reasons"), (1, "reason", "1 reason"), (2, "pass", "2 passes"), (3, "switch", "3 switches")],
)
def test_one_is_not_many(number: int, noun: str, said: str) -> None:
    """One thing stands in the singular."""
    assert counted(number, noun) == said


def test_nobody_counts_by_hand() -> None:
    """No message puts a length before a plural noun: that is how `1 reasons` came about."""
    rooms = ("addressing", "inventory", "lab", "migration", "nornir_tasks", "playbooks", "scripts/commands")
    by_hand = re.compile(r"(?<! of )(?<![/-])\{len\([^{}]*\)(?: - \w+)?\} (?!of\b|as\b|more\b|and\b)\w+s\b")
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for room in rooms
        for path in sorted((ROOT / room).rglob("*.py"))
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if by_hand.search(line)
    ]
    assert found == []
