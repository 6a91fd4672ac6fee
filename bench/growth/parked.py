"""Workers that wait: what each costs the scheduler, and how soon one of them has the job that was just created.

The workers are bare protocol loops in a few processes, each with a parked poll and an open report stream. They send no
heartbeats, and their polls outlast what is measured: it is what waiting costs, not what coming back does.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench import load
from bench.figures import Measure, Scale, percentile
from bench.growth.queued import MINE
from bench.programs import ROOT, Scheduler, scheduler, scratch
from towpath import Client
from towpath.channel import aio_channel
from towpath.v1.job_service_pb2_grpc import JobServiceStub

KEYS = (
    Measure("parked.workers", "workers parked on shared connections", "workers"),
    Measure("parked.kib", "memory for each of them: session, stream and poll", "KiB"),
    Measure("parked.cpu", "CPU of the scheduler while they are idle", "%"),
    Measure("wake.p50", "create acknowledged -> poll answered, all of them parked, p50", "ms"),
    Measure("wake.p99", "create acknowledged -> poll answered, all of them parked, p99", "ms"),
    Measure("wake.called.p50", "create called -> poll answered, all of them parked, p50", "ms"),
    Measure("wake.called.p99", "create called -> poll answered, all of them parked, p99", "ms"),
    Measure("parked.own.workers", "workers parked on connections of their own", "workers"),
    Measure("parked.own.kib", "memory for each of them", "KiB"),
    Measure("parked.own.cpu", "CPU of the scheduler while they are idle", "%"),
)
WORKERS, OWN = 10_000, 5_000
CROWDS, CONNECTIONS = 4, 40
SPARE_FILES = 500
# Nothing of theirs runs out while they are measured.
PATIENT = ("--lease-ttl", "1800", "--heartbeat-interval", "600", "--poll-timeout", "60")
PARKED_SECONDS = 30.0
SETTLE_SECONDS, IDLE_SECONDS = 1.0, 4.0
WAKE_UPS, PAUSE_SECONDS = 300, 0.01


@dataclass(frozen=True, slots=True)
class Cost:
    """What parked workers take: KiB each, and percent of a core together."""

    kib: float
    cpu: float


def measure(scale: Scale) -> dict[str, float]:
    """Shared connections, then own ones."""
    workers, own = scale.count(WORKERS, CROWDS), min(scale.count(OWN, CROWDS), _files() - SPARE_FILES)
    with scratch() as folder, _parked(folder, workers, min(CONNECTIONS, workers), scale) as (at, cost, crowds):
        figures = {"parked.workers": float(workers), "parked.kib": cost.kib, "parked.cpu": cost.cpu}
        acknowledged, called = asyncio.run(_wake(at, crowds, scale.count(WAKE_UPS, 5)))
    for name, taken in (("wake", acknowledged), ("wake.called", called)):
        figures |= {f"{name}.p50": percentile(taken, 0.5), f"{name}.p99": percentile(taken, 0.99)}
    with scratch() as folder, _parked(folder, own, own, scale) as (_, cost, _):
        return figures | {"parked.own.workers": float(own), "parked.own.kib": cost.kib, "parked.own.cpu": cost.cpu}


@contextmanager
def _parked(
    folder: Path, workers: int, connections: int, scale: Scale
) -> Iterator[tuple[Scheduler, Cost, list[subprocess.Popen[str]]]]:
    with ExitStack() as stack:
        at = stack.enter_context(scheduler(folder, *PATIENT))
        client = stack.enter_context(Client(at.address, at.token))
        client.server_stats()
        before = at.rss()
        shares = [(workers // CROWDS, max(connections // CROWDS, 1))] * CROWDS
        crowds = [stack.enter_context(_crowd(at, *share)) for share in shares]
        for one in crowds:
            assert one.stdout is not None
            assert one.stdout.readline() == "registered\n", "A crowd of workers ended before it was registered."
        for one in crowds:
            assert one.stdin is not None
            one.stdin.write("poll\n")
            one.stdin.flush()
        until = time.monotonic() + PARKED_SECONDS
        while client.server_stats().parked_poll_count < workers // CROWDS * CROWDS:
            if time.monotonic() > until:
                raise RuntimeError("The polls were not parked in time.")
            time.sleep(0.1)
        time.sleep(SETTLE_SECONDS * min(scale.size, 1))
        kib = (at.rss() - before) / 1024 / workers
        begun, busy = time.monotonic(), at.cpu_seconds()
        time.sleep(max(IDLE_SECONDS * min(scale.size, 1), 0.2))
        cpu = (at.cpu_seconds() - busy) / (time.monotonic() - begun) * 100
        yield at, Cost(kib, cpu), crowds


@contextmanager
def _crowd(at: Scheduler, workers: int, connections: int) -> Iterator[subprocess.Popen[str]]:
    words = [sys.executable, "-m", "bench.growth.crowd", at.address, str(workers), str(connections)]
    environment = {**os.environ, "TOWPATH_TOKEN": at.token, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(words, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


async def _wake(at: Scheduler, crowds: list[subprocess.Popen[str]], jobs: int) -> tuple[list[float], list[float]]:
    """Milliseconds until the poll was answered, since a create's answer and since its call."""
    acknowledged, called = [], []
    async with aio_channel(at.address, at.token) as channel, _told(crowds) as lines:
        stub = JobServiceStub(channel)
        for number in range(jobs + 5):
            begun = time.perf_counter()
            await stub.CreateJob(load.create(MINE))
            answered = time.perf_counter()
            _, moment = (await lines.get()).split()
            if number >= 5:
                acknowledged.append((float(moment) - answered) * 1e3)
                called.append((float(moment) - begun) * 1e3)
            await asyncio.sleep(PAUSE_SECONDS)
    return acknowledged, called


@contextlib.asynccontextmanager
async def _told(crowds: list[subprocess.Popen[str]]) -> AsyncIterator[asyncio.Queue[str]]:
    """What the crowds say, line by line."""
    lines: asyncio.Queue[str] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    async def listen(process: subprocess.Popen[str]) -> None:
        reader = asyncio.StreamReader()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), process.stdout)
        while line := await reader.readline():
            lines.put_nowait(line.decode())

    listening = [asyncio.create_task(listen(one)) for one in crowds]
    try:
        yield lines
    finally:
        for task in listening:
            task.cancel()


def _files() -> int:
    """As many descriptors as this system grants, to the programs started here too."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard
