"""The small records that other schedulers have changed: what is kept of them in memory follows."""

from __future__ import annotations

from collections.abc import Sequence

from towpath_server.core.records import ModelRecord, Queue, Quota, Token, Worker
from towpath_server.scheduler.access import Access
from towpath_server.scheduler.quotas import Quotas
from towpath_server.scheduler.state import State
from towpath_server.scheduler.workers import Workers
from towpath_server.store.base import Record, RecordKey, RecordT, key_of


class Hearsay:
    """Brings tokens, queues, workers, models and quotas in memory up to date."""

    def __init__(self, state: State, workers: Workers, access: Access, quotas: Quotas) -> None:
        self._state = state
        self._workers = workers
        self._access = access
        self._quotas = quotas

    async def take_in(self, changed: Sequence[tuple[type[Record], RecordKey]]) -> None:
        """These have changed, or are gone."""
        keys: dict[type[Record], list[RecordKey]] = {}
        for kind, key in changed:
            keys.setdefault(kind, []).append(key)
        tokens = {token.token_id: token for token in await self._read(Token, keys.get(Token, ()))}
        for (token_id,) in keys.get(Token, ()):
            if int(token_id) not in tokens:
                self._access.forget(int(token_id))
        for token in tokens.values():
            self._access.hear(token)
        for queue in await self._read(Queue, keys.get(Queue, ())):
            self._meet_queue(queue)
        workers = {worker.worker_id: worker for worker in await self._read(Worker, keys.get(Worker, ()))}
        for (worker_id,) in keys.get(Worker, ()):
            if int(worker_id) not in workers:
                if (session := self._state.sessions.of_worker(int(worker_id))) is not None:
                    # Until this moment it may have been handed jobs: whoever removed it knew nothing of them.
                    self._workers.end_later(session)
                self._state.forget_worker(int(worker_id))
        for worker in workers.values():
            known = self._state.workers.get(worker.worker_id)
            # What was read may be older than what happened here since.
            if known is None or worker.connect_time >= known.connect_time:
                self._state.meet(worker)
        await self._meet_models(keys.get(ModelRecord, ()))
        await self._meet_quotas(keys.get(Quota, ()))

    async def _read(self, kind: type[RecordT], keys: Sequence[RecordKey]) -> list[RecordT]:
        return await self._state.committer.follow(lambda store: store.records(kind, keys)) if keys else []

    def _meet_queue(self, queue: Queue) -> None:
        key = (queue.tenant, queue.name)
        known = self._state.queues.get(key)
        self._state.queues[key] = queue
        was_paused = known is not None and known.paused
        if queue.paused and not was_paused:
            self._state.board.pause(*key)
        elif was_paused and not queue.paused and self._state.board.resume(*key):
            self._state.waiters.wake_all()

    async def _meet_quotas(self, keys: Sequence[RecordKey]) -> None:
        if not keys:
            return
        kept = await self._read(Quota, keys)
        there = {key_of(quota) for quota in kept}
        gone = [(quota.tenant, quota.user) for quota in self._quotas.known(keys) if key_of(quota) not in there]
        await self._quotas.hear(kept, gone)

    async def _meet_models(self, keys: Sequence[RecordKey]) -> None:
        models = await self._read(ModelRecord, keys)
        there = {key_of(model) for model in models}
        gone = [model for key in keys if key not in there and (model := self._state.catalogue.get(key)) is not None]
        self._state.catalogue.discard(gone)
        self._state.catalogue.add(models)
        for worker_id in {model.worker_id for model in (*models, *gone)}:
            if (session := self._state.sessions.of_worker(worker_id)) is not None:
                self._state.refresh_profile(session)
