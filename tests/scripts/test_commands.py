"""Commands parse, call one function and print: right exit codes, one clear line an error, JSON for machines."""

from __future__ import annotations

import json
import shutil
import sqlite3
import time
import tomllib
from functools import partial
from pathlib import Path

import pytest
from typer.testing import CliRunner

from inventory.errors import UnknownNameError
from inventory.reader import load_county
from migration import provision
from migration.campaign import Campaign
from migration.clock import SystemClock
from migration.cutover import UnitReport
from migration.gates import Verdict, judge_cutover, judge_trial
from migration.ledger import Ledger
from migration.proof import Reason, ReasonKind
from migration.provision import Preview
from migration.stages_ahead import list_stages
from migration.steps import Ended
from migration.units import Step, UnitState, intent_body, outcome_body
from scripts.commands._shell import Progress, console, warn_of_account
from scripts.commands.config import say_ending
from scripts.commands.migrate import show_causes, show_unit, show_verdict, suggest_next, suggest_proof, waits_for_proof
from scripts.main import app
from tests.migration.scene import Story, build_county, measure, situation_of

SAMPLE = Path(__file__).resolve().parents[2] / "inventory" / "yichuan"
SMALL = build_county()
runner = CliRunner()


@pytest.fixture
def county(tmp_path: Path) -> Path:
    """Return a county's folder made by `extranet init`."""
    folder = tmp_path / "county"
    assert runner.invoke(app, ["init", str(folder)]).exit_code == 0
    return folder


def call(*arguments: str) -> tuple[int, str, str]:
    """Run a command; return exit code, standard output and standard error."""
    result = runner.invoke(app, list(arguments))
    return result.exit_code, result.stdout, result.stderr


@pytest.mark.parametrize(
    "command",
    [
        [],
        ["survey", "check"],
        ["plan", "addresses"],
        ["lab", "up"],
        ["lab", "fault"],
        ["config", "push"],
        ["verify"],
        ["cutover"],
        ["retire"],
        ["gate", "explain"],
        ["archive", "list"],
        ["archive", "show"],
        ["archive", "take"],
        ["archive", "rebuild"],
        ["certificate"],
        ["plan", "quarantine"],
        ["status"],
        ["ledger", "verify"],
        ["playbook"],
        ["init"],
    ],
)
def test_every_command_explains_itself(command: list[str]) -> None:
    """`--help` works everywhere."""
    code, out, _ = call(*command, "--help")
    assert code == 0
    assert "Usage" in out


def test_survey_of_the_sample(county: Path) -> None:
    """The sample is good; the refusal is said and the overlap named."""
    code, out, _ = call("survey", "check", "--county", str(county), "--json")
    found = json.loads(out)
    assert code == 0
    assert found["refused"] == [{"network": "sealed-net", "row": 6, "why": "marked classified"}]
    assert len(found["overlaps"]) == 1
    code, out, _ = call("survey", "check", "--county", str(county))
    assert code == 0
    assert "refused" in out
    assert f"{found['windows']} windows, {found['zone_windows']} of them in the county centre's service zones" in out
    assert found["windows"] > found["zone_windows"] == 118


def test_bad_county_is_exit_2_with_every_problem(county: Path) -> None:
    """Problems come as lines for people and as a list for machines; nothing is written."""
    path = county / "sites.csv"
    path.write_text(path.read_text("utf-8").replace(",town,", ",twon,"), "utf-8")
    code, out, err = call("survey", "check", "--county", str(county))
    assert (code, out) == (2, "")
    assert err.count("found 'twon'") == 15
    code, out, _ = call("plan", "addresses", "--county", str(county), "--json")
    assert code == 2
    assert len(json.loads(out)["problems"]) == 15
    assert not (county / "plan").exists()


def test_plan_is_stable_from_the_command_line(county: Path) -> None:
    """Planning twice writes the same bytes and says that nothing moved."""
    call("plan", "addresses", "--county", str(county))
    first = (county / "plan" / "addresses.json").read_bytes()
    code, out, _ = call("plan", "addresses", "--county", str(county), "--json")
    found = json.loads(out)
    assert (code, found["new"], found["moved"]) == (0, 0, 0)
    assert (county / "plan" / "addresses.json").read_bytes() == first
    assert (county / "plan" / "addresses.csv").exists()


