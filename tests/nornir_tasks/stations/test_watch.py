"""Watching from a station, on real routers and over a real OpenSSH session: what was gone is seen, and what was lost said."""

from __future__ import annotations

import ast
import json
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from nornir_tasks.stations import watch_agent
from nornir_tasks.stations.outage import Outage, measure_outage
from nornir_tasks.stations.watch import Session, Target, Watching, build_command, choose_targets
from nornir_tasks.stations.watch_agent import NO_LEG, NO_ROUTE, REFUSED, SENTINEL, SILENT
from tests.lab_fixture import ROOT, skip_without_machine
from tests.nornir_tasks.stations.rig import DNS6, WEB4, WEB6, Rig, make_check
from tests.nornir_tasks.stations.sshd import OBEY, Sshd, running_sshd

lab = pytest.mark.lab
NAMES = {"finance.example AAAA": [WEB6]}
PORT = 1521


_WATCH_AND_DIE = """
import os, signal, sys
sys.path.insert(0, ".")
from inventory.access import Access
from nornir_tasks.stations.watch import Target, Watching
access, *targets = sys.argv[1:]
with Watching(
    [Target.model_validate_json(t) for t in targets], Access.model_validate_json(access), rate_per_s=10, deadline_s=60
) as found:
    found.mark("change")
    assert not any(found.problem(t) for t in found.targets)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def target(**changes: Any) -> Target:
    """Return one target of the rig's finance service."""
    return choose_targets([make_check(**{"protocol": "tcp", "port": PORT, **changes})])[0]


def test_each_port_that_moves_is_watched_by_itself() -> None:
    """A filter on one port of a server is felt though another answers; of what is near one port stands for all."""
    web, other, pay = make_check("finance"), make_check("finance-files"), make_check("finance-pay", port=1521)
    assert [t.services for t in choose_targets([web, other, pay])] == [("finance", "finance-files"), ("finance-pay",)]
    assert [t.services for t in choose_targets([], [web, pay])] == [("finance", "finance-pay")]
    assert [t.every for t in choose_targets([pay], [web])] == [1]


@pytest.fixture(scope="module")
def services(rig: Rig) -> Iterator[Rig]:
    """The rig with a service on both families, and a name server."""
    plain = {"kind": "plain", "port": PORT, "text": ""}
    with rig.serving(
        {**plain, "address": "::"},
        {**plain, "address": "0.0.0.0"},
        {"kind": "names", "address": DNS6, "answers": NAMES},
    ):
        yield rig


