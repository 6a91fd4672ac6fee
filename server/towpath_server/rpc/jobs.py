# ruff: noqa: N802
"""JobService: what submitters call."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

from towpath.v1 import job_service_pb2 as pb
from towpath.v1 import job_service_pb2_grpc
from towpath_server.core.errors import JobNotFound
from towpath_server.core.job import Job
from towpath_server.rpc import pages
from towpath_server.rpc.auth import caller
from towpath_server.rpc.convert import ids, records
from towpath_server.rpc.convert.jobs import (
    BASIC,
    FULL,
    RESULT,
    attempt_to_proto,
    created_to_bytes,
    events_to_bytes,
    explanation_to_proto,
    job_to_proto,
    watched_job_to_proto,
)
from towpath_server.rpc.convert.new_jobs import change, job_filter, new_job, revision
from towpath_server.rpc.convert.times import SECOND, length
from towpath_server.rpc.listing import list_jobs
from towpath_server.rpc.slices import sliced
from towpath_server.scheduler.jobs import Jobs

LONGEST_WAIT = 60 * SECOND
# So many jobs of one call are on record one by one, to be found by their ids; more of them all in one event.
MOST_APART = 20


class JobServicer(job_service_pb2_grpc.JobServiceServicer):
    """Jobs, for those who submit them."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs

    async def CreateJob(self, request: pb.CreateJobRequest, context: object) -> pb.CreateJobResponse:
        """Creates a job."""
        [job] = await self._jobs.create(caller(), [new_job(request)])
        return pb.CreateJobResponse(job=job_to_proto(job))

    async def BatchCreateJobs(self, request: pb.BatchCreateJobsRequest, context: object) -> bytes:  # type: ignore[override]
        """Creates many jobs: all of them or none."""
        jobs = await self._jobs.create(caller(), await sliced(new_job, request.requests))
        return created_to_bytes(jobs)

    async def GetJob(self, request: pb.GetJobRequest, context: object) -> pb.GetJobResponse:
        """One job."""
        job = await self._jobs.get(caller(), _id(request.job_id))
        return pb.GetJobResponse(job=job_to_proto(job, request.view or FULL))

    async def ListJobs(self, request: pb.ListJobsRequest, context: object) -> pb.ListJobsResponse:
        """Jobs by filter, page by page."""
        return await list_jobs(self._jobs, caller(), request)

    async def UpdateJob(self, request: pb.UpdateJobRequest, context: object) -> pb.UpdateJobResponse:
        """Changes a job that is not final."""
        changed = change(request.job, request.update_mask.paths)
        job = await self._jobs.update(caller(), _id(request.job.job_id), changed, revision(request.job.etag))
        return pb.UpdateJobResponse(job=job_to_proto(job))

    async def DeleteJob(self, request: pb.DeleteJobRequest, context: object) -> pb.DeleteJobResponse:
        """Deletes a final job with its logs."""
        await self._jobs.delete(caller(), _id(request.job_id))
        return pb.DeleteJobResponse()

    async def CancelJob(self, request: pb.CancelJobRequest, context: object) -> pb.CancelJobResponse:
        """Cancels a job."""
        job = await self._jobs.cancel(caller(), _id(request.job_id), request.reason, request.force)
        return pb.CancelJobResponse(job=job_to_proto(job))

    async def BatchCancelJobs(self, request: pb.BatchCancelJobsRequest, context: object) -> pb.BatchCancelJobsResponse:
        """Cancels many jobs."""
        call = self._jobs.new_call() if len(request.job_ids) > MOST_APART else 0
        cancelling = (
            self._jobs.cancel(caller(), _id(text), request.reason, request.force, call=call) for text in request.job_ids
        )
        # Each is carried out, whatever becomes of the others.
        outcomes = await asyncio.gather(*cancelling, return_exceptions=True)
        found = [one for one in outcomes if not isinstance(one, JobNotFound)]
        if refusals := [one for one in found if isinstance(one, BaseException)]:
            raise refusals[0]
        return pb.BatchCancelJobsResponse(jobs=[job_to_proto(one, BASIC) for one in found if isinstance(one, Job)])

    async def PauseJob(self, request: pb.PauseJobRequest, context: object) -> pb.PauseJobResponse:
        """Holds a job back."""
        return pb.PauseJobResponse(job=job_to_proto(await self._jobs.pause(caller(), _id(request.job_id))))

    async def ResumeJob(self, request: pb.ResumeJobRequest, context: object) -> pb.ResumeJobResponse:
        """Lets a paused job go on."""
        return pb.ResumeJobResponse(job=job_to_proto(await self._jobs.resume(caller(), _id(request.job_id))))

    async def RetryJob(self, request: pb.RetryJobRequest, context: object) -> pb.RetryJobResponse:
        """Queues a final job again."""
        job = await self._jobs.retry(caller(), _id(request.job_id), revision(request.etag))
        return pb.RetryJobResponse(job=job_to_proto(job))

    async def WaitJob(self, request: pb.WaitJobRequest, context: object) -> pb.WaitJobResponse:
        """Answers when the job is final, when it changed, or when the wait is over."""
        wait = length(request.wait_timeout) if request.HasField("wait_timeout") else LONGEST_WAIT
        job = await self._jobs.wait(caller(), _id(request.job_id), revision(request.etag), wait)
        return pb.WaitJobResponse(job=job_to_proto(job))

    async def WaitJobs(self, request: pb.WaitJobsRequest, context: object) -> pb.WaitJobsResponse:
        """Answers when some of the jobs are final, or when the wait is over."""
        wait = length(request.wait_timeout) if request.HasField("wait_timeout") else LONGEST_WAIT
        over = await self._jobs.wait_any(caller(), [_id(text) for text in request.job_ids], wait)
        return pb.WaitJobsResponse(jobs=pages.within([job_to_proto(job, RESULT) for job in over]))

    async def WatchJob(self, request: pb.WatchJobRequest, context: object) -> AsyncIterator[pb.WatchJobResponse]:
        """The job now, and after each change, until it is final."""
        async with aclosing(self._jobs.watch(caller(), _id(request.job_id), request.from_sequence)) as jobs:
            async for job in jobs:
                yield pb.WatchJobResponse(sequence=job.revision, job=watched_job_to_proto(job))

    async def WatchJobs(  # type: ignore[override]
        self, request: pb.WatchJobsRequest, context: object
    ) -> AsyncIterator[bytes]:
        """Each change of the jobs that fit the filter."""
        wanted, view = job_filter(request.filter), request.view or BASIC
        watch = self._jobs.watch_all(caller(), wanted, request.from_sequence, whole=view != BASIC)
        async with aclosing(watch) as changes:
            async for told in changes:
                for message in events_to_bytes(told, view):
                    yield message

    async def StreamJobLogs(
        self, request: pb.StreamJobLogsRequest, context: object
    ) -> AsyncIterator[pb.StreamJobLogsResponse]:
        """What the job's handler wrote."""
        wanted = _id(request.job_id), request.attempt, request.offset, request.follow
        async with aclosing(self._jobs.logs(caller(), *wanted)) as chunks:
            async for chunk in chunks:
                yield records.log_to_proto(chunk)

    async def ListJobAttempts(self, request: pb.ListJobAttemptsRequest, context: object) -> pb.ListJobAttemptsResponse:
        """Each delivery of the job to a worker, the newest first."""
        attempts = await self._jobs.attempts(caller(), _id(request.job_id))
        page, token = pages.cut(request, attempts, lambda attempt: (-attempt.number,), attempt_to_proto)
        return pb.ListJobAttemptsResponse(attempts=page, next_page_token=token)

    async def ExplainJob(self, request: pb.ExplainJobRequest, context: object) -> pb.ExplainJobResponse:
        """Why the job does not run."""
        return explanation_to_proto(await self._jobs.explain(caller(), _id(request.job_id)))

    async def GetJobStats(self, request: pb.GetJobStatsRequest, context: object) -> pb.GetJobStatsResponse:
        """How many jobs stand in which state."""
        return records.stats_to_proto(await self._jobs.stats(caller(), job_filter(request.filter)))


def _id(text: str) -> int:
    return ids.read(ids.JOB, text)
