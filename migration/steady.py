"""Steady stretches: samples in a row in which a router said the same of silent lines. Pure.

A clean sample that shows what the one before it showed needs no second look: what the soak would find in it follows
from the same content. Steady is stricter than clean, so a stretch is only ever skipped, never called clean by itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from inventory.model import Soak
from migration.soak_samples import SoakSample
from nornir_tasks.old_line import PortSeen, Usage


@dataclass(frozen=True)
class Steady:
    """From which sample on, by place, nothing new was seen until the last: in the samples as such, and by router."""

    place_by_seq: Mapping[int, int]
    samples_from: int
    routers_from: Mapping[str, int]

    def reaches(self, before: SoakSample, rest: int, routers: Sequence[str]) -> bool:
        """Tell whether after `before` there are just `rest` samples, in all of which these routers only say the same."""
        place = self.place_by_seq.get(before.seq)
        if place is None or place + rest != len(self.place_by_seq) - 1 or place < self.samples_from:
            return False
        return all(self.routers_from.get(router, place + 1) <= place for router in routers)


def find_steady(samples: Sequence[SoakSample], policy: Soak, timely: Sequence[bool]) -> Steady:
    """Find what is steady to the end; `timely` says of each sample whether its own times may count."""
    places = {s.seq: n for n, s in enumerate(samples)}
    if len(places) < len(samples) or not samples:
        return Steady({}, 0, {})
    last = len(samples) - 1
    pairs = list(pairwise(samples))
    start = last
    while start and timely[start] and timely[start - 1] and _follows(*pairs[start - 1], policy):
        start -= 1
    routers: dict[str, int] = {}
    for usage in samples[last].usages:
        place, new = last, usage
        while place > start:
            old = samples[place - 1].usage(usage.device)
            minutes = max(1.0, (samples[place].recorded - samples[place - 1].recorded) / 60)
            if old is None or not _says_the_same(old, new, minutes, policy):
                break
            place, new = place - 1, old
        routers[usage.device] = place
    return Steady(places, start, routers)


def _follows(old: SoakSample, new: SoakSample, policy: Soak) -> bool:
    """Tell whether one sample follows another as it should, of the same units and names, under the same policy."""
    return (
        not old.problem
        and not new.problem
        and old.policy == new.policy
        and old.units == new.units
        and old.names == new.names
        and new.before.keys() >= set(new.units)
        and set(new.before.values()) == {old.digest}
        and old.recorded <= new.recorded <= old.recorded + policy.longest_gap_s
        and old.taken_to <= new.taken_from
    )


def _says_the_same(old: Usage, new: Usage, minutes: float, policy: Soak) -> bool:
    """Tell whether a router knows, holds and hears the same as before, and its lines carried hellos at most."""
    return (
        old.incarnation == new.incarnation
        and old.unknown == new.unknown
        and old.flow_source == new.flow_source
        and 0 <= (new.forwarded or 0) - (old.forwarded or 0) <= policy.forwarded_per_minute * minutes
        and not old.neighbors
        and not new.neighbors
        and old.flows == new.flows
        and old.lines == new.lines
        and old.routes == new.routes
        and len(old.ports) == len(new.ports)
        and all(
            vars(a) == vars(b) or _carried_hellos(a, b, minutes, policy)
            for a, b in zip(old.ports, new.ports, strict=True)
        )
    )


_COUNTS = ("rx_packets", "rx_bytes", "tx_packets", "tx_bytes")


def _carried_hellos(old: PortSeen, new: PortSeen, minutes: float, policy: Soak) -> bool:
    """Tell whether two readings of a port differ only in counts that grew by hellos, both ways together."""
    if old.model_copy(update={n: getattr(new, n) for n in _COUNTS}) != new:
        return False
    packets = (new.rx_packets - old.rx_packets, new.tx_packets - old.tx_packets)
    size = (new.rx_bytes - old.rx_bytes, new.tx_bytes - old.tx_bytes)
    if min(*packets, *size) < 0:
        return False
    return sum(packets) <= policy.packets_per_minute * minutes and sum(size) <= policy.bytes_per_minute * minutes
