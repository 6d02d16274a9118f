"""A county small enough to hold in the head, and everything measured in it, for the tests of this room.

county ── ta ── va1 (its finance line ends at ta's legacy router)
     └─── tb ── vb1 (no legacy line)
networks: fin at county, ta, tb, va1; soc at county and ta
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Network, IPv6Network

from inventory.model import (
    EXTRANET,
    Circuit,
    County,
    CoverageTarget,
    Device,
    Family,
    Forbidden,
    LegacyNetwork,
    Need,
    Plane,
    PlaneKind,
    Policy,
    Protocol,
    RefusedNetwork,
    Role,
    Server,
    Service,
    Site,
    SiteClass,
    Soak,
    Station,
    Timers,
)
from migration.archive import Archive, Archives
from migration.clock import to_iso
from migration.dossier import make_dossier
from migration.events import GENESIS, Event, Kind, digest_of, hash_event
from migration.evidence import Bound, Evidence, inventory_digest, make_evidence
from migration.matrix import BLOCKED_WAY, REACH_WAY
from migration.proof import Situation
from migration.soak_samples import SoakSample
from migration.terms import Policies, Terms, note_needs, note_policy, read_asked, read_services
from migration.units import (
    Step,
    UnitState,
    find_unit,
    fold,
    intent_body,
    last_changes,
    legacy_devices_under,
    outcome_body,
    own_acts,
)
from nornir_tasks.stations.model import Check, Finding, Outcome, Result
from tests.migration.soak_scene import clean_samples

T0 = datetime(2027, 9, 1, 8, 0, tzinfo=UTC)
"""When the stories of these tests begin."""

BOTH = (Family.IPV6, Family.IPV4)


class StoppedClock:
    """A clock that stands, and moves when told."""

    def __init__(self, moment: datetime = T0) -> None:
        self.moment = moment

    def now(self) -> datetime:
        """Return the moment it stands at."""
        return self.moment

    def pass_s(self, seconds: float) -> None:
        """Let time pass."""
        self.moment += timedelta(seconds=seconds)


def build_county(**timers: float) -> County:
    """Build the county drawn above."""

    def site(name: str, site_class: SiteClass, parent: str | None) -> Site:
        return Site(
            id=name,
            name=name.upper(),
            site_class=site_class,
            parent=parent,
            division_code="410329",
            responsible=f"head of {name}",
            central=site_class is SiteClass.VILLAGE,
        )

    def plane(name: str, kind: PlaneKind, slot: int) -> Plane:
        return Plane(id=name, name=name, kind=kind, tenant=name, vlan=100 + slot, slot=slot)

    def router(name: str, place: str, role: Role, network: str = EXTRANET) -> Device:
        return Device(id=name, name=f"router {name}", site=place, role=role, network=network)

    def line(network: str, place: str, lan: str, **more: str | IPv4Network | None) -> Circuit:
        ends = {"far_port": place} if "far_device" in more else {}
        return Circuit(
            id=f"{network}-{place}",
            network=network,
            site=place,
            lan_prefix=IPv4Network(lan),
            **{"device": f"{network}-{place}", "port": "wan1", "lan_port": "lan1", **ends, **more},  # type: ignore[arg-type]
        )

    def station(place: str, *planes: str) -> Station:
        return Station(id=f"st-{place}", name=f"st-{place}", site=place, kind="hall", windows=4, host=10, planes=planes)

    def service(name: str, server: str, plane_id: str, needed_by: Iterable[str], whence: Iterable[str]) -> Service:
        return Service(
            id=name,
            name=name,
            server=server,
            plane=plane_id,
            dns_name=name,
            protocol=Protocol.HTTPS,
            port=443,
            needed_by=tuple(needed_by),
            from_planes=tuple(whence),
            families=BOTH,
        )

    everywhere = ("county", "town", "village")
    return County(
        id="small",
        name="小县",
        name_en="Small",
        division_code="410329",
        policy=Policy(
            pool=IPv6Network("3fff:329::/36"),
            ipv4_pool=IPv4Network("10.128.0.0/16"),
            ipv4_link_pool=IPv4Network("100.64.0.0/16"),
            shared_ipv4=IPv4Network("10.128.255.0/24"),
            dns_domain="small.example",
            coverage=(
                CoverageTarget(share=0.5, by=datetime(2027, 9, 30, tzinfo=UTC).date()),
                CoverageTarget(share=1.0, by=datetime(2027, 10, 31, tzinfo=UTC).date()),
            ),
            soak=Soak(samples=2, longest_gap_s=10 * 86400, business_days=0),
            timers=Timers(**{"soak_s": 3600, "hold_s": 1800, "evidence_ttl_s": 600, **timers}),  # type: ignore[arg-type]
            planes=(
                plane("public", PlaneKind.PUBLIC, 1),
                plane("shared", PlaneKind.SHARED, 2),
                plane("finance", PlaneKind.DEDICATED, 3),
                plane("social", PlaneKind.DEDICATED, 4),
            ),
        ),
        sites=(
            site("county", SiteClass.COUNTY, None),
            site("ta", SiteClass.TOWN, "county"),
            site("tb", SiteClass.TOWN, "county"),
            site("va1", SiteClass.VILLAGE, "ta"),
            site("vb1", SiteClass.VILLAGE, "tb"),
        ),
        stations=(
            station("county", "public", "finance", "social"),
            station("ta", "public", "finance", "social"),
            station("tb", "public", "finance"),
            station("va1", "public", "finance"),
            station("vb1", "public"),
        ),
        networks=tuple(
            LegacyNetwork(
                id=name,
                name=name,
                tenant=name,
                plane=plane_id,
                prefixes=(IPv4Network("10.20.0.0/16"),),
                lead="the office",
                responsible=f"head of {name}",
            )
            for name, plane_id in (("fin", "finance"), ("soc", "social"))
        ),
        devices=(
            router("core1", "county", Role.CORE),
            router("core2", "county", Role.CORE),
            router("r-ta", "ta", Role.TOWN),
            router("r-tb", "tb", Role.TOWN),
            router("r-va1", "va1", Role.VILLAGE),
            router("r-vb1", "vb1", Role.VILLAGE),
            *(router(f"fin-{s}", s, Role.LEGACY, "fin") for s in ("county", "ta", "tb")),
            *(router(f"soc-{s}", s, Role.LEGACY, "soc") for s in ("county", "ta")),
        ),
        circuits=(
            line("fin", "county", "10.20.0.0/24", port=None, lan_port="lan1"),
            line("fin", "ta", "10.20.1.0/24", far_device="fin-county", wan_prefix=IPv4Network("10.20.255.0/30")),
            line("fin", "tb", "10.20.2.0/24", far_device="fin-county", wan_prefix=IPv4Network("10.20.255.4/30")),
            line(
                "fin",
                "va1",
                "10.20.3.0/24",
                device=None,
                port=None,
                lan_port=None,
                far_device="fin-ta",
                far_port="lan2",
            ),
            line("soc", "county", "10.20.0.0/24", port=None, lan_port="lan1"),
            line("soc", "ta", "10.20.1.0/24", far_device="soc-county", wan_prefix=IPv4Network("10.20.255.0/30")),
        ),
        servers=(
            Server(id="s-portal", name="portal", site="county", plane="shared", host=80),
            Server(id="s-fin", name="finance", site="county", plane="finance", host=80),
            Server(id="s-soc", name="social", site="county", plane="social", host=80),
        ),
        services=(
            service("portal", "s-portal", "shared", everywhere, ("public", "finance")),
            service("ledgers", "s-fin", "finance", everywhere, ("finance",)),
            service("pensions", "s-soc", "social", everywhere, ("social",)),
        ),
        refused=(RefusedNetwork(id="hidden", name="机密网", row=9),),
    )


def build_checks(county: County) -> tuple[Check, ...]:
    """Build the expected matrix of a county."""

    def check(cell: Need | Forbidden, expect: str, unit: str | None) -> Check:
        return Check(
            id=f"{cell.station}/{cell.plane}/{cell.service}/{cell.family}/{expect}",
            station=cell.station,
            plane=cell.plane,
            service=cell.service,
            family=cell.family,
            expect=expect,  # type: ignore[arg-type]
            protocol="https",
            interface=cell.plane,
            dns_name=f"{cell.service}.small.example",
            address="2001:db8::80" if cell.family is Family.IPV6 else "10.20.0.80",
            resolver=None,
            port=443,
            unit=unit,
            trace=expect == "reach",
            way=REACH_WAY if expect == "reach" else BLOCKED_WAY,
        )

    return (
        *(check(need, "reach", need.unit) for need in county.needs),
        *(check(ban, "blocked", None) for ban in county.forbidden),
    )


def pass_check(check: Check, at: datetime) -> Result:
    """Make the result of a check that passed."""
    findings = tuple(Finding(aspect=a, outcome=Outcome.PASSED, detail="") for a in check.asks)
    hops = ("core1",) if check.expect == "reach" else ()
    return Result(check=check, outcome=Outcome.PASSED, why="", findings=findings, hops=hops, at=at.timestamp(), ms=3.0)


def fail_check(check: Check, at: datetime, outcome: Outcome = Outcome.FAILED) -> Result:
    """Make the result of a check that failed, or of which nothing is known."""
    why = "tcp: connection to port 443 - expected open, found refused"
    finding = Finding(aspect="tcp", outcome=outcome, detail=why)
    return Result(check=check, outcome=outcome, why=why, findings=(finding,), at=at.timestamp())


def bound_now(county: County, **configs: str) -> Bound:
    """Return what runs now: every extranet router its own configuration, unless given."""
    running = {d.id: f"config of {d.id}" for d in county.devices if d.network == EXTRANET}
    return Bound(inventory=inventory_digest(county), plan="plan", configs={**running, **configs})


def measure(
    county: County,
    at: datetime,
    *,
    results: Iterable[Result] | None = None,
    bound: Bound | None = None,
    withheld: Iterable[str] = (),
    units: Iterable[str] = (),
) -> Evidence:
    """Make a run that began at `at` and took ten seconds; everything passes unless results are given."""
    found = [pass_check(c, at + timedelta(seconds=5)) for c in build_checks(county)] if results is None else results
    return make_evidence(
        found,
        run=f"run at {at:%H:%M:%S}",
        bound=bound or bound_now(county),
        taken_from=at.timestamp(),
        taken_to=at.timestamp() + 10,
        withheld=withheld,
        units=units,
        target="lab t",
    )


class Story:
    """Events as the ledger would hold them, told one after the other."""

    def __init__(self, at: datetime = T0) -> None:
        self.at = at
        self.events: list[Event] = []

    def tell(
        self, kind: Kind, key: str, body: dict[str, object], unit: str | None = None, actor: str = "the engineer"
    ) -> Event:
        """Add an event a second after the one before."""
        self.at += timedelta(seconds=1)
        fields = {
            "seq": len(self.events) + 1,
            "at": to_iso(self.at),
            "actor": actor,
            "target": "lab t",
            "kind": kind.value,
            "key": key,
            "unit": unit,
            "body": body,
            "prev": self.events[-1].hash if self.events else GENESIS,
        }
        event = Event(**fields, hash=hash_event(fields))  # type: ignore[arg-type]
        self.events.append(event)
        return event

    def wait_s(self, seconds: float) -> Story:
        """Let time pass."""
        self.at += timedelta(seconds=seconds)
        return self

    def begin(
        self, step: Step, unit: str, start: UnitState, end: UnitState, *devices: str, ran: str = "", change: str = ""
    ) -> str:
        """Record an intent and return its key; `ran` is what each device ran before."""
        key = f"{step}:{unit}:{len(self.events)}"
        more = {"ran": dict.fromkeys(devices, ran)} if ran else {}
        body = intent_body(step, start=start, end=end, devices=devices, change=change or key, **more)
        self.tell(Kind.INTENT, key, body, unit)
        return key

    def end(self, step: Step, key: str, unit: str, state: UnitState, *, result: str = "done", reason: str = "") -> None:
        """Record an outcome."""
        body = outcome_body(step, result=result, state=state, devices={}, reason=reason)  # type: ignore[arg-type]
        self.tell(Kind.OUTCOME, key, body, unit)

    def go(self, *units: str, to: UnitState) -> Story:
        """Take units to a state, step by step."""
        steps = (
            (Step.PROVISION, UnitState.PROVISIONED),
            (Step.CUTOVER, UnitState.CUT_OVER),
            (Step.DRAIN, UnitState.DRAINED),
            (Step.SHUT, UnitState.SHUT),
            (Step.REMOVE, UnitState.REMOVED),
            (Step.RELEASE, UnitState.RELEASED),
        )
        for unit in units:
            start = UnitState.SURVEYED
            for event in self.events:
                if event.unit == unit and event.kind is Kind.OUTCOME:
                    start = UnitState(event.body["state"])
            for step, end in steps:
                if start.rank < end.rank <= to.rank:
                    self.end(step, self.begin(step, unit, start, end), unit, end)
                    start = end
        return self


def situation_of(
    county: County,
    story: Story,
    *evidence: Evidence,
    now: datetime | None = None,
    current: Bound | None = None,
    resuming: str | None = None,
    soak: Iterable[SoakSample] | None = None,
    archives: Archives | None = None,
    cut_over_under: Policy | None = None,
) -> Situation:
    """Put a situation together as a command would; old lines were watched and seen unused unless samples are given.

    Whoever is cut over was so under the policy of now, unless `cut_over_under` says another.
    """
    moment = now or story.at
    return Situation(
        county=county,
        checks=build_checks(county),
        evidence=evidence,
        records=fold(story.events, county),
        changes=last_changes(story.events),
        current=current or bound_now(county),
        now=moment,
        policy=county.policy,
        resuming=resuming,
        soak=tuple(clean_samples(county, story.events, moment) if soak is None else soak),
        acts=own_acts(story.events),
        archives=archive_all(county) if archives is None else archives,
        policies=policies_of(county, story, cut_over_under or county.policy),
    )


def policies_of(county: County, story: Story, then: Policy) -> Policies:
    """Return the policies on record had every cutover of a story been allowed under one, and samples taken under now's."""
    notes = [note_policy(p) for p in (then, county.policy)]
    records = fold(story.events, county)
    at = {u: r.entered[UnitState.CUT_OVER] for u, r in records.items() if UnitState.CUT_OVER in r.entered}
    return Policies(
        values={n["digest"]: n["policy"] for n in notes},
        terms={u: terms_of(county, u, notes[0]["digest"], moment) for u, moment in at.items()},
    )


def terms_of(county: County, unit: str, digest: str, at: datetime) -> Terms:
    """Return the terms of a unit that was cut over with the survey as it is."""
    told = note_needs(county, find_unit(county, unit))
    return Terms(digest=digest, at=at, asked=read_asked(told["asked"]), services=read_services(told["services"]))


def archive_all(county: County) -> dict[str, tuple[Archive, ...]]:
    """Return the archives there would be, had every unit's routers been archived before anything else."""
    return {
        unit.id: (
            Archive(
                unit=unit.id,
                seq=1,
                at=T0,
                state=UnitState.PROVISIONED,
                configs={d: digest_of(f"config of {d}") for d in legacy_devices_under(county, unit)},
                dossier=make_dossier(county, unit, None),
            ),
        )
        for unit in county.units
    }
