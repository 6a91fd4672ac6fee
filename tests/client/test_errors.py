"""One exception for each code, with what the scheduler had to say."""

from __future__ import annotations

import copy
import pickle

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2

from support.fake_jobs import FakeJobs, Refusal, info
from towpath import Client, Job, JobCancelled, JobFailed, JobTimedOut, errors, job_errors
from towpath.job_errors import outcome
from towpath.v1 import job_pb2

CODES = [
    (grpc.StatusCode.UNAUTHENTICATED, errors.Unauthenticated),
    (grpc.StatusCode.PERMISSION_DENIED, errors.PermissionDenied),
    (grpc.StatusCode.NOT_FOUND, errors.NotFound),
    (grpc.StatusCode.INVALID_ARGUMENT, errors.InvalidArgument),
    (grpc.StatusCode.FAILED_PRECONDITION, errors.FailedPrecondition),
    (grpc.StatusCode.ALREADY_EXISTS, errors.AlreadyExists),
    (grpc.StatusCode.ABORTED, errors.Aborted),
    (grpc.StatusCode.RESOURCE_EXHAUSTED, errors.ResourceExhausted),
    (grpc.StatusCode.INTERNAL, errors.InternalError),
    (grpc.StatusCode.UNIMPLEMENTED, errors.Unimplemented),
    (grpc.StatusCode.UNKNOWN, errors.InternalError),
    (grpc.StatusCode.DATA_LOSS, errors.InternalError),
]


@pytest.mark.parametrize("details", [True, False], ids=["with details", "bare"])
@pytest.mark.parametrize(("code", "kind"), CODES, ids=lambda given: getattr(given, "name", ""))
def test_each_code_has_its_exception(
    client: Client, jobs: FakeJobs, code: grpc.StatusCode, kind: type[errors.TowpathError], details: bool
) -> None:
    jobs.refusals["GetJobStats"].append(Refusal(code, "what to do", *([info("WHY", job_id="j")] if details else [])))
    with pytest.raises(errors.TowpathError) as caught:
        client.stats()
    assert type(caught.value) is kind
    assert caught.value.__cause__ is None
    if details:
        assert (caught.value.reason, caught.value.metadata) == ("WHY", {"job_id": "j"})
        assert str(caught.value) == caught.value.message == "what to do"


def test_a_dedupe_conflict_names_the_other_job(client: Client, jobs: FakeJobs) -> None:
    detail = info("DEDUPE_CONFLICT", job_id="job_1")
    jobs.refusals["CreateJob"].append(Refusal(grpc.StatusCode.ALREADY_EXISTS, "what to do", detail))
    with pytest.raises(errors.AlreadyExists) as caught:
        client.submit("count", dedupe_key="k")
    assert isinstance(caught.value, errors.DedupeConflict)
    assert caught.value.job_id == "job_1"


def test_all_violations_come_at_once(client: Client, jobs: FakeJobs) -> None:
    bad = error_details_pb2.BadRequest()
    bad.field_violations.add(field="job.queue", description="no spaces")
    bad.field_violations.add(field="job.labels", description="too many")
    jobs.refusals["CreateJob"].append(Refusal(grpc.StatusCode.INVALID_ARGUMENT, "two", info("INVALID_ARGUMENT"), bad))
    with pytest.raises(errors.InvalidArgument) as caught:
        client.submit("count")
    assert caught.value.violations == (
        errors.Violation("job.queue", "no spaces"),
        errors.Violation("job.labels", "too many"),
    )


def test_the_hint_and_the_correlation_id_come_along(client: Client, jobs: FakeJobs) -> None:
    late = error_details_pb2.RetryInfo(retry_delay=Duration(seconds=3600))
    jobs.refusals["GetJobStats"].append(Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, "full", info("TOO_BUSY"), late))
    with pytest.raises(errors.ResourceExhausted) as busy:
        client.stats()
    assert busy.value.retry_after == 3600
    jobs.refusals["GetJobStats"].append(Refusal(grpc.StatusCode.INTERNAL, "a bug", info("BUG", correlation_id="c-1")))
    with pytest.raises(errors.InternalError) as bug:
        client.stats()
    assert bug.value.correlation_id == "c-1"


def test_they_are_also_what_python_calls_them() -> None:
    assert issubclass(errors.InvalidArgument, ValueError)
    assert issubclass(errors.Unavailable, ConnectionError)
    for kind in (errors.DeadlineExceeded, errors.WaitTimeout, job_errors.JobTimedOut):
        assert issubclass(kind, TimeoutError)


@pytest.mark.parametrize(
    ("state", "kind", "message"),
    [
        (job_pb2.JOB_STATE_FAILED, JobFailed, "Job job_x failed: ValueError: no such column"),
        (job_pb2.JOB_STATE_CANCELLED, JobCancelled, "Job job_x was cancelled: by hand"),
        (job_pb2.JOB_STATE_TIMED_OUT, JobTimedOut, "Job job_x timed out: no such column"),
    ],
)
def test_a_job_without_a_result_raises_how_it_ended(
    state: job_pb2.JobState.ValueType, kind: type[job_errors.JobError], message: str
) -> None:
    failure = job_pb2.Failure(type="ValueError", message="no such column", traceback="Traceback: line 3")
    job = job_pb2.Job(job_id="job_x", state=state, state_reason="by hand", failure=failure)
    with pytest.raises(kind) as caught:
        outcome(job)
    assert str(caught.value) == message
    assert caught.value.job.proto is job
    if isinstance(caught.value, JobFailed):
        assert caught.value.traceback == "Traceback: line 3"


def test_they_travel_between_processes() -> None:
    refused = errors.InvalidArgument("no", reason="WHY", violations=(errors.Violation("a", "b"),))
    failed = JobFailed(Job.from_proto(job_pb2.Job(job_id="job_x", state=job_pb2.JOB_STATE_FAILED)))
    for error in (refused, failed):
        for again in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
            assert type(again) is type(error)
            assert str(again) == str(error)
    assert pickle.loads(pickle.dumps(refused)).violations == refused.violations
    assert pickle.loads(pickle.dumps(failed)).job == failed.job
