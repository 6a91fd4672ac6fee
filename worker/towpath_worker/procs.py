"""The processes of this machine as far as jobs go: whose child is whose, and what they use."""

from __future__ import annotations

import contextlib
import os
import stat
import sys
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

LINUX = sys.platform == "linux"
PAGE = os.sysconf("SC_PAGESIZE") if LINUX else 1
TICKS = os.sysconf("SC_CLK_TCK") if LINUX else 1
EXACT_MEMORY = ("Pss_Anon:", "Pss_Shmem:", "SwapPss:")


@dataclass(frozen=True, slots=True)
class Process:
    """One process as it was at a look."""

    pid: int
    parent: int
    dead: bool
    #: Seconds, with those of the children that it has waited for.
    cpu: float
    #: Bytes, counted again for each process that shares them.
    memory: int


def table(skip: Collection[int] = ()) -> dict[int, Process]:
    """All processes but those to skip."""
    if not LINUX:
        return {each.pid: _by_psutil(each) for each in psutil.process_iter() if each.pid not in skip}
    found = {}
    with os.scandir("/proc") as entries:
        pids = [int(entry.name) for entry in entries if entry.name.isdecimal()]
    for pid in pids:
        if pid not in skip and (process := _by_stat(pid)) is not None:
            found[pid] = process
    return found


def one(pid: int) -> Process | None:
    """One process; None for one that is no more."""
    if LINUX:
        return _by_stat(pid)
    with contextlib.suppress(psutil.Error):
        return _by_psutil(psutil.Process(pid))
    return None


def descendants(known: Mapping[int, Process], roots: Iterable[int]) -> list[int]:
    """The processes below these, parents first; the roots left out."""
    children: dict[int, list[int]] = {}
    for process in known.values():
        children.setdefault(process.parent, []).append(process.pid)
    found: dict[int, None] = {}
    ahead = list(roots)
    for pid in ahead:
        for child in children.get(pid, ()):
            if child not in found:
                found[child] = None
                ahead.append(child)
    return list(found)


def tasks_of(user: int) -> int:
    """How many threads a user's processes have."""
    total = 0
    for each in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if each.uids().effective == user:
                total += each.num_threads()
    return total


def exact_memory(pids: Iterable[int]) -> int | None:
    """The bytes that only these processes need, what they share counted once. None where the system does not say.

    Files that are mapped are left out: the system can drop them.
    """
    if not LINUX:
        return None
    total, known = 0, False
    for pid in pids:
        with contextlib.suppress(OSError, ValueError):
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
                name, _, rest = line.partition(" ")
                if name in EXACT_MEMORY:
                    known = True
                    total += int(rest.split()[0]) * 1024
    return total if known else None


def written(pids: Iterable[int]) -> int:
    """The bytes that these have sent to disk in their lives and not taken back. 0 where the system does not say."""
    total = 0
    for pid in pids if LINUX else ():
        with contextlib.suppress(OSError, ValueError):
            facts = dict(line.split(b": ") for line in Path(f"/proc/{pid}/io").read_bytes().splitlines())
            total += int(facts[b"write_bytes"]) - int(facts[b"cancelled_write_bytes"])
    return total


def nameless(pids: Iterable[int]) -> int:
    """The bytes of files without a name that these hold open: deleted ones, and those that never had one."""
    found: dict[tuple[int, int], int] = {}
    for pid in pids if LINUX else ():
        with contextlib.suppress(OSError), os.scandir(f"/proc/{pid}/fd") as entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    status = entry.stat()
                    if stat.S_ISREG(status.st_mode) and not status.st_nlink:
                        found[status.st_dev, status.st_ino] = status.st_blocks * 512
    return sum(found.values())


def folder_size(path: Path) -> int:
    """The bytes that a folder takes on disk; 0 for none, and for a link to one."""
    total, ahead = 0, [] if path.is_symlink() else [os.fspath(path)]
    while ahead:
        with contextlib.suppress(OSError), os.scandir(ahead.pop()) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    status = entry.stat(follow_symlinks=False)
                    total += status.st_blocks * 512 if hasattr(status, "st_blocks") else status.st_size
                    if entry.is_dir(follow_symlinks=False):
                        ahead.append(entry.path)
    return total


def _by_stat(pid: int) -> Process | None:
    try:
        descriptor = os.open(f"/proc/{pid}/stat", os.O_RDONLY)
        try:
            # The second field is the name in brackets, and may hold anything.
            fields = os.read(descriptor, 4096).rpartition(b")")[2].split()
        finally:
            os.close(descriptor)
        return Process(
            pid=pid,
            parent=int(fields[1]),
            dead=fields[0] in b"ZX",
            cpu=sum(map(int, fields[11:15])) / TICKS,
            memory=int(fields[21]) * PAGE,
        )
    except (OSError, IndexError, ValueError):
        return None


def _by_psutil(process: psutil.Process) -> Process:
    parent, cpu, memory, dead = 0, 0.0, 0, True
    with contextlib.suppress(psutil.Error), process.oneshot():
        parent = process.ppid()
        dead = process.status() == psutil.STATUS_ZOMBIE
        times = process.cpu_times()
        cpu = times.user + times.system
        memory = process.memory_info().rss
    return Process(process.pid, parent, dead, cpu, memory)
