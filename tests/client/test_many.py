"""Many jobs: map with bounded memory, and an executor with real futures."""

from __future__ import annotations

import asyncio
import operator
import threading
from collections.abc import Iterator
from concurrent import futures
from contextlib import aclosing
from typing import Any

import grpc
import pytest

from support.fake_jobs import TOKEN, FakeJobs, Refusal, info, refuse, serving, value
from towpath import AsyncClient, Client, JobFailed, errors, job_errors
from towpath._async.completions import completions
from towpath.requests import batches
from towpath.v1 import job_pb2, job_service_pb2


def number_of(job: job_pb2.Job) -> int:
    return int(job.custom.params.fields["n"].number_value)


def doubled(job: job_pb2.Job) -> job_pb2.JobResult:
    return value(number_of(job) * 2)


def numbers(count: int, taken: list[int]) -> Iterator[dict[str, Any]]:
    for number in range(count):
        taken.append(number)
        yield {"n": number}


def test_map_is_in_order_bounded_and_in_batches(client: Client, jobs: FakeJobs) -> None:
    jobs.run = doubled
    taken: list[int] = []
    results = client.map("double", numbers(1000, taken), window=20)
    assert next(results) == 0
    assert len(taken) == 20
    assert [next(results) for _ in range(99)] == [2 * number for number in range(1, 100)]
    assert len(taken) <= 120
    created = jobs.requests("BatchCreateJobs")
    assert 6 <= len(created) <= 11
    assert len({one.request_id for batch in created for one in batch.requests}) == len(taken)


def test_map_ends_with_its_params_and_takes_none(client: Client, jobs: FakeJobs) -> None:
    jobs.run = doubled
    assert list(client.map("double", numbers(33, []), window=10)) == [2 * number for number in range(33)]
    assert list(client.map("double", [])) == []
    with pytest.raises(errors.InvalidArgument, match="window"):
        client.map("double", [], window=0)


def test_unordered_map_gives_what_is_ready_and_survives_a_broken_watch(client: Client, jobs: FakeJobs) -> None:
    finished: list[int] = []

    def run(job: job_pb2.Job) -> job_pb2.JobResult | None:
        number = number_of(job)
        if number == 0:
            return None
        finished.append(number)
        if len(finished) == 29:
            # The first one ends last.
            jobs.finish(first[0], value(0))
        return doubled(job)

    first = ["job_0000000000001"]
    jobs.run = run
    jobs.breaks["WatchJobs"].extend([3, 5])
    found = list(client.map("double", numbers(30, []), window=8, ordered=False))
    assert sorted(found) == [2 * number for number in range(30)]


def test_map_raises_or_gives_the_failure_and_cancels_the_rest(client: Client, jobs: FakeJobs) -> None:
    def run(job: job_pb2.Job) -> job_pb2.JobResult | None:
        if number_of(job) == 1:
            jobs.move(job.job_id, job_pb2.JOB_STATE_FAILED, failure=job_pb2.Failure(type="ValueError", message="one"))
            return None
        return doubled(job) if number_of(job) < 3 else None

    jobs.run = run
    results = client.map("double", numbers(6, []), window=6)
    assert next(results) == 0
    with pytest.raises(JobFailed, match="ValueError: one"):
        next(results)
    cancelled = {number_of(jobs.jobs[request.job_id]) for request in jobs.requests("CancelJob")}
    assert {3, 4, 5} <= cancelled
    kept = list(client.map("double", numbers(3, []), return_exceptions=True))
    assert isinstance(kept[1], JobFailed)
    assert (kept[0], kept[2]) == (0, 4)


async def test_map_over_asyncio(aclient: AsyncClient, jobs: FakeJobs) -> None:
    jobs.run = doubled
    assert [one async for one in aclient.map("double", numbers(25, []), window=4)] == list(range(0, 50, 2))
    unordered = [one async for one in aclient.map("double", numbers(25, []), window=4, ordered=False)]
    assert sorted(unordered) == list(range(0, 50, 2))


def test_batches_keep_to_count_and_bytes() -> None:
    creates = [job_service_pb2.CreateJobRequest(request_id=f"{number:0100}") for number in range(10)]
    assert [len(batch) for batch in batches(creates, most=4)] == [4, 4, 2]
    assert [len(batch) for batch in batches(creates, most_bytes=350)] == [3, 3, 3, 1]
    # One that is too large goes alone, for the scheduler to refuse.
    assert [len(batch) for batch in batches(creates, most_bytes=10)] == [1] * 10


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
    refusal = Refusal(grpc.StatusCode.INVALID_ARGUMENT, "one is wrong", info("INVALID_ARGUMENT"))
    # The first batch, then the first of those that are sent again alone or in another batch.
    jobs.refusals["BatchCreateJobs"].extend([refusal, refusal])
    with client.get_executor("double") as executor:
        found = [executor.submit(None, n=number) for number in range(3)]
        outcomes = [future.exception(timeout=30) for future in found]
    assert sum(isinstance(outcome, errors.InvalidArgument) for outcome in outcomes) in (1, 2)
    assert outcomes[2] is None


class Forgetful(FakeJobs):
    """Holds the first call until the others stand in line, carries out the second and answers with an error."""

    def __init__(self) -> None:
        super().__init__()
        self.run = doubled
        self.in_line, self.all_told = threading.Event(), threading.Event()

    def BatchCreateJobs(  # noqa: N802
        self, request: Any, context: grpc.ServicerContext
    ) -> job_service_pb2.BatchCreateJobsResponse:
        number = len(self.requests("BatchCreateJobs"))
        if number != 1:
            (self.all_told if number else self.in_line).wait(30)
        answer = super().BatchCreateJobs(request, context)
        if number == 1:
            refuse(context, Refusal(grpc.StatusCode.INTERNAL, "the answer is lost"))
        return answer


def test_jobs_that_ended_before_their_creation_was_told_are_settled() -> None:
    jobs = Forgetful()
    with serving(jobs) as address, Client(address, TOKEN) as client, client.get_executor("double") as executor:
        found = [executor.submit(None, n=0)]
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


async def test_a_list_that_could_not_be_had_is_asked_for_again(aclient: AsyncClient, jobs: FakeJobs) -> None:
    jobs.run = doubled
    job = await aclient.submit("double", {"n": 1}, labels={"group": "mine"})
    jobs.refusals["ListJobs"].extend([Refusal(grpc.StatusCode.UNAVAILABLE, "not now", info("DRAINING"))] * 30)
    aclient._connection.timeout = 0.05
    found = completions(aclient._connection, {"group": "mine"})
    async with asyncio.timeout(60), aclosing(found):
        assert await anext(found) == job.job_id
    # More than one list was given up.
    assert len(jobs.requests("WatchJobs")) > 1


def test_futures_survive_a_broken_watch(client: Client, jobs: FakeJobs) -> None:
    jobs.run = doubled
    jobs.breaks["WatchJobs"].extend([0, 2, 0])
    with client.get_executor("double") as executor:
        found = [executor.submit(None, n=number) for number in range(40)]
        assert [future.result(timeout=60) for future in found] == list(range(0, 80, 2))
