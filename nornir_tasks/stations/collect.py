"""Measure from the stations: one SSH session a station, and a result for every check whatever happens to it.

Beside the stations, the servers whose services are asked for measure the ways back: one session each, at the same time.
"""

from __future__ import annotations

import base64
import hashlib
import json
import marshal
import re
import secrets
import subprocess
import threading
import time
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.util import MAGIC_NUMBER
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
from nornir_tasks.stations.hops import HopBook, judge_path, judge_session
from nornir_tasks.stations.model import RESOLVER_ASPECT, Check, Finding, Missing, Outcome, Result, WayAspect
from nornir_tasks.stations.resolvers import judge_resolvers
from nornir_tasks.stations.sessions import hold_session
from nornir_tasks.stations.throughput import Carried, measure_floors
from nornir_tasks.stations.wayback import Sights, WayBack, judge_way_back, request_of, way_back_of, ways_by_server

Transport = Callable[[str, str, str, float], str]
"""Takes a packed request to a station (by id) at an address, and returns what it printed within so many seconds."""
OnStation = Callable[[str, Sequence[Result]], None]
"""Told when a station is through: its id and its results. Called from one thread at a time."""

SESSIONS = 32
"""Stations and servers that are asked at once; each asks for most of its time nothing of this machine."""
CONNECT_TIMEOUT_S = 10
GRACE_S = 15
"""What logging in, starting Python and the way back may take beside the agent's own deadline."""
DEADLINE_S = 40.0
_LEAST_DEADLINE_S = 5.0
_PAUSE_S = 1.0
_SKEW_WORTH_SAYING_S = 2.0
_MOST_UNREAD = 4096
"""Characters kept of an answer that could not be read: its end."""


def measure(
    checks: Iterable[Check],
    county: County,
    access: Access,
    *,
    hops: HopBook,
    workers: int = SESSIONS,
    on_station: OnStation | None = None,
    deadline_s: float = DEADLINE_S,
    transport: Transport | None = None,
) -> list[Result]:
    """Run checks from their stations and return one result each, in the order of the checks.

    `hops` names the routers (`Matrix.hops`); `deadline_s` is how long a station may take for all its checks. A station
    that cannot be reached, logged in to or understood has a result `unknown`, with the reason, for each of its checks.
    `transport` is how stations are asked, where not by our own sessions.
    """
    return _Measuring(county, access, hops, workers, on_station, transport).run(tuple(checks), deadline_s)