def test_damaged_plan_is_not_overwritten(county: Path) -> None:
    """A plan that cannot be read is kept: its addresses may be in use."""
    call("plan", "addresses", "--county", str(county))
    path = county / "plan" / "addresses.json"
    path.write_text("{", "utf-8")
    code, _, err = call("plan", "addresses", "--county", str(county))
    assert code == 2
    assert "not a plan" in err
    assert path.read_text("utf-8") == "{"


def test_plan_older_than_the_inventory_is_refused(county: Path) -> None:
    """A village added after planning: rendering says to plan again rather than leaving it out."""
    call("plan", "addresses", "--county", str(county))
    for name, row in {
        "sites.csv": "minggao-new,新村,village,minggao,410329101299,村支书,yes,\n",
        "devices.csv": "minggao-new-r1,新村路由器,minggao-new,village,extranet,frr,\n",
        "stations.csv": "minggao-new-station,新村便民服务站,minggao-new,village-station,2,11,public\n",
        "circuits.csv": "x-minggao-new,extranet,minggao-new,minggao-new-r1,wan1,,minggao-r1,new,x,100,0,,,,\n",
    }.items():
        with (county / name).open("a", encoding="utf-8") as stream:
            stream.write(row)
    code, _, err = call("config", "render", "--county", str(county))
    assert code == 2
    assert "changed since this plan was made" in err
    code, out, _ = call("plan", "addresses", "--county", str(county), "--json")
    found = json.loads(out)
    assert (code, found["moved"]) == (0, 0)
    assert found["new"] > 0


def test_render_writes_a_file_a_router(county: Path) -> None:
    """Rendering needs no network: 60 extranet routers, 60 files."""
    call("plan", "addresses", "--county", str(county))
    code, out, _ = call("config", "render", "--county", str(county), "--json")
    assert code == 0
    assert len(json.loads(out)["devices"]) == len(list((county / "configs").glob("*.conf"))) == 60


@pytest.mark.parametrize(
    "command",
    [
        ["verify"],
        ["config", "diff"],
        ["config", "push", "--yes"],
        ["cutover", "finance-man@county"],
        ["retire", "finance-man@county"],
    ],
)
def test_without_lab_or_access_file_nothing_is_contacted(county: Path, command: list[str]) -> None:
    """No way to any device is one clear line and exit 2."""
    call("plan", "addresses", "--county", str(county))
    code, out, err = call(*command, "--county", str(county))
    assert (code, out) == (2, "")
    assert "no way to reach devices" in err


def test_names_that_are_not_there_get_near_matches(county: Path) -> None:
    """An unknown unit is named with what it may have meant; full-width signs are understood."""
    code, _, err = call("cutover", "finance-man＠mingao", "--county", str(county))
    assert code == 2
    assert "finance-man@minggao" in err


def test_near_matches_name_each_thing_once() -> None:
    """A unit that goes by several names is suggested once, by the name closest to what was typed, and counted once."""
    names = {"fin@ta": "fin@ta", "fin@tb": "fin@tb", "fin@ta 镇": "fin@ta", "fin@ta镇": "fin@ta"}
    assert UnknownNameError("unit", "fin@taa", names).near == ["fin@ta", "fin@tb"]
    assert UnknownNameError("unit", "fin@ta镇上", names).near[0] == "fin@ta镇"
    assert str(UnknownNameError("unit", "?", names)) == "unit '?': not in the inventory; expected one of fin@ta, fin@tb"


def test_what_there_is_is_named_or_where_it_is_listed() -> None:
    """A few names are named all, of none it is said; of many the message says where they are listed, for each kind truly."""
    assert str(UnknownNameError("exception", "?", [], where="the record of fin@ta")).endswith("fin@ta; there is none")
    assert "expected one of n0, n1" in str(UnknownNameError("node", "?", [f"n{n}" for n in range(12)]))
    for kind, lists in (("unit", "'extranet status --json'"), ("station", "the table stations"), ("plane", "")):
        said = str(UnknownNameError(kind, "?", [f"n{n}" for n in range(13)]))
        assert said.partition("; ")[2] == f"there are 13; {lists} lists them".removesuffix(";  lists them")


def test_the_command_that_lists_units_lists_them(county: Path) -> None:
    """Where a message sends for the names of units, they are."""
    listed = {u["unit"] for u in json.loads(call("status", "--county", str(county), "--json")[1])["units"]}
    assert {"finance-man@county", "finance-man@chengguan"} <= listed


def test_version_is_the_projects(monkeypatch: pytest.MonkeyPatch) -> None:
    """`--version` says what pyproject.toml says, and no more."""
    project = tomllib.loads((SAMPLE.parents[1] / "pyproject.toml").read_text("utf-8"))["project"]
    assert call("--version") == (0, f"extranet {project['version']}\n", "")


