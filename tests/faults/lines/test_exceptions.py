"""Line 22 of the catalogue: whatever breaks, in whichever layer, the caller gets a number, and the log the trace."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NoReturn

import grpc
import grpc.aio
import pytest
from structlog.testing import capture_logs

from support.fuzzing import leaks
from support.fuzzing.siege import text_of
from support.rpc_stage import Stage, info_of, stage, status_of
from towpath.v1 import admin_service_pb2, auth_service_pb2, job_service_pb2, worker_service_pb2
from towpath_server.core.errors import Unauthenticated
from towpath_server.log import Logger
from towpath_server.rpc import auth, boundary, rules, status
from towpath_server.rpc.shares import Shares
from towpath_server.scheduler.messages import Told
from towpath_server.store.memory import MemoryStore

SECRET = "/srv/secret/path password=hunter2"
WORDS = re.compile(r"The scheduler made a mistake\. Its log has the trace under ([0-9a-f]{16})\.")


class Boom(Exception):
    """What nobody expects."""


def boom(*_: Any, **__: Any) -> NoReturn:
    raise Boom(SECRET)


async def later(*_: Any, **__: Any) -> NoReturn:
    await asyncio.sleep(0)
    raise Boom(SECRET)


async def midway(*_: Any, **__: Any) -> AsyncIterator[Told]:
    yield Told((), 1)
    raise Boom(SECRET)


@pytest.fixture(name="at")
async def _at(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stage]:
    if request.node.callspec.params["layer"] in WRAPPED:
        monkeypatch.setattr(boundary.Boundary, "_wrap", _with_broken(request.node.callspec.params["layer"]))
    async with stage() as one:
        yield one


# What is taken from the stubs when the server starts, and the handlers that are broken in it.
WRAPPED = {"deserialiser": "GetServerInfo", "serialiser": "GetServerInfo", "serialiser of a stream": "ReportJobs"}


def _with_broken(layer: str) -> Callable[..., Any]:
    real = boundary.Boundary._wrap
    which = "request_deserializer" if layer == "deserialiser" else "response_serializer"

    def wrap(self: boundary.Boundary, method: str, handler: Any) -> Any:
        return real(self, method, handler._replace(**{which: boom}) if method.endswith(WRAPPED[layer]) else handler)

    return wrap


Call = Callable[[Stage], Awaitable[object]]


async def info(at: Stage) -> object:
    return await at.admin.GetServerInfo(admin_service_pb2.GetServerInfoRequest(), metadata=at.bearer(), timeout=30)


async def create(at: Stage) -> object:
    return await at.create()


async def listing(at: Stage) -> object:
    return await at.jobs.ListJobs(job_service_pb2.ListJobsRequest(), metadata=at.bearer(), timeout=30)


async def watch(at: Stage) -> object:
    call = at.jobs.WatchJobs(job_service_pb2.WatchJobsRequest(), metadata=at.bearer(), timeout=30)
    return [one async for one in call]


async def report(at: Stage) -> object:
    session = await at.register()
    call = at.workers.ReportJobs(metadata=at.bearer(), timeout=30)
    first = worker_service_pb2.ReportJobsRequest(worker_id=session.worker_id, session_id=session.session_id)
    first.reports.add(sequence=1, job_id="job_0000000000001", lease_token="x").started.SetInParent()
    await call.write(first)
    await call.done_writing()
    return [one async for one in call]


async def token(at: Stage) -> object:
    request = auth_service_pb2.CreateTokenRequest(name="x", role=auth_service_pb2.ROLE_SUBMITTER)
    return await at.auth.CreateToken(request, metadata=at.bearer(), timeout=30)


def break_(at: Stage, layer: str, patch: pytest.MonkeyPatch) -> Call:
    """Break a layer; the call that comes upon it."""
    commit = at.scheduler.jobs._state.committer
    match layer:
        case "interceptor":
            patch.setattr(boundary.Boundary, "_wrap", boom)
            return info
        case "admission":
            patch.setattr(auth, "admit", boom)
            return info
        case "the other schedulers' news":
            patch.setattr(auth, "admit", _unknown)
            patch.setattr(boundary._Guard, "_admit", later)
            return info
        case "deserialiser" | "serialiser":
            return info
        case "log":
            patch.setattr(Logger, "error", boom)
            patch.setattr(at.scheduler.admin, "info", boom)
            return info
        case "rules":
            patch.setattr(rules, "check", boom)
            return info
        case "share":
            patch.setattr(Shares, "of", boom)
            return info
        case "verb":
            patch.setattr(at.scheduler.admin, "info", boom)
            return info
        case "verb that waits":
            patch.setattr(at.scheduler.jobs, "create", later)
            return create
        case "store's thread":
            patch.setattr(commit._store, "transaction", boom)
            return create
        case "store's verb":
            patch.setattr(commit._store, "put", boom)
            return token
        case "store's reader":
            patch.setattr(MemoryStore, "find", boom)
            return listing
        case "answer":
            patch.setattr(at.scheduler.admin, "info", lambda *_: object())
            return info
        case "midst of a stream":
            patch.setattr(at.scheduler.jobs, "watch_all", midway)
            return watch
        case "serialiser of a stream":
            return report
        case "stream of reports":
            patch.setattr(at.scheduler.workers, "connect", boom)
            return report
        case "reader of a stream":
            patch.setattr(rules, "check", boom)
            return report
        case "grpc's own error":
            patch.setattr(at.scheduler.admin, "info", _usage)
            return info
        case "an error as an answer":
            patch.setattr(status, "to_status", _once(status.to_status))
            patch.setattr(at.scheduler.admin, "info", boom)
            return info
    raise AssertionError(layer)


def _unknown(*_: Any) -> NoReturn:
    raise Unauthenticated


def _usage(*_: Any) -> NoReturn:
    raise grpc.aio.UsageError(SECRET)


def _once(real: Callable[..., Any]) -> Callable[..., Any]:
    left = [boom]
    return lambda error: left.pop()() if left else real(error)


LAYERS = (
    *("interceptor", "admission", "the other schedulers' news", "deserialiser", "rules", "share", "verb"),
    *("verb that waits", "store's thread", "store's verb", "store's reader", "answer", "serialiser"),
    *(
        "midst of a stream",
        "serialiser of a stream",
        "stream of reports",
        "reader of a stream",
        "grpc's own error",
        "log",
    ),
    "an error as an answer",
)


@pytest.mark.parametrize("layer", LAYERS)
async def test_line_22_an_exception_is_a_number_on_the_wire(
    at: Stage, layer: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patch, capture_logs() as logs:
        call = break_(at, layer, patch)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(at)
    error = caught.value
    whole = text_of(error.details(), error.trailing_metadata()) + text_of("", error.initial_metadata())
    assert error.code() is grpc.StatusCode.INTERNAL, whole
    told = WORDS.fullmatch(error.details() or "")
    assert told is not None, whole
    assert info_of(status_of(error)).metadata == {"correlation_id": told[1]}
    assert SECRET not in whole
    assert not leaks.found(whole.replace(type(error).__name__, ""))
    if layer == "log":
        return
    [entry] = [log for log in logs if log.get("correlation_id") == told[1]]
    assert "Traceback" in entry["exception"]
    assert entry["method"].startswith("/towpath.v1.")
    # Nothing beside the log: grpc writes to standard error what nobody caught.
    assert "Traceback" not in capfd.readouterr().err
    assert await create(at)
