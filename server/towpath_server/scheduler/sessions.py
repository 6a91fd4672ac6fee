"""The living sessions of workers: what they hold, what they are told, when they were last heard of.

All of it is rebuilt from the store and from the workers' own words after a restart.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from towpath_server.core.errors import SessionUnknown
from towpath_server.core.job import Job
from towpath_server.core.matching import Profile
from towpath_server.core.records import Principal, Worker
from towpath_server.scheduler.messages import Directive, DirectiveType, HeldLease, Load

NEVER = 1 << 62
OrderKey = tuple[DirectiveType, int | None, str]


@dataclass(slots=True)
class Held:
    """A lease as the scheduler knows it; `missed` counts the heartbeats in a row that did not name it.

    `revision` is the job's when this was learned: older news of the job say nothing about it.
    """

    token: str
    confirmed: bool
    revision: int
    missed: int = 0


@dataclass(slots=True, eq=False)
class Poll:
    """The latest poll of a session: the same poll_id gets the same answer.

    `gone`: nobody waits for it any more. `woken`: it was parked, and then told to look again.
    """

    poll_id: str
    callers: int = 0
    gone: bool = False
    woken: bool = False
    task: asyncio.Task[list[Job]] = field(init=False)

    @property
    def has_failed(self) -> bool:
        """Whether it ended with an error: that is no answer to give again."""
        return self.task.done() and (self.task.cancelled() or self.task.exception() is not None)


@dataclass(slots=True, eq=False)
class Session:
    """One life of a worker's process. `deadline` and `last_heard` are microseconds of the steady and the wall clock."""

    worker: Worker
    profile: Profile
    deadline: int
    last_heard: int | None = None
    load: Load = Load()
    held: dict[int, Held] = field(default_factory=dict)
    late: dict[int, str] = field(default_factory=dict)
    poll: Poll | None = None
    over: bool = False
    _orders: dict[OrderKey, Directive] = field(default_factory=dict)
    _told: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def session_id(self) -> str:
        return self.worker.session_id

    def holds(self, job_id: int, token: str) -> bool:
        """Whether this lease is the session's."""
        held = self.held.get(job_id)
        return held is not None and held.token == token

    def order(self, directive: Directive) -> None:
        """Tell the worker something: now, or when its stream stands again."""
        self._orders[(directive.type, directive.job_id, directive.token)] = directive
        self._told.set()

    def settle(self, job_id: int) -> None:
        """The lease is over and the worker knows: what was to be told of it has no object any more."""
        self.held.pop(job_id, None)
        if self._orders:
            for key in [key for key in self._orders if key[1] == job_id]:
                del self._orders[key]

    async def new_orders(self, told: set[OrderKey]) -> list[Directive]:
        """Orders that are not in `told`: now, or after the next word; perhaps none."""
        fresh = self._fresh(told)
        if not fresh:
            self._told.clear()
            await self._told.wait()
            fresh = self._fresh(told)
        return fresh

    def poke(self) -> None:
        """Let those who wait for orders look up."""
        self._told.set()

    def _fresh(self, told: set[OrderKey]) -> list[Directive]:
        told.intersection_update(self._orders)
        fresh = {key: order for key, order in self._orders.items() if key not in told}
        told.update(fresh)
        for key in fresh:
            # An ABANDON is told once: a worker that still holds the lease will name it again.
            if key[0] is DirectiveType.ABANDON:
                del self._orders[key]
        return list(fresh.values())

    def end(self) -> None:
        """The session is over: polls end empty, streams are told to register again."""
        self.over = True
        self.order(Directive(DirectiveType.REREGISTER))

    def drop_obeyed(self, named: Iterable[HeldLease]) -> None:
        """Forget orders about leases that are over and that the worker does not hold any more."""
        heard = {(lease.job_id, lease.token) for lease in named}
        for key in list(self._orders):
            _, job_id, token = key
            if job_id is not None and job_id not in self.held and (job_id, token) not in heard:
                del self._orders[key]

    def unnamed(self, named: Iterable[HeldLease], most_missed: int) -> list[int]:
        """The confirmed leases that have not been named for more than `most_missed` heartbeats in a row."""
        heard = {(lease.job_id, lease.token) for lease in named}
        forgotten = []
        for job_id, held in self.held.items():
            held.missed = 0 if (job_id, held.token) in heard or not held.confirmed else held.missed + 1
            if held.missed > most_missed:
                forgotten.append(job_id)
        return forgotten


class Sessions:
    """The living sessions by id and by worker."""

    def __init__(self, steady: Callable[[], int]) -> None:
        self._steady = steady
        self._by_id: dict[str, Session] = {}
        self._by_worker: dict[int, Session] = {}
        self._holders: dict[int, Session] = {}
        self._looks: Counter[Profile] = Counter()
        # No deadline is sooner: they only ever move away.
        self._soonest = NEVER

    def __iter__(self) -> Iterator[Session]:
        return iter(list(self._by_id.values()))

    def add(self, session: Session) -> None:
        """A session lives."""
        self._by_id[session.session_id] = session
        self._by_worker[session.worker.worker_id] = session
        self._looks[session.profile] += 1
        self._soonest = min(self._soonest, session.deadline)

    def remove(self, session: Session) -> None:
        """A session is over."""
        session.end()
        for job_id in session.held:
            self._forget(session, job_id)
        if self._by_id.pop(session.session_id, None) is not None:
            self._count_less(session.profile)
        if self._by_worker.get(session.worker.worker_id) is session:
            del self._by_worker[session.worker.worker_id]

    def hold(self, session: Session, job_id: int, held: Held) -> None:
        """The session has this lease."""
        session.held[job_id] = held
        self._holders[job_id] = session

    def settle(self, session: Session, job_id: int) -> None:
        """Its lease of the job is over and the worker knows."""
        session.settle(job_id)
        self._forget(session, job_id)

    def _forget(self, session: Session, job_id: int) -> None:
        if self._holders.get(job_id) is session:
            del self._holders[job_id]

    def holder(self, job_id: int) -> Session | None:
        """The session that has a lease of the job."""
        return self._holders.get(job_id)

    def look(self, session: Session, profile: Profile) -> None:
        """The worker of a session looks different now."""
        if session.session_id in self._by_id:
            self._looks[profile] += 1
            self._count_less(session.profile)
        session.profile = profile

    def any_look_like(self, profile: Profile) -> bool:
        """Whether there is a session of such a worker."""
        return profile in self._looks

    def _count_less(self, profile: Profile) -> None:
        self._looks[profile] -= 1
        if not self._looks[profile]:
            del self._looks[profile]

    def get(self, session_id: str) -> Session | None:
        """The session, if it lives."""
        return self._by_id.get(session_id)

    def of_worker(self, worker_id: int) -> Session | None:
        """The worker's session, if it has one."""
        return self._by_worker.get(worker_id)

    def require(self, principal: Principal, worker_id: int, session_id: str) -> Session:
        """The session, where it is this caller's; else `SessionUnknown`."""
        session = self._by_id.get(session_id)
        if session is None or session.worker.worker_id != worker_id:
            raise SessionUnknown
        if (session.worker.tenant, session.worker.user) != (principal.tenant, principal.user):
            raise SessionUnknown
        return session

    def silent(self) -> list[Session]:
        """The sessions that were not heard of for a whole lease."""
        now = self._steady()
        if now < self._soonest:
            return []
        silent = [session for session in self._by_id.values() if session.deadline <= now]
        self._soonest = min((session.deadline for session in self._by_id.values()), default=NEVER)
        return silent
