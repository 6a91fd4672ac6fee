"""A scheduler for tests of the worker: real gRPC, scripted answers, everything it heard."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any, cast

import grpc
import grpc.aio
from google.protobuf import duration_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from towpath.v1 import auth_service_pb2, job_pb2, worker_service_pb2
from towpath.v1.worker_service_pb2_grpc import WorkerServiceServicer, add_WorkerServiceServicer_to_server

Report = worker_service_pb2.Report
Directive = worker_service_pb2.Directive
Requests = AsyncIterator[worker_service_pb2.ReportJobsRequest]

WORKER_ID = "wkr_0000000000001"
PATIENCE = 20.0


class FakeScheduler(WorkerServiceServicer):
    """Serves one worker. `address` is set once it listens."""

    def __init__(self, first_number: int = 1) -> None:
        self.address = ""
        self.token: str | None = None
        self.tenant, self.user = "acme", "ann"
        self.heartbeat_interval = 0.1
        self.poll_timeout = 5.0
        self.acks = True
        self.stopping = False
        self.lost_answers = 0
        self.registrations: list[worker_service_pb2.RegisterWorkerRequest] = []
        self.deregistrations = 0
        self.polls: list[worker_service_pb2.LeaseJobsRequest] = []
        self.synced: list[worker_service_pb2.SyncModelsRequest] = []
        self.sync_gate = asyncio.Event()
        self.sync_gate.set()
        self.lost_syncs = 0
        self.streams = 0
        self.sequences: list[list[int]] = []
        self.reports: list[Report] = []
        self.heartbeats: list[worker_service_pb2.Heartbeat] = []
        self._numbers = itertools.count(first_number)
        self._session = ""
        self._acked = 0
        self._offered: list[worker_service_pb2.Lease] = []
        self._answers: dict[str, list[worker_service_pb2.Lease]] = {}
        self._outgoing: set[asyncio.Queue[worker_service_pb2.ReportJobsResponse | None]] = set()
        self._gathering = False
        self._happened = asyncio.Condition()

    # The script.

    async def offer(self, job_type: str, **params: Any) -> worker_service_pb2.Lease:
        """Puts a custom job in the line."""
        number = next(self._numbers)
        job = job_pb2.Job(job_id=f"job_{number:013d}", job_type=job_type, tenant="acme", user="ann")
        job.custom.type = job_type
        job.custom.params.update(params)
        return await self.offer_again(worker_service_pb2.Lease(job=job, lease_token=f"lease-{number}", attempt=1))

    async def offer_job(self, job: job_pb2.Job) -> worker_service_pb2.Lease:
        """Puts a job of any kind in the line."""
        number = next(self._numbers)
        job.job_id, job.tenant, job.user = f"job_{number:013d}", "acme", "ann"
        return await self.offer_again(worker_service_pb2.Lease(job=job, lease_token=f"lease-{number}", attempt=1))

    async def offer_again(self, lease: worker_service_pb2.Lease) -> worker_service_pb2.Lease:
        """Puts a lease in the line."""
        self._offered.append(lease)
        await self._notify()
        return lease

    @asynccontextmanager
    async def at_once(self) -> AsyncIterator[None]:
        """Lets what is offered meanwhile be leased together."""
        self._gathering = True
        try:
            yield
        finally:
            self._gathering = False
            await self._notify()

    async def direct(
        self, kind: worker_service_pb2.DirectiveType.ValueType, lease: Any = None, grace: float = 0
    ) -> None:
        """Sends a directive down every open stream."""
        directive = Directive(type=kind, grace=seconds(grace))
        if lease is not None:
            directive.job_id, directive.lease_token = lease.job.job_id, lease.lease_token
        for queue in self._outgoing:
            queue.put_nowait(worker_service_pb2.ReportJobsResponse(acked_sequence=self._acked, directives=[directive]))

    def ack(self, *directives: Directive) -> None:
        """Acks all that it heard in this session, and says something with it."""
        self._acked = max(self.sequences[-1], default=0)
        for queue in self._outgoing:
            queue.put_nowait(worker_service_pb2.ReportJobsResponse(acked_sequence=self._acked, directives=directives))

    def break_streams(self) -> None:
        """Ends every open stream with UNAVAILABLE."""
        for queue in self._outgoing:
            queue.put_nowait(None)

    async def drain(self) -> None:
        """Takes nothing any more, and says so with a hint of a minute."""
        self.stopping = True
        self.forget()
        await self._notify()

    def forget(self) -> None:
        """Loses its memory of all sessions, as after a restart."""
        self._session = ""
        self.break_streams()

    async def until(self, condition: Callable[[], Any]) -> Any:
        """Waits until something is true, and gives it."""
        async with asyncio.timeout(PATIENCE), self._happened:
            await self._happened.wait_for(condition)
            return condition()

    async def outcome(self, lease: worker_service_pb2.Lease) -> Report:
        """Waits for a job's outcome."""
        found = await self.until(lambda: [one for one in self.of(lease) if is_outcome(one)])
        return cast(Report, found[0])

    async def said(self, lease: worker_service_pb2.Lease, word: str) -> str:
        """Waits until a job's log has a word, and gives the log."""
        await self.until(lambda: word in self.log(lease))
        return self.log(lease)

    # What it heard.

    def of(self, lease: worker_service_pb2.Lease) -> list[Report]:
        """The reports on a lease."""
        wanted = (lease.job.job_id, lease.lease_token)
        return [one for one in self.reports if (one.job_id, one.lease_token) == wanted]

    def log(self, lease: worker_service_pb2.Lease) -> str:
        """A job's log, put together by offsets."""
        text = bytearray()
        for report in self.of(lease):
            if report.HasField("log"):
                assert report.log.offset <= len(text), "a gap in the log"
                text[report.log.offset :] = report.log.text.encode()
        return text.decode()

    # The service.

    async def RegisterWorker(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Begins a session."""
        await self._refuse_when_stopping(context)
        metadata = dict(context.invocation_metadata())
        if self.token is not None and metadata.get("authorization") != f"Bearer {self.token}":
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "no valid token")
        self.registrations.append(request)
        self._session = f"session-{len(self.registrations)}"
        self._acked = 0
        self.sequences.append([])
        await self._notify()
        return worker_service_pb2.RegisterWorkerResponse(
            worker_id=request.worker_id or WORKER_ID,
            session_id=self._session,
            heartbeat_interval=seconds(self.heartbeat_interval),
            lease_ttl=seconds(5),
            poll_timeout=seconds(self.poll_timeout),
        )

    async def who(self, request: Any, context: Any) -> Any:
        """Says whose worker it is."""
        return auth_service_pb2.WhoAmIResponse(token=auth_service_pb2.Token(tenant=self.tenant, user=self.user))

    async def LeaseJobs(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Answers a poll."""
        await self._require(request.session_id, context)
        self.polls.append(request)
        await self._notify()
        if request.poll_id not in self._answers:
            async with self._happened:
                await self._happened.wait_for(
                    lambda: (self._offered and not self._gathering) or request.session_id != self._session
                )
                taken, self._offered = self._offered[: request.max_jobs], self._offered[request.max_jobs :]
            self._answers[request.poll_id] = taken
        await self._require(request.session_id, context)
        if self.lost_answers:
            self.lost_answers -= 1
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the answer was lost")
        return worker_service_pb2.LeaseJobsResponse(leases=self._answers[request.poll_id])

    async def ReportJobs(self, request_iterator: Requests, context: Any) -> AsyncIterator[Any]:  # noqa: N802
        """Takes reports in, and sends acks and directives."""
        await self._refuse_when_stopping(context)
        self.streams += 1
        outgoing: asyncio.Queue[worker_service_pb2.ReportJobsResponse | None] = asyncio.Queue()
        self._outgoing.add(outgoing)
        reading = asyncio.create_task(self._read(request_iterator, outgoing))
        try:
            while (answer := await outgoing.get()) is not None:
                yield answer
        finally:
            reading.cancel()
            self._outgoing.discard(outgoing)
            await self._notify()
        await context.abort(grpc.StatusCode.UNAVAILABLE, "the stream broke")

    async def SyncModels(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Takes the models in."""
        self.synced.append(request)
        await self._notify()
        await self.sync_gate.wait()
        if self.lost_syncs:
            self.lost_syncs -= 1
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the models were not stored")
        return worker_service_pb2.SyncModelsResponse()

    async def DeregisterWorker(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Ends a session."""
        self.deregistrations += 1
        await self._notify()
        return worker_service_pb2.DeregisterWorkerResponse()

    async def _read(self, requests: Requests, outgoing: asyncio.Queue[Any]) -> None:
        async for request in requests:
            if request.session_id != self._session:
                reregister = Directive(type=worker_service_pb2.DIRECTIVE_TYPE_REREGISTER)
                outgoing.put_nowait(worker_service_pb2.ReportJobsResponse(directives=[reregister]))
                return
            for report in request.reports:
                if report.HasField("heartbeat"):
                    self.heartbeats.append(report.heartbeat)
                    continue
                self.sequences[-1].append(report.sequence)
                if report.sequence == self._acked + 1 or not self.acks:
                    self.reports.append(report)
                if self.acks:
                    self._acked = max(self._acked, report.sequence)
            if self.acks:
                outgoing.put_nowait(worker_service_pb2.ReportJobsResponse(acked_sequence=self._acked))
            await self._notify()

    async def _require(self, session_id: str, context: Any) -> None:
        await self._refuse_when_stopping(context)
        if session_id != self._session:
            await refuse(context, grpc.StatusCode.FAILED_PRECONDITION, "Register again.", info("SESSION_UNKNOWN"))

    async def _refuse_when_stopping(self, context: Any) -> None:
        if self.stopping:
            hint = error_details_pb2.RetryInfo(retry_delay=seconds(60))
            await refuse(context, grpc.StatusCode.UNAVAILABLE, "It stops.", info("DRAINING"), hint)

    async def _notify(self) -> None:
        async with self._happened:
            self._happened.notify_all()


def info(reason: str) -> error_details_pb2.ErrorInfo:
    """The detail that names the reason."""
    return error_details_pb2.ErrorInfo(reason=reason, domain="towpath")


async def refuse(context: Any, code: grpc.StatusCode, message: str, *details: Message) -> None:
    """Ends a call with a status that has these details."""
    status = status_pb2.Status(code=code.value[0], message=message)
    for detail in details:
        status.details.add().Pack(detail)
    await context.abort(code, message, (("grpc-status-details-bin", status.SerializeToString()),))


def is_outcome(report: Report) -> bool:
    """Whether the report ends an attempt."""
    return report.WhichOneof("event") in ("succeeded", "failed", "released")


@asynccontextmanager
async def listening(scheduler: FakeScheduler, port: int = 0) -> AsyncIterator[FakeScheduler]:
    """Serves it on loopback."""
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    add_WorkerServiceServicer_to_server(scheduler, server)
    who = grpc.unary_unary_rpc_method_handler(
        scheduler.who, auth_service_pb2.WhoAmIRequest.FromString, auth_service_pb2.WhoAmIResponse.SerializeToString
    )
    auth = grpc.method_handlers_generic_handler("towpath.v1.AuthService", {"WhoAmI": who})
    server.add_generic_rpc_handlers([auth])
    scheduler.address = f"127.0.0.1:{server.add_insecure_port(f'127.0.0.1:{port}')}"
    await server.start()
    try:
        yield scheduler
    finally:
        scheduler.break_streams()
        await server.stop(None)


def seconds(count: float) -> duration_pb2.Duration:
    """A duration."""
    duration = duration_pb2.Duration()
    duration.FromNanoseconds(int(count * 1e9))
    return duration


def contiguous(numbers: list[int]) -> Iterator[bool]:
    """Whether each number is the one before plus one."""
    return (after == before + 1 for before, after in itertools.pairwise(numbers))
