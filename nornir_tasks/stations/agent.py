"""Measure from a service station: one file, standard library only, Python 3.9 or later, sent over SSH and run there.

It needs no file on the station but the CA bundle, binds every probe to the leg it is for (SO_BINDTODEVICE), and prints
one line: `SENTINEL`, the nonce of the request, a JSON document. Every check asked for is in that document:
what did not run by the deadline is `unknown`, by name. It judges everything but whose routers the hops are, which only
the county's plan can tell; hops go back as addresses.
"""

# ruff: noqa: UP041 - on a station's Python 3.9 socket.timeout is not yet TimeoutError
from __future__ import annotations

import base64
import errno
import json
import os
import queue
import re
import select
import socket
import ssl
import struct
import sys
import threading
import time
import zlib
from collections.abc import Callable
from functools import partial
from typing import Any

SENTINEL = "EXTRANET-STATION-ANSWER"
PASSED, FAILED, UNKNOWN = "passed", "failed", "unknown"

TRACE_ROUNDS_S = (0.0, 0.4, 1.0, 1.8, 2.8)
"""When hops that have not answered are asked again: routers limit how often they say `time exceeded`."""
TRACE_PAUSE_S = 1.0
"""After these, as long as each round still brings something new (Linux routers say it once a second to each of us)."""
TRACE_PORT = 33434
FIRST_HOPS, MOST_HOPS = 8, 24

# From the kernel's headers: Python 3.9's socket module does not name them all.
SO_BINDTODEVICE = 25
IP_TTL, IP_RECVERR, IPV6_RECVERR, IPV6_HOPLIMIT, IPV6_UNICAST_HOPS = 2, 11, 25, 52, 16
MSG_ERRQUEUE = 0x2000
ORIGIN_LOCAL = 1
X509_IGNORE_TIME = 0x200000

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

FindingData = dict[str, Any]
Key = tuple[Any, ...]


class Probe:
    """What one piece of work found: findings and a little raw data; `silence` is how a blocked try was turned away."""

    def __init__(self) -> None:
        self.findings: list[FindingData] = []
        self.raw: dict[str, Any] = {}
        self.connected = False
        self.silence = ""

    def note(self, aspect: str, outcome: str, detail: str, since: float | None = None) -> None:
        """Add a finding; `since` is when its work began."""
        ms = None if since is None else round((time.monotonic() - since) * 1000, 1)
        self.findings.append({"aspect": aspect, "outcome": outcome, "detail": detail, "ms": ms})


def family_of(check: dict[str, Any]) -> int:
    """Return the socket family of a check."""
    return socket.AF_INET6 if check["family"] == "ipv6" else socket.AF_INET


