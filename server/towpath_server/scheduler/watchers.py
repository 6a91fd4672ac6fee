"""Those who wait for changes of jobs. A slow one is told of changes in quick succession as one; what is kept for it is
bounded by the number of jobs that it watches, by `MOST_PENDING`, and by `MOST_BYTES` of specs and results."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

from towpath_server.core.errors import SlowConsumer
from towpath_server.core.evolve import evolve
from towpath_server.core.job import Job, JobState
from towpath_server.scheduler.changes import Change

MOST_PENDING = 10_000
MOST_BYTES = 4 * 1024 * 1024


class Watch:
    """One who watches. Each job's newest state is kept until it is taken.

    Jobs are kept whole as long as there is `room` for the bytes of their specs and results, else as outlines.
    """

    def __init__(self, wanted: Callable[[Job], bool] | None, room: int) -> None:
        self._wanted = wanted
        self._room = self._left = room
        self._pending: dict[int, Job] = {}
        self._changed = asyncio.Event()
        self._overflown = False

    def wants(self, job: Job) -> bool:
        """Whether it is to be told of the job."""
        return not self._overflown and (self._wanted is None or self._wanted(job))

    def takes_whole(self, job: Job) -> bool:
        """Whether there is room for the job with its spec and result; the room is taken then."""
        if (taken := weight(job)) > self._left:
            return False
        self._left -= taken
        return True

    def tell(self, job: Job) -> None:
        """The job has changed."""
        if (known := self._pending.get(job.job_id)) is not None and known.revision > job.revision:
            # What is heard of another scheduler may be older than what happened here since.
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
        self._left = self._room
        self._overflown = False
        self._changed.clear()

    def __len__(self) -> int:
        """How many jobs are kept for it."""
        return len(self._pending)

    def poke(self) -> None:
        """Something beside the job's state has changed: its log has grown, or it was deleted."""
        self._changed.set()

    @property
    def is_of_ends(self) -> bool:
        """Whether it is told of some changes only, and of nothing beside them."""
        return self._wanted is not None

    async def next(self) -> list[Job]:
        """Wait, then take what has changed; empty after a poke. Raises `SlowConsumer` where too much was kept."""
        await self._changed.wait()
        self._changed.clear()
        if self._overflown:
            raise SlowConsumer
        jobs, self._pending, self._left = list(self._pending.values()), {}, self._room
        return jobs


class Watchers:
    """All who watch: one job, or all jobs of a kind. Up to `sequence` they were told of every change."""

    def __init__(self, sequence: int) -> None:
        self.sequence = sequence
        # Not sets: who is told first must not depend on where an object lies in memory.
        self._by_job: dict[int, dict[Watch, None]] = {}
        self._broad: dict[Watch, None] = {}
        # The same by the states that they want: most want few, and each job goes through many.
        self._by_state: dict[JobState, dict[Watch, None]] = {state: {} for state in JobState}

    @contextmanager
    def job(self, job_id: int) -> Iterator[Watch]:
        """Watch one job."""
        with self._watching((job_id,), Watch(None, sys.maxsize)) as watch:
            yield watch

    @contextmanager
    def ends(self, job_ids: Sequence[int]) -> Iterator[Watch]:
        """Watch for the ends of some jobs."""
        with self._watching(job_ids, Watch(lambda job: job.state.is_final, MOST_BYTES)) as watch:
            yield watch

    @contextmanager
    def _watching(self, job_ids: Sequence[int], watch: Watch) -> Iterator[Watch]:
        for job_id in job_ids:
            self._by_job.setdefault(job_id, {})[watch] = None
        try:
            yield watch
        finally:
            for job_id in dict.fromkeys(job_ids):
                watching = self._by_job[job_id]
                del watching[watch]
                if not watching:
                    del self._by_job[job_id]

    @contextmanager
    def jobs(
        self, wanted: Callable[[Job], bool], states: Iterable[JobState] = (), *, whole: bool = False
    ) -> Iterator[Watch]:
        """Watch all jobs that are wanted; `states`: none of another state is."""
        watch = Watch(wanted, MOST_BYTES if whole else -1)
        self._broad[watch] = None
        for state in states or JobState:
            self._by_state[state][watch] = None
        try:
            yield watch
        finally:
            del self._broad[watch]
            for watching in self._by_state.values():
                watching.pop(watch, None)

    def tell(self, changes: Iterable[Change]) -> None:
        """One whole commit: in the order of the commits, and each at once."""
        for job in self.tell_each(changes):
            self.tell_all((job,), job.sequence)

    def tell_each(self, changes: Iterable[Change]) -> list[Job]:
        """Those who watch one of these jobs; the jobs that are still there. Who watches all hears it elsewhere."""
        jobs = []
        for change in changes:
            if change.after is not None:
                self.tell_of(change.after)
                jobs.append(change.after)
            elif change.before is not None:
                self.poke(change.before.job_id)
        return jobs

    def tell_of(self, job: Job) -> None:
        """Those who watch this one job."""
        for watch in self._by_job.get(job.job_id, ()):
            if watch.wants(job):
                watch.tell(job if watch.takes_whole(job) else outline(job))

    def tell_all(self, jobs: Iterable[Job], sequence: int) -> None:
        """Those who watch all jobs: of these, by their sequence, and with them of everything up to `sequence`."""
        self.sequence = max(self.sequence, sequence)
        for job in jobs:
            short: Job | None = None
            for watch in self._by_state[job.state]:
                if not watch.wants(job):
                    continue
                if watch.takes_whole(job):
                    watch.tell(job)
                else:
                    short = short or outline(job)
                    watch.tell(short)

    def any_of(self, job_id: int) -> bool:
        """Whether somebody watches this one job."""
        return job_id in self._by_job

    @property
    def any(self) -> bool:
        """Whether somebody watches all jobs of some kind."""
        return bool(self._broad)

    def any_for(self, state: JobState) -> bool:
        """Whether somebody watches all jobs in this state."""
        return bool(self._by_state[state])

    def pending(self) -> int:
        """How many jobs are kept for those who watch many and have not taken them."""
        return sum(map(len, self._broad))

    def poke(self, job_id: int) -> None:
        """The job's log has grown, or it was deleted."""
        for watch in self._by_job.get(job_id, ()):
            if not watch.is_of_ends:
                watch.poke()

    def poke_jobs(self) -> None:
        """Let all look who watch one job: its log may have grown."""
        for job_id in self._by_job:
            self.poke(job_id)

    def poke_all(self) -> None:
        """Let everybody look: the scheduler stops."""
        for watches in self._by_job.values():
            for watch in watches:
                watch.poke()
        for watch in self._broad:
            watch.poke()


def outline(job: Job) -> Job:
    """The job without spec and result, which may have some MiB each."""
    return evolve(job, definition=evolve(job.definition, spec=b""), result=None)


def weight(job: Job) -> int:
    """The bytes of its spec and result."""
    return len(job.definition.spec) + len(job.result or b"")
