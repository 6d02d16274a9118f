"""The county's wiring, derived from its inventory: interfaces, links and LANs with stable names.

The lab builds exactly this, the renderer configures exactly this, and path probes name their hops from it.
Interface names are `port.vlan` on a trunk (`wan1.110`), `lan.vlan` towards a LAN, `lo` for loopbacks and
`hp-PLANE` / `hs-PLANE` for the two ends of a core's hairpin between a plane and the shared services.
"""

from __future__ import annotations

from functools import cached_property

from inventory.model import EXTRANET, County, Device, Model, PlaneKind, Role


class End(Model):
    """One end of a link: an interface of a device, in a VRF (`None`: the default one)."""

    device: str
    interface: str
    vrf: str | None


class Link(Model):
    """A point-to-point link in one plane of an extranet circuit (`plane`), or a legacy WAN link (`plane` is None)."""

    id: str
    circuit: str
    network: str
    plane: str | None
    a: End
    b: End


class Lan(Model):
    """The access network of one plane at one site: who is plugged in.

    `gateway` is the extranet router's interface; `legacy` the legacy router's, where a unit exists.
    """

    site: str
    plane: str
    gateway: End
    legacy: End | None
    unit: str | None
    stations: tuple[str, ...]
    servers: tuple[str, ...]

    @property
    def id(self) -> str:
        """`site/plane`."""
        return f"{self.site}/{self.plane}"


class Hairpin(Model):
    """A core's inside link between a plane's VRF and the shared services' VRF."""

    device: str
    plane: str
    inner: End
    outer: End

    @property
    def id(self) -> str:
        """`device/plane`."""
        return f"{self.device}/{self.plane}"


class Topology(Model):
    """All of a county's wiring. `links` holds extranet links (a = far from the core, b = nearer) and legacy ones."""

    links: tuple[Link, ...]
    lans: tuple[Lan, ...]
    hairpins: tuple[Hairpin, ...]

    @cached_property
    def lan_by_id(self) -> dict[str, Lan]:
        """LANs by `site/plane`."""
        return {lan.id: lan for lan in self.lans}

    @cached_property
    def link_by_id(self) -> dict[str, Link]:
        """Links by id."""
        return {link.id: link for link in self.links}

    def links_of(self, device: str) -> list[tuple[Link, End, End]]:
        """Links of a device as (link, own end, far end)."""
        out = []
        for link in self.links:
            if link.a.device == device:
                out.append((link, link.a, link.b))
            elif link.b.device == device:
                out.append((link, link.b, link.a))
        return out

    def lans_of(self, device: str) -> list[Lan]:
        """LANs for which a device is the extranet gateway."""
        return [lan for lan in self.lans if lan.gateway.device == device]

    def vrfs_of(self, device: str) -> tuple[str, ...]:
        """Names of the VRFs a device needs, sorted."""
        ends = [e for link in self.links for e in (link.a, link.b)]
        ends += [lan.gateway for lan in self.lans]
        ends += [e for h in self.hairpins for e in (h.inner, h.outer)]
        return tuple(sorted({e.vrf for e in ends if e.device == device and e.vrf}))


def site_planes(county: County, site: str) -> tuple[str, ...]:
    """Return the planes a site needs: its stations' and servers' planes, in the policy's order."""
    wanted = {p for s in county.stations_at(site) for p in s.planes}
    wanted |= {s.plane for s in county.servers if s.site == site}
    return tuple(p.id for p in county.policy.planes if p.id in wanted)


def site_router(county: County, site: str) -> Device:
    """Return the extranet router that is the gateway of a site's LANs (the first core at the county)."""
    return next(d for d in county.devices if d.site == site and d.network == EXTRANET)


def build_topology(county: County) -> Topology:
    """Derive all links, LANs and hairpins. The result depends only on the inventory's content, not its row order."""
    vlan = {p.id: p.vlan for p in county.policy.planes}
    carried = _planes_carried(county)
    links: list[Link] = []
    for c in sorted(county.circuits, key=lambda c: c.id):
        if c.network == EXTRANET:
            links.extend(
                Link(
                    id=f"{c.id}/{plane}",
                    circuit=c.id,
                    network=EXTRANET,
                    plane=plane,
                    a=End(device=c.device or "", interface=f"{c.port}.{vlan[plane]}", vrf=plane),
                    b=End(device=c.far_device or "", interface=f"{c.far_port}.{vlan[plane]}", vrf=plane),
                )
                for plane in carried[c.id]
            )
        elif c.device and c.far_device:
            links.append(
                Link(
                    id=c.id,
                    circuit=c.id,
                    network=c.network,
                    plane=None,
                    a=End(device=c.device, interface=c.port or "", vrf=None),
                    b=End(device=c.far_device, interface=c.far_port or "", vrf=None),
                )
            )
    lans = tuple(
        _lan(county, site.id, plane, vlan[plane])
        for site in sorted(county.sites, key=lambda s: s.id)
        for plane in site_planes(county, site.id)
    )
    shared = county.plane_of_kind(PlaneKind.SHARED).id
    hairpins = tuple(
        Hairpin(
            device=core.id,
            plane=plane.id,
            inner=End(device=core.id, interface=f"hp-{plane.id}", vrf=plane.id),
            outer=End(device=core.id, interface=f"hs-{plane.id}", vrf=shared),
        )
        for core in sorted((d for d in county.devices if d.role is Role.CORE), key=lambda d: d.id)
        for plane in county.policy.planes
        if plane.kind is not PlaneKind.SHARED
    )
    return Topology(links=tuple(links), lans=lans, hairpins=hairpins)


def _lan(county: County, site: str, plane: str, vlan: int) -> Lan:
    unit = county.unit_by_lan.get((site, plane))
    legacy = None
    if unit is not None:
        c = county.circuit_by_id[unit.circuit]
        legacy = (
            End(device=c.device, interface=c.lan_port or "", vrf=None)
            if c.device
            else End(device=c.far_device or "", interface=c.far_port or "", vrf=None)
        )
    return Lan(
        site=site,
        plane=plane,
        gateway=End(device=site_router(county, site).id, interface=f"lan.{vlan}", vrf=plane),
        legacy=legacy,
        unit=unit.id if unit else None,
        stations=tuple(s.id for s in county.stations_at(site, plane)),
        servers=tuple(s.id for s in county.servers if s.site == site and s.plane == plane),
    )


def _planes_carried(county: County) -> dict[str, tuple[str, ...]]:
    """Planes each extranet circuit carries: those of its site and of the sites below; all of them between cores."""
    order = [p.id for p in county.policy.planes]
    out: dict[str, tuple[str, ...]] = {}
    for c in county.circuits:
        if c.network != EXTRANET:
            continue
        ends = [county.device_by_id[d] for d in (c.device, c.far_device) if d]
        if all(d.role is Role.CORE for d in ends):
            wanted = set(order)
        else:
            wanted = set(site_planes(county, c.site))
            for child in county.children(c.site):
                wanted |= set(site_planes(county, child.id))
        out[c.id] = tuple(p for p in order if p in wanted)
    return out
