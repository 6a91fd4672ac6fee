"""Which jobs a caller may see and wants: as a test of one job, and as a query for the store."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from towpath_server.core.job import Job
from towpath_server.core.records import Principal
from towpath_server.scheduler.messages import JobFilter
from towpath_server.store.base import Matching, OwnedBy


def selector(principal: Principal, wanted: JobFilter) -> Callable[[Job], bool]:
    """The test whether this caller may see a job and wants it: every watch asks it of every change."""
    states, labels = frozenset(wanted.states), dict(wanted.labels).items()
    named = ("queue", "job_type", "user", "workspace")
    asked = [(name, value) for name in named if (value := getattr(wanted, name)) is not None]

    def selects(job: Job) -> bool:
        if states and job.state not in states:
            return False
        definition = job.definition
        if not principal.owns(definition.tenant, definition.user) or wanted.worker_id not in (None, job.worker_id):
            return False
        if asked and any(getattr(definition, name) != value for name, value in asked):
            return False
        return not labels or labels <= dict(definition.labels).items()

    return selects


def owned(principal: Principal, job_ids: Iterable[int]) -> OwnedBy:
    """The store's query for those of the jobs that this caller may see."""
    sees_all = principal.owns(principal.tenant, "")
    return OwnedBy(tuple(dict.fromkeys(job_ids)), principal.tenant, None if sees_all else principal.user)


def matching(principal: Principal, wanted: JobFilter) -> Matching:
    """The store's query for what this caller wants and may see."""
    user = wanted.user
    if not principal.owns(principal.tenant, ""):
        # Not an admin: another user's jobs do not exist. No user has a name with a NUL.
        user = principal.user if user in (None, principal.user) else "\0"
    return Matching(
        tenant=principal.tenant,
        user=user,
        states=wanted.states,
        queue=wanted.queue,
        job_type=wanted.job_type,
        workspace=wanted.workspace,
        labels=wanted.labels,
        worker_id=wanted.worker_id,
    )
