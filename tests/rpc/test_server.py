"""The server itself: its port, its limits, its health, TLS."""

from __future__ import annotations

import asyncio
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2

from support.certificates import Authority, trusting
from support.rpc_stage import Stage, raw_answers, raw_stream, raw_unary
from towpath.v1 import admin_service_pb2, admin_service_pb2_grpc, job_service_pb2
from towpath_server.rpc.server import SERVICES, make_server


@pytest.mark.parametrize("size", [5 * 1024 * 1024, 100 * 1024 * 1024])
@pytest.mark.parametrize("compression", [None, grpc.Compression.Gzip])
async def test_a_message_too_large_is_refused_and_the_server_lives_on(
    stage: Stage, size: int, compression: grpc.Compression | None
) -> None:
    request = job_service_pb2.CreateJobRequest()
    request.job.custom.params["big"] = "x" * size
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stage.jobs.CreateJob(request, metadata=stage.bearer(), compression=compression)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "larger than max" in (caught.value.details() or "")
    assert (await stage.create()).job_id


async def test_a_second_server_on_the_same_port_is_refused(stage: Stage) -> None:
    with pytest.raises(OSError, match="is taken"):
        make_server(stage.scheduler, port=stage.server.port)


async def test_health_tells_of_a_drain(stage: Stage) -> None:
    check, watch = (f"/grpc.health.v1.Health/{name}" for name in ("Check", "Watch"))
    request = health_pb2.HealthCheckRequest(service=SERVICES[0]).SerializeToString()
    told = aiter(raw_answers(stage.channel, watch)(request))
    assert _status(await anext(told)) == health_pb2.HealthCheckResponse.SERVING
    await stage.server.drain()
    assert _status(await anext(told)) == health_pb2.HealthCheckResponse.NOT_SERVING
    for service in ("", *SERVICES):
        request = health_pb2.HealthCheckRequest(service=service).SerializeToString()
        answer = await raw_unary(stage.channel, check)(request)
        assert _status(answer) == health_pb2.HealthCheckResponse.NOT_SERVING


async def test_calls_that_wait_for_their_client_do_not_hold_up_the_end(stage: Stage) -> None:
    request = health_pb2.HealthCheckRequest(service=SERVICES[0]).SerializeToString()
    watching = raw_answers(stage.channel, "/grpc.health.v1.Health/Watch")(request)
    told = aiter(watching)
    await anext(told)
    silent = stage.workers.ReportJobs(metadata=stage.bearer())
    looking = raw_stream(stage.channel, "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo")(
        metadata=stage.bearer()
    )
    await looking.write(b"")
    await looking.read()
    async with asyncio.timeout(10):
        await stage.server.stop(60)
        with pytest.raises(grpc.aio.AioRpcError):
            assert [_status(one) async for one in told] == [health_pb2.HealthCheckResponse.NOT_SERVING]
        for call in (watching, silent, looking):
            assert await call.code() is grpc.StatusCode.UNAVAILABLE


def _status(raw: bytes) -> int:
    return health_pb2.HealthCheckResponse.FromString(raw).status


async def test_the_server_says_what_it_is(stage: Stage) -> None:
    info = await stage.admin.GetServerInfo(admin_service_pb2.GetServerInfoRequest(), metadata=stage.bearer())
    assert info.scheduler_id.startswith("sch_")
    assert (info.store, info.max_message_bytes) == ("memory", 4 * 1024 * 1024)
    await stage.create()
    stats = await stage.admin.GetStats(admin_service_pb2.GetStatsRequest(), metadata=stage.bearer())
    assert (stats.total_count, stats.worker_count) == (1, 0)
    cleaned = await stage.admin.CleanupJobs(admin_service_pb2.CleanupJobsRequest(), metadata=stage.bearer())
    assert cleaned.deleted_count == 0


async def test_tls_where_others_can_reach_the_server(stage: Stage, tmp_path: Path) -> None:
    ca = Authority(tmp_path)
    server = make_server(stage.scheduler, host="localhost", tls=ca.server("localhost").pair)
    await server.start()
    trust = trusting(ca.cert)
    async with grpc.aio.secure_channel(f"localhost:{server.port}", trust) as channel:
        stub = admin_service_pb2_grpc.AdminServiceStub(channel)
        answer = await stub.GetServerInfo(admin_service_pb2.GetServerInfoRequest(), metadata=stage.bearer())
        assert answer.store == "memory"
    async with grpc.aio.insecure_channel(f"localhost:{server.port}") as channel:
        stub = admin_service_pb2_grpc.AdminServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.GetServerInfo(admin_service_pb2.GetServerInfoRequest(), metadata=stage.bearer())
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    await server.stop(0)
