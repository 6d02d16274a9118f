"""What a person is shown before units move."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from addressing.plan import make_plan
from addressing.planfile import plan_path, write_plan
from inventory.reader import load_county
from inventory.topology import build_topology
from migration.campaign import Campaign, open_campaign
from migration.ledger import LedgerGoneError, refuse_gone_ledger
from migration.moves import close_lines, keep_unknown_gateways, move_units, show_phases
from migration.units import UnitRecord, UnitState

SAMPLE = Path(__file__).parents[2] / "inventory/yichuan"


@pytest.fixture
def campaign(tmp_path: Path) -> Campaign:
    """The sample county with its plan, and no network anywhere."""
    folder = shutil.copytree(SAMPLE, tmp_path / "yichuan")
    county = load_county(folder)
    write_plan(make_plan(county, build_topology(county)), plan_path(folder))
    return open_campaign(folder)


def test_preview_names_every_line(campaign: Campaign) -> None:
    """A preview of a cutover shows the lines of every router it changes, the extranet's as well as the legacy ones."""
    unit = campaign.find_unit("social-security@chengguan")
    shown = show_phases(campaign, move_units(campaign, [unit], UnitState.PROVISIONED, UnitState.CUT_OVER))
    assert f"ip address {unit.gateway}/{unit.lan_prefix.prefixlen}" in shown["chengguan-r1"]
    assert all(line.startswith(("+", "-", " ")) for line in shown["chengguan-r1"].splitlines())
    assert any("shutdown" in text for device, text in shown.items() if device != "chengguan-r1")


def test_lines_are_closed_from_where_each_unit_stands(campaign: Campaign) -> None:
    """Of a unit that is drained already the line alone is closed and opened; its route is nobody's to put back."""
    units = [campaign.find_unit(f"finance-man@{town}") for town in ("chengguan", "hebin")]
    states = dict(zip((u.id for u in units), (UnitState.DRAINED, UnitState.CUT_OVER), strict=True))
    records = {u: UnitRecord(unit=u, state=state) for u, state in states.items()}
    told = cast(
        "Campaign", SimpleNamespace(county=campaign.county, topology=campaign.topology, records=lambda: records)
    )
    closed = "\n".join(c.config for phase in close_lines(told, units) for c in phase)
    opened = "\n".join(c.config for phase in close_lines(told, units, reopen=True) for c in phase)
    for text, no, yes in ((closed, "no ip route", " shutdown"), (opened, "ip route", "no shutdown")):
        assert str(units[0].lan_prefix) not in text
        assert f"{no} {units[1].lan_prefix}" in text
        assert text.count(yes) == 4  # both ends of both lines


def test_a_gateway_of_no_ledger_is_kept(campaign: Campaign) -> None:
    """Provisioning must not withdraw a LAN's gateway that this ledger never gave to the router; anything else it may."""
    unit = campaign.find_unit("social-security@chengguan")
    forbid = keep_unknown_gateways(campaign)
    gateway = f"{unit.gateway}/{unit.lan_prefix.prefixlen}"
    assert unit.id in forbid("chengguan-r1", f"  interface lan.130\n-  ip address {gateway}\n")
    assert forbid("chengguan-r1", f"  interface lan.130\n+  ip address {gateway}\n") == ""
    assert forbid("hebin-r1", f"-  ip address {gateway}\n") == ""


@pytest.mark.parametrize("left", ["ledger.head", "evidence/1.json.gz"])
def test_a_ledger_that_is_gone_is_missed(campaign: Campaign, left: str) -> None:
    """Where something tells of a ledger there was, no new one is begun in its place."""
    path = campaign.folder / left
    path.parent.mkdir(exist_ok=True)
    path.write_text("{}", "utf-8")
    with pytest.raises(LedgerGoneError, match="is gone"):
        refuse_gone_ledger(campaign.folder / "ledger.sqlite")
    (campaign.folder / "ledger.sqlite").touch()
    refuse_gone_ledger(campaign.folder / "ledger.sqlite")
