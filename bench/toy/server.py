"""The toy's server: `python -m bench.toy.server DATABASE`."""

from __future__ import annotations

import asyncio
import sys
import time
from collections import deque
from collections.abc import AsyncIterator
from typing import Any

import grpc.aio
import uvloop

from bench.toy import messages
from bench.toy.store import Store

#: How often threads change places, in seconds: at Python's own 5 ms the writer waits for the event loop.
SWITCH_INTERVAL = 1e-4
LEASED_AT_ONCE = 256


class Toy:
    """Hands jobs on as they come, and writes what happens to them."""

    def __init__(self, path: str) -> None:
        self._loop = asyncio.get_running_loop()
        self._store = Store(path, self._loop)
        self._ready: deque[tuple[int, Any]] = deque()
        self._some = asyncio.Event()
        self._results: dict[int, asyncio.Future[bytes]] = {}
        self._created = 0
        self._finished = 0
        self._counted: list[tuple[int, asyncio.Future[None]]] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def submit(self, request: Any, _: object) -> Any:
        """New jobs, acknowledged once they are on the disk."""
        return messages.Ids(first=await self._create(request.jobs))

    async def run(self, request: Any, _: object) -> Any:
        """A new job, answered with its result."""
        future = self._results[self._created + 1] = self._loop.create_future()
        await self._create([request])
        return messages.Result(result=await future)

    async def wait(self, request: Any, _: object) -> Any:
        """How many jobs are finished, once they are as many as the request says."""
        if self._finished < request.count:
            done = self._loop.create_future()
            self._counted.append((request.count, done))
            await done
        return messages.Count(count=self._finished)

    async def work(self, requests: AsyncIterator[Any], context: Any) -> None:
        """A worker's stream: leases to it as far as its credit goes, its reports back."""
        credit = (await anext(requests)).credit
        returned = asyncio.Event()

        async def hear() -> None:
            nonlocal credit
            async for request in requests:
                credit += len(request.reports)
                returned.set()
                task = asyncio.create_task(self._finish(request.reports))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

        hearing = asyncio.create_task(hear())
        try:
            while True:
                while credit <= 0:
                    returned.clear()
                    await returned.wait()
                while not self._ready:
                    self._some.clear()
                    await self._some.wait()
                leases = [self._ready.popleft() for _ in range(min(credit, len(self._ready), LEASED_AT_ONCE))]
                credit -= len(leases)
                until = time.time_ns() + 15 * 10**9
                self._store.put("lease", [(number, "toy", until) for number, _ in leases])
                await context.write(
                    messages.Leases(
                        leases=[messages.Lease(id=number, token=f"{number}:1", job=job) for number, job in leases]
                    )
                )
        finally:
            hearing.cancel()

    async def _create(self, jobs: Any) -> int:
        first, now = self._created + 1, time.time_ns()
        self._created += len(jobs)
        numbered = list(enumerate(jobs, start=first))
        await self._store.commit(
            "insert",
            [
                (number, number.to_bytes(16), job.queue, job.kind, job.priority, job.payload, now, now)
                for number, job in numbered
            ],
        )
        self._ready.extend(numbered)
        self._some.set()
        return first

    async def _finish(self, reports: Any) -> None:
        now = time.time_ns()
        await self._store.commit("finish", [(report.id, report.result, now) for report in reports])
        self._finished += len(reports)
        if self._results:
            for report in reports:
                if future := self._results.pop(report.id, None):
                    future.set_result(report.result)
        for count, done in self._counted:
            if self._finished >= count and not done.done():
                done.set_result(None)


async def main(path: str) -> None:
    """Serve until somebody ends the process."""
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((messages.handlers(Toy(path)),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(f"127.0.0.1:{port}", flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    sys.setswitchinterval(SWITCH_INTERVAL)
    uvloop.run(main(sys.argv[1]))
