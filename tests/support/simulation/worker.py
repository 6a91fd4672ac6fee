"""A worker as worker/towpath_worker is one, at the level of its messages: it runs jobs, sleeps, forgets and dies."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from support.simulation.book import Run
from support.simulation.network import Lost
from support.simulation.outbox import Outbox, Spool
from support.simulation.sessions import Sessions
from towpath_server.core.errors import TowpathError
from towpath_server.core.events import Failed, Progressed, Released, Started, Succeeded
from towpath_server.core.job import Failure, FailureCause, Job, Progress
from towpath_server.core.records import Principal
from towpath_server.scheduler import Scheduler
from towpath_server.scheduler.messages import (
    Directive,
    DirectiveType,
    HeldLease,
    Logged,
)

if TYPE_CHECKING:
    from support.simulation.world import World


class Attempt:
    """One running job."""

    def __init__(self, lease: HeldLease) -> None:
        self.lease = lease
        self.stop = asyncio.Event()
        self.may_finish = False
        self.silent = False
        self.task: asyncio.Task[None] | None = None


class SimulatedWorker(Sessions):
    """One state folder and, most of the time, a process on it."""

    def __init__(self, world: World, name: str, principal: Principal, slots: int, job_types: tuple[str, ...]) -> None:
        super().__init__(world, name, principal, slots, job_types)
        self._spool = Spool()
        self._process: asyncio.Task[None] | None = None
        self._begin_process()

    def _begin_process(self) -> None:
        self._begin_sessions(Outbox(self._spool))
        self._running: dict[HeldLease, Attempt] = {}
        self._unwanted: dict[HeldLease, None] = {}

    # Its life.

    async def live(self) -> None:
        """Process after process, until cancelled."""
        while True:
            self._begin_process()
            self.world.trace.step(self.name, "starts")
            self._process = asyncio.ensure_future(self._work())
            with suppress(asyncio.CancelledError):
                await self._process
            if (task := asyncio.current_task()) is not None and task.cancelling():
                raise asyncio.CancelledError
            await asyncio.sleep(self.world.rng.uniform(0.1, 8.0) * (0.1 if self.world.healed else 1))
            if not self.world.healed and self.world.rng.random() < 0.1:
                # Another machine, or a lost folder.
                self._worker_id, self._spool = None, Spool()

    def die(self) -> None:
        """`kill -9`, and its jobs die with it."""
        if self._process is not None and not self._process.done():
            self.world.trace.step(self.name, "dies")
            self._awake.set()
            self._process.cancel()

    async def sleep(self, seconds: float) -> None:
        """The lid is closed: nothing goes on, and all is as it was when it is opened again."""
        self.world.trace.step(self.name, f"sleeps for {seconds:.1f} s")
        self._awake.clear()
        await asyncio.sleep(seconds)
        self.wake()

    def wake(self) -> None:
        """The lid is opened."""
        self._awake.set()
        inbox, self._inbox = self._inbox, []
        for said in inbox:
            self._hear(said)

    def drain(self) -> None:
        """Take no more, finish, stop."""
        self._draining.set()

    def forget(self) -> None:
        """Lose a running job without a word, as a bug or a killed child may."""
        for attempt in list(self._running.values())[:1]:
            self.world.trace.step(self.name, f"forgets {self.world.trace.lease(attempt.lease.token)}")
            attempt.silent = True
            attempt.stop.set()

    async def drain_remotely(self, scheduler: Scheduler) -> None:
        """Somebody drains it at the scheduler."""
        if self._worker_id is not None:
            await scheduler.fleet.drain(self._principal, self._worker_id)

    async def remove(self, scheduler: Scheduler) -> None:
        """Its owner removes it for good."""
        if self._worker_id is not None:
            self.world.book.removals.add(self._worker_id)
            await scheduler.fleet.remove(self._principal, self._worker_id)

    async def revoke(self, scheduler: Scheduler) -> None:
        """Its owner makes its credential void."""
        if self._credential.token_id is not None:
            await scheduler.access.revoke(self._principal, self._credential.token_id)

    def lie(self) -> None:
        """Tell a result of a job under a lease that is over, or under none."""
        book = self.world.book
        if book.ledger.jobs:
            job_id = self.world.rng.choice(list(book.ledger.jobs))
            mine = [token for token, grant in book.ledger.grants.items() if grant.job_id == job_id]
            stale = self.world.rng.choice(mine[:-1]) if len(mine) > 1 else ""
            event = Succeeded(stale, f"{job_id} {stale}".encode())
            if self.world.rng.random() < 0.3:
                self._outbox.add(job_id, Failed(stale, Failure(FailureCause.HANDLER, "Lie", stale)))
            else:
                self._outbox.add(job_id, event)

    async def _work(self) -> None:
        tasks = [asyncio.ensure_future(self._keep_reporting()), asyncio.ensure_future(self._lease_jobs())]
        try:
            await self._draining.wait()
            tasks[1].cancel()
            with suppress(TimeoutError):
                async with asyncio.timeout(10):
                    while self._running or not self._outbox.is_empty:
                        self._changed.clear()
                        await self._changed.wait()
            if self._registered is not None:
                registered, self._registered = self._registered, None
                self.world.book.deregistered.add(registered.session_id)
                with suppress(Lost, TowpathError):
                    await self._contact.call(
                        lambda s: s.workers.deregister(self._principal, registered.worker_id, registered.session_id),
                        patience=3.0,
                    )
            self.world.trace.step(self.name, "ends")
        finally:
            for task in [*tasks, *(one.task for one in self._running.values() if one.task is not None)]:
                task.cancel()
            if self._stream is not None:
                self._stream.close()

    # Its orders.

    def _obey(self, directive: Directive) -> None:
        token = self.world.trace.lease(directive.token) if directive.token else ""
        self.world.trace.step(self.name, f"told {directive.type.name} {token}")
        lease = HeldLease(directive.job_id or 0, directive.token)
        match directive.type:
            case DirectiveType.REREGISTER:
                self._registered = None
                self._outbox.changed.set()
            case DirectiveType.DRAIN:
                self.drain()
            case DirectiveType.ABANDON:
                self._stop(lease, silent=True)
                self._outbox.drop(lease)
            case DirectiveType.KILL:
                self._stop(lease)
            case DirectiveType.CANCEL | DirectiveType.PAUSE:
                self._stop(lease, may_finish=self.world.rng.random() < 0.5)

    def _stop(self, lease: HeldLease, *, silent: bool = False, may_finish: bool = False) -> None:
        attempt = self._running.get(lease)
        if attempt is None:
            self._unwanted[lease] = None
        else:
            attempt.silent = attempt.silent or silent
            attempt.may_finish = may_finish
            attempt.stop.set()

    def _held(self) -> dict[HeldLease, None]:
        return {**dict.fromkeys(self._running), **self._outbox.held()}

    # Its jobs.

    def _begin(self, job: Job) -> None:
        assert job.lease is not None
        lease = HeldLease(job.job_id, job.lease.token)
        if lease in self._held():
            return
        for older in [one for one in self._running if one.job_id == lease.job_id]:
            self._stop(older, silent=True)
            self._outbox.drop(older)
        attempt = self._running[lease] = Attempt(lease)
        attempt.task = asyncio.ensure_future(self._run(job, attempt))

    async def _run(self, job: Job, attempt: Attempt) -> None:
        lease, rng = attempt.lease, self.world.rng
        try:
            if lease in self._unwanted:
                self._outbox.add(lease.job_id, Released(lease.token, "stopped"))
                return
            self.world.auditor.runs(Run(lease.job_id, lease.token, self.name))
            plan = self.world.fate.plan()
            if plan.unable:
                self._outbox.add(lease.job_id, Released(lease.token, "no memory", unable=True))
                return
            self._outbox.add(lease.job_id, Started(lease.token))
            offset = 0
            for number in range(plan.pieces):
                if await self._stopped(attempt, plan.seconds / plan.pieces):
                    break
                if rng.random() < 0.5:
                    progress = Progress(percent=100 * (number + 1) / plan.pieces, message=lease.token)
                    self._outbox.add(lease.job_id, Progressed(lease.token, progress))
                if rng.random() < 0.3:
                    self._outbox.add(lease.job_id, Logged(lease.token, offset, lease.token, 1, 0))
                    offset += len(lease.token)
            if attempt.silent:
                return
            if attempt.stop.is_set() and not attempt.may_finish:
                self._outbox.add(lease.job_id, Released(lease.token, "stopped"))
            elif plan.fails or (attempt.stop.is_set() and rng.random() < 0.4):
                failure = Failure(FailureCause.HANDLER, plan.failure, lease.token, retryable=plan.retryable)
                self._outbox.add(lease.job_id, Failed(lease.token, failure))
            else:
                self._outbox.add(lease.job_id, Succeeded(lease.token, f"{lease.job_id} {lease.token}".encode()))
        finally:
            self._running.pop(lease, None)
            self._changed.set()

    async def _stopped(self, attempt: Attempt, seconds: float) -> bool:
        if not attempt.stop.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await attempt.stop.wait()
        await self._awake.wait()
        return attempt.stop.is_set()

    def _free_slots(self) -> int:
        return self.slots - len(self._running)
