"""What every driver promises, held against a real FRR router over real SSH."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nornir_tasks.drivers import (
    CommitFailedError,
    CommitRejectedError,
    DeviceBusyError,
    DeviceError,
    DeviceUnreachableError,
    HostKeyError,
    LoginRefusedError,
    NotPendingError,
)
from nornir_tasks.platforms.frr.config import print_config
from nornir_tasks.platforms.frr.driver import FrrDriver
from tests.nornir_tasks.frr_router import Router, boot_router
from tests.nornir_tasks.sample import disturbed, rendered

pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(
        os.geteuid() != 0 or not Path("/usr/lib/frr/zebra").exists(), reason="needs root and the package frr"
    ),
]

WANTED = """\
hostname r1
!
vrf edu
 netns /run/netns/edu
exit-vrf
!
vrf finance
 netns /run/netns/finance
 ip route 10.20.9.0/24 100.64.0.9
 ipv6 route 3fff:0:9::/64 3fff::9
exit-vrf
!
vrf public
 netns /run/netns/public
exit-vrf
!
interface lan.finance vrf finance
 description lan finance
 ip address 10.20.8.1/24
 ipv6 address 3fff:0:1::1/64
 ipv6 nd dnssl yichuan.example
 ipv6 nd ra-interval 10
 ipv6 nd rdnss 3fff::53
 no ipv6 nd suppress-ra
exit
!
interface wan1.finance vrf finance
 description core1
 ip address 100.64.0.8/31
 ipv6 address 3fff::8/127
exit
!
router bgp 4200041101 vrf finance
 bgp router-id 100.64.0.8
 no bgp default ipv4-unicast
 neighbor 100.64.0.9 remote-as 4200041000
 neighbor 100.64.0.9 description core1
 neighbor 100.64.0.9 timers 3 9
 neighbor 100.64.0.9 timers connect 2
 neighbor 3fff::9 remote-as 4200041000
 neighbor 3fff::9 timers 3 9
 !
 address-family ipv4 unicast
  redistribute connected
  redistribute static
  neighbor 100.64.0.9 activate
  neighbor 100.64.0.9 weight 200
  neighbor 100.64.0.9 maximum-prefix 500 restart 1
  neighbor 100.64.0.9 prefix-list finance-plane-v4 in
  neighbor 100.64.0.9 prefix-list finance-own-v4 out
 exit-address-family
 !
 address-family ipv6 unicast
  redistribute connected
  neighbor 3fff::9 activate
 exit-address-family
exit
!
ip prefix-list finance-own-v4 seq 5 permit 10.20.8.0/24
ip prefix-list finance-own-v4 seq 10 permit 10.20.9.0/24
ip prefix-list finance-plane-v4 seq 5 permit 10.20.0.0/16 le 30
!
"""

# The same router a year later: an address moved, a neighbor went, another came, filters changed, descriptions too.
CHANGED = (
    WANTED
    .replace("10.20.8.1/24", "10.20.8.254/24")
    .replace(" description lan finance", " description lan of the finance bureau")
    .replace("neighbor 3fff::9", "neighbor 3fff::b")
    .replace("seq 5 permit 10.20.8.0/24", "seq 5 permit 10.20.7.0/24")
    .replace("ip prefix-list finance-own-v4 seq 10 permit 10.20.9.0/24\n", "")
    .replace("neighbor 100.64.0.9 remote-as 4200041000", "neighbor 100.64.0.9 remote-as 4200041001")
    .replace(" neighbor 100.64.0.9 description core1\n", "")
    .replace("  redistribute static\n", "")
    .replace(" no ipv6 nd suppress-ra\n", "")
    .replace("ip route 10.20.9.0/24 100.64.0.9", "ip route 10.20.9.0/24 100.64.0.11")
)  # fmt: skip

BARE = """\
hostname r1
"""


@pytest.fixture
def router(tmp_path: Path) -> Iterator[Router]:
    """A router of the test's own."""
    with boot_router(tmp_path) as running:
        yield running


