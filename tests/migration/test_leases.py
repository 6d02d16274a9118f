"""Leases: one command at a time changes a county's network, and who woke up too late does nothing more."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest

from migration.ledger import CampaignBusyError, LeaseLostError, Ledger, LedgerBrokenError, campaign_lock, name_place
from tests.migration.ledger_homes import FileHome, Home, ServerHome, opened
from tests.migration.postgres_cluster import Cluster
from tests.migration.scene import StoppedClock

TREE = Path(__file__).resolve().parents[2]
SHORT_S = 1.0
PATIENCE_S = 60.0


@pytest.fixture(params=["file", "server"])
def home(request: pytest.FixtureRequest, tmp_path: Path) -> Home:
    """A place for a ledger, of each kind in turn."""
    if request.param == "file":
        return FileHome(tmp_path)
    cluster: Cluster = request.getfixturevalue("cluster")
    return ServerHome(tmp_path, cluster, cluster.new_schema())


@pytest.fixture
def ledger(home: Home) -> Iterator[Ledger]:
    """An empty ledger."""
    with opened(home) as made:
        yield made


def test_each_grant_has_a_higher_token_and_events_carry_it(ledger: Ledger) -> None:
    """Tokens rise by one with each grant; an event carries that of the lease it came under, others none."""
    for number in (1, 2, 3):
        with ledger.hold(f"command {number}") as lease:
            assert lease.token == number
            assert ledger.append("note", f"under {number}", {}).token == number
    assert ledger.append("note", "free", {}).token is None
    assert [e.token for e in ledger.events()] == [1, 2, 3, None]
    assert ledger.verify() == []


def test_the_second_is_told_who_holds_the_county_and_how_long(home: Home, ledger: Ledger) -> None:
    """A second machine is refused with command, pid, host and age of the holder, and when it is free at the latest."""
    with ledger.hold("cutover"), opened(home) as other:
        time.sleep(1.1)
        with pytest.raises(CampaignBusyError) as caught, other.hold("retire"):
            pass
        text = str(caught.value)
        assert f"'cutover' (pid {os.getpid()} on " in text
        assert "1 s ago" in text or "2 s ago" in text
        assert "the county is free in" in text
        assert "\n" not in text
        assert caught.value.exit_code == 4
    with opened(home) as other, other.hold("retire") as lease:
        assert lease.token == 2


def test_a_heartbeat_keeps_the_lease(home: Home, ledger: Ledger) -> None:
    """A lease is kept as long as its holder lives, however short it is."""
    with ledger.hold("cutover", length_s=SHORT_S) as lease, opened(home) as other:
        for _ in range(5):
            time.sleep(SHORT_S / 2)
            with pytest.raises(CampaignBusyError), other.hold("retire"):
                pass
        lease.assure()
        lease.assure(ask=True)


def test_a_place_whose_lock_is_held_supersedes_its_own_dead(home: Home, ledger: Ledger, tmp_path: Path) -> None:
    """Who holds the lock on the same folder need not wait for the lease of one that was killed there."""
    place = name_place(tmp_path)
    with ledger.hold("killed", place=place), opened(home) as other:
        with pytest.raises(CampaignBusyError), other.hold("elsewhere", place="another machine's"):
            pass
        with other.hold("the same folder", place=place) as lease:
            assert lease.token == 2
            with pytest.raises(LeaseLostError):
                ledger.assure_lease(ask=True)


def test_the_database_refuses_an_old_token(home: Home, ledger: Ledger) -> None:
    """An event under a lease that was followed by another is refused by the database, with all that came with it."""
    with ledger.hold("old", place="p"), opened(home) as other, other.hold("new", place="p"):
        other.append("note", "new", {})
        with pytest.raises(LeaseLostError, match=r"granted to another command since: 'new'"):
            ledger.append("outcome", "late", {"a": 1})
        ledger._lease = None
        assert [e.key for e in ledger.events()] == ["new"]
        with pytest.raises(LeaseLostError, match="does not hold the county"):
            ledger.assure_lease()
    assert ledger.verify() == []


def test_a_lease_given_back_is_over(ledger: Ledger) -> None:
    """After its command a lease serves nobody: neither an act nor an event, though no other was granted."""
    with ledger.hold("done") as lease:
        pass
    with pytest.raises(LeaseLostError, match="given back"):
        lease.assure(ask=True)
    ledger._lease = lease
    with pytest.raises(LeaseLostError):
        ledger.append("note", "late", {})


UNLAWFUL = {
    "all removed": "DELETE FROM leases",
    "the newest removed": "DELETE FROM leases WHERE token = 3",
    "one in the middle removed": "DELETE FROM leases WHERE token = 2",
    "the first removed": "DELETE FROM leases WHERE token = 1",
    "one inserted far above": "INSERT INTO leases VALUES (99999, '{}', 0, 0, 0)",
    "one inserted below": "INSERT INTO leases VALUES (0, '{}', 0, 0, 0)",
}


@pytest.mark.parametrize("how", sorted(UNLAWFUL))
def test_leases_removed_or_inserted_are_named_and_nothing_is_appended(home: Home, how: str) -> None:
    """With the triggers back in place, too, nobody verifies, decides, opens, is granted a lease or appends under one."""
    with opened(home) as ledger:
        for number in (1, 2, 3):
            with ledger.hold(f"command {number}"):
                ledger.append("note", f"under {number}", {})
        ledger.append("note", "free", {})
        assert [e.token for e in ledger.events()] == [1, 2, 3, None]
        home.unguarded(UNLAWFUL[how])
        with pytest.raises(LedgerBrokenError, match="the file: leases: ") as caught, ledger.hold("unlawful"):
            pass
        assert "\n" not in str(caught.value)
    assert [row["token"] for row in home.rows()] == [1, 2, 3, None]
    with pytest.raises(LedgerBrokenError, match="leases were removed"), opened(home):
        pass
    with opened(home, readonly=True) as ledger:
        assert [b.kind for b in ledger.verify()] == ["leases"]
        with pytest.raises(LedgerBrokenError, match="leases were removed"):
            ledger.events()


def test_events_already_read_are_not_decided_from_once_their_lease_is_gone(home: Home, ledger: Ledger) -> None:
    """What was read before does not count any more when the lease of its last event is removed, or when the count goes back."""
    for number in (1, 2):
        with ledger.hold(f"command {number}"):
            ledger.append("note", f"under {number}", {})
    assert len(ledger.events()) == 2
    home.unguarded("DELETE FROM leases WHERE token = 2")
    with pytest.raises(LedgerBrokenError, match="an event carries lease 2, but the newest lease is 1"):
        ledger.events()


def test_a_lease_that_is_gone_is_lost(home: Home, ledger: Ledger) -> None:
    """A command whose lease was removed while it runs neither acts nor appends any more."""
    with ledger.hold("cutover") as lease:
        home.unguarded("DELETE FROM leases")
        with pytest.raises(LeaseLostError, match="lease 1 was removed from the record"):
            lease.assure(ask=True)
        with pytest.raises(LeaseLostError, match="removed"):
            lease.assure()
        with pytest.raises(LeaseLostError):
            ledger.append("note", "late", {})


def test_leases_without_events_are_lawful(home: Home, ledger: Ledger) -> None:
    """Commands that appended nothing, before the first event or after the last, leave the record whole."""
    assert ledger.verify() == []
    for events in (0, 0, 2, 0, 1, 0, 0):
        with ledger.hold("a command") as lease:
            for number in range(events):
                ledger.append("note", f"{lease.token}/{number}", {})
        assert ledger.verify() == []
        with opened(home) as other:
            assert [e.token for e in other.events()] == [e.token for e in ledger.events()]
    assert [e.token for e in ledger.events()] == [3, 3, 5]


HOLDER = """
import sys
from pathlib import Path
from migration.ledger import LeaseLostError, Ledger
place, folder, length = sys.argv[1], Path(sys.argv[2]), float(sys.argv[3])
with Ledger.open(place, None, "lab t", folder=folder) as ledger:
    with ledger.hold("config push", length_s=length):
        ledger.append("intent", "held", {})
        print("held", flush=True)
        for line in sys.stdin:
            what, _, key = line.strip().partition(" ")
            try:
                if what == "assure":
                    ledger.assure_lease()
                else:
                    ledger.append("outcome", key, {})
            except LeaseLostError as error:
                print(f"refused {error.what}", flush=True)
            else:
                print("done", flush=True)
