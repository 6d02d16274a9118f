"""What a sample of an old line, and what two that follow one another, speak against its silence. Pure.

A consumer is named by address, MAC, device and port, and as a station or server of the inventory or as undeclared. What is
normal after a cutover is nobody's sign of use: the line's own two ends, the gateway of the county's LAN, the configuration
that the inventory gives, and broadcasts on a shared LAN.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from ipaddress import IPv4Network
from typing import Literal

from inventory.model import Model, Soak, Source, Unit
from inventory.wording import counted
from migration.old_lines import LinePort, OldLine, is_inside
from migration.proof import CLOCK_SKEW_S, Situation, say_moment, say_untimely
from migration.soak_samples import SoakSample
from migration.steady import Most
from migration.terms import policy_values, say_sampled_less
from migration.units import UnitState
from nornir_tasks.old_line import FlowSeen, LineSeen, PortSeen, RouteSeen, SocketSeen, Usage, is_unicast
from nornir_tasks.redaction import redact

_ROUTING = frozenset({("tcp", 179), ("tcp", 646), *(("udp", port) for port in (520, 521, 646, 3784, 4784))})
"""What routers keep up between themselves: BGP, LDP, RIP, BFD."""

_CHANGES_OF_AN_ACT = 4
"""How often a port may lose and find its carrier when both ends of its line are closed and opened, not quite together."""

_MARGIN_S = 2.0
"""How far the age of a neighbour, told in whole seconds, may be off."""

Kind = Literal["lost", "unknown", "moved", "consumer", "flapping", "reset", "dead", "open", "routed", "named", "dns"]


class Finding(Model):
    """One thing that speaks against an old line's silence. `who` is an address, `mac`, `device` and `port` where it is."""

    kind: Kind
    why: str
    who: str = ""
    mac: str = ""
    device: str = ""
    port: str = ""
    known: str = ""
    """Which station or server of the inventory it is; empty: undeclared, or nobody in particular."""
    since: float | None = None
    """When it was first seen (Unix time)."""

    def __str__(self) -> str:
        since = f", first seen {say_moment(self.since)}" if self.since is not None else ""
        return f"{self.why}{since}"


