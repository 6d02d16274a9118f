"""Whatever happens to a station's session, every check has a result, and it never passes by accident."""

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from importlib.util import MAGIC_NUMBER
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inventory.access import Access
from nornir_tasks.stations import collect
from nornir_tasks.stations.agent import SENTINEL
from nornir_tasks.stations.collect import (
    StationUnmeasuredError,
    build_command,
    build_request,
    build_script,
    measure,
    measure_until,
    read_results,
    ssh_command,
    ssh_config,
)
from nornir_tasks.stations.model import Check, Outcome, Result
from tests.lab_fixture import skip_without_machine
from tests.nornir_tasks.stations.rig import BOOK, county, make_check
from tests.nornir_tasks.stations.sshd import OBEY, Sshd, make_key, running_sshd

lab = pytest.mark.lab
PASSED, FAILED, UNKNOWN = Outcome.PASSED, Outcome.FAILED, Outcome.UNKNOWN
NONCE = "0123456789abcdef"
TOLD_LATER = {"path", "return", "vantage"}
"""What the station leaves to whoever knows the plan."""


class Door:
    """A plain TCP service on the loopback that says who it is."""

    def __init__(self, port: int = 0) -> None:
        self.sock = socket.socket()
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.sock.bind(("127.0.0.1", port))
        self.port = self.sock.getsockname()[1]

    def open(self) -> None:
        """Begin to answer."""
        self.sock.listen(16)
        threading.Thread(target=self._answer, daemon=True).start()

    def shut(self) -> None:
        """Answer no more: a close alone would leave it listening while a thread waits in it."""
        self.sock.shutdown(socket.SHUT_RDWR)
        self.sock.close()

    def _answer(self) -> None:
        while True:
            try:
                client, _ = self.sock.accept()
            except OSError:
                return
            with client:
                client.sendall(b"finance ready\n")


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    """A station."""
    skip_without_machine()
    with running_sshd(tmp_path_factory.mktemp("sshd")) as server:
        yield server


@pytest.fixture
def station(sshd: Sshd) -> Iterator[Sshd]:
    """A station that behaves at the start of a test."""
    sshd.behave()
    yield sshd
    sshd.behave()


@pytest.fixture
def door() -> Iterator[Door]:
    """A service that is closed until a test opens it."""
    found = Door()
    yield found
    found.sock.close()


def make(port: int, station: str = "a", **changes: Any) -> Check:
    """Return a check of the loopback service from a station."""
    values = {"id": f"{station}/{port}", "station": station, "protocol": "tcp", "interface": "lo", "family": "ipv4"}
    return make_check(
        **{**values, "address": "127.0.0.1", "port": port, "resolver": None, "marker": "finance", **changes}
    )


def go(station: Sshd, *checks: Check, **options: Any) -> list[Result]:
    """Measure checks from the station."""
    access = options.pop("access", station.access)
    return measure(checks, county(), access, hops=BOOK, **options)


@lab
def test_results_come_in_the_order_of_the_checks(station: Sshd, door: Door) -> None:
    """Two stations, mixed: one result each, in order, with the station's clock compared and its name kept."""
    door.open()
    checks = [make(door.port, "b"), make(door.port, "a"), make(1, "b"), make(door.port, "a", id="again")]
    told: list[tuple[str, int]] = []
    results = go(station, *checks, on_station=lambda name, found: told.append((name, len(found))))
    assert [r.check for r in results] == checks
    assert [r.outcome for r in results] == [PASSED, PASSED, FAILED, PASSED]
    assert sorted(told) == [("a", 2), ("b", 2)]
    assert {r.raw["clock_skew_s"] for r in results} == {0.0}
    assert results[0].raw["host"] == socket.gethostname()


