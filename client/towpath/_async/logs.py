"""A job's logs as one stream, also across broken connections and later attempts."""

from __future__ import annotations

from collections.abc import AsyncIterator

import grpc

from towpath._async.connection import AsyncConnection
from towpath.errors import TowpathError, Unavailable
from towpath.logs import LogPosition
from towpath.retrying import Deadline
from towpath.types import Job, LogChunk
from towpath.v1.job_pb2 import JOB_VIEW_BASIC
from towpath.v1.job_service_pb2 import GetJobRequest, StreamJobLogsRequest


async def read_logs(connection: AsyncConnection, job_id: str, *, follow: bool, attempt: int) -> AsyncIterator[LogChunk]:
    """Each piece once, in order; `attempt` 0 is the current or last one and, with `follow`, each later one."""
    deadline = Deadline(None if follow else connection.timeout)
    backoff = connection.backoff(deadline)
    position = LogPosition()
    request = StreamJobLogsRequest(job_id=job_id, attempt=attempt, follow=follow)
    while True:
        stream = connection.stubs.jobs.StreamJobLogs(request, timeout=deadline.remaining())
        failure: TowpathError | None = None
        try:
            async for response in stream:
                backoff = connection.heard(deadline)
                if chunk := position.rest_of(LogChunk.from_proto(response)):
                    position = position.after(chunk)
                    yield chunk
        except grpc.RpcError as error:
            failure = connection.translate(error)
        finally:
            stream.cancel()
        if failure is None:
            if not follow:
                return
            job = await _look(connection, job_id)
            # A stream that was broken goes on attempt by attempt: more than one may have begun meanwhile.
            if not attempt and 0 < request.attempt < job.attempt:
                position = position.next_attempt()
                request = position.request(job_id, follow=True)
                continue
            if job.is_final:
                return
        await connection.pause(failure or Unavailable("The log ended before the job did."), backoff)
        if position.attempt:
            request = position.request(job_id, follow=follow)


async def _look(connection: AsyncConnection, job_id: str) -> Job:
    request = GetJobRequest(job_id=job_id, view=JOB_VIEW_BASIC)
    return Job.from_proto((await connection.call(connection.stubs.jobs.GetJob, request)).job)
