"""`ledger.head`: the end of the chain, kept beside the record, so that a tail cut off is seen.

Written in its place, at a width that never changes, after the commit: so it needs no space on the disk and is never
half there, and it is not synced: after a power loss it may lag behind the record by what was appended in the last
seconds, and the next append brings it up. It is never ahead of what the record holds on the disk.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from migration.events import GENESIS, Break, Head

HEAD_FILE = "ledger.head"
_WIDTH = 128


class HeadFile:
    """The head beside a record. `required`: one that is gone is a break; else it is begun anew, as on a new machine."""

    def __init__(self, path: Path, *, required: bool) -> None:
        self.path, self.required = path, required

    def read(self) -> Head | Break | None:
        """Return the head; None when it is not there and need not be."""
        try:
            text = self._read_steady()
        except FileNotFoundError:
            gone = Break(seq=1, kind="head", what=f"{self.path.name} is gone: a tail cut off could not be seen")
            return gone if self.required else None
        except OSError as error:
            return Break(seq=1, kind="head", what=f"{self.path.name} cannot be read: {error.strerror}")
        try:
            return Head.model_validate_json(text)
        except ValueError as error:
            return Break(seq=1, kind="head", what=f"{self.path.name} cannot be read: {type(error).__name__}")

    def _read_steady(self) -> bytes:
        """Read until two readings are alike: a writer may be in the midst of it."""
        seen = self.path.read_bytes()
        for _ in range(100):
            again = self.path.read_bytes()
            if again == seen:
                break
            seen = again
        return seen

    def make(self, head: Head | None = None) -> None:
        """Begin the file, synced, with its folder: from then on it is only written over."""
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            _write(descriptor, head or Head(seq=0, hash=GENESIS))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        folder = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    @contextlib.contextmanager
    def opened(self) -> Iterator[int]:
        """Give a descriptor to write with, before the commit: what cannot be opened is found out in time."""
        descriptor = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def write(self, descriptor: int, head: Head) -> None:
        """Write the head over the one before."""
        _write(descriptor, head)

    @contextlib.contextmanager
    def guard(self) -> Iterator[None]:
        """One writer at a time, head included: flock on a file beside it, let go by the kernel when a writer dies."""
        descriptor = os.open(self.path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def _write(descriptor: int, head: Head) -> None:
    data = (head.model_dump_json().ljust(_WIDTH - 1) + "\n").encode()
    os.pwrite(descriptor, data, 0)
    if os.fstat(descriptor).st_size != len(data):
        os.ftruncate(descriptor, len(data))