@lab
@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("echo hello", "agent: its answer - expected JSON, found 'hello'"),
        ("true", "agent: its answer - expected JSON, found nothing"),
        (f"( {OBEY[5:]} ) | head -c 120", "agent: its answer - expected JSON, found it cut short"),
        ("kill -9 $PPID", "ssh: the session - expected to last, found it ended early"),
        ("kill -9 $$", "ssh: the session - expected to last, found it ended early"),
        ("exit 127", "ssh: python3 on the station - expected 3.9 or later, found none; install it"),
        ("echo boom >&2; exit 3", "ssh: the agent - expected an answer, found exit 3 (boom)"),
        (f"echo '{SENTINEL} {NONCE} {{}}'", "agent: its answer - expected JSON, found"),
    ],
)
def test_a_session_without_an_answer_is_unknown(station: Sshd, door: Door, script: str, why: str) -> None:
    """Noise, nothing, half an answer, a killed session or agent, no Python, an answer to another request."""
    door.open()
    station.behave(script)
    results = go(station, make(door.port), make(door.port, id="second"))
    assert [r.outcome for r in results] == [UNKNOWN, UNKNOWN]
    assert results[0].why.startswith(why), results[0].why


@lab
def test_noise_around_the_answer_does_no_harm(station: Sshd, door: Door) -> None:
    """A greeting before and a farewell after the answer are not the answer."""
    door.open()
    station.behave(f"echo Welcome to the service station; ( {OBEY[5:]} ); echo '{{}}'; exit 1")
    assert go(station, make(door.port))[0].why == ""


@lab
def test_one_dead_station_does_not_cost_the_others(station: Sshd, door: Door) -> None:
    """The refused, the unreachable and the one without an address are unknown; the good one passes."""
    door.open()
    access = station.access
    addresses = {"a": "127.0.0.1", "b": "127.0.0.9"}
    results = go(
        station,
        make(door.port, "a"),
        make(door.port, "b"),
        make(door.port, "c"),
        access=access.model_copy(update={"addresses": addresses}),
    )
    assert [r.outcome for r in results] == [PASSED, UNKNOWN, UNKNOWN]
    assert "expected reachable, found" in results[1].why
    assert results[2].why == "ssh: address of c - expected one in the access file, found none"


@lab
def test_a_changed_host_key_stops_everything(station: Sshd, door: Door, tmp_path: Path) -> None:
    """Another key, or none on record: nothing is sent and all is unknown."""
    door.open()
    other = make_key(tmp_path / "other")
    for known in (f"[127.0.0.1]:{station.port} {other}", ""):
        (tmp_path / "known").write_text(known, "utf-8")
        access = station.access.model_copy(update={"known_hosts": str(tmp_path / "known")})
        (result,) = go(station, make(door.port), access=access)
        assert result.outcome is UNKNOWN
        assert result.why.startswith("ssh: host key - expected the known one, found another or none")


@lab
def test_a_refused_login_is_unknown(station: Sshd, door: Door, tmp_path: Path) -> None:
    """A key that the station does not take."""
    door.open()
    make_key(tmp_path / "other")
    (result,) = go(
        station, make(door.port), access=station.access.model_copy(update={"identity_file": str(tmp_path / "other")})
    )
    assert result.why.startswith("ssh: login - expected accepted, found refused")


