"""How soon a job that is created has a worker, one at a time: a poll that is parked, and a create."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass
from typing import Any

from bench.load import create
from bench.programs import Scheduler
from towpath.channel import aio_channel
from towpath.v1 import job_pb2, worker_service_pb2
from towpath.v1.job_service_pb2_grpc import JobServiceStub
from towpath.v1.worker_service_pb2_grpc import WorkerServiceStub

JOB_TYPE = "bench.wake"
PAUSE_SECONDS = 0.01


@dataclass(frozen=True, slots=True)
class Dispatch:
    """Milliseconds until the poll was answered: since the create was called, and since it was acknowledged."""

    called: float
    acknowledged: float


async def dispatches(at: Scheduler, work: Scheduler) -> AsyncIterator[Dispatch]:
    """One after the other: created at a scheduler, leased at another, or at the same."""
    done = worker_service_pb2.Succeeded(result=job_pb2.JobResult(custom=job_pb2.CustomResult()))
    async with aio_channel(at.address, at.token) as channel, aio_channel(work.address, work.token) as other:
        jobs, stub = JobServiceStub(channel), WorkerServiceStub(other)
        asked = worker_service_pb2.RegisterWorkerRequest(name="probe", slots=1, job_types=[JOB_TYPE])
        me = await stub.RegisterWorker(asked)
        reports: Any = stub.ReportJobs()
        await reports.write(worker_service_pb2.ReportJobsRequest(worker_id=me.worker_id, session_id=me.session_id))
        listening = asyncio.create_task(_beat(reports))
        number = 0
        try:
            while True:
                number += 1
                request = worker_service_pb2.LeaseJobsRequest(
                    worker_id=me.worker_id, session_id=me.session_id, poll_id=str(number), max_jobs=1
                )
                poll = asyncio.create_task(_answered(stub.LeaseJobs(request)))
                await asyncio.sleep(PAUSE_SECONDS)
                called = time.perf_counter()
                await jobs.CreateJob(create(JOB_TYPE))
                acknowledged = time.perf_counter()
                leases, answered = await poll
                for lease in leases:
                    report = worker_service_pb2.Report(
                        sequence=number, job_id=lease.job.job_id, lease_token=lease.lease_token, succeeded=done
                    )
                    await reports.write(worker_service_pb2.ReportJobsRequest(reports=[report]))
                yield Dispatch((answered - called) * 1e3, (answered - acknowledged) * 1e3)
        finally:
            listening.cancel()
            reports.cancel()


async def several(at: Scheduler, work: Scheduler, count: int, warm: int = 5) -> list[Dispatch]:
    """So many of them, once it is warm."""
    found: list[Dispatch] = []
    probing = dispatches(at, work)
    try:
        async for one in probing:
            found.append(one)
            if len(found) == warm + count:
                return found[warm:]
    finally:
        await probing.aclose()  # type: ignore[attr-defined]
    return found


async def _answered(call: Awaitable[worker_service_pb2.LeaseJobsResponse]) -> tuple[Any, float]:
    return (await call).leases, time.perf_counter()


async def _beat(reports: Any) -> None:
    """Take what the scheduler says, so that its answers do not pile up."""
    async for _ in reports:
        pass
