"""What a county's tables must agree on among themselves and with the policy. Each check notes what it finds."""

from __future__ import annotations

from collections import Counter
from ipaddress import IPv4Network
from itertools import pairwise

from inventory.findings import PLANE, Findings, list_rows
from inventory.model import EXTRANET, Family, PlaneKind, Policy, Protocol, Role, SiteClass
from inventory.tables import Row
from inventory.wording import counted

FEW = 3
"""Up to here each circuit outside its network's prefixes is a line of its own."""


def check_tables(found: Findings, rows: dict[str, list[Row]], refused: frozenset[str]) -> None:
    """Check that tables agree with one another; `refused` are the ids of networks turned away as classified."""
    _check_sites(found, rows["sites"])
    sites, networks, devices = found.ids("sites"), found.ids("networks") - refused, found.ids("devices")
    for row in rows["stations"]:
        found.refer("stations", row, "site", sites, "site")
    _check_as_numbers(found, rows["devices"])
    for row in rows["devices"]:
        found.refer("devices", row, "site", sites, "site")
        _check_owner(found, "devices", row, networks, refused)
        _check_device(found, row)
    for row in rows["circuits"]:
        found.refer("circuits", row, "site", sites, "site")
        found.refer("circuits", row, "device", devices, "device")
        found.refer("circuits", row, "far_device", devices, "device")
        found.refer("circuits", row, "reuses", found.ids("circuits"), "circuit")
        _check_owner(found, "circuits", row, networks, refused)
        _check_circuit(found, row)
    _check_units(found, rows["circuits"])
    _check_reused(found, rows["circuits"])
    for row in rows["servers"]:
        found.refer("servers", row, "site", sites, "site")
    _check_services(found, rows)
    _check_hosts(found, rows)
    _check_ports(found, rows["circuits"])
    _check_reach(found, rows)


def _check_owner(found: Findings, table: str, row: Row, networks: set[str], refused: frozenset[str]) -> None:
    owner = row.values["network"]
    if owner in refused:
        found.at(
            table,
            row,
            "network",
            "belongs to a network marked classified, which is refused",
            "remove this row from the survey",
        )
    elif owner != EXTRANET and owner is not None:
        found.refer(table, row, "network", networks | {EXTRANET}, "network")


def _check_sites(found: Findings, rows: list[Row]) -> None:
    known = found.ids("sites")
    by_id = {r.values["id"]: r for r in rows}
    counties = [r for r in rows if r.values["class"] == SiteClass.COUNTY]
    if len(counties) != 1 and not any("class" in r.bad for r in rows) and "sites" not in found.unreadable:
        found.note(
            found.sources["sites"].file,
            None,
            "class",
            f"expected one site of class county, found {len(counties)}",
            "mark exactly one",
        )
    codes = Counter(r.values["division_code"] for r in rows)
    expected_parent = {SiteClass.TOWN.value: SiteClass.COUNTY.value, SiteClass.VILLAGE.value: SiteClass.TOWN.value}
    for row in rows:
        v = row.values
        if v["division_code"] and codes[v["division_code"]] > 1:
            found.at(
                "sites",
                row,
                "division_code",
                f"{v['division_code']} is used by {codes[v['division_code']]} sites",
                "correct it",
            )
        if v["class"] == SiteClass.COUNTY:
            if v["parent"]:
                found.at("sites", row, "parent", f"expected none for the county, found {v['parent']!r}", "clear it")
            continue
        if v["class"] is None:
            continue
        if not v["parent"]:
            found.at("sites", row, "parent", "expected the site above, found an empty cell", "fill it in")
        elif found.refer("sites", row, "parent", known, "site") and v["parent"] in by_id:
            above, want = by_id[v["parent"]].values["class"], expected_parent[v["class"]]
            if above is not None and above != want:
                found.at(
                    "sites",
                    row,
                    "parent",
                    f"expected a {want} above a {v['class']}, found {v['parent']!r} ({above})",
                    "correct it",
                )


def _check_device(found: Findings, row: Row) -> None:
    v = row.values
    if row.bad & {"role", "network"}:
        return
    if (v["role"] == Role.LEGACY) == (v["network"] == EXTRANET):
        found.at(
            "devices",
            row,
            "role",
            f"role {v['role']!r} and network {v['network']!r} contradict each other",
            "legacy routers belong to a legacy network, others to the extranet",
        )
    if v["role"] in {Role.CORE, Role.TOWN} and v["asn"] is None:
        found.at(
            "devices",
            row,
            "asn",
            f"expected an AS number for a {v['role']} router, found none",
            "give it one, unique in the county",
        )


