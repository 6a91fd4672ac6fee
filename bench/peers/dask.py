"""dask.distributed: a scheduler and one worker with one thread."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from distributed import Client, wait

from bench.pace import PAYLOAD
from bench.peers.peer import WAIT_SECONDS, Peer, start


def noop(payload: str, number: int) -> int:
    """Nothing."""
    return 0


class Adapter(Peer):
    """The client holds its futures until they are waited for."""

    async def open(self) -> None:
        self._futures: list[Any] = []
        self._number = 0

    def start_worker(self) -> None:
        at = Path(os.environ["BENCH_FOLDER"]) / "scheduler.json"
        start(
            ("dask", "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(at))
        )
        words = ("dask", "worker", "--nworkers", "1", "--nthreads", "1", "--no-dashboard", "--no-nanny")
        start((*words, "--host", "127.0.0.1", "--scheduler-file", str(at), "--local-directory", str(at.parent)))
        self._client = Client(scheduler_file=str(at), timeout=WAIT_SECONDS)

    async def close(self) -> None:
        self._client.close()

    async def submit(self) -> Any:
        self._number += 1
        future = self._client.submit(noop, PAYLOAD, self._number, pure=False)
        self._futures.append(future)
        return future

    async def submit_many(self, jobs: int) -> None:
        numbers = range(self._number, self._number + jobs)
        self._number += jobs
        self._futures += self._client.map(noop, [PAYLOAD] * jobs, numbers, pure=False)

    async def done(self) -> int:
        return 0

    async def until_done(self, goal: int) -> None:
        wait(self._futures, timeout=WAIT_SECONDS)
        self._futures.clear()

    async def result(self, handle: Any) -> None:
        handle.result(timeout=WAIT_SECONDS)
        self._futures.clear()
