"""The scheduler's lives on one file: started, called, killed at any moment, stopped and started again."""

from __future__ import annotations

import asyncio
import contextvars
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from support.simulation.committer import SimulatedCommitter
from support.simulation.network import Lost, Pipe
from support.simulation.store import SimulatedStore
from towpath_server.core.errors import SessionUnknown, TowpathError
from towpath_server.core.job import SECOND
from towpath_server.core.records import Principal
from towpath_server.scheduler import Clock, Scheduler
from towpath_server.scheduler.messages import Directive, DirectiveType, Heartbeat, Registered, Report

if TYPE_CHECKING:
    from support.simulation.world import World

T = TypeVar("T")

START = 1_800_000_000 * SECOND
_life: contextvars.ContextVar[Life | None] = contextvars.ContextVar("life", default=None)


class Life:
    """One life of a scheduler's process. All tasks that it makes are its own and die with it."""

    def __init__(self, world: World, offset: int) -> None:
        loop = world.loop
        self._world = world
        self._tasks: dict[asyncio.Future[Any], None] = {}
        self._context = contextvars.copy_context()
        self._context.run(_life.set, self)
        self.alive = True
        self.ready = False
        self.streams: dict[ServerStream, None] = {}
        self.store = SimulatedStore(world.path, world.disk, world.auditor)
        self.clock = Clock(wall=lambda: START + loop.microseconds + offset, steady=lambda: loop.microseconds)
        self.scheduler = Scheduler(
            self.store,
            clock=self.clock,
            rng=world.rng,
            intervals=world.book.intervals,
            new_committer=lambda store, now, told: SimulatedCommitter(
                store, now, told, book=world.book, pace=world.fate
            ),
        )
        self.state = self.scheduler._state
        committer = self.state.committer
        assert isinstance(committer, SimulatedCommitter)
        self.committer = committer

    def spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Do something inside this life."""
        return self._context.run(asyncio.get_running_loop().create_task, work)

    def run(self, work: Callable[..., T], *arguments: object) -> T:
        """Call something inside this life."""
        return self._context.run(work, *arguments)

    def adopt(self, task: asyncio.Future[Any]) -> None:
        """A task was made inside this life."""
        self._tasks[task] = None
        task.add_done_callback(self._forget)

    def _forget(self, task: asyncio.Future[Any]) -> None:
        self._tasks.pop(task, None)

    @property
    def is_quiet(self) -> bool:
        """Whether nothing is under way inside it."""
        return self.alive and self.committer.is_idle and not self.state._under_way

    def kill(self) -> None:
        """`kill -9`: nothing of it goes on, and what was not committed never was."""
        self.alive = self.committer.alive = False
        for stream in list(self.streams):
            stream.die()
        for task in list(self._tasks):
            task.cancel()
        self.store.close()

    async def stop(self) -> None:
        """SIGTERM."""
        await self.spawn(self.scheduler.stop())
        self.alive = False
        for stream in list(self.streams):
            stream.die()


def task_factory(loop: asyncio.AbstractEventLoop, work: Any, **options: Any) -> asyncio.Task[Any]:
    """Tasks belong to the life inside which they are made."""
    task: asyncio.Task[Any] = asyncio.Task(work, loop=loop, **options)
    if (life := _life.get()) is not None:
        life.adopt(task)
    return task


class Server:
    """The address at which a scheduler lives, now and then."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.life: Life | None = None
        self.lives = 0
        self.most_ahead = 0

    async def start(self, offset: int) -> None:
        """A new life, with a wall clock that is off by so many microseconds."""
        world = self._world
        world.book.begins(world.loop.microseconds)
        self.lives += 1
        self.most_ahead = max(self.most_ahead, offset)
        world.trace.step("scheduler", f"starts, life {self.lives}, clock {offset / SECOND:+.0f} s")
        life = Life(world, offset)
        world.auditor.opened(life.store)
        self.life = life
        try:
            await life.spawn(life.scheduler.start(first_token=False))
        except (TowpathError, asyncio.CancelledError) as error:
            if life.alive:
                # The store did not answer: the process ends, and whoever started it starts it again.
                world.trace.step("scheduler", f"does not start: {type(error).__name__}")
                self.kill("could not start")
        else:
            life.ready = True

    def kill(self, why: str) -> None:
        """The present life ends at once."""
        if (life := self.life) is not None:
            self._world.trace.step("scheduler", f"dies: {why}")
            self.life = None
            life.kill()

    async def stop(self) -> None:
        """The present life ends in good order."""
        if (life := self.life) is not None:
            self._world.trace.step("scheduler", "stops")
            await life.stop()
            self.life = None

    async def call(self, verb: Callable[[Scheduler], Awaitable[T]], *, patience: float = 20.0) -> T:
        """One call over the network. Raises `Lost`, or what the scheduler answers.

        A caller that is gone, or has no more patience, is noticed by the scheduler at once or never.
        """
        network, rng = self._world.network, self._world.rng
        await asyncio.sleep(network.delay())
        life = self.life
        if life is None or not life.alive or not life.ready or network.loses_request():
            await asyncio.sleep(network.patience())
            raise Lost
        task = life.spawn(_carry(verb, life.scheduler))
        try:
            done, _ = await asyncio.wait([task], timeout=patience)
        except asyncio.CancelledError:
            if rng.random() < 0.7:
                task.cancel()
            raise
        if not done:
            if rng.random() < 0.7:
                task.cancel()
            raise Lost
        if task.cancelled():
            await asyncio.sleep(network.patience())
            raise Lost
        await asyncio.sleep(network.delay())
        if network.loses_answer():
            task.exception()
            raise Lost
        return task.result()

    def open(self, principal: Principal, registered: Registered, hear: Callable[[Any], None]) -> ServerStream:
        """A report stream. Raises `Lost` or `SessionUnknown`."""
        life = self.life
        if life is None or not life.alive or not life.ready:
            raise Lost
        return ServerStream(self._world, life, principal, registered, hear)


async def _carry(verb: Callable[[Scheduler], Awaitable[T]], scheduler: Scheduler) -> T:
    return await verb(scheduler)


class ServerStream:
    """The scheduler's end of a report stream: acks in order, orders as they come; None says that it is broken."""

    def __init__(
        self, world: World, life: Life, principal: Principal, registered: Registered, hear: Callable[[Any], None]
    ) -> None:
        self._world = world
        self._life = life
        self._session_id = registered.session_id
        self._down = Pipe(world.network.delay, hear)
        self._up = Pipe(world.network.delay, self._take)
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