def measure_until(
    checks: Iterable[Check],
    county: County,
    access: Access,
    *,
    hops: HopBook,
    until_s: float,
    workers: int = SESSIONS,
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
    """A vantage gave no answer that could be read; `why` follows the message grammar. Ends as `unknown` results."""

    def __init__(self, aspect: str, why: str, missing: Missing) -> None:
        self.aspect, self.why, self.missing = aspect, why, missing
        super().__init__(f"{aspect}: {why}")


def no_address(vantage: str) -> StationUnmeasuredError:
    """Return the error for a vantage that nobody said how to reach."""
    return StationUnmeasuredError(
        "ssh", f"address of {vantage} - expected one in the access file, found none", Missing.SKIPPED
    )


@dataclass
class _Measuring:
    """What all stations of a run share."""

    county: County
    access: Access
    hops: HopBook
    workers: int
    on_station: OnStation | None
    transport: Transport | None = None

    def run(self, checks: tuple[Check, ...], deadline_s: float) -> list[Result]:
        """Measure all stations and their servers' ways back, several at a time, servers first: they take longest."""
        by_station: dict[str, list[Check]] = defaultdict(list)
        for check in checks:
            by_station[check.station].append(check)
        if not by_station:
            return []
        by_server = ways_by_server(checks)
        gathering = _Gathering(by_station, set(by_server), self)
        floors = [c for c in checks if WayAspect.THROUGHPUT in c.way]
        if floors:  # before all else, so that the lines are as idle as they get
            gathering.carried = measure_floors(floors, self.county, self.ask, self.listen)
        hosts = Hosts(
            {
                f"{kind}:{name}": Host(name=f"{kind}:{name}", hostname=self.access.addresses.get(name))
                for kind, names in (("server", by_server), ("station", by_station))
                for name in names
            }
        )
        nornir = Nornir(
            inventory=Inventory(hosts=hosts, groups=Groups(), defaults=Defaults()),
            runner=ThreadedRunner(num_workers=max(1, min(self.workers, len(hosts)))),
            config=Config(logging=LoggingConfig(enabled=False)),
        )

        broken: list[Exception] = []

        def measure_host(task: Task) -> NornirResult:
            kind, _, name = task.host.name.partition(":")
            try:
                if kind == "server":
                    gathering.take_sights(name, self.look_back(name, by_server[name], deadline_s))
                else:
                    gathering.take_answer(name, self.ask_station(name, by_station[name], deadline_s))
            except Exception as error:  # noqa: BLE001 - raised below; Nornir would print its traceback
                broken.append(error)
            return NornirResult(host=task.host)

        nornir.run(task=measure_host, on_failed=True)
        found = gathering.found
        if broken and all(id(c) in found for c in checks):
            raise broken[0]  # measured well: it is the caller's own callback that broke
        missing = [c for c in checks if id(c) not in found]
        late = unmeasured(missing, "agent", "a measurement - expected done, found none", at=time.time())
        found.update({id(check): result for check, result in zip(missing, late, strict=True)})
        return [found[id(check)] for check in checks]

    def ask(self, vantage: str, words: Mapping[str, Any], deadline_s: float) -> Mapping[str, Any]:
        """Ask a vantage something of its own; StationUnmeasuredError when there is no answer."""
        address = self.access.addresses.get(vantage)
        if address is None:
            raise no_address(vantage)
        request, nonce = pack_request(words)
        return _find_answer(self.talk(vantage, address, request, deadline_s), nonce)[0]

    def talk(self, vantage: str, address: str, request: str, deadline_s: float) -> str:
        """Send a packed request in a session of its own, within the vantage's budget of them, and return what it said."""
        most = self.county.policy.budgets.station_sessions
        with hold_session(f"{vantage} {address}", most, deadline_s + GRACE_S) as held:
            if not held:
                words = (
                    f"a session - expected fewer than {most} open with it, found {most} for {deadline_s + GRACE_S:g} s"
                )
                raise StationUnmeasuredError("ssh", words, Missing.TIMED_OUT)
            if self.transport is not None and vantage in self.county.station_by_id:
                return self.transport(vantage, address, request, deadline_s + GRACE_S)
            return _talk(ssh_command(self.access, address), build_script(request), deadline_s)

    def listen(self, vantage: str, words: Mapping[str, Any]) -> subprocess.Popen[bytes]:
        """Start a vantage's session and leave it running; whoever speaks to it notices when it is not there."""
        address = self.access.addresses.get(vantage, "")
        quiet = subprocess.DEVNULL
        command = ssh_command(self.access, address) if address else ["false"]
        session = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=quiet, stderr=quiet)
        if session.stdin is not None:
            with suppress(OSError):
                session.stdin.write(build_script(pack_request(words)[0]).encode())
                session.stdin.close()
        return session

    def ask_station(self, station: str, checks: Sequence[Check], deadline_s: float) -> _Answer:
        """Ask one station; whatever goes wrong becomes its answer."""
        try:
            address = self.access.addresses.get(station)
            if address is None:
                raise no_address(station)
            request, nonce = build_request(checks, self.access, self.county, deadline_s)
            began = time.time()
            text = self.talk(station, address, request, deadline_s)
            return _Answer(text=text, nonce=nonce, window=(began, time.time()))
        except Exception as error:  # noqa: BLE001 - the one boundary per station: recorded, never lost
            return _Answer(error=_as_unmeasured(station, error))

    def read(self, checks: Sequence[Check], answer: _Answer, sights: Sights) -> list[Result]:
        """Read a station's answer, with what was seen of its ways back."""
        try:
            if answer.error is not None:
                raise answer.error
            return read_results(
                checks,
                answer.text,
                nonce=answer.nonce,
                hops=self.hops,
                county=self.county,
                window=answer.window,
                sights=sights,
            )
        except Exception as error:  # noqa: BLE001 - the one boundary per station: recorded, never lost
            found = _as_unmeasured(checks[0].station, error)
            out = unmeasured(checks, found.aspect, found.why, at=time.time(), missing=found.missing)
            came = answer.text[-_MOST_UNREAD:]
            said = {digest_output(came): came} if came else {}
            return [r.model_copy(update={"raw": {"output": list(said)}, "said": said}) if said else r for r in out]

    def look_back(self, server: str, ways: Mapping[WayBack, list[str]], deadline_s: float) -> Sights:
        """Measure a server's ways back; whatever goes wrong is why they were not seen."""
        try:
            address = self.access.addresses.get(server)
            if address is None:
                why = f"the vantage at the side of {server} - expected its address in the access file, found none"
                raise StationUnmeasuredError("ssh", why, Missing.SKIPPED)
            request, nonce = build_request(
                (), self.access, self.county, deadline_s, ways=request_of(ways, self.hops, self.county)
            )
            text = self.talk(server, address, request, deadline_s)
            answer, line = _find_answer(text, nonce)
            rows = answer.get("ways")
            by_id = {row.get("id"): row for row in rows if isinstance(row, dict)} if isinstance(rows, list) else {}
            seen: dict[WayBack, Mapping[str, Any]] = {way: by_id[way.id] for way in ways if way.id in by_id}
            return Sights(rows=seen, said={server: (digest_output(line), line)})
        except Exception as error:  # noqa: BLE001 - the one boundary per server: recorded, never lost
            found = _as_unmeasured(server, error)
            return Sights(silent={server: (f"{found.why} (asked of {server})", found.missing)})


