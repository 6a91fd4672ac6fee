"""Many jobs in few calls."""

from __future__ import annotations

from collections.abc import Iterable

from towpath._async.connection import AsyncConnection
from towpath.requests import batches
from towpath.v1 import job_pb2, job_service_pb2


async def create_all(
    connection: AsyncConnection, creates: Iterable[job_service_pb2.CreateJobRequest]
) -> list[job_pb2.Job]:
    """The new jobs, in the order of the requests. Each batch is created as a whole or not at all."""
    jobs: list[job_pb2.Job] = []
    for batch in batches(creates):
        request = job_service_pb2.BatchCreateJobsRequest(requests=batch)
        jobs.extend((await connection.call(connection.stubs.jobs.BatchCreateJobs, request)).jobs)
    return jobs
