"""A worker's side of its sessions: it registers, polls, and keeps one stream of reports through all breaks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from support.simulation.book import Beginning
from support.simulation.credential import Credential
from support.simulation.network import Lost
from support.simulation.outbox import Outbox
from support.simulation.server import Contact
from support.simulation.streams import ServerStream
from towpath_server.core.errors import SessionUnknown, TowpathError, Unauthenticated
from towpath_server.core.job import Job
from towpath_server.core.records import Machine, Principal
from towpath_server.scheduler import Scheduler
from towpath_server.scheduler.messages import (
    Directive,
    Heartbeat,
    HeldLease,
    Registered,
    Registration,
)

if TYPE_CHECKING:
    from support.simulation.world import World

MACHINE = Machine(cpu_count=2, memory_mb=1000)


class Sessions:
    """What worker/towpath_worker/session.py does. Whoever runs the jobs fills in the rest."""

    def __init__(self, world: World, name: str, principal: Principal, slots: int, job_types: tuple[str, ...]) -> None:
        self.name = name
        self.slots = slots
        self.world = world
        self._principal = principal
        self._job_types = job_types
        self._worker_id: int | None = None
        self._contact = Contact(world)
        self._credential = Credential(world, principal)
        self._awake = asyncio.Event()
        self._awake.set()

    def _begin_sessions(self, outbox: Outbox) -> None:
        """A new process: it has no session yet."""
        self._outbox = outbox
        self._registered: Registered | None = None
        self._registering = asyncio.Lock()
        self._stream: ServerStream | None = None
        self._broken = asyncio.Event()
        self._changed = asyncio.Event()
        self._draining = asyncio.Event()
        self._inbox: list[Any] = []
        self._share = self.world.rights.share_of(self.name, self._principal.tenant, self._job_types)

    def _held(self) -> dict[HeldLease, None]:
        """The leases that run here, or whose outcomes are not acked."""
        raise NotImplementedError

    def _free_slots(self) -> int:
        """How many jobs more it takes."""
        raise NotImplementedError

    def _begin(self, job: Job) -> None:
        """A lease has come."""
        raise NotImplementedError

    def die(self) -> None:
        """The process ends at once."""
        raise NotImplementedError

    def _obey(self, directive: Directive) -> None:
        """The scheduler says something."""
        raise NotImplementedError

    async def _register(self) -> Registered:
        async with self._registering:
            while self._registered is None:
                await self._awake.wait()
                held = tuple(self._held())
                try:
                    await self._credential.obtain(self._contact, self.name)
                    answer = await self._contact.call(self._asking(held), patience=15.0)
                except (Lost, TowpathError) as error:
                    self.world.trace.step(self.name, f"not registered: {type(error).__name__}")
                    self._refused(error)
                    await self._back_off()
                else:
                    self._outbox.renumber()
                    self._registered, self._worker_id = answer, answer.worker_id
                    self.world.trace.step(self.name, f"registered, holds {self._names(held)}")
            return self._registered

    def _asking(self, held: tuple[HeldLease, ...]) -> Callable[[Scheduler], Coroutine[Any, Any, Registered]]:
        asked = Registration(
            worker_id=self._worker_id,
            name=self.name,
            slots=self.slots,
            job_types=self._job_types,
            machine=MACHINE,
            held=held,
            share=self._share,
        )
        return lambda scheduler: self._ask(scheduler, asked)

    async def _ask(self, scheduler: Scheduler, asked: Registration) -> Registered:
        principal = await self._credential.proved(scheduler)
        if asked.worker_id is not None:
            named = frozenset(lease.token for lease in asked.held)
            steady = self.world.loop.microseconds
            self.world.book.beginnings.append(Beginning(steady, asked.worker_id, named))
        registered = await scheduler.workers.register(principal, asked)
        self.world.book.hear(registered.session_id, self.world.loop.microseconds)
        return registered

    async def _lease_jobs(self) -> None:
        number = 0
        while not self._draining.is_set():
            while self._free_slots() <= 0:
                self._changed.clear()
                await self._changed.wait()
            registered: Registered | None = None
            jobs: list[Job] | None = None
            while jobs is None:
                current = await self._register()
                if current is not registered:
                    registered, number = current, number + 1
                    free = self._free_slots()
                poll_id = f"{self.name}-{number}"
                await self._awake.wait()
                try:
                    jobs = await self._poll(current, poll_id, free)
                except SessionUnknown:
                    self._forget_session(current)
                except (Lost, TowpathError) as error:
                    self.world.trace.step(self.name, f"{poll_id}: {type(error).__name__}")
                    self._refused(error)
                    await self._back_off()
            await self._awake.wait()
            number += 1
            for job in jobs:
                self._begin(job)

    async def _poll(self, current: Registered, poll_id: str, free: int) -> list[Job]:
        impatient = self.world.rng.random() < self.world.fate.impatience
        patience = self.world.rng.uniform(0.0, 2.0) if impatient else current.poll_timeout / 1e6 + 5
        jobs = await self._contact.call(
            lambda s: self._lease(s, current, poll_id, free),
            patience=patience,
        )
        self.world.trace.step(self.name, f"{poll_id} gives {[self.world.trace.job(job.job_id) for job in jobs]}")
        return jobs

    async def _lease(self, scheduler: Scheduler, current: Registered, poll_id: str, free: int) -> list[Job]:
        principal = await self._credential.proved(scheduler)
        callers, task = self.world.book.memories[scheduler].callers, asyncio.current_task()
        assert task is not None
        callers[task] = principal.token_id
        try:
            jobs = await scheduler.workers.lease(
                principal, current.worker_id, current.session_id, poll_id, free, current.poll_timeout
            )
        finally:
            del callers[task]
        self.world.auditor.polled(scheduler, current.session_id, poll_id, jobs, free)
        return jobs

    async def _keep_reporting(self) -> None:
        while True:
            registered = await self._register()
            await self._awake.wait()
            self._outbox.rewind()
            self._broken = broken = asyncio.Event()
            try:
                await asyncio.sleep(self.world.network.delay())
                if self.world.network.loses_request():
                    raise Lost
                self._stream = stream = self._contact.open(self._credential.shown, registered, self._hear)
            except SessionUnknown:
                self._forget_session(registered)
                await self._back_off()
                continue
            except Lost:
                await self._back_off()
                continue
            try:
                await self._talk(registered, stream, broken)
            finally:
                stream.close()
                self._stream = None
            self.world.trace.step(self.name, "its stream broke")
            if self._registered is registered:
                await self._back_off()

    async def _talk(self, registered: Registered, stream: ServerStream, broken: asyncio.Event) -> None:
        loop, rng = self.world.loop, self.world.rng
        due = loop.time()
        while self._registered is registered and not broken.is_set():
            await self._awake.wait()
            self._outbox.changed.clear()
            reports = self._outbox.take(rng.randint(1, 5))
            beat = None
            if loop.time() >= due:
                beat = Heartbeat(tuple(self._held()), draining=self._draining.is_set())
                due = loop.time() + registered.heartbeat_interval / 1e6
            if reports or beat is not None:
                for report in reports:
                    self.world.trace.step(self.name, f"{report.sequence}: {self._words(report.job_id, report.event)}")
                if self.world.network.breaks():
                    break
                stream.send(beat, reports)
                continue
            with suppress(TimeoutError):
                async with asyncio.timeout_at(due):
                    await self._outbox.changed.wait()

    def _hear(self, said: Any) -> None:
        if not self._awake.is_set():
            self._inbox.append(said)
        elif said is None:
            self._broken.set()
            self._outbox.changed.set()
        else:
            acked, directives = said
            self._outbox.acked(acked)
            self._changed.set()
            for directive in directives:
                self._obey(directive)

    def _refused(self, error: Exception) -> None:
        if isinstance(error, Unauthenticated):
            # As the worker does: it ends, and has to be invited anew.
            self._credential.lose()
            self.die()

    def _forget_session(self, registered: Registered) -> None:
        if self._registered is registered:
            self._registered = None

    async def _back_off(self) -> None:
        await asyncio.sleep(self.world.rng.uniform(0.05, 1.0))

    def _words(self, job_id: int, event: Any) -> str:
        return f"{type(event).__name__} {self.world.trace.job(job_id)} {self.world.trace.lease(event.token)}"

    def _names(self, held: tuple[HeldLease, ...]) -> str:
        return ", ".join(self.world.trace.lease(lease.token) for lease in held) or "nothing"
