"""A pytest plugin for a county's CI: one test for each check of each station, measured from the station over SSH.

`pytest --extranet-county DIR` collects `STATION::PLANE-SERVICE-FAMILY` (what is blocked: `PLANE-!SERVICE-FAMILY`). The
first test has all stations measured, many at a time, all selected tests of a station in one session, by pytest-testinfra;
each test waits for its own station alone. What fails or is unknown fails, and a run that measured nothing fails. Without
the option nothing is imported and nothing changes.

`--extranet-units` takes only what stands on those units' LANs: a pipeline follows what is cut over, and the JUnit report
names the units that were left out.

What a station's session saw is one run of evidence: recorded where the county has a ledger, and kept as a file with
`--extranet-evidence DIR`. Each test's JUnit properties name its evidence (`evidence`) and its own result (`result`), both
by digest.
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from inventory.access import Access
    from inventory.model import County
    from migration.campaign import Campaign
    from migration.evidence import Bound, Evidence
    from migration.matrix import Matrix
    from nornir_tasks.stations.hops import HopBook
    from nornir_tasks.stations.model import Check, Result

_COUNTY, _STATIONS, _EVIDENCE = "extranet_county", "extranet_stations", "extranet_evidence"
_UNITS = "extranet_units"
LEFT_OUT = "units_left_out"
"""The JUnit property that names the units whose checks were not run, because others were chosen."""
_WHOLE_STATIONS = ("no", "load", "loadscope", "loadfile", "loadgroup")
"""How xdist may share the tests out: a station's go to one worker, which asks it once."""
_PROPERTY = "extranet_check"
TIMED_OUT = 124
"""How timeout(1) says that it ended something."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("extranet", "checks from a county's service stations")
    group.addoption("--extranet-county", metavar="DIR", help="measure every check of this county from its stations")
    group.addoption("--extranet-stations", metavar="ID,…", help="only these stations")
    group.addoption(
        "--extranet-units", metavar="UNIT,…", help="only what the stations on these units' LANs need (network@site)"
    )
    group.addoption("--extranet-evidence", metavar="DIR", help="keep what was measured here, also without a ledger")


def pytest_configure(config: pytest.Config) -> None:
    """Take part only when a county is named."""
    folder = config.getoption(_COUNTY)
    if folder is None:
        for name in (_STATIONS, _UNITS, _EVIDENCE):
            if config.getoption(name) is not None:
                raise pytest.UsageError(f"--{name.replace('_', '-')}: of which county? add --extranet-county DIR")
        return
    share = config.getoption("dist", "no")
    if share not in _WHOLE_STATIONS:
        raise pytest.UsageError(
            f"--dist {share}: would ask a station from several workers; use {', '.join(_WHOLE_STATIONS[1:])}"
        )
    if not config.pluginmanager.hasplugin("xdist"):
        config.addinivalue_line("markers", "xdist_group(name): checks of one station run in one worker")
    config.pluginmanager.register(StationTests(config, Path(folder).resolve()), "extranet_station_tests")


def _read_names(config: pytest.Config, option: str, what: str) -> list[str] | None:
    """Return the names that an option lists; None where it was not given. An empty list chooses nothing, and is no choice."""
    given = config.getoption(option)
    if given is None:
        return None
    names = [n.strip() for n in given.split(",") if n.strip()]
    if not names:
        flag = f"--{option.replace('_', '-')}"
        raise pytest.UsageError(
            f"{flag} names no {what}: expected at least one, found {given!r}; name some or leave it out"
        )
    return names


class StationTests:
    """One run against one county."""

    def __init__(self, config: pytest.Config, folder: Path) -> None:
        from inventory.errors import ExtranetError
        from migration.campaign import open_campaign
        from migration.ledger import has_ledger

        self.config, self.folder = config, folder
        try:
            campaign = open_campaign(folder)
            self.recorded = has_ledger(folder)
            self.access: Access = campaign.access
            self.county: County = campaign.county
            names = _read_names(config, _STATIONS, "station")
            self.matrix: Matrix = campaign.matrix
            self.left_out: tuple[str, ...] = ()
            if (units := _read_names(config, _UNITS, "unit")) is not None:
                chosen = campaign.find_units(units)
                self.matrix = self.matrix.for_units(chosen)
                self.left_out = tuple(u.id for u in campaign.county.units if u not in chosen)
            if names is not None:
                self.matrix = self.matrix.for_stations(names)
        except ExtranetError as error:
            raise pytest.UsageError(str(error)) from error
        self.campaign: Campaign = campaign
        apart = config.getoption(_EVIDENCE)
        self.apart = None if apart is None else Path(apart).resolve()
        self.results: dict[str, Result] = {}
        self.kept: dict[str, str] = {}
        """Digests of evidence by station; empty where nothing was to be kept."""
        self.measurings: dict[str, Measuring] = {}
        """In which run each station is, or was, measured."""
        self.reported = 0
        self._collect_county()
        if config.getoption("dist", "no") == "load":
            config.option.dist = "loadscope"  # a station's tests go to one worker, so that it is asked once

    def _collect_county(self) -> None:
        """Collect the county's folder: alone, or beside what else was asked for.

        A test's own name (`STATION` or `STATION::TEST`) selects it; the choice travels to xdist's workers as an option.
        """
        option = self.config.option
        stations = set(self.matrix.stations)
        asked = [] if self.config.args_source is not pytest.Config.ArgsSource.ARGS else list(self.config.args)
        option.extranet_only = [
            *getattr(option, "extranet_only", ()),
            *(a for a in asked if a.split("::")[0] in stations),
        ]
        others = [a for a in asked if a.split("::")[0] not in stations]
        if not any(Path(a).resolve() == self.folder for a in others):
            others.append(str(self.folder))
        self.config.args[:] = others

    def wants(self, station: str, name: str) -> bool:
        """Tell whether a test was asked for; without names all are."""
        only = self.config.option.extranet_only
        return not only or station in only or f"{station}::{name}" in only

    @pytest.hookimpl(tryfirst=True)
    def pytest_collect_directory(self, path: Path, parent: pytest.Collector) -> pytest.Collector | None:
        """Collect the county's folder as its stations."""
        if path.resolve() != self.folder:
            return None
        found: pytest.Collector = CountyCollector.from_parent(parent, path=path, tests=self)
        return found

    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """Write the exceptions that stand, and the units left out, into the JUnit report, where one is written."""
        from _pytest.junitxml import xml_key

        from migration.standing import find_standing
        from nornir_tasks.stations.junit import EXCEPTIONS, join_exceptions

        report = session.config.stash.get(xml_key, None)  # as the fixture record_testsuite_property has it
        if report is not None and (lines := tuple(find_standing(self.campaign).lines())):
            report.add_global_property(EXCEPTIONS, join_exceptions(lines))
        if report is not None and self.left_out:
            report.add_global_property(LEFT_OUT, " ".join(self.left_out))

    def pytest_report_header(self) -> list[str]:
        """Say which county is measured, and how many of its units are not."""
        from inventory.wording import counted

        lines = [f"extranet: {self.folder}, {counted(len(self.matrix.checks), 'check')}"]
        if self.left_out:
            lines.append(f"extranet: {counted(len(self.left_out), 'unit')} left out by --extranet-units")
        return lines

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Count what was measured; with xdist the reports of all workers pass here."""
        if report.when == "call" and any(name == _PROPERTY for name, _ in report.user_properties):
            self.reported += 1

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Fail a run that measured nothing, whatever else passed in it; what is still to be asked is not asked."""
        for measuring in self.measurings.values():
            measuring.end()
        if hasattr(session.config, "workerinput") or session.config.getoption("collectonly"):
            return
        if not self.reported and session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
            session.exitstatus = pytest.ExitCode.NO_TESTS_COLLECTED

    def result_of(self, item: CheckItem) -> Result:
        """Return a check's result; the first test of a run has all stations measured, several at a time."""
        station = item.check.station
        if item.check.id not in self.results:
            if station not in self.measurings:
                self._begin(item)
            found, ended = self.measurings[station].wait_for(station)
            try:
                self.kept[station] = self._keep(found, self.measurings[station], ended)
            finally:
                self.results |= {r.check.id: r for r in found}
        return self.results[item.check.id]

    def _begin(self, item: CheckItem) -> None:
        """Begin to measure all that was selected; one of xdist's workers only the station whose turn it is."""
        alone = hasattr(self.config, "workerinput")
        items = (i for i in item.session.items if isinstance(i, CheckItem))
        chosen = [i.check for i in items if not alone or i.check.station == item.check.station]
        begun = Measuring(self.campaign, chosen, self.matrix.hops, kept=self.recorded or self.apart is not None)
        self.measurings |= dict.fromkeys((c.station for c in chosen), begun)

    def _keep(self, found: Sequence[Result], measuring: Measuring, ended: float) -> str:
        """Keep a station's results as evidence, bound to what the routers ran when it was measured; return its digest."""
        if measuring.bound is None:
            return ""
        from migration.evidence import write_evidence
        from migration.measuring import bind, devices_under_checks, keep, legacy_under_checks

        checks = [r.check for r in found]
        under = {*devices_under_checks(self.county, checks), *legacy_under_checks(self.campaign, checks)}
        bound = measuring.bound.result()
        own = bound.altered(configs={d: digest for d, digest in bound.configs.items() if d in under})
        evidence: Evidence = bind(self.campaign, found, bound=own, began=measuring.began, ended=ended)
        if self.recorded:
            keep(self.campaign, evidence)
        if self.apart is not None:
            write_evidence(self.apart, evidence)
        return evidence.digest


