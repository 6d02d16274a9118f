"""Measure the county on this machine: lab boot, push and verify, beside loops that a user would write by hand.

`./scripts/bench` boots the lab of a county several times: three towns, then the whole county, fresh before each way
of pushing, so that every way starts from the same routers. `extranet` is measured as a user runs it, as a command. What
the loops do, and what they leave out, stands in docs/benchmarks.md; `--write` puts the numbers there.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import platform
import re
import shlex
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from pydantic import Field

from inventory.errors import ExtranetError
from inventory.model import Model

if TYPE_CHECKING:
    from inventory.access import Access
    from migration.campaign import Campaign
    from nornir_tasks.stations.model import Check

ROOT = Path(__file__).resolve().parent.parent
DOCUMENT = ROOT / "docs" / "benchmarks.md"
BEGIN, END = "<!-- numbers: begin (./scripts/bench --write) -->", "<!-- numbers: end -->"

SMALL_TOWNS = 3
SMALL_GOAL_S, WHOLE_GOAL_S, MEMORY_GOAL_MIB = 8, 30, 6 * 1024
AT_ONCE = 8
"""How many the parallel loops do at a time: what extranet's own runners do."""
SAMPLE_STATIONS, SAMPLE_A_STATION = 6, 10
REPEATS = 5
STATIONS_AT_ONCE = 16
"""Sessions with stations at a time: what `extranet verify` does."""
PATIENCE_S = 180
QUIET_SHARE, QUIET_S = 0.10, 3

_EXTRANET = str(Path(sys.executable).with_name("extranet"))
_APPLYING = re.compile(r"\d+/\d+ commit, ")
_ALL_CHECKED = re.compile(r"(\d+)/\1 check, ")
_KNOWN_ALREADY = "as just measured"
_ALL_ANSWERED = re.compile(r"(\d+)/\1 stations answered")
T = TypeVar("T")


class BenchError(ExtranetError):
    """Something did not do what a measurement needs; no number is better than a wrong one."""

    exit_code = 4


class Machine(Model):
    """What the numbers depend on."""

    cores: int
    processor: str
    memory_mib: int
    kernel: str
    system: str
    python: str
    frr: str
    netmiko: str
    testinfra: str
    vrf_backend: str = ""


class Measurement(Model):
    """One thing measured. `seconds` is wall time, `cpu_s` processor time of all that took part; extrapolated ones say so.

    `load` is the machine's load average (one minute) before, `busy_before` its processors' busy share in the second
    before, and `busy` that share during the measurement, whoever used them.
    """

    name: str
    seconds: float
    extrapolated: bool = False
    phases: dict[str, float] = Field(default_factory=dict)
    facts: dict[str, Any] = Field(default_factory=dict)
    cpu_s: float | None = None
    load: float = 0.0
    busy_before: float = 0.0
    busy: float = 0.0


class Report(Model):
    """A whole run."""

    date: str
    scope: str
    machine: Machine
    measurements: tuple[Measurement, ...]

    def find(self, name: str) -> Measurement | None:
        """Return a measurement by name."""
        return next((m for m in self.measurements if m.name == name), None)


# --- the machine -----------------------------------------------------------------------------------------------------


class Ticks(NamedTuple):
    """Processor time since boot: all of it, and the idle part."""

    total: int
    idle: int

    def busy_since(self, before: Ticks) -> float:
        """Return the busy share between two readings."""
        total = self.total - before.total
        return 1 - (self.idle - before.idle) / total if total > 0 else 0.0


def read_ticks() -> Ticks:
    """Read the machine's processor time."""
    fields = [int(n) for n in Path("/proc/stat").read_text("ascii").split("\n", 1)[0].split()[1:9]]
    return Ticks(total=sum(fields), idle=fields[3] + fields[4])


def available_mib() -> float:
    """Return how much memory could still be given to programs."""
    line = next(x for x in Path("/proc/meminfo").read_text("ascii").splitlines() if x.startswith("MemAvailable:"))
    return int(line.split()[1]) / 1024


def describe_machine() -> Machine:
    """Return the facts of this machine; no host name, no path."""
    from importlib.metadata import version

    found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text("utf-8"), re.MULTILINE)
    memory = re.search(r"^MemTotal:\s*(\d+)", Path("/proc/meminfo").read_text("ascii"), re.MULTILINE)
    frr = subprocess.run(["dpkg-query", "-W", "-f", "${Version}", "frr"], capture_output=True, text=True, check=False)
    release = platform.freedesktop_os_release()
    return Machine(
        cores=os.cpu_count() or 0,
        processor=found[1].strip() if found else platform.machine(),
        memory_mib=int(memory[1]) // 1024 if memory else 0,
        kernel=re.split(r"-(?=[^\d])", platform.release())[0],
        system=release.get("PRETTY_NAME", "Linux"),
        python=platform.python_version(),
        frr=frr.stdout.strip() or "?",
        netmiko=version("netmiko"),
        testinfra=version("pytest-testinfra"),
    )


def wait_until_quiet(limit_s: float) -> tuple[float, float]:
    """Wait until the processors have been idle for a while, or the time is over; return load average and busy share."""
    ends = time.monotonic() + limit_s
    quiet = 0
    while True:
        before = read_ticks()
        time.sleep(1)
        share = read_ticks().busy_since(before)
        quiet = quiet + 1 if share <= QUIET_SHARE else 0
        if quiet >= QUIET_S or time.monotonic() >= ends:
            return os.getloadavg()[0], share


