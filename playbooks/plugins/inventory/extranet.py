# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible inventory from a county's folder: `-i COUNTY/county.yaml`. The same hosts as everywhere, never a copy."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleParserError
from ansible.plugins.inventory import BaseInventoryPlugin

from inventory.access import Access, AccessMissingError, read_access
from inventory.errors import ExtranetError
from inventory.hosts import Host, list_hosts
from inventory.reader import load_county, restrict_to_towns

DOCUMENTATION = """
name: extranet
short_description: Hosts of a county's extranet
description: Reads a county's folder (county.yaml, policy.yaml and the tables) and gives its routers and stations.
options:
  plugin:
    description: Not needed; the file is recognised by its name.
    required: false
"""


class InventoryModule(BaseInventoryPlugin):  # type: ignore[misc]  # ansible-core ships no types
    """Hosts and groups of a county; in a lab of some towns, only those of the lab."""

    NAME = "extranet"

    def verify_file(self, path: str) -> bool:
        """Take county.yaml of a county's folder."""
        return Path(path).name == "county.yaml"

    def parse(self, inventory: Any, loader: Any, path: str, cache: bool = True) -> None:  # noqa: FBT001, FBT002 - its signature
        """Fill the inventory, or say everything that is wrong with the county's files."""
        super().parse(inventory, loader, path, cache)
        folder = Path(path).parent.resolve()
        try:
            county = load_county(folder)
            access = _access_or_none(folder)
        except ExtranetError as error:
            raise AnsibleParserError(str(error)) from error
        if access is not None and access.towns is not None:
            county = restrict_to_towns(county, access.towns)
        inventory.set_variable("all", "extranet_county", str(folder))
        for group in ("routers", "extranet", "legacy", "stations"):
            inventory.add_group(group)
        for host in list_hosts(county, access):
            inventory.add_host(host.id)
            for group in host.groups:
                inventory.add_group(name := re.sub(r"\W", "_", group))
                inventory.add_child(name, host.id)
            for key, value in _variables(host, access).items():
                inventory.set_variable(host.id, key, value)


def _access_or_none(folder: Path) -> Access | None:
    """Read how to reach devices; a county without a lab or a described network still has hosts."""
    try:
        return read_access(folder)
    except AccessMissingError:
        return None


def _variables(host: Host, access: Access | None) -> dict[str, str | int]:
    """Return a host's variables; how to log in only where that is known."""
    out: dict[str, str | int] = {
        "extranet_name": host.name,
        "extranet_site": host.site,
        "extranet_town": host.town,
        "extranet_kind": host.kind,
        "extranet_platform": host.platform,
    }
    if access is None or host.address is None:
        return out
    known_hosts = f'UserKnownHostsFile="{access.known_hosts}"'
    out |= {
        "ansible_host": host.address,
        "ansible_user": access.user,
        "ansible_port": access.port,
        "ansible_ssh_common_args": f"-o StrictHostKeyChecking=yes -o GlobalKnownHostsFile=/dev/null -o '{known_hosts}'",
    }
    if access.identity_file:
        out["ansible_ssh_private_key_file"] = access.identity_file
    return out
