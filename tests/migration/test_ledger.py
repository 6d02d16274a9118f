"""The ledger: only grows, keeps its chain, and shows every kind of tampering; the same in a file and on a server."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from migration.events import GENESIS, Break, Entry, Event, Head, Kind, hash_event
from migration.ledger import KeyConflictError, Ledger, LedgerBrokenError, UnfitBodyError
from tests.migration.ledger_homes import TARGET, FileHome, Home, ServerHome, fill, opened, rehash
from tests.migration.postgres_cluster import Cluster

MakeHome = Callable[[Path], Home]


@pytest.fixture(scope="session", params=["file", "server"])
def make_home(request: pytest.FixtureRequest) -> MakeHome:
    """Makes places for ledgers, of each kind in turn."""
    if request.param == "file":
        return FileHome
    cluster: Cluster = request.getfixturevalue("cluster")
    return lambda folder: ServerHome(folder, cluster, cluster.new_schema())


@pytest.fixture
def home(make_home: MakeHome, tmp_path: Path) -> Home:
    """A place where no ledger is yet."""
    return make_home(tmp_path)


@pytest.fixture
def ledger(home: Home) -> Iterator[Ledger]:
    """An empty ledger."""
    with opened(home) as made:
        yield made


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


def test_targets_are_kept_apart(home: Home) -> None:
    """A rehearsal's events stand in the same chain, and are neither seen nor their keys taken in the field."""
    with opened(home) as lab, opened(home, target="field") as field:
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
def test_any_json_comes_back_and_verifies(
    make_home: MakeHome, tmp_path_factory: pytest.TempPathFactory, body: dict[str, object]
) -> None:
    """Whatever plain JSON goes in comes back equal, and the chain is whole."""
    home = make_home(tmp_path_factory.mktemp("any"))
    with opened(home) as ledger:
        ledger.append("note", "k", body)
    with opened(home, readonly=True) as ledger:
        assert ledger.events()[0].body == body
        assert ledger.verify() == []


# --- tampering ---


CHANGES = [
    "UPDATE events SET actor = 'x' WHERE seq = 2",
    "DELETE FROM events WHERE seq = 5",
    "INSERT INTO events SELECT seq + 7, at, actor, target, kind, 'k', unit, body, hash, 'h', token FROM events WHERE seq = 5",
    "INSERT INTO events SELECT seq + 1, at, actor, target, kind, 'k', unit, body, prev, 'h', token FROM events WHERE seq = 5",
    "DELETE FROM leases",
    "UPDATE leases SET holder = 'x'",
    "UPDATE leases SET released_at = NULL",
    "INSERT INTO leases VALUES (9, 'x', 1, 2, NULL)",
]


@pytest.mark.parametrize("statement", CHANGES)
def test_the_database_itself_refuses_changes(home: Home, ledger: Ledger, statement: str) -> None:
    """An update, a delete or anything but the next event or lease is refused by the database, whoever tries."""
    with ledger.hold("a command"):
        fill(ledger, 5)
    with pytest.raises((sqlite3.IntegrityError, psycopg.Error), match=r"append-only|leases: |fenced"):
        home.execute(statement)
    assert ledger.verify() == []


def write_head(home: Home, text: str) -> None:
    """Put another head beside the record."""
    (home.folder / "ledger.head").write_text(text)