@pytest.fixture
def driver(router: Router) -> Iterator[FrrDriver]:
    """A session with it."""
    one = FrrDriver(router.name, router.access)
    one.open()
    yield one
    one.close()


def push(driver: FrrDriver, config: str, change_id: str = "c-1", revert_in_s: int = 60) -> None:
    """Load and commit, not confirmed."""
    driver.load_replace_candidate(config)
    driver.commit_config(revert_in_s=revert_in_s, change_id=change_id)


def keep(driver: FrrDriver, config: str, change_id: str = "c-0") -> None:
    """Load, commit and confirm."""
    push(driver, config, change_id)
    driver.confirm_commit(change_id)


def wait_until_back(driver: FrrDriver, before: str, timeout_s: float) -> None:
    """Wait until the device has gone back by itself."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if driver.pending() is None and driver.get_config() == before:
            return
        time.sleep(0.2)
    raise AssertionError(driver.get_config())


@pytest.mark.parametrize("there", [WANTED, CHANGED, BARE], ids=["bare", "other", "emptied"])
def test_after_a_commit_nothing_is_left_to_change(driver: FrrDriver, router: Router, there: str) -> None:
    """apply(diff(running, wanted)) == wanted, and a confirmed change survives a reload of the session."""
    keep(driver, WANTED)
    push(driver, there)
    driver.load_replace_candidate(there)
    assert driver.compare_config() == ""
    if there != WANTED:
        driver.confirm_commit("c-1")
    saved = router.run("cat /etc/frr/frr.conf")
    assert ("10.20.8." in saved) == (there != BARE)


def test_rendered_text_is_the_routers_own(tmp_path: Path) -> None:
    """What the renderer writes is what FRR prints for it, line by line: a difference shows changes and nothing else."""
    wanted = rendered("chengguan-r1", cut_over=True)
    with boot_router(tmp_path, name="chengguan-r1") as router:
        one = FrrDriver("chengguan-r1", router.access)
        keep(one, wanted)
        assert one.get_config() == wanted
        one.close()


def test_another_routers_configuration_is_refused(driver: FrrDriver) -> None:
    """A whole configuration goes only to the router of its name: a wrong address in the access file changes nothing."""
    with pytest.raises(DeviceError, match="calls itself 'r1'"):
        driver.load_replace_candidate(rendered("chengguan-r1"))


@pytest.mark.parametrize("seed", range(5))
def test_any_configuration_leads_to_any_other(driver: FrrDriver, seed: int) -> None:
    """From whatever a router holds to whatever is wanted, and back, on the real thing."""
    one = print_config(disturbed(rendered("chengguan-r1"), seed)).replace("chengguan-r1\n", "r1\n", 1)
    other = print_config(disturbed(rendered("chengguan-r1", cut_over=True), 100 + seed)).replace(
        "chengguan-r1\n", "r1\n", 1
    )
    keep(driver, one)
    before = driver.get_config()
    push(driver, other)
    driver.load_replace_candidate(other)
    assert driver.compare_config() == ""
    driver.rollback("c-1")
    assert driver.get_config() == before


def test_compare_says_what_changes_and_changes_nothing(driver: FrrDriver) -> None:
    """compare_config shows `+ ` and `- ` lines and leaves the device as it was."""
    before = driver.get_config()
    driver.load_replace_candidate(WANTED)
    diff = driver.compare_config()
    assert "+  ip address 10.20.8.1/24\n" in diff
    assert "  interface lan.finance vrf finance\n" in diff
    assert driver.get_config() == before
    assert driver.pending() is None


def test_rollback_gives_back_what_ran(driver: FrrDriver) -> None:
    """Rollback restores the configuration exactly, and may be repeated."""
    keep(driver, WANTED)
    before = driver.get_config()
    push(driver, CHANGED)
    assert driver.get_config() != before
    pending = driver.pending()
    assert pending is not None
    assert pending.id == "c-1"
    assert 50 <= pending.seconds_left <= 60
    driver.rollback("c-1")
    assert driver.get_config() == before
    assert driver.pending() is None
    driver.rollback("c-1")


def test_confirm_may_be_repeated_and_outlives_the_timer(driver: FrrDriver, router: Router) -> None:
    """A confirmed change stays when the time is over; confirming again is no error; rolling it back is."""
    push(driver, WANTED, revert_in_s=2)
    driver.confirm_commit("c-1")
    driver.confirm_commit("c-1")
    kept = driver.get_config()
    time.sleep(3)
    assert driver.get_config() == kept
    assert router.run("pgrep -fc '[c]ommit_confirm.*timer' || true").strip() == "0"
    with pytest.raises(NotPendingError, match="was confirmed"):
        driver.rollback("c-1")


def test_timer_fires_by_itself(driver: FrrDriver) -> None:
    """Without a confirm the device goes back; a late confirm raises NotPendingError."""
    before = driver.get_config()
    push(driver, WANTED, revert_in_s=2)
    wait_until_back(driver, before, 10)
    with pytest.raises(NotPendingError):
        driver.confirm_commit("c-1")
    driver.rollback("c-1")


def test_killed_session_does_not_keep_a_change(driver: FrrDriver, router: Router) -> None:
    """Sessions killed in mid-change: the verb says so, the device goes back, and the same driver asks it afterwards."""
    before = driver.get_config()
    push(driver, WANTED, revert_in_s=3)
    router.run("pkill -KILL -x sshd-session; pkill -KILL -f 'sshd: root'", check=False)
    time.sleep(0.3)
    wait_until_back(driver, before, 12)


def test_session_dying_inside_a_verb_is_reported(driver: FrrDriver, router: Router) -> None:
    """A session that dies while a verb runs raises DeviceUnreachableError and leaves the driver usable."""
    killer = threading.Timer(0.5, router.run, ["pkill -KILL -f 'sshd: root'"], {"check": False})
    killer.start()
    with pytest.raises(DeviceUnreachableError, match="session broke"):
        driver._exec("sleep 5")
    killer.join()
    assert "hostname r1" in driver.get_config()


def test_killed_controller_does_not_keep_a_change(router: Router, driver: FrrDriver) -> None:
    """The controller killed (-9) after its commit: the device goes back without anybody."""
    before = driver.get_config()
    code = f"""
        import sys, time
        from inventory.access import Access
        from nornir_tasks.platforms.frr.driver import FrrDriver
        one = FrrDriver("r1", Access.model_validate_json({router.access.model_dump_json()!r}))
        one.load_replace_candidate({WANTED!r})
        one.commit_config(revert_in_s=3, change_id="c-9")
        print("committed", flush=True)
        time.sleep(60)
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True
    ) as controller:
        assert controller.stdout is not None
        assert controller.stdout.readline() == "committed\n"
        controller.send_signal(signal.SIGKILL)
    assert driver.get_config() != before
    wait_until_back(driver, before, 12)


