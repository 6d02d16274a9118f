"""Run one of the playbooks through ansible-runner, from the county's own inventory."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from inventory.errors import ExtranetError, UnknownNameError
from inventory.model import Model

HERE = Path(__file__).resolve().parent
NAMES = ("provision", "verify", "cutover", "retire")


class PlaybookRun(Model):
    """How a run ended: ansible-runner's status, Ansible's return code, and failures by host."""

    playbook: str
    status: str
    rc: int
    failures: dict[str, str]

    @property
    def exit_code(self) -> int:
        """The suite's exit code: that of the job where one failed, 4 when the run itself did not end properly."""
        if self.status == "successful":
            return 0
        return self.rc if self.status == "failed" and self.rc in {1, 2, 3, 4} else 4


def run_playbook(
    name: str,
    county: Path,
    *,
    variables: Mapping[str, str] | None = None,
    limit: str | None = None,
    check: bool = False,
    quiet: bool = False,
) -> PlaybookRun:
    """Run a playbook; Ansible's own output goes to standard output unless `quiet`."""
    if name not in NAMES:
        raise UnknownNameError("playbook", name, NAMES)
    source = county.resolve() / "county.yaml"
    if not source.exists():
        raise ExtranetError(f"{county}: not a county's folder; name one with --county DIR")
    import ansible_runner

    # ansible-runner leaves variables and settings in its folder and reads them back: a fresh private one each run.
    private = Path(tempfile.mkdtemp(prefix="extranet-runner-"))
    job: dict[str, int] = {}
    failures: dict[str, str] = {}

    def on_event(event: dict) -> bool:  # type: ignore[type-arg] - ansible-runner's own shape
        data = event.get("event_data", {})
        found = data.get("res", {}) if isinstance(data.get("res"), dict) else {}
        if event.get("event") in {"runner_on_failed", "runner_on_unreachable"}:
            failures[str(data.get("host", "?"))] = str(found.get("msg", ""))[:500]
            if isinstance(found.get("rc"), int):
                job["rc"] = max(job.get("rc", 0), found["rc"])
        return True

    try:
        done = ansible_runner.run(
            private_data_dir=str(private),
            playbook=str(HERE / f"{name}.yml"),
            inventory=str(source),
            extravars={**(variables or {}), "county": str(county.resolve())},
            limit=limit,
            cmdline="--check" if check else None,
            envvars={
                "ANSIBLE_CONFIG": str(HERE / "ansible.cfg"),
                "ANSIBLE_ACTION_PLUGINS": str(HERE / "plugins" / "action"),
                "ANSIBLE_INVENTORY_PLUGINS": str(HERE / "plugins" / "inventory"),
                "ANSIBLE_INVENTORY_ENABLED": "extranet",
                "ANSIBLE_LOCALHOST_WARNING": "False",
                "ANSIBLE_INVENTORY_UNPARSED_FAILED": "True",
                "ANSIBLE_HOME": str(private / "ansible"),
                "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath))),
            },
            event_handler=on_event,
            quiet=quiet,
        )
        status, code = str(done.status), int(done.rc)
    finally:
        shutil.rmtree(private, ignore_errors=True)
    return PlaybookRun(playbook=name, status=status, rc=job.get("rc", code), failures=failures)
