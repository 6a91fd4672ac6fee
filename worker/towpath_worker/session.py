"""The worker's side of its session: registration, polls, and the one stream of reports, heartbeats and directives."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Protocol

import grpc
import grpc.aio

from towpath import settings, statuses
from towpath.v1 import model_pb2, worker_pb2, worker_service_pb2
from towpath_worker import failpoints, refusals
from towpath_worker.admission import Identity
from towpath_worker.backoff import Backoff
from towpath_worker.connections import Connections, Registration
from towpath_worker.log import logger
from towpath_worker.outbox import Outbox
from towpath_worker.refusals import Denials, Refused
from towpath_worker.reports import Key

log = logger("towpath.worker")

CALL_TIMEOUT = 15.0
POLL_MARGIN = 10.0
# Seconds for which reports wait for company while a line of tiny jobs is run down: a message costs more than a job.
GATHER = 0.005


class Owner(Protocol):
    """Whom a session asks and tells: the supervisor."""

    async def introduce(self) -> worker_service_pb2.RegisterWorkerRequest: ...

    def accepted(self, registration: Registration, identity: Identity | None) -> None: ...

    async def settle(self, outcomes: Mapping[Key, bool]) -> None: ...

    def relieved(self) -> None: ...

    def held(self) -> set[Key]: ...

    def in_a_hurry(self) -> bool: ...

    def load(self) -> worker_pb2.MachineLoad: ...

    def draining(self) -> bool: ...

    def obey(self, directive: worker_service_pb2.Directive) -> None: ...


class Session:
    """One worker's conversation with its scheduler, through as many breaks as there are."""

    def __init__(self, connect: Callable[[], grpc.aio.Channel], address: str, owner: Owner, outbox: Outbox) -> None:
        self._has_others = len(settings.addresses(address)) > 1
        self._connections = Connections(connect, has_others=self._has_others)
        self._address = settings.spoken(address)
        self._owner = owner
        self._outbox = outbox
        self._registering = asyncio.Lock()
        self._registration: Registration | None = None
        self._was_registered = False
        self._stream: object | None = None

    async def registered(self) -> Registration:
        """The present registration; registers first where there is none.

        Refused if that cannot work at the start, or if the token is none any more.
        """
        async with self._registering:
            backoff = Backoff()
            while self._registration is None:
                try:
                    await self._register()
                except grpc.aio.AioRpcError as error:
                    if refusals.is_final(error) and (not self._was_registered or refusals.is_denied(error)):
                        raise Refused(refusals.explain(error, self._address)) from None
                    self._warn("not registered", error)
                    await backoff.wait(self._retry_after(error))
            return self._registration

    async def lease(self, max_jobs: int) -> list[worker_service_pb2.Lease]:
        """Polls until there is an answer. A poll whose answer was lost is repeated under the same poll_id."""
        backoff = Backoff()
        registration: Registration | None = None
        denials = Denials(self._address)
        request = worker_service_pb2.LeaseJobsRequest()
        while True:
            current = await self.registered()
            if current is not registration:
                registration = current
                request = worker_service_pb2.LeaseJobsRequest(
                    worker_id=current.worker_id,
                    session_id=current.session_id,
                    poll_id=uuid.uuid4().hex,
                    max_jobs=max_jobs,
                )
            try:
                answer = await self._connections.poll(request, current.poll_timeout + POLL_MARGIN)
            except grpc.aio.AioRpcError as error:
                if refusals.session_is_over(error):
                    self._forget(current)
                    continue
                denials.note(error)
                self._warn("poll failed", error)
                await backoff.wait(self._retry_after(error))
            else:
                return list(answer.leases)

    async def keep_reporting(self) -> None:
        """Keeps a report stream open, until cancelled."""
        backoff = Backoff()
        denials = Denials(self._address)
        while True:
            registration = await self.registered()
            try:
                heard = await self._report(registration)
            except grpc.aio.AioRpcError as error:
                heard = False
                denials.note(error)
                if refusals.session_is_over(error):
                    self._forget(registration)
                elif error.code() is grpc.StatusCode.INVALID_ARGUMENT:
                    self._outbox.refused()
                self._warn("report stream broke", error)
                await backoff.wait(self._retry_after(error))
            else:
                denials.clear()
                if heard:
                    backoff.reset()
                if self._registration is registration:
                    await backoff.wait()

    async def sync_models(self, models: list[model_pb2.Model]) -> bool:
        """Tells which models lie here; whether the scheduler has heard it."""
        registration = await self.registered()
        request = worker_service_pb2.SyncModelsRequest(
            worker_id=registration.worker_id, session_id=registration.session_id, models=models
        )
        try:
            await self._connections.calls.SyncModels(request, timeout=CALL_TIMEOUT)
        except grpc.aio.AioRpcError as error:
            self._warn("models not synced: trying again", error)
            return False
        return True

    async def deregister(self) -> None:
        """Ends the session, if there is one."""
        registration, self._registration = self._registration, None
        if registration is None:
            return
        request = worker_service_pb2.DeregisterWorkerRequest(
            worker_id=registration.worker_id, session_id=registration.session_id
        )
        with contextlib.suppress(grpc.aio.AioRpcError):
            await self._connections.calls.DeregisterWorker(request, timeout=3.0)

    async def close(self) -> None:
        """Closes both connections."""
        await self._connections.close()

    async def _register(self) -> None:
        request = await self._owner.introduce()
        held = self._owner.held() | self._outbox.held()
        request.held_leases.extend(_held(held))
        answer = await self._connections.calls.RegisterWorker(request, timeout=CALL_TIMEOUT)
        identity = None if self._was_registered else await self._connections.identity()
        self._outbox.renumber()
        self._registration = Registration.of(answer)
        self._connections.recall()
        log.info("registered", worker=answer.worker_id, held=len(held), again=self._was_registered)
        self._was_registered = True
        self._owner.accepted(self._registration, identity)

    async def _report(self, registration: Registration) -> bool:
        """One stream, until it ends; whether the scheduler said anything on it."""
        # grpc goes on asking for requests a while after a stream broke: the old stream must take nothing any more, or
        # what it takes is sent nowhere.
        stream = self._stream = object()
        self._outbox.rewind()
        call = self._connections.reports.ReportJobs(self._requests(registration, stream))
        heard = False
        self._connections.begin_reports(registration, call)
        try:
            async for answer in call:
                if self._connections.is_stranger(answer):
                    log.info("reports reach another scheduler than calls: one connection carries both")
                    break
                heard = True
                await self._hear(registration, answer)
                if self._registration is not registration:
                    break
        except grpc.aio.AioRpcError as error:
            # One that worked for a while is opened again without the growing waits of one that never did.
            if not heard or error.code() is grpc.StatusCode.INVALID_ARGUMENT:
                raise
            log.info("report stream ended: opening it again")
        except OSError as error:
            # Nothing was forgotten: what is sent again is acked again, and then this is tried again.
            log.error("report stream given up after an error of this machine: opening it again", reason=str(error))
            heard = False
        except asyncio.CancelledError:
            # grpc says so too when _requests raised.
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            if self._registration is registration:
                log.error("report stream given up after an error of this worker")
        finally:
            self._stream = None
            call.cancel()
        return heard

    async def _hear(self, registration: Registration, answer: worker_service_pb2.ReportJobsResponse) -> None:
        abandoned = {_key(one) for one in answer.directives if one.type == worker_service_pb2.DIRECTIVE_TYPE_ABANDON}
        told = {key for key in abandoned if self._outbox.holds(key)}
        outcomes = self._outbox.outcomes_until(answer.acked_sequence)
        if outcomes:
            failpoints.reach("ack.before")
            # An ack says that a report is on disk or of no use. The ABANDON in the same answer says: of no use.
            await self._owner.settle({key: good and key not in abandoned for key, good in outcomes.items()})
            if self._registration is not registration:
                # The reports have other numbers by now.
                return
        self._outbox.acked(answer.acked_sequence)
        if outcomes:
            failpoints.reach("ack.after")
            self._owner.relieved()
        for directive in answer.directives:
            # A job that is over has nothing to abandon: only the answer that acks its outcome decides about that.
            if directive.type != worker_service_pb2.DIRECTIVE_TYPE_ABANDON or _key(directive) not in told:
                self._obey(registration, directive)

    async def _requests(
        self, registration: Registration, stream: object
    ) -> AsyncIterator[worker_service_pb2.ReportJobsRequest]:
        now = asyncio.get_running_loop().time
        due = now()
        while self._registration is registration and self._stream is stream:
            self._outbox.changed.clear()
            reports = self._outbox.take()
            if now() >= due:
                reports.append(self._heartbeat())
                due = now() + registration.heartbeat_interval
            if reports:
                yield worker_service_pb2.ReportJobsRequest(
                    worker_id=registration.worker_id, session_id=registration.session_id, reports=reports
                )
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, due - now())):
                    await self._outbox.changed.wait()
                if not self._owner.in_a_hurry():
                    await asyncio.sleep(GATHER)

    def _heartbeat(self) -> worker_service_pb2.Report:
        held = self._owner.held() | self._outbox.held()
        beat = worker_service_pb2.Heartbeat(
            held_leases=_held(held), load=self._owner.load(), draining=self._owner.draining()
        )
        return worker_service_pb2.Report(heartbeat=beat)

    def _obey(self, registration: Registration, directive: worker_service_pb2.Directive) -> None:
        if directive.type == worker_service_pb2.DIRECTIVE_TYPE_REREGISTER:
            log.info("told to register again", reason=directive.reason)
            self._forget(registration)
        else:
            self._owner.obey(directive)

    def _forget(self, registration: Registration) -> None:
        if self._registration is registration:
            self._registration = None

    def _retry_after(self, error: grpc.aio.AioRpcError) -> float:
        # A replica that stops says when it may be back: another one is there already.
        stops = self._has_others and refusals.reason(error) == statuses.DRAINING
        return 0.0 if stops else refusals.retry_after(error)

    def _warn(self, event: str, error: grpc.aio.AioRpcError) -> None:
        log.warning(event, scheduler=self._address, code=error.code().name, said=error.details() or "")


def _key(directive: worker_service_pb2.Directive) -> Key:
    return directive.job_id, directive.lease_token


def _held(keys: set[Key]) -> list[worker_service_pb2.HeldLease]:
    return [worker_service_pb2.HeldLease(job_id=job_id, lease_token=token) for job_id, token in sorted(keys)]
