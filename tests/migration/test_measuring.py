"""What measuring tells while it lasts."""

from __future__ import annotations

from migration.measuring import count_passing
from tests.migration.scene import T0, build_checks, build_county, fail_check, pass_check

COUNTY = build_county()


def test_waiting_says_how_long_at_most() -> None:
    """While stations do not pass yet, progress counts those that do and says how long the others are waited for."""
    checks = build_checks(COUNTY)
    one, two = (tuple(c for c in checks if c.station == s) for s in ("st-ta", "st-tb"))
    told: list[tuple[int, int, str]] = []
    listen = count_passing((*one, *two), lambda *what: told.append(what), until_s=40)
    listen("st-ta", [pass_check(c, T0) for c in one])
    listen("st-tb", [fail_check(two[0], T0), *(pass_check(c, T0) for c in two[1:])])
    listen("st-tb", [pass_check(two[0], T0)])
    assert [t[:2] for t in told] == [(1, 2), (1, 2), (2, 2)]
    assert told[1][2] == "stations pass, last st-tb; waiting at most 40 s more"
    assert "waiting" not in told[2][2]
