"""A ledger in a file: trouble with the file and its disk, several processes at once, and kills."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

import migration.ledger.databases
from inventory.errors import ExtranetError
from migration.events import GENESIS, Head
from migration.ledger import (
    LOCK_FILE,
    CampaignBusyError,
    Ledger,
    LedgerBrokenError,
    LedgerFormatError,
    LedgerUnavailableError,
    campaign_lock,
)
from tests.migration.ledger_homes import TARGET, fill
from tests.migration.scene import T0, StoppedClock

ENOUGH_LINES = 300
"""Lines of the ledger that a record of two events runs at least."""
TREE = Path(__file__).resolve().parents[2]


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """An empty ledger."""
    with Ledger.open(tmp_path, StoppedClock(), TARGET) as opened:
        yield opened


@pytest.mark.parametrize(("lost", "kind"), [("ledger.sqlite*", "truncated"), ("ledger.head", "head")])
def test_a_file_gone_is_seen(tmp_path: Path, lost: str, kind: str) -> None:
    """A record without its head, or a head without its record, is broken; neither is written any more."""
    with Ledger.open(tmp_path, StoppedClock(), TARGET) as ledger:
        fill(ledger, 6)
    for file in tmp_path.glob(lost):
        file.unlink()
    with Ledger.open(tmp_path, StoppedClock(), TARGET, readonly=True) as ledger:
        assert [(b.seq, b.kind) for b in ledger.verify()] == [(1, kind)]
        with pytest.raises(LedgerBrokenError, match=f"event 1: {kind}"):
            ledger.events()
    with Ledger.open(tmp_path, StoppedClock(), TARGET) as ledger, pytest.raises(LedgerBrokenError):
        ledger.append("note", "after", {})


# --- trouble with the file ---


def only_line(error: ExtranetError) -> str:
    """The error's text, which must be one line."""
    assert "\n" not in str(error)
    return str(error)


def test_not_a_database_is_said(tmp_path: Path) -> None:
    """A file that is not a database is named as such, and left as it is."""
    path = tmp_path / "ledger.sqlite"
    path.write_text("日报表\n" * 500)
    before = path.read_bytes()
    with pytest.raises(LedgerFormatError) as caught:
        Ledger.open(path, StoppedClock(), TARGET)
    assert "not a database" in only_line(caught.value)
    assert path.read_bytes() == before


def test_a_foreign_database_is_said(tmp_path: Path) -> None:
    """A database that is not a ledger is refused and nothing is added to it."""
    path = tmp_path / "ledger.sqlite"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE people (name TEXT)")
    connection.commit()
    connection.close()
    with pytest.raises(LedgerFormatError) as caught:
        Ledger.open(path, StoppedClock(), TARGET)
    assert "found people" in only_line(caught.value)
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("people",)]
    connection.close()


def test_a_later_format_is_said(ledger: Ledger, tmp_path: Path) -> None:
    """A ledger of a format that this version does not know is refused."""
    connection = sqlite3.connect(tmp_path / "ledger.sqlite")
    connection.execute("UPDATE ledger_format SET version = 3")
    connection.commit()
    connection.close()
    with pytest.raises(LedgerFormatError, match=r"expected 2, found 3; use the version that wrote it"):
        Ledger.open(tmp_path, StoppedClock(), TARGET)


def test_a_missing_folder_is_said(tmp_path: Path) -> None:
    """A folder that is not there is one clear line."""
    with pytest.raises(LedgerUnavailableError) as caught:
        Ledger.open(tmp_path / "nowhere" / "ledger.sqlite", StoppedClock(), TARGET)
    assert "cannot be" in only_line(caught.value)


