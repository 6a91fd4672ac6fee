"""What must hold for every job that is handed out: the order, and who may have it."""

from __future__ import annotations

from collections.abc import Sequence

from support.simulation.book import Book, Known
from support.simulation.serving import is_limited, may_run, most_running, owners, running
from towpath_server.core.job import Job


def strict_priority_and_fifo(book: Book, granted: Sequence[Job]) -> str | None:
    """A worker gets the best of what waits: priority first, then the oldest. Nothing is passed over that the scheduler
    knew of when the worker asked."""
    leased = {job.job_id for job in granted}
    for session_id, mine in _by_session(granted).items():
        known = book.memory.claims.get(session_id, book.memory.known)
        worker = book.ledger.met[session_id]
        # A new job is given to a poll that is parked.
        is_born = any(job.job_id not in book.ledger.jobs for job in mine)
        worst = max(_place(job) for job in mine)
        for job_id, since in book.ledger.waits_since.items():
            other = book.ledger.jobs[job_id]
            if is_born and other.lane_id in book.memory.claimed:
                continue  # Another worker was woken for it.
            if (
                job_id in leased
                or not book.knows(known, since)
                or _place(other) > worst
                or not _is_open(book, other, known)
            ):
                continue
            if may_run(worker, other.definition) and not _may_be_full(book, other, mine):
                return f"{worker.name} was given {[job.job_id for job in mine]}, but job {job_id} stands before"
    return None


def paused_queues_hand_out_nothing(book: Book, granted: Sequence[Job]) -> str | None:
    """Once the pause of a queue was acknowledged, none of its jobs is handed out."""
    for session_id, mine in _by_session(granted).items():
        known = book.memory.claims.get(session_id, book.memory.known)
        for job in mine:
            key = (job.definition.tenant, job.definition.queue)
            queue = book.ledger.queues.get(key)
            if queue is not None and queue.paused and book.knows(known, book.ledger.switched_in[key]):
                return f"job {job.job_id} of the paused queue {queue.name} was handed out"
    return None


def _by_session(granted: Sequence[Job]) -> dict[str, list[Job]]:
    mine: dict[str, list[Job]] = {}
    for job in granted:
        assert job.lease is not None
        mine.setdefault(job.lease.session_id, []).append(job)
    return mine


def _place(job: Job) -> tuple[int, int]:
    return (-job.priority, job.position)


def _is_open(book: Book, job: Job, known: Known) -> bool:
    """Whether the job's queue was not paused, as far as the scheduler knew."""
    key = (job.definition.tenant, job.definition.queue)
    return not book.ledger.queues[key].paused and book.knows(known, book.ledger.switched_in[key])


def _may_be_full(book: Book, job: Job, mine: Sequence[Job]) -> bool:
    """Whether the job's user may have had no more room: then it got none that stands behind this one."""
    owner, _ = owners(job.definition)
    since = 0 if book.ledger.is_shared else book.memory.in_force
    if any(_place(one) > _place(job) and owners(one.definition)[0] == owner for one in mine):
        return False
    return is_limited(book.ledger, owner, since)


def never_more_run_than_may(book: Book, granted: Sequence[Job]) -> str | None:
    """No job is handed out of a user, or of a tenant, of whom as many run as its quota says."""
    if book.ledger.is_shared:
        return None  # Each counts its own, and learns of the others' later.
    for owner in {owner for job in granted for owner in owners(job.definition)}:
        most = most_running(book.ledger, owner, book.memory.in_force)
        if most is not None and (run := running(book.ledger, owner)) > most:
            return f"{run} jobs of {owner} run; it may have {most}"
    return None


ON_DISPATCH = (strict_priority_and_fifo, paused_queues_hand_out_nothing)
AFTER_DISPATCH = (never_more_run_than_may,)
