"""The ledger: append-only, hash-chained, one SQLite file beside the county.

LedgerError (ExtranetError)         exit 2   base of what can be wrong with the record
├── LedgerUnavailableError          exit 4   full disk, locked, read-only, not a database: nothing was written
├── LedgerFormatError               exit 2   the file is a database, but not this ledger
├── KeyConflictError                exit 4   a key was used before, for something else
├── UnfitBodyError                  exit 2   a body that is not plain JSON, or that holds a secret
├── LedgerBrokenError               exit 1   the chain or its guard is not whole: nothing is read from it or added to it
└── CampaignBusyError               exit 2   another command is changing this county's network

What can be seen: any change, removal, insertion or swap of events, by `verify`, which names each; the triggers that
forbid changes taken away; a tail cut off, or a tail rewritten with new hashes, by comparing with `ledger.head`.
What cannot: somebody who may write both files can cut or rewrite the tail and make a matching head. Only a head kept
elsewhere (printed in a report, read out on the telephone) shows that: `verify(known=...)`. After a crash between commit
and renaming the head, the head is one event behind until the next append; that one event could then be cut unseen.
"""

from __future__ import annotations

import contextlib
import fcntl
import getpass
import json
import os
import re
import socket
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self
from urllib.parse import quote

import sqlalchemy as sa
from pydantic import ValidationError
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import StaticPool

from inventory.errors import ExtranetError
from migration.clock import Clock, SystemClock, to_iso
from migration.events import GENESIS, Break, Event, Head, Kind, canonical_json, hash_event

LEDGER_FILE = "ledger.sqlite"
HEAD_FILE = "ledger.head"
LOCK_FILE = ".campaign.lock"
ACTOR_VARIABLE = "EXTRANET_ACTOR"
FORMAT = 1

_BUSY_S = 10.0
_SECRET_NAME = re.compile(
    r"(^|_)(password|passwd|passphrase|secret|token|private_key|community|credential)s?($|_)", re.IGNORECASE
)
_SECRET_TEXT = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----")