def test_bad_line_is_refused_and_nothing_changes(driver: FrrDriver) -> None:
    """A line FRR does not know is named with its reply; the running configuration is untouched."""
    keep(driver, WANTED)
    before = driver.get_config()
    with pytest.raises(CommitRejectedError) as caught:
        driver.load_replace_candidate(WANTED.replace("ip route 10.20.9.0/24", "ip rooute 10.20.9.0/24"))
    assert caught.value.line == "ip rooute 10.20.9.0/24 100.64.0.9"
    assert "Unknown command" in caught.value.reply
    with pytest.raises(CommitRejectedError):
        driver.load_merge_candidate("interface wan1\n ip adress 192.0.2.1/24\nexit\n")
    assert driver.get_config() == before
    assert driver.pending() is None


def test_line_that_parses_but_does_not_take_goes_back(driver: FrrDriver) -> None:
    """A candidate whose syntax is right but which the device does not accept: CommitFailedError, and it went back."""
    keep(driver, WANTED)
    before = driver.get_config()
    # Two autonomous systems in one VRF: the second is refused when applied.
    two = WANTED + "router bgp 4200041999 vrf finance\n bgp router-id 192.0.2.1\nexit\n!\n"
    driver.load_replace_candidate(two)
    with pytest.raises(CommitFailedError, match="went back"):
        driver.commit_config(revert_in_s=60, change_id="c-1")
    assert driver.get_config() == before
    assert driver.pending() is None


