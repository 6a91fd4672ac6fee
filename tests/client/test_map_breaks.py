"""A map through a network that breaks, against a real scheduler: each result once, none missed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from support import rpc_stage
from support.bare_worker import BareWorker
from support.proxy import proxy
from towpath import AsyncClient, Client
from towpath.v1 import job_pb2, job_service_pb2
from towpath.v1.worker_service_pb2 import Succeeded
from towpath_server.core.records import Role
from towpath_server.scheduler import follow, watchers

COUNT = 240


@asynccontextmanager
async def working(at: rpc_stage.Stage) -> AsyncIterator[None]:
    """A worker that gives back what it was given."""

    async def work() -> None:
        worker = BareWorker(at.channel, at.bearer(), slots=16)
        await worker.register()
        stream = worker.stream()
        while True:
            for lease in await worker.lease():
                result = job_pb2.JobResult()
                result.custom.value.CopyFrom(lease.job.custom.params.fields["n"])
                await stream.say(lease, succeeded=Succeeded(result=result))

    task = asyncio.create_task(work())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("room", [10, watchers.MOST_BYTES])
async def test_each_result_comes_once_however_often_the_line_breaks(
    monkeypatch: pytest.MonkeyPatch, ordered: bool, room: int
) -> None:
    for module in (watchers, follow):
        # Also where results have to be fetched.
        monkeypatch.setattr(module, "MOST_BYTES", room)
    async with rpc_stage.stage() as at, proxy(at.address) as network, working(at):
        async with AsyncClient(network.address, at.tokens[Role.ADMIN]) as client:
            found: list[Any] = []
            async for result in client.map(
                "echo", ({"n": number} for number in range(COUNT)), window=30, ordered=ordered
            ):
                found.append(result)
                if len(found) % 60 == 30:
                    network.cut()
        assert (found if ordered else sorted(found)) == list(range(COUNT))
        assert network.connections > 3
        # None was made twice.
        request = job_service_pb2.GetJobStatsRequest()
        assert (await at.jobs.GetJobStats(request, metadata=at.bearer())).total_count == COUNT


async def test_the_blocking_map_too() -> None:
    async with rpc_stage.stage() as at, proxy(at.address) as network, working(at):
        loop = asyncio.get_running_loop()

        def run() -> list[Any]:
            found = []
            with Client(network.address, at.tokens[Role.ADMIN]) as client:
                for result in client.map("echo", ({"n": number} for number in range(COUNT)), window=30):
                    found.append(result)
                    if len(found) % 60 == 30:
                        loop.call_soon_threadsafe(network.cut)
            return found

        assert await asyncio.to_thread(run) == list(range(COUNT))
