"""Measure from the stations and keep what was seen: results become evidence, bound to what runs now."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

from inventory.model import EXTRANET, County, Role
from inventory.wording import say_span
from migration.archive import collect_archives
from migration.campaign import Campaign, Say, silent
from migration.events import Kind
from migration.evidence import (
    Bound,
    Evidence,
    collect_evidence,
    inventory_digest,
    make_evidence,
    policy_digest,
    topology_digest,
    write_evidence,
)
from migration.ledger.leases import uptime_s
from migration.proof import Situation
from migration.soak_samples import collect_samples
from migration.terms import fold_policies, note_policy
from migration.units import UnitState, fold, last_changes, legacy_devices_under, own_acts, soaking_since
from migration.waivers import fold_waivers
from nornir_tasks.changes import read_configs
from nornir_tasks.stations.collect import OnStation, measure
from nornir_tasks.stations.model import SERVICE_ASPECTS, WHOSE_WAY, Check, Outcome, Result

OnProgress = Callable[[int, int, str], None]
"""Told how far: done, total, what."""


def no_progress(_done: int, _total: int, _text: str = "") -> None:
    """Tell nobody."""


def answering(result: Result) -> frozenset[str]:
    """Return which aspects of a service and its way were as they should be, over whomever's routers."""
    return frozenset(f.aspect for f in result.findings if f.outcome is Outcome.PASSED and f.aspect not in WHOSE_WAY)


def works(result: Result) -> bool:
    """Tell whether a service answered in every aspect of its own, by whatever way."""
    own = [f.outcome for f in result.findings if f.aspect in SERVICE_ASPECTS]
    return bool(own) and all(outcome is Outcome.PASSED for outcome in own)


def devices_under_checks(county: County, checks: Iterable[Check]) -> list[str]:
    """Return the extranet routers that checks' packets may pass: those of their stations' sites and towns, all cores."""
    sites = {county.station_by_id[c.station].site for c in checks}
    sites |= {county.town_of(s) for s in sites}
    return sorted(d.id for d in county.devices if d.network == EXTRANET and (d.role is Role.CORE or d.site in sites))


def legacy_under_checks(campaign: Campaign, checks: Iterable[Check]) -> list[str]:
    """Return the legacy routers under the old paths of the legs that checks are about, removed lines' left out."""
    county, records = campaign.county, campaign.records()
    legs = {(county.station_by_id[c.station].site, c.plane) for c in checks}
    units = [
        u for u in county.units if (u.site, u.plane) in legs and not records[u.id].state.reached(UnitState.REMOVED)
    ]
    return sorted({d for u in units for d in legacy_devices_under(county, u)})


def read_bound(campaign: Campaign, devices: Iterable[str], *, say: Say = silent) -> Bound:
    """Return the digests of now. A device that does not answer is left out, so whatever depends on it is refused."""
    found = read_configs(campaign.nornir, sorted(devices))
    for out in found.values():
        if not out.ok:
            say(f"! {out.error}")
    return Bound(
        inventory=inventory_digest(campaign.county),
        plan=campaign.plan.digest,
        topology=topology_digest(campaign.topology),
        policy=policy_digest(campaign.county.policy),
        configs={name: out.value.digest for name, out in found.items() if out.ok and out.value is not None},
    )


def measure_now(
    campaign: Campaign,
    checks: Sequence[Check],
    *,
    units: Iterable[str] = (),
    beside: Sequence[Check] = (),
    on_progress: OnProgress = no_progress,
    look_closer: Callable[[Campaign, Sequence[Result]], list[Result]] | None = None,
) -> tuple[list[Result], Evidence]:
    """Run checks from their stations; return the results, also as evidence of now, of which nothing is recorded yet.

    `beside` are checks that are only remembered (`Campaign.recent`), for whoever asks for them next. `look_closer` may
    add to the results' raw data before they become evidence.
    """
    wanted = {c.id for c in checks}
    everything = [*checks, *(c for c in beside if c.id not in wanted)]
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="bound") as pool:
        began = campaign.clock.now().timestamp()
        under = [*devices_under_checks(campaign.county, checks), *legacy_under_checks(campaign, checks)]
        reading = pool.submit(read_bound, campaign, under)
        started = uptime_s()
        results = measure(
            everything,
            campaign.county,
            campaign.access,
            hops=campaign.matrix.hops,
            on_station=count_stations(everything, on_progress),
        )
        bound = reading.result()
    campaign.recent.note(results, started)
    results = results[: len(checks)]
    if look_closer is not None:
        results = look_closer(campaign, results)
    return results, bind(campaign, results, bound=bound, began=began, units=units)


