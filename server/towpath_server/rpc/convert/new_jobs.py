"""Jobs as submitters ask for them, from protobuf. `checks` and `rules` have seen the messages before."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from google.protobuf import duration_pb2

from towpath.v1 import job_pb2, job_service_pb2
from towpath_server.core.job import ConflictPolicy, Definition, JobState, Priority, Requirements, RetryPolicy, Timeouts
from towpath_server.rpc.convert import ids
from towpath_server.rpc.convert.times import SECOND, length, moment
from towpath_server.scheduler.messages import JobFilter, NewJob

TRAIN_EXECUTION_TIMEOUT = 600 * SECOND
BUILT_IN_TYPES = frozenset({"train", "predict", "list_models"})

Change = Callable[[Definition, Priority], tuple[Definition, Priority]]

_TIMEOUTS = {
    "queue_timeout": "queue",
    "execution_timeout": "execution",
    "stall_timeout": "stall",
    "total_timeout": "total",
    "cancel_grace": "cancel_grace",
    "ttl": "ttl",
}
CHANGEABLE = frozenset({"priority", "labels", "annotations", *_TIMEOUTS})


def new_job(request: job_service_pb2.CreateJobRequest) -> NewJob:
    """The job that a request asks for, with the contract's defaults filled in."""
    job = request.job
    job_type = _job_type(job)
    definition = Definition(
        tenant="",
        user="",
        job_type=job_type,
        queue=job.queue or "default",
        workspace=job.workspace,
        labels=dict(job.labels),
        annotations=job.annotations.SerializeToString(deterministic=True),
        spec=_spec(job),
        timeouts=_timeouts(job, job_type),
        retry=_retry_policy(job.retry_policy),
        max_lost=job.max_lost if job.HasField("max_lost") else 3,
        requirements=_requirements(job.requirements),
        request_id=request.request_id,
        request_hash=hashlib.sha256(job.SerializeToString(deterministic=True)).digest(),
        schedule_time=moment(job.schedule_time) if job.HasField("schedule_time") else None,
        dedupe_key=job.dedupe_key,
    )
    return NewJob(
        definition,
        _priority(job.priority),
        model=job.predict.model_id or job.predict.model_name,
        on_conflict=ConflictPolicy(job.conflict_policy or ConflictPolicy.REJECT),
    )


def job_filter(message: job_service_pb2.JobFilter) -> JobFilter:
    """Which jobs."""
    return JobFilter(
        states=tuple(JobState(state) for state in dict.fromkeys(message.states) if state),
        queue=message.queue or None,
        job_type=message.job_type or None,
        user=message.user or None,
        workspace=message.workspace or None,
        labels=dict(message.labels),
        worker_id=ids.read(ids.WORKER, message.worker_id) if message.worker_id else None,
    )


def is_etag(text: str) -> bool:
    """Whether this is an etag, or empty."""
    return not text or (text.isascii() and text.isdigit() and len(text) <= 18)


def revision(etag: str) -> int | None:
    """The revision that an etag tells; None for the empty one."""
    return int(etag) if etag else None


def change(job: job_pb2.Job, paths: Sequence[str]) -> Change:
    """What an update makes of a job: each path takes the message's value, or the default where that is unset."""

    def changed(definition: Definition, priority: Priority) -> tuple[Definition, Priority]:
        asked = _timeouts(job, definition.job_type)
        timeouts: dict[str, Any] = {
            _TIMEOUTS[path]: getattr(asked, _TIMEOUTS[path]) for path in paths if path in _TIMEOUTS
        }
        fields: dict[str, Any] = {"timeouts": replace(definition.timeouts, **timeouts)}
        if "labels" in paths:
            fields["labels"] = dict(job.labels)
        if "annotations" in paths:
            fields["annotations"] = job.annotations.SerializeToString(deterministic=True)
        return replace(definition, **fields), _priority(job.priority) if "priority" in paths else priority

    return changed


def _job_type(job: job_pb2.Job) -> str:
    kind = job.WhichOneof("spec")
    return job.custom.type if kind == "custom" else kind or ""


def _spec(job: job_pb2.Job) -> bytes:
    only = job_pb2.Job()
    match job.WhichOneof("spec"):
        case "train":
            only.train.CopyFrom(job.train)
        case "predict":
            only.predict.CopyFrom(job.predict)
        case "list_models":
            only.list_models.CopyFrom(job.list_models)
        case "custom":
            only.custom.CopyFrom(job.custom)
    return only.SerializeToString(deterministic=True)


def _timeouts(job: job_pb2.Job, job_type: str) -> Timeouts:
    default = Timeouts()
    execution = TRAIN_EXECUTION_TIMEOUT if job_type == "train" else default.execution
    return Timeouts(
        queue=_given(job.queue_timeout) if job.HasField("queue_timeout") else None,
        execution=_given(job.execution_timeout) if job.HasField("execution_timeout") else execution,
        stall=_given(job.stall_timeout) if job.HasField("stall_timeout") else None,
        total=_given(job.total_timeout) if job.HasField("total_timeout") else None,
        cancel_grace=length(job.cancel_grace) if job.HasField("cancel_grace") else default.cancel_grace,
        ttl=_given(job.ttl) if job.HasField("ttl") else default.ttl,
    )


def _given(timeout: duration_pb2.Duration) -> int:
    # What is below a microsecond must not become no time at all.
    return max(length(timeout), 1)


def _priority(priority: job_pb2.Priority.ValueType) -> Priority:
    return Priority(priority) if priority else Priority.NORMAL


def _retry_policy(policy: job_pb2.RetryPolicy) -> RetryPolicy:
    default = RetryPolicy()
    return RetryPolicy(
        max_attempts=policy.max_attempts or default.max_attempts,
        initial_backoff=length(policy.initial_backoff)
        if policy.HasField("initial_backoff")
        else default.initial_backoff,
        multiplier=policy.multiplier or default.multiplier,
        max_backoff=length(policy.max_backoff) if policy.HasField("max_backoff") else default.max_backoff,
        jitter=policy.jitter if policy.HasField("jitter") else default.jitter,
        non_retryable_types=tuple(policy.non_retryable_types),
        retry_timeouts=policy.retry_timeouts,
    )


def _requirements(message: job_pb2.Requirements) -> Requirements:
    return Requirements(
        cpu_count=message.cpu_count,
        memory_mb=message.memory_mb,
        gpu_count=message.gpu_count,
        gpu_memory_mb=message.gpu_memory_mb,
        worker_labels=tuple(sorted(message.worker_labels.items())),
        worker_id=ids.read(ids.WORKER, message.worker_id) if message.worker_id else None,
    )
