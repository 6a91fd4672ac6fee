"""The real feed of a scheduler without its thread: notices come when the seed says so, or never."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from towpath_server.scheduler import Scheduler
from towpath_server.scheduler.feed import Feed
from towpath_server.store.shared import Notice

if TYPE_CHECKING:
    from support.simulation.book import Memory
    from support.simulation.grounds import Ground


class SimulatedFeed(Feed):
    """Tells the book up to which commit it has taken in what the others did."""

    _ground: Ground
    _memory: Memory

    @classmethod
    def instead_of(cls, scheduler: Scheduler, ground: Ground, memory: Memory) -> SimulatedFeed | None:
        """Take the place of the scheduler's feed, if it has one."""
        if (real := scheduler._feed) is None:
            return None
        feed = cls(real._state, real._store, real._hearsay)
        feed._ground, feed._memory = ground, memory
        scheduler._feed = feed
        return feed

    def _begin_to_listen(self, loop: asyncio.AbstractEventLoop) -> None:
        self._ground.listen(self._store, self._heard)

    def _heard(self, notice: Notice) -> None:
        if self._listening:
            self._hear(notice)

    async def stop(self) -> None:
        """See `Feed`."""
        await super().stop()
        self._ground.hang_up(self._store)

    async def _look(self) -> bool:
        self._memory.begins_to_look()
        more = await super()._look()
        if not more:
            self._memory.has_looked()
        return more
