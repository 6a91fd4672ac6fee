"""Which things in memory fit a query: in plain words of Python what the other stores say in SQL."""

from __future__ import annotations

from collections.abc import Sequence

from towpath_server.core.job import Job, JobState
from towpath_server.core.records import AuditEvent
from towpath_server.store.base import Matching, Recorded


def dispatch_order(job: Job) -> tuple[int, int]:
    """What jobs of a lane are sorted by: the best has the smallest."""
    return (-job.priority, job.position)


def oldest(state: JobState, jobs: Sequence[Job]) -> int | None:
    """When the first of these jobs in this state entered its queue."""
    if state is not JobState.QUEUED:
        return None
    return min((job.queue_time for job in jobs if job.queue_time is not None), default=None)


def follows(job: Job, wanted: Matching) -> bool:
    """Whether the job comes after the one that a page begins behind."""
    if wanted.after is None:
        return True
    return job.job_id > wanted.after if wanted.ascending else job.job_id < wanted.after


def fits(job: Job, wanted: Matching) -> bool:
    """Whether the job has all that is asked for, wherever the page begins."""
    asked = job.definition
    return (
        asked.tenant == wanted.tenant
        and (wanted.user is None or asked.user == wanted.user)
        and (not wanted.states or job.state in wanted.states)
        and (wanted.queue is None or asked.queue == wanted.queue)
        and (wanted.job_type is None or asked.job_type == wanted.job_type)
        and (wanted.workspace is None or asked.workspace == wanted.workspace)
        and wanted.labels.items() <= asked.labels.items()
        and (wanted.worker_id is None or job.worker_id == wanted.worker_id)
        and (wanted.changed_after is None or job.sequence > wanted.changed_after)
        and (wanted.ended_before is None or (job.end_time is not None and job.end_time <= wanted.ended_before))
    )


def recorded(event: AuditEvent, wanted: Recorded) -> bool:
    """Whether the event is one of those asked for."""
    action = wanted.action
    return (
        (wanted.tenants is None or event.tenant in wanted.tenants)
        and (event.action.startswith(action) if action.endswith(".") else action in ("", event.action))
        and wanted.user in ("", event.user)
        and wanted.subject in ("", event.subject)
        and (wanted.before is None or event.event_id < wanted.before)
    )
