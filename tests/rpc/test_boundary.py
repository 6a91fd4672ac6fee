"""Whatever goes wrong inside, the wire shows a fixed text and a number."""

from __future__ import annotations

import asyncio
import gc
import random
from collections.abc import AsyncIterator
from typing import Any, NoReturn

import grpc
import pytest
from structlog.testing import capture_logs

from support.rpc_stage import Stage, info_of, raw_unary, status_of
from towpath.v1 import admin_service_pb2, job_service_pb2
from towpath_server.core.records import Principal
from towpath_server.rpc import auth, rules
from towpath_server.scheduler.messages import Told

SECRET = "/srv/secret/path password=hunter2"


class Boom(Exception):
    """What nobody expects."""


def boom(*_: Any) -> NoReturn:
    raise Boom(SECRET)


async def watch_boom(*_: Any, **__: Any) -> AsyncIterator[Told]:
    yield Told((), 1)
    raise Boom(SECRET)


def assert_hidden(error: grpc.aio.AioRpcError, logs: list[Any]) -> None:
    assert error.code() is grpc.StatusCode.INTERNAL
    assert SECRET not in repr(error)
    assert "Boom" not in repr(error)
    number = info_of(status_of(error)).metadata["correlation_id"]
    assert number in (error.details() or "")
    [entry] = [log for log in logs if log.get("correlation_id") == number]
    assert "Boom" in entry["exception"]
    assert entry["method"].startswith("/towpath.v1.")


async def test_an_exception_in_a_verb_is_a_number_on_the_wire(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage.scheduler.admin, "info", boom)
    with capture_logs() as logs, pytest.raises(grpc.aio.AioRpcError) as caught:
        await stage.admin.GetServerInfo(admin_service_pb2.GetServerInfoRequest(), metadata=stage.bearer())
    assert_hidden(caught.value, logs)


async def test_so_it_is_in_the_midst_of_a_stream(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage.scheduler.jobs, "watch_all", watch_boom)
    watch = stage.jobs.WatchJobs(job_service_pb2.WatchJobsRequest(), metadata=stage.bearer())
    with capture_logs() as logs, pytest.raises(grpc.aio.AioRpcError) as caught:
        async for _ in watch:
            pass
    assert_hidden(caught.value, logs)


@pytest.mark.parametrize("module", [(auth, "admit"), (rules, "check")])
async def test_so_it_is_before_the_verb(stage: Stage, monkeypatch: pytest.MonkeyPatch, module: tuple[Any, str]) -> None:
    monkeypatch.setattr(*module, boom)
    with capture_logs() as logs, pytest.raises(grpc.aio.AioRpcError) as caught:
        await stage.admin.GetServerInfo(admin_service_pb2.GetServerInfoRequest(), metadata=stage.bearer())
    assert_hidden(caught.value, logs)


async def test_a_wait_that_is_cancelled_inside_is_answered(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    async def cancelled(*_: Any) -> NoReturn:
        future = asyncio.get_running_loop().create_future()
        future.cancel()
        await future
        raise AssertionError

    monkeypatch.setattr(stage.scheduler.admin, "overview", cancelled)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stage.admin.GetStats(admin_service_pb2.GetStatsRequest(), metadata=stage.bearer(), timeout=10)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_malformed_bytes_get_a_fixed_text(stage: Stage) -> None:
    generator = random.Random(7)
    good = job_service_pb2.CreateJobRequest()
    good.job.workspace = "é" * 20
    good.job.custom.type = "echo"
    good.job.custom.params.update({"a": [{"b": "c"}] * 5})
    raw = good.SerializeToString()
    create = raw_unary(stage.channel, "/towpath.v1.JobService/CreateJob")
    codes, texts = set(), set()
    for round_ in range(300):
        broken = bytearray(raw if round_ else b"\xff\xff\xff\xff")
        for _ in range(generator.randrange(1, 4)):
            broken[generator.randrange(len(broken))] = generator.randrange(256)
        end = generator.choice([len(broken), generator.randrange(1, len(broken))])
        call = create(bytes(broken[:end]), metadata=stage.bearer())
        codes.add(await call.code())
        if "well-formed" in await call.details():
            texts.add(await call.details())
    assert codes == {grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT}
    assert texts == {"The message is not a well-formed request of CreateJob."}


async def test_nesting_without_end_is_malformed(stage: Stage) -> None:
    deep = b""
    for _ in range(20_000):
        # Value.list_value holding the values so far.
        inner = b"\x0a" + _varint(len(deep)) + deep if deep else b""
        deep = b"\x32" + _varint(len(inner)) + inner
        if len(deep) > 100_000:
            break
    entry = b"\x0a\x01a\x12" + _varint(len(deep)) + deep
    params = b"\x0a" + _varint(len(entry)) + entry
    custom = b"\x0a\x04echo\x12" + _varint(len(params)) + params
    job = b"\x6a" + _varint(len(custom)) + custom
    request = b"\x0a" + _varint(len(job)) + job
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await raw_unary(stage.channel, "/towpath.v1.JobService/CreateJob")(request, metadata=stage.bearer())
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 127:
        encoded.append(number & 127 | 128)
        number >>= 7
    return bytes([*encoded, number])


async def test_a_watch_that_is_cancelled_leaves_nothing_behind(stage: Stage) -> None:
    before = asyncio.all_tasks()
    watch = stage.jobs.WatchJobs(job_service_pb2.WatchJobsRequest(), metadata=stage.bearer())
    await anext(aiter(watch))
    watch.cancel()
    with pytest.raises(asyncio.CancelledError):
        await anext(aiter(watch))
    # A call on the same connection comes after the news of the cancellation.
    await stage.create()
    await stage.create()
    served = [task for task in asyncio.all_tasks() - before if "WatchJobs" in task.get_name()]
    assert all(task.done() or task.cancelling() for task in served)


async def test_a_call_leaves_nothing_of_ours_to_the_garbage_collector(stage: Stage) -> None:
    gc.collect()
    gc.disable()
    try:
        gc.set_debug(gc.DEBUG_SAVEALL)
        for _ in range(20):
            await stage.create()
        gc.collect()
        left = [type(one) for one in gc.garbage]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
    # grpc's own: a handful of small objects for each call.
    assert left.count(asyncio.Task) + left.count(Principal) < 20
