"""The exceptions that stand now, as every report ends with them: nobody may read a result and not know what was let pass."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from inventory.errors import ExtranetError
from inventory.model import Model
from migration.campaign import Campaign, open_campaign, open_ledger
from migration.clock import to_iso
from migration.events import Kind
from migration.ledger import has_ledger
from migration.status import ExceptionStatus, describe_exception
from migration.waivers import WaiverState, fold_waivers


class Standing(Model):
    """A county's exceptions that stand now. `unread`: why they are not known, where the ledger could not be read."""

    exceptions: tuple[ExceptionStatus, ...] = ()
    unread: str = ""

    def lines(self) -> Iterator[str]:
        """Say them for people, a line each; nothing where there is none."""
        for one in self.exceptions:
            end = to_iso(one.until)[:16]
            both = f" (both on one account, {one.one_login})" if one.one_login else ""
            who = f"by {one.by}, approved by {one.approved_by}{both}, until {end}Z"
            yield " ".join(f"exception {one.id} to {one.gate} of {one.unit}: {who}: {one.why}".split())
        if self.unread:
            yield f"exceptions are not known: {self.unread}"

    def as_json(self) -> dict[str, Any]:
        """Return what is added to a report for machines: the list, and why it is not known where it is not."""
        found: dict[str, Any] = {"exceptions": [e.model_dump(mode="json") for e in self.exceptions]}
        return found | ({"exceptions_unread": self.unread} if self.unread else {})


def find_standing(campaign: Campaign) -> Standing:
    """Return the exceptions that stand now; a ledger that cannot be read is said, and stops no report."""
    try:
        events = campaign.events() if has_ledger(campaign.folder) else ()
    except ExtranetError as error:
        return Standing(unread=_first_line(error))
    now = campaign.clock.now()
    waivers = fold_waivers(events, campaign.county.policy.timers)
    return Standing(
        exceptions=tuple(describe_exception(w, now) for w in waivers if w.state(now) is WaiverState.STANDING)
    )


def find_standing_in(folder: Path) -> Standing:
    """Return the same of a county's folder, which needs its tables only where an exception was ever recorded."""
    try:
        with open_ledger(folder) as ledger:
            if not ledger.events(kind=Kind.EXCEPTION, all_targets=True):
                return Standing()
        return find_standing(open_campaign(folder))
    except ExtranetError as error:
        return Standing(unread=_first_line(error))


def _first_line(error: ExtranetError) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
