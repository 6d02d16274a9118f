"""Laws of the lines merged into legacy routers."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from inventory.model import EXTRANET, Unit
from lab.before import render_before
from migration.units import UnitState
from nornir_tasks.intent import legacy_patch
from nornir_tasks.platforms.frr.config import FrrConfig, merged, parse, same
from nornir_tasks.platforms.frr.legacy import LegacyState, legacy_facts, legacy_state_of
from tests.nornir_tasks.sample import law, sample

COUNTY, TOPOLOGY, PLAN = sample()
LEGACY = [d for d in COUNTY.devices if d.network != EXTRANET]
units = st.sampled_from(sorted(COUNTY.units, key=lambda u: u.id))
states = st.sampled_from(list(LegacyState))


def before() -> dict[str, FrrConfig]:
    """Return what the legacy routers hold before migration."""
    return {d.id: parse(render_before(COUNTY, TOPOLOGY, PLAN, d, "netns")) for d in LEGACY}


def facts_of(config: FrrConfig) -> set[tuple[str, str]]:
    """Return (block, line) of a configuration."""
    return {(path[-1] if path else "", line) for path, line in config.facts() if line}


def test_facts_of_the_beginning_are_what_the_routers_hold() -> None:
    """In state normal the facts are exactly the legacy routers' configuration before migration."""
    for network in COUNTY.networks:
        facts = legacy_facts(COUNTY, network.id, {})
        for device, config in before().items():
            if COUNTY.device_by_id[device].network == network.id:
                said = {fact for fact, present in facts[device].items() if present}
                assert said == {f for f in facts_of(config) if not f[1].startswith("hostname ")}


@law
@given(st.lists(st.tuples(units, states), max_size=12))
def test_every_way_through_the_states_ends_where_its_facts_say(steps: list[tuple[Unit, LegacyState]]) -> None:
    """Patches merged one after another give the facts of the last states; undone in reverse, the beginning."""
    routers = before()
    now: dict[str, LegacyState] = {}
    done: list[tuple[Unit, LegacyState, LegacyState]] = []

    def go(unit: Unit, start: LegacyState, end: LegacyState) -> None:
        others = {k: v for k, v in now.items() if k != unit.id}
        for device, lines in legacy_patch(COUNTY, TOPOLOGY, unit, start, end, others=others).items():
            routers[device] = merged(routers[device], parse("\n".join(lines)))
        now[unit.id] = end

    for unit, state in steps:
        start = now.get(unit.id, LegacyState.NORMAL)
        go(unit, start, state)
        done.append((unit, start, state))
    for network in COUNTY.networks:
        for device, facts in legacy_facts(COUNTY, network.id, now).items():
            said = {fact for fact, present in facts.items() if present}
            assert said == {f for f in facts_of(routers[device]) if not f[1].startswith("hostname ")}
    for unit, start, end in reversed(done):
        go(unit, end, start)
    assert all(same(routers[d], config) for d, config in before().items())


def test_a_shared_line_goes_down_with_its_last_unit() -> None:
    """A town's WAN stays up while a village behind its router needs it, and goes down with whichever unit is last."""
    town = COUNTY.unit_by_id["party-edu@chengguan"]
    villages = [u for u in COUNTY.units if u.network == "party-edu" and COUNTY.site_by_id[u.site].parent == "chengguan"]
    shut = dict.fromkeys((v.id for v in villages), LegacyState.SHUT)
    down = ["interface wan1", " shutdown", "exit"]
    early = legacy_patch(COUNTY, TOPOLOGY, town, LegacyState.DRAINED, LegacyState.SHUT)
    assert early == {}
    late = legacy_patch(COUNTY, TOPOLOGY, town, LegacyState.DRAINED, LegacyState.SHUT, others=shut)
    assert late["edu-chengguan"] == down
    assert late["edu-hub"] == ["interface chengguan", " shutdown", "exit"]
    others = {**shut, town.id: LegacyState.SHUT}
    del others[villages[0].id]
    last = legacy_patch(COUNTY, TOPOLOGY, villages[0], LegacyState.DRAINED, LegacyState.SHUT, others=others)
    assert last["edu-chengguan"] == down


def test_withholding_takes_the_lan_and_nothing_else() -> None:
    """Withheld: a spoke shuts its LAN port, a hub gives up the gateway address and keeps the last one."""
    spoke = legacy_patch(
        COUNTY, TOPOLOGY, COUNTY.unit_by_id["finance-man@chengguan"], LegacyState.NORMAL, LegacyState.WITHHELD
    )
    assert spoke == {"fin-chengguan": ["interface lan1", " shutdown", "exit"]}
    hub = legacy_patch(
        COUNTY, TOPOLOGY, COUNTY.unit_by_id["finance-man@county"], LegacyState.NORMAL, LegacyState.WITHHELD
    )
    lines = ["interface lan1", " no ip address 10.20.0.1/24", " ip address 10.20.0.254/24", "exit"]
    assert hub == {"fin-hub": lines}


def test_states_of_a_units_life_have_a_legacy_side() -> None:
    """Until cutover the legacy side is as ever; every later state takes more of it away."""
    sides = [legacy_state_of(s.value) for s in UnitState]
    assert sides[-1] is LegacyState.REMOVED
    assert sides[:4] == [LegacyState.NORMAL] * 4
    assert all(later.reached(earlier) for earlier, later in pairwise(sides))
