"""What lies beside jobs as rows, and back: attempts, lanes, pieces of log, and what somebody did."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple
from types import MappingProxyType
from typing import Any

from towpath_server.core.job import Attempt, AttemptOutcome
from towpath_server.core.records import AuditEvent, Head, Lane, LogChunk
from towpath_server.store.rows import PRIORITIES, Row, dumps, failure_text, loads, read_failure, read_requirements

ATTEMPT_COLUMNS = ("job_id", "number", "worker_id", "lease_time", "start_time", "end_time", "outcome", "failure")
LANE_COLUMNS = ("lane_id", "tenant", "user", "queue", "job_type", "requirements", "concurrency_key")
LOG_COLUMNS = ("job_id", "attempt", "offset", "size", "stream", "time", "text")
AUDIT_COLUMNS = ("event_id", "time", "action", "tenant", "user", "token_id", "origin", "subject", "details")


def attempt_row(attempt: Attempt) -> Row:
    """A past attempt, as ATTEMPT_COLUMNS."""
    return (
        *(attempt.job_id, attempt.number, attempt.worker_id, attempt.lease_time, attempt.start_time, attempt.end_time),
        None if attempt.outcome is None else int(attempt.outcome),
        failure_text(attempt.failure),
    )


def read_attempt(row: Sequence[Any]) -> Attempt:
    """The attempt of a row of ATTEMPT_COLUMNS."""
    job_id, number, worker_id, lease_time, start_time, end_time, outcome, failure = row
    became = None if outcome is None else AttemptOutcome(outcome)
    wrong = None if failure is None else read_failure(failure)
    return Attempt(job_id, number, worker_id, lease_time, start_time, end_time, became, wrong)


def lane_row(lane: Lane) -> Row:
    """A lane, as LANE_COLUMNS."""
    wanted = dumps(astuple(lane.requirements))
    return (lane.lane_id, lane.tenant, lane.user, lane.queue, lane.job_type, wanted, lane.concurrency_key)


def read_lane(row: Sequence[Any]) -> tuple[Lane, Head | None]:
    """The lane of a row of LANE_COLUMNS followed by its head's priority and position, or two NULLs."""
    lane_id, tenant, user, queue, job_type, requirements, concurrency_key, priority, position = row
    lane = Lane(
        lane_id=lane_id,
        tenant=tenant,
        user=user,
        queue=queue,
        job_type=job_type,
        requirements=read_requirements(loads(requirements)),
        concurrency_key=concurrency_key,
    )
    return lane, None if priority is None else Head(PRIORITIES[priority], -position)


def log_row(chunk: LogChunk) -> Row:
    """A piece of log, as LOG_COLUMNS."""
    size = len(chunk.text.encode())
    return (chunk.job_id, chunk.attempt, chunk.offset, size, chunk.stream, chunk.time, chunk.text)


def read_log(row: Row) -> LogChunk:
    """The piece of log of a row of LOG_COLUMNS."""
    job_id, attempt, offset, _, stream, time, text = row
    return LogChunk(job_id=job_id, attempt=attempt, offset=offset, text=text, stream=stream, time=time)


def audit_row(event: AuditEvent) -> Row:
    """An audit event, as AUDIT_COLUMNS."""
    return (
        *(event.event_id, event.time, event.action, event.tenant, event.user, event.token_id),
        *(event.origin, event.subject, dumps(dict(event.details))),
    )


def read_audit(row: Sequence[Any]) -> AuditEvent:
    """The audit event of a row of AUDIT_COLUMNS."""
    *plain, details = row
    return AuditEvent(**dict(zip(AUDIT_COLUMNS, plain, strict=False)), details=MappingProxyType(loads(details)))
