"""What goes wrong, and when: drawn anew for each seed, so that each seed is another kind of night."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from support.simulation.network import Lost, Weather
from support.simulation.promises import no_verb_breaks
from support.simulation.submitter import COMMANDS, QUEUES
from towpath_server.core.errors import StoreFull, StoreUnavailable, TowpathError
from towpath_server.core.job import SECOND

if TYPE_CHECKING:
    from support.simulation.server import Server
    from support.simulation.world import World

Trouble = Callable[[], Coroutine[Any, Any, None]]
HOUR = 3600 * SECOND


@dataclass(frozen=True, slots=True)
class Plan:
    """What a handler will do."""

    seconds: float
    pieces: int
    unable: bool
    fails: bool
    failure: str
    retryable: bool


class Fate:
    """One seed's."""

    def __init__(self, world: World, rng: random.Random) -> None:
        self._world = world
        self._rng = rng
        self._deaths = rng.choice((0.0, 0.0, 0.005, 0.02))
        self._bad = rng.choice((0.0, 0.3, 1.0))
        self.weather = Weather(
            lost_request=0.15 * self._bad * rng.random(),
            lost_answer=0.15 * self._bad * rng.random(),
            broken_stream=0.1 * self._bad * rng.random(),
            slow=0.1 * self._bad * rng.random(),
        )
        self.impatience = rng.choice((0.0, 0.0, 0.2, 0.6))
        self.haste = rng.choice((0.5, 1.0, 3.0))
        self.most_jobs = rng.choice((8, 14, 20))
        self.commands = rng.sample(COMMANDS, rng.randint(2, len(COMMANDS)))
        self._unsound = rng.choice((0.0, 0.1, 0.3))
        self._troubles = self._choose()
        self._dying = False

    def _choose(self) -> list[Trouble]:
        return self._rng.sample(
            (self._crash, self._crash, self._restart, self._sleeper, self._sleeper, self._killer, self._killer,
             self._forgetter, self._drainer, self._outage, self._pauser, self._liar),
            self._rng.randint(1, 8),
        )  # fmt: skip

    # The pace of the store: see `Pace`.

    def commit_delay(self) -> float:
        """Seconds until what was submitted is committed."""
        return self._rng.uniform(0.0005, 0.02) if self._rng.random() < 0.97 else self._rng.uniform(0.1, 0.6)

    def commits(self, server: Server, verbs: list[str]) -> None:
        """These verbs are in one commit."""
        if "join" in verbs and server.life is not None and server.life.ready:
            self._world.book.seen["taken for dead"] += 1
            self._world.taken_for_dead(server.life.state.replica_id)
        self._world.trace.step(server.name.replace("scheduler", "committer"), ", ".join(verbs))

    def dies(self, server: Server, point: str) -> bool:
        """Whether the process dies here."""
        if self._world.healed or self._rng.random() >= self._deaths:
            return False
        self._world.trace.step(server.name, f"is killed {point}")
        return True

    def unexpected(self, error: Exception) -> None:
        """A verb raised what it never should."""
        self._world.auditor.found(no_verb_breaks, repr(error))

    @property
    def is_troubled(self) -> bool:
        """Whether somebody may be in the way of every commit."""
        return False

    def heal(self) -> None:
        """All is well from now on."""

    # The jobs.

    def plan(self) -> Plan:
        """What the next run does."""
        rng = self._rng
        unsound = 0.0 if self._world.healed else self._unsound
        return Plan(
            seconds=rng.choice((0.05, 0.5, 2.0, 6.0)) * rng.uniform(0.5, 1.5) * (0.3 if self._world.healed else 1.0),
            pieces=rng.randint(1, 3),
            unable=rng.random() < unsound / 3,
            fails=rng.random() < unsound,
            failure=rng.choice(("Boom", "Boom", "Hopeless")),
            retryable=rng.random() < 0.8,
        )

    # The troubles.

    def begin(self) -> None:
        """Let trouble come."""
        self._world.network.weather = self.weather
        for trouble in self._troubles:
            self._world.begin(trouble())

    async def keep_up(self, server: Server) -> None:
        """Whoever starts the scheduler again when it is down."""
        world, offset = self._world, 0
        while True:
            if server.life is None and not world.healed:
                offset = self._next_offset(offset)
                await asyncio.sleep(self._rng.choice((0.05, 0.5, 3.0, 8.0)) * self._rng.random())
                if server.life is None and not world.healed:
                    await server.start(offset)
            await asyncio.sleep(0.05)

    def _next_offset(self, offset: int) -> int:
        return self._rng.choice((-3 * HOUR, 3 * HOUR, -SECOND, SECOND, 0)) if self._rng.random() < 0.4 else offset

    def _server(self) -> Server:
        servers = self._world.servers
        return servers[0] if len(servers) == 1 else self._rng.choice(servers)

    async def _crash(self) -> None:
        while True:
            await asyncio.sleep(self._rng.uniform(3.0, 20.0))
            self._server().kill("at a moment of chance")

    async def _restart(self) -> None:
        while True:
            await asyncio.sleep(self._rng.uniform(5.0, 25.0))
            await self._server().stop()

    async def _sleeper(self) -> None:
        while True:
            await asyncio.sleep(self._rng.uniform(1.0, 8.0))
            await self._rng.choice(self._world.workers).sleep(self._rng.choice((1.0, 6.0, 9.0, 14.0)))

    async def _killer(self) -> None:
        while True:
            await asyncio.sleep(self._rng.uniform(1.0, 8.0))
            self._rng.choice(self._world.workers).die()

    async def _forgetter(self) -> None:
        while True:
            await asyncio.sleep(self._rng.uniform(1.0, 5.0))
            self._rng.choice(self._world.workers).forget()

    async def _liar(self) -> None:
        while True:
            await asyncio.sleep(self._rng.uniform(0.2, 2.0))
            self._rng.choice(self._world.workers).lie()

    async def _drainer(self) -> None:
        while True:
            await asyncio.sleep(self._rng.uniform(4.0, 15.0))
            worker = self._rng.choice(self._world.workers)
            if self._rng.random() < 0.5:
                worker.drain()
                continue
            try:
                await self._server().call(worker.drain_remotely, patience=3.0)
            except (Lost, TowpathError):
                continue

    async def _outage(self) -> None:
        disk = self._world.disk
        while True:
            await asyncio.sleep(self._rng.uniform(2.0, 12.0))
            error = self._rng.choice((StoreFull, StoreUnavailable))
            self._world.trace.step("disk", error.__name__)
            disk.fail(error, at_commit=self._rng.random() < 0.5)
            await asyncio.sleep(self._rng.uniform(0.1, 3.0))
            disk.heal(self._world.loop.microseconds)
            self._world.trace.step("disk", "is well again")

    async def _pauser(self) -> None:
        while True:
            await asyncio.sleep(self._rng.uniform(0.5, 6.0))
            submitter, queue = self._rng.choice(self._world.submitters), self._rng.choice(QUEUES)
            await submitter.hold(queue, pause=self._rng.random() < 0.5)
