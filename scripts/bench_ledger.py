"""Measure the ledger on this machine: appends a second that are on the disk, and how long a million events take to verify.

`./scripts/bench ledger` makes its ledgers in a temporary folder on the disk of the current one (`--folder` names another).
`--write` puts the numbers into docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from inventory.errors import ExtranetError
from inventory.files import write_whole
from scripts.bench_county import DOCUMENT, BenchError, describe_machine, put_between, say

MARKS = ("<!-- ledger: begin (./scripts/bench ledger --write) -->", "<!-- ledger: end -->")
EVENTS = 1_000_000
RATE, RATE_S = 1_000, 10
THREADS = 32
MANY = 1_000
SERIAL_S = 5.0
RATE_GOAL, VERIFY_GOAL_S = 1_000, 20

Figures = dict[str, float]


def measure(name: str, *arguments: str) -> Figures:
    """Run one measurement of this module in a fresh process."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", "scripts.bench_ledger", "--one", name, *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise BenchError(f"{name}: exit {done.returncode}: {done.stderr.strip()[-300:]}")
    found: Figures = json.loads(done.stdout)
    return found


def count_syncs(folder: str) -> Figures:
    """Measure what the disk itself can do: bytes put at a file's end and synced, one after the other."""
    path = Path(folder) / "syncs"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    count, began = 0, time.perf_counter()
    while time.perf_counter() - began < SERIAL_S / 2:
        os.pwrite(descriptor, b"x" * 4096, 4096 * count)
        os.fdatasync(descriptor)
        count += 1
    took = time.perf_counter() - began
    os.close(descriptor)
    path.unlink()
    return {"per_s": count / took}


def append_serially(folder: str) -> Figures:
    """Append one event after the other."""
    from migration.ledger import Ledger

    with Ledger.open(Path(folder)) as ledger:
        count, began = 0, time.perf_counter()
        while time.perf_counter() - began < SERIAL_S:
            ledger.append("note", f"serial/{count}", {"number": count, "text": "x" * 100})
            count += 1
        return {"per_s": count / (time.perf_counter() - began)}


