"""What the begin and the end of a worker's session do to the jobs that it holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from towpath_server.core.errors import TowpathError, WorkerNotFound
from towpath_server.core.events import Adopted, Confirmed, Released, WorkerLost
from towpath_server.core.ids import show
from towpath_server.core.job import Job, JobState
from towpath_server.core.records import AuditEvent, ModelRecord, Principal, Replica, Worker
from towpath_server.scheduler.changes import Change, Changes, Committed
from towpath_server.scheduler.messages import HeldLease
from towpath_server.scheduler.transactions.models import free, owned
from towpath_server.scheduler.transactions.recording import record
from towpath_server.store.base import HeldBy, Store
from towpath_server.store.committer import Verb

MOST_HELD = 100_000


@dataclass(frozen=True, slots=True)
class Begin:
    """A session begins. A worker that is not known, or is another user's, gets `fresh_id`.

    The worker goes on with the leases that it names, also with those that were thought lost and given to nobody since.
    """

    worker: Worker
    fresh_id: int
    held: tuple[HeldLease, ...]
    models: tuple[ModelRecord, ...]
    gone_models: tuple[ModelRecord, ...]
    audit: AuditEvent | None = None


@dataclass(frozen=True, slots=True)
class Begun:
    """The worker and its models as they are kept now; the jobs that changed hands, those whose late result would still
    count, and the leases that are over."""

    worker: Worker
    models: tuple[ModelRecord, ...]
    gone_models: tuple[ModelRecord, ...]
    changes: tuple[Change, ...]
    late: tuple[HeldLease, ...]
    superseded: tuple[HeldLease, ...]


@dataclass(frozen=True, slots=True)
class End:
    """The session of a worker ends: its jobs are lost with the worker, or given back by it.

    Where another scheduler has taken it over, only the worker itself may end it.
    """

    worker: Worker
    released: bool


@dataclass(frozen=True, slots=True)
class Ended:
    """The worker as it is kept now, where it was still this session's; and the jobs that it lost."""

    worker: Worker | None
    changes: tuple[Change, ...]


@dataclass(frozen=True, slots=True)
class Adopt:
    """A scheduler takes sessions over that lived on others, which are `dead` as they were last heard of, or gone."""

    sessions: tuple[Worker, ...]
    replica_id: int
    dead: tuple[Replica, ...]


@dataclass(frozen=True, slots=True)
class Drain:
    """A worker of the caller's is to take no more."""

    principal: Principal
    worker_id: int
    audit: AuditEvent | None = None


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
    known = _stored(store, item.worker.worker_id)
    if known is None or (known.tenant, known.user) != (item.worker.tenant, item.worker.user):
        worker, old_session_id = replace(item.worker, worker_id=item.fresh_id), ""
    else:
        worker, old_session_id = replace(item.worker, create_time=known.create_time), known.session_id
    # By lease, not by job: a worker may still tell of an old lease of a job that it was given again.
    named = dict.fromkeys(item.held)
    held = store.find(HeldBy(old_session_id), MOST_HELD) if old_session_id else []
    mine = {job.job_id for job in held}
    others = store.load(list(dict.fromkeys(lease.job_id for lease in named if lease.job_id not in mine)))
    changes = Changes(store, {job.job_id: job for job in held}, now)
    for job in held:
        lease = HeldLease(job.job_id, job.lease.token if job.lease is not None else "")
        if lease in named:
            del named[lease]
            changes.apply(job.job_id, Adopted(lease.token, worker.session_id))
        else:
            changes.apply(job.job_id, WorkerLost())
    for lease in list(named):
        lost = others.get(lease.job_id)
        if lost is not None and _can_go_on(lost, lease, worker):
            changes.take(lost)
            changes.apply(lost.job_id, Adopted(lease.token, worker.session_id))
            del named[lease]
    late = tuple(lease for lease in named if _counts_late(others.get(lease.job_id), lease))
    superseded = tuple(lease for lease in named if lease not in late)
    told = changes.save()
    store.put([worker])
    # A session that begins again is nothing to tell of.
    again = known is not None and (known.worker_id, known.token_id, known.share) == (
        worker.worker_id,
        worker.token_id,
        worker.share,
    )
    if item.audit is not None and not again:
        record(store, [replace(item.audit, subject=show("wkr", worker.worker_id))])
    models = tuple(free(store, owned(item.models, worker)))
    gone = item.gone_models if worker.worker_id != item.fresh_id else ()
    if models:
        store.put(models)
    if gone:
        store.remove(list(gone))
    return Begun(worker, models, gone, tuple(told), late, superseded)


