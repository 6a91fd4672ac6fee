"""What the scheduler alone can do: no-op jobs through a bare loop of the worker's protocol in this process."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc.aio

from bench import load, pace
from bench.figures import Measure, Scale
from bench.programs import Scheduler, scheduler, scratch
from towpath.channel import aio_channel
from towpath.v1 import job_pb2, job_service_pb2_grpc, worker_service_pb2, worker_service_pb2_grpc

KEYS = (Measure("batched.bare", "bare protocol loop for a worker, batches of 100 in", "jobs/s"),)
JOB_TYPE = "bench.noop"
LEASE = 256
SLOTS = 4096
POLLS = 2


def measure(scale: Scale) -> dict[str, float]:
    """One scheduler; the worker's loop shares this process with the submitter."""
    with scratch() as folder, scheduler(folder) as at:
        return asyncio.run(_measure(at, scale))


async def _measure(at: Scheduler, scale: Scale) -> dict[str, float]:
    async with (
        aio_channel(at.address, at.token) as work,
        aio_channel(at.address, at.token) as channel,
        bare_worker(work),
    ):
        stub = job_service_pb2_grpc.JobServiceStub(channel)
        created = 0

        async def run(jobs: int) -> float:
            nonlocal created
            created += jobs
            begun = time.perf_counter()
            last = await load.submit(stub, JOB_TYPE, jobs)
            await load.until_succeeded(stub, created, last)
            return time.perf_counter() - begun

        return {"batched.bare": await pace.rate(run, scale, first=1000)}


@asynccontextmanager
async def bare_worker(channel: grpc.aio.Channel) -> AsyncIterator[None]:
    """The worker's protocol and nothing else: what is leased is at once reported as done."""
    stub = worker_service_pb2_grpc.WorkerServiceStub(channel)
    me = await stub.RegisterWorker(
        worker_service_pb2.RegisterWorkerRequest(name="bench", slots=SLOTS, job_types=[JOB_TYPE])
    )
    reports = stub.ReportJobs()
    await reports.write(worker_service_pb2.ReportJobsRequest(worker_id=me.worker_id, session_id=me.session_id))
    result = job_pb2.JobResult(custom=job_pb2.CustomResult())
    result.custom.value.number_value = 0
    succeeded = worker_service_pb2.Succeeded(result=result)
    sequences, polls = itertools.count(1), itertools.count(1)

    async def work() -> None:
        while True:
            leased = await stub.LeaseJobs(
                worker_service_pb2.LeaseJobsRequest(
                    worker_id=me.worker_id, session_id=me.session_id, poll_id=f"poll-{next(polls)}", max_jobs=LEASE
                )
            )
            done = [
                worker_service_pb2.Report(
                    sequence=next(sequences), job_id=one.job.job_id, lease_token=one.lease_token, succeeded=succeeded
                )
                for one in leased.leases
            ]
            if done:
                await reports.write(worker_service_pb2.ReportJobsRequest(reports=done))

    async def listen() -> None:
        async for _ in reports:
            pass

    tasks = [asyncio.create_task(listen()), *(asyncio.create_task(work()) for _ in range(POLLS))]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        reports.cancel()
