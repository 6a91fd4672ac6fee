"""Who may call what: every method, from the descriptors, with every kind of token."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pool
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from support.rpc_stage import Metadata, Stage, raw_answers, raw_stream, raw_unary, status_of
from towpath.v1 import auth_service_pb2, job_service_pb2
from towpath_server.core.records import Role
from towpath_server.rpc import auth
from towpath_server.rpc.server import HEALTH, SERVICES

REFLECTION = "grpc.reflection.v1alpha.ServerReflection"


def methods(*services: str) -> dict[str, Any]:
    pool = descriptor_pool.Default()
    found = [pool.FindServiceByName(name) for name in services]
    return {f"/{service.full_name}/{method.name}": method for service in found for method in service.methods}


OURS = methods(*SERVICES)
WORKER_MAY = {method for method in OURS if "/towpath.v1.WorkerService/" in method} | {
    "/towpath.v1.AuthService/WhoAmI",
    "/towpath.v1.ModelService/ListModels",
    "/towpath.v1.ModelService/GetModel",
    "/towpath.v1.AdminService/GetServerInfo",
}
SUBMITTER_MAY = {method for method in OURS if "/towpath.v1.JobService/" in method} | {
    "/towpath.v1.QueueService/ListQueues",
    "/towpath.v1.QueueService/GetQueue",
    "/towpath.v1.QueueService/PeekQueue",
    "/towpath.v1.FleetService/ListWorkers",
    "/towpath.v1.FleetService/GetWorker",
    "/towpath.v1.AuthService/WhoAmI",
    "/towpath.v1.ModelService/ListModels",
    "/towpath.v1.ModelService/GetModel",
    "/towpath.v1.AdminService/GetServerInfo",
    "/towpath.v1.AdminService/GetStats",
}


async def call(stage: Stage, method: str, metadata: Metadata = (), request: bytes = b"") -> grpc.aio.AioRpcError | None:
    """Call a method with these bytes; the error that comes back."""
    streams = {REFLECTION: True, HEALTH: method.endswith("Watch")}.get(method.split("/")[1])
    described = OURS.get(method)
    answers = streams if described is None else described.server_streaming
    try:
        if described.client_streaming if described is not None else REFLECTION in method:
            stream = raw_stream(stage.channel, method)(iter([request]), metadata=metadata, timeout=5)
            async for _ in stream:
                break
        elif answers:
            async for _ in raw_answers(stage.channel, method)(request, metadata=metadata, timeout=5):
                break
        else:
            await raw_unary(stage.channel, method)(request, metadata=metadata, timeout=5)
    except grpc.aio.AioRpcError as error:
        return error
    return None


def test_the_table_lists_every_method_that_is_served() -> None:
    assert set(OURS) | set(methods(REFLECTION)) == set(auth.ROLES)
    assert set(methods(HEALTH)) == set(auth.OPEN)


def test_the_table_gives_each_role_what_it_is_for() -> None:
    assert all(Role.ADMIN in roles for roles in auth.ROLES.values())
    assert {method for method in OURS if Role.WORKER in auth.ROLES[method]} == WORKER_MAY
    assert {method for method in OURS if Role.SUBMITTER in auth.ROLES[method]} == SUBMITTER_MAY


async def _wrong(stage: Stage) -> dict[str, Metadata]:
    """Metadata without a valid token, of every kind."""
    access = stage.scheduler.access
    revoked, revoked_secret = await access.issue("default", "admin", "revoked", Role.ADMIN)
    await access.revoke(access.authenticate(stage.tokens[Role.ADMIN]), revoked.token_id)
    _, expired_secret = await access.issue("default", "admin", "expired", Role.ADMIN, ttl=-1)
    good = stage.tokens[Role.ADMIN]
    return {
        "none": (),
        "empty": (("authorization", ""),),
        "no scheme": (("authorization", good),),
        "other scheme": (("authorization", f"Basic {good}"),),
        "no secret": (("authorization", "Bearer "),),
        "unknown": (("authorization", "Bearer tow_" + "0" * 64),),
        "longer": (("authorization", f"Bearer {good}0"),),
        "twice": (("authorization", f"Bearer {good}"), ("authorization", f"Bearer {good}")),
        "long": (("authorization", "Bearer " + "x" * 4000),),
        "revoked": (("authorization", f"Bearer {revoked_secret}"),),
        "expired": (("authorization", f"Bearer {expired_secret}"),),
        "other key": (("x-authorization", f"Bearer {good}"),),
    }


async def test_every_kind_of_wrong_token_gets_the_same_denial_everywhere(stage: Stage) -> None:
    wrong = await _wrong(stage)
    denials = set()
    for method in auth.ROLES:
        for metadata in wrong.values():
            error = await call(stage, method, metadata, b"\xff not even a message")
            assert error is not None
            denials.add((error.code(), error.details(), status_of(error).SerializeToString()))
    [(code, details, _)] = denials
    assert code is grpc.StatusCode.UNAUTHENTICATED
    assert "Bearer" in (details or "")


@pytest.mark.parametrize("role", [Role.SUBMITTER, Role.WORKER])
async def test_a_role_may_call_what_is_its_own_and_no_more(stage: Stage, role: Role) -> None:
    for method, roles in auth.ROLES.items():
        # Malformed on purpose: whoever gets past the door hears of that.
        error = await call(stage, method, stage.bearer(role), b"\xff")
        assert error is not None
        allowed = error.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert allowed or error.code() is grpc.StatusCode.PERMISSION_DENIED, (method, error.details())
        assert allowed == (role in roles), method


async def test_health_is_open_to_all(stage: Stage) -> None:
    for service in ("", *SERVICES):
        request = health_pb2.HealthCheckRequest(service=service).SerializeToString()
        answer = await raw_unary(stage.channel, f"/{HEALTH}/Check")(request)
        told = health_pb2.HealthCheckResponse.FromString(answer)
        assert told.status == health_pb2.HealthCheckResponse.SERVING


async def test_a_method_that_is_not_there_is_unimplemented(stage: Stage) -> None:
    error = await call(stage, "/towpath.v1.JobService/Nothing", stage.bearer())
    assert error is not None
    assert error.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_the_caller_is_whose_token_it_is(stage: Stage) -> None:
    for role in Role:
        me = (await stage.auth.WhoAmI(auth_service_pb2.WhoAmIRequest(), metadata=stage.bearer(role))).token
        assert (me.tenant, me.user, me.role) == ("default", "admin", int(role))


async def test_another_tenant_s_job_is_not_there(stage: Stage) -> None:
    job = await stage.create()
    _, secret = await stage.scheduler.access.issue("other", "admin", "other", Role.ADMIN)
    answers = []
    for job_id in (job.job_id, "job_0000000000009"):
        request = job_service_pb2.GetJobRequest(job_id=job_id)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stage.jobs.GetJob(request, metadata=(("authorization", f"Bearer {secret}"),))
        answers.append((caught.value.code(), (caught.value.details() or "").replace(job_id, "")))
    assert answers[0] == answers[1]
    assert answers[0][0] is grpc.StatusCode.NOT_FOUND


async def test_tokens_are_made_listed_and_revoked(stage: Stage) -> None:
    create = auth_service_pb2.CreateTokenRequest(name="ci", role=auth_service_pb2.ROLE_SUBMITTER)
    made = await stage.auth.CreateToken(create, metadata=stage.bearer())
    assert made.token.user == "admin"
    assert not made.token.HasField("expire_time")
    listed = await stage.auth.ListTokens(auth_service_pb2.ListTokensRequest(), metadata=stage.bearer())
    assert listed.tokens[0] == made.token
    assert len(listed.tokens) == 4
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
