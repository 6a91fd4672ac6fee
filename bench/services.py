"""The servers that peers need: redis, and PostgreSQL, on ports of their own, as whoever may run them."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench.programs import scratch

GUARD = Path(__file__).with_name("guard.py")
UP_SECONDS = 30.0
#: PostgreSQL refuses to run as root.
UNPRIVILEGED = ("postgres", "nobody")


@dataclass(frozen=True, slots=True)
class Services:
    """What runs, as environment variables for peers; and why something does not."""

    environment: dict[str, str] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)


@contextmanager
def guarded(
    words: Sequence[str], *, ask: str = "SIGTERM", user: str = "-", **popen: object
) -> Iterator[subprocess.Popen[str]]:
    """A program that ends, with all its descendants, when this block or this process does."""
    process = subprocess.Popen(  # type: ignore[call-overload]
        [sys.executable, str(GUARD), ask, user, *words],
        stdin=subprocess.PIPE,
        text=True,
        start_new_session=True,
        **popen,
    )
    try:
        yield process
    finally:
        process.stdin.close()
        process.wait()


@contextmanager
def services(wanted: Sequence[str]) -> Iterator[Services]:
    """Those of "redis" and "postgres" that are wanted, empty, while the block runs."""
    running = Services()
    starters = {"redis": _redis, "postgres": _postgres}
    with scratch() as folder, ExitStack() as stack:
        for name in wanted:
            try:
                running.environment.update(stack.enter_context(starters[name](folder / name)))
            except (OSError, subprocess.SubprocessError, RuntimeError) as error:
                running.missing[name] = str(error)
        yield running


def redis_program() -> str | None:
    """Where redis-server is."""
    return shutil.which("redis-server")


def postgres_programs() -> Path | None:
    """The folder of PostgreSQL's programs, of the newest version where there are several."""
    if found := shutil.which("initdb"):
        return Path(found).parent
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    return debian[-1].parent if debian else None


@contextmanager
def _redis(folder: Path) -> Iterator[dict[str, str]]:
    """Redis as its users run it: an append-only file, fsynced each second."""
    program, port = redis_program(), _free_port()
    if program is None:
        raise RuntimeError("there is no redis-server")
    folder.mkdir()
    words = [program, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", ""]
    words += ["--appendonly", "yes", "--appendfsync", "everysec", "--databases", "32"]
    with (folder / "log").open("w") as log, guarded(words, stdout=log, stderr=log) as process:
        _until_up(process, port, folder / "log")
        yield {"BENCH_REDIS_PORT": str(port)}


@contextmanager
def _postgres(folder: Path) -> Iterator[dict[str, str]]:
    """PostgreSQL with its defaults: every commit is fsynced."""
    programs, port = postgres_programs(), _free_port()
    if programs is None:
        raise RuntimeError("there is no PostgreSQL")
    folder.mkdir()
    user = _unprivileged(folder) if os.geteuid() == 0 else "-"
    made = [str(programs / "initdb"), "-D", str(folder / "data"), "-A", "trust", "-U", "bench", "-E", "UTF8"]
    log_path = folder / "log"
    with log_path.open("w") as log:
        with guarded(made, user=user, cwd=folder, stdout=log, stderr=log) as process:
            if process.wait(60):
                raise RuntimeError(f"initdb failed: {last_words(log_path)}")
        words = [str(programs / "postgres"), "-D", str(folder / "data"), "-p", str(port), "-c"]
        words += ["listen_addresses=127.0.0.1", "-c", "unix_socket_directories="]
        with guarded(words, ask="SIGINT", user=user, cwd=folder, stdout=log, stderr=log) as process:
            _until_up(process, port, log_path)
            pid = (folder / "data" / "postmaster.pid").read_text().partition("\n")[0]
            yield {"BENCH_POSTGRES": f"postgresql://bench@127.0.0.1:{port}/postgres", "BENCH_POSTGRES_PID": pid}


def _unprivileged(folder: Path) -> str:
    """A user who may run PostgreSQL, and who now owns the folder."""
    for name in UNPRIVILEGED:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        os.chown(folder, entry.pw_uid, entry.pw_gid)
        folder.parent.chmod(0o711)
        return name
    raise RuntimeError("PostgreSQL refuses to run as root, and there is no other user")


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    return port


def _until_up(process: subprocess.Popen[str], port: int, log: Path) -> None:
    until = time.monotonic() + UP_SECONDS
    while time.monotonic() < until and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError(f"it did not come up: {last_words(log)}")


def last_words(log: Path) -> str:
    """The last line that a program wrote."""
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")
