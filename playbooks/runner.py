"""Run one of the playbooks through ansible-runner, from the county's own inventory."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from inventory.errors import ExtranetError, InterruptedRunError, UnknownNameError
from inventory.model import Model
from inventory.reader import load_county
from playbooks.jobs import BAD_INPUT, GOOD, UNKNOWN, Outcome

HERE = Path(__file__).resolve().parent
NAMES = ("provision", "verify", "cutover", "prove", "retire")
BY_UNIT = ("cutover", "prove", "retire")

_COLOUR = re.compile(r"\x1b\[[\d;]*m")
# What Ansible (before a job) and our callback (instead of one) say in plain text only.
_COMPLAINT = re.compile(r"^(?:\[ERROR\]|extranet): (?!exit \d|Task failed)(.+)$", re.MULTILINE)

WAY_BACK_S = 60
"""How long an interrupted job is waited for; the devices' own timers go on after that."""

_TICK_S = 1
"""How often ansible-runner looks whether it was interrupted; its own 5 s is long for somebody who pressed Ctrl-C."""

# Waits for the end of its input, which comes with the end of whoever holds the other end, however that ends.
_WIPE = 'cat >/dev/null; for _ in 1 2 3 4 5 6 7 8 9 10; do rm -rf -- "$1" && exit; sleep 0.5; done'


class PlaybookError(ExtranetError):
    """A playbook was asked for in a way that would not do what was meant."""


class PlaybookRun(Model):
    """How a run ended. `errors` are what stopped it as a whole, `outcomes` those of routers, stations or units."""

    playbook: str
    check: bool
    status: str
    exit_code: int
    summary: str
    outcomes: tuple[Outcome, ...]
    errors: tuple[str, ...]


def run_playbook(
    name: str,
    county: Path,
    *,
    variables: Mapping[str, str] | None = None,
    limit: str | None = None,
    check: bool = False,
    quiet: bool = False,
) -> PlaybookRun:
    """Run a playbook; Ansible's own output goes to standard output as it comes, unless `quiet`.

    Raises:
        InputProblemsError, UnknownNameError, PlaybookError: nothing was started.
        InterruptedRunError: Ctrl-C or SIGTERM, after the play has been brought to its end.
    """
    if name not in NAMES:
        raise UnknownNameError("playbook", name, NAMES, listed=True)
    if limit is not None and not limit.strip(" ,:;"):
        raise PlaybookError("--limit: names no host, which Ansible takes for all; name some, or leave it out")
    if limit is not None and name in BY_UNIT:
        raise PlaybookError(
            f"--limit: {name} changes what its units ask for; leave it out, and name the units by -e units="
        )
    load_county(county)  # every mistake of the files at once, before Ansible starts
    seen = _Seen()
    with _private_folder() as private, _own_environment(), _own_signals():
        import ansible_runner

        try:
            done = ansible_runner.run(
                private_data_dir=str(private),
                playbook=str(HERE / f"{name}.yml"),
                inventory=str(county.resolve() / "county.yaml"),
                extravars=dict(variables or {}),
                limit=limit,
                cmdline="--check --diff" if check else None,
                settings={"pexpect_timeout": _TICK_S},
                envvars=_environment(private),
                event_handler=seen.take,
                quiet=quiet,
            )
        except Exception as error:
            # Seen upstream after a run that had ended well (ansible-runner 1343): so nothing is known.
            seen.wait_for_way_back(county)
            what = f"ansible-runner stopped ({type(error).__name__}: {error}) - the outcome is not known"
            raise InterruptedRunError(f"{what}; run 'extranet verify', then the same command again") from error
    seen.wait_for_way_back(county)
    if done.status == "canceled":
        raise InterruptedRunError(
            "interrupted - unconfirmed changes go back, at the latest by the devices' own timers; the same command resumes"
        )
    return seen.finish(name, status=str(done.status), rc=UNKNOWN if done.rc is None else int(done.rc), check=check)


