"""Events in one chain, guarded by triggers: the first ledgers, on SQLite."""

from __future__ import annotations

revision = "1"
down_revision = None

_EVENTS = """
CREATE TABLE events (
    seq {integer} NOT NULL,
    at TEXT NOT NULL,
    actor TEXT NOT NULL,
    target TEXT NOT NULL,
    kind TEXT NOT NULL,
    key TEXT NOT NULL,
    unit TEXT,
    body TEXT NOT NULL,
    prev TEXT NOT NULL,
    hash TEXT NOT NULL,
    PRIMARY KEY (seq),
    CONSTRAINT one_event_a_key UNIQUE (target, kind, key),
    UNIQUE (hash)
) {options}"""

# The insert trigger stops INSERT OR REPLACE, which would remove a row without any delete trigger firing.
SQLITE = (
    _EVENTS.format(integer="INTEGER", options="STRICT"),
    "CREATE TABLE ledger_format (version INTEGER NOT NULL, PRIMARY KEY (version)) STRICT",
    "INSERT INTO ledger_format VALUES (1)",
    """CREATE TRIGGER events_no_update BEFORE UPDATE ON events
        BEGIN SELECT RAISE(ABORT, 'append-only: no update'); END""",
    """CREATE TRIGGER events_no_delete BEFORE DELETE ON events
        BEGIN SELECT RAISE(ABORT, 'append-only: no delete'); END""",
    """CREATE TRIGGER events_append_only BEFORE INSERT ON events
        WHEN NEW.seq IS NOT (SELECT COALESCE(MAX(seq), 0) + 1 FROM events) OR EXISTS (
            SELECT 1 FROM events WHERE hash = NEW.hash
            OR (target = NEW.target AND kind = NEW.kind AND key = NEW.key))
        BEGIN SELECT RAISE(ABORT, 'append-only: only the next event'); END""",
)
POSTGRESQL = (
    _EVENTS.format(integer="BIGINT", options=""),
    "CREATE TABLE ledger_format (version INTEGER PRIMARY KEY)",
    "INSERT INTO ledger_format VALUES (1)",
)
"""Its guard comes with revision 2: no server holds a ledger of the first."""


def upgrade() -> None:
    """Make the first tables."""
    from alembic import op

    connection = op.get_bind()
    for statement in SQLITE if connection.dialect.name == "sqlite" else POSTGRESQL:
        connection.exec_driver_sql(statement)


def downgrade() -> None:
    """Refuse: a record is not unmade."""
    raise NotImplementedError
