"""What must hold whenever the scheduler is at rest: its memory agrees with the store, and nobody waits in vain."""

from __future__ import annotations

from collections.abc import Callable

from support.simulation.book import Book
from support.simulation.life import Life
from support.simulation.serving import has_room, is_limited, may_run, owners, queued, running
from towpath_server.core.job import SECOND, Job, JobState
from towpath_server.core.records import Head
from towpath_server.scheduler.messages import DirectiveType

# By how much a clock may be late: the timers leave a store alone for 1 s after it did not answer.
LATE = 2 * SECOND


def every_waiting_job_is_on_the_board(life: Life, book: Book) -> str | None:
    """The head that the board knows of a lane never promises less than what waits there."""
    for job in _queued(book):
        head = life.state.board._heads.get(job.lane_id)
        if head is None or head < Head(job.priority, -job.position):
            return f"job {job.job_id} waits in lane {job.lane_id}, and the board says {head}"
    return None


def every_parked_poll_that_could_be_served_is(life: Life, book: Book) -> str | None:
    """No poll is parked while a job waits that its worker could have."""
    for line in life.state.waiters._lines.values():
        for waiter in line:
            worker = book.ledger.met[waiter.session.session_id]
            if waiter.session.worker.draining:
                continue
            for job in _queued(book):
                definition = job.definition
                paused = book.ledger.queues[definition.tenant, definition.queue].paused
                if paused or not may_run(worker, definition):
                    continue
                if _may_be_full(book, job):
                    book.seen["held back by a quota"] += 1
                else:
                    return f"a poll of {worker.name} is parked while job {job.job_id} waits"
    return None


def counts_are_those_of_the_store(life: Life, book: Book) -> str | None:
    """What is held against quotas is what the store has: of each user and tenant, how many jobs wait, how many run."""
    allowance = life.state.allowance
    if book.ledger.is_shared or not allowance.is_on:
        return None
    for owner in {owner for job in book.ledger.jobs.values() for owner in owners(job.definition)}:
        stored, known = (queued(book.ledger, owner), running(book.ledger, owner)), allowance.use(owner)[:2]
        if stored != known:
            return f"{owner} is thought to have {known} jobs waiting and running; the store says {stored}"
    return None


def nothing_of_a_removed_worker_stays(life: Life, book: Book) -> str | None:
    """A worker that was removed is known nowhere, has no session, and holds no job."""
    for worker_id, worker in book.ledger.removed.items():
        if worker_id in life.state.workers or worker_id in book.ledger.workers:
            return f"{worker.name} was removed and is still known"
        if life.state.sessions.of_worker(worker_id) is not None:
            return f"{worker.name} was removed and has a session"
    for job in book.ledger.jobs.values():
        # Of several schedulers one that stood still may give it an offer, which nobody takes.
        if job.lease is not None and job.lease.worker_id in book.ledger.removed and not book.ledger.is_shared:
            return f"job {job.job_id} is on a worker that was removed"
    return None


def sessions_hold_what_the_store_says(life: Life, book: Book) -> str | None:
    """Each lease is held by one living session; the scheduler's memory and the store name the same one."""
    stored: dict[str, dict[int, str]] = {}
    for job in book.ledger.jobs.values():
        # A scheduler that stood still may offer a job to a session that another one has adopted.
        known = not book.ledger.is_shared or life.state.sessions.holder(job.job_id) is not None
        if job.lease is not None and (job.lease.confirmed or known):
            stored.setdefault(job.lease.session_id, {})[job.job_id] = job.lease.token
    living = set()
    for session in life.state.sessions:
        living.add(session.session_id)
        # That a job was deleted is not told to other schedulers.
        held = {job_id: lease.token for job_id, lease in session.held.items() if job_id not in book.ledger.gone}
        if held != stored.get(session.session_id, {}):
            return f"{session.worker.name} holds {held}; the store says {stored.get(session.session_id, {})}"
    if book.ledger.is_shared:
        return None
    ending = {session.session_id for session in life.scheduler.workers._ending}
    for job in book.ledger.jobs.values():
        lease = job.lease
        if lease is not None and lease.confirmed and lease.session_id not in living | ending:
            return f"job {job.job_id} is held by the session {lease.session_id}, which is over"
    return None


