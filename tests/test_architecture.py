"""The rooms' arrows point down: a lower room knows nothing of a higher one."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("inventory", "addressing", "lab", "nornir_tasks", "migration", "playbooks", "scripts")  # low to high
IMPURE = ("os", "socket", "subprocess", "time", "datetime", "random")  # what a pure room does not touch
TEXT_OF_ADDRESSES = {f"socket.{name}" for name in ("AF_INET", "AF_INET6", "inet_ntop", "inet_pton")}  # opens nothing


def imported_modules(tree: ast.Module, package: tuple[str, ...]) -> Iterator[tuple[int, str]]:
    """Yield line and full name of everything imported, at any depth, relative names resolved against the package."""
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from ((node.lineno, alias.name) for alias in names)
            case ast.ImportFrom(module=module, names=names, level=level):
                base = package[: len(package) - level + 1] if level else ()
                start = ".".join((*base, module) if module else base)
                # The name may itself be a module: `from . import gates`, or, at the top, `from .. import lab`.
                yield from ((node.lineno, f"{start}.{alias.name}".lstrip(".")) for alias in names)
            case ast.Call(
                func=ast.Name(id="__import__" | "import_module") | ast.Attribute(attr="import_module"),
                args=[ast.Constant(value=str(name)), *_],
            ):
                yield node.lineno, name


def forbidden_imports(source: str, path: Path) -> list[str]:
    """List the imports in one file of a room that break its arrows, as `path:line imports name`."""
    room = path.parts[0]
    forbidden = {*ROOMS[ROOMS.index(room) + 1 :], "tests"}
    if room == "addressing":
        forbidden |= set(IMPURE)
    imports = imported_modules(ast.parse(source), path.parent.parts)
    return [
        f"{path}:{line} imports {name}"
        for line, name in imports
        if name.split(".")[0] in forbidden and name not in TEXT_OF_ADDRESSES
    ]


def files_of(room: str) -> list[Path]:
    """List the room's Python files, relative to the root."""
    return sorted(path.relative_to(ROOT) for path in (ROOT / room).rglob("*.py"))


@pytest.mark.parametrize("room", ROOMS)
def test_arrows_point_down(room: str) -> None:
    """No module imports a higher room, not even inside a function; addressing touches nothing but its arguments."""
    broken = [line for path in files_of(room) for line in forbidden_imports((ROOT / path).read_text("utf-8"), path)]
    assert broken == []


@pytest.mark.parametrize("room", ROOMS)
def test_every_room_is_looked_at(room: str) -> None:
    """A room that was renamed or emptied is noticed: a check that looked at nothing has not passed."""
    assert files_of(room)


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("inventory/model.py", "import addressing"),
        ("inventory/model.py", "from migration.gates import judge"),
        ("inventory/deep/model.py", "from ... import lab"),
        ("lab/county.py", "def build():\n    from nornir_tasks import push"),
        ("lab/county.py", "def build():\n    importlib.import_module('scripts.main')"),
        ("migration/gates.py", "if TYPE_CHECKING:\n    import playbooks.runner as runner"),
        ("scripts/main.py", "import tests.fakes"),
        ("addressing/scheme.py", "import os.path"),
        ("addressing/scheme.py", "from datetime import UTC"),
        ("addressing/scheme.py", "from socket import create_connection"),
    ],
)
def test_a_broken_arrow_is_seen(path: str, source: str) -> None:
    """Every way of importing upwards is found."""
    assert len(forbidden_imports(source, Path(path))) == 1


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("migration/gates.py", "from inventory.model import Station\nimport nornir_tasks.probe"),
        ("migration/deep/gates.py", "from .. import lab, scripts"),  # migration.lab and migration.scripts: its own
        ("scripts/main.py", "import migration, playbooks"),
        ("inventory/model.py", "import laboratory, os, datetime"),
        ("addressing/scheme.py", "import ipaddress\nfrom .time import slots"),
        ("addressing/scheme.py", "from socket import AF_INET6, inet_pton"),
    ],
)
def test_a_downward_arrow_is_let_through(path: str, source: str) -> None:
    """Imports of lower rooms, of the room itself and of names that only look alike are not reported."""
    assert forbidden_imports(source, Path(path)) == []
