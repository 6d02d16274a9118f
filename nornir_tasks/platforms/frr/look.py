"""What an FRR router sees itself: the stations' agent, run in each VRF by one command of the router's session."""

from __future__ import annotations

import base64
import json
import secrets
import shlex
import zlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from nornir_tasks.drivers import RouterProbe, RouterSight
from nornir_tasks.stations import agent

NO_PYTHON = 67
_DEADLINE_S = 15.0
_ECHO = {"count": 3, "interval_ms": 50, "max_loss": 0.5, "max_rtt_ms": 2000, "mtu_bytes": 1280}


class RouterLook:
    """One look: `command` to run, `program` for its standard input, and `read` for what comes back."""

    def __init__(self, probes: Sequence[RouterProbe], *, netns: bool) -> None:
        self.probes, self.netns = tuple(probes), netns
        self.nonces = {vrf: secrets.token_hex(8) for vrf in dict.fromkeys(p.vrf for p in probes)}

    @property
    def program(self) -> str:
        """The agent, started with the request it is given."""
        return f"{agent_source()}\n\nmain(sys.argv[1])\n"

    @cached_property
    def command(self) -> str:
        """Keep the program in a file of its own for as long as it runs, in all VRFs at once."""
        enter = "ip netns exec" if self.netns else "ip vrf exec"
        runs = [f'{enter} {shlex.quote(vrf)} python3 -I -S "$f" {self._request(vrf)} &' for vrf in self.nonces]
        lines = [
            f"command -v python3 >/dev/null || exit {NO_PYTHON}",
            "umask 077",
            'f=$(mktemp) && trap \'rm -f "$f"\' EXIT && cat >"$f" || exit 1',
            *runs,
            "wait",
        ]
        return "\n".join(lines)

    def _request(self, vrf: str) -> str:
        ways = [
            {
                "id": str(number),
                "family": "ipv6" if ":" in probe.address else "ipv4",
                "address": probe.address,
                "source": probe.source,
                "way": ["return", "icmp"],
            }
            for number, probe in enumerate(self.probes)
            if probe.vrf == vrf
        ]
        request = {
            "format": 2,
            "nonce": self.nonces[vrf],
            "deadline_s": _DEADLINE_S,
            "pace_ms": 10,
            "echo": _ECHO,
            "checks": [],
            "ways": ways,
        }
        return base64.b64encode(zlib.compress(json.dumps(request).encode())).decode()

    def read(self, text: str) -> list[RouterSight]:
        """Return a sight for each probe; what the router did not say is a problem."""
        rows: dict[str, tuple[dict[str, Any], str]] = {}
        for nonce in self.nonces.values():
            start = f"{agent.SENTINEL} {nonce} "
            for line in text.splitlines():
                if line.startswith(start):
                    rows |= {row["id"]: (row, line) for row in json.loads(line.removeprefix(start))["ways"]}
        return [_sight(probe, *rows.get(str(number), ({}, ""))) for number, probe in enumerate(self.probes)]


def _sight(probe: RouterProbe, row: dict[str, Any], said: str) -> RouterSight:
    trace, echo = row.get("trace") or {}, (row.get("raw") or {}).get("echo") or {}
    problem = str(row.get("problem") or trace.get("problem") or "") if row else "the router said nothing about it"
    return RouterSight(
        probe=probe,
        sent=int(echo.get("sent", 0)),
        answered=int(echo.get("answered", 0)),
        hops=tuple(trace.get("hops") or ()),
        reached=bool(trace.get("reached")),
        problem=problem,
        said=said,
    )


def agent_source() -> str:
    """Return the agent as it is sent."""
    return Path(agent.__file__).read_text("utf-8")
