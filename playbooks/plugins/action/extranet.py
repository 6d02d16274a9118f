# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible action `extranet`: push, verify, cutover and retire through the suite's own front doors and gates.

    extranet:
      job: push | verify | cutover | retire
      devices: [...]     # push: extranet routers or sites
      stations: [...]    # verify
      units: [...]       # cutover, retire: `network@site`
      back: false        # cutover: give the unit back to the old path
      until: removed     # retire: drained, shut or removed
      wait: false        # retire: wait for the soak and the hold
      undo: false        # retire: take the last stage back
      county: DIR        # default: the county of the inventory
      defer: false       # leave failing to `extranet_outcome`, which says it for each router, station or unit

Returns `rc` (the suite's exit code), `names` and `outcomes`. In check mode nothing is changed: the same verdicts and
differences are returned.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from ansible.module_utils.parsing.convert_bool import boolean
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from inventory.errors import ExtranetError
from playbooks.jobs import UNKNOWN, JobError, as_data, make_job, run_job
from playbooks.lifeline import interruptible

EVERY_S = 5.0
"""How often progress is told."""


class Teller:
    """Tells through Ansible how far a job is. Never in its way: going back matters more than saying so."""

    def __init__(self) -> None:
        self._display = Display()
        self._last = 0.0

    def say(self, text: str) -> None:
        """Tell a step."""
        try:
            self._display.display(text)
        except Exception:  # noqa: BLE001 - nobody listens any more
            return

    def tick(self, done: int, total: int, text: str = "") -> None:
        """Tell how far a step is, now and then and at its end."""
        now = time.monotonic()
        if done == total or now - self._last > EVERY_S:
            self._last = now
            self.say(f"  {done}/{total} {text}")


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible-core ships no types
    """Run one job of the suite on the control node."""

    TRANSFERS_FILES = False
    _supports_check_mode = True
    _requires_connection = False

    def run(self, tmp: None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run the job; `failed` follows the suite's exit codes, given as `rc`."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        with interruptible():
            try:
                return result | self._do(task_vars or {})
            except ExtranetError as error:
                return result | {"failed": True, "rc": error.exit_code, "msg": str(error)}
            except Exception as error:  # noqa: BLE001 - the one boundary: the play must learn that nothing is known
                what = f"unexpected {type(error).__name__}: {error}; devices with an unconfirmed change go back by themselves"
                return result | {"failed": True, "rc": UNKNOWN, "msg": what}

    def _do(self, task_vars: dict[str, Any]) -> dict[str, Any]:
        arguments = {str(name): value for name, value in self._task.args.items() if value is not None}
        name = str(arguments.pop("job", ""))
        defer = boolean(arguments.pop("defer", False))
        county = arguments.pop("county", None) or task_vars.get("extranet_county")
        if not county:
            raise JobError(name, "no county", "run with -i COUNTY/county.yaml")
        job = make_job(name, arguments)
        teller = Teller()
        check = bool(self._task.check_mode)
        report = run_job(job, Path(str(county)), check=check, say=teller.say, on_progress=teller.tick)
        data = as_data(report)
        if defer:
            return data | {"changed": False, "failed": False}
        return data | {"changed": any(o.changed for o in report.outcomes), "failed": report.exit_code != 0}
