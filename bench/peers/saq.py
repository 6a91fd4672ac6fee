"""saq on redis."""

from __future__ import annotations

from typing import Any

from saq import Queue

from bench.pace import PAYLOAD
from bench.peers.peer import WAIT_SECONDS, Peer, redis_url

queue = Queue.from_url(redis_url(4))


async def noop(ctx: Any, *, payload: str) -> int:
    """Nothing."""
    return 0


settings = {"queue": queue, "functions": [noop], "concurrency": 10}


class Adapter(Peer):
    """Ten at once, its default."""

    worker = ("saq", "bench.peers.saq.settings", "-q")

    async def open(self) -> None:
        await queue.connect()

    async def close(self) -> None:
        await queue.disconnect()

    async def submit(self) -> Any:
        return await queue.enqueue("noop", payload=PAYLOAD)

    async def done(self) -> int:
        return self.sent - int(await queue.count("incomplete"))

    async def roundtrip(self) -> None:
        # It listens before it enqueues: waiting for a job afterwards can miss a quick one.
        await queue.apply("noop", payload=PAYLOAD, timeout=WAIT_SECONDS, poll_interval=0.002)
