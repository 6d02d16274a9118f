"""What is made from plans is never written over plans, certificates or what it is made from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from addressing.exports.output import write_export
from addressing.guard import refuse_plan
from inventory.errors import GateRefusedError
from scripts.commands.plan_export import export
from scripts.commands.plan_map import map_
from scripts.commands.plan_overlaps import overlaps

HEADER = "code,name,level,parent,prefix,id,home,slot,state,into"
PROTECTED = {
    "plan.csv": HEADER + "\n",
    "crlf.csv": "\ufeff" + HEADER + "\r\n",
    "quoted.csv": ",".join(f'"{c}"' for c in HEADER.split(",")) + "\n",
    "plan.json": '{\n "version": 1, "format": "extranet hierarchy plan/1"}',
    "certificate": '{"format":"extranet plan certificate/1"}',
    "plan.csv.certificate.json": "damaged",
    "addresses.json": json.dumps({"format": 1, "records": [{"id": "x" * (1 << 21)}], "pool": "3fff::/36"}),
}
app = typer.Typer()
for name, command in (("export", export), ("map", map_), ("overlaps", overlaps)):
    app.command(name)(command)


@pytest.mark.parametrize("name", PROTECTED)
def test_plans_and_certificates_are_kept(tmp_path: Path, name: str) -> None:
    """Whatever goes over a plan or a certificate is refused, in one line, by the writer of exports too."""
    path = tmp_path / name
    path.write_text(PROTECTED[name], "utf-8")
    with pytest.raises(GateRefusedError) as found:
        refuse_plan(path)
    assert len(str(found.value).splitlines()) == 1
    with pytest.raises(GateRefusedError):
        write_export(path, "x", "netbox")
    assert path.read_text("utf-8") == PROTECTED[name].replace("\r\n", "\n")


def test_other_files_may_be_written_over(tmp_path: Path) -> None:
    """Reports, pictures and what is not there are no plans; inputs are what the command reads, and no more."""
    for name, text in (("a.csv", "code,prefix\n"), ("b.html", "<html>"), ("c.json", '{"pool": 1}'), ("d", "")):
        (tmp_path / name).write_text(text, "utf-8")
        refuse_plan(tmp_path / name, [tmp_path / "other", None, tmp_path])
    refuse_plan(tmp_path / "none.csv", [tmp_path / "none.csv"])
    (tmp_path / "county.yaml").write_text("x", "utf-8")
    (tmp_path / "link").symlink_to(tmp_path / "a.csv")
    for path, read in (("a.csv", "a.csv"), ("link", "a.csv"), ("county.yaml", ".")):
        with pytest.raises(GateRefusedError, match="read by this very command"):
            refuse_plan(tmp_path / path, [tmp_path / read])


def test_commands_exit_3(tmp_path: Path) -> None:
    """Export, map and overlaps refuse with exit 3, and the plan is as it was."""
    plan, rows = tmp_path / "plan.csv", tmp_path / "rows.csv"
    plan.write_text(HEADER + "\n", "utf-8")
    rows.write_text("department,prefix\na,10.0.0.0/8\n", "utf-8")
    for arguments in (["export", plan], ["map", plan], ["overlaps", rows]):
        done = CliRunner().invoke(app, [*map(str, arguments), "--out", str(plan)])
        assert done.exit_code == 3, done.output
        assert len(done.stderr.splitlines()) == 1
    assert CliRunner().invoke(app, ["overlaps", str(rows), "--out", str(rows)]).exit_code == 3
    assert plan.read_text("utf-8") == HEADER + "\n"


def test_bad_rows_are_counted_after_fifty(tmp_path: Path) -> None:
    """A table of nothing but bad rows is not listed to its end."""
    rows = tmp_path / "rows.csv"
    rows.write_text("department,prefix\n" + "a,nothing\n" * 400, "utf-8")
    done = CliRunner().invoke(app, ["overlaps", str(rows)])
    assert done.exit_code == 2
    assert len(done.stderr.splitlines()) == 52
    assert "350 more problems" in done.stderr
