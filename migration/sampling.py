"""Take samples of the old lines: ask the routers and resolvers once, keep what they said, and record it.

Nothing is changed anywhere. One sample at a time: a second one of the same county waits for the first.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from ipaddress import IPv4Network
from pathlib import Path

from inventory.model import EXTRANET, Unit
from inventory.wording import counted, say_span
from migration.campaign import Campaign, Say, silent
from migration.events import Kind, digest_of
from migration.measuring import OnProgress, keep_policy, no_progress
from migration.old_lines import line_of, wanted_names
from migration.proof import Situation
from migration.soak import next_stage, stand_soak
from migration.soak_samples import SoakSample, last_samples, make_sample, names_to_ask, raw_content, write_sample
from migration.units import UnitState
from nornir_tasks.drivers import Driver
from nornir_tasks.hosts import DeviceOutcome, run_on_devices
from nornir_tasks.old_line import NameSeen, Usage, UsageRead, nothing_known
from nornir_tasks.stations.collect import measure
from nornir_tasks.stations.model import Result

LOCK_FILE = ".soak.lock"
_CLEAR_OF_TIES_S = 0.05


def soaking_units(campaign: Campaign) -> list[Unit]:
    """Return the units whose old line is watched: cut over and not yet removed."""
    records = campaign.records()
    states = {u.id: records[u.id].state for u in campaign.county.units}
    return [
        u
        for u in campaign.county.units
        if states[u.id].reached(UnitState.CUT_OVER) and not states[u.id].reached(UnitState.REMOVED)
    ]


def take_sample(
    campaign: Campaign, units: Sequence[Unit], *, say: Say = silent, on_progress: OnProgress = no_progress
) -> SoakSample:
    """Ask who still uses these units' old lines, and record it. A router that does not answer is unknown, by name."""
    lines = [line_of(campaign.county, unit) for unit in units]
    names = wanted_names(campaign.county, lines)
    legacy = [d for d in names if campaign.county.device_by_id[d].network != EXTRANET]
    asked = sorted(names, key=lambda d: d not in legacy)
    say(f"· soak: {counted(len(units), 'old line')}, {counted(len(asked), 'router')} asked")
    ledger = campaign.ledger  # there before the first sample is
    with _one_at_a_time(campaign.folder):
        before = last_samples(campaign.events())
        began = campaign.clock.now().timestamp()
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="names") as pool:
            seen_names = pool.submit(ask_names, campaign, units)
            outcomes = _ask_devices(campaign, asked, names, frozenset(legacy), on_progress)
            found_names = seen_names.result()
        ended = campaign.clock.now().timestamp()
        usages: list[Usage] = []
        raw: dict[str, str] = {}
        for device in asked:
            out = outcomes[device]
            if out.value is not None:
                usages.append(out.value.usage)
                raw[device] = out.value.raw
            else:
                say(f"! {out.error}")
                usages.append(nothing_known(device, out.error, at=ended))
        sample = make_sample(
            units=(u.id for u in units),
            usages=usages,
            names=found_names,
            taken_from=began,
            taken_to=ended,
            before={u.id: before[u.id] for u in units if u.id in before},
            raw=digest_of(raw_content(raw)),
            target=campaign.target,
            policy=keep_policy(campaign),
        )
        write_sample(campaign.folder, sample, raw)
        event = ledger.append(Kind.SOAK, f"soak/{sample.digest}", sample.body())
    return sample.model_copy(update={"recorded": event.moment.timestamp(), "seq": event.seq})


def _ask_devices(
    campaign: Campaign,
    asked: Sequence[str],
    names: Mapping[str, tuple[IPv4Network, ...]],
    legacy: frozenset[str],
    on_progress: OnProgress,
) -> dict[str, DeviceOutcome[UsageRead]]:
    listen_s, told = campaign.county.policy.soak.listen_s, Counter[str]()

    def ask(driver: Driver) -> UsageRead:
        return driver.read_usage(names[driver.device], listen_s=listen_s if driver.device in legacy else 0)

    def on_done(out: DeviceOutcome[UsageRead]) -> None:
        told[""] += 1
        on_progress(told[""], len(asked), f"routers asked, last {out.device}")

    return run_on_devices(campaign.nornir, ask, asked, on_done=on_done)


def ask_names(campaign: Campaign, units: Iterable[Unit]) -> list[NameSeen]:
    """Ask the county's resolvers for the names of all services in these units' planes, each from one station that needs it."""
    asked = names_to_ask(campaign.county, campaign.matrix.checks)
    checks = [c for plane in dict.fromkeys(u.plane for u in units) for c in asked.get(plane, {}).values()]
    if not checks:
        return []
    wanted = [c.model_copy(update={"trace": False, "resolvers": ()}) for c in checks]
    results = measure(wanted, campaign.county, campaign.access, hops=campaign.matrix.hops)
    return [_name_seen(result) for result in results]


def _name_seen(result: Result) -> NameSeen:
    check, found = result.check, result.raw.get("dns")
    addresses = tuple(map(str, found)) if isinstance(found, list) else ()
    said = next((f.detail for f in result.findings if f.aspect == "dns"), result.why or "no answer")
    # A name that is not there is an answer; only the resolver's silence is unknown.
    answered = bool(addresses) or any(w in said for w in ("NXDOMAIN", "no A record", "no AAAA record"))
    return NameSeen(
        name=check.dns_name,
        family=check.family.value,
        resolver=check.resolver or "",
        station=check.station,
        plane=check.plane,
        addresses=addresses,
        unknown="" if answered else said,
    )


def watch_out(
    campaign: Campaign,
    units: Sequence[Unit],
    situation: Situation,
    *,
    say: Say = silent,
    on_progress: OnProgress = no_progress,
) -> None:
    """Wait as long as soaks and holds of these units still last, or until the next sample is due; then take one."""
    left_s = max(_next_look_s(unit, situation) for unit in units)
    if left_s > 0:
        say(f"· waiting {say_span(left_s)} for the next look at the old lines")
        time.sleep(left_s + _CLEAR_OF_TIES_S)
    take_sample(campaign, units, say=say, on_progress=on_progress)


def _next_look_s(unit: Unit, situation: Situation) -> float:
    """Return the seconds until a unit's next sample makes sense: those missing are spread over the time left."""
    record, policy = situation.record(unit.id), situation.policy
    standing = stand_soak(unit, situation, next_stage(record.state))
    now = situation.now
    held = record.entered.get(UnitState.SHUT)
    ends = (standing.until or 0.0) if standing.since is not None else 0.0
    if record.state is UnitState.SHUT and held is not None:
        ends = held.timestamp() + policy.timers.hold_s
    left_s = max(0.0, ends - now.timestamp())
    missing = max(1, standing.wanted_samples - standing.samples)
    if standing.days < standing.wanted_days:
        left_s = max(left_s, policy.soak.longest_gap_s / 2)
    return min(policy.soak.longest_gap_s / 2, left_s / missing) if standing.last is not None else 0.0


@contextmanager
def _one_at_a_time(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
