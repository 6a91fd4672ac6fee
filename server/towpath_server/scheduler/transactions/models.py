"""Which models come into the catalogue by a worker's word, and whose they are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from towpath_server.core.errors import SessionUnknown, TowpathError
from towpath_server.core.records import ModelRecord, Share, Worker
from towpath_server.store.base import Store
from towpath_server.store.committer import Verb


@dataclass(frozen=True, slots=True)
class Sync:
    """A worker holds these models, and not any more those that are gone."""

    worker: Worker
    models: tuple[ModelRecord, ...]
    gone: tuple[ModelRecord, ...]


def owned(models: Iterable[ModelRecord], worker: Worker) -> list[ModelRecord]:
    """The models as this worker's: each is of the user for whom it was trained, where the worker says for whom.

    What it holds of users whom it does not serve, as it was shared once, is left out.
    """
    whose = {worker.user} if worker.share is Share.USER else None
    told = [
        replace(model, worker_id=worker.worker_id, tenant=worker.tenant, user=model.user or worker.user)
        for model in models
        if model.tenant in ("", worker.tenant)
    ]
    return [model for model in told if whose is None or model.user in whose]


def free(store: Store, models: Sequence[ModelRecord]) -> list[ModelRecord]:
    """Those of the models that may be kept: no worker takes what lies on another user's by naming its id."""
    known = {one.model_id: one for one in store.records(ModelRecord, [(model.model_id,) for model in models])}
    moved = [(model, known[model.model_id]) for model in models if model.model_id in known]
    ids = {worker_id for model, before in moved for worker_id in (model.worker_id, before.worker_id)}
    if all(model.worker_id == before.worker_id for model, before in moved):
        return list(models)
    owners = {one.worker_id: (one.tenant, one.user) for one in store.records(Worker, [(each,) for each in sorted(ids)])}
    taken = {
        model.model_id
        for model, before in moved
        if owners.get(model.worker_id) != owners.get(before.worker_id, (before.tenant, before.user))
    }
    return [model for model in models if model.model_id not in taken]


def sync(store: Store, now: int, items: Sequence[Sync]) -> list[list[ModelRecord] | TowpathError]:
    """Bring the catalogue in line with what lies on the workers' machines; what is kept of each."""
    outcomes: list[list[ModelRecord] | TowpathError] = []
    for item in items:
        if not store.records(Worker, [(item.worker.worker_id,)]):
            # It was removed meanwhile.
            outcomes.append(SessionUnknown())
            continue
        kept = free(store, owned(item.models, item.worker))
        if item.gone:
            store.remove(list(item.gone))
        if kept:
            store.put(kept)
        outcomes.append(kept)
    return outcomes


SYNC = Verb("sync models", sync)
