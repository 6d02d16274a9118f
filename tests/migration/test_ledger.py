"""The ledger: only grows, keeps its chain through every crash, and shows every kind of tampering."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import migration.ledger.databases
from inventory.errors import ExtranetError
from migration.events import GENESIS, Break, Head, Kind, canonical_json, hash_event
from migration.ledger import (
    LOCK_FILE,
    CampaignBusyError,
    KeyConflictError,
    Ledger,
    LedgerBrokenError,
    LedgerFormatError,
    LedgerUnavailableError,
    UnfitBodyError,
    campaign_lock,
)
from tests.migration.scene import T0, StoppedClock

TREE = Path(__file__).resolve().parents[2]
TARGET = "lab t"


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """An empty ledger."""
    with Ledger.open(tmp_path, StoppedClock(), TARGET) as opened:
        yield opened


def fill(ledger: Ledger, count: int, first: int = 1) -> None:
    """Append some notes."""
    for number in range(first, first + count):
        ledger.append(Kind.NOTE, f"note {number}", {"number": number, "名": "伊川"}, unit=f"fin@t{number}")


def tamper(path: Path, *statements: str) -> None:
    """Change rows as somebody with a database browser would: the triggers taken away, and put back afterwards."""
    connection = sqlite3.connect(path)
    triggers = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
    for name, _ in triggers:
        connection.execute(f"DROP TRIGGER {name}")
    for statement in statements:
        connection.execute(statement)
    for _, sql in triggers:
        connection.execute(sql)
    connection.commit()
    connection.close()


def rehash(path: Path, seq: int, *, note: str) -> None:
    """Rewrite an event's body and give it the hash that fits."""
    connection = sqlite3.connect(path)
    connection.row_factory = sqlite3.Row
    row = dict(connection.execute("SELECT * FROM events WHERE seq = ?", (seq,)).fetchone())
    connection.close()
    body = {"rewritten": note}
    digest = hash_event({**row, "body": body})
    tamper(path, f"UPDATE events SET body = '{canonical_json(body)}', hash = '{digest}' WHERE seq = {seq}")


def remove_ledger(path: Path) -> None:
    """Remove the record and leave its head."""
    for file in path.parent.glob("ledger.sqlite*"):
        file.unlink()


def write_head(path: Path, text: str) -> None:
    """Put another head beside the record."""
    path.with_name("ledger.head").write_text(text)


# --- appending ---


