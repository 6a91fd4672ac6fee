"""What can go wrong: one exception for each gRPC code, and one for each way in which a job ends without a result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from towpath.types import Failure, Job


class TowpathError(Exception):
    """The base of them all; never raised itself.

    `reason` is the scheduler's word for the case (`JOB_NOT_FOUND`), `metadata` its facts; both are empty where the
    error did not come from a scheduler.
    """

    code = ""

    def __init__(self, message: str, *, reason: str = "", metadata: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason
        self.metadata = dict(metadata or {})
        self.retry_after: float | None = None


@dataclass(frozen=True, slots=True)
class Violation:
    """One wrong field: its path, and what to do about it."""

    field: str
    description: str


class Unauthenticated(TowpathError):
    """No token, or one that is not valid."""

    code = "UNAUTHENTICATED"


class PermissionDenied(TowpathError):
    """The token's role may not do this."""

    code = "PERMISSION_DENIED"


class NotFound(TowpathError):
    """No such job, worker, queue, model or token."""

    code = "NOT_FOUND"


class InvalidArgument(TowpathError, ValueError):
    """Something in the request is wrong; `violations` names each field."""

    code = "INVALID_ARGUMENT"

    def __init__(
        self,
        message: str,
        *,
        reason: str = "",
        metadata: Mapping[str, str] | None = None,
        violations: tuple[Violation, ...] = (),
    ) -> None:
        super().__init__(message, reason=reason, metadata=metadata)
        self.violations = violations


class FailedPrecondition(TowpathError):
    """The thing does not stand where this could be done to it."""

    code = "FAILED_PRECONDITION"


class AlreadyExists(TowpathError):
    """The request_id was used before for another job."""

    code = "ALREADY_EXISTS"


class Aborted(TowpathError):
    """Somebody else changed it meanwhile: read it again and decide anew."""

    code = "ABORTED"


class ResourceExhausted(TowpathError):
    """A limit was reached; `retry_after` says in how many seconds to try again, None that trying again is no use."""

    code = "RESOURCE_EXHAUSTED"


class Unavailable(TowpathError, ConnectionError):
    """No scheduler answers."""

    code = "UNAVAILABLE"


class DeadlineExceeded(TowpathError, TimeoutError):
    """The scheduler did not answer in time."""

    code = "DEADLINE_EXCEEDED"


class RequestCancelled(TowpathError):
    """The call was cancelled, or its client was closed."""

    code = "CANCELLED"


class Unimplemented(TowpathError):
    """This scheduler does not know the call."""

    code = "UNIMPLEMENTED"


class InternalError(TowpathError):
    """A bug in the scheduler; `correlation_id` finds it in its log."""

    code = "INTERNAL"

    @property
    def correlation_id(self) -> str:
        """What to search for in the scheduler's log; empty where it gave none."""
        return self.metadata.get("correlation_id", "")


BY_CODE: Mapping[str, type[TowpathError]] = {
    error.code: error
    for error in (
        Unauthenticated,
        PermissionDenied,
        NotFound,
        InvalidArgument,
        FailedPrecondition,
        AlreadyExists,
        Aborted,
        ResourceExhausted,
        Unavailable,
        DeadlineExceeded,
        RequestCancelled,
        Unimplemented,
        InternalError,
    )
}


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


class WaitTimeout(TowpathError, TimeoutError):
    """The caller's own timeout is over; the job goes on."""
