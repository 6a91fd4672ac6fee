"""PostgreSQL with a thousand jobs, and with millions: what one claim, create, report, count and page take, and a start.

Measured in the scheduler's process, through its committer and the real store: a wire would add the same to all of them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from itertools import count

from bench.figures import Measure, Scale, percentile
from bench.growth.queued import Layout, register, tenant
from bench.programs import scheduler, scratch
from bench.scaling.filled import LANES, Amount, fill_postgres
from bench.scaling.places import database
from towpath_server.core.events import Succeeded
from towpath_server.core.job import Job, JobState
from towpath_server.scheduler import Scheduler
from towpath_server.scheduler.messages import JobFilter, NewJob, Report
from towpath_server.store.postgres import PostgresStore

SMALL, BIG = Amount(1_000, 0), Amount(1_000_000, 10_000_000)
EACH, FEW = 300, 5
PAGE = 50
VERBS = {
    "claim": "claim of one job",
    "create": "create of one job",
    "report": "report of one job",
    "list": f"first page of {PAGE} jobs",
    "list.queued": f"first page of {PAGE} queued jobs",
    "stats": "count of all jobs by state",
    "stats.queued": "count of the queued jobs",
}
SIZES = {"small": SMALL, "big": BIG}
KEYS = tuple(
    measure
    for size, amount in SIZES.items()
    for measure in (
        *(
            Measure(f"scaling.depth.{size}.{verb}.{share}", f"PostgreSQL, {amount.words}: {what}, {share}", "ms")
            for verb, what in VERBS.items()
            for share in ("p50", "p99")
        ),
        Measure(f"scaling.depth.{size}.start", f"PostgreSQL, {amount.words}: towpath-server serves", "s"),
    )
)


def measure(scale: Scale) -> dict[str, float]:
    """Few, then many; autovacuum runs as it likes."""
    figures: dict[str, float] = {}
    for size, amount in SIZES.items():
        taken = Amount(scale.count(amount.queued, 500), scale.count(amount.finished) if amount.finished else 0)
        with scratch() as folder, database() as (_, url):
            fill_postgres(url, lambda url=url: PostgresStore(url), taken)  # type: ignore[misc]
            found = asyncio.run(_verbs(url, scale))
            begun = time.perf_counter()
            with scheduler(folder, store=url):
                found["start"] = time.perf_counter() - begun
        figures |= {f"scaling.depth.{size}.{key}": value for key, value in found.items()}
    return figures


async def _verbs(url: str, scale: Scale) -> dict[str, float]:
    running, me = Scheduler(PostgresStore(url)), tenant(0)
    await running.start(first_token=False)
    layout, numbers = Layout(LANES, lanes=LANES), count()
    leased: list[Job] = []

    def new() -> NewJob:
        number = next(numbers)
        made = layout.new(number)
        return replace(made, definition=replace(made.definition, request_id=f"depth-{number}"))

    async def claim() -> None:
        jobs = await running.workers.lease(me, worker.worker_id, worker.session_id, f"poll-{next(numbers)}", 1, 0)
        leased.extend(jobs)
        assert len(jobs) == 1

    async def report() -> None:
        job = leased.pop()
        assert job.lease is not None
        await stream.report([Report(next(reports), job.job_id, Succeeded(job.lease.token, b"done"))])

    queued = JobFilter(states=(JobState.QUEUED,))
    each, few = scale.count(EACH, 10), scale.count(FEW, 3)
    figures: dict[str, float] = {}

    async def timed(verb: str, times: int, call: Callable[[], Awaitable[object]]) -> None:
        taken = []
        for _ in range(times):
            begun = time.perf_counter()
            await call()
            taken.append((time.perf_counter() - begun) * 1e3)
        figures.update({f"{verb}.p50": percentile(taken, 0.5), f"{verb}.p99": percentile(taken, 0.99)})

    try:
        worker, reports = await register(running, me), count(1)
        stream = running.workers.connect(me, worker.worker_id, worker.session_id)
        await timed("create", each, lambda: running.jobs.create(me, [new()]))
        await timed("claim", each, claim)
        await timed("report", each, report)
        await timed("list", few, lambda: running.jobs.find(me, JobFilter(), PAGE, None, False))
        await timed("list.queued", few, lambda: running.jobs.find(me, queued, PAGE, None, False))
        await timed("stats", few, lambda: running.jobs.stats(me, JobFilter()))
        await timed("stats.queued", few, lambda: running.jobs.stats(me, queued))
    finally:
        await running.stop()
    return figures
