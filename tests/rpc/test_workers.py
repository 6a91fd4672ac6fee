"""WorkerService over a socket: sessions, leases, and the stream of reports."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from support.rpc_stage import Stage, raw_stream, reason_of, status_of, violations_of
from towpath.v1 import (
    fleet_service_pb2,
    job_pb2,
    job_service_pb2,
    model_pb2,
    model_service_pb2,
    worker_pb2,
    worker_service_pb2,
)

Session = worker_service_pb2.RegisterWorkerResponse


class Talk:
    """A report stream as a worker holds it."""

    def __init__(self, stage: Stage, session: Session) -> None:
        self._stream = stage.workers.ReportJobs(metadata=stage.bearer())
        self._session = session

    async def say(self, *reports: worker_service_pb2.Report) -> None:
        await self._stream.write(
            worker_service_pb2.ReportJobsRequest(
                worker_id=self._session.worker_id, session_id=self._session.session_id, reports=reports
            )
        )

    async def hear(self) -> worker_service_pb2.ReportJobsResponse:
        answer = await self._stream.read()
        assert isinstance(answer, worker_service_pb2.ReportJobsResponse), await self._stream.code()
        return answer

    async def acked(self, sequence: int) -> None:
        """Wait until all is on disk up to there."""
        while (await self.hear()).acked_sequence < sequence:
            pass

    async def end(self) -> grpc.StatusCode:
        await self._stream.done_writing()
        while await self._stream.read() is not grpc.aio.EOF:
            pass
        return await self._stream.code()

    def break_off(self) -> None:
        self._stream.cancel()


def about(lease: worker_service_pb2.Lease, sequence: int, **event: Any) -> worker_service_pb2.Report:
    return worker_service_pb2.Report(sequence=sequence, job_id=lease.job.job_id, lease_token=lease.lease_token, **event)


STARTED = worker_service_pb2.Started()


def result(value: str) -> worker_service_pb2.Succeeded:
    succeeded = worker_service_pb2.Succeeded()
    succeeded.result.custom.value.string_value = value
    return succeeded


async def get(stage: Stage, job_id: str) -> job_pb2.Job:
    return (await stage.jobs.GetJob(job_service_pb2.GetJobRequest(job_id=job_id), metadata=stage.bearer())).job


async def test_a_job_travels_from_submitter_to_worker_and_back(stage: Stage) -> None:
    session = await stage.register()
    job = await stage.create(labels={"a": "b"})
    [lease] = await stage.lease(session)
    assert (lease.job.job_id, lease.attempt, lease.job.custom.type) == (job.job_id, 1, "echo")
    assert await stage.lease(session) == [lease]
    talk = Talk(stage, session)
    progress = job_pb2.Progress(percent=40, phase="fit", metrics={"loss": 0.5, "bad": float("nan")})
    log = worker_service_pb2.LogChunk(text="hello\n", stream=job_service_pb2.LOG_STREAM_STDOUT)
    await talk.say(about(lease, 1, started=STARTED), about(lease, 2, progress=progress), about(lease, 3, log=log))
    await talk.acked(3)
    running = await get(stage, job.job_id)
    assert running.state == job_pb2.JOB_STATE_RUNNING
    assert (running.progress.percent, dict(running.progress.metrics)) == (40, {"loss": 0.5})
    await talk.say(about(lease, 4, succeeded=result("done")))
    assert await talk.end() is grpc.StatusCode.OK
    done = await get(stage, job.job_id)
    assert done.state == job_pb2.JOB_STATE_SUCCEEDED
    assert done.result.custom.value.string_value == "done"
    assert (done.worker_id, done.attempt_count) == (session.worker_id, 1)
    request = job_service_pb2.StreamJobLogsRequest(job_id=job.job_id)
    logs = [chunk async for chunk in stage.jobs.StreamJobLogs(request, metadata=stage.bearer())]
    assert [(chunk.text, chunk.attempt, chunk.stream) for chunk in logs] == [("hello\n", 1, log.stream)]
    attempts = await stage.jobs.ListJobAttempts(
        job_service_pb2.ListJobAttemptsRequest(job_id=job.job_id), metadata=stage.bearer()
    )
    assert [one.outcome for one in attempts.attempts] == [job_pb2.ATTEMPT_OUTCOME_SUCCEEDED]


async def test_the_end_of_the_stream_brings_the_last_ack(stage: Stage) -> None:
    session = await stage.register(slots=50)
    for _ in range(50):
        await stage.create()
    leases = await stage.lease(session, max_jobs=50)
    assert len(leases) == 50
    stream = stage.workers.ReportJobs(_each(session, leases), metadata=stage.bearer())
    acks = [answer.acked_sequence async for answer in stream]
    assert acks == sorted(set(acks))
    assert acks[-1] == 100
    stats = await stage.jobs.GetJobStats(job_service_pb2.GetJobStatsRequest(), metadata=stage.bearer())
    assert [(one.state, one.count) for one in stats.states] == [(job_pb2.JOB_STATE_SUCCEEDED, 50)]


async def _each(
    session: Session, leases: list[worker_service_pb2.Lease]
) -> AsyncIterator[worker_service_pb2.ReportJobsRequest]:
    """A message for each report; only the first says who reports."""
    yield worker_service_pb2.ReportJobsRequest(worker_id=session.worker_id, session_id=session.session_id)
    for index, lease in enumerate(leases):
        yield worker_service_pb2.ReportJobsRequest(reports=[about(lease, 2 * index + 1, started=STARTED)])
        yield worker_service_pb2.ReportJobsRequest(reports=[about(lease, 2 * index + 2, succeeded=result("x"))])


async def test_an_order_comes_while_the_worker_is_silent(stage: Stage) -> None:
    session = await stage.register()
    job = await stage.create()
    [lease] = await stage.lease(session)
    talk = Talk(stage, session)
    await talk.say(about(lease, 1, started=STARTED))
    await talk.acked(1)
    await stage.jobs.CancelJob(job_service_pb2.CancelJobRequest(job_id=job.job_id), metadata=stage.bearer())
    [order] = (await talk.hear()).directives
    assert order.type == worker_service_pb2.DIRECTIVE_TYPE_CANCEL
    assert (order.job_id, order.lease_token) == (job.job_id, lease.lease_token)
    assert order.grace.seconds == 30
    released = worker_service_pb2.Released(reason=worker_service_pb2.RELEASE_REASON_STOPPED)
    await talk.say(about(lease, 2, released=released))
    assert await talk.end() is grpc.StatusCode.OK
    assert (await get(stage, job.job_id)).state == job_pb2.JOB_STATE_CANCELLED


async def test_an_order_is_told_once(stage: Stage) -> None:
    session = await stage.register(slots=3)
    jobs = [(await stage.create()).job_id for _ in range(3)]
    talk = Talk(stage, session)
    leases = await stage.lease(session)
    await talk.say(*(about(lease, number, started=STARTED) for number, lease in enumerate(leases, 1)))
    await talk.acked(len(jobs))
    for job_id in jobs:
        await stage.jobs.CancelJob(job_service_pb2.CancelJobRequest(job_id=job_id), metadata=stage.bearer())
        assert [order.job_id for order in (await talk.hear()).directives] == [job_id]
    assert await talk.end() is grpc.StatusCode.OK


async def test_a_session_that_is_over_is_told_to_register_again(stage: Stage) -> None:
    old = await stage.register()
    talk = Talk(stage, old)
    await talk.say()
    request = worker_service_pb2.RegisterWorkerRequest(worker_id=old.worker_id, slots=1, job_types=["echo"])
    new = await stage.workers.RegisterWorker(request, metadata=stage.bearer())
    assert new.worker_id == old.worker_id
    for told in (talk, Talk(stage, old)):
        if told is not talk:
            await told.say()
        [order] = (await told.hear()).directives
        assert order.type == worker_service_pb2.DIRECTIVE_TYPE_REREGISTER
        assert await told.end() is grpc.StatusCode.OK
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stage.lease(old)
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert reason_of(caught.value) == "SESSION_UNKNOWN"


async def test_a_stream_that_breaks_leaves_the_job_with_its_worker(stage: Stage) -> None:
    session = await stage.register()
    job = await stage.create()
    [lease] = await stage.lease(session)
    talk = Talk(stage, session)
    await talk.say(about(lease, 1, started=STARTED))
    await talk.acked(1)
    talk.break_off()
    assert (await get(stage, job.job_id)).state == job_pb2.JOB_STATE_RUNNING
    again = Talk(stage, session)
    await again.say(about(lease, 1, started=STARTED), about(lease, 2, succeeded=result("late")))
    await again.acked(2)
    assert await again.end() is grpc.StatusCode.OK
    assert (await get(stage, job.job_id)).state == job_pb2.JOB_STATE_SUCCEEDED


ABANDON = worker_service_pb2.DIRECTIVE_TYPE_ABANDON


def beat(*leases: worker_service_pb2.Lease) -> worker_service_pb2.Report:
    held = [worker_service_pb2.HeldLease(job_id=one.job.job_id, lease_token=one.lease_token) for one in leases]
    return worker_service_pb2.Report(heartbeat=worker_service_pb2.Heartbeat(held_leases=held))


async def verdict(talk: Talk, sequence: int) -> list[str]:
    """The leases that are abandoned in the very answer that acks up to there."""
    while (answer := await talk.hear()).acked_sequence < sequence:
        pass
    return [one.lease_token for one in answer.directives if one.type == ABANDON]


async def test_the_ack_of_an_outcome_that_came_too_late_says_so_on_every_stream(stage: Stage) -> None:
    session = await stage.register()
    await stage.create()
    [lease] = await stage.lease(session)
    lease.lease_token = "of another life"
    # It broke, and the scheduler does not know yet: an order to it is heard by nobody.
    gone = Talk(stage, session)
    await gone.say(beat(lease))
    await gone.hear()
    again = Talk(stage, session)
    await again.say(about(lease, 1, started=STARTED), about(lease, 2, succeeded=result("stale")))
    assert await verdict(again, 2) == [lease.lease_token]


async def test_the_ack_of_an_outcome_that_counts_abandons_nothing_however_often_it_is_told(stage: Stage) -> None:
    session = await stage.register()
    job = await stage.create()
    [lease] = await stage.lease(session)
    reports = (about(lease, 1, started=STARTED), about(lease, 2, succeeded=result("it counts")))
    for _ in range(3):
        talk = Talk(stage, session)
        await talk.say(*reports, beat(lease))
        assert await verdict(talk, 2) == []
        talk.break_off()
    assert (await get(stage, job.job_id)).state == job_pb2.JOB_STATE_SUCCEEDED


async def test_outcomes_in_one_ack_are_judged_one_by_one(stage: Stage) -> None:
    session = await stage.register(slots=2)
    for _ in range(2):
        await stage.create()
    good, stale = await stage.lease(session)
    stale.lease_token = "of another life"
    talk = Talk(stage, session)
    await talk.say(about(good, 1, succeeded=result("x")), about(stale, 2, succeeded=result("y")))
    assert await verdict(talk, 2) == [stale.lease_token]


async def test_the_first_message_says_who_reports(stage: Stage) -> None:
    stream = stage.workers.ReportJobs(metadata=stage.bearer())
    await stream.write(worker_service_pb2.ReportJobsRequest())
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stream.read()
    assert set(violations_of(status_of(caught.value))) == {"worker_id", "session_id"}


async def test_a_message_that_cannot_be_read_ends_the_stream_and_changes_nothing(stage: Stage) -> None:
    session = await stage.register()
    job = await stage.create()
    [lease] = await stage.lease(session)
    raw = raw_stream(stage.channel, "/towpath.v1.WorkerService/ReportJobs")(metadata=stage.bearer())
    good = worker_service_pb2.ReportJobsRequest(
        worker_id=session.worker_id, session_id=session.session_id, reports=[about(lease, 1, succeeded=result("x"))]
    ).SerializeToString()
    await raw.write(good[:-3])
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await raw.read()
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert (await get(stage, job.job_id)).state == job_pb2.JOB_STATE_LEASED


async def test_a_parked_poll_gets_the_job_that_comes(stage: Stage) -> None:
    session = await stage.register()
    poll = asyncio.ensure_future(stage.lease(session))
    job = await stage.create()
    [lease] = await poll
    assert lease.job.job_id == job.job_id


async def test_large_jobs_come_in_more_than_one_answer(stage: Stage) -> None:
    session = await stage.register(slots=3)
    for _ in range(3):
        request = job_service_pb2.CreateJobRequest()
        request.job.custom.type = "echo"
        request.job.custom.params["big"] = "x" * 2_000_000
        await stage.jobs.CreateJob(request, metadata=stage.bearer())
    leased: set[str] = set()
    for poll in range(3):
        leased |= {lease.job.job_id for lease in await stage.lease(session, poll_id=str(poll), max_jobs=3)}
    assert len(leased) == 3


async def test_the_catalogue_follows_the_worker(stage: Stage) -> None:
    session = await stage.register("train")
    spec = job_pb2.TrainSpec(target_column="y")
    spec.data.path = "x.csv"
    request = job_service_pb2.CreateJobRequest(job=job_pb2.Job(train=spec))
    job = (await stage.jobs.CreateJob(request, metadata=stage.bearer())).job
    assert (job.job_type, job.execution_timeout.seconds) == ("train", 600)
    [lease] = await stage.lease(session)
    model = model_pb2.Model(
        model_id="mdl_0000000000007", name="late", version=1, model_type="xgboost", job_id=job.job_id
    )
    trained = worker_service_pb2.Succeeded(result=job_pb2.JobResult(train=job_pb2.TrainResult(model=model)))
    talk = Talk(stage, session)
    await talk.say(about(lease, 1, started=STARTED), about(lease, 2, succeeded=trained))
    assert await talk.end() is grpc.StatusCode.OK
    listed = await stage.models.ListModels(model_service_pb2.ListModelsRequest(), metadata=stage.bearer())
    [held] = listed.models
    assert (held.name, held.worker_id, held.user, held.job_id) == ("late", session.worker_id, "admin", job.job_id)
    ask = model_service_pb2.GetModelRequest(model="late@1")
    assert (await stage.models.GetModel(ask, metadata=stage.bearer())).model == held
    predict = job_pb2.PredictSpec(model_name="late")
    predict.data.path = "x.csv"
    asked = job_service_pb2.CreateJobRequest(job=job_pb2.Job(predict=predict))
    made = (await stage.jobs.CreateJob(asked, metadata=stage.bearer())).job
    assert made.predict.model_id == "mdl_0000000000007"
    sync = worker_service_pb2.SyncModelsRequest(worker_id=session.worker_id, session_id=session.session_id)
    await stage.workers.SyncModels(sync, metadata=stage.bearer())
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stage.models.GetModel(ask, metadata=stage.bearer())
    assert reason_of(caught.value) == "MODEL_NOT_FOUND"


async def test_people_see_the_workers(stage: Stage) -> None:
    session = await stage.register(slots=2)
    listed = await stage.fleet.ListWorkers(fleet_service_pb2.ListWorkersRequest(), metadata=stage.bearer())
    [worker] = listed.workers
    assert (worker.worker_id, worker.name, worker.slots) == (session.worker_id, "barge", 2)
    assert (worker.state, worker.machine.cpu_count) == (worker_pb2.WORKER_STATE_READY, 4)
    drain = fleet_service_pb2.DrainWorkerRequest(worker_id=session.worker_id)
    drained = await stage.fleet.DrainWorker(drain, metadata=stage.bearer())
    assert drained.worker.state == worker_pb2.WORKER_STATE_DRAINING
    leave = worker_service_pb2.DeregisterWorkerRequest(worker_id=session.worker_id, session_id=session.session_id)
    await stage.workers.DeregisterWorker(leave, metadata=stage.bearer())
    gone = await stage.fleet.ListWorkers(fleet_service_pb2.ListWorkersRequest(), metadata=stage.bearer())
    assert list(gone.workers) == []
    get_worker = fleet_service_pb2.GetWorkerRequest(worker_id=session.worker_id)
    offline = await stage.fleet.GetWorker(get_worker, metadata=stage.bearer())
    assert offline.worker.state == worker_pb2.WORKER_STATE_OFFLINE
