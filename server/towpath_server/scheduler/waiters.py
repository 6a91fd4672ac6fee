"""Parked long-polls. A job finds the one that has waited longest among those that serve its lane, without a search
through all of them: polls of alike workers stand in one line, and the lines in the order of their first polls."""

from __future__ import annotations

import asyncio
from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator
from heapq import merge

from towpath_server.core.job import Job
from towpath_server.core.matching import Profile
from towpath_server.core.records import Lane
from towpath_server.scheduler.board import Board
from towpath_server.scheduler.sessions import Session

# Whose polls take a job: its tenant, its user (None for polls of workers that are shared), its job type.
Rank = tuple[str, str | None, str]


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
        # The lines that take a job type of a user, by the number of the poll that stands first in each.
        self._ranks: dict[Rank, list[tuple[int, Profile]]] = {}
        self._by_worker: dict[int, list[Waiter]] = {}
        self._count = 0
        self._parked = 0

    def __len__(self) -> int:
        return self._parked

    def park(self, session: Session, max_jobs: int) -> Waiter:
        """Stand in line."""
        self._count += 1
        self._parked += 1
        waiter = Waiter(session, max_jobs, self._count)
        line = self._lines.get(waiter.profile)
        if line is None:
            line = self._lines[waiter.profile] = {}
            for rank in _ranks(waiter.profile):
                # None has a greater number.
                self._ranks.setdefault(rank, []).append((waiter.number, waiter.profile))
        line[waiter] = None
        self._by_worker.setdefault(session.worker.worker_id, []).append(waiter)
        return waiter

    def leave(self, waiter: Waiter) -> bool:
        """Out of the line; False where it was not in it any more."""
        line = self._lines.get(waiter.profile)
        if line is None or waiter not in line:
            return False
        self._parked -= 1
        was_first = next(iter(line)) is waiter
        del line[waiter]
        if was_first:
            self._rank_again(waiter, next(iter(line), None))
            if not line:
                del self._lines[waiter.profile]
        mine = self._by_worker[waiter.session.worker.worker_id]
        mine.remove(waiter)
        if not mine:
            del self._by_worker[waiter.session.worker.worker_id]
        return True

    def first(self, lane: Lane) -> Waiter | None:
        """The poll that serves the lane and has waited longest."""
        pinned = lane.requirements.worker_id
        if pinned is not None:
            mine = self._by_worker.get(pinned, ())
            return next((waiter for waiter in mine if self._board.serves(lane, waiter.profile, pinned)), None)
        for _, profile in self._lines_for(lane):
            waiter = next(iter(self._lines[profile]))
            if self._board.serves(lane, profile, waiter.session.worker.worker_id):
                return waiter
        return None

    def _lines_for(self, lane: Lane) -> Iterable[tuple[int, Profile]]:
        """The lines that take such jobs of this user, those that wait longest first."""
        own = self._ranks.get((lane.tenant, lane.user, lane.job_type), ())
        shared = self._ranks.get((lane.tenant, None, lane.job_type))
        # No two polls have one number: profiles are never compared.
        return own if shared is None else merge(own, shared)

    def parked(self, worker_id: int) -> int:
        """How many polls of a worker are parked."""
        return len(self._by_worker.get(worker_id, ()))

    def wake(self, lane: Lane, jobs: int) -> None:
        """Let as many polls look again as could take so many jobs of the lane, no more."""
        while jobs > 0 and (waiter := self.first(lane)) is not None:
            jobs -= waiter.free
            self.leave(waiter)
            waiter.hand([])

    def wake_session(self, session: Session) -> None:
        """Let a session's polls look again."""
        for waiter in list(self._by_worker.get(session.worker.worker_id, ())):
            if waiter.session is session:
                self.leave(waiter)
                waiter.hand([])

    def wake_all(self) -> None:
        """Let every poll look again."""
        for line in list(self._lines.values()):
            for waiter in list(line):
                self.leave(waiter)
                waiter.hand([])

    def _rank_again(self, gone: Waiter, first: Waiter | None) -> None:
        """Another poll stands first in the line, or none."""
        profile = gone.profile
        for rank in _ranks(profile):
            firsts = self._ranks[rank]
            at = bisect_left(firsts, (gone.number, profile))
            if first is not None and at == len(firsts) - 1:
                firsts[at] = (first.number, profile)
                continue
            del firsts[at]
            if first is not None:
                insort(firsts, (first.number, profile))
            elif not firsts:
                del self._ranks[rank]


def _ranks(profile: Profile) -> Iterator[Rank]:
    return ((profile.tenant, profile.serves_user, job_type) for job_type in profile.job_types)
