"""What the scheduler refuses. Each class's docstring is its message; `rpc/status.py` gives each its gRPC code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


class TowpathError(Exception):
    """Never raised itself."""

    reason: str = ""
    # When to try again (microseconds), where this one error knows better than its code.
    retry_after: int | None = None

    def __init__(self, **facts: object) -> None:
        self.facts: Mapping[str, str] = {name: str(value) for name, value in facts.items()}
        super().__init__((type(self).__doc__ or "").format(**facts))


class JobNotFound(TowpathError):
    """No job {job_id} here. Look with `towpath jobs list`."""

    reason = "JOB_NOT_FOUND"


class WorkerNotFound(TowpathError):
    """No worker {worker_id} here. Look with `towpath workers list --all`."""

    reason = "WORKER_NOT_FOUND"


class QueueNotFound(TowpathError):
    """No queue {queue} here. Look with `towpath queues list`; a queue is made by its first job."""

    reason = "QUEUE_NOT_FOUND"


class ModelNotFound(TowpathError):
    """No model {model} here. Look with `towpath models`."""

    reason = "MODEL_NOT_FOUND"


class TokenNotFound(TowpathError):
    """No token {token_id} here. Look with `towpath tokens list`."""

    reason = "TOKEN_NOT_FOUND"


class IllegalTransition(TowpathError):
    """Job {job_id} is {state}: it cannot be {verb}."""

    reason = "ILLEGAL_TRANSITION"


class LeaseSuperseded(TowpathError):
    """This lease of job {job_id} is over: drop the work."""

    reason = "LEASE_SUPERSEDED"


class NotFinal(TowpathError):
    """Job {job_id} is {state}: only a final job can be deleted. Cancel it first."""

    reason = "NOT_FINAL"


class Conflict(TowpathError):
    """{what} has changed since it was read. Read it again and decide anew."""

    reason = "STALE_ETAG"


class RequestIdReused(TowpathError):
    """request_id {request_id} was used before for another job. Use a new one for each job."""

    reason = "REQUEST_ID_REUSED"


class DedupeConflict(TowpathError):
    """Job {job_id} still has dedupe_key {dedupe_key}. Wait for it or cancel it, or choose another conflict policy."""

    reason = "DEDUPE_CONFLICT"


class LastAdmin(TowpathError):
    """Without token {token_id} nobody could make tokens any more. Make another one first: `towpath tokens create`."""

    reason = "LAST_ADMIN"


class SessionUnknown(TowpathError):
    """This worker's session is over. Register again."""

    reason = "SESSION_UNKNOWN"


class Unauthenticated(TowpathError):
    """No valid token. Send `authorization: Bearer TOKEN`; see `towpath tokens create`."""

    reason = "UNAUTHENTICATED"


class PermissionDenied(TowpathError):
    """This token's role may not call {method}."""

    reason = "PERMISSION_DENIED"


class Forbidden(TowpathError):
    """This token may not {what}."""

    reason = "FORBIDDEN"


@dataclass(frozen=True, slots=True)
class Violation:
    """One wrong field: its path, and what to do about it."""

    field: str
    description: str


class InvalidArgument(TowpathError):
    """{summary}"""

    reason = "INVALID_ARGUMENT"

    def __init__(self, violations: tuple[Violation, ...]) -> None:
        self.violations = violations
        super().__init__(summary="; ".join(f"{one.field}: {one.description}" for one in violations))


class Draining(TowpathError):
    """This scheduler is stopping. Try again in a moment."""

    reason = "DRAINING"


class StoreUnavailable(TowpathError):
    """The store does not answer. Nothing was changed; try again."""

    reason = "STORE_UNAVAILABLE"


class StoreFull(TowpathError):
    """The store's disk is full. Nothing was changed; free some space."""

    reason = "STORE_FULL"


class QuotaExceeded(TowpathError):
    """{who} may have at most {limit} {what}, and has {in_use} now. {advice}, or ask an admin for a larger quota."""

    reason = "QUOTA_EXCEEDED"


class RateExceeded(TowpathError):
    """{who} may make at most {limit} calls a minute. Try again in {seconds} s, or ask an admin for a larger quota."""

    reason = "RATE_EXCEEDED"


class QuotaNotFound(TowpathError):
    """No quota of {whom} here. Look with `towpath quotas list`."""

    reason = "QUOTA_NOT_FOUND"


class TooBusy(TowpathError):
    """More is asked than this scheduler takes at once: {what}. Try again in a moment."""

    reason = "TOO_BUSY"


class SlowConsumer(TowpathError):
    """This watch fell behind and was ended. Watch again from the last sequence seen."""

    reason = "SLOW_CONSUMER"
