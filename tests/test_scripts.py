"""The project's own scripts: quick when nothing is to do, plain about what is missing, the same on every machine."""

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
import time
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
SETUP_INPUTS = ("requirements.lock", "pyproject.toml", "scripts/setup")  # what the stamp is the digest of, in order
BASH_SCRIPTS = sorted(
    path.relative_to(ROOT).as_posix()
    for path in (*(ROOT / "scripts").iterdir(), ROOT / ".ci/run")
    if path.is_file() and path.suffix != ".py" and path.read_bytes().startswith(b"#!")
)
LOCK = (ROOT / "requirements.lock").read_text("utf-8")


def run_setup(tree: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run the tree's set-up from elsewhere and return what it said."""
    command = [str(tree / "scripts/setup"), *options]
    return subprocess.run(command, cwd="/", capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def bare_tree(tmp_path: Path) -> Path:
    """Copy what the set-up reads to a folder with a space in its name, without .venv."""
    tree = tmp_path / "a bare tree"
    (tree / "scripts").mkdir(parents=True)
    for name in SETUP_INPUTS:
        shutil.copy2(ROOT / name, tree / name)
    return tree


@pytest.fixture
def stamped_tree(bare_tree: Path) -> Path:
    """Add a .venv that only its stamp speaks for: its Python fails at everything."""
    python = bare_tree / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\nexit 1\n")
    python.chmod(0o755)
    digest = hashlib.sha256(b"".join((bare_tree / name).read_bytes() for name in SETUP_INPUTS)).hexdigest()
    (bare_tree / ".venv/.extranet-setup").write_text(f"{digest}  -\n{bare_tree}\n")
    return bare_tree


def test_second_setup_is_quick() -> None:
    """On a tree that is set up the set-up changes nothing and takes well under half a second."""
    run_setup(ROOT, "--no-install")  # may take over an environment that is complete but has an older stamp
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        done = run_setup(ROOT, "--no-install")
        seconds.append(time.perf_counter() - started)
        assert done.returncode == 0, done.stderr
        assert "nothing to do" in done.stdout
    assert min(seconds) < 0.5


def test_quiet_setup_says_nothing(stamped_tree: Path) -> None:
    """With --quiet a set-up that has nothing to do prints nothing: the launcher's output belongs to the command."""
    done = run_setup(stamped_tree, "--quiet")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_no_install_says_what_to_install(bare_tree: Path) -> None:
    """Without .venv, --no-install changes nothing, names each line to type once, and exits with 2."""
    before = sorted(bare_tree.rglob("*"))
    done = run_setup(bare_tree, "--no-install")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("-m venv --clear .venv") == 1
    assert done.stderr.count("pip install --require-hashes --use-pep517 -r requirements.lock") == 1
    assert done.stderr.count("pip install --no-deps --no-build-isolation --editable .") == 1
    assert sorted(bare_tree.rglob("*")) == before


@pytest.mark.parametrize("name", SETUP_INPUTS)
def test_stamp_ends_with_what_it_was_made_from(stamped_tree: Path, name: str) -> None:
    """A change of the lock, the project file or the set-up makes the stamp worthless."""
    assert run_setup(stamped_tree, "--no-install").returncode == 0
    with (stamped_tree / name).open("a") as file:
        file.write("\n# changed\n")
    assert run_setup(stamped_tree, "--no-install").returncode == 2


def test_stamp_does_not_move(stamped_tree: Path) -> None:
    """A copied tree does not use the environment of the tree it was copied from."""
    copy = stamped_tree.with_name("a copy")
    shutil.copytree(stamped_tree, copy)
    assert run_setup(copy, "--no-install").returncode == 2


def test_environment_without_python_is_not_believed(stamped_tree: Path) -> None:
    """A stamp says nothing when the Python below the environment is gone."""
    (stamped_tree / ".venv/bin/python").unlink()
    assert run_setup(stamped_tree, "--no-install").returncode == 2


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody who may not write")
@pytest.mark.parametrize("stale", [False, True])
def test_setup_of_a_tree_one_may_not_write_is_one_line(bare_tree: Path, *, stale: bool) -> None:
    """Somebody without the right to write the tree is told so in one line: no tool's raw error, nothing changed."""
    with tempfile.TemporaryDirectory() as folder:  # pytest's own folders are closed to others
        Path(folder).chmod(0o755)
        tree = Path(folder) / "tree"
        shutil.copytree(bare_tree, tree)
        if stale:
            (tree / ".venv").mkdir()
            (tree / ".venv/.extranet-setup").write_text("of another lock\n")
        before = sorted(tree.rglob("*"))
        done = subprocess.run(
            [str(tree / "scripts/setup")],
            cwd="/",
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            user="nobody",
            extra_groups=[],
        )
        assert sorted(tree.rglob("*")) == before
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("setup: nobody may not write to ")
    assert "as its owner, root" in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can close a folder to somebody")
@pytest.mark.parametrize("gone", [False, True])
def test_python_that_is_closed_to_somebody_is_named(bare_tree: Path, *, gone: bool) -> None:
    """Who may not run the Python behind .venv is told that, and which folder is closed: .venv itself lacks nothing."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        tree, closed = Path(folder) / "tree", Path(folder) / "closed"
        shutil.copytree(bare_tree, tree)
        (closed / "bin").mkdir(parents=True)
        if not gone:
            (closed / "bin/python3").touch(0o755)
            closed.chmod(0o700)
        (tree / ".venv/bin").mkdir(parents=True)
        (tree / ".venv/bin/python").symlink_to("python3")
        (tree / ".venv/bin/python3").symlink_to(closed / "bin/python3")
        command = [str(tree / "scripts/setup")]
        done = subprocess.run(
            command, cwd="/", capture_output=True, text=True, timeout=60, check=False, user="nobody", extra_groups=[]
        )
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    expected = f".venv/bin/python leads to {closed}/bin/python3, which nobody may not run ({closed} is closed): "
    assert (expected in done.stderr) is not gone
    assert ("missing or not complete" in done.stderr) is gone


def test_demo_help_installs_nothing_and_names_all_options(bare_tree: Path) -> None:
    """`demo --help` needs no set-up, and tells of --no-install too."""
    for name in ("demo", "demo_story.py"):
        shutil.copy2(ROOT / "scripts" / name, bare_tree / "scripts" / name)
    before = sorted(bare_tree.rglob("*"))
    done = subprocess.run(
        [bare_tree / "scripts/demo", "--help"], capture_output=True, text=True, check=True, timeout=60
    )
    assert all(option in done.stdout for option in ("--full", "--keep", "--no-install"))
    assert sorted(bare_tree.rglob("*")) == before


def test_setup_refuses_unknown_options(bare_tree: Path) -> None:
    """A misspelt option is refused before anything is done."""
    done = run_setup(bare_tree, "--noinstall")
    assert done.returncode == 64
    assert "usage:" in done.stderr


@pytest.mark.parametrize("name", BASH_SCRIPTS)
def test_script_is_runnable_and_strict(name: str) -> None:
    """Every script can be started by its name and stops at the first error."""
    assert os.access(ROOT / name, os.X_OK)
    lines = (ROOT / name).read_text("utf-8").splitlines()
    assert lines[0] == "#!/usr/bin/env bash"
    assert "set -euo pipefail" in lines
    subprocess.run(["bash", "-n", ROOT / name], check=True)


def test_the_promised_scripts_exist() -> None:
    """The commands that the documents name are there."""
    promised = {".ci/run", *(f"scripts/{name}" for name in ("bench", "demo", "extranet", "lock", "setup", "test"))}
    assert promised <= set(BASH_SCRIPTS)


def test_lock_pins_everything_by_hash() -> None:
    """Each locked requirement has one exact version and at least one hash."""
    entries = re.split(r"\n(?=[A-Za-z0-9])", LOCK.strip())
    assert len(entries) > 50
    for entry in entries:
        assert re.match(r"[a-z0-9.-]+==[^\s;]+( ; [^\\\n]+)? \\\n", entry), entry
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", entry), entry


def test_lock_names_no_place() -> None:
    """The lock holds no address, index, option line or path, so it is the same bytes wherever it is made."""
    assert "://" not in LOCK
    assert not re.search(r"^\s*-(?!-hash=)", LOCK, re.MULTILINE)
    assert not re.search(r"^[^#]*/", LOCK, re.MULTILINE)


def test_lock_covers_the_project() -> None:
    """Every requirement of the project file, also for development and building, is locked within its range."""
    document = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    project = document["project"]
    pins: dict[str, list[str]] = {}
    for name, version in re.findall(r"^([a-z0-9.-]+)==([^\s;]+)", LOCK, re.MULTILINE):
        pins.setdefault(name, []).append(version)
    texts = (*project["dependencies"], *project["optional-dependencies"]["dev"], *document["build-system"]["requires"])
    for text in texts:
        requirement = Requirement(text)
        versions = pins.get(canonicalize_name(requirement.name), [])
        assert any(map(requirement.specifier.contains, versions)), f"{text} - expected a pin, found {versions}"
