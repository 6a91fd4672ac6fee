"""A worker that is nothing but the protocol: it registers, polls, reports and sends heartbeats when a test says so."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any

import grpc
import grpc.aio

from towpath.v1 import job_pb2, worker_pb2, worker_service_pb2
from towpath.v1.worker_service_pb2 import Lease, Report
from towpath.v1.worker_service_pb2_grpc import WorkerServiceStub

Metadata = tuple[tuple[str, str], ...]
STARTED = worker_service_pb2.Started()


class BareWorker:
    """One worker over one channel. `session` is its present registration."""

    def __init__(
        self, channel: grpc.aio.Channel, metadata: Metadata, *job_types: str, slots: int = 1, name: str = "bare"
    ) -> None:
        self._stub: Any = WorkerServiceStub(channel)
        self._metadata = metadata
        self._job_types = job_types or ("echo",)
        self._slots = slots
        self._name = name
        self._polls = itertools.count(1)
        self.session = worker_service_pb2.RegisterWorkerResponse()

    async def register(self, held: Iterable[Lease] = ()) -> worker_service_pb2.RegisterWorkerResponse:
        """Begin a session, the first or the next, and name the leases that it goes on with."""
        request = worker_service_pb2.RegisterWorkerRequest(
            worker_id=self.session.worker_id,
            name=self._name,
            slots=self._slots,
            job_types=self._job_types,
            machine=worker_pb2.Machine(cpu_count=2, memory_mb=4096),
            held_leases=map(named, held),
        )
        self.session = await self._stub.RegisterWorker(request, metadata=self._metadata)
        return self.session

    def poll(
        self, max_jobs: int | None = None, *, poll_id: str = "", wait: float | None = None
    ) -> grpc.aio.UnaryUnaryCall[worker_service_pb2.LeaseJobsRequest, worker_service_pb2.LeaseJobsResponse]:
        """A poll under way; awaited, it gives the answer. `wait` in seconds."""
        request = worker_service_pb2.LeaseJobsRequest(
            worker_id=self.session.worker_id,
            session_id=self.session.session_id,
            poll_id=poll_id or f"poll-{next(self._polls)}",
            max_jobs=max_jobs or self._slots,
        )
        if wait is not None:
            request.wait_timeout.FromMilliseconds(int(wait * 1000))
        call: grpc.aio.UnaryUnaryCall[worker_service_pb2.LeaseJobsRequest, worker_service_pb2.LeaseJobsResponse]
        call = self._stub.LeaseJobs(request, metadata=self._metadata)
        return call

    async def lease(self, max_jobs: int | None = None, *, wait: float | None = None) -> list[Lease]:
        """The jobs that a poll gets."""
        return list((await self.poll(max_jobs, wait=wait)).leases)

    def stream(self) -> Reports:
        """A report stream, opened now."""
        return Reports(self._stub.ReportJobs(metadata=self._metadata), self.session)

    async def leave(self) -> None:
        """End the session."""
        request = worker_service_pb2.DeregisterWorkerRequest(
            worker_id=self.session.worker_id, session_id=self.session.session_id
        )
        await self._stub.DeregisterWorker(request, metadata=self._metadata)


class Reports:
    """A report stream as a worker holds it: what was ordered on it is kept in `orders`."""

    def __init__(self, call: Any, session: worker_service_pb2.RegisterWorkerResponse) -> None:
        self.call = call
        self.orders: list[worker_service_pb2.Directive] = []
        self._session = session
        self._sequence = 0

    async def say(self, lease: Lease, **event: Any) -> int:
        """Send one report on a lease; its sequence."""
        self._sequence += 1
        await self._write(about(lease, self._sequence, **event))
        return self._sequence

    async def tell(self, lease: Lease, **event: Any) -> None:
        """Send one report, and wait until it is acked: on disk."""
        await self.acked(await self.say(lease, **event))

    async def beat(self, held: Iterable[Lease] = ()) -> None:
        """Send a heartbeat that names these leases."""
        beat = worker_service_pb2.Heartbeat(held_leases=map(named, held))
        await self._write(worker_service_pb2.Report(heartbeat=beat))

    async def hear(self) -> worker_service_pb2.ReportJobsResponse:
        """What the scheduler says next."""
        answer = await self.call.read()
        assert isinstance(answer, worker_service_pb2.ReportJobsResponse), await self.call.code()
        self.orders += answer.directives
        return answer

    async def acked(self, sequence: int) -> None:
        """Wait until all is on disk up to there."""
        while (await self.hear()).acked_sequence < sequence:
            pass

    async def ordered(self, kind: worker_service_pb2.DirectiveType.ValueType) -> worker_service_pb2.Directive:
        """Wait for an order of this kind, and take it."""
        while True:
            for order in self.orders:
                if order.type == kind:
                    self.orders.remove(order)
                    return order
            await self.hear()

    async def end(self) -> grpc.StatusCode:
        """Close the stream in order; how it ended."""
        await self.call.done_writing()
        while (answer := await self.call.read()) is not grpc.aio.EOF:
            self.orders += answer.directives
        code: grpc.StatusCode = await self.call.code()
        return code

    def break_off(self) -> None:
        """End it as a lost connection does."""
        self.call.cancel()

    async def _write(self, report: Report) -> None:
        await self.call.write(
            worker_service_pb2.ReportJobsRequest(
                worker_id=self._session.worker_id, session_id=self._session.session_id, reports=[report]
            )
        )


def named(lease: Lease) -> worker_service_pb2.HeldLease:
    """A lease as registrations and heartbeats name it."""
    return worker_service_pb2.HeldLease(job_id=lease.job.job_id, lease_token=lease.lease_token)


def about(lease: Lease, sequence: int, **event: Any) -> Report:
    """A report on a lease."""
    return Report(sequence=sequence, job_id=lease.job.job_id, lease_token=lease.lease_token, **event)


def result(value: str) -> worker_service_pb2.Succeeded:
    """The outcome of a job that gave this value."""
    succeeded = worker_service_pb2.Succeeded(result=job_pb2.JobResult())
    succeeded.result.custom.value.string_value = value
    return succeeded
