# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible action `extranet_outcome`: what a deferred `extranet` task found for one router, station or unit.

    extranet_outcome:
      of: "{{ pushed }}"               # the registered result
      name: "{{ inventory_hostname }}" # whose outcome

A name without an outcome fails: what is not known is not good.
"""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase

from playbooks.jobs import UNKNOWN


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible-core ships no types
    """Pass or fail as the outcome says; without one, fail."""

    TRANSFERS_FILES = False
    _supports_check_mode = True
    _requires_connection = False

    def run(self, tmp: None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the outcome as this host's (or item's) own result."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        name = str(self._task.args.get("name", ""))
        report = self._task.args.get("of")
        found = report.get("outcomes", {}).get(name) if isinstance(report, dict) else None
        if not isinstance(found, dict) or not isinstance(found.get("exit_code"), int):
            return result | {"failed": True, "rc": UNKNOWN, "msg": f"{name}: no outcome was recorded"}
        out = result | {
            "changed": bool(found.get("changed")),
            "failed": found["exit_code"] != 0,
            "rc": found["exit_code"],
            "msg": f"{name}: {found.get('summary', '')}",
        }
        if found.get("reasons"):
            out["reasons"] = list(found["reasons"])
        if found.get("diff"):
            out["diff"] = {"prepared": f"{name}\n{found['diff']}\n"}
        return out
