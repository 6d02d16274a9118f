"""Nothing a play starts goes on alone: a process told here ends with its parent, and ends by going back.

Ansible runs tasks in processes with sessions of their own, which neither Ctrl-C on the terminal nor the death of
`ansible-playbook` reaches. So the kernel is asked to tell them (prctl(2), PR_SET_PDEATHSIG), and being told is an
interrupt like any other: unconfirmed changes go back and the ledger hears of it.
"""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_PR_SET_PDEATHSIG = 1


def end_with_parent(parent: int | None = None) -> None:
    """Have the kernel send this process SIGTERM when its parent (`parent`, when given, else the one of now) dies."""
    if hasattr(signal, "SIGTERM") and os.name == "posix":
        try:
            ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
        except (OSError, AttributeError):
            return  # not Linux: the devices' own timers remain
    if parent is not None and os.getppid() != parent:  # it died before the kernel was asked
        os.kill(os.getpid(), signal.SIGTERM)


@contextmanager
def interruptible() -> Iterator[None]:
    """Turn the first SIGTERM or SIGINT into KeyboardInterrupt; later ones must not disturb the way back."""
    ending = (signal.SIGTERM, signal.SIGINT)

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        for each in ending:
            signal.signal(each, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = {each: signal.signal(each, interrupt) for each in ending}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
