"""The demo's scheduler and worker: children of its own that always end with it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

GRACE = 10.0
LAST_LINES = 15
WINDOWS = sys.platform == "win32"


class ChildDied(RuntimeError):
    """A child ended before it was told to."""


class Child:
    """A child process in a group of its own, whose output goes to a log file."""

    def __init__(self, name: str, arguments: Sequence[str], log: Path, environment: Mapping[str, str]) -> None:
        self.name = name
        self.log = log
        with log.open("ab") as out:
            self._process = subprocess.Popen(
                [sys.executable, "-m", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=dict(environment),
                # Ctrl-C reaches only the demo, which then stops its children in order.
                start_new_session=not WINDOWS,
                creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def check(self, wait: float = 0) -> None:
        """Raises ChildDied where it is gone; `wait` is how many seconds to watch it."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = self._process.wait(wait)
            raise ChildDied(f"The {self.name} ended by itself (exit code {code}).")

    def stop(self) -> None:
        """Asks it to stop, asks again, then kills it and all that it started."""
        # Whoever presses Ctrl-C once more does not want to wait.
        with contextlib.suppress(KeyboardInterrupt):
            for patience in (GRACE, GRACE / 2):
                if self._process.poll() is None:
                    self._process.terminate()
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        self._process.wait(patience)
        self._kill_group()
        self._process.wait()

    def tail(self) -> list[str]:
        """The last lines of its log."""
        try:
            return self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-LAST_LINES:]
        except OSError:
            return []

    def _kill_group(self) -> None:
        if WINDOWS:
            self._process.kill()
            return
        # Also after a clean end: what it started must not outlive it.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)


def environment(config: Path) -> dict[str, str]:
    """This process's environment, with the files of `config` in place of any setting of the user's."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TOWPATH_")}
    return kept | {"TOWPATH_CONFIG": str(config / "server.toml"), "PYTHONUNBUFFERED": "1"}


class Stopwatch:
    """How long each step took."""

    def __init__(self) -> None:
        self.steps: list[tuple[str, float]] = []
        self._last = time.perf_counter()

    def lap(self, step: str) -> float:
        """Ends a step and returns its seconds."""
        now = time.perf_counter()
        seconds, self._last = now - self._last, now
        self.steps.append((step, seconds))
        return seconds
