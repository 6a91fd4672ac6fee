# ruff: noqa: N802
"""FleetService: what people call to look after workers."""

from __future__ import annotations

from towpath.v1 import fleet_service_pb2 as pb
from towpath.v1 import fleet_service_pb2_grpc
from towpath_server.rpc import pages
from towpath_server.rpc.auth import caller
from towpath_server.rpc.convert import ids
from towpath_server.rpc.convert.workers import worker_to_proto
from towpath_server.scheduler.fleet import Fleet


class FleetServicer(fleet_service_pb2_grpc.FleetServiceServicer):
    """Workers, for those who look after them."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    async def ListWorkers(self, request: pb.ListWorkersRequest, context: object) -> pb.ListWorkersResponse:
        """Workers, newest first, page by page."""
        views = self._fleet.workers(caller(), request.include_offline)
        page, token = pages.cut(request, views, lambda view: (-view.worker.worker_id,), worker_to_proto)
        return pb.ListWorkersResponse(workers=page, next_page_token=token)

    async def GetWorker(self, request: pb.GetWorkerRequest, context: object) -> pb.GetWorkerResponse:
        """One worker."""
        view = self._fleet.worker(caller(), ids.read(ids.WORKER, request.worker_id))
        return pb.GetWorkerResponse(worker=worker_to_proto(view))

    async def DrainWorker(self, request: pb.DrainWorkerRequest, context: object) -> pb.DrainWorkerResponse:
        """Lets a worker finish what it runs and then stop."""
        view = await self._fleet.drain(caller(), ids.read(ids.WORKER, request.worker_id))
        return pb.DrainWorkerResponse(worker=worker_to_proto(view))

    async def RemoveWorker(self, request: pb.RemoveWorkerRequest, context: object) -> pb.RemoveWorkerResponse:
        """Forgets a worker, and makes its credential void."""
        token_id = await self._fleet.remove(caller(), ids.read(ids.WORKER, request.worker_id))
        return pb.RemoveWorkerResponse(revoked_token_id=ids.show(ids.TOKEN, token_id) if token_id is not None else "")
