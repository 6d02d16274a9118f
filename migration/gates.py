"""Gates: pure functions from a situation to a verdict with reasons. No clock, no file, no network.

Here are the state a unit must be in, the time it must have spent there and the order among units; `proof` holds what
counts as proof.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from enum import StrEnum

from inventory.model import EXTRANET, Circuit, County, Model, Unit
from inventory.wording import say_span
from migration.proof import Away, Reason, Situation, judge_legs, say_moment
from migration.units import UnitRecord, UnitState, county_unit, find_unit, units_behind, units_served
from nornir_tasks.drivers import Capabilities


class Stage(StrEnum):
    """A step of retirement."""

    DRAIN = "drain"
    SHUT = "shut"
    REMOVE = "remove"


class Verdict(Model):
    """A gate's word: allowed only without reasons. `unit` is None for gates about devices."""

    gate: str
    unit: str | None
    allowed: bool
    reasons: tuple[Reason, ...] = ()


def judge_provision(
    devices: Iterable[str],
    situation: Situation,
    *,
    capabilities: Mapping[str, Capabilities],
    plan_digest: str | None,
    accepted: frozenset[str] = frozenset(),
) -> Verdict:
    """Judge whether these devices' intended configuration may be pushed.

    `plan_digest` is that of the plan the configuration was rendered from (None: there is no plan); `accepted` the
    devices whose missing rollback timer or candidate check the operator accepted in the ledger.
    """
    reasons: list[str] = []
    wanted = sorted(set(devices))
    if not wanted:
        reasons.append("no device to provision: an empty run is a failure")
    if plan_digest is None:
        reasons.append("there is no address plan: run 'extranet plan addresses'")
    elif plan_digest != situation.current.plan:
        reasons.append("the configuration was rendered from another address plan than the one of now: render it again")
    for name in wanted:
        device = situation.county.device_by_id.get(name)
        if device is None:
            reasons.append(f"{name}: not in the inventory, and nothing outside it is ever contacted")
            continue
        if device.network != EXTRANET:
            reasons.append(f"{name}: a legacy router is never replaced whole")
        able = capabilities.get(name)
        if able is None:
            reasons.append(f"{name}: what it can do is not known")
        elif name not in accepted:
            if not able.rollback_timer:
                reasons.append(
                    f"{name}: platform {able.platform} has no rollback timer: accept that in the ledger first"
                )
            if not able.candidate_check:
                reasons.append(
                    f"{name}: platform {able.platform} cannot check a candidate: accept that in the ledger first"
                )
        change = situation.changes.get(name)
        if change is not None and not change.finished and change.key != situation.resuming:
            reasons.append(f"{name}: a change is unfinished ({change.key}): run the same command again to finish it")
    return _verdict("provision", None, _plain(reasons))


def judge_cutover(unit_id: str, situation: Situation) -> Verdict:
    """Judge whether a unit's old path may be withheld to try the new one.

    Asks for the state, the order (the county's unit first), and proof of everything on its legs that provisioning alone
    provides, isolation included: what already fails now would fail then. The rest cannot be measured before the trial;
    `judge_proof` judges it.
    """
    unit = find_unit(situation.county, unit_id)
    record = situation.record(unit_id)
    reasons = _standing(record, situation, {UnitState.PROVISIONED, UnitState.PROVEN}, "cut over")
    hub = county_unit(situation.county, unit.network)
    if hub is not None and hub.id != unit.id and not situation.record(hub.id).state.reached(UnitState.CUT_OVER):
        reasons.append(f"{hub.id} cuts over first - expected cut_over, found {situation.record(hub.id).state}")
    proofs = list(judge_legs(unit, situation, provided_only=True))
    return _verdict("cutover", unit_id, _plain(reasons) + proofs)


def judge_trial(unit_id: str, situation: Situation) -> Verdict:
    """Judge whether a unit's old path may be withheld for a while, to be given back whatever comes of it.

    Before cutover that is the cutover itself, so its gate is asked; after it, the old line is closed by a timer, so
    everybody who used it must be cut over.
    """
    unit, record = find_unit(situation.county, unit_id), situation.record(unit_id)
    if not record.state.reached(UnitState.CUT_OVER):
        return judge_cutover(unit_id, situation)
    reasons = _standing(record, situation, {UnitState.CUT_OVER, UnitState.SOAKED}, "prove")
    for user in users_of(situation.county, unit, Stage.DRAIN):
        state = situation.record(user.id).state
        if not state.reached(UnitState.CUT_OVER):
            reasons.append(f"{user.id} is still carried by it - expected cut_over, found {state}")
    return _verdict("trial", unit_id, _plain(reasons))


def judge_proof(unit_id: str, situation: Situation, *, since: datetime) -> Verdict:
    """Judge, with the old path withheld, whether the new one carries everything: keep it, or go back.

    Only runs that began at `since` (when the old path was withheld) or later and name the unit in `withheld` count.
    """
    unit = find_unit(situation.county, unit_id)
    proofs = list(judge_legs(unit, situation, since=since, away=Away((unit_id,))))
    return _verdict("proof", unit_id, tuple(proofs))


