"""The county as values: sites, stations, legacy networks, circuits, services and policy.

Everything here is frozen and strict; refine by copy (`value.altered(field=...)`). Names follow
NetBox where it has them (site, device, interface, circuit, tenant, VRF).
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, time
from enum import StrEnum
from functools import cached_property
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any, Literal, NamedTuple, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

EXTRANET = "extranet"
"""The `network` of circuits and devices that belong to the extranet itself."""


PLATFORM_NAMES = ("frr",)
"""Platforms that devices.csv may name: those with a folder under nornir_tasks/platforms/ (a test holds them equal)."""


STATION_KINDS = ("zone", "selfservice", "enterprise", "center", "village-station")
"""What a station may be: services name these in `needed_by`, so a mistyped kind would take needs away unseen."""


class Model(BaseModel):
    """Frozen and strict base of every value in the suite."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def altered(self, **changes: Any) -> Self:
        """Return a checked copy with some fields changed. Unlike `model_copy`, drops whatever was cached."""
        return type(self)(**({name: getattr(self, name) for name in type(self).model_fields} | changes))


class Decided(Model):
    """A part of the policy, as people write it: where a number is asked for, `yes` and `true` are none."""

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_booleans(cls, value: Any, info: ValidationInfo) -> Any:
        asked = cls.model_fields[info.field_name].annotation if info.field_name else None
        if isinstance(value, bool) and asked in {int, float}:
            raise PydanticCustomError("boolean_for_number", "Input should be a number")
        return value


class SiteClass(StrEnum):
    """Where a site stands in the hierarchy."""

    COUNTY = "county"
    TOWN = "town"
    VILLAGE = "village"


class Family(StrEnum):
    """Address family of a need or a probe."""

    IPV6 = "ipv6"
    IPV4 = "ipv4"


class PlaneKind(StrEnum):
    """`public`: every station has it. `dedicated`: one department's. `shared`: holds the services all planes reach."""

    PUBLIC = "public"
    DEDICATED = "dedicated"
    SHARED = "shared"


class Protocol(StrEnum):
    """What a service speaks, and so how it is probed."""

    HTTPS = "https"
    TCP = "tcp"
    DNS = "dns"


class Role(StrEnum):
    """What a device is for."""

    CORE = "core"
    TOWN = "town"
    VILLAGE = "village"
    LEGACY = "legacy"


class Site(Model):
    """A place with equipment. `id` is ASCII and never changes; `name` is what people call it."""

    id: str
    name: str
    site_class: SiteClass
    parent: str | None
    division_code: str
    responsible: str
    central: bool = False
    public_ipv4: IPv4Network | None = None
    """IPv4 of the public plane's LAN where the extranet already reaches; empty: the address plan gives one."""


class Plane(Decided):
    """What keeps departments apart on the extranet: a VRF with its prefixes. `slot` is its field value in the IPv6 plan."""

    id: str = Field(
        pattern=r"^[a-z][a-z0-9]{1,10}$", description="the plane's identifier, and its VRF's name", examples=["finance"]
    )
    name: str = Field(description="what people call it", examples=["财政专用区"])
    kind: PlaneKind = Field(
        description="public: every station has it; dedicated: one department's; shared: services that all planes reach",
        examples=["dedicated"],
    )
    tenant: str = Field(description="the department whose it is", examples=["伊川县财政局"])
    vlan: int = Field(ge=2, le=4094, description="its VLAN tag on trunks, unique", examples=[110])
    slot: int = Field(
        ge=1, le=15, description="its fixed place in the IPv6 plan, unique; never change it", examples=[3]
    )


class LegacyNetwork(Model):
    """A department's own dedicated network, to be migrated."""

    id: str
    name: str
    tenant: str
    plane: str
    prefixes: tuple[IPv4Network, ...]
    lead: str
    responsible: str
    row: int = 0


class RefusedNetwork(Model):
    """A network the scope guard turned away. Only the refusal itself names it."""

    id: str
    name: str
    row: int


class Device(Model):
    """A router under management. `network` is `extranet` or the legacy network that owns it."""

    id: str
    name: str
    site: str
    role: Role
    network: str
    platform: str = "frr"
    asn: int | None = None
    management: IPv4Address | IPv6Address | None = None


