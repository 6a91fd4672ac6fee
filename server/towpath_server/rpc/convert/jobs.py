"""Jobs as they stand, to protobuf."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from towpath.v1 import job_pb2, job_service_pb2
from towpath_server.core.job import Attempt, Job
from towpath_server.rpc.convert import ids, wire
from towpath_server.rpc.convert.times import timestamp
from towpath_server.scheduler.messages import Explanation, Stats, Told

BASIC = job_pb2.JOB_VIEW_BASIC
FULL = job_pb2.JOB_VIEW_FULL
RESULT = job_pb2.JOB_VIEW_RESULT

# What one message may carry, less room for what stands around a job.
MAX_JOB_BYTES = 4 * 1024 * 1024 - 64 * 1024
# Of a watch: some hundred jobs, so that what is told of many does not hold the event loop for long.
MAX_EVENTS_BYTES = 128 * 1024


def job_to_proto(job: Job, view: job_pb2.JobView.ValueType = FULL) -> job_pb2.Job:
    """A job; BASIC is without spec and result. A spec that does not fit one message beside its result is left out."""
    return job_pb2.Job.FromString(job_to_bytes(job, view))


def job_to_bytes(job: Job, view: job_pb2.JobView.ValueType = FULL) -> bytes:
    """The same, serialized: to be put into an answer with others."""
    plain = wire.job_bytes(job)
    if view == BASIC:
        return plain
    result, spec = wire.result_bytes(job), wire.spec_bytes(job) if view != RESULT else b""
    fits = len(plain) + len(result) + len(spec) <= MAX_JOB_BYTES
    return plain + spec + result if fits else plain + result


def created_to_bytes(jobs: Iterable[Job]) -> bytes:
    """A BatchCreateJobsResponse, serialized: the jobs of one call, without spec and result."""
    return wire.repeated(_CREATED, map(wire.job_bytes, jobs))


_CREATED = wire.tag(job_service_pb2.BatchCreateJobsResponse.DESCRIPTOR.fields_by_name["jobs"].number)


def watched_job_to_proto(job: Job) -> job_pb2.Job:
    """A job as WatchJob tells it: spec and result only once it is final."""
    return job_to_proto(job, FULL if job.state.is_final else BASIC)


def events_to_bytes(told: Told, view: job_pb2.JobView.ValueType = BASIC) -> Iterator[bytes]:
    """The jobs as WatchJobs tells them, serialized, in messages of a bearable size; an empty one where there are none.

    Each but the last has the sequence of its own last job: those that were changed since come in the next ones.
    """
    events: list[bytes] = []
    size, sequence = 0, told.sequence
    for job in told.jobs:
        event = _EVENT_SEQUENCE + wire.varint(job.revision) + wire.nested(_EVENT_JOB, job_to_bytes(job, view))
        size += len(event)
        if size > MAX_EVENTS_BYTES and events:
            yield _events_to_bytes(events, sequence)
            events, size = [], len(event)
        events.append(event)
        sequence = job.sequence
    yield _events_to_bytes(events, told.sequence)


_EVENT, _ANSWER = job_service_pb2.JobEvent.DESCRIPTOR, job_service_pb2.WatchJobsResponse.DESCRIPTOR
_EVENT_SEQUENCE = wire.tag(_EVENT.fields_by_name["sequence"].number, wire.VARINT)
_EVENT_JOB = wire.tag(_EVENT.fields_by_name["job"].number)
_EVENTS = wire.tag(_ANSWER.fields_by_name["events"].number)
_SEQUENCE = wire.tag(_ANSWER.fields_by_name["sequence"].number, wire.VARINT)


def _events_to_bytes(events: Iterable[bytes], sequence: int) -> bytes:
    return wire.repeated(_EVENTS, events) + _SEQUENCE + wire.varint(sequence)


def attempt_to_proto(attempt: Attempt) -> job_pb2.Attempt:
    """One delivery."""
    return job_pb2.Attempt(
        attempt=attempt.number,
        worker_id=ids.show(ids.WORKER, attempt.worker_id),
        lease_time=timestamp(attempt.lease_time),
        start_time=timestamp(attempt.start_time),
        end_time=timestamp(attempt.end_time),
        outcome=job_pb2.AttemptOutcome.ValueType(attempt.outcome or 0),
        failure=wire.failure_to_proto(attempt.failure),
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
