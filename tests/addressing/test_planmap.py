"""Laws of the plan's picture: it asks nothing of anybody, shows every entry, and finds the block around any address."""

from __future__ import annotations

import base64
import json
import os
import random
import re
import select
import shutil
import subprocess
import tempfile
import time
import zlib
from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from html.parser import HTMLParser
from ipaddress import IPv6Network
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from addressing.divisions import Divisions
from addressing.entries import Plan, list_entries
from addressing.hierarchy import ABSORBED, ACTIVE, QUARANTINED, STATES, HierarchyPlan, plan_divisions
from addressing.model import AddressPlan
from addressing.plan import make_plan
from addressing.planfile import write_plan
from addressing.planmap import EmptyPlanError, draw_map, keep_under
from addressing.planmap.columns import MAPPED, _depths, _front_coded
from addressing.policy import LEVEL_NAMES, LaidField, Layout, PlanPolicy, Subnet
from addressing.ratios import hd_ratio
from addressing.text import Prefix, format_prefix, parse_prefix
from inventory.errors import UnknownNameError
from inventory.reader import load_county
from inventory.topology import build_topology
from scripts.commands.plan_map import map_

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
in_browser = pytest.mark.skipif(CHROMIUM is None, reason="no chromium here: apt-get install chromium")
EVIL = "</script><script>boom()</script><img src=x onerror=boom()>&amp;@@PACKED@@"


def county_plan() -> AddressPlan:
    """Plan the sample county."""
    county = load_county(Path(__file__).resolve().parents[2] / "inventory" / "yichuan")
    return make_plan(county, build_topology(county))


def tree_plan(
    rows: list[tuple[str, str, int, str]], pool: str, widths: dict[int, int], templates: dict[str, Any] | None = None
) -> HierarchyPlan:
    """Plan divisions given as (code, name, level, parent's code), with fields of these widths by level."""
    rows = sorted(rows)
    at = {code: n for n, (code, *_) in enumerate(rows)}
    divisions = Divisions(
        [r[0] for r in rows],
        [r[1] for r in rows],
        np.array([r[2] for r in rows], dtype=np.int8),
        np.array([at.get(r[3], -1) for r in rows], dtype=np.int32),
    )
    length, fields = IPv6Network(pool).prefixlen, []
    for level, width in widths.items():
        length += width
        fields.append(
            LaidField(level=level, name=LEVEL_NAMES[level], width=width, length=length, order="centre", reserved=(0,))
        )
    policy = PlanPolicy(pools=(IPv6Network(pool),), leaf_at_most=64, templates=templates or {})
    root = min(int(r[2]) for r in rows)
    return plan_divisions(
        divisions,
        policy,
        Layout(pools=policy.pools, fields=tuple(fields), root_level=0 if root in widths else root),
    )


def small_tree() -> HierarchyPlan:
    """Plan a city with counties, towns directly under it, a quarantined county and one absorbed by its neighbour."""
    rows = [("410000000000", "中州市", 2, "")]
    for c in range(1, 5):
        county = f"4101{c:02}000000"
        rows.append((county, f"第{c}县", 3, "410000000000"))
        for t in range(1, 4):
            town = f"4101{c:02}{t:03}000"
            rows.append((town, f"镇{c}{t}", 4, county))
            rows += [(f"4101{c:02}{t:03}{v:03}", f"村{c}{t}{v}", 5, town) for v in range(1, 6)]
    rows.append(("410199001000", "直属镇", 4, "410000000000"))
    parts = (
        Subnet(name="公用", zone="public", slot=0),
        Subnet(name="财政", zone="dedicated", slot=3),
        Subnet(name="大段", zone="internet", slot=1, length=60),
    )
    plan = tree_plan(rows, "3fff:410::/32", {3: 6, 4: 8, 5: 10}, {"village": parts, "town": parts[:1]})
    states, intos = plan.states.copy(), plan.intos.copy()
    states[plan.row_of["410103000000"]] = ABSORBED
    intos[plan.row_of["410103000000"]] = plan.ids[plan.row_of["410102000000"]]
    gone = [r for r, code in enumerate(plan.codes) if code.startswith("410104")]
    states[gone] = QUARANTINED
    return replace(plan, states=states, intos=intos)


