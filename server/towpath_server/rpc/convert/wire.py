"""Jobs as the bytes of `towpath.v1.Job`, put together from pieces that many jobs share.

Each job is told about five times in its life, and to set thirty fields of a message one by one was the largest cost of
a job. What serialized messages have in common is that one after the other is a message too: so what does not change is
serialized once, and what changes is appended. `tests/rpc/test_wire.py` holds it against the plain way.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from google.protobuf import struct_pb2

from towpath.v1 import job_pb2
from towpath_server.core.job import (
    Definition,
    Failure,
    Job,
    JobState,
    Priority,
    Progress,
    Requirements,
    RetryPolicy,
    Timeouts,
)
from towpath_server.rpc.convert import ids
from towpath_server.rpc.convert.times import duration, timestamp

VARINT, LENGTH_DELIMITED = 0, 2
_FIELDS = job_pb2.Job.DESCRIPTOR.fields_by_name
# A frame stays as long as it is used, and with it the objects that are its key.
MOST_FRAMES = 1024


def varint(number: int) -> bytes:
    """A number of 0 or more as protobuf writes it."""
    if number < 128:
        return _SMALL[number]
    written = bytearray()
    while number > 127:
        written.append(number & 127 | 128)
        number >>= 7
    written.append(number)
    return bytes(written)


_SMALL = [bytes([number]) for number in range(128)]


def tag(field: int, wire_type: int = LENGTH_DELIMITED) -> bytes:
    """What stands before a field's value."""
    return varint(field << 3 | wire_type)


def nested(before: bytes, body: bytes) -> bytes:
    """A message, or a text, inside another one; `before` is its tag."""
    return before + varint(len(body)) + body


def repeated(before: bytes, bodies: Iterable[bytes]) -> bytes:
    """Many messages of one tag."""
    return b"".join([nested(before, body) for body in bodies])


def job_bytes(job: Job) -> bytes:
    """The job without its spec and result."""
    definition = job.definition
    waits = job.state is JobState.SCHEDULED
    pieces = [
        _JOB_ID,
        ids.show(ids.JOB, job.job_id).encode(),
        _frame(definition),
        _standing(
            *(job.priority, job.state, job.revision, job.attempt_count, job.lost_count, job.attempt, job.worker_id)
        ),
        _times(
            definition.create_time,
            job.queue_time if waits else definition.schedule_time,
            None if waits else job.queue_time,
            *(job.lease_time, job.start_time, job.update_time, job.end_time),
        ),
    ]
    if definition.labels or definition.annotations or definition.dedupe_key:
        pieces.append(_own(definition))
    if job.state_reason or job.progress is not None or job.failure is not None:
        pieces.append(_told(job))
    return b"".join(pieces)


def result_bytes(job: Job) -> bytes:
    """The field `result`; empty where there is none."""
    return nested(_RESULT, job.result) if job.result is not None else b""


def spec_bytes(job: Job) -> bytes:
    """The field `spec`, with the id of the model that a predict was given."""
    definition = job.definition
    # It may have been left out: an id alone would look like all of it.
    if not definition.spec or definition.requirements.model_id is None or definition.job_type != "predict":
        return definition.spec
    spec = job_pb2.Job.FromString(definition.spec)
    spec.predict.model_id = ids.show(ids.MODEL, definition.requirements.model_id)
    return spec.SerializeToString()


def _tag_of(name: str) -> bytes:
    return tag(_FIELDS[name].number)


_JOB_ID = _tag_of("job_id") + varint(len(ids.show(ids.JOB, 1)))
_RESULT = _tag_of("result")

_frames: dict[tuple[object, ...], tuple[bytes, tuple[object, ...]]] = {}


def _frame(definition: Definition) -> bytes:
    """What is alike in most jobs of a user: found by the objects themselves, which costs less than to compare them."""
    key = (
        *(definition.tenant, definition.user, definition.workspace, definition.queue, definition.job_type),
        *(id(definition.timeouts), id(definition.retry), definition.max_lost, id(definition.requirements)),
    )
    known = _frames.get(key)
    if known is None:
        if len(_frames) >= MOST_FRAMES:
            _frames.clear()
        # As long as these live, no other object has their ids.
        parts = (definition.timeouts, definition.retry, definition.requirements)
        known = _frames[key] = (_new_frame(definition), parts)
    return known[0]


def _new_frame(definition: Definition) -> bytes:
    limits: Timeouts = definition.timeouts
    return job_pb2.Job(
        tenant=definition.tenant,
        user=definition.user,
        workspace=definition.workspace,
        queue=definition.queue,
        job_type=definition.job_type,
        queue_timeout=duration(limits.queue),
        execution_timeout=duration(limits.execution),
        stall_timeout=duration(limits.stall),
        total_timeout=duration(limits.total),
        cancel_grace=duration(limits.cancel_grace),
        ttl=duration(limits.ttl),
        retry_policy=_retry_policy(definition.retry),
        max_lost=definition.max_lost,
        requirements=_requirements(definition.requirements),
    ).SerializeToString()


def _own(definition: Definition) -> bytes:
    return job_pb2.Job(
        labels=definition.labels,
        annotations=struct_pb2.Struct.FromString(definition.annotations) if definition.annotations else None,
        dedupe_key=definition.dedupe_key,
    ).SerializeToString()


# Jobs of one call move together: of a batch, all but the first are found here.
@lru_cache(maxsize=4096)
def _standing(
    priority: Priority,
    state: JobState,
    revision: int,
    attempt_count: int,
    lost_count: int,
    attempt: int,
    worker_id: int | None,
) -> bytes:
    return job_pb2.Job(
        priority=job_pb2.Priority.ValueType(priority),
        state=job_pb2.JobState.ValueType(state),
        etag=str(revision),
        attempt_count=attempt_count,
        lost_count=lost_count,
        attempt=attempt,
        worker_id=ids.show(ids.WORKER, worker_id),
    ).SerializeToString()


# A commit gives all its jobs one moment.
@lru_cache(maxsize=4096)
def _times(
    create: int,
    schedule: int | None,
    queue: int | None,
    lease: int | None,
    start: int | None,
    update: int,
    end: int | None,
) -> bytes:
    return job_pb2.Job(
        create_time=timestamp(create),
        schedule_time=timestamp(schedule),
        queue_time=timestamp(queue),
        lease_time=timestamp(lease),
        start_time=timestamp(start),
        update_time=timestamp(update),
        end_time=timestamp(end),
    ).SerializeToString()


def _told(job: Job) -> bytes:
    return job_pb2.Job(
        state_reason=job.state_reason, progress=_progress(job.progress), failure=failure_to_proto(job.failure)
    ).SerializeToString()


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


def failure_to_proto(failure: Failure | None) -> job_pb2.Failure | None:
    """What went wrong."""
    if failure is None:
        return None
    return job_pb2.Failure(
        cause=job_pb2.FailureCause.ValueType(failure.cause),
        type=failure.type,
        message=failure.message,
        traceback=failure.traceback,
        retryable=failure.retryable,
    )
