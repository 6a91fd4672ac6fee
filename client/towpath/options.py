"""What every job may be given besides its own parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias, TypedDict

from towpath.enums import ConflictPolicy, Priority
from towpath.errors import InvalidArgument
from towpath.types import Requirements, RetryPolicy
from towpath.v1 import job_pb2
from towpath.values import to_duration, to_struct, to_timestamp

Seconds: TypeAlias = float | timedelta


class JobOptions(TypedDict, total=False):
    """How a job is queued and run. Times are seconds (or timedeltas); what is left out takes the scheduler's default.

    - `queue`, `priority` (`low`, `normal`, `high`, `critical`), `labels`, `annotations`, `workspace`
    - `schedule_time` (with a time zone) or `delay`: run not before then
    - `queue_timeout`: longest wait in the queue; `execution_timeout`: longest run of an attempt (300 s, train 600 s);
      `stall_timeout`: longest silence of a running attempt; `total_timeout`: from creation to the end, retries included
    - `cancel_grace`: time to stop by itself before it is killed (30 s); `ttl`: how long it is kept once final (7 days)
    - `retries`: a RetryPolicy, or how many times to try again after a failure; `max_lost`: dead workers survived (3)
    - `requirements`: what the worker must have, as Requirements or a dict of its fields
    """

    queue: str
    priority: str | Priority
    labels: Mapping[str, str] | None
    annotations: Mapping[str, Any] | None
    workspace: str
    schedule_time: datetime | None
    delay: Seconds | None
    queue_timeout: Seconds | None
    execution_timeout: Seconds | None
    stall_timeout: Seconds | None
    total_timeout: Seconds | None
    cancel_grace: Seconds | None
    ttl: Seconds | None
    retries: RetryPolicy | int | None
    max_lost: int | None
    requirements: Requirements | Mapping[str, Any] | None


class SubmitOptions(JobOptions, total=False):
    """Those, and what is for one job alone.

    - `request_id`: the same id gives the same job. Left out: a new one, so that retries are harmless
    - `dedupe_key`: of your jobs that are not final, at most one has this key. `on_conflict` says what to do where one
      has it already: `reject` (the default) raises DedupeConflict, `return_existing` gives a handle on that job,
      `replace` cancels it at once, even if it runs, and the new one takes its place
    """

    request_id: str | None
    dedupe_key: str | None
    on_conflict: str | ConflictPolicy | None


NAMES = frozenset(JobOptions.__annotations__)
TIMEOUTS = ("queue_timeout", "execution_timeout", "stall_timeout", "total_timeout", "cancel_grace", "ttl")
TEXTS = ("queue", "workspace")


def apply_options(job: job_pb2.Job, options: JobOptions) -> None:
    """Writes the options into a job."""
    if unknown := sorted(set(options) - NAMES):
        raise InvalidArgument(f"Unknown option {', '.join(unknown)}. Take one of: {', '.join(sorted(NAMES))}.")
    given: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    for name in TEXTS:
        if name in given:
            setattr(job, name, given[name])
    for name in TIMEOUTS:
        if name in given:
            getattr(job, name).CopyFrom(to_duration(given[name], name))
    if "priority" in given:
        job.priority = job_pb2.Priority.Value(Priority.parse(given["priority"]).wire_name)
    if "labels" in given:
        job.labels.update(text_map(given["labels"], "labels"))
    if "annotations" in given:
        job.annotations.CopyFrom(to_struct(given["annotations"], "annotations"))
    if "max_lost" in given:
        job.max_lost = given["max_lost"]
    if "retries" in given:
        job.retry_policy.CopyFrom(retry_policy(given["retries"]))
    if "requirements" in given:
        job.requirements.CopyFrom(requirements(given["requirements"]))
    _schedule(job, given.get("schedule_time"), given.get("delay"))


def apply_dedupe(job: job_pb2.Job, dedupe_key: str | None, on_conflict: str | ConflictPolicy | None) -> None:
    """Writes the dedupe key into a job, and what to do where another one has it."""
    if on_conflict is not None:
        job.conflict_policy = job_pb2.ConflictPolicy.Value(ConflictPolicy.parse(on_conflict).wire_name)
        if not dedupe_key:
            raise InvalidArgument("on_conflict needs a dedupe_key.")
    job.dedupe_key = dedupe_key or ""


def _schedule(job: job_pb2.Job, moment: datetime | None, delay: Seconds | None) -> None:
    if moment is not None and delay is not None:
        raise InvalidArgument("Give schedule_time or delay, not both.")
    if delay is not None:
        seconds = delay.total_seconds() if isinstance(delay, timedelta) else delay
        moment = datetime.now(UTC) + timedelta(seconds=seconds)
    if moment is not None:
        job.schedule_time.CopyFrom(to_timestamp(moment, "schedule_time"))


def retry_policy(retries: RetryPolicy | int) -> job_pb2.RetryPolicy:
    """A policy as a message; a number counts the tries after the first."""
    if isinstance(retries, int):
        return job_pb2.RetryPolicy(max_attempts=retries + 1)
    message = job_pb2.RetryPolicy(
        max_attempts=retries.max_attempts,
        multiplier=retries.multiplier or 0,
        jitter=retries.jitter,
        non_retryable_types=retries.non_retryable_types,
        retry_timeouts=retries.retry_timeouts,
    )
    if retries.initial_backoff is not None:
        message.initial_backoff.CopyFrom(to_duration(retries.initial_backoff, "retries.initial_backoff"))
    if retries.max_backoff is not None:
        message.max_backoff.CopyFrom(to_duration(retries.max_backoff, "retries.max_backoff"))
    return message


def requirements(given: Requirements | Mapping[str, Any]) -> job_pb2.Requirements:
    """Requirements as a message."""
    wanted = asdict(given) if isinstance(given, Requirements) else dict(given)
    if unknown := sorted(set(wanted) - set(Requirements.__dataclass_fields__)):
        raise InvalidArgument(
            f"Unknown requirement {', '.join(map(str, unknown))}. "
            f"Take one of: {', '.join(Requirements.__dataclass_fields__)}."
        )
    try:
        return job_pb2.Requirements(**wanted)
    except (TypeError, ValueError) as error:
        raise InvalidArgument(f"requirements: {error}.") from None


def text_map(given: Mapping[str, str], name: str) -> dict[str, str]:
    """A map of text to text, checked."""
    wrong: Sequence[object] = [
        key for key, value in given.items() if not (isinstance(key, str) and isinstance(value, str))
    ]
    if wrong:
        raise InvalidArgument(f"{name}: names and values must be text; look at {', '.join(map(str, wrong))}.")
    return dict(given)
