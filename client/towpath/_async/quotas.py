"""Calls on quotas: how much tenants and their users may have."""

from __future__ import annotations

from towpath._async.calls import AsyncCalls
from towpath.fleet import Quota, QuotaUse
from towpath.v1 import admin_service_pb2


class AsyncQuotaCalls(AsyncCalls):
    """How much everybody may have."""

    async def quotas(self) -> list[QuotaUse]:
        """Quotas with what of them is in use: all for admins of the tenant `default`, else those of the own tenant."""
        pages = self._connection.pages(self._stubs.admin.ListQuotas, admin_service_pb2.ListQuotasRequest())
        return [QuotaUse.from_proto(quota) async for page in pages for quota in page.quotas]

    async def set_quota(
        self,
        tenant: str = "",
        user: str = "",
        *,
        max_queued: int | None = None,
        max_running: int | None = None,
        max_requests_per_minute: int | None = None,
        max_result_bytes: int | None = None,
        max_log_bytes: int | None = None,
    ) -> Quota:
        """Puts a quota in the place of the one of the same tenant and user. For admins of the tenant `default`.

        With no user it counts all users of the tenant together; with no tenant it holds for each tenant that has none
        of its own. None: no limit.
        """
        quota = admin_service_pb2.Quota(
            tenant=tenant,
            user=user,
            max_queued=max_queued,
            max_running=max_running,
            max_requests_per_minute=max_requests_per_minute,
            max_result_bytes=max_result_bytes,
            max_log_bytes=max_log_bytes,
        )
        request = admin_service_pb2.SetQuotaRequest(quota=quota)
        return Quota.from_proto((await self._connection.call(self._stubs.admin.SetQuota, request)).quota)

    async def delete_quota(self, tenant: str = "", user: str = "") -> None:
        """Takes a quota away. For admins of the tenant `default`."""
        request = admin_service_pb2.DeleteQuotaRequest(tenant=tenant, user=user)
        await self._connection.call(self._stubs.admin.DeleteQuota, request)
