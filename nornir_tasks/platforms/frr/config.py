"""FRR's configuration as a value: read it, print it canonically, merge lines into it, and find the way between two.

A configuration is a tree of blocks, known by their header lines (`router bgp 65001 vrf finance`, then
`address-family ipv4 unicast`), each with its own lines. Lines of one block do not depend on each other's order:
where order counts FRR gives sequence numbers. So two texts mean the same when their trees hold the same lines.

What belongs to the hardware and not to the configuration is left out of comparisons: which VRFs and namespaces exist
(`vrf X`, `netns ...`), bare interface headers, the software's version and its set of defaults.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

BlockPath = tuple[str, ...]
_Command = tuple[BlockPath, str]

_VOLATILE = re.compile(
    r"^(frr version |frr defaults |Building configuration|Current configuration|end$|configure terminal$)"
)
_CLOSERS = ("exit", "exit-vrf", "exit-address-family", "exit-vnc", "exit-vni")
_HEADER = re.compile(
    r"^(vrf \S+$|interface |router |route-map |address-family |line vty|key chain |bfd$|pseudowire |l2vpn )"
)
_HARDWARE = re.compile(r"^(vrf \S+|interface \S+( vrf \S+)?|address-family .*)$")
_KEEPS_NO = re.compile(
    r"^no (ipv6 nd suppress-ra|bgp (default|ebgp-requires-policy|network|graceful|log|suppress|hard)"
    r"|ip forwarding|ipv6 forwarding|neighbor \S+ (activate|send-community|capability))"
)
_LISTS = re.compile(r"neighbor (\S+) (prefix-list|route-map|filter-list|distribute-list) \S+ (in|out)")
# Lines of which a block holds one only: a new value takes the old one's place, which must not be removed afterwards.
_SLOTS = tuple(
    re.compile(p)
    for p in (
        r"neighbor (\S+) timers connect\b",
        r"neighbor (\S+) (remote-as|description|timers|password|update-source|maximum-prefix|ebgp-multihop)\b",
        r"neighbor (\S+) (local-as|advertisement-interval|weight|peer-group)\b",
        _LISTS,
        r"(ip|ipv6) prefix-list \S+ seq \d+",
        r"bgp (router-id|cluster-id|confederation identifier)\b",
        r"ipv6 nd (ra-interval|ra-lifetime|router-preference|mtu|reachable-time)\b",
        r"(description|hostname|bandwidth|timers bgp|log file|log syslog|domainname)\b",
        r"(maximum-paths(?! ibgp)|maximum-paths ibgp)\b",
        r"set (metric|local-preference|weight|origin|tag)\b",
    )
)
_DESCRIPTION = re.compile(r"^(neighbor \S+ )?description\b")
_NEIGHBOR = re.compile(r"^neighbor (\S+) ")


@dataclass
class FrrConfig:
    """A configuration. `blocks` maps a block's path of headers to its lines, in the order read; () is the top."""

    blocks: dict[BlockPath, list[str]] = field(default_factory=lambda: {(): []})

    def add(self, path: BlockPath, *lines: str) -> None:
        """Put lines into a block, making it and the blocks around it when they are new."""
        for depth in range(len(path)):
            self.blocks.setdefault(path[:depth], [])
        here = self.blocks.setdefault(path, [])
        known = set(here)
        here.extend(line for line in lines if line not in known)

    def facts(self) -> set[tuple[BlockPath, str]]:
        """Return what the configuration says, as (block, line); a block that says something by existing has line ''."""
        out = {(path, line) for path, lines in self.blocks.items() for line in lines if not line.startswith("netns ")}
        out |= {(path, "") for path in self.blocks if path and not _HARDWARE.match(path[-1])}
        return out

    def children(self, path: BlockPath) -> list[BlockPath]:
        """Return the blocks directly inside a block."""
        return [p for p in self.blocks if len(p) == len(path) + 1 and p[: len(path)] == path]

    def copy(self) -> FrrConfig:
        """Return a copy that shares nothing."""
        return FrrConfig({path: list(lines) for path, lines in self.blocks.items()})


