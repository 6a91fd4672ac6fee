"""Following jobs: waiting for one, watching one or many, reading logs as they come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace

from towpath_server.core.errors import SlowConsumer
from towpath_server.core.job import SECOND, Job
from towpath_server.core.records import LogChunk, Principal
from towpath_server.scheduler.filters import matching, owned, selector
from towpath_server.scheduler.messages import JobFilter, Told
from towpath_server.scheduler.state import State
from towpath_server.scheduler.transactions.control import visible
from towpath_server.scheduler.watchers import MOST_BYTES, Watch, outline, weight
from towpath_server.store.base import Matching, Store

LOG_CHUNKS = 200
# Each may have some MiB, which are read and then left out.
PAGE = 100
# A sequence that all jobs are told after.
FROM_THE_BEGINNING = 1


class Follow:
    """What those who wait for jobs ask."""

    def __init__(self, state: State) -> None:
        self._state = state

    async def wait(self, principal: Principal, job_id: int, revision: int | None, longest: int) -> Job:
        """The job once it is final, once it is not at `revision` any more, or after `longest` microseconds."""
        deadline = asyncio.get_running_loop().time() + longest / SECOND
        with self._state.watchers.job(job_id) as watch:
            job = await self._look(principal, job_id)
            while not job.state.is_final and revision in (None, job.revision):
                try:
                    async with asyncio.timeout_at(deadline):
                        changed = await watch.next()
                except TimeoutError:
                    return job
                self._state.refuse_when_draining()
                job = changed[-1] if changed else await self._look(principal, job_id)
            return job

    async def wait_any(self, principal: Principal, job_ids: Sequence[int], longest: int) -> list[Job]:
        """Those of the jobs that are final, as soon as one is; none after `longest` microseconds.

        Where specs and results are large, some jobs come without.
        """
        deadline = asyncio.get_running_loop().time() + longest / SECOND
        with self._state.watchers.ends(job_ids) as watch:
            query = owned(principal, job_ids)
            found = await self._state.committer.read(lambda store: store.find(query, len(query.job_ids)))
            stored = {job.job_id: job for job in found}
            jobs = [visible(principal, job_id, stored.get(job_id)) for job_id in job_ids]
            while not (over := [job for job in jobs if job.state.is_final]):
                try:
                    async with asyncio.timeout_at(deadline):
                        jobs = await self._next(watch)
                except TimeoutError:
                    return []
            return over

    async def watch(self, principal: Principal, job_id: int, from_sequence: int) -> AsyncGenerator[Job]:
        """The job now, if it is past `from_sequence`, and after each change, until it is final."""
        with self._state.watchers.job(job_id) as watch:
            job = await self._look(principal, job_id)
            # One that the job has not reached is from before the store was restored.
            told = from_sequence if from_sequence <= job.revision else 0
            while True:
                if job.revision > told:
                    told = job.revision
                    yield job
                if job.state.is_final:
                    return
                changed = await self._next(watch)
                job = changed[-1] if changed else await self._look(principal, job_id)

    async def watch_all(
        self, principal: Principal, wanted: JobFilter, from_sequence: int = 0, *, whole: bool = False
    ) -> AsyncGenerator[Told]:
        """No jobs once the watch stands, then each change of the jobs that this caller may see and wants.

        First what has changed since `from_sequence`, each job as it stands; where that is 1, or no sequence that was
        given out here, all jobs. From a `Told.sequence` on, another watch misses nothing. Jobs come without spec and
        result; with `whole`, most that are small come with them. Raises `SlowConsumer` with the sequence to go on from.
        """
        query = matching(principal, wanted)
        with self._state.watchers.jobs(selector(principal, wanted), wanted.states, whole=whole) as watch:
            if from_sequence > self._state.watchers.sequence:
                # Another scheduler may have told it, and this one not have heard of it yet.
                await self._state.catch_up()
            current = self._state.watchers.sequence
            told = (from_sequence if from_sequence <= current else FROM_THE_BEGINNING) or current
            yield Told((), told)
            behind, after = from_sequence > 0, told if told > FROM_THE_BEGINNING else 0
            while behind:
                self._state.refuse_when_draining()
                # What was told until now is in the store, where it is read.
                watch.forget()
                current = self._state.watchers.sequence
                page = await self._changed(replace(query, changed_after=after), whole)
                behind = len(page) == PAGE
                # The store may be ahead of what was told.
                told = after = page[-1].sequence if behind else max([told, current, *(job.sequence for job in page)])
                if page:
                    yield Told(page, told)
            while True:
                try:
                    changed = await self._next(watch)
                except SlowConsumer:
                    raise SlowConsumer(sequence=told) from None
                fresh = sorted((job for job in changed if job.sequence > told), key=lambda job: job.sequence)
                # Nobody was told of anything since these were taken.
                told = max(told, self._state.watchers.sequence)
                if fresh:
                    yield Told(fresh, told)

    async def logs(
        self, principal: Principal, job_id: int, attempt: int, offset: int, follow: bool
    ) -> AsyncGenerator[LogChunk]:
        """Pieces of log from `offset` on; when following, what comes until the job is final."""
        with self._state.watchers.job(job_id) as watch:
            job = await self._look(principal, job_id)
            number = attempt or job.attempt
            while True:
                async for chunk in self._stored(job_id, number, offset):
                    offset = chunk.offset + len(chunk.text.encode())
                    yield chunk
                if follow and not attempt and number < job.attempt:
                    # Whoever reads slowly misses no attempt, and no end of one.
                    number, offset = number + 1, 0
                    continue
                if not follow or job.state.is_final or 0 < attempt < job.attempt:
                    return
                await self._next(watch)
                job = await self._look(principal, job_id)

    async def _stored(self, job_id: int, attempt: int, offset: int) -> AsyncGenerator[LogChunk]:
        chunks = await self._chunks(job_id, attempt, offset)
        while chunks:
            for chunk in chunks:
                yield chunk
            last = chunks[-1]
            more = len(chunks) == LOG_CHUNKS
            chunks = await self._chunks(job_id, attempt, last.offset + len(last.text.encode())) if more else []

    async def _chunks(self, job_id: int, attempt: int, offset: int) -> list[LogChunk]:
        return await self._state.committer.read(lambda store: store.logs(job_id, attempt, offset, LOG_CHUNKS))

    async def _changed(self, query: Matching, whole: bool) -> list[Job]:
        return await self._state.committer.scan(lambda store: _page(store, query, MOST_BYTES if whole else -1))

    async def _next(self, watch: Watch) -> list[Job]:
        self._state.refuse_when_draining()
        changed = await watch.next()
        if not changed:
            self._state.refuse_when_draining()
        return changed

    async def _look(self, principal: Principal, job_id: int) -> Job:
        query = owned(principal, [job_id])
        jobs = await self._state.committer.read(lambda store: store.find(query, 1))
        return visible(principal, job_id, jobs[0] if jobs else None)


def _page(store: Store, query: Matching, room: int) -> list[Job]:
    # Of one moment: a page is short only where nothing follows.
    with store.transaction():
        page = store.find(query, PAGE)
    for index, job in enumerate(page):
        if weight(job) <= room:
            room -= weight(job)
        else:
            page[index] = outline(job)
    return page
