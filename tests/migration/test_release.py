"""Giving a line back: only when it is gone, with the notice's number, and what is taken over is not called released."""

from __future__ import annotations

from datetime import UTC, date, datetime
from ipaddress import IPv4Network

import pytest

from inventory.errors import ExtranetError
from inventory.model import EXTRANET, Circuit, County
from migration.archive import Archive
from migration.dossier import make_dossier
from migration.gates import Verdict
from migration.proof import ReasonKind
from migration.release import How, Release, describe_release, judge_release, read_reference
from migration.units import UnitState, fold
from tests.migration.scene import T0, Story, archive_all, build_county

DAY = datetime(2027, 10, 1, tzinfo=UTC).date()


def rented(**more: object) -> County:
    """The small county, its lines rented."""
    county = build_county()
    circuits = tuple(
        c.altered(provider="中国移动", monthly_rent_yuan=1200, contract_end=date(2027, 12, 31), **more)
        if c.far_device
        else c
        for c in county.circuits
    )
    return county.altered(circuits=circuits)


def told(county: County, unit: str, reference: str = "12", day: date | None = DAY) -> Release:
    """What would be recorded."""
    return describe_release(make_dossier(county, county.unit_by_id[unit], None), reference, day)


def judged(
    unit: str, release: Release, county: County, story: Story, archives: tuple[Archive, ...] | None = None
) -> Verdict:
    """What the gate says; the unit was archived as the survey has it now, unless archives are given."""
    kept = archive_all(county)[unit] if archives is None else archives
    now = make_dossier(county, county.unit_by_id[unit], None)
    return judge_release(unit, release, county, fold(story.events, county), archives=kept, now=now)


def reused_by(*circuits: str) -> County:
    """The county with extranet circuits of the town that take its finance line over."""
    county = rented()
    heirs = (
        Circuit(id=c, network=EXTRANET, site="tb", device="r-tb", port=f"wan{n}", reuses="fin-tb")
        for n, c in enumerate(circuits)
    )
    return county.altered(circuits=(*county.circuits, *heirs))


def test_a_removed_line_is_released_and_saves_its_rent() -> None:
    """Removed, with number and day: allowed; what it saves is its rent, and an early end is said."""
    county = rented()
    found = told(county, "fin@tb")
    story = Story().go("fin@tb", to=UnitState.REMOVED)
    assert judged("fin@tb", found, county, story).allowed
    assert (found.how, found.saved_yuan, found.early) == (How.RELEASED, 1200, True)
    assert "contract until 2027-12-31" in str(found)
    assert not told(county, "fin@tb", day=date(2028, 1, 1)).early


@pytest.mark.parametrize("state", [s for s in UnitState if s is not UnitState.REMOVED])
def test_only_what_is_removed_is_released(state: UnitState) -> None:
    """In no other state is a line given back."""
    county = rented()
    story = Story().go("fin@tb", to=state)
    verdict = judged("fin@tb", told(county, "fin@tb"), county, story)
    assert verdict.allowed is False


def test_number_and_day_are_needed() -> None:
    """Without the notice's number or the day nothing is released, and each is named."""
    county = rented()
    story = Story().go("fin@tb", to=UnitState.REMOVED)
    verdict = judged("fin@tb", told(county, "fin@tb", "", None), county, story)
    text = " ".join(r.why for r in verdict.reasons)
    assert "--reference" in text
    assert "--rent-free-from" in text


def test_a_shared_line_waits_for_all_who_share_it() -> None:
    """A town's line is not given back while a village behind it is not removed, whoever says so."""
    county = rented()
    story = Story().go("fin@ta", to=UnitState.REMOVED).go("fin@va1", to=UnitState.SHUT)
    verdict = judged("fin@ta", told(county, "fin@ta"), county, story)
    assert [r.why for r in verdict.reasons] == ["fin@va1 shares the line - expected removed or later, found shut"]
    story.go("fin@va1", to=UnitState.REMOVED)
    assert judged("fin@ta", told(county, "fin@ta"), county, story).allowed


def test_a_line_taken_over_saves_nothing() -> None:
    """Where the extranet goes on using the cable it is taken over: no rent is saved, and no day is asked for."""
    county = reused_by("x-tb")
    found = told(county, "fin@tb", "12", None)
    assert (found.how, found.saved_yuan, found.taken_over_by, found.early) == (How.TAKEN_OVER, 0, "x-tb", False)
    assert "taken over by x-tb, not released" in str(found)
    story = Story().go("fin@tb", to=UnitState.REMOVED)
    assert judged("fin@tb", found, county, story).allowed


