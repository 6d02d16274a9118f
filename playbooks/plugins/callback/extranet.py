# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible callback `extranet`: the suite's exit codes, and no success for a play that did nothing.

Ansible itself ends with 0 when no host matched, when tags left out every task, or when a limit file was empty (then it
even takes every host). Plays that hold an `extranet` task end here with 2 in such cases, and else with the highest exit
code of their jobs. Other plays are left alone.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from ansible import context
from ansible.inventory.manager import split_host_pattern
from ansible.plugins.callback import CallbackBase

from playbooks.jobs import BAD_INPUT, UNKNOWN
from playbooks.lifeline import end_with_parent

DOCUMENTATION = """
name: extranet
type: aggregate
short_description: Exit codes of the extranet suite
description: Ends ansible-playbook with the suite's exit codes, and never with 0 when nothing was done.
"""

ACTIONS = ("extranet", "extranet_outcome")


class CallbackModule(CallbackBase):  # type: ignore[misc]  # ansible-core ships no types
    """Watches the jobs of a playbook and has the last word on its exit code."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "extranet"

    def __init__(self) -> None:
        super().__init__()
        self._codes: list[int] = []
        self._waiting: dict[str, str] = {}
        self._play = ""
        runner = os.environ.get("EXTRANET_RUNNER", "")
        if runner.isdecimal():
            end_with_parent(signal.SIGTERM, int(runner))

    def v2_playbook_on_start(self, playbook: Any) -> None:
        """Refuse a limit that names nobody, which Ansible would take for no limit."""
        self._codes, self._waiting = [], {}
        # Ansible passes SIGTERM on and then dies of it, so that a job would be told twice; its death alone tells it.
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        subset = context.CLIARGS.get("subset")
        ours = any(_holds_job(play) for play in playbook.get_plays())
        if ours and subset is not None and not _limit_names(subset):
            self._end(BAD_INPUT, f"--limit {subset!r} names no host; leave it out to take all")

    def v2_playbook_on_play_start(self, play: Any) -> None:
        """Wait for the play's job from now on."""
        self._play = str(play._uuid)  # noqa: SLF001 - Ansible's own plugins know plays by it
        if _holds_job(play):
            self._waiting[self._play] = str(play.get_name())

    def v2_runner_on_ok(self, result: Any) -> None:
        """Note a job's exit code."""
        self._note(result, failed=False)

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:  # noqa: FBT001, FBT002 - its signature
        """Note a job's exit code, also where the play goes on."""
        if not ignore_errors or result.task.action in ACTIONS:
            self._note(result, failed=True)

    def v2_runner_on_unreachable(self, result: Any) -> None:
        """An unreachable host is not known."""
        del result
        self._codes.append(UNKNOWN)

    def v2_playbook_on_stats(self, stats: Any) -> None:
        """End with the highest exit code."""
        del stats
        if self._waiting and not self._codes:
            names = ", ".join(self._waiting.values())
            self._end(BAD_INPUT, f"nothing was done in: {names} - no host matched, or no task was chosen")
        code = max((*self._codes, UNKNOWN if self._waiting else 0))
        if code:
            self._end(code, f"exit {code}")

    def _note(self, result: Any, *, failed: bool) -> None:
        if result.task.action not in ACTIONS:
            if failed and self._waiting:
                self._codes.append(BAD_INPUT)  # a task before the job failed: what it was given is wrong
            return
        if result.task.action == "extranet":
            self._waiting.pop(self._play, None)
        code = result.result.get("rc")
        if isinstance(code, int):
            self._codes.append(code)
        elif failed and "results" not in result.result:  # a loop's sum comes after its items
            self._codes.append(BAD_INPUT)

    def v2_runner_item_on_ok(self, result: Any) -> None:
        """Note one item's exit code."""
        self._note(result, failed=False)

    def v2_runner_item_on_failed(self, result: Any) -> None:
        """Note one item's exit code."""
        self._note(result, failed=True)

    def _end(self, code: int, text: str) -> None:
        self._display.display(f"extranet: {text}", color="red")
        raise SystemExit(code)


def _holds_job(play: Any) -> bool:
    """Tell whether a play has a task of ours."""

    def tasks(block: Any) -> list[Any]:
        inner = [*(getattr(block, part, None) or () for part in ("block", "rescue", "always"))]
        return [t for part in inner for b in part for t in tasks(b)] if any(inner) else [block]

    return any(getattr(task, "action", "") == "extranet" for block in play.compile() for task in tasks(block))


def _limit_names(subset: str) -> list[str]:
    """Return the patterns in a limit, those of its files among them."""
    out: list[str] = []
    for pattern in filter(None, split_host_pattern(subset)):
        found = Path(pattern[1:]).read_text("utf-8").splitlines() if pattern.startswith("@") else [pattern]
        out += [text for line in found if (text := line.strip())]
    return out
