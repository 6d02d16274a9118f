"""Nornir over the county's routers, built from objects; what comes back are our own values, one for every host asked.

Nornir schedules and keeps the sessions; its results never leave this module, because they carry hosts with their
connection data and tracebacks. Whatever happens to one host becomes that host's outcome, and a host without one is
unknown.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Generic, Literal, TypeVar

from nornir.core import Nornir
from nornir.core.configuration import Config, CoreConfig, LoggingConfig, RunnerConfig
from nornir.core.inventory import ConnectionOptions, Defaults, Groups, Host, Hosts, Inventory
from nornir.core.plugins.connections import ConnectionPluginRegister
from nornir.core.state import GlobalState
from nornir.core.task import AggregatedResult, Result, Task

from inventory.access import Access
from inventory.errors import ExtranetError, UnknownNameError
from inventory.hosts import list_hosts
from inventory.model import County, Model
from nornir_tasks.drivers import Driver
from nornir_tasks.intent import PLATFORMS, PlatformUnknownError

CONNECTION = "extranet"
T = TypeVar("T")


class DeviceOutcome(Model, Generic[T]):
    """What came of asking one device. `unknown` (never run, interrupted) is not `ok` and not known to have failed."""

    device: str
    state: Literal["ok", "failed", "unknown"]
    value: T | None = None
    error: str = ""
    """One line a person can act on; empty when ok."""
    kind: str = ""
    """Name of the error's class, as in nornir_tasks.drivers."""
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Tell whether the device did what it was asked."""
        return self.state == "ok"


class DriverConnection:
    """Nornir's connection plugin for the drivers of nornir_tasks."""

    def __init__(self) -> None:
        self._driver: Driver | None = None

    def open(  # noqa: PLR0917 - Nornir's signature
        self,
        hostname: str | None,  # noqa: ARG002
        username: str | None,  # noqa: ARG002
        password: str | None,  # noqa: ARG002
        port: int | None,  # noqa: ARG002
        platform: str | None,
        extras: dict[str, Any] | None = None,
        configuration: Config | None = None,  # noqa: ARG002
    ) -> None:
        """Log in with the driver of the host's platform."""
        known = extras or {}
        driver = PLATFORMS[platform or ""].driver(known["device"], known["access"])
        driver.open()
        self._driver = driver

    def close(self) -> None:
        """Log out."""
        if self._driver is not None:
            self._driver.close()

    @property
    def connection(self) -> Driver:
        """The open driver."""
        if self._driver is None:
            raise RuntimeError("the connection was never opened")
        return self._driver


class StoppableRunner:
    """Nornir's threaded runner, except that Ctrl-C starts nothing more: hosts not yet begun are left out."""

    def __init__(self, num_workers: int = 8) -> None:
        self.num_workers = num_workers

    def run(self, task: Task, hosts: list[Host]) -> AggregatedResult:
        """Run the task on every host, `num_workers` at a time."""
        result = AggregatedResult(task.name)
        pool = ThreadPoolExecutor(self.num_workers, thread_name_prefix="extranet")
        try:
            # Also of what was submitted only in part: an interrupt here must not leave a worker that nobody ends.
            futures = {host.name: pool.submit(task.copy().start, host) for host in hosts}
            for name, future in futures.items():
                result[name] = future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
        return result


