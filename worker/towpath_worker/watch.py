"""Looks a few times a second at what the jobs in child processes use, and says which of them breaks a limit."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from towpath_worker import procs
from towpath_worker.limits import Limit, Limits
from towpath_worker.log import logger
from towpath_worker.procs import Process

log = logger("towpath.worker")

# Seconds between looks: not less, and so many times as long as a look takes.
EVERY = 0.1
SPARING = 50
# Seconds after a look that failed.
PAUSE = 1.0
# After so many looks all processes are looked at again: a new one may have the number of one that was not of a job.
FORGET_AFTER = 20


@dataclass(eq=False, slots=True)
class Watched:
    """One job's child process while it runs the job."""

    pid: int
    folders: Sequence[Path]
    on_break: Callable[[Limit], None]
    cpu_before: float = 0.0
    written_before: int = 0
    #: Bytes, the most that a look has seen; 0 for a job that was over before the first.
    peak_memory: int = 0
    broken: Limit | None = None
    cpu: float = 0.0


class Watch:
    """A thread that sleeps while no job runs. `on_break` is called in that thread, once for a job."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._watched: set[Watched] = set()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._others: set[int] = set()
        self._looks = 0

    def begin(self, pid: int, folders: Sequence[Path], on_break: Callable[[Limit], None]) -> Watched:
        """A job begins in the child process `pid`, and may write into these folders of its own."""
        watched = Watched(pid, folders, on_break)
        if self._limits.cpu_time is not None and (now := procs.one(pid)) is not None:
            watched.cpu_before = now.cpu
        if self._limits.disk is not None:
            watched.written_before = procs.written([pid])
        with self._changed:
            self._watched.add(watched)
            if self._thread is None:
                self._thread = threading.Thread(target=self._keep_looking, name="towpath-watch", daemon=True)
                self._thread.start()
            elif len(self._watched) == 1:
                self._changed.notify()
        return watched

    def end(self, watched: Watched) -> None:
        """The job is over."""
        with self._changed:
            self._watched.discard(watched)

    def close(self) -> None:
        """Looks no more."""
        with self._changed:
            self._closed = True
            self._watched.clear()
            self._changed.notify()

    def _keep_looking(self) -> None:
        took = 0.0
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._watched or self._closed)
            # First a pause: most jobs are over before anybody has to look.
            time.sleep(max(EVERY, SPARING * took))
            with self._changed:
                if self._closed:
                    return
                watched = list(self._watched)
            began = time.thread_time()
            try:
                self.look(watched)
            except Exception:
                # Such as no descriptor left for a moment: without this thread, no limit would hold any more.
                log.exception("what jobs use could not be looked at")
                time.sleep(PAUSE)
            took = time.thread_time() - began

    def look(self, watched: Sequence[Watched]) -> None:
        """One look."""
        self._looks += 1
        if self._looks % FORGET_AFTER == 0:
            self._others.clear()
        known = procs.table(self._others)
        for one in watched:
            if one.pid in known:
                self._judge(one, [known[pid] for pid in (one.pid, *procs.descendants(known, [one.pid]))])
        worker = os.getpid()
        self._others.update(known.keys() - {worker, *procs.descendants(known, [worker])})

    def _judge(self, one: Watched, found: Sequence[Process]) -> None:
        broken = self._broken(one, found)
        if broken is not None and one.broken is None:
            with self._changed:
                if one not in self._watched:
                    return
                one.broken = broken
            one.on_break(broken)

    def _broken(self, one: Watched, found: Sequence[Process]) -> Limit | None:
        limits = self._limits
        pids = [each.pid for each in found if not each.dead]
        memory = sum(each.memory for each in found)
        if limits.memory is not None and memory > limits.memory:
            exact = procs.exact_memory(pids)
            memory = memory if exact is None else exact
        one.peak_memory = max(one.peak_memory, memory)
        one.cpu = max(one.cpu, sum(each.cpu for each in found) - one.cpu_before)
        checks: Mapping[Limit, tuple[float | None, Callable[[], float]]] = {
            Limit.PROCESSES: (limits.processes, lambda: len(pids)),
            Limit.MEMORY: (limits.memory, lambda: memory),
            Limit.CPU_TIME: (limits.cpu_time, lambda: one.cpu),
            Limit.DISK: (limits.disk, lambda: self._disk(one, pids)),
        }
        for limit, (most, used) in checks.items():
            if most is not None and used() > most:
                return limit
        return None

    def _disk(self, one: Watched, pids: Sequence[int]) -> int:
        # What is written to a disk, wherever; and what lies in the job's folders or nowhere, though that be in memory.
        held = sum(map(procs.folder_size, one.folders)) + procs.nameless(pids)
        return max(procs.written(pids) - one.written_before, held)
