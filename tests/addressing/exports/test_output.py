"""Output: whole or not at all, and from the command line one line for every mistake."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from pathlib import Path
from subprocess import run

import pytest
import typer
from typer.testing import CliRunner

from addressing.exports.output import MANIFEST, NotOurFolderError, write_export
from addressing.hierarchy import HierarchyPlan
from addressing.hierarchyfile import write_hierarchy
from addressing.model import AddressPlan
from addressing.planfile import write_plan
from inventory.files import WriteError
from scripts.commands.plan_export import export

app = typer.Typer()
app.command()(export)
SAMPLE = Path(__file__).resolve().parents[3] / "inventory" / "yichuan"


def test_a_folder_replaces_its_own_kind_only(tmp_path: Path) -> None:
    """A folder of an export is replaced whole; one with anything else in it is left alone, and so is a file."""
    out = tmp_path / "zones"
    write_export(out, {"a": "1", "b": "2"}, "reverse-dns")
    write_export(out, {"c": "三"}, "reverse-dns")
    assert {p.name for p in out.iterdir()} == {"c", MANIFEST}
    manifest = json.loads((out / MANIFEST).read_text("utf-8"))
    assert manifest["files"] == {"c": hashlib.sha256("三".encode()).hexdigest()}
    assert [p.name for p in tmp_path.iterdir()] == ["zones"]
    other = tmp_path / "mine"
    other.mkdir()
    (other / "thesis").write_text("x")
    with pytest.raises(NotOurFolderError):
        write_export(other, {"c": "3"}, "reverse-dns")
    assert (other / "thesis").read_text() == "x"
    with pytest.raises(NotOurFolderError):
        write_export(other / "thesis", {"c": "3"}, "reverse-dns")


def test_a_failed_folder_leaves_the_old_one(tmp_path: Path) -> None:
    """When a file of the new folder cannot be written, the old folder is there as it was, and nothing else."""
    out = tmp_path / "zones"
    write_export(out, {"a": "1"}, "reverse-dns")
    with pytest.raises(WriteError):
        write_export(out, {"b": "2", "no/such/place": "3"}, "reverse-dns")
    assert {p.name for p in out.iterdir()} == {"a", MANIFEST}
    assert [p.name for p in tmp_path.iterdir()] == ["zones"]


@pytest.fixture
def plan_file(hierarchy: HierarchyPlan, tmp_path: Path) -> str:
    """A hierarchy's plan on disk."""
    path = tmp_path / "plan.csv"
    write_hierarchy(hierarchy, path, sign_off=lambda _, certificate: certificate)
    return str(path)


def test_command_writes_and_says_what(plan_file: str, tmp_path: Path) -> None:
    """The command writes file and folder, and prints one line or JSON about it."""
    out = tmp_path / "out.xlsx"
    done = CliRunner().invoke(app, [plan_file, "--format", "xlsx", "--out", str(out), "--lang", "zh", "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout) == {"out": str(out), "format": "xlsx", "files": 1, "bytes": out.stat().st_size}
    folder = tmp_path / "zones"
    done = CliRunner().invoke(
        app, [plan_file, "-f", "reverse-dns", "--out", str(folder), "--nameserver", "ns.gov.example"]
    )
    assert done.exit_code == 0, done.output
    assert "@\tNS\tns.gov.example." in next(folder.glob("*.zone")).read_text("utf-8")


def test_command_prints_to_standard_output(plan_file: str) -> None:
    """Without --out, a format of one text goes to standard output, and nothing else does."""
    done = CliRunner().invoke(app, [plan_file, "--under", "410301000000", "--level", "town"])
    assert done.exit_code == 0
    assert done.stdout.startswith("code,name,level,kind,parent,prefix")
    assert done.stdout.count("\n") == 4


def test_county_is_the_default(county_plan: AddressPlan, tmp_path: Path) -> None:
    """Without a file, the county's own plan is exported, its inventory read for tenants, domain and old LANs."""
    folder = tmp_path / "county"
    shutil.copytree(SAMPLE, folder)
    done = CliRunner().invoke(app, ["--county", str(folder), "-f", "dual-stack"])
    assert done.exit_code == 2
    assert "no address plan yet" in done.stderr
    write_plan(county_plan, folder / "plan" / "addresses.json")
    done = CliRunner().invoke(app, ["--county", str(folder), "-f", "dual-stack", "--dual-stack-from", "2027-09-30"])
    assert done.exit_code == 0, done.output
    assert "2027-09-30" in done.stdout
    out = folder / "zones"
    assert CliRunner().invoke(app, ["--county", str(folder), "-f", "reverse-dns", "--out", str(out)]).exit_code == 0
    assert "core1.yichuan.example." in "".join(p.read_text("utf-8") for p in out.glob("*.zone"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["-f", "netbx"], "did you mean netbox?"),
        (["-f", "netbox"], "--format netbox makes a folder; name it with --out"),
        (["-f", "xlsx"], "--format xlsx makes a file; name it with --out"),
        (["--json"], "--json reports what was written; name it with --out"),
        (["--under", "nowhere"], "give a division's code or name"),
        (["--level", "9"], "it has 3 county, 4 town, 5 village"),
        (["-f", "dual-stack"], "a hierarchy's plan knows of no IPv4"),
        (["--out", "/proc/nowhere-at-all/x.csv"], "/proc"),
    ],
)
def test_mistakes_are_one_line_and_exit_2(plan_file: str, arguments: list[str], said: str) -> None:
    """Every mistake of a user is one line on standard error with a way out, exit code 2, nothing on standard output."""
    done = CliRunner().invoke(app, [plan_file, *arguments])
    assert done.exit_code == 2
    if "--json" in arguments:
        assert said in json.loads(done.stdout)["message"]
        return
    assert said in done.stderr
    assert "Traceback" not in done.output
    assert done.stderr.count("\n") == 1
    assert not done.stdout


def test_formats_are_listed(plan_file: str) -> None:
    """--formats says of each format what it is, in English and Chinese."""
    done = CliRunner().invoke(app, ["--formats"])
    assert done.exit_code == 0
    assert "netbox" in done.stdout
    assert "批量导入" in done.stdout
    assert json.loads(CliRunner().invoke(app, ["--formats", "--json"]).stdout)[0]["name"] == "csv"


def test_help_needs_no_numpy() -> None:
    """Importing the command loads neither numpy nor openpyxl: --help stays quick."""
    code = "import sys, scripts.commands.plan_export; sys.exit(any(m in sys.modules for m in ('numpy', 'openpyxl')))"
    root = Path(__file__).resolve().parents[3]
    assert run([sys.executable, "-c", code], cwd=root, check=False, timeout=60).returncode == 0