class Measuring:
    """Stations that are measured at once, from its making on; what the routers run is read at the same time."""

    def __init__(self, campaign: Campaign, chosen: Sequence[Check], hops: HopBook, *, kept: bool) -> None:
        self.campaign, self.chosen, self.hops = campaign, chosen, hops
        self.began = campaign.clock.now().timestamp()
        self.arrived: dict[str, SimpleQueue[tuple[Sequence[Result], float] | None]] = {
            c.station: SimpleQueue() for c in chosen
        }
        """What comes of each station once, and when; None when nothing will."""
        self.broken: BaseException | None = None
        self.sessions = SessionsByTestinfra(campaign.access)
        self.bound: Future[Bound] | None = self._read_bound() if kept else None
        threading.Thread(target=self._measure, daemon=True).start()

    def wait_for(self, station: str) -> tuple[Sequence[Result], float]:
        """Return a station's results, and when it was through."""
        found = self.arrived[station].get()
        if found is None:
            self.arrived[station].put(None)  # for its next test
            raise StationNotMeasuredError(station) from self.broken
        return found

    def end(self) -> None:
        """Ask no station that was not asked yet."""
        self.sessions.over.set()

    def _read_bound(self) -> Future[Bound]:
        from migration.measuring import devices_under_checks, legacy_under_checks, read_bound

        under = {*devices_under_checks(self.campaign.county, self.chosen)}
        under |= {*legacy_under_checks(self.campaign, self.chosen)}
        pool = ThreadPoolExecutor(max_workers=1)
        found: Future[Bound] = pool.submit(read_bound, self.campaign, under)
        pool.shutdown(wait=False)
        return found

    def _measure(self) -> None:
        """Measure, and hand on each station's results as they come."""
        from nornir_tasks.stations.collect import measure

        def take(station: str, found: Sequence[Result]) -> None:
            self.arrived[station].put((found, self.campaign.clock.now().timestamp()))

        try:
            measure(
                self.chosen,
                self.campaign.county,
                self.campaign.access,
                hops=self.hops,
                on_station=take,
                transport=self.sessions,
            )
        except BaseException as error:  # noqa: BLE001 - raised in the tests of all stations that wait
            self.broken = error
        finally:
            for queue in self.arrived.values():
                queue.put(None)


