"""Make a ledger's tables, and take an older ledger to the newest revision: by alembic, in one transaction."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config

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
