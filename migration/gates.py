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
from migration.archive import judge_archives
from migration.events import Event
from migration.proof import Away, Excused, Reason, ReasonKind, Situation, judge_legs, line_ends, say_moment, say_wait
from migration.soak import judge_soak, next_stage
from migration.terms import Terms
from migration.units import Step, UnitRecord, UnitState, county_unit, find_unit, units_behind, units_served
from migration.waivers import excuse
from nornir_tasks.drivers import Capabilities


class Stage(StrEnum):
    """A step of retirement."""

    DRAIN = "drain"
    SHUT = "shut"
    REMOVE = "remove"


_BEFORE = {
    Stage.DRAIN: {UnitState.CUT_OVER, UnitState.SOAKED},
    Stage.SHUT: {UnitState.DRAINED},
    Stage.REMOVE: {UnitState.SHUT},
}
"""The states from which each stage may begin."""

_LINE_UP = {UnitState.CUT_OVER, UnitState.SOAKED, UnitState.DRAINED}
"""The states in which nobody needs a unit's old line any more, and it is still up."""


class Verdict(Model):
    """A gate's word: allowed only without reasons. `unit` is None for gates about devices.

    `excused` are the reasons that a recorded exception excuses, each with the exception's id; whoever shows the verdict
    shows them too.
    """

    gate: str
    unit: str | None
    allowed: bool
    reasons: tuple[Reason, ...] = ()
    excused: tuple[Excused, ...] = ()


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
    reasons: list[Reason] = []
    wanted = sorted(set(devices))
    if not wanted:
        reasons.append(_say(ReasonKind.EMPTY, "no device to provision: an empty run is a failure"))
    if plan_digest is None:
        reasons.append(_say(ReasonKind.PLAN, "there is no address plan: run 'extranet plan addresses'"))
    elif plan_digest != situation.current.plan:
        why = "the configuration was rendered from another address plan than the one of now: render it again"
        reasons.append(_say(ReasonKind.PLAN, why))
    for name in wanted:
        reasons += _against_device(name, situation, capabilities.get(name), accepted=name in accepted)
    return _verdict("provision", None, reasons, situation)


def _against_device(name: str, situation: Situation, able: Capabilities | None, *, accepted: bool) -> Iterator[Reason]:
    device = situation.county.device_by_id.get(name)
    if device is None:
        yield _say(ReasonKind.SCOPE, f"{name}: not in the inventory, and nothing outside it is ever contacted")
        return
    if device.network != EXTRANET:
        yield _say(ReasonKind.SCOPE, f"{name}: a legacy router is never replaced whole")
    if able is None:
        yield _say(ReasonKind.CAPABILITY, f"{name}: what it can do is not known")
    elif not accepted:
        lacks = f"{name}: platform {able.platform}"
        if not able.rollback_timer:
            yield _say(ReasonKind.CAPABILITY, f"{lacks} has no rollback timer: accept that in the ledger first")
        if not able.candidate_check:
            yield _say(ReasonKind.CAPABILITY, f"{lacks} cannot check a candidate: accept that in the ledger first")
    change = situation.changes.get(name)
    if change is not None and not change.finished and change.key != situation.resuming:
        todo = "run the same command again to finish it"
        yield _say(ReasonKind.UNFINISHED, f"{name}: a change is unfinished ({change.key}): {todo}")


def judge_cutover(unit_id: str, situation: Situation) -> Verdict:
    """Judge whether a unit's old path may be withheld to try the new one.

    Asks for the state, the order (the county's unit first), that no less is asked than when it was cut over before, and
    proof of everything on its legs that provisioning alone provides, isolation included: what already fails now would
    fail then. The rest cannot be measured before the trial; `judge_proof` judges it.
    """
    unit = find_unit(situation.county, unit_id)
    record = situation.record(unit_id)
    reasons = _standing(record, situation, {UnitState.PROVISIONED, UnitState.PROVEN}, "cut over")
    hub = county_unit(situation.county, unit.network)
    if hub is not None and hub.id != unit.id and not situation.record(hub.id).state.reached(UnitState.CUT_OVER):
        found = situation.record(hub.id).state
        why = f"{hub.id} cuts over first - expected cut_over, found {found}{_cut_over_first(hub.id, found)}"
        reasons.append(_say(ReasonKind.ORDER, why))
    kept = situation.policies.kept.get(unit_id)
    if kept is not None:  # it was cut over before and given back: new terms would forget what was asked then
        reasons += [*_loosened(unit_id, kept, situation), *_dropped(unit, unit, kept, situation)]
    reasons += judge_legs(unit, situation, provided_only=True)
    return _verdict("cutover", unit_id, reasons, situation)


