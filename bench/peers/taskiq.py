"""taskiq on redis streams."""

from __future__ import annotations

from typing import Any

from redis.asyncio import Redis
from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

from bench.pace import PAYLOAD
from bench.peers.peer import REDIS_PORT, WAIT_SECONDS, Peer, redis_url

BROKER, RESULTS = 6, 7
broker = RedisStreamBroker(redis_url(BROKER)).with_result_backend(RedisAsyncResultBackend(redis_url(RESULTS)))


@broker.task
async def noop(payload: str) -> int:
    """Nothing."""
    return 0


class Adapter(Peer):
    """One process, a hundred at once."""

    worker = ("taskiq", "worker", "--workers", "1", "--log-level", "WARNING", "bench.peers.taskiq:broker")

    async def open(self) -> None:
        self._results = Redis(port=REDIS_PORT, db=RESULTS)
        await broker.startup()

    async def close(self) -> None:
        await broker.shutdown()
        await self._results.aclose()

    async def submit(self) -> Any:
        return await noop.kiq(PAYLOAD)

    async def done(self) -> int:
        return int(await self._results.dbsize())

    async def result(self, handle: Any) -> None:
        await handle.wait_result(check_interval=0.002, timeout=WAIT_SECONDS)
