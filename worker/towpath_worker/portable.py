"""What only one system has, with what the others do instead: process groups, inherited pipes, locks, C's buffers."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import psutil

from towpath_worker import procs

# Every process of a job carries this variable, however it was detached: so none outlives the worker unseen.
MARK = "TOWPATH_CHILD"

# Seconds for which processes that start others are run after, and the signal for it (Windows knows but one).
KILL_PATIENCE = 5.0
KILL = signal.SIGTERM if sys.platform == "win32" else signal.SIGKILL

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
PR_GET_CHILD_SUBREAPER = 37


class InheritablePipe:
    """A pipe whose writing end a child process inherits, on every system."""

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()

    def popen_options(self) -> dict[str, Any]:
        """What subprocess.Popen needs so that the child gets a process group of its own and the writing end."""
        if sys.platform == "win32":
            import msvcrt

            handle = msvcrt.get_osfhandle(self.writer)
            os.set_handle_inheritable(handle, True)
            startup = subprocess.STARTUPINFO(lpAttributeList={"handle_list": [handle]})
            return {"startupinfo": startup, "creationflags": subprocess.CREATE_NEW_PROCESS_GROUP, "close_fds": True}
        return {"pass_fds": (self.writer,), "start_new_session": True}

    def argument(self) -> str:
        """How the child names the writing end."""
        if sys.platform == "win32":
            import msvcrt

            return str(msvcrt.get_osfhandle(self.writer))
        return str(self.writer)


def open_inherited(argument: str) -> int:
    """In the child: the descriptor of an InheritablePipe's writing end, not passed on to its own children."""
    if sys.platform == "win32":
        import msvcrt

        descriptor = msvcrt.open_osfhandle(int(argument), os.O_BINARY)
    else:
        descriptor = int(argument)
    os.set_inheritable(descriptor, False)
    return descriptor


def bind_life_to_parent(parent: int) -> None:
    """In the child: die with the thread that started it, and on Linux stay the ancestor of all its own orphans."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    if os.name == "posix" and os.getppid() != parent:
        os._exit(1)


def kill_own_group() -> None:
    """In the child: end it and everything in its process group, at once."""
    with contextlib.suppress(OSError):
        if sys.platform != "win32":
            os.killpg(0, signal.SIGKILL)
    os._exit(1)


def has_children() -> bool:
    """In the child: whether any process that it started, or an orphan of those, still exists."""
    if sys.platform != "linux":
        return bool(psutil.Process().children())
    # A job that gave up its orphans may have some.
    adopts = ctypes.c_int()
    if _c_library().prctl(PR_GET_CHILD_SUBREAPER, ctypes.byref(adopts), 0, 0, 0) == 0 and not adopts.value:
        return True
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def kill_tree(pid: int, mark: str) -> None:
    """Kills a living child process, its group, its descendants, and whatever carries its mark. Blocks a moment."""
    if sys.platform != "win32":
        # Stopped processes start no further ones while those that there are are found.
        for stop in (os.killpg, os.kill):
            with contextlib.suppress(OSError):
                stop(pid, signal.SIGSTOP)
    kill_descendants(pid)
    kill_leftovers(pid, mark)
    if sys.platform != "win32":
        with contextlib.suppress(OSError):
            os.killpg(pid, signal.SIGKILL)
    else:
        with contextlib.suppress(psutil.Error):
            psutil.Process(pid).kill()


@contextlib.contextmanager
def first_in_line() -> Iterator[None]:
    """Where the system lets us: this thread before all others, though a thousand processes want the same cores."""
    if sys.platform != "linux":
        yield
        return
    before, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(1))
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            os.sched_setscheduler(0, before, parameters)


def kill_descendants(pid: int) -> None:
    """Kills all that lives below a process. Quick, as some of them may start others all the while."""
    with first_in_line():
        _kill_below(pid)


def _kill_below(pid: int) -> None:
    until = time.monotonic() + KILL_PATIENCE
    others: set[int] = set()
    while time.monotonic() < until:
        known = procs.table(others)
        below = procs.descendants(known, [pid])
        # Each round is short: only what came since the last one is looked at, beside what is being killed.
        others.update(known.keys() - {pid, *below})
        victims = [one for one in below if not known[one].dead and one != os.getpid()]
        if not victims:
            return
        for victim in victims:
            with contextlib.suppress(OSError):
                os.kill(victim, KILL)


def kill_leftovers(pid: int, mark: str) -> None:
    """Kills what belongs to a child process, dead or alive, but not that process itself."""
    until = time.monotonic() + KILL_PATIENCE
    while time.monotonic() < until:
        victims = [one for one in _family(pid, mark) if one.pid != pid]
        if not victims:
            return
        for victim in victims:
            with contextlib.suppress(psutil.Error):
                victim.kill()


def kill_marked(prefix: str) -> int:
    """Kills every process whose mark begins so: what a killed worker left behind. How many there were."""
    leftovers = [one for one in psutil.process_iter() if _mark_of(one).startswith(prefix) and _alive(one)]
    for leftover in leftovers:
        with contextlib.suppress(psutil.Error):
            leftover.kill()
    return len(leftovers)


def describe_exit(code: int) -> tuple[str, str]:
    """A short type and a sentence for how a process ended, from subprocess's return code."""
    if code >= 0:
        return f"EXIT_{code}", f"The job's process ended by itself with exit code {code} before it gave a result."
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"SIGNAL_{-code}"
    hint = (
        ": it may have run out of memory"
        if name == "SIGKILL"
        else ": a crash in native code"
        if code in CRASHES
        else ""
    )
    return name, f"The job's process was ended by {name}{hint}."


