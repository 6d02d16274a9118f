"""Measure from a service station: one file, standard library only, Python 3.9 or later, sent over SSH and run there.

It needs no file on the station but the CA bundle, binds every probe to the leg it is for (SO_BINDTODEVICE), and prints
one line: `SENTINEL`, the nonce of the request, a JSON document. Every check asked for is in that document:
what did not run by the deadline is `unknown`, by name. It judges everything but whose routers the hops are, which only
the county's plan can tell; hops go back as addresses.

The same file runs at the service's side, where it is given `ways` instead of checks: it measures back to the stations
from the service's own address, by whatever route that host takes.
"""

# ruff: noqa: UP041 - on a station's Python 3.9 socket.timeout is not yet TimeoutError
from __future__ import annotations

import base64
import errno
import heapq
import json
import os
import queue
import re
import select
import socket
import struct
import sys
import threading
import time
import zlib
from contextlib import suppress
from functools import partial

TYPE_CHECKING = False
if TYPE_CHECKING:  # to import them costs a station as much as all its echo requests
    import ssl
    from collections.abc import Callable, Iterator
    from typing import Any

    FindingData = dict[str, Any]
    Key = tuple[Any, ...]
    Wait = tuple[float, Callable[[], bool]]
    """Until when, unless something is true before."""

SENTINEL = "EXTRANET-STATION-ANSWER"
PASSED, FAILED, UNKNOWN = "passed", "failed", "unknown"

TRACE_ROUNDS_S = (0.0, 0.4, 1.0, 1.8, 2.8)
"""When hops that have not answered are asked again: routers limit how often they say `time exceeded`."""
TRACE_PAUSE_S = 1.0
"""After these, as long as what each round still brings (Linux routers say it once a second to each of us) ..."""
MORE_ROUNDS = 5
"""... would bring the rest in so many more."""
TRACE_PORT = 33434
DEAD_AFTER_ROUNDS = 3
"""A leg from which nobody was heard in so many rounds is silent: a router with a limit would have said something."""
FIRST_HOPS, MOST_HOPS = 8, 24

NEVER_RUN, TIMED_OUT, UNPARSABLE = "never run", "timed out", "unparsable"
"""Why something is unknown (`model.Missing`)."""

ECHO_WAIT_S = 1.0
"""How long an echo may take before it is lost."""
BIG_TRIES = 3
BIG_WAIT_S = 0.4
LONGER_BURST = 4
"""A burst with a loss is followed by one so many times longer: a single lost packet is then a small share."""
LADDER_RUNGS = 12
FLOOR_PACKET_BYTES, FLOOR_SHARE = 1200, 0.95
"""Of what is sent at a line's floor, so much must arrive."""
MOST_ASKED, MOST_NAMED = 3, 16
"""Of the resolvers that a host's file names libc asks no more than three (resolv.conf(5)); all are told."""
MOST_WEB_BYTES, MOST_PLAIN_BYTES, MOST_DNS_BYTES, MOST_ECHOES = 1024, 256, 1232, 60
"""How much of what a check saw goes home as it came: the rest says nothing more to who looks at it later."""
LEAST_MTU: dict[int, int] = {socket.AF_INET: 68, socket.AF_INET6: 1280}
HEADER_BYTES: dict[int, int] = {socket.AF_INET: 28, socket.AF_INET6: 48}
"""Of an echo request or UDP datagram: IP and ICMP (or UDP) headers."""

# From the kernel's headers: Python 3.9's socket module does not name them all.
SO_BINDTODEVICE = 25
IP_TTL, IP_RECVERR, IPV6_RECVERR, IPV6_HOPLIMIT, IPV6_UNICAST_HOPS = 2, 11, 25, 52, 16
MSG_ERRQUEUE = 0x2000
ORIGIN_LOCAL = 1
X509_IGNORE_TIME = 0x200000
IP_MTU_DISCOVER, IPV6_MTU_DISCOVER, IPV6_DONTFRAG, PMTUDISC_PROBE = 10, 23, 62, 3
SO_TIMESTAMPNS, IP_RECVFRAGSIZE, IPV6_RECVFRAGSIZE = 35, 25, 77

NETWORK_ERRORS = {
    errno.ECONNREFUSED: "refused",
    errno.ECONNRESET: "reset",
    errno.ENETUNREACH: "no route",
    errno.EHOSTUNREACH: "host unreachable",
    errno.ENETDOWN: "leg down",
    errno.ETIMEDOUT: "no answer",
    errno.EACCES: "prohibited",
    errno.EPERM: "prohibited",
    errno.EADDRNOTAVAIL: "no address on the leg",
    errno.ENODEV: "no such leg",
    errno.EPIPE: "closed",
}

QUEUED_ERRORS = {errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ECONNREFUSED, errno.EACCES, errno.EPROTO, errno.EAGAIN}
"""What a UDP socket may say about an earlier packet of its own when the next is sent."""


class TurnedAwayError(OSError):
    """Somebody on the way said that there is no getting through: so the leg works."""


class Probe:
    """What one piece of work found: findings, a little raw data, and what it `seen`, as it came from the wire.

    `silence` is how a blocked try was turned away, `heard` whether somebody on the way said so.
    """

    def __init__(self) -> None:
        self.findings: list[FindingData] = []
        self.raw: dict[str, Any] = {}
        self.seen: dict[str, Any] = {}
        self.connected = False
        self.silence = ""
        self.heard = False

    def note(self, aspect: str, outcome: str, detail: str, since: float | None = None) -> None:
        """Add a finding; `since` is when its work began."""
        ms = None if since is None else round((time.monotonic() - since) * 1000, 1)
        self.findings.append(finding(aspect, outcome, detail, ms))


def family_of(check: dict[str, Any]) -> int:
    """Return the socket family of a check."""
    return socket.AF_INET6 if check["family"] == "ipv6" else socket.AF_INET


def family_by_address(address: str) -> int:
    """Return the socket family an address belongs to."""
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def show(address: str, port: int) -> str:
    """Write an address and port as people do."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def open_socket(leg: str, family: int, kind: int, timeout: float, protocol: int = 0) -> socket.socket:
    """Open a socket that uses one leg only (any when empty); OSError ENODEV when the station has no such leg."""
    sock = socket.socket(family, kind, protocol)
    try:
        if leg:
            sock.setsockopt(socket.SOL_SOCKET, SO_BINDTODEVICE, leg.encode() + b"\0")
        sock.settimeout(timeout)
    except OSError:
        sock.close()
        raise
    return sock


def leg_addresses(leg: str) -> dict[str, list[str]]:
    """Return a leg's global addresses, as the kernel has them."""
    found: dict[str, list[str]] = {"ipv6": [], "ipv4": []}
    try:
        with open("/proc/net/if_inet6") as lines:  # noqa: PTH123 - pathlib costs import time on the station
            for line in lines:
                digits, _, _, scope, flags, name = line.split()
                if name == leg and scope == "00" and not int(flags, 16) & 0x48:  # dadfailed, tentative
                    found["ipv6"].append(socket.inet_ntop(socket.AF_INET6, bytes.fromhex(digits)))
    except OSError:
        pass
    try:
        import fcntl

        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            reply = fcntl.ioctl(sock, 0x8915, struct.pack("256s", leg.encode()[:15]))  # SIOCGIFADDR
        found["ipv4"].append(socket.inet_ntoa(reply[20:24]))
    except OSError:
        pass
    return found


def bind_source(sock: socket.socket, source: str) -> None:
    """Send from this address where the host has it; a host beside the server speaks from its own."""
    if source:
        try:
            sock.bind((source, 0))
        except OSError as error:
            if error.errno != errno.EADDRNOTAVAIL:
                raise


def open_echo_socket(leg: str, family: int, source: str, address: str) -> tuple[socket.socket, bool]:
    """Open a ping socket to an address, or a raw one (then true): whichever this host allows; errors are queued."""
    v6 = family == socket.AF_INET6
    protocol, level, raw = (58, 41, False) if v6 else (1, 0, False)
    try:
        sock = open_socket(leg, family, socket.SOCK_DGRAM, 0.0, protocol)
    except PermissionError:
        sock, raw = open_socket(leg, family, socket.SOCK_RAW, 0.0, protocol), True
    try:
        if raw and v6:
            sock.setsockopt(protocol, 1, b"\xff" * 16 + b"\xfd" + b"\xff" * 15)  # only echo replies
        elif raw:
            sock.setsockopt(255, 1, struct.pack("I", 0xFFFFFFFE))
        sock.setsockopt(level, IPV6_RECVERR if v6 else IP_RECVERR, 1)
        bind_source(sock, source)
        sock.connect((address, 0))
    except OSError:
        sock.close()
        raise
    return sock, raw


def pack_echo(family: int, ident: int, number: int, body_bytes: int = 0) -> bytes:
    """Return an echo request with an empty body of so many bytes; the kernel sums ICMPv6's up itself."""
    kind = 128 if family == socket.AF_INET6 else 8
    total = sum((kind << 8, ident, number))
    total = (total & 0xFFFF) + (total >> 16)
    return struct.pack(">BBHHH", kind, 0, ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF, ident, number) + bytes(
        body_bytes
    )


def read_echo(data: bytes, family: int, ident: int, *, raw: bool) -> tuple[int, int] | None:
    """Return (number, bytes after the IP header) of an echo reply that is ours."""
    if raw and family == socket.AF_INET and data:
        data = data[(data[0] & 15) * 4 :]
    if len(data) < 8:
        return None
    kind, _, _, found, number = struct.unpack_from(">BBHHH", data)
    if kind != (129 if family == socket.AF_INET6 else 0) or (raw and found != ident):
        return None
    return number, len(data)


NO_ECHO = "neither ping sockets nor raw ones are allowed (set net.ipv4.ping_group_range)"


def explain(error: OSError, leg: str, family: int, timeout: float) -> tuple[str, str]:
    """Return (outcome, words) for a network error: an error of the network is a failure, one of the station unknown."""
    if isinstance(error, socket.timeout):
        return FAILED, f"no answer in {timeout:g} s"
    words = NETWORK_ERRORS.get(error.errno or 0)
    if words is None:
        return UNKNOWN, f"the station's own error: {error.strerror or error}"
    if leg and error.errno in (errno.ENETUNREACH, errno.EADDRNOTAVAIL, errno.ENETDOWN):
        name = "ipv6" if family == socket.AF_INET6 else "ipv4"
        if not leg_addresses(leg)[name]:
            words += f" (leg {leg} has no {'IPv6' if name == 'ipv6' else 'IPv4'} address)"
    return FAILED, words


# --- DNS -------------------------------------------------------------------------------------------------------------


class DnsAnswer:
    """What a resolver said: the addresses of the name asked for, through its aliases."""

    def __init__(
        self,
        addresses: list[str],
        rcode: int,
        truncated: bool,  # noqa: FBT001 - a record of four
        packet: bytes,
    ) -> None:
        self.addresses, self.rcode, self.truncated, self.packet = addresses, rcode, truncated, packet


