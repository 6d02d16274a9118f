"""`plan policy`: the file that a planner starts from."""

from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner

from addressing.policyfile import EXAMPLE, read_plan_policy
from scripts.main import app


def test_the_policy_printed_is_the_example(tmp_path: Path) -> None:
    """What is printed is the commented example, to the byte, and can be read as a policy."""
    result = CliRunner().invoke(app, ["plan", "policy"])
    assert result.exit_code == 0
    assert result.stdout_bytes == EXAMPLE.read_bytes()
    path = tmp_path / "policy.yaml"
    path.write_bytes(result.stdout_bytes)
    assert read_plan_policy(path) == read_plan_policy(EXAMPLE)
