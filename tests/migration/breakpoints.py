"""Run an `extranet` command to which something happens at a chosen moment: bad luck without luck.

    python -m tests.migration.breakpoints SIGKILL before migration.steps:wire.confirm 1 -- cutover UNIT --yes
    python -m tests.migration.breakpoints 'extranet lab fault stop core1' after migration.steps:_Run._prove 1 -- ...

A moment is before or after the n-th call of a function, named as its callers see it; what happens is a signal to the
command itself, or a shell command.
"""

import importlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import wraps
from threading import Lock
from typing import Any

HELD_S = 90.0


def break_at(what: str, when: str, where: str, call: int) -> None:
    """Replace a function by one around whose n-th call something happens."""
    module_name, _, path = where.partition(":")
    holder: Any = importlib.import_module(module_name)
    *outer, name = path.split(".")
    for part in outer:
        holder = getattr(holder, part)
    original: Callable[..., Any] = getattr(holder, name)
    counting, calls = Lock(), 0

    def strike() -> None:
        if what not in signal.Signals.__members__:
            subprocess.run(what, shell=True, check=True, stdout=sys.stderr)
            return
        number = signal.Signals[what]
        os.kill(os.getpid(), number)
        if number is signal.SIGKILL:
            time.sleep(HELD_S)

    @wraps(original)
    def broken(*args: Any, **kwargs: Any) -> Any:
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

    setattr(holder, name, broken)


if __name__ == "__main__":
    what, when, where, call, _, *arguments = sys.argv[1:]
    break_at(what, when, where, int(call))
    sys.argv = ["extranet", *arguments]
    from scripts.main import app

    app()
