"""One exception for each way in which a job ends without a result."""

from __future__ import annotations

from typing import Any

from towpath.errors import TowpathError
from towpath.results import from_job_result
from towpath.types import Failure, Job
from towpath.v1 import job_pb2


class JobError(TowpathError):
    """A job is final and has no result; `job` is its last snapshot."""

    def __init__(self, job: Job) -> None:
        super().__init__(self.describe(job))
        self.job = job

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.job,)

    @property
    def failure(self) -> Failure | None:
        """The last failure, where there was one."""
        return self.job.failure

    @staticmethod
    def describe(job: Job) -> str:
        """The message for people."""
        return f"Job {job.job_id} is {job.state}."


class JobFailed(JobError):
    """A job failed, and no attempt is left; `failure` has the type, the message and the handler's traceback."""

    @staticmethod
    def describe(job: Job) -> str:
        if job.failure is None:
            return f"Job {job.job_id} failed. {job.state_reason}".rstrip()
        kind = f"{job.failure.type}: " if job.failure.type else ""
        return f"Job {job.job_id} failed: {kind}{job.failure.message}"

    @property
    def traceback(self) -> str:
        """The handler's traceback; empty where there is none."""
        return self.job.failure.traceback if self.job.failure else ""


class JobCancelled(JobError):
    """Somebody cancelled the job."""

    @staticmethod
    def describe(job: Job) -> str:
        return f"Job {job.job_id} was cancelled{f': {job.state_reason}' if job.state_reason else '.'}"


class JobTimedOut(JobError, TimeoutError):
    """One of the job's timeouts ended it."""

    @staticmethod
    def describe(job: Job) -> str:
        why = (job.failure.message if job.failure else "") or job.state_reason
        return f"Job {job.job_id} timed out{f': {why}' if why else '.'}"


FAILURES: dict[int, type[JobError]] = {
    job_pb2.JOB_STATE_FAILED: JobFailed,
    job_pb2.JOB_STATE_CANCELLED: JobCancelled,
    job_pb2.JOB_STATE_TIMED_OUT: JobTimedOut,
}


def is_final(job: job_pb2.Job) -> bool:
    """Whether a job is over."""
    return job.state == job_pb2.JOB_STATE_SUCCEEDED or job.state in FAILURES


def outcome(job: job_pb2.Job) -> Any:
    """A final job's result, or JobFailed, JobCancelled or JobTimedOut."""
    if failure := FAILURES.get(job.state):
        raise failure(Job.from_proto(job))
    return from_job_result(job.result)
