"""Whom a station asks for names: its own configuration says it, and the inventory says whom it may ask.

A name in the station's own table of hosts is asked of nobody, in no family; so there it may stand only as planned.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any

from inventory.model import County
from nornir_tasks.stations.model import RESOLVER_ASPECT, Check, Finding, Missing, Outcome


def judge_resolvers(check: Check, told: Any, county: County) -> Finding:
    """Judge a leg's own resolvers: each must be one that the inventory names for the check; none is no pass."""
    expected = " or ".join(check.resolvers)
    names = _texts(told, "names")
    if names is None:
        return _untold(told, f"the resolvers that {check.station} itself asks from leg {check.interface}")
    pinned = _texts(told.get("hosts"), "addresses")
    if pinned is None:
        return _untold(told.get("hosts"), f"the table of hosts of {check.station}")
    where = f"{told.get('file')} of {check.station}, for leg {check.interface}"
    allowed = {ip_address(a) for a in check.resolvers}
    strange = [n for n in dict.fromkeys(names) if _read(n) not in allowed]
    if strange:
        found = ", ".join(n + _say_whose(n, check.plane, county) for n in strange)
        return _failed(f"{where} - expected to ask only {expected}, as the inventory names, found {found}")
    if elsewhere := _say_elsewhere(check, pinned, county):
        return _failed(f"{told['hosts'].get('file')} of {check.station} - expected {elsewhere}")
    if not names:
        return _failed(f"{where} - expected to ask {expected}, found no nameserver in it")
    words = f"{check.station} itself asks {', '.join(names)} from leg {check.interface}"
    return Finding(aspect=RESOLVER_ASPECT, outcome=Outcome.PASSED, detail=words)


def _texts(told: Any, name: str) -> list[str] | None:
    """Return a list of texts that a station told; None where it told none."""
    found = told.get(name) if isinstance(told, Mapping) else None
    return found if isinstance(found, list) and all(isinstance(text, str) for text in found) else None


def _say_elsewhere(check: Check, pinned: list[str], county: County) -> str:
    """Say where a station's own table of hosts leads; empty when the name is not in it, or at the planned address."""
    planned = ip_address(check.address)
    own = {read for a in pinned if (read := _read(a)) is None or read.version == planned.version}
    if not pinned or own == {planned}:
        return ""
    found = ", ".join(a + _say_whose(a, check.plane, county) for a in dict.fromkeys(pinned))
    return f"{check.dns_name} not in it, or at {planned}, found {found}"


def _untold(told: Any, what: str) -> Finding:
    """Say that a station told nothing: there is a file and it cannot be read, or nobody looked."""
    file = told.get("file") if isinstance(told, Mapping) else None
    words = f"{what} - expected told, found " + (f"that it cannot read {file}" if file else "nothing")
    return Finding(aspect=RESOLVER_ASPECT, outcome=Outcome.UNKNOWN, detail=words, missing=Missing.NEVER_RUN)


def _failed(words: str) -> Finding:
    return Finding(aspect=RESOLVER_ASPECT, outcome=Outcome.FAILED, detail=words)


def _read(name: str) -> Any:
    try:
        return ip_address(name)
    except ValueError:
        return None


def _say_whose(name: str, plane: str, county: County) -> str:
    """Say whose old network an address is in; of departments with the same ranges, that of the leg's own plane."""
    address = _read(name)
    own = sorted(county.networks, key=lambda n: n.plane != plane)
    whose = [n.id for n in own if any(address in p for p in n.prefixes if address and p.version == address.version)]
    return f" (an address of the old network {whose[0]})" if whose else ""