def judge_retirement(unit_id: str, stage: Stage | str, situation: Situation) -> Verdict:
    """Judge whether a stage of a unit's retirement may begin.

    Asks for the state, the time in it, that nobody else still hangs on the link, and proof for everybody who used it,
    measured without the old path: withheld by a trial (`judge_trial`), or once it is drained or shut.
    """
    stage = Stage(stage)
    unit = find_unit(situation.county, unit_id)
    record = situation.record(unit_id)
    states = {
        Stage.DRAIN: {UnitState.CUT_OVER, UnitState.SOAKED},
        Stage.SHUT: {UnitState.DRAINED},
        Stage.REMOVE: {UnitState.SHUT},
    }[stage]
    reasons = _standing(record, situation, states, stage.value)
    if stage is Stage.DRAIN:
        reasons += _waited(record, UnitState.CUT_OVER, situation.policy.timers.soak_s, "soak", situation)
    if stage is Stage.REMOVE:
        reasons += _waited(record, UnitState.SHUT, situation.policy.timers.hold_s, "hold", situation)
    reasons += _dependents(unit, stage, situation)
    users = users_of(situation.county, unit, stage)
    gone = {Stage.SHUT: UnitState.DRAINED, Stage.REMOVE: UnitState.SHUT}.get(stage)
    away = Away((unit_id,), record.entered.get(gone) if gone else None)
    proofs = [reason for user in users for reason in judge_legs(user, situation, after_cutover=True, away=away)]
    return _verdict(stage.value, unit_id, _plain(reasons) + proofs)


def users_of(county: County, unit: Unit, stage: Stage) -> tuple[Unit, ...]:
    """Return the units whose people a stage of this unit's retirement concerns: its own, those behind it, those it serves.

    A town's line carries its villages too, but draining the town takes only the town's own route away.
    """
    at_county = unit.site == county.county_site.id
    behind = units_behind(county, unit) if stage is not Stage.DRAIN or at_county else ()
    return tuple(dict.fromkeys((unit, *behind, *units_served(county, unit))))


def judge_back(unit_id: str, situation: Situation) -> Verdict:
    """Judge whether a unit may go back a step: its old path must still be able to carry it."""
    unit = find_unit(situation.county, unit_id)
    county = situation.county
    record = situation.record(unit_id)
    reasons: list[str] = []
    if record.state is UnitState.REMOVED:
        reasons.append("removed has no way back: its configuration is gone")
    elif not record.state.reached(UnitState.PROVISIONED) and record.intent is None:
        reasons.append(f"there is nothing to go back from - expected provisioned or later, found {record.state}")
    if unit == county_unit(county, unit.network) and record.state in {UnitState.CUT_OVER, UnitState.SOAKED}:
        later = {u.id: situation.record(u.id).state for u in units_behind(county, unit)}
        reasons += [
            f"{name} must go back first - expected provisioned, found {state}"
            for name, state in later.items()
            if state.reached(UnitState.CUT_OVER)
        ]
    for above in _carriers(county, unit):
        state = situation.record(above.id).state
        if state.reached(UnitState.SHUT) and record.state.reached(UnitState.CUT_OVER):
            reasons.append(
                f"{above.id} carries its old path and must go back first - expected drained or before, found {state}"
            )
    return _verdict("back", unit_id, _plain(reasons))


def _standing(record: UnitRecord, situation: Situation, states: set[UnitState], act: str) -> list[str]:
    out = [f"the record of {record.unit} holds what cannot be: {p}" for p in record.problems]
    out += [
        f"a change of {record.unit} is unfinished ({event.key}): run the same command again to finish it"
        for event in record.open
        if event.key != situation.resuming
    ]
    if record.state not in states:
        expected = " or ".join(s for s in UnitState if s in states)
        out.append(f"{record.unit} cannot {act} now - expected {expected}, found {record.state}")
    return out


def _waited(record: UnitRecord, state: UnitState, wanted_s: int, word: str, situation: Situation) -> list[str]:
    since = record.entered.get(state)
    if since is None:
        return [f"{record.unit} has not begun to {word}: it never came to {state}"]
    waited_s = (situation.now - since).total_seconds()
    if waited_s < 0:
        return [f"{record.unit} came to {state} in the future ({say_moment(since)}): set the clock right"]
    if waited_s < wanted_s:
        left = say_span(wanted_s - waited_s)
        end = say_moment(since + timedelta(seconds=wanted_s))
        return [f"the {word} of {record.unit} is not over - expected {say_span(wanted_s)}, {left} left, until {end}"]
    return []


def _dependents(unit: Unit, stage: Stage, situation: Situation) -> list[str]:
    county = situation.county
    if stage is Stage.DRAIN and unit.site != county.county_site.id:
        return []
    wanted = UnitState.REMOVED if stage is Stage.REMOVE else UnitState.SHUT
    out = []
    for other in units_behind(county, unit):
        record = situation.record(other.id)
        if not record.state.reached(wanted):
            out.append(f"{other.id} still hangs on this link - expected {wanted} or later, found {record.state}")
        out += [f"a change of {other.id} is unfinished ({event.key})" for event in record.open]
        out += [f"the record of {other.id} holds what cannot be: {p}" for p in record.problems]
    return out


def _carriers(county: County, unit: Unit) -> Iterator[Unit]:
    """Units whose link carries this one's old path: the town's for a village's, the county's for all."""
    circuit = county.circuit_by_id[unit.circuit]
    for other in county.units:
        if other.id != unit.id and circuit.far_device is not None:
            theirs: Circuit = county.circuit_by_id[other.circuit]
            if theirs.device == circuit.far_device and other.network == unit.network:
                yield other


def _plain(reasons: Iterable[str]) -> list[Reason]:
    return [Reason(station="", service="", why=why) for why in reasons]


def _verdict(gate: str, unit: str | None, reasons: Iterable[Reason]) -> Verdict:
    found = tuple(dict.fromkeys(reasons))
    return Verdict(gate=gate, unit=unit, allowed=not found, reasons=found)
