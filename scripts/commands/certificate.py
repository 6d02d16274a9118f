"""`extranet certificate`: the certificate of retirement, from the ledger alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from inventory.wording import counted
from scripts.commands._shell import HERE, AsJson, CountyDir, Of, boundary, console, print_json

if TYPE_CHECKING:
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
        Path | None, typer.Option(help="Compare this document with what the ledger gives now, instead of writing one.")
    ] = None,
    key: Annotated[
        Path | None, typer.Option(help="With --check: public key to hold the document's signature to.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write the certificate of retirement (撤销证明) of removed units: a document to sign and file, with evidence digests.

    From the ledger alone: the same ledger gives the same bytes. Exit 0 written (or, with --check, equal), 1 not equal or
    not so signed, 3 when something is missing, with all that is.
    """
    from inventory.errors import CheckFailedError, ExtranetError
    from migration.certificate_file import (
        check_signature,
        dump_certificate,
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
    document = dump_certificate(made, cast("Format", wanted), cast("Language", lang))
    signer = ""
    if check is not None:
        if not check.is_file():
            raise ExtranetError(f"{check}: expected a certificate, found no file; name one")
        if check.read_bytes() != document:
            raise CheckFailedError(
                f"{check}: is not what the ledger gives - it was changed, or made otherwise (--lang, units)"
            )
        if key is not None:
            from inventory.keys import read_public_key

            signer = check_signature(document, signature_path(check), read_public_key(key))
    else:
        from inventory.keys import fingerprint, read_private_key

        private = read_private_key(sign) if sign is not None else None
        write_certificate(path, document)
        if private is not None:
            write_certificate(signature_path(path), sign_document(document, private))
            signer = fingerprint(private.public_key())
    show(made, path, signer, checked=check is not None, as_json=as_json)


def read_certificate(folder: Path, names: list[str], of: str | None) -> Certificate:
    """Make the certificate from the folder's ledger: of what is in reach or named, else of the field or the only lab."""
    from migration.campaign import choose_record, open_ledger
    from migration.certificate import make_certificate

    target = choose_record(folder, of)
    events = [e for e in open_ledger(folder).events(all_targets=True) if e.target == target]
    units = list(dict.fromkeys(names))
    return make_certificate(folder, events, units)


def show(made: Certificate, path: Path, signer: str, *, checked: bool, as_json: bool) -> None:
    """Print what was written or compared."""
    from rich.markup import escape

    if as_json:
        body = {"file": str(path), "number": made.number, "target": made.target, "seq": made.seq, "hash": made.hash}
        print_json({**body, "units": [u.dossier.unit for u in made.units], "checked": checked, "signed_by": signer})
        return
    word = "is what the ledger gives" if checked else f"of {counted(len(made.units), 'unit')}"
    signed = f", signed by {signer}" if signer else ""
    console().print(
        f"[bold]{escape(str(path))}[/]: certificate {made.number} {word}, up to event {made.seq} of {escape(made.target)}{signed}"
    )
