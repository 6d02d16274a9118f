"""Traps on real routers: each looks well to a ping or to a careless look, and no gate lets it pass."""

from collections.abc import Iterator

import pytest

from tests.migration.town import FAILED, GOOD, REFUSED, Town, open_town

TIMERS = {"revert_s": 60, "converge_s": 20, "soak_s": 1, "hold_s": 1}
UNIT = "finance-man@chengguan"
pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    """The lab, provisioned, one town's unit cut over and its soak over."""
    with open_town(tmp_path_factory.mktemp("traps") / "county", TIMERS) as made:
        made.run("cutover", UNIT, "--yes", expect=GOOD)
        yield made


def test_a_service_that_leans_on_the_old_line_is_found_by_withholding_it(town: Town) -> None:
    """With the line up every measurement passes; withheld, the service fails by name, the line comes back, the gate holds."""
    town.fault("lean", "finance-pay", "fin-l-chengguan")
    before = town.configs()
    try:
        town.run("verify", "--unit", UNIT, expect=GOOD)
        found = town.run("prove", UNIT, "--yes", expect=FAILED)
        assert "chengguan-center/finance/finance-pay/ipv6: marker" in found.stdout
        assert (town.configs(), town.armed(), town.state(UNIT)) == (before, [], "cut_over")
        town.run("verify", "--unit", UNIT, expect=GOOD)
        refused = town.run("gate", "explain", UNIT, expect=REFUSED)
        assert "while the old path of finance-man@chengguan was up, which proves nothing" in refused.stdout
        town.run("retire", UNIT, "--yes", expect=REFUSED)
    finally:
        town.fault("unlean", "finance-pay")
    town.run("prove", UNIT, "--yes", expect=GOOD)
    town.run("gate", "explain", UNIT, expect=GOOD)
