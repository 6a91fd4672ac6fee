"""What the bench needs: environments for the peers, redis, PostgreSQL. What cannot be had is named, never hidden."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from rich.console import Console

from bench.peers.peers import POSTGRES, REDIS, SPECS, Spec
from bench.programs import HOME
from bench.rows import Measured
from bench.services import postgres_programs, redis_program

INSTALL_SECONDS = 300
VENVS = HOME / "venvs"
SCRATCH_SECONDS = 6 * 3600
PACKAGES = {REDIS: "redis-server", POSTGRES: "postgresql"}


def set_up(parts: Sequence[Measured], console: Console) -> dict[str, str]:
    """Installs what is not there yet; why parts and peers are left out, by name."""
    _clean_scratch()
    reasons = {name: _service(name, console) for name in (REDIS, POSTGRES) if any(one.service == name for one in parts)}
    wanted = [spec for spec in SPECS if spec in parts]
    left_out = {one.name: reason for one in parts if one not in wanted and (reason := reasons.get(one.service))}
    for home in dict.fromkeys(spec.home for spec in wanted):
        requires = dict.fromkeys(package for spec in SPECS if spec.home == home for package in spec.requires)
        failure = _install(home, tuple(requires), console)
        for spec in wanted:
            if spec.home == home and (reason := reasons.get(spec.service) or failure):
                left_out[spec.name] = reason
    return left_out


def version_of(spec: Spec) -> str:
    """The version of the peer that is installed; empty where it is not."""
    places = [str(path) for path in spec.python.parents[1].glob("lib/python*/site-packages")]
    name = spec.requires[0].partition("[")[0]
    return next((found.version for found in metadata.distributions(name=name, path=places)), "")


def _install(home: str, requires: tuple[str, ...], console: Console) -> str:
    """Why the environment could not be made; empty when it is there."""
    place = VENVS / home
    ready = place / "ready"
    if ready.exists() and ready.read_text(encoding="utf-8") == "\n".join(requires):
        return ""
    console.print(f"Setting up {home} (once)")
    uv = shutil.which("uv", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
    if uv is None:
        return "uv is not installed"
    shutil.rmtree(place, ignore_errors=True)
    try:
        _run([uv, "venv", "--quiet", "--python", sys.executable, str(place)])
        _run([uv, "pip", "install", "--quiet", "--python", str(place / "bin" / "python"), *requires])
    except subprocess.CalledProcessError as error:
        return f"it does not install: {_first_words(error.stderr)}"
    except subprocess.TimeoutExpired:
        return f"it does not install in {INSTALL_SECONDS} s"
    ready.write_text("\n".join(requires), encoding="utf-8")
    return ""


def _service(name: str, console: Console) -> str:
    """Why a server program cannot be had; empty when it is there."""
    found = {REDIS: redis_program, POSTGRES: postgres_programs}[name]
    package = PACKAGES[name]
    if found() is not None:
        return ""
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        return f"it needs {package}, which is not installed (on Debian: apt-get install {package})"
    console.print(f"Installing {package} (once)")
    try:
        _run(["apt-get", "update", "--quiet", "--quiet"])
        _run(["apt-get", "install", "--yes", "--quiet", "--no-install-recommends", package])
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        return f"apt-get install {package} failed: {_first_words(error.stderr)}"
    return "" if found() is not None else f"{package} is installed, but not where it is looked for"


def _run(words: list[str]) -> None:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run(
        words, check=True, timeout=INSTALL_SECONDS, stdin=subprocess.DEVNULL, capture_output=True, env=environment
    )


def _first_words(said: bytes | None) -> str:
    words = " ".join((said or b"").decode(errors="replace").split())
    return words[:160] or "it said nothing"


def _clean_scratch() -> None:
    """Remove what killed measurements left long ago."""
    for folder in (HOME / "scratch").glob("*"):
        if folder.stat().st_mtime < time.time() - SCRATCH_SECONDS:
            shutil.rmtree(folder, ignore_errors=True)
