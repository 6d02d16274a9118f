"""Kernel limits of the whole machine that a county outgrows: raised for the first lab, put back after the last."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from pydantic import Field, ValidationError

from inventory.model import Model
from lab.state import default_base, runtime_dir

NEEDED = {
    # Neighbour tables are counted over all namespaces: a county has some thousand entries.
    "net/ipv4/neigh/default/gc_thresh1": 4096,
    "net/ipv4/neigh/default/gc_thresh2": 8192,
    "net/ipv4/neigh/default/gc_thresh3": 16384,
    "net/ipv6/neigh/default/gc_thresh1": 4096,
    "net/ipv6/neigh/default/gc_thresh2": 8192,
    "net/ipv6/neigh/default/gc_thresh3": 16384,
    # Each zebra that keeps VRFs in namespaces watches a folder.
    "fs/inotify/max_user_instances": 1024,
}
_FILE = ".limits.json"
_PROC_SYS = Path("/proc/sys")


class _Record(Model):
    """What the limits were before the first lab, and the labs that need them raised (id: runtime folder)."""

    before: dict[str, int] = Field(default_factory=dict)
    labs: dict[str, str] = Field(default_factory=dict)


@contextlib.contextmanager
def _changing() -> Iterator[list[_Record]]:
    """Read, change and write the machine-wide record while no other lab does; it goes with the last lab."""
    base = default_base()
    base.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = base / _FILE
    while True:
        file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+", encoding="utf-8")
        fcntl.flock(file, fcntl.LOCK_EX)
        if path.exists() and path.stat().st_ino == os.fstat(file.fileno()).st_ino:
            break
        file.close()  # removed by whoever had the lock before
    with file:
        text = file.read()
        box = [_Record()]
        with contextlib.suppress(ValidationError):  # a writer killed half way must not lock everybody out
            box[0] = _Record.model_validate_json(text or "{}")
        # A lab whose folder is gone needs nothing any more, whoever removed it.
        here = {identity: place for identity, place in box[0].labs.items() if Path(place).exists()}
        box[0] = box[0].model_copy(update={"labs": here})
        try:
            yield box
        finally:
            file.seek(0)
            file.truncate()
            if box[0].labs:
                file.write(box[0].model_dump_json())
            else:
                path.unlink(missing_ok=True)
                with contextlib.suppress(OSError):
                    base.rmdir()


def claim(identity: str) -> None:
    """Raise the limits that are too low for a lab, remembering what they were."""
    with _changing() as box:
        before = dict(box[0].before)
        for name, value in NEEDED.items():
            path = _PROC_SYS / name
            with contextlib.suppress(OSError):
                now = int(path.read_text("ascii"))
                if now < value:
                    path.write_text(f"{value}\n", "ascii")
                    before.setdefault(name, now)
        box[0] = _Record(before=before, labs={**box[0].labs, identity: str(runtime_dir(identity))})


def release(identity: str) -> None:
    """Forget a lab; after the last one put the limits back, unless somebody else has changed them since."""
    if not (default_base() / _FILE).exists():
        return
    with _changing() as box:
        labs = {other: place for other, place in box[0].labs.items() if other != identity}
        if not labs:
            for name, value in box[0].before.items():
                path = _PROC_SYS / name
                with contextlib.suppress(OSError):
                    if int(path.read_text("ascii")) == NEEDED.get(name):
                        path.write_text(f"{value}\n", "ascii")
        box[0] = box[0].model_copy(update={"labs": labs})
