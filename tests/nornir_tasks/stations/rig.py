"""A station, two routers and a server as network namespaces, with the agent run inside the station.

`finance` is a leg that works: station - near - far - server, over IPv6 and IPv4. Leg `mute` has an address and a route,
but nobody at the other end; leg `bare` has no address at all. Everything lives in one PID namespace whose first process
ends when its standard input closes, so that nothing survives the test run however it ends.
"""

import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from inventory.access import Access
from inventory.model import County, Family
from inventory.reader import load_county
from nornir_tasks.stations.collect import build_request, build_script, read_results
from nornir_tasks.stations.hops import Hop, HopBook
from nornir_tasks.stations.model import Check, Result
from nornir_tasks.stations.wayback import Sights

ROOT = Path(__file__).resolve().parents[3]
DNS6, WEB6, CLOSED6 = "2001:db8:2::35", "2001:db8:2::50", "2001:db8:dead::50"
DNS4, WEB4 = "10.20.0.53", "10.20.0.80"
NAMES = {
    "2001:db8:1::1": Hop(name="town-r1:lan.110", kind="extranet"),
    "2001:db8:12::1": Hop(name="core1:town.110", kind="extranet"),
    "10.20.8.1": Hop(name="town-r1:lan.110", kind="gateway", legacy_name="fin-town:lan1"),
    "100.64.9.1": Hop(name="core1:town.110", kind="extranet"),
}
BOOK = HopBook(planes={"finance": NAMES})

_INIT = r"""
set -eu
mount --make-rprivate /
mount -t tmpfs tmpfs /run
mkdir /run/netns
for n in station near far server; do
  ip netns add $n
  ip -n $n link set lo up
  # `all` does not reach into `default` everywhere
  ip netns exec $n sysctl -qw net.ipv6.conf.all.accept_dad=0 net.ipv6.conf.default.accept_dad=0 \
    net.ipv6.conf.default.dad_transmits=0 net.ipv6.icmp.ratelimit=0 net.ipv4.icmp_ratelimit=0
done
for n in near far; do
  ip netns exec $n sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
done
link() {  # namespace interface namespace interface
  ip link add xx0 type veth peer name xx1
  ip link set xx0 netns $1 name $2
  ip link set xx1 netns $3 name $4
  ip -n $1 link set $2 up
  ip -n $3 link set $4 up
}
link station finance near lan
link station mute near hole
link station bare near none
link near trunk far trunk
link far lan server lan
a() { ip -n $1 addr add $3 dev $2 ${4:-}; }
a station finance 2001:db8:1::11/64 nodad; a station finance 10.20.8.11/24
a station mute 2001:db8:5::11/64 nodad; a station mute 10.20.5.11/24
a near lan 2001:db8:1::1/64 nodad; a near lan 10.20.8.1/24
a near trunk 2001:db8:12::/127 nodad; a near trunk 100.64.9.0/31
a far trunk 2001:db8:12::1/127 nodad; a far trunk 100.64.9.1/31
a far lan 2001:db8:2::1/64 nodad; a far lan 10.20.0.1/24
for h in 35 50 61 62 63 64 65 66 67 68 69; do a server lan 2001:db8:2::$h/64 nodad; done
a server lan 10.20.0.53/24; a server lan 10.20.0.80/24
ip -n station -6 route add default via 2001:db8:1::1 dev finance metric 100
ip -n station -6 route add default via 2001:db8:5::1 dev mute metric 101
ip -n station route add default via 10.20.8.1 dev finance metric 100
ip -n station route add default via 10.20.5.1 dev mute metric 101
ip -n near -6 route add 2001:db8:2::/64 via 2001:db8:12::1
ip -n near route add 10.20.0.0/24 via 100.64.9.1
ip -n far -6 route add 2001:db8:1::/64 via 2001:db8:12::
ip -n far route add 10.20.8.0/24 via 100.64.9.0
ip -n server -6 route add default via 2001:db8:2::1
ip -n server route add default via 10.20.0.1
echo ready
cat >/dev/null
"""


@cache
def county() -> County:
    """The sample county: its services and timers are what the tests speak of."""
    return load_county(ROOT / "inventory" / "yichuan")