class Circuit(Model):
    """A line. Extranet circuits join `device:port` to `far_device:far_port` and carry one subinterface a plane.

    A legacy circuit serves one unit. Three shapes:
    - town: `device` (the legacy router at the site, LAN port `lan_port`) reaches `far_device` (the hub) over `wan_prefix`;
    - village: no `device`; the line carries the site's LAN to a port of `far_device`, which is the LAN's gateway;
    - county: `device` is the hub itself, `far_device` is empty; nothing is rented.
    """

    id: str
    network: str
    site: str
    device: str | None
    port: str | None
    lan_port: str | None = None
    far_device: str | None = None
    far_port: str | None = None
    provider: str = ""
    bandwidth_mbps: int = 0
    monthly_rent_yuan: int = 0
    contract_end: date | None = None
    lan_prefix: IPv4Network | None = None
    wan_prefix: IPv4Network | None = None
    reuses: str | None = None
    """For an extranet circuit: id of the legacy circuit whose physical line it takes over."""


class Unit(Model):
    """One legacy network at one site: the smallest thing that migrates. Written `network@site`."""

    network: str
    site: str
    plane: str
    circuit: str
    lan_prefix: IPv4Network

    @property
    def id(self) -> str:
        """`network@site`."""
        return f"{self.network}@{self.site}"

    @property
    def gateway(self) -> IPv4Address:
        """The LAN's IPv4 gateway: first host, held by the legacy router before cutover and by the extranet after."""
        return self.lan_prefix.network_address + 1

    @property
    def interconnect(self) -> IPv4Address:
        """Last host of the LAN: what a hub keeps once the core holds its gateway address."""
        return self.lan_prefix.broadcast_address - 1


class Station(Model):
    """A place where people are served: a vantage for probes. `host` is its interface identifier in every LAN it joins."""

    id: str
    name: str
    site: str
    kind: str
    windows: int
    host: int = Field(ge=2, le=250)
    planes: tuple[str, ...]


class Server(Model):
    """A server at a site in one plane; its services share its address."""

    id: str
    name: str
    site: str
    plane: str
    host: int = Field(ge=2, le=250)


class Service(Model):
    """Something stations need. `needed_by` holds site classes, station kinds or station ids; `from_planes` whence."""

    id: str
    name: str
    server: str
    plane: str
    dns_name: str
    protocol: Protocol
    port: int = Field(ge=1, le=65535)
    needed_by: tuple[str, ...]
    from_planes: tuple[str, ...]
    families: tuple[Family, ...]


class Need(NamedTuple):
    """One cell of what must work: this station, from this plane, reaches this service over this family.

    `unit` is the legacy unit whose cutover provides it (`None`: provisioning alone does).
    """

    station: str
    plane: str
    service: str
    family: Family
    unit: str | None = None


class Forbidden(NamedTuple):
    """One cell of what must not work: this station, from this plane, must not reach this service."""

    station: str
    plane: str
    service: str
    family: Family


class CoverageTarget(Decided):
    """A share (0..1) of central villages that must be covered by a date."""

    share: float = Field(
        gt=0, le=1, description="share of central villages whose station must be covered", examples=[0.7]
    )
    by: date = Field(description="the day by which they must be", examples=["2027-09-30"])


