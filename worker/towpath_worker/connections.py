"""A worker's two connections to its scheduler, and what came of its registration there."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import grpc.aio
from google.protobuf import duration_pb2

from towpath.v1 import auth_service_pb2, worker_service_pb2
from towpath.v1.auth_service_pb2_grpc import AuthServiceStub
from towpath.v1.worker_service_pb2_grpc import WorkerServiceStub
from towpath_worker.admission import Identity

if TYPE_CHECKING:
    from towpath.v1.worker_service_pb2_grpc import WorkerServiceAsyncStub

# Seconds after a registration within which "register again" means that nobody has heard of it.
STRANGE = 5.0
WHO_TIMEOUT = 5.0


@dataclass(frozen=True, slots=True)
class Registration:
    """What the scheduler dictated; times in seconds."""

    worker_id: str
    session_id: str
    heartbeat_interval: float
    lease_ttl: float
    poll_timeout: float

    @staticmethod
    def of(answer: worker_service_pb2.RegisterWorkerResponse) -> Registration:
        """What it answered, with something for each time that it left out."""
        return Registration(
            worker_id=answer.worker_id,
            session_id=answer.session_id,
            heartbeat_interval=_seconds(answer.heartbeat_interval, 5.0),
            lease_ttl=_seconds(answer.lease_ttl, 30.0),
            poll_timeout=_seconds(answer.poll_timeout, 30.0),
        )


class Cancellable(Protocol):
    """A call under way."""

    def cancel(self) -> object: ...


class Connections:
    """One for calls and one for reports: a heartbeat must not wait behind a large answer to a poll.

    A load balancer, or a name with many addresses, may lead the two to different replicas, of which one knows nothing
    of the session. Then one connection carries both.
    """

    def __init__(self, connect: Callable[[], grpc.aio.Channel], *, has_others: bool) -> None:
        self._channels = (connect(), connect())
        self._calls, self._reports = map(WorkerServiceStub, self._channels)
        self._has_others = has_others
        self._parked: asyncio.Future[worker_service_pb2.LeaseJobsResponse] | None = None
        self._reporting: Cancellable | None = None
        self._apart = True
        self._met: Registration | None = None
        self._began: float | None = None

    @property
    def calls(self) -> WorkerServiceAsyncStub:
        """For registration, polls and models."""
        return self._calls

    @property
    def reports(self) -> WorkerServiceAsyncStub:
        """For the stream of reports."""
        return self._reports if self._apart else self._calls

    async def identity(self) -> Identity | None:
        """Whose token this worker has; None where the scheduler does not say."""
        try:
            auth = AuthServiceStub(self._channels[0])
            token = (await auth.WhoAmI(auth_service_pb2.WhoAmIRequest(), timeout=WHO_TIMEOUT)).token
        except grpc.aio.AioRpcError:
            return None
        return Identity(token.tenant, token.user)

    def begin_reports(self, registration: Registration, call: Cancellable) -> None:
        """A stream of reports begins."""
        self._reporting = call
        # Later ones may be told to register again because the scheduler was started anew.
        self._began = None if registration is self._met else time.monotonic()
        self._met = registration

    def is_stranger(self, answer: worker_service_pb2.ReportJobsResponse) -> bool:
        """Whether this answer comes from a scheduler that knows nothing of what the calls have just registered.

        From now on both go one way then. Where they did already, that was not why.
        """
        began, self._began = self._began, None
        if began is None or time.monotonic() - began > STRANGE:
            return False
        if not any(one.type == worker_service_pb2.DIRECTIVE_TYPE_REREGISTER for one in answer.directives):
            return False
        self._apart = not self._apart
        return not self._apart

    async def poll(
        self, request: worker_service_pb2.LeaseJobsRequest, limit: float
    ) -> worker_service_pb2.LeaseJobsResponse:
        """What a poll gets; nothing where it is recalled."""
        answer = self._calls.LeaseJobs(request, timeout=limit)
        if not self._has_others:
            return await answer
        self._parked = asyncio.ensure_future(answer)
        try:
            return await self._parked
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            return worker_service_pb2.LeaseJobsResponse()
        finally:
            self._parked = None

    def recall(self) -> None:
        """There is a new registration: what belongs to the one before may wait at a replica that was left."""
        for one in (self._parked, self._reporting) if self._has_others else ():
            if one is not None:
                one.cancel()

    async def close(self) -> None:
        """Closes both."""
        for channel in reversed(self._channels):
            await channel.close()


def _seconds(duration: duration_pb2.Duration, default: float) -> float:
    return duration.ToTimedelta().total_seconds() or default
