"""One exception for each way in which a job ends without a result."""

from __future__ import annotations

from typing import Any

from towpath.enums import JobState
from towpath.errors import TowpathError
from towpath.types import Failure, Job


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


FAILURES: dict[JobState, type[JobError]] = {
    JobState.FAILED: JobFailed,
    JobState.CANCELLED: JobCancelled,
    JobState.TIMED_OUT: JobTimedOut,
}


def of_job(job: Job) -> Any:
    """A final job's result, or JobFailed, JobCancelled or JobTimedOut."""
    if failure := FAILURES.get(job.state):
        raise failure(job)
    return job.result