def test_full_disk_changes_nothing(driver: FrrDriver, router: Router) -> None:
    """No room on the device: a clear error before anything is applied; with room the same change goes through."""
    before = driver.get_config()
    driver.pending()  # the script itself is there
    router.run("dd if=/dev/zero of=/run/extranet/fill bs=1k 2>/dev/null || true")
    with pytest.raises(DeviceError, match="disk full"):
        driver.load_replace_candidate(WANTED)
    router.run("rm /run/extranet/fill")
    driver.load_replace_candidate(WANTED)
    router.run("dd if=/dev/zero of=/run/extranet/fill bs=1k 2>/dev/null || true")
    with pytest.raises(DeviceError, match="disk full"):
        driver.commit_config(revert_in_s=60, change_id="c-1")
    assert driver.get_config() == before
    assert driver.pending() is None
    router.run("rm /run/extranet/fill")
    push(driver, WANTED)
    assert driver.pending() is not None


def test_disk_filling_up_later_does_not_stop_the_way_back(driver: FrrDriver, router: Router) -> None:
    """Everything the way back needs is written before the change: it works on a full disk too."""
    before = driver.get_config()
    push(driver, WANTED, revert_in_s=3)
    router.run("dd if=/dev/zero of=/run/extranet/fill bs=1k 2>/dev/null || true")
    wait_until_back(driver, before, 12)


def test_startup_file_that_cannot_be_saved_is_said(driver: FrrDriver, router: Router) -> None:
    """No room for the startup file: the change is kept, the old startup file too, and confirming again finishes it."""
    router.run("cp -a /etc/frr /run/etc-frr; mount -t tmpfs -o size=64k tmpfs /etc/frr; cp -a /run/etc-frr/. /etc/frr/")
    old = router.run("cat /etc/frr/frr.conf")
    push(driver, WANTED)
    router.run("dd if=/dev/zero of=/etc/frr/fill bs=1k 2>/dev/null || true")
    with pytest.raises(CommitFailedError, match="could not be saved"):
        driver.confirm_commit("c-1")
    assert router.run("cat /etc/frr/frr.conf") == old
    router.run("rm /etc/frr/fill")
    driver.confirm_commit("c-1")
    assert "10.20.8.1/24" in router.run("cat /etc/frr/frr.conf")


def test_second_change_waits_for_the_first(driver: FrrDriver, router: Router) -> None:
    """While a change is pending another one is refused with its name, and the first is not disturbed."""
    push(driver, WANTED, "c-1")
    other = FrrDriver(router.name, router.access)
    other.load_replace_candidate(CHANGED)
    with pytest.raises(DeviceBusyError, match="c-1"):
        other.commit_config(revert_in_s=60, change_id="c-2")
    with pytest.raises(NotPendingError):
        other.confirm_commit("c-2")
    other.rollback("c-2")
    other.close()
    pending = driver.pending()
    assert pending is not None
    assert pending.id == "c-1"
    driver.confirm_commit("c-1")


def test_configuration_changed_behind_our_back_is_noticed(driver: FrrDriver, router: Router) -> None:
    """What was compared must be what runs when the change is applied."""
    driver.load_replace_candidate(WANTED)
    router.run("vtysh -c 'configure' -c 'ip route 192.0.2.0/24 blackhole'")
    with pytest.raises(DeviceError, match="changed since"):
        driver.commit_config(revert_in_s=60, change_id="c-1")
    assert driver.pending() is None
    push(driver, WANTED)
    assert "192.0.2.0/24" not in driver.get_config()


