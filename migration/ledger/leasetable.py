"""Leases as the database keeps them: each function is one step inside a transaction that holds the write lock."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from inventory.wording import counted
from migration.events import Break, canonical_json
from migration.ledger.databases import Database
from migration.ledger.errors import CampaignBusyError, LeaseLostError, LedgerBrokenError
from migration.ledger.leases import LeaseState


def read_newest(connection: sa.Connection, database: Database) -> LeaseState | None:
    """Return the newest lease, None when there never was one."""
    row = connection.exec_driver_sql(
        f"SELECT token, holder, granted_at, expires_at, released_at, {database.now}"
        " FROM leases ORDER BY token DESC LIMIT 1"
    ).one_or_none()
    if row is None:
        return None
    try:
        holder = json.loads(row[1])
    except ValueError:
        holder = {}
    return LeaseState(
        token=row[0],
        holder=holder if isinstance(holder, dict) else {},
        granted_at=row[2],
        expires_at=row[3],
        released_at=row[4],
        now=row[5],
    )


def find_tampered(connection: sa.Connection, token: int, *, first: int = 1) -> list[Break]:
    """Tell where the leases from `first` on are not those that were granted, when an event carries `token` (0: none does).

    Each grant takes the number after the last, under the write lock, and none is ever removed: a lawful table has every
    number from 1 on, up to `token` at least; more of them where commands appended nothing.
    """
    where = f" WHERE token >= {first:d}" if first > 1 else ""
    query = f"SELECT count(*), count(DISTINCT token), min(token), max(token) FROM leases{where}"
    count, distinct, lowest, highest = connection.exec_driver_sql(query).one()
    if count and (distinct, lowest, highest) != (count, first, first + count - 1):
        what = f"found {counted(count, 'lease')}, not numbered from 1 without a gap: leases were removed or inserted"
    elif token > (highest or 0):
        newest = f"the newest lease is {highest}" if count else "no such lease is left"
        what = f"an event carries lease {token}, but {newest}: leases were removed, or the event was inserted"
    else:
        return []
    return [Break(seq=0, kind="leases", what=what)]


def read_last_token(connection: sa.Connection) -> int:
    """Return the token of the last event that carries one, 0 when none does; no event after it was under a lease.

    In a whole chain it is the highest. It is looked for from the end: only events that no lease covers are passed over.
    """
    query = "SELECT token FROM events WHERE token IS NOT NULL ORDER BY seq DESC LIMIT 1"
    found = connection.exec_driver_sql(query).scalar()
    return found if type(found) is int else 0


def grant(connection: sa.Connection, database: Database, holder: Mapping[str, Any], length_s: float) -> int:
    """Grant the next lease and return its token; CampaignBusyError while another keeps it out.

    A lease from the same place is of a process that is gone: whoever asks holds the lock there. Where leases were removed
    or inserted it is refused: a token that was there before would make the next events look forged, and going on
    above it would hide what was done.
    """
    tampered = find_tampered(connection, read_last_token(connection))
    if tampered:
        raise LedgerBrokenError(database.where, tampered)
    newest = read_newest(connection, database)
    gone = bool(holder["place"]) and newest is not None and newest.holder.get("place") == holder["place"]
    if newest is not None and newest.live and not gone:
        left_s = newest.expires_at - newest.now
        raise CampaignBusyError(database.where, newest.holder, age_s=newest.age_s, free_in_s=left_s)
    token = newest.token + 1 if newest else 1
    connection.execute(
        sa.text(
            "INSERT INTO leases (token, holder, granted_at, expires_at)"
            f" VALUES (:token, :holder, {database.now}, {database.now} + :length)"
        ),
        {"token": token, "holder": canonical_json(holder), "length": length_s},
    )
    return token


def renew(connection: sa.Connection, database: Database, token: int, length_s: float) -> LeaseState | None:
    """Lengthen a lease that is still the newest; return the newest where it is another, or was given back.

    Raises:
        LeaseLostError: there is no lease at all any more.
    """
    newest = read_newest(connection, database)
    if newest is None:
        raise LeaseLostError(database.where, f"the county's lease {token} was removed from the record")
    if newest.token != token or newest.released_at is not None:
        return newest
    connection.execute(
        sa.text(f"UPDATE leases SET expires_at = {database.now} + :length WHERE token = :token"),
        {"token": token, "length": length_s},
    )
    return None


def release(connection: sa.Connection, database: Database, token: int) -> None:
    """Give a lease back, if it is still the newest."""
    newest = read_newest(connection, database)
    if newest is not None and newest.token == token and newest.released_at is None:
        connection.execute(
            sa.text(f"UPDATE leases SET released_at = {database.now} WHERE token = :token"), {"token": token}
        )
