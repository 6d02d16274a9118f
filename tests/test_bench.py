"""The benchmark's own arithmetic: what it says was measured is what was measured."""

import shlex

import pytest

from inventory.model import Family
from nornir_tasks.stations.model import Check
from scripts.bench_county import (
    DOCUMENT,
    BenchError,
    Machine,
    Measurement,
    Report,
    Ticks,
    answer_command,
    choose_sample,
    config_lines,
    port_command,
    push_phases,
    put_numbers,
    render,
    run_loop,
    spread,
)

MACHINE = Machine(
    cores=2,
    processor="a processor",
    memory_mib=24_000,
    kernel="6.1.0",
    system="Debian",
    python="3.11",
    frr="8.4",
    netmiko="4",
    testinfra="10",
)


def make_check(station: str = "s1", number: int = 0, protocol: str = "https") -> Check:
    """Return a check of which only these matter."""
    return Check.model_validate(
        {
            "id": f"{station}/finance/{number}/ipv6",
            "station": station,
            "plane": "finance",
            "service": "budget",
            "family": Family.IPV6,
            "expect": "reach",
            "protocol": protocol,
            "interface": "finance",
            "dns_name": "budget.example",
            "address": "2001:db8::1",
            "resolver": None,
            "port": 443,
            "marker": "budget",
        }
    )


def test_phases_add_up() -> None:
    """A push's phases cover all of its time once, and those of both waves are added."""
    lines = [
        (1.0, "· before: 4 checks of what works today\n"),
        (2.0, "  1/3 stations answered, last s1\n"),
        (3.0, "  3/3 stations answered, last s3\n"),
        (4.0, "  2/2 check, last core2\n"),
        (6.0, "  2/2 commit, last core1\n"),
        (6.3, "  rollback timers of 180 s armed on 2 devices: core1, core2 (c)\n"),
        (6.5, "· prove: 4 checks from 3 stations\n"),
        (7.0, "  3/3 stations answered, last s3\n"),
        (7.5, "  2/2 stations answered, last s3\n"),
        (8.0, "· before: 3 checks of what works today\n"),
        (9.0, "  3/3 stations answered, last s3\n"),
        (9.2, "  7/40 check, last a\n"),
        (9.5, "  1/40 commit, last b\n"),
        (9.7, "  40/40 commit, last b\n"),
        (10.0, "· prove: 4 checks from 3 stations\n"),
        (11.0, "  3/3 stations answered, last s3\n"),
        (12.0, "· before: 3 checks of what works today, as just measured\n"),
        (14.0, "  3/3 check, last c\n"),
        (17.0, "  3/3 commit, last c\n"),
        (17.5, "· prove: 4 checks from 3 stations\n"),
        (18.5, "  3/3 stations answered, last s3\n"),
    ]
    phases = push_phases(lines, 19.0)
    parts = {"what works today": 3.0, "check": 3.5, "arm and apply": 6.5, "prove": 3.0, "record and confirm": 2.0}
    assert phases == pytest.approx({"start": 1.0} | parts)
    assert sum(phases.values()) == pytest.approx(19.0)


def test_unknown_progress_is_no_phase() -> None:
    """Progress lines that say something else leave the sum right."""
    assert push_phases([(1.0, "something new\n")], 5.0) == {"start": 5.0}


def test_sample_is_spread() -> None:
    """A sample holds as many stations and checks as asked, from all over, each once."""
    checks = [make_check(f"s{s}", n) for s in range(30) for n in range(25)]
    sample = choose_sample(checks, stations=6, each=10)
    assert list(sample) == ["s0", "s5", "s10", "s15", "s20", "s25"]
    assert all(len({c.id for c in own}) == 10 for own in sample.values())
    assert all(c.station == name for name, own in sample.items() for c in own)


def test_spread_never_asks_for_more() -> None:
    """Of few items all are taken, in order."""
    assert spread([1, 2], 5) == [1, 2]
    assert spread(list(range(9)), 3) == [0, 3, 6]


@pytest.mark.parametrize("at_once", [1, 4])
def test_loop_counts_errors(at_once: int) -> None:
    """A loop goes on after an error, and tells how many there were."""
    seen: list[int] = []

    def work(number: int) -> None:
        seen.append(number)
        if number % 3 == 0:
            raise ValueError(number)

    assert run_loop(range(9), work, at_once) == 3
    assert sorted(seen) == list(range(9))


def test_typed_lines() -> None:
    """What a loop types is the configuration without blank lines and separators, in order."""
    assert config_lines("hostname a\n!\n\nvrf edu\n ip route 192.0.2.0/24 blackhole\nexit-vrf\n") == [
        "hostname a",
        "vrf edu",
        "ip route 192.0.2.0/24 blackhole",
        "exit-vrf",
    ]


@pytest.mark.parametrize("protocol", ["https", "tcp", "dns"])
def test_one_liners_are_python(protocol: str) -> None:
    """The hand-written probe is one shell word of valid Python that names leg, address and, where there is one, marker."""
    words = shlex.split(answer_command(make_check(protocol=protocol)))
    assert words[:2] == ["python3", "-c"]
    assert len(words) == 3
    compile(words[2], "one-liner", "exec")
    assert "b'finance'" in words[2]
    assert "'2001:db8::1',443" in words[2]
    assert ("b'budget'" in words[2]) == (protocol != "dns")


def test_port_probe_names_its_target() -> None:
    """The shortest probe asks for the check's address and port."""
    assert "/dev/tcp/2001:db8::1/443" in port_command(make_check())


def test_busy_share() -> None:
    """The busy share is what was not idle, and nothing when no time went by."""
    assert Ticks(200, 150).busy_since(Ticks(100, 100)) == 0.5
    assert Ticks(100, 100).busy_since(Ticks(100, 100)) == 0.0


def test_ratio_is_to_extranet() -> None:
    """In the tables every other way is shown as a multiple of extranet's own time, with what it left undone."""
    report = Report(
        date="2026-01-01",
        scope="the whole county",
        machine=MACHINE,
        measurements=(
            Measurement(name="push", seconds=10, phases={"check": 2, "arm and apply": 3}, facts={"changed": 60}),
            Measurement(name="diff after", seconds=1, facts={"devices": 60, "different": 0}),
            Measurement(name="push by ssh", seconds=25, cpu_s=40, facts={"different": 7, "errors": 1}),
        ),
    )
    text = render(report)
    assert "| `extranet config push --yes` | 10.0 | 1 | - | 0 |" in text
    assert "| `ssh ROUTER vtysh -f`, a router after the other (1 gave an error) | 25.0 | 2.5 | 40.0 | 7 |" in text


def test_numbers_keep_the_words() -> None:
    """Writing numbers changes nothing outside their marks, and a document without marks is refused."""
    before = DOCUMENT.read_text("utf-8")
    after = put_numbers(before, "| new |")
    assert "| new |" in after
    assert put_numbers(after, "| newer |") == put_numbers(before, "| newer |")
    assert after.startswith(before.split("<!--", 1)[0])
    assert after.endswith(before.rsplit("-->", 1)[1])
    with pytest.raises(BenchError, match="marks"):
        put_numbers("no marks", "| new |")
