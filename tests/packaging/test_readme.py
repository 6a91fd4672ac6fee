"""What the README says is done here: its programs are started, its commands and examples are run."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from support import processes
from support.processes import Scheduler

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BIN = Path(sys.executable).parent
ADDRESS = "127.0.0.1:7070"
OURS = ("towpath", "towpath-server", "towpath-worker")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def typed(line: str) -> list[str]:
    """The words of a line such as `$ NAME=value towpath stats  # what it does`, without the setting."""
    return [word for word in shlex.split(line.removeprefix("$ "), comments=True) if not re.match(r"[A-Z_]+=", word)]


CONSOLE = [typed(line) for block in blocks("console") for line in block.splitlines()]
SHELL = blocks("bash")
FILES = {block.splitlines()[0].removeprefix("# "): block for block in blocks("python") if block.startswith("# ")}
EXAMPLES = [block for block in blocks("python") if not block.startswith("# ")]


def command(program: str, having: str = "") -> list[str]:
    """The README's own words for starting a program."""
    return next(words for words in CONSOLE if words[0] == program and having in " ".join(words))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("home")
    (folder / "data").mkdir()
    for name, text in FILES.items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def environment(home: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("TOWPATH_", "XDG_"))}
    return {**kept, "HOME": str(home), "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}


@pytest.fixture(scope="module")
def scheduler(home: Path, environment: dict[str, str]) -> Iterator[Scheduler]:
    # Its own words, but for the port, which the environment overrides.
    started = processes.start(command("towpath-server"), home, {**environment, "TOWPATH_SERVER_LISTEN": "127.0.0.1:0"})
    with started as (process, address):
        running = Scheduler(address, home / ".config" / "towpath", process)
        words = command("towpath-worker", having="--handlers")
        words = [word.replace(ADDRESS, address).replace("~", str(home)) for word in words]
        with processes.start(words, home, environment):
            yield running


@pytest.mark.parametrize("example", EXAMPLES, ids=range(len(EXAMPLES)))
def test_python_examples_run(example: str, home: Path, environment: dict[str, str], scheduler: Scheduler) -> None:
    run([sys.executable, "-c", example], home, {**environment, "TOWPATH_ADDRESS": scheduler.address})


def test_the_quickstart_runs(home: Path, environment: dict[str, str], scheduler: Scheduler) -> None:
    script = str(ROOT / "examples" / "quickstart.py")
    run([sys.executable, script], home, {**environment, "TOWPATH_ADDRESS": scheduler.address})


@pytest.mark.parametrize("block", SHELL, ids=range(len(SHELL)))
def test_shell_lines_run(block: str, home: Path, environment: dict[str, str], scheduler: Scheduler) -> None:
    lines = "set -euo pipefail\n" + block.replace(ADDRESS, scheduler.address)
    run(["bash", "-c", lines], home, {**environment, "TOWPATH_ADDRESS": scheduler.address})


@pytest.mark.parametrize("words", [words for words in CONSOLE if words[0] in OURS], ids=" ".join)
def test_options_are_known(words: list[str], environment: dict[str, str]) -> None:
    verbs = []
    for word in words[1:]:
        if not re.fullmatch("[a-z]+(-[a-z]+)*", word):
            break
        verbs.append(word)
    options = {word for word in words if word.startswith("--")}
    shown = explained((words[0], *verbs), environment["PATH"])
    assert {option for option in options if not re.search(rf"{option}\b", shown)} == set()


def test_make_targets_and_extras_are_known() -> None:
    targets = {words[1] for words in CONSOLE if words[0] == "make"}
    assert targets
    assert targets <= set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    extras = set(re.findall(r"'\.\[([\w-]+)\]'", README))
    assert extras
    assert extras <= tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"].keys()


def test_links_lead_somewhere() -> None:
    linked = {target for target in re.findall(r"\]\(([^)#]+)\)", README) if "://" not in target}
    assert {target for target in linked if not (ROOT / target).exists()} == set()


@cache
def explained(words: tuple[str, ...], path: str) -> str:
    return run([*words, "--help"], ROOT, {**os.environ, "PATH": path})


def run(words: list[str], folder: Path, environment: dict[str, str]) -> str:
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