_metadata = sa.MetaData()
_events = sa.Table(
    "events",
    _metadata,
    sa.Column("seq", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("at", sa.Text, nullable=False),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("target", sa.Text, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("key", sa.Text, nullable=False),
    sa.Column("unit", sa.Text),
    sa.Column("body", sa.Text, nullable=False),
    sa.Column("prev", sa.Text, nullable=False),
    sa.Column("hash", sa.Text, nullable=False, unique=True),
    sa.UniqueConstraint("target", "kind", "key", name="one_event_a_key"),
    sqlite_strict=True,
)
_format = sa.Table(
    "ledger_format",
    _metadata,
    sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
    sqlite_strict=True,
)
# The insert trigger stops INSERT OR REPLACE, which would remove a row without any delete trigger firing.
_TRIGGERS = {
    "events_no_update": "BEFORE UPDATE ON events BEGIN SELECT RAISE(ABORT, 'append-only: no update'); END",
    "events_no_delete": "BEFORE DELETE ON events BEGIN SELECT RAISE(ABORT, 'append-only: no delete'); END",
    "events_append_only": """BEFORE INSERT ON events
        WHEN NEW.seq IS NOT (SELECT COALESCE(MAX(seq), 0) + 1 FROM events) OR EXISTS (
            SELECT 1 FROM events WHERE hash = NEW.hash
            OR (target = NEW.target AND kind = NEW.kind AND key = NEW.key))
        BEGIN SELECT RAISE(ABORT, 'append-only: only the next event'); END""",
}


class LedgerError(ExtranetError):
    """Something about the record. `where` is the file or URL."""

    def __init__(self, where: str, what: str, todo: str) -> None:
        self.where, self.what, self.todo = where, what, todo
        super().__init__(f"{where}: {what}; {todo}")


class LedgerUnavailableError(LedgerError):
    """The record cannot be read or written now; nothing was written."""

    exit_code: ClassVar[int] = 4


class LedgerFormatError(LedgerError):
    """The file is not this ledger."""


class KeyConflictError(LedgerError):
    """A key was used before, for something else: somebody else finished what was begun here."""

    exit_code: ClassVar[int] = 4


class UnfitBodyError(LedgerError):
    """A body that must not be recorded."""


class LedgerBrokenError(LedgerError):
    """The chain is not whole. `breaks` says where."""

    exit_code: ClassVar[int] = 1

    def __init__(self, where: str, breaks: Sequence[Break]) -> None:
        self.breaks = tuple(breaks)
        super().__init__(
            where,
            f"the record is not whole: {breaks[0]}",
            "run 'extranet ledger verify', keep this file as it is and restore the record from its backup",
        )


class CampaignBusyError(LedgerError):
    """Another command is changing this county's network. `holder` says which."""

    def __init__(self, where: str, holder: Mapping[str, Any]) -> None:
        self.holder = dict(holder)
        who = (
            f"{holder.get('command')!r} (pid {holder.get('pid')} on {holder.get('host')}, since {holder.get('since')})"
            if holder
            else "a command that has only just started"
        )
        super().__init__(where, f"{who} is changing this county's network", "wait until it ends, or stop it")


def current_actor() -> str:
    """Return who acts: the title in EXTRANET_ACTOR, else the login name."""
    named = os.environ.get(ACTOR_VARIABLE, "").strip()
    if named:
        return named
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a uid without a passwd entry, as in some containers
        return f"uid {os.getuid()}"


class Ledger:
    """A county's record. Open with `Ledger.open`; safe for several processes at once."""

    def __init__(
        self, engine: sa.Engine, *, where: str, head_path: Path | None, clock: Clock, target: str, readonly: bool
    ) -> None:
        self.where = where
        self.target = target
        self.readonly = readonly
        self._engine = engine
        self._head_path = head_path
        self._clock = clock
        self._known: list[Event] = []

    @classmethod
    def open(
        cls, path_or_url: Path | str, clock: Clock | None = None, target: str = "field", *, readonly: bool = False
    ) -> Self:
        """Open a ledger, making it when it is not there.

        Args:
            path_or_url: the file, a county's folder (its `ledger.sqlite` is meant), or an SQLAlchemy URL.
            clock: tells `at`; the machine's clock by default.
            target: `lab NAME` or `field`; a rehearsal's events never count for the field. A lab that is built anew
                must come with a new name, else it inherits what was done to the one before.
            readonly: write nothing, not even an empty file; a ledger that is not there then reads as empty.

        Raises:
            LedgerUnavailableError, LedgerFormatError: one line each; nothing was written.
            LedgerBrokenError: the triggers are missing, and it was to be written; for reading it opens, for `verify`.
        """
        path = _path_of(path_or_url)
        where = str(path)
        head_path = path.with_name(HEAD_FILE) if path.name == LEDGER_FILE else path.with_suffix(".head")
        engine = _make_engine(path, readonly=readonly)
        ledger = cls(
            engine, where=where, head_path=head_path, clock=clock or SystemClock(), target=target, readonly=readonly
        )
        try:
            ledger._prepare()
        except BaseException:
            ledger.close()
            raise
        return ledger

    def close(self) -> None:
        """Let go of the file."""
        self._engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def append(
        self, kind: Kind | str, key: str, body: Mapping[str, Any], *, unit: str | None = None, actor: str | None = None
    ) -> Event:
        """Add one event and return it; it is on the disk when this returns.

        The same (kind, key) again returns the first event and adds nothing, so a resumed command may simply repeat
        itself: an outcome carries its intent's key. A failure leaves the record as it was, or with the whole event.

        Raises:
            KeyConflictError: the key was used with another body or unit.
            UnfitBodyError: not plain JSON, or something that looks like a secret.
            LedgerBrokenError: the tail does not match `ledger.head`; adding would hide what was cut off.
            LedgerUnavailableError: full, locked or read-only; nothing was written.
        """
        if self.readonly:
            raise LedgerUnavailableError(self.where, "opened for reading only", "open it for writing to record this")
        kind = Kind(kind)
        text = self._fit_body(key, body)
        with self._head_guard(), self._errors(), self._writing() as connection:
            self._check_head(connection)
            known = connection.execute(
                sa.select(_events).where(
                    _events.c.target == self.target, _events.c.kind == kind.value, _events.c.key == key
                )
            ).one_or_none()
            if known is not None:
                return self._same_event(known, text, unit)
            last = connection.execute(sa.select(_events).order_by(_events.c.seq.desc()).limit(1)).one_or_none()
            fields: dict[str, Any] = {
                "seq": last.seq + 1 if last else 1,
                "at": to_iso(self._clock.now()),
                "actor": actor or current_actor(),
                "target": self.target,
                "kind": kind.value,
                "key": key,
                "unit": unit,
                "body": json.loads(text),
                "prev": last.hash if last else GENESIS,
            }
            event = Event(**fields, hash=hash_event(fields))
            connection.execute(sa.insert(_events), {**event.model_dump(mode="json"), "body": text})
            # Everything that needs space on the disk happens before the commit: after it there is only a rename.
            ready = self._write_head(Head(seq=event.seq, hash=event.hash))
            try:
                connection.commit()
            except BaseException:
                if ready:
                    ready.unlink(missing_ok=True)
                raise
            if ready and self._head_path:
                ready.replace(self._head_path)
            return event

    def events(
        self, *, kind: Kind | str | None = None, unit: str | None = None, all_targets: bool = False
    ) -> tuple[Event, ...]:
        """Return this target's events in order, only of one kind or unit when given; the chain is checked first.

        The first call checks the whole chain, later ones what came since: what was checked is held in memory.

        Raises:
            LedgerBrokenError: the chain is not whole; nothing may be decided from it.
        """
        events = self._read_on()
        wanted = None if kind is None else Kind(kind)
        return tuple(
            e
            for e in events
            if (all_targets or e.target == self.target)
            and (wanted is None or e.kind is wanted)
            and (unit is None or e.unit == unit)
        )

    def head(self) -> Head:
        """Return the last event's number and hash (0 and zeros while empty)."""
        with self._errors(), self._engine.connect() as connection:
            return self._last(connection)

    def verify(self, known: Head | None = None) -> list[Break]:
        """Return every break of the chain, first one first; empty when the record is whole.

        `known` is a head kept elsewhere, on a printed report for instance.
        """
        _, hashes, breaks = self._walk()
        if known is not None and known.seq > 0:
            breaks += _compare_head(hashes, known, "the head kept elsewhere")
        return sorted(breaks, key=lambda b: b.seq)

    def accept_head(self) -> Head:
        """Make `ledger.head` anew from a chain that is whole in itself: for a restored backup, checked by a person.

        Raises:
            LedgerBrokenError: the chain itself is broken.
        """
        if self.readonly or self._head_path is None:
            raise LedgerUnavailableError(self.where, "opened for reading only", "open it for writing to record this")
        with self._head_guard(), self._errors(), self._writing() as connection:
            _, _, breaks = _walk_rows(connection)
            if breaks:
                raise LedgerBrokenError(self.where, breaks)
            last = self._last(connection)
            ready = self._write_head(last)
            if ready:
                ready.replace(self._head_path)
            return last

    # --- the file ---

    def _prepare(self) -> None:
        if self.readonly:
            with self._errors(), self._engine.connect() as connection:
                self._check_format(connection)
            return
        with self._head_guard(), self._errors(), self._writing() as connection:
            if not sa.inspect(connection).get_table_names():
                _make_tables(connection)
            self._check_format(connection)
            unguarded = _find_unguarded(connection)
            if unguarded:
                raise LedgerBrokenError(self.where, unguarded)
            connection.commit()
            if self._head_path and not self._head_path.exists() and self._last(connection).seq == 0:
                ready = self._write_head(Head(seq=0, hash=GENESIS))
                if ready:
                    ready.replace(self._head_path)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[sa.Connection]:
        """Give a connection that takes the write lock at once; what is not committed is rolled back."""
        with self._engine.connect() as connection:
            yield connection.execution_options(writing=True)

    def _check_format(self, connection: sa.Connection) -> None:
        inspector = sa.inspect(connection)
        names = set(inspector.get_table_names())
        if not {"events", "ledger_format"} <= names:
            raise LedgerFormatError(
                self.where,
                f"not an extranet ledger - expected tables events and ledger_format, found {', '.join(sorted(names))}",
                "name another file, or move this one away",
            )
        columns = {c["name"] for c in inspector.get_columns("events")}
        version = connection.execute(sa.select(_format.c.version)).scalar()
        if version != FORMAT or columns != set(_events.c.keys()):
            raise LedgerFormatError(
                self.where,
                f"a ledger of another format - expected {FORMAT}, found {version}",
                "use the version of extranet that wrote it",
            )

    def _fit_body(self, key: str, body: Mapping[str, Any]) -> str:
        problem = _find_secret(body)
        if problem:
            raise UnfitBodyError(
                self.where,
                f"event {key!r} holds what looks like a secret at {problem}",
                "leave it out: nothing was recorded",
            )
        try:
            return canonical_json(body)
        except (TypeError, ValueError) as error:
            raise UnfitBodyError(
                self.where, f"event {key!r} is not plain JSON: {error}", "record only text, numbers, lists and tables"
            ) from error

    def _same_event(self, row: Any, text: str, unit: str | None) -> Event:
        if row.body != text or row.unit != unit:
            raise KeyConflictError(
                self.where,
                f"key {row.key!r} was used for another {row.kind} (event {row.seq})",
                "use a new key for a new act",
            )
        event = _read_row(row)
        if event is None:
            raise LedgerBrokenError(self.where, [Break(seq=row.seq, kind="altered", what="its fields cannot be read")])
        return event

    def _walk(self) -> tuple[list[Event], dict[int, str], list[Break]]:
        with self._errors(), self._engine.connect() as connection:
            # The head is read first: what is appended meanwhile is beyond it, and no break.
            head = self._read_head()
            events, hashes, breaks = _walk_rows(connection)
            breaks += _find_unguarded(connection)
        if isinstance(head, Break):
            if hashes:
                breaks.append(head)
        elif head is not None and head.seq > 0:
            breaks += _compare_head(hashes, head, HEAD_FILE)
        return events, hashes, sorted(breaks, key=lambda b: b.seq)

    def _read_on(self) -> list[Event]:
        """Read what came since the last time, or everything when that does not simply continue; raise on any break."""
        known = self._known
        if known:
            with self._errors(), self._engine.connect() as connection:
                head = self._read_head()
                more, hashes, breaks = _walk_rows(connection, after=known[-1])
                breaks += _find_unguarded(connection)
            last = {e.seq: e.hash for e in known} | hashes
            whole = isinstance(head, Head) and not breaks and not _compare_head(last, head, HEAD_FILE)
            if whole and hashes.get(known[-1].seq) == known[-1].hash:
                self._known = [*known, *more]
                return self._known
        events, _, breaks = self._walk()
        if breaks:
            self._known = []
            raise LedgerBrokenError(self.where, breaks)
        self._known = events
        return events

    def _last(self, connection: sa.Connection) -> Head:
        row = connection.execute(
            sa.select(_events.c.seq, _events.c.hash).order_by(_events.c.seq.desc()).limit(1)
        ).one_or_none()
        return Head(seq=row.seq, hash=row.hash) if row else Head(seq=0, hash=GENESIS)

    def _check_head(self, connection: sa.Connection) -> None:
        """Refuse to append after a tail that was cut off or rewritten: the new head would hide it."""
        head = self._read_head()
        if head is None:
            return
        if isinstance(head, Break):
            if self._last(connection).seq:
                raise LedgerBrokenError(self.where, [head])
            return
        if head.seq == 0:
            return
        found = connection.execute(sa.select(_events.c.hash).where(_events.c.seq == head.seq)).scalar()
        breaks = _compare_head({head.seq: found} if found else {}, head, HEAD_FILE)
        if breaks:
            raise LedgerBrokenError(self.where, breaks)

    # --- the head ---

    def _read_head(self) -> Head | Break | None:
        if self._head_path is None:
            return None
        try:
            return Head.model_validate_json(self._head_path.read_text("utf-8"))
        except FileNotFoundError:
            return Break(seq=1, kind="head", what=f"{self._head_path.name} is gone: a tail cut off could not be seen")
        except (OSError, ValueError) as error:
            return Break(seq=1, kind="head", what=f"{self._head_path.name} cannot be read: {type(error).__name__}")

    def _write_head(self, head: Head) -> Path | None:
        if self._head_path is None:
            return None
        ready = self._head_path.with_suffix(".head.new")
        try:
            with ready.open("w", encoding="utf-8") as file:
                file.write(head.model_dump_json() + "\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            with contextlib.suppress(OSError):
                ready.unlink()
            raise
        return ready

    @contextlib.contextmanager
    def _head_guard(self) -> Iterator[None]:
        """One writer at a time, head included: flock on a file beside it, let go by the kernel when a writer dies."""
        if self._head_path is None:
            yield
            return
        with self._errors():
            descriptor = os.open(self._head_path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except SQLAlchemyError as error:
            raise _explain(self.where, error) from error
        except OSError as error:
            raise LedgerUnavailableError(
                self.where,
                f"cannot be written: {error.strerror or error}",
                "nothing was recorded; free space or rights first",
            ) from error


@contextlib.contextmanager
def campaign_lock(county_dir: Path, command: str, clock: Clock | None = None) -> Iterator[None]:
    """Hold the county for one command that changes the network; the kernel lets go when the holder dies.

    Raises:
        CampaignBusyError: another command holds it; says which.
    """
    path = county_dir / LOCK_FILE
    try:
        folder = os.open(county_dir, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise LedgerUnavailableError(
            str(county_dir), f"cannot be opened: {error.strerror}", "name the county"
        ) from error
    try:
        # The folder is what is locked. The file only tells who holds it: removing it lets nobody else in.
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CampaignBusyError(str(path), _read_holder(path)) from None
        holder = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "command": command,
            "since": to_iso((clock or SystemClock()).now()),
        }
        try:
            path.write_text(canonical_json(holder) + "\n", "utf-8")
        except OSError as error:
            todo = "make the county's folder writable, and see that the disk is not full"
            raise LedgerUnavailableError(str(path), f"cannot be written: {error.strerror}", todo) from error
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                os.truncate(path, 0)
    finally:
        os.close(folder)


def _read_holder(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _path_of(path_or_url: Path | str) -> Path:
    if isinstance(path_or_url, str) and "://" in path_or_url:
        url = make_url(path_or_url)
        if url.get_backend_name() != "sqlite" or not url.database:
            raise LedgerFormatError(
                url.render_as_string(hide_password=True),
                "only SQLite files are supported so far",
                "use sqlite:///PATH/ledger.sqlite",
            )
        return Path(url.database)
    path = Path(path_or_url)
    return path / LEDGER_FILE if path.is_dir() else path


def _make_engine(path: Path, *, readonly: bool) -> sa.Engine:
    empty = readonly and not path.exists()
    if empty:
        engine = sa.create_engine("sqlite://", poolclass=StaticPool)
    elif readonly:
        url = URL.create("sqlite", database=f"file:{quote(str(path))}", query=_readonly_query(path))
        engine = sa.create_engine(url, connect_args={"timeout": _BUSY_S})
    else:
        engine = sa.create_engine(URL.create("sqlite", database=str(path)), connect_args={"timeout": _BUSY_S})

    @sa.event.listens_for(engine, "connect")
    def set_pragmas(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None  # transactions begin where we say so, below
        if not readonly:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")

    @sa.event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        writing = connection.get_execution_options().get("writing", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")

    if empty:
        with engine.begin() as connection:
            _make_tables(connection)
    return engine


def _readonly_query(path: Path) -> dict[str, str]:
    query = {"mode": "ro", "uri": "true"}
    log = path.with_name(f"{path.name}-wal")
    # On a read-only disk SQLite cannot make its shared memory; without a log to read it need not.
    if not os.access(path.parent, os.W_OK) and not (log.exists() and log.stat().st_size):
        query["immutable"] = "1"
    return query


def _make_tables(connection: sa.Connection) -> None:
    _metadata.create_all(connection)
    for name, rule in _TRIGGERS.items():
        connection.exec_driver_sql(f"CREATE TRIGGER {name} {rule}")
    connection.execute(sa.insert(_format), {"version": FORMAT})


def _find_unguarded(connection: sa.Connection) -> list[Break]:
    """Tell when triggers that forbid changes are missing: somebody took them away, to change events or by a repair."""
    there = {row[0] for row in connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'trigger'")}
    missing = sorted(set(_TRIGGERS) - there)
    what = f"the triggers that forbid changes are missing: {', '.join(missing)}"
    return [Break(seq=0, kind="unguarded", what=what)] if missing else []


def _read_row(row: Any) -> Event | None:
    """Return a row as an event, or None when its fields are not what was ever written."""
    try:
        body = json.loads(row.body)
        if canonical_json(body) != row.body:
            return None
        return Event(**{**row._asdict(), "body": body})
    except (ValueError, TypeError, ValidationError):
        return None


def _walk_rows(
    connection: sa.Connection, after: Event | None = None
) -> tuple[list[Event], dict[int, str], list[Break]]:
    """Read all rows in order and compare each with its hash, and with the one before: events, hashes by seq, breaks.

    With `after`, an event checked before, only what follows it is read; the hash that it has now is among the hashes.
    """
    events: list[Event] = []
    hashes: dict[int, str] = {}
    altered: list[tuple[int, Event | None]] = []
    breaks: list[Break] = []
    expected, previous = 1, GENESIS
    query = sa.select(_events).order_by(_events.c.seq)
    if after is not None:
        now = connection.execute(sa.select(_events.c.hash).where(_events.c.seq == after.seq)).scalar()
        hashes[after.seq] = now or ""
        expected, previous = after.seq + 1, after.hash
        query = query.where(_events.c.seq > after.seq)
    for row in connection.execute(query):
        seq = row.seq
        if seq != expected:
            gap = f"event {expected}" if seq == expected + 1 else f"events {expected} to {seq - 1}"
            breaks.append(Break(seq=expected, kind="removed", what=f"{gap} missing"))
        event = _read_row(row)
        if event is None or hash_event(event.model_dump(mode="json")) != event.hash:
            altered.append((seq, event))
        elif seq == expected and event.prev != previous and not (altered and altered[-1][0] == seq - 1):
            what = f"event {seq} continues from another hash than event {seq - 1} has: one of the two was rewritten"
            breaks.append(Break(seq=max(seq - 1, 1), kind="forged", what=what))
        if event is not None:
            events.append(event)
        hashes[seq] = row.hash
        expected, previous = seq + 1, row.hash
    breaks += _name_altered(altered)
    return events, hashes, breaks


def _name_altered(altered: Sequence[tuple[int, Event | None]]) -> list[Break]:
    """Tell swapped events (whole, but in another's place) from changed ones."""
    places = [seq for seq, _ in altered]
    out: list[Break] = []
    for seq, event in altered:
        home = None
        if event is not None and len(places) <= 200:
            fields = event.model_dump(mode="json")
            home = next((p for p in places if p != seq and hash_event({**fields, "seq": p}) == event.hash), None)
        if home is not None:
            out.append(Break(seq=seq, kind="reordered", what=f"holds what was event {home}"))
        else:
            out.append(Break(seq=seq, kind="altered", what="its content does not match its hash"))
    return out


def _compare_head(hashes: Mapping[int, str], head: Head, source: str) -> list[Break]:
    if head.seq not in hashes:
        last = max(hashes, default=0)
        return [
            Break(
                seq=last + 1 if last < head.seq else head.seq,
                kind="truncated",
                what=f"the tail is gone - expected event {head.seq} ({source}), found {last or 'none'} as the last",
            )
        ]
    if hashes[head.seq] != head.hash:
        return [
            Break(seq=head.seq, kind="forged", what=f"its hash is not the one {source} holds: the tail was rewritten")
        ]
    return []


def _find_secret(value: Any, where: str = "body") -> str:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            if _SECRET_NAME.search(str(name)):
                return f"{where}.{name}"
            found = _find_secret(inner, f"{where}.{name}")
            if found:
                return found
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            found = _find_secret(inner, f"{where}[{index}]")
            if found:
                return found
    elif isinstance(value, str) and _SECRET_TEXT.search(value):
        return where
    return ""


def _explain(where: str, error: SQLAlchemyError) -> LedgerError:
    """Turn a database error into one line that says what to do."""
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
            return kind(where, what, todo)
    return LedgerUnavailableError(
        where, f"database error: {str(origin or error).splitlines()[0]}", "nothing was recorded"
    )
