"""Leases as the database keeps them: each function is one step inside a transaction that holds the write lock."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from migration.events import canonical_json
from migration.ledger.databases import Database
from migration.ledger.errors import CampaignBusyError
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


def grant(connection: sa.Connection, database: Database, holder: Mapping[str, Any], length_s: float) -> int:
    """Grant the next lease and return its token; CampaignBusyError while another keeps it out.

    A lease from the same place is of a process that is gone: whoever asks holds the lock there.
    """
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
    """Lengthen a lease that is still the newest; return the newest where it is another, or was given back."""
    newest = read_newest(connection, database)
    if newest is None or newest.token != token or newest.released_at is not None:
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
