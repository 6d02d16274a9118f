"""Whether lines carry their floor: one station a line sends a little, evenly, to a sink at the server.

A probe never sends faster than the floor it asks for, and all probes that run at once take no more than half of any line
they cross: villages share their town's line.
"""

from __future__ import annotations

import secrets
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, NamedTuple

from inventory.model import EXTRANET, County
from nornir_tasks.stations.model import Check, Finding, Missing, Outcome

SECONDS = 1.0
_WAIT_S = 10.0
"""How long a station waits for the sink to be there."""
_A_FLOW_S = 6.0
_AT_ONCE = 16
_MOST_SHARE = 0.5
"""The share of any line that probes take together."""
_FIRST_PORT, _PORTS = 40000, 20000

Ask = Callable[[str, Mapping[str, Any], float], Mapping[str, Any]]
"""Asks a vantage (by id) for something within a time, and returns its answer."""
Listen = Callable[[str, Mapping[str, Any]], "subprocess.Popen[bytes]"]
"""Starts a vantage's session and leaves it running."""


class Carried(NamedTuple):
    """What came of one check's flow."""

    finding: Finding
    raw: Mapping[str, Any]


def measure_floors(checks: Sequence[Check], county: County, ask: Ask, listen: Listen) -> dict[str, Carried]:
    """Measure each check's line; return what came of it by check id, never fewer than asked."""
    flows = {c.id: _flow(c) for c in checks}
    by_server: dict[str, list[dict[str, Any]]] = {}
    for check in checks:
        by_server.setdefault(check.server, []).append(flows[check.id])
    out: dict[str, Carried] = {}

    def measure(check: Check) -> None:
        out[check.id] = _measure_one(check, flows[check.id], ask)

    with _sinks(by_server, len(checks), listen), ThreadPoolExecutor(_AT_ONCE) as pool:
        for together in share_out(checks, county):
            list(pool.map(measure, together))
    return out


def share_out(checks: Sequence[Check], county: County) -> list[list[Check]]:
    """Return the checks in rounds, such that those of one round take together at most half of any line they cross.

    One that takes more by itself, or crosses a line of unknown bandwidth, has that line for itself.
    """
    most_kbps: dict[str, float] = {}
    for circuit in county.circuits:
        if circuit.network == EXTRANET:
            most_kbps.setdefault(circuit.site, _MOST_SHARE * 1000 * (circuit.bandwidth_mbps or 0))
    rounds: list[list[Check]] = []
    taken: list[Counter[str]] = []
    for check in checks:
        site = county.station_by_id[check.station].site
        more = dict.fromkeys({site, county.town_of(site)}, check.floor_kbps)
        fits = (
            number
            for number, kbps in enumerate(taken)
            if all(not kbps[line] or kbps[line] + more[line] <= most_kbps.get(line, 0) for line in more)
        )
        number = next(fits, len(rounds))
        if number == len(rounds):
            rounds.append([])
            taken.append(Counter())
        rounds[number].append(check)
        taken[number].update(more)
    return rounds


def _flow(check: Check) -> dict[str, Any]:
    port = _FIRST_PORT + secrets.randbelow(_PORTS)
    return {
        "token": secrets.token_hex(8),
        "address": check.address,
        "port": port,
        "kbps": check.floor_kbps,
        "seconds": SECONDS,
        "wait_s": _WAIT_S,
    }


@contextmanager
def _sinks(by_server: Mapping[str, list[dict[str, Any]]], number: int, listen: Listen) -> Iterator[None]:
    """Keep a sink at each server for the block. One that cannot be is noticed by who sends to it: nobody answers."""
    deadline_s = _WAIT_S + number * _A_FLOW_S
    sessions = [listen(server, {"sinks": sinks, "deadline_s": deadline_s}) for server, sinks in by_server.items()]
    try:
        yield
    finally:
        for session in sessions:
            session.terminate()
            session.wait()


def _measure_one(check: Check, flow: Mapping[str, Any], ask: Ask) -> Carried:
    words = {"family": check.family.value, "address": check.address, "interface": check.interface}
    try:
        answer = ask(check.station, {"flow": {**flow, "check": words}}, _WAIT_S + _A_FLOW_S)
        return Carried(Finding.model_validate(answer["finding"]), answer.get("raw") or {})
    except Exception as error:  # noqa: BLE001 - the one boundary per flow: recorded, never lost
        why = getattr(error, "why", None) or f"{type(error).__name__}: {error}"
        missing = getattr(error, "missing", Missing.UNPARSABLE)
        return Carried(Finding(aspect="throughput", outcome=Outcome.UNKNOWN, detail=str(why), missing=missing), {})
