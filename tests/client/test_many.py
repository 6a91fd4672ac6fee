"""Many jobs: map with bounded memory, and submit_many."""

from __future__ import annotations

import gc
import threading
from collections.abc import Generator, Iterator
from typing import Any, cast

import pytest

from support.fake_jobs import FakeJobs, value
from towpath import AsyncClient, Client, JobFailed, errors
from towpath._async.mapping import Slot
from towpath._sync import mapping
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
    results = cast("Generator[int]", client.map("double", numbers(1000, taken), window=20))
    assert next(results) == 0
    assert len(taken) == 20
    assert [next(results) for _ in range(99)] == [2 * number for number in range(1, 100)]
    assert len(taken) <= 120
    # The next ones are created while results are taken; closing waits for those on their way, and cancels them.
    results.close()
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
    [request] = jobs.requests("BatchCancelJobs")
    assert {3, 4, 5} <= {number_of(jobs.jobs[job_id]) for job_id in request.job_ids}
    kept = list(client.map("double", numbers(3, []), return_exceptions=True))
    assert isinstance(kept[1], JobFailed)
    assert (kept[0], kept[2]) == (0, 4)


@pytest.mark.parametrize("ordered", [True, False])
async def test_a_map_never_holds_more_than_its_window(aclient: AsyncClient, jobs: FakeJobs, ordered: bool) -> None:
    jobs.run = doubled
    taken: list[int] = []
    found: list[int] = []
    async for one in aclient.map("double", numbers(2000, taken), window=50, ordered=ordered):
        found.append(one)
        assert len(taken) - len(found) <= 50
        if len(found) % 250 == 0:
            # Those that are taken while their batch is still being created are let go with it.
            assert sum(isinstance(kept, Slot) for kept in gc.get_objects()) <= 100
    assert (found if ordered else sorted(found)) == list(range(0, 4000, 2))


def test_results_that_a_watch_left_out_are_fetched(client: Client, jobs: FakeJobs) -> None:
    jobs.run = doubled
    jobs.tells_results = lambda job: number_of(job) % 3 > 0
    jobs.breaks["WatchJobs"].extend([3, 5])
    for ordered in (True, False):
        found = list(client.map("double", numbers(20, []), window=8, ordered=ordered))
        assert sorted(found) == list(range(0, 40, 2))
    assert len(jobs.requests("WaitJob")) == 14
    with client.get_executor("double") as executor:
        found = [executor.submit(None, n=number) for number in range(6)]
        assert [one.result(30) for one in found] == list(range(0, 12, 2))


def test_a_job_of_a_map_that_was_deleted_is_missed(
    client: Client, jobs: FakeJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mapping, "LONGEST_SILENCE", 0.05)
    results = client.map("double", numbers(3, []))
    found: list[BaseException] = []

    def take() -> None:
        try:
            next(results)
        except errors.NotFound as error:
            found.append(error)

    taking = threading.Thread(target=take)
    taking.start()
    while len(jobs.jobs) < 3:
        assert not found
    # No watch tells of it.
    jobs.jobs.pop("job_0000000000001")
    taking.join(30)
    assert len(found) == 1


def test_a_failed_job_of_a_map_says_with_which_params(client: Client, jobs: FakeJobs) -> None:
    def run(job: job_pb2.Job) -> None:
        jobs.move(job.job_id, job_pb2.JOB_STATE_FAILED, failure=job_pb2.Failure(message="no"))

    jobs.run = run
    jobs.tells_results = lambda job: False
    for failure in client.map("double", numbers(3, []), return_exceptions=True):
        assert isinstance(failure, JobFailed)
        assert failure.job.spec["type"] == "double"
    assert not jobs.requests("GetJob")


async def test_submit_many_gives_a_handle_for_each(aclient: AsyncClient, jobs: FakeJobs) -> None:
    handles = await aclient.submit_many("double", numbers(2500, []), priority="high", labels={"a": "b"})
    assert [number_of(jobs.jobs[handle.job_id]) for handle in handles] == list(range(2500))
    assert [len(batch.requests) for batch in jobs.requests("BatchCreateJobs")] == [1000, 1000, 500]
    last = handles[-1].job
    assert (last.priority, last.labels, last.spec["params"]) == ("HIGH", {"a": "b"}, {"n": 2499})
    assert len({one.request_id for batch in jobs.requests("BatchCreateJobs") for one in batch.requests}) == 2500


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
