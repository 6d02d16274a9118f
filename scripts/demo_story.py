"""The demo: a county moves its departments' networks onto the extranet, told by running the real commands.

Each chapter runs `extranet` as a user would, against real routers, and holds what came out to what the story says.
It ends non-zero when any chapter did not go as told, and always takes its lab down.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

TOWNS = 3
SHORTENED: dict[str, float] = {
    "soak_s": 2,
    "hold_s": 1,
    "revert_s": 120,
    "converge_s": 30,
    "probe_timeout_s": 2,
    "blocked_wait_s": 0.7,
}
"""Timers of the demo's copy of the county, in seconds; the real ones are days (see policy.yaml)."""
FEWER: dict[str, float] = {"samples": 2, "longest_gap_s": 600, "business_days": 0, "listen_s": 1}
"""How closely the demo's old lines are watched."""


class StoryError(Exception):
    """A chapter did not go as told."""


class Story:
    """Runs commands, shows them, and keeps count of what went as told."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.color = sys.stdout.isatty() and "NO_COLOR" not in os.environ
        self.chapters: list[tuple[str, float]] = []
        self.start = time.monotonic()

    def say(self, text: str, style: str = "") -> None:
        """Print a line."""
        sys.stdout.write(f"\x1b[{style}m{text}\x1b[0m\n" if self.color and style else f"{text}\n")
        sys.stdout.flush()

    @contextmanager
    def chapter(self, title: str, told: str) -> Iterator[None]:
        """Open a chapter: its title, and in one or two sentences what happens."""
        self.say(f"\n━━ {len(self.chapters) + 1}. {title} ━━ {time.monotonic() - self.start:.0f} s", "1;36")
        self.say(told)
        began = time.monotonic()
        yield
        self.chapters.append((title, time.monotonic() - began))

    def run(self, *arguments: str, expect: int = 0, show: int = 40) -> str:
        """Run a command, show its output (its last `show` lines), and hold it to its exit code."""
        self.say(f"$ extranet {' '.join(arguments).replace(str(self.folder), self.folder.name)}", "1")
        done = self.call(arguments, stderr=None)
        text = done.stdout.replace(str(self.folder), self.folder.name)
        lines = text.splitlines()
        if len(lines) > show:
            self.say(f"  … {len(lines) - show} lines above")
        for line in lines[-show:]:
            self.say(f"  {line}")
        if done.returncode != expect:
            self.fail(f"'extranet {' '.join(arguments)}' - expected exit {expect}, found {done.returncode}")
        self.say(f"  → exit {done.returncode}", "32" if expect == 0 else "33")
        return done.stdout

    def ask(self, *arguments: str, expect: tuple[int, ...] = (0,)) -> Any:
        """Run a command with --json, quietly, and return what it said."""
        done = self.call((*arguments, "--json"), stderr=subprocess.PIPE)
        if done.returncode not in expect:
            self.fail(
                f"'extranet {' '.join(arguments)}' - expected exit {expect}, found {done.returncode}: {done.stderr[-500:]}"
            )
        return json.loads(done.stdout)

    def call(self, arguments: tuple[str, ...], stderr: int | None) -> subprocess.CompletedProcess[str]:
        """Run the command in the county's folder."""
        environment = {"EXTRANET_ACTOR": "network engineer (demo)"} | os.environ | {"EXTRANET_COUNTY": str(self.folder)}
        if self.color:
            environment["FORCE_COLOR"] = "1"
        command = [sys.executable, "-P", "-m", "scripts.main", *arguments]
        return subprocess.run(
            command,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            env=environment,
            check=False,
            stdin=subprocess.DEVNULL,
        )

    def hold(self, what: str, *, true: bool) -> None:
        """Hold one sentence of the story to the facts."""
        if not true:
            self.fail(f"the story says: {what} - and that is not so")
        self.say(f"  ✓ {what}", "32")

    def fail(self, why: str) -> NoReturn:
        """End the story."""
        raise StoryError(why)


