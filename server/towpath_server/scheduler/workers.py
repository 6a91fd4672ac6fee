"""The verbs of workers: sessions, leases and reports."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

from towpath_server.core.job import SECOND, Job
from towpath_server.core.matching import profile
from towpath_server.core.records import ModelRecord, Principal, Replica, Worker
from towpath_server.scheduler import audit
from towpath_server.scheduler.connection import Connection
from towpath_server.scheduler.messages import Directive, DirectiveType, Registered, Registration
from towpath_server.scheduler.newcomers import demand_place, demand_share
from towpath_server.scheduler.sessions import Poll, Session
from towpath_server.scheduler.state import State
from towpath_server.scheduler.transactions.claim import NO_ROOMS, Claim, ClaimItem
from towpath_server.scheduler.transactions.expire import BOOT_GRACE, BootGrace
from towpath_server.scheduler.transactions.models import SYNC, Sync, owned
from towpath_server.scheduler.transactions.sessions import (
    ADOPT,
    BEGIN,
    END,
    MOST_HELD,
    RECOUNT,
    Adopt,
    Begin,
    End,
    Recount,
)


class Workers:
    """What workers call."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._claim = Claim(state.new_token)
        self._ending: list[Session] = []
        self._homeless: frozenset[str] = frozenset()

    async def register(self, principal: Principal, asked: Registration) -> Registered:
        """Begin a session: the worker's jobs that it does not name are given to others.

        Raises `Forbidden` where the worker shares more than its token may, and `TooBusy` where it is a new one and its
        user has very many.
        """
        self._state.refuse_when_draining()
        demand_share(principal, asked.share)
        return await self._state.carry_out(self._begin(principal, asked))

    async def _begin(self, principal: Principal, asked: Registration) -> Registered:
        # It may come from another scheduler, with models that are not known here yet.
        await self._state.catch_up()
        candidate, fresh_id = self._worker(principal, asked), self._state.ids.next()
        demand_place(self._state, candidate)
        gone = self._gone(candidate.worker_id, owned(asked.models, candidate))
        told = audit.event(
            self._state, principal, audit.WORKER_JOINED, name=candidate.name, share=candidate.share.name.lower()
        )
        begin = Begin(candidate, fresh_id, asked.held, asked.models, gone, told)
        begun = await self._state.committer.submit(BEGIN, begin)
        worker = begun.worker
        before = self._state.sessions.of_worker(worker.worker_id)
        if before is not None:
            self._state.leave(before)
        self._state.keep_worker(worker)
        self._state.catalogue.discard(begun.gone_models)
        self._state.catalogue.add(begun.models)
        session = self._live(worker)
        session.last_heard = self._state.clock.wall()
        session.late = {lease.job_id: lease.token for lease in begun.late}
        self._state.absorb(begun.changes)
        for lease in begun.superseded:
            session.order(Directive(DirectiveType.ABANDON, lease.job_id, lease.token, "the lease is over"))
        if worker.replica_id != self._state.replica_id:
            # This scheduler was taken for dead meanwhile and has another number: the worker must ask again.
            self._state.leave(session)
        intervals = self._state.intervals
        return Registered(worker.worker_id, worker.session_id, intervals.heartbeat, intervals.lease_ttl, intervals.poll)

    def _worker(self, principal: Principal, asked: Registration) -> Worker:
        now = self._state.clock.wall()
        return Worker(
            worker_id=asked.worker_id or 0,
            name=asked.name or asked.machine.hostname,
            tenant=principal.tenant,
            user=principal.user,
            slots=asked.slots,
            job_types=asked.job_types,
            labels=asked.labels,
            machine=asked.machine,
            version=asked.version,
            create_time=now,
            connect_time=now,
            session_id=f"ses_{self._state.new_token()}",
            replica_id=self._state.replica_id,
            share=asked.share,
            token_id=principal.token_id,
        )

    def _gone(self, worker_id: int, models: Iterable[ModelRecord]) -> tuple[ModelRecord, ...]:
        kept = {model.model_id for model in models}
        return tuple(model for model in self._state.catalogue.on_worker(worker_id) if model.model_id not in kept)

    def _live(self, worker: Worker) -> Session:
        models = (model.model_id for model in self._state.catalogue.on_worker(worker.worker_id))
        deadline = self._state.clock.steady() + self._state.intervals.lease_ttl
        session = Session(worker, profile(worker, models), deadline)
        if worker.draining:
            # The scheduler that was asked for it may have died before the worker was told.
            session.order(Directive(DirectiveType.DRAIN))
        self._state.sessions.add(session)
        return session

    async def lease(
        self, principal: Principal, worker_id: int, session_id: str, poll_id: str, max_jobs: int, wait: int | None
    ) -> list[Job]:
        """Jobs for free slots, best first, or none after `wait` microseconds. The same poll_id gets the same jobs.

        Raises `SessionUnknown`; `Draining` where the scheduler stops.
        """
        self._state.refuse_when_draining()
        session = self._state.sessions.require(principal, worker_id, session_id)
        poll = session.poll
        if poll is None or poll.poll_id != poll_id or poll.has_failed:
            longest = min(wait if wait is not None else self._state.intervals.poll, self._state.intervals.poll)
            poll = session.poll = Poll(poll_id)
            poll.task = asyncio.get_running_loop().create_task(self._poll(session, poll, max_jobs, longest))
        poll.callers += 1
        try:
            jobs = await asyncio.shield(poll.task)
        except asyncio.CancelledError:
            # Nobody listens any more. What was leased meanwhile is kept for the same poll_id until the offer is lost.
            if poll.callers == 1 and not poll.task.done():
                poll.gone = True
                self._state.waiters.wake_session(session)
            raise
        finally:
            poll.callers -= 1
        if not jobs:
            self._state.refuse_when_draining()
        return [job for job in jobs if job.lease and session.holds(job.job_id, job.lease.token)]

    async def _poll(self, session: Session, poll: Poll, max_jobs: int, wait: int) -> list[Job]:
        try:
            return await self._search(session, poll, max_jobs, wait)
        finally:
            if poll.woken:
                self._pass_on(session)

    def _pass_on(self, session: Session) -> None:
        """A woken poll may have taken other jobs than it was woken for, or none, while others are parked."""
        if not len(self._state.waiters):
            return
        for demand in self._state.board.served(session.profile, session.worker.worker_id):
            self._state.waiters.wake(demand.lane, len(demand.entries))
        # To look has brought it back.
        self._state.forget_profile(session.profile)

    async def _search(self, session: Session, poll: Poll, max_jobs: int, wait: int) -> list[Job]:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait / SECOND
        while not (poll.gone or session.over or session.worker.draining or self._state.draining):
            allowance = self._state.allowance
            rooms = allowance.rooms(session.worker.tenant) if allowance.is_on else NO_ROOMS
            eligible = self._state.board.eligible(session.profile, session.worker.worker_id)
            if eligible.entries:
                worker = session.worker
                item = ClaimItem(worker.worker_id, session.session_id, worker.tenant, eligible.entries, max_jobs, rooms)
                settled = allowance.reserve(rooms, max_jobs)
                try:
                    outcome = await self._state.committer.submit(self._claim.verb, item)
                finally:
                    settled()
                self._state.board.settle(outcome.heads, eligible.pushes)
                self._state.absorb(outcome.changes)
                if outcome.jobs:
                    return await self._claimed(session, outcome.jobs)
                continue
            waiter = self._state.waiters.park(session, max_jobs)
            try:
                async with asyncio.timeout_at(deadline):
                    jobs = await asyncio.shield(waiter.handed)
            except TimeoutError:
                # A create may have taken this poll and wait for its commit: then its jobs come with the next breath.
                if not self._state.waiters.leave(waiter):
                    return await waiter.handed
                return []
            if jobs:
                return jobs
            poll.woken = True
        return []

    async def _claimed(self, session: Session, jobs: Sequence[Job]) -> list[Job]:
        if not session.over:
            return list(jobs)
        # It ended while the claim was on its way: nobody will ever mention these offers.
        recount = Recount(session.session_id, forgotten=tuple(job.job_id for job in jobs))
        given_back = await self._state.committer.submit(RECOUNT, recount)
        self._state.absorb(given_back.changes)
        return []

    def connect(self, principal: Principal, worker_id: int, session_id: str) -> Connection:
        """A report stream of the session. Raises `SessionUnknown`."""
        return Connection(self._state, self._state.sessions.require(principal, worker_id, session_id))

    async def sync_models(
        self, principal: Principal, worker_id: int, session_id: str, models: Sequence[ModelRecord]
    ) -> None:
        """The worker holds these models and no others."""
        session = self._state.sessions.require(principal, worker_id, session_id)
        await self._state.carry_out(self._sync_models(session, models))

    async def _sync_models(self, session: Session, models: Sequence[ModelRecord]) -> None:
        gone = self._gone(session.worker.worker_id, owned(models, session.worker))
        kept = await self._state.committer.submit(SYNC, Sync(session.worker, tuple(models), gone))
        self._state.catalogue.discard(gone)
        self._state.catalogue.add(kept)
        self._state.refresh_profile(session)

    async def deregister(self, principal: Principal, worker_id: int, session_id: str) -> None:
        """End the session; what it holds goes back to the head of its queue."""
        session = self._state.sessions.require(principal, worker_id, session_id)
        await self._state.carry_out(self._end(session, released=True))

    async def end_silent_sessions(self) -> None:
        """End the sessions that were not heard of for a whole lease; their jobs are lost with them."""
        # None of them must be handed what another one lost.
        for session in self._state.sessions.silent():
            self.end_later(session)
        for session in list(self._ending):
            await self._end(session, released=False)

    def end_later(self, session: Session) -> None:
        """The session is over, and the store does not know it yet: the next look at the clocks tells it."""
        self._state.leave(session)
        if session not in self._ending:
            self._ending.append(session)

    async def _end(self, session: Session, *, released: bool) -> None:
        self.end_later(session)
        # Where the store does not answer, the session stays here for the next look at the clocks.
        ended = await self._state.committer.submit(END, End(session.worker, released))
        if ended.worker is not None and self._state.is_current(ended.worker):
            self._state.keep_worker(ended.worker)
        self._state.absorb(ended.changes)
        if session in self._ending:
            self._ending.remove(session)

    async def recover(self) -> None:
        """After a start: every session of before lives for one lease, and no clock of its jobs runs out sooner."""
        await self._take_up([worker for worker in self._state.workers.values() if worker.session_id])

    async def adopt(self, orphans: Sequence[Worker], dead: Sequence[Replica]) -> None:
        """The same for sessions that lived on others, dead or gone, and that nobody else has taken."""
        adopt = Adopt(tuple(orphans), self._state.replica_id, tuple(dead))
        adopted = await self._state.committer.submit(ADOPT, adopt)
        for worker in adopted:
            self._state.keep_worker(worker)
        await self._take_up(adopted)

    async def take_home(self) -> None:
        """Let those sessions live again that are kept as this scheduler's and that it does not have.

        They were begun or taken over, and what came then has failed. Where the worker is gone too, nobody else would
        ever end them. Called again and again: one that has just begun is on its way, and left alone the first time.
        """
        ending = {session.session_id for session in self._ending}
        homeless = {
            worker.session_id: worker
            for worker in self._state.workers.values()
            if worker.session_id
            and worker.replica_id == self._state.replica_id
            and worker.session_id not in ending
            and self._state.sessions.get(worker.session_id) is None
        }
        known, self._homeless = self._homeless, frozenset(homeless)
        await self._take_up([worker for session_id, worker in homeless.items() if session_id in known])

    async def _take_up(self, workers: Sequence[Worker]) -> None:
        if not workers:
            return
        until = self._state.clock.wall() + self._state.intervals.lease_ttl
        ids = tuple(worker.session_id for worker in workers)
        graced = await self._state.committer.submit(BOOT_GRACE, BootGrace(ids, until, MOST_HELD))
        # Not before it is known what they hold: a worker that comes meanwhile would be told to abandon all of it.
        for worker in workers:
            kept = self._state.workers.get(worker.worker_id)
            if kept is not None and kept.session_id == worker.session_id:
                self._live(worker)
        self._state.absorb(graced.changes)
