"""Settings for the law tests of this room: a busy machine is no counterexample; and a database server for its ledger."""

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests.migration.postgres_cluster import Cluster, running_cluster

settings.register_profile("steady", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("steady")


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A PostgreSQL server of this worker's own."""
    with running_cluster() as running:
        yield running
