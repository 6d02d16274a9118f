"""The commands about lines that are gone: archive, quarantine, release and certificate, without a device in reach."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from inventory.reader import load_county
from migration.archive import write_config
from migration.clock import SystemClock
from migration.dossier import make_dossier
from migration.ledger import Ledger
from migration.units import Step, UnitState, outcome_body
from scripts.main import app

UNIT = "finance-man@chengguan"
TAKEN = "party-edu@chengguan-wadong"
"""Its cable carries an extranet circuit of the same village."""
CONFIG = "hostname fin-chengguan\nenable password s3cret\n"
runner = CliRunner()


def call(*arguments: str) -> tuple[int, str, str]:
    """Run a command; return exit code, standard output and standard error."""
    result = runner.invoke(app, list(arguments))
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture
def county(tmp_path: Path) -> Path:
    """A county whose ledger says that a unit was archived and removed in the field."""
    return tell_removed(tmp_path, UNIT)


def tell_removed(tmp_path: Path, unit: str) -> Path:
    """Make a county whose ledger says that a unit was archived and removed in the field; return its folder."""
    folder = tmp_path / "county"
    assert call("init", str(folder))[0] == 0
    (folder / "access.yaml").write_text(
        "target: field\nname: yichuan\nuser: netops\nknown_hosts: known_hosts\naddresses: {core1: 2001:db8::1}\n",
        "utf-8",
    )
    inventory = load_county(folder)
    digest = write_config(folder, CONFIG)
    with Ledger.open(folder / "ledger.sqlite", SystemClock(), "field") as ledger:
        dossier = make_dossier(inventory, inventory.unit_by_id[unit], None).model_dump(mode="json")
        configs = {"fin-chengguan": digest, "fin-hub": digest}
        note = {"note": "archive", "state": "shut", "configs": configs, "dossier": dossier}
        ledger.append("note", "archive/1", note, unit=unit)
        for step, state in (
            ("provision", "provisioned"),
            ("cutover", "cut_over"),
            ("drain", "drained"),
            ("shut", "shut"),
            ("remove", "removed"),
        ):
            body = outcome_body(Step(step), result="done", state=UnitState(state), devices={})
            ledger.append("outcome", f"{step}/1", body, unit=unit)
    return folder


def test_addresses_in_quarantine_are_not_planned_again(county: Path) -> None:
    """The survey warns of a row that takes a removed line's addresses, the planner refuses it and writes nothing."""
    here = ("--county", str(county))
    code, out, _ = call("plan", "quarantine", *here, "--json")
    assert (code, [q["prefix"] for q in json.loads(out)["quarantine"]]) == (0, ["10.20.8.0/24", "10.20.250.0/30"])
    assert call("plan", "addresses", *here)[0] == 0
    before = (county / "plan" / "addresses.json").read_bytes()
    with (county / "networks.csv").open("a", encoding="utf-8") as file:
        file.write("late-net,迟来的网,伊川县公安局,police,no,10.20.8.0/22,局长,主任\n")
    code, out, err = call("survey", "check", *here)
    assert code == 0, err
    assert (
        "quarantine: network late-net (10.20.8.0/22) overlaps quarantined 10.20.8.0/24 of finance-man@chengguan" in out
    )
    code, _, err = call("plan", "addresses", *here)
    assert code == 3
    assert "network late-net (10.20.8.0/22) overlaps quarantined" in err
    assert (county / "plan" / "addresses.json").read_bytes() == before
    code, out, _ = call("plan", "quarantine", *here)
    assert code == 3
    assert "refused" in out


def test_a_gone_ledger_frees_no_address(county: Path) -> None:
    """Without its ledger nobody knows what is in quarantine: the planner is refused, not let through."""
    (county / "ledger.sqlite").unlink()
    code, _, err = call("plan", "addresses", "--county", str(county))
    assert code == 3
    assert "restore it" in err


