"""Removing a worker for good."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from towpath_server.core.errors import TowpathError, WorkerNotFound
from towpath_server.core.events import WorkerLost
from towpath_server.core.ids import show
from towpath_server.core.records import AuditEvent, ModelRecord, Principal, Role, Token, Worker
from towpath_server.scheduler.changes import Change, Changes
from towpath_server.scheduler.transactions.recording import record
from towpath_server.scheduler.transactions.sessions import MOST_HELD
from towpath_server.scheduler.transactions.tokens import Revoke, revoke
from towpath_server.store.base import HeldBy, Store
from towpath_server.store.committer import Verb


@dataclass(frozen=True, slots=True)
class Remove:
    """A worker of the caller's is to be forgotten."""

    principal: Principal
    worker_id: int
    audit: AuditEvent
    # What is told of the credential, where that is void afterwards.
    revoked: AuditEvent | None = None


@dataclass(frozen=True, slots=True)
class Removed:
    """The worker and its models as they were, its credential where that is void now, and the jobs that it lost."""

    worker: Worker
    models: tuple[ModelRecord, ...]
    credential: Token | None
    changes: tuple[Change, ...]


def remove(store: Store, now: int, items: Sequence[Remove]) -> list[Removed | TowpathError]:
    """Forget workers with their models. What they run is lost to others; credentials of theirs alone are void."""
    return [_remove(store, now, item) for item in items]


def _remove(store: Store, now: int, item: Remove) -> Removed | TowpathError:
    who, name = item.principal, show("wkr", item.worker_id)
    worker = next(iter(store.records(Worker, [(item.worker_id,)])), None)
    if worker is None or not who.owns(worker.tenant, worker.user):
        return WorkerNotFound(worker_id=name)
    held = store.find(HeldBy(worker.session_id), MOST_HELD) if worker.session_id else []
    changes = Changes(store, {job.job_id: job for job in held}, now)
    for job in held:
        changes.apply(job.job_id, WorkerLost())
    told = changes.save()
    models = tuple(model for model in store.records(ModelRecord) if model.worker_id == worker.worker_id)
    store.remove([worker, *models])
    credential = _revoke(store, now, worker, item.revoked)
    details = {"name": worker.name, "user": worker.user}
    if credential is not None:
        details["revoked"] = show("tok", credential.token_id)
    record(store, [replace(item.audit, details=details)])
    return Removed(worker, models, credential, tuple(told))


def _revoke(store: Store, now: int, worker: Worker, told: AuditEvent | None) -> Token | None:
    """The worker's credential, void now; None where others come with it, or where it is more than a credential."""
    token = next(iter(store.records(Token, [(worker.token_id,)])), None)
    if token is None or token.role is not Role.WORKER:
        return None
    if any(other.token_id == token.token_id for other in store.records(Worker)):
        return None
    if told is not None:
        details = {"name": token.name, "of": token.user, "worker": show("wkr", worker.worker_id)}
        told = replace(told, subject=show("tok", token.token_id), details=details)
    [revoked] = revoke(store, now, [Revoke(token.token_id, told)])
    return revoked if isinstance(revoked, Token) else None


REMOVE = Verb("remove", remove)
