"""Pages of jobs that come from the store piece by piece."""

from __future__ import annotations

from towpath.v1 import job_service_pb2 as pb
from towpath.v1 import queue_service_pb2
from towpath_server.core.records import Principal
from towpath_server.rpc import pages
from towpath_server.rpc.convert.jobs import BASIC, job_to_proto
from towpath_server.rpc.convert.new_jobs import job_filter
from towpath_server.rpc.slices import sliced
from towpath_server.scheduler.jobs import Jobs
from towpath_server.scheduler.queues import Queues

# Whole jobs are loaded so many at a time: each may have some MiB.
WHOLE_JOBS = 25


async def list_jobs(jobs: Jobs, principal: Principal, request: pb.ListJobsRequest) -> pb.ListJobsResponse:
    """A page of jobs by filter. One of whole jobs may end before page_size."""
    last = pages.after(request)
    view = request.view or BASIC
    most = min(pages.size(request), WHOLE_JOBS) if view != BASIC else pages.size(request)
    ascending = request.order_by in ("create_time", "create_time asc")
    after = int(last[0]) if last else None
    found = await jobs.find(principal, job_filter(request.filter), most + 1, after, ascending)
    page = pages.within(await sliced(lambda job: job_to_proto(job, view), found[:most]))
    token = pages.token(request, (found[len(page) - 1].job_id,)) if len(page) < len(found) else ""
    return pb.ListJobsResponse(jobs=page, next_page_token=token)


async def peek_queue(
    queues: Queues, principal: Principal, request: queue_service_pb2.PeekQueueRequest
) -> queue_service_pb2.PeekQueueResponse:
    """The waiting jobs in dispatch order. Pages are counted: what moves up meanwhile may be missed or come twice."""
    last = pages.after(request)
    skip, most = int(last[0]) if last else 0, pages.size(request)
    found = await queues.peek(principal, request.name, skip, most + 1)
    page = pages.within(await sliced(lambda job: job_to_proto(job, BASIC), found[:most]))
    token = pages.token(request, (skip + len(page),)) if len(page) < len(found) else ""
    return queue_service_pb2.PeekQueueResponse(jobs=page, next_page_token=token)
