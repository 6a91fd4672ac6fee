"""Deleting what is over: jobs whose keep has run out, and those that somebody wants to be rid of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from towpath_server.core.errors import TowpathError
from towpath_server.core.records import AuditEvent
from towpath_server.scheduler.changes import Change, Committed
from towpath_server.scheduler.transactions.recording import record
from towpath_server.store.base import Due, Store
from towpath_server.store.committer import Verb

# They go into a commit behind all that somebody waits for.
LAST = 9


@dataclass(frozen=True, slots=True)
class Purge:
    """At most `limit` final jobs whose keep is over."""

    limit: int


@dataclass(frozen=True, slots=True)
class Purged:
    """What was deleted, and when the keep of the next job is over."""

    changes: tuple[Change, ...]
    next_due: int | None


@dataclass(frozen=True, slots=True)
class Sweep:
    """Jobs to delete, those of them that have been final since a moment or before."""

    job_ids: tuple[int, ...]
    ended_before: int
    audit: AuditEvent | None = None


def purge(store: Store, now: int, items: Sequence[Purge]) -> list[Purged | TowpathError]:
    """Delete what has been kept for long enough, a bounded number."""
    jobs = store.find(Due(now, final=True), items[0].limit)
    store.delete([job.job_id for job in jobs])
    first = Purged(tuple(Change(job, None) for job in jobs), store.next_due(final=True))
    return [first, *(Purged((), first.next_due) for _ in items[1:])]


def sweep(store: Store, now: int, items: Sequence[Sweep]) -> list[Committed | TowpathError]:
    """Delete jobs that were seen to be over; one that was retried meanwhile stays."""
    outcomes: list[Committed | TowpathError] = []
    for item in items:
        jobs = store.load(item.job_ids).values()
        over = [job for job in jobs if job.end_time is not None and job.end_time <= item.ended_before]
        store.delete([job.job_id for job in over])
        if over:
            record(store, [item.audit])
        outcomes.append(Committed(tuple(Change(job, None) for job in over)))
    return outcomes


PURGE = Verb("purge", purge, rank=LAST)
SWEEP = Verb("sweep", sweep, rank=LAST)