def judge_trial(unit_id: str, situation: Situation, *, together: Iterable[str] = ()) -> Verdict:
    """Judge whether a unit's old path may be withheld for a while, to be given back whatever comes of it.

    Before cutover that is the cutover itself, so its gate is asked; after it, the old line is closed by a timer, so
    everybody who used it must be cut over. `together` are the units of the same trial: a town's line stays up while a
    village behind it holds it up, so those must be tried with it.
    """
    unit, record = find_unit(situation.county, unit_id), situation.record(unit_id)
    if not record.state.reached(UnitState.CUT_OVER):
        return judge_cutover(unit_id, situation)
    reasons = _standing(record, situation, _LINE_UP, "prove")
    for user in users_of(situation.county, unit, Stage.DRAIN):
        state = situation.record(user.id).state
        if not state.reached(UnitState.CUT_OVER):
            why = (
                f"{user.id} is still carried by it - expected cut_over, found {state}{_cut_over_first(user.id, state)}"
            )
            reasons.append(_say(ReasonKind.DEPENDENT, why))
    reasons += _holding_up(unit, situation, tuple(dict.fromkeys((unit_id, *together))))
    return _verdict("trial", unit_id, reasons, situation)


def _holding_up(unit: Unit, situation: Situation, going: tuple[str, ...]) -> Iterator[Reason]:
    """Give a reason for who keeps a town's line up while it is to be withheld; the county's own goes down by itself."""
    if unit.site == situation.county.county_site.id:
        return
    states = {u.id: situation.record(u.id).state for u in units_behind(situation.county, unit)}
    up = f"hangs behind the line of {unit.id}, which stays up for it"
    for name, state in states.items():
        if not state.reached(UnitState.CUT_OVER):
            yield _say(
                ReasonKind.DEPENDENT, f"{name} {up} - expected cut_over, found {state}{_cut_over_first(name, state)}"
            )
    apart = [n for n, state in states.items() if state in _LINE_UP and n not in going]
    for name in apart:
        todo = f"name them all, 'extranet prove {' '.join((*going, *apart))}'"
        yield _say(ReasonKind.DEPENDENT, f"{name} {up} - expected it in the same proof, found it left out: {todo}")


def judge_proof(unit_id: str, situation: Situation, *, since: datetime, together: Iterable[str] = ()) -> Verdict:
    """Judge, with the old path withheld, whether the new one carries everything: keep it, or go back.

    Only runs that began at `since` (when the old path was withheld) or later count, and of those only the ones that
    name in `withheld` the unit and all units that go `together` with it: one may have been the other's backup. For a unit
    that is cut over it is the trial before its next stage, whose exceptions it takes.
    """
    unit = find_unit(situation.county, unit_id)
    state = situation.record(unit_id).state
    gate = next_stage(state) if state.reached(UnitState.CUT_OVER) else "proof"
    away = tuple(Away((name,), trial=frozenset({unit.id, *together})) for name in dict.fromkeys((unit.id, *together)))
    return _verdict(gate, unit_id, judge_legs(unit, situation, since=since, away=away), situation)


def judge_together(
    units: Iterable[str], stage: Stage | str, situation: Situation, *, wave: Iterable[str] = ()
) -> dict[str, Verdict]:
    """Judge a stage of retirement for units that go in one wave: none may lean on another that goes with it.

    Evidence counts for a unit only when the old paths of all others in the wave were out of use while it was taken:
    withheld in that run, or left by their own cutover before it began. `wave` names units besides that go at the same
    time, in this stage or another.
    """
    asked = tuple(dict.fromkeys(units))
    going = frozenset({*asked, *wave})
    return {unit: judge_retirement(unit, stage, situation, together=going) for unit in asked}