def _check_as_numbers(found: Findings, rows: list[Row]) -> None:
    """One AS number a router: two that share one would refuse each other's routes."""
    first: dict[int, Row] = {}
    for row in rows:
        asn = row.values["asn"]
        if asn in first:
            what = f"AS number {asn} is already {first[asn].values['id']}'s, on row {first[asn].number}"
            found.at("devices", row, "asn", what, "give it one of its own, unique in the county")
        if asn is not None:
            first.setdefault(asn, row)


def _check_circuit(found: Findings, row: Row) -> None:
    v = row.values
    if row.bad & {"network", "device", "far_device"}:
        return
    if v["network"] == EXTRANET:
        need = {"device", "port", "far_device", "far_port"}
        never = {"lan_port", "lan_prefix"}
    elif v["device"] and v["far_device"]:
        need, never = {"port", "lan_port", "far_port", "lan_prefix", "wan_prefix"}, {"reuses"}
    elif v["device"]:
        need, never = {"lan_port", "lan_prefix"}, {"port", "far_port", "wan_prefix", "reuses"}
    else:
        need, never = {"far_device", "far_port", "lan_prefix"}, {"port", "lan_port", "wan_prefix", "reuses"}
    for column in sorted(need):
        if not v[column]:
            found.at(
                "circuits",
                row,
                column,
                f"expected a value for this kind of circuit ({v['network']}), found an empty cell",
                "fill it in",
            )
    for column in sorted(never):
        if v[column]:
            found.at(
                "circuits",
                row,
                column,
                f"expected nothing for this kind of circuit ({v['network']}), found {str(v[column])!r}",
                "clear it",
            )
    want = 31 if v["network"] == EXTRANET else 30
    if v["wan_prefix"] and v["wan_prefix"].prefixlen != want:
        found.at("circuits", row, "wan_prefix", f"expected a /{want}, found {v['wan_prefix']}", "correct the length")


def _check_units(found: Findings, rows: list[Row]) -> None:
    """One line a network and site: a second one would hide the first from every gate."""
    first: dict[tuple[str, str], Row] = {}
    for row in rows:
        key = (row.values["network"], row.values["site"])
        if None in key or key[0] == EXTRANET or not row.values["lan_prefix"]:
            continue
        if key in first:
            what = f"{key[0]} has a line at {key[1]} already, on row {first[key].number}"
            found.at("circuits", row, "site", what, "declare the second line's people as a site of their own")
        first.setdefault(key, row)


def _check_reused(found: Findings, rows: list[Row]) -> None:
    """A legacy line is taken over once, and at its own site: its contract is handed over to one circuit."""
    lines = {row.values["circuit"]: row for row in rows}
    first: dict[str, Row] = {}
    for row in rows:
        name, site = row.values["reuses"], row.values["site"]
        line = lines.get(name)
        if row.values["network"] != EXTRANET or name is None or line is None:
            continue  # who may reuse a line at all, and lines that are not there, are said elsewhere
        if line.values["network"] == EXTRANET:
            what = f"expected a legacy line, found {name!r} of the extranet, on row {line.number}"
            found.at("circuits", row, "reuses", what, "name the legacy line, or clear it")
            continue
        if None not in (site, line.values["site"]) and line.values["site"] != site:
            what = f"expected a line of {site}, found {name!r} of {line.values['site']}, on row {line.number}"
            found.at("circuits", row, "reuses", what, f"name the legacy line that ends at {site}, or clear it")
        if name in first:
            what = (
                f"expected a line that no other row takes over, found {name!r}, taken over on row {first[name].number}"
            )
            found.at("circuits", row, "reuses", what, "clear it on one of them: a cable carries one extranet line")
        first.setdefault(name, row)


def _check_services(found: Findings, rows: dict[str, list[Row]]) -> None:
    kinds = (
        {r.values["kind"] for r in rows["stations"] if r.values["kind"]}
        | found.ids("stations")
        | {c.value for c in SiteClass}
    )
    names = Counter(r.values["dns_name"] for r in rows["services"])
    servers = found.ids("servers")
    for row in rows["services"]:
        found.refer("services", row, "server", servers, "server")
        if "stations" not in found.unreadable:
            found.refer("services", row, "needed_by", kinds, "site class, station kind or station")
        found.refer("services", row, "families", {f.value for f in Family}, "address family")
        if row.values["dns_name"] and names[row.values["dns_name"]] > 1:
            found.at(
                "services",
                row,
                "dns_name",
                f"{row.values['dns_name']!r} is used by {names[row.values['dns_name']]} services",
                "give each its own",
            )
    if "services" not in found.unreadable and not any(r.values["protocol"] == Protocol.DNS for r in rows["services"]):
        found.note(
            found.sources["services"].file,
            None,
            "protocol",
            "expected one service of protocol dns, found none",
            "add the resolver",
        )


