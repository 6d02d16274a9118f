"""The rig, shared by the tests of one worker."""

from collections.abc import Iterator

import pytest

from tests.lab_fixture import skip_without_machine
from tests.nornir_tasks.stations.rig import Rig, running_rig


@pytest.fixture(scope="session")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """A station, two routers and a server."""
    skip_without_machine()
    with running_rig(tmp_path_factory.mktemp("rig")) as up:
        yield up
