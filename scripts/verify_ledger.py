#!/usr/bin/env python3
"""Verify an exported ledger with nothing but Python (3.9 or newer) and this file.

    python3 verify_ledger.py EXPORT.jsonl [--public-key KEY.pub]... [--known SEQ:HASH | --known CHECKPOINT.json]...

Recomputes every hash and the chain, and compares the chain with every checkpoint. Signatures (Ed25519) are checked with
the `openssl` command (3, or 1.1.1). Exit codes: 0 whole, 1 broken, 2 bad usage or input, 4 signatures were asked for and
could not be checked.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Fields = dict[str, Any]
Known = tuple[str, int, str, Any]
EXPORT = "extranet ledger export/1"
CHECKPOINT = "extranet ledger checkpoint/1"
FIELDS = {"seq", "at", "actor", "target", "kind", "key", "unit", "body", "prev", "hash"}
DER_HEAD = bytes.fromhex("302a300506032b6570032100")  # an Ed25519 public key follows (RFC 8410)
LISTED = 100
MOST_DIGITS = 18  # of an event's number: what a database counts to


class InputError(Exception):
    """A file that cannot be used."""


def canonical(value: Any) -> bytes:
    """Return a value's canonical JSON: keys sorted, no spaces, UTF-8."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def hash_event(event: Fields) -> str:
    """Return the hash over all of an event's fields but its hash."""
    return hashlib.sha256(canonical({k: v for k, v in event.items() if k != "hash"})).hexdigest()


def unique(pairs: list[tuple[str, Any]]) -> Fields:
    """Make a mapping, refusing a key that stands twice: readers disagree which one counts."""
    out = dict(pairs)
    if len(out) != len(pairs):
        raise ValueError("a key stands twice")
    return out


def read_lines(path: str) -> Iterator[tuple[int, str, Any]]:
    """Give each line's number and value."""
    decode = json.JSONDecoder(object_pairs_hook=unique).decode
    try:
        with Path(path).open(encoding="utf-8") as stream:
            for number, line in enumerate(stream, 1):
                try:
                    value = decode(line)
                except (ValueError, RecursionError) as error:
                    value = f"altered: no JSON: {error}"
                yield number, line, value
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from error


class Chain:
    """What was read so far: the end of the chain, the hashes that were asked for, and what is wrong."""

    def __init__(self) -> None:
        self.seq, self.hash, self.token, self.broken = 0, "0" * 64, 0, 0
        self.breaks: list[str] = []
        self.checkpoints: list[tuple[str, Any]] = []
        self.digests = bytearray()
        self.head: Any = None

    def note(self, what: str) -> None:
        """Note one thing that is wrong."""
        self.broken += 1
        if self.broken <= LISTED:
            # Names come out of the file: nothing in them may end the line or steer the terminal.
            self.breaks.append("".join(c if c.isprintable() else ascii(c)[1:-1] for c in what))

    def take(self, number: int, line: str, value: Any) -> None:
        """Take one line after the first."""
        if self.head is not None:
            self.note(f"line {number}: stands after the end")
        elif not isinstance(value, dict):
            self.note(f"line {number}: {value if isinstance(value, str) else 'no event'}")
        elif set(value) == {"checkpoint"}:
            self.checkpoints.append((f"line {number}", value["checkpoint"]))
        elif set(value) == {"head"}:
            self.head = value["head"]
        elif FIELDS <= set(value) <= FIELDS | {"token"}:
            self.take_event(number, line, value)
        else:
            self.note(f"line {number}: expected the fields of an event, found {', '.join(sorted(value))}")

    def take_event(self, number: int, line: str, event: Fields) -> None:
        """Check one event against its hash, and against the one before."""
        strange = find_strange(event)
        if strange:
            self.note(f"line {number}: altered: {strange}")
            self.seq, self.hash = self.seq + 1, event["hash"] if is_hash(event["hash"]) else "0" * 64
            self.digests += bytes.fromhex(self.hash)
            return
        seq = event["seq"]
        if hash_event(event) != event["hash"]:
            self.note(f"event {seq}: altered: its content does not match its hash")
        elif canonical(event) != line.rstrip("\n").encode():
            self.note(f"event {seq}: altered: line {number} is not its canonical JSON")
        elif seq != self.seq + 1:
            self.note(f"event {self.seq + 1}: removed or reordered: event {seq} stands in its place")
        elif event["prev"] != self.hash:
            self.note(f"event {seq}: forged: it continues from another hash than event {seq - 1} has")
        token = event.get("token")
        if token is not None:
            if token < self.token:
                self.note(f"event {seq}: forged: under lease {token} after lease {self.token}")
            self.token = max(token, self.token)
        if event["kind"] == "checkpoint":
            self.checkpoints.append((f"event {seq}", event["body"].get("checkpoint")))
        self.seq, self.hash = seq, event["hash"]
        self.digests += bytes.fromhex(self.hash)