def build_nornir(county: County, access: Access, devices: Iterable[str] | None = None, workers: int = 8) -> Nornir:
    """Build Nornir over the named routers (all when None), with the sessions that `access` describes."""
    known = {h.id: h for h in list_hosts(county, access) if h.kind == "router"}
    access = access.altered(addresses=access.addresses | {h.id: h.address for h in known.values() if h.address})
    wanted = list(known) if devices is None else list(dict.fromkeys(devices))
    hosts = Hosts()
    for device_id in wanted:
        if device_id not in known:
            raise UnknownNameError("device", device_id, known)
        host, device = known[device_id], county.device_by_id[device_id]
        if host.platform not in PLATFORMS:
            raise PlatformUnknownError(host.id, host.platform)
        options = ConnectionOptions(extras={"device": host.id, "access": access})
        hosts[host.id] = Host(
            name=host.id,
            hostname=host.address,
            platform=host.platform,
            data={"site": device.site, "role": device.role.value, "network": device.network, "lock": threading.Lock()},
            connection_options={CONNECTION: options},
        )
    # Registering the same class again is allowed; the register is one for the whole process.
    ConnectionPluginRegister.register(CONNECTION, DriverConnection)
    config = Config(
        core=CoreConfig(raise_on_error=False),
        runner=RunnerConfig(plugin="threaded", options={"num_workers": workers}),
        logging=LoggingConfig(enabled=False),
    )
    inventory = Inventory(hosts=hosts, groups=Groups(), defaults=Defaults())
    return Nornir(inventory=inventory, config=config, data=GlobalState(), runner=StoppableRunner(workers))


def run_on_devices(
    nr: Nornir,
    work: Callable[[Driver], T],
    devices: Iterable[str] | None = None,
    *,
    on_done: Callable[[DeviceOutcome[T]], None] | None = None,
) -> dict[str, DeviceOutcome[T]]:
    """Run `work` with an open driver on each device (all when None), in parallel; one outcome for every device asked.

    Devices are begun in the order given.
    `on_done` is called as each device ends, in whatever thread that was. A device failed before is asked all the same.
    """
    wanted = list(nr.inventory.hosts) if devices is None else list(dict.fromkeys(devices))
    unknown = [d for d in wanted if d not in nr.inventory.hosts]
    if unknown:
        raise UnknownNameError("device", unknown[0], nr.inventory.hosts)
    outcomes: dict[str, DeviceOutcome[T]] = {}

    def ask(task: Task) -> Result:
        started = time.monotonic()
        outcome = _ask_one(task.host, nr, work, started)
        outcomes[outcome.device] = outcome
        if on_done is not None:
            on_done(outcome)
        return Result(host=task.host)

    chosen = nr.filter(filter_func=lambda host: host.name in set(wanted))
    chosen.inventory.hosts = Hosts({d: nr.inventory.hosts[d] for d in wanted})
    try:
        if wanted:
            chosen.run(ask, on_good=True, on_failed=True)
    finally:
        # Failed hosts are Nornir's business of one run; it must not leave anybody out of the way back.
        nr.data.reset_failed_hosts()
    never = DeviceOutcome[T](device="", state="unknown", error="was not asked", kind="NotRun")
    return {
        d: outcomes.get(d) or never.model_copy(update={"device": d, "error": f"{d}: was not asked"}) for d in wanted
    }


def _ask_one(host: Host, nr: Nornir, work: Callable[[Driver], T], started: float) -> DeviceOutcome[T]:
    """The one boundary of a host: everything but a keyboard interrupt becomes its outcome."""
    try:
        with host.data["lock"]:
            value = work(host.get_connection(CONNECTION, nr.config))
        return DeviceOutcome[T](device=host.name, state="ok", value=value, seconds=time.monotonic() - started)
    except KeyboardInterrupt:
        raise
    except ExtranetError as error:
        text, kind = str(error), type(error).__name__
    except BaseException as error:  # noqa: BLE001 - the boundary; its text may hold anything, so only its kind is told
        text, kind = f"{host.name}: unexpected {type(error).__name__}; please report it", type(error).__name__
    return DeviceOutcome[T](device=host.name, state="failed", error=text, kind=kind, seconds=time.monotonic() - started)


@contextmanager
def closing(nr: Nornir) -> Iterator[Nornir]:
    """Close every session at the end, also those of hosts that failed."""
    try:
        yield nr
    finally:
        for host in nr.inventory.hosts.values():
            for name in list(host.connections):
                host.close_connection(name)
