"""Jobs and what belongs to them, as frozen values. Names and meaning are the contract's (`job.proto`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, cast

from google.protobuf import json_format

from towpath.enums import AttemptOutcome, FailureCause, JobState, LogStream, Priority
from towpath.records import Record
from towpath.results import from_job_result

if TYPE_CHECKING:
    from towpath.v1 import job_pb2


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress(Record):
    """How far an attempt is; `percent` is 0 to 100, None where it is not known."""

    percent: float | None
    phase: str
    message: str
    metrics: dict[str, float]
    eta: timedelta | None
    update_time: datetime | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure(Record):
    """Why an attempt, or a job, failed."""

    cause: FailureCause
    type: str
    message: str
    traceback: str
    retryable: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Attempt(Record):
    """One delivery of a job to a worker."""

    attempt: int
    worker_id: str
    lease_time: datetime | None
    start_time: datetime | None
    end_time: datetime | None
    outcome: AttemptOutcome
    failure: Failure | None


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """When a failed attempt is tried again. Backoffs in seconds; None takes the scheduler's default."""

    max_attempts: int = 3
    initial_backoff: float | None = None
    multiplier: float | None = None
    max_backoff: float | None = None
    jitter: float | None = None
    non_retryable_types: tuple[str, ...] = ()
    retry_timeouts: bool = False


@dataclass(frozen=True, slots=True)
class Requirements:
    """What a worker must have to run a job; memory in MiB."""

    cpu_count: int = 0
    memory_mb: int = 0
    gpu_count: int = 0
    gpu_memory_mb: int = 0
    worker_labels: Mapping[str, str] = field(default_factory=dict)
    worker_id: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Job(Record):
    """A job as it stood when the scheduler answered."""

    job_id: str
    tenant: str
    user: str
    workspace: str
    queue: str
    job_type: str
    priority: Priority
    labels: dict[str, str]
    annotations: dict[str, Any]
    create_time: datetime | None
    schedule_time: datetime | None
    queue_time: datetime | None
    lease_time: datetime | None
    start_time: datetime | None
    update_time: datetime | None
    end_time: datetime | None
    queue_timeout: timedelta | None
    execution_timeout: timedelta | None
    stall_timeout: timedelta | None
    total_timeout: timedelta | None
    cancel_grace: timedelta | None
    ttl: timedelta | None
    dedupe_key: str
    state: JobState
    state_reason: str
    progress: Progress | None
    failure: Failure | None
    attempt_count: int
    lost_count: int
    attempt: int
    worker_id: str
    etag: str

    @property
    def is_final(self) -> bool:
        """Whether it is over."""
        return self.state.is_final

    @property
    def spec(self) -> dict[str, Any]:
        """What it was asked to do, as JSON has it; empty where the scheduler left it out, as lists do."""
        kind = self._message.WhichOneof("spec")
        if kind is None:
            return {}
        return json_format.MessageToDict(getattr(self._message, kind), preserving_proto_field_name=True)

    @property
    def result(self) -> Any:
        """What `JobHandle.result` gives, where it is here already; None before, and in lists."""
        return from_job_result(self._message.result) if self._message.HasField("result") else None

    @property
    def run_time(self) -> timedelta | None:
        """How long the last attempt ran, once it is over."""
        return self.end_time - self.start_time if self.end_time and self.start_time else None

    @property
    def _message(self) -> job_pb2.Job:
        return cast("job_pb2.Job", self.proto)


@dataclass(frozen=True, kw_only=True, slots=True)
class JobEvent(Record):
    """A change of a job; `sequence` grows with each one."""

    sequence: int
    job: Job


@dataclass(frozen=True, kw_only=True, slots=True)
class LogChunk(Record):
    """A piece of what a handler wrote: whole lines, or the part of a long one; `offset` in bytes."""

    attempt: int
    offset: int
    text: str
    stream: LogStream
    log_time: datetime | None


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerFit(Record):
    """Whether a worker could run a job, and what stands against it."""

    worker_id: str
    name: str
    fits: bool
    reasons: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Explanation(Record):
    """Why a job does not run; `position` is its place in the queue from 1, 0 where it does not wait."""

    summary: str
    position: int
    workers: tuple[WorkerFit, ...]
