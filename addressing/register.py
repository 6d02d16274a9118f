"""Who was given which slot by anybody who carried on a plan: so that two who do it apart never give one prefix twice.

The register lies in the plan's folder, for all plans there that come from one first plan (their `origin`). It is only ever
added to. A division is known by code and name: the same one gets the same slot from everybody.
"""

from __future__ import annotations

import json
from pathlib import Path

from addressing.hierarchy import HierarchyPlan, SlotClaims
from addressing.planfile import PlanFileError
from inventory.files import write_whole

REGISTER_FILE = "plan-register.json"
FORMAT = "extranet plan register/1"


def read_register(folder: Path, origin: str) -> SlotClaims:
    """Return what was given in a line of plans; nothing where nobody carried one on.

    Raises:
        PlanFileError: the register cannot be read: going on without it could give a prefix twice.
    """
    return {
        (level, home, slot): division for level, home, slot, division in _read(folder / REGISTER_FILE).get(origin, [])
    }


def add_to_register(folder: Path, origin: str, before: HierarchyPlan, after: HierarchyPlan) -> None:
    """Write down what a plan gave that the one before had not."""
    path = folder / REGISTER_FILE
    lines = _read(path)
    known = {(level, home, slot) for level, home, slot, _ in lines.get(origin, [])}
    last = int(before.ids.max(initial=0))
    for row in (after.ids > last).nonzero()[0].tolist():
        place = int(after.levels[row]), int(after.homes[row]), int(after.slots[row])
        if place not in known:
            lines.setdefault(origin, []).append((*place, f"{after.codes[row]} {after.names[row]}"))
    if origin in lines:
        head = json.dumps({"format": FORMAT}, ensure_ascii=False)[:-1]
        body = ",\n".join(
            f" {json.dumps(name)}: [\n  " + ",\n  ".join(json.dumps(x, ensure_ascii=False) for x in given) + "\n ]"
            for name, given in sorted(lines.items())
        )
        write_whole(path, f'{head},\n "lines": {{\n{body}\n}}}}\n')


def _read(path: Path) -> dict[str, list[tuple[int, int, int, str]]]:
    if not path.exists():
        return {}
    try:
        data = json.loads(path.read_bytes())
        if data["format"] != FORMAT:
            raise ValueError(FORMAT)
        return {
            str(origin): [(int(a), int(b), int(c), str(division)) for a, b, c, division in given]
            for origin, given in data["lines"].items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise PlanFileError(
            path, f"not a register ({type(error).__name__})", "restore it from your version control"
        ) from error