def parse(text: str) -> FrrConfig:
    """Read a configuration as FRR prints it: blocks are indented by one space a level. Comments, volatile lines go."""
    config = FrrConfig()
    stack: list[tuple[int, str]] = []
    rows = [row.rstrip() for row in text.splitlines()]
    rows = [row for row in rows if row.strip() and not row.lstrip().startswith(("!", "#")) and not _VOLATILE.match(row)]
    for number, row in enumerate(rows):
        line = " ".join(row.split())
        depth = len(row) - len(row.lstrip())
        while stack and stack[-1][0] >= depth:
            stack.pop()
        if line in _CLOSERS:
            continue
        path = tuple(header for _, header in stack)
        following = rows[number + 1] if number + 1 < len(rows) else ""
        deeper = len(following) - len(following.lstrip()) > depth
        if (deeper or _HEADER.match(line)) and not line.startswith("no "):
            config.add((*path, line))
            stack.append((depth, line))
        else:
            config.add(path, line)
    return config


def canonical(text: str) -> str:
    """Return the configuration's text in one fixed order of blocks, without volatile lines."""
    return print_config(parse(text))


def print_config(config: FrrConfig) -> str:
    """Return a configuration as text in FRR's own form, blocks in a fixed order."""
    out: list[str] = []
    top = config.blocks.get((), [])
    chunks: list[tuple[tuple[object, ...], list[str]]] = [(_rank_line(line), [line]) for line in top]
    chunks += [(_rank_block(path[0]), _print_block(config, path)) for path in config.children(())]
    chunks.sort(key=lambda c: c[0])
    group: object = None
    for rank, lines in chunks:
        here = rank if len(lines) > 1 else rank[:2]
        if out and here != group:
            out.append("!")
        group = here
        out.extend(lines)
    out.append("!" if out else "")
    return "\n".join(out) + "\n" if out[-1] else ""


def _print_block(config: FrrConfig, path: BlockPath) -> list[str]:
    pad = " " * (len(path) - 1)
    header = path[-1]
    out = [pad + header, *(f"{pad} {line}" for line in config.blocks[path])]
    for child in sorted(config.children(path), key=lambda p: (p[-1].split()[:1] != ["address-family"], p[-1])):
        out.append(f"{pad} !")
        out.extend(_print_block(config, child))
    closer = "exit-vrf" if header.startswith("vrf ") else "exit"
    out.append(pad + ("exit-address-family" if header.startswith("address-family ") else closer))
    return out


def _natural(text: str) -> tuple[tuple[int, int, str], ...]:
    return tuple((0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"(\d+)", text) if part)


def _rank_line(line: str) -> tuple[object, ...]:
    words = line.split()
    if words[0] in {"ip", "ipv6"} and len(words) > 1:
        if words[1] == "route":
            return (1, words[0], _natural(line))
        if words[1] in {"prefix-list", "access-list"}:
            return (5, words[1] + words[0] + words[2], _natural(line))
    if words[:2] == ["bgp", "community-list"]:
        return (6, "", _natural(line))
    return (0, "", (), line)


def _rank_block(header: str) -> tuple[object, ...]:
    words = header.split()
    vrf = words[words.index("vrf") + 1] if "vrf" in words[1:] else ""
    match words[0]:
        case "vrf":
            return (2, header, ())
        case "interface":
            return (3, vrf, _natural(words[1]))
        case "router":
            return (4, vrf, header)
        case "route-map":
            return (7, words[1], _natural(header))
        case _:
            return (8, header, ())


def differences(running: FrrConfig, wanted: FrrConfig) -> str:
    """Return what turns `running` into `wanted`, for people: `+ ` and `- ` lines under their block headers."""
    before, after = running.facts(), wanted.facts()
    if before == after:
        return ""
    both = FrrConfig()
    for source in (running, wanted):
        for path, lines in source.blocks.items():
            both.add(path, *lines)
    out: list[str] = []
    shown: BlockPath = ()
    for path in [(), *_in_order(both, ())]:
        own = _mark((path, ""), before, after) if path else " "
        marks = [(line, _mark((path, line), before, after)) for line in both.blocks.get(path, [])]
        changed = [(line, mark) for line, mark in marks if mark != " " and not line.startswith("netns ")]
        if own == " " and not changed:
            continue
        out.extend(
            f"{own if depth == len(path) - 1 else ' '} {' ' * depth}{path[depth]}"
            for depth in range(len(path))
            if shown[: depth + 1] != path[: depth + 1]
        )
        shown = path
        out.extend(f"{mark} {' ' * len(path)}{line}" for line, mark in changed)
    return "\n".join(out) + "\n"


