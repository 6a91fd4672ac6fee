"""Parked long-polls. A job finds the one that has waited longest among those that serve its lane, without a search
through all of them: polls of alike workers stand in one line."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from towpath_server.core.job import Job
from towpath_server.core.matching import Profile
from towpath_server.core.records import Lane
from towpath_server.scheduler.board import Board
from towpath_server.scheduler.sessions import Session


class Waiter:
    """A parked poll. Its future ends with the jobs that it was handed, or empty: look again."""

    # Ten thousand of them may be parked.
    __slots__ = ("free", "handed", "number", "profile", "session")

    def __init__(self, session: Session, max_jobs: int, number: int) -> None:
        self.session = session
        self.profile = session.profile
        self.free = max_jobs
        self.number = number
        self.handed: asyncio.Future[list[Job]] = asyncio.get_running_loop().create_future()

    def hand(self, jobs: list[Job]) -> None:
        """End the wait."""
        if not self.handed.done():
            self.handed.set_result(jobs)


class Waiters:
    """All parked polls, by what their workers look like."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._lines: dict[Profile, dict[Waiter, None]] = {}
        self._count = 0

    def __len__(self) -> int:
        return sum(len(line) for line in self._lines.values())

    def park(self, session: Session, max_jobs: int) -> Waiter:
        """Stand in line."""
        self._count += 1
        waiter = Waiter(session, max_jobs, self._count)
        self._lines.setdefault(session.profile, {})[waiter] = None
        return waiter

    def leave(self, waiter: Waiter) -> bool:
        """Out of the line; False where it was not in it any more."""
        line = self._lines.get(waiter.profile)
        if line is None or waiter not in line:
            return False
        del line[waiter]
        if not line:
            del self._lines[waiter.profile]
        return True

    def first(self, lane: Lane) -> Waiter | None:
        """The poll that serves the lane and has waited longest."""
        firsts = (next(self._serving(lane, profile), None) for profile in self._lines)
        return min((waiter for waiter in firsts if waiter is not None), key=lambda one: one.number, default=None)

    def wake(self, lane: Lane, jobs: int) -> None:
        """Let as many polls look again as could take so many jobs of the lane, no more."""
        while jobs > 0 and (waiter := self.first(lane)) is not None:
            jobs -= waiter.free
            self.leave(waiter)
            waiter.hand([])

    def wake_session(self, session: Session) -> None:
        """Let a session's polls look again."""
        for waiter in list(self._lines.get(session.profile, ())):
            if waiter.session is session:
                self.leave(waiter)
                waiter.hand([])

    def wake_all(self) -> None:
        """Let every poll look again."""
        for line in list(self._lines.values()):
            for waiter in list(line):
                self.leave(waiter)
                waiter.hand([])

    def _serving(self, lane: Lane, profile: Profile) -> Iterator[Waiter]:
        pinned = lane.requirements.worker_id
        for waiter in self._lines[profile]:
            worker_id = waiter.session.worker.worker_id
            if self._board.serves(lane, profile, worker_id):
                yield waiter
            elif pinned is None:
                return
