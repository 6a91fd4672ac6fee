"""The gRPC server: every service, behind the boundary, with the options that were measured."""

from __future__ import annotations

import asyncio
import ipaddress
from dataclasses import dataclass

import grpc
import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

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
from towpath_server.rpc.jobs import JobServicer
from towpath_server.rpc.models import ModelServicer
from towpath_server.rpc.queues import QueueServicer
from towpath_server.rpc.reflecting import reflecting
from towpath_server.rpc.workers import WorkerServicer
from towpath_server.scheduler import Scheduler

MAX_MESSAGE_BYTES = 4 * 1024 * 1024

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
        ("grpc.server.max_pending_requests", 20_000),
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
        # A job that was just taken in must fit on its way out, with its state.
        ("grpc.max_send_message_length", 2 * max_message_bytes),
    ]


@dataclass(frozen=True, slots=True)
class RpcServer:
    """A server that listens on `port`."""

    server: grpc.aio.Server
    port: int
    _health: health.aio.HealthServicer
    _calls: Calls

    async def start(self) -> None:
        """Begin to serve."""
        for name in SERVICES:
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)
        await self.server.start()

    def serving(self, task: asyncio.Task[object] | None) -> str | None:
        """Which method this task serves, if any."""
        return self._calls.served_by(task)

    async def drain(self) -> None:
        """Tell those who ask for its health that it stops; calls go on."""
        await self._health.enter_graceful_shutdown()

    async def stop(self, grace: float) -> None:
        """Take no new calls; end those under way after `grace` seconds, those that wait for their client at once."""
        await self.drain()
        await self._linger(min(grace, LINGER))
        stopping = asyncio.ensure_future(self.server.stop(grace))
        while not stopping.done():
            await asyncio.wait([stopping], timeout=0.05)
            self._calls.end_idle()
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
    tls: tuple[bytes, bytes] | None = None,
    max_message_bytes: int = MAX_MESSAGE_BYTES,
) -> RpcServer:
    """A server for this scheduler, bound but not started; port 0 takes a free one.

    `tls` is the private key and the certificate chain, in PEM. Raises OSError where the port is taken.
    """
    calls = Calls()
    scheduler.access.on_revoked(calls.cut)
    server = grpc.aio.server(
        interceptors=[Boundary(scheduler.access, calls, scheduler.catch_up)], options=server_options(max_message_bytes)
    )
    job_service_pb2_grpc.add_JobServiceServicer_to_server(JobServicer(scheduler.jobs), server)
    worker_service_pb2_grpc.add_WorkerServiceServicer_to_server(WorkerServicer(scheduler.workers), server)
    fleet_service_pb2_grpc.add_FleetServiceServicer_to_server(FleetServicer(scheduler.fleet), server)
    queue_service_pb2_grpc.add_QueueServiceServicer_to_server(QueueServicer(scheduler.queues), server)
    auth_service_pb2_grpc.add_AuthServiceServicer_to_server(AuthServicer(scheduler.access, calls), server)
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(ModelServicer(scheduler.catalogue), server)
    admin_service_pb2_grpc.add_AdminServiceServicer_to_server(AdminServicer(scheduler.admin), server)
    served = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(served, server)
    server.add_generic_rpc_handlers((reflecting([*SERVICES, HEALTH]),))
    return RpcServer(server, _bind(server, f"{_bracketed(host)}:{port}", tls), served, calls)


def needs_tls(host: str) -> bool:
    """Whether others than this machine can reach a server that listens on this host."""
    name = host.strip("[]").lower()
    if name == "localhost":
        return False
    try:
        return not ipaddress.ip_address(name).is_loopback
    except ValueError:
        return True


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


def _bind(server: grpc.aio.Server, address: str, tls: tuple[bytes, bytes] | None) -> int:
    try:
        if tls is None:
            return server.add_insecure_port(address)
        return server.add_secure_port(address, grpc.ssl_server_credentials([tls]))
    except RuntimeError as error:
        why = "is taken, or is no address of this machine"
        if tls is not None:
            why += ", or the certificate and its key are no pair in PEM"
        raise OSError(f"{address} {why}") from error
