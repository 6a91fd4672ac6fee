"""A report stream between a worker and one life of a scheduler."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from support.simulation.network import Pipe
from towpath_server.core.errors import SessionUnknown, TowpathError
from towpath_server.core.records import Principal
from towpath_server.scheduler.messages import Directive, DirectiveType, Heartbeat, Registered, Report

if TYPE_CHECKING:
    from support.simulation.life import Life
    from support.simulation.world import World


class ServerStream:
    """The scheduler's end of a report stream: acks in order, orders as they come; None says that it is broken."""

    def __init__(
        self, world: World, life: Life, principal: Principal, registered: Registered, hear: Callable[[Any], None]
    ) -> None:
        self._world = world
        self._life = life
        self._session_id = registered.session_id
        self.token_id = principal.token_id
        self._down = Pipe(world.network.delay, hear)
        # What is sent to a scheduler that is frozen is heard when it is thawed.
        self._up = life.run(Pipe, world.network.delay, self._take)
        self._acked = 0
        self._pending: deque[tuple[asyncio.Future[Any], list[Report]]] = deque()
        self._connection = life.run(life.scheduler.workers.connect, principal, registered.worker_id, self._session_id)
        self._heard()
        life.streams[self] = None
        self._listening = life.spawn(self._listen())

    def send(self, beat: Heartbeat | None, reports: list[Report]) -> None:
        """From the worker to the scheduler."""
        self._up.put((beat, reports))

    def close(self) -> None:
        """The worker's end is gone: the scheduler notices at once, or never."""
        self._up.close()
        self._down.close()
        self._life.streams.pop(self, None)
        if self._world.rng.random() < 0.7:
            self._listening.cancel()

    def die(self) -> None:
        """The scheduler is gone: the worker notices some time later."""
        self._up.close()
        self._life.streams.pop(self, None)
        if not self._down.closed:
            self._down.slow_down(self._world.network.patience)
            self._down.put(None)

    def _heard(self) -> None:
        self._world.book.hear(self._session_id, self._world.loop.microseconds)

    def _take(self, message: tuple[Heartbeat | None, list[Report]]) -> None:
        if not self._life.alive:
            return
        beat, reports = message
        self._heard()
        if beat is not None:
            self._world.book.beat(self._session_id, beat.held, self._world.loop.microseconds)
            self._life.run(self._connection.heartbeat, beat)
        if reports:
            self._world.auditor.reported(reports)
            commit = self._life.run(self._connection.report, reports)
            self._pending.append((commit, reports))
            commit.add_done_callback(lambda _: self._ack())

    def _ack(self) -> None:
        newest, acked = self._acked, list[Report]()
        while self._pending and self._pending[0][0].done():
            commit, reports = self._pending.popleft()
            if commit.cancelled() or commit.exception() is not None:
                self._listening.cancel()
                self.die()
                return
            newest = max(newest, commit.result())
            acked += reports
        if newest > self._acked:
            self._say(newest, [], acked)

    def _say(self, acked: int, orders: list[Directive], reports: list[Report]) -> None:
        """As rpc/reporting.py answers: with an ack goes what became of the outcomes in it."""
        self._acked = acked
        orders = self._connection.with_verdicts(orders, acked)
        self._world.auditor.judged(reports, orders)
        self._down.put((acked, orders))
        if any(order.type is DirectiveType.REREGISTER for order in orders):
            self._up.close()

    async def _listen(self) -> None:
        try:
            while True:
                self._say(self._acked, await self._connection.orders(), [])
        except SessionUnknown:
            self._say(self._acked, [Directive(DirectiveType.REREGISTER)], [])
        except TowpathError:
            self.die()
