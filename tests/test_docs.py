"""Documents that are made from the code say what the code does."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from addressing.plan import make_plan
from inventory.model import PLATFORM_NAMES, CoverageTarget, Model, Plane, Probing, Soak, Timers
from inventory.reader import COLUMNS, load_county
from inventory.tables import Column
from inventory.topology import build_topology
from nornir_tasks.intent import PLATFORMS
from scripts.reference import FILES, TARGET, render_reference

ROOT = Path(__file__).resolve().parents[1]


def test_reference_is_up_to_date() -> None:
    """docs/reference.md is what `python -m scripts.reference` writes."""
    assert TARGET.read_text("utf-8") == render_reference()


def test_readmes_name_only_files_that_are_there() -> None:
    """Every relative link of the READMEs leads somewhere."""
    for name in ("README.md", "README.zh-CN.md"):
        text = (ROOT / name).read_text("utf-8")
        for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
            assert (ROOT / link).exists(), f"{name}: {link}"


def test_readme_is_the_same_in_chinese() -> None:
    """Both READMEs have the same sections, examples but for their comments, table rows, bullets and links."""

    def shape(name: str) -> dict[str, list[str]]:
        text = (ROOT / name).read_text("utf-8")
        blocks = re.findall(r"```.*?\n```", text, re.DOTALL)
        prose = re.sub(r"```.*?\n```", "", text, flags=re.DOTALL)
        return {
            "sections": re.findall(r"^(#+) ", prose, re.MULTILINE),
            "examples": [re.sub(r"\s+# .*$", "", b, flags=re.MULTILINE) for b in blocks if "csv" not in b],
            "rows": re.findall(r"^\| (\S+) \|", re.sub(r"^\| [^`\d-].*$", "", prose, flags=re.MULTILINE), re.MULTILINE),
            "bullets": re.findall(r"^- \*\*", prose, re.MULTILINE),
            "links": sorted(x for x in re.findall(r"\]\(([^)]+)\)", prose) if not x.startswith("README")),
        }

    english, chinese = shape("README.md"), shape("README.zh-CN.md")
    assert len(english["bullets"]) == 4
    assert any("Too early" in b for b in english["examples"])
    for part in english:
        assert chinese[part] == english[part], part


def test_platforms_of_the_tables_are_those_with_a_driver() -> None:
    """devices.csv may name exactly the platforms that the suite can speak to."""
    assert sorted(PLATFORM_NAMES) == sorted(PLATFORMS)


@pytest.mark.parametrize(
    ("table", "column"), [pytest.param(t, c, id=f"{t}.{c.name}") for t, columns in COLUMNS.items() for c in columns]
)
def test_every_column_is_explained(table: str, column: Column) -> None:
    """Each column says in one line what it means and takes, and its example is one that the reader takes."""
    for text in (column.about, column.parse.accepts, column.example):
        assert text.strip()
        assert not set(text) & set("|\n")
    assert column.parse(column.example) is not None


@pytest.mark.parametrize("model", [*FILES.values(), Plane, CoverageTarget, Timers, Probing, Soak])
def test_every_key_is_explained(model: type[Model]) -> None:
    """Each key of the YAML files says in one line what it means, and its example is one that the model takes."""
    for name, field in model.model_fields.items():
        assert (field.description or "").strip(), name
        assert not set(field.description or "") & set("|\n"), name
        assert field.examples, name
    lab_only = {"towns"}  # the examples of access.yaml are of a real network
    model.model_validate({n: (f.examples or [])[0] for n, f in model.model_fields.items() if n not in lab_only})


def test_reference_names_every_column_and_key() -> None:
    """No column and no key is missing from docs/reference.md."""
    text = TARGET.read_text("utf-8")
    for columns in COLUMNS.values():
        assert all(f"| {c.name} | {c.chinese} | {c.about} |" in text for c in columns)
    nested: dict[str, type[Model]] = {
        "timers.": Timers,
        "probing.": Probing,
        "soak.": Soak,
        "planes[].": Plane,
        "coverage[].": CoverageTarget,
    }
    for prefix, model in nested.items():
        assert all(f"| {prefix}{name} | " in text for name in model.model_fields)
    assert all(f"\n| {name} | " in text for model in FILES.values() for name in model.model_fields)


@pytest.mark.parametrize("name", ["README.md", "README.zh-CN.md"])
def test_village_of_the_readme_moves_nobody(name: str, tmp_path: Path) -> None:
    """The rows of "Add a village" are good as they stand: the survey has no problem, the plan moves nothing."""
    folder = tmp_path / "county"
    shutil.copytree(ROOT / "inventory" / "yichuan", folder, ignore=shutil.ignore_patterns("plan", ".lab", "*.sqlite"))
    before = load_county(folder)
    old = make_plan(before, build_topology(before), None)
    rows = re.findall(r"^# (\w+\.csv)\n(.+)$", (ROOT / name).read_text("utf-8"), re.MULTILINE)
    assert [file for file, _ in rows] == ["sites.csv", "stations.csv", "devices.csv", "circuits.csv"]
    for file, row in rows:
        with (folder / file).open("a", encoding="utf-8") as stream:
            stream.write(row + "\n")
    county = load_county(folder)
    plan = make_plan(county, build_topology(county), old)
    now = {r.id: r for r in plan.records}
    assert all(now[r.id] == r for r in old.records)
    assert any("minggao-new" in r.id for r in plan.records)
    assert {n.station for n in county.needs} > {n.station for n in before.needs}


def test_every_trap_that_is_told_of_is_tested() -> None:
    """Each row of docs/traps.md names a test that there is."""
    told = set(re.findall(r"\| (test_\w+) \|", (ROOT / "docs" / "traps.md").read_text("utf-8")))
    here = ROOT / "tests" / "migration"
    texts = [(here / name).read_text("utf-8") for name in ("test_traps_lab.py", "test_probe_traps_lab.py")]
    there = {name for text in texts for name in re.findall(r"(?m)^def (test_\w+)", text)}
    assert len(told) == 22
    assert told <= there
