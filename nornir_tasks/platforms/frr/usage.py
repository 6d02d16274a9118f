"""Who still uses an FRR router on Linux: `usage.sh` asks everything in one go, and what it said is read here.

Counters come from `ip -s link` and the kernel's count of forwarded packets; neighbours from its ARP and ND tables, and whom
it talks with itself from its sockets; routes
from all of the kernel's tables (in every VRF) and from zebra's, with the rules that choose among tables and those of the
packet filter; packets are heard for some seconds on a packet socket, and taken
from conntrack where the kernel tracks connections. A part that failed or was cut short is unknown, with its reason.
Secrets are hidden before anything is read: neither what is concluded nor what is kept holds one.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from importlib.resources import files
from ipaddress import IPv4Address, IPv4Network, ip_address
from typing import Literal, NamedTuple, TypeVar

from inventory.model import Source
from nornir_tasks.old_line import (
    FlowSeen,
    LineSeen,
    NeighborSeen,
    PortSeen,
    RouteSeen,
    SocketSeen,
    Usage,
    names_any,
    nothing_known,
)
from nornir_tasks.redaction import redact

T = TypeVar("T")
_TABLES = re.compile(
    r"^@@ (?:links|addresses|neighbors|kernel-routes|rules|routing|heard)\n(?=[\[{#])(?:(?!@@ )[^\n]*\n)*?@@ end 0$",
    re.MULTILINE,
)
"""Whole answers that are JSON: they hold no configuration, and must stay readable."""
_ADDRESS = re.compile(r"(?<![\d.])\d{1,3}(?:\.\d{1,3}){3}(?:/\d{1,2})?(?![\d.])")
_BLOCKS = ("interface ", "vrf ", "router ", "route-map ", "address-family ")


class Part(NamedTuple):
    """What one part of the script said. `status` is None when it was cut short or is missing."""

    text: str
    status: int | None


class PartError(Exception):
    """A part that says nothing usable; str() is the reason."""


@cache
def usage_script() -> str:
    """Return the script that a router runs."""
    return files(__package__).joinpath("usage.sh").read_text("utf-8")


def hide_secrets(text: str) -> str:
    """Return what the script said without the secrets of the configuration in it, or of what a failed part quotes."""
    out, at = [], 0
    for table in _TABLES.finditer(text):
        out += [redact(text[at : table.start()]), table[0]]
        at = table.end()
    return "".join([*out, redact(text[at:])])


def split_parts(text: str) -> dict[str, Part]:
    """Return the script's parts by name."""
    parts: dict[str, Part] = {}
    name, lines = "", []
    for line in text.splitlines():
        words = line.split()
        if words[:1] != ["@@"]:
            lines.append(line)
        elif words[1:2] == ["end"] and len(words) == 3 and name:
            parts[name] = Part("\n".join(lines).strip(), int(words[2]) if words[2].isdigit() else None)
            name, lines = "", []
        elif len(words) == 2:
            if name:
                parts[name] = Part("\n".join(lines).strip(), None)
            name, lines = words[1], []
    if name:
        parts[name] = Part("\n".join(lines).strip(), None)
    return parts


def read_usage(device: str, text: str, names: Iterable[IPv4Network]) -> Usage:
    """Read what a router said; `names` are the prefixes whose routes and configuration lines are wanted."""
    parts, wanted = split_parts(hide_secrets(text)), tuple(names)
    unknown: dict[Source, str] = {}

    def take(source: Source, read: Callable[[], T], instead: T) -> T:
        try:
            return read()
        except PartError as error:
            unknown[source] = str(error)
        except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
            unknown[source] = f"its answer cannot be read ({type(error).__name__})"
        return instead

    try:
        at = float(_said(parts, "clock"))
    except (PartError, ValueError):
        return nothing_known(device, "does not tell the time, so nothing it says has one", at=time.time())
    none: tuple[tuple[FlowSeen, ...], str] = ((), "")
    no_ports: tuple[PortSeen, ...] = ()
    no_lines: tuple[LineSeen, ...] = ()
    ports = take("counters", lambda: _read_ports(parts), no_ports)
    flows, flow_source = take("flows", lambda: _read_flows(parts), none)
    mine = {p.name for p in ports if p.management}
    return Usage(
        device=device,
        at=at,
        incarnation=take("counters", lambda: _said(parts, "life"), ""),
        ports=ports,
        forwarded=take("counters", lambda: _read_forwarded(_said(parts, "forwarded")), None),
        carriers=take("counters", lambda: _read_carriers(_said(parts, "carriers")), {}),
        neighbors=take("neighbors", lambda: tuple(_read_neighbors(parts)), ()),
        sockets=take("neighbors", lambda: tuple(_read_sockets(parts, wanted)), ()),
        routes=take("routes", lambda: tuple(_read_routes(parts, wanted)), ()),
        lines=(
            *take("config", lambda: tuple(_read_lines(_said(parts, "config"), wanted)), no_lines),
            *take("routes", lambda: _read_rules(_said(parts, "rules"), wanted, "rule"), no_lines),
            *take("config", lambda: _read_rules(_said(parts, "filters"), wanted, "filter"), no_lines),
        ),
        flows=tuple(f for f in flows if f.port not in mine),
        flow_source=flow_source,
        unknown=unknown,
    )


