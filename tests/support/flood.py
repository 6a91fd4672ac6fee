"""A flood of one user's batches, in a process of its own: `python -m support.flood ADDRESS`, TOWPATH_TOKEN set.

It says "flooding" when every call is under way. It ends with its standard input, and says how many jobs were taken.
"""

from __future__ import annotations

import asyncio
import os
import sys

import grpc.aio

from towpath.v1 import job_pb2, job_service_pb2
from towpath.v1.job_service_pb2_grpc import JobServiceStub

# So many calls with so many jobs each are always under way.
CALLS, BATCH = 50, 100


async def flood(address: str, token: str) -> int:
    """Send batches until standard input ends; how many jobs were taken."""
    taken = 0
    who = (("authorization", f"Bearer {token}"),)
    one = job_service_pb2.CreateJobRequest(job=job_pb2.Job(custom=job_pb2.CustomSpec(type="flood")))
    batch = job_service_pb2.BatchCreateJobsRequest(requests=[one] * BATCH)
    async with grpc.aio.insecure_channel(address) as channel:
        stub = JobServiceStub(channel)

        async def again() -> None:
            nonlocal taken
            while True:
                await stub.BatchCreateJobs(batch, metadata=who)
                taken += BATCH

        tasks = [asyncio.ensure_future(again()) for _ in range(CALLS)]
        print("flooding", flush=True)
        await asyncio.to_thread(sys.stdin.read)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return taken


if __name__ == "__main__":
    print(asyncio.run(flood(sys.argv[1], os.environ["TOWPATH_TOKEN"])), flush=True)