@dataclass
class Lookout:
    """Looks at the samples of one unit's old line."""

    line: OldLine
    situation: Situation

    def __post_init__(self) -> None:
        self.unit: Unit = self.line.unit
        self.policy: Soak = self.situation.policy.soak
        self.quiet_since = self.situation.find_quiet(self.line.carried)
        """When the last unit that the line carries was cut over; None while one is not."""
        self.own_ports: dict[str, dict[str, LinePort]] = {}
        """The line's ports by router and name."""
        for port in self.line.ports:
            self.own_ports.setdefault(port.device, {}).setdefault(port.name, port)

    @property
    def empty_since(self) -> float | None:
        """When the last unit of the network was cut over; None while one is not."""
        return self.situation.empty_since[self.unit.network]

    @cached_property
    def lines_of_network(self) -> tuple[IPv4Network, ...]:
        """The addresses of each line of the network."""
        circuits = (c for c in self.situation.county.circuits if c.network == self.unit.network)
        return tuple(c.wan_prefix for c in circuits if c.wan_prefix is not None)

    def after(self, state: UnitState, moment: float) -> bool:
        """Tell whether the unit was in a state (or later) at a moment, and still is."""
        entered = self.situation.record(self.unit.id).entered.get(state)
        return entered is not None and moment >= entered.timestamp()

    def acts_of_ours(self, device: str, start: float, end: float) -> int:
        """Count our own changes to a device that were under way between two moments."""
        acts = self.situation.acts_by_device.get(device)
        return sum(act.during(start, end) for act in acts) if acts else 0

    # --- one sample ---

    def see_sample(self, sample: SoakSample) -> Iterator[Finding]:
        """Say what one sample alone speaks against the line's silence."""
        why = self.untrusted(sample)
        if why:
            yield Finding(kind="lost", why=f"the sample of {say_moment(sample.taken_to)} does not count: {why}")
            return
        if not sample.names and sample.silent.issuperset(self.line.devices):
            for device in self.line.legacy:
                yield from self.see_ports(sample.usage_by_device[device], sample)
            return
        yield from self.see_unknown(sample)
        for device in self.line.legacy:
            usage = sample.usage(device)
            if usage is not None:
                yield from self.see_ports(usage, sample)
                yield from self.see_flows(usage, sample)
                yield from self.see_sockets(usage, sample)
                yield from self.see_legacy_names(usage, sample)
        for device in self.line.extranet:
            usage = sample.usage(device)
            if usage is not None:
                yield from self.see_extranet_names(usage, sample)
        yield from self.see_dns(sample)

    def untrusted(self, sample: SoakSample) -> str:
        """Say why a sample is no witness; empty when it is one."""
        if sample.problem:
            return sample.problem
        return say_untimely(sample, self.situation.now_s) or self.taken_under_less(sample.policy)

    def taken_under_less(self, digest: str) -> str:
        """Say that samples taken under a policy looked less closely than the unit's terms and those of now want."""
        terms = self.situation.policies.terms.get(self.unit.id)
        known, key = self.situation.sampled_less, (digest, terms.digest if terms else "")
        if key not in known:
            values = self.situation.policies.values
            asked = [policy_values(self.situation.policy), *(v for v in [values.get(key[1])] if v is not None)]
            sampled = values.get(digest)
            known[key] = (
                "the policy it was taken under is not on record"
                if sampled is None
                else say_sampled_less(sampled, *asked)
            )
        return known[key]

    def see_unknown(self, sample: SoakSample) -> Iterator[Finding]:
        must, usages = self.policy.must_know, sample.usage_by_device
        for device in self.line.devices:
            usage = usages.get(device)
            if usage is None:
                yield Finding(
                    kind="unknown", why=f"{device}: what uses it is not known: it was not asked", device=device
                )
                continue
            if not usage.unknown:
                continue
            legacy = device in self.line.legacy
            asked: tuple[Source, ...] = (
                ("counters", "neighbors", "routes", "config", "flows") if legacy else ("counters", "routes", "config")
            )
            missing = [s for s in asked if s in usage.unknown and s in must]
            if legacy and not missing and {"counters", "flows"} <= usage.unknown.keys():
                missing = ["counters"]
            by_reason: dict[str, list[str]] = {}
            for source in missing:
                by_reason.setdefault(usage.unknown[source], []).append(source)
            for reason, sources in by_reason.items():
                what = ", ".join(sources)
                why = f"{device}: {what} - expected known, found unknown: {reason.removeprefix(f'{device}: ')}"
                yield Finding(kind="unknown", why=why, device=device)
        if "names" in must:
            for seen in sample.names:
                if seen.unknown and seen.plane == self.unit.plane:
                    yield Finding(
                        kind="unknown",
                        why=f"DNS: {seen.name} at {seen.resolver} - expected an answer, found {seen.unknown}",
                    )

    def see_ports(self, usage: Usage, sample: SoakSample) -> Iterator[Finding]:
        """Look at the state of the line's own ports."""
        if usage.device not in self.own_ports or "counters" in usage.unknown:
            return
        shut = self.after(UnitState.SHUT, sample.recorded)
        for port in self.line.ports:
            if port.device != usage.device:
                continue
            seen = usage.port(port.name)
            where = f"{port.device} port {port.name}"
            if seen is None:
                yield Finding(
                    kind="unknown",
                    why=f"{where} - expected there, found no such port",
                    device=port.device,
                    port=port.name,
                )
                continue
            if seen.management and not shut:
                yield Finding(
                    kind="unknown",
                    why=f"{where} - expected only the line's own traffic, found our own sessions on it: manage {port.device} "
                    "another way",
                    device=port.device,
                    port=port.name,
                )
            if self.acts_of_ours(port.device, sample.taken_from, sample.recorded):
                continue  # a trial closes the line for a while, and opens it again
            down = shut or (port.lan and not self.line.at_county)
            if down and seen.up and (not shut or self.line_is_down()):
                yield Finding(
                    kind="open", why=f"{where} - expected shut, found up again", device=port.device, port=port.name
                )
            elif not down and self.judges_line(sample) and not seen.carrier:
                yield Finding(
                    kind="dead",
                    why=f"{where} - expected a live line, found no carrier: a dead line's silence proves nothing",
                    device=port.device,
                    port=port.name,
                )

    def line_is_down(self) -> bool:
        """Tell whether everything that the line carried is shut, so that its ports must be down."""
        return all(self.situation.record(u.id).state.reached(UnitState.SHUT) for u in self.line.carried)

    def judges_line(self, *samples: SoakSample) -> bool:
        """Tell whether all that the line carries was cut over before these samples, so that its counters speak."""
        quiet = self.quiet_since
        return quiet is not None and all(s.recorded >= quiet for s in samples)

    def watched_ports(self, usage: Usage, *samples: SoakSample) -> Iterator[tuple[PortSeen, LinePort | None]]:
        """Give the ports whose traffic speaks: the unit's own, the line's when it is all that they carry, undeclared ones."""
        own, at_router = self.own_ports.get(usage.device, {}), usage.device == self.line.router
        for seen in usage.ports:
            port = own.get(seen.name)
            if seen.management or (port is None and not at_router):
                continue
            if port is not None:
                if (port.lan and not self.line.at_county) or self.judges_line(*samples):
                    yield seen, port
            elif seen.name not in self.line.declared_ports:
                yield seen, None

    def count_same(self, first: SoakSample, later: Sequence[SoakSample]) -> int:
        """Return how many samples after one show just what it showed: the same, and nothing became of the unit meanwhile."""
        count = self.situation.steady.count_after(first, later, self.line.devices) if later else 0
        if not count:
            return 0
        entered = self.situation.record(self.unit.id).entered
        moments = [entered[s].timestamp() for s in (UnitState.DRAINED, UnitState.SHUT) if s in entered]
        if max([*moments, self.quiet_since or 0.0]) > first.recorded:
            return 0
        acts = (a for d in self.line.devices for a in self.situation.acts_by_device.get(d, ()))
        return 0 if any(act.ended is None or act.ended >= first.taken_from for act in acts) else count

    def see_flows(self, usage: Usage, sample: SoakSample) -> Iterator[Finding]:
        """Name whoever was heard talking while the sample was taken."""
        if not usage.flows:
            return
        ports = {p.name for p, _ in self.watched_ports(usage, sample)}
        lines = {p.name for p in self.line.ports if p.device == usage.device and not p.lan}
        talks: dict[tuple[str, str], list[FlowSeen]] = {}
        for flow in usage.flows:
            mine = self.line.inside(flow.source) or self.line.inside(flow.destination)
            if flow.port in ports or (flow.port in lines and mine and not self.line.at_county):
                who = self.stranger(flow)
                if who:
                    talks.setdefault((flow.port, who), []).append(flow)
        for (port, who), flows in talks.items():
            known = self.line.identify(who)
            own = [f for f in flows if f.source == who]
            first = (own or flows)[0]
            # On the line itself every packet comes from the router at its other end.
            mac = first.mac if own and port not in lines else ""
            asks = f"{first.protocol}" + (f"/{first.service}" if first.service is not None else "")
            talk = f"talks to {first.destination} ({asks})" if own else f"is spoken to by {first.source} ({asks})"
            yield Finding(
                kind="consumer",
                why=f"{usage.device} port {port}: {known or 'undeclared host'} {who}{f', MAC {mac},' if mac else ''} {talk}",
                who=who,
                mac=mac,
                device=usage.device,
                port=port,
                known=known,
            )

    def see_sockets(self, usage: Usage, sample: SoakSample) -> Iterator[Finding]:
        """Name whom an old router itself talks with by the line or its LAN: a proxy on it is nobody that it forwards."""
        if not usage.sockets:
            return
        own = {a for port in usage.ports for a in port.addresses}
        judged, at_router = self.judges_line(sample), usage.device == self.line.router
        talks: dict[tuple[str, str, int], SocketSeen] = {}
        for seen in usage.sockets:
            if judged:
                mine = at_router or self.concerns(seen.peer) or self.concerns(seen.local)
            else:  # whoever is not cut over yet speaks with the router by right
                mine = self.line.inside(seen.peer) and not self.line.at_county
            if not mine or seen.peer in own or not is_unicast(seen.peer) or self.holds_route(seen):
                continue
            talks.setdefault((seen.protocol, seen.peer, min(seen.local_port, seen.peer_port)), seen)
        for (protocol, peer, asked), seen in talks.items():
            known = self.line.identify(peer) or ("the line's own end" if self.line.is_line_end(peer) else "")
            way = "talks to" if asked == seen.local_port else "is spoken to by"
            why = f"{known or 'undeclared host'} {peer} {way} this router itself, {seen.local} ({protocol}/{asked})"
            yield Finding(kind="consumer", why=f"{usage.device}: {why}", who=peer, device=usage.device, known=known)

    def holds_route(self, seen: SocketSeen) -> bool:
        """Tell whether a conversation is that of routing protocols between the two ends of a line."""
        routing = bool({(seen.protocol, seen.local_port), (seen.protocol, seen.peer_port)} & _ROUTING)
        return routing and any(is_inside(seen.local, w) and is_inside(seen.peer, w) for w in self.lines_of_network)

    def stranger(self, flow: FlowSeen) -> str:
        """Return whose a conversation is that is not the line's own two ends'; empty when it is nobody's."""
        if not (is_unicast(flow.source) and is_unicast(flow.destination)):
            return ""
        others = [a for a in (flow.source, flow.destination) if not self.line.is_end(a)]
        undeclared = [a for a in others if not self.line.identify(a)]
        return next(iter(undeclared or others), "")

    def see_legacy_names(self, usage: Usage, sample: SoakSample) -> Iterator[Finding]:
        """Look for routes and configuration lines on a legacy router that name the line and are nobody's by the inventory."""
        line, device = self.line, usage.device
        if not usage.lines and not usage.routes:
            return
        declared = line.declared_lines.get(device, frozenset())
        drained = self.after(UnitState.DRAINED, sample.recorded) and device == line.hub and not line.at_county
        lan, own = str(self.unit.lan_prefix), self.own_ports.get(device, {})
        said: set[str] = set()
        for seen in usage.lines:
            stale = drained and seen.line.startswith(f"ip route {lan} ")
            concerns = device == line.router or any(self.concerns(word) for word in seen.names)
            if stale or (concerns and (seen.block, seen.line) not in declared):
                said |= set(seen.names) if seen.source == "config" else set()
                yield _named(device, seen)
        for route in usage.routes:
            if route.number:
                if self.leads_by_hand(device, route):
                    yield _routed(device, route)
                continue
            stale = drained and route.prefix == lan and bool(route.via or (route.port and not route.attached))
            by_line = line.is_line_end(route.via) or (route.port in own and not (route.via or route.attached))
            strange = by_line and not self.declared_route(route.prefix)
            if (stale or strange) and not {route.prefix, route.via} & said:
                yield _routed(device, route)

    def leads_by_hand(self, device: str, route: RouteSeen) -> bool:
        """Tell whether a route in a table of somebody's own is about this line; by the inventory there is no such table."""
        leads = bool(route.via or route.port)
        by_line = self.line.is_line_end(route.via) or route.port in self.own_ports.get(device, ())
        return by_line or (leads and self.concerns(route.prefix))

    def concerns(self, word: str) -> bool:
        """Tell whether an address or prefix is one of this unit's LAN or line."""
        address = word.partition("/")[0]
        return self.line.inside(address) or self.line.is_line_end(address)

    def declared_route(self, prefix: str) -> bool:
        """Tell whether a legacy router has a route by right: to a LAN of its network, a line of it, or everywhere."""
        nets = {str(u.lan_prefix) for u in self.situation.county.units if u.network == self.unit.network}
        return prefix in nets | {"0.0.0.0/0"} | {str(w) for w in self.line.wans}

    def see_extranet_names(self, usage: Usage, sample: SoakSample) -> Iterator[Finding]:
        """Look for what still leads from the extranet to the old line: by the hub's address, or by the line's own."""
        line, device = self.line, usage.device
        if not usage.lines and not usage.routes:
            return
        if line.at_county and not self.judges_line(sample):
            return  # by the hub go all who are not cut over yet
        hub = str(line.interconnect) if line.interconnect is not None else ""
        for route in usage.routes:
            by_hub = route.via == hub and self.leads_here(route.prefix)
            if route.table == self.unit.plane and (by_hub or self.names_line((route.prefix, route.via))):
                yield _routed(device, route)
        for seen in usage.lines:
            by_hub = hub in seen.names and any(self.leads_here(w) for w in seen.line.split() if "/" in w)
            blocks = seen.block.split()
            elsewhere = blocks[:1] in (["vrf"], ["interface"]) and self.unit.plane not in blocks
            if (by_hub or self.names_line(seen.names)) and not elsewhere:
                yield _named(device, seen)

    def names_line(self, words: tuple[str, ...]) -> bool:
        """Tell whether one of some addresses or prefixes is the line's own."""
        return any(self.line.is_line_end(w.partition("/")[0]) for w in words)

    def leads_here(self, prefix: str) -> bool:
        """Tell whether a route by the hub is about this unit; the hub's own carries everybody left, so any is."""
        try:
            net = IPv4Network(prefix)
        except ValueError:
            return False
        return self.line.at_county or net.subnet_of(self.unit.lan_prefix)

    def see_dns(self, sample: SoakSample) -> Iterator[Finding]:
        """Look for names of this plane's services that still lead into the old network, but not to where they are now."""
        if not sample.names:
            return
        old = self.situation.county.network_by_id[self.unit.network].prefixes
        for seen in sample.names:
            now = self.situation.addresses_of_names.get((seen.name, seen.family), set())
            for address in seen.addresses if seen.plane == self.unit.plane else ():
                if address not in now and any(is_inside(address, p) for p in old):
                    expected = ", ".join(sorted(now)) or "no address"
                    why = (
                        f"DNS: {seen.name} at {seen.resolver} - expected {expected}, found {address} of the old network"
                    )
                    yield Finding(kind="dns", why=why)

    # --- two samples ---

    def see_since(self, before: SoakSample, sample: SoakSample) -> Iterator[Finding]:
        """Say what happened since the sample before; nothing is known of it unless both are witnesses."""
        if not self.untrusted(before) and not self.untrusted(sample):
            yield from self.see_pair(before, sample)

    def see_pair(self, before: SoakSample, sample: SoakSample) -> Iterator[Finding]:
        """Say what happened between two samples that follow one another."""
        between = f"between {say_moment(before.recorded)} and {say_moment(sample.recorded)}"
        if sample.before.get(self.unit.id) not in self.situation.soak_digests:
            yield Finding(kind="lost", why=f"a sample {between} is missing from the record")
            return
        if sample.recorded < before.recorded or sample.taken_from < before.taken_to - CLOCK_SKEW_S:
            yield Finding(kind="lost", why=f"the clock was set back {between}: what lies there is not known")
            return
        for device in self.line.legacy:
            old, new = before.usage(device), sample.usage(device)
            if old is None or new is None:
                yield Finding(kind="unknown", why=f"{device}: was not asked {between}", device=device)
                continue
            if "counters" not in {*old.unknown, *new.unknown}:
                yield from self.see_counters(old, new, before, sample, between)
            yield from self.see_neighbors(new, before, sample)
        yield from self.see_new_way(before, sample, between)

    def see_new_way(self, before: SoakSample, sample: SoakSample, between: str) -> Iterator[Finding]:
        """Say which of the extranet's own lines under the unit flapped: what it has now must be as steady as what it had."""
        pairs = {d: (before.usage_by_device.get(d), sample.usage_by_device.get(d)) for d in self.line.extranet}
        if all(old is None or new is None or old.carriers == new.carriers for old, new in pairs.values()):
            return  # of nearly all
        told: set[str] = set()
        most = 2 * self.policy.line_losses
        for circuit, device, ports in self.line.new_way:
            old, new = pairs[device]
            if circuit in told or old is None or new is None:
                continue
            for port in ports:
                flaps, anew = _count_changes(old, new, port)
                if flaps > most + (_CHANGES_OF_A_START if anew else 0):
                    told.add(circuit)
                    why = (
                        f"{circuit} of the extranet, {device} port {port}: flapping - expected at most {most} carrier "
                        f"changes, found {flaps} {between}"
                    )
                    yield Finding(kind="flapping", why=why, device=device, port=port)
                    break

    def see_counters(
        self, old: Usage, new: Usage, before: SoakSample, sample: SoakSample, between: str
    ) -> Iterator[Finding]:
        device = new.device
        if old.incarnation != new.incarnation:
            yield Finding(
                kind="reset", why=f"{device}: started anew {between}: what its counters held is gone", device=device
            )
            return
        most = Most.between(before, sample, self.policy)
        for seen, port in self.watched_ports(new, before, sample):
            then = old.port(seen.name)
            where = f"{device} port {seen.name}" + ("" if port is not None else ", which is in no table,")
            if then is None:
                if port is not None:
                    yield Finding(
                        kind="reset",
                        why=f"{where} came anew {between}: what its counters held is gone",
                        device=device,
                        port=seen.name,
                    )
                then = PortSeen(
                    name=seen.name,
                    up=False,
                    carrier=False,
                    rx_packets=0,
                    rx_bytes=0,
                    tx_packets=0,
                    tx_bytes=0,
                    carrier_changes=0,
                )
            ours = self.acts_of_ours(device, before.recorded, sample.recorded) * _CHANGES_OF_AN_ACT
            flaps = seen.carrier_changes - then.carrier_changes
            packets, size = _moved(then, seen, sent_only=port is not None and port.lan and self.line.at_county)
            if min(packets, size, flaps) < 0:
                yield Finding(
                    kind="reset",
                    why=f"{where}: its counters were cleared {between}",
                    device=device,
                    port=seen.name,
                )
                continue
            if flaps > ours and port is not None:
                steady = f"at most {ours} carrier changes by our own acts" if ours else "no carrier change"
                why = f"{where}: flapping - expected {steady}, found {flaps} {between}"
                yield Finding(kind="flapping", why=why, device=device, port=seen.name)
            if packets > most.packets or size > most.size:
                yield Finding(
                    kind="moved",
                    why=f"{where}: expected at most {most.packets:.0f} packets and {most.size:.0f} bytes of hellos, found "
                    f"{counted(packets, 'packet')} and {counted(size, 'byte')} {between}",
                    device=device,
                    port=seen.name,
                )
        if self.judges_forwarded(device, before, sample):
            sent = (new.forwarded or 0) - (old.forwarded or 0)
            if sent < 0:
                yield Finding(
                    kind="reset", why=f"{device}: its count of forwarded packets was cleared {between}", device=device
                )
            elif sent > most.forwarded:
                why = f"{device}: expected at most {most.forwarded:.0f} packets forwarded, found {sent} {between}"
                yield Finding(kind="moved", why=f"{why}{self.overheard(new)}", device=device)

    def judges_forwarded(self, device: str, *samples: SoakSample) -> bool:
        """Tell whether all that a router forwards is use of an old line that is done with.

        The hub forwards for every line of the network: its count speaks once nobody of the network is left.
        """
        if device == self.line.router:
            return self.judges_line(*samples)
        return device == self.line.hub and self.empty_since is not None and samples[0].recorded >= self.empty_since

    def overheard(self, usage: Usage) -> str:
        """Name conversations that the router's connection tracking knows, to help find who it was."""
        known = [f for f in usage.flows if not f.port][:3]
        return "".join(f"; tracked: {f.source} → {f.destination} {f.protocol}" for f in known)

    def see_neighbors(self, usage: Usage, before: SoakSample, sample: SoakSample) -> Iterator[Finding]:
        """Name whoever a legacy router heard or used on the line's ports since the sample before."""
        if "neighbors" in usage.unknown:
            return
        mine = {p.name: p for p in self.line.ports if p.device == usage.device}
        managed = {p.name for p in usage.ports if p.management}
        for one in usage.neighbors:
            port = mine.get(one.port)
            if one.port in managed or not is_unicast(one.address) or self.line.is_end(one.address):
                continue
            undeclared = usage.device == self.line.router and one.port not in self.line.declared_ports
            if port is None and not undeclared:
                continue
            if port is not None and self.line.at_county and not self.judges_line(before, sample):
                continue
            heard = sample.recorded - one.idle_s
            if heard <= before.recorded + _MARGIN_S:
                continue
            known = self.line.identify(one.address)
            yield Finding(
                kind="consumer",
                why=f"{usage.device} port {one.port}: {known or 'undeclared host'} {one.address}, MAC {one.mac}, "
                f"last heard {say_moment(heard)}",
                who=one.address,
                mac=one.mac,
                device=usage.device,
                port=one.port,
                known=known,
            )