@dataclass
class _Seen:
    """What ansible-runner's events told."""

    started: bool = False
    ended: bool = False
    codes: list[int] = field(default_factory=list)
    summary: str = ""
    outcomes: list[Outcome] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def take(self, event: dict[str, Any]) -> bool:
        """Note one event; tell the runner to keep it."""
        kind, data = event.get("event"), event.get("event_data") or {}
        if kind == "runner_on_start" and data.get("task_action") == "extranet":
            self.started = True
        elif kind == "playbook_on_stats":
            self.ended = True
        elif kind in {"verbose", "error"}:
            self.errors += _COMPLAINT.findall(_COLOUR.sub("", str(event.get("stdout", ""))))
        elif kind in {"runner_on_ok", "runner_on_failed", "runner_on_unreachable"}:
            self._take_result(data, failed=kind != "runner_on_ok")
        return True

    def _take_result(self, data: Mapping[str, Any], *, failed: bool) -> None:
        found = data.get("res")
        result: dict[str, Any] = found if isinstance(found, dict) else {}
        if data.get("task_action") == "extranet":
            # A job always says how it ended; without that it was never begun, for want of good arguments.
            self.codes.append(int(result.get("rc", BAD_INPUT)))
            self.summary = str(result.get("msg", ""))
            self.outcomes += [Outcome.model_validate(o) for o in (result.get("outcomes") or {}).values()]
            if failed:
                self.errors.append(self.summary)
        elif failed and data.get("task_action") != "extranet_outcome":
            self.codes.append(BAD_INPUT)
            self.errors.append(f"{data.get('host', '?')}: {result.get('msg', '')}")

    def wait_for_way_back(self, county: Path) -> None:
        """Wait until an interrupted job, a process of its own, has brought its changes back and let go of the county."""
        from migration.ledger import LOCK_FILE, CampaignBusyError, campaign_lock

        ends = time.monotonic() + WAY_BACK_S
        while self.started and not self.ended and (county / LOCK_FILE).exists() and time.monotonic() < ends:
            try:
                with campaign_lock(county, "playbook, interrupted"):
                    return
            except CampaignBusyError:
                time.sleep(0.2)

    def finish(self, name: str, *, status: str, rc: int, check: bool) -> PlaybookRun:
        """Judge the run: what it said, and what its process said; of the two the worse."""
        # Ansible's own codes say little: before the job they mean bad input, afterwards nobody knows.
        own = self.ended and rc in range(UNKNOWN + 1)
        code = max([rc if own else UNKNOWN if self.started else BAD_INPUT, *self.codes])
        if code == GOOD and not self.outcomes:
            code = BAD_INPUT
        if code != GOOD and not self.outcomes and not self.errors:
            if self.started:
                self.errors.append(
                    "ansible-playbook ended before its job did - the outcome is not known; the same command resumes"
                )
            else:
                self.errors.append("nothing was done - Ansible's own output says why")
        return PlaybookRun(
            playbook=name,
            check=check,
            status=status,
            exit_code=code,
            summary=self.summary,
            outcomes=tuple(self.outcomes),
            errors=tuple(self.errors),
        )


def _environment(private: Path) -> dict[str, str]:
    """Return what Ansible is to know: our settings, our plugins, and nothing left in the operator's home."""
    plain = not sys.stdout.isatty() or "NO_COLOR" in os.environ
    return {
        "ANSIBLE_CONFIG": str(HERE / "ansible.cfg"),
        # ansible-runner sets this one itself, adding to what is there, and so hides the settings file's.
        "ANSIBLE_CALLBACK_PLUGINS": str(HERE / "plugins" / "callback"),
        "ANSIBLE_HOME": str(private / "ansible"),
        "EXTRANET_RUNNER": str(os.getpid()),
        "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath))),
        **({"ANSIBLE_NOCOLOR": "1"} if plain else {}),
    }


@contextmanager
def _private_folder() -> Iterator[Path]:
    """Give ansible-runner a folder of its own, for it reads back what an earlier run left.

    It is wiped at the end by us, and by a small process outside our session if we are killed before.
    """
    private = Path(tempfile.mkdtemp(prefix="extranet-runner-"))
    try:
        wiper = subprocess.Popen(
            ["sh", "-c", _WIPE, "sh", str(private)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            cwd="/",
        )
        try:
            yield private
        finally:
            wiper.communicate()
    finally:
        shutil.rmtree(private, ignore_errors=True)


@contextmanager
def _own_environment() -> Iterator[None]:
    """Keep the operator's ANSIBLE_ settings out: they may choose other tags, plugins or hosts than the playbook's."""
    mine = {k: os.environ.pop(k) for k in list(os.environ) if k.startswith(("ANSIBLE_", "RUNNER_", "AWX_"))}
    try:
        yield
    finally:
        os.environ.update(mine)


@contextmanager
def _own_signals() -> Iterator[None]:
    """Put back the signal handlers that ansible-runner replaces for good."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
