"""What `extranet verify` prints of a run."""

from __future__ import annotations

import pytest

from migration.verify import VerifyReport
from nornir_tasks.stations.model import Outcome
from scripts.commands.verify import show_report
from tests.migration.scene import T0, build_checks, build_county, fail_check, pass_check


def test_what_passed_looks_otherwise_without_colours(capsys: pytest.CaptureFixture[str]) -> None:
    """In a station's line passed, failed, not measured and waiting differ by shape, in the order of the checks."""
    checks = [c for c in build_checks(build_county()) if (c.station, c.plane) == ("st-tb", "finance")][:4]
    results = (
        pass_check(checks[0], T0),
        fail_check(checks[1], T0),
        fail_check(checks[2], T0, Outcome.UNKNOWN),
        fail_check(checks[3], T0),
    )
    show_report(VerifyReport("lab", "all", results, "0" * 64, 1.0, {checks[3].id: "fin@tb"}))
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "1/4" in line]
    assert line.split()[-1] == "■✗?□"
