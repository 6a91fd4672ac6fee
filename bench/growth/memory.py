"""A scheduler's memory with a million queued jobs: after they came over the wire, and after a start with them."""

from __future__ import annotations

import asyncio

from bench import load
from bench.figures import Measure, Scale
from bench.growth.queued import MINE
from bench.programs import Scheduler, scheduler, scratch
from towpath import Client
from towpath.channel import aio_channel
from towpath.v1.job_service_pb2_grpc import JobServiceStub

MILLION = 1_000_000
BATCH, AT_ONCE = 500, 4

KEYS = (
    Measure("memory.1m", "memory of the scheduler with 1,000,000 queued jobs that came over gRPC", "MB"),
    Measure("memory.1m.restarted", "the same after a restart", "MB"),
    Measure("memory.fill", "jobs queued meanwhile, from one client, with no worker", "jobs/s"),
)


def measure(scale: Scale) -> dict[str, float]:
    """Fill over gRPC, then start again."""
    jobs = scale.count(MILLION, BATCH) // BATCH * BATCH
    with scratch() as folder:
        with scheduler(folder) as at:
            seconds = asyncio.run(_fill(at, jobs))
            filled = at.rss()
        with scheduler(folder) as at, Client(at.address, at.token) as client:
            client.server_stats()
            restarted = at.rss()
    return {"memory.1m": filled / 1e6, "memory.1m.restarted": restarted / 1e6, "memory.fill": jobs / seconds}


async def _fill(at: Scheduler, jobs: int) -> float:
    async with aio_channel(at.address, at.token) as channel:
        begun = asyncio.get_running_loop().time()
        await load.submit(JobServiceStub(channel), MINE, jobs, batch=BATCH, at_once=AT_ONCE)
        return asyncio.get_running_loop().time() - begun
