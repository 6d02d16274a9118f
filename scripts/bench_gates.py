"""Measure the gates on this machine: a province, county by county, every unit's next stage of retirement.

`./scripts/bench gates` builds counties of one shape, a run of results for each, a million in all, and a week of samples of
every old line, and asks the product's own gates about every unit. Only the asking is timed: from the inventory, the
matrix, the records, the samples and the evidence in memory to every verdict with its reasons. Which units must be allowed
is known beforehand, and a gate that says otherwise ends the measurement. `--write` puts the numbers into docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import random
import resource
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path

from inventory.errors import ExtranetError
from inventory.files import write_whole
from inventory.model import (
    EXTRANET,
    Circuit,
    County,
    Device,
    Family,
    LegacyNetwork,
    Plane,
    PlaneKind,
    Policy,
    Protocol,
    Role,
    Server,
    Service,
    Site,
    SiteClass,
    Station,
)
from migration.evidence import Bound, Evidence
from migration.gates import Stage, judge_retirement
from migration.old_lines import line_of
from migration.proof import Situation
from migration.soak_samples import SoakSample
from migration.terms import Policies, Terms, note_needs, note_policy, read_asked, read_services
from migration.units import UnitRecord, UnitState
from nornir_tasks.old_line import FlowSeen, PortSeen, Usage
from nornir_tasks.stations.model import Check, Finding, Outcome, Result
from scripts.bench_county import DOCUMENT, BenchError, describe_machine, put_between, say

MARKS = ("<!-- gates: begin (./scripts/bench gates --write) -->", "<!-- gates: end -->")
STATIONS = 50_000
TOWNS, VILLAGES = 15, 29
"""Towns a county, villages a town: 451 stations a county with the county's own, and so 111 counties."""
CHECKS = 20
"""Checks a station: a service each, from the legs of two departments."""
BROKEN = 0.001
"""Share of results that failed, so that there are reasons to give."""
IN_USE = 3
"""Village lines a county on which somebody was heard in the last sample."""
SAMPLES, EVERY_H = 29, 6
"""Samples of every old line: what the default policy asks for, a week without a break."""
NETWORKS = {"fin": "finance", "soc": "social"}
NOW = datetime(2027, 9, 1, 8, 0, tzinfo=UTC)
GOAL_S, GOAL_MIB = 10.0, 1024.0
SEED = 4


@dataclass(frozen=True)
class Measured:
    """What judging came to. `seconds` is wall time of the asking alone, `cpu_s` its processor time, `mib` the peak."""

    counties: int
    stations: int
    units: int
    results: int
    seconds: float
    cpu_s: float
    mib: float
    allowed: int
    refused: int
    reasons: int