def those_who_wait_are_told(life: Life, book: Book) -> str | None:
    """Whoever waits for a change of a job, or watches it, knows its newest state."""
    memory = life.memory
    for wait in memory.waits:
        job = book.ledger.jobs.get(wait.job_id)
        if job is not None and (job.state.is_final or wait.revision not in (None, job.revision)):
            return f"a wait for job {wait.job_id} past revision {wait.revision}; it is at {job.revision}"
    # Whether all changes have come whose place is certain.
    settled = not book.ledger.is_shared or life.state.watchers.sequence >= book.ledger.last_sequence
    for watch in memory.watches:
        if not watch.stands or not (settled or watch.job_id is not None):
            continue
        for job in _watched(book, watch.job_id, watch.tenant, watch.user, watch.since):
            if watch.told.get(job.job_id) != job.revision:
                return f"a watch knows {watch.told.get(job.job_id)} of job {job.job_id}; it is at {job.revision}"
    return None


def no_clock_is_late(life: Life, book: Book) -> str | None:
    """What is due is done: retries, timeouts, kills, lost offers, silent sessions."""
    now, steady = life.clock.wall(), life.clock.steady()
    for job in book.ledger.jobs.values():
        if job.due_time is not None and job.due_time < now - LATE:
            return f"job {job.job_id} ({job.state.name}) is due since {(now - job.due_time) / SECOND:.3f} s"
    for session in life.state.sessions:
        if session.deadline < steady - LATE:
            return f"{session.worker.name} is silent and still lives"
    return None


def _may_be_full(book: Book, job: Job) -> bool:
    if book.ledger.is_shared:
        # Each counts its own, and learns of the others' later.
        return any(is_limited(book.ledger, owner, 0) for owner in owners(job.definition))
    return not has_room(book.ledger, job.definition)


def _queued(book: Book) -> list[Job]:
    return [book.ledger.jobs[job_id] for job_id in book.ledger.waits_since]


def _watched(book: Book, job_id: int | None, tenant: str, user: str, since: int) -> list[Job]:
    if job_id is not None:
        job = book.ledger.jobs.get(job_id)
        return [job] if job is not None else []
    return [
        job
        for job in book.ledger.jobs.values()
        if (job.definition.tenant, job.definition.user) == (tenant, user) and job.sequence > since
    ]


def paused_queues_are_known(life: Life, book: Book) -> str | None:
    """The board holds back the queues that the store says are paused, and no others."""
    stored = {key for key, queue in book.ledger.queues.items() if queue.paused}
    if life.state.board._paused != stored:
        return f"the board holds back {sorted(life.state.board._paused)}; paused are {sorted(stored)}"
    return None


def who_must_stop_is_told(life: Life, book: Book) -> str | None:
    """The worker that holds a job which is being cancelled has an order to stop it, wherever the cancel came from."""
    for session in life.state.sessions:
        told = {(order.job_id, order.token) for order in session._orders.values() if order.type is DirectiveType.CANCEL}
        for job_id, held in session.held.items():
            job = book.ledger.jobs.get(job_id)
            if job is not None and job.state is JobState.CANCELLING and (job_id, held.token) not in told:
                return f"{session.worker.name} is not told to cancel job {job_id}"
    return None


WHEN_QUIET: tuple[Callable[[Life, Book], str | None], ...] = (
    every_waiting_job_is_on_the_board,
    every_parked_poll_that_could_be_served_is,
    nothing_of_a_removed_worker_stays,
    counts_are_those_of_the_store,
    sessions_hold_what_the_store_says,
    those_who_wait_are_told,
    paused_queues_are_known,
    who_must_stop_is_told,
)