def family_by_address(address: str) -> int:
    """Return the socket family an address belongs to."""
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def show(address: str, port: int) -> str:
    """Write an address and port as people do."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def open_socket(leg: str, family: int, kind: int, timeout: float) -> socket.socket:
    """Open a socket that uses one leg only; OSError ENODEV when the station has no such leg."""
    sock = socket.socket(family, kind)
    try:
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


def explain(error: OSError, leg: str, family: int, timeout: float) -> tuple[str, str]:
    """Return (outcome, words) for a network error: an error of the network is a failure, one of the station unknown."""
    if isinstance(error, socket.timeout):
        return FAILED, f"no answer in {timeout:g} s"
    words = NETWORK_ERRORS.get(error.errno or 0)
    if words is None:
        return UNKNOWN, f"the station's own error: {error.strerror or error}"
    if error.errno in (errno.ENETUNREACH, errno.EADDRNOTAVAIL, errno.ENETDOWN):
        name = "ipv6" if family == socket.AF_INET6 else "ipv4"
        if not leg_addresses(leg)[name]:
            words += f" (leg {leg} has no {'IPv6' if name == 'ipv6' else 'IPv4'} address)"
    return FAILED, words


# --- DNS -------------------------------------------------------------------------------------------------------------


class DnsAnswer:
    """What a resolver said: the addresses of the name asked for, through its aliases."""

    def __init__(self, addresses: list[str], rcode: int, truncated: bool) -> None:  # noqa: FBT001 - a record of three
        self.addresses, self.rcode, self.truncated = addresses, rcode, truncated


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
    return DnsAnswer(sorted(set(addresses)), flags & 0xF, bool(flags & 0x0200))


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


def probe_dns(leg: str, resolver: str, name: str, family: str, timeout: float) -> tuple[str, str, list[str], float]:
    """Ask once for all checks that need this name; return (outcome so far, words, addresses, milliseconds)."""
    started = time.monotonic()
    kind, qtype = ("AAAA", 28) if family == "ipv6" else ("A", 1)
    outcome, words, addresses = PASSED, "", []
    try:
        answer = ask_dns(leg, resolver, name, qtype, timeout)
    except OSError as error:
        outcome, words = explain(error, leg, family_by_address(resolver), timeout)
        words = f"{words} from {resolver}"
    except ValueError as error:
        outcome, words = FAILED, f"{error} from {resolver}"
    else:
        addresses = answer.addresses
        if answer.rcode:
            codes = {1: "FORMERR", 2: "SERVFAIL", 3: "NXDOMAIN", 4: "NOTIMP", 5: "REFUSED"}
            outcome, words = FAILED, f"{codes.get(answer.rcode, f'rcode {answer.rcode}')} from {resolver}"
        elif not addresses:
            outcome, words = FAILED, f"no {kind} record at {resolver}"
    return outcome, words, addresses, round((time.monotonic() - started) * 1000, 1)


# --- services --------------------------------------------------------------------------------------------------------


class Trust:
    """TLS contexts, made once: the strict one judges, the lenient ones only tell whose certificate a bad one is."""

    def __init__(self, ca_file: str | None) -> None:
        self._ca_file, self._lock = ca_file, threading.Lock()
        self._made: dict[str, ssl.SSLContext] = {}

    def context(self, kind: str) -> ssl.SSLContext:
        """Return the `strict`, `lenient` (chain only) or `blind` context."""
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
    """Tell whether the marker stands in the data as a word of its own."""
    return re.search(rb"(?<![\w-])" + re.escape(marker.encode()) + rb"(?![\w-])", data) is not None


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
    if has_marker(data, marker):
        probe.note("marker", PASSED, f"{marker!r} answers", started)
    else:
        found = repr(first_bytes(data)) if data else f"silence for {timeout:g} s"
        probe.note("marker", FAILED, f"first words - expected {marker!r}, found {found}", started)


def probe_web(check: dict[str, Any], sock: socket.socket, timeout: float, trust: Trust, probe: Probe) -> None:
    """Judge the certificate by chain, name and date; then the page."""
    started = time.monotonic()
    name = check["dns_name"]
    try:
        context = trust.context("strict")
    except (OSError, ssl.SSLError) as error:
        probe.note("tls", UNKNOWN, f"CA bundle on the station - expected readable, found {error}", started)
        return
    try:
        sock.settimeout(timeout)
        tls = context.wrap_socket(sock, server_hostname=name)
    except ssl.SSLCertVerificationError as error:
        held = look_at_bad_certificate(check, timeout, trust)
        probe.raw["cert"] = held
        found = error.verify_message.rstrip(".") or "not valid"
        extra = "; ".join(f"{k} {v}" for k, v in held.items() if v)
        words = f"certificate of {name} - expected valid, found {found}"
        probe.note("tls", FAILED, words + (extra and f" ({extra})"), started)
        return
    except (OSError, ssl.SSLError) as error:
        if isinstance(error, socket.timeout):
            words = f"no handshake in {timeout:g} s"
        else:
            words = getattr(error, "reason", None) or NETWORK_ERRORS.get(error.errno or 0) or str(error)
            words = str(words).lower().replace("_", " ")
        probe.note("tls", FAILED, f"handshake as {name} - expected done, found {words}", started)
        return
    with tls:
        held = describe_certificate(tls)
        probe.raw["cert"] = held
        probe.note("tls", PASSED, f"certificate of {name}, valid until {held['not_after']}", started)
        probe_page(check, tls, timeout, probe)


def look_at_bad_certificate(check: dict[str, Any], timeout: float, trust: Trust) -> dict[str, Any]:
    """Say whose certificate it is that was refused: by its names when our CA made it, else by its fingerprint."""
    for kind in ("lenient", "blind"):
        try:
            with connect(check, timeout) as sock:
                tls = trust.context(kind).wrap_socket(sock, server_hostname=check["dns_name"])
                with tls:
                    if kind == "lenient":
                        held = describe_certificate(tls)
                        return {"for": ", ".join(held["names"]), "until": held["not_after"]}
                    import hashlib

                    return {"sha256": hashlib.sha256(tls.getpeercert(binary_form=True) or b"").hexdigest()[:16]}
        except (OSError, ssl.SSLError):
            continue
    return {}


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
    except (OSError, ssl.SSLError) as error:
        probe.note("http", FAILED, f"GET {check.get('path') or '/'} - expected 200, found {error}", started)
        return
    line = re.match(rb"HTTP/1\.[01] (\d{3})", data)
    status = int(line[1]) if line else None
    body = data.partition(b"\r\n\r\n")[2]
    probe.raw["status"] = status
    probe.raw["first"] = first_bytes(body)
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
            ask_dns(check["interface"], check["address"], check["dns_name"], 28, timeout)
        except OSError as error:
            note_blocked(probe, "dns", where, explain(error, check["interface"], family_of(check), timeout), started)
        except ValueError:
            probe.note("dns", FAILED, f"{where} - expected blocked, found a broken answer", started)
        else:
            probe.note("dns", FAILED, f"{where} - expected blocked, found a name server that answers", started)
        return probe
    try:
        sock = connect_impatiently(check, timeout)
    except OSError as error:
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
            else:
                data = read_until(sock, time.monotonic() + min(timeout, 1.0), lambda d: b"\n" in d, 512)
                who = f"says {first_bytes(data)!r}" if data else ""
        except (OSError, ssl.SSLError):
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
    """

    def __init__(self, leg: str, family: int, address: str, *, single: bool) -> None:
        self.leg, self.family, self.address, self.single = leg, family, address, single
        self.hops: dict[int, str] = {}
        self.reached: int | None = None
        self.turned_away: tuple[int, str] | None = None
        self.problem = ""
        self.limit = FIRST_HOPS
        self.started = self.ended = time.monotonic()
        self.sock: socket.socket | None = None
        self.source = ""

    def open(self) -> None:
        """Open the socket, with errors queued for us."""
        try:
            self.sock = open_socket(self.leg, self.family, socket.SOCK_DGRAM, 0.0)
            level, option = (41, IPV6_RECVERR) if self.family == socket.AF_INET6 else (0, IP_RECVERR)
            self.sock.setsockopt(level, option, 1)
            with open_socket(self.leg, self.family, socket.SOCK_DGRAM, 0.0) as other:
                other.connect((self.address, TRACE_PORT))
                self.source = other.getsockname()[0]
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
        return min(known) if known else self.limit

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
    def done(self) -> bool:
        """Nothing more to learn."""
        if self.problem:
            return True
        return not self.missing and (self.reached is not None or self.turned_away is not None)

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
                _, control, _, name = self.sock.recvmsg(64, 512, MSG_ERRQUEUE)
            except OSError:
                break
            self._take(control, name)
        try:  # an answer in earnest: something listens there; it is the destination
            while self.sock is not None:
                _, name = self.sock.recvfrom(64)
                self._arrive(name[1] - TRACE_PORT)
        except OSError:
            pass

    def _take(self, control: list[tuple[int, int, bytes]], name: tuple[Any, ...]) -> None:
        limit = name[1] - TRACE_PORT if name else 0
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
        end = self.last if self.reached or self.turned_away else max(self.hops, default=0)
        return {
            "hops": [self.hops.get(n) for n in range(1, end if self.reached or self.turned_away else end + 1)],
            "reached": self.reached is not None,
            "turned_away": self.turned_away[1] if self.turned_away and not self.reached else None,
            "problem": self.problem,
            "source": self.source,
            "ms": round((self.ended - self.started) * 1000, 1),
        }


