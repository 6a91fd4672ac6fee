"""No-op jobs for Towpath, and how to know that they are done."""

from __future__ import annotations

import asyncio
import time
from itertools import count
from typing import TYPE_CHECKING

from bench.pace import PAYLOAD, spread
from towpath.v1 import job_pb2, job_service_pb2

if TYPE_CHECKING:
    from towpath.v1.job_service_pb2_grpc import JobServiceAsyncStub

POLL_SECONDS = 0.01

numbers = count(time.time_ns())


def create(job_type: str) -> job_service_pb2.CreateJobRequest:
    """A request for a no-op job."""
    made = job_service_pb2.CreateJobRequest(request_id=str(next(numbers)))
    made.job.custom.type = job_type
    made.job.custom.params["value"] = PAYLOAD
    return made


async def submit(stub: JobServiceAsyncStub, job_type: str, jobs: int, *, batch: int = 100, at_once: int = 4) -> str:
    """Creates the jobs, in batches or, with a batch of one, by a call each; the id of the last one."""
    last = ""

    async def one(_: int) -> None:
        nonlocal last
        if batch == 1:
            last = (await stub.CreateJob(create(job_type))).job.job_id
        else:
            requests = [create(job_type) for _ in range(batch)]
            made = await stub.BatchCreateJobs(job_service_pb2.BatchCreateJobsRequest(requests=requests))
            last = made.jobs[-1].job_id

    await spread(jobs // batch, at_once, one)
    return last


async def succeeded(stub: JobServiceAsyncStub) -> int:
    """How many jobs have succeeded so far."""
    wanted = job_pb2.JOB_STATE_SUCCEEDED
    states = (await stub.GetJobStats(job_service_pb2.GetJobStatsRequest())).states
    return sum(one.count for one in states if one.state == wanted)


async def until_succeeded(stub: JobServiceAsyncStub, jobs: int, last: str) -> None:
    """Returns when so many jobs have succeeded: counts once the last one is final, so that counting costs little."""
    await stub.WaitJob(job_service_pb2.WaitJobRequest(job_id=last))
    while await succeeded(stub) < jobs:
        await asyncio.sleep(POLL_SECONDS)
