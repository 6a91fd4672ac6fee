"""Very many bare workers in one process: `python -m bench.growth.crowd ADDRESS WORKERS CONNECTIONS`, TOWPATH_TOKEN set.

Each registers and opens its report stream. "registered" is said when all have; after a line from standard input all
poll. Then there is a line for each job that a poll brought: its id and the moment, of the clock that all processes of a
machine share. It ends with its standard input.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
import time
from typing import TYPE_CHECKING, Any

import grpc.aio

from bench.growth.queued import MINE
from towpath.channel import options_for
from towpath.v1 import job_pb2, worker_pb2, worker_service_pb2
from towpath.v1.worker_service_pb2_grpc import WorkerServiceStub

if TYPE_CHECKING:
    from towpath.v1.worker_service_pb2_grpc import WorkerServiceAsyncStub

REGISTERED_AT_ONCE = 50
Metadata = tuple[tuple[str, str], ...]


async def live(
    stub: WorkerServiceAsyncStub, who: Metadata, turn: asyncio.Semaphore, ready: asyncio.Semaphore, go: asyncio.Event
) -> None:
    """One worker of one slot."""
    async with turn:
        machine = worker_pb2.Machine(cpu_count=2, memory_mb=4096)
        asked = worker_service_pb2.RegisterWorkerRequest(name="crowd", slots=1, job_types=[MINE], machine=machine)
        me = await stub.RegisterWorker(asked, metadata=who)
        stream: Any = stub.ReportJobs(metadata=who)
        await stream.write(worker_service_pb2.ReportJobsRequest(worker_id=me.worker_id, session_id=me.session_id))
    listening = asyncio.create_task(_listen(stream))
    ready.release()
    await go.wait()
    request = worker_service_pb2.LeaseJobsRequest(worker_id=me.worker_id, session_id=me.session_id, max_jobs=1)
    for number in itertools.count(1):
        request.poll_id = str(number)
        for lease in (await stub.LeaseJobs(request, metadata=who)).leases:
            print(lease.job.job_id, time.perf_counter(), flush=True)
            done = worker_service_pb2.Report(sequence=number, job_id=lease.job.job_id, lease_token=lease.lease_token)
            done.succeeded.result.custom.CopyFrom(job_pb2.CustomResult())
            await stream.write(worker_service_pb2.ReportJobsRequest(reports=[done]))
    listening.cancel()


async def _listen(stream: Any) -> None:
    async for _ in stream:
        pass


async def crowd(address: str, token: str, workers: int, connections: int) -> None:
    """All of them, until standard input ends."""
    opened = [grpc.aio.insecure_channel(address, options_for(address)) for _ in range(connections)]
    stubs = [WorkerServiceStub(channel) for channel in opened]
    who = (("authorization", f"Bearer {token}"),)
    turn, ready, go = asyncio.Semaphore(REGISTERED_AT_ONCE), asyncio.Semaphore(0), asyncio.Event()
    lives = [asyncio.create_task(live(stubs[number % connections], who, turn, ready, go)) for number in range(workers)]
    for _ in lives:
        await ready.acquire()
    print("registered", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    go.set()
    await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(crowd(sys.argv[1], os.environ["TOWPATH_TOKEN"], int(sys.argv[2]), int(sys.argv[3])))
