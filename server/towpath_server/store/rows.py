"""Jobs as rows, and back.

What no query looks at is JSON in pure ASCII, which survives NUL, NaN and lone surrogates. What the submitter wrote
about timeouts, retries and requirements is alike for many jobs, so its text is made and read once for all of them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import astuple
from functools import lru_cache
from types import MappingProxyType
from typing import Any

from towpath_server.core.job import (
    NO_LABELS,
    NO_METRICS,
    Definition,
    Failure,
    FailureCause,
    Job,
    JobState,
    Lease,
    Priority,
    Progress,
    Requirements,
    RetryPolicy,
    Timeouts,
)

Row = tuple[Any, ...]

JOB_COLUMNS = (
    *("job_id", "lane_id", "priority", "position", "state", "state_reason", "revision", "sequence"),
    *("update_time", "queue_time"),
    *("lease_time", "start_time", "end_time", "due_time", "kill_time", "stall_time"),
    *("attempt", "attempt_count", "lost_count", "lease_token", "lease_session", "lease_confirmed", "last_token"),
    *("worker_id", "progress", "failure", "result", "dedupe"),
)
DEFINITION_COLUMNS = (
    *("job_id", "tenant", "user", "workspace", "queue", "job_type", "concurrency_key", "request_id", "dedupe_key"),
    *("create_time", "schedule_time", "labels", "policy", "request_hash", "annotations", "spec"),
)

_STATES = {int(state): state for state in JobState}
PRIORITIES = {int(priority): priority for priority in Priority}

dumps = json.JSONEncoder(separators=(",", ":")).encode
loads = json.loads


def job_row(job: Job) -> Row:
    """A job without its definition, as JOB_COLUMNS."""
    lease = job.lease
    if lease is None:
        held: Row = (None, None, 0)
    else:
        if lease.worker_id != job.worker_id:
            raise ValueError(f"job {job.job_id} is leased by worker {lease.worker_id} but names {job.worker_id}")
        held = (lease.token, lease.session_id, int(lease.confirmed))
    return (
        *(job.job_id, job.lane_id, int(job.priority), job.position, int(job.state), job.state_reason, job.revision),
        *(job.sequence, job.update_time, job.queue_time, job.lease_time, job.start_time, job.end_time, job.due_time),
        *(job.kill_time, job.stall_time, job.attempt, job.attempt_count, job.lost_count),
        *held,
        *(job.last_token, job.worker_id, _progress_text(job.progress), failure_text(job.failure)),
        job.result,
        dedupe_text(job.definition) if job.definition.dedupe_key else None,
    )


def definition_row(job: Job) -> Row:
    """What the submitter of a job asked for, as DEFINITION_COLUMNS."""
    asked = job.definition
    return (
        *(job.job_id, asked.tenant, asked.user, asked.workspace, asked.queue, asked.job_type, asked.concurrency_key),
        *(asked.request_id, asked.dedupe_key, asked.create_time, asked.schedule_time),
        dumps(dict(asked.labels)) if asked.labels else None,
        _policy_text(asked.timeouts, asked.retry, asked.max_lost, asked.requirements),
        *(asked.request_hash, asked.annotations, asked.spec),
    )


def read_job(row: Sequence[Any]) -> Job:
    """The job of a row of JOB_COLUMNS without dedupe, followed by DEFINITION_COLUMNS without its job_id."""
    (
        job_id,
        lane_id,
        priority,
        position,
        state,
        state_reason,
        revision,
        sequence,
        update_time,
        queue_time,
        lease_time,
        start_time,
        end_time,
        due_time,
        kill_time,
        stall_time,
        attempt,
        attempt_count,
        lost_count,
        lease_token,
        lease_session,
        lease_confirmed,
        last_token,
        worker_id,
        progress,
        failure,
        result,
        *definition,
    ) = row
    return Job(
        job_id=job_id,
        definition=_read_definition(*definition),
        lane_id=lane_id,
        priority=PRIORITIES[priority],
        position=position,
        state=_STATES[state],
        state_reason=state_reason,
        revision=revision,
        sequence=sequence,
        update_time=update_time,
        queue_time=queue_time,
        lease_time=lease_time,
        start_time=start_time,
        end_time=end_time,
        due_time=due_time,
        kill_time=kill_time,
        stall_time=stall_time,
        attempt=attempt,
        attempt_count=attempt_count,
        lost_count=lost_count,
        lease=None if lease_token is None else Lease(lease_token, worker_id, lease_session, bool(lease_confirmed)),
        last_token=last_token,
        worker_id=worker_id,
        progress=None if progress is None else _read_progress(progress),
        result=result,
        failure=None if failure is None else read_failure(failure),
    )


def _read_definition(
    tenant: str,
    user: str,
    workspace: str,
    queue: str,
    job_type: str,
    concurrency_key: str,
    request_id: str,
    dedupe_key: str,
    create_time: int,
    schedule_time: int | None,
    labels: str | None,
    policy: str,
    request_hash: bytes,
    annotations: bytes,
    spec: bytes,
) -> Definition:
    timeouts, retry, max_lost, requirements = _read_policy(policy)
    return Definition(
        tenant=tenant,
        user=user,
        job_type=job_type,
        queue=queue,
        workspace=workspace,
        labels=NO_LABELS if labels is None else MappingProxyType(loads(labels)),
        annotations=annotations,
        spec=spec,
        timeouts=timeouts,
        retry=retry,
        max_lost=max_lost,
        requirements=requirements,
        request_id=request_id,
        request_hash=request_hash,
        create_time=create_time,
        schedule_time=schedule_time,
        concurrency_key=concurrency_key,
        dedupe_key=dedupe_key,
    )


def dedupe_text(asked: Definition) -> str:
    """Whose dedupe key it is, and the key: unique among the jobs that are not final."""
    return dumps((asked.tenant, asked.user, asked.dedupe_key))


@lru_cache(4096)
def _policy_text(timeouts: Timeouts, retry: RetryPolicy, max_lost: int, requirements: Requirements) -> str:
    return dumps((astuple(timeouts), astuple(retry), max_lost, astuple(requirements)))


@lru_cache(4096)
def _read_policy(text: str) -> tuple[Timeouts, RetryPolicy, int, Requirements]:
    timeouts, retry, max_lost, requirements = loads(text)
    max_attempts, initial_backoff, multiplier, max_backoff, jitter, types, retry_timeouts = retry
    return (
        Timeouts(*timeouts),
        RetryPolicy(max_attempts, initial_backoff, multiplier, max_backoff, jitter, tuple(types), retry_timeouts),
        max_lost,
        read_requirements(requirements),
    )


def read_requirements(fields: list[Any]) -> Requirements:
    """The requirements of a list of their fields."""
    cpu_count, memory_mb, gpu_count, gpu_memory_mb, worker_labels, worker_id, model_id = fields
    labels = tuple((name, value) for name, value in worker_labels)
    return Requirements(cpu_count, memory_mb, gpu_count, gpu_memory_mb, labels, worker_id, model_id)


def _progress_text(progress: Progress | None) -> str | None:
    if progress is None:
        return None
    metrics = dict(progress.metrics)
    return dumps((progress.percent, progress.phase, progress.message, metrics, progress.eta, progress.update_time))


def _read_progress(text: str) -> Progress:
    percent, phase, message, metrics, eta, update_time = loads(text)
    shown = MappingProxyType(metrics) if metrics else NO_METRICS
    return Progress(percent, phase, message, shown, eta, update_time)


def failure_text(failure: Failure | None) -> str | None:
    """A failure as text."""
    if failure is None:
        return None
    return dumps((int(failure.cause), failure.type, failure.message, failure.traceback, failure.retryable))


def read_failure(text: str) -> Failure:
    """The failure of a text."""
    cause, *rest = loads(text)
    return Failure(FailureCause(cause), *rest)