def test_a_lab_by_a_name_nobody_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`lab down --name` of a lab that is not there is exit 2 and names those that run; of a county it is done already."""
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setenv("EXTRANET_LAB_DIR", str(tmp_path / "labs"))
    monkeypatch.setattr("lab.boot.running_labs", lambda: ("yichuan-445566-1a2b3c",))
    # One that is not there, an earlier one of the same folder, no lab's name, a folder, and nothing at all.
    for name in ("yichuan-445566-000000", "yichuan-112233-1a2b3c", "yichuan", str(tmp_path), ""):
        code, out, err = call("lab", "down", "--name", name, "--county", str(tmp_path))
        assert (code, out) == (2, "")
        assert err.startswith(f"lab {name!r}: no such lab on this machine, nothing was taken down; running: yichuan-4")
        assert err.count("\n") == 1
    code, _, err = call("lab", "down", "--county", str(tmp_path))
    assert (code, "no county is in it" in err) == (2, True)
    (tmp_path / "county.yaml").touch()
    code, out, err = call("lab", "down", "--county", str(tmp_path))
    assert (code, err) == (0, "")
    assert "nothing left to do" in out


def test_a_report_that_cannot_be_written_is_refused_before_measuring(county: Path) -> None:
    """`verify --junit` into nowhere, or over something that is no file, is exit 2 and one line before anything else."""
    call("plan", "addresses", "--county", str(county))
    (county / "folder").mkdir()
    for place in (county / "nowhere" / "report.xml", county / "folder", Path("/dev/null"), county / "sites.csv" / "x"):
        code, out, err = call("verify", "--junit", str(place), "--county", str(county))
        assert (code, out) == (2, "")
        assert err.startswith(f"{place}: cannot be written (")
        assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("command", "place"),
    [
        (["plan", "addresses"], "sites.csv/plan.json"),
        (["plan", "addresses"], "folder/plan.json"),
        (["config", "render"], "sites.csv"),
    ],
)
def test_out_is_asked_for_first(county: Path, command: list[str], place: str) -> None:
    """`--out` where nothing can be written, or where a folder is in the way, is one line and leaves no half."""
    call("plan", "addresses", "--county", str(county))
    (county / "folder" / "plan.csv").mkdir(parents=True)
    before = sorted(county.rglob("*"))
    code, out, err = call(*command, "--out", str(county / place), "--county", str(county))
    assert (code, out) == (2, "")
    assert "cannot be written" in err
    assert err.count("\n") == 1
    assert sorted(county.rglob("*")) == before


def test_difference_begins_with_its_size(county: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`config diff` says first how many devices and lines differ; `--stat` says only that; JSON carries the counts."""
    found = Preview(
        diffs={"core1": "  router bgp 1\n+  neighbor a\n+  neighbor b\n-  neighbor c\n", "core2": "", "r1": "+ x\n"},
        unknown={},
        verdict=Verdict(gate="provision", unit=None, allowed=True, reasons=()),
    )
    monkeypatch.setattr(provision, "preview", lambda *_, **__: found)
    monkeypatch.setattr(Campaign, "target", "lab x")
    here = ("--county", str(county))
    total = "lab x: 2 of 3 devices differ, 3 lines added, 1 removed"
    sizes = [" core1 | 3 ++-", " r1    | 1 +"]
    code, out, _ = call("config", "diff", "--stat", *here)
    assert (code, out.splitlines()) == (1, [total, *sizes])
    code, out, _ = call("config", "diff", *here)
    lines = out.splitlines()
    assert (code, lines[:3], lines[-1]) == (1, [total, *sizes], total)
    assert "  +  neighbor b" in lines
    code, out, _ = call("config", "diff", "--json", *here)
    told = json.loads(out)
    assert (code, told["devices"], told["added"], told["removed"]) == (1, 3, 3, 1)
    assert told["lines"] == {"core1": {"added": 2, "removed": 1}, "r1": {"added": 1, "removed": 0}}
    assert told["diffs"] == found.diffs


def test_classified_network_is_refused_in_any_command(county: Path) -> None:
    """Naming a unit of the classified network is exit 3, by id and by name."""
    for name in ("sealed-net@county", "某涉密专网@county"):
        for command in ("cutover", "retire"):
            code, _, err = call(command, name, "--county", str(county))
            assert code == 3
            assert "classified" in err