def test_release_is_recorded_once(county: Path) -> None:
    """Shown first and recorded with --yes; the same again is good, another notice is refused; the ledger has one event."""
    base = ("retire", UNIT, "--release", "--county", str(county))
    notice = ("--reference", "伊财信函〔2026〕12号", "--rent-free-from", "2027-01-01")
    code, out, _ = call(*base)
    assert code == 3
    assert "--reference NUMBER" in out
    code, out, _ = call(*base, *notice)
    assert (code, "nothing was recorded - add --yes" in out) == (0, True)
    for _ in range(2):
        code, out, _ = call(*base, *notice, "--yes", "--json")
        told = json.loads(out)
        assert (code, told["saved_yuan_a_month"], told["units"][0]["state"]) == (0, 1200, "released")
    code, out, _ = call(*base, "--reference", "13", "--rent-free-from", "2027-01-01", "--yes")
    assert code == 3
    assert "is released already, by notice 伊财信函〔2026〕12号" in out
    with Ledger.open(county / "ledger.sqlite", SystemClock(), "field", readonly=True) as ledger:
        assert sum(e.body.get("step") == "release" for e in ledger.events()) == 1
    code, _, err = call("retire", UNIT, "--reference", "12", "--county", str(county))
    assert code == 2
    assert "expected with --release" in err


def test_a_line_that_the_extranet_runs_over_is_not_released_by_a_blank_cell(tmp_path: Path) -> None:
    """Taken over by its archive, it is refused while circuits.csv does not say so, recorded as handed over when it does."""
    folder = tell_removed(tmp_path, TAKEN)
    notice = ("--reference", "N1", "--rent-free-from", "2027-01-01")
    base = ("retire", TAKEN, "--release", *notice, "--county", str(folder))
    handed = "taken over by x-chengguan-wadong, not released"
    assert handed in call(*base)[1].replace("\n", " ")
    circuits = folder / "circuits.csv"
    before = circuits.read_text("utf-8")
    circuits.write_text(before.replace(",,,edu-l-chengguan-wadong\n", ",,,\n"), "utf-8")
    assert circuits.read_text("utf-8") != before
    assert call("survey", "check", "--county", str(folder))[0] == 0
    for yes in ((), ("--yes",)):
        code, out, _ = call(*base, *yes, "--json")
        told = json.loads(out)
        (one,) = told["units"]
        assert (code, told["done"], told["saved_yuan_a_month"], one["state"]) == (3, False, 0, "removed")
        assert [r["kind"] for r in one["reasons"]] == ["line"]
        assert one["reasons"][0]["why"].startswith(
            "x-chengguan-wadong of the extranet runs over edu-l-chengguan-wadong"
        )
        assert (one["release"]["how"], one["release"]["saved_yuan"]) == ("taken over", 0)
    with Ledger.open(folder / "ledger.sqlite", SystemClock(), "field", readonly=True) as ledger:
        assert sum(e.body.get("step") == "release" for e in ledger.events()) == 0
    circuits.write_text(before, "utf-8")
    code, out, _ = call(*base, "--yes")
    assert (code, handed in out.replace("\n", " ")) == (0, True)
    circuits.write_text(before.replace(",,,edu-l-chengguan-wadong\n", ",,,\n"), "utf-8")
    assert handed in call(*base, "--yes")[1].replace("\n", " ")


def test_secrets_are_in_no_output_and_not_in_the_ledger(county: Path) -> None:
    """What a configuration holds is shown hidden; the ledger has its digest only; the rebuilt copy is its owner's alone."""
    code, out, _ = call("archive", "show", UNIT, "--county", str(county))
    assert code == 0
    assert "enable password <hidden>" in out
    assert "s3cret" not in out + call("archive", "show", UNIT, "--county", str(county), "--json")[1]
    assert b"s3cret" not in (county / "ledger.sqlite").read_bytes()
    code, out, _ = call("archive", "rebuild", UNIT, "--out", str(county / "anew"), "--county", str(county))
    assert (code, "s3cret" in out) == (0, False)
    modes = {p.name: oct(p.stat().st_mode & 0o777) for p in (county / "anew").iterdir()}
    assert modes["fin-chengguan.shut.cfg"] == modes["fin-hub.shut.cfg"] == "0o600"
    for plain in ("README.md", "line.json", "fin-hub.enter.txt"):
        assert "s3cret" not in (county / "anew" / plain).read_text("utf-8")


