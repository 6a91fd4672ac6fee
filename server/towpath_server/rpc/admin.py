# ruff: noqa: N802
"""AdminService: what operators call."""

from __future__ import annotations

from towpath.v1 import admin_service_pb2 as pb
from towpath.v1 import admin_service_pb2_grpc
from towpath_server.rpc.auth import caller
from towpath_server.rpc.convert.records import info_to_proto, overview_to_proto
from towpath_server.rpc.convert.times import length
from towpath_server.scheduler.admin import Admin


class AdminServicer(admin_service_pb2_grpc.AdminServiceServicer):
    """The scheduler itself, for those who run it."""

    def __init__(self, admin: Admin) -> None:
        self._admin = admin

    async def GetServerInfo(self, request: pb.GetServerInfoRequest, context: object) -> pb.GetServerInfoResponse:
        """Which scheduler this is."""
        return info_to_proto(self._admin.info())

    async def GetStats(self, request: pb.GetStatsRequest, context: object) -> pb.GetStatsResponse:
        """What it holds and does."""
        return overview_to_proto(await self._admin.overview(caller()))

    async def CleanupJobs(self, request: pb.CleanupJobsRequest, context: object) -> pb.CleanupJobsResponse:
        """Deletes final jobs of the caller's tenant before their time."""
        return pb.CleanupJobsResponse(deleted_count=await self._admin.cleanup(caller(), length(request.min_age)))
