"""Readers of a watch of many jobs, and a life of jobs for them to be told of."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field

from support.stage import ADA, BOB, Stage, settled
from towpath_server.core.errors import Draining, TowpathError
from towpath_server.core.events import Failed, Started, Succeeded
from towpath_server.core.job import Failure, FailureCause, Job
from towpath_server.core.records import Principal
from towpath_server.scheduler.messages import JobFilter, Registered, Report, Told


@dataclass
class Reader:
    """One who watches, and keeps what it was told."""

    principal: Principal
    wanted: JobFilter
    told: list[Told] = field(default_factory=list)

    async def read(self, s: Stage, from_sequence: int = 0) -> None:
        """Watch until the watch ends."""
        async with aclosing(s.scheduler.jobs.watch_all(self.principal, self.wanted, from_sequence)) as watch:
            try:
                async for told in watch:
                    self.told.append(told)
            except Draining:
                return

    @property
    def sequence(self) -> int:
        """What it goes on from."""
        return self.told[-1].sequence

    @property
    def jobs(self) -> dict[int, Job]:
        """Each job as it was told last."""
        return last_states(self.told)


def last_states(told: Iterable[Told]) -> dict[int, Job]:
    """Each job as it was told last."""
    return {job.job_id: job for one in told for job in one.jobs}


@asynccontextmanager
async def reading(s: Stage, *readers: Reader, from_sequence: int = 0) -> AsyncIterator[None]:
    """The readers read meanwhile, from now until the end of the block."""
    before = [len(reader.told) for reader in readers]
    tasks = [asyncio.create_task(reader.read(s, from_sequence)) for reader in readers]
    await settled(lambda: all(len(one.told) > count for one, count in zip(readers, before, strict=True)))
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@dataclass
class Life:
    """What happens to jobs, at random: many verbs at once, so that they share commits."""

    dice: random.Random
    jobs: list[Job] = field(default_factory=list)
    worker: Registered | None = None

    async def goes_on(self, s: Stage, rounds: int) -> None:
        """So many rounds, with a worker of its own."""
        self.worker = await s.worker(slots=100)
        for _ in range(rounds):
            verbs = [self._verb(s) for _ in range(self.dice.randrange(1, 8))]
            await asyncio.gather(*verbs)
            await s.tick(self.dice.choice([0, 0, 1]))

    async def _verb(self, s: Stage) -> None:
        job = self.dice.choice(self.jobs) if self.jobs else None
        word = self.dice.choice(["submit", "submit", "lease", "run", "cancel", "pause", "resume", "retry", "delete"])
        who = self.dice.choice([ADA, BOB])
        jobs = s.scheduler.jobs
        try:
            if word == "submit" or job is None:
                made = await s.submit(queue=self.dice.choice(["tow", "path"]), who=who)
                self.jobs.append(made)
            elif word == "lease":
                assert self.worker is not None
                await s.lease(self.worker, 3)
            elif word == "run":
                await self._run(s, await s.get(job))
            elif word == "cancel":
                await jobs.cancel(ADA, job.job_id, "", force=self.dice.random() < 0.5)
            elif word == "delete":
                await jobs.delete(ADA, job.job_id)
            else:
                await {"pause": jobs.pause, "resume": jobs.resume, "retry": jobs.retry}[word](ADA, job.job_id)
        except TowpathError:
            pass  # Not from where the job stands.

    async def _run(self, s: Stage, job: Job) -> None:
        if job.lease is None or self.worker is None or job.lease.session_id != self.worker.session_id:
            return
        failure = Failure(FailureCause.HANDLER, "ValueError", "boom", retryable=self.dice.random() < 0.5)
        token = job.lease.token
        end = self.dice.choice([Succeeded(token, b"{}"), Failed(token, failure, 0.0), None])
        events = [Started(token), *([end] if end else [])]
        connection = s.scheduler.workers.connect(ADA, self.worker.worker_id, self.worker.session_id)
        await connection.report([Report(number, job.job_id, event) for number, event in enumerate(events, 1)])


def waiting(s: Stage) -> bool:
    """Whether all watches wait for news, and have taken all that there was."""
    events = [watch._changed for watch in s.scheduler.jobs._state.watchers._broad]
    return all(event._waiters and not event.is_set() for event in events)
