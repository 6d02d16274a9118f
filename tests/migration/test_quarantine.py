"""Quarantine: what removed lines leave behind is given to nobody else for a while."""

from __future__ import annotations

from datetime import datetime, timedelta
from ipaddress import IPv4Network

from hypothesis import given
from hypothesis import strategies as st

from addressing.plan import make_plan
from inventory.model import County, LegacyNetwork
from inventory.topology import build_topology
from migration.dossier import make_dossier
from migration.events import Event, Kind
from migration.quarantine import Quarantined, find_conflicts, list_quarantine, list_removed
from migration.units import UnitState
from tests.migration.scene import Story, build_county

COUNTY = build_county()
UNITS = [u.id for u in COUNTY.units]


def archived(story: Story, unit: str, county: County = COUNTY) -> Story:
    """Record an archive of a unit, as before its removal."""
    dossier = make_dossier(county, county.unit_by_id[unit], None).model_dump(mode="json")
    body: dict[str, object] = {"note": "archive", "state": "shut", "configs": {}, "dossier": dossier}
    story.tell(Kind.NOTE, f"archive/{unit}/{len(story.events)}", body, unit)
    return story


def removed(*units: str) -> Story:
    """Units removed, each archived before."""
    story = Story()
    for unit in units:
        archived(story.go(unit, to=UnitState.SHUT), unit).go(unit, to=UnitState.REMOVED)
    return story


def held(events: list[Event], now: datetime, county: County = COUNTY) -> list[tuple[str, str]]:
    """What is in quarantine, shortly."""
    return [(str(q.prefix), q.unit) for q in list_quarantine(events, county, now)]


def test_a_removed_units_lan_and_wan_are_held() -> None:
    """From removal on, not before, its LAN and WAN are in quarantine for the policy's days, to the second."""
    story = removed("fin@ta")
    before = story.events[:-1]
    assert held(before, story.at) == []
    assert held(story.events, story.at) == [("10.20.1.0/24", "fin@ta"), ("10.20.255.0/30", "fin@ta")]
    end = story.at + timedelta(days=180)
    assert held(story.events, end - timedelta(seconds=1))
    assert held(story.events, end) == []
    assert len(list_removed(story.events, COUNTY)) == 2


def test_it_outlives_the_inventory() -> None:
    """The rows of a removed line may go: its prefixes stay in quarantine, by the ledger's dossier."""
    story = removed("fin@tb")
    bare = COUNTY.altered(circuits=tuple(c for c in COUNTY.circuits if c.id != "fin-tb"))
    assert "fin@tb" not in bare.unit_by_id
    assert held(story.events, story.at, bare) == held(story.events, story.at)


def test_a_unit_removed_before_there_were_dossiers_is_held_too() -> None:
    """An older ledger names no prefixes: those of the inventory count."""
    story = Story().go("fin@ta", to=UnitState.REMOVED)
    assert held(story.events, story.at) == [("10.20.1.0/24", "fin@ta"), ("10.20.255.0/30", "fin@ta")]


@given(order=st.permutations(UNITS), cut=st.integers(0, 60), days=st.integers(0, 400))
def test_quarantine_never_shrinks(order: list[str], cut: int, days: int) -> None:
    """More events only add to it, at any moment; and a policy made shorter afterwards frees nothing early."""
    story = removed(*order[:3])
    earlier = story.events[: min(cut, len(story.events))]
    now = story.at + timedelta(days=days % 181)
    assert set(held(earlier, now)) <= set(held(story.events, now))
    shorter = COUNTY.altered(policy=COUNTY.policy.altered(quarantine_days=days))
    assert set(held(story.events, now)) <= set(held(story.events, now, shorter))


def conflicts(county: County, quarantined: tuple[Quarantined, ...]) -> list[str]:
    """Who holds addresses in quarantine."""
    return sorted(str(c.owner) for c in find_conflicts(county, None, quarantined))


def test_whoever_was_there_stays_and_nobody_else_comes() -> None:
    """The unit itself, and those who used the same range when it went, are no conflict; later ones are, by name."""
    story = removed("fin@tb")
    found = list_quarantine(story.events, COUNTY, story.at)
    assert conflicts(COUNTY, found) == []
    line = COUNTY.circuit_by_id["fin-tb"]
    again = line.altered(id="new-tb", network="soc", wan_prefix=None)
    wider = LegacyNetwork(
        id="late",
        name="late",
        tenant="t",
        plane="social",
        prefixes=(IPv4Network("10.0.0.0/8"),),
        lead="l",
        responsible="r",
    )
    grown = COUNTY.altered(circuits=(*COUNTY.circuits, again), networks=(*COUNTY.networks, wider))
    assert conflicts(grown, found) == [
        "circuit new-tb (10.20.2.0/24)",
        "network late (10.0.0.0/8)",
        "network late (10.0.0.0/8)",
    ]
    moved = COUNTY.altered(
        circuits=tuple(c if c.id != "fin-ta" else c.altered(lan_prefix=line.lan_prefix) for c in COUNTY.circuits)
    )
    assert conflicts(moved, found) == ["circuit fin-ta (10.20.2.0/24)"]


def test_the_planner_gives_nothing_out_of_quarantine() -> None:
    """New IPv4 LANs and links avoid what is in quarantine; what was given before does not move."""
    topology = build_topology(COUNTY)
    before = make_plan(COUNTY, topology)
    given4 = [IPv4Network(r.prefix) for r in before.records if r.kind in {"lan4", "link4"}]
    shared = COUNTY.policy.shared_ipv4
    taken = [n for n in given4 if n != shared]
    assert taken
    anew = make_plan(COUNTY, topology, None, taken)
    got = [IPv4Network(r.prefix) for r in anew.records if r.kind in {"lan4", "link4"} and r.prefix != str(shared)]
    assert len(got) == len(taken)
    assert not any(a.overlaps(b) for a in got for b in taken)
    assert make_plan(COUNTY, topology, before, taken) == before
    # A block wider than the pool leaves nothing to give, and is no error of arithmetic.
    assert make_plan(COUNTY, topology, before, [IPv4Network("0.0.0.0/0")]) == before
