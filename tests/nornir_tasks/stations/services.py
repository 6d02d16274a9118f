"""Real services that misbehave on demand, as one process: `python services.py` reads its orders as JSON on standard input.

Orders: `web` (address, port, certificate, key, status, body), `plain` (address, port, text; empty: says nothing), `names`
(address, answers). It writes `ready` and runs until its standard input closes.
"""

import json
import socket
import ssl
import struct
import sys
import threading
from typing import Any


def listen(address: str, port: int, kind: int = socket.SOCK_STREAM) -> socket.socket:
    """Bind a server socket."""
    sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    sock.bind((address, port))
    if kind == socket.SOCK_STREAM:
        sock.listen(64)
    return sock


def serve_web(order: dict[str, Any]) -> None:
    """Answer every request with one page."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(order["certificate"], order["key"])
    body = order.get("body", "").encode()
    head = f"HTTP/1.1 {order.get('status', 200)} X\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"

    def answer(client: socket.socket) -> None:
        try:
            with context.wrap_socket(client, server_side=True) as tls:
                tls.settimeout(5)
                tls.recv(4096)
                tls.sendall(head.encode() + body)
        except OSError:
            client.close()

    accept(listen(order["address"], order["port"]), answer)


def serve_plain(order: dict[str, Any]) -> None:
    """Say one text to whoever connects."""

    def answer(client: socket.socket) -> None:
        with client:
            client.settimeout(5)
            if order.get("text"):
                client.sendall(order["text"].encode())
            try:
                client.recv(10)
            except OSError:
                return

    accept(listen(order["address"], order["port"]), answer)


def accept(sock: socket.socket, answer: Any) -> None:
    """Answer each client in a thread of its own."""

    def loop() -> None:
        while True:
            client, _ = sock.accept()
            threading.Thread(target=answer, args=(client,), daemon=True).start()

    threading.Thread(target=loop, daemon=True).start()


def serve_names(order: dict[str, Any]) -> None:
    """Answer DNS questions from a table: name and type to addresses, or to one of the words below."""
    udp, tcp = listen(order["address"], 53, socket.SOCK_DGRAM), listen(order["address"], 53)

    def over_udp() -> None:
        while True:
            packet, peer = udp.recvfrom(4096)
            reply = name_answer(packet, order["answers"], cut=True)
            if reply:
                udp.sendto(reply, peer)

    def over_tcp(client: socket.socket) -> None:
        with client:
            size = struct.unpack(">H", client.recv(2))[0]
            reply = name_answer(client.recv(size), order["answers"], cut=False)
            client.sendall(struct.pack(">H", len(reply)) + reply)

    threading.Thread(target=over_udp, daemon=True).start()
    accept(tcp, over_tcp)


def name_answer(packet: bytes, answers: dict[str, Any], *, cut: bool) -> bytes:
    """Return an answer packet. `silent`, `refused`, `garbage`, `alias NAME ADDRESS` and `long ADDRESS` (TCP only) are words."""
    number = packet[:2]
    parts, at = [], 12
    while packet[at]:
        parts.append(packet[at + 1 : at + 1 + packet[at]].decode())
        at += 1 + packet[at]
    question = packet[12 : at + 5]
    kind = "AAAA" if struct.unpack_from(">H", packet, at + 1)[0] == 28 else "A"
    found = answers.get(f"{'.'.join(parts).lower()} {kind}")
    if found == "silent":
        return b""
    if found == "garbage":
        return number + b"\x81\x80\0\1\0\1\0\0\0\0" + question + b"\xc0\xff\xff"
    if found == "refused":
        return number + b"\x81\x85\0\1\0\0\0\0\0\0" + question
    if found is None:
        return number + b"\x81\x83\0\1\0\0\0\0\0\0" + question
    if isinstance(found, str) and found.startswith("long "):
        if cut:
            return number + b"\x83\x80\0\1\0\0\0\0\0\0" + question
        found = [found.split()[1]]
    owner, records = b"\xc0\x0c", []
    if isinstance(found, str):
        _, alias, address = found.split()
        name = b"".join(bytes([len(p)]) + p.encode() for p in alias.split(".")) + b"\0"
        records.append(owner + struct.pack(">HHIH", 5, 1, 60, len(name)) + name)
        owner, found = name, [address]
    for address in found:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        data = socket.inet_pton(family, address)
        records.append(owner + struct.pack(">HHIH", 28 if ":" in address else 1, 1, 60, len(data)) + data)
    return number + b"\x81\x80" + struct.pack(">HHHH", 1, len(records), 0, 0) + question + b"".join(records)


if __name__ == "__main__":
    work = {"web": serve_web, "plain": serve_plain, "names": serve_names}
    for one in json.loads(sys.stdin.readline()):
        work[one["kind"]](one)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.read()
