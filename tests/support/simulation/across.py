"""What must hold of several schedulers that share a store."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from support.simulation.book import Book, Memory, is_known
from support.simulation.ledger import Ledger
from support.simulation.life import Life
from towpath_server.core.job import SECOND, Lease
from towpath_server.scheduler import replicas

# By how much news of the others may be late: a lost notice costs a second, and a slow store some more.
LAG = 5 * SECOND
# How long a session may be without a scheduler that lives.
ORPHANED = replicas.DEAD + 5 * SECOND


def knows_all(memory: Memory, ledger: Ledger) -> bool:
    """Whether a scheduler knows of every commit."""
    return all(is_known(ledger, memory, memory.known, number) for number in ledger.told_last.values())


def news_come_in_time(life: Life, book: Book) -> str | None:
    """Whatever one scheduler commits, all others know of it soon, also where a notice is lost."""
    now = life.clock.steady()
    for number, steady in reversed(book.ledger.news):
        if steady <= now - LAG:
            if is_known(book.ledger, life.memory, life.memory.known, number):
                return None
            return f"{life.name} does not know of commit {number} of {(now - steady) / SECOND:.3f} s ago"
    return None


def every_session_has_a_scheduler(lives: Sequence[Life], book: Book, now: int, since: int) -> str | None:
    """A worker's session lives on a scheduler that lives, or is soon taken over by one that does."""
    living = {session.session_id for life in lives for session in life.state.sessions}
    living |= {session.session_id for life in lives for session in life.scheduler.workers._ending}
    before, book.homeless = book.homeless, {}
    for worker in book.ledger.workers.values():
        if worker.session_id and worker.session_id not in living:
            begun = book.homeless[worker.session_id] = before.get(worker.session_id, now)
            if now - max(begun, since) > ORPHANED:
                return f"the session of {worker.name} (at {worker.replica_id}) lives nowhere"
    return None


def a_session_lives_where_the_store_says(lives: Sequence[Life], book: Book, now: int, since: int) -> str | None:
    """A worker has one session, and that lives on one scheduler: the one that the store names."""
    if not all(knows_all(life.memory, book.ledger) for life in lives):
        return None
    for life in lives:
        for session in life.state.sessions:
            kept = book.ledger.workers.get(session.worker.worker_id)
            if kept is None:
                return f"a session of {session.worker.name} lives at {life.name}; the worker was removed"
            if (kept.session_id, kept.replica_id) != (session.session_id, life.state.replica_id):
                return f"a session of {session.worker.name} lives at {life.name}; the store says at {kept.replica_id}"
    return None


def _is_known_to(lives: Sequence[Life], book: Book, lease: Lease) -> bool:
    """Whether who gave the lease is there to hear that the worker was removed."""
    return book.ledger.writers[book.ledger.grants[lease.token].number] in [life.memory for life in lives]


def no_lease_outlives_its_session(lives: Sequence[Life], book: Book, now: int, since: int) -> str | None:
    """What a worker holds ends with its session, wherever that was."""
    if now - since <= ORPHANED:
        return None
    kept = {worker.session_id for worker in book.ledger.workers.values() if worker.session_id}
    ending = {session.session_id for life in lives for session in life.scheduler.workers._ending}
    for job in book.ledger.jobs.values():
        lease = job.lease
        if lease is None or (lease.worker_id in book.ledger.removed and not _is_known_to(lives, book, lease)):
            continue  # What is left then is ended by its execution timeout.
        if lease.confirmed and lease.session_id not in kept | ending:
            return f"job {job.job_id} is held by the session {lease.session_id}, which is over"
    return None


ACROSS: tuple[Callable[[Sequence[Life], Book, int, int], str | None], ...] = (
    every_session_has_a_scheduler,
    a_session_lives_where_the_store_says,
    no_lease_outlives_its_session,
)
