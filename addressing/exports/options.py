"""What an export may be asked for, and what it says when it cannot be had."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from inventory.errors import ExtranetError
from inventory.wording import counted

if TYPE_CHECKING:
    from inventory.model import County

Language = Literal["en", "zh"]
NOUNS = {"entry": "entries"}
"""Plurals that are not made with `s`."""
Content = str | bytes | dict[str, str]
"""One file's text or bytes, or several texts by file name: a folder."""


@dataclass(frozen=True)
class ExportOptions:
    """Options of every export; each format reads those that concern it.

    `under` is a division's code or name, or in a county's plan an identity, plane, town, site or device. `level` is a
    level's number or name (`4`, `town`), or in a county's plan a kind of record. `county` is the inventory of a county's
    plan, where the format needs more than the plan. Names of servers are absolute, with or without the last dot.
    """

    lang: Language = "en"
    under: str = ""
    level: str = ""
    subnets: bool = False
    county: County | None = None
    rir: str = "Government extranet"
    namespace: str = "Global"
    tenant: str = ""
    nameservers: tuple[str, ...] = ("ns1.example.", "ns2.example.")
    """Authoritative servers of the zones written: NS records and the SOA's first."""
    delegate_to: tuple[str, ...] = ()
    """Servers of the zones delegated, `{code}` and `{id}` filled in for each; empty: the same as `nameservers`."""
    hostmaster: str = "hostmaster.example."
    serial: int = 0
    """SOA serial; 0: the plan's version."""
    ttl_s: int = 86_400
    domain: str = "example"
    """Domain under which routers have their names."""
    dual_stack_from: str = ""
    """Day from which both families run, `2027-09-30`; empty: not decided."""
    single_stack_from: str = ""


class UnsuitableExportError(ExtranetError):
    """A format makes no sense for this plan, or needs something that was not given."""

    def __init__(self, name: str, why: str, todo: str) -> None:
        self.name, self.why, self.todo = name, why, todo
        super().__init__(f"--format {name}: {why}; {todo}")


class NotInPlanError(ExtranetError):
    """What `--under` or `--level` names is not in the plan."""

    def __init__(self, option: str, value: str, near: Sequence[str], todo: str) -> None:
        self.option, self.value, self.near = option, value, tuple(near)
        hint = f"did you mean {', '.join(near)}?" if near else todo
        super().__init__(f"{option} {value!r}: not in the plan; {hint}")


class NothingToExportError(ExtranetError):
    """Nothing of the plan was asked for: an empty export is no export."""

    def __init__(self, name: str, what: str, options: ExportOptions) -> None:
        self.name = name
        asked = [f"--under {options.under}"] * bool(options.under) + [f"--level {options.level}"] * bool(options.level)
        todo = f"change {' or '.join(asked)}" if asked else "look at the plan with --format csv"
        super().__init__(f"--format {name}: {what}; {todo}")


class TooManyRowsError(ExtranetError):
    """More rows than the format, or a device that reads it, can hold."""

    def __init__(self, name: str, what: str, number: int, limit: int, *, noun: str = "row") -> None:
        self.name, self.number, self.limit = name, number, limit
        super().__init__(
            f"--format {name}: {what} would hold {counted(number, noun, NOUNS.get(noun))}, the most is {limit}; narrow it "
            "with --under CODE or --level"
        )
