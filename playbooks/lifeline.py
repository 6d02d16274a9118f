"""Nothing a play starts goes on alone: a process told here ends with its parent, and a job ends by going back.

Ansible runs tasks in processes with sessions of their own, which neither Ctrl-C on the terminal nor the death of
`ansible-playbook` reaches. So the kernel is asked to tell them (prctl(2), PR_SET_PDEATHSIG), and being told is an
interrupt like any other: unconfirmed changes go back and the ledger hears of it.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_PR_SET_PDEATHSIG = 1


def end_with_parent(number: signal.Signals, parent: int | None = None) -> None:
    """Have the kernel send this process a signal when its parent dies (`parent`: who that is, when it may be dead already)."""
    try:
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0)
    except (OSError, AttributeError):
        return  # not Linux: the devices' own timers remain
    if parent is not None and os.getppid() != parent:
        signal.raise_signal(number)


@contextmanager
def interruptible() -> Iterator[None]:
    """Turn the parent's death, SIGTERM and SIGINT into one KeyboardInterrupt; what comes later must not disturb the way back.

    The kernel tells of a parent's death once for each of the parent's threads, so that has a signal of its own, which is
    passed on once, as SIGINT: whoever inside puts interrupts off for a while puts off this one as well.
    """
    told: list[int] = []

    def ignore(_number: int, _frame: FrameType | None) -> None:
        """Do nothing; unlike SIG_IGN, programs started from here do not inherit it."""

    def interrupt(number: int, _frame: FrameType | None) -> None:
        told.append(number)
        for each in (signal.SIGTERM, signal.SIGINT):
            signal.signal(each, ignore)
        raise KeyboardInterrupt

    def orphaned(_number: int, _frame: FrameType | None) -> None:
        signal.signal(signal.SIGUSR1, ignore)
        if not told:
            signal.raise_signal(signal.SIGINT)

    handlers = {signal.SIGTERM: interrupt, signal.SIGINT: interrupt, signal.SIGUSR1: orphaned}
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    worker_of = multiprocessing.parent_process()  # Ansible forks its workers by multiprocessing
    try:
        end_with_parent(signal.SIGUSR1, worker_of.pid if worker_of else None)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
