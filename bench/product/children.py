"""No-op jobs through warm child processes, each isolated from the others: what a user gets by default."""

from __future__ import annotations

import asyncio
import time
from itertools import repeat

from bench import pace
from bench.figures import Measure, Scale, percentile
from bench.programs import scheduler, scratch, worker
from towpath import AsyncClient

KEYS = (
    Measure("children.map", "warm children, Client.map with the results in hand", "jobs/s"),
    Measure("idle.child.p50", "warm child, idle latency p50", "ms"),
    Measure("idle.child.p99", "warm child, idle latency p99", "ms"),
)
JOB_TYPE = "bench.child"


def measure(scale: Scale) -> dict[str, float]:
    """One scheduler, and one worker with as many children as celery has."""
    with scratch() as folder, scheduler(folder) as at, worker(at, "--allow", JOB_TYPE, "--slots", str(pace.CHILDREN)):
        at.settle()
        return asyncio.run(_measure(at.address, at.token, scale))


async def _measure(address: str, token: str, scale: Scale) -> dict[str, float]:
    async with AsyncClient(address, token) as client:

        async def mapped(jobs: int) -> float:
            begun = time.perf_counter()
            async for _ in client.map(JOB_TYPE, repeat({"value": pace.PAYLOAD}, jobs)):
                pass
            return time.perf_counter() - begun

        async def roundtrip() -> None:
            await (await client.submit(JOB_TYPE, {"value": pace.PAYLOAD})).result(progress=False)

        # Children are started by the first jobs.
        await mapped(20)
        idle = await pace.latencies(roundtrip, scale)
        return {
            "idle.child.p50": percentile(idle, 0.5),
            "idle.child.p99": percentile(idle, 0.99),
            "children.map": await pace.rate(mapped, scale, first=100),
        }
