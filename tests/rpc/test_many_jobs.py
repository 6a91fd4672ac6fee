"""Calls on many jobs at once: watches that carry results, waiting for the first of some, cancelling some."""

from __future__ import annotations

import asyncio

import grpc
import pytest
from google.protobuf import struct_pb2

from support.bare_worker import BareWorker
from support.rpc_stage import Stage, reason_of
from support.stage import settled
from towpath.v1 import job_pb2
from towpath.v1.job_service_pb2 import (
    BatchCancelJobsRequest,
    BatchCreateJobsRequest,
    CreateJobRequest,
    GetJobRequest,
    ListJobsRequest,
    WaitJobsRequest,
    WatchJobsRequest,
    WatchJobsResponse,
)
from towpath.v1.worker_service_pb2 import Succeeded
from towpath_server.core.evolve import evolve
from towpath_server.core.job import UNBORN
from towpath_server.core.records import Role
from towpath_server.scheduler import follow, watchers

FINAL = [job_pb2.JOB_STATE_SUCCEEDED, job_pb2.JOB_STATE_FAILED, job_pb2.JOB_STATE_CANCELLED]
BASIC, FULL, RESULT = job_pb2.JOB_VIEW_BASIC, job_pb2.JOB_VIEW_FULL, job_pb2.JOB_VIEW_RESULT


def job_of(number: int) -> job_pb2.Job:
    job = job_pb2.Job(custom=job_pb2.CustomSpec(type="echo"))
    job.custom.params["n"] = number
    return job


async def created(stage: Stage, count: int) -> list[str]:
    request = BatchCreateJobsRequest(requests=[CreateJobRequest(job=job_of(number)) for number in range(count)])
    return [job.job_id for job in (await stage.jobs.BatchCreateJobs(request, metadata=stage.bearer())).jobs]


async def done(stage: Stage, count: int) -> None:
    """A worker does so many jobs: the result is what it was given."""
    worker = BareWorker(stage.channel, stage.bearer(), slots=count)
    await worker.register()
    stream = worker.stream()
    left = count
    while left:
        leases = await worker.lease()
        left -= len(leases)
        for lease in leases:
            result = job_pb2.JobResult()
            result.custom.value.CopyFrom(lease.job.custom.params.fields["n"])
            await stream.tell(lease, succeeded=Succeeded(result=result))
    await worker.leave()


async def told(
    stage: Stage, view: job_pb2.JobView.ValueType, count: int, from_sequence: int, ready: asyncio.Event
) -> list[job_pb2.Job]:
    request = WatchJobsRequest(view=view, from_sequence=from_sequence)
    request.filter.states.extend(FINAL)
    watch = stage.jobs.WatchJobs(request, metadata=stage.bearer())
    jobs: list[job_pb2.Job] = []
    answer: WatchJobsResponse
    async for answer in watch:
        ready.set()
        jobs.extend(event.job for event in answer.events)
        if len(jobs) == count:
            break
    watch.cancel()
    return jobs


async def watched(stage: Stage, view: job_pb2.JobView.ValueType, count: int) -> list[job_pb2.Job]:
    """The ends of so many jobs, as a watch tells them that stands before they begin."""
    ready = asyncio.Event()
    watching = asyncio.create_task(told(stage, view, count, 0, ready))
    await ready.wait()
    await created(stage, count)
    await done(stage, count)
    return await watching


def shape(jobs: list[job_pb2.Job]) -> set[tuple[str | None, bool]]:
    return {(job.WhichOneof("spec"), job.HasField("result")) for job in jobs}


@pytest.mark.parametrize(
    ("view", "seen"),
    [
        (BASIC, (None, False)),
        (job_pb2.JOB_VIEW_UNSPECIFIED, (None, False)),
        (RESULT, (None, True)),
        (FULL, ("custom", True)),
    ],
)
async def test_a_watch_tells_ends_only_and_as_much_as_is_wanted(
    stage: Stage, view: job_pb2.JobView.ValueType, seen: tuple[str | None, bool]
) -> None:
    jobs = await watched(stage, view, 3)
    assert shape(jobs) == {seen}
    assert {job.state for job in jobs} == {job_pb2.JOB_STATE_SUCCEEDED}
    # The same from the store, after a break.
    again = await told(stage, view, 3, 1, asyncio.Event())
    assert sorted(again, key=lambda job: job.job_id) == sorted(jobs, key=lambda job: job.job_id)
    if view == RESULT:
        assert sorted(job.result.custom.value.number_value for job in jobs) == [0, 1, 2]


