"""The way back: what a vantage at the service's side is asked to measure towards the stations, and what it said.

An answer may take another way than the question. Only the host that answers can measure that way, so the agent runs
there as well: one session a server, all of its stations' ways in it, each measured once however many checks use it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from inventory.model import EXTRANET, County
from inventory.topology import site_router
from nornir_tasks.stations.hops import HopBook, judge_return
from nornir_tasks.stations.model import FROM_THE_SERVER, Check, Finding, Missing, Outcome, WayAspect


class WayBack(NamedTuple):
    """From a service's address, on its server, to the address of a station's leg."""

    server: str
    source: str
    address: str
    station: str
    plane: str

    @property
    def id(self) -> str:
        """How an answer names it."""
        return f"{self.source}>{self.address}@{self.station}/{self.plane}"


@dataclass
class Sights:
    """What servers' vantages saw: a row of the agent's answer by way; `silent` says why a vantage saw nothing.

    `said` holds each vantage's answer as it came, behind its digest.
    """

    rows: dict[WayBack, Mapping[str, Any]] = field(default_factory=dict)
    said: dict[str, tuple[str, str]] = field(default_factory=dict)
    silent: dict[str, tuple[str, Missing]] = field(default_factory=dict)

    def merge(self, other: Sights) -> None:
        """Take in what another vantage saw."""
        self.rows |= other.rows
        self.said |= other.said
        self.silent |= other.silent


def way_back_of(check: Check) -> WayBack | None:
    """Return the way back that a check asks for."""
    if check.expect != "reach" or not FROM_THE_SERVER & set(check.way):
        return None
    return WayBack(check.server, check.address, check.source, check.station, check.plane)


def ways_by_server(checks: Iterable[Check]) -> dict[str, dict[WayBack, list[str]]]:
    """Return every way back that checks ask for, with its aspects, by the server that is asked."""
    out: dict[str, dict[WayBack, set[str]]] = {}
    for check in checks:
        way = way_back_of(check)
        if way is not None and way.server and way.address:
            wanted = {a.value for a in check.way if a in FROM_THE_SERVER}
            out.setdefault(way.server, {}).setdefault(way, set()).update(wanted)
    return {server: {way: sorted(aspects) for way, aspects in ways.items()} for server, ways in out.items()}


def request_of(ways: Mapping[WayBack, list[str]], book: HopBook, county: County) -> list[dict[str, Any]]:
    """Return the ways as the agent is asked for them.

    `ends` holds the addresses of the last router before the station: a way is seen when one of them has answered. The
    station itself need not answer, and many with several legs cannot from the leg that was asked. A legacy router at the
    station's place ends it as well: with it the verdict is known, and nobody waits for the silence behind it.
    """
    return [
        {
            "id": way.id,
            "family": "ipv6" if ":" in way.address else "ipv4",
            "address": way.address,
            "source": way.source,
            "way": aspects,
            "ends": last_router(way.station, way.plane, book, county)
            + _old_routers(way.station, way.plane, book, county),
        }
        for way, aspects in ways.items()
    ]


def last_router(station: str, plane: str, book: HopBook, county: County) -> list[str]:
    """Return the addresses with which the extranet's router at a station's site may answer in a plane."""
    router = site_router(county, county.station_by_id[station].site).id
    return book.addresses_of(router, plane)


def _old_routers(station: str, plane: str, book: HopBook, county: County) -> list[str]:
    site = county.station_by_id[station].site
    places = {site, county.town_of(site)} - {county.county_site.id}
    old = [d.id for d in county.devices if d.network != EXTRANET and d.site in places]
    return [address for device in old for address in book.addresses_of(device, plane)]


class BackVerdict(NamedTuple):
    """What the way back adds to a result."""

    findings: tuple[Finding, ...]
    hops: tuple[str, ...]
    raw: dict[str, Any]


def judge_way_back(check: Check, spoke_from: str, sights: Sights, book: HopBook, county: County) -> BackVerdict:
    """Judge the way back of a check; `spoke_from` is the address that the station's leg really used.

    Whatever was not measured is unknown, by name: no vantage, a vantage that did not answer, a way to another address.
    """
    way = way_back_of(check)
    if way is None:
        return BackVerdict((), (), {})
    wanted = [a for a in check.way if a in FROM_THE_SERVER]
    why, missing = _find_gap(way, spoke_from, sights)
    if missing is not None:
        found = (Finding(aspect=a, outcome=Outcome.UNKNOWN, detail=why, missing=missing) for a in wanted)
        return BackVerdict(tuple(found), (), {})
    row = sights.rows[way]
    findings: list[Finding] = []
    hops: tuple[str, ...] = ()
    raw: dict[str, Any] = {}
    if WayAspect.RETURN in wanted:
        trace = row.get("trace") or {}
        verdict = judge_return(check, trace, book, county, last_router(check.station, check.plane, book, county))
        findings.append(verdict.finding)
        hops = verdict.hops
        raw["hops_back"] = trace.get("hops")
    if WayAspect.MTU_BACK in wanted:
        findings += [Finding.model_validate(f) for f in row.get("findings", ()) if f.get("aspect") == "mtu-back"]
        raw["bytes_back"] = (row.get("raw") or {}).get("bytes")
    return BackVerdict(tuple(findings), hops, raw)


def _find_gap(way: WayBack, spoke_from: str, sights: Sights) -> tuple[str, Missing | None]:
    if not way.server or not way.address:
        return "the way back - expected from a known server to a known leg, found none named", Missing.SKIPPED
    if way.server in sights.silent:
        return sights.silent[way.server]
    row = sights.rows.get(way)
    if row is None:
        return f"the vantage at {way.server} - expected to speak of {way.id}, found nothing", Missing.NEVER_RUN
    if row.get("problem"):
        return f"the vantage at {way.server} - expected to measure, found {row['problem']}", Missing.UNPARSABLE
    if spoke_from != way.address:
        what = f"the address that the station speaks from ({spoke_from or 'none'})"
        return f"the way back - expected measured to {what}, found {way.address}", Missing.NEVER_RUN
    return "", None
