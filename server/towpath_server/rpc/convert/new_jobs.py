"""Jobs as submitters ask for them, from protobuf. `checks` and `rules` have seen the messages before."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Container, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, TypeVar

from google.protobuf import duration_pb2

from towpath.v1 import job_pb2, job_service_pb2
from towpath_server.core.evolve import evolve
from towpath_server.core.job import (
    NO_LABELS,
    ConflictPolicy,
    Definition,
    JobState,
    Priority,
    Requirements,
    RetryPolicy,
    Timeouts,
)
from towpath_server.rpc.convert import ids
from towpath_server.rpc.convert.times import SECOND, length, moment
from towpath_server.scheduler.messages import JobFilter, NewJob

TRAIN_EXECUTION_TIMEOUT = 600 * SECOND
BUILT_IN_TYPES = frozenset({"train", "predict", "list_models"})

T = TypeVar("T", Timeouts, RetryPolicy, Requirements)
Change = Callable[[Definition, Priority], tuple[Definition, Priority]]

_TIMEOUTS, _RETRY, _REQUIREMENTS = Timeouts(), RetryPolicy(), Requirements()
_TRAIN_TIMEOUTS = Timeouts(execution=TRAIN_EXECUTION_TIMEOUT)

_LIMITS = {
    "queue_timeout": "queue",
    "execution_timeout": "execution",
    "stall_timeout": "stall",
    "total_timeout": "total",
    "cancel_grace": "cancel_grace",
    "ttl": "ttl",
}
CHANGEABLE = frozenset({"priority", "labels", "annotations", *_LIMITS})


def new_job(request: job_service_pb2.CreateJobRequest) -> NewJob:
    """The job that a request asks for, with the contract's defaults filled in."""
    job = request.job
    # Most jobs set little: to ask for each of thirty fields would cost more than all the rest.
    given = {field.name: value for field, value in job.ListFields()}
    kind = job.WhichOneof("spec")
    job_type = job.custom.type if kind == "custom" else kind or ""
    whole = job.SerializeToString(deterministic=True)
    definition = evolve(
        _plain(job_type),
        request_id=request.request_id,
        request_hash=hashlib.sha256(whole).digest(),
        spec=whole,
    )
    if len(given) == 1 and kind == "custom":
        return NewJob(definition)
    definition = evolve(
        definition,
        queue=given.get("queue", definition.queue),
        workspace=given.get("workspace", ""),
        labels=dict(job.labels) if "labels" in given else NO_LABELS,
        annotations=job.annotations.SerializeToString(deterministic=True) if "annotations" in given else b"",
        spec=_spec(job, kind),
        timeouts=_timeouts(job, job_type, given),
        retry=_retry_policy(job.retry_policy) if "retry_policy" in given else definition.retry,
        max_lost=given.get("max_lost", definition.max_lost),
        requirements=_requirements(job.requirements) if "requirements" in given else definition.requirements,
        schedule_time=moment(job.schedule_time) if "schedule_time" in given else None,
        dedupe_key=given.get("dedupe_key", ""),
    )
    return NewJob(
        definition,
        _priority(job.priority),
        model=job.predict.model_id or job.predict.model_name if kind == "predict" else "",
        on_conflict=ConflictPolicy(given.get("conflict_policy", ConflictPolicy.REJECT)),
    )


def _same(value: T) -> T:
    """Of equal ones always the same object: what is made of it is found by it."""
    same: T = _first(value)
    return same


@lru_cache(maxsize=1024)
def _first(value: object) -> Any:
    return value


@lru_cache(maxsize=256)
def _plain(job_type: str) -> Definition:
    """What is asked for by who sets nothing else. The parts are the same objects for all such jobs."""
    timeouts = _TRAIN_TIMEOUTS if job_type == "train" else _TIMEOUTS
    return Definition(
        tenant="", user="", job_type=job_type, timeouts=timeouts, retry=_RETRY, requirements=_REQUIREMENTS
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
        asked = _timeouts(job, definition.job_type, {field.name for field, _ in job.ListFields()})
        timeouts: dict[str, Any] = {_LIMITS[path]: getattr(asked, _LIMITS[path]) for path in paths if path in _LIMITS}
        fields: dict[str, Any] = {"timeouts": replace(definition.timeouts, **timeouts)}
        if "labels" in paths:
            fields["labels"] = dict(job.labels)
        if "annotations" in paths:
            fields["annotations"] = job.annotations.SerializeToString(deterministic=True)
        return replace(definition, **fields), _priority(job.priority) if "priority" in paths else priority

    return changed


def _spec(job: job_pb2.Job, kind: str | None) -> bytes:
    only = job_pb2.Job(**{kind: getattr(job, kind)}) if kind else job_pb2.Job()
    return only.SerializeToString(deterministic=True)


def _timeouts(job: job_pb2.Job, job_type: str, given: Container[str]) -> Timeouts:
    default = _plain(job_type).timeouts
    fields = {name: _given(getattr(job, path)) for path, name in _LIMITS.items() if path in given}
    if "cancel_grace" in given:
        # The one that may be nothing at all.
        fields["cancel_grace"] = length(job.cancel_grace)
    return _same(replace(default, **fields)) if fields else default


def _given(timeout: duration_pb2.Duration) -> int:
    # What is below a microsecond must not become no time at all.
    return max(length(timeout), 1)


def _priority(priority: job_pb2.Priority.ValueType) -> Priority:
    return Priority(priority) if priority else Priority.NORMAL


def _retry_policy(policy: job_pb2.RetryPolicy) -> RetryPolicy:
    default = RetryPolicy()
    return _same(
        RetryPolicy(
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
    )


def _requirements(message: job_pb2.Requirements) -> Requirements:
    return _same(
        Requirements(
            cpu_count=message.cpu_count,
            memory_mb=message.memory_mb,
            gpu_count=message.gpu_count,
            gpu_memory_mb=message.gpu_memory_mb,
            worker_labels=tuple(sorted(message.worker_labels.items())),
            worker_id=ids.read(ids.WORKER, message.worker_id) if message.worker_id else None,
        )
    )
