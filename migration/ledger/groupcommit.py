"""Group commit: callers that come while one transaction is being written go together into the next."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from migration.events import Event, Kind

_GATHER_S = 0.001
"""Where several came together the last time, so long is waited for them to come again: a fraction of one sync."""


class Ready(NamedTuple):
    """An entry made ready: its body as the text that is stored."""

    kind: Kind
    key: str
    text: str
    unit: str | None
    actor: str


@dataclass
class Order:
    """What one caller wants appended, all or nothing, and what came of it."""

    entries: Sequence[Ready]
    events: list[Event] = field(default_factory=list)
    error: BaseException | None = None
    done: bool = False


class GroupCommit:
    """Hands all that waits to one of those who wait, to write it at once. `write` sets what came of each order."""

    def __init__(self, write: Callable[[Sequence[Order]], None]) -> None:
        self._write = write
        self._waiting: list[Order] = []
        self._changed = threading.Condition()
        self._writing = False
        self._crowd = 1

    def carry_out(self, order: Order) -> list[Event]:
        """Return an order's events once they are written; raise what became of it instead."""
        with self._changed:
            self._waiting.append(order)
            try:
                while not order.done and self._writing:
                    self._changed.wait()
            except BaseException:
                if order in self._waiting:  # interrupted while it waited: it must not be written later, unexpected
                    self._waiting.remove(order)
                raise
            if not order.done:
                self._writing = True
        if not order.done:
            self._lead()
        if order.error is not None:
            raise order.error
        return order.events

    def _lead(self) -> None:
        batch: list[Order] = []
        try:
            with self._changed:
                if self._crowd > 1 and len(self._waiting) < self._crowd:
                    self._changed.wait(_GATHER_S)
                batch, self._waiting = self._waiting, []
                self._crowd = len(batch)
            self._write(batch)
        except BaseException as error:
            for order in batch:
                if order.error is None:
                    order.error = error
            if not isinstance(error, Exception):
                raise
        finally:
            with self._changed:
                for order in batch:
                    order.done = True
                self._writing = False
                self._changed.notify_all()
