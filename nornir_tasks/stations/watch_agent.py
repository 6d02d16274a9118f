"""Watch services from a station while the network changes: one file, standard library only, Python 3.9 or later.

For each target a connection is tried at a steady rate until told to stop: what a window clerk would feel. A target is a
leg, a family and a service; TCP services are connected to (and left by reset, which keeps no TIME_WAIT), name servers
are asked a question over UDP, each time from a new port. Every probe is due at its own moment on the station's monotonic
clock, so nothing drifts; what could not be sent in its turn is left out, so nothing piles up; and no probe waits for
another. What was seen goes home twice a second as numbered lines, so that a lost session still leaves what came before.

Standard input carries words, a line each: `mark NAME` is answered at once with the moment it came, `stop` ends, anything
else only says that somebody is there. It ends as well when standard input does, when nobody was heard for `patience_s`,
and at its deadline: a controller that vanishes leaves nothing running.
"""

from __future__ import annotations

import base64
import collections
import errno
import json
import os
import select
import socket
import struct
import sys
import time
import zlib
from typing import Any

SENTINEL = "EXTRANET-WATCH"
SILENT, REFUSED, NO_ROUTE, NO_LEG, BAD_ANSWER, OTHER = -1, -2, -3, -4, -5, -6
"""Why a probe failed, in place of the milliseconds that a good one took."""

FLUSH_S = 0.5
MOST_UNSENT = 1 << 20
"""Bytes that may wait for a session that takes nothing; then it is lost."""
MOMENTS = 5
"""How often at most we wake up in one period to send what is due; answers wake us besides."""
SO_BINDTODEVICE = 25
RESET_ON_CLOSE = struct.pack("ii", 1, 0)
REASONS = {
    errno.ECONNREFUSED: REFUSED,
    errno.ECONNRESET: REFUSED,
    errno.ENETUNREACH: NO_ROUTE,
    errno.EHOSTUNREACH: NO_ROUTE,
    errno.ENETDOWN: NO_ROUTE,
    errno.EADDRNOTAVAIL: NO_ROUTE,
    errno.EACCES: NO_ROUTE,
    errno.EPERM: NO_ROUTE,
    errno.ETIMEDOUT: SILENT,
    errno.ENODEV: NO_LEG,
}


class Target:
    """One thing to try again and again."""

    def __init__(self, asked: dict[str, Any]) -> None:
        self.leg = str(asked["leg"]).encode() + b"\0"
        self.family = socket.AF_INET6 if asked["family"] == "ipv6" else socket.AF_INET
        socket.inet_pton(self.family, asked["address"])
        self.where = (str(asked["address"]), int(asked["port"]))
        self.every = int(asked.get("every", 1))
        self.query = b""
        if asked["protocol"] == "dns":
            labels = [part.encode("ascii") for part in str(asked["dns_name"]).rstrip(".").split(".")]
            name = b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
            self.query = name + struct.pack(">HH", 28 if asked["family"] == "ipv6" else 1, 1)
        self.kind = (socket.SOCK_DGRAM if self.query else socket.SOCK_STREAM) | socket.SOCK_NONBLOCK
        self.seen: list[int] = []
        """Since the last line: when each probe was sent (ms), and how long it took (ms) or why it failed."""

    def send(self, number: int) -> socket.socket:
        """Begin one probe; OSError when it fails at once."""
        sock = socket.socket(self.family, self.kind)
        try:
            sock.setsockopt(socket.SOL_SOCKET, SO_BINDTODEVICE, self.leg)
            if self.query:
                sock.connect(self.where)
                sock.send(struct.pack(">HHHHHH", number, 0x0100, 1, 0, 0, 0) + self.query)
            else:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
                code = sock.connect_ex(self.where)
                if code not in (0, errno.EINPROGRESS):
                    raise OSError(code, "")
        except BaseException:
            sock.close()
            raise
        return sock

    def read(self, sock: socket.socket, number: int) -> int:
        """Return 0 when a probe came through, else why it did not."""
        code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            return REASONS.get(code, OTHER)
        if not self.query:
            return 0
        packet = sock.recv(4096)
        if len(packet) < 12:
            return BAD_ANSWER
        found, flags, _, answers = struct.unpack_from(">HHHH", packet)
        return 0 if found == number and flags & 0x800F == 0x8000 and answers else BAD_ANSWER


class Pending:
    """A probe on its way."""

    __slots__ = ("number", "sent", "sock", "target")

    def __init__(self, target: Target, sock: socket.socket, number: int, sent: float) -> None:
        self.target, self.sock, self.number, self.sent = target, sock, number, sent


