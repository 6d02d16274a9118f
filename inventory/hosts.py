"""The one source of hosts, for Nornir and for Ansible: devices and stations with their groups and how to reach them."""

from __future__ import annotations

from inventory.access import Access
from inventory.model import EXTRANET, County, Model


class Host(Model):
    """One thing that can be logged in to. `address` is None when nobody said where: it cannot be reached."""

    id: str
    name: str
    kind: str
    site: str
    town: str
    groups: tuple[str, ...]
    platform: str
    address: str | None


def list_hosts(county: County, access: Access | None = None) -> list[Host]:
    """Return every device and station in file order.

    Groups: `routers`, with `extranet` or `legacy`, or `stations`; then `role_ROLE`, `network_NETWORK` and `at_TOWN`,
    whose prefixes keep a county's own names from meeting ours.
    """
    addresses = dict(access.addresses) if access else {}
    if access is not None and access.target == "field":
        # In a lab only what the lab wrote counts: a lab must never lead to a device of the real network.
        addresses = {d.id: str(d.management) for d in county.devices if d.management} | addresses
    out = []
    for device in county.devices:
        town = county.town_of(device.site)
        if device.network == EXTRANET:
            groups = ("routers", "extranet", f"role_{device.role.value}", f"at_{town}")
        else:
            groups = ("routers", "legacy", f"network_{device.network}", f"at_{town}")
        out.append(
            Host(
                id=device.id,
                name=device.name,
                kind="router",
                site=device.site,
                town=town,
                groups=groups,
                platform=device.platform,
                address=addresses.get(device.id),
            )
        )
    for station in county.stations:
        town = county.town_of(station.site)
        out.append(
            Host(
                id=station.id,
                name=station.name,
                kind="station",
                site=station.site,
                town=town,
                groups=("stations", f"at_{town}"),
                platform="linux",
                address=addresses.get(station.id),
            )
        )
    return out
