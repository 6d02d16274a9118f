"""Leases with fencing tokens, a guard that also looks at `prev` and the token, and a guard for PostgreSQL.

Times of leases are seconds since 1970 by the database's own clock.
"""

from __future__ import annotations

revision = "2"
down_revision = "1"

GENESIS = "0" * 64
NOT_NEXT = "append-only: only the next event"
FENCED = "fenced: a newer lease was granted, or this one was given back"
SUPERSEDED = "leases: a lease given back or followed by another stays as it is"
NEXT_TOKEN = "leases: only the next token"  # noqa: S105 - a number that counts leases

SQLITE_TRIGGERS = {
    "events_no_update": "BEFORE UPDATE ON events BEGIN SELECT RAISE(ABORT, 'append-only: no update'); END",
    "events_no_delete": "BEFORE DELETE ON events BEGIN SELECT RAISE(ABORT, 'append-only: no delete'); END",
    "events_append_only": f"""BEFORE INSERT ON events
        WHEN NEW.seq IS NOT (SELECT COALESCE(MAX(seq), 0) + 1 FROM events)
            OR NEW.prev IS NOT COALESCE((SELECT hash FROM events ORDER BY seq DESC LIMIT 1), '{GENESIS}')
            OR EXISTS (SELECT 1 FROM events WHERE hash = NEW.hash)
            OR EXISTS (SELECT 1 FROM events WHERE target = NEW.target AND kind = NEW.kind AND key = NEW.key)
        BEGIN SELECT RAISE(ABORT, '{NOT_NEXT}'); END""",
    "events_fenced": f"""BEFORE INSERT ON events
        WHEN NEW.token IS NOT NULL AND NOT EXISTS (SELECT 1 FROM leases
            WHERE token = NEW.token AND released_at IS NULL AND token = (SELECT MAX(token) FROM leases))
        BEGIN SELECT RAISE(ABORT, '{FENCED}'); END""",
    "leases_next_token": f"""BEFORE INSERT ON leases
        WHEN NEW.token IS NOT (SELECT COALESCE(MAX(token), 0) + 1 FROM leases)
        BEGIN SELECT RAISE(ABORT, '{NEXT_TOKEN}'); END""",
    "leases_no_delete": "BEFORE DELETE ON leases BEGIN SELECT RAISE(ABORT, 'leases: no delete'); END",
    "leases_no_revival": f"""BEFORE UPDATE ON leases
        WHEN OLD.token IS NOT (SELECT MAX(token) FROM leases) OR OLD.released_at IS NOT NULL
            OR NEW.token IS NOT OLD.token OR NEW.holder IS NOT OLD.holder OR NEW.granted_at IS NOT OLD.granted_at
        BEGIN SELECT RAISE(ABORT, '{SUPERSEDED}'); END""",
}
"""By name; `ledger verify` compares them with what the database holds."""

SQLITE = (
    "ALTER TABLE events ADD COLUMN token INTEGER",
    """CREATE TABLE leases (
        token INTEGER NOT NULL PRIMARY KEY,
        holder TEXT NOT NULL,
        granted_at REAL NOT NULL,
        expires_at REAL NOT NULL,
        released_at REAL
    ) STRICT""",
    "ALTER TABLE ledger_format ADD COLUMN county TEXT",
    "DROP TRIGGER events_no_update",
    "DROP TRIGGER events_no_delete",
    "DROP TRIGGER events_append_only",
    *(f"CREATE TRIGGER {name} {rule}" for name, rule in SQLITE_TRIGGERS.items()),
    "UPDATE ledger_format SET version = 2",
)

SCHEMA = "@schema@"
"""Stands for the schema's name, quoted: so that no other table of that name, a temporary one say, is asked instead."""
LOCK = "pg_advisory_xact_lock(hashtext('extranet ledger ' || {schema}))"
"""What every writer waits for, also one that does not come through this program: the triggers take it."""
_LOCK = LOCK.format(schema="TG_TABLE_SCHEMA")

