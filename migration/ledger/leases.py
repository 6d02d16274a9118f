"""Who may change a county's network: one command at a time, on whatever machine.

Two things are held together. The lock is on the county's folder (flock): the kernel lets go of it when its holder dies,
but it reaches no further than this machine. The lease is in the ledger's database: it has an end, a heartbeat renews it,
and each grant has a higher number than the one before, its token. The database refuses events that carry the token of a
lease that was followed by another, so whoever stood still and woke up too late writes nothing more; and before each act on a
device the lease is asked for again (`Lease.assure`), so that it does nothing more either.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from inventory.model import Model
from inventory.wording import say_span
from migration.clock import Clock, SystemClock, from_iso, to_iso
from migration.events import canonical_json
from migration.ledger.errors import CampaignBusyError, LeaseLostError, LedgerError, LedgerUnavailableError, say_holder

LOCK_FILE = ".campaign.lock"
LEASE_S = 30.0
"""How long a lease lasts without a heartbeat: so long a machine that vanished keeps others from going on."""
_BEATS = 3
_MARGIN = 0.2
"""The last part of a lease is not counted on: two clocks do not run alike."""
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class LeaseState(Model):
    """The newest lease, as the database has it, and the time there."""

    token: int
    holder: dict[str, Any]
    granted_at: float
    expires_at: float
    released_at: float | None
    now: float

    @property
    def live(self) -> bool:
        """Tell whether it still keeps others out."""
        return self.released_at is None and self.expires_at > self.now

    @property
    def age_s(self) -> float:
        """How long ago it was granted."""
        return self.now - self.granted_at


Renew = Callable[[int, float], LeaseState | None]
"""Lengthens a lease by its token; the newest lease when that is another one, None when it was renewed.

LeaseLostError when there is none any more."""


class Lease:
    """A lease that is held. `token` goes into every event appended under it."""

    def __init__(self, token: int, renew: Renew, *, where: str, asked_at: float, length_s: float = LEASE_S) -> None:
        self.token, self.where, self.length_s = token, where, length_s
        self._renew = renew
        self._lost: LeaseLostError | None = None
        self._sure_until = asked_at + length_s * (1 - _MARGIN)
        self._stop = threading.Event()
        self._beat = threading.Thread(target=self._keep_alive, name=f"lease {token}", daemon=True)
        self._beat.start()

    def assure(self, *, ask: bool = False) -> None:
        """Return only while the lease is ours, and for long enough to begin an act: call it before each.

        The database is asked when the last answer is old, or always with `ask`. An answer that does not come is a no
        once the lease has run out by our own clock.

        Raises:
            LeaseLostError: somebody else was granted the county, or nobody can tell; nothing may be done any more.
        """
        if self._lost is not None:
            raise self._lost
        if ask or uptime_s() >= self._sure_until:
            self._ask()

    def let_go(self) -> None:
        """End the heartbeat."""
        self._stop.set()
        self._beat.join(timeout=self.length_s)

    def _ask(self) -> None:
        began = uptime_s()
        try:
            newer = self._renew(self.token, self.length_s)
        except LeaseLostError as error:
            self._lost = error
            raise
        except LedgerError as error:
            if began < self._sure_until:
                return
            raise LeaseLostError(
                self.where, f"the county's lease ran out, and cannot be asked for ({error.what})"
            ) from error
        if newer is not None:
            self._lost = LeaseLostError(self.where, _say_lost(self.token, newer))
            raise self._lost
        self._sure_until = began + self.length_s * (1 - _MARGIN)

    def _keep_alive(self) -> None:
        while not self._stop.wait(self.length_s / _BEATS):
            try:
                self._ask()
            except LeaseLostError:
                if self._lost is not None:
                    return


def _say_lost(token: int, newer: LeaseState) -> str:
    if newer.token == token:
        return f"the county's lease {token} was given back"
    return f"the county was taken over while this command stood still: {say_holder(newer.holder, newer.age_s)}"


def uptime_s() -> float:
    """Return seconds on a clock that nobody sets, and that goes on while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def describe_holder(command: str, clock: Clock | None = None) -> dict[str, Any]:
    """Return what others are told of this process while it holds the county."""
    since = to_iso((clock or SystemClock()).now())
    return {"pid": os.getpid(), "host": socket.gethostname(), "command": command, "since": since}


def name_place(folder: Path) -> str:
    """Name a folder on this machine such that no other place has the same name, also after a restart.

    Whoever holds the lock on it knows that an earlier holder of a lease from the same place is gone.
    """
    found = folder.stat()
    try:
        boot = _BOOT_ID.read_text("ascii").strip()
    except OSError:
        boot = secrets.token_hex(16)
    return f"{boot}:{found.st_dev}:{found.st_ino}"


@contextlib.contextmanager
def campaign_lock(county_dir: Path, command: str, clock: Clock | None = None) -> Iterator[None]:
    """Hold the county on this machine for one command; the kernel lets go when the holder dies.

    Raises:
        CampaignBusyError: another command holds it; says which.
    """
    path = county_dir / LOCK_FILE
    try:
        folder = os.open(county_dir, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise LedgerUnavailableError(
            str(county_dir), f"cannot be opened: {error.strerror}", "name the county"
        ) from error
    try:
        # The folder is what is locked. The file only tells who holds it: removing it lets nobody else in.
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _read_holder(path)
            raise CampaignBusyError(str(path), holder, age_s=_age_s(holder, clock)) from None
        try:
            path.write_text(canonical_json(describe_holder(command, clock)) + "\n", "utf-8")
        except OSError as error:
            todo = "make the county's folder writable, and see that the disk is not full"
            raise LedgerUnavailableError(str(path), f"cannot be written: {error.strerror}", todo) from error
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                os.truncate(path, 0)
    finally:
        os.close(folder)


def _read_holder(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _age_s(holder: Mapping[str, Any], clock: Clock | None) -> float | None:
    try:
        return ((clock or SystemClock()).now() - from_iso(str(holder["since"]))).total_seconds()
    except (KeyError, ValueError):
        return None


def say_lease(state: LeaseState) -> str:
    """Say who holds the county and for how long, or who did."""
    if state.live:
        left = say_span(max(1, state.expires_at - state.now))
        return f"held by {say_holder(state.holder, state.age_s)}; without a heartbeat free in {left}"
    return f"free; last held by {say_holder(state.holder, state.age_s)}"