def _check_hosts(found: Findings, rows: dict[str, list[Row]]) -> None:
    taken: dict[tuple[str, str, int], str] = {}
    everybody = [("stations", r, p) for r in rows["stations"] for p in r.values["planes"] or ()]
    everybody += [("servers", r, r.values["plane"]) for r in rows["servers"]]
    for table, row, plane in everybody:
        if None in (row.values["site"], plane, row.values["host"]):
            continue
        key = (row.values["site"], plane, row.values["host"])
        if key in taken and taken[key] != row.values["id"]:
            found.at(
                table,
                row,
                "host",
                f"host {key[2]} in {key[0]}/{plane} is already {taken[key]}'s",
                "choose another number",
            )
        taken.setdefault(key, row.values["id"])


def _check_ports(found: Findings, rows: list[Row]) -> None:
    taken: dict[tuple[str, str], Row] = {}
    for row in rows:
        v = row.values
        for device, port, column in (
            (v["device"], v["port"], "port"),
            (v["device"], v["lan_port"], "lan_port"),
            (v["far_device"], v["far_port"], "far_port"),
        ):
            if not device or not port:
                continue
            if (device, port) in taken:
                first = taken[device, port]
                found.at(
                    "circuits",
                    row,
                    column,
                    f"port {port!r} of {device} is already used on row {first.number}",
                    "choose another port",
                )
            taken.setdefault((device, port), row)


def _check_reach(found: Findings, rows: dict[str, list[Row]]) -> None:
    """Each site needs an extranet router, and each non-core extranet router a circuit upwards."""
    routers = {r.values["site"] for r in rows["devices"] if r.values["network"] == EXTRANET}
    known = {r.values["id"] for r in rows["devices"]}
    up = {r.values["device"] for r in rows["circuits"] if r.values["network"] == EXTRANET}
    if not found.sources.keys() >= {"sites", "devices", "circuits"} or known != found.ids("devices"):
        return
    for row in rows["sites"]:
        if row.values["id"] and row.values["id"] not in routers:
            found.at(
                "sites",
                row,
                "id",
                f"expected an extranet router at {row.values['id']}, found none in devices",
                "add one to devices",
            )
    served = {r.values["site"] for r in rows["stations"]}
    for row in rows["sites"] if "stations" not in found.unreadable else ():
        if row.values["id"] and row.values["id"] not in served:
            what = f"expected a station at {row.values['id']}, found none: nothing would ever be measured there"
            found.at("sites", row, "id", what, "add one to stations")
    if {r.values["circuit"] for r in rows["circuits"]} != found.ids("circuits"):
        return
    for row in rows["devices"]:
        if row.values["role"] in {Role.TOWN, Role.VILLAGE} and row.values["id"] not in up:
            found.at(
                "devices",
                row,
                "id",
                f"expected an extranet circuit from {row.values['id']} upwards, found none",
                "add it to circuits",
            )


def check_policy(found: Findings, policy: Policy) -> None:
    """Check that the policy agrees with itself."""
    name = "policy.yaml"
    if policy.pool.prefixlen % 4 or not 16 <= policy.pool.prefixlen <= 44:
        found.note(
            name, None, "pool", f"expected a nibble-aligned /16 to /44, found {policy.pool}", "ask for such a block"
        )
    for kind in (PlaneKind.PUBLIC, PlaneKind.SHARED):
        count = sum(p.kind is kind for p in policy.planes)
        if count != 1:
            found.note(name, None, "planes", f"expected one plane of kind {kind}, found {count}", "correct the kinds")
    for field in ("id", "vlan", "slot"):
        counts = Counter(getattr(p, field) for p in policy.planes)
        for value, count in counts.items():
            if count > 1:
                found.note(name, None, "planes", f"{field} {value} is used by {count} planes", "give each its own")
    if not policy.shared_ipv4.subnet_of(policy.ipv4_pool):
        found.note(
            name,
            None,
            "shared_ipv4",
            f"expected a part of {policy.ipv4_pool}, found {policy.shared_ipv4}",
            "correct it",
        )
    if policy.ipv4_link_pool.overlaps(policy.ipv4_pool):
        found.note(name, None, "ipv4_link_pool", f"overlaps ipv4_pool {policy.ipv4_pool}", "choose a separate range")
    for before, after in pairwise(policy.coverage):
        if after.by <= before.by or after.share < before.share:
            found.note(
                name,
                None,
                "coverage",
                f"{after.by} ({after.share:.0%}) does not follow {before.by} ({before.share:.0%})",
                "sort them",
            )


