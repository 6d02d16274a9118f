"""A closed port counts as closed only when its router says that it is down."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from migration import closed
from migration.campaign import Campaign
from migration.closed import find_open, ports_to_be_down
from migration.units import UnitState
from nornir_tasks.hosts import DeviceOutcome
from nornir_tasks.old_line import PortSeen, Usage, UsageRead
from tests.migration.scene import build_county

CAMPAIGN = cast("Campaign", SimpleNamespace(nornir=None))
COUNTY = build_county()
FIN = ("fin@county", "fin@ta", "fin@tb", "fin@va1")
PORT = ("fin-ta", "wan1")


def down(*units: str, state: UnitState, **others: UnitState) -> frozenset[tuple[str, str]]:
    """Return the ports that must be down in a state of some units, while all others of the network are cut over."""
    states = {**dict.fromkeys(FIN, UnitState.CUT_OVER), **dict.fromkeys(units, state)}
    return ports_to_be_down(COUNTY, units, states | {f"fin@{site}": s for site, s in others.items()})


def test_what_must_be_down_follows_from_the_states() -> None:
    """A unit's own LAN port since its cutover, both ends of its line once it is shut, and nothing that it does not own."""
    assert down("fin@tb", state=UnitState.PROVISIONED) == set()
    assert down("fin@tb", state=UnitState.CUT_OVER) == {("fin-tb", "lan1")}
    assert down("fin@tb", state=UnitState.SHUT) == {("fin-tb", "lan1"), ("fin-tb", "wan1"), ("fin-county", "tb")}
    assert down("fin@tb", state=UnitState.REMOVED) == down("fin@tb", state=UnitState.SHUT)


def test_a_line_that_villages_need_must_not_be_down() -> None:
    """A town's line stays up for a village behind it; with the village it goes, and a village's own port went before."""
    assert down("fin@ta", state=UnitState.SHUT) == {("fin-ta", "lan1")}
    assert PORT in down("fin@ta", state=UnitState.SHUT, va1=UnitState.SHUT)
    village = down("fin@va1", state=UnitState.CUT_OVER)
    assert {device for device, _ in village} == {"fin-ta"}
    assert down("fin@va1", state=UnitState.SHUT) == village


def test_the_hub_gives_up_its_lan_only_when_it_is_shut() -> None:
    """It keeps an interconnect address there until then."""
    assert down("fin@county", state=UnitState.CUT_OVER) == set()
    assert {device for device, _ in down("fin@county", state=UnitState.SHUT)} == {"fin-county"}


def say(*, up: bool | None, monkeypatch: pytest.MonkeyPatch) -> dict[tuple[str, str], str]:
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
    return find_open(CAMPAIGN, [PORT])


def test_a_port_counts_as_closed_when_it_is_down(monkeypatch: pytest.MonkeyPatch) -> None:
    """Down is closed; up is named as opened again; a port that the router does not tell of is not known."""
    assert say(up=False, monkeypatch=monkeypatch) == {}
    assert "was closed and is up" in say(up=True, monkeypatch=monkeypatch)[PORT]
    assert "whether it is down is not known" in say(up=None, monkeypatch=monkeypatch)[PORT]


def test_a_router_that_does_not_answer_closed_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an answer nothing is known to be down; with nothing to close nobody is asked."""
    monkeypatch.setattr(
        closed,
        "run_on_devices",
        lambda *_: {"fin-ta": DeviceOutcome(device="fin-ta", state="failed", error="no answer")},
    )
    assert "not known: no answer" in find_open(CAMPAIGN, [PORT])[PORT]
    monkeypatch.setattr(closed, "run_on_devices", None)
    assert find_open(CAMPAIGN, []) == {}
