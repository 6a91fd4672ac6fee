"""One tenant that asks for as much as it can, in a process of its own: `python -m bench.flooder ADDRESS KIND`.

TOWPATH_TOKEN is set to its users' tokens, one a line. Each line of its standard input is a word: `go` lets it begin,
and it says `flooding` once it has been answered; `stop` ends what is under way, and it says how many jobs were taken.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import grpc
import grpc.aio

from towpath.v1 import job_pb2, job_service_pb2, worker_pb2, worker_service_pb2
from towpath.v1.job_service_pb2_grpc import JobServiceStub
from towpath.v1.worker_service_pb2_grpc import WorkerServiceStub

if TYPE_CHECKING:
    from towpath.v1.job_service_pb2_grpc import JobServiceAsyncStub
    from towpath.v1.worker_service_pb2_grpc import WorkerServiceAsyncStub

#: Connections, and calls that are always under way on all of them together.
CHANNELS, CALLS = 4, 48
BATCH, LARGE_BATCH = 100, 1000
#: Another machine would not take this one's cores.
NICE = 15
OWN = (("grpc.use_local_subchannel_pool", 1),)

Who = tuple[tuple[str, str], ...]


class Flooder:
    """Calls without end."""

    def __init__(self, channels: Sequence[grpc.aio.Channel], tokens: Sequence[str]) -> None:
        self.taken = 0
        self.answered = asyncio.Event()
        self._jobs: list[JobServiceAsyncStub] = [JobServiceStub(channel) for channel in channels]
        self._workers: list[WorkerServiceAsyncStub] = [WorkerServiceStub(channel) for channel in channels]
        self._who: list[Who] = [(("authorization", f"Bearer {token}"),) for token in tokens]

    def calls(self, kind: str) -> list[Callable[[], Awaitable[None]]]:
        """What is called again and again, each beside the others."""
        shapes = {
            "batches": [self._batch],
            "singles": [self._single],
            "large": [self._large],
            "quota": [self._batch, self._single, self._large, self._look],
            "mixed": [self._batch, self._single, self._large, self._look, self._watch, self._poll],
        }[kind]
        return [self._on(shape, number) for number in range(CALLS) for shape in [shapes[number % len(shapes)]]]

    def _on(self, shape: Callable[[int, Who], Awaitable[None]], number: int) -> Callable[[], Awaitable[None]]:
        who = self._who[number % len(self._who)]

        async def again() -> None:
            while True:
                try:
                    await shape(number % CHANNELS, who)
                    self.answered.set()
                except grpc.aio.AioRpcError as error:
                    if error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED:
                        raise
                    self.answered.set()

        return again

    async def _create(self, channel: int, who: Who, jobs: int) -> None:
        one = job_service_pb2.CreateJobRequest(job=job_pb2.Job(custom=job_pb2.CustomSpec(type="flood")))
        request = job_service_pb2.BatchCreateJobsRequest(requests=[one] * jobs)
        await self._jobs[channel].BatchCreateJobs(request, metadata=who)
        self.taken += jobs

    async def _batch(self, channel: int, who: Who) -> None:
        await self._create(channel, who, BATCH)

    async def _large(self, channel: int, who: Who) -> None:
        await self._create(channel, who, LARGE_BATCH)

    async def _single(self, channel: int, who: Who) -> None:
        one = job_service_pb2.CreateJobRequest(job=job_pb2.Job(custom=job_pb2.CustomSpec(type="flood")))
        await self._jobs[channel].CreateJob(one, metadata=who)
        self.taken += 1

    async def _look(self, channel: int, who: Who) -> None:
        await self._jobs[channel].ListJobs(job_service_pb2.ListJobsRequest(page_size=1000), metadata=who)

    async def _watch(self, channel: int, who: Who) -> None:
        async for _ in self._jobs[channel].WatchJobs(job_service_pb2.WatchJobsRequest(), metadata=who):
            self.answered.set()

    async def _poll(self, channel: int, who: Who) -> None:
        workers = self._workers[channel]
        machine = worker_pb2.Machine(cpu_count=1)
        request = worker_service_pb2.RegisterWorkerRequest(name="f", slots=10, job_types=["flood"], machine=machine)
        session = await workers.RegisterWorker(request, metadata=who)
        for number in range(20):
            poll = worker_service_pb2.LeaseJobsRequest(
                worker_id=session.worker_id, session_id=session.session_id, poll_id=str(number), max_jobs=10
            )
            await workers.LeaseJobs(poll, metadata=who)


async def main(address: str, kind: str, tokens: Sequence[str]) -> None:
    """Do as standard input says."""
    async with AsyncExitStack() as stack:
        channels = [
            await stack.enter_async_context(grpc.aio.insecure_channel(address, options=OWN)) for _ in range(CHANNELS)
        ]
        flooder = Flooder(channels, tokens)
        tasks: list[asyncio.Task[None]] = []
        while line := await asyncio.to_thread(sys.stdin.readline):
            if line.strip() == "go":
                flooder.taken = 0
                flooder.answered.clear()
                tasks = [asyncio.ensure_future(call()) for call in flooder.calls(kind)]
                done, _ = await asyncio.wait(
                    [asyncio.ensure_future(flooder.answered.wait()), *tasks], return_when="FIRST_COMPLETED"
                )
                for task in done:
                    task.result()
                print("flooding", flush=True)
            else:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                print(flooder.taken, flush=True)


if __name__ == "__main__":
    os.nice(NICE)
    asyncio.run(main(sys.argv[1], sys.argv[2], os.environ["TOWPATH_TOKEN"].split()))