COUNTY = county_plan()
TREE = small_tree()


class Shown(NamedTuple):
    """What a page holds of one block."""

    prefix: Prefix
    depth: int
    kind: str
    state: str
    parts: list[list[Any]]
    name: str
    code: str


class Parts(HTMLParser):
    """Collects the elements of a page and the text in its scripts, style and title."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, str] = {}
        self._key = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._key = (dict(attrs).get("id") or tag) if tag in {"script", "style", "title", "h1"} else ""

    def handle_endtag(self, tag: str) -> None:
        self._key = ""

    def handle_data(self, data: str) -> None:
        if self._key:
            self.texts[self._key] = self.texts.get(self._key, "") + data


def read_page(page: str) -> list[Shown]:
    """Return a page's blocks, read as the page itself reads them."""
    texts = Parts(page).texts
    about = json.loads(texts["about"])
    content, columns = zlib.decompress(base64.b64decode(texts["packed"])), {}
    for name, size in about["columns"]:
        columns[name], content = content[:size], content[size:]
    rows = about["rows"]
    halves = []
    for name in ("high", "low"):
        planes = np.frombuffer(columns[name] or bytes(8 * rows), dtype=np.uint8).reshape(8, rows)
        halves.append(np.cumsum(planes, axis=1, dtype=np.uint8).T.copy().view(">u8").ravel().tolist())
    codes, before = [], b""
    for shared, rest in zip(columns["shared"], columns["code"].split(b"\n"), strict=True):
        before = before[:shared] + rest
        codes.append(before.decode())
    names = columns["name"].decode().split("\n")
    out = []
    for row in range(rows):
        value, length = halves[0][row] << 64 | halves[1][row], columns["length"][row]
        v4 = length >= 96 and value >> 32 == 0xFFFF
        prefix = Prefix(4, value ^ MAPPED, length - 96) if v4 else Prefix(6, value, length)
        kind, state = about["kinds"][columns["kind"][row]], about["states"][columns["state"][row]]
        parts = about["templates"][columns["template"][row]] if state == "active" else []
        out.append(Shown(prefix, columns["depth"][row], kind, state, parts, names[row], codes[row]))
    return out


# --- the file ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("plan", [COUNTY, TREE], ids=["county", "tree"])
def test_nothing_outside_is_named(plan: Plan) -> None:
    """The page names no other place, and its policy forbids every request even if it did."""
    page = draw_map(plan, "规划", "zh")
    parts = Parts(page)
    assert not re.search(
        r"(?i)(https?:)?//[a-z0-9.-]+\.[a-z]|@import|url\(|\bfetch\(|XMLHttp|WebSocket|sendBeacon", page
    )
    links = {v for _, attrs in parts.elements for k, v in attrs.items() if k in {"src", "href", "action", "data"}}
    assert links == {"data:,"}
    policy = next(a["content"] for _, a in parts.elements if a.get("http-equiv") == "Content-Security-Policy") or ""
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules.pop("default-src") == "'none'"
    for kind in ("script", "style"):
        digest = base64.b64encode(sha256(parts.texts[kind].encode()).digest()).decode()
        assert rules.pop(f"{kind}-src") == f"'sha256-{digest}'"
    assert rules == {"img-src": "data:", "base-uri": "'none'", "form-action": "'none'"}


def test_texts_stay_texts() -> None:
    """A name or title that looks like markup adds no element, and comes out as it went in."""
    plan = tree_plan([("41", EVIL, 3, ""), ("4101", f"{EVIL}\n\x00x", 4, "41")], "3fff:41::/40", {4: 8})
    page = draw_map(plan, EVIL, "en")
    parts, plain = Parts(page), Parts(draw_map(TREE, "x", "en"))
    assert [tag for tag, _ in parts.elements] == [tag for tag, _ in plain.elements]
    assert parts.texts["title"] == parts.texts["h1"] == EVIL
    assert [b.name for b in read_page(page) if b.code] == [EVIL, f"{EVIL}  x"]


