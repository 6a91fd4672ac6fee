"""Which jobs a caller may see and wants: as a test of one job, and as a query for the store."""

from __future__ import annotations

from towpath_server.core.job import Job
from towpath_server.core.records import Principal
from towpath_server.scheduler.messages import JobFilter
from towpath_server.store.base import Matching


def fits(principal: Principal, wanted: JobFilter, job: Job) -> bool:
    """Whether this caller may see the job and wants it."""
    definition = job.definition
    return (
        principal.owns(definition.tenant, definition.user)
        and (not wanted.states or job.state in wanted.states)
        and wanted.queue in (None, definition.queue)
        and wanted.job_type in (None, definition.job_type)
        and wanted.user in (None, definition.user)
        and wanted.workspace in (None, definition.workspace)
        and wanted.worker_id in (None, job.worker_id)
        and wanted.labels.items() <= definition.labels.items()
    )


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
