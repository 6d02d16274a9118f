"""Measure from the stations: one SSH session a station, and a result for every check whatever happens to it."""

from __future__ import annotations

import base64
import json
import re
import secrets
import subprocess
import threading
import time
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from nornir.core import Nornir
from nornir.core.configuration import Config, LoggingConfig
from nornir.core.inventory import Defaults, Groups, Host, Hosts, Inventory
from nornir.core.task import Result as NornirResult
from nornir.core.task import Task
from nornir.plugins.runners import ThreadedRunner
from pydantic import ValidationError

from inventory.access import Access
from inventory.model import County
from inventory.wording import counted
from nornir_tasks.stations.agent import SENTINEL
from nornir_tasks.stations.hops import HopBook, judge_path
from nornir_tasks.stations.model import Check, Finding, Outcome, Result

OnStation = Callable[[str, Sequence[Result]], None]
"""Told when a station is through: its id and its results. Called from one thread at a time."""

CONNECT_TIMEOUT_S = 10
GRACE_S = 15
"""What logging in, starting Python and the way back may take beside the agent's own deadline."""
DEADLINE_S = 40.0
_LEAST_DEADLINE_S = 5.0
_PAUSE_S = 1.0
_SKEW_WORTH_SAYING_S = 2.0


def measure(
    checks: Iterable[Check],
    county: County,
    access: Access,
    *,
    hops: HopBook,
    workers: int = 16,
    on_station: OnStation | None = None,
    deadline_s: float = DEADLINE_S,
) -> list[Result]:
    """Run checks from their stations and return one result each, in the order of the checks.

    `hops` names the routers (`Matrix.hops`); `deadline_s` is how long a station may take for all its checks. A station
    that cannot be reached, logged in to or understood has a result `unknown`, with the reason, for each of its checks.
    """
    return _Measuring(county, access, hops, workers, on_station).run(tuple(checks), deadline_s)


def measure_until(
    checks: Iterable[Check],
    county: County,
    access: Access,
    *,
    hops: HopBook,
    until_s: float,
    workers: int = 16,
    on_station: OnStation | None = None,
    deadline_s: float = DEADLINE_S,
) -> list[Result]:
    """Repeat the checks that have not passed until all pass in one and the same round; return their last results.

    There is always a first round. What has not passed is tried again while there are seconds left of `until_s`; once all
    have passed, but not together, one more round of all of them says whether they do. A way that must be closed and was
    seen open is not tried again.
    """
    ends = time.monotonic() + until_s
    asked = tuple(checks)
    work = _Measuring(county, access, hops, workers, on_station)
    last = {
        id(check): result
        for check, result in zip(asked, work.run(asked, min(deadline_s, max(until_s, _LEAST_DEADLINE_S))), strict=True)
    }
    together = True
    while True:
        again = tuple(c for c in asked if last[id(c)].outcome is not Outcome.PASSED)
        left_s = ends - time.monotonic() - _PAUSE_S
        leak = any(c.expect == "blocked" and last[id(c)].outcome is Outcome.FAILED for c in again)
        if leak or (together and not again) or (again and left_s < _PAUSE_S):
            return [last[id(c)] for c in asked]
        together = not again
        if again:
            time.sleep(_PAUSE_S)
        tried = again or asked
        found = work.run(tried, min(deadline_s, max(left_s, _LEAST_DEADLINE_S)))
        last.update({id(check): result for check, result in zip(tried, found, strict=True)})


class StationUnmeasuredError(Exception):
    """A station gave no answer that could be read; `why` follows the message grammar. Ends as `unknown` results."""

    def __init__(self, aspect: str, why: str) -> None:
        self.aspect, self.why = aspect, why
        super().__init__(f"{aspect}: {why}")


def no_address(station: str) -> StationUnmeasuredError:
    """Return the error for a station that nobody said how to reach."""
    return StationUnmeasuredError("ssh", f"address of {station} - expected one in the access file, found none")


