"""What is recorded of what people and machines do, and of what they are refused: the words, and how one is made."""

from __future__ import annotations

from towpath_server.core.job import NO_LABELS
from towpath_server.core.records import AuditEvent, Principal
from towpath_server.scheduler.state import State

TOKEN_CREATED = "token.created"
TOKEN_ROTATED = "token.rotated"
TOKEN_REVOKED = "token.revoked"
ENROLMENT_INVITED = "enrolment.invited"
ENROLMENT_REDEEMED = "enrolment.redeemed"
ENROLMENT_REFUSED = "enrolment.refused"
LOGIN_REFUSED = "login.refused"
ACCESS_REFUSED = "access.refused"
JOB_CANCELLED = "job.cancelled"
JOB_DELETED = "job.deleted"
JOBS_CLEANED_UP = "job.cleaned_up"
WORKER_JOINED = "worker.joined"
WORKER_DRAINED = "worker.drained"
WORKER_REMOVED = "worker.removed"
QUEUE_PAUSED = "queue.paused"
QUEUE_RESUMED = "queue.resumed"
QUOTA_SET = "quota.set"
QUOTA_DELETED = "quota.deleted"

# What the scheduler does of itself comes from here.
SCHEDULER = "scheduler"
# Of each text: what a caller wrote may be long.
LONGEST = 200


def event(
    state: State, principal: Principal | None, action: str, subject: str = "", **details: str | int | None
) -> AuditEvent:
    """What this caller does, or the scheduler itself; to be written by the transaction that does it.

    Details that are None or empty are left out. Never give it a secret.
    """
    told = {name: str(value)[:LONGEST] for name, value in details.items() if value not in (None, "")}
    return AuditEvent(
        event_id=state.event_ids.next(),
        time=state.clock.wall(),
        action=action,
        tenant=principal.tenant if principal is not None else "",
        user=principal.user if principal is not None else "",
        token_id=principal.token_id if principal is not None else 0,
        origin=principal.origin if principal is not None else SCHEDULER,
        subject=subject[:LONGEST],
        details=told or NO_LABELS,
    )