SWAP = (
    "UPDATE events SET seq = -2 WHERE seq = 2",
    "UPDATE events SET seq = 2 WHERE seq = 4",
    "UPDATE events SET seq = 4 WHERE seq = -2",
)
TAMPERINGS: dict[str, tuple[Callable[[Home], None], int, str]] = {
    "body": (lambda h: h.unguarded("""UPDATE events SET body = '{"number":99}' WHERE seq = 3"""), 3, "altered"),
    "actor": (lambda h: h.unguarded("UPDATE events SET actor = 'x' WHERE seq = 1"), 1, "altered"),
    "time": (lambda h: h.unguarded("UPDATE events SET at = '2020' WHERE seq = 6"), 6, "altered"),
    "hash": (lambda h: h.unguarded("UPDATE events SET hash = 'x' WHERE seq = 4"), 4, "altered"),
    "kind": (lambda h: h.unguarded("UPDATE events SET kind = 'rumour' WHERE seq = 4"), 4, "altered"),
    "not json": (lambda h: h.unguarded("UPDATE events SET body = '{' WHERE seq = 2"), 2, "altered"),
    "spaced json": (lambda h: h.unguarded("UPDATE events SET body = body || ' ' WHERE seq = 2"), 2, "altered"),
    "one removed": (lambda h: h.unguarded("DELETE FROM events WHERE seq = 3"), 3, "removed"),
    "first removed": (lambda h: h.unguarded("DELETE FROM events WHERE seq = 1"), 1, "removed"),
    "some removed": (lambda h: h.unguarded("DELETE FROM events WHERE seq IN (2, 3)"), 2, "removed"),
    "removed and closed up": (
        lambda h: h.unguarded(
            "DELETE FROM events WHERE seq = 3",
            "UPDATE events SET seq = -seq WHERE seq > 3",
            "UPDATE events SET seq = -seq - 1 WHERE seq < 0",
        ),
        3,
        "reordered",
    ),
    "reordered": (lambda h: h.unguarded(*SWAP), 2, "reordered"),
    "rewritten with its hash": (lambda h: rehash(h, 3, note="x"), 3, "forged"),
    "last rewritten with its hash": (lambda h: rehash(h, 6, note="x"), 6, "forged"),
    "tail cut": (lambda h: h.unguarded("DELETE FROM events WHERE seq > 4"), 5, "truncated"),
    "all cut": (lambda h: h.unguarded("DELETE FROM events"), 1, "truncated"),
    "head nonsense": (lambda h: write_head(h, "x"), 1, "head"),
    "head forged": (
        lambda h: write_head(h, json.dumps({"seq": 6, "hash": "f" * 64})),
        6,
        "forged",
    ),
}


@pytest.mark.parametrize("name", sorted(TAMPERINGS))
def test_every_tampering_is_seen(home: Home, name: str) -> None:
    """Each kind of tampering is seen, with the first event concerned and its kind; nothing is read or appended then."""
    act, seq, kind = TAMPERINGS[name]
    with opened(home) as ledger:
        fill(ledger, 6)
    act(home)
    with opened(home, readonly=True) as ledger:
        breaks = ledger.verify()
        assert (breaks[0].seq, breaks[0].kind) == (seq, kind), breaks
        with pytest.raises(LedgerBrokenError, match=f"event {seq}: {kind}"):
            ledger.events()
    if kind in {"truncated", "head"} or "head" in name or "last" in name:
        with opened(home) as ledger, pytest.raises(LedgerBrokenError):
            ledger.append("note", "after", {})


def test_the_whole_tail_rewritten_is_seen_by_a_head_kept_elsewhere(home: Home) -> None:
    """Who rewrites the record and the head beside it is caught by a head kept elsewhere, and only by that."""
    with opened(home) as ledger:
        fill(ledger, 4)
        kept = ledger.head()
        assert ledger.verify(known=kept) == []
    rehash(home, 4, note="x")
    with opened(home) as ledger:
        ledger.accept_head()
        assert ledger.verify() == []
        assert [(b.seq, b.kind) for b in ledger.verify(known=kept)] == [(4, "forged")]
        assert [b.kind for b in ledger.verify(known=Head(seq=9, hash="x"))] == ["truncated"]


def test_taking_the_guard_away_is_seen(home: Home, ledger: Ledger) -> None:
    """A record whose triggers are gone is broken: not written, not read, and `verify` names them beside what was altered."""
    fill(ledger, 3)
    assert len(ledger.events()) == 3
    on = " ON events" if isinstance(home, ServerHome) else ""
    home.execute(
        f"DROP TRIGGER events_no_delete{on}",
        f"DROP TRIGGER events_no_update{on}",
        "UPDATE events SET body = '{}' WHERE seq = 2",
    )
    with (
        pytest.raises(LedgerBrokenError, match=r"the file: unguarded: .*events_no_delete, events_no_update"),
        opened(home),
    ):
        pass
    with pytest.raises(LedgerBrokenError):
        ledger.events()
    with opened(home, readonly=True) as reading:
        assert [(b.seq, b.kind) for b in reading.verify()] == [(0, "unguarded"), (2, "altered")]
        with pytest.raises(LedgerBrokenError):
            reading.events()


def test_breaks_read_as_one_line() -> None:
    """A break says where and how in one line."""
    assert str(Break(seq=3, kind="removed", what="event 3 missing")) == "event 3: removed: event 3 missing"


