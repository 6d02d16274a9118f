"""Documents that are made from the code say what the code does."""

from __future__ import annotations

import re
from pathlib import Path

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