def find_strange(event: Fields) -> str:
    """Say which field of an event is not of its type, or that it has no canonical JSON; empty when it is well-formed."""
    for name, value in event.items():
        if not fits(name, value):
            return f"{name} is not of its type"
    try:
        canonical(event)
    except (ValueError, RecursionError) as error:
        return f"it has no canonical JSON ({type(error).__name__})"
    return ""


def fits(name: str, value: Any) -> bool:
    """Tell whether a field of an event is of its type."""
    if name in {"hash", "prev"}:
        return is_hash(value)
    if name in {"seq", "token"}:
        return type(value) is int and value > 0
    if name == "body":
        return isinstance(value, dict)
    return isinstance(value, str) or (name == "unit" and value is None)


def is_hash(text: Any) -> bool:
    """Tell whether a text is a sha256 in hex."""
    return isinstance(text, str) and len(text) == 64 and not set(text) - set("0123456789abcdef")


def read_known(text: str) -> Known:
    """Return a head or checkpoint kept elsewhere: where it is from, its number and hash, and itself."""
    seq, _, digest = text.partition(":")
    if seq.isascii() and seq.isdigit() and len(seq) <= MOST_DIGITS and is_hash(digest):
        return ("--known", int(seq), digest, None)
    for number, _, value in read_lines(text):
        if number == 1 and is_checkpoint(value):
            return (text, value["seq"], value["hash"], value)
    raise InputError(f"--known {text}: expected SEQ:HASH or a checkpoint's file")


def is_checkpoint(value: Any) -> bool:
    """Tell whether a value is a checkpoint."""
    wanted = {
        "format": str,
        "seq": int,
        "hash": str,
        "count": int,
        "at": str,
        "target": str,
        "key": str,
        "signature": str,
    }
    if not isinstance(value, dict) or set(value) != set(wanted):
        return False
    return all(isinstance(value[k], t) for k, t in wanted.items()) and value["format"] == CHECKPOINT


def read_key(path: str) -> bytes:
    """Return an Ed25519 public key's 32 bytes, from PEM or one line of OpenSSH."""
    try:
        text = Path(path).read_text("ascii")
        if text.startswith("ssh-ed25519 "):
            key = base64.b64decode(text.split()[1])[-32:]
        else:
            der = base64.b64decode("".join(line for line in text.splitlines() if not line.startswith("-----")))
            key = der[len(DER_HEAD) :] if der.startswith(DER_HEAD) else b""
    except (OSError, ValueError, IndexError) as error:
        raise InputError(f"{path}: cannot be read as a public key ({error})") from error
    if len(key) != 32 or "PRIVATE" in text:
        raise InputError(f"{path}: expected an Ed25519 public key, PEM or OpenSSH")
    return key


def fingerprint(key: bytes) -> str:
    """Return a key's fingerprint as OpenSSH shows it."""
    blob = b"".join(len(part).to_bytes(4, "big") + part for part in (b"ssh-ed25519", key))
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")


