"""A lab is the county before migration: legacy and public IPv4 work, the extranet has not reached the villages."""

import json
import subprocess
import time

import pytest
import yaml

from inventory.access import read_access
from lab.state import runtime_dir
from tests.lab_fixture import SmallLab, run_lab

pytestmark = pytest.mark.lab
TOWN, VILLAGE = "chengguan-center", "chengguan-xichang-station"


def reached(
    lab: SmallLab, station: str, leg: str, address: str, port: int, *, name: str = "", seconds: float = 15
) -> bool:
    """Whether a service answers within some seconds (routing needs a few after the start)."""
    deadline = time.monotonic() + seconds
    while not (answer := lab.ask(station, leg, address, port, name)) and time.monotonic() < deadline:
        time.sleep(0.3)
    return bool(answer)


def test_departments_are_reached_over_their_own_lines(small_lab: SmallLab) -> None:
    """A town's finance window reaches finance over IPv4, with a certificate of the lab's CA."""
    assert reached(small_lab, TOWN, "finance", "10.20.0.80", 443, name="finance.yichuan.example")
    assert reached(small_lab, TOWN, "hrss", "172.20.0.80", 7443)
    assert reached(small_lab, VILLAGE, "hrss", "172.20.0.80", 7443)


def test_equal_ranges_stay_apart(small_lab: SmallLab) -> None:
    """Two networks use the same addresses: each leg reaches its own department's server."""
    assert "finance-pay" in small_lab.ask(TOWN, "finance", "10.20.0.80", 1521)
    assert "edu-live" in small_lab.ask(TOWN, "edu", "10.20.0.80", 1935)
    assert not small_lab.ask(TOWN, "edu", "10.20.0.80", 1521)


def test_public_services_are_reached_from_town_but_not_from_villages(small_lab: SmallLab) -> None:
    """The extranet reaches county and towns over IPv4, and nobody else yet."""
    assert reached(small_lab, TOWN, "public", "10.128.255.80", 443, name="portal.yichuan.example")
    assert reached(small_lab, TOWN, "public", "10.128.255.80", 9100)
    assert not reached(small_lab, VILLAGE, "public", "10.128.255.80", 443, name="portal.yichuan.example", seconds=1)


def test_the_name_server_answers_in_both_families(small_lab: SmallLab) -> None:
    """The DNS server gives a service's AAAA and A to a town's public leg, and refuses other names."""
    assert reached(small_lab, TOWN, "public", "10.128.255.80", 9100)
    script = (
        "import socket, sys\n"
        "def ask(name, kind):\n"
        "    q = b'\\x12\\x34\\x01\\x00\\x00\\x01' + bytes(6)\n"
        "    q += b''.join(bytes([len(p)]) + p.encode() for p in name.split('.')) + bytes([0, 0, kind, 0, 1])\n"
        "    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
        "    s.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b'public')\n"
        "    s.settimeout(3)\n"
        "    s.sendto(q, ('10.128.255.53', 53))\n"
        "    return s.recv(2048)\n"
        "four, six = ask('portal.yichuan.example', 1), ask('portal.yichuan.example', 28)\n"
        "print(socket.inet_ntoa(four[-4:]), six[7], ask('example.org', 1)[3] & 15)\n"
    )
    assert small_lab.run(TOWN, "python3", "-c", script).stdout.split() == ["10.128.255.80", "1", "5"]


def test_the_right_name_is_needed(small_lab: SmallLab) -> None:
    """A server answers TLS for its own services' names only."""
    assert not small_lab.ask(TOWN, "public", "10.128.255.80", 443, "elsewhere.example")


def test_ipv6_is_not_there_before_the_push(small_lab: SmallLab) -> None:
    """No router announces IPv6 to a station before migration."""
    assert "default" not in small_lab.run(TOWN, "ip", "-6", "route").stdout
    assert (
        "dev public" not in small_lab.run(TOWN, "ip", "-6", "addr", "show", "scope", "global", "dev", "public").stdout
    )


