"""Line 12 of the catalogue: a slow watcher costs a bounded buffer, then it is dropped, and goes on where it was."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from google.rpc import status_pb2

from support import rpc_stage
from support.proxy import Proxy, Way, proxy
from support.rpc_stage import Stage, info_of
from support.stage import settled
from towpath import AsyncClient
from towpath._async.completions import AsyncCompletions
from towpath.v1 import job_pb2, job_service_pb2
from towpath_server.core.job import Job
from towpath_server.core.records import Principal, Role
from towpath_server.scheduler import watchers
from towpath_server.scheduler.jobs import Jobs
from towpath_server.scheduler.messages import JobFilter, Told
from towpath_server.store.sqlite import SqliteStore

MOST = 300
BATCH = 100
# Far more than one connection's buffers take: 64 KiB of flow control here, as much before the socket there.
BALLAST = "x" * 4096
GROUP = {"towpath.group": "g"}
DETAILS = "grpc-status-details-bin"


async def submit(at: Stage, count: int, labels: dict[str, str] | None = None, *, ballast: str = BALLAST) -> list[str]:
    request = job_service_pb2.BatchCreateJobsRequest()
    for _ in range(count):
        job = request.requests.add().job
        job.custom.type = "echo"
        job.annotations["ballast"] = BALLAST
        job.labels.update(labels or {})
    answer = await at.jobs.BatchCreateJobs(request, metadata=at.bearer())
    return [job.job_id for job in answer.jobs]


async def end(at: Stage, job_id: str) -> None:
    await at.jobs.CancelJob(job_service_pb2.CancelJobRequest(job_id=job_id), metadata=at.bearer())


@asynccontextmanager
async def another_caller(at: Stage) -> AsyncIterator[rpc_stage.Stage]:
    """The same scheduler over a connection of its own."""
    async with grpc.aio.insecure_channel(at.address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
        yield Stage(at.scheduler, at.server, channel, at.tokens)


class Seen:
    """What a scheduler is asked by those who watch."""

    def __init__(self, jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
        self.listings = 0
        self.starts: list[int] = []
        self._find, self._watch_all = jobs.find, jobs.watch_all
        monkeypatch.setattr(jobs, "find", self.find)
        monkeypatch.setattr(jobs, "watch_all", self.watch_all)

    async def find(self, *words: Any) -> list[Job]:
        self.listings += 1
        return await self._find(*words)

    def watch_all(
        self, principal: Principal, wanted: JobFilter, from_sequence: int, *, whole: bool
    ) -> AsyncGenerator[Told]:
        self.starts.append(from_sequence)
        return self._watch_all(principal, wanted, from_sequence, whole=whole)


@dataclass(frozen=True)
class Following:
    """The ids of jobs that ended, as the client gives them."""

    at: Stage
    network: Proxy
    ended: AsyncIterator[str]

    async def take(self, found: set[str], count: int) -> None:
        """So many more."""
        enough = len(found) + count
        async with asyncio.timeout(60):
            while len(found) < enough:
                found.add(await anext(self.ended))


async def read_on(at: Stage, from_sequence: int, told: Counter[str]) -> None:
    """A watch that is read as fast as it comes."""
    request = job_service_pb2.WatchJobsRequest(from_sequence=from_sequence)
    async for answer in at.jobs.WatchJobs(request, metadata=at.bearer()):
        told.update(event.job.job_id for event in answer.events)


async def drain(answers: AsyncIterator[job_service_pb2.WatchJobsResponse], told: Counter[str]) -> int:
    """Reads to the end of the watch; gives the last sequence."""
    sequence = 0
    with contextlib.suppress(grpc.aio.AioRpcError):
        async for answer in answers:
            told.update(event.job.job_id for event in answer.events)
            sequence = answer.sequence
    return sequence


async def test_line_12_a_slow_watcher_is_dropped_with_a_sequence_and_goes_on_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watchers, "MOST_PENDING", MOST)
    store = SqliteStore(tmp_path / "towpath.db")
    async with rpc_stage.stage(store) as at, another_caller(at) as slow:
        known = at.scheduler.jobs._state.watchers
        watch = slow.jobs.WatchJobs(job_service_pb2.WatchJobsRequest(), metadata=slow.bearer())
        answers = aiter(watch)
        first = await anext(answers)
        (kept,) = known._broad
        jobs: list[str] = []
        quick: Counter[str] = Counter()
        reading = asyncio.create_task(read_on(at, first.sequence, quick))
        await settled(lambda: len(known._broad) == 2)
        most = 0
        while not kept._overflown:
            jobs += await submit(at, BATCH)
            most = max(most, len(kept))
            assert most <= MOST
            # Neither submitters nor other watchers wait for the slow one.
            count = len(jobs)
            await settled(lambda count=count: len(quick) == count)  # type: ignore[misc]
            assert count < 10 * MOST
        assert most > BATCH
        assert len(kept) == 0

        told: Counter[str] = Counter()
        sequence = await drain(answers, told)
        assert await watch.code() is grpc.StatusCode.UNAVAILABLE
        error = info_of(status_pb2.Status.FromString(dict(await watch.trailing_metadata())[DETAILS]))
        assert (error.reason, error.metadata["sequence"]) == ("SLOW_CONSUMER", str(sequence))
        # What had left the buffer was on its way: a few messages, however much has changed since.
        assert 0 < len(told) <= len(jobs) - MOST
        again = asyncio.create_task(read_on(slow, sequence, told))
        await settled(lambda: len(told) == len(jobs))
        assert told == quick == Counter(jobs)
        for task in (reading, again):
            task.cancel()


async def ids(ended: AsyncIterator[list[job_pb2.Job]]) -> AsyncIterator[str]:
    """One after the other."""
    async for jobs in ended:
        for job in jobs:
            yield job.job_id


@asynccontextmanager
async def following(folder: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Following]:
    """The client's own watch of its jobs, through a network that can be broken."""
    async with rpc_stage.stage(SqliteStore(folder / "towpath.db")) as at, proxy(at.address) as network:
        seen = Seen(at.scheduler.jobs, monkeypatch)
        async with AsyncClient(network.address, at.tokens[Role.ADMIN]) as client:
            completions = AsyncCompletions(client._connection, GROUP)
            async with aclosing(aiter(completions)) as ended:
                # It stands: what ends from now on is told.
                assert await anext(ended) == []
                yield Following(at, network, ids(ended))
    # It never asked for a list: it went on where it was.
    assert seen.listings == 0
    assert len(seen.starts) > 1
    assert seen.starts[0] == 0
    assert 1 < seen.starts[1] <= seen.starts[-1]


