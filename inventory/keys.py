"""Ed25519 keys of people: read from their files, sign with the private one, check with the public one."""

from __future__ import annotations

import base64
import binascii
import hashlib
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
    load_ssh_private_key,
    load_ssh_public_key,
)

from inventory.errors import ExtranetError


class KeyFileError(ExtranetError):
    """A key file cannot be used."""

    def __init__(self, path: Path, what: str, todo: str) -> None:
        super().__init__(f"{path}: {what}; {todo}")


def read_private_key(path: Path) -> Ed25519PrivateKey:
    """Read an Ed25519 private key, PEM or OpenSSH, without a passphrase; KeyFileError when it is none."""
    data = _read(path)
    load = load_ssh_private_key if b"OPENSSH PRIVATE KEY" in data else load_pem_private_key
    try:
        key = load(data, password=None)
    except TypeError as error:
        todo = "name a key without one, readable by nobody else (chmod 600)"
        raise KeyFileError(path, "is locked by a passphrase", todo) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise KeyFileError(path, "is no private key", "make one with 'openssl genpkey -algorithm ed25519'") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise KeyFileError(path, "is no Ed25519 key", "make one with 'openssl genpkey -algorithm ed25519'")
    return key


def parse_public_key(line: str) -> Ed25519PublicKey:
    """Read an Ed25519 public key from a line of OpenSSH, as it may stand in a file of settings; ValueError when it is none."""
    try:
        key = load_ssh_public_key(line.strip().encode())
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if isinstance(key, Ed25519PublicKey):
        return key
    raise ValueError("expected an Ed25519 public key as a line 'ssh-ed25519 AAAA…', found something else")


def read_public_key(path: Path) -> Ed25519PublicKey:
    """Read an Ed25519 public key, PEM or one line of OpenSSH; KeyFileError when it is none."""
    data = _read(path)
    if b"PRIVATE KEY" in data:
        raise KeyFileError(path, "is a private key", "name the public one ('openssl pkey -in KEY -pubout')")
    load = load_ssh_public_key if data.lstrip().startswith(b"ssh-") else load_pem_public_key
    try:
        key = load(data)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise KeyFileError(path, "is no public key", "name a PEM or OpenSSH file of an Ed25519 key") from error
    if not isinstance(key, Ed25519PublicKey):
        raise KeyFileError(path, "is no Ed25519 key", "name the public half of the key that signed")
    return key


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise KeyFileError(path, f"cannot be read ({error.strerror})", "name a key's file") from error


def public_line(key: Ed25519PublicKey) -> str:
    """Return a key as the line of OpenSSH that `parse_public_key` reads."""
    return key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


def fingerprint(key: Ed25519PublicKey) -> str:
    """Return a key's fingerprint as OpenSSH shows it."""
    blob = base64.b64decode(public_line(key).split()[1])
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")


def sign_message(message: bytes, key: Ed25519PrivateKey) -> str:
    """Return the signature over a message, in base64."""
    return base64.b64encode(key.sign(message)).decode()


def is_signed(message: bytes, signature: str, key: Ed25519PublicKey) -> bool:
    """Tell whether a signature in base64 is this key's, over this message."""
    try:
        key.verify(base64.b64decode(signature, validate=True), message)
    except (InvalidSignature, binascii.Error, ValueError):
        return False
    return True
