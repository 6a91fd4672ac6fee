"""The gRPC server: every service, behind the boundary, with the options that were measured."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2_grpc

from towpath.v1 import (
    admin_service_pb2_grpc,
    auth_service_pb2_grpc,
    fleet_service_pb2_grpc,
    job_service_pb2_grpc,
    model_service_pb2_grpc,
    queue_service_pb2_grpc,
    worker_service_pb2_grpc,
)
from towpath_server.rpc.admin import AdminServicer
from towpath_server.rpc.auth_service import AuthServicer
from towpath_server.rpc.boundary import Boundary
from towpath_server.rpc.calls import Calls
from towpath_server.rpc.fleet import FleetServicer
from towpath_server.rpc.health import Health
from towpath_server.rpc.jobs import JobServicer
from towpath_server.rpc.models import ModelServicer
from towpath_server.rpc.queues import QueueServicer
from towpath_server.rpc.reflecting import reflecting
from towpath_server.rpc.workers import WorkerServicer
from towpath_server.scheduler import Scheduler

MAX_MESSAGE_BYTES = 4 * 1024 * 1024
MAX_METADATA_BYTES = 8 * 1024
# At once: of a connection, and of the server before somebody takes them up.
MAX_STREAMS = 20_000

SERVICES = (
    "towpath.v1.JobService",
    "towpath.v1.WorkerService",
    "towpath.v1.FleetService",
    "towpath.v1.QueueService",
    "towpath.v1.AuthService",
    "towpath.v1.ModelService",
    "towpath.v1.AdminService",
)
HEALTH = "grpc.health.v1.Health"
# How long to refuse calls in words before the server's end, and when none come any more (seconds, looks).
LINGER, LOOK, QUIET = 1.0, 0.02, 5


def server_options(max_message_bytes: int = MAX_MESSAGE_BYTES) -> list[tuple[str, int]]:
    """Options of the server, each for a fault that was seen (grpcio 1.85)."""
    return [
        # Two schedulers would share one port.
        ("grpc.so_reuseport", 0),
        # With the defaults half of 10,000 polls that come at once end as CANCELLED.
        ("grpc.server.max_pending_requests", MAX_STREAMS),
        ("grpc.server.max_pending_requests_hard_limit", 30_000),
        ("grpc.server_handshake_timeout_ms", 3_000),
        # A paused peer is noticed within 30 s; without the ping timeout it takes 60 s.
        ("grpc.keepalive_time_ms", 20_000),
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.http2.ping_timeout_ms", 10_000),
        ("grpc.http2.max_pings_without_data", 0),
        # Clients ping every 20 s, also while nothing else is sent.
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
        # Also the limit after decompression.
        ("grpc.max_receive_message_length", max_message_bytes),
        # A token and little else; between the two limits grpc would refuse by chance.
        ("grpc.max_metadata_size", MAX_METADATA_BYTES),
        ("grpc.absolute_max_metadata_size", MAX_METADATA_BYTES),
        # As many as may wait: 10,000 polls share a channel.
        ("grpc.max_concurrent_streams", MAX_STREAMS),
        # A job that was just taken in must fit on its way out, with its state.
        ("grpc.max_send_message_length", 2 * max_message_bytes),
    ]


@dataclass(frozen=True, slots=True)
class RpcServer:
    """A server that listens on `port`."""

    server: grpc.aio.Server
    port: int
    _health: Health
    _calls: Calls

    async def start(self) -> None:
        """Begin to serve."""
        self._health.begin()
        self._calls.start()
        await self.server.start()

    def serving(self, task: asyncio.Task[object] | None) -> str | None:
        """Which method this task serves, if any."""
        return self._calls.served_by(task)

    async def drain(self) -> None:
        """Tell those who ask for its health that it stops; calls go on."""
        self._health.end()

    async def stop(self, grace: float) -> None:
        """Take no new calls; end those under way after `grace` seconds, those that wait for their client at once."""
        await self.drain()
        await self._linger(min(grace, LINGER))
        stopping = asyncio.ensure_future(self.server.stop(grace))
        while not stopping.done():
            await asyncio.wait([stopping], timeout=0.05)
            self._calls.end_idle()
        self._calls.stop()
        await stopping

    async def _linger(self, longest: float) -> None:
        # Calls that have arrived and that nobody serves yet would be CANCELLED, which no client tries again: the
        # scheduler refuses them in words first.
        loop = asyncio.get_running_loop()
        end, quiet = loop.time() + longest, 0
        while quiet < QUIET and loop.time() < end:
            await asyncio.sleep(LOOK)
            quiet = 0 if self._calls.busy else quiet + 1


def make_server(
    scheduler: Scheduler,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    tls: grpc.ServerCredentials | tuple[bytes, bytes] | None = None,
    max_message_bytes: int = MAX_MESSAGE_BYTES,
) -> RpcServer:
    """A server for this scheduler, bound but not started; port 0 takes a free one.

    `tls` is what grpc calls credentials, or the private key and the certificate chain in PEM. Raises OSError where the
    port is taken.
    """
    calls = Calls(scheduler.access)
    server = grpc.aio.server(
        interceptors=[Boundary(scheduler.access, calls, scheduler.catch_up, scheduler.meter, scheduler.refusals)],
        options=server_options(max_message_bytes),
    )
    job_service_pb2_grpc.add_JobServiceServicer_to_server(JobServicer(scheduler.jobs), server)
    worker_service_pb2_grpc.add_WorkerServiceServicer_to_server(WorkerServicer(scheduler.workers), server)
    fleet_service_pb2_grpc.add_FleetServiceServicer_to_server(FleetServicer(scheduler.fleet), server)
    queue_service_pb2_grpc.add_QueueServiceServicer_to_server(QueueServicer(scheduler.queues), server)
    auth_service_pb2_grpc.add_AuthServiceServicer_to_server(AuthServicer(scheduler.access, scheduler.enrolment), server)
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(ModelServicer(scheduler.catalogue), server)
    admin_service_pb2_grpc.add_AdminServiceServicer_to_server(AdminServicer(scheduler.admin, scheduler.quotas), server)
    served = Health(SERVICES)
    health_pb2_grpc.add_HealthServicer_to_server(served, server)
    server.add_generic_rpc_handlers((reflecting([*SERVICES, HEALTH]),))
    return RpcServer(server, _bind(server, f"{_bracketed(host)}:{port}", tls), served, calls)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


def _bind(server: grpc.aio.Server, address: str, tls: grpc.ServerCredentials | tuple[bytes, bytes] | None) -> int:
    try:
        if tls is None:
            return server.add_insecure_port(address)
        credentials = grpc.ssl_server_credentials([tls]) if isinstance(tls, tuple) else tls
        return server.add_secure_port(address, credentials)
    except RuntimeError as error:
        why = "is taken, or is no address of this machine"
        if isinstance(tls, tuple):
            why += ", or the certificate and its key are no pair in PEM"
        raise OSError(f"{address} {why}") from error
