"""Which jobs of a group came to an end, and how: one stream for all of them."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

import grpc

from towpath._async.connection import AsyncConnection
from towpath.enums import FINAL_STATES
from towpath.errors import TowpathError, Unavailable
from towpath.requests import job_filter
from towpath.retrying import Deadline
from towpath.v1 import job_pb2, job_service_pb2


class AsyncCompletions:
    """The jobs with these labels that become final from now on, with their results, until it is stopped."""

    def __init__(self, connection: AsyncConnection, labels: dict[str, str]) -> None:
        self._connection = connection
        self._wanted = job_filter({"labels": labels, "states": sorted(FINAL_STATES)})
        self._stream: Any = None
        self._stopped = False

    async def __aiter__(self) -> AsyncGenerator[list[job_pb2.Job], None]:
        """Some jobs at a time. None, the first time: the watch stands, and no job that ends later is missed.

        After a break the watch goes on where it was. A job may come more than once.
        """
        backoff = self._connection.backoff(Deadline(self._connection.timeout))
        sequence = 0
        while not self._stopped:
            request = job_service_pb2.WatchJobsRequest(
                filter=self._wanted, from_sequence=sequence, view=job_pb2.JOB_VIEW_RESULT
            )
            stream = self._stream = self._connection.stubs.jobs.WatchJobs(request)
            failure: TowpathError = Unavailable("The watch ended.")
            try:
                self._end_if_stopped()
                async for response in stream:
                    # Jobs are under way: these are waited for as long as it takes.
                    backoff = self._connection.heard(Deadline(None))
                    yield [event.job for event in response.events]
                    sequence = response.sequence
            except grpc.RpcError as error:
                failure = self._connection.translate(error)
            finally:
                stream.cancel()
            if not self._stopped:
                await self._connection.pause(failure, backoff)

    def stop(self) -> None:
        """Ends it, also from another thread."""
        self._stopped = True
        self._end_if_stopped()

    def _end_if_stopped(self) -> None:
        if self._stopped and self._stream is not None:
            self._stream.cancel()