def is_signed(openssl: str, checkpoint: Fields, key: bytes) -> bool:
    """Ask openssl whether a checkpoint's signature is the key's."""
    try:
        message = canonical({k: v for k, v in checkpoint.items() if k != "signature"})
        signature = base64.b64decode(checkpoint["signature"], validate=True)
    except ValueError:
        return False
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        pem = base64.b64encode(DER_HEAD + key).decode()
        (place / "key").write_text(f"-----BEGIN PUBLIC KEY-----\n{pem}\n-----END PUBLIC KEY-----\n", "ascii")
        (place / "message").write_bytes(message)
        (place / "signature").write_bytes(signature)
        command = [openssl, "pkeyutl", "-verify", "-pubin", "-inkey", str(place / "key"), "-rawin"]
        command += ["-in", str(place / "message"), "-sigfile", str(place / "signature")]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0


def check_checkpoints(chain: Chain, known: list[Known], keys: dict[str, bytes], openssl: str | None) -> int:
    """Compare checkpoints with the chain, and their signatures with the keys; return how many signatures were checked."""
    checked = 0
    everyone = list(chain.checkpoints)
    for source, seq, digest, checkpoint in known:
        compare(chain, source, seq, digest)
        if checkpoint is not None:
            everyone.append((source, checkpoint))
            if checkpoint not in [c for _, c in chain.checkpoints]:
                chain.note(f"{source}: this checkpoint is missing in the export")
    for source, checkpoint in everyone:
        if not is_checkpoint(checkpoint):
            chain.note(f"{source}: no checkpoint")
            continue
        compare(chain, source, checkpoint["seq"], checkpoint["hash"])
        if not keys:
            continue
        if checkpoint["key"] not in keys:
            chain.note(f"{source}: signed by {checkpoint['key']}, not by {', '.join(keys)}")
        elif openssl and not is_signed(openssl, checkpoint, keys[checkpoint["key"]]):
            chain.note(f"{source}: the signature is not that of {checkpoint['key']}")
        elif openssl:
            checked += 1
    if keys and not everyone:
        chain.note("there is no checkpoint, so nobody has signed anything")
    return checked


def compare(chain: Chain, source: str, seq: int, digest: str) -> None:
    """Compare a head kept somewhere with the event of its number."""
    found = chain.digests[32 * (seq - 1) : 32 * seq] if seq > 0 else b""
    if not found:
        chain.note(f"{source}: event {seq} is gone, the last one is {chain.seq}")
    elif found.hex() != digest:
        chain.note(f"{source}: event {seq} has another hash: the chain was rewritten")


def verify(path: str, keys: dict[str, bytes], known: list[Known], openssl: str | None) -> tuple[Chain, int]:
    """Read and check an export; return what was found."""
    chain = Chain()
    for number, line, value in read_lines(path):
        if number == 1:
            if value != {"format": EXPORT}:
                raise InputError(f"{path}: expected an export of a ledger ({EXPORT})")
            continue
        chain.take(number, line, value)
    if chain.head is None:
        chain.note("the export has no end: it was cut off")
    elif chain.head != {"seq": chain.seq, "hash": chain.hash}:
        chain.note(f"the end names another event than the last, {chain.seq}")
    if not chain.seq:
        chain.note("there is no event")
    return chain, check_checkpoints(chain, known, keys, openssl)


def main(arguments: list[str] | None = None) -> int:
    """Check what the command line names, say what was found, and return the exit code."""
    parser = argparse.ArgumentParser(description="Verify an exported ledger with nothing but Python and this file.")
    parser.add_argument("export", help="what 'extranet ledger export' wrote")
    parser.add_argument("--public-key", action="append", default=[], metavar="FILE", help="who signs checkpoints")
    parser.add_argument("--known", action="append", default=[], metavar="SEQ:HASH|FILE", help="kept elsewhere")
    options = parser.parse_args(arguments)
    openssl = shutil.which("openssl")
    try:
        keys = {fingerprint(k): k for k in map(read_key, options.public_key)}
        chain, checked = verify(options.export, keys, [read_known(t) for t in options.known], openssl)
    except InputError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    for what in chain.breaks:
        print(f"broken: {what}")
    if chain.broken:
        print(f"broken: {chain.broken} in all")
        return 1
    print(f"whole: {chain.seq} events, head {chain.hash}, {len(chain.checkpoints)} checkpoints")
    if keys and not openssl:
        print("signatures were NOT checked: there is no openssl here")
        return 4
    print(f"{checked} signatures checked" if keys else "signatures were not asked for (--public-key)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