def test_same_plan_same_bytes() -> None:
    """Drawing is a pure function: the same plan, title and language give the same bytes; another title does not."""
    for plan in (COUNTY, TREE):
        assert draw_map(plan, "规划", "zh") == draw_map(plan, "规划", "zh") != draw_map(plan, "规划二", "zh")


@pytest.mark.parametrize("plan", [COUNTY, TREE], ids=["county", "tree"])
def test_every_entry_is_in_the_page(plan: Plan) -> None:
    """Each entry of the plan, subnets of site templates too, is in the page's data with its prefix and state."""
    shown = read_page(draw_map(plan, "规划", "zh"))
    there = {(b.prefix, b.kind, b.state, b.code) for b in shown}
    there |= {
        (Prefix(6, b.prefix.value + (slot << (128 - length)), length), "subnet", "active", b.code)
        for b in shown
        for _, _, slot, length in b.parts
    }
    # The map calls each part of the infrastructure by its name, and shows it once.
    wanted = [
        (e.prefix, e.name, e.state, "") if e.kind == "infrastructure" else (e.prefix, e.kind, e.state, e.code or e.id)
        for e in list_entries(plan, subnets=True)
    ]
    assert len([b for b in shown if b.kind in {"loopbacks", "links", "management"}]) <= 3
    assert len(wanted) > 90
    assert set(wanted) <= there
    named = {(b.code, b.name) for b in shown}
    assert {(e.code or e.id, e.name) for e in list_entries(plan) if e.kind != "infra"} <= named


@pytest.mark.parametrize("plan", [COUNTY, TREE], ids=["county", "tree"])
def test_depth_counts_blocks_around(plan: Plan) -> None:
    """In the page's order each block follows the one it lies in, and its depth counts those around it."""
    around: list[Prefix] = []
    for block in read_page(draw_map(plan, "规划", "zh")):
        assert block.depth <= len(around)
        del around[block.depth :]
        assert not around or around[-1].covers(block.prefix)
        around.append(block.prefix)


@given(st.lists(st.tuples(st.integers(0, 2**8 - 1), st.integers(0, 8), st.integers(0, 1)), min_size=1, max_size=40))
def test_depths_agree_with_looking_at_all_pairs(blocks: list[tuple[int, int, int]]) -> None:
    """A block's depth is the number of wider ones around it (equal ones of other kinds before it), found pair by pair."""
    made = sorted({(v >> (8 - n) << (8 - n), n, kind) for v, n, kind in blocks})
    # Eight bits across the border between the two halves of an address, where mistakes would be.
    first = [(v << 60, 60 + n, kind) for v, n, kind in made]
    depths = _depths(
        np.array([v >> 64 for v, _, _ in first], dtype=np.uint64),
        np.array([v & (2**64 - 1) for v, _, _ in first], dtype=np.uint64),
        np.array([n for _, n, _ in first], dtype=np.uint8),
        np.array([kind for _, _, kind in first], dtype=np.uint8),
    )
    pairs = [
        sum(1 for b in first[:i] if Prefix(6, b[0], b[1]).covers(Prefix(6, value, length)))
        for i, (value, length, _) in enumerate(first)
    ]
    assert depths.tolist() == pairs


@given(st.lists(st.text(alphabet="0123456789é伊", max_size=60), min_size=1, max_size=30))
def test_front_coding_loses_nothing(texts: list[str]) -> None:
    """Codes come back from what each shares with the one before and its own rest."""
    shared, rests = _front_coded(texts)
    out, before = [], b""
    for same, rest in zip(shared, rests.split(b"\n"), strict=True):
        assert same <= len(before)
        before = before[:same] + rest
        out.append(before.decode())
    assert out == texts


