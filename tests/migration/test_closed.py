"""A closed port counts as closed only when its router says that it is down."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from migration import closed
from migration.campaign import Campaign
from migration.closed import closed_ports, find_open
from nornir_tasks.changes import Change
from nornir_tasks.hosts import DeviceOutcome
from nornir_tasks.old_line import PortSeen, Usage, UsageRead

LINES = "interface wan1\n shutdown\nexit\nno ip route 10.20.8.0/24 10.20.250.2\ninterface lan1\n no shutdown\nexit\n"
CAMPAIGN = cast("Campaign", SimpleNamespace(nornir=None))


def test_closed_ports_are_those_that_the_lines_close() -> None:
    """A block that closes its port names it; one that opens it, a line outside and a whole configuration do not."""
    changes = (
        Change(device="fin-ta", mode="merge", config=LINES),
        Change(device="fin-hub", mode="merge", config="ip route 10.20.8.0/24 10.20.250.2\n"),
        Change(device="r-ta", mode="replace", config=LINES),
    )
    assert closed_ports(changes) == {"fin-ta": frozenset({"wan1"})}


def say(*, up: bool | None, monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """Ask a router about its port, which is up, down or not told of."""
    seen = PortSeen(
        name="wan1",
        up=bool(up),
        carrier=bool(up),
        rx_packets=0,
        rx_bytes=0,
        tx_packets=0,
        tx_bytes=0,
        carrier_changes=1,
    )
    usage = Usage(device="fin-ta", at=0.0, ports=() if up is None else (seen,))
    out: dict[str, DeviceOutcome[Any]] = {
        "fin-ta": DeviceOutcome(device="fin-ta", state="ok", value=UsageRead(usage=usage, raw=""))
    }
    monkeypatch.setattr(closed, "run_on_devices", lambda *_: out)
    return find_open(CAMPAIGN, {"fin-ta": frozenset({"wan1"})})


def test_a_port_counts_as_closed_when_it_is_down(monkeypatch: pytest.MonkeyPatch) -> None:
    """Down is closed; up is named as opened again; a port that the router does not tell of is not known."""
    assert say(up=False, monkeypatch=monkeypatch) == {}
    assert "was closed and is up" in say(up=True, monkeypatch=monkeypatch)["fin-ta"][0]
    assert "whether it is down is not known" in say(up=None, monkeypatch=monkeypatch)["fin-ta"][0]


def test_a_router_that_does_not_answer_closed_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an answer nothing is known to be down; with nothing to close nobody is asked."""
    monkeypatch.setattr(
        closed,
        "run_on_devices",
        lambda *_: {"fin-ta": DeviceOutcome(device="fin-ta", state="failed", error="no answer")},
    )
    assert "not known: no answer" in find_open(CAMPAIGN, {"fin-ta": frozenset({"wan1"})})["fin-ta"][0]
    monkeypatch.setattr(closed, "run_on_devices", None)
    assert find_open(CAMPAIGN, {}) == {}
