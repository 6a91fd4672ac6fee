"""Those who wait for changes of jobs. A slow one is told of changes in quick succession as one; what is kept for it is
bounded by the number of jobs that it watches, and by `MOST_PENDING`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from towpath_server.core.errors import SlowConsumer
from towpath_server.core.evolve import evolve
from towpath_server.core.job import Job
from towpath_server.scheduler.changes import Change

MOST_PENDING = 10_000


class Watch:
    """One who watches. Each job's newest state is kept until it is taken."""

    def __init__(self, wanted: Callable[[Job], bool] | None) -> None:
        self._wanted = wanted
        self._pending: dict[int, Job] = {}
        self._changed = asyncio.Event()
        self._overflown = False

    def tell(self, job: Job) -> None:
        """The job has changed."""
        if self._overflown or (self._wanted is not None and not self._wanted(job)):
            return
        if len(self._pending) >= MOST_PENDING and job.job_id not in self._pending:
            self._overflown = True
            self._pending.clear()
        else:
            self._pending[job.job_id] = job
        self._changed.set()

    def forget(self) -> None:
        """What was told so far is read elsewhere."""
        self._pending.clear()
        self._overflown = False
        self._changed.clear()

    def __len__(self) -> int:
        """How many jobs are kept for it."""
        return len(self._pending)

    def poke(self) -> None:
        """Something beside the job's state has changed: its log has grown, or it was deleted."""
        self._changed.set()

    async def next(self) -> list[Job]:
        """Wait, then take what has changed; empty after a poke. Raises `SlowConsumer` where too much was kept."""
        await self._changed.wait()
        self._changed.clear()
        if self._overflown:
            raise SlowConsumer
        jobs, self._pending = list(self._pending.values()), {}
        return jobs


class Watchers:
    """All who watch: one job, or all jobs of a kind. Up to `sequence` they were told of every change."""

    def __init__(self, sequence: int) -> None:
        self.sequence = sequence
        # Not sets: who is told first must not depend on where an object lies in memory.
        self._by_job: dict[int, dict[Watch, None]] = {}
        self._broad: dict[Watch, None] = {}

    @contextmanager
    def job(self, job_id: int) -> Iterator[Watch]:
        """Watch one job."""
        watch = Watch(None)
        self._by_job.setdefault(job_id, {})[watch] = None
        try:
            yield watch
        finally:
            watching = self._by_job[job_id]
            del watching[watch]
            if not watching:
                del self._by_job[job_id]

    @contextmanager
    def jobs(self, wanted: Callable[[Job], bool]) -> Iterator[Watch]:
        """Watch all jobs that are wanted."""
        watch = Watch(wanted)
        self._broad[watch] = None
        try:
            yield watch
        finally:
            del self._broad[watch]

    def tell(self, changes: Iterable[Change]) -> None:
        """One whole commit: in the order of the commits, and each at once."""
        for change in changes:
            if (job := change.after) is None:
                if change.before is not None:
                    self.poke(change.before.job_id)
                continue
            self.sequence = max(self.sequence, job.sequence)
            for watch in self._by_job.get(job.job_id, ()):
                watch.tell(job)
            if self._broad:
                short = outline(job)
                for watch in self._broad:
                    watch.tell(short)

    def pending(self) -> int:
        """How many jobs are kept for those who watch many and have not taken them."""
        return sum(map(len, self._broad))

    def poke(self, job_id: int) -> None:
        """The job's log has grown, or it was deleted."""
        for watch in self._by_job.get(job_id, ()):
            watch.poke()

    def poke_all(self) -> None:
        """Let everybody look: the scheduler stops."""
        for watches in self._by_job.values():
            for watch in watches:
                watch.poke()
        for watch in self._broad:
            watch.poke()


def outline(job: Job) -> Job:
    """The job without spec and result, which may have some MiB each."""
    return evolve(job, definition=replace(job.definition, spec=b""), result=None)