@pytest.mark.parametrize(("now", "place"), [((), "none"), (("x-other",), "that of x-other")])
def test_a_line_taken_over_by_any_archive_is_never_released(now: tuple[str, ...], place: str) -> None:
    """The survey says no longer, or otherwise, who took it over: refused, however new the archives that agree with it."""
    county, story = reused_by(*now), Story().go("fin@tb", to=UnitState.REMOVED)
    before, after = (archive_all(c)["fin@tb"][0] for c in (reused_by("x-tb"), rented()))
    verdict = judged("fin@tb", told(county, "fin@tb"), county, story, (before, after))
    (reason,) = verdict.reasons
    assert (verdict.allowed, reason.kind) == (False, ReasonKind.LINE)
    assert reason.why == (
        "x-tb of the extranet runs over fin-tb, by the archive of 2027-09-01 08:00:00Z - expected `reuses` fin-tb on the "
        f"row of x-tb in circuits.csv, found it on {place}: put it back; the contract is handed over, never released"
    )
    back = reused_by("x-tb")
    assert judged("fin@tb", told(back, "fin@tb"), back, story, (before, after)).allowed


def test_the_newest_archive_that_names_a_circuit_decides() -> None:
    """Rerouted before its removal, it is handed over to the circuit that was archived last."""
    story = Story().go("fin@tb", to=UnitState.REMOVED)
    archives = tuple(archive_all(reused_by(c))["fin@tb"][0] for c in ("x-tb", "x-new"))
    for circuit, allowed in (("x-new", True), ("x-tb", False)):
        county = reused_by(circuit)
        assert judged("fin@tb", told(county, "fin@tb"), county, story, archives).allowed is allowed


def test_a_line_of_which_no_archive_tells_is_not_released() -> None:
    """Nothing archived, or a note that cannot be read: who took the line over is unknown, and that refuses."""
    county, story = rented(), Story().go("fin@tb", to=UnitState.REMOVED)
    spoilt = Archive(unit="fin@tb", seq=7, at=T0, problem="event 7 cannot be read as an archive (KeyError)")
    good = archive_all(county)["fin@tb"]
    for archives, kinds in (
        ((), {ReasonKind.ARCHIVE}),
        ((spoilt,), {ReasonKind.ARCHIVE, ReasonKind.RECORD}),
        ((*good, spoilt), {ReasonKind.RECORD}),
    ):
        verdict = judged("fin@tb", told(county, "fin@tb"), county, story, archives)
        assert (verdict.allowed, {r.kind for r in verdict.reasons}) == (False, kinds)


def test_a_hub_has_no_line_to_give_back() -> None:
    """The county's own unit is recorded as not rented; nobody need be told."""
    county = rented()
    story = Story().go("fin@ta", "fin@tb", "fin@va1", "fin@county", to=UnitState.REMOVED)
    found = told(county, "fin@county", "", None)
    assert found.how is How.NOT_RENTED
    assert judged("fin@county", found, county, story).allowed


@pytest.mark.parametrize("text", ["", "  ", "x" * 121, "a\nb", "a\x1b[31mb"])
def test_a_reference_is_one_line(text: str) -> None:
    """A number that could not stand on a letter is refused before anything else."""
    with pytest.raises(ExtranetError, match="--reference"):
        read_reference(text)
    assert read_reference(" 伊财信函〔2026〕12号 ") == "伊财信函〔2026〕12号"


def test_a_dossier_keeps_the_line() -> None:
    """What the inventory says of line, addresses and neighbours is in it, and comes back from JSON as it was."""
    county = rented()
    found = make_dossier(county, county.unit_by_id["fin@ta"], None)
    assert (found.provider, found.monthly_rent_yuan, found.contract_end) == ("中国移动", 1200, date(2027, 12, 31))
    assert found.prefixes == (IPv4Network("10.20.1.0/24"), IPv4Network("10.20.255.0/30"))
    assert found.stations == {"st-ta": "st-ta"}
    assert {str(o) for o in found.beside} >= {"circuit soc-ta (10.20.1.0/24)", "network soc (10.20.0.0/16)"}
    assert type(found).model_validate(found.model_dump(mode="json")) == found
