"""The inventory plugin gives Ansible the hosts that everything else has, or says why it cannot."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from inventory.access import Access
from inventory.hosts import list_hosts
from inventory.model import EXTRANET, County
from inventory.reader import load_county, restrict_to_towns
from tests.lab_fixture import copy_county

PLAYBOOKS = Path(__file__).resolve().parents[2] / "playbooks"
BIN = Path(sys.executable).parent


@pytest.fixture
def county_dir(tmp_path: Path) -> Path:
    """A county's folder whose path has a space, without lab and plan."""
    return copy_county(tmp_path / "a county")


def ask_inventory(county_dir: Path) -> subprocess.CompletedProcess[str]:
    """Run ansible-inventory as a person in the playbooks' folder does."""
    return subprocess.run(
        [BIN / "ansible-inventory", "-i", county_dir / "county.yaml", "--list"],
        cwd=PLAYBOOKS,
        env={**os.environ, "ANSIBLE_HOME": str(county_dir.parent / "ansible"), "ANSIBLE_NOCOLOR": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def read_inventory(county_dir: Path) -> dict[str, Any]:
    """Return what ansible-inventory lists."""
    done = ask_inventory(county_dir)
    assert done.returncode == 0, done.stderr
    return read_list(done.stdout)


def read_list(text: str) -> dict[str, Any]:
    """Read what `ansible-inventory --list` prints, which marks every text from an inventory as not to be trusted."""
    found: dict[str, Any] = json.loads(text, object_hook=lambda o: o.get("__ansible_unsafe", o))
    return found


def write_access(county_dir: Path, **fields: Any) -> Access:
    """Write the access file a lab of the first town would leave."""
    folder = county_dir / ".lab"
    folder.mkdir()
    addresses = {"core1": "fd00:1::1", "z-tax": "fd00:1::2"}
    access = Access(target="lab", name="lab-1", known_hosts="known_hosts", addresses=addresses, **fields)
    (folder / "access.yaml").write_text(yaml.safe_dump(access.model_dump(mode="json")), "utf-8")
    return access


def test_hosts_are_those_of_the_one_source(county_dir: Path) -> None:
    """Every router and station is there once, in its groups, and the classified network is named nowhere."""
    county = load_county(county_dir)
    done = ask_inventory(county_dir)
    found = read_list(done.stdout)
    variables = found["_meta"]["hostvars"]
    assert set(variables) == {h.id for h in list_hosts(county)}
    assert set(found["routers"]["hosts"]) == set(county.device_by_id)
    assert set(found["stations"]["hosts"]) == set(county.station_by_id)
    assert set(found["extranet"]["hosts"]) == {d.id for d in county.devices if d.network == EXTRANET}
    assert set(found["routers"]["hosts"]) == {*found["extranet"]["hosts"], *found["legacy"]["hosts"]}
    assert set(found["network_finance_man"]["hosts"]) == {d.id for d in county.devices if d.network == "finance-man"}
    assert found["role_core"]["hosts"] == ["core1", "core2"]
    assert {county.town_of(variables[h]["extranet_site"]) for h in found["at_chengguan"]["hosts"]} == {"chengguan"}
    assert not [h for h, v in variables.items() if "ansible_host" in v]
    assert all(n not in done.stdout + done.stderr for r in county.refused for n in (r.id, r.name))


def test_lab_of_some_towns_has_only_their_hosts(county_dir: Path) -> None:
    """In a small lab the inventory is the lab's, with the way to log in: keys known, strictly checked."""
    access = write_access(county_dir, towns=1, identity_file="id", port=2222)
    found = read_inventory(county_dir)
    small = restrict_to_towns(load_county(county_dir), 1)
    variables = found["_meta"]["hostvars"]
    assert set(variables) == {h.id for h in list_hosts(small, access)}
    core = variables["core1"]
    assert (core["ansible_host"], core["ansible_port"], core["ansible_user"]) == ("fd00:1::1", 2222, "root")
    assert core["ansible_ssh_private_key_file"] == str(county_dir / ".lab" / "id")
    assert "StrictHostKeyChecking=yes" in core["ansible_ssh_common_args"]
    assert f'UserKnownHostsFile="{county_dir / ".lab" / "known_hosts"}"' in core["ansible_ssh_common_args"]
    assert "ansible_host" not in variables["core2"]  # nobody said where


def test_bad_county_is_said_whole_and_is_no_empty_inventory(county_dir: Path) -> None:
    """Every mistake is told with file and row, and the exit code is not 0."""
    sites = county_dir / "sites.csv"
    sites.write_text(sites.read_text("utf-8").replace(",town,", ",twon,"), "utf-8")
    done = ask_inventory(county_dir)
    assert done.returncode != 0
    rows = [n for n, line in enumerate(sites.read_text("utf-8").splitlines(), 1) if ",twon," in line]
    assert len(rows) == 15
    assert all(
        f"sites.csv:{n} [class]: expected one of county, town, village, found 'twon'" in done.stderr for n in rows
    )


def test_bad_access_file_is_no_county_without_addresses(county_dir: Path) -> None:
    """An access file that cannot be understood stops the inventory."""
    (county_dir / "access.yaml").write_text("target: moon\n", "utf-8")
    done = ask_inventory(county_dir)
    assert done.returncode != 0
    assert "access.yaml" in done.stderr


def managed(county: County) -> County:
    """Give the county's first device a management address in its table."""
    first = county.devices[0].model_copy(update={"management": "2001:db8::1"})
    return county.altered(devices=(first, *county.devices[1:]))


@pytest.mark.parametrize(("target", "address"), [("field", "2001:db8::1"), ("lab", None)])
def test_a_lab_never_leads_to_the_real_network(county_dir: Path, target: str, address: str | None) -> None:
    """A device's management address from the tables counts in the field only; the access file wins over it."""
    county = managed(load_county(county_dir))
    first, second = (d.id for d in county.devices[:2])
    access = Access.model_validate(
        {"target": target, "name": "x", "known_hosts": "k", "addresses": {second: "2001:db8::2"}}
    )
    found = {h.id: h.address for h in list_hosts(county, access)}
    assert found[first] == address
    assert found[second] == "2001:db8::2"
    named = access.model_copy(update={"addresses": {first: "2001:db8::9"}})
    assert {h.id: h.address for h in list_hosts(county, named)}[first] == "2001:db8::9"
