"""Many jobs in few calls."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Sequence
from copy import copy

from towpath._async.connection import AsyncConnection
from towpath.errors import (
    DeadlineExceeded,
    PermissionDenied,
    RequestCancelled,
    TowpathError,
    Unauthenticated,
    Unavailable,
)
from towpath.requests import MAX_BATCH, batches, with_spec
from towpath.retrying import Deadline, is_transient
from towpath.v1 import job_pb2, job_service_pb2

# Each create of a batch would meet these alone as well, as it would a store that is full.
COMMON = (Unavailable, DeadlineExceeded, Unauthenticated, PermissionDenied, RequestCancelled)


async def create_all(
    connection: AsyncConnection, creates: Iterable[job_service_pb2.CreateJobRequest]
) -> AsyncGenerator[Sequence[job_pb2.Job], None]:
    """The new jobs of each batch, in the order of the requests. A batch is created as a whole or not at all."""
    for batch in batches(creates):
        request = job_service_pb2.BatchCreateJobsRequest(requests=batch)
        yield (await connection.call(connection.stubs.jobs.BatchCreateJobs, request)).jobs


async def create_each(
    connection: AsyncConnection, creates: Sequence[job_service_pb2.CreateJobRequest], deadline: Deadline | None = None
) -> list[job_pb2.Job | TowpathError]:
    """What becomes of each create of one batch, as if it had been sent alone.

    A batch that is refused is halved until only those are refused that are wrong; request ids make that harmless.
    """
    deadline = deadline or Deadline(connection.timeout)
    seconds = deadline.remaining()
    stubs = connection.stubs.jobs
    try:
        if len(creates) == 1:
            return [(await connection.call(stubs.CreateJob, creates[0], timeout=seconds)).job]
        request = job_service_pb2.BatchCreateJobsRequest(requests=creates)
        response = await connection.call(stubs.BatchCreateJobs, request, timeout=seconds)
    except TowpathError as error:
        if len(creates) == 1 or isinstance(error, COMMON) or is_transient(error):
            return [copy(error) for _ in creates]
        middle = len(creates) // 2
        first = await create_each(connection, creates[:middle], deadline)
        return first + await create_each(connection, creates[middle:], deadline)
    return [with_spec(job, create.job) for job, create in zip(response.jobs, creates, strict=True)]


async def cancel_all(connection: AsyncConnection, job_ids: Sequence[str], *, reason: str) -> None:
    """Cancels the jobs as far as that goes: whoever stops has an error of its own to show."""
    try:
        for first in range(0, len(job_ids), MAX_BATCH):
            some = job_ids[first : first + MAX_BATCH]
            request = job_service_pb2.BatchCancelJobsRequest(job_ids=some, reason=reason)
            await connection.call(connection.stubs.jobs.BatchCancelJobs, request)
    except TowpathError:
        return
