"""A job in the hands of its submitter."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from support.fake_jobs import FakeJobs, Refusal, value
from towpath import (
    AsyncClient,
    Client,
    JobCancelled,
    JobFailed,
    JobState,
    ModelList,
    Prediction,
    Priority,
    TrainResult,
    WaitTimeout,
    errors,
)
from towpath.enums import AttemptOutcome, FailureCause
from towpath.v1 import job_pb2, job_service_pb2, model_pb2


def running(jobs: FakeJobs, job_id: str, percent: float, **fields: Any) -> None:
    jobs.move(job_id, job_pb2.JOB_STATE_RUNNING, progress=job_pb2.Progress(percent=percent, phase="fit", **fields))


def test_result_is_the_plain_value_of_a_handler(client: Client, jobs: FakeJobs) -> None:
    result = job_pb2.JobResult()
    result.custom.value.struct_value.update({"n": 3, "share": 0.5, "all": [1, None, True], "none": {}})
    jobs.run = lambda job: result
    found = client.submit("count", {"n": 3}).result(timeout=10)
    assert found == {"n": 3, "share": 0.5, "all": [1, None, True], "none": {}}
    assert type(found["n"]) is int


def test_train_and_predict_and_list_models_give_typed_results(client: Client, jobs: FakeJobs) -> None:
    model = model_pb2.Model(model_id="mdl_1", name="late", version=3, task_type=model_pb2.TASK_TYPE_CLASSIFICATION)
    prediction = job_pb2.PredictResult(model_id="mdl_1", row_count=2)
    prediction.predictions.columns.append("prediction")
    for one in ("yes", "no"):
        prediction.predictions.rows.add().append(one)
    answers = {
        "train": job_pb2.JobResult(train=job_pb2.TrainResult(model=model, metrics={"f1": 0.9}, row_count=10)),
        "predict": job_pb2.JobResult(predict=prediction),
        "list_models": job_pb2.JobResult(list_models=job_pb2.ListModelsResult(models=[model], total_count=5)),
    }
    jobs.run = lambda job: answers[job.job_type]
    trained = client.train("flights.csv", "late", hyperparameters={"max_depth": 3}, test_size=0.3).result(10)
    assert isinstance(trained, TrainResult)
    assert (trained.model.ref, trained.metrics, trained.model_id) == ("late@3", {"f1": 0.9}, "mdl_1")
    predicted = client.predict("late@3", [{"a": 1}], probabilities=True, priority="high").result(10)
    assert isinstance(predicted, Prediction)
    assert (predicted.rows, predicted.values) == ([{"prediction": "yes"}, {"prediction": "no"}], ["yes", "no"])
    assert list(predicted.to_pandas()["prediction"]) == predicted.table["prediction"].to_pylist() == ["yes", "no"]
    listed = client.list_models(name_prefix="l").result(10)
    assert isinstance(listed, ModelList)
    assert ([one.name for one in listed], len(listed), listed.total_count) == (["late"], 1, 5)
    sent = jobs.requests("CreateJob")[1].job
    assert (sent.predict.model_name, sent.predict.probabilities, sent.priority) == (
        "late@3",
        True,
        job_pb2.PRIORITY_HIGH,
    )


def test_a_failed_job_raises_with_the_handlers_traceback(client: Client, jobs: FakeJobs) -> None:
    handle = client.submit("count")
    failure = job_pb2.Failure(
        cause=job_pb2.FAILURE_CAUSE_HANDLER, type="KeyError", message="'n'", traceback="Traceback ..."
    )
    jobs.move(handle.job_id, job_pb2.JOB_STATE_FAILED, failure=failure)
    with pytest.raises(JobFailed, match="KeyError: 'n'") as caught:
        handle.result(timeout=10)
    assert caught.value.traceback == "Traceback ..."
    assert caught.value.failure is not None
    assert caught.value.failure.cause is FailureCause.HANDLER


def test_wait_times_out_while_the_job_goes_on(client: Client, jobs: FakeJobs) -> None:
    handle = client.submit("count")
    with pytest.raises(WaitTimeout, match="still QUEUED"):
        handle.wait(timeout=0.05)
    with pytest.raises(WaitTimeout):
        handle.wait(timeout=0)
    assert not handle.done()
    jobs.finish(handle.job_id, value(1))
    assert handle.done()
    assert handle.wait().state is JobState.SUCCEEDED


def test_a_watch_goes_on_after_a_break_where_it_was(client: Client, jobs: FakeJobs) -> None:
    handle = client.submit("count")
    for percent in (10, 20, 30):
        running(jobs, handle.job_id, percent)
    jobs.finish(handle.job_id, value(1))
    # After two events, after one more, and one that never came up.
    jobs.breaks["WatchJob"].extend([2, 1])
    jobs.refusals["WatchJob"].append(Refusal(grpc.StatusCode.UNAVAILABLE))
    events = list(handle.events())
    assert [event.sequence for event in events] == [1, 2, 3, 4, 5]
    assert [event.job.progress.percent for event in events[1:4] if event.job.progress] == [10, 20, 30]
    assert [request.from_sequence for request in jobs.requests("WatchJob")] == [0, 0, 2, 3]
    assert handle.state is JobState.SUCCEEDED
    assert list(handle.events(from_sequence=5)) == []


def test_iterating_over_a_handle_gives_snapshots_until_the_end(client: Client, jobs: FakeJobs) -> None:
    handle = client.submit("count")
    seen = []
    for job in handle:
        seen.append(job.state)
        if job.state is JobState.QUEUED:
            running(jobs, handle.job_id, 50)
        if job.state is JobState.RUNNING:
            jobs.finish(handle.job_id, value(5))
    assert seen == [JobState.QUEUED, JobState.RUNNING, JobState.SUCCEEDED]
    assert handle.result() == 5
    # The last snapshot had the result: nobody was asked for it again.
    assert not jobs.requests("WaitJob")


def test_a_watch_ends_at_the_callers_timeout(client: Client) -> None:
    handle = client.submit("count")
    with pytest.raises(WaitTimeout):
        list(handle.watch(timeout=0.1))


def test_a_watch_of_no_job_is_not_found(client: Client) -> None:
    with pytest.raises(errors.NotFound):
        list(client.job("job_zzzzzzzzzzzzz"))


def log(attempt: int, offset: int, text: str) -> job_service_pb2.StreamJobLogsResponse:
    return job_service_pb2.StreamJobLogsResponse(attempt=attempt, offset=offset, text=text)


def test_logs_come_once_also_after_breaks_and_through_later_attempts(client: Client, jobs: FakeJobs) -> None:
    handle = client.submit("count")
    jobs.move(handle.job_id, job_pb2.JOB_STATE_SUCCEEDED, attempt=3)
    jobs.logs = [log(1, 0, "größe\n"), log(1, 8, "two\n"), log(2, 0, "again\n"), log(3, 0, "done\n")]
    assert "".join(handle.logs(follow=True)) == "größe\ntwo\nagain\ndone\n"
    for breaks in ([1], [2], [3], [1, 0, 2], [0, 3, 1]):
        jobs.breaks["StreamJobLogs"].extend(breaks)
        assert "".join(handle.logs(follow=True)) == "größe\ntwo\nagain\ndone\n", breaks
        jobs.breaks["StreamJobLogs"].clear()
    assert "".join(handle.logs(attempt=1)) == "größe\ntwo\n"
    assert "".join(handle.logs(attempt=1, follow=True)) == "größe\ntwo\n"
    assert "".join(handle.logs()) == "done\n"


def test_steering_a_job(client: Client, jobs: FakeJobs) -> None:
    handle = client.submit("count", priority="low")
    assert handle.pause().state is JobState.PAUSED
    assert handle.resume().state is JobState.QUEUED
    updated = handle.update(priority="critical", labels={"a": "b"}, stall_timeout=1.5)
    assert (updated.priority, updated.labels, updated.stall_timeout) == (
        Priority.CRITICAL,
        {"a": "b"},
        timedelta(seconds=1.5),
    )
    assert jobs.requests("UpdateJob")[0].update_mask.paths == ["labels", "priority", "stall_timeout"]
    assert handle.explain().position == 1
    assert [one.outcome for one in handle.attempts()] == [AttemptOutcome.UNSPECIFIED]
    assert handle.cancel(reason="no need").state_reason == "no need"
    with pytest.raises(JobCancelled, match="no need"):
        handle.result()
    assert handle.retry().state is JobState.QUEUED
    handle.cancel()
    handle.delete()
    with pytest.raises(errors.NotFound):
        handle.refresh()


def test_a_snapshot_has_pythons_own_types(client: Client, jobs: FakeJobs) -> None:
    handle = client.submit("count", {"n": [1, 2]}, annotations={"by": {"who": "me"}}, execution_timeout=90)
    moment = datetime(2026, 11, 22, 5, 20, 11, 250_000, tzinfo=UTC)
    stamp = Timestamp()
    stamp.FromDatetime(moment)
    running(jobs, handle.job_id, 40, metrics={"logloss": 0.25}, eta=Duration(seconds=12))
    job = jobs.jobs[handle.job_id]
    job.start_time.CopyFrom(stamp)
    found = client.get(handle.job_id)
    assert (found.start_time, found.end_time) == (moment, None)
    assert found.execution_timeout == timedelta(seconds=90)
    assert found.annotations == {"by": {"who": "me"}}
    assert found.spec == {"type": "count", "params": {"n": [1, 2]}}
    assert found.progress is not None
    assert (found.progress.percent, found.progress.metrics) == (40, {"logloss": 0.25})
    assert found.progress.eta == timedelta(seconds=12)
    assert found.to_dict()["state"] == "JOB_STATE_RUNNING"
    assert handle.progress() == found.progress
    job.state = 77  # type: ignore[assignment]
    assert client.get(handle.job_id).state is JobState.UNSPECIFIED


def test_lists_fetch_as_many_pages_as_are_read(client: Client, jobs: FakeJobs) -> None:
    for number in range(450):
        jobs.put(job_pb2.Job(job_id=f"job_{number:013}"))
    found = client.jobs()
    assert next(found).job_id == "job_0000000000449"
    assert len(jobs.requests("ListJobs")) == 1
    assert len(list(found)) == 449
    assert len(jobs.requests("ListJobs")) == 3
    assert len(list(client.jobs(limit=3))) == 3
    assert len(list(client.jobs(limit=0))) == 0


def test_the_notebooks_table_is_escaped(client: Client, jobs: FakeJobs) -> None:
    handle = client.submit("count")
    running(jobs, handle.job_id, 40, message="<script>alert(1)</script>", metrics={"<b>": 0.5})
    handle.refresh()
    html = handle._repr_html_()
    assert "<script>" not in html
    assert "<b>:" not in html
    assert "&lt;script&gt;" in html
    assert "value='40'" in html


async def test_the_same_over_asyncio(aclient: AsyncClient, jobs: FakeJobs) -> None:
    handle = await aclient.submit("count")
    running(jobs, handle.job_id, 10)
    jobs.finish(handle.job_id, value(3))
    jobs.breaks["WatchJob"].append(1)
    assert [job.state async for job in handle] == [JobState.QUEUED, JobState.RUNNING, JobState.SUCCEEDED]
    assert await handle.result() == 3
    assert [job.job_id async for job in aclient.jobs(states=["succeeded"])] == [handle.job_id]
    with pytest.raises(errors.NotFound):
        await aclient.get("job_zzzzzzzzzzzzz")
    with pytest.raises(WaitTimeout):
        await (await aclient.submit("count")).wait(timeout=0.05)


def test_a_wait_that_heard_nothing_of_the_job_names_no_state(client: Client, jobs: FakeJobs) -> None:
    client.stats()
    jobs.refusals["WaitJob"].extend(Refusal(grpc.StatusCode.UNAVAILABLE) for _ in range(1000))
    with pytest.raises(WaitTimeout, match="Nothing was heard of job job_0d5t8x2k4m9qc"):
        client.job("job_0d5t8x2k4m9qc").result(timeout=0.2)
