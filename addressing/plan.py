"""Make the county's address plan: a pure function of the inventory and the plan before.

Slots are bound to identities and kept for life: what was in the plan before keeps its slot, what is new takes the
next free one, what is gone is quarantined and its slot never given again. Towns take slots centre bits first
(RFC 3531 3.3), so that free bits stay beside both borders and either may move; sites below a town count upwards
from 1 (slot 0 is the town centre itself), so that they aggregate tightly and the upper half stays whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from ipaddress import IPv4Network, IPv6Network

from addressing.model import AddressPlan, Kind, Record
from addressing.orders import slot_of
from inventory.errors import ExtranetError
from inventory.model import EXTRANET, County, PlaneKind, Role, SiteClass
from inventory.topology import Topology

PLANE_BITS = 4
TOWN_BITS = 8
SITE_BITS = 8
LINK_SLOTS = 1 << 16
"""/127 slots used inside the links' /64; low ones, far from the subnet-router and anycast identifiers of RFC 6164."""


class PoolTooSmallError(ExtranetError):
    """A pool cannot hold what the county needs."""

    def __init__(self, pool: str, what: str, todo: str) -> None:
        super().__init__(f"policy.yaml [{pool}]: {what}; {todo}")


class PlanMismatchError(ExtranetError):
    """The plan before was made from another pool, so its addresses would move."""

    def __init__(self, field: str, before: str, now: str) -> None:
        super().__init__(
            f"policy.yaml [{field}]: the plan was made from {before}, the policy now says {now}; addresses once given do not "
            "move: put the old value back, or start a new plan file with --out"
        )


def make_plan(
    county: County,
    topology: Topology,
    previous: AddressPlan | None = None,
    quarantined: Iterable[IPv4Network] = (),
) -> AddressPlan:
    """Plan every address the county needs. `previous` (same pools) keeps all its assignments.

    Nothing new is given out of `quarantined`; what an earlier plan gave stays, for addresses do not move.
    """
    maker = _Maker(county, topology, previous, tuple(quarantined))
    return maker.make()