@dataclass
class _Measuring:
    """What all stations of a run share."""

    county: County
    access: Access
    hops: HopBook
    workers: int
    on_station: OnStation | None
    lock: threading.Lock = field(default_factory=threading.Lock)

    def run(self, checks: tuple[Check, ...], deadline_s: float) -> list[Result]:
        """Measure all stations, several at a time."""
        by_station: dict[str, list[Check]] = defaultdict(list)
        for check in checks:
            by_station[check.station].append(check)
        if not by_station:
            return []
        hosts = Hosts({name: Host(name=name, hostname=self.access.addresses.get(name)) for name in by_station})
        nornir = Nornir(
            inventory=Inventory(hosts=hosts, groups=Groups(), defaults=Defaults()),
            runner=ThreadedRunner(num_workers=max(1, min(self.workers, len(by_station)))),
            config=Config(logging=LoggingConfig(enabled=False)),
        )
        found: dict[int, Result] = {}

        def measure_station(task: Task) -> NornirResult:
            own = by_station[task.host.name]
            results = self.measure_one(task.host.name, own, deadline_s)
            with self.lock:
                found.update({id(check): result for check, result in zip(own, results, strict=True)})
                if self.on_station is not None:
                    self.on_station(task.host.name, results)
            return NornirResult(host=task.host)

        outcome = nornir.run(task=measure_station, on_failed=True)
        for name, multi in outcome.items():
            if multi.failed and multi[0].exception is not None and all(id(c) in found for c in by_station[name]):
                raise multi[0].exception  # measured well: it is the caller's own callback that broke
        missing = [c for c in checks if id(c) not in found]
        late = unmeasured(missing, "agent", "a measurement - expected done, found none", at=time.time())
        found.update({id(check): result for check, result in zip(missing, late, strict=True)})
        return [found[id(check)] for check in checks]

    def measure_one(self, station: str, checks: Sequence[Check], deadline_s: float) -> list[Result]:
        """Measure one station; whatever goes wrong becomes its results."""
        try:
            address = self.access.addresses.get(station)
            if address is None:
                raise no_address(station)
            request, nonce = build_request(checks, self.access, self.county, deadline_s)
            began = time.time()
            text = _talk(ssh_command(self.access, address), build_script(request), deadline_s)
            return read_results(
                checks, text, nonce=nonce, hops=self.hops, county=self.county, window=(began, time.time())
            )
        except StationUnmeasuredError as error:
            return unmeasured(checks, error.aspect, error.why, at=time.time())
        except Exception as error:  # noqa: BLE001 - the one boundary per station: recorded, never lost
            return unmeasured(
                checks,
                "agent",
                f"measuring {station} - expected done, found {type(error).__name__}: {error}",
                at=time.time(),
            )


def unmeasured(checks: Iterable[Check], aspect: str, why: str, *, at: float) -> list[Result]:
    """Return `unknown` for each check."""
    finding = Finding(aspect=aspect, outcome=Outcome.UNKNOWN, detail=why)
    return [
        Result(check=c, outcome=Outcome.UNKNOWN, why=f"{aspect}: {why}", findings=(finding,), at=at) for c in checks
    ]


# --- the way there ---


def ssh_options(access: Access) -> dict[str, str]:
    """Return OpenSSH options: known host keys only, nothing that waits for a person or outlives the session."""
    options = {
        "BatchMode": "yes",
        "StrictHostKeyChecking": "yes",
        "UserKnownHostsFile": access.known_hosts,
        "GlobalKnownHostsFile": "/dev/null",
        "UpdateHostKeys": "no",
        "ConnectTimeout": str(CONNECT_TIMEOUT_S),
        "ServerAliveInterval": "5",
        "ServerAliveCountMax": "3",
        "ControlPath": "none",
        "ForwardAgent": "no",
        "ForwardX11": "no",
        "LogLevel": "ERROR",
    }
    if access.identity_file:
        options |= {"IdentityFile": access.identity_file, "IdentitiesOnly": "yes"}
    return options


def ssh_config(access: Access, name: str, address: str) -> str:
    """Return the same as a configuration file, in which `name` is the station."""
    lines = [f"Host {name}", f"HostName {address}", f"User {access.user}", f"Port {access.port}"]
    return "\n".join([*lines, *(f'{option} "{value}"' for option, value in ssh_options(access).items())]) + "\n"