def test_an_event_is_kept_as_given(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is appended is read back equal, with number, time, actor, target and a hash anybody can compute."""
    monkeypatch.setenv("EXTRANET_ACTOR", "网络科长")
    event = ledger.append("intent", "k", {"b": 1, "a": [1.5, None, "é"]}, unit="fin@ta")
    assert (event.seq, event.at, event.actor) == (1, "2027-09-01T08:00:00.000000+00:00", "网络科长")
    assert (event.target, event.kind, event.key, event.unit) == (TARGET, Kind.INTENT, "k", "fin@ta")
    assert event.prev == GENESIS
    assert event.hash == hash_event(event.model_dump(mode="json"))
    assert ledger.events() == (event,)
    assert ledger.head() == Head(seq=1, hash=event.hash)
    assert ledger.verify() == []


def test_without_a_title_the_login_acts(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without EXTRANET_ACTOR the actor is the login name, and a uid where there is none."""
    monkeypatch.delenv("EXTRANET_ACTOR", raising=False)
    monkeypatch.setenv("LOGNAME", "engineer")
    assert ledger.append("note", "k", {}).actor == "engineer"


def test_each_event_holds_the_hash_before(ledger: Ledger) -> None:
    """The events form one chain, whatever their kind and unit."""
    fill(ledger, 5)
    events = ledger.events()
    assert [e.prev for e in events] == [GENESIS, *(e.hash for e in events[:-1])]


def test_the_same_key_appends_once(ledger: Ledger) -> None:
    """The same kind and key again returns the first event, even later; with another body or unit it is an error."""
    first = ledger.append("intent", "k", {"a": 1, "b": 2}, unit="u")
    assert ledger.append("intent", "k", {"b": 2, "a": 1}, unit="u", actor="another") == first
    assert ledger.append("outcome", "k", {"a": 1}, unit="u").seq == 2
    with pytest.raises(KeyConflictError, match=r"key 'k' was used for another intent \(event 1\)"):
        ledger.append("intent", "k", {"a": 1}, unit="u")
    with pytest.raises(KeyConflictError):
        ledger.append("intent", "k", {"a": 1, "b": 2}, unit="v")
    assert ledger.head().seq == 2


def test_targets_are_kept_apart(tmp_path: Path) -> None:
    """A rehearsal's events stand in the same chain, and are neither seen nor their keys taken in the field."""
    with Ledger.open(tmp_path, StoppedClock(), "lab t") as lab, Ledger.open(tmp_path, StoppedClock(), "field") as field:
        lab.append("note", "k", {"a": 1})
        field.append("note", "k", {"a": 2})
        assert [e.body for e in field.events()] == [{"a": 2}]
        assert [e.seq for e in lab.events(all_targets=True)] == [1, 2]


def test_events_are_chosen_by_kind_and_unit(ledger: Ledger) -> None:
    """Events can be asked for by kind and by unit."""
    fill(ledger, 3)
    ledger.append("verdict", "v", {}, unit="fin@t2")
    assert [e.seq for e in ledger.events(kind="verdict")] == [4]
    assert [e.seq for e in ledger.events(unit="fin@t2")] == [2, 4]


@pytest.mark.parametrize(
    "body",
    [
        {"password": "x"},
        {"a": [{"snmp_community": "x"}]},
        {"login": {"api_token": "x"}},
        {"file": "-----BEGIN OPENSSH PRIVATE KEY-----\nx"},
    ],
)
def test_secrets_are_not_recorded(ledger: Ledger, body: dict[str, object]) -> None:
    """A body with what looks like a secret is refused by the place it stands at, without repeating it."""
    with pytest.raises(UnfitBodyError, match="looks like a secret at body") as caught:
        ledger.append("note", "k", body)
    assert "'x'" not in str(caught.value)
    assert ledger.head().seq == 0


@pytest.mark.parametrize("body", [{"a": float("nan")}, {"a": {1, 2}}, {"a": b"x"}])
def test_only_plain_json_is_recorded(ledger: Ledger, body: dict[str, object]) -> None:
    """What has no canonical JSON is refused, since its hash could not be checked."""
    with pytest.raises(UnfitBodyError):
        ledger.append("note", "k", body)


@given(
    body=st.dictionaries(
        st.text(alphabet="abcdef伊"),
        st.recursive(
            st.none()
            | st.booleans()
            | st.integers()
            | st.floats(allow_nan=False, allow_infinity=False)
            | st.text(st.characters(exclude_categories=["Cs"])),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(alphabet="abc"), inner, max_size=3),
            max_leaves=8,
        ),
        max_size=4,
    )
)
@settings(max_examples=40)
def test_any_json_comes_back_and_verifies(tmp_path_factory: pytest.TempPathFactory, body: dict[str, object]) -> None:
    """Whatever plain JSON goes in comes back equal, and the chain is whole."""
    folder = tmp_path_factory.mktemp("any")
    with Ledger.open(folder, StoppedClock(), TARGET) as ledger:
        ledger.append("note", "k", body)
    with Ledger.open(folder, StoppedClock(), TARGET, readonly=True) as ledger:
        assert ledger.events()[0].body == body
        assert ledger.verify() == []


# --- tampering ---


REPLACEMENT = (
    "INSERT OR REPLACE INTO events SELECT {}, at, 'x', target, kind, key, unit, body, prev, {}, token FROM events"
)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE events SET actor = 'x' WHERE seq = 2",
        "DELETE FROM events WHERE seq = 5",
        REPLACEMENT.format("seq", "hash"),
        REPLACEMENT.format("6", "'h'"),
    ],
)
def test_the_database_itself_refuses_changes(ledger: Ledger, tmp_path: Path, statement: str) -> None:
    """An update, a delete or a replacement is refused by the database, whoever tries."""
    fill(ledger, 5)
    connection = sqlite3.connect(tmp_path / "ledger.sqlite")
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        connection.execute(statement)
    connection.close()
    assert ledger.verify() == []


