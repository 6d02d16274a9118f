"""Make a ledger's tables, and take an older ledger to the newest revision: by alembic, in one transaction.

An older ledger is upgraded when somebody asks for it, never by the way: after a backup, and only when it is whole.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
from contextlib import ExitStack, closing
from pathlib import Path

import sqlalchemy as sa
import sqlalchemy.exc
from alembic import command
from alembic.config import Config
from sqlalchemy.engine import make_url

from inventory.model import Model
from migration.events import Break, Head, canonical_json
from migration.ledger.chain import COLUMNS, Chain
from migration.ledger.databases import REVISION, Database, PostgresDatabase, SQLiteDatabase
from migration.ledger.errors import LedgerBrokenError, LedgerFormatError, LedgerUnavailableError
from migration.ledger.headfile import HEAD_FILE, HeadFile

_SCHEMA = Path(__file__).with_name("schema")


def make_newest(connection: sa.Connection, county: str | None = None) -> None:
    """Make the tables in an empty database, through every revision; the caller commits."""
    command.upgrade(_config(connection), "head")
    connection.execute(sa.text("UPDATE ledger_format SET county = :county"), {"county": county})


def take_to_newest(connection: sa.Connection, revision: int) -> None:
    """Take tables of an older revision to the newest; the caller commits.

    Ledgers of revision 1 were made before alembic kept count, so they are told where they stand.
    """
    config = _config(connection)
    if "alembic_version" not in sa.inspect(connection).get_table_names():
        command.stamp(config, str(revision))
    command.upgrade(config, "head")


def _config(connection: sa.Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(_SCHEMA).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


class Upgraded(Model):
    """What an upgrade did: from which revision (`to` when there was nothing to do), and where the backup is."""

    was: int
    to: int
    backup: str
    head: Head


def upgrade_ledger(place: Path | str, folder: Path) -> Upgraded:
    """Take a county's ledger to the newest revision: backup, check, upgrade, check; all of it or nothing.

    Raises:
        LedgerFormatError: not a ledger, or newer than this version knows.
        LedgerBrokenError: the chain is not whole; nothing was changed.
    """
    database: Database
    if isinstance(place, Path):
        if not place.exists():
            raise LedgerFormatError(str(place), "there is no ledger", "there is nothing to upgrade")
        database, backup = SQLiteDatabase(place, readonly=False), place.with_name(f"{place.name}.before-{REVISION}")
    else:
        database = PostgresDatabase(make_url(place), readonly=False)
        backup = folder / f"ledger-before-{REVISION}.jsonl"
    head = HeadFile(folder / HEAD_FILE, required=isinstance(place, Path))
    try:
        with ExitStack() as stack:
            stack.enter_context(head.guard())
            connection = stack.enter_context(database.engine.connect().execution_options(writing=True))
            database.lock(connection)
            was = _find_revision(connection, database.where)
            last = _check_chain(connection, database.where, head)
            if was == REVISION:
                return Upgraded(was=was, to=REVISION, backup="", head=last)
            if isinstance(place, Path):
                _copy_file(place, backup)
            else:
                _write_rows(connection, backup)
            take_to_newest(connection, was)
            after, unguarded = _check_chain(connection, database.where, head), database.find_unguarded(connection)
            if after != last or unguarded:
                what = "the upgrade would not keep every event as it is"
                raise LedgerBrokenError(database.where, unguarded or [Break(seq=1, kind="altered", what=what)])
            connection.commit()
            return Upgraded(was=was, to=REVISION, backup=str(backup), head=last)
    except sa.exc.SQLAlchemyError as error:
        raise database.explain(error) from error
    except OSError as error:
        what = f"cannot be backed up or upgraded: {error.strerror or error}"
        raise LedgerUnavailableError(database.where, what, "nothing was changed; free space or rights first") from error
    finally:
        database.engine.dispose()


def _find_revision(connection: sa.Connection, where: str) -> int:
    names = set(sa.inspect(connection).get_table_names())
    if not {"events", "ledger_format"} <= names:
        raise LedgerFormatError(where, "not an extranet ledger", "name another")
    found = connection.exec_driver_sql("SELECT max(version) FROM ledger_format").scalar()
    if not isinstance(found, int) or not 1 <= found <= REVISION:
        raise LedgerFormatError(
            where,
            f"a ledger of another format - expected at most {REVISION}, found {found}",
            "use the version that wrote it",
        )
    return found


def _rows(connection: sa.Connection) -> sa.CursorResult[tuple[object, ...]]:
    """Read events as the newest revision would, whichever it is."""
    there = {c["name"] for c in sa.inspect(connection).get_columns("events")}
    columns = ", ".join(c if c in there else f"NULL AS {c}" for c in COLUMNS)
    return connection.exec_driver_sql(f"SELECT {columns} FROM events ORDER BY seq")


def _check_chain(connection: sa.Connection, where: str, head: HeadFile) -> Head:
    chain = Chain()
    for _ in chain.take(_rows(connection)):
        pass
    breaks, kept = chain.breaks(), head.read()
    if isinstance(kept, Break) and chain.last.seq:
        breaks.append(kept)
    if isinstance(kept, Head) and kept.seq > chain.last.seq:
        breaks.append(Break(seq=chain.last.seq + 1, kind="truncated", what=f"the tail is gone ({HEAD_FILE})"))
    if breaks:
        raise LedgerBrokenError(where, breaks)
    return chain.last


def _copy_file(path: Path, backup: Path) -> None:
    """Copy an SQLite file while it is held, synced; a backup that is there already is kept, and another name taken."""
    if backup.exists():
        digest = hashlib.sha256(backup.read_bytes()).hexdigest()[:8]
        backup.rename(backup.with_name(f"{backup.name}-{digest}"))
    with (
        closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as source,
        closing(sqlite3.connect(backup)) as target,
    ):
        source.backup(target)
    descriptor = os.open(backup, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_rows(connection: sa.Connection, backup: Path) -> None:
    with backup.open("x", encoding="utf-8") as stream:
        for row in _rows(connection):
            fields = {**row._asdict(), "body": json.loads(str(row.body))}
            stream.write(canonical_json(fields) + "\n")
        stream.flush()
        os.fsync(stream.fileno())
