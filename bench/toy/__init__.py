"""The bare ceiling: the same shape (grpc.aio, batches, report stream, SQLite group commit, fsync), no rules, no auth.

What Towpath reaches of it is what its promises cost; nobody could use it.
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Any

import grpc.aio

from bench import pace
from bench.figures import Measure, Scale, percentile
from bench.programs import running, scratch
from bench.toy import messages

KEYS = (
    Measure("toy.batched", "toy: batches of 100 in, 256 leased, report stream", "jobs/s"),
    Measure("toy.single", "toy: one call a job, 64 at once", "jobs/s"),
    Measure("toy.p50", "toy: idle latency p50", "ms"),
    Measure("toy.p99", "toy: idle latency p99", "ms"),
)


def measure(scale: Scale) -> dict[str, float]:
    """A toy server and a toy worker, and this process as their client."""
    with (
        scratch() as folder,
        running([sys.executable, "-m", "bench.toy.server", str(folder / "toy.db")], folder / "server.log") as (_, at),
        running([sys.executable, "-m", "bench.toy.worker", at], folder / "worker.log"),
    ):
        return asyncio.run(_measure(at, scale))


async def _measure(address: str, scale: Scale) -> dict[str, float]:
    async with grpc.aio.insecure_channel(address) as channel:
        submit = messages.unary(channel, "Submit")
        wait = messages.unary(channel, "Wait")
        run = messages.unary(channel, "Run")
        job = messages.Job(queue="default", kind="noop", payload=pace.PAYLOAD.encode())

        async def submitted(jobs: int, batch: int, at_once: int) -> float:
            before = (await wait(messages.Count())).count
            begun = time.perf_counter()
            await pace.spread(jobs // batch, at_once, lambda _: submit(messages.Jobs(jobs=[job] * batch)))
            await wait(messages.Count(count=before + jobs // batch * batch))
            return time.perf_counter() - begun

        async def roundtrip() -> Any:
            await run(job)

        idle = await pace.latencies(roundtrip, scale)
        return {
            "toy.p50": percentile(idle, 0.5),
            "toy.p99": percentile(idle, 0.99),
            "toy.single": await pace.rate(lambda jobs: submitted(jobs, 1, 64), scale),
            "toy.batched": await pace.rate(lambda jobs: submitted(jobs, 100, 4), scale, first=2000),
        }