def judge_retirement(
    unit_id: str, stage: Stage | str, situation: Situation, *, together: Iterable[str] = ()
) -> Verdict:
    """Judge whether a stage of a unit's retirement may begin.

    Asks for the state, the time in it, that policy and survey ask no less than when the unit was cut over, that nobody else
    still hangs on the link, that the extranet does not run over what is taken away, that the old line was watched and
    seen unused, and proof for everybody who used it, measured while the old line was closed: by a trial (`judge_trial`), or
    once it is shut - a drain leaves it up, and what leans on it works; to shut and to remove also that the configurations
    of its routers are archived. `together` are the units that go in the same wave: the proof must hold without any of
    their old lines.
    """
    stage = Stage(stage)
    unit = find_unit(situation.county, unit_id)
    record = situation.record(unit_id)
    reasons = _standing(record, situation, _BEFORE[stage], stage.value)
    terms = situation.policies.terms
    if record.state.reached(UnitState.CUT_OVER):
        reasons += _loosened(unit_id, terms.get(unit_id), situation)
    if stage is Stage.DRAIN:
        reasons += _waited(record, UnitState.CUT_OVER, situation.policy.timers.soak_s, ReasonKind.SOAK, situation)
    if stage is Stage.REMOVE:
        reasons += _waited(record, UnitState.SHUT, situation.policy.timers.hold_s, ReasonKind.HOLD, situation)
    if stage is not Stage.DRAIN:
        reasons += [_say(ReasonKind.ARCHIVE, why) for why in judge_archives(situation.county, unit, situation.archives)]
    reasons += _dependents(unit, stage, situation)
    reasons += _carried(unit, stage, situation)
    reasons += judge_soak(unit, situation, stage.value)
    others = tuple(u for u in dict.fromkeys(together) if u != unit.id)
    shut = {u: situation.record(u).entered.get(UnitState.SHUT) for u in (unit.id, *others)}
    trial = frozenset(u for u, at in shut.items() if at is None)
    away = (
        *(Away((u,), at, trial=trial) for u, at in shut.items()),
        # Whoever went before, by whatever command: this one may have been its backup, while its path was still there.
        *(Away((u,), at, trial=trial) for u, at in situation.lately_gone if u not in shut),
    )
    for user in users_of(situation.county, unit, stage):
        reasons += _dropped(user, unit, terms.get(user.id), situation)
        reasons += judge_legs(user, situation, after_cutover=True, away=away)
    return _verdict(stage.value, unit_id, reasons, situation)


def users_of(county: County, unit: Unit, stage: Stage) -> tuple[Unit, ...]:
    """Return the units whose people a stage of this unit's retirement concerns: its own, those behind it, those it serves.

    A town's line carries its villages too, but draining the town takes only the town's own route away.
    """
    at_county = unit.site == county.county_site.id
    behind = units_behind(county, unit) if stage is not Stage.DRAIN or at_county else ()
    others = (*behind, *units_served(county, unit))
    return tuple(dict.fromkeys((unit, *others))) if others else (unit,)


def judge_back(unit_id: str, situation: Situation) -> Verdict:
    """Judge whether a unit may go back a step: its old path must still be able to carry it."""
    unit = find_unit(situation.county, unit_id)
    county = situation.county
    record = situation.record(unit_id)
    reasons: list[Reason] = []
    if record.state.reached(UnitState.REMOVED):
        todo = f"'extranet archive rebuild {unit_id} --out DIR' writes what it takes to build the line anew"
        why = f"{record.state} has no way back: its configuration is gone; {todo}"
        reasons.append(_say(ReasonKind.NO_WAY_BACK, why))
    elif not record.state.reached(UnitState.PROVISIONED) and record.intent is None:
        why = f"there is nothing to go back from - expected provisioned or later, found {record.state}"
        reasons.append(_say(ReasonKind.STATE, why))
    if unit == county_unit(county, unit.network) and record.state in {UnitState.CUT_OVER, UnitState.SOAKED}:
        later = {u.id: situation.record(u.id).state for u in units_behind(county, unit)}
        reasons += [
            _say(ReasonKind.ORDER, f"{name} must go back first - expected provisioned, found {state}")
            for name, state in later.items()
            if state.reached(UnitState.CUT_OVER)
        ]
    for above in _carriers(county, unit):
        state = situation.record(above.id).state
        if state.reached(UnitState.SHUT) and record.state.reached(UnitState.CUT_OVER):
            why = f"{above.id} carries its old path and must go back first - expected drained or before, found {state}"
            reasons.append(_say(ReasonKind.ORDER, why))
    return _verdict("back", unit_id, reasons, situation)


