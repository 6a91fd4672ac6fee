"""What the scheduler's services share: the store behind its committer, and what is kept in memory beside it."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from towpath_server.core.errors import Draining
from towpath_server.core.ids import RANDOM_BITS, new_id
from towpath_server.core.job import SECOND
from towpath_server.core.matching import Profile, profile
from towpath_server.core.records import Queue, Quota, Worker
from towpath_server.entropy import Entropy
from towpath_server.scheduler.allowance import Allowance
from towpath_server.scheduler.board import Board
from towpath_server.scheduler.catalogue import Catalogue
from towpath_server.scheduler.changes import Change, changes_of
from towpath_server.scheduler.effects import Effects
from towpath_server.scheduler.messages import Directive, DirectiveType, Presence
from towpath_server.scheduler.sessions import Session, Sessions
from towpath_server.scheduler.waiters import Waiters
from towpath_server.scheduler.watchers import Watchers
from towpath_server.store.base import Store
from towpath_server.store.committer import Committer, OnCommit
from towpath_server.store.shared import SharedStore

T = TypeVar("T")

# Of an id's random bits, those that the scheduler's number leaves.
OWN_BITS = 15
MOST_REPLICAS = 1 << (RANDOM_BITS - OWN_BITS)

# What a call has begun that goes on without it: whoever serves the call may set a list, and finds it there.
CARRIED_OUT: ContextVar[list[asyncio.Future[Any]] | None] = ContextVar("carried_out", default=None)


@dataclass(frozen=True, slots=True)
class Intervals:
    """What the scheduler dictates (microseconds)."""

    heartbeat: int = 3 * SECOND
    lease_ttl: int = 15 * SECOND
    poll: int = 25 * SECOND


@dataclass(frozen=True, slots=True)
class Clock:
    """`wall` is microseconds since the epoch and never jumps within a process; `steady` counts from anywhere."""

    wall: Callable[[], int]
    steady: Callable[[], int]


class Ids:
    """Ids that grow, each greater than the one before, and than all of before the moment `since`.

    Of several schedulers each has a `replica` number, and makes other ids than the others in the same millisecond.
    """

    _replica: int | None = None

    def __init__(self, wall: Callable[[], int], rng: random.Random, since: int) -> None:
        self._wall = wall
        self._rng = rng
        self._last = new_id(since, 0)

    def be_replica(self, replica: int) -> None:
        """Make ids of this scheduler's from now on: later than those that it made as anybody."""
        self._replica = replica
        self._last = ((self._last >> RANDOM_BITS) + 1) << RANDOM_BITS | self._bits()

    def next(self) -> int:
        """A new id."""
        self._last = new_id(self._wall(), self._bits(), self._last)
        return self._last

    def _bits(self) -> int:
        if self._replica is None:
            return self._rng.getrandbits(RANDOM_BITS)
        # As many again are left for those that follow in the same millisecond.
        return self._replica << OWN_BITS | self._rng.getrandbits(OWN_BITS - 1)


