"""Creating jobs: idempotent by request_id, and already leased where a worker was waiting."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from towpath_server.core import lifecycle
from towpath_server.core.errors import RequestIdReused, TowpathError
from towpath_server.core.events import Claimed
from towpath_server.core.evolve import evolve
from towpath_server.core.job import Definition, Job, Lease, Priority
from towpath_server.core.records import Lane, Queue
from towpath_server.scheduler.changes import Change
from towpath_server.store.base import ByRequest, Store
from towpath_server.store.committer import Verb

RequestKey = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Draft:
    """A job that is to be, with the lease that it is born with where a worker was waiting."""

    job_id: int
    definition: Definition
    lane_id: int
    priority: Priority
    lease: Lease | None = None


@dataclass(frozen=True, slots=True)
class CreateItem:
    """All jobs of one call, with the lanes and queues that may be new with them."""

    drafts: tuple[Draft, ...]
    lanes: tuple[Lane, ...] = ()
    queues: tuple[Queue, ...] = ()


@dataclass(frozen=True, slots=True)
class Created:
    """The jobs in the order of the drafts; only those in `changes` are new."""

    jobs: tuple[Job, ...]
    changes: tuple[Change, ...]


def run(store: Store, now: int, items: Sequence[CreateItem]) -> list[Created | TowpathError]:
    """Create the jobs of each item, all of them or none."""
    known = _known(store, items)
    new: dict[int, Job] = {}
    outcomes: list[Created | TowpathError] = []
    for item in items:
        conflict = _conflict(item, known)
        if conflict is not None:
            outcomes.append(conflict)
            continue
        jobs, changes = [], []
        for draft in item.drafts:
            key = _key(draft.definition)
            job = known.get(key) if key is not None else None
            if job is None:
                job = new[draft.job_id] = _born(draft, now, store.sequence(now))
                changes.append(Change(None, job))
                if key is not None:
                    known[key] = job
            jobs.append(job)
        outcomes.append(Created(tuple(jobs), tuple(changes)))
    lanes = {lane.lane_id: lane for item in items for lane in item.lanes}
    queues = {(queue.tenant, queue.name): queue for item in items for queue in item.queues}
    if lanes:
        store.add_lanes(list(lanes.values()))
    if queues:
        store.put(list(queues.values()))
    if new:
        store.insert(list(new.values()))
    return outcomes


def _born(draft: Draft, now: int, sequence: int) -> Job:
    job = lifecycle.create(draft.job_id, draft.definition, draft.lane_id, draft.priority, now)
    if draft.lease is not None:
        job = lifecycle.apply(job, Claimed(draft.lease), now)
    return evolve(job, sequence=sequence)


def _key(definition: Definition) -> RequestKey | None:
    if not definition.request_id:
        return None
    return (definition.tenant, definition.user, definition.request_id)


def _known(store: Store, items: Sequence[CreateItem]) -> dict[RequestKey, Job]:
    asked: dict[tuple[str, str], list[str]] = {}
    for item in items:
        for draft in item.drafts:
            definition = draft.definition
            if definition.request_id:
                asked.setdefault((definition.tenant, definition.user), []).append(definition.request_id)
    return {
        (tenant, user, job.definition.request_id): job
        for (tenant, user), request_ids in asked.items()
        for job in store.find(ByRequest(tenant, user, tuple(request_ids)), len(request_ids))
    }


def _conflict(item: CreateItem, known: dict[RequestKey, Job]) -> RequestIdReused | None:
    hashes = {key: job.definition.request_hash for key, job in known.items()}
    for draft in item.drafts:
        key = _key(draft.definition)
        if key is not None and hashes.setdefault(key, draft.definition.request_hash) != draft.definition.request_hash:
            return RequestIdReused(request_id=draft.definition.request_id)
    return None


CREATE = Verb("create", run)
