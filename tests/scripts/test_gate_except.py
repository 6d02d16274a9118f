"""`extranet gate except`: what is typed wrong is said before anything is asked, and what nothing excuses is refused."""

from __future__ import annotations

import json
import re
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from inventory.errors import ExtranetError
from inventory.model import Timers
from inventory.reader import load_county
from migration.clock import SystemClock, to_iso
from migration.events import Kind
from migration.ledger import ACTOR_VARIABLE, Ledger, current_login
from migration.overrides import KINDS
from migration.proof import EXCUSABLE, Reason, ReasonKind
from scripts.bench_gates import CHECKS, IN_USE, measure
from scripts.commands.migrate import last_moment
from scripts.main import app

runner = CliRunner()
ROOT = Path(__file__).resolve().parents[2]
UNIT = "finance-man@chengguan"
SOON = f"{datetime.now().astimezone() + timedelta(days=3):%Y-%m-%d}"
TITLES = ("--why", "the hall is being rebuilt", "--by", "财政局局长", "--approved-by", "县大数据局局长")


@pytest.fixture
def county(tmp_path: Path) -> Path:
    """A planned county whose devices nobody can reach."""
    folder = tmp_path / "county"
    assert runner.invoke(app, ["init", str(folder)]).exit_code == 0
    assert runner.invoke(app, ["plan", "addresses", "--county", str(folder)]).exit_code == 0
    (folder / "known_hosts").write_text("", "utf-8")
    addresses = {s.id: "127.0.0.1" for s in load_county(folder).stations}
    access = {"target": "field", "name": "x", "port": 9, "known_hosts": "known_hosts", "addresses": addresses}
    (folder / "access.yaml").write_text(json.dumps(access), "utf-8")
    return folder


def test_a_day_ends_at_its_end_and_a_moment_when_it_says() -> None:
    """Midnight is a moment as any other: only a day alone is meant to its end."""
    day = last_moment("2027-09-30")
    assert last_moment("2027-09-30T00:00:00") == day - timedelta(days=1)
    assert last_moment("２０２７-０９-３０") == day
    for typed in ("2027-09-30 18:00:00", "20270930 18", "2027-09-30t18:00", "2027-13-01"):
        with pytest.raises(ExtranetError, match="expected a day such as"):
            last_moment(typed)
    assert last_moment("2027-09-30T18:00:00+08:00") == datetime(2027, 9, 30, 10, tzinfo=UTC)


def gate_except(county: Path, *arguments: str) -> tuple[int, str]:
    """Run the command; return its exit code and all it said."""
    result = runner.invoke(app, ["gate", "except", UNIT, "--county", str(county), *arguments])
    return result.exit_code, result.stdout + result.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (TITLES, "--until: an exception needs its end"),
        ((*TITLES[:4], "--until", SOON), "two titles are needed"),
        ((*TITLES[:5], "财政局　局长", "--until", SOON), "two different titles"),
        ((*TITLES[2:], "--until", SOON), "no reason is given"),
        ((*TITLES, "--until", "2099-01-01"), "would stand too long"),
        ((*TITLES, "--until", "9999-12-31"), "--until: an exception needs its end"),
        ((*TITLES, "--until", "next week"), "or a moment such as 2027-09-30T18:00:00, found 'next week'"),
        ((*TITLES, "--until", "2020-01-01"), "over before it begins"),
        ((*TITLES, "--until", SOON), "name --station, --service, --check or --kind"),
        ((*TITLES, "--until", SOON, "--kind", "failed"), "is what was named"),
        (
            (*TITLES, "--until", SOON, "--kind", "bogus"),
            "--kind: expected one of failed, unknown, soak, hold, policy, found",
        ),
        (
            ("--withdraw", "ex-1", "--by", "x", "--why", "y"),
            f"exception 'ex-1': not in the record of {UNIT}; there is none",
        ),
    ],
)
def test_what_is_typed_wrong_is_one_line_and_recorded_nowhere(
    county: Path, arguments: tuple[str, ...], words: str
) -> None:
    """A missing title, reason, end or selector is bad usage, and leaves no ledger behind, even with --yes."""
    code, said = gate_except(county, *arguments, "--yes")
    assert code == 2, said
    assert words in said
    assert not (county / "ledger.sqlite").exists()


