"""What a person decided about divisions where a match is not certain, from a file: YAML, or CSV.

    - {old: 410329001203, new: 410329001009, verdict: same}

`same`: the old division lives on under the new code. `new`: it does not; the new code is a division of its own.
`gone`: the old one lives on nowhere. `merged`: nor does it, but the new one took over what it had. An old code that
several identities bore is written with the identity: `410329001203#17`.
"""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from addressing.packed import FileProblems, as_utf8, load_bytes, refuse

Verdict = Literal["same", "new", "gone", "merged"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
_HEADERS = {"old": ("old", "原代码", "旧代码"), "new": ("new", "新代码"), "verdict": ("verdict", "结论", "判定")}
_FIELD_OF = {alias: name for name, aliases in _HEADERS.items() for alias in aliases}
_WORDS: dict[str, Verdict] = {"同一": "same", "新设": "new", "撤销": "gone", "并入": "merged"}
_WANTED: dict[Verdict, tuple[str, ...]] = {
    "same": ("old", "new"),
    "new": ("new",),
    "gone": ("old",),
    "merged": ("old", "new"),
}


@dataclass(frozen=True)
class Answer:
    """One decision. `old` is a code or `code#identity`; empty where the verdict needs none."""

    old: str
    new: str
    verdict: Verdict
    row: int


@dataclass(frozen=True)
class Decisions:
    """What was decided, and the file that says so."""

    file: str
    answers: tuple[Answer, ...]


def read_decisions(path: Path) -> Decisions:
    """Read a decisions file.

    Raises:
        InputProblemsError: every line that cannot be read, or has no verdict while no other line decides its code.
    """
    text = as_utf8(path.name, load_bytes(path)).decode()
    entries = list(_csv_entries(path.name, text) if _is_csv(text) else _yaml_entries(path.name, text))
    if not entries:
        raise refuse(path.name, "expected decisions, found none", "write lines of old, new and verdict")
    problems = FileProblems(path.name)
    answers = []
    decided = {e["old"] for _, e in entries if e["verdict"] and e["old"]}
    for row, entry in entries:
        if not entry["verdict"] and entry["old"] in decided:
            continue  # a candidate that another line of the template passed over
        answer = _parse(row, entry, problems)
        if answer:
            answers.append(answer)
    if problems.kept:
        raise problems.error()
    return Decisions(path.name, tuple(answers))


def _parse(row: int, entry: dict[str, str], problems: FileProblems) -> Answer | None:
    said = unicodedata.normalize("NFKC", entry["verdict"]).strip().lower()
    verdict = next((v for v in VERDICTS if v == said), _WORDS.get(said))
    if verdict is None:
        found = f"found {entry['verdict']!r}" if said else "found none"
        problems.add("verdicts", row, "verdict", f"expected {', '.join(VERDICTS)}, {found}", "decide")
        return None
    codes = {name: unicodedata.normalize("NFKC", entry[name]).strip().strip("'") for name in ("old", "new")}
    good = True
    for name, pattern in (("old", r"\d{2,18}(#\d+)?"), ("new", r"\d{2,18}")):
        if (codes[name] or name in _WANTED[verdict]) and not re.fullmatch(pattern, codes[name]):
            what = f"expected a division code for verdict {verdict!r}, found {entry[name]!r}"
            problems.add("codes", row, name, what, "take it from the template that 'extranet plan update' printed")
            good = False
    return Answer(codes["old"], codes["new"], verdict, row) if good else None


def _is_csv(text: str) -> bool:
    lines = (line for line in text.split("\n") if line.strip() and not line.startswith("#"))
    cells = re.split(r"[,\t;]", next(lines, ""))
    return len({_FIELD_OF.get(c.strip().lower()) for c in cells} - {None}) == len(_HEADERS)


def _csv_entries(file: str, text: str) -> Iterator[tuple[int, dict[str, str]]]:
    lines = [line for line in text.split("\n") if line.strip() and not line.startswith("#")]
    delimiter = max(",\t;", key=lines[0].count)
    header: list[str | None] = []
    reader = csv.reader(io.StringIO(text), delimiter=delimiter, strict=True)
    try:
        for cells in reader:
            if not any(c.strip() for c in cells) or cells[0].startswith("#"):
                continue
            if not header:
                header = [_FIELD_OF.get(c.strip().lower()) for c in cells]
                continue
            found = {name: cell.strip() for name, cell in zip(header, cells, strict=False) if name}
            yield reader.line_num, {name: found.get(name, "") for name in _HEADERS}
    except csv.Error as error:
        raise refuse(file, f"not a table ({error})", "correct the quotes", reader.line_num) from error


def _yaml_entries(file: str, text: str) -> Iterator[tuple[int, dict[str, str]]]:
    import yaml

    todo = "write lines like '- {old: 410329001203, new: 410329001009, verdict: same}'"
    try:
        tree = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        what = f"not YAML ({getattr(error, 'problem', None) or 'unreadable'})"
        raise refuse(file, what, todo, mark.line + 1 if mark else None) from error
    except RecursionError as error:
        raise refuse(file, "not a list of decisions: nested too deeply", todo) from error
    if isinstance(tree, yaml.MappingNode):
        tree = next((value for key, value in tree.value if key.value == "decisions"), tree)
    if tree is None or (isinstance(tree, yaml.ScalarNode) and not tree.value):
        return
    if not isinstance(tree, yaml.SequenceNode):
        raise refuse(file, "expected a list of decisions", todo, tree.start_mark.line + 1)
    for node in tree.value:
        row = node.start_mark.line + 1
        if not isinstance(node, yaml.MappingNode):
            raise refuse(file, "expected old, new and verdict", todo, row)
        found: dict[str, str] = {}
        for key, value in node.value:
            name = _FIELD_OF.get(str(key.value).lower()) if isinstance(key, yaml.ScalarNode) else None
            if name is None or not isinstance(value, yaml.ScalarNode):
                raise refuse(file, f"expected old, new and verdict, found {key.value!r}", todo, row)
            found[name] = "" if value.tag.endswith(":null") else value.value
        yield row, {name: found.get(name, "") for name in _HEADERS}