def test_tampering_between_two_readings_is_seen(ledger: Ledger, home: Home) -> None:
    """What is read is checked although it was read before: a cut, a rewrite and an addition meanwhile are all seen."""
    fill(ledger, 3)
    assert len(ledger.events()) == 3
    fill(ledger, 2, first=4)
    assert [e.seq for e in ledger.events()] == [1, 2, 3, 4, 5]
    with opened(home) as other:
        fill(other, 1, first=6)
    assert len(ledger.events()) == 6
    home.unguarded("DELETE FROM events WHERE seq = 6")
    with pytest.raises(LedgerBrokenError, match="event 6: truncated"):
        ledger.events()
    rehash(home, 5, note="x")
    with pytest.raises(LedgerBrokenError, match="event 6: truncated"):
        ledger.events()


# --- any tampering whatever ---


@st.composite
def tamperings(draw: st.DrawFn) -> tuple[list[str], int]:
    """One thing somebody does to a record of eight events, and the first event that differs for it."""
    seq = draw(st.integers(1, 8))
    what = draw(st.sampled_from(["change", "remove", "swap", "insert", "cut", "copy"]))
    if what == "change":
        column = draw(
            st.sampled_from(["at", "actor", "target", "kind", "key", "unit", "body", "prev", "hash", "token"])
        )
        value = draw(st.integers(0, 9).map(str) if column == "token" else st.text(alphabet='abc{}"0 伊', max_size=6))
        return [f"UPDATE events SET {column} = '{value}' WHERE seq = {seq}"], seq
    if what == "remove":
        return [f"DELETE FROM events WHERE seq = {seq}"], seq
    if what == "cut":
        return [f"DELETE FROM events WHERE seq >= {seq}"], seq
    if what == "swap":
        other = draw(st.integers(1, 8).filter(lambda n: n != seq))
        return [
            f"UPDATE events SET seq = -1 WHERE seq = {seq}",
            f"UPDATE events SET seq = {seq} WHERE seq = {other}",
            f"UPDATE events SET seq = {other} WHERE seq = -1",
        ], min(seq, other)
    # A whole event put in, all after it moved on; or one put over another.
    columns = "at, actor, target, kind, key || 'x', unit, body, prev, hash || 'x', token"
    source = draw(st.integers(1, 8))
    if what == "copy":
        other = draw(st.integers(1, 8).filter(lambda n: n != source))
        sets = ", ".join(
            f"{c} = (SELECT {c} FROM events WHERE seq = {source})"
            for c in ("at", "body", "prev", "unit", "actor", "token")
        )
        return [f"UPDATE events SET {sets} WHERE seq = {other}"], other
    return [
        f"UPDATE events SET seq = -seq WHERE seq >= {seq}",
        "UPDATE events SET seq = 1 - seq WHERE seq < 0",
        f"INSERT INTO events SELECT {seq}, {columns} FROM events WHERE seq = {source + (source >= seq)}",
    ], seq


@given(done=tamperings())
@settings(max_examples=40)
def test_any_single_tampering_is_found(
    make_home: MakeHome, tmp_path_factory: pytest.TempPathFactory, done: tuple[list[str], int]
) -> None:
    """Whatever one thing is done to the stored events, `verify` finds it, at the first event that differs or just before.

    An event that carries a lease which was never granted is told of the leases, whichever it is.
    """
    home = make_home(tmp_path_factory.mktemp("any"))
    statements, first = done
    with opened(home) as ledger:
        fill(ledger, 4)
        with ledger.hold("a command"):
            fill(ledger, 4, first=5)
    before = home.rows()
    home.unguarded(*statements)
    differs = home.rows() != before
    with opened(home, readonly=True) as ledger:
        breaks = ledger.verify()
        assert bool(breaks) == differs
        if differs:
            assert breaks[0].seq in {first, first - 1} or breaks[0].kind == "leases"
            with pytest.raises(LedgerBrokenError):
                ledger.events()