def check_planes(found: Findings, rows: dict[str, list[Row]], policy: Policy) -> None:
    """Check that tables name planes of the policy, and that each legacy network has a dedicated one to itself."""
    planes = {p.id: p for p in policy.planes}
    for table, column in (
        ("stations", "planes"),
        ("networks", "plane"),
        ("servers", "plane"),
        ("services", "from_planes"),
    ):
        for row in rows[table]:
            found.refer(table, row, column, planes, PLANE)
    used: dict[str, str] = {}
    for row in rows["networks"]:
        plane = planes.get(row.values["plane"] or "")
        if plane is None:
            continue
        if plane.kind is not PlaneKind.DEDICATED:
            found.at(
                "networks",
                row,
                "plane",
                f"expected a dedicated plane, found {plane.id!r} ({plane.kind})",
                "departments get planes of their own",
            )
        if plane.id in used:
            found.at(
                "networks",
                row,
                "plane",
                f"plane {plane.id!r} is already {used[plane.id]}'s",
                "give each network its own plane",
            )
        used.setdefault(plane.id, row.values["id"])


def check_addresses(found: Findings, rows: dict[str, list[Row]], policy: Policy) -> None:
    """Check that prefixes lie in their ranges and do not meet within a network."""
    _check_ranges(found, rows)
    taken: dict[str, list[tuple[IPv4Network, Row]]] = {}
    for row in rows["circuits"]:
        v = row.values
        for column in ("lan_prefix", "wan_prefix"):
            net: IPv4Network | None = v[column]
            if net is None:
                continue
            if v["network"] == EXTRANET and not net.subnet_of(policy.ipv4_link_pool):
                found.at(
                    "circuits",
                    row,
                    column,
                    f"expected a part of ipv4_link_pool {policy.ipv4_link_pool}, found {net}",
                    "correct it",
                )
            for other, first in taken.setdefault(v["network"], []):
                if other.overlaps(net):
                    found.at(
                        "circuits",
                        row,
                        column,
                        f"{net} meets {other} on row {first.number} of the same network",
                        "correct one of them",
                    )
            taken[v["network"]].append((net, row))
    _check_public_lans(found, rows["sites"], policy)


def _check_ranges(found: Findings, rows: dict[str, list[Row]]) -> None:
    """Each legacy circuit lies in its network's prefixes; many outside are one mistake, said where it was made."""
    for network in rows["networks"]:
        prefixes = network.values["prefixes"]
        if not prefixes:
            continue  # said already, and nothing can be held against it
        outside: list[tuple[Row, str, IPv4Network]] = [
            (row, column, row.values[column])
            for row in rows["circuits"]
            for column in ("lan_prefix", "wan_prefix")
            if row.values["network"] == network.values["id"]
            and row.values[column] is not None
            and not any(row.values[column].subnet_of(p) for p in prefixes)
        ]
        if len(outside) > FEW:
            what = (
                f"{counted(len(outside), 'prefix', 'prefixes')} in circuits lie outside "
                f"{', '.join(map(str, prefixes))}, first {outside[0][2]} "
                f"(circuits {list_rows(str(row.number) for row, _, _ in outside)})"
            )
            found.at("networks", network, "prefixes", what, "correct or add a range here, or correct those rows")
            continue
        for row, column, net in outside:
            what = f"expected a part of {network.values['id']}'s prefixes, found {net}"
            found.at("circuits", row, column, what, "correct it, or add the range to networks")


def _check_public_lans(found: Findings, rows: list[Row], policy: Policy) -> None:
    lans: list[tuple[IPv4Network, int]] = []
    for row in rows:
        net = row.values["public_ipv4"]
        if net is None:
            continue
        if not net.subnet_of(policy.ipv4_pool) or net.overlaps(policy.shared_ipv4):
            found.at(
                "sites",
                row,
                "public_ipv4",
                f"expected a part of ipv4_pool {policy.ipv4_pool} outside shared_ipv4, found {net}",
                "correct it",
            )
        for other, number in lans:
            if other.overlaps(net):
                found.at("sites", row, "public_ipv4", f"{net} meets {other} on row {number}", "correct one of them")
        lans.append((net, row.number))