def test_a_locked_database_is_said(ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A record that another program holds is one clear line, nothing is written, and afterwards it works."""
    monkeypatch.setattr(migration.ledger.databases, "BUSY_S", 0.1)
    other = sqlite3.connect(tmp_path / "ledger.sqlite", isolation_level=None)
    with Ledger.open(tmp_path, StoppedClock(), TARGET) as second:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(LedgerUnavailableError) as caught:
            second.append("note", "k", {})
        assert "another program holds the record" in only_line(caught.value)
        other.execute("ROLLBACK")
        other.close()
        assert second.append("note", "k", {}).seq == 1
        assert second.verify() == []


def test_only_two_databases(tmp_path: Path) -> None:
    """A URL of a third kind of database is refused without its password; one of SQLite is the file."""
    with pytest.raises(LedgerFormatError, match="expected an SQLite file or a PostgreSQL database") as caught:
        Ledger.open("mysql://me:hush@db.example/x", StoppedClock(), TARGET)
    assert "hush" not in str(caught.value)
    with Ledger.open(f"sqlite:///{tmp_path}/ledger.sqlite", StoppedClock(), TARGET) as ledger:
        fill(ledger, 1)
    assert (tmp_path / "ledger.sqlite").exists()


def test_reading_makes_nothing(tmp_path: Path) -> None:
    """Opened for reading, a ledger that is not there is empty, and no file appears; appending is refused."""
    with Ledger.open(tmp_path, StoppedClock(), TARGET, readonly=True) as ledger:
        assert ledger.events() == ()
        assert ledger.head() == Head(seq=0, hash=GENESIS)
        assert ledger.verify() == []
        with pytest.raises(LedgerUnavailableError, match="opened for reading only"):
            ledger.append("note", "k", {})
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 400 kB."""
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(place)], check=True)
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.mark.lab
def test_a_full_disk_leaves_a_whole_record(small_disk: Path) -> None:
    """A disk that fills up is one clear line; the chain is whole, and the same command works once there is room."""
    stone = small_disk / "stone"
    with Ledger.open(small_disk, StoppedClock(), TARGET) as ledger:
        fill(ledger, 2)
        with pytest.raises(OSError, match="No space"):
            stone.write_bytes(b"x" * 500_000)
        seen = 2

        def fill_up() -> None:
            nonlocal seen
            for seen in range(3, 400):
                ledger.append("note", f"note {seen}", {"number": seen, "text": "x" * 2000})

        with pytest.raises(LedgerUnavailableError, match=r"full|No space") as caught:
            fill_up()
        assert only_line(caught.value)
        assert ledger.verify() == []
        recorded = ledger.head().seq
        stone.unlink()
        again = ledger.append("note", f"note {seen}", {"number": seen, "text": "x" * 2000})
        assert again.seq in {recorded, recorded + 1}
        assert ledger.verify() == []
    with Ledger.open(small_disk, StoppedClock(), TARGET, readonly=True) as ledger:
        assert ledger.verify() == []
    assert not list(small_disk.glob("*.new"))


@pytest.mark.lab
def test_a_read_only_disk_can_be_read_and_says_so(small_disk: Path) -> None:
    """On a read-only disk appending is one clear line."""
    with Ledger.open(small_disk, StoppedClock(), TARGET) as ledger:
        fill(ledger, 2)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(LedgerUnavailableError) as caught, Ledger.open(small_disk, StoppedClock(), TARGET) as ledger:
        fill(ledger, 1, first=3)
    assert "read-only" in only_line(caught.value).lower()
    with Ledger.open(small_disk, StoppedClock(), TARGET, readonly=True) as ledger:
        assert len(ledger.events()) == 2
        assert ledger.verify() == []


# --- several at once, and killed ---

APPENDER = """
import sys
from migration.ledger import Ledger
folder, name, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
with Ledger.open(folder, None, "lab t") as ledger:
    print("ready", flush=True)
    for number in range(count):
        ledger.append("note", f"{name}/{number}", {"number": number})
        if count > 10_000:
            print(number, flush=True)
"""


def start_appender(folder: Path, name: str, count: int) -> subprocess.Popen[str]:
    """Start a process that appends."""
    return subprocess.Popen(
        [sys.executable, "-c", APPENDER, str(folder), name, str(count)],
        cwd=TREE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_two_processes_append_to_one_chain(tmp_path: Path) -> None:
    """Two processes that append at once, from the making of the file on, make one whole chain and lose nothing."""
    running = [start_appender(tmp_path, name, 60) for name in ("a", "b", "c")]
    for process in running:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    with Ledger.open(tmp_path, StoppedClock(), TARGET, readonly=True) as ledger:
        assert ledger.verify() == []
        keys = [e.key for e in ledger.events()]
    for name in ("a", "b", "c"):
        assert [k for k in keys if k.startswith(name)] == [f"{name}/{n}" for n in range(60)]


def test_killed_anywhere_the_chain_is_whole(tmp_path: Path) -> None:
    """Killed at any moment, again and again, the record stays whole, holds all that was reported, and goes on."""
    for round_ in range(8):
        process = start_appender(tmp_path, f"round {round_}", 1_000_000)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.02 * round_ + 0.004)
        os.kill(process.pid, signal.SIGKILL)
        reported = [int(line) for line in process.stdout.read().split()]
        process.wait(timeout=30)
        process.stdout.close()
        if process.stderr is not None:
            process.stderr.close()
        with Ledger.open(tmp_path, StoppedClock(T0 + timedelta(days=1)), TARGET) as ledger:
            assert ledger.verify() == []
            mine = [e for e in ledger.events() if e.key.startswith(f"round {round_}/")]
            # All that was reported, and at most the one whose report the kill cut off.
            assert len(mine) - (max(reported, default=-1) + 1) in {0, 1, 2}
            ledger.append("note", f"after {round_}", {})
            assert ledger.verify() == []