class Watch:
    """One request, run until somebody or the time ends it."""

    def __init__(self, request: dict[str, Any]) -> None:
        self.nonce = str(request["nonce"])
        self.targets = [Target(asked) for asked in request["targets"]]
        self.period = 1.0 / float(request["rate_per_s"])
        self.timeout = float(request["timeout_s"])
        self.patience = float(request["patience_s"])
        self.zero = time.monotonic()
        self.until = self.zero + float(request["deadline_s"])
        self.heard = self.zero
        self.poller = select.epoll()
        self.pending: dict[int, Pending] = {}
        self.by_age: collections.deque[Pending] = collections.deque()
        self.turn = self.sent = self.left_out = 0
        self.lines = 0
        self.unsent = b""
        self.words = b""
        self.why = ""

    def run(self) -> None:
        """Watch until the end."""
        os.set_blocking(0, False)
        os.set_blocking(1, False)
        self.poller.register(0, select.EPOLLIN)
        self._say({"host": socket.gethostname(), "clock": time.time(), "python": sys.version.split()[0]})
        next_line = self.zero + FLUSH_S
        while not self.why:
            now = time.monotonic()
            self._send_due(now)
            self._let_go(now)
            if now >= next_line:
                self._tell()
                next_line += FLUSH_S * (1 + int((now - next_line) / FLUSH_S))
            if now >= self.until:
                self.why = "deadline"
            elif now - self.heard > self.patience:
                self.why = "nobody there"
            else:
                self._listen(max(self._due() - now, self.period / MOMENTS))
        self._tell()
        cpu_s = round(time.process_time(), 3)
        self._say({"end": self.why, "sent": self.sent, "left_out": self.left_out, "cpu_s": cpu_s})
        os.set_blocking(1, True)
        self._drain()

    def _due(self) -> float:
        return self.zero + self.turn * self.period / max(1, len(self.targets))

    def _send_due(self, now: float) -> None:
        count = len(self.targets)
        while count and self._due() <= now:
            late = int((now - self._due()) / self.period)
            if late:  # whole turns went by: they are left out, for each target alike
                self.turn += late * count
                self.left_out += late
            turn, number = divmod(self.turn, count)
            target = self.targets[number]
            if turn % target.every == number % target.every:  # those that are tried less often take turns
                self._send(target)
            self.turn += 1

    def _send(self, target: Target) -> None:
        number, sent = self.turn & 0xFFFF, time.monotonic()
        self.sent += 1
        try:
            probe = Pending(target, target.send(number), number, sent)
        except OSError as error:
            self._note(target, sent, REASONS.get(error.errno or 0, OTHER))
            return
        handle = probe.sock.fileno()
        self.poller.register(handle, select.EPOLLIN if target.query else select.EPOLLOUT)
        self.pending[handle] = probe
        self.by_age.append(probe)

    def _listen(self, wait_s: float) -> None:
        for handle, _ in self.poller.poll(wait_s):
            if handle == 0:
                self._hear()
            elif handle == 1:
                self._drain()
            else:
                probe = self.pending.pop(handle)
                try:
                    reason = probe.target.read(probe.sock, probe.number)
                except OSError as error:
                    reason = REASONS.get(error.errno or 0, OTHER)
                self._end(probe, reason)

    def _let_go(self, now: float) -> None:
        """End what has waited long enough; the oldest stand first."""
        while self.by_age and (self.by_age[0].sock.fileno() < 0 or now - self.by_age[0].sent >= self.timeout):
            probe = self.by_age.popleft()
            handle = probe.sock.fileno()
            if handle >= 0:
                del self.pending[handle]
                self._end(probe, SILENT)

    def _end(self, probe: Pending, reason: int) -> None:
        took = time.monotonic() - probe.sent
        probe.sock.close()
        self._note(probe.target, probe.sent, reason or int(took * 1000) + 1)

    def _note(self, target: Target, sent: float, took: int) -> None:
        target.seen += (int((sent - self.zero) * 1000), took)

    # --- the session ---

    def _tell(self) -> None:
        seen = {number: target.seen for number, target in enumerate(self.targets) if target.seen}
        for target in self.targets:
            if target.seen:
                target.seen = []
        self._say({"seen": seen})

    def _say(self, body: dict[str, Any]) -> None:
        body["at"] = int((time.monotonic() - self.zero) * 1000)
        text = json.dumps(body, separators=(",", ":"))
        self.unsent += f"{SENTINEL} {self.nonce} {self.lines} {text}\n".encode()
        self.lines += 1
        if len(self.unsent) > MOST_UNSENT:
            self.why = "session stuck"
        self._drain()

    def _drain(self) -> None:
        try:
            while self.unsent:
                self.unsent = self.unsent[os.write(1, self.unsent) :]
        except BlockingIOError:
            pass  # the next line takes it along
        except OSError:
            self.unsent, self.why = b"", "session gone"

    def _hear(self) -> None:
        try:
            more = os.read(0, 4096)
        except BlockingIOError:
            return
        except OSError:
            more = b""
        if not more:
            self.why = "session ended"
            return
        self.heard = time.monotonic()
        *whole, self.words = (self.words + more)[-4096:].split(b"\n")
        for line in whole:
            word, _, name = line.decode("ascii", "replace").strip().partition(" ")
            if word == "stop":
                self.why = "told to"
            elif word == "mark":
                self._tell()
                self._say({"mark": name})


def main(text: str) -> None:
    """Run a packed request."""
    Watch(json.loads(zlib.decompress(base64.b64decode(text)))).run()
