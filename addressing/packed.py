"""Input files as bytes: unpacked within bounds, in UTF-8 whatever they were.

`.xz`, `.gz` and `.zst` are known by their first bytes; a name that says otherwise is refused. GB 18030 (so GBK) and
UTF-16 with a mark become UTF-8; a UTF-8 file with broken rows is told from those, and its rows are named.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from inventory.errors import InputProblemsError, Problem
from inventory.files import NOT_REGULAR, is_irregular

MAX_BYTES = 1 << 28
"""Largest file, packed or not: eight times the list of the whole country."""
LISTED = 20
"""How many problems of one kind are listed; of the rest the number is told."""
ZIP, _OLE = b"PK\x03\x04", b"\xd0\xcf\x11\xe0"
_PACKED = {".xz": b"\xfd7zXZ\x00", ".gz": b"\x1f\x8b", ".zst": b"\x28\xb5\x2f\xfd"}


@dataclass
class FileProblems:
    """Problems of one file, by kind: the first of each kind are kept, the others counted."""

    file: str
    sheet: str | None = None
    kept: list[Problem] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def add(self, kind: str, row: int | None, column: str | None, what: str, todo: str) -> None:
        self.counts[kind] += 1
        if self.counts[kind] <= LISTED:
            self.kept.append(Problem(file=self.file, sheet=self.sheet, row=row, column=column, what=what, todo=todo))

    def error(self) -> InputProblemsError:
        problems = sorted(self.kept, key=lambda p: p.row or 0)
        for kind, number in self.counts.items():
            if number > LISTED:
                what = f"{kind}: {number - LISTED} more of {number} are not listed"
                more = Problem(
                    file=self.file, sheet=self.sheet, row=None, column=None, what=what, todo="correct these first"
                )
                problems.append(more)
        return InputProblemsError(problems)


def refuse(file: str, what: str, todo: str, row: int | None = None) -> InputProblemsError:
    """Make the error of a file that has one problem only."""
    return InputProblemsError([Problem(file=file, row=row, column=None, what=what, todo=todo)])


def load_bytes(path: Path) -> bytes:
    """Read a file's bytes, unpacked if it is packed; InputProblemsError when it is none, too large or damaged."""
    file = path.name
    if is_irregular(path):
        raise refuse(str(path), NOT_REGULAR, "name a file of divisions")
    try:
        if path.stat().st_size > MAX_BYTES:
            raise refuse(file, f"larger than {MAX_BYTES >> 20} MiB", "no list of divisions is that large; check it")
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise refuse(str(path), "expected a file of divisions, found none", "check the name") from error
    except (OSError, ValueError) as error:
        raise refuse(str(path), f"cannot be read ({error})", "check it") from error
    magic = next((end for end, start in _PACKED.items() if data.startswith(start)), None)
    suffix = path.suffix.lower()
    if data and suffix in _PACKED and magic != suffix:
        found = f"{magic} data" if magic else "something else"
        raise refuse(file, f"expected {suffix} data, found {found}", "name it after what it is, or fetch it again")
    if magic:
        data = _unpack(file, data, magic)
    if data.startswith(_OLE):
        raise refuse(file, "an old workbook (.xls) or one with a password", "save it as .xlsx without a password")
    return data


def _unpack(file: str, data: bytes, kind: str) -> bytes:
    import lzma
    import zlib

    from zstandard import ZstdError

    reader = {".xz": _open_xz, ".gz": _open_gz, ".zst": _open_zst}[kind]
    out, size = [], 0
    try:
        for piece in reader(data):
            out.append(piece)
            size += len(piece)
            if size > MAX_BYTES:
                todo = "no list of divisions is that large; fetch it again from where it came"
                raise refuse(file, f"unpacks to more than {MAX_BYTES >> 20} MiB", todo)
    except (lzma.LZMAError, zlib.error, ZstdError, EOFError) as error:
        what = f"damaged or cut short ({error})"
        raise refuse(file, what, "fetch it again, compare its digest with the sender's") from error
    return b"".join(out)


def _open_xz(data: bytes) -> Iterator[bytes]:
    import lzma

    while data:
        stream = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MAX_BYTES)
        yield stream.decompress(data, MAX_BYTES + 1)
        if not stream.eof:
            raise EOFError("it ends before its end mark")
        data = stream.unused_data.lstrip(b"\0")  # the format lets streams be followed by padding


def _open_gz(data: bytes) -> Iterator[bytes]:
    import zlib

    while data:
        stream = zlib.decompressobj(wbits=31)
        yield stream.decompress(data, MAX_BYTES + 1)
        if not stream.eof:
            raise EOFError("it ends before its end mark")
        data = stream.unused_data.lstrip(b"\0")


def _open_zst(data: bytes) -> Iterator[bytes]:
    import zstandard

    step = 1 << 10  # a kilobyte unpacks to 32 MiB at most, so that a bomb is noticed in time
    while data:
        stream = zstandard.ZstdDecompressor(max_window_size=1 << 27).decompressobj()
        at = 0
        while not stream.eof:
            if at >= len(data):
                raise EOFError("it ends before its end mark")
            yield stream.decompress(data[at : at + step])
            at += step
        data = stream.unused_data + data[at:]


def as_utf8(file: str, data: bytes) -> bytes:
    """Return a text's bytes in UTF-8 with plain line ends; GB 18030 (so GBK) and UTF-16 with a mark are understood."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        try:
            data = data.decode("utf-16").encode()
        except UnicodeError as error:
            raise refuse(file, f"broken UTF-16 ({error})", "save it as UTF-8") from error
    data = data.removeprefix(b"\xef\xbb\xbf")
    if b"\r" in data:
        data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    if not data.strip():
        raise refuse(file, "expected a table of divisions, found an empty file", "export it again")
    try:
        data.decode()
    except UnicodeDecodeError:
        data = _mend_encoding(file, data)
    if b"\0" in data:
        row = data[: data.index(b"\0")].count(b"\n") + 1
        raise refuse(file, "not a text: holds zero bytes", "name a TSV, CSV or XLSX file of divisions", row)
    return data


def _mend_encoding(file: str, data: bytes) -> bytes:
    lines = data.split(b"\n")
    foreign = [(row, line) for row, line in enumerate(lines, start=1) if not line.isascii()]
    broken = [row for row, line in foreign if not _is_text(line, "utf-8")]
    if 2 * len(broken) > len(foreign):  # by far most Chinese lines in GBK are not UTF-8
        unread = [row for row, line in foreign if not _is_text(line, "gb18030")]
        if not unread:
            return data.decode("gb18030").encode()
        if len(unread) < len(broken):
            broken = unread
    problems = FileProblems(file)
    for row in broken:
        problems.add("broken text", row, None, "neither UTF-8 nor GBK", "save the file as UTF-8 again, from its source")
    raise problems.error()


def _is_text(line: bytes, encoding: str) -> bool:
    try:
        line.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True
