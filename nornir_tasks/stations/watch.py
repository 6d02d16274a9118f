"""Watch services from the stations while the network changes: one lasting SSH session a station, read as it speaks.

What a session has told stays when it is lost; but a station whose session was lost, had lines missing or never began is
not known, and says why (`Watching.problem`).
"""

from __future__ import annotations

import base64
import json
import os
import secrets
import selectors
import subprocess
import threading
import time
import zlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from inventory.access import Access
from inventory.model import Family, Model
from nornir_tasks.stations.collect import CONNECT_TIMEOUT_S, explain_exit, no_address, ssh_command
from nornir_tasks.stations.model import Check
from nornir_tasks.stations.outage import Outage, Sample, measure_outage
from nornir_tasks.stations.watch_agent import SENTINEL

TIMEOUT_S = 0.9
"""How long one probe may take: less than the second after which a kernel sends its SYN again, which would hide a loss."""
NEAR_EVERY = 5
"""Legs that the change does not move are probed once while moved ones are so many times."""
BEFORE_S = 1.0
"""How long a watch runs, at least, before the change: what answered then has worked."""
_START_S = CONNECT_TIMEOUT_S + 10.0
_ANSWER_S = 3.0
_WORD_EVERY_S = 2.0
_PATIENCE_S = 20.0
"""How long an agent goes on without a word from us."""
_END_S = 3.0
_SAID = 2000
"""Bytes kept of what a session says on standard error."""


class Target(Model):
    """One thing watched: a server's port, from a station's leg over one family.

    Services that answer at one port share it, so one of them, the first of `services`, is tried for all. Of what is only
    near, one port stands for its server.
    """

    station: str
    plane: str
    interface: str
    family: Family
    address: str
    port: int
    protocol: Literal["https", "tcp", "dns"]
    dns_name: str
    services: tuple[str, ...]
    every: int = 1

    @property
    def id(self) -> str:
        """`station/plane/service/family`."""
        return f"{self.station}/{self.plane}/{self.services[0]}/{self.family.value}"


def choose_targets(moved: Iterable[Check], near: Iterable[Check] = ()) -> tuple[Target, ...]:
    """Return what to watch of checks that must reach: one target for each leg, server, port and family, moved ones first.

    Of what is near, one for each leg, server and family that nothing moved has.
    """
    groups: dict[tuple[str, str, str, Family, int], list[Check]] = defaultdict(list)
    for check in moved:
        if check.expect == "reach":
            groups[check.station, check.interface, check.address, check.family, check.port].append(check)
    watched = {key[:4] for key in groups}
    seldom: set[tuple[str, str, str, Family, int]] = set()
    for check in near:
        way = (check.station, check.interface, check.address, check.family)
        if check.expect == "reach" and way not in watched:
            seldom.add((*way, 0))
            groups[*way, 0].append(check)
    return tuple(
        Target(
            **group[0].model_dump(
                include={"station", "plane", "interface", "family", "address", "port", "protocol", "dns_name"}
            ),
            services=tuple(dict.fromkeys(c.service for c in group)),
            every=NEAR_EVERY if key in seldom else 1,
        )
        for key, group in groups.items()
    )


def choose_rate(targets: Iterable[Target], rate_per_s: float, most_per_s: float) -> float:
    """Return how often a moved leg's target is tried, so that all together are not too many."""
    load = sum(1 / t.every for t in targets)
    return min(rate_per_s, most_per_s / load) if load else rate_per_s


@cache
def _agent_source() -> str:
    return Path(__file__).with_name("watch_agent.py").read_text("utf-8")


def build_command(request: Mapping[str, Any]) -> str:
    """Return the agent and its request as one shell command: standard input stays free for words."""
    packed = base64.b64encode(zlib.compress(json.dumps(request).encode())).decode()
    script = f"{_agent_source()}\n\nmain({packed!r})\n"
    code = base64.b64encode(zlib.compress(script.encode(), 9)).decode()
    return f"exec python3 -I -S -c \"import base64,zlib;exec(zlib.decompress(base64.b64decode('{code}')))\""


