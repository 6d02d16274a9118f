"""`extranet plan map`: the picture of a plan, one HTML file that needs no network."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from inventory.wording import counted
from scripts.commands._shell import HERE, AsJson, CountyDir, boundary, console, print_json

if TYPE_CHECKING:
    from addressing.entries import Plan


class Language(StrEnum):
    """Languages of the page."""

    ZH = "zh"
    EN = "en"


TITLES = {Language.ZH: "{} IPv6 地址规划", Language.EN: "IPv6 address plan of {}"}


@boundary
def map_(
    plan: Annotated[
        Path | None, typer.Argument(help="Plan file (default: the county's plan/addresses.json).", show_default=False)
    ] = None,
    *,
    out: Annotated[Path, typer.Option(help="Where to write the page, a name ending in .html.")] = Path("plan-map.html"),
    lang: Annotated[Language, typer.Option(help="Language the page opens in; it can be switched there.")] = Language.ZH,
    under: Annotated[
        str | None, typer.Option(help="Only the block of this division code (county plan: of this identity).")
    ] = None,
    title: Annotated[str | None, typer.Option(help="Title (default: the name of what is planned).")] = None,
    county: CountyDir = HERE,
    as_json: AsJson = False,
) -> None:
    """Draw the whole plan as one HTML file: zoom from the pool to a /64, search by name, code or address.

    The file holds everything it needs and asks nothing of any network: it may be mailed, or put on a memory stick.
    """
    from rich.markup import escape

    from addressing.guard import refuse_plan
    from addressing.hierarchyfile import load_plan
    from addressing.planfile import plan_path
    from addressing.planmap import draw_map, keep_under
    from inventory.errors import ExtranetError
    from inventory.files import check_writable, write_whole

    refuse_plan(out, [plan or plan_path(county), county])
    if out.suffix.lower() not in {".html", ".htm"}:
        raise ExtranetError(f"--out {out}: expected a name ending in .html, for a browser to open; name one")
    check_writable(out, make_folders=True)
    found = load_plan(plan or plan_path(county))
    if under is not None:
        found = keep_under(found, under)
    page = draw_map(found, title or TITLES[lang].format(_name_of(found)), lang.value).encode()
    write_whole(out, page)
    entries = _size_of(found)
    if as_json:
        print_json({"file": str(out), "entries": entries, "bytes": len(page), "lang": lang.value})
        return
    screen = console()
    size = f"{len(page) / 1e6:.1f} MB" if len(page) >= 1_000_000 else f"{len(page) / 1e3:.0f} kB"
    screen.print(f"[bold]{escape(str(out))}[/]: {counted(entries, 'entry', 'entries')}, {size}; open it in a browser")


def _size_of(plan: Plan) -> int:
    from addressing.hierarchy import HierarchyPlan

    return len(plan) if isinstance(plan, HierarchyPlan) else len(plan.records)


def _name_of(plan: Plan) -> str:
    """Return what a plan is of: a county's identity, its topmost division's name, or its pools."""
    import numpy as np

    from addressing.hierarchy import ACTIVE, HierarchyPlan

    if not isinstance(plan, HierarchyPlan):
        return plan.county
    tops = np.flatnonzero((plan.homes == 0) & (plan.states == ACTIVE)).tolist()
    return plan.names[tops[0]] if len(tops) == 1 else ", ".join(map(str, plan.layout.pools))
