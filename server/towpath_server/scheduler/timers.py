"""One loop for all clocks: it sleeps until the next one runs out, in the store or among the sessions."""

from __future__ import annotations

import asyncio

from towpath_server.core.errors import TowpathError
from towpath_server.core.job import SECOND
from towpath_server.log import Logger
from towpath_server.scheduler.state import State
from towpath_server.scheduler.transactions.expire import EXPIRE, ExpireItem
from towpath_server.scheduler.workers import Workers

log = Logger(__name__)

BATCH = 1000
# How long to leave a store alone that did not answer.
PAUSE = 1.0
# How long to leave what is due to another scheduler that has it in its hands (microseconds).
OTHERS = SECOND // 20
# A session is looked at this often; what is in the store wakes the loop when it is due.
TICK = SECOND // 4


class Timers:
    """Runs what is due."""

    def __init__(self, state: State, workers: Workers) -> None:
        self._state = state
        self._workers = workers
        self._next: int | None = 0
        self._sooner = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        state.on_nudge(self.nudge)

    def nudge(self, due: int) -> None:
        """A clock runs out at `due`, perhaps before all others."""
        if self._next is None or due < self._next:
            self._next = due
            self._sooner.set()

    def start(self) -> None:
        """Begin."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name="timers")

    async def stop(self) -> None:
        """End."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            try:
                await self.run_due()
                await self._workers.end_silent_sessions()
            except Exception as error:
                # Whatever it is: without this loop no timeout and no retry would ever come again.
                log.error("timers", error=repr(error), exc_info=not isinstance(error, TowpathError))
                await asyncio.sleep(PAUSE)
                continue
            await self._sleep()

    async def run_due(self) -> None:
        """Do all that is due now."""
        while self._next is not None and self._next <= self._state.clock.wall():
            due, self._next = self._next, None
            try:
                expired = await self._state.committer.submit(EXPIRE, ExpireItem(BATCH, self._state.rng.random))
            except Exception:
                self.nudge(due)  # It still is.
                raise
            self._state.absorb(expired.changes)
            if expired.next_due is not None:
                # Where nothing changed, another scheduler is about to do it.
                soonest = 0 if expired.changes else self._state.clock.wall() + OTHERS
                self.nudge(max(expired.next_due, soonest))

    async def _sleep(self) -> None:
        wait = TICK
        if self._next is not None:
            wait = min(wait, max(self._next - self._state.clock.wall(), 0))
        self._sooner.clear()
        try:
            await asyncio.wait_for(self._sooner.wait(), wait / SECOND)
        except TimeoutError:
            return
