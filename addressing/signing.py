"""Sign a checked plan with an Ed25519 key, and verify it: that this plan and certificate passed at somebody's desk.

The signature is a file of its own beside the plan (`FILE.signature.json`), over the digests of plan and certificate, so
that signing changes neither.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from pathlib import Path
from typing import Any

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

from addressing.checkreport import Check, Report
from inventory.errors import ExtranetError

SIGNATURE_FORMAT = "extranet plan signature/1"


class KeyFileError(ExtranetError):
    """A key file cannot be used."""

    def __init__(self, path: Path, what: str, todo: str) -> None:
        super().__init__(f"{path}: {what}; {todo}")


def signature_path(plan: Path) -> Path:
    """Return where a plan's signature is."""
    return plan.with_name(f"{plan.name}.signature.json")


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


def fingerprint(key: Ed25519PublicKey) -> str:
    """Return a key's fingerprint as OpenSSH shows it."""
    blob = base64.b64decode(key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).split()[1])
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")


def _message(report: Report) -> bytes:
    return f"{SIGNATURE_FORMAT}\n{report.sha256}\n{report.certificate_sha256}\n".encode()


def sign_report(report: Report, key: Ed25519PrivateKey) -> dict[str, Any]:
    """Return the content of a signature file: only for a plan whose every check passed (else ValueError)."""
    if not report.ok:
        raise ValueError("a plan that failed is not signed")
    return {
        "format": SIGNATURE_FORMAT,
        "sha256": report.sha256,
        "certificate_sha256": report.certificate_sha256,
        "key": fingerprint(key.public_key()),
        "signature": base64.b64encode(key.sign(_message(report))).decode(),
    }


def verify_report(report: Report, key: Ed25519PublicKey, path: Path) -> Check:
    """Check the signature file against what was found of plan and certificate."""
    if not path.exists():
        return Check(
            "signature", ok=False, detail=f"there is none ({path.name}): sign with 'extranet plan check --sign KEY'"
        )
    try:
        data = json.loads(path.read_bytes())
        signature = base64.b64decode(data["signature"], validate=True)
        signer = str(data["key"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError, binascii.Error) as error:
        return Check("signature", ok=False, detail=f"{path.name} is damaged ({type(error).__name__})")
    wanted = fingerprint(key)
    try:
        key.verify(signature, _message(report))
    except InvalidSignature:
        whose = f"signed by {signer}, not by {wanted}" if signer != wanted else "signed for another plan or certificate"
        return Check("signature", ok=False, detail=whose)
    return Check("signature", ok=True, detail=f"signed by {wanted}")