class _Maker:
    def __init__(
        self,
        county: County,
        topology: Topology,
        previous: AddressPlan | None,
        quarantined: tuple[IPv4Network, ...],
    ) -> None:
        self.county, self.topology, self.quarantined = county, topology, quarantined
        self.policy = county.policy
        self.before = {r.id: r for r in previous.records} if previous else {}
        self.records: dict[str, Record] = {}
        if previous:
            for field, old, new in (
                ("pool", previous.pool, str(self.policy.pool)),
                ("ipv4_pool", previous.ipv4_pool, str(self.policy.ipv4_pool)),
                ("ipv4_link_pool", previous.ipv4_link_pool, str(self.policy.ipv4_link_pool)),
            ):
                if old != new:
                    raise PlanMismatchError(field, old, new)

    def make(self) -> AddressPlan:
        self._plan_fields()
        self._plan_infrastructure()
        self._plan_ipv4()
        for old in self.before.values():
            if old.id not in self.records:
                self.records[old.id] = old.altered(state="quarantined")
        return AddressPlan(
            county=self.county.id,
            pool=str(self.policy.pool),
            ipv4_pool=str(self.policy.ipv4_pool),
            ipv4_link_pool=str(self.policy.ipv4_link_pool),
            records=tuple(self.records[k] for k in sorted(self.records)),
        )

    def _add(
        self, record_id: str, kind: Kind, name: str, parent: str, prefix: object, *, slot: int | None = None
    ) -> None:
        old = self.before.get(record_id)
        if old is not None and old.prefix != str(prefix):
            raise PlanMismatchError(record_id, old.prefix, str(prefix))
        self.records[record_id] = Record(
            id=record_id, kind=kind, name=name, parent=parent, prefix=str(prefix), slot=slot
        )

    def _slots(self, wanted: Iterable[str], kinds: set[Kind], order: Iterator[int], pool: str) -> dict[str, int]:
        """Bind each identity to a slot: kept from before (quarantined ones too), else the next free in `order`."""
        kept = {r.id: r.slot for r in self.before.values() if r.kind in kinds and r.slot is not None}
        return _give_slots(list(wanted), kept, order, "slot", pool)

    def _plan_fields(self) -> None:
        pool = self.policy.pool
        towns = sorted(
            (s for s in self.county.sites if s.site_class is SiteClass.TOWN), key=lambda s: (s.division_code, s.id)
        )
        # One slot a town in all planes: a filter on the town field alone then means the town.
        town_slots = self._town_slots([t.id for t in towns])
        planes_of: dict[str, set[str]] = {}
        for lan in self.topology.lans:
            planes_of.setdefault(lan.plane, set()).add(lan.site)
        for plane in sorted(self.policy.planes, key=lambda p: p.slot):
            plane_net = child6(pool, PLANE_BITS, plane.slot)
            self._add(f"plane:{plane.id}", "plane", plane.name, "pool", plane_net, slot=plane.slot)
            for town_id in [self.county.county_site.id, *(t.id for t in towns)]:
                self._plan_town(
                    plane.id, plane_net, town_id, town_slots.get(town_id, 0), planes_of.get(plane.id, set())
                )

    def _town_slots(self, towns: list[str]) -> dict[str, int]:
        """Slot 0 is the county centre; a town's slot is the same in every plane."""
        kept = {
            r.id.removeprefix("town:").split("@")[0]: r.slot
            for r in self.before.values()
            if r.kind == "town" and r.slot
        }
        order = (slot_of(i, TOWN_BITS, "centre") for i in range(1, 1 << TOWN_BITS))
        centre = self.county.county_site.id
        return {centre: 0} | _give_slots(towns, kept, order, "town slot")

    def _plan_town(self, plane: str, plane_net: IPv6Network, town: str, slot: int, sites_with_lan: set[str]) -> None:
        site = self.county.site_by_id[town]
        town_net = child6(plane_net, TOWN_BITS, slot)
        self._add(f"town:{town}@{plane}", "town", site.name, f"plane:{plane}", town_net, slot=slot)
        villages = sorted(
            (s for s in self.county.children(town) if s.site_class is SiteClass.VILLAGE),
            key=lambda s: (s.division_code, s.id),
        )
        slots = self._site_slots(town, [v.id for v in villages])
        for one in [site, *villages]:
            if one.id not in sites_with_lan:
                continue
            slot = slots.get(one.id, 0)
            site_net = child6(town_net, SITE_BITS, slot)
            self._add(f"site:{one.id}@{plane}", "site", one.name, f"town:{town}@{plane}", site_net, slot=slot)
            lan = IPv6Network((site_net.network_address, 64))
            self._add(f"lan:{one.id}@{plane}", "lan", one.name, f"site:{one.id}@{plane}", lan)

    def _site_slots(self, town: str, villages: list[str]) -> dict[str, int]:
        """A village's slot is the same in every plane, whichever planes it has today."""
        kept = {
            r.id.removeprefix("site:").split("@")[0]: r.slot
            for r in self.before.values()
            if r.kind == "site" and r.slot and r.parent.removeprefix("town:").split("@")[0] == town
        }
        return _give_slots(villages, kept, iter(range(1, 1 << SITE_BITS)), f"site slot in {town}")

    def _plan_infrastructure(self) -> None:
        infra = child6(self.policy.pool, PLANE_BITS, 0)
        self._add("infra", "infra", "infrastructure", "pool", infra)
        loopbacks, links = (IPv6Network((int(infra.network_address) + (n << 64), 64)) for n in (0, 1))
        routers = sorted(d.id for d in self.county.devices if d.network == EXTRANET)
        slots = self._slots((f"loopback:{d}" for d in routers), {"loopback"}, iter(range(1, LINK_SLOTS)), "pool")
        for identity, slot in slots.items():
            name = self.county.device_by_id[identity.removeprefix("loopback:")].name
            net = IPv6Network((int(loopbacks.network_address) + slot, 128))
            self._add(identity, "loopback", name, "infra", net, slot=slot)
        order = iter(range(1, LINK_SLOTS))
        wanted = [f"link:{ln.circuit}@{ln.plane}" for ln in self.topology.links if ln.network == EXTRANET]
        wanted_pins = [f"hairpin:{h.device}@{h.plane}" for h in self.topology.hairpins]
        # Links and hairpins share the /64, so they share one row of slots.
        pins = self._slots([*sorted(wanted), *sorted(wanted_pins)], {"link", "hairpin"}, order, "pool")
        for identity, slot in pins.items():
            kind: Kind = "link" if identity.startswith("link:") else "hairpin"
            net = IPv6Network((int(links.network_address) + 2 * slot, 127))
            self._add(identity, kind, identity.split(":", 1)[1], "infra", net, slot=slot)

    def _plan_ipv4(self) -> None:
        public = self.county.plane_of_kind(PlaneKind.PUBLIC).id
        shared = self.county.plane_of_kind(PlaneKind.SHARED).id
        lans = {lan.id for lan in self.topology.lans}
        declared = {s.id: s.public_ipv4 for s in self.county.sites if s.public_ipv4}
        busy = [self.policy.shared_ipv4, *declared.values()]
        open_sites = sorted(
            (s for s in self.county.sites if s.id not in declared and f"{s.id}/{public}" in lans),
            key=lambda s: (s.division_code, s.id),
        )
        wanted = [f"lan4:{s.id}@{public}" for s in open_sites]
        given = self._given4("lan4", wanted, self.policy.ipv4_pool, 27, busy=busy, field="ipv4_pool")
        for site_id, net in declared.items():
            self._add(f"lan4:{site_id}@{public}", "lan4", self.county.site_by_id[site_id].name, "ipv4_pool", net)
        for identity, net in given.items():
            site_id = identity.removeprefix("lan4:").split("@")[0]
            self._add(identity, "lan4", self.county.site_by_id[site_id].name, "ipv4_pool", net)
        for lan in self.topology.lans:
            if lan.plane == shared:
                self._add(
                    f"lan4:{lan.site}@{shared}",
                    "lan4",
                    self.county.site_by_id[lan.site].name,
                    "ipv4_pool",
                    self.policy.shared_ipv4,
                )
        circuits = [c for c in self.county.circuits if c.network == EXTRANET]
        fixed = {f"link4:{c.id}": c.wan_prefix for c in circuits if c.wan_prefix}
        wanted = sorted(f"link4:{c.id}" for c in circuits if not c.wan_prefix)
        cores = sorted(d.id for d in self.county.devices if d.role is Role.CORE)
        wanted += [f"hairpin4:{core}@{public}" for core in cores]
        busy, pool = list(fixed.values()), self.policy.ipv4_link_pool
        links = self._given4("link4", wanted, pool, 31, busy=busy, field="ipv4_link_pool")
        for identity, net in {**fixed, **links}.items():
            self._add(identity, "link4", identity.split(":", 1)[1], "ipv4_link_pool", net)

    def _given4(
        self, kind: Kind, wanted: list[str], pool: IPv4Network, length: int, *, busy: list[IPv4Network], field: str
    ) -> dict[str, IPv4Network]:
        """Give each identity an IPv4 prefix of `length`: kept from before, else the first that meets nothing in use."""
        kept = {r.id: IPv4Network(r.prefix) for r in self.before.values() if r.kind == kind}
        step = 1 << (32 - length)
        used: set[int] = set()
        held = [net for net in self.quarantined if net.overlaps(pool)]
        for net in [*busy, *kept.values(), *held]:
            first = (int(net.network_address) - int(pool.network_address)) // step
            last = (int(net.broadcast_address) - int(pool.network_address)) // step
            used.update(range(max(first, 0), min(last + 1, pool.num_addresses // step)))
        free = (i for i in range(1, pool.num_addresses // step) if i not in used)
        out = {}
        for identity in wanted:
            if identity in kept:
                out[identity] = kept[identity]
                continue
            index = next(free, None)
            if index is None:
                raise PoolTooSmallError(field, f"no /{length} left for {identity}", "enlarge the range")
            out[identity] = IPv4Network((int(pool.network_address) + index * step, length))
        return out


def _give_slots(
    wanted: Iterable[str], kept: Mapping[str, int], order: Iterator[int], what: str, pool: str = "pool"
) -> dict[str, int]:
    """Bind each identity to a slot: kept from before, else the next in `order` that was never given (slot 0 is not)."""
    taken, out = {0, *kept.values()}, {}
    for identity in wanted:
        slot = kept.get(identity)
        if slot is None:
            slot = next((s for s in order if s not in taken), None)
        if slot is None:
            raise PoolTooSmallError(
                pool, f"no {what} left for {identity}", "ask for a larger block or split the county"
            )
        taken.add(slot)
        out[identity] = slot
    return out


def child6(parent: IPv6Network, bits: int, slot: int) -> IPv6Network:
    """Return the slot-th of the parent's 2**bits equal parts."""
    length = parent.prefixlen + bits
    return IPv6Network((int(parent.network_address) | (slot << (128 - length)), length))
