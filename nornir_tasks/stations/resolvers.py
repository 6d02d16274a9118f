"""Whom a station asks for names: its own configuration says it, and the inventory says whom it may ask.

A name in the station's own table of hosts is asked of nobody, in no family; so there it may stand only as planned. And its
programs must come to ask a name server at all: nsswitch.conf(5) says where they look names up, and in what order.
"""

from __future__ import annotations

import re
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
    lookups = _texts(told.get("lookups"), "names")
    if lookups is None:
        return _untold(told.get("lookups"), f"where programs of {check.station} look names up")
    where = f"{told.get('file')} of {check.station}, for leg {check.interface}"
    allowed = {ip_address(a) for a in check.resolvers}
    strange = [n for n in dict.fromkeys(names) if _read(n) not in allowed]
    if strange:
        found = ", ".join(n + _say_whose(n, check.plane, county) for n in strange)
        return _failed(f"{where} - expected to ask only {expected}, as the inventory names, found {found}")
    if elsewhere := _say_elsewhere(check, pinned, county):
        return _failed(f"{told['hosts'].get('file')} of {check.station} - expected {elsewhere}")
    for line in lookups:
        if why := say_unasked(line, check.dns_name):
            file = f"{told['lookups'].get('file')} of {check.station}"
            return _failed(f"{file} - expected names to be asked of a name server, found 'hosts: {line}', {why}")
    if not names:
        return _failed(f"{where} - expected to ask {expected}, found no nameserver in it")
    words = f"{check.station} itself asks {', '.join(names)} from leg {check.interface}"
    return Finding(aspect=RESOLVER_ASPECT, outcome=Outcome.PASSED, detail=words)


def _texts(told: Any, name: str) -> list[str] | None:
    """Return a list of texts that a station told; None where it told none."""
    found = told.get(name) if isinstance(told, Mapping) else None
    return found if isinstance(found, list) and all(isinstance(text, str) for text in found) else None


def say_unasked(line: str, name: str) -> str:
    """Say why programs never ask a name server for a name that nothing else knows; empty when they do.

    `line` is where hosts are looked up, as nsswitch.conf(5) has it: sources, with actions in brackets behind some.
    """
    # An mDNS source takes no part in other names than those of .local; another may not know, or not be there.
    words = _LOOKUP.findall(line.lower())
    asked, gives = "", frozenset[str]()
    for word in words:
        if not word.startswith("["):
            if word in _ASK_A_SERVER:
                return ""
            asked = word
            aside = word.startswith("mdns") and not name.rstrip(".").lower().endswith(".local")
            gives = frozenset({"unavail"}) if aside else frozenset({"notfound", "unavail"})
        elif asked and gives & _ends_on(word):
            after = next((w for w in words if w in _ASK_A_SERVER), "")
            return (
                f"which stops at {asked} {word.upper()}, before {after}"
                if after
                else "in which neither dns nor resolve is"
            )
    return "in which neither dns nor resolve is"


_LOOKUP = re.compile(r"\[[^\]]*\]?|[^\s\[\]]+")
_ACTION = re.compile(r"(!?)(success|notfound|unavail|tryagain)=(return|continue|merge)")
_ASK_A_SERVER = frozenset({"dns", "resolve"})
_STATUSES = frozenset({"success", "notfound", "unavail", "tryagain"})


def _ends_on(actions: str) -> frozenset[str]:
    """Return the statuses upon which actions in brackets end the search; all of them when they cannot be read."""
    ends: frozenset[str] = frozenset()
    for word in actions.strip("[]").split():
        found = _ACTION.fullmatch(word)
        if found is None:
            return _STATUSES
        meant = _STATUSES - {found[2]} if found[1] else frozenset({found[2]})
        ends = ends | meant if found[3] == "return" else ends - meant
    return ends


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
