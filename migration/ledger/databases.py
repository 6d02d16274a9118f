"""The two databases a ledger may be in: an SQLite file, or a PostgreSQL server. What differs between them, and no more."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, SQLAlchemyError

from migration.events import Break
from migration.ledger.errors import LedgerError, LedgerFormatError, LedgerUnavailableError
from migration.ledger.schema.versions import revision_2 as newest

REVISION = 2
"""What this version reads and writes."""
BUSY_S = 10.0
CONNECT_S = 5
ROWS_AT_A_TIME = 1_000


_read_text = partial(str, encoding="utf-8", errors="surrogateescape")
"""Somebody may have put text into the file by other means: what is no UTF-8 is altered, not an error."""


class Database(Protocol):
    """Where a ledger's tables are. `where` names it for people, without a password."""

    where: str
    engine: sa.Engine
    now: str
    """The SQL of the time by the database's clock, in seconds since 1970."""

    def lock(self, connection: sa.Connection) -> None:
        """Wait until nobody else writes; until this transaction ends nobody else will."""

    def find_unguarded(self, connection: sa.Connection) -> list[Break]:
        """Tell what forbids changes and is missing, switched off or not as it was made."""

    def stream(self, connection: sa.Connection, query: str) -> Iterator[Sequence[object]]:
        """Give the rows of a query, so many at a time."""

    def is_lost(self, error: SQLAlchemyError) -> bool:
        """Tell whether the connection broke: whether what was under way took place is then not known."""

    def explain(self, error: SQLAlchemyError) -> LedgerError:
        """Turn a database error into one line that says what to do."""


class SQLiteDatabase:
    """A file beside the county."""

    now = "(julianday('now') - 2440587.5) * 86400.0"

    def __init__(self, path: Path, *, readonly: bool) -> None:
        self.where = str(path)
        if readonly:
            url = URL.create("sqlite", database=f"file:{quote(str(path))}", query=_readonly_query(path))
        else:
            url = URL.create("sqlite", database=str(path))
        self.engine = sa.create_engine(url, connect_args={"timeout": BUSY_S, "check_same_thread": False})

        @sa.event.listens_for(self.engine, "connect")
        def set_pragmas(connection: sqlite3.Connection, _record: object) -> None:
            connection.isolation_level = None  # transactions begin where we say so, below
            connection.text_factory = _read_text
            if not readonly:
                connection.execute("PRAGMA journal_mode=WAL")
                connection.execute("PRAGMA synchronous=FULL")

        @sa.event.listens_for(self.engine, "begin")
        def begin(connection: sa.Connection) -> None:
            writing = connection.get_execution_options().get("writing", False)
            connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")

    def lock(self, connection: sa.Connection) -> None:
        """Nothing: BEGIN IMMEDIATE has waited."""

    def find_unguarded(self, connection: sa.Connection) -> list[Break]:
        found = connection.exec_driver_sql("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'")
        there = {name: " ".join(str(sql).split()) for name, sql in found}
        wanted = {n: " ".join(f"CREATE TRIGGER {n} {rule}".split()) for n, rule in newest.SQLITE_TRIGGERS.items()}
        return _name_unguarded(wanted, there)

    def stream(self, connection: sa.Connection, query: str) -> Iterator[Sequence[object]]:
        # The driver's own reading of text is three times as fast, but stops where a text is no UTF-8: go on as everywhere.
        result = connection.exec_driver_sql(query)
        cursor: Any = result.cursor
        raw: Any = connection.connection.driver_connection
        given, raw.text_factory = 0, str
        try:
            while rows := cursor.fetchmany(ROWS_AT_A_TIME):
                yield from rows
                given += len(rows)
            return
        except sqlite3.OperationalError as error:
            if "UTF-8" not in str(error):
                raise self.explain(OperationalError(query, None, error)) from error
        except sqlite3.Error as error:
            raise self.explain(DBAPIError(query, None, error)) from error
        finally:
            raw.text_factory = _read_text
            result.close()
        yield from connection.exec_driver_sql(f"{query} LIMIT -1 OFFSET {given}")

    def is_lost(self, error: SQLAlchemyError) -> bool:  # noqa: ARG002 - of the Protocol
        return False

    def explain(self, error: SQLAlchemyError) -> LedgerError:
        origin = getattr(error, "orig", None)
        code = str(getattr(origin, "sqlite_errorname", "") or "")
        for prefix, what, todo in (
            ("SQLITE_FULL", "the disk is full", "free space, then run the same command again: nothing was recorded"),
            (
                "SQLITE_BUSY",
                "another program holds the record",
                "close it (a database browser?), then run the same command again",
            ),
            ("SQLITE_READONLY", "the record or its folder is read-only", "make it writable for you"),
            ("SQLITE_CANTOPEN", "cannot be opened", "check that the folder exists and that you may write to it"),
            ("SQLITE_NOTADB", "not a database", "name another file, or restore the record from its backup"),
            ("SQLITE_CORRUPT", "the database is damaged", "keep this file, and restore the record from its backup"),
            ("SQLITE_IOERR", "the disk gave an error", "check the disk and its space: nothing was recorded"),
            ("SQLITE_PERM", "no right to open it", "make it readable and writable for you"),
        ):
            if code.startswith(prefix):
                kind = LedgerFormatError if prefix == "SQLITE_NOTADB" else LedgerUnavailableError
                return kind(self.where, what, todo)
        return LedgerUnavailableError(
            self.where, f"database error: {str(origin or error).splitlines()[0]}", "nothing was recorded"
        )


