"""Lease, run, report: what a worker does, on one screen."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress

import grpc.aio

from towpath.v1 import model_pb2, worker_pb2, worker_service_pb2
from towpath_worker import admission, failpoints, machine
from towpath_worker.admission import Admission, Identity
from towpath_worker.attempt import Attempt
from towpath_worker.connections import Registration
from towpath_worker.executor import Executor
from towpath_worker.inline import Inline
from towpath_worker.isolated import Isolated
from towpath_worker.job_log import JobLog
from towpath_worker.log import logger
from towpath_worker.outbox import Outbox
from towpath_worker.outcomes import Reason
from towpath_worker.plan import Plan
from towpath_worker.process import Served
from towpath_worker.publisher import Publisher
from towpath_worker.reports import Key
from towpath_worker.session import Session
from towpath_worker.settings import WorkerSettings
from towpath_worker.state import StateFolder

log = logger("towpath.worker")

STOPPED = worker_service_pb2.RELEASE_REASON_STOPPED
SHUTDOWN = worker_service_pb2.RELEASE_REASON_SHUTDOWN

DEFAULT_GRACE = 30.0
# Seconds for which a worker that gives back its jobs waits for those that it cannot kill.
INLINE_PATIENCE = 5.0
# Seconds in which further slots may come free, so that one poll can fill them; and what may be owed to the scheduler.
GATHER = 0.002
MOST_OWED = 5000


class Supervisor:
    """One worker's life, from its registration to its last ack."""

    def __init__(
        self,
        settings: WorkerSettings,
        state: StateFolder,
        executor: Executor,
        outbox: Outbox,
        served: Served,
        plan: Plan,
        job_log: JobLog,
        connect: Callable[[], grpc.aio.Channel],
        on_ready: Callable[[str], None],
    ) -> None:
        self._settings = settings
        self._state = state
        self._outbox = outbox
        self._served = served
        self._on_ready = on_ready
        self._session = Session(connect, settings.server, self, outbox)
        self._publisher = Publisher(settings.folders(state), outbox)
        self._worker_id = state.worker_id
        self._unwanted: OrderedDict[Key, None] = OrderedDict()
        self._changed = asyncio.Event()
        self._admission = Admission(served.types, shared=settings.share == "tenant", job_log=job_log)
        changed = self._changed.set
        self._isolated = Isolated(executor, settings.slots, outbox, self._publisher, self._why_not, changed, job_log)
        self._inline = Inline(served.inline, plan, outbox, changed, job_log)
        self._draining = asyncio.Event()
        self._releasing = asyncio.Event()

    async def run(self) -> None:
        """Works until it is drained or released. Refused where the scheduler does not take this worker."""
        reporting = asyncio.create_task(self._session.keep_reporting())
        leasing = asyncio.create_task(self._lease_jobs())
        models = [
            asyncio.create_task(one)
            for one in (self._publisher.keep_trying(), self._publisher.keep_told(self._tell_models))
        ]
        draining = asyncio.create_task(_until(self._draining))
        tasks = [reporting, leasing, *models, draining]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            leasing.cancel()
            for task in (reporting, leasing, *models):
                if task.done() and not task.cancelled():
                    task.result()
            await self._finish()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._give_back()
            # Who deregisters gives back all it holds, and a result that is not acked would be refused at the next
            # start. Who falls silent is lost, and a result of a lost worker still counts.
            if not self._outbox.owes_results and not len(self._inline):
                await self._session.deregister()
            await self._session.close()
            self._inline.close()

    def drain(self) -> None:
        """Take no more, finish what runs, stop."""
        if not self._draining.is_set():
            self._isolated.give_back_line()
            log.info("draining", running=len(self._isolated) + len(self._inline))
        self._draining.set()

    def release(self) -> None:
        """Give back what runs, stop."""
        self._draining.set()
        self._releasing.set()

    async def _lease_jobs(self) -> None:
        while not self._draining.is_set():
            leases = await self._session.lease(1 if self._settings.run_once else await self._room())
            if leases:
                failpoints.reach("lease.received")
            self._begin(leases)
            if self._settings.run_once and self.held():
                self.drain()

    async def _room(self) -> int:
        """Waits until there is room for jobs; for how many."""
        while self._outbox.owed > MOST_OWED or not self._room_now():
            await self._change()
        if self._served.all_inline:
            # Tiny jobs end by the batch: what ends with this one need not wait for the next poll.
            with suppress(TimeoutError):
                async with asyncio.timeout(GATHER):
                    while 2 * self._room_now() < self._settings.slots:
                        await self._change()
        return self._room_now()

    def _room_now(self) -> int:
        if self._served.all_inline:
            return self._free
        return max(0, self._isolated.room - len(self._inline))

    @property
    def _free(self) -> int:
        return max(0, self._settings.slots - len(self._isolated) - len(self._inline))

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    def _begin(self, leases: Iterable[worker_service_pb2.Lease]) -> None:
        inline = []
        for lease in leases:
            key = (lease.job.job_id, lease.lease_token)
            if self._isolated.holds(key) or self._inline.holds(key) or self._outbox.holds(key):
                continue
            for older in self._isolated.others(key) + self._inline.others(key):
                self._abandon(older)
            if (refusal := self._admission.refusal(lease)) is not None:
                Attempt(lease, self._outbox).finish(refusal)
            elif not self._inline.serves(lease):
                self._isolated.begin(lease, self._worker_id)
            elif (reason := self._why_not(key)) is None:
                inline.append(lease)
            else:
                Attempt(lease, self._outbox).finish(worker_service_pb2.Released(reason=reason))
        if inline:
            log.debug("inline jobs", count=len(inline))
            self._inline.begin(inline, self._worker_id)
        if self._draining.is_set():
            # The answer came after the line was given back.
            self._isolated.give_back_line()

    def _why_not(self, key: Key) -> Reason.ValueType | None:
        """Why a job that was leased must not begin."""
        if key in self._unwanted:
            return STOPPED
        return SHUTDOWN if self._releasing.is_set() else None

    async def _finish(self) -> None:
        releasing = asyncio.create_task(_until(self._releasing))
        running = asyncio.create_task(self._emptied())
        await asyncio.wait([releasing, running], return_when=asyncio.FIRST_COMPLETED)
        releasing.cancel()
        await self._give_back()
        try:
            await asyncio.wait_for(self._outbox.emptied(), self._settings.last_words)
        except TimeoutError:
            log.warning("not all reports were acked: the next start of this worker sends them")

    async def _emptied(self) -> None:
        await self._isolated.emptied()
        await self._inline.emptied()

    async def _give_back(self) -> None:
        self._releasing.set()
        for key in self._isolated.keys():  # noqa: SIM118 - a copy
            self._isolated.stop(key, 0.0, SHUTDOWN)
        for key in self._inline.keys():  # noqa: SIM118 - a copy
            self._inline.stop(key, SHUTDOWN)
        await self._isolated.emptied()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._inline.emptied(), INLINE_PATIENCE)

    async def _tell_models(self) -> bool:
        return await self._session.sync_models(await self._models())

    async def _models(self) -> list[model_pb2.Model]:
        from towpath_worker import models

        return await asyncio.to_thread(models.scan, self._settings.folders(self._state))

    def _abandon(self, key: Key) -> None:
        if self._isolated.holds(key) or self._inline.holds(key):
            self._stop(key, 0.0, silent=True)
        self._outbox.drop(key)
        if not self._outbox.holds(key):
            self._publisher.discard(key)

    # What the session asks and tells.

    async def introduce(self) -> worker_service_pb2.RegisterWorkerRequest:
        """This worker, as it registers."""
        self._publisher.registering()
        return worker_service_pb2.RegisterWorkerRequest(
            worker_id=self._worker_id,
            name=self._settings.name,
            slots=self._settings.slots,
            job_types=self._served.types,
            labels=self._settings.labels,
            machine=await asyncio.to_thread(machine.describe),
            models=await self._models(),
            version=machine.version(),
            share=admission.SHARES[self._settings.share],
        )

    def accepted(self, registration: Registration, identity: Identity | None) -> None:
        """The scheduler took this worker, and said whose it is."""
        self._admission.identity = self._admission.identity or identity
        if registration.worker_id != self._worker_id:
            self._worker_id = self._state.worker_id = registration.worker_id
        ready, self._on_ready = self._on_ready, lambda worker_id: None
        ready(registration.worker_id)

    async def settle(self, outcomes: Mapping[Key, bool]) -> None:
        """The scheduler's word on outcomes: a success that counts, or not."""
        await self._publisher.settle(outcomes)

    def relieved(self) -> None:
        """The scheduler has taken outcomes: what waited for that can go on."""
        self._changed.set()

    def held(self) -> set[Key]:
        """The leases that run here."""
        return self._isolated.keys() | self._inline.keys()

    def in_a_hurry(self) -> bool:
        """Whether what is to be told should go at once: not while jobs that are waited for keep this worker busy."""
        return not self._isolated.has_line

    def load(self) -> worker_pb2.MachineLoad:
        """What the machine does."""
        return machine.load(self._free)

    def draining(self) -> bool:
        """Whether it takes no more."""
        return self._draining.is_set()

    def obey(self, directive: worker_service_pb2.Directive) -> None:
        """Does what the scheduler says."""
        key = (directive.job_id, directive.lease_token)
        log.info("told", to=worker_service_pb2.DirectiveType.Name(directive.type), job=key[0], reason=directive.reason)
        match directive.type:
            case worker_service_pb2.DIRECTIVE_TYPE_DRAIN:
                self.drain()
            case worker_service_pb2.DIRECTIVE_TYPE_ABANDON:
                self._abandon(key)
            case worker_service_pb2.DIRECTIVE_TYPE_KILL:
                self._stop(key, 0.0)
            case worker_service_pb2.DIRECTIVE_TYPE_CANCEL | worker_service_pb2.DIRECTIVE_TYPE_PAUSE:
                asked = directive.grace.ToTimedelta().total_seconds() if directive.HasField("grace") else DEFAULT_GRACE
                self._stop(key, asked)

    def _stop(self, key: Key, grace: float, *, silent: bool = False) -> None:
        if self._inline.holds(key):
            self._inline.stop(key, STOPPED, silent=silent)
        elif not self._isolated.stop(key, grace, STOPPED, silent=silent):
            # Its lease may still be on its way here.
            self._unwanted[key] = None
            if len(self._unwanted) > 1000:
                self._unwanted.popitem(last=False)


async def _until(event: asyncio.Event) -> None:
    await event.wait()