class Timers(Decided):
    """Seconds, all of them."""

    revert_s: int = Field(
        default=180,
        ge=20,
        le=3600,
        description="seconds of the rollback timer armed on a device before a change; must outlast load and probes",
        examples=[180],
    )
    soak_s: int = Field(
        default=7 * 86400,
        ge=0,
        le=366 * 86400,
        description="seconds on the new path before an old line may be drained",
        examples=[604800],
    )
    hold_s: int = Field(
        default=3 * 86400,
        ge=0,
        le=366 * 86400,
        description="seconds that a line stays shut before its configuration may be removed",
        examples=[259200],
    )
    exception_s: int = Field(
        default=30 * 86400,
        ge=60,
        le=90 * 86400,
        description="seconds that a recorded exception to a gate may stand at most",
        examples=[2592000],
    )
    evidence_ttl_s: int = Field(
        default=3600, ge=10, le=7 * 86400, description="seconds that a measurement counts", examples=[3600]
    )
    probe_timeout_s: float = Field(
        default=3.0, gt=0, le=30, description="seconds to wait for the answer to one probe", examples=[3]
    )
    blocked_wait_s: float = Field(
        default=1.5,
        ge=0.5,
        le=10,
        description="seconds to wait for an answer that must not come (at most as long as for one that must)",
        examples=[1.5],
    )
    converge_s: int = Field(
        default=30,
        ge=1,
        le=3600,
        description="seconds to wait for probes to turn good after a change before going back",
        examples=[40],
    )


class OutagePolicy(Decided):
    """What a window clerk may feel of a change, and how that is watched."""

    budget_s: float = Field(
        default=10.0,
        ge=0,
        le=3600,
        description="seconds that a service may be gone from a station during a cutover; beyond that it goes back by itself",
        examples=[10],
    )
    retire_budget_s: float = Field(
        default=0.0,
        ge=0,
        le=3600,
        description="the same for the stages of a retirement, beyond what the watch can tell apart; nothing should be felt",
        examples=[0],
    )
    rate_per_s: float = Field(
        default=10.0,
        ge=1,
        le=20,
        description="probes a second from each moved leg to each server, over each family",
        examples=[10],
    )
    most_per_s: int = Field(
        default=5000,
        ge=10,
        le=100_000,
        description="probes a second of all stations together; where it would be more, the rate is lowered, and that is said",
        examples=[5000],
    )
    stations: Literal["near", "moved"] = Field(
        default="near",
        description="who is watched: moved (legs that the change moves) or near (also those that must not feel it, less often)",
        examples=["near"],
    )


class Probing(Decided):
    """What a way must be like. Thresholds may be lowered; silence never passes."""

    echo_count: int = Field(default=5, ge=3, le=100, description="echo requests in a burst", examples=[5])
    echo_interval_ms: int = Field(
        default=20, ge=5, le=1000, description="milliseconds between two of a burst", examples=[20]
    )
    max_loss: float = Field(
        default=0.05,
        ge=0,
        le=0.5,
        description="share of echo requests that may be lost; a burst with a loss is followed by one four times longer",
        examples=[0.05],
    )
    max_rtt_ms: float = Field(
        default=100, gt=0, le=2000, description="milliseconds that the median round trip may take", examples=[100]
    )
    min_mtu_bytes: int = Field(
        default=1500,
        ge=1280,
        le=9000,
        description="bytes of the packets that must get through in one piece, there and back",
        examples=[1500],
    )
    throughput_share: float = Field(
        default=0.1, gt=0, le=1, description="share of a line's bandwidth that it must be seen to carry", examples=[0.1]
    )
    throughput_cap_mbps: float = Field(
        default=10, gt=0, le=100, description="Mbit/s that a throughput probe never exceeds", examples=[10]
    )
    throughput_in_proof: bool = Field(
        default=False,
        description="whether each measurement of a cutover or proof takes lines' throughput, not only the first of a proof",
        examples=[True],
    )


class Budgets(Decided):
    """What probes may ask of one device at once: a village's window and a small router have other work to do."""

    station_probes: int = Field(
        default=32,
        ge=1,
        le=256,
        description="connections and questions that one station or server has open at once for probes",
        examples=[8],
    )
    probes_per_s: int = Field(
        default=250,
        ge=1,
        le=2000,
        description="of these, how many one station or server begins in a second",
        examples=[50],
    )
    ways_per_s: int = Field(
        default=100,
        ge=1,
        le=1000,
        description="ways that one station or server asks for in a second: routers answer only so many",
        examples=[20],
    )
    station_sessions: int = Field(
        default=1,
        ge=1,
        le=8,
        description="SSH sessions that measure from one station or server at once; a cutover's watch is one more",
        examples=[1],
    )
    router_probes: int = Field(
        default=8, ge=1, le=64, description="addresses that one router pings and traces at once", examples=[4]
    )


