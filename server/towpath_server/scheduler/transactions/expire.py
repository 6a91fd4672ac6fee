"""What time does: due retries, lost offers, timeouts, kills after the grace."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from towpath_server.core.clocks import next_due, overdue, postpone
from towpath_server.core.errors import TowpathError
from towpath_server.scheduler.changes import Change, Changes, Committed
from towpath_server.store.base import Due, HeldBy, Store
from towpath_server.store.committer import Verb


@dataclass(frozen=True, slots=True)
class ExpireItem:
    """At most `limit` jobs; `random` spreads the retries."""

    limit: int
    random: Callable[[], float]


@dataclass(frozen=True, slots=True)
class Expired:
    """What changed, and when the next clock runs out."""

    changes: tuple[Change, ...]
    next_due: int | None


@dataclass(frozen=True, slots=True)
class BootGrace:
    """After a restart: these sessions' workers must get a word in before any clock of their jobs is looked at."""

    session_ids: tuple[str, ...]
    until: int
    limit: int


def expire(store: Store, now: int, items: Sequence[ExpireItem]) -> list[Expired | TowpathError]:
    """Do what is due."""
    item = items[0]
    due = store.find(Due(now), item.limit)
    changes = Changes(store, {job.job_id: job for job in due}, now)
    for job in due:
        event = overdue(job, now, item.random())
        if event is not None:
            changes.apply(job.job_id, event)
        else:
            # Its clock runs out later than it did when it was written down: another version, another limit.
            changes.put(job, replace(job, due_time=next_due(job)))
    first = Expired(tuple(changes.save()), store.next_due())
    return [first, *(Expired((), first.next_due) for _ in items[1:])]


def grant_boot_grace(store: Store, now: int, items: Sequence[BootGrace]) -> list[Committed | TowpathError]:
    """Put the clocks of held jobs off; tells every held job, so that the sessions can be rebuilt."""
    outcomes: list[Committed | TowpathError] = []
    for item in items:
        held = [job for session_id in item.session_ids for job in store.find(HeldBy(session_id), item.limit)]
        changes = Changes(store, {job.job_id: job for job in held}, now)
        for job in held:
            later = postpone(job, item.until)
            if later is not job:
                changes.put(job, later)
        changes.save()
        before = {job.job_id: job for job in held}
        outcomes.append(Committed(tuple(Change(before[job.job_id], job) for job in changes.jobs())))
    return outcomes


EXPIRE = Verb("expire", expire)
BOOT_GRACE = Verb("boot grace", grant_boot_grace)
