"""Measure the address planner on this machine, beside what people would use instead, in one run.

`./scripts/bench planner` measures each thing in a process of its own, several times, and takes the best: seconds of wall
time and the process's largest memory. What is compared stands in docs/benchmarks.md; `--write` puts the numbers there.
"""

from __future__ import annotations

import argparse
import csv
import json
import lzma
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from inventory.errors import ExtranetError
from inventory.files import write_whole
from scripts.bench_county import DOCUMENT, BenchError, describe_machine, put_between, say

MARKS = ("<!-- planner: begin (./scripts/bench planner --write) -->", "<!-- planner: end -->")
POOL = "3fff::/20"
PARTS = (
    ("Yichuan county", "410329000000", "/40"),
    ("Luoyang city", "410300000000", "/32"),
    ("Henan province", "410000000000", "/28"),
)
"""Smaller plans: what of the list, under which code, from how large a pool."""
REPEATS = 3
REQUESTS = 50_000
FEW = 2_000
"""Requests that the quadratic first fit is asked for; its time for all is extrapolated."""
CLAIMS = 14_000
DEPARTMENTS = 14
ADDRESSES = 2_000_000
SEED = 3531
_EXTRANET = str(Path(sys.executable).with_name("extranet"))

Figures = dict[str, float]


def measure(name: str, *arguments: str) -> Figures:
    """Run one measurement of this module in a fresh process, REPEATS times; the best of each figure."""
    best: Figures = {}
    for _ in range(REPEATS):
        done = subprocess.run(
            [sys.executable, "-P", "-m", "scripts.bench_planner", "--one", name, *arguments],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise BenchError(f"{name}: exit {done.returncode}: {done.stderr.strip()[-300:]}")
        for key, value in json.loads(done.stdout).items():
            best[key] = min(value, best.get(key, value))
    return best


def run_command(*arguments: str) -> Figures:
    """Run the product's command as a user does, REPEATS times; best seconds and least peak memory."""
    best: Figures = {}
    for _ in range(REPEATS):
        before = time.monotonic()
        process = subprocess.Popen([_EXTRANET, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        errors = process.stderr.read() if process.stderr else b""
        _, status, usage = _wait(process.pid)
        seconds = time.monotonic() - before
        process.returncode = status
        if status:
            raise BenchError(f"extranet {' '.join(arguments)}: exit {status}: {errors.decode()[-300:]}")
        found = {"seconds": seconds, "mib": usage / 1024}
        best = {key: min(value, best.get(key, value)) for key, value in found.items()}
    return best


def _wait(pid: int) -> tuple[int, int, int]:
    import os

    ended, status, usage = os.wait4(pid, 0)
    return ended, os.waitstatus_to_exitcode(status), usage.ru_maxrss


# --- what is measured, each in a process of its own ------------------------------------------------------------------


def time_floor(source: str, plan: str) -> Figures:
    """Read the divisions and write a table as large as the plan, with the standard library and nothing in between."""
    begin = time.monotonic()
    with lzma.open(source, "rt", encoding="utf-8", newline="") as stream:
        rows = list(csv.reader(stream, delimiter="\t"))
    read = time.monotonic() - begin
    # As many cells a row as the plan has, and as many characters.
    own = sum(len(cell.encode()) + 1 for row in rows for cell in row) / len(rows)
    filler = "x" * max(0, round(Path(plan).stat().st_size / len(rows) - own) - 10)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "floor.csv"
        middle = time.monotonic()
        with out.open("w", encoding="utf-8", newline="") as stream:
            csv.writer(stream, lineterminator="\n").writerows((*row, filler, 1, 1, 1, 1, 1) for row in rows)
        written = time.monotonic() - middle
        size = out.stat().st_size
    return {"seconds": read + written, "read": read, "write": written, "size": size, "mib": _peak_mib()}


def time_requests() -> Figures:
    """Ask for the next prefix so many times, one after another."""
    from addressing.hierarchy import SlotBook
    from addressing.policy import LaidField

    book = SlotBook(LaidField(level=5, name="leaf", width=20, length=56, order="centre", reserved=(0,)))
    begin = time.monotonic()
    for _ in range(REQUESTS):
        book.give(1)
    return {"seconds": time.monotonic() - begin, "mib": _peak_mib()}


def time_first_fit() -> Figures:
    """Do what NetBox does on each request: all free space as a set, the first block that is large enough."""
    from netaddr import IPNetwork, IPSet

    parent = IPNetwork("3fff::/36")
    given: list[IPNetwork] = []
    begin = time.monotonic()
    for _ in range(FEW):
        free = IPSet(parent) - IPSet(given)
        block = next(c for c in free.iter_cidrs() if c.prefixlen <= 56)
        given.append(next(iter(block.subnet(56, 1))))
    return {"seconds": time.monotonic() - begin, "mib": _peak_mib()}


def time_stdlib_subnets(count: str) -> Figures:
    """Make so many prefixes and their text with ipaddress: no order, no names, no checks."""
    from ipaddress import IPv6Network
    from itertools import islice

    begin = time.monotonic()
    for one in islice(IPv6Network(POOL).subnets(new_prefix=56), int(count)):
        str(one)
    return {"seconds": time.monotonic() - begin, "mib": _peak_mib()}


def time_netaddr_subnets(count: str) -> Figures:
    """Make so many prefixes and their text with netaddr."""
    from netaddr import IPNetwork

    begin = time.monotonic()
    for one in IPNetwork(POOL).subnet(56, int(count)):
        str(one)
    return {"seconds": time.monotonic() - begin, "mib": _peak_mib()}


def make_claims() -> list[tuple[str, str]]:
    """Return departments' prefixes as they are found: RFC 1918, a few sizes, many of them the same."""
    rng = random.Random(SEED)  # noqa: S311 - the same claims in every run, no secret
    out = []
    for _ in range(CLAIMS):
        length = rng.choice((16, 20, 22, 24, 24, 24, 25, 26, 28))
        base = rng.choice((0x0A000000, 0x0A000000, 0xAC100000, 0xC0A80000))
        span = {0x0A000000: 24, 0xAC100000: 20, 0xC0A80000: 16}[base]
        value = base | (rng.getrandbits(span) >> (32 - length) << (32 - length))
        text = ".".join(str(value >> shift & 255) for shift in (24, 16, 8, 0))
        out.append((f"department {rng.randrange(DEPARTMENTS)}", f"{text}/{length}"))
    return out


def time_clusters() -> Figures:
    """Group all departments' prefixes into clusters with a matrix."""
    from addressing.overlaps import find_clusters
    from addressing.prefixtables import read_prefix_tables

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "claims.csv"
        path.write_text("department,prefix\n" + "".join(f"{d},{p}\n" for d, p in make_claims()), "utf-8")
        begin = time.monotonic()
        claims = read_prefix_tables([path])
        middle = time.monotonic()
        found = find_clusters(claims)
    end = time.monotonic()
    return {"seconds": end - middle, "read": middle - begin, "clusters": len(found.clusters), "mib": _peak_mib()}


def time_pairwise() -> Figures:
    """Compare every pair of a part of the same prefixes with ipaddress; the time for all grows with the square."""
    from ipaddress import IPv4Network
    from itertools import combinations

    nets = [(d, IPv4Network(p)) for d, p in make_claims()[:1400]]
    begin = time.monotonic()
    found = sum(1 for (a, x), (b, y) in combinations(nets, 2) if a != b and x.overlaps(y))
    return {"seconds": (time.monotonic() - begin) * (CLAIMS / len(nets)) ** 2, "pairs": found, "mib": _peak_mib()}


def time_explain(plan: str) -> Figures:
    """Say of random addresses of the plan which division they belong to, in bulk."""
    import numpy as np

    from addressing.attribution import Attributor
    from addressing.hierarchyfile import read_hierarchy

    known = read_hierarchy(Path(plan))
    rng = np.random.default_rng(SEED)
    rows = rng.integers(0, len(known), ADDRESSES)
    high = known.high[rows] | rng.integers(0, 256, ADDRESSES).astype(np.uint64)
    low = rng.integers(0, 1 << 63, ADDRESSES).astype(np.uint64)
    begin = time.monotonic()
    attributor = Attributor(known)
    middle = time.monotonic()
    attributor.attribute_many(high, low)
    end = time.monotonic()
    order = np.argsort(high)
    third = time.monotonic()
    attributor.attribute_many(high[order], low[order])
    return {
        "seconds": end - middle,
        "sorted": time.monotonic() - third,
        "build": middle - begin,
        "mib": _peak_mib(),
    }


def time_radix(plan: str) -> Figures:
    """The same with py-radix: a tree of all prefixes, one look-up an address, from text as it wants it."""
    import numpy as np
    import radix

    from addressing.hierarchyfile import read_hierarchy
    from addressing.text import format_address, format_prefixes

    known = read_hierarchy(Path(plan))
    texts = format_prefixes(known.high, known.lengths)
    rng = np.random.default_rng(SEED)
    some = ADDRESSES // 10
    high = known.high[rng.integers(0, len(known), some)].tolist()
    asked = [format_address(6, value << 64 | 1) for value in high]
    begin = time.monotonic()
    tree = radix.Radix()
    for row, text in enumerate(texts):
        tree.add(text).data["row"] = row
    middle = time.monotonic()
    for address in asked:
        tree.search_best(address)
    return {
        "seconds": (time.monotonic() - middle) * ADDRESSES / some,
        "build": middle - begin,
        "mib": _peak_mib(),
    }


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


ONE: dict[str, Callable[..., Figures]] = {
    "floor": time_floor,
    "requests": time_requests,
    "first-fit": time_first_fit,
    "stdlib": time_stdlib_subnets,
    "netaddr": time_netaddr_subnets,
    "clusters": time_clusters,
    "pairwise": time_pairwise,
    "explain": time_explain,
    "radix": time_radix,
}


# --- the tables ------------------------------------------------------------------------------------------------------


def go(divisions: Path) -> dict[str, Figures]:
    """Measure everything, one after the other."""
    found: dict[str, Figures] = {}

    def note(title: str, figures: Figures) -> None:
        found[title] = figures
        say(f"  {title}: " + ", ".join(f"{k} {v:,.2f}" for k, v in figures.items()))

    with tempfile.TemporaryDirectory(prefix="extranet-bench-") as name:
        for title, root, length in PARTS:
            part = Path(name) / f"{root}.csv"
            asked = (
                "plan",
                "addresses",
                "--divisions",
                str(divisions),
                "--root",
                root,
                "--pool",
                f"3fff:100::{length}",
            )
            made = run_command(*asked, "--out", str(part))
            checked = run_command("plan", "check", str(part))
            with part.open("rb") as stream:
                made |= {"rows": sum(1 for _ in stream) - 1, "check": checked["seconds"]}
            note(title, made)
        plan = Path(name) / "plan.csv"
        made = run_command("plan", "addresses", "--divisions", str(divisions), "--pool", POOL, "--out", str(plan))
        note("plan", made)
        with plan.open("rb") as stream:
            rows = sum(1 for _ in stream) - 1
        note("size", {"bytes": plan.stat().st_size, "rows": rows})
        note("check", run_command("plan", "check", str(plan)))
        note("floor", measure("floor", str(divisions), str(plan)))
        note("stdlib", measure("stdlib", str(rows)))
        note("netaddr", measure("netaddr", str(rows)))
        for one in ("requests", "first-fit", "clusters", "pairwise"):
            note(one, measure(one))
        for one in ("explain", "radix"):
            note(one, measure(one, str(plan)))
    found["first-fit"]["seconds"] *= (REQUESTS / FEW) ** 2
    return found


def render(found: dict[str, Figures]) -> str:
    """Return the tables."""
    machine = describe_machine()
    lines = ["| what | by | seconds | × | MiB |", "| --- | --- | --- | --- | --- |"]

    def rows(what: str, own: str, by: str, *others: tuple[str, str]) -> None:
        base = found[own]["seconds"]
        for title, figures in ((by, found[own]), *((text, found[name]) for name, text in others)):
            seconds = figures["seconds"]
            lines.append(f"| {what} | {title} | {seconds:,.2f} | {seconds / base:,.2f} | {figures['mib']:,.0f} |")
            what = ""

    size = found["size"]
    rows(
        f"{size['rows']:,.0f} divisions, {size['bytes'] / 1e6:.0f} MB out",
        "plan",
        "`extranet plan addresses`: read, solved, planned, checked, written",
        ("check", "`extranet plan check` of it"),
        ("floor", "Python's `lzma` and `csv`: read, and write as much; nothing in between"),
        ("stdlib", "`ipaddress`: as many prefixes and their text, nothing else"),
        ("netaddr", "netaddr: the same"),
    )
    first_fit = f"NetBox's first fit (netaddr), ≈ from {FEW:,}"
    rows(f"{REQUESTS:,} times the next free prefix", "requests", "`SlotBook.give`", ("first-fit", first_fit))
    rows(
        f"{CLAIMS:,} prefixes of {DEPARTMENTS} departments clustered",
        "clusters",
        "`find_clusters`",
        ("pairwise", "`ipaddress`, every pair, ≈ from a tenth"),
    )
    explain = f"{ADDRESSES:,} addresses explained, in random order"
    rows(explain, "explain", "`Attributor`", ("radix", "py-radix, ≈ from a tenth"))
    known, tree = found["explain"], found["radix"]
    share = found["plan"]["seconds"] / found["floor"]["seconds"]
    speeds = [ADDRESSES / known[order] / 1e6 for order in ("seconds", "sorted")]
    lines += [
        "",
        "| the plan of | pool | divisions | planned, checked, written | checked again |",
        "| --- | --- | --- | --- | --- |",
    ]
    for title, _, length in PARTS:
        part = found[title]
        lines.append(f"| {title} | {length} | {part['rows']:,.0f} | {part['seconds']:.2f} s | {part['check']:.2f} s |")
    whole, size = found["plan"], found["size"]
    again = found["check"]["seconds"]
    lines.append(
        f"| China | {POOL.removeprefix('3fff::')} | {size['rows']:,.0f} | {whole['seconds']:.2f} s | {again:.2f} s |"
    )
    words = (
        f"Planning took {share:.2f} × the time of merely reading and writing (goal: under 2 ×, and under 600 MiB). Explaining: "
        f"{speeds[0]:.1f} million addresses a second in random order, {speeds[1]:.1f} in address order (goal: 2); the index "
        f"takes {known['build']:.2f} s once, py-radix's {tree['build']:.1f} s."
    )
    head = (
        f"Measured on {machine.cores} processors ({machine.processor}), {machine.system}, Python {machine.python}: "
        f"the best of {REPEATS} runs each."
    )
    return "\n".join([head, "", *lines, "", words])


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="scripts/bench planner", description="Measure the address planner beside what people would use instead."
    )
    parser.add_argument("--divisions", type=Path, metavar="FILE", help="a large list of divisions (.tsv.xz)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything measured here")
    parser.add_argument("--write", action="store_true", help="put the numbers into docs/benchmarks.md")
    parser.add_argument("--one", nargs="+", help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def main() -> None:
    """Measure, print the table, and write what was asked for."""
    options = parse_arguments(sys.argv[1:])
    if options.one:
        name, *rest = options.one
        sys.stdout.write(json.dumps(ONE[name](*rest)))
        return
    try:
        if options.divisions is None or not options.divisions.is_file():
            raise BenchError("--divisions: expected a file of divisions to plan, like divisions-2021.tsv.xz; name one")
        if options.write:
            put_between(DOCUMENT.read_text("utf-8"), "", *MARKS)
        found = go(options.divisions)
        numbers = render(found)
        print(numbers)
        if options.json is not None:
            write_whole(options.json, json.dumps(found, indent=1) + "\n")
        if options.write:
            write_whole(DOCUMENT, put_between(DOCUMENT.read_text("utf-8"), numbers, *MARKS))
    except ExtranetError as error:
        say(str(error))
        raise SystemExit(error.exit_code) from None


if __name__ == "__main__":
    main()