def test_what_nothing_excuses_is_refused(county: Path) -> None:
    """A unit that is not provisioned is not talked into cutover, whoever signs: exit 3, and nothing is recorded."""
    code, said = gate_except(county, *TITLES, "--until", SOON, "--kind", "state", "--yes")
    assert code == 3, said
    assert "never excused (state) finance-man@chengguan cannot cut over now" in said
    assert not (county / "ledger.sqlite").exists()


@pytest.mark.parametrize("login", [current_login(), "zhang at another-host", ""])
def test_it_stands_when_another_account_confirms_it(county: Path, monkeypatch: pytest.MonkeyPatch, login: str) -> None:
    """Who proposed it cannot confirm it, nor can anybody under another title; another account can, once; both are shown.

    Where both typed on one account of one host, every report says so.
    """
    with Ledger.open(county / "ledger.sqlite", SystemClock(), "field") as ledger:
        reason = Reason(station="", service="", why="soaking", kind=ReasonKind.SOAK).model_dump(mode="json")
        body = {
            "id": "ex-1",
            "gate": "drain",
            "reasons": [reason],
            "why": "the hall is being rebuilt",
            "by": "财政局局长",
        }
        until = to_iso(datetime.now(UTC) + timedelta(days=3))
        body |= {"approved_by": "县大数据局局长", "until": until, "login": login}
        ledger.append(Kind.EXCEPTION, "ex-1", body, unit=UNIT, actor="first")
    words = ("--confirm", "ex-1", "--approved-by", "县大数据局局长")
    monkeypatch.setenv(ACTOR_VARIABLE, " First")
    code, said = gate_except(county, *words, "--yes")
    assert (code, said.count("\n")) == (2, 1)
    assert "who proposes does not confirm" in said
    monkeypatch.setenv(ACTOR_VARIABLE, "second")
    assert gate_except(county, *words[:3], "财政局局长", "--yes")[0] == 2
    assert gate_except(county, "--confirm", "ex-2", *words[2:], "--yes")[0] == 2
    assert "nothing was recorded" in gate_except(county, *words)[1]
    assert "not yet confirmed, so it counts for nothing" in gate_except(county, *words)[1]
    code, said = gate_except(county, *words, "--yes")
    assert code == 0, said
    assert "ex-1 stands" in said
    assert "recorded by first, confirmed by second" in said
    both = f"both on one account, {login}"
    assert (both in said) == (both in runner.invoke(app, ["status", "--county", str(county)]).stdout)
    assert (both in said) == (login == current_login())
    assert "it is confirmed already" in gate_except(county, *words, "--yes")[1]
    assert gate_except(county, "--withdraw", "ex-1", "--by", "x", "--why", "y", "--yes")[0] == 0
    assert gate_except(county, *words, "--yes")[0] == 2


def test_every_kind_that_may_be_excused_is_listed() -> None:
    """What a mistyped --kind is answered with, and the help of it, are all that an exception may excuse."""
    assert set(KINDS) == {kind.value for kind in EXCUSABLE}
    said = " ".join(runner.invoke(app, ["gate", "except", "--help"], env={"COLUMNS": "400"}).stdout.split())
    assert "failed, unknown, soak, hold or policy" in said
    assert "2 when what was typed makes no exception" in said


def test_the_example_of_the_readme_ends_soon_enough() -> None:
    """The end that both READMEs show is a day to come within what policy allows by default, on whatever day it is typed."""
    for name in ("README.md", "README.zh-CN.md"):
        (line,) = re.findall(
            r"^extranet gate except UNIT .*--until (.*) --yes", (ROOT / name).read_text("utf-8"), re.MULTILINE
        )
        shown = subprocess.run(["/bin/sh", "-c", f"echo {line}"], capture_output=True, text=True, check=True).stdout
        ahead = datetime.fromisoformat(shown.strip()).astimezone() - datetime.now().astimezone()
        assert timedelta(0) < ahead < timedelta(seconds=Timers().exception_s - 86400)


def test_the_bench_measures_what_it_says() -> None:
    """Every unit is asked about, and every station has the results that are counted."""
    found = measure(2, towns=1, villages=3)
    assert (found.stations, found.units, found.results) == (10, 20, 10 * CHECKS)
    assert found.allowed + found.refused == found.units
    # The hubs wait for the others, and three lines a county are in use; who else is refused has a result that failed.
    assert found.refused >= 2 * (2 + IN_USE)
    assert found.allowed > 0