def count_stations(checks: Iterable[Check], on_progress: OnProgress) -> OnStation:
    """Return a listener that tells how many of the checks' stations have answered."""
    total = len({c.station for c in checks})
    seen: set[str] = set()

    def on_station(station: str, _results: Sequence[Result]) -> None:
        seen.add(station)
        on_progress(len(seen), total, f"stations answered, last {station}")

    return on_station


def count_passing(checks: Iterable[Check], on_progress: OnProgress, *, until_s: float) -> OnStation:
    """Return a listener to repeated checks: how many stations pass, and how long the others are waited for at most."""
    total, ends = len({c.station for c in checks}), time.monotonic() + until_s
    good: set[str] = set()

    def on_station(station: str, results: Sequence[Result]) -> None:
        if all(r.outcome is Outcome.PASSED for r in results):
            good.add(station)  # what passed is not asked again
        left_s = max(0.0, ends - time.monotonic())
        rest = f"; waiting at most {say_span(left_s)} more" if len(good) < total else ""
        on_progress(len(good), total, f"stations pass, last {station}{rest}")

    return on_station


def bind(
    campaign: Campaign,
    results: Sequence[Result],
    *,
    bound: Bound,
    began: float,
    ended: float | None = None,
    units: Iterable[str] = (),
    withheld: Iterable[str] = (),
) -> Evidence:
    """Make evidence of results that were measured since `began` and until `ended` (None: now)."""
    return make_evidence(
        results,
        run=secrets.token_hex(6),
        bound=bound,
        taken_from=began,
        taken_to=campaign.clock.now().timestamp() if ended is None else ended,
        units=units,
        withheld=withheld,
        target=campaign.target,
    )


def keep(campaign: Campaign, evidence: Evidence) -> Evidence:
    """Write evidence as its file and its event in the ledger."""
    ledger = campaign.ledger  # there before the first evidence is: evidence without a ledger is refused
    write_evidence(campaign.folder, evidence)
    ledger.append(Kind.EVIDENCE, f"evidence/{evidence.digest}", evidence.body())
    return evidence


def read_situation(
    campaign: Campaign, devices: Iterable[str] = (), *, current: Bound | None = None, say: Say = silent
) -> Situation:
    """Gather everything the gates decide from; asks `devices` what they run now, unless `current` says it."""
    events = campaign.events()
    records = fold(events, campaign.county)
    now = campaign.clock.now()
    since = now.timestamp() - campaign.county.policy.timers.evidence_ttl_s - 1
    return Situation(
        county=campaign.county,
        checks=campaign.matrix.checks,
        evidence=collect_evidence(campaign.folder, events, since=since),
        records=records,
        changes=last_changes(events),
        current=current or read_bound(campaign, devices, say=say),
        now=now,
        policy=campaign.county.policy,
        waivers=fold_waivers(events, campaign.county.policy.timers),
        soak=collect_samples(campaign.folder, events, since=soaking_since(records)),
        acts=own_acts(events),
        archives=collect_archives(campaign.folder, events),
        policies=fold_policies(events),
    )


def keep_policy(campaign: Campaign) -> str:
    """See that the ledger holds the values of the policy of now; return its digest."""
    body = note_policy(campaign.county.policy)
    campaign.ledger.append(Kind.NOTE, f"policy/{campaign.target}/{body['digest']}", body)
    return str(body["digest"])


def choose_stations(campaign: Campaign, names: Iterable[str]) -> list[str]:
    """Return station ids for ids or names a person typed."""

    def by_name(county: County) -> dict[str, str]:
        return {n: s.id for s in county.stations for n in (s.id, s.name)}

    here, whole = by_name(campaign.county), by_name(campaign.whole)
    return [campaign.find_name("station", name, here, whole) for name in names]
