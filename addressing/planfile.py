"""The plan as a file: JSON that a person can diff, written whole or not at all."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

from pydantic import ValidationError

from addressing.model import AddressPlan
from inventory.errors import ExtranetError
from inventory.files import NOT_REGULAR, is_irregular, write_whole

PLAN_FILE = "plan/addresses.json"


class PlanFileError(ExtranetError):
    """The plan file is missing or not what it should be."""

    def __init__(self, path: Path, what: str, todo: str) -> None:
        super().__init__(f"{path}: {what}; {todo}")


def plan_path(county_dir: Path) -> Path:
    """Return where a county keeps its plan."""
    return county_dir / PLAN_FILE


def dump_plan(plan: AddressPlan) -> str:
    """Return the plan as JSON text, one record a line, the same text for the same plan."""
    head = plan.model_dump(mode="json", exclude={"records"})
    lines = [json.dumps(r.model_dump(mode="json"), ensure_ascii=False, sort_keys=True) for r in plan.records]
    fields = "".join(f" {json.dumps(k)}: {json.dumps(v, ensure_ascii=False)},\n" for k, v in sorted(head.items()))
    return "{\n" + fields + ' "records": [\n  ' + ",\n  ".join(lines) + "\n ]\n}\n"


def dump_csv(plan: AddressPlan) -> str:
    """Return the plan as CSV: id, kind, name, parent, prefix, slot, state."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    fields = ("id", "kind", "name", "parent", "prefix", "slot", "state")
    writer.writerow(fields)
    writer.writerows([_cell(getattr(r, f)) for f in fields] for r in plan.records)
    return out.getvalue()


def _cell(value: object) -> object:
    """Keep a name from being taken for a formula by the spreadsheet that opens the file."""
    return f"'{value}" if isinstance(value, str) and value[:1] in {"=", "+", "-", "@", "\t"} else value


def write_plan(plan: AddressPlan, path: Path) -> None:
    """Write the plan atomically."""
    write_whole(path, dump_plan(plan))


def read_plan(path: Path) -> AddressPlan:
    """Read a plan; PlanFileError when it is missing or damaged."""
    if is_irregular(path):
        raise PlanFileError(path, NOT_REGULAR, "restore it from your version control")
    try:
        return AddressPlan.model_validate_json(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise PlanFileError(path, "no address plan yet", "make one with 'extranet plan addresses'") from error
    except (OSError, UnicodeDecodeError) as error:
        raise PlanFileError(path, f"cannot be read ({error})", "restore it from your version control") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise PlanFileError(
            path, f"not a plan ({where}: {first['msg']})", "restore it from your version control"
        ) from error
