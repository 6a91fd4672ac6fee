"""Health: anybody may ask, and nobody who asks is in another's way, or in that of the server's end."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2

from support import http2
from support.rpc_stage import Stage, raw_answers, raw_unary
from towpath_server.rpc.server import SERVICES

CHECK, LIST, WATCH = (f"/grpc.health.v1.Health/{name}" for name in ("Check", "List", "Watch"))
SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


async def told(answers: Any) -> int:
    return health_pb2.HealthCheckResponse.FromString(await anext(answers)).status


async def test_all_services_are_listed_without_a_token(stage: Stage) -> None:
    pb: Any = health_pb2
    raw = await raw_unary(stage.channel, LIST)(b"")
    said = {name: one.status for name, one in pb.HealthListResponse.FromString(raw).statuses.items()}
    assert said == dict.fromkeys(("", *SERVICES), SERVING)


async def test_a_service_that_is_not_there(stage: Stage) -> None:
    request = health_pb2.HealthCheckRequest(service="towpath.v1.NoService").SerializeToString()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await raw_unary(stage.channel, CHECK)(request)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    watching = aiter(raw_answers(stage.channel, WATCH)(request))
    assert await told(watching) == UNKNOWN


async def deaf(stage: Stage) -> asyncio.StreamWriter:
    """Somebody who watches and reads nothing: the server has begun to write to him."""
    _, writer = await asyncio.open_connection("127.0.0.1", stage.server.port)
    request = health_pb2.HealthCheckRequest(service="")
    writer.write(http2.opening(WATCH, stage.address, {}, window=0) + http2.message(request) + http2.closing())
    await writer.drain()
    async with asyncio.timeout(20):
        while not served(stage):  # noqa: ASYNC110
            await asyncio.sleep(0)
    return writer


def served(stage: Stage) -> int:
    return sum(call.method == WATCH for call in stage.server._calls._under_way)


async def test_one_who_watches_and_does_not_read_keeps_nobody_waiting(stage: Stage) -> None:
    writer = await deaf(stage)
    async with asyncio.timeout(20):
        request = health_pb2.HealthCheckRequest(service="").SerializeToString()
        watching = aiter(raw_answers(stage.channel, WATCH)(request))
        assert await told(watching) == SERVING
        await stage.server.drain()
        assert await told(watching) == NOT_SERVING
        await stage.server.stop(0)
    writer.close()


async def test_one_who_hangs_up_fills_no_log(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(5):
        (await deaf(stage)).close()
    async with asyncio.timeout(20):
        while served(stage):  # noqa: ASYNC110
            await asyncio.sleep(0)
        await stage.server.stop(0)
    assert not [record for record in caplog.records if record.levelname == "ERROR"]
