"""What must hold for every change of a job, whatever breaks. Each returns what is wrong, or None."""

from __future__ import annotations

from collections.abc import Callable

from support.simulation import counting, timing
from support.simulation.book import Book
from support.simulation.ledger import Step
from support.simulation.moment import Moment, retried
from support.simulation.serving import serves_user
from towpath_server.core.job import FailureCause, JobState

Check = Callable[[Moment, Book, Step], str | None]

HELD = (JobState.LEASED, JobState.RUNNING, JobState.CANCELLING)


def one_state(at: Moment, book: Book, step: Step) -> str | None:
    """Every job is in one state, and all of it agrees with that state."""
    if (job := step.after) is None:
        return None
    if (job.lease is not None) != (job.state in HELD):
        return f"{job.state.name} with lease {job.lease}"
    if (job.end_time is not None) != job.state.is_final:
        return f"{job.state.name} with end_time {job.end_time}"
    if (job.result is not None) != (job.state is JobState.SUCCEEDED):
        return f"{job.state.name} with result {job.result!r}"
    if job.due_time is None and job.state not in (JobState.QUEUED, JobState.PAUSED):
        return f"{job.state.name} with no clock"
    return None


def one_final_state_for_ever(at: Moment, book: Book, step: Step) -> str | None:
    """A final job changes no more, unless somebody retries it."""
    before, after = step.before, step.after
    if before is None or after is None or not before.state.is_final:
        return None
    if retried(step) and book.retries[after.job_id]:
        return None
    return f"{before.state.name} became {after.state.name}, and nobody retried it"


def no_stale_write(at: Moment, book: Book, step: Step) -> str | None:
    """Only the newest lease of a job moves it; what anybody says under another, or under none, changes nothing."""
    before, after = step.before, step.after
    if before is None or after is None:
        return None
    # Nothing but the first claim makes the newest token another one, and no worker speaks in the same commit.
    newest = book.ledger.latest_token.get(after.job_id, "")
    if after.state is JobState.SUCCEEDED and before.state is not after.state:
        if after.result != f"{after.job_id} {newest}".encode():
            return f"result {after.result!r} is not that of the newest lease {newest!r}"
        if newest not in book.runs:
            return f"nobody ever ran the lease {newest}"
    failure = after.failure
    told = failure is not None and failure.cause is FailureCause.HANDLER and failure != before.failure
    if told and failure is not None and failure.message != newest:
        return f"failed by lease {failure.message!r}, but the newest is {newest!r}"
    if after.progress is not None and after.progress != before.progress and after.progress.message != newest:
        return f"progress of lease {after.progress.message!r}, but the newest is {newest!r}"
    return None


def leases_are_fresh(at: Moment, book: Book, step: Step) -> str | None:
    """A lease goes to one living session, of a worker that can do the job, and its token was never given before."""
    before, after = step.before, step.after
    if after is None or after.lease is None:
        return None
    lease, old = after.lease, before.lease if before is not None else None
    if old is not None and old.token != lease.token:
        return f"the lease {old.token} was replaced by {lease.token} while it lived"
    known = book.ledger.grants.get(lease.token)
    if known is not None and (known.job_id, known.attempt) != (after.job_id, after.attempt):
        return f"the token {lease.token} was given before"
    # Where a lease goes on in another session, that one is put behind it.
    worker = book.ledger.met.get(lease.session_id if known is None else known.session_id)
    if worker is None or worker.worker_id != lease.worker_id:
        return "the worker has no such session"
    if known is None and after.definition.job_type not in worker.job_types:
        return f"the worker cannot run {after.definition.job_type}"
    return None


def workers_serve_the_owner(at: Moment, book: Book, step: Step) -> str | None:
    """A job runs only on a worker of its own user's, or on one that is shared with its tenant."""
    after = step.after
    if after is None or after.lease is None:
        return None
    # A lease that goes on in another session was given in the one before.
    grant = book.ledger.grants.get(after.lease.token)
    worker = book.ledger.met.get(grant.session_id if grant is not None else after.lease.session_id)
    if worker is None or serves_user(worker, after.definition):
        book.seen["shared"] += grant is None and worker is not None and worker.user != after.definition.user
        return None
    whose = f"{after.definition.tenant}/{after.definition.user}"
    return f"a job of {whose} on {worker.name} of {worker.tenant}/{worker.user}, share {worker.share.name}"


def cancelled_is_cancelled(at: Moment, book: Book, step: Step) -> str | None:
    """A job whose cancel was accepted runs for nobody else: it ends CANCELLED, or SUCCEEDED where that came first."""
    before, after = step.before, step.after
    if before is None or after is None or before.state is not JobState.CANCELLING or retried(step):
        return None
    if after.state in (JobState.CANCELLING, JobState.CANCELLED, JobState.SUCCEEDED):
        return None
    return f"CANCELLING became {after.state.name}"


def requests_make_one_job(at: Moment, book: Book, step: Step) -> str | None:
    """A request_id makes one job, and a dedupe_key one that is not final, however often the call is repeated."""
    after = step.after
    if after is None:
        return None
    mine = after.definition
    for other in book.ledger.jobs.values():
        theirs = other.definition
        if other.job_id == after.job_id or (theirs.tenant, theirs.user) != (mine.tenant, mine.user):
            continue
        if step.before is None and mine.request_id and theirs.request_id == mine.request_id:
            return f"the second job of request {mine.request_id}"
        same = mine.dedupe_key and mine.dedupe_key == theirs.dedupe_key
        if same and not after.state.is_final and not other.state.is_final:
            return f"the second living job of key {mine.dedupe_key}"
    return None


ON_CHANGE: tuple[Check, ...] = (
    one_state,
    one_final_state_for_ever,
    no_stale_write,
    leases_are_fresh,
    workers_serve_the_owner,
    counting.attempts_have_no_gaps,
    counting.attempts_and_losses_add_up,
    counting.budgets_hold,
    timing.nothing_is_taken_back_too_soon,
    timing.backoff_is_kept,
    counting.positions_are_kept,
    counting.revisions_and_sequences_grow,
    timing.timeouts_are_not_early,
    cancelled_is_cancelled,
    timing.deleted_for_a_reason,
    requests_make_one_job,
)
