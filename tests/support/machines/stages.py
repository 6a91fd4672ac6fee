"""One scheduler over each kind of store, all with the same clock and the same seed."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

from support.machines.kinds import Kind, Opened
from support.stage import INTERVALS, Hands, Stage, settled
from towpath_server.core.job import Job
from towpath_server.scheduler import Clock, Scheduler
from towpath_server.store.committer import Committer
from towpath_server.store.shared import SharedStore

# Seconds: the ids of a new scheduler are ahead of the clock by a millisecond.
START_UP = 0.002


class _AtOnce:
    """A queue whose tasks are done by the event loop itself, all that came in one turn together."""

    def __init__(self, loop: asyncio.AbstractEventLoop, work: Callable[[list[object]], None]) -> None:
        self._loop = loop
        self._work = work
        self._tasks: list[object] = []

    def put(self, task: object) -> None:
        """Do it in the next turn. None, the end, needs nothing done."""
        if task is None:
            return
        if not self._tasks:
            self._loop.call_soon(self._do)
        self._tasks.append(task)

    def _do(self) -> None:
        tasks, self._tasks = self._tasks, []
        self._work(tasks)


class SteadyCommitter(Committer):
    """The product's committer without its threads: the same script always takes the same turns."""

    def start(self) -> None:
        """See `Committer`."""
        self._loop = asyncio.get_running_loop()
        [self._view] = self._views = (self._store.reader(),)
        self._started = True
        self._writes = _AtOnce(self._loop, lambda tasks: self._answer(self._commit(tasks)))  # type: ignore[assignment, arg-type]
        self._reads = _AtOnce(self._loop, self._look_at_all)  # type: ignore[assignment]
        if isinstance(self._store, SharedStore):
            self._follows = self._reads

    def _look_at_all(self, tasks: list[object]) -> None:
        for task in tasks:
            self._answer(self._look([task]))  # type: ignore[list-item]


class Lived:
    """A scheduler over a store, through its restarts."""

    def __init__(self, kind: Kind) -> None:
        self.name = kind.name
        self._opened = Opened(kind)
        self._lives = 0
        self.hands = Hands()
        self.stage: Stage

    async def start(self) -> None:
        """A scheduler over what the store holds. Its timers run when they are told to."""
        self._lives += 1
        clock = Clock(wall=lambda: self.hands.now, steady=lambda: self.hands.steady)
        seeded = random.Random(self._lives)
        scheduler = Scheduler(
            self._opened.store, clock=clock, rng=seeded, intervals=INTERVALS, new_committer=SteadyCommitter
        )
        # Never begun, instead of stopped: the first thing that either does is to look for what is due.
        scheduler.timers.start = scheduler.retention.start = lambda: None  # type: ignore[method-assign]
        await scheduler.start(first_token=False)
        self.stage = Stage(scheduler, self.hands)
        self.hands.move(START_UP)

    async def restart(self, seconds: float) -> None:
        """Stop, stay away for so long, and start again."""
        await self.stage.scheduler.stop()
        self.hands.move(seconds)
        self._opened.reopen(close=False)
        await self.start()

    async def end(self) -> None:
        """Stop for good."""
        await self.stage.scheduler.stop()
        self._opened.clear_away()

    def at(self, session_id: str | None) -> Stage:
        """Where this session lives: there is only one."""
        return self.stage

    def begun(self, session_id: str) -> None:
        """The last verb has begun this session."""

    async def settle(self, calls: Callable[[], int]) -> None:
        """Until every poll that has no answer is parked, and nothing is being carried out."""
        state = self.stage.scheduler._state
        await settled(lambda: self.stage.parked_now() == calls() and not state._under_way)


def lease_of(job: Job) -> tuple[int, str]:
    """Which lease the job was handed out with."""
    assert job.lease is not None
    return (job.job_id, job.lease.token)
