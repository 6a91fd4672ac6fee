"""What must hold of time: nothing ends too soon, nothing comes back too soon."""

from __future__ import annotations

from support.simulation.book import Book
from support.simulation.ledger import Step
from support.simulation.moment import Moment, is_lost, retried
from towpath_server.core.clocks import OFFER_TTL
from towpath_server.core.ids import moment
from towpath_server.core.job import FailureCause, Job, JobState


def nothing_is_taken_back_too_soon(at: Moment, book: Book, step: Step) -> str | None:
    """A lease ends for want of words only after a whole lease of silence, also after a restart of the scheduler."""
    before, after = step.before, step.after
    if before is None or after is None or before.lease is None or after.lease is not None:
        return None
    lease = before.lease
    lost = after.state is JobState.QUEUED or (after.state is JobState.FAILED and is_lost(after))
    if not lost or retried(step) or lease.token in book.released or _may_end(at, book, before):
        return None
    if after.job_id in book.resumed and after.lost_count == before.lost_count:
        return None
    silence = book.longest_silence(lease.session_id, at.steady) / 1e6
    return f"its worker was silent for no more than {silence:.3f} s of {book.intervals.lease_ttl / 1e6} s"


def _may_end(at: Moment, book: Book, job: Job) -> bool:
    lease, ttl = job.lease, book.intervals.lease_ttl
    assert lease is not None
    granted = book.ledger.grants[lease.token].steady
    if book.longest_silence(lease.session_id, at.steady) >= ttl or lease.session_id in book.deregistered:
        return True
    if book.unnamed.get(lease.token, 0) > 2 or lease.worker_id in book.removals:
        return True
    if any(
        begun.worker_id == lease.worker_id and lease.token not in begun.named and begun.steady >= granted - 3_000_000
        for begun in book.beginnings
    ):
        return True
    if book.ledger.is_shared and not lease.confirmed and lease.token not in book.handed:
        # A scheduler that finds itself taken for dead gives back what nobody was told of.
        return True
    if lease.confirmed or at.wall < (job.lease_time or 0) + OFFER_TTL:
        return False
    return (grace := book.graces.get(lease.token)) is None or at.steady - grace.since >= ttl


def backoff_is_kept(at: Moment, book: Book, step: Step) -> str | None:
    """What failed waits as its policy says; what is to run later does not run sooner."""
    before, after = step.before, step.after
    if after is None:
        return None
    if before is None:
        early = after.state in (JobState.QUEUED, JobState.LEASED) and (after.definition.schedule_time or 0) > at.wall
        return "not held back until its schedule_time" if early else None
    if before.state is JobState.SCHEDULED and after.state is JobState.QUEUED and at.wall < (before.queue_time or 0):
        return f"queued {((before.queue_time or 0) - at.wall) / 1e6:.3f} s too soon"
    if before.lease is None or after.state is not JobState.SCHEDULED:
        return None
    policy = after.definition.retry
    whole = min(policy.initial_backoff * policy.multiplier ** (after.attempt_count - 1), policy.max_backoff)
    waits = (after.queue_time or 0) - after.update_time
    if not int(whole * (1 - policy.jitter)) - 1 <= waits <= whole:
        return f"waits {waits / 1e6} s after {after.attempt_count} failures; the policy says {whole / 1e6} s"
    return None


def timeouts_are_not_early(at: Moment, book: Book, step: Step) -> str | None:
    """A timeout ends a job only when its time is over, and after a restart its worker gets a word in first."""
    before, after = step.before, step.after
    if before is None or after is None or after.failure is None or after.failure == before.failure:
        return None
    if after.failure.cause is not FailureCause.TIMEOUT:
        return None
    limits = before.definition.timeouts
    over = {
        "queue_timeout": (before.queue_time or 0) + (limits.queue or 0),
        "execution_timeout": (before.start_time or (before.lease_time or 0) + OFFER_TTL) + limits.execution,
        "stall_timeout": (before.stall_time or 0) + (limits.stall or 0),
        "total_timeout": moment(before.position) + (limits.total or 0),
    }[after.failure.type]
    if at.wall < over:
        return f"{after.failure.type} {(over - at.wall) / 1e6:.3f} s too soon"
    grace = book.graces.get(before.lease.token) if before.lease is not None else None
    if grace is None or grace.state != before.state:
        return None
    since = at.steady - grace.since
    if after.failure.type == "stall_timeout" and (before.stall_time or 0) > at.wall - since:
        return None  # It has come further since.
    if since < book.intervals.lease_ttl:
        return f"{after.failure.type} {since / 1e6:.3f} s after a restart"
    return None


def deleted_for_a_reason(at: Moment, book: Book, step: Step) -> str | None:
    """An acknowledged job is kept until its owner deletes it or its time to be kept is over."""
    before = step.before
    if step.after is not None or before is None:
        return None
    if not before.state.is_final or before.end_time is None:
        return f"deleted while {before.state.name}"
    swept = any(tenant == before.definition.tenant and before.end_time <= until for tenant, until in book.sweeps)
    if swept or before.job_id in book.deletions or before.end_time + before.definition.timeouts.ttl <= at.wall:
        return None
    return "deleted, and nobody asked for it"
