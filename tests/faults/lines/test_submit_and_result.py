"""Lines 1 to 3 of the catalogue: what was submitted, and what came of it, is told once however the network breaks."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import grpc
import pytest

from support.bare_worker import STARTED, result
from support.line import CANCELLED, PAUSED, QUEUED, callers, line
from support.rpc_stage import reason_of
from towpath import Job
from towpath.errors import FailedPrecondition, NotFound
from towpath.v1 import job_pb2, job_service_pb2, worker_service_pb2
from towpath.v1.worker_service_pb2 import Lease

KINDS = pytest.mark.parametrize("kind", ["asyncio", "blocking"])


@KINDS
async def test_line_01_a_create_whose_answer_was_lost_gives_the_same_job(tmp_path: Path, kind: str) -> None:
    async with line(tmp_path) as at, callers(kind, at) as client:

        async def created() -> bool:
            return len(await at.rows()) == 1

        handle = await at.losing_the_answer(client.call("submit", "echo", {"n": 1}), created)
        [row] = await at.rows()
        assert (handle.job_id, row.state) == (row.job_id, job_pb2.JOB_STATE_QUEUED)
        assert at.network.connections == 2


@KINDS
async def test_line_01_a_batch_whose_answer_was_lost_gives_the_same_jobs(tmp_path: Path, kind: str) -> None:
    async with line(tmp_path) as at, callers(kind, at) as client:

        async def created() -> bool:
            return len(await at.rows()) == 200

        made = await at.losing_the_answer(client.create_all(200), created)
        rows = await at.rows()
        assert [job.job_id for job in made] == [job.job_id for job in reversed(rows)]
        assert at.network.connections == 2


VERBS = {
    "cancel": (QUEUED, CANCELLED),
    "pause": (QUEUED, PAUSED),
    "resume": (PAUSED, QUEUED),
    "retry": (CANCELLED, QUEUED),
}


@KINDS
@pytest.mark.parametrize("verb", VERBS)
async def test_line_01_a_verb_whose_answer_was_lost_is_done_once(tmp_path: Path, kind: str, verb: str) -> None:
    before, after = VERBS[verb]
    async with line(tmp_path) as at, callers(kind, at) as client:
        job = await at.stage.create() if before == QUEUED else await at.done(before)

        async def moved() -> bool:
            return (await at.get(job.job_id)).state == after

        ask = await client.seen(job.job_id)
        told: Job = await at.losing_the_answer(ask(verb), moved)
        stored = await at.get(job.job_id)
        assert told == Job.from_proto(stored)
        assert (stored.state, int(stored.etag)) == (after, int(job.etag) + 1)
        assert at.network.connections == 2
        if verb in ("resume", "retry"):
            with pytest.raises(FailedPrecondition) as caught:
                await client.call(verb, job.job_id)
            assert not caught.value.repeated


@KINDS
async def test_line_01_a_retry_whose_answer_was_lost_is_done_once_though_the_job_has_ended_again(
    tmp_path: Path, kind: str
) -> None:
    async with line(tmp_path) as at, callers(kind, at) as client:
        job = await at.done(CANCELLED)

        async def ended_again() -> bool:
            if (await at.get(job.job_id)).state != QUEUED:
                return False
            cancel = job_service_pb2.CancelJobRequest(job_id=job.job_id)
            await at.stage.jobs.CancelJob(cancel, metadata=at.stage.bearer())
            return True

        ask = await client.seen(job.job_id)
        told: Job = await at.losing_the_answer(ask("retry"), ended_again)
        assert (told.state, int(told.etag)) == ("CANCELLED", int(job.etag) + 2)
        assert told == Job.from_proto(await at.get(job.job_id))


@KINDS
async def test_line_01_a_delete_whose_answer_was_lost_is_done_once(tmp_path: Path, kind: str) -> None:
    async with line(tmp_path) as at, callers(kind, at) as client:
        job = await at.done(CANCELLED)

        async def deleted() -> bool:
            return await at.rows() == []

        await at.losing_the_answer(client.call("delete", job.job_id), deleted)
        assert at.network.connections == 2
        with pytest.raises(NotFound) as caught:
            await client.call("delete", job.job_id)
        assert not caught.value.repeated


async def test_line_02_a_request_id_with_another_body_is_refused(tmp_path: Path) -> None:
    def asked(job_type: str) -> job_service_pb2.CreateJobRequest:
        job = job_pb2.Job(custom=job_pb2.CustomSpec(type=job_type))
        return job_service_pb2.CreateJobRequest(job=job, request_id="mine")

    async def refused(call: Awaitable[Any]) -> None:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        assert caught.value.code() is grpc.StatusCode.ALREADY_EXISTS
        assert reason_of(caught.value) == "REQUEST_ID_REUSED"

    async with line(tmp_path) as at:
        who, jobs = at.stage.bearer(), at.stage.jobs
        both = job_service_pb2.BatchCreateJobsRequest(requests=[asked("one"), asked("two")])
        await refused(jobs.BatchCreateJobs(both, metadata=who))
        assert await at.rows() == []
        calls = (jobs.CreateJob(asked(f"type-{number % 2}"), metadata=who) for number in range(20))
        answers = await asyncio.gather(*calls, return_exceptions=True)
        [row] = await at.rows()
        for number, answer in enumerate(answers):
            if f"type-{number % 2}" == row.job_type:
                assert isinstance(answer, job_service_pb2.CreateJobResponse)
                assert answer.job.job_id == row.job_id
            else:
                assert isinstance(answer, grpc.aio.AioRpcError)
                assert answer.code() is grpc.StatusCode.ALREADY_EXISTS
        other = job_service_pb2.BatchCreateJobsRequest(requests=[asked("three")])
        other.requests.add().job.custom.type = "innocent"
        await refused(jobs.BatchCreateJobs(other, metadata=who))
        assert [job.job_id for job in await at.rows()] == [row.job_id]


ABANDON = worker_service_pb2.DIRECTIVE_TYPE_ABANDON


async def test_line_03_a_repeated_result_is_acked_and_an_older_one_superseded(tmp_path: Path) -> None:
    async with line(tmp_path) as at:
        job = await at.stage.create()
        first, second = at.worker(), at.worker()
        await first.register()
        [old] = await first.lease()
        reports = first.stream()
        await reports.tell(old, started=STARTED)
        # The first begins anew and does not name its lease: the job goes to another.
        await first.register()
        await second.register()
        [new] = await second.lease()
        assert (new.job.job_id, new.attempt, new.lease_token != old.lease_token) == (job.job_id, 2, True)
        late, running = first.stream(), second.stream()
        await running.tell(new, started=STARTED)
        await late.tell(old, succeeded=result("stale"))
        order = await late.ordered(ABANDON)
        assert (order.job_id, order.lease_token) == (old.job.job_id, old.lease_token)
        assert (await at.get(job.job_id)).state == job_pb2.JOB_STATE_RUNNING
        await running.tell(new, succeeded=result("true"))
        done = await at.get(job.job_id)
        # Again, on the same stream and on another, and as another result: it is acked, and nothing changes.
        await running.tell(new, succeeded=result("true"))
        again = second.stream()
        await again.tell(new, succeeded=result("another"))
        await late.tell(old, succeeded=result("stale"))
        assert (await late.ordered(ABANDON)).lease_token == old.lease_token
        for stream in (running, again):
            assert await stream.end() is grpc.StatusCode.OK
            assert stream.orders == []
        assert await at.get(job.job_id) == done
        assert (done.state, done.result.custom.value.string_value) == (job_pb2.JOB_STATE_SUCCEEDED, "true")


async def test_line_03_an_empty_token_is_never_valid(tmp_path: Path) -> None:
    failure = job_pb2.Failure(cause=job_pb2.FAILURE_CAUSE_HANDLER, type="E", message="no")
    events: list[dict[str, Any]] = [
        {"started": STARTED},
        {"progress": job_pb2.Progress(percent=1)},
        {"log": worker_service_pb2.LogChunk(text="x", stream=job_service_pb2.LOG_STREAM_STDOUT)},
        {"succeeded": result("forged")},
        {"failed": worker_service_pb2.Failed(failure=failure)},
        {"released": worker_service_pb2.Released()},
    ]
    async with line(tmp_path) as at:
        worker = at.worker(slots=3)
        await worker.register()
        leased = [await at.stage.create(), await at.stage.create()]
        [_, running] = await worker.lease(2)
        reports = worker.stream()
        await reports.tell(running, started=STARTED)
        waiting, paused, over = await at.stage.create(), await at.done(PAUSED), await at.done(CANCELLED)
        jobs = [await at.get(job.job_id) for job in (*leased, waiting, paused, over)]
        assert len({job.state for job in jobs}) == 5
        for job in jobs:
            for event in events:
                stream = worker.stream()
                await stream.say(Lease(job=job_pb2.Job(job_id=job.job_id)), **event)
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await stream.end()
                assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert await at.get(job.job_id) == job
