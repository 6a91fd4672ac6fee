"""The real programs as real processes: a scheduler and workers, started and stopped."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from towpath_server import failpoints

ADDRESS = re.compile(r"127\.0\.0\.1:\d+")
FREE = "127.0.0.1:0"
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
def replica(
    folder: Path, url: str, *arguments: str, listen: str = FREE, points: str = "", program: Path | None = None
) -> Iterator[Scheduler]:
    """One of several schedulers on a database; those with one `folder` share the file of the token.

    `points` are its failpoints, `program` the folder of another version's package.
    """
    environment = on_store(url) | ({failpoints.VARIABLE: points} if points else {})
    if program is not None:
        environment["PYTHONPATH"] = f"{program}{os.pathsep}{environment['PYTHONPATH']}"
    with start(replica_words(folder, "--listen", listen, *arguments), folder, environment) as (process, address):
        yield Scheduler(address, folder / "config", process)


def replica_words(folder: Path, *arguments: str) -> list[str]:
    """The command line of a scheduler whose store stands in its environment: it may hold a password."""
    return [sys.executable, "-m", "towpath_server", "--config-dir", str(folder / "config"), *arguments]


def on_store(url: str) -> dict[str, str]:
    """The environment of a scheduler with this store."""
    return clean() | {"TOWPATH_SERVER_STORE": url}


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


def free_addresses(count: int) -> list[str]:
    """Addresses at which nobody listens."""
    with ExitStack() as stack:
        listeners = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [f"127.0.0.1:{listener.getsockname()[1]}" for listener in listeners]


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
