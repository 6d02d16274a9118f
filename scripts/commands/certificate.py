"""`extranet certificate`: the certificate of retirement, from the ledger alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from inventory.wording import counted
from scripts.commands._shell import HERE, AsJson, CountyDir, Of, boundary, console, print_json

if TYPE_CHECKING:
    from collections.abc import Callable

    from migration.certificate import Certificate
    from migration.certificate_file import Format
    from migration.certificate_words import Language


@boundary
def certificate(
    units: Annotated[list[str], typer.Argument(help="Removed units, each `network@site`.")],
    county: CountyDir = HERE,
    of: Of = None,
    *,
    lang: Annotated[str, typer.Option(help="zh (撤销证明) or en.")] = "zh",
    file_format: Annotated[str, typer.Option("--format", help="html or json (default: by the name of --out).")] = "",
    out: Annotated[Path | None, typer.Option(help="File to write.")] = None,
    sign: Annotated[
        Path | None, typer.Option(help="Ed25519 key to sign with: a signature file of its own beside the document.")
    ] = None,
    check: Annotated[
        Path | None, typer.Option(help="Compare this document with what the ledger gives, instead of writing one.")
    ] = None,
    key: Annotated[
        Path | None, typer.Option(help="With --check: public key to hold the document's signature to.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write the certificate of retirement (撤销证明) of removed units: a document to sign and file, with evidence digests.

    From the ledger alone: the same ledger gives the same bytes. --check makes the document anew in its own language; where
    more was recorded about the units since (a release, say), as of its own event, and names what came after. Exit 0 written (or,
    with --check, just what the ledger gives or gave at that event), 1 changed or not so signed, 3 when something is missing,
    with all that is.
    """
    from inventory.errors import CheckFailedError, ExtranetError
    from migration.certificate_file import (
        check_signature,
        dump_certificate,
        list_since,
        sign_document,
        signature_path,
        write_certificate,
    )

    path = out or check
    if path is None or (out and check):
        raise ExtranetError("--out FILE: expected the file to write, or --check FILE, found neither or both; name one")
    wanted = file_format or path.suffix.lstrip(".").lower()
    if wanted not in {"html", "json"}:
        raise ExtranetError(f"--format: expected html or json, found {wanted!r}; print the HTML for paper or PDF")
    if lang not in {"zh", "en"}:
        raise ExtranetError(f"--lang: expected zh or en, found {lang!r}; choose one of them")
    if (sign and check) or (key and not check):
        raise ExtranetError("--sign goes with --out, --key with --check")
    made = read_certificate(county, units, of)
    signer = ""
    since: tuple[str, ...] = ()
    if check is not None:
        if not check.is_file():
            raise ExtranetError(f"{check}: expected a certificate, found no file; name one")
        document = check.read_bytes()
        then = find_original(
            document, cast("Format", wanted), made, lambda seq: read_certificate(county, units, of, until=seq)
        )
        if then is None:
            raise CheckFailedError(f"{check}: is not what the ledger gives - it was changed, or is of other units")
        made, since = then, tuple(list_since(then, made))
        if key is not None:
            from inventory.keys import read_public_key

            signer = check_signature(document, signature_path(check), read_public_key(key))
    else:
        from inventory.keys import fingerprint, read_private_key

        document = dump_certificate(made, cast("Format", wanted), cast("Language", lang))
        private = read_private_key(sign) if sign is not None else None
        write_certificate(path, document)
        if private is not None:
            write_certificate(signature_path(path), sign_document(document, private))
            signer = fingerprint(private.public_key())
    show(made, path, signer, since, checked=check is not None, as_json=as_json)


def find_original(
    document: bytes, file_format: Format, now: Certificate, make_until: Callable[[int], Certificate]
) -> Certificate | None:
    """Return the certificate that a document is, byte for byte: that of now, or of its own event; None where it is neither."""
    from migration.certificate import CertificateRefusedError
    from migration.certificate_file import dump_certificate, read_origin

    origin = read_origin(document)
    if origin is None:
        return None
    lang = origin.lang or "en"
    if dump_certificate(now, file_format, lang) == document:
        return now
    try:
        then = make_until(origin.seq)
    except CertificateRefusedError:  # at that event there was none
        return None
    return then if dump_certificate(then, file_format, lang) == document else None


def read_certificate(folder: Path, names: list[str], of: str | None, *, until: int | None = None) -> Certificate:
    """Make the certificate from the folder's ledger: of what is in reach or named, else of the field or the only lab.

    `until`: as the ledger gave it when that was its last event.
    """
    from migration.campaign import choose_record, open_ledger
    from migration.certificate import make_certificate

    target = choose_record(folder, of)
    events = [
        e
        for e in open_ledger(folder).events(all_targets=True)
        if e.target == target and (until is None or e.seq <= until)
    ]
    units = list(dict.fromkeys(names))
    return make_certificate(folder, events, units)


def show(made: Certificate, path: Path, signer: str, since: tuple[str, ...], *, checked: bool, as_json: bool) -> None:
    """Print what was written or compared, and what came after it."""
    from rich.markup import escape

    if as_json:
        head = {"number": made.number, "target": made.target, "seq": made.seq, "hash": made.hash}
        told = {"checked": checked, "since": list(since), "signed_by": signer}
        print_json({"file": str(path), **head, "units": [u.dossier.unit for u in made.units], **told})
        return
    word = f"of {counted(len(made.units), 'unit')}, up to"
    if checked:
        word = "is true as of" if since else "is what the ledger gives, up to"
    signed = f", signed by {signer}" if signer else ""
    console().print(
        f"[bold]{escape(str(path))}[/]: certificate {made.number} {word} event {made.seq} of {escape(made.target)}{signed}"
    )
    if since:
        console().print(f"  since then: {escape('; '.join(since))}; --out writes the certificate of now")
