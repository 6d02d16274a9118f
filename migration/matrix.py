"""The expected matrix: every need and every prohibition of the county as a check with concrete addresses."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from contextlib import suppress
from functools import cached_property
from typing import Literal, Self

from pydantic import model_validator

from addressing.model import AddressPlan
from inventory.access import Access
from inventory.errors import ExtranetError, UnknownNameError
from inventory.model import (
    EXTRANET,
    County,
    Family,
    Forbidden,
    Model,
    Need,
    PlaneKind,
    Protocol,
    Service,
    Station,
    Unit,
)
from inventory.topology import Topology
from nornir_tasks.stations.hops import HopBook, name_hops
from nornir_tasks.stations.model import Check, WayAspect

REACH_WAY = (WayAspect.VANTAGE, WayAspect.ICMP, WayAspect.MTU, WayAspect.RETURN, WayAspect.MTU_BACK)
"""What is measured of every way that must be open."""
BLOCKED_WAY = (WayAspect.VANTAGE,)

__all__ = ["EmptyMatrixError", "Matrix", "PlanGapError", "build_matrix", "name_hops"]


class EmptyMatrixError(ExtranetError):
    """Nothing would be measured, and so nothing proven."""

    def __init__(self, what: str) -> None:
        self.what = what
        super().__init__(
            f"{what}: not one check - expected at least one; look at needed_by and from_planes in services.csv"
        )


class PlanGapError(ExtranetError):
    """The address plan lacks something that the inventory needs."""

    def __init__(self, what: str) -> None:
        self.what = what
        super().__init__(f"address plan: {what} is missing; run 'extranet plan addresses'")


class Matrix(Model):
    """All checks expected of the stations, never none.

    `hops` names the routers that may be met on the way. `unit_legs` holds, for every unit, the legs (`station/plane`)
    on its LAN: whoever uses its link.
    """

    checks: tuple[Check, ...]
    hops: HopBook
    unit_legs: dict[str, tuple[str, ...]]
    stations: tuple[str, ...]

    @model_validator(mode="after")
    def _never_empty(self) -> Self:
        if not self.checks:
            raise EmptyMatrixError("expected matrix")
        return self

    @cached_property
    def by_id(self) -> dict[str, Check]:
        """Checks by id."""
        return {c.id: c for c in self.checks}

    @cached_property
    def digest(self) -> str:
        """sha256 over the canonical JSON of the checks, whatever their order."""
        rows = sorted((c.model_dump(mode="json") for c in self.checks), key=lambda c: str(c["id"]))
        text = json.dumps(rows, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()

    def for_units(self, units: Iterable[str | Unit]) -> Matrix:
        """Return all checks of the legs on these units' LANs: both families, and what must stay blocked.

        Raises:
            UnknownNameError: no such unit.
            EmptyMatrixError: one of the units has no check at all, so nothing could prove it.
        """
        wanted: set[str] = set()
        held = {f"{c.station}/{c.plane}" for c in self.checks}
        for unit in (u.id if isinstance(u, Unit) else u for u in units):
            if unit not in self.unit_legs:
                raise UnknownNameError("unit", unit, self.unit_legs)
            legs = set(self.unit_legs[unit])
            if not legs & held:
                raise EmptyMatrixError(unit)
            wanted |= legs
        return self._keep((c for c in self.checks if f"{c.station}/{c.plane}" in wanted), "these units")

    def for_stations(self, ids: Iterable[str]) -> Matrix:
        """Return the checks of these stations; UnknownNameError when one is not in the inventory."""
        wanted = set(ids)
        for station in sorted(wanted):
            if station not in self.stations:
                raise UnknownNameError("station", station, self.stations)
        return self._keep((c for c in self.checks if c.station in wanted), ", ".join(sorted(wanted)) or "no station")

    def provisioned(self) -> Matrix:
        """Return what provisioning alone must satisfy: everything that waits for no unit, and all that is forbidden."""
        return self._keep((c for c in self.checks if c.unit is None), "provisioning")

    def with_throughput(self, county: County, *, every_leg: bool = False) -> Matrix:
        """Return the matrix with one check of each extranet line asking whether it carries its floor.

        With `every_leg`, one check of each plane's leg at a line's end: so that each unit's proof holds one.
        """
        checks = ask_throughput(self.checks, county, every_leg=every_leg)
        return Matrix(checks=checks, hops=self.hops, unit_legs=self.unit_legs, stations=self.stations)

    def _keep(self, checks: Iterable[Check], what: str) -> Matrix:
        kept = tuple(checks)
        if not kept:
            raise EmptyMatrixError(what)
        return Matrix(checks=kept, hops=self.hops, unit_legs=self.unit_legs, stations=self.stations)


def build_matrix(county: County, topology: Topology, plan: AddressPlan, access: Access | None = None) -> Matrix:
    """Expand the county's needs and prohibitions into checks with addresses.

    With `access`, the file must speak of this county: one that knows none of its stations is refused.

    Raises:
        PlanGapError: an address that a check needs is not planned.
        EmptyMatrixError: nothing is expected, or `access` knows no station.
    """
    if access is not None and not any(s.id in access.addresses for s in county.stations):
        raise EmptyMatrixError(f"stations that {access.target} {access.name} can reach")
    expand = _Expansion(county, plan)
    try:
        checks = [expand.check(need, "reach", need.unit) for need in county.needs]
        checks += [expand.check(ban, "blocked", None) for ban in county.forbidden]
        hops = name_hops(topology, plan, county)
    except KeyError as error:
        raise PlanGapError(str(error.args[0])) from error
    legs = {
        unit.id: tuple(f"{s.id}/{unit.plane}" for s in county.stations_at(unit.site, unit.plane))
        for unit in county.units
    }
    matrix = Matrix(checks=tuple(checks), hops=hops, unit_legs=legs, stations=tuple(s.id for s in county.stations))
    return matrix.with_throughput(county, every_leg=True) if county.policy.probing.throughput_in_proof else matrix


def ask_throughput(checks: Iterable[Check], county: County, *, every_leg: bool = False) -> tuple[Check, ...]:
    """Return these checks, one of each site's own extranet line asking whether it carries its floor.

    With `every_leg`, one of each plane's leg at a line's end.
    """
    given, floors = tuple(checks), _floors_kbps(county)

    def leg_of(check: Check) -> tuple[str, str]:
        return county.station_by_id[check.station].site, check.plane if every_leg else ""

    asked = {leg_of(c) for c in given if c.floor_kbps}
    out: list[Check] = []
    for check in given:
        leg = leg_of(check)
        if check.expect == "reach" and check.unit is None and leg[0] in floors and leg not in asked:
            asked.add(leg)
            out.append(check.altered(way=(*check.way, WayAspect.THROUGHPUT), floor_kbps=floors[leg[0]]))
        else:
            out.append(check)
    return tuple(out)


def _floors_kbps(county: County) -> dict[str, int]:
    """Return, by site, what a throughput probe asks of its extranet line: a small share of its bandwidth."""
    terms = county.policy.probing
    out: dict[str, int] = {}
    for circuit in county.circuits:
        if circuit.network == EXTRANET and circuit.site != county.county_site.id and circuit.bandwidth_mbps:
            floor_mbps = min(terms.throughput_cap_mbps, terms.throughput_share * circuit.bandwidth_mbps)
            out.setdefault(circuit.site, max(1, int(floor_mbps * 1000)))
    return out


class _Expansion:
    """Turns cells into checks."""

    def __init__(self, county: County, plan: AddressPlan) -> None:
        self.county, self.plan = county, plan
        self.addresses: dict[tuple[str, Family], str] = {}
        self.resolvers = [s for s in county.services if s.protocol is Protocol.DNS]
        self.own: dict[str, tuple[str, ...]] = {}
        self.known = {(n.plane, county.service_by_id[n.service].server) for n in county.needs}

    def check(self, cell: Need | Forbidden, expect: Literal["reach", "blocked"], unit: str | None) -> Check:
        """Return the check of one cell."""
        service, plane, family = self.county.service_by_id[cell.service], cell.plane, cell.family
        mark = "!" if expect == "blocked" else ""
        resolver = self.resolver(plane, service, family) if expect == "reach" else None
        return Check(
            id=f"{cell.station}/{plane}/{mark}{service.id}/{family.value}",
            station=cell.station,
            plane=plane,
            service=service.id,
            family=family,
            expect=expect,
            protocol=service.protocol.value,
            interface=plane,
            dns_name=service.dns_name,
            address=self.address(service, family),
            resolver=resolver,
            resolvers=self.own_resolvers(plane) if resolver and service.protocol is not Protocol.DNS else (),
            port=service.port,
            marker="" if service.protocol is Protocol.DNS else service.id,
            unit=unit,
            # A server that this plane reaches for another of its services may answer: then only the port is closed.
            trace=expect == "reach" or (plane, service.server) not in self.known,
            way=REACH_WAY if expect == "reach" else BLOCKED_WAY,
            source=self.leg(self.county.station_by_id[cell.station], plane, family) if expect == "reach" else "",
            server=service.server if expect == "reach" else "",
        )

    def leg(self, station: Station, plane: str, family: Family) -> str:
        """Return the address of a station's own leg, to which answers must find back."""
        return self._host(station.site, plane, station.host, family, f"the IPv4 of {station.id} in {plane}")

    def address(self, service: Service, family: Family) -> str:
        """Return the address at which a service is expected."""
        key = service.server, family
        if key not in self.addresses:
            server = self.county.server_by_id[service.server]
            what = f"the IPv4 of {server.id}"
            self.addresses[key] = self._host(server.site, server.plane, server.host, family, what)
        return self.addresses[key]

    def _host(self, site: str, plane: str, host: int, family: Family, what: str) -> str:
        """Return a host's address in a LAN: IPv4 is the department's own where it has any there."""
        if family is Family.IPV6:
            return str(self.plan.host6(site, plane, host).ip)
        unit = self.county.unit_by_lan.get((site, plane))
        if unit is not None:
            return str(unit.lan_prefix.network_address + host)
        planned = self.plan.host4(site, plane, host)
        if planned is None:
            raise PlanGapError(f"lan4:{site}@{plane}, for {what},")
        return str(planned.ip)

    def resolver(self, plane: str, service: Service, family: Family) -> str | None:
        """Return whom a leg asks for names: over the check's family in the public plane, over IPv6 in the others."""
        if service.protocol is Protocol.DNS:
            return self.address(service, family)
        usable = [s for s in self.resolvers if plane in s.from_planes]
        dedicated = self.county.plane_by_id[plane].kind is PlaneKind.DEDICATED
        for wanted in (Family.IPV6,) if dedicated or family is Family.IPV6 else (Family.IPV4, Family.IPV6):
            for found in usable:
                if wanted in found.families:
                    return self.address(found, wanted)
        return None

    def own_resolvers(self, plane: str) -> tuple[str, ...]:
        """Return whom a station's own configuration may name for a leg: any name server of its plane, in any family."""
        if plane not in self.own:
            found: set[str] = set()
            for service in (s for s in self.resolvers if plane in s.from_planes):
                for family in service.families:
                    with suppress(PlanGapError):  # without an address there is nothing to name
                        found.add(self.address(service, family))
            self.own[plane] = tuple(sorted(found, key=lambda a: (":" not in a, a)))
        return self.own[plane]