@dataclass(frozen=True)
class _Answer:
    """What one station said, or why it did not."""

    text: str = ""
    nonce: str = ""
    window: tuple[float, float] = (0.0, 0.0)
    error: StationUnmeasuredError | None = None


class _Gathering:
    """Puts answers and ways back together: a station is through when it and all its servers have spoken."""

    def __init__(self, by_station: Mapping[str, list[Check]], servers: set[str], work: _Measuring) -> None:
        self.by_station, self.work, self.lock = by_station, work, threading.Lock()
        self.sights, self.answers = Sights(), dict[str, _Answer]()
        self.awaited = {
            name: {w.server for w in map(way_back_of, checks) if w is not None} & servers
            for name, checks in by_station.items()
        }
        self.found: dict[int, Result] = {}
        self.carried: dict[str, Carried] = {}

    def take_answer(self, station: str, answer: _Answer) -> None:
        with self.lock:
            self.answers[station] = answer
            self._finish(station)

    def take_sights(self, server: str, sights: Sights) -> None:
        with self.lock:
            self.sights.merge(sights)
            for station, servers in self.awaited.items():
                servers.discard(server)
                if station in self.answers:
                    self._finish(station)

    def _finish(self, station: str) -> None:
        if self.awaited[station]:
            return
        own = self.by_station[station]
        if id(own[0]) in self.found:
            return
        results = [_with_floor(r, self.carried) for r in self.work.read(own, self.answers[station], self.sights)]
        self.found.update({id(check): result for check, result in zip(own, results, strict=True)})
        if self.work.on_station is not None:
            self.work.on_station(station, results)


def ask_for_ways(
    vantage: str, ways: Sequence[Mapping[str, Any]], county: County, access: Access
) -> list[Mapping[str, Any]]:
    """Have a vantage measure ways, without checks; return the agent's rows, StationUnmeasuredError without them."""
    work = _Measuring(county, access, HopBook(planes={}), 1, None)
    rows = work.ask(vantage, request_body((), access, county, DEADLINE_S, ways), DEADLINE_S).get("ways")
    return rows if isinstance(rows, list) else []


def _with_floor(result: Result, carried: Mapping[str, Carried]) -> Result:
    """Return a result with what came of its line's floor, where that was measured."""
    found = carried.get(result.check.id)
    if found is None:
        return result
    rest = tuple(f for f in result.findings if f.aspect != found.finding.aspect)
    more = {"findings": (*rest, found.finding), "raw": {**result.raw, **found.raw}}
    return conclude(result.model_copy(update=more))


def _as_unmeasured(vantage: str, error: Exception) -> StationUnmeasuredError:
    if isinstance(error, StationUnmeasuredError):
        return error
    words = f"measuring {vantage} - expected done, found {type(error).__name__}: {error}"
    return StationUnmeasuredError("agent", words, Missing.NEVER_RUN)


def unmeasured(
    checks: Iterable[Check], aspect: str, why: str, *, at: float, missing: Missing = Missing.NEVER_RUN
) -> list[Result]:
    """Return `unknown` for each check."""
    finding = Finding(aspect=aspect, outcome=Outcome.UNKNOWN, detail=why, missing=missing)
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


def build_request(
    checks: Sequence[Check],
    access: Access,
    county: County,
    deadline_s: float,
    *,
    ways: Sequence[Mapping[str, Any]] = (),
) -> tuple[str, str]:
    """Return the packed request for a station's checks (or a server's ways back), and the nonce of its answer."""
    twice = [name for name, times in Counter(c.id for c in checks).items() if times > 1]
    if len({c.id for c in checks}) != len({c.model_dump_json() for c in checks}):
        words = f"check ids - expected one for each check, found {twice[0]} for two"
        raise StationUnmeasuredError("agent", words, Missing.NEVER_RUN)
    return pack_request(request_body(checks, access, county, deadline_s, ways))


def request_body(
    checks: Sequence[Check],
    access: Access,
    county: County,
    deadline_s: float,
    ways: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """Return what the agent is asked."""
    timers, terms, budgets = county.policy.timers, county.policy.probing, county.policy.budgets
    return {
        "format": 2,
        "deadline_s": deadline_s,
        "timeout_s": timers.probe_timeout_s,
        "blocked_timeout_s": min(timers.probe_timeout_s, timers.blocked_wait_s),
        "ca_file": access.ca_file,
        "parallel": budgets.station_probes,
        "probes_per_s": budgets.probes_per_s,
        "pace_ms": 1000 / budgets.ways_per_s,
        "echo": {
            "count": terms.echo_count,
            "interval_ms": terms.echo_interval_ms,
            "max_loss": terms.max_loss,
            "max_rtt_ms": terms.max_rtt_ms,
            "mtu_bytes": terms.min_mtu_bytes,
        },
        "session": any(WayAspect.VANTAGE in c.way for c in checks),
        "checks": [
            c.model_dump(mode="json", exclude={"station", "plane", "unit", "server", "source", "floor_kbps"})
            for c in checks
        ],
        "ways": list(ways),
    }


def pack_request(request: Mapping[str, Any]) -> tuple[str, str]:
    """Return a request as it is sent, with the nonce of its answer."""
    nonce = secrets.token_hex(8)
    text = json.dumps({**request, "nonce": nonce})
    return base64.b64encode(zlib.compress(text.encode())).decode(), nonce


def build_script(request: str) -> str:
    """Return what goes to `python3 -`: the agent, and the request behind it."""
    with _COMPILING:  # once, however many threads ask for it
        agent = _agent_either_way()
    return f"{agent}\nmain({request!r})\n"


_COMPILING = threading.Lock()


@cache
def _agent_either_way() -> str:
    """Return the agent compiled, for a Python that takes our bytecode, and as source, for any other.

    Most of what a session costs a station is compiling the same text again.
    """
    code = compile(agent_source(), "agent.py", "exec", dont_inherit=True, optimize=2)
    return (
        "import base64,sys,zlib\n"
        "def unpack(text): return zlib.decompress(base64.b64decode(text))\n"
        'loader = sys.modules.get("_frozen_importlib_external")\n'
        f'if getattr(loader, "MAGIC_NUMBER", None) == {MAGIC_NUMBER!r}:\n'
        f" import marshal; exec(marshal.loads(unpack({_pack(marshal.dumps(code))!r})))\n"
        f"else: exec(unpack({_pack(agent_source().encode())!r}))\n"
    )


def _pack(data: bytes) -> str:
    return base64.b64encode(zlib.compress(data, 9)).decode()


def build_command(request: str) -> str:
    """Return the same as one shell command, for transports that carry no standard input; as source, it is shorter."""
    packed = _pack(f"{agent_source()}\n\nmain({request!r})\n".encode())
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
                words = f"the session - expected an answer in {limit_s:g} s, found none"
                raise StationUnmeasuredError("ssh", words, Missing.TIMED_OUT) from None
            except BaseException:
                session.kill()
                raise
    except OSError as error:
        words = f"the OpenSSH client here - expected to start, found {error}"
        raise StationUnmeasuredError("ssh", words, Missing.NEVER_RUN) from error
    text, said = out.decode("utf-8", "replace"), err.decode("utf-8", "replace").strip()
    if session.returncode != 0 and SENTINEL not in text:
        raise no_answer(session.returncode, said)
    return text


def no_answer(code: int, said: str) -> StationUnmeasuredError:
    """Return the error for a session that ended with an exit code, these words, and no answer."""
    missing = Missing.UNREACHABLE if code == 255 else Missing.NEVER_RUN
    return StationUnmeasuredError("ssh", explain_exit(code, said), missing)


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
    checks: Sequence[Check],
    text: str,
    *,
    nonce: str,
    hops: HopBook,
    county: County,
    window: tuple[float, float],
    sights: Sights | None = None,
) -> list[Result]:
    """Read an agent's output into a result for each check.

    `window` is when the session began and ended on the controller's clock: the station's clock is judged by it.
    `sights` is what was seen of the ways back.

    Raises:
        StationUnmeasuredError: there is no answer to this request in the text.
    """
    answer, line = _find_answer(text, nonce)
    told = answer.get("checks")
    if not isinstance(told, list):
        words = "its answer - expected a list of checks, found none"
        raise StationUnmeasuredError("agent", words, Missing.UNPARSABLE)
    by_id = {row.get("id"): row for row in told if isinstance(row, dict)}
    skew_s = _clock_skew(answer, window)
    shared: dict[str, Any] = {"clock_skew_s": skew_s, "host": answer.get("host"), "session": nonce}
    if skew_s is not None and abs(skew_s) > _SKEW_WORTH_SAYING_S:
        shared["clock"] = f"the station's clock is {abs(skew_s):.0f} s {'ahead' if skew_s > 0 else 'behind'}"
    reader = _Reader(shared, answer, digest_output(line), line, sights or Sights(), hops, county)
    out = []
    for check in checks:
        row = by_id.get(check.id)
        if row is None:
            out += unmeasured([check], "agent", "its answer - expected this check, found it missing", at=window[1])
            continue
        try:
            out.append(reader.read(check, row))
        except (ValidationError, TypeError, ValueError, KeyError, AttributeError) as error:
            words = f"its answer for this check - expected readable, found {type(error).__name__}"
            out += unmeasured([check], "agent", words, at=window[1], missing=Missing.UNPARSABLE)
    return out


