"""Quotas over the wire: who may set them, what they refuse, and when to come again."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import grpc
import grpc.aio
import pytest
from google.rpc import error_details_pb2, status_pb2
from typer.testing import CliRunner, Result

from support.rpc_stage import Metadata, Stage, raw_unary, reason_of, stage, status_of
from towpath import AsyncClient, QuotaExceeded
from towpath.cli.app import app
from towpath.cli.exit_codes import ExitCode
from towpath.v1 import admin_service_pb2 as pb
from towpath.v1 import auth_service_pb2, job_pb2, job_service_pb2
from towpath_server.core.ids import show
from towpath_server.core.records import Role


async def token(of: Stage, tenant: str, user: str, role: Role = Role.ADMIN) -> Metadata:
    _, secret = await of.scheduler.access.issue(tenant, user, "quota", role)
    return (("authorization", f"Bearer {secret}"),)


async def limit(of: Stage, tenant: str, user: str = "", **limits: int) -> None:
    quota = pb.Quota(tenant=tenant, user=user, **limits)
    made = await of.admin.SetQuota(pb.SetQuotaRequest(quota=quota), metadata=of.bearer())
    assert made.quota == quota


def retry_of(status: status_pb2.Status) -> timedelta:
    retry = error_details_pb2.RetryInfo()
    assert any(detail.Unpack(retry) for detail in status.details)
    return timedelta(microseconds=retry.retry_delay.ToMicroseconds())


def create() -> job_service_pb2.CreateJobRequest:
    return job_service_pb2.CreateJobRequest(job=job_pb2.Job(custom=job_pb2.CustomSpec(type="echo")))


async def test_a_full_quota_says_what_to_do_and_when_to_come_again() -> None:
    async with stage() as of:
        who = await token(of, "acme", "ada")
        await limit(of, "acme", "ada", max_queued=2)
        await of.jobs.CreateJob(create(), metadata=who)
        batch = job_service_pb2.BatchCreateJobsRequest(requests=[create()] * 2)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await of.jobs.BatchCreateJobs(batch, metadata=who)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert reason_of(caught.value) == "QUOTA_EXCEEDED"
        status = status_of(caught.value)
        assert retry_of(status) == timedelta(seconds=5)
        assert "ask an admin" in status.message
        # None of the batch was made, and others are not concerned.
        await of.jobs.CreateJob(create(), metadata=who)
        await of.jobs.BatchCreateJobs(batch, metadata=await token(of, "acme", "bob"))
        shown = (await of.admin.ListQuotas(pb.ListQuotasRequest(), metadata=who)).quotas
        assert [(one.quota.user, one.quota.max_queued, one.queued_count) for one in shown] == [("ada", 2, 2)]
        assert not shown[0].quota.HasField("max_running")


async def test_too_many_calls_are_told_exactly_how_long_to_wait() -> None:
    async with stage() as of:
        who = await token(of, "acme", "ada")
        await limit(of, "acme", "ada", max_requests_per_minute=10)
        whoami = auth_service_pb2.WhoAmIRequest()
        await of.auth.WhoAmI(whoami, metadata=who)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await of.auth.WhoAmI(whoami, metadata=who)
        assert reason_of(caught.value) == "RATE_EXCEEDED"
        assert timedelta(seconds=5) < retry_of(status_of(caught.value)) <= timedelta(seconds=6)
        # It was not even parsed.
        raw = raw_unary(of.channel, "/towpath.v1.JobService/GetJob")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await raw(b"\xff", metadata=who)
        assert reason_of(caught.value) == "RATE_EXCEEDED"
        watch = of.jobs.WatchJobs(job_service_pb2.WatchJobsRequest(), metadata=who)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await anext(aiter(watch))
        assert reason_of(caught.value) == "RATE_EXCEEDED"


async def test_a_quota_of_calls_leaves_the_ways_out_open() -> None:
    async with stage() as of:
        await limit(of, "default", max_requests_per_minute=0)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await of.jobs.CreateJob(create(), metadata=of.bearer())
        assert retry_of(status_of(caught.value)) == timedelta(minutes=1)
        made, _ = await of.scheduler.access.issue("default", "admin", "leaked", Role.SUBMITTER)
        shown = auth_service_pb2.RevokeTokenRequest(token_id=show("tok", made.token_id))
        await of.auth.RevokeToken(shown, metadata=of.bearer())
        # Who works goes on, and the quota can be taken away again.
        session = await of.register()
        assert session.worker_id
        await of.admin.DeleteQuota(pb.DeleteQuotaRequest(tenant="default"), metadata=of.bearer())
        await of.jobs.CreateJob(create(), metadata=of.bearer())


async def test_a_client_waits_for_its_turn_and_raises_where_only_work_helps() -> None:
    async with stage() as of, AsyncClient(of.address, of.tokens[Role.ADMIN]) as client:
        who = dict(await token(of, "acme", "ada"))["authorization"].removeprefix("Bearer ")
        async with AsyncClient(of.address, who) as ada:
            await client.set_quota("acme", "ada", max_requests_per_minute=600, max_queued=60)
            # The first 60 come at once: the last one of these has to wait a tenth of a second.
            for _ in range(61):
                await ada.whoami()
            await client.set_quota("acme", "ada", max_queued=0)
            with pytest.raises(QuotaExceeded, match="User ada may have at most 0 jobs that wait") as caught:
                await ada.submit("echo")
            assert caught.value.retry_after == 5.0
        [use] = await client.quotas()
        assert (use.quota.tenant, use.quota.max_queued, use.quota.max_running) == ("acme", 0, None)
        await client.delete_quota("acme", "ada")
        assert await client.quotas() == []


async def test_the_command_line_sets_shows_and_deletes(tmp_path: Path) -> None:
    async with stage() as of:
        files = {"root": of.tokens[Role.ADMIN], "ada": dict(await token(of, "acme", "ada"))["authorization"][7:]}
        for name, secret in files.items():
            (tmp_path / name).write_text(secret)

        async def run(who: str, *words: str) -> Result:
            environment = {"TOWPATH_ADDRESS": of.address, "TOWPATH_TOKEN_FILE": str(tmp_path / who)}
            return await asyncio.to_thread(CliRunner().invoke, app, ["quotas", *words], env=environment)

        assert "No quotas" in (await run("root", "list")).stderr
        made = await run("root", "set", "acme", "--queued", "10000", "--running", "5")
        assert made.stdout == "All of acme together: max queued 10,000, max running 5\n"
        made = await run("root", "set", "--log-bytes", "1000000")
        assert made.stdout == "Each tenant without a quota of its own: max log bytes 1,000,000\n"
        await run("root", "set", "acme", "--user", "ada", "--requests", "600")
        shown = [line.split() for line in (await run("root", "list")).stdout.splitlines()]
        assert shown[1:] == [
            ["(each", "other)", "(all)", "-", "-", "-", "-", "1,000,000"],
            ["acme", "(all)", "0", "of", "10,000", "0", "of", "5", "-", "-", "-"],
            ["acme", "ada", "-", "-", "600", "-", "-"],
        ]
        assert len((await run("ada", "list")).stdout.splitlines()) == 3
        denied = await run("ada", "set", "acme", "--queued", "1")
        assert (denied.exit_code, denied.stdout) == (ExitCode.AUTH, "")
        assert "only admins of the tenant default may" in denied.stderr
        nothing = await run("root", "set", "acme")
        assert nothing.exit_code == ExitCode.USAGE
        assert (await run("root", "delete", "acme", "--user", "ada")).stdout == "ada of acme: no quota any more\n"
        assert "No quota of ada of acme" in (await run("root", "delete", "acme", "--user", "ada")).stderr
