"""Writing files so that they appear whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from inventory.errors import ExtranetError


class WriteError(ExtranetError):
    """A file could not be written; what was there before still is."""

    def __init__(self, path: Path, error: OSError) -> None:
        super().__init__(
            f"{path}: cannot be written ({error.strerror}); make room or correct permissions, then run again"
        )


def write_whole(path: Path, content: str | bytes, *, mode: int = 0o644) -> None:
    """Write a file through a temporary neighbour, synced, then renamed into place."""
    data = content.encode() if isinstance(content, str) else content
    temporary: str | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        Path(temporary).chmod(mode)
        Path(temporary).replace(path)
        temporary = None
    except OSError as error:
        raise WriteError(path, error) from error
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
