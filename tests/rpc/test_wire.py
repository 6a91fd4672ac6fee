"""Jobs put together from pieces, against a message whose fields are set one by one."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace

from google.protobuf import struct_pb2
from hypothesis import given
from hypothesis import strategies as st

from towpath.v1 import job_pb2
from towpath_server.core.job import (
    Definition,
    Failure,
    FailureCause,
    Job,
    JobState,
    Priority,
    Progress,
    Requirements,
    RetryPolicy,
    Timeouts,
)
from towpath_server.rpc.convert import ids, times, wire
from towpath_server.rpc.convert.times import duration, timestamp

MOMENTS = st.integers(0, times.LATEST)
LENGTHS = st.integers(0, 10**15)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)
SMALL = st.integers(0, 2**31 - 1)
IDS = st.integers(1, 2**63 - 1)
STRUCTS = st.dictionaries(st.text("ab", max_size=3), st.floats(0, 1), max_size=3)
DEFINITIONS = st.builds(
    Definition,
    tenant=TEXTS,
    user=TEXTS,
    job_type=TEXTS,
    queue=TEXTS,
    workspace=TEXTS,
    labels=st.dictionaries(TEXTS, TEXTS, max_size=3),
    annotations=st.builds(lambda values: _struct(values).SerializeToString(), STRUCTS),
    timeouts=st.builds(
        Timeouts,
        queue=st.none() | LENGTHS,
        execution=LENGTHS,
        stall=st.none() | LENGTHS,
        total=st.none() | LENGTHS,
        cancel_grace=LENGTHS,
        ttl=LENGTHS,
    ),
    retry=st.builds(
        RetryPolicy,
        max_attempts=SMALL,
        initial_backoff=LENGTHS,
        multiplier=st.floats(0, 10),
        max_backoff=LENGTHS,
        jitter=st.floats(0, 1),
        non_retryable_types=st.lists(TEXTS, max_size=2).map(tuple),
        retry_timeouts=st.booleans(),
    ),
    max_lost=SMALL,
    requirements=st.builds(
        Requirements, cpu_count=SMALL, memory_mb=SMALL, worker_labels=st.just((("a", "b"),)), worker_id=st.none() | IDS
    ),
    create_time=MOMENTS,
    schedule_time=st.none() | MOMENTS,
    dedupe_key=TEXTS,
)
JOBS = st.builds(
    Job,
    job_id=IDS,
    definition=DEFINITIONS,
    lane_id=st.just(1),
    priority=st.sampled_from(Priority),
    position=IDS,
    state=st.sampled_from(JobState),
    state_reason=TEXTS,
    revision=IDS,
    update_time=MOMENTS,
    queue_time=st.none() | MOMENTS,
    lease_time=st.none() | MOMENTS,
    start_time=st.none() | MOMENTS,
    end_time=st.none() | MOMENTS,
    attempt=SMALL,
    attempt_count=SMALL,
    lost_count=SMALL,
    worker_id=st.none() | IDS,
    progress=st.none() | st.builds(Progress, percent=st.none() | st.floats(0, 100), message=TEXTS, eta=st.just(5)),
    failure=st.none() | st.builds(Failure, cause=st.sampled_from(FailureCause), type=TEXTS, message=TEXTS),
)


@given(JOBS)
def test_pieces_make_the_message_that_its_fields_make(job: Job) -> None:
    assert job_pb2.Job.FromString(wire.job_bytes(job)) == _one_by_one(job)


def test_a_part_that_is_alike_but_not_the_same_is_seen() -> None:
    definition = Definition(tenant="t", user="u", job_type="x", timeouts=Timeouts(execution=5))
    job = Job(job_id=1, definition=definition, lane_id=1, priority=Priority.LOW, position=1, state=JobState.QUEUED,
              update_time=1)  # fmt: skip
    for limit in range(3 * wire.MOST_FRAMES):
        changed = replace(job, definition=replace(definition, timeouts=Timeouts(execution=limit)))
        shown = job_pb2.Job.FromString(wire.job_bytes(changed))
        assert times.length(shown.execution_timeout) == limit


def test_what_jobs_share_does_not_keep_their_specs() -> None:
    definition = Definition(tenant="t", user="u", job_type="x", queue="alone", spec=b"x" * 1000)
    job = Job(job_id=1, definition=definition, lane_id=1, priority=Priority.LOW, position=1, state=JobState.QUEUED,
              update_time=1)  # fmt: skip
    wire.job_bytes(job)
    kept = weakref.ref(definition)
    del job, definition
    gc.collect()
    assert kept() is None


def test_a_spec_that_was_left_out_is_not_made_up() -> None:
    needs = Requirements(model_id=5)
    definition = Definition(tenant="t", user="u", job_type="predict", requirements=needs)
    job = Job(job_id=1, definition=definition, lane_id=1, priority=Priority.LOW, position=1, state=JobState.QUEUED,
              update_time=1)  # fmt: skip
    assert wire.spec_bytes(job) == b""


def _struct(values: dict[str, float]) -> struct_pb2.Struct:
    struct = struct_pb2.Struct()
    struct.update(values)
    return struct


def _one_by_one(job: Job) -> job_pb2.Job:
    definition, limits, retry = job.definition, job.definition.timeouts, job.definition.retry
    waits, asked = job.state is JobState.SCHEDULED, job.definition.requirements
    message = job_pb2.Job(
        job_id=ids.show(ids.JOB, job.job_id),
        tenant=definition.tenant,
        user=definition.user,
        workspace=definition.workspace,
        queue=definition.queue,
        job_type=definition.job_type,
        priority=job_pb2.Priority.ValueType(job.priority),
        labels=definition.labels,
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
        retry_policy=job_pb2.RetryPolicy(
            max_attempts=retry.max_attempts,
            initial_backoff=duration(retry.initial_backoff),
            multiplier=retry.multiplier,
            max_backoff=duration(retry.max_backoff),
            jitter=retry.jitter,
            non_retryable_types=retry.non_retryable_types,
            retry_timeouts=retry.retry_timeouts,
        ),
        max_lost=definition.max_lost,
        requirements=job_pb2.Requirements(
            cpu_count=asked.cpu_count,
            memory_mb=asked.memory_mb,
            worker_labels=dict(asked.worker_labels),
            worker_id=ids.show(ids.WORKER, asked.worker_id),
        ),
        dedupe_key=definition.dedupe_key,
        state=job_pb2.JobState.ValueType(job.state),
        state_reason=job.state_reason,
        attempt_count=job.attempt_count,
        lost_count=job.lost_count,
        attempt=job.attempt,
        worker_id=ids.show(ids.WORKER, job.worker_id),
        etag=str(job.revision),
    )
    if definition.annotations:
        message.annotations.MergeFromString(definition.annotations)
    if (progress := job.progress) is not None:
        told = job_pb2.Progress(percent=progress.percent, message=progress.message, eta=duration(progress.eta))
        message.progress.CopyFrom(told)
    if (failure := job.failure) is not None:
        message.failure.cause = job_pb2.FailureCause.ValueType(failure.cause)
        message.failure.type, message.failure.message = failure.type, failure.message
        message.failure.retryable = failure.retryable
    return message
