# ruff: noqa: N802
"""AdminService: what operators call."""

from __future__ import annotations

from towpath.v1 import admin_service_pb2 as pb
from towpath.v1 import admin_service_pb2_grpc
from towpath_server.rpc import pages
from towpath_server.rpc.auth import caller
from towpath_server.rpc.convert.quotas import quota_of, quota_to_proto, use_to_proto
from towpath_server.rpc.convert.records import audit_to_proto, info_to_proto, overview_to_proto
from towpath_server.rpc.convert.times import length
from towpath_server.scheduler.admin import Admin
from towpath_server.scheduler.quotas import Quotas


class AdminServicer(admin_service_pb2_grpc.AdminServiceServicer):
    """The scheduler itself, for those who run it."""

    def __init__(self, admin: Admin, quotas: Quotas) -> None:
        self._admin = admin
        self._quotas = quotas

    async def GetServerInfo(self, request: pb.GetServerInfoRequest, context: object) -> pb.GetServerInfoResponse:
        """Which scheduler this is."""
        return info_to_proto(self._admin.info())

    async def GetStats(self, request: pb.GetStatsRequest, context: object) -> pb.GetStatsResponse:
        """What it holds and does."""
        return overview_to_proto(await self._admin.overview(caller()))

    async def CleanupJobs(self, request: pb.CleanupJobsRequest, context: object) -> pb.CleanupJobsResponse:
        """Deletes final jobs of the caller's tenant before their time."""
        return pb.CleanupJobsResponse(deleted_count=await self._admin.cleanup(caller(), length(request.min_age)))

    async def ListAuditEvents(self, request: pb.ListAuditEventsRequest, context: object) -> pb.ListAuditEventsResponse:
        """Who did what, the newest first, page by page."""
        last, most = pages.after(request), pages.size(request)
        before = int(last[0]) if last else None
        found = await self._admin.audit(caller(), request.action, request.user, request.subject, most + 1, before)
        page = pages.within([audit_to_proto(event) for event in found[:most]])
        token = pages.token(request, (found[len(page) - 1].event_id,)) if len(page) < len(found) else ""
        return pb.ListAuditEventsResponse(events=page, next_page_token=token)

    async def ListQuotas(self, request: pb.ListQuotasRequest, context: object) -> pb.ListQuotasResponse:
        """Quotas by tenant and user, page by page, with what of them is in use."""
        views = self._quotas.quotas(caller())
        page, token = pages.cut(request, views, lambda view: (view.quota.tenant, view.quota.user), use_to_proto)
        return pb.ListQuotasResponse(quotas=page, next_page_token=token)

    async def SetQuota(self, request: pb.SetQuotaRequest, context: object) -> pb.SetQuotaResponse:
        """Sets what a tenant, or a user of it, may have."""
        return pb.SetQuotaResponse(quota=quota_to_proto(await self._quotas.set(caller(), quota_of(request.quota))))

    async def DeleteQuota(self, request: pb.DeleteQuotaRequest, context: object) -> pb.DeleteQuotaResponse:
        """Takes a quota away."""
        await self._quotas.delete(caller(), request.tenant, request.user)
        return pb.DeleteQuotaResponse()
