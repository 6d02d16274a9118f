"""Terms: what a unit was cut over under - the policy, and what its windows need - and what is asked no more. Pure.

Policy and survey are files that one person can edit; a gate that asks less of a unit than was asked when it was cut over
is an exception that nobody answers for. So the ledger keeps the values of each policy that a gate was asked under, and
what a unit's stations had to reach, and not to reach, when its cutover was allowed:

    note      {"note": "policy", "digest", "policy": the whole policy as JSON}
    verdict   {"gate": "cutover", "allowed": true, "under": {"policy": digest, …},
               "asked": [[station, plane, service, family, "reach" or "blocked"], …],
               "services": {service: what is asked of it and where, in words, …}, …}

A unit's terms are those under which its gate allowed its last cutover. Each value that asks less now than then, each
need and ban that nothing asks for now, and each service of which another question is asked, or elsewhere, stands against
the stages of its retirement, until it is put back or a recorded exception names it; and so it does against cutting the
unit over anew after it was given back, for new terms would forget the old ones. What asks more needs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from inventory.model import County, Model, Policy, Unit
from migration.events import Event, Kind, canonical_json, digest_of

NOTE = "policy"
Asked = tuple[str, str, str, str, str]
"""Station, plane, service, family, and what is expected: "reach" or "blocked"."""
Looser = Callable[[Any, Any], bool]
"""Tells of a value then and a value now whether less is asked now."""


def _less(then: Any, now: Any) -> bool:
    return bool(now < then)


def _more(then: Any, now: Any) -> bool:
    return bool(now > then)


def _other(then: Any, now: Any) -> bool:
    return bool(now != then)


def _others(then: Any, now: Any) -> bool:
    return set(then) != set(now)


def _dropped(then: Any, now: Any) -> bool:
    return not set(then) <= set(now)


def _widened(then: Any, now: Any) -> bool:
    return bool(then == "near" != now)


def _joined(then: Any, now: Any) -> bool:
    """Tell whether a plane is gone, or is of another kind: planes may be added, none may lose its walls."""
    kinds = {p["id"]: p["kind"] for p in now}
    return any(kinds.get(p["id"]) != p["kind"] for p in then)


def _never(_then: Any, _now: Any) -> bool:
    return False


LOOSER: dict[str, Looser] = {
    "timers.soak_s": _less,
    "timers.hold_s": _less,
    "timers.exception_s": _more,
    "timers.evidence_ttl_s": _more,
    "timers.probe_timeout_s": _more,
    "timers.blocked_wait_s": _less,
    "timers.converge_s": _more,
    "timers.revert_s": _never,  # of a device's own way back, and no gate asks for it
    "outage.budget_s": _more,
    "outage.retire_budget_s": _more,
    "outage.rate_per_s": _less,
    "outage.most_per_s": _less,
    "outage.stations": _widened,
    "probing.echo_count": _less,
    "probing.echo_interval_ms": _other,  # a short burst misses slow losses, a long one quick ones
    "probing.max_loss": _more,
    "probing.max_rtt_ms": _more,
    "probing.min_mtu_bytes": _less,
    "probing.throughput_share": _less,
    "probing.throughput_cap_mbps": _less,
    "probing.throughput_in_proof": _less,
    "soak.samples": _less,
    "soak.longest_gap_s": _more,
    "soak.business_days": _less,
    "soak.samples_a_day": _less,
    # Fewer hours let more of the day go unwatched, more let samples of the night count.
    "soak.days": _others,
    "soak.hours": _other,
    "soak.time_zone": _other,
    "soak.packets_per_minute": _more,
    "soak.bytes_per_minute": _more,
    "soak.packets_a_gap": _more,
    "soak.bytes_a_gap": _more,
    "soak.forwarded_per_minute": _more,
    "soak.line_losses": _more,
    "soak.listen_s": _less,
    "soak.must_know": _dropped,
    "quarantine_days": _less,
    "planes": _joined,
    # How much is asked at once, not what: whatever was not asked in time is unknown.
    "budgets.station_probes": _never,
    "budgets.probes_per_s": _never,
    "budgets.ways_per_s": _never,
    "budgets.station_sessions": _never,
    "budgets.router_probes": _never,
    # Where addresses come from, and by when a county means to be done: no gate asks for it.
    "pool": _never,
    "ipv4_pool": _never,
    "ipv4_link_pool": _never,
    "shared_ipv4": _never,
    "dns_domain": _never,
    "coverage": _never,
}
"""By value of the policy, what asking less is. What is not here asks less however it changes."""

SAMPLED_UNDER = frozenset({"soak.listen_s"})
"""Values that a sample of an old line is taken under, and that cannot be asked of it afterwards."""


class Loosening(Model):
    """One value of the policy that asks less now than then."""

    name: str
    then: str
    now: str

    @property
    def change(self) -> str:
        """What it was and what it is: another loosening of the same value is another."""
        return f"{self.name} {self.then} → {self.now}"


class Terms(Model):
    """What a unit was cut over under: the policy's digest, and when its gate allowed that.

    `asked` holds what its stations had to reach and not to reach, `services` what was asked of each service then, and
    where, in words; None where the ledger does not say.
    """

    digest: str
    at: datetime
    asked: tuple[Asked, ...] | None = None
    services: dict[str, str] | None = None


@dataclass(frozen=True)
class Policies:
    """The policies on record by digest, each unit's terms, and those under which a cutover of it was last kept."""

    values: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    terms: Mapping[str, Terms] = field(default_factory=dict)
    kept: Mapping[str, Terms] = field(default_factory=dict)


