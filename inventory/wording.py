"""How counts and lengths of time are said to people: `1 reason`, `2 reasons`, `36 h`."""

from __future__ import annotations

from itertools import pairwise

_UNITS = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))
_LONG = 100
"""From here on a number of hours, minutes or seconds reads better in larger units."""


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """Return a number with its noun; `plural` only where adding `s` (`es` after a hiss) is wrong."""
    if number == 1:
        return f"1 {noun}"
    return f"{number} {plural or noun + ('es' if noun.endswith(('s', 'x', 'ch', 'sh')) else 's')}"


def say_span(seconds: float) -> str:
    """Write a length of time: in one unit where that is exact (`10 s`, `36 h`, `7 d`), else in two (`6 d 23 h`)."""
    whole = round(seconds)
    if whole < 0:
        return f"-{say_span(-whole)}"
    for name, size in _UNITS:
        number, rest = divmod(whole, size)
        if number and not rest and (number < _LONG or name == "d"):
            return f"{number} {name}"
    for (name, size), (smaller, small_size) in pairwise(_UNITS):
        if whole >= size:
            number, rest = divmod(round(whole / small_size) * small_size, size)
            return f"{number} {name}" + (f" {rest // small_size} {smaller}" if rest else "")
    return f"{whole} s"


def first_towns(number: int) -> str:
    """Name the towns that a small lab holds: `the first town`, `the first 3 towns`."""
    return "the first town" if number == 1 else f"the first {number} towns"
