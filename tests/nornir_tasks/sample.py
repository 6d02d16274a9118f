"""The sample county with its first three towns, its plan, and routers' configurations with random faults in them."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from random import Random

from hypothesis import settings

from addressing.model import AddressPlan
from addressing.plan import make_plan
from inventory.model import County
from inventory.reader import load_county, restrict_to_towns
from inventory.topology import Topology, build_topology
from nornir_tasks.intent import render_all
from nornir_tasks.platforms.frr.config import FrrConfig, parse

law = settings(deadline=None, max_examples=40)
"""Examples of configurations are large: fewer of them, and no deadline on a busy machine."""

SAMPLE = Path(__file__).parents[2] / "inventory" / "yichuan"


@cache
def sample() -> tuple[County, Topology, AddressPlan]:
    """Return the county restricted to three towns, its wiring, and the plan of the whole county."""
    whole = load_county(SAMPLE)
    county = restrict_to_towns(whole, 3)
    return county, build_topology(county), make_plan(whole, build_topology(whole))


@cache
def rendered(device: str, *, cut_over: bool = False) -> str:
    """Return a router's intended configuration, before or after every unit is cut over."""
    county, topology, plan = sample()
    units = frozenset(u.id for u in county.units) if cut_over else frozenset()
    return render_all(county, topology, plan, units, "netns", [device])[device]


def disturbed(text: str, seed: int) -> FrrConfig:
    """Return a configuration with lines and blocks missing, and values that are not the intended ones."""
    random = Random(seed)
    config = parse(text)
    for path in list(config.blocks):
        if path and not path[0].startswith("vrf ") and random.random() < 0.1:
            for inner in [p for p in config.blocks if p[: len(path)] == path]:
                del config.blocks[inner]
    gone: set[tuple[str, str]] = set()
    for path, lines in config.blocks.items():
        kept = []
        for line in lines:
            words = line.split()
            if line.startswith(("netns ", "hostname ", "no bgp default")) or random.random() > 0.15:
                kept.append(_other_value(line, random))
            elif words[0] == "neighbor" and words[2] == "remote-as":
                gone.add((path[0], words[1]))  # FRR keeps nothing of a neighbor without its AS number
        config.blocks[path] = kept
    for path, lines in config.blocks.items():
        if path and path[0].startswith("router bgp"):
            known = {x.split()[1] for x in config.blocks.get(path[:1], []) if " remote-as " in x}
            config.blocks[path] = [x for x in lines if not x.startswith("neighbor ") or x.split()[1] in known]
    return config


def _other_value(line: str, random: Random) -> str:
    if random.random() > 0.1:
        return line
    words = line.split()
    if words[0] == "description":
        return f"description something else {random.randrange(9)}"
    if " remote-as " in line:
        return f"{line[:-1]}{(int(line[-1]) + 1) % 10}"
    if words[:2] in (["ip", "route"], ["ipv6", "route"]):
        return " ".join([*words[:-1], "blackhole"])
    if "prefix-list" in words and "seq" in words and words[-1] != "any" and "le" not in words:
        # FRR takes no two entries that say the same.
        other = f"192.0.2.{words[4]}/32" if words[0] == "ip" else f"2001:db8::{words[4]}/128"
        return f"{words[0]} prefix-list {words[2]} seq {words[4]} deny {other}"
    return line