class PostgresDatabase:
    """A database on a PostgreSQL server; several machines may share it. Passwords are libpq's business."""

    now = "extract(epoch FROM clock_timestamp())::float8"

    def __init__(self, url: URL, *, readonly: bool) -> None:
        self.where = name_url(url)
        self.engine = sa.create_engine(
            url.set(drivername="postgresql+psycopg"),
            pool_pre_ping=True,
            hide_parameters=True,
            connect_args={
                "connect_timeout": CONNECT_S,
                "keepalives_idle": 5,
                "keepalives_interval": 2,
                "keepalives_count": 3,
                "tcp_user_timeout": 15_000,
                "application_name": "extranet ledger",
            },
        )

        @sa.event.listens_for(self.engine, "connect")
        def set_session(connection: Any, _record: object) -> None:
            with connection.cursor() as cursor:
                cursor.execute(f"SET lock_timeout = '{round(BUSY_S * 1000)}ms'")
                if readonly:
                    cursor.execute("SET default_transaction_read_only = on")
                else:
                    # What the server confirms must be on its disk, also where its own setting is laxer.
                    cursor.execute(
                        "SELECT set_config('synchronous_commit', 'on', false)"
                        " WHERE current_setting('synchronous_commit') = 'off'"
                    )
                    cursor.execute("SHOW fsync")
                    if cursor.fetchone()[0] != "on":
                        raise LedgerFormatError(
                            self.where,
                            "the server has fsync off: what it confirms is lost with the power",
                            "turn it on",
                        )
            connection.commit()

    def lock(self, connection: sa.Connection) -> None:
        connection.exec_driver_sql(f"SELECT {newest.LOCK.format(schema='current_schema()')}")

    def find_unguarded(self, connection: sa.Connection) -> list[Break]:
        schema = str(connection.exec_driver_sql("SELECT quote_ident(current_schema())").scalar())
        found = connection.exec_driver_sql(
            "SELECT t.tgname, t.tgtype, t.tgenabled, p.proname, p.prosrc, array_to_string(p.proconfig, ' ')"
            " FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid"
            " WHERE t.tgrelid IN ('events'::regclass, 'leases'::regclass) AND NOT t.tgisinternal"
        )
        there = {row[0]: " ".join(map(str, row[1:])) for row in found}
        pinned = newest.PINNED.removeprefix("SET ").replace(" = ", "=")
        wanted = {
            name: f"{how} A {calls} {newest.POSTGRES_FUNCTIONS[calls].replace(newest.SCHEMA, schema)} {pinned}"
            for name, (_, calls, how) in newest.POSTGRES_TRIGGERS.items()
        }
        return _name_unguarded(wanted, there)

    def stream(self, connection: sa.Connection, query: str) -> Iterator[Sequence[object]]:
        result = connection.exec_driver_sql(query, execution_options={"yield_per": ROWS_AT_A_TIME})
        for part in result.partitions():
            yield from part

    def is_lost(self, error: SQLAlchemyError) -> bool:
        if isinstance(error, DBAPIError) and error.connection_invalidated:
            return True
        state = str(getattr(getattr(error, "orig", None), "sqlstate", None) or "")
        # 08: connection; 57P: the server is stopping, or starting; none at all: nobody answered.
        return isinstance(error, OperationalError | InterfaceError) and (not state or state[:3] in {"080", "57P"})

    def explain(self, error: SQLAlchemyError) -> LedgerError:
        origin = getattr(error, "orig", None)
        said = next((line for line in str(origin or error).splitlines() if line.strip()), type(error).__name__)
        state = str(getattr(origin, "sqlstate", None) or "")
        for prefix, what, todo in (
            ("55P03", "another program holds the record", "find who holds it (pg_stat_activity), then run it again"),
            ("53100", "the server's disk is full", "free space there, then run the same command again"),
            ("25006", "the server takes no changes now", "ask for the primary server, then run the same command again"),
            (
                "42501",
                f"no right to do this ({said})",
                "grant SELECT and INSERT on events, and on leases UPDATE as well",
            ),
            ("28", f"the server refused the login ({said})", "set PGPASSWORD or ~/.pgpass, and check the user"),
            ("3D000", said, "create the database first (createdb)"),
        ):
            if state.startswith(prefix):
                return LedgerUnavailableError(self.where, what, todo)
        if self.is_lost(error):
            todo = (
                "start it or see why it is not reached, then run the same command again: it goes on where this stopped"
            )
            return LedgerUnavailableError(self.where, f"the server does not answer ({said})", todo)
        return LedgerUnavailableError(self.where, f"database error: {said}", "nothing was recorded")


def name_url(url: URL) -> str:
    """Write a URL for people: never with a password, nor with options, which may hold one."""
    at = f"{url.username}@" if url.username else ""
    port = f":{url.port}" if url.port else ""
    return f"postgresql://{at}{url.host or ''}{port}/{url.database or ''}"


def _name_unguarded(wanted: dict[str, str], there: dict[str, str]) -> list[Break]:
    missing = sorted(set(wanted) - set(there))
    changed = sorted(n for n in wanted if n in there and there[n] != wanted[n])
    strange = sorted(set(there) - set(wanted))
    out = []
    for names, what in (
        (missing, "the triggers that forbid changes are missing"),
        (changed, "the triggers that forbid changes are switched off or not as they were made"),
        (strange, "there are triggers that the ledger did not make"),
    ):
        if names:
            out.append(Break(seq=0, kind="unguarded", what=f"{what}: {', '.join(names)}"))
    return out


def _readonly_query(path: Path) -> dict[str, str]:
    query = {"mode": "ro", "uri": "true"}
    log = path.with_name(f"{path.name}-wal")
    # On a read-only disk SQLite cannot make its shared memory; without a log to read it need not.
    if not os.access(path.parent, os.W_OK) and not (log.exists() and log.stat().st_size):
        query["immutable"] = "1"
    return query
