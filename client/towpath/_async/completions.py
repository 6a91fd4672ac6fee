"""Which jobs of a group came to an end, as they do: one stream for all of them."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import grpc

from towpath._async.connection import AsyncConnection
from towpath.enums import FINAL_STATES
from towpath.errors import TowpathError, Unavailable
from towpath.requests import job_filter
from towpath.retrying import Deadline
from towpath.v1 import job_service_pb2

PAGE_SIZE = 1000


async def completions(connection: AsyncConnection, labels: dict[str, str]) -> AsyncGenerator[str, None]:
    """The ids of jobs with these labels once they are final, for ever; an id may come more than once.

    Those that were final before are listed once. After a break the watch goes on where it was: nothing is missed.
    """
    forever = Deadline(None)
    backoff = connection.backoff(forever)
    wanted = job_filter({"labels": labels, "states": sorted(FINAL_STATES)})
    sequence = 0
    while True:
        request = job_service_pb2.WatchJobsRequest(filter=wanted, from_sequence=sequence)
        stream = connection.stubs.jobs.WatchJobs(request)
        failure: TowpathError = Unavailable("The watch ended.")
        try:
            async for response in stream:
                backoff = connection.heard(forever)
                for event in response.events:
                    yield event.job.job_id
                if not response.events and not sequence:
                    # The watch stands: what ended before it did is in the list.
                    listing = job_service_pb2.ListJobsRequest(filter=wanted, page_size=PAGE_SIZE)
                    async for page in connection.pages(connection.stubs.jobs.ListJobs, listing):
                        for job in page.jobs:
                            yield job.job_id
                sequence = response.sequence
        except grpc.RpcError as error:
            failure = connection.translate(error)
        except TowpathError as error:
            # The list could not be had: all of it is tried again, as after a break of the watch.
            failure = error
        finally:
            stream.cancel()
        await connection.pause(failure, backoff)
