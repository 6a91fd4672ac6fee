"""What a store says that was just opened, held against what was committed."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from support.simulation.book import Book
from support.simulation.promises import nothing_acknowledged_is_lost, the_store_says_what_was_committed
from towpath_server.core.records import Queue, Quota, Worker
from towpath_server.store.base import Matching, Store

ALL = 1_000_000
TENANTS = ("acme", "evil")


def differences(store: Store, book: Book) -> Iterator[tuple[Callable[[], None], str]]:
    """What the store says too much, too little or otherwise."""
    ledger, wrong = book.ledger, the_store_says_what_was_committed
    stored = {job.job_id: job for tenant in TENANTS for job in store.find(Matching(tenant=tenant), ALL)}
    if stored != ledger.jobs:
        for job_id in stored.keys() | ledger.jobs.keys():
            if stored.get(job_id) != ledger.jobs.get(job_id):
                yield wrong, f"{stored.get(job_id)} instead of {ledger.jobs.get(job_id)}"
    for job_id in stored:
        if store.attempts(job_id) != [one for _, one in sorted(ledger.attempts.get(job_id, {}).items())]:
            yield wrong, f"the attempts of job {job_id}"
    if {(queue.tenant, queue.name): queue for queue in store.records(Queue)} != ledger.queues:
        yield wrong, "the queues"
    if {(quota.tenant, quota.user): quota for quota in store.records(Quota)} != ledger.quotas[-1][1]:
        yield wrong, "the quotas"
    if {worker.worker_id: worker for worker in store.records(Worker)} != ledger.workers:
        yield wrong, "the workers"
    for job_id in book.acknowledged:
        if job_id not in stored and job_id not in ledger.gone:
            yield nothing_acknowledged_is_lost, f"job {job_id}"
