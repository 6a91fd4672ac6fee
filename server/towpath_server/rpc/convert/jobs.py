"""Jobs as they stand, to protobuf."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

from google.protobuf import struct_pb2

from towpath.v1 import job_pb2, job_service_pb2
from towpath_server.core.job import Attempt, Failure, Job, JobState, Progress, Requirements, RetryPolicy
from towpath_server.rpc.convert import ids
from towpath_server.rpc.convert.times import duration, timestamp
from towpath_server.scheduler.messages import Explanation, Stats, Told

BASIC = job_pb2.JOB_VIEW_BASIC
FULL = job_pb2.JOB_VIEW_FULL

# What one message may carry, less room for what stands around a job.
MAX_JOB_BYTES = 4 * 1024 * 1024 - 64 * 1024
MAX_EVENTS_BYTES = 1024 * 1024


def job_to_proto(job: Job, view: job_pb2.JobView.ValueType = FULL) -> job_pb2.Job:
    """A job; BASIC is without spec and result. A spec that does not fit one message beside its result is left out."""
    message = _plain(job)
    if view != BASIC:
        if job.result is not None:
            message.result.MergeFromString(job.result)
        if message.ByteSize() + len(job.definition.spec) <= MAX_JOB_BYTES:
            _add_spec(message, job)
    return message


def watched_job_to_proto(job: Job) -> job_pb2.Job:
    """A job as WatchJob tells it: spec and result only once it is final."""
    return job_to_proto(job, FULL if job.state.is_final else BASIC)


def events_to_proto(told: Told) -> Iterator[job_service_pb2.WatchJobsResponse]:
    """The jobs as WatchJobs tells them, in messages of a bearable size; an empty one where there are none.

    Each but the last has the sequence of its own last job: those that were changed since come in the next ones.
    """
    message, size = job_service_pb2.WatchJobsResponse(), 0
    for job in told.jobs:
        event = job_service_pb2.JobEvent(sequence=job.revision, job=job_to_proto(job, BASIC))
        size += event.ByteSize()
        if size > MAX_EVENTS_BYTES and message.events:
            yield message
            message, size = job_service_pb2.WatchJobsResponse(), event.ByteSize()
        message.events.append(event)
        message.sequence = job.sequence
    message.sequence = told.sequence
    yield message


def attempt_to_proto(attempt: Attempt) -> job_pb2.Attempt:
    """One delivery."""
    return job_pb2.Attempt(
        attempt=attempt.number,
        worker_id=ids.show(ids.WORKER, attempt.worker_id),
        lease_time=timestamp(attempt.lease_time),
        start_time=timestamp(attempt.start_time),
        end_time=timestamp(attempt.end_time),
        outcome=job_pb2.AttemptOutcome.ValueType(attempt.outcome or 0),
        failure=_failure(attempt.failure),
    )


def explanation_to_proto(explanation: Explanation) -> job_service_pb2.ExplainJobResponse:
    """Why a job does not run."""
    return job_service_pb2.ExplainJobResponse(
        summary=explanation.summary,
        position=explanation.position,
        workers=[
            job_service_pb2.WorkerFit(
                worker_id=ids.show(ids.WORKER, fit.worker.worker_id),
                name=fit.worker.name,
                fits=not fit.reasons,
                reasons=fit.reasons,
            )
            for fit in explanation.workers
        ],
    )


def state_counts(stats: Stats) -> list[job_service_pb2.JobStateCount]:
    """How many jobs stand in which state, without the states that have none."""
    return [
        job_service_pb2.JobStateCount(state=job_pb2.JobState.ValueType(state), count=count)
        for state, count in sorted(stats.counts.items())
        if count
    ]


def _plain(job: Job) -> job_pb2.Job:
    definition, limits = job.definition, job.definition.timeouts
    waits = job.state is JobState.SCHEDULED
    return job_pb2.Job(
        job_id=ids.show(ids.JOB, job.job_id),
        tenant=definition.tenant,
        user=definition.user,
        workspace=definition.workspace,
        queue=definition.queue,
        job_type=definition.job_type,
        priority=job_pb2.Priority.ValueType(job.priority),
        labels=definition.labels,
        annotations=struct_pb2.Struct.FromString(definition.annotations) if definition.annotations else None,
        create_time=timestamp(definition.create_time),
        schedule_time=timestamp(job.queue_time if waits else definition.schedule_time),
        queue_time=None if waits else timestamp(job.queue_time),
        lease_time=timestamp(job.lease_time),
        start_time=timestamp(job.start_time),
        update_time=timestamp(job.update_time),
        end_time=timestamp(job.end_time),
        queue_timeout=duration(limits.queue),
        execution_timeout=duration(limits.execution),
        stall_timeout=duration(limits.stall),
        total_timeout=duration(limits.total),
        cancel_grace=duration(limits.cancel_grace),
        ttl=duration(limits.ttl),
        retry_policy=_retry_policy(definition.retry),
        max_lost=definition.max_lost,
        requirements=_requirements(definition.requirements),
        dedupe_key=definition.dedupe_key,
        state=job_pb2.JobState.ValueType(job.state),
        state_reason=job.state_reason,
        progress=_progress(job.progress),
        failure=_failure(job.failure),
        attempt_count=job.attempt_count,
        lost_count=job.lost_count,
        attempt=job.attempt,
        worker_id=ids.show(ids.WORKER, job.worker_id),
        etag=str(job.revision),
    )


def _add_spec(message: job_pb2.Job, job: Job) -> None:
    message.MergeFromString(job.definition.spec)
    model_id = job.definition.requirements.model_id
    if model_id is not None and message.WhichOneof("spec") == "predict":
        message.predict.model_id = ids.show(ids.MODEL, model_id)


# Alike in most jobs. What these give is copied into the job that it is put into, never changed.
@lru_cache(maxsize=1024)
def _retry_policy(policy: RetryPolicy) -> job_pb2.RetryPolicy:
    return job_pb2.RetryPolicy(
        max_attempts=policy.max_attempts,
        initial_backoff=duration(policy.initial_backoff),
        multiplier=policy.multiplier,
        max_backoff=duration(policy.max_backoff),
        jitter=policy.jitter,
        non_retryable_types=policy.non_retryable_types,
        retry_timeouts=policy.retry_timeouts,
    )


@lru_cache(maxsize=1024)
def _requirements(requirements: Requirements) -> job_pb2.Requirements | None:
    message = job_pb2.Requirements(
        cpu_count=requirements.cpu_count,
        memory_mb=requirements.memory_mb,
        gpu_count=requirements.gpu_count,
        gpu_memory_mb=requirements.gpu_memory_mb,
        worker_labels=dict(requirements.worker_labels),
        worker_id=ids.show(ids.WORKER, requirements.worker_id),
    )
    return message if message.ByteSize() else None


def _progress(progress: Progress | None) -> job_pb2.Progress | None:
    if progress is None:
        return None
    return job_pb2.Progress(
        percent=progress.percent,
        phase=progress.phase,
        message=progress.message,
        metrics=progress.metrics,
        eta=duration(progress.eta),
        update_time=timestamp(progress.update_time or None),
    )


def _failure(failure: Failure | None) -> job_pb2.Failure | None:
    if failure is None:
        return None
    return job_pb2.Failure(
        cause=job_pb2.FailureCause.ValueType(failure.cause),
        type=failure.type,
        message=failure.message,
        traceback=failure.traceback,
        retryable=failure.retryable,
    )
