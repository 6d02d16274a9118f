"""A ledger in PostgreSQL that goes away under a command, at every point between two events, on real routers."""

import re
from collections.abc import Iterator
from itertools import count

import pytest

from tests.lab_fixture import skip_without_machine
from tests.migration.postgres_cluster import Cluster
from tests.migration.test_resume_lab import JOURNEYS, TIMERS, assert_whole, find_done, find_state, take_to_start
from tests.migration.town import GOOD, UNKNOWN, Town, open_town

ENOUGH = 4
"""Events that a journey records at least."""
pytestmark = [pytest.mark.lab, pytest.mark.heavy, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def town(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    """The lab, provisioned, its county units cut over, all of it on record in PostgreSQL."""
    skip_without_machine()
    place = cluster.url(cluster.new_schema())
    with open_town(tmp_path_factory.mktemp("town") / "county", TIMERS, ledger_url=place) as made:
        yield made


@pytest.mark.parametrize("name", ["cutover", "drain"])
def test_a_connection_that_breaks_at_any_event_is_not_noticed(town: Town, cluster: Cluster, name: str) -> None:
    """Each connection ended by the server's administrator, before and after each event: the command goes on, done once."""
    journey = JOURNEYS[name]
    said = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'extranet ledger'"
    cut = f'psql "{cluster.conninfo()}" -c "{said}" | tee {town.folder}/.cut'
    take_to_start(town, journey)
    for number in count(1):
        for when in ("before", "after"):
            begun = town.campaign.events()
            moment = f"{when} migration.ledger:Ledger.append {number}"
            town.break_at(cut, moment, *journey.command, expect=GOOD)
            assert find_state(town, journey.what) == journey.end, moment
            assert_whole(town)
            since = town.campaign.events()[len(begun) :]
            assert set(find_done(since, journey.what).values()) == {1}, moment
            if not (town.folder / ".cut").exists():
                assert number > ENOUGH, "the journey records too little to have been broken"
                return
            assert re.search(r"(?m)^ t$", (town.folder / ".cut").read_text("utf-8")), "no connection was there to end"
            (town.folder / ".cut").unlink()
            take_to_start(town, journey)


@pytest.mark.parametrize("name", ["cutover", "drain"])
def test_a_server_that_stops_at_any_event_is_said_and_taken_up(town: Town, cluster: Cluster, name: str) -> None:
    """The server killed before any event: exit 4 in words, devices go back or hold all of it; the same command ends it."""
    journey = JOURNEYS[name]
    take_to_start(town, journey)
    for number in count(1):
        start, begun = town.configs(), town.campaign.events()
        assert cluster.process is not None
        moment = f"before migration.ledger:Ledger.append {number}"
        done = town.break_at(f"kill -QUIT {cluster.process.pid}; sleep 1", moment, *journey.command, expect=None)
        if done.returncode == GOOD:
            assert number > ENOUGH, "the journey records too little to have been broken"
            return
        assert done.returncode == UNKNOWN, (moment, done.stdout, done.stderr)
        assert "Traceback" not in done.stderr
        cluster.process.wait()
        cluster.start()
        town.run(*journey.command, expect=GOOD)
        assert find_state(town, journey.what) == journey.end, moment
        assert_whole(town)
        since = town.campaign.events()[len(begun) :]
        assert set(find_done(since, journey.what).values()) <= {1}, moment
        take_to_start(town, journey)
        assert town.configs() == start, moment
