"""Lines for legacy routers, which are patched and never replaced: withhold, drain, shut, remove, and each step back.

What a legacy network's routers hold is first said as facts that follow from the states of its units; a transition's
lines are the difference of the facts before and after. So every transition has its way back, and a line shared by
several units (a town's WAN behind which villages hang) goes down with the last of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from inventory.errors import UnknownNameError
from inventory.model import Circuit, County, Unit
from inventory.topology import Topology


class LegacyState(StrEnum):
    """How far the old path of a unit is taken away; each state includes those before it."""

    NORMAL = "normal"
    WITHHELD = "withheld"
    """The legacy router no longer serves the LAN; at the county the hub keeps only the interconnect address."""
    DRAINED = "drained"
    """The hub no longer routes to it."""
    SHUT = "shut"
    """The line's ports are administratively down at both ends."""
    REMOVED = "removed"
    """Its lines are gone from the configuration."""

    def reached(self, other: LegacyState) -> bool:
        """Tell whether this state includes the other."""
        order = list(LegacyState)
        return order.index(self) >= order.index(other)


Fact = tuple[str, str]
"""(block header or '', line)."""

_OF_UNIT_STATE = {
    "cut_over": LegacyState.WITHHELD,
    "soaked": LegacyState.WITHHELD,
    "drained": LegacyState.DRAINED,
    "shut": LegacyState.SHUT,
    "removed": LegacyState.REMOVED,
    "released": LegacyState.REMOVED,
}


def legacy_state_of(unit_state: str) -> LegacyState:
    """Return the legacy side's state in a state of a unit's life."""
    return _OF_UNIT_STATE.get(unit_state, LegacyState.NORMAL)


def render_legacy_patch(
    county: County,
    topology: Topology,  # noqa: ARG001 - the seam's: other platforms may need the wiring
    unit: Unit,
    from_state: LegacyState,
    to_state: LegacyState,
    *,
    others: Mapping[str, LegacyState] | None = None,
) -> dict[str, list[str]]:
    """Return the lines to merge, by device, that bring a unit's legacy side from one state to another.

    `others` holds the states of the other units (`normal` where missing): a town's line stays up while a village
    behind it needs it. Devices without a change are left out.
    """
    if unit.id not in county.unit_by_id:
        raise UnknownNameError("unit", unit.id, county.unit_by_id)
    states = dict(others or {})
    before = legacy_facts(county, unit.network, {**states, unit.id: from_state})
    after = legacy_facts(county, unit.network, {**states, unit.id: to_state})
    out: dict[str, list[str]] = {}
    for device in sorted(before.keys() | after.keys()):
        lines = _lines(before.get(device, {}), after.get(device, {}))
        if lines:
            out[device] = lines
    return out


def legacy_facts(county: County, network: str, states: Mapping[str, LegacyState]) -> dict[str, dict[Fact, bool]]:
    """Return what each router of a legacy network holds: device -> (block, line) -> present."""
    facts: dict[str, dict[Fact, bool]] = {}

    def say(device: str | None, block: str, line: str, *, present: bool) -> None:
        if device:
            facts.setdefault(device, {})[block, line] = present

    for unit in county.units:
        if unit.network != network:
            continue
        circuit = county.circuit_by_id[unit.circuit]
        state = states.get(unit.id, LegacyState.NORMAL)
        removed = state.reached(LegacyState.REMOVED)
        withheld = state.reached(LegacyState.WITHHELD)
        length = unit.lan_prefix.prefixlen
        if circuit.device and not circuit.far_device:
            port = f"interface {circuit.lan_port}"
            say(circuit.device, port, f"ip address {unit.gateway}/{length}", present=not withheld)
            say(circuit.device, port, f"ip address {unit.interconnect}/{length}", present=withheld and not removed)
            say(circuit.device, port, "shutdown", present=state.reached(LegacyState.SHUT))
            continue
        holder = circuit.device or circuit.far_device
        port = f"interface {circuit.lan_port if circuit.device else circuit.far_port}"
        say(holder, port, f"ip address {unit.gateway}/{length}", present=not removed)
        say(holder, port, "shutdown", present=withheld)
        town = circuit if circuit.device else _line_of(county, network, circuit.far_device)
        if town is None or town.wan_prefix is None:
            continue
        spoke, hub = town.wan_prefix.network_address + 2, town.wan_prefix.network_address + 1
        say(town.far_device, "", f"ip route {unit.lan_prefix} {spoke}", present=not state.reached(LegacyState.DRAINED))
        if circuit.device:
            behind = [state, *_states_behind(county, network, circuit.device, states)]
            down = all(s.reached(LegacyState.SHUT) for s in behind)
            gone = all(s.reached(LegacyState.REMOVED) for s in behind)
            for device, wan, address in ((town.device, town.port, spoke), (town.far_device, town.far_port, hub)):
                say(device, f"interface {wan}", "shutdown", present=down)
                say(device, f"interface {wan}", f"ip address {address}/{town.wan_prefix.prefixlen}", present=not gone)
            say(town.device, "", f"ip route 0.0.0.0/0 {hub}", present=not gone)
    return facts


def _line_of(county: County, network: str, device: str | None) -> Circuit | None:
    """Return the circuit over which a town's legacy router reaches the hub; None for the hub itself."""
    mine = (c for c in county.circuits if c.network == network and c.device == device and c.far_device)
    return next(mine, None)


def _states_behind(county: County, network: str, device: str, states: Mapping[str, LegacyState]) -> list[LegacyState]:
    """Return the states of the village units whose lines end at a town's legacy router."""
    circuits = {c.id for c in county.circuits if c.network == network and c.device is None and c.far_device == device}
    return [states.get(u.id, LegacyState.NORMAL) for u in county.units if u.circuit in circuits]


def _lines(before: Mapping[Fact, bool], after: Mapping[Fact, bool]) -> list[str]:
    changed = [fact for fact in dict.fromkeys([*before, *after]) if before.get(fact, False) != after.get(fact, False)]
    out: list[str] = []
    for block in sorted({block for block, _ in changed}):
        # Addresses go before others come: the kernel drops a subnet's secondary addresses with its primary one.
        inside = sorted((after.get((block, line), False), line) for b, line in changed if b == block)
        pad = " " if block else ""
        lines = [pad + (line if present else f"no {line}") for present, line in inside]
        out += [block, *lines, "exit"] if block else lines
    return out
