"""The real programs as real processes: a scheduler and workers, started and stopped."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ADDRESS = re.compile(r"127\.0\.0\.1:\d+")
STOP_SECONDS = 30

Process = subprocess.Popen[str]


@dataclass(frozen=True, slots=True)
class Scheduler:
    """A scheduler that listens."""

    address: str
    config: Path
    process: Process

    @property
    def token(self) -> str:
        """The admin's."""
        return self.token_file.read_text(encoding="utf-8").strip()

    @property
    def token_file(self) -> Path:
        """Where the scheduler wrote it."""
        return self.config / "token"

    @property
    def environment(self) -> dict[str, str]:
        """What a client or worker needs to find it, and nothing of the caller's own."""
        return {**clean(), "TOWPATH_ADDRESS": self.address, "TOWPATH_TOKEN_FILE": str(self.token_file)}


@contextmanager
def scheduler(folder: Path, *arguments: str) -> Iterator[Scheduler]:
    """A scheduler on a free port, with its store and its token under `folder`."""
    with start(scheduler_words(folder, "--listen", "127.0.0.1:0", *arguments), folder, clean()) as (process, address):
        yield Scheduler(address, folder / "config", process)


def scheduler_words(folder: Path, *arguments: str) -> list[str]:
    """The command line of a scheduler whose store and token lie under `folder`."""
    store = f"sqlite:///{folder / 'towpath.db'}"
    words = [sys.executable, "-m", "towpath_server", "--store", store, "--config-dir", str(folder / "config")]
    return [*words, *arguments]


@contextmanager
def worker(at: Scheduler, folder: Path, *arguments: str) -> Iterator[Process]:
    """A worker of that scheduler, which keeps everything that it writes under `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    with start(worker_words(at.address, folder, *arguments), folder, at.environment) as (process, _):
        yield process


def worker_words(address: str, folder: Path, *arguments: str) -> list[str]:
    """The command line of a worker that keeps everything under `folder`."""
    words = [sys.executable, "-m", "towpath_worker", "--server", address, "--state-dir", str(folder / "state")]
    return [*words, *arguments]


@contextmanager
def start(words: Sequence[str], folder: Path, environment: Mapping[str, str]) -> Iterator[tuple[Process, str]]:
    """A program that says an address when it is ready, and that address. Its log is NAME.log in `folder`."""
    log = folder / f"{Path(words[0]).name if '-m' not in words else words[2]}.log"
    with (
        log.open("a", encoding="utf-8") as errors,
        subprocess.Popen(
            words,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as process,
    ):
        try:
            yield process, _address(process, log)
        finally:
            process.terminate()
            try:
                process.communicate(timeout=STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                raise


def clean() -> dict[str, str]:
    """This environment without Towpath's own settings, and with the job types of `support.job_types` in reach."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TOWPATH_")}
    return kept | {"PYTHONPATH": str(Path(__file__).resolve().parent.parent)}


def _address(process: Process, log: Path) -> str:
    assert process.stdout is not None
    said = ""
    for line in process.stdout:
        said += line
        if found := ADDRESS.search(line):
            return found[0]
    raise AssertionError(f"It ended before it was ready.\n{said}{log.read_text(encoding='utf-8')}")
