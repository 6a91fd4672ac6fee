"""One scheduler or two over one store that is shared: each verb is done at one of them, drawn by lot."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass

from support.machines.stages import START_UP, SteadyCommitter
from support.shared_memory import Hub
from support.stage import INTERVALS, Hands, Stage, settled
from towpath_server.core.job import SECOND
from towpath_server.scheduler import Clock, Scheduler, replicas
from towpath_server.store.base import Store

# What one does makes work for the other, and that is news to the first.
ROUNDS = 2
# Seconds between two verbs: of jobs made by two schedulers in one millisecond, either is the first.
APART = 0.001


@dataclass
class Shared:
    """A kind of store that schedulers share. `place`: an empty one, to be opened for each scheduler."""

    name: str
    place: Callable[[Hands], Callable[[], Store]]


def _postgres(hands: Hands) -> Callable[[], Store]:
    # Only now: it needs the driver, and a test that cannot have it is skipped.
    from support import postgres_store
    from towpath_server.store.postgres import PostgresStore

    address = postgres_store.place()
    return lambda: PostgresStore(address)


HUB = Shared("hub", lambda hands: Hub(lambda: hands.now).store)
POSTGRES = Shared("postgres", _postgres)


@dataclass
class Side(Stage):
    """One of several."""

    all: tuple[Side, ...] = ()

    async def tick(self, seconds: float = 0.0) -> None:
        """Move the clock. This one does what is due; each ends its own silent sessions."""
        self.hands.move(seconds)
        await self.scheduler.timers.run_due()
        # At once, everywhere: the silent are handed nothing of what is lost, or has become due, at another one.
        for side in self.all:
            side.leave_silent()
        await self.scheduler.retention.run_due()
        for side in self.all:
            await side.scheduler.workers.end_silent_sessions()

    def leave_silent(self) -> None:
        """The first half of what ends a silent session."""
        state, ending = self.scheduler._state, self.scheduler.workers._ending
        for session in state.sessions.silent():
            state.leave(session)
            ending.append(session)

    async def look_round(self) -> None:
        """Beat, and see to the others."""
        assert self.scheduler._replicas is not None
        await self.scheduler._replicas.look_round()


class Several:
    """See `Lived`."""

    def __init__(self, shared: Shared, count: int) -> None:
        self.name = f"{count} over {shared.name}"
        self.hands = Hands()
        self._open = shared.place(self.hands)
        self._lives = 0
        self._count = count
        self._sides: list[Side] = []
        # By session: where it lives. And where the last verb was done.
        self._homes: dict[str, int] = {}
        self._last = 0
        self.lots = random.Random(0)

    async def start(self) -> None:
        """All of them. Their timers run when they are told to, and they hear of the others when they catch up."""
        self._sides = [await self._begin() for _ in range(self._count)]
        self._know_each_other()

    async def _begin(self) -> Side:
        self._lives += 1
        scheduler = Scheduler(
            self._open(),
            clock=Clock(wall=lambda: self.hands.now, steady=lambda: self.hands.steady),
            rng=random.Random(self._lives),
            intervals=INTERVALS,
            new_committer=SteadyCommitter,
        )
        assert scheduler._feed is not None
        assert scheduler._replicas is not None
        scheduler.timers.start = scheduler.retention.start = lambda: None  # type: ignore[method-assign]
        scheduler._feed._begin_to_listen = lambda loop: None  # type: ignore[method-assign]
        await scheduler.start(first_token=False)
        assert scheduler._replicas._task is not None
        scheduler._replicas._task.cancel()
        self.hands.move(START_UP)
        return Side(scheduler, self.hands)

    def _know_each_other(self) -> None:
        for side in self._sides:
            side.all = tuple(self._sides)

    async def restart(self, seconds: float) -> None:
        """All stop, are away for so long, and start again: the first has all sessions now."""
        await self.end()
        self.hands.move(seconds)
        self._homes = dict.fromkeys(self._homes, 0)
        await self.start()

    async def replace(self, which: int, *, dies: bool) -> None:
        """One stops, or dies; the other notices and takes over its sessions, and a new one comes."""
        one, other = self._sides[which], self._sides[1 - which]
        scheduler = one.scheduler
        assert scheduler._replicas is not None
        # Up to now both were alive, though neither has beaten.
        for side in (one, other):
            assert side.scheduler._replicas is not None
            side.scheduler._replicas._signs.clear()
            await side.look_round()
        if dies:
            # It does not give back its number.
            scheduler._replicas._mine = None
        await scheduler.stop()
        await other.look_round()
        if dies:
            self.hands.move(replicas.DEAD / SECOND)
            await other.look_round()
        self._homes = dict.fromkeys(self._homes, 1 - which)
        self._sides[which] = await self._begin()
        self._know_each_other()

    async def end(self) -> None:
        """Stop for good."""
        for side in self._sides:
            await side.scheduler.stop()

    async def settle(self, calls: Callable[[], int]) -> None:
        """Until all know what all did, every poll that has no answer is parked, and nothing is being carried out."""
        for _ in range(ROUNDS):
            await asyncio.gather(*(side.scheduler.catch_up() for side in self._sides))
            await settled(
                lambda: (
                    sum(side.parked_now() for side in self._sides) == calls()
                    and not any(side.scheduler._state._under_way for side in self._sides)
                )
            )

    # Where

    def at(self, session_id: str | None) -> Stage:
        """The session's scheduler, or any."""
        self._last = self.lots.randrange(self._count) if session_id is None else self._homes[session_id]
        return self._sides[self._last]

    def begun(self, session_id: str) -> None:
        """The last verb has begun this session."""
        self._homes[session_id] = self._last

    def lives_at(self, session_id: str, which: int) -> bool:
        """Whether it is the session's scheduler."""
        return self._homes[session_id] == which
