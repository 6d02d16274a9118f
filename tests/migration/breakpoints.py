"""Run an `extranet` command that is stopped at a chosen moment: what bad luck looks like, without luck.

    python -m tests.migration.breakpoints SIGKILL before migration.steps:wire.confirm 1 -- cutover UNIT --yes

A moment is before or after the n-th call of a function, named as its callers see it.
"""

import importlib
import os
import signal
import sys
import time
from collections.abc import Callable
from functools import wraps
from threading import Lock
from typing import Any

HELD_S = 90.0


def stop_at(how: str, when: str, where: str, call: int) -> None:
    """Replace a function by one that sends this process a signal around its n-th call."""
    module_name, _, path = where.partition(":")
    holder: Any = importlib.import_module(module_name)
    *outer, name = path.split(".")
    for part in outer:
        holder = getattr(holder, part)
    original: Callable[..., Any] = getattr(holder, name)
    counting, calls = Lock(), 0

    def strike() -> None:
        number = signal.Signals[how]
        os.kill(os.getpid(), number)
        if number is signal.SIGKILL:
            time.sleep(HELD_S)

    @wraps(original)
    def stopped(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        with counting:
            calls += 1
            mine = calls == call
        if mine and when == "before":
            strike()
        found = original(*args, **kwargs)
        if mine and when == "after":
            strike()
        return found

    setattr(holder, name, stopped)


if __name__ == "__main__":
    how, when, where, call, _, *arguments = sys.argv[1:]
    stop_at(how, when, where, int(call))
    sys.argv = ["extranet", *arguments]
    from scripts.main import app

    app()
