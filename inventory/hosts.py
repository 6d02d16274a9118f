"""The one source of hosts, for Nornir and for Ansible: devices and stations with their groups and how to reach them."""

from __future__ import annotations

from inventory.access import Access
from inventory.model import EXTRANET, County, Model


class Host(Model):
    """One thing that can be logged in to. `address` is None when the access file has none: it cannot be reached."""

    id: str
    name: str
    kind: str
    site: str
    town: str
    groups: tuple[str, ...]
    platform: str
    address: str | None


def list_hosts(county: County, access: Access | None = None) -> list[Host]:
    """Return every device and station in file order. Groups: what it is, its town, and the network that owns a router."""
    addresses = access.addresses if access else {}
    out = []
    for device in county.devices:
        town = county.town_of(device.site)
        owner = "extranet" if device.network == EXTRANET else "legacy"
        own = (device.management and str(device.management)) or None
        out.append(
            Host(
                id=device.id,
                name=device.name,
                kind="router",
                site=device.site,
                town=town,
                groups=tuple(dict.fromkeys(("routers", owner, device.role.value, device.network, f"at_{town}"))),
                platform=device.platform,
                address=addresses.get(device.id, own),
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
