"""A job in the hands of its submitter."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Unpack

import grpc

from towpath import display, job_errors, notebook, requests
from towpath._async.connection import LONGEST_POLL, AsyncConnection
from towpath._async.logs import read_logs
from towpath.enums import JobState
from towpath.errors import (
    Aborted,
    DeadlineExceeded,
    FailedPrecondition,
    NotFound,
    TowpathError,
    Unavailable,
    WaitTimeout,
)
from towpath.options import JobOptions
from towpath.retrying import Deadline
from towpath.types import Attempt, Explanation, Job, JobEvent, LogChunk, Progress
from towpath.v1 import job_pb2, job_service_pb2
from towpath.values import to_duration


class AsyncJobHandle:
    """A job: wait for it, watch it, steer it. `job` is the last snapshot that this handle saw."""

    def __init__(self, connection: AsyncConnection, job: job_pb2.Job) -> None:
        self._connection = connection
        self._message = job
        # Read from the message once somebody looks: most of those who wait for a result never do.
        self._job: Job | None = None
        self._complete = False

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.job_id} {self.job.job_type} {self.state}>"

    def _repr_html_(self) -> str:
        return notebook.job_html(self.job)

    @property
    def job_id(self) -> str:
        """Its id."""
        return self._message.job_id

    @property
    def job(self) -> Job:
        """As it was last seen; `refresh` asks anew. Only an id is known of it after `client.job(job_id)`."""
        if self._job is None or self._job.proto is not self._message:
            self._job = Job.from_proto(self._message)
        return self._job

    @property
    def state(self) -> JobState:
        """Its state as last seen."""
        return self.job.state

    def __aiter__(self) -> AsyncIterator[Job]:
        return self.watch()

    async def refresh(self) -> Job:
        """The job as it stands now."""
        request = job_service_pb2.GetJobRequest(job_id=self.job_id)
        response = await self._connection.call(self._connection.stubs.jobs.GetJob, request)
        return self._keep(response.job)

    async def done(self) -> bool:
        """Whether it is over; asks the scheduler unless that is known."""
        return job_errors.is_final(self._message) or (await self.refresh()).is_final

    async def progress(self) -> Progress:
        """How far it is, now."""
        return (await self.refresh()).progress or Progress.from_proto(job_pb2.Progress())

    async def wait(self, timeout: float | None = None) -> Job:
        """The job once it is final, however it ended; rides out restarts of the scheduler.

        Raises WaitTimeout after `timeout` seconds; the job goes on then.
        """
        await self._wait(timeout)
        return self.job

    async def _wait(self, timeout: float | None) -> None:
        deadline = Deadline(timeout)
        with self._connection.waits.counted():
            while not self._complete:
                seconds = deadline.remaining(LONGEST_POLL)
                assert seconds is not None
                try:
                    job = await self._connection.waits.shared(self._message, seconds)
                    self._see(job or await self._asked_alone(deadline))
                except DeadlineExceeded:
                    # Neither answer nor refusal: a connection that died silently.
                    pass
                except Unavailable as error:
                    if timeout is None or not self._connection.answered:
                        raise
                    raise self._still_running(timeout) from error
                if deadline.passed and not self._complete:
                    raise self._still_running(timeout)

    async def _asked_alone(self, deadline: Deadline) -> job_pb2.Job:
        seconds = deadline.remaining(LONGEST_POLL)
        assert seconds is not None
        request = job_service_pb2.WaitJobRequest(job_id=self.job_id, wait_timeout=to_duration(seconds, "wait_timeout"))
        method = self._connection.stubs.jobs.WaitJob
        # Longer than the scheduler takes.
        limit = seconds + self._connection.timeout
        return (await self._connection.call(method, request, timeout=limit, patience=deadline)).job

    async def result(self, timeout: float | None = None, *, progress: bool | None = None) -> Any:
        """What the job came to: TrainResult, Prediction, ModelList, or the plain value of a handler of your own.

        `progress` shows a bar meanwhile: None on a terminal and in a notebook only. Raises JobFailed, JobCancelled or
        JobTimedOut, and WaitTimeout after `timeout` seconds.
        """
        if display.wanted(progress) and not self._complete:
            with display.follower() as follower:
                async for job in self.watch(timeout):
                    follower.update(job)
        await self._wait(timeout)
        return job_errors.outcome(self._message)

    async def result_of(self, job: job_pb2.Job) -> Any:
        """As `result`, of a job that was heard of by another way, and is final."""
        if job.state == job_pb2.JOB_STATE_SUCCEEDED and not job.HasField("result"):
            # Too large to be told of.
            return await self.result(progress=False)
        self._see(requests.with_spec(job, self._message))
        return job_errors.outcome(self._message)

    async def watch(self, timeout: float | None = None) -> AsyncIterator[Job]:
        """The job now and after each change until it is final, also across restarts of the scheduler."""
        async for event in self.events(timeout):
            yield event.job

    async def events(self, timeout: float | None = None, *, from_sequence: int = 0) -> AsyncIterator[JobEvent]:
        """As `watch`, each with its sequence, from which a later call can go on."""
        deadline = Deadline(timeout)
        backoff = self._connection.backoff(deadline)
        sequence = from_sequence
        while True:
            request = job_service_pb2.WatchJobRequest(job_id=self.job_id, from_sequence=sequence)
            stream = self._connection.stubs.jobs.WatchJob(request, timeout=deadline.remaining())
            failure: TowpathError | None = None
            started_at = sequence
            try:
                async for response in stream:
                    backoff = self._connection.heard(deadline)
                    event = JobEvent.from_proto(response)
                    sequence = event.sequence
                    self._keep(response.job)
                    yield event
                    if event.job.is_final:
                        return
            except grpc.RpcError as error:
                failure = self._connection.translate(error)
            finally:
                stream.cancel()
            if deadline.passed:
                raise self._still_running(timeout) from failure
            if failure is None and sequence == started_at and (await self.refresh()).is_final:
                # `from_sequence` was the last one.
                return
            # The end of a stream means nothing by itself.
            await self._connection.pause(failure or Unavailable("The watch ended before the job did."), backoff)

    async def logs(self, *, follow: bool = False, attempt: int = 0) -> AsyncIterator[str]:
        """What its handler wrote, as text to be joined; `attempt` 0 is the current or last one.

        With `follow`, goes on until the job is final, through later attempts too.
        """
        async for chunk in self.log_chunks(follow=follow, attempt=attempt):
            yield chunk.text

    def log_chunks(self, *, follow: bool = False, attempt: int = 0) -> AsyncIterator[LogChunk]:
        """As `logs`, with where and when each piece was written."""
        return read_logs(self._connection, self.job_id, follow=follow, attempt=attempt)

    async def cancel(self, *, force: bool = False, reason: str = "") -> Job:
        """Cancels it: at once where it waits, after its grace where it runs, without the grace by `force`."""
        request = job_service_pb2.CancelJobRequest(job_id=self.job_id, force=force, reason=reason)
        return self._keep((await self._connection.call(self._connection.stubs.jobs.CancelJob, request)).job)

    async def pause(self) -> Job:
        """Holds it back until `resume`; where it runs, it is stopped and starts again then."""
        request = job_service_pb2.PauseJobRequest(job_id=self.job_id)
        return self._keep((await self._connection.call(self._connection.stubs.jobs.PauseJob, request)).job)

    async def resume(self) -> Job:
        """Lets it go on after `pause`."""
        request = job_service_pb2.ResumeJobRequest(job_id=self.job_id)
        try:
            response = await self._connection.call(self._connection.stubs.jobs.ResumeJob, request)
        except FailedPrecondition as refusal:
            return await self._moved_before(refusal)
        return self._keep(response.job)

    async def retry(self) -> Job:
        """Queues it again after its end, with a new budget of attempts."""
        # As it was seen: a job that was retried may be final again before the call is repeated.
        seen = self.job if self.job.is_final else await self.refresh()
        request = job_service_pb2.RetryJobRequest(job_id=self.job_id, etag=seen.etag)
        try:
            response = await self._connection.call(self._connection.stubs.jobs.RetryJob, request)
        except (Aborted, FailedPrecondition) as refusal:
            return await self._moved_before(refusal)
        return self._keep(response.job)

    async def update(self, *, etag: str = "", **options: Unpack[JobOptions]) -> Job:
        """Changes priority, labels, annotations or timeouts; with an `etag` only if nothing changed since."""
        request = requests.update(self.job_id, etag, options)
        return self._keep((await self._connection.call(self._connection.stubs.jobs.UpdateJob, request)).job)

    async def delete(self) -> None:
        """Deletes it with its logs; it must be final."""
        request = job_service_pb2.DeleteJobRequest(job_id=self.job_id)
        try:
            await self._connection.call(self._connection.stubs.jobs.DeleteJob, request)
        except NotFound as refusal:
            if not refusal.repeated:
                raise

    async def explain(self) -> Explanation:
        """Why it does not run: its place, and each worker with what it lacks."""
        request = job_service_pb2.ExplainJobRequest(job_id=self.job_id)
        response = await self._connection.call(self._connection.stubs.jobs.ExplainJob, request)
        return Explanation.from_proto(response)

    async def attempts(self) -> list[Attempt]:
        """Each delivery of it to a worker, the newest first."""
        request = job_service_pb2.ListJobAttemptsRequest(job_id=self.job_id)
        method = self._connection.stubs.jobs.ListJobAttempts
        return [
            Attempt.from_proto(attempt)
            async for page in self._connection.pages(method, request)
            for attempt in page.attempts
        ]

    def _see(self, job: job_pb2.Job) -> None:
        self._message = job
        self._complete = job_errors.is_final(job)

    def _keep(self, job: job_pb2.Job) -> Job:
        self._see(job)
        return self.job

    async def _moved_before(self, refusal: Aborted | FailedPrecondition) -> Job:
        # The job does not stand where it could be moved: a try whose answer was lost has moved it already, or somebody
        # else has. Whoever asks again asks for the job as it stands now.
        job = await self.refresh()
        if not refusal.repeated:
            raise refusal
        return job

    def _still_running(self, timeout: float | None) -> WaitTimeout:
        if self.state is JobState.UNSPECIFIED:
            return WaitTimeout(f"Nothing was heard of job {self.job_id} for {timeout:g} s; it may go on.")
        return WaitTimeout(f"Job {self.job_id} is still {self.state} after {timeout:g} s; it goes on.")