def append_at_rate(folder: str) -> Figures:
    """Have appends arrive at a steady rate, each with a thread of a pool; tell how late the last ones were."""
    from migration.ledger import Ledger

    late: list[float] = []
    with Ledger.open(Path(folder)) as ledger:
        began = time.perf_counter() + 0.1

        def work(first: int) -> None:
            for number in range(first, RATE * RATE_S, THREADS):
                due = began + number / RATE
                time.sleep(max(0.0, due - time.perf_counter()))
                ledger.append("note", f"rate/{number}", {"number": number, "text": "x" * 100})
                late.append(time.perf_counter() - due)

        threads = [threading.Thread(target=work, args=(n,)) for n in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        took = time.perf_counter() - began
        there = len(ledger.events())
        if there != RATE * RATE_S or ledger.verify():
            raise BenchError(f"rate: expected {RATE * RATE_S} events in a whole chain, found {there}")
    late.sort()
    return {
        "per_s": RATE * RATE_S / took,
        "median_ms": late[len(late) // 2] * 1e3,
        "p99_ms": late[-len(late) // 100] * 1e3,
    }


def append_many(folder: str) -> Figures:
    """Append a million events, a thousand together: what the next measurement verifies."""
    from migration.events import Entry, Kind
    from migration.ledger import Ledger

    with Ledger.open(Path(folder)) as ledger:
        began = time.perf_counter()
        for start in range(0, EVENTS, MANY):
            entries = [
                Entry(
                    kind=Kind.NOTE,
                    key=f"many/{n}",
                    body={"number": n, "text": "x" * 100},
                    unit=f"finance@village-{n % 400}",
                )
                for n in range(start, start + MANY)
            ]
            ledger.append_many(entries)
        return {"per_s": EVENTS / (time.perf_counter() - began)}


def verify_many(folder: str) -> Figures:
    """Verify them."""
    from migration.ledger import Ledger

    began, busy = time.perf_counter(), time.process_time()
    with Ledger.open(Path(folder), readonly=True) as ledger:
        survey = ledger.survey()
    took, busy = time.perf_counter() - began, time.process_time() - busy
    if survey.breaks or survey.last.seq != EVENTS:
        raise BenchError(f"verify: expected {EVENTS} events in a whole chain, found {survey.last.seq}")
    return {"s": took, "cpu_s": busy, "mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def verify_elsewhere(folder: str) -> Figures:
    """Export them, and verify the export with the stand-alone script."""
    from migration.ledger import Ledger
    from migration.ledger.export import export_ledger

    place = Path(folder)
    out = place / "export.jsonl"
    began = time.perf_counter()
    with Ledger.open(place, readonly=True) as ledger:
        export_ledger(ledger, out, place)
    exported = time.perf_counter()
    script = Path(__file__).with_name("verify_ledger.py")
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(script), str(out)], capture_output=True, text=True, check=False
    )
    took = time.perf_counter() - exported
    if done.returncode:
        raise BenchError(f"verify_ledger.py: exit {done.returncode}: {done.stdout[-300:]}")
    mib = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    return {"export_s": exported - began, "s": took, "mib": mib, "size_mib": out.stat().st_size / (1 << 20)}


ONE: dict[str, Callable[[str], Figures]] = {
    f.__name__: f for f in (count_syncs, append_serially, append_at_rate, append_many, verify_many, verify_elsewhere)
}


def go(folder: Path) -> dict[str, Figures]:
    """Measure everything."""
    found: dict[str, Figures] = {"load": {"before": os.getloadavg()[0]}}
    with tempfile.TemporaryDirectory(dir=folder, prefix=".bench-ledger-") as place:
        for name in ONE:
            shared = name in {"append_many", "verify_many", "verify_elsewhere"}
            mine = Path(place) / ("million" if shared else name)
            mine.mkdir(exist_ok=True)
            say(f"· {name.replace('_', ' ')} …")
            found[name] = measure(name, str(mine))
            say(f"  {', '.join(f'{k} {v:,.1f}' for k, v in found[name].items())}")
    return found


def render(found: dict[str, Figures]) -> str:
    """Return the numbers as Markdown."""
    machine = describe_machine()
    syncs, serial, rate = found["count_syncs"], found["append_serially"], found["append_at_rate"]
    many, verified, elsewhere = found["append_many"], found["verify_many"], found["verify_elsewhere"]
    lateness = f"on the disk {rate['median_ms']:.0f} ms after they came (99 of 100: {rate['p99_ms']:.0f} ms)"
    rows = [
        ("this disk: 4 KiB at a file's end, synced, one after the other", f"{syncs['per_s']:,.0f} a second", ""),
        ("append, one after the other", f"{serial['per_s']:,.0f} a second", ""),
        (
            f"append, {RATE:,} a second arriving for {RATE_S} s in {THREADS} threads",
            f"{rate['per_s']:,.0f} a second; {lateness}",
            f"{RATE_GOAL:,} a second",
        ),
        (f"append, {MANY:,} together (`append_many`)", f"{many['per_s']:,.0f} a second", ""),
        (
            f"verify {EVENTS:,} events",
            f"{verified['s']:.1f} s, of which {verified['cpu_s']:.1f} s on a core; {verified['mib']:.0f} MiB",
            f"{VERIFY_GOAL_S} s",
        ),
        (
            f"export {EVENTS:,} events",
            f"{elsewhere['export_s']:.1f} s, {elsewhere['size_mib']:,.0f} MiB on the disk",
            "",
        ),
        ("verify them with `scripts/verify_ledger.py`", f"{elsewhere['s']:.1f} s, {elsewhere['mib']:.0f} MiB", ""),
    ]
    where = f"{machine.cores} cores ({machine.processor}), {machine.system}, kernel {machine.kernel}, Python {machine.python}"
    load = found["load"]["before"]
    beside = f" Other work ran beside it (load {load:.0f} before it began)." if load > machine.cores else ""
    lines = [
        f"{where}; SQLite.{beside}",
        "",
        "| what | measured | goal |",
        "| --- | --- | --- |",
        *(f"| {a} | {b} | {c} |" for a, b, c in rows),
    ]
    return "\n".join(lines) + "\n"


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="scripts/bench ledger", description="Measure the ledger on this machine.")
    parser.add_argument(
        "--folder", type=Path, default=Path(), metavar="DIR", help="on which disk (default: the current one)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything measured here")
    parser.add_argument("--write", action="store_true", help="put the numbers into docs/benchmarks.md")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def main() -> None:
    """Measure, print the table, and write what was asked for."""
    options = parse_arguments(sys.argv[1:])
    try:
        if options.one:
            name, folder = options.one
            sys.stdout.write(json.dumps(ONE[name](folder)))
            return
        if options.write:
            put_between(DOCUMENT.read_text("utf-8"), "", *MARKS)
        found = go(options.folder.resolve())
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
