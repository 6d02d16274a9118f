# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible inventory from a county's folder: `-i COUNTY/county.yaml`. The same hosts as everywhere else, never a copy."""

from __future__ import annotations

from pathlib import Path

from ansible.errors import AnsibleParserError
from ansible.plugins.inventory import BaseInventoryPlugin

from inventory.access import AccessMissingError, read_access
from inventory.errors import ExtranetError
from inventory.hosts import list_hosts
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


class InventoryModule(BaseInventoryPlugin):
    """Hosts and groups of a county."""

    NAME = "extranet"

    def verify_file(self, path: str) -> bool:
        """Take county.yaml of a county's folder."""
        return Path(path).name == "county.yaml"

    def parse(self, inventory, loader, path, cache=True) -> None:
        """Fill the inventory."""
        super().parse(inventory, loader, path, cache)
        folder = Path(path).parent.resolve()
        try:
            county = load_county(folder)
            try:
                access = read_access(folder)
            except AccessMissingError:
                access = None
        except ExtranetError as error:
            raise AnsibleParserError(str(error)) from error
        if access is not None and access.towns is not None:
            county = restrict_to_towns(county, access.towns)
        inventory.set_variable("all", "extranet_county", str(folder))
        for host in list_hosts(county, access):
            inventory.add_host(host.id)
            for group in host.groups:
                inventory.add_group(name := group.replace("-", "_"))
                inventory.add_child(name, host.id)
            variables = {
                "extranet_name": host.name,
                "extranet_site": host.site,
                "extranet_kind": host.kind,
                "extranet_platform": host.platform,
            }
            if access is not None and host.address is not None:
                variables |= {
                    "ansible_host": host.address,
                    "ansible_user": access.user,
                    "ansible_port": access.port,
                    "ansible_ssh_common_args": f"-o StrictHostKeyChecking=yes -o 'UserKnownHostsFile=\"{access.known_hosts}\"'",
                }
                if access.identity_file:
                    variables["ansible_ssh_private_key_file"] = access.identity_file
            for key, value in variables.items():
                inventory.set_variable(host.id, key, value)