def policy_values(policy: Policy) -> dict[str, Any]:
    """Return a policy as the plain JSON over which its digest is."""
    return policy.model_dump(mode="json")


def find_loosened(then: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[Loosening, ...]:
    """Return each value that asks less in one policy (as JSON) than in an earlier one, by name.

    What the earlier one did not hold asked nothing; what is gone since asks nothing any more.
    """
    before, after = flatten(then), flatten(now)
    out = []
    for name in sorted(before):
        if name in after and before[name] == after[name]:
            continue
        if name not in after or _is_looser(name, before[name], after[name]):
            out.append(
                Loosening(name=name, then=_say(before[name]), now=_say(after[name]) if name in after else "gone")
            )
    return tuple(out)


def say_sampled_less(sampled: Mapping[str, Any], *asked: Mapping[str, Any]) -> str:
    """Say what a sample was taken under that is less than each of some policies asks; empty when nothing is."""
    lacks = [{one.name: one for one in find_loosened(policy, sampled) if one.name in SAMPLED_UNDER} for policy in asked]
    for name in sorted(set.intersection(*map(set, lacks))):
        return f"it was taken with {name} {lacks[0][name].now} - expected {lacks[0][name].then}"
    return ""


def flatten(values: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Return a policy's values by dotted name; lists are values."""
    out: dict[str, Any] = {}
    for name, value in values.items():
        out |= flatten(value, f"{above}{name}.") if isinstance(value, Mapping) else {f"{above}{name}": value}
    return out


def _is_looser(name: str, then: Any, now: Any) -> bool:
    try:
        return LOOSER.get(name, _other)(then, now)
    except (TypeError, KeyError):
        return True  # not even of the same sort


def _say(value: Any) -> str:
    text = value if isinstance(value, str) else canonical_json(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}… ({digest_of(value)[:12]})"


_LONGEST = 60


def note_policy(policy: Policy) -> dict[str, Any]:
    """Return the body of the note that keeps a policy's values."""
    values = policy_values(policy)
    return {"note": NOTE, "digest": digest_of(values), "policy": values}


def fold_policies(events: Iterable[Event]) -> Policies:
    """Return the policies on record and each unit's terms, as far as `events` (one target's, in order) tell."""
    values: dict[str, Mapping[str, Any]] = {}
    terms: dict[str, Terms] = {}
    kept_terms: dict[str, Terms] = {}
    for event in events:
        if event.kind is Kind.NOTE and event.body.get("note") == NOTE:
            kept, digest = event.body.get("policy"), event.body.get("digest")
            if isinstance(kept, Mapping) and isinstance(digest, str) and digest_of(kept) == digest:
                values[digest] = kept
        elif event.kind is Kind.VERDICT and event.unit is not None:
            under = event.body.get("under")
            if event.body.get("gate") == "cutover" and event.body.get("allowed") is True and isinstance(under, Mapping):
                terms[event.unit] = Terms(
                    digest=str(under.get("policy", "")),
                    at=event.moment,
                    asked=read_asked(event.body.get("asked")),
                    services=read_services(event.body.get("services")),
                )
        elif event.kind is Kind.OUTCOME and (event.body.get("step"), event.body.get("result")) == ("cutover", "done"):
            told = (event.unit,) if event.unit is not None else tuple(event.body.get("units") or ())
            kept_terms |= {unit: terms[unit] for unit in told if unit in terms}
    return Policies(values, terms, kept_terms)


def read_asked(told: Any) -> tuple[Asked, ...] | None:
    """Read what a verdict says was asked of a unit's stations; None where it does not say, or nobody can tell what."""
    if not isinstance(told, list):
        return None
    if not all(isinstance(row, list) and len(row) == 5 and all(isinstance(t, str) for t in row) for row in told):
        return None
    return tuple((station, plane, service, family, expect) for station, plane, service, family, expect in told)


def note_needs(county: County, unit: Unit) -> dict[str, Any]:
    """Return what a verdict says of a unit's windows: what they have to reach and not to reach, and how that is asked."""
    asked = county.asked.get((unit.site, unit.plane), ())
    return {
        "asked": [list(one) for one in asked],
        "services": {service: county.asks[service] for service in sorted({one[2] for one in asked})},
    }


def read_services(told: Any) -> dict[str, str] | None:
    """Read what a verdict says was asked of each service; None where it does not say, or nobody can tell what."""
    if not isinstance(told, dict) or not all(isinstance(text, str) for pair in told.items() for text in pair):
        return None
    return dict(told)