def tell(story: Story, *, full: bool) -> None:  # noqa: PLR0915 - a story is read from top to bottom
    """Tell the whole story."""
    towns = () if full else ("--towns", str(TOWNS))
    with story.chapter("The survey", "The county's tables are read and checked. One network is marked classified."):
        story.run("survey", "check")
        survey = story.ask("survey", "check")
        story.hold("the classified network is refused and stays outside", true=len(survey["refused"]) == 1)
        story.hold("two networks that use the same addresses are named", true=len(survey["overlaps"]) >= 1)
    with story.chapter(
        "The address plan", "IPv6 for county, towns and villages, one prefix a plane. Planning again moves nobody."
    ):
        story.run("plan", "addresses")
        again = story.ask("plan", "addresses")
        story.hold(
            "a second plan is the same: nothing new, nothing moved", true=(again["new"], again["moved"]) == (0, 0)
        )
    with story.chapter("The lab", "The county as it is today, on this machine: real routers, stations and servers."):
        story.run("lab", "up", *towns)
    with story.chapter(
        "Before",
        "Departments work over their old lines; over the extranet nearly nothing does. Red where it should be.",
    ):
        before = story.ask("verify", expect=(1,))
        results = before["results"]
        ipv6 = [r for r in results if r["expect"] == "reach" and r["family"] == "ipv6"]
        old = [r for r in results if r["unit"]]
        story.say(
            f"  {before['checks']} checks: {before['passed']} passed, {before['failed']} failed, "
            f"{before['unknown']} not measurable"
        )
        story.hold(
            "no station reaches anything over IPv6", true=bool(ipv6) and all(r["outcome"] != "passed" for r in ipv6)
        )
        story.hold(
            "no department's service is reached over the extranet",
            true=bool(old) and all(r["outcome"] != "passed" for r in old),
        )
    with story.chapter(
        "Push",
        "Each router checks its configuration, arms a rollback timer, applies; stations probe; then it is confirmed.",
    ):
        if full:
            story.run("config", "diff", show=6, expect=1)
        story.run("config", "push", "--yes")
        if full:
            story.run("config", "diff")
            after = story.ask("verify", expect=(1,))
            bad = [r for r in after["results"] if r["outcome"] != "passed"]
            story.hold(
                "all that is still red are the units' own IPv4 needs, over their old lines",
                true=all(r["unit"] and "legacy router" in r["why"] for r in bad),
            )
    with story.chapter(
        "Cutover",
        "The old path is withheld by a timer on the device; every need is proven over the new one; then it is kept.",
    ):
        units = [u["unit"] for u in story.ask("status")["units"]]
        first = [u for u in units if u.endswith("@county")]
        one = "finance-man@chengguan"
        rest = [u for u in units if u not in first]
        refused = story.run("cutover", one, "--yes", expect=3)
        story.hold(
            "a town before its county centre is refused, and nothing moved",
            true=f"{one} stays provisioned" in refused,
        )
        story.run("cutover", *first, "--yes")
    with story.chapter("The rest follows", "All other units, town by town, each town's together."):
        out = story.ask("cutover", *rest, "--yes")
        story.hold(
            f"all {len(rest)} other units are cut over", true=all(u["state"] == "cut_over" for u in out["units"])
        )
        felt = [u["outcome"]["outage"] for u in out["units"] if u["outcome"]["outage"]]
        worst = max((o["worst_s"] or 0.0 for o in felt), default=0.0)
        story.hold(f"the longest that any window felt of it: {worst:g} s", true=bool(felt))
    with story.chapter("Too early", "Somebody wants an old line off at once. The gate wants proof and patience."):
        refused = story.run("retire", one, "--yes", expect=3)
        story.hold("the refusal names stations and services", true=re.search(r"-center: \w+:", refused) is not None)
    network = [u for u in units if u.startswith("finance-man@") and u not in first]
    with story.chapter(
        "Broken on purpose", "A filter breaks one window's payments at a town centre. Ping would not notice."
    ):
        station = f"{network[1].partition('@')[2]}-center"
        story.run("lab", "fault", "drop", station, "--what", "tcp", "--port", "1521")
        broken = story.ask("verify", "--unit", network[1], expect=(1,))
        bad = [r for r in broken["results"] if r["outcome"] != "passed"]
        story.hold(
            f"verify finds it, and only it: {bad[0]['id'] if bad else '-'}",
            true={r["station"] for r in bad} == {station},
        )
        refused = story.run("retire", network[1], "--yes", expect=3)
        story.hold("the gate holds: the line is still there", true=f"{network[1]} stays cut_over" in refused)
    # In life, and with --full, the towns' lines go first and the county's own with the last of them.
    retired = [*network, "finance-man@county"] if full else [one]
    with story.chapter(
        "Mended - and what no ping finds",
        "The filter goes. But payments lean on a machine behind an old line: all is green - as long as that line is up.",
    ):
        story.run("lab", "fault", "undrop", station)
        story.run("lab", "fault", "lean", "finance-pay", "fin-l-chengguan")
        green = story.run("verify", "--unit", one, "--unit", network[1], show=1)
        story.hold("every measurement beside the old line passes", true=" 0 failed, 0 not measured" in green)
        found = story.run("prove", *retired, "--yes", expect=1)
        story.hold(
            "with the line withheld it shows, and the line is back", true=f"{one}: not proven, and given back" in found
        )
        story.run("lab", "fault", "unlean", "finance-pay")
    with story.chapter(
        "Proven without it", "The old line closed by a timer, everything measured, the line given back."
    ):
        story.run("prove", *retired, "--yes")
    if full:
        find_the_stranger(story, one)
    with story.chapter(
        "Retired",
        "Soaked (seconds here, days in life), drained, shut, held, removed; each stage with its gate and its way back.",
    ):
        story.run("retire", *retired, "--wait", "--yes")
    with story.chapter(
        "Filed", "The provider is told, nobody else is given the old addresses, and the office files a certificate."
    ):
        notice = ("--release", "--reference", "伊财信函〔2026〕12号", "--rent-free-from", "2027-01-01")
        story.run("retire", *retired, *notice, "--yes")
        held = story.ask("plan", "quarantine")["quarantine"]
        story.hold(f"{len(held)} old prefixes are in quarantine", true={h["unit"] for h in held} == set(retired))
        story.run("certificate", *retired, "--lang", "en", "--out", str(story.folder / "certificate.html"))
    with story.chapter("Where we stand", "Every unit, the dates, and the record of it all."):
        story.run("status")
        states = {u["unit"]: u["state"] for u in story.ask("status")["units"]}
        story.hold("what was to go is gone, and no more of it", true=all(states[u] == "released" for u in retired))
        story.hold("nothing else was retired", true=all(s == "cut_over" for u, s in states.items() if u not in retired))
        final = story.ask("verify", *(() if full else ("--unit", one)), expect=(0,))
        whose = "" if full else f" of {one}"
        story.hold(f"and all {final['checks']} checks{whose} still pass", true=final["ok"])
        story.run("ledger", "verify")


