"""A siege of a real scheduler, and whether it still stands."""

from __future__ import annotations

import random
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2

from support import processes
from support.fuzzing.ground import bearer, furnish
from support.fuzzing.siege import Metadata, Outcome, Siege
from towpath.v1 import admin_service_pb2, auth_service_pb2, job_pb2, job_service_pb2
from towpath.v1.admin_service_pb2_grpc import AdminServiceStub
from towpath.v1.auth_service_pb2_grpc import AuthServiceStub
from towpath.v1.job_service_pb2_grpc import JobServiceStub

# Requests with one set of jobs, workers and tokens to name: they wear out. One round of ten comes without a token.
ROUND = 500
# What must not be in the log: a mistake of the scheduler's own, or something that Python complains of by itself.
MISTAKES = re.compile(r"rpc_failed|Traceback|never awaited|never retrieved|Exception ignored|\[(?:error|critical) ")
QUOTAS = frozenset({"SetQuota", "DeleteQuota"})
NOBODY = (("authorization", "Bearer tow_" + "0" * 64),)


async def besiege(at: processes.Scheduler, folder: Path, seed: int, count: int) -> Outcome:
    """Send so many broken requests, then see that it goes on and that its log tells of no mistake."""
    rng, outcome = random.Random(seed), Outcome(seed)
    me = bearer(at.token)
    async with grpc.aio.insecure_channel(at.address) as channel:
        for number in range(0, count, ROUND):
            words = await furnish(channel, me)
            victim = await admin_of_another_tenant(channel, me)
            aside = dict.fromkeys(("RotateToken", *QUOTAS), bearer(victim))
            aside["EnrollWorker"] = bearer(await invitation(channel, me))
            siege = Siege(channel, me, words, (folder,), aside)
            some = min(ROUND, count - number)
            unknown = Siege(channel, rng.choice((NOBODY, ())), words, (folder,))
            await siege.lay(outcome, rng, some - some // 10)
            await unknown.lay(outcome, rng, some // 10, admitted=False)
        # What is set here holds for all calls that follow.
        await Siege(channel, me, words, (folder,), only=QUOTAS).lay(outcome, rng, ROUND // 10)
        await without_quotas(channel, me)
        await goes_on(at, channel)
    log = (folder / "towpath_server.log").read_text(encoding="utf-8")
    assert not MISTAKES.search(log), f"{outcome}\n{log[-5000:]}"
    return outcome


async def admin_of_another_tenant(channel: grpc.aio.Channel, me: Metadata) -> str:
    """The secret of somebody who may do much, but nothing that ends the siege."""
    auth: Any = AuthServiceStub(channel)
    request = auth_service_pb2.CreateTokenRequest(name="x", role=auth_service_pb2.ROLE_ADMIN, tenant="another")
    return str((await auth.CreateToken(request, metadata=me)).secret)


async def invitation(channel: grpc.aio.Channel, me: Metadata) -> str:
    """The secret of an invitation."""
    auth: Any = AuthServiceStub(channel)
    request = auth_service_pb2.CreateEnrollmentTokenRequest(name="x")
    return str((await auth.CreateEnrollmentToken(request, metadata=me)).secret)


async def without_quotas(channel: grpc.aio.Channel, me: Metadata) -> None:
    """Take all quotas away."""
    admin: Any = AdminServiceStub(channel)
    for tenant in ("", "default", "another"):
        for user in ("", "somebody", "admin"):
            request = admin_service_pb2.DeleteQuotaRequest(tenant=tenant, user=user)
            # Most of them are not there.
            with suppress(grpc.aio.AioRpcError):
                await admin.DeleteQuota(request, metadata=me)


async def goes_on(at: processes.Scheduler, channel: grpc.aio.Channel) -> None:
    """See that the scheduler lives, is healthy, and takes a job."""
    assert at.process.poll() is None
    asked = health_pb2.HealthCheckRequest().SerializeToString()
    check: Any = channel.unary_unary("/grpc.health.v1.Health/Check")
    said = await check(asked, timeout=30)
    assert health_pb2.HealthCheckResponse.FromString(said).status == health_pb2.HealthCheckResponse.SERVING
    admin: Any = AdminServiceStub(channel)
    jobs: Any = JobServiceStub(channel)
    me = bearer(at.token)
    assert (await admin.GetServerInfo(admin_service_pb2.GetServerInfoRequest(), metadata=me, timeout=30)).scheduler_id
    job = job_pb2.Job(custom=job_pb2.CustomSpec(type="echo"))
    made = await jobs.CreateJob(job_service_pb2.CreateJobRequest(job=job), metadata=me, timeout=30)
    assert made.job.state == job_pb2.JOB_STATE_QUEUED