@lab
def test_a_session_that_hangs_ends(station: Sshd, door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    """A station that says nothing is given up some seconds after its deadline."""
    door.open()
    station.behave("sleep 60")
    monkeypatch.setattr(collect, "GRACE_S", 1)
    began = time.monotonic()
    (result,) = go(station, make(door.port), deadline_s=1)
    assert time.monotonic() - began < 6
    assert result.why == "ssh: the session - expected an answer in 2 s, found none"


@lab
def test_a_callback_that_breaks_is_the_callers_error(station: Sshd, door: Door) -> None:
    """What the caller's own code raises comes back to the caller; it is no property of the station."""

    def broken(_station: str, _results: Sequence[Result]) -> None:
        raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        go(station, make(door.port), on_station=broken)


@lab
def test_what_passed_apart_must_pass_together(station: Sshd, door: Door) -> None:
    """While one comes up late only that one is asked again; then both once more, so that both held at one time."""
    early = Door()
    early.open()
    log = station.folder / "sessions"
    log.unlink(missing_ok=True)
    station.behave(f"echo x >> {log}; {OBEY}")
    tries: list[str] = []

    def told(name: str, _: Sequence[Result]) -> None:
        tries.append(name)
        if tries.count("a") == 2:
            door.open()

    checks = [make(early.port, "b"), make(door.port, "a")]
    results = measure_until(checks, county(), station.access, hops=BOOK, until_s=60, on_station=told)
    early.sock.close()
    assert [r.outcome for r in results] == [PASSED, PASSED]
    assert sorted(tries) == ["a", "a", "a", "a", "b", "b"]
    assert len(log.read_text("utf-8").split()) == 6


@lab
def test_one_that_dies_while_another_comes_up_fails(station: Sshd, door: Door) -> None:
    """Two services that were never up at one time are not proven, though each passed once."""
    early = Door()
    early.open()
    tries: list[str] = []
    closed: list[str] = []

    def told(name: str, _: Sequence[Result]) -> None:
        tries.append(name)
        if not closed and {"a", "b"} <= set(tries):
            closed.append(name)
            early.shut()
            door.open()

    checks = [make(early.port, "b"), make(door.port, "a")]
    results = measure_until(checks, county(), station.access, hops=BOOK, until_s=8, on_station=told)
    assert [r.outcome for r in results] == [FAILED, PASSED]


@lab
def test_waiting_ends_with_its_time(station: Sshd) -> None:
    """What never passes is given back as it was last, soon after the time is over."""
    began = time.monotonic()
    (result,) = measure_until([make(1)], county(), station.access, hops=BOOK, until_s=3)
    assert time.monotonic() - began < 12
    assert result.outcome is FAILED


# --- without a session ---


def test_no_checks_give_no_results_and_nobody_is_asked() -> None:
    """An empty run is empty; the caller's gates call that a failure."""
    access = Access(target="lab", name="t", known_hosts="k", addresses={})
    assert measure([], county(), access, hops=BOOK) == []


def test_the_operators_ssh_file_counts_only_in_the_field() -> None:
    """A lab needs nothing of it; in the field it may name the jump host."""
    lab_access = Access(target="lab", name="t", known_hosts="/k", addresses={}, identity_file="/i")
    field = lab_access.model_copy(update={"target": "field"})
    assert "-F" in ssh_command(lab_access, "::1")
    assert "-F" not in ssh_command(field, "::1")
    for options in (
        " ".join(ssh_command(field, "::1")),
        ssh_config(field, "s", "::1").replace(' "', "=").replace('"', ""),
    ):
        for wanted in ("BatchMode=yes", "StrictHostKeyChecking=yes", "UserKnownHostsFile=/k", "IdentitiesOnly=yes"):
            assert wanted in options


@pytest.mark.parametrize("magic", [MAGIC_NUMBER, b"another"])
def test_the_agent_runs_on_pythons_that_take_our_bytecode_or_not(magic: bytes) -> None:
    """As bytecode where it fits, as source on any other Python: the same answer."""
    access = Access(target="lab", name="t", known_hosts="k", addresses={})
    request, nonce = build_request([make_check(interface="nowhere")], access, county(), 5.0)
    script = build_script(request)
    assert repr(MAGIC_NUMBER) in script
    script = script.replace(repr(MAGIC_NUMBER), repr(magic))
    done = subprocess.run([sys.executable, "-I", "-S", "-"], input=script, capture_output=True, text=True, check=True)
    (line,) = done.stdout.split("\n")[1:2]
    assert line.startswith(f"{SENTINEL} {nonce} ")
    assert [c["id"] for c in json.loads(line.split(" ", 2)[2])["checks"]] == [make_check().id]


def test_a_command_fits_into_one_argument() -> None:
    """Linux takes 128 KiB an argument (execve(2)): the agent and three hundred checks stay well below."""
    access = Access(target="lab", name="t", known_hosts="k", addresses={})
    request, _ = build_request([make(n, id=f"a-long-station-name/{n}") for n in range(300)], access, county(), 30)
    assert len(build_command(request)) < 100_000


def answer(told: Sequence[Check], **changes: Any) -> str:
    """Return what a good agent would print."""
    now = time.time()
    rows = [
        {
            "id": c.id,
            "raw": {},
            "at": now,
            "findings": [
                {"aspect": a, "outcome": "passed", "detail": "well", "ms": 1.0} for a in c.asks if a not in TOLD_LATER
            ],
            "trace": {"hops": [], "reached": True},
        }
        for c in told
    ]
    document = {"format": 1, "started": now, "ended": now, "host": "a", "checks": rows, **changes}
    return f"{SENTINEL} {NONCE} {json.dumps(document)}\n"


def read(checks: Sequence[Check], text: str) -> list[Result]:
    """Read an answer that came within ten seconds."""
    now = time.time()
    return read_results(checks, text, nonce=NONCE, hops=BOOK, county=county(), window=(now - 5, now + 5))


def test_a_check_missing_from_the_answer_is_unknown() -> None:
    """An agent that leaves a check out has not passed it."""
    checks = [make(1), make(2)]
    found = read(checks, answer(checks[:1]))
    assert [r.outcome for r in found] == [PASSED, UNKNOWN]
    assert found[1].why == "agent: its answer - expected this check, found it missing"


@pytest.mark.parametrize(("ahead_s", "words"), [(3600, "3600 s ahead"), (-90, "90 s behind"), (1, "")])
def test_a_stations_clock_is_compared(ahead_s: float, words: str) -> None:
    """A clock outside the session's window is measured and said; inside it is as good as ours."""
    now = time.time() + ahead_s
    (found,) = read([make(1)], answer([make(1)], started=now, ended=now))
    assert found.raw["clock_skew_s"] == pytest.approx(ahead_s if words else 0, abs=3)
    assert words in found.raw.get("clock", "")
    assert bool(found.raw.get("clock")) == bool(words)


def test_findings_decide_and_nothing_else() -> None:
    """Failed beats unknown, unknown beats passed, and no finding at all is unknown."""

    def row(*outcomes: str) -> dict[str, Any]:
        findings = [{"aspect": "tcp", "outcome": o, "detail": o, "ms": None} for o in outcomes]
        return {"id": "a/1", "raw": {}, "at": 1.0, "findings": findings, "trace": {}}

    cases = {(): UNKNOWN, ("passed",): PASSED, ("passed", "unknown"): UNKNOWN, ("unknown", "failed"): FAILED}
    for outcomes, expected in cases.items():
        (found,) = read([make(1, trace=False, marker="")], answer([], checks=[row(*outcomes)]))
        assert found.outcome is expected
        assert bool(found.why) == (expected is not PASSED)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["id", "findings", "raw", "trace", "at", "hops", "outcome", "aspect", "x"]), inner
        )
    ),
    max_leaves=12,
)


@given(st.lists(JSON, max_size=3), JSON)
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_no_answer_passes_by_accident(rows: list[Any], other: Any) -> None:
    """Whatever an agent sends, there is a result for each check, and none passes without findings of its own."""
    checks = [make(1), make(2, trace=False)]
    rows = [{**row, "id": checks[n % 2].id} if isinstance(row, dict) else row for n, row in enumerate(rows)]
    found = read(checks, answer([], checks=rows, started=other, ended=other))
    assert [r.check for r in found] == checks
    assert all(r.outcome is not PASSED for r in found)


@given(st.text(max_size=200))
def test_no_text_is_taken_for_an_answer(text: str) -> None:
    """Text without the request's own line is refused, never read."""
    with pytest.raises(StationUnmeasuredError):
        read([make(1)], text)
