"""ray core: a task for each job, on one core."""

from __future__ import annotations

import os
from typing import Any

from bench.pace import PAYLOAD
from bench.peers.peer import WAIT_SECONDS, Peer

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"

# It reads its settings when it is imported.
import ray

STORE_BYTES = 200_000_000


class Adapter(Peer):
    """Its own processes run inside the guard as those of the others."""

    def start_worker(self) -> None:
        ray.init(
            num_cpus=1,
            include_dashboard=False,
            logging_level="ERROR",
            _node_ip_address="127.0.0.1",
            object_store_memory=STORE_BYTES,
        )
        self._tasks: list[Any] = []
        self._noop = ray.remote(_noop)

    async def close(self) -> None:
        ray.shutdown()

    async def submit(self) -> Any:
        task = self._noop.remote(PAYLOAD)
        self._tasks.append(task)
        return task

    async def done(self) -> int:
        return 0

    async def until_done(self, goal: int) -> None:
        ray.get(self._tasks, timeout=WAIT_SECONDS)
        self._tasks.clear()

    async def result(self, handle: Any) -> None:
        ray.get(handle, timeout=WAIT_SECONDS)
        self._tasks.clear()


def _noop(payload: str) -> int:
    return 0