class Agent:
    """The agent, run in the rig's station as it is run over SSH, and what it has told so far."""

    def __init__(self, rig: Rig, *targets: Target, **changes: Any) -> None:
        self.session = Session("s", targets)
        request = {
            "nonce": self.session.nonce,
            "rate_per_s": 20,
            "timeout_s": 0.5,
            "patience_s": 20,
            "deadline_s": 30,
            "targets": [{"leg": t.interface, **t.model_dump(mode="json")} for t in targets],
            **changes,
        }
        self.process = subprocess.Popen(
            [*rig.inside("station"), "sh", "-c", build_command(request)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self.changed = threading.Condition()
        self.reader = threading.Thread(target=self._read)
        self.reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        while data := os.read(self.process.stdout.fileno(), 65536):
            with self.changed:
                self.session.take(data)
                self.changed.notify_all()

    def until(self, what: Callable[[], Any]) -> None:
        """Wait until something is told."""
        with self.changed:
            assert self.changed.wait_for(what, timeout=20), self.session

    def say(self, text: str) -> None:
        """Say a word."""
        assert self.process.stdin is not None
        self.process.stdin.write(text.encode() + b"\n")
        self.process.stdin.flush()

    def mark(self, name: str) -> None:
        """Mark, and wait for the answer."""
        self.say(f"mark {name}")
        self.until(lambda: name in self.session.marks)

    def await_probes(self, count: int) -> None:
        """Wait until every target was tried so many times more."""
        wanted = [len(seen) + 2 * count for seen in self.session.seen]
        self.until(lambda: all(len(s) >= w for s, w in zip(self.session.seen, wanted, strict=True)))

    def outage(self, number: int, since: str, until: str) -> Outage:
        """Return what a window held."""
        marks = self.session.marks
        return measure_outage(self.session.samples(number), marks[since] / 1000, marks[until] / 1000)

    def took(self, number: int = 0) -> list[int]:
        """Return how long each probe of a target took, or why it failed."""
        return self.session.seen[number][1::2]

    def end(self) -> None:
        """Close the session and wait."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.wait(10)
        self.reader.join(10)
        self.process.stdout.close()


@contextmanager
def running(rig: Rig, *targets: Target, **changes: Any) -> Iterator[Agent]:
    """Run the agent for a block."""
    agent = Agent(rig, *targets, **changes)
    try:
        yield agent
    finally:
        agent.end()


@lab
def test_a_scripted_outage_is_seen_whole_and_only_where_it_was(services: Rig) -> None:
    """A way that is cut for a while: at least that long, closed; the other family and the name server felt nothing."""
    ways = target(family="ipv4"), target(), target(protocol="dns", address=DNS6, port=53)
    with running(services, *ways) as agent:
        agent.await_probes(5)
        agent.mark("change")
        with services.filtered("far", "forward", f"ip daddr {WEB4} tcp dport {PORT} drop"):
            agent.mark("cut")
            agent.await_probes(20)
            agent.mark("mended")
        agent.await_probes(20)
        agent.mark("end")
        cut, *untouched = (agent.outage(n, "change", "end") for n in range(3))
        marks = agent.session.marks
        assert cut.worked
        assert not cut.open
        assert len(cut.gaps) == 1
        assert cut.total_s >= (marks["mended"] - marks["cut"]) / 1000
        assert set(agent.took(0)) & {SILENT}
        assert [(o.worked, o.total_s) for o in untouched] == [(True, 0.0)] * 2
    assert agent.session.ended["end"] == "session ended"
    assert agent.session.problem == ""


@lab
@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"port": 9}, REFUSED),
        ({"interface": "mute"}, SILENT),
        ({"interface": "none9"}, NO_LEG),
        ({"interface": "bare"}, NO_ROUTE),
        ({"protocol": "dns", "service": "dns", "port": 53, "address": DNS6, "dns_name": "other.example"}, -5),
    ],
)
def test_why_a_probe_failed_is_told(services: Rig, changes: dict[str, Any], reason: int) -> None:
    """A closed port, no answer, no such leg, no route, a name that is not there: each by its own number, none as good."""
    with running(services, target(**changes)) as agent:
        agent.await_probes(3)
        assert set(agent.took()) == {reason}


@lab
def test_probes_that_hang_delay_no_other(services: Rig) -> None:
    """Beside a target that never answers, the other is tried as often, and what hangs is let go in its time."""
    with running(services, target(interface="mute"), target()) as agent:
        agent.await_probes(40)
        agent.mark("end")
        hanging, good = agent.took(0), agent.took(1)
        assert set(hanging) == {SILENT}
        assert all(t > 0 for t in good)
        assert len(good) >= len(hanging)
        sent = agent.session.seen[1][0::2]
        # Its moments are those of the clock, however long it runs: turn by turn, a twentieth of a second each.
        assert sent[-1] // 50 >= len(sent) - 1


@lab
@pytest.mark.parametrize(
    ("changes", "act", "why"),
    [
        ({"patience_s": 0.5}, lambda _a: None, "nobody there"),
        ({"deadline_s": 0.5}, lambda _a: None, "deadline"),
        ({}, lambda a: a.say("stop"), "told to"),
        ({}, lambda a: a.process.stdin.close(), "session ended"),
    ],
)
def test_it_ends_when_it_must(services: Rig, changes: dict[str, Any], act: Callable[[Agent], Any], why: str) -> None:
    """Nobody heard for a while, the deadline, a word, a closed session: each ends it, by name, with what was seen."""
    with running(services, target(), **changes) as agent:
        agent.until(lambda: agent.session.begun)
        act(agent)
        agent.process.wait(10)
        agent.reader.join(10)
        assert agent.session.ended["end"] == why
        assert agent.process.returncode == 0


@lab
def test_a_session_that_takes_nothing_delays_no_probe(services: Rig) -> None:
    """While nobody reads, probes go on; what waits is told afterwards in one piece, and bounded before that."""
    agent = Agent(services, *[target()] * 40, rate_per_s=20)
    try:
        with agent.changed:  # the reader stops here
            time.sleep(2.5)
        agent.mark("end")
        sent = agent.session.seen[0][0::2]
        assert max(b - a for a, b in pairwise(sent)) < 2000
        assert agent.session.problem == ""
    finally:
        agent.end()


def test_the_agent_needs_no_more_than_python_3_9() -> None:
    """It is read by the oldest Python of a station, and imports nothing but the standard library."""
    source = Path(watch_agent.__file__).read_text("utf-8")
    tree = ast.parse(source, feature_version=(3, 9))
    names = {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    assert names <= {
        "base64",
        "collections",
        "errno",
        "json",
        "os",
        "select",
        "socket",
        "struct",
        "sys",
        "time",
        "zlib",
    }
    assert len(build_command({"targets": []})) < 20_000


# --- the session's lines ---


def say(session: Session, number: int, **body: Any) -> bytes:
    """Write a line as the agent does."""
    return f"{SENTINEL} {session.nonce} {number} {json.dumps({'at': 5, **body})}\n".encode()


def test_lines_may_come_in_pieces_and_among_noise() -> None:
    """Half a line waits for its other half; a banner or another's answer is passed over."""
    session = Session("s", (target(),))
    text = b"Welcome\n" + say(session, 0, host="h") + f"{SENTINEL} other 0 {{}}\n".encode()
    text += say(session, 1, seen={"0": [1, 2, 3, -1]})
    for at in range(0, len(text), 7):
        session.take(text[at : at + 7])
    assert (session.problem, session.seen, session.failed, session.lines) == ("", [[1, 2, 3, -1]], [1], 2)


@pytest.mark.parametrize(
    "line",
    [
        lambda s: say(s, 2, seen={}),
        lambda s: say(s, 1, seen={"7": [1, 2]}),
        lambda s: say(s, 1, seen={"0": [1]}),
        lambda s: say(s, 1, seen={"0": [1, "2"]}),
        lambda s: say(s, 1, seen=[]),
        lambda s: f"{SENTINEL} {s.nonce} 1 {{broken\n".encode(),
    ],
)
def test_a_missing_or_broken_line_makes_the_watch_unknown(line: Callable[[Session], bytes]) -> None:
    """What is not all there is not believed."""
    session = Session("s", (target(),))
    session.take(say(session, 0, host="h"))
    session.take(line(session))
    assert session.problem.startswith("the watch's own lines - expected all, readable")


# --- over SSH ---


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    """A station on the loopback."""
    skip_without_machine()
    with running_sshd(tmp_path_factory.mktemp("sshd")) as server:
        yield server


@pytest.fixture
def station(sshd: Sshd) -> Iterator[Sshd]:
    """A station that behaves at the start of a test."""
    sshd.behave()
    yield sshd
    sshd.behave()


def watching(station: Sshd, *names: str, **changes: Any) -> Watching:
    """Watch the station's own sshd from the named stations."""
    targets = [
        target(
            station=name, id=name, interface="lo", family="ipv4", address="127.0.0.1", port=station.port, resolver=None
        )
        for name in names or ("a",)
    ]
    return Watching(targets, **{"access": station.access, "rate_per_s": 10.0, "deadline_s": 60.0, **changes})


def await_end(mark: str) -> None:
    """Wait until no process with this in its environment is left."""

    def has_mark(process: Path) -> bool:
        with suppress(OSError):
            return mark.encode() in (process / "environ").read_bytes()
        return False

    for _ in range(200):
        left = [process.name for process in Path("/proc").glob("[0-9]*") if has_mark(process)]
        if not left:
            return
        time.sleep(0.05)
    raise AssertionError(f"still running: {left}")


@pytest.fixture
def marked(station: Sshd) -> str:
    """Have every session's processes carry a mark, by which they are found again."""
    mark = f"WATCH_TEST={secrets.token_hex(8)}"
    station.behave(f"export {mark}; {OBEY}")
    return mark


@lab
def test_a_watch_over_ssh_knows_what_it_saw_and_leaves_nothing(station: Sshd, marked: str) -> None:
    """Two stations: both windows known, at the rate asked for; afterwards no session and no agent is left."""
    with watching(station, "a", "b") as found:
        found.mark("change")
        time.sleep(1.5)
        found.mark("end")
        for one in found.targets:
            outage = found.outage(one, "change", "end")
            assert outage is not None
            assert (found.problem(one), outage.worked, outage.total_s) == ("", True, 0.0)
            assert outage.probes >= 5
            assert found.answers_now(one)
    await_end(marked)
    assert [s.ended["end"] for s in found.sessions.values()] == ["told to"] * 2
    assert len(found.raw(found.targets)["targets"][0]["sent_took_ms"]) >= 10


@lab
def test_a_session_killed_on_the_way_is_unknown_and_keeps_what_was_seen(station: Sshd, marked: str) -> None:
    """Kill -9 of the SSH client: the agent ends, what it told stays, and the station is not known."""
    with watching(station, "a", "b") as found:
        found.mark("change")
        lost, kept = found.targets
        session = found.sessions["a"]
        assert session.process is not None
        os.kill(session.process.pid, signal.SIGKILL)
        found.mark("end")
        assert found.problem(lost).startswith("the watch was lost: ")
        assert found.problem(kept) == ""
        outage = found.outage(lost, "change", "end")
        assert outage is not None
        assert outage.worked
    await_end(marked)


@lab
def test_a_killed_controller_leaves_nothing_at_the_stations(station: Sshd, marked: str) -> None:
    """Kill -9 of whoever watches, with no time to say a word: the sessions end, and the agents with them."""
    found = watching(station, "a", "b")
    told = [found.access.model_dump_json(), *(t.model_dump_json() for t in found.targets)]
    done = subprocess.run([sys.executable, "-P", "-c", _WATCH_AND_DIE, *told], cwd=ROOT, timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL
    await_end(marked)


@lab
@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("exit 127", "python3 on the station - expected 3.9 or later, found none; install it"),
        ("echo boom >&2; exit 3", "the agent - expected an answer, found exit 3 (boom)"),
        ("kill -9 $PPID", "the session - expected to last, found it ended early"),
        (f"( {OBEY[5:]} ) | head -c 90", "the "),
    ],
)
def test_a_station_that_cannot_be_watched_says_why(station: Sshd, script: str, why: str) -> None:
    """No Python, an error, a killed session, half an answer: a problem in words, at once."""
    station.behave(script)
    with watching(station) as found:
        assert found.problem(found.targets[0]).startswith(why), found.problem(found.targets[0])
        assert found.outage(found.targets[0], "change") is None


@lab
def test_a_station_without_an_address_cannot_be_watched(station: Sshd) -> None:
    """Nobody said how to reach it: that is said, and the other is watched."""
    with watching(station, "a", "z") as found:
        problems = [found.problem(t) for t in found.targets]
    assert problems[0] == ""
    assert "address of z" in problems[1]
