"""Giving a removed unit's line back: that its provider was told, by which notice, and from which day no rent is due.

No device is touched. A line that the extranet goes on using is taken over, not given back; a hub at the county centre has
none. Each is recorded as what it is, so that the books agree with the network. The survey is a file that one person can
edit: a line that was taken over by any of its archives stays so, whatever circuits.csv says now.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from typing import Any

from inventory.errors import ExtranetError
from inventory.model import County, Model, Unit
from migration.archive import Archive, collect_archives
from migration.campaign import Campaign
from migration.dossier import Dossier, make_dossier
from migration.events import Kind
from migration.gates import Verdict
from migration.proof import Reason, ReasonKind, say_moment
from migration.steps import new_change_id, record_verdict
from migration.units import Step, UnitRecord, UnitState, find_unit, outcome_body, units_behind

GATE = "release"
_LONGEST = 120


class How(StrEnum):
    """What became of a line."""

    RELEASED = "released"
    """Its provider was told to end it."""
    TAKEN_OVER = "taken over"
    """The extranet goes on using its cable, and somebody goes on paying for it."""
    NOT_RENTED = "not rented"
    """There is no line of its own, or nobody is paid for it."""


class Release(Model):
    """What is recorded: `reference` is the number of the notice, `rent_free_from` the first day without rent.

    `rent_yuan` is what the department paid a month; `saved_yuan` what nobody pays any more: nothing when it is taken over.
    """

    how: How
    reference: str
    rent_free_from: date | None
    circuit: str
    provider: str
    contract_end: date | None
    rent_yuan: int
    saved_yuan: int
    taken_over_by: str | None

    def __str__(self) -> str:
        if self.how is How.TAKEN_OVER:
            return f"{self.circuit} of {self.provider} is taken over by {self.taken_over_by}, not released"
        if self.how is How.NOT_RENTED:
            return f"{self.circuit} is not rented: nobody has to be told"
        ends = f", contract until {self.contract_end}" if self.contract_end else ", no contract end in circuits.csv"
        return (
            f"{self.circuit} of {self.provider} is released by notice {self.reference}, no rent from {self.rent_free_from}: "
            f"¥{self.saved_yuan:,} a month saved{ends}"
        )

    @property
    def early(self) -> bool:
        """Tell whether the rent ends before the contract does, for which a provider may ask something."""
        return bool(
            self.how is How.RELEASED
            and self.contract_end
            and self.rent_free_from
            and self.rent_free_from < self.contract_end
        )


@dataclass(frozen=True)
class ReleaseReport:
    """What was (or would be) recorded of one unit."""

    unit: str
    verdict: Verdict
    release: Release
    state: str

    def as_json(self) -> dict[str, Any]:
        """Return the report for machines."""
        return {
            "unit": self.unit,
            "state": self.state,
            "allowed": self.verdict.allowed,
            "gate": self.verdict.gate,
            "reasons": [r.model_dump(mode="json") for r in self.verdict.reasons],
            "release": self.release.model_dump(mode="json"),
        }


def read_reference(text: str) -> str:
    """Return a notice's number as it is recorded; ExtranetError when it cannot be one."""
    plain = unicodedata.normalize("NFC", text).strip()
    if not plain or len(plain) > _LONGEST or not plain.isprintable():
        raise ExtranetError(
            f"--reference: expected the number of the notice, one line of 1 to {_LONGEST} characters, found {text!r}; "
            "write it as on the letter"
        )
    return plain


def describe_release(dossier: Dossier, reference: str, rent_free_from: date | None) -> Release:
    """Say what becomes of a line."""
    how = How.RELEASED
    if dossier.taken_over_by is not None:
        how = How.TAKEN_OVER
    elif not dossier.rented:
        how = How.NOT_RENTED
    return Release(
        how=how,
        reference=reference,
        rent_free_from=rent_free_from,
        circuit=dossier.circuit,
        provider=dossier.provider,
        contract_end=dossier.contract_end,
        rent_yuan=dossier.monthly_rent_yuan,
        saved_yuan=dossier.monthly_rent_yuan if how is How.RELEASED else 0,
        taken_over_by=dossier.taken_over_by,
    )


def find_handed_over(archives: Sequence[Archive]) -> tuple[datetime, Dossier] | None:
    """Return the newest of a unit's archives by which the extranet took its line over, and when; None where none says so."""
    told = ((a.at, a.dossier) for a in reversed(archives) if a.dossier is not None)
    return next(((at, dossier) for at, dossier in told if dossier.taken_over_by is not None), None)


