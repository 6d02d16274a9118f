"""What is asked of a station and what it saw: plain values that cross SSH as JSON."""

from __future__ import annotations

from enum import StrEnum
from functools import cache
from typing import Any, Literal

from pydantic import Field

from inventory.model import Family, Model

TRACE_ASPECT = "path"
WHOSE_WAY = frozenset({TRACE_ASPECT, "return", "vantage"})
"""Aspects that say over whose routers it went, not whether it works."""
RESOLVER_ASPECT = "resolver"
SERVICE_ASPECTS = frozenset({"dns", "tcp", "tls", "http", "marker"})
"""Aspects of the service itself, by whatever way."""


class Outcome(StrEnum):
    """`unknown` (see `Missing`) never counts as passed."""

    PASSED = "passed"
    FAILED = "failed"
    UNKNOWN = "unknown"


class Missing(StrEnum):
    """Why something was not measured."""

    UNREACHABLE = "unreachable"
    """A vantage could not be logged in to."""
    SKIPPED = "skipped"
    """There is no vantage to ask: nobody said how to reach it."""
    UNPARSABLE = "unparsable"
    """What came back could not be read, or the request not by the vantage."""
    TIMED_OUT = "timed out"
    """Time was over, or somebody on the way kept silent."""
    NEVER_RUN = "never run"
    """Nothing came back about it, or the vantage could not do it."""


class WayAspect(StrEnum):
    """What can be measured of the way between a station's leg and a service, beside the path there.

    `return` is the path back, measured at the service's side; `mtu` is packets of full size towards the service,
    `mtu-back` from it; `vantage` that the measuring session itself is not carried by a legacy network.
    """

    VANTAGE = "vantage"
    ICMP = "icmp"
    MTU = "mtu"
    RETURN = "return"
    MTU_BACK = "mtu-back"
    THROUGHPUT = "throughput"


FROM_THE_SERVER = frozenset({WayAspect.RETURN, WayAspect.MTU_BACK})
"""Aspects that are measured at the service's side."""


class Check(Model):
    """One probe: from `station`'s leg in `plane`, does `service` answer as it should.

    `expect` is `reach` (must work) or `blocked` (must not). `address` is what DNS must give for `dns_name` in this
    family, asked of whom the station's own configuration names, which may be none but these `resolvers`; without them
    of `resolver` (None: this leg has none, go by the address). `marker` is the text that the right
    back end answers with. With `trace` the path is measured too: whose routers may be on it, `hops.HopBook` knows.
    `way` is what else must be measured of the way; `source` the leg's own address in this family, to which the way back
    is measured, and `server` whose vantage measures it. `floor_kbps` is what `throughput` must reach.
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
    resolvers: tuple[str, ...] = ()
    port: int
    path: str = "/"
    marker: str = ""
    unit: str | None = None
    trace: bool = True
    way: tuple[WayAspect, ...] = ()
    source: str = ""
    server: str = ""
    floor_kbps: int = Field(default=0, ge=0)

    @property
    def asks(self) -> tuple[str, ...]:
        """The aspects of which each must stand in a result as a passed finding."""
        held = (bool(self.resolver), bool(self.resolvers), bool(self.marker), self.trace)
        return _list_aspects(self.expect, self.protocol, self.way, held)

    def covers(self, other: Check) -> bool:
        """Tell whether this check asks all that another asks; it may ask more of the way."""
        if (other.trace and not self.trace) or not set(other.way) <= set(self.way):
            return False
        if WayAspect.THROUGHPUT in other.way and self.floor_kbps < other.floor_kbps:
            return False
        more = {"trace": other.trace, "way": other.way, "floor_kbps": other.floor_kbps}
        return self.model_copy(update=more) == other


@cache  # a million checks are of a handful of kinds
def _list_aspects(
    expect: str, protocol: str, way: tuple[str, ...], held: tuple[bool, bool, bool, bool]
) -> tuple[str, ...]:
    """Return what a check asks; `held` tells whether it has a resolver, own resolvers, a marker and a path to trace."""
    resolver, own, marker, trace = held
    dns = protocol == "dns"
    if expect == "blocked":
        return ("dns" if dns else "tcp", *way)
    out = [RESOLVER_ASPECT] if own and not dns else []
    out += ["dns"] if dns or resolver else []
    out += [] if dns else ["tcp"]
    out += ["tls", "http"] if protocol == "https" else []
    out += ["marker"] if marker and not dns else []
    out += [TRACE_ASPECT] if trace else []
    return (*out, *way)


class Finding(Model):
    """One aspect of a check (`dns`, `tcp`, ... or one of `WayAspect`), with what was expected and found.

    `missing` says why something is unknown, else it is None.
    """

    aspect: str
    outcome: Outcome
    detail: str
    ms: float | None = None
    missing: Missing | None = None


class Result(Model):
    """What one check saw. `why` is empty when passed, else `<aspect>: <what> - expected <a>, found <b>`."""

    check: Check
    outcome: Outcome
    why: str
    findings: tuple[Finding, ...] = ()
    hops: tuple[str, ...] = ()
    """Names (or addresses) of the routers on the way, first to last."""
    return_hops: tuple[str, ...] = ()
    """The same on the way back, from the service to the station."""
    at: float
    """Unix time at the station when the check ended."""
    ms: float = 0.0
    raw: dict[str, Any] = Field(default_factory=dict)
    """What was measured; `output` in it names, by sha256, the sessions' own words that this was read from."""
    said: dict[str, str] = Field(default_factory=dict, exclude=True, repr=False)
    """These words by their digests, as they came; evidence keeps them apart, so a result read from it has none."""

    @property
    def missing(self) -> Missing | None:
        """Why an unknown result is not known, by its first unknown finding; None of any other."""
        if self.outcome is not Outcome.UNKNOWN:
            return None
        named = (f.missing for f in self.findings if f.outcome is Outcome.UNKNOWN)
        return next((m for m in named if m is not None), Missing.NEVER_RUN)

    @property
    def unproven(self) -> tuple[str, ...]:
        """Aspects that the check asks and no finding says passed."""
        passed = {f.aspect for f in self.findings if f.outcome is Outcome.PASSED}
        return tuple(a for a in self.check.asks if a not in passed)