def test_login_by_key_with_known_host_keys(small_lab: SmallLab) -> None:
    """Routers and stations let the lab's key in, under the host keys that were made for them; nothing else works."""
    access = read_access(small_lab.county_dir)
    assert access.target == "lab"
    assert access.identity_file is not None
    strict = [
        "-o",
        f"UserKnownHostsFile={access.known_hosts}",
        "-o",
        "StrictHostKeyChecking=yes",
        "-o",
        "BatchMode=yes",
    ]
    for node, command, expected in (
        ("core1", "vtysh -c 'show version'", "FRRouting 8"),
        (TOWN, "python3 -c 'import sys; print(sys.version_info >= (3, 9))'", "True"),
        (TOWN, "grep -c BEGIN /etc/extranet/ca.pem", "1"),
        ("core1", "frr-reload.py --help", "--reload"),
    ):
        done = subprocess.run(
            ["ssh", "-i", access.identity_file, *strict, f"root@{access.addresses[node]}", command],
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )
        assert expected in done.stdout, done.stderr
    refused = subprocess.run(
        ["ssh", "-o", "IdentitiesOnly=yes", "-i", "/dev/null", *strict, f"root@{access.addresses['core1']}", "true"],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert refused.returncode == 255


def test_running_configuration_is_the_rendered_one(small_lab: SmallLab) -> None:
    """What FRR prints is what was rendered: a difference against it is clean."""
    for router in ("core1", "chengguan-r1", "fin-hub", "edu-chengguan", "chengguan-xichang-r1"):
        running = small_lab.run(router, "vtysh", "-c", "show running-config no-header").stdout
        saved = small_lab.run(router, "cat", "/etc/frr/frr.conf").stdout

        def essence(text: str) -> list[str]:
            noise = ("!", "end", "frr version")
            return [x.rstrip() for x in text.splitlines() if x.strip() and not x.strip().startswith(noise)]

        assert essence(running) == essence(saved), router


def test_status_asks_the_kernel(small_lab: SmallLab) -> None:
    """Status counts what runs: every node up with its daemons, and the memory they take."""
    done = run_lab(small_lab.county_dir, "status", "--json")
    assert done.returncode == 0, done.stdout
    seen = json.loads(done.stdout)
    nodes = {n["name"]: n for n in seen["nodes"]}
    assert set(nodes["core1"]["daemons"]) == {"zebra", "staticd", "bgpd", "sshd"}
    assert set(nodes["srv-dns"]["daemons"]) == {"unbound", "sshd"}
    assert all(n["state"] == "up" for n in seen["nodes"])
    assert 100 * 2**20 < seen["memory_bytes"] < 2 * 2**30
    assert seen["vrf_backend"] in {"netns", "device"}


def test_exec_returns_the_commands_exit_code(small_lab: SmallLab) -> None:
    """A command runs in the node's own namespaces, in a plane's VRF when asked, and its exit code comes back."""
    done = run_lab(small_lab.county_dir, "exec", "core1", "--", "sh", "-c", "hostname; exit 7")
    assert (done.stdout, done.returncode) == ("core1\n", 7)
    inside = run_lab(small_lab.county_dir, "exec", "core1", "--plane", "public", "--", "ip", "-br", "link")
    assert "hp-public" in inside.stdout
    assert "hs-public" not in inside.stdout
    unknown = run_lab(small_lab.county_dir, "exec", "core3", "--", "true")
    assert unknown.returncode == 2
    assert "core1" in unknown.stderr


def test_a_node_cannot_write_on_the_machine(small_lab: SmallLab) -> None:
    """What a node writes below /etc, /var, /root, /run and /tmp stays in the node."""
    for place in ("/etc", "/var/lib", "/root", "/run", "/tmp"):
        done = small_lab.run(TOWN, "sh", "-c", f"echo x >{place}/extranet-was-here && cat {place}/extranet-was-here")
        assert done.stdout == "x\n"
        assert subprocess.run(["test", "-e", f"{place}/extranet-was-here"], check=False).returncode == 1


def test_a_second_up_is_refused(small_lab: SmallLab) -> None:
    """While a county's lab is up, `up` says so and changes nothing."""
    done = run_lab(small_lab.county_dir, "up", "--towns", "1")
    assert done.returncode == 2
    assert "already up" in done.stderr
    assert run_lab(small_lab.county_dir, "status").returncode == 0


def test_keys_are_for_root_alone(small_lab: SmallLab) -> None:
    """Private keys and the access file are readable by their owner only."""
    folder = small_lab.county_dir / ".lab"
    for name in ("id_ed25519", "access.yaml"):
        assert (folder / name).stat().st_mode & 0o077 == 0
    assert folder.stat().st_mode & 0o077 == 0
    assert runtime_dir(small_lab.state.id).stat().st_mode & 0o077 == 0
    assert "PRIVATE" not in yaml.safe_dump(yaml.safe_load((folder / "access.yaml").read_text()))
