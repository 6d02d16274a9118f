"""Write docs/reference.md from the code: files and columns, commands, exit codes, platforms. `python -m scripts.reference`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import typer
from typer.main import get_command

from inventory.access import Access
from inventory.columns import COLUMNS
from inventory.model import Model, Policy
from inventory.reader import Header
from nornir_tasks.intent import PLATFORMS
from scripts.main import app

FILES: dict[str, type[Model]] = {"county.yaml": Header, "policy.yaml": Policy, "access.yaml": Access}
TYPES = {
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "object": "a mapping",
    "boolean": "true or false",
}
FORMATS = {"ipv6network": "an IPv6 prefix", "ipv4network": "an IPv4 prefix", "date": "a date such as 2027-09-30"}
TARGET = Path(__file__).resolve().parents[1] / "docs" / "reference.md"


def render_reference() -> str:
    """Return the reference as Markdown."""
    out = ["# Reference", "", "Made from the code by `python -m scripts.reference`; a test holds it equal.", ""]
    out += ["## A county's files", "", "A folder with these files; `extranet init DIR` makes one from the sample.", ""]
    for file, model in FILES.items():
        out += [f"### {file}", "", *_keys(model), ""]
    out += [
        "### The tables",
        "",
        "Each is `NAME.csv` or the sheet NAME of `survey.xlsx`, its headers in English or Chinese.",
    ]
    out += ["Several values in a cell are separated by `;`. A CSV line that begins with `#` is passed over.", ""]
    for table, columns in COLUMNS.items():
        out += [
            f"### {table}",
            "",
            "| column | 中文表头 | means | takes | example |",
            "| --- | --- | --- | --- | --- |",
        ]
        for c in columns:
            takes = c.parse.accepts + ("" if c.required else "; may be empty")
            out.append(f"| {c.name} | {c.chinese} | {c.about} | {takes} | `{c.example}` |")
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


def _keys(model: type[Model]) -> list[str]:
    """Return a table of a YAML file's keys, those inside lists and mappings with their path."""
    return ["| key | means | takes | example |", "| --- | --- | --- | --- |", *_key_rows(model.model_json_schema())]


def _key_rows(schema: dict[str, Any], prefix: str = "", defs: dict[str, Any] | None = None) -> list[str]:
    defs = defs or schema.get("$defs", {})
    rows: list[str] = []
    for name, key in schema["properties"].items():
        optional = "" if name in schema.get("required", ()) else _default(key)
        example = json.dumps(key["examples"][0], ensure_ascii=False).strip('"')
        inner = _inner(key, defs)
        takes = _takes_list(key["items"], defs) if "items" in key else "a mapping" if inner else _takes(key, defs)
        rows.append(
            f"| {prefix}{name} | {key['description']} | {takes}{optional} | `{example}` |".replace(" | ``", " | ")
        )
        if inner:
            rows += _key_rows(inner, f"{prefix}{name}{'[]' if 'items' in key else ''}.", defs)
    return rows


def _takes_list(items: dict[str, Any], defs: dict[str, Any]) -> str:
    """Say what a list holds."""
    return "a list of mappings" if "$ref" in items else f"a list, each {_takes(items, defs)}"


def _inner(key: dict[str, Any], defs: dict[str, Any]) -> dict[str, Any] | None:
    """Return the schema of what a key holds when that has keys of its own."""
    reference = key.get("$ref") or key.get("items", {}).get("$ref", "")
    found: dict[str, Any] = defs.get(reference.rpartition("/")[2], {})
    return found if "properties" in found else None


def _default(key: dict[str, Any]) -> str:
    value = key.get("default")
    return "; may be left out" if value is None or isinstance(value, list | dict) else f"; default {value}"


def _takes(key: dict[str, Any], defs: dict[str, Any]) -> str:
    """Say what a value may be, from the schema that checks it."""
    if "$ref" in key:
        key = defs[key["$ref"].rpartition("/")[2]]
    key |= next((k for k in key.get("anyOf", ()) if k.get("type") != "null"), {})
    if "enum" in key:
        return "one of " + ", ".join(map(str, key["enum"]))
    if "format" in key:
        return FORMATS[key["format"]]
    text = TYPES[key["type"]]
    if "pattern" in key:
        text += f" like `{key['pattern']}`"
    low = key.get("minimum", key.get("exclusiveMinimum"))
    low_word = "from" if "minimum" in key else "above"
    high = key.get("maximum")
    bounds = [f"{low_word} {low:.12g}"] if low is not None else []
    bounds += [f"to {high:.12g}"] if high is not None else []
    return f"{text}, {' '.join(bounds)}" if bounds else text


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
