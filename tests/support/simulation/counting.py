"""What must hold of the numbers: attempts, losses, budgets, revisions."""

from __future__ import annotations

from support.simulation.book import Book
from support.simulation.ledger import Step
from support.simulation.moment import Moment, is_lost, retried
from towpath_server.core.job import AttemptOutcome, FailureCause, JobState


def attempts_have_no_gaps(at: Moment, book: Book, step: Step) -> str | None:
    """A job's attempts are numbered 1 to n: each delivery once, and an offer that nobody took not at all."""
    before, after = step.before, step.after
    if after is None:
        return None
    earlier = before.attempt if before is not None else 0
    if after.attempt == earlier - 1:
        if before is not None and (before.lease is None or before.lease.confirmed):
            return "a delivery that was confirmed is not counted any more"
    elif after.attempt != earlier and not (after.attempt == earlier + 1 and after.lease is not None):
        return f"attempt {earlier} became {after.attempt}"
    past = sorted(book.ledger.history(after))
    over = after.attempt - 1 if after.lease is not None or after.state.is_final else after.attempt
    if past[:over] != list(range(1, over + 1)) or len(past) > after.attempt:
        return f"the history knows the attempts {past}; the job is at its {after.attempt}."
    return None


def attempts_and_losses_add_up(at: Moment, book: Book, step: Step) -> str | None:
    """A failure of the code counts once in attempt_count, a lost delivery once in lost_count, a lost offer in none."""
    before, after = step.before, step.after
    if before is None or after is None:
        return None
    if retried(step):
        return None if (after.attempt_count, after.lost_count) == (0, 0) else "a retried job has a past"
    lost = _lost(step)
    if (
        before.state is JobState.QUEUED
        and after.attempt == before.attempt
        and (after.lease is not None or after.state is JobState.SUCCEEDED)
    ):
        lost = -1  # The worker that was thought lost goes on, or has its result.
    if after.lost_count - before.lost_count != lost:
        return f"lost_count went from {before.lost_count} to {after.lost_count}, and {lost} deliveries were lost"
    ended = after.state is not before.state
    counts = ended and (
        after.state is JobState.SUCCEEDED
        or (after.state is JobState.FAILED and not is_lost(after))
        or (after.state is JobState.SCHEDULED and before.lease is not None)
        or (after.state is JobState.TIMED_OUT and before.state is JobState.RUNNING)
    )
    if after.attempt_count - before.attempt_count != counts:
        return f"attempt_count went from {before.attempt_count} to {after.attempt_count} by becoming {after.state.name}"
    return None


def budgets_hold(at: Moment, book: Book, step: Step) -> str | None:
    """max_attempts bounds the failures of the code, max_lost the lost deliveries; and no job fails before that."""
    before, job = step.before, step.after
    if job is None or before is None or before.state is job.state:
        return None
    attempts, lost = job.definition.retry.max_attempts, job.definition.max_lost
    if job.lost_count > lost and job.state is not JobState.FAILED and not job.state.is_final:
        return f"lost {job.lost_count} times and goes on; max_lost is {lost}"
    if job.attempt_count >= attempts and job.state is JobState.SCHEDULED and before.lease is not None:
        return f"failed {job.attempt_count} times and goes on; max_attempts is {attempts}"
    failure = job.failure
    if job.state is JobState.FAILED and failure is not None:
        if is_lost(job) and job.lost_count <= lost:
            return f"given up after {job.lost_count} losses; max_lost is {lost}"
        hopeless = not failure.retryable or failure.type in job.definition.retry.non_retryable_types
        if failure.cause is FailureCause.HANDLER and not hopeless and job.attempt_count < attempts:
            return f"given up after {job.attempt_count} failures; max_attempts is {attempts}"
    return None


def revisions_and_sequences_grow(at: Moment, book: Book, step: Step) -> str | None:
    """Each change is one revision further, and its sequence is greater than all that are settled, in all lives."""
    before, after = step.before, step.after
    if after is None:
        return None
    if after.revision != (before.revision + 1 if before is not None else 1):
        return f"revision {before.revision if before is not None else 0} became {after.revision}"
    if after.sequence <= book.ledger.settled:
        return f"sequence {after.sequence} after {book.ledger.settled}"
    return None


def positions_are_kept(at: Moment, book: Book, step: Step) -> str | None:
    """A new job stands last, whatever the clock says, and keeps its place however often it is handed out."""
    before, after = step.before, step.after
    if after is None:
        return None
    moved = before is None or after.position != before.position
    if moved and after.position <= book.memory.last_position:
        return f"it goes before jobs that were there when the scheduler was started: {after.position}"
    if before is None:
        return None
    if after.position != before.position and not (book.retries[after.job_id] and after.position > before.position):
        return f"position {before.position} became {after.position}"
    return None


def _lost(step: Step) -> int:
    assert step.after is not None
    failed = step.after.state is JobState.FAILED and is_lost(step.after)
    return int(failed or any(attempt.outcome is AttemptOutcome.LOST for attempt in step.past))
