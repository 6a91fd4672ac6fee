"""A scheduler on a stage: real rules over a real store, with a clock that only the test moves."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from towpath_server.core.job import SECOND, ConflictPolicy, Definition, Job, JobState, Priority, RetryPolicy, Timeouts
from towpath_server.core.records import Machine, Principal, Role
from towpath_server.scheduler import Clock, Intervals, Scheduler
from towpath_server.scheduler.messages import NewJob, Registered, Registration
from towpath_server.store.base import Store
from towpath_server.store.memory import MemoryStore

START = 1_800_000_000 * SECOND
INTERVALS = Intervals(heartbeat=3 * SECOND, lease_ttl=15 * SECOND, poll=25 * SECOND)
ADA = Principal(token_id=1, tenant="acme", user="ada", role=Role.ADMIN)
BOB = Principal(token_id=2, tenant="acme", user="bob", role=Role.SUBMITTER)
EVE = Principal(token_id=3, tenant="evil", user="eve", role=Role.ADMIN)


@dataclass
class Hands:
    """The hands of a clock."""

    now: int = START
    steady: int = 0

    def move(self, seconds: float) -> None:
        self.now += int(seconds * SECOND)
        self.steady += int(seconds * SECOND)


@dataclass
class Stage:
    """A scheduler, its clock, and short words for what tests do with them."""

    scheduler: Scheduler
    hands: Hands
    polls: int = field(default=0)

    async def submit(
        self,
        name: str = "",
        *,
        job_type: str = "echo",
        queue: str = "default",
        priority: Priority = Priority.NORMAL,
        who: Principal = ADA,
        request_id: str = "",
        timeouts: Timeouts = Timeouts(),  # noqa: B008 - frozen
        retry: RetryPolicy = RetryPolicy(),  # noqa: B008 - frozen
        schedule_time: int | None = None,
        max_lost: int = 3,
        dedupe_key: str = "",
        on_conflict: ConflictPolicy = ConflictPolicy.REJECT,
    ) -> Job:
        """Create one job."""
        definition = Definition(
            tenant="",
            user="",
            job_type=job_type,
            queue=queue,
            workspace=name,
            request_id=request_id,
            request_hash=name.encode(),
            timeouts=timeouts,
            retry=retry,
            schedule_time=schedule_time,
            max_lost=max_lost,
            dedupe_key=dedupe_key,
        )
        return (await self.scheduler.jobs.create(who, [NewJob(definition, priority, on_conflict=on_conflict)]))[0]

    async def worker(
        self, *, slots: int = 1, job_types: tuple[str, ...] = ("echo",), who: Principal = ADA
    ) -> Registered:
        """Register a worker."""
        machine = Machine(cpu_count=2, memory_mb=4096, hostname="box")
        asked = Registration(worker_id=None, name="box", slots=slots, job_types=job_types, machine=machine)
        return await self.scheduler.workers.register(who, asked)

    def poll(
        self, worker: Registered, slots: int = 1, *, poll_id: str = "", who: Principal = ADA, wait: int | None = None
    ) -> asyncio.Task[list[Job]]:
        """Begin to poll."""
        self.polls += 1
        call = self.scheduler.workers.lease(
            who, worker.worker_id, worker.session_id, poll_id or f"poll-{self.polls}", slots, wait
        )
        return asyncio.get_running_loop().create_task(call)

    async def lease(self, worker: Registered, slots: int = 1, *, who: Principal = ADA) -> list[Job]:
        """Poll for what is there now."""
        return await self.poll(worker, slots, who=who, wait=0)

    async def get(self, job: Job, who: Principal = ADA) -> Job:
        """The job as it stands in the store."""
        return await self.scheduler.jobs.get(who, job.job_id)

    async def state(self, job: Job) -> JobState:
        """Where the job stands in the store."""
        return (await self.get(job)).state

    async def tick(self, seconds: float = 0.0) -> None:
        """Move the clock and do what is due."""
        self.hands.move(seconds)
        await self.scheduler.timers.run_due()
        await self.scheduler.retention.run_due()
        await self.scheduler.workers.end_silent_sessions()

    async def parked(self, count: int) -> None:
        """Wait until so many polls are parked."""
        await settled(lambda: self.parked_now() == count)

    def parked_now(self) -> int:
        """How many polls are parked."""
        return len(self.scheduler.timers._state.waiters)

    def under_way(self, worker: Registered) -> bool:
        """Whether the worker's latest poll has no answer yet."""
        session = self.scheduler.timers._state.sessions.of_worker(worker.worker_id)
        return session is not None and session.poll is not None and not session.poll.task.done()

    def profiles(self) -> int:
        """How many kinds of workers the board remembers."""
        return len(self.scheduler.timers._state.board._demands._kinds)


async def settled(condition: Callable[[], bool], *, seconds: float = 10) -> None:
    """Let the event loop turn until something holds."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - what is waited for is inside the scheduler
            await asyncio.sleep(0)  # a turn, not a time


@asynccontextmanager
async def stage(store: Store | None = None, hands: Hands | None = None) -> AsyncIterator[Stage]:
    """A started scheduler whose timers run only when the test says so."""
    hands = hands or Hands()
    clock = Clock(wall=lambda: hands.now, steady=lambda: hands.steady)
    scheduler = Scheduler(store or MemoryStore(), clock=clock, rng=random.Random(7), intervals=INTERVALS)
    await scheduler.start()
    await scheduler.timers.stop()
    try:
        yield Stage(scheduler, hands)
    finally:
        await scheduler.stop()
