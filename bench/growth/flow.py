"""Jobs a second with bare workers in other processes: what the growth curves are drawn from.

`python -m bench.growth.flow ADDRESS WORKERS LEASE`, with TOWPATH_TOKENS set, is the workers: WORKERS protocol loops,
each of which polls for LEASE jobs and reports them done at once. It says "ready" when all have registered, polls after
a line from standard input, and ends with it. The tokens go round.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from bench import load, pace
from bench.growth.queued import MINE
from bench.programs import ROOT, Scheduler
from towpath.channel import aio_channel
from towpath.v1 import job_pb2, job_service_pb2, worker_pb2, worker_service_pb2
from towpath.v1.job_service_pb2_grpc import JobServiceStub
from towpath.v1.worker_service_pb2_grpc import WorkerServiceStub

if TYPE_CHECKING:
    from towpath.v1.job_service_pb2_grpc import JobServiceAsyncStub
    from towpath.v1.worker_service_pb2_grpc import WorkerServiceAsyncStub

Requests = Sequence[job_service_pb2.CreateJobRequest]
SLOTS = 4096
#: More than any requirement of the curves.
MEMORY_MB = 1 << 20
AT_ONCE = 4


@contextmanager
def workers(at: Scheduler, count: int, lease: int, tokens: Sequence[str]) -> Iterator[subprocess.Popen[str]]:
    """The workers, registered; a line to standard input lets them poll."""
    words = [sys.executable, "-m", "bench.growth.flow", at.address, str(count), str(lease)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TOWPATH_TOKENS": " ".join(tokens)}
    with subprocess.Popen(words, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n", "The workers ended before they were ready."
            yield process
        finally:
            process.kill()


def poll(process: subprocess.Popen[str]) -> None:
    """Let the workers poll."""
    assert process.stdin is not None
    process.stdin.write("poll\n")
    process.stdin.flush()


async def submit(at: Scheduler, token: str, batches: Sequence[Requests]) -> str:
    """Create the jobs; the id of the last one."""
    async with aio_channel(at.address, token) as channel:
        stub = JobServiceStub(channel)
        last = ""

        async def one(number: int) -> None:
            nonlocal last
            made = await stub.BatchCreateJobs(job_service_pb2.BatchCreateJobsRequest(requests=batches[number]))
            last = made.jobs[-1].job_id

        await pace.spread(len(batches), AT_ONCE, one)
    return last


async def finished(at: Scheduler, token: str, jobs: int, last: str) -> None:
    """Returns when so many of the token's jobs have succeeded."""
    async with aio_channel(at.address, token) as channel:
        stub: JobServiceAsyncStub = JobServiceStub(channel)
        await load.until_succeeded(stub, jobs, last)


def cut(requests: Requests, batch: int) -> list[Requests]:
    """In batches."""
    return [requests[start : start + batch] for start in range(0, len(requests), batch)]


def run_backlog(at: Scheduler, count: int, lease: int, by_token: dict[str, list[Requests]]) -> float:
    """Jobs a second where all are queued before the workers poll: from the first create to the last result."""

    async def queue() -> dict[str, str]:
        lasts = await asyncio.gather(*(submit(at, token, batches) for token, batches in by_token.items()))
        return dict(zip(by_token, lasts, strict=True))

    async def drain(lasts: dict[str, str]) -> None:
        totals = {token: sum(map(len, batches)) for token, batches in by_token.items()}
        await asyncio.gather(*(finished(at, token, totals[token], last) for token, last in lasts.items()))

    with workers(at, count, lease, list(by_token)) as process:
        begun = time.perf_counter()
        lasts = asyncio.run(queue())
        poll(process)
        asyncio.run(drain(lasts))
        return sum(len(batch) for batches in by_token.values() for batch in batches) / (time.perf_counter() - begun)


def run_stream(at: Scheduler, count: int, lease: int, batches: list[Requests]) -> float:
    """Jobs a second where the workers poll already when they are created."""

    async def both() -> float:
        begun = time.perf_counter()
        last = await submit(at, at.token, batches)
        jobs = sum(map(len, batches))
        await finished(at, at.token, jobs, last)
        return jobs / (time.perf_counter() - begun)

    with workers(at, count, lease, [at.token]) as process:
        poll(process)
        return asyncio.run(both())


async def _work(stub: WorkerServiceAsyncStub, lease: int, go: asyncio.Event, ready: asyncio.Semaphore) -> None:
    machine = worker_pb2.Machine(cpu_count=2, memory_mb=MEMORY_MB)
    me = await stub.RegisterWorker(
        worker_service_pb2.RegisterWorkerRequest(name="flow", slots=SLOTS, job_types=[MINE], machine=machine)
    )
    stream: Any = stub.ReportJobs()
    await stream.write(worker_service_pb2.ReportJobsRequest(worker_id=me.worker_id, session_id=me.session_id))
    listening = asyncio.create_task(_listen(stream))
    ready.release()
    await go.wait()
    succeeded = worker_service_pb2.Succeeded(result=job_pb2.JobResult(custom=job_pb2.CustomResult()))
    sequence = itertools.count(1)
    request = worker_service_pb2.LeaseJobsRequest(worker_id=me.worker_id, session_id=me.session_id, max_jobs=lease)
    for number in itertools.count(1):
        request.poll_id = str(number)
        leases = (await stub.LeaseJobs(request)).leases
        done = [
            worker_service_pb2.Report(
                sequence=next(sequence), job_id=one.job.job_id, lease_token=one.lease_token, succeeded=succeeded
            )
            for one in leases
        ]
        if done:
            await stream.write(worker_service_pb2.ReportJobsRequest(reports=done))
    listening.cancel()


async def _listen(stream: Any) -> None:
    async for _ in stream:
        pass


async def main(address: str, count: int, lease: int, tokens: Sequence[str]) -> None:
    """The workers, until standard input ends; each token has a connection."""
    channels = [aio_channel(address, token) for token in tokens]
    stubs = [WorkerServiceStub(channel) for channel in channels]
    go, ready = asyncio.Event(), asyncio.Semaphore(0)
    lives = [asyncio.create_task(_work(stubs[number % len(stubs)], lease, go, ready)) for number in range(count)]
    for _ in lives:
        await ready.acquire()
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    go.set()
    await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), os.environ["TOWPATH_TOKENS"].split()))