def digest_output(said: str) -> str:
    """Return the sha256 by which a session's own words are kept."""
    return hashlib.sha256(said.encode()).hexdigest()


def _find_answer(text: str, nonce: str) -> tuple[dict[str, Any], str]:
    """Return the answer to a request, and the line it stands in."""
    for line in text.splitlines():
        if line.startswith(f"{SENTINEL} {nonce} "):
            try:
                answer = json.loads(line.split(" ", 2)[2])
            except ValueError as error:
                words = f"its answer - expected JSON, found it cut short ({counted(len(line), 'byte')})"
                raise StationUnmeasuredError("agent", words, Missing.UNPARSABLE) from error
            if isinstance(answer, dict):
                return answer, line
    found = repr(text.strip()[:80]) if text.strip() else "nothing"
    raise StationUnmeasuredError("agent", f"its answer - expected JSON, found {found}", Missing.UNPARSABLE)


def _clock_skew(answer: Mapping[str, Any], window: tuple[float, float]) -> float | None:
    """Return how far the station's clock is ahead: 0 when both its times lie inside the session."""
    started, ended = answer.get("started"), answer.get("ended")
    if not isinstance(started, int | float) or not isinstance(ended, int | float):
        return None
    least, most = ended - window[1], started - window[0]
    if least <= 0 <= most:
        return 0.0
    return round((least + most) / 2, 2)