def judge_release(
    unit_id: str,
    release: Release,
    county: County,
    records: Mapping[str, UnitRecord],
    *,
    archives: Sequence[Archive],
    now: Dossier,
) -> Verdict:
    """Judge whether a line may be given back: its unit and all who share the line are removed, and it is known how.

    Asks for no measurement: since `removed` nothing runs over it. `archives` are the unit's, the oldest first, and `now`
    what the survey says of it now: both must agree on who took the line over.
    """
    unit = find_unit(county, unit_id)
    record = records[unit_id]
    reasons = [f"the record of {unit_id} holds what cannot be: {p}" for p in record.problems]
    reasons += [f"a change of {unit_id} is unfinished ({event.key})" for event in record.open]
    if record.state is not UnitState.REMOVED:
        reasons.append(f"{unit_id} cannot release now - expected removed, found {record.state}")
    for other in units_behind(county, unit):
        state = records[other.id].state
        if not state.reached(UnitState.REMOVED):
            reasons.append(f"{other.id} shares the line - expected removed or later, found {state}")
    if release.how is not How.NOT_RENTED and not release.reference:
        reasons.append(f"{unit_id}: no notice to {release.provider or 'the provider'} is named: --reference NUMBER")
    if release.how is How.RELEASED and release.rent_free_from is None:
        reasons.append(f"{unit_id}: the day from which no rent is due is not named: --rent-free-from YYYY-MM-DD")
    found = (*(Reason(station="", service="", why=why) for why in reasons), *_against_line(unit_id, archives, now))
    return Verdict(gate=GATE, unit=unit_id, allowed=not found, reasons=found)


def _against_line(unit_id: str, archives: Sequence[Archive], now: Dossier) -> Iterator[Reason]:
    """Give a reason for an archive that nobody can read, and for a survey that forgets who took the line over."""
    for archive in archives:
        if archive.problem:
            why = f"whether the line of {unit_id} was taken over is not known: {archive.problem}"
            yield Reason(station="", service="", why=why, kind=ReasonKind.RECORD)
    if not any(a.dossier is not None for a in archives):
        why = f"whether the line of {unit_id} was taken over is not on record - expected an archive of it, found none"
        yield Reason(station="", service="", why=why, kind=ReasonKind.ARCHIVE)
    handed = find_handed_over(archives)
    if handed is None or handed[1].taken_over_by == now.taken_over_by:
        return
    at, then = handed
    over, found = then.taken_over_by, f"that of {now.taken_over_by}" if now.taken_over_by else "none"
    why = (
        f"{over} of the extranet runs over {then.circuit}, by the archive of {say_moment(at)} - "
        f"expected `reuses` {now.circuit} on the row of {over} in circuits.csv, found it on {found}: put it back; "
        "the contract is handed over, never released"
    )
    yield Reason(station="", service="", why=why, kind=ReasonKind.LINE)


def release(
    campaign: Campaign, units: Sequence[Unit], *, reference: str, rent_free_from: date | None, apply: bool
) -> list[ReleaseReport]:
    """Record that units' lines were given back; all of them or, when the gate refuses one, none."""
    if not apply:
        return _judge(campaign, units, reference, rent_free_from)
    with campaign.hold("retire --release"):
        reports = _judge(campaign, units, reference, rent_free_from)
        for report in reports:
            if report.state != UnitState.RELEASED:
                record_verdict(campaign, report.verdict)
        if not all(r.verdict.allowed for r in reports):
            return reports
        change_id = new_change_id(campaign, GATE)
        for report in reports:
            if report.state == UnitState.RELEASED:
                continue
            campaign.ledger.append(
                Kind.OUTCOME,
                f"{change_id}/{report.unit}",
                outcome_body(
                    Step.RELEASE,
                    result="done",
                    state=UnitState.RELEASED,
                    devices={},
                    reason=str(report.release),
                    release=report.release.model_dump(mode="json"),
                ),
                unit=report.unit,
            )
        records = campaign.records()
        return [
            ReleaseReport(unit=r.unit, verdict=r.verdict, release=r.release, state=records[r.unit].state.value)
            for r in reports
        ]


def _judge(
    campaign: Campaign, units: Sequence[Unit], reference: str, rent_free_from: date | None
) -> list[ReleaseReport]:
    """Ask the gate of each unit; one whose line was given back before is as recorded then."""
    records = campaign.records()
    archives = collect_archives(campaign.folder, campaign.events())
    before = {e.unit: e.body["release"] for e in campaign.events() if e.kind is Kind.OUTCOME and "release" in e.body}
    out = []
    for unit in units:
        record = records[unit.id]
        if record.state is UnitState.RELEASED and unit.id in before:
            was = Release.model_validate(before[unit.id])
            other = f"{unit.id} is released already, by notice {was.reference or '(none)'}"
            against = (Reason(station="", service="", why=other),) if reference not in {"", was.reference} else ()
            verdict = Verdict(gate=GATE, unit=unit.id, allowed=not against, reasons=against)
            out.append(ReleaseReport(unit=unit.id, verdict=verdict, release=was, state=record.state.value))
            continue
        mine = archives.get(unit.id, ())
        kept = [a.dossier for a in mine if a.dossier is not None]
        # Whether its cable is taken over may have been settled since, not unsettled; the rest is as when it was removed.
        now = make_dossier(campaign.whole, unit, None)
        handed = find_handed_over(mine)
        over = (handed[1] if handed else now).taken_over_by
        dossier = (kept[-1] if kept else now).altered(taken_over_by=over)
        told = describe_release(dossier, reference, rent_free_from)
        verdict = judge_release(unit.id, told, campaign.county, records, archives=mine, now=now)
        out.append(ReleaseReport(unit=unit.id, verdict=verdict, release=told, state=record.state.value))
    return out