def test_several_pools_and_infrastructure_are_shown() -> None:
    """Pools that no division fills by itself, and the routers' own /64s, are blocks of their own."""
    plan = tree_plan([(f"{n}0", f"省{n}", 1, "") for n in range(1, 4)], "3fff::/24", {1: 2})
    pools = (*plan.layout.pools, IPv6Network("3fff:800::/24"))
    two = replace(
        plan,
        layout=plan.layout.model_copy(update={"pools": pools}),
        policy=plan.policy.altered(pools=pools),
    )
    shown = {(str(b.prefix), b.kind, b.depth) for b in read_page(draw_map(two, "x", "zh"))}
    assert {("3fff::/24", "pool", 0), ("3fff:800::/24", "pool", 0), ("3fff:0:0:1::/64", "links", 1)} <= shown


def test_under_keeps_one_block() -> None:
    """`--under` keeps what lies in one block, its root first; an unknown code is refused with its neighbours."""
    part = keep_under(TREE, "410102000000")
    assert isinstance(part, HierarchyPlan)
    assert len(part) == 1 + 3 + 15
    assert all(code.startswith("410102") for code in part.codes)
    whole = {b.code: (b.prefix, b.name, b.state) for b in read_page(draw_map(TREE, "x", "zh"))}
    shown = read_page(draw_map(part, "x", "zh"))
    assert all(whole[b.code] == (b.prefix, b.name, b.state) for b in shown)
    assert [b.code for b in shown if b.depth == 0] == ["410102000000"]
    plane = keep_under(COUNTY, "plane:edu")
    assert isinstance(plane, AddressPlan)
    assert {r.id.partition("@")[2] or "edu" for r in plane.records} == {"edu"}
    with pytest.raises(UnknownNameError, match="did you mean 41010200"):
        keep_under(TREE, "410102000009")
    with pytest.raises(UnknownNameError, match="plane:edu"):
        keep_under(COUNTY, "plane:edi")


def test_empty_plan_is_refused() -> None:
    """A plan with no entries draws nothing and says what to do."""
    with pytest.raises(EmptyPlanError, match="no entries"):
        draw_map(COUNTY.altered(records=()), "x", "zh")


