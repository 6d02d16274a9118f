"""What every router should hold, and which driver speaks to it: the registry of platforms.

A new vendor is a folder under `platforms/` and one entry in `PLATFORMS`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal, Protocol

from addressing.model import AddressPlan
from inventory.access import Access
from inventory.errors import ExtranetError, UnknownNameError
from inventory.model import EXTRANET, County, Unit
from inventory.topology import Topology
from nornir_tasks.drivers import Capabilities, Driver
from nornir_tasks.platforms.frr.config import compare as compare_frr
from nornir_tasks.platforms.frr.driver import CAPABILITIES as FRR_CAPABILITIES
from nornir_tasks.platforms.frr.driver import FrrDriver
from nornir_tasks.platforms.frr.legacy import LegacyState
from nornir_tasks.platforms.frr.legacy import render_legacy_patch as render_frr_legacy_patch
from nornir_tasks.platforms.frr.render import render_device as render_frr_device

VrfBackend = Literal["device", "netns"]
Render = Callable[[County, Topology, AddressPlan, str, frozenset[str], VrfBackend], str]


class RenderLegacyPatch(Protocol):
    """Renders the lines of one transition of a unit's legacy side."""

    def __call__(
        self,
        county: County,
        topology: Topology,
        unit: Unit,
        from_state: LegacyState,
        to_state: LegacyState,
        *,
        others: dict[str, LegacyState] | None = None,
    ) -> dict[str, list[str]]:
        """Return lines to merge, by device."""


class Platform:
    """What the suite knows of a platform. `compare` says for people what turns one configuration text into another."""

    def __init__(
        self,
        render: Render,
        render_legacy_patch: RenderLegacyPatch,
        driver: Callable[[str, Access], Driver],
        capabilities: Capabilities,
        compare: Callable[[str, str], str],
    ) -> None:
        self.render = render
        self.render_legacy_patch = render_legacy_patch
        self.driver = driver
        self.capabilities = capabilities
        self.compare = compare


class PlatformUnknownError(ExtranetError):
    """A device of a platform nobody taught the suite."""

    def __init__(self, device: str, platform: str) -> None:
        self.device, self.platform = device, platform
        known = ", ".join(sorted(PLATFORMS))
        super().__init__(f"device {device}: platform {platform!r} is not known; use one of {known} in devices.csv")


PLATFORMS: dict[str, Platform] = {
    "frr": Platform(render_frr_device, render_frr_legacy_patch, FrrDriver, FRR_CAPABILITIES, compare_frr),
}


def platform_of(county: County, device_id: str) -> Platform:
    """Return a device's platform; raises UnknownNameError or PlatformUnknownError."""
    device = county.device_by_id.get(device_id)
    if device is None:
        raise UnknownNameError("device", device_id, county.device_by_id)
    platform = PLATFORMS.get(device.platform)
    if platform is None:
        raise PlatformUnknownError(device_id, device.platform)
    return platform


def render_all(  # noqa: PLR0917 - the seam of all platforms
    county: County,
    topology: Topology,
    plan: AddressPlan,
    cut_over: frozenset[str],
    vrf_backend: VrfBackend,
    devices: Iterable[str] | None = None,
) -> dict[str, str]:
    """Render the intended configuration of the named extranet routers (all of them when None), by device."""
    wanted = sorted(d.id for d in county.devices if d.network == EXTRANET) if devices is None else list(devices)
    return {d: platform_of(county, d).render(county, topology, plan, d, cut_over, vrf_backend) for d in wanted}


def render_changed(  # noqa: PLR0917 - the seam of all platforms
    county: County,
    topology: Topology,
    plan: AddressPlan,
    before: frozenset[str],
    after: frozenset[str],
    vrf_backend: VrfBackend,
) -> dict[str, str]:
    """Render the routers whose intended configuration differs between two sets of cut-over units, as it is after."""
    was = render_all(county, topology, plan, before, vrf_backend)
    now = render_all(county, topology, plan, after, vrf_backend)
    return {device: text for device, text in now.items() if was[device] != text}


def legacy_patch(
    county: County,
    topology: Topology,
    unit: Unit,
    from_state: LegacyState,
    to_state: LegacyState,
    *,
    others: dict[str, LegacyState] | None = None,
) -> dict[str, list[str]]:
    """Return the lines to merge into legacy routers, by device, for one transition of a unit's legacy side."""
    circuit = county.circuit_by_id[unit.circuit]
    device = circuit.device or circuit.far_device or ""
    render = platform_of(county, device).render_legacy_patch
    return render(county, topology, unit, from_state, to_state, others=others)