def test_reboot_in_the_window_gives_the_old_configuration(tmp_path: Path) -> None:
    """Nothing is saved before confirm: after a reboot the old configuration runs and no change is pending."""
    with boot_router(tmp_path) as router:
        one = FrrDriver(router.name, router.access)
        keep(one, WANTED)
        before = one.get_config()
        push(one, CHANGED)
        assert one.get_config() != before
        one.close()
    with boot_router(tmp_path) as router:
        one = FrrDriver(router.name, router.access)
        assert one.get_config() == before
        assert one.pending() is None
        with pytest.raises(NotPendingError):
            one.confirm_commit("c-1")
        one.rollback("c-1")
        one.close()


def test_confirm_and_timer_race_has_one_winner(driver: FrrDriver, router: Router) -> None:
    """A confirm at the very moment of the timer: either kept or gone back, never both, and the verb says which."""
    before = driver.get_config()
    for attempt, wait in enumerate((0.6, 0.8, 0.9, 0.95, 1.0)):
        push(driver, WANTED, f"c-{attempt}", revert_in_s=1)
        time.sleep(wait - 0.1)
        try:
            driver.confirm_commit(f"c-{attempt}")
            kept = True
        except NotPendingError:
            kept = False
        time.sleep(1.2)
        assert driver.pending() is None
        assert (driver.get_config() != before) == kept
        if kept:
            keep(driver, before, f"back-{attempt}")


def test_merge_enters_lines_and_goes_back(driver: FrrDriver) -> None:
    """Merged lines are added to what runs, `no` lines removed; the way back is exact."""
    keep(driver, WANTED)
    before = driver.get_config()
    driver.load_merge_candidate(
        "interface wan1\n shutdown\nexit\n"
        "interface lan.finance vrf finance\n no ip address 10.20.8.1/24\n ip address 10.20.8.254/24\nexit\n"
        "ip route 192.0.2.0/24 blackhole\n"
    )
    assert driver.compare_config().count("\n") == 6
    driver.commit_config(revert_in_s=60, change_id="c-1")
    after = driver.get_config()
    assert "interface wan1\n shutdown\nexit" in after
    assert "10.20.8.254/24" in after
    assert "10.20.8.1/24" not in after
    driver.rollback("c-1")
    assert driver.get_config() == before
    driver.load_merge_candidate(
        "interface lan.finance vrf finance\n ip address 10.20.8.1/24\nexit\nno ip route 192.0.2.0/24 blackhole"
    )
    assert driver.compare_config() == ""
    driver.commit_config(revert_in_s=60, change_id="c-2")
    assert driver.pending() is None


def test_addresses_of_one_subnet_survive_a_swap(driver: FrrDriver, router: Router) -> None:
    """An address replaced by another of its subnet is really in the kernel afterwards, there and back."""

    def held() -> str:
        return router.run("ip netns exec finance ip -4 -o addr show lan.finance")

    keep(driver, WANTED)
    assert "10.20.8.1/24" in held()
    push(driver, CHANGED)
    assert "10.20.8.254/24" in held()
    assert "10.20.8.1/24" not in held()
    driver.rollback("c-1")
    assert "10.20.8.1/24" in held()


LISTEN = """
import socket, sys
with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0806)) as wire:
    wire.bind((sys.argv[1], 0x0806))
    wire.settimeout(20)
    print("ready", flush=True)
    while True:
        frame = wire.recv(64)
        if frame[28:32] == frame[38:42]:  # who asks for his own address announces it
            print(socket.inet_ntoa(frame[28:32]), frame[6:12].hex(":"), flush=True)
"""


