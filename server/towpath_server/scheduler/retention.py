"""Deletes what is over, in small steps with pauses between them: whoever submits or works must not feel it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial

from towpath_server.core.errors import TowpathError
from towpath_server.core.job import SECOND
from towpath_server.core.records import AuditEvent
from towpath_server.log import Logger
from towpath_server.scheduler.state import State
from towpath_server.scheduler.transactions.purge import PURGE, SWEEP, Purge, Sweep
from towpath_server.store.base import Matching, Store

log = Logger(__name__)

# Jobs in a step: their rows are a few milliseconds of the writer's time.
STEP = 100
# How long to pause after a step, as a multiple of what it took, at least and at most (microseconds): one that waited
# for a store that stood still took long, and was no work.
REST = 1
LEAST_REST = SECOND // 200
MOST_REST = SECOND
# How many jobs a look at the store brings to those who delete what they see.
PAGE = 1000
# How often to look for other things that are over (microseconds): nobody waits for their end.
LOOK = 3600 * SECOND
# How long to leave a store alone that did not answer (seconds), and what another scheduler deletes (microseconds).
PAUSE = 1.0
OTHERS = SECOND // 20


class Retention:
    """Runs when the keep of a finished job is over, or when it is told to tidy up, and looks around once an hour."""

    def __init__(self, state: State, forget_others: Callable[[int], Awaitable[int]]) -> None:
        self._state = state
        # Deletes at most so many other things that are over; how many there were.
        self._forget_others = forget_others
        self._next_look = 0
        self._next: int | None = 0
        self._sooner = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        state.on_nudge_final(self.nudge)

    def nudge(self, due: int) -> None:
        """The keep of a job is over at `due`, perhaps before that of all others."""
        if self._next is None or due < self._next:
            self._next = due
            self._sooner.set()

    def start(self) -> None:
        """Begin."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name="retention")

    async def stop(self) -> None:
        """End."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def run_due(self) -> None:
        """Delete all whose keep is over now."""
        await self._purge()
        if self._next_look <= self._state.clock.wall():
            while True:
                begun = self._state.clock.steady()
                if not await self._forget_others(STEP):
                    break
                await self._rest(begun)
            self._next_look = self._state.clock.wall() + LOOK

    async def _purge(self) -> None:
        while self._next is not None and self._next <= self._state.clock.wall():
            due, self._next = self._next, None
            begun = self._state.clock.steady()
            try:
                purged = await self._state.committer.submit(PURGE, Purge(STEP))
            except Exception:
                self.nudge(due)  # It still is.
                raise
            self._state.absorb(purged.changes)
            if purged.next_due is not None:
                # Where nothing went, another scheduler is about to delete it.
                soonest = 0 if purged.changes else self._state.clock.wall() + OTHERS
                self.nudge(max(purged.next_due, soonest))
            if purged.changes:
                await self._rest(begun)

    async def clean_up(self, tenant: str, ended_before: int, told: AuditEvent | None = None) -> int:
        """Delete the tenant's jobs that were final at a moment; how many they were. `told` goes with the first of them.

        Raises `Draining` where the scheduler stops meanwhile; what is left is deleted by the same call to the next one.
        """
        query = Matching(tenant=tenant, ended_before=ended_before, ascending=True)
        deleted = 0
        while True:
            found = await self._state.committer.scan(partial(_ids, query=query))
            for start in range(0, len(found), STEP):
                self._state.refuse_when_draining()
                begun = self._state.clock.steady()
                step = Sweep(tuple(found[start : start + STEP]), ended_before, None if deleted else told)
                swept = await self._state.committer.submit(SWEEP, step)
                deleted += len(swept.changes)
                await self._rest(begun)
            if len(found) < PAGE:
                return deleted
            query = replace(query, after=found[-1])

    async def _rest(self, begun: int) -> None:
        took = self._state.clock.steady() - begun
        await asyncio.sleep(min(max(REST * took, LEAST_REST), MOST_REST) / SECOND)

    async def _run(self) -> None:
        while True:
            try:
                await self.run_due()
            except Exception as error:
                # Whatever it is: without this loop nothing would ever be deleted again.
                log.error("retention", error=repr(error), exc_info=not isinstance(error, TowpathError))
                await asyncio.sleep(PAUSE)
                continue
            await self._sleep()

    async def _sleep(self) -> None:
        self._sooner.clear()
        due = self._next_look if self._next is None else min(self._next, self._next_look)
        wait = max(due - self._state.clock.wall(), 0) / SECOND
        try:
            await asyncio.wait_for(self._sooner.wait(), wait)
        except TimeoutError:
            return


def _ids(store: Store, query: Matching) -> list[int]:
    return [job.job_id for job in store.find(query, PAGE)]
