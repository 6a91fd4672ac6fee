"""What the begin and the end of a worker's session do to the jobs that it holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from towpath_server.core.errors import TowpathError
from towpath_server.core.events import Adopted, Confirmed, Released, WorkerLost
from towpath_server.core.job import Job, JobState
from towpath_server.core.records import ModelRecord, Worker
from towpath_server.scheduler.changes import Change, Changes, Committed
from towpath_server.scheduler.messages import HeldLease
from towpath_server.store.base import HeldBy, Store
from towpath_server.store.committer import Verb

MOST_HELD = 100_000


@dataclass(frozen=True, slots=True)
class Begin:
    """A session begins; `old_session_id` is the one before.

    The worker goes on with the leases that it names, also with those that were thought lost and given to nobody since.
    """

    worker: Worker
    old_session_id: str
    held: tuple[HeldLease, ...]
    models: tuple[ModelRecord, ...]
    gone_models: tuple[ModelRecord, ...]


@dataclass(frozen=True, slots=True)
class Begun:
    """The jobs that changed hands, those whose late result would still count, and the leases that are over."""

    changes: tuple[Change, ...]
    late: tuple[HeldLease, ...]
    superseded: tuple[HeldLease, ...]


@dataclass(frozen=True, slots=True)
class End:
    """A session ends: its jobs are lost with the worker, or given back by it."""

    worker: Worker
    session_id: str
    released: bool


@dataclass(frozen=True, slots=True)
class Recount:
    """Leases that a heartbeat confirmed, and those that it should have named and did not."""

    session_id: str
    confirmed: tuple[HeldLease, ...] = ()
    forgotten: tuple[int, ...] = ()


def begin(store: Store, now: int, items: Sequence[Begin]) -> list[Begun | TowpathError]:
    """Begin sessions one after the other: two of the same worker may come together."""
    return [_begin(store, now, item) for item in items]


def _begin(store: Store, now: int, item: Begin) -> Begun:
    # By lease, not by job: a worker may still tell of an old lease of a job that it was given again.
    named = dict.fromkeys(item.held)
    held = store.find(HeldBy(item.old_session_id), MOST_HELD) if item.old_session_id else []
    known = {job.job_id for job in held}
    others = store.load(list(dict.fromkeys(lease.job_id for lease in named if lease.job_id not in known)))
    changes = Changes(store, {job.job_id: job for job in held}, now)
    for job in held:
        lease = HeldLease(job.job_id, job.lease.token if job.lease is not None else "")
        if lease in named:
            del named[lease]
            changes.apply(job.job_id, Adopted(lease.token, item.worker.session_id))
        else:
            changes.apply(job.job_id, WorkerLost())
    for lease in list(named):
        lost = others.get(lease.job_id)
        if lost is not None and _can_go_on(lost, lease, item.worker):
            changes.take(lost)
            changes.apply(lost.job_id, Adopted(lease.token, item.worker.session_id))
            del named[lease]
    late = tuple(lease for lease in named if _counts_late(others.get(lease.job_id), lease))
    superseded = tuple(lease for lease in named if lease not in late)
    told = changes.save()
    store.put([item.worker, *item.models])
    if item.gone_models:
        store.remove(list(item.gone_models))
    return Begun(tuple(told), late, superseded)


def _can_go_on(job: Job, lease: HeldLease, worker: Worker) -> bool:
    return job.state is JobState.QUEUED and job.worker_id == worker.worker_id and job.last_token == lease.token != ""


def _counts_late(job: Job | None, lease: HeldLease) -> bool:
    return job is not None and job.lease is None and job.last_token == lease.token != ""


def end(store: Store, now: int, items: Sequence[End]) -> list[Committed | TowpathError]:
    """End sessions."""
    outcomes: list[Committed | TowpathError] = []
    for item in items:
        held = store.find(HeldBy(item.session_id), MOST_HELD)
        changes = Changes(store, {job.job_id: job for job in held}, now)
        for job in held:
            if item.released and job.lease is not None:
                changes.apply(job.job_id, Released(job.lease.token, "the worker stopped"))
            else:
                changes.apply(job.job_id, WorkerLost())
        outcomes.append(Committed(tuple(changes.save())))
        store.put([item.worker])
    return outcomes


def recount(store: Store, now: int, items: Sequence[Recount]) -> list[Committed | TowpathError]:
    """Hold what the scheduler thinks that sessions hold against what they say."""
    ids = [lease.job_id for item in items for lease in item.confirmed]
    ids += [job_id for item in items for job_id in item.forgotten]
    changes = Changes.load(store, ids, now)
    for item in items:
        for lease in item.confirmed:
            if _held(changes.get(lease.job_id), item.session_id, lease.token):
                changes.apply(lease.job_id, Confirmed(lease.token))
        for job_id in item.forgotten:
            if _held(changes.get(job_id), item.session_id, None):
                changes.apply(job_id, WorkerLost())
    return [Committed(tuple(changes.save())), *(Committed() for _ in items[1:])]


def _held(job: Job | None, session_id: str, token: str | None) -> bool:
    if job is None or job.lease is None or job.lease.session_id != session_id:
        return False
    return token is None or job.lease.token == token


BEGIN = Verb("begin", begin)
END = Verb("end", end)
RECOUNT = Verb("recount", recount)
