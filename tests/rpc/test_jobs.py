"""JobService over a socket."""

from __future__ import annotations

import grpc
import pytest
from google.protobuf import field_mask_pb2

from support.rpc_stage import Stage, reason_of
from towpath.v1 import job_pb2, job_service_pb2
from towpath_server.core.records import Role


async def test_a_job_comes_back_as_it_was_asked_for(stage: Stage) -> None:
    asked = job_service_pb2.CreateJobRequest(request_id="once")
    asked.job.custom.type = "echo"
    asked.job.custom.params.update({"n": 3, "deep": {"list": [1, None, "x"]}})
    asked.job.labels["stage"] = "test"
    asked.job.annotations.update({"note": "kept"})
    made = (await stage.jobs.CreateJob(asked, metadata=stage.bearer())).job
    assert made.state == job_pb2.JOB_STATE_QUEUED
    assert (made.queue, made.priority, made.job_type) == ("default", job_pb2.PRIORITY_NORMAL, "echo")
    assert (made.execution_timeout.seconds, made.cancel_grace.seconds, made.ttl.seconds) == (300, 30, 7 * 86_400)
    assert (made.max_lost, made.retry_policy.max_attempts, made.retry_policy.max_backoff.seconds) == (3, 1, 300)
    assert made.custom == asked.job.custom
    assert made.annotations == asked.job.annotations
    again = (await stage.jobs.CreateJob(asked, metadata=stage.bearer())).job
    assert again == made
    asked.job.labels["stage"] = "other"
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stage.jobs.CreateJob(asked, metadata=stage.bearer())
    assert caught.value.code() is grpc.StatusCode.ALREADY_EXISTS
    assert reason_of(caught.value) == "REQUEST_ID_REUSED"


async def test_views_leave_out_spec_and_result(stage: Stage) -> None:
    job = await stage.create()
    request = job_service_pb2.GetJobRequest(job_id=job.job_id, view=job_pb2.JOB_VIEW_BASIC)
    basic = (await stage.jobs.GetJob(request, metadata=stage.bearer())).job
    assert basic.WhichOneof("spec") is None
    assert basic.job_type == "echo"


async def test_pages_follow_each_other_and_belong_to_their_list(stage: Stage) -> None:
    made = [(await stage.create()).job_id for _ in range(5)]
    request = job_service_pb2.ListJobsRequest(page_size=2)
    seen = []
    while True:
        page = await stage.jobs.ListJobs(request, metadata=stage.bearer())
        seen += [job.job_id for job in page.jobs]
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    assert seen == list(reversed(made))
    request.order_by = "create_time"
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stage.jobs.ListJobs(request, metadata=stage.bearer())
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "page_token" in (caught.value.details() or "")


async def test_an_update_takes_the_named_fields_only(stage: Stage) -> None:
    job = await stage.create(labels={"a": "1"})
    change = job_pb2.Job(job_id=job.job_id, priority=job_pb2.PRIORITY_HIGH, labels={"b": "2"}, etag=job.etag)
    change.execution_timeout.seconds = 5
    mask = field_mask_pb2.FieldMask(paths=["priority", "execution_timeout"])
    request = job_service_pb2.UpdateJobRequest(job=change, update_mask=mask)
    updated = (await stage.jobs.UpdateJob(request, metadata=stage.bearer())).job
    assert updated.priority == job_pb2.PRIORITY_HIGH
    assert updated.execution_timeout.seconds == 5
    assert updated.labels == {"a": "1"}
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stage.jobs.UpdateJob(request, metadata=stage.bearer())
    assert caught.value.code() is grpc.StatusCode.ABORTED


