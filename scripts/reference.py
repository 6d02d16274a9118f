"""Write docs/reference.md from the code: files and columns, commands, exit codes, platforms. `python -m scripts.reference`."""

from __future__ import annotations

from pathlib import Path

import typer
from typer.main import get_command

from inventory.reader import COLUMNS
from nornir_tasks.intent import PLATFORMS
from scripts.main import app

TARGET = Path(__file__).resolve().parents[1] / "docs" / "reference.md"


def render_reference() -> str:
    """Return the reference as Markdown."""
    out = ["# Reference", "", "Made from the code by `python -m scripts.reference`; a test holds it equal.", ""]
    out += [
        "## A county's files",
        "",
        "`county.yaml` and `policy.yaml` (see the sample's comments), and these tables, each",
        "",
    ]
    out += ["`NAME.csv` or the sheet NAME of `survey.xlsx`. Lists are separated by `;`.", ""]
    for table, columns in COLUMNS.items():
        out += [f"### {table}", "", "| column | 中文表头 | |", "| --- | --- | --- |"]
        out += [f"| {c.name} | {c.chinese} | {'' if c.required else 'may be empty'} |" for c in columns]
        out.append("")
    out += ["## Commands", "", "| command | does |", "| --- | --- |"]
    out += [f"| `extranet {name}` | {text} |" for name, text in _commands()]
    out += ["", "## Platforms", "", "| platform | rollback timer on the device | atomic replace | checks a candidate |"]
    out += ["| --- | --- | --- | --- |"]
    for name, platform in sorted(PLATFORMS.items()):
        able = platform.capabilities
        row = ("yes" if b else "no" for b in (able.rollback_timer, able.atomic_replace, able.candidate_check))
        out.append(f"| {name} | {' | '.join(row)} |")
    return "\n".join(out) + "\n"


def _commands() -> list[tuple[str, str]]:
    out: list[tuple[str, str]] = []

    def walk(command: object, prefix: str) -> None:
        children = getattr(command, "commands", None)
        if children:
            for name, child in children.items():
                walk(child, f"{prefix} {name}".strip())
            return
        text = (getattr(command, "help", "") or "").split("\n\n")[0]
        out.append((prefix, " ".join(text.split())))

    walk(get_command(app), "")
    return out


if __name__ == "__main__":
    TARGET.parent.mkdir(exist_ok=True)
    TARGET.write_text(render_reference(), "utf-8")
    typer.echo(str(TARGET))