class CountyCollector(pytest.Directory):
    """A county's folder: its stations."""

    def __init__(self, *, tests: StationTests, **kwargs: Any) -> None:
        self.tests = tests
        super().__init__(**kwargs)

    def collect(self) -> Iterator[pytest.Collector]:
        """Yield the stations that have checks, in the matrix's order."""
        for station in dict.fromkeys(c.station for c in self.tests.matrix.checks):
            yield StationCollector.from_parent(self, name=station, nodeid=station, tests=self.tests)


class StationCollector(pytest.Collector):
    """A station: its checks."""

    def __init__(self, *, tests: StationTests, **kwargs: Any) -> None:
        self.tests = tests
        super().__init__(**kwargs)
        self.add_marker(pytest.mark.xdist_group(self.name))

    def collect(self) -> Iterator[pytest.Item]:
        """Yield one test a check."""
        for check in self.tests.matrix.checks:
            if check.station == self.name:
                mark = "!" if check.expect == "blocked" else ""
                name = f"{check.plane}-{mark}{check.service}-{check.family.value}"
                if self.tests.wants(self.name, name):
                    yield CheckItem.from_parent(self, name=name, check=check, tests=self.tests)


class CheckNotPassedError(AssertionError):
    """A check that did not pass: failed or unknown."""

    def __init__(self, result: Result) -> None:
        self.result = result
        super().__init__(result.why)


