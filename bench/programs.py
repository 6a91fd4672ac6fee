"""The real programs as real processes: schedulers, on fsynced SQLite or another store, and workers; what they use."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[1]
#: Everything that the bench sets up and writes; git does not see it.
HOME = ROOT / ".bench"
ADDRESS = re.compile(r"127\.0\.0\.1:\d+")
STOP_SECONDS = 20
SETTLE_LOOKS, SETTLE_SECONDS = 10, 1.0


@dataclass(frozen=True, slots=True)
class Program:
    """A process that was started, with all that it started."""

    process: subprocess.Popen[str]

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    def cpu_seconds(self) -> float:
        """User and system time so far, of itself and its descendants."""
        total = 0.0
        for process in self._family():
            times = process.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
        return total

    def settle(self) -> None:
        """Wait until it does nothing: what is left of its start is not what an idle system does. At most 10 s."""
        for _ in range(SETTLE_LOOKS):
            before = self.cpu_seconds()
            time.sleep(SETTLE_SECONDS)
            if self.cpu_seconds() - before < SETTLE_SECONDS * 0.05:
                return

    def rss(self) -> int:
        """Resident bytes now, of itself and its descendants."""
        return sum(process.memory_info().rss for process in self._family())

    def _family(self) -> list[psutil.Process]:
        first = psutil.Process(self.pid)
        return [first, *first.children(recursive=True)]


@dataclass(frozen=True, slots=True)
class Scheduler(Program):
    """A scheduler that listens."""

    address: str
    folder: Path

    @property
    def token(self) -> str:
        """The admin's."""
        return (self.folder / "config" / "token").read_text(encoding="utf-8").strip()


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder for one measurement, on the repository's disk: a folder in memory would make fsync free."""
    place = HOME / "scratch"
    place.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place, ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@contextmanager
def scheduler(folder: Path, *arguments: str, store: str = "", name: str = "server") -> Iterator[Scheduler]:
    """A scheduler that is ready, on a free port, with its token and, where none is named, its store under `folder`."""
    words = [sys.executable, "-m", "towpath_server", "--listen", "127.0.0.1:0", "--config-dir", str(folder / "config")]
    words += ["--store", store or f"sqlite:///{folder / 'towpath.db'}", *arguments]
    with running(words, folder / f"{name}.log") as (process, address):
        yield Scheduler(process, address, folder)


@contextmanager
def worker(at: Scheduler, *arguments: str, name: str = "worker") -> Iterator[Program]:
    """A real `towpath-worker` that serves the job types of bench.handlers, connected to that scheduler."""
    words = [sys.executable, "-m", "towpath_worker", "--server", at.address, "--handlers", "bench.handlers"]
    words += ["--state-dir", str(at.folder / name), *arguments]
    with running(words, at.folder / f"{name}.log", TOWPATH_TOKEN=at.token) as (process, _):
        yield Program(process)


@contextmanager
def running(words: Sequence[str], log: Path, **environment: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A program that says an address when it is ready, and that address; its log is written to `log`."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("TOWPATH_")}
    clean["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    clean |= environment
    with log.open("a", encoding="utf-8") as errors:
        process = subprocess.Popen(
            words, env=clean, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, text=True
        )
    try:
        yield process, _address(process, log)
    finally:
        process.terminate()
        try:
            process.communicate(timeout=STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


def _address(process: subprocess.Popen[str], log: Path) -> str:
    assert process.stdout is not None
    for line in process.stdout:
        if found := ADDRESS.search(line):
            return found[0]
    raise RuntimeError(f"It ended before it was ready:\n{log.read_text(encoding='utf-8')[-2000:]}")