def test_status_before_anything(county: Path) -> None:
    """Status works from the inventory alone: all surveyed, planned once there is a plan, dates judged as of a day."""
    code, out, _ = call("status", "--county", str(county), "--json")
    found = json.loads(out)
    assert code == 0
    assert {u["state"] for u in found["units"]} == {"surveyed"}
    assert {"unit", "network", "site", "state"} <= found["units"][0].keys()
    call("plan", "addresses", "--county", str(county))
    code, out, _ = call("status", "--county", str(county), "--as-of", "2027-10-15", "--json")
    found = json.loads(out)
    assert {u["state"] for u in found["units"]} == {"planned"}
    assert [t["late"] for t in found["coverage"]["targets"]] == [True, False]
    code, out, _ = call("status", "--county", str(county), "--as-of", "2027-11-01")
    assert "late by" in out


def test_status_tells_of_a_killed_push(county: Path) -> None:
    """An intent without outcome that concerns devices and no unit is in the text and in the JSON."""
    body = intent_body(
        Step.PROVISION,
        start=UnitState.PLANNED,
        end=UnitState.PROVISIONED,
        devices=["core1"],
        change="20270901T080000-push-a1b2c3",
    )
    with Ledger.open(county / "ledger.sqlite", SystemClock(), "field") as ledger:
        ledger.append("intent", "20270901T080000-push-a1b2c3/cores", body)
    code, out, _ = call("status", "--county", str(county))
    assert code == 0
    assert "config push was interrupted (or still runs): cores, begun 20" in out
    assert "on 1 device: core1\n" in out
    assert "run the same command again" in out
    (one,) = json.loads(call("status", "--county", str(county), "--json")[1])["interrupted"]
    assert (one["what"], one["devices"]) == ("config push", ["core1"])


def test_ledger_without_triggers_is_broken(county: Path) -> None:
    """Triggers taken away are exit 1 and named, and what was altered meanwhile is listed as well."""
    with Ledger.open(county / "ledger.sqlite", SystemClock(), "field") as ledger:
        for number in range(3):
            ledger.append("note", f"note/{number}", {"text": f"nothing happened {number}"})
    database = sqlite3.connect(county / "ledger.sqlite")
    for name in ("events_no_update", "events_no_delete", "events_append_only"):
        database.execute(f"DROP TRIGGER {name}")
    database.execute("UPDATE events SET body = '{}' WHERE seq = 2")
    database.commit()
    database.close()
    code, out, err = call("ledger", "verify", "--county", str(county))
    assert (code, err) == (1, "")
    first, second, third = out.splitlines()
    assert first.startswith("broken at the file (unguarded): the triggers that forbid changes are missing: ")
    assert second.startswith("broken at event 2 (altered): ")
    assert third.startswith("exceptions are not known: ")
    assert call("status", "--county", str(county))[0] == 1


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (["lab", "fault", "drop", "core1", "--what", "bogus"], "icmp, tcp, udp, ipv6, icmp-too-big, found 'bogus'"),
        (
            ["playbook", "provison"],
            "provision, verify, cutover, prove, retire, found 'provison'; did you mean provision",
        ),
    ],
)
def test_a_handful_of_words_is_listed(county: Path, command: list[str], expected: str) -> None:
    """A mistyped word out of a few is answered with all of them: no other command lists them."""
    code, out, err = call(*command, "--county", str(county))
    assert (code, out) == (2, "")
    assert expected in err
    assert "inventory" not in err


@pytest.mark.parametrize(("option", "name"), [("--station", "nope"), ("--unit", "nope@county")])
def test_verify_names_what_is_not_there_before_the_plan(county: Path, option: str, name: str) -> None:
    """A mistyped station or unit is said although there is no plan and no lab yet."""
    code, _, err = call("verify", option, name, "--county", str(county))
    assert code == 2
    assert f"{name!r}: not in the inventory" in err


def test_a_removed_unit_has_no_next_step(county: Path) -> None:
    """`gate explain` of a removed unit is exit 0, says so, and its JSON has null as the next step; nobody is asked."""
    with Ledger.open(county / "ledger.sqlite", SystemClock(), "field") as ledger:
        for step, state in (
            ("provision", "provisioned"),
            ("cutover", "cut_over"),
            ("drain", "drained"),
            ("shut", "shut"),
            ("remove", "removed"),
        ):
            body = outcome_body(Step(step), result="done", state=UnitState(state), devices={})
            ledger.append("outcome", f"{step}/1", body, unit="finance-man@chengguan")
    code, out, _ = call("gate", "explain", "finance-man@chengguan", "--county", str(county))
    todo = "'extranet retire --release' records that its line was given back"
    assert (code, out) == (0, f"finance-man@chengguan is removed: there is no next step; {todo}\n")
    code, out, _ = call("gate", "explain", "finance-man@chengguan", "--county", str(county), "--json")
    told = json.loads(out)
    assert (code, told["next"], told["allowed"], told["reasons"]) == (0, None, True, [])


