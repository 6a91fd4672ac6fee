# ruff: noqa: N802
"""QueueService: what people call to look after queues."""

from __future__ import annotations

from towpath.v1 import queue_service_pb2 as pb
from towpath.v1 import queue_service_pb2_grpc
from towpath_server.rpc import pages
from towpath_server.rpc.auth import caller
from towpath_server.rpc.convert.records import queue_to_proto
from towpath_server.rpc.listing import peek_queue
from towpath_server.scheduler.queues import Queues


class QueueServicer(queue_service_pb2_grpc.QueueServiceServicer):
    """Queues of the caller's tenant."""

    def __init__(self, queues: Queues) -> None:
        self._queues = queues

    async def ListQueues(self, request: pb.ListQueuesRequest, context: object) -> pb.ListQueuesResponse:
        """Queues by name, page by page."""
        views = await self._queues.queues(caller())
        page, token = pages.cut(request, views, lambda view: (view.queue.name,), queue_to_proto)
        return pb.ListQueuesResponse(queues=page, next_page_token=token)

    async def GetQueue(self, request: pb.GetQueueRequest, context: object) -> pb.GetQueueResponse:
        """One queue."""
        return pb.GetQueueResponse(queue=queue_to_proto(await self._queues.queue(caller(), request.name)))

    async def PauseQueue(self, request: pb.PauseQueueRequest, context: object) -> pb.PauseQueueResponse:
        """Stops handing out jobs of a queue."""
        return pb.PauseQueueResponse(queue=queue_to_proto(await self._queues.pause(caller(), request.name)))

    async def ResumeQueue(self, request: pb.ResumeQueueRequest, context: object) -> pb.ResumeQueueResponse:
        """Hands them out again."""
        return pb.ResumeQueueResponse(queue=queue_to_proto(await self._queues.resume(caller(), request.name)))

    async def PeekQueue(self, request: pb.PeekQueueRequest, context: object) -> pb.PeekQueueResponse:
        """The waiting jobs in the order in which they go."""
        return await peek_queue(self._queues, caller(), request)
