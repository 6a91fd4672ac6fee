"""rq on redis."""

from __future__ import annotations

from typing import Any

import redis
from rq import Queue

from bench.pace import PAYLOAD
from bench.peers.peer import REDIS_PORT, WAIT_SECONDS, Peer, redis_url

DATABASE = 10


def noop(payload: str) -> int:
    """Nothing."""
    return 0


class Adapter(Peer):
    """The worker that does not fork, four times as quick as the one that does."""

    worker = ("rq", "worker", "-q", "-w", "rq.worker.SimpleWorker", "--url", redis_url(DATABASE), "default")

    async def open(self) -> None:
        self._redis = redis.Redis(port=REDIS_PORT, db=DATABASE)
        self._queue = Queue("default", connection=self._redis)

    async def submit(self) -> Any:
        return self._queue.enqueue("bench.peers.rq.noop", PAYLOAD)

    async def submit_many(self, jobs: int) -> None:
        self._queue.enqueue_many([Queue.prepare_data("bench.peers.rq.noop", (PAYLOAD,)) for _ in range(jobs)])

    async def done(self) -> int:
        return int(self._redis.zcard("rq:finished:default"))

    async def result(self, handle: Any) -> None:
        handle.latest_result(timeout=WAIT_SECONDS)