_NAMING = {
    "config": "its configuration still names",
    "rule": "its routing rules still name",
    "filter": "its packet filter still names",
}


def _named(device: str, seen: LineSeen) -> Finding:
    inside = f" (in {seen.block})" if seen.block else ""
    found = redact(seen.line)  # a sample of before may hold what none keeps now
    why = f"{device}: {_NAMING[seen.source]} the old network - expected no such line, found {found!r}{inside}"
    return Finding(kind="named", why=why, device=device)


def _routed(device: str, route: RouteSeen) -> Finding:
    where = f"{route.prefix} via {route.via or route.port}"
    where += (f" in table {route.number}" if route.number else "") + (f" in VRF {route.table}" if route.table else "")
    why = f"{device}: still leads to the old line - expected no such route, found {where} ({route.source})"
    return Finding(kind="routed", why=why, device=device)


_CHANGES_OF_A_START = 2
"""What a port's count of carrier changes begins with: it is made, and comes up."""


def _count_changes(old: Usage, new: Usage, port: str) -> tuple[int, bool]:
    """Return how often a port's carrier changed between two answers, and whether it began to count anew between them.

    A router's kernel counts: it begins anew when the machine is started, not when its routing is.
    """
    now, then = new.carriers.get(port, 0), old.carriers.get(port)
    boots = {usage.incarnation.partition(" ")[0] for usage in (old, new)}
    if then is None or then > now or len(boots) > 1:
        return now, True
    return now - then, False


def _moved(old: PortSeen, new: PortSeen, *, sent_only: bool) -> tuple[int, int]:
    """Return the packets and bytes between two readings of a port; negative when a counter went back."""
    sent = (new.tx_packets - old.tx_packets, new.tx_bytes - old.tx_bytes)
    got = (new.rx_packets - old.rx_packets, new.rx_bytes - old.rx_bytes)
    if min(*sent, *got) < 0:
        return -1, -1
    return sent if sent_only else (sent[0] + got[0], sent[1] + got[1])
