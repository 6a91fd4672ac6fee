"""What a job has started and detached from itself: found and ended when the job's own process is gone."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from towpath_worker import procs
from towpath_worker.portable import PR_SET_CHILD_SUBREAPER

# How much sooner than its worker a job's process is ended where the machine runs out of memory. It is handed down to
# all that the job starts, whatever else those forget: by it they are known.
SOONER = 300
PATIENCE = 5.0

_own: set[int] = set()
_births = threading.Lock()
_adopting = False


def adopt() -> None:
    """In a worker that has its process to itself: become the parent of what a dead job leaves behind. Linux only."""
    global _adopting  # noqa: PLW0603
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        _adopting = True


@contextlib.contextmanager
def birth() -> Iterator[Callable[[int], None]]:
    """While a child process is started; call what it gives with the number of the new one: it is no orphan."""
    with _births:
        yield _own.add


def buried(pid: int) -> None:
    """That child process was waited for. What it has left to this process is ended."""
    with _births:
        _own.discard(pid)
    _end()


def volunteer() -> None:
    """In a child process: be ended before the worker where memory runs out."""
    with contextlib.suppress(OSError, ValueError):
        path = Path("/proc/self/oom_score_adj")
        path.write_text(str(min(1000, int(path.read_text()) + SOONER)))


def _end() -> None:
    until = time.monotonic() + PATIENCE
    while _adopting and time.monotonic() < until:
        found = _orphans()
        for pid in found:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
            _reap(pid)
        if not found:
            return


def _orphans() -> list[int]:
    worker, own = os.getpid(), _score(os.getpid())
    with _births:
        found = [each.pid for each in procs.table().values() if each.parent == worker and each.pid not in _own]
    # An inline handler may have children too, and they are not ours to end.
    return [pid for pid in found if _score(pid) > own]


def _score(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/oom_score_adj").read_text())
    except (OSError, ValueError):
        return -1000


def _reap(pid: int) -> None:
    until = time.monotonic() + 1.0
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(pid, os.WNOHANG) == (0, 0) and time.monotonic() < until:
            time.sleep(0.005)
