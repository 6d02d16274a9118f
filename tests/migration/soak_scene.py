"""Old lines as routers see them, for the tests of this room: silent ones, unless somebody is put on them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime

from inventory.model import County, Source
from migration.events import Event
from migration.evidence import policy_digest
from migration.old_lines import OldLine, line_of
from migration.soak_samples import SoakSample, make_sample
from migration.units import UnitRecord, UnitState, fold
from nornir_tasks.old_line import PortSeen, Usage

Spoil = Callable[[Usage], Usage]
"""Changes what one router said."""


def see_port(name: str, *, up: bool = True, packets: int = 0, changes: int = 2) -> PortSeen:
    """Return a port as a router sees it."""
    return PortSeen(
        name=name,
        up=up,
        carrier=up,
        rx_packets=packets,
        rx_bytes=100 * packets,
        tx_packets=packets,
        tx_bytes=100 * packets,
        carrier_changes=changes,
    )


def silent_usage(device: str, lines: Iterable[OldLine], records: dict[str, UnitRecord], at: float) -> Usage:
    """Return what a router says whose old lines nobody uses."""
    ports: dict[str, PortSeen] = {}
    for line in lines:
        states = [records[u.id].state for u in line.carried]
        down = all(s.reached(UnitState.SHUT) for s in states)
        for port in line.ports:
            if port.device == device:
                shut = down or (port.lan and not line.at_county and states[0].reached(UnitState.CUT_OVER))
                ports[port.name] = see_port(port.name, up=not shut)
    return Usage(
        device=device, at=at, incarnation="first", ports=tuple(ports.values()), forwarded=0, flow_source="packets"
    )


def _as_it_is(usage: Usage) -> Usage:
    return usage


def sample_at(
    county: County,
    events: Sequence[Event],
    at: float,
    *,
    before: SoakSample | None = None,
    spoil: dict[str, Spoil] | None = None,
    seq: int = 0,
    units: Iterable[str] | None = None,
) -> SoakSample:
    """Return a sample of every old line at a moment (Unix time), as the ledger would hold it."""
    records = fold([e for e in events if e.moment.timestamp() <= at], county)
    lines: dict[str, list[OldLine]] = {}
    for unit in county.units:
        line = line_of(county, unit)
        for device in line.devices:
            lines.setdefault(device, []).append(line)
    usages = [silent_usage(d, own, records, at) for d, own in sorted(lines.items())]
    changes = spoil or {}
    usages = [changes.get(u.device, _as_it_is)(u) for u in usages]
    named = [u.id for u in county.units] if units is None else list(units)
    made = make_sample(
        units=named,
        usages=usages,
        names=(),
        taken_from=at,
        taken_to=at,
        before=dict.fromkeys(named, before.digest) if before is not None else {},
        policy=policy_digest(county.policy),
    )
    return made.model_copy(update={"recorded": at, "seq": seq})


def run_of_samples(
    county: County, events: Sequence[Event], moments: Iterable[float], spoil: dict[int, dict[str, Spoil]] | None = None
) -> list[SoakSample]:
    """Return samples at these moments, each knowing the one before; `spoil` changes what the n-th holds."""
    out: list[SoakSample] = []
    for number, at in enumerate(moments):
        before = out[-1] if out else None
        out.append(sample_at(county, events, at, before=before, spoil=(spoil or {}).get(number), seq=number + 1))
    return out


def clean_samples(county: County, events: Sequence[Event], now: datetime) -> list[SoakSample]:
    """Return the samples of a county whose old lines were watched since the first cutover, and seen unused."""
    records = fold(events, county).values()
    stages = (UnitState.CUT_OVER, UnitState.DRAINED, UnitState.SHUT)
    moments = {
        pick(found)
        for state in stages
        for pick in (min, max)
        if (found := [r.entered[state].timestamp() for r in records if state in r.entered])
    }
    if not moments:
        return []
    step, end = county.policy.soak.longest_gap_s / 2, now.timestamp()
    at = min(moments)
    while (at := at + step) < end:
        moments.add(at)
    return run_of_samples(county, events, sorted({m for m in moments if m <= end} | {end}))


def unknown(*sources: Source) -> Spoil:
    """Make a router not know something."""
    return lambda u: u.model_copy(update={"unknown": dict.fromkeys(sources, "permission denied")})
