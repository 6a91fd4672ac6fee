"""One channel to the scheduler: its stubs, and calls that are tried again while that makes sense."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import grpc
import grpc.aio
from google.protobuf.duration_pb2 import Duration

from towpath import retrying, settings, statuses
from towpath._async.failover import AsyncDial
from towpath.bearer import Secret
from towpath.errors import InvalidArgument, TowpathError
from towpath.retrying import Backoff, Deadline
from towpath.tls import TlsFiles
from towpath.v1.admin_service_pb2_grpc import AdminServiceStub
from towpath.v1.auth_service_pb2 import WhoAmIRequest
from towpath.v1.auth_service_pb2_grpc import AuthServiceStub
from towpath.v1.fleet_service_pb2_grpc import FleetServiceStub
from towpath.v1.job_pb2 import Job
from towpath.v1.job_service_pb2 import WaitJobsRequest
from towpath.v1.job_service_pb2_grpc import JobServiceStub
from towpath.v1.model_service_pb2_grpc import ModelServiceStub
from towpath.v1.queue_service_pb2_grpc import QueueServiceStub
from towpath.waiting import AsyncWaits

if TYPE_CHECKING:
    from towpath.v1.admin_service_pb2_grpc import AdminServiceAsyncStub
    from towpath.v1.auth_service_pb2_grpc import AuthServiceAsyncStub
    from towpath.v1.fleet_service_pb2_grpc import FleetServiceAsyncStub
    from towpath.v1.job_service_pb2_grpc import JobServiceAsyncStub
    from towpath.v1.model_service_pb2_grpc import ModelServiceAsyncStub
    from towpath.v1.queue_service_pb2_grpc import QueueServiceAsyncStub

# A connection that died silently is noticed then.
LONGEST_POLL = 30

Request = TypeVar("Request")
Response = TypeVar("Response")


@dataclass(frozen=True, slots=True)
class AsyncStubs:
    """The services."""

    jobs: JobServiceAsyncStub
    queues: QueueServiceAsyncStub
    fleet: FleetServiceAsyncStub
    auth: AuthServiceAsyncStub
    models: ModelServiceAsyncStub
    admin: AdminServiceAsyncStub


class AsyncConnection:
    """Opens its channel at the first call, so that it may be made outside of the event loop that uses it."""

    def __init__(
        self,
        address: str | None,
        token: str | None,
        *,
        insecure: bool,
        tls_ca: str | Path | None,
        timeout: float,
        tls_cert: str | Path | None = None,
        tls_key: str | Path | None = None,
    ) -> None:
        if timeout <= 0:
            raise InvalidArgument("timeout must be more than 0 seconds.")
        self.address = settings.address(address)
        #: As errors name it.
        self.place = settings.spoken(self.address)
        self.timeout = timeout
        found = settings.token(token)
        self._token = None if found is None else Secret(found)
        self._insecure = insecure
        self._tls = tls = TlsFiles.of(tls_ca, tls_cert, tls_key, insecure=insecure)
        self._dial = AsyncDial(
            self.address, self._token, insecure=insecure, tls_ca=tls.ca, tls_cert=tls.cert, tls_key=tls.key
        )
        self._lock = threading.Lock()
        self._channel: grpc.aio.Channel | None = None
        self._stubs: AsyncStubs | None = None
        self._closed = False
        # Whether a scheduler has ever answered there.
        self.answered = False
        self.waits = AsyncWaits(self._ask_any)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.address!r})"

    @property
    def stubs(self) -> AsyncStubs:
        """The services, on a channel that is opened now if it was not."""
        with self._lock:
            if self._stubs is None:
                self._stubs = self._open()
            return self._stubs

    def _open(self) -> AsyncStubs:
        if self._closed:
            raise InvalidArgument("This client is closed. Make a new one.")
        opened = self._channel = self._dial.open()
        return AsyncStubs(
            jobs=JobServiceStub(opened),
            queues=QueueServiceStub(opened),
            fleet=FleetServiceStub(opened),
            auth=AuthServiceStub(opened),
            models=ModelServiceStub(opened),
            admin=AdminServiceStub(opened),
        )

    def sibling(self) -> AsyncConnection:
        """Another connection to the same scheduler, with a channel of its own."""
        return AsyncConnection(
            self.address,
            None if self._token is None else self._token.token,
            insecure=self._insecure,
            tls_ca=self._tls.ca,
            tls_cert=self._tls.cert,
            tls_key=self._tls.key,
            timeout=self.timeout,
        )

    def use_token(self, token: str) -> None:
        """From the next call on this one is sent."""
        if self._token is not None:
            self._token.token = token

    async def close(self) -> None:
        """Ends all calls and closes the channel."""
        with self._lock:
            closing, self._channel, self._stubs, self._closed = self._channel, None, None, True
        if closing is not None:
            await closing.close()

    async def call(
        self,
        method: grpc.aio.UnaryUnaryMultiCallable[Request, Response],
        request: Request,
        *,
        timeout: float | None = None,
        patience: Deadline | None = None,
        retry: bool = True,
    ) -> Response:
        """The answer. `timeout` bounds each try; `patience` (by default the same) all of them.

        What it raises is `repeated` where an earlier try may have been carried out.
        """
        limit = self.timeout if timeout is None else timeout
        deadline = patience or Deadline(limit)
        backoff = self.backoff(deadline)
        lost = False
        while True:
            try:
                response: Response = await method(request, timeout=limit if patience else deadline.remaining())
            except grpc.RpcError as error:
                failure = self.translate(error)
                failure.repeated = lost
                if not retry:
                    raise failure from None
                await self.pause(failure, backoff)
                lost = lost or failure.reason == statuses.UNREACHABLE
            else:
                self.answered = True
                return response

    async def _ask_any(self, job_ids: list[str]) -> Sequence[Job]:
        request = WaitJobsRequest(job_ids=job_ids, wait_timeout=Duration(seconds=LONGEST_POLL))
        method = self.stubs.jobs.WaitJobs
        # Who waits has patience of its own.
        return (await self.call(method, request, timeout=LONGEST_POLL + self.timeout, retry=False)).jobs

    def backoff(self, deadline: Deadline) -> Backoff:
        """The delays for one call; short where nobody has ever answered."""
        return Backoff(deadline if self.answered else Deadline(deadline.remaining(retrying.FIRST_CONTACT)))

    def heard(self, deadline: Deadline) -> Backoff:
        """Notes that the scheduler answered on a stream: the delays begin anew."""
        self.answered = True
        return Backoff(deadline)

    async def pause(self, failure: TowpathError, backoff: Backoff) -> None:
        """Waits before the next try, or raises the failure."""
        delay = backoff.next_delay(failure)
        if delay is None and self._is_untried(failure):
            # However long the others took to fail.
            delay = 0.0
        if delay is None:
            raise failure from None
        await asyncio.sleep(delay)

    def _is_untried(self, failure: TowpathError) -> bool:
        """Whether a replica is left that may do what failed."""
        replicas = self._dial.replicas
        return replicas is not None and replicas.untried and retrying.is_transient(failure)

    async def find(self) -> None:
        """Where there are several replicas: goes to one that answers, for a call that is made only once."""
        if self._dial.replicas is not None:
            await self.call(self.stubs.auth.WhoAmI, WhoAmIRequest())

    def translate(self, error: grpc.RpcError) -> TowpathError:
        """The exception for a failed call."""
        failure = statuses.translate(error, self.place)
        if failure.reason == statuses.DRAINING and self._dial.replicas is not None:
            # Its hint was when it may be back: another one is there already.
            failure.retry_after = None
        self.answered = self.answered or bool(failure.reason and failure.reason != statuses.UNREACHABLE)
        return failure

    async def pages(
        self, method: grpc.aio.UnaryUnaryMultiCallable[Request, Response], request: Request
    ) -> AsyncIterator[Response]:
        """Each page of a list."""
        token: Any = None
        while token != "":
            response: Any = await self.call(method, request)
            yield response
            # The field is there in every list of the contract, which types cannot say.
            page: Any = request
            page.page_token = token = response.next_page_token