@dataclass
class Session:
    """One station's session: what it has told, and what is wrong with it (empty: nothing)."""

    station: str
    targets: tuple[Target, ...]
    nonce: str = field(default_factory=lambda: secrets.token_hex(8))
    process: subprocess.Popen[bytes] | None = None
    problem: str = ""
    said: bytes = b""
    rest: bytes = b""
    lines: int = 0
    begun: dict[str, Any] = field(default_factory=dict)
    ended: dict[str, Any] = field(default_factory=dict)
    marks: dict[str, int] = field(default_factory=dict)
    """When each mark reached the station, in milliseconds of its watch."""
    seen: list[list[int]] = field(default_factory=list)
    """By target: when each probe was sent and how long it took, in turn (`watch_agent`)."""
    failed: list[int] = field(default_factory=list)
    at_ms: int = 0

    def __post_init__(self) -> None:
        self.seen = [[] for _ in self.targets]
        self.failed = [0] * len(self.targets)

    def take(self, data: bytes) -> None:
        """Read what came over the session."""
        *lines, self.rest = (self.rest + data).split(b"\n")
        for line in lines:
            words = line.decode("utf-8", "replace").split(" ", 3)
            if len(words) == 4 and words[:2] == [SENTINEL, self.nonce]:
                self._take_line(words[2], words[3])

    def _take_line(self, number: str, text: str) -> None:
        try:
            body = json.loads(text)
            if number != str(self.lines):
                raise ValueError(f"expected line {self.lines}, found {number}")
            self.lines += 1
            self.at_ms = int(body["at"])
            if "host" in body:
                self.begun = body
            if "end" in body:
                self.ended = body
            if "mark" in body:
                self.marks[str(body["mark"])] = self.at_ms
            for name, pairs in body.get("seen", {}).items():
                if len(pairs) % 2 or not all(isinstance(p, int) for p in pairs):
                    raise ValueError("expected pairs of numbers")
                self.seen[int(name)] += pairs
                self.failed[int(name)] += sum(took < 0 for took in pairs[1::2])
        except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
            self.problem = self.problem or f"the watch's own lines - expected all, readable, found {error}"

    def end(self) -> None:
        """Note that nothing more will come."""
        if not self.ended:
            code = 255
            with suppress(subprocess.TimeoutExpired):
                code = self.process.wait(_END_S) if self.process else code
            why = explain_exit(code, self.said.decode("utf-8", "replace"))
            self.problem = self.problem or (f"the watch was lost: {why}" if self.begun else why)
        elif self.ended["end"] != "told to":
            self.problem = self.problem or f"the watch - expected to last, found it ended itself ({self.ended['end']})"

    def samples(self, number: int) -> list[Sample]:
        """Return what was seen of a target, in seconds of the station's watch."""
        pairs = self.seen[number]
        return [
            Sample(sent / 1000, (sent + took) / 1000 if took > 0 else None)
            for sent, took in zip(pairs[::2], pairs[1::2], strict=True)
        ]