class Tracer:
    """All traces of a run at once, in one thread: rounds of questions, answers as they come."""

    def __init__(self, traces: list[Trace]) -> None:
        self.traces = traces
        self.pending: dict[int, Trace] = {}
        self.open_done = threading.Event()

    def run(self, until: float) -> None:
        """Go on until all are done, the rounds bring nothing more, or the deadline.

        What must be blocked is asked after the ways that must be open: routers have only so many answers to give.
        """
        self._run([t for t in self.traces if not t.single], until, rounds_s=TRACE_ROUNDS_S, pause_s=TRACE_PAUSE_S)
        self.open_done.set()
        self._run([t for t in self.traces if t.single], until, rounds_s=TRACE_ROUNDS_S[:3], pause_s=TRACE_PAUSE_S / 2)

    def _run(self, traces: list[Trace], until: float, *, rounds_s: tuple[float, ...], pause_s: float) -> None:
        begun = time.monotonic()
        self._open(traces)
        planned = [begun + after for after in rounds_s]
        known = 0
        while self.pending and time.monotonic() < until:
            planned.pop(0)
            for trace in self.pending.values():
                trace.send()
            ends = min(until, planned[0] if planned else time.monotonic() + pause_s)
            self._look_further()
            while self.pending and time.monotonic() < ends:
                self._listen(ends)
                self._look_further()
            found = self._count(traces)
            if not planned:
                if found == known:
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
        return sum(len(t.hops) + (t.reached is not None) + (t.turned_away is not None) for t in traces)

    def _open(self, traces: list[Trace]) -> None:
        self.poller = select.poll()
        for trace in traces:
            trace.started = trace.ended = time.monotonic()
            trace.open()
            if trace.sock is not None and not trace.problem:
                self.pending[trace.sock.fileno()] = trace
                self.poller.register(trace.sock, select.POLLIN | select.POLLERR)

    def _listen(self, until: float) -> None:
        wait_ms = max(1, int((until - time.monotonic()) * 1000))
        for number, _ in self.poller.poll(wait_ms):
            if number in self.pending:
                self.pending[number].read()

    def _look_further(self) -> None:
        """Let go of what is done; where every hop answered and the end is not there, ask further hops at once."""
        for number, trace in list(self.pending.items()):
            if trace.done:
                trace.ended = time.monotonic()
                self.poller.unregister(number)
                del self.pending[number]
            elif not trace.missing and trace.limit < MOST_HOPS:
                trace.send()