class Meter:
    """Counts the processor time of everything the bench starts, labs included, whoever else uses the machine.

    By a control group of its own; where there is none to be had, nothing is counted.
    """

    def __init__(self) -> None:
        self.group: Path | None = None
        self.home: Path | None = None
        unified = Path("/sys/fs/cgroup/cgroup.controllers").exists()
        base = Path("/sys/fs/cgroup" if unified else "/sys/fs/cgroup/cpuacct")
        self._file, self._unit_s = ("cpu.stat", 1e-6) if unified else ("cpuacct.usage", 1e-9)
        group = base / f"extranet-bench-{os.getpid()}"
        try:
            group.mkdir()
            self.group, self.home = group, base / _own_group(unified=unified)
            self._move(group)
            self.read()
        except (OSError, ValueError):
            self.close()

    def read(self) -> float | None:
        """Return processor seconds so far."""
        if self.group is None:
            return None
        return int(re.findall(r"\d+", (self.group / self._file).read_text("ascii"))[0]) * self._unit_s

    def close(self) -> None:
        """Go back to where we were, and remove the group: its processes have ended."""
        if self.group is None or self.home is None:
            return
        with contextlib.suppress(OSError):
            self._move(self.home)
        for _ in range(50):
            try:
                self.group.rmdir()
                break
            except OSError:
                time.sleep(0.1)
        self.group = None

    @staticmethod
    def _move(group: Path) -> None:
        (group / "cgroup.procs").write_text(str(os.getpid()), "ascii")


def _own_group(*, unified: bool) -> str:
    for line in Path("/proc/self/cgroup").read_text("ascii").splitlines():
        _, names, path = line.split(":", 2)
        if (unified and not names) or "cpuacct" in names.split(","):
            return path.lstrip("/")
    raise ValueError("no such control group")


# --- measuring -------------------------------------------------------------------------------------------------------