async def test_line_12_the_client_goes_on_after_a_break(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with following(tmp_path, monkeypatch) as it:
        jobs = await submit(it.at, 120, GROUP)
        await submit(it.at, 5)
        await end(it.at, jobs[0])
        found: set[str] = set()
        for number, job_id in enumerate(jobs[1:], 1):
            await end(it.at, job_id)
            if number % 40 == 0:
                # Some were told, some are on their way, some come while nobody watches.
                await it.take(found, 20)
                it.network.cut()
        await it.take(found, len(jobs) - len(found))
        assert found == set(jobs)


async def test_line_12_the_client_goes_on_after_it_was_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchers, "MOST_PENDING", BATCH // 2)
    async with following(tmp_path, monkeypatch) as it:
        jobs = await submit(it.at, 1, GROUP)
        await end(it.at, jobs[0])
        found: set[str] = set()
        await it.take(found, 1)
        (kept,) = it.at.scheduler.jobs._state.watchers._broad
        it.network.swallow(Way.DOWN)
        while not kept._overflown:
            more = await submit(it.at, BATCH, GROUP)
            await asyncio.gather(*(end(it.at, job_id) for job_id in more))
            jobs += more
            assert len(jobs) < 100 * BATCH
        it.network.heal()
        await it.take(found, len(jobs) - 1)
        assert found == set(jobs)
