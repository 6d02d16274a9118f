"""Prefixes in quarantine: what removed legacy lines leave behind, given to nobody else for a while.

A pure consequence of the ledger. Filters, routes and hosts that nobody knows of may name an old prefix for months. The
unit's own people keep using their LAN over the extranet, and whoever overlapped it already when its line was removed may
stay; anything later may not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from ipaddress import IPv4Network

from pydantic import ValidationError

from addressing.model import AddressPlan
from inventory.errors import GateRefusedError
from inventory.model import County, Model
from migration.archive import NOTE
from migration.dossier import Dossier, Owner, make_dossier, owners_of
from migration.events import Event, Kind
from migration.units import Step, UnitState


class Quarantined(Model):
    """A prefix of a removed unit: nobody but `allowed` may hold addresses of it until `until`."""

    prefix: IPv4Network
    unit: str
    since: datetime
    until: datetime
    allowed: tuple[Owner, ...]

    def __str__(self) -> str:
        return f"{self.prefix} of {self.unit}, removed {self.since:%Y-%m-%d}, until {self.until:%Y-%m-%d}"


class Conflict(Model):
    """Somebody who holds, or would be given, addresses in quarantine."""

    owner: Owner
    quarantined: Quarantined

    def __str__(self) -> str:
        return f"{self.owner} overlaps quarantined {self.quarantined}; choose other addresses, or wait"


class QuarantineError(GateRefusedError):
    """Addresses in quarantine were to be given or declared again. `conflicts` are all of them."""

    def __init__(self, conflicts: Iterable[Conflict]) -> None:
        self.conflicts = tuple(conflicts)
        super().__init__("\n".join(map(str, self.conflicts)))


def list_quarantine(events: Iterable[Event], county: County, now: datetime) -> tuple[Quarantined, ...]:
    """Return what is in quarantine at `now` by one target's events, in address order.

    Later events only add: nothing but time takes a prefix out. A policy that is shortened frees nothing early, one that
    is lengthened holds on longer. A unit removed before there were dossiers is taken from the inventory.
    """
    return tuple(q for q in list_removed(events, county) if q.until > now)


def list_removed(events: Iterable[Event], county: County) -> tuple[Quarantined, ...]:
    """Return the prefixes of every removed unit, those free again included."""
    dossiers: dict[str, Dossier] = {}
    out: dict[tuple[IPv4Network, str], Quarantined] = {}
    for event in events:
        if event.kind is Kind.NOTE and event.body.get("note") == NOTE and event.unit is not None:
            found = _read_dossier(event.body)
            if found is not None:
                dossiers[event.unit] = found
        for unit in _removed_by(event):
            dossier = dossiers.get(unit) or _from_inventory(county, unit)
            if dossier is None:
                continue
            days = max(dossier.quarantine_days, county.policy.quarantine_days)
            for prefix in dossier.prefixes:
                out[prefix, unit] = Quarantined(
                    prefix=prefix,
                    unit=unit,
                    since=event.moment,
                    until=event.moment + timedelta(days=days),
                    allowed=tuple(o for o in dossier.beside if o.prefix.overlaps(prefix)),
                )
    return tuple(out[key] for key in sorted(out))


def find_conflicts(
    county: County, plan: AddressPlan | None, quarantined: Iterable[Quarantined]
) -> tuple[Conflict, ...]:
    """Return everybody in the inventory or the plan who holds quarantined addresses without having held them before."""
    owners = owners_of(county, plan)
    return tuple(
        Conflict(owner=o, quarantined=q)
        for q in quarantined
        for o in owners
        if o.prefix.overlaps(q.prefix) and o not in q.allowed
    )


def _removed_by(event: Event) -> tuple[str, ...]:
    body: Mapping[str, object] = event.body
    if event.kind is not Kind.OUTCOME or body.get("result") != "done" or body.get("step") != Step.REMOVE:
        return ()
    if body.get("state") != UnitState.REMOVED:
        return ()
    units = body.get("units")
    return (event.unit,) if event.unit is not None else tuple(map(str, units)) if isinstance(units, list) else ()


def _read_dossier(body: Mapping[str, object]) -> Dossier | None:
    try:
        return Dossier.model_validate(body.get("dossier"))
    except ValidationError:
        return None


def _from_inventory(county: County, unit: str) -> Dossier | None:
    found = county.unit_by_id.get(unit)
    return make_dossier(county, found, None) if found is not None else None