def say(text: str) -> None:
    """Tell a person how far we are."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


class Bench:
    """One run: what was measured, in order."""

    def __init__(self, folder: Path, towns: int | None, patience_s: float = PATIENCE_S) -> None:
        self.folder, self.towns, self.patience_s = folder, towns, patience_s
        self.county = folder / "county"
        self.measurements: list[Measurement] = []
        self.vrf_backend = ""
        self.meter = Meter()

    @property
    def scope(self) -> str:
        """How much of the county, for people."""
        if self.towns is None:
            return "the whole county"
        return "the first town" if self.towns == 1 else f"the first {self.towns} towns"

    # --- one measurement ---

    def measure(self, name: str, work: Callable[[], tuple[float, dict[str, float], dict[str, Any]]]) -> Measurement:
        """Wait for a quiet machine, do the work (which returns seconds, phases and facts), and keep what it took.

        The fact `times` says how many of what is reported were measured: less than one when it is extrapolated.
        """
        load, share = wait_until_quiet(self.patience_s)
        before, used_s = read_ticks(), self.meter.read()
        seconds, phases, facts = work()
        used_now_s, times = self.meter.read(), facts.pop("times", 1)
        cpu_s = None if used_s is None or used_now_s is None else round((used_now_s - used_s) / times, 2)
        extrapolated = times < 1
        found = Measurement(
            name=name,
            seconds=round(seconds, 3),
            extrapolated=extrapolated,
            phases={k: round(v, 3) for k, v in phases.items()},
            facts=facts,
            cpu_s=cpu_s,
            load=round(load, 2),
            busy_before=round(share, 2),
            busy=round(read_ticks().busy_since(before), 2),
        )
        self.measurements.append(found)
        parts = ", ".join(f"{k} {v:.1f}" for k, v in found.phases.items())
        told = f"  {name}: {found.seconds:.2f} s, {cpu_s} processor seconds{' (extrapolated)' if extrapolated else ''}"
        told += f" (load before {load:.2f}, processors {share:.0%} busy; during {found.busy:.0%})"
        say(told + (f": {parts}" if parts else "") + (f"; {facts}" if facts else ""))
        return found

    def command(self, name: str, *arguments: str, expect: Sequence[int] = (0,), repeats: int = 1) -> Measurement:
        """Measure an extranet command's wall time: the median of some runs."""

        def work() -> tuple[float, dict[str, float], dict[str, Any]]:
            times = []
            for _ in range(repeats):
                seconds, _ = self.run(*arguments, expect=expect)
                times.append(seconds)
            spread = {"least": round(min(times), 3), "most": round(max(times), 3)} if repeats > 1 else {}
            return statistics.median(times), {}, {"times": repeats, **spread}

        return self.measure(name, work)

    def run(self, *arguments: str, expect: Sequence[int] = (0,), county: bool = True) -> tuple[float, str]:
        """Run an extranet command; return its seconds and output. Any other exit code ends the whole run."""
        where = ["--county", str(self.county)] if county and arguments[0] not in {"--help", "init"} else []
        began = time.perf_counter()
        done = subprocess.run([_EXTRANET, *arguments, *where], capture_output=True, text=True, check=False)
        seconds = time.perf_counter() - began
        if done.returncode not in expect:
            raise BenchError(_unexpected(arguments, done.returncode, done.stderr or done.stdout))
        return seconds, done.stdout

    # --- the parts ---

    def go(self) -> None:
        """Measure everything."""
        say("commands that need no lab")
        self.run("init", str(self.county))
        self.command("help", "--help", repeats=REPEATS)
        self.command("survey", "survey", "check", repeats=REPEATS)
        self.command("plan", "plan", "addresses", repeats=REPEATS)

        say(f"lab of {SMALL_TOWNS} towns")
        self.boot("boot small", SMALL_TOWNS)
        self.command("down small", "lab", "down")

        whole = self.scope
        say(f"lab of {whole}: push by extranet")
        self.boot("boot", self.towns)
        self.diff("diff before")
        self.push()
        self.diff("diff after")
        self.verify()
        say("the same checks by hand-written loops")
        self.verify_by_hand()
        self.echoes()
        self.command("down", "lab", "down")

        for name, how, at_once in (
            ("push by netmiko", push_by_netmiko, 1),
            ("push by netmiko, parallel", push_by_netmiko, AT_ONCE),
            ("push by ssh", push_by_ssh, 1),
            ("push by ssh, parallel", push_by_ssh, AT_ONCE),
        ):
            say(f"lab of {whole}, fresh: {name}")
            self.boot(f"boot before {name}", self.towns)
            self.push_by_hand(name, how, at_once)
            self.run("lab", "down")

    def boot(self, name: str, towns: int | None) -> None:
        """Measure `lab up` by phase, and the memory that the lab then takes."""
        some = [] if towns is None else ["--towns", str(towns)]

        free = available_mib()

        def work() -> tuple[float, dict[str, float], dict[str, Any]]:
            seconds, text = self.run("lab", "up", "--json", *some)
            told = json.loads(text)
            self.vrf_backend = told["vrf_backend"]
            return seconds, {t["phase"]: t["seconds"] for t in told["timings"]}, {"nodes": told["nodes"]}

        self.measure(name, work)
        used = free - available_mib()
        _, text = self.run("lab", "status", "--json", expect=(0, 1))
        now = json.loads(text)
        kinds = [n["kind"] for n in now["nodes"]]
        self.add_facts(
            **{f"{kind}s": kinds.count(kind) for kind in ("router", "station", "server")},
            up=sum(n["state"] == "up" for n in now["nodes"]),
            processes_mib=round(now["memory_bytes"] / 2**20),
            machine_mib=round(used),
        )

    def add_facts(self, **facts: Any) -> None:
        """Add what was found after the last measurement."""
        last = self.measurements[-1]
        self.measurements[-1] = last.model_copy(update={"facts": last.facts | facts})
        say(f"    {facts}")

    def diff(self, name: str) -> None:
        """Measure `config diff` over all routers."""

        def work() -> tuple[float, dict[str, float], dict[str, Any]]:
            seconds, text = self.run("config", "diff", "--json", expect=(0, 1))
            told = json.loads(text)
            return seconds, {}, {"devices": len(told["diffs"]), "different": len(told["different"])}

        self.measure(name, work)

    def push(self) -> None:
        """Measure `config push --yes`, with its phases read off its progress lines."""

        def work() -> tuple[float, dict[str, float], dict[str, Any]]:
            began = time.perf_counter()
            with subprocess.Popen(
                [_EXTRANET, "config", "push", "--yes", "--county", str(self.county)],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            ) as process:
                if process.stderr is None or process.stdout is None:
                    raise BenchError("extranet config push - expected its output, found none")
                lines = [(time.perf_counter() - began, line) for line in process.stderr]
                out = process.stdout.read()
            seconds = time.perf_counter() - began
            if process.returncode != 0:
                said = out.strip() or "".join(line for _, line in lines[-20:])
                raise BenchError(_unexpected(["config", "push", "--yes"], process.returncode, said))
            kept = [int(n) for n in re.findall(r": (\d+) changed", out)]
            return seconds, push_phases(lines, seconds), {"domains": len(kept), "changed": sum(kept)}

        self.measure("push", work)

    def verify(self) -> None:
        """Measure `verify`: the whole matrix, and by the pytest suite."""

        def work() -> tuple[float, dict[str, float], dict[str, Any]]:
            seconds, text = self.run("verify", "--json", expect=(0, 1))
            told = json.loads(text)
            keys = ("checks", "passed", "failed", "unknown")
            return seconds, {"measuring": told["seconds"]}, {k: told[k] for k in keys}

        self.measure("verify", work)

        def suite() -> tuple[float, dict[str, float], dict[str, Any]]:
            command = [sys.executable, "-P", "-m", "pytest", "-q", "--tb=no", "-p", "no:cacheprovider"]
            command += ["--extranet-county", str(self.county)]
            began = time.perf_counter()
            done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, check=False)
            seconds = time.perf_counter() - began
            last = (done.stdout.strip().splitlines() or ["nothing"])[-1]
            if done.returncode not in {0, 1}:
                raise BenchError(_unexpected(["pytest", "--extranet-county"], done.returncode, done.stdout))
            counts = {word: int(n) for n, word in re.findall(r"(\d+) (passed|failed|error)", last)}
            return seconds, {}, counts

        self.measure("verify by extranet's pytest suite", suite)

    def verify_by_hand(self) -> None:
        """Measure one command a check, on a sample, and extrapolate to the whole matrix."""
        campaign = self.campaign()
        checks = campaign.matrix.checks
        config = self.folder / "ssh_config"
        config.write_text(_ssh_configs(campaign), "utf-8")
        sample = choose_sample([c for c in checks if c.unit is None])
        total, stations = len(checks), len({c.station for c in checks})
        for name, command, at_once in (
            ("verify by ssh, port only", port_command, 1),
            ("verify by ssh, port only, parallel", port_command, AT_ONCE),
            ("verify by ssh, answer", answer_command, 1),
            ("verify by ssh, answer, parallel", answer_command, AT_ONCE),
        ):
            self.measure(name, partial(verify_by_ssh, config, sample, command, at_once, total))
        for name, ask in (
            ("verify by testinfra, port only", ask_port_by_testinfra),
            ("verify by testinfra, answer", ask_answer_by_testinfra),
        ):
            self.measure(
                name,
                partial(verify_by_testinfra, config, self.folder, sample, ask, total=total, stations=stations),
            )

    def echoes(self) -> None:
        """Measure the echo requests alone, one session a station: by fping, the floor, and by the stations' agent."""
        campaign = self.campaign()
        config = self.folder / "ssh_config"
        config.write_text(_ssh_configs(campaign), "utf-8")
        ways = list_ways(campaign.matrix.checks)
        self.measure("echoes by fping", partial(echo_by_fping, config, ways, campaign))
        self.measure("echoes by the agent", partial(echo_by_agent, campaign, ways))

    def push_by_hand(self, name: str, how: Callable[[Access, str, str], None], at_once: int) -> None:
        """Push the same files by a plain loop; then ask extranet what the loop left different."""
        campaign = self.campaign()
        from migration.moves import intended_configs
        from migration.provision import choose_devices

        configs = intended_configs(campaign, choose_devices(campaign, None), frozenset())
        access = campaign.access

        def work() -> tuple[float, dict[str, float], dict[str, Any]]:
            began = time.perf_counter()
            failed = run_loop(configs.items(), lambda item: how(access, *item), at_once)
            return time.perf_counter() - began, {}, {"devices": len(configs), "errors": failed}

        self.measure(name, work)
        _, text = self.run("config", "diff", "--json", expect=(0, 1, 4))
        self.add_facts(different=len(json.loads(text)["different"]))

    def campaign(self) -> Campaign:
        """Open the county as the lab has it now."""
        from migration.campaign import open_campaign

        return open_campaign(self.county)

    def report(self) -> Report:
        """Return everything measured."""
        machine = describe_machine().model_copy(update={"vrf_backend": self.vrf_backend})
        return Report(
            date=time.strftime("%Y-%m-%d", time.gmtime()),
            scope=self.scope,
            machine=machine,
            measurements=tuple(self.measurements),
        )


