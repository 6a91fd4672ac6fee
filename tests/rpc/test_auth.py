"""Who calls, and what becomes of calls whose token is revoked."""

from __future__ import annotations

import grpc
import pytest
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from support.rpc_stage import Stage, raw_stream, raw_unary
from towpath.v1 import auth_service_pb2, job_service_pb2
from towpath_server.core.records import Role
from towpath_server.rpc import auth
from towpath_server.rpc.server import HEALTH, SERVICES

REFLECTION = "grpc.reflection.v1alpha.ServerReflection"


async def test_health_is_open_to_all(stage: Stage) -> None:
    for service in ("", *SERVICES):
        request = health_pb2.HealthCheckRequest(service=service).SerializeToString()
        answer = await raw_unary(stage.channel, f"/{HEALTH}/Check")(request)
        told = health_pb2.HealthCheckResponse.FromString(answer)
        assert told.status == health_pb2.HealthCheckResponse.SERVING


async def test_a_method_that_is_not_there_is_unimplemented(stage: Stage) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await raw_unary(stage.channel, "/towpath.v1.JobService/Nothing")(b"", metadata=stage.bearer())
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_the_caller_is_whose_token_it_is(stage: Stage) -> None:
    for role in set(Role) - {Role.ENROLLMENT}:
        me = (await stage.auth.WhoAmI(auth_service_pb2.WhoAmIRequest(), metadata=stage.bearer(role))).token
        assert (me.tenant, me.user, me.role) == ("default", "admin", int(role))


@pytest.mark.parametrize(
    ("peer", "shown"),
    [
        ("ipv4:203.0.113.7:51234", "203.0.113.7:51234"),
        ("ipv6:%5B2001:db8::7%5D:51234", "[2001:db8::7]:51234"),
        ("unix:/run/towpath.sock", "unix:/run/towpath.sock"),
        ("unix:/tmp/a\nb\x1b[2J\u202e", "unix:/tmp/a?b?[2J?"),
        ("", ""),
        ("unix:" + "x" * 999, "unix:" + "x" * 195),
    ],
)
def test_where_a_call_comes_from_is_told_on_one_line(peer: str, shown: str) -> None:
    assert auth.origin(peer) == shown


async def test_tokens_are_made_listed_and_revoked(stage: Stage) -> None:
    create = auth_service_pb2.CreateTokenRequest(name="ci", role=auth_service_pb2.ROLE_SUBMITTER)
    made = await stage.auth.CreateToken(create, metadata=stage.bearer())
    assert made.token.user == "admin"
    assert not made.token.HasField("expire_time")
    listed = await stage.auth.ListTokens(auth_service_pb2.ListTokensRequest(), metadata=stage.bearer())
    assert listed.tokens[0] == made.token
    assert len(listed.tokens) == len(Role) + 1
    own = (("authorization", f"Bearer {made.secret}"),)
    watch = aiter(stage.jobs.WatchJobs(job_service_pb2.WatchJobsRequest(), metadata=own))
    await anext(watch)
    revoke = auth_service_pb2.RevokeTokenRequest(token_id=made.token.token_id)
    assert (await stage.auth.RevokeToken(revoke, metadata=stage.bearer())).token.HasField("revoke_time")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await anext(watch)
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_a_call_that_waits_ends_when_its_token_is_revoked(stage: Stage) -> None:
    job = await stage.create()
    _, secret = await stage.scheduler.access.issue("default", "admin", "x", Role.SUBMITTER)
    waiting = stage.jobs.WaitJob(
        job_service_pb2.WaitJobRequest(job_id=job.job_id), metadata=(("authorization", f"Bearer {secret}"),)
    )
    watch = aiter(stage.jobs.WatchJobs(job_service_pb2.WatchJobsRequest(), metadata=stage.bearer()))
    await anext(watch)
    listed = await stage.auth.ListTokens(auth_service_pb2.ListTokensRequest(), metadata=stage.bearer())
    revoke = auth_service_pb2.RevokeTokenRequest(token_id=listed.tokens[0].token_id)
    await stage.auth.RevokeToken(revoke, metadata=stage.bearer())
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await waiting
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    await stage.create()
    assert (await anext(watch)).events


async def test_reflection_lists_every_service(stage: Stage) -> None:
    ask = reflection_pb2.ServerReflectionRequest(list_services="").SerializeToString()
    reflect = raw_stream(stage.channel, f"/{REFLECTION}/ServerReflectionInfo")
    answer = await anext(aiter(reflect(iter([ask]), metadata=stage.bearer(Role.WORKER))))
    services = reflection_pb2.ServerReflectionResponse.FromString(answer).list_services_response.service
    assert {one.name for one in services} == {*SERVICES, HEALTH, REFLECTION}
