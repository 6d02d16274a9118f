"""Whose routers are on a path: names for every address a router may answer with, and the verdict on a measured path.

Addresses are named per plane, because two legacy networks may use the same ranges. IPv6 addresses of the extranet are
unique, so a hop of another plane is seen as such. One kind of address says nothing by itself: a unit's IPv4 gateway is
held by the legacy router before cutover and by the extranet's after. What follows it decides: every legacy path runs
over a line's /30 to the hub, every extranet path over links of the extranet.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from functools import cached_property
from ipaddress import ip_address
from typing import Any, Literal

from addressing.model import AddressPlan
from inventory.model import EXTRANET, County, Model, PlaneKind
from inventory.topology import End, Lan, Link, Topology
from nornir_tasks.stations.model import Check, Finding, Missing, Outcome


class Hop(Model):
    """Who answers with an address. A `gateway` is `name` of the extranet after cutover, `legacy_name` before."""

    name: str
    kind: Literal["extranet", "legacy", "gateway"]
    legacy_name: str = ""


class HopBook(Model):
    """Every router address that may be met, by plane and address."""

    planes: dict[str, dict[str, Hop]]

    def find(self, plane: str, address: str) -> Hop | None:
        """Return who has this address in a plane, None when nobody known has."""
        return self.planes.get(plane, {}).get(address)

    def addresses_of(self, device: str, plane: str) -> list[str]:
        """Return a router's addresses in a plane, those excepted that both an old and a new router may hold."""
        return self._addresses.get((device, plane), [])

    @cached_property
    def _addresses(self) -> dict[tuple[str, str], list[str]]:
        out: dict[tuple[str, str], list[str]] = {}
        for plane, book in self.planes.items():
            for address, hop in book.items():
                if hop.kind != "gateway":
                    out.setdefault((hop.name.partition(":")[0], plane), []).append(address)
        return out

    def anywhere(self, address: str) -> list[Hop]:
        """Return who has an address in whatever plane."""
        return [book[address] for book in self.planes.values() if address in book]

    def elsewhere(self, address: str) -> tuple[str, Hop] | None:
        """Return (plane, hop) of the first plane that knows an address."""
        return next(((plane, book[address]) for plane, book in self.planes.items() if address in book), None)


class PathVerdict(Model):
    """What a path proves, and its hops by name."""

    finding: Finding
    hops: tuple[str, ...]


def name_hops(topology: Topology, plan: AddressPlan, county: County) -> HopBook:
    """Name every address of the extranet's routers and of the legacy networks' routers, per plane.

    Raises:
        KeyError: the plan lacks a record that the topology needs.
    """
    naming = _Naming(county)
    for link in topology.links:
        if link.plane is None:
            naming.name_line(link)
        else:
            for pair in (plan.link6(link.circuit, link.plane), plan.link4(link.circuit)):
                naming.name_ends(link.plane, zip((link.a, link.b), pair, strict=True))
    for lan in topology.lans:
        naming.name_lan(lan, plan)
    shared = county.plane_of_kind(PlaneKind.SHARED).id
    for hairpin in topology.hairpins:
        for ends in (plan.hairpin6(hairpin.device, hairpin.plane), plan.hairpin4(hairpin.device, hairpin.plane)):
            if ends is not None:
                naming.name_ends(hairpin.plane, [(hairpin.inner, ends[0])])
                naming.name_ends(shared, [(hairpin.outer, ends[1])])
    for device in county.devices:
        if device.network == EXTRANET:
            for plane in naming.planes:
                naming.put(plane, plan.loopback(device.id), Hop(name=f"{device.id}:lo", kind="extranet"))
    return HopBook(planes=naming.planes)