CRASHES = frozenset(
    -getattr(signal, name) for name in ("SIGSEGV", "SIGBUS", "SIGILL", "SIGFPE", "SIGABRT") if hasattr(signal, name)
)


def flush_c_output() -> None:
    """Flushes what C code holds back in its stdio buffers."""
    with contextlib.suppress(OSError, AttributeError):
        _c_library().fflush(None)


@functools.cache
def _c_library() -> ctypes.CDLL:
    return ctypes.CDLL("ucrtbase") if sys.platform == "win32" else ctypes.CDLL(None)


class Environment:
    """This process's environment as it is now, to go back to."""

    def __init__(self) -> None:
        self._names = dict(os.environ)
        self._raw = self._look()

    def restore(self) -> None:
        """Undoes what was changed since."""
        if self._look() != self._raw:
            os.environ.clear()
            os.environ.update(self._names)

    @staticmethod
    def _look() -> dict[Any, Any]:
        # Without decoding each name and value, which takes longer than a tiny job.
        return dict(getattr(os.environ, "_data", os.environ))


def lock(file: IO[bytes]) -> bool:
    """Takes an exclusive lock on an open file for the life of this process; False where somebody else holds it."""
    try:
        if sys.platform == "win32":
            import msvcrt

            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def private_folder(path: Path) -> Path:
    """Makes a folder that, where the system knows of such, only its owner can enter."""
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    return path


def stop_signals() -> tuple[signal.Signals, ...]:
    """The signals that ask a process to stop."""
    if sys.platform == "win32":
        return (signal.SIGINT, signal.SIGBREAK)
    return (signal.SIGTERM, signal.SIGINT)


def _family(pid: int, mark: str) -> Iterator[psutil.Process]:
    try:
        descendants = {one.pid for one in psutil.Process(pid).children(recursive=True)}
    except psutil.Error:
        descendants = set()
    for process in psutil.process_iter():
        ours = process.pid in descendants or pid in _groups_of(process.pid) or _mark_of(process) == mark
        if ours and process.pid != os.getpid() and _alive(process):
            yield process


def _groups_of(pid: int) -> tuple[int, ...]:
    if sys.platform == "win32":
        return ()
    try:
        return os.getpgid(pid), os.getsid(pid)
    except OSError:
        return ()


def _mark_of(process: psutil.Process) -> str:
    try:
        return process.environ().get(MARK, "")
    except (psutil.Error, OSError):
        return ""


def _alive(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False