@pytest.mark.parametrize(
    ("gate", "changes", "expected"),
    [
        ("drain", {"fin-hub": "no ip route"}, ": allowed\n    fin-hub:\n      no ip route\n"),
        (
            "drain",
            {},
            ": allowed; no router changes in this stage (drain): it is proven by the stations and recorded\n",
        ),
        ("cutover", {}, ": nothing left to do: it is cut_over already\n"),
    ],
)
def test_preview_says_what_would_be_done(
    gate: str, changes: dict[str, str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """An allowed stage that touches no router says so; so does a unit for which nothing is to do."""
    verdict = Verdict(gate=gate, unit="fin@ta", allowed=True)
    console.cache_clear()
    show_unit(UnitReport(unit="fin@ta", verdict=verdict, changes=changes, state="cut_over"), applied=False)
    console.cache_clear()
    assert capsys.readouterr().out == f"✓ fin@ta{expected}"


def test_nothing_done_because_it_is_done_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    """A step that was asked for with --yes and found done already says so, in JSON too; one that was done just now does not."""
    verdict = Verdict(gate="retire", unit="fin@ta", allowed=True)
    done = UnitReport(unit="fin@ta", verdict=verdict, changes={}, state="released")
    now = UnitReport("fin@ta", verdict, {}, Ended("fin@ta", "done"), "removed")
    console.cache_clear()
    for report in (done, now):
        show_unit(report, applied=True)
    console.cache_clear()
    assert capsys.readouterr().out == "✓ fin@ta: nothing left to do: it is released already\n✓ fin@ta: removed\n"
    assert [r.as_json()["nothing_left"] for r in (done, now)] == [True, False]


def test_a_retirement_that_is_only_shown_lists_every_stage(capsys: pytest.CaptureFixture[str]) -> None:
    """What is shown of a retirement names each stage to come, its gate and its way back, and where there is none."""
    verdict = Verdict(gate="drain", unit="fin@ta", allowed=True)
    ahead = tuple(list_stages("fin@ta", UnitState.CUT_OVER, UnitState.REMOVED, build_county().policy))
    ahead = (ahead[0].altered(changes={"fin-hub": "no ip route"}), *ahead[1:])
    console.cache_clear()
    show_unit(UnitReport("fin@ta", verdict, {"fin-hub": "no ip route"}, state="cut_over", ahead=ahead), applied=False)
    console.cache_clear()
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines if line[4:5].isdigit()] == [
        "    1. drain (gate drain)",
        "    2. shut (gate shut)",
        "    3. hold (no gate, only time)",
        "    4. remove (gate remove)",
    ]
    ways = [line for line in lines if line.strip().startswith("way back: ")]
    assert [("--undo" in w, "NONE" in w) for w in ways] == [(True, False)] * 3 + [(False, True)]
    assert lines.count("       fin-hub:") == 1


def explained(*reasons: Reason) -> Verdict:
    """Return a refusal to drain."""
    return Verdict(gate="drain", unit="fin@ta", allowed=False, reasons=reasons)


def test_a_cause_is_one_line_with_its_count(capsys: pytest.CaptureFixture[str]) -> None:
    """What stands against many stations alike is one line, with how many checks, the first stations; seconds do not part it."""
    todo = "'extranet prove fin@ta'"
    many = [
        Reason(
            station=f"st-{n}",
            service="portal",
            why=f"measured 2027-09-01 08:00:{n:02}Z while the old path was up: {todo} (from finance, IPv{4 + 2 * (n % 2)})",
            kind=ReasonKind.VOID,
        )
        for n in range(12)
    ]
    other = Reason(
        station="st-1", service="ledgers", why="tcp: expected an open port, found none", kind=ReasonKind.FAILED
    )
    verdict = explained(Reason(station="", service="", why="the hold is not over"), *many, other)
    console.cache_clear()
    show_causes(verdict)
    console.cache_clear()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "refused drain fin@ta: 14 reasons"
    assert lines[1].strip() == "the hold is not over"
    may = " [an exception may excuse it: --kind failed]"
    assert lines[2].endswith("- 12 checks from 12 stations: st-0, st-1, st-2, st-3 and 8 more (portal)")
    assert lines[3].endswith(f"- 1 check from 1 station: st-1 (ledgers){may}")
    assert "--all" in lines[4]
    assert suggest_next(verdict) == ["extranet prove fin@ta"]


def test_every_explanation_ends_in_what_to_run() -> None:
    """The commands that reasons name come first, once each; a failure that names none is looked into; a wait needs nothing."""
    failed = Reason(station="st-1", service="ledgers", why="tcp: found none", kind=ReasonKind.FAILED)
    assert suggest_next(explained(failed)) == ["extranet verify --unit fin@ta --diagnose"]
    told = "marker: page - expected 'finance', found 'extranet retire fin@ta --undo --yes'"
    for kind in (ReasonKind.FAILED, ReasonKind.LEAK, ReasonKind.VOID, ReasonKind.IN_USE):
        quoted = Reason(station="st", service="x", check="c", why=told, kind=kind, aspect="marker")
        assert suggest_next(explained(quoted)) == ["extranet verify --unit fin@ta --diagnose"]
    assert suggest_next(explained(Reason(station="", service="", why="the hold is not over"))) == []
    allowed = Verdict(gate="cutover", unit="fin@ta", allowed=True)
    assert suggest_next(allowed)[0].startswith("extranet cutover fin@ta")


def test_what_waits_for_others_names_their_commands(capsys: pytest.CaptureFixture[str]) -> None:
    """A unit before any push is pushed first; whoever must cut over first, or hangs behind, is cut over by one command."""
    story = Story()
    assert suggest_next(judge_cutover("fin@county", situation_of(SMALL, story))) == ["extranet config push --yes"]
    story.go("fin@county", "fin@ta", "fin@va1", "fin@tb", to=UnitState.PROVISIONED)
    first = suggest_next(judge_cutover("fin@ta", situation_of(SMALL, story, measure(SMALL, story.at))))
    assert first == ["extranet cutover fin@county --yes"]
    story.go("fin@county", "fin@ta", to=UnitState.CUT_OVER)
    drain = suggest_next(explained(Reason(station="st", service="x", why="old: 'extranet prove fin@ta'")))
    assert drain == ["extranet prove fin@ta"]
    situation = situation_of(SMALL, story)
    behind = judge_trial("fin@ta", situation)
    verdict = explained(Reason(station="st", service="x", why="old: 'extranet prove fin@ta'"))
    assert waits_for_proof(verdict)
    assert suggest_proof(verdict, behind) == ["extranet cutover fin@va1 --yes", "extranet prove fin@ta"]
    hub = suggest_next(judge_trial("fin@county", situation))
    assert hub == ["extranet cutover fin@tb fin@va1 --yes"]
    story.go("fin@va1", to=UnitState.CUT_OVER)
    together = suggest_proof(verdict, judge_trial("fin@ta", situation_of(SMALL, story)))
    assert together == ["extranet prove fin@ta fin@va1"]


def test_an_explanation_marks_what_an_exception_may_excuse(capsys: pytest.CaptureFixture[str]) -> None:
    """A wait bears its kind for `gate except`; that nobody looked bears none, by causes and in the whole list alike."""
    wait = Reason(station="", service="", why="7 d watched, 1 d left", kind=ReasonKind.SOAK)
    never = Reason(station="", service="", why="nobody has looked", kind=ReasonKind.UNMEASURED)
    failed = Reason(station="st-1", service="ledgers", why="tcp: found none", kind=ReasonKind.FAILED)
    verdict = explained(wait, never, failed)
    for show in (show_causes, partial(show_verdict, every=True)):
        console.cache_clear()
        show(verdict)
        console.cache_clear()
        lines = capsys.readouterr().out.splitlines()[1:]
        assert lines[0].endswith("1 d left [an exception may excuse it: --kind soak]")
        assert lines[1].endswith("nobody has looked")
        assert lines[2].endswith("[an exception may excuse it: --kind failed]")


def test_what_was_not_tried_is_not_said_to_have_gone_back() -> None:
    """A push names domains as confirmed, gone back, not done or not tried by what was done to their devices."""
    back = Ended("hebin", "undone", changed=["a", "b"], touched=True)
    assert say_ending(back) == "[red]went back[/] hebin: 2 had changed and are as before"
    assert say_ending(Ended("cores", "undone", unchanged=["a"])) == "[red]not done[/] cores: nothing was changed"
    assert say_ending(Ended("minggao", "undone", tried=False)) == "[red]not done[/] minggao: not tried"
    assert say_ending(Ended("cores", "done", changed=["a"])) == "[green]confirmed[/] cores: 1 changed, 0 as they were"
    assert {e.as_json()["ending"] for e in (back, Ended("x", "undone", tried=False))} == {"undone"}


@pytest.mark.parametrize(("named", "login", "told"), [("", "root", 1), ("网络科长", "root", 0), ("", "zhang", 0)])
def test_a_bare_account_is_warned_of(
    named: str, login: str, told: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Who records under `root` and no title is told so, once; a title or a login of one's own is enough."""
    monkeypatch.setenv("EXTRANET_ACTOR", named)
    monkeypatch.setattr("getpass.getuser", lambda: login)
    warn_of_account(Progress())
    assert capsys.readouterr().err.count("set EXTRANET_ACTOR to the title") == told


def test_progress_for_a_file_is_rare(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Off a terminal, work whose end is reached again and again is told of at most every five seconds."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    progress = Progress()
    for done, text in ((3, "stations pass, last a; waiting at most 9 s more"), (4, "stations answered, last b")):
        for _ in range(50):
            progress.tick(done, 4, text)
            now[0] += 0.5
        assert len(capsys.readouterr().err.splitlines()) == 25 / 5
    progress.tick(2, 2, "commit, last core1")
    assert "2/2 commit" in capsys.readouterr().err


def test_ledger_of_nothing_is_not_whole(county: Path) -> None:
    """Verifying no record is not a success."""
    code, _, err = call("ledger", "verify", "--county", str(county))
    assert code == 1
    assert "no ledger yet" in err
    with Ledger.open(county / "ledger.sqlite", SystemClock(), "field"):
        pass
    assert call("ledger", "verify", "--county", str(county))[0] == 1


def test_ledger_verify_finds_a_changed_byte(county: Path) -> None:
    """A whole record is 0; one altered event is 1 and named."""
    with Ledger.open(county / "ledger.sqlite", SystemClock(), "field") as ledger:
        for number in range(3):
            ledger.append("note", f"note/{number}", {"text": f"nothing happened {number}"})
    assert call("ledger", "verify", "--county", str(county))[0] == 0
    with sqlite3.connect(county / "ledger.sqlite") as database:
        database.execute("DROP TRIGGER events_no_update")
        trigger = "CREATE TRIGGER events_no_update BEFORE UPDATE ON events BEGIN SELECT RAISE(ABORT, 'no'); END"
        database.execute("UPDATE events SET body = replace(body, 'happened 1', 'happened 9') WHERE seq = 2")
        database.execute(trigger)
    database.close()
    code, out, _ = call("ledger", "verify", "--county", str(county))
    assert code == 1
    assert "2" in out


def test_ledger_shows_the_newest_or_says_there_is_none(county: Path) -> None:
    """`--last N` is at least one event; a unit nothing happened to is said so, and is an empty list for machines."""
    with Ledger.open(county / "ledger.sqlite", SystemClock(), "field") as ledger:
        for number in range(3):
            ledger.append("note", f"note/{number}", {"reason": f"nothing happened {number}"})
    code, out, _ = call("ledger", "show", "--last", "1", "--county", str(county))
    assert (code, out.count("\n")) == (0, 1)
    assert "nothing happened 2" in out
    assert call("ledger", "show", "--last", "0", "--county", str(county))[0] == 2
    code, out, _ = call("ledger", "show", "--unit", "财政城域网@chengguan", "--county", str(county))
    assert (code, out) == (0, "no event of finance-man@chengguan\n")
    assert call("ledger", "show", "--unit", "finance-man@chengguan", "--json", "--county", str(county))[1] == "[]\n"


def test_ledger_show_of_a_unit_that_is_nowhere_is_bad_usage(county: Path) -> None:
    """A mistyped unit is exit 2 with near matches; one on record needs no inventory, and is listed though it is gone there."""
    with Ledger.open(county / "ledger.sqlite", SystemClock(), "field") as ledger:
        ledger.append("note", "note/1", {"reason": "once"}, unit="gone@site")
    code, out, err = call("ledger", "show", "--unit", "finance-man@chenguan", "--county", str(county))
    assert (code, out) == (2, "")
    assert "did you mean finance-man@chengguan" in err
    assert call("ledger", "show", "--unit", "gone@site", "--county", str(county))[0] == 0
    (county / "sites.csv").unlink()
    assert "once" in call("ledger", "show", "--unit", "gone@site", "--county", str(county))[1]
    code, _, err = call("ledger", "show", "--unit", "nosuch@x", "--county", str(county))
    assert code == 2
    assert "not in the record; expected one of gone@site" in err


@pytest.mark.parametrize(("raised", "word"), [(KeyboardInterrupt, "interrupted - "), (OSError, "unexpected: OSError")])
def test_an_interrupted_command_prints_json_where_it_was_asked_to(
    county: Path, monkeypatch: pytest.MonkeyPatch, raised: type[BaseException], word: str
) -> None:
    """Ctrl-C, and what nobody foresaw, are one JSON object and exit 4 with --json, and one line on standard error without."""

    def stop(*_: object) -> None:
        raise raised

    monkeypatch.setattr("migration.campaign.open_ledger", stop)
    code, out, err = call("ledger", "show", "--county", str(county), "--json")
    told = json.loads(out)
    assert (code, told["exit_code"], err) == (4, 4, "")
    assert told["message"].startswith(word)
    code, out, err = call("ledger", "show", "--county", str(county))
    assert (code, out, err.count("\n")) == (4, "", 1)
    assert err.startswith(word)


def test_the_folder_one_is_in_is_not_named(county: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A message about the county does not begin with `.:` when the command is run inside it."""
    call("plan", "addresses", "--county", str(county))
    monkeypatch.chdir(county)
    code, _, err = call("verify")
    assert (code, err.startswith("no way to reach devices")) == (2, True)
    assert json.loads(call("verify", "--json")[1])["message"].startswith("no way to reach devices")


def test_a_soak_without_its_lab_says_what_is_down(county: Path) -> None:
    """With nothing in reach no old line is watched: the message says so, and which labs are on record."""
    with Ledger.open(county / "ledger.sqlite", SystemClock(), "lab yichuan-1-2") as ledger:
        body = outcome_body(Step.CUTOVER, result="done", state=UnitState.CUT_OVER, devices={})
        ledger.append("outcome", "cutover/1", body, unit="finance-man@chengguan")
    for units in ([], ["finance-man@chengguan"]):
        code, _, err = call("soak", *units, "--county", str(county))
        assert code == 2
        assert "no way to reach devices" in err
        assert "on record, but down: lab yichuan-1-2" in err
        assert "extranet outage --of yichuan-1-2" in err
    (county / "ledger.sqlite").unlink()
    (county / "ledger.head").unlink(missing_ok=True)
    assert "on record" not in call("soak", "--county", str(county))[2]


def test_a_station_and_a_unit_that_do_not_meet(county: Path) -> None:
    """`verify --station A --unit B` of which no check is about both is bad usage and says so, before anything is measured."""
    call("plan", "addresses", "--county", str(county))
    (county / "known_hosts").write_text("", "utf-8")
    found = load_county(county)
    access = {"target": "field", "name": "x", "port": 9, "known_hosts": "known_hosts"}
    access_file = {**access, "addresses": {s.id: "127.0.0.1" for s in found.stations}}
    (county / "access.yaml").write_text(json.dumps(access_file), "utf-8")
    station = next(s.id for s in found.stations if s.site == "minggao")
    code, _, err = call("verify", "--station", station, "--unit", "finance-man@chengguan", "--county", str(county))
    assert code == 2
    assert err.startswith(f"--station {station}: no check of it is about finance-man@chengguan")
    assert not (county / "ledger.sqlite").exists()


def test_init_does_not_overwrite(county: Path) -> None:
    """A folder that holds files is left alone."""
    (county / "sites.csv").write_text("mine", "utf-8")
    assert call("init", str(county))[0] == 2
    assert (county / "sites.csv").read_text("utf-8") == "mine"


def test_init_that_failed_can_be_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that fills half-way leaves nothing that would keep the next attempt out."""
    copy = shutil.copyfile

    def fill_up(source: Path, target: Path) -> None:
        copy(source, target)
        if target.name == "policy.yaml":
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", fill_up)
    code, _, err = call("init", str(tmp_path / "new"))
    assert (code, err.count("\n")) == (2, 1)
    monkeypatch.undo()
    assert call("init", str(tmp_path / "new"))[0] == 0


def test_unwritable_output_is_one_line(county: Path) -> None:
    """A file that cannot be written is named; what was there stays."""
    shutil.rmtree(county / "plan", ignore_errors=True)
    (county / "plan").write_text("in the way", "utf-8")
    code, _, err = call("plan", "addresses", "--county", str(county))
    assert code == 2
    assert "cannot be written" in err or "cannot be read" in err
    assert "Traceback" not in err
