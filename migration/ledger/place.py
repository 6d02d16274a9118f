"""Where a county's record is: the file in its folder, or the server that county.yaml or the environment names."""

from __future__ import annotations

import os
from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import Any

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from inventory.errors import ExtranetError, GateRefusedError
from inventory.ledgerurl import check_ledger_url
from inventory.yamlfile import YamlProblemError, parse_yaml
from migration.ledger.errors import LedgerFormatError
from migration.ledger.headfile import HEAD_FILE
from migration.ledger.record import LEDGER_FILE

URL_VARIABLE = "EXTRANET_LEDGER_URL"
_LAST_PORT = 65535
CHECKPOINT_DIR = "checkpoints"


class LedgerGoneError(GateRefusedError):
    """There is no ledger, though something here was measured or decided: a new one would know of nothing."""

    def __init__(self, path: Path, left: str) -> None:
        super().__init__(
            f"{path}: is gone, though {left}; restore it - without it nobody knows what is cut over (to begin anew, take "
            "ledger.head, evidence/ and checkpoints/ away as well, and checkpoint_keys out of county.yaml)"
        )


class TwoLedgersError(GateRefusedError):
    """Another place is named, but the county's folder holds a record of its own."""

    def __init__(self, path: Path, source: str) -> None:
        super().__init__(
            f"{path}: this county's record is here, but {source} names another place, which would know of nothing that was done; "
            "take that away, or move the file, ledger.head and evidence/ to the archive to begin anew there"
        )


def find_ledger(folder: Path) -> Path | str:
    """Return the file of a county's record, or the URL of its database.

    EXTRANET_LEDGER_URL is asked first, then `ledger_url` in county.yaml, which must hold no password.

    Raises:
        LedgerFormatError: the URL cannot be read; it is not repeated, for it may hold a password.
        TwoLedgersError: another place is named while the folder holds a record.
    """
    url, source = os.environ.get(URL_VARIABLE, "").strip(), URL_VARIABLE
    if url and "://" not in url:
        raise LedgerFormatError(URL_VARIABLE, "expected a URL", "write postgresql://USER@HOST/DATABASE")
    if not url:
        url, source = _read_county_url(folder / "county.yaml"), "county.yaml (ledger_url)"
    path = folder / LEDGER_FILE
    if not url:
        return path
    parsed = _parse_url(url, source)
    if parsed.get_backend_name() == "sqlite" and parsed.database and Path(parsed.database).resolve() == path.resolve():
        return path
    if path.exists():
        raise TwoLedgersError(path, source)
    return url


def _parse_url(text: str, source: str) -> URL:
    """Take a URL apart, refusing what would read a part of the password as the host; errors do not repeat it."""
    if not text.startswith("sqlite") and text.count("@") > 1:
        raise LedgerFormatError(
            source,
            "expected a URL with one @, before the host, found several",
            "percent-encode the user and password in it: write %40 for @, or put the password into ~/.pgpass",
        )
    try:
        url = make_url(text)
    except (ValueError, ArgumentError):
        url = None
    if url is None or (url.port is not None and not 0 < url.port <= _LAST_PORT):
        raise LedgerFormatError(
            source,
            "expected a URL with a port from 1 to 65535 or none, found something else",
            "write postgresql://USER@HOST:PORT/DATABASE; percent-encode what is special in user and password",
        )
    return url


def refuse_gone_ledger(path: Path) -> None:
    """Raise LedgerGoneError where a ledger is missing that must have been there."""
    from migration.evidence import EVIDENCE_DIR

    if path.exists():
        return
    kept = (path.with_name(EVIDENCE_DIR).glob("*.json*"), path.with_name(CHECKPOINT_DIR).glob("*.json"))
    for left in (path.with_name(HEAD_FILE), *chain.from_iterable(kept)):
        if left.exists():
            raise LedgerGoneError(path, f"{left.name} is there from before")
    if read_settings(path.with_name("county.yaml")).get("checkpoint_keys"):
        raise LedgerGoneError(path, "county.yaml names who signed its checkpoints")


def has_ledger(folder: Path) -> bool:
    """Tell whether a county has a record: its file is there, or a server is named; LedgerGoneError where a file is gone."""
    place = find_ledger(folder)
    if isinstance(place, Path):
        refuse_gone_ledger(place)
        return place.exists()
    return True


def read_settings(path: Path) -> Mapping[str, Any]:
    """Return what county.yaml says, unchecked; nothing where it is not there: a record is read without the survey."""
    try:
        data = parse_yaml(path.read_text("utf-8-sig"))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, YamlProblemError) as error:
        raise ExtranetError(f"{path}: cannot be read ({type(error).__name__}); run 'extranet survey check'") from error
    return data if isinstance(data, dict) else {}


def _read_county_url(path: Path) -> str:
    url = read_settings(path).get("ledger_url")
    if url is None:
        return ""
    try:
        return check_ledger_url(str(url))
    except ValueError as error:
        raise LedgerFormatError(f"{path} [ledger_url]", str(error), "correct it") from None