class State:
    """One scheduler's memory. Only the event loop's thread touches it."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        rng: random.Random,
        intervals: Intervals,
        new_committer: Callable[[Store, Callable[[], int], OnCommit], Committer] = Committer,
    ) -> None:
        self.store = store
        self.clock = clock
        self.rng = rng
        self.intervals = intervals
        origin = store.origin(clock.wall())
        self.ids = Ids(clock.wall, rng, origin.moment)
        # Of their own: that something is recorded changes nothing else.
        self.event_ids = Ids(clock.wall, Entropy(), origin.moment)
        self.committer = new_committer(store, clock.wall, self._told)
        queues = store.records(Queue)
        self.queues = {(queue.tenant, queue.name): queue for queue in queues}
        # Those that no commit is known to hold yet.
        self.unsaved_queues: dict[tuple[str, str], Queue] = {}
        self.board = Board(store.lanes(), [(queue.tenant, queue.name) for queue in queues if queue.paused])
        self.waiters = Waiters(self.board)
        self.allowance = Allowance(self.board, self.waiters, clock.steady)
        if quotas := store.records(Quota):
            self.allowance.adopt(store.usage())
            self.allowance.put(quotas)
        self.sessions = Sessions(clock.steady)
        self.watchers = Watchers(origin.sequence)
        self.workers: dict[int, Worker] = {}
        # How many of them each user of a tenant has.
        self.workers_of: Counter[tuple[str, str]] = Counter()
        for worker in store.records(Worker):
            self.keep_worker(worker)
        self.catalogue = Catalogue(store)
        self.draining = False
        # Which of several schedulers this is; 0 where it is the only one.
        self.replica_id = 0
        self.presence = Presence()
        # Others write to the store too: what they change is told by it, and so is the order of all changes.
        self.is_shared = isinstance(store, SharedStore)
        self._under_way: set[asyncio.Task[Any]] = set()
        self._nudge: Callable[[int], None] = lambda due: None
        self._nudge_final: Callable[[int], None] = lambda due: None
        self._catch_up: Callable[[], Coroutine[Any, Any, None]] = _nothing_new
        self.effects = Effects(self.board, self.waiters, self.sessions, self.nudge)

    def nudge(self, due: int, *, final: bool = False) -> None:
        """A clock runs out at `due`; that of a `final` job ends its keep."""
        (self._nudge_final if final else self._nudge)(due)

    def on_nudge(self, nudge: Callable[[int], None]) -> None:
        """Whom to tell of clocks that run out sooner than expected."""
        self._nudge = nudge

    def on_nudge_final(self, nudge: Callable[[int], None]) -> None:
        """Whom to tell of final jobs whose keep is over sooner than expected."""
        self._nudge_final = nudge

    def carry_out(self, work: Coroutine[Any, Any, T]) -> asyncio.Future[T]:
        """Do something to its end, also where the caller is gone meanwhile: what is committed must be told."""
        task = asyncio.get_running_loop().create_task(work)
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        if (carried_out := CARRIED_OUT.get()) is not None:
            carried_out.append(task)
        return asyncio.shield(task)

    async def finish(self) -> None:
        """Wait for all that is being carried out."""
        await asyncio.gather(*self._under_way, return_exceptions=True)

    async def catch_up(self) -> None:
        """Know of all that others have committed before this call."""
        await self._catch_up()

    def on_catch_up(self, catch_up: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """What brings the news of others."""
        self._catch_up = catch_up

    def be_replica(self, replica_id: int) -> None:
        """The number of this one among several schedulers."""
        self.replica_id = replica_id
        self.ids.be_replica(replica_id)
        self.event_ids.be_replica(replica_id)

    def _told(self, outcomes: Sequence[object]) -> None:
        if self.allowance.is_on:
            self.allowance.take_in(outcomes)
        changes = (change for outcome in outcomes for change in changes_of(outcome))
        if self.is_shared:
            self.watchers.tell_each(changes)
        else:
            self.watchers.tell(changes)

    def absorb(self, changes: Iterable[Change]) -> None:
        """Let a commit take its effect on all that waits for work or for orders."""
        self.effects.absorb(changes)

    def refresh_profile(self, session: Session) -> None:
        """The worker's models have changed: it may serve other lanes now."""
        self.waiters.wake_session(session)
        models = (model.model_id for model in self.catalogue.on_worker(session.worker.worker_id))
        before = session.profile
        self.sessions.look(session, profile(session.worker, models))
        self.forget_profile(before)

    def keep_worker(self, worker: Worker) -> None:
        """A worker as it is known from now on. Whose it is never changes."""
        if worker.worker_id not in self.workers:
            self.workers_of[worker.tenant, worker.user] += 1
        self.workers[worker.worker_id] = worker

    def meet(self, worker: Worker) -> None:
        """A worker as it is kept now: it may drain since, or live elsewhere."""
        self.keep_worker(worker)
        session = self.sessions.of_worker(worker.worker_id)
        if session is None:
            return
        if session.session_id != worker.session_id or worker.replica_id != self.replica_id:
            self.leave(session)
            return
        if worker.draining and not session.worker.draining:
            session.order(Directive(DirectiveType.DRAIN))
            self.waiters.wake_session(session)
        session.worker = replace(worker, draining=worker.draining or session.worker.draining)

    def is_current(self, worker: Worker) -> bool:
        """Whether nothing newer is known of the worker: news of others may have overtaken an answer to a call here."""
        known = self.workers.get(worker.worker_id)
        return known is not None and worker.connect_time >= known.connect_time

    def forget_worker(self, worker_id: int) -> None:
        """The worker was removed, here or elsewhere. Its id never comes again."""
        if (known := self.workers.pop(worker_id, None)) is not None:
            owner = (known.tenant, known.user)
            self.workers_of[owner] -= 1
            if not self.workers_of[owner]:
                del self.workers_of[owner]
        if (session := self.sessions.of_worker(worker_id)) is not None:
            self.leave(session)

    def leave(self, session: Session) -> None:
        """The session is over: its polls end, and its stream is told."""
        self.sessions.remove(session)
        self.waiters.wake_session(session)
        self.forget_profile(session.profile)

    def forget_profile(self, before: Profile) -> None:
        """Forget what such a worker serves, where no session has one."""
        if not self.sessions.any_look_like(before):
            self.board.forget_profile(before)

    def refuse_when_draining(self) -> None:
        """Raises `Draining` where nothing new is taken any more."""
        if self.draining:
            raise Draining

    def new_token(self) -> str:
        """128 random bits: what a lease or a session is proved by."""
        return f"{self.rng.getrandbits(128):032x}"


async def _nothing_new() -> None:
    """Nobody else writes to the store."""
