"""What can go wrong with a call: one exception for each gRPC code. How jobs fail is in `job_errors`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


class TowpathError(Exception):
    """The base of them all; never raised itself.

    `reason` is the scheduler's word for the case (`JOB_NOT_FOUND`), `metadata` its facts; both are empty where the
    error did not come from a scheduler. `repeated`: an earlier try of the same call got no answer, and may have been
    carried out.
    """

    code = ""

    def __init__(self, message: str, *, reason: str = "", metadata: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason
        self.metadata = dict(metadata or {})
        self.retry_after: float | None = None
        self.repeated = False


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
    """The request_id was used before for another job; or it is DedupeConflict."""

    code = "ALREADY_EXISTS"


class DedupeConflict(AlreadyExists):
    """Another job that is not final has the dedupe_key; `job_id` names it."""

    @property
    def job_id(self) -> str:
        """The job that has the key."""
        return self.metadata.get("job_id", "")


class Aborted(TowpathError):
    """Somebody else changed it meanwhile: read it again and decide anew."""

    code = "ABORTED"


class ResourceExhausted(TowpathError):
    """A limit was reached; `retry_after` says in how many seconds to try again, None that trying again is no use."""

    code = "RESOURCE_EXHAUSTED"


class QuotaExceeded(ResourceExhausted):
    """The caller's tenant or user may have no more of something, or call no more often for now.

    `reason` is QUOTA_EXCEEDED, and room comes back only when jobs end or are deleted: it is raised at once; or it is
    RATE_EXCEEDED, and the same call went on being refused until the client's timeout.
    """


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
# Where the scheduler's reason says more than the code.
BY_REASON: Mapping[str, type[TowpathError]] = {
    "DEDUPE_CONFLICT": DedupeConflict,
    "QUOTA_EXCEEDED": QuotaExceeded,
    "RATE_EXCEEDED": QuotaExceeded,
}


class WaitTimeout(TowpathError, TimeoutError):
    """The caller's own timeout is over; the job goes on."""
