"""Calls on jobs by id, and on many jobs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Unpack

from towpath import requests
from towpath._async.calls import AsyncCalls
from towpath._async.handle import AsyncJobHandle
from towpath.options import JobOptions
from towpath.requests import JobFilters
from towpath.stats import JobStats
from towpath.types import Attempt, Explanation, Job
from towpath.v1 import job_pb2, job_service_pb2

PAGE_SIZE = 200


class AsyncJobCalls(AsyncCalls):
    """Jobs: those with a `job_id` do what the method of that name does on a handle."""

    def job(self, job_id: str) -> AsyncJobHandle:
        """A handle on a job that exists already. Asks nothing yet."""
        return AsyncJobHandle(self._connection, job_pb2.Job(job_id=job_id))

    async def get(self, job_id: str) -> Job:
        """The job as it stands, with spec and result."""
        return await self.job(job_id).refresh()

    async def jobs(self, *, limit: int | None = None, **filters: Unpack[JobFilters]) -> AsyncIterator[Job]:
        """Jobs that fit all filters, the newest first, fetched page by page; without spec and result."""
        left = limit
        request = job_service_pb2.ListJobsRequest(
            filter=requests.job_filter(filters), page_size=min(limit or PAGE_SIZE, PAGE_SIZE)
        )
        if left == 0:
            return
        async for page in self._connection.pages(self._stubs.jobs.ListJobs, request):
            for job in page.jobs:
                yield Job.from_proto(job)
                left = None if left is None else left - 1
                if left == 0:
                    return

    async def cancel(self, job_id: str, *, force: bool = False, reason: str = "") -> Job:
        """Cancels a job; one that is final stays as it is."""
        return await self.job(job_id).cancel(force=force, reason=reason)

    async def pause(self, job_id: str) -> Job:
        """Holds a job back."""
        return await self.job(job_id).pause()

    async def resume(self, job_id: str) -> Job:
        """Lets a paused job go on."""
        return await self.job(job_id).resume()

    async def retry(self, job_id: str) -> Job:
        """Queues a final job again."""
        return await self.job(job_id).retry()

    async def update(self, job_id: str, *, etag: str = "", **options: Unpack[JobOptions]) -> Job:
        """Changes priority, labels, annotations or timeouts of a job that is not final."""
        return await self.job(job_id).update(etag=etag, **options)

    async def delete(self, job_id: str) -> None:
        """Deletes a final job with its logs."""
        await self.job(job_id).delete()

    async def explain(self, job_id: str) -> Explanation:
        """Why a job does not run."""
        return await self.job(job_id).explain()

    async def attempts(self, job_id: str) -> list[Attempt]:
        """Each delivery of a job to a worker, the newest first."""
        return await self.job(job_id).attempts()

    async def stats(self, **filters: Unpack[JobFilters]) -> JobStats:
        """How many jobs stand in which state."""
        request = job_service_pb2.GetJobStatsRequest(filter=requests.job_filter(filters))
        response = await self._connection.call(self._stubs.jobs.GetJobStats, request)
        return JobStats.from_proto(response)