def compare(before: str, after: str) -> str:
    """Return what turns one configuration's text into another's, for people, as `differences` does."""
    return differences(parse(before), parse(after))


def _in_order(config: FrrConfig, path: BlockPath) -> Iterator[BlockPath]:
    key = (lambda p: _rank_block(p[0])) if not path else (lambda p: (p[-1],))
    for child in sorted(config.children(path), key=key):
        yield child
        yield from _in_order(config, child)


def _mark(fact: tuple[BlockPath, str], before: set[tuple[BlockPath, str]], after: set[tuple[BlockPath, str]]) -> str:
    if fact in before:
        return " " if fact in after else "-"
    return "+" if fact in after else " "


def hostnames(config: FrrConfig) -> set[str]:
    """Return the names a configuration gives its router: FRR prints the system's, and a configured one that differs."""
    return {line.split()[1] for line in config.blocks.get((), []) if line.startswith("hostname ")}


def same(running: FrrConfig, wanted: FrrConfig) -> bool:
    """Tell whether two configurations say the same."""
    return running.facts() == wanted.facts()


def merged(running: FrrConfig, lines: FrrConfig) -> FrrConfig:
    """Return what `running` becomes when `lines` (with `no ...` lines) are entered into it."""
    out = running.copy()
    for path, new in lines.blocks.items():
        if path:
            out.add(path)
        for line in new:
            _enter(out, path, line)
    return out


def _enter(config: FrrConfig, path: BlockPath, line: str) -> None:
    here = config.blocks[path]
    opposite = _negate(line)
    if opposite in here:
        here.remove(opposite)
        return
    if line.startswith("no ") and not _KEEPS_NO.match(line):
        what = opposite
        gone = [p for p in config.blocks if len(p) > len(path) and p[: len(path)] == path and p[len(path)] == what]
        for p in gone:
            del config.blocks[p]
        # A shorter `no` takes everything that begins so: `no neighbor X`, `no description`.
        for p in [p for p in config.blocks if p[: len(path)] == path and (p == path or what.startswith("neighbor "))]:
            config.blocks[p] = [x for x in config.blocks[p] if x != what and not x.startswith(what + " ")]
        return
    slot = _slot(line)
    if slot:
        for old in [x for x in here if _slot(x) == slot]:
            here.remove(old)
    if line not in here:
        here.append(line)


def _negate(line: str) -> str:
    return line[3:] if line.startswith("no ") else f"no {line}"


def _remove_command(line: str) -> str:
    """Return the command that removes a line; FRR takes no text after `no description`."""
    found = _DESCRIPTION.match(line)
    return f"no {found.group(0)}" if found else _negate(line)


def _slot(line: str) -> str | None:
    for pattern in _SLOTS:
        found = pattern.match(line)
        if found:
            text = found.group(0)
            if found.re is _LISTS:  # the list's name is the value, not the place
                words = text.split()
                return " ".join([*words[:3], words[-1]])
            return text
    return None


