"""`extranet init`: a county's own folder, to begin with."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path
from typing import Annotated

import typer

from scripts.commands._shell import AsJson, boundary, console, print_json

SAMPLE = Path(__file__).resolve().parents[2] / "inventory" / "yichuan"


@boundary
def init(
    folder: Annotated[Path, typer.Argument(help="The folder to make. It must not hold a county yet.")],
    *,
    as_json: AsJson = False,
) -> None:
    """Make a county's folder from the sample (Yichuan), ready to edit: county.yaml, policy.yaml and the tables."""
    from rich.markup import escape

    from inventory.errors import ExtranetError
    from inventory.files import WriteError

    if folder.exists() and any(folder.iterdir() if folder.is_dir() else [folder]):
        raise ExtranetError(f"{folder}: expected a new or empty folder, found files; choose another name")
    names = sorted(p.name for p in SAMPLE.iterdir() if p.suffix in {".csv", ".yaml"} and p.name != "access.yaml")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in names:
            shutil.copyfile(SAMPLE / name, folder / name)
    except OSError as error:
        for name in names:  # half a county would keep the next attempt out
            with contextlib.suppress(OSError):
                (folder / name).unlink()
        raise WriteError(folder, error) from error
    if as_json:
        print_json({"folder": str(folder), "files": names})
        return
    console().print(f"[bold]{escape(str(folder))}[/]: {', '.join(names)}")
    console().print("Edit these, then: extranet survey check --county " + escape(str(folder)))
