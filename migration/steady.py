"""Steady stretches: samples in a row in which a router said the same of silent lines. Pure.

A clean sample that shows what the one before it showed needs no second look: what the soak would find in it follows
from the same content. Steady is stricter than clean, so a stretch is only ever skipped, never called clean by itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, repeat
from operator import attrgetter
from typing import NamedTuple, Self

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
    most = [Most.between(old, new, policy) for old, new in pairs]
    said = [s.usage_by_device for s in samples]
    routers: dict[str, Sequence[int]] = {}
    for name in set().union(*said):
        routers[name] = _stretch(_say_the_same([usages.get(name) for usages in said], follows, most))
    return Steady(places, _stretch(follows), routers)


class Most(NamedTuple):
    """What may be carried between two samples: packets and bytes of hellos on a port, packets forwarded."""

    packets: float
    size: float
    forwarded: float

    @classmethod
    def between(cls, old: SoakSample, new: SoakSample, policy: Soak) -> Self:
        """Return what the policy allows in the time between two samples; of hellos never more than its most for any gap."""
        minutes = max(1.0, (new.recorded - old.recorded) / 60)
        return cls(
            min(policy.packets_per_minute * minutes, policy.packets_a_gap),
            min(policy.bytes_per_minute * minutes, policy.bytes_a_gap),
            policy.forwarded_per_minute * minutes,
        )


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


_WORDS = tuple(n for n in Usage.model_fields if n not in {"device", "at", "ports", "forwarded"})
_words = attrgetter(*_WORDS)
"""What a router said, but for its clock and its counts."""
_words_and_count = attrgetter(*_WORDS, "forwarded")


def _say_the_same(said: Sequence[Usage | None], follows: Sequence[bool], most: Sequence[Most]) -> list[bool]:
    """Tell, of each two answers of a router in a row, whether it knows, holds and hears the same, and carried hellos at most."""
    all_of_it = [
        None if usage is None or usage.neighbors else (_words_and_count(usage), list(map(vars, usage.ports)))
        for usage in said
    ]
    return [
        steady
        and all_of_it[n] is not None
        and (all_of_it[n] == all_of_it[n + 1] or _carried_hellos(said[n], said[n + 1], most[n]))
        for n, steady in enumerate(follows)
    ]


def _carried_hellos(old: Usage | None, new: Usage | None, most: Most) -> bool:
    """Tell whether two answers of a router differ only in counts, and it carried hellos at most."""
    if old is None or new is None or len(old.ports) != len(new.ports) or _words(old) != _words(new):
        return False
    if not 0 <= (new.forwarded or 0) - (old.forwarded or 0) <= most.forwarded:
        return False
    return all(map(_heard_hellos, old.ports, new.ports, repeat(most)))


_COUNTS = ("rx_packets", "rx_bytes", "tx_packets", "tx_bytes")
_state = attrgetter(*(n for n in PortSeen.model_fields if n not in _COUNTS))


def _heard_hellos(old: PortSeen, new: PortSeen, most: Most) -> bool:
    """Tell whether two readings of a port differ only in counts that grew by hellos, both ways together."""
    if _state(old) != _state(new):
        return False
    packets = (new.rx_packets - old.rx_packets, new.tx_packets - old.tx_packets)
    size = (new.rx_bytes - old.rx_bytes, new.tx_bytes - old.tx_bytes)
    if min(*packets, *size) < 0:
        return False
    return sum(packets) <= most.packets and sum(size) <= most.size
