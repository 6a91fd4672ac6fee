"""Whose jobs a worker may run, and how many may run at once, in the contract's words and not in the scheduler's."""

from __future__ import annotations

from collections.abc import Mapping

from support.simulation.ledger import Ledger
from towpath_server.core.job import Definition, Job
from towpath_server.core.records import Quota, Share, Worker

# A tenant and its user; with no user, the tenant as a whole.
Owner = tuple[str, str]


def serves_user(worker: Worker, definition: Definition) -> bool:
    """Whether the worker may run jobs of this user."""
    if worker.tenant != definition.tenant:
        return False
    return worker.share is Share.TENANT or worker.user == definition.user


def may_run(worker: Worker, definition: Definition) -> bool:
    """Whether the worker may run such a job: nobody asks for more here than a type."""
    return serves_user(worker, definition) and definition.job_type in worker.job_types


def owners(definition: Definition) -> tuple[Owner, Owner]:
    """For whom a job counts."""
    return (definition.tenant, definition.user), (definition.tenant, "")


def quota_for(quotas: Mapping[Owner, Quota], owner: Owner) -> Quota | None:
    """What holds for a user, or for a tenant as a whole."""
    own = quotas.get(owner)
    return quotas.get(("", "")) if own is None and not owner[1] else own


def running(ledger: Ledger, owner: Owner) -> int:
    """How many jobs are on workers."""
    return sum(job.lease is not None and _is_of(job, owner) for job in ledger.jobs.values())


def queued(ledger: Ledger, owner: Owner) -> int:
    """How many jobs are to run some time."""
    return sum(job.lease is None and not job.state.is_final and _is_of(job, owner) for job in ledger.jobs.values())


def most_running(ledger: Ledger, owner: Owner, since: int) -> int | None:
    """How many jobs may run by the quota that held at this commit, or by any that came later; None: all of them."""
    first = max(at for at, (number, _) in enumerate(ledger.quotas) if number <= since)
    most = 0
    for _, quotas in ledger.quotas[first:]:
        quota = quota_for(quotas, owner)
        if quota is None or quota.max_running is None:
            return None
        most = max(most, quota.max_running)
    return most


def is_limited(ledger: Ledger, owner: Owner, since: int) -> bool:
    """Whether the quota that held at this commit limits what runs, or any that came later."""
    first = max(at for at, (number, _) in enumerate(ledger.quotas) if number <= since)
    held = (quota_for(quotas, owner) for _, quotas in ledger.quotas[first:])
    return any(quota is not None and quota.max_running is not None for quota in held)


def has_room(ledger: Ledger, definition: Definition) -> bool:
    """Whether one more job of this user may run."""
    for owner in owners(definition):
        quota = quota_for(ledger.quotas[-1][1], owner)
        if quota is not None and quota.max_running is not None and running(ledger, owner) >= quota.max_running:
            return False
    return True


def _is_of(job: Job, owner: Owner) -> bool:
    return job.definition.tenant == owner[0] and owner[1] in ("", job.definition.user)
