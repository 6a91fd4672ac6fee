"""Several addresses: a client stays at one replica while that is well, and goes on at another when it is not.

The replicas are proxies to one scheduler, which all have the same store behind them.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2

from support.fake_jobs import TOKEN, FakeJobs, Refusal, info, value
from support.proxy import Proxy, Way, proxy
from towpath import AsyncClient, Client, JobState, replicas, retrying
from towpath.channel import Pace
from towpath.errors import DeadlineExceeded, InvalidArgument, NotFound, Unavailable
from towpath.v1 import job_pb2
from towpath.v1.job_service_pb2 import GetJobStatsRequest, StreamJobLogsResponse

STOPS = Refusal(
    grpc.StatusCode.UNAVAILABLE,
    "draining",
    info("DRAINING"),
    # When the same one may be back, which is of no interest to who has another.
    error_details_pb2.RetryInfo(retry_delay=Duration(seconds=60)),
)
SOON = Pace(keepalive=1_000, ping_timeout=300, connect=300)


@dataclass(frozen=True)
class Pair:
    """Two replicas."""

    proxies: tuple[Proxy, Proxy]
    _stacks: tuple[AsyncExitStack, AsyncExitStack]

    @property
    def address(self) -> str:
        """What a client is given."""
        return ",".join(one.address for one in self.proxies)

    @property
    def used(self) -> Proxy:
        """The one that a client went to."""
        [one] = [one for one in self.proxies if one.connections]
        return one

    def other(self, than: Proxy) -> Proxy:
        """The other one."""
        return self.proxies[1 - self.proxies.index(than)]

    async def kill(self, one: Proxy) -> None:
        """Its connections are reset, and nobody listens there any more."""
        await self._stacks[self.proxies.index(one)].aclose()


@pytest.fixture
async def pair(address: str) -> AsyncIterator[Pair]:
    async with AsyncExitStack() as first, AsyncExitStack() as second:
        yield Pair(
            (await first.enter_async_context(proxy(address)), await second.enter_async_context(proxy(address))),
            (first, second),
        )


@pytest.fixture
async def moving(pair: Pair) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(pair.address, TOKEN, timeout=10) as made:
        yield made


@pytest.fixture
def in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """The addresses are tried as they are given."""
    monkeypatch.setattr(random, "sample", lambda addresses, count: addresses)


def until(jobs: FakeJobs, happened: Callable[[], object]) -> None:
    """Waits for something at the scheduler."""
    with jobs.changed:
        while not happened():
            jobs.changed.wait(0.02)


async def test_all_calls_stay_at_one_until_it_is_killed(pair: Pair, moving: AsyncClient, jobs: FakeJobs) -> None:
    await asyncio.gather(*(moving.submit("count") for _ in range(5)))
    used = pair.used
    await pair.kill(used)
    await asyncio.gather(*(moving.submit("count") for _ in range(5)))
    assert used.connections == pair.other(used).connections == 1
    assert len(jobs.jobs) == 10


async def test_a_create_whose_answer_died_with_its_replica_is_not_doubled(
    pair: Pair, moving: AsyncClient, jobs: FakeJobs
) -> None:
    await moving.stats()
    used = pair.used
    used.swallow(Way.DOWN)
    submitting = asyncio.create_task(moving.submit("count"))
    await asyncio.to_thread(until, jobs, lambda: jobs.jobs)
    await pair.kill(used)
    handle = await submitting
    assert [*jobs.jobs] == [handle.job_id]
    assert len(jobs.requests("CreateJob")) == 2


async def test_the_blocking_client_as_well(pair: Pair, jobs: FakeJobs) -> None:
    with Client(pair.address, TOKEN, timeout=10) as client:
        handle = await asyncio.to_thread(client.submit, "count")
        used = pair.used
        waiting = asyncio.create_task(asyncio.to_thread(handle.result, 30))
        await asyncio.to_thread(until, jobs, lambda: jobs.requests("WaitJob"))
        await pair.kill(used)
        await asyncio.to_thread(client.submit, "count")
        jobs.finish(handle.job_id, value(7))
        assert await waiting == 7
    assert pair.other(used).connections == 1


async def test_a_watch_goes_on_where_it_was(pair: Pair, moving: AsyncClient, jobs: FakeJobs) -> None:
    handle = await moving.submit("count")
    used = pair.used
    events = handle.events(30)
    seen = [await anext(events)]
    await pair.kill(used)
    jobs.move(handle.job_id, job_pb2.JOB_STATE_RUNNING, attempt=1)
    jobs.finish(handle.job_id, value(1))
    seen += [event async for event in events]
    assert [event.sequence for event in seen] == [1, 2, 3]
    assert pair.other(used).connections == 1


async def test_a_log_goes_on_where_it_was(pair: Pair, moving: AsyncClient, jobs: FakeJobs) -> None:
    handle = await moving.submit("count")
    jobs.logs = [
        StreamJobLogsResponse(attempt=1, text="one "),
        StreamJobLogsResponse(attempt=1, offset=4, text="two"),
    ]
    jobs.breaks["StreamJobLogs"].append(1)
    jobs.finish(handle.job_id, value(1))
    assert "".join([text async for text in handle.logs(follow=True)]) == "one two"
    assert [one.connections for one in pair.proxies] == [1, 1]


async def test_a_map_goes_on_and_makes_each_job_once(pair: Pair, moving: AsyncClient, jobs: FakeJobs) -> None:
    jobs.run = lambda job: value(float(str(job.custom.params["n"])))
    results = moving.map("count", ({"n": n} for n in range(100)), window=8)
    found = [await anext(results) for _ in range(10)]
    await pair.kill(pair.used)
    found += [result async for result in results]
    assert found == list(range(100))
    assert len(jobs.jobs) == 100


async def test_one_that_stops_is_left_at_once(pair: Pair, moving: AsyncClient, jobs: FakeJobs) -> None:
    await moving.stats()
    used = pair.used
    jobs.refusals["CreateJob"].append(STOPS)
    await moving.submit("count")
    assert len(jobs.requests("CreateJob")) == 2
    assert used.connections == pair.other(used).connections == 1
    await used.unused()


async def test_both_stop_one_after_the_other(pair: Pair, moving: AsyncClient, jobs: FakeJobs) -> None:
    jobs.refusals["CreateJob"].extend([STOPS, STOPS])
    await moving.submit("count")
    assert sorted(one.connections for one in pair.proxies) == [1, 2]
    assert len(jobs.jobs) == 1


async def test_what_is_under_way_at_one_that_stops_may_end_there(
    pair: Pair, moving: AsyncClient, jobs: FakeJobs
) -> None:
    handle = await moving.submit("count")
    events = handle.events(30)
    await anext(events)
    jobs.refusals["CreateJob"].append(STOPS)
    await moving.submit("count")
    jobs.finish(handle.job_id, value(1))
    assert [event.job.state async for event in events] == [JobState.SUCCEEDED]
    assert len(jobs.requests("WatchJob")) == 1


async def test_one_that_is_paused_is_left_once_it_answers_no_ping(
    pair: Pair, jobs: FakeJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replicas, "AMONG_OTHERS", SOON)
    async with AsyncClient(pair.address, TOKEN, timeout=20) as client:
        await client.stats()
        used = pair.used
        used.swallow()
        await client.submit("count")
    assert pair.other(used).connections == 1
    assert len(jobs.jobs) == 1


async def test_each_is_tried_though_the_first_ones_are_dead_from_the_start(
    pair: Pair, address: str, in_order: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replicas, "AMONG_OTHERS", SOON)
    # Shorter than it takes to give up the first one.
    monkeypatch.setattr(retrying, "FIRST_CONTACT", 0.1)
    for one in pair.proxies:
        one.swallow()
    async with AsyncClient(f"{pair.address},{address}", TOKEN, timeout=20) as client:
        await client.submit("count")
    assert all(one.connections for one in pair.proxies)


async def test_nobody_at_all_is_said_with_all_addresses(pair: Pair) -> None:
    for one in pair.proxies:
        await pair.kill(one)
    async with AsyncClient(pair.address, TOKEN, timeout=20) as client:
        with pytest.raises(Unavailable) as caught:
            await client.stats()
    for one in pair.proxies:
        assert one.address in caught.value.message
    assert "refused" in caught.value.message


async def test_a_refusal_or_little_patience_is_no_reason_to_leave(
    pair: Pair, moving: AsyncClient, jobs: FakeJobs
) -> None:
    with pytest.raises(NotFound):
        await moving.get("job_0000000000000")
    used = pair.used
    used.swallow(Way.DOWN)
    with pytest.raises(DeadlineExceeded):
        await moving._connection.call(moving._connection.stubs.jobs.GetJobStats, GetJobStatsRequest(), timeout=0.2)
    used.heal()
    await moving.stats()
    assert pair.used.connections == 1


async def test_a_closed_client_stays_closed(pair: Pair) -> None:
    client = AsyncClient(pair.address, TOKEN)
    method = client._connection.stubs.jobs.GetJobStats
    await client.stats()
    await client.close()
    with pytest.raises(InvalidArgument, match="closed"):
        await client.stats()
    with pytest.raises(InvalidArgument, match="closed"):
        await method(GetJobStatsRequest())
    await pair.used.unused()


def test_one_address_is_asked_over_grpcs_own_channel(client: Client) -> None:
    client.stats()
    assert isinstance(client._connection._channel, grpc.Channel)