def _cut_over_first(unit: str, state: UnitState) -> str:
    """Say what to run for a unit that is to be cut over, and that has perhaps nothing on the extranet yet."""
    if not state.reached(UnitState.PROVISIONED):
        return ": provision it first, 'extranet config push --yes'"
    return f": cut it over first, 'extranet cutover {unit} --yes'"


def _standing(record: UnitRecord, situation: Situation, states: set[UnitState], act: str) -> list[Reason]:
    out = [_say(ReasonKind.RECORD, f"the record of {record.unit} holds what cannot be: {p}") for p in record.problems]
    out += [
        _say(
            ReasonKind.UNFINISHED,
            f"a change of {record.unit} is unfinished ({event.key}): {_say_again(record.unit, event)}",
        )
        for event in record.open
        if event.key != situation.resuming
    ]
    if record.state not in states:
        expected = " or ".join(s for s in UnitState if s in states)
        early = record.state.rank < min(s.rank for s in states) and not record.state.reached(UnitState.CUT_OVER)
        todo = _cut_over_first(record.unit, record.state) if early else ""
        why = f"{record.unit} cannot {act} now - expected {expected}, found {record.state}{todo}"
        out.append(_say(ReasonKind.STATE, why))
    return out


_COMMANDS = {
    Step.PROVE: "prove {}",
    Step.CUTOVER: "cutover {}",
    Step.DRAIN: "retire {} --until drained",
    Step.SHUT: "retire {} --until shut",
    Step.REMOVE: "retire {}",
}


def _say_again(unit: str, intent: Event) -> str:
    """Say what finishes a step that was begun, by its intent."""
    command = _COMMANDS.get(intent.body.get("step", ""))
    if intent.body.get("step") == Step.BACK:
        begun = intent.body.get("from")
        command = "retire {} --undo" if begun in {UnitState.DRAINED, UnitState.SHUT} else "cutover {} --back"
    if command is None:
        return "run the same command again to finish it"
    return f"run the same command again to finish it, 'extranet {command.format(unit)} --yes'"


def _loosened(unit: str, terms: Terms | None, situation: Situation) -> list[Reason]:
    """Give a reason for each value of the policy that asks less than when the unit's cutover was allowed."""
    if terms is None:
        why = f"the policy that {unit} was cut over under is not on record, so nobody can tell whether it was loosened"
        return [_say(ReasonKind.POLICY, why, "not on record")]
    loosened = situation.loosened_since.get(terms.digest)
    if loosened is None:
        why = f"the policy that {unit} was cut over under is not on record - expected {terms.digest[:12]}, found none"
        return [_say(ReasonKind.POLICY, why, f"not on record: {terms.digest}")]
    todo = f"put it back in policy.yaml, or let two answer for it: 'extranet gate except {unit} --kind policy'"
    return [
        _say(
            ReasonKind.POLICY,
            f"policy {one.name} was {one.then} when the cutover of {unit} was allowed ({say_moment(terms.at)}), "
            f"is {one.now} now: {todo}",
            one.change,
        )
        for one in loosened
    ]


def _dropped(user: Unit, unit: Unit, terms: Terms | None, situation: Situation) -> list[Reason]:
    """Give a reason for each need and ban of a user's windows, as of its cutover, that nothing asks for now, or otherwise."""
    if terms is None:
        return []  # it is not cut over, or its terms are not on record: other reasons say so
    if terms.asked is None or terms.services is None or any(one[2] not in terms.services for one in terms.asked):
        why = f"what the windows of {user.id} needed when it was cut over is not on record, so nobody can tell what was dropped"
        return [_say(ReasonKind.POLICY, why, f"needs not on record: {user.id}")]
    cells, sites, asks = situation.cells, situation.sites, situation.county.asks
    # What went elsewhere with its station is gone from here, too.
    dropped = [one for one in terms.asked if one not in cells or sites.get(one[0]) != user.site]
    # What is gone altogether was dropped, and is said so.
    otherwise = [name for name, then in terms.services.items() if asks.get(name, then) != then]
    if not dropped and not otherwise:
        return []
    when = f"when the cutover of {user.id} was allowed ({say_moment(terms.at)})"
    todo = f"put the survey's tables back, or let two answer for it: 'extranet gate except {unit.id} --kind policy'"
    out = [
        Reason(
            station=station,
            service=service,
            why=f"{'needed' if expect == 'reach' else 'kept apart'} from {plane}, {family}, {when}, is not asked for now: {todo}",
            kind=ReasonKind.POLICY,
            aspect=f"{plane}/{family}/{expect} dropped",
        )
        for station, plane, service, family, expect in dropped
    ]
    for name in otherwise:
        then, now = terms.services[name], asks[name]
        why = f"{name} was {then} {when}, is {now} now: {todo}"
        aspect = f"{user.id}: {then} → {now}"
        out.append(Reason(station="", service=name, why=why, kind=ReasonKind.POLICY, aspect=aspect))
    return out