def test_a_lost_archive_is_told(county: Path) -> None:
    """`archive list` is exit 1 and names the file; nothing is rebuilt from it (exit 3)."""
    assert call("archive", "list", "--county", str(county))[0] == 0
    next((county / "archive").iterdir()).unlink()
    code, out, _ = call("archive", "list", "--county", str(county))
    assert code == 1
    assert "is missing" in out
    code, _, err = call("archive", "rebuild", UNIT, "--out", str(county / "anew"), "--county", str(county))
    assert code == 3
    assert "is missing" in err


@pytest.mark.parametrize(
    ("more", "code", "why"),
    [
        (("--out", "c.docx"), 2, "expected html or json, found 'docx'"),
        (("--out", "c.html", "--lang", "fr"), 2, "expected zh or en"),
        ((), 2, "expected the file to write"),
        (("--out", "c.html", "--key", "k"), 2, "--key with --check"),
        (("--check", "nowhere.html"), 3, "no certificate"),
        (("--out", "c.html"), 3, "does not say when it was soaked"),
    ],
)
def test_certificate_says_what_is_wrong(county: Path, more: tuple[str, ...], code: int, why: str) -> None:
    """Bad usage is exit 2, what is not whole exit 3 with everything that is missing; nothing is written."""
    found, _, err = call("certificate", UNIT, *more, "--county", str(county))
    assert (found, why in err) == (code, True), err
    assert not Path("c.html").exists()


def to_lab(county: Path, name: str) -> None:
    """Let the county's record be that of a lab that has gone: nothing is in reach any more."""
    (county / "access.yaml").unlink(missing_ok=True)
    with Ledger.open(county / "ledger.sqlite", SystemClock(), "field", readonly=True) as field:
        told = field.events()
    for gone in county.glob("ledger*"):
        gone.unlink()
    with Ledger.open(county / "ledger.sqlite", SystemClock(), f"lab {name}") as lab:
        for event in told:
            lab.append(event.kind, event.key, event.body, unit=event.unit)


def test_the_record_of_a_lab_that_is_down_can_be_read(county: Path, tmp_path: Path) -> None:
    """With nothing in reach, the only lab's record is read and named; a name not on record is exit 2, with those that are."""
    here = ("--county", str(county))
    code, out, _ = call("archive", "list", *here)
    assert (code, "field: 1 unit archived" in out) == (0, True)
    to_lab(county, "one")
    code, out, _ = call("archive", "list", *here)
    assert (code, f"  {UNIT}" in out, "lab one: 1 unit archived" in out) == (0, True, True)
    assert json.loads(call("archive", "list", *here, "--of", "one", "--json")[1])["target"] == "lab one"
    code, _, err = call("certificate", UNIT, "--out", str(tmp_path / "c.html"), *here)
    assert (code, "does not say when it was soaked" in err) == (3, True)
    assert call("archive", "rebuild", UNIT, "--out", str(tmp_path / "anew"), *here)[0] == 0
    code, _, err = call("archive", "list", "--of", "two", *here)
    assert (code, "expected one of lab one" in err) == (2, True)


def test_of_several_labs_none_is_guessed(county: Path) -> None:
    """With nothing in reach and two labs on record, which is meant must be said; the refusal names the option and both."""
    to_lab(county, "one")
    with Ledger.open(county / "ledger.sqlite", SystemClock(), "lab two") as ledger:
        ledger.append("note", "x", {"note": "x"})
    code, _, err = call("archive", "list", "--county", str(county))
    assert (code, "lab one, lab two" in err, "--of NAME" in err) == (2, True, True)
    assert call("archive", "list", "--of", "lab one", "--county", str(county))[0] == 0
    code, out, _ = call("archive", "list", "--of", "two", "--county", str(county))
    assert "lab two: 0 units archived" in out
