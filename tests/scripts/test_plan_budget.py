"""`extranet plan budget` from the command line: exit codes, the table, JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from scripts.commands.plan_budget import budget

ROOT = Path(__file__).resolve().parents[2]
DIVISIONS = ROOT / "tests" / "addressing" / "data" / "luoyang-2021.tsv.xz"
YICHUAN = ("--divisions", str(DIVISIONS), "--root", "410329000000")

app = typer.Typer()
app.command()(budget)
runner = CliRunner()


def run(*arguments: str) -> Result:
    """Run the command."""
    return runner.invoke(app, list(arguments))


def test_table_and_questions() -> None:
    """The table explains every level, and each what-if is answered in a line."""
    result = run(*YICHUAN, "--pool", "3fff:410:300::/40", "--what-if", "410329000000+1", "--what-if", "growth*3")
    assert result.exit_code == 0
    assert "41 (410329111000 鸦岭镇)" in result.stdout
    assert "it gets 8, which end between two digits" in result.stdout
    assert "1 more under 410329000000: 0 move" in result.stdout
    assert "growth 3 times as high: " in result.stdout


def test_refusal() -> None:
    """A pool too small is exit 2: the table shows what is needed, one line says what would do."""
    result = run(*YICHUAN, "--pool", "3fff:410:300::/48")
    assert result.exit_code == 2
    assert "refused" in result.stdout
    assert "a pool of /44" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_json() -> None:
    """JSON holds the same, refused or not, and nothing else is printed."""
    good = run(*YICHUAN, "--pool", "3fff:410:300::/40", "--what-if", "growth*2", "--json")
    assert good.exit_code == 0
    plain = json.loads(good.stdout)
    assert [row["width"] for row in plain["budget"]["levels"]] == [0, 8, 8]
    assert plain["what_if"][0]["moved_now"] == 0
    bad = run(*YICHUAN, "--pool", "3fff:410:300::/48", "--json")
    assert bad.exit_code == 2
    assert json.loads(bad.stdout)["error"] == "BudgetRefusedError"
    assert json.loads(bad.stdout)["budget"]["refused"]


def test_policy_and_language() -> None:
    """A policy's file names pools and more; the table is there in Chinese too."""
    result = run(*YICHUAN, "--policy", str(ROOT / "addressing" / "example-policy.yaml"), "--lang", "zh")
    assert result.exit_code == 0
    assert "本身即地址池" in result.stdout
    assert "乡镇" in result.stdout


def test_county() -> None:
    """Without divisions, the county's own sites are budgeted under its own pool."""
    result = run("--county", str(ROOT / "inventory" / "yichuan"), "--json")
    assert result.exit_code == 0
    levels = json.loads(result.stdout)["budget"]["levels"]
    assert [(row["name"], row["count"]) for row in levels] == [("county", 1), ("town", 15), ("village", 43)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((*YICHUAN,), "--pool: expected the block to divide"),
        ((*YICHUAN, "--pool", "10.0.0.0/8"), "an IPv4 block"),
        ((*YICHUAN, "--pool", "3fff::/36", "--what-if", "x"), "--what-if x: expected CODE+N"),
        ((*YICHUAN, "--pool", "3fff::/36", "--lang", "fr"), "--lang fr: expected en or zh"),
        (("--root", "410329000000", "--pool", "3fff::/36"), "expected together with --divisions"),
    ],
)
def test_bad_usage(arguments: tuple[str, ...], message: str) -> None:
    """Bad usage is exit 2 with a line that says what was expected."""
    result = run(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr
