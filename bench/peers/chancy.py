"""chancy on PostgreSQL; run as a program it is the worker."""

from __future__ import annotations

import asyncio
from typing import Any

import psycopg
from chancy import Chancy, Queue, Worker, job

from bench.pace import PAYLOAD
from bench.peers.peer import EMPTY_POSTGRES, POSTGRES, Peer

QUEUE = Queue(
    "default",
    concurrency=30,
    executor="chancy.executors.asyncex.AsyncExecutor",
    polling_interval=1,
    eager_polling=True,
)


@job(queue="default")
async def noop(*, payload: str) -> int:
    """Nothing."""
    return 0


class Adapter(Peer):
    """Thirty at once, polling at once after each batch."""

    worker = ("python", "-m", "bench.peers.chancy")
    poll = 0.05

    async def open(self) -> None:
        self._connection = await psycopg.AsyncConnection.connect(POSTGRES, autocommit=True)
        await self._connection.execute(EMPTY_POSTGRES.encode())
        self._app = Chancy(POSTGRES)
        await self._app.__aenter__()
        await self._app.migrate()
        await self._app.declare(QUEUE)

    async def close(self) -> None:
        await self._app.__aexit__(None, None, None)
        await self._connection.close()

    async def submit(self) -> Any:
        return await self._app.push(noop.job.with_kwargs(payload=PAYLOAD))

    async def submit_many(self, jobs: int) -> None:
        async for _ in self._app.push_many([noop.job.with_kwargs(payload=PAYLOAD) for _ in range(jobs)]):
            pass

    async def done(self) -> int:
        counted = await self._connection.execute(b"select count(*) from chancy_jobs where state = 'succeeded'")
        row = await counted.fetchone()
        return int(row[0]) if row else 0

    async def result(self, handle: Any) -> None:
        await self._app.wait_for_job(handle, interval=0.002)


async def main() -> None:
    """Work until the process is ended."""
    async with Chancy(POSTGRES) as app, Worker(app) as worker:
        await worker.wait_for_shutdown()


if __name__ == "__main__":
    asyncio.run(main())