def test_a_gateway_that_moves_is_announced(driver: FrrDriver, router: Router) -> None:
    """Neighbours are told who has an address now, there and on the way back; else they send to whoever had it."""
    keep(driver, WANTED)
    mac = router.run("ip netns exec finance cat /sys/class/net/lan.finance/address").strip()
    inside = ["nsenter", "-t", str(router.init_pid), "-a", "ip", "netns", "exec", "finance"]
    with subprocess.Popen(
        [*inside, "python3", "-I", "-c", LISTEN, "wan1.finance"], stdout=subprocess.PIPE, text=True
    ) as listener:
        try:
            assert listener.stdout is not None
            assert listener.stdout.readline() == "ready\n"
            push(driver, CHANGED)
            found = ["10.20.8.1", mac]  # what was kept before may still be told
            while found == ["10.20.8.1", mac]:
                found = listener.stdout.readline().split()
            assert found == ["10.20.8.254", mac]
            driver.rollback("c-1")
            while found == ["10.20.8.254", mac]:
                found = listener.stdout.readline().split()
            assert found == ["10.20.8.1", mac]
        finally:
            listener.kill()


def test_wrong_host_key_stops(driver: FrrDriver, router: Router, tmp_path: Path) -> None:
    """A changed host key and an unknown one are errors of their own, and no login is tried."""
    other = tmp_path / "other"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(other)], check=True)
    kind, key = Path(f"{other}.pub").read_text().split()[:2]
    wrong = tmp_path / "wrong_hosts"
    wrong.write_text(f"{router.address} {kind} {key}\n")
    with pytest.raises(HostKeyError, match="not the known one"):
        FrrDriver("r1", router.access.model_copy(update={"known_hosts": str(wrong)})).open()
    wrong.write_text("")
    with pytest.raises(HostKeyError, match="is not known"):
        FrrDriver("r1", router.access.model_copy(update={"known_hosts": str(wrong)})).open()
    with pytest.raises(HostKeyError):
        FrrDriver("r1", router.access.model_copy(update={"known_hosts": str(tmp_path / "missing")})).open()


def test_refused_login_is_said(router: Router, tmp_path: Path) -> None:
    """A key that the device does not accept: LoginRefusedError, which holds no key."""
    other = tmp_path / "other"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(other)], check=True)
    with pytest.raises(LoginRefusedError, match="refused 'root'"):
        FrrDriver("r1", router.access.model_copy(update={"identity_file": str(other)})).open()


def test_unreachable_is_said(router: Router) -> None:
    """Nothing listens, or no address is known: DeviceUnreachableError in one line."""
    with pytest.raises(DeviceUnreachableError, match="cannot be reached"):
        FrrDriver("r1", router.access.model_copy(update={"port": 9})).open()
    with pytest.raises(DeviceUnreachableError, match="no management address") as caught:
        FrrDriver("r2", router.access).open()
    assert "\n" not in str(caught.value)


def test_files_on_the_device_are_private(driver: FrrDriver, router: Router) -> None:
    """What is left on the device is readable by its owner only."""
    push(driver, WANTED)
    modes = router.run("find /run/extranet -mindepth 1 -printf '%m %p\\n'").splitlines()
    assert modes
    assert all(line.split()[0] in {"600", "700"} for line in modes), modes


def test_the_way_back_needs_no_exact_patch(driver: FrrDriver, router: Router) -> None:
    """Lines entered by hand during the window are undone too when the device goes back."""
    keep(driver, WANTED)
    before = driver.get_config()
    push(driver, CHANGED)
    router.run("vtysh -c configure -c 'vrf finance' -c 'ip route 192.0.2.0/24 blackhole'")
    driver.rollback("c-1")
    assert driver.get_config() == before


def test_rig_needs_the_tools_it_uses() -> None:
    """The router's tools are there, so that a skipped contract is never taken for a kept one."""
    assert shutil.which("vtysh")
    assert shutil.which("flock")
