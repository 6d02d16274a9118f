"""`extranet plan quarantine`: which IPv4 prefixes removed lines left behind, and until when nobody else gets them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from inventory.wording import counted
from scripts.commands._shell import HERE, AsJson, CountyDir, boundary, console, print_json, show_standing

if TYPE_CHECKING:
    from addressing.model import AddressPlan
    from inventory.model import County
    from migration.quarantine import Conflict, Quarantined


def read_quarantine(folder: Path, county: County) -> tuple[Quarantined, ...]:
    """Return what is in quarantine by the county's ledger, of the lab that is up or else of the field; empty without one."""
    from migration.campaign import open_campaign
    from migration.ledger import has_ledger
    from migration.quarantine import list_quarantine

    if not has_ledger(folder):
        return ()
    campaign = open_campaign(folder)
    return list_quarantine(campaign.ledger_for_reading().events(), county, campaign.clock.now())


def refuse_quarantined(county: County, plan: AddressPlan | None, found: tuple[Quarantined, ...]) -> None:
    """Raise QuarantineError where the inventory or the plan holds addresses in quarantine."""
    from migration.quarantine import QuarantineError, find_conflicts

    conflicts = find_conflicts(county, plan, found)
    if conflicts:
        raise QuarantineError(conflicts)


def conflicts_as_json(conflicts: tuple[Conflict, ...]) -> list[dict[str, str]]:
    """Return conflicts for machines."""
    return [
        {
            "owner": c.owner.what,
            "prefix": str(c.owner.prefix),
            "quarantined": str(c.quarantined.prefix),
            "unit": c.quarantined.unit,
            "until": f"{c.quarantined.until:%Y-%m-%d}",
            "message": str(c),
        }
        for c in conflicts
    ]


@boundary
def quarantine(
    county: CountyDir = HERE,
    *,
    every: Annotated[bool, typer.Option("--all", help="List also those that are free again.")] = False,
    as_json: AsJson = False,
) -> None:
    """List the IPv4 prefixes of removed legacy lines, which nobody else is given for `quarantine_days` (policy.yaml).

    Computed from the ledger, nothing else remembers it. Exit 0, or 3 when somebody holds such addresses anew.
    """
    from rich.markup import escape

    from addressing.planfile import plan_path, read_plan
    from migration.campaign import open_campaign, open_ledger
    from migration.quarantine import find_conflicts, list_removed
    from migration.standing import find_standing

    open_ledger(county).close()  # says so when there is none
    campaign = open_campaign(county)
    now = campaign.clock.now()
    removed = list_removed(campaign.ledger_for_reading().events(), campaign.whole)
    held = tuple(q for q in removed if q.until > now)
    path = plan_path(county)
    conflicts = find_conflicts(campaign.whole, read_plan(path) if path.exists() else None, held)
    standing = find_standing(campaign)
    if as_json:
        rows = [{**q.model_dump(mode="json"), "free": q.until <= now} for q in (removed if every else held)]
        print_json({"quarantine": rows, "conflicts": conflicts_as_json(conflicts), **standing.as_json()})
    else:
        out = console()
        for q in removed if every else held:
            word = f"until {q.until:%Y-%m-%d}" if q.until > now else "free again"
            out.print(f"  {q.prefix!s:18} {word:16} {escape(q.unit)}, removed {q.since:%Y-%m-%d}")
        for conflict in conflicts:
            out.print(f"[red]refused[/]: {escape(str(conflict))}")
        out.print(f"{counted(len(held), 'prefix')} in quarantine")
        show_standing(standing)
    raise typer.Exit(3 if conflicts else 0)