POSTGRES_FUNCTIONS = {
    "ledger_refuse": """
BEGIN
    RAISE EXCEPTION USING MESSAGE = 'append-only: no ' || lower(TG_OP), ERRCODE = 'restrict_violation';
END""",
    "ledger_next_event": f"""
DECLARE
    last_seq bigint;
    last_hash text;
BEGIN
    PERFORM {_LOCK};
    SELECT seq, hash INTO last_seq, last_hash FROM {SCHEMA}.events ORDER BY seq DESC LIMIT 1;
    IF NEW.seq IS DISTINCT FROM coalesce(last_seq, 0) + 1 OR NEW.prev IS DISTINCT FROM coalesce(last_hash, '{GENESIS}') THEN
        RAISE EXCEPTION USING MESSAGE = '{NOT_NEXT}', ERRCODE = 'restrict_violation';
    END IF;
    IF NEW.token IS NOT NULL AND NOT EXISTS (SELECT 1 FROM {SCHEMA}.leases
            WHERE token = NEW.token AND released_at IS NULL AND token = (SELECT max(token) FROM {SCHEMA}.leases)) THEN
        RAISE EXCEPTION USING MESSAGE = '{FENCED}', ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END""",
    "ledger_next_token": f"""
BEGIN
    PERFORM {_LOCK};
    IF NEW.token IS DISTINCT FROM (SELECT coalesce(max(token), 0) + 1 FROM {SCHEMA}.leases) THEN
        RAISE EXCEPTION USING MESSAGE = '{NEXT_TOKEN}', ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END""",
    "ledger_no_revival": f"""
BEGIN
    PERFORM {_LOCK};
    IF OLD.token IS DISTINCT FROM (SELECT max(token) FROM {SCHEMA}.leases) OR OLD.released_at IS NOT NULL
            OR NEW.token <> OLD.token OR NEW.holder <> OLD.holder OR NEW.granted_at <> OLD.granted_at THEN
        RAISE EXCEPTION USING MESSAGE = '{SUPERSEDED}', ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END""",
}
PINNED = "SET search_path = pg_catalog, pg_temp"
POSTGRES_TRIGGERS = {
    "events_no_update": ("BEFORE UPDATE ON events FOR EACH ROW", "ledger_refuse", 19),
    "events_no_delete": ("BEFORE DELETE ON events FOR EACH ROW", "ledger_refuse", 11),
    "events_no_truncate": ("BEFORE TRUNCATE ON events FOR EACH STATEMENT", "ledger_refuse", 34),
    "events_append_only": ("BEFORE INSERT ON events FOR EACH ROW", "ledger_next_event", 7),
    "leases_no_delete": ("BEFORE DELETE ON leases FOR EACH ROW", "ledger_refuse", 11),
    "leases_no_truncate": ("BEFORE TRUNCATE ON leases FOR EACH STATEMENT", "ledger_refuse", 34),
    "leases_next_token": ("BEFORE INSERT ON leases FOR EACH ROW", "ledger_next_token", 7),
    "leases_no_revival": ("BEFORE UPDATE ON leases FOR EACH ROW", "ledger_no_revival", 19),
}
"""By name: when it fires, what it calls, and the same as PostgreSQL writes it down (pg_trigger.tgtype)."""


def _always(name: str) -> str:
    """Have a trigger fire for sessions that replay another server's changes, too."""
    return f"ALTER TABLE {name.partition('_')[0]} ENABLE ALWAYS TRIGGER {name}"


POSTGRESQL = (
    "ALTER TABLE events ADD COLUMN token BIGINT",
    """CREATE TABLE leases (
        token BIGINT PRIMARY KEY,
        holder TEXT NOT NULL,
        granted_at DOUBLE PRECISION NOT NULL,
        expires_at DOUBLE PRECISION NOT NULL,
        released_at DOUBLE PRECISION
    )""",
    "ALTER TABLE ledger_format ADD COLUMN county TEXT",
    *(
        f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql {PINNED} AS $guard${body}$guard$"
        for name, body in POSTGRES_FUNCTIONS.items()
    ),
    *(
        f"CREATE TRIGGER {name} {when} EXECUTE FUNCTION {calls}()"
        for name, (when, calls, _) in POSTGRES_TRIGGERS.items()
    ),
    *(_always(name) for name in POSTGRES_TRIGGERS),
    "UPDATE ledger_format SET version = 2",
)


def upgrade() -> None:
    """Add leases and tokens, and put the new guard in the place of the old one."""
    from alembic import op

    connection = op.get_bind()
    if connection.dialect.name == "sqlite":
        for statement in SQLITE:
            connection.exec_driver_sql(statement)
        return
    schema = str(connection.exec_driver_sql("SELECT quote_ident(current_schema())").scalar())
    for statement in POSTGRESQL:
        connection.exec_driver_sql(statement.replace(SCHEMA, schema))


def downgrade() -> None:
    """Refuse: a record is not unmade."""
    raise NotImplementedError
