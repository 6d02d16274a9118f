"""What the independent checker says: checks by name, each passed or not, with the first things that are wrong.

Nothing of the checker (`check*.py`) imports anything of the planner: what both got wrong in the same way would pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

SHOWN = 5
"""How many of the same fault are named; the others are counted."""


class Check(NamedTuple):
    """One thing that was checked."""

    name: str
    ok: bool
    detail: str

    def __str__(self) -> str:
        return f"{self.name}: {self.detail}"


@dataclass(frozen=True)
class Given:
    """What a plan gives out, for comparing plans: upper 64 bits (uint64), lengths (uint8), and what a row is called."""

    high: NDArray[np.uint64]
    lengths: NDArray[np.uint8]
    name: Callable[[int], str]
    pool_length: int


@dataclass(frozen=True)
class Report:
    """What was found about one plan file."""

    file: str
    kind: str
    sha256: str
    version: int
    counts: dict[str, int]
    checks: tuple[Check, ...]
    certificate_sha256: str = ""
    advice: tuple[str, ...] = ()
    given: Given | None = field(default=None, repr=False, compare=False)

    @property
    def ok(self) -> bool:
        """Whether every check passed, and there was one."""
        return bool(self.checks) and all(c.ok for c in self.checks)

    @property
    def failures(self) -> list[str]:
        """The checks that failed, in words."""
        return [str(c) for c in self.checks if not c.ok]

    def as_json(self) -> dict[str, Any]:
        """Return it for machines."""
        return {
            "file": self.file,
            "kind": self.kind,
            "ok": self.ok,
            "sha256": self.sha256,
            "version": self.version,
            "counts": self.counts,
            "checks": sign_off(self),
            "advice": list(self.advice),
        }


def sign_off(report: Report) -> list[dict[str, Any]]:
    """Return the `checks` part of a certificate."""
    return [c._asdict() for c in report.checks]


def verdict(name: str, faults: Iterable[str], good: str) -> Check:
    """Return a check: passed with the words `good`, or failed with the first faults."""
    found = list(faults)
    if not found:
        return Check(name, ok=True, detail=good)
    more = len(found) - SHOWN
    return Check(name, ok=False, detail="; ".join(found[:SHOWN]) + (f"; and {more} more" if more > 0 else ""))
