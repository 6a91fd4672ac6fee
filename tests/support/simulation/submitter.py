"""Submitters: they create jobs, repeat what was not answered, change their minds, and follow what becomes of it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from support.simulation.ask import Ask
from support.simulation.follower import Follower
from support.simulation.network import Lost
from support.simulation.server import Contact
from towpath_server.core.errors import JobNotFound, QuotaExceeded, RequestIdReused, TowpathError
from towpath_server.core.job import DAY, SECOND, ConflictPolicy, Definition, Job, Priority, RetryPolicy, Timeouts
from towpath_server.core.records import Principal
from towpath_server.scheduler import Scheduler
from towpath_server.scheduler.messages import NewJob

if TYPE_CHECKING:
    from support.simulation.world import World

JOB_TYPES = ("train", "predict")
QUEUES = ("default", "night")
COMMANDS = ("cancel", "cancel", "force", "pause", "resume", "retry", "update", "get", "attempts", "delete", "sweep")


class Submitter:
    """One user's program."""

    def __init__(self, world: World, name: str, principal: Principal) -> None:
        self.name = name
        self._world = world
        self._contact = Contact(world)
        self._principal = principal
        self._requests = 0
        self._jobs: list[int] = []
        self._paused: dict[int, None] = {}

    async def live(self) -> None:
        """Do one thing after the other."""
        rng, fate = self._world.rng, self._world.fate
        while True:
            await asyncio.sleep(rng.expovariate(fate.haste))
            if self._requests < fate.most_jobs and (not self._jobs or rng.random() < 0.55):
                await self._create()
            elif self._jobs and rng.random() < 0.3:
                follower = Follower(self._world, self.name, self._principal)
                self._world.begin(follower.follow(rng.choice([*self._jobs[-4:], None])))
            elif self._jobs:
                await self._command(rng.choice(self._jobs[-6:]), rng.choice(fate.commands))

    async def settle(self) -> None:
        """Let go what is held back, so that all can end."""
        for queue in QUEUES:
            await self._insist(lambda s, queue=queue: self._hold(s, queue, False))
        for job_id in list(self._paused):
            await self._insist(lambda s, job_id=job_id: self._resume(s, job_id))

    async def hold(self, queue: str, *, pause: bool) -> None:
        """Pause a queue of this user's tenant, or let it go on."""
        word = "pauses" if pause else "resumes"
        try:
            await self._contact.call(lambda s: self._hold(s, queue, pause), patience=3.0)
        except (Lost, TowpathError) as error:
            word += f": {type(error).__name__}"
        self._world.trace.step(self.name, f"{queue} {word}")

    async def _hold(self, scheduler: Scheduler, queue: str, pause: bool) -> None:
        await (scheduler.queues.pause if pause else scheduler.queues.resume)(self._principal, queue)

    async def _create(self) -> None:
        rng = self._world.rng
        count = rng.choice((1, 1, 1, 2, 5))
        new = [self._new() for _ in range(count)]
        first = await self._repeat(new)
        if first is None:
            return
        for job in first:
            self._world.auditor.acknowledged(job)
            if job.job_id not in self._jobs:
                self._jobs.append(job.job_id)
        if rng.random() < 0.2 and (again := await self._repeat(new)):
            for job in again:
                self._world.auditor.acknowledged(job)
        if rng.random() < 0.05 and new[0].definition.request_id:
            await self._misuse(new[0])

    async def _repeat(self, new: Sequence[NewJob]) -> list[Job] | None:
        """The same call again and again until it is answered, or for so long as there is patience."""
        rng, trace = self._world.rng, self._world.trace
        for _ in range(rng.randint(1, 8)):
            try:
                jobs = await self._contact.call(lambda s: self._order(s, new), patience=3.0)
            except (Lost, TowpathError) as error:
                trace.step(self.name, f"creates {len(new)}: {type(error).__name__}")
                if not new[0].definition.request_id:
                    return None
                await asyncio.sleep(rng.uniform(0.05, 1.0))
            else:
                trace.step(self.name, f"creates {[trace.job(job.job_id) for job in jobs]}")
                return jobs
        return None

    async def _order(self, scheduler: Scheduler, new: Sequence[NewJob]) -> list[Job]:
        who = self._principal
        mine = [replace(one.definition, tenant=who.tenant, user=who.user) for one in new]
        ask = Ask(self._world, scheduler, mine)
        try:
            jobs = await scheduler.jobs.create(who, new)
        except QuotaExceeded as error:
            ask.refused(error)
            raise
        finally:
            ask.end()
        ask.granted()
        return jobs

    async def _retry(self, scheduler: Scheduler, job_id: int) -> Job:
        job = self._world.book.ledger.jobs.get(job_id)
        ask = Ask(self._world, scheduler, [replace(job.definition, request_id="", dedupe_key="")]) if job else None
        was_final = job is not None and job.state.is_final
        try:
            retried = await scheduler.jobs.retry(self._principal, job_id)
        except QuotaExceeded as error:
            if ask is not None and was_final:
                ask.refused(error)
            raise
        finally:
            if ask is not None:
                ask.end()
        if ask is not None and was_final:
            ask.requeued()
        return retried

    async def _misuse(self, new: NewJob) -> None:
        """The request_id of one job for another."""
        definition = new.definition
        other = NewJob(
            Definition(
                tenant="",
                user="",
                job_type=definition.job_type,
                request_id=definition.request_id,
                request_hash=b"another",
            )
        )
        with suppress(Lost, TowpathError):
            try:
                [job] = await self._contact.call(lambda s: s.jobs.create(self._principal, [other]), patience=3.0)
            except RequestIdReused:
                return
            self._world.auditor.acknowledged(job)

    def _new(self) -> NewJob:
        rng, world = self._world.rng, self._world
        self._requests += 1
        named = rng.random() < 0.9
        definition = Definition(
            tenant="",
            user="",
            job_type=rng.choice(JOB_TYPES),
            queue=rng.choice(QUEUES),
            timeouts=Timeouts(
                queue=rng.choice((None, None, None, 20 * SECOND)),
                execution=rng.choice((3, 30, 300)) * SECOND,
                stall=rng.choice((None, None, 2 * SECOND)),
                total=rng.choice((None, None, None, 40 * SECOND)),
                cancel_grace=rng.choice((0, 1, 3)) * SECOND,
                ttl=rng.choice((7 * DAY, 7 * DAY, 5 * SECOND)),
            ),
            retry=RetryPolicy(
                max_attempts=rng.choice((1, 2, 3)),
                initial_backoff=rng.choice((0, 1, 1)) * SECOND,
                max_backoff=3 * SECOND,
                jitter=rng.choice((0.0, 0.5, 1.0)),
                non_retryable_types=("Hopeless",),
                retry_timeouts=rng.random() < 0.5,
            ),
            max_lost=rng.choice((0, 1, 1, 3)),
            request_id=f"{self.name}-{self._requests}" if named else "",
            request_hash=b"body" if named else b"",
            dedupe_key=f"key-{rng.randint(1, 3)}" if rng.random() < 0.15 else "",
            # Whole seconds: some become due together.
            schedule_time=(world.wall() // SECOND + rng.randint(-1, 6)) * SECOND if rng.random() < 0.25 else None,
        )
        return NewJob(definition, rng.choice(tuple(Priority)), on_conflict=rng.choice(tuple(ConflictPolicy)))

    async def _command(self, job_id: int, command: str) -> None:
        trace = self._world.trace
        try:
            job = await self._contact.call(lambda s: self._do(s, job_id, command), patience=3.0)
        except (Lost, TowpathError) as error:
            trace.step(self.name, f"{command} {trace.job(job_id)}: {type(error).__name__}")
            if isinstance(error, JobNotFound) and job_id in self._world.book.ledger.jobs:
                self._world.auditor.found(command_finds_the_job, f"job {job_id}")
            return
        said = job.state.name if job is not None else "done"
        trace.step(self.name, f"{command} {trace.job(job_id)}: {said}")
        if job is not None:
            self._world.auditor.told(job)
        if command in ("cancel", "force") and job is not None:
            self._world.auditor.cancelled(job)

    async def _do(self, scheduler: Scheduler, job_id: int, command: str) -> Job | None:
        jobs, who, book = scheduler.jobs, self._principal, self._world.book
        match command:
            case "cancel" | "force":
                return await jobs.cancel(who, job_id, "", command == "force")
            case "pause":
                self._paused[job_id] = None
                return await jobs.pause(who, job_id)
            case "resume":
                return await self._resume(scheduler, job_id)
            case "retry":
                book.retries[job_id] += 1
                return await self._retry(scheduler, job_id)
            case "update":
                priority = self._world.rng.choice(tuple(Priority))
                return await jobs.update(who, job_id, lambda definition, _: (definition, priority), None)
            case "get":
                return await jobs.get(who, job_id)
            case "attempts":
                await jobs.attempts(who, job_id)
            case "delete":
                book.deletions.add(job_id)
                await jobs.delete(who, job_id)
            case "sweep":
                age = self._world.rng.choice((0, 20)) * SECOND
                book.sweeps.append((who.tenant, self._world.wall() - age + SECOND))
                await scheduler.admin.cleanup(who, age)
        return None

    async def _resume(self, scheduler: Scheduler, job_id: int) -> Job:
        self._world.book.resumed.add(job_id)
        return await scheduler.jobs.resume(self._principal, job_id)

    async def _insist(self, verb: Any) -> None:
        while True:
            try:
                await self._contact.call(verb, patience=3.0)
            except Lost:
                await asyncio.sleep(0.2)
            except TowpathError:
                return
            else:
                return


def command_finds_the_job() -> None:
    """A job that is in the store is found."""