async def test_what_has_come_to_an_end_can_be_cancelled_retried_and_deleted(stage: Stage) -> None:
    job = await stage.create()
    cancel = job_service_pb2.CancelJobRequest(job_id=job.job_id, reason="no need")
    first = (await stage.jobs.CancelJob(cancel, metadata=stage.bearer())).job
    assert first.state == job_pb2.JOB_STATE_CANCELLED
    assert first.state_reason == "no need"
    assert (await stage.jobs.CancelJob(cancel, metadata=stage.bearer())).job == first
    wait = job_service_pb2.WaitJobRequest(job_id=job.job_id)
    assert (await stage.jobs.WaitJob(wait, metadata=stage.bearer())).job == first
    retry = job_service_pb2.RetryJobRequest(job_id=job.job_id)
    assert (await stage.jobs.RetryJob(retry, metadata=stage.bearer())).job.state == job_pb2.JOB_STATE_QUEUED
    pause = job_service_pb2.PauseJobRequest(job_id=job.job_id)
    assert (await stage.jobs.PauseJob(pause, metadata=stage.bearer())).job.state == job_pb2.JOB_STATE_PAUSED
    resume = job_service_pb2.ResumeJobRequest(job_id=job.job_id)
    assert (await stage.jobs.ResumeJob(resume, metadata=stage.bearer())).job.state == job_pb2.JOB_STATE_QUEUED
    delete = job_service_pb2.DeleteJobRequest(job_id=job.job_id)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stage.jobs.DeleteJob(delete, metadata=stage.bearer())
    assert reason_of(caught.value) == "NOT_FINAL"
    await stage.jobs.CancelJob(cancel, metadata=stage.bearer())
    await stage.jobs.DeleteJob(delete, metadata=stage.bearer())
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stage.jobs.GetJob(job_service_pb2.GetJobRequest(job_id=job.job_id), metadata=stage.bearer())
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_a_watch_tells_each_state_until_the_last(stage: Stage) -> None:
    job = await stage.create()
    watch = aiter(stage.jobs.WatchJob(job_service_pb2.WatchJobRequest(job_id=job.job_id), metadata=stage.bearer()))
    told = [await anext(watch)]
    await stage.jobs.CancelJob(job_service_pb2.CancelJobRequest(job_id=job.job_id), metadata=stage.bearer())
    told += [answer async for answer in watch]
    assert [answer.job.state for answer in told] == [job_pb2.JOB_STATE_QUEUED, job_pb2.JOB_STATE_CANCELLED]
    assert [answer.job.WhichOneof("spec") for answer in told] == [None, "custom"]
    assert told[0].sequence < told[1].sequence
    assert str(told[1].sequence) == told[1].job.etag


async def test_a_watch_of_all_says_first_that_it_stands(stage: Stage) -> None:
    request = job_service_pb2.WatchJobsRequest()
    request.filter.queue = "lane"
    watch = stage.jobs.WatchJobs(request, metadata=stage.bearer())
    told = aiter(watch)
    first = await anext(told)
    assert not first.events
    await stage.create()
    job = await stage.create(queue="lane")
    second = await anext(told)
    assert [event.job.job_id for event in second.events] == [job.job_id]
    watch.cancel()


async def test_an_explanation_names_what_each_worker_lacks(stage: Stage) -> None:
    session = await stage.register("other")
    job = await stage.create()
    request = job_service_pb2.ExplainJobRequest(job_id=job.job_id)
    answer = await stage.jobs.ExplainJob(request, metadata=stage.bearer())
    [fit] = answer.workers
    assert (answer.position, fit.worker_id, fit.fits) == (1, session.worker_id, False)
    assert fit.reasons
    assert answer.summary


async def test_stats_count_by_state(stage: Stage) -> None:
    await stage.create()
    stats = await stage.jobs.GetJobStats(job_service_pb2.GetJobStatsRequest(), metadata=stage.bearer(Role.SUBMITTER))
    assert [(one.state, one.count) for one in stats.states] == [(job_pb2.JOB_STATE_QUEUED, 1)]
    assert (stats.total_count, stats.active_count) == (1, 1)


async def test_a_batch_is_made_whole_or_not_at_all(stage: Stage) -> None:
    request = job_service_pb2.BatchCreateJobsRequest()
    for index in range(3):
        request.requests.add(request_id=f"r{index}").job.custom.type = "echo"
    answer = await stage.jobs.BatchCreateJobs(request, metadata=stage.bearer())
    assert len({job.job_id for job in answer.jobs}) == 3
    assert all(job.WhichOneof("spec") is None for job in answer.jobs)
    request.requests.add().job.custom.type = "9"
    with pytest.raises(grpc.aio.AioRpcError):
        await stage.jobs.BatchCreateJobs(request, metadata=stage.bearer())
    stats = await stage.jobs.GetJobStats(job_service_pb2.GetJobStatsRequest(), metadata=stage.bearer())
    assert stats.total_count == 3
