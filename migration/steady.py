"""Steady stretches: samples in a row in which a router said the same of silent lines. Pure.

A clean sample that shows what the one before it showed needs no second look: what the soak would find in it follows
from the same content. Steady is stricter than clean, so a stretch is only ever skipped, never called clean by itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from inventory.model import Soak
from migration.soak_samples import SoakSample
from nornir_tasks.old_line import PortSeen, Usage


@dataclass(frozen=True)
class Steady:
    """To which sample, by place, each stretch lasts in which nothing new was seen: of the samples as such, and by router."""

    place_by_seq: Mapping[int, int]
    samples_until: Sequence[int]
    routers_until: Mapping[str, Sequence[int]]

    def count_after(self, first: SoakSample, later: Sequence[SoakSample], routers: Iterable[str]) -> int:
        """Return how many of the samples that follow one only say the same of these routers."""
        place = self.place_by_seq.get(first.seq)
        if place is None:
            return 0
        ends = [self.routers_until[r][place] if r in self.routers_until else place for r in routers]
        count = min(self.samples_until[place], *ends, place + len(later)) - place
        # Nothing was left out between: they are the very next ones of all samples.
        return count if count > 0 and self.place_by_seq.get(later[count - 1].seq) == place + count else 0


def find_steady(samples: Sequence[SoakSample], policy: Soak, timely: Sequence[bool]) -> Steady:
    """Find what is steady; `timely` says of each sample whether its own times may count."""
    places = {s.seq: n for n, s in enumerate(samples)}
    if len(places) < len(samples):
        return Steady({}, (), {})
    pairs = list(pairwise(samples))
    follows = [all(timely[n : n + 2]) and _follows(old, new, policy) for n, (old, new) in enumerate(pairs)]
    routers: dict[str, Sequence[int]] = {}
    for name in {u.device for s in samples for u in s.usages}:
        said = [s.usage(name) for s in samples]
        routers[name] = _stretch(
            old is not None and new is not None and steady and _says_the_same(old, new, _minutes(*pair), policy)
            for old, new, steady, pair in zip(said, said[1:], follows, pairs, strict=False)
        )
    return Steady(places, _stretch(follows), routers)


def _minutes(old: SoakSample, new: SoakSample) -> float:
    return max(1.0, (new.recorded - old.recorded) / 60)


def _stretch(same: Iterable[bool]) -> list[int]:
    """Return, for each place, the last one to which all pairs from there on are the same."""
    steps = list(same)
    out = [len(steps)]
    for place in range(len(steps) - 1, -1, -1):
        out.append(out[-1] if steps[place] else place)
    return out[::-1]


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
