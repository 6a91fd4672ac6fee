"""arq on redis."""

from __future__ import annotations

from typing import Any

from arq import create_pool
from arq.connections import RedisSettings

from bench.pace import PAYLOAD
from bench.peers.peer import REDIS_PORT, WAIT_SECONDS, Peer


async def noop(ctx: Any, payload: str) -> int:
    """Nothing."""
    return 0


class WorkerSettings:
    """A hundred at once; it polls each 10 ms, not each 500 ms as by default."""

    functions = (noop,)
    redis_settings = RedisSettings(port=REDIS_PORT, database=5)
    max_jobs = 100
    poll_delay = 0.01
    keep_result = 3600


class Adapter(Peer):
    """Results are polled for each 2 ms."""

    worker = ("arq", "bench.peers.arq.WorkerSettings")

    async def open(self) -> None:
        self._pool = await create_pool(WorkerSettings.redis_settings)

    async def close(self) -> None:
        await self._pool.aclose()

    async def submit(self) -> Any:
        return await self._pool.enqueue_job("noop", PAYLOAD)

    async def done(self) -> int:
        return self.sent - int(await self._pool.zcard("arq:queue"))

    async def result(self, handle: Any) -> None:
        await handle.result(timeout=WAIT_SECONDS, poll_delay=0.002)