class _Naming:
    """Gathers names; where an address is claimed twice, legacy wins: better a false alarm than a false proof."""

    def __init__(self, county: County) -> None:
        self.county = county
        self.planes: dict[str, dict[str, Hop]] = {p.id: {} for p in county.policy.planes}

    def put(self, plane: str, address: object, hop: Hop) -> None:
        held = self.planes[plane].get(str(address))
        if held is None or held.kind == "extranet" or hop.kind == "legacy":
            self.planes[plane][str(address)] = hop

    def name_ends(self, plane: str, ends: Iterable[tuple[End, object]]) -> None:
        for end, address in ends:
            self.put(plane, address, Hop(name=_show(end), kind="extranet"))

    def name_line(self, link: Link) -> None:
        """Both ends of a legacy line: the hub's side has the first host of its /30, the far router the second."""
        wan = self.county.circuit_by_id[link.circuit].wan_prefix
        if wan is not None:
            plane = self.county.network_by_id[link.network].plane
            self.put(plane, wan.network_address + 1, Hop(name=_show(link.b), kind="legacy"))
            self.put(plane, wan.network_address + 2, Hop(name=_show(link.a), kind="legacy"))

    def name_lan(self, lan: Lan, plan: AddressPlan) -> None:
        """A LAN's gateways, old and new."""
        gateways = (plan.gateway6(lan.site, lan.plane), plan.gateway4(lan.site, lan.plane))
        self.name_ends(lan.plane, [(lan.gateway, gateway.ip) for gateway in gateways if gateway is not None])
        if lan.unit is not None and lan.legacy is not None:
            unit, legacy = self.county.unit_by_id[lan.unit], _show(lan.legacy)
            self.put(lan.plane, unit.gateway, Hop(name=_show(lan.gateway), kind="gateway", legacy_name=legacy))
            self.put(lan.plane, unit.interconnect, Hop(name=legacy, kind="legacy"))


def judge_path(check: Check, trace: Mapping[str, Any], book: HopBook, county: County) -> PathVerdict:
    """Judge a measured path: every hop known, none of them legacy, all in the check's plane, the end seen.

    `trace` is what the agent sent: `hops` (addresses, None for silence), `reached`, `turned_away`, `problem`.
    """
    return _judge(check, trace, book, county, aspect="path", end=check.address)


def judge_return(
    check: Check, trace: Mapping[str, Any], book: HopBook, county: County, last_router: Collection[str]
) -> PathVerdict:
    """Judge the path back, as it was measured at the service's side, just as the path there.

    It is whole as well when the last to answer was the router before the station, at one of these addresses.
    """
    hops = trace.get("hops") or (None,)
    if hops[-1] in last_router and not trace.get("problem") and not trace.get("turned_away"):
        trace = {**trace, "reached": True}
    return _judge(check, trace, book, county, aspect="return", end=check.source)


def _judge(
    check: Check, trace: Mapping[str, Any], book: HopBook, county: County, *, aspect: str, end: str
) -> PathVerdict:
    path = _Path(trace, book, (check.plane, county.service_by_id[check.service].plane), end)
    outcome, detail = path.judge_hops() or path.judge_end()
    missing = (Missing.TIMED_OUT if trace else Missing.NEVER_RUN) if outcome is Outcome.UNKNOWN else None
    return PathVerdict(
        finding=Finding(aspect=aspect, outcome=outcome, detail=detail, ms=trace.get("ms"), missing=missing),
        hops=path.names,
    )


def judge_session(station: str, session: Mapping[str, Any], book: HopBook, county: County) -> Finding:
    """Judge whether the session that measures is itself carried by a legacy network: then it proves nothing without it.

    `session` is what the agent sent: `peer` and `local` address, `interface`, and the `trace` to the peer. A session to
    a department's own address must be seen to run over the extranet; one to any other must not meet a legacy router.
    """
    local, interface = str(session.get("local") or ""), str(session.get("interface") or "")
    what = f"the session to {station}"

    def found(outcome: Outcome, detail: str) -> Finding:
        missing = Missing.NEVER_RUN if outcome is Outcome.UNKNOWN else None
        return Finding(aspect="vantage", outcome=outcome, detail=detail, missing=missing)

    if not local or session.get("problem"):
        why = session.get("problem") or "nothing said about it"
        return found(Outcome.UNKNOWN, f"{what} - expected its addresses known, found {why}")
    trace = session.get("trace") or {}
    met = [hop for address in trace.get("hops") or () if address for hop in book.anywhere(address)]
    where = f"{local} on {interface}" if interface else local
    for hop in met:
        if hop.kind == "legacy":
            return found(
                Outcome.FAILED, f"{what} ({where}) - expected apart from legacy networks, found {hop.name} carries it"
            )
    seen = trace.get("reached") or trace.get("turned_away") or any(trace.get("hops") or ())
    if trace.get("problem") or not seen:
        why = trace.get("problem") or "nobody on it answers"
        todo = "let the machine that measures answer UDP to closed ports"
        return found(Outcome.UNKNOWN, f"{what} ({where}) - expected its way known, found {why}; {todo}")
    address = ip_address(local)
    owner = next((n.name for n in county.networks if any(address in p for p in n.prefixes)), None)
    if owner is not None and not any(hop.kind == "extranet" for hop in met):
        return found(
            Outcome.FAILED, f"{what} ({where}) - expected apart from legacy networks, found an address of {owner}"
        )
    return found(Outcome.PASSED, f"{what} ({where}) is carried by no legacy network")


