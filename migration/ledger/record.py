"""The record itself: events go in at the end, and come out checked.

What can be seen: any change, removal, insertion or swap of events, by `verify`, which names each; what forbids changes
in the database taken away or changed; leases removed or inserted, by their numbers; a tail cut off, or rewritten with new
hashes, by comparing with `ledger.head`.
What cannot: somebody who may write both database and head can cut or rewrite the tail and make a matching head. Only what is
kept elsewhere shows that: a head (`verify(known=...)`) or a signed checkpoint.

What survives a power loss: every event whose `append` has returned. The head beside it is written after the commit and not
synced, so it may then lag behind by what came in the last seconds; the next append brings it up. Until then those events
could be cut off unseen.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import pwd
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import sqlalchemy as sa
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from migration.clock import Clock, SystemClock, to_iso
from migration.events import Break, Entry, Event, Head, Kind
from migration.ledger import leasetable
from migration.ledger.bodies import write_body
from migration.ledger.chain import COLUMNS, Chain, Row, compare_head, hash_row, make_event, read_event
from migration.ledger.databases import REVISION, Database, PostgresDatabase, SQLiteDatabase
from migration.ledger.errors import (
    KeyConflictError,
    LeaseLostError,
    LedgerBrokenError,
    LedgerFormatError,
    LedgerUnavailableError,
)
from migration.ledger.groupcommit import GroupCommit, Order, Ready
from migration.ledger.headfile import HEAD_FILE, HeadFile
from migration.ledger.leases import LEASE_S, Lease, LeaseState, describe_holder, uptime_s
from migration.ledger.schema.versions.revision_2 import FENCED

LEDGER_FILE = "ledger.sqlite"
ACTOR_VARIABLE = "EXTRANET_ACTOR"
PATIENCE_S = 15.0
"""How long an append tries to reach a server that went away, before it gives up."""

_RETRY_S = 0.25
_MANY_KEYS = 100
_ROWS_AT_A_TIME = 5_000

_events = sa.table("events", *(sa.column(name) for name in COLUMNS))
_IN_ORDER = f"SELECT {', '.join(COLUMNS)} FROM events"
_BY_KEY = sa.text(f"{_IN_ORDER} WHERE target = :target AND kind = :kind AND key = :key")
OnProgress = Callable[[int, int], None]
"""Told how many events were checked, of how many."""


def current_actor() -> str:
    """Return who acts: the title in EXTRANET_ACTOR, else the login name."""
    named = os.environ.get(ACTOR_VARIABLE, "").strip()
    if named:
        return named
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a uid without a passwd entry, as in some containers
        return f"uid {os.getuid()}"


def current_login() -> str:
    """Return the account that somebody logged in with, and the host: neither a title nor sudo changes it.

    It is the kernel's login uid (audit(7)) where one was set, else the uid of this process.
    """
    uid = os.getuid()
    with contextlib.suppress(OSError, ValueError):
        found = int(_LOGIN_UID.read_text("ascii"))
        uid = found if found != _UNSET else uid
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        name = f"uid {uid}"
    return f"{name} at {socket.gethostname()}"


_LOGIN_UID, _UNSET = Path("/proc/self/loginuid"), 2**32 - 1


@dataclass(frozen=True)
class Survey:
    """What one pass over the whole record saw."""

    breaks: tuple[Break, ...]
    last: Head
    checkpoints: tuple[Event, ...]
    token: int
    """The highest that any event carries, 0 when none does."""


class Ledger:
    """A county's record. Open with `Ledger.open`; safe for several processes, and threads, at once."""

    def __init__(
        self, database: Database | None, *, where: str, head: HeadFile | None, clock: Clock, target: str, readonly: bool
    ) -> None:
        self.where = where
        self.target = target
        self.readonly = readonly
        self.database = database
        """None: no record was begun there yet, and it was opened for reading."""
        self.head_file = head
        self._clock = clock
        self._known: list[Event] = []
        self._known_token = 0
        self._lease: Lease | None = None
        self._commits = GroupCommit(self._write)

    @classmethod
    def open(
        cls,
        path_or_url: Path | str,
        clock: Clock | None = None,
        target: str = "field",
        *,
        readonly: bool = False,
        folder: Path | None = None,
        county: str | None = None,
    ) -> Self:
        """Open a ledger, making it when it is not there.

        Args:
            path_or_url: the file, a county's folder (its `ledger.sqlite` is meant), or the URL of an SQLite file or of a
                PostgreSQL database, without a password (libpq takes it from PGPASSWORD or ~/.pgpass).
            clock: tells `at`; the machine's clock by default.
            target: `lab NAME` or `field`; a rehearsal's events never count for the field. A lab that is built anew
                must come with a new name, else it inherits what was done to the one before.
            readonly: write nothing, not even an empty file; a ledger that is not there then reads as empty.
            folder: with a server's URL, where `ledger.head` is kept on this machine.
            county: whose record it is; a database that holds another county's is refused.

        Raises:
            LedgerUnavailableError, LedgerFormatError: one line each; nothing was written.
            LedgerBrokenError: the guard or leases are missing, and it was to be written; for reading it opens, for `verify`.
        """
        database: Database | None
        url = make_url(path_or_url) if isinstance(path_or_url, str) and "://" in path_or_url else None
        if url is not None and url.get_backend_name() == "postgresql":
            database = PostgresDatabase(url, readonly=readonly)
            where, head = database.where, HeadFile(folder / HEAD_FILE, required=False) if folder else None
        else:
            path = _path_of(path_or_url)
            where = str(path)
            head_path = path.with_name(HEAD_FILE) if path.name == LEDGER_FILE else path.with_suffix(".head")
            head = HeadFile(head_path, required=True)
            database = None if readonly and not path.exists() else SQLiteDatabase(path, readonly=readonly)
        ledger = cls(database, where=where, head=head, clock=clock or SystemClock(), target=target, readonly=readonly)
        try:
            ledger._prepare(county)
        except BaseException:
            ledger.close()
            raise
        return ledger

    def close(self) -> None:
        """Let go of the database."""
        if self.database is not None:
            self.database.engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # --- appending ---

    def append(
        self, kind: Kind | str, key: str, body: Mapping[str, Any], *, unit: str | None = None, actor: str | None = None
    ) -> Event:
        """Add one event and return it; it is on the disk when this returns, and stays there when the power goes.

        The same (kind, key) again returns the first event and adds nothing, so a resumed command may simply repeat
        itself: an outcome carries its intent's key. A failure leaves the record as it was, or with the whole event.
        Threads that append at the same time share one sync of the disk. A server's connection that breaks is opened
        again, and asked by the same key whether the event is there.

        Raises:
            KeyConflictError: the key was used with another body or unit.
            UnfitBodyError: not plain JSON, or something that looks like a secret.
            LedgerBrokenError: the tail does not match `ledger.head`; adding would hide what was cut off.
            LeaseLostError: another command was granted the county since; nothing was written.
            LedgerUnavailableError: full, locked, read-only or out of reach.
        """
        return self._order([self._make_ready(Kind(kind), key, body, unit, actor)])[0]

    def append_many(self, entries: Iterable[Entry]) -> list[Event]:
        """Add events in order, all or none, with one sync of the disk for all; else as `append`."""
        actor = current_actor()
        return self._order([self._make_ready(e.kind, e.key, e.body, e.unit, e.actor or actor) for e in entries])

    def _make_ready(self, kind: Kind, key: str, body: Mapping[str, Any], unit: str | None, actor: str | None) -> Ready:
        return Ready(kind, key, write_body(self.where, key, body, unit, actor), unit, actor or current_actor())

    def _order(self, entries: Sequence[Ready]) -> list[Event]:
        if self.readonly or self.database is None:
            raise LedgerUnavailableError(self.where, "opened for reading only", "open it for writing to record this")
        if not entries:
            return []
        return self._commits.carry_out(Order(entries))

    def _write(self, batch: Sequence[Order]) -> None:
        """Write; when the server goes away, ask it again by the same keys until it answers or patience ends."""
        until = time.monotonic() + PATIENCE_S
        while True:
            try:
                with self._guard(), self._writing() as connection:
                    self._record(connection, batch)
                return
            except SQLAlchemyError as error:
                if not self._database.is_lost(error) or time.monotonic() >= until:
                    raise self._explain_append(error) from error
            except OSError as error:
                raise self._explain_os(error) from error
            self._database.engine.dispose()
            time.sleep(_RETRY_S)

    def _explain_append(self, error: SQLAlchemyError) -> Exception:
        if FENCED in str(error):
            try:
                newer = self.lease_state()
            except LedgerUnavailableError:
                newer = None
            who = f": {newer.holder.get('command')!r} on {newer.holder.get('host')}" if newer else ""
            return LeaseLostError(self.where, f"the county was granted to another command since{who}")
        return self._database.explain(error)

    def _record(self, connection: sa.Connection, batch: Sequence[Order]) -> None:
        for order in batch:
            order.events, order.error = [], None
        head = self._read_head_for_writing(connection)
        last = self._last(connection)
        self._check_head(connection, head, last)
        known = self._find_known(connection, [e for order in batch for e in order.entries])
        rows: list[Row] = []
        for order in batch:
            last = self._take_order(order, known, rows, last)
        with self.head_file.opened() if self.head_file and rows else contextlib.nullcontext() as descriptor:
            if rows:
                connection.execute(sa.insert(_events), [row._asdict() for row in rows])
            connection.commit()
            if rows and self.head_file is not None and descriptor is not None:
                self.head_file.write(descriptor, last)

    def _take_order(self, order: Order, known: dict[tuple[str, str], Row], rows: list[Row], last: Head) -> Head:
        """Make an order's rows, after `last`; one that conflicts is refused whole. Return the new last."""
        mine: list[Row] = []
        events: list[Event] = []
        fresh: dict[tuple[str, str], Row] = {}
        try:
            for entry in order.entries:
                there = fresh.get((entry.kind, entry.key)) or known.get((entry.kind, entry.key))
                if there is not None:
                    events.append(self._same_event(there, entry))
                    continue
                row = self._make_row(entry, last)
                fresh[entry.kind, entry.key] = row
                mine.append(row)
                events.append(make_event(row))
                last = Head(seq=row.seq, hash=row.hash)
        except (KeyConflictError, LedgerBrokenError) as error:
            order.error = error
            return Head(seq=mine[0].seq - 1, hash=mine[0].prev) if mine else last
        order.events = events
        rows += mine
        known |= fresh
        return last

    def _make_row(self, entry: Ready, last: Head) -> Row:
        token = self._lease.token if self._lease else None
        at = to_iso(self._clock.now())
        row = Row(
            last.seq + 1,
            at,
            entry.actor,
            self.target,
            entry.kind.value,
            entry.key,
            entry.unit,
            entry.text,
            last.hash,
            "",
            token,
        )
        return row._replace(hash=hash_row(row))

    def _find_known(self, connection: sa.Connection, entries: Sequence[Ready]) -> dict[tuple[str, str], Row]:
        """Return events of this target that have any of the keys, by kind and key."""
        out: dict[tuple[str, str], Row] = {}
        for entry in entries if len(entries) < _MANY_KEYS else ():
            asked = {"target": self.target, "kind": entry.kind.value, "key": entry.key}
            out |= {(row.kind, row.key): Row(*row) for row in connection.execute(_BY_KEY, asked)}
        for start in range(0, len(entries) if len(entries) >= _MANY_KEYS else 0, _MANY_KEYS):
            some = entries[start : start + _MANY_KEYS]
            query = sa.select(_events).where(
                _events.c.target == self.target,
                _events.c.kind.in_(sorted({e.kind.value for e in some})),
                _events.c.key.in_([e.key for e in some]),
            )
            out |= {(row.kind, row.key): Row(*row) for row in connection.execute(query)}
        return out

    def _same_event(self, row: Row, entry: Ready) -> Event:
        if row.body != entry.text or row.unit != entry.unit:
            raise KeyConflictError(
                self.where,
                f"key {row.key!r} was used for another {row.kind} (event {row.seq})",
                "use a new key for a new act",
            )
        event = read_event(row)
        if event is None:
            raise LedgerBrokenError(self.where, [Break(seq=row.seq, kind="altered", what="its fields cannot be read")])
        return event

    # --- reading ---

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
        if self.database is None:
            return Chain().last
        with self._errors(), self.database.engine.connect() as connection:
            return self._last(connection)

    def verify(self, known: Head | None = None) -> list[Break]:
        """Return every break of the chain, first one first; empty when the record is whole.

        `known` is a head kept elsewhere, on a printed report for instance.
        """
        return list(self.survey(known=[(known, "the head kept elsewhere")] if known else []).breaks)

    def survey(
        self,
        known: Sequence[tuple[Head, str]] = (),
        *,
        on_progress: OnProgress | None = None,
        on_row: Callable[[Row], None] | None = None,
    ) -> Survey:
        """Check the whole record in one pass, in memory that does not grow with it.

        `known` are heads and where each was kept; `on_row` is handed every event that is whole in itself.
        """
        checkpoints: list[Event] = []
        # The head is read first: what is appended meanwhile is beyond it, and no break.
        head = self.head_file.read() if self.head_file else None
        with self._errors(), self._reading() as connection:
            chain, of = Chain(), self._last(connection).seq if connection and on_progress else 0
            for row in chain.take(self._rows(connection)):
                if row.kind == Kind.CHECKPOINT:
                    event = read_event(row)
                    checkpoints += [event] if event else []
                if on_row is not None:
                    on_row(row)
                if on_progress is not None and row.seq % _ROWS_AT_A_TIME == 0:
                    on_progress(row.seq, max(of, row.seq))
            breaks = chain.breaks()
            if connection is not None and self.database is not None:
                breaks += self.database.find_unguarded(connection)
                breaks += leasetable.find_tampered(connection, chain.token)
            breaks += self._judge_head(connection, head, chain.last)
            breaks += self._compare(connection, chain.last, known)
        return Survey(tuple(sorted(breaks, key=lambda b: b.seq)), chain.last, tuple(checkpoints), chain.token)

    def compare(self, known: Sequence[tuple[Head, str]]) -> list[Break]:
        """Compare heads kept elsewhere with the record, without checking the rest of it."""
        with self._errors(), self._reading() as connection:
            return self._compare(connection, self._last(connection) if connection else Chain().last, known)

    def find_checkpoints(self) -> tuple[Event, ...]:
        """Return the checkpoints of the record, of every target, without checking the rest of it."""
        query = sa.select(*(_events.c[name] for name in COLUMNS)).where(_events.c.kind == Kind.CHECKPOINT.value)
        with self._errors(), self._reading() as connection:
            rows = connection.execute(query.order_by(_events.c.seq)).all() if connection else ()
        return tuple(e for e in (read_event(Row(*row)) for row in rows) if e)

    def _compare(self, connection: sa.Connection | None, last: Head, known: Sequence[tuple[Head, str]]) -> list[Break]:
        asked = [(head, source) for head, source in known if head.seq > 0]
        hashes: dict[int, str] = {}
        for start in range(0, len(asked), _MANY_KEYS):
            hashes |= self._find_hashes(connection, [head.seq for head, _ in asked[start : start + _MANY_KEYS]])
        return [b for head, source in asked for b in compare_head(hashes, last, head, source)]

    def _judge_head(self, connection: sa.Connection | None, head: Head | Break | None, last: Head) -> list[Break]:
        if isinstance(head, Break):
            return [head] if last.seq else []
        if head is None or head.seq == 0:
            return []
        return compare_head(self._find_hashes(connection, [head.seq]), last, head, HEAD_FILE)

    def _read_on(self) -> list[Event]:
        """Read what came since the last time, or everything when that does not simply continue; raise on any break."""
        if self._known and self._read_more(self._known[-1]):
            return self._known
        events: list[Event] = []
        survey = self.survey(on_row=lambda row: events.extend(e for e in [read_event(row)] if e))
        if survey.breaks:
            self._known = []
            raise LedgerBrokenError(self.where, survey.breaks)
        self._known, self._known_token = events, survey.token
        return events

    def _read_more(self, after: Event) -> bool:
        """Add what came after an event that was checked before; tell whether all of it simply continues."""
        head = self.head_file.read() if self.head_file else None
        with self._errors(), self._reading() as connection:
            chain = Chain(after=Head(seq=after.seq, hash=after.hash), token=self._known_token)
            more = [read_event(row) for row in chain.take(self._rows(connection, after=after.seq))]
            still = self._find_hashes(connection, [after.seq]).get(after.seq) == after.hash
            breaks = chain.breaks() + self._judge_head(connection, head, chain.last)
            if self.database is not None and connection is not None:
                breaks += self.database.find_unguarded(connection)
                breaks += leasetable.find_tampered(connection, chain.token, first=max(self._known_token, 1))
        if breaks or not still or any(e is None for e in more):
            return False
        self._known, self._known_token = [*self._known, *(e for e in more if e)], chain.token
        return True

    def _rows(self, connection: sa.Connection | None, after: int = 0) -> Iterator[Sequence[object]]:
        if connection is None:
            return
        where = f" WHERE seq > {after:d}" if after else ""
        yield from self._database.stream(connection, f"{_IN_ORDER}{where} ORDER BY seq")

    def _find_hashes(self, connection: sa.Connection | None, seqs: Sequence[int]) -> dict[int, str]:
        if connection is None:
            return {}
        query = sa.select(_events.c.seq, _events.c.hash).where(_events.c.seq.in_(seqs))
        return {row.seq: row.hash for row in connection.execute(query)}

    def accept_head(self) -> Head:
        """Make `ledger.head` anew from a chain that is whole in itself: for a restored backup, checked by a person.

        Raises:
            LedgerBrokenError: the chain itself is broken.
        """
        if self.readonly or self.head_file is None:
            raise LedgerUnavailableError(self.where, "opened for reading only", "open it for writing to record this")
        with self._guard(), self._errors(), self._writing() as connection:
            chain = Chain()
            for _ in chain.take(self._rows(connection)):
                pass
            breaks = chain.breaks()
            if breaks:
                raise LedgerBrokenError(self.where, breaks)
            self.head_file.make(chain.last)
            return chain.last

    # --- the lease ---

    @contextlib.contextmanager
    def hold(self, command: str, *, place: str = "", length_s: float = LEASE_S) -> Iterator[Lease]:
        """Hold the county's lease: every event appended meanwhile carries its token.

        `place` names what this process holds the lock on: a lease from the same place is of a process that is gone.

        Raises:
            CampaignBusyError: another command holds it; says which, for how long, and when it is free at the latest.
            LedgerBrokenError: leases were removed or inserted; none is granted.
        """
        asked_at = uptime_s()
        token = self._grant(
            describe_holder(command, self._clock) | {"actor": current_actor(), "place": place}, length_s
        )
        lease = Lease(token, self._renew, where=self.where, asked_at=asked_at, length_s=length_s)
        before, self._lease = self._lease, lease
        try:
            yield lease
        finally:
            self._lease = before
            lease.let_go()
            with contextlib.suppress(LedgerUnavailableError):  # it runs out by itself
                self._release(token)

    def assure_lease(self, *, ask: bool = False) -> None:
        """Return only while this ledger holds the county's lease: to be called before each act on a device.

        Raises:
            LeaseLostError: it never did, or does not any more.
        """
        if self._lease is None:
            raise LeaseLostError(self.where, "this command does not hold the county")
        self._lease.assure(ask=ask)

    def lease_state(self) -> LeaseState | None:
        """Return the newest lease, None when there never was one."""
        if self.database is None:
            return None
        with self._errors(), self.database.engine.connect() as connection:
            return leasetable.read_newest(connection, self.database)

    def _grant(self, holder: Mapping[str, Any], length_s: float) -> int:
        if self.readonly:
            raise LedgerUnavailableError(
                self.where, "opened for reading only", "open it for writing to hold the county"
            )
        with self._guard(), self._errors(), self._writing() as connection:
            token = leasetable.grant(connection, self._database, holder, length_s)
            connection.commit()
            return token

    def _renew(self, token: int, length_s: float) -> LeaseState | None:
        with self._errors(), self._writing() as connection:
            newer = leasetable.renew(connection, self._database, token, length_s)
            connection.commit()
            return newer

    def _release(self, token: int) -> None:
        with self._errors(), self._writing() as connection:
            leasetable.release(connection, self._database, token)
            connection.commit()

    # --- the database ---

    @property
    def _database(self) -> Database:
        if self.database is None:
            raise LedgerUnavailableError(self.where, "there is no record yet", "open it for writing to begin one")
        return self.database

    def _prepare(self, county: str | None) -> None:
        if self.database is None:
            return
        if self.readonly:
            with self._errors(), self.database.engine.connect() as connection:
                begun = bool(sa.inspect(connection).get_table_names())
                if begun:
                    self._check_format(connection, county)
            if not begun:
                self.close()
                self.database = None
            return
        with self._guard(), self._errors(), self._writing() as connection:
            if not sa.inspect(connection).get_table_names():
                from migration.ledger.revisions import make_newest

                make_newest(connection, county)
            self._check_format(connection, county)
            breaks = self.database.find_unguarded(connection)
            breaks += leasetable.find_tampered(connection, leasetable.read_last_token(connection))
            if breaks:
                raise LedgerBrokenError(self.where, breaks)
            connection.commit()
            self._begin_head(connection)

    def _begin_head(self, connection: sa.Connection) -> None:
        """Make the head of a record that has none yet; on a server, of what is there when this machine first sees it."""
        if self.head_file is None or self.head_file.path.exists():
            return
        last = self._last(connection)
        if last.seq == 0 or not self.head_file.required:
            self.head_file.make(last)

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sa.Connection | None]:
        """Give a connection that sees one moment of the record; None where there is none yet."""
        if self.database is None:
            yield None
            return
        with self.database.engine.connect() as connection:
            if connection.dialect.name == "postgresql":
                connection.execution_options(isolation_level="REPEATABLE READ")
            yield connection

    @contextlib.contextmanager
    def _writing(self) -> Iterator[sa.Connection]:
        """Give a connection that takes the write lock at once; what is not committed is rolled back."""
        with self._database.engine.connect() as connection:
            connection.execution_options(writing=True)
            self._database.lock(connection)
            yield connection

    def _check_format(self, connection: sa.Connection, county: str | None) -> None:
        inspector = sa.inspect(connection)
        names = set(inspector.get_table_names())
        if not {"events", "ledger_format"} <= names:
            raise LedgerFormatError(
                self.where,
                f"not an extranet ledger - expected tables events and ledger_format, found {', '.join(sorted(names))}",
                "name another file, or move this one away",
            )
        version = connection.exec_driver_sql("SELECT max(version) FROM ledger_format").scalar()
        columns = {c["name"] for c in inspector.get_columns("events")}
        if version != REVISION or columns != set(COLUMNS) or "leases" not in names:
            self._refuse_format(columns, version)
        owner = connection.exec_driver_sql("SELECT county FROM ledger_format").scalar()
        if county is not None and owner is not None and owner != county:
            raise LedgerFormatError(
                self.where, f"the record of another county - expected {county}, found {owner}", "name this county's own"
            )

    def _refuse_format(self, columns: Iterable[str], version: int | None) -> None:
        older = isinstance(version, int) and version < REVISION and set(columns) <= set(COLUMNS)
        todo = "run 'extranet ledger upgrade': it makes a backup first" if older else "use the version that wrote it"
        raise LedgerFormatError(
            self.where, f"a ledger of another format - expected {REVISION}, found {version or 'none'}", todo
        )

    def _last(self, connection: sa.Connection) -> Head:
        row = connection.exec_driver_sql("SELECT seq, hash FROM events ORDER BY seq DESC LIMIT 1").one_or_none()
        return Head(seq=row[0], hash=row[1]) if row else Chain().last

    # --- the head ---

    def _read_head_for_writing(self, connection: sa.Connection) -> Head | Break | None:
        """Read the head; where it may be begun, begin it before anything is written."""
        head = self.head_file.read() if self.head_file else None
        if self.head_file is not None and not self.head_file.path.exists():
            last = self._last(connection)
            if last.seq == 0 or not self.head_file.required:
                self.head_file.make(last)
                return last
        return head

    def _check_head(self, connection: sa.Connection, head: Head | Break | None, last: Head) -> None:
        """Refuse to append after a tail that was cut off or rewritten: the new head would hide it."""
        if head is None or head == last:
            return
        breaks = self._judge_head(connection, head, last)
        if breaks:
            raise LedgerBrokenError(self.where, breaks)

    @contextlib.contextmanager
    def _guard(self) -> Iterator[None]:
        if self.head_file is None:
            yield
            return
        with contextlib.ExitStack() as stack:
            with self._errors():
                stack.enter_context(self.head_file.guard())
            yield

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except SQLAlchemyError as error:
            raise self._database.explain(error) from error
        except OSError as error:
            raise self._explain_os(error) from error

    def _explain_os(self, error: OSError) -> LedgerUnavailableError:
        return LedgerUnavailableError(
            self.where,
            f"cannot be written: {error.strerror or error}",
            "nothing was recorded; free space or rights first",
        )


def _path_of(path_or_url: Path | str) -> Path:
    if isinstance(path_or_url, str) and "://" in path_or_url:
        url = make_url(path_or_url)
        if url.get_backend_name() != "sqlite" or not url.database:
            raise LedgerFormatError(
                url.get_backend_name(),
                "expected an SQLite file or a PostgreSQL database, found another",
                "use sqlite:///PATH/ledger.sqlite or postgresql://USER@HOST/DATABASE",
            )
        return Path(url.database)
    path = Path(path_or_url)
    return path / LEDGER_FILE if path.is_dir() else path
