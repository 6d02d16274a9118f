"""What is known of a unit and its line at one moment, kept in the ledger: the inventory may forget the line, the record must not.

From it alone come the certificate of retirement, the way to rebuild the line, and which prefixes are in quarantine.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from ipaddress import IPv4Address, IPv4Network

from addressing.model import AddressPlan
from inventory.model import EXTRANET, County, Model, Unit
from migration.units import devices_under, legacy_devices_under


class Owner(Model):
    """Somebody who holds an IPv4 prefix: a circuit, a network, a site, or a record of the address plan."""

    what: str
    prefix: IPv4Network

    def __str__(self) -> str:
        return f"{self.what} ({self.prefix})"


class Dossier(Model):
    """A unit and its line as the inventory had them.

    `beside` are all who held addresses that its prefixes meet, then; `stations` the names of its stations by id;
    `routers` those under its old path and its new one.
    `taken_over_by` is the extranet circuit that goes on using the line's cable; `quarantine_days` the policy's.
    """

    unit: str
    network: str
    network_name: str
    tenant: str
    lead: str
    responsible: str
    site: str
    site_name: str
    town_name: str
    county_name: str
    plane: str
    circuit: str
    device: str | None
    port: str | None
    lan_port: str | None
    far_device: str | None
    far_port: str | None
    provider: str
    bandwidth_mbps: int
    monthly_rent_yuan: int
    contract_end: date | None
    lan_prefix: IPv4Network
    wan_prefix: IPv4Network | None
    gateway: IPv4Address
    stations: dict[str, str]
    routers: tuple[str, ...]
    taken_over_by: str | None
    quarantine_days: int
    beside: tuple[Owner, ...]

    @property
    def rented(self) -> bool:
        """Tell whether there is a line at all that somebody may be paid for; a hub at the county has none."""
        return self.far_device is not None

    @property
    def prefixes(self) -> tuple[IPv4Network, ...]:
        """The prefixes that fall free with it."""
        return (self.lan_prefix,) if self.wan_prefix is None else (self.lan_prefix, self.wan_prefix)


def make_dossier(county: County, unit: Unit, plan: AddressPlan | None) -> Dossier:
    """Write down what is known of a unit now; `county` is the whole one, `plan` its addresses where there are any."""
    circuit, network = county.circuit_by_id[unit.circuit], county.network_by_id[unit.network]
    site = county.site_by_id[unit.site]
    prefixes = [p for p in (unit.lan_prefix, circuit.wan_prefix) if p is not None]
    return Dossier(
        unit=unit.id,
        network=network.id,
        network_name=network.name,
        tenant=network.tenant,
        lead=network.lead,
        responsible=network.responsible,
        site=site.id,
        site_name=site.name,
        town_name=county.site_by_id[county.town_of(site.id)].name,
        county_name=county.name,
        plane=unit.plane,
        circuit=circuit.id,
        device=circuit.device,
        port=circuit.port,
        lan_port=circuit.lan_port,
        far_device=circuit.far_device,
        far_port=circuit.far_port,
        provider=circuit.provider,
        bandwidth_mbps=circuit.bandwidth_mbps,
        monthly_rent_yuan=circuit.monthly_rent_yuan,
        contract_end=circuit.contract_end,
        lan_prefix=unit.lan_prefix,
        wan_prefix=circuit.wan_prefix,
        gateway=unit.gateway,
        stations={s.id: s.name for s in county.stations_at(unit.site, unit.plane)},
        routers=(*devices_under(county, unit), *legacy_devices_under(county, unit)),
        taken_over_by=next((c.id for c in county.circuits if c.network == EXTRANET and c.reuses == circuit.id), None),
        quarantine_days=county.policy.quarantine_days,
        beside=tuple(o for o in owners_of(county, plan) if any(o.prefix.overlaps(p) for p in prefixes)),
    )


def owners_of(county: County, plan: AddressPlan | None) -> tuple[Owner, ...]:
    """Return everybody who holds an IPv4 prefix by the inventory or the plan, in a fixed order, each once."""
    return tuple(sorted(set(_owners(county, plan)), key=lambda o: (o.what, o.prefix)))


def _owners(county: County, plan: AddressPlan | None) -> Iterator[Owner]:
    for network in county.networks:
        yield from (Owner(what=f"network {network.id}", prefix=p) for p in network.prefixes)
    for circuit in county.circuits:
        held = (circuit.lan_prefix, circuit.wan_prefix)
        yield from (Owner(what=f"circuit {circuit.id}", prefix=p) for p in held if p is not None)
    for site in county.sites:
        if site.public_ipv4 is not None:
            yield Owner(what=f"site {site.id}", prefix=site.public_ipv4)
    for record in plan.records if plan is not None else ():
        # What the extranet's own circuits and sites declare stands in the plan as well, under the same prefix.
        if record.state == "active" and record.kind in {"lan4", "link4"}:
            yield Owner(what=f"plan {record.id}", prefix=IPv4Network(record.prefix))
