"""Nornir over the routers: whatever stops a run, no worker is left behind."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# An interrupt between the start of a worker and its being written down is the moment that left it waiting for ever.
INTERRUPTED = """
import threading
from concurrent.futures import thread
from nornir.core.inventory import Host
from nornir.core.processor import Processors
from nornir.core.task import Task
from nornir_tasks.hosts import StoppableRunner

class Starting(threading.Thread):
    def start(self):
        super().start()
        if self.name.startswith("extranet"):
            raise KeyboardInterrupt
thread.threading.Thread = Starting
kept = None
try:
    StoppableRunner(2).run(Task(lambda task: None, None, False, Processors()), [Host("a"), Host("b")])
except KeyboardInterrupt as error:
    kept = error
print("over")
"""


def test_an_interrupt_while_starting_leaves_no_worker() -> None:
    """Interrupted while its workers are started, a run ends, and so does the program."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", INTERRUPTED], capture_output=True, text=True, timeout=60, check=False, cwd=ROOT
    )
    assert done.stdout == "over\n", done.stderr
    assert done.returncode == 0
