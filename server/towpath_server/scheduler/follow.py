"""Following jobs: waiting for one, watching one or many, reading logs as they come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from towpath_server.core.job import SECOND, Job
from towpath_server.core.records import LogChunk, Principal
from towpath_server.scheduler.messages import JobFilter
from towpath_server.scheduler.state import State
from towpath_server.scheduler.transactions.control import visible
from towpath_server.scheduler.watchers import Watch

LOG_CHUNKS = 200


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

    async def watch(self, principal: Principal, job_id: int, from_sequence: int) -> AsyncGenerator[Job]:
        """The job now, if it is past `from_sequence`, and after each change, until it is final."""
        with self._state.watchers.job(job_id) as watch:
            job, told = await self._look(principal, job_id), from_sequence
            while True:
                if job.revision > told:
                    told = job.revision
                    yield job
                if job.state.is_final:
                    return
                changed = await self._next(watch)
                job = changed[-1] if changed else await self._look(principal, job_id)

    async def watch_all(self, principal: Principal, wanted: JobFilter) -> AsyncGenerator[list[Job]]:
        """Nothing once the watch stands, then what has changed of the jobs that this caller may see and wants."""
        with self._state.watchers.jobs(lambda job: fits(principal, wanted, job)) as watch:
            yield []
            while True:
                if changed := await self._next(watch):
                    yield changed

    async def logs(
        self, principal: Principal, job_id: int, attempt: int, offset: int, follow: bool
    ) -> AsyncGenerator[LogChunk]:
        """Pieces of log from `offset` on; when following, what comes until the job is final."""
        with self._state.watchers.job(job_id) as watch:
            while True:
                job = await self._look(principal, job_id)
                number = attempt or job.attempt
                async for chunk in self._stored(job_id, number, offset):
                    offset = chunk.offset + len(chunk.text.encode())
                    yield chunk
                if not follow or job.state.is_final or 0 < attempt < job.attempt:
                    return
                await self._next(watch)
                if not attempt and (await self._look(principal, job_id)).attempt != number:
                    offset = 0

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

    async def _next(self, watch: Watch) -> list[Job]:
        self._state.refuse_when_draining()
        changed = await watch.next()
        if not changed:
            self._state.refuse_when_draining()
        return changed

    async def _look(self, principal: Principal, job_id: int) -> Job:
        jobs = await self._state.committer.read(lambda store: store.load([job_id]))
        return visible(principal, job_id, jobs.get(job_id))


def fits(principal: Principal, wanted: JobFilter, job: Job) -> bool:
    """Whether this caller may see the job and wants it."""
    definition = job.definition
    return (
        principal.owns(definition.tenant, definition.user)
        and (not wanted.states or job.state in wanted.states)
        and wanted.queue in (None, definition.queue)
        and wanted.job_type in (None, definition.job_type)
        and wanted.user in (None, definition.user)
        and wanted.workspace in (None, definition.workspace)
        and wanted.worker_id in (None, job.worker_id)
        and wanted.labels.items() <= definition.labels.items()
    )