"""


@contextmanager
def holder(home: Home, length_s: float) -> Iterator[subprocess.Popen[str]]:
    """Run a process that holds the county and does what it is told."""
    place = str(home.place) if isinstance(home, ServerHome) else str(home.folder)
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, place, str(home.folder), str(length_s)],
        cwd=TREE,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert read_line(process.stdout) == "held"
        yield process
    finally:
        process.kill()
        process.wait(timeout=PATIENCE_S)
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                stream.close()


def read_line(stream: IO[str] | None) -> str:
    """Return the next line."""
    assert stream is not None
    return stream.readline().strip()


def tell(process: subprocess.Popen[str], what: str) -> str:
    """Tell a holder something and return its answer."""
    assert process.stdin is not None
    process.stdin.write(what + "\n")
    process.stdin.flush()
    return read_line(process.stdout)


def test_a_process_that_stood_still_too_long_never_acts_again(home: Home, ledger: Ledger) -> None:
    """Stopped while it holds the county, and continued after another took over, a process is refused every act and event."""
    with holder(home, SHORT_S) as process:
        assert tell(process, "assure") == "done"
        assert tell(process, "append before") == "done"
        time.sleep(SHORT_S / 2)
        os.kill(process.pid, signal.SIGSTOP)
        with pytest.raises(CampaignBusyError) as caught, ledger.hold("too early"):
            pass
        assert caught.value.holder["pid"] == process.pid
        time.sleep(SHORT_S)
        with ledger.hold("retire", length_s=PATIENCE_S) as lease:
            assert lease.token == 2
            os.kill(process.pid, signal.SIGCONT)
            assert "was taken over while this command stood still: 'retire'" in tell(process, "assure")
            assert "granted to another command since" in tell(process, "append after")
            ledger.append("outcome", "mine", {})
        assert tell(process, "append later") != "done"
    assert [e.key for e in ledger.events()] == ["held", "before", "mine"]
    assert ledger.verify() == []


def test_a_process_that_stood_still_alone_goes_on(home: Home, ledger: Ledger) -> None:
    """Stopped and continued with nobody having taken over, a process still holds the county: its token is the newest."""
    with holder(home, SHORT_S) as process:
        os.kill(process.pid, signal.SIGSTOP)
        time.sleep(SHORT_S * 2)
        os.kill(process.pid, signal.SIGCONT)
        assert tell(process, "assure") == "done"
        assert tell(process, "append later") == "done"
        with pytest.raises(CampaignBusyError), ledger.hold("retire"):
            pass


def test_a_killed_process_leaves_the_county_free_in_time(home: Home, ledger: Ledger) -> None:
    """After kill -9 of its holder the county is free once the lease has run out, not before."""
    with holder(home, SHORT_S * 3) as process:
        process.kill()
        process.wait(timeout=PATIENCE_S)
        with pytest.raises(CampaignBusyError), ledger.hold("at once"):
            pass
        time.sleep(SHORT_S * 3)
        with ledger.hold("later") as lease:
            assert lease.token == 2


def test_the_first_of_many_is_the_only_one(home: Home) -> None:
    """Of processes that ask at once, one holds the county; the tokens given are all different."""
    with opened(home):
        pass
    script = """
