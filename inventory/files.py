"""Writing files so that they appear whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from inventory.errors import ExtranetError

NOT_REGULAR = "not a regular file"
"""Said of a folder, pipe or device where a file should be: reading one may never end."""


def is_irregular(path: Path) -> bool:
    """Tell whether something other than a file goes by this name."""
    return path.exists() and not path.is_file()


class WriteError(ExtranetError):
    """A file could not be written; what was there before still is."""

    def __init__(self, path: Path, error: OSError | str, todo: str = "make room or correct permissions") -> None:
        what = error if isinstance(error, str) else error.strerror
        super().__init__(f"{path}: cannot be written ({what}); {todo}, then run again")


def check_writable(path: Path, *, make_folders: bool = False) -> None:
    """Raise WriteError unless a file can be written there: asked before long work whose result goes there.

    With `make_folders`, folders that are missing are no objection as long as they can be made.
    """
    try:
        if is_irregular(path):
            raise WriteError(path, NOT_REGULAR, "name a file")
        folder = path.parent
        while make_folders and not folder.exists() and folder != folder.parent:
            folder = folder.parent
        if not folder.exists():
            raise WriteError(path, f"no folder {folder}", "make it, or name another")
        if not folder.is_dir():
            raise WriteError(path, f"{folder} is no folder", "name another")
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise WriteError(path, error) from error


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