@dataclass(frozen=True)
class Authority:
    """A certificate authority in a folder; `ca` is what stations trust."""

    folder: Path
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))

    @property
    def ca(self) -> Path:
        """The authority's own certificate, made when first asked for."""
        path = self.folder / "ca.pem"
        if not path.exists():
            path.write_bytes(self._sign("Test CA", self.key, days=(-1, 30), authority=True))
        return path

    def issue(self, file: str, name: str, days: tuple[int, int] = (-1, 30)) -> dict[str, str]:
        """Make a certificate and key; return their paths as orders for a web service."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate, secret = self.folder / f"{file}.pem", self.folder / f"{file}.key"
        certificate.write_bytes(self._sign(name, key, days=days, authority=False))
        secret.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return {"certificate": str(certificate), "key": str(secret)}

    def _sign(self, name: str, key: ec.EllipticCurvePrivateKey, *, days: tuple[int, int], authority: bool) -> bytes:
        now = datetime.now(UTC)
        usage = x509.KeyUsage(
            digital_signature=True,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            key_cert_sign=authority,
            crl_sign=authority,
            encipher_only=False,
            decipher_only=False,
        )
        made = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Test CA")]))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + timedelta(days=days[0]))
            .not_valid_after(now + timedelta(days=days[1]))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name.replace(" ", "-"))]), critical=False)
            .sign(self.key, hashes.SHA256())
        )
        return made.public_bytes(serialization.Encoding.PEM)


@contextmanager
def running_services(orders: Sequence[dict[str, Any]], prefix: Sequence[str] = ()) -> Iterator[None]:
    """Run services until the end of the block, behind a command prefix that chooses where."""
    script = str(Path(__file__).with_name("services.py"))
    with subprocess.Popen(
        [*prefix, sys.executable, "-I", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(list(orders)) + "\n")
        process.stdin.flush()
        assert process.stdout.readline() == "ready\n"
        try:
            yield
        finally:
            process.stdin.close()
            process.wait(10)


@dataclass(frozen=True)
class Rig:
    """The namespaces, up."""

    pid: int
    authority: Authority

    def inside(self, node: str) -> list[str]:
        """Return the command prefix that runs something in a node."""
        return ["nsenter", "-t", str(self.pid), "--net", "--mount", "--pid", "ip", "netns", "exec", node]

    def run(self, node: str, *argv: str) -> str:
        """Run a command in a node and return what it printed."""
        return subprocess.run(
            [*self.inside(node), *argv], check=True, capture_output=True, text=True, timeout=30
        ).stdout

    @contextmanager
    def filtered(self, node: str, hook: str, rule: str) -> Iterator[None]:
        """Apply an nftables rule in a node (hook `input`, `output` or `forward`) for the block."""
        self.run(
            node,
            "nft",
            f"add table inet t; add chain inet t c {{ type filter hook {hook} priority 0; }}; add rule inet t c {rule}",
        )
        try:
            yield
        finally:
            self.run(node, "nft", "delete table inet t")

    @contextmanager
    def serving(self, *orders: dict[str, Any]) -> Iterator[None]:
        """Run services on the server."""
        with running_services(orders, self.inside("server")):
            yield

    def measure(
        self,
        *checks: Check,
        deadline_s: float = 20,
        session: str = "",
        sights: Sights | None = None,
        files: Mapping[str, str] | None = None,
        **changes: Any,
    ) -> list[Result]:
        """Run the agent in the station as it is run over SSH, and read its answer; `session` is sshd's word of it.

        With `files` the station has nothing else in its /etc.
        """
        access = Access(target="lab", name="t", known_hosts="-", addresses={}, ca_file=str(self.authority.ca))
        small = county().model_copy(
            update={
                "policy": county().policy.model_copy(
                    update={"timers": county().policy.timers.model_copy(update={"probe_timeout_s": 1.0, **changes})}
                )
            }
        )
        request, nonce = build_request(checks, access, small, deadline_s)
        began = time.time()
        done = subprocess.run(
            [*self.inside("station"), *_with_files(files), "python3", "-I", "-S", "-"],
            input=build_script(request),
            capture_output=True,
            text=True,
            timeout=deadline_s + 10,
            check=False,
            env={**os.environ, "SSH_CONNECTION": session},
        )
        assert not done.stderr, done.stderr
        window = (began, time.time())
        return read_results(checks, done.stdout, nonce=nonce, hops=BOOK, county=small, window=window, sights=sights)

    def look_back(self, *ways: dict[str, Any]) -> dict[str, dict[str, Any]]:
        """Run the agent in the server for ways back, and return its rows by their ids."""
        access = Access(target="lab", name="t", known_hosts="-", addresses={})
        request, _ = build_request((), access, county(), 20, ways=ways)
        argv = [*self.inside("server"), "python3", "-I", "-S", "-"]
        done = subprocess.run(
            argv, input=build_script(request), capture_output=True, text=True, timeout=30, check=False
        )
        assert not done.stderr, done.stderr
        return {row["id"]: row for row in json.loads(done.stdout.split(" ", 2)[2])["ways"]}


def _with_files(files: Mapping[str, str] | None) -> list[str]:
    """Return a command prefix: `ip netns exec` has made mounts its own, so these are gone with the command."""
    if files is None:
        return []
    put = [f"mkdir -p {Path(f).parent}; printf %s {shlex.quote(text)} >{f}" for f, text in files.items()]
    mounts = "mount -t tmpfs tmpfs /etc; mkdir -p /run/systemd; mount -t tmpfs tmpfs /run/systemd"
    return ["/bin/sh", "-ec", "; ".join([mounts, *put, 'exec "$0" "$@"'])]


@contextmanager
def running_rig(folder: Path) -> Iterator[Rig]:
    """Bring the namespaces up for the block."""
    with subprocess.Popen(
        ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "bash", "-c", _INIT],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        try:
            assert process.stdout.readline() == "ready\n"
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text("utf-8").split()
            yield Rig(int(children[0]), Authority(folder))
        finally:
            process.stdin.close()
            process.wait(10)


def make_check(service: str = "finance", **changes: Any) -> Check:
    """Return a check of the rig's finance service over IPv6, changed as asked."""
    family = changes.pop("family", "ipv6")
    values: dict[str, Any] = {
        "id": f"s/finance/{service}/{family}",
        "station": "s",
        "plane": "finance",
        "service": service,
        "family": Family(family),
        "expect": "reach",
        "protocol": "https",
        "interface": "finance",
        "dns_name": f"{service}.example",
        "address": WEB6 if family == "ipv6" else WEB4,
        "resolver": DNS6,
        "port": 443,
        "marker": service,
    }
    return Check.model_validate({**values, **changes})
