"""The core stands on the standard library alone and touches neither clock, chance, disk nor network."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

import pytest

from towpath.v1 import auth_service_pb2, job_pb2
from towpath_server import core
from towpath_server.core.job import AttemptOutcome, FailureCause, JobState, Priority
from towpath_server.core.records import Role

MODULES = sorted(module.name for module in iter_modules(core.__path__))
# Of the standard library, what the core may use. Add to it what is as pure.
ALLOWED = {
    "__future__",
    "collections",
    "dataclasses",
    "operator",
    "enum",
    "functools",
    "hashlib",
    "heapq",
    "itertools",
    "math",
    "types",
    "typing",
}
CLOCKS = {"now", "utcnow", "today", "time", "time_ns", "monotonic", "perf_counter"}


def tree_of(module: str) -> ast.Module:
    """The module's source."""
    path = import_module(f"towpath_server.core.{module}").__file__
    assert path is not None
    return ast.parse(Path(path).read_text(encoding="utf-8"))


def imports(tree: ast.Module) -> Iterator[str]:
    """What it imports, wherever it does."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            yield node.module or ""


@pytest.mark.parametrize("module", MODULES)
def test_imports(module: str) -> None:
    for name in imports(tree_of(module)):
        ours = name == "towpath_server.core" or name.startswith("towpath_server.core.")
        assert ours or name.split(".")[0] in ALLOWED, name


@pytest.mark.parametrize("module", MODULES)
def test_no_clock_and_no_side_door(module: str) -> None:
    for node in ast.walk(tree_of(module)):
        if isinstance(node, ast.Call):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            assert called not in CLOCKS | {"open", "exec", "eval", "__import__", "import_module", "print", "input"}
        assert not isinstance(node, ast.Global | ast.Nonlocal | ast.Await | ast.AsyncFunctionDef)


def test_what_is_allowed_is_of_the_standard_library() -> None:
    assert sys.stdlib_module_names >= ALLOWED


@pytest.mark.parametrize(
    ("ours", "theirs", "prefix"),
    [
        (JobState, job_pb2.JobState, "JOB_STATE_"),
        (Priority, job_pb2.Priority, "PRIORITY_"),
        (FailureCause, job_pb2.FailureCause, "FAILURE_CAUSE_"),
        (AttemptOutcome, job_pb2.AttemptOutcome, "ATTEMPT_OUTCOME_"),
        (Role, auth_service_pb2.Role, "ROLE_"),
    ],
)
def test_numbers_are_those_of_the_protos(ours: type, theirs: type, prefix: str) -> None:
    mine = {f"{prefix}{member.name}": member.value for member in ours}  # type: ignore[attr-defined]
    assert {**mine, f"{prefix}UNSPECIFIED": 0} == dict(theirs.items())  # type: ignore[attr-defined]
