"""Sign a checked plan with an Ed25519 key, and verify it: that this plan and certificate passed at somebody's desk.

The signature is a file of its own beside the plan (`FILE.signature.json`), over the digests of plan and certificate, so
that signing changes neither.
"""

from __future__ import annotations

import base64
import binascii
import json
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from addressing.checkreport import Check, Report
from inventory.keys import fingerprint, is_signed, sign_message

SIGNATURE_FORMAT = "extranet plan signature/1"


def signature_path(plan: Path) -> Path:
    """Return where a plan's signature is."""
    return plan.with_name(f"{plan.name}.signature.json")


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
        "signature": sign_message(_message(report), key),
    }


def verify_report(report: Report, key: Ed25519PublicKey, path: Path) -> Check:
    """Check the signature file against what was found of plan and certificate."""
    if not path.exists():
        return Check(
            "signature", ok=False, detail=f"there is none ({path.name}): sign with 'extranet plan check --sign KEY'"
        )
    try:
        data = json.loads(path.read_bytes())
        signature = str(data["signature"])
        base64.b64decode(signature, validate=True)
        signer = str(data["key"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError, binascii.Error) as error:
        return Check("signature", ok=False, detail=f"{path.name} is damaged ({type(error).__name__})")
    wanted = fingerprint(key)
    if not is_signed(_message(report), signature, key):
        whose = f"signed by {signer}, not by {wanted}" if signer != wanted else "signed for another plan or certificate"
        return Check("signature", ok=False, detail=whose)
    return Check("signature", ok=True, detail=f"signed by {wanted}")
