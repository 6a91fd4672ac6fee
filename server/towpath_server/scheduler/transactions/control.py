"""What submitters and operators do to jobs that exist."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from towpath_server.core.errors import Conflict, JobNotFound, NotFinal, TowpathError
from towpath_server.core.events import Event, Retry
from towpath_server.core.ids import show
from towpath_server.core.job import Job
from towpath_server.core.records import AuditEvent, Principal
from towpath_server.scheduler.changes import Change, Changes, Committed
from towpath_server.scheduler.filters import owned
from towpath_server.scheduler.transactions.dedupe import Holders
from towpath_server.scheduler.transactions.recording import record
from towpath_server.store.base import OwnedBy, Store
from towpath_server.store.committer import Verb

# Of the jobs of one call.
MOST_NAMED = 10


@dataclass(frozen=True, slots=True)
class Command:
    """An event for one job, made from the job as it stands; only at this revision where one is given."""

    principal: Principal
    job_id: int
    event: Callable[[Job], Event]
    revision: int | None = None
    audit: AuditEvent | None = None
    # Of many jobs for which one call asks this; 0: of one job.
    call: int = 0


@dataclass(frozen=True, slots=True)
class Commanded:
    """The job after the command, and the changes to tell of."""

    job: Job
    changes: tuple[Change, ...]


@dataclass(frozen=True, slots=True)
class Deletion:
    """A final job to delete."""

    principal: Principal
    job_id: int
    audit: AuditEvent | None = None


def command(store: Store, now: int, items: Sequence[Command]) -> list[Commanded | TowpathError]:
    """Move each job as it was commanded."""
    changes = Changes(store, _load(store, items), now)
    holders = Holders(store, (job for job in changes.jobs() if job.state.is_final))
    refused: dict[int, TowpathError] = {}
    moved: set[int] = set()
    told: list[Command] = []
    for index, item in enumerate(items):
        try:
            job = visible(item.principal, item.job_id, changes.get(item.job_id))
            if item.revision is not None and (item.revision != job.revision or item.job_id in moved):
                raise Conflict(what=f"job {show('job', job.job_id)}")
            event = item.event(job)
            if isinstance(event, Retry):
                holders.demand_free(job)
            after = changes.apply(item.job_id, event)
            if after is not job:
                moved.add(item.job_id)
                holders.moved(after)
                if item.audit is not None:
                    told.append(item)
        except TowpathError as error:
            refused[index] = error
    if told:
        record(store, _by_call(told))
    by_id = {change.after.job_id: change for change in changes.save() if change.after is not None}
    outcomes: list[Commanded | TowpathError] = []
    for index, item in enumerate(items):
        job_now = changes.get(item.job_id)
        if index in refused or job_now is None:
            outcomes.append(refused[index])
        else:
            mine = by_id.pop(item.job_id, None)
            outcomes.append(Commanded(job_now, (mine,) if mine is not None else ()))
    return outcomes


def delete(store: Store, now: int, items: Sequence[Deletion]) -> list[Committed | TowpathError]:
    """Delete final jobs."""
    jobs = _load(store, items)
    gone: list[Deletion] = []
    outcomes: list[Committed | TowpathError] = []
    for item in items:
        try:
            job = visible(item.principal, item.job_id, jobs.get(item.job_id))
            if not job.state.is_final:
                raise NotFinal(job_id=show("job", job.job_id), state=job.state.name)
            outcomes.append(Committed((Change(jobs.pop(item.job_id), None),)))
            gone.append(item)
        except TowpathError as error:
            outcomes.append(error)
    if gone:
        store.delete([item.job_id for item in gone])
        record(store, (item.audit for item in gone))
    return outcomes


def _by_call(told: Sequence[Command]) -> list[AuditEvent]:
    """One event a call, however many jobs of it were moved."""
    calls: dict[tuple[int, int], list[Command]] = {}
    for item in told:
        calls.setdefault((item.call, 0 if item.call else item.job_id), []).append(item)
    return [event for items in calls.values() if (event := _of_call(items)) is not None]


def _of_call(items: Sequence[Command]) -> AuditEvent | None:
    event = items[0].audit
    if event is None or not items[0].call:
        return event
    first = " ".join(show("job", item.job_id) for item in items[:MOST_NAMED])
    return replace(event, subject="", details={"count": str(len(items)), "jobs": first, **event.details})


def visible(principal: Principal, job_id: int, job: Job | None) -> Job:
    """The job, where this caller may see it; else the same answer as for a job that never was."""
    if job is None or not principal.owns(job.definition.tenant, job.definition.user):
        raise JobNotFound(job_id=show("job", job_id))
    return job


def _load(store: Store, items: Sequence[Command] | Sequence[Deletion]) -> dict[int, Job]:
    """The jobs that their callers may see. What is read of another would show that there is one."""
    asked: dict[OwnedBy, dict[int, None]] = {}
    for item in items:
        asked.setdefault(owned(item.principal, ()), {})[item.job_id] = None
    queries = [replace(whose, job_ids=tuple(job_ids)) for whose, job_ids in asked.items()]
    return {job.job_id: job for query in queries for job in store.find(query, len(query.job_ids))}


COMMAND = Verb("command", command)
DELETE = Verb("delete", delete)
