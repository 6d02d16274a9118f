"""`plan explain`: whose addresses are, by hand and for logs as they stream, which it never harms."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from addressing.attribution import Attributor
from addressing.plan import make_plan
from addressing.planfile import plan_path, write_plan
from inventory.reader import load_county
from inventory.topology import build_topology
from scripts.commands import plan_explain
from scripts.commands.plan_explain import Enricher, read_lines

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = ROOT / "inventory" / "yichuan"
COUNTY = load_county(SAMPLE)
PLAN = make_plan(COUNTY, build_topology(COUNTY))
STATION = COUNTY.stations[0]
PLANE = STATION.planes[0]
ADDRESS = str(PLAN.host6(STATION.site, PLANE, STATION.host).ip)
ATTRIBUTOR = Attributor(PLAN, COUNTY)

app = typer.Typer()
app.command("explain")(plan_explain.explain)
app.command("other")(plan_explain.explain)
runner = CliRunner()


@pytest.fixture
def county(tmp_path: Path) -> Path:
    """Return the sample county's folder with its plan."""
    import shutil

    folder = tmp_path / "county"
    shutil.copytree(SAMPLE, folder)
    write_plan(PLAN, plan_path(folder))
    return folder


def call(*arguments: str, text: bytes | None = None) -> tuple[int, str, str]:
    """Run the command; return exit code, standard output and standard error."""
    result = runner.invoke(app, ["explain", *arguments], input=text)
    return result.exit_code, result.stdout, result.stderr


def test_an_address_by_hand(county: Path) -> None:
    """A station's address is named with county, town, plane and purpose, in both languages and as JSON; exit 0."""
    code, out, _ = call(ADDRESS, "--county", str(county))
    assert code == 0
    assert ADDRESS in out
    for word in (COUNTY.name, STATION.name, PLANE, "active"):
        assert word in out
    code, out, _ = call(ADDRESS, "--county", str(county), "--lang", "zh")
    assert f"服务站 {STATION.name}" in out
    code, out, _ = call(ADDRESS, "--county", str(county), "--json")
    assert json.loads(out)[0]["county"] == COUNTY.name
    assert json.loads(out)[0]["purpose"] == "station"


def test_groups_of_an_address_are_no_pictures(county: Path) -> None:
    """`:100:` in an address is printed as it is."""
    lan = next(r for r in PLAN.records if r.kind == "lan" and ":100:" in r.prefix)
    address = lan.prefix.replace("::/64", "::9")
    _, out, _ = call(address, "--county", str(county))
    assert address in out
    assert lan.prefix in out


@pytest.mark.parametrize(
    "typed",
    [f"[{ADDRESS}]", f"[{ADDRESS}]:443", f" [{ADDRESS}%eth0]:443", f"{ADDRESS}%eth0", ADDRESS.upper(), f" {ADDRESS} "],
)
def test_addresses_as_people_paste_them(county: Path, typed: str) -> None:
    """Brackets, zones, upper case and spaces are taken."""
    assert call(typed, "--county", str(county))[0] == 0


def test_not_planned_is_exit_1(county: Path) -> None:
    """An address outside or given to nobody makes exit 1, and all are still explained."""
    code, out, _ = call(ADDRESS, "2001:db8::1", PLAN.pool.replace("::/36", ":fff::1"), "--county", str(county))
    assert code == 1
    assert len(out.splitlines()) == 3
    assert "outside the plan" in out
    assert "free" in out


def test_no_address_is_exit_2(county: Path) -> None:
    """Every argument that is no address is named at once; a prefix is none."""
    code, out, err = call("nonsense", ADDRESS, "2001:db8::/32", "--county", str(county))
    assert (code, out) == (2, "")
    assert "'nonsense': neither an IPv6 nor an IPv4 address" in err
    assert "found a prefix" in err


def test_ipv4_with_a_port() -> None:
    """IPv4 goes with a port as well; a port of letters is none."""
    from inventory.errors import InputProblemsError

    assert str(plan_explain.read_addresses(["10.20.0.1:53"])[0]) == "10.20.0.1/32"
    with pytest.raises(InputProblemsError, match="not an IPv4 address"):
        plan_explain.read_addresses(["10.20.0.300"])
    with pytest.raises(InputProblemsError, match="not an IPv6 address"):
        plan_explain.read_addresses(["[2001:db8::1]:https"])


@pytest.mark.parametrize("arguments", [[], [ADDRESS, "--stdin"], ["--stdin", "--field", "a b"]])
def test_contradictions_are_exit_2(county: Path, arguments: list[str]) -> None:
    """Nothing asked, both ways asked, and a field that is no name are said to be wrong."""
    code, out, err = call(*arguments, "--county", str(county), text=b"")
    assert (code, out) == (2, "")
    assert "expected" in err


def test_no_plan_is_exit_2(tmp_path: Path) -> None:
    """Without a plan there is one line of what to do."""
    code, _, err = call(ADDRESS, "--county", str(tmp_path))
    assert code == 2
    assert "extranet plan addresses" in err


def test_a_log_is_copied_and_enriched(county: Path) -> None:
    """Each address of a line is explained after it; lines without any, broken bytes and ends of lines stay as they are."""
    log = f"a {ADDRESS} b\r\nplain\n\xff\xfe {ADDRESS}.53\nlast 2001:db8::1".encode("latin-1")
    code, _, _ = call("--stdin", "--county", str(county), text=log)
    result = runner.invoke(app, ["explain", "--stdin", "--county", str(county)], input=log)
    lines = result.stdout_bytes.split(b"\n")
    assert code == 0
    assert lines[0].startswith(f'a {ADDRESS} b plan="{ADDRESS} active: {COUNTY.name}'.encode())
    assert lines[0].endswith(b'"\r')
    assert lines[1] == b"plain"
    assert lines[2].startswith(b"\xff\xfe " + ADDRESS.encode() + b'.53 plan="')
    assert lines[3] == b'last 2001:db8::1 plan="2001:db8::1 outside: outside the plan"'


