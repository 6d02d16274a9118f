"""What a person is shown before units move."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from addressing.plan import make_plan
from addressing.planfile import plan_path, write_plan
from inventory.reader import load_county
from inventory.topology import build_topology
from migration.campaign import Campaign, open_campaign
from migration.moves import move_units, show_phases
from migration.units import UnitState

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
