"""What can be wrong with the record.

LedgerError (ExtranetError)         exit 2   base of what can be wrong with the record
├── LedgerUnavailableError          exit 4   full disk, locked, read-only, no server: nothing more was written
├── LedgerFormatError               exit 2   a database, but not this ledger, or of another revision
├── KeyConflictError                exit 4   a key was used before, for something else
├── UnfitBodyError                  exit 2   a body that is not plain JSON, or that holds a secret
├── LedgerBrokenError               exit 1   the chain, its guard or its leases are not whole: nothing is read or added
├── CampaignBusyError               exit 4   another command is changing this county's network
└── LeaseLostError                  exit 4   this command held the county, and does not any more: it must not act
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from inventory.errors import ExtranetError
from inventory.wording import say_span
from migration.events import Break


class LedgerError(ExtranetError):
    """Something about the record. `where` is the file or URL, never with a password."""

    def __init__(self, where: str, what: str, todo: str) -> None:
        self.where, self.what, self.todo = where, what, todo
        super().__init__(f"{where}: {what}; {todo}")


class LedgerUnavailableError(LedgerError):
    """The record cannot be read or written now."""

    exit_code: ClassVar[int] = 4


class LedgerFormatError(LedgerError):
    """The database is not this ledger, or of a revision that this version does not write."""


class KeyConflictError(LedgerError):
    """A key was used before, for something else: somebody else finished what was begun here."""

    exit_code: ClassVar[int] = 4


class UnfitBodyError(LedgerError):
    """A body that must not be recorded."""


class LedgerBrokenError(LedgerError):
    """The chain is not whole. `breaks` says where."""

    exit_code: ClassVar[int] = 1

    def __init__(self, where: str, breaks: Sequence[Break]) -> None:
        self.breaks = tuple(breaks)
        super().__init__(
            where,
            f"the record is not whole: {breaks[0]}",
            "run 'extranet ledger verify', keep this file as it is and restore the record from its backup",
        )


class CampaignBusyError(LedgerError):
    """Another command is changing this county's network. `holder` says which, `age_s` for how long."""

    exit_code: ClassVar[int] = 4

    def __init__(
        self, where: str, holder: Mapping[str, Any], *, age_s: float | None = None, free_in_s: float | None = None
    ) -> None:
        self.holder, self.age_s, self.free_in_s = dict(holder), age_s, free_in_s
        todo = "wait until it ends, or stop it"
        if free_in_s is not None:
            todo = f"wait until it ends; if it is gone, the county is free in {say_span(max(free_in_s, 1))}"
        super().__init__(where, f"{say_holder(holder, age_s)} is changing this county's network", todo)


class LeaseLostError(LedgerError):
    """This command held the county, and does not any more. Devices with an unconfirmed change go back by themselves."""

    exit_code: ClassVar[int] = 4

    def __init__(self, where: str, what: str) -> None:
        super().__init__(
            where,
            f"{what}, so this command does nothing more",
            "devices with an unconfirmed change go back by themselves; see 'extranet status', then run it again",
        )


def say_holder(holder: Mapping[str, Any], age_s: float | None = None) -> str:
    """Name who holds the county, and for how long."""
    if not holder:
        return "a command that has only just started"
    where = f"pid {holder.get('pid')} on {holder.get('host')}, since {holder.get('since')}"
    age = f", {say_span(age_s)} ago" if age_s is not None and age_s >= 0 else ""
    return f"{holder.get('command')!r} ({where}{age})"
