"""Handlers that take more than they should and leave more than they may, for the tests of the worker."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import tempfile
import time
from pathlib import Path

from towpath_worker import Context, handler, portable

TYPES = (
    "h.fine",
    "h.litter",
    "h.leak",
    "h.swap",
    "h.estrange",
    "h.deaf",
    "h.crash",
    "h.memory",
    "h.reserve",
    "h.disk",
    "h.large_file",
    "h.descriptors",
    "h.cpu",
    "h.bomb",
    "h.inline_child",
)
MIB = 1024 * 1024
LONG = 600


def detach(pids: Path) -> None:
    """Starts a process as a daemon starts: twice forked, deaf to SIGTERM, and without any of our environment."""
    if first := os.fork():
        os.waitpid(first, 0)
        return
    os.setsid()
    if os.fork():
        os._exit(0)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with pids.open("a", encoding="utf-8") as file:
        file.write(f"{os.getpid()}\n")
    os.execve("/bin/sleep", ["sleep", str(LONG)], {})


def noted(process: subprocess.Popen[bytes], pids: Path) -> None:
    """Writes down a process."""
    with pids.open("a", encoding="utf-8") as file:
        file.write(f"{process.pid}\n")


@handler("h.fine")
def fine(ctx: Context) -> int:
    """Does what it should; whose process it was."""
    assert not os.listdir(tempfile.gettempdir()), "another job's files"  # noqa: PTH208
    assert signal.getsignal(signal.SIGCHLD) is signal.SIG_DFL, "another job's signals"
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0), "another job's alarm"
    (probe := Path(tempfile.gettempdir(), "probe")).touch()
    assert not probe.stat().st_mode & 0o002, "another job's umask"
    return os.getpid()


@handler("h.litter")
def litter(ctx: Context) -> int:
    """Leaves temporary files, a few open ones, signals, an alarm and a umask; whose process it was."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    signal.alarm(LONG)
    os.umask(0)
    folder = Path(tempfile.mkdtemp())
    (folder / "file").write_bytes(b"x")
    (folder.parent / "link").symlink_to("/")
    os.chdir(folder)
    return os.getpid()


@handler("h.leak")
def leak(ctx: Context) -> int:
    """Forgets many open files; whose process it was."""
    for _ in range(200):
        os.open(os.devnull, os.O_RDONLY)
    return os.getpid()


@handler("h.swap")
def swap(ctx: Context, target: Path) -> int:
    """Puts a link in the place of the folder for temporary files; whose process it was."""
    scratch = Path(tempfile.gettempdir())
    scratch.rmdir()
    scratch.symlink_to(target)
    return os.getpid()


@handler("h.estrange")
def estrange(ctx: Context) -> int:
    """Sees to it that its orphans are not given to its process; whose process it was."""
    assert ctypes.CDLL(None).prctl(portable.PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0) == 0
    return os.getpid()


@handler("h.deaf")
def deaf(ctx: Context, pids: Path) -> None:
    """Starts processes of all kinds, then holds the interpreter's lock in native code."""
    noted(subprocess.Popen(["/bin/sleep", str(LONG)]), pids)
    noted(subprocess.Popen(["/bin/sleep", str(LONG)], start_new_session=True), pids)
    detach(pids)
    detach(pids)
    while len(pids.read_text(encoding="utf-8").split()) < 4:
        time.sleep(0.01)
    print("ready", os.getpid(), flush=True)
    time.sleep(0.05)
    ctypes.PyDLL(None).sleep(LONG)


@handler("h.crash")
def crash(ctx: Context, pids: Path) -> None:
    """Leaves processes behind and dies in native code."""
    detach(pids)
    while not pids.exists() or not pids.read_text(encoding="utf-8").endswith("\n"):
        time.sleep(0.01)
    ctypes.string_at(0)


@handler("h.memory")
def memory(ctx: Context, size: int) -> None:
    """Takes this much memory, half of it in another process."""
    os.fork()
    held = [bytearray(b"x" * MIB) for _ in range(size // 2 // MIB)]
    time.sleep(LONG)
    del held


@handler("h.reserve")
def reserve(ctx: Context, size: int) -> None:
    """Asks for this much memory at once."""
    bytearray(size)


@handler("h.disk")
def disk(ctx: Context, folder: Path, size: int) -> None:
    """Writes many files, half of them among its temporary files and half elsewhere."""
    for number in range(size // MIB):
        place = folder if number % 2 else Path(tempfile.gettempdir())
        (place / f"{number}.bin").write_bytes(os.urandom(MIB))
    time.sleep(LONG)


@handler("h.large_file")
def large_file(ctx: Context, size: int) -> None:
    """Writes one file."""
    with tempfile.NamedTemporaryFile(delete=False) as file:
        for _ in range(size // MIB):
            file.write(bytes(MIB))


@handler("h.descriptors")
def descriptors(ctx: Context) -> None:
    """Opens files until there are no more."""
    held = []
    while True:
        held.append(os.open(os.devnull, os.O_RDONLY))


@handler("h.cpu")
def cpu(ctx: Context) -> None:
    """Is busy for good, together with another process."""
    os.fork()
    while True:
        pass


@handler("h.bomb")
def bomb(ctx: Context) -> None:
    """Forks, and each fork forks, in a session of its own: 64 processes in all, lest it be worse than what it tries."""
    for _ in range(6):
        with contextlib.suppress(OSError):
            if os.fork() == 0:
                os.setsid()
        time.sleep(0.05)
    time.sleep(LONG)


@handler("h.inline_child", inline=True)
def inline_child(ctx: Context, pids: Path) -> None:
    """In the worker's own process: starts a program, which goes on."""
    nothing = subprocess.DEVNULL
    noted(subprocess.Popen(["/bin/sleep", str(LONG)], stdout=nothing, stderr=nothing, start_new_session=True), pids)