KILL_POINTS = """
import os, sys
from pathlib import Path
import migration.ledger.record as module
import alembic.command, sqlalchemy.dialects.postgresql.psycopg, sqlalchemy.dialects.sqlite
from migration.ledger import Ledger
room = str(Path(module.__file__).parent)

def run(place, folder, stop):
    seen = 0
    def trace(frame, event, arg):
        nonlocal seen
        if not frame.f_code.co_filename.startswith(room):
            return None
        if event == "line":
            seen += 1
            if seen == stop:
                os.kill(os.getpid(), 9)
        return trace
    sys.settrace(trace)
    with Ledger.open(place, None, "lab t", folder=Path(folder)) as ledger:
        ledger.append("note", "first", {"a": 1})
        with ledger.hold("a command"):
            ledger.append("note", "second", {"a": 2})
    sys.settrace(None)
    return seen

for line in sys.stdin:
    place, folder, stop = line.rstrip().split("\t")
    child = os.fork()
    if not child:
        print(run(place, folder, int(stop)), end=" ", flush=True)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@contextmanager
def killing_runs() -> Iterator[Callable[[Path | str, Path, int], list[int]]]:
    """Give what makes a record of two events in a process of its own, killed at its n-th line (0: never).

    Returns its exit code, and before that, where it came to its end, how many lines it ran. One process has read the
    code, and each run is its child: most of what a run takes would be reading it again.
    """
    command = [sys.executable, "-c", KILL_POINTS]
    with subprocess.Popen(command, cwd=TREE, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdin is not None
        assert parent.stdout is not None
        stdin, stdout = parent.stdin, parent.stdout

        def run(place: Path | str, folder: Path, stop: int) -> list[int]:
            folder.mkdir()
            stdin.write(f"{place}\t{folder}\t{stop}\n")
            stdin.flush()
            return [int(word) for word in stdout.readline().split()]

        yield run
        stdin.close()


@pytest.mark.heavy
@pytest.mark.timeout(1800)
def test_killed_between_any_two_statements_the_chain_is_whole(tmp_path: Path) -> None:
    """Killed between any two statements of the ledger, from making the file on, a second run completes the record."""
    with killing_runs() as run:
        lines, code = run(tmp_path / "whole", tmp_path / "whole", 0)
        assert (code, lines > ENOUGH_LINES) == (0, True)
        for stop in range(1, lines + 1):
            folder = tmp_path / str(stop)
            assert run(folder, folder, stop) == [-signal.SIGKILL], stop
            with Ledger.open(folder, StoppedClock(), TARGET) as ledger:
                assert ledger.verify() == [], stop
                ledger.append("note", "first", {"a": 1})
                ledger.append("note", "second", {"a": 2})
                assert [e.key for e in ledger.events()] == ["first", "second"]
                assert ledger.verify() == []
            shutil.rmtree(folder)


# --- one command at a time ---


def test_the_second_command_is_told_who_holds_the_county(tmp_path: Path) -> None:
    """While one command changes the network a second is refused with its pid, command and since when; then it may."""
    with campaign_lock(tmp_path, "extranet cutover fin@ta", StoppedClock()):
        with (
            pytest.raises(CampaignBusyError, match="'extranet cutover fin@ta'") as caught,
            campaign_lock(tmp_path, "extranet retire fin@tb"),
        ):
            pass
        assert caught.value.exit_code == 4
        assert f"pid {os.getpid()}" in only_line(caught.value)
        assert "2027-09-01T08:00:00" in str(caught.value)
    with campaign_lock(tmp_path, "extranet retire fin@tb"):
        pass


def test_removing_the_note_lets_nobody_in(tmp_path: Path) -> None:
    """The county stays held when the file that tells who holds it is removed."""
    with campaign_lock(tmp_path, "extranet cutover fin@ta"):
        (tmp_path / LOCK_FILE).unlink()
        with pytest.raises(CampaignBusyError), campaign_lock(tmp_path, "x"):
            pass


HOLDER = """
import sys, time
from pathlib import Path
from migration.ledger import campaign_lock
with campaign_lock(Path(sys.argv[1]), "extranet config push"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_killed_holder_lets_go(tmp_path: Path) -> None:
    """When the holder is killed the county is free at once, and its stale note misleads nobody."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], cwd=TREE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    with pytest.raises(CampaignBusyError, match=f"pid {process.pid}"), campaign_lock(tmp_path, "x"):
        pass
    process.kill()
    process.wait(timeout=30)
    process.stdout.close()
    with campaign_lock(tmp_path, "x"):
        pass