def ssh_command(access: Access, address: str) -> list[str]:
    """Return the command line of one session."""
    command = ["ssh", "-T", "-p", str(access.port)]
    if access.target == "lab":
        command += ["-F", "none"]  # in the field the operator's own file may name a jump host
    for name, value in ssh_options(access).items():
        command += ["-o", f"{name}={value}"]
    return [*command, f"{access.user}@{address}", "exec python3 -I -S -"]


@cache
def agent_source() -> str:
    """Return the agent as it is sent."""
    return Path(__file__).with_name("agent.py").read_text("utf-8")


def build_request(checks: Sequence[Check], access: Access, county: County, deadline_s: float) -> tuple[str, str]:
    """Return the packed request for a station's checks, and the nonce by which its answer is known."""
    twice = [name for name, times in Counter(c.id for c in checks).items() if times > 1]
    if len({c.id for c in checks}) != len({c.model_dump_json() for c in checks}):
        raise StationUnmeasuredError("agent", f"check ids - expected one for each check, found {twice[0]} for two")
    nonce = secrets.token_hex(8)
    timeout_s = county.policy.timers.probe_timeout_s
    request = {
        "format": 1,
        "nonce": nonce,
        "deadline_s": deadline_s,
        "timeout_s": timeout_s,
        "blocked_timeout_s": min(timeout_s, 1.5),
        "ca_file": access.ca_file,
        "checks": [c.model_dump(mode="json", exclude={"station", "plane", "unit"}) for c in checks],
    }
    return base64.b64encode(zlib.compress(json.dumps(request).encode())).decode(), nonce


def build_script(request: str) -> str:
    """Return what goes to `python3 -`: the agent, and the request behind it."""
    return f"{agent_source()}\n\nmain({request!r})\n"


def build_command(request: str) -> str:
    """Return the same as one shell command, for transports that carry no standard input."""
    packed = base64.b64encode(zlib.compress(build_script(request).encode(), 9)).decode()
    return f"exec python3 -I -S -c \"import base64,zlib;exec(zlib.decompress(base64.b64decode('{packed}')))\""


def _talk(command: list[str], script: str, deadline_s: float) -> str:
    limit_s = deadline_s + GRACE_S
    try:
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as session:
            try:
                out, err = session.communicate(script.encode(), timeout=limit_s)
            except subprocess.TimeoutExpired:
                session.kill()
                out, err = session.communicate()
                raise StationUnmeasuredError(
                    "ssh", f"the session - expected an answer in {limit_s:g} s, found none"
                ) from None
            except BaseException:
                session.kill()
                raise
    except OSError as error:
        raise StationUnmeasuredError("ssh", f"the OpenSSH client here - expected to start, found {error}") from error
    text, said = out.decode("utf-8", "replace"), err.decode("utf-8", "replace").strip()
    if session.returncode != 0 and SENTINEL not in text:
        raise StationUnmeasuredError("ssh", explain_exit(session.returncode, said))
    return text


def explain_exit(code: int, said: str) -> str:
    """Say why a session ended without an answer, in the message grammar."""
    lines = [line.strip() for line in said.splitlines() if line.strip(" @")]
    last = lines[-1] if lines else "no word"
    if re.search(
        r"host key verification failed|host identification has changed|no .*host key is known", said, re.IGNORECASE
    ):
        return f"host key - expected the known one, found another or none ({last}); find out why before going on"
    if re.search(r"permission denied|too many authentication", said, re.IGNORECASE):
        return f"login - expected accepted, found refused ({last})"
    if code == 127 or "python3: not found" in said or "python3: No such file" in said:
        return "python3 on the station - expected 3.9 or later, found none; install it"
    if code == 255:
        where = r"refused|timed out|no route|unreachable|resolve|kex_exchange|banner"
        if re.search(where, said, re.IGNORECASE):
            return f"the station - expected reachable, found {last}"
        return f"the session - expected to last, found it ended early ({last})"
    return f"the agent - expected an answer, found exit {code} ({last})"


