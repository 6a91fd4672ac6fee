"""Jobs and what belongs to them, as tables for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from towpath import display
from towpath.cli import output, times

if TYPE_CHECKING:
    from towpath.types import Attempt, Explanation, Failure, Job


def jobs(found: Sequence[Job]) -> None:
    """A table of jobs."""
    output.table(
        ("id", "state", "type", "queue", "priority", "progress", "created", "took"),
        [
            (
                job.job_id,
                job.state,
                job.job_type,
                job.queue,
                priority(job),
                percent(job),
                times.moment(job.create_time),
                times.since(job.create_time, job.end_time),
            )
            for job in found
        ],
        right=("progress", "took"),
        empty="No jobs.",
    )


def waiting(found: Sequence[Job], queue: str) -> None:
    """A table of waiting jobs in dispatch order."""
    output.table(
        ("place", "id", "type", "priority", "user", "waits since"),
        [
            (
                place,
                job.job_id,
                job.job_type,
                priority(job),
                job.user,
                times.moment(job.queue_time or job.create_time),
            )
            for place, job in enumerate(found, 1)
        ],
        right=("place",),
        empty=f"Nothing waits in {queue}.",
    )


def job(found: Job) -> None:
    """One job, with its result or failure."""
    from towpath.cli import results

    output.fields(
        [
            ("job", found.job_id),
            ("state", found.state),
            ("because", "" if found.failure and found.failure.message == found.state_reason else found.state_reason),
            ("type", found.job_type),
            ("queue", found.queue),
            ("priority", priority(found)),
            ("user", found.user),
            ("workspace", found.workspace),
            ("labels", ", ".join(f"{name}={value}" for name, value in sorted(found.labels.items()))),
            ("dedupe key", found.dedupe_key),
            ("progress", display.summary(found.progress) if found.progress else ""),
            ("attempts", _attempts(found)),
            ("worker", found.worker_id),
            ("created", times.moment(found.create_time)),
            ("due", times.moment(found.schedule_time)),
            ("started", times.moment(found.start_time)),
            ("ended", times.moment(found.end_time)),
            ("waited", times.since(found.create_time, found.start_time)),
            ("ran", times.since(found.start_time, found.end_time)),
        ]
    )
    if found.failure:
        output.line()
        failure(found.failure)
    if found.state == "SUCCEEDED":
        output.line()
        results.result(found.result)


def failure(found: Failure) -> None:
    """What went wrong, with the handler's traceback."""
    output.fields([("failure", f"{found.cause} {found.type}".strip()), ("message", found.message)])
    if found.traceback:
        output.line()
        output.line(found.traceback.rstrip())


def failed(found: Job) -> None:
    """How a job ended without a result, on standard error."""
    reason = (found.failure.message if found.failure else "") or found.state_reason
    lines = reason.splitlines()
    output.note(f"{found.job_id} {found.state}{f': {lines[0]}' if lines else ''}")
    for line in lines[1:]:
        output.note(f"  {line}")
    if found.failure and found.failure.traceback:
        output.note(f"The traceback: towpath jobs get {found.job_id}")


def explanation(found: Explanation) -> None:
    """Why a job does not run, and what each worker lacks."""
    output.line(found.summary)
    if found.position:
        output.line(f"Place {found.position} in its queue.")
    # Without a worker the summary has said so.
    if found.workers:
        output.line()
        output.table(
            ("worker", "name", "fits", "what it lacks"),
            [(fit.worker_id, fit.name, "yes" if fit.fits else "no", "; ".join(fit.reasons)) for fit in found.workers],
        )


def attempts(found: Sequence[Attempt]) -> None:
    """A table of deliveries."""
    output.table(
        ("attempt", "outcome", "worker", "leased", "ran", "failure"),
        [
            (
                attempt.attempt,
                "RUNNING" if attempt.outcome == "UNSPECIFIED" else attempt.outcome,
                attempt.worker_id,
                times.moment(attempt.lease_time),
                times.since(attempt.start_time, attempt.end_time),
                f"{attempt.failure.type}: {attempt.failure.message}" if attempt.failure else "",
            )
            for attempt in found
        ],
        right=("attempt", "ran"),
        empty="It was not given to a worker yet.",
    )


def priority(found: Job) -> str:
    """`high`; `normal` where none is set."""
    return "normal" if found.priority == "UNSPECIFIED" else found.priority.lower()


def percent(found: Job) -> str:
    """`42 %`; empty where it is not known."""
    if found.state == "SUCCEEDED":
        return "100 %"
    return "" if found.progress is None or found.progress.percent is None else f"{found.progress.percent:.0f} %"


def _attempts(found: Job) -> str:
    lost = f", {found.lost_count} lost" if found.lost_count else ""
    return f"{found.attempt_count}{lost}" if found.attempt else ""
