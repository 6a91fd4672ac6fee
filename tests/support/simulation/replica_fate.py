"""What goes wrong where several schedulers share a store."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

from support.simulation.fate import Fate, Trouble
from support.simulation.grounds import inner
from support.simulation.hub import OpenHub
from support.simulation.server import Server

if TYPE_CHECKING:
    from support.simulation.life import Life
    from support.simulation.world import World

# After how long the database ends a transaction in which nothing happens (seconds).
IDLE = 1.5


class SharedFate(Fate):
    """One seed's, on any store that is shared."""

    def _choose(self) -> list[Trouble]:
        return self._rng.sample(
            (self._crash, self._crash, self._crash_all, self._restart, self._freezer, self._freezer, self._sleeper,
             self._killer, self._killer, self._forgetter, self._drainer, self._outage, self._pauser, self._liar),
            self._rng.randint(2, 8),
        )  # fmt: skip

    def heal(self) -> None:
        """See `Fate`."""
        for server in self._world.servers:
            if server.life is not None and server.life.frozen:
                server.life.thaw()

    def _next_offset(self, offset: int) -> int:
        # The time is the store's.
        return 0

    def _given_up(self, life: Life) -> None:
        """The database ends what a life that is frozen has begun, if it has."""

    async def _crash_all(self) -> None:
        while True:
            await asyncio.sleep(self._rng.uniform(6.0, 30.0))
            servers = self._world.servers
            for server in self._rng.sample(servers, self._rng.randint(min(2, len(servers)), len(servers))):
                server.kill("with others")

    async def _freezer(self) -> None:
        while True:
            await asyncio.sleep(self._rng.uniform(1.0, 10.0))
            server = self._server()
            if (life := server.life) is None or life.frozen:
                continue
            seconds = self._rng.choice((0.5, 3.0, 5.5, 7.0, 12.0))
            self._world.trace.step(server.name, f"is frozen for {seconds} s")
            self._world.begin(self._thaw(server, life, seconds))
            life.freeze()

    async def _thaw(self, server: Server, life: Life, seconds: float) -> None:
        loop = self._world.loop
        idle = loop.call_later(IDLE, self._given_up, life)
        # Those who have a stream to it notice that nothing comes any more.
        notice = loop.call_later(self._rng.uniform(1.0, 5.0), life.go_dead)
        await asyncio.sleep(seconds)
        idle.cancel()
        notice.cancel()
        if life.alive and life.frozen:
            self._world.trace.step(server.name, "goes on")
            life.thaw()


class ReplicaFate(SharedFate):
    """One seed's, on the memory that several schedulers share."""

    def __init__(self, world: World, rng: random.Random, hub: OpenHub) -> None:
        super().__init__(world, rng)
        self._hub = hub
        self._hub.overlap = rng.choice((0.0, 0.3, 1.0))
        self._contention = rng.choice((0.0, 0.0, 0.02, 0.2))
        world.disk.is_contended = self._is_contended

    def _choose(self) -> list[Trouble]:
        return self._rng.sample(
            (self._crash, self._crash, self._crash_all, self._restart, self._freezer, self._freezer, self._freezer,
             self._deafener, self._cutter, self._holder, self._holder, self._sleeper, self._sleeper, self._killer,
             self._killer, self._forgetter, self._drainer, self._outage, self._pauser, self._liar),
            self._rng.randint(2, 10),
        )  # fmt: skip

    @property
    def is_troubled(self) -> bool:
        """See `Fate`."""
        return self._contention > 0

    def heal(self) -> None:
        """See `Fate`."""
        super().heal()
        self._contention = self._hub.deafness = 0.0
        self._hub.let_go()

    def _given_up(self, life: Life) -> None:
        self._hub.give_up(inner(life.store))

    def _is_contended(self) -> bool:
        if self._rng.random() >= self._contention:
            return False
        self._world.book.seen["contended"] += 1
        return True

    async def _deafener(self) -> None:
        while True:
            await asyncio.sleep(self._rng.uniform(1.0, 6.0))
            self._hub.deafness = self._rng.choice((0.3, 1.0))
            await asyncio.sleep(self._rng.uniform(0.5, 6.0))
            self._hub.deafness = 0.0

    async def _cutter(self) -> None:
        while True:
            await asyncio.sleep(self._rng.uniform(1.0, 6.0))
            if (life := self._server().life) is not None:
                self._hub.cut(inner(life.store), self._rng.uniform(0.1, 5.0))

    async def _holder(self) -> None:
        while True:
            await asyncio.sleep(self._rng.uniform(1.0, 6.0))
            if self._hub.hold_back is None:
                self._hub.hold(self._rng.uniform(0.05, 4.0))
