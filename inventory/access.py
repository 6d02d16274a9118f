"""How to reach devices and stations: one file that says the target, addresses and keys, never secrets themselves.

`access.yaml` in the county's folder is the real network; `lab up` writes `.lab/access.yaml`, which wins while the
lab exists, and every command prints which target it speaks to.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, ValidationError, model_validator

from inventory.errors import ExtranetError
from inventory.files import NOT_REGULAR, is_irregular
from inventory.model import Model
from inventory.yamlfile import YamlProblemError, parse_yaml

LAB_FILE = ".lab/access.yaml"
FIELD_FILE = "access.yaml"


class Access(Model):
    """Where to log in.

    `addresses` maps device, station and server ids to management addresses; a server's is the server itself, or a Linux
    host in its LAN: the vantage at the services' side. Paths are absolute or relative to the file.
    `vrf_backend` says how a Linux router keeps VRFs: `device` (real VRFs) or `netns`.
    """

    target: Literal["lab", "field"] = Field(
        description="what is spoken to; `field` in access.yaml, `lab` in the file that 'lab up' writes",
        examples=["field"],
    )
    name: str = Field(description="the network's name, for people", examples=["yichuan"])
    user: str = Field(default="root", description="whom to log in as", examples=["netops"])
    port: int = Field(default=22, description="the SSH port", examples=[22])
    identity_file: str | None = Field(
        default=None,
        description="the private key's file; without it, the SSH agent's keys",
        examples=["/etc/extranet/id_ed25519"],
    )
    known_hosts: str = Field(description="the file of host keys, which are always checked", examples=["known_hosts"])
    addresses: dict[str, str] = Field(
        description="management addresses by device, station or server id (a server's: itself, or a host in its LAN)",
        examples=[{"core1": "2001:db8::1"}],
    )
    vrf_backend: Literal["device", "netns"] = Field(
        default="device", description="how routers keep VRFs: as VRF devices or as namespaces", examples=["device"]
    )
    towns: int | None = Field(
        default=None,
        description="a lab of only the county's first N towns; commands then work on that part; never in the field",
        examples=[3],
    )
    ca_file: str | None = Field(
        default=None,
        description="CA bundle on the stations for the services' certificates; without it, their own trust store",
        examples=["/etc/ssl/certs/county.pem"],
    )

    @model_validator(mode="after")
    def _whole_county_in_the_field(self) -> Self:
        if self.towns is not None and self.target != "lab":
            raise ValueError("towns is for labs only: a real county is always taken whole")
        return self


class AccessFileError(ExtranetError):
    """The access file is not what it should be."""

    def __init__(self, path: Path, what: str) -> None:
        super().__init__(f"{path}: {what}; correct it (see README, 'access.yaml')")


class AccessMissingError(ExtranetError):
    """No access file: neither a lab is up nor is the real network described."""

    def __init__(self, county_dir: Path) -> None:
        self.county_dir = county_dir
        super().__init__(
            f"{county_dir}: no way to reach devices - expected {LAB_FILE} (made by 'extranet lab up') or {FIELD_FILE}; "
            "start the lab, or describe the real network's management addresses there"
        )


def _say_first(error: ValidationError) -> str:
    """Say the first thing that is wrong: which key, and what is wrong with it."""
    first = error.errors()[0]
    key = ".".join(map(str, first["loc"]))
    if not key:
        own = first.get("ctx", {}).get("error")
        return str(own) if own else "expected `key: value` lines, found something else"
    found = "" if first["type"] == "missing" else f", found {first['input']!r}"
    return f"{key}: {first['msg'].lower()}{found}"


def read_access(county_dir: Path) -> Access:
    """Read the lab's access file when a lab is up, else the real network's; AccessMissingError without either."""
    for name in (LAB_FILE, FIELD_FILE):
        path = county_dir / name
        if path.exists():
            if is_irregular(path):
                raise AccessFileError(path, NOT_REGULAR)
            try:
                access = Access.model_validate(parse_yaml(path.read_text("utf-8")))
            except (OSError, UnicodeDecodeError, YamlProblemError) as error:
                raise AccessFileError(path, f"cannot be read ({error})") from error
            except ValidationError as error:
                raise AccessFileError(path, _say_first(error)) from error
            place = "lab" if name == LAB_FILE else "field"
            if access.target != place:
                # Its place decides: a file copied from a lab must not pass the real network off as one, nor the reverse.
                raise AccessFileError(path, f"expected target {place!r} in this file, found {access.target!r}")
            base = path.parent
            return access.model_copy(
                update={
                    "identity_file": str(base / access.identity_file) if access.identity_file else None,
                    "known_hosts": str(base / access.known_hosts),
                }
            )
    raise AccessMissingError(county_dir)
