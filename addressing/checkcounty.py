"""Check a county's plan (format 1) independently: nesting by kind, slots, lengths, nothing twice."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from ipaddress import IPv4Network, IPv6Network, ip_network
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from addressing.checkreport import Check, Given, Report, verdict
from addressing.checktable import CheckInputError, find_prefix_fault
from inventory.wording import counted

# Kind: what it lies in, bits below its parent, and the lengths below the pool or the fixed one.
_PARENT = {
    "infra": "pool",
    "plane": "pool",
    "town": "plane",
    "site": "town",
    "lan": "site",
    "loopback": "infra",
    "link": "infra",
    "hairpin": "infra",
    "lan4": "ipv4_pool",
    "link4": "ipv4_link_pool",
}
_BELOW_POOL = {"infra": 4, "plane": 4, "town": 12, "site": 20}
_FIXED = {"lan": 64, "loopback": 128, "link": 127, "hairpin": 127, "link4": 31}
_FIELDS = frozenset({"id", "kind", "name", "parent", "prefix", "slot", "state"})
_HEAD = frozenset({"format", "county", "pool", "ipv4_pool", "ipv4_link_pool", "records"})
_PAIRS = 1 << 64


class _Entry(NamedTuple):
    id: str
    kind: str
    parent: str
    net: IPv4Network | IPv6Network
    slot: int | None
    state: str


def check_county(path: Path, content: bytes) -> Report:
    """Check a county's plan; CheckInputError when the file is something else."""
    try:
        data = json.loads(content.decode("utf-8-sig"))
        if data["format"] != 1 or not isinstance(data["records"], list):
            raise CheckInputError(path, f"format {data['format']!r}", "expected a county's plan, format 1")
        pools = {key: ip_network(data[key]) for key in ("pool", "ipv4_pool", "ipv4_link_pool")}
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        what = f"is damaged, or no plan ({type(error).__name__}: {str(error)[:60]})"
        raise CheckInputError(path, what, "restore it from your version control") from error
    entries, faults = _read_entries(data["records"])
    faults += [f"unknown field {key!r}" for key in sorted(set(data) - _HEAD)]
    checks = [verdict("text", faults, f"{counted(len(entries), 'record')}, every prefix canonical (RFC 5952)")]
    by_id = {e.id: e for e in entries}
    checks += [
        verdict(
            "identities",
            _find_repeated(entries),
            f"{counted(len(entries), 'identity', 'identities')}, each once, in order",
        ),
        verdict("nested", _find_strays(entries, by_id, pools), "every prefix in its parent's, and in the pool"),
        verdict("lengths", _find_lengths(entries, pools["pool"].prefixlen), "every length is its kind's"),
        verdict("derived", _find_underived(entries, by_id, pools), "every prefix follows from parent and slot"),
        verdict(
            "slots", _find_slots(entries), "every slot is given once under its parent, and quarantined ones never again"
        ),
        verdict("overlap", _find_overlaps(entries), "none overlaps another of its kind"),
    ]
    if not entries:
        checks.append(Check("rows", ok=False, detail="the plan has no records"))
    counts = {"rows": len(entries), **dict(sorted(Counter(e.kind for e in entries).items()))}
    counts["quarantined"] = sum(e.state == "quarantined" for e in entries)
    six = [e for e in entries if e.net.version == 6]
    given = Given(
        np.array([int(e.net.network_address) >> 64 for e in six], dtype=np.uint64),
        np.array([min(e.net.prefixlen, 64) for e in six], dtype=np.uint8),
        lambda row: six[row].id,
        pools["pool"].prefixlen,
    )
    digest = hashlib.sha256(content).hexdigest()
    return Report(str(path), "county", digest, 1, counts, tuple(checks), given=given)


def _read_entries(records: list[Any]) -> tuple[list[_Entry], list[str]]:
    entries, faults = list[_Entry](), list[str]()
    for number, record in enumerate(records, 1):
        where = f"record {number}"
        if not isinstance(record, dict) or not isinstance(record.get("id"), str):
            faults.append(f"{where}: no record with an id")
            continue
        where = record["id"]
        missing, strange = sorted(_FIELDS - set(record)), sorted(set(record) - _FIELDS)
        if strange or set(missing) - {"slot", "state"}:
            faults.append(f"{where}: fields missing {missing}, unknown {strange}")
            continue
        prefix, slot = str(record["prefix"]), record.get("slot")
        fault = find_prefix_fault(prefix) if ":" in prefix else _find_fault4(prefix)
        state = record.get("state", "active")
        if not isinstance(record["kind"], str) or record["kind"] not in _PARENT:
            fault = f"kind {record['kind']!r}"
        if not isinstance(state, str) or state not in {"active", "quarantined"}:
            fault = f"state {state!r}"
        if slot is not None and (not isinstance(slot, int) or isinstance(slot, bool) or slot < 0):
            fault = f"slot {slot!r}"
        if fault:
            faults.append(f"{where}: {prefix} {fault}")
            continue
        net = ip_network(prefix)
        if (net.version == 4) != record["kind"].endswith("4"):
            faults.append(f"{where}: {prefix} is IPv{net.version}, its kind is {record['kind']}")
            continue
        entries.append(_Entry(where, record["kind"], str(record["parent"]), net, slot, state))
    return entries, faults


