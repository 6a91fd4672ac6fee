"""A scheduler on a file, a network to it that can be broken, and the product's two clients beyond it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support import rpc_stage
from support.bare_worker import BareWorker
from support.proxy import Proxy, Way, proxy
from support.stage import INTERVALS
from towpath import AsyncClient, Client, requests
from towpath._async.batches import create_all
from towpath._sync.batches import create_all as create_all_sync
from towpath.v1 import job_pb2, job_service_pb2
from towpath.v1.worker_service_pb2 import Lease
from towpath_server.core.records import Role
from towpath_server.scheduler import Clock
from towpath_server.store.sqlite import SqliteStore

SOON = 60.0
CANCELLED, PAUSED, QUEUED = job_pb2.JOB_STATE_CANCELLED, job_pb2.JOB_STATE_PAUSED, job_pb2.JOB_STATE_QUEUED


@dataclass(frozen=True)
class Line:
    """A scheduler on a file, and a network to it that can be broken."""

    stage: rpc_stage.Stage
    network: Proxy

    @property
    def token(self) -> str:
        """The admin's."""
        return self.stage.tokens[Role.ADMIN]

    def worker(self, slots: int = 1) -> BareWorker:
        """A worker that goes straight to the scheduler."""
        return BareWorker(self.stage.channel, self.stage.bearer(), slots=slots)

    async def get(self, job_id: str) -> job_pb2.Job:
        """The job as it stands."""
        request = job_service_pb2.GetJobRequest(job_id=job_id)
        return (await self.stage.jobs.GetJob(request, metadata=self.stage.bearer())).job

    async def rows(self) -> list[job_pb2.Job]:
        """All jobs, the newest first."""
        request = job_service_pb2.ListJobsRequest(page_size=1000)
        return list((await self.stage.jobs.ListJobs(request, metadata=self.stage.bearer())).jobs)

    async def done(self, state: job_pb2.JobState.ValueType) -> job_pb2.Job:
        """A job that was brought to this state."""
        job = await self.stage.create()
        if state == PAUSED:
            request = job_service_pb2.PauseJobRequest(job_id=job.job_id)
            return (await self.stage.jobs.PauseJob(request, metadata=self.stage.bearer())).job
        cancel = job_service_pb2.CancelJobRequest(job_id=job.job_id)
        return (await self.stage.jobs.CancelJob(cancel, metadata=self.stage.bearer())).job

    async def create_many(self, count: int) -> None:
        """So many new jobs."""
        job = job_pb2.Job(custom=job_pb2.CustomSpec(type="echo"))
        for start in range(0, count, 1000):
            batch = [job_service_pb2.CreateJobRequest(job=job)] * min(1000, count - start)
            request = job_service_pb2.BatchCreateJobsRequest(requests=batch)
            await self.stage.jobs.BatchCreateJobs(request, metadata=self.stage.bearer())

    async def offered(self, worker: BareWorker, count: int) -> list[Lease]:
        """So many new jobs, all leased to the worker."""
        await self.create_many(count)
        leases: list[Lease] = []
        while len(leases) < count:
            leases += await worker.lease(count - len(leases))
        return leases

    async def losing_the_answer(self, calling: Awaitable[Any], carried_out: Callable[[], Awaitable[bool]]) -> Any:
        """What the caller gets whose call was carried out, and whose answer the network lost."""
        self.network.swallow(Way.DOWN)
        call = asyncio.ensure_future(calling)
        async with asyncio.timeout(SOON):
            while not await carried_out():  # noqa: ASYNC110 - a look at the store
                await asyncio.sleep(0)
            await self.network.holds(Way.DOWN)
            self.network.cut()
            self.network.heal()
            return await call


@asynccontextmanager
async def line(folder: Path, clock: Clock | None = None) -> AsyncIterator[Line]:
    """A scheduler whose store is a file under `folder`; with a clock of the test's own, it moves when told."""
    store = SqliteStore(folder / "towpath.db")
    async with rpc_stage.stage(store, clock=clock, intervals=INTERVALS) as at, proxy(at.address) as network:
        yield Line(at, network)


class Callers:
    """The two clients of the product, each called so that the test can go on meanwhile."""

    def __init__(self, kind: str, address: str, token: str) -> None:
        self.blocking = Client(address, token, timeout=SOON) if kind == "blocking" else None
        self.asyncio = AsyncClient(address, token, timeout=SOON)

    async def call(self, name: str, *words: Any, **options: Any) -> Any:
        """A method of the client."""
        if self.blocking is not None:
            return await asyncio.to_thread(getattr(self.blocking, name), *words, **options)
        return await getattr(self.asyncio, name)(*words, **options)

    async def seen(self, job_id: str) -> Callable[[str], Awaitable[Any]]:
        """The verbs of a handle that has seen the job."""
        if self.blocking is not None:
            blocking = self.blocking.job(job_id)
            await asyncio.to_thread(blocking.refresh)
            return lambda verb: asyncio.to_thread(getattr(blocking, verb))
        handle = self.asyncio.job(job_id)
        await handle.refresh()
        return lambda verb: getattr(handle, verb)()

    async def create_all(self, count: int) -> list[job_pb2.Job]:
        """One batch."""
        creates = [requests.create(requests.job_of("echo", {"n": number}), {}) for number in range(count)]
        if self.blocking is not None:
            [jobs] = await asyncio.to_thread(list, create_all_sync(self.blocking._connection, creates))
        else:
            [jobs] = [jobs async for jobs in create_all(self.asyncio._connection, creates)]
        return list(jobs)

    async def close(self) -> None:
        """Close both."""
        if self.blocking is not None:
            await asyncio.to_thread(self.blocking.close)
        await self.asyncio.close()


@asynccontextmanager
async def callers(kind: str, at: Line) -> AsyncIterator[Callers]:
    """The `asyncio` or the `blocking` client, connected through the network."""
    made = Callers(kind, at.network.address, at.token)
    try:
        # The connection stands, and its answers come: only then is one lost.
        await made.call("stats")
        yield made
    finally:
        await made.close()
