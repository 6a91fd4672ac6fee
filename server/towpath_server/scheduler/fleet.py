"""The verbs of those who look after workers."""

from __future__ import annotations

from dataclasses import replace

from towpath_server.core.errors import WorkerNotFound
from towpath_server.core.ids import show
from towpath_server.core.records import Principal, Worker
from towpath_server.scheduler import audit, presence
from towpath_server.scheduler.access import Access
from towpath_server.scheduler.messages import Load, WorkerState, WorkerView
from towpath_server.scheduler.state import State
from towpath_server.scheduler.transactions.removal import REMOVE, Remove
from towpath_server.scheduler.transactions.sessions import DRAIN, Drain
from towpath_server.scheduler.workers import Workers


class Fleet:
    """Looking at workers, draining and removing them."""

    def __init__(self, state: State, workers: Workers, access: Access) -> None:
        self._state = state
        self._workers = workers
        self._access = access

    def workers(self, principal: Principal, include_offline: bool) -> list[WorkerView]:
        """The workers that this caller may see, newest first."""
        mine = [worker for worker in self._state.workers.values() if principal.may_use(worker)]
        views = [self._view(principal, worker) for worker in mine]
        shown = [view for view in views if include_offline or view.state is not WorkerState.OFFLINE]
        return sorted(shown, key=lambda view: -view.worker.worker_id)

    def worker(self, principal: Principal, worker_id: int) -> WorkerView:
        """One worker. Raises `WorkerNotFound`."""
        worker = self._state.workers.get(worker_id)
        if worker is None or not principal.may_use(worker):
            raise WorkerNotFound(worker_id=show("wkr", worker_id))
        return self._view(principal, worker)

    async def drain(self, principal: Principal, worker_id: int) -> WorkerView:
        """Let the worker finish what it runs and then stop. Raises `WorkerNotFound`."""
        return await self._state.carry_out(self._drain(principal, worker_id))

    async def _drain(self, principal: Principal, worker_id: int) -> WorkerView:
        told = audit.event(self._state, principal, audit.WORKER_DRAINED, show("wkr", worker_id))
        worker = await self._state.committer.submit(DRAIN, Drain(principal, worker_id, told))
        if self._state.is_current(worker):
            self._state.meet(worker)
        return self._view(principal, worker)

    async def remove(self, principal: Principal, worker_id: int) -> int | None:
        """Forget a worker, with what it held; the id of its credential, which is void now, if it had one of its own.

        Raises `WorkerNotFound`.
        """
        worker = self._state.workers.get(worker_id)
        if worker is None or not principal.owns(worker.tenant, worker.user):
            raise WorkerNotFound(worker_id=show("wkr", worker_id))
        return await self._state.carry_out(self._remove(principal, worker_id))

    async def _remove(self, principal: Principal, worker_id: int) -> int | None:
        session = self._state.sessions.of_worker(worker_id)
        if session is not None:
            # What it were handed from now on, nobody would ever miss. It is told afterwards: now it would come back at
            # once, with a credential that is still good.
            session.over = True
            self._state.waiters.wake_session(session)
        try:
            told = audit.event(self._state, principal, audit.WORKER_REMOVED, show("wkr", worker_id))
            revoked = audit.event(self._state, principal, audit.TOKEN_REVOKED)
            removed = await self._state.committer.submit(REMOVE, Remove(principal, worker_id, told, revoked))
        except BaseException:
            if session is not None:
                self._workers.end_later(session)
            raise
        self._state.forget_worker(worker_id)
        self._state.catalogue.discard(removed.models)
        self._state.absorb(removed.changes)
        if removed.credential is None:
            return None
        self._access.hear(removed.credential)
        return removed.credential.token_id

    def _view(self, principal: Principal, worker: Worker) -> WorkerView:
        models = sum(
            principal.owns(model.tenant, model.user) for model in self._state.catalogue.on_worker(worker.worker_id)
        )
        seen = presence.seen(self._state, worker)
        if not principal.owns(worker.tenant, worker.user):
            # Whoever shares a worker tells what it can do, and not whose machine that is.
            machine = replace(worker.machine, hostname="", platform="", python_version="")
            worker = replace(worker, machine=machine)
        if seen is None:
            return WorkerView(worker, WorkerState.OFFLINE, 0, Load(), None, models)
        state = WorkerState.DRAINING if worker.draining or seen.draining else WorkerState.READY
        return WorkerView(worker, state, seen.running, seen.load, seen.last_heard, models)