def _find_fault4(prefix: str) -> str:
    try:
        net = IPv4Network(prefix)
    except ValueError as error:
        return f"({error})"
    return "" if str(net) == prefix else "is not canonical"


def _find_repeated(entries: list[_Entry]) -> Iterator[str]:
    for one, other in pairwise(entries):
        if one.id >= other.id:
            yield f"{other.id} comes after {one.id}" if one.id > other.id else f"{one.id} is there twice"


def _find_strays(
    entries: list[_Entry], by_id: dict[str, _Entry], pools: dict[str, IPv4Network | IPv6Network]
) -> Iterator[str]:
    for entry in entries:
        kind = _PARENT[entry.kind]
        if entry.net.version == 4:
            # Addresses that the county had before may lie elsewhere; they are told apart by having been declared.
            if entry.parent != kind:
                yield f"{entry.id}: parent {entry.parent!r} - expected {kind}"
            continue
        parent = by_id.get(entry.parent)
        outer = pools["pool"] if kind == "pool" else parent.net if parent is not None else None
        if outer is None or (kind != "pool" and parent is not None and parent.kind != kind):
            yield f"{entry.id}: parent {entry.parent!r} is no {kind} of this plan"
        elif kind == "pool" and entry.parent != "pool":
            yield f"{entry.id}: parent {entry.parent!r} - expected pool"
        elif not _lies_in(entry.net, outer):
            yield f"{entry.id}: {entry.net} is not in {outer} of {entry.parent}"
        elif parent is not None and parent.state == "quarantined" and entry.state == "active":
            yield f"{entry.id}: {entry.net} is in use in {entry.parent}, which is quarantined"


def _lies_in(inner: IPv4Network | IPv6Network, outer: IPv4Network | IPv6Network) -> bool:
    first, last = (int(a) for a in (outer.network_address, outer.broadcast_address))
    return (
        inner.version == outer.version and first <= int(inner.network_address) <= int(inner.broadcast_address) <= last
    )


def _find_lengths(entries: list[_Entry], pool: int) -> Iterator[str]:
    for entry in entries:
        below = _BELOW_POOL.get(entry.kind)
        wanted = pool + below if below is not None else _FIXED.get(entry.kind, entry.net.prefixlen)
        if entry.net.prefixlen != wanted:
            yield f"{entry.id}: {entry.net} - expected /{wanted}"


def _find_underived(
    entries: list[_Entry], by_id: dict[str, _Entry], pools: dict[str, IPv4Network | IPv6Network]
) -> Iterator[str]:
    for entry in entries:
        if entry.net.version == 4:
            continue
        parent = by_id.get(entry.parent)
        base = int((parent.net if parent else pools["pool"]).network_address)
        # Loopbacks and links count inside their /64 of the infrastructure, links by pairs; the rest by their own size.
        if entry.kind == "loopback":
            wanted = base + (entry.slot or 0)
        elif entry.kind in {"link", "hairpin"}:
            wanted = base + _PAIRS + 2 * (entry.slot or 0)
        else:
            wanted = base + ((entry.slot or 0) << (128 - entry.net.prefixlen))
        needs_slot = entry.kind not in {"infra", "lan"}
        if (entry.slot is None) == needs_slot:
            yield f"{entry.id}: slot {entry.slot}"
        elif wanted != int(entry.net.network_address):
            yield f"{entry.id}: {entry.net} is not slot {entry.slot or 0} of {entry.parent}"


def _find_slots(entries: list[_Entry]) -> Iterator[str]:
    given: dict[tuple[str, str, int], _Entry] = {}
    for entry in entries:
        if entry.slot is None:
            continue
        row = "link" if entry.kind == "hairpin" else entry.kind
        before = given.setdefault((row, entry.parent, entry.slot), entry)
        if before is not entry:
            gone = " (quarantined)" if "quarantined" in {before.state, entry.state} else ""
            yield f"{entry.id}: slot {entry.slot} under {entry.parent} is {before.id}'s{gone}"


def _find_overlaps(entries: list[_Entry]) -> Iterator[str]:
    groups: dict[str, list[_Entry]] = {}
    for entry in entries:
        groups.setdefault({"hairpin": "link", "plane": "infra"}.get(entry.kind, entry.kind), []).append(entry)
    for group in groups.values():
        group.sort(key=lambda e: (int(e.net.network_address), e.net.prefixlen))
        widest = group[0]
        for entry in group[1:]:
            if int(entry.net.network_address) <= int(widest.net.broadcast_address):
                yield f"{entry.id}: {entry.net} overlaps {widest.net} of {widest.id}"
            if int(entry.net.broadcast_address) > int(widest.net.broadcast_address):
                widest = entry
