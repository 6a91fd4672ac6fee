"""Rules of the house that import-linter cannot say."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CORE = ROOT / "server" / "towpath_server" / "core"
# The world outside: clocks, chance, files, processes, the network. `core` is told what it needs to know.
WORLD = {
    *("asyncio", "datetime", "io", "logging", "os", "pathlib", "random", "secrets", "select", "selectors", "signal"),
    *("socket", "sqlite3", "subprocess", "sys", "tempfile", "threading", "time", "urllib", "uuid"),
}
LONGEST = 300
# The one file in which states change: its table alone is a hundred lines, and it is read as a whole.
LONGER = {"server/towpath_server/core/lifecycle.py": 420}


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module or ""


@pytest.mark.parametrize("path", sorted(CORE.glob("*.py")), ids=lambda path: path.stem)
def test_core_knows_the_standard_library_and_nothing_of_the_world(path: Path) -> None:
    for name in imported(path):
        top = name.partition(".")[0]
        assert name.startswith("towpath_server.core") or (top in sys.stdlib_module_names and top not in WORLD), name


def test_modules_are_short() -> None:
    modules = [
        path
        for folder in ("client", "worker", "server", "protos", "docs")
        for path in (ROOT / folder).rglob("*.py")
        if "_pb2" not in path.name
    ]
    assert len(modules) > 20
    lines = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8").count("\n") for path in modules}
    assert {name: count for name, count in lines.items() if count > LONGER.get(name, LONGEST)} == {}