def test_command(tmp_path: Path) -> None:
    """The command writes the page whole, says what it wrote, and refuses with code 2 what it cannot draw."""
    app = typer.Typer()
    app.command()(map_)
    run = CliRunner().invoke
    plan, out = tmp_path / "plan" / "addresses.json", tmp_path / "new" / "map.html"
    plan.parent.mkdir()
    write_plan(COUNTY, plan)
    done = run(app, ["--county", str(tmp_path), "--out", str(out), "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout) == {
        "file": str(out),
        "entries": len(COUNTY.records),
        "bytes": out.stat().st_size,
        "lang": "zh",
    }
    assert len(read_page(out.read_text("utf-8"))) > len(COUNTY.records)
    done = run(app, [str(plan), "--out", str(out), "--under", "plane:edu", "--lang", "en", "--title", "党员教育"])
    assert done.exit_code == 0, done.output
    assert Parts(out.read_text("utf-8")).texts["h1"] == "党员教育"
    kept = out.read_bytes()
    for bad in (
        [str(plan), "--out", str(out), "--under", "plane:nothing"],
        [str(plan), "--out", str(tmp_path / "map.pdf")],
        [str(tmp_path / "none.json"), "--out", str(out)],
        [str(plan), "--out", str(plan / "map.html")],
    ):
        refused = run(app, bad)
        assert refused.exit_code == 2, bad
        assert "Traceback" not in refused.output
    assert out.read_bytes() == kept
    assert not (tmp_path / "map.pdf").exists()


# --- the page in a browser --------------------------------------------------------------------------------------------


class Browser:
    """A headless Chromium, spoken to over its debugging pipe: one JSON message, then a zero byte."""

    def __init__(self, home: str) -> None:
        to_read, self._write = os.pipe()
        self._read, to_write = os.pipe()
        arguments = (
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            f"--user-data-dir={home}/profile",
            "--remote-debugging-pipe",
            "about:blank",
        )
        self._process = subprocess.Popen(
            ["sh", "-c", f'exec "$@" 3</dev/fd/{to_read} 4>/dev/fd/{to_write}', "sh", str(CHROMIUM), *arguments],
            pass_fds=(to_read, to_write),
            env={**os.environ, "HOME": home},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_read)
        os.close(to_write)
        self._buffer, self._number, self._session = b"", 0, ""
        self.events: list[dict[str, Any]] = []

    def start(self) -> None:
        """Open the one tab that the tests use."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.call("Emulation.setDeviceMetricsOverride", width=1440, height=900, deviceScaleFactor=1, mobile=False)
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Send one command and return its result; what else is heard meanwhile goes to `events`."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._hear()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                result: dict[str, Any] = answer["result"]
                return result
            self.events.append(answer)

    def _hear(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            assert select.select([self._read], [], [], 60)[0], "the browser says nothing for a minute"
            heard = os.read(self._read, 1 << 20)
            assert heard, "the browser is gone"
            self._buffer += heard
        first, _, self._buffer = self._buffer.partition(b"\0")
        answer: dict[str, Any] = json.loads(first)
        return answer

    def ask(self, expression: str) -> Any:
        """Return the value of an expression in the page."""
        done = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in done, done
        return done["result"].get("value")

    def wait(self, expression: str) -> Any:
        """Return an expression's value once it is true of the page."""
        end = time.monotonic() + 30
        while time.monotonic() < end:
            value = self.ask(expression)
            if value:
                return value
            time.sleep(0.05)
        raise AssertionError(f"never true: {expression}; {self.complaints()}")

    def open(self, path: Path, place: str = "") -> int:
        """Open a page and return after how many milliseconds it was drawn."""
        self.call("Page.navigate", url="about:blank")
        self.events.clear()
        self.call("Page.navigate", url=path.as_uri() + place)
        return int(self.wait("document.documentElement && document.documentElement.dataset.drawn"))

    def press(self, key: str) -> None:
        """Press and release a key."""
        code = {"Enter": 13, "Escape": 27, "ArrowRight": 39, "ArrowDown": 40}[key]
        for kind in ("rawKeyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code)

    def type(self, text: str) -> None:
        """Put the cursor into the search field, empty it, and type."""
        self.ask("document.getElementById('query').focus(); document.getElementById('query').select()")
        self.call("Input.insertText", text=text)

    def complaints(self) -> list[dict[str, Any]]:
        """Return errors, warnings and anything written to the console."""
        kinds = {"Runtime.exceptionThrown", "Log.entryAdded", "Runtime.consoleAPICalled"}
        self.ask("1")
        return [e for e in self.events if e["method"] in kinds]

    def requests(self) -> list[str]:
        """Return everything asked for since the page was opened."""
        return [e["params"]["request"]["url"] for e in self.events if e["method"] == "Network.requestWillBeSent"]

    def close(self) -> None:
        """End the browser."""
        self._session = ""
        try:
            self.call("Browser.close")
        except (AssertionError, BrokenPipeError):
            self._process.kill()
        self._process.wait(30)
        os.close(self._write)
        os.close(self._read)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Start a Chromium for this module's tests."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
        started = Browser(home)
        try:
            started.start()
            yield started
        finally:
            started.close()


def save(folder: Path, plan: Plan) -> Path:
    """Write a plan's page and return where."""
    path = folder / "map.html"
    path.write_text(draw_map(plan, "伊川县 IPv6 地址规划", "zh"), encoding="utf-8")
    return path


VIEW = "document.documentElement.dataset.view"
HITS = "[...document.querySelectorAll('#found [role=option]')].map(e => e.textContent)"


@pytest.mark.heavy
@in_browser
def test_a_person_finds_and_zooms_to_a_64(browser: Browser, tmp_path: Path) -> None:
    """By keyboard alone: search a village, zoom in to its /64, go back and forward; no error, no request but the file."""
    page = save(tmp_path, COUNTY)
    browser.open(page)
    assert browser.ask(VIEW) == "3fff:329::/36"
    browser.type("site:baisha-baisha1@edu")
    browser.wait(f"{HITS}.length === 1")
    browser.press("Enter")
    browser.wait(f"{VIEW} === '3fff:329:414::/48'")
    assert "sel=3fff:329:414:100::/56" in browser.ask("location.hash")
    assert browser.ask("document.querySelector('#panel h2').textContent") == "白沙村便民服务站"
    browser.press("Enter")
    browser.wait(f"{VIEW} === '3fff:329:414:100::/56'")
    browser.press("ArrowRight")
    assert "3fff:329:414:100::/64" in browser.ask("document.getElementById('said').textContent")
    browser.ask("history.back()")
    browser.wait(f"{VIEW} === '3fff:329:414::/48'")
    browser.ask("history.forward()")
    browser.wait(f"{VIEW} === '3fff:329:414:100::/56'")
    for above in ("3fff:329:414::/48", "3fff:329:400::/40", "3fff:329::/36", "all"):
        browser.press("Escape")
        browser.wait(f"{VIEW} === '{above}'")
    browser.ask("location.hash = '#at=3fff:329::/36&sel=3fff:329::/40'")
    browser.wait(f"{VIEW} === '3fff:329::/36'")
    browser.press("Enter")
    # Everything of the infrastructure lies in the first of 256 cells, so that grid is passed over.
    browser.wait(f"{VIEW} === '3fff:329::/56'")
    assert browser.complaints() == []
    assert browser.requests() == [page.as_uri()]


@pytest.mark.heavy
@in_browser
def test_counts_are_the_plans(browser: Browser, tmp_path: Path) -> None:
    """Slots used, reserved, quarantined, absorbed and free are those of the plan, at every block of it."""
    browser.open(save(tmp_path, TREE))
    counts = {key: browser.ask(f"lookInto(blockOf(seek('{key}').list[0].row)).counts") for key in ("中州市", "镇11")}
    assert counts["中州市"] == {"used": 2, "reserved": 1, "quarantined": 1, "absorbed": 1, "free": 59, "all": 64}
    assert counts["镇11"] == {"used": 5, "reserved": 1, "quarantined": 0, "absorbed": 0, "free": 1018, "all": 1024}
    assert browser.ask("hdRatio(lookInto(blockOf(seek('镇11').list[0].row)))") == pytest.approx(hd_ratio(6, 1024))
    # Nothing under a quarantined division is free.
    gone = browser.ask("lookInto(blockOf(seek('第4县').list[0].row)).counts")
    assert gone["free"] == 0
    assert gone["quarantined"] + gone["reserved"] == gone["all"] == 256
    # 1024 slots are shown as 256 cells of 4; the counts add up all the same.
    sums = browser.ask("lookInto(blockOf(seek('镇11').list[0].row)).cells.map(c => c.tally.used || 0)")
    assert (len(sums), sum(sums)) == (256, 5)
    browser.type("隔离")
    browser.wait(f"{HITS}.length === {int((TREE.states == QUARANTINED).sum())}")
    browser.type("410103000000")
    browser.wait(f"{HITS}.length === 1")
    browser.press("Enter")
    assert "第2县" in browser.wait("[...document.querySelectorAll('#panel dd')].map(e => e.textContent).join(' ')")
    browser.type("直属镇")
    browser.wait(f"{HITS}.length === 1")
    browser.press("Enter")
    browser.wait(f"{VIEW} !== '3fff:410::/32'")
    assert "直属镇" in browser.ask("document.querySelector('#panel h2').textContent")
    assert browser.complaints() == []


@pytest.mark.heavy
@in_browser
@pytest.mark.parametrize("plan", [COUNTY, TREE], ids=["county", "tree"])
def test_any_address_finds_its_innermost_block(browser: Browser, tmp_path: Path, plan: Plan) -> None:
    """Whatever way an address is written, the page reads it as addressing.text does and finds the innermost block."""
    entries = list(list_entries(plan, subnets=True))
    draw = random.Random(7)
    browser.open(save(tmp_path, plan))
    shown = read_page(draw_map(plan, "x", "zh"))
    blocks = [*(b.prefix for b in shown), *(e.prefix for e in entries)]
    asked: list[str] = []
    for entry in draw.sample(entries, min(80, len(entries))):
        value = draw.randint(entry.prefix.value, entry.prefix.last)
        if entry.prefix.version == 4:
            dotted = ".".join(map(str, value.to_bytes(4, "big")))
            asked += [dotted, f"::ffff:{dotted}", f"::FFFF:{value >> 16:x}:{value & 0xFFFF:x}"]
        else:
            groups = [f"{value >> s & 0xFFFF:04X}" for s in range(112, -1, -16)]
            asked += [":".join(groups), format_prefix(value, 128), str(entry.prefix)]
    for text in asked:
        wanted = parse_prefix(text)
        if wanted.version == 6 and wanted.value >> 32 == 0xFFFF:
            wanted = Prefix(4, wanted.value & 0xFFFFFFFF, wanted.length - 96)
        inner = max((b for b in blocks if b.covers(wanted)), key=lambda b: b.length)
        found = browser.ask(f"(s => [formatPrefix(s.exact), formatPrefix(s.list[0])])(seek({json.dumps(text)}))")
        assert found == [str(wanted), str(inner)], text


@pytest.mark.heavy
@in_browser
def test_addresses_are_read_and_written_as_everywhere_else(browser: Browser, tmp_path: Path) -> None:
    """RFC 5952 text out, every legal form in, and nothing that is no address (the cases of the suite's own parser)."""
    browser.open(save(tmp_path, TREE))
    written = browser.ask(
        "['2001:db8:0:0:1:0:0:1','2001:0:0:1:0:0:0:1','2001:db8::1:1:1:1:1','2001:DB8::AAAA','::ffff:c000:201','::','::1',"
        "'１９２.０.２.１','3fff：:1／128','2001:db8::1/32','3fff:329','3fff:329:4:'].map(t => formatPrefix(parsePrefix(t)))"
    )
    assert written == [
        *("2001:db8::1:0:0:1/128", "2001:0:0:1::1/128", "2001:db8:0:1:1:1:1:1/128", "2001:db8::aaaa/128"),
        *("192.0.2.1/32", "::/128", "::1/128", "192.0.2.1/32", "3fff::1/128", "2001:db8::/32"),
        *("3fff:329::/32", "3fff:329:4::/48"),
    ]
    none = [
        "",
        "白沙镇",
        "410329101203",
        "1.2.3",
        "1.2.3.256",
        "01.2.3.4",
        "1::2::3",
        "12345::",
        "::1/129",
        "1.2.3.4/33",
        "g::",
    ]
    assert browser.ask(f"{json.dumps(none)}.filter(t => parsePrefix(t) !== null)") == []


@pytest.mark.heavy
@in_browser
def test_names_do_nothing(browser: Browser, tmp_path: Path) -> None:
    """A name that looks like markup is only shown: on the map, in the panel and in what is found."""
    plan = tree_plan([("41", EVIL, 3, ""), ("4101", EVIL, 4, "41")], "3fff:41::/40", {4: 8})
    path = tmp_path / "map.html"
    path.write_text(draw_map(plan, EVIL, "en"), encoding="utf-8")
    browser.open(path)
    browser.type("boom")
    browser.wait(f"{HITS}.length === 2")
    browser.press("Enter")
    assert EVIL in browser.ask("document.querySelector('#panel h2').textContent")
    assert browser.ask("document.querySelectorAll('img, body script:not([id]) ~ script').length") == 0
    assert browser.ask("typeof boom") == "undefined"
    assert browser.complaints() == []


@pytest.mark.heavy
@in_browser
def test_languages_themes_and_paper(browser: Browser, tmp_path: Path) -> None:
    """Both languages have the same words; switching language, theme or to paper raises no complaint and keeps the place."""
    browser.open(save(tmp_path, COUNTY), "#at=3fff:329:400::/40&sel=3fff:329:414::/48")
    keys = (
        "(o => { const k = (v, p) => typeof v === 'object' ? Object.keys(v).flatMap(n => k(v[n], p + n + '.')) : [p];"
        " return k(o, '').sort(); })"
    )
    assert browser.ask(f"{keys}(WORDS.zh)") == browser.ask(f"{keys}(WORDS.en)")
    assert (
        browser.ask("ABOUT.kinds.concat(['province','city','county','village','srv6']).filter(k => !WORDS.zh.kinds[k])")
        == []
    )
    browser.ask("document.getElementById('lang').click()")
    browser.wait("document.getElementById('legend').textContent.includes('Quarantined')")
    assert browser.ask(VIEW) == "3fff:329:400::/40"
    assert browser.ask("document.documentElement.lang") == "en"
    light = browser.ask("getComputedStyle(document.body).backgroundColor")
    browser.ask("document.getElementById('theme').click(); document.getElementById('theme').click()")
    assert browser.ask("document.documentElement.dataset.theme") == "dark"
    assert browser.ask("getComputedStyle(document.body).backgroundColor") != light
    paper = base64.b64decode(browser.call("Page.printToPDF", landscape=True, printBackground=True)["data"])
    assert paper.startswith(b"%PDF")
    assert browser.ask("document.documentElement.dataset.theme") == "dark"
    for place in ("#at=%zz", "#at=nowhere", "#at=2001:db8::/32", "#", "#at=3fff:329:900::/40", "#at=10.128.0.0/16"):
        browser.ask(f"location.hash = '{place}'")
        browser.wait(f"{VIEW} && !moving")
    assert browser.ask(VIEW) == "10.128.0.0/16"
    assert browser.complaints() == []


@pytest.mark.heavy
@in_browser
def test_damaged_data_are_said_so(browser: Browser, tmp_path: Path) -> None:
    """A page cut short says that its data are damaged, instead of showing half a plan."""
    path = tmp_path / "map.html"
    page = draw_map(TREE, "x", "zh")
    start = page.index('id="packed">') + 200
    path.write_text(page[:start] + page[start + 40 :], encoding="utf-8")
    browser.call("Page.navigate", url=path.as_uri())
    assert "损坏" in browser.wait("(document.getElementById('wait') || {textContent: ''}).textContent.replace('…', '')")


@pytest.mark.heavy
@in_browser
def test_a_country_stays_quick(browser: Browser, tmp_path: Path) -> None:
    """665,000 divisions: a file of a few megabytes that draws in seconds and finds and zooms while one types."""
    rows = []
    for p in range(31):
        rows.append((f"{p:02}", f"省{p}", 1, ""))
        for c in range(20):
            city = f"{p:02}{c:02}"
            rows.append((city, f"市{p}-{c}", 2, f"{p:02}"))
            for t in range(34):
                town = f"{city}{t:03}"
                rows.append((town, f"镇{t}", 4, city))
                rows += [(f"{town}{v:03}", f"第{v}村村民委员会", 5, town) for v in range(1, 31)]
    plan = tree_plan(rows, "3fff::/20", {1: 8, 2: 8, 4: 10, 5: 10})
    page = save(tmp_path, plan)
    assert len(plan) > 650_000
    assert page.stat().st_size < 8_000_000
    assert browser.open(page) < 15_000
    quickest = browser.ask(
        "(() => { const took = []; for (const t of ['第7村村民委员会', '3007033030', '3fff:40::1', '没有']) { seek(t);"
        " const a = performance.now(); seek(t); took.push(performance.now() - a); } return Math.max(...took); })()"
    )
    assert quickest < 1000
    browser.type("3007033030")
    browser.wait(f"{HITS}.length === 1")
    browser.press("Enter")
    browser.wait("location.hash.includes('sel=')")
    assert browser.ask("document.querySelector('#panel h2').textContent") == "第30村村民委员会"
    assert browser.ask("document.querySelectorAll('*').length") < 600
    assert browser.complaints() == []


def test_states_are_in_the_pages_order() -> None:
    """The page names states by their number: active, quarantined, absorbed."""
    assert (STATES[ACTIVE], STATES[QUARANTINED], STATES[ABSORBED]) == ("active", "quarantined", "absorbed")
