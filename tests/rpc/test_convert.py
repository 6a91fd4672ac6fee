"""Core values and protobuf, both ways."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from google.protobuf import duration_pb2, timestamp_pb2
from hypothesis import given
from hypothesis import strategies as st

from towpath.v1 import job_pb2, job_service_pb2, model_pb2, worker_service_pb2
from towpath_server.core.events import Failed, Progressed, Released, Started, Succeeded
from towpath_server.core.ids import show
from towpath_server.core.job import (
    SECOND,
    Definition,
    Failure,
    FailureCause,
    Job,
    JobState,
    Priority,
    Progress,
    Requirements,
    RetryPolicy,
    Timeouts,
)
from towpath_server.rpc import pages
from towpath_server.rpc.convert import jobs, reports, times
from towpath_server.rpc.convert.jobs import BASIC, MAX_JOB_BYTES, job_to_proto
from towpath_server.rpc.convert.models import model_record, model_to_proto
from towpath_server.rpc.convert.new_jobs import change, new_job
from towpath_server.scheduler.messages import Heartbeat, Logged, Report, Told

MOMENTS = st.integers(0, times.LATEST)
LENGTHS = st.integers(1, 10**15)
TEXTS = st.text(max_size=20)
NAMES = st.text("abc", min_size=1, max_size=5)


@given(MOMENTS)
def test_moments_come_back(moment: int) -> None:
    message = times.timestamp(moment)
    assert message is not None
    assert times.moment(message) == moment


@given(st.integers(-times.LONGEST, times.LONGEST))
def test_lengths_come_back(length: int) -> None:
    message = times.duration(length)
    assert message is not None
    assert times.length(message) == length
    assert (message.seconds >= 0 and message.nanos >= 0) or (message.seconds <= 0 and message.nanos <= 0)


@given(st.integers(-(2**63), 2**63 - 1), st.integers(-(2**31), 2**31 - 1))
def test_any_64_bits_are_cut_to_a_time(seconds: int, nanos: int) -> None:
    assert 0 <= times.moment(timestamp_pb2.Timestamp(seconds=seconds, nanos=nanos)) <= times.LATEST
    assert abs(times.length(duration_pb2.Duration(seconds=seconds, nanos=nanos))) <= times.LONGEST


DEFINITIONS = st.builds(
    Definition,
    tenant=st.just(""),
    user=st.just(""),
    job_type=st.just("echo"),
    queue=NAMES,
    workspace=TEXTS,
    labels=st.dictionaries(NAMES, TEXTS, max_size=3),
    timeouts=st.builds(
        Timeouts,
        queue=st.none() | LENGTHS,
        execution=LENGTHS,
        stall=st.none() | LENGTHS,
        total=st.none() | LENGTHS,
        cancel_grace=st.integers(0, 10**12),
        ttl=LENGTHS,
    ),
    retry=st.builds(
        RetryPolicy,
        max_attempts=st.integers(1, 1000),
        initial_backoff=st.integers(0, 10**12),
        multiplier=st.floats(0.5, 100),
        max_backoff=st.integers(0, 10**12),
        jitter=st.floats(0, 1),
        non_retryable_types=st.lists(NAMES, max_size=3).map(tuple),
        retry_timeouts=st.booleans(),
    ),
    max_lost=st.integers(0, 1000),
    requirements=st.builds(
        Requirements,
        cpu_count=st.integers(0, 100),
        gpu_memory_mb=st.integers(0, 100),
        worker_labels=st.dictionaries(NAMES, TEXTS, max_size=3).map(lambda labels: tuple(sorted(labels.items()))),
        worker_id=st.none() | st.integers(1, 2**63 - 1),
    ),
    schedule_time=st.none() | MOMENTS,
)


def a_job(definition: Definition, **fields: object) -> Job:
    plain = Job(
        job_id=7,
        definition=definition,
        lane_id=1,
        priority=Priority.HIGH,
        position=7,
        state=JobState.QUEUED,
        update_time=5,
        queue_time=4,
    )
    return replace(plain, **fields)  # type: ignore[arg-type]


@given(DEFINITIONS, st.sampled_from(Priority))
def test_what_is_shown_can_be_asked_for_again(definition: Definition, priority: Priority) -> None:
    spec = job_pb2.Job(custom=job_pb2.CustomSpec(type="echo")).SerializeToString()
    shown = job_to_proto(a_job(replace(definition, spec=spec), priority=priority))
    asked = new_job(job_service_pb2.CreateJobRequest(job=shown))
    assert asked.priority is priority
    assert replace(asked.definition, request_hash=b"") == replace(definition, spec=spec)


def test_a_job_as_it_stands_is_told_in_full() -> None:
    definition = Definition(tenant="t", user="u", job_type="predict", create_time=1, schedule_time=2)
    spec = job_pb2.Job(predict=job_pb2.PredictSpec(model_name="late"))
    job = a_job(
        replace(definition, spec=spec.SerializeToString(), requirements=Requirements(model_id=9)),
        state=JobState.SCHEDULED,
        queue_time=3,
        revision=12,
        attempt=2,
        attempt_count=1,
        worker_id=5,
        progress=Progress(percent=0.0, metrics={"loss": 0.5}, eta=SECOND, update_time=6),
        failure=Failure(FailureCause.HANDLER, "ValueError", "no", "trace", retryable=True),
        result=job_pb2.JobResult(ref=job_pb2.ResultRef(path="/x")).SerializeToString(),
    )
    told = job_to_proto(job)
    assert told.job_id == show("job", 7)
    assert told.worker_id == show("wkr", 5)
    assert told.predict.model_id == show("mdl", 9)
    assert told.predict.model_name == "late"
    assert (told.etag, told.attempt, told.attempt_count, told.lost_count) == ("12", 2, 1, 0)
    assert told.HasField("lost_count")
    assert told.progress.HasField("percent")
    assert times.moment(told.schedule_time) == 3
    assert not told.HasField("queue_time")
    assert not told.HasField("end_time")
    assert told.failure.type == "ValueError"
    assert told.result.ref.path == "/x"
    basic = job_to_proto(job, BASIC)
    assert basic.WhichOneof("spec") is None
    assert not basic.HasField("result")
    assert times.moment(job_to_proto(replace(job, state=JobState.QUEUED)).schedule_time) == 2


def test_a_spec_that_does_not_fit_beside_its_result_gives_way() -> None:
    spec = job_pb2.Job(custom=job_pb2.CustomSpec(type="echo"))
    spec.custom.params["x"] = "x" * 2_000_000
    result = job_pb2.JobResult()
    result.custom.value.string_value = "y" * 3_000_000
    definition = Definition(tenant="", user="", job_type="echo", spec=spec.SerializeToString())
    told = job_to_proto(a_job(definition, state=JobState.SUCCEEDED, result=result.SerializeToString()))
    assert told.result == result
    assert told.WhichOneof("spec") is None
    assert told.ByteSize() <= MAX_JOB_BYTES


def test_a_watch_can_go_on_from_each_message_of_a_long_telling(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "MAX_EVENTS_BYTES", 1)
    read = job_service_pb2.WatchJobsResponse.FromString
    changed = [a_job(Definition(tenant="t", user="u", job_type="echo"), sequence=number) for number in (3, 5, 8)]
    messages = [read(raw) for raw in jobs.events_to_bytes(Told(changed, 9))]
    assert [(len(message.events), message.sequence) for message in messages] == [(1, 3), (1, 5), (1, 9)]
    assert [message.sequence for message in map(read, jobs.events_to_bytes(Told((), 9)))] == [9]


def test_an_unset_field_of_an_update_means_the_default() -> None:
    definition = Definition(tenant="", user="", job_type="train", timeouts=Timeouts(queue=1, execution=2, ttl=3))
    changed, priority = change(job_pb2.Job(), ["queue_timeout", "execution_timeout"])(definition, Priority.HIGH)
    assert changed.timeouts == Timeouts(queue=None, execution=600 * SECOND, ttl=3)
    assert priority is Priority.HIGH


def test_the_hash_of_a_request_is_that_of_its_job() -> None:
    one = job_service_pb2.CreateJobRequest(request_id="a")
    one.job.labels.update({"x": "1", "y": "2"})
    two = job_service_pb2.CreateJobRequest(request_id="b")
    two.job.labels.update({"y": "2", "x": "1"})
    assert new_job(one).definition.request_hash == new_job(two).definition.request_hash
    two.job.labels["z"] = "3"
    assert new_job(one).definition.request_hash != new_job(two).definition.request_hash


def about(**event: object) -> worker_service_pb2.Report:
    return worker_service_pb2.Report(sequence=3, job_id=show("job", 7), lease_token="t", **event)  # type: ignore[arg-type]


def test_reports_and_heartbeats_keep_their_order() -> None:
    beat = worker_service_pb2.Heartbeat(
        held_leases=[worker_service_pb2.HeldLease(job_id=show("job", 7), lease_token="t")]
    )
    started = worker_service_pb2.Started()
    request = worker_service_pb2.ReportJobsRequest(
        reports=[about(started=started), about(started=started), about(heartbeat=beat), about(started=started)]
    )
    one = Report(3, 7, Started("t"))
    first, second, third = reports.split(request)
    assert (first, third) == ([one, one], [one])
    assert isinstance(second, Heartbeat)
    assert [(lease.job_id, lease.token) for lease in second.held] == [(7, "t")]


def test_what_cannot_be_kept_of_a_report_is_cut() -> None:
    progress = job_pb2.Progress(percent=math.inf, message="m\0" * 5000, metrics={"ok": 1, "bad": math.nan})
    progress.eta.seconds = -5
    told = reports.report(about(progress=progress)).event
    assert isinstance(told, Progressed)
    assert told.progress is not None
    assert (told.progress.percent, told.progress.metrics, told.progress.eta) == (None, {"ok": 1.0}, 0)
    assert len(told.progress.message) == reports.MAX_MESSAGE
    assert "\0" not in told.progress.message
    log = reports.report(about(log=worker_service_pb2.LogChunk(text="a\0b", offset=-1, stream=99))).event  # type: ignore[arg-type]
    assert log == Logged("t", 0, "a b", 0, 0)
    failure = job_pb2.Failure(cause=job_pb2.FAILURE_CAUSE_WORKER_LOST, traceback="x" * 10**6 + "end", retryable=True)
    failed = reports.report(about(failed=worker_service_pb2.Failed(failure=failure))).event
    assert isinstance(failed, Failed)
    assert failed.failure.cause is FailureCause.HANDLER
    assert failed.failure.retryable
    assert failed.failure.traceback.endswith("end")
    assert len(failed.failure.traceback) == reports.MAX_TRACEBACK


def test_wrong_input_is_never_tried_again() -> None:
    failure = job_pb2.Failure(cause=job_pb2.FAILURE_CAUSE_INVALID_INPUT, retryable=True)
    failed = reports.report(about(failed=worker_service_pb2.Failed(failure=failure))).event
    assert isinstance(failed, Failed)
    assert not failed.failure.retryable


@pytest.mark.parametrize(
    ("reason", "unable"),
    [(worker_service_pb2.RELEASE_REASON_UNABLE, True), (worker_service_pb2.RELEASE_REASON_SHUTDOWN, False)],
)
def test_a_release_says_whether_the_worker_could(
    reason: worker_service_pb2.ReleaseReason.ValueType, unable: bool
) -> None:
    told = reports.report(about(released=worker_service_pb2.Released(reason=reason, message="m"))).event
    assert told == Released("t", "m", unable)


def test_a_result_too_large_to_tell_is_a_failure() -> None:
    result = job_pb2.JobResult()
    result.custom.value.string_value = "x" * (reports.MAX_RESULT_BYTES + 1)
    told = reports.report(about(succeeded=worker_service_pb2.Succeeded(result=result))).event
    assert isinstance(told, Failed)
    assert not told.failure.retryable
    result.custom.value.string_value = "x"
    small = reports.report(about(succeeded=worker_service_pb2.Succeeded(result=result))).event
    assert isinstance(small, Succeeded)
    assert job_pb2.JobResult.FromString(small.result) == result


def test_a_trained_model_goes_to_the_catalogue() -> None:
    model = model_pb2.Model(model_id=show("mdl", 9), name="late", version=2, target_column="y", user="forged")
    model.create_time.seconds = 5
    result = job_pb2.JobResult(train=job_pb2.TrainResult(model=model))
    record = reports.report(about(succeeded=worker_service_pb2.Succeeded(result=result))).model
    assert record == model_record(model)
    assert record is not None
    assert (record.model_id, record.name, record.version, record.create_time) == (9, "late", 2, 5 * SECOND)
    shown = model_to_proto(replace(record, tenant="t", user="u", worker_id=4))
    assert (shown.tenant, shown.user, shown.worker_id, shown.target_column) == ("t", "u", show("wkr", 4), "y")
    model.model_id = "nonsense"
    result = job_pb2.JobResult(train=job_pb2.TrainResult(model=model))
    assert reports.report(about(succeeded=worker_service_pb2.Succeeded(result=result))).model is None


@given(st.integers(0, 2**63 - 1), st.text(max_size=63), st.binary(max_size=5), st.integers(0, 200))
def test_page_tokens_come_back_and_are_checked(number: int, name: str, garbage: bytes, at: int) -> None:
    request = job_service_pb2.ListJobsRequest(page_size=3)
    request.page_token = pages.token(request, (number, name))
    assert pages.after(request) == (number, name)
    larger = job_service_pb2.ListJobsRequest(page_size=9, page_token=request.page_token)
    assert pages.is_own(larger)
    other = job_service_pb2.ListJobsRequest(page_token=request.page_token, order_by="create_time")
    assert not pages.is_own(other)
    broken = request.page_token[:at] + garbage.hex() + request.page_token[at + 1 :]
    assert broken == request.page_token or not pages.is_own(job_service_pb2.ListJobsRequest(page_token=broken))