def _said(parts: dict[str, Part], name: str) -> str:
    part = parts.get(name)
    if part is None or part.status is None:
        raise PartError(f"its answer ends before {name}")
    if part.status:
        why = part.text.splitlines()[-1][:120] if part.text else "no word"
        raise PartError(f"{name} failed there: {why}")
    return part.text


def _read_ports(parts: dict[str, Part]) -> tuple[PortSeen, ...]:
    addresses: dict[str, list[str]] = {}
    for row in json.loads(_said(parts, "addresses")):
        addresses[row["ifname"]] = [a["local"] for a in row.get("addr_info", ()) if "local" in a]
    came_to = parts["session"].text.split()[2:3] if "session" in parts else []
    mine = {str(ip_address(a.partition("%")[0])) for a in came_to}
    out = []
    for row in json.loads(_said(parts, "links")):
        name, stats = row["ifname"], row["stats64"]
        if "LOOPBACK" in row["flags"]:
            continue
        own = addresses.get(name, [])
        out.append(
            PortSeen(
                name=name,
                up="UP" in row["flags"],
                carrier="LOWER_UP" in row["flags"],
                rx_packets=stats["rx"]["packets"],
                rx_bytes=stats["rx"]["bytes"],
                tx_packets=stats["tx"]["packets"],
                tx_bytes=stats["tx"]["bytes"],
                carrier_changes=stats["tx"]["carrier_changes"],
                addresses=tuple(own),
                management=bool(mine & {str(ip_address(a)) for a in own}),
            )
        )
    return tuple(out)


def _read_carriers(text: str) -> dict[str, int]:
    """Read `/sys/class/net/PORT/carrier_changes:N`, a line each; of two ports of one name (in two VRFs) the sum."""
    out: dict[str, int] = {}
    for line in text.splitlines():
        place, _, count = line.rpartition(":")
        port = place.split("/")[4]
        if port != "lo":
            out[port] = out.get(port, 0) + int(count)
    return out


def _read_forwarded(text: str) -> int:
    heads: list[str] = []
    found = None
    for line in text.splitlines():
        words = line.split()
        if words[:1] == ["Ip:"]:
            if heads:
                found = int(words[heads.index("ForwDatagrams")])
            heads = words
        elif words[:1] == ["Ip6OutForwDatagrams"] and found is not None:
            return found + int(words[1])
    raise PartError("it does not count what it forwards")


def _read_neighbors(parts: dict[str, Part]) -> Iterator[NeighborSeen]:
    for row in json.loads(_said(parts, "neighbors") or "[]"):
        if "lladdr" not in row or "FAILED" in row.get("state", ()):
            continue
        # `updated` moves with the entry's own timers; these two only when the neighbour is used or heard.
        idle = min(float(row["used"]), float(row["confirmed"]))
        yield NeighborSeen(port=row["dev"], address=row["dst"], mac=row["lladdr"], idle_s=idle)


def _read_sockets(parts: dict[str, Part], wanted: tuple[IPv4Network, ...]) -> Iterator[SocketSeen]:
    """Read the conversations with, or from, an address that is wanted; a listener that nobody talks to is none."""
    came = (parts["session"].text.split() if "session" in parts else [])[:4]
    ours = (_plain(came[2]), came[3], _plain(came[0])) if len(came) == 4 else None
    found: dict[SocketSeen, None] = {}
    for line in _said(parts, "sockets").splitlines():
        if line.startswith("##") or not line.strip():
            continue
        protocol, _state, _received, _sent, here, there, *_ = line.split()
        (local, local_port), (peer, peer_port) = here.rsplit(":", 1), there.rsplit(":", 1)
        if peer_port == "*" or (_plain(local), local_port, _plain(peer)) == ours:
            continue
        ends = [_plain(local), _plain(peer)]
        if any(names_any(end, wanted) for end in ends) and protocol in {"tcp", "udp"}:
            seen = SocketSeen(
                protocol="tcp" if protocol == "tcp" else "udp",
                local=ends[0],
                local_port=int(local_port),
                peer=ends[1],
                peer_port=int(peer_port),
            )
            found.setdefault(seen)
    yield from sorted(found, key=str)  # the kernel has no order of its own


def _plain(address: str) -> str:
    """Return an address as such: without brackets, port of the machine, or the way it is wrapped in IPv6."""
    bare = address.strip("[]").partition("%")[0].removeprefix("[").removesuffix("]")
    try:
        found = ip_address(bare)
    except ValueError:
        return bare
    return str(getattr(found, "ipv4_mapped", None) or found)


def _read_routes(parts: dict[str, Part], wanted: tuple[IPv4Network, ...]) -> Iterator[RouteSeen]:
    yield from (r for r in _kernel_routes(_said(parts, "kernel-routes")) if _concerns(r, wanted))
    yield from (r for r in _routing_routes(_said(parts, "routing")) if _concerns(r, wanted))


