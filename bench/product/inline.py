"""No-op jobs through the real client and the real worker with an inline handler."""

from __future__ import annotations

import asyncio
import time
from itertools import repeat

from bench import load, pace
from bench.figures import Measure, Scale, percentile
from bench.programs import Scheduler, scheduler, scratch, worker
from towpath import AsyncClient
from towpath.channel import aio_channel
from towpath.v1 import job_service_pb2_grpc

KEYS = (
    Measure("batched.inline", "inline handler, batches of 100 in", "jobs/s"),
    Measure("single.client", "inline handler, one by one from a client that pipelines", "jobs/s"),
    Measure("single.rpc", "inline handler, one call a job, 64 at once", "jobs/s"),
    Measure("map.inline", "inline handler, Client.map with the results in hand", "jobs/s"),
    Measure("idle.inline.p50", "inline handler, idle latency p50", "ms"),
    Measure("idle.inline.p99", "inline handler, idle latency p99", "ms"),
)
JOB_TYPE = "bench.noop"
#: Submits of one client that are under way at once.
PIPELINED = 256


def measure(scale: Scale) -> dict[str, float]:
    """One scheduler and one worker; latency first, while the store is small."""
    with scratch() as folder, scheduler(folder) as at, worker(at, "--allow", JOB_TYPE):
        at.settle()
        return asyncio.run(_measure(at, scale))


async def _measure(at: Scheduler, scale: Scale) -> dict[str, float]:
    async with AsyncClient(at.address, at.token) as client, aio_channel(at.address, at.token) as channel:
        stub = job_service_pb2_grpc.JobServiceStub(channel)
        created = 0

        async def roundtrip() -> None:
            nonlocal created
            created += 1
            await (await client.submit(JOB_TYPE, {"value": pace.PAYLOAD})).result(progress=False)

        async def pipelined(jobs: int) -> float:
            nonlocal created
            created += jobs
            last = ""

            async def one(_: int) -> None:
                nonlocal last
                last = (await client.submit(JOB_TYPE, {"value": pace.PAYLOAD})).job_id

            begun = time.perf_counter()
            await pace.spread(jobs, PIPELINED, one)
            await load.until_succeeded(stub, created, last)
            return time.perf_counter() - begun

        async def called(jobs: int, batch: int, at_once: int) -> float:
            nonlocal created
            created += jobs
            begun = time.perf_counter()
            last = await load.submit(stub, JOB_TYPE, jobs, batch=batch, at_once=at_once)
            await load.until_succeeded(stub, created, last)
            return time.perf_counter() - begun

        async def mapped(jobs: int) -> float:
            nonlocal created
            created += jobs
            begun = time.perf_counter()
            async for _ in client.map(JOB_TYPE, repeat({"value": pace.PAYLOAD}, jobs)):
                pass
            return time.perf_counter() - begun

        idle = await pace.latencies(roundtrip, scale)
        figures = {"idle.inline.p50": percentile(idle, 0.5), "idle.inline.p99": percentile(idle, 0.99)}
        figures["single.client"] = await pace.rate(pipelined, scale)
        if not scale.quick:
            figures["single.rpc"] = await pace.rate(lambda jobs: called(jobs, 1, 64), scale)
            figures["map.inline"] = await pace.rate(mapped, scale)
        figures["batched.inline"] = await pace.rate(lambda jobs: called(jobs, 100, 4), scale, first=1000)
        return figures
