"""Quotas, from protobuf and to it."""

from __future__ import annotations

from towpath.v1 import admin_service_pb2 as pb
from towpath_server.core.records import Quota
from towpath_server.scheduler.messages import QuotaView

LIMITS = ("max_queued", "max_running", "max_requests_per_minute", "max_result_bytes", "max_log_bytes")
MOST_COUNTED = 2**31 - 1


def quota_of(given: pb.Quota) -> Quota:
    """A quota as it was asked for."""
    limits = {name: getattr(given, name) for name in LIMITS if given.HasField(name)}  # type: ignore[arg-type]
    return Quota(tenant=given.tenant, user=given.user, **limits)


def quota_to_proto(quota: Quota) -> pb.Quota:
    """A quota."""
    limits = {name: limit for name in LIMITS if (limit := getattr(quota, name)) is not None}
    return pb.Quota(tenant=quota.tenant, user=quota.user, **limits)


def use_to_proto(view: QuotaView) -> pb.QuotaUse:
    """A quota, and what of it is in use."""
    return pb.QuotaUse(
        quota=quota_to_proto(view.quota),
        queued_count=min(view.use.queued, MOST_COUNTED),
        running_count=min(view.use.running, MOST_COUNTED),
        result_bytes=view.use.result_bytes,
        log_bytes=view.use.log_bytes,
    )
