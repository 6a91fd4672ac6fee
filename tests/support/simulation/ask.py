"""Whoever asks for more jobs is told no where it may not have them: all of them or none, and for a reason."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from support.simulation.serving import owners, queued, quota_for
from towpath_server.core.errors import QuotaExceeded
from towpath_server.core.job import Definition, Job
from towpath_server.scheduler import Scheduler

if TYPE_CHECKING:
    from support.simulation.world import World


def what_is_over_a_quota_is_refused() -> None:
    """Who may have no more jobs that wait gets none, and keeps nothing of those it asked for."""


def what_has_room_is_taken() -> None:
    """Nobody is refused for a quota that has room."""


class Ask:
    """One call. What the answer must be is known for certain where nothing else is under way when it comes."""

    def __init__(self, world: World, scheduler: Scheduler, asked: Sequence[Definition]) -> None:
        self._world = world
        self._ledger = ledger = world.book.ledger
        self._life = next((life for life in world.lives() if life.scheduler is scheduler), None)
        self._number = ledger.number
        self._before = set(ledger.jobs)
        self._owner = owners(asked[0])[0]
        there = {job.definition.request_id for job in self._mine()}
        fresh = [one for one in asked if not one.request_id or one.request_id not in there]
        # Another job may answer for one that has a key.
        self._is_sure = self._is_quiet() and not any(one.dedupe_key for one in fresh)
        self._fresh = len(fresh)
        self._is_over = bool(fresh) and self._is_over_now()
        if self._is_sure:
            world.book.asks[self] = None

    def look(self) -> None:
        """Something was committed meanwhile."""
        self._is_over = self._is_over and self._is_over_now()

    def _is_over_now(self) -> bool:
        ledger = self._ledger
        for owner in (self._owner, (self._owner[0], "")):
            quota = quota_for(ledger.quotas[-1][1], owner)
            most = quota.max_queued if quota is not None else None
            if most is not None and queued(ledger, owner) + self._fresh > most:
                return True
        return False

    def granted(self) -> None:
        """It was answered with jobs."""
        if self._is_sure and self._is_over and self._new():
            self._world.auditor.found(what_is_over_a_quota_is_refused, f"{self._owner} got {self._new()}")

    def requeued(self) -> None:
        """It was answered with a job that was final."""
        if self._is_sure and self._is_over:
            self._world.auditor.found(what_is_over_a_quota_is_refused, f"{self._owner} may retry nothing")

    def refused(self, error: QuotaExceeded) -> None:
        """It was refused."""
        self._world.book.seen["refused"] += 1
        if self._is_sure and self._new():
            self._world.auditor.found(what_is_over_a_quota_is_refused, f"{self._owner} was refused {self._new()}")
        if self._is_sure and not self._is_over and self._ledger.number == self._number and self._is_quiet():
            self._world.auditor.found(what_has_room_is_taken, f"{self._owner}: {error}")

    def end(self) -> None:
        """It was answered, or nobody waits for that any more."""
        self._world.book.asks.pop(self, None)

    def _is_quiet(self) -> bool:
        return self._life is not None and self._life.is_quiet and not self._ledger.is_shared

    def _mine(self) -> list[Job]:
        return [job for job in self._ledger.jobs.values() if owners(job.definition)[0] == self._owner]

    def _new(self) -> list[int]:
        return [job.job_id for job in self._mine() if job.job_id not in self._before]