def find_the_stranger(story: Story, unit: str) -> None:
    """Tell how the soak names a machine on the old line that no table knows of."""
    with story.chapter(
        "A stranger on the line",
        "Somebody plugged a machine into an old router years ago. No table knows of it; it still talks.",
    ):
        story.run("lab", "fault", "stowaway", unit)
        seen = story.ask("soak", unit, expect=(1,))["units"][0]["against"]
        who: dict[str, Any] = next((f for f in seen if f["who"] and not f["known"]), {})
        story.hold(
            f"it is named: {who.get('who')}, MAC {who.get('mac')}, {who.get('device')} {who.get('port')}",
            true=bool(who),
        )
        story.run("lab", "fault", "unstow", unit)
        story.run("soak", unit)


def main() -> int:
    """Run the demo; 0 when the story went as told."""
    parser = argparse.ArgumentParser(
        prog="scripts/demo", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--full", action="store_true", help="the whole county instead of three towns")
    # scripts/demo takes it for the set-up, and hands on the others.
    parser.add_argument("--no-install", action="store_true", help="install nothing; only say what to install by hand")
    parser.add_argument("--keep", action="store_true", help="leave the lab and the county's folder for a look around")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="extranet-demo-")) / "yichuan"
    story = Story(folder)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(4))
    code = 4
    try:
        prepare(story, folder)
        tell(story, full=arguments.full)
        code = 0
    except StoryError as error:
        story.say(f"\n✗ {error}", "1;31")
        code = 1
    except KeyboardInterrupt:
        story.say("\ninterrupted", "1;31")
    finally:
        if not clean(story, folder, keep=arguments.keep):
            story.say("\n✗ the lab was not taken down cleanly", "1;31")
            code = code or 1
    if code == 0:
        total = time.monotonic() - story.start
        story.say("")
        for title, seconds in story.chapters:
            story.say(f"  {seconds:6.1f} s  {title}")
        story.say(f"✓ The story went as told: {len(story.chapters)} chapters in {total:.0f} s.", "1;32")
    return code


def prepare(story: Story, folder: Path) -> None:
    """Make the demo's own copy of the sample county, its timers shortened."""
    story.run("init", str(folder), show=0)
    policy = folder / "policy.yaml"
    text = policy.read_text("utf-8")
    for name, seconds in (SHORTENED | FEWER).items():
        text, count = re.subn(rf"(?m)^(\s+{name}:) [\d.]+", rf"\1 {seconds}", text)
        if count != 1:
            story.fail(f"policy.yaml has no timer {name}")
    policy.write_text(text, "utf-8")
    story.say(
        "The sample county is copied; its timers are shortened: " + ", ".join(f"{k} {v}" for k, v in SHORTENED.items())
    )


def clean(story: Story, folder: Path, *, keep: bool) -> bool:
    """Take the lab down and remove the folder, unless it is to be kept; tell whether nothing is left."""
    if keep:
        story.say(f"kept: EXTRANET_COUNTY={folder} (take it down with: extranet lab down --county {folder})")
        return True
    previous: Callable[..., Any] | int | None = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        code = story.call(("lab", "down"), stderr=None).returncode if (folder / "county.yaml").exists() else 0
        shutil.rmtree(folder.parent, ignore_errors=True)
        return code == 0 and not folder.parent.exists()
    finally:
        signal.signal(signal.SIGINT, previous)


if __name__ == "__main__":
    sys.exit(main())