@dataclass(frozen=True)
class _Reader:
    """What the checks of one answer share."""

    shared: Mapping[str, Any]
    answer: Mapping[str, Any]
    digest: str
    line: str
    """The answer as it came, and its digest."""
    sights: Sights
    hops: HopBook
    county: County

    def read(self, check: Check, row: Mapping[str, Any]) -> Result:
        """Return a check's result: what the station found, what the plan says of it, and the way back."""
        findings = [Finding.model_validate(f) for f in row["findings"]]
        if RESOLVER_ASPECT in check.asks:
            findings.insert(0, judge_resolvers(check, (row.get("raw") or {}).get("resolvers"), self.county))
        names: tuple[str, ...] = ()
        trace = row.get("trace") or {}
        if check.expect == "reach" and check.trace:
            verdict = judge_path(check, trace, self.hops, self.county)
            findings.append(verdict.finding)
            names = verdict.hops
        if WayAspect.VANTAGE in check.way:
            findings.append(judge_session(check.station, self.answer.get("session") or {}, self.hops, self.county))
        raw = {**row.get("raw", {}), **{k: v for k, v in self.shared.items() if v is not None}}
        back = judge_way_back(
            check, str(raw.get("source") or trace.get("source") or ""), self.sights, self.hops, self.county
        )
        findings = merge_mtu_back(findings, back.findings)
        raw |= back.raw
        if trace.get("hops"):
            raw["hops"] = trace["hops"]
        said = {self.digest: self.line}
        if back.hops or back.raw:
            said |= dict([self.sights.said[check.server]]) if check.server in self.sights.said else {}
        raw["output"] = list(said)
        result = Result(
            check=check,
            outcome=Outcome.UNKNOWN,
            why="",
            findings=tuple(findings),
            hops=names,
            return_hops=back.hops,
            at=float(row["at"]),
            ms=round(sum(f.ms or 0.0 for f in findings), 1),
            raw=raw,
            said=said,
        )
        return conclude(result)


def merge_mtu_back(here: list[Finding], there: Sequence[Finding]) -> list[Finding]:
    """Put findings from both sides together; of packets on their way back, either side may be the one that could tell.

    Where both say as much, the station's own word stands: it saw the answers, the server only that its echoes had none.
    """
    ranks = {Outcome.PASSED: 0, Outcome.FAILED: 1, Outcome.UNKNOWN: 2}
    both = sorted((f for f in (*here, *there) if f.aspect == "mtu-back"), key=lambda f: ranks[f.outcome])
    rest = [f for f in (*here, *there) if f.aspect != "mtu-back"]
    return [*rest, *both[:1]]


def conclude(result: Result) -> Result:
    """Return a result with its outcome: failed when anything failed, passed when all that was asked has passed.

    What the check asks and nobody spoke of is added as unknown; but what cannot be, once something before it failed
    (no page without a connection), is left out. The first that did not pass says why.
    """
    findings = list(result.findings)
    if all(f.outcome is not Outcome.FAILED for f in findings):
        silent = [a for a in result.check.asks if a not in {f.aspect for f in findings}]
        findings += [_never_measured(aspect) for aspect in silent]
    outcome, why = _conclude(findings)
    return result.model_copy(update={"findings": tuple(findings), "outcome": outcome, "why": why})


def _never_measured(aspect: str) -> Finding:
    words = "its measurement - expected done, found none"
    return Finding(aspect=aspect, outcome=Outcome.UNKNOWN, detail=words, missing=Missing.NEVER_RUN)


_CAUSES = ("tcp", "mtu", "mtu-back", "tls", "http", "marker", "path", "return", "icmp", "throughput")
"""Of several aspects that did not pass, the one named first explains those after it."""


def _conclude(findings: Sequence[Finding]) -> tuple[Outcome, str]:
    """Failed when anything failed, unknown when anything is unknown or nothing was seen; the first cause says why."""
    order = {aspect: place for place, aspect in enumerate(_CAUSES)}
    by_cause = sorted(findings, key=lambda f: order.get(f.aspect, -1))
    for outcome in (Outcome.FAILED, Outcome.UNKNOWN):
        for found in by_cause:
            if found.outcome is outcome:
                return outcome, f"{found.aspect}: {found.detail}"
    if not findings:
        return Outcome.UNKNOWN, "agent: findings - expected at least one, found none"
    return Outcome.PASSED, ""
