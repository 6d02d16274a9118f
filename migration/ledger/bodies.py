"""What may be recorded: plain JSON, and no secrets."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from migration.events import canonical_json
from migration.ledger.errors import UnfitBodyError

_SECRET_NAME = re.compile(
    r"(^|_)(password|passwd|passphrase|secret|token|private_key|community|credential)s?($|_)", re.IGNORECASE
)
_SECRET_TEXT = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----")


def write_body(where: str, key: str, body: Mapping[str, Any], unit: str | None, actor: str | None) -> str:
    """Return a body as it is stored and hashed; UnfitBodyError when it, or what goes with it, must not be recorded."""
    problem = _find_secret(body)
    if problem:
        raise UnfitBodyError(
            where,
            f"event {key!r} holds what looks like a secret at {problem}",
            "leave it out: nothing was recorded",
        )
    try:
        text = canonical_json(body)
        "\n".join((text, key, unit or "", actor or "")).encode()
    except (TypeError, ValueError) as error:
        raise UnfitBodyError(
            where, f"event {key!r} is not plain JSON: {error}", "record only text, numbers, lists and tables"
        ) from error
    if "\0" in f"{key}{unit or ''}{actor or ''}":
        raise UnfitBodyError(where, f"event {key!r} has a NUL in its key, unit or actor", "leave it out")
    return text


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