# --- the run ---------------------------------------------------------------------------------------------------------


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
        self.tracer = Tracer([])
        self.trace_done = threading.Event()
        self.refused: dict[int, str] = {}

    def plan(self) -> None:
        """Lay out the work: each name asked, each service tried and each way traced once."""
        for number, check in enumerate(self.checks):
            try:
                self._plan_check(check)
            except (KeyError, TypeError, ValueError, AttributeError, OSError) as error:
                self.refused[number] = f"the check cannot be read ({type(error).__name__}: {error})"

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
                self.work[key] = partial(probe_dns, key[1], key[2], key[3], key[4], self.timeout)
            if check["protocol"] != "dns":
                self.work[service_key(check)] = partial(probe_service, check, self.timeout, self.trust)
        if check.get("trace", True):
            key = ("trace", leg, family, address)
            if key not in self.traces or not blocked:
                self.traces[key] = Trace(leg, family, address, single=blocked)

    @staticmethod
    def _bad(what: str) -> None:
        raise ValueError(f"{what} expected")

    def run(self) -> None:
        """Do the work; come back when it is done or the time is over."""
        self.tracer.traces = list(self.traces.values())
        tracer = threading.Thread(target=self._trace, daemon=True)
        tracer.start()
        self._run_all([*self.work.items(), *self.late_work.items()])
        tracer.join(max(0.0, self.until - time.monotonic()))
        gaps: list[tuple[Key, Callable[[], Any]]] = []
        for key, trace in self.traces.items():
            if trace.reached is None and not trace.single and not trace.problem and trace.turned_away is None:
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
            self.tracer.run(self.until)
        except Exception as error:  # noqa: BLE001 - one broken tracer must not lose the rest
            for trace in self.traces.values():
                trace.problem = trace.problem or f"the tracer broke ({type(error).__name__}: {error})"
        self.tracer.open_done.set()
        self.trace_done.set()

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
                    out.append(self._one(check, [finding("agent", UNKNOWN, self.refused[number])], {}, {}))
                elif check["expect"] == "blocked":
                    out.append(self._blocked(check, alive))
                else:
                    out.append(self._reach(check))
            except Exception as error:  # noqa: BLE001 - the document must hold every check
                words = f"the agent broke ({type(error).__name__}: {error})"
                out.append(self._one(check, [finding("agent", UNKNOWN, words)], {}, {}))
        legs = sorted({str(c.get("interface")) for c in self.checks if isinstance(c, dict)})
        return {
            "format": 1,
            "nonce": self.request.get("nonce"),
            "host": socket.gethostname(),
            "python": sys.version.split()[0],
            "started": self.clock_at_begin,
            "ended": time.time(),
            "cpu_s": round(time.process_time(), 3),
            "legs": {leg: leg_addresses(leg) for leg in legs},
            "checks": out,
        }

    def _living_legs(self) -> dict[tuple[str, str], str]:
        """Legs (with family) that brought something back in this run, and what."""
        alive: dict[tuple[str, str], str] = {}
        for number, check in enumerate(self.checks):
            if number in self.refused or check["expect"] != "reach":
                continue
            found = self.done.get(service_key(check))
            if found is not None and found.connected:
                alive[check["interface"], check["family"]] = f"{check['address']} answers"
            said = self.done.get(dns_key(check)) if dns_key(check) else None
            if said is not None and said[2]:
                family = "ipv6" if ":" in check["resolver"] else "ipv4"
                alive.setdefault((check["interface"], family), f"{check['resolver']} answers")
        for trace in self.traces.values():
            family = "ipv6" if trace.family == socket.AF_INET6 else "ipv4"
            router = trace.turned_away[1] if trace.turned_away else next(iter(trace.hops.values()), "")
            if router:
                alive.setdefault((trace.leg, family), f"router {router} answers")
        return alive

    def _reach(self, check: dict[str, Any]) -> dict[str, Any]:
        findings: list[FindingData] = []
        raw: dict[str, Any] = {}
        ends = []
        key = dns_key(check)
        if key:
            ends.append(self.done_at.get(key))
            findings.append(self._dns_finding(check, key, raw))
        if check["protocol"] != "dns":
            service = service_key(check)
            ends.append(self.done_at.get(service))
            found = self.done.get(service)
            if found is not None:
                findings.extend(found.findings)
                raw.update(found.raw)
            else:
                findings.append(finding("tcp", UNKNOWN, self._why_missing(service)))
        return self._one(check, findings, raw, self._trace_data(check), ends)

    def _dns_finding(self, check: dict[str, Any], key: Key, raw: dict[str, Any]) -> FindingData:
        said = self.done.get(key)
        if said is None:
            return finding("dns", UNKNOWN, self._why_missing(key))
        outcome, words, addresses, ms = said
        raw["dns"] = addresses
        kind = "AAAA" if check["family"] == "ipv6" else "A"
        asked = f"{kind} of {check['dns_name']}"
        if outcome != PASSED:
            return finding("dns", outcome, f"{asked} - expected {check['address']}, found {words}", ms)
        family = family_of(check)
        if addresses != [socket.inet_ntop(family, socket.inet_pton(family, check["address"]))]:
            return finding("dns", FAILED, f"{asked} - expected {check['address']}, found {', '.join(addresses)}", ms)
        return finding("dns", PASSED, f"{asked} is {addresses[0]}", ms)

    def _blocked(self, check: dict[str, Any], alive: dict[tuple[str, str], str]) -> dict[str, Any]:
        key = service_key(check)
        found = self.done.get(key)
        ends = [self.done_at.get(key)]
        if found is None:
            return self._one(check, [finding("tcp", UNKNOWN, self._why_missing(key))], {}, {}, ends)
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
        return self._one(check, findings, raw, {}, ends)

    def _why_missing(self, key: Key) -> str:
        return self.broken.get(key) or f"not run by the deadline of {self.deadline_s:g} s"

    @staticmethod
    def _trace_key(check: dict[str, Any]) -> Key:
        return ("trace", check["interface"], family_of(check), check["address"])

    def _trace_data(self, check: dict[str, Any]) -> dict[str, Any]:
        if not check.get("trace", True):
            return {}
        trace = self.traces.get(self._trace_key(check))
        if trace is None:
            return {}
        data = trace.data
        if not self.trace_done.is_set() and not trace.done:
            data["problem"] = data["problem"] or f"not run by the deadline of {self.deadline_s:g} s"
        return data

    def _one(
        self,
        check: Any,
        findings: list[FindingData],
        raw: dict[str, Any],
        trace: dict[str, Any],
        ends: list[float | None] | None = None,
    ) -> dict[str, Any]:
        times = [t for t in ends or () if t is not None]
        return {
            "id": check.get("id") if isinstance(check, dict) else None,
            "findings": findings,
            "raw": raw,
            "trace": trace,
            "at": max(times) if times else time.time(),
        }


def finding(aspect: str, outcome: str, detail: str, ms: float | None = None) -> FindingData:
    """Return a finding as data."""
    return {"aspect": aspect, "outcome": outcome, "detail": detail, "ms": ms}


def dns_key(check: dict[str, Any]) -> Key:
    """Name the question a check asks of its resolver; empty when it asks none."""
    resolver = check["address"] if check["protocol"] == "dns" else check.get("resolver")
    if not resolver:
        return ()
    return ("dns", check["interface"], resolver, check["dns_name"], check["family"])


def service_key(check: dict[str, Any]) -> Key:
    """Name the try of a check's service."""
    return ("service", check["id"])


def measure(request: dict[str, Any]) -> dict[str, Any]:
    """Run a request to its end and return the document."""
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
