"""What one job may use of this machine, and what its submitter is told when it wanted more."""

from __future__ import annotations

import enum
import errno
import os
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from towpath.v1 import job_pb2
from towpath_worker import procs

SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", re.IGNORECASE)
UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
# The system's own numbers end at 8 EiB.
MOST = 2**60
GIB = UNITS["G"]
# No job of good will has so many; a fork bomb has them within a second.
DEFAULT_PROCESSES = 1000
# Seconds after which the system ends a process that its worker has failed to end.
CPU_MARGIN = 2
# Threads that the jobs and other programs of the user may come to have.
OTHER_TASKS = 4096


class Limit(enum.Enum):
    """The kinds of limits. The value is the flag."""

    MEMORY = "--max-memory"
    CPU_TIME = "--max-cpu-time"
    OPEN_FILES = "--max-open-files"
    DISK = "--max-disk"
    PROCESSES = "--max-processes"


@dataclass(frozen=True, slots=True)
class Limits:
    """Bytes, seconds and counts for one job with all processes that it starts. None: no limit of Towpath's own."""

    memory: int | None = None
    cpu_time: float | None = None
    #: Of each process.
    open_files: int | None = None
    disk: int | None = None
    processes: int | None = DEFAULT_PROCESSES

    def facts(self) -> dict[str, Any]:
        """As a child process reads them."""
        return asdict(self)

    @staticmethod
    def of(facts: Mapping[str, Any]) -> Limits:
        """Out of `facts()`."""
        return Limits(**facts)


def size(given: object) -> int:
    """A number of bytes, from a number or words such as 512M, 8G or 1.5 TiB. ValueError for anything else."""
    found = SIZE.fullmatch(str(given).strip())
    number = float(found[1]) * UNITS[found[2].upper()] if found is not None else 0.0
    if not 1 <= number <= MOST:
        raise ValueError(f"{str(given)[:40]!r} is no size: write a number of bytes, or one such as 512M, 8G or 1T")
    return int(number)


def spoken(number: float) -> str:
    """A number of bytes in words."""
    for unit, factor in reversed(UNITS.items()):
        if unit and number >= factor:
            return f"{number / factor:.4g} {unit}iB"
    return f"{number:g} bytes"


def failure(limit: Limit, limits: Limits) -> job_pb2.Failure:
    """What is told of a job that broke a limit. It would do so again: it is not retried."""
    used, advice = {
        Limit.MEMORY: (f"{spoken(limits.memory or 0)} of memory", "Give it less data"),
        Limit.CPU_TIME: (f"{limits.cpu_time or 0:g} seconds of CPU time", "Give it less to do"),
        Limit.OPEN_FILES: (f"{limits.open_files} open files in one process", "Let it close what it opens"),
        Limit.DISK: (f"{spoken(limits.disk or 0)} of disk", "Let it write less"),
        Limit.PROCESSES: (f"{limits.processes} processes at once", "Let it start fewer"),
    }[limit]
    return job_pb2.Failure(
        cause=job_pb2.FAILURE_CAUSE_PROCESS_DIED,
        type=f"{limit.name}_LIMIT",
        message=f"The job used more than {used}. {advice}, or raise the limit of this worker ({limit.value}).",
        retryable=False,
    )


def behind(error: BaseException, limits: Limits) -> Limit | None:
    """The limit that made a handler raise this, if one did."""
    for one in _chain(error):
        if isinstance(one, MemoryError) and limits.memory:
            return Limit.MEMORY
        if isinstance(one, OSError) and one.errno == errno.EMFILE and limits.open_files:
            return Limit.OPEN_FILES
        if isinstance(one, OSError) and one.errno == errno.EFBIG and limits.disk:
            return Limit.DISK
    return None


def confine(limits: Limits) -> None:
    """In a child process, for all its life: what the system itself enforces, behind the watch that the worker keeps.

    It says nothing of address space (RLIMIT_AS), of which CUDA and mapped files take far more than they use.
    """
    if sys.platform == "win32":
        return
    import resource

    # What a core holds is whose job it was, and the token of its lease.
    _lower(resource.RLIMIT_CORE, 0)
    if limits.open_files:
        _lower(resource.RLIMIT_NOFILE, limits.open_files)
    if limits.disk:
        _lower(resource.RLIMIT_FSIZE, limits.disk)
    if limits.memory:
        # Reserved memory, and so with room: the stacks of threads and the like are hardly ever used whole.
        _lower(resource.RLIMIT_DATA, 2 * limits.memory + GIB)
    if limits.processes and os.name == "posix" and os.geteuid() != 0:
        # It counts all threads of the user, whatever program they are of. Root is free of it.
        _lower(resource.RLIMIT_NPROC, procs.tasks_of(os.geteuid()) + limits.processes + OTHER_TASKS)


def begin_cpu_time(limits: Limits, used: float) -> None:
    """In a child process, for one job: the system ends a process that goes on and on. `used` by earlier jobs."""
    if limits.cpu_time is None or sys.platform == "win32":
        return
    import resource

    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    wanted = int(used + limits.cpu_time) + CPU_MARGIN
    resource.setrlimit(resource.RLIMIT_CPU, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard))


def _lower(kind: int, wanted: int) -> None:
    import resource

    hard = resource.getrlimit(kind)[1]
    lowered = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(kind, (lowered, lowered))


def _chain(error: BaseException) -> Iterator[BaseException]:
    one: BaseException | None = error
    for _ in range(20):
        if one is None:
            return
        yield one
        one = one.__cause__ or (None if one.__suppress_context__ else one.__context__)