def _unexpected(arguments: Sequence[str], code: int, said: str) -> str:
    words = said.strip().splitlines()[-5:]
    return f"extranet {' '.join(arguments)} - expected to work, found exit {code}: {' / '.join(words)}"


def push_phases(lines: Sequence[tuple[float, str]], seconds: float) -> dict[str, float]:
    """Return seconds by phase from a push's progress lines, each with its moment; phases of the same name are added."""
    marks: list[tuple[float, str]] = [(0.0, "start")]
    for at, line in lines:
        text, now = line.strip(), marks[-1][1]
        if text.startswith("· before"):
            # The towns' is that of the cores' proof: nobody is asked anew.
            marks.append((at, "check" if text.endswith(_KNOWN_ALREADY) else "what works today"))
        elif text.startswith("· prove"):
            marks.append((at, "prove"))
        elif _ALL_ANSWERED.match(text) and now == "what works today":
            marks.append((at, "check"))
        elif _ALL_ANSWERED.match(text) and now == "prove":
            marks.append((at, "record and confirm"))
        elif _ALL_ANSWERED.match(text) and now == "record and confirm":
            marks[-1] = (at, now)  # it was still proving
        elif now == "check" and (_APPLYING.match(text) or _ALL_CHECKED.match(text)):
            marks.append((at, "arm and apply"))
    out: dict[str, float] = {}
    for (at, name), (until, _) in zip(marks, [*marks[1:], (seconds, "")], strict=True):
        out[name] = out.get(name, 0.0) + until - at
    return out


def run_loop(items: Any, work: Callable[[Any], None], at_once: int) -> int:
    """Do the work for each item, one after the other or some at a time; return how many raised."""
    failed = 0
    lock = threading.Lock()

    def one(item: Any) -> None:
        nonlocal failed
        try:
            work(item)
        except Exception as error:  # noqa: BLE001 - a loop that goes on is what is measured; errors are counted and shown
            with lock:
                failed += 1
            say(f"  {type(error).__name__}: {str(error).strip().splitlines()[:1]}")

    if at_once == 1:
        for item in items:
            one(item)
    else:
        with ThreadPoolExecutor(at_once) as pool:
            list(pool.map(one, items))
    return failed


# --- pushing by hand -------------------------------------------------------------------------------------------------


def config_lines(text: str) -> list[str]:
    """Return what a user types of a configuration: no blank lines, no separators."""
    return [line.strip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("!")]


