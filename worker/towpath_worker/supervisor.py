"""Lease, run, report: what a worker does, on one screen."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from importlib import metadata

import grpc.aio

from towpath.v1 import model_pb2, worker_pb2, worker_service_pb2
from towpath_worker import failpoints, machine
from towpath_worker.attempt import Attempt
from towpath_worker.backoff import Backoff
from towpath_worker.executor import Executor, Outcome
from towpath_worker.log import logger
from towpath_worker.outbox import Key, Outbox
from towpath_worker.publisher import Publisher
from towpath_worker.session import Registration, Session
from towpath_worker.settings import WorkerSettings
from towpath_worker.state import StateFolder

log = logger("towpath.worker")

STOPPED = worker_service_pb2.RELEASE_REASON_STOPPED
SHUTDOWN = worker_service_pb2.RELEASE_REASON_SHUTDOWN
UNABLE = worker_service_pb2.RELEASE_REASON_UNABLE

DEFAULT_GRACE = 30.0
# What reads models waits so long, in seconds, until a training that may be over for its submitter is over here too.
MODEL_PATIENCE = 5.0
READS_MODELS = ("predict", "list_models")


class Supervisor:
    """One worker's life, from its registration to its last ack."""

    def __init__(
        self,
        settings: WorkerSettings,
        state: StateFolder,
        executor: Executor,
        outbox: Outbox,
        job_types: list[str],
        connect: Callable[[], grpc.aio.Channel],
        on_ready: Callable[[str], None],
    ) -> None:
        self._settings = settings
        self._state = state
        self._executor = executor
        self._outbox = outbox
        self._job_types = job_types
        self._on_ready = on_ready
        self._session = Session(connect, settings.server, self, outbox)
        self._publisher = Publisher(settings.folders(state), outbox)
        self._worker_id = state.worker_id
        self._running: dict[Key, asyncio.Task[None]] = {}
        self._attempts: dict[Key, Attempt] = {}
        self._unwanted: OrderedDict[Key, None] = OrderedDict()
        self._changed = asyncio.Event()
        self._draining = asyncio.Event()
        self._releasing = asyncio.Event()
        self._unable = Backoff(longest=5.0)

    async def run(self) -> None:
        """Works until it is drained or released. Refused where the scheduler does not take this worker."""
        reporting = asyncio.create_task(self._session.keep_reporting())
        leasing = asyncio.create_task(self._lease_jobs())
        models = [asyncio.create_task(one) for one in (self._publisher.keep_trying(), self._keep_models_told())]
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
            await _all(tasks)
            await self._give_back()
            # Who deregisters gives back all it holds, and a result that is not acked would be refused at the next
            # start. Who falls silent is lost, and a result of a lost worker still counts.
            if not self._outbox.owes_results:
                await self._session.deregister()
            await self._session.close()

    def drain(self) -> None:
        """Take no more, finish what runs, stop."""
        if not self._draining.is_set():
            log.info("draining", running=len(self._running))
        self._draining.set()

    def release(self) -> None:
        """Give back what runs, stop."""
        self._draining.set()
        self._releasing.set()

    async def _lease_jobs(self) -> None:
        while not self._draining.is_set():
            while not (free := self._settings.slots - len(self._running)):
                self._changed.clear()
                await self._changed.wait()
            leases = await self._session.lease(1 if self._settings.run_once else free)
            if leases:
                failpoints.reach("lease.received")
            for lease in leases:
                self._begin(lease)
            if self._settings.run_once and self._running:
                self.drain()

    def _begin(self, lease: worker_service_pb2.Lease) -> None:
        key = (lease.job.job_id, lease.lease_token)
        if key in self._running or key in self._outbox.held():
            return
        for older in [one for one in self._running if one[0] == key[0]]:
            self._abandon(older)
        self._attempts[key] = Attempt(lease, self._outbox)
        self._running[key] = asyncio.create_task(self._run(lease, key))

    async def _run(self, lease: worker_service_pb2.Lease, key: Key) -> None:
        attempt = self._attempts[key]
        try:
            if lease.job.WhichOneof("spec") in READS_MODELS:
                await self._publisher.settled(MODEL_PATIENCE)
            if key in self._unwanted or self._releasing.is_set():
                reason = STOPPED if key in self._unwanted else SHUTDOWN
                attempt.finish(worker_service_pb2.Released(reason=reason))
                return
            log.info("job", job=key[0], type=lease.job.job_type, attempt=lease.attempt)
            outcome = await self._executor.run(lease, self._worker_id, attempt)
            self._finish_attempt(lease, attempt, outcome)
            log.info("job over", job=key[0], outcome=type(outcome).__name__)
            if isinstance(outcome, worker_service_pb2.Released) and outcome.reason == UNABLE:
                await self._unable.wait(at_least=1.0)
            else:
                self._unable.reset()
        except Exception as error:
            log.exception("job could not be run", job=key[0])
            attempt.finish(worker_service_pb2.Released(reason=UNABLE, message=f"A bug in the worker: {error!r}"))
        finally:
            del self._running[key], self._attempts[key]
            self._changed.set()

    def _finish_attempt(self, lease: worker_service_pb2.Lease, attempt: Attempt, outcome: Outcome | None) -> None:
        training = lease.job.WhichOneof("spec") == "train"
        if training:
            failpoints.reach("model.staged")
        failpoints.reach("outcome.before")
        attempt.finish(outcome)
        told = attempt.key in self._outbox.held()
        if training and told and isinstance(outcome, worker_service_pb2.Succeeded):
            self._publisher.wait_for_ack(attempt.key, listed=outcome.result.HasField("train"))
        elif training:
            self._publisher.discard(attempt.key)

    async def _finish(self) -> None:
        releasing = asyncio.create_task(_until(self._releasing))
        running = asyncio.create_task(_all(self._running.values()))
        await asyncio.wait([releasing, running], return_when=asyncio.FIRST_COMPLETED)
        releasing.cancel()
        await self._give_back()
        try:
            await asyncio.wait_for(self._outbox.emptied(), self._settings.last_words)
        except TimeoutError:
            log.warning("not all reports were acked: the next start of this worker sends them")

    async def _give_back(self) -> None:
        self._releasing.set()
        for key in list(self._running):
            self._executor.stop(key, 0.0, reason=SHUTDOWN)
        await _all(self._running.values())

    async def _keep_models_told(self) -> None:
        # One after the other: an older list must not come after a newer one.
        backoff = Backoff(longest=30.0)
        while True:
            await self._publisher.news.wait()
            self._publisher.news.clear()
            # What the scheduler has accepted and is not published yet must not be missing from the list.
            await self._publisher.settled(MODEL_PATIENCE)
            with self._publisher.listing():
                told = await self._session.sync_models(await self._models())
            if told:
                backoff.reset()
            else:
                self._publisher.news.set()
                await backoff.wait()

    async def _models(self) -> list[model_pb2.Model]:
        from towpath_worker import models

        return await asyncio.to_thread(models.scan, self._settings.folders(self._state))

    def _abandon(self, key: Key) -> None:
        if key in self._attempts:
            self._attempts[key].mute()
            self._stop(key, 0.0, silent=True)
        self._outbox.drop(key)
        if key not in self._outbox.held():
            self._publisher.discard(key)

    # What the session asks and tells.

    async def introduce(self) -> worker_service_pb2.RegisterWorkerRequest:
        """This worker, as it registers."""
        self._publisher.registering()
        return worker_service_pb2.RegisterWorkerRequest(
            worker_id=self._worker_id,
            name=self._settings.name,
            slots=self._settings.slots,
            job_types=self._job_types,
            labels=self._settings.labels,
            machine=await asyncio.to_thread(machine.describe),
            models=await self._models(),
            version=version(),
        )

    def accepted(self, registration: Registration) -> None:
        """The scheduler took this worker."""
        if registration.worker_id != self._worker_id:
            self._worker_id = self._state.worker_id = registration.worker_id
        ready, self._on_ready = self._on_ready, lambda worker_id: None
        ready(registration.worker_id)

    async def settle(self, outcomes: Mapping[Key, bool]) -> None:
        """The scheduler's word on outcomes: a success that counts, or not."""
        await self._publisher.settle(outcomes)

    def held(self) -> set[Key]:
        """The leases that run here."""
        return set(self._running)

    def load(self) -> worker_pb2.MachineLoad:
        """What the machine does."""
        return machine.load(self._settings.slots - len(self._running))

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
        if not self._executor.stop(key, grace, reason=STOPPED, silent=silent):
            # Its lease may still be on its way here.
            self._unwanted[key] = None
            if len(self._unwanted) > 1000:
                self._unwanted.popitem(last=False)


async def _until(event: asyncio.Event) -> None:
    await event.wait()


async def _all(tasks: Iterable[asyncio.Task[None]]) -> None:
    await asyncio.gather(*tasks, return_exceptions=True)


def version() -> str:
    """Towpath's version here."""
    try:
        return metadata.version("towpath")
    except metadata.PackageNotFoundError:
        return "0"
