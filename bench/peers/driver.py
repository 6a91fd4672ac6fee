"""Measures one peer, inside that peer's environment; the last line of its output is its figures as JSON.

`python -m bench.peers.driver MODULE NAME MANY SECONDS quick|full`
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import sys
import time
from collections.abc import Awaitable

from bench import pace
from bench.figures import Scale, percentile
from bench.meter import Reading

BATCH = 100
WARM = 20


async def measure(module: str, name: str, many: str, scale: Scale) -> dict[str, float]:
    """Idle latency, then jobs a second one by one, and in the way in which it takes many."""
    os.environ["BENCH_PEER"] = name
    if "BENCH_REDIS_PORT" in os.environ:
        importlib.import_module("bench.peers.peer").flush_redis()
    peer = importlib.import_module(f"bench.peers.{module}").Adapter()

    figures: dict[str, float] = {}

    async def one_by_one(jobs: int) -> float:
        async def submit() -> None:
            for _ in range(jobs):
                await peer.submit()

        return await timed("single", jobs, submit())

    async def at_once(jobs: int) -> float:
        async def submit() -> None:
            for start in range(0, jobs, BATCH):
                await peer.submit_many(min(BATCH, jobs - start))

        return await timed(many, jobs, submit())

    async def timed(name: str, jobs: int, submitting: Awaitable[None]) -> float:
        goal = await peer.done() + jobs
        peer.sent += jobs
        before, begun = await reading(), time.perf_counter()
        await submitting
        await peer.until_done(goal)
        seconds = time.perf_counter() - begun
        if before is not None and (after := await reading()) is not None:
            # Of the last run, which is the longest.
            figures.update(after.since(before, name, jobs, seconds))
        return seconds

    async def reading() -> Reading | None:
        number = await peer.transactions()
        return None if number is None else Reading.now(number)

    await peer.open()
    peer.start_worker()
    await one_by_one(WARM)
    idle = await pace.latencies(peer.roundtrip, scale)
    figures |= {"p50": percentile(idle, 0.5), "p99": percentile(idle, 0.99)}
    figures["single"] = await pace.rate(one_by_one, scale, first=200)
    if many:
        figures[many] = await pace.rate(at_once, scale, first=500)
    await peer.close()
    return {f"peer.{name}.{key}": value for key, value in figures.items()}


if __name__ == "__main__":
    module, name, many, seconds, how = sys.argv[1:]
    print(json.dumps(asyncio.run(measure(module, name, many, Scale(quick=how == "quick", seconds=float(seconds))))))