import sys, time
from pathlib import Path
from migration.ledger import CampaignBusyError, Ledger
with Ledger.open(sys.argv[1], None, "lab t", folder=Path(sys.argv[2])) as ledger:
    for _ in range(15):
        try:
            with ledger.hold("x") as lease:
                ledger.append("note", f"{lease.token}", {})
                print(lease.token)
        except CampaignBusyError:
            time.sleep(0.01)
"""
    place = str(home.place) if isinstance(home, ServerHome) else str(home.folder)
    running = [
        subprocess.Popen(
            [sys.executable, "-c", script, place, str(home.folder)], cwd=TREE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]
    tokens: list[str] = []
    for process in running:
        out, _ = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 0
        tokens += out.split()
    assert tokens
    assert len(tokens) == len(set(tokens))
    with opened(home, readonly=True) as ledger:
        assert ledger.verify() == []
        assert sorted(int(e.key) for e in ledger.events()) == sorted(map(int, tokens))


def test_the_lock_says_how_long_it_is_held(tmp_path: Path) -> None:
    """On one machine, too, the refusal says since when and for how long."""
    clock = StoppedClock()
    with campaign_lock(tmp_path, "cutover", clock):
        clock.pass_s(90)
        with (
            pytest.raises(CampaignBusyError, match=r"since 2027-09-01T08:00:00.*, 90 s ago\)"),
            campaign_lock(tmp_path, "retire", clock),
        ):
            pass
