"""What a claim costs, with few jobs queued and with a million.

Measured in the scheduler's process, from the poll to the committed lease: what a wire would add hides the difference.
The figure is the CPU time of a poll that gets one job, all threads together; the wall clock beside it holds the fsync.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Iterable
from pathlib import Path

from bench.figures import Measure, Scale
from bench.growth.queued import STORE, Layout, copy, register, tenant
from bench.programs import scratch
from towpath_server.scheduler import Scheduler
from towpath_server.store.sqlite import SqliteStore

MILLION = 1_000_000
BLOCKS, CLAIMS = 30, 20

LAYOUTS = {
    "depth.1k": ("1,000 jobs in one lane", Layout(1_000)),
    "depth.100k": ("100,000 jobs in one lane", Layout(100_000)),
    "depth.1m": ("1,000,000 jobs in one lane", Layout(MILLION)),
    "depth.1m.lanes": ("1,000,000 jobs in 1,000 lanes", Layout(MILLION, lanes=1_000)),
    "depth.1m.tenants": ("1,000,000 jobs of 50 tenants", Layout(MILLION, tenants=50)),
    "depth.1m.ineligible": ("1,000,000 jobs, 90 % of them for other workers", Layout(MILLION, strange=9)),
    "depth.1m.all": (
        "1,000,000 jobs of 50 tenants in 1,000 lanes each, 90 % for other workers",
        Layout(MILLION, lanes=1_000, tenants=50, strange=9),
    ),
}
KEYS = tuple(
    measure
    for key, (what, _) in LAYOUTS.items()
    for measure in (
        Measure(key, f"claim of one job, {what}: CPU", "us"),
        Measure(f"{key}.wall", f"claim of one job, {what}: wall clock", "us"),
    )
)


def measure(scale: Scale) -> dict[str, float]:
    """What one claim costs in each layout."""
    figures: dict[str, float] = {}
    for key, (_, layout) in LAYOUTS.items():
        jobs = scale.count(layout.jobs, least=200)
        lanes, tenants = min(layout.lanes, jobs // 10), min(layout.tenants, -(-jobs // 1_000))
        with scratch() as folder:
            store = copy(Layout(jobs, lanes, tenants, layout.strange), folder) / STORE
            # No more claims than half of the jobs that the worker may have.
            blocks = min(BLOCKS, jobs * (10 - layout.strange) // 10 // tenants // 2 // CLAIMS)
            cpu, wall = asyncio.run(claims(store, max(blocks, 1)))
        figures |= {key: cpu, f"{key}.wall": wall}
    return figures


async def claims(path: Path, blocks: int) -> tuple[float, float]:
    """CPU and wall clock of one claim (microseconds, medians over blocks of claims)."""
    scheduler = Scheduler(SqliteStore(path))
    await scheduler.start()
    try:
        worker = await register(scheduler, tenant(0))
        cpu, wall = [], []
        for block in range(blocks):
            begun = time.process_time(), time.perf_counter()
            for number in range(CLAIMS):
                jobs = await scheduler.workers.lease(
                    tenant(0), worker.worker_id, worker.session_id, f"{block}-{number}", 1, 0
                )
                assert len(jobs) == 1
            cpu.append(time.process_time() - begun[0])
            wall.append(time.perf_counter() - begun[1])
    finally:
        await scheduler.stop()
    return _each(cpu), _each(wall)


def _each(blocks: Iterable[float]) -> float:
    return statistics.median(blocks) / CLAIMS * 1e6