SWAP = (
    "UPDATE events SET seq = -2 WHERE seq = 2",
    "UPDATE events SET seq = 2 WHERE seq = 4",
    "UPDATE events SET seq = 4 WHERE seq = -2",
)
TAMPERINGS: dict[str, tuple[Callable[[Path], None], int, str]] = {
    "body": (lambda p: tamper(p, """UPDATE events SET body = '{"number":99}' WHERE seq = 3"""), 3, "altered"),
    "actor": (lambda p: tamper(p, "UPDATE events SET actor = 'x' WHERE seq = 1"), 1, "altered"),
    "time": (lambda p: tamper(p, "UPDATE events SET at = '2020' WHERE seq = 6"), 6, "altered"),
    "hash": (lambda p: tamper(p, "UPDATE events SET hash = 'x' WHERE seq = 4"), 4, "altered"),
    "kind": (lambda p: tamper(p, "UPDATE events SET kind = 'rumour' WHERE seq = 4"), 4, "altered"),
    "not json": (lambda p: tamper(p, "UPDATE events SET body = '{' WHERE seq = 2"), 2, "altered"),
    "spaced json": (lambda p: tamper(p, "UPDATE events SET body = body || ' ' WHERE seq = 2"), 2, "altered"),
    "one removed": (lambda p: tamper(p, "DELETE FROM events WHERE seq = 3"), 3, "removed"),
    "first removed": (lambda p: tamper(p, "DELETE FROM events WHERE seq = 1"), 1, "removed"),
    "some removed": (lambda p: tamper(p, "DELETE FROM events WHERE seq IN (2, 3)"), 2, "removed"),
    "removed and closed up": (
        lambda p: tamper(p, "DELETE FROM events WHERE seq = 3", "UPDATE events SET seq = seq - 1 WHERE seq > 3"),
        3,
        "reordered",
    ),
    "reordered": (lambda p: tamper(p, *SWAP), 2, "reordered"),
    "rewritten with its hash": (lambda p: rehash(p, 3, note="x"), 3, "forged"),
    "last rewritten with its hash": (lambda p: rehash(p, 6, note="x"), 6, "forged"),
    "tail cut": (lambda p: tamper(p, "DELETE FROM events WHERE seq > 4"), 5, "truncated"),
    "all cut": (lambda p: tamper(p, "DELETE FROM events"), 1, "truncated"),
    "file gone": (remove_ledger, 1, "truncated"),
    "head gone": (lambda p: p.with_name("ledger.head").unlink(), 1, "head"),
    "head nonsense": (lambda p: write_head(p, "x"), 1, "head"),
    "head forged": (
        lambda p: write_head(p, json.dumps({"seq": 6, "hash": "f" * 64})),
        6,
        "forged",
    ),
}


@pytest.mark.parametrize("name", sorted(TAMPERINGS))
def test_every_tampering_is_seen(tmp_path: Path, name: str) -> None:
    """Each kind of tampering is seen, with the first event concerned and its kind; nothing is read or appended then."""
    act, seq, kind = TAMPERINGS[name]
    with Ledger.open(tmp_path, StoppedClock(), TARGET) as ledger:
        fill(ledger, 6)
    act(tmp_path / "ledger.sqlite")
    with Ledger.open(tmp_path, StoppedClock(), TARGET, readonly=True) as ledger:
        breaks = ledger.verify()
        assert (breaks[0].seq, breaks[0].kind) == (seq, kind), breaks
        with pytest.raises(LedgerBrokenError, match=f"event {seq}: {kind}"):
            ledger.events()
    if kind in {"truncated", "head"} or "head" in name or "last" in name:
        with Ledger.open(tmp_path, StoppedClock(), TARGET) as ledger, pytest.raises(LedgerBrokenError):
            ledger.append("note", "after", {})