def dns_query(name: str, qtype: int, number: int) -> bytes:
    """Return a recursive query for one name (RFC 1035 4.1)."""
    labels = b"".join(bytes([len(part)]) + part for part in name.rstrip(".").encode("idna").split(b".")) + b"\0"
    return struct.pack(">HHHHHH", number, 0x0100, 1, 0, 0, 0) + labels + struct.pack(">HH", qtype, 1)


def dns_name(packet: bytes, at: int) -> tuple[str, int]:
    """Read a possibly compressed name; return it in lower case and where the next field begins."""
    parts: list[str] = []
    after = -1
    for _ in range(128):  # a loop of pointers ends here
        length = packet[at]
        if length & 0xC0 == 0xC0:
            if after < 0:
                after = at + 2
            at = struct.unpack_from(">H", packet, at)[0] & 0x3FFF
        elif length == 0:
            return ".".join(parts).lower(), (after if after >= 0 else at + 1)
        else:
            parts.append(packet[at + 1 : at + 1 + length].decode("ascii", "backslashreplace"))
            at += 1 + length
    raise ValueError("name pointers loop")


def read_dns(packet: bytes, number: int, name: str, qtype: int) -> DnsAnswer:
    """Read an answer; ValueError when it is not one to our question."""
    try:
        found, flags, questions, answers = struct.unpack_from(">HHHH", packet)
        if found != number or not flags & 0x8000 or questions != 1:
            raise ValueError("not an answer to the question")
        asked, at = dns_name(packet, 12)
        if asked != name.rstrip(".").lower() or struct.unpack_from(">HH", packet, at) != (qtype, 1):
            raise ValueError("an answer to another question")
        at += 4
        wanted = {asked}
        records: list[tuple[str, int, bytes, int]] = []
        for _ in range(answers):
            owner, at = dns_name(packet, at)
            kind, _, _, length = struct.unpack_from(">HHIH", packet, at)
            at += 10
            records.append((owner, kind, packet[at : at + length], at))
            at += length
        addresses: list[str] = []
        for owner, kind, data, place in records:
            if kind == 5 and owner in wanted:
                wanted.add(dns_name(packet, place)[0])
            elif kind == qtype and owner in wanted:
                addresses.append(socket.inet_ntop(socket.AF_INET6 if qtype == 28 else socket.AF_INET, data))
    except (IndexError, struct.error, OSError) as error:
        raise ValueError(f"a broken packet ({error})") from error
    return DnsAnswer(sorted(set(addresses)), flags & 0xF, bool(flags & 0x0200), packet)


def ask_dns(leg: str, resolver: str, name: str, qtype: int, timeout: float) -> DnsAnswer:
    """Ask a resolver over UDP, twice within the time; over TCP when the answer was cut short (RFC 7766)."""
    until = time.monotonic() + timeout
    family = family_by_address(resolver)
    with open_socket(leg, family, socket.SOCK_DGRAM, timeout / 2) as sock:
        sock.connect((resolver, 53))
        for turn in (1, 2):
            number = struct.unpack(">H", os.urandom(2))[0]
            sock.send(dns_query(name, qtype, number))
            ends = until if turn == 2 else time.monotonic() + timeout / 2
            try:
                answer = _await_dns(sock, ends, number, name, qtype)
                break
            except socket.timeout:
                if turn == 2:
                    raise
    if not answer.truncated:
        return answer
    with open_socket(leg, family, socket.SOCK_STREAM, max(0.5, until - time.monotonic())) as sock:
        sock.connect((resolver, 53))
        query = dns_query(name, qtype, number)
        sock.sendall(struct.pack(">H", len(query)) + query)
        size = struct.unpack(">H", _read_exactly(sock, 2))[0]
        return read_dns(_read_exactly(sock, size), number, name, qtype)


def _await_dns(sock: socket.socket, ends: float, number: int, name: str, qtype: int) -> DnsAnswer:
    while True:
        left = ends - time.monotonic()
        if left <= 0:
            raise socket.timeout("no answer")
        sock.settimeout(left)
        packet = sock.recv(4096)
        try:
            return read_dns(packet, number, name, qtype)
        except ValueError:
            if len(packet) >= 2 and struct.unpack_from(">H", packet)[0] == number:
                raise