class _Path:
    """One measured path, its hops looked up in the planes it may use."""

    def __init__(self, trace: Mapping[str, Any], book: HopBook, planes: tuple[str, str], end: str) -> None:
        self.trace, self.book, self.planes, self.end = trace, book, planes, end
        self.addresses: list[str | None] = list(trace.get("hops") or ())
        self.hops = [self.find(address) if address else None for address in self.addresses]
        self.on_extranet = any(hop is not None and hop.kind == "extranet" for hop in self.hops)
        self.on_legacy = any(hop is not None and hop.kind == "legacy" for hop in self.hops)
        self.names = tuple(
            self.name(hop, address) if address else "*" for hop, address in zip(self.hops, self.addresses, strict=True)
        )

    def find(self, address: str) -> Hop | None:
        return next((hop for hop in (self.book.find(plane, address) for plane in self.planes) if hop is not None), None)

    def name(self, hop: Hop | None, address: str) -> str:
        """Name a hop; a gateway that both may hold is the extranet's only where the path goes on over the extranet."""
        if hop is None:
            return address
        return hop.legacy_name if hop.kind == "gateway" and (self.on_legacy or not self.on_extranet) else hop.name

    def judge_hops(self) -> tuple[Outcome, str] | None:
        """Return a failure when somebody is on the way who must not be."""
        for number, (address, hop) in enumerate(zip(self.addresses, self.hops, strict=True), start=1):
            if address is None:
                continue
            if hop is None:
                wanted = f"a router of the extranet in {self.planes[0]}"
                return Outcome.FAILED, f"hop {number} - expected {wanted}, found {self._say_stranger(address)}"
            if hop.kind == "legacy":
                found = f"{self.names[number - 1]} ({address})"
                return Outcome.FAILED, f"hop {number} - expected no legacy router, found {found}"
        return None

    def judge_end(self) -> tuple[Outcome, str]:
        """Say whether the whole way was seen, once nobody on it is wrong."""
        way = f"the way to {self.end}"
        if not self.trace:
            return Outcome.UNKNOWN, f"{way} - expected measured, found no measurement"
        if self.trace.get("turned_away"):
            away = str(self.trace["turned_away"])
            return Outcome.FAILED, f"{way} - expected open, found turned away by {self.name(self.find(away), away)}"
        if self.trace.get("problem"):
            return Outcome.UNKNOWN, f"{way} - expected measured, found {self.trace['problem']}"
        if None in self.addresses:
            return Outcome.UNKNOWN, f"hop {self.addresses.index(None) + 1} - expected an answer, found silence"
        if not self.trace.get("reached"):
            after = f"after {self.names[-1]}" if self.names else "at all"
            return Outcome.UNKNOWN, f"{way} - expected its end, found no answer {after}"
        gateway = next((n for n, hop in enumerate(self.hops) if hop is not None and hop.kind == "gateway"), None)
        if gateway is not None and not self.on_extranet:
            return Outcome.FAILED, (
                f"hop {gateway + 1} - expected the extranet to follow on {self.addresses[gateway]}, "
                "an address that the legacy router may still hold, found nothing of it"
            )
        return Outcome.PASSED, " → ".join(self.names) or "no router between"

    def _say_stranger(self, address: str) -> str:
        other = self.book.elsewhere(address)
        return f"{address}, which is {other[1].name} in {other[0]}" if other else f"{address}, which nobody planned"


def _show(end: End) -> str:
    return f"{end.device}:{end.interface}"
