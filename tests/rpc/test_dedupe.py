"""Dedupe keys over a socket: what the wire says, what the client and the command line make of it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from typer.testing import CliRunner, Result

from support.rpc_stage import Stage, info_of, reason_of, status_of, violations_of
from towpath import AsyncClient, ConflictPolicy, DedupeConflict, JobState
from towpath.cli.app import app
from towpath.cli.exit_codes import ExitCode
from towpath.v1 import job_pb2, job_service_pb2
from towpath_server.core.records import Role


def request(
    key: str = "k", policy: job_pb2.ConflictPolicy.ValueType = job_pb2.CONFLICT_POLICY_UNSPECIFIED
) -> job_service_pb2.CreateJobRequest:
    job = job_pb2.Job(custom=job_pb2.CustomSpec(type="echo"), dedupe_key=key, conflict_policy=policy)
    return job_service_pb2.CreateJobRequest(job=job)


async def create(
    stage: Stage, policy: job_pb2.ConflictPolicy.ValueType = job_pb2.CONFLICT_POLICY_UNSPECIFIED
) -> job_pb2.Job:
    return (await stage.jobs.CreateJob(request(policy=policy), metadata=stage.bearer())).job


@pytest.mark.parametrize("policy", [job_pb2.CONFLICT_POLICY_UNSPECIFIED, job_pb2.CONFLICT_POLICY_REJECT])
async def test_a_conflict_names_the_other_job(stage: Stage, policy: job_pb2.ConflictPolicy.ValueType) -> None:
    first = await create(stage)
    assert (first.dedupe_key, first.conflict_policy) == ("k", job_pb2.CONFLICT_POLICY_UNSPECIFIED)
    batch = job_service_pb2.BatchCreateJobsRequest(requests=[request("free"), request("k", policy)])
    for call in (
        stage.jobs.CreateJob(request("k", policy), metadata=stage.bearer()),
        stage.jobs.BatchCreateJobs(batch, metadata=stage.bearer()),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        assert caught.value.code() is grpc.StatusCode.ALREADY_EXISTS
        assert reason_of(caught.value) == "DEDUPE_CONFLICT"
        metadata = dict(info_of(status_of(caught.value)).metadata)
        assert metadata == {"job_id": first.job_id, "dedupe_key": "k"}
        assert first.job_id in (caught.value.details() or "")
    listed = await stage.jobs.ListJobs(job_service_pb2.ListJobsRequest(), metadata=stage.bearer())
    assert [job.job_id for job in listed.jobs] == [first.job_id]


async def test_the_existing_job_comes_back_unchanged(stage: Stage) -> None:
    first = await create(stage)
    assert await create(stage, job_pb2.CONFLICT_POLICY_RETURN_EXISTING) == first


async def test_the_replaced_job_says_by_which(stage: Stage) -> None:
    first = await create(stage)
    second = await create(stage, job_pb2.CONFLICT_POLICY_REPLACE)
    seen = (await stage.jobs.GetJob(job_service_pb2.GetJobRequest(job_id=first.job_id), metadata=stage.bearer())).job
    assert (seen.state, seen.state_reason) == (job_pb2.JOB_STATE_CANCELLED, f"replaced by {second.job_id}")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stage.jobs.RetryJob(job_service_pb2.RetryJobRequest(job_id=first.job_id), metadata=stage.bearer())
    assert caught.value.code() is grpc.StatusCode.ALREADY_EXISTS
    assert info_of(status_of(caught.value)).metadata["job_id"] == second.job_id


async def test_what_contradicts_itself_is_an_invalid_argument(stage: Stage) -> None:
    twice = job_service_pb2.BatchCreateJobsRequest(requests=[request("a"), request("b"), request("a")])
    no_key = request("", job_pb2.CONFLICT_POLICY_REPLACE)
    for call, field in (
        (stage.jobs.BatchCreateJobs(twice, metadata=stage.bearer()), "requests[2].job.dedupe_key"),
        (stage.jobs.CreateJob(no_key, metadata=stage.bearer()), "job.conflict_policy"),
        (stage.jobs.CreateJob(request("k" * 201), metadata=stage.bearer()), "job.dedupe_key"),
        (stage.jobs.CreateJob(request("a\0b"), metadata=stage.bearer()), "job.dedupe_key"),
        (stage.jobs.CreateJob(request("k", 9), metadata=stage.bearer()), "job.conflict_policy"),  # type: ignore[arg-type]
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert list(violations_of(status_of(caught.value))) == [field]
    listed = await stage.jobs.ListJobs(job_service_pb2.ListJobsRequest(), metadata=stage.bearer())
    assert not listed.jobs


@pytest.mark.parametrize("path", ["dedupe_key", "conflict_policy"])
async def test_the_key_cannot_be_changed(stage: Stage, path: str) -> None:
    first = await create(stage)
    changed = job_pb2.Job(job_id=first.job_id, dedupe_key="other")
    update = job_service_pb2.UpdateJobRequest(job=changed, update_mask=FieldMask(paths=[path]))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stage.jobs.UpdateJob(update, metadata=stage.bearer())
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    update = job_service_pb2.UpdateJobRequest(
        job=job_pb2.Job(job_id=first.job_id, labels={"a": "b"}), update_mask=FieldMask(paths=["labels"])
    )
    assert (await stage.jobs.UpdateJob(update, metadata=stage.bearer())).job.dedupe_key == "k"


async def test_the_client_submits_with_a_key(stage: Stage) -> None:
    async with AsyncClient(stage.address, stage.tokens[Role.SUBMITTER]) as client:
        first = await client.submit("echo", dedupe_key="nightly")
        with pytest.raises(DedupeConflict, match=first.job_id) as caught:
            await client.submit("echo", dedupe_key="nightly", on_conflict="reject")
        assert (caught.value.job_id, caught.value.reason) == (first.job_id, "DEDUPE_CONFLICT")
        same = await client.list_models(dedupe_key="nightly", on_conflict=ConflictPolicy.RETURN_EXISTING)
        assert same.job_id == first.job_id
        assert (await same.refresh()).dedupe_key == "nightly"
        second = await client.train("flights.csv", "late", dedupe_key="nightly", on_conflict="replace")
        assert (await first.refresh()).state == JobState.CANCELLED
        assert (await second.refresh()).state == JobState.QUEUED
        with pytest.raises(DedupeConflict):
            await first.retry()


async def test_the_command_line_submits_with_a_key(stage: Stage, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(stage.tokens[Role.SUBMITTER])
    environment = {"TOWPATH_ADDRESS": stage.address, "TOWPATH_TOKEN_FILE": str(tmp_path / "token")}

    async def towpath(*words: str) -> Result:
        return await asyncio.to_thread(CliRunner().invoke, app, list(words), env=environment)

    first = (await towpath("submit", "echo", "--dedupe-key", "nightly")).stdout.strip()
    refused = await towpath("submit", "echo", "--dedupe-key", "nightly")
    assert refused.exit_code == ExitCode.REFUSED
    assert first in refused.stderr
    assert "nightly" in refused.stderr
    again = ("--dedupe-key", "nightly", "--on-conflict", "return_existing")
    assert (await towpath("submit", "echo", *again)).stdout.strip() == first
    replaced = ("--dedupe-key", "nightly", "--on-conflict", "replace", "--no-wait")
    second = (await towpath("train", "flights.csv", "--target", "late", *replaced)).stdout.strip()
    shown = (await towpath("jobs", "get", first)).stdout
    assert "dedupe key" in shown
    assert f"replaced by {second}" in shown
    assert json.loads((await towpath("jobs", "get", second, "--json")).stdout)["dedupe_key"] == "nightly"
