"""A ledger on a PostgreSQL server: what a file cannot meet with - a server that goes away, other roles, other sessions."""

from __future__ import annotations

import itertools
import signal
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

import migration.ledger.record
from migration.events import Head, Kind
from migration.ledger import Ledger, LedgerBrokenError, LedgerFormatError, LedgerUnavailableError
from tests.migration.ledger_homes import TARGET, FileHome, Home, ServerHome, fill, opened
from tests.migration.postgres_cluster import Cluster
from tests.migration.scene import StoppedClock
from tests.migration.test_ledger_file import ENOUGH_LINES, TREE, killing_runs, only_line


@pytest.fixture
def home(cluster: Cluster, tmp_path: Path) -> ServerHome:
    """A place on the server."""
    return ServerHome(tmp_path, cluster, cluster.new_schema())


@pytest.fixture
def ledger(home: ServerHome) -> Iterator[Ledger]:
    """An empty ledger."""
    with opened(home) as made:
        yield made


def restart(cluster: Cluster) -> None:
    """Have the server vanish as in a power loss, and come back."""
    cluster.stop(at_once=True)
    cluster.start()


def strike_at(ledger: Ledger, moment: int, strike: Callable[[], None]) -> Generator[int]:
    """Let something happen at the n-th moment of what follows: before a statement, before a commit, or right after it."""
    assert ledger.database is not None
    engine, seen = ledger.database.engine, itertools.count(1)
    dialect: Any = engine.dialect
    commit = dialect.do_commit

    def pass_moment() -> bool:
        mine = next(seen) == moment
        if mine:
            strike()
        return mine

    def before_statement(*_: object) -> None:
        pass_moment()

    def around_commit(connection: Any) -> None:
        pass_moment()
        commit(connection)
        if pass_moment():
            connection.execute("SELECT 'the reply to the commit is lost'")

    sa.event.listen(engine, "before_cursor_execute", before_statement)
    dialect.do_commit = around_commit
    try:
        yield moment
    finally:
        sa.event.remove(engine, "before_cursor_execute", before_statement)
        dialect.do_commit = commit
    yield next(seen) - 1


def test_a_server_that_goes_away_between_appends_is_found_again(ledger: Ledger, cluster: Cluster) -> None:
    """After a restart of the server the same ledger goes on, reading and writing."""
    fill(ledger, 2)
    restart(cluster)
    fill(ledger, 2)
    fill(ledger, 1, first=3)
    restart(cluster)
    assert [e.seq for e in ledger.events()] == [1, 2, 3]
    assert ledger.verify() == []


def test_a_server_that_goes_away_inside_an_append_loses_and_doubles_nothing(ledger: Ledger, cluster: Cluster) -> None:
    """Wherever in an append the server vanishes, also with the commit done and its reply lost, the event is there once."""
    moments = 2
    for moment in itertools.count(1):
        struck = strike_at(ledger, moment, lambda: restart(cluster))
        next(struck)
        event = ledger.append("note", f"at {moment}", {"moment": moment})
        moments = next(struck)
        struck.close()
        assert event.seq == moment
        if moment > moments:
            break
    assert moments >= 6
    events = ledger.events()
    assert [e.key for e in events] == [f"at {n}" for n in range(1, len(events) + 1)]
    assert ledger.verify() == []