def patch(running: FrrConfig, wanted: FrrConfig) -> str:
    """Return the commands that turn `running` into `wanted`, shaped so that traffic suffers least.

    Filters and routes are added before anything that uses them and removed after; a value is replaced in place and
    never removed first; only addresses are removed before others are added, because the kernel drops the secondary
    addresses of a subnet together with its primary one.
    """
    before, after = running.facts(), wanted.facts()
    rebuilt = _rebuilt_neighbors(running, wanted)
    closed = [p for p in running.blocks if p and (p, "") in before and (p, "") not in after]
    closed = [p for p in closed if not any(p[:n] in closed for n in range(1, len(p)))]
    early: list[_Command] = [(p[:-1], f"no {p[-1]}") for p in closed if p[0].startswith("router ")]
    early += [(block, f"no neighbor {address}") for block, address in sorted(rebuilt)]
    adds = _additions(before, wanted, rebuilt)
    late: list[_Command] = []
    last: list[_Command] = [(p[:-1], f"no {p[-1]}") for p in closed if not p[0].startswith("router ")]
    replaced = {(path, _slot(line)) for path, line in adds if _slot(line)}
    for path, line in before - after:
        inside_closed = any(path[:n] in closed for n in range(1, len(path) + 1))
        if not line or inside_closed or (path, _slot(line)) in replaced or (path[:1], _neighbor(line)) in rebuilt:
            continue
        whole = _removed_neighbor(path, line, wanted)
        command = (path[:1], f"no neighbor {whole}") if whole else (path, _remove_command(line))
        if path and path[0].startswith("interface ") and line.startswith(("ip address ", "ipv6 address ")):
            early.append(command)
        elif not path and not line.startswith(("ip route ", "ipv6 route ")):
            last.append(command)
        else:
            late.append(command)
    out: list[str] = []
    for stage in (sorted(early), adds, sorted(late), sorted(last)):
        out.extend(_as_lines(dict.fromkeys(stage)))
    return "\n".join(out) + "\n" if out else ""


def _additions(
    before: set[tuple[BlockPath, str]], wanted: FrrConfig, rebuilt: set[tuple[BlockPath, str]]
) -> list[_Command]:
    out: list[_Command] = []
    after = wanted.facts()
    for path in _in_apply_order(wanted):
        if (path, "") in after and (path, "") not in before:
            out.append((path, ""))
        out.extend(
            (path, line)
            for line in wanted.blocks[path]
            if ((path, line) in after and (path, line) not in before) or (path[:1], _neighbor(line)) in rebuilt
        )
    return out


def _in_apply_order(config: FrrConfig) -> list[BlockPath]:
    """Filters and everything else at the top first, then interfaces, static routes, routing protocols."""

    def key(path: BlockPath) -> int:
        head = path[0].split()[0] if path else ""
        return {"": 0, "route-map": 1, "interface": 2, "vrf": 3, "router": 4}.get(head, 5)

    return sorted([p for p in [(), *_in_order(config, ())] if p in config.blocks], key=key)


def _neighbor(line: str) -> str:
    found = _NEIGHBOR.match(line)
    return found.group(1) if found else ""


def _removed_neighbor(path: BlockPath, line: str, wanted: FrrConfig) -> str:
    """Return the neighbor of a line when nothing of that neighbor stays: then one command takes all of it."""
    address = _neighbor(line)
    if not address or not path[0].startswith("router "):
        return ""
    stays = any(_neighbor(x) == address for p, lines in wanted.blocks.items() if p[:1] == path[:1] for x in lines)
    return "" if stays else address + (" peer-group" if not re.match(r"[\d:]|[0-9a-f]+:", address) else "")


def _rebuilt_neighbors(running: FrrConfig, wanted: FrrConfig) -> set[tuple[BlockPath, str]]:
    """Neighbors that leave a peer group: FRR takes their own AS number only once they are gone."""
    out: set[tuple[BlockPath, str]] = set()
    for path, lines in running.blocks.items():
        if len(path) == 1 and path[0].startswith("router bgp ") and path in wanted.blocks:
            stay = {_neighbor(x) for x in wanted.blocks[path]}
            left = {x for x in lines if re.search(r" peer-group \S+$", x)} - set(wanted.blocks[path])
            out |= {(path, _neighbor(x)) for x in left if _neighbor(x) in stay}
    return out


def _as_lines(commands: Iterable[tuple[BlockPath, str]]) -> Iterator[str]:
    """Print commands with their block headers, each block opened once a run of commands."""
    grouped: dict[BlockPath, list[str]] = {}
    for path, line in commands:
        grouped.setdefault(path, []).append(line)
    # A sub-block is entered from its parent, so parents come first and are closed at the end.
    for path, lines in grouped.items():
        for depth, header in enumerate(path):
            yield " " * depth + header
        yield from (" " * len(path) + line for line in lines if line)
        for depth in reversed(range(len(path))):
            header = path[depth]
            closer = "exit-vrf" if header.startswith("vrf ") else "exit"
            yield " " * depth + ("exit-address-family" if header.startswith("address-family ") else closer)