# --- what came back ---


def read_results(
    checks: Sequence[Check], text: str, *, nonce: str, hops: HopBook, county: County, window: tuple[float, float]
) -> list[Result]:
    """Read an agent's output into a result for each check.

    `window` is when the session began and ended on the controller's clock: the station's clock is judged by it.

    Raises:
        StationUnmeasuredError: there is no answer to this request in the text.
    """
    answer = _find_answer(text, nonce)
    told = answer.get("checks")
    if not isinstance(told, list):
        raise StationUnmeasuredError("agent", "its answer - expected a list of checks, found none")
    by_id = {row.get("id"): row for row in told if isinstance(row, dict)}
    skew_s = _clock_skew(answer, window)
    shared: dict[str, Any] = {"clock_skew_s": skew_s, "host": answer.get("host"), "session": nonce}
    if skew_s is not None and abs(skew_s) > _SKEW_WORTH_SAYING_S:
        shared["clock"] = f"the station's clock is {abs(skew_s):.0f} s {'ahead' if skew_s > 0 else 'behind'}"
    out = []
    for check in checks:
        row = by_id.get(check.id)
        if row is None:
            out += unmeasured([check], "agent", "its answer - expected this check, found it missing", at=window[1])
            continue
        try:
            out.append(_read_one(check, row, shared, hops, county))
        except (ValidationError, TypeError, ValueError, KeyError, AttributeError) as error:
            words = f"its answer for this check - expected readable, found {type(error).__name__}"
            out += unmeasured([check], "agent", words, at=window[1])
    return out


def _find_answer(text: str, nonce: str) -> dict[str, Any]:
    for line in text.splitlines():
        if line.startswith(f"{SENTINEL} {nonce} "):
            try:
                answer = json.loads(line.split(" ", 2)[2])
            except ValueError as error:
                raise StationUnmeasuredError(
                    "agent", f"its answer - expected JSON, found it cut short ({counted(len(line), 'byte')})"
                ) from error
            if isinstance(answer, dict):
                return answer
    found = repr(text.strip()[:80]) if text.strip() else "nothing"
    raise StationUnmeasuredError("agent", f"its answer - expected JSON, found {found}")


def _clock_skew(answer: Mapping[str, Any], window: tuple[float, float]) -> float | None:
    """Return how far the station's clock is ahead: 0 when both its times lie inside the session."""
    started, ended = answer.get("started"), answer.get("ended")
    if not isinstance(started, int | float) or not isinstance(ended, int | float):
        return None
    least, most = ended - window[1], started - window[0]
    if least <= 0 <= most:
        return 0.0
    return round((least + most) / 2, 2)


def _read_one(check: Check, row: Mapping[str, Any], shared: Mapping[str, Any], hops: HopBook, county: County) -> Result:
    findings = [Finding.model_validate(f) for f in row["findings"]]
    names: tuple[str, ...] = ()
    trace = row.get("trace") or {}
    if check.expect == "reach" and check.trace:
        verdict = judge_path(check, trace, hops, county)
        findings.append(verdict.finding)
        names = verdict.hops
    raw = {**row.get("raw", {}), **{k: v for k, v in shared.items() if v is not None}}
    if trace.get("hops"):
        raw["hops"] = trace["hops"]
    outcome, why = _conclude(findings)
    return Result(
        check=check,
        outcome=outcome,
        why=why,
        findings=tuple(findings),
        hops=names,
        at=float(row["at"]),
        ms=round(sum(f.ms or 0.0 for f in findings), 1),
        raw=raw,
    )


def _conclude(findings: Sequence[Finding]) -> tuple[Outcome, str]:
    """Failed when anything failed, unknown when anything is unknown or nothing was seen; the first such says why."""
    for outcome in (Outcome.FAILED, Outcome.UNKNOWN):
        for found in findings:
            if found.outcome is outcome:
                return outcome, f"{found.aspect}: {found.detail}"
    if not findings:
        return Outcome.UNKNOWN, "agent: findings - expected at least one, found none"
    return Outcome.PASSED, ""
