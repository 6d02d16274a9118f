"""Steady stretches: what is skipped is what would have been found clean, never anything else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inventory.model import Soak
from migration.proof import Situation
from migration.soak import Stage, stand_soak
from migration.soak_findings import Finding, Lookout
from migration.soak_samples import SoakSample
from migration.steady import Steady
from migration.units import Act, UnitState
from nornir_tasks.old_line import FlowSeen, LineSeen, NeighborSeen, PortSeen, SocketSeen
from tests.migration.scene import Story, build_county, situation_of
from tests.migration.soak_scene import Spoil, run_of_samples

COUNTY = build_county()
COUNTY = COUNTY.altered(
    policy=COUNTY.policy.altered(soak=Soak(samples=4, longest_gap_s=1500, business_days=0, packets_a_gap=400))
)
FIN = ("fin@county", "fin@ta", "fin@tb", "fin@va1")
ROUTERS = ("fin-county", "fin-ta", "fin-tb", "core1", "r-ta")


def each_port(change: Callable[[PortSeen], PortSeen]) -> Spoil:
    """Change every port of a router."""
    return lambda u: u.model_copy(update={"ports": tuple(map(change, u.ports))})


def counted_up(packets: int, size: int) -> Spoil:
    """Add to what every port has carried."""
    return each_port(
        lambda p: p.model_copy(update={"rx_packets": p.rx_packets + packets, "tx_bytes": p.tx_bytes + size})
    )


def without(name: str) -> Spoil:
    """Take a port away."""
    return lambda u: u.model_copy(update={"ports": tuple(p for p in u.ports if p.name != name)})


FLOW = FlowSeen(
    port="wan1", source="10.20.1.9", destination="10.20.0.80", mac="m", protocol="tcp", service=443, packets=3
)
SOCKET = SocketSeen(protocol="tcp", local="10.20.255.2", local_port=3128, peer="10.20.0.9", peer_port=5151)
SPOILS: dict[str, Spoil] = {
    "hellos": counted_up(3, 300),
    "traffic": counted_up(100_000, 10_000_000),
    "cleared": counted_up(-5, 0),
    "flapped": each_port(lambda p: p.model_copy(update={"carrier_changes": p.carrier_changes + 2})),
    "toggled": each_port(lambda p: p.model_copy(update={"up": not p.up, "carrier": not p.carrier})),
    "managed": each_port(lambda p: p.model_copy(update={"management": True})),
    "no line": without("wan1"),
    "new port": lambda u: u.model_copy(
        update={"ports": (*u.ports, *(p.model_copy(update={"name": "spare1"}) for p in u.ports[:1]))}
    ),
    "rebooted": lambda u: u.model_copy(update={"incarnation": "second"}),
    "forwarded": lambda u: u.model_copy(update={"forwarded": 7}),
    "silent": lambda u: u.model_copy(update={"unknown": {"counters": "no answer", "flows": "no answer"}}),
    "heard": lambda u: u.model_copy(update={"flows": (FLOW,)}),
    "neighbor": lambda u: u.model_copy(
        update={"neighbors": (NeighborSeen(port="wan1", address="10.20.255.99", mac="m", idle_s=1.0),)}
    ),
    "talking": lambda u: u.model_copy(update={"sockets": (SOCKET,)}),
    "greeting": counted_up(450, 30_000),
    "named": lambda u: u.model_copy(
        update={"lines": (LineSeen(block="", line="ip route 10.20.1.0/24 10.20.255.2", names=("10.20.1.0/24",)),)}
    ),
}
SCENES = {
    "all cut over": Story().go(*FIN, to=UnitState.CUT_OVER),
    "one drained": Story().go(*FIN, to=UnitState.CUT_OVER).wait_s(900).go("fin@va1", to=UnitState.DRAINED),
    "one shut": Story().go(*FIN, to=UnitState.CUT_OVER).wait_s(900).go("fin@va1", to=UnitState.SHUT),
    "one left": Story().go("fin@county", "fin@ta", to=UnitState.CUT_OVER).wait_s(900),
}
COPIES = [(sample, router, name) for sample in (0, 0, 0, 2, 3, 5) for router in ROUTERS for name in sorted(SPOILS)]


@given(
    scene=st.sampled_from(sorted(SCENES)),
    unit=st.sampled_from(FIN),
    stage=st.sampled_from(("drain", "shut", "remove")),
    steps=st.lists(st.sampled_from([10, 600, 600, 600, 600, 600, 1400, 1600]), min_size=4, max_size=7),
    spoils=st.lists(st.sampled_from(COPIES), min_size=1, max_size=2),
    lasting=st.sampled_from([True, True, False]),
    lost=st.sampled_from([None, None, None, None, 0, 1, 2, 3, 4, 5]),
    act=st.none()
    | st.tuples(st.sampled_from(ROUTERS), st.sampled_from([-50, 0, 590, 1300]), st.sampled_from([None, 5, 60, 900])),
    mark=st.none() | st.sampled_from(["problem", "policy", "before", "late", "units"]),
)
@settings(max_examples=250, deadline=None)
def test_what_is_skipped_changes_no_word(
    *,
    scene: str,
    unit: str,
    stage: Stage,
    steps: list[int],
    spoils: list[tuple[int, str, str]],
    lost: int | None,
    act: tuple[str, int, int | None] | None,
    mark: str | None,
    lasting: bool,
) -> None:
    """Whatever routers said, whenever samples were taken, lost or forged: the soak stands as if each had been looked at."""
    story = SCENES[scene]
    moments = [story.events[0].moment.timestamp() + 30]
    for step in steps:
        moments.append(moments[-1] + step)
    changes: dict[int, dict[str, Spoil]] = {}
    for first, router, name in spoils:
        for number in range(first, 8 if lasting else first + 1):
            changes.setdefault(number, {})[router] = SPOILS[name]
    samples = run_of_samples(COUNTY, story.events, moments, changes)
    if lost is not None and lost < len(samples):
        kinds: dict[str, dict[str, Any]] = {
            "problem": {"problem": "gone", "usages": ()},
            "policy": {"policy": "unknown"},
            "before": {"before": dict.fromkeys(FIN, "nothing")},
            "late": {"recorded": samples[lost].recorded + 90},
            "units": {"units": (FIN[0],)},
        }
        samples = [s for n, s in enumerate(samples) if n != lost or mark is not None]
        if mark is not None:
            samples[lost] = samples[lost].model_copy(update=kinds[mark])
    now = max(story.at.timestamp(), moments[-1])
    later = Story(story.at)
    later.events = story.events
    situation = situation_of(COUNTY, later.wait_s(now - story.at.timestamp() + 1), soak=samples)
    if act is not None:
        began = moments[0] + act[1]
        one = Act(devices=frozenset({act[0]}), began=began, ended=None if act[2] is None else began + act[2])
        situation = replace(situation, acts=(*situation.acts, one))
    assert_same_word(situation, unit, stage)


def looked_at_whole(sample: SoakSample) -> SoakSample:
    """The same sample, of which no router is passed over as silent."""
    copy = sample.model_copy()
    copy.__dict__["silent"] = frozenset()
    return copy


def assert_same_word(situation: Situation, unit: str, stage: Stage) -> None:
    """Hold the soak of a unit to what it would be, were every sample looked at."""
    plodding = replace(situation, soak=tuple(map(looked_at_whole, situation.soak)))
    plodding.__dict__["steady"] = Steady({}, (), {})
    found = COUNTY.unit_by_id[unit]
    assert stand_soak(found, situation, stage) == stand_soak(found, plodding, stage)


@pytest.mark.parametrize("name", sorted(SPOILS))
@pytest.mark.parametrize("first", [0, 2])
def test_each_thing_that_begins_and_lasts_is_seen(name: str, first: int) -> None:
    """Whatever begins at one sample and lasts, on any router, during a change of ours or not: said as if all were looked at."""
    story = SCENES["all cut over"]
    begin = story.at.timestamp() + 10
    for router in ROUTERS:
        changes = {n: {router: SPOILS[name]} for n in range(first, 6)}
        samples = run_of_samples(COUNTY, story.events, [begin + 600 * n for n in range(6)], changes)
        later = Story(story.at)
        later.events = story.events
        quiet = situation_of(COUNTY, later.wait_s(3100), soak=samples)
        ours = Act(devices=frozenset({router}), began=begin - 5, ended=begin + 600 * first + 5)
        for situation in (quiet, replace(quiet, acts=(*quiet.acts, ours))):
            for unit in FIN:
                assert_same_word(situation, unit, "drain")


def test_a_long_silence_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a hundred samples that say the same, hellos growing, one is looked at; so the laws above are not empty."""
    story = Story().go(*FIN, to=UnitState.CUT_OVER)
    begin = story.at.timestamp()
    growing = {n: {"fin-ta": counted_up(n, 100 * n)} for n in range(100)}
    samples = run_of_samples(COUNTY, story.events, [begin + 600 * n for n in range(100)], growing)
    situation = situation_of(COUNTY, story.wait_s(600 * 99 + 1), soak=samples)
    looked: list[int] = []
    see = Lookout.see_sample

    def look(lookout: Lookout, sample: SoakSample) -> Iterator[Finding]:
        looked.append(sample.seq)
        return see(lookout, sample)

    monkeypatch.setattr(Lookout, "see_sample", look)
    standing = stand_soak(COUNTY.unit_by_id["fin@ta"], situation)
    assert (standing.samples, standing.against, looked) == (100, (), [1])
