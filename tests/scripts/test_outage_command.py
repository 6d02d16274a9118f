"""What people read of outages: the worst first, what is not known by name, and never a zero where nothing was measured."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from inventory.model import Family
from migration.outage import Felt, OutageRecord, TargetOutage, sum_by_station
from migration.units import Step
from scripts.commands.outage import BAR, draw_bar, render_markdown, show_changes, show_record
from scripts.main import app
from tests.lab_fixture import copy_county


def felt_by(station: str, seconds: float = 0.0, **more: object) -> TargetOutage:
    """Return what one target felt."""
    values = {"station": station, "plane": "finance", "services": ("ledgers", "pay"), "family": Family.IPV4}
    gaps = 1 if seconds else 0
    return TargetOutage.model_validate(
        {
            **values,
            "seconds": seconds,
            "longest_s": seconds,
            "gaps": gaps,
            "asked_per_s": 10,
            "resolution_s": 0.2,
            **more,
        }
    )


def record(*targets: TargetOutage) -> OutageRecord:
    """Return a record of a cutover."""
    return OutageRecord(attempt="fin@ta", budget_s=10.0, rate_per_s=10.0, targets=targets)


def test_the_worst_stands_first_with_its_bar(capsys: pytest.CaptureFixture[str]) -> None:
    """Seconds, a bar beside the longest, station and service; the way back apart; what is unknown or never worked by name."""
    show_record(
        record(
            felt_by("lost", unknown="the watch was lost"),
            felt_by("ta", 8.0, back_s=2.0),
            felt_by("tb", 4.0, gaps=2),
            felt_by("tc"),
            felt_by("dead", worked=False),
        )
    )
    lines = capsys.readouterr().out.splitlines()
    assert "felt on 2 of 3 ways that worked before, budget 10 s" in lines[0]
    assert lines[1].split()[:2] == ["8.0", "s"]
    assert "ta/finance/ledgers/ipv4 (+1 more there) + 2.0 s on the way back" in lines[1]
    assert "tb/finance/ledgers/ipv4 (+1 more there) in 2 pieces" in lines[2]
    assert lines[3].strip() == "lost/finance/ledgers/ipv4: unknown: the watch was lost"
    assert lines[4].strip() == "1 way did not work before, and nothing is said of it: dead/finance/ledgers/ipv4"


def test_nothing_felt_says_how_finely_it_was_watched(capsys: pytest.CaptureFixture[str]) -> None:
    """Where nothing was felt the resolution is told; where nothing is known nothing is called unfelt."""
    show_record(record(felt_by("ta")))
    assert "on 1 way that worked before no port was gone for longer than 0.2 s (budget 10 s)" in capsys.readouterr().out
    show_record(record(felt_by("ta", unknown="the watch was lost")))
    assert "no port was gone" not in capsys.readouterr().out


def test_what_never_worked_is_not_called_unfelt(capsys: pytest.CaptureFixture[str]) -> None:
    """Where services were gone before or failed behind their ports, what is said covers only the ports that answered."""
    targets = (felt_by("ta"), felt_by("dead", worked=False))
    show_record(record(*targets), failed=True)
    text = capsys.readouterr().out
    assert "on 1 way that worked before no port was gone" in text
    assert "only ports are watched: what failed behind them is named above" in text
    assert "1 way did not work before" in text
    change = Felt(key="a", at="2027-09-01T08:00:00.000000Z", step=Step.CUTOVER, result="done", units=("fin@ta",))
    show_changes([change.altered(record=record(*targets)), change.altered(record=record(targets[1]))])
    lines = capsys.readouterr().out.splitlines()
    assert "no port gone for longer than 0.2 s, 1 did not work before" in lines[0]
    assert "nothing known, 1 did not work before" in lines[1]
    assert "0.0 s" not in "".join(lines)


def test_a_bar_is_as_long_as_its_share() -> None:
    """The longest fills the line; what was felt at all shows; nothing shows nothing."""
    assert [len(draw_bar(s, 10.0)) for s in (10.0, 5.0, 0.01, 0.0)] == [BAR, BAR // 2, 1, 0]


def test_the_table_for_the_page_holds_every_station(capsys: pytest.CaptureFixture[str]) -> None:
    """Seconds add up over changes; a change whose record is lost is told, and is not a zero."""
    changes = [
        Felt(key="a", at="2027-09-01T08:00:00.000000Z", step=Step.CUTOVER, result="done", units=("fin@ta",), record=r)
        for r in (record(felt_by("ta", 3.0), felt_by("tb")), record(felt_by("ta", 2.0)))
    ]
    text = render_markdown(changes, sum_by_station(changes))
    assert "| ta | 5.0 | 3.0 | `finance/ledgers/ipv4` | 1 of 1 |" in text
    assert "| tb | 0.0 | 0.0 |  | 0 of 1 |" in text
    assert text.startswith("1 unit, 2 stations, 2 ways watched 10 times a second")
    show_changes([changes[0].altered(record=None, lost="evidence/x is missing")])
    assert "record lost: evidence/x is missing" in capsys.readouterr().out


def test_without_a_watched_change_there_is_nothing_to_show(tmp_path: Path) -> None:
    """A county where nothing was cut over: exit 1 and what would make it otherwise; an empty table is no answer."""
    folder = copy_county(tmp_path / "county")
    done = CliRunner().invoke(app, ["outage", "--county", str(folder)])
    assert done.exit_code == 1
    assert "no change was watched yet" in done.stderr
