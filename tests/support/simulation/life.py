"""One life of a scheduler's process: all that it does is its own and dies with it."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from support.simulation.committer import Pace, SimulatedCommitter
from support.simulation.following import SimulatedFeed
from support.simulation.loop import Process, process
from towpath_server.core.job import SECOND
from towpath_server.scheduler import Clock, Scheduler

if TYPE_CHECKING:
    from support.simulation.book import Memory
    from support.simulation.streams import ServerStream
    from support.simulation.world import World

T = TypeVar("T")

START = 1_800_000_000 * SECOND


class Life(Process):
    """One life of a scheduler's process. All tasks that it makes are its own and die with it."""

    def __init__(self, world: World, name: str, memory: Memory, pace: Pace, offset: int) -> None:
        super().__init__()
        self.name = name
        self._loop = loop = world.loop
        self.memory = memory
        self._tasks: dict[asyncio.Future[Any], None] = {}
        self._context = contextvars.copy_context()
        self._context.run(process.set, self)
        self.alive = True
        self.ready = False
        # Since when it could go on without a break.
        self.awake_since = loop.microseconds
        self.streams: dict[ServerStream, None] = {}
        self.store = world.ground.open(world.disk, world.auditor)
        self.clock = Clock(wall=lambda: START + loop.microseconds + offset, steady=lambda: loop.microseconds)
        self.scheduler = Scheduler(
            self.store,
            clock=self.clock,
            rng=world.rng,
            intervals=world.book.intervals,
            new_committer=lambda store, now, told: SimulatedCommitter(
                store, now, told, book=world.book, memory=memory, pace=pace
            ),
        )
        world.book.memories[self.scheduler] = memory
        self.scheduler.access.on_changed(self._cut)
        self.state = self.scheduler._state
        committer = self.state.committer
        assert isinstance(committer, SimulatedCommitter)
        self.committer = committer
        self.feed = SimulatedFeed.instead_of(self.scheduler, world.ground, memory)

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

    def _cut(self, token_id: int) -> None:
        """A token is void: what goes on with it ends, as rpc/calls.py ends it."""
        for stream in [stream for stream in self.streams if stream.token_id == token_id]:
            stream.die()
        for task in [task for task, token in self.memory.callers.items() if token == token_id]:
            task.cancel()

    def is_awake_since(self, moment: int) -> bool:
        """Whether it could go on without a break since then (microseconds)."""
        return self.ready and not self.frozen and not self.state.draining and self.awake_since <= moment

    @property
    def is_quiet(self) -> bool:
        """Whether nothing is under way inside it."""
        return self.alive and not self.frozen and self.committer.is_idle and not self.state._under_way

    def kill(self) -> None:
        """`kill -9`: nothing of it goes on, and what was not committed never was."""
        self.alive = self.committer.alive = False
        for stream in list(self.streams):
            stream.die()
        for task in list(self._tasks):
            task.cancel()
        self._loop.thaw(self)
        self.store.close()

    def freeze(self) -> None:
        """`kill -STOP`: nothing of it goes on until it is thawed."""
        self.frozen = True

    def go_dead(self) -> None:
        """Those at the other end of its streams take it for dead."""
        for stream in list(self.streams):
            stream.die()

    def thaw(self) -> None:
        """`kill -CONT`: all that it missed comes at once."""
        self.awake_since = self._loop.microseconds
        self._loop.thaw(self)

    async def stop(self) -> None:
        """SIGTERM."""
        await self.spawn(self.scheduler.stop())
        self.alive = False
        for stream in list(self.streams):
            stream.die()


def task_factory(loop: asyncio.AbstractEventLoop, work: Any, **options: Any) -> asyncio.Task[Any]:
    """Tasks belong to the life inside which they are made."""
    task: asyncio.Task[Any] = asyncio.Task(work, loop=loop, **options)
    if isinstance(life := process.get(), Life):
        life.adopt(task)
    return task
