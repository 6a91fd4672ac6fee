"""The addresses at which schedulers live, now and then: started, called, killed at any moment, stopped and started."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

from support.simulation.committer import Pace
from support.simulation.life import Life
from support.simulation.network import Lost
from support.simulation.streams import ServerStream
from towpath_server.core.errors import Draining, StoreUnavailable, TowpathError, Unauthenticated
from towpath_server.core.job import SECOND
from towpath_server.core.records import Principal
from towpath_server.scheduler import Scheduler
from towpath_server.scheduler.messages import Registered

if TYPE_CHECKING:
    from support.simulation.fate import Fate
    from support.simulation.world import World

T = TypeVar("T")
# Who calls; raises `Unauthenticated`.
Shown = Callable[[Scheduler], Principal]


class Server:
    """The address at which a scheduler lives, now and then."""

    def __init__(self, world: World, name: str) -> None:
        self._world = world
        self.name = name
        self.life: Life | None = None
        self.lives = 0
        self.most_ahead = 0

    async def start(self, offset: int) -> None:
        """A new life, with a wall clock that is off by so many microseconds."""
        world = self._world
        steady = world.loop.microseconds
        memory = world.book.begins() if world.ground.is_shared else world.book.begins_alone(steady)
        self.lives += 1
        self.most_ahead = max(self.most_ahead, offset)
        world.trace.step(self.name, f"starts, life {self.lives}, clock {offset / SECOND:+.0f} s")
        life = Life(world, f"{self.name}, life {self.lives}", memory, ServerPace(world.fate, self), offset)
        world.auditor.opened(life.store)
        self.life = life
        try:
            await life.spawn(life.scheduler.start(first_token=False))
        except (TowpathError, asyncio.CancelledError) as error:
            if life.alive:
                # The store did not answer: the process ends, and whoever started it starts it again.
                world.trace.step(self.name, f"does not start: {type(error).__name__}")
                self.kill("could not start")
        else:
            life.ready = True
            life.awake_since = world.loop.microseconds

    async def revive(self) -> None:
        """From now on it is there: anew where whoever was stopping it went away."""
        if self.life is not None and self.life.state.draining:
            self.kill("half stopped")
        if self.life is None:
            await self.start(0)

    def kill(self, why: str) -> None:
        """The present life ends at once."""
        if (life := self.life) is not None:
            self._world.trace.step(self.name, f"dies: {why}")
            self.life = None
            life.kill()

    async def stop(self) -> None:
        """The present life ends in good order."""
        if (life := self.life) is not None:
            self._world.trace.step(self.name, "stops")
            await life.stop()
            if self.life is life:
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

    def open(self, shown: Shown, registered: Registered, hear: Callable[[Any], None]) -> ServerStream:
        """A report stream. Raises `Lost` or `SessionUnknown`."""
        life = self.life
        if life is None or not life.alive or not life.ready or life.frozen:
            raise Lost
        try:
            principal = shown(life.scheduler)
        except Unauthenticated:
            # Its next poll is refused: then it is certain that the scheduler knows the token, and that it is void.
            raise Lost from None
        return ServerStream(self._world, life, principal, registered, hear)


class Contact:
    """Whom one caller calls: always one scheduler, and another one where that does not answer."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._servers = world.servers
        self.server = world.servers[0] if len(world.servers) == 1 else world.rng.choice(world.servers)

    async def call(self, verb: Callable[[Scheduler], Awaitable[T]], *, patience: float = 20.0) -> T:
        """See `Server`."""
        try:
            return await self.server.call(verb, patience=patience)
        except (Lost, StoreUnavailable, Draining):
            self.go_elsewhere()
            raise

    def open(self, shown: Shown, registered: Registered, hear: Callable[[Any], None]) -> ServerStream:
        """See `Server`."""
        try:
            return self.server.open(shown, registered, hear)
        except Lost:
            self.go_elsewhere()
            raise

    def go_elsewhere(self) -> None:
        """Try another one next, perhaps."""
        if len(self._servers) > 1 and self._world.rng.random() < 0.6:
            self.server = self._world.rng.choice([one for one in self._servers if one is not self.server])


class ServerPace(Pace):
    """The pace of one server, as fate wills."""

    def __init__(self, fate: Fate, server: Server) -> None:
        self._fate = fate
        self._server = server

    def commit_delay(self) -> float:
        """See `Pace`."""
        return self._fate.commit_delay()

    def commits(self, verbs: list[str]) -> None:
        """See `Pace`."""
        self._fate.commits(self._server, verbs)

    def dies(self, point: str) -> bool:
        """See `Pace`."""
        return self._fate.dies(self._server, point)

    def died(self) -> None:
        """See `Pace`."""
        asyncio.get_running_loop().call_soon(self._server.kill, "killed")

    def unexpected(self, error: Exception) -> None:
        """See `Pace`."""
        self._fate.unexpected(error)


async def _carry(verb: Callable[[Scheduler], Awaitable[T]], scheduler: Scheduler) -> T:
    return await verb(scheduler)
