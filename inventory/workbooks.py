"""What readers of workbooks share: opening one within bounds, what a damaged one raises, and the text of a cell."""

from __future__ import annotations

import io
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from zipfile import BadZipFile, ZipFile

if TYPE_CHECKING:
    from openpyxl import Workbook

MOST_UNPACKED = 1 << 31
"""Bytes that a workbook may unpack to."""

BROKEN = (
    # The archive, or a part of it: damaged, with a password, or packed in an unknown way (NotImplementedError).
    *(BadZipFile, zlib.error, OSError, EOFError, RuntimeError),
    # XML that is none (ElementTree's ParseError), parts that do not fit each other or hold what they must not.
    *(SyntaxError, AttributeError, LookupError, TypeError, ValueError),
)
"""What openpyxl raises of a damaged workbook: at once, or on the way, as it reads sheets lazily."""


@contextmanager
def open_workbook(data: bytes, *, whole: bool = False) -> Iterator[Workbook]:
    """Open a workbook's bytes to be read row by row; `whole` ones are read at once, and tell which cells are merged.

    What openpyxl warns of (extensions that it leaves out, dates that are none) is not for people.

    Raises:
        ValueError: it unpacks to more than any table has.
    """
    from openpyxl import load_workbook

    with ZipFile(io.BytesIO(data)) as archive:
        total = sum(entry.file_size for entry in archive.infolist())
    if total > MOST_UNPACKED:
        raise ValueError(f"it unpacks to {total >> 20} MiB")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning, module="openpyxl")
        book = load_workbook(io.BytesIO(data), read_only=not whole, data_only=True)
        try:
            yield book
        finally:
            book.close()


def say_break(error: Exception) -> str:
    """Return what an error of a damaged workbook says; its kind where it says nothing."""
    return str(error) or type(error).__name__


def cell_text(value: object) -> str:
    """Return a cell's value as text: whole numbers without the `.0` that workbooks keep them with."""
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return str(value)


__all__ = ["BROKEN", "cell_text", "open_workbook", "say_break"]
