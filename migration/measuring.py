"""Measure from the stations and keep what was seen: results become evidence, bound to what runs now."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

from inventory.errors import UnknownNameError
from inventory.model import EXTRANET
from migration.campaign import Campaign
from migration.events import Kind
from migration.evidence import Bound, Evidence, collect_evidence, inventory_digest, make_evidence, write_evidence
from migration.proof import Situation
from migration.units import fold, last_changes
from nornir_tasks.changes import read_configs
from nornir_tasks.hosts import build_nornir
from nornir_tasks.stations.collect import measure, measure_until
from nornir_tasks.stations.model import Check, Outcome, Result

OnProgress = Callable[[int, int, str], None]
"""Told how far: done, total, what."""


def no_progress(_done: int, _total: int, _text: str = "") -> None:
    """Tell nobody."""


def answering(result: Result) -> frozenset[str]:
    """Return which aspects of a service answered as they should, by whatever path."""
    return frozenset(f.aspect for f in result.findings if f.outcome is Outcome.PASSED and f.aspect != "path")


def works(result: Result) -> bool:
    """Tell whether a service answered in every aspect, by whatever path."""
    return bool(answering(result)) and all(f.outcome is Outcome.PASSED for f in result.findings if f.aspect != "path")


def extranet_devices(campaign: Campaign) -> list[str]:
    """Return the extranet routers in scope."""
    return sorted(d.id for d in campaign.county.devices if d.network == EXTRANET)


def read_bound(campaign: Campaign, devices: Iterable[str] | None = None) -> Bound:
    """Return the digests of now. A device that does not answer is left out, so whatever depends on it is refused."""
    wanted = sorted(devices) if devices is not None else extranet_devices(campaign)
    nornir = build_nornir(campaign.county, campaign.access, wanted)
    found = read_configs(nornir, wanted)
    return Bound(
        inventory=inventory_digest(campaign.county),
        plan=campaign.plan.digest,
        configs={name: out.value.digest for name, out in found.items() if out.ok and out.value is not None},
    )


def measure_and_keep(
    campaign: Campaign,
    checks: Sequence[Check],
    *,
    units: Iterable[str] = (),
    withheld: Iterable[str] = (),
    until_s: float | None = None,
    devices: Iterable[str] | None = None,
    on_progress: OnProgress = no_progress,
) -> tuple[list[Result], Evidence]:
    """Run checks from their stations, record the results as evidence in the ledger, and return both.

    With `until_s`, checks that have not passed are repeated until all do or the time is over; the evidence then
    begins with the first try, so nothing is taken for newer than it is.
    """
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="bound") as pool:
        began = campaign.clock.now().timestamp()
        reading = pool.submit(read_bound, campaign, devices)
        stations = len({c.station for c in checks})
        seen: set[str] = set()

        def on_station(station: str, *_: object) -> None:
            seen.add(station)
            on_progress(len(seen), stations, f"stations answered, last {station}")

        if until_s is None:
            results = measure(
                checks, campaign.county, campaign.access, hops=campaign.matrix.hops, on_station=on_station
            )
        else:
            results = measure_until(
                checks,
                campaign.county,
                campaign.access,
                hops=campaign.matrix.hops,
                until_s=until_s,
                on_station=on_station,
            )
        bound = reading.result()
    evidence = keep(campaign, results, bound=bound, began=began, units=units, withheld=withheld)
    return results, evidence


def keep(
    campaign: Campaign,
    results: Sequence[Result],
    *,
    bound: Bound,
    began: float,
    units: Iterable[str] = (),
    withheld: Iterable[str] = (),
) -> Evidence:
    """Write results as an evidence file and its event."""
    evidence = make_evidence(
        results,
        run=secrets.token_hex(6),
        bound=bound,
        taken_from=began,
        taken_to=campaign.clock.now().timestamp(),
        units=units,
        withheld=withheld,
    )
    write_evidence(campaign.folder, evidence)
    campaign.ledger.append(Kind.EVIDENCE, f"evidence/{evidence.digest}", evidence.body())
    return evidence


def read_situation(campaign: Campaign, devices: Iterable[str], *, resuming: str | None = None) -> Situation:
    """Gather everything the gates decide from; asks `devices` what they run now."""
    events = campaign.ledger.events()
    now = campaign.clock.now()
    since = now.timestamp() - campaign.county.policy.timers.evidence_ttl_s - 1
    return Situation(
        county=campaign.county,
        checks=campaign.matrix.checks,
        evidence=collect_evidence(campaign.folder, events, since=since),
        records=fold(events, campaign.county),
        changes=last_changes(events),
        current=read_bound(campaign, devices),
        now=now,
        policy=campaign.county.policy,
        resuming=resuming,
    )


def choose_stations(campaign: Campaign, names: Iterable[str]) -> list[str]:
    """Return station ids for ids or names a person typed."""
    by_name = {s.name: s.id for s in campaign.county.stations}
    out = []
    for name in names:
        station = by_name.get(name.strip(), name.strip())
        if station not in campaign.county.station_by_id:
            raise UnknownNameError("station", name, campaign.county.station_by_id)
        out.append(station)
    return out