def _kernel_routes(text: str) -> Iterator[RouteSeen]:
    """Read the kernel's tables, those of each namespace a line of JSON under a line with its name."""
    table = ""
    for line in text.splitlines():
        if line.startswith("#"):
            table = line[1:].strip()
            continue
        for row in json.loads(line) if line.strip() else ():
            attached = row.get("protocol") == "kernel"
            number = str(row.get("table", "main"))
            if number != "main" and attached:
                continue  # the table `local`, and what follows from a port's address in a VRF
            prefix = "0.0.0.0/0" if row["dst"] == "default" else row["dst"]
            for hop in row.get("nexthops", [row]):
                yield RouteSeen(
                    table=table,
                    number="" if number == "main" else number,
                    prefix=prefix if "/" in prefix else f"{prefix}/32",
                    via=hop.get("gateway") or hop.get("via", {}).get("host", ""),
                    port=hop.get("dev", row.get("dev", "")),
                    source="kernel",
                    attached=attached,
                )


def _routing_routes(text: str) -> Iterator[RouteSeen]:
    """Read zebra's tables: one JSON object a VRF, one behind the other."""
    decoder, at = json.JSONDecoder(), 0
    while at < len(text):
        found, at = decoder.raw_decode(text, at)
        while at < len(text) and text[at].isspace():
            at += 1
        for prefix, routes in found.items():
            for route in routes:
                vrf = route.get("vrfName", "")
                for hop in route.get("nexthops", ()):
                    yield RouteSeen(
                        table="" if vrf == "default" else vrf,
                        prefix=prefix,
                        via=hop.get("ip", ""),
                        port=hop.get("interfaceName", ""),
                        source="routing",
                        attached=route.get("protocol") in {"connected", "local"},
                    )


def _concerns(route: RouteSeen, wanted: tuple[IPv4Network, ...]) -> bool:
    """Tell whether a route names what is wanted, or leads out of a port by itself: whose port that is, the reader knows.

    In a table that somebody made it is wanted also when it leads everywhere.
    """
    if route.port and not route.via and not route.attached:
        return True
    net = IPv4Network(route.prefix)
    if any(net.subnet_of(w) or (route.number and net.overlaps(w)) for w in wanted):
        return True
    try:
        return any(IPv4Address(route.via) in w for w in wanted)
    except ValueError:
        return False


def _read_lines(text: str, wanted: tuple[IPv4Network, ...]) -> Iterator[LineSeen]:
    if not text.splitlines()[-1:] == ["end"]:
        raise PartError("its configuration is cut short")
    block = ""
    for line in text.splitlines():
        if not line.startswith(" "):
            block = line if line.startswith(_BLOCKS) else ""
        named = names_any(line, wanted)
        if named:
            yield LineSeen(block="" if line == block else block, line=line.strip(), names=named)


def _read_rules(text: str, wanted: tuple[IPv4Network, ...], source: Literal["rule", "filter"]) -> tuple[LineSeen, ...]:
    """Read the rules that name what is wanted, those of each namespace under a line with its name."""
    found: dict[LineSeen, None] = {}
    block = ""
    for text_line in text.splitlines():
        if text_line.startswith("##"):
            name = text_line[2:].strip()
            block = f"vrf {name}" if name else ""
            continue
        named = tuple(word for word in _ADDRESS.findall(text_line) if names_any(word, wanted))
        if named:
            line = text_line.strip()
            if source == "rule":
                line = f"ip rule {line.partition(':')[2].strip()}"
            found.setdefault(LineSeen(block=block, line=line, names=named, source=source))
    return tuple(found)


def _read_flows(parts: dict[str, Part]) -> tuple[tuple[FlowSeen, ...], str]:
    found: list[FlowSeen] = []
    means = []
    why = ""
    try:
        for port, source, destination, mac, protocol, service, packets in json.loads(_said(parts, "heard")):
            found.append(
                FlowSeen(
                    port=port,
                    source=source,
                    destination=destination,
                    mac=mac,
                    protocol=protocol,
                    service=service,
                    packets=packets,
                )
            )
        means.append("packets")
    except PartError as error:
        why = str(error)
    if parts.get("tracked", Part("", None)).status == 0:
        found += _read_tracked(parts["tracked"].text)
        means.append("conntrack")
    if not means:
        raise PartError(why)
    return tuple(found), "+".join(means)


def _read_tracked(text: str) -> Iterator[FlowSeen]:
    """Read `tcp 6 431999 ESTABLISHED src=10.20.8.9 dst=10.20.0.80 sport=4 dport=5 ...` (the first direction)."""
    for line in text.splitlines():
        fields: dict[str, str] = {}
        for word in line.split():
            name, equals, value = word.partition("=")
            if equals:
                fields.setdefault(name, value)
        if {"src", "dst"} <= fields.keys():
            names = [w for w in line.split() if w in {"tcp", "udp", "icmp", "icmpv6"}]
            yield FlowSeen(
                port="",
                source=fields["src"],
                destination=fields["dst"],
                mac="",
                protocol=names[0] if names else "other",
                service=int(fields["dport"]) if fields.get("dport", "").isdigit() else None,
                packets=int(fields["packets"]) if fields.get("packets", "").isdigit() else 1,
            )
