"""Writing an export whole or not at all: one file, or a folder of files that appears at once."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from pathlib import Path

from addressing.exports.options import Content
from addressing.guard import refuse_plan
from inventory.errors import ExtranetError
from inventory.files import WriteError, write_whole

MANIFEST = "export.json"
"""In a folder of ours: the files and their digests. A folder without it is not ours to replace."""


class NotOurFolderError(ExtranetError):
    """What goes by the name wanted is not an export made before."""

    def __init__(self, path: Path) -> None:
        self.path = path
        super().__init__(f"{path}: is there and is not an export's folder; name another, or remove it")


def write_export(path: Path, content: Content, name: str) -> None:
    """Write an export of format `name`; killed at any moment, the old one is there whole, or the new one.

    Raises:
        GateRefusedError: a plan or a certificate would be replaced.
        NotOurFolderError: a folder would be replaced that is no export.
        WriteError: it cannot be written; what was there before still is.
    """
    refuse_plan(path)
    if not isinstance(content, dict):
        write_whole(path, content)
        return
    _check_folder(path)
    fresh: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
        for file, text in content.items():
            (fresh / file).write_text(text, encoding="utf-8", newline="")
        (fresh / MANIFEST).write_text(_manifest(content, name), encoding="utf-8")
        fresh.chmod(0o755)
        _swap(fresh, path)
        fresh = None
    except OSError as error:
        raise WriteError(path, error) from error
    finally:
        if fresh is not None:
            shutil.rmtree(fresh, ignore_errors=True)


def _check_folder(path: Path) -> None:
    if path.is_dir() and (not any(path.iterdir()) or (path / MANIFEST).is_file()):
        return
    if path.exists() or path.is_symlink():
        raise NotOurFolderError(path)


def _swap(fresh: Path, path: Path) -> None:
    """Put a folder in another's place; a folder cannot be renamed over one that holds something."""
    if not path.exists():
        fresh.replace(path)
        return
    old = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.old."))
    path.replace(old / path.name)
    try:
        fresh.replace(path)
    except OSError:
        (old / path.name).replace(path)
        raise
    finally:
        shutil.rmtree(old, ignore_errors=True)


def _manifest(content: dict[str, str], name: str) -> str:
    files = {file: hashlib.sha256(text.encode()).hexdigest() for file, text in content.items()}
    return json.dumps({"format": "extranet export/1", "export": name, "files": files}, indent=1) + "\n"