@given(data=st.data())
@settings(max_examples=60)
def test_any_changed_field_is_seen(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Changing any one field of any one event to anything else is seen, at that event or the one after it."""
    folder = tmp_path_factory.mktemp("field")
    with Ledger.open(folder, StoppedClock(), TARGET) as ledger:
        fill(ledger, 4)
    seq = data.draw(st.integers(1, 4))
    column = data.draw(st.sampled_from(["at", "actor", "target", "kind", "key", "unit", "body", "prev", "hash"]))
    value = data.draw(st.text(alphabet='abc{}"0 ', max_size=6))
    tamper(folder / "ledger.sqlite", f"UPDATE events SET {column} = '{value}' WHERE seq = {seq}")
    with Ledger.open(folder, StoppedClock(), TARGET, readonly=True) as ledger:
        breaks = ledger.verify()
        assert breaks
        assert breaks[0].seq == seq


def test_the_whole_tail_rewritten_is_seen_by_a_head_kept_elsewhere(tmp_path: Path) -> None:
    """Who rewrites the record and the head beside it is caught by a head kept elsewhere, and only by that."""
    with Ledger.open(tmp_path, StoppedClock(), TARGET) as ledger:
        fill(ledger, 4)
        kept = ledger.head()
        assert ledger.verify(known=kept) == []
    rehash(tmp_path / "ledger.sqlite", 4, note="x")
    with Ledger.open(tmp_path, StoppedClock(), TARGET) as ledger:
        ledger.accept_head()
        assert ledger.verify() == []
        assert [(b.seq, b.kind) for b in ledger.verify(known=kept)] == [(4, "forged")]
        assert [b.kind for b in ledger.verify(known=Head(seq=9, hash="x"))] == ["truncated"]


def test_taking_the_triggers_away_is_seen(ledger: Ledger, tmp_path: Path) -> None:
    """A file whose triggers are gone is broken: not written, not read, and `verify` names them beside what was altered."""
    fill(ledger, 3)
    assert len(ledger.events()) == 3
    connection = sqlite3.connect(tmp_path / "ledger.sqlite")
    for name in ("events_no_delete", "events_no_update"):
        connection.execute(f"DROP TRIGGER {name}")
    connection.execute("UPDATE events SET body = '{}' WHERE seq = 2")
    connection.commit()
    connection.close()
    with pytest.raises(LedgerBrokenError, match=r"the file: unguarded: .*events_no_delete, events_no_update"):
        Ledger.open(tmp_path, StoppedClock(), TARGET)
    with pytest.raises(LedgerBrokenError):
        ledger.events()
    with Ledger.open(tmp_path, StoppedClock(), TARGET, readonly=True) as reading:
        assert [(b.seq, b.kind) for b in reading.verify()] == [(0, "unguarded"), (2, "altered")]
        with pytest.raises(LedgerBrokenError):
            reading.events()


def test_breaks_read_as_one_line() -> None:
    """A break says where and how in one line."""
    assert str(Break(seq=3, kind="removed", what="event 3 missing")) == "event 3: removed: event 3 missing"


def test_tampering_between_two_readings_is_seen(ledger: Ledger, tmp_path: Path) -> None:
    """What is read is checked although it was read before: a cut, a rewrite and an addition meanwhile are all seen."""
    fill(ledger, 3)
    assert len(ledger.events()) == 3
    fill(ledger, 2, first=4)
    assert [e.seq for e in ledger.events()] == [1, 2, 3, 4, 5]
    with Ledger.open(tmp_path, StoppedClock(), TARGET) as other:
        fill(other, 1, first=6)
    assert len(ledger.events()) == 6
    tamper(tmp_path / "ledger.sqlite", "DELETE FROM events WHERE seq = 6")
    with pytest.raises(LedgerBrokenError, match="event 6: truncated"):
        ledger.events()
    rehash(tmp_path / "ledger.sqlite", 5, note="x")
    with pytest.raises(LedgerBrokenError, match="event 6: truncated"):
        ledger.events()


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
import migration.ledger as module
from migration.ledger import Ledger
folder, stop = sys.argv[1], int(sys.argv[2])
seen = 0
def trace(frame, event, arg):
    global seen
    if frame.f_code.co_filename == module.__file__ and event == "line":
        seen += 1
        if seen == stop:
            os.kill(os.getpid(), 9)
    return trace
sys.settrace(trace)
with Ledger.open(folder, None, "lab t") as ledger:
    ledger.append("note", "first", {"a": 1})
    ledger.append("note", "second", {"a": 2})
sys.settrace(None)
print(seen)
"""


@pytest.mark.heavy
@pytest.mark.timeout(1800)
def test_killed_between_any_two_statements_the_chain_is_whole(tmp_path: Path) -> None:
    """Killed between any two statements of the ledger, from making the file on, a second run completes the record."""

    def run(folder: Path, stop: int) -> subprocess.CompletedProcess[str]:
        folder.mkdir()
        command = [sys.executable, "-c", KILL_POINTS, str(folder), str(stop)]
        return subprocess.run(command, cwd=TREE, capture_output=True, text=True, check=False)

    whole = run(tmp_path / "whole", 0)
    assert whole.returncode == 0, whole.stderr
    for stop in range(1, int(whole.stdout) + 1):
        folder = tmp_path / str(stop)
        assert run(folder, stop).returncode == -signal.SIGKILL
        with Ledger.open(folder, StoppedClock(), TARGET) as ledger:
            assert ledger.verify() == [], stop
            ledger.append("note", "first", {"a": 1})
            ledger.append("note", "second", {"a": 2})
            assert [e.key for e in ledger.events()] == ["first", "second"]
            assert ledger.verify() == []


# --- one command at a time ---


def test_the_second_command_is_told_who_holds_the_county(tmp_path: Path) -> None:
    """While one command changes the network a second is refused with its pid, command and since when; then it may."""
    with campaign_lock(tmp_path, "extranet cutover fin@ta", StoppedClock()):
        with (
            pytest.raises(CampaignBusyError, match="'extranet cutover fin@ta'") as caught,
            campaign_lock(tmp_path, "extranet retire fin@tb"),
        ):
            pass
        assert caught.value.exit_code == 2
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
