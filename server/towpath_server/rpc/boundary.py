"""Where calls come in: who calls, is the message sound, and which error goes back. Nothing else reaches the wire."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from types import TracebackType
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message import DecodeError, Message

from towpath_server.core.errors import (
    Draining,
    ModelNotFound,
    QueueNotFound,
    TokenNotFound,
    TowpathError,
    Unauthenticated,
    WorkerNotFound,
)
from towpath_server.core.records import Principal
from towpath_server.rpc import auth, refused, rules, status
from towpath_server.rpc.calls import Call, Calls
from towpath_server.rpc.context import ServicerContext
from towpath_server.rpc.metering import Meter, Metered
from towpath_server.rpc.shares import MUCH, Others, shares
from towpath_server.scheduler.refusals import Refusals
from towpath_server.scheduler.state import CARRIED_OUT

# Brings in what other schedulers have changed lately; whether there are any.
CatchUp = Callable[[], Awaitable[bool]]
# Said from memory: another scheduler may know better.
SAID_FROM_MEMORY = (ModelNotFound, QueueNotFound, TokenNotFound, WorkerNotFound)

# Handlers are untyped in grpc: one of its four behaviors is set.
Handler = Any
Writer = Callable[[Any], bytes]
Continuation = Callable[[grpc.HandlerCallDetails], Awaitable[Handler]]


# What waits for something to happen takes nothing away from anybody.
WAITING = frozenset(
    f"/towpath.v1.{name}" for name in ("JobService/WaitJob", "JobService/WaitJobs", "WorkerService/LeaseJobs")
)


# What does much for a small request: what writes many jobs, and what may look at all of them, which has a share of its
# own: whoever looks keeps only others of his own looks waiting.
HEAVY = frozenset({f"/towpath.v1.JobService/{name}" for name in ("BatchCreateJobs", "BatchCancelJobs")})
LOOKING = frozenset(
    f"/towpath.v1.{name}"
    for name in (
        *("JobService/ListJobs", "JobService/GetJobStats", "JobService/ExplainJob", "AdminService/GetStats"),
        "AdminService/ListAuditEvents",
        *("QueueService/ListQueues", "QueueService/GetQueue", "QueueService/PeekQueue"),
    )
)


# What no quota of calls counts, beside what waits: what workers call, and the ways out of trouble.
UNMETERED = WAITING | frozenset(
    f"/towpath.v1.{name}"
    for name in (
        *("AuthService/RevokeToken", "AuthService/RotateToken", "AuthService/EnrollWorker"),
        *("AdminService/SetQuota", "AdminService/DeleteQuota"),
    )
)


class Boundary(grpc.aio.ServerInterceptor):
    """Goes round every handler. Messages are parsed here: an exception in grpc's own parsing would show its text."""

    def __init__(
        self, access: auth.Authenticator, calls: Calls, catch_up: CatchUp, meter: Meter, refusals: Refusals
    ) -> None:
        self._refusals = refusals
        self._access = access
        self._calls = calls
        self._meter = Metered(meter)
        self._catch_up = catch_up
        # Whoever only looks is there as well.
        users, tenants = Others(), Others()
        self._shares, self._looks = shares(users, tenants), shares(users, tenants)
        self._wrapped: dict[str, Handler] = {}

    async def intercept_service(self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """The handler of this method, wrapped; None where there is no such method."""
        method = str(handler_call_details.method)
        if method not in self._wrapped:
            try:
                handler = await continuation(handler_call_details)
                # What is not served is not remembered: anybody can make up names.
                if handler is None:
                    return None
                self._wrapped[method] = self._wrap(method, handler)
            except Exception as error:  # noqa: BLE001 - grpc would show its text
                return self._broken(method, error)
        metadata = handler_call_details.invocation_metadata
        # A token that another scheduler has just made is none here yet.
        if not auth.is_let_in(self._access, method, metadata) and not (
            await self._catch_up() and auth.is_let_in(self._access, method, metadata)
        ):
            # As every call, but now: grpc would wait for a message first, and who sends none would keep the call open.
            return self._broken(method, Unauthenticated())
        return self._wrapped[method]

    def _broken(self, method: str, error: Exception) -> Handler:
        async def fail(incoming: Any, context: ServicerContext) -> None:
            async with self._guarded(method, context):
                raise error

        return grpc.stream_stream_rpc_method_handler(fail)

    def _wrap(self, method: str, handler: Handler) -> Handler:
        parse, write = _parser(method, handler.request_deserializer), _writer(handler.response_serializer)
        if handler.unary_unary is not None:
            return grpc.unary_unary_rpc_method_handler(self._unary(method, handler.unary_unary, parse, write))
        if handler.unary_stream is not None:
            stream = self._stream(method, handler.unary_stream, lambda raw, call: parse(raw), write)
            return grpc.unary_stream_rpc_method_handler(stream)
        if handler.stream_stream is not None:
            stream = self._stream(
                method, handler.stream_stream, lambda incoming, call: _each(incoming, parse, call), write
            )
            return grpc.stream_stream_rpc_method_handler(stream)
        raise TypeError(f"{method}: no RPC of ours streams requests alone")

    def _unary(self, method: str, behavior: Handler, parse: Callable[[bytes], Message], write: Writer) -> Handler:
        shares = self._looks if method in LOOKING else self._shares
        least = MUCH if method in HEAVY | LOOKING else 0
        metered = _is_metered(method)

        async def unary(raw: bytes, context: ServicerContext) -> bytes | None:
            async with self._guarded(method, context) as call:
                if call.principal is None or method in WAITING:
                    return write(await behavior(parse(raw), context))
                user = (call.principal.tenant, call.principal.user)
                if metered and self._meter.is_on:
                    await self._meter.call(*user)
                carried_out: list[asyncio.Future[Any]] = []
                CARRIED_OUT.set(carried_out)
                async with shares.of(user, max(len(raw), least), carried_out):
                    request = parse(raw)
                    try:
                        return write(await behavior(request, context))
                    except SAID_FROM_MEMORY:
                        if not await self._catch_up():
                            raise
                    return write(await behavior(request, context))

        return unary

    def _stream(self, method: str, behavior: Handler, parse: Callable[[Any, Call], Any], write: Writer) -> Handler:
        metered = _is_metered(method)

        async def stream(incoming: Any, context: ServicerContext) -> None:
            async with self._guarded(method, context) as call:
                if metered and self._meter.is_on and call.principal is not None:
                    await self._meter.call(call.principal.tenant, call.principal.user)
                # Health and reflection know nothing of a drain.
                call.idle = not _is_ours(method)
                answers = behavior(parse(incoming, call), context)
                if isinstance(answers, Awaitable):
                    await answers
                    return
                async with aclosing(answers):
                    async for answer in answers:
                        await context.write(write(answer))

        return stream

    def _guarded(self, method: str, context: ServicerContext) -> _Guard:
        return _Guard(self._access, self._calls, self._catch_up, self._refusals, method, context)


class _Guard:
    """Goes round one call. A class of its own: as a generator it cost each parked poll a KiB."""

    __slots__ = ("_access", "_call", "_calls", "_catch_up", "_context", "_method", "_refusals")

    def __init__(
        self,
        access: auth.Authenticator,
        calls: Calls,
        catch_up: CatchUp,
        refusals: Refusals,
        method: str,
        context: ServicerContext,
    ) -> None:
        self._access = access
        self._refusals = refusals
        self._calls = calls
        self._catch_up = catch_up
        self._method = method
        self._context = context

    async def __aenter__(self) -> Call:
        self._call = self._calls.enter(self._method)
        try:
            self._calls.admit(self._call, await self._admit())
        except BaseException as error:
            await self.__aexit__(type(error), error, error.__traceback__)
            raise
        return self._call

    async def _admit(self) -> Principal | None:
        metadata = self._context.invocation_metadata()
        try:
            return auth.admit(self._access, self._method, metadata, self._context.peer())
        except Unauthenticated:
            # A token that another scheduler has just made is none here yet.
            if not await self._catch_up():
                raise
        return auth.admit(self._access, self._method, metadata, self._context.peer())

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None or isinstance(error, grpc.aio.AbortError):
                return
            if isinstance(error, grpc.aio.InternalError):
                # The client is gone. Of a call that is cancelled grpc says nothing; of this it would log a trace.
                raise asyncio.CancelledError from error
            if isinstance(error, TowpathError):
                refused.tell(self._refusals, self._method, self._context, error)
                await status.abort(self._context, error, self._method)
            if isinstance(error, asyncio.CancelledError):
                await _cancelled(self._context, self._call)
            elif isinstance(error, Exception):
                # Goes to the log.
                await status.abort_unexpected(self._context, self._method)
        finally:
            self._calls.leave(self._call)


async def _cancelled(context: ServicerContext, call: Call) -> None:
    if call.cut and call.task is not None:
        call.task.uncancel()
        await status.abort(context, Unauthenticated())
    if call.ended and call.task is not None:
        call.task.uncancel()
        await status.abort(context, Draining())
    if call.task is not None and not call.task.cancelling():
        # Something that the handler waited for was cancelled: left alone, the client would wait for its whole deadline.
        await status.abort(context, Draining())


def _parser(method: str, deserialize: Callable[[bytes], Message]) -> Callable[[bytes], Message]:
    name = method.rpartition("/")[2]
    ruled = _is_ours(method)

    def parse(raw: bytes) -> Message:
        try:
            message = deserialize(raw)
        except (DecodeError, ValueError) as error:
            raise status.MalformedRequest(method=name) from error
        if ruled:
            rules.check(message, raw)
        return message

    return parse


def _writer(serialize: Callable[[Message], bytes]) -> Writer:
    """Large answers come put together already, as bytes. Written here: grpc would show what goes wrong."""
    return lambda answer: answer if isinstance(answer, bytes) else serialize(answer)


def _is_metered(method: str) -> bool:
    return _is_ours(method) and not method.startswith("/towpath.v1.WorkerService/") and method not in UNMETERED


def _is_ours(method: str) -> bool:
    return method.startswith("/towpath.v1.")


async def _each(
    incoming: AsyncIterator[bytes], parse: Callable[[bytes], Message], call: Call
) -> AsyncIterator[Message]:
    stays_idle, call.idle = call.idle, True
    async for raw in incoming:
        call.idle = stays_idle
        yield parse(raw)