class StationNotMeasuredError(Exception):
    """Nothing came of a station, not even why: what was raised besides says it."""

    def __init__(self, station: str) -> None:
        super().__init__(f"{station}: measuring it broke off")


class EvidenceNotKeptError(Exception):
    """What a station saw could not be kept, so its other tests prove nothing either."""

    def __init__(self, station: str) -> None:
        super().__init__(f"{station}: what it saw could not be kept as evidence; its first test says why")


class CheckItem(pytest.Item):
    """One check."""

    def __init__(self, *, check: Check, tests: StationTests, **kwargs: Any) -> None:
        self.check, self.tests = check, tests
        super().__init__(**kwargs)

    def runtest(self) -> None:
        """Pass only what was measured, kept as evidence where evidence is kept, and passed."""
        import json

        from migration.evidence import result_digest
        from nornir_tasks.stations.model import Outcome

        result = self.tests.result_of(self)
        evidence = self.tests.kept.get(self.check.station)
        if evidence is None:
            raise EvidenceNotKeptError(self.check.station)
        self.user_properties += [
            (_PROPERTY, self.check.id),
            ("result", result_digest(result)),
            *([("evidence", evidence)] if evidence else []),
            ("outcome", result.outcome.value),
            ("at", f"{result.at:.3f}"),
            ("ms", f"{result.ms:.1f}"),
            ("path", " → ".join(result.hops)),
            ("return", " → ".join(result.return_hops)),
            ("raw", json.dumps(result.raw, ensure_ascii=True, sort_keys=True)),
        ]
        if result.outcome is not Outcome.PASSED:
            raise CheckNotPassedError(result)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """Show why, and all that was found on the way up; a traceback only for what is no finding."""
        error = excinfo.value
        if not isinstance(error, CheckNotPassedError):
            return super().repr_failure(excinfo, style)
        result = error.result
        lines = [f"{result.outcome.value}: {result.why}", f"from {self.check.station}, leg {self.check.interface}"]
        lines += [f"  {f.outcome.value:8}{f.aspect}: {f.detail}" for f in result.findings]
        if result.hops:
            lines.append(f"  path    {' → '.join(result.hops)}")
        if result.return_hops:
            lines.append(f"  return  {' → '.join(result.return_hops)}")
        return "\n".join(lines)

    def reportinfo(self) -> tuple[Path, int | None, str]:
        """Say where a check stands: in the county's services."""
        return self.path / "services.csv", None, f"{self.check.station}: {self.name}"


class SessionsByTestinfra:
    """Takes requests to stations in testinfra sessions: the same agent, sent inside the command. `over`: no more of them."""

    def __init__(self, access: Access) -> None:
        self.access, self.over = access, threading.Event()

    def __call__(self, station: str, address: str, request: str, limit_s: float) -> str:
        """Ask a station; return what it printed."""
        from nornir_tasks.stations.collect import StationUnmeasuredError, build_command
        from nornir_tasks.stations.model import Missing

        if self.over.is_set():
            raise StationUnmeasuredError("ssh", f"{station} - expected asked, found the run ended", Missing.SKIPPED)
        return _run_on(station, address, self.access, build_command(request), limit_s)


def _run_on(station: str, address: str, access: Access, command: str, limit_s: float) -> str:
    """Run a command through testinfra's ssh backend and return what it printed; testinfra itself would wait for ever."""
    import testinfra

    from nornir_tasks.stations import collect
    from nornir_tasks.stations.agent import SENTINEL
    from nornir_tasks.stations.model import Missing

    with tempfile.TemporaryDirectory(prefix="extranet-ssh-") as folder:
        config = Path(folder) / "config"
        config.write_text(collect.ssh_config(access, station, address), "utf-8")
        host = testinfra.get_host(f"ssh://{station}", ssh_config=str(config), controlpersist=0)
        run_local = host.backend.run_local
        host.backend.run_local = lambda line, *words: run_local(f"timeout {limit_s:.0f} {line}", *words)
        try:
            done = host.run(command)
        except RuntimeError as error:  # testinfra's word for ssh's own exit 255
            done = error.args[0] if error.args and hasattr(error.args[0], "stderr") else None
            if done is None:
                raise
    if done.rc == TIMED_OUT:
        words = f"the session - expected over in {limit_s:g} s, found it open"
        raise collect.StationUnmeasuredError("ssh", words, Missing.TIMED_OUT)
    if SENTINEL not in done.stdout:
        raise collect.no_answer(done.rc, done.stderr)
    return str(done.stdout)
