"""The verbs of the service: the rules of `core` over a store, with those who wait. Async, and free of protobuf."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from towpath_server import failpoints
from towpath_server.core.job import DAY
from towpath_server.core.records import Role
from towpath_server.entropy import Entropy
from towpath_server.scheduler.access import FIRST_TENANT, Access
from towpath_server.scheduler.admin import Admin
from towpath_server.scheduler.catalogue import Catalogue
from towpath_server.scheduler.enrolment import Enrolment
from towpath_server.scheduler.feed import Feed
from towpath_server.scheduler.fleet import Fleet
from towpath_server.scheduler.hearsay import Hearsay
from towpath_server.scheduler.jobs import Jobs
from towpath_server.scheduler.queues import Queues
from towpath_server.scheduler.quotas import Quotas
from towpath_server.scheduler.refusals import Refusals
from towpath_server.scheduler.replicas import Replicas
from towpath_server.scheduler.retention import Retention
from towpath_server.scheduler.state import Clock, Intervals, State
from towpath_server.scheduler.timers import Timers
from towpath_server.scheduler.workers import Workers
from towpath_server.store.base import Store
from towpath_server.store.committer import Committer, OnCommit
from towpath_server.store.shared import SharedStore

__all__ = ["Clock", "Intervals", "Scheduler", "system_clock"]

MAX_MESSAGE_BYTES = 4 * 1024 * 1024
FIRST_USER = "admin"


def system_clock() -> Clock:
    """The machine's clocks. The wall clock is read once and carried on by the steady one: a jump changes nothing."""
    offset = time.time_ns() - time.monotonic_ns()
    return Clock(
        wall=lambda: (time.monotonic_ns() + offset) // 1000,
        steady=lambda: time.monotonic_ns() // 1000,
    )


class Scheduler:
    """One scheduler over one store: its verbs by who calls them."""

    def __init__(
        self,
        store: Store,
        *,
        clock: Clock | None = None,
        rng: random.Random | None = None,
        intervals: Intervals = Intervals(),  # noqa: B008 - frozen
        version: str = "0",
        max_message_bytes: int = MAX_MESSAGE_BYTES,
        new_committer: Callable[[Store, Callable[[], int], OnCommit], Committer] = Committer,
    ) -> None:
        state = State(store, clock or system_clock(), rng or Entropy(), intervals, new_committer)
        self._state = state
        self._store = store
        self.jobs = Jobs(state)
        self.workers = Workers(state)
        self.queues = Queues(state)
        self.access = Access(state)
        self.fleet = Fleet(state, self.workers, self.access)
        self.enrolment = Enrolment(state, self.access)
        self.refusals = Refusals(state, self.access)
        self.catalogue: Catalogue = state.catalogue
        self.timers = Timers(state, self.workers)
        self.retention = Retention(state, self.enrolment.forget_ended)
        self.quotas = Quotas(state)
        self.meter = state.allowance
        self.admin = Admin(state, self.retention, version, max_message_bytes)
        self._replicas = self._feed = None
        if isinstance(store, SharedStore):
            self._replicas = Replicas(state, self.workers)
            self._feed = Feed(state, store, Hearsay(state, self.workers, self.access, self.quotas))

    async def start(
        self, *, first_token: bool = True, show_secret: Callable[[str], None] = lambda secret: None
    ) -> str | None:
        """Begin; the secret of the first admin's token where this store has never had one and is to have one.

        `show_secret` gets it before the store knows of it: a token that nobody can read would lock everybody out. What
        it got is void where None is returned: another scheduler was quicker.
        """
        self._state.committer.start()
        secret = None
        if first_token and self.access.is_empty:
            secret = self.access.new_secret()
            show_secret(secret)
            if not await self.access.issue_first(FIRST_TENANT, FIRST_USER, secret):
                secret = None
        if self._feed is not None and self._replicas is not None:
            self._feed.start()
            await self._replicas.start()
        else:
            await self.workers.recover()
        failpoints.reach("start.recovered")
        self.timers.start()
        self.retention.start()
        self.quotas.start()
        return secret

    @property
    def replica_id(self) -> int:
        """Which of several schedulers this is; 0 where it is the only one."""
        return self._state.replica_id

    async def catch_up(self) -> bool:
        """Whether others may have changed something lately; if so, it is known here when this returns."""
        if self._feed is None:
            return False
        await self._feed.catch_up()
        return True

    async def local_token(self) -> str:
        """A token for the first admin that lives as long as this process may: a day."""
        _, secret = await self.access.issue(FIRST_TENANT, FIRST_USER, "embedded", Role.ADMIN, DAY)
        return secret

    def drain(self) -> None:
        """Take nothing new: polls, watches and report streams end, and come back to the next scheduler."""
        self._state.draining = True
        self._state.waiters.wake_all()
        self._state.watchers.poke_all()
        for session in self._state.sessions:
            session.poke()

    async def stop(self) -> None:
        """End: all that was taken in is on disk when this returns."""
        self.drain()
        await self.timers.stop()
        await self.retention.stop()
        await self.quotas.stop()
        await self.refusals.finish()
        await self._state.finish()
        if self._feed is not None and self._replicas is not None:
            await self._replicas.stop()
            await self._feed.stop()
        await self._state.committer.stop()
        self._store.close()
