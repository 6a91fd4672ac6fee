"""The verbs of those who look after queues."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from towpath_server.core.errors import QueueNotFound
from towpath_server.core.job import Job, JobState
from towpath_server.core.records import Principal, Queue
from towpath_server.scheduler import audit
from towpath_server.scheduler.filters import matching
from towpath_server.scheduler.messages import JobFilter, QueueView
from towpath_server.scheduler.state import State
from towpath_server.scheduler.transactions.records import KEEP, Keep
from towpath_server.store.base import Count, Matching

RUNNING = (JobState.LEASED, JobState.RUNNING, JobState.CANCELLING)


class Queues:
    """Looking into queues, pausing and resuming them."""

    def __init__(self, state: State) -> None:
        self._state = state

    async def queues(self, principal: Principal) -> list[QueueView]:
        """The tenant's queues by name, with the counts of the jobs that this caller may see."""
        query = replace(matching(principal, JobFilter()), states=tuple(s for s in JobState if not s.is_final))
        counts = await self._state.committer.scan(lambda store: store.count(query))
        names = sorted(name for tenant, name in self._state.queues if tenant == principal.tenant)
        return [self._view(self._state.queues[principal.tenant, name], counts) for name in names]

    async def queue(self, principal: Principal, name: str) -> QueueView:
        """One queue. Raises `QueueNotFound`."""
        queue = self._find(principal, name)
        query = matching(principal, JobFilter(queue=name))
        counts = await self._state.committer.scan(lambda store: store.count(query))
        return self._view(queue, counts)

    async def pause(self, principal: Principal, name: str) -> QueueView:
        """Hand out nothing of a queue; what runs goes on."""
        await self._state.carry_out(self._keep(principal, name, paused=True))
        return await self.queue(principal, name)

    async def resume(self, principal: Principal, name: str) -> QueueView:
        """Hand out again. Raises `QueueNotFound`."""
        self._find(principal, name)
        await self._state.carry_out(self._keep(principal, name, paused=False))
        return await self.queue(principal, name)

    async def peek(self, principal: Principal, name: str, skip: int, limit: int) -> list[Job]:
        """The waiting jobs that this caller may see, in dispatch order. Raises `QueueNotFound`."""
        self._find(principal, name)
        query: Matching = replace(
            matching(principal, JobFilter(queue=name)),
            states=(JobState.QUEUED,),
            dispatch_order=True,
            after=skip or None,
        )
        return await self._state.committer.scan(lambda store: store.find(query, limit))

    async def _keep(self, principal: Principal, name: str, *, paused: bool) -> None:
        key = (principal.tenant, name)
        known = self._state.queues.get(key) or Queue(
            tenant=principal.tenant, name=name, create_time=self._state.clock.wall()
        )
        queue = replace(known, paused=paused)
        told = audit.event(self._state, principal, audit.QUEUE_PAUSED if paused else audit.QUEUE_RESUMED, name)
        changed = known.paused is not paused
        await self._state.committer.submit(KEEP, Keep((queue,), audit=(told,) if changed else ()))
        self._state.queues[key] = queue
        if paused:
            self._state.board.pause(*key)
        elif self._state.board.resume(*key):
            self._state.waiters.wake_all()

    def _find(self, principal: Principal, name: str) -> Queue:
        queue = self._state.queues.get((principal.tenant, name))
        if queue is None:
            raise QueueNotFound(queue=name)
        return queue

    def _view(self, queue: Queue, counts: Iterable[Count]) -> QueueView:
        mine = [count for count in counts if count.queue == queue.name]
        oldest = [
            count.oldest_queue_time
            for count in mine
            if count.state is JobState.QUEUED and count.oldest_queue_time is not None
        ]
        return QueueView(
            queue,
            queued=_total(mine, (JobState.QUEUED,)),
            running=_total(mine, RUNNING),
            scheduled=_total(mine, (JobState.SCHEDULED,)),
            oldest_queued_age=max(self._state.clock.wall() - min(oldest), 0) if oldest else None,
        )


def _total(counts: Iterable[Count], states: tuple[JobState, ...]) -> int:
    return sum(count.count for count in counts if count.state in states)