Source = Literal["counters", "neighbors", "routes", "config", "flows", "names"]
"""What can be asked about who still uses an old line; what a device does not tell is unknown."""

Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
DAYS: tuple[Day, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


class Soak(Decided):
    """How long and how closely an old line is watched before it is drained; how long is `timers.soak_s`."""

    samples: int = Field(
        default=28, ge=2, le=100_000, description="samples without a break that must be clean", examples=[28]
    )
    longest_gap_s: int = Field(
        default=8 * 3600,
        ge=1,
        le=31 * 86400,
        description="seconds that may lie between two samples, and between the last one and now",
        examples=[28800],
    )
    business_days: int = Field(
        default=5, ge=0, le=366, description="business days that the samples must cover; 0: none", examples=[5]
    )
    samples_a_day: int = Field(
        default=2, ge=1, le=1440, description="samples inside business hours that cover a business day", examples=[2]
    )
    days: tuple[Day, ...] = Field(
        default=DAYS[:5], min_length=1, description="the days on which windows are open", examples=[["mon", "fri"]]
    )
    hours: str = Field(
        default="09:00-17:00",
        pattern=r"^[0-2]\d:[0-5]\d-[0-2]\d:[0-5]\d$",
        description="the hours in which windows are open, from-to",
        examples=["09:00-17:00"],
    )
    time_zone: str = Field(
        default="Asia/Shanghai", description="the time zone of those hours (IANA name)", examples=["Asia/Shanghai"]
    )
    packets_per_minute: int = Field(
        default=60,
        ge=0,
        le=100_000,
        description="packets a minute that a port of the line may carry: routing hellos",
        examples=[60],
    )
    bytes_per_minute: int = Field(
        default=8192,
        ge=0,
        le=100_000_000,
        description="bytes a minute that a port of the line may carry: routing hellos",
        examples=[8192],
    )
    packets_a_gap: int = Field(
        default=6000,
        ge=0,
        le=1_000_000_000,
        description="packets that a port of the line may carry between two samples, however far apart they are; the default "
        "is what two routers greet each other with in eight hours, every ten seconds",
        examples=[6000],
    )
    bytes_a_gap: int = Field(
        default=600_000,
        ge=0,
        le=1_000_000_000,
        description="bytes that a port of the line may carry between two samples, however far apart they are",
        examples=[600_000],
    )
    forwarded_per_minute: int = Field(
        default=0,
        ge=0,
        le=100_000,
        description="packets a minute that an old router may forward; hellos never are",
        examples=[0],
    )
    line_losses: int = Field(
        default=2,
        ge=0,
        le=1000,
        description="times that an extranet line may lose its carrier between two samples; more is flapping",
        examples=[2],
    )
    listen_s: float = Field(
        default=3, ge=0, le=60, description="seconds to listen to packets on an old router in each sample", examples=[3]
    )
    must_know: tuple[Source, ...] = Field(
        default=("counters", "neighbors", "routes", "config", "names"),
        description="what must be known in each sample; of counters and flows always one",
        examples=[["counters", "neighbors", "routes", "config", "names"]],
    )

    @field_validator("hours")
    @classmethod
    def _check_hours(cls, value: str) -> str:
        opens, closes = map(time.fromisoformat, value.split("-"))
        if opens >= closes:
            raise ValueError(f"expected an end after the beginning, found {value}")
        return value

    @field_validator("time_zone")
    @classmethod
    def _check_zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError(f"expected a time zone such as Asia/Shanghai, found {value!r}") from None
        return value

    @property
    def zone(self) -> ZoneInfo:
        """The time zone of the business hours."""
        return ZoneInfo(self.time_zone)

    @property
    def opening(self) -> tuple[time, time]:
        """When windows open and close."""
        opens, closes = map(time.fromisoformat, self.hours.split("-"))
        return opens, closes


class Policy(Decided):
    """What the county decided. `pool` is the IPv6 block the plan divides."""

    pool: IPv6Network = Field(
        description="the IPv6 block that the plan divides: /16 to /44, its length a multiple of 4",
        examples=["3fff:329::/36"],
    )
    ipv4_pool: IPv4Network = Field(
        description="IPv4 LANs of the public plane and of the shared services come from here",
        examples=["10.128.0.0/16"],
    )
    ipv4_link_pool: IPv4Network = Field(
        description="IPv4 of the extranet's own links; apart from ipv4_pool", examples=["100.64.0.0/16"]
    )
    shared_ipv4: IPv4Network = Field(
        description="IPv4 of the shared services' LAN, a part of ipv4_pool", examples=["10.128.255.0/24"]
    )
    dns_domain: str = Field(
        pattern=r"^[a-z0-9]([a-z0-9.-]{0,200}[a-z0-9])?$",
        description="the domain under which services have their names",
        examples=["yichuan.example"],
    )
    coverage: tuple[CoverageTarget, ...] = Field(
        default=(),
        description="shares of central villages to be covered, with their dates, the earliest first",
        examples=[[{"share": 0.7, "by": "2027-09-30"}]],
    )
    timers: Timers = Field(
        default=Timers(), description="how long things may take or must last", examples=[{"soak_s": 604800}]
    )
    outage: OutagePolicy = Field(
        default=OutagePolicy(),
        description="what may be felt of a change at the windows, and how it is watched",
        examples=[{"budget_s": 10}],
    )
    probing: Probing = Field(
        default=Probing(), description="what a way must be like", examples=[{"min_mtu_bytes": 1492}]
    )
    budgets: Budgets = Field(
        default=Budgets(), description="what probes may ask of one device at once", examples=[{"station_probes": 8}]
    )
    soak: Soak = Field(
        default=Soak(), description="how an old line is watched before it is drained", examples=[{"samples": 28}]
    )
    quarantine_days: int = Field(
        default=180,
        ge=0,
        le=3650,
        description="days that a removed legacy line's IPv4 prefixes are given to nobody else",
        examples=[180],
    )
    planes: tuple[Plane, ...] = Field(
        description="what keeps departments apart: one VRF each; exactly one is public and one is shared",
        examples=[
            [{"id": "finance", "name": "财政专用区", "kind": "dedicated", "tenant": "财政局", "vlan": 110, "slot": 3}]
        ],
    )


class County(Model):
    """Everything a county's folder declares, checked. Classified networks are not in it, only `refused`."""

    id: str
    name: str
    name_en: str
    division_code: str
    policy: Policy
    sites: tuple[Site, ...]
    stations: tuple[Station, ...]
    networks: tuple[LegacyNetwork, ...]
    devices: tuple[Device, ...]
    circuits: tuple[Circuit, ...]
    servers: tuple[Server, ...]
    services: tuple[Service, ...]
    refused: tuple[RefusedNetwork, ...] = ()

    @cached_property
    def site_by_id(self) -> dict[str, Site]:
        """Sites by id."""
        return {s.id: s for s in self.sites}

    @cached_property
    def plane_by_id(self) -> dict[str, Plane]:
        """Planes by id."""
        return {p.id: p for p in self.policy.planes}

    @cached_property
    def station_by_id(self) -> dict[str, Station]:
        """Stations by id."""
        return {s.id: s for s in self.stations}

    @cached_property
    def network_by_id(self) -> dict[str, LegacyNetwork]:
        """Legacy networks by id."""
        return {n.id: n for n in self.networks}

    @cached_property
    def device_by_id(self) -> dict[str, Device]:
        """Devices by id."""
        return {d.id: d for d in self.devices}

    @cached_property
    def circuit_by_id(self) -> dict[str, Circuit]:
        """Circuits by id."""
        return {c.id: c for c in self.circuits}

    @cached_property
    def server_by_id(self) -> dict[str, Server]:
        """Servers by id."""
        return {s.id: s for s in self.servers}

    @cached_property
    def service_by_id(self) -> dict[str, Service]:
        """Services by id."""
        return {s.id: s for s in self.services}

    @cached_property
    def units(self) -> tuple[Unit, ...]:
        """Every legacy network at every site it serves, in file order."""
        return tuple(
            Unit(
                network=c.network,
                site=c.site,
                plane=self.network_by_id[c.network].plane,
                circuit=c.id,
                lan_prefix=c.lan_prefix,
            )
            for c in self.circuits
            if c.network != EXTRANET and c.lan_prefix is not None
        )

    @cached_property
    def unit_by_id(self) -> dict[str, Unit]:
        """Units by `network@site`."""
        return {u.id: u for u in self.units}

    @cached_property
    def unit_by_lan(self) -> dict[tuple[str, str], Unit]:
        """Units by (site, plane)."""
        return {(u.site, u.plane): u for u in self.units}

    @cached_property
    def units_by_network(self) -> dict[str, tuple[Unit, ...]]:
        """Units by legacy network, in file order."""
        out: dict[str, list[Unit]] = {n.id: [] for n in self.networks}
        for unit in self.units:
            out[unit.network].append(unit)
        return {network: tuple(units) for network, units in out.items()}

    @cached_property
    def units_by_far_device(self) -> dict[str, tuple[Unit, ...]]:
        """Units by the legacy router at the far end of their line."""
        out: dict[str, list[Unit]] = {}
        for unit in self.units:
            far = self.circuit_by_id[unit.circuit].far_device
            if far is not None:
                out.setdefault(far, []).append(unit)
        return {device: tuple(units) for device, units in out.items()}

    @cached_property
    def uplinks(self) -> dict[tuple[str, str], tuple[str, ...]]:
        """By network and legacy router, the routers at the far ends of its lines."""
        out: dict[tuple[str, str], tuple[str, ...]] = {}
        for c in self.circuits:
            if c.device and c.far_device:
                out[c.network, c.device] = (*out.get((c.network, c.device), ()), c.far_device)
        return out

    @cached_property
    def extranet_under(self) -> dict[str, tuple[str, ...]]:
        """For each site, the extranet routers under it: its own, its town's, and all cores."""
        legacy = {n.id for n in self.networks}
        own = [d for d in self.devices if d.network not in legacy]
        cores = {d.id for d in own if d.role is Role.CORE}
        at: dict[str, set[str]] = {s.id: set() for s in self.sites}
        for device in own:
            at[device.site].add(device.id)
        return {s.id: tuple(sorted(cores | at[s.id] | at[self.town_of(s.id)])) for s in self.sites}

    @cached_property
    def sites_served(self) -> dict[tuple[str, str], frozenset[str]]:
        """By (site, plane) of a LAN: the sites whose stations, from that plane, need a service whose server stands there."""
        lans = {s.id: (s.site, s.plane) for s in self.servers}
        at = {s.id: lans[s.server] for s in self.services}
        where = {s.id: s.site for s in self.stations}
        out: dict[tuple[str, str], set[str]] = {}
        for station, plane, service, _family, _unit in self.needs:
            lan = at[service]
            if lan[1] == plane:
                out.setdefault(lan, set()).add(where[station])
        return {lan: frozenset(sites) for lan, sites in out.items()}

    @cached_property
    def county_site(self) -> Site:
        """The one site of class county."""
        return next(s for s in self.sites if s.site_class is SiteClass.COUNTY)

    def plane_of_kind(self, kind: PlaneKind) -> Plane:
        """First plane of that kind (there is exactly one public and one shared plane)."""
        return next(p for p in self.policy.planes if p.kind is kind)

    def stations_at(self, site: str, plane: str | None = None) -> Iterator[Station]:
        """Stations at a site, only those with a leg in `plane` when given."""
        return (s for s in self.stations if s.site == site and (plane is None or plane in s.planes))

    def children(self, site: str) -> Iterator[Site]:
        """Sites whose parent is `site`."""
        return (s for s in self.sites if s.parent == site)

    def town_of(self, site: str) -> str:
        """The town a site belongs to (itself for a town; the county site for the county)."""
        s = self.site_by_id[site]
        return s.parent if s.site_class is SiteClass.VILLAGE and s.parent else s.id

    @cached_property
    def needs(self) -> tuple[Need, ...]:
        """Everything that must work, in a fixed order.

        IPv4 in a dedicated plane rides on the department's own addresses, so it needs the unit's cutover;
        IPv4 from the public plane comes with provisioning.
        """
        dedicated = {p.id for p in self.policy.planes if p.kind is PlaneKind.DEDICATED}
        services = [
            (s.id, s.plane, s.families, frozenset(s.needed_by), frozenset(s.from_planes)) for s in self.services
        ]
        ipv4 = Family.IPV4
        out: list[Need] = []
        for station in self.stations:
            tags = {self.site_by_id[station.site].site_class.value, station.kind, station.id}
            holders = {p: u.id for p in station.planes if (u := self.unit_by_lan.get((station.site, p))) is not None}
            for service, home, families, wanted, planes in services:
                if tags.isdisjoint(wanted):
                    continue
                for plane in station.planes:
                    if plane not in planes:
                        continue
                    for family in families:
                        unit = None
                        if family is ipv4 and plane in dedicated:
                            unit = holders.get(plane)
                            if unit is None or home != plane:
                                continue  # no legacy IPv4 here, or a shared service, reached over IPv6
                        out.append(Need(station.id, plane, service, family, unit))
        return tuple(out)

    @cached_property
    def forbidden(self) -> tuple[Forbidden, ...]:
        """Everything that must not work: each station leg against each department service of another plane.

        Over IPv6 always, as its addresses are unique; over IPv4 where the leg has any and the service's address means
        nothing in the leg's own plane: departments' ranges may coincide.
        """
        dedicated = [s for s in self.services if self.plane_by_id[s.plane].kind is PlaneKind.DEDICATED]
        foreign4 = {(p.id, s.id) for p in self.policy.planes for s in dedicated if self._is_foreign4(p, s)}
        return tuple(
            Forbidden(station=station.id, plane=plane, service=service.id, family=family)
            for station in self.stations
            for plane in station.planes
            for service in dedicated
            if service.plane != plane and plane not in service.from_planes
            for family in Family
            if family is Family.IPV6 or ((plane, service.id) in foreign4 and self._has_ipv4(station.site, plane))
        )

    @cached_property
    def asked(self) -> dict[tuple[str, str], list[tuple[str, str, str, str, str]]]:
        """Everything that must and must not work, by (site, plane) of the station's leg.

        Each as (station, plane, service, family, what is expected: "reach" or "blocked").
        """
        out: dict[tuple[str, str], list[tuple[str, str, str, str, str]]] = {}
        for expect, cells in (("reach", self.needs), ("blocked", self.forbidden)):
            for station, plane, service, family, *_ in cells:
                leg = (self.station_by_id[station].site, plane)
                out.setdefault(leg, []).append((station, plane, service, family.value, expect))
        return out

    @cached_property
    def asks(self) -> dict[str, str]:
        """What is asked of each service, and where it is, in words: what else it were, another would be asked."""
        out = {}
        for service in self.services:
            server = self.server_by_id[service.server]
            unit = self.unit_by_lan.get((server.site, server.plane))
            lan = f" of {unit.lan_prefix}" if unit is not None else ""
            where = f"{server.id} ({server.plane} at {server.site}, host {server.host}{lan})"
            out[service.id] = f"{service.protocol} {service.port} of {service.dns_name} on {where}"
        return out

    def _has_ipv4(self, site: str, plane: str) -> bool:
        """Tell whether legs of a plane at a site have IPv4 addresses: a department's own, or the extranet's."""
        return self.plane_by_id[plane].kind is not PlaneKind.DEDICATED or (site, plane) in self.unit_by_lan

    def _is_foreign4(self, plane: Plane, service: Service) -> bool:
        """Tell whether a service has an IPv4 address that is in no range of a plane's own."""
        server = self.server_by_id[service.server]
        holder = self.unit_by_lan.get((server.site, server.plane))
        if holder is None or Family.IPV4 not in service.families:
            return False
        own = [self.policy.ipv4_pool]
        if plane.kind is PlaneKind.DEDICATED:
            own = [p for n in self.networks if n.plane == plane.id for p in n.prefixes]
            own += [u.lan_prefix for u in self.units if u.plane == plane.id]
        return not any(holder.lan_prefix.network_address + server.host in p for p in own)
