"""What a job can leave behind in a child process that is to run another one."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path

from towpath_worker import portable, procs
from towpath_worker.limits import Limits

# A job that leaves more files open than this has forgotten to close them: its process is not used again.
FORGIVEN_FILES = 64
#: Where the system lists a process's open files.
OPEN_FILES = Path("/proc/self/fd" if sys.platform == "linux" else "/dev/fd")

#: Those that handlers and their libraries take for themselves.
SIGNALS = [
    signal.Signals[name]
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGPIPE", "SIGALRM", "SIGCHLD", "SIGXCPU", "SIGUSR1", "SIGUSR2")
    if name in signal.Signals.__members__
]


class Leftovers:
    """How a child process was before its first job, to go back to."""

    def __init__(self, outputs: Sequence[int], limits: Limits, scratch: str | None) -> None:
        self._outputs = outputs
        self._limits = limits
        self._home = Path.cwd()
        self._environment = portable.Environment()
        self._scratch = scratch
        self._files = _open_files()
        self._memory = _memory()
        self._signals = {number: how for number in SIGNALS if (how := signal.getsignal(number)) is not None}
        self._umask = os.umask(0o077)
        os.umask(self._umask)

    def clear(self) -> bool:
        """Undoes what a job did; whether the process may run another."""
        for number, descriptor in enumerate(self._outputs, start=1):
            os.dup2(descriptor, number)
        self._environment.restore()
        self._restore_signals()
        os.umask(self._umask)
        with contextlib.suppress(OSError):
            os.chdir(self._home)
        threads = [one for one in threading.enumerate() if not one.daemon and one is not threading.main_thread()]
        return not threads and not portable.has_children() and self._is_small() and self._empty_scratch()

    def _restore_signals(self) -> None:
        # An alarm would end the next job, and who ignores SIGCHLD never sees his own children end.
        if sys.platform != "win32":
            signal.setitimer(signal.ITIMER_REAL, 0)
        for number, how in self._signals.items():
            if signal.getsignal(number) is not how:
                signal.signal(number, how)

    def _is_small(self) -> bool:
        files = _open_files()
        if files is None or (self._files is not None and files > self._files + FORGIVEN_FILES):
            return self._files is None
        most = self._limits.memory
        # What stays would count for the next job.
        return most is None or _memory() - self._memory <= max(0, most - self._memory) // 4

    def _empty_scratch(self) -> bool:
        if self._scratch is None:
            return True
        if os.path.islink(self._scratch):  # noqa: PTH114
            return False
        try:
            with os.scandir(self._scratch) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        shutil.rmtree(entry.path)
                    else:
                        Path(entry.path).unlink()
        except OSError:
            return False
        return True


def make_scratch(mark: str) -> Path | None:
    """A folder for the temporary files of one child process. None where there is no place for one."""
    with contextlib.suppress(OSError):
        return Path(tempfile.mkdtemp(prefix=_prefix(mark)))
    return None


def remove_scratches(mark: str) -> None:
    """Removes what a killed worker has left of them."""
    with contextlib.suppress(OSError):
        for path in Path(tempfile.gettempdir()).glob(_prefix(mark) + "*"):
            if path.is_symlink():
                path.unlink()
            else:
                shutil.rmtree(path, ignore_errors=True)


def _prefix(mark: str) -> str:
    return f"towpath-{mark[:12]}-"


def _open_files() -> int | None:
    """None where the system does not say."""
    try:
        with os.scandir(OPEN_FILES) as entries:
            return sum(1 for _ in entries)
    except OSError:
        return None


def _memory() -> int:
    process = procs.one(os.getpid())
    return process.memory if process is not None else 0