@given(seq=st.integers(1, 5), more=st.booleans())
@settings(max_examples=12)
def test_any_forgery_is_found(
    make_home: MakeHome, tmp_path_factory: pytest.TempPathFactory, seq: int, *, more: bool
) -> None:
    """An event rewritten with the hash that fits is found, also when all after it are rewritten to fit."""
    home = make_home(tmp_path_factory.mktemp("forged"))
    with opened(home) as ledger:
        fill(ledger, 5)
    rehash(home, seq, note="x", onwards=more)
    with opened(home, readonly=True) as ledger:
        found = ledger.verify()
        assert [b.kind for b in found] == ["forged"]
        assert found[0].seq == (5 if more else seq)


def test_what_is_no_text_at_all_is_altered(ledger: Ledger, home: Home) -> None:
    """Bytes that are no UTF-8 are found like any other change; a server takes none."""
    fill(ledger, 3)
    if isinstance(home, FileHome):
        home.unguarded("UPDATE events SET actor = CAST(x'ff41' AS TEXT) WHERE seq = 2")
        assert [(b.seq, b.kind) for b in ledger.verify()] == [(2, "altered")]


def test_what_is_no_text_hides_nothing_around_it(tmp_path: Path) -> None:
    """Where one text among thousands is no UTF-8, each event is still looked at once: before it, itself and after it."""
    home = FileHome(tmp_path)
    with opened(home) as ledger:
        ledger.append_many(Entry(kind=Kind.NOTE, key=f"n{n}", body={"n": n}) for n in range(1, 2_501))
    home.unguarded(
        *(f"UPDATE events SET actor = CAST(x'ff41' AS TEXT) WHERE seq = {n}" for n in (1_700, 2_300)),
        *(f"UPDATE events SET actor = 'x' WHERE seq = {n}" for n in (900, 1_001, 1_699, 1_701, 2_500)),
    )
    with opened(home, readonly=True) as again:
        found = [(b.seq, b.kind) for b in again.verify()]
    assert found == [(n, "altered") for n in (900, 1_001, 1_699, 1_700, 1_701, 2_300, 2_500)]


def test_an_old_token_after_a_newer_one_is_forged(ledger: Ledger, home: Home) -> None:
    """A chain that is whole in itself, but in which an old lease's event follows a newer one's, is forged."""
    with ledger.hold("first"):
        fill(ledger, 1)
    with ledger.hold("second"):
        fill(ledger, 1, first=2)
    fill(ledger, 1, first=3)
    row = home.rows()[2]
    fields: dict[str, Any] = {**row, "body": json.loads(row["body"]), "token": 1}
    home.unguarded(f"UPDATE events SET token = 1, hash = '{hash_event(fields)}' WHERE seq = 3")
    with opened(home) as again:
        assert (3, "forged") in [(b.seq, b.kind) for b in again.verify()]
        assert any("lease 1 after lease 2" in b.what for b in again.verify())


# --- many at once ---


def test_many_are_appended_together_or_not_at_all(ledger: Ledger) -> None:
    """Several events go in as one piece; a conflict among them lets none in; the same again adds nothing."""
    entries = [Entry(kind=Kind.NOTE, key=f"n{n}", body={"n": n}) for n in range(700)]
    added = ledger.append_many(entries)
    assert [e.seq for e in added] == list(range(1, 701))
    assert ledger.append_many(entries) == added
    with pytest.raises(KeyConflictError):
        ledger.append_many([Entry(kind=Kind.NOTE, key="new", body={}), Entry(kind=Kind.NOTE, key="n5", body={"n": 6})])
    assert ledger.append_many([]) == []
    assert ledger.head().seq == 700
    assert ledger.verify() == []


def test_threads_share_a_commit_and_each_gets_its_own(ledger: Ledger) -> None:
    """Threads that append at once each get their own event or their own error, and the chain is whole."""
    ledger.append("note", "taken", {"by": "nobody"})
    found: dict[str, Event | BaseException] = {}

    def append(name: str, number: int) -> None:
        key = "taken" if number == 3 else f"{name}/{number}"
        try:
            found[f"{name}/{number}"] = ledger.append("note", key, {"by": name})
        except KeyConflictError as error:
            found[f"{name}/{number}"] = error

    def work(name: str) -> None:
        for number in range(8):
            append(name, number)

    threads = [threading.Thread(target=work, args=(name,)) for name in "abcdef"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name, got in found.items():
        assert isinstance(got, KeyConflictError) if name.endswith("/3") else isinstance(got, Event) and got.key == name
    assert ledger.head().seq == 1 + 6 * 7
    assert ledger.verify() == []
