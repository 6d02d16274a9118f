"""The URL of a ledger's database, as it may stand in a file: with no password."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

_SECRET_OPTIONS = frozenset({"password", "sslpassword", "passfile"})


def check_ledger_url(text: str) -> str:
    """Return a URL that names a PostgreSQL database and holds no password; else ValueError, which does not repeat it."""
    try:
        parts = urlsplit(text)
        named = parts.scheme in {"postgresql", "postgres"} and parts.path.strip("/")
        secret = parts.password is not None or _SECRET_OPTIONS & set(parse_qs(parts.query))
    except ValueError:
        raise ValueError("expected postgresql://USER@HOST/DATABASE, found something else") from None
    if secret:
        raise ValueError("holds a password - expected none: put it into ~/.pgpass or PGPASSWORD")
    if not named:
        raise ValueError("expected postgresql://USER@HOST/DATABASE, found something else")
    return text.replace("postgres://", "postgresql://", 1) if parts.scheme == "postgres" else text
