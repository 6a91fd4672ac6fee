"""Tokens, queues, logs and figures, to protobuf."""

from __future__ import annotations

from towpath.v1 import admin_service_pb2, auth_service_pb2, job_service_pb2, queue_service_pb2, worker_pb2
from towpath_server.core.records import AuditEvent, LogChunk, Share, Token
from towpath_server.rpc.convert import ids
from towpath_server.rpc.convert.jobs import state_counts
from towpath_server.rpc.convert.times import duration, timestamp
from towpath_server.scheduler.messages import Overview, QueueView, ServerInfo, Stats


def token_to_proto(token: Token) -> auth_service_pb2.Token:
    """A token, without its secret and its hash."""
    return auth_service_pb2.Token(
        token_id=ids.show(ids.TOKEN, token.token_id),
        name=token.name,
        tenant=token.tenant,
        user=token.user,
        role=auth_service_pb2.Role.ValueType(token.role),
        create_time=timestamp(token.create_time),
        expire_time=timestamp(token.expire_time),
        revoke_time=timestamp(token.revoke_time),
        share=worker_pb2.WorkerShare.ValueType(token.share),
        previous_expire_time=timestamp(token.previous_expire_time),
    )


def share_of(given: worker_pb2.WorkerShare.ValueType) -> Share:
    """How much workers share; what is not set shares nothing."""
    return Share(given) if given else Share.USER


def audit_to_proto(event: AuditEvent) -> admin_service_pb2.AuditEvent:
    """Something that was done, or refused."""
    return admin_service_pb2.AuditEvent(
        event_id=event.event_id,
        event_time=timestamp(event.time),
        action=event.action,
        tenant=event.tenant,
        user=event.user,
        token_id=ids.show(ids.TOKEN, event.token_id),
        origin=event.origin,
        subject=event.subject,
        details=event.details,
    )


def queue_to_proto(view: QueueView) -> queue_service_pb2.Queue:
    """A queue."""
    return queue_service_pb2.Queue(
        name=view.queue.name,
        paused=view.queue.paused,
        queued_count=view.queued,
        running_count=view.running,
        scheduled_count=view.scheduled,
        oldest_queued_age=duration(view.oldest_queued_age),
        create_time=timestamp(view.queue.create_time),
    )


def log_to_proto(chunk: LogChunk) -> job_service_pb2.StreamJobLogsResponse:
    """A piece of log."""
    return job_service_pb2.StreamJobLogsResponse(
        attempt=chunk.attempt,
        offset=chunk.offset,
        text=chunk.text,
        stream=job_service_pb2.LogStream.ValueType(chunk.stream),
        log_time=timestamp(chunk.time or None),
    )


def stats_to_proto(stats: Stats) -> job_service_pb2.GetJobStatsResponse:
    """Counts of jobs."""
    return job_service_pb2.GetJobStatsResponse(
        states=state_counts(stats),
        total_count=stats.total,
        active_count=stats.active,
        oldest_queued_age=duration(stats.oldest_queued_age),
    )


def info_to_proto(info: ServerInfo) -> admin_service_pb2.GetServerInfoResponse:
    """Which scheduler this is."""
    return admin_service_pb2.GetServerInfoResponse(
        version=info.version,
        scheduler_id=ids.show(ids.SCHEDULER, info.scheduler_id),
        store=info.store,
        start_time=timestamp(info.start_time),
        max_message_bytes=info.max_message_bytes,
        server_time=timestamp(info.server_time),
    )


def overview_to_proto(overview: Overview) -> admin_service_pb2.GetStatsResponse:
    """What the scheduler holds and does."""
    return admin_service_pb2.GetStatsResponse(
        states=state_counts(overview.stats),
        total_count=overview.stats.total,
        worker_count=overview.workers,
        slot_count=overview.slots,
        free_slot_count=overview.free_slots,
        parked_poll_count=overview.parked_polls,
        uptime=duration(overview.uptime),
    )
