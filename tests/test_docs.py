"""Documents that are made from the code say what the code does."""

from __future__ import annotations

import re
from pathlib import Path

from inventory.model import PLATFORM_NAMES
from nornir_tasks.intent import PLATFORMS
from scripts.reference import TARGET, render_reference

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


def test_platforms_of_the_tables_are_those_with_a_driver() -> None:
    """devices.csv may name exactly the platforms that the suite can speak to."""
    assert sorted(PLATFORM_NAMES) == sorted(PLATFORMS)
