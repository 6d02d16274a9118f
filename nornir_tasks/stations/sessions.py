"""How many sessions with one vantage are open at once in this process: whoever asks for more waits for its turn."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

_open: Counter[str] = Counter()
_changed = threading.Condition()


@contextmanager
def hold_session(vantage: str, most: int, wait_s: float) -> Iterator[bool]:
    """Hold one of a vantage's sessions for the block; false when none came free in time."""
    with _changed:
        held = _changed.wait_for(lambda: _open[vantage] < most, wait_s)
        _open[vantage] += held
    try:
        yield held
    finally:
        if held:
            with _changed:
                _open[vantage] -= 1
                if not _open[vantage]:
                    del _open[vantage]
                _changed.notify_all()