class Watching:
    """A watch from all stations of some targets; use as a context. Marks split it into windows.

    Everything but the reading happens in the caller's thread; `lock` guards what the reader fills in.
    """

    def __init__(self, targets: Sequence[Target], access: Access, *, rate_per_s: float, deadline_s: float) -> None:
        self.targets = tuple(targets)
        self.access, self.rate_per_s, self.deadline_s = access, rate_per_s, deadline_s
        by_station: dict[str, list[Target]] = defaultdict(list)
        for target in self.targets:
            by_station[target.station].append(target)
        self.sessions = {name: Session(name, tuple(own)) for name, own in by_station.items()}
        self._place = {t.id: (s, n) for s in self.sessions.values() for n, t in enumerate(s.targets)}
        self.lock = threading.Condition()
        self._selector = selectors.DefaultSelector()
        self._reader = threading.Thread(target=self._read, name="watch", daemon=True)
        self._open = 0
        self._stopping = False

    def __enter__(self) -> Self:
        """Start every station's session; come back when each has begun and watched for a while, or has failed."""
        try:
            for session in self.sessions.values():
                self._start(session)
            self._reader.start()
            with self.lock:
                self.lock.wait_for(lambda: all(s.begun or s.problem for s in self.sessions.values()), timeout=_START_S)
                for session in self.sessions.values():
                    if not session.begun:
                        session.problem = session.problem or f"the watch - expected begun in {_START_S:g} s, found none"
            time.sleep(max(BEFORE_S, 3 / self.rate_per_s))
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def mark(self, name: str) -> None:
        """Mark this moment at every station, each by its own clock; a station that does not answer is not known any more."""
        self._tell(f"mark {name}\n")
        with self.lock:
            self.lock.wait_for(
                lambda: all(name in s.marks or s.problem for s in self.sessions.values()), timeout=_ANSWER_S
            )
            for session in self.sessions.values():
                if name not in session.marks:
                    why = f"the watch - expected an answer in {_ANSWER_S:g} s, found none"
                    session.problem = session.problem or why

    def problem(self, target: Target) -> str:
        """Return why a target's station is not known; empty when it is."""
        return self.sessions[target.station].problem

    def outage(self, target: Target, since: str, until: str | None = None) -> Outage | None:
        """Return what a target's window from one mark to another (or to now) held; None when it had not begun."""
        session, number = self._place[target.id]
        with self.lock:
            if since not in session.marks:
                return None
            until_ms = session.marks.get(until, session.at_ms) if until else session.at_ms
            return measure_outage(session.samples(number), session.marks[since] / 1000, until_ms / 1000)

    def window_s(self, target: Target, since: str, until: str | None = None) -> float:
        """Return how long a window lasted at a target's station; 0 when it had not begun."""
        session = self.sessions[target.station]
        with self.lock:
            if since not in session.marks:
                return 0.0
            until_ms = session.marks.get(until, session.at_ms) if until else session.at_ms
            return max(0, until_ms - session.marks[since]) / 1000

    def failures(self, target: Target) -> int:
        """Return how many probes of a target failed so far."""
        session, number = self._place[target.id]
        return session.failed[number]

    def answers_now(self, target: Target) -> bool:
        """Tell whether the newest probes of a target that are known were good."""
        session, number = self._place[target.id]
        with self.lock:
            took = session.seen[number][1::2][-3:]
        return len(took) == 3 and all(t > 0 for t in took)

    def wait(self, timeout_s: float) -> None:
        """Wait for something new."""
        with self.lock:
            self.lock.wait(timeout=timeout_s)

    def raw(self, targets: Iterable[Target]) -> dict[str, Any]:
        """Return everything seen of some targets, and of their stations' sessions, as plain data."""
        wanted = list(targets)
        with self.lock:
            sessions = [self.sessions[name] for name in dict.fromkeys(t.station for t in wanted)]
            return {
                "rate_per_s": round(self.rate_per_s, 3),
                "timeout_s": TIMEOUT_S,
                "stations": {
                    s.station: {
                        "begun": s.begun,
                        "ended": s.ended,
                        "marks_ms": dict(s.marks),
                        "until_ms": s.at_ms,
                        "lines": s.lines,
                        "problem": s.problem,
                    }
                    for s in sessions
                },
                "targets": [
                    {**t.model_dump(mode="json"), "sent_took_ms": list(session.seen[number])}
                    for t in wanted
                    for session, number in [self._place[t.id]]
                ],
            }

    # --- sessions ---

    def _start(self, session: Session) -> None:
        address = self.access.addresses.get(session.station)
        if address is None:
            session.problem = str(no_address(session.station))
            return
        request = {
            "nonce": session.nonce,
            "rate_per_s": self.rate_per_s,
            "timeout_s": TIMEOUT_S,
            "patience_s": _PATIENCE_S,
            "deadline_s": self.deadline_s,
            "targets": [
                {"leg": t.interface, **t.model_dump(mode="json", exclude={"station", "plane", "services", "interface"})}
                for t in session.targets
            ],
        }
        command = [*ssh_command(self.access, address)[:-1], build_command(request)]
        try:
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
            )
        except OSError as error:
            session.problem = f"the OpenSSH client here - expected to start, found {error}"
            return
        session.process = process
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                os.set_blocking(stream.fileno(), False)
        self._selector.register(process.stdout, selectors.EVENT_READ, (session, True))  # type: ignore[arg-type]
        self._selector.register(process.stderr, selectors.EVENT_READ, (session, False))  # type: ignore[arg-type]
        self._open += 1

    def _read(self) -> None:
        """Read all sessions until each has ended, and let them know that somebody is there."""
        word_at = time.monotonic() + _WORD_EVERY_S
        while self._open:
            for key, _ in self._selector.select(_WORD_EVERY_S / 4):
                session, is_answer = key.data
                self._read_one(session, key.fd, is_answer=is_answer)
            if time.monotonic() >= word_at:
                word_at = time.monotonic() + _WORD_EVERY_S
                if not self._stopping:
                    self._tell("here\n")

    def _read_one(self, session: Session, handle: int, *, is_answer: bool) -> None:
        try:
            data = os.read(handle, 1 << 16)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        with self.lock:
            if data and is_answer:
                session.take(data)
            elif data:
                session.said = (session.said + data)[-_SAID:]
            else:
                self._selector.unregister(handle)
                if is_answer:
                    self._open -= 1
                    session.end()
            self.lock.notify_all()

    def _tell(self, text: str) -> None:
        for session in self.sessions.values():
            if session.process is not None and session.process.stdin is not None:
                with suppress(OSError, ValueError):  # a session that is gone says so itself
                    os.write(session.process.stdin.fileno(), text.encode())

    def _stop(self) -> None:
        """End all sessions; those that do not end by themselves are killed, here and, for want of words, there."""
        self._stopping = True
        self._tell("stop\n")
        started = [s.process for s in self.sessions.values() if s.process is not None]
        ends = time.monotonic() + _END_S
        for process in started:
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(0.05, ends - time.monotonic()))
        for process in started:
            if process.poll() is None:
                process.kill()
                process.wait()
        if self._reader.is_alive():
            self._reader.join(_END_S)
        for process in started:
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream is not None:
                    with suppress(OSError):
                        stream.close()
        self._selector.close()