def build_county(towns: int = TOWNS, villages: int = VILLAGES) -> County:
    """Build a county in which two departments have a line to every site, and ten services each."""

    def site(name: str, site_class: SiteClass, parent: str | None) -> Site:
        return Site(
            id=name,
            name=name,
            site_class=site_class,
            parent=parent,
            division_code="410000",
            responsible=f"head of {name}",
        )

    places: list[tuple[str, SiteClass, str | None]] = [("county", SiteClass.COUNTY, None)]
    for t in range(towns):
        places.append((f"t{t}", SiteClass.TOWN, "county"))
        places += [(f"t{t}v{v}", SiteClass.VILLAGE, f"t{t}") for v in range(villages)]
    sites = [site(*place) for place in places]
    kinds = {SiteClass.COUNTY: Role.CORE, SiteClass.TOWN: Role.TOWN, SiteClass.VILLAGE: Role.VILLAGE}
    devices = [
        Device(id=f"r-{s.id}", name=f"r-{s.id}", site=s.id, role=kinds[s.site_class], network=EXTRANET) for s in sites
    ]
    circuits = []
    for network in NETWORKS:
        for number, place in enumerate(sites):
            lan = IPv4Network((0x0A000000 + (number << 8), 24))
            ends: dict[str, str | None] = {
                "device": None,
                "port": None,
                "far_device": f"{network}-{place.parent}",
                "far_port": place.id,
            }
            if place.site_class is not SiteClass.VILLAGE:
                devices.append(
                    Device(
                        id=f"{network}-{place.id}",
                        name=f"{network}-{place.id}",
                        site=place.id,
                        role=Role.LEGACY,
                        network=network,
                    )
                )
                far = None if place.parent is None else f"{network}-{place.parent}"
                ends = {"device": f"{network}-{place.id}", "port": "wan1", "far_device": far}
            circuits.append(Circuit(id=f"{network}-{place.id}", network=network, site=place.id, lan_prefix=lan, **ends))  # type: ignore[arg-type]
    planes = [
        Plane(id=p, name=p, kind=k, tenant=p, vlan=100 + n, slot=n)
        for n, (p, k) in enumerate(
            (
                ("public", PlaneKind.PUBLIC),
                ("shared", PlaneKind.SHARED),
                *((p, PlaneKind.DEDICATED) for p in NETWORKS.values()),
            ),
            1,
        )
    ]
    services = [
        Service(
            id=f"{plane}{n}",
            name=f"{plane}{n}",
            server=f"s-{plane}",
            plane=plane,
            dns_name=f"{plane}{n}",
            protocol=Protocol.HTTPS,
            port=443,
            needed_by=("county", "town", "village"),
            from_planes=tuple(NETWORKS.values()),
            families=(Family.IPV6,),
        )
        for plane in NETWORKS.values()
        for n in range(CHECKS // 4)
    ]
    return County(
        id="bench",
        name="bench",
        name_en="bench",
        division_code="410000",
        policy=Policy(
            pool=IPv6Network("3fff::/36"),
            ipv4_pool=IPv4Network("10.128.0.0/16"),
            ipv4_link_pool=IPv4Network("100.64.0.0/16"),
            shared_ipv4=IPv4Network("10.128.255.0/24"),
            dns_domain="bench.example",
            planes=tuple(planes),
        ),
        sites=tuple(sites),
        stations=tuple(
            Station(
                id=f"st-{s.id}", name=s.id, site=s.id, kind="hall", windows=4, host=10, planes=tuple(NETWORKS.values())
            )
            for s in sites
        ),
        networks=tuple(
            LegacyNetwork(id=n, name=n, tenant=n, plane=p, prefixes=(), lead="", responsible="")
            for n, p in NETWORKS.items()
        ),
        devices=tuple(devices),
        circuits=tuple(circuits),
        servers=tuple(Server(id=f"s-{p}", name=p, site="county", plane=p, host=80) for p in NETWORKS.values()),
        services=tuple(services),
    )


def build_checks(county: County) -> tuple[Check, ...]:
    """Build the matrix: a check a need."""
    return tuple(
        Check(
            id=f"{n.station}/{n.plane}/{n.service}/{n.family.value}",
            station=n.station,
            plane=n.plane,
            service=n.service,
            family=n.family,
            expect="reach",
            protocol="https",
            interface=n.plane,
            dns_name=f"{n.service}.bench.example",
            address="2001:db8::80",
            resolver=None,
            port=443,
            unit=n.unit,
        )
        for n in county.needs
    )


def build_results(checks: tuple[Check, ...], at: float, rng: random.Random) -> tuple[Result, ...]:
    """Build a run: nearly everything passed, with its path."""
    good = tuple(
        Finding(aspect=a, outcome=Outcome.PASSED, detail="") for a in ("dns", "tcp", "tls", "http", "marker", "path")
    )
    bad = (Finding(aspect="tcp", outcome=Outcome.FAILED, detail="port 443 - expected open, found refused"),)
    out = []
    for check in checks:
        own = check.model_copy()  # read from a file it would be another object, too
        hops = (f"r-{check.station[3:]}:lan", "r-county:wan")
        if rng.random() < BROKEN:
            out.append(
                Result(
                    check=own,
                    outcome=Outcome.FAILED,
                    why="tcp: port 443 - expected open, found refused",
                    findings=bad,
                    at=at,
                )
            )
        else:
            out.append(Result(check=own, outcome=Outcome.PASSED, why="", findings=good, hops=hops, at=at))
    return tuple(out)


def build_usages(county: County, at: float, heard: Iterable[tuple[str, str]] = ()) -> tuple[Usage, ...]:
    """Build what every router says of old lines that nobody uses; `heard` are ports, each with its router, on which a host is."""
    ports: dict[str, dict[str, PortSeen]] = {d.id: {} for d in county.devices}
    for unit in county.units:
        for port in line_of(county, unit).ports:
            up = not port.lan  # the LAN is the extranet's since the cutover
            ports[port.device][port.name] = PortSeen(
                name=port.name,
                up=up,
                carrier=up,
                rx_packets=0,
                rx_bytes=0,
                tx_packets=0,
                tx_bytes=0,
                carrier_changes=2,
            )
    flows: dict[str, list[FlowSeen]] = {}
    for device, name in heard:
        flow = FlowSeen(
            port=name,
            source="10.250.0.9",
            destination="10.250.0.10",
            mac="02:00:00:00:00:09",
            protocol="tcp",
            service=443,
            packets=9,
        )
        flows.setdefault(device, []).append(flow)
    return tuple(
        Usage(
            device=device,
            at=at,
            incarnation="first",
            ports=tuple(seen.values()),
            forwarded=0,
            flows=tuple(flows.get(device, ())),
            flow_source="packets",
        )
        for device, seen in sorted(ports.items())
    )


def build_samples(county: County, policy: str, in_use: Iterable[str]) -> tuple[SoakSample, ...]:
    """Build a week of samples; in the last one somebody is heard on the village lines of these units."""
    lines = [county.circuit_by_id[county.unit_by_id[name].circuit] for name in in_use]
    heard = [(line.far_device or "", line.far_port or "") for line in lines]
    names = tuple(u.id for u in county.units)
    out: list[SoakSample] = []
    for number in range(SAMPLES):
        at = (NOW - timedelta(hours=EVERY_H * (SAMPLES - 1 - number))).timestamp() - 30
        out.append(
            SoakSample.model_construct(
                digest=f"{number:064x}",
                units=names,
                taken_from=at - 5,
                taken_to=at,
                usages=build_usages(county, at, heard if number == SAMPLES - 1 else ()),
                names=(),
                before=dict.fromkeys(names, out[-1].digest) if out else {},
                policy=policy,
                recorded=at,
                seq=number + 1,
            )
        )
    return tuple(out)


def must_be_allowed(situation: Situation, in_use: Iterable[str]) -> frozenset[str]:
    """Return the units that may be drained: not the hubs, nobody whose line is in use or whose results hold a failure."""
    county = situation.county
    sites = {s.id: s.site for s in county.stations}
    bad = {
        (sites[r.check.station], r.check.plane)
        for e in situation.evidence
        for r in e.results
        if r.outcome is not Outcome.PASSED
    }
    hub, used = county.county_site.id, set(in_use)
    return frozenset(u.id for u in county.units if u.site != hub and u.id not in used and (u.site, u.plane) not in bad)


def build_situations(
    counties: int, *, towns: int = TOWNS, villages: int = VILLAGES, seed: int = SEED
) -> Iterator[tuple[Situation, frozenset[str]]]:
    """Yield one county's situation after another, with the units to be allowed: every line is to be drained next."""
    rng = random.Random(seed)  # noqa: S311 - the same results in every run, no secret
    template = build_county(towns, villages)
    checks = build_checks(template)
    cut, began = NOW - timedelta(days=30), NOW.timestamp() - 60
    bound = Bound(inventory="i", plan="p", configs={d.id: "c" for d in template.devices if d.network == EXTRANET})
    records = {
        u.id: UnitRecord(unit=u.id, state=UnitState.CUT_OVER, since=cut, entered={UnitState.CUT_OVER: cut})
        for u in template.units
    }
    note = note_policy(template.policy)
    terms = {}
    for unit in template.units:
        told = note_needs(template, unit)
        asked, services = read_asked(told["asked"]), read_services(told["services"])
        terms[unit.id] = Terms(digest=note["digest"], at=cut, asked=asked, services=services)
    policies = Policies({note["digest"]: note["policy"]}, terms)
    leaves = [u.id for u in template.units if template.site_by_id[u.site].site_class is SiteClass.VILLAGE]
    for number in range(counties):
        county = template.altered()  # forgets what was worked out of it for the one before
        run = Evidence(
            digest=f"{number:064x}",
            run=str(number),
            results=(),
            bound=bound,
            taken_from=began,
            taken_to=began + 30,
            withheld=tuple(records),
            seq=1,
        ).model_copy(update={"results": build_results(checks, began + 5, rng)})
        in_use = rng.sample(leaves, min(IN_USE, len(leaves)))
        situation = Situation(
            county=county,
            checks=checks,
            evidence=(run,),
            records=records,
            changes={},
            current=bound,
            now=NOW,
            policy=county.policy,
            soak=build_samples(county, note["digest"], in_use),
            policies=policies,
        )
        expected = must_be_allowed(situation, in_use)
        # What was worked out on the way is forgotten: the gates begin from what was read.
        yield replace(situation, county=template.altered()), expected


def measure(counties: int, *, towns: int = TOWNS, villages: int = VILLAGES, seed: int = SEED) -> Measured:
    """Ask the gate of every unit of so many counties, one county after the other."""
    seconds = cpu_s = 0.0
    units = results = allowed = refused = reasons = 0
    for situation, expected in build_situations(counties, towns=towns, villages=villages, seed=seed):
        gc.freeze()  # what is judged is no garbage: looking through it for cycles, again and again, is not the gates' work
        begin, cpu = time.monotonic(), time.process_time()
        verdicts = [judge_retirement(u.id, Stage.DRAIN, situation) for u in situation.county.units]
        seconds, cpu_s = seconds + time.monotonic() - begin, cpu_s + time.process_time() - cpu
        gc.unfreeze()
        found = {v.unit for v in verdicts if v.allowed}
        if found != expected:
            wrong = ", ".join(sorted(map(str, found ^ expected))[:5])
            raise BenchError(
                f"the gates said otherwise than is known of {len(found ^ expected)} units, the first: {wrong}"
            )
        units += len(verdicts)
        results += sum(len(e.results) for e in situation.evidence)
        allowed += sum(v.allowed for v in verdicts)
        refused += sum(not v.allowed for v in verdicts)
        reasons += sum(len(v.reasons) for v in verdicts)
    here = 1 + towns * (1 + villages)
    mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return Measured(counties, counties * here, units, results, seconds, cpu_s, mib, allowed, refused, reasons)


def measure_province(processes: int) -> Measured:
    """Share a province's counties out to processes: its time is that of the slowest, its memory that of all."""
    counties = -(-STATIONS // (1 + TOWNS * (1 + VILLAGES)))
    shares = [counties // processes + (n < counties % processes) for n in range(processes)]
    started = [
        subprocess.Popen(
            [sys.executable, "-P", "-m", "scripts.bench_gates", "--one", str(share), str(SEED + n)],
            stdout=subprocess.PIPE,
        )
        for n, share in enumerate(shares)
    ]
    parts = []
    for process in started:
        said, _ = process.communicate()
        if process.returncode:
            raise BenchError(f"a measurement ended with exit {process.returncode}; run it again to see why")
        parts.append(Measured(**json.loads(said)))
    totals = {n: sum(getattr(p, n) for p in parts) for n in Measured.__dataclass_fields__}
    return Measured(**{**totals, "seconds": max(p.seconds for p in parts)})


def render(found: dict[int, Measured]) -> str:
    """Return the table."""
    machine = describe_machine()
    one = found[min(found)]
    lines = [
        f"Measured on {machine.cores} processors ({machine.processor}), {machine.system}, Python {machine.python}.",
        "",
        (
            f"{one.counties} counties, {one.stations:,} stations, {one.units:,} units, {one.results:,} results "
            f"({BROKEN:.1%} of them failed), {SAMPLES} samples of every old line ({IN_USE} a county in use): "
            f"{one.allowed:,} units allowed, {one.refused:,} refused with "
            f"{one.reasons:,} reasons."
        ),
        "",
        f"| every unit's next gate | seconds (goal {GOAL_S:.0f}) | processor seconds | MiB (goal {GOAL_MIB:.0f}) |",
        "| --- | --- | --- | --- |",
    ]
    for processes, m in found.items():
        how = "one process" if processes == 1 else f"{processes} processes, a share of the counties each"
        lines.append(f"| {how} | {m.seconds:.1f} | {m.cpu_s:.1f} | {m.mib:,.0f} |")
    return "\n".join(lines)


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="scripts/bench gates", description="Measure the gates on a province.")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything measured here")
    parser.add_argument("--write", action="store_true", help="put the numbers into docs/benchmarks.md")
    parser.add_argument("--one", nargs=2, type=int, help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def main() -> None:
    """Measure, print the table, and write what was asked for."""
    options = parse_arguments(sys.argv[1:])
    if options.one:
        counties, seed = options.one
        sys.stdout.write(json.dumps(asdict(measure(counties, seed=seed))))
        return
    try:
        if options.write:
            put_between(DOCUMENT.read_text("utf-8"), "", *MARKS)
        found = {}
        for processes in sorted({1, os.cpu_count() or 1}):
            found[processes] = measure_province(processes)
            say(f"  {processes}: {found[processes]}")
        numbers = render(found)
        print(numbers)
        if options.json is not None:
            write_whole(options.json, json.dumps({str(n): asdict(m) for n, m in found.items()}, indent=1) + "\n")
        if options.write:
            write_whole(DOCUMENT, put_between(DOCUMENT.read_text("utf-8"), numbers, *MARKS))
    except ExtranetError as error:
        say(str(error))
        raise SystemExit(error.exit_code) from None


if __name__ == "__main__":
    main()