def push_by_netmiko(access: Access, device: str, config: str) -> None:
    """Log in with netmiko, open vtysh, send the lines, save: the loop of every tutorial."""
    from netmiko import ConnectHandler, redispatch

    session = ConnectHandler(
        device_type="linux",
        host=access.addresses[device],
        username=access.user,
        use_keys=True,
        key_file=access.identity_file,
        ssh_strict=True,
        alt_host_keys=True,
        alt_key_file=access.known_hosts,
        allow_agent=False,
    )
    try:
        session.write_channel("vtysh\n")
        session.read_until_pattern(pattern=r"# ?$")
        redispatch(session, device_type="cisco_ios")
        session.send_config_set(config_lines(config), read_timeout=60)
        session.send_command("write memory", read_timeout=60)
    finally:
        session.disconnect()


def push_by_ssh(access: Access, device: str, config: str) -> None:
    """Send the whole file over ssh for vtysh to read, and save: the loop of a shell script."""
    from nornir_tasks.stations.collect import ssh_command

    command = ssh_command(access, access.addresses[device])[:-1]
    script = "cat >/run/new.conf && vtysh -f /run/new.conf && vtysh -c 'write memory'"
    done = subprocess.run([*command, script], input=config, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchError(f"{device}: exit {done.returncode}: {done.stderr.strip()[-200:]}")


# --- verifying by hand -----------------------------------------------------------------------------------------------


def choose_sample(
    checks: Sequence[Check], stations: int = SAMPLE_STATIONS, each: int = SAMPLE_A_STATION
) -> dict[str, list[Check]]:
    """Return checks by station: stations spread evenly over the county, and the checks of each spread evenly."""
    by_station: dict[str, list[Check]] = {}
    for check in checks:
        by_station.setdefault(check.station, []).append(check)
    return {name: spread(by_station[name], each) for name in spread(list(by_station), stations)}


def spread(items: Sequence[T], number: int) -> list[T]:
    """Return that many items at even distances, first to last; all when there are not more."""
    if len(items) <= number:
        return list(items)
    return [items[i * len(items) // number] for i in range(number)]


def port_command(check: Check) -> str:
    """Return the shortest command that says whether a port is open: by whatever leg, and nothing about who answers."""
    return f"timeout 3 bash -c '</dev/tcp/{check.address}/{check.port}'"


def answer_command(check: Check) -> str:
    """Return a one-liner that binds to the leg, checks the certificate and looks for the right back end's words."""
    family = "AF_INET6" if check.family.value == "ipv6" else "AF_INET"
    lines = [
        "import socket,ssl",
        f"s=socket.socket(socket.{family})",
        f"s.setsockopt(socket.SOL_SOCKET,25,b'{check.interface}')",
        "s.settimeout(3)",
        f"s.connect(('{check.address}',{check.port}))",
    ]
    if check.protocol == "https":
        ask = f"GET {check.path} HTTP/1.1\\r\\nHost: {check.dns_name}\\r\\nConnection: close\\r\\n\\r\\n"
        lines += [
            "c=ssl.create_default_context(cafile='/etc/extranet/ca.pem')",
            f"s=c.wrap_socket(s,server_hostname='{check.dns_name}')",
            f"s.sendall(b'{ask}')",
            "d=b''",
            "while 1:\n m=s.recv(4096)\n d+=m\n if not m: break",
        ]
    elif check.protocol == "tcp":
        lines += ["d=s.recv(4096)"]
    if check.protocol in {"https", "tcp"} and check.marker:
        lines += [f"assert b'{check.marker}' in d"]
    return "python3 -c " + shlex.quote("\n".join(lines))


def verify_by_ssh(
    config: Path, sample: dict[str, list[Check]], command: Callable[[Check], str], at_once: int, total: int
) -> tuple[float, dict[str, float], dict[str, Any]]:
    """Log in once a check; extrapolate to all checks."""
    good: list[bool] = []

    def ask(check: Check) -> None:
        done = subprocess.run(
            ["ssh", "-F", str(config), check.station, command(check)], capture_output=True, check=False
        )
        if done.returncode == 255:
            raise BenchError(f"{check.station}: ssh failed")
        good.append((done.returncode == 0) == (check.expect == "reach"))

    # Interleaved, as whoever runs a list of checks does not group it by station either.
    checks = [c for row in zip(*sample.values(), strict=False) for c in row]
    began = time.perf_counter()
    failed = run_loop(checks, ask, at_once)
    took = time.perf_counter() - began
    each = took / len(checks)
    facts = {
        "times": len(checks) / total,
        "sample": len(checks),
        "sample_s": round(took, 2),
        "a_check_s": round(each, 3),
        "as_expected": sum(good),
        "errors": failed,
    }
    return each * total, {}, facts


def ask_port_by_testinfra(host: Any, check: Check) -> bool:
    """Ask as testinfra's own module does."""
    return bool(host.addr(check.address).port(check.port).is_reachable)


def ask_answer_by_testinfra(host: Any, check: Check) -> bool:
    """Run the same one-liner as the ssh loop."""
    return bool(host.run(answer_command(check)).rc == 0)


def verify_by_testinfra(
    config: Path,
    folder: Path,
    sample: dict[str, list[Check]],
    ask: Callable[[Any, Check], bool],
    *,
    total: int,
    stations: int,
) -> tuple[float, dict[str, float], dict[str, Any]]:
    """Run a command a check over one lasting connection a station; logins and checks are extrapolated apart."""
    import testinfra

    logging.getLogger("testinfra").setLevel(logging.ERROR)
    paths = folder / "masters"
    paths.mkdir(mode=0o700, exist_ok=True)
    login, asking, number, good = 0.0, 0.0, 0, 0
    for station, checks in sample.items():
        host = testinfra.get_host(f"ssh://{station}", ssh_config=str(config), controlpath=f"{paths}/%%C")
        try:
            began = time.perf_counter()
            host.run("true")
            login += time.perf_counter() - began
            for check in checks:
                began = time.perf_counter()
                worked = ask(host, check)
                asking += time.perf_counter() - began
                number += 1
                good += worked == (check.expect == "reach")
        finally:
            leave = ["ssh", "-F", str(config), "-o", f"ControlPath={paths}/%C", "-O", "exit", station]
            subprocess.run(leave, capture_output=True, check=False)
    whole = asking / number * total + login / len(sample) * stations
    facts = {
        "times": (login + asking) / whole,
        "sample": number,
        "sample_s": round(login + asking, 2),
        "a_check_s": round(asking / number, 3),
        "a_login_s": round(login / len(sample), 3),
        "as_expected": good,
        "errors": 0,
    }
    return whole, {}, facts


ECHO_ROUNDS = 5
Way = tuple[str, str, str, str]
"""Of an echo request: leg, family, the leg's own address, and whose is asked."""


def list_ways(checks: Sequence[Check]) -> dict[str, list[Way]]:
    """Return each way that must be open once, by station; those that wait for a unit are left out."""
    found: dict[str, dict[Way, None]] = {}
    for check in checks:
        if check.expect == "reach" and check.unit is None:
            way = (check.interface, check.family.value, check.source, check.address)
            found.setdefault(check.station, {})[way] = None
    return {station: list(ways) for station, ways in found.items()}


def fping_command(ways: Sequence[Way], count: int, interval_ms: int) -> str:
    """Return the shell line that sends a burst over every way of a station: an fping for each leg and family, at once."""
    legs: dict[tuple[str, str], list[str]] = {}
    for leg, family, _, address in ways:
        legs.setdefault((leg, family), []).append(address)
    runs = [
        f"fping -{family[-1]} -q -I {shlex.quote(leg)} -c {count} -p {interval_ms} -i 1 {' '.join(addresses)} 2>&1 &"
        for (leg, family), addresses in legs.items()
    ]
    return " ".join([*runs, "wait"])


def echo_by_fping(
    config: Path, ways: dict[str, list[Way]], campaign: Campaign
) -> tuple[float, dict[str, float], dict[str, Any]]:
    """Send every burst by fping, as many stations at a time as extranet asks."""
    terms = campaign.county.policy.probing
    whole: list[int] = []

    def ask(station: str) -> None:
        line = fping_command(ways[station], terms.echo_count, terms.echo_interval_ms)
        done = subprocess.run(["ssh", "-F", str(config), station, line], capture_output=True, text=True, check=False)
        whole.append(len(re.findall(r"%loss = (\d+)/\1/0%", done.stdout)))

    return _echo_rounds(ways, ask, whole)


def echo_by_agent(campaign: Campaign, ways: dict[str, list[Way]]) -> tuple[float, dict[str, float], dict[str, Any]]:
    """Send the same bursts by the stations' agent."""
    from nornir_tasks.stations.collect import ask_for_ways

    whole: list[int] = []

    def ask(station: str) -> None:
        asked = [
            {"id": str(n), "leg": leg, "family": family, "source": "", "address": address, "way": ["icmp"]}
            for n, (leg, family, _, address) in enumerate(ways[station])
        ]
        rows = ask_for_ways(station, asked, campaign.county, campaign.access)
        whole.append(sum(r["raw"]["echo"]["answered"] == r["raw"]["echo"]["sent"] for r in rows))

    return _echo_rounds(ways, ask, whole)


def _echo_rounds(
    ways: dict[str, list[Way]], ask: Callable[[str], None], whole: list[int]
) -> tuple[float, dict[str, float], dict[str, Any]]:
    """Ask all stations a few times over; return the median of the times, and the ways without a loss in an average round."""
    took, failed = [], 0
    for _ in range(ECHO_ROUNDS):
        began = time.perf_counter()
        failed += run_loop(ways, ask, STATIONS_AT_ONCE)
        took.append(time.perf_counter() - began)
    facts = {"stations": len(ways), "ways": sum(map(len, ways.values())), "times": ECHO_ROUNDS, "errors": failed}
    return statistics.median(took), {}, {**facts, "whole": sum(whole) // ECHO_ROUNDS}


def _ssh_configs(campaign: Campaign) -> str:
    """Return one ssh configuration for all stations."""
    from nornir_tasks.stations.collect import ssh_config

    access = campaign.access
    names = [s.id for s in campaign.county.stations if s.id in access.addresses]
    return "\n".join(ssh_config(access, name, access.addresses[name]) for name in names)


# --- what is written -------------------------------------------------------------------------------------------------


def render(report: Report) -> str:
    """Return the tables of docs/benchmarks.md."""
    return "\n\n".join(
        part
        for part in (
            _machine(report),
            _commands(report),
            _boots(report),
            _pushes(report),
            _verifies(report),
            _echoes(report),
        )
        if part
    )


def _machine(report: Report) -> str:
    m = report.machine
    vrf = "one network namespace each" if m.vrf_backend == "netns" else "VRF devices"
    rows = [
        ("processors", f"{m.cores} ({m.processor})"),
        ("memory", f"{m.memory_mib / 1024:.0f} GiB"),
        ("system", f"{m.system}, kernel {m.kernel}, FRR {m.frr}, Python {m.python}"),
        ("VRFs", vrf),
        ("measured", f"{report.date}, {report.scope}"),
    ]
    others = sorted(x.busy_before for x in report.measurements) or [0.0]
    busy = f"{statistics.median(others):.0%} in the median, {others[-1]:.0%} at most"
    rows.append(("processors busy with other work before a measurement", busy))
    return _table("### The machine", ("", ""), rows)


def _commands(report: Report) -> str:
    rows = []
    for name, shown in (
        ("help", "`extranet --help`"),
        ("survey", "`extranet survey check`"),
        ("plan", "`extranet plan addresses`"),
    ):
        if (m := report.find(name)) is not None:
            rows.append((shown, _s(m.seconds), _cpu(m)))
    title = f"### Commands without a lab (median of {REPEATS})"
    return _table(title, ("command", "seconds", "processor seconds"), rows)


def _boots(report: Report) -> str:
    rows = []
    for name, shown, goal in (
        ("boot small", f"{SMALL_TOWNS} towns", SMALL_GOAL_S),
        ("boot", report.scope, WHOLE_GOAL_S if report.scope == "the whole county" else None),
    ):
        m = report.find(name)
        if m is None:
            continue
        f = m.facts
        down = report.find("down small" if name == "boot small" else "down")
        count = f"{f['routers']} routers, {f['stations']} stations, {f['servers']} servers"
        phases = ", ".join(f"{k} {v:.1f}" for k, v in m.phases.items() if v >= 0.05)
        memory = f"{f['processes_mib']} MiB ({f['machine_mib']} MiB with the kernel's)"
        took = (_s(m.seconds), str(goal or "-"), _cpu(m))
        rows.append((shown, count, *took, memory, _s(down.seconds) if down else "-", phases))
    again = [m.seconds for m in report.measurements if m.name == "boot" or m.name.startswith("boot before")]
    text = _table(
        "### Lab boot",
        (
            "`extranet lab up`",
            "nodes",
            "seconds",
            "goal",
            "processor seconds",
            f"memory (goal {MEMORY_GOAL_MIB} MiB)",
            "`lab down`",
            "phases",
        ),
        rows,
    )
    if len(again) > 1:
        text += f"\n\nThe lab of {report.scope} was booted {len(again)} times: {min(again):.1f} to {max(again):.1f} s."
    return text


def _pushes(report: Report) -> str:
    own = report.find("push")
    if own is None:
        return ""
    after = report.find("diff after")
    left = str(after.facts["different"]) if after else "-"
    rows = [("`extranet config push --yes`", _s(own.seconds), "1", _cpu(own), left)]
    work = own.phases.get("check", 0.0) + own.phases.get("arm and apply", 0.0)
    rows.append(("… of which check, arm, apply and read back", _s(work), _ratio(work, own.seconds), "", ""))
    for name, shown in (
        ("push by netmiko", "netmiko, line by line, a router after the other"),
        ("push by netmiko, parallel", f"netmiko, line by line, {AT_ONCE} routers at a time"),
        ("push by ssh", "`ssh ROUTER vtysh -f`, a router after the other"),
        ("push by ssh, parallel", f"`ssh ROUTER vtysh -f`, {AT_ONCE} routers at a time"),
    ):
        if (m := report.find(name)) is not None:
            failed = f" ({m.facts['errors']} gave an error)" if m.facts["errors"] else ""
            took = (_s(m.seconds), _ratio(m.seconds, own.seconds), _cpu(m))
            rows.append((shown + failed, *took, str(m.facts["different"])))
    best, checks = report.find("push by ssh, parallel"), report.find("verify by ssh, answer, parallel")
    if best is not None and checks is not None:
        shown = "the same, with every check before and after it by ssh and a Python line, 8 at a time"
        seconds = best.seconds + 2 * checks.seconds
        cpu = _s((best.cpu_s or 0) + 2 * (checks.cpu_s or 0)) if best.cpu_s is not None else "-"
        rows.append((shown, f"≈ {seconds:.0f}", _ratio(seconds, own.seconds), cpu, str(best.facts["different"])))
    text = _table(
        f"### Push: {own.facts['changed']} routers",
        ("how", "seconds", "× extranet", "processor seconds", "routers left different from what was wanted"),
        rows,
    )
    phases = ", ".join(f"{k} {v:.1f}" for k, v in own.phases.items() if v >= 0.05)
    text += f"\n\nThe push's seconds by phase: {phases}."
    before = report.find("diff before")
    if before is not None and after is not None:
        text += (
            f" `extranet config diff` of {before.facts['devices']} routers took {_s(before.seconds)} s before it "
            f"({before.facts['different']} different) and {_s(after.seconds)} s after it ({after.facts['different']})."
        )
    return text


def _verifies(report: Report) -> str:
    own = report.find("verify")
    if own is None:
        return ""
    full = "name, port, certificate, answer, loss, size and path both ways; from the right leg"
    total = own.facts["checks"]
    rows = [("`extranet verify`", full, _s(own.seconds), "1", _cpu(own), "all", "all")]
    if (m := report.find("verify by extranet's pytest suite")) is not None:
        took = (_s(m.seconds), _ratio(m.seconds, own.seconds), _cpu(m))
        rows.append(("`pytest --extranet-county DIR`", full, *took, "all", "all"))
    port, answer = "port, by whatever leg", "port, certificate, answer; from the right leg"
    for name, shown, what in (
        ("verify by ssh, port only", "ssh a check, `/dev/tcp`, one after the other", port),
        ("verify by ssh, port only, parallel", f"ssh a check, `/dev/tcp`, {AT_ONCE} at a time", port),
        ("verify by ssh, answer", "ssh a check, a Python line, one after the other", answer),
        ("verify by ssh, answer, parallel", f"ssh a check, a Python line, {AT_ONCE} at a time", answer),
        ("verify by testinfra, port only", "testinfra `host.addr(…).port(…)`", port),
        ("verify by testinfra, answer", "testinfra `host.run`, a Python line", answer),
    ):
        if (m := report.find(name)) is not None:
            of = f"{m.facts['sample']} in {m.facts['sample_s']} s"
            right = f"{m.facts['as_expected']} of {m.facts['sample']}"
            took = (f"≈ {m.seconds:.0f}", _ratio(m.seconds, own.seconds), _cpu(m))
            rows.append((shown, what, *took, of, right))
    head = ("how", "what it measures", "seconds", "× extranet", "processor seconds", "measured", "judged right")
    return _table(f"### Verify: {total} checks", head, rows)


def _echoes(report: Report) -> str:
    floor, own = report.find("echoes by fping"), report.find("echoes by the agent")
    if floor is None or own is None:
        return ""
    rows = [
        (shown, _s(m.seconds), _ratio(m.seconds, floor.seconds), _cpu(m), f"{m.facts['whole']} of {m.facts['ways']}")
        for shown, m in (("fping", floor), ("the stations' agent (goal 1.5)", own))
    ]
    head = ("how", "seconds", "× fping", "processor seconds", "ways without a loss")
    stations = floor.facts["stations"]
    return _table(
        f"### Echo requests alone: a burst over each way, a session with each of {stations} stations; "
        f"medians of {ECHO_ROUNDS} rounds",
        head,
        rows,
    )


def _s(seconds: float) -> str:
    return f"{seconds:.2f}" if seconds < 10 else f"{seconds:.1f}"


def _cpu(measured: Measurement) -> str:
    return "-" if measured.cpu_s is None else _s(measured.cpu_s)


def _ratio(seconds: float, own: float) -> str:
    if not own:
        return "-"
    ratio = seconds / own
    return f"{ratio:.0f}" if ratio >= 10 else f"{ratio:.1f}" if ratio >= 1 else f"{ratio:.2f}"


def _table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return ""
    lines = [f"| {' | '.join(head)} |", f"| {' | '.join('---' for _ in head)} |"]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    return f"{title}\n\n" + "\n".join(lines)


def put_numbers(document: str, numbers: str) -> str:
    """Return the document with the county's numbers replaced."""
    return put_between(document, numbers, BEGIN, END)


def put_between(document: str, numbers: str, mark: str, end_mark: str) -> str:
    """Return the document with what stands between two marks replaced."""
    head, begin, rest = document.partition(mark)
    _, end, tail = rest.partition(end_mark)
    if not begin or not end:
        raise BenchError(f"{DOCUMENT.name}: expected the marks {mark!r} and {end_mark!r}, found none; put them back")
    return f"{head}{begin}\n\n{numbers}\n\n{end}{tail}"


# --- the command -----------------------------------------------------------------------------------------------------


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="scripts/bench", description="Measure lab boot, push and verify beside hand-written loops. Needs root."
    )
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--towns", type=_positive, metavar="N", help="only the first N towns, for a quick look")
    size.add_argument("--full", action="store_true", help="the whole county (the default)")
    parser.add_argument(
        "--patience",
        type=int,
        default=PATIENCE_S,
        metavar="S",
        help="wait so long for a quiet machine before each measurement",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything measured here")
    parser.add_argument("--write", action="store_true", help="put the numbers into docs/benchmarks.md")
    return parser.parse_args(arguments)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("expected at least one town")
    return number


@contextlib.contextmanager
def _labs_end(bench: Bench) -> Iterator[None]:
    """Take the lab down whatever happens, also when told to end."""

    def interrupt(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        subprocess.run([_EXTRANET, "lab", "down", "--county", str(bench.county)], capture_output=True, check=False)
        bench.meter.close()


def main() -> None:
    """Measure, print the tables, and write what was asked for."""
    options = parse_arguments()
    from inventory.files import write_whole

    try:
        if options.write:
            put_numbers(DOCUMENT.read_text("utf-8"), "")  # rather now than after twenty minutes
        with tempfile.TemporaryDirectory(prefix="extranet-bench-") as name:
            bench = Bench(Path(name), options.towns, options.patience)
            with _labs_end(bench):
                bench.go()
            report = bench.report()
        if options.json is not None:
            write_whole(options.json, report.model_dump_json(indent=1) + "\n")
        numbers = render(report)
        print(numbers)
        if options.write:
            write_whole(DOCUMENT, put_numbers(DOCUMENT.read_text("utf-8"), numbers))
    except ExtranetError as error:
        say(str(error))
        raise SystemExit(error.exit_code) from None
    except KeyboardInterrupt:
        say("interrupted; the lab was taken down")
        raise SystemExit(4) from None


if __name__ == "__main__":
    main()
