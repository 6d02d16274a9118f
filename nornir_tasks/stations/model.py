"""What is asked of a station and what it saw: plain values that cross SSH as JSON."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Literal

from pydantic import Field

from inventory.model import Family, Model


class Outcome(StrEnum):
    """`unknown` (unreachable, unparsable, timed out, never run) never counts as passed."""

    PASSED = "passed"
    FAILED = "failed"
    UNKNOWN = "unknown"


class Check(Model):
    """One probe: from `station`'s leg in `plane`, does `service` answer as it should.

    `expect` is `reach` (must work) or `blocked` (must not). `address` is what DNS must give for `dns_name` in this
    family, asked of `resolver` (None: this leg has no resolver, go by the address). `marker` is the text that the right
    back end answers with. With `trace` the path is measured too: whose routers may be on it, `hops.HopBook` knows.
    """

    id: str
    station: str
    plane: str
    service: str
    family: Family
    expect: Literal["reach", "blocked"]
    protocol: Literal["https", "tcp", "dns"]
    interface: str
    dns_name: str
    address: str
    resolver: str | None
    port: int
    path: str = "/"
    marker: str = ""
    unit: str | None = None
    trace: bool = True


class Finding(Model):
    """One aspect of a check (`dns`, `tcp`, `tls`, `http`, `marker`, `path`), with what was expected and found."""

    aspect: str
    outcome: Outcome
    detail: str
    ms: float | None = None


class Result(Model):
    """What one check saw. `why` is empty when passed, else `<aspect>: <what> - expected <a>, found <b>`."""

    check: Check
    outcome: Outcome
    why: str
    findings: tuple[Finding, ...] = ()
    hops: tuple[str, ...] = ()
    """Names (or addresses) of the routers on the way, first to last."""
    at: float
    """Unix time at the station when the check ended."""
    ms: float = 0.0
    raw: dict[str, Any] = Field(default_factory=dict)
