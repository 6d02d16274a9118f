"""The certificate as a file: HTML that prints on A4 and needs nothing else, or JSON; and its detached signature."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from inventory.errors import CheckFailedError, ExtranetError
from inventory.files import write_whole
from migration.certificate import Certificate
from migration.certificate_statement import list_bound, say_about, say_actor, say_reason, state_unit
from migration.certificate_words import Language, say_time, words
from migration.events import canonical_json

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

Format = Literal["html", "json"]
SIGNATURE_FORMAT = "extranet certificate signature/1"
_TEMPLATE = Path(__file__).with_name("certificate.html.j2")


def dump_certificate(certificate: Certificate, file_format: Format, lang: Language) -> bytes:
    """Return the document: the same bytes for the same certificate."""
    return dump_html(certificate, lang) if file_format == "html" else dump_json(certificate)


def dump_json(certificate: Certificate) -> bytes:
    """Return the certificate as JSON, keys sorted."""
    text = json.dumps(certificate.model_dump(mode="json"), ensure_ascii=False, sort_keys=True, indent=1)
    return f"{text}\n".encode()


def dump_html(certificate: Certificate, lang: Language) -> bytes:
    """Return the certificate as one HTML file; everything from tables and ledger is escaped."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, keep_trailing_newline=True)
    template = environment.from_string(_TEMPLATE.read_text("utf-8"))
    said: dict[str, Callable[..., Any]] = {
        "state": state_unit,
        "who": say_actor,
        "about": say_about,
        "bound": list_bound,
        "reason": say_reason,
    }
    in_words = {name: partial(say, lang=lang) for name, say in said.items()}
    text = template.render(c=certificate, w=words(lang), lang=lang, at=say_time, **in_words)
    return text.encode()


class Origin(NamedTuple):
    """What a document says of its own making: up to which event, and in which language (a document of data has none)."""

    seq: int
    lang: Language | None


def read_origin(document: bytes) -> Origin | None:
    """Return what a document, HTML or JSON, says of its own making; None where it says nothing that can be read.

    That is not to be believed: made anew from it, the document is either the same or was changed.
    """
    if found := _HTML_ORIGIN.search(document[:_HEAD]):
        return Origin(int(found["seq"]), "zh" if found["lang"] == b"zh" else "en")
    try:
        seq = json.loads(document)["seq"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return Origin(seq, None) if type(seq) is int else None


_HEAD = 1000
_HTML_ORIGIN = re.compile(
    rb'<html lang="(?P<lang>zh|en)">.*?<title>[^<]* \d{8}-(?P<seq>\d{1,18})-[0-9a-f]{8}</title>', re.DOTALL
)


def list_since(then: Certificate, now: Certificate) -> Iterator[str]:
    """Say what was recorded about the same units after a certificate was made: stages, exceptions, or anything else."""
    for before, after in zip(then.units, now.units, strict=True):
        unit, ids = after.dossier.unit, {x.id for x in before.exceptions}
        told = [f"{unit} {s.state} at event {s.seq}" for s in after.stages if s not in before.stages]
        told += [f"exception {x.id} for {unit}" for x in after.exceptions if x.id not in ids]
        if told or before != after:
            yield from told or [f"more about {unit}, up to event {now.seq}"]


def write_certificate(path: Path, document: bytes) -> None:
    """Write the document whole; one that is there already, and may be signed, is never written over by another."""
    if path.exists() and path.read_bytes() != document:
        raise ExtranetError(f"{path}: is there and says something else; name another file, or take it away first")
    write_whole(path, document)


def signature_path(document: Path) -> Path:
    """Return where a document's signature is."""
    return document.with_name(f"{document.name}.signature.json")


def sign_document(document: bytes, key: Ed25519PrivateKey) -> bytes:
    """Return the content of a signature file for a document."""
    from inventory.keys import fingerprint

    digest = hashlib.sha256(document).hexdigest()
    body = {
        "format": SIGNATURE_FORMAT,
        "sha256": digest,
        "key": fingerprint(key.public_key()),
        "signature": base64.b64encode(key.sign(_message(digest))).decode(),
    }
    return f"{canonical_json(body)}\n".encode()


def check_signature(document: bytes, path: Path, key: Ed25519PublicKey) -> str:
    """Return whose signature it is; CheckFailedError when it is not that key's over this document."""
    from cryptography.exceptions import InvalidSignature

    from inventory.keys import fingerprint

    try:
        body: Any = json.loads(path.read_bytes())
        signature = base64.b64decode(body["signature"], validate=True)
    except (OSError, ValueError, KeyError, TypeError, RecursionError, binascii.Error) as error:
        raise CheckFailedError(f"{path}: no signature that can be read ({type(error).__name__})") from error
    try:
        key.verify(signature, _message(hashlib.sha256(document).hexdigest()))
    except InvalidSignature as error:
        raise CheckFailedError(f"{path}: not the signature of {fingerprint(key)} over this document") from error
    return fingerprint(key)


def _message(digest: str) -> bytes:
    return f"{SIGNATURE_FORMAT}\n{digest}\n".encode()
