"""The clocks of a job: when the next one runs out, and what happens then."""

from __future__ import annotations

from dataclasses import replace
from operator import itemgetter

from towpath_server.core.events import Due, Event, Forced, OfferLost, TimedOut, Timeout
from towpath_server.core.evolve import evolve
from towpath_server.core.ids import moment
from towpath_server.core.job import SECOND, Job, JobState

# How long a worker may take to mention a lease before it counts as never received.
OFFER_TTL = 10 * SECOND

S = JobState

_moment = itemgetter(0)


def next_due(job: Job) -> int | None:
    """When the job's next clock runs out; for a final job, when it may be deleted."""
    clocks = _clocks(job)
    return min(clocks, key=_moment)[0] if clocks else None


def due_after(before: Job, after: Job) -> int | None:
    """The due_time that a change leaves: a clock that was put off stays so while the job stays where it is."""
    due, put_off = next_due(after), before.due_time
    if due is None or put_off is None or before.lease is None or after.state is not before.state:
        return due
    natural = next_due(before)
    return max(due, put_off) if natural is not None and natural < put_off else due


def postpone(job: Job, until: int) -> Job:
    """The job with its next clock looked at no sooner than `until`: after a restart, its worker must get a word in."""
    if job.due_time is None or job.due_time >= until:
        return job
    return evolve(job, due_time=until)


def overdue(job: Job, now: int, random: float) -> Event | None:
    """The event of the first clock that has run out; None where none has, or where the job may be deleted."""
    late = [(moment, event) for moment, event in _clocks(job) if moment <= now and event is not None]
    if not late:
        return None
    event = min(late, key=_moment)[1]
    return replace(event, random=random) if isinstance(event, TimedOut) else event


# One of each is enough: they are made for every job each time that it moves.
_DUE, _OFFER_LOST, _FORCED = Due(), OfferLost(), Forced()
_TOTAL, _QUEUE = TimedOut(Timeout.TOTAL), TimedOut(Timeout.QUEUE)
_EXECUTION, _STALL = TimedOut(Timeout.EXECUTION), TimedOut(Timeout.STALL)


def _clocks(job: Job) -> list[tuple[int, Event | None]]:
    limits, state = job.definition.timeouts, job.state
    if job.end_time is not None:
        return [(job.end_time + limits.ttl, None)]
    if state is S.CANCELLING:
        return [(job.kill_time or 0, _FORCED)]
    clocks: list[tuple[int, Event | None]] = []
    if limits.total is not None:
        clocks.append((moment(job.position) + limits.total, _TOTAL))
    if state is S.SCHEDULED:
        clocks.append((job.queue_time or 0, _DUE))
    elif state is S.QUEUED and limits.queue is not None:
        clocks.append(((job.queue_time or 0) + limits.queue, _QUEUE))
    elif state is S.LEASED and job.lease is not None:
        if not job.lease.confirmed:
            clocks.append(((job.lease_time or 0) + OFFER_TTL, _OFFER_LOST))
        clocks.append(((job.lease_time or 0) + OFFER_TTL + limits.execution, _EXECUTION))
    elif state is S.RUNNING:
        clocks.append(((job.start_time or 0) + limits.execution, _EXECUTION))
        if limits.stall is not None:
            clocks.append(((job.stall_time or 0) + limits.stall, _STALL))
    return clocks