def test_a_server_that_stays_away_is_said_and_nothing_is_doubled(
    ledger: Ledger, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After its patience an append ends with one line and exit code 4; the same again later adds what is missing, once."""
    monkeypatch.setattr(migration.ledger.record, "PATIENCE_S", 0.5)
    for number, moment in enumerate((1, 5, 6), 1):
        struck = strike_at(ledger, moment, lambda: cluster.stop(at_once=True))
        next(struck)
        try:
            with pytest.raises(LedgerUnavailableError) as caught:
                ledger.append("note", f"n{number}", {})
        finally:
            struck.close()
            cluster.start()
        assert caught.value.exit_code == 4
        assert "does not answer" in only_line(caught.value)
        assert ledger.append("note", f"n{number}", {}).seq == number
    assert len(ledger.events()) == 3
    assert ledger.verify() == []


@pytest.mark.heavy
@pytest.mark.timeout(3600)
def test_killed_between_any_two_statements_the_chain_is_whole(cluster: Cluster, tmp_path: Path) -> None:
    """A process killed between any two statements leaves a whole chain, and a second run completes it."""
    with killing_runs() as run:
        whole = ServerHome(tmp_path / "whole", cluster, cluster.new_schema())
        lines, code = run(whole.place, whole.folder, 0)
        assert (code, lines > ENOUGH_LINES) == (0, True)
        for stop in range(1, lines + 1):
            home = ServerHome(tmp_path / str(stop), cluster, cluster.new_schema())
            assert run(home.place, home.folder, stop) == [-signal.SIGKILL], stop
            with opened(home) as ledger:
                assert ledger.verify() == [], stop
                ledger.append("note", "first", {"a": 1})
                ledger.append("note", "second", {"a": 2})
                assert [e.key for e in ledger.events()] == ["first", "second"]
                assert ledger.verify() == []
            cluster.execute("public", f"DROP SCHEMA {home.schema} CASCADE")


def test_a_read_only_server_can_be_read_and_says_so(home: ServerHome, cluster: Cluster) -> None:
    """On a server that takes no changes, a standby say, appending is one clear line, and reading works."""
    with opened(home) as ledger:
        fill(ledger, 2)
    cluster.execute("public", "ALTER SYSTEM SET default_transaction_read_only = on", "SELECT pg_reload_conf()")
    restart(cluster)
    try:
        with pytest.raises(LedgerUnavailableError) as caught, opened(home) as ledger:
            fill(ledger, 1, first=3)
        assert "takes no changes now" in only_line(caught.value)
        with opened(home, readonly=True) as ledger:
            assert len(ledger.events()) == 2
            assert ledger.verify() == []
    finally:
        (cluster.folder / "data" / "postgresql.auto.conf").write_text("")
        restart(cluster)


def test_a_role_with_no_more_than_it_needs_can_keep_the_record(home: ServerHome, cluster: Cluster) -> None:
    """SELECT and INSERT on events, and UPDATE on leases besides, are enough; such a role can take no guard away."""
    with opened(home):
        pass
    role = f"clerk_{home.schema}"
    home.execute(
        f"CREATE ROLE {role} LOGIN",
        f"GRANT USAGE ON SCHEMA {home.schema} TO {role}",
        f"GRANT SELECT, INSERT ON events, leases TO {role}",
        f"GRANT UPDATE ON leases TO {role}",
        f"GRANT SELECT ON ledger_format TO {role}",
    )
    url = cluster.url(home.schema, user=role)
    with Ledger.open(url, StoppedClock(), TARGET, folder=home.folder) as ledger, ledger.hold("a command"):
        fill(ledger, 3)
        assert ledger.verify() == []
    conninfo = cluster.conninfo(home.schema).replace("user=postgres", f"user={role}")
    for statement in (
        "ALTER TABLE events DISABLE TRIGGER ALL",
        "DROP TRIGGER events_no_update ON events",
        "SET session_replication_role = replica",
        "DELETE FROM events",
        "TRUNCATE events",
        "UPDATE events SET actor = 'x'",
    ):
        with psycopg.connect(conninfo) as connection, pytest.raises(psycopg.Error):
            connection.execute(statement)


def test_the_guard_looks_at_the_ledgers_own_tables(home: ServerHome, ledger: Ledger) -> None:
    """A session's own temporary tables of the same names do not mislead the triggers; nor does replaying pass them."""
    fill(ledger, 2)
    cluster = home.cluster
    wrong = f"INSERT INTO {home.schema}.events SELECT 9, at, actor, target, kind, 'k', unit, body, hash, 'h', 1 FROM x"
    for prepare in (
        "CREATE TEMP TABLE events AS SELECT 8 AS seq, hash FROM {0}.events; CREATE TEMP TABLE leases AS SELECT 1 AS token",
        "SET session_replication_role = replica",
    ):
        with psycopg.connect(cluster.conninfo(home.schema)) as connection:
            connection.execute(f"CREATE TEMP TABLE x AS SELECT * FROM {home.schema}.events WHERE seq = 2")
            connection.execute(prepare.format(home.schema))
            with pytest.raises(psycopg.Error, match="append-only"):
                connection.execute(wrong)
    assert ledger.verify() == []


WEAKENED = {
    "file": (
        "DROP TRIGGER events_no_update",
        "CREATE TRIGGER events_no_update BEFORE UPDATE ON events BEGIN SELECT 1; END",
    ),
    "switched off": ("ALTER TABLE events DISABLE TRIGGER events_no_update",),
    "not always": ("ALTER TABLE events ENABLE TRIGGER events_no_update",),
    "emptied": (
        "CREATE OR REPLACE FUNCTION ledger_refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$",
    ),
    "exchanged": (
        "CREATE FUNCTION pass() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$",
        "DROP TRIGGER events_no_update ON events",
        "CREATE TRIGGER events_no_update BEFORE UPDATE ON events FOR EACH ROW EXECUTE FUNCTION pass()",
        "ALTER TABLE events ENABLE ALWAYS TRIGGER events_no_update",
    ),
}


@pytest.mark.parametrize("how", sorted(WEAKENED))
def test_a_guard_that_is_there_but_does_nothing_is_seen(cluster: Cluster, tmp_path: Path, how: str) -> None:
    """A trigger under its own name that was switched off or does something else is named, and nothing is appended."""
    home: Home = FileHome(tmp_path) if how == "file" else ServerHome(tmp_path, cluster, cluster.new_schema())
    with opened(home) as ledger:
        fill(ledger, 2)
    home.execute(*WEAKENED[how])
    with opened(home, readonly=True) as ledger:
        found = ledger.verify()
        assert [b.kind for b in found] == ["unguarded"]
        assert "events_no_update" in found[0].what
    with pytest.raises(LedgerBrokenError), opened(home):
        pass


def test_two_processes_and_machines_append_to_one_chain(home: ServerHome, tmp_path: Path) -> None:
    """Processes with folders of their own, as on several machines, make one chain; each keeps a head of its own."""
    script = """
import sys
from pathlib import Path
from migration.ledger import Ledger
with Ledger.open(sys.argv[1], None, "lab t", folder=Path(sys.argv[2])) as ledger:
    for number in range(40):
        ledger.append("note", f"{sys.argv[3]}/{number}", {"number": number})
"""
    running = []
    for name in "abc":
        (tmp_path / name).mkdir()
        command = [sys.executable, "-c", script, str(home.place), str(tmp_path / name), name]
        running.append(subprocess.Popen(command, cwd=TREE, stderr=subprocess.PIPE, text=True))
    for process in running:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    for name in "abc":
        with Ledger.open(home.place, StoppedClock(), TARGET, readonly=True, folder=tmp_path / name) as ledger:
            assert ledger.verify() == []
            assert [e.key for e in ledger.events() if e.key.startswith(name)] == [f"{name}/{n}" for n in range(40)]
            head = Head.model_validate_json((tmp_path / name / "ledger.head").read_text())
            assert head.seq >= 40


def test_no_password_is_ever_printed(tmp_path: Path) -> None:
    """What cannot be reached is named without the password, wherever in the URL it stood."""
    for url in (
        "postgresql://me:hush@127.0.0.1:1/x",
        "postgresql://me@127.0.0.1:1/x?password=hush",
    ):
        with pytest.raises(LedgerUnavailableError) as caught:
            Ledger.open(url, StoppedClock(), TARGET, folder=tmp_path)
        assert "postgresql://me@127.0.0.1:1/x" in only_line(caught.value)
        assert "hush" not in str(caught.value)


def test_another_countys_record_is_refused(home: ServerHome) -> None:
    """A database that holds one county's record is not written for another."""
    with Ledger.open(home.place, StoppedClock(), TARGET, folder=home.folder, county="410329000000"):
        pass
    with Ledger.open(home.place, StoppedClock(), TARGET, folder=home.folder, county="410329000000") as ledger:
        ledger.append(Kind.NOTE, "n", {})
    with pytest.raises(LedgerFormatError, match="the record of another county - expected 410328000000, found 410329"):
        Ledger.open(home.place, StoppedClock(), TARGET, folder=home.folder, county="410328000000")
