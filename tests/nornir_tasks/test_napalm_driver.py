"""FRR behind NAPALM's base class keeps NAPALM's promises, on a real router."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from napalm.base import NetworkDriver
from napalm.base.exceptions import CommitError, ConnectionException, MergeConfigException

from nornir_tasks.platforms.frr.napalm_driver import FrrNapalmDriver
from tests.nornir_tasks.frr_router import boot_router

pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(
        os.geteuid() != 0 or not Path("/usr/lib/frr/zebra").exists(), reason="needs root and the package frr"
    ),
]
LINE = "ip prefix-list napalm seq 5 permit 10.0.0.0/8\n"


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[NetworkDriver]:
    """A NAPALM session with a router of the test's own."""
    with boot_router(tmp_path) as router:
        access = router.access
        options = {"key_file": access.identity_file, "known_hosts": access.known_hosts, "port": access.port}
        with FrrNapalmDriver(access.addresses[router.name], access.user, "", optional_args=options) as one:
            yield one


def test_commit_confirm_cycle(driver: NetworkDriver) -> None:
    """Load, compare, commit with a timer, roll back; then again and confirm; a refused line changes nothing."""
    before = driver.get_config()["running"]
    driver.load_merge_candidate(config=LINE)
    assert "napalm" in driver.compare_config()
    driver.commit_config(revert_in=30)
    assert driver.has_pending_commit()
    with pytest.raises(CommitError, match="waiting to be confirmed"):
        driver.commit_config(revert_in=30)
    driver.rollback()
    assert not driver.has_pending_commit()
    assert driver.get_config()["running"] == before
    driver.load_merge_candidate(config=LINE)
    driver.commit_config()
    assert not driver.has_pending_commit()
    assert "napalm" in driver.get_config()["running"]
    with pytest.raises(MergeConfigException, match="line refused"):
        driver.load_merge_candidate(config="ip rooute 10.0.0.0/8 blackhole\n")
    assert driver.is_alive() == {"is_alive": True}


def test_passwords_and_unknown_hosts_are_refused() -> None:
    """There is no way to log in by password or without known host keys."""
    with pytest.raises(ConnectionException, match="passwords are not used"):
        FrrNapalmDriver("2001:db8::1", "netops", "secret")
    with pytest.raises(ConnectionException, match="known host keys"):
        FrrNapalmDriver("2001:db8::1", "netops", "")
