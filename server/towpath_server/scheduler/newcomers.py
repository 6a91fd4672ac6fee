"""Which workers may begin a session: no more of a user's than anybody looks after, and none shared by itself."""

from __future__ import annotations

from towpath_server.core.errors import Forbidden, TooBusy
from towpath_server.core.job import SECOND
from towpath_server.core.records import Principal, Role, Share, Worker
from towpath_server.scheduler.state import State

# Of a user: each is kept until somebody removes it. Whoever has as many is to come back once in a while only.
MOST_WORKERS, LATER = 20_000, 60 * SECOND

_SHARE = (
    "share a worker with the tenant. Start the worker without `--share tenant`, or ask an admin for an invitation that "
    "allows it: `towpath workers invite --share tenant`"
)


def demand_share(principal: Principal, share: Share) -> None:
    """Raises `Forbidden` where a worker shares more than its token may."""
    if share is Share.TENANT and Share.TENANT is not principal.share and principal.role is not Role.ADMIN:
        raise Forbidden(what=_SHARE)


def demand_place(state: State, worker: Worker) -> None:
    """Raises `TooBusy` where this is one more of a user that has very many; those that are known come back.

    Of many that come at the same moment a few more may get in: it is a bound for the disk and the memory.
    """
    known, owner = state.workers.get(worker.worker_id), (worker.tenant, worker.user)
    is_new = known is None or (known.tenant, known.user) != owner
    if is_new and state.workers_of[owner] >= MOST_WORKERS:
        advice = "remove those that are gone: `towpath workers list --all`, `towpath workers remove`"
        many = TooBusy(what=f"user {worker.user} has {MOST_WORKERS} workers already ({advice})")
        many.retry_after = LATER
        raise many
