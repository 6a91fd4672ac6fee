"""The verbs of those who look after workers."""

from __future__ import annotations

from towpath_server.core.errors import WorkerNotFound
from towpath_server.core.ids import show
from towpath_server.core.records import Principal, Worker
from towpath_server.scheduler import presence
from towpath_server.scheduler.messages import Load, WorkerState, WorkerView
from towpath_server.scheduler.state import State
from towpath_server.scheduler.transactions.sessions import DRAIN, Drain


class Fleet:
    """Looking at workers, and draining them."""

    def __init__(self, state: State) -> None:
        self._state = state

    def workers(self, principal: Principal, include_offline: bool) -> list[WorkerView]:
        """The workers that this caller may see, newest first."""
        views = [
            self._view(worker) for worker in self._state.workers.values() if principal.owns(worker.tenant, worker.user)
        ]
        shown = [view for view in views if include_offline or view.state is not WorkerState.OFFLINE]
        return sorted(shown, key=lambda view: -view.worker.worker_id)

    def worker(self, principal: Principal, worker_id: int) -> WorkerView:
        """One worker. Raises `WorkerNotFound`."""
        return self._view(self._find(principal, worker_id))

    async def drain(self, principal: Principal, worker_id: int) -> WorkerView:
        """Let the worker finish what it runs and then stop. Raises `WorkerNotFound`."""
        return await self._state.carry_out(self._drain(principal, worker_id))

    async def _drain(self, principal: Principal, worker_id: int) -> WorkerView:
        worker = await self._state.committer.submit(DRAIN, Drain(principal, worker_id))
        self._state.meet(worker)
        return self._view(worker)

    def _find(self, principal: Principal, worker_id: int) -> Worker:
        worker = self._state.workers.get(worker_id)
        if worker is None or not principal.owns(worker.tenant, worker.user):
            raise WorkerNotFound(worker_id=show("wkr", worker_id))
        return worker

    def _view(self, worker: Worker) -> WorkerView:
        models = len(self._state.catalogue.on_worker(worker.worker_id))
        seen = presence.seen(self._state, worker)
        if seen is None:
            return WorkerView(worker, WorkerState.OFFLINE, 0, Load(), None, models)
        state = WorkerState.DRAINING if worker.draining or seen.draining else WorkerState.READY
        return WorkerView(worker, state, seen.running, seen.load, seen.last_heard, models)
