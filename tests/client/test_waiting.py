"""Waits that go on at the same time share their calls."""

from __future__ import annotations

import asyncio

import grpc
import pytest

from support.fake_jobs import FakeJobs, Refusal, info, value
from towpath import AsyncClient, AsyncJobHandle, JobFailed, errors
from towpath.v1 import job_pb2


async def submitted(client: AsyncClient, count: int) -> list[AsyncJobHandle]:
    return await client.submit_many("echo", ({"n": number} for number in range(count)))


async def parked(jobs: FakeJobs, method: str, count: int = 1) -> None:
    async with asyncio.timeout(30):
        while len(jobs.requests(method)) < count:  # noqa: ASYNC110 - the server runs in threads
            await asyncio.sleep(0.001)


async def test_many_results_take_few_calls(aclient: AsyncClient, jobs: FakeJobs) -> None:
    handles = await submitted(aclient, 300)
    # Nothing is known of this one: it is wanted with its spec, which answers to many do not have.
    by_id = aclient.job(handles[0].job_id)
    results = asyncio.gather(*(handle.result(progress=False) for handle in (*handles, by_id)))
    await parked(jobs, "WaitJobs")
    await parked(jobs, "WaitJob", 2)
    for number, handle in enumerate(handles):
        jobs.finish(handle.job_id, value(number))
    assert await results == [*range(300), 0]
    assert handles[7].job.spec["params"] == {"n": 7}
    assert handles[7].job.result == 7
    assert by_id.job.spec["params"] == {"n": 0}
    assert len(jobs.requests("WaitJob")) == 2
    assert len(jobs.requests("WaitJobs")) < 50


async def test_one_result_is_asked_for_at_once_and_alone(aclient: AsyncClient, jobs: FakeJobs) -> None:
    jobs.run = lambda job: value(1)
    for _ in range(3):
        assert await (await aclient.submit("echo")).result(progress=False) == 1
    assert len(jobs.requests("WaitJob")) == 3
    assert not jobs.requests("WaitJobs")


async def test_each_wait_has_its_own_end(aclient: AsyncClient, jobs: FakeJobs) -> None:
    handles = await submitted(aclient, 5)
    tasks = [asyncio.create_task(handle.result(progress=False)) for handle in handles[:3]]
    # Two that wait for one job, of which one gives up, and one that has no patience.
    same = [asyncio.create_task(handles[2].result(progress=False)) for _ in range(2)]
    hasty = asyncio.create_task(handles[3].result(0.2, progress=False))
    await parked(jobs, "WaitJobs")
    same[0].cancel()
    with pytest.raises(errors.WaitTimeout, match="still QUEUED"):
        await hasty
    jobs.move(handles[1].job_id, job_pb2.JOB_STATE_FAILED, failure=job_pb2.Failure(message="no"))
    with pytest.raises(JobFailed, match="no"):
        await tasks[1]
    for number in (0, 2):
        jobs.finish(handles[number].job_id, value(number))
    assert [await tasks[0], await tasks[2], await same[1]] == [0, 2, 2]
    assert same[0].cancelled()


async def test_what_cannot_be_shared_is_asked_for_alone(aclient: AsyncClient, jobs: FakeJobs) -> None:
    jobs.refusals["WaitJobs"].append(Refusal(grpc.StatusCode.NOT_FOUND, "one is gone", info("JOB_NOT_FOUND")))
    handles = await submitted(aclient, 4)
    # A job of which nothing is known is wanted with its spec.
    handles.append(aclient.job(handles[0].job_id))
    results = asyncio.gather(*(handle.result(progress=False) for handle in handles))
    await parked(jobs, "WaitJob", 5)
    for handle in handles[:4]:
        jobs.finish(handle.job_id, value("done"))
    assert await results == ["done"] * 5


async def test_nobody_asks_for_those_who_are_gone(aclient: AsyncClient, jobs: FakeJobs) -> None:
    handles = await submitted(aclient, 4)
    tasks = [asyncio.create_task(handle.result(progress=False)) for handle in handles]
    await parked(jobs, "WaitJobs")
    tasks[3].cancel()
    for handle in handles[:2]:
        jobs.finish(handle.job_id, value("done"))
    assert [await tasks[0], await tasks[1]] == ["done"] * 2
    await parked(jobs, "WaitJobs", 2)
    assert list(jobs.requests("WaitJobs")[-1].job_ids) == [handles[2].job_id]
    jobs.finish(handles[2].job_id, value("done"))
    assert await tasks[2] == "done"