def _waited(
    record: UnitRecord, state: UnitState, wanted_s: int, kind: ReasonKind, situation: Situation
) -> list[Reason]:
    since = record.entered.get(state)
    if since is None:
        return [_say(ReasonKind.STATE, f"{record.unit} has not begun to {kind}: it never came to {state}")]
    waited_s = (situation.now - since).total_seconds()
    if waited_s < 0:
        why = f"{record.unit} came to {state} in the future ({say_moment(since)}): set the clock right"
        return [_say(ReasonKind.CLOCK, why)]
    if waited_s < wanted_s:
        left = say_span(wanted_s - waited_s)
        end = say_moment(since + timedelta(seconds=wanted_s))
        why = f"the {kind} of {record.unit} is not over - expected {say_span(wanted_s)}, {left} left, until {end}"
        return [_say(kind, why, say_wait(state, since))]
    return []


def _carried(unit: Unit, stage: Stage, situation: Situation) -> list[Reason]:
    """Give a reason for each extranet line that what this stage takes away would cut: a port is not shut while one ends on it.

    Who took the cable over (`reuses`) is asked when the line is given back (`release.judge_release`).
    """
    line = situation.county.circuit_by_id[unit.circuit]
    out = []
    if stage is not Stage.DRAIN:
        for device, port in sorted(line_ends(line) & situation.extranet_ends.keys()):
            over = situation.extranet_ends[device, port]
            why = f"{over} of the extranet ends on {device} {port}, which this would take down"
            out.append(_say(ReasonKind.LINE, why))
    return out


def _dependents(unit: Unit, stage: Stage, situation: Situation) -> list[Reason]:
    county = situation.county
    if stage is Stage.DRAIN and unit.site != county.county_site.id:
        return []
    wanted = UnitState.REMOVED if stage is Stage.REMOVE else UnitState.SHUT
    out = []
    for other in units_behind(county, unit):
        record = situation.record(other.id)
        if not record.state.reached(wanted):
            why = f"{other.id} still hangs on this link - expected {wanted} or later, found {record.state}"
            out.append(_say(ReasonKind.DEPENDENT, why))
        out += [
            _say(
                ReasonKind.UNFINISHED,
                f"a change of {other.id} is unfinished ({event.key}): {_say_again(other.id, event)}",
            )
            for event in record.open
        ]
        out += [_say(ReasonKind.RECORD, f"the record of {other.id} holds what cannot be: {p}") for p in record.problems]
    return out


def _carriers(county: County, unit: Unit) -> Iterator[Unit]:
    """Units whose link carries this one's old path: the town's for a village's, the county's for all."""
    circuit = county.circuit_by_id[unit.circuit]
    for other in county.units:
        if other.id != unit.id and circuit.far_device is not None:
            theirs: Circuit = county.circuit_by_id[other.circuit]
            if theirs.device == circuit.far_device and other.network == unit.network:
                yield other


def _say(kind: ReasonKind, why: str, aspect: str = "") -> Reason:
    return Reason(station="", service="", why=why, kind=kind, aspect=aspect)


def _verdict(gate: str, unit: str | None, reasons: Iterable[Reason], situation: Situation) -> Verdict:
    stand, excused = excuse(unit, gate, reasons, situation.waivers, situation.now)
    return Verdict(gate=gate, unit=unit, allowed=not stand, reasons=stand, excused=excused)
