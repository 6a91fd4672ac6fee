"""What a job is: frozen values, no behaviour.

Times are integer microseconds since the epoch (UTC); durations are integer microseconds. `None` is "not set".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from types import MappingProxyType

SECOND = 1_000_000
DAY = 86_400 * SECOND

NO_LABELS: Mapping[str, str] = MappingProxyType({})
NO_METRICS: Mapping[str, float] = MappingProxyType({})


class JobState(IntEnum):
    """Where a job stands. The numbers are those of `towpath.v1.JobState`."""

    SCHEDULED = 1
    QUEUED = 3
    LEASED = 4
    RUNNING = 5
    PAUSED = 6
    CANCELLING = 7
    SUCCEEDED = 8
    FAILED = 9
    CANCELLED = 10
    TIMED_OUT = 11

    # Looked up in tables for every job: Enum's own hash is a Python function.
    __hash__ = int.__hash__

    @property
    def is_final(self) -> bool:
        return self >= JobState.SUCCEEDED


class Priority(IntEnum):
    """Which of the waiting jobs goes first. The numbers are those of `towpath.v1.Priority`."""

    LOW = 1
    NORMAL = 2
    HIGH = 3
    CRITICAL = 4


class ConflictPolicy(IntEnum):
    """What becomes of a new job whose dedupe key another one has. The numbers are those of
    `towpath.v1.ConflictPolicy`."""

    REJECT = 1
    RETURN_EXISTING = 2
    REPLACE = 3


class FailureCause(IntEnum):
    """Why an attempt, or a job, failed. The numbers are those of `towpath.v1.FailureCause`."""

    HANDLER = 1
    INVALID_INPUT = 2
    PROCESS_DIED = 3
    WORKER_LOST = 4
    TIMEOUT = 5


class AttemptOutcome(IntEnum):
    """What became of one delivery. The numbers are those of `towpath.v1.AttemptOutcome`."""

    SUCCEEDED = 1
    FAILED = 2
    LOST = 3
    TIMED_OUT = 4
    CANCELLED = 5
    RELEASED = 6


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long each part of a job's life may last (microseconds)."""

    queue: int | None = None
    execution: int = 300 * SECOND
    stall: int | None = None
    total: int | None = None
    cancel_grace: int = 30 * SECOND
    ttl: int = 7 * DAY


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """When a failed attempt is tried again (backoffs in microseconds, jitter 0 to 1)."""

    max_attempts: int = 1
    initial_backoff: int = 1 * SECOND
    multiplier: float = 2.0
    max_backoff: int = 300 * SECOND
    jitter: float = 1.0
    non_retryable_types: tuple[str, ...] = ()
    retry_timeouts: bool = False


@dataclass(frozen=True, slots=True)
class Requirements:
    """What a worker must have. Hashable: it is part of a lane's key."""

    cpu_count: int = 0
    memory_mb: int = 0
    gpu_count: int = 0
    gpu_memory_mb: int = 0
    worker_labels: tuple[tuple[str, str], ...] = ()
    worker_id: int | None = None
    model_id: int | None = None


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an attempt is (percent 0 to 100, eta in microseconds)."""

    percent: float | None = None
    phase: str = ""
    message: str = ""
    metrics: Mapping[str, float] = field(default_factory=lambda: NO_METRICS)
    eta: int | None = None
    update_time: int = 0


@dataclass(frozen=True, slots=True)
class Failure:
    """What went wrong."""

    cause: FailureCause
    type: str
    message: str
    traceback: str = ""
    retryable: bool = True


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to run one attempt. `confirmed`: the worker has mentioned it since it was offered."""

    token: str
    worker_id: int
    session_id: str
    confirmed: bool = False


@dataclass(frozen=True, slots=True)
class Attempt:
    """One delivery of a job to a worker, told once it is over."""

    job_id: int
    number: int
    worker_id: int
    lease_time: int
    start_time: int | None
    end_time: int | None
    outcome: AttemptOutcome | None
    failure: Failure | None = None


# Without slots, as Job: `evolve` copies the fields of these as one dict.
@dataclass(frozen=True, kw_only=True)
class Definition:
    """What the submitter asked for. `spec` and `annotations` are opaque bytes to everything but `rpc`."""

    tenant: str
    user: str
    job_type: str
    queue: str = "default"
    workspace: str = ""
    labels: Mapping[str, str] = field(default_factory=lambda: NO_LABELS)
    annotations: bytes = b""
    spec: bytes = b""
    timeouts: Timeouts = Timeouts()
    retry: RetryPolicy = RetryPolicy()
    max_lost: int = 3
    requirements: Requirements = Requirements()
    request_id: str = ""
    request_hash: bytes = b""
    create_time: int = 0
    schedule_time: int | None = None
    concurrency_key: str = ""
    dedupe_key: str = ""


@dataclass(frozen=True, kw_only=True)
class Job:
    """A job as it stands.

    `position` orders the jobs of a lane inside one priority: the smaller goes first. It is the job_id until the job is
    retried by hand; its moment is where total_timeout begins. `queue_time` is when the job entered its queue or, while
    it is SCHEDULED, when it will. `last_token` is the token of the
    latest lease, kept when the lease is over so that a late result can prove itself. `worker_id` is the worker that
    holds the job or held it last. `kill_time` is when a CANCELLING job is forced. `stall_time` is when the attempt was
    last heard to come further. `revision` grows by one with each change; `sequence` is
    greater than that of every change of any job that was stored before.
    """

    job_id: int
    definition: Definition = field(repr=False)
    lane_id: int
    priority: Priority
    position: int
    state: JobState
    state_reason: str = ""
    revision: int = 1
    sequence: int = 0
    update_time: int
    queue_time: int | None = None
    lease_time: int | None = None
    start_time: int | None = None
    end_time: int | None = None
    due_time: int | None = None
    kill_time: int | None = None
    stall_time: int | None = None
    attempt: int = 0
    attempt_count: int = 0
    lost_count: int = 0
    lease: Lease | None = None
    last_token: str = ""
    worker_id: int | None = None
    progress: Progress | None = None
    result: bytes | None = field(default=None, repr=False)
    failure: Failure | None = None


# What new jobs are made from: to copy it is quicker than to set thirty fields.
UNBORN = Job(
    job_id=0,
    definition=Definition(tenant="", user="", job_type=""),
    lane_id=0,
    priority=Priority.NORMAL,
    position=0,
    state=JobState.QUEUED,
    update_time=0,
)