def _read_exactly(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = sock.recv(size - len(data))
        if not more:
            raise ValueError("the connection ended early")
        data += more
    return data


def read_resolvers(leg: str) -> dict[str, Any]:
    """Return whom this host asks for names from a leg, in order, and the file that says so.

    A leg's own file (`/etc/netns/LEG/resolv.conf`, ip-netns(8)) counts before the host's. Where that only names
    systemd-resolved's stub, the servers behind it are read from the file that it keeps for this (systemd-resolved(8)).
    A file that is there and cannot be read tells nothing: `names` is none then, not empty.
    """
    out: dict[str, Any] = {"file": "/etc/resolv.conf", "names": []}
    for path in (f"/etc/netns/{leg}/resolv.conf", "/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"):
        try:
            with open(path, encoding="utf-8", errors="replace") as lines:  # noqa: PTH123 - as above
                words = [line.split() for line in lines]
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError:
            return {"file": path, "names": None}
        out = {"file": path, "names": [w[1][:60] for w in words if w[:1] == ["nameserver"] and w[1:]][:MOST_NAMED]}
        if not out["names"] or not set(out["names"]) <= {"127.0.0.53", "127.0.0.54"}:
            break
    return out


def read_hosts(leg: str) -> dict[str, Any]:
    """Return the addresses that this host's own table gives names, and the file: it counts before any name server.

    A leg's own file (`/etc/netns/LEG/hosts`, ip-netns(8)) counts in place of the host's; see hosts(5). A file that is there
    and cannot be read tells nothing: `names` is none then, not empty.
    """
    names: dict[str, list[str]] = {}
    for path in (f"/etc/netns/{leg}/hosts", "/etc/hosts"):
        try:
            with open(path, encoding="utf-8", errors="replace") as lines:  # noqa: PTH123 - as above
                rows = [line.partition("#")[0].split() for line in lines]
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError:
            return {"file": path, "names": None}
        for address, *own in (row for row in rows if row):
            for name in own:
                names.setdefault(name.rstrip(".").lower(), []).append(address[:60])
        return {"file": path, "names": names}
    return {"file": "/etc/hosts", "names": names}


def read_lookups(leg: str) -> dict[str, Any]:
    """Return the lines of this host's nsswitch.conf(5) that say where its programs look names up, and the file.

    A leg's own file (`/etc/netns/LEG/nsswitch.conf`, ip-netns(8)) counts in place of the host's; no file or no line is
    libc's own way. A file that is there and cannot be read tells nothing: `names` is none then, not empty.
    """
    for path in (f"/etc/netns/{leg}/nsswitch.conf", "/etc/nsswitch.conf"):
        try:
            with open(path, encoding="utf-8", errors="replace") as lines:  # noqa: PTH123 - as above
                rows = [line.partition("#")[0].replace(":", " ", 1).split() for line in lines]
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError:
            return {"file": path, "names": None}
        return {"file": path, "names": [" ".join(row[1:])[:200] for row in rows if row[:1] == ["hosts"]]}
    return {"file": "/etc/nsswitch.conf", "names": []}


def probe_dns(leg: str, resolvers: list[str], name: str, family: str, timeout: float) -> dict[str, Any]:
    """Ask once for all checks that need this name: each resolver in turn, until one answers (resolv.conf(5)).

    Silence, SERVFAIL, NOTIMP and REFUSED send a host to its next resolver; the last one's word stands.
    """
    started = time.monotonic()
    kind, qtype = ("AAAA", 28) if family == "ipv6" else ("A", 1)
    out: dict[str, Any] = {"outcome": FAILED, "words": "nobody to ask", "addresses": [], "answered": "", "silent": {}}
    out["seen"] = {}
    for resolver in resolvers[:MOST_ASKED]:
        out["answered"] = ""
        try:
            answer = ask_dns(leg, resolver, name, qtype, timeout)
        except OSError as error:
            out["outcome"], words = explain(error, leg, family_by_address(resolver), timeout)
        except ValueError as error:
            out["outcome"], words = FAILED, str(error)
        else:
            out["seen"][resolver] = base64.b64encode(answer.packet[:MOST_DNS_BYTES]).decode()
            out |= {"addresses": answer.addresses, "answered": resolver, "outcome": PASSED, "words": ""}
            if not answer.rcode and answer.addresses:
                break
            codes = {1: "FORMERR", 2: "SERVFAIL", 3: "NXDOMAIN", 4: "NOTIMP", 5: "REFUSED"}
            words = codes.get(answer.rcode, f"rcode {answer.rcode}")
            if not answer.rcode:
                out |= {"outcome": FAILED, "words": f"no {kind} record at {resolver}"}
                break
            out["outcome"] = FAILED
        out["words"] = f"{words} from {resolver}"
        if out["answered"] and answer.rcode not in (2, 4, 5):
            break
        out["silent"][resolver] = words
    out["ms"] = round((time.monotonic() - started) * 1000, 1)
    return out


# --- services --------------------------------------------------------------------------------------------------------


class Trust:
    """TLS contexts, made once: the strict one judges, the lenient ones only tell whose certificate a bad one is."""

    def __init__(self, ca_file: str | None) -> None:
        self._ca_file, self._lock = ca_file, threading.Lock()
        self._made: dict[str, ssl.SSLContext] = {}

    def context(self, kind: str) -> ssl.SSLContext:
        """Return the `strict`, `lenient` (chain only) or `blind` context."""
        import ssl

        with self._lock:
            if kind not in self._made:
                made = ssl.create_default_context(cafile=self._ca_file)
                if kind != "strict":
                    made.check_hostname = False
                    made.verify_flags |= X509_IGNORE_TIME
                if kind == "blind":
                    made.verify_mode = ssl.CERT_NONE
                self._made[kind] = made
            return self._made[kind]


def describe_certificate(tls: ssl.SSLSocket) -> dict[str, Any]:
    """Return a verified certificate's names and last day."""
    found = tls.getpeercert() or {}
    names = [str(pair[1]) for pair in found.get("subjectAltName", ()) if isinstance(pair, tuple)]
    return {"names": names[:8], "not_after": found.get("notAfter")}


CERTIFICATES: dict[str, str] = {}
"""Every certificate that was shown, by its sha256: told once, however many checks saw it."""


def keep_chain(tls: ssl.SSLSocket) -> dict[str, Any]:
    """Keep what a server has shown; return the digests, its own certificate first, and what was agreed on.

    The whole chain is told by Python 3.10 and later; before, only the server's own certificate.
    """
    import hashlib

    shown = [tls.getpeercert(binary_form=True) or b""]
    with suppress(AttributeError, TypeError, ValueError, OSError):
        inner: Any = tls._sslobj  # type: ignore[attr-defined]  # noqa: SLF001 - public only since Python 3.13
        chain = [c if isinstance(c, bytes) else c.public_bytes(2) for c in inner.get_unverified_chain() or ()]
        shown = chain or shown
    digests = [hashlib.sha256(one).hexdigest() for one in shown[:4] if one]
    CERTIFICATES.update({d: base64.b64encode(one).decode() for d, one in zip(digests, shown)})  # noqa: B905 - Python 3.9
    return {"version": tls.version(), "cipher": (tls.cipher() or ("",))[0], "chain": digests}


def connect(check: dict[str, Any], timeout: float) -> socket.socket:
    """Connect to the service from the check's leg."""
    sock = open_socket(check["interface"], family_of(check), socket.SOCK_STREAM, timeout)
    try:
        sock.connect((check["address"], check["port"]))
    except BaseException:
        sock.close()
        raise
    return sock


def connect_impatiently(check: dict[str, Any], timeout: float) -> socket.socket:
    """Connect, but take the first word that it is no use: what a router says while the kernel still means to try on."""
    sock = open_socket(check["interface"], family_of(check), socket.SOCK_STREAM, 0.0)
    try:
        code = sock.connect_ex((check["address"], check["port"]))
        poller = select.poll()
        poller.register(sock, select.POLLOUT)
        ends, wait_ms = time.monotonic() + timeout, 5
        sent = code == errno.EINPROGRESS  # what comes now comes from the wire, but for a neighbour who is not there
        while code in (0, errno.EINPROGRESS):
            left_ms = int((ends - time.monotonic()) * 1000)
            if left_ms <= 0:
                raise socket.timeout("no answer")
            ready = poller.poll(min(wait_ms, left_ms))
            code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if ready and not code:
                sock.settimeout(timeout)
                return sock
            wait_ms *= 3
        if sent and code in (errno.ENETUNREACH, errno.EACCES):  # a refusal may be the service's own
            raise TurnedAwayError(code, os.strerror(code))
        raise OSError(code, os.strerror(code))
    except BaseException:
        sock.close()
        raise


def read_until(sock: socket.socket, ends: float, enough: Callable[[bytes], bool], most: int = 65536) -> bytes:
    """Read until it is enough, the peer is done, or the time is over."""
    data = b""
    while len(data) < most and not enough(data):
        left = ends - time.monotonic()
        if left <= 0:
            break
        sock.settimeout(left)
        try:
            more = sock.recv(16384)
        except socket.timeout:
            break
        if not more:
            break
        data += more
    return data


def has_marker(data: bytes, marker: str) -> bool:
    """Tell whether the marker stands in the data as a word of its own: no part of a longer name, of a host's or of a link."""
    word = re.escape(marker.encode())
    return re.search(rb"(?<![\w./@-])" + word + rb"(?![\w/@-]|\.\w)", data) is not None


def first_bytes(data: bytes) -> str:
    """Return the beginning of an answer, printable."""
    return data[:60].decode("utf-8", "backslashreplace").strip()


def probe_service(check: dict[str, Any], timeout: float, trust: Trust) -> Probe:
    """Connect and see that the right back end answers, as far up as the check goes."""
    probe = Probe()
    where = show(check["address"], check["port"])
    started = time.monotonic()
    try:
        sock = connect(check, timeout)
    except OSError as error:
        outcome, words = explain(error, check["interface"], family_of(check), timeout)
        probe.note("tcp", outcome, f"{where} - expected an open port, found {words}", started)
        return probe
    with sock:
        probe.connected = True
        probe.raw["source"] = sock.getsockname()[0]
        probe.seen["tcp"] = [sock.getsockname()[1], *sock.getpeername()[:2]]
        probe.note("tcp", PASSED, f"{where} open", started)
        if check["protocol"] == "https":
            probe_web(check, sock, timeout, trust, probe)
        elif check["protocol"] == "tcp" and check.get("marker"):
            probe_banner(check, sock, timeout, probe)
    return probe


def probe_banner(check: dict[str, Any], sock: socket.socket, timeout: float, probe: Probe) -> None:
    """Read what a plain TCP service says first."""
    started = time.monotonic()
    marker = check["marker"]
    try:
        data = read_until(sock, started + timeout, lambda d: has_marker(d, marker), 4096)
    except OSError as error:
        outcome, words = explain(error, check["interface"], family_of(check), timeout)
        probe.note("marker", outcome, f"first words - expected {marker!r}, found {words}", started)
        return
    probe.raw["first"] = first_bytes(data)
    probe.seen["said"] = data[:MOST_PLAIN_BYTES].decode("latin-1")
    if has_marker(data, marker):
        probe.note("marker", PASSED, f"{marker!r} answers", started)
    else:
        found = repr(first_bytes(data)) if data else f"silence for {timeout:g} s"
        probe.note("marker", FAILED, f"first words - expected {marker!r}, found {found}", started)


def probe_web(check: dict[str, Any], sock: socket.socket, timeout: float, trust: Trust, probe: Probe) -> None:
    """Judge the certificate by chain, name and date; then the page."""
    import ssl

    started = time.monotonic()
    name = check["dns_name"]
    try:
        context = trust.context("strict")
    except OSError as error:
        probe.note("tls", UNKNOWN, f"CA bundle on the station - expected readable, found {error}", started)
        return
    try:
        sock.settimeout(timeout)
        tls = context.wrap_socket(sock, server_hostname=name)
    except ssl.SSLCertVerificationError as error:
        held, probe.seen["tls"] = look_at_bad_certificate(check, timeout, trust)
        probe.raw["cert"] = held
        found = error.verify_message.rstrip(".") or "not valid"
        extra = "; ".join(f"{k} {v}" for k, v in held.items() if v)
        words = f"certificate of {name} - expected valid, found {found}"
        probe.note("tls", FAILED, words + (extra and f" ({extra})"), started)
        return
    except OSError as error:
        if isinstance(error, socket.timeout):
            words = f"no handshake in {timeout:g} s"
        else:
            words = getattr(error, "reason", None) or NETWORK_ERRORS.get(error.errno or 0) or str(error)
            words = str(words).lower().replace("_", " ")
        probe.note("tls", FAILED, f"handshake as {name} - expected done, found {words}", started)
        return
    with tls:
        held, probe.seen["tls"] = describe_certificate(tls), keep_chain(tls)
        probe.raw["cert"] = held
        probe.note("tls", PASSED, f"certificate of {name}, valid until {held['not_after']}", started)
        probe_page(check, tls, timeout, probe)


def look_at_bad_certificate(
    check: dict[str, Any], timeout: float, trust: Trust
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Say whose certificate it is that was refused, by its names when our CA made it, else by its fingerprint; keep it."""
    for kind in ("lenient", "blind"):
        try:
            with connect(check, timeout) as sock:
                tls = trust.context(kind).wrap_socket(sock, server_hostname=check["dns_name"])
                with tls:
                    kept = keep_chain(tls)
                    if kind == "lenient":
                        held = describe_certificate(tls)
                        return {"for": ", ".join(held["names"]), "until": held["not_after"]}, kept
                    return {"sha256": "".join(kept["chain"][:1])[:16]}, kept
        except OSError:
            continue
    return {}, {}


def probe_page(check: dict[str, Any], tls: ssl.SSLSocket, timeout: float, probe: Probe) -> None:
    """Ask for the page and look for the marker in its body."""
    started = time.monotonic()
    marker = check.get("marker") or ""
    request = (
        f"GET {check.get('path') or '/'} HTTP/1.1\r\nHost: {check['dns_name']}\r\n"
        "User-Agent: extranet-station\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    )

    def enough(data: bytes) -> bool:
        head, gap, body = data.partition(b"\r\n\r\n")
        length = re.search(rb"(?im)^content-length:\s*(\d+)", head)
        whole = length is not None and len(body) >= int(length[1])
        return bool(gap) and (whole or (bool(marker) and has_marker(body, marker)))

    try:
        tls.sendall(request.encode())
        data = read_until(tls, started + timeout, enough)
    except OSError as error:
        probe.note("http", FAILED, f"GET {check.get('path') or '/'} - expected 200, found {error}", started)
        return
    line = re.match(rb"HTTP/1\.[01] (\d{3})", data)
    status = int(line[1]) if line else None
    body = data.partition(b"\r\n\r\n")[2]
    probe.raw["status"] = status
    probe.raw["first"] = first_bytes(body)
    probe.seen["http"] = data[:MOST_WEB_BYTES].decode("latin-1")
    if status != 200:
        found = str(status) if status else (repr(first_bytes(data)) if data else f"nothing in {timeout:g} s")
        probe.note("http", FAILED, f"GET {check.get('path') or '/'} - expected 200, found {found}", started)
    else:
        probe.note("http", PASSED, "200", started)
    if marker:
        if has_marker(body, marker):
            probe.note("marker", PASSED, f"{marker!r} answers")
        else:
            found = repr(first_bytes(body)) if body else "an empty page"
            probe.note("marker", FAILED, f"page - expected {marker!r}, found {found}")


def probe_blocked(check: dict[str, Any], timeout: float, trust: Trust) -> Probe:
    """Try what must not work. Whether silence means anything is judged later, by what else the leg could do."""
    probe = Probe()
    where = show(check["address"], check["port"])
    started = time.monotonic()
    if check["protocol"] == "dns":
        try:
            answer = ask_dns(check["interface"], check["address"], check["dns_name"], 28, timeout)
        except OSError as error:
            note_blocked(probe, "dns", where, explain(error, check["interface"], family_of(check), timeout), started)
        except ValueError:
            probe.note("dns", FAILED, f"{where} - expected blocked, found a broken answer", started)
        else:
            probe.seen["dns"] = {check["address"]: base64.b64encode(answer.packet[:MOST_DNS_BYTES]).decode()}
            probe.note("dns", FAILED, f"{where} - expected blocked, found a name server that answers", started)
        return probe
    try:
        sock = connect_impatiently(check, timeout)
    except OSError as error:
        probe.heard = isinstance(error, TurnedAwayError)
        note_blocked(probe, "tcp", where, explain(error, check["interface"], family_of(check), timeout), started)
        return probe
    probe.connected = True
    who = ""
    with sock:
        try:
            if check["protocol"] == "https":
                sock.settimeout(timeout)
                with trust.context("lenient").wrap_socket(sock, server_hostname=check["dns_name"]) as tls:
                    who = "certificate of " + ", ".join(describe_certificate(tls)["names"])
                    probe.seen["tls"] = keep_chain(tls)
            else:
                data = read_until(sock, time.monotonic() + min(timeout, 1.0), lambda d: b"\n" in d, 512)
                who = f"says {first_bytes(data)!r}" if data else ""
                probe.seen["said"] = data[:MOST_PLAIN_BYTES].decode("latin-1")
        except OSError:
            who = ""
    probe.note("tcp", FAILED, f"{where} - expected blocked, found open" + (who and f" ({who})"), started)
    return probe


def note_blocked(probe: Probe, aspect: str, where: str, why: tuple[str, str], started: float) -> None:
    """Note that something did not get through: as it should be, unless it was the station's own fault."""
    outcome, words = why
    if outcome == UNKNOWN:
        probe.note(aspect, UNKNOWN, f"{where} - expected blocked, found {words}", started)
    else:
        probe.note(aspect, PASSED, f"{where} blocked: {words}", started)
        probe.silence = words


# --- path ------------------------------------------------------------------------------------------------------------


class Trace:
    """The way to one address: UDP to closed ports with growing hop limits, answers read from the error queue.

    `single` asks only once, with a full hop limit: who, if anybody, turns us away (for what must be blocked).
    `echo` sends echo requests instead: a station with several legs answers these from the leg that was asked, while its
    errors leave by its first default route.
    """

    def __init__(
        self, leg: str, family: int, address: str, *, single: bool = False, source: str = "", echo: bool = False
    ) -> None:
        self.echo, self.raw, self.ident = echo, False, int.from_bytes(os.urandom(2), "big")
        self.leg, self.family, self.address, self.single, self.bound = leg, family, address, single, source
        self.hops: dict[int, str] = {}
        self.ends: frozenset[str] = frozenset()
        """Addresses of the last router before the end: where one of them answered, the end need not."""
        self.reached: int | None = None
        self.turned_away: tuple[int, str] | None = None
        self.problem = ""
        self.limit = FIRST_HOPS
        self.started = self.ended = time.monotonic()
        self.sock: socket.socket | None = None
        self.source = ""

    def open(self) -> None:
        """Open the socket, with errors queued for us."""
        if self.echo:
            self._open_echo()
            return
        try:
            self.sock = open_socket(self.leg, self.family, socket.SOCK_DGRAM, 0.0)
            level, option = (41, IPV6_RECVERR) if self.family == socket.AF_INET6 else (0, IP_RECVERR)
            self.sock.setsockopt(level, option, 1)
            bind_source(self.sock, self.bound)
            with open_socket(self.leg, self.family, socket.SOCK_DGRAM, 0.0) as other:
                bind_source(other, self.bound)
                other.connect((self.address, TRACE_PORT))
                self.source = other.getsockname()[0]
        except OSError as error:
            _, self.problem = explain(error, self.leg, self.family, 0)

    def _open_echo(self) -> None:
        try:
            self.sock, self.raw = open_echo_socket(self.leg, self.family, self.bound, self.address)
            self.source = self.sock.getsockname()[0]
        except PermissionError:
            self.problem = NO_ECHO
        except OSError as error:
            _, self.problem = explain(error, self.leg, self.family, 0)

    def close(self) -> None:
        """Close the socket."""
        if self.sock is not None:
            self.sock.close()
            self.sock = None

    @property
    def last(self) -> int:
        """The last hop limit that still matters."""
        known = [n for n in (self.reached, self.turned_away[0] if self.turned_away else None) if n is not None]
        known += [n for n, address in self.hops.items() if address in self.ends]
        return min(known) if known else self.limit

    @property
    def whole(self) -> bool:
        """Whether the end of the way is known."""
        return (
            self.reached is not None or self.turned_away is not None or any(a in self.ends for a in self.hops.values())
        )

    @property
    def missing(self) -> list[int]:
        """Hop limits that nobody has answered yet."""
        if self.single:
            return [] if self.reached or self.turned_away else [64]
        answered = set(self.hops)
        if self.turned_away:
            answered.add(self.turned_away[0])
        if self.reached:
            answered.add(self.reached)
        return [n for n in range(1, self.last + 1) if n not in answered]

    @property
    def heard(self) -> int:
        """How many answers there were."""
        return len(self.hops) + (self.reached is not None) + (self.turned_away is not None)

    @property
    def done(self) -> bool:
        """Nothing more to learn."""
        if self.problem:
            return True
        return not self.missing and self.whole

    def send(self) -> None:
        """Ask every hop that has not answered."""
        if not self.single and not self.missing and not self.done and self.limit < MOST_HOPS:
            self.limit += FIRST_HOPS
        for limit in self.missing:
            if self.sock is None or (not self.single and limit > self.last):
                return
            level, kind = (41, IPV6_HOPLIMIT) if self.family == socket.AF_INET6 else (0, IP_TTL)
            control = [(level, kind, struct.pack("i", limit))]
            for _ in range(4):  # a queued error of an earlier probe is reported here first, and then is gone
                try:
                    if self.echo:
                        self.sock.sendmsg([pack_echo(self.family, self.ident, limit, 56)], control)
                    else:
                        self.sock.sendmsg([b"extranet"], control, 0, (self.address, TRACE_PORT + limit))
                    break
                except OSError as error:
                    if error.errno in QUEUED_ERRORS:
                        continue
                    _, self.problem = explain(error, self.leg, self.family, 0)
                    return
            self.read()

    def read(self) -> None:
        """Take everything from the error queue."""
        while self.sock is not None:
            try:
                data, control, _, name = self.sock.recvmsg(64, 512, MSG_ERRQUEUE)
            except OSError:
                break
            if self.echo:
                self._take(control, struct.unpack_from(">H", data, 6)[0] if len(data) >= 8 else 0)
            else:
                self._take(control, name[1] - TRACE_PORT if name else 0)
        while self.sock is not None:
            try:
                data, name = self.sock.recvfrom(256)
            except OSError as error:
                if error.errno in QUEUED_ERRORS - {errno.EAGAIN}:
                    continue  # it was only told now, and is gone
                break
            if not self.echo:  # an answer in earnest: something listens there; it is the destination
                self._arrive(name[1] - TRACE_PORT)
                continue
            found = read_echo(data, self.family, self.ident, raw=self.raw)
            if found is not None and 1 <= found[0] <= 64:
                self._arrive(found[0])

    def _take(self, control: list[tuple[int, int, bytes]], limit: int) -> None:
        for level, kind, data in control:
            if (level, kind) not in ((41, IPV6_RECVERR), (0, IP_RECVERR)) or len(data) < 16:
                continue
            _, origin, icmp_type, code = struct.unpack_from("=IBBB", data)
            if origin == ORIGIN_LOCAL:
                continue
            offender = self._offender(data[16:])
            v6 = self.family == socket.AF_INET6
            if not offender or not 1 <= limit <= 64:
                continue
            if offender == self.address:
                self._arrive(limit)
            elif offender == self.source:
                self.problem = "the next router does not answer on the wire"
            elif (icmp_type, code) == ((3, 0) if v6 else (11, 0)):
                self.hops.setdefault(limit, offender)
            elif icmp_type == (1 if v6 else 3) and (self.turned_away is None or limit < self.turned_away[0]):
                self.turned_away = (limit, offender)

    def _arrive(self, limit: int) -> None:
        self.reached = limit if self.reached is None else min(limit, self.reached)

    def _offender(self, data: bytes) -> str:
        if self.family == socket.AF_INET6 and len(data) >= 24:
            return socket.inet_ntop(socket.AF_INET6, data[8:24])
        if self.family == socket.AF_INET and len(data) >= 8:
            return socket.inet_ntop(socket.AF_INET, data[4:8])
        return ""

    def close_gap(self, port: int, timeout: float) -> None:
        """Prove the length of the way when the destination drops UDP: TCP gets there with one hop more than known."""
        answered = 0
        while answered + 1 in self.hops:
            answered += 1
        level, option = (41, IPV6_UNICAST_HOPS) if self.family == socket.AF_INET6 else (0, IP_TTL)
        try:
            with open_socket(self.leg, self.family, socket.SOCK_STREAM, timeout) as sock:
                sock.setsockopt(level, option, answered + 1)
                sock.connect((self.address, port))
        except OSError:
            return
        self.reached = answered + 1

    @property
    def data(self) -> dict[str, Any]:
        """What goes home."""
        end = self.last if self.whole else max(self.hops, default=0)
        at_end = (self.reached, self.turned_away[0] if self.turned_away else None)
        return {
            "address": self.address,
            "hops": [self.hops.get(n) for n in range(1, end if end in at_end else end + 1)],
            "reached": self.reached is not None,
            "turned_away": self.turned_away[1] if self.turned_away and not self.reached else None,
            "problem": self.problem,
            "source": self.source,
            "ms": round((self.ended - self.started) * 1000, 1),
        }


class Tracer:
    """All traces of a run at once, in one thread: rounds of questions, answers as they come."""

    def __init__(self, traces: list[Trace], pace_s: float = 0.0) -> None:
        self.traces, self.pace_s = traces, pace_s
        self.pending: dict[int, Trace] = {}
        self.open_done = threading.Event()

    def run(self, until: float, blocked_s: float) -> None:
        """Go on until all are done, the rounds bring nothing more, or the deadline.

        What must be blocked is asked after the ways that must be open: routers have only so many answers to give. Who
        turns us away is asked for `blocked_s`, as long as its ports are tried.
        """
        self._run([t for t in self.traces if not t.single], until, rounds_s=TRACE_ROUNDS_S, pause_s=TRACE_PAUSE_S)
        self.open_done.set()
        until = min(until, time.monotonic() + blocked_s)
        self._run([t for t in self.traces if t.single], until, rounds_s=TRACE_ROUNDS_S[:3], pause_s=TRACE_PAUSE_S / 2)

    def _run(self, traces: list[Trace], until: float, *, rounds_s: tuple[float, ...], pause_s: float) -> None:
        begun = time.monotonic()
        self._open(traces)
        planned = [begun + after for after in rounds_s]
        known = rounds = 0
        while self.pending and time.monotonic() < until:
            planned.pop(0)
            rounds += 1
            for trace in list(self.pending.values()):
                trace.send()
                if self.pace_s:  # the first router has only so many answers a second for us
                    self._listen_until(min(until, time.monotonic() + self.pace_s))
            ends = min(until, max(planned[0], time.monotonic() + 0.2) if planned else time.monotonic() + pause_s)
            self._look_further()
            while self.pending and time.monotonic() < ends:
                self._listen(ends)
                self._look_further()
            found = self._count(traces)
            if rounds == DEAD_AFTER_ROUNDS:
                self._let_go_of_the_dead(traces)
            if not planned:
                if (found - known) * MORE_ROUNDS < len(self.pending):
                    break
                planned.append(ends)
            known = found
        for trace in self.pending.values():
            trace.ended = time.monotonic()
        self.pending.clear()
        for trace in traces:
            trace.close()

    @staticmethod
    def _count(traces: list[Trace]) -> int:
        return sum(t.heard for t in traces)

    def _let_go_of_the_dead(self, traces: list[Trace]) -> None:
        """Ask no further where nobody at all has answered whatever was asked from the same leg and address."""
        alive = {(t.leg, t.family, t.bound) for t in traces if t.heard}
        for number, trace in list(self.pending.items()):
            if (trace.leg, trace.family, trace.bound) not in alive:
                self._let_go(number)

    def _open(self, traces: list[Trace]) -> None:
        self.poller = select.poll()
        for trace in traces:
            trace.started = trace.ended = time.monotonic()
            trace.open()
            if trace.sock is not None and not trace.problem:
                self.pending[trace.sock.fileno()] = trace
                self.poller.register(trace.sock, select.POLLIN | select.POLLERR)

    def _listen_until(self, until: float) -> None:
        while time.monotonic() < until:
            self._listen(until)

    def _listen(self, until: float) -> None:
        wait_ms = max(1, int((until - time.monotonic()) * 1000))
        for number, _ in self.poller.poll(wait_ms):
            if number in self.pending:
                self.pending[number].read()

    def _look_further(self) -> None:
        """Let go of what is done; where every hop answered and the end is not there, ask further hops at once."""
        for number, trace in list(self.pending.items()):
            if trace.done:
                self._let_go(number)
            elif not trace.missing and trace.limit < MOST_HOPS:
                trace.send()

    def _let_go(self, number: int) -> None:
        self.poller.unregister(number)
        self.pending.pop(number).ended = time.monotonic()


# --- echoes ----------------------------------------------------------------------------------------------------------


class Echo:
    """Echo requests to one address: a burst for loss and latency, and packets that may not be fragmented for their size.

    Times are the kernel's own at the receiving end, so that a busy station does not look like a slow line.
    """

    def __init__(self, leg: str, family: int, address: str, source: str, terms: dict[str, Any]) -> None:
        self.leg, self.family, self.address, self.bound, self.terms = leg, family, address, source, terms
        self.wants_burst = self.wants_size = False
        self.sock: socket.socket | None = None
        self.raw = False
        self.number = 0
        self.ident = int.from_bytes(os.urandom(2), "big")
        self.problem = ""
        self.out: dict[int, tuple[int, int]] = {}  # sequence number -> (bytes, sent at in ns)
        self.rtts_ms: dict[int, float] = {}
        self.small: list[int] = []  # sequence numbers of the burst
        self.told: dict[int, tuple[int, str]] = {}  # bytes -> (the largest that goes on, who said so)
        self.leg_limit = 0
        self.largest = 0
        self.tells_pieces = False
        self.pieces: dict[int, int] = {}  # sequence number -> bytes of the largest fragment that the answer came in
        self.one_way = False
        self.done = False
        self.started = self.ended = time.monotonic()

    def open(self) -> None:
        """Open the socket; nothing it sends may be fragmented."""
        v6 = self.family == socket.AF_INET6
        level = 41 if v6 else 0
        try:
            self.sock, self.raw = open_echo_socket(self.leg, self.family, self.bound, self.address)
            self.sock.setsockopt(level, IPV6_MTU_DISCOVER if v6 else IP_MTU_DISCOVER, PMTUDISC_PROBE)
            if v6:
                self.sock.setsockopt(level, IPV6_DONTFRAG, 1)
            self.sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
            self.tells_pieces = self._ask_for_pieces(level, IPV6_RECVFRAGSIZE if v6 else IP_RECVFRAGSIZE)
        except PermissionError:
            self.problem = NO_ECHO
        except OSError as error:
            self.problem = explain(error, self.leg, self.family, 0)[1]

    def _ask_for_pieces(self, level: int, option: int) -> bool:
        """Have the kernel tell when an answer came in fragments; kernels before 4.13 cannot."""
        try:
            if self.sock is not None:
                self.sock.setsockopt(level, option, 1)
        except OSError:
            return False
        return True

    def close(self) -> None:
        """Close the socket."""
        if self.sock is not None:
            self.sock.close()
            self.sock = None

    def work(self) -> Iterator[Wait]:
        """Do everything; yields what to wait for."""
        self.started = time.monotonic()
        if self.wants_burst:
            yield from self._burst(int(self.terms["count"]))
            if self.lost and self.rtts_ms:
                yield from self._burst(int(self.terms["count"]) * LONGER_BURST)
        if self.wants_size:
            yield from self._find_size(int(self.terms["mtu_bytes"]))
        self.ended = time.monotonic()
        self.done = True

    @property
    def lost(self) -> int:
        """How many of the burst were not answered."""
        return sum(n not in self.rtts_ms for n in self.small)

    def _burst(self, count: int) -> Iterator[Wait]:
        for _ in range(count):
            self.small.append(self._send(84 if self.family == socket.AF_INET else 104))
            yield time.monotonic() + float(self.terms["interval_ms"]) / 1000, lambda: False
        yield time.monotonic() + ECHO_WAIT_S, lambda: not self.lost

    def _find_size(self, wanted: int) -> Iterator[Wait]:
        """Try the wanted size; when it does not get there and back, find the largest that does."""
        tries: list[int] = []
        if not self.wants_burst:
            self._send(84 if self.family == socket.AF_INET else 104)  # to know silence from a size that vanishes
        for _ in range(BIG_TRIES):
            tries.append(self._send(wanted))
            yield time.monotonic() + BIG_WAIT_S, lambda: self._answered(tries) or wanted in self.told
            if self._answered(tries):
                self.largest = wanted
                return
            if self.leg_limit or wanted in self.told or (len(tries) > 1 and not self.rtts_ms):
                break
        yield time.monotonic() + BIG_WAIT_S, lambda: self._answered(tries) or wanted in self.told
        if self._answered(tries):
            self.largest = wanted
        elif not self.leg_limit and self.rtts_ms:
            yield from self._find_largest(wanted)
            if self.largest and wanted not in self.told:
                yield from self._try_one_way(wanted)

    def _find_largest(self, wanted: int) -> Iterator[Wait]:
        """Climb a ladder of sizes, then a finer one between the rung that held and the one that did not."""
        good, bad = 0, wanted
        low = LEAST_MTU[self.family]
        for _ in range(3):
            step = max(1, (bad - low) // LADDER_RUNGS)
            rungs = [n for n in range(low, bad, step) if n > good][: LADDER_RUNGS + 2]
            tries: dict[int, list[int]] = {n: [] for n in rungs}
            for _ in range(2):
                for size, sent in tries.items():
                    if not self._answered(sent):
                        sent.append(self._send(size))
                yield time.monotonic() + BIG_WAIT_S, partial(self._all_answered, tries)
            held = [n for n, sent in tries.items() if self._answered(sent)]
            if not held and not good:
                return
            good = max([good, *held])
            bad = min([n for n in rungs if n > good] + [bad])
            low = good + 1
            if bad - good <= 1:
                break
        self.largest = good

    def _try_one_way(self, wanted: int) -> Iterator[Wait]:
        """See whether only the answers vanish: a datagram to a closed port is answered by a small error."""
        v6 = self.family == socket.AF_INET6
        level = 41 if v6 else 0
        try:
            with open_socket(self.leg, self.family, socket.SOCK_DGRAM, 0.0) as sock:
                sock.setsockopt(level, IPV6_MTU_DISCOVER if v6 else IP_MTU_DISCOVER, PMTUDISC_PROBE)
                bind_source(sock, self.bound)
                sock.connect((self.address, TRACE_PORT + MOST_HOPS + 1))
                for _ in range(BIG_TRIES):
                    try:
                        sock.send(bytes(wanted - HEADER_BYTES[self.family]))
                        yield time.monotonic() + ECHO_WAIT_S, lambda: False
                        sock.recv(16)
                    except ConnectionRefusedError:
                        self.one_way = True
                        return
                    except BlockingIOError:
                        continue
        except OSError:
            return

    def _all_answered(self, tries: dict[int, list[int]]) -> bool:
        return all(map(self._answered, tries.values()))

    def _answered(self, numbers: list[int]) -> bool:
        return any(n in self.rtts_ms for n in numbers)

    def _send(self, size: int) -> int:
        """Send one echo request of so many bytes in all; return its number."""
        self.number = number = (self.number + 1) & 0xFFFF
        packet = pack_echo(self.family, self.ident, number, size - HEADER_BYTES[self.family])
        for _ in range(4):  # a queued error of an earlier packet is reported here first, and then is gone
            if self.sock is None:
                break
            self.out[number] = size, time.time_ns()
            try:
                self.sock.send(packet)
                break
            except OSError as error:
                if error.errno == errno.EMSGSIZE and not self._read_errors() and size not in self.told:
                    self.leg_limit = size
                    break
                if error.errno not in QUEUED_ERRORS | {errno.EMSGSIZE}:
                    self.problem = self.problem or explain(error, self.leg, self.family, 0)[1]
                    break
        return number

    def read(self, *, errors: bool = True) -> None:
        """Take all answers, and all errors where there may be some."""
        if errors:
            self._read_errors()
        while self.sock is not None:
            try:
                data, control, _, _ = self.sock.recvmsg(4096, 256)
            except OSError as error:
                if error.errno in (errno.EAGAIN, errno.EINTR):
                    break
                if not self._read_errors():
                    continue  # it was only told now, and is gone
                continue
            self._take(data, control)

    def _take(self, data: bytes, control: list[tuple[int, int, bytes]]) -> None:
        now, piece = time.time_ns(), 0
        for level, kind, value in control:
            if (level, kind) == (socket.SOL_SOCKET, SO_TIMESTAMPNS) and len(value) >= 16:
                seconds, nanoseconds = struct.unpack_from("qq", value)
                now = seconds * 1_000_000_000 + nanoseconds
            elif (level, kind) in ((0, IP_RECVFRAGSIZE), (41, IPV6_RECVFRAGSIZE)) and len(value) >= 4:
                piece = struct.unpack_from("i", value)[0]
        found = read_echo(data, self.family, self.ident, raw=self.raw)
        if found is None:
            return
        number, size = found
        if number not in self.rtts_ms and self.out.get(number, (0, 0))[0] == size + HEADER_BYTES[self.family] - 8:
            self.rtts_ms[number] = max(0.0, (now - self.out[number][1]) / 1e6)
            if piece:
                self.pieces[number] = piece

    def _read_errors(self) -> int:
        """Take everything from the error queue; return how much there was."""
        count = 0
        while self.sock is not None:
            try:
                _, control, _, _ = self.sock.recvmsg(64, 512, MSG_ERRQUEUE)
            except OSError:
                break
            count += 1
            for level, kind, value in control:
                if (level, kind) in ((41, IPV6_RECVERR), (0, IP_RECVERR)) and len(value) >= 16:
                    self._take_error(value)
        return count

    def _take_error(self, value: bytes) -> None:
        code, origin, _, _, _, info = struct.unpack_from("=IBBBBI", value)
        if code != errno.EMSGSIZE or not info:
            return
        size = max((size for size, _ in self.out.values() if size > info), default=0)
        if origin == ORIGIN_LOCAL:
            self.leg_limit = info
        elif size:
            address = value[16:]
            v6 = self.family == socket.AF_INET6
            who = address[8:24] if v6 else address[4:8]
            said = socket.inet_ntop(self.family, who) if len(who) == (16 if v6 else 4) else "somebody"
            self.told[size] = info, said

    # --- judging ---

    def judge_burst(self) -> FindingData:
        """Judge loss and latency."""
        sent, lost = len(self.small), self.lost
        if self.problem and sent == lost:
            own = "neither ping sockets" in self.problem or "own error" in self.problem
            words = f"{self.address} - expected an answer, found {self.problem}"
            return finding("icmp", UNKNOWN if own else FAILED, words)
        if not self.done and (not sent or lost):
            return finding("icmp", UNKNOWN, f"{self.address} - expected measured, found time over", missing=TIMED_OUT)
        if sent == lost:
            return finding("icmp", FAILED, f"{self.address} - expected an answer, found none to {sent} echo requests")
        rtt_ms = self.median_ms
        held = f"{sent - lost} of {sent} answered"
        if lost > float(self.terms["max_loss"]) * sent:
            most = f"{100 * float(self.terms['max_loss']):g}%"
            words = f"{self.address} - expected at most {most} lost, found {100 * lost / sent:.0f}% ({held})"
            return finding("icmp", FAILED, words, rtt_ms)
        if rtt_ms > float(self.terms["max_rtt_ms"]):
            words = (
                f"{self.address} - expected a median of at most {self.terms['max_rtt_ms']:g} ms, found {rtt_ms:.0f} ms"
            )
            return finding("icmp", FAILED, words, rtt_ms)
        return finding("icmp", PASSED, f"{held} by {self.address}, median {rtt_ms:.1f} ms", rtt_ms)

    @property
    def median_ms(self) -> float:
        """The burst's median round trip."""
        times = sorted(self.rtts_ms[n] for n in self.small if n in self.rtts_ms)
        return round(times[len(times) // 2], 2) if times else 0.0

    def judge_size(self, aspect: str) -> FindingData:
        """Judge whether packets of the wanted size get through."""
        wanted = int(self.terms["mtu_bytes"])
        expected = f"{self.address} - expected packets of {wanted} bytes to get there"
        ms = round((self.ended - self.started) * 1000, 1)
        if self.largest >= wanted:
            return finding(aspect, PASSED, f"{wanted} bytes get to {self.address} in one piece", ms)
        if self.leg_limit:
            limit = f"at most {self.leg_limit}" if self.leg_limit < wanted else "less"
            where = f"leg {self.leg}" if self.leg else "this host"
            return finding(aspect, FAILED, f"{expected}, found that {where} sends {limit} bytes", ms)
        if wanted in self.told:
            most, who = self.told[wanted]
            return finding(aspect, FAILED, f"{expected}, found at most {most} (so says {who})", ms)
        if not self.done:
            return finding(aspect, UNKNOWN, f"{expected}, found time over", missing=TIMED_OUT)
        if self.one_way:
            return finding(aspect, PASSED, f"{wanted} bytes get to {self.address}; the answers to them vanish", ms)
        if self.largest:
            words = f"found a black hole: they vanish without a word; the largest that passed {self.largest} bytes"
            return finding(aspect, FAILED, f"{expected}, {words}", ms)
        if self.problem:
            return finding(aspect, UNKNOWN, f"{expected}, found {self.problem}")
        words = f"{self.address} - expected an answer to packets of some size, found none"
        return finding(aspect, UNKNOWN, words, ms, TIMED_OUT)

    def judge_answers(self) -> FindingData:
        """Judge the way back by the answers to packets of the wanted size: they are as large."""
        wanted = int(self.terms["mtu_bytes"])
        expected = f"answers of {wanted} bytes from {self.address} - expected in one piece"
        whole = [n for n, (size, _) in self.out.items() if size == wanted and n in self.rtts_ms]
        if any(n not in self.pieces for n in whole) and self.tells_pieces:
            return finding("mtu-back", PASSED, f"{wanted} bytes come from {self.address} in one piece")
        if whole and self.tells_pieces:
            # Perhaps only by what the server remembers of a narrower way; its own side knows.
            most = max(self.pieces[n] for n in whole)
            return finding("mtu-back", UNKNOWN, f"{expected}, found in fragments of {most}")
        if self.one_way and self.largest:
            words = f"{expected}, found a black hole: they vanish without a word; the largest that came {self.largest}"
            return finding("mtu-back", FAILED, words)
        return finding("mtu-back", UNKNOWN, f"{expected}, found none", missing=TIMED_OUT)

    @property
    def data(self) -> dict[str, Any]:
        """What was measured, for the record."""
        times = sorted(self.rtts_ms[n] for n in self.small if n in self.rtts_ms)
        out: dict[str, Any] = {}
        if self.wants_burst:
            out["echo"] = {"sent": len(self.small), "answered": len(times), "ms": [round(t, 2) for t in times[:25]]}
        if self.wants_size:
            out["bytes"] = self.largest
        return out

    @property
    def seen(self) -> dict[str, Any]:
        """Every packet in order, as bytes and the milliseconds until its answer (none: lost), and what others said."""
        sent = [[size, round(self.rtts_ms[n], 2) if n in self.rtts_ms else None] for n, (size, _) in self.out.items()]
        said = {str(size): told for size, told in self.told.items()}
        return {"sent": sent[:MOST_ECHOES], "of": len(sent), "too_big": said, "pieces": list(self.pieces.values())[:4]}


class Echoes:
    """All echoes of a run at once, in one thread: each goes on when what it waits for is there, or its time is over."""

    def __init__(self, echoes: list[Echo], pace_s: float = 0.0) -> None:
        self.echoes, self.pace_s = echoes, pace_s
        self.poller = select.poll()
        self.at_work: dict[int, tuple[Echo, Iterator[Wait]]] = {}
        self.waits: dict[int, Wait] = {}
        self.heap: list[tuple[float, int]] = []

    def run(self, until: float) -> None:
        """Go on until all are done or the deadline; each begins a little after the one before."""
        self._open()
        while self.waits and self.heap and time.monotonic() < until:
            while self.heap and self.heap[0][0] <= time.monotonic():
                due, number = heapq.heappop(self.heap)
                if number in self.waits and self.waits[number][0] == due:
                    self.at_work[number][0].read()
                    self._go_on(number)
            left_s = self.heap[0][0] - time.monotonic() if self.heap else 0.0
            for number, events in self.poller.poll(max(0, min(int(left_s * 1000) + 1, 1000))):
                self.at_work[number][0].read(errors=bool(events & select.POLLERR))
                if number in self.waits and self.waits[number][1]():
                    self._go_on(number)
        for echo, _ in self.at_work.values():
            echo.close()

    def _open(self) -> None:
        begun = time.monotonic()
        for place, echo in enumerate(self.echoes):
            echo.open()
            if echo.sock is None or echo.problem:
                echo.done = True
                echo.close()
                continue
            number = echo.sock.fileno()
            self.poller.register(echo.sock, select.POLLIN | select.POLLERR)
            self.at_work[number] = echo, echo.work()
            self._wait(number, (begun + place * self.pace_s, lambda: False))

    def _wait(self, number: int, wait: Wait) -> None:
        self.waits[number] = wait
        heapq.heappush(self.heap, (wait[0], number))

    def _go_on(self, number: int) -> None:
        echo, work = self.at_work[number]
        try:
            wait = next(work)
            while wait[1]():  # what it would wait for is there already
                wait = next(work)
            self._wait(number, wait)
        except StopIteration:
            self.waits.pop(number, None)
            self.poller.unregister(number)
            echo.close()


# --- throughput ------------------------------------------------------------------------------------------------------


def send_floor(check: dict[str, Any], flow: dict[str, Any]) -> tuple[FindingData, dict[str, Any]]:
    """Send at the line's floor, never faster, for a moment, to the sink at the server; say how much of it arrived."""
    kbps, seconds, token = int(flow["kbps"]), float(flow["seconds"]), flow["token"].encode()
    where = f"{kbps} kbit/s to {check['address']}"
    started = time.monotonic()
    try:
        with open_socket(check["interface"], family_of(check), socket.SOCK_DGRAM, 0.0) as sock:
            sock.connect((check["address"], int(flow["port"])))
            if not _ask_sink(sock, token + b"H", float(flow["wait_s"])):
                words = f"{where} - expected a sink at the server, found no answer from port {flow['port']}"
                return finding("throughput", UNKNOWN, words, missing=TIMED_OUT), {}
            sent, took = _send_evenly(sock, token, kbps, seconds)
            told = _ask_sink(sock, token + b"E", 3.0)
    except OSError as error:
        outcome, words = explain(error, check["interface"], family_of(check), 0)
        return finding("throughput", outcome, f"{where} - expected carried, found {words}"), {}
    ms = (time.monotonic() - started) * 1000
    if not told:
        words = f"{where} - expected the sink's count, found silence"
        return finding("throughput", UNKNOWN, words, ms, TIMED_OUT), {}
    got = int(told[len(token) + 1 :])
    raw = {"throughput": {"sent_bytes": sent, "got_bytes": got, "seconds": round(took, 3)}}
    if sent * 8 / 1000 / took < FLOOR_SHARE * kbps:
        words = f"{where} - expected sent, found that the station itself sent {sent * 8 / 1000 / took:.0f} kbit/s"
        return finding("throughput", UNKNOWN, words, ms), raw
    carried = got * 8 / 1000 / took
    if got < FLOOR_SHARE * sent:
        return finding("throughput", FAILED, f"{where} - expected carried, found {carried:.0f} kbit/s arrive", ms), raw
    return finding("throughput", PASSED, f"{where} carried: {got} of {sent} bytes arrived", ms), raw


def _ask_sink(sock: socket.socket, words: bytes, patience_s: float) -> bytes:
    """Repeat a question until the sink answers it; empty when it does not."""
    ends = time.monotonic() + patience_s
    while time.monotonic() < ends:
        try:
            sock.settimeout(0.3)
            sock.send(words)
            answer = sock.recv(256)
            if answer.startswith(words):
                return answer
        except socket.timeout:
            continue
        except ConnectionRefusedError:
            time.sleep(0.1)  # not there yet
    return b""


def _send_evenly(sock: socket.socket, token: bytes, kbps: int, seconds: float) -> tuple[int, float]:
    packet = token + b"D" + bytes(FLOOR_PACKET_BYTES - len(token) - 1)
    begun, sent = time.monotonic(), 0
    sock.settimeout(1.0)
    while True:
        now = time.monotonic() - begun
        if now >= seconds:
            return sent, now
        if sent * 8 <= kbps * 1000 * now:
            sock.send(packet)
            sent += len(packet)
        else:
            time.sleep(0.001)


def count_flows(sinks: list[dict[str, Any]], until: float) -> None:
    """Be the sink: count what arrives of each flow, and answer those who know a flow's token; until all have ended."""
    counts: dict[bytes, int] = {}
    ended: set[bytes] = set()
    poller = select.poll()
    held: dict[int, socket.socket] = {}
    for address, port in sorted({(s["address"], int(s["port"])) for s in sinks}):
        sock = socket.socket(family_by_address(address), socket.SOCK_DGRAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        try:
            sock.bind((address, port))
        except OSError as error:
            if error.errno != errno.EADDRNOTAVAIL:
                raise
            sock.bind(("", port))  # a host beside the server
        sock.setblocking(False)
        held[sock.fileno()] = sock
        poller.register(sock, select.POLLIN)
    tokens = {s["token"].encode() for s in sinks}
    size = len(next(iter(tokens)))
    while ended != tokens and time.monotonic() < until:
        for number, _ in poller.poll(200):
            try:
                while True:
                    data, peer = held[number].recvfrom(2048)
                    token, kind = data[:size], data[size : size + 1]
                    if token not in tokens:
                        continue
                    if kind == b"D":
                        counts[token] = counts.get(token, 0) + len(data)
                    else:
                        held[number].sendto(token + kind + str(counts.get(token, 0)).encode(), peer)
                        ended |= {token} if kind == b"E" else set()
            except OSError:
                continue


# --- the run ---------------------------------------------------------------------------------------------------------


class Session:
    """How the controller came here: its address, ours, and the interface that has ours."""

    def __init__(self) -> None:
        self.peer = self.local = self.interface = self.problem = ""

    def look(self) -> None:
        """Read it from sshd's SSH_CONNECTION."""
        words = os.environ.get("SSH_CONNECTION", "").split()
        if len(words) != 4:
            self.problem = "sshd does not say over which connection (SSH_CONNECTION)"
            return
        peer, local = (w.partition("%")[0] for w in (words[0], words[2]))
        self.peer, self.local = (w[7:] if w.lower().startswith("::ffff:") and "." in w else w for w in (peer, local))
        try:
            names = [name for _, name in socket.if_nameindex()]
        except OSError:
            names = []
        self.interface = next((n for n in names if self.local in [a for f in leg_addresses(n).values() for a in f]), "")

    @property
    def data(self) -> dict[str, Any]:
        """What goes home."""
        return {"peer": self.peer, "local": self.local, "interface": self.interface, "problem": self.problem}


class Pace:
    """So many starts a second, whoever starts; any number where it is 0."""

    def __init__(self, per_s: float) -> None:
        self.gap_s, self.next, self.lock = 1 / per_s if per_s > 0 else 0.0, 0.0, threading.Lock()

    def wait(self) -> None:
        """Wait for one's turn."""
        with self.lock:
            now = time.monotonic()
            turn = max(now, self.next)
            self.next = turn + self.gap_s
        if turn > now:
            time.sleep(turn - now)


class Run:
    """One request: pieces of work that checks share, done side by side until all is done or the time is over."""

    def __init__(self, request: dict[str, Any]) -> None:
        self.request = request
        self.begun, self.clock_at_begin = time.monotonic(), time.time()
        self.deadline_s = float(request.get("deadline_s", 40))
        self.until = self.begun + self.deadline_s
        self.timeout = float(request.get("timeout_s", 3))
        self.blocked_timeout = float(request.get("blocked_timeout_s", min(self.timeout, 1.5)))
        self.trust = Trust(request.get("ca_file"))
        self.checks: list[Any] = request["checks"]
        self.work: dict[Key, Callable[[], Any]] = {}
        self.late_work: dict[Key, Callable[[], Any]] = {}
        self.done: dict[Key, Any] = {}
        self.broken: dict[Key, str] = {}
        self.done_at: dict[Key, float] = {}
        self.traces: dict[Key, Trace] = {}
        self.echoes: dict[Key, Echo] = {}
        self.pace_s = float(request.get("pace_ms", 0)) / 1000
        self.pace = Pace(float(request.get("probes_per_s", 0)))
        self.tracer = Tracer([], self.pace_s)
        self.trace_done = threading.Event()
        self.refused: dict[int, str] = {}
        self.ways: list[Any] = request.get("ways", [])
        self.refused_ways: dict[int, str] = {}
        self.session = Session()
        self.own_resolvers: dict[str, dict[str, Any]] = {}
        self.own_hosts: dict[str, dict[str, Any]] = {}

    def plan(self) -> None:
        """Lay out the work: each name asked, each service tried and each way traced once."""
        for number, check in enumerate(self.checks):
            try:
                self._plan_check(check)
            except (KeyError, TypeError, ValueError, AttributeError, OSError) as error:
                self.refused[number] = f"the check cannot be read ({type(error).__name__}: {error})"
        for number, way in enumerate(self.ways):
            try:
                self._plan_way(way)
            except (KeyError, TypeError, ValueError, AttributeError, OSError) as error:
                self.refused_ways[number] = f"the way cannot be read ({type(error).__name__}: {error})"
        if self.request.get("session"):
            self.session.look()
            if self.session.peer:
                family = family_by_address(self.session.peer)
                self.traces["session",] = Trace("", family, self.session.peer)

    def _plan_way(self, way: dict[str, Any]) -> None:
        """Lay out what a host at the service's side measures: the way back to a station."""
        family, address, source = family_of(way), str(way["address"]), str(way["source"])
        leg = str(way.get("leg", ""))
        for one in (address, source or address):
            socket.inet_pton(family, one)
        str(way["id"])
        if "return" in way["way"]:
            self.traces["back", way["id"]] = trace = Trace(leg, family, address, source=source, echo=True)
            trace.ends = frozenset(map(str, way.get("ends", ())))
        wanted = {"icmp", "mtu-back"} & set(way["way"])
        if wanted:
            self.echoes["back", way["id"]] = echo = Echo(leg, family, address, source, self.request["echo"])
            echo.wants_burst, echo.wants_size = "icmp" in wanted, "mtu-back" in wanted

    def _plan_echo(self, check: dict[str, Any]) -> None:
        wanted = {"icmp", "mtu", "mtu-back"} & set(check.get("way", ()))
        if wanted:
            key = self._echo_key(check)
            if key not in self.echoes:
                self.echoes[key] = Echo(
                    check["interface"], family_of(check), check["address"], "", self.request["echo"]
                )
            self.echoes[key].wants_burst |= "icmp" in wanted
            self.echoes[key].wants_size |= bool({"mtu", "mtu-back"} & wanted)

    @staticmethod
    def _echo_key(check: dict[str, Any]) -> Key:
        return ("echo", check["interface"], family_of(check), check["address"])

    def _plan_check(self, check: dict[str, Any]) -> None:
        int(check["port"])
        leg, family, address = check["interface"], family_of(check), check["address"]
        socket.inet_pton(family, address) if isinstance(address, str) else self._bad("address")
        if not isinstance(leg, str) or not isinstance(check["id"], str) or not isinstance(check["dns_name"], str):
            self._bad("text")
        blocked = check["expect"] == "blocked"
        if blocked:
            self.late_work[service_key(check)] = partial(self._probe_late, check)
        else:
            if dns_key(check):
                key = dns_key(check)
                asks = [key[2]] if key[2] else self.resolvers_of(leg)["names"] or []
                self.work[key] = partial(probe_dns, leg, asks, key[3], key[4], self.timeout)
            if check["protocol"] != "dns":
                self.work[service_key(check)] = partial(probe_service, check, self.timeout, self.trust)
        if check.get("trace", True):
            key = ("trace", leg, family, address)
            if key not in self.traces or not blocked:
                self.traces[key] = Trace(leg, family, address, single=blocked)
        if not blocked:
            self._plan_echo(check)

    def resolvers_of(self, leg: str) -> dict[str, Any]:
        """Return whom this host asks for names from a leg, and whether it asks at all; read once."""
        if leg not in self.own_resolvers:
            self.own_resolvers[leg] = {**read_resolvers(leg), "lookups": read_lookups(leg)}
        return self.own_resolvers[leg]

    def find_in_hosts(self, leg: str, name: str) -> dict[str, Any]:
        """Return what the host's own table says of a name; it is read once a leg."""
        if leg not in self.own_hosts:
            self.own_hosts[leg] = read_hosts(leg)
        table = self.own_hosts[leg]
        names = table["names"]
        return {"file": table["file"], "addresses": None if names is None else names.get(name.rstrip(".").lower(), [])}

    @staticmethod
    def _bad(what: str) -> None:
        raise ValueError(f"{what} expected")

    def run(self) -> None:
        """Do the work; come back when it is done or the time is over."""
        self.tracer.traces = list(self.traces.values())
        tracer = threading.Thread(target=self._trace, daemon=True)
        echoer = threading.Thread(target=self._echo, daemon=True)
        tracer.start()
        echoer.start()
        self._run_all([*self.work.items(), *self.late_work.items()])
        tracer.join(max(0.0, self.until - time.monotonic()))
        echoer.join(max(0.0, self.until - time.monotonic()))
        gaps: list[tuple[Key, Callable[[], Any]]] = []
        for key, trace in self.traces.items():
            if trace.leg and trace.reached is None and not trace.single and not trace.problem and not trace.turned_away:
                port = self._open_port(key)
                if port:
                    gaps.append((("gap", *key), partial(trace.close_gap, port, self.blocked_timeout)))
        if gaps:
            self._run_all(gaps)

    def _open_port(self, key: Key) -> int | None:
        for check in self.checks:
            found = self.done.get(service_key(check)) if isinstance(check, dict) and "id" in check else None
            if found is not None and found.connected and self._trace_key(check) == key:
                return int(check["port"])
        return None

    def _probe_late(self, check: dict[str, Any]) -> Probe:
        self.tracer.open_done.wait(max(0.0, self.until - time.monotonic()))
        return probe_blocked(check, self.blocked_timeout, self.trust)

    def _trace(self) -> None:
        try:
            self.tracer.run(self.until, self.blocked_timeout)
        except Exception as error:  # noqa: BLE001 - one broken tracer must not lose the rest
            for trace in self.traces.values():
                trace.problem = trace.problem or f"the tracer broke ({type(error).__name__}: {error})"
        self.tracer.open_done.set()
        self.trace_done.set()

    def _echo(self) -> None:
        try:
            Echoes(list(self.echoes.values()), self.pace_s / 5).run(self.until)
        except Exception as error:  # noqa: BLE001 - one broken echo must not lose the rest
            for echo in self.echoes.values():
                echo.problem = echo.problem or f"the station's own error: {type(error).__name__}: {error}"

    def _run_all(self, work: list[tuple[Key, Callable[[], Any]]]) -> None:
        todo: queue.SimpleQueue[tuple[Key, Callable[[], Any]]] = queue.SimpleQueue()
        for item in work:
            todo.put(item)
        count = min(int(self.request.get("parallel", 32)), len(work))
        threads = [threading.Thread(target=self._take_work, args=(todo,), daemon=True) for _ in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(max(0.0, self.until - time.monotonic()))

    def _take_work(self, todo: queue.SimpleQueue[tuple[Key, Callable[[], Any]]]) -> None:
        while time.monotonic() < self.until:
            try:
                key, action = todo.get_nowait()
            except queue.Empty:
                return
            self.pace.wait()
            try:
                self.done[key] = action()
            except Exception as error:  # noqa: BLE001 - one exploding probe must not lose the others
                self.broken[key] = f"the probe broke ({type(error).__name__}: {error})"
            self.done_at[key] = time.time()

    # --- judging ---

    def answer(self) -> dict[str, Any]:
        """Return the document: every check, in the order asked."""
        alive = self._living_legs()
        out = []
        for number, check in enumerate(self.checks):
            try:
                if number in self.refused:
                    unread = finding("agent", UNKNOWN, self.refused[number], missing=UNPARSABLE)
                    out.append(self._one(check, [unread], {}, {}))
                elif check["expect"] == "blocked":
                    out.append(self._blocked(check, alive))
                else:
                    out.append(self._reach(check))
            except Exception as error:  # noqa: BLE001 - the document must hold every check
                words = f"the agent broke ({type(error).__name__}: {error})"
                out.append(self._one(check, [finding("agent", UNKNOWN, words)], {}, {}))
        legs = sorted({str(c.get("interface")) for c in self.checks if isinstance(c, dict)})
        return {
            "format": 2,
            "nonce": self.request.get("nonce"),
            "host": socket.gethostname(),
            "python": sys.version.split()[0],
            "started": self.clock_at_begin,
            "ended": time.time(),
            "cpu_s": round(time.process_time(), 3),
            "legs": {leg: leg_addresses(leg) for leg in legs},
            "checks": out,
            "certificates": dict(CERTIFICATES),
            "ways": [self._way_back(number, way) for number, way in enumerate(self.ways)],
            "session": self._session(),
        }

    def _session(self) -> dict[str, Any]:
        if not self.request.get("session"):
            return {}
        trace = self.traces.get(("session",))
        return {**self.session.data, "trace": self._finished(trace) if trace else {}}

    def _way_back(self, number: int, way: Any) -> dict[str, Any]:
        out: dict[str, Any] = {"id": way.get("id") if isinstance(way, dict) else None, "at": time.time()}
        if number in self.refused_ways:
            return {**out, "problem": self.refused_ways[number]}
        trace, echo = self.traces.get(("back", way["id"])), self.echoes.get(("back", way["id"]))
        if trace is not None:
            out["trace"] = self._finished(trace)
        if echo is not None:
            out["findings"] = [echo.judge_burst()] if echo.wants_burst else []
            out["findings"] += [echo.judge_size("mtu-back")] if echo.wants_size else []
            out["raw"] = echo.data
            out["seen"] = {"echo": echo.seen}
        return out

    def _finished(self, trace: Trace) -> dict[str, Any]:
        data = trace.data
        if not self.trace_done.is_set() and not trace.done:
            data["problem"] = data["problem"] or f"not run by the deadline of {self.deadline_s:g} s"
        return data

    def _living_legs(self) -> dict[tuple[str, str], str]:
        """Legs (with family) that brought something back in this run, and what."""
        alive: dict[tuple[str, str], str] = {}
        for number, check in enumerate(self.checks):
            if number in self.refused:
                continue
            found = self.done.get(service_key(check))
            if check["expect"] != "reach":
                if found is not None and found.heard:
                    alive.setdefault((check["interface"], check["family"]), f"a router answers: {found.silence}")
                continue
            if found is not None and found.connected:
                alive[check["interface"], check["family"]] = f"{check['address']} answers"
            said = self.done.get(dns_key(check)) if dns_key(check) else None
            if said is not None and said["addresses"]:
                family = "ipv6" if ":" in said["answered"] else "ipv4"
                alive.setdefault((check["interface"], family), f"{said['answered']} answers")
        for trace in self.traces.values():
            if not trace.leg:
                continue
            family = "ipv6" if trace.family == socket.AF_INET6 else "ipv4"
            router = trace.turned_away[1] if trace.turned_away else next(iter(trace.hops.values()), "")
            if router:
                alive.setdefault((trace.leg, family), f"router {router} answers")
        return alive

    def _reach(self, check: dict[str, Any]) -> dict[str, Any]:
        findings: list[FindingData] = []
        raw: dict[str, Any] = {}
        seen: dict[str, Any] = {}
        ends = []
        key = dns_key(check)
        if key:
            ends.append(self.done_at.get(key))
            findings.append(self._dns_finding(check, key, raw))
            seen["dns"] = (self.done.get(key) or {}).get("seen")
        if check["protocol"] != "dns":
            service = service_key(check)
            ends.append(self.done_at.get(service))
            found = self.done.get(service)
            if found is not None:
                findings.extend(found.findings)
                raw.update(found.raw)
                seen.update(found.seen)
            else:
                findings.append(
                    finding("tcp", UNKNOWN, self._why_missing(service), missing=self._name_missing(service))
                )
        echo = self.echoes.get(self._echo_key(check))
        wanted = check.get("way", ())
        if echo is not None:
            raw.update(echo.data)
            seen["echo"] = echo.seen
            findings += [echo.judge_burst()] if "icmp" in wanted else []
            findings += [echo.judge_size("mtu")] if "mtu" in wanted else []
            findings += [echo.judge_answers()] if "mtu-back" in wanted else []
        return self._one(check, findings, raw, self._trace_data(check), ends, seen=seen)

    def _dns_finding(self, check: dict[str, Any], key: Key, raw: dict[str, Any]) -> FindingData:
        if not key[2]:
            raw["resolvers"] = {**self.resolvers_of(key[1]), "hosts": self.find_in_hosts(key[1], check["dns_name"])}
        said = self.done.get(key)
        if said is None:
            return finding("dns", UNKNOWN, self._why_missing(key), missing=self._name_missing(key))
        if not key[2]:
            raw["resolvers"] |= {"answered": said["answered"], "silent": said["silent"]}
        addresses, ms = said["addresses"], said["ms"]
        raw["dns"] = addresses
        kind = "AAAA" if check["family"] == "ipv6" else "A"
        asked = f"{kind} of {check['dns_name']}"
        if said["outcome"] != PASSED:
            return finding("dns", said["outcome"], f"{asked} - expected {check['address']}, found {said['words']}", ms)
        family = family_of(check)
        if addresses != [socket.inet_ntop(family, socket.inet_pton(family, check["address"]))]:
            return finding("dns", FAILED, f"{asked} - expected {check['address']}, found {', '.join(addresses)}", ms)
        late = "".join(f" ({words} from {resolver})" for resolver, words in said["silent"].items())
        return finding("dns", PASSED, f"{asked} is {addresses[0]}, says {said['answered']}{late}", ms)

    def _blocked(self, check: dict[str, Any], alive: dict[tuple[str, str], str]) -> dict[str, Any]:
        key = service_key(check)
        found = self.done.get(key)
        ends = [self.done_at.get(key)]
        if found is None:
            missing = finding("tcp", UNKNOWN, self._why_missing(key), missing=self._name_missing(key))
            return self._one(check, [missing], {}, {}, ends)
        findings = list(found.findings)
        raw = dict(found.raw)
        trace = self.traces.get(self._trace_key(check))
        if trace is not None and trace.single and trace.reached and findings[0]["outcome"] == PASSED:
            words = f"{check['address']} itself - expected out of reach, found it answers UDP"
            findings.append(finding("path", FAILED, words))
        control = alive.get((check["interface"], check["family"]))
        raw["control"] = control
        if findings[0]["outcome"] == PASSED and control is None:
            where = show(check["address"], check["port"])
            dead = f"leg {check['interface']} dead ({found.silence})"
            words = f"{where} - expected blocked on a working leg, found {dead}"
            findings[0] = finding(findings[0]["aspect"], UNKNOWN, words, findings[0]["ms"])
        if trace is not None and trace.turned_away:
            raw["turned_away"] = trace.turned_away[1]
        return self._one(check, findings, raw, {}, ends, seen=found.seen)

    def _why_missing(self, key: Key) -> str:
        return self.broken.get(key) or f"not run by the deadline of {self.deadline_s:g} s"

    def _name_missing(self, key: Key) -> str:
        return NEVER_RUN if key in self.broken else TIMED_OUT

    @staticmethod
    def _trace_key(check: dict[str, Any]) -> Key:
        return ("trace", check["interface"], family_of(check), check["address"])

    def _trace_data(self, check: dict[str, Any]) -> dict[str, Any]:
        if not check.get("trace", True):
            return {}
        trace = self.traces.get(self._trace_key(check))
        return {} if trace is None else self._finished(trace)

    def _one(
        self,
        check: Any,
        findings: list[FindingData],
        raw: dict[str, Any],
        trace: dict[str, Any],
        ends: list[float | None] | None = None,
        *,
        seen: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        times = [t for t in ends or () if t is not None]
        return {
            "id": check.get("id") if isinstance(check, dict) else None,
            "findings": findings,
            "raw": raw,
            "seen": seen or {},
            "trace": trace,
            "at": max(times) if times else time.time(),
        }


def finding(aspect: str, outcome: str, detail: str, ms: float | None = None, missing: str = NEVER_RUN) -> FindingData:
    """Return a finding as data; `missing` names why it is unknown, where it is."""
    name = missing if outcome == UNKNOWN else None
    return {"aspect": aspect, "outcome": outcome, "detail": detail, "ms": ms, "missing": name}


def dns_key(check: dict[str, Any]) -> Key:
    """Name the question a check asks, of one resolver or of the leg's own (named by nothing); empty when it asks none."""
    resolver = check["address"] if check["protocol"] == "dns" else check.get("resolver")
    if not resolver:
        return ()
    own = check["protocol"] != "dns" and check.get("resolvers")
    return ("dns", check["interface"], "" if own else resolver, check["dns_name"], check["family"])


def service_key(check: dict[str, Any]) -> Key:
    """Name the try of a check's service."""
    return ("service", check["id"])


def measure(request: dict[str, Any]) -> dict[str, Any]:
    """Run a request to its end and return the document."""
    if request.get("sinks"):
        count_flows(request["sinks"], time.monotonic() + float(request.get("deadline_s", 40)))
        return {"format": 2, "nonce": request.get("nonce")}
    if request.get("flow"):
        found, raw = send_floor(request["flow"]["check"], request["flow"])
        return {"format": 2, "nonce": request.get("nonce"), "finding": found, "raw": raw}
    run = Run(request)
    run.plan()
    run.run()
    return run.answer()


def main(text: str) -> None:
    """Answer a packed request on standard output, and end: threads that still wait are not waited for."""
    request = json.loads(zlib.decompress(base64.b64decode(text)))
    line = f"\n{SENTINEL} {request.get('nonce')} {json.dumps(measure(request), ensure_ascii=True)}\n"
    sys.stdout.write(line)
    sys.stdout.flush()
    os._exit(0)
