"""An executor with real futures."""

from __future__ import annotations

import operator
import threading
from concurrent import futures
from typing import Any

import grpc
import pytest

from support.fake_jobs import TOKEN, FakeJobs, Refusal, refuse, serving, value
from towpath import Client, errors, job_errors
from towpath.v1 import job_pb2, job_service_pb2


def number_of(job: job_pb2.Job) -> int:
    return int(job.custom.params.fields["n"].number_value)


def doubled(job: job_pb2.Job) -> job_pb2.JobResult:
    return value(number_of(job) * 2)


def resize(ctx: object, width: int, height: int = 2, **more: int) -> int:
    """As `@handler("resize")` leaves it."""
    raise AssertionError("runs on a worker only")


resize.__towpath_job_type__ = "resize"  # type: ignore[attr-defined]


def test_futures_of_job_types_and_of_handlers(client: Client, jobs: FakeJobs) -> None:
    jobs.run = lambda job: value(sum(field.number_value for field in job.custom.params.fields.values()))
    with client.get_executor() as executor:
        found = [
            executor.submit("resize", width=1, height=2),
            executor.submit("resize", {"width": 3}),
            executor.submit(resize, 5),
            executor.submit(resize, 5, height=6, depth=7),
        ]
        assert all(isinstance(future, futures.Future) for future in found)
        assert [future.result(timeout=30) for future in found] == [3, 3, 5, 18]
        assert list(executor.map(resize, range(10), range(10))) == [2 * number for number in range(10)]
    assert {job.job_type for job in jobs.jobs.values()} == {"resize"}
    with pytest.raises(RuntimeError, match="shut down"):
        executor.submit("resize")


def test_an_executor_of_one_job_type_and_its_options(client: Client, jobs: FakeJobs) -> None:
    jobs.run = doubled
    with client.get_executor("double", priority="high", labels={"a": "b"}) as executor:
        assert executor.submit(None, n=4).result(timeout=30) == 8
    job = next(iter(jobs.jobs.values()))
    assert (job.priority, job.labels["a"], job.job_type) == (job_pb2.PRIORITY_HIGH, "b", "double")


@pytest.mark.parametrize(
    ("fn", "args", "message"),
    [
        (operator.add, (1, 2), "@handler"),
        (None, (), "job type"),
        (resize, (1, 2, 3), "too many"),
        (resize, (), "width"),
        ("resize", (1,), "by name"),
    ],
)
def test_what_cannot_be_bound_is_refused_at_once(client: Client, fn: Any, args: tuple[Any, ...], message: str) -> None:
    with client.get_executor() as executor, pytest.raises(errors.InvalidArgument, match=message):
        executor.submit(fn, *args)


def test_one_wrong_job_does_not_spoil_its_batch(client: Client, jobs: FakeJobs) -> None:
    jobs.run = doubled
    jobs.refuse_if = lambda job: job.custom.params.fields["n"].number_value in (3, 17)
    with client.get_executor("double") as executor:
        found = [executor.submit(None, n=number) for number in range(20)]
        outcomes = [future.exception(timeout=30) for future in found]
    wrong = [number for number, outcome in enumerate(outcomes) if isinstance(outcome, errors.InvalidArgument)]
    assert wrong == [3, 17]
    assert sum(outcome is None for outcome in outcomes) == 18
    assert len(jobs.jobs) == 18


class Forgetful(FakeJobs):
    """Holds the first call until the others stand in line, carries out the second and answers with an error."""

    def __init__(self) -> None:
        super().__init__()
        self.run = doubled
        self.arrived, self.in_line, self.all_told = threading.Event(), threading.Event(), threading.Event()

    def CreateJob(self, request: Any, context: grpc.ServicerContext) -> job_service_pb2.CreateJobResponse:  # noqa: N802
        self.arrived.set()
        (self.all_told if self.requests("CreateJob") else self.in_line).wait(30)
        return super().CreateJob(request, context)

    def BatchCreateJobs(  # noqa: N802
        self, request: Any, context: grpc.ServicerContext
    ) -> job_service_pb2.BatchCreateJobsResponse:
        answer = super().BatchCreateJobs(request, context)
        if len(self.requests("BatchCreateJobs")) == 1:
            refuse(context, Refusal(grpc.StatusCode.INTERNAL, "the answer is lost"))
        return answer


def test_jobs_that_ended_before_their_creation_was_told_are_settled() -> None:
    jobs = Forgetful()
    with serving(jobs) as address, Client(address, TOKEN) as client, client.get_executor("double") as executor:
        found = [executor.submit(None, n=0)]
        assert jobs.arrived.wait(30)
        found += [executor.submit(None, n=number) for number in range(1, 4)]
        jobs.in_line.set()
        # Their ends are told while nobody knows yet that they are there, and never again.
        while len(executor._early) < 3:
            assert not any(future.done() for future in found[1:])
        jobs.all_told.set()
        assert [future.result(timeout=30) for future in found] == [0, 2, 4, 6]


def test_cancel_of_a_waiting_job_is_at_once_and_of_a_running_one_is_asked(client: Client, jobs: FakeJobs) -> None:
    executor = client.get_executor("double")
    waits, runs, third = (executor.submit(None, n=number) for number in range(3))
    third.job(30)
    jobs.move(runs.job(30).job_id, job_pb2.JOB_STATE_RUNNING)
    assert waits.job(30).job.spec["params"] == {"n": 0}
    assert waits.cancel()
    assert waits.cancelled()
    assert not runs.cancel()
    assert not runs.done()
    jobs.move(runs.job().job_id, job_pb2.JOB_STATE_CANCELLED)
    assert isinstance(runs.exception(timeout=30), job_errors.JobCancelled)
    done, left = futures.wait([waits, runs], timeout=30)
    assert (len(done), len(left)) == (2, 0)
    executor.shutdown(cancel_futures=True)
    assert third.cancelled()
    assert jobs.jobs[third.job(30).job_id].state == job_pb2.JOB_STATE_CANCELLED


def test_futures_survive_a_broken_watch(client: Client, jobs: FakeJobs) -> None:
    jobs.run = doubled
    jobs.breaks["WatchJobs"].extend([0, 2, 0])
    with client.get_executor("double") as executor:
        found = [executor.submit(None, n=number) for number in range(40)]
        assert [future.result(timeout=60) for future in found] == list(range(0, 80, 2))