def _stored(store: Store, worker_id: int) -> Worker | None:
    return next(iter(store.records(Worker, [(worker_id,)])), None)


def _can_go_on(job: Job, lease: HeldLease, worker: Worker) -> bool:
    return job.state is JobState.QUEUED and job.worker_id == worker.worker_id and job.last_token == lease.token != ""


def _counts_late(job: Job | None, lease: HeldLease) -> bool:
    return job is not None and job.lease is None and job.last_token == lease.token != ""


def end(store: Store, now: int, items: Sequence[End]) -> list[Ended | TowpathError]:
    """End sessions."""
    outcomes: list[Ended | TowpathError] = []
    for item in items:
        known, session_id = _stored(store, item.worker.worker_id), item.worker.session_id
        # It may have begun another one since, and perhaps at another scheduler.
        mine = known if known is not None and known.session_id == session_id else None
        if mine is not None and mine.replica_id != item.worker.replica_id and not item.released:
            outcomes.append(Ended(None, ()))
            continue
        held = store.find(HeldBy(session_id), MOST_HELD)
        changes = Changes(store, {job.job_id: job for job in held}, now)
        for job in held:
            if item.released and job.lease is not None:
                changes.apply(job.job_id, Released(job.lease.token, "the worker stopped"))
            else:
                changes.apply(job.job_id, WorkerLost())
        offline = None
        if mine is not None:
            offline = replace(mine, session_id="")
            store.put([offline])
        outcomes.append(Ended(offline, tuple(changes.save())))
    return outcomes


def adopt(store: Store, now: int, items: Sequence[Adopt]) -> list[list[Worker] | TowpathError]:
    """Take sessions over, those that nobody else has taken meanwhile."""
    outcomes: list[list[Worker] | TowpathError] = []
    for item in items:
        thought = {worker.worker_id: worker for worker in item.sessions}
        # One may have begun, or beaten again, since it was looked at.
        dead = {(one.replica_id, one.life, one.beat) for one in item.dead}
        living = {one.replica_id for one in store.records(Replica) if (one.replica_id, one.life, one.beat) not in dead}
        adopted = [
            replace(known, replica_id=item.replica_id)
            for known in store.records(Worker, [(worker_id,) for worker_id in thought])
            if known.session_id == thought[known.worker_id].session_id and known.replica_id not in living
        ]
        if adopted:
            store.put(adopted)
        outcomes.append(adopted)
    return outcomes


def drain(store: Store, now: int, items: Sequence[Drain]) -> list[Worker | TowpathError]:
    """Let workers take no more: each as it is, whatever session it has."""
    outcomes: list[Worker | TowpathError] = []
    for item in items:
        known = _stored(store, item.worker_id)
        if known is None or not item.principal.owns(known.tenant, known.user):
            outcomes.append(WorkerNotFound(worker_id=show("wkr", item.worker_id)))
            continue
        draining = replace(known, draining=True)
        store.put([draining])
        if not known.draining:
            record(store, [item.audit])
        outcomes.append(draining)
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
ADOPT = Verb("adopt", adopt)
DRAIN = Verb("drain", drain)
RECOUNT = Verb("recount", recount)
