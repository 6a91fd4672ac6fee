"""This scheduler among the others of a shared store: it beats, shows them its workers, and takes over the dead ones'.

Whether another one lives is judged by its beats and by the clock here, never by clocks compared: it is dead when it has
not beaten for `DEAD` while this one could.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass

from towpath_server.core.errors import TowpathError
from towpath_server.core.job import SECOND
from towpath_server.core.records import Replica
from towpath_server.log import Logger
from towpath_server.scheduler import presence
from towpath_server.scheduler.state import MOST_REPLICAS, State
from towpath_server.scheduler.transactions.replicas import BEAT, BURY, JOIN, Beat, Beaten, Bury, Join
from towpath_server.scheduler.workers import Workers
from towpath_server.store.base import StoreRefused

log = Logger(__name__)

# How often it beats (seconds), and in which of its beats it shows its workers.
BEAT_EVERY = 1.0
SHOW_EVERY = 2
# How long another one may be silent (microseconds).
DEAD = 5 * SECOND


@dataclass(frozen=True, slots=True)
class _Sign:
    """The last beat that was seen of another one, and when (by the steady clock here)."""

    replica: Replica
    since: int


class Replicas:
    """Joins, beats, and looks after what the dead leave behind."""

    def __init__(self, state: State, workers: Workers) -> None:
        self._state = state
        self._workers = workers
        self._mine: Replica | None = None
        self._signs: dict[int, _Sign] = {}
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Take a number, look round once, and beat from now on."""
        await self._join()
        await self.look_round()
        self._task = asyncio.get_running_loop().create_task(self._run(), name="replicas")

    async def stop(self) -> None:
        """Give the number back: the others need not wait to take over."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._mine is not None:
            try:
                await self._state.committer.submit(BURY, Bury((self._mine,)))
            except TowpathError as error:
                log.warning("replica_not_taken_back", error=repr(error))

    async def _run(self) -> None:
        failing = False
        while True:
            begun = self._state.clock.steady()
            await asyncio.sleep(BEAT_EVERY)
            if self._state.clock.steady() - begun >= DEAD:
                # It stood still itself, perhaps with the others.
                self._signs.clear()
            try:
                await self.look_round()
                failing = False
            except Exception as error:
                # Nobody can be judged by somebody who was not there.
                self._signs.clear()
                is_known = isinstance(error, TowpathError)
                # An outage is logged once.
                if not (failing and is_known):
                    log.warning("replicas", error=repr(error), exc_info=not is_known)
                failing = True

    async def _join(self) -> None:
        mine = await self._state.committer.submit(JOIN, Join(self._state.new_token(), MOST_REPLICAS))
        if mine is None:
            raise StoreRefused(f"{MOST_REPLICAS - 1} schedulers share this store already. Stop one of them first.")
        self._mine = mine
        self._state.be_replica(mine.replica_id)

    async def look_round(self) -> None:
        """Beat once, and see to those that do not any more."""
        assert self._mine is not None
        view = presence.write(self._state) if self._mine.beat % SHOW_EVERY == 0 else None
        begun = self._state.clock.steady()
        beaten = await self._state.committer.submit(BEAT, Beat(self._mine, view))
        took = self._state.clock.steady() - begun
        if beaten.mine is None:
            # It stood still for so long that the others took it for dead: its workers are theirs now.
            log.warning("replica_was_taken_for_dead", replica=self._mine.replica_id)
            self._leave_all()
            await self._join()
            # Some may have begun meanwhile, under the number that is not this one's any more.
            self._leave_all()
            return
        self._mine = beaten.mine
        others = [replica for replica in beaten.all if replica.replica_id != self._mine.replica_id]
        self._state.presence = presence.read(others)
        await self._see_to(beaten, self._dead(others, took))

    def _leave_all(self) -> None:
        for session in self._state.sessions:
            self._state.leave(session)

    def _dead(self, others: Iterable[Replica], took: int) -> list[Replica]:
        """Those that were silent for too long. The last look `took` so long: meanwhile nobody could beat, perhaps."""
        now = self._state.clock.steady()
        signs: dict[int, _Sign] = {}
        for replica in others:
            known = self._signs.get(replica.replica_id)
            is_still = known is not None and _is_same(known.replica, replica)
            since = known.since + took if known is not None and is_still else now
            signs[replica.replica_id] = _Sign(replica, since)
        self._signs = signs
        return [sign.replica for sign in signs.values() if now - sign.since >= DEAD]

    async def _see_to(self, beaten: Beaten, dead: list[Replica]) -> None:
        gone = {replica.replica_id for replica in dead}
        alive = {replica.replica_id for replica in beaten.all} - gone
        orphans = [
            worker for worker in self._state.workers.values() if worker.session_id and worker.replica_id not in alive
        ]
        if dead:
            log.warning("replicas_are_dead", replicas=sorted(gone), workers=len(orphans))
        if orphans:
            await self._workers.adopt(orphans, dead)
        if dead:
            await self._state.committer.submit(BURY, Bury(tuple(dead)))
        await self._workers.take_home()


def _is_same(one: Replica, other: Replica) -> bool:
    return (one.life, one.beat) == (other.life, other.beat)
