"""Where a test's ledger lives: a file or a server, each opened, looked into and tampered with in the same words."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import psycopg

from migration.clock import Clock
from migration.events import canonical_json, hash_event
from migration.ledger import Ledger
from migration.ledger.chain import COLUMNS
from migration.ledger.schema.versions.revision_2 import POSTGRES_TRIGGERS
from tests.migration.postgres_cluster import Cluster
from tests.migration.scene import StoppedClock

TARGET = "lab t"


class Home(Protocol):
    """One ledger's place. `place` is what `Ledger.open` takes; `folder` holds its head."""

    @property
    def folder(self) -> Path: ...

    @property
    def place(self) -> Path | str: ...

    def execute(self, *statements: str) -> None:
        """Run statements as anybody may who has the database's password, the guard in force."""

    def unguarded(self, *statements: str) -> None:
        """Run statements as its owner would who takes the guard away, and puts it back afterwards."""

    def rows(self) -> list[dict[str, Any]]:
        """Return the events as they are stored."""


@dataclass(frozen=True)
class FileHome:
    """An SQLite file in a folder."""

    folder: Path

    @property
    def place(self) -> Path | str:
        return self.folder / "ledger.sqlite"

    def execute(self, *statements: str) -> None:
        with closing(sqlite3.connect(self.place)) as connection:
            for statement in statements:
                connection.execute(statement)
            connection.commit()

    def unguarded(self, *statements: str) -> None:
        with closing(sqlite3.connect(self.place)) as connection:
            triggers = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
            for name, _ in triggers:
                connection.execute(f"DROP TRIGGER {name}")
            for statement in statements:
                connection.execute(statement)
            for _, sql in triggers:
                connection.execute(sql)
            connection.commit()

    def rows(self) -> list[dict[str, Any]]:
        with closing(sqlite3.connect(self.place)) as connection:
            return _as_dicts(connection.execute(_ALL).fetchall())


@dataclass(frozen=True)
class ServerHome:
    """A schema on a PostgreSQL server."""

    folder: Path
    cluster: Cluster
    schema: str

    @property
    def place(self) -> Path | str:
        return self.cluster.url(self.schema)

    def execute(self, *statements: str) -> None:
        self.cluster.execute(self.schema, *statements)

    def unguarded(self, *statements: str) -> None:
        tables = [(name.partition("_")[0], name) for name in POSTGRES_TRIGGERS]
        self.cluster.execute(
            self.schema,
            *(f"ALTER TABLE {table} DISABLE TRIGGER {name}" for table, name in tables),
            *statements,
            *(f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {name}" for table, name in tables),
        )

    def rows(self) -> list[dict[str, Any]]:
        with psycopg.connect(self.cluster.conninfo(self.schema)) as connection:
            return _as_dicts(connection.execute(_ALL).fetchall())


_ALL = f"SELECT {', '.join(COLUMNS)} FROM events ORDER BY seq"


def _as_dicts(rows: Sequence[Sequence[Any]]) -> list[dict[str, Any]]:
    return [dict(zip(COLUMNS, row, strict=True)) for row in rows]


@contextmanager
def opened(home: Home, *, readonly: bool = False, target: str = TARGET, clock: Clock | None = None) -> Iterator[Ledger]:
    """Open a home's ledger."""
    with Ledger.open(home.place, clock or StoppedClock(), target, readonly=readonly, folder=home.folder) as ledger:
        yield ledger


def fill(ledger: Ledger, count: int, first: int = 1) -> None:
    """Append some notes."""
    for number in range(first, first + count):
        ledger.append("note", f"note {number}", {"number": number, "名": "伊川"}, unit=f"fin@t{number}")


def rehash(home: Home, seq: int, *, note: str, onwards: bool = False) -> None:
    """Rewrite an event's body and give it the hash that fits; with `onwards`, all that follow as well."""
    statements, rows = [], home.rows()
    prev = rows[seq - 2]["hash"] if seq > 1 else "0" * 64
    for row in rows[seq - 1 : None if onwards else seq]:
        fields = {**row, "body": {"rewritten": note} if row["seq"] == seq else None, "prev": prev}
        if row["seq"] != seq:
            fields["body"] = json.loads(row["body"])
        text = canonical_json(fields["body"])
        prev = hash_event(fields)
        text = text.replace("'", "''")
        old = fields["prev"]
        statements.append(
            f"UPDATE events SET body = '{text}', prev = '{old}', hash = '{prev}' WHERE seq = {row['seq']}"
        )
    home.unguarded(*statements)
