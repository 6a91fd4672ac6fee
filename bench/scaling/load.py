"""The load that each place gets: the same submitters and workers, spread over its schedulers."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, ExitStack

from bench import pace
from bench.figures import Measure, Scale, percentile
from bench.load import submit, succeeded, until_succeeded
from bench.programs import worker
from bench.scaling.places import Place
from bench.scaling.probe import several
from towpath import AsyncClient
from towpath.channel import aio_channel
from towpath.v1.job_service_pb2_grpc import JobServiceStub

JOB_TYPE = "bench.noop"
#: Of each: as many as the most schedulers that a place has.
SUBMITTERS = WORKERS = 3
#: Submits that are under way at once, of all clients together.
PIPELINED = 256
BATCH, AT_ONCE = 100, 4
WAKE_UPS, QUICK_WAKE_UPS = 200, 60

WORDS = (
    ("batched", "inline, batches of 100 in", "jobs/s"),
    ("single", "inline, one by one, 256 submits under way", "jobs/s"),
    ("p50", "idle, submit -> result, p50", "ms"),
    ("p99", "idle, submit -> result, p99", "ms"),
    ("wake.p50", "create acknowledged -> poll answered, p50", "ms"),
    ("wake.p99", "create acknowledged -> poll answered, p99", "ms"),
    ("batched.cpu", "schedulers' CPU a job, batched", "us"),
    ("batched.postgres", "PostgreSQL's CPU a job, batched", "us"),
    ("batched.commits", "transactions that write, batched", "1/s"),
    ("single.cpu", "schedulers' CPU a job, one by one", "us"),
    ("single.postgres", "PostgreSQL's CPU a job, one by one", "us"),
    ("single.commits", "transactions that write, one by one", "1/s"),
)


def keys(place: str, words: str, *, postgres: bool) -> tuple[Measure, ...]:
    """What is measured at a place."""
    wanted = [row for row in WORDS if postgres or not row[0].endswith((".postgres", ".commits"))]
    return tuple(Measure(f"scaling.{place}.{key}", f"{words}: {what}", unit) for key, what, unit in wanted)


def measure(name: str, place: Place, scale: Scale) -> dict[str, float]:
    """Latency first, while the store is small. All of one measurement crosses from one scheduler to another."""
    place.settle()
    with ExitStack() as stack:
        stack.enter_context(worker(place.of(1), "--allow", JOB_TYPE, name="worker-1"))
        figures = asyncio.run(_latency(place, scale))
        for number in range(2, WORKERS + 1):
            stack.enter_context(worker(place.of(number), "--allow", JOB_TYPE, name=f"worker-{number}"))
        figures |= asyncio.run(_rates(place, scale))
    return {f"scaling.{name}.{key}": value for key, value in figures.items()}


async def _latency(place: Place, scale: Scale) -> dict[str, float]:
    at = place.of(0)
    async with AsyncClient(at.address, at.token) as client:

        async def roundtrip() -> None:
            await (await client.submit(JOB_TYPE, {"value": pace.PAYLOAD})).result(progress=False)

        idle = await pace.latencies(roundtrip, scale)
    woken = [one.acknowledged for one in await several(at, place.of(2), QUICK_WAKE_UPS if scale.quick else WAKE_UPS)]
    return {
        "p50": percentile(idle, 0.5),
        "p99": percentile(idle, 0.99),
        "wake.p50": percentile(woken, 0.5),
        "wake.p99": percentile(woken, 0.99),
    }


async def _rates(place: Place, scale: Scale) -> dict[str, float]:
    async with AsyncExitStack() as stack:
        ats = [place.of(number) for number in range(SUBMITTERS)]
        clients = [await stack.enter_async_context(AsyncClient(at.address, at.token)) for at in ats]
        channels = [await stack.enter_async_context(aio_channel(at.address, at.token)) for at in ats]
        stubs = [JobServiceStub(channel) for channel in channels]
        created = await succeeded(stubs[0])

        async def finish(jobs: int, lasts: list[str]) -> None:
            nonlocal created
            created += jobs
            # Of several submitters none is surely the last.
            await asyncio.gather(*(until_succeeded(stubs[0], 0, last) for last in lasts))
            await until_succeeded(stubs[0], created, lasts[0])

        async def one_by_one(jobs: int) -> None:
            turns, lasts = itertools.cycle(range(SUBMITTERS)), [""] * SUBMITTERS

            async def one(_: int) -> None:
                mine = next(turns)
                lasts[mine] = (await clients[mine].submit(JOB_TYPE, {"value": pace.PAYLOAD})).job_id

            await pace.spread(jobs, PIPELINED, one)
            await finish(jobs, lasts)

        async def batched(jobs: int) -> None:
            shares = [jobs // BATCH // SUBMITTERS * BATCH] * SUBMITTERS
            shares[0] = jobs - sum(shares[1:])
            share = zip(stubs, shares, strict=True)
            lasts = await asyncio.gather(
                *(submit(stub, JOB_TYPE, n, batch=BATCH, at_once=AT_ONCE) for stub, n in share)
            )
            await finish(jobs, [last for last in lasts if last])

        figures = await _metered("single", place, one_by_one, scale, first=300)
        return figures | await _metered("batched", place, batched, scale, first=1200)


async def _metered(
    name: str, place: Place, run: Callable[[int], Awaitable[None]], scale: Scale, *, first: int
) -> dict[str, float]:
    """Jobs a second, and what a job took of the schedulers and of PostgreSQL in the last and longest run."""
    figures: dict[str, float] = {}

    async def timed(jobs: int) -> float:
        before, busy, begun = place.reading(), place.cpu_seconds(), time.perf_counter()
        await run(jobs)
        seconds, cpu, after = time.perf_counter() - begun, place.cpu_seconds() - busy, place.reading()
        figures[f"{name}.cpu"] = cpu / jobs * 1e6
        if before is not None and after is not None:
            figures.update(after.since(before, name, jobs, seconds))
        return seconds

    return {name: await pace.rate(timed, scale, first=first)} | figures
