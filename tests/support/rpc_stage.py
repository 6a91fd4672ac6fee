"""A real server over real sockets, with a scheduler on a store in memory, and a token of each role."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import grpc
import grpc.aio
from google.rpc import error_details_pb2, status_pb2

from towpath.v1 import (
    admin_service_pb2_grpc,
    auth_service_pb2_grpc,
    fleet_service_pb2_grpc,
    job_pb2,
    job_service_pb2,
    job_service_pb2_grpc,
    model_service_pb2_grpc,
    queue_service_pb2_grpc,
    worker_pb2,
    worker_service_pb2,
    worker_service_pb2_grpc,
)
from towpath_server.core.records import Role
from towpath_server.rpc.server import RpcServer, make_server
from towpath_server.scheduler import Clock, Intervals, Scheduler
from towpath_server.store.base import Store
from towpath_server.store.memory import MemoryStore

Metadata = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Stage:
    """The server, and one channel to it. Every stub takes the metadata of a role."""

    scheduler: Scheduler
    server: RpcServer
    channel: grpc.aio.Channel
    tokens: dict[Role, str]
    jobs: job_service_pb2_grpc.JobServiceAsyncStub = field(init=False)
    workers: worker_service_pb2_grpc.WorkerServiceAsyncStub = field(init=False)
    fleet: fleet_service_pb2_grpc.FleetServiceAsyncStub = field(init=False)
    queues: queue_service_pb2_grpc.QueueServiceAsyncStub = field(init=False)
    auth: auth_service_pb2_grpc.AuthServiceAsyncStub = field(init=False)
    models: model_service_pb2_grpc.ModelServiceAsyncStub = field(init=False)
    admin: admin_service_pb2_grpc.AdminServiceAsyncStub = field(init=False)

    def __post_init__(self) -> None:
        channel = self.channel
        for name, stub in (
            ("jobs", job_service_pb2_grpc.JobServiceStub(channel)),
            ("workers", worker_service_pb2_grpc.WorkerServiceStub(channel)),
            ("fleet", fleet_service_pb2_grpc.FleetServiceStub(channel)),
            ("queues", queue_service_pb2_grpc.QueueServiceStub(channel)),
            ("auth", auth_service_pb2_grpc.AuthServiceStub(channel)),
            ("models", model_service_pb2_grpc.ModelServiceStub(channel)),
            ("admin", admin_service_pb2_grpc.AdminServiceStub(channel)),
        ):
            object.__setattr__(self, name, stub)

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"127.0.0.1:{self.server.port}"

    async def tick(self) -> None:
        """Do what is due by the test's own clock."""
        await self.scheduler.timers.run_due()
        await self.scheduler.retention.run_due()
        await self.scheduler.workers.end_silent_sessions()

    def bearer(self, role: Role = Role.ADMIN) -> Metadata:
        """The metadata of a caller with this role."""
        return (("authorization", f"Bearer {self.tokens[role]}"),)

    async def create(self, job_type: str = "echo", **fields: object) -> job_pb2.Job:
        """A new custom job."""
        job = job_pb2.Job(custom=job_pb2.CustomSpec(type=job_type), **fields)  # type: ignore[arg-type]
        made = await self.jobs.CreateJob(job_service_pb2.CreateJobRequest(job=job), metadata=self.bearer())
        return made.job

    async def register(self, *job_types: str, slots: int = 1) -> worker_service_pb2.RegisterWorkerResponse:
        """A session of a new worker of the admin."""
        request = worker_service_pb2.RegisterWorkerRequest(
            name="barge", slots=slots, job_types=job_types or ("echo",), machine=worker_pb2.Machine(cpu_count=4)
        )
        return await self.workers.RegisterWorker(request, metadata=self.bearer())

    async def lease(
        self, session: worker_service_pb2.RegisterWorkerResponse, poll_id: str = "1", max_jobs: int = 10
    ) -> list[worker_service_pb2.Lease]:
        """What a poll of this session gets."""
        request = worker_service_pb2.LeaseJobsRequest(
            worker_id=session.worker_id, session_id=session.session_id, poll_id=poll_id, max_jobs=max_jobs
        )
        return list((await self.workers.LeaseJobs(request, metadata=self.bearer())).leases)


@asynccontextmanager
async def stage(
    store: Store | None = None,
    *,
    clock: Clock | None = None,
    intervals: Intervals = Intervals(),  # noqa: B008 - frozen
) -> AsyncIterator[Stage]:
    """A stage, cleared away at the end. With a clock of the test's own, its timers run only when the test says so."""
    scheduler = Scheduler(store or MemoryStore(), clock=clock, intervals=intervals)
    await scheduler.start(first_token=False)
    if clock is not None:
        await scheduler.timers.stop()
    tokens = {}
    for role in Role:
        _, tokens[role] = await scheduler.access.issue("default", "admin", role.name.lower(), role)
    server = make_server(scheduler)
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            yield Stage(scheduler, server, channel, tokens)
    finally:
        await scheduler.stop()
        await server.stop(0)


def raw_unary(channel: grpc.aio.Channel, method: str) -> grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]:
    """A method that takes and gives bytes as they are."""
    return channel.unary_unary(method)


def raw_answers(channel: grpc.aio.Channel, method: str) -> grpc.aio.UnaryStreamMultiCallable[bytes, bytes]:
    """The same, for a stream of answers."""
    return channel.unary_stream(method)


def raw_stream(channel: grpc.aio.Channel, method: str) -> grpc.aio.StreamStreamMultiCallable[bytes, bytes]:
    """The same, for streams both ways."""
    return channel.stream_stream(method)


def status_of(error: grpc.aio.AioRpcError) -> status_pb2.Status:
    """The google.rpc.Status that an error carries."""
    for key, value in error.trailing_metadata():
        if key == "grpc-status-details-bin":
            return status_pb2.Status.FromString(value if isinstance(value, bytes) else value.encode())
    raise AssertionError(f"no details with {error.code()}")


def reason_of(error: grpc.aio.AioRpcError) -> str:
    """The reason in its ErrorInfo."""
    return str(info_of(status_of(error)).reason)


def info_of(status: status_pb2.Status) -> error_details_pb2.ErrorInfo:
    """Its ErrorInfo."""
    info = error_details_pb2.ErrorInfo()
    assert any(detail.Unpack(info) for detail in status.details)
    return info


def violations_of(status: status_pb2.Status) -> dict[str, str]:
    """Its violations by field."""
    bad = error_details_pb2.BadRequest()
    for detail in status.details:
        detail.Unpack(bad)
    return {one.field: one.description for one in bad.field_violations}
