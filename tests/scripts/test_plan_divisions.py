"""`extranet plan addresses --divisions`, `plan update`, `forecast` and `border` from the command line."""

from __future__ import annotations

import csv
import json
import lzma
import random
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DIVISIONS = ROOT / "tests" / "addressing" / "data" / "luoyang-2021.tsv.xz"
YICHUAN = "410329000000"
POOL = "3fff:329::/40"
MEASURED = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""
# What `plan update` writes to, seen from a program that ends itself there: nothing of that may leave a half.
KILLED = """
import os, sys
from pathlib import Path
import addressing.hierarchyfile as module
left = int(sys.argv.pop(1))
def counted(act):
    def acting(*arguments, **options):
        global left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), 9)
        return act(*arguments, **options)
    return acting
module.write_whole = counted(module.write_whole)
Path.replace = counted(Path.replace)
from scripts.main import main
main()
"""


def run(*arguments: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    """Run the command as a user does, and hold it to an exit code."""
    command = [sys.executable, "-P", "-m", "scripts.main", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == code, done.stderr + done.stdout
    assert "Traceback" not in done.stderr
    return done


def plan_of(out: Path, divisions: Path = DIVISIONS) -> list[dict[str, str]]:
    """Plan Yichuan's county into a file, and return its rows."""
    run("plan", "addresses", "--divisions", divisions, "--root", YICHUAN, "--pool", POOL, "--out", out)
    return rows_of(out)


def rows_of(path: Path) -> list[dict[str, str]]:
    """Return a plan's rows."""
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def county_lines() -> list[str]:
    """Return the county's divisions as lines of a table, the head first."""
    lines = lzma.decompress(DIVISIONS.read_bytes()).decode().splitlines()
    return [lines[0], *(line for line in lines[1:] if line.startswith(YICHUAN[:6]))]


def table(path: Path, lines: list[str]) -> Path:
    """Write a table of divisions."""
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return path


def test_yichuan(tmp_path: Path) -> None:
    """The county's 15 towns get a /48 each and its 370 villages a /56, signed off by the checker (vector T12)."""
    rows = plan_of(tmp_path / "plan.csv")
    lengths = [row["prefix"].rpartition("/")[2] for row in rows]
    assert {length: lengths.count(length) for length in set(lengths)} == {"40": 1, "48": 15, "56": 370}
    assert len({row["prefix"] for row in rows}) == len(rows) == 386
    certificate = json.loads((tmp_path / "plan.csv.certificate.json").read_text("utf-8"))
    assert certificate["checks"]
    assert all(check["ok"] for check in certificate["checks"])


def test_order_of_input(tmp_path: Path) -> None:
    """The same divisions in any order give the same bytes."""
    head, *lines = county_lines()
    random.Random(7).shuffle(lines)
    plan_of(tmp_path / "a.csv")
    plan_of(tmp_path / "b.csv", table(tmp_path / "shuffled.tsv", [head, *lines]))
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()


def test_to_standard_output(tmp_path: Path) -> None:
    """Without --out the table goes to standard output, the same as into a file."""
    plan_of(tmp_path / "a.csv")
    done = run("plan", "addresses", "--divisions", DIVISIONS, "--root", YICHUAN, "--pool", POOL)
    assert done.stdout == (tmp_path / "a.csv").read_text("utf-8")


def test_a_plan_is_not_written_over(tmp_path: Path) -> None:
    """Another plan where one is already is refused by a gate; the same plan again is not."""
    out = tmp_path / "plan.csv"
    plan_of(out)
    plan_of(out)
    before = out.read_bytes()
    other = ("--divisions", DIVISIONS, "--root", YICHUAN, "--pool", "3fff:400::/40", "--out", out)
    assert "plan update" in run("plan", "addresses", *other, code=3).stderr
    assert out.read_bytes() == before


@pytest.mark.parametrize("ending", ["csv", "json"])
def test_update(tmp_path: Path, ending: str) -> None:
    """A new town moves nobody, what is gone is quarantined, and the same update again changes no byte."""
    first, second = tmp_path / f"one.{ending}", tmp_path / f"two.{ending}"
    run("plan", "addresses", "--divisions", DIVISIONS, "--root", YICHUAN, "--pool", POOL, "--out", first)
    lines = [line for line in county_lines() if not line.startswith("410329203210")]
    new = table(tmp_path / "new.tsv", [*lines, f"410329900000\t4\t{YICHUAN}\t新城镇"])
    update = ("plan", "update", "--divisions", new, "--plan", first, "--out", second, "--json")
    said = json.loads(run(*update).stdout)
    assert (said["renumbered"], said["counts"]["new"], said["counts"]["gone"]) == (0, 1, 1)
    once = second.read_bytes()
    run(*update)
    assert second.read_bytes() == once
    if ending == "csv":
        old = {row["id"]: row["prefix"] for row in rows_of(first)}
        now = {row["id"]: (row["prefix"], row["state"]) for row in rows_of(second)}
        assert all(now[ident][0] == prefix for ident, prefix in old.items())
        assert [state for _, state in now.values()].count("quarantined") == 1
        assert len({prefix for prefix, _ in now.values()}) == len(now) == 387


def test_nothing_new(tmp_path: Path) -> None:
    """An update with the same divisions writes nothing, certificate included."""
    out = tmp_path / "plan.csv"
    plan_of(out)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    run("plan", "update", "--divisions", DIVISIONS, "--plan", out, "--out", out)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_questions(tmp_path: Path) -> None:
    """Where a match is not certain nothing is written (exit 3), and the file to decide in is begun."""
    first, second = tmp_path / "one.csv", tmp_path / "two.csv"
    rows = plan_of(first)
    village = next(row for row in rows if row["name"].endswith("鸦岭村村民委员会"))
    lines = [line for line in county_lines() if not line.startswith(village["code"])]
    changed = f"410329111299\t5\t{village['parent']}\t鸦岭新村村民委员会"
    new = table(tmp_path / "new.tsv", [*lines, changed])
    update = ("plan", "update", "--divisions", new, "--plan", first, "--out", second)
    template = run(*update, code=3).stdout
    assert village["code"] in template
    assert not second.exists()
    answers = tmp_path / "decisions.yaml"
    answers.write_text(template.replace("verdict: }", "verdict: same}", 1), "utf-8")
    run(*update, "--decisions", answers)
    kept = next(row for row in rows_of(second) if row["code"] == "410329111299")
    assert (kept["id"], kept["prefix"]) == (village["id"], village["prefix"])


def test_concurrent_planners(tmp_path: Path) -> None:
    """Of several who carry one plan on to the same file at once one succeeds; the others are refused, not mixed in."""
    first, out = tmp_path / "one.csv", tmp_path / "two.csv"
    plan_of(first)
    news = [
        table(tmp_path / f"new{n}.tsv", [*county_lines(), f"41032990{n}000\t4\t{YICHUAN}\t{name}镇"])
        for n, name in enumerate(("东城", "西关", "南湖"))
    ]
    command = [sys.executable, "-P", "-m", "scripts.main", "plan", "update", "--plan", str(first), "--out", str(out)]
    asked = [
        subprocess.Popen(
            [*command, "--divisions", str(new)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=ROOT
        )
        for new in news
    ]
    assert sorted(process.wait() for process in asked) == [0, 3, 3]
    assert len(rows_of(out)) == 387
    run("plan", "check", out)


def test_planners_apart(tmp_path: Path) -> None:
    """Who carries one plan on to files of their own gives no prefix that another gave, but to the same division."""
    first = tmp_path / "one.csv"
    plan_of(first)
    link = tmp_path / "link.csv"
    link.symlink_to(first)
    given: dict[str, str] = {}
    for number, (name, plan) in enumerate((("东城", first), ("西关", link), ("东城", first))):
        new = table(tmp_path / "new.tsv", [*county_lines(), f"41032990{name == '西关':d}000\t4\t{YICHUAN}\t{name}镇"])
        out = tmp_path / f"out{number}.csv"
        run("plan", "update", "--divisions", new, "--plan", plan, "--out", out)
        prefix = next(row["prefix"] for row in rows_of(out) if row["name"] == f"{name}镇")
        assert given.setdefault(prefix, name) == name
        assert given[prefix] == name
    assert sorted(given.values()) == ["东城", "西关"]


def test_carried_on_meanwhile(tmp_path: Path) -> None:
    """Who waited for another that carried the same plan on in place is told so, and writes nothing."""
    plan = tmp_path / "plan.csv"
    plan_of(plan)
    news = [
        table(tmp_path / f"new{n}.tsv", [*county_lines(), f"41032990{n}000\t4\t{YICHUAN}\t{name}镇"])
        for n, name in enumerate(("东城", "西关"))
    ]
    command = [sys.executable, "-P", "-m", "scripts.main", "plan", "update", "--plan", str(plan), "--out", str(plan)]
    asked = [
        subprocess.Popen(
            [*command, "--divisions", str(new)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=ROOT
        )
        for new in news
    ]
    codes = sorted(process.wait() for process in asked)
    states = [row["state"] for row in rows_of(plan)]
    # Both at once: one is refused. One after the other: the second list lacks the first one's town.
    assert (codes, states.count("quarantined")) in [([0, 3], 0), ([0, 0], 1)]


@pytest.mark.parametrize("ending", ["csv", "json"])
def test_a_row_cut_out_is_missed(tmp_path: Path, ending: str) -> None:
    """A plan with a row cut out is not carried on: what was given there would be given again."""
    plan = tmp_path / f"plan.{ending}"
    run("plan", "addresses", "--divisions", DIVISIONS, "--root", YICHUAN, "--pool", POOL, "--out", plan)
    lines = plan.read_text("utf-8").splitlines(keepends=True)
    cut = next(n for n, line in enumerate(lines) if "鸦岭村" in line)
    plan.write_text("".join(lines[:cut] + lines[cut + 1 :]), "utf-8")
    update = (
        "plan",
        "update",
        "--divisions",
        DIVISIONS,
        "--root",
        YICHUAN,
        "--plan",
        plan,
        "--out",
        tmp_path / "x.csv",
    )
    assert "changed by hand" in run(*update, code=2).stderr
    (tmp_path / f"plan.{ending}.certificate.json").unlink()
    assert "one for every row" in run(*update, "--adopt", code=2).stderr


def test_without_its_certificate(tmp_path: Path) -> None:
    """A plan without its certificate can be read, and is carried on only when that is asked for."""
    plan = tmp_path / "plan.csv"
    plan_of(plan)
    (tmp_path / "plan.csv.certificate.json").unlink()
    run("plan", "forecast", "--plan", plan)
    update = ("plan", "update", "--divisions", DIVISIONS, "--plan", plan, "--out", tmp_path / "next.csv")
    assert "--adopt" in run(*update, code=3).stderr
    run(*update, "--adopt")


def test_killed_twice(tmp_path: Path) -> None:
    """Killed between the plan and its certificate, and then again by the next who writes, a plan can still be read."""
    plan = tmp_path / "plan.csv"
    plan_of(plan)
    new = table(tmp_path / "new.tsv", [*county_lines(), f"410329900000\t4\t{YICHUAN}\t新城镇"])
    newer = table(
        tmp_path / "newer.tsv",
        [*county_lines(), f"410329900000\t4\t{YICHUAN}\t新城镇", f"410329901000\t4\t{YICHUAN}\t二镇"],
    )
    first, second = (
        ("plan", "update", "--divisions", str(divisions), "--plan", str(plan), "--out", str(plan))
        for divisions in (new, newer)
    )
    for again in (0, 3, 6, 7):
        for path in tmp_path.glob("*plan*"):
            path.unlink()
        plan_of(plan)
        old = plan.read_bytes()
        # All but the last write: the new plan is there, its certificate not yet in place.
        for moment, update in ((6, first), (again, second)):
            killed = [sys.executable, "-P", "-c", KILLED, str(moment), *update]
            assert subprocess.run(killed, capture_output=True, check=False, cwd=ROOT).returncode == -9
        assert plan.read_bytes() != old
        run("plan", "forecast", "--plan", plan)
        run(*second)


def test_killed_at_any_write(tmp_path: Path) -> None:
    """Killed before any of its writes, an update leaves the old plan or the new one, whole, to be carried on."""
    first = tmp_path / "one.csv"
    plan_of(first)
    old = first.read_bytes()
    new = table(tmp_path / "new.tsv", [*county_lines(), f"410329900000\t4\t{YICHUAN}\t新城镇"])
    update = ("plan", "update", "--divisions", str(new), "--plan", str(first), "--out", str(first))
    seen = []
    for left in range(20):
        done = subprocess.run(
            [sys.executable, "-P", "-c", KILLED, str(left), *update], capture_output=True, check=False, cwd=ROOT
        )
        changed = first.read_bytes() != old
        seen.append((done.returncode, changed))
        run("plan", "forecast", "--plan", first)  # it can be read, by whatever certificate is there
        if done.returncode == 0:
            break
    assert [code for code, _ in seen[:-1]] == [-9] * (len(seen) - 1)
    assert seen[-1] == (0, True)
    assert len(seen) > 4
    run("plan", "check", first)


@pytest.mark.heavy
def test_a_whole_country(tmp_path: Path) -> None:
    """A list of the country's size and shape, ragged as it is, is planned, checked and written in 600 MiB (vector T14)."""
    lines = ["code\tlevel\tparent\tname"]
    rng = random.Random(2021)
    for province in range(31):
        lines.append(f"{province + 11}0000000000\t1\t\t省{province}")
        for city in range(1, 12):
            code = f"{province + 11}{city:02}"
            lines.append(f"{code}00000000\t2\t{province + 11}0000000000\t市{city}")
            for county in range(1, rng.randrange(3, 18)):
                lines.append(f"{code}{county:02}000000\t3\t{code}00000000\t县{county}")
                for town in range(1, rng.randrange(5, 23)):
                    # In the first county's place, towns directly under the city.
                    above = f"{code}00000000" if county == 1 else f"{code}{county:02}000000"
                    lines.append(f"{code}{county:02}{town:03}000\t4\t{above}\t乡{town}")
                    lines += [
                        f"{code}{county:02}{town:03}{village:03}\t5\t{code}{county:02}{town:03}000\t村{village}"
                        for village in range(1, rng.randrange(4, 29))
                    ]
    assert 550_000 < len(lines) < 750_000
    divisions = table(tmp_path / "country.tsv", lines)
    command = [sys.executable, "-P", "-m", "scripts.main", "plan", "addresses", "--divisions", str(divisions)]
    command += ["--pool", "3fff::/20", "--out", str(tmp_path / "plan.csv")]
    # From a small process: a child's largest memory counts that of whoever forked it.
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, *command], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert int(done.stdout.split()[-1]) < 600 * 1024
    run("plan", "check", tmp_path / "plan.csv", "--divisions", divisions)
    with (tmp_path / "plan.csv").open("rb") as stream:
        assert sum(1 for _ in stream) == len(lines)


def test_outlook(tmp_path: Path) -> None:
    """A forecast names the fullest parents; a border's answer names the sides, and an unknown place is exit 2."""
    plan = tmp_path / "plan.csv"
    plan_of(plan)
    assert "鸦岭镇" in run("plan", "forecast", "--plan", plan).stdout
    assert "nobody is renumbered" in run("plan", "border", "town", "--plan", plan).stdout
    assert "410329111000" in run("plan", "border", "41032911100", "--plan", plan, code=2).stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--root", YICHUAN), "--divisions"),
        (("--divisions", "nowhere.tsv", "--pool", POOL), "nowhere.tsv"),
        (("--divisions", DIVISIONS), "--pool"),
        (("--divisions", DIVISIONS, "--pool", "3fff:329::1/40"), "host bits"),
        (("--divisions", DIVISIONS, "--root", YICHUAN, "--pool", "3fff:329::/52"), "a pool of"),
        (("--divisions", DIVISIONS, "--root", "410399000000", "--pool", POOL), "410399000000"),
        (("--divisions", DIVISIONS, "--root", YICHUAN, "--pool", POOL, "--format", "nettbox"), "netbox"),
    ],
)
def test_bad_input(tmp_path: Path, arguments: tuple[object, ...], words: str) -> None:
    """Bad input is exit 2 with a line that says what to do, and nothing is written."""
    done = run("plan", "addresses", *arguments, "--out", tmp_path / "plan.csv", code=2)
    assert words in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_code_reused(tmp_path: Path) -> None:
    """A village with another's code and an unlike name is asked about when one named like the old turns up in the area."""
    first = tmp_path / "one.csv"
    rows = plan_of(first)
    village = next(row for row in rows if row["name"] == "鸦岭村村民委员会")
    renamed = [line.replace("鸦岭村村民委员会", "全新村村民委员会") for line in county_lines()]
    update = ("plan", "update", "--plan", first, "--out", tmp_path / "two.csv", "--divisions")
    elsewhere = table(tmp_path / "a.tsv", [*renamed, "410329110299\t5\t410329110000\t鸦岭新村村民委员会"])
    assert village["code"] in run(*update, elsewhere, code=3).stdout
    run(*update, table(tmp_path / "b.tsv", renamed))  # nobody else: the village has another name
    kept = next(row for row in rows_of(tmp_path / "two.csv") if row["code"] == village["code"])
    assert (kept["id"], kept["prefix"]) == (village["id"], village["prefix"])