def enrich(line: bytes, *, as_json: bool = False) -> bytes:
    """Enrich one line."""
    return Enricher(ATTRIBUTOR, "plan", "en", as_json=as_json).enrich(line)


@given(st.binary(max_size=200))
def test_no_byte_is_harmed(line: bytes) -> None:
    """Whatever the bytes, the line comes out first and whole, with at most fields added before its end."""
    line = line.replace(b"\n", b"") + b"\n"
    out = enrich(line)
    body = line.rstrip(b"\r\n")
    assert out.startswith(body)
    assert out.endswith(line[len(body) :])
    assert out == line or b' plan="' in out


@given(
    st.one_of(
        st.binary(max_size=100),
        st.dictionaries(st.text(max_size=9), st.text(max_size=9)).map(lambda d: json.dumps(d).encode()),
    )
)
def test_json_is_always_json(line: bytes) -> None:
    """With --json every line is one JSON object on one line; an object keeps all it had."""
    out = json.loads(enrich(line.replace(b"\n", b""), as_json=True))
    assert isinstance(out, dict)
    try:
        before = json.loads(line.replace(b"\n", b"").decode())
    except ValueError:
        before = None
    if isinstance(before, dict):
        assert {k: out[k] for k in before} == before
        assert len(out) == len(before) + 1


def test_two_addresses_and_quotes() -> None:
    """A second address gets a field of its own, a repeated one none, and quotes in names are escaped."""
    county = COUNTY.altered(stations=tuple(s.altered(name='a "b" \\c') if s == STATION else s for s in COUNTY.stations))
    line = f"{ADDRESS} 2001:db8::1 {ADDRESS.upper()}\n".encode()
    out = Enricher(Attributor(PLAN, county), "x", "en", as_json=False).enrich(line).decode()
    assert out.count(" x=") == out.count(" x_2=") == 1
    assert " x_3=" not in out
    assert r"a \"b\" \\c" in out


def test_ipv4_of_others_is_passed_over() -> None:
    """Four numbers that the plan knows nothing of may be a version; those of the plan are explained."""
    lan = next(r for r in PLAN.records if r.kind == "lan4")
    first = lan.prefix.split("/")[0].rpartition(".")
    known = f"{first[0]}.{int(first[2]) + 1}"
    assert enrich(b"version 1.2.3.4\n") == b"version 1.2.3.4\n"
    assert f'plan="{known} active'.encode() in enrich(f"from {known}\n".encode())


@settings(max_examples=50)
@given(st.lists(st.binary(max_size=20).map(lambda b: b.replace(b"\n", b"")), max_size=8), st.integers(1, 30))
def test_lines_come_whole_however_they_arrive(lines: list[bytes], piece: int) -> None:
    """Lines are the same whatever pieces they arrive in."""

    class Trickle(io.BytesIO):
        def read1(self, size: int | None = -1, /) -> bytes:
            return self.read(piece)

    content = b"\n".join(lines)
    out = [line for group in read_lines(Trickle(content)) for line in group]
    assert b"".join(out) == content
    assert [line.rstrip(b"\n") for line in out] == (lines if not content.endswith(b"\n") else lines[:-1])[: len(out)]


def test_a_line_without_end_is_passed_on() -> None:
    """A line of many megabytes goes through in pieces, untouched, and what follows is enriched again."""
    giant = (ADDRESS.encode() + b" ") * 100_000
    content = giant + b"\n" + ADDRESS.encode() + b"\n"
    enricher = Enricher(ATTRIBUTOR, "plan", "en", as_json=False)
    out = b"".join(enricher.enrich(line) for group in read_lines(io.BytesIO(content)) for line in group)
    assert out.startswith(giant + b"\n" + ADDRESS.encode() + b' plan="')


RUN = (
    "import sys, typer; from scripts.commands import plan_explain as p; a = typer.Typer(); a.command()(p.explain); a()"
)


def test_lines_of_a_pipe_that_trickles_come_at_once(county: Path) -> None:
    """A line that was written comes out before the next one is there."""
    with subprocess.Popen(
        [sys.executable, "-c", RUN, "--stdin", "--county", str(county)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
    ) as process:
        assert process.stdin
        assert process.stdout
        for number in range(3):
            process.stdin.write(f"{number} {ADDRESS}\n".encode())
            process.stdin.flush()
            assert process.stdout.readline().startswith(f'{number} {ADDRESS} plan="'.encode())
        process.stdin.close()
        assert process.wait(60) == 0


def test_a_reader_that_goes_away_ends_it_quietly(county: Path) -> None:
    """As after `| head`: no complaint, no traceback."""
    reader, writer = os.pipe()
    with subprocess.Popen(
        [sys.executable, "-c", RUN, "--stdin", "--county", str(county)],
        stdin=subprocess.PIPE,
        stdout=writer,
        stderr=subprocess.PIPE,
        cwd=ROOT,
    ) as process:
        os.close(writer)
        os.close(reader)
        _, err = process.communicate(f"{ADDRESS}\n".encode() * 20_000, timeout=60)
        assert err == b""
        assert process.returncode == 0