async def test_what_a_watch_has_no_room_for_is_left_out(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchers, "MOST_BYTES", 1)
    jobs = await watched(stage, FULL, 3)
    assert shape(jobs) == {(None, False)}
    spec, result = job_of(1), job_pb2.JobResult(custom=job_pb2.CustomResult(value=struct_pb2.Value(number_value=1)))
    monkeypatch.setattr(follow, "MOST_BYTES", (spec.ByteSize() + result.ByteSize()) * 3 // 2)
    again = await told(stage, FULL, 3, 1, asyncio.Event())
    assert sorted(job.HasField("result") for job in again) == [False, False, True]


async def test_a_watch_has_room_again_once_its_jobs_are_taken() -> None:
    job = evolve(UNBORN, result=b"x" * 10)
    watch = watchers.Watch(lambda job: True, 15)
    assert [watch.takes_whole(job) for _ in range(2)] == [True, False]
    watch.tell(job)
    assert await watch.next() == [job]
    assert [watch.takes_whole(job) for _ in range(2)] == [True, False]
    watch.forget()
    assert watch.takes_whole(job)


@pytest.mark.parametrize(("view", "seen"), [(RESULT, (None, True)), (FULL, ("custom", True))])
async def test_views_are_the_same_for_one_job_and_for_lists(
    stage: Stage, view: job_pb2.JobView.ValueType, seen: tuple[str | None, bool]
) -> None:
    [job_id] = await created(stage, 1)
    await done(stage, 1)
    [first] = (await stage.jobs.ListJobs(ListJobsRequest(view=view), metadata=stage.bearer())).jobs
    one = (await stage.jobs.GetJob(GetJobRequest(job_id=job_id, view=view), metadata=stage.bearer())).job
    assert first == one
    assert shape([one]) == {seen}


async def test_a_wait_for_some_jobs_ends_with_the_first(stage: Stage) -> None:
    job_ids = await created(stage, 3)
    request = WaitJobsRequest(job_ids=job_ids)
    request.wait_timeout.FromMilliseconds(1)
    assert not (await stage.jobs.WaitJobs(request, metadata=stage.bearer())).jobs
    waiting = stage.jobs.WaitJobs(WaitJobsRequest(job_ids=job_ids), metadata=stage.bearer())
    known = stage.scheduler.jobs._state.watchers._by_job
    await settled(lambda: len(known) == 3)
    await done(stage, 1)
    [first] = (await waiting).jobs
    assert first.job_id == job_ids[0]
    assert first.result.custom.value.number_value == 0
    await done(stage, 2)
    # All that are over by now, those of before too.
    over = (await stage.jobs.WaitJobs(request, metadata=stage.bearer())).jobs
    assert [job.job_id for job in over] == job_ids
    request.job_ids.append("job_0000000000000")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stage.jobs.WaitJobs(request, metadata=stage.bearer())
    assert reason_of(caught.value) == "JOB_NOT_FOUND"
    # Nothing is left of those who waited.
    assert not known


async def test_many_are_cancelled_in_one_call(stage: Stage) -> None:
    over, *waiting = await created(stage, 4)
    await done(stage, 1)
    request = BatchCancelJobsRequest(job_ids=[waiting[0], "job_0000000000000", over, waiting[1]], reason="no need")
    jobs = (await stage.jobs.BatchCancelJobs(request, metadata=stage.bearer())).jobs
    assert [(job.job_id, job.state, job.state_reason) for job in jobs] == [
        (waiting[0], job_pb2.JOB_STATE_CANCELLED, "no need"),
        (over, job_pb2.JOB_STATE_SUCCEEDED, ""),
        (waiting[1], job_pb2.JOB_STATE_CANCELLED, "no need"),
    ]
    left = (await stage.jobs.GetJob(GetJobRequest(job_id=waiting[2]), metadata=stage.bearer())).job
    assert left.state == job_pb2.JOB_STATE_QUEUED
    _, token = await stage.scheduler.access.issue("default", "somebody", "other", Role.SUBMITTER)
    request = BatchCancelJobsRequest(job_ids=[waiting[2]])
    other = (("authorization", f"Bearer {token}"),)
    assert not (await stage.jobs.BatchCancelJobs(request, metadata=other)).jobs
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stage.jobs.BatchCancelJobs(BatchCancelJobsRequest(), metadata=stage.bearer())
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
